//! Instances as real SSH servers on loopback, each with a scratch directory in which the commands run.
//!
//! [`host`] answers the state machine's calls, [`machine`] is one container with its files, [`listener`] its
//! two ports, [`session`] an SSH connection, [`channel`] and [`terminal`] a command on it, [`forward`] a
//! forwarded connection, [`processes`] what must die with the container, [`nvidia_smi`] the pretended driver.

mod channel;
mod forward;
mod host;
mod listener;
mod machine;
mod nvidia_smi;
mod processes;
mod session;
mod terminal;

pub(crate) use host::{Folders, RealHost, remove};
pub(crate) use processes::kill_left_behind;

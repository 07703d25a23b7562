//! The few traits through which every effect passes, and their production versions.
//!
//! The engine touches the network, the disk, SSH, the wall clock and randomness only through a [`World`], so
//! that the same code runs on the real machine and in a simulation that can kill it between any two effects.
//! Waiting is tokio's own timer, which a simulation pauses.

mod ambient;
mod disk;
mod http;
mod local;
mod ssh;

pub mod real;

pub use ambient::Ambient;
pub use disk::{Disk, Files, Guard, Turn};
pub use http::{Http, HttpReply, HttpRequest, Limits, Method, TransportError, TransportErrorKind};
pub use local::{FileKind, GitAnswer, Local, OpenFile, Stat};
pub use ssh::{
    Duplex, ExecExit, ExecIo, HostKeyPolicy, Listener, Output, Ssh, SshError, SshErrorKind, SshSession,
    SshTarget, StdinChunk, TakeTerminal, TerminalIo, TerminalSize,
};

use std::sync::Arc;

/// Everything outside the engine.
#[derive(Clone)]
pub struct World {
    /// HTTP requests to the Vast API.
    pub http: Arc<dyn Http>,
    /// Files: claims, journal, keys, locks.
    pub disk: Disk,
    /// The user's working tree, and what is copied to and from it.
    pub local: Arc<dyn Local>,
    /// SSH sessions to instances.
    pub ssh: Arc<dyn Ssh>,
    /// Wall time, randomness, identity of this process.
    pub ambient: Arc<dyn Ambient>,
}

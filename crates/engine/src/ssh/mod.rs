//! SSH in process: one handshake, one live session, commands on it. No `ssh` binary is needed.

pub mod client;
pub mod command;
pub mod deadman;
pub mod onstart;
pub mod workspace;

pub use client::RusshSsh;

//! Leases a Vast.ai GPU machine over SSH.
//!
//! The map, from the bottom up; arrows point down only:
//! - [`lease`] is what a lease *is*: ids, slug, ownership label, labels, claim record, state table, money. Pure.
//! - [`vast`] is how Vast speaks: requests as data, reply decoders, errors by body token, offers and their
//!   selection, the pacing table; and the one client that sends them.
//! - [`store`] keeps claims, journal and keys on disk.
//! - [`ssh`] knows endpoints, handshakes, the live session and its commands.
//! - [`sync`] knows what of a working tree has to travel, and the stream it travels in.
//! - [`ops`] is what we do, one file per operation.
//! - [`config`] declares each setting once and resolves them with their origin.
//! - [`world`] holds the few traits through which every effect passes.
//!
//! A skin (the command line, the Node addon) takes a snapshot of the environment, resolves [`config::Settings`],
//! builds a [`world::World`] and an [`Engine`], and calls the operations.
#![forbid(unsafe_code)]

pub mod config;
mod error;
pub mod lease;
pub mod ops;
pub mod redact;
pub mod ssh;
pub mod store;
pub mod sync;
pub mod vast;
pub mod world;

pub use error::{Code, EXITS, Error, Result, errors_markdown, exits_markdown};
pub use ops::{Call, Engine, Event};

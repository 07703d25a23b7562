//! A simulated Vast: the API over HTTP, and instances that are real SSH servers.
//!
//! [`api`] is the vendor as one deterministic state machine without I/O; this crate's other half is the skin
//! that puts it on the wall clock: an HTTP server on loopback, and for every running instance an SSH server on
//! loopback whose commands run in a scratch directory of their own.
//!
//! An instance's absolute paths are this machine's paths. The simulator runs on its user's machine and must not
//! write to places like `/work/crabbox`; a client of the simulator therefore sets its work root to
//! [`Running::work_root`], which lies below the simulator's own state directory. Commands can tell that they run
//! in a simulation by `CRABBOX_SIM=1`.
//!
//! ```no_run
//! # async fn example() -> Result<(), crabbox_vast_sim::SimError> {
//! let sim = crabbox_vast_sim::start(crabbox_vast_sim::Options::demo("/tmp/sim")).await?;
//! println!("{} answers to {}", sim.url(), sim.api_key());
//! sim.shutdown().await;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
// An offer has about a hundred columns, and the json macro recurses over them.
#![recursion_limit = "512"]

pub mod api;
mod discovery;
mod error;
mod options;
mod running;
mod server;
mod shared;
mod ssh;

pub use api::Ledger;
pub use discovery::{Announced, Announcement, find};
pub use error::SimError;
pub use options::Options;
pub use running::{Running, start};

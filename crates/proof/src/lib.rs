//! The proof: the real engine on a simulated world, in virtual time, with everything that can go wrong.
//!
//! From the bottom up:
//! - [`dice`] is the seeded generator behind every choice.
//! - [`disk`] is a disk that tells apart what was written from what was synced.
//! - [`life`] is a process that counts its steps and may die at one of them; `files`, `http`, `ssh` and `ambient` are
//!   the world as such a process sees it.
//! - [`stage`] is the world of one seed: one vendor, one disk, one clock, many processes; `shared` is what these share
//!   and takes note of everything: `stock` compares the vendor's books with it, `records` reads what stands on the disk,
//!   `secrets` looks through whatever leaves a process, `start_script` through what a machine is told to do.
//! - `crabbox` is the other tool on the same claims.
//! - [`vendor`] says how the vendor behaves, [`plan`] is one whole run as data; `play` runs it and
//!   `operate` does what a process does. `opening` makes what is there before, once for all runs that begin alike, and
//!   `still` lets them go on from there.
//! - [`history`] is what happened; [`checker`] reads it at the end and counts broken promises, and `users` knows who
//!   needs a machine at a moment.
//! - [`abandoned`] is a run after which nobody comes back.
//! - [`catalogue`] knows every single fault, [`acts`] everything that happens on its own.
//! - [`scenes`] are the runs into which [`sweeps`] put one thing wrong at every place, or a death and a fault; [`seeds`] makes a
//!   plan out of a seed.
//! - [`aims`] tells whether what was planned happened, [`branches`] what was reached; [`tally`] adds up many runs.
//!
//! The seed lives in the world's delays and choices, not in a scheduler: one thread, tokio's own paused timer, no
//! socket and no blocking pool. A run of the same plan has the same history.
#![forbid(unsafe_code)]

pub mod abandoned;
pub mod acts;
pub mod aims;
mod ambient;
pub mod branches;
pub mod catalogue;
pub mod checker;
mod crabbox;
pub mod dice;
pub mod disk;
pub mod files;
pub mod history;
mod http;
pub mod life;
mod opening;
mod operate;
pub mod plan;
mod play;
mod records;
pub mod scenes;
mod secrets;
pub mod seeds;
mod shared;
pub mod ssh;
pub mod stage;
mod start_script;
mod still;
mod stock;
pub mod sweeps;
pub mod tally;
mod users;
pub mod vendor;

pub use checker::Verdict;
pub use plan::{Actor, Operation, Plan, Ran};
pub use play::run;
pub use tally::Tally;

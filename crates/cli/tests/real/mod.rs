//! A vendor of another make, for tests of the real binary over real HTTP: hand-written HTTP, the system's `sshd` as the
//! instance, strangers on the account, a ledger of what is open, and a trap that spoils one call or kills its caller.
//!
//! It shares no code with the simulator, and speaks the API as plainly as one may: no filters, no totals, no mapped
//! ports, numbers as text.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]

mod case;
mod elsewhere;
mod fault;
mod http;
mod machine;
mod route;
mod traveller;
mod vendor;
mod watch;

pub use case::{Case, Scenario, Verdict};
pub use fault::{Fault, Trap, What};
pub use machine::{SSHD, is_here};
pub use route::Route;
pub use traveller::{Ended, Traveller};
pub use vendor::{API_KEY, Options, Secrets, Vendor};
pub use watch::Watch;

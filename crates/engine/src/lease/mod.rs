//! What a lease *is*, without any I/O: identifiers, slug, ownership label, labels, claim record, state table,
//! durations, times and money.
//!
//! Names, label values and claim files are those of crabbox, byte for byte, so that both tools see, use and
//! release each other's leases on one machine.

mod claim;
mod claim_fields;
mod file_name;
mod ids;
pub mod labels;
mod money;
mod ownership;
mod release_action;
mod slug;
mod state;
mod sweep;
mod time;

pub use claim::{Claim, ClaimProblem};
pub use file_name::legal_file_stem;
pub use ids::{AccountId, InstanceId, LeaseId, MachineId, OfferId, RunId};
pub use labels::{LabelPlan, Labels};
pub use money::{Dollars, DollarsPerHour, accrued, affordable, lasts};
pub use ownership::OwnershipLabel;
pub use release_action::ReleaseAction;
pub use slug::Slug;
pub use state::{Event, State, TRANSITIONS, claim_state, mermaid, step};
pub use sweep::{Sweep, sweep};
pub use time::{go_duration, moment, parse_go_duration, parse_rfc3339, rfc3339, unix};

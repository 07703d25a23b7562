//! The engine from outside, verb by verb: on a disk of its own against the simulator, in virtual time where it waits.
//! One binary, since each would compile the engine's futures again for itself.

mod absence;
mod adopted;
mod backend;
mod bench;
mod claims;
mod cleanup;
mod client;
mod creates;
mod deadman;
#[cfg(unix)]
mod doctor;
mod documents;
mod faults;
mod fixtures;
mod given_up;
mod latecomers;
mod lifecycle;
mod lockout;
mod money;
mod outbid;
mod overprice;
mod recovery;
mod replay;
mod replay_limits;
mod replies;
mod restarted;
mod results;
mod run_costs;
mod same_label;
mod spared;
mod start_money;
mod starts;
mod support;
mod surplus;
mod taken_up;
mod tls;
mod undelivered;
mod vanished;
mod virtual_time;
mod watchdog;
mod weaknesses;
mod wish;

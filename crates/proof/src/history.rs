//! What happened, in order: every effect on the world, with its virtual time.

use crate::stage::Limits;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// How a process ends without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// SIGKILL: everything written stays.
    Kill,
    /// The power fails: every process dies and what was not synced may be lost.
    PowerCut,
}

/// How long a usable lease is to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Until somebody asks for its end.
    Kept,
    /// Its disk, until somebody asks for its end: its machine is stopped.
    Disk,
    /// Until this virtual time, if nobody uses it.
    Until(Duration),
}

/// One thing that happened. A process, an instance and an offer go by their numbers, a lease by its id, a price is $/h.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are named after what they are; the variants say what they mean")]
pub enum Happening {
    /// A process began an operation.
    Began { process: usize, what: String },
    /// An operation ended.
    Ended { process: usize, outcome: String },
    /// A process died at a step.
    Died { process: usize, step: usize, death: Death },
    /// What a power cut lost.
    Lost(String),
    /// A request reached the vendor. `instance` is the one that it would change.
    Called {
        process: usize,
        method: &'static str,
        path: String,
        status: u16,
        struck: bool,
        instance: Option<u64>,
    },
    /// A create took effect. `claimed` is whether a durable claim of its lease was on disk by then.
    Created { instance: u64, lease: Option<String>, ask: u64, price: f64, claimed: bool },
    /// A create was sent.
    CreateSent { process: usize, lease: Option<String>, ask: u64 },
    /// A create, destroy, stop or start was sent that no durable journal had announced.
    Unrecorded { process: usize, step: &'static str, instance: Option<u64> },
    /// A create was sent whose machine ends by itself otherwise than its user asked; `ends` is whether it does at all.
    Misarmed { process: usize, ends: bool, why: String },
    /// What a process rents from here on lives for so many hours of a day at most, and this is what it may cost.
    Spends { process: usize, hours: f64, limits: Limits },
    /// The vendor ended a contract: at the call of one of our processes, or for reasons of its own.
    Destroyed { instance: u64, by: Option<usize> },
    /// One of our processes had an instance stopped.
    Stopped { instance: u64, by: usize },
    /// A process of the other machine of our user asked for a change of an instance that is not its own.
    Trespassed { process: usize, instance: u64 },
    /// A foreign instance does not look as it did at the beginning.
    ForeignChanged { instance: u64 },
    /// An instance was rented as interruptible although it was asked for on demand, and every read shows it.
    Unfit { instance: u64 },
    /// The vendor changed the price of an instance.
    Repriced { instance: u64, price: f64 },
    /// A read arrived at a process and showed it what an instance of ours costs, after a change of its price.
    PriceShown { process: usize, instance: u64, price: f64 },
    /// A read arrived at a process and showed it the instance without a price, after a change of its price.
    PriceHidden { process: usize, instance: u64 },
    /// A claim stands on disk, leading to an instance or to a create without an answer.
    Claim { lease: String, instance: Option<u64> },
    /// A claim does not stand on disk any more.
    Unclaimed { lease: String },
    /// What the claim of a lease promises its user: nothing, or a machine that stays until this virtual time, or until
    /// it is asked for.
    Promised { lease: String, stays: Option<Stay> },
    /// A lease was handed over as usable.
    Ready { process: usize, instance: u64 },
    /// A process works on an instance until it ends.
    InUse { process: usize, instance: u64 },
    /// Somebody took over a lease.
    Adopted { lease: String },
    /// crabbox used a lease: its claim says so.
    UsedByCrabbox { lease: String },
    /// A process acquires this lease under its id, which others may have begun.
    Acquires { process: usize, lease: String },
    /// A process starts, adopts or touches this lease, until it ends.
    Uses { process: usize, lease: String },
    /// A process took the lock under which a lease is worked on.
    Holds { process: usize, lease: String },
    /// A process said that the machine of a lease is gone, or that there never was one.
    SaidGone { process: usize, lease: String, instance: Option<u64> },
    /// A user asked a process to end a lease: to destroy its machine, or only to stop it.
    Asked { process: usize, lease: String, destroy: bool },
    /// An instance of others appeared.
    Foreign { instance: u64 },
    /// The claim of an instance was removed by hand.
    Disowned { instance: u64 },
    /// The disk refused.
    DiskFault { process: usize, what: String },
    /// An SSH step failed on purpose.
    SshFault { process: usize, what: &'static str },
    /// The wall clock jumped by this many milliseconds.
    ClockJumped(i64),
    /// The vendor or somebody else did something.
    Act(String),
    /// A secret showed up where none may be.
    Secret { place: String },
    /// An interesting branch was reached.
    Reached(&'static str),
    /// From here on nothing fails any more and fresh processes clean up.
    Recovery,
    /// An instance of ours runs once they have finished what the dead left.
    Runs { instance: u64 },
    /// Something of a lease that is over, and that no command removes.
    Remains(String),
    /// The clean-up is over; `left` claims could not be cleared.
    Settled { left: usize },
}

/// The events of one run.
#[derive(Clone, Debug, Default)]
pub struct History {
    events: Vec<(Duration, Happening)>,
}

impl History {
    /// Adds an event.
    pub fn push(&mut self, at: Duration, happening: Happening) {
        self.events.push((at, happening));
    }

    /// All events in order.
    #[must_use]
    pub fn events(&self) -> &[(Duration, Happening)] {
        &self.events
    }

    /// A digest of everything: two runs of one seed have the same.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for event in &self.events {
            format!("{event:?}").hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl fmt::Display for History {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.events.iter().try_for_each(|(at, event)| writeln!(out, "{:>12.3} {event:?}", at.as_secs_f64()))
    }
}

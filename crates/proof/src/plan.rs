//! One run as data: who does what, what goes wrong, and what came of it.

use crate::acts::Incident;
use crate::aims::Aims;
use crate::checker::Verdict;
use crate::history::History;
use crate::stage::{Counts, Treatment};
use crate::vendor::{Quirk, Vendor};
use crabbox_vast_sim::api::Fault;
use std::collections::BTreeSet;
use std::time::Duration;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Acquires a lease that outlives it.
    Acquire,
    /// Acquires, runs a command, releases.
    Run,
    /// Runs a command on the first lease there is.
    RunOn,
    /// Releases the first lease there is.
    Stop,
    /// Stops the machine of the first lease there is without destroying it.
    Pause,
    /// Touches the first lease there is.
    Touch,
    /// Lists, and looks at the first lease there is.
    Look,
    /// Cleans up.
    Cleanup,
    /// Starts the first lease there is.
    Start,
    /// Acquires a lease under an id of the user's choice, which makes the call repeatable.
    Again,
    /// Takes over the machine whose claim was lost, or the first lease there is.
    Adopt,
    /// crabbox touches the first lease there is, with labels that it read a while ago.
    CrabboxTouch,
    /// crabbox uses the first lease there is, and makes up its labels anew on the way.
    CrabboxUse,
    /// crabbox releases the first lease there is.
    CrabboxStop,
    /// Forgets the first lease there is, without a confirmation.
    Forget,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Operation; 15] = [
        Operation::Acquire,
        Operation::Run,
        Operation::RunOn,
        Operation::Stop,
        Operation::Pause,
        Operation::Touch,
        Operation::Look,
        Operation::Cleanup,
        Operation::Start,
        Operation::Again,
        Operation::Adopt,
        Operation::CrabboxTouch,
        Operation::CrabboxUse,
        Operation::CrabboxStop,
        Operation::Forget,
    ];

    /// Whether crabbox does it.
    #[must_use]
    pub fn is_crabbox(self) -> bool {
        matches!(self, Operation::CrabboxTouch | Operation::CrabboxUse | Operation::CrabboxStop)
    }
}

/// What is there before anything goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// A lease that is to be kept.
    Kept,
    /// A lease that was not to be kept, whose process is gone.
    Orphan,
    /// A lease that nobody has used for longer than its idle timeout.
    Expired,
    /// What an acquire left that was killed at this step.
    Dead(usize),
    /// A claim that names a machine that is not ours: its own is gone, and somebody edited the file.
    Stale,
    /// What an acquire left that was killed after its create took effect and before the answer came.
    Unanswered,
    /// The same, of an acquire under a lease id of the user's choice.
    CutOff,
    /// A lease whose machine was stopped to be kept.
    Paused,
    /// A lease that is to be kept, whose stop took effect when its process died.
    HalfPaused,
    /// A lease that was stopped to be kept, whose start took effect when its process died.
    HalfStarted,
    /// A machine of which nothing is left here, neither claim nor key.
    Disowned,
    /// A lease that is to be kept, whose machine the host took.
    Gone,
}

impl Left {
    /// Every kind; a death at the first step stands for all of them.
    pub const ALL: [Left; 12] = [
        Left::Kept,
        Left::Orphan,
        Left::Expired,
        Left::Dead(1),
        Left::Stale,
        Left::Unanswered,
        Left::CutOff,
        Left::Paused,
        Left::HalfPaused,
        Left::HalfStarted,
        Left::Disowned,
        Left::Gone,
    ];
}

/// One process of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Actor {
    /// What it does.
    pub operation: Operation,
    /// When it begins.
    pub after: Duration,
    /// When its user gives up.
    pub gives_up: Option<Duration>,
    /// How the world treats it.
    pub treatment: Treatment,
}

impl Actor {
    /// Does this at once in a friendly world.
    #[must_use]
    pub fn new(operation: Operation) -> Self {
        Self { operation, after: Duration::ZERO, gives_up: None, treatment: Treatment::default() }
    }
}

/// A whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Decides every delay and draw.
    pub seed: u64,
    /// How the vendor behaves.
    pub vendor: Vendor,
    /// Which leases there are before anything goes wrong.
    pub leases: Vec<Left>,
    /// Who works.
    pub actors: Vec<Actor>,
    /// What goes wrong with calls, counted from the beginning of the actors' work.
    pub faults: Vec<Fault>,
    /// What is strange about the nth create.
    pub quirk: Option<(usize, Quirk)>,
    /// What happens on its own, and when.
    pub acts: Vec<Incident>,
}

impl Plan {
    /// A single process in a friendly world.
    #[must_use]
    pub fn single(seed: u64, operation: Operation) -> Self {
        let leases = match operation {
            Operation::Acquire | Operation::Run => Vec::new(),
            Operation::Again => vec![Left::CutOff],
            Operation::Start => vec![Left::Paused],
            Operation::Adopt => vec![Left::Disowned],
            Operation::Cleanup => vec![Left::Kept, Left::Expired, Left::Unanswered],
            _ => vec![Left::Kept],
        };
        Self {
            seed,
            vendor: Vendor::default(),
            leases,
            actors: vec![Actor::new(operation)],
            faults: Vec::new(),
            quirk: None,
            acts: Vec::new(),
        }
    }

    /// The same with the first process treated like this.
    #[must_use]
    pub fn treated(mut self, treatment: Treatment) -> Self {
        self.actors[0].treatment = treatment;
        self
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Ran {
    /// Everything that happened.
    pub history: History,
    /// The judgement.
    pub verdict: Verdict,
    /// What each actor did.
    pub counts: Vec<Counts>,
    /// How each actor's operation ended: an error code, or `ok`; `None` where it died.
    pub outcomes: Vec<Option<String>>,
    /// Calls of the actors, in order.
    pub calls: Vec<(&'static str, String)>,
    /// Branches that were reached.
    pub reached: BTreeSet<String>,
    /// What was planned to go wrong, and what of it did.
    pub aims: Aims,
    /// How many leases the clean-up left because they are to be kept.
    pub kept: usize,
    /// Virtual time that passed.
    pub lasted: Duration,
}

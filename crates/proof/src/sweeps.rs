//! Sweeps: one thing wrong at every place where it can go wrong. Each case has a name by which it can be run again.

use crate::catalogue::faults_at;
use crate::dice::Dice;
use crate::files::DiskFault;
use crate::history::Death;
use crate::life::Kill;
use crate::plan::{Left, Operation, Plan, Ran};
use crate::play::run;
use crate::ssh::SshFault;
use crate::stage::Treatment;
use crate::vendor::Quirk;
use crabbox_vast_sim::api::Fault;
use std::fmt;
use std::str::FromStr;

/// What is swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// Each kind of fault at each call.
    Fault,
    /// SIGKILL at each step.
    Kill,
    /// A power cut at each step.
    Cut,
    /// Each disk operation failing once.
    Disk,
    /// The disk full from each operation on.
    Full,
    /// The SSH connection dropping at each step.
    Drop,
    /// SSH hanging at each step.
    Hang,
    /// Each quirk of a create.
    Quirk,
    /// A kill or power cut and a fault, both drawn.
    Pair,
}

/// Names of sweeps and operations, for cases on the command line.
const SWEEPS: [(&str, Sweep); 9] = [
    ("fault", Sweep::Fault),
    ("kill", Sweep::Kill),
    ("cut", Sweep::Cut),
    ("disk", Sweep::Disk),
    ("full", Sweep::Full),
    ("drop", Sweep::Drop),
    ("hang", Sweep::Hang),
    ("quirk", Sweep::Quirk),
    ("pair", Sweep::Pair),
];
const OPERATIONS: [(&str, Operation); 14] = [
    ("acquire", Operation::Acquire),
    ("run", Operation::Run),
    ("run-on", Operation::RunOn),
    ("stop", Operation::Stop),
    ("pause", Operation::Pause),
    ("touch", Operation::Touch),
    ("look", Operation::Look),
    ("cleanup", Operation::Cleanup),
    ("start", Operation::Start),
    ("again", Operation::Again),
    ("adopt", Operation::Adopt),
    ("crabbox-touch", Operation::CrabboxTouch),
    ("crabbox-use", Operation::CrabboxUse),
    ("crabbox-stop", Operation::CrabboxStop),
];

/// One case of a sweep: `run/kill/17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// The operation.
    pub operation: Operation,
    /// The sweep.
    pub sweep: Sweep,
    /// Its number in the sweep, from 0.
    pub number: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sweep = SWEEPS.iter().find(|(_, sweep)| *sweep == self.sweep).map_or("", |(name, _)| name);
        let operation = OPERATIONS.iter().find(|(_, it)| *it == self.operation).map_or("", |(name, _)| name);
        write!(out, "{operation}/{sweep}/{}", self.number)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let [operation, sweep, number] = parts[..] else {
            return Err(format!("`{text}` is not a case such as run/kill/17"));
        };
        let operation = OPERATIONS.iter().find(|(name, _)| *name == operation).map(|(_, it)| *it);
        let sweep = SWEEPS.iter().find(|(name, _)| *name == sweep).map(|(_, it)| *it);
        Ok(Self {
            operation: operation.ok_or_else(|| format!("`{text}` names no operation"))?,
            sweep: sweep.ok_or_else(|| format!("`{text}` names no sweep"))?,
            number: number.parse().map_err(|_| format!("`{text}` ends with no number"))?,
        })
    }
}

/// An operation that went well once, so that its places are known.
#[derive(Debug)]
pub struct Rehearsal {
    operation: Operation,
    clean: Ran,
    /// Every fault at every call of it.
    faults: Vec<(&'static str, Fault)>,
}

/// The seed of all sweeps; pairs draw from their number.
const SEED: u64 = 20_260;

impl Rehearsal {
    /// Runs the operation once in a friendly world.
    #[must_use]
    pub fn of(operation: Operation) -> Self {
        let clean = run(&Plan::single(SEED, operation));
        let calls = clean.calls.iter().enumerate();
        let faults = calls.flat_map(|(at, (method, path))| faults_at(at + 1, method, path)).collect();
        Self { operation, clean, faults }
    }

    /// What came of it.
    #[must_use]
    pub fn clean(&self) -> &Ran {
        &self.clean
    }

    /// How many cases a sweep has. Pairs have as many as one wants.
    #[must_use]
    pub fn cases(&self, sweep: Sweep) -> usize {
        let counts = self.clean.counts[0];
        match sweep {
            Sweep::Fault => self.faults.len(),
            Sweep::Kill | Sweep::Cut => counts.steps,
            Sweep::Disk | Sweep::Full => counts.disk,
            Sweep::Drop | Sweep::Hang => counts.ssh,
            Sweep::Quirk if matches!(self.operation, Operation::Acquire | Operation::Run) => Quirk::ALL.len(),
            Sweep::Quirk | Sweep::Pair => 0,
        }
    }

    /// The plan of a case.
    #[must_use]
    pub fn plan(&self, sweep: Sweep, number: usize) -> Plan {
        let plan = Plan::single(SEED, self.operation);
        let at = number + 1;
        let with = |treatment| plan.clone().treated(treatment);
        let kill = |step, death| Treatment { kill: Some(Kill { step, death }), ..Treatment::default() };
        let disk = |fault| Treatment { disk: Some(fault), ..Treatment::default() };
        let ssh = |fault| Treatment { ssh: Some(fault), ..Treatment::default() };
        match sweep {
            Sweep::Kill => with(kill(at, Death::Kill)),
            Sweep::Cut => with(kill(at, Death::PowerCut)),
            Sweep::Disk => with(disk(DiskFault::Fails(at))),
            Sweep::Full => with(disk(DiskFault::Full(at))),
            Sweep::Drop => with(ssh(SshFault::Drops(at))),
            Sweep::Hang => with(ssh(SshFault::Hangs(at))),
            Sweep::Quirk => Plan { quirk: Some((1, Quirk::ALL[number % Quirk::ALL.len()])), ..plan },
            Sweep::Fault => {
                let fault = self.faults[number % self.faults.len()].1.clone();
                Plan { faults: vec![fault], ..plan }
            }
            Sweep::Pair => {
                let mut dice = Dice::new(number as u64, 2);
                let death = if dice.chance(50) { Death::Kill } else { Death::PowerCut };
                let treatment = kill(1 + dice.below(self.clean.counts[0].steps), death);
                let call = dice.below(self.clean.calls.len().max(1));
                let faults = self.clean.calls.get(call).map(|(method, path)| {
                    let mut faults = faults_at(call + 1, method, path);
                    faults.swap_remove(dice.below(faults.len())).1
                });
                let mut plan = Plan { seed: number as u64, faults: faults.into_iter().collect(), ..plan };
                if self.operation == Operation::Cleanup {
                    // What is to be kept has its own cases; here it would only take time.
                    plan.leases.retain(|left| *left != Left::Kept);
                }
                plan.treated(treatment)
            }
        }
    }
}

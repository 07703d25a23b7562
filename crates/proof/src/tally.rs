//! Many runs added up.

use crate::aims::{Aims, Target};
use crate::checker::Verdict;
use crate::plan::{Plan, Ran};
use crate::play::run;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::time::Duration;

/// The sum of many runs.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many runs.
    pub runs: u64,
    /// All verdicts.
    pub verdict: Verdict,
    /// Virtual time.
    pub lasted: Duration,
    /// How many runs reached each branch.
    pub reached: BTreeMap<String, u64>,
    /// What was planned to go wrong, and what of it did.
    pub aims: Aims,
    /// How operations ended.
    pub outcomes: BTreeMap<String, u64>,
    /// What was wrong, one line for each bad run.
    pub failures: Vec<String>,
}

impl Tally {
    /// Runs a plan and adds it. `what` names it for people. A panic is a failure like others.
    pub fn play(&mut self, plan: &Plan, what: impl FnOnce() -> String) {
        self.look(plan, what);
    }

    /// Runs a plan and adds it. What came of it, where it did not panic.
    pub fn look(&mut self, plan: &Plan, what: impl FnOnce() -> String) -> Option<Ran> {
        match catch_unwind(|| run(plan)) {
            Ok(ran) => {
                self.add(&ran, what);
                Some(ran)
            }
            Err(_) => {
                self.panicked(&what());
                None
            }
        }
    }

    fn panicked(&mut self, what: &str) {
        self.runs += 1;
        self.verdict.unsettled += 1;
        self.failures.push(format!("{what}: it panicked"));
    }

    /// The share of what was planned of a kind that happened, in percent.
    #[must_use]
    pub fn met(&self, target: Target) -> usize {
        let aim = self.aims.of(target);
        100 * aim.met / aim.planned.max(1)
    }

    /// How often each branch was reached, how operations ended, and what was planned and never reached.
    #[must_use]
    pub fn branches(&self) -> String {
        let reached = self.reached.iter().map(|(branch, runs)| format!("{runs:>9} {branch}\n"));
        let ended =
            self.outcomes.iter().map(|(outcome, times)| format!("{times:>9} operations ended: {outcome}\n"));
        let missed =
            Target::ALL.into_iter().filter(|target| self.aims.of(*target).planned > 0).map(|target| {
                let (aim, name) = (self.aims.of(target), target.name());
                format!("{:>9} of {} {name} planned and never reached\n", aim.planned - aim.met, aim.planned)
            });
        reached.chain(ended).chain(missed).collect()
    }

    /// Adds what came of a run.
    pub fn add(&mut self, ran: &Ran, what: impl FnOnce() -> String) {
        self.runs += 1;
        self.verdict += ran.verdict;
        self.lasted += ran.lasted;
        for branch in &ran.reached {
            *self.reached.entry(branch.clone()).or_default() += 1;
        }
        self.aims.add(&ran.aims);
        for outcome in &ran.outcomes {
            *self.outcomes.entry(outcome.clone().unwrap_or_else(|| "died".to_owned())).or_default() += 1;
        }
        if !ran.verdict.is_clean() {
            self.failures.push(format!("{}: {}", what(), counts(&ran.verdict)));
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: Tally) {
        self.runs += other.runs;
        self.verdict += other.verdict;
        self.lasted += other.lasted;
        for (branch, times) in other.reached {
            *self.reached.entry(branch).or_default() += times;
        }
        for (outcome, times) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += times;
        }
        self.aims.add(&other.aims);
        self.failures.extend(other.failures);
    }

    /// Branches of this list that no run reached.
    #[must_use]
    pub fn missing<'a>(&self, branches: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
        branches.into_iter().filter(|branch| !self.reached.contains_key(*branch)).collect()
    }
}

/// Every count of a verdict in one line.
#[must_use]
pub fn counts(verdict: &Verdict) -> String {
    let Verdict { unsettled, taken, false_proofs, .. } = verdict;
    format!("{verdict} unsettled {unsettled} taken {taken} false_proofs {false_proofs}")
}

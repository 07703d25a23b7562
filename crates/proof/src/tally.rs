//! Many runs added up.

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
    pub reached: BTreeMap<&'static str, u64>,
    /// How operations ended.
    pub outcomes: BTreeMap<String, u64>,
    /// What was wrong, one line for each bad run.
    pub failures: Vec<String>,
}

impl Tally {
    /// Runs a plan and adds it. `what` names it for people. A panic is a failure like others.
    pub fn play(&mut self, plan: &Plan, what: impl FnOnce() -> String) {
        match catch_unwind(|| run(plan)) {
            Ok(ran) => self.add(&ran, what),
            Err(_) => {
                self.runs += 1;
                self.verdict.unsettled += 1;
                self.failures.push(format!("{}: it panicked", what()));
            }
        }
    }

    /// Adds what came of a run.
    pub fn add(&mut self, ran: &Ran, what: impl FnOnce() -> String) {
        self.runs += 1;
        self.verdict += ran.verdict;
        self.lasted += ran.lasted;
        for branch in &ran.reached {
            *self.reached.entry(branch).or_default() += 1;
        }
        for outcome in &ran.outcomes {
            *self.outcomes.entry(outcome.clone().unwrap_or_else(|| "died".to_owned())).or_default() += 1;
        }
        if !ran.verdict.is_clean() {
            let Verdict { unsettled, taken, false_proofs, .. } = ran.verdict;
            let more = format!("unsettled {unsettled} taken {taken} false_proofs {false_proofs}");
            self.failures.push(format!("{}: {} {more}", what(), ran.verdict));
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
        self.failures.extend(other.failures);
    }

    /// Branches of this list that no run reached.
    #[must_use]
    pub fn missing(&self, branches: &[&'static str]) -> BTreeSet<&'static str> {
        branches.iter().filter(|branch| !self.reached.contains_key(*branch)).copied().collect()
    }
}

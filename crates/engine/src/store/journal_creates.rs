//! What the journal of a lease knows of its creates: which made which instance, which is unanswered, and what was given up.

use super::Journal;
use super::journal_parts::{Attempt, DISCARDED, PROVED_NOTHING};
use crate::lease::InstanceId;

/// The last phase of an acquire.
const READY: &str = "ready";

impl Journal {
    /// Records how the last create came out, and its instance, where there is one.
    pub fn note(&mut self, outcome: String, instance: Option<InstanceId>) {
        let instance = instance.map(|id| id.0);
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.outcome = Some(outcome);
            attempt.instance = instance;
        }
        self.instance = instance;
    }

    /// Records the lease's instance on the create that made it, an index into the attempts. None of them: then one was
    /// carried out once more, which is an attempt of its own. A create whose answer is still awaited is given up.
    pub fn adopt(&mut self, attempt: Option<usize>, instance: InstanceId) {
        let index = attempt.unwrap_or_else(|| {
            let again = self.attempts.last().cloned();
            self.attempts.extend(again);
            self.attempts.len().saturating_sub(1)
        });
        if let Some(attempt) = self.attempts.get_mut(index) {
            attempt.outcome = Some(format!("adopted: {instance}"));
            attempt.instance = Some(instance.0);
        }
        for left in self.attempts.iter_mut().filter(|attempt| attempt.was_unclear()) {
            left.outcome = Some(PROVED_NOTHING.to_owned());
        }
        self.instance = Some(instance.0);
    }

    /// Records that a create made this instance, which the lease does not need.
    pub fn surplus(&mut self, attempt: usize, instance: InstanceId) {
        if let Some(attempt) = self.attempts.get_mut(attempt) {
            attempt.outcome = Some(format!("surplus: {instance}"));
            attempt.instance = Some(instance.0);
        }
    }

    /// Records the instance that the claim names where a kill fell between the claim and this record. Whether it did.
    pub fn catch_up(&mut self, instance: InstanceId) -> bool {
        let unclear = self.behind(instance);
        if unclear.is_some() {
            self.adopt(unclear, instance);
        }
        unclear.is_some()
    }

    /// The create that made an instance of which the claim knows already and this record does not. What was taken over is
    /// none of its creates'.
    fn behind(&self, instance: InstanceId) -> Option<usize> {
        let missing = self.adopted_at.is_none() && !self.created(instance);
        self.attempts.iter().rposition(Attempt::was_unclear).filter(|_| missing)
    }

    /// Whether this record does not say that the instance which the claim names is the lease's: it was given up, or a kill
    /// fell between the claim and this.
    #[must_use]
    pub fn disowns(&self, instance: InstanceId) -> bool {
        self.discarded(instance) || self.behind(instance).is_some()
    }

    /// Records that the lease's instance will not do and is about to be destroyed.
    pub fn discard(&mut self, why: &str) {
        let own =
            self.attempts.iter().rposition(|one| one.instance.is_some() && one.instance == self.instance);
        let index = own.unwrap_or_else(|| self.attempts.len().saturating_sub(1));
        if let Some(attempt) = self.attempts.get_mut(index) {
            attempt.outcome = Some(format!("{DISCARDED}: {why}"));
        }
    }

    /// Records that somebody got in to an instance, or took it over, so that it is what the lease stands for, whoever had
    /// given it up.
    pub fn reached(&mut self, instance: InstanceId) {
        self.catch_up(instance);
        self.reprieve(instance);
        self.note_ready(0);
    }

    /// Records that an instance which was given up is the lease's after all.
    pub fn reprieve(&mut self, instance: InstanceId) {
        let given_up = |one: &&mut Attempt| one.instance == Some(instance.0) && one.was_discarded();
        for attempt in self.attempts.iter_mut().filter(given_up) {
            attempt.outcome = Some(format!("adopted: {instance}"));
        }
    }

    /// The create that made an instance.
    #[must_use]
    pub fn attempt_of(&self, instance: InstanceId) -> Option<&Attempt> {
        self.attempts.iter().rfind(|attempt| attempt.instance == Some(instance.0))
    }

    /// The instance that the acquire gave up and that was never proved gone.
    #[must_use]
    pub fn giving_up(&self) -> Option<InstanceId> {
        let mut made = self.attempts.iter().filter_map(|attempt| attempt.instance.map(InstanceId));
        made.rfind(|made| self.discarded(*made) && !self.tombstones().any(|(gone, _)| gone == *made))
    }

    /// Whether the acquire itself gave `instance` up, so that the lease may still get another one.
    #[must_use]
    pub fn discarded(&self, instance: InstanceId) -> bool {
        self.attempts.iter().any(|attempt| attempt.instance == Some(instance.0) && attempt.was_discarded())
    }

    /// Whether the answer to the last create is not known: it may have rented a machine.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        self.attempts.last().is_some_and(|attempt| {
            attempt.instance.is_none()
                && !attempt.outcome.as_deref().is_some_and(|outcome| outcome.starts_with("nothing"))
        })
    }

    /// Whether a create of this lease was answered with `instance`: then it is ours, whatever its label says by now.
    #[must_use]
    pub fn created(&self, instance: InstanceId) -> bool {
        self.attempts.iter().any(|attempt| attempt.instance == Some(instance.0))
    }

    /// When the last create may have been sent, Unix seconds.
    #[must_use]
    pub fn last_create_at(&self) -> Option<i64> {
        self.attempts.last().map(|attempt| attempt.started_at)
    }

    /// Our clock minus the vendor's when the newest create was sent, seconds; `None` where no answer had told it.
    #[must_use]
    pub fn skew(&self) -> Option<i64> {
        let attempt = self.attempts.last()?;
        Some(attempt.started_at - attempt.vendor_at?)
    }

    /// Whether the acquire got as far as a lease that can be used.
    #[must_use]
    pub fn was_ready(&self) -> bool {
        self.phases.contains_key(READY)
    }

    /// Records that it did, after this many milliseconds; what is on record stays.
    pub fn note_ready(&mut self, after: u64) {
        self.phases.entry(READY.to_owned()).or_insert(after);
    }

    /// Whether there were creates and each left nothing: refused, given up, or destroyed and proved gone.
    #[must_use]
    pub fn left_nothing(&self) -> bool {
        let gone = |instance| self.tombstones().any(|(gone, _)| gone.0 == instance);
        !self.attempts.is_empty()
            && self.attempts.iter().all(|attempt| match (attempt.instance, attempt.outcome.as_deref()) {
                (Some(instance), _) => gone(instance),
                (None, outcome) => outcome.is_some_and(|outcome| outcome.starts_with("nothing")),
            })
    }

    /// Whether every create of this lease that was sent is known to have left nothing. One that was given up may show
    /// late: it is worth another look. A journal that was begun for a lease of crabbox's has no request, and knows of no
    /// create.
    #[must_use]
    pub fn nothing_is_rented(&self) -> bool {
        !self.request.image.is_empty()
            && !self.attempts.iter().any(Attempt::was_unclear)
            && (self.attempts.is_empty() || self.left_nothing())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::LeaseId;
    use crate::store::StepKind;

    #[test]
    fn a_create_left_nothing_when_it_was_refused_or_its_instance_is_gone() {
        let mut journal = Journal::new(&LeaseId::from_entropy([5; 6]), "", "", 0);
        assert!(!journal.left_nothing());
        journal.attempts.push(Attempt::default());
        assert!(!journal.left_nothing(), "its answer is awaited");
        journal.note("nothing: taken".into(), None);
        assert!(journal.left_nothing());
        journal.attempts.push(Attempt::default());
        journal.note("created: 7".into(), Some(InstanceId(7)));
        journal.begin(StepKind::Destroy, InstanceId(7), 1);
        assert!(!journal.left_nothing());
        journal.proved(StepKind::Destroy, InstanceId(7), 2);
        assert!(journal.left_nothing());
    }
}

//! What the journal of a lease knows of its destroys, stops and starts: what was asked for, what was begun, and what is proved.

use super::Journal;
use super::journal_parts::{Step, StepKind};
use crate::lease::InstanceId;
use serde_json::Map;

impl Journal {
    /// Records that a step is about to be taken. One that is open already is only repeated.
    pub fn begin(&mut self, kind: StepKind, instance: InstanceId, now: i64) {
        if let Some(step) = self.open_step(kind, instance) {
            step.wished = false;
            return;
        }
        let (instance, extra) = (instance.0, Map::new());
        let (proved_at, void, takes_back, wished) = (None, None, false, false);
        self.steps.push(Step {
            kind,
            instance,
            requested_at: now,
            proved_at,
            void,
            takes_back,
            wished,
            extra,
        });
    }

    /// Records what a user asks to become of an instance: this step, or with `None` that it is kept. What was asked for before
    /// it is not asked for any more.
    pub fn wish(&mut self, kind: Option<StepKind>, instance: InstanceId, now: i64) {
        let other = "its user asked for something else";
        if kind != Some(StepKind::Destroy) {
            self.voided(StepKind::Destroy, instance, other);
        }
        // One that was sent has perhaps had its effect: it stands beside the destroy.
        if kind.is_none() || kind == Some(StepKind::Destroy) && self.is_wish(StepKind::Stop, instance) {
            self.voided(StepKind::Stop, instance, other);
        }
        let Some(kind) = kind else {
            self.holder = None;
            return;
        };
        if self.is_open(kind, instance) {
            return self.asked_again(kind, instance, now);
        }
        self.begin(kind, instance, now);
        self.open_step(kind, instance).into_iter().for_each(|step| step.wished = true);
    }

    /// Whether an open step is no more than a wish.
    #[must_use]
    pub fn is_wish(&self, kind: StepKind, instance: InstanceId) -> bool {
        let of_it = |step: &&Step| step.kind == kind && step.instance == instance.0 && step.is_open();
        self.steps.iter().find(of_it).is_some_and(|step| step.wished)
    }

    /// Records that a stop is about to be sent by which a start is taken back, or a destroy by which an acquire is. One that
    /// was begun for its own sake stays so.
    pub fn begin_taking_back(&mut self, kind: StepKind, instance: InstanceId, now: i64) {
        if self.open_step(kind, instance).is_none() {
            self.begin(kind, instance, now);
            self.open_step(kind, instance).into_iter().for_each(|step| step.takes_back = true);
        }
        self.open_step(kind, instance).into_iter().for_each(|step| step.wished = false);
    }

    /// Whether a destroy is open that nobody asked for: an acquire gives the instance up.
    #[must_use]
    pub fn gives_up(&self, instance: InstanceId) -> bool {
        let destroys = self.steps.iter().filter(|step| step.kind == StepKind::Destroy && step.is_open());
        destroys.filter(|step| step.instance == instance.0).any(|step| step.takes_back)
    }

    /// Records that a start came to its end, for somebody got in. What was to take it back is not to be done any more.
    pub fn started(&mut self, instance: InstanceId, now: i64) {
        self.proved(StepKind::Start, instance, now);
        if let Some(step) = self.open_step(StepKind::Stop, instance).filter(|step| step.takes_back) {
            step.void = Some("somebody got in".to_owned());
        }
    }

    /// Records that an open step is asked for once more, from now on.
    pub fn asked_again(&mut self, kind: StepKind, instance: InstanceId, now: i64) {
        if let Some(step) = self.open_step(kind, instance) {
            step.requested_at = step.requested_at.max(now);
            step.takes_back = false;
        }
    }

    /// Records the proof of a step.
    pub fn proved(&mut self, kind: StepKind, instance: InstanceId, now: i64) {
        if let Some(step) = self.open_step(kind, instance) {
            step.proved_at = Some(now);
        }
    }

    /// Records that nothing came of a step.
    pub fn voided(&mut self, kind: StepKind, instance: InstanceId, why: &str) {
        if let Some(step) = self.open_step(kind, instance) {
            step.void = Some(why.to_owned());
        }
    }

    /// Whether a step on this instance is open.
    #[must_use]
    pub fn is_open(&self, kind: StepKind, instance: InstanceId) -> bool {
        self.steps.iter().any(|step| step.kind == kind && step.instance == instance.0 && step.is_open())
    }

    /// What is to become of an instance and is not proved yet: somebody asked for it, or began it and may have died.
    #[must_use]
    pub fn ending(&self, instance: InstanceId) -> Option<StepKind> {
        [StepKind::Destroy, StepKind::Stop].into_iter().find(|kind| self.is_open(*kind, instance))
    }

    /// The instances that were proved gone, and when (Unix seconds). They are looked at again for a day.
    pub fn tombstones(&self) -> impl Iterator<Item = (InstanceId, i64)> + '_ {
        let destroyed = self.steps.iter().filter(|step| step.kind == StepKind::Destroy);
        destroyed.filter_map(|step| Some((InstanceId(step.instance), step.proved_at?)))
    }

    fn open_step(&mut self, kind: StepKind, instance: InstanceId) -> Option<&mut Step> {
        let mut steps = self.steps.iter_mut();
        steps.find(|step| step.kind == kind && step.instance == instance.0 && step.is_open())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::LeaseId;

    #[test]
    fn a_step_is_open_until_its_proof() {
        let lease = LeaseId::from_entropy([4; 6]);
        let (one, other) = (InstanceId(1), InstanceId(2));
        let mut journal = Journal::new(&lease, "", "", 0);
        journal.begin(StepKind::Destroy, one, 10);
        journal.begin(StepKind::Destroy, one, 20);
        journal.begin(StepKind::Start, other, 30);
        assert_eq!(journal.steps.len(), 2, "a repetition is the same step");
        assert!(journal.is_open(StepKind::Destroy, one) && !journal.is_open(StepKind::Destroy, other));
        assert_eq!((journal.ending(one), journal.ending(other)), (Some(StepKind::Destroy), None));
        journal.proved(StepKind::Destroy, one, 40);
        journal.voided(StepKind::Start, other, "no credit");
        assert!(journal.steps.iter().all(|step| !step.is_open()));
        assert_eq!(journal.ending(one), None);
        journal.begin(StepKind::Stop, other, 45);
        assert_eq!(journal.ending(other), Some(StepKind::Stop));
        assert_eq!(journal.tombstones().collect::<Vec<_>>(), [(one, 40)]);
        journal.begin(StepKind::Destroy, one, 50);
        assert!(journal.is_open(StepKind::Destroy, one), "what came back is destroyed again");
    }
}

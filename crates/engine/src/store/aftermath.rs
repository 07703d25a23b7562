//! What the journal of a lease tells when the lease is over, or about to be: what is still to be finished, and what may
//! come to light later.

use super::journal_parts::{DISCARDED, PROVED_NOTHING};
use super::{Attempt, Journal, Step, StepKind};
use crate::lease::InstanceId;
use serde_json::Map;
use std::collections::BTreeSet;

impl Attempt {
    /// Whether it was given up: never answered, and after its window no complete list showed what it made.
    #[must_use]
    pub fn was_given_up(&self) -> bool {
        let proved = self.outcome.as_deref().is_some_and(|outcome| outcome.starts_with(PROVED_NOTHING));
        self.instance.is_none() && proved
    }
}

impl Journal {
    /// Records that an instance is proved gone which nobody here destroyed. It is looked at again as what was destroyed
    /// is, and told where it comes back, but never taken for something that was to end.
    pub fn vanished(&mut self, instance: InstanceId, now: i64) {
        if self.is_open(StepKind::Destroy, instance) {
            return self.proved(StepKind::Destroy, instance, now);
        }
        self.steps.push(Step {
            kind: StepKind::Destroy,
            instance: instance.0,
            requested_at: now,
            proved_at: Some(now),
            void: Some("nobody here destroyed it".to_owned()),
            takes_back: false,
            wished: false,
            extra: Map::new(),
        });
    }

    /// Records that every create without an answer was given up: complete lists show nothing of this lease after the
    /// window. Whether there was one.
    pub fn give_up(&mut self) -> bool {
        let unclear = self.attempts.iter_mut().filter(|one| one.was_unclear() && !one.was_given_up());
        unclear.map(|attempt| attempt.outcome = Some(PROVED_NOTHING.to_owned())).count() > 0
    }

    /// Records that a create which was given up made this instance after all, on this machine where that is known. It is
    /// to be destroyed.
    pub fn found_late(&mut self, instance: InstanceId, machine: Option<u64>) {
        if self.created(instance) || self.ended(instance) {
            return;
        }
        let given_up = |one: &Attempt| one.was_given_up();
        let same =
            self.attempts.iter().position(|one| given_up(one) && machine.is_some() && one.machine == machine);
        let index = same.or_else(|| self.attempts.iter().position(given_up));
        if let Some(attempt) = index.and_then(|index| self.attempts.get_mut(index)) {
            attempt.instance = Some(instance.0);
            attempt.outcome =
                Some(format!("{DISCARDED}: it came to light after its create had been given up"));
        }
    }

    /// Whether something of this lease may come to light after it is over: a create was never answered, or a machine
    /// destroyed.
    #[must_use]
    pub fn may_have_more(&self) -> bool {
        self.attempts.iter().any(Attempt::was_unclear)
            || self.tombstones().next().is_some()
            || self.leads_on()
    }

    /// Whether this program itself gave up a create of the lease, or ended a machine of it.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        let destroyed = |step: &Step| step.kind == StepKind::Destroy && step.void.is_none();
        self.attempts.iter().any(Attempt::was_given_up) || self.steps.iter().any(destroyed)
    }

    /// Whether anything but `instance` may turn up for this lease, so that it is worth a look before it is forgotten.
    #[must_use]
    pub fn may_come_back(&self, instance: InstanceId) -> bool {
        self.attempts.iter().any(Attempt::was_unclear) || self.tombstones().any(|(gone, _)| gone != instance)
    }

    /// Whether a destroy of this instance was recorded and not called off; as with [`Journal::open_destroys`] a wish alone is
    /// none, unless a create was answered with the instance.
    #[must_use]
    pub fn ended(&self, instance: InstanceId) -> bool {
        let of_it = |step: &Step| step.kind == StepKind::Destroy && step.instance == instance.0;
        let begun = |step: &Step| !step.wished || self.created(instance);
        self.steps.iter().any(|step| of_it(step) && step.void.is_none() && begun(step))
    }

    /// The instances other than `but` whose destroy was recorded and never proved. That one was only wished for makes none of
    /// them the lease's: it stands on what the claim said.
    #[must_use]
    pub fn open_destroys(&self, but: Option<InstanceId>) -> Vec<InstanceId> {
        let open = self.steps.iter().filter(|step| step.kind == StepKind::Destroy && step.is_open());
        let begun = open.filter(|step| !step.wished || self.created(InstanceId(step.instance)));
        begun.map(|step| InstanceId(step.instance)).filter(|one| Some(*one) != but).collect()
    }

    /// Whether a step is open on an instance that was never proved gone: it still has to be finished.
    #[must_use]
    pub fn leads_on(&self) -> bool {
        let gone = |instance| self.tombstones().any(|(gone, _)| gone.0 == instance);
        self.steps.iter().any(|step| step.is_open() && !gone(step.instance))
    }

    /// The instances of which no record says that they are gone: what a create was answered with, and what a step was begun on.
    #[must_use]
    pub fn unended(&self) -> BTreeSet<InstanceId> {
        let gone: BTreeSet<InstanceId> = self.tombstones().map(|(gone, _)| gone).collect();
        let rented = self.attempts.iter().filter_map(|attempt| attempt.instance);
        let begun = self.steps.iter().filter(|step| step.is_open()).map(|step| step.instance);
        let all: BTreeSet<InstanceId> = rented.chain(begun).map(InstanceId).collect();
        &all - &gone
    }

    /// Whether it has nothing more to finish: each create left nothing, or was dropped on request, and no step is open.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let ended = self.attempts.is_empty() || self.left_nothing() || self.forgotten_at.is_some();
        // A step that was never proved still has to be finished.
        ended && !self.leads_on()
    }

    /// Every instance that a create of this lease was answered with.
    pub fn instances(&self) -> impl Iterator<Item = InstanceId> + '_ {
        let ended = self.tombstones().map(|(gone, _)| gone);
        self.attempts.iter().filter_map(|attempt| attempt.instance.map(InstanceId)).chain(ended)
    }

    /// When the lease came to its end, as far as the records tell, Unix seconds: its last create, step, proof or forgetting.
    #[must_use]
    pub fn ended_at(&self) -> Option<i64> {
        let proofs = self.tombstones().map(|(_, at)| at);
        let begun = self.steps.iter().map(|step| step.requested_at);
        proofs.chain(begun).chain(self.forgotten_at).chain(self.last_create_at()).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::LeaseId;

    const ONE: InstanceId = InstanceId(1);
    const OTHER: InstanceId = InstanceId(2);

    fn journal(attempts: &[(Option<&str>, Option<u64>, u64)]) -> Journal {
        let mut journal = Journal::new(&LeaseId::from_entropy([1; 6]), "a", "1@x", 5);
        for (index, (outcome, instance, machine)) in attempts.iter().enumerate() {
            journal.attempts.push(Attempt {
                outcome: outcome.map(str::to_owned),
                instance: *instance,
                machine: Some(*machine),
                started_at: 10 + i64::try_from(index).unwrap(),
                ..Attempt::default()
            });
        }
        journal
    }

    #[test]
    fn what_was_never_answered_is_given_up_by_proof_only() {
        let mut some = journal(&[
            (Some("nothing: taken"), None, 1),
            (Some("ambiguous: reset"), None, 2),
            (Some("created: 1"), Some(1), 3),
            (None, None, 4),
        ]);
        assert!(some.attempts.iter().all(|attempt| !attempt.was_given_up()));
        assert!(some.may_have_more() && !some.is_watched());
        assert!(some.give_up() && !some.give_up());
        let given_up: Vec<bool> = some.attempts.iter().map(Attempt::was_given_up).collect();
        assert_eq!(given_up, [false, true, false, true]);
        assert!(some.is_watched());
        let refused = journal(&[(Some("nothing: taken"), None, 1)]);
        assert!(!refused.may_have_more() && !refused.is_watched() && !refused.may_come_back(ONE));
    }

    #[test]
    fn a_latecomer_belongs_to_the_create_on_its_machine_else_to_the_first() {
        let given_up = || journal(&[(Some(PROVED_NOTHING), None, 7), (Some(PROVED_NOTHING), None, 8)]);
        let made = |machine| {
            let mut journal = given_up();
            journal.found_late(ONE, machine);
            assert!(journal.discarded(ONE), "{journal:?}");
            journal.attempts.iter().map(|attempt| attempt.instance).collect::<Vec<_>>()
        };
        assert_eq!(made(Some(8)), [None, Some(1)]);
        assert_eq!(made(Some(9)), [Some(1), None]);
        assert_eq!(made(None), [Some(1), None]);
        // What is known already takes the place of no create.
        let mut known = given_up();
        known.begin(StepKind::Destroy, ONE, 1);
        known.found_late(ONE, Some(7));
        known.attempts[1].instance = Some(2);
        known.found_late(OTHER, Some(7));
        assert_eq!(known.attempts[0].instance, None);
        let mut full = journal(&[(Some("created: 2"), Some(2), 7)]);
        full.found_late(ONE, Some(7));
        assert!(!full.created(ONE));
    }

    #[test]
    fn what_vanished_by_other_hands_is_gone_and_was_not_to_end() {
        let mut journal = journal(&[(Some("created: 1"), Some(1), 7)]);
        assert_eq!(journal.unended(), BTreeSet::from([ONE]));
        journal.begin(StepKind::Start, OTHER, 10);
        assert_eq!(journal.unended(), BTreeSet::from([ONE, OTHER]));
        journal.vanished(ONE, 20);
        assert_eq!(journal.tombstones().collect::<Vec<_>>(), [(ONE, 20)]);
        assert!(!journal.ended(ONE) && journal.left_nothing());
        assert_eq!(journal.unended(), BTreeSet::from([OTHER]));
        // What was to be destroyed anyhow is proved by it.
        journal.begin(StepKind::Destroy, OTHER, 30);
        journal.vanished(OTHER, 40);
        assert!(journal.ended(OTHER) && journal.steps.len() == 3, "{journal:?}");
        assert!(journal.unended().is_empty());
    }

    #[test]
    fn a_journal_is_closed_once_each_create_and_each_step_is() {
        let mut none = journal(&[]);
        assert!(none.is_closed());
        none.begin(StepKind::Stop, ONE, 10);
        assert!(!none.is_closed(), "a step is open");
        let mut some = journal(&[(Some("created: 1"), Some(1), 7)]);
        assert!(!some.is_closed());
        some.forgotten_at = Some(20);
        assert!(some.is_closed(), "dropped on request");
        some.begin(StepKind::Destroy, ONE, 30);
        assert!(!some.is_closed());
        some.proved(StepKind::Destroy, ONE, 40);
        some.forgotten_at = None;
        assert!(some.is_closed(), "it left nothing");
    }

    #[test]
    fn what_was_only_wished_for_makes_no_instance_the_leases() {
        let mut journal = journal(&[(Some("created: 1"), Some(1), 7)]);
        journal.wish(Some(StepKind::Destroy), OTHER, 10);
        journal.wish(Some(StepKind::Destroy), ONE, 10);
        assert_eq!(journal.open_destroys(None), [ONE], "a create was answered with it");
        assert!(journal.ended(ONE) && !journal.ended(OTHER));
        journal.begin(StepKind::Destroy, OTHER, 20);
        assert!(journal.ended(OTHER));
        assert_eq!(journal.open_destroys(None), [OTHER, ONE]);
    }

    #[test]
    fn steps_lead_on_until_their_instance_is_proved_gone() {
        let mut journal = journal(&[(Some("created: 1"), Some(1), 7)]);
        assert!(!journal.leads_on() && !journal.ended(ONE) && !journal.may_have_more());
        journal.begin(StepKind::Stop, ONE, 20);
        assert!(
            journal.leads_on() && journal.may_have_more() && !journal.ended(ONE) && !journal.is_watched()
        );
        journal.begin(StepKind::Destroy, ONE, 20);
        journal.begin(StepKind::Destroy, OTHER, 20);
        assert!(journal.ended(ONE) && journal.is_watched());
        assert_eq!(journal.open_destroys(None), [ONE, OTHER]);
        assert_eq!(journal.open_destroys(Some(ONE)), [OTHER]);
        assert_eq!(journal.ended_at(), Some(20));
        journal.proved(StepKind::Destroy, ONE, 30);
        assert!(journal.leads_on() && !journal.may_come_back(ONE) && journal.may_come_back(OTHER));
        assert_eq!(journal.ended_at(), Some(30));
        journal.voided(StepKind::Destroy, OTHER, "kept");
        assert!(!journal.leads_on(), "the stop of what is gone is no step any more");
        assert!(!journal.ended(OTHER) && journal.open_destroys(None).is_empty() && journal.may_have_more());
        assert_eq!(journal.instances().collect::<Vec<_>>(), [ONE, ONE]);
        journal.forgotten_at = Some(40);
        assert_eq!(journal.ended_at(), Some(40));
    }
}

//! Which of the instances that carry a lease's label its creates can have made.
//!
//! A lease id that this program drew at random is on nobody else's machine, so its label decides. One that a caller
//! chose proves nothing by itself: it may be in use on another machine, under the same account. There the record has to
//! fit a create: its start script holds the key of this lease, or it was rented on that machine at that time.

use crate::lease::{Claim, InstanceId, LeaseId, parse_rfc3339, unix};
use crate::ssh::onstart;
use crate::store::Journal;
use crate::vast::Instance;
use crate::{Code, Error, Result};
use secrecy::ExposeSecret;
use std::collections::{BTreeMap, BTreeSet};

/// How far the vendor's start of a rental may lie before the time at which we sent its create, seconds: the clocks are
/// compared by a header with whole seconds, and answers take their time.
const SLACK: i64 = 60;

/// How long after a create was sent its rental may begin at the latest, seconds: longer than any answer is waited for.
const LATEST: i64 = 600;

/// What the records of a lease tell of its creates.
#[derive(Debug, Default)]
pub(super) struct Provenance {
    /// Instances that a create was answered with, or that were adopted as one's, with that create.
    known: BTreeMap<InstanceId, usize>,
    /// Further ones whose destruction was begun for the lease.
    doomed: BTreeSet<InstanceId>,
    /// Creates of which nobody learned what they made.
    unclear: Vec<Sent>,
    /// The last create, where nobody learned what it made.
    awaited: Option<usize>,
    label: Label,
    /// The public keys that its creates carried.
    keys: BTreeSet<String>,
}

/// What the ownership label of the lease proves.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Label {
    /// The id was given by a caller, who may have given it elsewhere, too.
    #[default]
    Shared,
    /// The id was drawn here: what carries it is ours, however often a create was carried out.
    Unique,
    /// The id was drawn by crabbox, which sends one create for it.
    OneOnly,
}

/// A create whose answer is not known.
#[derive(Debug)]
struct Sent {
    /// Its place among the attempts.
    attempt: usize,
    machine: Option<u64>,
    named: Option<u64>,
    /// When it was sent, at the earliest and at the latest, Unix seconds on the vendor's clock.
    at: Option<(i64, i64)>,
}

/// Instances with the label of a lease, told apart.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// What the creates of this lease made.
    pub ours: Vec<Instance>,
    /// What they did not make: rented under the same lease id elsewhere.
    pub others: Vec<InstanceId>,
    /// Which create made which, as far as it can be told: an index into the attempts.
    pub made_by: BTreeMap<InstanceId, usize>,
    /// Whether what the last create may have made is among it, or nobody waits for that.
    pub settled: bool,
}

/// What an instance is to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// A create was answered with it.
    Known,
    /// Its destruction was begun for the lease.
    Doomed,
    /// Its start script or its label proves it.
    Proved,
    /// It may be what an unanswered create made.
    Possible,
    /// No create of the lease made it.
    Foreign,
}

impl Provenance {
    /// From the journal; a lease without one of ours is crabbox's, whose claim was written before its one create. `skew`
    /// is local time minus the vendor's.
    pub(super) fn of(claim: Option<&Claim>, journal: Option<&Journal>, skew: Option<i64>) -> Self {
        // A clock that is wrong now may not have been then, and the other way round: both count.
        let skew = skew.unwrap_or(0);
        let sent = |here: i64, there: Option<i64>| {
            let times = [here, here - skew].into_iter().chain(there);
            times.clone().min().zip(times.max())
        };
        let ours =
            journal.filter(|journal| !journal.request.image.is_empty() || !journal.attempts.is_empty());
        let Some(journal) = ours else {
            let at =
                claim.and_then(|claim| parse_rfc3339(&claim.claimed_at)).and_then(|at| sent(unix(at), None));
            let unclear = vec![Sent { attempt: 0, machine: None, named: None, at }];
            let doomed = journal.map(begun).unwrap_or_default();
            return Self { unclear, doomed, label: Label::OneOnly, ..Self::default() };
        };
        let attempts = || journal.attempts.iter().enumerate();
        let known =
            attempts().filter_map(|(index, attempt)| Some((InstanceId(attempt.instance?), index))).collect();
        let unclear: Vec<Sent> = attempts()
            .filter(|(_, attempt)| attempt.was_unclear())
            .map(|(index, attempt)| Sent {
                attempt: index,
                machine: attempt.machine,
                named: attempt.named,
                at: sent(attempt.started_at, attempt.vendor_at),
            })
            .collect();
        // What was given up after its window is not waited for.
        let awaited = journal.is_unanswered().then(|| journal.attempts.len() - 1);
        let keys = journal.attempts.iter().filter_map(|attempt| onstart::key_body(attempt.key.as_deref()?));
        let label = if journal.drawn { Label::Unique } else { Label::Shared };
        let keys = keys.map(str::to_owned).collect();
        Self { known, doomed: begun(journal), unclear, awaited, label, keys }
    }

    /// The same where the journal cannot be read: then who chose the id is not known.
    pub(super) fn without_journal(self) -> Self {
        Self { label: Label::Shared, ..self }
    }

    /// The same with the public key that the lease has now.
    pub(super) fn with_key(mut self, public: &str) -> Self {
        self.keys.extend(onstart::key_body(public).map(str::to_owned));
        self
    }

    /// Whether an instance without any label is one that a refused create named.
    pub(super) fn names(&self, instance: InstanceId) -> bool {
        self.unclear.iter().any(|sent| sent.named == Some(instance.0))
    }

    /// Tells the labelled instances apart; what a definite answer named comes first, then the oldest.
    ///
    /// # Errors
    /// [`Code::LeaseAmbiguous`] when more of them may be ours than creates were left unanswered.
    pub(super) fn sort(&self, lease: &LeaseId, found: Vec<Instance>) -> Result<Sorted> {
        let mut told: Vec<(Fit, Instance)> = found.into_iter().map(|one| (self.fit(&one), one)).collect();
        let count = |fit| told.iter().filter(|(one, _)| *one == fit).count();
        let (proved, possible) = (count(Fit::Proved), count(Fit::Possible));
        // What the proved ones leave no unanswered create for was made elsewhere.
        let room = match self.label {
            Label::Unique => possible,
            Label::Shared | Label::OneOnly => self.unclear.len().saturating_sub(proved),
        };
        if possible > room && room > 0 {
            let all = told.iter().filter(|(fit, _)| matches!(fit, Fit::Proved | Fit::Possible));
            let all: Vec<InstanceId> = all.map(|(_, instance)| instance.id).collect();
            return Err(ambiguous_label(lease, &all));
        }
        let rank = |fit| match fit {
            Fit::Known => 0,
            Fit::Proved | Fit::Possible | Fit::Foreign => 1,
            // What is to be destroyed is nothing to keep a lease on.
            Fit::Doomed => 2,
        };
        told.sort_by_key(|(fit, instance)| (rank(*fit), instance.id));
        let mut sorted = Sorted::default();
        for (fit, instance) in told {
            if fit == Fit::Foreign && instance.label.is_none() {
                // A refusal named a stranger's machine. Without our label there is nothing to settle about it.
                continue;
            }
            if fit == Fit::Foreign || fit == Fit::Possible && room == 0 {
                sorted.others.push(instance.id);
            } else {
                if let Some(attempt) = self.maker(&instance, &sorted.made_by) {
                    sorted.made_by.insert(instance.id, attempt);
                }
                sorted.ours.push(instance);
            }
        }
        sorted.settled =
            self.awaited.is_none_or(|awaited| sorted.made_by.values().any(|maker| *maker == awaited));
        Ok(sorted)
    }

    /// The create that made an instance: the one that was answered with it, else of the unanswered ones that made
    /// nothing else the one whose refusal named it, the one on its machine, the last one before it began.
    fn maker(&self, instance: &Instance, taken: &BTreeMap<InstanceId, usize>) -> Option<usize> {
        if let Some(attempt) = self.known.get(&instance.id) {
            return Some(*attempt);
        }
        let free =
            || self.unclear.iter().rev().filter(|sent| !taken.values().any(|one| *one == sent.attempt));
        let named = free().find(|sent| sent.named == Some(instance.id.0));
        let there = |sent: &&Sent| sent.machine.is_some() && sent.machine == instance.machine.map(|id| id.0);
        let before = |sent: &&Sent| {
            instance.start_date.zip(sent.at).is_none_or(|(start, (at, _))| start >= (at - SLACK) as f64)
        };
        let made = named.or_else(|| free().filter(there).find(before)).or_else(|| free().find(there));
        let made = made.or_else(|| free().find(before)).or_else(|| free().next());
        made.map(|sent| sent.attempt)
    }

    fn fit(&self, instance: &Instance) -> Fit {
        if self.known.contains_key(&instance.id) {
            return Fit::Known;
        }
        if self.doomed.contains(&instance.id) {
            return Fit::Doomed;
        }
        // Times and machines are told by a server that may err; the key was made for this lease alone.
        let script = instance.start_script.as_ref().map(|script| script.expose_secret());
        let carried = script.and_then(onstart::public_key).and_then(onstart::key_body);
        match carried.filter(|_| !self.keys.is_empty()) {
            Some(key) if self.keys.contains(key) => return Fit::Proved,
            Some(_) => return Fit::Foreign,
            None => {}
        }
        let labelled = instance.label.is_some();
        match self.label {
            Label::Unique if labelled => Fit::Proved,
            Label::OneOnly if labelled => Fit::Possible,
            _ if self.unclear.iter().any(|sent| sent.may_be(instance)) => Fit::Possible,
            _ => Fit::Foreign,
        }
    }
}

/// The instances whose destruction was begun for a lease and is not proved.
fn begun(journal: &Journal) -> BTreeSet<InstanceId> {
    journal.open_destroys(None).into_iter().collect()
}

impl Sent {
    /// Rented when it was asked for, and on no other machine. What the API does not tell speaks for neither.
    fn may_be(&self, instance: &Instance) -> bool {
        let untimely = instance.start_date.zip(self.at).is_some_and(|(start, (earliest, latest))| {
            start < (earliest - SLACK) as f64 || start > (latest + LATEST) as f64
        });
        let elsewhere = instance.machine.zip(self.machine).is_some_and(|(machine, ours)| machine.0 != ours);
        !untimely && !elsewhere
    }
}

/// Instances carry the label of a lease, and its records do not tell which of them are its own.
pub(super) fn ambiguous_label(lease: &LeaseId, instances: &[InstanceId]) -> Error {
    let named: Vec<String> = instances.iter().map(ToString::to_string).collect();
    let (noun, verb) = if named.len() == 1 { ("instance", "carries") } else { ("instances", "carry") };
    Error::new(
        Code::LeaseAmbiguous,
        format!(
            "{noun} {} {verb} the label of lease {lease}, and the records here do not show that its create made {}",
            named.join(", "),
            if named.len() == 1 { "it" } else { "them" }
        ),
    )
    .hint(format!(
        "nothing was changed: the same lease id may be in use on another machine. Release it there, or destroy or \
         relabel in the Vast console what is nobody's; then run `stop {lease}`, or `forget {lease}` to drop this claim"
    ))
    .with("lease", lease.as_str())
    .with("instances", named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Attempt;
    use serde_json::json;

    const NOW: i64 = 1_787_400_000;

    fn lease() -> LeaseId {
        LeaseId::from_entropy([7; 6])
    }

    fn instance(id: u64, start: Option<i64>, machine: Option<u64>) -> Instance {
        labelled(json!({"id": id, "start_date": start, "machine_id": machine}))
    }

    fn labelled(mut record: serde_json::Value) -> Instance {
        record["label"] = json!("cbx1|cbx_070707070707|a|provisioning");
        Instance::read(&record).expect("an id")
    }

    /// An instance that started with the script of this key.
    fn started_with(id: u64, key: &str, start: i64) -> Instance {
        let script = onstart::script(&format!("ssh-ed25519 {key} crabbox"), Some("true"));
        labelled(json!({"id": id, "start_date": start, "machine_id": 99, "onstart": script}))
    }

    fn journal(outcomes: &[(Option<&str>, Option<u64>)]) -> Journal {
        let mut journal = Journal::new(&lease(), "a", "1@x", NOW);
        journal.request.image = "a/b:1".into();
        for (index, (outcome, instance)) in outcomes.iter().enumerate() {
            journal.attempts.push(Attempt {
                machine: Some(70 + index as u64),
                started_at: NOW + 30,
                vendor_at: Some(NOW),
                outcome: outcome.map(str::to_owned),
                instance: *instance,
                ..Attempt::default()
            });
        }
        journal
    }

    fn told(journal: &Journal, found: Vec<Instance>) -> Result<(Vec<u64>, Vec<u64>), Code> {
        let sorted = Provenance::of(None, Some(journal), None).sort(&lease(), found);
        let sorted = sorted.map_err(|error| error.code())?;
        let ours = sorted.ours.iter().map(|instance| instance.id.0).collect();
        Ok((ours, sorted.others.iter().map(|id| id.0).collect()))
    }

    #[test]
    fn a_definite_answer_leaves_no_room_for_another_instance() {
        let journal = journal(&[(Some("created: 5"), Some(5))]);
        let found = vec![instance(4, Some(NOW), Some(70)), instance(5, None, None)];
        assert_eq!(told(&journal, found), Ok((vec![5], vec![4])));
    }

    #[test]
    fn an_unanswered_create_made_nothing_before_it_was_sent_and_nothing_on_another_machine() {
        let one = || instance(1, Some(NOW - SLACK - 1), Some(70));
        let elsewhere = || instance(2, Some(NOW + 5), Some(99));
        let later = || instance(4, Some(NOW + 30 + LATEST + 1), Some(70));
        for outcome in [None, Some("ambiguous: reset"), Some(PROVED)] {
            let journal = journal(&[(outcome, None)]);
            assert_eq!(
                told(&journal, vec![one(), elsewhere(), later()]),
                Ok((vec![], vec![1, 2, 4])),
                "{outcome:?}"
            );
            let mine = instance(3, Some(NOW - SLACK), Some(70));
            assert_eq!(told(&journal, vec![one(), mine, elsewhere()]), Ok((vec![3], vec![1, 2])));
            let silent = instance(3, None, None);
            assert_eq!(told(&journal, vec![silent]), Ok((vec![3], vec![])));
        }
        let refused = journal(&[(Some("nothing: taken"), None)]);
        assert_eq!(told(&refused, vec![instance(3, Some(NOW), Some(70))]), Ok((vec![], vec![3])));
    }

    #[test]
    fn a_refusal_that_named_a_strangers_machine_leaves_no_question() {
        let mut journal = journal(&[(Some("ambiguous: refused"), None)]);
        journal.attempts[0].named = Some(9);
        let named = |start, machine| {
            let record = json!({"id": 9, "start_date": start, "machine_id": machine, "label": null});
            Instance::read(&record).expect("an id")
        };
        assert_eq!(told(&journal, vec![named(NOW - 86_400, 99)]), Ok((vec![], vec![])));
        assert_eq!(told(&journal, vec![named(NOW, 70)]), Ok((vec![9], vec![])));
    }

    const PROVED: &str = crate::store::PROVED_NOTHING;

    #[test]
    fn as_many_are_ours_as_creates_are_unanswered() {
        let found = || vec![instance(3, None, None), instance(4, None, None)];
        assert_eq!(told(&journal(&[(None, None)]), found()), Err(Code::LeaseAmbiguous));
        let two = journal(&[(Some(PROVED), None), (None, None)]);
        assert_eq!(told(&two, found()), Ok((vec![3, 4], vec![])));
    }

    #[test]
    fn the_label_of_an_id_that_was_drawn_here_decides() {
        let far = || vec![instance(3, Some(NOW - 9000), Some(99)), instance(5, Some(NOW + 9000), None)];
        for outcome in [None, Some(PROVED), Some("discarded: disk")] {
            let drawn = Journal { drawn: true, ..journal(&[(outcome, None)]) };
            assert_eq!(told(&drawn, far()), Ok((vec![3, 5], vec![])), "{outcome:?}");
        }
        let answered = Journal { drawn: true, ..journal(&[(Some("created: 5"), Some(5))]) };
        assert_eq!(told(&answered, far()), Ok((vec![5, 3], vec![])), "carried out twice");
        let unread = Provenance::of(None, Some(&answered), None).without_journal();
        assert_eq!(unread.sort(&lease(), far()).unwrap().others, [InstanceId(3)]);
    }

    #[test]
    fn the_key_in_a_start_script_outranks_time_and_label() {
        let found = || vec![started_with(3, "AAAAours", NOW - 9000), started_with(4, "AAAAtheirs", NOW)];
        for drawn in [false, true] {
            let mut journal = Journal { drawn, ..journal(&[(None, None)]) };
            journal.attempts[0].key = Some("ssh-ed25519 AAAAours crabbox".into());
            assert_eq!(told(&journal, found()), Ok((vec![3], vec![4])), "drawn: {drawn}");
            journal.attempts[0].key = None;
            let kept = Provenance::of(None, Some(&journal), None).with_key("ssh-ed25519 AAAAours");
            assert_eq!(kept.sort(&lease(), found()).unwrap().others, [InstanceId(4)], "drawn: {drawn}");
        }
        // One create, and one instance that is proved its: another that would fit is not.
        let mut journal = journal(&[(None, None)]);
        journal.attempts[0].key = Some("ssh-ed25519 AAAAours crabbox".into());
        let both = || vec![instance(2, Some(NOW), Some(70)), started_with(3, "AAAAours", NOW)];
        assert_eq!(told(&journal, both()), Ok((vec![3], vec![2])));
        journal.attempts[0].key = None;
        assert_eq!(told(&journal, found()), Ok((vec![], vec![3, 4])), "without a key the rest decides");
        let script = labelled(json!({"id": 6, "start_date": NOW, "onstart": "echo 'ssh-ed25519 AAAAx'"}));
        assert_eq!(told(&journal, vec![script]), Ok((vec![6], vec![])), "not a script of ours");
    }

    #[test]
    fn a_lease_of_crabboxs_has_one_create_and_an_id_that_nobody_else_has() {
        let claim = Claim { claimed_at: crate::lease::moment(NOW), ..Claim::default() };
        let provenance = Provenance::of(Some(&claim), None, None);
        let found = vec![instance(3, Some(NOW - 6000), None)];
        assert_eq!(provenance.sort(&lease(), found).unwrap().ours[0].id, InstanceId(3));
        let two = || vec![instance(3, Some(NOW), None), instance(4, Some(NOW), None)];
        assert_eq!(provenance.sort(&lease(), two()).unwrap_err().code(), Code::LeaseAmbiguous);
        // Whose journal cannot be read may be one whose id was given: its claim tells when it was made.
        let unread = |skew| Provenance::of(Some(&claim), None, skew).without_journal();
        let found = || vec![instance(3, Some(NOW - 600), None)];
        assert_eq!(unread(None).sort(&lease(), found()).unwrap().others, [InstanceId(3)]);
        let sorted = unread(Some(600)).sort(&lease(), found()).unwrap();
        assert!(sorted.others.is_empty(), "our clock is ten minutes fast");
    }
}

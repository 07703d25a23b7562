//! Which of the instances that carry a lease's label its creates can have made. A label proves nothing by itself: the
//! same lease id may be in use on another machine, under the same account.

use crate::lease::{Claim, InstanceId, LeaseId, parse_rfc3339, unix};
use crate::store::Journal;
use crate::vast::Instance;
use crate::{Code, Error, Result};
use std::collections::BTreeSet;

/// How far the vendor's start of a rental may lie before the time at which we sent its create, seconds: the clocks are
/// compared by a header with whole seconds, and answers take their time.
const SLACK: i64 = 60;

/// How long after a create was sent its rental may begin at the latest, seconds: longer than any answer is waited for.
const LATEST: i64 = 600;

/// What the records of a lease tell of its creates.
#[derive(Debug, Default)]
pub(super) struct Provenance {
    /// Instances that a create was answered with, or that were adopted as one's.
    known: BTreeSet<InstanceId>,
    /// Creates of which nobody learned what they made.
    unclear: Vec<Sent>,
}

/// A create whose answer is not known.
#[derive(Debug)]
struct Sent {
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
            return Self { known: BTreeSet::new(), unclear: vec![Sent { machine: None, named: None, at }] };
        };
        let known = journal.attempts.iter().filter_map(|attempt| attempt.instance.map(InstanceId)).collect();
        let unclear = journal.attempts.iter().filter(|attempt| attempt.was_unclear());
        let unclear = unclear.map(|attempt| Sent {
            machine: attempt.machine,
            named: attempt.named,
            at: sent(attempt.started_at, attempt.vendor_at),
        });
        Self { known, unclear: unclear.collect() }
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
        let (known, rest): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|instance| self.known.contains(&instance.id));
        let (fitting, others): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|instance| self.unclear.iter().any(|sent| sent.may_be(instance)));
        if fitting.len() > self.unclear.len() {
            let all: Vec<InstanceId> = fitting.iter().map(|instance| instance.id).collect();
            return Err(ambiguous_label(lease, &all));
        }
        let others = others.into_iter().map(|instance| instance.id).collect();
        Ok(Sorted { ours: known.into_iter().chain(fitting).collect(), others })
    }
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
        Instance::read(&json!({"id": id, "start_date": start, "machine_id": machine})).expect("an id")
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

    const PROVED: &str = crate::store::PROVED_NOTHING;

    #[test]
    fn as_many_are_ours_as_creates_are_unanswered() {
        let found = || vec![instance(3, None, None), instance(4, None, None)];
        assert_eq!(told(&journal(&[(None, None)]), found()), Err(Code::LeaseAmbiguous));
        let two = journal(&[(Some(PROVED), None), (None, None)]);
        assert_eq!(told(&two, found()), Ok((vec![3, 4], vec![])));
    }

    #[test]
    fn a_lease_of_crabboxs_has_one_create_that_followed_its_claim() {
        let claim = Claim { claimed_at: crate::lease::moment(NOW), ..Claim::default() };
        let provenance = |skew| Provenance::of(Some(&claim), None, skew);
        let found = || vec![instance(3, Some(NOW - 600), None)];
        assert_eq!(provenance(None).sort(&lease(), found()).unwrap().others, [InstanceId(3)]);
        let sorted = provenance(Some(600)).sort(&lease(), found()).unwrap();
        assert!(sorted.others.is_empty(), "our clock is ten minutes fast");
        let two = vec![instance(3, Some(NOW), None), instance(4, Some(NOW), None)];
        assert_eq!(provenance(None).sort(&lease(), two).unwrap_err().code(), Code::LeaseAmbiguous);
    }
}

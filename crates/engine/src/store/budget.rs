//! The day's budget: what the leases of this state directory cost in the last 24 hours, and what those that live may
//! still cost in the next 24.
//!
//! Counting and taking are one transaction under one lock, and what takes is the journal that is written before every
//! create: two processes cannot both spend the last dollar.

use super::file::{At, replace_durably};
use super::journal::scan;
use super::{Attempt, Inner, Journal, StepKind, Store};
use crate::lease::{Dollars, DollarsPerHour, LeaseId, lasts};
use crate::world::Files;
use crate::{Code, Error, Result};
use std::time::Duration;

const DAY: i64 = 24 * 60 * 60;
/// The idle timeout of a lease without a record of it, seconds.
const IDLE: u64 = 30 * 60;

/// What leases cost in a day.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DayCost {
    /// Spent in the last 24 hours, $.
    pub spent: f64,
    /// What the living ones may still cost in the next 24 hours, $.
    pub committed: f64,
}

impl DayCost {
    /// What one lease counts: the highest price throughout, since a stopped or booting machine is billed for less. One
    /// that is not `claimed` any more was released by others, nobody recorded when: it counts to the end of its time.
    #[must_use]
    pub fn of(journal: &Journal, claimed: bool, now: i64) -> Self {
        let mut cost = Self::default();
        for (index, attempt) in journal.attempts.iter().enumerate() {
            let last = index + 1 == journal.attempts.len();
            let may_have_rented = attempt.instance.is_some() || (last && journal.is_unanswered());
            if !may_have_rented {
                continue;
            }
            let rate = if last { journal.price.unwrap_or(attempt.price) } else { attempt.price };
            let one = between(rate, attempt.started_at, end(journal, index, attempt, claimed, now), now);
            cost.spent += one.spent;
            cost.committed += one.committed;
        }
        // A lease that others made has no create on record: it counts from our starts of it on.
        if let (Some(rate), true, Some((from, _))) =
            (journal.price, journal.attempts.is_empty(), started(journal))
        {
            return between(rate, from, lives_until(journal, journal.instance, claimed, now), now);
        }
        cost
    }

    /// Both together.
    #[must_use]
    pub fn total(self) -> Dollars {
        Dollars(self.spent + self.committed)
    }
}

/// When an attempt's machine stops costing; `None`: nothing ends it.
fn end(journal: &Journal, index: usize, attempt: &Attempt, claimed: bool, now: i64) -> Option<i64> {
    if let Some(next) = journal.attempts.get(index + 1) {
        return Some(next.started_at);
    }
    lives_until(journal, attempt.instance, claimed, now)
}

/// The first and the last start that was not taken back.
fn started(journal: &Journal) -> Option<(i64, i64)> {
    let mut starts = journal.steps.iter().filter(|step| step.kind == StepKind::Start && step.void.is_none());
    let first = starts.next()?.requested_at;
    Some((first, starts.next_back().map_or(first, |last| last.requested_at)))
}

/// When the last machine of a lease stops costing; `None`: nothing ends it.
fn lives_until(journal: &Journal, instance: Option<u64>, claimed: bool, now: i64) -> Option<i64> {
    let gone = journal.tombstones().find(|(gone, _)| instance.is_none_or(|instance| instance == gone.0));
    gone.map(|(_, at)| at).or_else(|| {
        let ttl = journal.request.ttl_secs.map(|ttl| i64::try_from(ttl).unwrap_or(i64::MAX));
        if !claimed {
            return Some(journal.created_at.saturating_add(ttl.unwrap_or(DAY)));
        }
        let ttl = ttl?;
        // After a start there is one idle timeout at least, over its time or not.
        let idle = journal.deadman.as_ref().and_then(|deadman| deadman.idle_secs).unwrap_or(IDLE);
        let restarted =
            started(journal).map(|(_, last)| last.saturating_add(i64::try_from(idle).unwrap_or(i64::MAX)));
        // Over its time and not proved gone: whatever should have ended it may not have.
        Some(journal.created_at.saturating_add(ttl).max(now).max(restarted.unwrap_or(now)))
    })
}

fn between(rate: f64, from: i64, to: Option<i64>, now: i64) -> DayCost {
    let dollars = |seconds: i64| rate * seconds.max(0) as f64 / 3600.0;
    let to = to.unwrap_or(i64::MAX);
    let spent = dollars(now.min(to) - from.max(now - DAY));
    let committed = dollars(to.min(now.saturating_add(DAY)) - now.max(from));
    // No window of 24 hours holds more than 24 hours.
    DayCost { spent, committed: committed.min((dollars(DAY) - spent).max(0.0)) }
}

impl Store {
    /// What all leases but `except` cost in a day around `now` (Unix seconds).
    ///
    /// # Errors
    /// [`Code::StateUnavailable`].
    pub async fn day_cost(&self, except: &LeaseId, now: i64) -> Result<DayCost> {
        let except = except.clone();
        self.transact(move |files, inner| Ok(sum(&living(files, inner)?, &except, now))).await
    }

    /// Writes a journal whose last attempt is about to be sent, if what its lease may cost fits what is left of the
    /// day's `limit`.
    ///
    /// # Errors
    /// [`Code::CostLimitExceeded`] with nothing written; otherwise as [`Store::write_journal`].
    pub async fn write_journal_within(&self, journal: &Journal, limit: Dollars, now: i64) -> Result<()> {
        let lease = journal.lease_id()?;
        let (path, bytes) = (self.journal_path(&lease), journal.encode()?);
        let own = DayCost::of(journal, true, now);
        let attempt = journal.attempts.last().map(|attempt| attempt.price);
        let rate = DollarsPerHour(attempt.or(journal.price).unwrap_or(0.0));
        self.locked([self.paths().budget_lock()], move |files, inner| {
            let others = sum(&living(files, inner)?, &lease, now);
            if others.total().0 + own.total().0 > limit.0 + 1e-9 {
                return Err(over_budget(limit, others, own, rate));
            }
            replace_durably(files, inner.ambient.as_ref(), &path, &bytes)
        })
        .await
    }
}

/// All journals, and whether there is still a claim beside each.
fn living(files: &dyn Files, inner: &Inner) -> Result<Vec<(Journal, bool)>> {
    let claims = inner.paths.claims();
    scan(files, inner)?
        .into_iter()
        .map(|journal| {
            let claim = claims.join(format!("{}.json", journal.lease));
            let claimed = files.exists(&claim).at("look for", &claim)?;
            Ok((journal, claimed))
        })
        .collect()
}

fn sum(journals: &[(Journal, bool)], except: &LeaseId, now: i64) -> DayCost {
    journals.iter().filter(|(journal, _)| journal.lease != except.as_str()).fold(
        DayCost::default(),
        |sum, (journal, claimed)| {
            let one = DayCost::of(journal, *claimed, now);
            DayCost { spent: sum.spent + one.spent, committed: sum.committed + one.committed }
        },
    )
}

/// Says what is left, and which TTL would fit.
fn over_budget(limit: Dollars, others: DayCost, own: DayCost, rate: DollarsPerHour) -> Error {
    let left = Dollars((limit.0 - others.total().0 - own.spent).max(0.0));
    let error = Error::new(
        Code::CostLimitExceeded,
        format!(
            "the lease may cost {} in a day, but of the day's {limit} only {left} are left: {} spent, {} committed to \
             living leases",
            own.total(),
            Dollars(others.spent),
            Dollars(others.committed)
        ),
    );
    error
        .hint(left_hint(left, rate))
        .with("limit", limit.0)
        .with("spent", others.spent)
        .with("committed", others.committed)
}

/// What to do when only so much of the day is left.
#[must_use]
pub(crate) fn left_hint(left: Dollars, rate: DollarsPerHour) -> String {
    let fits = lasts(left, rate);
    if fits < Duration::from_secs(300) {
        return "release a lease (`list` shows them), wait, or raise vast.maxCostPerDay".to_owned();
    }
    format!(
        "--ttl {} would fit; or release a lease (`list` shows them), or raise vast.maxCostPerDay",
        crate::lease::go_duration(fits)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::InstanceId;
    use crate::store::JournalRequest;
    use crate::store::testing::Bench;

    const NOW: i64 = 1_787_400_000;
    const HOUR: i64 = 3600;

    fn journal(id: u8, started_at: i64, ttl_secs: Option<u64>) -> Journal {
        let mut journal = Journal::new(&LeaseId::from_entropy([id; 6]), "a", "1@x", started_at);
        journal.request = JournalRequest { ttl_secs, ..JournalRequest::default() };
        journal.attempts.push(Attempt { price: 2.0, started_at, ..Attempt::default() });
        journal
    }

    fn rented(mut journal: Journal) -> Journal {
        journal.note("created: 5".into(), Some(InstanceId(5)));
        journal
    }

    fn shown(journal: &Journal) -> (f64, f64) {
        let cost = DayCost::of(journal, true, NOW);
        ((cost.spent * 100.0).round() / 100.0, (cost.committed * 100.0).round() / 100.0)
    }

    #[test]
    fn a_lease_counts_what_it_cost_and_what_it_may_still_cost() {
        let ttl = Some(3 * HOUR as u64);
        assert_eq!(shown(&rented(journal(1, NOW - HOUR, ttl))), (2.0, 4.0));
        assert_eq!(shown(&journal(1, NOW, ttl)), (0.0, 6.0), "an unanswered create may have rented");
        assert_eq!(
            shown(&rented(journal(1, NOW - HOUR, None))),
            (2.0, 46.0),
            "no more than a day in any day"
        );
        assert_eq!(shown(&rented(journal(1, NOW - 30 * HOUR, None))), (48.0, 0.0));
        assert_eq!(shown(&rented(journal(1, NOW - 5 * HOUR, ttl))), (10.0, 0.0), "not proved gone");
        let elsewhere = DayCost::of(&rented(journal(1, NOW - 5 * HOUR, ttl)), false, NOW);
        assert_eq!(
            elsewhere,
            DayCost { spent: 6.0, committed: 0.0 },
            "released by others, at its end at the latest"
        );
        let mut nothing = journal(1, NOW, ttl);
        nothing.note("nothing: taken".into(), None);
        assert_eq!(shown(&nothing), (0.0, 0.0));
        let gone_at = |started_at, at| {
            let mut gone = rented(journal(1, started_at, ttl));
            gone.begin(StepKind::Destroy, InstanceId(5), at);
            gone.proved(StepKind::Destroy, InstanceId(5), at);
            gone
        };
        assert_eq!(shown(&gone_at(NOW - 2 * HOUR, NOW - HOUR)), (2.0, 0.0));
        let gone = gone_at(NOW - 30 * HOUR, NOW - 25 * HOUR);
        assert_eq!(shown(&gone), (0.0, 0.0), "yesterday's");
        let mut second = rented(journal(1, NOW - 2 * HOUR, ttl));
        second.attempts.push(Attempt {
            price: 1.0,
            started_at: NOW - HOUR,
            instance: Some(6),
            ..Attempt::default()
        });
        assert_eq!(shown(&second), (3.0, 1.0), "the first machine until the second, and the second's TTL");
    }

    #[tokio::test]
    async fn the_last_dollar_is_spent_once() {
        let bench = Bench::new();
        let other = bench.process();
        let (one, two) = (journal(1, NOW, Some(3600)), journal(2, NOW, Some(3600)));
        let limit = Dollars(3.0);
        let (first, second) = tokio::join!(
            bench.store.write_journal_within(&one, limit, NOW),
            other.write_journal_within(&two, limit, NOW)
        );
        let refused = match (first, second) {
            (Ok(()), Err(error)) | (Err(error), Ok(())) => error,
            both => panic!("one fits, not both: {both:?}"),
        };
        assert_eq!(refused.code(), Code::CostLimitExceeded);
        assert!(refused.to_string().contains("only $1.0000 are left"), "{refused}");
        assert!(refused.hint_text().unwrap().contains("--ttl 30m0s would fit"), "{refused:?}");
        assert_eq!(bench.store.scan_journals().await.unwrap().len(), 1, "a refusal leaves no journal");
        other.write_journal_within(&two, Dollars(4.0), NOW).await.unwrap();
        let cost = other.day_cost(&LeaseId::from_entropy([1; 6]), NOW).await.unwrap();
        assert_eq!(cost, DayCost { spent: 0.0, committed: 2.0 });
    }
}

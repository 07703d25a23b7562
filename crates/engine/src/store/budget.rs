//! The day's budget: what the leases of this state directory cost in the last 24 hours, and what those that live may
//! still cost in the next 24.
//!
//! Counting and taking are one transaction under one lock, and what takes is the journal that is written before every
//! create: two processes cannot both spend the last dollar.

use super::file::{At, replace_durably};
use super::journal::scan_all;
use super::{Attempt, Inner, Journal, StepKind, Store};
use crate::lease::{Claim, Dollars, DollarsPerHour, InstanceId, LeaseId, labels, lasts, parse_rfc3339, unix};
use crate::world::Files;
use crate::{Code, Error, Result};
use std::collections::BTreeSet;
use std::time::Duration;

const DAY: i64 = 24 * 60 * 60;
/// How long after its end a lease is taken for one that is about to be ended, seconds.
const OVERDUE: i64 = 10 * 60;
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
        // A lease that others made has no create on record: it counts from our adoption, or our starts of it, on.
        let taken = journal.instance.is_none_or(|instance| !journal.created(InstanceId(instance)));
        let elsewhere = journal.attempts.is_empty() || journal.adopted_at.is_some() && taken;
        for (index, attempt) in journal.attempts.iter().enumerate() {
            let last = index + 1 == journal.attempts.len();
            let may_have_rented = attempt.instance.is_some() || (last && journal.is_unanswered());
            if !may_have_rented {
                continue;
            }
            // The price of the lease is that of its last machine, unless that is one which others made.
            let rate = journal.price.filter(|_| last && !elsewhere).unwrap_or(attempt.price);
            let one = between(rate, attempt.started_at, end(journal, index, attempt, claimed, now), now);
            cost.spent += one.spent;
            cost.committed += one.committed;
        }
        let since = journal.adopted_at.into_iter().chain(started(journal).map(|(first, _)| first)).min();
        if let (Some(rate), true, Some(from)) = (journal.price, elsewhere, since) {
            // Whatever instance the lease has, or had where none is on record.
            let gone = ended(journal, |gone| journal.instance.is_none_or(|instance| instance == gone.0));
            let one = between(rate, from, lives_until(journal, gone, from, claimed, now), now);
            cost.spent += one.spent;
            cost.committed += one.committed;
        }
        cost
    }

    /// What a lease without a journal counts: crabbox made it, so that what it costs is not on record. It is taken for
    /// as dear as `rate`, from its claim to the end of its time, as every use puts off its idle end; without a date it has
    /// lived all day.
    fn of_claim(claim: &Claim, rate: f64, now: i64) -> Self {
        let from = parse_rfc3339(&claim.claimed_at).map_or(0, unix);
        let end = labels::lives_until(&claim.labels).max(labels::expires_at(&claim.labels));
        let end = end.filter(|_| !labels::keep(&claim.labels));
        between(rate, from, end.map(|end| end.max(now)), now)
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
        // One that came to light late was there beside the next ones.
        let gone = journal.tombstones().find(|(gone, _)| attempt.instance == Some(gone.0));
        return Some(gone.map_or(next.started_at, |(_, at)| at.max(next.started_at)));
    }
    // A create that was not answered has no machine whose end could be on record: the tombstones are those of others.
    let gone = attempt.instance.and_then(|instance| ended(journal, |gone| instance == gone.0));
    lives_until(journal, gone, journal.created_at, claimed, now)
}

/// When an instance was proved gone, Unix seconds.
fn ended(journal: &Journal, which: impl Fn(InstanceId) -> bool) -> Option<i64> {
    journal.tombstones().find(|(gone, _)| which(*gone)).map(|(_, at)| at)
}

/// The first and the last start that was not taken back.
fn started(journal: &Journal) -> Option<(i64, i64)> {
    let mut starts = journal.steps.iter().filter(|step| step.kind == StepKind::Start && step.void.is_none());
    let first = starts.next()?.requested_at;
    Some((first, starts.next_back().map_or(first, |last| last.requested_at)))
}

/// When the last machine of a lease, whose time began at `from` and which was proved `gone` then if it was, stops costing;
/// `None`: nothing ends it.
fn lives_until(journal: &Journal, gone: Option<i64>, from: i64, claimed: bool, now: i64) -> Option<i64> {
    gone.or_else(|| {
        let ttl = journal.request.ttl_secs.map(|ttl| i64::try_from(ttl).unwrap_or(i64::MAX));
        if !claimed {
            return Some(from.saturating_add(ttl.unwrap_or(DAY)));
        }
        let ttl = ttl?;
        // After a start there is one idle timeout at least, over its time or not.
        let idle = journal.deadman.as_ref().and_then(|deadman| deadman.idle_secs).unwrap_or(IDLE);
        let restarted =
            started(journal).map(|(_, last)| last.saturating_add(i64::try_from(idle).unwrap_or(i64::MAX)));
        let end = from.saturating_add(ttl).max(restarted.unwrap_or(from));
        let armed = journal
            .deadman
            .as_ref()
            .is_some_and(|deadman| deadman.ends_at.is_some() && deadman.why_not.is_none());
        // Over its time and not proved gone: whatever should have ended it may not have. Where that is no dead-man switch,
        // nothing does any more.
        (armed || now <= end.saturating_add(OVERDUE)).then_some(end.max(now))
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
    /// What all leases but `except` cost in a day around `now` (Unix seconds). Those of crabbox, whose price is not on
    /// record, are taken for as dear as `unknown`.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`]; [`Code::ClaimCorrupt`] for a journal that cannot be read, as what it holds may have
    /// cost anything.
    pub async fn day_cost(&self, except: &LeaseId, unknown: DollarsPerHour, now: i64) -> Result<DayCost> {
        let except = except.clone();
        self.transact(move |files, inner| others(files, inner, &except, unknown.0, now)).await
    }

    /// The highest price at which the lease of `journal`, which is counted already, stays within the day's `limit`: never
    /// less than what it is counted at.
    ///
    /// # Errors
    /// As [`Store::day_cost`].
    pub async fn day_rate(&self, journal: &Journal, limit: Dollars, now: i64) -> Result<DollarsPerHour> {
        let others = self.day_cost(&journal.lease_id()?, DollarsPerHour(unknown(journal)), now).await?;
        let (own, rate) = (DayCost::of(journal, true, now), rate(journal));
        if own.committed <= 0.0 {
            return Ok(rate);
        }
        let left = limit.0 - others.total().0 - own.spent;
        // What it may still cost grows as its price does.
        Ok(DollarsPerHour(rate.0 * (left / own.committed).max(1.0)))
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
        let rate = rate(journal);
        let unknown = unknown(journal);
        self.locked([self.paths().budget_lock()], move |files, inner| {
            let others = others(files, inner, &lease, unknown, now)?;
            if others.total().0 + own.total().0 > limit.0 + 1e-9 {
                return Err(over_budget(limit, others, own, rate));
            }
            replace_durably(files, inner.ambient.as_ref(), &path, &bytes)
        })
        .await
    }
}

/// The price that a lease is counted at.
fn rate(journal: &Journal) -> DollarsPerHour {
    let attempt = journal.attempts.last().map(|attempt| attempt.price);
    DollarsPerHour(journal.price.or(attempt).unwrap_or(0.0))
}

/// The price that leases of others are taken for: the cap, or what the lease itself costs.
fn unknown(journal: &Journal) -> f64 {
    let rate = rate(journal).0;
    journal.request.cap.unwrap_or(rate).max(rate)
}

/// What all leases but `except` count.
fn others(files: &dyn Files, inner: &Inner, except: &LeaseId, unknown: f64, now: i64) -> Result<DayCost> {
    let mut sum = DayCost::default();
    let mut add = |one: DayCost| {
        sum.spent += one.spent;
        sum.committed += one.committed;
    };
    let folder = inner.paths.claims();
    let mut counted = BTreeSet::new();
    for journal in scan_all(files, inner)? {
        let path = folder.join(format!("{}.json", journal.lease));
        let claimed = files.exists(&path).at("look for", &path)?;
        // One that was begun for a lease of crabbox's, to stop it say, tells no price: its claim is counted.
        let tells =
            !journal.request.image.is_empty() || !journal.attempts.is_empty() || journal.price.is_some();
        if tells && journal.lease != except.as_str() {
            add(DayCost::of(&journal, claimed, now));
        }
        if tells {
            counted.insert(journal.lease);
        }
    }
    for name in files.list(&folder).at("list", &folder)? {
        let Some(lease) = name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(LeaseId::parse)
        else {
            continue;
        };
        if lease == *except || counted.contains(lease.as_str()) {
            continue;
        }
        let path = folder.join(&name);
        let Some(bytes) = files.read(&path).at("read", &path)? else { continue };
        // One that cannot be read is another provider's for all that is known here: it harms only itself.
        if let Ok(claim) = Claim::decode(lease.as_str(), &bytes)
            && claim.is_vast()
        {
            add(DayCost::of_claim(&claim, unknown, now));
        }
    }
    Ok(sum)
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
        assert_eq!(
            shown(&rented(journal(1, NOW - 5 * HOUR, ttl))),
            (10.0, 38.0),
            "not proved gone, and nothing ends it"
        );
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
        second.begin(StepKind::Destroy, InstanceId(5), NOW);
        second.proved(StepKind::Destroy, InstanceId(5), NOW - HOUR / 2);
        assert_eq!(shown(&second), (4.0, 1.0), "the first one was gone half an hour ago only");
    }

    #[test]
    fn a_start_counts() {
        // A lease of others: nothing is known of its creates, it counts from the first start that was not taken back.
        let mut others = Journal::new(&LeaseId::from_entropy([3; 6]), "a", "1@x", NOW - 3 * HOUR);
        others.price = Some(2.0);
        assert_eq!(shown(&others), (0.0, 0.0));
        others.begin(StepKind::Start, InstanceId(5), NOW - 2 * HOUR);
        others.voided(StepKind::Start, InstanceId(5), "queued");
        assert_eq!(shown(&others), (0.0, 0.0));
        others.begin(StepKind::Start, InstanceId(5), NOW - HOUR);
        assert_eq!(shown(&others), (2.0, 46.0), "nothing ends it");
        others.request.ttl_secs = Some(4 * HOUR as u64);
        assert_eq!(
            shown(&others),
            (2.0, 6.0),
            "its whole time from there on: no less than what is left of it"
        );
        others.proved(StepKind::Start, InstanceId(5), NOW - HOUR);
        others.begin(StepKind::Destroy, InstanceId(5), NOW);
        others.proved(StepKind::Destroy, InstanceId(5), NOW - HOUR / 2);
        assert_eq!(shown(&others), (1.0, 0.0));
        // One of ours over its time, started a moment ago: one idle timeout more.
        let mut over = rented(journal(1, NOW - 5 * HOUR, Some(3 * HOUR as u64)));
        over.begin(StepKind::Start, InstanceId(5), NOW);
        assert_eq!(shown(&over), (10.0, 1.0), "half an hour where no idle timeout is on record");
        over.deadman = Some(crate::store::DeadmanRecord { idle_secs: Some(900), ..Default::default() });
        assert_eq!(shown(&over), (10.0, 0.5));
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
        let cost = other.day_cost(&LeaseId::from_entropy([1; 6]), DollarsPerHour(0.0), NOW).await.unwrap();
        assert_eq!(cost, DayCost { spent: 0.0, committed: 2.0 });
    }

    #[tokio::test]
    async fn what_is_not_on_record_is_not_free() {
        let bench = Bench::new();
        let me = LeaseId::from_entropy([1; 6]);
        let cost = async || bench.store.day_cost(&me, DollarsPerHour(3.0), NOW).await;
        // crabbox's: as dear as may be, to the end of its time.
        let theirs = LeaseId::from_entropy([2; 6]);
        let labels = [("expires_at", (NOW + 2 * HOUR).to_string()), ("keep", "false".to_owned())];
        let claim = Claim {
            lease_id: theirs.to_string(),
            provider: "vast".to_owned(),
            cloud_id: "5".to_owned(),
            claimed_at: crate::lease::moment(NOW - HOUR),
            labels: labels.map(|(key, value)| (key.to_owned(), value)).into(),
            ..Claim::default()
        };
        let bytes = serde_json::to_vec(&claim).unwrap();
        bench.put(&bench.paths().claims().join(format!("{theirs}.json")), &bytes);
        assert_eq!(cost().await.unwrap(), DayCost { spent: 3.0, committed: 6.0 });
        // Adopted: at its own price from then on.
        let mut adopted = Journal::new(&theirs, "a", "1@x", NOW - 9 * HOUR);
        adopted.adopted_at = Some(NOW - HOUR);
        (adopted.instance, adopted.price) = (Some(5), Some(0.5));
        adopted.request.ttl_secs = Some(3 * HOUR as u64);
        bench.store.write_journal(&adopted).await.unwrap();
        assert_eq!(cost().await.unwrap(), DayCost { spent: 0.5, committed: 1.0 });
        adopted.begin(StepKind::Destroy, InstanceId(5), NOW);
        adopted.proved(StepKind::Destroy, InstanceId(5), NOW - HOUR / 2);
        bench.store.write_journal(&adopted).await.unwrap();
        assert_eq!(cost().await.unwrap(), DayCost { spent: 0.25, committed: 0.0 });
        // Unreadable: refused, and named.
        bench.put(&bench.paths().journal().join("cbx_030303030303.json"), b"{");
        let error = cost().await.unwrap_err();
        assert_eq!(error.code(), Code::ClaimCorrupt);
        assert!(error.to_string().contains("cbx_030303030303.json"), "{error}");
        let own = journal(1, NOW, Some(3600));
        let refused = bench.store.write_journal_within(&own, Dollars(100.0), NOW).await.unwrap_err();
        assert_eq!(refused.code(), Code::ClaimCorrupt);
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod amounts;

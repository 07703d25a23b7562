//! What a start may spend: it bills in full from the moment it is accepted, so it is held to what an acquire is held to.
//!
//! The lease has a past: what it cost counts, at the price on record, and its time to live goes on from where it began.

use super::Engine;
use super::spending::RUNWAY;
use crate::lease::labels;
use crate::lease::{Claim, Dollars, DollarsPerHour, accrued, affordable, go_duration};
use crate::store::Journal;
use crate::vast::Instance;
use crate::vast::decode::Account;
use crate::{Code, Error, Result};
use std::time::Duration;

/// A started lease whose time is over lives this long at most, where nothing says how long it may be idle.
const AT_LEAST: Duration = Duration::from_secs(30 * 60);

/// The terms of one start.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct StartTerms {
    /// The price it is expected to run at; `None` where none is known and no limit needs one.
    pub price: Option<DollarsPerHour>,
    /// The highest price at which the lease stays within its own limit.
    pub affordable: Option<DollarsPerHour>,
    /// The price is that of the records: the instance shows none.
    pub recorded: bool,
}

/// Seconds from the start of the lease to its end; `None` where nothing ends it.
fn lifetime(claim: &Claim, journal: &Journal) -> Option<u64> {
    if labels::keep(&claim.labels) {
        return journal.request.ttl_secs;
    }
    labels::ttl(&claim.labels).map(|ttl| ttl.as_secs()).or(journal.request.ttl_secs)
}

/// How long the lease has lived, and how long it may still; the latter `None` where nothing ends it.
fn ages(claim: &Claim, journal: &Journal, now: i64) -> (Duration, Option<Duration>) {
    let created = labels::created_at(&claim.labels).unwrap_or(journal.created_at);
    let lived = u64::try_from(now.saturating_sub(created)).unwrap_or(0);
    let idle = labels::idle_timeout(&claim.labels).unwrap_or(AT_LEAST);
    // After a restart its dead-man switch leaves it one idle timeout at least.
    let left = lifetime(claim, journal).map(|ttl| Duration::from_secs(ttl.saturating_sub(lived)).max(idle));
    (Duration::from_secs(lived), left)
}

impl Engine {
    /// Whether this start keeps within the price cap, the lease's own limit and the account's credit. The day's budget
    /// is taken with the journal of the start, and once more where the price rises while it starts.
    ///
    /// # Errors
    /// [`Code::PriceCapExceeded`], [`Code::CostLimitExceeded`], [`Code::InsufficientCredit`], [`Code::InvalidArgument`]
    /// for a limit on a lease that nothing ends.
    pub(super) fn start_terms(
        &self,
        live: &Instance,
        claim: &Claim,
        journal: &Journal,
        account: &Account,
    ) -> Result<StartTerms> {
        let settings = &self.settings;
        // A limit that is given now beats the one the lease was made with, as an action does; so does that there is none.
        let before = journal.request.max_cost.map(Dollars).filter(|_| !settings.max_cost_explicit);
        let limit = settings.max_cost.or(before);
        let on_record = recorded(journal);
        let recorded_only = live.dph_total.is_none();
        let Some(price) = live.dph_total.or(on_record) else {
            let limited = self.has_limit() || limit.is_some();
            return if limited { Err(unknown_price(live)) } else { Ok(StartTerms::default()) };
        };
        let refuse = |code, message: String| {
            Error::new(code, format!("{message}; it was not started"))
                .with("instance", live.id.0)
                .with("price", price.0)
        };
        if let Some(cap) = settings.max_dph_total.filter(|cap| price.exceeds(*cap)) {
            let message = format!("instance {} costs {price}, more than the cap of {cap}", live.id);
            return Err(refuse(Code::PriceCapExceeded, message)
                .hint("raise vast.maxDphTotal, or destroy it and take another"));
        }
        let (lived, left) = ages(claim, journal, self.unix_now());
        let mut most = None;
        if let Some(limit) = limit {
            let Some(left) = left else {
                let message = format!(
                    "lease {} is kept without a TTL and cannot be limited to {limit}: nothing would end it",
                    claim.lease_id
                );
                return Err(
                    refuse(Code::InvalidArgument, message).hint("start it with --max-cost 0, or destroy it")
                );
            };
            let spent = accrued(on_record.unwrap_or(price), lived);
            let rate = affordable(Dollars((limit.0 - spent.0).max(0.0)), left);
            if price.exceeds(rate) {
                let message = format!(
                    "lease {} has cost up to {spent} and would cost {price} for another {}, which is more than {limit} together",
                    claim.lease_id,
                    go_duration(left)
                );
                return Err(refuse(Code::CostLimitExceeded, message)
                    .hint("raise --max-cost, or destroy it and take another")
                    .with("limit", limit.0)
                    .with("spent", spent.0));
            }
            most = Some(rate);
        }
        let time = left.map_or(RUNWAY, |left| left.min(RUNWAY));
        let needed = accrued(price, time);
        if let Some(credit) = account.credit.filter(|credit| *credit < needed.0) {
            let message = format!(
                "the account's credit of {} does not last {} at {price}",
                Dollars(credit),
                go_duration(time)
            );
            return Err(refuse(Code::InsufficientCredit, message)
                .hint("add credit on the Vast billing page; the lease stays stopped, its disk is billed")
                .with("credit", credit)
                .with("needed", needed.0));
        }
        Ok(StartTerms { price: Some(price), affordable: most, recorded: recorded_only })
    }
}

/// Notes in the journal what the started lease costs, so that it counts against the day. Of a lease that was not made
/// by us it is the first that is known of its price and its end.
pub(super) fn note_price(journal: &mut Journal, claim: &Claim, terms: StartTerms) {
    // The dearest it ever was: an amount must not shrink because a price fell.
    let dearest = terms.price.map(|price| recorded(journal).map_or(price.0, |before| before.0.max(price.0)));
    if journal.attempts.is_empty() {
        journal.created_at = labels::created_at(&claim.labels).unwrap_or(journal.created_at);
        journal.request.ttl_secs = lifetime(claim, journal);
    }
    journal.price = dearest.or(journal.price);
}

/// The price that the records know.
fn recorded(journal: &Journal) -> Option<DollarsPerHour> {
    journal.price.or_else(|| journal.attempts.last().map(|attempt| attempt.price)).map(DollarsPerHour)
}

fn unknown_price(live: &Instance) -> Error {
    Error::new(
        Code::CostLimitExceeded,
        format!(
            "instance {} shows no price and none is on record: whether it keeps within the limits is not known; it was not started",
            live.id
        ),
    )
    .hint("look it up in the Vast console; lift the limits for this call (--vast-max-dph-total 0 --max-cost 0 --vast-max-cost-per-day 0), or destroy it")
    .with("instance", live.id.0)
}

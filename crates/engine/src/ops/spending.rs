//! What an acquire may spend, decided before anything is rented: bid, cap, the lease's own limit, the day's budget and
//! the account's credit.

use super::Engine;
use crate::config::InstanceType;
use crate::lease::{Dollars, DollarsPerHour, LeaseId, accrued, affordable, go_duration, lasts};
use crate::store::{DayCost, Journal, left_hint};
use crate::vast::Instance;
use crate::vast::decode::Account;
use crate::vast::select::{Candidate, Selection, Terms};
use crate::{Code, Error, Result};
use std::time::Duration;

/// The account must hold at least this much time at the lease's price, or its TTL where that is shorter: with less the
/// vendor stops the machine before it was of use.
pub(super) const RUNWAY: Duration = Duration::from_secs(60 * 60);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What the local records say about an acquire's choice.
pub(super) struct Spending {
    /// What decides besides the search.
    pub terms: Terms,
    /// What is left of the day, $; `None` without a limit.
    left: Option<Dollars>,
}

impl Engine {
    /// How long a lease lives at most; `None` where nothing ends it.
    pub(super) fn bound(&self, keep: bool) -> Option<Duration> {
        (!keep || self.settings.ttl_explicit).then_some(self.settings.ttl)
    }

    /// Refuses what cannot be right whatever is for rent. Calls nothing.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`]; [`Code::InvalidConfig`] for a limit of a repository's that is not its to set.
    pub(super) fn check_limits(&self, keep: bool) -> Result<()> {
        let settings = &self.settings;
        settings.may_spend()?;
        let refuse = |message: String, hint: &str| Err(Error::new(Code::InvalidArgument, message).hint(hint));
        if let Some(bid) = settings.bid {
            if settings.instance_type != InstanceType::Interruptible {
                return refuse(
                    format!("a bid of {bid} was given for a machine that is rented on demand"),
                    "add --vast-instance-type interruptible, or drop the bid with --bid 0",
                );
            }
            if let Some(cap) = settings.max_dph_total.filter(|cap| bid.0 > cap.0) {
                return refuse(
                    format!("the bid of {bid} is over the price cap of {cap}"),
                    "lower the bid, or raise vast.maxDphTotal; the cap counts with the disk",
                );
            }
        }
        if let Some(limit) = settings.max_cost.filter(|_| self.bound(keep).is_none()) {
            return refuse(
                format!(
                    "a lease that is kept without a TTL cannot be limited to {limit}: nothing would end it"
                ),
                "add --ttl",
            );
        }
        Ok(())
    }

    /// Reads the local records that an acquire's choice depends on.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`], [`Code::ClaimCorrupt`]: money is not spent past a record that cannot be read.
    pub(super) async fn spending(&self, id: &LeaseId, keep: bool) -> Result<Spending> {
        let (settings, now) = (&self.settings, self.unix_now());
        let day = async {
            match settings.max_cost_per_day {
                Some(limit) => {
                    let unknown = settings.max_dph_total.unwrap_or_default();
                    Ok(Some((limit, self.store.day_cost(id, unknown, now).await?)))
                }
                None => Ok::<_, Error>(None),
            }
        };
        let (machines, day) = tokio::join!(self.store.failed_machines(&settings.api_url, now), day);
        let left = day?.map(|(limit, cost): (Dollars, DayCost)| Dollars((limit.0 - cost.total().0).max(0.0)));
        let by_day = left.map(|left| affordable(left, self.bound(keep).map_or(DAY, |ttl| ttl.min(DAY))).0);
        let by_lease = self.lease_limit().map(|rate| rate.0);
        let affordable = by_lease.into_iter().chain(by_day).reduce(f64::min).map(DollarsPerHour);
        let avoid = machines?.into_keys().collect();
        Ok(Spending { terms: Terms { avoid, bid: settings.bid, affordable }, left })
    }

    /// Writes a journal, if what its lease costs fits what is left of the day.
    ///
    /// # Errors
    /// [`Code::CostLimitExceeded`] with nothing written; [`Code::StateUnavailable`].
    pub(super) async fn write_within_day(&self, journal: &Journal) -> Result<()> {
        match self.settings.max_cost_per_day {
            Some(limit) => self.store.write_journal_within(journal, limit, self.unix_now()).await,
            None => self.store.write_journal(journal).await,
        }
    }

    /// The highest price at which a lease that is counted already stays within the day. A record that cannot be read
    /// tells nothing here: a price that rises is held against the day once more when it is written down.
    pub(super) async fn day_rate(&self, journal: &Journal) -> Option<DollarsPerHour> {
        self.store.day_rate(journal, self.settings.max_cost_per_day?, self.unix_now()).await.ok()
    }

    /// Whether anything limits what a lease may cost.
    pub(super) fn has_limit(&self) -> bool {
        let settings = &self.settings;
        settings.max_dph_total.is_some() || settings.max_cost.is_some() || settings.max_cost_per_day.is_some()
    }

    /// The highest price at which a lease stays within its own limit.
    pub(super) fn lease_limit(&self) -> Option<DollarsPerHour> {
        self.settings.max_cost.map(|limit| affordable(limit, self.settings.ttl))
    }

    /// Whether the account's credit carries the rental for an hour, or for its TTL.
    ///
    /// # Errors
    /// [`Code::InsufficientCredit`].
    pub(super) fn check_credit(&self, account: &Account, candidate: &Candidate) -> Result<()> {
        let Some(credit) = account.credit else { return Ok(()) };
        let time = RUNWAY.min(self.settings.ttl);
        let needed = accrued(candidate.price, time);
        if credit >= needed.0 {
            return Ok(());
        }
        Err(Error::new(
            Code::InsufficientCredit,
            format!(
                "the account's credit of {} does not last {} at {}",
                Dollars(credit),
                go_duration(time),
                candidate.price
            ),
        )
        .hint("add credit on the Vast billing page, or take a cheaper machine; nothing was rented")
        .with("credit", credit)
        .with("needed", needed.0))
    }

    /// What to say where the credit carries this rental alone for that time, but not together with what runs already;
    /// `instances` are those that a first look at the account showed.
    pub(super) fn credit_warning(
        &self,
        account: &Account,
        candidate: &Candidate,
        instances: &[Instance],
    ) -> Option<String> {
        let credit = Dollars(account.credit?);
        let running: Vec<f64> =
            instances.iter().filter(|one| one.is_billed()).filter_map(|one| Some(one.dph_total?.0)).collect();
        let others = DollarsPerHour(running.iter().sum());
        let together = DollarsPerHour(candidate.price.0 + others.0);
        let time = RUNWAY.min(self.settings.ttl);
        (!running.is_empty() && credit.0 < accrued(together, time).0).then(|| {
            format!(
                "the account's credit of {credit} lasts {} only: this machine costs {}, and the {} that run already {others}; \
                 add credit on the Vast billing page, or release one",
                go_duration(lasts(credit, together)),
                candidate.price,
                running.len()
            )
        })
    }

    /// Why no offer is left to try, by what alone ruled offers out.
    pub(super) fn no_offers(&self, selection: &Selection, spending: &Spending) -> Error {
        if let Some(price) = selection.cheapest_refused {
            return self.too_dear(price, spending);
        }
        if let (Some(lowest), Some(bid)) = (selection.lowest_bid, self.settings.bid) {
            // Rounded up: the bid that is shown must win.
            let lowest = DollarsPerHour((lowest.0 * 1e4).ceil() / 1e4);
            return Error::new(
                Code::BidTooLow,
                format!("no fitting machine runs at a bid of {bid}; the lowest that wins one is {lowest}"),
            )
            .hint(format!("bid more (--bid {:.4}), or leave --bid out to bid the lowest that wins", lowest.0))
            .with("lowestBid", lowest.0);
        }
        let refused: Vec<String> =
            selection.refused.iter().map(|(why, count)| format!("{count} {why}")).collect();
        let seen = if refused.is_empty() {
            "the search found none".to_owned()
        } else {
            format!("of those found: {}", refused.join(", "))
        };
        let cap = self.settings.max_dph_total.map_or_else(String::new, |cap| format!(" under {cap}"));
        let hint = if selection.refused.contains_key("its machine failed lately") {
            format!(
                "machines that failed are avoided for a day; remove {} to try them again, or loosen the settings",
                self.store.paths().machines().display()
            )
        } else {
            "see `offers` for what there is; raise vast.maxDphTotal or loosen gpuName, gpuCount, diskGB or minReliability".to_owned()
        };
        Error::new(Code::NoOffers, format!("no offer{cap} meets the requirements: {seen}")).hint(hint)
    }

    /// The cheapest offer does not fit what the lease, or the day, may cost.
    fn too_dear(&self, price: DollarsPerHour, spending: &Spending) -> Error {
        let settings = &self.settings;
        let ttl = go_duration(settings.ttl);
        let by_lease = settings.max_cost.filter(|_| self.lease_limit().is_some_and(|rate| price.0 > rate.0));
        let error = match (by_lease, spending.left) {
            (Some(limit), _) => {
                let hint = match lasts(limit, price) {
                    fits if fits.is_zero() => "raise --max-cost".to_owned(),
                    fits => format!("--ttl {} would fit; or raise --max-cost", go_duration(fits)),
                };
                Error::new(
                    Code::CostLimitExceeded,
                    format!(
                        "the cheapest fitting machine costs {price}, more than {limit} in a TTL of {ttl}"
                    ),
                )
                .hint(hint)
                .with("limit", limit.0)
            }
            (None, left) => {
                let left = left.unwrap_or_default();
                Error::new(
                    Code::CostLimitExceeded,
                    format!("the cheapest fitting machine costs {price}, but only {left} are left of what all leases may cost in a day"),
                )
                .hint(left_hint(left, price))
                .with("left", left.0)
            }
        };
        error.with("price", price.0)
    }
}

//! Which offer to rent: every requirement checked again here, then a total order.

use super::offer::Offer;
use super::request::OfferQuery;
use crate::lease::{DollarsPerHour, MachineId};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// An offer that meets the requirements, with what it will cost.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The offer.
    pub offer: Offer,
    /// $/h with the requested disk, and at the bid where there is one.
    pub price: DollarsPerHour,
    /// The bid to send, for interruptible rentals.
    pub bid: Option<DollarsPerHour>,
}

/// The offers to try, best first, and why the others were left out.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Best first; the order is total, so that it does not depend on the answer's order.
    pub candidates: Vec<Candidate>,
    /// How many offers each requirement refused (the first one that did).
    pub refused: BTreeMap<&'static str, usize>,
    /// The lowest bid that would win one of the offers that only the bid ruled out.
    pub lowest_bid: Option<DollarsPerHour>,
    /// The price of the cheapest offer that only [`Terms::affordable`] ruled out.
    pub cheapest_refused: Option<DollarsPerHour>,
}

/// What decides besides the search.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Machines that failed lately.
    pub avoid: BTreeSet<MachineId>,
    /// The bid to make; `None` is the lowest that wins.
    pub bid: Option<DollarsPerHour>,
    /// The highest price at which the lease stays within what it and the day may cost.
    pub affordable: Option<DollarsPerHour>,
}

/// The least and the most that the API takes for a bid, $/h.
const LEAST_BID: f64 = 0.001;
const HIGHEST_BID: f64 = 128.0;

/// Why an offer is left out.
enum Refusal {
    /// A requirement.
    Unfit(&'static str),
    /// Only the bid; this one would win.
    Outbid(DollarsPerHour),
    /// Only what the lease may cost.
    Unaffordable(DollarsPerHour),
}

impl From<&'static str> for Refusal {
    fn from(why: &'static str) -> Self {
        Self::Unfit(why)
    }
}

/// Checks `offers` against `query` and `terms`, and sorts.
#[must_use]
pub fn select(offers: &[Offer], query: &OfferQuery, terms: &Terms) -> Selection {
    let mut selection = Selection::default();
    let mut seen = BTreeSet::new();
    for offer in offers {
        if !seen.insert(offer.id) {
            continue;
        }
        let why = match check(offer, query, terms) {
            Ok(candidate) => {
                selection.candidates.push(candidate);
                continue;
            }
            Err(Refusal::Unfit(why)) => why,
            Err(Refusal::Outbid(bid)) => {
                selection.lowest_bid = lower(selection.lowest_bid, bid);
                "wants a higher bid"
            }
            Err(Refusal::Unaffordable(price)) => {
                selection.cheapest_refused = lower(selection.cheapest_refused, price);
                "over what the lease may cost"
            }
        };
        *selection.refused.entry(why).or_default() += 1;
    }
    selection.candidates.sort_by(|a, b| compare(a, b, &query.order));
    selection
}

fn lower(one: Option<DollarsPerHour>, other: DollarsPerHour) -> Option<DollarsPerHour> {
    Some(DollarsPerHour(one.map_or(other.0, |one| one.0.min(other.0))))
}

fn check(offer: &Offer, query: &OfferQuery, terms: &Terms) -> Result<Candidate, Refusal> {
    requirements(offer, query, terms)?;
    let (price, bid) = if query.interruptible {
        let lowest = offer.min_bid.ok_or("no bid price")?.max(LEAST_BID);
        let bid = DollarsPerHour(terms.bid.map_or(lowest, |bid| bid.0).min(HIGHEST_BID));
        if lowest > bid.0 {
            return Err(Refusal::Outbid(DollarsPerHour(lowest)));
        }
        (offer.price_at_bid(bid, query.disk_gb), Some(bid))
    } else {
        (offer.price(query.disk_gb).ok_or("no price")?, None)
    };
    if query.cap.is_some_and(|cap| price.exceeds(cap)) {
        return Err("over the price cap".into());
    }
    if terms.affordable.is_some_and(|limit| price.exceeds(limit)) {
        return Err(Refusal::Unaffordable(price));
    }
    Ok(Candidate { offer: offer.clone(), price, bid })
}

fn requirements(offer: &Offer, query: &OfferQuery, terms: &Terms) -> Result<(), &'static str> {
    if !offer.rentable || offer.rented {
        return Err("not rentable");
    }
    if let Some(name) = &query.gpu_name
        && !same_gpu(name, &offer.gpu_name)
    {
        return Err("another GPU");
    }
    if offer.gpu_count < query.gpu_count {
        return Err("too few GPUs");
    }
    if query.min_reliability > 0.0 && offer.reliability.is_none_or(|r| r < query.min_reliability) {
        return Err("not reliable enough");
    }
    if offer.direct_ports.is_some_and(|ports| ports < 1) {
        return Err("no direct port");
    }
    if offer.disk_gb.is_some_and(|free| free < f64::from(query.disk_gb)) {
        return Err("too little disk");
    }
    if offer.duration_secs.is_some_and(|secs| secs < query.duration_secs as f64) {
        return Err("rentable for too short a time");
    }
    if offer.machine.is_some_and(|machine| terms.avoid.contains(&machine)) {
        return Err("its machine failed lately");
    }
    Ok(())
}

/// GPU names compare without regard to case and to the underscores of the vendor's own query language.
fn same_gpu(wanted: &str, offered: &str) -> bool {
    let plain = |name: &str| name.replace('_', " ").trim().to_ascii_lowercase();
    plain(wanted) == plain(offered)
}

/// The configured terms first (a missing value sorts last either way), then price, reliability, machine, id.
fn compare(a: &Candidate, b: &Candidate, order: &[(String, String)]) -> Ordering {
    for (field, direction) in order {
        let (x, y) = (a.offer.number(field), b.offer.number(field));
        let ordering = match (x, y) {
            (Some(x), Some(y)) if direction == "asc" => x.total_cmp(&y),
            (Some(x), Some(y)) => y.total_cmp(&x),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    let reliability = |c: &Candidate| c.offer.reliability.unwrap_or(0.0);
    a.price
        .0
        .total_cmp(&b.price.0)
        .then(reliability(b).total_cmp(&reliability(a)))
        .then(a.offer.machine.cmp(&b.offer.machine))
        .then(a.offer.id.cmp(&b.offer.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn query() -> OfferQuery {
        OfferQuery {
            interruptible: false,
            gpu_name: Some("RTX_4090".into()),
            gpu_count: 1,
            disk_gb: 100,
            cap: Some(DollarsPerHour(0.5)),
            min_reliability: 0.9,
            duration_secs: 3600,
            order: vec![("dlperf_per_dphtotal".into(), "desc".into())],
        }
    }

    fn offer(change: impl Fn(&mut Value)) -> Offer {
        let mut raw = json!({
            "id": 1, "ask_contract_id": 1, "machine_id": 9, "gpu_name": "RTX 4090", "num_gpus": 1, "dph_total": 0.4,
            "dph_base": 0.38, "storage_cost": 0.1, "min_bid": 0.2, "reliability2": 0.99, "direct_port_count": 4,
            "disk_space": 500.0, "duration": 86400.0, "rentable": true, "rented": false, "dlperf_per_dphtotal": 100.0
        });
        change(&mut raw);
        Offer::read(&raw).expect("has an id")
    }

    type Change = fn(&mut Value);

    #[test]
    fn each_requirement_is_checked_locally() {
        let cases: &[(Change, &str)] = &[
            (|o| o["rentable"] = json!(false), "not rentable"),
            (|o| o["rented"] = json!(true), "not rentable"),
            (|o| o["gpu_name"] = json!("RTX 4080"), "another GPU"),
            (|o| o["num_gpus"] = json!(0), "too few GPUs"),
            (|o| o["reliability2"] = json!(0.5), "not reliable enough"),
            (|o| o["reliability2"] = json!(null), "not reliable enough"),
            (|o| o["direct_port_count"] = json!(0), "no direct port"),
            (|o| o["disk_space"] = json!(99), "too little disk"),
            (|o| o["duration"] = json!(60), "rentable for too short a time"),
            (|o| o["dph_total"] = json!(0.51), "over the price cap"),
            // the quote ignored the requested disk: 0.49 + 100 GB * 0.1 / 730 h > 0.5
            (|o| o["dph_base"] = json!(0.49), "over the price cap"),
            (
                |o| {
                    o["dph_total"] = json!(null);
                    o["dph_base"] = json!(null);
                },
                "no price",
            ),
            // found by fuzzing: less than nothing would be the cheapest of all
            (
                |o| {
                    o["dph_total"] = json!(-1);
                    o["dph_base"] = json!("-0.5");
                },
                "no price",
            ),
        ];
        for (change, why) in cases {
            let selection = select(&[offer(change)], &query(), &Terms::default());
            assert!(selection.candidates.is_empty(), "{why}");
            assert_eq!(selection.refused.keys().collect::<Vec<_>>(), [why]);
        }
        assert_eq!(select(&[offer(|_| ())], &query(), &Terms::default()).candidates.len(), 1);
        let terms = Terms { avoid: BTreeSet::from([MachineId(9)]), ..Terms::default() };
        let selection = select(&[offer(|_| ())], &query(), &terms);
        assert_eq!(selection.refused.keys().collect::<Vec<_>>(), [&"its machine failed lately"]);
    }

    #[test]
    fn order_is_total_and_missing_values_come_last() {
        let make = |id: u64, perf: Value, price: f64| {
            offer(move |o| {
                o["ask_contract_id"] = json!(id);
                o["dlperf_per_dphtotal"] = perf.clone();
                o["dph_total"] = json!(price);
            })
        };
        let offers = [
            make(4, json!(null), 0.39),
            make(3, json!(50), 0.45),
            make(2, json!(50), 0.45),
            make(1, json!(90), 0.5),
        ];
        let ids = |offers: &[Offer]| {
            select(offers, &query(), &Terms::default())
                .candidates
                .iter()
                .map(|c| c.offer.id.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(&offers), [1, 2, 3, 4]);
        let mut reversed = offers.to_vec();
        reversed.reverse();
        assert_eq!(ids(&reversed), [1, 2, 3, 4]);
    }

    #[test]
    fn a_bid_is_the_lowest_one_and_counts_with_its_disk() {
        let mut query = query();
        query.interruptible = true;
        query.cap = Some(DollarsPerHour(0.22));
        let selection = select(&[offer(|_| ())], &query, &Terms::default());
        let best = &selection.candidates[0];
        assert_eq!(best.bid.map(|b| b.0), Some(0.2));
        assert!((best.price.0 - (0.2 + 10.0 / 730.0)).abs() < 1e-9);
        query.cap = Some(DollarsPerHour(0.21));
        assert!(select(&[offer(|_| ())], &query, &Terms::default()).candidates.is_empty());
    }

    #[test]
    fn an_own_bid_must_win_and_fit_the_cap() {
        let mut query = query();
        query.interruptible = true;
        let bidding = |bid: f64| Terms { bid: Some(DollarsPerHour(bid)), ..Terms::default() };
        let selection = select(&[offer(|_| ())], &query, &bidding(0.3));
        assert_eq!(selection.candidates[0].bid.map(|bid| bid.0), Some(0.3));
        let selection = select(&[offer(|_| ())], &query, &bidding(0.1));
        assert!(selection.candidates.is_empty());
        assert_eq!(selection.lowest_bid.map(|bid| bid.0), Some(0.2), "what would win is said");
        let selection = select(&[offer(|_| ())], &query, &bidding(0.49));
        assert_eq!(selection.refused.keys().collect::<Vec<_>>(), [&"over the price cap"], "the disk counts");
        // The API quotes more for the storage than our own sum: the quote counts.
        let dear = offer(|o| o["storage_total_cost"] = json!(0.25));
        assert_eq!(select(&[dear], &query, &bidding(0.3)).candidates.len(), 0);
    }

    #[test]
    fn what_a_lease_may_cost_is_a_limit_of_its_own() {
        let terms = Terms { affordable: Some(DollarsPerHour(0.3)), ..Terms::default() };
        let selection = select(&[offer(|_| ())], &query(), &terms);
        assert!(selection.candidates.is_empty());
        assert_eq!(selection.cheapest_refused.map(|price| price.0), Some(0.4));
        let terms = Terms { affordable: Some(DollarsPerHour(0.4)), ..Terms::default() };
        assert_eq!(select(&[offer(|_| ())], &query(), &terms).candidates.len(), 1);
    }
}

//! The judge: reads a history from beginning to end and counts what must not be.
//!
//! It knows nothing of the engine. What it counts follows from the promises alone.

use crate::history::{Happening, History};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// The counts; all are zero where every promise was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Instances of ours that bill on after the clean-up.
    pub leaked: u64,
    /// Foreign instances that somebody of ours asked to change.
    pub foreign: u64,
    /// Leases with two live instances, and creates that were sent twice.
    pub double_creates: u64,
    /// Live instances to which no durable claim led, at the create or at any moment later.
    pub lost_claims: u64,
    /// Seconds in which a lease was in use, or was rented, at a price above the cap.
    pub over_cap_seconds: u64,
    /// Secrets seen outside the key folder.
    pub secrets: u64,
    /// Clean-ups that did not come to an end: claims that no command could clear.
    pub unsettled: u64,
}

impl Verdict {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        self.leaked += other.leaked;
        self.foreign += other.foreign;
        self.double_creates += other.double_creates;
        self.lost_claims += other.lost_claims;
        self.over_cap_seconds += other.over_cap_seconds;
        self.secrets += other.secrets;
        self.unsettled += other.unsettled;
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "leaked {} foreign {} double_creates {} lost_claims {} over_cap_seconds {} secrets {}",
            self.leaked,
            self.foreign,
            self.double_creates,
            self.lost_claims,
            self.over_cap_seconds,
            self.secrets
        )
    }
}

struct Live {
    lease: Option<String>,
    price: f64,
    /// Since when it bills above the cap without an excuse.
    over_since: Option<Duration>,
    in_use: bool,
    lost: bool,
}

/// Judges a history. `foreign` are the instances that were there before; `cap` is the most a lease may cost, $/h.
#[must_use]
pub fn judge(history: &History, foreign: &BTreeSet<u64>, cap: f64) -> Verdict {
    let mut verdict = Verdict::default();
    let mut live: BTreeMap<u64, Live> = BTreeMap::new();
    let mut claims: BTreeMap<&str, Option<u64>> = BTreeMap::new();
    let mut sent: BTreeSet<(&str, u64)> = BTreeSet::new();
    let mut end = Duration::ZERO;
    for (at, happening) in history.events() {
        end = *at;
        match happening {
            Happening::CreateSent { lease: Some(lease), ask, .. } => {
                // One create per offer and lease: a second one is a replay.
                verdict.double_creates += u64::from(!sent.insert((lease, *ask)));
            }
            Happening::Created { instance, lease, price, claimed, .. } => {
                let twin = lease.is_some() && live.values().any(|other| other.lease == *lease);
                verdict.double_creates += u64::from(twin);
                verdict.lost_claims += u64::from(!claimed);
                let over_since = (*price > cap + 1e-9).then_some(*at);
                let lease = lease.clone();
                let new = Live { lease, price: *price, over_since, in_use: false, lost: !claimed };
                live.insert(*instance, new);
            }
            Happening::Repriced { instance, price } => {
                if let Some(instance) = live.get_mut(instance) {
                    instance.price = *price;
                }
            }
            Happening::Ready { instance, .. } => {
                if let Some(instance) = live.get_mut(instance)
                    && !instance.in_use
                {
                    instance.in_use = true;
                    // A price that rises before the lease is handed over has to be noticed; later ones are the vendor's.
                    if instance.price > cap + 1e-9 {
                        instance.over_since.get_or_insert(*at);
                    }
                }
            }
            Happening::Destroyed { instance } => {
                if let Some(gone) = live.remove(instance) {
                    verdict.over_cap_seconds += over(&gone, *at);
                }
            }
            Happening::Called { instance: Some(instance), .. } | Happening::ForeignChanged { instance } => {
                verdict.foreign += u64::from(foreign.contains(instance));
            }
            Happening::Claim { lease, instance } => {
                claims.insert(lease, *instance);
            }
            Happening::Unclaimed { lease } => {
                claims.remove(lease.as_str());
                // It was settled that nothing is left: an acquire that is made again under the id begins anew.
                sent.retain(|(earlier, _)| earlier != lease);
            }
            Happening::Secret { .. } => verdict.secrets += 1,
            Happening::Settled { left } => verdict.unsettled += *left as u64,
            _ => {}
        }
        if matches!(
            happening,
            Happening::Claim { .. } | Happening::Unclaimed { .. } | Happening::Created { .. }
        ) {
            verdict.lost_claims += mark_lost(&mut live, &claims);
        }
    }
    for left in live.values() {
        verdict.leaked += 1;
        verdict.over_cap_seconds += over(left, end);
    }
    verdict
}

/// Counts live instances to which no claim leads now; each counts once.
fn mark_lost(live: &mut BTreeMap<u64, Live>, claims: &BTreeMap<&str, Option<u64>>) -> u64 {
    let mut lost = 0;
    for (id, instance) in live.iter_mut().filter(|(_, instance)| !instance.lost) {
        let claim = instance.lease.as_deref().and_then(|lease| claims.get(lease));
        // A claim without an instance leads to it by the label.
        let leads = claim.is_some_and(|named| named.is_none_or(|named| named == *id));
        instance.lost = !leads;
        lost += u64::from(!leads);
    }
    lost
}

fn over(instance: &Live, until: Duration) -> u64 {
    let seconds = instance.over_since.map_or(0.0, |since| until.saturating_sub(since).as_secs_f64());
    seconds.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(events: Vec<Happening>) -> History {
        let mut history = History::default();
        for (second, event) in (0_u64..).zip(events) {
            history.push(Duration::from_secs(second), event);
        }
        history
    }

    fn created(instance: u64, lease: &str, price: f64, claimed: bool) -> Happening {
        Happening::Created { instance, lease: Some(lease.into()), ask: instance, price, claimed }
    }

    fn claim(lease: &str, instance: Option<u64>) -> Happening {
        Happening::Claim { lease: lease.into(), instance }
    }

    fn of(events: Vec<Happening>) -> Verdict {
        judge(&history(events), &BTreeSet::from([7]), 1.0)
    }

    #[test]
    fn an_orderly_life_is_clean() {
        let verdict = of(vec![
            claim("a", None),
            created(1, "a", 0.9, true),
            claim("a", Some(1)),
            Happening::Ready { process: 0, instance: 1 },
            Happening::Destroyed { instance: 1 },
            Happening::Unclaimed { lease: "a".into() },
            Happening::Settled { left: 0 },
        ]);
        assert!(verdict.is_clean(), "{verdict:?}");
    }

    #[test]
    fn each_broken_promise_is_counted() {
        let leak = of(vec![claim("a", None), created(1, "a", 0.9, true)]);
        assert_eq!(leak, Verdict { leaked: 1, ..Verdict::default() });
        let unclaimed = of(vec![created(1, "a", 0.9, false), Happening::Destroyed { instance: 1 }]);
        assert_eq!(unclaimed, Verdict { lost_claims: 1, ..Verdict::default() });
        let forgotten = of(vec![
            claim("a", None),
            created(1, "a", 0.9, true),
            Happening::Unclaimed { lease: "a".into() },
            Happening::Destroyed { instance: 1 },
        ]);
        assert_eq!(forgotten, Verdict { lost_claims: 1, ..Verdict::default() });
        let dear = of(vec![
            claim("a", None),
            created(1, "a", 0.9, true),
            Happening::Repriced { instance: 1, price: 2.0 },
            Happening::Ready { process: 0, instance: 1 },
            Happening::Destroyed { instance: 1 },
        ]);
        assert_eq!(dear, Verdict { over_cap_seconds: 1, ..Verdict::default() });
        let twice = of(vec![
            claim("a", None),
            created(1, "a", 0.9, true),
            created(2, "a", 0.9, true),
            Happening::Destroyed { instance: 1 },
            Happening::Destroyed { instance: 2 },
        ]);
        assert_eq!(twice, Verdict { double_creates: 1, ..Verdict::default() });
        let sent = Happening::CreateSent { process: 0, lease: Some("a".into()), ask: 3 };
        assert_eq!(of(vec![sent.clone(), sent]).double_creates, 1);
        let touched = Happening::Called {
            process: 0,
            method: "DELETE",
            path: String::new(),
            status: 200,
            struck: false,
            instance: Some(7),
        };
        assert_eq!(of(vec![touched]).foreign, 1);
        assert_eq!(of(vec![Happening::Secret { place: String::new() }]).secrets, 1);
        assert_eq!(of(vec![Happening::Settled { left: 2 }]).unsettled, 2);
    }
}

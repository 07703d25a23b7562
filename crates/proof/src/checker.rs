//! The judge: reads a history from beginning to end and counts what must not be.
//!
//! It knows nothing of the engine. What it counts follows from the promises alone.

use crate::history::{Death, Happening, History, Stay};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// A raised price that no read of the process that hands the lease over has shown is nobody's fault for so long. A start
/// reads the instance every 5 s by each of two ways, paced; a handshake that began before the raise has 10 s at most.
/// What is older had its turn and was missed.
const UNSEEN: Duration = Duration::from_secs(15);

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
    /// Machines that a process of ours took from somebody who still needed them.
    pub taken: u64,
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
        self.taken += other.taken;
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
    /// Who created it.
    creator: Option<usize>,
    price: f64,
    /// When its price went above the cap, and who was shown it since.
    raised: Option<Duration>,
    shown: BTreeSet<usize>,
    /// Since when it bills above the cap without an excuse.
    over_since: Option<Duration>,
    /// Who handed it over as usable.
    handed_over: Option<usize>,
    /// Its claim was removed by hand, and nobody has adopted it to the end since.
    disowned: bool,
    lost: bool,
}

/// Whose a machine is at a moment.
#[derive(Default)]
struct Users<'a> {
    /// The machine that each living process works on.
    working: BTreeMap<usize, u64>,
    /// Leases whose claim promises their user a machine.
    promised: BTreeMap<&'a str, Stay>,
    /// Leases that a user asked to end, and whether their machines were to be destroyed.
    asked: BTreeMap<&'a str, bool>,
    /// Processes that go on with a lease under its id.
    acquires: BTreeSet<(usize, &'a str)>,
    /// Processes that acquired for a run of their own.
    runs: BTreeSet<usize>,
    /// A clock that was set back makes what was written before it was set right look old.
    set_back: bool,
}

impl Users<'_> {
    /// Whether this process may not end this machine now, because somebody else needs it.
    fn need(&self, instance: u64, live: &Live, by: usize, destroys: bool, now: Duration) -> bool {
        let lease = live.lease.as_deref().unwrap_or_default();
        let asked = self.asked.get(lease).is_some_and(|destroy| *destroy || !destroys);
        // Whoever rented it, or brought on what another was cut off at, may give it up.
        let own = live.creator == Some(by)
            || (self.acquires.contains(&(by, lease)) && live.handed_over.is_none_or(|process| process == by));
        if asked || own {
            return false;
        }
        if self.working.iter().any(|(process, machine)| *process != by && *machine == instance) {
            return true;
        }
        // What a run rented for itself goes with it.
        if live.creator.is_some_and(|creator| self.runs.contains(&creator)) {
            return false;
        }
        match self.promised.get(lease) {
            Some(Stay::Kept) => true,
            Some(Stay::Until(end)) => now < *end && !self.set_back,
            None => false,
        }
    }
}

/// Judges a history. `foreign` are the instances that were there before; `cap` is the most a lease may cost, $/h.
#[must_use]
pub fn judge(history: &History, foreign: &BTreeSet<u64>, cap: f64) -> Verdict {
    let mut verdict = Verdict::default();
    let mut foreign = foreign.clone();
    let mut live: BTreeMap<u64, Live> = BTreeMap::new();
    let mut claims: BTreeMap<&str, Option<u64>> = BTreeMap::new();
    let mut sent: BTreeSet<(&str, u64)> = BTreeSet::new();
    let mut senders: BTreeMap<&str, usize> = BTreeMap::new();
    let mut adopters: BTreeSet<usize> = BTreeSet::new();
    let mut users = Users::default();
    let mut end = Duration::ZERO;
    for (at, happening) in history.events() {
        end = *at;
        match happening {
            Happening::CreateSent { lease: Some(lease), ask, process } => {
                // One create per offer and lease: a second one is a replay.
                verdict.double_creates += u64::from(!sent.insert((lease, *ask)));
                senders.insert(lease, *process);
            }
            Happening::Created { instance, lease, price, claimed, .. } => {
                let twin = lease.is_some() && live.values().any(|other| other.lease == *lease);
                verdict.double_creates += u64::from(twin);
                verdict.lost_claims += u64::from(!claimed);
                let over_since = (*price > cap + 1e-9).then_some(*at);
                let creator = lease.as_deref().and_then(|lease| senders.get(lease)).copied();
                let new = Live {
                    lease: lease.clone(),
                    creator,
                    price: *price,
                    raised: over_since,
                    shown: BTreeSet::new(),
                    over_since,
                    handed_over: None,
                    disowned: false,
                    lost: !claimed,
                };
                live.insert(*instance, new);
            }
            Happening::Repriced { instance, price } => {
                if let Some(instance) = live.get_mut(instance) {
                    instance.price = *price;
                    let above = *price > cap + 1e-9;
                    instance.raised = above.then(|| instance.raised.unwrap_or(*at));
                    instance.shown.clear();
                }
            }
            Happening::PriceShown { process, instance, price } => {
                if let Some(instance) = live.get_mut(instance)
                    && *price > cap + 1e-9
                {
                    instance.shown.insert(*process);
                }
            }
            Happening::Ready { instance, process } => {
                if let Some(instance) = live.get_mut(instance)
                    && instance.handed_over.is_none()
                {
                    instance.handed_over = Some(*process);
                    // A price that rises before the lease is handed over has to be noticed, if it could be; later ones
                    // are the vendor's.
                    let known = |since| instance.shown.contains(process) || *at - since >= UNSEEN;
                    if instance.raised.is_some_and(known) {
                        instance.over_since.get_or_insert(*at);
                    }
                }
                if users.runs.contains(process) {
                    users.working.insert(*process, *instance);
                }
            }
            Happening::Began { process, what } if what == "Run" => {
                users.runs.insert(*process);
            }
            Happening::Began { process, what } if what == "Adopt" => {
                adopters.insert(*process);
            }
            Happening::Acquires { process, lease } => {
                users.acquires.insert((*process, lease));
            }
            Happening::InUse { process, instance } => {
                users.working.insert(*process, *instance);
            }
            Happening::Ended { process, outcome } => {
                users.working.remove(process);
                if adopters.contains(process) && outcome == "ok" {
                    // From here on a claim has to lead to it.
                    for instance in live.values_mut().filter(|instance| instance.disowned) {
                        (instance.disowned, instance.lost) = (false, false);
                    }
                }
            }
            Happening::Died { process, death, .. } => {
                users.working.remove(process);
                if *death == Death::PowerCut {
                    users.working.clear();
                }
            }
            Happening::Promised { lease, stays } => {
                match stays {
                    Some(stay) => users.promised.insert(lease, *stay),
                    None => users.promised.remove(lease.as_str()),
                };
            }
            Happening::Asked { lease, destroy, .. } => {
                *users.asked.entry(lease).or_default() |= *destroy;
            }
            Happening::ClockJumped(by) => users.set_back |= *by < 0,
            Happening::Stopped { instance, by } => {
                if let Some(stopped) = live.get(instance) {
                    verdict.taken += u64::from(users.need(*instance, stopped, *by, false, *at));
                }
            }
            Happening::Destroyed { instance, by } => {
                if let Some(gone) = live.remove(instance) {
                    let taken = by.is_some_and(|by| users.need(*instance, &gone, by, true, *at));
                    verdict.taken += u64::from(taken);
                    verdict.over_cap_seconds += over(&gone, *at);
                }
            }
            Happening::Called { instance: Some(instance), .. } | Happening::ForeignChanged { instance } => {
                verdict.foreign += u64::from(foreign.contains(instance));
            }
            Happening::Trespassed { .. } => verdict.foreign += 1,
            Happening::Foreign { instance } => {
                foreign.insert(*instance);
            }
            Happening::Disowned { instance } => {
                // Not ours to touch until somebody adopts it, and no claim that leads to it was lost.
                foreign.insert(*instance);
                if let Some(instance) = live.get_mut(instance) {
                    (instance.disowned, instance.lost) = (true, true);
                }
            }
            Happening::Claim { lease, instance } => {
                claims.insert(lease, *instance);
                if let Some(instance) = instance.filter(|instance| live.contains_key(instance)) {
                    foreign.remove(&instance);
                }
            }
            Happening::Unclaimed { lease } => {
                claims.remove(lease.as_str());
                // An adoption that failed, or was lost with the power, has changed nothing.
                let of_nobody = |one: &(&u64, &Live)| one.1.disowned && one.1.lease.as_ref() == Some(lease);
                foreign.extend(live.iter().filter(of_nobody).map(|(number, _)| *number));
                // Where nothing of the lease is left, an acquire that is made again under its id begins anew. Where
                // something is, the claim was lost, and a create that is sent again is a replay all the same.
                if live.values().all(|instance| instance.lease.as_ref() != Some(lease)) {
                    sent.retain(|(earlier, _)| earlier != lease);
                }
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

    fn gone(instance: u64) -> Happening {
        Happening::Destroyed { instance, by: None }
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
            gone(1),
            Happening::Unclaimed { lease: "a".into() },
            Happening::Settled { left: 0 },
        ]);
        assert!(verdict.is_clean(), "{verdict:?}");
    }

    #[test]
    fn each_broken_promise_is_counted() {
        let leak = of(vec![claim("a", None), created(1, "a", 0.9, true)]);
        assert_eq!(leak, Verdict { leaked: 1, ..Verdict::default() });
        let unclaimed = of(vec![created(1, "a", 0.9, false), gone(1)]);
        assert_eq!(unclaimed, Verdict { lost_claims: 1, ..Verdict::default() });
        let forgotten = of(vec![
            claim("a", None),
            created(1, "a", 0.9, true),
            Happening::Unclaimed { lease: "a".into() },
            gone(1),
        ]);
        assert_eq!(forgotten, Verdict { lost_claims: 1, ..Verdict::default() });
        let dear = of(vec![
            claim("a", None),
            created(1, "a", 0.9, true),
            Happening::Repriced { instance: 1, price: 2.0 },
            Happening::PriceShown { process: 0, instance: 1, price: 2.0 },
            Happening::Ready { process: 0, instance: 1 },
            gone(1),
        ]);
        assert_eq!(dear, Verdict { over_cap_seconds: 1, ..Verdict::default() });
        let twice = of(vec![
            claim("a", None),
            created(1, "a", 0.9, true),
            created(2, "a", 0.9, true),
            gone(1),
            gone(2),
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

    /// A rise counts once the process that hands the lease over was shown it, or had the time to be.
    #[test]
    fn a_price_that_nobody_could_have_seen_is_excused_for_a_while() {
        let raised = |shown: Option<Happening>, later: u64| {
            let mut history = history(vec![
                claim("a", None),
                created(1, "a", 0.9, true),
                Happening::Repriced { instance: 1, price: 2.0 },
            ]);
            let ready = Duration::from_secs(2 + later);
            shown.into_iter().for_each(|shown| history.push(ready, shown));
            history.push(ready, Happening::Ready { process: 0, instance: 1 });
            history.push(ready + Duration::from_secs(5), gone(1));
            judge(&history, &BTreeSet::new(), 1.0).over_cap_seconds
        };
        let shown = |process, price| Some(Happening::PriceShown { process, instance: 1, price });
        assert_eq!(raised(None, 1), 0);
        assert_eq!(raised(None, 14), 0);
        assert_eq!(raised(None, 15), 5);
        assert_eq!(raised(shown(0, 2.0), 1), 5);
        // What another process saw, this one did not; an old price is none that is above the cap.
        assert_eq!(raised(shown(1, 2.0), 1), 0);
        assert_eq!(raised(shown(0, 0.9), 1), 0);
    }

    /// A create that is sent again after its lease was settled is a new one, and after its claim was lost a replay.
    #[test]
    fn a_lease_that_left_nothing_may_be_begun_anew() {
        let sent = || Happening::CreateSent { process: 0, lease: Some("a".into()), ask: 3 };
        let unclaimed = || Happening::Unclaimed { lease: "a".into() };
        assert_eq!(of(vec![sent(), unclaimed(), sent()]).double_creates, 0);
        let lost = of(vec![sent(), created(1, "a", 0.9, true), unclaimed(), sent(), gone(1)]);
        assert_eq!((lost.double_creates, lost.lost_claims), (1, 1));
    }

    #[test]
    fn what_somebody_needs_is_not_to_be_taken() {
        let ends = |before: Vec<Happening>, end: Happening| {
            let mut events = vec![
                Happening::CreateSent { process: 0, lease: Some("a".into()), ask: 3 },
                claim("a", None),
                created(1, "a", 0.9, true),
                claim("a", Some(1)),
                Happening::Ready { process: 0, instance: 1 },
            ];
            events.extend(before);
            events.extend([end, gone(1)]);
            of(events).taken
        };
        let destroyed = |by| Happening::Destroyed { instance: 1, by: Some(by) };
        let stopped = |by| Happening::Stopped { instance: 1, by };
        let promised = |stay| Happening::Promised { lease: "a".into(), stays: Some(stay) };
        let working = || Happening::InUse { process: 4, instance: 1 };
        let asked = |destroy| Happening::Asked { process: 2, lease: "a".into(), destroy };
        let minute = Stay::Until(Duration::from_secs(60));
        // A process that works on it, and a claim that says that it stays.
        assert_eq!(ends(vec![working()], destroyed(2)), 1);
        assert_eq!(ends(vec![working()], stopped(2)), 1);
        assert_eq!(ends(vec![promised(Stay::Kept)], destroyed(2)), 1);
        assert_eq!(ends(vec![promised(minute)], destroyed(2)), 1);
        // Asked to be stopped is not asked to be destroyed.
        assert_eq!(ends(vec![promised(Stay::Kept), asked(false)], destroyed(2)), 1);
        assert_eq!(ends(vec![promised(Stay::Kept), asked(false)], stopped(2)), 0);
        assert_eq!(ends(vec![working(), asked(true)], destroyed(2)), 0);
        // Expired, dead, done, its own.
        assert_eq!(ends(vec![promised(Stay::Until(Duration::from_secs(5)))], destroyed(2)), 0);
        let died = Happening::Died { process: 4, step: 1, death: Death::Kill };
        assert_eq!(ends(vec![working(), died], destroyed(2)), 0);
        let ended = Happening::Ended { process: 4, outcome: "ok".into() };
        assert_eq!(ends(vec![working(), ended], destroyed(2)), 0);
        assert_eq!(ends(vec![promised(Stay::Kept)], destroyed(0)), 0);
        // A clock that was set back excuses what seems to be over, not what is kept.
        assert_eq!(ends(vec![Happening::ClockJumped(-1), promised(minute)], destroyed(2)), 0);
        assert_eq!(ends(vec![Happening::ClockJumped(-1), promised(Stay::Kept)], destroyed(2)), 1);
    }
}

//! The judge: reads a history from beginning to end and counts what must not be.
//!
//! It knows nothing of the engine. What it counts follows from the promises alone.

use crate::history::{Death, Happening, History, Stay};
use crate::stage::Limits;
use crate::users::Users;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// A raised price that no read of the process that hands the lease over has shown is nobody's fault for so long. A start
/// reads the instance every 5 s by each of two ways, paced; a handshake that began before the raise has 10 s at most.
/// What is older had its turn and was missed.
const UNSEEN: Duration = Duration::from_secs(15);

/// How long whoever brings up a machine may take to ask for its end, once it was shown that it is too dear.
const GRACE: Duration = Duration::from_secs(60);

/// Prices are compared with this much tolerance, $/h.
const ROUNDING: f64 = 1e-9;

/// The counts; all are zero where every promise was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Instances of ours that bill on after the clean-up, and those that run on then although their start or their
    /// acquire came to nothing, or a destroy of them was sent, or asked for by a user.
    pub leaked: u64,
    /// Foreign instances that somebody of ours asked to change.
    pub foreign: u64,
    /// Leases with two live instances, and creates that were sent twice.
    pub double_creates: u64,
    /// Live instances to which no durable claim led, at the create or at any moment later.
    pub lost_claims: u64,
    /// Seconds in which a lease was in use, or was rented, at a price above the cap, on other terms than asked for, or
    /// beyond what it or a day may cost.
    pub over_cap_seconds: u64,
    /// Secrets seen outside the key folder.
    pub secrets: u64,
    /// Clean-ups that did not come to an end: claims that no command could clear.
    pub unsettled: u64,
    /// Machines that a process of ours took from somebody who still needed them.
    pub taken: u64,
    /// Times that a process said of a machine that bills that it is gone, or never was.
    pub false_proofs: u64,
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
        self.false_proofs += other.false_proofs;
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

/// A machine of ours that bills.
#[derive(Default)]
pub(crate) struct Live {
    pub lease: Option<String>,
    /// Who created it.
    pub creator: Option<usize>,
    /// When.
    created: Duration,
    /// What it costs in a day at most, at the price it was rented for.
    day_cost: f64,
    /// What it may cost, $, and in how many hours.
    may_cost: Option<(f64, f64)>,
    /// Its price, $/h, since when it costs that, and what it had cost until then, $.
    price: f64,
    priced: Duration,
    spent: f64,
    /// When the first machine of its lease was created.
    since: Duration,
    /// It was rented on other terms than it was asked for.
    pub unfit: bool,
    /// When its price went above the cap, and who was shown it since.
    raised: Option<Duration>,
    shown: BTreeSet<usize>,
    /// Who looked since, and was shown no price.
    hidden: BTreeSet<usize>,
    /// Who is bringing it up although it was shown the price, and since when.
    unwanted: BTreeMap<usize, Duration>,
    /// Since when it bills above the cap without an excuse.
    over_since: Option<Duration>,
    /// Who handed it over as usable.
    pub handed_over: Option<usize>,
    /// Whether another process than the one that rented it did so since: it is not the first one's to end any more.
    pub taken_over: bool,
    /// Whether somebody else than the process that rented it got in, or took it over.
    pub joined: bool,
    /// Whether somebody was about to use it, or to take it over, who may have died over that: half of it may have been one.
    entered: bool,
    /// Who is to end it, unless somebody has used it since.
    doom: Doom,
    /// Its claim was removed by hand, and nobody has adopted it to the end since.
    disowned: bool,
    lost: bool,
}

/// Who last set out to destroy a machine.
#[derive(Default)]
struct Doom {
    /// By a destroy that was sent, and is on record.
    sent: Option<usize>,
    /// By one that was sent while another process had the lease's lock: it is to be on record once that one is done.
    beside: Option<usize>,
    /// As its user asked, who may have died before that: it was to be on record once the API was asked anything.
    asked: Option<usize>,
}

/// Judges a history. `foreign` are the instances that were there before; `cap` is the most a lease may cost, $/h.
#[must_use]
pub fn judge(history: &History, foreign: &BTreeSet<u64>, cap: f64) -> Verdict {
    let mut judge = Judge { cap, foreign: foreign.clone(), ..Judge::default() };
    let mut end = Duration::ZERO;
    for (at, happening) in history.events() {
        end = *at;
        judge.hear(*at, happening);
    }
    for mut left in std::mem::take(&mut judge.live).into_values() {
        judge.verdict.leaked += 1;
        judge.verdict.over_cap_seconds += left.stop_counting(end);
    }
    judge.verdict
}

/// What is known at a moment of a history.
#[derive(Default)]
struct Judge<'a> {
    verdict: Verdict,
    cap: f64,
    foreign: BTreeSet<u64>,
    live: BTreeMap<u64, Live>,
    claims: BTreeMap<&'a str, Option<u64>>,
    /// Creates that were sent, by lease and offer, and who sent the last one of each lease.
    sent: BTreeSet<(&'a str, u64)>,
    senders: BTreeMap<&'a str, usize>,
    adopters: BTreeSet<usize>,
    /// Processes whose operation ended with an error.
    failed: BTreeSet<usize>,
    /// Processes that died.
    dead: BTreeSet<usize>,
    /// Processes to which the disk refused something: not all that they set out to do is on record.
    refused: BTreeSet<usize>,
    /// Processes that make use of a lease, by which they call off what was to end it, and what they do.
    users_of_leases: BTreeMap<usize, &'a str>,
    /// For how many hours of a day what a process rents lives at most, and what it may cost.
    spends: BTreeMap<usize, (f64, Limits)>,
    /// When the first machine of a lease was created, by whom, and what those that are gone have cost, $.
    past: BTreeMap<(usize, Option<String>), (Duration, f64)>,
    /// When each process began to speak of gone machines.
    began: BTreeMap<usize, Duration>,
    users: Users<'a>,
}

impl<'a> Judge<'a> {
    fn hear(&mut self, at: Duration, happening: &'a Happening) {
        self.hear_of_money(at, happening);
        if let Happening::Ended { process, outcome } = happening
            && outcome != "ok"
        {
            self.failed.insert(*process);
            for live in self.live.values_mut().filter(|live| live.doom.beside == Some(*process)) {
                let lease = live.lease.as_deref().unwrap_or_default();
                if !self.users.is_held_by_another(lease, *process) {
                    live.doom.sent = live.doom.beside;
                }
            }
        }
        if let Happening::Called { process, .. } = happening
            && let Some((lease, destroy)) =
                self.users.wish(*process).filter(|_| !self.refused.contains(process))
        {
            let of_lease = self.live.values_mut().filter(|live| live.lease.as_deref() == Some(lease));
            of_lease.for_each(|live| match destroy {
                true => live.doom.asked = Some(*process),
                // The last word counts: this one wants its disk to stay.
                false => live.doom = Doom::default(),
            });
        }
        match happening {
            Happening::DiskFault { process, .. } => {
                self.refused.insert(*process);
            }
            Happening::Died { process, death: Death::Kill, .. } => {
                self.dead.insert(*process);
            }
            Happening::Died { death: Death::PowerCut, .. } => self.dead.extend(self.users.living()),
            Happening::CreateSent { lease: Some(lease), ask, process } => {
                // One create per offer and lease: a second one is a replay.
                self.verdict.double_creates += u64::from(!self.sent.insert((lease, *ask)));
                self.senders.insert(lease, *process);
            }
            Happening::Created { instance, lease, price, claimed, .. } => {
                let twin = lease.is_some() && self.live.values().any(|other| other.lease == *lease);
                self.verdict.double_creates += u64::from(twin);
                self.verdict.lost_claims += u64::from(!claimed);
                let creator = lease.as_deref().and_then(|lease| self.senders.get(lease)).copied();
                let spends = creator.and_then(|creator| self.spends.get(&creator));
                let (hours, limits) = spends.copied().unwrap_or((24.0, Limits::default()));
                let day_cost = price * hours;
                let others = self.live.values().filter(|other| !other.disowned).map(|other| other.day_cost);
                let day = day_cost + others.sum::<f64>();
                // What the lease has cost on machines before this one, and since when its time is used up.
                let before = creator.and_then(|creator| self.past.get(&(creator, lease.clone()))).copied();
                let (since, spent) = before.unwrap_or((at, 0.0));
                let beyond = limits.day.is_some_and(|limit| day > limit + ROUNDING);
                let mut new = Live {
                    day_cost,
                    may_cost: limits.lease.map(|limit| (limit, hours)),
                    price: *price,
                    priced: at,
                    since,
                    spent,
                    lease: lease.clone(),
                    creator,
                    created: at,
                    lost: !claimed,
                    ..Live::default()
                };
                new.raised = new.is_above(at, *price, self.cap).then_some(at);
                new.over_since = new.raised.or(beyond.then_some(at));
                self.live.insert(*instance, new);
            }
            Happening::Spends { process, hours, limits } => {
                self.spends.insert(*process, (*hours, *limits));
            }
            Happening::Runs { instance } => {
                let Some(live) = self.live.get(instance) else { return };
                let lease = live.lease.as_deref().unwrap_or_default();
                let (unwanted, promise) = (self.users.is_to_be_stopped(lease), self.users.promise(lease));
                // Whoever says that an acquire failed has left nothing of it, unless somebody else has it. What one left
                // that died is gone by now, unless its claim had said by then that it may be used.
                let is = |of: &BTreeSet<usize>, one: Option<usize>| one.is_some_and(|one| of.contains(&one));
                let left =
                    is(&self.failed, live.creator) || is(&self.dead, live.creator) && promise.is_none();
                let orphaned = left && live.handed_over.is_none() && !live.joined;
                // That it was stopped to be kept no acquire writes.
                let paused = promise == Some(Stay::Disk);
                let nobodys = (unwanted || orphaned && !paused) && !live.entered;
                // A destroy that nobody came to the end of is finished, unless somebody uses the machine.
                let Doom { sent, asked, .. } = live.doom;
                let unfinished = is(&self.failed, sent) || is(&self.dead, sent) || is(&self.dead, asked);
                self.verdict.leaked += u64::from(nobodys || unfinished && !paused);
            }
            Happening::Uses { lease, process } if self.adopters.contains(process) => {
                let taken = self.live.values_mut().filter(|live| live.lease.as_ref() == Some(lease));
                taken.for_each(|live| live.entered = true);
            }
            Happening::Holds { process, lease } if self.users_of_leases.contains_key(process) => {
                let enters = self.users_of_leases.get(process) == Some(&"RunOn");
                let used = self.live.values_mut().filter(|live| live.lease.as_ref() == Some(lease));
                used.for_each(|live| (live.entered, live.doom) = (live.entered || enters, Doom::default()));
            }
            // It was handed over although its destroy had been sent.
            Happening::Ready { instance, .. } => {
                self.live.entry(*instance).and_modify(|live| live.doom = Doom::default());
            }
            Happening::UsedByCrabbox { lease } | Happening::Adopted { lease } => {
                let used = self.live.values_mut().filter(|live| live.lease.as_ref() == Some(lease));
                used.for_each(|live| (live.joined, live.doom) = (true, Doom::default()));
            }
            Happening::Unrecorded { .. } => self.verdict.lost_claims += 1,
            Happening::Misarmed { ends: false, .. } => self.verdict.leaked += 1,
            Happening::Misarmed { ends: true, .. } => self.verdict.taken += 1,
            Happening::Began { process, what } => {
                self.began.insert(*process, at);
                if what == "Adopt" {
                    self.adopters.insert(*process);
                }
                if matches!(what.as_str(), "Adopt" | "RunOn" | "Start" | "Touch") {
                    self.users_of_leases.insert(*process, what);
                }
            }
            Happening::Ended { process, outcome } if self.adopters.contains(process) && outcome == "ok" => {
                // From here on a claim has to lead to it.
                for instance in self.live.values_mut().filter(|instance| instance.disowned) {
                    (instance.disowned, instance.lost) = (false, false);
                }
            }
            Happening::Asked { process, .. } => {
                self.began.insert(*process, at);
            }
            Happening::SaidGone { process, lease, instance } => {
                let began = self.began.get(process).copied().unwrap_or_default();
                // What others rented for the lease while it was looked at is none that was said to be gone.
                let is_meant = |id: u64, live: &Live| match instance {
                    Some(instance) => id == *instance,
                    None => live.lease.as_ref() == Some(lease) && live.created < began && !live.disowned,
                };
                let lie = self.live.iter().any(|(id, live)| is_meant(*id, live));
                self.verdict.false_proofs += u64::from(lie);
            }
            Happening::Stopped { instance, by } => {
                if let Some(stopped) = self.live.get(instance) {
                    let taken = self.users.need(*instance, stopped, *by, false, at);
                    self.verdict.taken += u64::from(taken);
                    stopped.lease.iter().for_each(|lease| self.users.stopped(lease));
                }
            }
            Happening::Destroyed { instance, by } => {
                if let Some(gone) = self.live.remove(instance) {
                    if let Some(creator) = gone.creator {
                        self.past.insert((creator, gone.lease.clone()), (gone.since, gone.spent_by(at)));
                    }
                    let taken = by.is_some_and(|by| self.users.need(*instance, &gone, by, true, at));
                    self.verdict.taken += u64::from(taken);
                }
            }
            Happening::Called { instance: Some(instance), method, process, path, .. } => {
                self.verdict.foreign += u64::from(self.foreign.contains(instance));
                // An acquire that gives its machine up may still find that somebody else has it.
                let spares = |live: &&mut Live| live.joined && live.creator == Some(*process);
                let destroys = *method == "DELETE" && !path.contains("/ssh/");
                let live = self.live.get_mut(instance).filter(|_| destroys);
                if let Some(live) = live.filter(|live| !spares(live)) {
                    let lease = live.lease.as_deref().unwrap_or_default();
                    let beside = self.users.is_held_by_another(lease, *process);
                    *(if beside { &mut live.doom.beside } else { &mut live.doom.sent }) = Some(*process);
                }
            }
            Happening::ForeignChanged { instance } => {
                self.verdict.foreign += u64::from(self.foreign.contains(instance));
            }
            Happening::Trespassed { .. } => self.verdict.foreign += 1,
            Happening::Foreign { instance } => {
                self.foreign.insert(*instance);
            }
            Happening::Disowned { instance } => {
                // Not ours to touch until somebody adopts it, and no claim that leads to it was lost.
                self.foreign.insert(*instance);
                if let Some(instance) = self.live.get_mut(instance) {
                    (instance.disowned, instance.lost) = (true, true);
                }
            }
            Happening::Claim { lease, instance } => {
                self.claims.insert(lease, *instance);
                if let Some(instance) = instance.filter(|instance| self.live.contains_key(instance)) {
                    self.foreign.remove(&instance);
                }
            }
            Happening::Unclaimed { lease } => {
                self.claims.remove(lease.as_str());
                // An adoption that failed, or was lost with the power, has changed nothing.
                let of_nobody = |one: &(&u64, &Live)| one.1.disowned && one.1.lease.as_ref() == Some(lease);
                self.foreign.extend(self.live.iter().filter(of_nobody).map(|(number, _)| *number));
                // Where nothing of the lease is left, an acquire that is made again under its id begins anew. Where
                // something is, the claim was lost, and a create that is sent again is a replay all the same.
                if self.live.values().all(|instance| instance.lease.as_ref() != Some(lease)) {
                    self.sent.retain(|(earlier, _)| earlier != lease);
                }
            }
            Happening::InUse { instance, process } => {
                if let Some(used) = self.live.get_mut(instance) {
                    used.joined |= used.creator != Some(*process);
                    used.doom = Doom::default();
                    used.lease.iter().for_each(|lease| self.users.used(lease));
                }
            }
            Happening::Secret { .. } => self.verdict.secrets += 1,
            Happening::Settled { left } => self.verdict.unsettled += *left as u64,
            _ => {}
        }
        self.users.note(happening);
        if matches!(
            happening,
            Happening::Claim { .. } | Happening::Unclaimed { .. } | Happening::Created { .. }
        ) {
            self.verdict.lost_claims += mark_lost(&mut self.live, &self.claims);
        }
    }

    /// What a lease may cost, before anything else is made of what happens.
    fn hear_of_money(&mut self, at: Duration, happening: &Happening) {
        let cap = self.cap;
        match happening {
            Happening::Unfit { instance } => {
                if let Some(instance) = self.live.get_mut(instance) {
                    instance.unfit = true;
                }
            }
            Happening::Repriced { instance, price } => {
                let Some(instance) = self.live.get_mut(instance) else { return };
                let above = instance.is_above(at, *price, cap);
                if !above {
                    self.verdict.over_cap_seconds += instance.stop_counting(at);
                }
                instance.raised = above.then(|| instance.raised.unwrap_or(at));
                instance.reprice(at, *price);
                instance.shown.clear();
                instance.hidden.clear();
            }
            Happening::PriceHidden { process, instance } => {
                let Some(instance) = self.live.get_mut(instance) else { return };
                instance.hidden.insert(*process);
            }
            Happening::PriceShown { process, instance, price } => {
                let Some(instance) = self.live.get_mut(instance) else { return };
                if !instance.is_above(at, *price, cap) {
                    return;
                }
                instance.shown.insert(*process);
                if self.users.brings_up(*process, instance) {
                    instance.unwanted.entry(*process).or_insert(at);
                }
            }
            Happening::Ready { instance, process } => {
                let Some(instance) = self.live.get_mut(instance) else { return };
                instance.lease.iter().for_each(|lease| self.users.used(lease));
                instance.handed_over.get_or_insert(*process);
                instance.taken_over |= instance.creator != Some(*process);
                instance.unwanted.remove(process);
                // A price that rises before the lease is handed over has to be noticed, if it could be; later ones are
                // the vendor's.
                let known = |since| {
                    let looked = instance.hidden.contains(process);
                    instance.shown.contains(process) || (at - since >= UNSEEN && !looked)
                };
                if instance.unfit || instance.raised.is_some_and(known) {
                    instance.over_since.get_or_insert(at);
                }
            }
            // Whoever will not have it has asked for its end; whether that is granted is another matter.
            Happening::Called { method: "DELETE", instance: Some(instance), path, .. }
                if !path.contains("/ssh/") =>
            {
                if let Some(instance) = self.live.get_mut(instance) {
                    self.verdict.over_cap_seconds += instance.give_up(at);
                }
            }
            Happening::Stopped { instance, .. } | Happening::Destroyed { instance, .. } => {
                if let Some(instance) = self.live.get_mut(instance) {
                    self.verdict.over_cap_seconds += instance.stop_counting(at);
                }
            }
            Happening::Died { process, .. } | Happening::Ended { process, .. } => {
                for instance in self.live.values_mut() {
                    let since = instance.unwanted.remove(process);
                    self.verdict.over_cap_seconds += since.map_or(0, |since| seconds(since + GRACE, at));
                }
            }
            _ => {}
        }
    }
}

impl Live {
    /// Whether this process was shown that it costs more than it may.
    pub(crate) fn is_too_dear_for(&self, process: usize) -> bool {
        self.raised.is_some() && self.shown.contains(&process)
    }

    /// Whether it would be too dear at this price: above the cap, or in the rest of its time beyond what it may cost.
    fn is_above(&self, at: Duration, price: f64, cap: f64) -> bool {
        let lived = hours(self.since, at);
        let beyond = self.may_cost.is_some_and(|(limit, hours)| {
            self.spent_by(at) + price * (hours - lived).max(0.0) > limit + ROUNDING
        });
        price > cap + ROUNDING || beyond
    }

    /// What it has cost so far, $.
    fn spent_by(&self, at: Duration) -> f64 {
        self.spent + self.price * hours(self.priced, at)
    }

    /// It costs this from now on.
    fn reprice(&mut self, at: Duration, price: f64) {
        (self.spent, self.price, self.priced) = (self.spent_by(at), price, at);
    }

    /// Nobody keeps what is too dear any more: the seconds in which somebody did, beyond a minute's grace.
    fn give_up(&mut self, at: Duration) -> u64 {
        let longest = std::mem::take(&mut self.unwanted).into_values().min();
        longest.map_or(0, |since| seconds(since + GRACE, at))
    }

    /// It bills no more, or what it may: the seconds above the cap.
    fn stop_counting(&mut self, at: Duration) -> u64 {
        let kept = self.give_up(at);
        self.over_since.take().map_or(kept, |since| seconds(since, at))
    }
}

fn hours(since: Duration, until: Duration) -> f64 {
    until.saturating_sub(since).as_secs_f64() / 3600.0
}

/// Begun seconds.
fn seconds(since: Duration, until: Duration) -> u64 {
    until.saturating_sub(since).as_secs_f64().ceil() as u64
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

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "users_tests.rs"]
mod users_tests;

#[cfg(test)]
#[path = "leaks_tests.rs"]
mod leaks_tests;

//! Who needs a machine at a moment: what a process of ours may not take away from somebody else.

use crate::checker::Live;
use crate::history::{Death, Happening, Stay};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Whose a machine is at a moment.
#[derive(Default)]
pub(crate) struct Users<'a> {
    /// What each living process does that has begun an operation.
    living: BTreeMap<usize, &'a str>,
    /// The machine that each living process works on.
    working: BTreeMap<usize, u64>,
    /// The lease that each living process starts, adopts or touches.
    using: BTreeMap<usize, &'a str>,
    /// The lease that each process sent a start of and did not hand over yet: a start that comes to nothing is taken back.
    starting: BTreeMap<usize, &'a str>,
    /// The leases of which each living process has the lock.
    holding: BTreeSet<(usize, &'a str)>,
    /// Leases whose claim promises their user a machine, and how far off the clock was that the promise was dated by.
    promised: BTreeMap<&'a str, (Stay, i64)>,
    /// Leases whose start came to nothing, so that their machines are to be stopped, until somebody uses them.
    given_back: BTreeSet<&'a str>,
    /// Leases whose machines were stopped since the last start of them.
    halted: BTreeSet<&'a str>,
    /// Leases that users asked to end: by which process, and whether their machines were to be destroyed.
    asked: BTreeMap<&'a str, Vec<(usize, bool)>>,
    /// Processes that go on with a lease under its id.
    acquires: BTreeSet<(usize, &'a str)>,
    /// Processes that acquired for a run of their own.
    runs: BTreeSet<usize>,
    /// How far off the clock is, milliseconds.
    jump: i64,
}

impl<'a> Users<'a> {
    /// Takes note of what changes who needs what.
    pub(crate) fn note(&mut self, happening: &'a Happening) {
        if let Happening::Called { process, .. } = happening {
            self.heard(*process);
        }
        match happening {
            Happening::Began { process, what } => {
                self.living.insert(*process, what);
                if what == "Run" {
                    self.runs.insert(*process);
                }
            }
            Happening::Ended { process, .. } => self.end(*process),
            Happening::Died { death: Death::PowerCut, .. } => {
                let living: Vec<usize> = self.living.keys().copied().collect();
                living.into_iter().for_each(|process| self.give_back(process));
                self.living.clear();
                self.working.clear();
                self.using.clear();
                self.holding.clear();
            }
            Happening::Died { process, .. } => self.end(*process),
            Happening::Acquires { process, lease } => {
                self.acquires.insert((*process, lease));
            }
            Happening::Uses { process, lease } => {
                self.using.insert(*process, lease);
            }
            Happening::Holds { process, lease } => {
                self.holding.insert((*process, lease));
            }
            Happening::Called { process, method: "PUT", instance: Some(_), .. } => {
                let starts = self.living.get(process) == Some(&"Start");
                if let Some(lease) = self.using.get(process).copied().filter(|_| starts)
                    && self.holding.contains(&(*process, lease))
                {
                    self.starting.insert(*process, lease);
                    self.halted.remove(lease);
                }
            }
            Happening::InUse { process, instance } => {
                self.working.insert(*process, *instance);
            }
            Happening::Ready { process, instance } if self.runs.contains(process) => {
                self.working.insert(*process, *instance);
            }
            Happening::Promised { lease, stays } => {
                match stays {
                    Some(stay) => self.promised.insert(lease, (*stay, self.jump)),
                    None => self.promised.remove(lease.as_str()),
                };
            }
            Happening::Asked { process, lease, destroy } => {
                self.asked.entry(lease).or_default().push((*process, *destroy));
            }
            // What a user asked of us is still asked for: crabbox did not hear of it.
            Happening::UsedByCrabbox { lease } => self.started(lease),
            Happening::ClockJumped(by) => self.jump += *by,
            _ => {}
        }
    }

    /// A process calls the API: what its user asked of it is on record, and replaces what was asked of those that are dead or
    /// done.
    fn heard(&mut self, process: usize) {
        let wish = self.wish(process);
        if let Some(asked) = wish.and_then(|(lease, _)| self.asked.get_mut(lease)) {
            asked.retain(|(other, _)| *other == process || self.living.contains_key(other));
        }
    }

    /// A process is no more: what it began to start and did not hand over is to be stopped.
    fn give_back(&mut self, process: usize) {
        if let Some(lease) = self.starting.remove(&process) {
            self.given_back.insert(lease);
        }
    }

    /// Every start of a lease came to its end: somebody got in.
    fn started(&mut self, lease: &str) {
        self.given_back.remove(lease);
        self.starting.retain(|_, starting| *starting != lease);
    }

    /// Somebody uses a lease: what was asked of a process that is dead or done, or left undone by one, means it no more.
    pub(crate) fn used(&mut self, lease: &str) {
        self.started(lease);
        if let Some(asked) = self.asked.get_mut(lease) {
            asked.retain(|(process, _)| self.living.contains_key(process));
        }
    }

    fn end(&mut self, process: usize) {
        self.give_back(process);
        self.living.remove(&process);
        self.working.remove(&process);
        self.using.remove(&process);
        self.holding.retain(|(holder, _)| *holder != process);
    }

    /// What the claim of a lease promises its user; nothing where it does not say that commands run on it, nor that it was
    /// stopped to be kept.
    pub(crate) fn promise(&self, lease: &str) -> Option<Stay> {
        self.promised.get(lease).map(|(stay, _)| *stay)
    }

    /// The processes that are at work.
    pub(crate) fn living(&self) -> impl Iterator<Item = usize> {
        self.living.keys().copied()
    }

    /// Whether another process has the lock of this lease.
    pub(crate) fn is_held_by_another(&self, lease: &str, process: usize) -> bool {
        let holds = |one: &usize| self.holding.contains(&(*one, lease));
        !holds(&process) && self.living.keys().any(holds)
    }

    /// The lease whose end this process was asked for and of which it has the lock, and whether its machine is to be
    /// destroyed.
    pub(crate) fn wish(&self, process: usize) -> Option<(&'a str, bool)> {
        let held = self.holding.iter().filter(|(holder, _)| *holder == process);
        let asked = |lease: &str| self.asked.get(lease)?.iter().find(|(asked, _)| *asked == process);
        held.filter_map(|(_, lease)| asked(lease).map(|(_, destroy)| (*lease, *destroy))).next()
    }

    /// The machine of a lease was stopped. Its record may take long to show that.
    pub(crate) fn stopped(&mut self, lease: &str) {
        self.halted.extend(self.given_back.get(lease).or(self.starting.values().find(|one| **one == lease)));
    }

    /// Whether the machine of a lease is still to be stopped: its start came to nothing, nobody used it since, and its claim
    /// does not say that commands run on it either.
    pub(crate) fn is_to_be_stopped(&self, lease: &str) -> bool {
        let runs = matches!(self.promised.get(lease), Some((Stay::Kept | Stay::Until(_), _)));
        self.given_back.contains(lease) && !runs && !self.halted.contains(lease)
    }

    /// Whether this process is about to hand this machine over: it rented it, goes on with its lease, or starts it.
    pub(crate) fn brings_up(&self, process: usize, live: &Live) -> bool {
        let lease = live.lease.as_deref().unwrap_or_default();
        let own = live.creator == Some(process)
            || self.acquires.contains(&(process, lease))
            || self.using.get(&process) == Some(&lease);
        own && self
            .living
            .get(&process)
            .is_some_and(|what| matches!(*what, "Acquire" | "Run" | "Again" | "Start"))
    }

    /// Whether this process may not end this machine now, because somebody else needs it.
    pub(crate) fn need(&self, instance: u64, live: &Live, by: usize, destroys: bool, now: Duration) -> bool {
        let lease = live.lease.as_deref().unwrap_or_default();
        let asked = self.asked.get(lease);
        let asked = asked.is_some_and(|asked| asked.iter().any(|(_, destroy)| *destroy || !destroys));
        // Whoever rented it, or brought on what another was cut off at, may give it up - unless somebody got in meanwhile whom
        // neither the price nor the end of the run that it was rented for sends away.
        let goes = self.runs.contains(&by) || live.is_too_dear_for(by) || live.unfit;
        let rented = live.creator == Some(by)
            || (self.acquires.contains(&(by, lease)) && live.handed_over.is_none_or(|process| process == by));
        let own = rented && (!live.joined || goes);
        // Whoever starts what has become too dear meanwhile stops it again, whoever uses it.
        let too_dear = !destroys && live.is_too_dear_for(by) && self.brings_up(by, live);
        if asked || own || too_dear {
            return false;
        }
        let is_kept = match self.promised.get(lease) {
            Some((Stay::Kept, _)) => true,
            Some((Stay::Disk, _)) => destroys,
            Some((Stay::Until(end), jump)) => {
                // A date that was written while the clock was behind comes so much too early, once it is right again.
                let early = u64::try_from((self.jump.min(0) - jump).max(0)).unwrap_or(0);
                now + Duration::from_millis(early) < *end
            }
            None => false,
        };
        if self.working.iter().any(|(process, machine)| *process != by && *machine == instance) {
            return true;
        }
        if self.given_back.contains(lease) && !destroys {
            return false;
        }
        let uses = |(process, used): (&usize, &&str)| {
            let counts = match self.living.get(process).copied() {
                // A touch that has not been written yet saves nothing whose time is over.
                Some("Touch") => is_kept,
                // Neither has it before its lock. An adoption of what has its claim already renews nothing; a start renews
                // what is over once it has it.
                Some("Adopt" | "Start") => {
                    self.holding.contains(&(*process, lease))
                        && (is_kept || !self.promised.contains_key(lease))
                }
                _ => true,
            };
            *process != by && *used == lease && counts
        };
        if self.using.iter().any(uses) {
            return true;
        }
        match live.creator {
            // It is being brought up, or what it was rented for goes on.
            Some(creator) if creator != by && self.living.contains_key(&creator) => true,
            // What a run rented for itself goes with it.
            Some(creator) if self.runs.contains(&creator) && !live.taken_over => false,
            _ => is_kept,
        }
    }
}

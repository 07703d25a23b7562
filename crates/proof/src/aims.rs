//! Aims: what a plan means to go wrong, and whether it did. A case that misses shows nothing.

use crate::history::{Happening, History};
use crate::plan::{Actor, Plan};
use std::ops::Range;

/// The kinds of things that a plan wants to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Processes that die.
    Death,
    /// Processes to which the disk does something.
    Disk,
    /// Processes to which SSH does something.
    Ssh,
    /// Rules for calls.
    Call,
    /// Quirks of a create.
    Quirk,
    /// What happens on its own.
    Act,
}

impl Target {
    /// Every kind.
    pub const ALL: [Target; 6] =
        [Target::Death, Target::Disk, Target::Ssh, Target::Call, Target::Quirk, Target::Act];

    /// A name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Target::Death => "deaths",
            Target::Disk => "faults of the disk",
            Target::Ssh => "faults of SSH",
            Target::Call => "faults of calls",
            Target::Quirk => "quirks",
            Target::Act => "acts",
        }
    }
}

/// How much of one kind was planned, and how much of it happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aim {
    /// How many of them are planned.
    pub planned: usize,
    /// How many happened.
    pub met: usize,
}

/// What was planned and what of it happened, for each kind in the order of [`Target::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aims([Aim; 6]);

impl Aims {
    /// Of this kind.
    #[must_use]
    pub fn of(&self, target: Target) -> Aim {
        self.0[target as usize]
    }

    /// Whether all of this kind happened.
    #[must_use]
    pub fn met(&self, target: Target) -> bool {
        self.of(target).met >= self.of(target).planned
    }

    /// Adds those of another run.
    pub fn add(&mut self, more: &Aims) {
        for (aim, more) in self.0.iter_mut().zip(more.0) {
            aim.planned += more.planned;
            aim.met += more.met.min(more.planned);
        }
    }
}

/// Compares a plan with what happened. `work` are the processes that the plan is about, `idle` the rules for calls that struck
/// none.
pub(crate) fn aims(plan: &Plan, history: &History, work: Range<usize>, idle: usize) -> Aims {
    let before_recovery = history.events().iter().map(|(_, event)| event);
    let events = || before_recovery.clone().take_while(|event| !matches!(event, Happening::Recovery));
    let processes = |of: fn(&Happening) -> Option<usize>| {
        let mut met: Vec<usize> = events().filter_map(of).filter(|process| work.contains(process)).collect();
        met.sort_unstable();
        met.dedup();
        met.len()
    };
    let planned = |wants: fn(&Actor) -> bool| plan.actors.iter().filter(|actor| wants(actor)).count();
    let died = processes(|event| match event {
        Happening::Died { process, .. } => Some(*process),
        _ => None,
    });
    let disk = processes(|event| match event {
        Happening::DiskFault { process, .. } => Some(*process),
        _ => None,
    });
    let ssh = processes(|event| match event {
        Happening::SshFault { process, .. } => Some(*process),
        _ => None,
    });
    let creates = events()
        .filter(|event| matches!(event, Happening::CreateSent { process, .. } if work.contains(process)));
    let quirk = usize::from(plan.quirk.is_some_and(|(nth, _)| creates.count() >= nth));
    let acts = events().filter(|event| matches!(event, Happening::Act(_))).count();
    Aims([
        Aim { planned: planned(|actor| actor.treatment.kill.is_some()), met: died },
        Aim { planned: planned(|actor| actor.treatment.disk.is_some()), met: disk },
        Aim { planned: planned(|actor| actor.treatment.ssh.is_some()), met: ssh },
        Aim { planned: plan.faults.len(), met: plan.faults.len().saturating_sub(idle) },
        Aim { planned: usize::from(plan.quirk.is_some()), met: quirk },
        Aim { planned: plan.acts.len(), met: acts },
    ])
}

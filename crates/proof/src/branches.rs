//! Branches that show only in the whole of a run: who was on the stage, and what followed on what.

use crate::acts;
use crate::aims::{Aims, Target};
use crate::history::{Happening, History};
use crate::life::Side;
use crate::plan::{Left, Operation, Plan};
use crate::seeds::CASTS;
use crate::vendor::Quirk;
use std::collections::{BTreeMap, BTreeSet};

/// The branches of a run that its plan and its history show.
pub(crate) fn branches(plan: &Plan, history: &History, aims: &Aims) -> BTreeSet<String> {
    let mut reached: BTreeSet<String> = plan.leases.iter().map(|left| left_of(*left)).collect();
    let here = plan.actors.iter().filter(|actor| actor.treatment.side != Side::Elsewhere);
    reached.insert(cast(&here.map(|actor| actor.operation).collect::<Vec<_>>()));
    reached.extend(plan.quirk.filter(|_| aims.of(Target::Quirk).met > 0).map(|(_, quirk)| quirk_of(quirk)));
    // Leases whose create has no answer yet, and who sent creates.
    let mut open = BTreeMap::new();
    let mut senders = BTreeSet::new();
    let mut replays = BTreeSet::new();
    let mut adoptions = BTreeSet::new();
    // Machines on which somebody has worked, and who.
    let mut joined = BTreeMap::new();
    let mut reach = |branch: &str| reached.insert(branch.to_owned());
    for (_, event) in history.events() {
        match event {
            Happening::Recovery => break,
            Happening::CreateSent { process, .. } => {
                senders.insert(*process);
            }
            Happening::Claim { lease, instance } => {
                open.insert(lease, instance.is_none());
            }
            Happening::Unclaimed { lease } => {
                open.remove(lease);
            }
            Happening::ClockJumped(_) if open.values().any(|open| *open) => {
                reach("the clock jumped while a create was open");
            }
            Happening::Acquires { process, .. } => {
                replays.insert(*process);
            }
            Happening::Ready { process, .. } if replays.contains(process) && !senders.contains(process) => {
                reach("a replay adopted what a call before it had rented");
            }
            Happening::InUse { process, instance } => {
                joined.insert(instance, *process);
            }
            Happening::Destroyed { instance, .. } => {
                joined.remove(instance);
            }
            Happening::Ended { process, outcome }
                if outcome != "ok"
                    && senders.contains(process)
                    && joined.values().any(|other| other != process) =>
            {
                reach("an acquire that failed left its machine to who had got in");
            }
            Happening::Began { process, what } if what == "Adopt" => {
                adoptions.insert(*process);
            }
            Happening::Ended { process, outcome } if outcome == "ok" && adoptions.contains(process) => {
                reach("an adoption was done");
            }
            _ => {}
        }
    }
    reached
}

fn quirk_of(quirk: Quirk) -> String {
    format!("quirk: {quirk:?}")
}

fn left_of(left: Left) -> String {
    let shown = format!("{left:?}");
    format!("left: {}", shown.split('(').next().unwrap_or_default())
}

fn cast(operations: &[Operation]) -> String {
    let names: Vec<String> = operations.iter().map(|operation| format!("{operation:?}")).collect();
    format!("cast: {}", names.join(" + "))
}

/// Every branch that follows from what a plan can be made of: each act, quirk, lease that is there, and cast.
#[must_use]
pub fn all() -> BTreeSet<String> {
    let acts = acts::KINDS.iter().map(|kind| kind.name.to_owned());
    let quirks = Quirk::ALL.into_iter().map(quirk_of);
    let leases = Left::ALL.into_iter().map(left_of);
    acts.chain(quirks).chain(leases).chain(CASTS.iter().map(|one| cast(one))).collect()
}

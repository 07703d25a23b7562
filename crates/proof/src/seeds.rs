//! From a seed to a plan: who works, how the vendor is, and what goes wrong.

use crate::acts::{self, Incident};
use crate::catalogue::kinds;
use crate::dice::Dice;
use crate::files::DiskFault;
use crate::history::Death;
use crate::life::{Kill, Side};
use crate::plan::{Actor, Left, Operation, Plan};
use crate::scenes::bounds;
use crate::ssh::SshFault;
use crate::stage::{CAP, Limits, Treatment};
use crate::vendor::{Act, Quirk, Vendor};
use crabbox_vast_sim::api::{Fault, Timing};
use std::time::Duration;

/// Who works side by side.
pub(crate) const CASTS: &[&[Operation]] = &[
    &[Operation::Acquire],
    &[Operation::Run],
    &[Operation::Run],
    &[Operation::Stop],
    &[Operation::Pause, Operation::Stop],
    &[Operation::Acquire, Operation::Acquire],
    &[Operation::Acquire, Operation::Stop],
    &[Operation::Run, Operation::Stop],
    &[Operation::Run, Operation::Run],
    &[Operation::Touch, Operation::Stop],
    &[Operation::Stop, Operation::Stop],
    &[Operation::RunOn, Operation::Stop],
    &[Operation::Look, Operation::Acquire, Operation::Stop],
    &[Operation::Acquire, Operation::Run, Operation::Stop],
    &[Operation::RunOn, Operation::Touch, Operation::Stop],
    &[Operation::Cleanup],
    &[Operation::Cleanup],
    &[Operation::Cleanup, Operation::Cleanup],
    &[Operation::Stop, Operation::Cleanup],
    &[Operation::Acquire, Operation::Cleanup],
    &[Operation::Run, Operation::Cleanup],
    &[Operation::RunOn, Operation::Cleanup],
    &[Operation::Again, Operation::Again],
    &[Operation::Again, Operation::Again, Operation::Stop],
    &[Operation::Again, Operation::Cleanup],
    &[Operation::Pause, Operation::Start],
    &[Operation::Pause, Operation::Start, Operation::Stop],
    &[Operation::Adopt, Operation::Touch],
    &[Operation::Adopt, Operation::Cleanup],
    &[Operation::Acquire, Operation::Adopt, Operation::Cleanup],
    &[Operation::Acquire, Operation::RunOn],
    &[Operation::Acquire, Operation::RunOn, Operation::Cleanup],
    &[Operation::Acquire, Operation::RunOn, Operation::Pause],
    &[Operation::Start],
    &[Operation::Start, Operation::Cleanup],
    &[Operation::Start, Operation::Stop],
    &[Operation::CrabboxTouch, Operation::Stop],
    &[Operation::CrabboxTouch, Operation::Pause],
    &[Operation::CrabboxUse, Operation::Cleanup],
    &[Operation::CrabboxUse, Operation::RunOn],
    &[Operation::CrabboxUse, Operation::Run, Operation::Cleanup],
    &[Operation::CrabboxStop, Operation::RunOn],
    &[Operation::CrabboxStop, Operation::Stop],
    &[Operation::CrabboxStop, Operation::Cleanup],
    &[Operation::RunOn, Operation::RunOn],
    &[Operation::Look],
    &[Operation::Look, Operation::RunOn],
    &[Operation::Forget],
    &[Operation::Forget, Operation::RunOn],
    &[Operation::Forget, Operation::Stop],
    &[Operation::Pause, Operation::Forget],
    &[Operation::Pause, Operation::RunOn],
    &[Operation::Pause, Operation::Start, Operation::RunOn],
    &[Operation::Run, Operation::Start],
    &[Operation::Run, Operation::RunOn],
    &[Operation::Run, Operation::Start, Operation::Cleanup],
    &[Operation::Start, Operation::Start],
    &[Operation::Start, Operation::RunOn],
    &[Operation::Start, Operation::RunOn, Operation::Cleanup],
    &[Operation::Start, Operation::Touch, Operation::Cleanup],
    &[Operation::CrabboxUse, Operation::Start],
    &[Operation::CrabboxStop, Operation::Start],
];

/// What a lease may cost, $, in the 90 minutes that it lives: room for hardly any machine, for a cheap one, for most.
const LEASE_LIMITS: &[f64] = &[0.3, 0.6, 1.2];

/// The plan of a seed.
#[must_use]
pub fn plan(seed: u64) -> Plan {
    let mut dice = Dice::new(seed, 1);
    let cast = *dice.pick(CASTS);
    let leases = leases(&mut dice, cast);
    let mut actors: Vec<Actor> =
        cast.iter().map(|operation| actor(&mut dice, *operation, cast.len())).collect();
    if Dice::new(seed, 7).chance(10) {
        // Room for one or two kept leases, or for none.
        let limit = *Dice::new(seed, 8).pick(&[1.0, 9.0, 18.0]);
        actors.iter_mut().for_each(|actor| actor.treatment.limits.day = Some(limit));
    }
    let by_lease = Dice::new(seed, 9).chance(10).then(|| *Dice::new(seed, 10).pick(LEASE_LIMITS));
    actors.iter_mut().for_each(|actor| actor.treatment.limits.lease = by_lease);
    if dice.chance(10) {
        // The same user on another machine.
        let operation = *dice.pick(&[Operation::Acquire, Operation::Run, Operation::Cleanup]);
        let mut other = actor(&mut dice, operation, 2);
        other.treatment.side = Side::Elsewhere;
        actors.push(other);
    }
    let faults = (0..dice.below(4)).map(|_| fault(&mut dice)).collect();
    let creates = cast.iter().any(makes) && dice.chance(30);
    let quirk = creates.then(|| (1 + usize::from(dice.chance(20)), *dice.pick(&Quirk::ALL)));
    let mut acts: Vec<Incident> = if dice.chance(30) {
        (0..=dice.below(2))
            .map(|_| {
                let after = Duration::from_millis(dice.below(40_000) as u64);
                let kind = dice.pick(&acts::KINDS);
                Incident::after(after, kind.name, (kind.draw)(&mut dice))
            })
            .collect()
    } else {
        Vec::new()
    };
    if actors.iter().any(|actor| actor.treatment.interruptible) && dice.chance(60) {
        // What nobody but the users of such machines meets.
        let outbid = acts::KINDS.iter().find(|kind| kind.name == "act: outbid");
        // Whoever only looks is soon done.
        let looks = cast.iter().all(|operation| *operation == Operation::Look);
        let after = Duration::from_millis(dice.below(if looks { 2_000 } else { 20_000 }) as u64);
        acts.extend(outbid.map(|kind| Incident::after(after, kind.name, (kind.draw)(&mut dice))));
    }
    if cast.iter().any(makes) && dice.chance(8) {
        // A machine starts within seconds: drawn at any time, what can only happen then would hardly ever be met.
        let image = acts::KINDS.iter().find(|kind| kind.name == "act: the image was not found");
        let after = Duration::from_millis(dice.below(5_000) as u64);
        acts.extend(image.map(|kind| Incident::after(after, kind.name, (kind.draw)(&mut dice))));
    }
    if by_lease.is_some() {
        // Beyond what a lease may cost, and within the cap.
        let raises = acts.iter_mut().filter(|incident| matches!(incident.act, Act::Raise(_)));
        raises.for_each(|incident| incident.act = Act::Raise(CAP * 0.95));
    }
    Plan { seed, vendor: vendor(&mut dice), leases, actors, faults, quirk, acts }
}

/// Whether an operation may rent.
fn makes(operation: &Operation) -> bool {
    matches!(operation, Operation::Acquire | Operation::Run | Operation::Again)
}

/// What is there already.
fn leases(dice: &mut Dice, cast: &[Operation]) -> Vec<Left> {
    let mut leases = Vec::new();
    if cast[0] == Operation::Start {
        leases.push(*dice.pick(&[Left::Paused, Left::Paused, Left::HalfPaused, Left::HalfStarted]));
    } else if cast[0] == Operation::Adopt && dice.chance(80) {
        // From its create on there is a machine to take over.
        let steps = bounds(Operation::Acquire).steps;
        let dead = Left::Dead(steps / 2 + dice.below(steps / 2));
        leases.push(*dice.pick(&[Left::Disowned, dead]));
    } else if cast.contains(&Operation::Again) && dice.chance(30) {
        leases.push(Left::CutOff);
    } else if cast.contains(&Operation::Forget) && dice.chance(60) {
        leases.push(*dice.pick(&[Left::Gone, Left::Unanswered]));
    } else if !cast.iter().any(makes) || dice.chance(30) {
        leases.push(Left::Kept);
    }
    if leases.is_empty() && dice.chance(10) {
        leases.push(Left::Stale);
    }
    if cast.contains(&Operation::Cleanup) {
        let more = [
            Left::Orphan,
            Left::Expired,
            Left::Dead(1 + dice.below(bounds(Operation::Acquire).steps)),
            Left::Unanswered,
            Left::Kept,
        ];
        leases.extend((0..=dice.below(2)).map(|_| *dice.pick(&more)));
    }
    leases
}

fn vendor(dice: &mut Dice) -> Vendor {
    let seconds = |dice: &mut Dice, most: usize| Duration::from_millis(dice.below(most * 1000) as u64);
    // Longer than in the sweeps: what happens to a machine that starts comes at any time.
    let plain = Vendor { boot: Duration::from_secs(4), ..Vendor::default() };
    if dice.chance(50) {
        return plain;
    }
    let slow = dice.chance(30);
    Vendor {
        // Now and then longer than anybody waits for it.
        boot: Duration::from_secs(if dice.chance(6) { 640 } else { 3 }) + seconds(dice, 40),
        read_lag: seconds(dice, if slow { 60 } else { 10 }),
        list_lag: seconds(dice, if slow { 60 } else { 12 }),
        linger: seconds(dice, if slow { 60 } else { 6 }),
        foreign: if dice.chance(10) { 27 } else { 2 },
        break_direct: dice.chance(10),
        break_proxy: dice.chance(10),
    }
}

fn actor(dice: &mut Dice, operation: Operation, cast: usize) -> Actor {
    let after = if cast > 1 { dice.below(20_000) as u64 } else { 0 };
    let gives_up = dice.chance(10).then(|| Duration::from_millis(dice.below(60_000) as u64));
    let death = if dice.chance(50) { Death::Kill } else { Death::PowerCut };
    // Twice of what it does in a friendly world: what goes wrong makes it longer.
    let bounds = bounds(operation);
    let mut place = |count: usize| 1 + dice.below(2 * count);
    let (step, at, ssh) = (place(bounds.steps), place(bounds.disk), place(bounds.ssh));
    let treatment = Treatment {
        kill: dice.chance(40).then_some(Kill { step, death }),
        disk: dice
            .chance(15)
            .then(|| if dice.chance(60) { DiskFault::Fails(at) } else { DiskFault::Full(at) }),
        ssh: (bounds.ssh > 0 && dice.chance(30))
            .then(|| if dice.chance(60) { SshFault::Drops(ssh) } else { SshFault::Hangs(ssh) }),
        interruptible: dice.chance(if operation == Operation::Look { 60 } else { 15 }),
        limits: Limits::default(),
        side: Side::Ours,
    };
    Actor { operation, after: Duration::from_millis(after), gives_up, treatment }
}

fn fault(dice: &mut Dice) -> Fault {
    let calls = [
        ("PUT", "/api/v0/asks/*/"),
        ("PUT", "/api/v0/asks/*/"),
        ("DELETE", "/api/v0/instances/*/"),
        ("DELETE", "/api/v0/instances/*/"),
        ("GET", "/api/v1/instances/"),
        ("GET", "/api/v0/instances/*/"),
        ("PUT", "/api/v0/instances/*/"),
        ("POST", "/api/v0/instances/*/ssh/"),
        ("GET", "/api/v0/users/current/"),
        ("POST", "/api/v0/bundles/"),
    ];
    let (method, path) = *dice.pick(&calls);
    let kinds: Vec<_> = kinds().into_iter().filter(|kind| (kind.calls)(method, path)).collect();
    let kind = dice.pick(&kinds);
    let after = kind.after && (kind.claims || dice.chance(50));
    Fault {
        method: Some(method.to_owned()),
        path: path.to_owned(),
        // An operation sends few creates.
        nth: 1 + dice.below(if path.contains("/asks/") { 2 } else { 4 }) as u64,
        count: Some(if dice.chance(70) { 1 } else { 1 + dice.below(8) as u64 }),
        timing: if after { Timing::AfterCommit } else { Timing::BeforeCommit },
        effect: kind.effect.clone(),
    }
}

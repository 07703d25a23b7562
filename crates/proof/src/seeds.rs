//! From a seed to a plan: who works, how the vendor is, and what goes wrong.

use crate::catalogue::{kinds, repeated_token};
use crate::dice::Dice;
use crate::files::DiskFault;
use crate::history::Death;
use crate::life::{Kill, Side};
use crate::plan::{Actor, Left, Operation, Plan};
use crate::ssh::SshFault;
use crate::stage::Treatment;
use crate::vendor::{Act, Quirk, Vendor};
use crabbox_vast_sim::api::{Effect, Fault, Timing};
use serde_json::json;
use std::time::Duration;

/// Who works side by side.
const CASTS: &[&[Operation]] = &[
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
];

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
        actors.iter_mut().for_each(|actor| actor.treatment.day_limit = Some(limit));
    }
    if dice.chance(10) {
        // The same user on another machine.
        let operation = *dice.pick(&[Operation::Acquire, Operation::Run, Operation::Cleanup]);
        let mut other = actor(&mut dice, operation, 2);
        other.treatment.side = Side::Elsewhere;
        actors.push(other);
    }
    let faults = (0..dice.below(4)).map(|_| fault(&mut dice)).collect();
    let quirk = dice.chance(20).then(|| (1 + dice.below(2), *dice.pick(&Quirk::ALL)));
    let acts = if dice.chance(30) {
        (0..=dice.below(2))
            .map(|_| (Duration::from_millis(dice.below(40_000) as u64), act(&mut dice)))
            .collect()
    } else {
        Vec::new()
    };
    Plan { seed, vendor: vendor(&mut dice), leases, actors, faults, quirk, acts }
}

/// What is there already.
fn leases(dice: &mut Dice, cast: &[Operation]) -> Vec<Left> {
    let makes =
        |operation: &Operation| matches!(operation, Operation::Acquire | Operation::Run | Operation::Again);
    let mut leases = Vec::new();
    if cast[0] == Operation::Start {
        leases.push(Left::Paused);
    } else if cast[0] == Operation::Adopt && dice.chance(50) {
        leases.push(Left::Disowned);
    } else if cast.contains(&Operation::Again) && dice.chance(30) {
        leases.push(Left::CutOff);
    } else if !cast.iter().any(makes) || dice.chance(30) {
        leases.push(Left::Kept);
    }
    if leases.is_empty() && dice.chance(10) {
        leases.push(Left::Stale);
    }
    if cast.contains(&Operation::Cleanup) {
        let more =
            [Left::Orphan, Left::Expired, Left::Dead(1 + dice.below(250)), Left::Unanswered, Left::Kept];
        leases.extend((0..=dice.below(2)).map(|_| *dice.pick(&more)));
    }
    leases
}

fn vendor(dice: &mut Dice) -> Vendor {
    let seconds = |dice: &mut Dice, most: usize| Duration::from_millis(dice.below(most * 1000) as u64);
    let plain = Vendor::default();
    if dice.chance(50) {
        return plain;
    }
    let slow = dice.chance(30);
    Vendor {
        boot: Duration::from_secs(3) + seconds(dice, 60),
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
    let treatment = Treatment {
        kill: dice.chance(40).then(|| Kill { step: 1 + dice.below(700), death }),
        disk: dice.chance(15).then(|| {
            let at = 1 + dice.below(900);
            if dice.chance(60) { DiskFault::Fails(at) } else { DiskFault::Full(at) }
        }),
        ssh: dice.chance(15).then(|| {
            let at = 1 + dice.below(12);
            if dice.chance(60) { SshFault::Drops(at) } else { SshFault::Hangs(at) }
        }),
        interruptible: dice.chance(15),
        day_limit: None,
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
        nth: 1 + dice.below(6) as u64,
        count: Some(if dice.chance(70) { 1 } else { 1 + dice.below(8) as u64 }),
        timing: if after { Timing::AfterCommit } else { Timing::BeforeCommit },
        effect: kind.effect.clone(),
    }
}

fn act(dice: &mut Dice) -> Act {
    let seconds = |dice: &mut Dice, most: usize| Duration::from_millis(dice.below(most * 1000) as u64);
    let forbidden = Effect::Answer {
        status: 403,
        content_type: "text/plain".into(),
        body: "Forbidden".into(),
        headers: Vec::new(),
    };
    match dice.below(27) {
        0 => Act::Clock(-(dice.below(7_200_000) as i64)),
        1 => Act::Clock(dice.below(7_200_000) as i64),
        2 => Act::Clock(dice.below(60_000) as i64),
        3 => Act::Outage(forbidden, seconds(dice, 90)),
        4 => Act::Outage(Effect::Html(502), seconds(dice, 90)),
        5 => Act::Outage(Effect::Reset, seconds(dice, 60)),
        6 => Act::Outage(Effect::TooMany(dice.below(4)), seconds(dice, 60)),
        7 => Act::Revoke,
        8 => Act::Bankrupt,
        9 => Act::Evict,
        10 => Act::Alter(
            json!({"freeze": true, "status_msg": "Error: OCI runtime create failed: nvidia-container-cli: initialization error"}),
        ),
        11 => Act::Alter(
            json!({"freeze": true, "status_msg": "docker: manifest for nosuch/image:1 not found: manifest unknown"}),
        ),
        12 => Act::Hide(seconds(dice, 9)),
        13 => Act::Alter(
            json!({"actual_status": "exited", "intended_status": "stopped", "cur_state": "stopped"}),
        ),
        14 => Act::Raise,
        15 => Act::Outbid(1_000.0, seconds(dice, 90)),
        16 => Act::Relet(seconds(dice, 120)),
        17 => Act::Ail(["offline", "unknown", "exited", "loading"][dice.below(4)], seconds(dice, 60)),
        18 => Act::WipeKeys,
        19 => Act::Lie(repeated_token(), seconds(dice, 60)),
        20 => {
            Act::Alter(json!({"freeze": true, "actual_status": "loading", "status_msg": "Pulling fs layer"}))
        }
        21 => Act::Alter(json!({"sshd": false})),
        22 => Act::Alter(json!({"ssh_host": null, "ssh_port": null})),
        23 => Act::Alter(json!({"ports": null})),
        24 => Act::Alter(
            json!({"actual_status": "created", "intended_status": "stopped", "cur_state": "stopped"}),
        ),
        25 => Act::Alter(json!({"dph_total": null, "is_bid": null, "gpu_name": null, "status_msg": null})),
        _ => Act::Alter(json!({"refuse_keys": true})),
    }
}

//! Scenes: what the sweeps put something wrong into. Each is a run that goes as it should, or has one thing wrong already.

use crate::plan::{Actor, Left, Operation, Plan};
use crate::play::run;
use crate::stage::Counts;
use crate::vendor::Quirk;
use crabbox_vast_sim::api::{Effect, Fault};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

/// The seed of all sweeps; pairs draw from their number.
pub(crate) const SEED: u64 = 20_260;

/// One scene.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// Its name, as in `run/kill/17`.
    pub name: &'static str,
    /// How its operation ends where nothing else goes wrong.
    pub ends: &'static str,
    /// The run.
    pub plan: fn() -> Plan,
}

fn single(operation: Operation) -> Plan {
    Plan::single(SEED, operation)
}

fn with(left: &[Left], operation: Operation) -> Plan {
    Plan { leases: left.to_vec(), ..single(operation) }
}

/// A cleanup that finds what an acquire left that died after so many parts in four of its steps.
fn cleanup_after(quarters: usize) -> Plan {
    with(&[Left::Dead(bounds(Operation::Acquire).steps * quarters / 4)], Operation::Cleanup)
}

/// Every scene.
pub const SCENES: [Scene; 29] = [
    Scene { name: "acquire", ends: "ok", plan: || single(Operation::Acquire) },
    Scene { name: "run", ends: "ok", plan: || single(Operation::Run) },
    Scene { name: "run-on", ends: "ok", plan: || single(Operation::RunOn) },
    Scene { name: "stop", ends: "Destroyed", plan: || single(Operation::Stop) },
    Scene { name: "pause", ends: "Stopped", plan: || single(Operation::Pause) },
    Scene { name: "touch", ends: "ok", plan: || single(Operation::Touch) },
    Scene { name: "cleanup", ends: "ok", plan: || single(Operation::Cleanup) },
    Scene { name: "start", ends: "ok", plan: || single(Operation::Start) },
    Scene { name: "again", ends: "ok", plan: || single(Operation::Again) },
    Scene { name: "adopt", ends: "ok", plan: || single(Operation::Adopt) },
    // Longer than a machine may be missing from reads.
    Scene {
        name: "acquire-slow",
        ends: "ok",
        plan: || {
            let mut plan = single(Operation::Acquire);
            plan.vendor.boot = Duration::from_secs(100);
            plan
        },
    },
    // A run gets in to a machine before its acquire does, which is given up.
    Scene {
        name: "acquire-joined",
        ends: "cancelled",
        plan: || {
            let mut plan = single(Operation::Acquire);
            plan.vendor.boot = Duration::from_secs(4);
            plan.actors[0].gives_up = Some(Duration::from_millis(5_800));
            plan.actors.push(Actor { after: Duration::from_millis(4_500), ..Actor::new(Operation::RunOn) });
            plan
        },
    },
    // A machine whose acquire died while it booted.
    Scene {
        name: "adopt-dead",
        ends: "ok",
        plan: || with(&[Left::Dead(bounds(Operation::Acquire).steps * 3 / 4)], Operation::Adopt),
    },
    // The same over a stop, or a start, whose process died when it had taken effect.
    Scene { name: "start-half-paused", ends: "ok", plan: || with(&[Left::HalfPaused], Operation::Start) },
    Scene { name: "start-half-started", ends: "ok", plan: || with(&[Left::HalfStarted], Operation::Start) },
    // What a claim leads to is gone: it may be forgotten.
    Scene { name: "forget", ends: "ok", plan: || with(&[Left::Gone], Operation::Forget) },
    // It is not: forgetting it would leave a machine that bills and that nothing leads to.
    Scene {
        name: "forget-live",
        ends: "confirmation_needed",
        plan: || with(&[Left::Kept], Operation::Forget),
    },
    Scene {
        name: "forget-unclear",
        ends: "confirmation_needed",
        plan: || with(&[Left::Unanswered], Operation::Forget),
    },
    // What is to be kept has its own cases; here it would only take time.
    Scene {
        name: "cleanup-due",
        ends: "ok",
        plan: || with(&[Left::Expired, Left::Unanswered], Operation::Cleanup),
    },
    // Not swept at every step: what the sweep of deaths before them leaves.
    Scene { name: "stop-dead", ends: "ok", plan: || with(&[Left::Dead(1)], Operation::Stop) },
    Scene { name: "cleanup-dead", ends: "ok", plan: || with(&[Left::Dead(1)], Operation::Cleanup) },
    Scene { name: "cleanup-early", ends: "ok", plan: || cleanup_after(1) },
    Scene { name: "cleanup-middle", ends: "ok", plan: || cleanup_after(2) },
    Scene { name: "cleanup-late", ends: "ok", plan: || cleanup_after(3) },
    Scene {
        name: "acquire-lost",
        ends: "ok",
        plan: || {
            let lost = Fault::once("PUT", "/api/v0/asks/*/", Effect::Reset).after_commit();
            Plan { faults: vec![lost], ..single(Operation::Acquire) }
        },
    },
    Scene {
        name: "acquire-dearer",
        ends: "price_cap_exceeded",
        plan: || Plan { quirk: Some((1, Quirk::Dearer)), ..single(Operation::Acquire) },
    },
    Scene {
        name: "acquire-broken",
        ends: "ok",
        plan: || Plan { quirk: Some((1, Quirk::NeverStarts)), ..single(Operation::Acquire) },
    },
    Scene { name: "stop-refused", ends: "Destroyed", plan: || refused(Operation::Stop) },
    Scene { name: "run-refused", ends: "ok", plan: || refused(Operation::Run) },
];

/// The first destroy is answered by `success: false`.
fn refused(operation: Operation) -> Plan {
    let refusal = Effect::Answer {
        status: 200,
        content_type: "application/json".into(),
        body: r#"{"success":false}"#.into(),
        headers: Vec::new(),
    };
    Plan { faults: vec![Fault::once("DELETE", "/api/v0/instances/*/", refusal)], ..single(operation) }
}

/// The scene of this name.
///
/// # Errors
/// That there is none, with the names of all.
pub fn scene(name: &str) -> Result<&'static Scene, String> {
    SCENES.iter().find(|scene| scene.name == name).ok_or_else(|| {
        let names: Vec<&str> = SCENES.iter().map(|scene| scene.name).collect();
        format!("there is no scene `{name}`, only {}", names.join(", "))
    })
}

/// What an operation does in a friendly world, counted once.
#[must_use]
pub fn bounds(operation: Operation) -> Counts {
    static COUNTED: OnceLock<BTreeMap<Operation, Counts>> = OnceLock::new();
    let counted = COUNTED.get_or_init(|| {
        Operation::ALL.into_iter().map(|operation| (operation, run(&single(operation)).counts[0])).collect()
    });
    counted.get(&operation).copied().unwrap_or_default()
}

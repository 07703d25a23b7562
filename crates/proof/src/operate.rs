//! What a process does: each operation as a user of the engine calls it, and how it ended.

use crate::crabbox::crabbox;
use crate::history::Happening;
use crate::plan::Operation;
use crate::stage::{Process, Stage};
use crabbox_vast_engine::lease::{InstanceId, ReleaseAction};
use crabbox_vast_engine::ops::adopt::AdoptRequest;
use crabbox_vast_engine::ops::cleanup::{ItemKind, ItemOutcome};
use crabbox_vast_engine::ops::forget::ForgetRequest;
use crabbox_vast_engine::ops::start::StartRequest;
use crabbox_vast_engine::ops::{
    AcquireRequest, Cleaned, CleanupRequest, ReleaseOutcome, ReleaseRequest, RunRequest,
};
use crabbox_vast_engine::ssh::command::Script;
use crabbox_vast_engine::world::ExecIo;
use crabbox_vast_engine::{Code, Error};
use serde::Serialize;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The lease id of the user's choice.
pub(crate) const CHOSEN: &str = "cbx_0123456789ab";

/// One operation of one process; returns how it ended.
pub(crate) async fn operate(
    stage: &Stage,
    process: &Process,
    operation: Operation,
    gives_up: Option<Duration>,
) -> String {
    let cancel = CancellationToken::new();
    let work = Box::pin(perform(stage, process, operation, cancel.clone()));
    let Some(patience) = gives_up else { return work.await };
    let nag = async {
        tokio::time::sleep(patience).await;
        cancel.cancel();
    };
    tokio::join!(work, nag).0
}

async fn perform(
    stage: &Stage,
    process: &Process,
    operation: Operation,
    cancel: CancellationToken,
) -> String {
    let number = process.life.process;
    let call = process.call(cancel.clone());
    stage.shared().note(Happening::Began { process: number, what: format!("{operation:?}") });
    let engine = &process.engine;
    let result: Result<(), Error> = match operation {
        Operation::Acquire => {
            let request = AcquireRequest { keep: true, ..AcquireRequest::default() };
            acquire(stage, process, &request, &call).await
        }
        Operation::Again => {
            let lease_id = Some(CHOSEN.to_owned());
            stage.shared().note(Happening::Acquires { process: number, lease: CHOSEN.to_owned() });
            let request = AcquireRequest { keep: true, lease_id, ..AcquireRequest::default() };
            acquire(stage, process, &request, &call).await
        }
        Operation::Cleanup => {
            let cleaned = engine.cleanup(&CleanupRequest::default(), &call).await;
            cleaned.map(|cleaned| {
                note_items(stage, process, &cleaned);
            })
        }
        Operation::Start => match first_claim(stage).await {
            Some(identifier) => {
                uses(stage, process, &identifier);
                let started = engine.start(&StartRequest { identifier }, &call).await;
                started.map(|lease| shown(stage, "a start", lease.facts()))
            }
            None => Ok(()),
        },
        Operation::Adopt => {
            let disowned = stage.disowned().map(|instance| instance.to_string());
            let found = if disowned.is_some() { disowned } else { first_claim(stage).await };
            match found {
                Some(identifier) => {
                    uses(stage, process, &identifier);
                    let adopted = engine.adopt(&AdoptRequest { identifier, keep: true }, &call).await;
                    adopted.map(|adopted| {
                        shown(stage, "an adoption", &adopted);
                        if !process.life.is_dead() {
                            stage.shared().note_adoption(adopted.lease.as_str());
                        }
                    })
                }
                None => Ok(()),
            }
        }
        Operation::CrabboxTouch | Operation::CrabboxUse | Operation::CrabboxStop => {
            if let Some(lease) = first_claim(stage).await {
                crabbox(stage, process, operation, &lease).await;
            }
            Ok(())
        }
        Operation::Run => {
            stage.shared().wishes(number, false, process.limits);
            command(stage, process, None, &call).await
        }
        Operation::RunOn => match first_claim(stage).await {
            Some(lease) => command(stage, process, Some(lease), &call).await,
            None => Ok(()),
        },
        Operation::Stop | Operation::Pause => match first_claim(stage).await {
            Some(identifier) => {
                let action = (operation == Operation::Pause).then_some(ReleaseAction::Stop);
                let request = ReleaseRequest { identifier, action };
                return release(stage, process, &request, Some(cancel)).await;
            }
            None => Ok(()),
        },
        Operation::Touch => match first_claim(stage).await {
            Some(lease) => {
                uses(stage, process, &lease);
                let touched = engine.touch(&lease, None, &call).await;
                touched.map(|touched| shown(stage, "a touch", &touched))
            }
            None => Ok(()),
        },
        Operation::Forget => match first_claim(stage).await {
            Some(identifier) => {
                engine.forget_claim(&ForgetRequest { identifier, yes: false }, &call).await.map(|_| ())
            }
            None => Ok(()),
        },
        Operation::Look => match first_claim(stage).await {
            Some(lease) => {
                let listed = engine.list(false, &call).await;
                let listed = listed.map(|listed| shown(stage, "a list", &listed));
                let status = engine.status(&lease, &call).await;
                listed.and(status.map(|status| shown(stage, "a status", &status)))
            }
            None => Ok(()),
        },
    };
    ended(stage, process, result.map(|()| "ok".to_owned()))
}

async fn acquire(
    stage: &Stage,
    process: &Process,
    request: &AcquireRequest,
    call: &crabbox_vast_engine::Call,
) -> Result<(), Error> {
    stage.shared().wishes(process.life.process, request.keep, process.limits);
    process.engine.acquire(request, call).await.map(|lease| shown(stage, "an acquire", lease.facts()))
}

/// What a caller is told is looked through, in the form in which both skins pass it on.
fn shown(stage: &Stage, what: &str, result: &impl Serialize) {
    stage.shared().look_at_result(what, result);
}

/// A process is at work on this lease, named by its id or its machine, until it ends.
fn uses(stage: &Stage, process: &Process, identifier: &str) {
    let shared = stage.shared();
    let of_machine = identifier.parse().ok().and_then(|instance: u64| shared.lease_of(instance));
    let lease = of_machine.unwrap_or_else(|| identifier.to_owned());
    shared.note(Happening::Uses { process: process.life.process, lease });
}

/// The first lease with a claim, once there is one.
async fn first_claim(stage: &Stage) -> Option<String> {
    for _ in 0..100 {
        if let Some(lease) = stage.claims().into_iter().next() {
            return Some(lease);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

async fn command(
    stage: &Stage,
    process: &Process,
    identifier: Option<String>,
    call: &crabbox_vast_engine::Call,
) -> Result<(), Error> {
    let script = Script::Argv(vec!["nvidia-smi".into()]);
    let request = RunRequest { identifier, ..RunRequest::new(script) };
    let (output, mut receive) = mpsc::channel(16);
    let drain = async { while receive.recv().await.is_some() {} };
    let ran = tokio::join!(process.engine.run(&request, ExecIo { stdin: None, output }, call), drain).0?;
    shown(stage, "a run", &ran);
    if let Some(outcome) = ran.release_outcome {
        note_gone(stage, process, ran.lease.id.as_str(), Some(ran.lease.instance), outcome.into());
    }
    Ok(())
}

/// A process said what became of a lease.
fn note_gone(
    stage: &Stage,
    process: &Process,
    lease: &str,
    instance: Option<InstanceId>,
    outcome: ItemOutcome,
) {
    let gone =
        [ItemOutcome::Destroyed, ItemOutcome::AlreadyGone, ItemOutcome::NeverCreated, ItemOutcome::Forgotten];
    if gone.contains(&outcome) && !process.life.is_dead() {
        let shared = stage.shared();
        // What the vendor ended by itself until now is gone indeed.
        shared.take_stock(None, None, None);
        let (process, lease) = (process.life.process, lease.to_owned());
        shared.note(Happening::SaidGone { process, lease, instance: instance.map(|instance| instance.0) });
    }
}

pub(crate) async fn release(
    stage: &Stage,
    process: &Process,
    request: &ReleaseRequest,
    cancel: Option<CancellationToken>,
) -> String {
    let call = process.call(cancel.unwrap_or_default());
    stage.shared().note(Happening::Asked {
        process: process.life.process,
        lease: request.identifier.clone(),
        destroy: request.action != Some(ReleaseAction::Stop),
    });
    let result = process.engine.release(request, &call).await;
    if let Ok(released) = &result {
        shown(stage, "a release", released);
        let outcome = released.outcome.into();
        note_gone(stage, process, released.lease.as_str(), released.instance, outcome);
        match released.outcome {
            ReleaseOutcome::AlreadyGone => {
                stage.shared().reach("a machine that others destroyed was proved gone")
            }
            ReleaseOutcome::NeverCreated => {
                stage.shared().reach("a claim without a machine was proved empty")
            }
            ReleaseOutcome::Stopped => stage.shared().reach("a machine was stopped and kept"),
            _ => {}
        }
    }
    ended(stage, process, result.map(|released| format!("{:?}", released.outcome)))
}

pub(crate) fn ended(stage: &Stage, process: &Process, result: Result<String, Error>) -> String {
    if process.life.is_dead() {
        // It died over a disk operation; that its code ran on to the next await is of this simulation only.
        return String::new();
    }
    let number = process.life.process;
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => {
            process.look_at_error(&error);
            if let Some(branch) = branch(&error) {
                stage.shared().reach(branch);
            }
            error.code().as_str().to_owned()
        }
    };
    stage.shared().note(Happening::Ended { process: number, outcome: outcome.clone() });
    outcome
}

/// Ways to fail that have to be met.
fn branch(error: &Error) -> Option<&'static str> {
    Some(match error.code() {
        Code::PriceCapExceeded => "a machine above the price cap was refused",
        Code::CostLimitExceeded if error.details().contains_key("limit") => {
            "a machine beyond what its lease may cost was refused"
        }
        Code::CostLimitExceeded => "a machine beyond what a day may cost was refused",
        Code::RentalMismatch => "a machine that was rented the other way was refused",
        Code::ConfirmationNeeded => "a lease that may bill was not forgotten",
        Code::CreateAmbiguous => "a create stayed unclear and its claim was kept",
        Code::ReleaseUnproved => "a destroy could not be proved and its claim was kept",
        Code::ClaimMissing => "a lease was taken away while it started",
        Code::StateUnavailable => "the disk refused and the operation said so",
        Code::AuthFailed => "a bad key was reported",
        Code::Cancelled => "a user gave up",
        Code::StartFailedImage => "an image that cannot start was reported",
        Code::BootTimeout => "a machine that never started was given up",
        Code::InstanceGone => "a machine that vanished was reported",
        Code::Outbid => "a machine was lost to a higher bid and the user was told",
        _ => return None,
    })
}

/// Notes what a cleanup did.
pub(crate) fn note_items(stage: &Stage, process: &Process, cleaned: &Cleaned) -> String {
    shown(stage, "a cleanup", cleaned);
    for item in &cleaned.items {
        if item.action != ItemKind::ForgetKeys {
            note_gone(stage, process, &item.lease, item.instance, item.outcome);
        }
        let branch = match (item.action, item.outcome) {
            (ItemKind::Recover, ItemOutcome::Destroyed) => "a cleanup destroyed what a dead process had left",
            (ItemKind::Recover, ItemOutcome::NeverCreated) => {
                "a cleanup proved that a dead process had rented nothing"
            }
            (ItemKind::Recover, ItemOutcome::AlreadyGone) => {
                "a cleanup proved that what a dead process destroyed is gone"
            }
            (ItemKind::Delete, ItemOutcome::Destroyed) => "a cleanup destroyed an expired lease",
            (ItemKind::Delete, ItemOutcome::Refused) => "a cleanup refused what is not ours",
            (ItemKind::Forget, ItemOutcome::Forgotten | ItemOutcome::AlreadyGone) => {
                "a cleanup forgot a lease whose machine is gone"
            }
            (ItemKind::ForgetKeys, ItemOutcome::Forgotten) => "a cleanup removed a key without a lease",
            (_, ItemOutcome::Failed) => "a cleanup failed at a lease and went on",
            _ => continue,
        };
        stage.shared().reach(branch);
    }
    cleaned.line()
}

//! The API locks a caller out, as it does for a minute to whoever calls too often: everything is refused with 403, without a
//! reason.

use crate::support::{open, run, stop, warm};
use crate::virtual_time::Stage;
use crabbox_vast_engine::Code;
use crabbox_vast_engine::ops::{AcquireRequest, CleanupRequest};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::json;
use std::time::Duration;

/// What the API answers to everything while it locks a caller out.
fn forbidden() -> Effect {
    Effect::Answer {
        status: 403,
        content_type: "application/json".into(),
        body: r#"{"success":false,"error":"forbidden","msg":"Forbidden"}"#.into(),
        headers: Vec::new(),
    }
}

/// A lock-out when a machine is to end: it does not bill on because nobody may look at it for a minute.
#[tokio::test(start_paused = true)]
async fn a_lock_out_of_a_minute_ends_no_release() {
    for (seconds, survives) in [(60, true), (600, false)] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", false).await;
        let locked = Fault::once("GET", "/api/*", forbidden()).times(None);
        stage.vast(|vast, _| vast.add_fault(locked));
        let call = stage.call();
        let (outcome, ()) = tokio::join!(stop(&process.engine, &lease.slug, &call), async {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            stage.control("DELETE", "/_sim/faults", &json!({}));
        });
        let ended = outcome.map(|_| ()).map_err(|error| error.code());
        assert_eq!(ended, if survives { Ok(()) } else { Err(Code::PermissionDenied) });
        assert_eq!((open(&stage).is_empty(), stage.claims().is_empty()), (survives, survives));
    }
}

/// The API locks a caller out: every read is refused for a while, and the machine that starts is kept.
#[tokio::test(start_paused = true)]
async fn a_lock_out_of_a_minute_ends_no_start() {
    for (seconds, survives) in [(60, true), (600, false)] {
        let stage = Stage::new();
        let process = stage.process();
        let call = stage.call();
        let (outcome, began) = tokio::join!(run(&process.engine, &call), async {
            while open(&stage).is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let began = tokio::time::Instant::now();
            let locked = Fault::once("GET", "/api/*/instances/*", forbidden()).times(None);
            stage.vast(|vast, _| vast.add_fault(locked));
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            stage.control("DELETE", "/_sim/faults", &json!({}));
            began
        });
        if survives {
            outcome.expect("it starts");
        } else {
            let error = outcome.expect_err("a key that may not read");
            assert_eq!(error.code(), Code::PermissionDenied, "{error}");
            let given_up = stage.ledger().open.is_empty();
            assert!(given_up && began.elapsed() < Duration::from_secs(700), "{:?}", began.elapsed());
        }
    }
}

/// Refuses every read for so long.
async fn locked(stage: &Stage, seconds: u64) {
    stage.vast(|vast, _| vast.add_fault(Fault::once("GET", "/api/*", forbidden()).times(None)));
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stage.control("DELETE", "/_sim/faults", &json!({}));
}

/// A process that died right after its machine was rented, or while the answer to its create was lost.
async fn dead(stage: &Stage, answered: bool) {
    if !answered {
        let lost = Fault::once("PUT", "/api/v0/asks/*/", Effect::Reset).after_commit();
        stage.vast(|vast, _| vast.add_fault(lost));
    }
    let (process, call) = (stage.process(), stage.call());
    let wanted = AcquireRequest::default();
    tokio::select! {
        _ = process.engine.acquire(&wanted, &call) => panic!("it dies before"),
        () = async {
            while open(stage).is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // An answer needs a moment to get into the claim.
            tokio::time::sleep(Duration::from_secs(answered.into())).await;
        } => {}
    }
    assert_eq!((open(stage).len(), stage.claims().len()), (1, 1));
}

/// What a dead process left is finished by the first cleanup, also while that is locked out, and by a stop.
#[tokio::test(start_paused = true)]
async fn a_lock_out_of_a_minute_ends_no_cleanup_and_no_stop_of_an_unanswered_create() {
    for (answered, cleans) in [(true, true), (false, true), (false, false)] {
        let stage = Stage::new();
        dead(&stage, answered).await;
        let (process, call, lease) = (stage.process(), stage.call(), stage.claims().remove(0));
        let everything = CleanupRequest::default();
        let ends = async {
            if cleans {
                process.engine.cleanup(&everything, &call).await.map(|_| ())
            } else {
                stop(&process.engine, &lease, &call).await.map(|_| ())
            }
        };
        let (outcome, ()) = tokio::join!(ends, locked(&stage, 60));
        outcome.unwrap_or_else(|error| panic!("answered {answered}, cleanup {cleans}: {error}"));
        assert_eq!(
            (open(&stage).len(), stage.claims()),
            (0, vec![]),
            "answered {answered}, cleanup {cleans}"
        );
    }
}

/// Whoever was never let in is told so, and nothing was changed.
#[tokio::test(start_paused = true)]
async fn a_cleanup_that_is_never_let_in_ends() {
    let stage = Stage::new();
    dead(&stage, true).await;
    let (process, call) = (stage.process(), stage.call());
    let everything = CleanupRequest::default();
    let began = tokio::time::Instant::now();
    let (outcome, ()) = tokio::join!(
        async { process.engine.cleanup(&everything, &call).await.map(|_| began.elapsed()) },
        locked(&stage, 600)
    );
    assert_eq!(outcome.map_err(|error| error.code()), Err(Code::PermissionDenied));
    assert_eq!((open(&stage).len(), stage.claims().len()), (1, 1));
}

/// A command that is about something else is not held up by it.
#[tokio::test(start_paused = true)]
async fn a_recovery_beside_another_command_waits_for_no_lock_out() {
    let stage = Stage::new();
    dead(&stage, true).await;
    let (process, call) = (stage.process(), stage.call());
    let began = tokio::time::Instant::now();
    stage.vast(|vast, _| vast.add_fault(Fault::once("GET", "/api/*", forbidden()).times(None)));
    let outcome = process.engine.acquire(&AcquireRequest::default(), &call).await.map(|_| ());
    assert_eq!(outcome.map_err(|error| error.code()), Err(Code::PermissionDenied));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

/// What ends a bill is not put off by a server that asks everybody to come back in an hour: another process is done in a minute.
#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_an_hour_does_not_keep_a_machine_billing() {
    let stage = Stage::new();
    let lease = warm(&stage, &stage.process(), "one", true).await;
    let away = Effect::Answer {
        status: 429,
        content_type: "text/plain".into(),
        body: "API requests too frequent".into(),
        headers: vec![("retry-after".into(), "3600".into())],
    };
    let path = format!("/api/v0/instances/{}/", lease.instance);
    stage.vast(|vast, _| vast.add_fault(Fault::once("DELETE", &path, away)));
    // Whoever was asked may give up meanwhile.
    let (process, call) = (stage.process(), stage.call());
    let first = tokio::time::timeout(Duration::from_secs(20), stop(&process.engine, "one", &call)).await;
    drop((first, process));
    let began = tokio::time::Instant::now();
    let left = open(&stage).is_empty() || stop(&stage.process().engine, "one", &stage.call()).await.is_ok();
    assert!(left && began.elapsed() < Duration::from_secs(100), "{:?}", began.elapsed());
    assert!(open(&stage).is_empty());
}

//! That an instance is gone is a proof: what an API that has lost its way answers is none.

mod support;
mod virtual_time;

use crabbox_vast_engine::Code;
use crabbox_vast_engine::ops::ReleaseOutcome;
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::{Value, json};
use std::time::Duration;
use support::{open, pass, run, stop, warm};
use virtual_time::Stage;

fn answer(status: u16, body: &Value) -> Effect {
    Effect::Answer {
        status,
        content_type: "application/json".into(),
        body: body.to_string(),
        headers: Vec::new(),
    }
}

/// The calls of a release from its first destroy on.
fn from_the_destroy(stage: &Stage) -> Vec<String> {
    let calls = stage.calls.lock().expect("not poisoned").clone();
    calls.into_iter().skip_while(|call| !call.starts_with("DELETE")).collect()
}

#[tokio::test(start_paused = true)]
async fn absence_after_an_accepted_destroy_counts_once_the_account_answers_after_it() {
    let stage = Stage::new();
    let process = stage.process();
    warm(&stage, &process, "one", true).await;
    stop(&process.engine, "one", &stage.call()).await.expect("stops");
    let calls = from_the_destroy(&stage);
    assert!(calls.len() >= 3, "{calls:?}");
    assert_eq!(calls.last().map(String::as_str), Some("GET /api/v0/users/current/"), "{calls:?}");
    assert_eq!(calls.iter().filter(|call| call.contains("users/current")).count(), 1, "{calls:?}");
}

/// The destroy is accepted and nothing happens; every read says "no such instance", and the account is refused.
#[tokio::test(start_paused = true)]
async fn a_key_that_works_no_more_proves_nothing_gone() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let done = Fault::once("DELETE", "/api/v0/instances/*/", answer(200, &json!({"success": true})));
    let blind = Fault::once("GET", "/api/v0/instances/*/", answer(200, &json!({"instances": null})));
    let empty = json!({"success": true, "instances": [], "total_instances": 0, "next_token": null});
    let list = Fault::once("GET", "/api/v1/instances/", answer(200, &empty));
    let refused = json!({"success": false, "error": "auth_error", "msg": "Invalid user key"});
    let mut account = Fault::once("GET", "/api/v0/users/current/", answer(404, &refused));
    // The first one opens the release.
    account.nth = 2;
    stage.vast(|vast, _| {
        for mut fault in [done, blind, list] {
            let single = fault.path.contains("v0/instances") && fault.method.as_deref() == Some("GET");
            fault.nth = if single { 2 } else { 1 };
            vast.add_fault(fault.times(None));
        }
        vast.add_fault(account.times(None));
    });
    let error = stop(&process.engine, "one", &stage.call()).await.expect_err("nothing is proved");
    assert!(matches!(error.code(), Code::ReleaseUnproved | Code::AuthFailed), "{error}");
    assert_eq!((open(&stage), stage.claims().len()), (vec![lease.instance], 1));
}

/// `{}` to a destroy that did nothing: the instance is still there, and the claim with it.
#[tokio::test(start_paused = true)]
async fn a_destroy_that_is_not_said_to_be_accepted_is_proved_by_reading() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    // Carried out, and answered with nothing.
    let unsaid = Fault::once("DELETE", "/api/v0/instances/*/", answer(200, &json!({}))).after_commit();
    stage.vast(|vast, _| vast.add_fault(unsaid.times(None)));
    let began = tokio::time::Instant::now();
    let released = stop(&process.engine, "one", &stage.call()).await.expect("proved");
    assert_eq!(released.outcome, ReleaseOutcome::Destroyed);
    assert!(
        began.elapsed() >= Duration::from_secs(10),
        "two looks, ten seconds apart: {:?}",
        began.elapsed()
    );
    assert_eq!((open(&stage).len(), stage.claims().len()), (0, 0));

    let stage = Stage::new();
    let process = stage.process();
    let other = warm(&stage, &process, "two", true).await;
    let unsaid = Fault::once("DELETE", "/api/v0/instances/*/", answer(200, &json!({}))).times(None);
    stage.vast(|vast, _| vast.add_fault(unsaid));
    // One read in which the record is missing for a moment is no proof after an answer that says nothing.
    let blind = Fault::once(
        "GET",
        "/api/v1/instances/",
        answer(
            200,
            &json!({
        "success": true, "instances": [], "total_instances": 0, "next_token": null}),
        ),
    );
    stage.vast(|vast, _| vast.add_fault(blind));
    let error = stop(&process.engine, "two", &stage.call()).await.expect_err("it is there");
    assert!(error.retryable(), "{error}");
    assert_eq!((open(&stage), stage.claims().len()), (vec![other.instance], 1));
    assert_ne!(lease.instance, 0);
}

/// Leases of dead processes whose destroys stall: together they hold up nobody for longer than one limit.
#[tokio::test(start_paused = true)]
async fn dead_leases_whose_destroys_stall_hold_up_a_command_for_one_limit_only() {
    let stage = Stage::with(|settings| settings.rate_limits = false);
    let (one, two, three) = (stage.process(), stage.process(), stage.process());
    let call = stage.call();
    // On the heap: three runs side by side are more than a test's stack holds.
    let [one, two, three] = [&one, &two, &three].map(|process| Box::pin(run(&process.engine, &call)));
    let dying = Box::pin(async { tokio::join!(one, two, three) });
    let dead = tokio::time::timeout(Duration::from_secs(27), dying).await;
    assert!(dead.is_err(), "they die while their machines start");
    assert!(open(&stage).len() > 1, "{:?}", open(&stage));
    pass(Duration::from_secs(120)).await;
    let fresh = Stage::with(|settings| settings.rate_limits = false);
    let began = tokio::time::Instant::now();
    Box::pin(warm(&fresh, &fresh.process(), "kept", true)).await;
    let usual = began.elapsed();
    let stall = Fault::once("DELETE", "/api/v0/instances/*/", Effect::Stall).times(None);
    stage.vast(|vast, _| vast.add_fault(stall));
    let process = stage.process();
    let began = tokio::time::Instant::now();
    let kept = Box::pin(warm(&stage, &process, "kept", true)).await;
    let took = began.elapsed();
    assert!(took < usual + Duration::from_secs(33), "{took:?}, usually {usual:?}");
    assert!(open(&stage).contains(&kept.instance));
}

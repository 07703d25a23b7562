//! What crabbox does to money and to the state of a lease, and this does not. Others of the kind are shown where they
//! belong: kills in `faults` and `replay`, bids and caps in `money`, offers that are taken in `faults`.

use crate::virtual_time::Stage;
use crabbox_vast_engine::ops::{AcquireRequest, ReleaseRequest, Released};
use crabbox_vast_engine::{Code, Engine, Result};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::{Value, json};
use std::time::Duration;

fn kept() -> AcquireRequest {
    AcquireRequest { keep: true, ..AcquireRequest::default() }
}

async fn release(stage: &Stage, engine: &Engine) -> Result<Released> {
    let request = ReleaseRequest { identifier: stage.claims().remove(0), action: None };
    engine.release(&request, &stage.call()).await
}

/// Waits for the first instance and sets columns and knobs of it.
async fn alter(stage: &Stage, columns: &Value) -> u64 {
    while stage.ledger().open.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let id = stage.ledger().open[0].id;
    stage.control("POST", &format!("/_sim/instances/{id}"), columns);
    id
}

/// A kept lease whose SSH never lets us in: no second machine is rented beside it, and it is not left billing.
#[tokio::test(start_paused = true)]
async fn a_kept_lease_that_never_answers_leaves_no_machine_and_rents_no_second() {
    for (knob, code) in [("refuse_keys", Code::SshRefused), ("sshd", Code::BootTimeout)] {
        let stage = Stage::new();
        // Less time than a silent machine is given: there is none left for another one.
        let process =
            stage.process_with(None, |settings| settings.boot_timeout = Duration::from_secs(4 * 60));
        let call = stage.call();
        let request = kept();
        let knobs = json!({ knob: knob == "refuse_keys" });
        let (outcome, _) = tokio::join!(process.engine.acquire(&request, &call), alter(&stage, &knobs));
        let error = outcome.map(|_| ()).expect_err(knob);
        assert_eq!(error.code(), code, "{error}");
        let ledger = stage.ledger();
        assert_eq!((ledger.created, ledger.open.len()), (1, 0), "{knob}");
        assert_eq!(stage.claims(), Vec::<String>::new(), "{knob}");
    }
}

/// The key dies with the instance: nothing is detached, so nothing that fails can hold the destroy up.
#[tokio::test(start_paused = true)]
async fn no_detach_stands_before_a_destroy() {
    let stage = Stage::new();
    let broken = Fault::once("DELETE", "/api/v0/instances/*/ssh/*", Effect::Html(500)).times(None);
    stage.vast(|vast, _| vast.add_fault(broken));
    let process = stage.process();
    process.engine.acquire(&kept(), &stage.call()).await.expect("acquires");
    release(&stage, &process.engine).await.expect("releases");
    assert_eq!(stage.ledger().open.len(), 0);
    let calls = stage.calls.lock().expect("not poisoned").clone();
    assert!(!calls.iter().any(|call| call.starts_with("DELETE") && call.contains("/ssh/")), "{calls:?}");
}

/// A destroy that answers `success:false` with status 200 is none: the claim stays and leads to the machine.
#[tokio::test(start_paused = true)]
async fn a_refused_destroy_is_no_destroy() {
    let stage = Stage::new();
    let process = stage.process();
    process.engine.acquire(&kept(), &stage.call()).await.expect("acquires");
    let refusal = Effect::Answer {
        status: 200,
        content_type: "application/json".into(),
        body: r#"{"success":false,"msg":"Instance not owned by account."}"#.into(),
        headers: vec![],
    };
    stage.vast(|vast, _| vast.add_fault(Fault::once("DELETE", "/api/v0/instances/*/", refusal).times(None)));
    release(&stage, &process.engine).await.expect_err("it still runs");
    assert_eq!((stage.ledger().open.len(), stage.claims().len(), stage.keys().len()), (1, 1, 1));
    stage.control("DELETE", "/_sim/faults", &Value::Null);
    release(&stage, &process.engine).await.expect("releases");
    assert_eq!((stage.ledger().open.len(), stage.claims().len()), (0, 0));
}

/// Somebody relabelled the machine: our journal knows it as the answer to our create.
#[tokio::test(start_paused = true)]
async fn a_relabelled_machine_is_still_ours_and_a_look_alike_is_not() {
    let stage = Stage::new();
    let process = stage.process();
    process.engine.acquire(&kept(), &stage.call()).await.expect("acquires");
    let other = stage.control("POST", "/_sim/instances", &json!({"label": "renamed"}));
    alter(&stage, &json!({"label": "renamed"})).await;
    release(&stage, &process.engine).await.expect("releases");
    let open: Vec<u64> = stage.ledger().open.iter().map(|instance| instance.id).collect();
    assert_eq!(open, [other["id"].as_u64().expect("an id")], "the stranger's runs on");
}

/// The idle time counts from ready, not from the call: a boot of an hour does not use it up.
#[tokio::test(start_paused = true)]
async fn a_slow_boot_does_not_expire_the_lease() {
    let stage = Stage::with(|settings| settings.boot = Duration::from_secs(16 * 60));
    let process = stage.process_with(None, |settings| settings.idle_timeout = Duration::from_secs(10 * 60));
    let began = tokio::time::Instant::now();
    let lease = process.engine.acquire(&kept(), &stage.call()).await.expect("acquires");
    assert!(began.elapsed() > Duration::from_secs(15 * 60));
    let status = process.engine.status(lease.facts().id.as_str(), &stage.call()).await.expect("shows");
    assert!(status.idle_secs.is_some_and(|idle| idle < 60), "{:?}", status.idle_secs);
    let left =
        lease.facts().expires_at.expect("an expiry") - 1_780_000_000 - began.elapsed().as_secs() as i64;
    assert!((9 * 60..=10 * 60).contains(&left), "{left} s left");
}

/// Neither the label nor the claim says ready before SSH let us in, and a status that is not known yet is not running.
#[tokio::test(start_paused = true)]
async fn ready_is_said_after_ssh_and_nothing_known_is_not_running() {
    let stage = Stage::new();
    let (process, watcher) = (stage.process(), stage.process());
    let call = stage.call();
    let request = kept();
    let watch = async {
        alter(&stage, &json!({"sshd": false})).await;
        let lease = stage.claims().remove(0);
        for second in 0..180 {
            let open = stage.ledger().open;
            let label = open[0].label.clone().unwrap_or_default();
            assert!(label.ends_with("|provisioning"), "after {second} s: {label}");
            if second == 8 {
                // The record shows, with no status yet, or barely: never as running.
                let listed = watcher.engine.list(false, &stage.call()).await.expect("lists");
                assert!(listed.iter().all(|line| line.status != "ready"), "{listed:?}");
                let status = watcher.engine.status(&lease, &stage.call()).await.expect("shows");
                assert_eq!((status.state.as_str(), status.ready), ("provisioning", false));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        alter(&stage, &json!({"sshd": true})).await;
    };
    let (outcome, ()) = tokio::join!(process.engine.acquire(&request, &call), watch);
    outcome.expect("acquires");
    let label = stage.ledger().open[0].label.clone().unwrap_or_default();
    assert!(label.ends_with("|ready"), "{label}");
}

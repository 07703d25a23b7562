//! A machine that goes to a higher bid, is stopped, or vanishes while a command runs on it: the command's failure says
//! which. Over real SSH.

use crate::bench::{Bench, collect};
use crabbox_vast_engine::config::InstanceType;
use crabbox_vast_engine::ops::{AcquireRequest, ExecRequest};
use crabbox_vast_engine::ssh::command::Script;
use crabbox_vast_engine::{Code, Error, Event};
use crabbox_vast_sim::api::Request;
use serde_json::{Value, json};
use std::time::Duration;

/// Runs a long command on an interruptible machine and does something to the machine meanwhile.
async fn cut_off(meddle: impl FnOnce(&Bench, u64)) -> (Bench, Error) {
    let bench = Bench::new().await;
    let engine = bench.engine_with(|settings| settings.instance_type = InstanceType::Interruptible);
    let call = bench.call();
    let lease = engine.acquire(&AcquireRequest::default(), &call).await.expect("acquires");
    let request = ExecRequest {
        script: Script::Argv(["sh", "-c", "echo on; sleep 60"].map(str::to_owned).to_vec()),
        env: Default::default(),
        folder: None,
    };
    let (io, _collected) = collect(None);
    let instance = lease.facts().instance.0;
    let (outcome, ()) = tokio::join!(lease.exec(&request, io, &call), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        meddle(&bench, instance);
    });
    let error = outcome.expect_err("the command is cut off");
    (bench, error)
}

fn send(bench: &Bench, method: &str, path: &str, body: &Value) {
    let request = Request::new(method, path).bearer(bench.sim.api_key()).json(body);
    let reply = bench.sim.with_world(|world, now| world.handle(now, &request));
    assert_eq!(reply.status, 200, "{path}");
}

#[tokio::test]
async fn a_command_that_was_outbid_says_so() {
    let (bench, error) =
        cut_off(|bench, _| send(bench, "POST", "/_sim/market", &json!({"min_bid_factor": 5.0}))).await;
    assert_eq!(error.code(), Code::Outbid, "{error}");
    let hint = error.hint_text().unwrap_or_default();
    assert!(hint.contains("cut off") && hint.contains("billed on") && hint.contains("stop "), "{hint}");
    let events = bench.events.lock().expect("not poisoned");
    assert!(events.iter().any(|event| matches!(event, Event::Outbid { .. })), "{events:?}");
}

#[tokio::test]
async fn a_command_whose_account_ran_out_of_credit_says_so() {
    let stop = json!({"actual_status": "exited", "intended_status": "stopped", "cur_state": "stopped",
                      "next_state": "stopped"});
    let (bench, error) = cut_off(|bench, id| {
        send(bench, "POST", "/_sim/account", &json!({"credit": -0.5}));
        send(bench, "POST", &format!("/_sim/instances/{id}"), &stop);
    })
    .await;
    assert_eq!(error.code(), Code::InsufficientCredit, "{error}");
    let hint = error.hint_text().unwrap_or_default();
    assert!(hint.contains("cut off") && hint.contains("add credit"), "{hint}");
    let events = bench.events.lock().expect("not poisoned");
    assert!(!events.iter().any(|event| matches!(event, Event::Outbid { .. })), "{events:?}");
}

#[tokio::test]
async fn a_command_whose_machine_was_destroyed_says_so() {
    let (_bench, error) =
        cut_off(|bench, id| send(bench, "DELETE", &format!("/api/v0/instances/{id}/"), &json!({}))).await;
    assert_eq!(error.code(), Code::InstanceGone, "{error}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("clears the claim")), "{error:?}");
}

#[tokio::test]
async fn a_command_whose_machine_was_stopped_says_so() {
    let stop = json!({"state": "stopped", "actual_status": "exited", "cur_state": "stopped"});
    let (_bench, error) =
        cut_off(|bench, id| send(bench, "POST", &format!("/_sim/instances/{id}"), &stop)).await;
    assert_eq!(error.code(), Code::InstanceNotRunning, "{error}");
}

//! Faults, the control plane, the bill, the record of requests, and sameness under a seed.

mod common;

use common::{Bench, KEY, PUBLIC_KEY, create_body};
use crabbox_vast_sim::api::{Delivery, Effect, Fault, Request};
use serde_json::{Value, json};
use std::time::Duration;

fn create(bench: &mut Bench) -> crabbox_vast_sim::api::Reply {
    let ask = bench.offer()["id"].as_u64().expect("an id");
    let request = Request::new("PUT", &format!("/api/v0/asks/{ask}/")).bearer(KEY);
    bench.send(&request.json(&create_body(json!({}))))
}

#[test]
fn a_lost_answer_leaves_the_contract() {
    let mut bench = Bench::new();
    bench.fault(Fault::once("PUT", "/api/v0/asks/*/", Effect::Reset).after_commit());
    assert_eq!(create(&mut bench).delivery, Delivery::Reset);
    assert_eq!(bench.world.ledger().open.len(), 1);
    bench.fault(Fault::once("PUT", "/api/v0/asks/*/", Effect::Reset));
    assert_eq!(create(&mut bench).delivery, Delivery::Reset);
    assert_eq!(bench.world.ledger().open.len(), 1, "before the commit nothing happens");
}

#[test]
fn every_effect_spoils_in_its_own_way() {
    let mut bench = Bench::new();
    let mut spoiled = |effect: Value| {
        let rule =
            json!({"method": "GET", "path": "/api/v0/users/current/", "timing": "after", "effect": effect});
        assert_eq!(bench.control("POST", "/faults", rule).0, 200);
        bench.send(&Request::new("GET", "/api/v0/users/current/").bearer(KEY))
    };
    assert_eq!(spoiled(json!("reset")).delivery, Delivery::Reset);
    assert_eq!(spoiled(json!("stall")).delivery, Delivery::Stall);
    assert!(matches!(spoiled(json!("truncate")).delivery, Delivery::Truncate(half) if half > 0));
    assert!(spoiled(json!("empty")).body.is_empty());
    let page = spoiled(json!("html_502"));
    assert_eq!((page.status, page.headers[0].1.as_str()), (502, "text/html"));
    assert_eq!(spoiled(json!("html_200")).status, 200);
    assert_eq!(spoiled(json!({"too_many": 2})).status, 429);
    assert_eq!(spoiled(json!({"delay_ms": 70})).delay, Duration::from_millis(70));
    let own = spoiled(json!({"status": 503, "body": {"a": 1}, "headers": {"retry-after": "3"}}));
    assert_eq!((own.status, own.body_json()), (503, json!({"a": 1})));
    assert!(own.headers.contains(&("retry-after".to_owned(), "3".to_owned())));
    assert_eq!(spoiled(json!("no_such_ask")).body_json()["error"], "invalid_args");
}

#[test]
fn rules_count_their_own_calls() {
    let mut bench = Bench::new();
    let rule = json!({"path": "/api/v0/users/*", "nth": 2, "count": 2, "effect": {"status": 500, "body": "no {id}"}});
    bench.control("POST", "/faults", rule);
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(bench.get("/v0/users/current/").0);
    }
    assert_eq!(statuses, [200, 500, 500, 200, 200]);
    bench.fault(Fault::once("GET", "*", Effect::Html(504)).times(None));
    assert_eq!([bench.get("/v0/users/current/").0, bench.get("/v1/instances/").0], [504, 504]);
    bench.control("DELETE", "/faults", Value::Null);
    assert_eq!(bench.get("/v0/users/current/").0, 200);
    assert_eq!(bench.control("POST", "/faults", json!({"path": "*", "effect": "explode"})).0, 400);
}

#[test]
fn the_gpu_is_billed_while_running_and_the_disk_always() {
    let mut bench = Bench::new();
    let id = bench.rent(json!({}));
    let record = bench.wait(45.0).read(id);
    let number = |name: &str| record[name].as_f64().expect("a price");
    let (gpu, disk) = (number("dph_base"), number("storage_total_cost"));
    let before = bench.world.ledger().accrued;
    assert!((before - disk * 45.0 / 3600.0).abs() < 1e-9, "no GPU before running");
    bench.wait(3600.0).call("PUT", &format!("/v0/instances/{id}/"), json!({"state": "stopped"}));
    assert!((bench.world.ledger().accrued - before - gpu - disk).abs() < 1e-9);
    bench.wait(5.0).read(id);
    let stopped = bench.world.ledger();
    assert!((stopped.open[0].dollars_per_hour - disk).abs() < 1e-9);
    bench.wait(3600.0).call("DELETE", &format!("/v0/instances/{id}/"), json!({}));
    let end = bench.world.ledger();
    assert!((end.accrued - stopped.accrued - disk).abs() < 1e-9);
    bench.wait(3600.0).read(id);
    let later = bench.world.ledger();
    assert_eq!((later.accrued, later.open.len(), later.destroyed), (end.accrued, 0, 1));
    assert!((later.credit - (25.0 - later.accrued)).abs() < 1e-9);
}

#[test]
fn without_credit_everything_stops() {
    let mut bench = Bench::with(|settings| {
        settings.credit = 0.05;
        settings.rate_limits = false;
    });
    let id = bench.rent(json!({}));
    let record = bench.wait(3.0 * 3600.0).read(id);
    assert_eq!((&record["actual_status"], &record["intended_status"]), (&json!("exited"), &json!("stopped")));
    let (status, body) = bench.call("PUT", &format!("/v0/instances/{id}/"), json!({"state": "running"}));
    assert_eq!((status, &body["error"]), (400, &json!("missing_billing")));
    assert!(bench.world.ledger().credit < 0.0, "the disk is billed on");
}

#[test]
fn the_control_plane_alters_what_is_seen() {
    let mut bench = Bench::new();
    let (_, made) =
        bench.control("POST", "/instances", json!({"label": "somebody else's", "gpu_name": "H100 SXM"}));
    let id = made["id"].as_u64().expect("an id");
    assert_eq!(bench.read(id)["label"], "somebody else's");
    let path = format!("/instances/{id}");
    bench.control(
        "POST",
        &path,
        json!({"dph_total": 99.5, "status_msg": "OCI runtime create failed: x", "freeze": true}),
    );
    let record = bench.wait(600.0).read(id);
    assert_eq!((&record["dph_total"], &record["actual_status"]), (&json!(99.5), &Value::Null));
    assert_eq!(record["status_msg"], "OCI runtime create failed: x");
    bench.control("POST", &path, json!({"actual_status": "running", "hidden": true}));
    assert!(bench.read(id)["ports"].is_object());
    assert_eq!(bench.get("/v1/instances/").1["total_instances"], 0);
    let (_, state) = bench.control("GET", "/state", Value::Null);
    assert_eq!(state["instances"][0]["id"], id);
    assert_eq!(bench.control("POST", "/instances/1", json!({})).0, 400);
    let ask = bench.offer()["id"].as_u64().expect("an offer");
    assert_eq!(bench.control("POST", &format!("/offers/{ask}/take"), json!({})).0, 200);
    assert_eq!(bench.call("PUT", &format!("/v0/asks/{ask}/"), create_body(json!({}))).0, 400);
}

#[test]
fn changing_the_simulator_needs_the_key() {
    let mut bench = Bench::new();
    let shutdown = Request::new("POST", "/_sim/shutdown");
    assert_eq!(bench.send(&shutdown).status, 401);
    assert!(!bench.world.shutdown_asked());
    assert_eq!(bench.send(&Request::new("GET", "/_sim/ledger")).status, 200);
    assert_eq!(bench.send(&shutdown.bearer(KEY)).status, 200);
    assert!(bench.world.shutdown_asked());
}

#[test]
fn time_can_jump() {
    let mut bench = Bench::new();
    let id = bench.rent(json!({}));
    bench.control("POST", "/advance", json!({"seconds": 60}));
    assert_eq!(bench.read(id)["actual_status"], "running");
    assert_eq!(bench.wait(1.0).control("POST", "/advance", json!({"seconds": 9})).1["now"], 70.0);
}

#[test]
fn the_record_of_requests_holds_no_secret() {
    let mut bench = Bench::new();
    let ask = bench.offer()["id"].as_u64().expect("an id");
    let extra = json!({"image_login": "-u me -p hunter2 ghcr.io", "env": {"TOKEN": "hunter3"}, "onstart": format!("echo {KEY}")});
    let (_, body) = bench.call("PUT", &format!("/v0/asks/{ask}/"), create_body(extra));
    let container_key = body["instance_api_key"].as_str().expect("a key").to_owned();
    bench.send(&Request::new("GET", &format!("/api/v0/users/current/?api_key={KEY}")));
    bench.send(&Request::new("GET", "/api/v0/instances/1/").bearer(&container_key));
    let (_, requests) = bench.control("GET", "/requests", Value::Null);
    let text = requests.to_string();
    for secret in [KEY, &container_key, "hunter2", "hunter3"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let create = &requests["requests"][1];
    assert_eq!(
        (&create["method"], &create["status"], &create["caller"]),
        (&json!("PUT"), &json!(200), &json!("owner"))
    );
    assert_eq!(create["body"]["env"]["TOKEN"], "[redacted]");
    assert_eq!(requests["requests"][2]["key_in_url"], true);
    let (_, state) = bench.control("GET", "/state", Value::Null);
    assert!(!state.to_string().contains("hunter3"));
}

/// A little of everything, as one text.
fn history(seed: u64) -> String {
    let mut bench = Bench::with(|settings| {
        settings.seed = seed;
        settings.rate_limits = false;
    });
    let mut text = String::new();
    for round in 0..3 {
        let id = bench.rent(json!({"label": format!("round {round}"), "ssh_key": PUBLIC_KEY}));
        for _ in 0..6 {
            text.push_str(&bench.wait(17.0).read(id).to_string());
            text.push_str(&bench.get("/v1/instances/").1.to_string());
        }
        text.push_str(&bench.call("DELETE", &format!("/v0/instances/{id}/"), json!({})).1.to_string());
    }
    text.push_str(&json!(bench.offers(json!({}))).to_string());
    text + &bench.world.ledger().to_json().to_string()
}

#[test]
fn the_same_seed_gives_the_same_history() {
    assert_eq!(history(3), history(3));
    assert_ne!(history(3), history(4));
}

#[test]
fn time_never_goes_back() {
    let mut bench = Bench::new();
    let id = bench.rent(json!({}));
    bench.wait(60.0).read(id);
    bench.now = Duration::ZERO;
    assert_eq!(bench.read(id)["actual_status"], "running");
}

//! The published intervals, and who may call at all.

mod common;

use common::{Bench, KEY, create_body};
use crabbox_vast_sim::api::Request;
use serde_json::{Value, json};

fn limited() -> Bench {
    Bench::with(|_| {})
}

#[test]
fn a_read_is_allowed_every_two_seconds() {
    let mut bench = limited();
    let path = "/v0/instances/5/";
    assert_eq!(bench.get(path).0, 200);
    assert_eq!(bench.wait(1.9).get(path).0, 429);
    assert_eq!(bench.wait(0.1).get(path).0, 200, "a refused call does not count");
    assert_eq!(bench.get("/v1/instances/").0, 200, "each endpoint counts for itself");
    assert_eq!(bench.wait(0.9).get("/v1/instances/").0, 429);
    assert_eq!(bench.wait(0.2).get("/v1/instances/").0, 200);
    assert_eq!(bench.get("/v0/users/current/").0, 200);
    assert_eq!(bench.get("/v0/users/current/").0, 200, "no interval is published for this one");
}

#[test]
fn the_interval_counts_for_the_endpoint_not_for_the_instance() {
    let mut bench = limited();
    assert_eq!(bench.get("/v0/instances/5/").0, 200);
    assert_eq!(bench.get("/v0/instances/6/").0, 429);
}

#[test]
fn an_early_create_is_shut_out_for_twelve_seconds() {
    let mut bench = limited();
    let create = |bench: &mut Bench| bench.call("PUT", "/v0/asks/1/", create_body(json!({}))).0;
    assert_eq!(create(&mut bench), 400);
    assert_eq!(create(bench.wait(4.6)), 400);
    assert_eq!(create(bench.wait(1.0)), 429);
    assert_eq!(create(bench.wait(5.0)), 429, "the interval is over, the penalty is not");
    assert_eq!(create(bench.wait(6.9)), 429);
    assert_eq!(create(bench.wait(0.2)), 400);
}

#[test]
fn a_refusal_comes_in_four_forms() {
    let mut bench = limited();
    bench.call("DELETE", "/v0/instances/5/", json!({}));
    let request = Request::new("DELETE", "/api/v0/instances/5/").bearer(KEY);
    let replies: Vec<_> = (0..5).map(|_| bench.send(&request)).collect();
    assert!(replies.iter().all(|reply| reply.status == 429));
    let text = |index: usize| String::from_utf8_lossy(&replies[index].body).into_owned();
    assert_eq!(text(0), "API requests too frequent");
    assert_eq!(text(1), "API requests too frequent: endpoint threshold=3.0");
    assert_eq!(replies[2].body_json(), json!({"detail": "API requests too frequent endpoint threshold=3.0"}));
    let message = "API requests too frequent endpoint threshold=3.0";
    assert_eq!(
        replies[3].body_json(),
        json!({"success": false, "error": "rate_limit_exceeded", "msg": message})
    );
    assert_eq!(text(4), text(0));
    assert!(replies.iter().all(|reply| reply.headers.iter().all(|(name, _)| name != "retry-after")));
}

#[test]
fn ten_searches_a_minute() {
    let mut bench = limited();
    let search = |bench: &mut Bench| bench.call("POST", "/v0/bundles/", json!({"limit": 1})).0;
    for _ in 0..10 {
        assert_eq!(search(bench.wait(1.0)), 200);
    }
    assert_eq!(search(&mut bench), 429);
    assert_eq!(search(bench.wait(51.5)), 200);
}

#[test]
fn the_intervals_are_real_time_however_fast_the_clock() {
    let mut bench = Bench::with(|settings| settings.time_scale = 60.0);
    assert_eq!(bench.get("/v0/instances/5/").0, 200);
    assert_eq!(bench.wait(100.0).get("/v0/instances/5/").0, 429);
    assert_eq!(bench.wait(21.0).get("/v0/instances/5/").0, 200);
}

#[test]
fn who_may_call() {
    let mut bench = Bench::new();
    let me = Request::new("GET", "/api/v0/users/current/");
    let reply = bench.send(&me);
    assert_eq!((reply.status, &reply.body_json()["error"]), (401, &json!("auth_error")));
    let reply = bench.send(&me.clone().bearer("wrong"));
    assert_eq!((reply.status, &reply.body_json()["msg"]), (404, &json!("Invalid user key")));
    assert_eq!(
        bench.send(&Request::new("GET", &format!("/api/v0/users/current/?api_key={KEY}"))).status,
        200
    );
    assert_eq!(bench.send(&me.bearer(KEY)).body_json()["id"], 184_467);
}

#[test]
fn a_containers_key_is_good_for_itself_only() {
    let mut bench = Bench::new();
    let ask = bench.offer()["id"].as_u64().expect("an id");
    let (_, body) = bench.call("PUT", &format!("/v0/asks/{ask}/"), create_body(json!({})));
    let own = body["new_contract"].as_u64().expect("a contract");
    let key = body["instance_api_key"].as_str().expect("a key").to_owned();
    let other = bench.rent(json!({"label": "other"}));
    bench.wait(10.0);
    let send = |bench: &mut Bench, method: &str, path: String| {
        bench.send(&Request::new(method, &path).bearer(&key)).status
    };
    assert_eq!(send(&mut bench, "DELETE", format!("/api/v0/instances/{other}/")), 403);
    assert_eq!(send(&mut bench, "GET", "/api/v1/instances/".to_owned()), 403);
    assert_eq!(send(&mut bench, "DELETE", format!("/api/v0/instances/{own}/")), 200);
    assert_eq!(send(&mut bench, "DELETE", format!("/api/v0/instances/{own}/")), 404, "the key died with it");
    assert_eq!(bench.world.ledger().open.len(), 1);
}

#[test]
fn a_revoked_key_is_no_longer_known() {
    let mut bench = Bench::new();
    let id = bench.rent(json!({}));
    bench.wait(10.0);
    bench.control("POST", "/account", json!({"revoked": true}));
    let (status, body) = bench.call("DELETE", &format!("/v0/instances/{id}/"), Value::Null);
    assert_eq!((status, &body["error"]), (404, &json!("auth_error")));
    assert_eq!(bench.world.ledger().open.len(), 1);
}

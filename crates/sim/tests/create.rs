//! Renting: what is refused and with which body, what is taken, and low bids.

mod common;

use common::{Bench, create_body};
use serde_json::{Value, json};

fn create(bench: &mut Bench, extra: Value) -> (u16, Value) {
    let ask = bench.offer()["id"].as_u64().expect("an id");
    bench.call("PUT", &format!("/v0/asks/{ask}/"), create_body(extra))
}

#[test]
fn a_create_answers_with_contract_and_container_key() {
    let mut bench = Bench::new();
    let offer = bench.offer();
    let ask = offer["id"].as_u64().expect("an id");
    let (status, body) = bench.call("PUT", &format!("/v0/asks/{ask}/"), create_body(json!({})));
    assert_eq!((status, &body["success"]), (200, &json!(true)));
    assert_eq!(body["instance_api_key"].as_str().map(str::len), Some(64));
    let id = body["new_contract"].as_u64().expect("a contract");
    let record = bench.wait(6.0).read(id);
    assert_eq!(record["label"], "cbx1|test");
    assert_eq!(record["machine_id"], offer["machine_id"]);
    assert_eq!(record["is_bid"], false);
    assert_eq!(record["image_runtype"], "ssh ssh_direc ssh_proxy");
    assert!(record.get("instance_api_key").is_none());
    assert!(record.get("gpu_totalram").is_some() && record.get("gpu_total_ram").is_none());
    assert_eq!(record["extra_env"], json!([["GREETING", "hello"]]));
}

#[test]
fn an_offer_can_be_taken_once() {
    let mut bench = Bench::new();
    let ask = bench.offer()["id"].as_u64().expect("an id");
    let path = format!("/v0/asks/{ask}/");
    assert_eq!(bench.call("PUT", &path, create_body(json!({}))).0, 200);
    let (status, body) = bench.call("PUT", &path, create_body(json!({})));
    assert_eq!(status, 400);
    let text = format!("error 404/3603: no_such_ask  Instance type by id {ask} is not available.");
    assert_eq!(body, json!({"success": false, "error": "invalid_args", "ask_id": ask, "msg": text}));
    let still = bench.offers(json!({"ask_contract_id": {"eq": ask}}));
    assert!(still.is_empty());
    assert_eq!(bench.world.ledger().created, 1);
}

#[test]
fn refusals_have_the_vendors_bodies_and_create_nothing() {
    let mut bench = Bench::new();
    let oversize =
        "error 400/3471: Invalid args: len(image) > 1024, or len(args) > 16384, or len(label) > 256";
    let cases = [
        (json!({"label": "x".repeat(257)}), 400, "invalid_args", oversize),
        (json!({"onstart": "x".repeat(16_385)}), 400, "invalid_args", oversize),
        (json!({"args": ["x".repeat(16_385)]}), 400, "invalid_args", oversize),
        (json!({"image": format!("{}:1", "x".repeat(1024))}), 400, "invalid_args", oversize),
        (json!({"image": ""}), 400, "invalid_args", "error 400/3467: Invalid args: image"),
        (json!({"image": "ubuntu"}), 500, "server_error", "Something went wrong on the server"),
        (json!({"disk": 7.5}), 400, "invalid_args", "error 400/3467: Invalid args: disk"),
        (json!({"env": ["A=1"]}), 400, "invalid_args", "invalid env type: env must be a dict"),
        (
            json!({"env": {"A": "x".repeat(33_000)}}),
            400,
            "invalid_args",
            "invalid env arguments, total length > 32KB",
        ),
        (json!({"price": 0.0001}), 400, "invalid_price", "Invalid bid price."),
        (json!({"id": 5}), 400, "invalid_args", "error 400/3466: params duplicated in URL and body: id"),
    ];
    for (extra, status, code, text) in cases {
        let (got, body) = create(&mut bench, extra.clone());
        assert_eq!((got, &body["error"], &body["msg"]), (status, &json!(code), &json!(text)), "{extra}");
    }
    assert_eq!(bench.world.ledger().created, 0);
}

#[test]
fn unparsable_json_and_ids_are_refused() {
    let mut bench = Bench::new();
    let request = crabbox_vast_sim::api::Request::new("PUT", "/api/v0/asks/1/").bearer(common::KEY);
    let mut broken = request.clone();
    broken.body = b"{\"image\":".to_vec();
    let body = bench.send(&broken).body_json();
    assert_eq!(body["msg"], "error 400/1782: Invalid args: invalid json: {}");
    assert_eq!(bench.call("PUT", "/v0/asks/abc/", create_body(json!({}))).0, 400);
}

#[test]
fn an_env_string_is_ignored_or_refused() {
    let mut bench = Bench::new();
    let id = bench.rent(json!({"env": "-e A=1"}));
    assert_eq!(bench.wait(6.0).read(id)["extra_env"], json!([]));
    let mut strict = Bench::with(|settings| settings.refuse_env_string = true);
    let (status, body) = create(&mut strict, json!({"env": "-e A=1"}));
    assert_eq!((status, &body["msg"]), (400, &json!("invalid env type: env must be a dict")));
}

#[test]
fn without_credit_nothing_is_created() {
    let mut bench = Bench::with(|settings| settings.credit = -0.038);
    let (status, body) = create(&mut bench, json!({}));
    assert_eq!(status, 400);
    let text = "Your account lacks credit; see the billing page.";
    assert_eq!(body, json!({"success": false, "error": "insufficient_credit", "msg": text}));
    assert_eq!(bench.world.ledger().created, 0);
    assert_eq!(bench.get("/v0/users/current/").1["credit"], -0.038);
}

#[test]
fn a_low_bid_fails_and_still_costs() {
    let mut bench = Bench::new();
    let (status, body) = create(&mut bench, json!({"price": 0.002}));
    assert_eq!((status, &body["success"]), (200, &json!(false)));
    let id = body["new_contract"].as_u64().expect("a contract nobody wanted");
    let record = bench.wait(6.0).read(id);
    assert_eq!(record["is_bid"], true);
    for state in ["intended_status", "cur_state", "next_state"] {
        assert_eq!(record[state], "stopped", "{state}");
    }
    bench.wait(3600.0).read(id);
    let ledger = bench.world.ledger();
    assert_eq!(ledger.open.len(), 1);
    assert!(ledger.accrued > 0.0, "the disk is billed");
}

#[test]
fn a_good_bid_runs_at_its_own_price() {
    let mut bench = Bench::new();
    let price = bench.offer()["min_bid"].as_f64().expect("a minimum") + 0.01;
    let id = bench.rent(json!({"price": price}));
    let record = bench.wait(60.0).read(id);
    assert_eq!((&record["actual_status"], &record["is_bid"]), (&json!("running"), &json!(true)));
    assert_eq!(record["dph_base"], price);
    let (status, body) =
        bench.call("PUT", &format!("/v0/instances/bid_price/{id}/"), json!({"client_id": "me", "price": 0}));
    assert_eq!((status, &body["msg"]), (400, &json!("Please set a bid price >= 0.001.")));
    assert_eq!(bench.call("PUT", &format!("/v0/instances/bid_price/{id}/"), json!({"price": 1.5})).0, 200);
    assert_eq!(bench.read(id)["dph_base"], 1.5);
}

//! The offer search: doors, defaults, operators, and what the vendor gets wrong.

mod common;

use common::{Bench, KEY};
use crabbox_vast_sim::api::Request;
use serde_json::{Value, json};

fn prices(offers: &[Value]) -> Vec<f64> {
    offers.iter().map(|offer| offer["dph_total"].as_f64().expect("a price")).collect()
}

#[test]
fn three_doors_lead_to_the_same_offers() {
    let mut bench = Bench::new();
    let query = json!({"gpu_name": {"eq": "RTX 4090"}, "order": [["dph_total", "asc"]]});
    let by_body = bench.offers(query.clone());
    let encoded: String = query.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect();
    let (_, by_parameter) = bench.get(&format!("/v0/bundles/?q={encoded}"));
    let (_, by_put) = bench.call("PUT", "/v0/search/asks/", json!({"select_cols": ["*"], "q": query}));
    assert!(!by_body.is_empty());
    assert_eq!(json!(by_body), by_parameter["offers"]);
    assert_eq!(json!(by_body), by_put["offers"]);
    assert!(prices(&by_body).is_sorted());
}

#[test]
fn silent_queries_mean_verified_rentable_and_not_rented() {
    let mut bench = Bench::new();
    let plain = bench.offers(json!({}));
    assert!(plain.iter().all(|offer| offer["verification"] == "verified" && offer["rentable"] == true));
    let all = bench.offers(json!({"verified": {"in": [true, false]}, "rentable": {"in": [true, false]},
                                  "rented": {"in": [true, false]}}));
    assert_eq!(all.len(), 42);
    assert!(all.len() > plain.len());
    assert!(all.iter().any(|offer| offer["verification"] == "unverified"));
    assert!(all.iter().any(|offer| offer["cpu_name"].is_null()), "some columns are null");
}

#[test]
fn the_market_has_every_gpu_and_all_offer_columns() {
    let mut bench = Bench::new();
    for name in ["RTX 4090", "RTX 3090", "H100 SXM", "A100 SXM4", "RTX 5090"] {
        let offers = bench.offers(json!({"gpu_name": {"eq": name}, "direct_port_count": {"gte": 1}}));
        assert!(!offers.is_empty(), "{name}");
        assert_eq!(offers[0]["id"], offers[0]["ask_contract_id"]);
        assert_eq!(offers[0]["reliability"], offers[0]["reliability2"]);
    }
    assert!(bench.offers(json!({"gpu_name": {"eq": "RTX_4090"}})).is_empty(), "names have spaces");
    let offer = bench.offer();
    for column in [
        "bundle_id",
        "machine_id",
        "hosting_type",
        "gpu_total_ram",
        "compute_cap",
        "driver_vers",
        "disk_bw",
        "inet_down_cost",
        "search",
        "min_bid",
        "storage_cost",
        "storage_total_cost",
        "duration",
        "end_date",
        "geolocation",
        "static_ip",
        "public_ipaddr",
        "dlperf_per_dphtotal",
        "pci_gen",
    ] {
        assert!(offer.get(column).is_some(), "{column}");
    }
}

#[test]
fn operators_nulls_and_places() {
    let mut bench = Bench::new();
    let some = bench.offers(json!({"num_gpus": {"gte": 2, "lt": 8}, "geolocation": {"notin": ["SE"]}}));
    assert!(!some.is_empty());
    for offer in &some {
        assert!((2..8).contains(&offer["num_gpus"].as_u64().expect("a count")));
        assert!(!offer["geolocation"].as_str().expect("a place").ends_with(", SE"));
    }
    assert!(bench.offers(json!({"dlperf": {"gte": 0}})).iter().all(|offer| !offer["dlperf"].is_null()));
}

#[test]
fn unknown_names_widen_and_the_id_matches_nothing() {
    let mut bench = Bench::new();
    let all = bench.offers(json!({})).len();
    assert_eq!(bench.offers(json!({"gpu_nmae": {"eq": "RTX 4090"}})).len(), all);
    let id = bench.offer()["id"].clone();
    assert!(bench.offers(json!({"id": {"eq": id}})).is_empty());
    assert_eq!(bench.offers(json!({"ask_contract_id": {"eq": id}})).len(), 1);
}

#[test]
fn a_cuda_condition_alone_loses_hopper() {
    let mut bench = Bench::new();
    let hopper = |offers: Vec<Value>| offers.iter().any(|offer| offer["gpu_name"] == "H100 SXM");
    assert!(hopper(bench.offers(json!({}))));
    assert!(!hopper(bench.offers(json!({"cuda_max_good": {"gte": 12.0}}))));
    assert!(hopper(bench.offers(json!({"cuda_max_good": {"gte": 12.0}, "compute_cap": {"gte": 600}}))));
}

#[test]
fn the_price_follows_the_storage() {
    let mut bench = Bench::new();
    let query = json!({"gpu_name": {"eq": "RTX 4090"}, "order": [["id", "asc"]], "limit": 1});
    let small = bench.offers(query.clone()).remove(0);
    let id = small["ask_contract_id"].clone();
    let large = bench.offers(json!({"ask_contract_id": {"eq": id}, "allocated_storage": 200})).remove(0);
    let cost = |offer: &Value| offer["storage_cost"].as_f64().expect("a cost");
    let total = |offer: &Value| offer["dph_total"].as_f64().expect("a price");
    let base = small["dph_base"].as_f64().expect("a price");
    assert!((total(&small) - base - cost(&small) * 8.0 / 720.0).abs() < 1e-9);
    assert!((total(&large) - base - cost(&large) * 200.0 / 720.0).abs() < 1e-9);
    let roomy = bench.offers(json!({"allocated_storage": 1000}));
    assert!(roomy.iter().all(|offer| offer["disk_space"].as_f64() >= Some(1000.0)));
}

#[test]
fn bids_are_priced_from_the_minimum() {
    let mut bench = Bench::new();
    let offer = bench.offers(json!({"type": "bid", "limit": 1})).remove(0);
    assert_eq!(offer["is_bid"], true);
    assert_eq!(offer["dph_base"], offer["min_bid"]);
}

#[test]
fn a_page_is_capped_unless_switched_off() {
    let mut capped = Bench::with(|settings| {
        settings.search_cap = Some(5);
        settings.rate_limits = false;
    });
    assert_eq!(capped.offers(json!({"limit": 10_000})).len(), 5);
    assert_eq!(capped.offers(json!({"limit": 2})).len(), 2);
    let mut open = Bench::with(|settings| settings.search_cap = None);
    assert!(open.offers(json!({"limit": 10_000})).len() > 5);
}

#[test]
fn bad_operators_have_the_observed_body() {
    let mut bench = Bench::new();
    let (status, body) = bench.call("POST", "/v0/bundles/", json!({"gpu_name": ["RTX 4090"]}));
    assert_eq!(status, 400);
    assert_eq!(
        body,
        json!({"error": "invalid_request", "msg": "invalid_request 0 is not a valid search op"})
    );
    let (status, body) = bench.call("POST", "/v0/bundles/", json!({"dph_total": {"below": 1}}));
    assert_eq!((status, &body["msg"]), (400, &json!("invalid_request below is not a valid search op")));
}

#[test]
fn no_key_is_needed_but_a_bad_one_is_refused() {
    let mut bench = Bench::new();
    let search = Request::new("POST", "/api/v0/bundles/").json(&json!({}));
    assert_eq!(bench.send(&search).status, 200);
    let reply = bench.send(&search.clone().bearer("wrong"));
    assert_eq!(reply.status, 404);
    assert_eq!(
        reply.body_json(),
        json!({"success": false, "error": "auth_error", "msg": "Invalid user key"})
    );
    assert_eq!(bench.send(&search.bearer(KEY)).status, 200);
    let (status, body) = bench.get("/v0/gpu_names/unique/");
    assert_eq!(status, 200);
    assert!(body["gpu_names"].as_array().expect("names").contains(&json!("RTX 5090")));
}

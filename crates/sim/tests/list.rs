//! The v1 list: pages, totals, filters, tokens; and the end of v0.

mod common;

use common::Bench;
use serde_json::{Value, json};

fn encode(value: &Value) -> String {
    value.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// A world with this many instances made by hand.
fn crowd(count: usize) -> Bench {
    let mut bench = Bench::new();
    let names = ["RTX 4090", "RTX 3090", "H100 SXM", "A100 SXM4", "RTX 5090", "RTX A6000"];
    let mut made = 0;
    for name in names.iter().cycle().take(200) {
        if made < count {
            let label = if made % 3 == 0 { Value::Null } else { json!(format!("label-{made}")) };
            made += usize::from(
                bench.control("POST", "/instances", json!({"gpu_name": name, "label": label})).0 == 200,
            );
        }
    }
    assert_eq!(made, count);
    bench
}

#[test]
fn pages_hold_25_and_the_token_leads_on() {
    let mut bench = crowd(30);
    let (_, first) = bench.get("/v1/instances/?limit=100");
    assert_eq!((&first["instances_found"], &first["total_instances"]), (&json!(25), &json!(30)));
    let token = first["next_token"].as_str().expect("a token").replace('+', "%2b").replace('=', "%3d");
    let (_, second) = bench.get(&format!("/v1/instances/?after_token={token}"));
    assert_eq!((&second["instances_found"], &second["total_instances"]), (&json!(5), &json!(30)));
    assert!(second["next_token"].is_null());
    let ids = |page: &Value| -> Vec<u64> {
        page["instances"]
            .as_array()
            .expect("rows")
            .iter()
            .map(|row| row["id"].as_u64().expect("an id"))
            .collect()
    };
    let all = [ids(&first), ids(&second)].concat();
    assert!(all.is_sorted() && all.len() == 30);
    assert_eq!(first["label_counts"][""], 10);
    assert_eq!(first["success"], true);
    assert_eq!(bench.get("/v1/instances/?limit=0").1["instances_found"], 5);
}

#[test]
fn any_order_pages_without_loss() {
    let mut bench = crowd(28);
    let order = encode(&json!([{"col": "gpu_name", "dir": "desc"}]));
    let mut seen = std::collections::BTreeSet::new();
    let mut token = String::new();
    loop {
        let (_, page) = bench.get(&format!("/v1/instances/?limit=10&order_by={order}&after_token={token}"));
        seen.extend(page["instances"].as_array().expect("rows").iter().map(|row| row["id"].as_u64()));
        match page["next_token"].as_str() {
            Some(next) => token = next.replace('+', "%2b").replace('=', "%3d"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 28);
}

#[test]
fn filters_work_on_stored_columns_only() {
    let mut bench = crowd(9);
    let find = |bench: &mut Bench, filter: Value| {
        bench.get(&format!("/v1/instances/?select_filters={}", encode(&filter)))
    };
    let (_, page) = find(&mut bench, json!({"label": {"eq": "label-4"}}));
    assert_eq!((&page["total_instances"], &page["instances"][0]["label"]), (&json!(1), &json!("label-4")));
    let id = page["instances"][0]["id"].clone();
    assert_eq!(find(&mut bench, json!({"id": {"eq": id}})).1["total_instances"], 1);
    assert_eq!(find(&mut bench, json!({"label": null})).1["total_instances"], 3);
    assert_eq!(find(&mut bench, json!({"gpu_name": {"in": ["RTX 4090"]}})).1["total_instances"], 2);
    let (status, body) = find(&mut bench, json!({"dph_total": {"lt": 1}}));
    assert_eq!(status, 400);
    let expected =
        json!({"success": false, "error": "invalid_request", "msg": "dph_total is not a valid search key"});
    assert_eq!(body, expected);
    assert_eq!(find(&mut bench, json!({"num_gpus": {"eq": 1}})).0, 400);
    assert_eq!(find(&mut bench, json!({"id": [1]})).0, 400);
}

#[test]
fn bad_tokens_orders_and_parameters_are_refused() {
    let mut bench = crowd(1);
    assert_eq!(bench.get("/v1/instances/?after_token=bm9uc2Vuc2U%3d").1["error"], "invalid_token");
    let order = encode(&json!([{"col": "dph_total"}]));
    assert_eq!(bench.get(&format!("/v1/instances/?order_by={order}")).1["error"], "invalid_request");
    assert_eq!(bench.get("/v1/instances/?select_filters=%7b").0, 400);
}

#[test]
fn unknown_columns_are_null() {
    let mut bench = crowd(1);
    let columns = encode(&json!(["id", "colour"]));
    let (_, page) = bench.get(&format!("/v1/instances/?select_cols={columns}"));
    let row = page["instances"][0].as_object().expect("a row");
    assert_eq!(row.keys().collect::<Vec<_>>(), ["id", "colour"]);
    assert!(row["colour"].is_null());
}

#[test]
fn v0_is_gone() {
    let mut bench = Bench::new();
    let (status, body) = bench.get("/v0/instances/?owner=me");
    assert_eq!(status, 410);
    let text = "/api/v0/instances/ is deprecated. Use /api/v1/instances/ instead.";
    assert_eq!(body, json!({"success": false, "error": "deprecated_endpoint", "msg": text}));
}

#[test]
fn without_the_trailing_slash_nothing_is_found() {
    let mut bench = Bench::new();
    for path in ["/v0/users/current", "/v1/instances", "/v0/instances/1", "/v0/nothing/", "/v1/asks/1/"] {
        assert_eq!(bench.get(path).0, 404, "{path}");
    }
}

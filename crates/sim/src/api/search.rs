//! The three doors of the offer search, and what they have in common.

use super::World;
use super::filter;
use super::message::{Reply, Request};
use super::offers;
use serde_json::{Map, Value, json};

/// Keys of a query that are not columns.
const DIRECTIVES: [&str; 13] = [
    "order",
    "limit",
    "type",
    "allocated_storage",
    "extra_ids",
    "disable_bundling",
    "target_reliability",
    "template_id",
    "sort_option",
    "chunked",
    "georegion",
    "select_cols",
    "q",
];
/// Gigabytes by which an offer is priced when the query names none (Vast API, documented).
const DEFAULT_STORAGE: f64 = 8.0;
/// Offers per page when the query names no limit (Vast API, documented).
const DEFAULT_PAGE: usize = 64;

impl World {
    /// `POST /bundles/`: the query is the body.
    pub(super) fn search_by_body(&self, request: &Request) -> Reply {
        if request.body.is_empty() {
            return self.search(&Map::new());
        }
        match serde_json::from_slice(&request.body) {
            Ok(Value::Object(query)) => self.search(&query),
            _ => bad_json(),
        }
    }

    /// `GET /bundles/?q=…`: the query is a parameter.
    pub(super) fn search_by_parameter(&self, request: &Request) -> Reply {
        match request.query_value("q").map(serde_json::from_str) {
            None => self.search(&Map::new()),
            Some(Ok(Value::Object(query))) => self.search(&query),
            Some(_) => bad_json(),
        }
    }

    /// `PUT /search/asks/`: the query is wrapped.
    pub(super) fn search_asks(&self, request: &Request) -> Reply {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        match body.get("q") {
            Some(Value::Object(query)) => self.search(query),
            _ => bad_json(),
        }
    }

    /// `GET /gpu_names/unique/`.
    pub(super) fn gpu_names(&self) -> Reply {
        Reply::json(200, &json!({"success": true, "gpu_names": offers::gpu_names()}))
    }

    fn search(&self, query: &Map<String, Value>) -> Reply {
        let bid = match query.get("type").and_then(Value::as_str) {
            None | Some("on-demand" | "ondemand" | "ask" | "reserved") => false,
            Some("bid" | "interruptible") => true,
            Some(other) => return bad_request(&format!("invalid_request {other} is not a valid offer type")),
        };
        let storage = query.get("allocated_storage").and_then(Value::as_f64);
        let conditions = match conditions(query, storage) {
            Ok(conditions) => conditions,
            Err(message) => return bad_request(&message),
        };
        // Observed: a CUDA condition without one on the compute capability loses whole GPU classes.
        let loses_hopper = query.contains_key("cuda_max_good") && !query.contains_key("compute_cap");
        let storage = storage.unwrap_or(DEFAULT_STORAGE);
        let mut found: Vec<Value> = self
            .offers
            .iter()
            .filter(|offer| !(loses_hopper && offer.gpu.vast_name.starts_with('H')))
            .map(|offer| offer.to_json(storage, bid, &self.settings))
            .filter(|offer| conditions.iter().all(|(field, condition)| holds(offer, field, condition)))
            .collect();
        sort(&mut found, query);
        let asked = query.get("limit").and_then(Value::as_u64).map_or(DEFAULT_PAGE, |limit| limit as usize);
        found.truncate(self.settings.search_cap.map_or(asked, |cap| asked.min(cap)));
        Reply::json(200, &Map::from_iter([("offers".to_owned(), Value::Array(found))]).into())
    }
}

/// The query's conditions with the vendor's defaults where it is silent.
fn conditions(query: &Map<String, Value>, storage: Option<f64>) -> Result<Vec<(String, Value)>, String> {
    let mut conditions = Vec::new();
    for (field, condition) in query {
        if DIRECTIVES.contains(&field.as_str()) {
            continue;
        }
        filter::check(condition)?;
        conditions.push((field.clone(), condition.clone()));
    }
    let silent = |names: &[&str]| names.iter().all(|name| !query.contains_key(*name));
    if silent(&["verified", "verification"]) {
        conditions.push(("verified".to_owned(), json!({"eq": true})));
    }
    if silent(&["rentable"]) {
        conditions.push(("rentable".to_owned(), json!({"eq": true})));
    }
    if silent(&["rented"]) {
        conditions.push(("rented".to_owned(), json!({"eq": false})));
    }
    if let Some(storage) = storage {
        conditions.push(("disk_space".to_owned(), json!({"gte": storage})));
    }
    if let Some(target) = query.get("target_reliability") {
        conditions.push(("expected_reliability".to_owned(), json!({"gte": target})));
    }
    Ok(conditions)
}

fn holds(offer: &Value, field: &str, condition: &Value) -> bool {
    match field {
        // Observed: a condition on `id` matches nothing.
        "id" => false,
        "verified" => filter::matches(&json!(offer["verification"] == "verified"), condition),
        "datacenter" => filter::matches(&json!(offer["hosting_type"] == 1), condition),
        _ => match offer.get(field) {
            Some(value) => filter::matches(value, condition),
            // Unknown names are silently ignored, so a typo widens the search.
            None => true,
        },
    }
}

fn sort(offers: &mut [Value], query: &Map<String, Value>) {
    let by_score = vec![json!(["score", "desc"])];
    let order = query.get("order").and_then(Value::as_array).unwrap_or(&by_score);
    offers.sort_by(|left, right| {
        order
            .iter()
            .filter_map(|rule| {
                Some((rule.get(0)?.as_str()?, rule.get(1).and_then(Value::as_str) == Some("desc")))
            })
            .map(|(field, descending)| filter::sort_order(&left[field], &right[field], descending))
            .find(|order| order.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    });
}

/// Search errors have no `success` (Vast API, documented).
fn bad_request(message: &str) -> Reply {
    Reply::json(400, &json!({"error": "invalid_request", "msg": message}))
}

fn bad_json() -> Reply {
    Reply::json(
        400,
        &json!({"error": "invalid_args", "msg": "error 400/1782: Invalid args: invalid json: {}"}),
    )
}

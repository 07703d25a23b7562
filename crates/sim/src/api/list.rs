//! The list: v1 with pages, filters and totals; v0 as the error it has become.

use super::World;
use super::filter;
use super::message::{Reply, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The most instances on one page (Vast API, documented).
const PAGE: i64 = 25;

/// Columns that are stored, and so can be filtered and ordered by; computed ones cannot.
const STORED: [&str; 18] = [
    "id",
    "label",
    "actual_status",
    "intended_status",
    "cur_state",
    "next_state",
    "status_msg",
    "machine_id",
    "host_id",
    "bundle_id",
    "gpu_name",
    "verification",
    "image_uuid",
    "image_runtype",
    "is_bid",
    "start_date",
    "end_date",
    "geolocation",
];

impl World {
    /// `GET /api/v1/instances/`.
    pub(super) fn list(&self, request: &Request) -> Reply {
        match self.page(request) {
            Ok(body) => Reply::json(200, &body),
            Err((code, message)) => Reply::error(400, code, &message),
        }
    }

    fn page(&self, request: &Request) -> Result<Value, (&'static str, String)> {
        let filters = json_parameter(request, "select_filters", json!({}))?;
        let order = ordering(&json_parameter(request, "order_by", json!([]))?)?;
        let columns = json_parameter(request, "select_cols", json!(["*"]))?;
        let limit = match request.query_value("limit").map(str::parse::<i64>) {
            None => PAGE,
            Some(Ok(limit)) if limit <= 0 => 5,
            Some(Ok(limit)) => limit.min(PAGE),
            Some(Err(_)) => return Err(invalid("limit is not a number")),
        };
        let mut rows = self.matching(&filters)?;
        rows.sort_by(|left, right| compare(left, right, &order));
        let total = rows.len();
        let labels = label_counts(&rows);
        if let Some(token) = request.query_value("after_token").filter(|token| !token.is_empty()) {
            let after = read_token(token)?;
            rows.retain(|row| compare(row, &after, &order).is_gt());
        }
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = rows.last().filter(|_| more).map(|last| token(last, &order));
        let rows: Vec<Value> = rows.into_iter().map(|row| select(row, &columns)).collect();
        let mut page = Map::new();
        put!(page, {
            "success": true, "instances_found": rows.len(), "total_instances": total, "label_counts": labels,
            "next_token": next,
        });
        page.insert("instances".to_owned(), Value::Array(rows));
        Ok(page.into())
    }

    fn matching(&self, filters: &Value) -> Result<Vec<Value>, (&'static str, String)> {
        let filters = filters.as_object().ok_or_else(|| invalid("select_filters is not an object"))?;
        for (column, condition) in filters {
            if !STORED.contains(&column.as_str()) {
                return Err(invalid(&format!("{column} is not a valid search key")));
            }
            if !(column == "label" && condition.is_null()) {
                filter::check(condition).map_err(|message| ("invalid_request", message))?;
            }
        }
        let rows = self.instances.values().filter(|instance| {
            let lingers = instance.deleted_at.is_none_or(|at| self.now < at + self.settings.destroy_linger);
            self.now >= instance.list_from && lingers && !instance.knobs.hidden
        });
        // Most lists ask for one id: the others need not be written out to be left out.
        let rows = rows.filter(|instance| match filters.get("id") {
            Some(condition) => filter::matches(&json!(instance.id), condition),
            None => true,
        });
        Ok(rows
            .map(|instance| instance.to_json(self.now, &self.settings, true))
            .filter(|row| {
                filters.iter().all(|(column, condition)| match condition {
                    Value::Null => row[column].is_null(),
                    _ => filter::matches(&row[column], condition),
                })
            })
            .collect())
    }
}

/// `GET /api/v0/instances/` (Vast API, observed since summer 2026).
pub(super) fn deprecated() -> Reply {
    Reply::error(
        410,
        "deprecated_endpoint",
        "/api/v0/instances/ is deprecated. Use /api/v1/instances/ instead.",
    )
}

fn invalid(message: &str) -> (&'static str, String) {
    ("invalid_request", message.to_owned())
}

fn json_parameter(request: &Request, name: &str, default: Value) -> Result<Value, (&'static str, String)> {
    match request.query_value(name).filter(|text| !text.is_empty()) {
        None => Ok(default),
        Some(text) => serde_json::from_str(text).map_err(|_| invalid(&format!("{name} is not valid JSON"))),
    }
}

/// Columns with "descending", always ending in the id.
fn ordering(rules: &Value) -> Result<Vec<(String, bool)>, (&'static str, String)> {
    let mut order = Vec::new();
    for rule in rules.as_array().map(Vec::as_slice).unwrap_or_default() {
        let column = rule.get("col").and_then(Value::as_str).unwrap_or_default();
        if !STORED.contains(&column) {
            return Err(invalid(&format!("{column} is not a valid sort key")));
        }
        order.push((column.to_owned(), rule.get("dir").and_then(Value::as_str) == Some("desc")));
    }
    if !order.iter().any(|(column, _)| column == "id") {
        order.push(("id".to_owned(), false));
    }
    Ok(order)
}

fn compare(left: &Value, right: &Value, order: &[(String, bool)]) -> Ordering {
    order
        .iter()
        .map(|(column, descending)| filter::sort_order(&left[column], &right[column], *descending))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// The position after a row: base64 of `{"values": {"id": …}}`, with the other order columns if there are any.
fn token(row: &Value, order: &[(String, bool)]) -> String {
    let values: Map<String, Value> =
        order.iter().map(|(column, _)| (column.clone(), row[column].clone())).collect();
    STANDARD.encode(json!({"values": values}).to_string())
}

fn read_token(token: &str) -> Result<Value, (&'static str, String)> {
    STANDARD
        .decode(token)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
        .and_then(|token| token.get("values").cloned())
        .filter(|values| values.get("id").is_some_and(Value::is_number))
        .ok_or_else(|| ("invalid_token", "after_token is not valid".to_owned()))
}

fn label_counts(rows: &[Value]) -> Value {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for row in rows {
        *counts.entry(row["label"].as_str().unwrap_or_default()).or_default() += 1;
    }
    json!(counts)
}

/// Unknown columns come as null (Vast API, documented).
fn select(row: Value, columns: &Value) -> Value {
    let columns: Vec<&str> = columns.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if columns.is_empty() || columns.contains(&"*") {
        return row;
    }
    columns.into_iter().map(|column| (column.to_owned(), row[column].clone())).collect::<Map<_, _>>().into()
}

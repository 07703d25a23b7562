//! The vendor's filter language: `{field: {operator: value}}`.

use serde_json::{Map, Value};
use std::cmp::Ordering;

const OPERATORS: [&str; 8] = ["eq", "neq", "gt", "gte", "lt", "lte", "in", "notin"];

/// Checks a filter's shape; the error is the vendor's message.
pub(crate) fn check(condition: &Value) -> Result<(), String> {
    let bad = |operator: &str| Err(format!("invalid_request {operator} is not a valid search op"));
    match condition {
        // A list is read as one whose operators are the positions; observed as "0 is not a valid search op".
        Value::Array(_) => bad("0"),
        Value::Object(operators) => match operators.keys().find(|key| !OPERATORS.contains(&key.as_str())) {
            Some(unknown) => bad(unknown),
            None => Ok(()),
        },
        other => bad(&other.to_string()),
    }
}

/// Whether a column's value satisfies every operator of a checked condition.
pub(crate) fn matches(value: &Value, condition: &Value) -> bool {
    condition.as_object().is_some_and(|operators| all_hold(value, operators))
}

fn all_hold(value: &Value, operators: &Map<String, Value>) -> bool {
    operators.iter().all(|(operator, operand)| match operator.as_str() {
        "eq" => equal(value, operand),
        "neq" => !equal(value, operand),
        "gt" => order(value, operand) == Some(Ordering::Greater),
        "gte" => matches!(order(value, operand), Some(Ordering::Greater | Ordering::Equal)),
        "lt" => order(value, operand) == Some(Ordering::Less),
        "lte" => matches!(order(value, operand), Some(Ordering::Less | Ordering::Equal)),
        "in" => contains(operand, value),
        "notin" => !contains(operand, value),
        _ => false,
    })
}

fn contains(list: &Value, value: &Value) -> bool {
    list.as_array().is_some_and(|items| items.iter().any(|item| equal(value, item)))
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        // A place is free text that ends in a country code, and the code alone matches it.
        (Value::String(left), Value::String(right)) => {
            left == right || (right.len() == 2 && left.ends_with(&format!(", {right}")))
        }
        _ => left == right,
    }
}

/// The order of two values of the same kind; none where they do not compare, as with null.
pub(crate) fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// A total order for sorting: nulls last, whatever does not compare stays where it is.
pub(crate) fn sort_order(left: &Value, right: &Value, descending: bool) -> Ordering {
    match (left.is_null(), right.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => {
            let order = order(left, right).unwrap_or(Ordering::Equal);
            if descending { order.reverse() } else { order }
        }
    }
}

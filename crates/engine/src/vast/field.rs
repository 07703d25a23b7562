//! Lenient reading of single JSON fields: Vast sends numbers as strings, nulls anywhere, text with stray newlines.

use serde_json::Value;

pub(super) fn number(value: &Value, name: &str) -> Option<f64> {
    let field = value.get(name)?;
    field.as_f64().or_else(|| field.as_str()?.trim().parse().ok()).filter(|n: &f64| n.is_finite())
}

pub(super) fn integer(value: &Value, name: &str) -> Option<i64> {
    as_integer(value.get(name)?)
}

pub(super) fn as_integer(field: &Value) -> Option<i64> {
    if let Some(n) = field.as_i64() {
        return Some(n);
    }
    if let Some(n) = field.as_f64() {
        // A whole number written as a float, e.g. `27491836.0`.
        return (n.fract() == 0.0 && n.abs() < 9.0e15).then_some(n as i64);
    }
    field.as_str()?.trim().parse().ok()
}

/// A positive id.
pub(super) fn id(value: &Value, name: &str) -> Option<u64> {
    integer(value, name).and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0)
}

/// Trimmed text; empty is absent.
pub(super) fn text(value: &Value, name: &str) -> Option<String> {
    let trimmed = value.get(name)?.as_str()?.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

pub(super) fn flag(value: &Value, name: &str) -> Option<bool> {
    let field = value.get(name)?;
    field.as_bool().or_else(|| match field {
        Value::Number(n) => n.as_f64().map(|n| n != 0.0),
        Value::String(s) => match s.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    })
}

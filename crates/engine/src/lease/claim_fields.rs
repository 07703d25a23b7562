//! How single claim fields are read and written: crabbox's decoder, in its strictness and in its tolerance.

use super::Labels;
use serde_json::Value;

/// The known field that `name` stands for. crabbox's decoder takes any case, and the two letters beyond ASCII that
/// fold to ASCII ones.
pub(super) fn is_named(name: &str, field: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    name.chars().map(fold).eq(field.chars().map(fold))
}

/// A value that a field can be read from. `null` leaves the field as it is.
pub(super) trait Field: Sized {
    /// What a wrong value should have been.
    const KIND: &'static str;
    /// The field's value, or `None` where the type does not fit.
    fn read(value: Value) -> Option<Self>;
}

impl Field for String {
    const KIND: &'static str = "a string";
    fn read(value: Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

impl Field for Option<String> {
    const KIND: &'static str = "a string";
    fn read(value: Value) -> Option<Self> {
        String::read(value).map(|text| (!text.is_empty()).then_some(text))
    }
}

impl Field for i64 {
    const KIND: &'static str = "a whole number";
    fn read(value: Value) -> Option<Self> {
        value.as_i64()
    }
}

impl Field for bool {
    const KIND: &'static str = "true or false";
    fn read(value: Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Field for Vec<String> {
    const KIND: &'static str = "a list of strings";
    fn read(value: Value) -> Option<Self> {
        match value {
            Value::Array(items) => items.into_iter().map(element).collect(),
            _ => None,
        }
    }
}

impl Field for Labels {
    const KIND: &'static str = "an object of strings";
    fn read(value: Value) -> Option<Self> {
        match value {
            Value::Object(members) => {
                members.into_iter().map(|(key, value)| Some((key, element(value)?))).collect()
            }
            _ => None,
        }
    }
}

impl Field for Option<Value> {
    const KIND: &'static str = "an object";
    fn read(value: Value) -> Option<Self> {
        value.is_object().then_some(Some(value))
    }
}

/// Inside lists and maps `null` is the empty string.
fn element(value: Value) -> Option<String> {
    if value.is_null() { Some(String::new()) } else { String::read(value) }
}

/// The JSON text with the characters escaped that crabbox's encoder escapes beyond the standard, and a final newline.
/// They can only stand inside strings, so the whole text is rewritten at once.
pub(super) fn finish(json: &str) -> Vec<u8> {
    let mut out = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out.push('\n');
    out.into_bytes()
}

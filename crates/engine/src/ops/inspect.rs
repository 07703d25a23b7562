//! Inspect: everything that is known about one lease, one fact a line.

use super::status::LeaseStatus;
use serde_json::Value;

impl LeaseStatus {
    /// `key=value` lines: the members of [`LeaseStatus::to_json`] in their order, labels as `label.<key>` at the end.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let document = self.to_json();
        let mut lines = Vec::new();
        let mut nested = Vec::new();
        for (key, value) in document.as_object().into_iter().flatten() {
            match value {
                Value::Object(inner) => {
                    let prefix = if key == "labels" { "label" } else { key.as_str() };
                    nested.extend(
                        inner.iter().map(|(name, value)| format!("{prefix}.{name}={}", plain(value))),
                    );
                }
                value => lines.push(format!("{key}={}", plain(value))),
            }
        }
        lines.append(&mut nested);
        lines
    }
}

/// Text without quotes, nothing as a dash.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "-".to_owned(),
        // A line is one fact, whatever the vendor or a label holds.
        Value::String(text) => text.split(['\n', '\r']).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

//! Checks and how they are written down.

use crate::{Code, Error};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// How one check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Fine.
    Ok,
    /// Works, but should be looked at.
    Warning,
    /// Must be mended.
    Failed,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
        }
    }
}

/// One check.
#[derive(Debug, Clone)]
pub struct Check {
    /// How it came out.
    pub verdict: Verdict,
    /// What was checked.
    pub name: &'static str,
    /// Checks of the provider name it.
    pub provider: bool,
    /// `key=value` words and text.
    pub message: String,
    /// Facts for programs.
    pub details: Map<String, Value>,
    /// What to do, for people.
    pub hint: Option<String>,
}

impl Check {
    pub(super) fn of_provider(mut self) -> Self {
        self.provider = true;
        self
    }

    /// A fact that the words of the message cannot tell, such as a path with blanks.
    pub(super) fn detail(mut self, name: &str, value: impl Into<String>) -> Self {
        self.details.insert(name.to_owned(), json!(value.into()));
        self
    }

    /// Makes it a warning with what to do.
    pub(super) fn warning(mut self, hint: impl Into<String>) -> Self {
        self.verdict = Verdict::Warning;
        self.hint = Some(hint.into());
        self
    }

    /// Makes it a failure with what to do.
    pub(super) fn failing(mut self, hint: impl Into<String>) -> Self {
        self.verdict = Verdict::Failed;
        self.hint = Some(hint.into());
        self
    }
}

/// All checks.
#[derive(Debug, Clone)]
pub struct DoctorReport {
    /// In the order they were made.
    pub checks: Vec<Check>,
    /// Why the first failed check failed.
    pub error: Option<Value>,
}

impl DoctorReport {
    /// Whether nothing failed.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.checks.iter().all(|check| check.verdict != Verdict::Failed)
    }

    /// crabbox's lines, `status check message`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let line = |check: &Check| {
            format!("{:<7} {:<8} {}", check.verdict.as_str(), check.name, check.message).trim_end().to_owned()
        };
        self.checks.iter().map(line).collect()
    }

    /// What to do about each check that is not fine, `check: what to do`; failures first.
    #[must_use]
    pub fn remedies(&self) -> Vec<String> {
        let of = |verdict| {
            self.checks
                .iter()
                .filter(move |check| check.verdict == verdict)
                .filter_map(|check| Some(format!("{}: {}", check.name, check.hint.as_ref()?)))
        };
        of(Verdict::Failed).chain(of(Verdict::Warning)).collect()
    }

    /// crabbox's document; a check that is not fine has the member `hint`, a failing document `error` besides.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let checks: Vec<Value> = self.checks.iter().map(document).collect();
        let mut out = json!({"ok": self.ok(), "provider": "vast", "checks": checks});
        if let Some(error) = &self.error {
            out["error"] = error.clone();
        }
        out
    }
}

fn document(check: &Check) -> Value {
    let mut out = Map::new();
    out.insert("status".into(), json!(check.verdict));
    out.insert("check".into(), json!(check.name));
    if check.provider {
        out.insert("provider".into(), json!("vast"));
    }
    if !check.message.is_empty() {
        out.insert("message".into(), json!(check.message));
    }
    if !check.details.is_empty() {
        // Go writes the keys of a map in order.
        let sorted: std::collections::BTreeMap<_, _> = check.details.iter().collect();
        out.insert("details".into(), json!(sorted));
    }
    if let (Some(hint), true) = (&check.hint, check.verdict != Verdict::Ok) {
        out.insert("hint".into(), json!(hint));
    }
    Value::Object(out)
}

/// A check that is fine; its details are the words of the message.
pub(super) fn found(name: &'static str, message: impl Into<String>) -> Check {
    let message = message.into();
    Check { verdict: Verdict::Ok, name, provider: false, details: words(&message), message, hint: None }
}

/// A check that failed for a reason of its own.
pub(super) fn failed(name: &'static str, error: &Error) -> Check {
    Check {
        verdict: Verdict::Failed,
        name,
        provider: false,
        message: error.to_string(),
        details: Map::new(),
        hint: error.hint_text().map(ToOwned::to_owned),
    }
}

/// The provider check that failed, with crabbox's class and the word that belongs to it.
pub(super) fn failed_provider(error: &Error, class: &str) -> Check {
    let word = match class {
        "timeout" => "retry_or_check_provider_status",
        "network" => "check_network_and_provider_endpoint",
        _ => "check_provider_auth_and_config",
    };
    let mut check = failed("provider", error).of_provider();
    check.message = format!("provider=vast class={class} hint={word} {error}");
    for (key, value) in [
        ("class", class),
        ("error", &error.to_string()),
        ("hint", word),
        ("provider", "vast"),
        ("timeout", "10s"),
    ] {
        check.details.insert(key.to_owned(), json!(value));
    }
    check
}

/// crabbox's class of a failure; what it has no word for, a missing key among it, is the provider's.
pub(super) fn class(code: Code) -> &'static str {
    match code {
        Code::AuthFailed | Code::TwoFactorRequired | Code::PermissionDenied => "auth",
        Code::ApiTimeout => "timeout",
        Code::ApiUnreachable => "network",
        Code::InvalidConfig | Code::CredentialDestination => "config",
        _ => "provider",
    }
}

pub(super) fn inner(error: &Error) -> Option<Value> {
    error.to_json().get("error").cloned()
}

/// The `k=v` words of a message.
fn words(message: &str) -> Map<String, Value> {
    message
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect()
}

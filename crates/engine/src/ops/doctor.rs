//! Doctor: what works and what does not, without changing anything.

use super::{Call, Engine};
use crate::config::Settings;
use crate::vast::Filter;
use crate::world::World;
use crate::{Code, Error, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The time account and inventory may take together.
const PROBE: Duration = Duration::from_secs(10);

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

    /// crabbox's lines, `status check message`, hints below.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for check in &self.checks {
            lines.push(format!("{:<7} {:<8} {}", check.verdict.as_str(), check.name, check.message));
            if let (Some(hint), false) = (&check.hint, check.verdict == Verdict::Ok) {
                lines.push(format!("        {:<8} {hint}", "hint"));
            }
        }
        lines
    }

    /// crabbox's document; a failing one has the member `error` besides.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let checks: Vec<Value> = self
            .checks
            .iter()
            .map(|check| {
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
                    out.insert("details".into(), Value::Object(check.details.clone()));
                }
                Value::Object(out)
            })
            .collect();
        let mut out = json!({"ok": self.ok(), "provider": "vast", "checks": checks});
        if let Some(error) = &self.error {
            out["error"] = error.clone();
        }
        out
    }
}

/// Looks at settings, state directory, key store and the API. `settings` may be an error: that is a finding too.
pub async fn doctor(world: &World, settings: Result<&Settings, Error>, call: &Call) -> DoctorReport {
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => {
            let check = failed("config", false, &error, "config");
            return DoctorReport { checks: vec![check], error: inner(&error) };
        }
    };
    let mut checks = vec![
        found(
            "provider-selection",
            true,
            format!("provider=vast source={} selected=true", settings.provider_source),
        ),
        found("ssh", false, "built-in".to_owned()),
        found("ssh-key", false, "per-lease".to_owned()),
    ];
    checks[2].details = Map::from_iter([("mode".to_owned(), json!("per-lease"))]);
    checks.push(state_check(world, settings).await);
    let probe = async {
        let engine = Engine::new(world.clone(), settings.clone())?;
        provider_check(&engine, call).await
    };
    let mut error = None;
    let probed = tokio::time::timeout(PROBE, probe).await.unwrap_or_else(|_| {
        Err(Error::new(Code::ApiTimeout, format!("no answer within {} s", PROBE.as_secs()))
            .hint("check the network, or try again"))
    });
    match probed {
        Ok(found) => checks.extend(found),
        Err(why) => {
            checks.push(failed("provider", true, &why, class(why.code())));
            error = inner(&why);
        }
    }
    if error.is_none()
        && let Some(check) = checks.iter().find(|check| check.verdict == Verdict::Failed)
    {
        error = inner(&Error::new(Code::DoctorFailed, format!("{}: {}", check.name, check.message)));
    }
    DoctorReport { checks, error }
}

async fn state_check(world: &World, settings: &Settings) -> Check {
    let paths = settings.paths.clone();
    let state = paths.state.display().to_string();
    let looked = world
        .disk
        .transact(move |files| {
            // Only what exists is looked at: a doctor makes no folders.
            let nearest = paths.state.ancestors().find(|dir| files.exists(dir).unwrap_or(false));
            let mode = files.mode(&paths.claims())?;
            let keys = files.mode(&paths.config.join("crabbox").join("testboxes"))?;
            Ok::<_, std::io::Error>((nearest.is_some_and(|dir| dir == paths.state), mode, keys))
        })
        .await;
    match looked {
        Err(error) => {
            let error = Error::new(Code::StateUnavailable, format!("cannot read {state}: {error}"))
                .hint("repair its permissions");
            failed("state", false, &error, "config")
        }
        Ok((exists, claims, keys)) => {
            let open = [claims, keys].into_iter().flatten().any(|mode| mode & 0o077 != 0);
            let mut check = found("state", false, format!("path={state} exists={exists}"));
            // A path may have blanks, which the words of the message cannot tell.
            check.details.insert("path".into(), json!(state));
            if open {
                check.verdict = Verdict::Warning;
                check.hint = Some("others can read claims or keys: set the folders to mode 0700".to_owned());
            }
            check
        }
    }
}

async fn provider_check(engine: &Engine, call: &Call) -> Result<Vec<Check>> {
    let settings = engine.settings();
    let query = engine.offer_query();
    let (account, inventory, offers) =
        tokio::join!(engine.client.account(), engine.client.list(&Filter::All), engine.client.search(&query));
    let (account, inventory, offers) = (account?, inventory?, offers?);
    if !inventory.complete {
        call.warn("the list of instances is not complete");
    }
    let ours = inventory.instances.iter().filter(|instance| instance.ownership().is_some()).count();
    let mut provider = found(
        "provider",
        true,
        format!(
            "provider=vast timeout=10s auth=ready control_plane=ready inventory=ready api=list mutation=false leases={ours} runtime=unchecked default_order={} runtype={} user={}",
            settings.order, settings.runtype, settings.user
        ),
    );
    provider.details = words(&provider.message);
    let credit = account.credit.map_or_else(|| "unknown".to_owned(), |credit| format!("{credit:.2}"));
    let mut billing =
        found("billing", true, format!("account={} credit={credit} offers={}", account.id, offers.len()));
    billing.details = words(&billing.message);
    if account.credit.is_some_and(|credit| credit <= 0.0) {
        billing.verdict = Verdict::Warning;
        billing.hint =
            Some("no credit: a create would be refused; add credit in the Vast console".to_owned());
    }
    Ok(vec![provider, billing])
}

fn found(name: &'static str, provider: bool, message: String) -> Check {
    let details = words(&message);
    Check { verdict: Verdict::Ok, name, provider, message, details, hint: None }
}

fn failed(name: &'static str, provider: bool, error: &Error, class: &str) -> Check {
    let word = match class {
        "auth" | "provider" | "config" => "check_provider_auth_and_config",
        "timeout" => "retry_or_check_provider_status",
        "network" => "check_network_and_provider_endpoint",
        _ => "see_message",
    };
    let message =
        if provider { format!("provider=vast class={class} hint={word} {error}") } else { error.to_string() };
    let mut details = Map::new();
    if provider {
        for (key, value) in [
            ("class", class),
            ("error", &error.to_string()),
            ("hint", word),
            ("provider", "vast"),
            ("timeout", "10s"),
        ] {
            details.insert(key.to_owned(), json!(value));
        }
    }
    Check {
        verdict: Verdict::Failed,
        name,
        provider,
        message,
        details,
        hint: error.hint_text().map(ToOwned::to_owned),
    }
}

fn class(code: Code) -> &'static str {
    match code {
        Code::AuthFailed | Code::TwoFactorRequired | Code::PermissionDenied => "auth",
        Code::ApiTimeout => "timeout",
        Code::ApiUnreachable => "network",
        Code::InvalidConfig | Code::CredentialDestination => "config",
        _ => "provider",
    }
}

fn inner(error: &Error) -> Option<Value> {
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

//! What files of a repository may not decide.

use super::{Origin, Resolved, SETTINGS, Setting, Trust, Value};
use crate::lease::{ReleaseAction, parse_go_duration};
use crate::{Code, Error, Result};
use std::time::Duration;

/// A limit that a repository's file may not set so. The user's own holds; what would spend under it is refused, for the
/// repository may have been right.
#[derive(Debug, Clone)]
pub struct Refusal {
    setting: &'static Setting,
    origin: Origin,
    complaint: String,
}

impl Refusal {
    /// Whether it is about money, and not about how a lease ends.
    pub(super) fn is_of_price(&self) -> bool {
        self.setting.trust == Trust::CostCap
    }

    /// As the refusal of a command.
    #[must_use]
    pub fn error(&self) -> Error {
        policy(self.setting, &self.origin, &self.complaint)
    }
}

/// Refuses values that came from a repository's file and are not its to choose: limits are replaced by the user's own and
/// returned, everything else is an error. `own` resolves a setting from the defaults and the user's own files alone. Values
/// that the environment or a flag replaced do no harm.
pub(super) fn check(
    resolved: &mut Resolved,
    own: impl Fn(&Setting) -> Result<Value>,
) -> Result<Vec<Refusal>> {
    let repository_may = resolved.value("allowRepositoryPolicy")?.text == "true";
    let mut refusals = Vec::new();
    for setting in SETTINGS {
        let value = resolved.value(setting.key)?.clone();
        if !value.origin.is_repository() {
            continue;
        }
        let mut refuse = |allowed: Value, complaint: String| {
            refusals.push(Refusal { setting, origin: value.origin.clone(), complaint });
            resolved.values.insert(setting.key, allowed);
        };
        match setting.trust {
            Trust::Free => {}
            Trust::UserOnly => {
                return Err(refused(setting, &value.origin, "may only stand in your own configuration")
                    .hint("remove it there, or move it to your own configuration file"));
            }
            Trust::CredentialDestination => {
                if resolved.api_key.is_some() {
                    return Err(destination(setting, &value.origin));
                }
            }
            Trust::CostCap => {
                let yours = own(setting)?;
                let (allowed, wanted) = (number(&yours), number(&value));
                // Without a bid of the user's own the lowest that wins is sent: any other raises it.
                let raises = if setting.key == "bid" {
                    wanted > allowed
                } else {
                    allowed > 0.0 && (wanted == 0.0 || wanted > allowed)
                };
                if !repository_may && raises {
                    let limit = match setting.key {
                        "maxDphTotal" => format!("price cap of ${allowed}/h"),
                        "bid" if allowed == 0.0 => "bid, which is the lowest that wins".to_owned(),
                        "bid" => format!("bid of ${allowed}/h"),
                        _ => format!("cost limit of ${allowed}"),
                    };
                    let complaint = format!("may not raise or remove your {limit} (it says {wanted})");
                    refuse(yours, complaint);
                }
            }
            Trust::Lifetime => {
                let yours = own(setting)?;
                if !repository_may && time(&value.text) > time(&yours.text) {
                    let complaint = format!("may not lengthen yours of {} to {}", yours.text, value.text);
                    refuse(yours, complaint);
                }
            }
            Trust::ReleaseAction => {
                let yours = own(setting)?;
                if !repository_may && bill(&value) > bill(&yours) {
                    let complaint = format!("may not weaken your release action to {}", value.text);
                    refuse(yours, complaint);
                }
            }
        }
    }
    Ok(refusals)
}

fn time(text: &str) -> Duration {
    parse_go_duration(text).unwrap_or_default()
}

fn number(value: &Value) -> f64 {
    value.text.parse().unwrap_or_default()
}

/// The more is billed after a release, the higher.
fn bill(value: &Value) -> u8 {
    match value.text.parse().unwrap_or_default() {
        ReleaseAction::Destroy => 0,
        ReleaseAction::Stop => 1,
        ReleaseAction::Keep => 2,
    }
}

fn refused(setting: &Setting, origin: &Origin, complaint: &str) -> Error {
    Error::new(Code::InvalidConfig, format!("{} in the repository file {origin} {complaint}", setting.name()))
        .with("setting", setting.key)
        .with("origin", origin.word())
}

fn policy(setting: &Setting, origin: &Origin, complaint: &str) -> Error {
    let flag = setting.flag.unwrap_or(setting.key);
    refused(setting, origin, complaint).hint(format!(
        "pass --{flag}, or set vast.allowRepositoryPolicy: true in your own configuration file if you trust the repository"
    ))
}

fn destination(setting: &Setting, origin: &Origin) -> Error {
    let flag = setting.flag.unwrap_or(setting.key);
    let message = format!(
        "provider=vast refuses repository-configured {} with inherited credentials; set {} or --{flag} to explicitly \
         approve the credential destination",
        setting.name(),
        setting.env.first().unwrap_or(&setting.key)
    );
    Error::new(Code::CredentialDestination, message)
        .hint(format!("{origin} would receive your API key; name this server yourself only if you trust it"))
        .with("setting", setting.key)
        .with("origin", origin.word())
}

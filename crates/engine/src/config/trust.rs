//! What files of a repository may not decide.

use super::{Origin, Resolved, SETTINGS, Setting, Trust, Value};
use crate::lease::{ReleaseAction, parse_go_duration};
use crate::{Code, Error, Result};
use std::time::Duration;

/// Refuses values that came from a repository's file and are not its to choose. `own` resolves a setting from the
/// defaults and the user's own files alone. Values that the environment or a flag replaced do no harm.
pub(super) fn check(resolved: &Resolved, own: impl Fn(&Setting) -> Result<Value>) -> Result<()> {
    let repository_may = resolved.value("allowRepositoryPolicy")?.text == "true";
    for setting in SETTINGS {
        let value = resolved.value(setting.key)?;
        if !value.origin.is_repository() {
            continue;
        }
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
                let (allowed, wanted) = (number(&own(setting)?), number(value));
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
                    return Err(policy(setting, &value.origin, &complaint));
                }
            }
            Trust::Lifetime => {
                let allowed = own(setting)?.text;
                if !repository_may && time(&value.text) > time(&allowed) {
                    let complaint = format!("may not lengthen yours of {allowed} to {}", value.text);
                    return Err(policy(setting, &value.origin, &complaint));
                }
            }
            Trust::ReleaseAction => {
                let (allowed, wanted) = (bill(&own(setting)?), bill(value));
                if !repository_may && wanted > allowed {
                    let complaint = format!("may not weaken your release action to {}", value.text);
                    return Err(policy(setting, &value.origin, &complaint));
                }
            }
        }
    }
    Ok(())
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

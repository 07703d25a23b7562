//! Doctor: what works and what does not, without changing anything.
//!
//! The checks come in crabbox's order (selection, tools, key, provider) with ours between and behind them; names, line
//! format and document are crabbox's.

mod local;
mod provider;
mod report;

pub use report::{Check, DoctorReport, Verdict};

use super::{Call, Engine};
use crate::config::{Settings, Snapshot, directories};
use crate::world::World;
use crate::{Code, Error, Result};
use futures_util::future::BoxFuture;
use report::{failed, failed_provider, found, inner};
use std::time::Duration;

/// The time account, inventory and search may take together.
const PROBE: Duration = Duration::from_secs(10);

/// Looks at settings, tools, state directory, key store and the API, and at the lease where one is named. `settings` may be
/// an error: that is a finding too.
pub fn doctor<'a>(
    world: &'a World,
    snapshot: &'a Snapshot,
    settings: Result<&'a Settings, Error>,
    lease: Option<&'a str>,
    call: &'a Call,
) -> BoxFuture<'a, DoctorReport> {
    Box::pin(async move {
        let mut checks = Vec::new();
        // Settings that could not be resolved are a finding of their own.
        let notes = settings.as_ref().map(|settings| settings.notes.as_slice()).unwrap_or_default();
        checks.extend(local::config(world, snapshot, notes).await);
        if let Ok(settings) = &settings {
            let source = &settings.provider_source;
            checks.push(
                found("provider-selection", format!("provider=vast source={source} selected=true"))
                    .of_provider(),
            );
        }
        checks.extend(local::tools(world, snapshot).await);
        checks.push(local::ssh_key());
        if let Ok(paths) = directories(snapshot) {
            // A simulation keeps its leases elsewhere.
            let paths = settings.as_ref().map_or(paths, |settings| settings.paths.clone());
            checks.extend(local::records(world, paths).await);
        }
        let mut error = None;
        match settings {
            Err(why) => {
                checks.push(match why.details().get("setting").and_then(|key| key.as_str()) {
                    // crabbox meets a bad address when it makes its client, which is part of its provider check.
                    Some("apiUrl") => failed_provider(
                        &why,
                        if why.code() == Code::CredentialDestination { "config" } else { "provider" },
                    ),
                    _ => failed("settings", &why),
                });
                error = inner(&why);
            }
            Ok(settings) => match Engine::new(world.clone(), settings.clone()) {
                Err(why) => {
                    checks.push(failed_provider(&why, report::class(why.code())));
                    error = inner(&why);
                }
                Ok(engine) => {
                    checks.extend(provider::checks(&engine, call, &mut error).await);
                    if let Some(lease) = lease {
                        checks.push(provider::lease(&engine, lease, call).await);
                    }
                }
            },
        }
        if let (None, Some(check)) = (&error, checks.iter().find(|check| check.verdict == Verdict::Failed)) {
            let mut why = Error::new(Code::DoctorFailed, format!("{}: {}", check.name, check.message));
            if let Some(hint) = &check.hint {
                why = why.hint(hint);
            }
            error = inner(&why);
        }
        DoctorReport { checks, error }
    })
}

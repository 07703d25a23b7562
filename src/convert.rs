//! The requests that JavaScript sends, and their way into the engine's types.
//!
//! Every number is an `f64` here: napi-rs would wrap `-1` to 4294967295 and cut `1.7` to 1 in an integer.

use crabbox_vast_engine::config::{OverrideOrigin, Overrides, Settings, Snapshot, resolve};
use crabbox_vast_engine::lease::ReleaseAction;
use crabbox_vast_engine::ops::ExecRequest;
use crabbox_vast_engine::ssh::command::Script;
use crabbox_vast_engine::{Code, Error, Result};
use napi_derive::napi;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

/// What every call is resolved from.
#[napi(object, object_to_js = false)]
pub struct CallContext {
    /// The environment variables.
    pub env: HashMap<String, String>,
    /// The absolute working directory.
    pub cwd: String,
    /// Settings by their key in the engine's table, as text; they stand where flags stand.
    pub settings: HashMap<String, String>,
    /// The API key, where the caller gave one.
    pub api_key: Option<String>,
}

/// What `acquire` takes.
#[napi(object, object_to_js = false)]
pub struct AcquireCall {
    /// What it is resolved from.
    pub context: CallContext,
    /// Whether the lease outlives the process.
    pub keep: bool,
    /// A name for it.
    pub slug: Option<String>,
    /// The lease id of the caller's choice.
    pub lease_id: Option<String>,
}

/// What `release` takes.
#[napi(object, object_to_js = false)]
pub struct ReleaseCall {
    /// What it is resolved from.
    pub context: CallContext,
    /// Lease id, slug or instance id.
    pub id: String,
    /// `destroy`, `stop` or `keep`.
    pub action: Option<String>,
}

/// What `release` of a lease that is held takes.
#[napi(object, object_to_js = false)]
pub struct HeldReleaseCall {
    /// `destroy`, `stop` or `keep`.
    pub action: Option<String>,
}

/// What `list` takes.
#[napi(object, object_to_js = false)]
pub struct ListCall {
    /// What it is resolved from.
    pub context: CallContext,
    /// Also instances that are no leases.
    pub all: bool,
}

/// What `status` takes.
#[napi(object, object_to_js = false)]
pub struct StatusCall {
    /// What it is resolved from.
    pub context: CallContext,
    /// Lease id, slug or instance id.
    pub id: String,
    /// Whether to wait until it is ready.
    pub wait: bool,
    /// Longest wait.
    pub wait_timeout_seconds: Option<f64>,
}

/// What `touch` takes.
#[napi(object, object_to_js = false)]
pub struct TouchCall {
    /// What it is resolved from.
    pub context: CallContext,
    /// Lease id, slug or instance id.
    pub id: String,
}

/// What `doctor` takes.
#[napi(object, object_to_js = false)]
pub struct DoctorCall {
    /// What it is resolved from.
    pub context: CallContext,
}

/// What `searchOffers` takes.
#[napi(object, object_to_js = false)]
pub struct SearchCall {
    /// What it is resolved from.
    pub context: CallContext,
    /// Most offers to give.
    pub limit: Option<f64>,
}

/// A command, as `argv` or as `shell`.
#[napi(object, object_to_js = false)]
pub struct ExecCall {
    /// Program and arguments.
    pub argv: Option<Vec<String>>,
    /// Text for the remote shell.
    pub shell: Option<String>,
    /// Variables for it.
    pub env: HashMap<String, String>,
    /// Folder on the instance.
    pub cwd: Option<String>,
    /// Whether `write` and `end` will be called.
    pub stdin: bool,
}

/// The environment and the options of a call, checked.
pub(crate) struct Context {
    snapshot: Snapshot,
    overrides: Overrides,
    sets_idle_timeout: bool,
}

impl Context {
    /// Reads the configuration files, so not on the JavaScript thread.
    pub(crate) fn settings(&self) -> Result<Settings> {
        resolve(&self.snapshot, &self.overrides)
    }

    /// The environment of the call.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The idle timeout, where the caller gave one with this very call.
    pub(crate) fn given_idle_timeout(&self, settings: &Settings) -> Option<Duration> {
        self.sets_idle_timeout.then_some(settings.idle_timeout)
    }
}

impl TryFrom<CallContext> for Context {
    type Error = Error;

    fn try_from(raw: CallContext) -> Result<Self> {
        let cwd = PathBuf::from(raw.cwd);
        if !cwd.is_absolute() {
            let text = format!("option `cwd` must be an absolute path, not {:?}", cwd.display().to_string());
            return Err(Error::new(Code::InvalidArgument, text));
        }
        let mut overrides = Overrides::new();
        for (key, value) in &raw.settings {
            overrides.set(key, value, OverrideOrigin::Option)?;
        }
        if let Some(key) = raw.api_key {
            overrides.set("apiKey", key, OverrideOrigin::Option)?;
        }
        Ok(Self {
            snapshot: Snapshot { vars: raw.env.into_iter().collect(), cwd },
            overrides,
            sets_idle_timeout: raw.settings.contains_key("idleTimeout"),
        })
    }
}

impl TryFrom<ExecCall> for ExecRequest {
    type Error = Error;

    fn try_from(raw: ExecCall) -> Result<Self> {
        let script = match (raw.argv, raw.shell) {
            (Some(words), None) => Script::Argv(words),
            (None, Some(text)) => Script::Shell(text),
            _ => return Err(Error::new(Code::InvalidArgument, "a command is either words or a shell line")),
        };
        Ok(Self { script, env: raw.env.into_iter().collect(), folder: raw.cwd })
    }
}

/// A release action by its word.
pub(crate) fn action(word: Option<&str>) -> Result<Option<ReleaseAction>> {
    word.map(str::parse).transpose()
}

/// A whole number of seconds from JavaScript.
pub(crate) fn seconds(option: &str, value: f64) -> Result<Duration> {
    whole(option, value).map(Duration::from_secs)
}

/// A whole, non-negative number that JavaScript can hold exactly.
pub(crate) fn whole(option: &str, value: f64) -> Result<u64> {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    if value.fract() == 0.0 && (0.0..=LARGEST).contains(&value) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole and within 2^53, as just checked"
        )]
        return Ok(value as u64);
    }
    let text = format!("option `{option}` must be a whole number of zero or more, not {value}");
    Err(Error::new(Code::InvalidArgument, text))
}

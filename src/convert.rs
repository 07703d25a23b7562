//! The requests that JavaScript sends, and their way into the engine's types.
//!
//! Every number is an `f64` here: napi-rs would wrap `-1` to 4294967295 and cut `1.7` to 1 in an integer.

use crabbox_vast_engine::config::{
    OverrideOrigin, Overrides, Resolved, Settings, Snapshot, has_api_key, resolve,
};
use crabbox_vast_engine::lease::ReleaseAction;
use crabbox_vast_engine::ops::{AcquireRequest, ExecRequest, Glob, RunRequest, ScriptFile, SyncRequest};
use crabbox_vast_engine::ssh::command::Script;
use crabbox_vast_engine::world::TerminalSize;
use crabbox_vast_engine::{Code, Error, Result};
use napi::bindgen_prelude::Buffer;
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

/// What `touch` of a lease that is held takes.
#[napi(object, object_to_js = false)]
pub struct HeldTouchCall {
    /// A duration as text.
    pub idle_timeout: Option<String>,
}

impl HeldTouchCall {
    /// The idle timeout, where one is given.
    pub(crate) fn idle_timeout(&self) -> Result<Option<Duration>> {
        const KEY: &str = "idleTimeout";
        let mut overrides = Overrides::new();
        if let Some(text) = &self.idle_timeout {
            overrides.set(KEY, text, OverrideOrigin::Option)?;
        }
        overrides.duration(KEY)
    }
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
    /// A lease that is checked as well: lease id, slug or instance id.
    pub id: Option<String>,
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

/// What a call takes that has nothing of its own.
#[napi(object, object_to_js = false)]
pub struct ContextCall {
    /// What it is resolved from.
    pub context: CallContext,
}

/// What `open` takes.
#[napi(object, object_to_js = false)]
pub struct OpenCall {
    /// What it is resolved from.
    pub context: CallContext,
    /// Lease id, slug or instance id.
    pub id: String,
    /// Take over a lease that another repository made.
    pub reclaim: bool,
}

/// What `start` takes.
#[napi(object, object_to_js = false)]
pub struct StartCall {
    /// What it is resolved from.
    pub context: CallContext,
    /// Lease id, slug or instance id.
    pub id: String,
}

/// What `sshCommand` takes.
#[napi(object, object_to_js = false)]
pub struct SshCall {
    /// What it is resolved from.
    pub context: CallContext,
    /// Lease id, slug or instance id.
    pub id: String,
    /// Take over a lease that another repository made.
    pub reclaim: bool,
}

/// What `cleanup` takes.
#[napi(object, object_to_js = false)]
pub struct CleanupCall {
    /// What it is resolved from.
    pub context: CallContext,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What `forget` takes.
#[napi(object, object_to_js = false)]
pub struct ForgetCall {
    /// What it is resolved from.
    pub context: CallContext,
    /// Lease id or slug.
    pub id: String,
    /// Also when the instance may still be billed.
    pub yes: bool,
}

/// What `adopt` takes.
#[napi(object, object_to_js = false)]
pub struct AdoptCall {
    /// What it is resolved from.
    pub context: CallContext,
    /// Lease id, slug or instance id.
    pub id: String,
    /// Cleanup leaves it alone.
    pub keep: bool,
}

/// What `copy` takes.
#[napi(object, object_to_js = false)]
pub struct CopyCall {
    /// What it is resolved from.
    pub context: CallContext,
    /// What: a path here, or `lease:path`.
    pub from: String,
    /// Where to.
    pub to: String,
    /// Take over a lease that another repository made.
    pub reclaim: bool,
}

/// What a copy on a lease that is held takes.
#[napi(object, object_to_js = false)]
pub struct HeldCopyCall {
    /// Here, below the working directory unless absolute.
    pub local: String,
    /// There, below the folder of commands unless absolute.
    pub remote: String,
    /// From here to there, or back.
    pub to_remote: bool,
}

/// What `tunnel` takes.
#[napi(object, object_to_js = false)]
pub struct TunnelCall {
    /// What it is resolved from.
    pub context: CallContext,
    /// Lease id, slug or instance id.
    pub id: String,
    /// Take over a lease that another repository made.
    pub reclaim: bool,
    /// `LOCAL`, `LOCAL:PORT` or `LOCAL:HOST:PORT`.
    pub forwards: Vec<String>,
}

/// What `showConfig` takes.
#[napi(object, object_to_js = false)]
pub struct ConfigCall {
    /// What it is resolved from.
    pub context: CallContext,
    /// Where each setting came from, in place of the document.
    pub origin: bool,
}

/// What a shell takes.
#[napi(object, object_to_js = false)]
pub struct ShellCall {
    /// Program and arguments in place of the login shell.
    pub argv: Option<Vec<String>>,
    /// Text for the remote shell in place of an interactive one.
    pub shell: Option<String>,
    /// What the terminal is called.
    pub term: String,
    /// Its size.
    pub columns: f64,
    /// Its size.
    pub rows: f64,
}

/// A terminal, checked.
pub(crate) struct Terminal {
    pub script: Option<Script>,
    pub name: String,
    pub size: TerminalSize,
}

impl TryFrom<ShellCall> for Terminal {
    type Error = Error;

    fn try_from(raw: ShellCall) -> Result<Self> {
        let script = match (raw.argv, raw.shell) {
            (None, None) => None,
            (argv, shell) => Some(script(argv, shell)?),
        };
        Ok(Self { script, name: raw.term, size: terminal_size(raw.columns, raw.rows)? })
    }
}

/// What `run` takes.
#[napi(object, object_to_js = false)]
pub struct RunCall {
    /// What it is resolved from.
    pub context: CallContext,
    /// What to run, and on what.
    pub request: RunWish,
    /// Whether `write` and `end` will be called.
    pub stdin: bool,
}

/// What to run, and on what.
#[napi(object, object_to_js = false)]
pub struct RunWish {
    /// A present lease; without it one is rented.
    pub id: Option<String>,
    /// Take over a lease that another repository made.
    pub reclaim: bool,
    /// Whether a rented lease stays.
    pub keep: bool,
    /// A name for a rented lease.
    pub slug: Option<String>,
    /// The lease id of the caller's choice.
    pub lease_id: Option<String>,
    /// Whether a rented lease stays when the command fails.
    pub keep_on_failure: bool,
    /// `never`, `always`, `success` or `failure`.
    pub stop_after: Option<String>,
    /// Program and arguments; the arguments of a script.
    pub argv: Option<Vec<String>>,
    /// Text for the remote shell.
    pub shell: Option<String>,
    /// A local script.
    pub script: Option<ScriptCall>,
    /// How to bring the working tree over, if it is.
    pub sync: Option<SyncCall>,
    /// End after that.
    pub sync_only: bool,
    /// Variables for the command.
    pub env: HashMap<String, String>,
    /// Names of local variables for it.
    pub allow_env: Vec<String>,
    /// `REMOTE` or `REMOTE=LOCAL`.
    pub downloads: Vec<String>,
    /// Local files of `NAME=value` lines.
    pub env_profiles: Option<Vec<String>>,
    /// Patterns of files to bring back.
    pub artifacts: Option<Vec<String>>,
    /// Patterns that must match.
    pub required_artifacts: Option<Vec<String>>,
    /// Whether a failure is bundled.
    pub capture_on_fail: Option<bool>,
    /// A word for the reports.
    pub label: Option<String>,
}

/// A local script.
#[napi(object, object_to_js = false)]
pub struct ScriptCall {
    /// Its file name.
    pub name: String,
    /// Its text.
    #[napi(ts_type = "Uint8Array")]
    pub content: Buffer,
}

/// How a sync differs from what the settings say.
#[napi(object, object_to_js = false)]
pub struct SyncCall {
    /// Refuse nothing for its size.
    pub force_large: bool,
    /// Compare contents.
    pub checksum: bool,
    /// Everything travels.
    pub full: bool,
}

impl TryFrom<RunWish> for RunRequest {
    type Error = Error;

    fn try_from(raw: RunWish) -> Result<Self> {
        let nothing = raw.argv.is_none() && raw.shell.is_none();
        let argv = if nothing { Some(Vec::new()) } else { raw.argv };
        let mut request = Self::new(script(argv, raw.shell)?);
        request.identifier = raw.id;
        request.reclaim = raw.reclaim;
        request.acquire = AcquireRequest { keep: raw.keep, slug: raw.slug, lease_id: raw.lease_id };
        request.keep_on_failure = raw.keep_on_failure;
        request.stop_after = raw.stop_after.as_deref().map(str::parse).transpose()?;
        request.file = raw.script.map(|file| ScriptFile {
            path: Some(file.name.clone().into()),
            name: file.name,
            content: Vec::from(file.content),
        });
        request.sync = raw.sync.map(|sync| SyncRequest {
            force_large: sync.force_large,
            checksum: sync.checksum,
            full: sync.full,
        });
        request.sync_only = raw.sync_only;
        request.env = raw.env.into_iter().collect();
        request.allow_env = raw.allow_env;
        request.downloads = raw.downloads.iter().map(|text| text.parse()).collect::<Result<_>>()?;
        request.env_profiles = raw.env_profiles.unwrap_or_default().into_iter().map(PathBuf::from).collect();
        request.artifacts = globs(raw.artifacts)?;
        request.required_artifacts = globs(raw.required_artifacts)?;
        request.capture_on_fail = raw.capture_on_fail.unwrap_or_default();
        request.label = raw.label;
        // The caller has both streams.
        request.captured = (true, true);
        Ok(request)
    }
}

fn globs(texts: Option<Vec<String>>) -> Result<Vec<Glob>> {
    texts.unwrap_or_default().iter().map(|text| text.parse()).collect()
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

    /// What was found for each setting, and where.
    pub(crate) fn resolved(&self) -> Result<Resolved> {
        Resolved::load(&self.snapshot, &self.overrides)
    }

    /// The environment of the call.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether there is an API key, whatever the settings are.
    pub(crate) fn has_api_key(&self) -> bool {
        has_api_key(&self.snapshot, &self.overrides)
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
        Ok(Self { script: script(raw.argv, raw.shell)?, env: raw.env.into_iter().collect(), folder: raw.cwd })
    }
}

fn script(argv: Option<Vec<String>>, shell: Option<String>) -> Result<Script> {
    match (argv, shell) {
        (Some(words), None) => Ok(Script::Argv(words)),
        (None, Some(text)) => Ok(Script::Shell(text)),
        _ => Err(Error::new(Code::InvalidArgument, "a command is either words or a shell line")),
    }
}

/// The size of a terminal.
pub(crate) fn terminal_size(columns: f64, rows: f64) -> Result<TerminalSize> {
    let side = |option, value| match u32::try_from(whole(option, value)?) {
        Ok(side @ 1..=65_535) => Ok(side),
        _ => Err(Error::new(Code::InvalidArgument, format!("option `{option}` must be from 1 to 65535"))),
    };
    Ok(TerminalSize { columns: side("columns", columns)?, rows: side("rows", rows)? })
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

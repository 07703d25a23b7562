//! Run: one command on a lease, its own or a present one, with the release that the policy asks for.

use super::cost::run_cost;
use super::release::ReleaseOutcome;
use super::run_artifacts::{Archive, Glob};
use super::run_job::{Job, Measures};
use super::run_report::{Again, Commands, TimingReport};
use super::workspace::Owner;
use super::{AcquireRequest, Call, Engine, SyncReport, SyncRequest};
use crate::lease::{ReleaseAction, RunId};
use crate::ssh::command::{Script, shown_word};
use crate::world::{ExecExit, ExecIo};
use crate::{Code, Error, Result};
use futures_util::future::BoxFuture;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// When a run releases its lease, in place of the default (release what this run acquired, unless kept).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAfter {
    /// Never.
    Never,
    /// Whatever happens.
    Always,
    /// After exit code 0.
    Success,
    /// After anything else.
    Failure,
}

impl std::str::FromStr for StopAfter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "never" => Ok(Self::Never),
            "always" => Ok(Self::Always),
            "success" => Ok(Self::Success),
            "failure" => Ok(Self::Failure),
            other => Err(Error::new(Code::InvalidArgument, format!("`{other}` is not a release policy"))
                .hint("--stop-after takes never, always, success or failure")),
        }
    }
}

impl StopAfter {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Always => "always",
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

/// A local script that is brought over and run with the words of the command as its arguments.
#[derive(Debug, Clone)]
pub struct ScriptFile {
    /// Its file name.
    pub name: String,
    /// Where it is on this machine; `None` when it came over standard input.
    pub path: Option<PathBuf>,
    /// Its text.
    pub content: Vec<u8>,
}

/// A file that is fetched after a command that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// On the instance, below the folder of the command unless absolute.
    pub remote: String,
    /// Here, below the working directory unless absolute.
    pub local: PathBuf,
}

impl std::str::FromStr for Download {
    type Err = Error;

    /// `remote=local`, or `remote` alone, whose last part is the local name.
    fn from_str(text: &str) -> Result<Self> {
        let (remote, local) = text.split_once('=').unwrap_or((text, ""));
        let last = remote.rsplit('/').next().unwrap_or_default();
        let local = if local.is_empty() { last } else { local };
        if remote.is_empty() || matches!(local, "" | "." | "..") {
            return Err(Error::new(Code::InvalidArgument, format!("`{text}` names no file to download"))
                .hint("write --download remote/file, or --download remote/file=local/file"));
        }
        Ok(Self { remote: remote.to_owned(), local: local.into() })
    }
}

/// What to run, and on what.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// A present lease by id, slug or instance id; `None` acquires one.
    pub identifier: Option<String>,
    /// How to acquire.
    pub acquire: AcquireRequest,
    /// Take over a lease that another repository made.
    pub reclaim: bool,
    /// Leave the lease alone when the command fails.
    pub keep_on_failure: bool,
    /// Policy that beats the two above.
    pub stop_after: Option<StopAfter>,
    /// The command; the arguments where there is a `file`.
    pub script: Script,
    /// A local script to run in place of a program.
    pub file: Option<ScriptFile>,
    /// How to bring the working tree over first; `None` leaves it here.
    pub sync: Option<SyncRequest>,
    /// End after the sync: there is no command.
    pub sync_only: bool,
    /// Variables for the command, by name and value.
    pub env: BTreeMap<String, String>,
    /// Names of local variables for the command, besides those of the settings; a final `*` matches any ending.
    pub allow_env: Vec<String>,
    /// Local files of `NAME=value` lines, below the working directory unless absolute. The command receives those of
    /// their variables that are allowed, in place of the environment's of the same name.
    pub env_profiles: Vec<PathBuf>,
    /// Files to fetch.
    pub downloads: Vec<Download>,
    /// Files to bring back in one archive after a command that succeeded.
    pub artifacts: Vec<Glob>,
    /// Files that must be there after a command that succeeded; they are in that archive too.
    pub required_artifacts: Vec<Glob>,
    /// Write an archive about a command that failed.
    pub capture_on_fail: bool,
    /// A word of the caller for the reports.
    pub label: Option<String>,
    /// The streams whose last lines are not to be repeated: standard output, standard error.
    pub captured: (bool, bool),
    /// Local files that the caller writes for this run, below the working directory unless absolute.
    pub written: Vec<PathBuf>,
    /// What commands that are shown to the user carry at their end, such as ` --sim`.
    pub suffix: String,
}

impl RunRequest {
    /// Refuses what contradicts itself, for a working directory. Calls nothing; [`Engine::run`] does it too.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`].
    pub fn check(&self, cwd: &Path) -> Result<()> {
        let refuse = |message: &str, hint: &str| Err(Error::new(Code::InvalidArgument, message).hint(hint));
        if self.identifier.is_some() && (self.acquire.slug.is_some() || self.acquire.lease_id.is_some()) {
            return refuse(
                "a slug or lease id is for a lease that is rented, and a present one was named",
                "name the present lease, or say how the rented one is to be called",
            );
        }
        let runs = self.file.is_some() || !self.script.is_empty();
        let fetches =
            !(self.downloads.is_empty() && self.artifacts.is_empty() && self.required_artifacts.is_empty());
        if self.sync_only && self.sync.is_none() {
            return refuse("only a sync was asked for, and none as well", "drop one of the two");
        }
        if self.sync_only && (runs || fetches) {
            return refuse(
                "only a sync was asked for, and a command or its results as well",
                "without a command there is nothing to download or archive: drop one of the two",
            );
        }
        if !self.sync_only && !runs {
            return Err(Error::new(Code::InvalidArgument, "there is no command")
                .hint("name a program, such as nvidia-smi, a script, or only a sync")
                .with("missing", "command"));
        }
        if self.file.is_some() && matches!(self.script, Script::Shell(_)) {
            return refuse("a script takes words, not a shell line", "give its arguments one by one");
        }
        let places = self.downloads.iter().map(|download| &download.local).chain(&self.written);
        let mut seen = BTreeSet::new();
        // Compared part by part, so that `./a` is `a`.
        for place in places.map(|place| cwd.join(place).components().collect::<PathBuf>()) {
            if seen.contains(&place) {
                return refuse(
                    &format!("{} would be written twice", place.display()),
                    "give each download, capture and record a file of its own",
                );
            }
            seen.insert(place);
        }
        Ok(())
    }

    /// Rents a machine for one command and gives it back.
    #[must_use]
    pub fn new(script: Script) -> Self {
        Self {
            identifier: None,
            acquire: AcquireRequest::default(),
            reclaim: false,
            keep_on_failure: false,
            stop_after: None,
            script,
            file: None,
            sync: None,
            sync_only: false,
            env: BTreeMap::new(),
            allow_env: Vec::new(),
            env_profiles: Vec::new(),
            downloads: Vec::new(),
            artifacts: Vec::new(),
            required_artifacts: Vec::new(),
            capture_on_fail: false,
            label: None,
            captured: (false, false),
            written: Vec::new(),
            suffix: String::new(),
        }
    }

    pub(super) fn shown(&self) -> String {
        match &self.file {
            None => self.script.shown(),
            Some(file) => format!("{} {}", file.remote_path(), self.script.shown()).trim_end().to_owned(),
        }
    }

    /// How the user says the same again.
    pub(super) fn again(&self) -> Again {
        let shell = matches!(self.script, Script::Shell(_)).then(|| " --shell".to_owned());
        let how = match &self.file {
            None => shell.unwrap_or_default(),
            Some(ScriptFile { path: None, .. }) => " --script-stdin".to_owned(),
            Some(ScriptFile { path: Some(path), .. }) => {
                format!(" --script {}", shown_word(&path.display().to_string()))
            }
        };
        let words = match &self.script {
            Script::Argv(_) => self.script.shown(),
            Script::Shell(text) => shown_word(text),
        };
        let command = if words.is_empty() { words } else { format!(" -- {words}") };
        Again { syncs: self.sync.is_some(), how, command }
    }
}

/// A finished run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunResult {
    /// This run's id.
    pub run_id: String,
    /// The lease.
    pub lease: super::lease::Facts,
    /// Folder on the instance.
    pub workdir: String,
    /// The command's exit code; 128 and the signal's number when a signal ended it.
    pub exit_code: u8,
    /// The signal that ended it, where the instance tells.
    pub signal: Option<String>,
    /// Seconds until the lease was usable.
    #[serde(rename = "leaseSeconds")]
    pub lease_secs: f64,
    /// What the sync did, where there was one.
    pub sync: Option<SyncReport>,
    /// Seconds the command took.
    #[serde(rename = "commandSeconds")]
    pub command_secs: f64,
    /// Seconds in all, release included.
    #[serde(rename = "totalSeconds")]
    pub total_secs: f64,
    /// What the machine cost in that time at its price, $; an upper bound, since a booting one is billed for less.
    pub cost_dollars: Option<f64>,
    /// Whether the lease was released: destroyed, or stopped where that is its release action. `Some(false)` when the
    /// release failed or its action kept the lease; `None` when it was to be left.
    pub released: Option<bool>,
    /// What the release came to, where there was one and it did not fail.
    pub release_outcome: Option<ReleaseOutcome>,
    /// Why the release failed, if it did.
    pub release_error: Option<String>,
    /// What decided: `auto`, or the given policy.
    pub policy: &'static str,
    /// The command that gives the lease back; for one whose release kept or stopped it, the command that destroys it.
    pub stop_command: String,
    /// The archive of the artifacts that were asked for, where there are any.
    pub artifacts: Option<Archive>,
    /// The archive about the failure, below the working directory, where one was asked for.
    pub failure_bundle: Option<String>,
    /// Where the time went.
    pub timing: TimingReport,
}

impl Engine {
    /// Runs a command. What this run acquired is released whatever happens to the command or the caller, unless it
    /// was to be kept.
    ///
    /// # Errors
    /// Those of acquire, resolve and sync (what cannot be synced fails before anything is rented or looked up);
    /// a profile that cannot be read, likewise; [`Code::WorkspaceBusy`]; [`Code::SshLost`], [`Code::RemoteControl`],
    /// [`Code::Cancelled`]; [`Code::CleanupFailed`] when the command succeeded and the release did not. Once the command
    /// has ended an error carries the [`TimingReport`] as `timing`.
    pub fn run<'a>(
        &'a self,
        request: &'a RunRequest,
        io: ExecIo,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<RunResult>> {
        Box::pin(async move {
            let began = Instant::now();
            request.check(&self.settings.cwd)?;
            if let Some(sync) = &request.sync {
                self.check_sync(sync).await?;
            }
            let profile = self.read_profiles(&request.env_profiles, call).await?;
            let run = RunId::from_entropy(self.entropy());
            let policy = matches!(request.stop_after, None | Some(StopAfter::Always));
            let alone = policy && !request.acquire.keep && !request.keep_on_failure;
            let (lease, acquired) = match &request.identifier {
                Some(identifier) => {
                    self.recover_beside(identifier, call).await;
                    (self.open(identifier, request.reclaim, call).await?, false)
                }
                None => {
                    let (lease, lock) = self.acquire_as(&request.acquire, alone, call).await?;
                    // Should this process die, whoever comes next gives the lease back; without the record its expiry does.
                    if alone && let Err(error) = lease.hold(lock).await {
                        call.warn(format!(
                            "that the lease is for this run alone could not be recorded: {error}"
                        ));
                    }
                    (lease, true)
                }
            };
            let facts = lease.facts();
            let commands = self.commands(&facts.slug, &request.suffix);
            let mut timing =
                TimingReport::of_run(facts, began.elapsed(), &self.settings.repo_root, commands.stop());
            timing.run_id = Some(run.as_str().to_owned());
            timing.label.clone_from(&request.label);
            timing.workdir = lease.folder(&self.settings.repo_name);
            let owner = Owner::new(&lease);
            let mut job = Job::new(&lease, &owner, request, &run, &profile, began, timing);
            let outcome = job.work(io, call).await;

            let succeeded = matches!(outcome, Ok(ExecExit::Code(0)));
            let cancelled = matches!(&outcome, Err(error) if error.code() == Code::Cancelled);
            let releases = match request.stop_after {
                Some(StopAfter::Never) => false,
                Some(StopAfter::Always) => true,
                Some(StopAfter::Success) => succeeded,
                Some(StopAfter::Failure) => !succeeded,
                // Who interrupts wants it over, not kept for a look at the failure.
                None => {
                    acquired && !request.acquire.keep && (succeeded || cancelled || !request.keep_on_failure)
                }
            };
            let uncancelled = call.uncancelled();
            let action = if releases { self.release_action_of(&facts.id).await } else { ReleaseAction::Keep };
            let ended = job.ended();
            if let Some(exit) = &ended {
                let (stays, failure) =
                    (action == ReleaseAction::Keep, outcome.as_ref().err().map(Error::code));
                let kept = !releases && acquired && request.keep_on_failure;
                job.report(exit, failure, stays, kept, &commands, call).await;
            }
            if action != ReleaseAction::Destroy {
                // Whoever comes next on what stays must not wait until this owner expires.
                job.give_back(&outcome, &uncancelled).await;
            }
            let released =
                if releases { Some(lease.release_as(None, true, &uncancelled).await) } else { None };
            let Measures { mut timing, sync, artifacts, failure_bundle } = job.into_measures();
            let came_to =
                released.as_ref().and_then(|released| released.as_ref().ok()).map(|done| done.outcome);
            timing.lease_stopped =
                released.as_ref().map(|_| came_to.is_some_and(|outcome| outcome != ReleaseOutcome::Kept));
            timing.lease_stop_error =
                released.as_ref().and_then(|released| released.as_ref().err()).map(ToString::to_string);
            // The times of a command that ended are told whatever came after it.
            let timed = |error: Error| match (&ended, serde_json::to_value(&timing)) {
                (Some(_), Ok(timing)) => error.with("timing", timing),
                _ => error,
            };
            let exit = match (outcome, &released) {
                (Ok(_), Some(Err(error))) if succeeded => {
                    return Err(timed(
                        Error::new(
                            Code::CleanupFailed,
                            format!(
                                "the command succeeded, but lease {} was not released: {error}",
                                facts.id
                            ),
                        )
                        .hint(format!("run `crabbox-vast stop {}{}`", facts.slug, request.suffix))
                        .with("lease", facts.id.as_str()),
                    ));
                }
                (Err(error), Some(Err(left))) => return Err(timed(error.and(left))),
                // What is gone bills no more; the error tells what to do about the claim.
                (Err(error), None) if error.code() == Code::InstanceGone => {
                    return Err(timed(error).with("lease", facts.id.as_str()));
                }
                (Err(error), _) if came_to.is_none_or(|outcome| outcome == ReleaseOutcome::Kept) => {
                    return Err(timed(error)
                        .hint(match came_to {
                            None => format!(
                                "lease {} stays and bills: `crabbox-vast stop {}{}` gives it back",
                                facts.id, facts.slug, request.suffix
                            ),
                            Some(_) => {
                                format!(
                                    "lease {} is kept and bills: `{}` ends it",
                                    facts.id,
                                    commands.destroy()
                                )
                            }
                        })
                        .with("lease", facts.id.as_str()));
                }
                (outcome, _) => outcome.map_err(timed)?,
            };
            let (exit_code, signal) = exit_code(&exit);
            Ok(RunResult {
                run_id: run.as_str().to_owned(),
                lease: facts.clone(),
                workdir: timing.workdir.clone(),
                exit_code,
                signal,
                lease_secs: seconds(timing.lease_ms),
                sync,
                command_secs: seconds(timing.command_ms),
                total_secs: began.elapsed().as_secs_f64(),
                cost_dollars: run_cost(facts, began.elapsed()).map(|cost| cost.0),
                released: timing.lease_stopped,
                release_outcome: came_to,
                release_error: timing.lease_stop_error.clone(),
                policy: request.stop_after.map_or("auto", StopAfter::as_str),
                stop_command: match came_to {
                    Some(ReleaseOutcome::Kept | ReleaseOutcome::Stopped) => commands.destroy(),
                    _ => timing.stop_command.clone(),
                },
                artifacts,
                failure_bundle,
                timing,
            })
        })
    }
}

impl Engine {
    fn commands<'a>(&'a self, slug: &'a str, suffix: &'a str) -> Commands<'a> {
        Commands {
            api_url: &self.settings.api_url,
            slug,
            action: self.settings.release_action_explicit.then(|| self.settings.release_action.as_str()),
            limits: &self.settings.limits,
            suffix,
        }
    }
}

pub(super) fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

/// Exit code and signal of a command, the way a shell tells them.
#[must_use]
pub fn exit_code(exit: &ExecExit) -> (u8, Option<String>) {
    match exit {
        ExecExit::Code(code) => (u8::try_from(*code).unwrap_or(255), None),
        ExecExit::Signal(name) => {
            let number = match name.as_str() {
                "HUP" => 1,
                "INT" => 2,
                "QUIT" => 3,
                "ILL" => 4,
                "ABRT" => 6,
                "FPE" => 8,
                "KILL" => 9,
                "USR1" => 10,
                "SEGV" => 11,
                "PIPE" => 13,
                "ALRM" => 14,
                "TERM" => 15,
                _ => 127,
            };
            (128 + number, Some(name.clone()))
        }
    }
}

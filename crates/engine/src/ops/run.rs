//! Run: one command on a lease, its own or a present one, with the release that the policy asks for.

use super::lease::Machine;
use super::verdict::outbid;
use super::{AcquireRequest, Call, Engine, Event, ExecRequest, Lease, Phase};
use crate::lease::labels::key;
use crate::lease::{Claim, LeaseId, RunId, accrued};
use crate::ssh::command::Script;
use crate::vast::Instance;
use crate::world::{ExecExit, ExecIo};
use crate::{Code, Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long a present lease may take to let us in.
const CONNECT: Duration = Duration::from_secs(120);

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
    /// The command.
    pub script: Script,
    /// Variables for the command.
    pub env: BTreeMap<String, String>,
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
    /// The signal that ended it.
    pub signal: Option<String>,
    /// Seconds until the lease was usable.
    pub lease_secs: f64,
    /// Seconds the command took.
    pub command_secs: f64,
    /// Seconds in all, release included.
    pub total_secs: f64,
    /// What the machine cost in that time at its price, $; an upper bound, since a booting one is billed for less.
    pub cost_dollars: Option<f64>,
    /// Whether the lease was released; `None` when it was to be left.
    pub released: Option<bool>,
    /// Why the release failed, if it did.
    pub release_error: Option<String>,
}

impl Engine {
    /// Runs a command. What this run acquired is released whatever happens to the command or the caller, unless it
    /// was to be kept.
    ///
    /// # Errors
    /// Those of acquire and resolve; [`Code::SshLost`], [`Code::RemoteControl`], [`Code::Cancelled`];
    /// [`Code::CleanupFailed`] when the command succeeded and the release did not.
    pub async fn run(&self, request: &RunRequest, io: ExecIo, call: &Call) -> Result<RunResult> {
        let began = Instant::now();
        let run = RunId::from_entropy(self.entropy());
        let (lease, acquired) = match &request.identifier {
            Some(identifier) => {
                self.recover_beside(identifier, call).await;
                (self.open(identifier, request.reclaim, call).await?, false)
            }
            None => (self.acquire(&request.acquire, call).await?, true),
        };
        let alone = matches!(request.stop_after, None | Some(StopAfter::Always));
        if acquired && alone && !request.acquire.keep && !request.keep_on_failure {
            // Should this process die, whoever comes next gives the lease back; without the record its expiry does.
            if let Err(error) = lease.hold().await {
                call.warn(format!("that the lease is for this run alone could not be recorded: {error}"));
            }
        }
        let lease_secs = began.elapsed().as_secs_f64();
        let workdir = lease.folder(&self.repository_name());
        let commanded = Instant::now();
        let outcome = self.command(&lease, &run, &workdir, request, io, began, call).await;
        let command_secs = commanded.elapsed().as_secs_f64();
        let succeeded = matches!(outcome, Ok(ExecExit::Code(0)));
        let cancelled = matches!(&outcome, Err(error) if error.code() == Code::Cancelled);
        let releases = match request.stop_after {
            Some(StopAfter::Never) => false,
            Some(StopAfter::Always) => true,
            Some(StopAfter::Success) => succeeded,
            Some(StopAfter::Failure) => !succeeded,
            // Who interrupts wants it over, not kept for a look at the failure.
            None => acquired && !request.acquire.keep && (succeeded || cancelled || !request.keep_on_failure),
        };
        let released = if releases { Some(lease.release(None, &call.uncancelled()).await) } else { None };
        let exit = match (outcome, &released) {
            (Ok(_), Some(Err(error))) if succeeded => {
                let facts = lease.facts();
                return Err(Error::new(
                    Code::CleanupFailed,
                    format!("the command succeeded, but lease {} was not released: {error}", facts.id),
                )
                .hint(format!("run `crabbox-vast stop {}`", facts.slug))
                .with("lease", facts.id.as_str()));
            }
            (Err(error), Some(Err(left))) => return Err(error.and(left)),
            (Err(error), None) => {
                let facts = lease.facts();
                return Err(error
                    .hint(format!(
                        "lease {} stays and bills: `crabbox-vast stop {}` gives it back",
                        facts.id, facts.slug
                    ))
                    .with("lease", facts.id.as_str()));
            }
            (outcome, _) => outcome?,
        };
        let (exit_code, signal) = exit_code(&exit);
        Ok(RunResult {
            run_id: run.as_str().to_owned(),
            lease: lease.facts().clone(),
            workdir,
            exit_code,
            signal,
            lease_secs,
            command_secs,
            total_secs: began.elapsed().as_secs_f64(),
            cost_dollars: lease.facts().price.map(|price| accrued(price, began.elapsed()).0),
            released: released.as_ref().map(Result::is_ok),
            release_error: released.and_then(Result::err).map(|error| error.to_string()),
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one run, named once")]
    async fn command(
        &self,
        lease: &Lease,
        run: &RunId,
        workdir: &str,
        request: &RunRequest,
        io: ExecIo,
        began: Instant,
        call: &Call,
    ) -> Result<ExecExit> {
        // A touch that fails is no reason not to work: the lease is there.
        if let Err(error) = lease.touch(Some("running")).await {
            call.warn(format!("the lease could not be marked as running: {error}"));
        }
        call.phase(Phase::Run, request.script.shown());
        call.event(Event::Running {
            run: run.clone(),
            lease: Box::new(lease.facts().clone()),
            workdir: workdir.to_owned(),
            command: request.script.shown(),
        });
        let mut env = request.env.clone();
        env.insert("CRABBOX_RUN_ID".to_owned(), run.as_str().to_owned());
        let exec = ExecRequest { script: request.script.clone(), env, folder: Some(workdir.to_owned()) };
        let commanded = Instant::now();
        let outcome = lease.exec(&exec, io, call).await;
        call.event(Event::CommandEnded {
            seconds: commanded.elapsed().as_secs_f64(),
            total: began.elapsed().as_secs_f64(),
        });
        if let Err(error) = lease.touch(Some("ready")).await {
            call.warn(format!("the lease could not be marked as ready: {error}"));
        }
        outcome
    }

    /// Opens a session on a present lease and binds it to this repository.
    ///
    /// # Errors
    /// Those of resolving; [`Code::InstanceNotRunning`], [`Code::RepositoryMismatch`], [`Code::SshTimeout`].
    pub async fn open(&self, identifier: &str, reclaim: bool, call: &Call) -> Result<Lease> {
        let (claim, instance) = self.resolve_or_adopt(identifier, reclaim, call).await?;
        super::touch::check_repository(&claim, &self.settings.repo_root, reclaim)?;
        let id = LeaseId::parse(&claim.lease_id).ok_or_else(|| {
            Error::new(Code::ClaimCorrupt, format!("`{}` is not a lease id", claim.lease_id))
        })?;
        require_usable(&claim, &instance)?;
        let key = self.lease_key(&id).await?;
        let connected =
            call.until_cancelled(self.connect(&id, &key, instance.endpoints(), CONNECT, call)).await?;
        let claim = self
            .bind_claim(&id, connected.endpoint.host.clone(), connected.endpoint.port, reclaim, true)
            .await?;
        let machine = Machine {
            instance: instance.id,
            gpu: instance.gpu_name.clone().unwrap_or_default(),
            price: instance.dph_total,
        };
        Ok(Lease::new(self, &id, &claim, machine, &key, connected))
    }

    fn repository_name(&self) -> String {
        let root = std::path::Path::new(&self.settings.repo_root);
        root.file_name().map_or_else(|| "workspace".to_owned(), |name| name.to_string_lossy().into_owned())
    }
}

fn require_usable(claim: &Claim, instance: &Instance) -> Result<()> {
    if instance.is_outbid() && claim.label(key::STATE) != Some("stopped") {
        return Err(outbid(instance.id, Some(&claim.slug)));
    }
    if !instance.is_running() {
        let status = instance.shown_status();
        return Err(Error::new(
            Code::InstanceNotRunning,
            format!("vast instance {} of lease {} is {status}", instance.id, claim.lease_id),
        )
        .hint(match status.as_str() {
            "provisioning" | "loading" | "created" => "it is still starting: see `status --wait`",
            _ => "it does not run: release it with `stop --vast-release-action destroy` and take another",
        }));
    }
    if instance.endpoints().is_empty() {
        return Err(Error::new(
            Code::InstanceNotRunning,
            format!("vast instance {} is missing SSH endpoint", instance.id),
        )
        .hint("it may still be starting: see `status --wait`"));
    }
    Ok(())
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

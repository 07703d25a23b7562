//! The steps of one run on its lease: workspace, script, command, downloads, and the words about them.

use super::remote::Remote;
use super::run::{RunRequest, exit_code, seconds};
use super::run_files::Files;
use super::run_report::{Commands, Tails, TimingPhase, TimingReport, millis};
use super::workspace::{Input, Owner};
use super::{Call, Event, ExecRequest, Lease, Phase, SyncReport};
use crate::lease::{Claim, RunId, accrued, go_duration, labels, moment};
use crate::ssh::command::Script;
use crate::world::{ExecExit, ExecIo};
use crate::{Code, Result};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long a command that was told to end may take before its workspace is given up on.
const ENDING: Duration = Duration::from_secs(5);
/// After these there is nobody to give a workspace back to.
const LOSSES: [Code; 4] = [Code::SshLost, Code::InstanceGone, Code::InstanceNotRunning, Code::Outbid];

/// One run on its lease, until the lease is given back.
pub(super) struct Job<'a> {
    lease: &'a Lease,
    owner: &'a Owner,
    request: &'a RunRequest,
    run: &'a RunId,
    began: Instant,
    timing: TimingReport,
    synced: Option<SyncReport>,
    tails: Tails,
}

impl<'a> Job<'a> {
    pub fn new(
        lease: &'a Lease,
        owner: &'a Owner,
        request: &'a RunRequest,
        run: &'a RunId,
        began: Instant,
        timing: TimingReport,
    ) -> Self {
        Self { lease, owner, request, run, began, timing, synced: None, tails: Tails::default() }
    }

    /// Everything up to the command's end.
    ///
    /// # Errors
    /// As [`super::Engine::run`].
    pub async fn work(&mut self, io: ExecIo, call: &Call) -> Result<ExecExit> {
        let (lease, request) = (self.lease, self.request);
        let usable = Instant::now();
        let prepares = request.sync.is_some() || request.file.is_some();
        if prepares {
            self.owner.take(lease, call).await?;
            self.timing.bootstrap_ms = millis(usable.elapsed());
        }
        if let Some(sync) = &request.sync {
            call.event(Event::Syncing {
                from: lease.engine().settings().repo_root.clone(),
                host: lease.facts().endpoint.host.clone(),
                workdir: self.timing.workdir.clone(),
            });
            self.context(call);
            let remote = Remote::owned(lease, self.owner);
            let work = lease.engine().sync(&remote, &self.timing.workdir, sync, call);
            let report = call.until_cancelled(self.owner.keep(lease, call, work)).await?;
            self.timing.sync_ms = millis(Duration::try_from_secs_f64(report.seconds).unwrap_or_default());
            self.timing.sync_skipped = report.skipped;
            self.timing.sync_phases = report.steps.iter().map(TimingPhase::from).collect();
            self.synced = Some(report);
        } else if prepares {
            self.context(call);
        }
        if request.sync_only {
            self.measure(usable);
            return Ok(ExecExit::Code(0));
        }
        let script = match &request.file {
            None => request.script.clone(),
            Some(file) => self.files().upload(file, &request.script, call).await?,
        };
        // A touch that fails is no reason not to work: the lease is there.
        if let Err(error) = lease.touch(Some("running")).await {
            call.warn(format!("the lease could not be marked as running: {error}"));
        }
        let exit = self.command(script, usable, !prepares, io, call).await;
        self.measure(usable);
        if let Err(error) = lease.touch(Some("ready")).await {
            call.warn(format!("the lease could not be marked as ready: {error}"));
        }
        let exit = exit?;
        if exit == ExecExit::Code(0) {
            for download in &request.downloads {
                self.files().download(download, call).await?;
            }
        }
        Ok(exit)
    }

    async fn command(
        &mut self,
        script: Script,
        usable: Instant,
        shows_context: bool,
        io: ExecIo,
        call: &Call,
    ) -> Result<ExecExit> {
        let (lease, request, run) = (self.lease, self.request, self.run);
        let (env, forwarded) = self.environment();
        let exec = ExecRequest { script, env, folder: Some(self.timing.workdir.clone()) };
        let prepared = lease.prepare(&exec, &[("CRABBOX_RUN_ID", run.as_str())])?;
        let mut commanded = Instant::now();
        let this = &*self;
        let begun = || {
            commanded = Instant::now();
            if shows_context {
                this.context(call);
            }
            if let Some(event) = forwarded {
                call.event(event);
            }
            call.phase(Phase::Run, request.shown());
            call.event(Event::Running {
                run: run.clone(),
                lease: Box::new(lease.facts().clone()),
                workdir: this.timing.workdir.clone(),
                command: request.shown(),
            });
        };
        let mut tails = Tails::default();
        let (give, mut take) = mpsc::channel(16);
        let input = Input { first: prepared.input, then: io.stdin };
        let running = self.owner.stream(lease, &prepared.line, input, give, begun, call);
        // Dropped with the last piece, which tells the reader that the output is whole.
        let output = io.output;
        let tee = async move {
            while let Some(piece) = take.recv().await {
                tails.take(&piece);
                // A receiver that went away discards output, as a closed pipe does.
                let _ = output.send(piece).await;
            }
            tails
        };
        let (exit, tails) = tokio::join!(running, tee);
        self.tails = tails;
        if shows_context {
            self.timing.bootstrap_ms = millis(commanded.duration_since(usable));
        }
        self.timing.command_ms = millis(commanded.elapsed());
        self.timing.command_phases =
            vec![TimingPhase { name: "user-command".to_owned(), ms: self.timing.command_ms }];
        call.event(Event::CommandEnded {
            seconds: seconds(self.timing.command_ms),
            total: usable.elapsed().as_secs_f64(),
        });
        exit
    }

    fn measure(&mut self, usable: Instant) {
        self.timing.total_ms = millis(usable.elapsed());
        self.timing.end_to_end_ms = millis(self.began.elapsed());
    }

    fn context(&self, call: &Call) {
        call.event(Event::RunContext {
            run: self.run.clone(),
            lease: Box::new(self.lease.facts().clone()),
            workdir: self.timing.workdir.clone(),
        });
    }

    /// The command's variables, and what to say about those that come from here.
    fn environment(&self) -> (BTreeMap<String, String>, Option<Event>) {
        let settings = self.lease.engine().settings();
        let allowed: Vec<&String> = settings.env_allow.iter().chain(&self.request.allow_env).collect();
        let local = settings.environment.allowed(allowed.iter().copied());
        let asked = !self.request.allow_env.is_empty() || settings.environment.is_set("CRABBOX_ENV_ALLOW");
        let names: Vec<String> = local.keys().cloned().collect();
        let what = if names.is_empty() {
            let allowed: Vec<&str> = allowed.iter().map(|name| name.as_str()).collect();
            format!("matched=none allow={}", allowed.join(","))
        } else {
            let shown = local.iter().map(|(name, value)| match is_secret_shaped(name) {
                true => format!("{name}=set len={} secret=true", value.len()),
                false => format!("{name}=set"),
            });
            format!("vars={}", shown.collect::<Vec<_>>().join(","))
        };
        let line = format!("env forwarding provider=vast behavior=forwarded {what}");
        let event = (asked || !names.is_empty()).then_some(Event::EnvForwarded { names, line });
        let mut env = local;
        env.extend(self.request.env.clone());
        (env, event)
    }

    /// Says how the command ended, and after a failure what to do.
    pub async fn report(
        &mut self,
        exit: &ExecExit,
        stays: bool,
        kept: bool,
        commands: &Commands<'_>,
        call: &Call,
    ) {
        self.timing.ended(exit_code(exit).0);
        let price = self.lease.facts().price;
        let cost = price.map(|price| format!(" cost={}", accrued(price, self.began.elapsed())));
        let mut lines = vec![self.timing.summary() + cost.as_deref().unwrap_or_default()];
        if !self.request.sync_only {
            lines.push(self.timing.details());
        }
        if self.timing.exit_code != 0 {
            let (no_stdout, no_stderr) = self.request.captured;
            let stderr = (!no_stderr).then_some(&self.tails.stderr);
            lines.extend(commands.digest(&self.request.again(), stays, stderr));
            if stays && kept {
                lines.extend(self.kept(commands).await);
            }
            if !no_stdout {
                lines.extend(self.tails.stdout.report("stdout"));
            }
            lines.extend(stderr.map(|tail| tail.report("stderr")).unwrap_or_default());
        }
        call.event(Event::RunReport { lines });
    }

    async fn kept(&self, commands: &Commands<'_>) -> Vec<String> {
        let facts = self.lease.facts();
        let claim = self.lease.engine().store().claim(&facts.id).await.ok().flatten();
        let label = |read: &dyn Fn(&Claim) -> Option<String>| {
            claim.as_ref().and_then(read).unwrap_or_else(|| "-".to_owned())
        };
        commands.keep_on_failure(
            facts.id.as_str(),
            &label(&|claim| labels::expires_at(&claim.labels).map(moment)),
            &label(&|claim| labels::idle_timeout(&claim.labels).map(go_duration)),
            &label(&|claim| labels::ttl(&claim.labels).map(go_duration)),
            &self.lease.ssh_command().line(),
        )
    }

    /// Leaves the workspace to the next run. What cannot be left expires by itself.
    pub async fn give_back(&self, outcome: &Result<ExecExit>, call: &Call) {
        if matches!(outcome, Err(error) if LOSSES.contains(&error.code())) {
            return;
        }
        let released = async {
            loop {
                let released = self.owner.release(self.lease, call).await;
                // A command that was told to end may still be at it.
                if released.is_ok() || outcome.is_ok() {
                    break released;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        match tokio::time::timeout(ENDING, released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => call.warn(format!("workspace owner release failed: {error}")),
            Err(_) => call.warn(format!(
                "workspace owner release failed: no good answer within {} s; it is free again when what runs there has ended",
                ENDING.as_secs()
            )),
        }
    }

    /// What was measured.
    pub fn into_measures(self) -> (TimingReport, Option<SyncReport>) {
        (self.timing, self.synced)
    }

    fn files(&self) -> Files<'_> {
        Files {
            remote: Remote::owned(self.lease, self.owner),
            local: self.lease.engine(),
            workdir: &self.timing.workdir,
        }
    }
}

/// Names that crabbox takes for secrets.
fn is_secret_shaped(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASS", "CREDENTIAL", "AUTH"]
        .iter()
        .any(|word| name.contains(word))
}

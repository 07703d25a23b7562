//! The steps of one run on its lease: workspace, script, command, downloads, and the words about them.

use super::cost::run_cost;
use super::remote::Remote;
use super::run::{RunRequest, exit_code, seconds};
use super::run_artifacts::{Archive, Glob, missing, shown};
use super::run_bundle::{Bundle, Streams};
use super::run_files::{Files, Form};
use super::run_report::{Commands, Tails, TimingPhase, TimingReport, millis};
use super::workspace::{Input, Owner};
use super::{Call, Event, ExecRequest, Lease, Phase, SyncReport};
use crate::config::Environment;
use crate::lease::{Claim, RunId, go_duration, labels, moment};
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
    profile: &'a Environment,
    began: Instant,
    tails: Tails,
    streams: Streams,
    ended: Option<ExecExit>,
    measures: Measures,
}

/// What was measured, and what came back.
pub(super) struct Measures {
    pub timing: TimingReport,
    pub sync: Option<SyncReport>,
    pub artifacts: Option<Archive>,
    pub failure_bundle: Option<String>,
}

impl<'a> Job<'a> {
    pub fn new(
        lease: &'a Lease,
        owner: &'a Owner,
        request: &'a RunRequest,
        run: &'a RunId,
        profile: &'a Environment,
        began: Instant,
        timing: TimingReport,
    ) -> Self {
        let measures = Measures { timing, sync: None, artifacts: None, failure_bundle: None };
        let (tails, streams) = (Tails::default(), Streams::default());
        Self { lease, owner, request, run, profile, began, tails, streams, ended: None, measures }
    }

    /// Everything up to the command's end, and what is brought back after it.
    ///
    /// # Errors
    /// As [`super::Engine::run`].
    pub async fn work(&mut self, io: ExecIo, call: &Call) -> Result<ExecExit> {
        let (lease, request) = (self.lease, self.request);
        let usable = Instant::now();
        let prepares = request.sync.is_some() || request.file.is_some();
        if prepares {
            self.owner.take(lease, call).await?;
            self.measures.timing.bootstrap_ms = millis(usable.elapsed());
        }
        if let Some(sync) = &request.sync {
            call.event(Event::Syncing {
                from: lease.engine().settings().repo_root.clone(),
                host: lease.facts().endpoint.host.clone(),
                workdir: self.measures.timing.workdir.clone(),
            });
            self.context(call);
            let remote = Remote::owned(lease, self.owner);
            let work = lease.engine().sync(&remote, &self.measures.timing.workdir, sync, call);
            let report = call.until_cancelled(self.owner.keep(lease, call, work)).await?;
            self.measures.timing.sync_ms =
                millis(Duration::try_from_secs_f64(report.seconds).unwrap_or_default());
            self.measures.timing.sync_skipped = report.skipped;
            self.measures.timing.sync_phases = report.steps.iter().map(TimingPhase::from).collect();
            self.measures.sync = Some(report);
        } else if prepares {
            self.context(call);
        }
        if request.sync_only {
            self.measure(usable);
            self.ended = Some(ExecExit::Code(0));
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
        self.ended = Some(exit.clone());
        if exit == ExecExit::Code(0) {
            self.measures.artifacts = self.artifacts(call).await?;
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
        let exec = ExecRequest { script, env, folder: Some(self.measures.timing.workdir.clone()) };
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
                workdir: this.measures.timing.workdir.clone(),
                command: request.shown(),
            });
        };
        let mut tails = Tails::default();
        let mut streams = request.capture_on_fail.then(Streams::default);
        let (give, mut take) = mpsc::channel(16);
        let input = Input { first: prepared.input, then: io.stdin };
        let running = self.owner.stream(lease, &prepared.line, input, give, begun, call);
        // Dropped with the last piece, which tells the reader that the output is whole.
        let output = io.output;
        let tee = async move {
            while let Some(piece) = take.recv().await {
                tails.take(&piece);
                if let Some(streams) = &mut streams {
                    streams.take(&piece);
                }
                // A receiver that went away discards output, as a closed pipe does.
                let _ = output.send(piece).await;
            }
            (tails, streams)
        };
        let (exit, (tails, streams)) = tokio::join!(running, tee);
        self.tails = tails;
        self.streams = streams.unwrap_or_default();
        if shows_context {
            self.measures.timing.bootstrap_ms = millis(commanded.duration_since(usable));
        }
        self.measures.timing.command_ms = millis(commanded.elapsed());
        self.measures.timing.command_phases =
            vec![TimingPhase { name: "user-command".to_owned(), ms: self.measures.timing.command_ms }];
        call.event(Event::CommandEnded {
            seconds: seconds(self.measures.timing.command_ms),
            total: usable.elapsed().as_secs_f64(),
        });
        exit
    }

    /// Brings back what the command was to leave.
    async fn artifacts(&self, call: &Call) -> Result<Option<Archive>> {
        let required: Vec<&Glob> = self.request.required_artifacts.iter().collect();
        let globs: Vec<&Glob> = required.iter().copied().chain(&self.request.artifacts).collect();
        if globs.is_empty() {
            return Ok(None);
        }
        let files = self.files();
        let names = files.find(&globs, call).await?;
        let found = names.iter().map(|name| shown(name));
        let found: Vec<String> = found.collect();
        let nothing = |glob: &&Glob| !found.iter().any(|name| glob.matches(name));
        let missed: Vec<&Glob> = required.into_iter().filter(nothing).collect();
        if !missed.is_empty() {
            return Err(missing(&missed));
        }
        if names.is_empty() {
            call.warn("the command left no file for the artifacts that were asked for");
            return Ok(None);
        }
        let run = self.run.as_str();
        let path = format!(".crabbox/runs/{run}/{run}-artifacts.tgz");
        let target = self.lease.engine().settings().cwd.join(&path);
        let bytes = files.collect(&names, target, Form::Gzip, call).await?;
        let remote = format!("{} artifacts", names.len());
        call.event(Event::Downloaded { remote, local: path.clone(), bytes });
        Ok(Some(Archive { path, bytes, files: found }))
    }

    /// Writes the archive about a failure; the line about it. That it cannot be written changes nothing else.
    async fn bundle(&mut self, summary: &[String], call: &Call) -> Option<String> {
        let request = self.request;
        let bundle = Bundle {
            run: self.run,
            streams: &self.streams,
            timing: &self.measures.timing,
            summary,
            globs: request.artifacts.iter().chain(&request.required_artifacts).collect(),
        };
        match bundle.write(&self.files(), self.lease.engine(), call).await {
            Ok((path, bytes)) => {
                let line = format!(
                    "failure-bundle local={path} bytes={bytes} secret_risk=caller-redacts-before-sharing"
                );
                self.measures.failure_bundle = Some(path);
                Some(line)
            }
            Err(error) => {
                call.warn(format!("the failure bundle could not be written: {error}"));
                None
            }
        }
    }

    fn measure(&mut self, usable: Instant) {
        self.measures.timing.total_ms = millis(usable.elapsed());
        self.measures.timing.end_to_end_ms = millis(self.began.elapsed());
    }

    fn context(&self, call: &Call) {
        call.event(Event::RunContext {
            run: self.run.clone(),
            lease: Box::new(self.lease.facts().clone()),
            workdir: self.measures.timing.workdir.clone(),
        });
    }

    /// The command's variables, and what to say about those that come from here.
    fn environment(&self) -> (BTreeMap<String, String>, Option<Event>) {
        let settings = self.lease.engine().settings();
        let allowed: Vec<&String> = settings.env_allow.iter().chain(&self.request.allow_env).collect();
        let mut local = settings.environment.allowed(allowed.iter().copied());
        local.extend(self.profile.allowed(allowed.iter().copied()));
        let asked = !self.request.allow_env.is_empty()
            || !self.request.env_profiles.is_empty()
            || settings.environment.is_set("CRABBOX_ENV_ALLOW");
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

    /// How the command ended, if it did.
    pub fn ended(&self) -> Option<ExecExit> {
        self.ended.clone()
    }

    /// Says how the command ended, and after a failure what to do. What happened after a good end is the failure of the
    /// run, not of the command.
    pub async fn report(
        &mut self,
        exit: &ExecExit,
        failure: Option<Code>,
        stays: bool,
        kept: bool,
        commands: &Commands<'_>,
        call: &Call,
    ) {
        self.measures.timing.ended(exit_code(exit).0);
        if let Some(failure) = failure {
            self.measures.timing.failed(failure);
        }
        let cost = run_cost(self.lease.facts(), self.began.elapsed()).map(|cost| format!(" cost={cost}"));
        let mut lines = vec![self.measures.timing.summary() + cost.as_deref().unwrap_or_default()];
        if !self.request.sync_only {
            lines.push(self.measures.timing.details());
        }
        if self.measures.timing.exit_code != 0 {
            let (no_stdout, no_stderr) = self.request.captured;
            let stderr = (!no_stderr).then_some(&self.tails.stderr);
            lines.extend(commands.digest(&self.request.again(), stays, stderr));
            if self.request.capture_on_fail {
                lines.extend(self.bundle(&lines, call).await);
            }
            let stderr = (!no_stderr).then_some(&self.tails.stderr);
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

    /// What was measured, and what came back.
    pub fn into_measures(self) -> Measures {
        self.measures
    }

    fn files(&self) -> Files<'_> {
        Files {
            remote: Remote::owned(self.lease, self.owner),
            local: self.lease.engine(),
            workdir: &self.measures.timing.workdir,
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

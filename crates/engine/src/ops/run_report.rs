//! What a run tells about itself, in crabbox's words: the timing report, the summary lines, and after a failure the digest
//! with what to do next.

use super::SyncStep;
use super::lease::Facts;
use crate::Code;
use crate::lease::go_duration;
use crate::ssh::command::shown_word as word;
use crate::world::Output;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;

/// The lines that are kept of each stream, and the bytes of a line.
const TAIL_LINES: usize = 40;
const TAIL_LINE: usize = 4096;
/// The lines that the digest repeats.
const DIGEST_LINES: usize = 10;

/// Where the time went: crabbox's timing document, member by member.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TimingReport {
    /// Always `vast`.
    pub provider: &'static str,
    /// Lease id.
    pub lease_id: String,
    /// Slug.
    pub slug: String,
    /// Until the lease was usable, ms.
    #[serde(skip_serializing_if = "is_zero")]
    pub lease_ms: u64,
    /// Until its workspace was ours, ms.
    #[serde(skip_serializing_if = "is_zero")]
    pub bootstrap_ms: u64,
    /// The sync, ms.
    pub sync_ms: u64,
    /// Its parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sync_phases: Vec<TimingPhase>,
    /// Nothing had to be brought over, or nothing was to be.
    pub sync_skipped: bool,
    /// The command, ms.
    pub command_ms: u64,
    /// Its parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command_phases: Vec<TimingPhase>,
    /// All but the lease, ms; of a warmup all.
    pub total_ms: u64,
    /// All, ms; 0 of a warmup.
    pub end_to_end_ms: u64,
    /// The command's exit code.
    pub exit_code: u8,
    /// `succeeded` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_status: Option<&'static str>,
    /// `command-exit` for a command that failed; the error's code where its results could not be brought back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<&'static str>,
    /// Run id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// The label that the caller gave the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// GPU name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub machine_type: String,
    /// The local repository.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub repo_path: String,
    /// Folder on the instance.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub workdir: String,
    /// The command that gives the lease back.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_command: String,
    /// `30m0s`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub idle_timeout: String,
    /// What held a failed run up, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_stage: Option<&'static str>,
    /// Whether another try may help, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_likely: Option<&'static str>,
    /// Whether the lease was released; absent when it was to be left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_stopped: Option<bool>,
    /// Why the release failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_stop_error: Option<String>,
}

/// One part of a step.
#[derive(Debug, Clone, Serialize)]
pub struct TimingPhase {
    /// Its name.
    pub name: String,
    /// How long it took, ms.
    #[serde(skip_serializing_if = "is_zero")]
    pub ms: u64,
}

impl From<&SyncStep> for TimingPhase {
    fn from(step: &SyncStep) -> Self {
        let took = Duration::try_from_secs_f64(step.seconds).unwrap_or_default();
        Self { name: step.name.to_owned(), ms: millis(took) }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(ms: &u64) -> bool {
    *ms == 0
}

/// Whole milliseconds, rounded.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from((duration.as_micros() + 500) / 1000).unwrap_or(u64::MAX)
}

fn shown(ms: u64) -> String {
    go_duration(Duration::from_millis(ms))
}

impl TimingReport {
    /// Of a warmup that took `total`: fewer members than a run's.
    #[must_use]
    pub fn of_warmup(facts: &Facts, total: Duration) -> Self {
        Self { total_ms: millis(total), run_status: Some("succeeded"), ..Self::empty(facts) }
    }

    /// Of a run whose lease was usable after `lease`, before anything was done with it.
    pub(super) fn of_run(facts: &Facts, lease: Duration, repo_path: &str, stop_command: String) -> Self {
        Self {
            lease_ms: millis(lease),
            sync_skipped: true,
            end_to_end_ms: millis(lease),
            machine_type: facts.gpu.clone(),
            repo_path: repo_path.to_owned(),
            stop_command,
            idle_timeout: go_duration(Duration::from_secs(facts.idle_timeout_secs)),
            ..Self::empty(facts)
        }
    }

    fn empty(facts: &Facts) -> Self {
        Self {
            provider: "vast",
            lease_id: facts.id.to_string(),
            slug: facts.slug.clone(),
            lease_ms: 0,
            bootstrap_ms: 0,
            sync_ms: 0,
            sync_phases: Vec::new(),
            sync_skipped: false,
            command_ms: 0,
            command_phases: Vec::new(),
            total_ms: 0,
            end_to_end_ms: 0,
            exit_code: 0,
            run_status: None,
            error_kind: None,
            run_id: None,
            label: None,
            machine_type: String::new(),
            repo_path: String::new(),
            workdir: String::new(),
            stop_command: String::new(),
            idle_timeout: String::new(),
            blocked_stage: None,
            retry_likely: None,
            lease_stopped: None,
            lease_stop_error: None,
        }
    }

    /// Takes the command's end into the report.
    pub(super) fn ended(&mut self, exit: u8) {
        self.exit_code = exit;
        self.run_status = Some(if exit == 0 { "succeeded" } else { "failed" });
        if exit != 0 {
            self.error_kind = Some("command-exit");
            self.blocked_stage = Some("unknown");
            self.retry_likely = Some("unknown");
        }
    }

    /// The command ended well, the run did not.
    pub(super) fn failed(&mut self, failure: Code) {
        self.run_status = Some("failed");
        self.error_kind = Some(failure.as_str());
    }

    /// `run summary …`
    #[must_use]
    pub fn summary(&self) -> String {
        let mut line = format!(
            "run summary lease={} bootstrap={} sync={} command={} total={} end_to_end={} sync_skipped={} exit={}",
            shown(self.lease_ms),
            shown(self.bootstrap_ms),
            shown(self.sync_ms),
            shown(self.command_ms),
            shown(self.total_ms),
            shown(self.end_to_end_ms),
            self.sync_skipped,
            self.exit_code
        );
        for (name, phases) in [("sync_steps", &self.sync_phases), ("command_phases", &self.command_phases)] {
            if !phases.is_empty() {
                let parts = phases.iter().map(|phase| format!("{}:{}", phase.name, shown(phase.ms)));
                line.push_str(&format!(" {name}={}", parts.collect::<Vec<_>>().join(",")));
            }
        }
        if let (Some(stage), Some(retry)) = (self.blocked_stage, self.retry_likely) {
            line.push_str(&format!(" blocked_stage={stage} retry_likely={retry}"));
        }
        line
    }

    /// `run details …`
    #[must_use]
    pub fn details(&self) -> String {
        format!(
            "run details provider={} lease={} slug={} run={} type={} repo={} workdir={} actions=- \
             stop_command=\"{}\" idle_timeout={}",
            self.provider,
            self.lease_id,
            self.slug,
            self.run_id.as_deref().unwrap_or("-"),
            self.machine_type,
            self.repo_path,
            self.workdir,
            self.stop_command,
            self.idle_timeout
        )
    }
}

/// What a command line of ours says to run the same command again.
pub(super) struct Again {
    /// The working tree is brought over first.
    pub syncs: bool,
    /// The flags that say what the words are, with a space before each.
    pub how: String,
    /// ` -- ` and the words, where there are any.
    pub command: String,
}

/// How a run names commands of ours to the user.
pub(super) struct Commands<'a> {
    /// The API address that the lease belongs to.
    pub api_url: &'a str,
    /// The lease's slug.
    pub slug: &'a str,
    /// A release action that somebody chose.
    pub action: Option<&'static str>,
    /// What was said with flags on what is rented and for how much.
    pub limits: &'a [(&'static str, String)],
    /// What every one of them carries at its end, such as ` --sim`.
    pub suffix: &'a str,
}

impl Commands<'_> {
    fn of(&self, verb: &str) -> String {
        format!("crabbox-vast {verb} --provider vast --target linux --vast-api-url {}", word(self.api_url))
    }

    /// The one that gives the lease back.
    pub fn stop(&self) -> String {
        let action = self.action.map(|action| format!(" --vast-release-action {action}")).unwrap_or_default();
        format!("{}{action} --id {}{}", self.of("stop"), word(self.slug), self.suffix)
    }

    /// The one that destroys a lease whatever its release action is.
    pub fn destroy(&self) -> String {
        format!("crabbox-vast stop --vast-release-action destroy {}{}", word(self.slug), self.suffix)
    }

    fn ssh(&self) -> String {
        format!("{} --id {}{}", self.of("ssh"), word(self.slug), self.suffix)
    }

    fn again(&self, Again { syncs, how, command }: &Again) -> String {
        let sync = if *syncs { "--fresh-sync" } else { "--no-sync" };
        format!("{} --id {} {sync}{how}{}{command}", self.of("run"), word(self.slug), self.suffix)
    }

    fn kept(&self, Again { syncs, how, command }: &Again) -> String {
        let sync = if *syncs { "" } else { " --no-sync" };
        // Another machine is rented: what limits this one limits that.
        let limits = self.limits.iter().map(|(flag, text)| format!(" --{flag} {}", word(text)));
        let limits: String = limits.collect();
        format!("{} --keep-on-failure{limits}{sync}{how}{}{command}", self.of("run"), self.suffix)
    }

    /// What the lines after a kept failure say: where to look, and how to end it.
    pub fn keep_on_failure(
        &self,
        lease: &str,
        expires: &str,
        idle: &str,
        ttl: &str,
        ssh: &str,
    ) -> Vec<String> {
        let (slug, suffix) = (word(self.slug), self.suffix);
        vec![
            format!(
                "keep-on-failure: kept lease={lease} slug={slug} expires={expires} idle_timeout={idle} ttl={ttl}"
            ),
            format!("inspect: crabbox-vast inspect --provider vast --id {slug}{suffix}"),
            format!("ssh: crabbox-vast ssh --provider vast --id {slug}{suffix}"),
            format!("ssh-direct: {ssh}"),
            format!("stop: crabbox-vast stop --provider vast {slug}{suffix}"),
        ]
    }

    /// The digest of a failed command. Of a lease that is about to be given back it says how to keep the next one.
    pub fn digest(&self, again: &Again, stays: bool, stderr: Option<&Tail>) -> Vec<String> {
        let mut lines: Vec<String> = [
            "failure digest",
            "  phase: user-command",
            "  area: user_command",
            "  retryable: unknown",
            "  run_history: unavailable; use lease-based recovery commands below",
            "  failed_phase: user-command",
            "  observed_phases: user-command",
        ]
        .map(String::from)
        .to_vec();
        let next =
            if stays { vec![self.ssh(), self.again(again), self.stop()] } else { vec![self.kept(again)] };
        lines.extend(next.into_iter().map(|command| format!("  next: {command}")));
        let last = stderr.map(|tail| tail.last(DIGEST_LINES)).unwrap_or_default();
        if !last.is_empty() {
            lines.push("  tail stderr:".to_owned());
            lines.extend(last.iter().map(|line| format!("    {line}")));
        }
        lines
    }
}

/// The last lines of both streams.
#[derive(Default)]
pub(super) struct Tails {
    pub stdout: Tail,
    pub stderr: Tail,
}

impl Tails {
    /// Takes a piece of output.
    pub fn take(&mut self, piece: &Output) {
        match piece {
            Output::Stdout(bytes) => self.stdout.take(bytes),
            Output::Stderr(bytes) => self.stderr.take(bytes),
        }
    }
}

/// The last lines of a stream.
#[derive(Default)]
pub(super) struct Tail {
    whole: VecDeque<Vec<u8>>,
    begun: Vec<u8>,
}

impl Tail {
    fn take(&mut self, bytes: &[u8]) {
        for (at, part) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if at > 0 {
                if self.whole.len() == TAIL_LINES {
                    self.whole.pop_front();
                }
                self.whole.push_back(std::mem::take(&mut self.begun));
            }
            let room = TAIL_LINE.saturating_sub(self.begun.len());
            self.begun.extend_from_slice(&part[..part.len().min(room)]);
        }
    }

    /// At most the last `count` lines, without what would move a terminal's cursor.
    fn last(&self, count: usize) -> Vec<String> {
        let begun = (!self.begun.is_empty()).then_some(&self.begun);
        let lines: Vec<&Vec<u8>> = self.whole.iter().chain(begun).collect();
        let plain = |line: &&Vec<u8>| {
            let text = String::from_utf8_lossy(line);
            text.chars().filter(|c| *c == '\t' || !c.is_control()).collect()
        };
        lines[lines.len().saturating_sub(count)..].iter().map(plain).collect()
    }

    /// `stderr tail last 2 lines:` and the lines.
    pub fn report(&self, stream: &str) -> Vec<String> {
        let lines = self.last(TAIL_LINES);
        if lines.is_empty() {
            return vec![format!("{stream} tail: empty")];
        }
        let mut report = vec![format!("{stream} tail last {} lines:", lines.len())];
        report.extend(lines);
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{RunRequest, ScriptFile, SyncRequest};
    use crate::ssh::command::Script;

    #[test]
    fn tails_hold_the_last_lines_whatever_the_pieces() {
        let mut tail = Tail::default();
        assert_eq!(tail.report("stdout"), ["stdout tail: empty"]);
        let text: String = (1..=50).map(|line| format!("line {line}\n")).collect();
        text.as_bytes().chunks(7).for_each(|piece| tail.take(piece));
        tail.take(b"\x1b[31mhalf\r");
        let report = tail.report("stdout");
        assert_eq!(report.len(), 41);
        assert_eq!((report[0].as_str(), report[1].as_str()), ("stdout tail last 40 lines:", "line 12"));
        assert_eq!(report[40], "[31mhalf");
        let mut long = Tail::default();
        long.take(&vec![b'x'; 100_000]);
        assert_eq!(long.last(1)[0].len(), TAIL_LINE);
    }

    #[test]
    fn commands_are_crabboxs_with_our_name() {
        let mut commands =
            Commands { api_url: "http://h/api/v0", slug: "kof", action: None, limits: &[], suffix: "" };
        assert_eq!(
            commands.stop(),
            "crabbox-vast stop --provider vast --target linux --vast-api-url http://h/api/v0 --id kof"
        );
        commands.action = Some("stop");
        assert!(commands.stop().ends_with(" --vast-release-action stop --id kof"));
        let mut tails = Tails::default();
        tails.take(&Output::Stderr("err\n".into()));
        let again = |words: Script| RunRequest::new(words).again();
        let argv = Script::Argv(["sh", "-c", "exit 3"].map(String::from).to_vec());
        let mut request = RunRequest::new(argv);
        request.sync = Some(SyncRequest::default());
        let digest = commands.digest(&request.again(), true, Some(&tails.stderr));
        assert_eq!(digest.len(), 12);
        assert!(digest[8].ends_with("--id kof --fresh-sync -- sh -c 'exit 3'"), "{}", digest[8]);
        assert_eq!(digest[10..], ["  tail stderr:", "    err"]);
        let shell = commands.digest(&again(Script::Shell("echo 'a b' | wc".into())), false, None);
        assert_eq!(shell.len(), 8);
        let end = " --keep-on-failure --no-sync --shell -- 'echo '\\''a b'\\'' | wc'";
        assert!(shell[7].ends_with(end), "{}", shell[7]);
        let limits = [("vast-max-dph-total", "0.6".to_owned()), ("vast-gpu-name", "RTX 4090".to_owned())];
        commands.limits = &limits;
        let limited = commands.digest(&again(Script::Shell("x".into())), false, None);
        let limits = " --keep-on-failure --vast-max-dph-total 0.6 --vast-gpu-name 'RTX 4090' --no-sync";
        assert!(limited[7].contains(limits), "{}", limited[7]);
        for (path, words, end) in [
            (Some("my jobs/it.sh"), vec![], " --fresh-sync --script 'my jobs/it.sh'"),
            (None, vec!["a b".to_owned()], " --fresh-sync --script-stdin -- 'a b'"),
        ] {
            let path = path.map(Into::into);
            request.file = Some(ScriptFile { name: "it.sh".to_owned(), path, content: Vec::new() });
            request.script = Script::Argv(words);
            let digest = commands.digest(&request.again(), true, None);
            assert!(digest[8].ends_with(end), "{}", digest[8]);
        }
    }
}

//! Shows what happens: a spinner for people, lines for logs, nothing under `--json` and `--quiet`.

use crate::printer::Printer;
use crabbox_vast_engine::Event;
use crabbox_vast_engine::lease::go_duration;
use crabbox_vast_engine::ops::Phase;
use crabbox_vast_engine::sync::guard::human_bytes;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How long nothing is shown.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a log is told what is waited for.
const REMINDER: Duration = Duration::from_secs(15);

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Spinner,
    Lines,
    Silent,
}

/// The lease in the works, for whoever interrupts.
#[derive(Debug, Clone)]
pub struct InWork {
    /// Slug or id.
    pub name: String,
}

struct State {
    /// What to show, should nothing else have been shown by then.
    waiting: Option<String>,
    quiet: bool,
    spinner: Option<ProgressBar>,
    under_way: Option<UnderWay>,
    lease: Option<InWork>,
    output: RemoteOutput,
}

/// What a log is reminded of until something else begins.
struct UnderWay {
    what: What,
    since: Instant,
    reminders: AbortHandle,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.reminders.abort();
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Phase(Phase, String),
    Sync,
    Transfer(String),
}

impl What {
    /// As crabbox says it, as far as it does.
    fn line(&self, since: Duration) -> String {
        let since = go_duration(Duration::from_secs(since.as_secs()));
        match self {
            What::Sync => format!("still syncing after {since}..."),
            What::Phase(_, message) => format!("{message}... elapsed={since}"),
            What::Transfer(message) => format!("transferred {message} elapsed={since}"),
        }
    }

    /// Whether this tells more of the same.
    fn goes_on(&self, other: &What) -> bool {
        match (self, other) {
            (What::Phase(one, _), What::Phase(other, _)) => one == other,
            (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
        }
    }
}

/// The command's output is written by another task. What is said after the command must not overtake it.
#[derive(Default)]
struct RemoteOutput {
    open: bool,
    behind: Vec<Event>,
}

/// Listens to the events of one command. Clones share their state.
#[derive(Clone)]
pub struct Progress {
    printer: Printer,
    mode: Mode,
    state: Arc<Mutex<State>>,
}

impl Progress {
    /// Progress for a command; `silent` leaves only warnings.
    pub fn new(printer: &Printer, silent: bool) -> Self {
        let mode = match (silent, printer.is_watched()) {
            (true, _) => Mode::Silent,
            (false, true) => Mode::Spinner,
            (false, false) => Mode::Lines,
        };
        let state = State {
            waiting: None,
            quiet: false,
            spinner: None,
            under_way: None,
            lease: None,
            output: RemoteOutput::default(),
        };
        Self { printer: printer.clone(), mode, state: Arc::new(Mutex::new(state)) }
    }

    /// The lease that is being rented or given back.
    pub fn in_work(&self) -> Option<InWork> {
        self.state().lease.clone()
    }

    /// Shows a spinner once a second has passed in which nothing was shown.
    pub fn waiting(&self, what: &str) {
        if self.mode != Mode::Spinner {
            return;
        }
        self.state().waiting = Some(what.to_owned());
        let progress = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            let mut state = progress.state();
            if let Some(what) = state.waiting.take() {
                state.spinner.get_or_insert_with(spinner).set_message(what);
            }
        });
    }

    /// Takes the spinner off the screen: something else is going to be written.
    pub fn pause(&self) {
        let mut state = self.state();
        state.waiting = None;
        state.under_way = None;
        if let Some(spinner) = state.spinner.take() {
            spinner.finish_and_clear();
        }
    }

    /// Tells a log every 15 s what is waited for, until something else was told.
    fn remind(&self, what: What) {
        if self.mode() != Mode::Lines {
            return;
        }
        let mut state = self.state();
        match &mut state.under_way {
            Some(under_way) => {
                if !under_way.what.goes_on(&what) {
                    under_way.since = Instant::now();
                }
                under_way.what = what;
            }
            none => {
                let progress = self.clone();
                let reminders = tokio::spawn(async move { progress.reminders().await }).abort_handle();
                *none = Some(UnderWay { what, since: Instant::now(), reminders });
            }
        }
    }

    async fn reminders(&self) {
        loop {
            tokio::time::sleep(REMINDER).await;
            let line = self.state().under_way.as_ref().map(|it| it.what.line(it.since.elapsed()));
            let Some(line) = line else { return };
            self.say(&line);
        }
    }

    /// No spinner and no lines from here on: something else owns the screen. Warnings stay.
    pub fn quieten(&self) {
        self.pause();
        self.state().quiet = true;
    }

    /// A line that stays, unless nothing is to be shown.
    pub fn say(&self, text: &str) {
        if self.mode() != Mode::Silent {
            self.write(text);
        }
    }

    /// Remote output is going to be written until [`Progress::output_ended`].
    pub fn output_begins(&self) {
        self.state().output.open = true;
    }

    /// All remote output is written: what waited behind it follows.
    pub fn output_ended(&self) {
        let behind = {
            let mut state = self.state();
            state.output.open = false;
            std::mem::take(&mut state.output.behind)
        };
        behind.iter().for_each(|event| self.display(event));
    }

    /// Shows one event, in its turn.
    pub fn show(&self, event: Event) {
        {
            let mut state = self.state();
            let output = &mut state.output;
            let behind = matches!(event, Event::CommandEnded { .. }) || !output.behind.is_empty();
            if output.open && behind {
                output.behind.push(event);
                return;
            }
        }
        self.display(&event);
    }

    fn display(&self, event: &Event) {
        let goes_on = matches!(
            event,
            Event::Phase { .. }
                | Event::Transfer { .. }
                | Event::Warning { .. }
                | Event::Syncing { .. }
                | Event::SyncCandidate { .. }
        );
        if !goes_on {
            self.state().under_way = None;
        }
        match event {
            Event::Phase { phase, message } => self.phase(*phase, message),
            Event::Provisioning { lease, slug, offer, gpu, count, price, max_dph, keep } => {
                self.state().lease = Some(InWork { name: slug.as_str().to_owned() });
                self.say(&format!(
                    "provisioning provider=vast lease={lease} slug={} offer={offer} gpu={gpu} count={count} \
                     max_dph={max_dph:.4} keep={keep} dph={price:.4}",
                    slug.as_str()
                ));
            }
            Event::OfferGone { offer, message } => {
                self.say(&format!("offer {offer} is gone ({message}); trying the next"))
            }
            Event::Created { lease, instance } => self.say(&format!("created lease={lease} vast={instance}")),
            Event::HostKey { endpoint, fingerprint } => self.say(&format!(
                "host key of [{}]:{} trusted on first use: {fingerprint}",
                endpoint.host, endpoint.port
            )),
            Event::Provisioned { lease, instance, gpu, seconds } => self.say(&format!(
                "provisioned lease={lease} vast={instance} gpu={gpu} state=ready in={}",
                duration(*seconds)
            )),
            Event::WorkspaceAcquired { seconds, recovered } => {
                self.say(&format!(
                    "workspace owner acquired wait={} recovered={recovered}",
                    duration(*seconds)
                ));
            }
            Event::WorkspaceBusy { seconds, state } => self.say(&format!(
                "waiting for reusable workspace owner elapsed={} state={state}",
                duration(seconds.round())
            )),
            Event::WorkspaceReleased => self.say("workspace owner released"),
            Event::RunContext { run, lease, workdir } => {
                self.pause();
                self.say(&format!(
                    "run context:\n  run={} portal=- logs=-\n  lease={} slug={} provider=vast target=linux type={}\n  \
                     ssh={}@{}:{} ip={}\n  workdir={workdir} workspace=raw actions=-",
                    run.as_str(),
                    lease.id,
                    lease.slug,
                    lease.gpu,
                    lease.user,
                    lease.endpoint.host,
                    lease.endpoint.port,
                    lease.endpoint.host
                ));
            }
            Event::Syncing { from, host, workdir } => {
                self.say(&format!("syncing {from} -> {host}:{workdir}"));
                self.remind(What::Sync);
            }
            Event::SyncCandidate { files, bytes, changed_files, changed_bytes } => {
                let mut line = format!("sync candidate: {files} files, {}", human_bytes(*bytes));
                if *changed_files > 0 {
                    line.push_str(&format!(
                        " dirty_delta={changed_files} files, {}",
                        human_bytes(*changed_bytes)
                    ));
                }
                self.say(&line);
            }
            Event::SyncSkipped { seconds } => {
                self.say(&format!("No changes detected, skipping sync ({})", duration(*seconds)));
            }
            Event::SyncComplete { seconds, .. } => {
                self.pause();
                self.say(&format!("sync complete in {}", duration(*seconds)));
            }
            Event::EnvForwarded { line, .. } => self.say(line),
            Event::ScriptUploaded { path, bytes } => {
                self.say(&format!("uploaded script {path} bytes={bytes}"))
            }
            Event::Downloaded { remote, local, bytes } => {
                self.say(&format!("downloaded {remote} -> {local} bytes={bytes}"));
            }
            Event::Running { lease, command, .. } => {
                self.pause();
                self.say(&format!("running on {} {command}", lease.endpoint.host));
            }
            Event::RunReport { lines } => lines.iter().for_each(|line| self.say(line)),
            Event::CommandEnded { seconds, total } => {
                self.say(&format!("command complete in {} total={}", duration(*seconds), duration(*total)));
            }
            Event::Transfer { files, total_files, bytes, total_bytes } => {
                self.moved(*files, *total_files, *bytes, *total_bytes);
            }
            Event::Releasing { lease, instance } => {
                self.state().lease = Some(InWork { name: lease.to_string() });
                self.say(&format!("releasing {lease} server={instance}"));
            }
            Event::Outbid { lease, instance } => self
                .say(&format!("outbid lease={lease} server={instance}: somebody bid more for its machine")),
            Event::Warning { message } => self.write(&format!("warning: {message}")),
            _ => {}
        }
    }

    fn phase(&self, phase: Phase, message: &str) {
        if phase == Phase::Run {
            // The command writes to the terminal from here on.
            self.pause();
            return;
        }
        match self.mode() {
            Mode::Spinner => {
                let mut state = self.state();
                state.waiting = None;
                let spinner = state.spinner.get_or_insert_with(spinner);
                spinner.set_message(format!("{}: {message}", phase.as_str()));
            }
            // Each step is for people: a log keeps the lines that say what was done, and what takes long.
            Mode::Lines => self.remind(What::Phase(phase, message.to_owned())),
            Mode::Silent => {}
        }
    }

    /// How far a transfer is. A total of 0 is not known.
    fn moved(&self, files: u64, total_files: u64, bytes: u64, total_bytes: u64) {
        let of = |total: u64, text: String| if total > 0 { format!("/{text}") } else { String::new() };
        let message = format!(
            "{files}{} files, {}{}",
            of(total_files, total_files.to_string()),
            human_bytes(bytes),
            of(total_bytes, human_bytes(total_bytes))
        );
        match self.mode() {
            Mode::Spinner => self.state().spinner.get_or_insert_with(spinner).set_message(message),
            Mode::Lines => {
                let sync = self.state().under_way.as_ref().is_some_and(|it| it.what == What::Sync);
                if !sync {
                    self.remind(What::Transfer(message));
                }
            }
            Mode::Silent => {}
        }
    }

    fn write(&self, text: &str) {
        let spinner = self.state().spinner.clone();
        match spinner {
            Some(spinner) => spinner.suspend(|| self.printer.note(text)),
            None => self.printer.note(text),
        }
    }

    fn mode(&self) -> Mode {
        if self.state().quiet { Mode::Silent } else { self.mode }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spinner() -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// Seconds as crabbox prints durations.
pub fn duration(seconds: f64) -> String {
    go_duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(message: &str) -> Event {
        Event::Phase { phase: Phase::Boot, message: message.to_owned() }
    }

    #[test]
    fn a_log_is_reminded_in_crabboxs_words() {
        let since = Duration::from_millis(75_004);
        assert_eq!(What::Sync.line(since), "still syncing after 1m15s...");
        let connect = What::Phase(Phase::Connect, "waiting for SSH at one:22".to_owned());
        assert_eq!(connect.line(since), "waiting for SSH at one:22... elapsed=1m15s");
        assert_eq!(What::Transfer("1/2 files".to_owned()).line(since), "transferred 1/2 files elapsed=1m15s");
    }

    #[tokio::test(start_paused = true)]
    async fn reminders_end_with_what_they_are_about() {
        let mut progress = Progress::new(&Printer::new(), false);
        progress.mode = Mode::Lines;
        let told = || {
            let state = progress.state();
            state.under_way.as_ref().map(|it| it.what.line(it.since.elapsed()))
        };
        progress.show(boot("one"));
        tokio::time::sleep(Duration::from_secs(20)).await;
        progress.show(boot("two"));
        assert_eq!(told().as_deref(), Some("two... elapsed=20s"), "it is the same wait");
        let reminders = progress.state().under_way.as_ref().map(|it| it.reminders.clone()).unwrap();
        assert!(!reminders.is_finished());
        progress.show(Event::Warning { message: "on the way".to_owned() });
        progress.show(Event::Syncing {
            from: "here".to_owned(),
            host: "there".to_owned(),
            workdir: "/work".to_owned(),
        });
        progress.show(Event::Transfer { files: 1, total_files: 2, bytes: 3, total_bytes: 4 });
        assert_eq!(told().as_deref(), Some("still syncing after 0s..."));
        assert!(!reminders.is_finished());
        progress.show(Event::SyncSkipped { seconds: 1.0 });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(told().is_none() && reminders.is_finished());
        progress.quieten();
        progress.show(boot("three"));
        assert!(told().is_none());
    }
}

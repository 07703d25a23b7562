//! `run`: one command on a leased machine.

use crate::printer::Printer;
use crate::progress::Progress;
use crate::session::Session;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::ops::{
    AcquireRequest, ReleaseOutcome, RunRequest, RunResult, ScriptFile, SyncRequest,
};
use crabbox_vast_engine::ssh::command::Script;
use crabbox_vast_engine::world::{ExecIo, Output, StdinChunk};
use crabbox_vast_engine::{Call, Code, Error, Event, Result};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
struct Options {
    /// Use this lease instead of renting one: lease id, slug or instance id
    #[arg(long, value_name = "LEASE")]
    id: Option<String>,
    /// Name of the rented lease; a taken one gets a suffix
    #[arg(long, conflicts_with = "id")]
    slug: Option<String>,
    /// Leave the rented lease running
    #[arg(long)]
    keep: bool,
    /// Leave the rented lease running when the command fails
    #[arg(long)]
    keep_on_failure: bool,
    /// When to release, whoever rented it: never, always, success or failure
    #[arg(long, value_name = "WHEN")]
    stop_after: Option<String>,
    /// Do not bring the working tree over
    #[arg(long)]
    no_sync: bool,
    /// Bring the working tree over and end
    #[arg(long)]
    sync_only: bool,
    /// Compare contents, not sizes and times
    #[arg(long)]
    checksum: bool,
    /// Bring everything over again
    #[arg(long, visible_alias = "fresh-sync")]
    full_resync: bool,
    /// Refuse no tree for its size
    #[arg(long)]
    force_sync_large: bool,
    /// Run the words as a shell command line
    #[arg(long)]
    shell: bool,
    /// Bring this local script over and run it; the words of the command are its arguments
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// The same with a script on standard input
    #[arg(long, conflicts_with = "script")]
    script_stdin: bool,
    /// Take over a lease that another repository made
    #[arg(long)]
    reclaim: bool,
    /// Also hand this local variable over; a final `*` matches any ending
    #[arg(long, value_name = "NAME", action = clap::ArgAction::Append, value_delimiter = ',')]
    allow_env: Vec<String>,
    /// Read variables from this local file of NAME=value lines; those that are allowed are handed over
    #[arg(long, value_name = "FILE", action = clap::ArgAction::Append)]
    env_from_profile: Vec<PathBuf>,
    /// Bring the files that match back after a success, as one archive in .crabbox/runs; `**` stands for any folders
    #[arg(long, value_name = "GLOB", action = clap::ArgAction::Append)]
    artifact_glob: Vec<String>,
    /// Fail unless a command that succeeded left a file that matches; archived as well
    #[arg(long, value_name = "GLOB", action = clap::ArgAction::Append)]
    require_artifact: Vec<String>,
    /// Write an archive about a command that fails: its output, times and reports, in .crabbox/captures
    #[arg(long)]
    capture_on_fail: bool,
    /// Fetch this file after a command that succeeded; paths are below the command's folder
    #[arg(long, value_name = "REMOTE[=LOCAL]", action = clap::ArgAction::Append)]
    download: Vec<String>,
    /// Write standard output to this file in place of the terminal
    #[arg(long, value_name = "FILE")]
    capture_stdout: Option<PathBuf>,
    /// Write standard error to this file in place of the terminal
    #[arg(long, value_name = "FILE")]
    capture_stderr: Option<PathBuf>,
    /// A word for the reports
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// End standard error with the times as one JSON document
    #[arg(long)]
    timing_json: bool,
    /// Append the times as one JSON document to this file
    #[arg(long, value_name = "FILE")]
    timing_record: Option<PathBuf>,
    /// Lease id of your choice (cbx_ and 12 hex digits): repeating the command with it uses the same lease
    #[arg(long, value_name = "LEASE_ID", conflicts_with = "id")]
    lease_id: Option<String>,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<String>,
}

pub fn definition() -> Command {
    super::command::<Options>("run", true)
        .about("Rent a machine, run a command on it and give it back")
        .override_usage("crabbox-vast run [flags] -- <command...>")
        .after_help(
            "Examples:\n  crabbox-vast run --sim -- nvidia-smi\n  \
             crabbox-vast run --vast-gpu-name RTX_4090 --vast-max-dph-total 0.6 -- python3 train.py\n  \
             crabbox-vast run --id swift-krill --shell -- 'make test | tail'\n  \
             crabbox-vast run --id swift-krill --script bench.sh --download result.json -- --fast\n\n\
             Both output streams arrive as they are (under --json both on standard error), and the exit code of the\n\
             command is passed on. What this command rented it releases, also when it is interrupted. One run at a time\n\
             works on a lease; the next one waits up to two minutes.",
        )
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    let request = options.request(session)?;
    request.check(&session.snapshot.cwd).map_err(usage)?;
    let record = options.timing_record.as_deref().map(record).transpose()?;
    let begun = Arc::new(AtomicBool::new(false));
    let streams = Streams::of(session, &options, &begun)?;
    let engine = session.engine()?;
    let stdin = (!options.script_stdin).then(standard_input);
    let (output, received) = mpsc::channel(64);
    session.progress.output_begins();
    let printing = tokio::spawn(print(received, streams));
    let call = {
        let progress = session.progress.clone();
        let listen = move |event| {
            begun.fetch_or(matches!(event, Event::Running { .. }), Ordering::Relaxed);
            progress.show(event);
        };
        Call::new(listen, session.cancel.clone())
    };
    let outcome = engine.run(&request, ExecIo { stdin, output }, &call).await;
    // Everything that was received must be written before anything about the result.
    let written = printing.await;
    session.progress.pause();
    // The times of a command that ended are told even if what came after it failed.
    let timing = match &outcome {
        Ok(result) => Some(document(&result.timing)?),
        Err(error) => error.details().get("timing").cloned(),
    };
    let recorded = match (record, &timing) {
        (Some(path), Some(timing)) => append(path, timing),
        _ => Ok(()),
    };
    let result = match (outcome, timing) {
        (Ok(result), _) => result,
        (Err(error), timing) => {
            if let Some(timing) = timing.filter(|_| options.timing_json) {
                session.printer.note(&timing.to_string());
            }
            return Err(error);
        }
    };
    if let Ok(Err(error)) = written {
        return Err(unwritten("the captured output", &error));
    }
    recorded?;
    if options.sync_only && !session.json {
        session.printer.line(&format!("synced {}", result.workdir));
    }
    report(session, &result, options.timing_json)?;
    Ok(result.exit_code)
}

/// The engine's refusal in the words of a command line.
fn usage(error: Error) -> Error {
    if error.details().get("missing").is_none_or(|missing| missing != "command") {
        return error;
    }
    Error::new(Code::InvalidArgument, "usage: crabbox-vast run [flags] -- <command...>")
        .hint("for example: crabbox-vast run -- nvidia-smi")
}

fn unwritten(what: &str, error: &std::io::Error) -> Error {
    Error::new(Code::RemoteControl, format!("{what} cannot be written: {error}"))
        .hint("the command ran; see the room on the disk")
}

impl Options {
    fn request(&self, session: &Session) -> Result<RunRequest> {
        let file = match &self.script {
            _ if self.script_stdin => Some(ScriptFile {
                name: "stdin.sh".to_owned(),
                path: None,
                content: all_of_standard_input()?,
            }),
            None => None,
            Some(path) => Some(script_file(path)?),
        };
        let script = match (&file, self.shell) {
            (_, true) => Script::Shell(self.command.join(" ")),
            (Some(_), false) => Script::Argv(self.command.clone()),
            (None, false) => Script::from_words(self.command.clone()),
        };
        let mut request = RunRequest::new(script);
        request.identifier.clone_from(&self.id);
        request.acquire =
            AcquireRequest { keep: self.keep, slug: self.slug.clone(), lease_id: self.lease_id.clone() };
        request.reclaim = self.reclaim;
        request.keep_on_failure = self.keep_on_failure;
        request.stop_after = self.stop_after.as_deref().map(str::parse).transpose()?;
        request.file = file;
        request.sync_only = self.sync_only;
        request.sync = (!self.no_sync).then_some(SyncRequest {
            force_large: self.force_sync_large,
            checksum: self.checksum,
            full: self.full_resync,
        });
        request.allow_env.clone_from(&self.allow_env);
        request.downloads = self.download.iter().map(|text| text.parse()).collect::<Result<_>>()?;
        request.env_profiles.clone_from(&self.env_from_profile);
        request.artifacts = self.artifact_glob.iter().map(|text| text.parse()).collect::<Result<_>>()?;
        request.required_artifacts =
            self.require_artifact.iter().map(|text| text.parse()).collect::<Result<_>>()?;
        request.capture_on_fail = self.capture_on_fail;
        request.label.clone_from(&self.label);
        request.captured = (self.capture_stdout.is_some(), self.capture_stderr.is_some());
        session.suffix().clone_into(&mut request.suffix);
        let written = [&self.capture_stdout, &self.capture_stderr, &self.timing_record];
        request.written = written.into_iter().flatten().cloned().collect();
        Ok(request)
    }
}

fn script_file(path: &Path) -> Result<ScriptFile> {
    let content = std::fs::read(path).map_err(|error| {
        Error::new(Code::InvalidArgument, format!("the script {} cannot be read: {error}", path.display()))
            .hint("--script takes a local file")
    })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(ScriptFile { name, path: Some(path.to_owned()), content })
}

fn all_of_standard_input() -> Result<Vec<u8>> {
    let mut content = Vec::new();
    std::io::stdin().lock().read_to_end(&mut content).map_err(|error| {
        Error::new(Code::InvalidArgument, format!("the script on standard input cannot be read: {error}"))
            .hint("pipe it in, or use --script FILE")
    })?;
    Ok(content)
}

fn report(session: &Session, result: &RunResult, timing: bool) -> Result<()> {
    let (lease, slug, policy) = (&result.lease.id, &result.lease.slug, result.policy);
    if session.json {
        if timing {
            session.printer.note(&document(&result.timing)?.to_string());
        }
        session.printer.json(&document(result)?);
        return Ok(());
    }
    match (result.released, result.release_outcome, &result.release_error) {
        (_, Some(ReleaseOutcome::Kept), _) => session.printer.note(&format!(
            "lease cleanup stopped=false policy={policy} action=keep lease={lease} slug={slug}\n\
             hint: run `{}`: it is still billed",
            result.stop_command
        )),
        (_, Some(ReleaseOutcome::Stopped), _) => session.printer.note(&format!(
            "lease cleanup stopped=true policy={policy} action=stop lease={lease} slug={slug}\n\
             hint: run `{}` when it is not needed any more: its disk is still billed",
            result.stop_command
        )),
        // The document tells it.
        (Some(true), ..) if timing => {}
        (Some(true), ..) => {
            session
                .progress
                .say(&format!("lease cleanup stopped=true policy={policy} lease={lease} slug={slug}"));
        }
        (Some(false), _, error) => session.printer.note(&format!(
            "lease cleanup stopped=false policy={policy} lease={lease} slug={slug} error={:?}\n\
             hint: run `{}`: it may still be billed",
            error.as_deref().unwrap_or_default(),
            result.stop_command
        )),
        (None, ..) => {}
    }
    if timing {
        session.printer.note(&document(&result.timing)?.to_string());
    }
    if result.exit_code != 0 {
        session.printer.note(&match &result.signal {
            Some(signal) => format!("remote command ended by signal {signal}"),
            None => format!("remote command exited {}", result.exit_code),
        });
    }
    Ok(())
}

pub(super) fn document(value: &impl serde::Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(value)
        .map_err(|error| Error::new(Code::Internal, format!("the result cannot be written: {error}")))
}

/// Where remote output goes.
struct Streams {
    printer: Printer,
    progress: Progress,
    cancel: CancellationToken,
    json: bool,
    /// The command has begun: what it was to write is its own from here on.
    begun: Arc<AtomicBool>,
    stdout: Option<Capture>,
    stderr: Option<Capture>,
}

impl Streams {
    fn of(session: &Session, options: &Options, begun: &Arc<AtomicBool>) -> Result<Self> {
        Ok(Self {
            printer: session.printer.clone(),
            progress: session.progress.clone(),
            cancel: session.cancel.clone(),
            json: session.json,
            begun: Arc::clone(begun),
            stdout: options.capture_stdout.as_deref().map(Capture::new).transpose()?,
            stderr: options.capture_stderr.as_deref().map(Capture::new).transpose()?,
        })
    }

    fn write(&mut self, output: &Output) -> std::io::Result<()> {
        match (output, &mut self.stdout, &mut self.stderr) {
            (Output::Stdout(bytes), Some(file), _) | (Output::Stderr(bytes), _, Some(file)) => {
                file.file()?.write_all(bytes)?
            }
            (Output::Stdout(bytes), None, _) if !self.json => {
                self.printer.out(bytes);
                if self.printer.reader_is_gone() {
                    // Nobody will see the rest, and the machine costs money.
                    self.cancel.cancel();
                }
            }
            (Output::Stdout(bytes) | Output::Stderr(bytes), ..) => self.printer.err(bytes),
        }
        Ok(())
    }

    /// A command that said nothing leaves an empty file, one that did not begin leaves the file as it was.
    fn end(&mut self) -> std::io::Result<()> {
        if !self.begun.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut captures = [&mut self.stdout, &mut self.stderr].into_iter().flatten();
        captures.try_for_each(|capture| capture.file().map(drop))
    }
}

/// A file for output, for its owner alone. What is in it is kept until there is something to write in its place.
struct Capture {
    path: PathBuf,
    file: Option<File>,
}

impl Capture {
    fn new(path: &Path) -> Result<Self> {
        writable(path)?;
        Ok(Self { path: path.to_owned(), file: None })
    }

    fn file(&mut self) -> std::io::Result<&mut File> {
        Ok(match &mut self.file {
            Some(file) => file,
            none => none.insert(private(&self.path, OpenOptions::new().write(true).truncate(true))?),
        })
    }
}

/// A file to which the times are appended.
fn record(path: &Path) -> Result<&Path> {
    if path == Path::new("default") {
        return Err(Error::new(Code::InvalidArgument, "--timing-record needs a file")
            .hint("crabbox's own store has a form of its own; name a file, which gets a line for each run"));
    }
    writable(path)?;
    Ok(path)
}

/// Appends one document.
fn append(path: &Path, document: &serde_json::Value) -> Result<()> {
    let line = format!("{document}\n");
    private(path, OpenOptions::new().append(true))
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(|error| unwritten("the times", &error))
}

fn private(path: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    options.create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path)
}

/// Refuses a place that cannot be written, before anything is rented for it; makes and changes nothing.
fn writable(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let checked = match std::fs::metadata(path) {
        // Opening a pipe would wait for its reader.
        Ok(there) if there.is_file() => OpenOptions::new().append(true).open(path).map(drop),
        Ok(there) if there.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => match std::fs::metadata(folder) {
            Ok(there) if there.is_dir() => Ok(()),
            Ok(_) => Err(ErrorKind::NotADirectory.into()),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    checked.map_err(|error| {
        Error::new(Code::InvalidArgument, format!("{} cannot be written: {error}", path.display()))
            .hint("name another file for the output")
    })
}

/// Writes both streams until they end. Under `--json` standard output is kept for the result.
async fn print(mut received: mpsc::Receiver<Output>, mut streams: Streams) -> std::io::Result<()> {
    let mut written = Ok(());
    while let Some(output) = received.recv().await {
        if written.is_ok() {
            written = streams.write(&output);
        }
    }
    let ended = streams.end();
    streams.progress.output_ended();
    written.and(ended)
}

/// Standard input, read by a thread of its own: a read that nobody ends must not hold the process.
pub(super) fn standard_input() -> mpsc::Receiver<StdinChunk> {
    let (send, receive) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        let mut input = std::io::stdin().lock();
        while let Ok(count @ 1..) = input.read(&mut buffer) {
            if send.blocking_send(StdinChunk::copy_from_slice(&buffer[..count])).is_err() {
                break;
            }
        }
    });
    receive
}

//! `run`: one command on a leased machine.

use crate::args::Unsupported;
use crate::printer::Printer;
use crate::progress::{Progress, duration};
use crate::session::Session;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::lease::Dollars;
use crabbox_vast_engine::ops::{AcquireRequest, RunRequest, RunResult};
use crabbox_vast_engine::ssh::command::Script;
use crabbox_vast_engine::world::{ExecIo, Output, StdinChunk};
use crabbox_vast_engine::{Code, Error, Result};
use std::collections::BTreeMap;
use std::io::Read as _;
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
    /// Run the words as a shell command line
    #[arg(long)]
    shell: bool,
    /// Take over a lease that another repository made
    #[arg(long)]
    reclaim: bool,
    /// Also hand this local variable over; a final `*` matches any ending
    #[arg(long, value_name = "NAME", action = clap::ArgAction::Append, value_delimiter = ',')]
    allow_env: Vec<String>,
    /// Lease id of your choice (cbx_ and 12 hex digits): repeating the command with it uses the same lease
    #[arg(long, value_name = "LEASE_ID", conflicts_with = "id")]
    lease_id: Option<String>,
    #[command(flatten)]
    unsupported: Unsupported,
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
             crabbox-vast run --id swift-krill --shell -- 'make test | tail'\n\n\
             Both output streams arrive as they are (under --json both on standard error), and the exit code of the\n\
             command is passed on. What this command rented it releases, also when it is interrupted.",
        )
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    options.unsupported.check()?;
    if options.command.is_empty() {
        return Err(Error::new(Code::InvalidArgument, "usage: crabbox-vast run [flags] -- <command...>")
            .hint("for example: crabbox-vast run -- nvidia-smi"));
    }
    let engine = session.engine()?;
    if !options.no_sync {
        session.progress.say("nothing was synced: this version leaves the working tree here (--no-sync says that this is meant)");
    }
    let script = if options.shell {
        Script::Shell(options.command.join(" "))
    } else {
        Script::from_words(options.command.clone())
    };
    let allowed = engine.settings().env_allow.iter().chain(&options.allow_env);
    let request = RunRequest {
        identifier: options.id.clone(),
        acquire: AcquireRequest {
            keep: options.keep,
            slug: options.slug.clone(),
            lease_id: options.lease_id.clone(),
        },
        reclaim: options.reclaim,
        keep_on_failure: options.keep_on_failure,
        stop_after: options.stop_after.as_deref().map(str::parse).transpose()?,
        script,
        env: forwarded(&session.snapshot.vars, allowed),
    };
    let (output, received) = mpsc::channel(64);
    session.progress.output_begins();
    let printing = tokio::spawn(print(received, Streams::of(session)));
    let io = ExecIo { stdin: Some(standard_input()), output };
    let outcome = engine.run(&request, io, &session.call).await;
    // Everything that was received must be written before anything about the result.
    let _ = printing.await;
    session.progress.pause();
    let result = outcome?;
    report(session, &result, options.stop_after.as_deref())?;
    Ok(result.exit_code)
}

fn report(session: &Session, result: &RunResult, policy: Option<&str>) -> Result<()> {
    let (lease, slug) = (&result.lease.id, &result.lease.slug);
    if session.json {
        let document = serde_json::to_value(result)
            .map_err(|error| Error::new(Code::Internal, format!("the result cannot be written: {error}")))?;
        session.printer.json(&document);
        return Ok(());
    }
    session.progress.say(&format!(
        "run summary lease={} command={} total={} exit={}{}",
        duration(result.lease_secs),
        duration(result.command_secs),
        duration(result.total_secs),
        result.exit_code,
        result.cost_dollars.map_or_else(String::new, |cost| format!(" cost={}", Dollars(cost)))
    ));
    let policy = policy.unwrap_or("auto");
    match (result.released, &result.release_error) {
        (Some(true), _) => {
            session
                .progress
                .say(&format!("lease cleanup stopped=true policy={policy} lease={lease} slug={slug}"));
        }
        (Some(false), error) => session.printer.note(&format!(
            "lease cleanup stopped=false policy={policy} lease={lease} slug={slug} error={:?}\n\
             hint: run `crabbox-vast stop {slug}`: it may still be billed",
            error.as_deref().unwrap_or_default()
        )),
        (None, _) => session.progress.say(&format!(
            "the lease stays: lease={lease} slug={slug} stop_command=\"crabbox-vast stop --id {slug}{}\"",
            session.suffix()
        )),
    }
    if result.exit_code != 0 {
        session.printer.note(&match &result.signal {
            Some(signal) => format!("remote command ended by signal {signal}"),
            None => format!("remote command exited {}", result.exit_code),
        });
    }
    Ok(())
}

/// Where remote output goes.
struct Streams {
    printer: Printer,
    progress: Progress,
    cancel: CancellationToken,
    json: bool,
}

impl Streams {
    fn of(session: &Session) -> Self {
        Self {
            printer: session.printer.clone(),
            progress: session.progress.clone(),
            cancel: session.cancel.clone(),
            json: session.json,
        }
    }
}

/// Writes both streams until they end. Under `--json` standard output is kept for the result.
async fn print(mut received: mpsc::Receiver<Output>, streams: Streams) {
    while let Some(output) = received.recv().await {
        match output {
            Output::Stdout(bytes) if !streams.json => {
                streams.printer.out(&bytes);
                if streams.printer.reader_is_gone() {
                    // Nobody will see the rest, and the machine costs money.
                    streams.cancel.cancel();
                }
            }
            Output::Stdout(bytes) | Output::Stderr(bytes) => streams.printer.err(&bytes),
        }
    }
    streams.progress.output_ended();
}

/// Standard input, read by a thread of its own: a read that nobody ends must not hold the process.
fn standard_input() -> mpsc::Receiver<StdinChunk> {
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

/// The local variables that the command receives. `NAME*` matches by beginning; `*` alone matches nothing, because it
/// would hand over everything, credentials included.
fn forwarded<'a>(
    vars: &BTreeMap<String, String>,
    allowed: impl Iterator<Item = &'a String>,
) -> BTreeMap<String, String> {
    let patterns: Vec<&str> = allowed.map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
    let matches = |name: &str| {
        patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some("") => false,
            Some(beginning) => name.starts_with(beginning),
            None => name == *pattern,
        })
    };
    vars.iter().filter(|(name, _)| matches(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allowed_variables_travel() {
        let vars = ["CI", "CARGO_HOME", "CARGO_TERM", "SECRET"].map(|name| (name.to_owned(), "1".to_owned()));
        let names = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
            forwarded(&vars.clone().into(), patterns.iter()).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(names(&["CI", "CARGO_*"]), ["CARGO_HOME", "CARGO_TERM", "CI"]);
        assert_eq!(names(&["*", "", "NOPE"]), [""; 0]);
    }
}

//! `connect`: a shell on a lease.

use crate::session::Session;
use crate::terminal::{self, Raw};
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::ops::{ShellIo, ShellRequest, ShellResult};
use crabbox_vast_engine::ssh::command::Script;
use crabbox_vast_engine::world::{ExecIo, Output, TerminalIo};
use crabbox_vast_engine::{Code, Error, Result};
use tokio::sync::mpsc;

#[derive(Debug, Args)]
struct Options {
    /// Lease id, slug or instance id
    #[arg(value_name = "LEASE", required_unless_present = "id")]
    name: Option<String>,
    /// The same as a flag
    #[arg(long, value_name = "LEASE")]
    id: Option<String>,
    /// Take over a lease that another repository made
    #[arg(long)]
    reclaim: bool,
    /// A command in place of the login shell
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<String>,
}

pub fn definition() -> Command {
    super::command::<Options>("connect", false)
        .about("Open a shell on a lease")
        .override_usage("crabbox-vast connect [flags] <lease> [-- <command...>]")
        .after_help(
            "Examples:\n  crabbox-vast connect swift-krill\n  crabbox-vast connect swift-krill -- htop\n  \
             echo 'nvidia-smi -L' | crabbox-vast connect swift-krill\n\n\
             On a terminal the far side gets one too, with its size; Enter, ~ and . leave at once. Through a pipe the\n\
             streams are plain. The exit code of the shell or command is passed on.",
        )
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    let identifier = match (options.name, options.id) {
        (Some(_), Some(_)) => {
            return Err(Error::new(Code::InvalidArgument, "the lease is named twice")
                .hint("give it as an argument or with --id, not both"));
        }
        (name, id) => name.or(id).unwrap_or_default(),
    };
    let script = (!options.command.is_empty()).then(|| Script::from_words(options.command));
    let request = ShellRequest { identifier, reclaim: options.reclaim, script };
    let engine = session.engine()?;
    let (output, received) = mpsc::channel(64);
    session.progress.output_begins();
    let printing = tokio::spawn(print(received, session.printer.clone(), session.json));
    let interactive = terminal::is_interactive() && !session.json;
    let outcome = if interactive {
        // A spinner and raw mode do not go together: both write where the cursor is.
        session.progress.quieten();
        let raw = Raw::enter().map_err(|error| {
            Error::new(Code::InvalidArgument, format!("the terminal cannot be prepared: {error}"))
                .hint("run it on a terminal, or pipe commands in")
        })?;
        let io = ShellIo::Terminal(TerminalIo {
            name: std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned()),
            size: terminal::present_size(),
            resizes: terminal::resizes(),
            keys: terminal::keys(session.cancel.clone()),
            output,
        });
        let outcome = engine.shell(&request, io, &session.call).await;
        drop(raw);
        outcome
    } else {
        let io = ShellIo::Pipes(ExecIo { stdin: Some(super::run::standard_input()), output });
        engine.shell(&request, io, &session.call).await
    };
    // Everything that was received must be written before anything about the result.
    let _ = printing.await;
    session.progress.output_ended();
    session.progress.pause();
    let result: ShellResult = outcome?;
    if session.json {
        session.printer.json(&super::run::document(&result)?);
    }
    Ok(result.exit_code)
}

/// Writes both streams until they end. Under `--json` standard output is kept for the result.
async fn print(mut received: mpsc::Receiver<Output>, printer: crate::printer::Printer, json: bool) {
    while let Some(output) = received.recv().await {
        match output {
            Output::Stdout(bytes) if !json => printer.out(&bytes),
            Output::Stdout(bytes) | Output::Stderr(bytes) => printer.err(&bytes),
        }
    }
}

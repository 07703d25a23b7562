//! `connect`: a shell on a lease.

use crate::session::Session;
use crate::terminal::{self, Raw};
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::ops::{ShellIo, ShellRequest, ShellResult};
use crabbox_vast_engine::ssh::command::Script;
use crabbox_vast_engine::world::{ExecIo, Output, TakeTerminal, TerminalIo};
use crabbox_vast_engine::{Code, Error, Result};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
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
    let taken = Taken::default();
    let printing = tokio::spawn(print(received, session.printer.clone(), session.json, taken.clone()));
    let io = if terminal::is_interactive() && !session.json {
        ShellIo::Terminal(take(session, taken.clone(), output))
    } else {
        ShellIo::Pipes(ExecIo { stdin: Some(super::run::standard_input()), output })
    };
    let outcome = engine.shell(&request, io, &session.call).await;
    // Everything that was received must be written before anything about the result.
    let _ = printing.await;
    session.progress.output_ended();
    session.progress.pause();
    if let Some(Err(error)) = taken.end() {
        return Err(Error::new(Code::InvalidArgument, format!("the terminal cannot be prepared: {error}"))
            .hint("run it on a terminal, or pipe commands in"));
    }
    let result: ShellResult = outcome?;
    if session.json {
        session.printer.json(&super::run::document(&result)?);
    }
    Ok(result.exit_code)
}

/// The terminal in raw mode from the moment on at which the session is open, or why that failed.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Option<io::Result<Raw>>>>);

impl Taken {
    fn begin(&self) -> bool {
        let raw = Raw::enter();
        let entered = raw.is_ok();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(raw);
        entered
    }

    /// The terminal as it was, once what is returned is dropped.
    fn end(&self) -> Option<io::Result<Raw>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// As [`Taken::end`]; a failure stays to be told.
    fn restore(&self) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(&*taken, Some(Ok(_))) {
            *taken = None;
        }
    }
}

/// Hands the keys to the far side. Before that Ctrl-C is ours, however long resolving and connecting may take.
fn take(session: &Session, taken: Taken, output: mpsc::Sender<Output>) -> TakeTerminal {
    let (progress, cancel) = (session.progress.clone(), session.cancel.clone());
    Box::new(move || {
        // A spinner and raw mode do not go together: both write where the cursor is.
        progress.quieten();
        if !taken.begin() {
            cancel.cancel();
        }
        TerminalIo {
            name: std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned()),
            size: terminal::present_size(),
            resizes: terminal::resizes(),
            keys: terminal::keys(cancel),
            output,
        }
    })
}

/// Writes both streams until they end, and then gives the terminal back: what follows can be interrupted again. Under
/// `--json` standard output is kept for the result.
async fn print(
    mut received: mpsc::Receiver<Output>,
    printer: crate::printer::Printer,
    json: bool,
    taken: Taken,
) {
    while let Some(output) = received.recv().await {
        match output {
            Output::Stdout(bytes) if !json => printer.out(&bytes),
            Output::Stdout(bytes) | Output::Stderr(bytes) => printer.err(&bytes),
        }
    }
    taken.restore();
}

//! One file per command: what can be typed, and what happens then.

mod config;
mod cp;
mod doctor;
mod list;
mod offers;
mod run;
mod sim;
mod ssh;
mod status;
mod stop;
mod touch;
mod warmup;

use crate::args::{self, Common};
use crate::printer::Printer;
use crate::session::Session;
use clap::{ArgMatches, Command};
use crabbox_vast_engine::{Code, Error, Result};

/// The commands in the order of the help text.
pub fn definitions() -> Vec<Command> {
    let commands = [
        doctor::definition(),
        offers::definition(),
        run::definition(),
        warmup::definition(),
        list::definition(),
        status::definition(),
        ssh::definition(),
        cp::definition(),
        touch::definition(),
        stop::definition(),
        config::definition(),
        sim::definition(),
    ];
    commands.into_iter().map(|command| command.args_override_self(true)).collect()
}

/// Runs the command that was typed; the exit code.
pub fn dispatch(matches: &ArgMatches, printer: &Printer) -> u8 {
    let Some((name, matches)) = matches.subcommand() else { return 2 };
    if name == "config" {
        return config::run(matches, printer);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = Error::new(Code::Internal, format!("the runtime cannot start: {error}"));
            return printer.failure(&error, false);
        }
    };
    runtime.block_on(async {
        match name {
            "doctor" => talk(matches, printer, async |session| doctor::run(session).await).await,
            "offers" => talk(matches, printer, async |session| offers::run(session).await).await,
            "run" => talk(matches, printer, async |session| run::run(matches, session).await).await,
            "warmup" => talk(matches, printer, async |session| warmup::run(matches, session).await).await,
            "list" => talk(matches, printer, async |session| list::run(matches, session).await).await,
            "status" => talk(matches, printer, async |session| status::run(matches, session).await).await,
            "cp" => talk(matches, printer, async |session| cp::run(matches, session).await).await,
            "ssh" => talk(matches, printer, async |session| ssh::run(matches, session).await).await,
            "touch" => talk(matches, printer, async |session| touch::run(matches, session).await).await,
            "stop" => talk(matches, printer, async |session| stop::run(matches, session).await).await,
            "sim" => sim::run(matches, printer).await,
            _ => 2,
        }
    })
}

/// The frame of every command that talks to Vast: opens the session, does the work, ends what was started, and
/// reports a failure.
async fn talk(matches: &ArgMatches, printer: &Printer, work: impl AsyncFnOnce(&Session) -> Result<u8>) -> u8 {
    let json = matches.get_flag("json");
    let opened = async {
        let common = read::<Common>(matches)?;
        Session::open(&common, args::overrides(matches)?, printer).await
    };
    let session = match opened.await {
        Ok(session) => session,
        Err(error) => return printer.failure(&error, json),
    };
    let outcome = work(&session).await;
    let progress = session.progress.clone();
    session.close().await;
    progress.pause();
    match outcome {
        Ok(code) => code,
        // Whoever reads our output went away on purpose: that ended the command.
        Err(error) if error.code() == Code::Cancelled && printer.reader_is_gone() => 0,
        Err(error) => printer.failure(&error, json),
    }
}

/// The flags of one struct out of what was typed.
fn read<T: clap::FromArgMatches>(matches: &ArgMatches) -> Result<T> {
    let read = T::from_arg_matches(matches);
    read.map_err(|error| Error::new(Code::Internal, format!("the arguments cannot be read: {error}")))
}

/// A command with the flags of `T`, those that all share, and those of the settings.
fn command<T: clap::Args>(name: &'static str, creating: bool) -> Command {
    let shared = <Common as clap::Args>::augment_args(T::augment_args(Command::new(name)));
    args::flags(shared, creating)
}

/// No flags of its own.
#[derive(Debug, clap::Args)]
struct Nothing {}

//! One file per command: what can be typed, and what happens then.

mod adopt;
mod claims;
mod cleanup;
mod completions;
mod config;
mod connect;
mod cp;
mod doctor;
mod elsewhere;
mod forget;
mod inspect;
mod list;
mod live_smoke;
mod offers;
mod providers;
mod run;
mod sim;
mod ssh;
mod start;
mod status;
mod stop;
mod touch;
mod tunnel;
mod version;
mod warmup;

use crate::advice;
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
        connect::definition(),
        inspect::definition(),
        ssh::definition(),
        tunnel::definition(),
        cp::definition(),
        touch::definition(),
        stop::definition(),
        start::definition(),
        cleanup::definition(),
        cleanup::machine(),
        claims::definition(),
        forget::definition(),
        adopt::definition(),
        config::definition(),
        sim::definition(),
        live_smoke::definition(),
        providers::definition(),
        completions::completions(),
        completions::man(),
        version::definition(),
        pool(),
    ];
    commands
        .into_iter()
        .chain(elsewhere::definitions())
        .map(|command| command.args_override_self(true))
        .collect()
}

/// crabbox's other name of `list`.
fn pool() -> Command {
    let list = list::definition().args_override_self(true);
    Command::new("pool").about("The same as `list`").hide(true).subcommand_required(true).subcommand(list)
}

/// Runs the command that was typed; the exit code.
pub fn dispatch(matches: &ArgMatches, printer: &Printer) -> u8 {
    let (name, matches) = match matches.subcommand() {
        Some(("pool", inner)) => match inner.subcommand() {
            Some(list) => list,
            None => return 2,
        },
        Some(command) => command,
        None => return 2,
    };
    if let Some(code) = elsewhere::refuse(name, matches, printer) {
        return code;
    }
    match name {
        "providers" => return finish(providers::run(matches, printer), matches, printer),
        "completions" => return finish(completions::run_completions(matches, printer), matches, printer),
        "man" => return finish(completions::run_man(matches, printer), matches, printer),
        "version" => return finish(version::run(matches, printer), matches, printer),
        _ => {}
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
            "doctor" => talk(matches, printer, async |session| doctor::run(matches, session).await).await,
            "offers" => talk(matches, printer, async |session| offers::run(session).await).await,
            "run" => talk(matches, printer, async |session| run::run(matches, session).await).await,
            "warmup" => talk(matches, printer, async |session| warmup::run(matches, session).await).await,
            "list" => talk(matches, printer, async |session| list::run(matches, session).await).await,
            "status" => talk(matches, printer, async |session| status::run(matches, session).await).await,
            "connect" => talk(matches, printer, async |session| connect::run(matches, session).await).await,
            "tunnel" => talk(matches, printer, async |session| tunnel::run(matches, session).await).await,
            "cp" => talk(matches, printer, async |session| cp::run(matches, session).await).await,
            "inspect" => talk(matches, printer, async |session| inspect::run(matches, session).await).await,
            "ssh" => talk(matches, printer, async |session| ssh::run(matches, session).await).await,
            "touch" => talk(matches, printer, async |session| touch::run(matches, session).await).await,
            "stop" => talk(matches, printer, async |session| stop::run(matches, session).await).await,
            "start" => talk(matches, printer, async |session| start::run(matches, session).await).await,
            "cleanup" => talk(matches, printer, async |session| cleanup::run(matches, session).await).await,
            "machine" => match matches.subcommand() {
                Some((_, inner)) => {
                    talk(inner, printer, async |session| cleanup::run(inner, session).await).await
                }
                None => 2,
            },
            "claims" => claims::run(matches, printer).await,
            "config" => config::run(matches, printer).await,
            "forget" => talk(matches, printer, async |session| forget::run(matches, session).await).await,
            "adopt" => talk(matches, printer, async |session| adopt::run(matches, session).await).await,
            "live-smoke" => talk(matches, printer, async |session| live_smoke::run(session).await).await,
            "sim" => sim::run(matches, printer).await,
            _ => 2,
        }
    })
}

/// The end of a command that neither talks to Vast nor waits.
fn finish(done: Result<()>, matches: &ArgMatches, printer: &Printer) -> u8 {
    match done {
        Ok(()) => 0,
        Err(error) => printer.failure(&error, matches.get_flag("json")),
    }
}

/// The frame of every command that talks to Vast: opens the session, does the work, ends what was started, and
/// reports a failure.
async fn talk(matches: &ArgMatches, printer: &Printer, work: impl AsyncFnOnce(&Session) -> Result<u8>) -> u8 {
    let (json, sim) = (matches.get_flag("json"), matches.get_flag("sim"));
    let opened = async {
        let common = read::<Common>(matches)?;
        let idle = args::foreign::check(matches)?;
        let session = Session::open(&common, args::overrides(matches)?, printer).await?;
        idle.into_iter().for_each(|flag| session.call.warn(flag));
        Ok(session)
    };
    let session = match opened.await {
        Ok(session) => session,
        Err(error) => return printer.failure(&error, json),
    };
    session.progress.waiting("waiting for Vast");
    let outcome = work(&session).await;
    let (progress, interrupted) = (session.progress.clone(), session.interrupted.clone());
    session.close().await;
    progress.pause();
    match outcome {
        Ok(code) => code,
        // Whoever reads our output went away on purpose: that ended the command.
        Err(error) if error.code() == Code::Cancelled && printer.reader_is_gone() => 0,
        Err(error) => {
            let error = advice::on_failure(error, sim);
            let code = printer.failure(&error, json);
            interrupted.exit_code().filter(|_| error.code() == Code::Cancelled).unwrap_or(code)
        }
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
    args::foreign::flags(args::flags(shared, creating))
}

/// No flags of its own.
#[derive(Debug, clap::Args)]
struct Nothing {}

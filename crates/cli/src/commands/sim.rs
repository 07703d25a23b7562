//! `sim`: a simulated Vast, in the foreground or left in the background.

mod background;

use crate::printer::Printer;
use crate::progress::Progress;
use crate::session::snapshot;
use crate::{signals, simulate};
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::config::directories;
use crabbox_vast_engine::lease::parse_go_duration;
use crabbox_vast_engine::{Code, Error, Result};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Args)]
struct Options {
    /// Print one JSON document with address and key
    #[arg(long)]
    json: bool,
    /// Leave it running in the background, until `sim stop`
    #[arg(long)]
    detach: bool,
    /// This is the process in the background
    #[arg(long, hide = true)]
    background: bool,
    /// The vendor's real durations: about 90 s until a machine is ready
    #[arg(long)]
    faithful: bool,
    /// Where to listen; loopback only, port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Folder of the simulated machines
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// Decides the catalogue of offers
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// From the create to a running machine
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    boot: Option<Duration>,
    /// From a running machine to a listening SSH server
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ssh_lag: Option<Duration>,
    /// What each API call takes
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    api_latency: Option<Duration>,
    /// Simulated seconds per real second
    #[arg(long, value_name = "NUMBER")]
    time_scale: Option<f64>,
    /// Credit at the start, in dollars
    #[arg(long, value_name = "DOLLARS")]
    credit: Option<f64>,
    /// Do not enforce the vendor's published rate limits
    #[arg(long)]
    no_rate_limits: bool,
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    parse_go_duration(text).ok_or_else(|| "write it like 500ms or 90s".to_owned())
}

#[derive(Debug, Args)]
struct Plain {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub fn definition() -> Command {
    let stop = Plain::augment_args(Command::new("stop"))
        .about("End the simulator with all its machines, and say what they came to")
        .args_override_self(true);
    let status = Plain::augment_args(Command::new("status"))
        .about("Say whether a simulator runs, and what it has come to")
        .args_override_self(true);
    Options::augment_args(Command::new("sim"))
        .args_conflicts_with_subcommands(true)
        .subcommands([stop, status])
        .about("Simulate Vast on this machine until it is interrupted")
        .after_help(
            "Examples:\n  crabbox-vast sim                      in one terminal\n  \
             crabbox-vast warmup --sim             in another\n  crabbox-vast sim --faithful --time-scale 10\n  \
             crabbox-vast sim --detach             in the background\n  crabbox-vast sim status\n  \
             crabbox-vast sim stop\n\n\
             Every command with --sim uses this simulator while it runs. Its machines are SSH servers on loopback\n\
             whose commands run on this machine, in folders of their own.",
        )
}

pub async fn run(matches: &ArgMatches, printer: &Printer) -> u8 {
    let (matches, done) = match matches.subcommand() {
        Some(("stop", matches)) => (matches, background::stop(matches, printer).await),
        Some((_, matches)) => (matches, background::status(matches, printer).await),
        None if matches.get_flag("detach") => (matches, background::detach(matches, printer).await),
        None => (matches, serve(matches, printer).await),
    };
    match done {
        Ok(()) => 0,
        Err(error) => printer.failure(&error, matches.get_flag("json")),
    }
}

/// Where this user's simulator announces itself.
fn folder() -> Result<PathBuf> {
    Ok(simulate::folder(&directories(&snapshot()?)?))
}

async fn serve(matches: &ArgMatches, printer: &Printer) -> Result<()> {
    let options: Options = super::read(matches)?;
    if options.background {
        background::leave_terminal()?;
    }
    let folder = folder()?;
    let state_dir = options.state_dir.clone().unwrap_or_else(|| folder.join("machines"));
    let running = crabbox_vast_sim::start(chosen(&options, state_dir)).await.map_err(simulate::refused)?;
    // Claims of machines that ended with an earlier simulator lead nowhere.
    simulate::forget_claims(running.state_dir())?;
    let announcement = running.announce(&folder).map_err(|error| {
        let error = simulate::refused(error);
        Error::new(Code::InvalidState, error.to_string())
            .hint("`--sim` uses the simulator that runs already; `crabbox-vast sim stop` ends it")
    })?;
    let cancel = CancellationToken::new();
    signals::watch(cancel.clone(), Progress::new(printer, true), printer.clone(), true, false);
    if options.json {
        let control = running.control_url();
        printer.json(
            &serde_json::json!({ "url": running.url(), "apiKey": running.api_key(), "control": control }),
        );
    } else {
        printer.line(&format!("simulating Vast at {} (key {})", running.url(), running.api_key()));
        printer.note("commands with --sim use it; Ctrl-C ends it with all its machines");
    }
    tokio::select! {
        () = cancel.cancelled() => {}
        () = running.shutdown_asked() => {}
    }
    let ledger = running.ledger();
    drop(announcement);
    running.shutdown().await;
    printer.note(&format!(
        "the simulator ended: {} machines rented, {} given back, {:.4} $ spent",
        ledger.created, ledger.destroyed, ledger.accrued
    ));
    Ok(())
}

fn chosen(options: &Options, state_dir: PathBuf) -> crabbox_vast_sim::Options {
    let base = if options.faithful {
        crabbox_vast_sim::Options::faithful(state_dir)
    } else {
        crabbox_vast_sim::Options::demo(state_dir)
    };
    crabbox_vast_sim::Options {
        listen: options.listen.unwrap_or(base.listen),
        seed: options.seed.unwrap_or(base.seed),
        boot: options.boot.unwrap_or(base.boot),
        ssh_lag: options.ssh_lag.unwrap_or(base.ssh_lag),
        api_latency: options.api_latency.unwrap_or(base.api_latency),
        time_scale: options.time_scale.unwrap_or(base.time_scale),
        credit: options.credit.unwrap_or(base.credit),
        rate_limits: base.rate_limits && !options.no_rate_limits,
        ..base
    }
}

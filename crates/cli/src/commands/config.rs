//! `config`: what is in force, and where it is kept.

use crate::args;
use crate::printer::Printer;
use crate::session::{simulated, snapshot};
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::config::{
    Overrides, Resolved, Snapshot, origins_json, origins_text, show_json, show_text,
};
use crabbox_vast_engine::{Code, Error, Result};

#[derive(Debug, Args)]
struct Options {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Those of a run on the simulator
    #[arg(long)]
    sim: bool,
    /// Print every setting with the layer, file and line it came from
    #[arg(long)]
    origin: bool,
}

#[derive(Debug, Args)]
struct PathOptions {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub fn definition() -> Command {
    let show = args::flags(Options::augment_args(Command::new("show")), true)
        .about("Show the settings in force; the API key is never shown")
        .args_override_self(true)
        .after_help("Examples:\n  crabbox-vast config show --origin\n  crabbox-vast config show --json --vast-gpu-count 2");
    let path = PathOptions::augment_args(Command::new("path"))
        .about("Show where your configuration file is, or would be")
        .args_override_self(true);
    Command::new("config")
        .about("Show the configuration")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([show, path])
}

pub async fn run(matches: &ArgMatches, printer: &Printer) -> u8 {
    let Some((name, matches)) = matches.subcommand() else { return 2 };
    let done = if name == "show" { show(matches, printer).await } else { path(matches, printer) };
    match done {
        Ok(()) => 0,
        Err(error) => printer.failure(&error, matches.get_flag("json")),
    }
}

async fn show(matches: &ArgMatches, printer: &Printer) -> Result<()> {
    let options: Options = super::read(matches)?;
    let (mut snapshot, mut overrides) = (snapshot()?, args::overrides(matches)?);
    let simulation = if options.sim { Some(simulated(&mut snapshot, &mut overrides).await?) } else { None };
    let shown = shown(&options, &snapshot, &overrides, printer);
    if let Some(simulation) = simulation {
        simulation.end().await;
    }
    shown
}

fn shown(options: &Options, snapshot: &Snapshot, overrides: &Overrides, printer: &Printer) -> Result<()> {
    let resolved = Resolved::load(snapshot, overrides)?;
    resolved.notes.iter().for_each(|note| printer.note(&format!("warning: {note}")));
    match (options.json, options.origin) {
        (false, false) => printer.text(&show_text(&resolved)?),
        (false, true) => printer.text(&origins_text(&resolved)),
        (true, false) => printer.json(&show_json(&resolved)?),
        (true, true) => printer.json(&origins_json(&resolved)),
    }
    Ok(())
}

fn path(matches: &ArgMatches, printer: &Printer) -> Result<()> {
    // A broken file is no reason not to say where it is.
    let path = crabbox_vast_engine::config::user_file(&snapshot()?)?;
    let path = path.to_str().ok_or_else(|| {
        Error::new(Code::StateUnavailable, format!("the path {} is not valid UTF-8", path.display()))
    })?;
    if matches.get_flag("json") {
        printer.json(&serde_json::json!({ "path": path }));
    } else {
        printer.line(path);
    }
    Ok(())
}

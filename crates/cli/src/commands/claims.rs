//! `claims`: what lies in the claims folder of this machine.

use crate::printer::Printer;
use crate::session::{snapshot, world};
use crate::simulate;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::config::{Overrides, Resolved};
use crabbox_vast_engine::ops::claims;
use crabbox_vast_engine::store::Store;
use crabbox_vast_engine::{Code, Error, Result};

#[derive(Debug, Args)]
struct Options {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Those of the simulator that runs in the background or in another terminal
    #[arg(long)]
    sim: bool,
}

pub fn definition() -> Command {
    let list = Options::augment_args(Command::new("list"))
        .about("List the local claims of all providers; neither the cloud nor a lock is asked")
        .args_override_self(true)
        .after_help("Examples:\n  crabbox-vast claims list\n  crabbox-vast claims list --json");
    Command::new("claims")
        .about("Look at the local claims")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(list)
}

pub async fn run(matches: &ArgMatches, printer: &Printer) -> u8 {
    let Some((_, matches)) = matches.subcommand() else { return 2 };
    let json = matches.get_flag("json");
    match list(json, matches.get_flag("sim"), printer).await {
        Ok(code) => code,
        Err(error) => printer.failure(&error, json),
    }
}

/// Needs no API key: what is on this machine is everybody's to see.
async fn list(json: bool, sim: bool, printer: &Printer) -> Result<u8> {
    let mut paths = Resolved::load(&snapshot()?, &Overrides::new())?.paths;
    if sim {
        paths = simulate::claims_of_running(&paths).ok_or_else(|| {
            Error::new(Code::InvalidState, "no simulator runs here, so there are no simulated leases")
                .hint("start one with `crabbox-vast sim --detach`")
        })?;
    }
    let world = world(None);
    let listed = claims::list(&Store::new(world.disk, world.ambient, paths)).await?;
    if json {
        printer.json(&listed.to_json());
    } else {
        printer.text(&listed.text());
    }
    Ok(listed.failure().map_or(0, |failure| failure.exit_code()))
}

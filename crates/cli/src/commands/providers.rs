//! `providers`: what can be leased from.

use crate::printer::Printer;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::Result;
use crabbox_vast_engine::ops::providers::providers;

#[derive(Debug, Args)]
struct Options {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Accepted as by the commands that talk to Vast; nothing is asked here
    #[arg(long)]
    sim: bool,
}

pub fn definition() -> Command {
    Options::augment_args(Command::new("providers"))
        .about("Show the provider of this program and what it can do")
        .after_help("Example:\n  crabbox-vast providers --json")
}

pub fn run(matches: &ArgMatches, printer: &Printer) -> Result<()> {
    let options: Options = super::read(matches)?;
    if options.json {
        printer.json(&serde_json::json!(providers()));
        return Ok(());
    }
    for one in providers() {
        printer.line(&format!(
            "{} family={} kind={} category={} targets={} features={} aliases={}",
            one.provider,
            one.family,
            one.kind,
            one.category,
            one.targets.join(","),
            one.features.join(","),
            one.aliases.join(",")
        ));
    }
    Ok(())
}

//! `version`: the version, as a command.

use crate::printer::Printer;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::Result;

#[derive(Debug, Args)]
struct Options {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub fn definition() -> Command {
    Options::augment_args(Command::new("version")).about("Show the version")
}

pub fn run(matches: &ArgMatches, printer: &Printer) -> Result<()> {
    let options: Options = super::read(matches)?;
    let version = env!("CARGO_PKG_VERSION");
    if options.json {
        printer.json(&serde_json::json!({ "name": "crabbox-vast", "version": version }));
    } else {
        printer.line(&format!("crabbox-vast {version}"));
    }
    Ok(())
}

//! `doctor`: is everything in place?

use crate::session::{Session, world};
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::Result;
use crabbox_vast_engine::ops::doctor;

#[derive(Debug, Args)]
struct Options {
    /// Check this lease as well: lease id, slug or instance id
    #[arg(long, value_name = "LEASE")]
    id: Option<String>,
}

pub fn definition() -> Command {
    super::command::<Options>("doctor", true)
        .about("Check configuration, tools, records, API key and API; changes nothing")
        .after_help("Examples:\n  crabbox-vast doctor\n  crabbox-vast doctor --json\n\nExits with 1 when a check failed; warnings do not count.")
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    let settings = session.settings();
    let world = world(settings.as_ref().ok().copied());
    let report = session
        .call
        .until_cancelled(async {
            Ok(doctor::doctor(&world, &session.snapshot, settings, options.id.as_deref(), &session.call)
                .await)
        })
        .await?;
    session.progress.pause();
    if session.json {
        session.printer.json(&report.to_json());
    } else {
        for line in report.lines() {
            session.printer.line(&line);
        }
    }
    if !session.json {
        if !report.ok() {
            session.printer.note("doctor found problems");
        }
        for remedy in report.remedies() {
            session.printer.note(&format!("hint: {remedy}"));
        }
    }
    Ok(if report.ok() { 0 } else { 1 })
}

//! `doctor`: is everything in place?

use super::Nothing;
use crate::session::{Session, world};
use clap::Command;
use crabbox_vast_engine::Result;
use crabbox_vast_engine::ops::doctor;

pub fn definition() -> Command {
    super::command::<Nothing>("doctor", true)
        .about("Check configuration, state directory, API key and API; changes nothing")
        .after_help("Examples:\n  crabbox-vast doctor\n  crabbox-vast doctor --json\n\nExits with 1 when a check failed.")
}

pub async fn run(session: &Session) -> Result<u8> {
    let settings = session.settings();
    let world = world(settings.as_ref().ok().copied());
    let report = doctor::doctor(&world, settings, &session.call).await;
    session.progress.pause();
    if session.json {
        session.printer.json(&report.to_json());
    } else {
        for line in report.lines() {
            session.printer.line(&line);
        }
    }
    if report.ok() {
        return Ok(0);
    }
    if !session.json {
        session.printer.note("doctor found problems");
    }
    Ok(1)
}

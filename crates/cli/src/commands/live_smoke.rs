//! `live-smoke`: one whole lease life against the real vendor, guarded and billable.

use super::Nothing;
use crate::session::{Session, world};
use clap::Command;
use crabbox_vast_engine::config::{Overrides, has_api_key};
use crabbox_vast_engine::ops::smoke::smoke;
use crabbox_vast_engine::{Code, Error, Result};

pub fn definition() -> Command {
    super::command::<Nothing>("live-smoke", true)
        .about("Rent, use and destroy one machine on the real account, to see that all works; billable")
        .after_help(
            "Example:\n  \
             CRABBOX_LIVE=1 CRABBOX_LIVE_PROVIDERS=vast CRABBOX_VAST_MAX_DPH_TOTAL=0.5 CRABBOX_VAST_GPU_COUNT=1 \\\n    \
             crabbox-vast live-smoke\n\n\
             Nothing is rented unless both variables say so, a key is there, a price cap above 0 and a GPU count are \
             set, the\nrelease action is destroy, and no lease of yours is listed. Whatever happens then, the machine is \
             given back.\n\n\
             The last line names the outcome: passed; environment_blocked, billing_blocked, quota_blocked and \
             capacity_blocked\n(exit code 0: nothing is wrong here); validation_failed and cleanup_failed (1; unsafe \
             settings 2).",
        )
}

pub async fn run(session: &Session) -> Result<u8> {
    let settings = session.settings();
    let world = world(settings.as_ref().ok().copied());
    let has_key = has_api_key(&session.snapshot, &Overrides::new());
    let smoked = smoke(&world, &session.snapshot, settings, has_key, &session.call).await;
    session.progress.pause();
    if session.json {
        let document = serde_json::to_value(&smoked)
            .map_err(|error| Error::new(Code::Internal, format!("the result cannot be written: {error}")))?;
        session.printer.json(&document);
        return Ok(smoked.exit_code);
    }
    for step in &smoked.steps {
        let word = if step.ok { "ok" } else { "failed" };
        session.progress.say(&format!("{word:<7} {:<8} {} in {:.1}s", step.step, step.message, step.seconds));
    }
    session.printer.line(&smoked.line());
    if let Some(hint) = smoked.error.as_ref().and_then(|error| error["hint"].as_str()) {
        session.printer.note(&format!("hint: {hint}"));
    }
    Ok(smoked.exit_code)
}

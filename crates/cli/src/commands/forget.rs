//! `forget`: drops a claim.

use crate::args::Target;
use crate::session::Session;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::ops::ForgetRequest;
use crabbox_vast_engine::{Code, Error, Result};

#[derive(Debug, Args)]
struct Options {
    #[command(flatten)]
    target: Target,
    /// Drop it even if its instance may bill on
    #[arg(long, visible_alias = "force")]
    yes: bool,
}

pub fn definition() -> Command {
    super::command::<Options>("forget", false)
        .about("Drop the claim of a lease whose instance is gone; with --yes, of any lease")
        .after_help(
            "Examples:\n  crabbox-vast forget swift-krill\n  crabbox-vast forget --yes swift-krill\n\n\
             Nothing is destroyed at Vast: `stop` does that. What the claim led to is named before it is dropped.",
        )
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    let request = ForgetRequest { identifier: options.target.identifier("forget")?, yes: options.yes };
    let forgotten = session.engine()?.forget_claim(&request, &session.call).await?;
    session.progress.pause();
    if session.json {
        let document = serde_json::to_value(&forgotten)
            .map_err(|error| Error::new(Code::Internal, format!("the result cannot be written: {error}")))?;
        session.printer.json(&document);
    } else {
        session.printer.note(&forgotten.line());
    }
    Ok(0)
}

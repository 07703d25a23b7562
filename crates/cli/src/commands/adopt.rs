//! `adopt`: takes over an instance whose claim is elsewhere or lost.

use crate::args::Target;
use crate::session::Session;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::ops::AdoptRequest;
use crabbox_vast_engine::{Code, Error, Result};

#[derive(Debug, Args)]
struct Options {
    #[command(flatten)]
    target: Target,
    /// Cleanup leaves it alone
    #[arg(long)]
    keep: bool,
}

pub fn definition() -> Command {
    super::command::<Options>("adopt", false)
        .about("Take over an instance with an ownership label and without a claim on this machine")
        .after_help(
            "Examples:\n  crabbox-vast list\n  crabbox-vast adopt 27491836\n  crabbox-vast run --id 27491836 -- nvidia-smi\n\n\
             A key of this machine is attached, so that the lease can be used. Instances that neither crabbox nor \
             crabbox-vast made are never adopted. A lease with a claim keeps it as it is: its key is attached again, and what \
             a process that died had meant to do with it, its destroy included, is called off.",
        )
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    let request = AdoptRequest { identifier: options.target.identifier("adopt")?, keep: options.keep };
    let adopted = session.engine()?.adopt(&request, &session.call).await?;
    session.progress.pause();
    if session.json {
        let document = serde_json::to_value(&adopted)
            .map_err(|error| Error::new(Code::Internal, format!("the result cannot be written: {error}")))?;
        session.printer.json(&document);
    } else {
        session.printer.line(&adopted.line());
    }
    session.progress.say(&adopted.deadman.line());
    Ok(0)
}

//! `stop`: gives a lease back.

use crate::args::Target;
use crate::session::Session;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::ops::ReleaseRequest;
use crabbox_vast_engine::{Code, Error, Result};

#[derive(Debug, Args)]
struct Options {
    #[command(flatten)]
    target: Target,
    /// Read so that the refusal can say what to do.
    #[arg(long, hide = true)]
    reclaim: bool,
}

pub fn definition() -> Command {
    super::command::<Options>("stop", false)
        .visible_alias("release")
        .about("Release a lease: by default its instance is destroyed, and that it is gone is proved")
        .after_help(
            "Examples:\n  crabbox-vast stop swift-krill\n  crabbox-vast stop --vast-release-action stop swift-krill\n\n\
             Nothing is touched without a matching claim on this machine. A lease that was stopped or kept is still \
             billed, and stays listed.",
        )
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    if options.reclaim {
        return Err(Error::new(Code::InvalidArgument, "provider=vast does not support stop --reclaim")
            .hint("take the lease over with `adopt` first, then stop it"));
    }
    let identifier = options.target.identifier("stop")?;
    // An action given as a flag is part of the settings, and known there as explicit.
    let request = ReleaseRequest { identifier, action: None };
    let released = session.engine()?.release(&request, &session.call).await?;
    session.progress.pause();
    if session.json {
        let document = serde_json::to_value(&released)
            .map_err(|error| Error::new(Code::Internal, format!("the result cannot be written: {error}")))?;
        session.printer.json(&document);
    } else {
        session.printer.note(&released.line());
    }
    Ok(0)
}

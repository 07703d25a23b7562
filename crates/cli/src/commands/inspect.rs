//! `inspect`: everything that is known about one lease.

use crate::args::Target;
use crate::session::Session;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::Result;

#[derive(Debug, Args)]
struct Options {
    #[command(flatten)]
    target: Target,
}

pub fn definition() -> Command {
    super::command::<Options>("inspect", false)
        .about("Show everything known about one lease, one fact a line; changes nothing")
        .after_help(
            "Examples:\n  crabbox-vast inspect swift-krill\n  crabbox-vast inspect --json swift-krill",
        )
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    let lease = options.target.identifier("inspect")?;
    let status = session.engine()?.status(&lease, &session.call).await?;
    session.progress.pause();
    if session.json {
        session.printer.json(&status.to_json());
    } else {
        for line in status.lines() {
            session.printer.line(&line);
        }
    }
    Ok(0)
}

//! `list`: the instances of this account.

use crate::args::pond;
use crate::session::Session;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::Result;
use serde_json::Value;

#[derive(Debug, Args)]
struct Options {
    /// Also instances that neither crabbox nor crabbox-vast made
    #[arg(long)]
    all: bool,
    /// Accepted for crabbox's sake; the list is always fresh
    #[arg(long, hide = true)]
    refresh: bool,
}

pub fn definition() -> Command {
    super::command::<Options>("list", false)
        .arg(pond())
        .about("List leases: instance, slug, state, GPU, host, cost")
        .after_help("Examples:\n  crabbox-vast list\n  crabbox-vast list --all --json\n  crabbox-vast list --pond lab")
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    let listed = session.engine()?.list(options.all, &session.call).await?;
    session.progress.pause();
    if session.json {
        session.printer.json(&Value::Array(listed.iter().map(|one| one.to_json()).collect()));
    } else {
        for one in &listed {
            session.printer.line(&one.line());
        }
    }
    Ok(0)
}

//! `start`: a stopped lease runs again.

use crate::args::{Target, paying};
use crate::session::Session;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::lease::{go_duration, moment};
use crabbox_vast_engine::ops::StartRequest;
use crabbox_vast_engine::{Code, Error, Result};
use std::time::Duration;

#[derive(Debug, Args)]
struct Options {
    #[command(flatten)]
    target: Target,
}

pub fn definition() -> Command {
    paying(super::command::<Options>("start", false))
        .about("Start a stopped lease and wait until it answers")
        .after_help(
            "Examples:\n  crabbox-vast stop --vast-release-action stop trainer\n  crabbox-vast start trainer\n\n\
             It bills from the start on. When its GPUs are taken the start is withdrawn and the exit code is 5.",
        )
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    let request = StartRequest { identifier: options.target.identifier("start")? };
    let lease = session.engine()?.start(&request, &session.call).await?;
    session.progress.pause();
    let facts = lease.facts();
    if session.json {
        let document = serde_json::to_value(facts)
            .map_err(|error| Error::new(Code::Internal, format!("the lease cannot be written: {error}")))?;
        session.printer.json(&document);
    } else {
        let idle = go_duration(Duration::from_secs(facts.idle_timeout_secs));
        let expires = facts.expires_at.map_or_else(|| "-".to_owned(), moment);
        session.printer.line(&format!(
            "started {} slug={} provider=vast server={} type={} ip={} idle_timeout={idle} expires={expires}",
            facts.id, facts.slug, facts.instance, facts.gpu, facts.endpoint.host
        ));
        session.printer.line(&format!(
            "ready ssh={}@{}:{} network=public workroot={}",
            facts.user, facts.endpoint.host, facts.endpoint.port, facts.work_root
        ));
    }
    session.progress.say(&facts.deadman.line());
    lease.close().await;
    Ok(0)
}

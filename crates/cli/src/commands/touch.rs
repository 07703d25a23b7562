//! `touch`: a lease is in use.

use crate::args::Target;
use crate::session::Session;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::lease::parse_go_duration;
use crabbox_vast_engine::{Code, Error, Result};

#[derive(Debug, Args)]
struct Options {
    #[command(flatten)]
    target: Target,
    /// Also change the idle timeout of the lease
    #[arg(long, value_name = "DURATION")]
    idle_timeout: Option<String>,
}

pub fn definition() -> Command {
    super::command::<Options>("touch", false)
        .visible_alias("heartbeat")
        .about("Mark a lease as used, which moves its idle deadline")
        .after_help("Examples:\n  crabbox-vast touch swift-krill\n  crabbox-vast heartbeat --id swift-krill --idle-timeout 1h")
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    let lease = options.target.identifier("touch")?;
    let idle = match &options.idle_timeout {
        None => None,
        Some(text) => Some(parse_go_duration(text).filter(|idle| !idle.is_zero()).ok_or_else(|| {
            Error::new(Code::InvalidArgument, format!("--idle-timeout {text:?} is not a positive duration"))
                .hint("write it like 90s or 30m")
        })?),
    };
    let touched = session.engine()?.touch(&lease, idle, &session.call).await?;
    session.progress.pause();
    if session.json {
        let document = serde_json::to_value(&touched)
            .map_err(|error| Error::new(Code::Internal, format!("the result cannot be written: {error}")))?;
        session.printer.json(&document);
    } else {
        session.printer.line(&touched.line());
        if let Some(deadman) = &touched.deadman {
            session.progress.say(&deadman.line());
        }
    }
    Ok(0)
}

//! `status`: one lease as it stands.

use crate::advice;
use crate::args::Target;
use crate::session::Session;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::lease::{Dollars, parse_go_duration};
use crabbox_vast_engine::{Code, Error, Result};

#[derive(Debug, Args)]
struct Options {
    #[command(flatten)]
    target: Target,
    /// Wait until the lease answers over SSH
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    wait_timeout: String,
}

pub fn definition() -> Command {
    super::command::<Options>("status", false)
        .about("Show one lease: state, host, idle time, expiry, cost; changes nothing")
        .after_help("Examples:\n  crabbox-vast status swift-krill\n  crabbox-vast status --wait --wait-timeout 10m swift-krill")
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    let lease = options.target.identifier("status")?;
    let limit = parse_go_duration(&options.wait_timeout).ok_or_else(|| {
        Error::new(
            Code::InvalidArgument,
            format!("--wait-timeout {:?} is not a duration", options.wait_timeout),
        )
        .hint("write it like 90s or 5m")
    })?;
    let engine = session.engine()?;
    let status = if options.wait {
        engine.status_wait(&lease, limit, &session.call).await?
    } else {
        engine.status(&lease, &session.call).await?
    };
    session.progress.pause();
    if session.json {
        session.printer.json(&status.to_json());
    } else {
        session.printer.line(&status.line());
        if let Some(deadman) = &status.deadman {
            session.progress.say(&deadman.line());
        }
        if let Some(cost) = status.accrued_dollars {
            session.progress.say(&format!("cost so far: at most {}", Dollars(cost)));
        }
        if let Some(end) = &status.contract_ends_at {
            session.progress.say(&format!("contract of its host: until {end}"));
        }
        if let Some(advice) = &status.advice {
            let advice = advice::typed(advice, session.is_simulation());
            session.progress.say(&format!("hint: {advice}"));
        }
    }
    Ok(0)
}

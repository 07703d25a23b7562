//! `warmup`: a lease that stays.

use crate::progress::duration;
use crate::session::Session;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::lease::go_duration;
use crabbox_vast_engine::ops::{AcquireRequest, TimingReport};
use crabbox_vast_engine::{Code, Error, Result};
use std::time::{Duration, Instant, UNIX_EPOCH};

#[derive(Debug, Args)]
struct Options {
    /// Keep the lease until it is stopped; `--keep=false` lets cleanup sweep it once it expired
    #[arg(
        long,
        action = clap::ArgAction::Set,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value = "true",
        value_parser = go_boolean
    )]
    keep: bool,
    /// Name of the lease; a taken one gets a suffix
    #[arg(long)]
    slug: Option<String>,
    /// Lease id of your choice (cbx_ and 12 hex digits): repeating the command with it gets the same lease
    #[arg(long, value_name = "LEASE_ID")]
    lease_id: Option<String>,
    /// End standard error with the times as one JSON document
    #[arg(long)]
    timing_json: bool,
}

fn go_boolean(text: &str) -> std::result::Result<bool, String> {
    crate::args::boolean(text).ok_or_else(|| "use true or false".to_owned())
}

pub fn definition() -> Command {
    super::command::<Options>("warmup", true).about("Lease a machine and leave it running").after_help(
        "Examples:\n  crabbox-vast warmup --vast-gpu-name RTX_4090 --vast-max-dph-total 0.6\n  \
             crabbox-vast warmup --slug trainer --ttl 8h --max-cost 5\n  \
             crabbox-vast warmup --vast-instance-type interruptible --bid 0.25\n  crabbox-vast run --id trainer -- nvidia-smi\n  \
             crabbox-vast stop trainer\n\n\
             The machine is billed until it is stopped: `crabbox-vast stop <slug>`.",
    )
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    let began = Instant::now();
    let request = AcquireRequest { keep: options.keep, slug: options.slug, lease_id: options.lease_id };
    let lease = session.engine()?.acquire(&request, &session.call).await?;
    let total = began.elapsed();
    session.progress.pause();
    let facts = &if session.json { lease.facts_now(&session.call).await } else { lease.facts().clone() };
    if session.json {
        let mut document = serde_json::to_value(facts)
            .map_err(|error| Error::new(Code::Internal, format!("the lease cannot be written: {error}")))?;
        document["totalMs"] = u64::try_from(total.as_millis()).unwrap_or(u64::MAX).into();
        session.printer.json(&document);
    } else {
        let expires = facts.expires_at.and_then(|at| u64::try_from(at).ok()).map_or_else(
            || "-".to_owned(),
            |at| crabbox_vast_engine::lease::rfc3339(UNIX_EPOCH + Duration::from_secs(at)),
        );
        session.printer.line(&format!(
            "leased {} slug={} provider=vast server={} type={} ip={} idle_timeout={} expires={expires}",
            facts.id,
            facts.slug,
            facts.instance,
            facts.gpu,
            facts.endpoint.host,
            go_duration(Duration::from_secs(facts.idle_timeout_secs)),
        ));
        session.printer.line(&format!(
            "ready ssh={}@{}:{} network=public workroot={}",
            facts.user, facts.endpoint.host, facts.endpoint.port, facts.work_root
        ));
        session.printer.line(&format!("warmup complete total={}", duration(total.as_secs_f64())));
    }
    if session.is_fleeting() {
        session.progress.say(
            "the simulator ends with this command, and the lease with it; \
             to keep it, start `crabbox-vast sim` in another terminal first",
        );
    } else if let Some(price) = facts.price {
        let stop = format!("crabbox-vast stop {}{}", facts.slug, session.suffix());
        session.progress.say(&format!("billed at {price}, {:.2} $ a day, until `{stop}`", price.0 * 24.0));
    }
    // What else ends it, as it is with this very lease.
    let deadman = if session.json { facts.deadman.clone() } else { lease.deadman(&session.call).await };
    session.progress.say(&deadman.line());
    if options.timing_json {
        let timing = TimingReport::of_warmup(facts, total);
        session.printer.note(&super::run::document(&timing)?.to_string());
    }
    Ok(0)
}

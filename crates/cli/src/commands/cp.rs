//! `cp`: files and folders to a lease and back.

use crate::progress::duration;
use crate::session::Session;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::ops::CopyRequest;
use crabbox_vast_engine::sync::guard::human_bytes;
use crabbox_vast_engine::{Code, Error, Result};

#[derive(Debug, Args)]
struct Options {
    /// What to copy: a path here, or `lease:path`
    #[arg(value_name = "FROM")]
    from: String,
    /// Where to: a path here, or `lease:path`
    #[arg(value_name = "TO")]
    to: String,
    /// The lease that SANDBOX means in `SANDBOX:path`
    #[arg(long, value_name = "LEASE")]
    id: Option<String>,
    /// Take over a lease that another repository made
    #[arg(long)]
    reclaim: bool,
}

pub fn definition() -> Command {
    super::command::<Options>("cp", false)
        .about("Copy files and folders to a lease or from it")
        .override_usage("crabbox-vast cp [flags] <from> <to>")
        .after_help(
            "Examples:\n  crabbox-vast cp ./data swift-krill:data\n  \
             crabbox-vast cp swift-krill:out/model.bin ./models/\n  \
             crabbox-vast cp ./setup.sh swift-krill:/root/\n\n\
             One side names a lease (id, slug or instance id) before a colon; relative paths there are below the\n\
             lease's folder of this repository. Folders are copied whole; `folder/.` means what is in it.",
        )
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let Options { from, to, id, reclaim } = super::read(matches)?;
    let sandboxes = [&from, &to].into_iter().filter(|side| side.starts_with("SANDBOX:")).count();
    if id.is_some() && sandboxes != 1 {
        return Err(Error::new(
            Code::InvalidArgument,
            "--id names a lease, and not exactly one path is written SANDBOX:path",
        )
        .hint("for example: crabbox-vast cp --id swift-krill ./data SANDBOX:data"));
    }
    let named = |side: String| match (&id, side.strip_prefix("SANDBOX:")) {
        (Some(lease), Some(path)) => format!("{lease}:{path}"),
        _ => side,
    };
    let (from, to) = (named(from), named(to));
    let copied = session.engine()?.copy(&CopyRequest { from, to, reclaim }, &session.call).await?;
    session.progress.pause();
    if session.json {
        let document = serde_json::to_value(&copied)
            .map_err(|error| Error::new(Code::Internal, format!("the result cannot be written: {error}")))?;
        session.printer.json(&document);
    } else {
        session.printer.line(&format!(
            "copied {} -> {} files={} bytes={} in {}",
            copied.from,
            copied.to,
            copied.files,
            human_bytes(copied.bytes),
            duration(copied.seconds)
        ));
    }
    Ok(0)
}

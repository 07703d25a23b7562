//! `ssh`: prints the command that logs in.

use crate::args::Target;
use crate::session::Session;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::{Code, Error, Result};

#[derive(Debug, Args)]
struct Options {
    #[command(flatten)]
    target: Target,
    /// Take over a lease that another repository made
    #[arg(long)]
    reclaim: bool,
    /// Accepted: the command holds no secret, only the path of a key.
    #[arg(long, hide = true)]
    show_secret: bool,
}

pub fn definition() -> Command {
    super::command::<Options>("ssh", false)
        .about("Print the ssh command that logs in to a lease")
        .after_help("Examples:\n  crabbox-vast ssh swift-krill\n  eval \"$(crabbox-vast ssh swift-krill)\"")
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    let lease = options.target.identifier("ssh")?;
    let command = session.engine()?.ssh_command(&lease, options.reclaim, &session.call).await?;
    session.progress.pause();
    if session.json {
        let document = serde_json::to_value(&command)
            .map_err(|error| Error::new(Code::Internal, format!("the command cannot be written: {error}")))?;
        session.printer.json(&document);
    } else {
        session.printer.line(&command.line());
    }
    Ok(0)
}

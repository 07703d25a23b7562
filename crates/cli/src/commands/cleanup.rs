//! `cleanup`: finishes what was left behind, and gives expired leases back.

use crate::args::pond;
use crate::session::Session;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::Result;
use crabbox_vast_engine::ops::CleanupRequest;

#[derive(Debug, Args)]
struct Options {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

pub fn definition() -> Command {
    super::command::<Options>("cleanup", false)
        .arg(pond())
        .about("Finish what died processes left behind, destroy expired leases, forget those that are gone")
        .after_help(
            "Examples:\n  crabbox-vast cleanup --dry-run\n  crabbox-vast cleanup --json\n\n\
             Kept leases stay, and so does every instance without a matching claim on this machine. The exit code is 0 \
             when everything was done; a refusal or failure of one lease holds up no other. \
             A dry run shows what would be refused and exits with 0.",
        )
}

/// `machine cleanup`, as crabbox calls it too.
pub fn machine() -> Command {
    Command::new("machine")
        .about("The same as `cleanup`")
        .hide(true)
        .subcommand_required(true)
        .subcommand(definition())
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    let cleaned =
        session.engine()?.cleanup(&CleanupRequest { dry_run: options.dry_run }, &session.call).await?;
    session.progress.pause();
    if session.json {
        session.printer.json(&cleaned.to_json());
    } else {
        for item in &cleaned.items {
            session.printer.note(&item.line());
            match item.error_message() {
                Some(message) if cleaned.dry_run => {
                    session.printer.note(&format!("cleanup: would not be done: {message}"));
                }
                Some(message) => session.printer.note(message),
                None => {}
            }
        }
        for problem in &cleaned.problems {
            session.printer.note(&format!("warning: {problem}"));
        }
        session.printer.note(&cleaned.line());
    }
    Ok(cleaned.failure().map_or(0, |failure| failure.exit_code()))
}

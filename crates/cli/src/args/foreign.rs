//! Flags of crabbox's `run` that ours reads only to say what becomes of them.

use clap::{Arg, ArgAction, ArgMatches, Command};
use crabbox_vast_engine::{Code, Error, Result};

/// Refused: what they ask for does not exist here, and leaving it out in silence would be wrong. The name, whether it
/// takes a value, and why.
const REFUSED: &[(&str, bool, &str)] = &[
    ("pool", true, "pools need crabbox's coordinator"),
    ("pool-return", true, "pools need crabbox's coordinator"),
    ("pool-compatibility-key", true, "pools need crabbox's coordinator"),
    ("pool-identity-file", true, "pools need crabbox's coordinator"),
    ("lease-output", true, "`warmup --json` prints the lease as a document"),
    ("junit", true, "fetch the report with --download"),
    ("results-auto", false, "fetch reports with --download"),
    ("fail-on-test-failures", false, "the exit code of the command is passed on"),
    ("preflight", false, "look at the machine with `connect`"),
    ("preflight-tools", true, "look at the machine with `connect`"),
    ("fresh-pr", true, "check the pull request out here and run"),
    ("apply-local-patch", false, "check the pull request out here and run"),
    ("env-helper", true, "hand variables over with --allow-env"),
    ("env-from-profile", true, "load the file into the environment and use --allow-env"),
    ("preset", true, "write the command out"),
    ("preset-var", true, "write the command out"),
    ("scenario", true, "write the command out"),
    ("emit-proof", true, "`run --json` prints what was done as a document"),
    ("proof-template", true, "`run --json` prints what was done as a document"),
    ("attest", true, "`run --json` prints what was done as a document"),
    ("attest-key", true, "`run --json` prints what was done as a document"),
    ("capture-on-fail", false, "keep the streams with --capture-stdout and --capture-stderr"),
    ("timing-record", true, "use --timing-json"),
    ("artifact-glob", true, "fetch files with --download"),
    ("require-artifact", true, "fetch files with --download, which fails without them"),
    ("require-artifact-schema", true, "fetch files with --download"),
];

/// Accepted without effect: they leave out what is never done here.
const ACCEPTED: &[&str] = &["no-hydrate", "debug"];

/// Adds them to a command, hidden.
pub fn flags(command: Command) -> Command {
    let refused = REFUSED.iter().map(|(name, valued, _)| {
        let action = if *valued { ArgAction::Append } else { ArgAction::SetTrue };
        Arg::new(*name).long(*name).action(action).hide(true)
    });
    let accepted =
        ACCEPTED.iter().map(|name| Arg::new(*name).long(*name).action(ArgAction::SetTrue).hide(true));
    command.args(refused).args(accepted)
}

/// Refuses what was given of them.
pub fn check(matches: &ArgMatches) -> Result<()> {
    let given = |name: &str| matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine);
    match REFUSED.iter().find(|(name, ..)| given(name)) {
        None => Ok(()),
        Some((name, _, instead)) => {
            Err(Error::new(Code::InvalidArgument, format!("provider=vast does not support run --{name}"))
                .hint(*instead))
        }
    }
}

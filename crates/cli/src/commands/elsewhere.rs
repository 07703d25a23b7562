//! Commands of crabbox that no Vast machine answers: they are read so that the refusal can say what to use.

use crate::printer::Printer;
use clap::{Arg, ArgAction, ArgMatches, Command};
use crabbox_vast_engine::{Code, Error};

/// Each command, and what to use in its place.
const COMMANDS: &[(&str, &str)] = &[
    ("pause", "`stop --vast-release-action stop <lease>` stops a lease, whose disk is billed on"),
    ("resume", "`start <lease>` starts a stopped lease"),
    ("ports", "`tunnel <lease> <port>` forwards a port of the machine to this one"),
    ("checkpoint", "`cp <lease>:<folder> <folder>` brings files back; a stopped lease keeps its disk"),
];

/// Their definitions, hidden.
pub fn definitions() -> impl Iterator<Item = Command> {
    COMMANDS.iter().map(|(name, _)| {
        let words = Arg::new("words")
            .action(ArgAction::Append)
            .num_args(0..)
            .trailing_var_arg(true)
            .allow_hyphen_values(true)
            .hide(true);
        Command::new(*name).about("Not for Vast.ai machines").hide(true).arg(words)
    })
}

/// Refuses the command, if it is one of them; the exit code.
pub fn refuse(name: &str, matches: &ArgMatches, printer: &Printer) -> Option<u8> {
    let (name, instead) = COMMANDS.iter().find(|(known, _)| *known == name)?;
    let json = matches
        .get_many::<String>("words")
        .unwrap_or_default()
        .any(|word| matches!(word.as_str(), "--json" | "-json"));
    let error =
        Error::new(Code::InvalidArgument, format!("provider=vast does not support {name}")).hint(*instead);
    Some(printer.failure(&error, json))
}

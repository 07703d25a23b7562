//! What can be typed.

pub mod foreign;
mod go;
mod lease;
mod settings;

pub use go::boolean;
pub use lease::{Common, Target, pond};
pub use settings::{flags, overrides, paying};

use crate::commands;
use crate::printer::Printer;
use clap::error::ErrorKind;
use clap::{ArgMatches, Command};
use crabbox_vast_engine::{Code, EXITS, Error};
use std::ffi::OsString;

const SETTINGS: &str = "\
Settings come from the defaults, your config.yaml (`crabbox-vast config path`),
crabbox.yaml and .crabbox.yaml here, the environment and the flags, later ones
winning; `crabbox-vast config show --origin` tells which came from where.";

fn exit_codes() -> String {
    EXITS.iter().map(|(code, meaning)| format!("  {code:<5}{meaning}\n")).collect()
}

/// The whole command line.
pub fn definition() -> Command {
    Command::new("crabbox-vast")
        .about("Leases a Vast.ai GPU machine over SSH, runs commands on it and gives it back")
        .long_about(
            "Leases a Vast.ai GPU machine over SSH, runs commands on it and gives it back.\n\n\
             Leases, keys and configuration are those of crabbox, so that both programs can take turns on one lease. \
             Try everything without an account: add --sim.",
        )
        .version(env!("CARGO_PKG_VERSION"))
        .after_help("Example:\n  crabbox-vast run --sim -- nvidia-smi")
        .after_long_help(format!(
            "Examples:\n  \
             crabbox-vast run --sim -- nvidia-smi             try it on a simulated machine\n  \
             crabbox-vast doctor                              is everything in place?\n  \
             crabbox-vast offers --vast-gpu-name RTX_4090     what is for rent\n  \
             crabbox-vast run --vast-max-dph-total 0.5 -- nvidia-smi\n  \
             crabbox-vast warmup && crabbox-vast list         a lease that stays\n  \
             crabbox-vast stop swift-krill                    give it back\n\nExit codes:\n{}\n{SETTINGS}",
            exit_codes()
        ))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .infer_long_args(false)
        .args_override_self(true)
        .subcommands(commands::definitions())
}

/// Why there is nothing to run: help was asked for, or the arguments make no sense.
#[derive(Debug)]
pub struct Refused {
    error: clap::Error,
    json: bool,
}

impl Refused {
    /// Prints it; the exit code.
    pub fn show(&self, printer: &Printer) -> u8 {
        let text = self.error.render();
        if matches!(self.error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            printer.text(&text.to_string());
            return 0;
        }
        if self.json {
            let error = Error::new(Code::InvalidArgument, self.message()).hint(self.hint());
            printer.json(&error.to_json());
        } else {
            printer.note(text.to_string().trim_end());
        }
        2
    }
}

impl Refused {
    /// What is wrong, in one line: the parser's text up to its remarks.
    fn message(&self) -> String {
        let missing = [ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ErrorKind::MissingSubcommand];
        if missing.contains(&self.error.kind()) {
            return "the command is missing".to_owned();
        }
        let text = self.error.render().to_string();
        let text = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The parser's own advice, where it has one.
    fn hint(&self) -> String {
        let text = self.error.render().to_string();
        let tip = text.lines().find_map(|line| line.trim_start().strip_prefix("tip: "));
        tip.map_or_else(|| "see --help".to_owned(), |tip| format!("{tip}; see --help"))
    }
}

/// Reads the arguments.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<ArgMatches, Refused> {
    let mut definition = definition();
    definition.build();
    let argv = go::rewrite(&definition, argv);
    let json = argv.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    definition.try_get_matches_from(argv).map_err(|error| Refused { error, json })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> ArgMatches {
        parse(line.split(' ').map(OsString::from))
            .unwrap_or_else(|refused| panic!("{line}: {}", refused.error))
    }

    #[test]
    fn the_definitions_are_sound() {
        definition().debug_assert();
    }

    #[test]
    fn go_flags_and_flags_anywhere() {
        let matches = read("crabbox-vast warmup -provider vast -json -keep=false -vast-disk-gb -5 -ttl 1h");
        let (name, warmup) = matches.subcommand().unwrap();
        assert_eq!(name, "warmup");
        assert_eq!(warmup.get_one::<String>("vast-disk-gb").unwrap(), "-5");
        assert_eq!(warmup.get_one::<String>("provider").unwrap(), "vast");
        assert!(warmup.get_flag("json"));
        let matches = read("crabbox-vast status swift-krill --json --wait");
        assert!(matches.subcommand().unwrap().1.get_flag("json"));
    }

    #[test]
    fn usage_errors_exit_with_2() {
        for line in ["crabbox-vast nonsense", "crabbox-vast list --nonsense", "crabbox-vast stop a b"] {
            let refused = parse(line.split(' ').map(OsString::from)).unwrap_err();
            assert_eq!(refused.error.exit_code(), 2, "{line}");
        }
    }
}

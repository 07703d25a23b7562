//! `completions` and `man`: what is generated from the definitions of the commands.

use crate::args;
use crate::printer::Printer;
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use crabbox_vast_engine::{Code, Error, Result};

pub fn completions() -> Command {
    Command::new("completions")
        .about("Print the completion script of a shell")
        .arg(Arg::new("shell").required(true).value_parser(value_parser!(Shell)).help("The shell"))
        .arg(json())
        .after_help(
            "Examples:\n  \
             crabbox-vast completions bash > ~/.local/share/bash-completion/completions/crabbox-vast\n  \
             crabbox-vast completions zsh > ~/.zfunc/_crabbox-vast\n  \
             crabbox-vast completions fish > ~/.config/fish/completions/crabbox-vast.fish\n  \
             crabbox-vast completions powershell >> $PROFILE",
        )
}

pub fn man() -> Command {
    Command::new("man")
        .about("Print the manual page, of the program or of one command")
        .arg(
            Arg::new("command")
                .num_args(0..)
                .value_name("COMMAND")
                .help("The command, such as `run` or `config show`"),
        )
        .arg(json())
        .after_help("Examples:\n  crabbox-vast man | man -l -\n  crabbox-vast man run > crabbox-vast-run.1")
}

fn json() -> Arg {
    Arg::new("json")
        .long("json")
        .action(clap::ArgAction::SetTrue)
        .help("Print one JSON document that holds the text")
}

pub fn run_completions(matches: &ArgMatches, printer: &Printer) -> Result<()> {
    let Some(shell) = matches.get_one::<Shell>("shell") else {
        return Err(Error::new(Code::Internal, "no shell was read"));
    };
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut args::definition(), "crabbox-vast", &mut script);
    print(matches, printer, "script", &script);
    Ok(())
}

pub fn run_man(matches: &ArgMatches, printer: &Printer) -> Result<()> {
    let mut root = args::definition();
    root.build();
    let mut command = &root;
    for name in matches.get_many::<String>("command").into_iter().flatten() {
        command = command.find_subcommand(name).ok_or_else(|| {
            Error::new(Code::InvalidArgument, format!("there is no command {name}"))
                .hint("`crabbox-vast --help` lists the commands")
        })?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().version(env!("CARGO_PKG_VERSION")))
        .render(&mut page)
        .map_err(|error| Error::new(Code::Internal, format!("the page cannot be written: {error}")))?;
    print(matches, printer, "page", &page);
    Ok(())
}

fn print(matches: &ArgMatches, printer: &Printer, name: &str, text: &[u8]) {
    if matches.get_flag("json") {
        printer.json(&serde_json::json!({ name: String::from_utf8_lossy(text) }));
    } else {
        printer.out(text);
    }
}

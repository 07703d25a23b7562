//! The reference of all commands, `docs/commands.md`: what `--help` says of each. A flag that comes or goes shows there.

use crate::args;
use clap::Command;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/commands.md");

const HEAD: &str = "# Every command

What `--help` says of each command, written by a test (`CRABBOX_VAST_WRITE_DOCUMENTS=1 cargo test -p crabbox-vast-cli reference`).
The pages in [commands/](commands/) explain. The flags under *Settings* are those of the configuration; every one of them has a
default, a place in the configuration file and an environment variable.
";

fn page() -> String {
    let mut root = args::definition().term_width(110);
    root.build();
    let mut out = HEAD.to_owned();
    write(&mut root, &mut out);
    out
}

fn write(command: &mut Command, out: &mut String) {
    let title = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    out.push_str(&format!("\n## {title}\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
    for inner in command.get_subcommands_mut() {
        if !inner.is_hide_set() && inner.get_name() != "help" {
            write(inner, out);
        }
    }
}

#[test]
fn the_reference_is_in_step() {
    let wanted = page();
    if std::env::var_os("CRABBOX_VAST_WRITE_DOCUMENTS").is_some() {
        std::fs::write(PATH, &wanted).unwrap();
        return;
    }
    let found = std::fs::read_to_string(PATH).unwrap_or_default();
    let apart = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
    assert!(
        found == wanted,
        "docs/commands.md is not in step (first difference: {apart:?}): CRABBOX_VAST_WRITE_DOCUMENTS=1 writes it anew"
    );
}

#[test]
fn every_command_says_what_it_does() {
    fn check(command: &Command) {
        let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
        assert!(command.get_about().is_some(), "{name} says nothing of itself");
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            assert!(arg.get_help().is_some(), "{name} does not explain {}", arg.get_id());
        }
        command.get_subcommands().for_each(check);
    }
    let mut root = args::definition();
    root.build();
    check(&root);
}

//! What a user is told to type, as it has to be typed: in a simulation with `--sim`.

use crate::commands;
use clap::Command;
use crabbox_vast_engine::{Error, Event};

/// The commands of a text, which stand in backticks, as they have to be typed, in a simulation or outside one.
pub fn typed(text: &str, simulation: bool) -> String {
    let mut parts: Vec<String> = text.split('`').map(str::to_owned).collect();
    // A backtick without a partner quotes nothing.
    let quoted = if parts.len() % 2 == 1 { parts.len() / 2 } else { 0 };
    for part in parts.iter_mut().skip(1).step_by(2).take(quoted) {
        // Behind `--` everything belongs to the remote command.
        let own = part.find(" -- ").unwrap_or(part.len());
        let mut words = part[..own].split(' ').skip_while(|word| *word == PROGRAM);
        let name = words.next().filter(|name| is_ours(name));
        // A word alone may be something else: a release action, a value.
        if name.is_none_or(|name| part == name && !ALONE.contains(&name)) {
            continue;
        }
        if simulation && !words.any(|word| word == "--sim") {
            part.insert_str(own, " --sim");
        }
        if !part.starts_with(PROGRAM) {
            part.insert_str(0, &format!("{PROGRAM} "));
        }
    }
    parts.join("`")
}

/// Commands that need nothing behind their name.
const ALONE: &[&str] = &["list", "cleanup", "doctor", "offers", "warmup"];

const PROGRAM: &str = "crabbox-vast";

/// Whether it is a command that talks to Vast, and so takes `--sim`.
fn is_ours(name: &str) -> bool {
    fn has(command: &Command) -> bool {
        command.get_arguments().any(|arg| arg.get_id() == "sim") || command.get_subcommands().any(has)
    }
    commands::definitions().iter().any(|command| command.get_name() == name && has(command))
}

/// A failure with a hint that can be typed as it stands.
pub fn on_failure(error: Error, simulation: bool) -> Error {
    match error.hint_text().map(|hint| typed(hint, simulation)) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// The same for what is told on the way.
pub fn on_event(event: Event, simulation: bool) -> Event {
    match event {
        Event::Warning { message } => Event::Warning { message: typed(&message, simulation) },
        event => event,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_of_ours_are_completed() {
        for (told, expected) in [
            ("`stop one` gives it back", "`crabbox-vast stop one --sim` gives it back"),
            (
                "see `crabbox-vast list`, or `list --all`",
                "see `crabbox-vast list --sim`, or `crabbox-vast list --all --sim`",
            ),
            ("run `run --id one -- ls --sim`", "run `crabbox-vast run --id one --sim -- ls --sim`"),
            (
                "`claims list` and `config show`",
                "`crabbox-vast claims list --sim` and `crabbox-vast config show --sim`",
            ),
            ("`stop one --sim`", "`crabbox-vast stop one --sim`"),
            ("`sim`, `stopped`, `ssh-keygen -R x` and stop", "`sim`, `stopped`, `ssh-keygen -R x` and stop"),
            ("`stop` or `keep`, `cleanup`", "`stop` or `keep`, `crabbox-vast cleanup --sim`"),
            ("one ` and no other stop", "one ` and no other stop"),
            ("", ""),
        ] {
            assert_eq!(typed(told, true), expected);
        }
        assert_eq!(
            typed("`stop one`, `run --id one -- ls`", false),
            "`crabbox-vast stop one`, `crabbox-vast run --id one -- ls`"
        );
    }
}

//! What a user is told to type, as it has to be typed: in a simulation with `--sim`.

use crate::commands;
use clap::Command;
use crabbox_vast_engine::{Error, Event};

/// The commands of a text, which stand in backticks, with `--sim` where they take it and lack it.
fn simulated(text: &str) -> String {
    let mut parts: Vec<String> = text.split('`').map(str::to_owned).collect();
    // A backtick without a partner quotes nothing.
    let quoted = if parts.len() % 2 == 1 { parts.len() / 2 } else { 0 };
    for part in parts.iter_mut().skip(1).step_by(2).take(quoted) {
        // Behind `--` everything belongs to the remote command.
        let own = part.find(" -- ").unwrap_or(part.len());
        let mut words = part[..own].split(' ').skip_while(|word| *word == "crabbox-vast");
        if words.next().is_some_and(takes_sim) && !words.any(|word| word == "--sim") {
            part.insert_str(own, " --sim");
        }
    }
    parts.join("`")
}

fn takes_sim(name: &str) -> bool {
    fn has(command: &Command) -> bool {
        command.get_arguments().any(|arg| arg.get_id() == "sim") || command.get_subcommands().any(has)
    }
    commands::definitions().iter().any(|command| command.get_name() == name && has(command))
}

/// The same text as it has to be typed, in a simulation or outside one.
pub fn typed(text: &str, simulation: bool) -> String {
    if simulation { simulated(text) } else { text.to_owned() }
}

/// A failure in a simulation, with a hint that can be typed as it stands.
pub fn on_failure(error: Error) -> Error {
    match error.hint_text().map(simulated) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// The same for what is told on the way.
pub fn on_event(event: Event) -> Event {
    match event {
        Event::Warning { message } => Event::Warning { message: simulated(&message) },
        event => event,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_of_ours_are_completed() {
        for (told, typed) in [
            ("`stop one` gives it back", "`stop one --sim` gives it back"),
            (
                "see `crabbox-vast list`, or `list --all`",
                "see `crabbox-vast list --sim`, or `list --all --sim`",
            ),
            ("run `run --id one -- ls --sim`", "run `run --id one --sim -- ls --sim`"),
            ("`claims list` and `config show`", "`claims list --sim` and `config show --sim`"),
            ("`stop one --sim`", "`stop one --sim`"),
            ("`sim`, `stopped`, `ssh-keygen -R x` and stop", "`sim`, `stopped`, `ssh-keygen -R x` and stop"),
            ("one ` and no other stop", "one ` and no other stop"),
            ("", ""),
        ] {
            assert_eq!(simulated(told), typed);
        }
    }
}

//! Accepts flags as Go programs take them: `-json`, `-provider vast`, `--keep=false`.

use clap::{Arg, ArgAction, Command};
use std::ffi::OsString;

/// Rewrites arguments into the form that the parser takes. `root` must be built.
///
/// Nothing behind `--` is touched, nor behind the first word of a command that is to run on the instance.
pub fn rewrite(root: &Command, argv: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = argv.into_iter();
    let mut out: Vec<OsString> = words.next().into_iter().collect();
    let mut command = root;
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default();
        if text == "--" {
            out.push(word);
            break;
        }
        if text.len() > 1 && text.starts_with('-') {
            let body = text.strip_prefix("--").unwrap_or(&text[1..]);
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (body, None),
            };
            match long(command, name) {
                Some(arg) => flag(&mut out, arg, name, value, &mut words),
                None => out.push(word),
            }
        } else if let Some(inner) = command.find_subcommand(text) {
            command = inner;
            out.push(word);
        } else if command.get_name() == "run" {
            out.extend(["--".into(), word]);
            break;
        } else {
            out.push(word);
        }
    }
    out.extend(words);
    out
}

fn flag(
    out: &mut Vec<OsString>,
    arg: &Arg,
    name: &str,
    value: Option<&str>,
    words: &mut impl Iterator<Item = OsString>,
) {
    let plain = OsString::from(format!("--{name}"));
    let takes = arg.get_action().takes_values();
    let needs = takes && arg.get_num_args().is_none_or(|range| range.min_values() > 0);
    match value {
        Some(value) if !takes && matches!(arg.get_action(), ArgAction::SetTrue) => match boolean(value) {
            Some(true) => out.push(plain),
            // The last word counts, so a `false` also takes back what stood before it.
            Some(false) => out.retain(|word| *word != plain),
            None => out.push(format!("--{name}={value}").into()),
        },
        Some(value) => out.push(format!("--{name}={value}").into()),
        None if needs => match words.next() {
            // One word, so that a value may begin with a dash.
            Some(value) => {
                let mut joined = plain;
                joined.push("=");
                joined.push(value);
                out.push(joined);
            }
            None => out.push(plain),
        },
        None => out.push(plain),
    }
}

fn long<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    })
}

/// What Go takes for a boolean.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> String {
        let mut definition = crate::args::definition();
        definition.build();
        let words = rewrite(&definition, line.split(' ').map(OsString::from));
        words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn single_dashes_and_booleans() {
        for (line, want) in [
            ("x list -json", "x list --json"),
            ("x list --json=false --all", "x list --all"),
            ("x list --json --json=0", "x list"),
            ("x list --json=true", "x list --json"),
            ("x list --json=maybe", "x list --json=maybe"),
            ("x list -provider vast", "x list --provider=vast"),
            ("x list -vast-disk-gb -5", "x list --vast-disk-gb=-5"),
            ("x warmup -keep=false", "x warmup --keep=false"),
            ("x warmup -keep -json", "x warmup --keep --json"),
            ("x stop -q -id a", "x stop -q --id=a"),
            ("x -version", "x --version"),
            ("x config show -json", "x config show --json"),
            ("x list -provider", "x list --provider"),
            ("x list -nonsense a", "x list -nonsense a"),
        ] {
            assert_eq!(rewritten(line), want, "{line}");
        }
    }

    #[test]
    fn the_remote_command_is_left_alone() {
        for (line, want) in [
            ("x run -id a -- ls -json", "x run --id=a -- ls -json"),
            ("x run -no-sync nvidia-smi -json -- -L", "x run --no-sync -- nvidia-smi -json -- -L"),
            ("x run -- config -json", "x run -- config -json"),
        ] {
            assert_eq!(rewritten(line), want, "{line}");
        }
    }
}

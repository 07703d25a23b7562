//! The text of remote commands: quoting, working folder, environment.

use crate::{Code, Error, Result};
use std::collections::BTreeMap;

/// What is to run on the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// A program with arguments; no shell looks at them.
    Argv(Vec<String>),
    /// Text for a shell.
    Shell(String),
}

impl Script {
    /// The words of a command line the way crabbox takes them: a single word with shell characters, control operators
    /// standing alone, or a leading `NAME=value` mean a shell.
    #[must_use]
    pub fn from_words(words: Vec<String>) -> Self {
        const OPERATORS: &[&str] = &["&&", "||", ";", "|", "&", ">", ">>", "<", "2>", "2>&1"];
        const SHELL_CHARACTERS: &[char] = &[
            ' ', '\t', '\n', ';', '&', '|', '<', '>', '(', ')', '$', '`', '"', '\'', '*', '?', '[', '{', '~',
        ];
        let single = words.len() == 1 && words[0].contains(SHELL_CHARACTERS);
        let operators = words.iter().any(|word| OPERATORS.contains(&word.as_str()));
        let assignment = words.first().is_some_and(|word| is_assignment(word));
        if single || operators || assignment { Self::Shell(words.join(" ")) } else { Self::Argv(words) }
    }

    /// How the command is shown to people.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Argv(words) => words.iter().map(|word| quote_lossy(word)).collect::<Vec<_>>().join(" "),
            Self::Shell(text) => text.clone(),
        }
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        let mut characters = name.chars();
        characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// Makes the one line that is sent: create and enter `folder`, set `env`, and hand over to a login shell, `bash` where
/// there is one (images put their tools on its login path), else `sh`. Nothing else is needed on the box.
///
/// # Errors
/// [`Code::InvalidArgument`] for a NUL byte or an impossible variable name.
pub fn remote_command(folder: &str, env: &BTreeMap<String, String>, script: &Script) -> Result<String> {
    let mut line = format!("umask 077; mkdir -p {0} && cd {0} || exit 97; ", quote(folder)?);
    for (name, value) in env {
        if !is_assignment(&format!("{name}=")) {
            return Err(Error::new(Code::InvalidArgument, format!("`{name}` is not a variable name"))
                .hint("names have letters, digits and underscores, and do not begin with a digit"));
        }
        line.push_str(&format!("export {name}={}; ", quote(value)?));
    }
    let (inner, words) = match script {
        Script::Shell(text) => (format!("cd {} && {{\n{text}\n}}", quote(folder)?), String::new()),
        Script::Argv(words) => {
            if words.is_empty() {
                return Err(Error::new(Code::InvalidArgument, "the command is empty")
                    .hint("give the program and its arguments"));
            }
            let quoted = words.iter().map(|word| quote(word)).collect::<Result<Vec<_>>>()?;
            (format!("cd {} && exec \"$@\"", quote(folder)?), format!(" {}", quoted.join(" ")))
        }
    };
    let inner = quote(&inner)?;
    line.push_str(&format!(
        "if command -v bash >/dev/null 2>&1; then exec bash -lc {inner} bash{words}; else exec sh -lc {inner} sh{words}; fi"
    ));
    Ok(line)
}

/// One word for a POSIX shell.
///
/// # Errors
/// [`Code::InvalidArgument`] for a NUL byte, which no command line can carry.
pub fn quote(word: &str) -> Result<String> {
    shlex::try_quote(word).map(std::borrow::Cow::into_owned).map_err(|_| {
        Error::new(Code::InvalidArgument, "a command line cannot carry a NUL byte")
            .hint("send such data over standard input")
    })
}

fn quote_lossy(word: &str) -> String {
    quote(word).unwrap_or_else(|_| word.replace('\0', "?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &str, env: &[(&str, &str)], script: &Script) -> String {
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let line = remote_command(folder, &env, script).expect("quotable");
        let out = std::process::Command::new("sh").args(["-c", &line]).output().expect("sh runs");
        String::from_utf8(out.stdout).expect("utf-8")
    }

    #[test]
    fn arguments_arrive_as_they_are() {
        let dir = tempfile::tempdir().expect("temp dir");
        let folder = dir.path().join("a b'c").display().to_string();
        let words =
            ["printf", "[%s]", "a b", "$HOME", "it's", "", "new\nline", "ü"].map(String::from).to_vec();
        assert_eq!(run(&folder, &[], &Script::Argv(words)), "[a b][$HOME][it's][][new\nline][ü]");
        let text = "printf '%s|' \"$PWD\" \"$X\"; exit 0";
        assert_eq!(run(&folder, &[("X", "1 '2")], &Script::Shell(text.into())), format!("{folder}|1 '2|"));
    }

    #[test]
    fn bad_names_and_bytes_are_refused() {
        let env = BTreeMap::from([("A B".to_owned(), String::new())]);
        assert!(remote_command("/w", &env, &Script::Shell("true".into())).is_err());
        assert!(remote_command("/w", &BTreeMap::new(), &Script::Argv(vec!["a\0".into()])).is_err());
        assert!(remote_command("/w", &BTreeMap::new(), &Script::Argv(vec![])).is_err());
    }

    #[test]
    fn words_become_shell_text_where_crabbox_does_so() {
        let words = |list: &[&str]| Script::from_words(list.iter().map(|w| (*w).to_owned()).collect());
        assert_eq!(words(&["nvidia-smi"]), Script::Argv(vec!["nvidia-smi".into()]));
        assert!(matches!(words(&["echo hi; nvidia-smi"]), Script::Shell(_)));
        assert!(matches!(words(&["a", "&&", "b"]), Script::Shell(_)));
        assert!(matches!(words(&["X=1", "env"]), Script::Shell(_)));
        assert!(matches!(words(&["sh", "-c", "exit 7"]), Script::Argv(_)));
    }
}

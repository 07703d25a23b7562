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
    /// Whether it says nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Argv(words) => words.is_empty(),
            Self::Shell(text) => text.trim().is_empty(),
        }
    }

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
            Self::Argv(words) => words.iter().map(|word| shown_word(word)).collect::<Vec<_>>().join(" "),
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

/// A command ready to be sent: the line, and what its standard input begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The one line. Everybody on the machine can read it in the list of processes.
    pub line: String,
    /// The variables, for the line to read before the command's own input.
    pub input: Vec<u8>,
}

/// Makes the one line that is sent: create and enter `folder`, set the variables, and hand over to a login shell, `bash`
/// where there is one (images put their tools on its login path), else `sh`. Nothing else is needed on the box.
///
/// The values of `env` travel on standard input, so that no list of processes shows them; `facts`, which are no secrets
/// and cannot be replaced, stand in the line.
///
/// # Errors
/// [`Code::InvalidArgument`] for a NUL byte or an impossible variable name.
pub fn prepare(
    folder: &str,
    facts: &[(&str, &str)],
    env: &BTreeMap<String, String>,
    script: &Script,
) -> Result<Prepared> {
    let mut line = format!("umask 077; mkdir -p {0} && cd {0} || exit 97; ", quote(folder)?);
    let mut input = String::new();
    for (name, value) in env {
        if !is_assignment(&format!("{name}=")) {
            return Err(Error::new(Code::InvalidArgument, format!("`{name}` is not a variable name"))
                .hint("names have letters, digits and underscores, and do not begin with a digit"));
        }
        input.push_str(&format!("export {name}={}\n", quote(value)?));
    }
    if !input.is_empty() {
        // `read` takes not one byte more than a line: what follows is the command's.
        line.push_str(&format!(
            "_n={}; _e=; while [ \"$_n\" -gt 0 ] && IFS= read -r _l; do _e=\"$_e$_l\n\"; _n=$((_n-1)); done; \
             eval \"$_e\"; unset _n _e _l; ",
            input.matches('\n').count()
        ));
    }
    for (name, value) in facts {
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
    Ok(Prepared { line, input: input.into_bytes() })
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

/// One word of a command that is shown to people: as it is where a shell would leave it alone, else in one pair of
/// single quotes. It can be pasted; a NUL byte shows as `?`.
pub(crate) fn shown_word(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:=,@%+".contains(c);
    let word = word.replace('\0', "?");
    if !word.is_empty() && word.chars().all(plain) {
        word
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn prepared(folder: &str, env: &[(&str, &str)], script: &Script) -> Result<Prepared> {
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        prepare(folder, &[("CRABBOX_SLUG", "red-krill")], &env, script)
    }

    fn run_in(shell: &str, folder: &str, env: &[(&str, &str)], script: &Script, more: &str) -> String {
        let prepared = prepared(folder, env, script).expect("quotable");
        let mut words = shell.split(' ');
        let mut child = std::process::Command::new(words.next().expect("a shell"))
            .args(words)
            .args(["-c", &prepared.line])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(&prepared.input).and_then(|()| stdin.write_all(more.as_bytes())).expect("writes");
        drop(stdin);
        String::from_utf8(child.wait_with_output().expect("ends").stdout).expect("utf-8")
    }

    #[test]
    fn arguments_arrive_as_they_are() {
        let dir = tempfile::tempdir().expect("temp dir");
        let folder = dir.path().join("a b'c").display().to_string();
        let words =
            ["printf", "[%s]", "a b", "$HOME", "it's", "", "new\nline", "ü"].map(String::from).to_vec();
        let script = Script::Argv(words);
        assert_eq!(run_in("sh", &folder, &[], &script, ""), "[a b][$HOME][it's][][new\nline][ü]");
        let script = Script::Shell("printf '%s|' \"$PWD\" \"$X\"; exit 0".into());
        assert_eq!(run_in("sh", &folder, &[("X", "1 '2")], &script, ""), format!("{folder}|1 '2|"));
    }

    #[test]
    fn variables_travel_on_standard_input_before_the_commands_own() {
        let dir = tempfile::tempdir().expect("temp dir");
        let folder = dir.path().display().to_string();
        let value = "canary \\n $HOME `id` ' \" \n.\n\n  ü\t#\\";
        let env = [("CANARY", value), ("CRABBOX_SLUG", "forged"), ("Z", "")];
        let script = Script::Shell("printf '%s|%s|' \"$CANARY\" \"$CRABBOX_SLUG\"; cat".into());
        for shell in ["dash", "bash", "busybox sh"] {
            let out = run_in(shell, &folder, &env, &script, "first\nsecond");
            assert_eq!(out, format!("{value}|red-krill|first\nsecond"), "{shell}");
        }
        let prepared = prepared(&folder, &env, &script).expect("quotable");
        assert!(!prepared.line.contains("canary"), "{}", prepared.line);
    }

    #[test]
    fn bad_names_and_bytes_are_refused() {
        let script = Script::Shell("true".into());
        assert!(prepared("/w", &[("A B", "")], &script).is_err());
        assert!(prepared("/w", &[("A", "\0")], &script).is_err());
        assert!(prepared("/w", &[], &Script::Argv(vec!["a\0".into()])).is_err());
        assert!(prepared("/w", &[], &Script::Argv(vec![])).is_err());
    }

    #[test]
    fn commands_are_shown_with_one_pair_of_quotes_where_it_takes_any() {
        let shown = |list: &[&str]| Script::Argv(list.iter().map(|w| (*w).to_owned()).collect()).shown();
        assert_eq!(
            shown(&["sh", "-c", "pwd; ls -A; env | grep ^CRABBOX; echo err >&2"]),
            "sh -c 'pwd; ls -A; env | grep ^CRABBOX; echo err >&2'"
        );
        assert_eq!(
            shown(&["echo", "it's", "", "a=b", "~/x", "ü", "a\0"]),
            "echo 'it'\\''s' '' a=b '~/x' ü 'a?'"
        );
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

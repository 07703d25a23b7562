//! Profiles: local files of `NAME=value` lines. They are read and never run, and the command receives those of their
//! variables that are allowed.

use super::sync::blocking;
use super::{Call, Engine};
use crate::config::Environment;
use crate::world::{FileKind, Local};
use crate::{Code, Error, Result};
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most a profile may hold, bytes.
const LARGEST: u64 = 1024 * 1024;
/// The most links that lead to a profile.
const LINKS: usize = 8;

impl Engine {
    /// The variables of these files, later ones winning. What is no `NAME=value` is left out with a warning.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for a file that cannot be read.
    pub(super) async fn read_profiles(&self, paths: &[PathBuf], call: &Call) -> Result<Environment> {
        let mut vars = BTreeMap::new();
        for path in paths {
            let (local, place) = (Arc::clone(&self.world.local), self.settings.cwd.join(path));
            let text = blocking(move || content(local.as_ref(), place)).await.map_err(|error| {
                let message = format!("the profile {} cannot be read: {error}", path.display());
                Error::new(Code::InvalidArgument, message).hint("it is a local file of NAME=value lines")
            })?;
            let odd = parse(&text, &mut vars);
            if !odd.is_empty() {
                let lines: Vec<String> = odd.iter().map(ToString::to_string).collect();
                call.warn(format!(
                    "lines {} of {} are left out: a profile holds NAME=value lines, and nothing in it is run",
                    lines.join(", "),
                    path.display()
                ));
            }
        }
        Ok(Environment::new(vars))
    }
}

/// The text of a file, at the end of its links.
fn content(local: &dyn Local, mut path: PathBuf) -> io::Result<String> {
    for _ in 0..LINKS {
        match local.stat(&path)? {
            Some(stat) if stat.kind == FileKind::Link => {
                path = path.parent().unwrap_or(Path::new("")).join(local.read_link(&path)?);
            }
            _ => break,
        }
    }
    let mut text = String::new();
    local.open(&path)?.take(LARGEST + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > LARGEST {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

/// Takes the variables of a text; the numbers of the lines that are none.
fn parse(text: &str, vars: &mut BTreeMap<String, String>) -> Vec<usize> {
    let mut odd = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let assignment = line.strip_prefix("export ").unwrap_or(line);
        match assignment.split_once('=').and_then(|(name, rest)| Some((name.trim(), value(rest.trim())?))) {
            Some((name, value)) if Environment::is_name(name) => {
                vars.insert(name.to_owned(), value);
            }
            _ => odd.push(at + 1),
        }
    }
    odd
}

/// One word, bare or in quotes, with a remark behind it at most; `None` for anything that a shell would have to work out.
fn value(text: &str) -> Option<String> {
    if text.contains("$(") || text.contains('`') {
        return None;
    }
    let (word, rest) = match text.chars().next() {
        Some('\'') => {
            let (word, rest) = text[1..].split_once('\'')?;
            (word.to_owned(), rest)
        }
        Some('"') => quoted(&text[1..])?,
        _ => {
            let end = text.find([' ', '\t']).unwrap_or(text.len());
            (text[..end].to_owned(), &text[end..])
        }
    };
    let remark = rest.trim_start();
    (remark.is_empty() || (remark.starts_with('#') && remark.len() < rest.len())).then_some(word)
}

/// What stands before the closing double quote, and what behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((word, &text[at + 1..])),
            '\\' => match letters.next()?.1 {
                escaped @ ('"' | '\\') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            other => word.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_and_never_run() {
        let text = "# remark\n\nA=1\nexport B = two # remark\nC='a b#c'\nD=\"say \\\"hi\\\" \\\\ $HOME\"\nE=\nF=a#b\n\
                    BAD-NAME=1\nG=$(date)\nH=`date`\nI=two words\nJ='open\nK=\"open\nL\nM='a'b\nA=last\nN='x' # r\n";
        let mut vars = BTreeMap::new();
        assert_eq!(parse(text, &mut vars), [9, 10, 11, 12, 13, 14, 15, 16]);
        let found: Vec<(&str, &str)> =
            vars.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            found,
            [
                ("A", "last"),
                ("B", "two"),
                ("C", "a b#c"),
                ("D", "say \"hi\" \\ $HOME"),
                ("E", ""),
                ("F", "a#b"),
                ("N", "x")
            ]
        );
    }
}

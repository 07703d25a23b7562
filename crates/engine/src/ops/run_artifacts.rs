//! Artifacts: the files that a run is to leave, found by shell patterns in the folder of its command and brought back
//! as one archive.

use super::Call;
use super::run_files::{Files, Form};
use super::stream::ready_input;
use crate::ssh::command::quote;
use crate::sync::{pattern, record};
use crate::{Code, Error, Result};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A shell pattern for files below the folder of a command: `*` and `?` stop at a slash, `**` stands for any folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl std::str::FromStr for Glob {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let plain = text.strip_prefix("./").unwrap_or(text);
        let leaves = plain.starts_with('/') || plain.split('/').any(|part| matches!(part, "" | "." | ".."));
        if leaves || plain.contains(['\n', '\0']) {
            return Err(Error::new(Code::InvalidArgument, format!("`{text}` names no artifacts"))
                .hint("a pattern is relative to the folder of the command: `out/*.json`, `**/report.xml`"));
        }
        Ok(Self(plain.to_owned()))
    }
}

impl Glob {
    /// Whether it names this file.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let (pattern, path): (Vec<&str>, Vec<&str>) =
            (self.0.split('/').collect(), path.split('/').collect());
        below(&pattern, &path)
    }

    /// The folder in which its files are looked for: all parts before the first with a special character.
    fn start(&self) -> String {
        let mut parts: Vec<&str> = self.0.split('/').collect();
        parts.pop();
        let literal = parts.iter().take_while(|part| !part.contains(['*', '?', '[', '\\']));
        literal.fold(".".to_owned(), |folder, part| format!("{folder}/{part}"))
    }
}

impl std::fmt::Display for Glob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn below(pattern: &[&str], path: &[&str]) -> bool {
    match pattern {
        [] => path.is_empty(),
        // Of neighbours that all stand for any folders one is enough.
        ["**", "**", ..] => below(&pattern[1..], path),
        ["**", rest @ ..] => (0..=path.len()).any(|skipped| below(rest, &path[skipped..])),
        [first, rest @ ..] => path
            .split_first()
            .is_some_and(|(name, deeper)| pattern::matches(first, name) && below(rest, deeper)),
    }
}

/// An archive that a run brought back.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Archive {
    /// Here, below the working directory.
    pub path: String,
    /// Its bytes.
    pub bytes: u64,
    /// The files in it, as paths below the folder of the command, sorted.
    pub files: Vec<String>,
}

impl Files<'_> {
    /// The files on the instance that the patterns name, as bytes: a name may hold any but NUL. crabbox's and git's own folders are never searched, nor what a
    /// link to a folder leads to; a link to a file counts as that file.
    ///
    /// # Errors
    /// [`Code::RemoteControl`], [`Code::SshLost`].
    pub async fn find(&self, globs: &[&Glob], call: &Call) -> Result<BTreeSet<Vec<u8>>> {
        let starts: BTreeSet<String> = globs.iter().map(|glob| glob.start()).collect();
        let starts: Vec<String> = starts.iter().map(|start| quote(start)).collect::<Result<_>>()?;
        let script = format!(
            "cd {} && for at in {}; do if [ -d \"$at\" ]; then find \"$at\" \\( -name .git -o -name .crabbox \\) -prune \
             -o \\( -type f -o -type l -exec test -f {{}} \\; \\) -exec sh -c {} sh {{}} +; fi; done",
            quote(self.workdir)?,
            starts.join(" "),
            // Not every find ends names with a NUL by itself.
            quote("for name do printf '%s\\000' \"$name\"; done")?
        );
        let listed = self.remote.run(&script, None, call).await?.success("looking for artifacts")?;
        let names = listed.split(|byte| *byte == 0).filter_map(|name| name.strip_prefix(b"./"));
        let wanted = |name: &&[u8]| globs.iter().any(|glob| glob.matches(&shown(name)));
        Ok(names.filter(wanted).map(<[u8]>::to_vec).collect())
    }

    /// Brings these files back in one tar archive, links as what they lead to; its size.
    ///
    /// # Errors
    /// [`Code::RemoteControl`], also where the archive cannot be written here; [`Code::SshLost`].
    pub async fn collect(
        &self,
        names: &BTreeSet<Vec<u8>>,
        target: PathBuf,
        form: Form,
        call: &Call,
    ) -> Result<u64> {
        let mut list = Vec::new();
        for name in names {
            record::quote(&[b"./", name.as_slice()].concat(), &mut list);
            list.push(b' ');
        }
        // Not every tar reads a list of names, and no shell reads one with any name in it.
        let script =
            format!("cd {} && eval \"set -- $(cat)\" && exec tar -chf - \"$@\"", quote(self.workdir)?);
        let list = Some(ready_input(list));
        self.fetch("the artifacts", &script, list, target, form, call).await
    }
}

/// The name of a file for people and patterns.
pub(super) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Why a run whose command succeeded fails all the same.
pub(super) fn missing(globs: &[&Glob]) -> Error {
    let names: Vec<String> = globs.iter().map(ToString::to_string).collect();
    Error::new(
        Code::RemoteControl,
        format!("the command succeeded, but left no file for {}", names.join(", ")),
    )
    .hint("required artifacts are patterns below the folder of the command")
    .with("missing", names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> Glob {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_name_files_in_any_depth() {
        for (pattern, path, want) in [
            ("out/*.json", "out/a.json", true),
            ("out/*.json", "out/b/a.json", false),
            ("./out/a", "out/a", true),
            ("**/a.xml", "a.xml", true),
            ("**/a.xml", "x/y/a.xml", true),
            ("out/**", "out/x/y", true),
            ("out/**", "other/x", false),
            ("**/**/z", "z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "a/z", true),
            ("[ab].log", "b.log", true),
            ("*", "x/y", false),
        ] {
            assert_eq!(glob(pattern).matches(path), want, "{pattern} {path}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "a\nb"] {
            assert!(bad.parse::<Glob>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn files_are_looked_for_where_they_can_be() {
        for (pattern, start) in
            [("a/b/*.x", "./a/b"), ("a/b", "./a"), ("a", "."), ("a/*/c/d", "./a"), ("**/x", ".")]
        {
            assert_eq!(glob(pattern).start(), start, "{pattern}");
        }
    }
}

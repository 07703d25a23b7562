//! What we know of the far side: a file of ours beside crabbox's manifest there.
//!
//! For each path it holds what the local file was like when it was sent. That a file there is still as it was is not
//! believed but looked at: the record is a shell script that lists the files' state, so that a box without any tool of
//! ours can check it without being sent the names again. A line is
//!
//! ```text
//! s 'path' 'another path' … # f644 12 1700000000.123456789 -;l777 3 1700000000.0 <hash>
//! ```
//!
//! with `s` for files and links, which are checked, and `d` for folders, which are not: their times change whenever a
//! command writes beside the files.

use super::manifest::Entry;
use super::path::TreePath;
use crate::world::FileKind;
use std::collections::BTreeMap;

/// Names on one line: as many as one call of `stat` gets.
const CHUNK: usize = 64;
const MAGIC: &str = "# crabbox-vast sync 1 ";
const END: &str = "# end\n";

/// The entries of a record, and the name of the tree that it describes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// [`super::manifest::Manifest::fingerprint`] of the tree that was sent.
    pub fingerprint: String,
    /// Files and links.
    pub files: BTreeMap<TreePath, Entry>,
    /// Folders.
    pub folders: BTreeMap<TreePath, Entry>,
}

impl Record {
    /// The file.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = format!("{MAGIC}{}\n", self.fingerprint).into_bytes();
        for (call, entries) in [("s", &self.files), ("d", &self.folders)] {
            let all: Vec<_> = entries.iter().collect();
            for chunk in all.chunks(CHUNK) {
                out.extend_from_slice(call.as_bytes());
                for (path, _) in chunk {
                    out.push(b' ');
                    quote(path.bytes(), &mut out);
                }
                let facts: Vec<String> = chunk.iter().map(|(_, entry)| facts(entry)).collect();
                out.extend_from_slice(format!(" # {}\n", facts.join(";")).as_bytes());
            }
        }
        out.extend_from_slice(END.as_bytes());
        out
    }

    /// Reads it; `None` when it is not whole or not of this form, and then nothing is known.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_suffix(END.as_bytes())?.strip_prefix(MAGIC.as_bytes())?;
        let line = rest.iter().position(|byte| *byte == b'\n')?;
        let fingerprint = String::from_utf8(rest[..line].to_vec()).ok()?;
        let mut record = Record { fingerprint, ..Record::default() };
        rest = &rest[line + 1..];
        while !rest.is_empty() {
            let into = match rest.first()? {
                b's' => &mut record.files,
                b'd' => &mut record.folders,
                _ => return None,
            };
            let mut names = Vec::new();
            rest = &rest[1..];
            while let Some(quoted) = rest.strip_prefix(b" '") {
                let (name, after) = unquote(quoted)?;
                names.push(TreePath::new(&name)?);
                rest = after;
            }
            rest = rest.strip_prefix(b" # ")?;
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let facts = std::str::from_utf8(&rest[..end]).ok()?.split(';');
            let entries: Vec<Entry> = facts.map(read_facts).collect::<Option<_>>()?;
            if entries.len() != names.len() {
                return None;
            }
            into.extend(names.into_iter().zip(entries));
            rest = &rest[end + 1..];
        }
        Some(record)
    }
}

/// One word of a POSIX shell that may hold any byte but NUL.
pub fn quote(word: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    for byte in word {
        match byte {
            b'\'' => out.extend_from_slice(b"'\\''"),
            other => out.push(*other),
        }
    }
    out.push(b'\'');
}

/// The word whose opening quote was read already, and what follows its closing one.
fn unquote(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        let end = rest.iter().position(|byte| *byte == b'\'')?;
        word.extend_from_slice(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix(b"\\''") {
            Some(after) => {
                word.push(b'\'');
                rest = after;
            }
            None => return Some((word, rest)),
        }
    }
}

fn facts(entry: &Entry) -> String {
    let kind = match entry.kind {
        FileKind::File => 'f',
        FileKind::Link => 'l',
        FileKind::Folder => 'd',
        FileKind::Other => 'o',
    };
    let (seconds, nanos) = entry.modified;
    let hash = entry.hash.as_deref().unwrap_or("-");
    format!("{kind}{:o} {} {seconds}.{nanos} {hash}", entry.mode, entry.size)
}

fn read_facts(text: &str) -> Option<Entry> {
    let mut words = text.split(' ');
    let first = words.next()?;
    let kind = match first.chars().next()? {
        'f' => FileKind::File,
        'l' => FileKind::Link,
        'd' => FileKind::Folder,
        'o' => FileKind::Other,
        _ => return None,
    };
    let mode = u32::from_str_radix(&first[1..], 8).ok()?;
    let size = words.next()?.parse().ok()?;
    let (seconds, nanos) = words.next()?.split_once('.')?;
    let modified = (seconds.parse().ok()?, nanos.parse().ok()?);
    let hash = Some(words.next()?).filter(|hash| *hash != "-").map(str::to_owned);
    words.next().is_none().then_some(Entry { kind, mode, size, modified, hash })
}

/// The state of the files there, as the record's own check lists it: for each path when it last changed in any way, as
/// text that sorts by time. What is missing there is missing here.
#[must_use]
pub fn read_listing(bytes: &[u8]) -> BTreeMap<TreePath, String> {
    let mut listing = BTreeMap::new();
    // `//<mode> <size> <date> <time> <zone> <path>`: no path of a tree has two slashes in a row.
    let mut starts: Vec<usize> = Vec::new();
    let mut at = 0;
    while at + 1 < bytes.len() {
        if &bytes[at..at + 2] == b"//" {
            starts.push(at + 2);
            at += 2;
        } else {
            at += 1;
        }
    }
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).map_or(bytes.len(), |next| next - 2);
        let item = bytes[*start..end].strip_suffix(b"\n").unwrap_or(&bytes[*start..end]);
        let words: Vec<&[u8]> = item.splitn(6, |byte| *byte == b' ').collect();
        if let [_, _, date, time, zone, name] = words[..]
            && let Some(path) = TreePath::new(name)
        {
            let changed = [date, time, zone].map(|word| String::from_utf8_lossy(word)).join(" ");
            listing.insert(path, changed);
        }
    }
    listing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &[u8]) -> TreePath {
        TreePath::new(name).unwrap()
    }

    fn entry(kind: FileKind, size: u64) -> Entry {
        let hash = (kind == FileKind::Link).then(|| "ab".repeat(32));
        Entry { kind, mode: 0o644, size, modified: (-3, 999_999_999), hash }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut record = Record { fingerprint: "f".repeat(64), ..Record::default() };
        for name in [&b"a"[..], b"it's", b"'", b"new\nline # s 'x'", b"\xff\xfe", b"-x", b"$HOME`id`\\"] {
            record.files.insert(path(name), entry(FileKind::File, 7));
        }
        record.files.insert(path(b"link"), entry(FileKind::Link, 1));
        for n in 0..200 {
            record.files.insert(path(format!("many/{n}").as_bytes()), entry(FileKind::File, n));
        }
        record.folders.insert(path(b"many"), entry(FileKind::Folder, 4096));
        let written = record.write();
        assert_eq!(Record::read(&written), Some(record.clone()));
        assert_eq!(Record::read(&Record::default().write()), Some(Record::default()));
        for cut in 0..written.len() {
            assert_eq!(Record::read(&written[..cut]), None, "cut at {cut}");
        }
        assert_eq!(Record::read(b"# crabbox-vast sync 1 x\ns 'a' # f644 1\n# end\n"), None);
        assert_eq!(Record::read(b"# crabbox-vast sync 1 x\ns 'a/../b' # f644 1 1.1 -\n# end\n"), None);
    }

    #[test]
    fn a_shell_reads_the_same_names() {
        let mut record = Record::default();
        for name in [&b"it's"[..], b"new\nline", b"$HOME`id`\\", b"# x"] {
            record.files.insert(path(name), entry(FileKind::File, 7));
        }
        let mut script = b"s() { for n in \"$@\"; do printf '//a 1 b c d %s\\n' \"$n\"; done; }\n".to_vec();
        script.extend(record.write());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("record");
        std::fs::write(&file, script).unwrap();
        for shell in ["sh", "dash", "bash"] {
            let output = std::process::Command::new(shell).arg(&file).output().unwrap();
            let listing = read_listing(&output.stdout);
            assert_eq!(
                listing.keys().collect::<Vec<_>>(),
                record.files.keys().collect::<Vec<_>>(),
                "{shell}"
            );
            assert!(listing.values().all(|changed| changed == "b c d"));
        }
    }
}

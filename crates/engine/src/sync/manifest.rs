//! What a working tree consists of, as git sees it: tracked files and untracked ones that are not ignored.

use super::excludes::{Excludes, Verdict, included};
use super::path::TreePath;
use crate::world::{FileKind, Local, Stat};
use crate::{Code, Error, Result};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment as tar and `stat` count it: seconds since 1970 and nanoseconds.
pub type Moment = (i64, u32);

/// What is known of one file, link or folder without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Modification time.
    pub modified: Moment,
    /// SHA-256 of a link's target; of a file's content where contents are compared.
    pub hash: Option<String>,
}

/// A working tree.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// Files and links.
    pub files: BTreeMap<TreePath, Entry>,
    /// The folders they lie in.
    pub folders: BTreeMap<TreePath, Entry>,
    /// Tracked files that were deleted here.
    pub deleted: BTreeSet<TreePath>,
    /// What differs from the last commit: changed, new and deleted files.
    pub changed: BTreeSet<TreePath>,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of the changed files.
    pub changed_bytes: u64,
    /// Tracked files that a built-in rule names and that travel all the same, with the rule.
    pub kept_despite: Vec<(TreePath, String)>,
}

/// How a tree is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// What stays behind.
    pub excludes: &'a Excludes,
    /// The whitelist; empty lets everything in.
    pub includes: &'a [String],
    /// Read every file and note the hash of its content.
    pub hashes: bool,
}

/// Looks at the tree in `root`.
///
/// # Errors
/// [`Code::NotARepository`]; [`Code::SyncFailed`] when git or the file system fails, or when a sparse checkout hides a
/// tracked file that belongs to the tree.
pub fn survey(local: &dyn Local, root: &Path, scope: Scope<'_>) -> Result<Manifest> {
    let files = ["ls-files", "-z", "-t", "--stage", "--cached", "--others", "--exclude-standard"];
    let status =
        ["status", "-z", "--porcelain=v2", "--no-renames", "--untracked-files=no", "--ignore-submodules=all"];
    let (listed, status) = std::thread::scope(|threads| {
        let status = threads.spawn(|| git(local, root, &status));
        (git(local, root, &files), status.join())
    });
    let listed = listing(&listed?)?;
    let status =
        changes(&status.unwrap_or_else(|_| Err(Error::new(Code::Internal, "git status could not be run")))?)?;
    gather(local, root, scope, listed, status)
}

fn git(local: &dyn Local, root: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let named = arguments.first().copied().unwrap_or_default();
    // The marker of another system: git would find a repository further up and sync the wrong files.
    let foreign = local.stat(&root.join(".git")).ok().flatten().is_none()
        && local.stat(&root.join(".jj")).ok().flatten().is_some();
    let answer = local.git(root, arguments).map_err(|error| {
        Error::new(Code::SyncFailed, format!("git cannot be run: {error}"))
            .hint("what is synced is what git lists; install git, or pass --no-sync")
            .because(error)
    })?;
    if foreign || (!answer.success && answer.stderr.to_lowercase().contains("not a git repository")) {
        let message = format!("{} is not a git repository", root.display());
        return Err(Error::new(Code::NotARepository, message)
            .hint("what is synced is what git lists: run `git init` here, or pass --no-sync")
            .with("root", root.display().to_string()));
    }
    if answer.success {
        return Ok(answer.stdout);
    }
    let said = answer.stderr.lines().next().unwrap_or("it said nothing").to_owned();
    Err(Error::new(Code::SyncFailed, format!("git {named} in {} failed: {said}", root.display())))
}

/// One path of the index, or an untracked one.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    path: TreePath,
    /// Mode in the index; `None` where git does not track it.
    mode: Option<u32>,
    hidden: bool,
}

const SUBMODULE: u32 = 0o160_000;

fn is_regular(mode: u32) -> bool {
    mode & 0o170_000 == 0o100_000
}

/// Reads `git ls-files -t --stage -z`: `H 100644 <hash> 0<TAB>path`, or `? path`.
fn listing(output: &[u8]) -> Result<Vec<Listed>> {
    let unclear = || Error::new(Code::SyncFailed, "the answer of git ls-files could not be understood");
    let mut listed = Vec::new();
    for record in output.split(|byte| *byte == 0).filter(|record| !record.is_empty()) {
        let (tag, rest) = (record[0], record.get(2..).ok_or_else(unclear)?);
        let (mode, name) = if tag == b'?' {
            (None, rest)
        } else {
            let tab = rest.iter().position(|byte| *byte == b'\t').ok_or_else(unclear)?;
            let digits = rest[..tab].split(|byte| *byte == b' ').next().unwrap_or_default();
            let mode = std::str::from_utf8(digits).ok().and_then(|text| u32::from_str_radix(text, 8).ok());
            (Some(mode.ok_or_else(unclear)?), &rest[tab + 1..])
        };
        // An untracked repository inside this one is listed as `folder/`.
        if let Some(path) = TreePath::new(name) {
            listed.push(Listed { path, mode, hidden: tag.eq_ignore_ascii_case(&b'S') });
        }
    }
    Ok(listed)
}

/// A path that differs from the last commit.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    path: TreePath,
    /// Mode in the last commit.
    was: u32,
    /// Deleted from the index.
    unlisted: bool,
}

/// Reads `git status --porcelain=v2 -z --no-renames`.
fn changes(output: &[u8]) -> Result<Vec<Change>> {
    let unclear = || Error::new(Code::SyncFailed, "the answer of git status could not be understood");
    let mut changes = Vec::new();
    for record in output.split(|byte| *byte == 0).filter(|record| !record.is_empty()) {
        // `1 XY sub mH mI mW hH hI path`, `u XY sub m1 m2 m3 mW h1 h2 h3 path`
        let fields = match record[0] {
            b'1' => 9,
            b'u' => 11,
            _ => continue,
        };
        let parts: Vec<&[u8]> = record.splitn(fields, |byte| *byte == b' ').collect();
        let [_, state, _, was, ..] = parts[..] else { return Err(unclear()) };
        let was = std::str::from_utf8(was).ok().and_then(|text| u32::from_str_radix(text, 8).ok());
        let path = parts.get(fields - 1).and_then(|name| TreePath::new(name)).ok_or_else(unclear)?;
        changes.push(Change { path, was: was.ok_or_else(unclear)?, unlisted: state.first() == Some(&b'D') });
    }
    Ok(changes)
}

fn gather(
    local: &dyn Local,
    root: &Path,
    scope: Scope<'_>,
    listed: Vec<Listed>,
    status: Vec<Change>,
) -> Result<Manifest> {
    let mut manifest = Manifest::default();
    let mut changed: BTreeSet<TreePath> = BTreeSet::new();
    for Listed { path, mode, hidden } in listed {
        if mode == Some(SUBMODULE) || manifest.files.contains_key(&path) {
            continue;
        }
        let text = path.text().into_owned();
        let rule = match scope.excludes.verdict(&text, mode.is_some_and(is_regular)) {
            Verdict::Dropped => continue,
            Verdict::KeptDespite(rule) => Some(rule.to_owned()),
            Verdict::Kept => None,
        };
        if !included(&text, scope.includes) {
            continue;
        }
        let Some(entry) = look(local, root, &path)? else {
            if hidden {
                return Err(Error::new(
                    Code::SyncFailed,
                    format!("tracked path {text:?} is hidden by a sparse checkout or skip-worktree"),
                )
                .hint("check it out, or name it in sync.exclude: a hidden file must not look like a deleted one"));
            }
            if mode.is_some() {
                manifest.deleted.insert(path);
            }
            continue;
        };
        if !matches!(entry.kind, FileKind::File | FileKind::Link) {
            continue;
        }
        if mode.is_none() {
            changed.insert(path.clone());
        }
        if let Some(rule) = rule {
            manifest.kept_despite.push((path.clone(), rule));
        }
        manifest.files.insert(path, entry);
    }
    for Change { path, was, unlisted } in status {
        let text = path.text().into_owned();
        let dropped = scope.excludes.verdict(&text, is_regular(was) || was == 0) == Verdict::Dropped;
        if dropped || was == SUBMODULE || !included(&text, scope.includes) {
            continue;
        }
        if unlisted && !manifest.files.contains_key(&path) {
            manifest.deleted.insert(path.clone());
        }
        changed.insert(path);
    }
    manifest.kept_despite.sort();
    manifest.bytes = manifest.files.values().map(|entry| entry.size).sum();
    manifest.changed_bytes =
        changed.iter().filter_map(|path| manifest.files.get(path)).map(|entry| entry.size).sum();
    manifest.changed = changed;
    for path in manifest.files.keys() {
        for folder in path.folders() {
            if manifest.folders.contains_key(&folder) {
                break;
            }
            if let Some(entry) = look(local, root, &folder)? {
                manifest.folders.insert(folder, entry);
            }
        }
    }
    if scope.hashes {
        for (path, entry) in manifest.files.iter_mut().filter(|(_, entry)| entry.kind == FileKind::File) {
            entry.hash = Some(content_hash(local, root, path)?);
        }
    }
    Ok(manifest)
}

/// The entry at a path, `None` where nothing is or can be named.
fn look(local: &dyn Local, root: &Path, path: &TreePath) -> Result<Option<Entry>> {
    let Some(place) = path.below(root) else { return Ok(None) };
    let fail = |error: std::io::Error| unreadable(path, error);
    let Some(stat) = local.stat(&place).map_err(fail)? else { return Ok(None) };
    let mut entry = entry(&stat);
    if stat.kind == FileKind::Link {
        let target = super::path::path_bytes(&local.read_link(&place).map_err(fail)?);
        entry.hash = Some(hex::encode(Sha256::digest(target)));
    }
    Ok(Some(entry))
}

/// What a stat says, as an entry.
#[must_use]
pub fn entry(stat: &Stat) -> Entry {
    Entry { kind: stat.kind, mode: stat.mode, size: stat.size, modified: moment(stat.modified), hash: None }
}

fn content_hash(local: &dyn Local, root: &Path, path: &TreePath) -> Result<String> {
    let fail = |error: std::io::Error| unreadable(path, error);
    let place = path.below(root).ok_or_else(|| fail(std::io::ErrorKind::InvalidInput.into()))?;
    let mut file = local.open(&place).map_err(fail)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 128 * 1024]);
    loop {
        match file.read(&mut buffer).map_err(fail)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// The failure to read one file of the tree.
#[must_use]
pub fn unreadable(path: &TreePath, error: std::io::Error) -> Error {
    Error::new(Code::SyncFailed, format!("{} cannot be read: {error}", path.text()))
        .hint("make it readable, or name it in .crabboxignore")
        .because(error)
}

/// A time of this system.
#[must_use]
pub fn moment(time: SystemTime) -> Moment {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match before.subsec_nanos() {
                0 => (seconds, 0),
                nanos => (seconds - 1, 1_000_000_000 - nanos),
            }
        }
    }
}

impl Manifest {
    /// Names this very tree under these options: two trees with one fingerprint need no sync.
    #[must_use]
    pub fn fingerprint(&self, options: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(options);
        for (path, entry) in self.files.iter().chain(&self.folders) {
            hash.update([0]);
            hash.update(path.bytes());
            hash.update([0]);
            // The times of a folder change whenever anything is written into it, also what stays behind.
            let modified = if entry.kind == FileKind::Folder { (0, 0) } else { entry.modified };
            let Entry { kind, mode, size, hash: content, .. } = entry;
            let size = if *kind == FileKind::Folder { 0 } else { *size };
            hash.update(format!("{kind:?} {mode:o} {size} {modified:?} {content:?}"));
        }
        hash.update([0, 0]);
        for path in &self.deleted {
            hash.update(path.bytes());
            hash.update([0]);
        }
        hex::encode(hash.finalize())
    }

    /// crabbox's form: each file's path with a NUL behind it.
    #[must_use]
    pub fn names(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for path in self.files.keys() {
            out.extend_from_slice(path.bytes());
            out.push(0);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn answers_of_git_are_read() {
        let output = b"H 100644 e69de29bb2d1d6434b8b29ae775ad8c2e48c5391 0\ta b\0S 120000 aa 0\tl\nk\0? new\0? sub/\0M 160000 bb 2\tm\0";
        let listed: Vec<_> = listing(output).unwrap();
        let seen: Vec<_> = listed.iter().map(|l| (l.path.text(), l.mode, l.hidden)).collect();
        assert_eq!(
            seen,
            [
                ("a b".into(), Some(0o100_644), false),
                ("l\nk".into(), Some(0o120_000), true),
                ("new".into(), None, false),
                ("m".into(), Some(0o160_000), false)
            ]
        );
        assert!(listing(b"H 100644\0").is_err() && listing(b"H\0").is_err());
        let output = b"1 .M N... 100644 100644 100644 aa aa a b\x001 D. N... 100755 000000 000000 aa 00 gone\0u UU N... 100644 100644 100644 100644 a b c both\0# branch.oid x\0";
        let seen: Vec<_> = changes(output)
            .unwrap()
            .into_iter()
            .map(|c| (c.path.text().into_owned(), c.was, c.unlisted))
            .collect();
        assert_eq!(
            seen,
            [
                ("a b".into(), 0o100_644, false),
                ("gone".into(), 0o100_755, true),
                ("both".into(), 0o100_644, false)
            ]
        );
        assert!(changes(b"1 D. N...\0").is_err());
    }

    #[test]
    fn moments_before_1970() {
        assert_eq!(moment(UNIX_EPOCH + Duration::new(5, 7)), (5, 7));
        assert_eq!(moment(UNIX_EPOCH - Duration::new(5, 0)), (-5, 0));
        assert_eq!(moment(UNIX_EPOCH - Duration::new(5, 1)), (-6, 999_999_999));
    }
}

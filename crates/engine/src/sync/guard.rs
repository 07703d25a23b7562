//! Refuses a sync that is probably a mistake: too much to send, or too much gone.

use super::manifest::Manifest;
use super::path::TreePath;
use crate::{Code, Error, Result};
use std::collections::BTreeMap;

/// Tracked files whose deletion looks like an accident.
const MASS_DELETION: usize = 200;
/// How many examples a warning names.
const EXAMPLES: usize = 5;

/// The limits; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files from which on there is a warning.
    pub warn_files: u64,
    /// Bytes from which on there is a warning.
    pub warn_bytes: u64,
    /// Files from which on it is refused.
    pub fail_files: u64,
    /// Bytes from which on it is refused.
    pub fail_bytes: u64,
    /// Refuse nothing for its size.
    pub allow_large: bool,
    /// Refuse nothing for its deletions.
    pub allow_mass_deletions: bool,
}

/// Looks at what would be synced; the warnings about it.
///
/// # Errors
/// [`Code::SyncTooLarge`], [`Code::MassDeletion`].
pub fn check(manifest: &Manifest, limits: &Limits) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    // In a tree with changes, what was committed is taken to be meant.
    let (scope, files, bytes, paths): (_, _, _, Box<dyn Iterator<Item = &TreePath>>) =
        if manifest.changed.is_empty() {
            ("candidate", manifest.files.len(), manifest.bytes, Box::new(manifest.files.keys()))
        } else {
            let changed = &manifest.changed;
            ("dirty_delta", changed.len(), manifest.changed_bytes, Box::new(changed.iter()))
        };
    let files = u64::try_from(files).unwrap_or(u64::MAX);
    let reached = |limit: u64, value: u64| limit > 0 && value >= limit;
    let too_large = |actual: String, limit: String, top: String| {
        Error::new(Code::SyncTooLarge, format!("sync {scope} too large: {actual} >= limit {limit}; {top}"))
            .hint("name what is generated in .crabboxignore or sync.exclude, or pass --force-sync-large")
            .with("files", files)
            .with("bytes", bytes)
    };
    if !limits.allow_large && reached(limits.fail_files, files) {
        return Err(too_large(format!("{files} files"), limits.fail_files.to_string(), top_folders(paths)));
    }
    if !limits.allow_large && reached(limits.fail_bytes, bytes) {
        return Err(too_large(human_bytes(bytes), human_bytes(limits.fail_bytes), top_folders(paths)));
    }
    let deletions = manifest.deleted.len();
    if deletions >= MASS_DELETION && !limits.allow_mass_deletions {
        return Err(Error::new(
            Code::MassDeletion,
            format!(
                "{deletions} tracked files are deleted here, {MASS_DELETION} or more look like an accident"
            ),
        )
        .hint("`git status` shows them; if it is meant, set CRABBOX_ALLOW_MASS_DELETIONS=1")
        .with("deletions", deletions));
    }
    if reached(limits.warn_files, files) {
        warnings
            .push(format!("large sync {scope}: {files} files >= warning threshold {}", limits.warn_files));
    }
    if reached(limits.warn_bytes, bytes) {
        let (bytes, limit) = (human_bytes(bytes), human_bytes(limits.warn_bytes));
        warnings.push(format!("large sync {scope}: {bytes} >= warning threshold {limit}"));
    }
    if !warnings.is_empty() {
        warnings.push(top_folders(paths));
    }
    Ok(warnings)
}

/// Which tracked files travel although a built-in rule names them.
#[must_use]
pub fn kept_despite(manifest: &Manifest) -> Option<String> {
    let kept = &manifest.kept_despite;
    if kept.is_empty() {
        return None;
    }
    let named: Vec<String> =
        kept.iter().take(EXAMPLES).map(|(path, rule)| format!("{} ({rule})", path.text())).collect();
    let more = match kept.len() - named.len() {
        0 => String::new(),
        more => format!(" (+{more} more)"),
    };
    let count = kept.len();
    Some(format!(
        "protected {count} tracked files from built-in artifact excludes: {}{more}",
        named.join(", ")
    ))
}

/// Where most of the files are.
fn top_folders<'a>(paths: impl Iterator<Item = &'a TreePath>) -> String {
    let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
    for path in paths {
        *counts.entry(path.top()).or_default() += 1;
    }
    let mut folders: Vec<_> = counts.into_iter().collect();
    folders.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let named = folders
        .iter()
        .take(EXAMPLES)
        .map(|(name, count)| format!("{}:{count}", String::from_utf8_lossy(name)));
    format!("sync top dirs: {}", named.collect::<Vec<_>>().join(","))
}

/// Bytes for people, as crabbox writes them.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    const UNIT: f64 = 1024.0;
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let mut value = bytes as f64;
    for unit in ["KiB", "MiB", "GiB", "TiB"] {
        value /= UNIT;
        if value < UNIT {
            return format!("{value:.1} {unit}");
        }
    }
    format!("{:.1} PiB", value / UNIT)
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Entry;
    use super::*;
    use crate::world::FileKind;

    const LIMITS: Limits = Limits {
        warn_files: 5,
        warn_bytes: 500,
        fail_files: 10,
        fail_bytes: 1000,
        allow_large: false,
        allow_mass_deletions: false,
    };

    fn path(name: &str) -> TreePath {
        TreePath::new(name.as_bytes()).unwrap()
    }

    fn tree(files: usize, bytes: u64) -> Manifest {
        let entry = Entry { kind: FileKind::File, mode: 0o644, size: 1, modified: (0, 0), hash: None };
        let files = (0..files).map(|n| (path(&format!("d{}/f{n}", n % 2)), entry.clone())).collect();
        Manifest { files, bytes, ..Manifest::default() }
    }

    #[test]
    fn sizes() {
        assert!(check(&tree(4, 499), &LIMITS).unwrap().is_empty());
        let warned = check(&tree(5, 500), &LIMITS).unwrap();
        assert_eq!(
            warned,
            [
                "large sync candidate: 5 files >= warning threshold 5",
                "large sync candidate: 500 B >= warning threshold 500 B",
                "sync top dirs: d0:3,d1:2"
            ]
        );
        for tree in [tree(10, 0), tree(1, 1000)] {
            let error = check(&tree, &LIMITS).unwrap_err();
            assert_eq!((error.code(), error.exit_code()), (Code::SyncTooLarge, 6));
            assert!(check(&tree, &Limits { allow_large: true, ..LIMITS }).is_ok());
            assert!(check(&tree, &Limits { fail_files: 0, fail_bytes: 0, ..LIMITS }).is_ok());
        }
    }

    #[test]
    fn changes_count_in_place_of_everything() {
        let mut tree = tree(100, 100_000);
        tree.changed = [path("d0/f0"), path("gone")].into();
        tree.changed_bytes = 1;
        assert!(check(&tree, &LIMITS).unwrap().is_empty());
        tree.changed_bytes = 1000;
        let error = check(&tree, &LIMITS).unwrap_err();
        assert!(
            error.to_string().starts_with("sync dirty_delta too large: 1000 B >= limit 1000 B"),
            "{error}"
        );
    }

    #[test]
    fn many_deletions() {
        let mut tree = tree(1, 1);
        tree.deleted = (0..199).map(|n| path(&format!("x{n}"))).collect();
        assert!(check(&tree, &LIMITS).is_ok());
        tree.deleted.insert(path("one more"));
        let error = check(&tree, &LIMITS).unwrap_err();
        assert_eq!((error.code(), error.exit_code()), (Code::MassDeletion, 6));
        assert!(check(&tree, &Limits { allow_mass_deletions: true, ..LIMITS }).is_ok());
    }

    #[test]
    fn kept_files_are_named() {
        let mut tree = tree(1, 1);
        tree.kept_despite = vec![(path("dist/tracked.txt"), "dist".into())];
        assert_eq!(
            kept_despite(&tree).unwrap(),
            "protected 1 tracked files from built-in artifact excludes: dist/tracked.txt (dist)"
        );
        tree.kept_despite = (0..7).map(|n| (path(&format!("dist/{n}")), "dist".into())).collect();
        assert!(kept_despite(&tree).unwrap().ends_with("dist/4 (dist) (+2 more)"));
    }

    #[test]
    fn bytes_for_people() {
        for (bytes, text) in [
            (16, "16 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (14_889_779, "14.2 MiB"),
            (5 << 30, "5.0 GiB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}

//! What has to happen on the far side so that it has the tree that is here.

use super::manifest::{Entry, Manifest};
use super::path::TreePath;
use super::record::Record;
use crate::world::FileKind;
use std::collections::{BTreeMap, BTreeSet};

/// The far side before a sync.
#[derive(Debug, Clone, Default)]
pub struct Remote {
    /// What was sent last time.
    pub record: Record,
    /// When each of those files last changed there, in any way.
    pub listing: BTreeMap<TreePath, String>,
    /// When the last sync ended, on the same clock and in the same form. Empty: nothing there can be trusted.
    pub stamp: String,
    /// Every path that a sync ever brought and that was not pruned, crabbox's syncs included.
    pub manifest: BTreeSet<TreePath>,
}

/// The difference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Files and links to send.
    pub send: Vec<TreePath>,
    /// Folders whose mode and time are set, inner ones first.
    pub folders: Vec<TreePath>,
    /// Files and links to remove.
    pub remove: Vec<TreePath>,
    /// Folders to remove if that leaves them empty, inner ones first.
    pub remove_folders: Vec<TreePath>,
}

impl Plan {
    /// Compares. With `prune`, what an earlier sync brought and is gone here is removed.
    #[must_use]
    pub fn new(here: &Manifest, there: &Remote, prune: bool) -> Self {
        let is_there = |path: &TreePath, entry: &Entry| {
            there.record.files.get(path).is_some_and(|sent| same(sent, entry))
                && there.listing.get(path).is_some_and(|changed| *changed <= there.stamp)
        };
        let send: Vec<TreePath> = (here.files.iter())
            .filter(|(path, entry)| there.stamp.is_empty() || !is_there(path, entry))
            .map(|(path, _)| path.clone())
            .collect();
        // Unpacking a file changes the time of its folder.
        let mut folders: BTreeSet<TreePath> = send.iter().flat_map(TreePath::folders).collect();
        folders.extend(here.folders.iter().filter_map(|(path, entry)| {
            let known = there.record.folders.get(path).is_some_and(|sent| sent.mode == entry.mode);
            (!known).then(|| path.clone())
        }));
        folders.retain(|path| here.folders.contains_key(path));
        let gone = |path: &&TreePath| !here.files.contains_key(*path);
        let mut remove: BTreeSet<TreePath> = BTreeSet::new();
        if prune {
            remove.extend(there.manifest.iter().filter(gone).cloned());
            remove.extend(here.deleted.iter().filter(gone).cloned());
        }
        let emptied: BTreeSet<TreePath> = remove.iter().flat_map(TreePath::folders).collect();
        let emptied = emptied.into_iter().filter(|folder| !here.folders.contains_key(folder));
        Self {
            send,
            folders: inner_first(folders),
            remove: remove.into_iter().collect(),
            remove_folders: inner_first(emptied),
        }
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A folder sorts before what is in it.
fn inner_first(folders: impl IntoIterator<Item = TreePath, IntoIter: DoubleEndedIterator>) -> Vec<TreePath> {
    folders.into_iter().rev().collect()
}

/// Whether the file that was sent is the file that is here now: by content where both are known, else by size and time.
fn same(sent: &Entry, here: &Entry) -> bool {
    if sent.kind != here.kind || sent.size != here.size {
        return false;
    }
    let contents = match (&sent.hash, &here.hash) {
        (Some(sent), Some(here)) => sent == here,
        // Contents are to be compared, and what was sent is not known.
        (None, Some(_)) => false,
        (_, None) => true,
    };
    let modes = here.kind == FileKind::Link || sent.mode == here.mode;
    contents && modes && sent.modified == here.modified
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> TreePath {
        TreePath::new(name.as_bytes()).unwrap()
    }

    fn file(seconds: i64) -> Entry {
        Entry { kind: FileKind::File, mode: 0o644, size: 1, modified: (seconds, 0), hash: None }
    }

    fn tree(files: &[(&str, i64)]) -> Manifest {
        let mut tree = Manifest::default();
        for (name, seconds) in files {
            for folder in path(name).folders() {
                tree.folders.insert(folder, Entry { kind: FileKind::Folder, mode: 0o755, ..file(0) });
            }
            tree.files.insert(path(name), file(*seconds));
        }
        tree
    }

    fn after(tree: &Manifest) -> Remote {
        Remote {
            record: Record {
                fingerprint: String::new(),
                files: tree.files.clone(),
                folders: tree.folders.clone(),
            },
            listing: tree.files.keys().map(|path| (path.clone(), "2026-01-01 10:00:00.5".into())).collect(),
            stamp: "2026-01-01 10:00:01.0".into(),
            manifest: tree.files.keys().cloned().collect(),
        }
    }

    fn names(paths: &[TreePath]) -> Vec<String> {
        paths.iter().map(|path| path.text().into_owned()).collect()
    }

    #[test]
    fn an_empty_box_gets_everything() {
        let plan = Plan::new(&tree(&[("a/b/c", 1), ("d", 1)]), &Remote::default(), true);
        assert_eq!(
            (names(&plan.send), names(&plan.folders)),
            (vec!["a/b/c".into(), "d".into()], vec!["a/b".into(), "a".into()])
        );
        assert!(plan.remove.is_empty());
    }

    #[test]
    fn only_what_changed_on_either_side() {
        let before = tree(&[("a/x", 1), ("b", 1), ("c", 1), ("d", 1)]);
        let mut there = after(&before);
        assert!(Plan::new(&before, &there, true).is_empty());
        there.listing.insert(path("c"), "2026-01-01 10:00:01.1".into());
        there.listing.remove(&path("d"));
        let plan = Plan::new(&tree(&[("a/x", 2), ("b", 1), ("c", 1), ("d", 1)]), &there, true);
        assert_eq!(
            (names(&plan.send), names(&plan.folders)),
            (vec!["a/x".into(), "c".into(), "d".into()], vec!["a".into()])
        );
        there.stamp.clear();
        assert_eq!(Plan::new(&before, &there, true).send.len(), 4);
    }

    #[test]
    fn contents_count_where_they_are_known() {
        let with = |hash: Option<&str>| Entry { hash: hash.map(str::to_owned), ..file(1) };
        assert!(same(&with(Some("a")), &with(Some("a"))) && !same(&with(Some("a")), &with(Some("b"))));
        assert!(!same(&with(None), &with(Some("a"))) && same(&with(Some("a")), &with(None)));
        assert!(!same(&file(1), &file(2)) && !same(&file(1), &Entry { mode: 0o755, ..file(1) }));
    }

    #[test]
    fn prunes_what_syncs_brought_and_nothing_else() {
        let mut there = after(&tree(&[("keep", 1), ("gone/deep/x", 1), ("part/x", 1), ("part/y", 1)]));
        there.manifest.insert(path("crabbox brought it"));
        let mut here = tree(&[("keep", 1), ("part/y", 1)]);
        here.deleted.insert(path("tracked once"));
        let plan = Plan::new(&here, &there, true);
        assert_eq!(names(&plan.remove), ["crabbox brought it", "gone/deep/x", "part/x", "tracked once"]);
        assert_eq!(names(&plan.remove_folders), ["gone/deep", "gone"]);
        assert!(plan.send.is_empty());
        assert!(Plan::new(&here, &there, false).remove.is_empty());
    }

    #[test]
    fn a_folder_that_became_a_file_and_back() {
        let there = after(&tree(&[("a/x", 1), ("b", 1)]));
        let plan = Plan::new(&tree(&[("a", 1), ("b/x", 1)]), &there, true);
        assert_eq!(names(&plan.remove), ["a/x", "b"]);
        assert_eq!(names(&plan.remove_folders), ["a"]);
        assert_eq!(names(&plan.send), ["a", "b/x"]);
    }
}

//! A disk that tells apart what was written from what was synced.
//!
//! A file's bytes and a folder's entries are two things, as on a real file system: syncing a file makes its bytes
//! durable, syncing a folder makes its creations, renames and removals durable. A killed process loses nothing that it
//! had written; a power cut keeps the synced part, of each folder's other operations an ordered prefix, and of unsynced
//! bytes a part or none. Between two folders nothing says which operation reaches the disk first.

use crate::dice::Dice;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::path::{Path, PathBuf};

/// What stands at a path.
#[derive(Clone, Debug)]
struct Node {
    folder: bool,
    mode: u32,
    bytes: Vec<u8>,
    /// Whether the bytes are durable.
    synced: bool,
}

/// A change of a folder that is not durable yet.
#[derive(Debug, Clone)]
enum Change {
    Add(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// Nodes by path, in the order of the paths' bytes: parts are slower to compare, and nothing is done more often here.
type Names = BTreeMap<OsString, usize>;

/// The whole disk. All processes of a stage share it.
#[derive(Clone, Debug, Default)]
pub struct Platter {
    nodes: Vec<Node>,
    /// What a running system sees.
    seen: Names,
    /// What a power cut leaves at least.
    durable: Names,
    /// What a power cut may undo, by folder.
    pending: BTreeMap<OsString, Vec<Change>>,
    /// Who holds a lock, and with which guard.
    locks: BTreeMap<PathBuf, (usize, u64)>,
    guards: u64,
}

impl Change {
    fn folder(&self) -> OsString {
        let (Change::Add(path, _) | Change::Remove(path) | Change::Rename(path, _)) = self;
        path.parent().map_or_else(OsString::new, Into::into)
    }

    fn apply(&self, names: &mut Names) {
        match self {
            Change::Add(path, node) => {
                names.insert(path.clone().into(), *node);
            }
            Change::Rename(from, to) => {
                if let Some(node) = names.remove(from.as_os_str()) {
                    names.insert(to.clone().into(), node);
                }
            }
            Change::Remove(path) => {
                names.remove(path.as_os_str());
            }
        }
    }
}

impl Platter {
    /// An empty disk with these folders, durable.
    #[must_use]
    pub fn with_folders(paths: &[&Path]) -> Self {
        let mut disk = Self::default();
        let folders: BTreeSet<&Path> = paths.iter().flat_map(|path| path.ancestors()).collect();
        for folder in folders {
            disk.nodes.push(Node { folder: true, mode: 0o700, bytes: Vec::new(), synced: true });
            disk.seen.insert(folder.into(), disk.nodes.len() - 1);
        }
        disk.durable = disk.seen.clone();
        disk
    }

    fn node(&self, path: &Path) -> Option<&Node> {
        Some(&self.nodes[*self.seen.get(path.as_os_str())?])
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.entry(change.folder()).or_default().push(change);
    }

    fn folder_of(&self, path: &Path) -> io::Result<()> {
        match path.parent().and_then(|folder| self.node(folder)) {
            Some(node) if node.folder => Ok(()),
            Some(_) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// As a real file system.
    pub fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match self.node(path) {
            Some(node) if node.folder => Err(ErrorKind::IsADirectory.into()),
            node => Ok(node.map(|node| node.bytes.clone())),
        }
    }

    /// Creates an empty file that must not exist.
    ///
    /// # Errors
    /// As a real file system.
    pub fn create(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        self.folder_of(path)?;
        if self.seen.contains_key(path.as_os_str()) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.nodes.push(Node { folder: false, mode, bytes: Vec::new(), synced: false });
        self.change(Change::Add(path.to_owned(), self.nodes.len() - 1));
        Ok(())
    }

    /// Writes into a file that was created before.
    pub fn write(&mut self, path: &Path, bytes: &[u8]) {
        if let Some(node) = self.seen.get(path.as_os_str()) {
            self.nodes[*node].bytes = bytes.to_vec();
        }
    }

    /// Makes the bytes of a file durable, not its name.
    pub fn sync(&mut self, path: &Path) {
        if let Some(node) = self.seen.get(path.as_os_str()) {
            self.nodes[*node].synced = true;
        }
    }

    /// Renames over what is there.
    ///
    /// # Errors
    /// As a real file system.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.folder_of(to)?;
        if !self.seen.contains_key(from.as_os_str()) {
            return Err(ErrorKind::NotFound.into());
        }
        self.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    /// Makes the changes of one folder durable.
    ///
    /// # Errors
    /// As a real file system.
    pub fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        if self.node(folder).is_none() {
            return Err(ErrorKind::NotFound.into());
        }
        let now = self.pending.remove(folder.as_os_str()).unwrap_or_default();
        now.iter().for_each(|change| change.apply(&mut self.durable));
        Ok(())
    }

    /// Removes a file.
    ///
    /// # Errors
    /// As a real file system.
    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        match self.node(path) {
            None => Ok(()),
            Some(node) if node.folder => Err(ErrorKind::IsADirectory.into()),
            Some(_) => {
                self.change(Change::Remove(path.to_owned()));
                Ok(())
            }
        }
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    /// As a real file system.
    pub fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        match self.node(path) {
            None => Ok(()),
            Some(node) if !node.folder => Err(ErrorKind::NotADirectory.into()),
            Some(_) if !self.list(path).is_empty() => Err(ErrorKind::DirectoryNotEmpty.into()),
            Some(_) => {
                self.change(Change::Remove(path.to_owned()));
                Ok(())
            }
        }
    }

    /// The names in a folder, sorted.
    #[must_use]
    pub fn list(&self, folder: &Path) -> Vec<OsString> {
        let inside = folder.join("").into_os_string();
        let names = self.seen.range::<OsStr, _>((Bound::Excluded(inside.as_os_str()), Bound::Unbounded));
        names
            .map_while(|(path, _)| path.as_encoded_bytes().strip_prefix(inside.as_encoded_bytes()))
            .filter(|name| !name.contains(&b'/'))
            .map(|name| OsString::from(String::from_utf8_lossy(name).into_owned()))
            .collect()
    }

    /// Makes a folder; one that is there is fine.
    ///
    /// # Errors
    /// As a real file system.
    pub fn create_folder(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        match self.seen.get(path.as_os_str()) {
            Some(node) if self.nodes[*node].folder => self.nodes[*node].mode = mode,
            Some(_) => return Err(ErrorKind::NotADirectory.into()),
            None => {
                self.folder_of(path)?;
                self.nodes.push(Node { folder: true, mode, bytes: Vec::new(), synced: true });
                self.change(Change::Add(path.to_owned(), self.nodes.len() - 1));
            }
        }
        Ok(())
    }

    /// Whether something stands there.
    #[must_use]
    pub fn exists(&self, path: &Path) -> bool {
        self.seen.contains_key(path.as_os_str())
    }

    /// Permission bits.
    #[must_use]
    pub fn mode(&self, path: &Path) -> Option<u32> {
        self.node(path).map(|node| node.mode)
    }

    /// Takes a lock for a process; the number names the guard. `None` while it is held.
    ///
    /// # Errors
    /// As a real file system.
    pub fn lock(&mut self, path: &Path, process: usize) -> io::Result<Option<u64>> {
        if self.node(path).is_none() {
            self.create(path, 0o600)?;
        }
        if self.locks.contains_key(path) {
            return Ok(None);
        }
        self.guards += 1;
        self.locks.insert(path.to_owned(), (process, self.guards));
        Ok(Some(self.guards))
    }

    /// Gives a lock back, unless the guard's process died and another one has it by now.
    pub fn unlock(&mut self, path: &Path, guard: u64) {
        if self.locks.get(path).is_some_and(|(_, held)| *held == guard) {
            self.locks.remove(path);
        }
    }

    /// A process died: the system closes its files.
    pub fn release_locks(&mut self, process: usize) {
        self.locks.retain(|_, (holder, _)| *holder != process);
    }

    /// The power fails. Returns the folder operations that were lost, as text.
    pub fn power_cut(&mut self, dice: &mut Dice) -> Vec<String> {
        let mut lost = Vec::new();
        for pending in std::mem::take(&mut self.pending).into_values() {
            let kept = dice.below(pending.len() + 1);
            pending[..kept].iter().for_each(|change| change.apply(&mut self.durable));
            lost.extend(pending[kept..].iter().map(|change| format!("{change:?}")));
        }
        // What stands in a folder whose own name was lost is lost with it.
        let mut names = Names::new();
        for (path, node) in &self.durable {
            let folder = Path::new(path).parent();
            if folder.is_none_or(|folder| names.contains_key(folder.as_os_str())) {
                names.insert(path.clone(), *node);
            }
        }
        for node in names.values() {
            let node = &mut self.nodes[*node];
            if !node.synced {
                node.bytes.truncate(dice.below(node.bytes.len() + 1));
                node.synced = true;
            }
        }
        self.seen.clone_from(&names);
        self.durable = names;
        self.locks.clear();
        lost
    }

    /// Whether a file would survive a power cut as it is now, name and bytes.
    #[must_use]
    pub fn is_durable(&self, path: &Path) -> bool {
        let same = |path: &Path| {
            self.durable
                .get(path.as_os_str())
                .is_some_and(|node| self.seen.get(path.as_os_str()) == Some(node))
        };
        path.ancestors().all(same) && self.node(path).is_some_and(|node| node.synced)
    }

    /// What a power cut leaves of a file in any case: `None` where its name or its bytes may be lost. Where a newer
    /// version stands there that is not durable yet, this is the older one.
    #[must_use]
    pub fn durable(&self, path: &Path) -> Option<&[u8]> {
        let names = path.ancestors().all(|path| self.durable.contains_key(path.as_os_str()));
        let node = &self.nodes[*self.durable.get(path.as_os_str()).filter(|_| names)?];
        (node.synced && !node.folder).then_some(node.bytes.as_slice())
    }

    /// Every file with its bytes.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.seen
            .iter()
            .filter(|(_, node)| !self.nodes[**node].folder)
            .map(|(path, node)| (Path::new(path), self.nodes[*node].bytes.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (Platter, PathBuf) {
        let home = PathBuf::from("/home");
        (Platter::with_folders(&[&home]), home)
    }

    #[test]
    fn what_was_synced_survives_and_what_was_not_may_not() {
        let mut lost = 0;
        for seed in 0..64 {
            let (mut disk, home) = disk();
            let (old, new) = (home.join("a"), home.join("b"));
            for (path, bytes) in [(&old, b"old"), (&new, b"new")] {
                disk.create(path, 0o600).unwrap();
                disk.write(path, bytes);
                disk.sync(path);
                if path == &old {
                    disk.sync_folder(&home).unwrap();
                }
            }
            assert!(disk.is_durable(&old) && !disk.is_durable(&new));
            disk.rename(&new, &old).unwrap();
            assert_eq!(disk.read(&old).unwrap().unwrap(), b"new");
            disk.power_cut(&mut Dice::new(seed, 0));
            let left = disk.read(&old).unwrap().unwrap();
            assert!(left == b"old" || left == b"new", "never a mixture");
            lost += usize::from(left == b"old");
        }
        assert!(lost > 10 && lost < 64, "{lost}");
    }

    #[test]
    fn unsynced_bytes_are_kept_in_part_at_most() {
        let (mut short, mut whole) = (0, 0);
        for seed in 0..64 {
            let (mut disk, home) = disk();
            let path = home.join("a");
            disk.create(&path, 0o600).unwrap();
            disk.write(&path, b"0123456789");
            disk.sync_folder(&home).unwrap();
            disk.power_cut(&mut Dice::new(seed, 0));
            let left = disk.read(&path).unwrap().unwrap();
            assert!(b"0123456789".starts_with(&left));
            short += usize::from(left.len() < 10);
            whole += usize::from(left.len() == 10);
        }
        assert!(short > 32 && whole > 0, "{short}, {whole}");
    }

    #[test]
    fn a_file_in_a_folder_whose_name_was_lost_is_lost() {
        let (mut disk, home) = disk();
        let folder = home.join("state");
        disk.create_folder(&folder, 0o700).unwrap();
        let path = folder.join("claim");
        disk.create(&path, 0o600).unwrap();
        disk.sync(&path);
        disk.sync_folder(&folder).unwrap();
        assert!(!disk.is_durable(&path));
        let gone = (0..64).any(|seed| {
            let mut dice = Dice::new(seed, 0);
            dice.below(2) == 0
        });
        assert!(gone);
        let mut seed = 0;
        while Dice::new(seed, 0).below(2) != 0 {
            seed += 1;
        }
        disk.power_cut(&mut Dice::new(seed, 0));
        assert!(!disk.exists(&path) && !disk.exists(&folder) && disk.exists(&home));
    }

    /// The folders of a real file system are written back each for itself.
    #[test]
    fn a_power_cut_may_keep_the_later_change_of_another_folder() {
        let mut kept = [0; 4];
        for seed in 0..64 {
            let (one, other) = (PathBuf::from("/one"), PathBuf::from("/other"));
            let mut disk = Platter::with_folders(&[&one, &other]);
            let (first, second) = (one.join("a"), other.join("b"));
            disk.create(&first, 0o600).unwrap();
            disk.create(&second, 0o600).unwrap();
            disk.power_cut(&mut Dice::new(seed, 0));
            kept[usize::from(disk.exists(&first)) + 2 * usize::from(disk.exists(&second))] += 1;
        }
        assert!(kept.iter().all(|times| *times > 4), "{kept:?}");
    }

    #[test]
    fn what_is_durable_is_the_version_that_no_power_cut_takes() {
        let (mut disk, home) = disk();
        let (path, new) = (home.join("a"), home.join("b"));
        disk.create(&path, 0o600).unwrap();
        disk.write(&path, b"old");
        disk.sync_folder(&home).unwrap();
        assert_eq!(disk.durable(&path), None, "its bytes are not synced");
        disk.sync(&path);
        assert_eq!(disk.durable(&path), Some(&b"old"[..]));
        disk.create(&new, 0o600).unwrap();
        disk.write(&new, b"new");
        disk.sync(&new);
        disk.rename(&new, &path).unwrap();
        assert_eq!(disk.durable(&path), Some(&b"old"[..]), "the rename is not synced");
        disk.sync_folder(&home).unwrap();
        assert_eq!(disk.durable(&path), Some(&b"new"[..]));
        assert_eq!((disk.durable(&new), disk.durable(&home)), (None, None));
    }

    #[test]
    fn a_lock_ends_with_its_process_and_not_with_a_dead_guard() {
        let (mut disk, home) = disk();
        let path = home.join("lock");
        let first = disk.lock(&path, 1).unwrap().unwrap();
        assert_eq!(disk.lock(&path, 2).unwrap(), None);
        disk.release_locks(1);
        let second = disk.lock(&path, 2).unwrap().unwrap();
        disk.unlock(&path, first);
        assert_eq!(disk.lock(&path, 3).unwrap(), None);
        disk.unlock(&path, second);
        assert!(disk.lock(&path, 3).unwrap().is_some());
    }

    #[test]
    fn folders_are_checked_as_on_a_real_disk() {
        let (mut disk, home) = disk();
        let kind = |result: io::Result<()>| result.unwrap_err().kind();
        assert_eq!(kind(disk.create(&home.join("no/file"), 0o600)), ErrorKind::NotFound);
        disk.create(&home.join("file"), 0o600).unwrap();
        assert_eq!(kind(disk.create(&home.join("file"), 0o600)), ErrorKind::AlreadyExists);
        assert_eq!(kind(disk.create_folder(&home.join("file"), 0o700)), ErrorKind::NotADirectory);
        assert_eq!(kind(disk.create(&home.join("file/inside"), 0o600)), ErrorKind::NotADirectory);
        assert_eq!(kind(disk.remove_folder(&home.join("file"))), ErrorKind::NotADirectory);
        assert_eq!(kind(disk.read(&home).map(|_| ())), ErrorKind::IsADirectory);
        assert_eq!(disk.mode(&home.join("file")), Some(0o600));
        disk.create_folder(&home, 0o750).unwrap();
        assert_eq!((disk.mode(&home), disk.mode(&home.join("none"))), (Some(0o750), None));
        disk.write(&home.join("file"), b"bytes");
        assert_eq!(disk.files().collect::<Vec<_>>(), [(home.join("file").as_path(), &b"bytes"[..])]);
        assert_eq!(kind(disk.remove(&home)), ErrorKind::IsADirectory);
        assert_eq!(kind(disk.remove_folder(&home)), ErrorKind::DirectoryNotEmpty);
        assert_eq!(disk.list(&home), ["file"]);
        disk.remove(&home.join("file")).unwrap();
        disk.remove(&home.join("file")).unwrap();
        disk.remove_folder(&home).unwrap();
        assert!(!disk.exists(&home));
    }
}

//! Unpacks a tar stream from an instance. Nothing in it is trusted: no name leaves the target, nothing is written through
//! a link, and a file appears under its name only when it is whole.

use super::manifest::Moment;
use super::pack::Progress;
use super::path::{TreePath, system_path};
use super::place::Place;
use crate::world::{FileKind, Local};
use crate::{Code, Error, Result};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tar::{Archive, Entry, EntryType};

/// Puts what streams bring into local places.
pub struct Unpacker<'a> {
    /// The files.
    pub local: &'a dyn Local,
    /// Names unfinished files.
    pub token: &'a str,
    /// Counts.
    pub progress: &'a Progress,
}

impl Unpacker<'_> {
    /// The one regular file of a stream, as `target` or what a link there leads to. A file there is replaced at the end,
    /// in one step; a pipe or character device is written into.
    ///
    /// # Errors
    /// [`Code::CopyFailed`], or [`Code::SshLost`] for a stream that is cut off; a file is as it was then.
    pub fn file(&self, stream: impl Read, target: &Path) -> Result<()> {
        let mut archive = Archive::new(stream);
        let mut entries = archive.entries().map_err(broken)?;
        let entry = entries.next().ok_or_else(|| broken(io::ErrorKind::UnexpectedEof.into()))?;
        let mut entry = entry.map_err(broken)?;
        if !is_file(entry.header().entry_type()) {
            let message = format!("what should become {} is not a regular file there", target.display());
            return Err(Error::new(Code::CopyFailed, message));
        }
        let fail = |error| unwritten(target, error);
        match Place::of(self.local, target).map_err(fail)? {
            Place::File(place) => self.write(&mut entry, &place),
            Place::Stream(place) => {
                let size = entry.size();
                let mut into = || {
                    let mut out = self.local.write_into(&place)?;
                    self.pour(&mut entry, size, out.as_mut())?;
                    out.flush()
                };
                into().map_err(fail)?;
                self.progress.add_file();
                Ok(())
            }
        }
    }

    /// A whole tree, into `folder`, which exists. What is there and not in the stream stays. Returns what was left out
    /// because files here cannot be such.
    ///
    /// # Errors
    /// [`Code::CopyFailed`], or [`Code::SshLost`] for a stream that is cut off; what was whole by then is there.
    pub fn tree(&self, stream: impl Read, folder: &Path) -> Result<Vec<String>> {
        let mut archive = Archive::new(stream);
        let mut seen = BTreeSet::new();
        let mut folders: Vec<(PathBuf, u32, Moment)> = Vec::new();
        let mut left_out = Vec::new();
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let name = entry.path_bytes().into_owned();
            let Some(path) = inside(&name)? else { continue };
            let place = self.way(folder, &path, &mut seen)?;
            match entry.header().entry_type() {
                kind if is_file(kind) => self.write(&mut entry, &place)?,
                EntryType::Directory => {
                    self.folder(&place, &path)?;
                    seen.insert(path);
                    folders.push((place, mode(&entry), (time(&entry), 0)));
                }
                EntryType::Symlink => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    self.link(&target, &place)?;
                    self.progress.add_file();
                }
                EntryType::Link => {
                    let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                    let Some(target) = inside(&target)? else { return Err(unsafe_name(&target)) };
                    let target = self.way(folder, &target, &mut seen)?;
                    self.same_as(&target, &place)?;
                }
                _ => left_out.push(format!("{} is neither file, folder nor link: left out", path.text())),
            }
        }
        // Inner ones last in the stream, first here: writing into a folder changes its time, and may be forbidden by its mode.
        for (place, mode, (seconds, _)) in folders.iter().rev() {
            self.local.set(place, *mode, moment(*seconds)).map_err(|error| unwritten(place, error))?;
        }
        Ok(left_out)
    }

    /// Where a path of the stream is here, with real folders all the way.
    fn way(&self, root: &Path, path: &TreePath, seen: &mut BTreeSet<TreePath>) -> Result<PathBuf> {
        let mut missing: Vec<TreePath> = path.folders().take_while(|folder| !seen.contains(folder)).collect();
        while let Some(folder) = missing.pop() {
            let place = folder.below(root).ok_or_else(|| unsafe_name(folder.bytes()))?;
            self.folder(&place, &folder)?;
            seen.insert(folder);
        }
        path.below(root).ok_or_else(|| unsafe_name(path.bytes()))
    }

    fn folder(&self, place: &Path, path: &TreePath) -> Result<()> {
        match self.local.stat(place).map_err(|error| unwritten(place, error))? {
            Some(stat) if stat.kind == FileKind::Folder => Ok(()),
            Some(_) => Err(Error::new(
                Code::CopyFailed,
                format!("{} is not a folder here: nothing is written through it", path.text()),
            )
            .hint(format!("move {} away, or copy to another place", place.display()))),
            None => self.local.create_folder(place).map_err(|error| unwritten(place, error)),
        }
    }

    fn write<R: Read>(&self, entry: &mut Entry<'_, R>, place: &Path) -> Result<()> {
        let (mode, modified, size) = (mode(entry), moment(time(entry)), entry.size());
        self.replace(place, mode, modified, |out| self.pour(entry, size, out))
    }

    fn pour(&self, from: &mut dyn Read, size: u64, out: &mut dyn Write) -> io::Result<()> {
        let (mut left, mut buffer) = (size, vec![0; 128 * 1024]);
        while left > 0 {
            let count = from.read(&mut buffer)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            out.write_all(&buffer[..count])?;
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            left = left.saturating_sub(count);
            self.progress.add_bytes(count);
        }
        Ok(())
    }

    /// A second name of a file that the stream brought before.
    fn same_as(&self, first: &Path, place: &Path) -> Result<()> {
        let fail = |error| unwritten(place, error);
        let mut file = self.local.open(first).map_err(fail)?;
        let stat = file.stat().map_err(fail)?;
        self.replace(place, stat.mode, stat.modified, |out| io::copy(&mut file, out).map(drop))
    }

    /// Writes beside the place, and puts it there when it is whole.
    fn replace(
        &self,
        place: &Path,
        mode: u32,
        modified: SystemTime,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        self.replaceable(place)?;
        let beside = place.with_file_name(format!(".crabbox-cp.{}", self.token));
        let work = || {
            let mut out = self.local.create(&beside)?;
            fill(out.as_mut())?;
            out.flush()?;
            drop(out);
            self.local.set(&beside, mode, modified)?;
            self.local.rename(&beside, place)
        };
        work().map_err(|error| {
            // The failure is what matters; an unfinished file is only in the way.
            let _ = self.local.remove(&beside);
            unwritten(place, error)
        })?;
        self.progress.add_file();
        Ok(())
    }

    /// Refuses what the bytes of a stream must not take the place of.
    fn replaceable(&self, place: &Path) -> Result<()> {
        match self.local.stat(place).map_err(|error| unwritten(place, error))? {
            Some(stat) if stat.kind == FileKind::Other => Err(Error::new(
                Code::CopyFailed,
                format!("{} is neither file, folder nor link here: it is not replaced", place.display()),
            )
            .hint("move it away, or copy to another place")),
            _ => Ok(()),
        }
    }

    fn link(&self, target: &[u8], place: &Path) -> Result<()> {
        self.replaceable(place)?;
        let fail = |error| unwritten(place, error);
        let target = system_path(target).ok_or_else(|| unsafe_name(target))?;
        match self.local.stat(place).map_err(fail)? {
            Some(stat) if stat.kind == FileKind::Folder => {
                return Err(fail(io::Error::new(io::ErrorKind::IsADirectory, "a folder is in its place")));
            }
            Some(_) => self.local.remove(place).map_err(fail)?,
            None => {}
        }
        self.local.link(&target, place).map_err(fail)
    }
}

fn is_file(kind: EntryType) -> bool {
    matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse)
}

fn mode<R: Read>(entry: &Entry<'_, R>) -> u32 {
    // Never the bits that lend somebody's rights.
    entry.header().mode().unwrap_or(0o644) & 0o777
}

fn time<R: Read>(entry: &Entry<'_, R>) -> i64 {
    i64::try_from(entry.header().mtime().unwrap_or_default()).unwrap_or_default()
}

fn moment(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

/// The path that a name means, `None` for the folder itself.
fn inside(name: &[u8]) -> Result<Option<TreePath>> {
    let mut rest = name;
    while let Some(shorter) = rest.strip_prefix(b"./") {
        rest = shorter;
    }
    let rest = rest.strip_suffix(b"/").unwrap_or(rest);
    if matches!(rest, b"" | b".") && !name.starts_with(b"/") {
        return Ok(None);
    }
    TreePath::new(rest).map(Some).ok_or_else(|| unsafe_name(name))
}

fn unsafe_name(name: &[u8]) -> Error {
    let name = String::from_utf8_lossy(name);
    Error::new(Code::CopyFailed, format!("the stream names {name:?}, which is not inside the target"))
        .hint("nothing was written there; the instance's tar is not to be trusted")
}

fn unwritten(place: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return broken(error);
    }
    Error::new(Code::CopyFailed, format!("{} cannot be written: {error}", place.display())).because(error)
}

fn broken(error: io::Error) -> Error {
    Error::new(Code::SshLost, format!("the stream from the instance is broken: {error}")).because(error)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::world::real::RealLocal;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tar::{Builder, Header};

    fn stream(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            header.set_mtime(1_000_000_000);
            let raw = &mut header.as_old_mut().name;
            raw[..name.len()].copy_from_slice(name.as_bytes());
            let links = matches!(kind, EntryType::Symlink | EntryType::Link);
            if links {
                header.set_link_name_literal(content).unwrap();
            }
            let content = if links { "" } else { content };
            header.set_size(u64::try_from(content.len()).unwrap());
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn tree(bytes: &[u8], folder: &Path) -> Result<Vec<String>> {
        let progress = Progress::default();
        Unpacker { local: &RealLocal, token: "t", progress: &progress }.tree(bytes, folder)
    }

    #[test]
    fn a_tree_arrives_with_modes_times_and_links() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = stream(&[
            ("./", EntryType::Directory, ""),
            ("./a/", EntryType::Directory, ""),
            ("./a/run", EntryType::Regular, "content"),
            ("./a/twin", EntryType::Link, "./a/run"),
            ("./link", EntryType::Symlink, "../../anywhere"),
            ("./pipe", EntryType::Fifo, ""),
            ("deep/er/x", EntryType::Regular, ""),
        ]);
        let left_out = tree(&bytes, folder.path()).unwrap();
        assert_eq!(left_out, ["pipe is neither file, folder nor link: left out"]);
        let run = folder.path().join("a/run").metadata().unwrap();
        assert_eq!(run.permissions().mode() & 0o7777, 0o755);
        assert_eq!(run.modified().unwrap(), moment(1_000_000_000));
        assert_eq!(std::fs::read(folder.path().join("a/twin")).unwrap(), b"content");
        assert_eq!(std::fs::read_link(folder.path().join("link")).unwrap(), Path::new("../../anywhere"));
        // The same again replaces.
        tree(&bytes, folder.path()).unwrap();
        for cut in [100, 512, 1100, 1536 + 600] {
            let result = tree(&bytes[..cut], tempfile::tempdir().unwrap().path());
            assert!(result.is_err() || cut % 512 == 0, "cut at {cut}");
        }
    }

    #[test]
    fn nothing_leaves_the_target() {
        let home = tempfile::tempdir().unwrap();
        let (folder, outside) = (home.path().join("target"), home.path().join("outside"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::create_dir(&outside).unwrap();
        symlink(&outside, folder.join("planted")).unwrap();
        let absolute = format!("{}/x", outside.display());
        for entries in [
            &[("../x", EntryType::Regular, "evil")][..],
            &[("a/../../x", EntryType::Regular, "evil")],
            &[(absolute.as_str(), EntryType::Regular, "evil")],
            &[("//x", EntryType::Regular, "evil")],
            &[("planted/x", EntryType::Regular, "evil")],
            &[("planted/", EntryType::Directory, "")],
            &[("new", EntryType::Symlink, "../outside"), ("new/x", EntryType::Regular, "evil")],
            &[("hard", EntryType::Link, "../secret")],
            &[("hard", EntryType::Link, "planted/x")],
        ] {
            let error = tree(&stream(entries), &folder).unwrap_err();
            assert_eq!(error.code(), Code::CopyFailed, "{entries:?}");
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        // A link in the place of a file is replaced, not written through.
        symlink(outside.join("x"), folder.join("file")).unwrap();
        tree(&stream(&[("file", EntryType::Regular, "new")]), &folder).unwrap();
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert!(folder.join("file").symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn a_single_file_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model.bin");
        std::fs::write(&target, "old").unwrap();
        let progress = Progress::default();
        let unpacker = Unpacker { local: &RealLocal, token: "t", progress: &progress };
        let bytes = stream(&[("./whatever", EntryType::Regular, &"new".repeat(1000))]);
        for cut in [0, 100, 512, 1000, 3000] {
            assert!(unpacker.file(&bytes[..cut], &target).is_err(), "cut at {cut}");
            assert_eq!(std::fs::read(&target).unwrap(), b"old");
        }
        assert!(unpacker.file(&stream(&[("x", EntryType::Symlink, "y")])[..], &target).is_err());
        unpacker.file(&bytes[..], &target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap().len(), 3000);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

//! The real file system.

use crate::world::{Files, Guard};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Files of the machine we run on.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFiles;

/// An open file that holds the lock. The lock belongs to the open file, not to the process, so that two guards exclude each
/// other inside one process too.
struct FileLock(File);

impl Drop for FileLock {
    /// Closing is not enough: a child that is just being started has copies of our open files until it runs its program, and
    /// each of them would hold the lock.
    fn drop(&mut self) {
        // Where that fails, closing releases it a moment later.
        let _ = self.0.unlock();
    }
}

impl Guard for FileLock {}

impl Files for RealFiles {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        // A pipe in the place of a file would hold up whoever reads it, for ever.
        match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Ok(found) if !found.is_file() => {
                return Err(io::Error::new(ErrorKind::InvalidInput, "this is no regular file"));
            }
            _ => {}
        }
        match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        let mut file = options.open(path)?;
        // The umask may have taken bits that crabbox expects.
        #[cfg(unix)]
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        #[cfg(not(unix))]
        let _ = mode;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if cfg!(windows) {
            // Folders cannot be opened for this there; a rename is journalled by the file system.
            return Ok(());
        }
        match File::open(dir)?.sync_all() {
            // Some network file systems know no such call; they are as durable as they will be.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
            synced => synced,
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        missing_is_fine(fs::remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        missing_is_fine(fs::remove_dir(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names =
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            created => created?,
        }
        let found = fs::symlink_metadata(path)?;
        if found.is_symlink() {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "a symbolic link stands where a folder has to be",
            ));
        }
        if !found.is_dir() {
            return Err(io::Error::new(ErrorKind::NotADirectory, "a file stands where a folder has to be"));
        }
        if self.mode(path)?.is_some_and(|found| found != mode) {
            set_mode(path, mode)?;
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn mode(&self, path: &Path) -> io::Result<Option<u32>> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            #[cfg(unix)]
            Ok(found) => Ok(Some(std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o7777)),
            #[cfg(not(unix))]
            Ok(_) => Ok(None),
        }
    }

    #[cfg(unix)]
    fn is_writable(&self, dir: &Path) -> io::Result<bool> {
        use rustix::fs::{Access, access};
        // The bits alone do not tell: the folder may be another user's, or on a file system that is read-only.
        Ok(access(dir, Access::WRITE_OK | Access::EXEC_OK).is_ok())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(FileLock(file)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn missing_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_new_private_and_listed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        RealFiles.write_new(&b, b"2", 0o600).unwrap();
        RealFiles.write_new(&a, b"1", 0o600).unwrap();
        assert_eq!(RealFiles.write_new(&a, b"x", 0o600).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(RealFiles.list(dir.path()).unwrap(), ["a", "b"]);
        if cfg!(unix) {
            assert_eq!(RealFiles.mode(&a).unwrap(), Some(0o600));
        }
        RealFiles.rename(&a, &b).unwrap();
        RealFiles.sync_dir(dir.path()).unwrap();
        assert_eq!(RealFiles.read(&b).unwrap().unwrap(), b"1");
        assert!(!RealFiles.exists(&a).unwrap());
        RealFiles.remove(&a).unwrap();
        RealFiles.remove_dir(&a).unwrap();
        assert_eq!((RealFiles.read(&a).unwrap(), RealFiles.mode(&a).unwrap()), (None, None));
        assert!(RealFiles.list(&a).unwrap().is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_in_the_place_of_a_file_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("cbx_333333333333.json");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(RealFiles.read(&pipe).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_lock_ends_with_its_guard_whoever_has_a_copy_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let file = File::create(&path).unwrap();
        file.try_lock().unwrap();
        // As a child has between its fork and its exec.
        let copy = file.try_clone().unwrap();
        let guard = FileLock(file);
        assert!(RealFiles.try_lock(&path).unwrap().is_none());
        drop(guard);
        assert!(RealFiles.try_lock(&path).unwrap().is_some());
        drop(copy);
    }

    #[cfg(unix)]
    #[test]
    fn folders_are_real_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        set_mode(&folder, 0o755).unwrap();
        RealFiles.create_dir(&folder, 0o700).unwrap();
        assert_eq!(RealFiles.mode(&folder).unwrap(), Some(0o700));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert_eq!(RealFiles.create_dir(&link, 0o700).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(RealFiles.exists(&link).unwrap());
        let file = dir.path().join("file");
        RealFiles.write_new(&file, b"", 0o600).unwrap();
        assert_eq!(RealFiles.create_dir(&file, 0o700).unwrap_err().kind(), ErrorKind::NotADirectory);
    }

    #[test]
    fn a_lock_excludes_inside_one_process_and_ends_with_its_guard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let guard = RealFiles.try_lock(&path).unwrap();
        assert!(guard.is_some());
        assert!(RealFiles.try_lock(&path).unwrap().is_none());
        drop(guard);
        assert!(RealFiles.try_lock(&path).unwrap().is_some());
    }
}

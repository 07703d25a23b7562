//! The seam to the user's own files: the working tree that a sync brings over, what `cp` copies, and the local `git`.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A socket, a device, a pipe.
    Other,
}

/// The facts of a file without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Unix permission bits (0o777).
    pub mode: u32,
    /// Bytes; of a link the length of its target.
    pub size: u64,
    /// When its content last changed.
    pub modified: SystemTime,
}

/// An open file.
pub trait OpenFile: Read + Send {
    /// Its facts now.
    ///
    /// # Errors
    /// Those of the system.
    fn stat(&self) -> io::Result<Stat>;
}

/// How a git command ended.
#[derive(Debug, Clone)]
pub struct GitAnswer {
    /// Whether it exited with 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

/// The user's files. All calls block: callers are on threads where that is allowed. Links are never followed.
pub trait Local: Send + Sync {
    /// Runs `git` in `folder` without a terminal, pager, hooks of the file monitor, or the caller's secrets.
    ///
    /// # Errors
    /// When git cannot be started.
    fn git(&self, folder: &Path, arguments: &[&str]) -> io::Result<GitAnswer>;
    /// What stands at `path`; `None` where there is nothing.
    ///
    /// # Errors
    /// Those of the system.
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>>;
    /// Where a link leads.
    ///
    /// # Errors
    /// Those of the system.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;
    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// Those of the system; anything but a regular file is refused.
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;
    /// The names in a folder, sorted.
    ///
    /// # Errors
    /// Those of the system.
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>>;
    /// Creates a file that must not exist yet, for the owner alone.
    ///
    /// # Errors
    /// Those of the system.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Write + Send>>;
    /// Opens a pipe or a character device for writing. What nobody reads from is refused, at once or when it has taken
    /// nothing for a minute.
    ///
    /// # Errors
    /// Those of the system; anything else at `path` is refused.
    fn write_into(&self, path: &Path) -> io::Result<Box<dyn Write + Send>>;
    /// Creates a folder; one that exists is not an error.
    ///
    /// # Errors
    /// Those of the system; anything else in its place is refused.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Sets permission bits and modification time of a file or folder.
    ///
    /// # Errors
    /// Those of the system.
    fn set(&self, path: &Path, mode: u32, modified: SystemTime) -> io::Result<()>;
    /// Makes a symbolic link.
    ///
    /// # Errors
    /// Those of the system, or that it has none.
    fn link(&self, target: &Path, path: &Path) -> io::Result<()>;
    /// Renames over what is there.
    ///
    /// # Errors
    /// Those of the system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or link; a missing one is not an error.
    ///
    /// # Errors
    /// Those of the system.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

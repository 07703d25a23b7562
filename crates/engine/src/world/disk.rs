//! The seam to the file system: a handful of synchronous calls, so that a simulated disk can lose what was not synced.

use async_trait::async_trait;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Keeps a lock until dropped.
pub trait Guard: Send + Sync {}

/// A directory entry of [`Files::list`].
pub type Name = std::ffi::OsString;

/// The calls that the store is written over. All are synchronous and short; durability is explicit.
pub trait Files: Send + Sync {
    /// The whole file, or `None` where there is none.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// Creates a file that must not exist (`O_EXCL`), writes it and syncs it. `mode` is the Unix mode (0600).
    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()>;
    /// Renames over an existing file. Durable only after [`Files::sync_dir`] of the folder.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes earlier creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Removes a file; a missing one is not an error.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder; a missing one is not an error.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder, sorted; empty where there is none.
    fn list(&self, dir: &Path) -> io::Result<Vec<Name>>;
    /// Creates one folder with this mode; an existing one is not an error, a symlink in its place is.
    /// Its mode is set to `mode` where it differs.
    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Whether something stands at `path` (links are not followed).
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Unix permission bits of a file or folder, `None` where there is none or the system has no such thing.
    fn mode(&self, path: &Path) -> io::Result<Option<u32>>;
    /// Whether entries may be made in a folder, as far as can be told without making one.
    fn is_writable(&self, dir: &Path) -> io::Result<bool> {
        Ok(self.mode(dir)?.is_none_or(|mode| mode & 0o200 != 0))
    }
    /// Tries an exclusive advisory lock (`flock`, `LockFileEx`) on `path`, creating the file (0600).
    /// `None` while another process, or another guard in this one, holds it.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>>;
}

/// What a simulation does before each transaction: it lets time pass, so that others come in between.
#[async_trait]
pub trait Turn: Send + Sync {
    /// Ends when the transaction may run.
    async fn take(&self);
}

/// Runs transactions on [`Files`], off the async threads in production and inline in a simulation.
#[derive(Clone)]
pub struct Disk {
    files: Arc<dyn Files>,
    inline: bool,
    turn: Option<Arc<dyn Turn>>,
}

impl Disk {
    /// A disk whose transactions run on tokio's blocking pool: a dropped caller cannot cut one in half.
    #[must_use]
    pub fn blocking(files: Arc<dyn Files>) -> Self {
        Self { files, inline: false, turn: None }
    }

    /// A disk whose transactions run where they are called (simulations, synchronous callers).
    #[must_use]
    pub fn inline(files: Arc<dyn Files>) -> Self {
        Self { files, inline: true, turn: None }
    }

    /// [`Disk::inline`] where each transaction waits for its turn.
    #[must_use]
    pub fn by_turns(files: Arc<dyn Files>, turn: Arc<dyn Turn>) -> Self {
        Self { files, inline: true, turn: Some(turn) }
    }

    /// Direct access, for calls that cannot block for long ([`Files::try_lock`]).
    #[must_use]
    pub fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    /// Runs one transaction to its end.
    pub async fn transact<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&dyn Files) -> T + Send + 'static,
    {
        if let Some(turn) = &self.turn {
            turn.take().await;
        }
        if self.inline {
            return work(self.files.as_ref());
        }
        let files = Arc::clone(&self.files);
        match tokio::task::spawn_blocking(move || work(files.as_ref())).await {
            Ok(value) => value,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

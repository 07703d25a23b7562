//! The simulated disk as one process sees it.

use crate::history::Happening;
use crate::life::Life;
use crate::shared::Shared;
use async_trait::async_trait;
use crabbox_vast_engine::world::{Files, Guard, Turn};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the disk refuses. Operations are counted from 1 in each process it is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// The nth operation fails once.
    Fails(usize),
    /// From the nth operation on nothing can be created or written, until the recovery.
    Full(usize),
}

pub(crate) struct ProcessFiles {
    pub shared: Arc<Shared>,
    pub life: Arc<Life>,
    pub fault: Option<DiskFault>,
    pub operations: Arc<AtomicUsize>,
}

/// A lock that a process holds.
struct Held {
    shared: Arc<Shared>,
    path: PathBuf,
    guard: u64,
}

impl Guard for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.disk(|disk| disk.unlock(&self.path, self.guard));
    }
}

fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

impl ProcessFiles {
    /// One operation that only looks.
    fn look(&self, what: &str, path: &Path) -> io::Result<()> {
        if self.life.is_dead() {
            return Err(dead());
        }
        self.count(what, path, false)
    }

    /// One operation that changes something: it is a step too.
    fn change(&self, what: &str, path: &Path, takes_space: bool) -> io::Result<()> {
        if !self.life.strikes() {
            return Err(dead());
        }
        self.count(what, path, takes_space)
    }

    fn count(&self, what: &str, path: &Path, takes_space: bool) -> io::Result<()> {
        let operation = self.operations.fetch_add(1, Ordering::SeqCst) + 1;
        let kind = match self.fault {
            Some(DiskFault::Fails(at)) if at == operation => ErrorKind::Other,
            Some(DiskFault::Full(from)) if operation >= from && takes_space => ErrorKind::StorageFull,
            _ => return Ok(()),
        };
        let what = format!("{what} {}: {kind}", path.display());
        self.shared.note(Happening::DiskFault { process: self.life.process, what });
        Err(kind.into())
    }
}

impl Files for ProcessFiles {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        self.look("read", path)?;
        self.shared.disk(|disk| disk.read(path))
    }

    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.change("create", path, true)?;
        self.shared.disk(|disk| disk.create(path, mode))?;
        if let Err(error) = self.change("write", path, true) {
            // Half of it got through, whether the disk filled up or the process died over it.
            self.shared.disk(|disk| disk.write(path, &bytes[..bytes.len() / 2]));
            return Err(error);
        }
        self.shared.disk(|disk| disk.write(path, bytes));
        self.shared.look_at_file(path, bytes);
        self.change("fsync", path, false)?;
        self.shared.disk(|disk| disk.sync(path));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change("rename", to, false)?;
        self.shared.disk(|disk| disk.rename(from, to))?;
        self.shared.note_claim(to);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change("sync folder", dir, false)?;
        self.shared.disk(|disk| disk.sync_folder(dir))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change("remove", path, false)?;
        self.shared.disk(|disk| disk.remove(path))?;
        self.shared.note_claim(path);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change("remove folder", path, false)?;
        self.shared.disk(|disk| disk.remove_folder(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.look("list", dir)?;
        Ok(self.shared.disk(|disk| disk.list(dir)))
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.change("create folder", path, true)?;
        self.shared.disk(|disk| disk.create_folder(path, mode))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.look("look at", path)?;
        Ok(self.shared.disk(|disk| disk.exists(path)))
    }

    fn mode(&self, path: &Path) -> io::Result<Option<u32>> {
        self.look("look at", path)?;
        Ok(self.shared.disk(|disk| disk.mode(path)))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        if self.life.is_dead() {
            return Err(dead());
        }
        let taken = self.shared.disk(|disk| disk.lock(path, self.life.process))?;
        let held = |guard| Held { shared: Arc::clone(&self.shared), path: path.to_owned(), guard };
        if taken.is_none() {
            self.shared.reach("a lock was waited for");
        }
        Ok(taken.map(|guard| Box::new(held(guard)) as Box<dyn Guard>))
    }
}

/// Lets others come between two transactions.
pub(crate) struct ProcessTurn(pub Arc<Life>);

#[async_trait]
impl Turn for ProcessTurn {
    async fn take(&self) {
        self.0.pause().await;
    }
}

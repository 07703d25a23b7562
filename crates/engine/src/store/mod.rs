//! Claims, journals, keys and pacing slots on disk.
//!
//! Claims, their locks and the keys are crabbox's files: the same folders, names, bytes and locks, so that both tools
//! work on the same leases. Journals and pacing slots are ours alone and stand beside them.
//!
//! A lock on a file is held only inside a function of this module, for local work; only [`OperationGuard`] outlives
//! its call. Every change is one transaction on the [`Disk`]: a caller that is dropped cannot cut it in half.

mod aftermath;
mod budget;
mod claims;
mod file;
mod journal;
mod journal_creates;
mod journal_parts;
mod journal_steps;
mod keys;
mod known_hosts;
mod machines;
mod pacing;
mod paths;

#[cfg(test)]
mod testing;

pub use budget::DayCost;
pub(crate) use budget::left_hint;
pub use claims::ClaimScan;
pub use journal::Journal;
pub(crate) use journal_parts::PROVED_NOTHING;
pub use journal_parts::{Attempt, DeadmanRecord, Holder, JournalRequest, Step, StepKind};
pub use keys::LeaseKey;
pub use machines::FailedMachine;
pub use paths::Paths;

use crate::lease::LeaseId;
use crate::world::{Ambient, Disk, Files, Guard};
use crate::{Code, Error, Result};
use file::{At, make_folder, sync_folders};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a lock is waited for. Others hold one for milliseconds; who holds it longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two tries. The blocking call could not be cancelled.
const RETRY: Duration = Duration::from_millis(5);

/// The records on disk. Cloning is cheap; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Disk,
    ambient: Arc<dyn Ambient>,
    paths: Paths,
}

/// Says that this process works on a lease, until dropped.
pub struct OperationGuard {
    _guard: Box<dyn Guard>,
}

impl Store {
    /// A store in these folders. Nothing is touched before the first call.
    #[must_use]
    pub fn new(disk: Disk, ambient: Arc<dyn Ambient>, paths: Paths) -> Self {
        Self { inner: Arc::new(Inner { disk, ambient, paths }) }
    }

    /// Where the records are.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.inner.paths
    }

    /// Tries once to become the process that works on a lease; `None` while another one does.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`] when the lock file cannot be used.
    pub async fn operation_lock(&self, lease: &LeaseId) -> Result<Option<OperationGuard>> {
        let guard = self.lock_path(self.inner.paths.operation_lock(lease), Duration::ZERO).await?;
        Ok(guard.map(|guard| OperationGuard { _guard: guard }))
    }

    /// Takes an exclusive lock on a file, made with its folder where missing; tries every 5 ms until `patience` is
    /// over, then `None`. A zero patience tries once.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`] when the lock file cannot be used.
    pub async fn lock_path(&self, path: PathBuf, patience: Duration) -> Result<Option<Box<dyn Guard>>> {
        let deadline = Instant::now() + patience;
        let mut folder_made = false;
        loop {
            match self.inner.disk.files().try_lock(&path) {
                Ok(Some(guard)) => return Ok(Some(guard)),
                Ok(None) if Instant::now() >= deadline => return Ok(None),
                Ok(None) => sleep(RETRY).await,
                Err(error) if error.kind() == ErrorKind::NotFound && !folder_made => {
                    folder_made = true;
                    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
                    // Synced at once: whoever later finds the state folder in place takes it for durable.
                    let made = move |files: &dyn Files| sync_folders(files, &make_folder(files, &folder)?);
                    self.inner.disk.transact(made).await?;
                }
                Err(error) => return Err(error).at("lock", &path),
            }
        }
    }

    /// A lock that has to be had: others hold it for milliseconds only.
    async fn lock(&self, path: PathBuf) -> Result<Box<dyn Guard>> {
        self.lock_path(path.clone(), PATIENCE).await?.ok_or_else(|| {
            let seconds = PATIENCE.as_secs();
            Error::new(Code::LeaseBusy, format!("{} was locked for {seconds} s", path.display()))
                .hint("another crabbox or crabbox-vast hangs; end it, then try again (the lock file itself can stay)")
                .with("path", path.to_string_lossy().into_owned())
        })
    }

    /// Runs one transaction under locks, which end with it even where the caller is dropped meanwhile.
    async fn locked<T, F>(&self, locks: impl IntoIterator<Item = PathBuf>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Files, &Inner) -> Result<T> + Send + 'static,
    {
        let mut guards = Vec::new();
        for path in locks {
            guards.push(self.lock(path).await?);
        }
        self.transact(move |files, inner| {
            let done = work(files, inner);
            drop(guards);
            done
        })
        .await
    }

    /// Runs one transaction.
    async fn transact<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&dyn Files, &Inner) -> T + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        self.inner.disk.transact(move |files| work(files, &inner)).await
    }
}

//! How a command finds the simulator that its user started in another terminal.

use crate::error::SimError;
use crate::running::Running;
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The announcement's file, and the lock that says whether it is true.
const FILE: &str = "sim.json";
const LOCK: &str = "sim.lock";

/// A simulator's word that it is there. It holds until this is dropped or the process ends, however it ends:
/// what counts is the lock, not the file.
#[derive(Debug)]
pub struct Announcement {
    dir: PathBuf,
    _lock: File,
}

/// What a simulator has announced.
#[derive(Clone)]
#[non_exhaustive]
pub struct Announced {
    /// The API's base address.
    pub url: String,
    /// The account's key.
    pub api_key: String,
    /// The folder to use as the work root on every instance.
    pub work_root: PathBuf,
    /// Where the simulator keeps its state.
    pub state_dir: PathBuf,
    /// Its process, for messages.
    pub pid: u32,
    /// Its version.
    pub version: String,
}

impl std::fmt::Debug for Announced {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url, pid, version, .. } = self;
        formatter
            .debug_struct("Announced")
            .field("url", url)
            .field("pid", pid)
            .field("version", version)
            .finish_non_exhaustive()
    }
}

impl Running {
    /// Announces this simulator in a folder, for [`find`].
    ///
    /// # Errors
    /// When another simulator is announced there, or the folder cannot be written.
    pub fn announce(&self, dir: &Path) -> Result<Announcement, SimError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(SimError::path(dir))?;
        let lock = open_lock(dir).map_err(SimError::path(dir.join(LOCK)))?;
        // Somebody who is just looking holds the lock for a moment.
        let mut taken = lock.try_lock();
        for _ in 0..10 {
            if !matches!(taken, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
            taken = lock.try_lock();
        }
        match taken {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SimError::AlreadyAnnounced { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(SimError::Path { path: dir.join(LOCK), source }),
        }
        let text = json!({
            "url": self.url(), "api_key": self.api_key(), "work_root": self.work_root(),
            "state_dir": self.state_dir(), "pid": std::process::id(), "version": env!("CARGO_PKG_VERSION"),
        });
        // Written aside and renamed, so that a reader never meets half of it.
        let aside = dir.join(format!("{FILE}.{}", std::process::id()));
        let write = || {
            let _ = fs::remove_file(&aside);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
            file.write_all(format!("{text}\n").as_bytes())?;
            fs::rename(&aside, dir.join(FILE))
        };
        write().map_err(SimError::path(dir.join(FILE)))?;
        Ok(Announcement { dir: dir.to_owned(), _lock: lock })
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Removed while the lock is still held; the lock goes with the file handle.
        let _ = fs::remove_file(self.dir.join(FILE));
    }
}

/// The simulator announced in a folder, if it is alive.
pub fn find(dir: &Path) -> Option<Announced> {
    let lock = OpenOptions::new().read(true).open(dir.join(LOCK)).ok()?;
    // Getting the lock means that nobody holds it: the file, if there is one, is a leftover.
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        _ => return None,
    }
    let text: Value = serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()?;
    let part = |name: &str| text[name].as_str().map(str::to_owned);
    Some(Announced {
        url: part("url")?,
        api_key: part("api_key")?,
        work_root: part("work_root")?.into(),
        state_dir: part("state_dir")?.into(),
        pid: u32::try_from(text["pid"].as_u64()?).ok()?,
        version: part("version")?,
    })
}

fn open_lock(dir: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(dir.join(LOCK))
}

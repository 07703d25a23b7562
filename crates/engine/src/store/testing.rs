//! A bench for the store's tests: a temporary folder, a clock that the test moves, and a disk that fails on demand.

use super::{Paths, Store};
use crate::world::real::{RealAmbient, RealFiles};
use crate::world::{Ambient, Disk, Files, Guard};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time of the bench at its start, Unix seconds.
pub(super) const START: u64 = 1_787_400_000;

pub(super) struct Bench {
    root: tempfile::TempDir,
    clock: Arc<Clock>,
    faults: Arc<Faults>,
    pub(super) store: Store,
}

struct Clock(AtomicU64);

impl Ambient for Clock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
    fn random(&self, bytes: &mut [u8]) {
        RealAmbient::new("bench").random(bytes);
    }
    fn process(&self) -> String {
        "1@bench".into()
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let clock = Arc::new(Clock(AtomicU64::new(START * 1000)));
        let faults = Arc::new(Faults::default());
        let store = open(root.path(), &clock, &faults);
        Self { root, clock, faults, store }
    }

    /// Another store on the same files, as another process has it.
    pub(super) fn process(&self) -> Store {
        open(self.root.path(), &self.clock, &self.faults)
    }

    pub(super) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(super) fn paths(&self) -> &Paths {
        self.store.paths()
    }

    pub(super) fn files(&self) -> RealFiles {
        RealFiles
    }

    pub(super) fn advance(&self, time: Duration) {
        self.clock.0.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(super) fn rewind(&self, time: Duration) {
        self.clock.0.fetch_sub(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Puts a file there, with its folders.
    pub(super) fn put(&self, path: &Path, bytes: &[u8]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Lets the `nth` operation from now (0 is the next) fail once with `kind`; removals work.
    pub(super) fn fail(&self, nth: i64, kind: io::ErrorKind) {
        *self.faults.kind.lock().unwrap() = Some(kind);
        self.faults.left.store(nth, Ordering::SeqCst);
    }

    /// Whether the failure that was asked for has happened.
    pub(super) fn failed(&self) -> bool {
        self.faults.left.load(Ordering::SeqCst) < 0
    }

    /// The operations since the bench began, for questions of order.
    pub(super) fn history(&self) -> Vec<String> {
        self.faults.history.lock().unwrap().clone()
    }
}

fn open(root: &Path, clock: &Arc<Clock>, faults: &Arc<Faults>) -> Store {
    let paths = Paths { state: root.join("state/crabbox"), config: root.join("config") };
    let files = Arc::new(Failing { faults: Arc::clone(faults), root: root.to_path_buf() });
    Store::new(Disk::blocking(files), Arc::clone(clock) as Arc<dyn Ambient>, paths)
}

#[derive(Default)]
struct Faults {
    left: AtomicI64,
    kind: Mutex<Option<io::ErrorKind>>,
    history: Mutex<Vec<String>>,
}

struct Failing {
    faults: Arc<Faults>,
    root: std::path::PathBuf,
}

impl Failing {
    fn count(&self, operation: &str, path: &Path) -> io::Result<()> {
        let shown = path.strip_prefix(&self.root).unwrap_or(path).display().to_string();
        self.faults.history.lock().unwrap().push(format!("{operation} {shown}"));
        let mut kind = self.faults.kind.lock().unwrap();
        if let Some(wanted) = *kind
            && self.faults.left.fetch_sub(1, Ordering::SeqCst) == 0
        {
            *kind = None;
            return Err(wanted.into());
        }
        Ok(())
    }
}

impl Files for Failing {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        self.count("read", path)?;
        RealFiles.read(path)
    }
    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        if let Err(error) = self.count("write", path) {
            // A disk that fills up leaves half a file.
            RealFiles.write_new(path, &bytes[..bytes.len() / 2], mode)?;
            return Err(error);
        }
        RealFiles.write_new(path, bytes, mode)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.count("rename", to)?;
        RealFiles.rename(from, to)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.count("sync", dir)?;
        RealFiles.sync_dir(dir)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFiles.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealFiles.remove_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.count("list", dir)?;
        RealFiles.list(dir)
    }
    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.count("create", path)?;
        RealFiles.create_dir(path, mode)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.count("look", path)?;
        RealFiles.exists(path)
    }
    fn mode(&self, path: &Path) -> io::Result<Option<u32>> {
        RealFiles.mode(path)
    }
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        self.count("lock", path)?;
        RealFiles.try_lock(path)
    }
}

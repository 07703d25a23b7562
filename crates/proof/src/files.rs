//! The simulated disk as one process sees it.

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
    /// The nth operation is carried out, and reported as failed.
    Misreports(usize),
}

/// What an operation says once it has taken effect.
type Said = io::Result<()>;

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
    /// One operation that only looks: one that fails has shown nothing.
    fn look(&self, what: &str, path: &Path) -> io::Result<()> {
        if self.life.is_dead() {
            return Err(dead());
        }
        self.count(what, path, false)?
    }

    /// One operation that changes something: it is a step too. An error means that nothing was changed; what is to be
    /// said once it was comes back otherwise.
    fn change(&self, what: &str, path: &Path, takes_space: bool) -> io::Result<Said> {
        if !self.life.strikes() {
            return Err(dead());
        }
        self.count(what, path, takes_space)
    }

    fn count(&self, what: &str, path: &Path, takes_space: bool) -> io::Result<Said> {
        let operation = self.operations.fetch_add(1, Ordering::SeqCst) + 1;
        let (kind, done) = match self.fault {
            Some(DiskFault::Fails(at)) if at == operation => (ErrorKind::Other, false),
            Some(DiskFault::Misreports(at)) if at == operation => (ErrorKind::Other, true),
            Some(DiskFault::Full(from)) if operation >= from && takes_space => {
                (ErrorKind::StorageFull, false)
            }
            _ => return Ok(Ok(())),
        };
        let how = if done { "done, and reported as failed" } else { "not done" };
        let what = format!("{what} {}: {kind}, {how}", path.display());
        self.shared.disk_refused(self.life.process, what);
        if done { Ok(Err(kind.into())) } else { Err(kind.into()) }
    }
}

impl Files for ProcessFiles {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        self.look("read", path)?;
        self.shared.disk(|disk| disk.read(path))
    }

    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let said = self.change("create", path, true)?;
        self.shared.disk(|disk| disk.create(path, mode))?;
        said?;
        let said = match self.change("write", path, true) {
            Ok(said) => said,
            Err(error) => {
                // Half of it got through, whether the disk filled up or the process died over it.
                self.shared.disk(|disk| disk.write(path, &bytes[..bytes.len() / 2]));
                return Err(error);
            }
        };
        self.shared.disk(|disk| disk.write(path, bytes));
        self.shared.look_at_file(path, bytes);
        said?;
        let said = self.change("fsync", path, false)?;
        self.shared.disk(|disk| disk.sync(path));
        said
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let said = self.change("rename", to, false)?;
        self.shared.disk(|disk| disk.rename(from, to))?;
        self.shared.note_claim(to);
        said
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let said = self.change("sync folder", dir, false)?;
        self.shared.disk(|disk| disk.sync_folder(dir))?;
        said
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let said = self.change("remove", path, false)?;
        self.shared.disk(|disk| disk.remove(path))?;
        self.shared.note_claim(path);
        said
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let said = self.change("remove folder", path, false)?;
        self.shared.disk(|disk| disk.remove_folder(path))?;
        said
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.look("list", dir)?;
        Ok(self.shared.disk(|disk| disk.list(dir)))
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        let said = self.change("create folder", path, true)?;
        self.shared.disk(|disk| disk.create_folder(path, mode))?;
        said
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.look("look at", path)?;
        Ok(self.shared.disk(|disk| disk.exists(path)))
    }

    fn mode(&self, path: &Path) -> io::Result<Option<u32>> {
        self.look("look at", path)?;
        Ok(self.shared.disk(|disk| disk.mode(path)))
    }

    /// A lock is a file that is made where there is none, and one that was taken says so or is none.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        self.change("lock", path, !self.shared.disk(|disk| disk.exists(path)))??;
        let taken = self.shared.disk(|disk| disk.lock(path, self.life.process))?;
        self.shared.note_lock(self.life.process, path, taken.is_some());
        let held = |guard| Held { shared: Arc::clone(&self.shared), path: path.to_owned(), guard };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Operation, Plan};
    use crate::play::run;
    use crate::stage::{Stage, Treatment};
    use crate::tally::Tally;
    use crate::vendor::Vendor;

    fn files(fault: DiskFault) -> (Stage, ProcessFiles) {
        let stage = Stage::new(1, &Vendor::default());
        let life = Arc::clone(&stage.process(&Treatment::default()).life);
        let shared = Arc::clone(stage.shared());
        (stage, ProcessFiles { shared, life, fault: Some(fault), operations: Arc::default() })
    }

    /// What a disk reports as failed may have been done all the same.
    #[tokio::test(start_paused = true)]
    async fn an_operation_can_be_carried_out_and_reported_as_failed() {
        let [old, new] = ["old", "new"].map(|name| Path::new("/proof/home").join(name));
        let attempt = |fault| {
            let (_stage, files) = files(fault);
            files.write_new(&old, b"1", 0o600).unwrap();
            let renamed = files.rename(&old, &new);
            (renamed.is_ok(), files.exists(&new).unwrap())
        };
        // Created, written, synced; then the rename.
        assert_eq!(attempt(DiskFault::Fails(4)), (false, false));
        assert_eq!(attempt(DiskFault::Misreports(4)), (false, true));
        let (_stage, files) = files(DiskFault::Misreports(2));
        assert!(files.write_new(&old, b"12", 0o600).is_err());
        assert_eq!(files.read(&old).unwrap().as_deref(), Some(&b"12"[..]));
    }

    /// A lock is refused, filled up and died over like everything else on the disk.
    #[tokio::test(start_paused = true)]
    async fn taking_a_lock_is_an_operation_and_a_step() {
        let path = Path::new("/proof/home/lock");
        for fault in [DiskFault::Fails(1), DiskFault::Misreports(1), DiskFault::Full(1)] {
            let (_stage, files) = files(fault);
            assert!(files.try_lock(path).is_err());
            assert_eq!(files.life.steps(), 1);
            assert_eq!(files.try_lock(path).is_ok(), fault != DiskFault::Full(1), "there is no room for it");
        }
    }

    /// At each operation of the disk in turn: it was done, and said to have failed.
    #[test]
    fn nothing_breaks_when_the_disk_misreports_an_operation() {
        let operations =
            [Operation::Acquire, Operation::Run, Operation::Stop, Operation::Cleanup, Operation::Start];
        for operation in operations {
            let mut tally = Tally::default();
            let disk = run(&Plan::single(20_260, operation)).counts[0].disk;
            for at in 1..=disk {
                let disk = Some(DiskFault::Misreports(at));
                let plan =
                    Plan::single(20_260, operation).treated(Treatment { disk, ..Treatment::default() });
                tally.play(&plan, || format!("{operation:?} at {at}"));
            }
            assert!(disk > 20 && tally.failures.is_empty(), "{disk}: {:#?}", tally.failures);
        }
    }
}

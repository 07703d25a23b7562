//! A simulator from its start to its end.

use crate::api::{Fault, Ledger, World};
use crate::error::SimError;
use crate::options::Options;
use crate::server;
use crate::shared::Shared;
use crate::ssh::{Folders, RealHost};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A simulator at work. Dropping it ends it, with every process of its instances.
pub struct Running {
    shared: Arc<Shared>,
    folders: Folders,
    address: SocketAddr,
    api_key: String,
    state_dir: PathBuf,
    tasks: Vec<JoinHandle<()>>,
    /// Says that the state directory is taken.
    _lock: File,
}

/// Starts a simulator.
///
/// # Errors
/// When the address is not on loopback or is taken, an option is out of range, or the state directory cannot
/// be written.
pub async fn start(options: Options) -> Result<Running, SimError> {
    let address = options.listen;
    if !address.ip().is_loopback() {
        return Err(SimError::NotLoopback { address });
    }
    if !(options.time_scale.is_finite() && options.time_scale > 0.0) {
        return Err(SimError::Option { option: "time_scale" });
    }
    let (state_dir, lock) = prepare(&options.state_dir)?;
    let options = Options { state_dir, ..options };
    let listener = TcpListener::bind(address).await.map_err(|source| SimError::Listen { address, source })?;
    let address = listener.local_addr().map_err(|source| SimError::Listen { address, source })?;
    let folders = Folders::below(&options.state_dir);
    let settings = options.settings(format!("http://{address}"));
    let shared = Arc::new_cyclic(|shared| {
        let host = RealHost::new(folders.clone(), shared.clone());
        Shared::new(World::new(settings, Box::new(host)), options.time_scale)
    });
    let serve = server::serve(listener, Arc::clone(&shared), options.api_latency);
    let keep_time = {
        let shared = Arc::clone(&shared);
        async move { shared.keep_time().await }
    };
    Ok(Running {
        tasks: vec![tokio::spawn(serve), tokio::spawn(keep_time)],
        shared,
        folders,
        address,
        api_key: options.api_key,
        state_dir: options.state_dir,
        _lock: lock,
    })
}

/// Marks a folder as a simulator's state directory, and is locked while one works in it.
const LOCK: &str = "state.lock";

/// Makes the folders and locks them; what an earlier simulator left in them is removed, but not what is not ours.
fn prepare(state_dir: &Path) -> Result<(PathBuf, File), SimError> {
    let make = |folder: &Path| {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(SimError::path(folder))
    };
    make(state_dir)?;
    // Commands see these paths from other working directories.
    let state_dir = state_dir.canonicalize().map_err(SimError::path(state_dir))?;
    let folders = Folders::below(&state_dir);
    let all = [&folders.instances, &folders.work, &folders.trash];
    let lock = state_dir.join(LOCK);
    if !lock.exists()
        && let Some(foreign) = all.into_iter().find(|folder| folder.exists())
    {
        return Err(SimError::Foreign { path: foreign.clone() });
    }
    let held = OpenOptions::new().create(true).append(true).open(&lock).map_err(SimError::path(&lock))?;
    match held.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(SimError::InUse { path: state_dir }),
        Err(TryLockError::Error(source)) => return Err(SimError::Path { path: lock, source }),
    }
    crate::ssh::kill_left_behind(&folders.instances);
    for folder in all {
        crate::ssh::remove(folder);
        make(folder)?;
    }
    Ok((state_dir, held))
}

impl Running {
    /// The API's base address, such as `http://127.0.0.1:40001/api/v0`.
    pub fn url(&self) -> String {
        format!("http://{}/api/v0", self.address)
    }

    /// The control plane's base address, such as `http://127.0.0.1:40001/_sim`.
    pub fn control_url(&self) -> String {
        format!("http://{}/_sim", self.address)
    }

    /// The key of the one account.
    pub fn api_key(&self) -> &str {
        &self.api_key
    }

    /// The folder to use as the work root on every instance.
    pub fn work_root(&self) -> &Path {
        &self.folders.work
    }

    /// The folder for everything the simulator writes.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// What has been rented and spent so far.
    pub fn ledger(&self) -> Ledger {
        self.with_world(|world, now| {
            world.advance_to(now);
            world.ledger()
        })
    }

    /// Puts a fault rule in force.
    pub fn add_fault(&self, fault: Fault) {
        self.with_world(|world, _| world.add_fault(fault));
    }

    /// Lends the state machine and the present simulated time. The server waits meanwhile.
    pub fn with_world<T>(&self, use_it: impl FnOnce(&mut World, Duration) -> T) -> T {
        let mut world = self.shared.world();
        let now = self.shared.now();
        let result = use_it(&mut world, now);
        drop(world);
        self.shared.changed();
        result
    }

    /// Resolves when somebody asks for the end through the control plane.
    pub async fn shutdown_asked(&self) {
        self.shared.end_asked.cancelled().await;
    }

    /// Ends the simulator: no port answers and no process of an instance lives when this returns.
    pub async fn shutdown(mut self) {
        self.end();
        for task in std::mem::take(&mut self.tasks) {
            // A task that panicked has ended as well.
            let _ = task.await;
        }
    }

    fn end(&self) {
        self.shared.end.cancel();
        self.shared.world().close();
        crate::ssh::remove(&self.folders.instances);
        crate::ssh::remove(&self.folders.trash);
        crate::ssh::remove(&self.folders.work);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.tasks.is_empty() {
            self.end();
        }
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}

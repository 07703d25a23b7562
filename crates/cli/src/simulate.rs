//! `--sim`: the user's running simulator, or one that lives as long as the command.

use crabbox_vast_engine::store::Paths;
use crabbox_vast_engine::{Code, Error, Result};
use crabbox_vast_sim::{Options, Running, SimError};
use std::path::{Path, PathBuf};

/// A simulator to use in the place of Vast.
pub struct Simulation {
    /// The API's address.
    pub url: String,
    /// The account's key.
    pub api_key: String,
    /// The work root on every instance.
    pub work_root: PathBuf,
    /// Claims and keys of simulated leases: never among the real ones.
    pub paths: Paths,
    /// The simulator of this command, which ends with it; `None` when it is the user's own.
    own: Option<(Running, tempfile::TempDir)>,
}

impl Simulation {
    /// Whether leases end with the command.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Ends a simulator of our own.
    pub async fn end(self) {
        if let Some((running, folder)) = self.own {
            running.shutdown().await;
            drop(folder);
        }
    }
}

/// The folder in which a simulator announces itself.
pub fn folder(paths: &Paths) -> PathBuf {
    paths.state.join("vast-sim")
}

/// The control plane beside an API address of a simulator.
pub fn control_url(url: &str) -> String {
    format!("{}/_sim", url.trim_end_matches("/api/v0"))
}

/// Finds the user's simulator or starts one.
pub async fn open(paths: &Paths) -> Result<Simulation> {
    let folder = folder(paths);
    if let Some(found) = crabbox_vast_sim::find(&folder) {
        return Ok(Simulation {
            url: found.url,
            api_key: found.api_key,
            work_root: found.work_root,
            paths: below(&found.state_dir),
            own: None,
        });
    }
    let temporary = tempfile::Builder::new().prefix("crabbox-vast-sim-").tempdir().map_err(|error| {
        Error::new(Code::StateUnavailable, format!("no temporary folder for the simulator: {error}"))
    })?;
    let running = crabbox_vast_sim::start(Options::demo(temporary.path())).await.map_err(refused)?;
    Ok(Simulation {
        url: running.url(),
        api_key: running.api_key().to_owned(),
        work_root: running.work_root().to_owned(),
        paths: below(running.state_dir()),
        own: Some((running, temporary)),
    })
}

/// Where the claims on the running simulator are kept, if one runs.
pub fn claims_of_running(paths: &Paths) -> Option<Paths> {
    crabbox_vast_sim::find(&folder(paths)).map(|found| below(&found.state_dir))
}

/// Removes what the leases of a simulator left on our side. Only for a folder that the running simulator owns.
pub fn forget_claims(state_dir: &Path) -> Result<()> {
    let client = state_dir.join(CLIENT);
    match std::fs::remove_dir_all(&client) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let message = format!("{} cannot be removed: {error}", client.display());
            Err(Error::new(Code::StateUnavailable, message).hint("remove it, or give another --state-dir"))
        }
        _ => Ok(()),
    }
}

/// A name that nobody else gives a folder: it is removed with all it holds.
const CLIENT: &str = "crabbox-vast-client";

fn below(state_dir: &Path) -> Paths {
    let client = state_dir.join(CLIENT);
    Paths { state: client.join("state"), config: client.join("config") }
}

/// A simulator's failure as one of ours.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub fn refused(error: SimError) -> Error {
    Error::new(Code::StateUnavailable, error.to_string()).hint("see `crabbox-vast sim --help`")
}

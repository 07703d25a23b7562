//! What the engine does, one file per operation.

pub mod acquire;
pub mod adopt;
mod answer;
mod authorised;
#[cfg(all(test, unix))]
mod bench_tests;
mod boot;
mod bootstrap;
mod call;
pub mod claims;
mod cleaned;
pub mod cleanup;
mod collect;
mod connect;
mod cost;
pub mod cp;
#[cfg(all(test, unix))]
mod cp_tests;
mod cp_tree;
mod deadman;
pub mod doctor;
mod env_profile;
pub mod forget;
mod gone;
mod halt;
mod input;
mod inspect;
mod lease;
pub mod list;
mod lockout;
mod logs;
mod look;
pub mod offers;
mod open;
mod overprice;
mod provenance;
pub mod providers;
mod recover;
mod recovery;
pub mod release;
mod remote;
mod rent;
mod replay;
mod resolve;
pub mod run;
mod run_artifacts;
mod run_bundle;
mod run_files;
mod run_job;
pub mod run_report;
mod session_script;
mod sessions;
pub mod shell;
pub mod smoke;
mod spending;
pub mod ssh;
pub mod start;
mod start_money;
pub mod status;
mod stream;
pub mod sync;
#[cfg(all(test, unix))]
mod sync_tests;
pub mod touch;
pub mod tunnel;
mod undo;
mod unfinished;
mod verdict;
mod watch;
mod watchdog;
mod wish;
mod workspace;

pub use acquire::AcquireRequest;
pub use adopt::{AdoptRequest, Adopted};
pub use call::{Call, Event, Phase};
pub use cleanup::{Cleaned, CleanupRequest};
pub use cp::{Copied, CopyRequest};
pub use deadman::Deadman;
pub use forget::{ForgetRequest, Forgotten};
pub use lease::{ExecRequest, Facts, Lease};
pub use release::{ReleaseOutcome, ReleaseRequest, Released};
pub use run::{Download, RunRequest, RunResult, ScriptFile};
pub use run_artifacts::{Archive, Glob};
pub use run_report::TimingReport;
pub use shell::{ShellIo, ShellRequest, ShellResult};
pub use start::StartRequest;
pub use sync::{SyncReport, SyncRequest, SyncStep};
pub use tunnel::{Forward, Tunnel, TunnelFacts, TunnelRequest};

use crate::Result;
use crate::config::Settings;
use crate::store::Store;
use crate::vast::Client;
use crate::vast::client::require_key;
use crate::world::World;
use std::sync::Arc;

/// One account, one configuration, one state directory: everything an operation needs. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    world: World,
    settings: Arc<Settings>,
    store: Store,
    client: Client,
}

impl Engine {
    /// An engine for these settings.
    ///
    /// # Errors
    /// [`crate::Code::MissingApiKey`] without a key; [`crate::Code::InvalidConfig`] for an unusable address.
    pub fn new(world: World, settings: Settings) -> Result<Self> {
        let store = Store::new(world.disk.clone(), Arc::clone(&world.ambient), settings.paths.clone());
        let key = require_key(settings.api_key.as_ref())?;
        let client = Client::new(
            Arc::clone(&world.http),
            store.clone(),
            Arc::clone(&world.ambient),
            &settings.api_url,
            key,
        )?;
        Ok(Self { world, settings: Arc::new(settings), store, client })
    }

    /// The settings it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Claims, journal and keys.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The API client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn now(&self) -> std::time::SystemTime {
        self.world.ambient.now()
    }

    fn unix_now(&self) -> i64 {
        crate::lease::unix(self.now())
    }

    fn entropy<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.world.ambient.random(&mut bytes);
        bytes
    }
}

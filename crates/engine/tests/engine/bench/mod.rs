//! An engine on the real disk and real sockets, in a home of its own, against the simulator.

use crabbox_vast_engine::config::{Overrides, Settings, Snapshot, resolve};
use crabbox_vast_engine::ssh::RusshSsh;
use crabbox_vast_engine::world::real::{RealAmbient, RealFiles, RealLocal, ReqwestHttp};
use crabbox_vast_engine::world::{Disk, ExecIo, Output, World};
use crabbox_vast_engine::{Call, Engine, Event};
use crabbox_vast_sim::{Options, Running, start};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A home, a simulator, and what the engine said.
pub struct Bench {
    pub home: tempfile::TempDir,
    pub sim: Running,
    pub events: Arc<Mutex<Vec<Event>>>,
    pub cancel: CancellationToken,
}

impl Bench {
    pub async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let home = tempfile::tempdir().expect("temp dir");
        let mut options = Options::demo(home.path().join("sim"));
        options.api_latency = Duration::ZERO;
        options.time_scale = 4.0;
        change(&mut options);
        let sim = start(options).await.expect("simulator starts");
        Self { home, sim, events: Arc::default(), cancel: CancellationToken::new() }
    }

    pub fn world(&self) -> World {
        World {
            http: Arc::new(ReqwestHttp::new(None)),
            disk: Disk::blocking(Arc::new(RealFiles)),
            local: Arc::new(RealLocal),
            ssh: Arc::new(RusshSsh),
            ambient: Arc::new(RealAmbient::new("bench")),
        }
    }

    pub fn settings(&self) -> Settings {
        let home = self.home.path().display().to_string();
        let mut snapshot = Snapshot { cwd: self.home.path().to_owned(), ..Snapshot::default() };
        for (name, value) in [
            ("HOME", home.clone()),
            ("XDG_STATE_HOME", format!("{home}/state")),
            ("XDG_CONFIG_HOME", format!("{home}/config")),
            ("CRABBOX_VAST_API_KEY", self.sim.api_key().to_owned()),
            ("CRABBOX_VAST_API_URL", self.sim.url()),
            ("CRABBOX_VAST_WORK_ROOT", self.sim.work_root().display().to_string()),
            ("CRABBOX_VAST_BOOT_TIMEOUT", "60s".to_owned()),
        ] {
            snapshot.vars.insert(name.to_owned(), value);
        }
        resolve(&snapshot, &Overrides::new()).expect("settings")
    }

    pub fn engine(&self) -> Engine {
        self.engine_with(|_| ())
    }

    pub fn engine_with(&self, change: impl FnOnce(&mut Settings)) -> Engine {
        let mut settings = self.settings();
        change(&mut settings);
        std::fs::create_dir_all(&settings.paths.config).expect("config dir");
        Engine::new(self.world(), settings).expect("engine")
    }

    pub fn call(&self) -> Call {
        let events = Arc::clone(&self.events);
        Call::new(move |event| events.lock().expect("not poisoned").push(event), self.cancel.clone())
    }

    pub fn open_instances(&self) -> usize {
        self.sim.ledger().open.len()
    }

    pub fn claims(&self) -> usize {
        let dir = self.settings().paths.claims();
        std::fs::read_dir(dir).map_or(0, |names| {
            names
                .filter(|name| {
                    name.as_ref().is_ok_and(|name| name.path().extension().is_some_and(|end| end == "json"))
                })
                .count()
        })
    }
}

/// Standard output and standard error, once the command has ended.
pub type Collected = tokio::task::JoinHandle<(Vec<u8>, Vec<u8>)>;

/// Streams that collect both outputs.
pub fn collect(stdin: Option<&'static [u8]>) -> (ExecIo, Collected) {
    let (output, mut receive) = mpsc::channel(16);
    let collected = tokio::spawn(async move {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some(piece) = receive.recv().await {
            match piece {
                Output::Stdout(bytes) => out.extend_from_slice(&bytes),
                Output::Stderr(bytes) => err.extend_from_slice(&bytes),
            }
        }
        (out, err)
    });
    let stdin = stdin.map(|bytes| {
        let (send, receive) = mpsc::channel(1);
        send.try_send(bytes::Bytes::from_static(bytes)).expect("room for one");
        receive
    });
    (ExecIo { stdin, output }, collected)
}

//! An engine on the real disk and real sockets, in a home of its own, against the simulator.

use crabbox_vast_engine::config::{InstanceType, Settings};
use crabbox_vast_engine::lease::ReleaseAction;
use crabbox_vast_engine::ssh::RusshSsh;
use crabbox_vast_engine::store::Paths;
use crabbox_vast_engine::world::real::{RealAmbient, RealFiles, ReqwestHttp};
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
            ssh: Arc::new(RusshSsh),
            ambient: Arc::new(RealAmbient::new("bench")),
        }
    }

    pub fn settings(&self) -> Settings {
        Settings {
            api_key: Some(self.sim.api_key().to_owned().into()),
            api_url: self.sim.url(),
            instance_type: InstanceType::OnDemand,
            gpu_name: None,
            gpu_count: 0,
            image: "nvidia/cuda:12.8.1-cudnn-devel-ubuntu22.04".into(),
            template_id: None,
            runtype: "ssh_direct".into(),
            disk_gb: 20,
            max_dph_total: None,
            min_reliability: 0.0,
            order: "dlperf_per_dphtotal desc".into(),
            user: "root".into(),
            work_root: self.sim.work_root().display().to_string(),
            release_action: ReleaseAction::Destroy,
            release_action_explicit: false,
            ttl: Duration::from_secs(5400),
            idle_timeout: Duration::from_secs(1800),
            profile: "default".into(),
            class: "beast".into(),
            env_allow: vec![],
            extra_ca_file: None,
            paths: Paths { state: self.home.path().join("state/crabbox"), config: self.home.path().join("config") },
            repo_root: self.home.path().join("repo").display().to_string(),
            cwd: self.home.path().to_owned(),
            boot_timeout: Duration::from_secs(60),
            ssh_timeout: Duration::from_secs(20),
            provider_source: "default".into(),
        }
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
        std::fs::read_dir(dir).map_or(0, |names| names.filter(|name| {
            name.as_ref().is_ok_and(|name| name.path().extension().is_some_and(|end| end == "json"))
        }).count())
    }
}

/// Streams that collect both outputs.
pub fn collect(stdin: Option<&'static [u8]>) -> (ExecIo, tokio::task::JoinHandle<(Vec<u8>, Vec<u8>)>) {
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

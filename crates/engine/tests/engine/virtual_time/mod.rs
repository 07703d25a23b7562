//! The real engine on a simulated vendor in virtual time: hours pass in milliseconds, a process can be killed at any
//! of its calls, and the disk is real.

use async_trait::async_trait;
use crabbox_vast_engine::config::{Overrides, Settings, Snapshot, resolve};
use crabbox_vast_engine::world::real::{RealFiles, RealLocal};
use crabbox_vast_engine::world::{
    Ambient, Disk, ExecExit, ExecIo, Http, HttpReply, HttpRequest, Method, Output, Ssh, SshError,
    SshErrorKind, SshSession, SshTarget, TransportError, TransportErrorKind, World,
};
use crabbox_vast_engine::{Call, Engine, Event};
use crabbox_vast_sim::api::{self, Container, Delivery, Door, Host, Request, SshAccess};
use std::collections::BTreeMap;
use std::future::pending;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub const KEY: &str = "canary-api-key-0123456789abcdef";
const EPOCH: u64 = 1_780_000_000;

/// The vendor, the home directory and the clock; processes come and go.
pub struct Stage {
    pub home: tempfile::TempDir,
    vast: Arc<Mutex<api::World>>,
    doors: Doors,
    began: Instant,
    /// By how many seconds the clock of our machine is wrong.
    clock: Arc<AtomicI64>,
    /// API calls in the order in which they arrived: `METHOD path`.
    pub calls: Arc<Mutex<Vec<String>>>,
    pub events: Arc<Mutex<Vec<Event>>>,
}

/// One process: its world is deaf from the step on at which it is killed.
pub struct Process {
    pub engine: Engine,
    pub killed: CancellationToken,
    pub steps: Arc<AtomicUsize>,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut api::Settings)) -> Self {
        let mut settings = api::Settings::faithful(KEY, 7);
        settings.epoch = EPOCH as f64;
        change(&mut settings);
        let doors = Doors::default();
        let ports = Ports { doors: Arc::clone(&doors), next: 40_000 };
        Self {
            home: memory_dir(),
            vast: Arc::new(Mutex::new(api::World::new(settings, Box::new(ports)))),
            doors,
            began: Instant::now(),
            clock: Arc::default(),
            calls: Arc::default(),
            events: Arc::default(),
        }
    }

    pub fn vast<T>(&self, look: impl FnOnce(&mut api::World, Duration) -> T) -> T {
        look(&mut self.vast.lock().expect("not poisoned"), self.began.elapsed())
    }

    /// The time in this world, Unix seconds.
    pub fn unix_now(&self) -> i64 {
        i64::try_from(EPOCH + self.began.elapsed().as_secs()).expect("a time")
    }

    pub fn ledger(&self) -> api::Ledger {
        self.vast(|vast, now| {
            vast.advance_to(now);
            vast.ledger()
        })
    }

    /// Steps the clock of our machine, not the vendor's.
    pub fn step_clock(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Calls of the control plane.
    pub fn control(&self, method: &str, path: &str, body: &serde_json::Value) -> serde_json::Value {
        self.vast(|vast, now| {
            vast.handle(now, &Request::new(method, path).bearer(KEY).json(body)).body_json()
        })
    }

    pub fn settings(&self) -> Settings {
        let home = self.home.path().display().to_string();
        let mut snapshot = Snapshot { cwd: self.home.path().to_owned(), ..Snapshot::default() };
        for (name, value) in [
            ("HOME", home.clone()),
            ("XDG_STATE_HOME", format!("{home}/state")),
            ("XDG_CONFIG_HOME", format!("{home}/config")),
            ("CRABBOX_VAST_API_KEY", KEY.to_owned()),
            ("CRABBOX_VAST_API_URL", "http://127.0.0.1:9/api/v0".to_owned()),
        ] {
            snapshot.vars.insert(name.to_owned(), value);
        }
        resolve(&snapshot, &Overrides::new()).expect("settings")
    }

    pub fn process(&self) -> Process {
        self.process_with(None, |_| ())
    }

    /// A process that is killed at its `kill_at`-th step, if it gets that far.
    pub fn process_with(&self, kill_at: Option<usize>, change: impl FnOnce(&mut Settings)) -> Process {
        let mut settings = self.settings();
        change(&mut settings);
        std::fs::create_dir_all(&settings.paths.config).expect("config dir");
        let killed = CancellationToken::new();
        let steps = Arc::new(AtomicUsize::new(0));
        let life = Life { kill_at, steps: Arc::clone(&steps), killed: killed.clone() };
        let world = World {
            http: Arc::new(MemoryHttp {
                vast: Arc::clone(&self.vast),
                began: self.began,
                life: life.clone(),
                calls: Arc::clone(&self.calls),
            }),
            disk: Disk::inline(Arc::new(RealFiles)),
            local: Arc::new(RealLocal),
            ssh: Arc::new(MemorySsh {
                vast: Arc::clone(&self.vast),
                doors: Arc::clone(&self.doors),
                began: self.began,
                life,
            }),
            ambient: Arc::new(VirtualAmbient { began: self.began, clock: Arc::clone(&self.clock) }),
        };
        Process { engine: Engine::new(world, settings).expect("engine"), killed, steps }
    }

    pub fn call(&self) -> Call {
        self.call_with(CancellationToken::new())
    }

    pub fn call_with(&self, cancel: CancellationToken) -> Call {
        let events = Arc::clone(&self.events);
        Call::new(move |event| events.lock().expect("not poisoned").push(event), cancel)
    }

    /// Lease ids of the claims on disk.
    pub fn claims(&self) -> Vec<String> {
        names(&self.settings().paths.claims(), ".json")
    }

    /// Lease ids with a key folder.
    pub fn keys(&self) -> Vec<String> {
        names(&self.settings().paths.config.join("crabbox/testboxes"), "")
    }
}

/// A folder in memory where the system has one: thousands of runs with a dozen syncs each wear a disk for nothing.
fn memory_dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.expect("temp dir")
}

fn names(dir: &Path, end: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(end)?.to_owned()))
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

impl Process {
    /// Runs `work` to its end, or until the process is killed.
    pub async fn live<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.killed.cancelled() => None,
            done = work => Some(done),
        }
    }
}

#[derive(Clone)]
struct Life {
    kill_at: Option<usize>,
    steps: Arc<AtomicUsize>,
    killed: CancellationToken,
}

impl Life {
    /// One step: what comes after it never happens if the process dies here.
    async fn step(&self) {
        let step = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
        if self.kill_at.is_some_and(|at| step >= at) {
            self.killed.cancel();
            pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct VirtualAmbient {
    began: Instant,
    clock: Arc<AtomicI64>,
}

impl Ambient for VirtualAmbient {
    fn now(&self) -> SystemTime {
        let step = self.clock.load(Ordering::SeqCst);
        let begin = EPOCH.checked_add_signed(step).expect("a time");
        UNIX_EPOCH + Duration::from_secs(begin) + self.began.elapsed()
    }

    fn random(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("randomness");
    }

    fn process(&self) -> String {
        "1@stage".to_owned()
    }
}

struct MemoryHttp {
    vast: Arc<Mutex<api::World>>,
    began: Instant,
    life: Life,
    calls: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Http for MemoryHttp {
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError> {
        use secrecy::ExposeSecret;
        let fail = |kind, message: &str| TransportError { kind, message: message.to_owned() };
        self.life.step().await;
        let target = request.url.splitn(4, '/').nth(3).unwrap_or_default();
        let method = match request.method {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        };
        let mut out = Request::new(method, &format!("/{target}"));
        out.bearer = request.bearer.as_ref().map(|key| key.expose_secret().to_owned());
        out.body = request.body.map(|body| body.to_vec()).unwrap_or_default();
        self.calls.lock().expect("not poisoned").push(format!("{method} {}", out.path));
        let reply = self.vast.lock().expect("not poisoned").handle(self.began.elapsed(), &out);
        self.life.step().await;
        tokio::time::sleep(reply.delay).await;
        let header = |name: &str| {
            reply
                .headers
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.clone())
        };
        match reply.delivery {
            Delivery::Whole => Ok(HttpReply {
                status: reply.status,
                retry_after: header("retry-after"),
                location: header("location"),
                date: header("date"),
                body: reply.body.clone().into(),
            }),
            Delivery::Reset | Delivery::Truncate(_) => {
                Err(fail(TransportErrorKind::Broken, "connection reset"))
            }
            Delivery::Stall => {
                tokio::time::sleep(request.limits.body).await;
                Err(fail(TransportErrorKind::TimedOut, "the answer stalled"))
            }
        }
    }
}

/// Which instance and door a port leads to.
type Doors = Arc<Mutex<BTreeMap<u16, (u64, Door)>>>;

/// Containers that only have ports.
struct Ports {
    doors: Doors,
    next: u16,
}

impl Ports {
    fn map(&mut self, id: u64, door: Door) -> u16 {
        self.next += 1;
        self.doors.lock().expect("not poisoned").insert(self.next, (id, door));
        self.next
    }
}

impl Host for Ports {
    fn create(&mut self, container: &Container) -> u16 {
        self.map(container.id, Door::Proxy)
    }
    fn start(&mut self, container: &Container) -> u16 {
        self.map(container.id, Door::Direct)
    }
    fn stop(&mut self, _id: u64) {}
    fn wipe(&mut self, _id: u64) {}
    fn destroy(&mut self, _id: u64) {}
    fn output(&self, _id: u64) -> String {
        String::new()
    }
}

struct MemorySsh {
    vast: Arc<Mutex<api::World>>,
    doors: Doors,
    began: Instant,
    life: Life,
}

#[async_trait]
impl Ssh for MemorySsh {
    async fn connect(&self, target: &SshTarget, limit: Duration) -> Result<Arc<dyn SshSession>, SshError> {
        let fail = |kind, message: &str| SshError { kind, message: message.to_owned() };
        self.life.step().await;
        let key = target.key.public_key().to_openssh().expect("a public key");
        let mapped = self.doors.lock().expect("not poisoned").get(&target.port).copied();
        let access = mapped.map(|(id, door)| {
            self.vast.lock().expect("not poisoned").ssh_access(self.began.elapsed(), id, door)
        });
        match access {
            Some(SshAccess::Open { keys, refuse_all: false })
                if keys.iter().any(|known| same_key(known, &key)) =>
            {
                Ok(Arc::new(MemorySession { life: self.life.clone() }))
            }
            Some(SshAccess::Open { .. }) => Err(fail(SshErrorKind::KeyRefused, "key refused")),
            _ => {
                tokio::time::sleep(limit.min(Duration::from_millis(50))).await;
                Err(fail(SshErrorKind::Unreachable, "connection refused"))
            }
        }
    }
}

fn same_key(one: &str, other: &str) -> bool {
    let body = |text: &str| text.split_whitespace().nth(1).map(ToOwned::to_owned);
    body(one) == body(other)
}

struct MemorySession {
    life: Life,
}

/// What the workspace-owner script says where nobody else wants the workspace.
fn owner_answer(command: &str) -> Option<String> {
    let mark = command.split_whitespace().find(|word| word.starts_with("crabbox-owner-"))?;
    let word = if command.ends_with(" release") { "RELEASED" } else { "ACQUIRED" };
    Some(format!("{mark} {word}\n"))
}

#[async_trait]
impl SshSession for MemorySession {
    async fn exec(&self, command: &str, io: ExecIo) -> Result<ExecExit, SshError> {
        self.life.step().await;
        if let Some(answer) = owner_answer(command) {
            let _ = io.output.send(Output::Stderr(answer.into())).await;
        }
        if command.contains("nvidia-smi") {
            let _ = io.output.send(Output::Stdout("GPU 0\n".into())).await;
        }
        self.life.step().await;
        Ok(ExecExit::Code(0))
    }

    fn host_key(&self) -> String {
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned()
    }

    fn is_closed(&self) -> bool {
        false
    }

    async fn close(&self) {}
}

//! The stage: one simulated vendor, disk and clock, on which processes come, work, die and are followed by others.

use crate::ambient::ProcessAmbient;
use crate::dice::Dice;
use crate::disk::Platter;
use crate::files::{DiskFault, ProcessFiles, ProcessTurn};
use crate::history::{Death, Happening, History};
use crate::http::{ProcessHttp, changes, field, rents};
use crate::life::{Kill, Life};
use crate::ssh::{Doors, Ports, ProcessSsh, SshFault};
use crate::vendor::{Quirk, Vendor};
use crabbox_vast_engine::config::{InstanceType, Overrides, Settings, Snapshot, resolve};
use crabbox_vast_engine::lease::DollarsPerHour;
use crabbox_vast_engine::world::real::RealLocal;
use crabbox_vast_engine::world::{Disk, World};
use crabbox_vast_engine::{Call, Engine, Error, Event};
use crabbox_vast_sim::api::{self, Reply, Request, SshAccess};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The account's key: wherever it shows up, a secret was lost.
pub const KEY: &str = "canary-api-key-0123456789abcdef";
/// The most that a lease may cost here, $/h.
pub const CAP: f64 = 1.0;
/// Unix seconds at the beginning.
const EPOCH: u64 = 1_780_000_000;
const HOME: &str = "/proof/home";

/// What all processes share.
#[derive(Debug)]
pub struct Shared {
    seed: u64,
    began: Instant,
    vast: Mutex<api::World>,
    doors: Doors,
    disk: Mutex<Platter>,
    history: Mutex<History>,
    books: Mutex<Books>,
    secrets: Arc<Mutex<Vec<String>>>,
    lives: Mutex<Vec<Arc<Life>>>,
    claims: PathBuf,
    keys: PathBuf,
    quirk: Mutex<Option<(usize, Quirk)>>,
}

/// What the stage itself keeps track of.
#[derive(Debug, Default)]
struct Books {
    foreign: BTreeMap<u64, Option<String>>,
    ours: BTreeSet<u64>,
    claims: BTreeMap<String, Option<u64>>,
    creates: usize,
    destroys: BTreeMap<u64, usize>,
    refused: BTreeSet<(usize, String)>,
    jump: i64,
    recovering: bool,
    deadly: bool,
    reached: BTreeSet<&'static str>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Virtual time since the beginning.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn wall_clock(&self) -> SystemTime {
        let base = UNIX_EPOCH + Duration::from_secs(EPOCH) + self.now();
        let jump = lock(&self.books).jump;
        let by = Duration::from_millis(jump.unsigned_abs());
        if jump < 0 { base - by } else { base + by }
    }

    /// The vendor's clock as its answers show it. It does not jump.
    pub(crate) fn vendor_date(&self) -> String {
        let seconds = i64::try_from(EPOCH + self.now().as_secs()).unwrap_or(i64::MAX);
        let time =
            jiff::Timestamp::from_second(seconds).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
        jiff::fmt::rfc2822::DateTimePrinter::new().zoned_to_string(&time).unwrap_or_default()
    }

    pub(crate) fn note(&self, happening: Happening) {
        lock(&self.history).push(self.now(), happening);
    }

    pub(crate) fn reach(&self, branch: &'static str) {
        if lock(&self.books).reached.insert(branch) {
            self.note(Happening::Reached(branch));
        }
    }

    pub(crate) fn disk<T>(&self, work: impl FnOnce(&mut Platter) -> T) -> T {
        work(&mut lock(&self.disk))
    }

    pub(crate) fn keep_secret(&self, secret: String) {
        lock(&self.secrets).push(secret);
    }

    /// A process dies, or the power fails for all of them.
    pub(crate) fn die(&self, life: &Life, step: usize, death: Death) {
        self.note(Happening::Died { process: life.process, step, death });
        if !lock(&self.books).ours.is_empty() {
            self.reach("a death left a machine billing");
        }
        match death {
            Death::Kill => {
                life.end();
                self.disk(|disk| disk.release_locks(life.process));
            }
            Death::PowerCut => {
                lock(&self.lives).iter().for_each(|life| life.end());
                let mut dice = Dice::new(self.seed, 3);
                let lost = self.disk(|disk| disk.power_cut(&mut dice));
                for operation in lost {
                    if operation.contains("/claims/") && operation.starts_with("Rename") {
                        self.reach("a power cut lost a claim's write");
                    }
                    self.note(Happening::Lost(operation));
                }
                self.note_all_claims();
            }
        }
    }

    /// The claim at this path was changed or removed, if it is one.
    pub(crate) fn note_claim(&self, path: &Path) {
        if path.parent() != Some(&self.claims) {
            return;
        }
        let Some(lease) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else {
            return;
        };
        if lease.starts_with('.') {
            return;
        }
        let lease = lease.to_owned();
        let bytes = self.disk(|disk| disk.read(path)).ok().flatten();
        let claim = bytes.map(|bytes| instance_of(&bytes));
        let before = {
            let mut books = lock(&self.books);
            match claim {
                Some(instance) => books.claims.insert(lease.clone(), instance),
                None => books.claims.remove(&lease),
            }
        };
        match claim {
            Some(instance) if before != Some(instance) => {
                if lock(&self.books).recovering && before == Some(None) && instance.is_some() {
                    self.reach("a later process found an unclear create by its label");
                }
                self.note(Happening::Claim { lease, instance });
            }
            None if before.is_some() => self.note(Happening::Unclaimed { lease }),
            _ => {}
        }
    }

    fn note_all_claims(&self) {
        let known: Vec<String> = lock(&self.books).claims.keys().cloned().collect();
        for lease in known {
            self.note_claim(&self.claims.join(format!("{lease}.json")));
        }
    }

    /// Something was written: no secret may be in it, unless it belongs there.
    pub(crate) fn look_at_file(&self, path: &Path, bytes: &[u8]) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.starts_with(&self.keys) {
            if name.contains("id_ed25519") && !name.contains(".pub") {
                let text = String::from_utf8_lossy(bytes);
                let private = text.lines().skip(3).filter(|line| !line.starts_with("---"));
                private.for_each(|line| self.keep_secret(line.to_owned()));
            }
            return;
        }
        let text = String::from_utf8_lossy(bytes);
        self.look_at_text(&text, || format!("the file {}", path.display()));
        for (piece, branch) in [
            ("adopted: ", "a create without an answer was adopted by its label"),
            ("nothing: proved", "a lost create was proved never to have been"),
            ("created unwanted: ", "a refused create left a machine, which was discarded"),
            ("\"rollback-cleanup\"", "a failed acquire was rolled back"),
        ] {
            if text.contains(piece) {
                self.reach(branch);
            }
        }
    }

    pub(crate) fn look_at_text(&self, text: &str, place: impl FnOnce() -> String) {
        if lock(&self.secrets).iter().any(|secret| text.contains(secret.as_str())) {
            self.note(Happening::Secret { place: place() });
        }
    }

    pub(crate) fn ssh_access(&self, port: u16) -> Option<(u64, SshAccess)> {
        let (id, door) = lock(&self.doors).get(&port).copied()?;
        Some((id, lock(&self.vast).ssh_access(self.now(), id, door)))
    }

    pub(crate) fn is_live(&self, instance: u64) -> bool {
        lock(&self.books).ours.contains(&instance)
    }

    /// One request of a process and its effects, all noted.
    pub(crate) fn exchange(&self, process: usize, method: &'static str, request: &Request) -> Reply {
        let ask = rents(request);
        let label = ask.and_then(|_| field(&request.body, "label"));
        let lease = label.as_deref().and_then(|label| label.split('|').nth(1)).map(ToOwned::to_owned);
        let mut quirk = None;
        if let Some(ask) = ask {
            self.note(Happening::CreateSent { process, lease: lease.clone(), ask });
            let mut books = lock(&self.books);
            books.creates += 1;
            quirk = lock(&self.quirk).filter(|(nth, _)| *nth == books.creates).map(|(_, quirk)| quirk);
        }
        let now = self.now();
        let (mut reply, struck) = {
            let mut vast = lock(&self.vast);
            let before = vast.struck();
            let reply = match quirk.and_then(|quirk| quirk.instead(self.a_foreigner())) {
                Some(reply) => reply,
                None => vast.handle(now, request),
            };
            (reply, vast.struck() > before || quirk.is_some())
        };
        let path = request.path.clone();
        if path.contains("/request_logs/")
            && let Some(url) = serde_json::from_slice::<Value>(&reply.body)
                .ok()
                .and_then(|body| Some(body["result_url"].as_str()?.to_owned()))
        {
            self.keep_secret(url);
        }
        self.note(Happening::Called {
            process,
            method,
            path,
            status: reply.status,
            struck,
            instance: changes(request),
        });
        self.count(process, request, &reply);
        if method != "GET" {
            self.take_stock(lease.as_deref(), ask);
            if ask.is_some() && std::mem::take(&mut lock(&self.books).deadly) {
                let life = lock(&self.lives).get(process).cloned();
                life.into_iter().for_each(|life| self.die(&life, life.steps(), Death::Kill));
            }
            if let Some(quirk) = quirk {
                let newest = lock(&self.books).ours.last().copied();
                if let Some(price) = quirk.reprices() {
                    self.alter_ours(&json!({ "dph_total": price }));
                    newest
                        .into_iter()
                        .for_each(|instance| self.note(Happening::Repriced { instance, price }));
                }
                quirk.spoil(&mut reply);
            }
        }
        reply
    }

    fn a_foreigner(&self) -> u64 {
        lock(&self.books).foreign.keys().next().copied().unwrap_or(1)
    }

    fn count(&self, process: usize, request: &Request, reply: &Reply) {
        let key = (process, request.path.clone());
        let mut reached = None;
        {
            let mut books = lock(&self.books);
            if reply.status == 429 {
                books.refused.insert(key);
            } else if reply.status == 200 && books.refused.contains(&key) {
                reached = Some("a 429 was waited for and the call repeated");
            }
            if request.method == "DELETE"
                && let Some(instance) = changes(request)
            {
                let times = books.destroys.entry(instance).or_default();
                *times += 1;
                if *times > 1 {
                    reached = Some("a destroy was repeated");
                }
            }
        }
        reached.into_iter().for_each(|branch| self.reach(branch));
    }

    /// Compares the vendor's books with ours.
    fn take_stock(&self, lease: Option<&str>, ask: Option<u64>) {
        let ledger = lock(&self.vast).ledger();
        let open: BTreeMap<u64, Option<String>> =
            ledger.open.into_iter().map(|instance| (instance.id, instance.label)).collect();
        let (known, foreign) = {
            let books = lock(&self.books);
            (books.ours.clone(), books.foreign.clone())
        };
        for instance in known.iter().filter(|id| !open.contains_key(id)) {
            lock(&self.books).ours.remove(instance);
            self.note(Happening::Destroyed { instance: *instance });
        }
        for (instance, label) in &foreign {
            if open.get(instance) != Some(label) {
                lock(&self.books).foreign.remove(instance);
                self.note(Happening::ForeignChanged { instance: *instance });
            }
        }
        let new = open.keys().filter(|id| !known.contains(id) && !foreign.contains_key(id));
        for instance in new.copied().collect::<Vec<_>>() {
            lock(&self.books).ours.insert(instance);
            let price = lock(&self.vast).contract_price(instance).unwrap_or(0.0);
            let path = lease.map(|lease| self.claims.join(format!("{lease}.json")));
            let claimed = path.is_some_and(|path| self.disk(|disk| disk.is_durable(&path)));
            let lease = lease.map(ToOwned::to_owned);
            self.note(Happening::Created { instance, lease, ask: ask.unwrap_or(0), price, claimed });
        }
    }

    /// Calls of the control plane.
    pub(crate) fn control(&self, method: &str, path: &str, body: &Value) -> Value {
        lock(&self.vast).handle(self.now(), &Request::new(method, path).bearer(KEY).json(body)).body_json()
    }

    /// Sets columns and knobs of every live instance of ours.
    pub(crate) fn alter_ours(&self, body: &Value) {
        let ours: Vec<u64> = lock(&self.books).ours.iter().copied().collect();
        for instance in ours {
            self.control("POST", &format!("/_sim/instances/{instance}"), body);
        }
    }

    /// Every call so far, in order.
    pub(crate) fn calls(&self) -> Vec<(&'static str, String)> {
        let history = lock(&self.history);
        let calls = history.events().iter().filter_map(|(_, event)| match event {
            Happening::Called { method, path, .. } => Some((*method, path.clone())),
            _ => None,
        });
        calls.collect()
    }

    /// The hosts end every contract of ours.
    pub(crate) fn evict(&self) {
        let ours: Vec<u64> = lock(&self.books).ours.iter().copied().collect();
        ours.iter().for_each(|instance| lock(&self.vast).evict(*instance));
        self.take_stock(None, None);
    }

    pub(crate) fn vast<T>(&self, work: impl FnOnce(&mut api::World) -> T) -> T {
        work(&mut lock(&self.vast))
    }

    /// The process that sends the next create dies before its answer.
    pub(crate) fn kill_at_next_create(&self) {
        lock(&self.books).deadly = true;
    }

    pub(crate) fn jump(&self, milliseconds: i64) {
        lock(&self.books).jump += milliseconds;
        self.note(Happening::ClockJumped(milliseconds));
    }
}

/// The instance that a claim names, if any.
fn instance_of(bytes: &[u8]) -> Option<u64> {
    let claim: Value = serde_json::from_slice(bytes).ok()?;
    claim.get("cloudID")?.as_str()?.parse().ok()
}

/// How one process is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Treatment {
    /// Where it dies.
    pub kill: Option<Kill>,
    /// What the disk does to it.
    pub disk: Option<DiskFault>,
    /// What SSH does to it.
    pub ssh: Option<SshFault>,
    /// It asks for interruptible machines.
    pub interruptible: bool,
}

/// A process with its engine.
pub struct Process {
    /// The real engine.
    pub engine: Engine,
    /// Its life.
    pub life: Arc<Life>,
    shared: Arc<Shared>,
    disk_operations: Arc<AtomicUsize>,
    ssh_steps: Arc<AtomicUsize>,
}

/// Counts of what a process has done, for loops over all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps at which it could have died.
    pub steps: usize,
    /// Disk operations.
    pub disk: usize,
    /// SSH steps.
    pub ssh: usize,
}

impl Process {
    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            steps: self.life.steps(),
            disk: self.disk_operations.load(Ordering::SeqCst),
            ssh: self.ssh_steps.load(Ordering::SeqCst),
        }
    }

    /// A call whose events are looked at and noted.
    #[must_use]
    pub fn call(&self, cancel: CancellationToken) -> Call {
        let (shared, life) = (Arc::clone(&self.shared), Arc::clone(&self.life));
        Call::new(move |event| shared_event(&shared, &life, &event), cancel)
    }

    /// An operation failed: its error is looked at as everything that leaves the engine.
    pub(crate) fn look_at_error(&self, error: &Error) {
        let text = format!("{error:?}");
        self.shared.look_at_text(&text, || format!("the error {}", error.code()));
    }
}

fn shared_event(shared: &Shared, life: &Life, event: &Event) {
    if life.is_dead() {
        return;
    }
    let text = serde_json::to_string(event).unwrap_or_default();
    shared.look_at_text(&text, || "an event".to_owned());
    match event {
        Event::Provisioned { instance, .. } => {
            shared.note(Happening::Ready { process: life.process, instance: instance.0 });
        }
        Event::OfferGone { .. } => shared.reach("an offer was gone and the next was taken"),
        Event::Warning { message } if message.contains("trying another machine") => {
            shared.reach("a machine could not start and another was taken");
        }
        Event::Warning { message } if message.contains("is not ours") => {
            shared.reach("a refusal named a foreign machine, which was left alone");
        }
        _ => {}
    }
}

/// The world of one seed.
#[derive(Clone)]
pub struct Stage {
    shared: Arc<Shared>,
}

impl Stage {
    /// A fresh world. Must be made inside a paused tokio runtime.
    #[must_use]
    pub fn new(seed: u64, vendor: &Vendor) -> Self {
        let settings = settings();
        let doors = Doors::default();
        let secrets = Arc::new(Mutex::new(vec![KEY.to_owned()]));
        let ports = Ports { doors: Arc::clone(&doors), secrets: Arc::clone(&secrets), next: 40_000 };
        let mut simulated = api::Settings::faithful(KEY, seed);
        simulated.epoch = EPOCH as f64;
        vendor.apply(&mut simulated);
        let shared = Arc::new(Shared {
            seed,
            began: Instant::now(),
            vast: Mutex::new(api::World::new(simulated, Box::new(ports))),
            doors,
            disk: Mutex::new(Platter::with_folder(Path::new(HOME))),
            history: Mutex::default(),
            books: Mutex::default(),
            secrets,
            lives: Mutex::default(),
            claims: settings.paths.claims(),
            keys: settings.paths.config.join("crabbox").join("testboxes"),
            quirk: Mutex::default(),
        });
        let stage = Self { shared };
        stage.strangers(vendor.foreign);
        stage
    }

    /// Machines that are not ours: made by hand, and by another user of the same tools.
    fn strangers(&self, count: usize) {
        for number in 0..count {
            let label = match number % 3 {
                0 => json!("hand made"),
                1 => json!("cbx1|cbx_aaaaaaaaaaaa|other-box|ready"),
                _ => Value::Null,
            };
            self.shared.control("POST", "/_sim/instances", &json!({ "label": label }));
        }
        let open = self.shared.vast(|vast| vast.ledger()).open;
        lock(&self.shared.books).foreign =
            open.into_iter().map(|instance| (instance.id, instance.label)).collect();
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Lets something be strange about the nth create from now on.
    pub fn quirk(&self, nth: usize, quirk: Quirk) {
        let creates = lock(&self.shared.books).creates;
        *lock(&self.shared.quirk) = Some((creates + nth, quirk));
    }

    /// A new process.
    #[must_use]
    pub fn process(&self, treatment: &Treatment) -> Process {
        let shared = Arc::clone(&self.shared);
        let life = {
            let mut lives = lock(&shared.lives);
            let life = Arc::new(Life::new(lives.len(), treatment.kill, shared.seed, &shared));
            lives.push(Arc::clone(&life));
            life
        };
        let (disk_operations, ssh_steps) = (Arc::default(), Arc::default());
        let files = ProcessFiles {
            shared: Arc::clone(&shared),
            life: Arc::clone(&life),
            fault: treatment.disk,
            operations: Arc::clone(&disk_operations),
        };
        let ssh = ProcessSsh {
            shared: Arc::clone(&shared),
            life: Arc::clone(&life),
            fault: treatment.ssh,
            steps: Arc::clone(&ssh_steps),
        };
        let world = World {
            http: Arc::new(ProcessHttp { shared: Arc::clone(&shared), life: Arc::clone(&life) }),
            // Nothing here syncs or copies; a run of the proof must not look at the machine it runs on.
            local: Arc::new(RealLocal),
            disk: Disk::by_turns(Arc::new(files), Arc::new(ProcessTurn(Arc::clone(&life)))),
            ssh: Arc::new(ssh),
            ambient: Arc::new(ProcessAmbient { shared: Arc::clone(&shared), life: Arc::clone(&life) }),
        };
        let mut settings = settings().clone();
        if treatment.interruptible {
            settings.instance_type = InstanceType::Interruptible;
        }
        let engine = Engine::new(world, settings).expect("the settings are right");
        Process { engine, life, shared, disk_operations, ssh_steps }
    }

    /// Leases with a claim on disk.
    #[must_use]
    pub fn claims(&self) -> Vec<String> {
        lock(&self.shared.books).claims.keys().cloned().collect()
    }

    /// The foreign machines there were at the beginning and still are as they were.
    #[must_use]
    pub fn foreign(&self) -> BTreeSet<u64> {
        lock(&self.shared.books).foreign.keys().copied().collect()
    }

    /// From here on the vendor is well and the disk has room.
    pub fn mend(&self) {
        lock(&self.shared.books).recovering = true;
        *lock(&self.shared.quirk) = None;
        self.shared.vast(api::World::clear_faults);
        self.shared.control("POST", "/_sim/account", &json!({ "credit": 25.0, "revoked": false }));
        self.shared.alter_ours(&json!({ "hidden": false, "relet": false }));
        self.shared.note(Happening::Recovery);
    }

    /// Takes the history out.
    #[must_use]
    pub fn history(&self) -> History {
        self.shared.take_stock(None, None);
        std::mem::take(&mut lock(&self.shared.history))
    }

    /// The branches that were reached.
    #[must_use]
    pub fn reached(&self) -> BTreeSet<&'static str> {
        lock(&self.shared.books).reached.clone()
    }

    /// Leases with a claim that says that they are to be kept.
    #[must_use]
    pub fn kept(&self) -> Vec<String> {
        let read = |lease: &String| {
            let path = self.shared.claims.join(format!("{lease}.json"));
            let bytes = self.shared.disk(|disk| disk.read(&path)).ok().flatten()?;
            serde_json::from_slice::<Value>(&bytes).ok()
        };
        let keeps = |lease: &String| read(lease).is_some_and(|claim| claim["labels"]["keep"] == "true");
        self.claims().into_iter().filter(keeps).collect()
    }

    /// How many claims name a machine that is not ours.
    #[must_use]
    pub fn stale(&self) -> usize {
        let books = lock(&self.shared.books);
        books.claims.values().flatten().filter(|instance| books.foreign.contains_key(instance)).count()
    }

    /// Every file outside the key folder, once more: nothing secret may lie there.
    pub fn look_everywhere(&self) {
        let files: Vec<(PathBuf, Vec<u8>)> = self
            .shared
            .disk(|disk| disk.files().map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect());
        files.iter().for_each(|(path, bytes)| self.shared.look_at_file(path, bytes));
    }
}

/// The settings of every process, resolved once. Nothing is read from the machine this runs on.
fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let mut snapshot = Snapshot { cwd: HOME.into(), ..Snapshot::default() };
        for (name, value) in [
            ("HOME", HOME),
            ("XDG_STATE_HOME", "/proof/home/state"),
            ("XDG_CONFIG_HOME", "/proof/home/config"),
            ("CRABBOX_VAST_API_KEY", KEY),
            ("CRABBOX_VAST_API_URL", "http://127.0.0.1:9/api/v0"),
        ] {
            snapshot.vars.insert(name.to_owned(), value.to_owned());
        }
        let mut settings = resolve(&snapshot, &Overrides::new()).expect("the settings are right");
        settings.max_dph_total = Some(DollarsPerHour(CAP));
        settings
    })
}

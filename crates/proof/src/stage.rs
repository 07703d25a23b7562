//! The stage: one simulated vendor, disk and clock, on which processes come, work, die and are followed by others.

use crate::acts::TOLD;
use crate::ambient::ProcessAmbient;
use crate::disk::Platter;
use crate::files::{DiskFault, ProcessFiles, ProcessTurn};
use crate::history::{Happening, History};
use crate::http::ProcessHttp;
use crate::life::{Kill, Life, Side};
use crate::secrets::Secret;
use crate::shared::{EPOCH, KEY, ORIGIN, Shared, lock};
use crate::ssh::{Doors, Ports, ProcessSsh, SshFault};
use crate::vendor::{Quirk, Vendor};
use crabbox_vast_engine::config::{InstanceType, Overrides, Settings, Snapshot, resolve};
use crabbox_vast_engine::lease::{Dollars, DollarsPerHour};
use crabbox_vast_engine::world::real::RealLocal;
use crabbox_vast_engine::world::{Disk, World};
use crabbox_vast_engine::{Call, Engine, Error, Event};
use crabbox_vast_sim::api;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The most that a lease may cost here, $/h.
pub const CAP: f64 = 1.0;
const HOME: &str = "/proof/home";
/// The other machine of the same user.
const ELSEWHERE: &str = "/proof/elsewhere";

/// What a process may spend, beside [`CAP`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// On all leases here in a day, $.
    pub day: Option<f64>,
    /// On one lease, $; it then ends at its TTL even where it is kept.
    pub lease: Option<f64>,
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
    /// What it may spend.
    pub limits: Limits,
    /// Whose process it is.
    pub side: Side,
}

/// A process with its engine.
pub struct Process {
    /// The real engine.
    pub engine: Engine,
    /// Its life.
    pub life: Arc<Life>,
    /// What it may spend.
    pub limits: Limits,
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
    /// How many steps it had taken when something first went wrong with a call of it or with the disk.
    pub struck: Option<usize>,
}

impl Process {
    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            steps: self.life.steps(),
            disk: self.disk_operations.load(Ordering::SeqCst),
            ssh: self.ssh_steps.load(Ordering::SeqCst),
            struck: self.life.struck(),
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
        if error.details().contains_key("log") {
            self.shared.reach("a log was attached to an error");
        }
    }
}

fn shared_event(shared: &Shared, life: &Life, event: &Event) {
    if life.is_dead() {
        return;
    }
    let text = serde_json::to_string(event).unwrap_or_default();
    shared.look_at_text(&text, || "an event".to_owned());
    if life.side == Side::Elsewhere {
        return;
    }
    match event {
        Event::Provisioned { instance, .. } => {
            shared.note(Happening::Ready { process: life.process, instance: instance.0 });
        }
        Event::RunContext { lease, .. } => {
            shared.note(Happening::InUse { process: life.process, instance: lease.instance.0 });
        }
        Event::Outbid { .. } => shared.reach("a machine was lost to a higher bid and the user was told"),
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
        let settings = settings(Side::Ours);
        let doors = Doors::default();
        let secrets = Arc::new(Mutex::new(vec![Secret::new(KEY), Secret::new(TOLD)]));
        let lifetimes = Arc::default();
        let ports = Ports {
            doors: Arc::clone(&doors),
            secrets: Arc::clone(&secrets),
            lifetimes: Arc::clone(&lifetimes),
        };
        let mut simulated = api::Settings::faithful(KEY, seed);
        simulated.epoch = EPOCH as f64;
        vendor.apply(&mut simulated);
        let shared = Arc::new(Shared {
            seed,
            began: Instant::now(),
            vast: Mutex::new(api::World::new(simulated, Box::new(ports))),
            doors,
            disk: Mutex::new(Platter::with_folders(&[Path::new(HOME), Path::new(ELSEWHERE)])),
            history: Mutex::default(),
            books: Mutex::default(),
            secrets,
            lifetimes,
            lives: Mutex::default(),
            claims: settings.paths.claims(),
            journals: settings.paths.journal(),
            keys: settings.paths.config.join("crabbox").join("testboxes"),
            quirk: Mutex::default(),
            called: watch::Sender::new(0),
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

    /// A stage on this world.
    pub(crate) fn on(shared: Arc<Shared>) -> Self {
        Self { shared }
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
            let life = Arc::new(Life::new(lives.len(), treatment.side, treatment.kill, shared.seed, &shared));
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
        let mut settings = settings(treatment.side).clone();
        if treatment.interruptible {
            settings.instance_type = InstanceType::Interruptible;
        }
        let limits = treatment.limits;
        settings.max_cost_per_day = limits.day.map(Dollars);
        settings.max_cost = limits.lease.map(Dollars);
        settings.ttl_explicit |= limits.lease.is_some();
        let engine = Engine::new(world, settings).expect("the settings are right");
        Process { engine, life, limits, shared, disk_operations, ssh_steps }
    }

    /// How many processes there have been.
    #[must_use]
    pub fn processes(&self) -> usize {
        lock(&self.shared.lives).len()
    }

    /// Leases with a claim on disk.
    #[must_use]
    pub fn claims(&self) -> Vec<String> {
        lock(&self.shared.books).claims.keys().cloned().collect()
    }

    /// Whether no claim and no live machine of ours is left.
    pub(crate) fn is_clear(&self) -> bool {
        self.shared.take_stock(None, None, None);
        let books = lock(&self.shared.books);
        books.claims.is_empty() && books.ours.is_empty()
    }

    /// A machine of which nothing is left here.
    #[must_use]
    pub fn disowned(&self) -> Option<u64> {
        let books = lock(&self.shared.books);
        books.disowned.filter(|instance| books.ours.contains(instance))
    }

    /// Everything that is known here of this lease and its machine is removed by hand.
    pub(crate) fn disown(&self, lease: &str) {
        let Some(instance) = lock(&self.shared.books).claims.get(lease).copied().flatten() else { return };
        lock(&self.shared.books).disowned = Some(instance);
        self.shared.note(Happening::Disowned { instance });
        self.shared.remove_all_of(lease);
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
        self.shared.take_stock(None, None, None);
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
        let rewritten = lock(&self.shared.books).rewritten.clone();
        let keeps = |lease: &String| {
            rewritten.contains(lease) || read(lease).is_some_and(|claim| claim["labels"]["keep"] == "true")
        };
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

/// The settings of every process on a machine, resolved once. Nothing is read from the machine this runs on.
fn settings(side: Side) -> &'static Settings {
    static HERE: OnceLock<Settings> = OnceLock::new();
    static THERE: OnceLock<Settings> = OnceLock::new();
    let (settings, home) = match side {
        Side::Ours | Side::Crabbox => (&HERE, HOME),
        Side::Elsewhere => (&THERE, ELSEWHERE),
    };
    settings.get_or_init(|| {
        let mut snapshot = Snapshot { cwd: home.into(), ..Snapshot::default() };
        for (name, value) in [
            ("HOME", home),
            ("XDG_STATE_HOME", &format!("{home}/state")),
            ("XDG_CONFIG_HOME", &format!("{home}/config")),
            ("CRABBOX_VAST_API_KEY", KEY),
            ("CRABBOX_VAST_API_URL", &format!("{ORIGIN}/api/v0")),
            // A machine is read every second until it runs: what never does would fill most of a run.
            ("CRABBOX_VAST_BOOT_TIMEOUT", "600s"),
        ] {
            snapshot.vars.insert(name.to_owned(), value.to_owned());
        }
        let mut settings = resolve(&snapshot, &Overrides::new()).expect("the settings are right");
        settings.max_dph_total = Some(DollarsPerHour(CAP));
        settings
    })
}

//! The world that all processes of a stage share, and the notes that are taken of everything that happens in it.

use crate::dice::Dice;
use crate::disk::Platter;
use crate::history::{Death, Happening, History, Stay};
use crate::http::{changes, field, rents};
use crate::life::{Life, Side};
use crate::secrets::Secret;
use crate::ssh::Doors;
use crate::stage::Limits;
use crate::start_script::{self, Lifetime};
use crate::vendor::Quirk;
use crabbox_vast_sim::api::{self, Reply, Request, SshAccess};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::time::Instant;

/// The account's key: wherever it shows up, a secret was lost.
pub const KEY: &str = "canary-api-key-0123456789abcdef";
/// Where the simulated vendor is; everything else is somebody else's.
pub(crate) const ORIGIN: &str = "http://127.0.0.1:9";
/// Unix seconds at the beginning.
pub(crate) const EPOCH: u64 = 1_780_000_000;

/// What all processes share.
#[derive(Debug)]
pub struct Shared {
    pub(crate) seed: u64,
    pub(crate) began: Instant,
    pub(crate) vast: Mutex<api::World>,
    pub(crate) doors: Doors,
    pub(crate) disk: Mutex<Platter>,
    pub(crate) history: Mutex<History>,
    pub(crate) books: Mutex<Books>,
    pub(crate) secrets: Arc<Mutex<Vec<Secret>>>,
    /// When the machines end by themselves.
    pub(crate) lifetimes: Arc<Mutex<BTreeMap<u64, Lifetime>>>,
    pub(crate) lives: Mutex<Vec<Arc<Life>>>,
    pub(crate) claims: PathBuf,
    pub(crate) journals: PathBuf,
    pub(crate) keys: PathBuf,
    pub(crate) quirk: Mutex<Option<(usize, Quirk)>>,
    /// How many calls there have been.
    pub(crate) called: watch::Sender<usize>,
}

/// What the stage itself keeps track of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    pub(crate) foreign: BTreeMap<u64, Option<String>>,
    pub(crate) ours: BTreeSet<u64>,
    pub(crate) claims: BTreeMap<String, Option<u64>>,
    /// What a claim promises, and how far off the clock was that its times were read by.
    pub(crate) promised: BTreeMap<String, (Stay, i64)>,
    /// How long what a process rents is to live.
    pub(crate) wishes: BTreeMap<usize, Lifetime>,
    /// When each process sent its first create: from then on the time of its lease is used up.
    pub(crate) since: BTreeMap<usize, Duration>,
    /// Processes that the disk has refused something.
    pub(crate) hindered: BTreeSet<usize>,
    /// Processes that found the operation lock of a lease held by another one.
    pub(crate) kept_out: BTreeSet<(usize, String)>,
    /// Whose label each instance of ours was made with.
    pub(crate) lease_of: BTreeMap<u64, String>,
    /// Leases that were to be kept and whose claims crabbox rewrote.
    pub(crate) rewritten: BTreeSet<String>,
    /// Leases that somebody took over whose acquire may have died.
    pub(crate) adopted: BTreeSet<String>,
    /// What the other machine of our user has rented.
    pub(crate) elsewhere: BTreeSet<u64>,
    /// A machine of which nothing is left here.
    pub(crate) disowned: Option<u64>,
    /// Instances whose price changed after their create.
    pub(crate) repriced: BTreeSet<u64>,
    pub(crate) creates: usize,
    pub(crate) destroys: BTreeMap<u64, usize>,
    pub(crate) refused: BTreeSet<(usize, String)>,
    pub(crate) jump: i64,
    pub(crate) recovering: bool,
    pub(crate) deadly: Option<Deadly>,
    pub(crate) reached: BTreeSet<&'static str>,
}

/// A call that kills who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadly {
    /// A create.
    Create,
    /// A start or a stop.
    State,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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

    /// A process dies, or the power fails for all of them.
    pub(crate) fn die(&self, life: &Life, step: usize, death: Death) {
        // What fails elsewhere fails there alone.
        let death = if life.side == Side::Elsewhere { Death::Kill } else { death };
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
                let here = |life: &&Arc<Life>| life.side != Side::Elsewhere;
                lock(&self.lives).iter().filter(here).for_each(|life| life.end());
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

    pub(crate) fn ssh_access(&self, port: u16) -> Option<(u64, SshAccess)> {
        let (id, door) = lock(&self.doors).get(&port).copied()?;
        Some((id, lock(&self.vast).ssh_access(self.now(), id, door)))
    }

    pub(crate) fn is_live(&self, instance: u64) -> bool {
        let books = lock(&self.books);
        books.ours.contains(&instance) || books.foreign.contains_key(&instance)
    }

    /// One request of a process and its effects, all noted.
    pub(crate) fn exchange(&self, process: usize, method: &'static str, request: &Request) -> Reply {
        let side = lock(&self.lives).get(process).map_or(Side::Ours, |life| life.side);
        let ask = rents(request);
        let label = ask.and_then(|_| field(&request.body, "label"));
        let lease = label.as_deref().and_then(|label| label.split('|').nth(1)).map(ToOwned::to_owned);
        self.look_at_request(request);
        if side == Side::Ours {
            self.look_for_record(process, lease.as_deref(), request);
        }
        let mut quirk = None;
        if let Some(ask) = ask.filter(|_| side == Side::Ours) {
            self.note(Happening::CreateSent { process, lease: lease.clone(), ask });
            self.look_at_lifetime(process, request);
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
        let instance = changes(request).filter(|_| side == Side::Ours);
        self.note(Happening::Called { process, method, path, status: reply.status, struck, instance });
        if struck && let Some(life) = lock(&self.lives).get(process) {
            life.strike();
        }
        self.called.send_modify(|called| *called += 1);
        self.count(process, request, &reply);
        if side == Side::Elsewhere {
            self.take_stock_elsewhere(process, changes(request));
        } else if method != "GET" {
            let by = (side == Side::Ours).then_some(process);
            if let Some((instance, by)) = instance.zip(by)
                && reply.status == 200
                && field(&request.body, "state").as_deref() == Some("stopped")
            {
                self.note(Happening::Stopped { instance, by });
            }
            let new = self.take_stock(by, lease.as_deref(), ask);
            let kind = match (ask, instance) {
                (Some(_), _) => Some(Deadly::Create),
                (None, Some(_)) if field(&request.body, "state").is_some() => Some(Deadly::State),
                _ => None,
            };
            if kind.is_some() && lock(&self.books).deadly.take_if(|deadly| Some(*deadly) == kind).is_some() {
                let life = lock(&self.lives).get(process).cloned();
                life.into_iter().for_each(|life| self.die(&life, life.steps(), Death::Kill));
            }
            if let Some(quirk) = quirk {
                if let Some(columns) = quirk.alters() {
                    new.iter().for_each(|instance| {
                        self.control("POST", &format!("/_sim/instances/{instance}"), &columns);
                    });
                }
                let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                if quirk == Quirk::OtherTerms && body["price"].is_null() {
                    new.iter().for_each(|instance| self.note(Happening::Unfit { instance: *instance }));
                }
                if let Some(price) = quirk.reprices() {
                    new.into_iter().for_each(|instance| self.reprice(instance, price));
                }
                quirk.spoil(&mut reply);
            }
        }
        reply
    }

    /// How long what this process rents is to live, and what it may cost.
    pub(crate) fn wishes(&self, process: usize, keep: bool, limits: Limits) {
        let lifetime = Lifetime::of_lease(keep, limits.lease.is_some());
        lock(&self.books).wishes.insert(process, lifetime);
        let hours = lifetime.ttl.map_or(24.0, |ttl| ttl.as_secs_f64() / 3600.0);
        self.note(Happening::Spends { process, hours, limits });
    }

    /// A create was sent: what it rents ends by itself when it was asked to, and never otherwise.
    fn look_at_lifetime(&self, process: usize, request: &Request) {
        let now = self.now();
        let (wish, used) = {
            let mut books = lock(&self.books);
            let since = *books.since.entry(process).or_insert(now);
            (books.wishes.get(&process).copied(), now - since)
        };
        let script = field(&request.body, "onstart");
        let armed = script.as_deref().map_or_else(Lifetime::default, start_script::lifetime);
        if let Some(wish) = wish.map(|wish| wish.after(used)).filter(|wish| !armed.is_about(wish)) {
            let armed = &armed;
            self.note(Happening::Misarmed {
                process,
                ends: armed.ends(),
                why: format!("{armed:?} instead of {wish:?}"),
            });
        }
    }

    /// The lease that this machine was rented for.
    pub(crate) fn lease_of(&self, instance: u64) -> Option<String> {
        lock(&self.books).lease_of.get(&instance).cloned()
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
            if request.query.iter().any(|(name, _)| name == "after_token") {
                reached = Some("a second page of the list was read");
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

    /// Removes what is known here of a lease: claim, journal, keys.
    pub(crate) fn remove_all_of(&self, lease: &str) {
        let state = self.claims.parent().map(Path::to_owned).unwrap_or_default();
        self.remove_files(|path| path.starts_with(&state) && path.to_string_lossy().contains(lease));
        self.remove_keys(lease);
    }

    /// Removes the keys of a lease.
    pub(crate) fn remove_keys(&self, lease: &str) {
        let folder = self.keys.join(lease);
        self.remove_files(|path| path.starts_with(&folder));
        let _ = self.disk(|disk| disk.remove_folder(&folder).and_then(|()| disk.sync_folder(&self.keys)));
    }

    fn remove_files(&self, these: impl Fn(&Path) -> bool) {
        let files: Vec<PathBuf> = self
            .disk(|disk| disk.files().map(|(path, _)| path.to_owned()).filter(|path| these(path)).collect());
        for file in files {
            let folder = file.parent().map(Path::to_owned).unwrap_or_default();
            let _ = self.disk(|disk| disk.remove(&file).and_then(|()| disk.sync_folder(&folder)));
            self.note_claim(&file);
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

    /// Notes the machines of ours that run.
    pub(crate) fn note_what_runs(&self) {
        let ours = lock(&self.books).ours.clone();
        let ledger = self.control("GET", "/_sim/ledger", &Value::Null);
        let open = ledger["open"].as_array().into_iter().flatten();
        let running =
            open.filter(|one| one["actual_status"] == "running").filter_map(|one| one["id"].as_u64());
        running.filter(|one| ours.contains(one)).for_each(|instance| self.note(Happening::Runs { instance }));
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
        self.take_stock(None, None, None);
    }

    pub(crate) fn vast<T>(&self, work: impl FnOnce(&mut api::World) -> T) -> T {
        work(&mut lock(&self.vast))
    }

    /// Spoils calls by this rule for so long; the other rules stay.
    pub(crate) async fn spoil(&self, rule: &api::Fault, lasts: Duration) {
        self.vast(|vast| vast.add_fault(rule.clone()));
        tokio::time::sleep(lasts).await;
        self.vast(|vast| vast.remove_fault(rule));
    }

    /// Waits until there have been so many calls.
    pub(crate) async fn calls_come_to(&self, calls: usize) {
        // The sender lives as long as this does.
        let _ = self.called.subscribe().wait_for(|called| *called >= calls).await;
    }

    /// Whoever next has such a call carried out dies before its answer.
    pub(crate) fn kill_at_next(&self, deadly: Option<Deadly>) {
        lock(&self.books).deadly = deadly;
    }

    pub(crate) fn jump(&self, milliseconds: i64) {
        lock(&self.books).jump += milliseconds;
        self.note(Happening::ClockJumped(milliseconds));
    }
}

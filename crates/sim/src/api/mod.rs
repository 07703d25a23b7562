//! The vendor as one deterministic state machine: a request and the time in, a reply out.
//!
//! It has no clock, no socket and no randomness of its own. JSON is put together by hand from what is known
//! about the vendor's API, and never with a client's types, so that a client's misreading shows.
//!
//! Each file knows one thing: `route` the endpoints, `search`, `create`, `instances`, `list`,
//! `keys`, `logs` and `users` what they do, `lifecycle` how instances move on the clock, `ledger` what
//! they cost, `limits` how often one may call, `faults` what goes wrong on demand and `control` the
//! control plane beside the API.

/// Writes members into an object, in place: most of what a world does is to write records.
macro_rules! put {
    ($object:expr, { $($name:literal: $value:expr),* $(,)? }) => {
        $($object.insert($name.to_owned(), serde_json::json!($value));)*
    };
}

mod control;
mod create;
mod faults;
mod filter;
mod history;
mod host;
mod instances;
mod keys;
mod ledger;
mod lifecycle;
mod limits;
mod list;
mod logs;
mod message;
mod offers;
mod random;
mod record;
mod route;
mod search;
mod settings;
mod users;

pub use faults::{Effect, Fault, Timing};
pub use host::{Container, Gpu, Host, NoHost};
pub use keys::{Door, SshAccess};
pub use ledger::{Ledger, OpenInstance};
pub use message::{Delivery, Reply, Request, parse_query};
pub use settings::Settings;

use faults::Faults;
use keys::AccountKey;
use limits::Limits;
use logs::Object;
use offers::Offer;
use random::Random;
use record::Instance;
use route::Route;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use users::{Account, Caller};

/// A simulated Vast with one account.
///
/// Time is a [`Duration`] of simulated time since the start. It comes from the caller with every call, and
/// never goes back: an earlier time counts as the latest one seen.
pub struct World {
    settings: Settings,
    host: Box<dyn Host>,
    random: Random,
    /// The latest simulated moment that has been played.
    now: Duration,
    /// How far jumps have put this world ahead of its caller's clock.
    skew: Duration,
    account: Account,
    session_id: String,
    offers: Vec<Offer>,
    instances: BTreeMap<u64, Instance>,
    account_keys: Vec<AccountKey>,
    objects: BTreeMap<String, Object>,
    object_misses: u64,
    limits: Limits,
    faults: Faults,
    struck: u64,
    history: VecDeque<Value>,
    next_instance: u64,
    next_offer: u64,
    next_key: u64,
    created: u64,
    destroyed: u64,
    max_concurrent: u64,
    accrued: f64,
    shutdown_asked: bool,
}

impl std::fmt::Debug for World {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("World").field("now", &self.now).field("open", &self.ledger().open).finish()
    }
}

impl World {
    /// A world at time zero with a full market and no instance.
    pub fn new(settings: Settings, host: Box<dyn Host>) -> Self {
        let mut random = Random::new(settings.seed);
        let offers = offers::catalogue(settings.market, &mut random);
        Self {
            account: Account { credit: settings.credit, revoked: false },
            session_id: random.token(),
            next_instance: 35_000_000 + random.below(1_000_000),
            next_offer: 21_000_000,
            next_key: 500_000,
            settings,
            host,
            random,
            now: Duration::ZERO,
            skew: Duration::ZERO,
            offers,
            instances: BTreeMap::new(),
            account_keys: Vec::new(),
            objects: BTreeMap::new(),
            object_misses: 0,
            limits: Limits::default(),
            faults: Faults::default(),
            struck: 0,
            history: VecDeque::new(),
            created: 0,
            destroyed: 0,
            max_concurrent: 0,
            accrued: 0.0,
            shutdown_asked: false,
        }
    }

    /// This world as it stands now once more, its containers run by another host, which knows them.
    #[must_use]
    pub fn twin(&self, host: Box<dyn Host>) -> Self {
        Self {
            settings: self.settings.clone(),
            host,
            random: self.random.clone(),
            now: self.now,
            skew: self.skew,
            account: self.account.clone(),
            session_id: self.session_id.clone(),
            offers: self.offers.clone(),
            instances: self.instances.clone(),
            account_keys: self.account_keys.clone(),
            objects: self.objects.clone(),
            object_misses: self.object_misses,
            limits: self.limits.clone(),
            faults: self.faults.clone(),
            struck: self.struck,
            history: self.history.clone(),
            next_instance: self.next_instance,
            next_offer: self.next_offer,
            next_key: self.next_key,
            created: self.created,
            destroyed: self.destroyed,
            max_concurrent: self.max_concurrent,
            accrued: self.accrued,
            shutdown_asked: self.shutdown_asked,
        }
    }

    /// What this world was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Puts a fault rule in force, after those that are.
    pub fn add_fault(&mut self, fault: Fault) {
        self.faults.add(fault);
    }

    /// Takes the latest rule like this one out of force.
    pub fn remove_fault(&mut self, fault: &Fault) {
        self.faults.remove(fault);
    }

    /// How many of the rules in force have struck no call.
    pub fn idle_faults(&self) -> usize {
        self.faults.idle()
    }

    /// Takes every fault rule out of force.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }

    /// How many calls a fault has struck so far.
    pub fn struck(&self) -> u64 {
        self.struck
    }

    /// Answers one request at a time.
    pub fn handle(&mut self, now: Duration, request: &Request) -> Reply {
        self.advance_to(now);
        if request.path.starts_with(control::CONTROL) {
            return self.control(request);
        }
        let fault = self.faults.strike(request);
        let struck = fault.is_some();
        self.struck += u64::from(struck);
        // A destroy takes its caller's key with it.
        let caller = self.caller(request);
        let reply = match fault {
            Some(Fault { timing: Timing::BeforeCommit, effect, .. })
                if !matches!(effect, Effect::Delay(_)) =>
            {
                effect.spoil(request, None)
            }
            Some(Fault { effect, .. }) => {
                let real = self.dispatch(request);
                effect.spoil(request, Some(real))
            }
            None => self.dispatch(request),
        };
        self.record(request, &caller, &reply, struck);
        reply
    }

    fn dispatch(&mut self, request: &Request) -> Reply {
        if let Some(name) = request.path.strip_prefix(logs::OBJECTS).filter(|_| request.method == "GET") {
            return self.object(name);
        }
        let Some(route) = Route::of(&request.method, &request.path) else { return not_found() };
        match self.admit_caller(request, route) {
            Ok(()) => self.answer(route, request),
            Err(reply) => reply,
        }
    }

    /// Who may call, and how often.
    fn admit_caller(&mut self, request: &Request, route: Route) -> Result<(), Reply> {
        match self.caller(request) {
            Caller::Owner => {}
            Caller::Container(id) if route.instance() == Some(id) => {}
            Caller::Container(_) => return Err(users::no_permission()),
            Caller::Anonymous if route.is_public() => {}
            Caller::Anonymous => return Err(users::no_key()),
            // A bad key is refused even where no key is needed.
            Caller::Unknown => return Err(users::unknown_key()),
        }
        if !self.settings.rate_limits {
            return Ok(());
        }
        let real = self.now.div_f64(self.settings.time_scale.max(f64::MIN_POSITIVE));
        let address = request.client_ip.as_deref().unwrap_or("127.0.0.1");
        self.limits.admit(real, request.credential().unwrap_or(address), address, route)
    }

    fn answer(&mut self, route: Route, request: &Request) -> Reply {
        match route {
            Route::CurrentUser => self.current_user(),
            Route::SearchByBody => self.search_by_body(request),
            Route::SearchByParameter => self.search_by_parameter(request),
            Route::SearchAsks => self.search_asks(request),
            Route::GpuNames => self.gpu_names(),
            Route::Create(ask) => self.create(ask, request),
            Route::Read(id) => self.read(id),
            Route::Change(id) => self.change(id, request),
            Route::Destroy(id) => self.destroy(id),
            Route::ListV0 => list::deprecated(),
            Route::ListV1 => self.list(request),
            Route::InstanceKeys(id) => self.instance_keys(id),
            Route::AttachKey(id) => self.attach_key(id, request),
            Route::DetachKey(id, key) => self.detach_key(id, key),
            Route::AccountKeys => self.list_account_keys(),
            Route::AddAccountKey => self.add_account_key(request),
            Route::RemoveAccountKey(id) => self.remove_account_key(id),
            Route::RequestLogs(id) => self.request_logs(id, request),
            Route::Reboot(id) => self.restart(id, "rebooting"),
            Route::Recycle(id) => self.restart(id, "recycling"),
            Route::ChangeBid(id) => self.change_bid(id, request),
            Route::Command(id) => self.command(id, request),
            Route::BadId => Reply::error(400, "invalid_args", "error 400/3467: Invalid args: id"),
        }
    }

    fn new_offer_id(&mut self) -> u64 {
        self.next_offer += 1 + self.random.below(90);
        self.next_offer
    }
}

/// What the vendor's router says to an unknown path, and to a known one without its trailing slash.
fn not_found() -> Reply {
    Reply::typed(404, "text/html", "<html><head><title>404 Not Found</title></head><body></body></html>")
}

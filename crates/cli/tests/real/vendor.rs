//! The vendor: an account with strangers on it, one offer after the other, and a ledger.

use super::elsewhere::Elsewhere;
use super::fault::{Trap, What};
use super::http::{self, Reply, Request};
use super::machine::Machine;
use super::route::Route;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The account's key.
pub const API_KEY: &str = "canary-account-key-51f0";

/// A machine of somebody else.
pub const STRANGER: u64 = 600_001;

/// How the vendor behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Time that every call takes.
    pub latency: Duration,
    /// Time from the create until the container runs.
    pub boot: Duration,
    /// The container runs once the list and the single read have both looked at it, so that a command comes to both calls
    /// however quick its machine is.
    pub two_looks: bool,
    /// Calls sooner than the published intervals are refused.
    pub limits: bool,
    /// The image cannot be pulled.
    pub broken_image: bool,
    /// How long a new machine is missing from the list.
    pub list_lag: Duration,
    /// How long the calls about a new machine do not know it; a destroy does.
    pub read_lag: Duration,
}

/// Secrets that the vendor gives away in answers; nobody may ever see them.
pub struct Secrets;

impl Secrets {
    pub const INSTANCE_KEY: &str = "canary-instance-key-77ab";
    pub const JUPYTER: &str = "canary-jupyter-token-c3d2";
    pub const SIGNATURE: &str = "canary-log-signature-9e18";
}

struct Instance {
    label: String,
    born: Instant,
    /// Since when it runs, or boots.
    started: Instant,
    /// By what it was looked at since then.
    looked_at: BTreeSet<Route>,
    halted: bool,
    machine: Machine,
}

#[derive(Default)]
struct State {
    instances: BTreeMap<u64, Instance>,
    strangers: Vec<Value>,
    trespasses: Vec<String>,
    created: u64,
    most_at_once: usize,
    /// Calls since the trap was set.
    calls: Vec<Route>,
    trap: Option<Trap>,
    sprung: bool,
    last: BTreeMap<Route, Instant>,
    refused: Vec<Route>,
    /// The process that is killed where a trap says so.
    prey: Option<u32>,
    closed: bool,
}

struct Inside {
    state: Mutex<State>,
    changed: Condvar,
    folder: PathBuf,
    options: Options,
    address: String,
    elsewhere: Elsewhere,
}

/// A running vendor. Its instances end with it.
pub struct Vendor {
    inside: Arc<Inside>,
}

impl Vendor {
    /// Breaks off every SSH connection to every instance.
    pub fn hang_up(&self) {
        self.inside.state().instances.values().for_each(|instance| instance.machine.hang_up());
    }

    /// One that keeps what its instances need below `folder`.
    pub fn start(folder: &Path, options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stranger = |id: u64, label: &str| {
            json!({"id": id, "label": label, "actual_status": "running", "intended_status": "running",
                   "gpu_name": "RTX 4090", "num_gpus": 1, "dph_total": 0.5, "jupyter_token": Secrets::JUPYTER,
                   "ssh_host": "127.0.0.1", "ssh_port": "9"})
        };
        let state = State {
            strangers: vec![
                stranger(STRANGER, "made by hand"),
                stranger(600_002, "cbx1|cbx_aaaaaaaaaaaa|other-box|ready"),
            ],
            ..State::default()
        };
        let inside = Arc::new(Inside {
            state: Mutex::new(state),
            changed: Condvar::new(),
            folder: folder.to_owned(),
            options,
            address,
            elsewhere: Elsewhere::start(),
        });
        let serving = Arc::clone(&inside);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.state().closed {
                    return;
                }
                let inside = Arc::clone(&serving);
                std::thread::spawn(move || inside.serve(stream));
            }
        });
        Vendor { inside }
    }

    /// The setting `vast.apiUrl`.
    pub fn url(&self) -> String {
        format!("http://{}/api/v0", self.inside.address)
    }

    /// Sets the one trap and begins to count calls anew.
    pub fn set(&self, trap: Option<Trap>) {
        let mut state = self.inside.state();
        state.calls.clear();
        state.trap = trap;
        state.sprung = false;
        state.prey = None;
    }

    /// Names the process that a trap may kill.
    pub fn hunt(&self, process: u32) {
        self.inside.state().prey = Some(process);
        self.inside.changed.notify_all();
    }

    /// Whether the trap has struck.
    pub fn sprung(&self) -> bool {
        self.inside.state().sprung
    }

    /// The calls since the trap was set.
    pub fn calls(&self) -> Vec<Route> {
        self.inside.state().calls.clone()
    }

    /// Instances that are open and bill somebody who rented here.
    pub fn open(&self) -> Vec<u64> {
        self.inside.state().instances.keys().copied().collect()
    }

    /// Creates that took effect.
    pub fn created(&self) -> u64 {
        self.inside.state().created
    }

    /// The most instances that were ever open together.
    pub fn most_at_once(&self) -> usize {
        self.inside.state().most_at_once
    }

    /// Attempts to change what belongs to others, and keys that were carried where they are not to go.
    pub fn trespasses(&self) -> Vec<String> {
        let visits = self.inside.elsewhere.visits();
        let away = visits.into_iter().map(|head| format!("a redirect to another host was followed: {head}"));
        self.inside.state().trespasses.iter().cloned().chain(away).collect()
    }

    /// Calls that came too soon, where limits are enforced.
    pub fn refused(&self) -> Vec<Route> {
        self.inside.state().refused.clone()
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        let mut state = self.inside.state();
        state.instances.clear();
        state.closed = true;
        drop(state);
        self.inside.changed.notify_all();
        // Wakes the listener, which then ends.
        let _ = TcpStream::connect(&self.inside.address);
    }
}

impl Inside {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut reader = BufReader::new(stream);
        while let Ok(Some(request)) = http::read(&mut reader) {
            std::thread::sleep(self.options.latency);
            let Some(reply) = self.meet(&request) else { return };
            match http::write(reader.get_mut(), &reply) {
                Ok(true) => {}
                Ok(false) | Err(_) => return,
            }
        }
    }

    /// Answers, unless the trap strikes; `None` where the caller is dead.
    fn meet(&self, request: &Request) -> Option<Reply> {
        let mut state = self.state();
        let Some((route, id)) = Route::of(&request.method, request.path.trim_start_matches("/moved")) else {
            return Some(Reply::refusal(404, &json!({"success": false, "error": "unknown"})));
        };
        state.calls.push(route);
        let nth = state.calls.iter().filter(|call| **call == route).count();
        let trap = state.trap.filter(|trap| trap.route == route && trap.nth == nth);
        state.sprung |= trap.is_some();
        match trap {
            None => Some(self.answer(&mut state, route, id, request)),
            Some(Trap { what: What::Spoil(fault), after, .. }) => {
                let whole = if after || !route.changes() {
                    self.answer(&mut state, route, id, request)
                } else {
                    Reply::json(&json!({"success": true, "nothing": "was done"}))
                };
                Some(fault.spoil(whole, request, &self.elsewhere.address))
            }
            Some(Trap { what: What::Kill, after, .. }) => {
                if after {
                    self.answer(&mut state, route, id, request);
                }
                let named = |state: &mut State| state.prey.is_none() && !state.closed;
                let state = self.changed.wait_while(state, named).unwrap();
                state.prey.into_iter().for_each(kill);
                None
            }
        }
    }

    fn answer(&self, state: &mut State, route: Route, id: u64, request: &Request) -> Reply {
        if route == Route::LogText {
            if !request.bearer.is_empty() {
                state.trespasses.push("a key was carried to the log's address".to_owned());
            }
            return Reply::text(&format!(
                "pulling\n{{\"jupyter_token\": \"{}\"}}\ncurl -H 'Authorization: Bearer {}' {}\n",
                Secrets::JUPYTER,
                Secrets::INSTANCE_KEY,
                self.log_address(id)
            ));
        }
        if request.bearer != API_KEY {
            // A careless server says the key back.
            let message = format!("Invalid user key {}", request.bearer);
            let refusal = json!({"success": false, "error": "auth_error", "msg": message});
            return Reply::refusal(401, &refusal);
        }
        let now = Instant::now();
        let early = state.last.insert(route, now).is_some_and(|last| now - last < route.interval());
        if self.options.limits && early {
            state.refused.push(route);
            return Reply { status: 429, ..Reply::text("API requests too frequent") };
        }
        match route {
            Route::Account => Reply::json(&json!({"id": 4242, "credit": 10, "api_key": API_KEY})),
            // Always another offer: what is taken does not come back.
            Route::Search => Reply::json(&json!({"offers": (0..3)
                .map(|n| json!({"id": 500_001 + state.created * 3 + n, "machine_id": 70 + n,
                                "gpu_name": "RTX 3090", "num_gpus": 2, "dph_total": 0.31}))
                .collect::<Vec<_>>()})),
            Route::List => {
                let mut all = state.strangers.clone();
                let listed = |instance: &Instance| instance.born.elapsed() >= self.options.list_lag;
                let ours = state.instances.iter_mut().filter(|(_, instance)| listed(instance));
                all.extend(ours.map(|(id, instance)| self.look(route, *id, instance)));
                Reply::json(&json!({"instances": all, "next_token": null}))
            }
            Route::Create => self.create(state, request),
            _ => self.instance(state, route, id, request),
        }
    }

    fn create(&self, state: &mut State, request: &Request) -> Reply {
        state.created += 1;
        let id = 700_000 + state.created;
        let machine = Machine::start(&self.folder.join(id.to_string()));
        let label = request.body["label"].as_str().unwrap_or_default().to_owned();
        let now = Instant::now();
        let looked_at = BTreeSet::new();
        state
            .instances
            .insert(id, Instance { label, born: now, started: now, looked_at, halted: false, machine });
        state.most_at_once = state.most_at_once.max(state.instances.len());
        Reply::json(&json!({"success": true, "new_contract": id.to_string(),
                            "instance_api_key": Secrets::INSTANCE_KEY}))
    }

    fn instance(&self, state: &mut State, route: Route, id: u64, request: &Request) -> Reply {
        let done = Reply::json(&json!({"success": true}));
        if state.strangers.iter().any(|stranger| stranger["id"] == id) {
            if route.changes() {
                state.trespasses.push(format!("{} {}", request.method, request.path));
                return done;
            }
            let stranger = state.strangers.iter().find(|stranger| stranger["id"] == id);
            return Reply::json(&json!({"instances": stranger}));
        }
        let known = |instance: &&mut Instance| {
            route == Route::Destroy || instance.born.elapsed() >= self.options.read_lag
        };
        let Some(instance) = state.instances.get_mut(&id).filter(known) else {
            return match route {
                Route::Show => Reply::json(&json!({"instances": null})),
                _ => Reply::refusal(404, &json!({"success": false, "error": "no_such_instance"})),
            };
        };
        match route {
            Route::Show => return Reply::json(&json!({"instances": self.look(route, id, instance)})),
            Route::Attach => instance.machine.let_in(request.body["ssh_key"].as_str().unwrap_or_default()),
            Route::Keys => return Reply::json(&json!({"ssh_keys": "[]"})),
            Route::Manage => {
                if let Some(label) = request.body["label"].as_str() {
                    label.clone_into(&mut instance.label);
                }
                match request.body["state"].as_str() {
                    Some("stopped") => {
                        instance.halted = true;
                        instance.machine.hang_up();
                    }
                    Some(_) if instance.halted => {
                        (instance.halted, instance.started) = (false, Instant::now());
                        instance.looked_at.clear();
                    }
                    _ => {}
                }
            }
            Route::Logs => {
                return Reply::json(&json!({"success": true, "result_url": self.log_address(id)}));
            }
            Route::Destroy => drop(state.instances.remove(&id)),
            _ => {}
        }
        done
    }

    fn log_address(&self, id: u64) -> String {
        format!("http://{}/logs/{id}?signature={}", self.address, Secrets::SIGNATURE)
    }

    fn look(&self, route: Route, id: u64, instance: &mut Instance) -> Value {
        let view = self.view(id, instance);
        instance.looked_at.insert(route);
        view
    }

    fn view(&self, id: u64, instance: &Instance) -> Value {
        let looked_at = [Route::List, Route::Show].iter().all(|route| instance.looked_at.contains(route));
        let booted =
            instance.started.elapsed() >= self.options.boot && (looked_at || !self.options.two_looks);
        let running = !instance.halted && booted;
        let (intended, otherwise) =
            if instance.halted { ("stopped", "exited") } else { ("running", "loading") };
        let mut view = json!({"id": id, "label": instance.label, "intended_status": intended,
            "actual_status": if running { "running" } else { otherwise }, "gpu_name": "RTX 3090",
            "num_gpus": "2", "dph_total": 0.31, "jupyter_token": Secrets::JUPYTER,
            "instance_api_key": Secrets::INSTANCE_KEY});
        if self.options.broken_image {
            view["actual_status"] = json!("loading");
            view["status_msg"] = json!(format!(
                "Error response from daemon: manifest unknown: Bearer {} see https://logs.example/x?signature={}",
                Secrets::INSTANCE_KEY,
                Secrets::SIGNATURE
            ));
        } else if running {
            view["ssh_host"] = json!("127.0.0.1");
            view["ssh_port"] = json!(instance.machine.port.to_string());
        }
        view
    }
}

/// Kills a process and waits until it does nothing any more.
fn kill(process: u32) {
    let Some(pid) = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw) else { return };
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    let stat = format!("/proc/{process}/stat");
    // Dead, or a zombie for its parent to collect.
    let alive = || std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z "));
    for _ in 0..1_000 {
        if !alive() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

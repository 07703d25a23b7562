//! One case of the matrix: a command, a trap at one of its calls, and what is left afterwards.

use super::fault::{Fault, Trap, What};
use super::route::Route;
use super::traveller::{Ended, Traveller, is_key};
use super::vendor::{API_KEY, Options, Secrets};
use std::fmt;
use std::hash::{Hash as _, Hasher as _};
use std::time::{Duration, Instant};

/// The commands under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scenario {
    /// Rents and keeps.
    Warmup,
    /// Rents what cannot start, reads its log, and gives it back.
    Broken,
    /// Rents, runs a command, gives back.
    Run,
    /// Runs a command on a present lease.
    RunId,
    /// Starts a stopped lease.
    Start,
    /// Moves the idle deadline of a present lease.
    Touch,
    /// Shows all leases.
    List,
    /// Shows a present lease.
    Status,
    /// Gives a present lease back.
    Stop,
    /// Finishes what a killed run left behind.
    Cleanup,
}

impl Scenario {
    pub const ALL: [Scenario; 10] = [
        Scenario::Warmup,
        Scenario::Broken,
        Scenario::Run,
        Scenario::RunId,
        Scenario::Start,
        Scenario::Touch,
        Scenario::List,
        Scenario::Status,
        Scenario::Stop,
        Scenario::Cleanup,
    ];

    fn words(self) -> &'static [&'static str] {
        match self {
            Scenario::Warmup | Scenario::Broken => &["warmup", "--slug", "box"],
            Scenario::Run => &["run", "--no-sync", "--", "echo", "it ran"],
            Scenario::RunId => &["run", "--no-sync", "--id", "box", "--", "echo", "it ran"],
            Scenario::Start => &["start", "box"],
            Scenario::Touch => &["touch", "box"],
            Scenario::List => &["list"],
            Scenario::Status => &["status", "box"],
            Scenario::Stop => &["stop", "box"],
            Scenario::Cleanup => &["cleanup"],
        }
    }

    /// Whether it rents.
    pub fn creates(self) -> bool {
        matches!(self, Scenario::Warmup | Scenario::Broken | Scenario::Run)
    }

    /// Whether it shows something and changes nothing.
    pub fn only_reads(self) -> bool {
        matches!(self, Scenario::List | Scenario::Status)
    }

    /// A vendor as it needs one.
    pub fn options(self) -> Options {
        Options { broken_image: self == Scenario::Broken, two_looks: true, ..Options::default() }
    }

    /// A present lease where it needs one, the trap set, and the command run.
    pub fn play(self, traveller: &Traveller, trap: Option<Trap>) -> Ended {
        let prepare = |words: &[&str]| {
            let ended = traveller.run(words);
            assert!(ended.succeeded(), "{}", ended.stderr);
        };
        match self {
            Scenario::Warmup | Scenario::Broken | Scenario::Run => {}
            Scenario::RunId | Scenario::Touch | Scenario::List | Scenario::Status | Scenario::Stop => {
                prepare(Scenario::Warmup.words());
            }
            Scenario::Start => {
                prepare(Scenario::Warmup.words());
                prepare(&["stop", "--vast-release-action", "stop", "box"]);
            }
            Scenario::Cleanup => {
                let attached = Trap { route: Route::Attach, nth: 1, what: What::Kill, after: true };
                traveller.vendor.set(Some(attached));
                assert!(!traveller.run(Scenario::Run.words()).succeeded());
                assert_eq!(traveller.vendor.open().len(), 1);
            }
        }
        traveller.vendor.set(trap);
        traveller.run(self.words())
    }

    /// Whether its output says that it came to its end.
    pub fn did_its_work(self, ended: &Ended) -> bool {
        let said = match self {
            Scenario::Warmup => ended.stdout.contains("leased cbx_"),
            // It does fail, and says why.
            Scenario::Broken => return !ended.succeeded() && ended.stderr.contains("manifest unknown"),
            Scenario::Start => ended.stdout.contains("started cbx_"),
            Scenario::Touch => ended.stdout.contains("cbx_"),
            Scenario::List | Scenario::Status => ended.stdout.contains("slug=box"),
            Scenario::Run | Scenario::RunId => ended.stdout == "it ran\n",
            Scenario::Stop => ended.stderr.contains("destroyed lease=cbx_"),
            // The box of somebody else on this account is refused, and told by the exit code.
            Scenario::Cleanup => return ended.stderr.contains("cleanup: 1 destroyed,"),
        };
        ended.succeeded() && said
    }
}

/// What is done to which command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Case {
    pub scenario: Scenario,
    pub trap: Trap,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trap { route, nth, what, after } = self.trap;
        let when = if after { "after" } else { "before" };
        match what {
            What::Spoil(fault) => {
                write!(f, "{:?}: {} {when} {route:?} {nth}", self.scenario, fault.name())
            }
            What::Kill => write!(f, "{:?}: killed {when} {route:?} {nth}", self.scenario),
        }
    }
}

/// What became of a case.
pub struct Verdict {
    pub case: Case,
    /// The trap struck; a poll more or less may decide that.
    pub struck: bool,
    /// The command did its work in spite of it.
    pub survived: bool,
    /// What the command took.
    pub took: Duration,
    /// What everything took, the clean-up included.
    pub whole: Duration,
    /// What must not be: a leak, a trespass, two instances at once, a record left, a secret shown.
    pub faults: Vec<String>,
    /// What the command said.
    pub said: String,
}

impl Case {
    /// A lone passing fault on a call that is no create: the command must get over it.
    pub fn is_passing(&self) -> bool {
        matches!(self.trap.what, What::Spoil(fault) if fault.is_passing()) && self.trap.route != Route::Create
    }

    /// An answer that says no, or what is not so: the command may end there. A create is not sent elsewhere either.
    pub fn may_fail(&self) -> bool {
        let unmoved = |fault| fault == Fault::Moved && self.trap.route == Route::Create;
        let believed =
            |fault: Fault| fault.may_be_believed() && !(fault.is_lock_out() && self.ends_something());
        matches!(self.trap.what, What::Spoil(fault) if believed(fault) || unmoved(fault))
    }

    /// Whether the call is one of those by which a machine is brought to its end, so that it bills on until they get through.
    fn ends_something(&self) -> bool {
        match self.scenario {
            Scenario::Stop | Scenario::Cleanup => {
                matches!(self.trap.route, Route::Account | Route::List | Route::Show | Route::Destroy)
            }
            Scenario::Run => matches!(self.trap.route, Route::Show | Route::Destroy),
            _ => false,
        }
    }

    /// Nobody knows whether a machine is rented, and none is: that takes the visibility window to prove.
    pub fn waits_out_the_window(&self) -> bool {
        let Trap { route, nth, what, after } = self.trap;
        let lost = self.scenario.creates()
            && match what {
                What::Kill => matches!(route, Route::Account | Route::Search | Route::List | Route::Create),
                // A plain no is taken at its word; what a success named is waited for.
                What::Spoil(fault) => route == Route::Create && (!self.may_fail() || fault == Fault::Phantom),
            }
            && !(route == Route::Create && after);
        // A destroyed machine that is missing from every read may as well be one too fresh to be seen, unless the destroy
        // was called a success.
        let destroyed = match (self.scenario, what) {
            (Scenario::Broken, What::Spoil(_)) => route == Route::Destroy && after,
            (Scenario::Run | Scenario::Broken, What::Kill) => {
                route == Route::Destroy && after || route == Route::Show
            }
            (Scenario::Stop | Scenario::Cleanup, What::Kill) => {
                route == Route::Destroy && after || matches!(route, Route::List | Route::Show) || nth > 1
            }
            _ => false,
        };
        let ends =
            matches!(self.scenario, Scenario::Broken | Scenario::Run | Scenario::Stop | Scenario::Cleanup);
        let gave_up = ends && self.may_fail() && (route == Route::Destroy && after || nth > 1);
        lost || destroyed || gave_up
    }

    /// One of each kind that waits out the window: a create that is lost without effect, and a kill before and after one.
    pub fn stands_for_the_window(&self) -> bool {
        let Trap { route, nth, what, after } = self.trap;
        let lost = What::Spoil(Fault::Reset);
        match self.scenario {
            Scenario::Warmup => (route, nth, what, after) == (Route::Create, 1, lost, false),
            Scenario::Run => (route, nth, what, after) == (Route::Create, 1, What::Kill, false),
            Scenario::Stop => (route, nth, what, after) == (Route::Destroy, 1, What::Kill, true),
            _ => false,
        }
    }

    /// The vendor of every third case shows a new machine late: in the list after 1.5 s, in the single read after 0.7 s.
    /// Not where a key would be called taken that such a vendor does not take yet.
    fn options(&self) -> Options {
        let mut hash = std::hash::DefaultHasher::new();
        self.to_string().hash(&mut hash);
        let lie = self.trap.route == Route::Attach && self.may_fail();
        let lag = u32::from(hash.finish().is_multiple_of(3) && !lie);
        Options {
            list_lag: Duration::from_millis(1_500) * lag,
            read_lag: Duration::from_millis(700) * lag,
            ..self.scenario.options()
        }
    }

    /// Whether a machine may be there after a clean-up: one that is kept, unless it never was its user's, or was to end.
    fn may_stay(self, ended: &Ended) -> bool {
        match self.scenario {
            // What a user asked `stop` for is on record before its first call.
            Scenario::Broken | Scenario::Run | Scenario::Cleanup | Scenario::Stop => false,
            Scenario::Warmup => self.scenario.did_its_work(ended),
            Scenario::RunId | Scenario::Start | Scenario::Touch | Scenario::List | Scenario::Status => true,
        }
    }

    pub fn run(self) -> Verdict {
        let began = Instant::now();
        let traveller = Traveller::new(self.options());
        let ended = self.scenario.play(&traveller, Some(self.trap));
        let struck = traveller.vendor.sprung();
        traveller.vendor.set(None);
        let mut said = format!("{}{}", ended.stdout, ended.stderr);
        let mut faults = shown_in_records(&traveller);
        let (cleaning, left) = clean_up(self.may_stay(&ended), &traveller);
        said += &cleaning;
        faults.extend(left);
        faults.extend(residue(&traveller));
        faults.extend(shown_in_records(&traveller));
        if !traveller.keys().is_empty() {
            faults.push("a key is left".to_owned());
        }
        faults.extend(shown(&said, "the output"));
        let survived = self.scenario.did_its_work(&ended);
        Verdict { case: self, struck, survived, took: ended.took, whole: began.elapsed(), faults, said }
    }
}

/// Secrets in a text.
fn shown(text: &str, place: &str) -> Vec<String> {
    let secrets = [API_KEY, Secrets::INSTANCE_KEY, Secrets::JUPYTER, Secrets::SIGNATURE, "PRIVATE KEY"];
    let found = secrets.into_iter().filter(|secret| text.contains(secret));
    found.map(|secret| format!("{secret} in {place}")).collect()
}

/// Secrets in what is on disk; a private key has its own file.
fn shown_in_records(traveller: &Traveller) -> Vec<String> {
    let records = traveller.records().into_iter().filter(|path| !is_key(path));
    let found = records.flat_map(|path| {
        let text = std::fs::read(&path).unwrap_or_default();
        shown(&String::from_utf8_lossy(&text), &path.display().to_string())
    });
    found.collect()
}

/// What a user does after a mishap: cleans up, and stops what was to be kept. What was said, and what was wrong.
fn clean_up(may_stay: bool, traveller: &Traveller) -> (String, Vec<String>) {
    let mut faults = Vec::new();
    let ended = traveller.run(&["cleanup"]);
    let mut said = format!("-- cleanup: {}\n{}{}", ended.status, ended.stdout, ended.stderr);
    if !may_stay && !traveller.vendor.open().is_empty() {
        faults.push("cleanup left a machine that nobody was to keep".to_owned());
    }
    for lease in traveller.claims() {
        let ended = traveller.run(&["stop", "--vast-release-action", "destroy", &lease]);
        said += &format!("-- stop {lease}: {}\n{}{}", ended.status, ended.stdout, ended.stderr);
    }
    (said, faults)
}

fn residue(traveller: &Traveller) -> Vec<String> {
    let vendor = &traveller.vendor;
    let mut faults = vendor.trespasses();
    let mut must_be_empty = |what: &str, left: Vec<String>| {
        if !left.is_empty() {
            faults.push(format!("{what}: {}", left.join(" ")));
        }
    };
    must_be_empty("still billing", vendor.open().iter().map(u64::to_string).collect());
    must_be_empty("claims left", traveller.claims());
    if vendor.most_at_once() > 1 {
        faults.push(format!("{} instances at once", vendor.most_at_once()));
    }
    faults
}

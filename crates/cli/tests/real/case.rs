//! One case of the matrix: a command, a trap at one of its calls, and what is left afterwards.

use super::fault::{Fault, Trap, What};
use super::route::Route;
use super::traveller::{Ended, Traveller};
use super::vendor::{API_KEY, Options, Secrets};
use std::fmt;
use std::time::{Duration, Instant};

/// The commands under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scenario {
    /// Rents and keeps.
    Warmup,
    /// Rents, runs a command, gives back.
    Run,
    /// Runs a command on a present lease.
    RunId,
    /// Gives a present lease back.
    Stop,
    /// Finishes what a killed run left behind.
    Cleanup,
}

impl Scenario {
    pub const ALL: [Scenario; 5] =
        [Scenario::Warmup, Scenario::Run, Scenario::RunId, Scenario::Stop, Scenario::Cleanup];

    fn words(self) -> &'static [&'static str] {
        match self {
            Scenario::Warmup => &["warmup", "--slug", "box"],
            Scenario::Run => &["run", "--no-sync", "--", "echo", "it ran"],
            Scenario::RunId => &["run", "--no-sync", "--id", "box", "--", "echo", "it ran"],
            Scenario::Stop => &["stop", "box"],
            Scenario::Cleanup => &["cleanup"],
        }
    }

    /// Whether what it rents or finds is to outlive it.
    fn keeps(self) -> bool {
        matches!(self, Scenario::Warmup | Scenario::RunId | Scenario::Stop)
    }

    /// A present lease where it needs one, the trap set, and the command run.
    pub fn play(self, traveller: &Traveller, trap: Option<Trap>) -> Ended {
        match self {
            Scenario::Warmup | Scenario::Run => {}
            Scenario::RunId | Scenario::Stop => {
                let warm = traveller.run(Scenario::Warmup.words());
                assert!(warm.succeeded(), "{}", warm.stderr);
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
            What::Spoil(fault) => write!(f, "{:?}: {fault:?} {when} {route:?} {nth}", self.scenario),
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

    /// Nobody knows whether a machine is rented, and none is: that takes the visibility window to prove.
    pub fn waits_out_the_window(&self) -> bool {
        let Trap { route, nth, what, after } = self.trap;
        let early = matches!(route, Route::Account | Route::Search | Route::List) && what == What::Kill;
        let creates = matches!(self.scenario, Scenario::Warmup | Scenario::Run);
        // A destroyed machine that is missing from every read may as well be one too fresh to be seen.
        let destroyed = match self.scenario {
            Scenario::Stop | Scenario::Cleanup => {
                route == Route::Destroy && after || matches!(route, Route::List | Route::Show) || nth > 1
            }
            Scenario::Run => route == Route::Destroy && after || route == Route::Show,
            Scenario::Warmup | Scenario::RunId => false,
        };
        let vanished = destroyed && what == What::Kill;
        vanished || creates && (early || route == Route::Create && !after)
    }

    /// One of each kind that waits out the window: a create that is lost without effect, and a kill before and after one.
    pub fn stands_for_the_window(&self) -> bool {
        let Trap { route, nth, what, after } = self.trap;
        let lost = What::Spoil(Fault::Reset);
        match self.scenario {
            Scenario::Warmup => (route, nth, what, after) == (Route::Create, 1, lost, false),
            Scenario::Run => (route, nth, what, after) == (Route::Create, 1, What::Kill, false),
            Scenario::Stop => (route, nth, what, after) == (Route::Destroy, 1, What::Kill, true),
            Scenario::RunId | Scenario::Cleanup => false,
        }
    }

    pub fn run(self, options: Options) -> Verdict {
        let began = Instant::now();
        let traveller = Traveller::new(options);
        let ended = self.scenario.play(&traveller, Some(self.trap));
        let struck = traveller.vendor.sprung();
        traveller.vendor.set(None);
        let mut said = format!("{}{}", ended.stdout, ended.stderr);
        let (cleaning, mut faults) = clean_up(self.scenario, &traveller);
        said += &cleaning;
        faults.extend(residue(&traveller));
        if !traveller.keys().is_empty() {
            faults.push("a key is left".to_owned());
        }
        for secret in [API_KEY, Secrets::INSTANCE_KEY, Secrets::JUPYTER, "PRIVATE KEY"] {
            if said.contains(secret) {
                faults.push(format!("{secret} was shown"));
            }
        }
        let survived = self.scenario.did_its_work(&ended);
        Verdict { case: self, struck, survived, took: ended.took, whole: began.elapsed(), faults, said }
    }
}

/// What a user does after a mishap: cleans up, and stops what was to be kept. What was said, and what was wrong.
fn clean_up(scenario: Scenario, traveller: &Traveller) -> (String, Vec<String>) {
    let mut faults = Vec::new();
    let ended = traveller.run(&["cleanup"]);
    let mut said = format!("-- cleanup: {}\n{}{}", ended.status, ended.stdout, ended.stderr);
    if !scenario.keeps() && !traveller.vendor.open().is_empty() {
        faults.push("cleanup left a machine that nobody was to keep".to_owned());
    }
    for lease in traveller.claims() {
        let ended = traveller.run(&["stop", &lease]);
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

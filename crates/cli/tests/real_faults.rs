//! The real binary over real HTTP, against a vendor of another make: one fault, or SIGKILL, at each call of each command.
//! Afterwards nothing of ours bills, nothing of others was touched, and no record is left.
//!
//! A plain run takes a sample of about two minutes: every kind of fault but the phantom (200 s), every call of every command, three of the
//! cases that wait out the visibility window. A seed chooses the rest; it is printed, and `CRABBOX_VAST_FAULTS_SEED` sets
//! it. `CRABBOX_VAST_FAULTS=all` takes every case (`scripts/fault-matrix`), and any other text those whose name holds it.
#![cfg(unix)]

mod desk;
mod real;

use real::{Case, Fault, Route, Scenario, Trap, Traveller, Verdict, What};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash as _, Hasher as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Cases of a plain run that wait for nothing.
const SAMPLE: usize = 210;

/// How often each route is called by a scenario where nothing goes wrong. A poll more or less is the machine's speed.
fn calls(scenario: Scenario) -> BTreeMap<Route, usize> {
    let traveller = Traveller::new(scenario.options());
    let ended = scenario.play(&traveller, None);
    assert!(scenario.did_its_work(&ended), "{scenario:?}: {}{}", ended.stdout, ended.stderr);
    let mut calls = BTreeMap::new();
    for route in traveller.vendor.calls() {
        *calls.entry(route).or_default() += 1;
    }
    calls
}

/// Every trap at every call of every scenario.
fn matrix() -> Vec<Case> {
    let mut cases = Vec::new();
    let counted = std::thread::scope(|scope| {
        let counting = Scenario::ALL.map(|scenario| scope.spawn(move || (scenario, calls(scenario))));
        counting.map(|counting| counting.join().unwrap())
    });
    let mut called = BTreeSet::new();
    for (scenario, calls) in counted {
        called.extend(calls.keys().copied());
        for (route, count) in calls {
            for what in Fault::all().map(What::Spoil).chain([What::Kill]) {
                for (nth, after) in (1..=count).flat_map(|nth| [(nth, false), (nth, true)]) {
                    let strikes = match what {
                        What::Spoil(fault) => fault.strikes(route, after),
                        What::Kill => !scenario.only_reads(),
                    };
                    if strikes {
                        cases.push(Case { scenario, trap: Trap { route, nth, what, after } });
                    }
                }
            }
        }
    }
    assert_eq!(called, BTreeSet::from(Route::CALLED), "each route is called by some command");
    cases
}

/// In an order of the seed's choice.
fn shuffled(mut cases: Vec<Case>, seed: u64) -> Vec<Case> {
    cases.sort_by_cached_key(|case| {
        let mut hash = std::hash::DefaultHasher::new();
        (seed, case).hash(&mut hash);
        hash.finish()
    });
    cases
}

/// A part of the matrix for every day: every kind and every call of every scenario, more by the seed's choice, and of
/// those that wait for minutes three that stand for all. What takes longest begins first.
fn sample(cases: Vec<Case>, seed: u64) -> Vec<Case> {
    let (long, quick): (Vec<Case>, Vec<Case>) =
        shuffled(cases, seed).into_iter().partition(Case::waits_out_the_window);
    let mut taken: Vec<Case> = long.into_iter().filter(Case::stands_for_the_window).collect();
    assert_eq!(taken.len(), 3, "{taken:?}");
    let (mut kinds, mut places) = (BTreeSet::new(), BTreeSet::new());
    let (first, rest): (Vec<Case>, Vec<Case>) = quick.into_iter().partition(|case| {
        let new_kind = kinds.insert(case.trap.what);
        if is_slow(case) {
            return new_kind;
        }
        new_kind | places.insert((case.scenario, case.trap.route))
    });
    let more = SAMPLE.saturating_sub(first.len());
    let (slow, first): (Vec<Case>, Vec<Case>) = first.into_iter().partition(is_slow);
    taken.extend(slow);
    taken.extend(first);
    taken.extend(rest.into_iter().filter(|case| !is_slow(case)).take(more));
    taken
}

fn is_slow(case: &Case) -> bool {
    matches!(case.trap.what, What::Spoil(fault) if fault.is_slow())
}

/// Cases that work at once, and those that wait for minutes included: whoever has gone on for this long mostly waits.
const WORKING: usize = 24;
const ALL: usize = 100;
const BEGINNING: Duration = Duration::from_secs(15);

/// A case; once or twice more where it did not come to the call that was to be struck.
fn struck(case: Case) -> Verdict {
    let mut verdict = case.run();
    for _ in 0..2 {
        if verdict.struck || !verdict.faults.is_empty() {
            break;
        }
        verdict = case.run();
    }
    verdict
}

/// Runs cases, and tells at once of what should not be.
fn all_of(cases: Vec<Case>) -> Vec<Verdict> {
    let verdicts = Mutex::new(Vec::new());
    let under_way = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for case in cases {
            let has_room = || {
                let under_way = under_way.lock().unwrap();
                let working = under_way.values().filter(|since: &&Instant| since.elapsed() < BEGINNING);
                working.count() < WORKING && under_way.len() < ALL
            };
            while !has_room() {
                std::thread::sleep(Duration::from_millis(10));
            }
            under_way.lock().unwrap().insert(case, Instant::now());
            let (verdicts, under_way) = (&verdicts, &under_way);
            scope.spawn(move || {
                let verdict = struck(case);
                under_way.lock().unwrap().remove(&verdict.case);
                if is_lost(&verdict) || !verdict.faults.is_empty() {
                    tell(&verdict);
                }
                verdicts.lock().unwrap().push(verdict);
            });
        }
    });
    verdicts.into_inner().unwrap()
}

/// What kind of question a case asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Where does it leave things when it dies?
    Killed,
    /// Does it get over a lone passing fault?
    Passing,
    /// Does it find out what became of its create?
    Create,
    /// Does it get over silence, pages, and a good key that is called bad?
    Other,
    /// Does it leave anything behind when it is refused, or lied to?
    Believed,
}

impl Class {
    fn of(case: &Case) -> Self {
        if case.trap.what == What::Kill {
            Class::Killed
        } else if case.is_passing() {
            Class::Passing
        } else if case.may_fail() {
            Class::Believed
        } else if case.trap.route == Route::Create {
            Class::Create
        } else {
            Class::Other
        }
    }

    /// Whether the command has to do its work in spite of it.
    fn must_survive(self) -> bool {
        matches!(self, Class::Passing | Class::Create | Class::Other)
    }
}

/// A command that had to get over its fault and did not.
fn is_lost(verdict: &Verdict) -> bool {
    verdict.struck && !verdict.survived && Class::of(&verdict.case).must_survive()
}

fn tell(verdict: &Verdict) {
    println!(
        "{} struck: {}, after {:.1} s survived: {}, {:?}\n{}",
        verdict.case,
        verdict.struck,
        verdict.took.as_secs_f64(),
        verdict.survived,
        verdict.faults,
        verdict.said
    );
}

#[test]
fn one_fault_or_one_kill_at_each_call() {
    if !real::is_here() {
        return;
    }
    let wanted = std::env::var("CRABBOX_VAST_FAULTS").unwrap_or_default();
    let cases = match wanted.as_str() {
        "all" => shuffled(matrix(), 0),
        "" => {
            let given = std::env::var("CRABBOX_VAST_FAULTS_SEED").ok().map(|seed| seed.parse().unwrap());
            let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
            let seed = given.unwrap_or_else(now);
            println!("sample of CRABBOX_VAST_FAULTS_SEED={seed}");
            sample(matrix(), seed)
        }
        name => matrix().into_iter().filter(|case| case.to_string().contains(name)).collect(),
    };
    let began = Instant::now();
    println!("{} cases", cases.len());
    assert!(!cases.is_empty(), "no case is called {wanted:?}");
    let mut verdicts = all_of(cases);
    let missed = verdicts.iter().filter(|verdict| !verdict.struck).count();
    let figure = |class: Class| {
        let of_it = verdicts.iter().filter(|verdict| verdict.struck && Class::of(&verdict.case) == class);
        let survived = of_it.clone().filter(|verdict| verdict.survived).count();
        (survived, of_it.count())
    };
    let text = |class| {
        let (survived, all) = figure(class);
        format!("{survived} of {all}")
    };
    // What was to be struck and was not has to be clean all the same.
    let unclean = verdicts.iter().filter(|verdict| !verdict.faults.is_empty()).count();
    println!(
        "over real HTTP: cases {} kills {} single passing faults survived {}, spoiled creates {}, other faults {}, \
         refusals and lies {}, unclean {unclean}, not reached {missed}, {:.0} s",
        verdicts.len() - missed,
        figure(Class::Killed).1,
        text(Class::Passing),
        text(Class::Create),
        text(Class::Other),
        text(Class::Believed),
        began.elapsed().as_secs_f64()
    );
    verdicts.sort_by_key(|verdict| std::cmp::Reverse(verdict.whole));
    for verdict in verdicts.iter().take(3) {
        println!("  {:.0} s: {}", verdict.whole.as_secs_f64(), verdict.case);
    }
    for verdict in verdicts.iter().filter(|verdict| !verdict.struck) {
        println!("  not reached: {}", verdict.case);
    }
    assert_eq!(unclean, 0);
    assert!(missed * 100 <= verdicts.len() * 3, "{missed} of {} traps did not strike", verdicts.len());
    // A lost create costs at most its visibility window and one new attempt, and never the command.
    let lost = verdicts.iter().filter(|verdict| is_lost(verdict)).count();
    assert_eq!(lost, 0, "commands that did not get over their fault");
}

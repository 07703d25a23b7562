//! The real binary over real HTTP, against a vendor of another make: one fault, or SIGKILL, at each call of each command.
//! Afterwards nothing of ours bills, nothing of others was touched, and no record is left.
//!
//! A plain run takes a sample of about two minutes, with three of the cases that wait out the visibility window;
//! `CRABBOX_VAST_FAULTS=all` takes every case (`scripts/fault-matrix`).
#![cfg(unix)]

mod desk;
mod real;

use real::{Case, Fault, Options, Route, Scenario, Trap, Traveller, Verdict, What};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// How often each route is called by a scenario where nothing goes wrong. A poll more or less is the machine's speed.
fn calls(scenario: Scenario) -> BTreeMap<Route, usize> {
    let traveller = Traveller::new(Options::default());
    let ended = scenario.play(&traveller, None);
    assert!(scenario.did_its_work(&ended), "{scenario:?}: {}", ended.stderr);
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
    for (scenario, calls) in counted {
        for (route, count) in calls {
            let whats = Fault::ALL.map(What::Spoil).into_iter().chain([What::Kill]);
            for what in whats {
                for nth in 1..=count {
                    for after in [false, true] {
                        // A read has no effect that could come before its answer.
                        if after && !route.changes() && what != What::Kill {
                            continue;
                        }
                        cases.push(Case { scenario, trap: Trap { route, nth, what, after } });
                    }
                }
            }
        }
    }
    cases
}

/// A part of the matrix for every day: each call of each scenario with a few kinds of fault, other ones for the next
/// call, and every kill. Of those that wait for minutes three stand for all.
fn sample(cases: Vec<Case>) -> Vec<Case> {
    const KINDS: usize = 3;
    let mut calls: BTreeMap<(Scenario, Route, usize, bool), usize> = BTreeMap::new();
    let mut wanted = |case: &Case| {
        let Trap { route, nth, what, after } = case.trap;
        let What::Spoil(fault) = what else { return true };
        // One of those that take their time limit.
        if (case.scenario, route, fault) == (Scenario::Stop, Route::Account, Fault::Mute) {
            return true;
        }
        let next = calls.len();
        let call = *calls.entry((case.scenario, route, nth, after)).or_insert(next);
        let quick = QUICK.iter().position(|quick| *quick == fault);
        quick.is_some_and(|kind| (kind + call * KINDS) % QUICK.len() < KINDS)
    };
    let mut taken =
        |case: &Case| case.stands_for_the_window() || !case.waits_out_the_window() && wanted(case);
    // What takes longest begins first.
    let (long, quick): (Vec<Case>, Vec<Case>) =
        cases.into_iter().filter(&mut taken).partition(Case::waits_out_the_window);
    assert_eq!(long.len(), 3, "{long:?}");
    long.into_iter().chain(quick).collect()
}

/// The faults that cost no time.
const QUICK: [Fault; 11] = [
    Fault::ServerError,
    Fault::BadGateway,
    Fault::Page,
    Fault::TooManyText,
    Fault::TooManyThreshold,
    Fault::TooManyDetail,
    Fault::TooManyToken,
    Fault::Reset,
    Fault::Truncated,
    Fault::Empty,
    Fault::AuthError,
];

fn all_of(cases: Vec<Case>, at_once: usize) -> Vec<Verdict> {
    let queue = Mutex::new(cases.into_iter());
    let verdicts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().next();
                    let Some(case) = next else { return };
                    let verdict = case.run(Options::default());
                    verdicts.lock().unwrap().push(verdict);
                }
            });
        }
    });
    verdicts.into_inner().unwrap()
}

#[test]
fn one_fault_or_one_kill_at_each_call() {
    if !real::is_here() {
        return;
    }
    let everything = std::env::var("CRABBOX_VAST_FAULTS").is_ok_and(|text| text == "all");
    let cases = if everything { matrix() } else { sample(matrix()) };
    let at_once = if everything { 48 } else { 24 };
    let began = std::time::Instant::now();
    let verdicts = all_of(cases, at_once);
    let struck: Vec<&Verdict> = verdicts.iter().filter(|verdict| verdict.struck).collect();
    let count = |test: &dyn Fn(&Verdict) -> bool| struck.iter().filter(|verdict| test(verdict)).count();
    let killed = count(&|verdict| verdict.case.trap.what == What::Kill);
    let passing = count(&|verdict| verdict.case.is_passing());
    let survived = count(&|verdict| verdict.case.is_passing() && verdict.survived);
    let create =
        |verdict: &Verdict| verdict.case.trap.route == Route::Create && verdict.case.trap.what != What::Kill;
    let creates = count(&create);
    let created = count(&|verdict| create(verdict) && verdict.survived);
    let other = |verdict: &Verdict| {
        verdict.case.trap.what != What::Kill && !create(verdict) && !verdict.case.is_passing()
    };
    let others = count(&other);
    let others_survived = count(&|verdict| other(verdict) && verdict.survived);
    let leaks = struck.iter().filter(|verdict| !verdict.faults.is_empty()).count();
    println!(
        "over real HTTP: cases {} kills {killed} single passing faults survived {survived} of {passing}, \
         spoiled creates {created} of {creates}, other faults {others_survived} of {others}, unclean {leaks}, \
         not reached {}, {:.0} s",
        struck.len(),
        verdicts.len() - struck.len(),
        began.elapsed().as_secs_f64()
    );
    let mut slowest = struck.clone();
    slowest.sort_by_key(|verdict| std::cmp::Reverse(verdict.whole));
    for verdict in slowest.iter().take(3) {
        println!("  {:.0} s: {}", verdict.whole.as_secs_f64(), verdict.case);
    }
    for verdict in &struck {
        let lost = verdict.case.trap.what != What::Kill && !verdict.survived;
        if lost || !verdict.faults.is_empty() {
            println!(
                "{} after {:.1} s, survived: {}, {:?}\n{}",
                verdict.case,
                verdict.took.as_secs_f64(),
                verdict.survived,
                verdict.faults,
                verdict.said
            );
        }
    }
    assert!(struck.len() * 10 >= verdicts.len() * 9, "most traps must strike");
    assert_eq!(leaks, 0);
    assert!(survived * 100 >= passing * 95, "{survived} of {passing}");
    // A lost create costs at most its visibility window and one new attempt, and never the command.
    assert!(creates > 0 && created * 100 >= creates * 95, "{created} of {creates} spoiled creates");
}

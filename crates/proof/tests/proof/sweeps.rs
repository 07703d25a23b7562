//! One thing wrong at every place, and deaths after faults.

use crate::{Core, ENOUGH, judge};
use crabbox_vast_proof::Tally;
use crabbox_vast_proof::scenes::scene;
use crabbox_vast_proof::sweeps::{Case, Rehearsal, Sweep};
use crabbox_vast_proof::tally::counts;

/// Pairs of a fault and a death after it, for each operation. Only those count in which both happened.
/// `CRABBOX_VAST_PAIRS` asks for another number.
const PAIRS: usize = 5_000;
/// At least so many of a hundred operations come to their end although one call was struck by what passes.
const SURVIVED: usize = 95;
/// At least so many of a hundred drawn pairs are real.
const REAL: usize = 95;

/// The rehearsal of a scene, which has to go well.
fn rehearse(name: &str) -> Rehearsal {
    let rehearsal = Rehearsal::of(scene(name).unwrap_or_else(|why| panic!("{why}")));
    let clean = rehearsal.clean();
    assert!(
        clean.verdict.is_clean(),
        "1 run broke a promise:\nthe rehearsal of {name}: {}\n{}",
        counts(&clean.verdict),
        clean.history
    );
    assert_eq!(clean.outcomes[0].as_deref(), Some(rehearsal.scene().ends), "{}", clean.history);
    rehearsal
}

/// Runs sweeps of one scene and demands that each case happens as planned, that every promise holds, that the operation
/// comes to its end where what goes wrong passes, and that these branches are reached.
fn sweep(name: &str, sweeps: &[Sweep], branches: &[&'static str]) {
    let _core = Core::take();
    let rehearsal = rehearse(name);
    let mut tally = Tally::default();
    let (mut passing, mut gave_in) = (0, Vec::new());
    for sweep in sweeps {
        for number in 0..rehearsal.cases(*sweep) {
            if tally.failures.len() >= ENOUGH {
                break;
            }
            let played = play(&rehearsal, *sweep, number, &mut tally);
            if rehearsal.is_passing(*sweep, number) {
                passing += 1;
                gave_in.extend(played.gave_in);
            }
        }
    }
    judge(&tally, branches.iter().copied());
    println!("{} of {passing} came to their end", passing - gave_in.len());
    gave_in.iter().for_each(|one| println!("{one}"));
    assert!(
        100 * (passing - gave_in.len()) >= SURVIVED * passing,
        "too many give in: {}",
        gave_in.join("\n")
    );
}

/// What came of one case.
struct Played {
    /// What it plans has happened.
    hit: bool,
    /// How its operation ended, where that is not as in the rehearsal.
    gave_in: Option<String>,
}

fn play(rehearsal: &Rehearsal, sweep: Sweep, number: usize, tally: &mut Tally) -> Played {
    let case = Case { scene: rehearsal.scene(), sweep, number };
    let plan = rehearsal.plan(sweep, number).unwrap_or_else(|why| panic!("{case}: {why}"));
    let command = || format!("cargo soak --case {case}");
    let ran = tally.look(&plan, command);
    let hit = ran.as_ref().is_none_or(|ran| sweep.targets().iter().all(|target| ran.aims.met(*target)));
    let outcome = ran.and_then(|mut ran| ran.outcomes.swap_remove(0));
    let gave_in = (outcome.as_deref() != Some(rehearsal.scene().ends))
        .then(|| format!("{}: {}", command(), outcome.unwrap_or_default()));
    if !hit && sweep != Sweep::Pair {
        tally.failures.push(format!("{}: what it plans does not happen", command()));
    }
    Played { hit, gave_in }
}

/// Draws pairs until enough of them are real.
fn pairs(name: &str) {
    let _core = Core::take();
    let rehearsal = rehearse(name);
    let mut tally = Tally::default();
    let wanted =
        std::env::var("CRABBOX_VAST_PAIRS").map_or(PAIRS, |text| text.parse().expect("a number of pairs"));
    let (mut drawn, mut real) = (0, 0);
    while real < wanted && tally.failures.len() < ENOUGH {
        real += usize::from(play(&rehearsal, Sweep::Pair, drawn, &mut tally).hit);
        drawn += 1;
        assert!(drawn < 2 * wanted, "only {real} of {drawn} pairs are real");
    }
    println!("{real} of {drawn} pairs are real");
    judge(&tally, ["a death left a machine billing"]);
    assert!(100 * real >= REAL * drawn, "only {real} of {drawn} pairs are real");
}

const FAULTS: [Sweep; 6] = [Sweep::Fault, Sweep::Disk, Sweep::Full, Sweep::Drop, Sweep::Hang, Sweep::Quirk];
const DEATHS: [Sweep; 2] = [Sweep::Kill, Sweep::Cut];

#[test]
fn every_fault_at_every_step_of_an_acquire() {
    sweep(
        "acquire",
        &FAULTS,
        &[
            "an offer was gone and the next was taken",
            "a create without an answer was adopted by its label",
            "a lost create was proved never to have been",
            "a refused create left a machine, which was discarded",
            "a refusal named a foreign machine, which was left alone",
            "a machine above the price cap was refused",
            "a failed acquire was rolled back",
            "the disk refused and the operation said so",
            "a 429 was waited for and the call repeated",
        ],
    );
}

#[test]
fn every_fault_at_every_step_of_a_run() {
    sweep("run", &FAULTS, &["a destroy was repeated", "the disk refused and the operation said so"]);
}

#[test]
fn every_fault_at_every_step_of_a_stop() {
    sweep("stop", &FAULTS, &["a destroy was repeated", "the disk refused and the operation said so"]);
}

#[test]
fn every_death_of_an_acquire() {
    sweep(
        "acquire",
        &DEATHS,
        &[
            "a death left a machine billing",
            "a later process found an unclear create by its label",
            "a cleanup destroyed what a dead process had left",
            "a cleanup proved that a dead process had rented nothing",
            "a power cut lost a claim's write",
        ],
    );
}

/// Somebody works on its machine already when it is given up.
#[test]
fn every_fault_and_death_of_an_acquire_that_is_given_up_beside_a_run() {
    everything("acquire-joined", &["an acquire that failed left its machine to who had got in"]);
}

#[test]
fn every_death_of_a_run() {
    sweep(
        "run",
        &DEATHS,
        &[
            "a death left a machine billing",
            "a cleanup destroyed what a dead process had left",
            "a cleanup proved that what a dead process destroyed is gone",
        ],
    );
}

#[test]
fn every_death_of_a_stop() {
    sweep(
        "stop",
        &DEATHS,
        &["a death left a machine billing", "a cleanup proved that what a dead process destroyed is gone"],
    );
}

#[test]
fn pairs_of_a_death_and_a_fault_in_an_acquire() {
    pairs("acquire");
}

#[test]
fn pairs_of_a_death_and_a_fault_in_a_run() {
    pairs("run");
}

#[test]
fn pairs_of_a_death_and_a_fault_in_a_stop() {
    pairs("stop");
}

#[test]
fn every_fault_at_every_step_of_a_cleanup() {
    sweep(
        "cleanup",
        &FAULTS,
        &[
            "a cleanup destroyed what a dead process had left",
            "a cleanup destroyed an expired lease",
            "a cleanup refused what is not ours",
            "a cleanup failed at a lease and went on",
        ],
    );
}

#[test]
fn every_death_of_a_cleanup() {
    sweep("cleanup", &DEATHS, &["a cleanup proved that what a dead process destroyed is gone"]);
}

#[test]
fn pairs_of_a_death_and_a_fault_in_a_cleanup() {
    pairs("cleanup-due");
}

/// Everything that can go wrong at each step of an operation on a lease that is there.
fn everything(name: &str, branches: &[&'static str]) {
    sweep(name, &[&FAULTS[..], &DEATHS[..]].concat(), branches);
}

#[test]
fn every_fault_and_death_of_a_start() {
    everything("start", &["a death left a machine billing"]);
}

/// The same over a stop, or a start, whose process died when it had taken effect.
#[test]
fn every_fault_and_death_of_a_start_over_what_is_half_done() {
    everything("start-half-paused", &["a death left a machine billing"]);
    everything("start-half-started", &["a death left a machine billing"]);
}

/// The first call of the acquire was killed before its create was answered.
#[test]
fn every_fault_and_death_of_an_acquire_that_is_made_again() {
    everything(
        "again",
        &["a create without an answer was adopted by its label", "a death left a machine billing"],
    );
}

#[test]
fn every_fault_and_death_of_an_adoption() {
    everything("adopt", &["a death left a machine billing"]);
    everything("adopt-dead", &["a cleanup destroyed what a dead process had left"]);
}

#[test]
fn every_fault_and_death_of_a_touch() {
    everything("touch", &["the disk refused and the operation said so"]);
}

#[test]
fn every_fault_and_death_of_a_run_on_a_lease_that_is_there() {
    everything("run-on", &["the disk refused and the operation said so"]);
}

#[test]
fn pairs_of_a_death_and_a_fault_in_a_start() {
    pairs("start");
}

#[test]
fn pairs_of_a_death_and_a_fault_in_an_acquire_that_is_made_again() {
    pairs("again");
}

#[test]
fn pairs_of_a_death_and_a_fault_in_an_adoption() {
    pairs("adopt");
}

#[test]
fn pairs_of_a_death_and_a_fault_in_a_touch() {
    pairs("touch");
}

#[test]
fn pairs_of_a_death_and_a_fault_in_a_run_on_a_lease_that_is_there() {
    pairs("run-on");
}

#[test]
fn every_fault_and_death_of_a_pause() {
    everything("pause", &["a machine was stopped and kept", "a death left a machine billing"]);
}

#[test]
fn pairs_of_a_death_and_a_fault_in_a_pause() {
    pairs("pause");
}

/// Without a confirmation nothing is forgotten that may bill, whatever goes wrong.
#[test]
fn every_fault_and_death_of_a_forgetting() {
    everything("forget", &[]);
    for name in ["forget-live", "forget-unclear"] {
        everything(name, &["a lease that may bill was not forgotten", "a death left a machine billing"]);
    }
}

#[test]
fn pairs_of_a_death_and_a_fault_in_a_forgetting() {
    pairs("forget-unclear");
}

/// What one read misses, or is refused, says nothing of a machine, however long its boot has taken by then.
#[test]
fn every_fault_and_act_late_in_a_slow_boot() {
    sweep("acquire-slow", &[Sweep::Fault, Sweep::Act], &["a log was attached to an error"]);
}

/// A machine that its host cannot start: its log is read, and another one is taken.
#[test]
fn every_fault_of_an_acquire_whose_first_machine_is_broken() {
    sweep("acquire-broken", &FAULTS[..1], &["a machine could not start and another was taken"]);
}

/// One thing is wrong already, and then the process dies.
#[test]
fn every_death_after_something_went_wrong() {
    for (name, branch) in [
        ("acquire-lost", "a create without an answer was adopted by its label"),
        ("acquire-dearer", "a cleanup destroyed what a dead process had left"),
        ("acquire-broken", "a machine could not start and another was taken"),
        ("stop-refused", "a destroy was repeated"),
        ("run-refused", "a destroy was repeated"),
    ] {
        sweep(name, &DEATHS, &[branch]);
    }
}

/// A cleanup dies over what an acquire left that died early, in the middle and late.
#[test]
fn every_death_of_a_cleanup_after_a_death() {
    sweep("cleanup-early", &DEATHS, &[]);
    sweep("cleanup-middle", &DEATHS, &["a cleanup destroyed what a dead process had left"]);
    sweep("cleanup-late", &DEATHS, &["a cleanup destroyed what a dead process had left"]);
}

/// What an acquire left that died at any step is cleared, also where nothing had been rented.
#[test]
fn a_stop_and_a_cleanup_clear_what_a_dead_acquire_left() {
    sweep("stop-dead", &[Sweep::Dead], &["a claim without a machine was proved empty"]);
    sweep("cleanup-dead", &[Sweep::Dead], &["a cleanup destroyed what a dead process had left"]);
}

#[test]
fn every_act_at_every_call_of_an_acquire() {
    sweep("acquire", &[Sweep::Act], &["the clock jumped while a create was open"]);
}

#[test]
fn every_act_at_every_call_of_a_run() {
    sweep("run", &[Sweep::Act], &["a machine that vanished was reported"]);
}

#[test]
fn every_act_at_every_call_of_a_stop() {
    sweep("stop", &[Sweep::Act], &["a bad key was reported", "a destroy was repeated"]);
}

#[test]
fn every_act_at_every_call_of_a_cleanup() {
    sweep("cleanup", &[Sweep::Act], &["a cleanup destroyed an expired lease"]);
}

#[test]
fn every_act_at_every_call_of_a_start() {
    sweep("start", &[Sweep::Act], &[]);
}

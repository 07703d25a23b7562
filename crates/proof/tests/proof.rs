//! Everything that can go wrong, at every place where it can: no promise may break. A failing case names the command
//! that runs it again and shows its history.

use crabbox_vast_proof::history::Happening;
use crabbox_vast_proof::plan::Left;
use crabbox_vast_proof::sweeps::{Case, Rehearsal, Sweep};
use crabbox_vast_proof::vendor::{Act, Quirk, Vendor};
use crabbox_vast_proof::{Operation, Plan, Ran, Tally, run, seeds};
use crabbox_vast_sim::api::{Effect, Fault};
use std::time::Duration;

/// Pairs of a death and a fault, for each operation.
const PAIRS: usize = 5_000;
/// Random seeds.
const SEEDS: u64 = 2_000;

/// Failures after which nothing more is to be learned.
const ENOUGH: usize = 20;

/// Runs sweeps of one operation and demands that every promise holds and these branches are reached.
fn sweep(operation: Operation, sweeps: &[Sweep], branches: &[&'static str]) {
    let rehearsal = Rehearsal::of(operation);
    let clean = rehearsal.clean();
    assert_eq!(
        clean.outcomes[0].as_deref().map(|outcome| outcome == "ok" || outcome == "Destroyed"),
        Some(true)
    );
    assert!(clean.verdict.is_clean(), "{:?}\n{}", clean.verdict, clean.history);
    let mut tally = Tally::default();
    for sweep in sweeps {
        let cases = if *sweep == Sweep::Pair { PAIRS } else { rehearsal.cases(*sweep) };
        for number in 0..cases {
            if tally.failures.len() >= ENOUGH {
                break;
            }
            let case = Case { operation, sweep: *sweep, number };
            tally.play(&rehearsal.plan(*sweep, number), || format!("cargo soak --case {case}"));
        }
    }
    judge(&tally, branches);
}

fn judge(tally: &Tally, branches: &[&'static str]) {
    println!("{} runs", tally.runs);
    for (branch, runs) in &tally.reached {
        println!("{runs:>9} {branch}");
    }
    for (outcome, times) in &tally.outcomes {
        println!("{times:>9} operations ended: {outcome}");
    }
    let shown = tally.failures.join("\n");
    assert!(tally.failures.is_empty(), "{} runs broke a promise:\n{shown}", tally.failures.len());
    let missing = tally.missing(branches);
    assert!(missing.is_empty(), "never reached: {missing:#?}");
}

const FAULTS: [Sweep; 6] = [Sweep::Fault, Sweep::Disk, Sweep::Full, Sweep::Drop, Sweep::Hang, Sweep::Quirk];
const DEATHS: [Sweep; 2] = [Sweep::Kill, Sweep::Cut];

#[test]
fn every_fault_at_every_step_of_an_acquire() {
    sweep(
        Operation::Acquire,
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
    sweep(Operation::Run, &FAULTS, &["a destroy was repeated", "the disk refused and the operation said so"]);
}

#[test]
fn every_fault_at_every_step_of_a_stop() {
    sweep(
        Operation::Stop,
        &FAULTS,
        &["a destroy was repeated", "the disk refused and the operation said so"],
    );
}

#[test]
fn every_death_of_an_acquire() {
    sweep(
        Operation::Acquire,
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

#[test]
fn every_death_of_a_run() {
    sweep(
        Operation::Run,
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
        Operation::Stop,
        &DEATHS,
        &["a death left a machine billing", "a cleanup proved that what a dead process destroyed is gone"],
    );
}

#[test]
fn pairs_of_a_death_and_a_fault_in_an_acquire() {
    sweep(Operation::Acquire, &[Sweep::Pair], &["a death left a machine billing"]);
}

#[test]
fn pairs_of_a_death_and_a_fault_in_a_run() {
    sweep(Operation::Run, &[Sweep::Pair], &["a death left a machine billing"]);
}

#[test]
fn pairs_of_a_death_and_a_fault_in_a_stop() {
    sweep(Operation::Stop, &[Sweep::Pair], &["a death left a machine billing"]);
}

#[test]
fn every_fault_at_every_step_of_a_cleanup() {
    sweep(
        Operation::Cleanup,
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
    sweep(Operation::Cleanup, &DEATHS, &["a cleanup proved that what a dead process destroyed is gone"]);
}

#[test]
fn pairs_of_a_death_and_a_fault_in_a_cleanup() {
    sweep(Operation::Cleanup, &[Sweep::Pair], &["a death left a machine billing"]);
}

/// Everything that can go wrong at each step of an operation on a lease that is there.
fn everything(operation: Operation, branches: &[&'static str]) {
    sweep(operation, &[&FAULTS[..], &DEATHS[..]].concat(), branches);
}

#[test]
fn every_fault_and_death_of_a_start() {
    everything(Operation::Start, &["a death left a machine billing"]);
}

/// The first call of the acquire was killed before its create was answered.
#[test]
fn every_fault_and_death_of_an_acquire_that_is_made_again() {
    everything(
        Operation::Again,
        &["a create without an answer was adopted by its label", "a death left a machine billing"],
    );
}

#[test]
fn every_fault_and_death_of_an_adoption() {
    everything(Operation::Adopt, &["a death left a machine billing"]);
}

#[test]
fn every_fault_and_death_of_a_touch() {
    everything(Operation::Touch, &["the disk refused and the operation said so"]);
}

#[test]
fn every_fault_and_death_of_a_run_on_a_lease_that_is_there() {
    everything(Operation::RunOn, &["the disk refused and the operation said so"]);
}

#[test]
fn pairs_of_a_death_and_a_fault_in_a_start() {
    sweep(Operation::Start, &[Sweep::Pair], &["a death left a machine billing"]);
}

#[test]
fn pairs_of_a_death_and_a_fault_in_an_acquire_that_is_made_again() {
    sweep(Operation::Again, &[Sweep::Pair], &["a death left a machine billing"]);
}

#[test]
fn pairs_of_a_death_and_a_fault_in_an_adoption() {
    sweep(Operation::Adopt, &[Sweep::Pair], &["a death left a machine billing"]);
}

#[test]
fn pairs_of_a_death_and_a_fault_in_a_touch() {
    sweep(Operation::Touch, &[Sweep::Pair], &["a death left a machine billing"]);
}

#[test]
fn pairs_of_a_death_and_a_fault_in_a_run_on_a_lease_that_is_there() {
    sweep(Operation::RunOn, &[Sweep::Pair], &["a death left a machine billing"]);
}

/// A stop means that the disk stays, also where the machine is too new for any read to show it.
#[test]
fn a_machine_that_is_to_be_stopped_and_cannot_be_seen_yet_is_not_destroyed() {
    let slow = Vendor {
        boot: Duration::from_secs(7),
        read_lag: Duration::from_secs(52),
        list_lag: Duration::from_secs(24),
        ..Vendor::default()
    };
    for operation in [Operation::Cleanup, Operation::Acquire, Operation::Pause] {
        let leases = vec![Left::Paused];
        let ran = run(&Plan { vendor: slow.clone(), leases, ..Plan::single(1, operation) });
        assert!(ran.verdict.is_clean(), "{:?}\n{}", ran.verdict, ran.history);
    }
}

/// The vendor raises the price just before the lease is handed over, and no read shows it in between.
#[test]
fn a_price_that_rises_between_the_last_read_and_ready_is_excused_and_an_earlier_one_is_not_overlooked() {
    let ready = |ran: &Ran| {
        let events = ran.history.events().iter();
        events.clone().find(|(_, event)| matches!(event, Happening::Ready { .. })).map(|(at, _)| *at)
    };
    let single = Plan::single(1, Operation::Acquire);
    let handed_over = ready(&run(&single)).expect("it becomes ready");
    let mut counts = [0, 0];
    for before in (1..60).map(|tenth| Duration::from_millis(100 * tenth)) {
        let acts = vec![(handed_over.saturating_sub(before), Act::Raise)];
        let ran = run(&Plan { acts, ..single.clone() });
        assert!(ran.verdict.is_clean(), "{before:?} {:?}\n{}", ran.verdict, ran.history);
        counts[usize::from(ran.outcomes[0].as_deref() == Some("price_cap_exceeded"))] += 1;
    }
    assert!(counts.iter().all(|count| *count > 0), "unseen and refused: {counts:?}");
}

/// What has to be there before the sweeps of a cleanup mean anything: it destroys what is to go, and nothing else.
#[test]
fn a_cleanup_takes_what_expired_and_what_is_dead_and_leaves_what_is_kept() {
    let ran = run(&Plan::single(1, Operation::Cleanup));
    assert!(ran.verdict.is_clean(), "{:?}\n{}", ran.verdict, ran.history);
    assert_eq!(ran.kept, 1, "{}", ran.history);
    let first = ran.history.events().iter().position(|(_, event)| *event == Happening::Recovery);
    let done = &ran.history.events()[..first.expect("a recovery")];
    let destroyed = done.iter().filter(|(_, event)| matches!(event, Happening::Destroyed { .. })).count();
    assert_eq!(destroyed, 2, "{}", ran.history);
}

/// A machine that no list shows yet is not forgotten because the clock says that it is old.
#[test]
fn a_clock_set_forward_while_a_create_is_unanswered_forgets_nothing() {
    let slow =
        Vendor { list_lag: Duration::from_secs(60), read_lag: Duration::from_secs(60), ..Vendor::default() };
    for operation in [Operation::Cleanup, Operation::Stop] {
        let mut plan =
            Plan { vendor: slow.clone(), leases: vec![Left::Unanswered], ..Plan::single(1, operation) };
        plan.acts = vec![(Duration::ZERO, Act::Clock(7_200_000))];
        plan.actors[0].after = Duration::from_millis(100);
        let ran = run(&plan);
        assert!(ran.verdict.is_clean(), "{:?}\n{}", ran.verdict, ran.history);
    }
}

/// A number in a refusal is nobody's machine as long as no read shows whose it is.
#[test]
fn a_refusal_that_names_a_machine_which_cannot_be_read_destroys_nothing() {
    for effect in [Effect::Html(502), Effect::Empty, Effect::Truncate] {
        let mut fault = Fault::once("GET", "/api/v0/instances/*/", effect).times(Some(30));
        fault.nth = 1;
        let quirk = Some((1, Quirk::NamesAForeigner));
        let ran = run(&Plan { faults: vec![fault], quirk, ..Plan::single(1, Operation::Run) });
        assert!(ran.verdict.is_clean(), "{:?}\n{}", ran.verdict, ran.history);
    }
}

/// A machine that was given up and lingers in the list is not taken for what a later create made, whose answer is lost.
#[test]
fn a_lingering_record_is_not_the_machine_of_the_next_create() {
    let slow = Vendor {
        read_lag: Duration::from_secs(30),
        list_lag: Duration::from_secs(3),
        linger: Duration::from_secs(40),
        ..Vendor::default()
    };
    let mut fault = Fault::once("PUT", "/api/v0/asks/*/", Effect::Reset).after_commit();
    fault.nth = 2;
    let refused = Some((1, Quirk::RefusedYetThere));
    let single = Plan::single(1, Operation::Run);
    let ran = run(&Plan { vendor: slow, quirk: refused, faults: vec![fault], ..single });
    assert!(ran.verdict.is_clean(), "{:?}\n{}", ran.verdict, ran.history);
}

/// A key that is called bad at a create and cannot be asked about then proves nothing about the create.
#[test]
fn a_bad_key_that_nobody_confirms_does_not_undo_a_create() {
    let answer = |status, body: &str| Effect::Answer {
        status,
        content_type: "application/json".into(),
        body: body.into(),
        headers: Vec::new(),
    };
    let bad = answer(404, r#"{"success":false,"error":"auth_error","msg":"Invalid user key"}"#);
    let lost = Fault::once("PUT", "/api/v0/asks/*/", bad).after_commit();
    let mut silent = Fault::once("GET", "/api/v0/users/current/", Effect::TooMany(0)).times(Some(3));
    silent.nth = 2;
    let ran = run(&Plan { faults: vec![lost, silent], ..Plan::single(1, Operation::Run) });
    assert!(ran.verdict.is_clean(), "{:?}\n{}", ran.verdict, ran.history);
}

/// What an acquire left that died at any step is cleared by a stop, also where nothing had been rented.
#[test]
fn a_stop_clears_what_a_dead_acquire_left() {
    let mut tally = Tally::default();
    for step in 1..160 {
        let plan = Plan { leases: vec![Left::Dead(step)], ..Plan::single(1, Operation::Stop) };
        tally.play(&plan, || format!("a stop after a death at step {step}"));
    }
    judge(&tally, &["a claim without a machine was proved empty"]);
}

/// A claim that names a stranger's machine authorises nothing.
#[test]
fn a_claim_that_names_a_strangers_machine_destroys_nothing() {
    for operation in
        [Operation::Stop, Operation::Cleanup, Operation::Pause, Operation::RunOn, Operation::Start]
    {
        let ran = run(&Plan { leases: vec![Left::Stale], ..Plan::single(1, operation) });
        assert!(ran.verdict.is_clean(), "{:?}\n{}", ran.verdict, ran.history);
    }
}

#[test]
fn random_seeds() {
    let mut tally = Tally::default();
    for seed in 0..SEEDS {
        if tally.failures.len() >= ENOUGH {
            break;
        }
        tally.play(&seeds::plan(seed), || format!("cargo soak --seed {seed}"));
    }
    judge(
        &tally,
        &[
            "a 429 was waited for and the call repeated",
            "a bad key was reported",
            "a create without an answer was adopted by its label",
            "a death left a machine billing",
            "a destroy could not be proved and its claim was kept",
            "a destroy was repeated",
            "a failed acquire was rolled back",
            "a later process found an unclear create by its label",
            "a lease was taken away while it started",
            "a lock was waited for",
            "a lost create was proved never to have been",
            "a machine above the price cap was refused",
            "a machine could not start and another was taken",
            "a machine that others destroyed was proved gone",
            "a machine that vanished was reported",
            "a machine was stopped and kept",
            "a refusal named a foreign machine, which was left alone",
            "a refused create left a machine, which was discarded",
            "a user gave up",
            "an image that cannot start was reported",
            "an offer was gone and the next was taken",
            "the disk refused and the operation said so",
            "a cleanup destroyed an expired lease",
            "a cleanup destroyed what a dead process had left",
            "a cleanup forgot a lease whose machine is gone",
            "a cleanup proved that a dead process had rented nothing",
            "a cleanup proved that what a dead process destroyed is gone",
            "a cleanup refused what is not ours",
            "a cleanup removed a key without a lease",
        ],
    );
}

#[test]
fn a_replay_has_the_same_history() {
    let mut events = 0;
    for seed in 0..40 {
        let plan = seeds::plan(seed);
        let (one, other) = (run(&plan), run(&plan));
        assert_eq!(one.history.hash(), other.history.hash(), "cargo soak --seed {seed}");
        events += one.history.events().len();
    }
    assert!(events > 4_000, "{events} events in 40 seeds");
    assert_ne!(run(&seeds::plan(1)).history.hash(), run(&seeds::plan(2)).history.hash());
}

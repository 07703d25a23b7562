//! Everything that can go wrong, at every place where it can: no promise may break. A failing case names the command
//! that runs it again.

mod sweeps;
mod worlds;

use crabbox_vast_proof::aims::Target;
use crabbox_vast_proof::plan::Left;
use crabbox_vast_proof::tally::counts;
use crabbox_vast_proof::{Operation, Plan, Ran, Tally, branches, run, seeds};
use std::sync::{Condvar, Mutex, PoisonError};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Random seeds.
const SEEDS: u64 = 2_000;

/// Failures after which nothing more is to be learned.
const ENOUGH: usize = 20;

/// A core of this machine, until it is dropped: the tests do nothing but compute, and more of them at once than there are
/// cores wear out the caches.
struct Core;

static BUSY: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Core {
    fn take() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let busy = BUSY.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = BUSY.1.wait_while(busy, |busy| *busy >= cores);
        *free.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        *BUSY.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        BUSY.1.notify_one();
    }
}

/// Runs a plan made by hand, in which no promise may break.
fn holds(plan: &Plan) -> Ran {
    let _core = Core::take();
    let ran = run(plan);
    // The test runs on a thread of its name.
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    assert!(
        ran.verdict.is_clean(),
        "1 run broke a promise:\ncargo test -p crabbox-vast-proof --target host-tuple --test proof {test}: {}\n{plan:#?}\n{}",
        counts(&ran.verdict),
        ran.history
    );
    ran
}

/// Demands that every promise held and these branches were reached.
fn judge<'a>(tally: &Tally, branches: impl IntoIterator<Item = &'a str>) {
    print!("{} runs\n{}", tally.runs, tally.branches());
    let shown = tally.failures.join("\n");
    assert!(tally.failures.is_empty(), "{} runs broke a promise:\n{shown}", tally.failures.len());
    let missing = tally.missing(branches);
    assert!(missing.is_empty(), "never reached: {missing:#?}");
}

/// Branches that are reached by what the engine does about it, not by what the plan is made of.
const BRANCHES: [&str; 42] = [
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
    "a log was attached to an error",
    "a lost create was proved never to have been",
    "a machine above the price cap was refused",
    "a machine beyond what a day may cost was refused",
    "a machine beyond what its lease may cost was refused",
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
    "a create stayed unclear and its claim was kept",
    "a machine that never started was given up",
    "a machine was lost to a higher bid and the user was told",
    "crabbox made a kept lease expire",
    "crabbox released a lease of ours",
    "a replay adopted what a call before it had rented",
    "an adoption was done",
    "a second page of the list was read",
    "the clock jumped while a create was open",
    "a destroy or a stop was called off, for the lease is in use again",
];

/// Of what is planned with a random seed at least so much has to happen, in percent.
const FLOORS: [(Target, usize); 6] = [
    (Target::Death, 40),
    (Target::Disk, 25),
    (Target::Ssh, 20),
    (Target::Call, 20),
    (Target::Quirk, 30),
    (Target::Act, 40),
];

#[test]
fn random_seeds() {
    let _core = Core::take();
    let mut tally = Tally::default();
    for seed in 0..SEEDS {
        if tally.failures.len() >= ENOUGH {
            break;
        }
        tally.play(&seeds::plan(seed), || format!("cargo soak --seed {seed}"));
    }
    let made_of = branches::all();
    judge(&tally, BRANCHES.into_iter().chain(made_of.iter().map(String::as_str)));
    for (target, floor) in FLOORS {
        let met = tally.met(target);
        assert!(met >= floor, "only {met} % of the planned {} happened", target.name());
    }
}

#[test]
fn a_replay_has_the_same_history() {
    let _core = Core::take();
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

/// Runs that begin alike begin with copies of one opening: none changes what the next begins with, and the first, which
/// makes it, is like every other.
#[test]
fn what_a_run_begins_with_is_not_changed_by_runs_before_it() {
    let _core = Core::take();
    for left in Left::ALL {
        let plan = |operation| Plan { leases: vec![left, Left::Kept], ..Plan::single(7, operation) };
        let (one, other) = (plan(Operation::Stop), plan(Operation::Cleanup));
        let (first, _, again) = (run(&one), run(&other), run(&one));
        assert_eq!(first.history.to_string(), again.history.to_string(), "{left:?}");
        // Another opening takes this one's place, and this one is made anew.
        assert!(run(&Plan::single(8, Operation::Stop)).verdict.is_clean());
        assert_eq!(first.history.to_string(), run(&one).history.to_string(), "{left:?}");
        assert!(first.history.events().len() > 20, "{left:?}");
    }
}

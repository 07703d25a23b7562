//! The soak: runs seeds for as long as it is told, and ends with one line that counts broken promises.
#![forbid(unsafe_code)]

use clap::Parser;
use crabbox_vast_proof::aims::Target;
use crabbox_vast_proof::sweeps::{Case, Rehearsal};
use crabbox_vast_proof::{Plan, Tally, Verdict, run, seeds};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the engine on simulated worlds, one for each seed, and judges what came of it.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Arguments {
    /// How long to go on, in real seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Runs this one seed and prints its plan and its history.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs this one case of a sweep, such as `run/kill/17`, and prints its plan and its history.
    #[arg(long, conflicts_with = "seed")]
    case: Option<Case>,
    /// The first seed; the others follow it. Without it the clock decides.
    #[arg(long)]
    first: Option<u64>,
    /// Also prints how often each branch was reached, how the operations ended, and what was planned and never reached.
    #[arg(long)]
    branches: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let tally = match (arguments.seed, arguments.case) {
        (Some(seed), _) => replay(&seeds::plan(seed), &format!("--seed {seed}")),
        (None, Some(case)) => match Rehearsal::of(case.scene).plan(case.sweep, case.number) {
            Ok(plan) => replay(&plan, &format!("--case {case}")),
            Err(why) => {
                eprintln!("{case}: {why}");
                return ExitCode::from(2);
            }
        },
        (None, None) => soak(&arguments),
    };
    for failure in &tally.failures {
        eprintln!("{failure}");
    }
    if arguments.branches {
        eprint!("{}", tally.branches());
    }
    // Beside the one line, whose form others read.
    let Verdict { unsettled, taken, false_proofs, .. } = tally.verdict;
    for (count, what) in [
        (taken, "taken: machines that a process of ours took from somebody who needed them"),
        (false_proofs, "false_proofs: machines that were said to be gone, or never to have been, and bill"),
        (unsettled, "unsettled: claims that no command could clear, and operations that hung"),
    ] {
        if count > 0 {
            println!("{what}: {count}");
        }
    }
    println!("seeds {} virtual_hours {} {}", tally.runs, tally.lasted.as_secs() / 3600, tally.verdict);
    if tally.verdict.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One run, with everything that happened.
fn replay(plan: &Plan, name: &str) -> Tally {
    eprintln!("{plan:#?}");
    let ran = run(plan);
    eprint!("{}", ran.history);
    eprintln!("history {:016x}", ran.history.hash());
    for missed in Target::ALL.into_iter().filter(|target| !ran.aims.met(*target)) {
        eprintln!("planned and never reached: {}", missed.name());
    }
    let mut tally = Tally::default();
    tally.add(&ran, || format!("cargo soak {name}"));
    tally
}

/// Seeds one after the other, on every core, until the time is over.
fn soak(arguments: &Arguments) -> Tally {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let first = arguments.first.unwrap_or_else(|| clock() * 1_000_000);
    eprintln!("first seed {first}");
    let next = AtomicU64::new(first);
    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    let work = || {
        let mut tally = Tally::default();
        while Instant::now() < until {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            tally.play(&seeds::plan(seed), || format!("cargo soak --seed {seed}"));
        }
        tally
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut sum = Tally::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            sum.merge(thread.join().expect("a seed panicked"));
        }
    });
    sum
}

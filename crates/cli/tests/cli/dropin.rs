//! A script that was written for crabbox, with this binary in crabbox's place.

use crate::desk::{Desk, Done, Sim};
use std::process::Command;

/// Runs the script with a `crabbox` on its path that is this binary.
fn session(desk: &Desk, sim: &Sim, shell: &str) -> Done {
    let bin = desk.folder.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let link = bin.join("crabbox");
    if !link.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_crabbox-vast"), &link).unwrap();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(shell);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/dropin.sh")).env_clear();
    command.env("PATH", format!("{}:{path}", bin.display())).env("HOME", desk.folder.path());
    command.env("VAST_API_KEY", &sim.key).env("VAST_API_URL", &sim.url).current_dir(desk.repo());
    // The machines of the simulator are processes here, and may not write just anywhere.
    command.env("CRABBOX_VAST_WORK_ROOT", desk.folder.path().join("vast-work"));
    Done::of(command.output().unwrap())
}

#[test]
fn it_runs_unchanged_while_the_published_intervals_are_enforced() {
    let desk = Desk::plain();
    let sim = Sim::start(&desk);
    let done = session(&desk, &sim, "sh").exits(0);
    assert!(done.stdout.ends_with("dropin: passed\n"), "{}\n{}", done.stdout, done.stderr);
    assert!(!done.stderr.contains("HTTP 429"), "{}", done.stderr);
    let requests = sim.requests();
    let refused = requests.iter().filter(|line| line["status"] == 429).count();
    assert!(
        refused == 0,
        "the intervals are kept without being told: {refused} of {} refused",
        requests.len()
    );
    let words = sim.end();
    assert!(words.contains("1 machines rented, 1 given back"), "{words}");
}

#[test]
fn the_same_under_bash_without_intervals() {
    let desk = Desk::plain();
    let sim = Sim::start_with(&desk, &["-no-rate-limits"]);
    let done = session(&desk, &sim, "bash").exits(0);
    assert!(done.stdout.ends_with("dropin: passed\n"), "{}\n{}", done.stdout, done.stderr);
    assert!(sim.end().contains("1 machines rented, 1 given back"));
}

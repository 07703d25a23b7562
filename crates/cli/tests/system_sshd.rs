//! Another server that speaks the Vast API, as plainly as one may - no filters, no totals, no mapped ports, numbers as
//! text - and a system `sshd` as the instance.
#![cfg(unix)]

mod desk;
mod real;

use desk::Done;
use real::{Options, Traveller};
use std::process::{Command, Stdio};

#[test]
fn another_vendor_and_a_system_sshd() {
    if !real::is_here() {
        return;
    }
    let traveller = Traveller::new(Options::default());
    let run = |words: &[&str]| Done::of(traveller.command(words).output().unwrap());
    let done = run(&["run", "--no-sync", "--", "sh", "-c", "echo out; echo err >&2; pwd; exit 7"]).exits(7);
    assert!(done.stdout.starts_with("out\n") && done.stdout.contains("/work/cbx_"), "{}", done.stdout);
    assert!(done.stderr.lines().any(|line| line == "err"), "{}", done.stderr);
    assert_eq!(traveller.vendor.open(), [0; 0]);

    run(&["warmup", "--slug", "plain"]).exits(0);
    assert_eq!(run(&["status", "plain", "--json"]).exits(0).json()["ready"], true);
    assert_eq!(run(&["run", "--id", "plain", "--no-sync", "--", "echo", "again"]).exits(0).stdout, "again\n");
    // the line that `ssh` prints lets the system's own client in
    let line = run(&["ssh", "plain"]).exits(0).stdout;
    let login =
        Command::new("sh").args(["-c", &format!("{} echo in", line.trim())]).stdin(Stdio::null()).output();
    assert_eq!(String::from_utf8_lossy(&login.unwrap().stdout), "in\n");
    run(&["stop", "plain"]).exits(0);
    assert_eq!(traveller.vendor.open(), [0; 0]);
    assert_eq!(traveller.vendor.trespasses(), [""; 0]);
}

/// What the vendor publishes and nobody announces: with the limits enforced, not one call is refused.
#[test]
fn enforced_limits_are_never_met() {
    if !real::is_here() {
        return;
    }
    let traveller = Traveller::new(Options { limits: true, ..Options::default() });
    let done = traveller.run(&["run", "--no-sync", "--", "echo", "paced"]);
    assert_eq!(done.stdout, "paced\n", "{}", done.stderr);
    assert_eq!(traveller.vendor.refused(), []);
    assert_eq!(traveller.vendor.open(), [0; 0]);
}

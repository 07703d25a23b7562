//! Sessions with the binary: what is typed, what comes out, and how it ends.

use crate::desk::{Desk, Done, Sim, signal};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;

#[test]
fn run_keeps_the_streams_apart_and_passes_the_exit_code_on() {
    let desk = Desk::new();
    let done = desk.run(&["run", "--sim", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).exits(7);
    assert_eq!(done.stdout, "out\n");
    let order = ["\nrunning on ", "\nerr\n", "\ncommand complete in ", "\nreleasing ", "stopped=true"];
    let at: Vec<Option<usize>> = order.iter().map(|text| done.stderr.find(text)).collect();
    assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{at:?}\n{}", done.stderr);
    assert!(done.stderr.ends_with("remote command exited 7\n"), "{}", done.stderr);
    assert!(!desk.folder.path().join(".config").exists(), "a simulation leaves nothing behind");
}

#[test]
fn run_json_is_one_document_and_input_is_forwarded() {
    let desk = Desk::new();
    let mut child = desk
        .command(&["run", "-sim", "-json", "--", "sh", "-c", "cat; exit 3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through and through").unwrap();
    let done = Done::of(child.wait_with_output().unwrap()).exits(3);
    let document = done.json();
    assert_eq!((&document["exitCode"], &document["released"]), (&Value::from(3), &Value::from(true)));
    assert_eq!(done.stderr, "through and through");
}

#[test]
fn a_lease_from_warmup_to_stop() {
    let desk = Desk::new();
    let sim = Sim::start(&desk);
    let warm = desk.run(&["warmup", "--sim", "--slug", "trainer", "--ttl", "1h"]).exits(0);
    let lines: Vec<&str> = warm.stdout.lines().collect();
    assert!(
        lines[0].starts_with("leased cbx_") && lines[0].contains(" slug=trainer provider=vast server="),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("ready ssh=root@127.0.0.1:"), "{lines:?}");
    assert!(lines[2].starts_with("warmup complete total="), "{lines:?}");
    let listed = desk.run(&["list", "-sim", "--json"]).exits(0).json();
    assert_eq!(listed[0]["labels"]["slug"], "trainer");
    let status = desk.run(&["status", "trainer", "--sim", "--json"]).exits(0).json();
    assert_eq!((&status["ready"], &status["ttl"]), (&Value::from(true), &Value::from("1h0m0s")));
    desk.run(&["heartbeat", "--sim", "--id", "trainer"]).exits(0);
    let stopped = desk.run(&["stop", "--sim", "trainer"]).exits(0);
    assert_eq!(stopped.stdout, "");
    assert!(stopped.stderr.contains("\ndestroyed lease=cbx_"), "{}", stopped.stderr);
    let again = desk.run(&["stop", "--sim", "--json", "trainer"]).exits(4);
    assert_eq!(again.json()["error"]["code"], "lease_not_found");
    let words = sim.end();
    assert!(words.contains("1 machines rented, 1 given back"), "{words}");
}

#[test]
fn an_interrupted_run_gives_the_machine_back() {
    let desk = Desk::new();
    let sim = Sim::start(&desk);
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut child = desk
            .command(&["run", "--sim", "--", "sh", "-c", "echo here; sleep 60"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "here\n");
        signal(&child, name);
        Done::of(child.wait_with_output().unwrap()).exits(code);
    }
    let words = sim.end();
    assert!(words.contains("3 machines rented, 3 given back"), "{words}");
}

/// Whoever does not wait for the end is told what may be left, and what to type.
#[test]
fn a_second_signal_leaves_at_once_and_names_the_lease() {
    let desk = Desk::new();
    let sim = Sim::start(&desk);
    let warm = desk.run(&["warmup", "--sim", "--json", "--slug", "trainer"]).exits(0).json();
    let lease = warm["id"].as_str().unwrap();
    let fault =
        serde_json::json!({"method": "DELETE", "path": "/instances", "effect": "stall", "count": null});
    sim.control("POST", "/_sim/faults", &fault.to_string());
    let mut child = desk.command(&["stop", "--sim", "trainer"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut words = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("releasing ") {
        assert!(words.read_line(&mut said).unwrap() > 0, "{said}");
    }
    signal(&child, "INT");
    while !said.contains("interrupted: ") {
        assert!(words.read_line(&mut said).unwrap() > 0, "{said}");
    }
    // One that comes at once is taken for the same key press.
    std::thread::sleep(std::time::Duration::from_millis(700));
    signal(&child, "INT");
    std::io::Read::read_to_string(&mut words, &mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    let told = format!(
        "left at once: lease {lease} may still be rented and billed; run `crabbox-vast stop {lease} --sim`"
    );
    assert!(said.contains(&told), "{said}");
    // A script that waits for a document gets one.
    let mut child = desk
        .command(&["stop", "--sim", "--json", "trainer"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut words = BufReader::new(child.stderr.take().unwrap());
    let calls = || sim.control("GET", "/_sim/requests", "").to_string().matches("DELETE").count();
    let before = calls();
    while calls() == before {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    signal(&child, "INT");
    let mut said = String::new();
    while !said.contains("interrupted: ") {
        assert!(words.read_line(&mut said).unwrap() > 0, "{said}");
    }
    std::thread::sleep(std::time::Duration::from_millis(700));
    signal(&child, "INT");
    let told = Done::of(child.wait_with_output().unwrap()).exits(130).json();
    assert_eq!(told["error"]["code"], "cancelled", "{told}");
    sim.control("DELETE", "/_sim/faults", "");
    desk.run(&["cleanup", "--sim"]).exits(0);
    assert!(sim.end().contains("1 machines rented, 1 given back"));
}

#[test]
fn a_reader_that_goes_away_ends_the_run() {
    let desk = Desk::new();
    let sim = Sim::start(&desk);
    let mut child = desk
        .command(&["run", "--sim", "--", "sh", "-c", "while :; do echo more; sleep 0.05; done"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    Done::of(child.wait_with_output().unwrap()).exits(0);
    assert!(sim.end().contains("1 machines rented, 1 given back"));
}

#[test]
fn configuration_is_shown_with_its_origin() {
    const CANARY: &str = "canary-3f9a1c7be204";
    let desk = Desk::new();
    std::fs::write(desk.repo().join("crabbox.yaml"), "vast:\n  diskGB: 50\n").unwrap();
    let mut command = desk.command(&["config", "show", "-origin", "-vast-gpu-count", "2"]);
    let done = Done::of(command.env("VAST_API_KEY", CANARY).output().unwrap()).exits(0);
    assert!(!done.stdout.contains(CANARY));
    assert!(done.stdout.contains("gpuCount=2  # flag --vast-gpu-count\n"), "{}", done.stdout);
    assert!(done.stdout.contains("crabbox.yaml:2\n"), "{}", done.stdout);
    // A cap that is misspelt caps nothing: who looks at the settings, or at prices, is told.
    std::fs::write(desk.repo().join("crabbox.yaml"), "vast:\n  maxDphTotl: 0.1\n  diskGB: 50\n").unwrap();
    let told = "`vast.maxDphTotl` is no setting; did you mean `vast.maxDphTotal`?";
    for command in [&["config", "show"][..], &["config", "show", "--json"], &["offers", "--sim"]] {
        let done = desk.run(command).exits(0);
        assert_eq!(done.stderr.matches(told).count(), 1, "{command:?}: {}", done.stderr);
    }
    let path = desk.run(&["config", "path"]).exits(0).stdout;
    assert!(Path::new(path.trim_end()).ends_with(".config/crabbox/config.yaml"), "{path}");
    let document = desk.run(&["config", "show", "--json"]).exits(0).json();
    assert_eq!(document["vast"]["diskGB"], 50);

    std::fs::write(desk.repo().join(".crabbox.yaml"), "vast: {apiUrl: 'https://evil.test'}").unwrap();
    let mut command = desk.command(&["list", "--json"]);
    let done = Done::of(command.env("VAST_API_KEY", CANARY).output().unwrap()).exits(2);
    assert_eq!(done.json()["error"]["code"], "credential_destination");
    assert!(!done.stdout.contains(CANARY) && !done.stderr.contains(CANARY));
}

#[test]
fn bad_input_is_one_line_and_what_to_do() {
    let desk = Desk::new();
    let done = desk.run(&["list"]).exits(2);
    assert_eq!(done.stdout, "");
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert_eq!(lines[0], "provider=vast requires CRABBOX_VAST_API_KEY or VAST_API_KEY");
    assert!(lines.len() == 2 && lines[1].starts_with("hint: "), "{lines:?}");
    for (words, code) in [
        (&["warmup", "--sim", "--class", "beast"][..], 2),
        (&["run", "--sim"], 2),
        (&["status", "--sim"], 2),
        (&["status", "--sim", "nobody"], 4),
        (&["warmup", "--sim", "--vast-max-dph-total", "0.0001"], 4),
        (&["list", "--provider", "aws"], 2),
        (&["list", "--target", "windows"], 2),
        (&["list", "--nonsense"], 2),
        (&["warmup", "--ttl", "soon"], 2),
    ] {
        let mut words = words.to_vec();
        words.push("--json");
        let document = desk.run(&words).exits(code).json();
        let error = &document["error"];
        assert!(
            error["message"].as_str().is_some_and(|text| !text.is_empty() && !text.contains('\n')),
            "{document}"
        );
        assert!(error["hint"].is_string(), "{words:?}: {document}");
    }
}

#[test]
fn an_unreachable_api_is_a_failed_check() {
    let desk = Desk::new();
    let mut command = desk.command(&["doctor", "--vast-api-url", "http://127.0.0.1:1/api/v0", "--json"]);
    let done = Done::of(command.env("VAST_API_KEY", "key").output().unwrap()).exits(1);
    let document = done.json();
    assert_eq!(document["ok"], false);
    assert!(document["error"]["code"].is_string(), "{document}");
    let mut command = desk.command(&["doctor", "--vast-api-url", "http://127.0.0.1:1/api/v0"]);
    let done = Done::of(command.env("VAST_API_KEY", "key").output().unwrap()).exits(1);
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert_eq!(lines[0], "doctor found problems");
    assert!(lines[1].starts_with("hint: provider: "), "{}", done.stderr);
}

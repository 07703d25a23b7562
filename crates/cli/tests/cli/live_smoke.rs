//! The live smoke, with the simulator in the vendor's place and otherwise unchanged.

use crate::desk::{self, Desk, Done, Sim};
use serde_json::Value;

const OPT_IN: [(&str, &str); 4] = [
    ("CRABBOX_LIVE", "1"),
    ("CRABBOX_LIVE_PROVIDERS", "aws,vast"),
    ("CRABBOX_VAST_MAX_DPH_TOTAL", "5"),
    ("CRABBOX_VAST_GPU_COUNT", "1"),
];

/// What the smoke's own home says of a vendor: how many calls of each kind came in.
struct Place {
    desk: Desk,
    sim: Sim,
}

impl Place {
    fn new() -> Self {
        let desk = Desk::new();
        let sim = Sim::start(&desk);
        Place { desk, sim }
    }

    fn smoke(&self, changes: &[(&str, &str)]) -> Done {
        let mut command = self.desk.command(&["live-smoke", "--json"]);
        command.env("CRABBOX_VAST_API_KEY", &self.sim.key).env("CRABBOX_VAST_API_URL", &self.sim.url);
        command.env("CRABBOX_VAST_WORK_ROOT", self.desk.folder.path().join("work"));
        command.envs(OPT_IN).envs(changes.iter().copied());
        Done::of(command.output().unwrap())
    }

    fn with_key(&self, words: &[&str]) -> Done {
        let mut command = self.desk.command(words);
        command.env("CRABBOX_VAST_API_KEY", &self.sim.key).env("CRABBOX_VAST_API_URL", &self.sim.url);
        command.env("CRABBOX_VAST_WORK_ROOT", self.desk.folder.path().join("work"));
        Done::of(command.output().unwrap())
    }

    fn ledger(&self) -> Value {
        self.desk.run(&["sim", "status", "--json"]).exits(0).json()["ledger"].clone()
    }
}

fn steps(document: &Value) -> Vec<&str> {
    document["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect()
}

#[test]
fn it_is_skipped_unless_asked_for_in_every_way() {
    let place = Place::new();
    for changes in [
        [("CRABBOX_LIVE", "")],
        [("CRABBOX_LIVE", "true")],
        [("CRABBOX_LIVE_PROVIDERS", "")],
        [("CRABBOX_LIVE_PROVIDERS", "aws,hetzner,vastly")],
        [("CRABBOX_VAST_API_KEY", "")],
    ] {
        let done = place.smoke(&changes).exits(0);
        let document = done.json();
        assert_eq!(document["classification"], "environment_blocked", "{changes:?}: {document}");
        assert_eq!(steps(&document), [""; 0], "nothing was called");
    }
    // An unsafe setting does not hide that there is no key.
    let document =
        place.smoke(&[("CRABBOX_VAST_API_KEY", ""), ("CRABBOX_VAST_MAX_DPH_TOTAL", "-1")]).exits(0).json();
    assert_eq!(document["classification"], "environment_blocked");
    assert_eq!(place.ledger()["created"], 0);
}

#[test]
fn unsafe_settings_are_refused_before_anything_is_called() {
    let place = Place::new();
    for (name, value) in [
        ("CRABBOX_VAST_MAX_DPH_TOTAL", ""),
        ("CRABBOX_VAST_MAX_DPH_TOTAL", "0"),
        ("CRABBOX_VAST_MAX_DPH_TOTAL", "-1"),
        ("CRABBOX_VAST_MAX_DPH_TOTAL", "NaN"),
        ("CRABBOX_VAST_MAX_DPH_TOTAL", "Infinity"),
        ("CRABBOX_VAST_MAX_DPH_TOTAL", "cheap"),
        ("CRABBOX_VAST_GPU_COUNT", ""),
        ("CRABBOX_VAST_GPU_COUNT", "0"),
        ("CRABBOX_VAST_GPU_COUNT", "-2"),
        ("CRABBOX_VAST_GPU_COUNT", "one"),
        ("CRABBOX_VAST_RELEASE_ACTION", "stop"),
        ("CRABBOX_VAST_RELEASE_ACTION", "keep"),
    ] {
        let document = place.smoke(&[(name, value)]).exits(2).json();
        assert_eq!(document["classification"], "validation_failed", "{name}={value}: {document}");
        assert_eq!(document["error"]["code"], "invalid_config", "{document}");
        assert!(document["error"]["hint"].is_string(), "{document}");
        assert_eq!(steps(&document), [""; 0]);
    }
    // Whoever may commit to a repository does not decide what this costs.
    for (name, text) in [
        ("CRABBOX_VAST_MAX_DPH_TOTAL", "vast:\n  maxDphTotal: 2\n"),
        ("CRABBOX_VAST_GPU_COUNT", "vast:\n  gpuCount: 1\n"),
    ] {
        std::fs::write(place.desk.repo().join("crabbox.yaml"), text).unwrap();
        let document = place.smoke(&[(name, "")]).exits(2).json();
        assert_eq!(document["classification"], "validation_failed", "{name}: {document}");
        assert!(document["error"]["message"].as_str().unwrap().contains("repository"), "{document}");
    }
    assert_eq!(place.ledger()["created"], 0);
}

#[test]
fn a_whole_life_passes_and_leaves_nothing() {
    let place = Place::new();
    let done = place.smoke(&[("RUST_BACKTRACE", "1")]).exits(0);
    let document = done.json();
    assert_eq!(document["classification"], "passed", "{document}");
    assert_eq!(steps(&document), drill());
    assert!(document["gpus"].as_u64().unwrap() >= 1, "{document}");
    assert!(document["lease"].as_str().unwrap().starts_with("cbx_"));
    let ledger = place.ledger();
    assert_eq!((&ledger["created"], &ledger["destroyed"]), (&Value::from(1), &Value::from(1)), "{ledger}");
    assert!(!done.stdout.contains(&place.sim.key) && !done.stderr.contains(&place.sim.key));
    assert_eq!(place.with_key(&["list", "--json"]).exits(0).stdout, "[]\n");
}

/// The steps of a smoke that passes.
fn drill() -> Vec<&'static str> {
    vec!["doctor", "list", "warmup", "status", "run", "list", "stop", "cleanup", "list"]
}

#[test]
fn a_lease_that_is_there_already_is_not_touched() {
    let place = Place::new();
    place.with_key(&["warmup", "--slug", "mine"]).exits(0);
    let document = place.smoke(&[]).exits(1).json();
    assert_eq!(document["classification"], "validation_failed");
    assert_eq!(steps(&document), ["doctor", "list"]);
    assert!(document["message"].as_str().unwrap().contains("(mine)"), "{document}");
    assert_eq!(place.ledger()["open"].as_array().unwrap().len(), 1);
    place.with_key(&["stop", "mine"]).exits(0);
}

#[test]
fn nothing_for_rent_is_a_capacity_blocker() {
    let place = Place::new();
    let document = place.smoke(&[("CRABBOX_VAST_MAX_DPH_TOTAL", "0.0001")]).exits(0).json();
    assert_eq!(document["classification"], "capacity_blocked", "{document}");
    assert_eq!(document["error"]["code"], "no_offers");
    assert_eq!(steps(&document), ["doctor", "list", "warmup", "stop", "list"]);
    assert_eq!(place.ledger()["created"], 0);
}

#[test]
fn a_refused_key_is_the_environments() {
    let place = Place::new();
    let done = place.smoke(&[("CRABBOX_VAST_API_KEY", "canary-3f9a1c7be204")]).exits(0);
    let document = done.json();
    assert_eq!(document["classification"], "environment_blocked", "{document}");
    assert_eq!(document["error"]["code"], "auth_failed");
    assert!(!done.stdout.contains("canary") && !done.stderr.contains("canary"));
}

#[test]
fn an_interrupted_smoke_gives_the_machine_back() {
    use std::process::Stdio;
    let place = Place::new();
    let mut command = place.desk.command(&["live-smoke"]);
    command.env("CRABBOX_VAST_API_KEY", &place.sim.key).env("CRABBOX_VAST_API_URL", &place.sim.url);
    command.env("CRABBOX_VAST_WORK_ROOT", place.desk.folder.path().join("work")).envs(OPT_IN);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while place.ledger()["created"] == 0 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    desk::signal(&child, "INT");
    let done = Done::of(child.wait_with_output().unwrap()).exits(130);
    assert!(
        done.stdout.starts_with("live smoke provider=vast classification=validation_failed "),
        "{}",
        done.stdout
    );
    let ledger = place.ledger();
    assert_eq!(ledger["open"].as_array().unwrap().len(), 0, "{ledger}");
}

//! Ponds: leases that crabbox's `--pond` groups, and the flags of crabbox that a Vast machine has no use for.

use crate::desk::{Desk, Done, Sim};
use serde_json::{Value, json};

/// The claim file of a lease, as it lies on disk.
fn claim(desk: &Desk, lease: &str) -> Value {
    serde_json::from_slice(&std::fs::read(file(desk, lease)).unwrap()).unwrap()
}

/// Lets a lease have expired long ago.
fn expire(desk: &Desk, lease: &str) {
    let mut expired = claim(desk, lease);
    expired["labels"]["expires_at"] = "1700000000".into();
    std::fs::write(file(desk, lease), format!("{expired:#}\n")).unwrap();
}

fn file(desk: &Desk, lease: &str) -> std::path::PathBuf {
    let file = format!("{lease}.json");
    find(desk.folder.path(), &file).unwrap_or_else(|| panic!("no {file}"))
}

fn find(folder: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        let is_claim = path.parent().is_some_and(|parent| parent.ends_with("claims"));
        if path.is_dir() {
            find(&path, name)
        } else {
            (is_claim && entry.file_name() == name).then_some(path)
        }
    })
}

fn slugs(listed: &Value) -> Vec<&str> {
    listed.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn a_pond_is_recorded_shown_and_kept_to() {
    let desk = Desk::new();
    let sim = Sim::start(&desk);
    let warmup = |more: &[&str]| desk.run(&[&["warmup", "--sim", "--json"], more].concat()).exits(0).json();
    let lab =
        warmup(&["-slug", "one", "-pond", "My_Lab", "-expose", "9090,80", "-expose", "443", "-keep=false"]);
    let other = warmup(&["--slug", "two", "--keep=false"]);

    let file = claim(&desk, lab["id"].as_str().unwrap());
    assert_eq!(
        (&file["pond"], &file["labels"]["pond"], &file["labels"]["crabbox_exposed_ports"]),
        (&json!("my-lab"), &json!("my-lab"), &json!("80-443-9090")),
        "{file}"
    );
    let file = claim(&desk, other["id"].as_str().unwrap());
    assert_eq!((&file["pond"], &file["labels"]["pond"]), (&Value::Null, &Value::Null));

    assert!(desk.run(&["status", "--sim", "one"]).exits(0).stdout.contains(" pond=my-lab network=public "));
    assert!(desk.run(&["status", "--sim", "two"]).exits(0).stdout.contains(" pond=- network=public "));
    assert_eq!(desk.run(&["status", "--sim", "--json", "one"]).exits(0).json()["pond"], "my-lab");
    assert!(desk.run(&["status", "--sim", "--json", "two"]).exits(0).json().get("pond").is_none());

    let list = |more: &[&str]| desk.run(&[&["list", "--sim", "--json"], more].concat()).exits(0).json();
    assert_eq!(slugs(&list(&[])).len(), 2);
    assert_eq!(slugs(&list(&["--pond", "MY LAB"])), ["one"]);
    assert_eq!(slugs(&list(&["--all", "--pond", "nobody"])), [""; 0]);
    let words = ["list", "--sim", "--json", "--pond", "!!"];
    assert_eq!(desk.run(&words).exits(2).json()["error"]["code"], "invalid_config");

    // The pond of new leases is no wish to see less.
    let mut command = desk.command(&["list", "--sim", "--json"]);
    let all = Done::of(command.env("CRABBOX_POND", "my-lab").output().unwrap()).exits(0).json();
    assert_eq!(slugs(&all).len(), 2);
    [&lab, &other].iter().for_each(|lease| expire(&desk, lease["id"].as_str().unwrap()));
    let swept = desk.run(&["cleanup", "--sim", "--json", "--pond", "nobody"]).exits(0).json();
    assert_eq!(swept["items"], json!([]));
    let swept = desk.run(&["cleanup", "--sim", "--json", "--pond", "my-lab"]).exits(0).json();
    let items = swept["items"].as_array().unwrap();
    assert_eq!(
        (items.len(), &items[0]["name"], &items[0]["outcome"]),
        (1, &json!("one"), &json!("destroyed"))
    );
    assert_eq!(slugs(&list(&[])), ["two"]);
    desk.run(&["stop", "--sim", "two"]).exits(0);
    assert!(sim.end().contains("2 machines rented, 2 given back"));
}

#[test]
fn a_pond_comes_from_the_configuration_too_and_a_run_has_one() {
    let desk = Desk::new();
    let _sim = Sim::start(&desk);
    std::fs::write(desk.repo().join("crabbox.yaml"), "pond: Nightly\n").unwrap();
    let words = ["run", "--sim", "--json", "--keep", "--no-sync", "--slug", "box", "--", "true"];
    let lease = desk.run(&words).exits(0).json()["lease"]["id"].as_str().unwrap().to_owned();
    assert_eq!(claim(&desk, &lease)["pond"], "nightly");
    // Using it changes nothing of that.
    desk.run(&["run", "--sim", "--no-sync", "--id", "box", "--", "true"]).exits(0);
    let file = claim(&desk, &lease);
    assert_eq!((&file["pond"], &file["labels"]["pond"]), (&json!("nightly"), &json!("nightly")));
    desk.run(&["stop", "--sim", "box"]).exits(0);
}

#[test]
fn flags_that_agree_with_a_vast_machine_pass() {
    let desk = Desk::new();
    let sim = Sim::start(&desk);
    let agreed = [
        "-arch",
        "amd64",
        "-target",
        "linux",
        "-windows-mode",
        "normal",
        "-network",
        "auto",
        "-market",
        "on-demand",
        "-ssh-port",
        "22",
        "-desktop=false",
        "-tailscale=false",
    ];
    let done = desk.run(&[&["warmup", "--sim", "--slug", "box", "-reclaim"], &agreed[..]].concat()).exits(0);
    assert!(!done.stderr.contains("warning: "), "{}", done.stderr);
    let idle = ["-market", "spot", "-os", "ubuntu:26.04", "-ssh-port", "2222", "-desktop-env", "xfce"];
    let words =
        [&["run", "--sim", "--id", "box", "--no-sync"], &agreed[..], &idle[..], &["--", "true"]].concat();
    let done = desk.run(&words).exits(0);
    for line in [
        "warning: --market spot has no effect: use --vast-instance-type interruptible\n",
        "warning: --os ubuntu:26.04 has no effect: the image decides, see --vast-image\n",
        "warning: --ssh-port 2222 has no effect: Vast.ai assigns the port\n",
        "warning: --desktop-env xfce has no effect: there is no desktop\n",
    ] {
        assert!(done.stderr.contains(line), "{line}: {}", done.stderr);
    }
    desk.run(&["list", "--sim", "-refresh"]).exits(0);
    desk.run(&["stop", "--sim", "box"]).exits(0);
    assert!(sim.end().contains("1 machines rented, 1 given back"));
}

#[test]
fn commands_of_other_providers_say_what_to_use() {
    let desk = Desk::new();
    for (command, hint) in [
        ("pause", "stop --vast-release-action stop"),
        ("resume", "start <lease>"),
        ("ports", "tunnel <lease> <port>"),
        ("checkpoint", "cp <lease>:<folder>"),
    ] {
        let done = desk.run(&[command, "--id", "box", "--publish", "8080"]).exits(2);
        assert!(done.stdout.is_empty() && done.stderr.contains(hint), "{}", done.stderr);
        assert!(done.stderr.starts_with(&format!("provider=vast does not support {command}\nhint: ")));
        let error = desk.run(&[command, "create", "-json", "box"]).exits(2).json();
        assert_eq!(error["error"]["code"], "invalid_argument");
    }
    assert!(!desk.run(&["--help"]).exits(0).stdout.contains("checkpoint"));
}

#[test]
fn doctor_looks_at_a_lease_where_one_is_named() {
    let desk = Desk::new();
    let _sim = Sim::start(&desk);
    desk.run(&["warmup", "--sim", "--slug", "box", "--vast-release-action", "stop"]).exits(0);
    let check = |done: &Done| {
        let checks = done.json()["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["check"] == "lease").expect("a check of the lease")
    };
    let fine = check(&desk.run(&["doctor", "--sim", "--json", "--id", "box"]).exits(0));
    assert_eq!((&fine["status"], &fine["details"]["ready"]), (&json!("ok"), &json!("true")), "{fine}");
    desk.run(&["stop", "--sim", "box"]).exits(0);
    let asleep = check(&desk.run(&["doctor", "--sim", "--json", "--id", "box"]).exits(0));
    assert_eq!((&asleep["status"], &asleep["details"]["state"]), (&json!("warning"), &json!("stopped")));
    let missing = desk.run(&["doctor", "--sim", "--json", "--id", "nobody"]).exits(1);
    assert_eq!(check(&missing)["status"], "failed");
    desk.run(&["stop", "--sim", "--vast-release-action", "destroy", "box"]).exits(0);
}

#[test]
fn what_shows_settings_follows_the_simulator() {
    let desk = Desk::new();
    let sim = Sim::start(&desk);
    let mut command = desk.command(&["config", "show", "--sim", "--json"]);
    // The simulator's address is meant, whatever the environment or a repository says.
    std::fs::write(desk.repo().join("crabbox.yaml"), "vast: {apiUrl: 'https://evil.test'}").unwrap();
    let shown = Done::of(command.env("VAST_API_KEY", "canary").output().unwrap()).exits(0);
    assert_eq!(shown.json()["vast"]["apiUrl"], sim.url.as_str());
    assert_eq!(shown.json()["vast"]["auth"], "configured");
    assert!(!shown.stdout.contains("canary") && !shown.stdout.contains(&sim.key), "{}", shown.stdout);
    desk.run(&["providers", "--sim"]).exits(0);
    sim.end();
    let own = desk.run(&["config", "show", "--sim"]).exits(0).stdout;
    assert!(own.contains("vast api_url=http://127.0.0.1:"), "{own}");
}

//! The binary is killed, and its secrets are looked for everywhere.

use crate::desk::{Desk, Sim};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Lease ids of the claims of simulated leases.
fn claims(desk: &Desk) -> Vec<String> {
    let inside = |path: &PathBuf| path.parent().is_some_and(|folder| folder.ends_with("claims"));
    let names = files(desk.folder.path()).into_iter().filter(inside);
    names.filter_map(|path| Some(path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned())).collect()
}

#[test]
fn a_killed_warmup_is_finished_by_stop() {
    let desk = Desk::new();
    let sim = Sim::start(&desk);
    let mut rented_when_killed = 0;
    for milliseconds in (100..2_500).step_by(400) {
        let mut child =
            desk.command(&["warmup", "--sim"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        let _ = child.kill();
        child.wait().unwrap();
        for lease in claims(&desk) {
            let done = desk.run(&["stop", "--sim", &lease]).exits(0);
            rented_when_killed += usize::from(done.stderr.contains("destroyed lease="));
        }
        assert_eq!(desk.run(&["list", "--sim", "--json"]).exits(0).stdout.trim(), "[]");
    }
    assert!(rented_when_killed > 0, "no kill hit a rented machine");
    let words = sim.end();
    let (rented, back) = counts(&words);
    assert_eq!(rented, back, "{words}");
}

/// `N machines rented, M given back`.
fn counts(words: &str) -> (u32, u32) {
    let numbers: Vec<u32> = words
        .lines()
        .filter(|line| line.contains("rented"))
        .flat_map(|line| {
            line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect::<Vec<_>>()
        })
        .collect();
    (numbers[0], numbers[1])
}

#[test]
fn no_output_and_no_record_holds_a_secret() {
    let desk = Desk::new();
    let sim = Sim::start(&desk);
    let work_root = desk.folder.path().join("work").display().to_string();
    let run = |words: &[&str], key: &str| {
        let mut command = desk.command(words);
        command.env("CRABBOX_VAST_API_KEY", key).env("CRABBOX_VAST_API_URL", &sim.url);
        command.env("CRABBOX_VAST_WORK_ROOT", &work_root).env("RUST_BACKTRACE", "1");
        let output = command.output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let mut said = String::new();
    for words in [
        &["warmup", "--slug", "canary", "--json"][..],
        &["doctor"],
        &["doctor", "--json"],
        &["config", "show"],
        &["config", "show", "--json", "--origin"],
        &["list", "--all", "--json"],
        &["status", "canary", "--json"],
        &["run", "--id", "canary", "--json", "--", "true"],
        &["ssh", "canary"],
    ] {
        said += &run(words, &sim.key);
    }
    let secret_of = |path: &PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let private = files(desk.folder.path()).into_iter().find(|path| path.ends_with("id_ed25519")).unwrap();
    let private = secret_of(&private).lines().nth(2).unwrap().to_owned();
    let own = |path: &PathBuf| !path.components().any(|part| part.as_os_str() == "vast-sim");
    let records: Vec<PathBuf> = files(desk.folder.path()).into_iter().filter(own).collect();
    assert!(records.iter().any(|path| path.to_string_lossy().contains("vast-journal")), "{records:?}");
    for path in records {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains(&sim.key), "the API key is in {}", path.display());
        assert!(
            path.ends_with("id_ed25519") || !text.contains(&private),
            "the private key is in {}",
            path.display()
        );
    }
    said += &run(&["stop", "canary", "--json"], &sim.key);
    said += &run(&["doctor"], "canary-bad-key-0001");
    said += &run(&["list", "--json"], "canary-bad-key-0001");
    assert!(said.contains("auth_failed"), "{said}");
    for secret in [sim.key.as_str(), private.as_str(), "canary-bad-key-0001", "PRIVATE KEY"] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

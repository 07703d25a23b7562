//! The files of a run: profiles whose variables travel, artifacts that come back, and the bundle about a failure.

use crate::desk::{Desk, Done, Sim};
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

const CANARY: &str = "canary-51c0d7-value";

/// A simulator with one lease called `box`.
fn warm(desk: &Desk) -> Sim {
    let sim = Sim::start(desk);
    desk.run(&["warmup", "--sim", "--slug", "box"]).exits(0);
    sim
}

/// What an archive holds, by path.
fn contents(path: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(std::fs::File::open(path).unwrap()));
    let read = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let path = entry.path().unwrap().display().to_string();
        (path.trim_start_matches("./").to_owned(), text)
    });
    read.collect()
}

#[test]
fn a_profile_hands_over_what_is_allowed() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let profile = desk.folder.path().join("real.profile");
    let text = format!(
        "# live\nexport MY_TOKEN='{CANARY}'\nMY_NAME=\"two words\" # remark\nOTHER=stays\nVAST_API_KEY=never\nX=$(date)\n"
    );
    std::fs::write(&profile, text).unwrap();
    std::os::unix::fs::symlink("../real.profile", desk.repo().join("live.profile")).unwrap();
    let shown = "echo \"$MY_TOKEN|$MY_NAME|$OTHER|$VAST_API_KEY\"; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' >&2";
    let words = [
        "run",
        "--sim",
        "--id",
        "box",
        "--no-sync",
        "--env-from-profile",
        "live.profile",
        "--allow-env",
        "MY_*,VAST_*",
        "--",
        "sh",
        "-c",
        shown,
    ];
    let mut command = desk.command(&words);
    command.env("MY_NAME", "the profile wins");
    let done = Done::of(command.output().unwrap()).exits(0);
    assert_eq!(done.stdout, format!("{CANARY}|two words||\n"));
    assert!(done.stderr.contains("crabbox-owner-"), "the list does not show the remote side at all");
    assert!(!done.stderr.contains(CANARY), "a value is in a command line: {}", done.stderr);
    assert!(
        done.stderr.contains("behavior=forwarded vars=MY_NAME=set,MY_TOKEN=set len=19 secret=true"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("warning: lines 6 of live.profile are left out"), "{}", done.stderr);
    // Refused before anything is rented.
    let missing = ["run", "--sim", "--json", "--no-sync", "--env-from-profile", "none", "--", "true"];
    assert_eq!(desk.run(&missing).exits(2).json()["error"]["code"], "invalid_argument");
    assert_eq!(desk.run(&["list", "--sim", "--json"]).json().as_array().unwrap().len(), 1);
}

#[test]
fn artifacts_come_back_in_one_archive() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let make = "mkdir -p 'out/a b' .git && printf one >out/1.json && printf two >'out/a b/-2.json' && printf no >out/x.txt \
                && printf no >.git/3.json && ln -sf 1.json out/link.json && ln -sf nowhere out/gone.json && ln -sfn out others";
    let run = |more: &[&str], text: &str| {
        desk.run(
            &[&["run", "--sim", "--json", "--id", "box", "--no-sync"], more, &["--", "sh", "-c", text]]
                .concat(),
        )
    };
    let more =
        ["--artifact-glob", "out/*.json", "-artifact-glob", "nothing/*", "--require-artifact", "**/*2.json"];
    let document = run(&more, make).exits(0).json();
    let archive = &document["artifacts"];
    assert_eq!(archive["files"], serde_json::json!(["out/1.json", "out/a b/-2.json", "out/link.json"]));
    let run_id = document["runId"].as_str().unwrap();
    assert_eq!(archive["path"], format!(".crabbox/runs/{run_id}/{run_id}-artifacts.tgz"));
    let path = desk.repo().join(archive["path"].as_str().unwrap());
    assert_eq!(archive["bytes"], std::fs::metadata(&path).unwrap().len());
    let held = contents(&path);
    assert_eq!(held.keys().collect::<Vec<_>>(), ["out/1.json", "out/a b/-2.json", "out/link.json"]);
    assert_eq!((held["out/1.json"].as_str(), held["out/a b/-2.json"].as_str()), ("one", "two"));

    let refused =
        run(&["--require-artifact", "out/*.json", "--require-artifact", "out/*.none"], "true").exits(7);
    let error = refused.json()["error"].clone();
    assert_eq!(
        (&error["code"], &error["details"]["missing"]),
        (&"remote_control".into(), &serde_json::json!(["out/*.none"]))
    );
    let nothing = run(&["--artifact-glob", "none/*"], "true").exits(0);
    assert!(nothing.json()["artifacts"].is_null());
    assert!(nothing.stderr.contains("warning: the command left no file"), "{}", nothing.stderr);
    // What fails is not searched.
    assert!(run(&["--require-artifact", "none"], "exit 3").exits(3).json()["artifacts"].is_null());
    assert_eq!(
        run(&["--artifact-glob", "../x"], "true").exits(2).json()["error"]["code"],
        "invalid_argument"
    );
}

#[test]
fn a_bundle_tells_of_a_failure_where_it_is_asked_for() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let text = "echo said; echo complained >&2; mkdir -p test-results own; echo r >test-results/r.xml; echo l >a.log; \
                echo o >own/o; exit 3";
    let words = [
        "run",
        "--sim",
        "--id",
        "box",
        "--no-sync",
        "--capture-on-fail",
        "--artifact-glob",
        "own/*",
        "--",
        "sh",
        "-c",
        text,
    ];
    let done = desk.run(&words).exits(3);
    let line = done.stderr.lines().find(|line| line.starts_with("failure-bundle local=")).expect("a line");
    let mut parts = line.split(' ').skip(1);
    let path = parts.next().unwrap().strip_prefix("local=").unwrap();
    assert!(path.starts_with(".crabbox/captures/run_") && path.ends_with("Z.tar.gz"), "{path}");
    let file = desk.repo().join(path);
    assert_eq!(parts.next().unwrap(), format!("bytes={}", std::fs::metadata(&file).unwrap().len()));
    assert_eq!(parts.next(), Some("secret_risk=caller-redacts-before-sharing"));
    let at = |text: &str| done.stderr.find(text).unwrap_or_else(|| panic!("no {text}: {}", done.stderr));
    assert!(at("failure digest") < at("failure-bundle") && at("failure-bundle") < at("stdout tail last"));
    let held = contents(&file);
    let names: Vec<&str> = held.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "files/a.log",
            "files/own/o",
            "files/test-results/r.xml",
            "stderr.log",
            "stdout.log",
            "summary.txt",
            "timing.json"
        ]
    );
    assert_eq!((held["stdout.log"].as_str(), held["stderr.log"].as_str()), ("said\n", "complained\n"));
    assert!(held["summary.txt"].contains("exit=3") && held["summary.txt"].contains("failure digest"));
    let timing: serde_json::Value = serde_json::from_str(&held["timing.json"]).unwrap();
    assert_eq!(timing["exitCode"], 3);
    let left: Vec<_> = std::fs::read_dir(file.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing but the bundle stays: {left:?}");

    let fine =
        desk.run(&["run", "--sim", "--id", "box", "--no-sync", "--capture-on-fail", "--", "true"]).exits(0);
    assert!(!fine.stderr.contains("failure-bundle"), "{}", fine.stderr);
    // A lease of its own is looked at before it is given back.
    let words = [
        "run",
        "--sim",
        "--json",
        "--no-sync",
        "--capture-on-fail",
        "--",
        "sh",
        "-c",
        "echo x >b.log; exit 4",
    ];
    let document = desk.run(&words).exits(4).json();
    let held = contents(&desk.repo().join(document["failureBundle"].as_str().unwrap()));
    assert_eq!(held["files/b.log"], "x\n");
}

#[test]
fn times_are_appended_to_a_file() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    for code in ["0", "5"] {
        let text = format!("exit {code}");
        let words = [
            "run",
            "--sim",
            "--id",
            "box",
            "--no-sync",
            "-timing-record",
            "times",
            "--",
            "sh",
            "-c",
            text.as_str(),
        ];
        desk.run(&words).exits(code.parse().unwrap());
    }
    let times = std::fs::read_to_string(desk.repo().join("times")).unwrap();
    let codes: Vec<i64> = times
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["exitCode"].as_i64().unwrap())
        .collect();
    assert_eq!(codes, [0, 5]);
    let words = ["run", "--sim", "--json", "--timing-record", "default", "--no-sync", "--", "true"];
    assert_eq!(desk.run(&words).exits(2).json()["error"]["code"], "invalid_argument");
}

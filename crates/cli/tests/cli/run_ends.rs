//! What stays of a run: output that cannot be written, files of the caller that must not be lost, and the report of a
//! run whose command ended well and whose results did not arrive.

use crate::desk::{Desk, Done, Sim};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;

/// A simulator with one lease called `box`.
fn warm(desk: &Desk) -> Sim {
    let sim = Sim::start(desk);
    desk.run(&["warmup", "--sim", "--slug", "box"]).exits(0);
    sim
}

const ON_BOX: [&str; 5] = ["run", "--sim", "--id", "box", "--no-sync"];

/// A run on the lease: flags, and the text of its shell command.
fn on_box(desk: &Desk, flags: &[&str], text: &str) -> Done {
    desk.run(&[&ON_BOX[..], flags, &["--", "sh", "-c", text]].concat())
}

/// Standard output that has no room.
fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

fn make_pipe(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn output_that_is_lost_is_a_failure() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let quiet_success = [&ON_BOX[..], &["--", "true"]].concat();
    let words = [&ON_BOX[..], &["--", "sh", "-c", "echo hi; echo there >&2"]].concat();
    let failing = [&ON_BOX[..], &["--", "sh", "-c", "echo hi; exit 3"]].concat();
    for (words, code) in [
        (&["version"][..], 1),
        (&["--help"], 1),
        (&["config", "show"], 1),
        (&["list", "--sim", "--json"], 1),
        (&words, 1),
        // What the command says counts, and nothing is lost of no output.
        (&failing, 3),
        (&quiet_success, 0),
    ] {
        let done = Done::of(desk.command(words).stdout(full()).output().unwrap()).exits(code);
        let told = done.stderr.contains("standard output cannot be written: ");
        assert_eq!(told, code != 0, "{words:?}: {}", done.stderr);
    }
}

#[test]
fn a_download_goes_where_its_name_leads_and_replaces_only_files() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let there = |name: &str| desk.repo().join(name);
    std::fs::create_dir(there("real")).unwrap();
    std::fs::write(there("real/file"), "old").unwrap();
    std::fs::write(there("r.part"), "mine").unwrap();
    std::os::unix::fs::symlink("real/file", there("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", there("loose")).unwrap();
    make_pipe(&there("pipe"));
    let _socket = std::os::unix::net::UnixListener::bind(there("socket")).unwrap();

    on_box(&desk, &["--download", "r=link"], "printf new >r").exits(0);
    assert!(there("link").symlink_metadata().unwrap().is_symlink(), "a link is replaced");
    assert_eq!(std::fs::read_to_string(there("real/file")).unwrap(), "new");

    let pipe = there("pipe");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        File::open(pipe).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    on_box(&desk, &["--download", "r=pipe"], "sleep 0.2; printf piped >r").exits(0);
    assert!(!there("pipe").symlink_metadata().unwrap().is_file(), "a pipe is replaced");
    assert_eq!(reader.join().unwrap(), "piped");

    // Nobody reads, nothing can be written, nothing is there: said, and nothing is replaced.
    for (name, why) in [
        ("pipe", "nobody reads"),
        ("socket", "neither a file"),
        ("loose", "leads to nothing"),
        ("real", "is a folder"),
    ] {
        let before = there(name).symlink_metadata().unwrap().file_type();
        let done = on_box(&desk, &["--download", &format!("r={name}")], "true").exits(7);
        assert!(done.stderr.contains(why), "{name}: {}", done.stderr);
        assert_eq!(there(name).symlink_metadata().unwrap().file_type(), before, "{name}");
    }
    on_box(&desk, &["--download", "r"], "true").exits(0);
    assert_eq!(std::fs::read_to_string(there("r.part")).unwrap(), "mine");
    let mut left: Vec<_> = std::fs::read_dir(desk.repo())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [".git", "link", "loose", "pipe", "r", "r.part", "real", "socket"]);
}

#[test]
fn artifacts_may_have_any_name() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let text = "mkdir -p 'out/a\nout' && cd out && printf 1 >'two\n./lines' 2>/dev/null; printf 2 >'a\nb'; printf 3 >'a\nout/c'; \
                printf 4 >\"it's\"; printf 5 >' x '";
    let done = on_box(&desk, &["--json", "--artifact-glob", "out/**"], text).exits(0).json();
    let want = ["out/ x ", "out/a\nb", "out/a\nout/c", "out/it's"];
    assert_eq!(done["artifacts"]["files"], serde_json::json!(want));
    let archive = File::open(desk.repo().join(done["artifacts"]["path"].as_str().unwrap())).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let mut held: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    held.sort();
    assert_eq!(held, want.map(|name| format!("./{name}")));
}

#[test]
fn the_rules_of_a_run_are_the_engines() {
    let desk = Desk::new();
    let _sim = Sim::start(&desk);
    for (words, why) in [
        (&["--sync-only", "--download", "x"][..], "only a sync"),
        (&["--sync-only", "--artifact-glob", "x"], "only a sync"),
        (&["--sync-only", "--require-artifact", "x"], "only a sync"),
        (&["--sync-only", "--", "true"], "only a sync"),
        (&["--sync-only", "--no-sync"], "only a sync"),
        (&["--download", "a=x", "--download", "b=./x", "--", "true"], "would be written twice"),
        (&["--download", "a=x/y", "--download", "b=x/./y", "--", "true"], "would be written twice"),
        (&["--download", "a=x", "--timing-record", "x", "--", "true"], "would be written twice"),
        (&["--capture-stdout", "x", "--capture-stderr", "x", "--", "true"], "would be written twice"),
        (&["--shell"], "usage: crabbox-vast run"),
        (&[], "usage: crabbox-vast run"),
    ] {
        let words = [&["run", "--sim", "--json"], words].concat();
        let error = desk.run(&words).exits(2).json()["error"].clone();
        assert_eq!(error["code"], "invalid_argument", "{words:?}: {error}");
        assert!(error["message"].as_str().unwrap().contains(why), "{words:?}: {error}");
    }
}

#[test]
fn files_for_output_are_opened_when_there_is_some() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let there = |name: &str| desk.repo().join(name);
    let files = ["--capture-stdout", "out", "--capture-stderr", "err", "--timing-record", "times"];
    let nowhere = [&["run", "--sim", "--json", "--id", "nobody", "--no-sync"], &files[..], &["--", "true"]];
    std::fs::write(there("out"), "old").unwrap();
    assert_eq!(desk.run(&nowhere.concat()).exits(4).json()["error"]["code"], "lease_not_found");
    assert_eq!(std::fs::read_to_string(there("out")).unwrap(), "old");
    assert!(!there("err").exists() && !there("times").exists());
    // A place where nothing can be written is refused before anything is rented or run.
    for flag in ["--capture-stdout", "--capture-stderr", "--timing-record"] {
        for place in ["none/out", ".git"] {
            let done = on_box(&desk, &["--json", flag, place], "touch ran").exits(2);
            assert_eq!(done.json()["error"]["code"], "invalid_argument", "{flag} {place}");
        }
    }
    on_box(&desk, &[], "[ ! -e ran ]").exits(0);
    // Of a command that ran and said nothing the file is empty.
    on_box(&desk, &files, "echo e >&2").exits(0);
    assert_eq!(std::fs::read_to_string(there("out")).unwrap(), "");
    assert_eq!(std::fs::read_to_string(there("err")).unwrap(), "e\n");
    assert_eq!(std::fs::read_to_string(there("times")).unwrap().lines().count(), 1);
}

#[test]
fn a_run_whose_results_did_not_arrive_is_reported() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    for flags in [["--download", "none"], ["--require-artifact", "none"]] {
        let flags = [&flags[..], &["--timing-json", "--timing-record", "times"]].concat();
        let done = on_box(&desk, &flags, "echo done").exits(7);
        let at = |text: &str| done.stderr.find(text).unwrap_or_else(|| panic!("no {text}: {}", done.stderr));
        assert!(at("run summary") < at("run details") && at("run details") < at("none"), "{}", done.stderr);
        assert!(!done.stderr.contains("failure digest"), "the command did not fail: {}", done.stderr);
        let times = done.stderr.lines().find(|line| line.starts_with('{')).expect("a document");
        let times: Value = serde_json::from_str(times).unwrap();
        assert_eq!(
            (&times["exitCode"], &times["runStatus"], &times["errorKind"]),
            (&0.into(), &"failed".into(), &"remote_control".into())
        );
        let json = on_box(&desk, &[&flags[..], &["--json"]].concat(), "echo done").exits(7);
        assert_eq!(json.json()["error"]["details"]["timing"]["exitCode"], 0);
    }
    let recorded = std::fs::read_to_string(desk.repo().join("times")).unwrap();
    assert_eq!(recorded.lines().count(), 4);
}

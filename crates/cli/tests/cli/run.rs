//! `run` with the binary: what it says, what it brings over and back, and who may work at the same time.

use crate::desk::{Desk, Done, Sim, signal};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A simulator with one lease called `box`.
fn warm(desk: &Desk) -> Sim {
    let sim = Sim::start(desk);
    desk.run(&["warmup", "--sim", "--slug", "box"]).exits(0);
    sim
}

fn spawn(desk: &Desk, words: &[&str]) -> Child {
    desk.command(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn line(child: &mut Child) -> String {
    let mut line = Vec::new();
    let stdout = child.stdout.as_mut().unwrap();
    let mut byte = [0];
    while stdout.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// That each text stands in `stderr`, in this order.
#[track_caller]
fn in_order(stderr: &str, texts: &[&str]) {
    let mut rest = stderr;
    for text in texts {
        let at = rest.find(text).unwrap_or_else(|| panic!("no {text:?} here or later:\n{stderr}"));
        rest = &rest[at + text.len()..];
    }
}

#[test]
fn a_run_syncs_and_tells_what_it_does_in_crabboxs_words() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    std::fs::write(desk.repo().join("a.txt"), "from here").unwrap();
    let done = desk
        .run(&[
            "run",
            "--sim",
            "--id",
            "box",
            "--timing-json",
            "--label",
            "first",
            "--",
            "sh",
            "-c",
            "pwd; cat a.txt >&2",
        ])
        .exits(0);
    assert!(done.stdout.ends_with("/repo\n") && done.stdout.contains("/cbx_"), "{}", done.stdout);
    let order = [
        "workspace owner acquired wait=",
        " recovered=false\n",
        "syncing ",
        " -> 127.0.0.1:",
        "run context:\n  run=run_",
        " portal=- logs=-\n  lease=cbx_",
        " slug=box provider=vast target=linux type=",
        "\n  ssh=root@127.0.0.1:",
        " ip=127.0.0.1\n  workdir=",
        " workspace=raw actions=-\n",
        "sync candidate: 1 files, 9 B",
        "sync complete in ",
        "running on 127.0.0.1 sh -c 'pwd; cat a.txt >&2'\n",
        "from here",
        "command complete in ",
        "run summary lease=",
        " sync_skipped=false exit=0 sync_steps=",
        " command_phases=user-command:",
        "run details provider=vast lease=cbx_",
        " actions=- stop_command=\"crabbox-vast stop --provider vast --target linux --vast-api-url ",
        " --id box --sim\" idle_timeout=30m0s\n",
        "workspace owner released\n",
        "{\"provider\":\"vast\",\"leaseId\":\"cbx_",
    ];
    in_order(&done.stderr, &order);
    let timing: Value = serde_json::from_str(done.stderr.lines().next_back().unwrap()).unwrap();
    assert_eq!((&timing["exitCode"], &timing["runStatus"]), (&Value::from(0), &Value::from("succeeded")));
    assert_eq!((&timing["label"], &timing["slug"]), (&Value::from("first"), &Value::from("box")));
    assert!(timing["commandMs"].is_u64() && timing["syncPhases"][0]["name"].is_string(), "{timing}");

    let only = desk.run(&["run", "--sim", "--id", "box", "--sync-only"]).exits(0);
    assert!(only.stdout.starts_with("synced ") && only.stdout.ends_with("/repo\n"), "{}", only.stdout);
    assert!(only.stderr.contains("run summary lease="), "{}", only.stderr);
    assert!(!only.stderr.contains("running on") && !only.stderr.contains("run details"), "{}", only.stderr);
}

#[test]
fn a_failure_says_what_to_do_next() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let words =
        ["run", "--sim", "--id", "box", "--no-sync", "--", "sh", "-c", "echo out; echo err >&2; exit 3"];
    let done = desk.run(&words).exits(3);
    assert_eq!(done.stdout, "out\n");
    in_order(
        &done.stderr,
        &[
            "workspace owner acquired",
            "run context:",
            "running on 127.0.0.1 ",
            "\nerr\n",
            "sync=0s ",
            "sync_skipped=true exit=3 command_phases=user-command:",
            " blocked_stage=unknown retry_likely=unknown cost=",
            "failure digest\n  phase: user-command\n  area: user_command\n  retryable: unknown\n",
            "  next: crabbox-vast ssh --provider vast ",
            "  next: crabbox-vast run --provider vast ",
            " --no-sync --sim -- sh -c 'echo out; echo err >&2; exit 3'\n",
            "  next: crabbox-vast stop ",
            "  tail stderr:\n    err\n",
            "stdout tail last 1 lines:\nout\nstderr tail last 1 lines:\nerr\nworkspace owner released\nremote command exited 3\n",
        ],
    );
    assert!(!desk.repo().join(".crabbox").exists(), "no bundle is written unless it is asked for");

    let words =
        ["run", "--sim", "--no-sync", "--keep-on-failure", "--slug", "kof", "--", "sh", "-c", "exit 9"];
    let done = desk.run(&words).exits(9);
    in_order(
        &done.stderr,
        &[
            "keep-on-failure: kept lease=cbx_",
            " slug=kof expires=20",
            " idle_timeout=30m0s ttl=1h30m0s\n",
            "inspect: crabbox-vast inspect --provider vast --id kof --sim\n",
            "ssh: crabbox-vast ssh --provider vast --id kof --sim\n",
            "ssh-direct: 'ssh' '-i' '",
            "stop: crabbox-vast stop --provider vast kof --sim\n",
            "stdout tail: empty\nstderr tail: empty\n",
            "workspace owner released\n",
        ],
    );
    desk.run(&["stop", "--sim", "kof"]).exits(0);
}

#[test]
fn the_second_run_on_a_lease_waits_for_the_first() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let mut first = spawn(
        &desk,
        &["run", "--sim", "--id", "box", "--no-sync", "--", "sh", "-c", "echo in; cat; date +%s%N"],
    );
    assert_eq!(line(&mut first), "in");
    let second = spawn(&desk, &["run", "--sim", "--id", "box", "--no-sync", "--", "date", "+%s%N"]);
    std::thread::sleep(Duration::from_millis(1500));
    drop(first.stdin.take());
    let ended: u64 = line(&mut first).parse().unwrap();
    Done::of(first.wait_with_output().unwrap()).exits(0);
    let second = Done::of(second.wait_with_output().unwrap()).exits(0);
    assert!(second.stdout.trim().parse::<u64>().unwrap() > ended, "they overlapped");
    in_order(&second.stderr, &["workspace owner acquired wait=", "recovered=false", "running on"]);
    assert!(!second.stderr.contains("acquired wait=0s"), "{}", second.stderr);
}

#[test]
fn an_interrupted_run_on_a_kept_lease_ends_its_command_and_frees_the_workspace() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let mut run = spawn(
        &desk,
        &["run", "--sim", "--id", "box", "--no-sync", "--", "sh", "-c", "echo $$; exec sleep 600"],
    );
    let pid = line(&mut run);
    signal(&run, "INT");
    let done = Done::of(run.wait_with_output().unwrap()).exits(130);
    assert!(done.stderr.contains("workspace owner released"), "{}", done.stderr);
    assert!(!std::path::Path::new("/proc").join(&pid).exists(), "the remote command still runs");
    let began = Instant::now();
    let next = desk.run(&["run", "--sim", "--id", "box", "--no-sync", "--", "true"]).exits(0);
    assert!(
        next.stderr.contains("recovered=false") && began.elapsed() < Duration::from_secs(30),
        "{}",
        next.stderr
    );
}

#[test]
fn scripts_travel_and_results_come_back() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    std::fs::write(
        desk.repo().join("it's.sh"),
        "echo \"$0|$1|$2\"; cat; mkdir -p out; printf 'a\\nb' >out/r; >&2 echo e",
    )
    .unwrap();
    let mut run = spawn(
        &desk,
        &[
            "run",
            "--sim",
            "--id",
            "box",
            "--no-sync",
            "--script",
            "it's.sh",
            "--download",
            "out/r=back/r.txt",
            "--capture-stderr",
            "errors",
            "--",
            "one",
            "two words",
        ],
    );
    run.stdin.take().unwrap().write_all(b"typed").unwrap();
    let done = Done::of(run.wait_with_output().unwrap()).exits(0);
    assert!(
        done.stdout.starts_with("./.crabbox/scripts/")
            && done.stdout.ends_with("-it-s.sh|one|two words\ntyped"),
        "{}",
        done.stdout
    );
    in_order(&done.stderr, &["uploaded script .crabbox/scripts/", "running on ", "downloaded out/r -> "]);
    assert_eq!(std::fs::read_to_string(desk.repo().join("back/r.txt")).unwrap(), "a\nb");
    assert_eq!(std::fs::read_to_string(desk.repo().join("errors")).unwrap(), "e\n");

    let mut run = spawn(&desk, &["run", "--sim", "--id", "box", "--no-sync", "--script-stdin", "--", "arg"]);
    run.stdin.take().unwrap().write_all(b"#!/bin/sh\necho \"shebang $1\"\nexit 4\n").unwrap();
    assert_eq!(Done::of(run.wait_with_output().unwrap()).exits(4).stdout, "shebang arg\n");

    let missing = ["run", "--sim", "--id", "box", "--no-sync", "--download", "none", "--", "true"];
    let done = desk.run(&missing).exits(7);
    assert!(done.stderr.contains("download of none failed"), "{}", done.stderr);
    assert!(!desk.repo().join("none").exists() && !desk.repo().join("none.part").exists());
}

#[test]
fn forwarded_values_show_in_no_list_of_processes() {
    const CANARY: &str = "canary-77aa01b2-value";
    let desk = Desk::new();
    let _sim = warm(&desk);
    // The command is a process of this machine: whatever it could see of the list, we see too.
    let text = "echo ready; read go; echo \"$MY_TOKEN|$CI|$CRABBOX_SLUG\"";
    let mut command = desk.command(&[
        "run",
        "--sim",
        "--id",
        "box",
        "--no-sync",
        "--allow-env",
        "MY_*",
        "--",
        "sh",
        "-c",
        text,
    ]);
    command.env("MY_TOKEN", CANARY).env("CI", "1").env("MY-BAD", "x");
    let mut run =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(line(&mut run), "ready");
    let shown = std::process::Command::new("sh")
        .args(["-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"])
        .output()
        .unwrap()
        .stdout;
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("crabbox-owner-"), "the list does not show the remote side at all");
    assert!(!shown.contains(CANARY), "a value is in a command line");
    run.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let done = Done::of(run.wait_with_output().unwrap()).exits(0);
    assert_eq!(done.stdout, format!("{CANARY}|1|box\n"));
    let line = format!(
        "env forwarding provider=vast behavior=forwarded vars=CI=set,MY_TOKEN=set len={} secret=true\n",
        CANARY.len()
    );
    in_order(&done.stderr, &["run context:", &line, "running on"]);
    assert!(!done.stderr.contains(CANARY));
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_happens() {
    let desk = Desk::new();
    let _sim = Sim::start(&desk);
    for words in [
        &["--pool", "x", "--", "true"][..],
        &["--lease-output", "x", "--", "true"],
        &["--junit", "x", "--", "true"],
        &["--sync-only", "--", "true"],
        &["--no-sync", "--sync-only"],
        &["--stop-after", "sometimes", "--", "true"],
        &["--script", "missing.sh"],
        &["--download", "=x", "--", "true"],
        &["--download", "a=b", "--capture-stdout", "b", "--", "true"],
        &[],
    ] {
        let words = [&["run", "--sim", "--json"], words].concat();
        let document = desk.run(&words).exits(2).json();
        assert_eq!(document["error"]["code"], "invalid_argument", "{words:?}: {document}");
    }
    let done = desk.run(&["run", "--sim", "--no-hydrate", "--debug", "--no-sync", "--", "true"]).exits(0);
    assert!(done.stderr.contains("stopped=true policy=auto"), "{}", done.stderr);
    std::fs::remove_dir_all(desk.repo().join(".git")).unwrap();
    desk.run(&["run", "--sim", "--", "true"]).exits(6);
}

#[test]
fn policies_decide_whatever_acquired_the_lease() {
    let desk = Desk::new();
    let sim = warm(&desk);
    let done = desk
        .run(&["run", "--sim", "--no-sync", "--stop-after", "failure", "--slug", "kept", "--", "true"])
        .exits(0);
    assert!(!done.stderr.contains("lease cleanup"), "{}", done.stderr);
    let words =
        ["run", "--sim", "--json", "--no-sync", "--stop-after", "always", "--id", "kept", "--", "false"];
    let document = desk.run(&words).exits(1).json();
    assert_eq!((&document["released"], &document["policy"]), (&Value::from(true), &Value::from("always")));
    assert_eq!(
        (&document["exitCode"], &document["timing"]["errorKind"]),
        (&Value::from(1), &Value::from("command-exit"))
    );
    desk.run(&["run", "--sim", "--no-sync", "--stop-after", "success", "--id", "box", "--", "true"]).exits(0);
    assert!(sim.end().contains("2 machines rented, 2 given back"));
}

#[test]
fn what_a_release_action_leaves_is_told_and_free_for_the_next() {
    let desk = Desk::new();
    let _sim = Sim::start(&desk);
    let run =
        |more: &[&str]| desk.run(&[&["run", "--sim", "--no-sync"], more, &["--", "true"]].concat()).exits(0);
    let kept = run(&["--vast-release-action", "keep", "--slug", "held"]);
    in_order(
        &kept.stderr,
        &[
            "workspace owner released\n",
            "lease cleanup stopped=false policy=auto action=keep lease=cbx_",
            "hint: run `crabbox-vast stop --vast-release-action destroy held --sim`: it is still billed\n",
        ],
    );
    // The lease remembers its action.
    let began = Instant::now();
    let document = run(&["--id", "held", "--stop-after", "always", "--json"]).json();
    // An owner that was left behind expires after 45 s.
    assert!(began.elapsed() < Duration::from_secs(30), "it waited for the workspace");
    assert_eq!(
        (&document["released"], &document["releaseOutcome"], &document["timing"]["leaseStopped"]),
        (&Value::from(false), &Value::from("kept"), &Value::from(false))
    );
    let stopped = run(&["--id", "held", "--stop-after", "always", "--vast-release-action", "stop"]);
    assert!(stopped.stderr.contains("workspace owner released\n"), "{}", stopped.stderr);
    assert!(
        stopped.stderr.contains("lease cleanup stopped=true policy=always action=stop lease=cbx_"),
        "{}",
        stopped.stderr
    );
    desk.run(&["ssh", "--sim", "held"]).exits(5);
    for words in [&["ssh", "--sim", "--json", "held"][..], &["touch", "--sim", "--json", "held"]] {
        let refused = desk.run(words).exits(5).json();
        assert_eq!(refused["error"]["code"], "instance_not_running", "{refused}");
        assert!(refused["error"]["hint"].as_str().unwrap().contains("start held"), "{refused}");
    }
    desk.run(&["stop", "--sim", "--vast-release-action", "destroy", "held"]).exits(0);
}

#[test]
fn another_repository_has_to_reclaim_a_lease() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let other = desk.folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let run = |more: &[&str]| {
        let words = [&["run", "--sim", "--no-sync", "--id", "box"], more, &["--", "true"]].concat();
        Done::of(desk.command(&words).current_dir(&other).output().unwrap())
    };
    let refused = run(&[]).exits(2);
    assert!(
        refused.stderr.contains("is claimed by repo ")
            && refused.stderr.contains("; use --reclaim to claim it for ")
    );
    run(&["--reclaim"]).exits(0);
}

#[test]
fn a_warmup_tells_its_times_too() {
    let desk = Desk::new();
    let _sim = Sim::start(&desk);
    let done = desk.run(&["warmup", "--sim", "--slug", "timed", "--timing-json"]).exits(0);
    let timing: Value = serde_json::from_str(done.stderr.lines().next_back().unwrap()).unwrap();
    assert!(timing["totalMs"].as_u64().is_some_and(|ms| ms > 0), "{timing}");
    let mut expected = serde_json::json!({
        "provider": "vast", "slug": "timed", "syncMs": 0, "syncSkipped": false, "commandMs": 0, "endToEndMs": 0,
        "exitCode": 0, "runStatus": "succeeded",
    });
    for measured in ["leaseId", "totalMs"] {
        expected[measured] = timing[measured].clone();
    }
    assert_eq!(timing, expected);

    let words = ["run", "--sim", "--json", "--timing-json", "--id", "timed", "--no-sync", "--", "true"];
    let both = desk.run(&words).exits(0);
    let timing: Value = serde_json::from_str(both.stderr.lines().next_back().unwrap()).unwrap();
    assert_eq!(timing, both.json()["timing"]);
}

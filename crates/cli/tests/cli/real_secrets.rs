//! Canaries for every secret, planted at a vendor of another make, and looked for in everything that can be read: outputs,
//! records, process lists, environments of children, the remains of a crash.

use crate::desk;
use crate::real::{self, API_KEY, Ended, Fault, Options, Route, Secrets, Trap, Traveller, Watch, What};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

const BAD_KEY: &str = "canary-bad-key-0b0b";
const HANDED_OVER: &str = "canary-allowed-value-4c4c";

fn said(ended: &Ended) -> String {
    format!("{}{}", ended.stdout, ended.stderr)
}

/// The lines of the private keys that were on disk meanwhile.
fn private_lines(traveller: &Traveller) -> Vec<String> {
    let keys = traveller.keys().into_iter().map(|path| std::fs::read_to_string(path).unwrap());
    let lines: Vec<String> =
        keys.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.into_iter().filter(|line| !line.starts_with("-----")).collect()
}

/// A search path on which a `git` comes first that notes its environment before it does its work, and the notes.
fn watched_git(traveller: &Traveller) -> (OsString, PathBuf) {
    let folder = traveller.desk.folder.path().join("bin");
    let notes = traveller.desk.folder.path().join("environments");
    let path = std::env::var_os("PATH").unwrap();
    let git = std::env::split_paths(&path).map(|folder| folder.join("git")).find(|git| git.exists()).unwrap();
    std::fs::create_dir(&folder).unwrap();
    let script = format!("#!/bin/sh\nenv >>'{}'\nexec '{}' \"$@\"\n", notes.display(), git.display());
    std::fs::write(folder.join("git"), script).unwrap();
    std::fs::set_permissions(folder.join("git"), std::fs::Permissions::from_mode(0o755)).unwrap();
    (std::env::join_paths(std::iter::once(folder).chain(std::env::split_paths(&path))).unwrap(), notes)
}

#[track_caller]
fn is_free_of(text: &str, secrets: &[&str], what: &str) {
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} in {what}:\n{text}");
    }
}

#[test]
fn no_secret_is_shown_recorded_or_passed_on() {
    if !real::is_here() {
        return;
    }
    let traveller = Traveller::new(Options::default());
    let repository = traveller.desk.repo();
    assert!(Command::new("git").args(["init", "-q"]).current_dir(&repository).status().unwrap().success());
    std::fs::write(repository.join("file"), "content").unwrap();
    let (path, children) = watched_git(&traveller);
    let watch = Watch::start();
    let mut shown = String::new();
    let mut run = |words: &[&str], key: &str| {
        let mut command = traveller.command(words);
        command.env("CRABBOX_VAST_API_KEY", key).env("RUST_BACKTRACE", "1").env("HANDED_OVER", HANDED_OVER);
        command.env("PATH", &path);
        let ended = traveller.finish(command);
        shown += &said(&ended);
        ended.succeeded()
    };
    assert!(run(&["warmup", "--slug", "box", "--json"], API_KEY));
    for words in [
        &["doctor"][..],
        &["doctor", "--json"],
        &["config", "show"],
        &["config", "show", "--json", "--origin"],
        &["list", "--all", "--json"],
        &["list", "--all"],
        &["status", "box", "--json"],
        &["ssh", "box"],
        &["run", "--id", "box", "--json", "--allow-env", "HANDED_OVER", "--", "true"],
        &["run", "--id", "box", "--allow-env", "HANDED_OVER", "--shell", "sleep 0.3; exit 3"],
        &["touch", "box"],
    ] {
        run(words, API_KEY);
    }
    let private = private_lines(&traveller);
    assert!(private.len() > 2, "{private:?}");
    let records = traveller.records();
    assert!(records.iter().any(|path| path.to_string_lossy().contains("vast-journal")), "{records:?}");
    let vendors = [API_KEY, Secrets::INSTANCE_KEY, Secrets::JUPYTER, Secrets::SIGNATURE, HANDED_OVER];
    for path in records {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        is_free_of(&text, &vendors, &path.display().to_string());
        if !path.ends_with("id_ed25519") {
            let lines: Vec<&str> = private.iter().map(String::as_str).collect();
            is_free_of(&text, &lines, &path.display().to_string());
        }
    }
    for words in [&["doctor"][..], &["list", "--json"], &["warmup"], &["stop", "box"]] {
        assert!(!run(words, BAD_KEY), "{words:?}");
    }
    assert!(run(&["stop", "box", "--json"], API_KEY));
    let sights = watch.end();

    let mut secrets = vendors.to_vec();
    secrets.extend([BAD_KEY, "PRIVATE KEY"]);
    secrets.extend(private.iter().map(String::as_str));
    is_free_of(&shown, &secrets, "the output");
    // The watch saw what there was to see: the binary, and what it ran on the instance. It sees what the tests beside this
    // one start as well.
    let warmup = "\nwarmup\n--slug\nbox\n--json\n";
    assert!(sights.looks > 100, "{} looks", sights.looks);
    assert!(sights.ours.iter().any(|line| line.contains(warmup)), "{:?}", sights.ours);
    assert!(sights.remote.iter().any(|line| line.contains("sleep 0.3")), "{:?}", sights.remote);
    for line in &sights.ours {
        is_free_of(line, &secrets, "a command line");
    }
    let without_value: Vec<&str> = secrets.iter().copied().filter(|secret| *secret != HANDED_OVER).collect();
    for line in &sights.remote {
        is_free_of(line, &without_value, "a command line on the instance");
    }
    let children = std::fs::read_to_string(children).unwrap();
    assert!(children.contains("PATH="), "{children}");
    for environment in sights.environments.iter().chain([&children]) {
        is_free_of(environment, &[API_KEY, BAD_KEY, HANDED_OVER], "the environment of a child");
    }
}

/// The vendor's own words about a failed start carry credentials: a log's address, a bearer token.
#[test]
fn words_about_a_failed_start_are_redacted() {
    if !real::is_here() {
        return;
    }
    let traveller = Traveller::new(Options { broken_image: true, ..Options::default() });
    for words in [&["warmup", "--json"][..], &["warmup"]] {
        let ended = traveller.run(words);
        assert!(!ended.succeeded());
        assert!(said(&ended).contains("manifest unknown"), "{}", said(&ended));
        let secrets = [Secrets::INSTANCE_KEY, Secrets::JUPYTER, Secrets::SIGNATURE, API_KEY];
        is_free_of(&said(&ended), &secrets, "the failure");
        for path in traveller.records() {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            is_free_of(&text, &secrets, &path.display().to_string());
        }
    }
    assert_eq!(traveller.vendor.open(), [0; 0]);
}

/// How large a core of a process may be, as the system says.
fn core_limit(process: &std::process::Child) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

/// A process that crashes at work leaves no image of its memory: it may not write one, and where the system writes cores
/// there is none. That it cannot be dumped at all is tested where it says so.
#[test]
fn a_crash_leaves_no_core() {
    if !real::is_here() {
        return;
    }
    let traveller = Traveller::new(Options::default());
    let dumping = |words: &[&str]| {
        let unlimited = "ulimit -c unlimited 2>/dev/null || ulimit -c $(ulimit -H -c); exec \"$@\"";
        let mut command = traveller.command(&[]);
        let binary = command.get_program().to_owned();
        let mut shell = Command::new("sh");
        shell.args(["-c", unlimited, "sh"]);
        match words {
            ["sleep", ..] => shell.args(words),
            _ => shell.arg(&binary).args(words),
        };
        command.get_envs().for_each(|(name, value)| {
            shell.env(name, value.unwrap_or_default());
        });
        command.env_clear();
        shell.current_dir(traveller.desk.repo()).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let crash = |mut child: std::process::Child| {
        desk::signal(&child, "ABRT");
        child.wait().unwrap()
    };
    let cores = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(traveller.desk.repo()).unwrap().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
    };
    let control = dumping(&["sleep", "60"]);
    std::thread::sleep(Duration::from_millis(300));
    let (limit, dumped) = (core_limit(&control), crash(control).core_dumped());
    if !dumped {
        eprintln!("this system writes no core: only the limit is tested, which is {limit} otherwise");
    }
    for core in cores() {
        std::fs::remove_file(core).unwrap();
    }
    let stuck = Trap { route: Route::Search, nth: 1, what: What::Spoil(Fault::Mute), after: false };
    traveller.vendor.set(Some(stuck));
    let child = dumping(&["warmup"]);
    while !traveller.vendor.sprung() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(core_limit(&child), "0", "whatever it was given, here {limit}");
    let status = crash(child);
    assert_eq!(status.signal(), Some(6));
    assert!(!status.core_dumped());
    assert!(cores().is_empty(), "{:?}", cores());
}

/// A panic, forced from outside by too little memory for another thread, tells where it happened and nothing secret.
#[test]
fn a_panic_shows_no_secret() {
    if !real::is_here() {
        return;
    }
    let traveller = Traveller::new(Options::default());
    let command = traveller.command(&["list"]);
    let run = |kilobytes: u32| {
        let mut shell = Command::new("sh");
        // Whoever starves may also stand still.
        shell.args(["-c", &format!("ulimit -v {kilobytes}; exec timeout -s KILL 10 \"$@\""), "sh"]);
        shell.arg(command.get_program()).args(command.get_args()).env_clear();
        command.get_envs().for_each(|(name, value)| {
            shell.env(name, value.unwrap_or_default());
        });
        shell.env("RUST_BACKTRACE", "full").current_dir(traveller.desk.repo()).stdin(Stdio::null());
        shell.output().unwrap()
    };
    let mut panics = 0;
    for megabytes in 16..=256 {
        let output = run(megabytes * 1_000);
        let said =
            [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        is_free_of(&said, &[API_KEY, Secrets::INSTANCE_KEY, Secrets::JUPYTER], &format!("{megabytes} MB"));
        panics += usize::from(said.contains("panicked at"));
        if output.status.success() || panics > 0 {
            break;
        }
    }
    assert!(panics > 0, "no limit made it panic: nothing was tested");
}

//! Commands that show things: inspect, providers, version, completions, the manual, and crabbox's other names.

use crate::desk::{Desk, Sim};
use serde_json::json;

#[test]
fn inspect_is_status_one_fact_a_line() {
    let desk = Desk::new();
    let sim = Sim::start(&desk);
    desk.run(&["warmup", "--sim", "--slug", "looker"]).exits(0);
    let text = desk.run(&["inspect", "--sim", "looker"]).exits(0).stdout;
    for line in [
        "slug=looker",
        "provider=vast",
        "state=ready",
        "ready=true",
        "hasHost=true",
        "label.slug=looker",
        "label.keep=true",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(text.starts_with("id=cbx_"), "{text}");
    let inspected = desk.run(&["inspect", "--sim", "-json", "looker"]).exits(0).json();
    let status = desk.run(&["status", "-sim", "-json", "looker"]).exits(0).json();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&inspected), keys(&status));
    assert_eq!(inspected["labels"], status["labels"]);
    let pooled = desk.run(&["pool", "list", "-sim", "-json"]).exits(0).json();
    assert_eq!(pooled[0]["name"], "looker");
    sim.end();
}

#[test]
fn the_provider_is_crabboxs_element() {
    let desk = Desk::new();
    let listed = desk.run(&["providers", "-json"]).exits(0).json();
    assert_eq!(listed[0]["provider"], "vast");
    assert_eq!(listed[0]["classCatalog"], json!({"disposition": "unmapped", "profiles": []}));
    assert!(desk.run(&["providers"]).exits(0).stdout.starts_with("vast family=vast kind=ssh-lease "));
}

#[test]
fn the_version_is_told_in_each_way() {
    let desk = Desk::new();
    let version = env!("CARGO_PKG_VERSION");
    for words in [&["version"][..], &["--version"], &["-version"], &["-V"]] {
        assert_eq!(desk.run(words).exits(0).stdout, format!("crabbox-vast {version}\n"), "{words:?}");
    }
    assert_eq!(desk.run(&["version", "-json"]).exits(0).json()["version"], version);
}

#[test]
fn each_shell_gets_completions_of_every_command() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = desk.run(&["completions", shell]).exits(0).stdout;
        for word in ["warmup", "doctor", "vast-gpu-name", "wait-timeout", "detach"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
        if shell == "bash" {
            let path = desk.folder.path().join("completions");
            std::fs::write(&path, &script).unwrap();
            let checked = std::process::Command::new("bash").arg("-n").arg(&path).status().unwrap();
            assert!(checked.success());
        }
    }
    assert_eq!(
        desk.run(&["completions", "tcsh", "--json"]).exits(2).json()["error"]["code"],
        "invalid_argument"
    );
    assert!(desk.run(&["completions", "fish", "--json"]).exits(0).json()["script"].is_string());
}

#[test]
fn the_manual_has_a_page_for_everything() {
    let desk = Desk::new();
    let page = desk.run(&["man"]).exits(0).stdout;
    assert!(page.contains(".TH crabbox-vast 1") && page.contains("crabbox\\-vast\\-warmup(1)"), "{page}");
    let page = desk.run(&["man", "config", "show"]).exits(0).stdout;
    assert!(page.contains("\\-\\-origin"), "{page}");
    let page = desk.run(&["man", "warmup"]).exits(0).stdout;
    assert!(page.contains("\\-\\-vast\\-gpu\\-name"), "{page}");
    assert_eq!(desk.run(&["man", "nonsense", "-json"]).exits(2).json()["error"]["code"], "invalid_argument");
}

#[test]
fn what_takes_more_than_a_second_shows_that_on_a_terminal() {
    let desk = Desk::plain();
    let sim = Sim::start_with(&desk, &["-api-latency", "1500ms"]);
    let binary = env!("CARGO_BIN_EXE_crabbox-vast");
    let terminal = |words: &str| {
        // util-linux's `script` runs a command on a terminal of its own.
        let surroundings = desk.command(&[]);
        let mut command = std::process::Command::new("script");
        command.args(["-qec", &format!("'{binary}' {words}"), "/dev/null"]).env_clear();
        command.envs(surroundings.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = command.env("TERM", "xterm").current_dir(desk.repo()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(terminal("list --sim").contains("waiting for Vast"));
    assert!(terminal("doctor --sim").contains("asking the API"));
    assert!(!terminal("list --sim --quiet").contains("waiting for Vast"));
    assert_eq!(terminal("list --sim --json").trim(), "[]");
    sim.end();
}

#[test]
fn progress_is_for_terminals() {
    let desk = Desk::new();
    let done = desk.run(&["warmup", "--sim"]).exits(0);
    assert!(!done.stderr.contains('\r') && !done.stderr.contains('\u{1b}'), "{:?}", done.stderr);
}

//! Under `--json` every outcome of every command is one document, and a failure's exit code is that of its code.

use crate::desk::{Desk, Done};
use crabbox_vast_engine::Code;
use serde_json::Value;

/// Every command of the reference, which another test keeps in step; one that stays in the foreground is left out.
fn commands() -> Vec<Vec<String>> {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/commands.md")).unwrap();
    let titles = text.lines().filter_map(|line| line.strip_prefix("## crabbox-vast "));
    let commands: Vec<Vec<String>> = titles
        .filter(|title| *title != "sim")
        .map(|title| title.split(' ').map(str::to_owned).collect())
        .collect();
    assert!(commands.len() > 15, "{commands:?}");
    commands
}

#[track_caller]
fn check(words: &[&str], done: &Done) -> Value {
    let document = done.json();
    let code = done.code.unwrap();
    if code == 0 {
        return document;
    }
    let error = &document["error"];
    let word =
        error["code"].as_str().unwrap_or_else(|| panic!("{words:?} exits {code} without a code: {document}"));
    let known = Code::ALL.iter().find(|known| known.as_str() == word).unwrap_or_else(|| panic!("{word}"));
    // These two have exit codes of their own, and documents of their own.
    if !matches!(words[0], "doctor" | "live-smoke") {
        assert_eq!(i32::from(known.exit_code()), code, "{words:?}: {document}");
        assert_eq!(error["retryable"], known.retryable(), "{words:?}");
        assert_eq!(document.as_object().unwrap().len(), 1, "{words:?}: {document}");
    }
    let message = error["message"].as_str().unwrap_or_default();
    assert!(!message.is_empty() && !message.contains('\n'), "{words:?}: {document}");
    assert!(error["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{words:?}: {document}");
    document
}

#[test]
fn a_word_too_many_or_an_unknown_flag() {
    let desk = Desk::new();
    for command in commands() {
        let mut words: Vec<&str> = command.iter().map(String::as_str).collect();
        words.extend(["--nonsense", "--json"]);
        let done = desk.run(&words).exits(2);
        let document = check(&words, &done);
        assert_eq!(document["error"]["code"], "invalid_argument", "{words:?}");
        assert_eq!(done.stderr, "", "{words:?}");
    }
    for words in [&["--json"][..], &["nonsense", "--json"], &["config", "--json"], &["pool", "--json"]] {
        let done = desk.run(words).exits(2);
        assert_eq!(check(words, &done)["error"]["code"], "invalid_argument", "{words:?}");
    }
}

/// Runs every command, with a word behind it and without, in these surroundings.
fn everywhere(desk: &Desk, surroundings: &[(&str, &str)], gone: &[&str]) -> Vec<(String, i32, Value)> {
    let mut seen = Vec::new();
    for command in commands() {
        for argument in [None, Some("x")] {
            let mut words: Vec<&str> = command.iter().map(String::as_str).collect();
            words.push("--json");
            words.extend(argument);
            let mut command = desk.command(&words);
            command.envs(surroundings.iter().copied());
            gone.iter().for_each(|name| {
                command.env_remove(name);
            });
            let done = Done::of(command.output().unwrap());
            let document = check(&words, &done);
            seen.push((words.join(" "), done.code.unwrap(), document));
        }
    }
    seen
}

fn code_of<'a>(seen: &'a [(String, i32, Value)], words: &str) -> (i32, &'a str) {
    let (_, code, document) =
        seen.iter().find(|(line, ..)| line == words).unwrap_or_else(|| panic!("{words}"));
    (*code, document["error"]["code"].as_str().unwrap_or_default())
}

#[test]
fn without_a_key() {
    let desk = Desk::new();
    let seen = everywhere(&desk, &[], &[]);
    for words in
        ["list --json", "offers --json", "warmup --json", "status --json x", "stop --json x", "run --json x"]
    {
        assert_eq!(code_of(&seen, words), (2, "missing_api_key"), "{words}");
    }
    for words in
        ["status --json", "stop --json", "run --json", "inspect --json", "ssh --json", "touch --json"]
    {
        assert_eq!(code_of(&seen, words), (2, "invalid_argument"), "{words}");
    }
    assert_eq!(code_of(&seen, "doctor --json"), (1, "missing_api_key"));
    assert_eq!(code_of(&seen, "live-smoke --json").0, 0);
    assert_eq!(code_of(&seen, "config show --json").0, 0);
}

/// More than the key was copied: that is no failure of the network.
#[test]
fn with_a_key_that_cannot_be_sent() {
    let desk = Desk::new();
    let seen = everywhere(&desk, &[("VAST_API_KEY", "canary-key\nmore")], &[]);
    for words in ["list --json", "warmup --json", "stop --json x"] {
        assert_eq!(code_of(&seen, words), (2, "invalid_config"), "{words}");
    }
    assert_eq!(code_of(&seen, "doctor --json"), (1, "invalid_config"));
    assert!(seen.iter().all(|(_, _, document)| !document.to_string().contains("canary")));
}

#[test]
fn with_a_setting_that_does_not_fit() {
    let desk = Desk::new();
    let seen = everywhere(&desk, &[("CRABBOX_TTL", "soon"), ("VAST_API_KEY", "canary-key")], &[]);
    for words in ["list --json", "warmup --json", "status --json x", "config show --json"] {
        assert_eq!(code_of(&seen, words), (2, "invalid_config"), "{words}");
    }
    assert_eq!(code_of(&seen, "doctor --json"), (1, "invalid_config"));
    assert_eq!(
        code_of(&seen, "config path --json").0,
        0,
        "a broken setting is no reason not to say where the file is"
    );
    assert!(seen.iter().all(|(_, _, document)| !document.to_string().contains("canary")));
}

#[test]
fn with_a_repository_that_names_the_server() {
    let desk = Desk::new();
    std::fs::write(desk.repo().join("crabbox.yaml"), "vast: {apiUrl: 'https://evil.test'}").unwrap();
    let seen = everywhere(&desk, &[("VAST_API_KEY", "canary-key")], &[]);
    for words in ["list --json", "warmup --json", "stop --json x", "config show --json"] {
        assert_eq!(code_of(&seen, words), (2, "credential_destination"), "{words}");
    }
    assert_eq!(code_of(&seen, "doctor --json"), (1, "credential_destination"));
    assert!(seen.iter().all(|(_, _, document)| !document.to_string().contains("canary")));
}

#[test]
fn without_a_home() {
    let desk = Desk::new();
    let seen = everywhere(&desk, &[("VAST_API_KEY", "key")], &["HOME"]);
    for words in
        ["list --json", "warmup --json", "config path --json", "sim status --json", "sim stop --json"]
    {
        assert_eq!(code_of(&seen, words), (2, "state_unavailable"), "{words}");
    }
}

#[test]
fn with_a_file_that_is_no_yaml() {
    let desk = Desk::new();
    std::fs::write(desk.repo().join("broken.yaml"), "vast: [").unwrap();
    let seen = everywhere(&desk, &[("CRABBOX_CONFIG", "broken.yaml")], &[]);
    assert_eq!(code_of(&seen, "list --json"), (2, "invalid_config"));
    assert_eq!(code_of(&seen, "config show --json"), (2, "invalid_config"));
}

#[test]
fn with_an_api_that_nobody_answers() {
    let desk = Desk::new();
    let mut command = desk.command(&["list", "--json"]);
    command.envs([("VAST_API_KEY", "key"), ("VAST_API_URL", "http://127.0.0.1:1/api/v0")]);
    let done = Done::of(command.output().unwrap()).exits(1);
    let document = check(&["list"], &done);
    assert_eq!(
        (&document["error"]["code"], &document["error"]["retryable"]),
        (&"api_unreachable".into(), &true.into())
    );
}

#[test]
fn flags_that_vast_has_no_machines_for() {
    let desk = Desk::new();
    for flags in [
        &["--class", "beast"][..],
        &["-type", "a100"],
        &["--tailscale"],
        &["--network", "tailscale"],
        &["--desktop"],
        &["--browser"],
        &["--code"],
        &["--target", "windows"],
        &["-provider", "aws"],
    ] {
        for command in ["warmup", "run"] {
            let mut words = vec![command, "--json"];
            words.extend(flags);
            if command == "run" {
                words.extend(["--", "true"]);
            }
            let done = desk.run(&words).exits(2);
            let code = check(&words, &done)["error"]["code"].clone();
            assert!(code == "invalid_argument" || code == "invalid_config", "{words:?}: {code}");
        }
    }
    for flags in [
        &["-provider", "vast-ai"][..],
        &["--provider=vastai"],
        &["-target", "linux"],
        &["-market", "spot"],
        &["-network", "public"],
    ] {
        let mut words = vec!["warmup", "--json"];
        words.extend(flags);
        assert_eq!(
            check(&words, &desk.run(&words).exits(2))["error"]["code"],
            "missing_api_key",
            "{words:?}"
        );
    }
}

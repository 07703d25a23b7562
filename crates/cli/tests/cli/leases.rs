//! The commands that look after leases: claims, cleanup, adopt, forget, stop and start, as a user types them.

use crate::desk::{Desk, Sim};
use serde_json::json;

/// crabbox's state folder of this desk.
fn claims(desk: &Desk) -> std::path::PathBuf {
    let folder = desk.folder.path().join(".config/crabbox/state/claims");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[cfg(target_os = "linux")]
#[test]
fn claims_are_listed_as_crabbox_lists_them() {
    let desk = Desk::new();
    assert_eq!(
        desk.run(&["claims", "list"]).exits(0).stdout,
        "Local claims (unverified local state; provider backends were not queried)\n"
    );
    let folder = claims(&desk);
    let claim = r#"{"leaseID":"cbx_4b6cb0eeb123","slug":"crimson-shrimp","provider":"vast","repoRoot":"/src/a \"b\"",
        "claimedAt":"2026-11-23T21:23:39Z","lastUsedAt":"2026-11-23T21:23:39Z","idleTimeoutSeconds":1800}"#;
    std::fs::write(folder.join("cbx_4b6cb0eeb123.json"), claim).unwrap();
    assert_eq!(
        desk.run(&["claims", "list"]).exits(0).stdout,
        "Local claims (unverified local state; provider backends were not queried)\n\
         - leaseId: \"cbx_4b6cb0eeb123\"\n  slug: \"crimson-shrimp\"\n  provider: \"vast\"\n  \
         repoRoot: \"/src/a \\\"b\\\"\"\n  pond: \"\"\n  targetOS: \"\"\n  windowsMode: \"\"\n  \
         claimedAt: \"2026-11-23T21:23:39Z\"\n  lastUsedAt: \"2026-11-23T21:23:39Z\"\n  idleTimeoutSeconds: 1800\n"
    );
    assert_eq!(
        desk.run(&["claims", "list", "-json"]).exits(0).stdout,
        "{\"version\":1,\"source\":\"local-claims\",\"claims\":[{\"leaseId\":\"cbx_4b6cb0eeb123\",\
         \"slug\":\"crimson-shrimp\",\"provider\":\"vast\",\"repoRoot\":\"/src/a \\\"b\\\"\",\"pond\":\"\",\
         \"targetOS\":\"\",\"windowsMode\":\"\",\"claimedAt\":\"2026-11-23T21:23:39Z\",\
         \"lastUsedAt\":\"2026-11-23T21:23:39Z\",\"idleTimeoutSeconds\":1800}],\"problems\":[]}\n"
    );

    std::fs::write(folder.join("broken.json"), "{").unwrap();
    std::fs::write(folder.join("cbx_000000000001.json"), claim).unwrap();
    std::fs::write(folder.join("nameless.json"), "{}").unwrap();
    std::fs::write(folder.join("odd:name.json"), "{}").unwrap();
    std::fs::write(folder.join("huge.json"), " ".repeat((1 << 20) + 1)).unwrap();
    std::fs::create_dir(folder.join("folder.json")).unwrap();
    let listed = desk.run(&["claims", "list", "--json"]).exits(2).json();
    assert_eq!(listed["claims"].as_array().unwrap().len(), 1);
    let problems: Vec<(String, String)> = listed["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| {
            assert!(!problem["message"].as_str().unwrap().is_empty());
            (problem["file"].as_str().unwrap().to_owned(), problem["code"].as_str().unwrap().to_owned())
        })
        .collect();
    let named =
        |file: &str| problems.iter().find(|problem| problem.0 == file).map(|problem| problem.1.as_str());
    assert_eq!(named("broken.json"), Some("invalid_json"));
    assert_eq!(named("cbx_000000000001.json"), Some("lease_id_mismatch"));
    assert_eq!(named("nameless.json"), Some("empty_lease_id"));
    assert_eq!(named("huge.json"), Some("claim_too_large"));
    assert_eq!(named("folder.json"), Some("non_regular_file"));
    assert!(
        problems.iter().any(|(file, code)| file.starts_with("sha256:") && code == "invalid_filename"),
        "{problems:?}"
    );
    let error = &listed["error"];
    assert_eq!((&error["code"], &error["retryable"]), (&json!("claim_corrupt"), &json!(false)));
    assert!(error["message"].as_str().unwrap().ends_with("; and 5 more"), "{error}");
    assert!(error["hint"].is_string() && error["details"]["files"].as_array().unwrap().len() == 6, "{error}");
    let text = desk.run(&["claims", "list"]).exits(2);
    assert!(text.stdout.contains("  code: \"invalid_json\"\n") && text.stderr.is_empty(), "{}", text.stdout);
}

#[test]
fn a_lease_is_stopped_started_cleaned_up_forgotten_and_adopted() {
    let desk = Desk::new();
    let sim = Sim::start(&desk);
    let kept = desk.run(&["warmup", "--sim", "--json", "--slug", "kept"]).exits(0).json();
    let (lease, instance) = (kept["id"].as_str().unwrap(), kept["instance"].to_string());
    let instance = instance.trim_matches('"');

    let skip = format!("skip server id={instance} name=kept reason=keep=true\n");
    let dry = desk.run(&["cleanup", "--sim", "-dry-run"]).exits(0);
    assert!(dry.stdout.is_empty());
    assert!(dry.stderr.contains(&skip), "{}", dry.stderr);
    assert!(dry.stderr.ends_with("cleanup: dry run, 0 to do, 1 skipped\n"), "{}", dry.stderr);
    let swept = desk.run(&["machine", "cleanup", "--sim", "--json"]).exits(0).json();
    assert_eq!(swept["summary"]["skipped"], 1);
    assert_eq!(swept["items"][0]["reason"], "keep=true");

    for words in [&["stop", "--sim", "--reclaim", "kept"][..], &["stop", "--sim", "kept", "extra"]] {
        desk.run(words).exits(2);
    }
    let line = desk.run(&["stop", "--sim", "--vast-release-action", "stop", "kept"]).exits(0).stderr;
    assert!(line.contains(&format!("stop lease={lease} vast={instance} name=kept")), "{line}");
    let started = desk.run(&["start", "--sim", "kept"]).exits(0);
    assert!(
        started.stderr.contains("deadman not armed: the lease is kept and no ttl was given"),
        "{}",
        started.stderr
    );
    let started = started.stdout;
    assert!(
        started.starts_with(&format!("started {lease} slug=kept provider=vast server={instance} ")),
        "{started}"
    );
    assert!(started.contains("\nready ssh="), "{started}");

    let refused = desk.run(&["forget", "--sim", "--json", "kept"]).exits(2).json();
    assert_eq!(refused["error"]["code"], "confirmation_needed");
    let forgotten = desk.run(&["forget", "--sim", "--yes", "kept"]).exits(0).stderr;
    assert!(forgotten.contains("exists and bills at $"), "{forgotten}");
    assert!(
        forgotten.contains(&format!("forgot lease={lease} vast={instance} name=kept gone=false")),
        "{forgotten}"
    );

    let dry = desk.run(&["cleanup", "--sim", "--dry-run"]).exits(0).stderr;
    assert!(
        dry.contains(&format!("delete server id={instance} name=kept\ncleanup: would not be done: ")),
        "{dry}"
    );
    assert!(dry.ends_with("cleanup: dry run, 0 to do, 0 skipped, 1 refused\n"), "{dry}");
    let dry = desk.run(&["cleanup", "--sim", "--dry-run", "--json"]).exits(0).json();
    assert_eq!((&dry["items"][0]["outcome"], &dry["summary"]["planned"]), (&json!("refused"), &json!(0)));
    assert_eq!((&dry["items"][0]["error"]["code"], dry.get("error")), (&json!("claim_missing"), None));
    let unclaimed = desk.run(&["cleanup", "--sim", "--json"]).exits(2).json();
    assert_eq!(unclaimed["items"][0]["outcome"], "refused");
    assert_eq!(unclaimed["error"]["code"], "claim_missing");
    let adopted = desk.run(&["adopt", "--sim", "--json", instance]).exits(0).json();
    assert_eq!((&adopted["id"], &adopted["keyAttached"]), (&json!(lease), &json!(true)));
    assert_eq!(
        (&adopted["deadman"]["armed"], &adopted["deadman"]["confirmed"]),
        (&json!(true), &json!(true)),
        "{adopted}"
    );
    let again = desk.run(&["adopt", "--sim", instance]).exits(0);
    assert!(again.stderr.contains("deadman armed until 20"), "{}", again.stderr);
    let gone = desk.run(&["stop", "--sim", "--vast-release-action", "destroy", "kept"]).exits(0).stderr;
    assert!(gone.contains(&format!("destroyed lease={lease} vast={instance} name=kept")), "{gone}");
    assert_eq!(desk.run(&["list", "--sim", "--json"]).exits(0).stdout, "[]\n");
    sim.end();
}

/// A start is held to the limits that stand on its command line.
#[test]
fn a_start_has_the_flags_of_what_it_may_cost() {
    let desk = Desk::new();
    let _sim = Sim::start(&desk);
    desk.run(&["warmup", "--sim", "--keep=false", "--slug", "dear"]).exits(0);
    desk.run(&["stop", "--sim", "--vast-release-action", "stop", "dear"]).exits(0);
    for limit in [["--max-cost", "0.01"], ["--vast-max-cost-per-day", "0.01"]] {
        let refused = desk.run(&["start", "--sim", "--json", limit[0], limit[1], "dear"]).exits(5).json();
        assert_eq!(refused["error"]["code"], "cost_limit_exceeded", "{refused}");
    }
    let capped =
        desk.run(&["start", "--sim", "--json", "--vast-max-dph-total", "0.01", "dear"]).exits(5).json();
    assert_eq!(capped["error"]["code"], "price_cap_exceeded", "{capped}");
    let started = desk.run(&["start", "--sim", "--json", "--max-cost", "50", "dear"]).exits(0).json();
    assert_eq!(started["slug"], "dear");
    desk.run(&["stop", "--sim", "--vast-release-action", "destroy", "dear"]).exits(0);
}

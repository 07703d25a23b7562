//! Doctor on the real disk against the simulator: crabbox's lines and document, and each finding of ours.

use crate::bench::Bench;
use crabbox_vast_engine::Call;
use crabbox_vast_engine::config::{Overrides, Settings, Snapshot, resolve};
use crabbox_vast_engine::ops::doctor::{DoctorReport, Verdict, doctor};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const LEASE: &str = "cbx_0123456789ab";

struct Desk {
    bench: Bench,
    snapshot: Snapshot,
}

impl Desk {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let home = bench.home.path().display().to_string();
        let mut snapshot = Snapshot { cwd: bench.home.path().to_owned(), ..Snapshot::default() };
        for (name, value) in [
            ("HOME", home.clone()),
            ("PATH", format!("{home}/nowhere:{home}/bin")),
            ("XDG_STATE_HOME", format!("{home}/state")),
            ("XDG_CONFIG_HOME", format!("{home}/config")),
            ("CRABBOX_PROVIDER", "vast".to_owned()),
            ("CRABBOX_VAST_API_KEY", bench.sim.api_key().to_owned()),
            ("CRABBOX_VAST_API_URL", bench.sim.url()),
        ] {
            snapshot.vars.insert(name.to_owned(), value);
        }
        let desk = Self { bench, snapshot };
        for tool in ["git", "ssh", "ssh-keygen", "rsync"] {
            desk.put(&format!("bin/{tool}"), "#!/bin/sh\n", 0o755);
        }
        desk.folder("state/crabbox");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.home.path().join(name)
    }

    fn folder(&self, name: &str) {
        std::fs::create_dir_all(self.path(name)).unwrap();
        mode(&self.path(name), 0o700);
    }

    fn put(&self, name: &str, text: &str, bits: u32) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        mode(self.path(name).parent().unwrap(), 0o700);
        std::fs::write(self.path(name), text).unwrap();
        mode(&self.path(name), bits);
    }

    fn var(&mut self, name: &str, value: &str) -> &mut Self {
        self.snapshot.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    async fn report(&self) -> DoctorReport {
        let settings: Result<Settings, _> = resolve(&self.snapshot, &Overrides::new());
        doctor(&self.bench.world(), &self.snapshot, settings.as_ref().map_err(again), None, &Call::default())
            .await
    }
}

/// Errors are not cloned: a report needs its own.
fn again(error: &crabbox_vast_engine::Error) -> crabbox_vast_engine::Error {
    let mut copy = crabbox_vast_engine::Error::new(error.code(), error.to_string());
    for (name, value) in error.details() {
        copy = copy.with(name, value.clone());
    }
    copy
}

fn mode(path: &Path, bits: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).unwrap();
}

fn check(report: &DoctorReport, name: &str) -> Value {
    let document = report.to_json();
    let checks = document["checks"].as_array().unwrap().clone();
    checks.into_iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name}: {document}"))
}

#[tokio::test]
async fn a_healthy_desk_prints_crabboxs_lines() {
    let desk = Desk::new().await;
    let report = desk.report().await;
    let home = desk.bench.home.path().display().to_string();
    let lines: Vec<String> = report.lines().iter().map(|line| line.replace(&home, "~")).collect();
    let crabbox = "\
ok      provider-selection provider=vast source=environment selected=true
ok      git      ~/bin/git
ok      ssh      ~/bin/ssh
ok      ssh-keygen ~/bin/ssh-keygen
ok      rsync    ~/bin/rsync
ok      ssh-key  per-lease
ok      provider provider=vast timeout=10s auth=ready control_plane=ready inventory=ready api=list mutation=false leases=0 runtime=unchecked default_order=dlperf_per_dphtotal desc runtype=ssh_direct user=root";
    let theirs: Vec<&String> =
        lines.iter().filter(|line| crabbox.lines().any(|wanted| wanted == line.as_str())).collect();
    assert_eq!(theirs.len(), 7, "{lines:#?}");
    let ours: Vec<&str> = lines
        .iter()
        .filter(|line| !theirs.contains(line))
        .map(|line| line.split_whitespace().nth(1).unwrap())
        .collect();
    assert_eq!(
        ours,
        ["state", "claims", "keys", "journal", "inventory", "scopes", "billing", "search", "clock"]
    );
    assert!(report.ok() && report.error.is_none() && report.remedies().is_empty(), "{lines:#?}");
    assert_eq!(
        check(&report, "provider")["details"],
        json!({"api":"list","auth":"ready","control_plane":"ready","default_order":"dlperf_per_dphtotal","inventory":"ready","leases":"0","mutation":"false","provider":"vast","runtime":"unchecked","runtype":"ssh_direct","timeout":"10s","user":"root"})
    );
    assert_eq!(check(&report, "ssh-key")["details"], json!({"mode": "per-lease"}));
    assert_eq!(check(&report, "git")["details"], json!({"path": format!("{home}/bin/git"), "tool": "git"}));
    assert_eq!(
        check(&report, "provider-selection"),
        json!({"status":"ok","check":"provider-selection","provider":"vast","message":"provider=vast source=environment selected=true","details":{"provider":"vast","selected":"true","source":"environment"}})
    );
    assert!(
        check(&report, "scopes")["message"]
            .as_str()
            .unwrap()
            .starts_with("user_read=ok instance_read=ok misc=ok")
    );
    assert!(check(&report, "clock")["details"]["skew"].is_string());
    let keys: Vec<String> = report.to_json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["ok", "provider", "checks"]);
}

#[tokio::test]
async fn the_failures_have_crabboxs_classes() {
    for (name, value, class, word, text) in [
        (
            "CRABBOX_VAST_API_KEY",
            "",
            "provider",
            "check_provider_auth_and_config",
            "provider=vast requires CRABBOX_VAST_API_KEY or VAST_API_KEY",
        ),
        ("CRABBOX_VAST_API_KEY", "canary-bad-key", "auth", "check_provider_auth_and_config", "auth_error"),
        (
            "CRABBOX_VAST_API_URL",
            "http://vast.test/api/v0",
            "provider",
            "check_provider_auth_and_config",
            "vast.apiUrl must use https unless it targets localhost",
        ),
        (
            "CRABBOX_VAST_API_URL",
            "http://127.0.0.1:1/api/v0",
            "network",
            "check_network_and_provider_endpoint",
            "GET /users/current/",
        ),
    ] {
        let mut desk = Desk::new().await;
        desk.var(name, value);
        let report = desk.report().await;
        let found = check(&report, "provider");
        assert!(!report.ok() && report.error.is_some(), "{name}={value}");
        assert_eq!(found["status"], "failed");
        let details = &found["details"];
        assert_eq!(
            (&details["class"], &details["hint"]),
            (&json!(class), &json!(word)),
            "{name}={value}: {found}"
        );
        assert_eq!((&details["provider"], &details["timeout"]), (&json!("vast"), &json!("10s")));
        let message = found["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("provider=vast class={class} hint={word} ")), "{message}");
        assert!(message.contains(text) && !message.contains("canary"), "{message}");
        assert_eq!(check(&report, "git")["status"], "ok", "the tools are looked at all the same");
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_a_timeout() {
    let desk = Desk::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut hung = desk;
    let address = listener.local_addr().unwrap();
    hung.var("CRABBOX_VAST_API_URL", &format!("http://{address}/api/v0"));
    tokio::time::pause();
    let found = check(&hung.report().await, "provider");
    assert_eq!(found["details"]["class"], "timeout", "{found}");
    assert_eq!(found["details"]["hint"], "retry_or_check_provider_status");
}

#[tokio::test]
async fn a_missing_tool_is_a_warning() {
    let desk = Desk::new().await;
    std::fs::remove_file(desk.path("bin/rsync")).unwrap();
    std::fs::create_dir(desk.path("bin/rsync")).unwrap();
    mode(&desk.path("bin/git"), 0o644);
    let report = desk.report().await;
    for tool in ["git", "rsync"] {
        let found = check(&report, tool);
        assert_eq!(
            (&found["status"], &found["message"]),
            (&json!("warning"), &json!("not found on PATH")),
            "{found}"
        );
    }
    assert!(report.ok(), "nothing of ours needs them");
    assert_eq!(report.remedies().len(), 2);
}

#[tokio::test]
async fn a_configuration_that_others_can_read_fails() {
    let desk = Desk::new().await;
    desk.put("config/crabbox/config.yaml", "provider: vast\n", 0o600);
    assert_eq!(check(&desk.report().await, "config")["status"], "ok");
    mode(&desk.path("config/crabbox/config.yaml"), 0o640);
    let report = desk.report().await;
    let found = check(&report, "config");
    assert_eq!((&found["status"], &found["details"]), (&json!("failed"), &Value::Null), "{found}");
    assert!(found["message"].as_str().unwrap().ends_with("is open to others: mode 0640"));
    assert_eq!(report.to_json()["error"]["code"], "doctor_failed");
    assert!(report.remedies()[0].starts_with("config: chmod 600 "), "{:?}", report.remedies());
}

#[tokio::test]
async fn what_a_configuration_says_to_no_effect_is_a_warning() {
    let mut desk = Desk::new().await;
    desk.put("config/crabbox/config.yaml", "vast: {maxDphTotl: 0.1}\n", 0o600);
    let report = desk.report().await;
    let found = check(&report, "config");
    assert_eq!(found["status"], "warning", "{found}");
    assert!(found.to_string().contains("did you mean `vast.maxDphTotal`?"), "{found}");
    desk.var("CRABBOX_CONFIG", "elsewhere.yaml");
    let report = desk.report().await;
    let found = check(&report, "config");
    assert_eq!(found["status"], "warning", "{found}");
    assert!(found.to_string().contains("elsewhere.yaml, which is not there"), "{found}");
}

#[tokio::test]
async fn settings_that_do_not_fit_are_a_finding() {
    let mut desk = Desk::new().await;
    desk.var("CRABBOX_TTL", "soon");
    let report = desk.report().await;
    let found = check(&report, "settings");
    assert_eq!(found["status"], "failed");
    assert!(found["message"].as_str().unwrap().contains("CRABBOX_TTL"), "{found}");
    assert_eq!(report.to_json()["error"]["code"], "invalid_config");
    assert_eq!(check(&report, "state")["status"], "ok");
}

#[tokio::test]
async fn records_that_need_a_look_are_found_and_left_alone() {
    let desk = Desk::new().await;
    let claim = format!("state/crabbox/claims/{LEASE}.json");
    desk.put(&claim, "{ half a claim", 0o600);
    desk.put("config/crabbox/testboxes/cbx_aaaaaaaaaaaa/id_ed25519", "key", 0o600);
    desk.folder("config/crabbox/testboxes");
    desk.put(&format!("config/crabbox/testboxes/{LEASE}/id_ed25519"), "key", 0o600);
    let report = desk.report().await;
    let claims = check(&report, "claims");
    assert_eq!(
        (&claims["status"], &claims["details"]["corrupt"]),
        (&json!("warning"), &json!("1")),
        "{claims}"
    );
    assert_eq!(claims["details"]["files"], format!("{LEASE}.json"));
    let keys = check(&report, "keys");
    assert_eq!(
        (&keys["status"], &keys["details"]["orphans"]),
        (&json!("warning"), &json!("cbx_aaaaaaaaaaaa")),
        "{keys}"
    );
    assert!(report.ok());
    assert_eq!(std::fs::read_to_string(desk.path(&claim)).unwrap(), "{ half a claim");
    mode(&desk.path(&format!("config/crabbox/testboxes/{LEASE}/id_ed25519")), 0o644);
    let report = desk.report().await;
    assert_eq!(check(&report, "keys")["status"], "failed", "a private key that others can read");
    assert!(!report.ok());
}

#[tokio::test]
async fn a_create_that_was_given_up_is_no_lost_claim() {
    for (outcome, status) in [("nothing: proved by the complete list", "ok"), ("ambiguous: reset", "warning")]
    {
        let desk = Desk::new().await;
        let journal = json!({
            "version": 1, "lease": LEASE, "request": {"image": "a/b:1"},
            "attempts": [{"offer": 1, "price": 0.1, "started_at": 1, "outcome": outcome}],
        });
        desk.put(&format!("state/crabbox/vast-journal/{LEASE}.json"), &journal.to_string(), 0o600);
        let report = desk.report().await;
        let found = check(&report, "journal");
        assert_eq!(
            (&found["status"], &found["details"]["journals"]),
            (&json!(status), &json!("1")),
            "{found}"
        );
    }
}

#[tokio::test]
async fn folders_are_checked_and_never_made() {
    let mut desk = Desk::new().await;
    desk.folder("state/crabbox/claims");
    mode(&desk.path("state/crabbox/claims"), 0o755);
    let state = check(&desk.report().await, "state");
    assert_eq!(state["status"], "warning");
    assert!(state["hint"].as_str().unwrap().contains("chmod 700"), "{state}");
    // A file stands where a folder would have to be made.
    desk.put("file", "", 0o600);
    let blocked = desk.path("file/state").display().to_string();
    desk.var("XDG_STATE_HOME", &blocked);
    let state = check(&desk.report().await, "state");
    assert_eq!(
        (&state["status"], &state["details"]["writable"]),
        (&json!("failed"), &json!("false")),
        "{state}"
    );
    let fresh = desk.path("fresh").display().to_string();
    desk.var("XDG_STATE_HOME", &fresh);
    let report = desk.report().await;
    assert_eq!(check(&report, "state")["details"]["exists"], "false");
    assert_eq!(check(&report, "state")["status"], "ok");
    let settings = resolve(&desk.snapshot, &Overrides::new()).unwrap();
    assert!(!settings.paths.claims().exists() && !settings.paths.claim_locks().exists());
}

#[tokio::test]
async fn an_instance_that_came_back_is_reported() {
    use crabbox_vast_engine::lease::{InstanceId, LeaseId};
    use crabbox_vast_engine::store::{Journal, StepKind};
    let desk = Desk::new().await;
    let engine = desk.bench.engine();
    let id = desk.bench.sim.with_world(|world, now| {
        let mut request = crabbox_vast_sim::api::Request::new("POST", "/_sim/instances");
        request.bearer = Some(desk.bench.sim.api_key().to_owned());
        request.body = b"{\"label\":\"x\"}".to_vec();
        world.handle(now, &request).body_json()["id"].as_u64().unwrap()
    });
    let lease = LeaseId::parse(LEASE).unwrap();
    let mut journal = Journal::new(&lease, "x", "1@bench", 1);
    journal.begin(StepKind::Destroy, InstanceId(id), 2);
    journal.proved(StepKind::Destroy, InstanceId(id), 3);
    engine.store().write_journal(&journal).await.unwrap();
    let report = desk.report().await;
    let inventory = check(&report, "inventory");
    assert_eq!(
        (&inventory["status"], &inventory["details"]["foreign"]),
        (&json!("warning"), &json!("1")),
        "{inventory}"
    );
    assert!(inventory["hint"].as_str().unwrap().contains(&id.to_string()));
    assert_eq!(check(&report, "journal")["details"]["tombstones"], "1");
    assert!(report.checks.iter().all(|check| check.verdict != Verdict::Failed));
}

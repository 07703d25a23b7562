//! Each kind of claim file that crabbox writes, through each operation: what comes out is right, and what crabbox needs
//! is still in the file.

use crate::support::{mutations, open, pass, rented_elsewhere, run_on, stop};
use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::Code;
use crabbox_vast_engine::lease::{LeaseId, ReleaseAction};
use crabbox_vast_engine::ops::{CleanupRequest, ReleaseOutcome, ReleaseRequest, StartRequest, claims};
use serde_json::{Map, Value, json};
use std::time::Duration;

const LEASE: &str = "cbx_3f9a1c7be204";
/// Where the world's clock begins.
const BEGIN: i64 = 1_780_000_000;

/// One of crabbox's claim files.
#[derive(Debug, Clone, Copy)]
struct File {
    lease: &'static str,
    /// The state, which is also the recovery where it is one.
    state: &'static str,
    bound: bool,
    keep: bool,
    action: &'static str,
}

const READY: File = File { lease: LEASE, state: "ready", bound: true, keep: true, action: "destroy" };
const AMBIGUOUS: File = File { state: "ambiguous-create", bound: false, keep: false, ..READY };
const ROLLBACK: File = File { state: "rollback-cleanup", keep: false, ..READY };
const STOPPED: File = File { state: "stopped", keep: false, action: "stop", ..READY };
/// The name that crabbox gives a lease where the system has no randomness.
const OF_TIME: File = File { lease: "cbx_20260821091407", keep: false, ..READY };

struct Desk {
    stage: Stage,
    process: Process,
    file: File,
    instance: u64,
    before: Map<String, Value>,
}

impl Desk {
    /// The file, and the instance it is about.
    async fn new(file: File) -> Self {
        let stage = Stage::new();
        let process = stage.process();
        let remote = if file.state == "stopped" { "stopped" } else { "ready" };
        let instance = rented_elsewhere(&stage, &format!("cbx1|{}|tidal-barnacle|{remote}", file.lease));
        if file.state == "stopped" {
            process
                .engine
                .client()
                .set_state_if(crabbox_vast_engine::lease::InstanceId(instance), "stopped", || async {
                    Ok(())
                })
                .await
                .unwrap();
            pass(Duration::from_secs(10)).await;
        }
        let account = process.engine.client().account().await.unwrap().id.to_string();
        let before = document(file, instance, &account);
        let folder = stage.settings().paths.claims();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{}.json", file.lease)), to_text(&before)).unwrap();
        mutations(&stage);
        Self { stage, process, file, instance, before }
    }

    fn path(&self) -> std::path::PathBuf {
        self.stage.settings().paths.claims().join(format!("{}.json", self.file.lease))
    }

    fn now(&self) -> Map<String, Value> {
        serde_json::from_slice(&std::fs::read(self.path()).expect("the file is there")).expect("JSON")
    }

    /// Everything that crabbox reads of a claim and that an operation is not about is as it was.
    fn nothing_lost(&self, but: &[&str], what: &str) {
        let (before, after) = (flat(&self.before), flat(&self.now()));
        for (name, value) in &before {
            let changed = after.get(name) != Some(value);
            assert_eq!(
                changed,
                changed && but.contains(&name.as_str()),
                "{what}: {name} was {value}, is {:?}",
                after.get(name)
            );
        }
        assert!(after.contains_key("revision"), "{what}");
    }

    fn untouched(&self, what: &str) {
        assert_eq!(self.now(), self.before, "{what} must not write");
    }
}

fn document(file: File, instance: u64, account: &str) -> Map<String, Value> {
    let begun = BEGIN - 600;
    let mut labels = json!({
        "class": "beast", "crabbox": "true", "created_at": begun.to_string(), "created_by": "crabbox",
        "expires_at": (begun + 1800).to_string(), "idle_timeout": "1800", "idle_timeout_secs": "1800",
        "keep": file.keep.to_string(), "last_touched_at": begun.to_string(), "lease": file.lease,
        "profile": "default", "provider": "vast",
        "provider_key": format!("crabbox-{}", file.lease.replace('_', "-")),
        "release_action": file.action, "server_type": "unknown", "slug": "tidal-barnacle", "state": file.state,
        "target": "linux", "ttl_secs": "5400", "vast_account_id": account,
        "vast_api_url": "http://127.0.0.1:9/api/v0"
    });
    let mut claim = json!({
        "leaseID": file.lease, "revision": "9d3c5b0e7f2a41c6b8e0d1a2934f5c67", "slug": "tidal-barnacle",
        "provider": "vast", "repoRoot": "/home/dev/src/trainer", "claimedAt": "2026-05-28T20:16:40Z",
        "lastUsedAt": "2026-05-28T20:16:40Z", "idleTimeoutSeconds": 1800, "pond": "lab",
        "cacheVolumes": ["hub:/cache"]
    });
    if matches!(file.state, "ambiguous-create" | "rollback-cleanup") {
        labels["recovery"] = json!(file.state);
    }
    if file.bound {
        claim["cloudID"] = json!(instance.to_string());
        labels["provider_key_id"] = json!("530911");
        labels["provider_key_owned"] = json!("true");
    }
    if matches!(file.state, "ready" | "stopped") {
        claim["sshHost"] = json!("ssh5.vast.ai");
        claim["sshPort"] = json!(31836);
        labels["vast_offer_id"] = json!("21837465");
    }
    claim["labels"] = labels;
    claim.as_object().expect("an object").clone()
}

fn to_text(document: &Map<String, Value>) -> String {
    serde_json::to_string_pretty(document).expect("JSON") + "\n"
}

fn flat(file: &Map<String, Value>) -> Map<String, Value> {
    let mut all = file.clone();
    let labels = all.remove("labels").expect("labels");
    let labels = labels.as_object().expect("labels").clone();
    all.extend(labels.into_iter().map(|(key, value)| (format!("labels.{key}"), value)));
    all
}

const USE: &[&str] = &["revision", "lastUsedAt", "labels.last_touched_at", "labels.expires_at"];

/// What only looks never writes: list and status, by each name that the lease has.
#[tokio::test(start_paused = true)]
async fn looking_changes_no_claim_of_any_kind() {
    for file in [READY, AMBIGUOUS, ROLLBACK, STOPPED, OF_TIME] {
        let desk = Desk::new(file).await;
        let listed = desk.process.engine.list(false, &desk.stage.call()).await.expect("lists");
        assert_eq!(listed.len(), 1, "{file:?}");
        desk.untouched("list");
        let claims = claims::list(desk.process.engine.store()).await.expect("lists");
        assert_eq!((claims.claims.len(), claims.problems.len()), (1, 0), "{file:?}");
        assert_eq!(claims.claims[0].lease_id, file.lease);
        let mut names = vec![file.lease.to_owned(), "tidal-barnacle".to_owned(), "Tidal Barnacle".to_owned()];
        names.extend(file.bound.then(|| desk.instance.to_string()));
        for name in names {
            let status = desk.process.engine.status(&name, &desk.stage.call()).await;
            let status = status.unwrap_or_else(|error| panic!("{file:?} by {name}: {error}"));
            assert_eq!((status.id.as_str(), status.slug.as_str()), (file.lease, "tidal-barnacle"), "{name}");
            assert_eq!(status.keep, file.keep, "{file:?}");
            desk.untouched("status");
        }
        assert_eq!(mutations(&desk.stage), Vec::<String>::new(), "{file:?}");
    }
}

/// A use moves the times of a lease that lives, and no other's.
#[tokio::test(start_paused = true)]
async fn a_touch_moves_the_times_and_nothing_else() {
    for file in [READY, OF_TIME] {
        let desk = Desk::new(file).await;
        pass(Duration::from_secs(30)).await;
        let touched = desk.process.engine.touch(file.lease, None, &desk.stage.call()).await;
        let touched = touched.unwrap_or_else(|error| panic!("{file:?}: {error}"));
        assert_eq!((touched.id.as_str(), touched.state.as_str()), (file.lease, file.state), "{file:?}");
        desk.nothing_lost(USE, "touch");
        assert_ne!(desk.now()["revision"], desk.before["revision"], "{file:?}");
        assert_eq!(desk.now()["labels"]["last_touched_at"], (desk.stage.unix_now()).to_string(), "{file:?}");
    }
    // What was stopped is not revived, and what is to be recovered is not taken for a lease in use.
    for (file, code) in [
        (STOPPED, Code::InstanceNotRunning),
        (AMBIGUOUS, Code::InstanceNotRunning),
        (ROLLBACK, Code::InstanceNotRunning),
    ] {
        let desk = Desk::new(file).await;
        let refused = desk.process.engine.touch(LEASE, None, &desk.stage.call()).await;
        assert_eq!(refused.map(|_| ()).map_err(|error| error.code()), Err(code), "{file:?}");
        desk.untouched("a refused touch");
    }
}

/// What each may be used for: commands where it runs, a start where it was stopped, and neither before it is bound.
#[tokio::test(start_paused = true)]
async fn a_use_is_allowed_where_the_state_allows_it() {
    for (file, code) in [(AMBIGUOUS, Code::InvalidState), (STOPPED, Code::InstanceNotRunning)] {
        let desk = Desk::new(file).await;
        let process =
            desk.stage.process_with(None, |settings| settings.repo_root = "/home/dev/src/trainer".into());
        let refused = run_on(&process.engine, Some(file.lease), false, &desk.stage.call()).await;
        assert_eq!(refused.map(|_| ()).map_err(|error| error.code()), Err(code), "{file:?}");
        desk.untouched("a refused run");
        assert_eq!(open(&desk.stage), [desk.instance], "{file:?}");
    }
    for file in [READY, OF_TIME] {
        let desk = Desk::new(file).await;
        let adopt =
            crabbox_vast_engine::ops::AdoptRequest { identifier: file.lease.into(), ..Default::default() };
        desk.process.engine.adopt(&adopt, &desk.stage.call()).await.expect("a key of this machine");
        let elsewhere = run_on(&desk.process.engine, Some("tidal-barnacle"), false, &desk.stage.call()).await;
        let elsewhere = elsewhere.map(|_| ()).expect_err("it is bound to another repository");
        assert_eq!(elsewhere.code(), Code::RepositoryMismatch);
        desk.untouched("a refused run");
        let process =
            desk.stage.process_with(None, |settings| settings.repo_root = "/home/dev/src/trainer".into());
        run_on(&process.engine, Some(&desk.instance.to_string()), false, &desk.stage.call())
            .await
            .expect("runs");
        let but = [USE, &["sshHost", "sshPort"]].concat();
        desk.nothing_lost(&but, "run");
        assert_eq!(desk.now()["labels"]["state"], "ready");
    }
    let desk = Desk::new(STOPPED).await;
    let adopt = crabbox_vast_engine::ops::AdoptRequest { identifier: LEASE.into(), ..Default::default() };
    desk.process.engine.adopt(&adopt, &desk.stage.call()).await.expect("a key of this machine");
    let request = StartRequest { identifier: "tidal-barnacle".into() };
    desk.process.engine.start(&request, &desk.stage.call()).await.expect("starts");
    let but = [USE, &["sshHost", "sshPort", "labels.state"]].concat();
    desk.nothing_lost(&but, "start");
    assert_eq!(desk.now()["labels"]["state"], "ready");
    // And what was recorded about its end still stands: it is stopped, not destroyed.
    let stopped = stop(&desk.process.engine, LEASE, &desk.stage.call()).await.expect("stops");
    assert_eq!((stopped.action, stopped.outcome), (ReleaseAction::Stop, ReleaseOutcome::Stopped));
    desk.nothing_lost(&but, "stop");
    assert_eq!(open(&desk.stage), [desk.instance]);
}

/// A stop ends each of them as its file says, by whatever name.
#[tokio::test(start_paused = true)]
async fn a_stop_ends_each_as_its_file_says() {
    for file in [READY, AMBIGUOUS, ROLLBACK, OF_TIME] {
        let mut names = vec![file.lease.to_owned(), "tidal-barnacle".to_owned()];
        for index in 0..3 {
            let desk = Desk::new(file).await;
            if index == 2 && !file.bound {
                continue;
            }
            names.push(desk.instance.to_string());
            let name = &names[index.min(names.len() - 1)];
            let stopped = stop(&desk.process.engine, name, &desk.stage.call()).await;
            let stopped = stopped.unwrap_or_else(|error| panic!("{file:?} by {name}: {error}"));
            assert_eq!(stopped.outcome, ReleaseOutcome::Destroyed, "{file:?}");
            assert_eq!(
                stopped.line(),
                format!("destroyed lease={} vast={} name=tidal-barnacle", file.lease, desk.instance)
            );
            assert!(open(&desk.stage).is_empty() && desk.stage.claims().is_empty(), "{file:?}");
            names.truncate(2);
        }
    }
    let desk = Desk::new(STOPPED).await;
    let again = stop(&desk.process.engine, "tidal-barnacle", &desk.stage.call()).await.expect("is stopped");
    assert_eq!((again.action, again.outcome), (ReleaseAction::Stop, ReleaseOutcome::Stopped));
    desk.nothing_lost(&["revision"], "a second stop");
    assert_eq!(open(&desk.stage), [desk.instance]);
    let request = ReleaseRequest { identifier: LEASE.into(), action: Some(ReleaseAction::Destroy) };
    desk.process.engine.release(&request, &desk.stage.call()).await.expect("destroys");
    assert!(open(&desk.stage).is_empty() && desk.stage.claims().is_empty());
}

/// Where the unanswered create left nothing, a stop says so and clears the file.
#[tokio::test(start_paused = true)]
async fn an_unanswered_create_that_left_nothing_is_cleared() {
    let desk = Desk::new(AMBIGUOUS).await;
    let instance = crabbox_vast_engine::lease::InstanceId(desk.instance);
    desk.process.engine.client().destroy_if(instance, || async { Ok(()) }).await.unwrap();
    pass(Duration::from_secs(600)).await;
    let stopped = stop(&desk.process.engine, LEASE, &desk.stage.call()).await.expect("clears");
    assert_eq!(stopped.outcome, ReleaseOutcome::NeverCreated);
    assert_eq!(desk.stage.claims(), Vec::<String>::new());
}

/// Cleanup keeps what is kept, ends what is over, and binds what crabbox did not get to know.
#[tokio::test(start_paused = true)]
async fn cleanup_does_what_each_file_allows() {
    let sweep = async |desk: &Desk, dry_run: bool| {
        desk.process.engine.cleanup(&CleanupRequest { dry_run }, &desk.stage.call()).await.expect("sweeps")
    };
    for (file, lives) in
        [(READY, true), (STOPPED, true), (OF_TIME, true), (AMBIGUOUS, true), (ROLLBACK, false)]
    {
        let desk = Desk::new(file).await;
        sweep(&desk, true).await;
        desk.untouched("a dry run");
        assert_eq!(mutations(&desk.stage), Vec::<String>::new(), "{file:?}");
        sweep(&desk, false).await;
        assert_eq!(open(&desk.stage).len(), usize::from(lives), "{file:?}");
        if lives {
            desk.nothing_lost(&["revision"], "cleanup");
        }
    }
    for (file, lives) in [(READY, true), (OF_TIME, false), (AMBIGUOUS, false)] {
        let desk = Desk::new(file).await;
        pass(Duration::from_secs(24 * 3600)).await;
        sweep(&desk, false).await;
        pass(Duration::from_secs(60)).await;
        sweep(&desk, false).await;
        assert_eq!(open(&desk.stage).len(), usize::from(lives), "a day later: {file:?}");
        assert_eq!(desk.stage.claims().len(), usize::from(lives), "a day later: {file:?}");
        assert!(LeaseId::parse(file.lease).is_some());
    }
}

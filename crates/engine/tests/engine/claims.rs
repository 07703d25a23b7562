//! crabbox's claim files through our operations: read, refreshed and written back without losing what crabbox needs.

use crate::support::{claim, pass, rented_elsewhere, run_on, stop};
use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::lease::{LeaseId, ReleaseAction};
use crabbox_vast_engine::ops::{AdoptRequest, ReleaseRequest};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::time::Duration;

const LEASE: &str = "cbx_3f9a1c7be204";

/// crabbox's file of a lease that is ready, with what this stage makes different.
fn ready(instance: u64, account: &str) -> String {
    let labels = r#"
    "class": "beast", "crabbox": "true", "created_at": "1779999000", "created_by": "crabbox",
    "expires_at": "1780001800", "idle_timeout": "1800", "idle_timeout_secs": "1800", "keep": "true",
    "last_touched_at": "1780000000", "lease": "cbx_3f9a1c7be204", "profile": "default", "provider": "vast",
    "provider_key": "crabbox-cbx-3f9a1c7be204", "provider_key_id": "530911", "provider_key_owned": "true",
    "release_action": "destroy", "server_type": "unknown", "slug": "tidal-barnacle", "state": "ready",
    "target": "linux", "ttl_secs": "5400", "vast_api_url": "http://127.0.0.1:9/api/v0",
    "vast_offer_id": "21837465""#;
    format!(
        "{{\"leaseID\": \"{LEASE}\", \"revision\": \"9d3c5b0e7f2a41c6b8e0d1a2934f5c67\", \
         \"slug\": \"tidal-barnacle\", \"provider\": \"vast\", \"cloudID\": \"{instance}\", \"pond\": \"lab\", \
         \"repoRoot\": \"\", \"claimedAt\": \"2026-05-28T20:26:40Z\", \"lastUsedAt\": \"2026-05-28T20:26:40Z\", \
         \"idleTimeoutSeconds\": 1800, \"cacheVolumes\": [\"hub:/cache\"], \"sshHost\": \"ssh5.vast.ai\", \
         \"sshPort\": 31836, \"labels\": {{\"vast_account_id\": \"{account}\", {labels}}}}}"
    )
}

fn fields(stage: &Stage) -> Map<String, Value> {
    let path = stage.settings().paths.claims().join(format!("{LEASE}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The members, labels as `labels.<key>`, that differ between two versions of the file.
fn changed(before: &Map<String, Value>, after: &Map<String, Value>) -> BTreeSet<String> {
    let flat = |file: &Map<String, Value>| {
        let mut all = file.clone();
        let labels = all.remove("labels").unwrap();
        all.extend(
            labels.as_object().unwrap().iter().map(|(key, value)| (format!("labels.{key}"), value.clone())),
        );
        all
    };
    let (before, after) = (flat(before), flat(after));
    let names: BTreeSet<String> = before.keys().chain(after.keys()).cloned().collect();
    names.into_iter().filter(|name| before.get(name) != after.get(name)).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn crabboxs_lease(stage: &Stage, process: &Process) -> LeaseId {
    let instance = rented_elsewhere(stage, &format!("cbx1|{LEASE}|tidal-barnacle|ready"));
    let account = process.engine.client().account().await.unwrap().id.to_string();
    let folder = stage.settings().paths.claims();
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{LEASE}.json")), ready(instance, &account)).unwrap();
    LeaseId::parse(LEASE).unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_refresh_changes_what_it_is_about_and_nothing_else() {
    let stage = Stage::new();
    let process = stage.process();
    let id = crabboxs_lease(&stage, &process).await;
    // The key of this machine; the claim is there and stays as it is.
    let first = fields(&stage);
    let request = AdoptRequest { identifier: LEASE.into(), ..AdoptRequest::default() };
    process.engine.adopt(&request, &stage.call()).await.expect("attaches the key");
    assert_eq!(changed(&first, &fields(&stage)), set(&[]));
    pass(Duration::from_secs(30)).await;

    process.engine.touch("tidal-barnacle", None, &stage.call()).await.expect("touches");
    let touched = fields(&stage);
    let moved = ["revision", "lastUsedAt", "labels.last_touched_at", "labels.expires_at"];
    assert_eq!(changed(&first, &touched), set(&moved));

    pass(Duration::from_secs(30)).await;
    run_on(&process.engine, Some("tidal-barnacle"), false, &stage.call()).await.expect("runs");
    let used = fields(&stage);
    let bound = [
        "repoRoot",
        "claimedAt",
        "sshHost",
        "sshPort",
        "revision",
        "lastUsedAt",
        "labels.last_touched_at",
        "labels.expires_at",
    ];
    let difference = changed(&touched, &used);
    assert!(difference.is_subset(&set(&bound)), "{difference:?}");

    let action = Some(ReleaseAction::Stop);
    let request = ReleaseRequest { identifier: LEASE.into(), action };
    process.engine.release(&request, &stage.call()).await.expect("stops");
    let halted = fields(&stage);
    assert_eq!(changed(&used, &halted), set(&["revision", "labels.state", "labels.release_action"]));
    for (name, value) in [
        ("leaseID", Value::from(LEASE)),
        ("provider", "vast".into()),
        ("pond", "lab".into()),
        ("cacheVolumes", vec!["hub:/cache"].into()),
        ("idleTimeoutSeconds", 1800.into()),
    ] {
        assert_eq!(halted[name], value, "{name}");
    }
    assert_eq!(claim(&process, &id).await.label("provider_key_id"), Some("530911"));
}

#[tokio::test(start_paused = true)]
async fn crabboxs_lease_is_released_with_nothing_left() {
    let stage = Stage::new();
    let process = stage.process();
    crabboxs_lease(&stage, &process).await;
    stop(&process.engine, "tidal-barnacle", &stage.call()).await.expect("destroys");
    assert!(crate::support::open(&stage).is_empty() && stage.claims().is_empty());
}

//! crabbox on the same machine, as far as its Vast provider writes claims: it touches with labels that it read a while
//! ago and the last writer wins, its uses make up the labels anew and say `keep=false`, and its release removes the
//! claim, but no journal.
//!
//! It is a crabbox on a good day: its writes are synced, and it removes a claim only where the machine is really gone.
//! What its mistakes lose is not ours to answer for.

use crate::history::Happening;
use crate::plan::Operation;
use crate::shared::{EPOCH, KEY, lock};
use crate::stage::{Process, Stage};
use crabbox_vast_sim::api::Request;
use serde_json::{Map, Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// Labels that every rewrite takes over from the claim.
const PRESERVED: [&str; 8] = [
    "release_action",
    "provider_key_id",
    "provider_key_owned",
    "vast_offer_id",
    "vast_account_id",
    "vast_api_url",
    "provider_key",
    "recovery",
];
/// crabbox's defaults, seconds.
const TTL: i64 = 5400;
const IDLE: i64 = 1800;

/// Does what crabbox does with this lease.
pub(crate) async fn crabbox(stage: &Stage, process: &Process, operation: Operation, lease: &str) {
    let crabbox = Crabbox { stage, process, lease };
    match operation {
        Operation::CrabboxTouch => crabbox.touch().await,
        Operation::CrabboxUse => crabbox.use_it().await,
        _ => crabbox.stop().await,
    }
}

struct Crabbox<'a> {
    stage: &'a Stage,
    process: &'a Process,
    lease: &'a str,
}

impl Crabbox<'_> {
    async fn touch(&self) {
        let Some(claim) = self.claim() else { return };
        let mut labels = claim["labels"].as_object().cloned().unwrap_or_default();
        // A command of the user runs meanwhile.
        let wait = self.process.life.draw(|dice| dice.below(6_000));
        tokio::time::sleep(Duration::from_millis(wait as u64)).await;
        self.process.life.step().await;
        labels.insert("state".into(), json!("ready"));
        self.date(&mut labels);
        self.write(labels);
    }

    async fn use_it(&self) {
        let Some(record) = self.record().await else { return };
        let Some(claim) = self.claim() else { return };
        let parts: Vec<&str> = record["label"].as_str().unwrap_or_default().split('|').collect();
        let ["cbx1", lease, slug, state] = parts[..] else { return };
        if lease != self.lease {
            return;
        }
        let now = self.now().to_string();
        let mut labels = Map::new();
        for (name, value) in [
            ("class", "beast"),
            ("crabbox", "true"),
            ("created_by", "crabbox"),
            ("keep", "false"),
            ("lease", lease),
            ("profile", "default"),
            ("provider", "vast"),
            ("slug", slug),
            ("state", state),
            ("target", "linux"),
            ("created_at", &now),
            ("ttl_secs", &TTL.to_string()),
            ("idle_timeout", &IDLE.to_string()),
            ("idle_timeout_secs", &IDLE.to_string()),
        ] {
            labels.insert(name.into(), json!(value));
        }
        for name in PRESERVED {
            if let Some(value) = claim["labels"].get(name) {
                labels.insert(name.into(), value.clone());
            }
        }
        self.date(&mut labels);
        if claim["labels"]["keep"] == "true" {
            lock(&self.stage.shared().books).rewritten.insert(self.lease.to_owned());
        }
        self.process.life.step().await;
        self.write(labels);
        self.stage.shared().reach("crabbox made a kept lease expire");
    }

    async fn stop(&self) {
        let shared = self.stage.shared();
        let (process, lease) = (self.process.life.process, self.lease.to_owned());
        shared.note(Happening::Asked { process, lease, destroy: true });
        if self.record().await.is_none() {
            return;
        }
        let Some(instance) = self.claim().and_then(|claim| instance(&claim)) else { return };
        self.process.life.step().await;
        let request = Request::new("DELETE", &format!("/api/v0/instances/{instance}/")).bearer(KEY);
        shared.exchange(process, "DELETE", &request);
        self.process.life.step().await;
        if shared.is_live(instance) {
            return;
        }
        let path = shared.claims.join(format!("{}.json", self.lease));
        let _ = shared.disk(|disk| disk.remove(&path).and_then(|()| disk.sync_folder(&shared.claims)));
        shared.note_claim(&path);
        self.process.life.step().await;
        shared.remove_keys(self.lease);
        shared.reach("crabbox released a lease of ours");
    }

    fn claim(&self) -> Option<Value> {
        let shared = self.stage.shared();
        let path = shared.claims.join(format!("{}.json", self.lease));
        serde_json::from_slice(&shared.disk(|disk| disk.read(&path)).ok()??).ok()
    }

    /// The live instance of the claim, read singly.
    async fn record(&self) -> Option<Value> {
        self.process.life.step().await;
        let instance = instance(&self.claim()?)?;
        let request = Request::new("GET", &format!("/api/v0/instances/{instance}/")).bearer(KEY);
        let reply = self.stage.shared().exchange(self.process.life.process, "GET", &request);
        self.process.life.step().await;
        let body: Value = serde_json::from_slice(&reply.body).ok()?;
        body.get("instances").filter(|record| record.is_object()).cloned()
    }

    fn now(&self) -> i64 {
        let since = self.stage.shared().wall_clock().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs().max(EPOCH / 2)).unwrap_or(0)
    }

    /// A use of the lease just now.
    fn date(&self, labels: &mut Map<String, Value>) {
        let number = |name: &str, otherwise: i64| {
            labels.get(name).and_then(|value| value.as_str()?.parse().ok()).unwrap_or(otherwise)
        };
        let now = self.now();
        let (ttl, idle) = (number("ttl_secs", TTL), number("idle_timeout_secs", IDLE));
        let expires = (now + idle).min(number("created_at", now) + ttl);
        labels.insert("last_touched_at".into(), json!(now.to_string()));
        labels.insert("expires_at".into(), json!(expires.to_string()));
    }

    /// Labels alone, over whatever stands there by now; nothing where the claim is gone.
    fn write(&self, labels: Map<String, Value>) {
        let Some(mut claim) = self.claim() else { return };
        let usable = matches!(labels.get("state").and_then(Value::as_str), Some("ready" | "running"));
        claim["labels"] = Value::Object(labels);
        let revision = self.process.life.draw(|dice| dice.bits());
        claim["revision"] = json!(format!("{revision:032x}"));
        let shared = self.stage.shared();
        let path = shared.claims.join(format!("{}.json", self.lease));
        let new = shared.claims.join(format!(".{}.json-{revision}", self.lease));
        let bytes = serde_json::to_vec_pretty(&claim).unwrap_or_default();
        let written = shared.disk(|disk| {
            disk.create(&new, 0o600)?;
            disk.write(&new, &bytes);
            disk.sync(&new);
            disk.rename(&new, &path)?;
            disk.sync_folder(&shared.claims)
        });
        if written.is_ok() {
            shared.note_claim(&path);
            if usable {
                shared.note(Happening::UsedByCrabbox { lease: self.lease.to_owned() });
            }
        }
    }
}

fn instance(claim: &Value) -> Option<u64> {
    claim.get("cloudID")?.as_str()?.parse().ok()
}

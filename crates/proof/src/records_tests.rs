//! What stands on the disk, and what does not.

use super::*;
use crate::checker::{Verdict, judge};
use crate::dice::Dice;
use crate::stage::Stage;
use crate::vendor::Vendor;
use serde_json::json;

const LEASE: &str = "cbx_0123456789ab";

struct Bench {
    stage: Stage,
    instance: u64,
}

impl Bench {
    /// A machine of ours, of which nothing is on the disk.
    fn new() -> Self {
        let stage = Stage::new(1, &Vendor::default());
        let shared = stage.shared();
        let folders = [shared.claims.clone(), shared.journals.clone(), shared.keys.clone()];
        let folders = folders.iter().flat_map(|folder| folder.ancestors()).collect::<BTreeSet<_>>();
        for folder in folders.into_iter().filter(|folder| !shared.disk(|disk| disk.exists(folder))) {
            shared.disk(|disk| disk.create_folder(folder, 0o700)).unwrap();
            shared.disk(|disk| disk.sync_folder(folder.parent().unwrap())).unwrap();
        }
        let made = shared.control(
            "POST",
            "/_sim/instances",
            &json!({ "label": format!("cbx1|{LEASE}|blue|ready") }),
        );
        let instance = made["id"].as_u64().unwrap();
        let mut books = lock(&shared.books);
        books.ours.insert(instance);
        books.lease_of.insert(instance, LEASE.to_owned());
        drop(books);
        Self { stage, instance }
    }

    fn put(&self, path: &Path, text: &str, durably: bool) {
        let shared = self.stage.shared();
        shared.disk(|disk| {
            disk.remove(path).unwrap();
            disk.create(path, 0o600).unwrap();
            disk.write(path, text.as_bytes());
            disk.sync(path);
            if durably {
                disk.sync_folder(path.parent().unwrap()).unwrap();
            }
        });
        shared.note_claim(path);
    }

    fn claim_path(&self) -> PathBuf {
        self.stage.shared().path_of(LEASE)
    }

    fn claim(&self, claim: &Value) {
        self.put(&self.claim_path(), &claim.to_string(), true);
    }

    fn journal(&self, journal: &Value, durably: bool) {
        let path = self.stage.shared().journals.join(format!("{LEASE}.json"));
        self.put(&path, &journal.to_string(), durably);
    }

    fn send(&self, method: &str, body: &Value) {
        let path = match method {
            "CREATE" => "/api/v0/asks/77/".to_owned(),
            _ => format!("/api/v0/instances/{}/", self.instance),
        };
        let method = if method == "DELETE" { "DELETE" } else { "PUT" };
        let request = Request::new(method, &path).json(body);
        self.stage.shared().look_for_record(0, Some(LEASE), &request);
    }

    /// Whether something was sent without a record.
    fn unrecorded(self) -> bool {
        judge(&self.stage.history(), &BTreeSet::new(), 1.0).lost_claims == 1
    }
}

fn claim(instance: &str) -> Value {
    json!({ "leaseID": LEASE, "provider": "vast", "cloudID": instance, "labels": {
        "lease": LEASE, "vast_account_id": "7", "state": "ready", "keep": "true",
    } })
}

#[tokio::test(start_paused = true)]
async fn a_create_is_announced_in_a_durable_journal() {
    let attempts = |attempts: Value, durably| {
        let bench = Bench::new();
        bench.journal(&json!({ "attempts": attempts }), durably);
        bench.send("CREATE", &json!({}));
        bench.unrecorded()
    };
    assert!(!attempts(json!([{ "offer": 77 }]), true));
    assert!(attempts(json!([{ "offer": 77 }]), false), "a power cut may take it");
    assert!(attempts(json!([{ "offer": 78 }]), true), "another offer");
    assert!(attempts(json!([{ "offer": 77, "outcome": "nothing: taken" }]), true), "that one is over");
    assert!(attempts(json!([]), true));
    let bench = Bench::new();
    bench.send("CREATE", &json!({}));
    assert!(bench.unrecorded());
}

#[tokio::test(start_paused = true)]
async fn a_destroy_a_stop_and_a_start_are_announced_in_a_durable_journal() {
    for (kind, method, body) in [
        ("destroy", "DELETE", json!({})),
        ("stop", "PUT", json!({ "state": "stopped" })),
        ("start", "PUT", json!({ "state": "running" })),
    ] {
        let sent = |change: Value| {
            let bench = Bench::new();
            let mut step = json!({ "kind": kind, "instance": bench.instance });
            step.as_object_mut().unwrap().extend(change.as_object().cloned().unwrap());
            bench.journal(&json!({ "steps": [step] }), true);
            bench.claim(&claim(&bench.instance.to_string()));
            bench.send(method, &body);
            bench.unrecorded()
        };
        assert!(!sent(json!({})), "{kind}");
        assert!(sent(json!({ "proved_at": 1 })) && sent(json!({ "void": "in use" })), "{kind} is over");
        assert!(
            sent(json!({ "kind": "other" })) && sent(json!({ "instance": 1 })),
            "{kind} of something else"
        );
    }
    let bench = Bench::new();
    bench.send("PUT", &json!({ "label": "new" }));
    assert!(!bench.unrecorded(), "a label is neither paid nor destructive");
}

/// While another process holds the lease, and once the disk has refused, the claim is the record; of a start it is not.
#[tokio::test(start_paused = true)]
async fn a_claim_may_stand_for_a_journal_that_cannot_be_written() {
    let sent = |named: &str, why: &str, method: &str| {
        let bench = Bench::new();
        let shared = bench.stage.shared();
        let named = if named == "own" { bench.instance.to_string() } else { named.to_owned() };
        bench.claim(&claim(&named));
        match why {
            "held" => shared.note_lock(0, Path::new(&format!("/{LEASE}.vast-operation.lock")), false),
            "disk" => shared.disk_refused(0, "full".to_owned()),
            "free" => {
                for taken in [false, true] {
                    shared.note_lock(0, Path::new(&format!("/{LEASE}.vast-operation.lock")), taken);
                }
            }
            _ => {}
        }
        let body = if method == "PUT" { json!({ "state": "running" }) } else { json!({}) };
        bench.send(method, &body);
        bench.unrecorded()
    };
    assert!(!sent("own", "held", "DELETE") && !sent("own", "disk", "DELETE"));
    assert!(!sent("", "held", "DELETE"), "it leads there by the label");
    assert!(sent("own", "", "DELETE") && sent("own", "free", "DELETE"));
    assert!(sent("5", "held", "DELETE"), "it leads elsewhere");
    assert!(sent("own", "held", "PUT") && sent("own", "disk", "PUT"));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_says_nothing_leads_nowhere() {
    let mut without = Vec::new();
    for (field, value) in
        [("leaseID", json!("cbx_aaaaaaaaaaaa")), ("provider", json!("aws")), ("provider", Value::Null)]
    {
        let mut changed = claim("5");
        changed[field] = value;
        without.push(changed.to_string());
    }
    for label in ["lease", "vast_account_id"] {
        let mut changed = claim("5");
        changed["labels"].as_object_mut().unwrap().remove(label);
        without.push(changed.to_string());
    }
    without.push(claim("5x").to_string());
    without.push(claim("5").to_string().split_at(40).0.to_owned());
    assert_eq!(leads_to(LEASE, claim("5").to_string().as_bytes()), Some(Some(5)));
    assert_eq!(leads_to(LEASE, claim("").to_string().as_bytes()), Some(None));
    for text in without {
        assert_eq!(leads_to(LEASE, text.as_bytes()), None, "{text}");
        let bench = Bench::new();
        bench.claim(&claim(&bench.instance.to_string()));
        assert!(bench.stage.shared().is_claimed(LEASE));
        assert_eq!(bench.stage.claims(), [LEASE]);
        bench.put(&bench.claim_path(), &text, true);
        assert!(!bench.stage.shared().is_claimed(LEASE), "{text}");
        assert!(bench.stage.claims().is_empty());
        let history = bench.stage.history();
        let unclaimed = |(_, event): &(Duration, Happening)| matches!(event, Happening::Unclaimed { .. });
        assert!(history.events().iter().any(unclaimed), "{history}");
    }
}

/// A removal that was not synced is undone, and a claim nobody knows of any more stands there again.
#[tokio::test(start_paused = true)]
async fn a_claim_that_a_power_cut_brings_back_is_seen() {
    let mut back = 0;
    for seed in 0..16 {
        let bench = Bench::new();
        let shared = bench.stage.shared();
        bench.claim(&claim("5"));
        shared.disk(|disk| disk.remove(&bench.claim_path())).unwrap();
        shared.note_claim(&bench.claim_path());
        assert!(bench.stage.claims().is_empty());
        shared.disk(|disk| disk.power_cut(&mut Dice::new(seed, 0)));
        shared.note_all_claims();
        let there = shared.disk(|disk| disk.exists(&bench.claim_path()));
        assert_eq!(bench.stage.claims().len(), usize::from(there));
        back += usize::from(there);
    }
    assert!(back > 2 && back < 14, "{back}");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_lease_for_good_is_counted() {
    let bench = Bench::new();
    let shared = bench.stage.shared();
    let kept = [LEASE.to_owned()];
    assert!(shared.remains(&[]).is_empty());
    bench.claim(&claim("5"));
    bench.journal(&json!({}), true);
    shared.disk(|disk| disk.create_folder(&shared.keys.join(LEASE), 0o700)).unwrap();
    assert_eq!(shared.remains(&kept), Vec::<String>::new());
    assert_eq!(shared.remains(&[]), ["claim", "key", "journal"].map(|what| format!("the {what} of {LEASE}")));
    for (journal, over) in [
        (json!({ "attempts": [{ "outcome": "nothing: taken" }] }), true),
        (json!({ "attempts": [{ "instance": 5 }] }), false),
        (
            json!({ "attempts": [{ "instance": 5 }], "steps": [{ "kind": "stop", "instance": 5, "proved_at": 1 }] }),
            false,
        ),
        (json!({ "attempts": [{ "instance": 5 }], "steps": [{ "kind": "destroy", "instance": 5 }] }), false),
        (
            json!({ "attempts": [{ "instance": 5 }], "steps": [{ "kind": "destroy", "instance": 5, "proved_at": 1 }] }),
            true,
        ),
        (json!({ "attempts": [{}] }), false),
    ] {
        bench.journal(&journal, true);
        assert_eq!(shared.remains(&[]).len(), if over { 3 } else { 2 }, "{journal}");
    }
    bench.journal(&json!({}), true);
    bench.put(&bench.claim_path(), "garbage", true);
    assert_eq!(shared.remains(&[]).len(), 3, "whatever it says");
    let verdict = judge(&bench.stage.history(), &BTreeSet::new(), 1.0);
    assert_eq!(verdict, Verdict::default());
}

//! What is sent to Vast, word for word, and to whom.

#[path = "client/wire.rs"]
mod wire;

use async_trait::async_trait;
use bytes::Bytes;
use crabbox_vast_engine::lease::{DollarsPerHour, InstanceId, OfferId};
use crabbox_vast_engine::store::{Paths, Store};
use crabbox_vast_engine::vast::client::Created;
use crabbox_vast_engine::vast::request::{CreateBody, Filter, OfferQuery};
use crabbox_vast_engine::vast::{Client, Kind};
use crabbox_vast_engine::world::real::{RealAmbient, RealFiles};
use crabbox_vast_engine::world::{Disk, Http, HttpReply, HttpRequest, TransportError};
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

const KEY: &str = "canary-key-0001";

/// Answers from a queue and remembers what it was sent.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<HttpReply>>,
    sent: Mutex<Vec<HttpRequest>>,
}

#[async_trait]
impl Http for Script {
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError> {
        self.sent.lock().unwrap().push(request);
        Ok(self.answers.lock().unwrap().pop_front().unwrap_or_default())
    }
}

struct Desk {
    script: Arc<Script>,
    client: Client,
    _home: tempfile::TempDir,
}

/// A client over a transport, and its home.
fn client(http: Arc<dyn Http>, url: &str) -> (Client, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let paths = Paths { state: home.path().join("state"), config: home.path().join("config") };
    let ambient = Arc::new(RealAmbient::new("desk"));
    let store = Store::new(Disk::inline(Arc::new(RealFiles)), ambient.clone(), paths);
    (Client::new(http, store, ambient, url, KEY.to_owned().into()).unwrap(), home)
}

impl Desk {
    fn new(answers: &[Value]) -> Self {
        Self::with(answers.iter().map(|body| reply(200, body)).collect())
    }

    fn with(answers: Vec<HttpReply>) -> Self {
        let script = Arc::new(Script { answers: Mutex::new(answers.into()), ..Script::default() });
        let (client, home) = client(script.clone(), "https://vast.example/api/v0/");
        Self { script, client, _home: home }
    }

    /// `METHOD url`, and the bodies.
    fn sent(&self) -> Vec<(String, Value)> {
        let sent = self.script.sent.lock().unwrap();
        let body = |bytes: &Option<Bytes>| {
            bytes.as_ref().map_or(Value::Null, |b| serde_json::from_slice(b).unwrap())
        };
        sent.iter().map(|one| (format!("{} {}", one.method.as_str(), one.url), body(&one.body))).collect()
    }

    fn urls(&self) -> Vec<String> {
        self.sent().into_iter().map(|(url, _)| url).collect()
    }
}

fn reply(status: u16, body: &Value) -> HttpReply {
    HttpReply { status, body: body.to_string().into(), ..HttpReply::default() }
}

fn query() -> OfferQuery {
    OfferQuery {
        interruptible: false,
        gpu_name: Some("RTX 4090".into()),
        gpu_count: 2,
        disk_gb: 40,
        cap: Some(DollarsPerHour(0.5)),
        min_reliability: 0.95,
        duration_secs: 3600,
        order: vec![("dph_total".into(), "asc".into())],
    }
}

fn what() -> CreateBody {
    let mut env = Map::new();
    env.insert("CRABBOX".into(), "1".into());
    CreateBody {
        image: "ubuntu:24.04".into(),
        template: Some("abc".into()),
        disk_gb: 40,
        label: "cbx1|l|s|provisioning".into(),
        public_key: "ssh-ed25519 AAAA".into(),
        env,
        onstart: Some("true".into()),
        bid: Some(DollarsPerHour(0.3)),
    }
}

#[tokio::test(start_paused = true)]
async fn the_key_goes_as_bearer_to_its_own_origin_only() {
    let away = HttpReply {
        status: 307,
        location: Some("https://elsewhere.example/api/v0/users/current/".into()),
        ..HttpReply::default()
    };
    let desk = Desk::with(vec![reply(200, &json!({"id": 4242, "username": "dev", "credit": 5.0})), away]);
    let account = desk.client.account().await.unwrap();
    assert_eq!((account.id.to_string(), account.credit), ("4242".into(), Some(5.0)));
    let refused = desk.client.account().await.unwrap_err();
    assert_eq!(refused.kind, Kind::ForeignRedirect);
    assert_eq!(
        desk.urls(),
        ["GET https://vast.example/api/v0/users/current/"; 2],
        "the other origin is never asked"
    );
    for sent in desk.script.sent.lock().unwrap().iter() {
        assert_eq!(sent.bearer.as_ref().unwrap().expose_secret(), KEY);
    }
}

#[tokio::test(start_paused = true)]
async fn no_secret_of_a_refusal_reaches_the_error() {
    let secrets = ["canary-key-0001", "canary-token-77", "canary-signature-5"];
    let body = json!({"success": false, "error": "invalid_args",
        "msg": format!("bad Authorization: Bearer {} api_key={} https://x.example/a?Signature={}", secrets[0], secrets[1], secrets[2])});
    let desk = Desk::with(vec![reply(400, &body)]);
    let failure = desk.client.set_label(InstanceId(1), "a label").await.unwrap_err();
    let error = crabbox_vast_engine::Error::from(failure);
    let said = format!("{error} {error:?} {}", error.to_json());
    for secret in secrets {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    assert!(said.contains("redacted"), "{said}");
}

/// What is shown of an answer ends after 400 characters: a key that lies across that border is still taken out whole.
#[tokio::test(start_paused = true)]
async fn a_key_that_is_echoed_where_the_text_is_cut_leaves_nothing() {
    for before in 380..=402 {
        let said = format!("{}{KEY} and more", "x".repeat(before));
        let plain = HttpReply { status: 400, body: said.clone().into(), ..HttpReply::default() };
        let answers = [
            plain,
            reply(400, &json!({"error": "invalid_args", "msg": said})),
            reply(400, &json!({"error": said})),
            reply(400, &json!(said)),
        ];
        for answer in answers {
            let desk = Desk::with(vec![answer]);
            let failure = desk.client.set_label(InstanceId(1), "a label").await.unwrap_err();
            assert!(!failure.message.contains(&KEY[..3]), "{before}: {}", failure.message);
            assert!(failure.message.contains("xxx"), "{}", failure.message);
        }
        let broken = HttpReply { status: 200, body: said.into(), ..HttpReply::default() };
        let Created::Unknown(failure) = Desk::with(vec![broken]).client.create(OfferId(5), &what()).await
        else {
            panic!("an answer that is not JSON names no instance");
        };
        assert!(!failure.message.contains(&KEY[..3]), "{before}: {}", failure.message);
    }
}

#[tokio::test(start_paused = true)]
async fn the_search_is_a_plain_object_with_ordered_terms() {
    let desk = Desk::new(&[
        json!({"offers": [{"id": 7, "ask_contract_id": 8, "rentable": true, "dph_total": 0.4}]}),
    ]);
    let offers = desk.client.search(&query()).await.unwrap();
    assert_eq!(offers.len(), 1);
    let (url, body) = desk.sent().remove(0);
    assert_eq!(url, "POST https://vast.example/api/v0/bundles/");
    assert!(body.get("query").is_none() && body.get("q").is_none(), "{body}");
    assert_eq!(body["gpu_name"], json!({"eq": "RTX 4090"}));
    assert_eq!(body["order"], json!([["dph_total", "asc"]]));
    assert_eq!(body["type"], "on-demand");
    let desk = Desk::new(&[json!({"offers": []})]);
    desk.client.search(&OfferQuery { interruptible: true, ..query() }).await.unwrap();
    assert_eq!(desk.sent()[0].1["type"], "bid");
}

#[tokio::test(start_paused = true)]
async fn a_create_is_one_put_on_the_ask_with_env_as_an_object() {
    let desk = Desk::new(&[json!({"success": true, "new_contract": 99})]);
    let what = what();
    assert!(matches!(desk.client.create(OfferId(5), &what).await, Created::Instance(InstanceId(99))));
    let sent = desk.sent();
    assert_eq!(sent.len(), 1);
    let (url, body) = &sent[0];
    assert_eq!(url, "PUT https://vast.example/api/v0/asks/5/");
    assert_eq!(body["template_hash_id"], "abc");
    assert_eq!(body["env"], json!({"CRABBOX": "1"}));
    assert_eq!((&body["label"], &body["ssh_key"]), (&json!(what.label), &json!(what.public_key)));
    assert_eq!(body["price"], 0.3);
    assert!(body.get("onstart").is_none(), "a template has its own start script");
}

#[tokio::test(start_paused = true)]
async fn instances_are_read_paged_changed_and_destroyed() {
    let one = json!({"id": 31, "actual_status": "running", "intended_status": "running"});
    let desk = Desk::new(&[
        json!({"instances": one}),
        json!({"instances": []}),
        json!({"success": true, "instances": [one], "total_instances": 2, "next_token": "t1"}),
        json!({"success": true, "instances": [{"contract_id": 32}], "total_instances": 2, "next_token": null}),
        json!({"success": true}),
        json!({"success": true, "msg": "label set"}),
        json!({"success": true}),
    ]);
    let client = &desk.client;
    assert_eq!(client.show(InstanceId(31)).await.unwrap().unwrap().id, InstanceId(31));
    assert!(client.show(InstanceId(31)).await.unwrap().is_none(), "an empty envelope is not found");
    let listed = client.list(&Filter::All).await.unwrap();
    assert!(listed.complete);
    assert_eq!(listed.instances.iter().map(|i| i.id.0).collect::<Vec<_>>(), [31, 32]);
    client.set_state_if(InstanceId(31), "stopped", || async { Ok(()) }).await.unwrap();
    client.set_label(InstanceId(31), "cbx1|l|s|ready").await.unwrap();
    client.destroy_if(InstanceId(31), || async { Ok(()) }).await.unwrap();
    assert_eq!(
        desk.urls(),
        [
            "GET https://vast.example/api/v0/instances/31/?owner=me",
            "GET https://vast.example/api/v0/instances/31/?owner=me",
            "GET https://vast.example/api/v1/instances/?limit=25",
            "GET https://vast.example/api/v1/instances/?limit=25&after_token=t1",
            "PUT https://vast.example/api/v0/instances/31/",
            "PUT https://vast.example/api/v0/instances/31/",
            "DELETE https://vast.example/api/v0/instances/31/",
        ]
    );
    assert_eq!(desk.sent()[4].1, json!({"state": "stopped"}));
}

#[tokio::test(start_paused = true)]
async fn a_bare_success_is_enough_for_a_change_and_nothing_for_a_read() {
    let desk = Desk::new(&[json!({"success": true})]);
    desk.client.set_state_if(InstanceId(31), "running", || async { Ok(()) }).await.unwrap();
    // Each is repeated for a while before it is believed.
    let answers = vec![reply(200, &json!({"success": true})); 40];
    let desk = Desk::with(answers.clone());
    assert_eq!(desk.client.list(&Filter::All).await.unwrap_err().kind, Kind::Malformed);
    let desk = Desk::with(answers);
    assert_eq!(desk.client.account().await.unwrap_err().kind, Kind::Malformed);
}

#[tokio::test(start_paused = true)]
async fn keys_are_listed_and_attached() {
    let keys = json!([{"id": 9, "public_key": "ssh-ed25519 AAAA one"}]).to_string();
    let desk = Desk::new(&[
        json!({"success": true, "ssh_keys": keys}),
        json!({"success": true, "key": "ssh-ed25519 AAAA one"}),
    ]);
    let client = &desk.client;
    assert_eq!(client.keys(InstanceId(31)).await.unwrap(), ["ssh-ed25519 AAAA one"]);
    client.attach_key(InstanceId(31), "ssh-ed25519 AAAA one").await.unwrap();
    assert_eq!(
        desk.urls(),
        [
            "GET https://vast.example/api/v0/instances/31/ssh/",
            "POST https://vast.example/api/v0/instances/31/ssh/",
        ]
    );
    assert_eq!(desk.sent()[1].1, json!({"ssh_key": "ssh-ed25519 AAAA one"}));
}

//! What the test files share: a world in memory with an explicit clock, and an SSH client.

#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses its own part of this")]

pub mod client;

use crabbox_vast_sim::api::{Fault, NoHost, Reply, Request, Settings, World};
use serde_json::{Value, json};
use std::time::Duration;

pub const KEY: &str = "5eadbeef5eadbeef5eadbeef5eadbeef5eadbeef5eadbeef5eadbeef5eadbeef";
pub const PUBLIC_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJrYrTkPbcLMgtkOl1iWlgp6PPPOMYgJDOqQWZPXDaVI lease";

/// A world in memory; nothing moves but by [`Bench::wait`].
pub struct Bench {
    pub world: World,
    pub now: Duration,
}

impl Bench {
    /// The vendor's durations, without the rate limiter.
    pub fn new() -> Self {
        Self::with(|settings| settings.rate_limits = false)
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::faithful(KEY, 7);
        change(&mut settings);
        Self { world: World::new(settings, Box::<NoHost>::default()), now: Duration::ZERO }
    }

    pub fn wait(&mut self, seconds: f64) -> &mut Self {
        self.now += Duration::from_secs_f64(seconds);
        self
    }

    pub fn send(&mut self, request: &Request) -> Reply {
        self.world.handle(self.now, request)
    }

    /// A call with the account's key; the path is below `/api`.
    pub fn call(&mut self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let mut request = Request::new(method, &format!("/api{path}")).bearer(KEY);
        if !body.is_null() {
            request = request.json(&body);
        }
        let reply = self.send(&request);
        (reply.status, reply.body_json())
    }

    pub fn get(&mut self, path: &str) -> (u16, Value) {
        self.call("GET", path, Value::Null)
    }

    /// A call on the control plane.
    pub fn control(&mut self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let reply = self.send(&Request::new(method, &format!("/_sim{path}")).bearer(KEY).json(&body));
        (reply.status, reply.body_json())
    }

    pub fn fault(&mut self, fault: Fault) {
        self.world.add_fault(fault);
    }

    pub fn offers(&mut self, query: Value) -> Vec<Value> {
        let (status, body) = self.call("POST", "/v0/bundles/", query);
        assert_eq!(status, 200, "{body}");
        body["offers"].as_array().expect("a search answers with an array").clone()
    }

    /// The cheapest RTX 4090 with a direct port.
    pub fn offer(&mut self) -> Value {
        self.offers(
            json!({"gpu_name": {"eq": "RTX 4090"}, "direct_port_count": {"gte": 1}, "disk_space": {"gte": 64},
                           "order": [["dph_total", "asc"]], "limit": 1}),
        )
        .remove(0)
    }

    /// Rents the cheapest RTX 4090 and returns the instance id.
    pub fn rent(&mut self, extra: Value) -> u64 {
        let ask = self.offer()["id"].as_u64().expect("an offer has an id");
        let (status, body) = self.call("PUT", &format!("/v0/asks/{ask}/"), create_body(extra));
        assert_eq!(status, 200, "{body}");
        body["new_contract"].as_u64().expect("a create answers with the contract")
    }

    pub fn read(&mut self, id: u64) -> Value {
        let (status, body) = self.get(&format!("/v0/instances/{id}/?owner=me"));
        assert_eq!(status, 200, "{body}");
        body["instances"].clone()
    }
}

pub fn create_body(extra: Value) -> Value {
    let mut body = json!({
        "client_id": "me", "image": "nvidia/cuda:12.4.1-runtime-ubuntu22.04", "disk": 32, "label": "cbx1|test",
        "runtype": "ssh_direct", "env": {"GREETING": "hello", "-p 8080:8080": "1"}, "cancel_unavail": true,
        "target_state": "running",
    });
    if let (Some(body), Value::Object(extra)) = (body.as_object_mut(), extra) {
        body.extend(extra);
    }
    body
}

//! The control plane under `/_sim/`: what a test or a curious person may see and spoil.
//!
//! Reading is free to whoever can reach the loopback port. Changing asks for the account's key, so that no
//! web page in a browser on this machine can do it.

use super::World;
use super::faults::Fault;
use super::lifecycle::halt;
use super::message::{Reply, Request};
use super::offers::gpu_named;
use super::record::Instance;
use super::users::{Caller, no_key};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Where the control plane lives.
pub(crate) const CONTROL: &str = "/_sim/";

impl World {
    pub(super) fn control(&mut self, request: &Request) -> Reply {
        let path = request.path.strip_prefix(CONTROL).unwrap_or_default().trim_end_matches('/');
        let parts: Vec<&str> = path.split('/').collect();
        if request.method == "GET" {
            return match parts.as_slice() {
                ["ledger"] => Reply::json(200, &self.ledger().to_json()),
                ["requests"] => Reply::json(200, &json!({"requests": self.requests()})),
                ["state"] => Reply::json(200, &self.state()),
                _ => unknown(),
            };
        }
        if self.account_key(request) != Caller::Owner {
            return no_key();
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_else(|_| json!({}));
        let done = match (request.method.as_str(), parts.as_slice()) {
            ("POST", ["faults"]) => Fault::from_json(&body).map(|fault| {
                self.faults.add(fault);
                json!({"success": true})
            }),
            ("DELETE", ["faults"]) => {
                self.faults.clear();
                Ok(json!({"success": true}))
            }
            ("POST", ["advance"]) => self.advance_by(&body),
            ("POST", ["account"]) => Ok(self.alter_account(&body)),
            ("POST", ["instances"]) => self.make_instance(&body),
            ("POST", ["instances", id]) => self.alter_instance(id, &body),
            ("POST", ["offers", id, "take"]) => self.take_offer(id),
            ("POST", ["market"]) => self.move_market(&body),
            ("POST", ["shutdown"]) => {
                self.shutdown_asked = true;
                Ok(json!({"success": true}))
            }
            _ => return unknown(),
        };
        match done {
            Ok(body) => Reply::json(200, &body),
            Err(message) => Reply::error(400, "invalid_control", &message),
        }
    }

    /// The owner by key even while the key is revoked: the control plane is not the vendor.
    fn account_key(&self, request: &Request) -> Caller {
        match request.bearer.as_deref() {
            Some(key) if key == self.settings.api_key => Caller::Owner,
            _ => Caller::Unknown,
        }
    }

    /// Whether somebody asked the simulator to end.
    pub fn shutdown_asked(&self) -> bool {
        self.shutdown_asked
    }

    fn state(&self) -> Value {
        let instances: Vec<Value> = self
            .instances
            .values()
            .map(|instance| {
                let mut record = instance.to_json(self.now, &self.settings, true);
                // The record carries the caller's own variables and a token.
                for secret in ["extra_env", "jupyter_token", "onstart"] {
                    record[secret] = Value::Null;
                }
                record["deleted"] = json!(instance.deleted_at.is_some());
                record["ssh_ready"] = json!(instance.ssh_ready_at.is_some_and(|ready| self.now >= ready));
                record["attached_keys"] = json!(instance.keys.len());
                record
            })
            .collect();
        json!({
            "simulator": env!("CARGO_PKG_VERSION"), "now": self.now.as_secs_f64(),
            "time_scale": self.settings.time_scale, "seed": self.settings.seed,
            "work_root": self.settings.work_root, "credit": self.account.credit,
            "revoked": self.account.revoked, "offers": self.offers.len(), "instances": instances,
        })
    }

    fn advance_by(&mut self, body: &Value) -> Result<Value, String> {
        let seconds = body["seconds"].as_f64().filter(|seconds| (0.0..1.0e9).contains(seconds));
        self.skip(Duration::from_secs_f64(seconds.ok_or("`seconds` is a number of simulated seconds")?));
        Ok(json!({"success": true, "now": self.now.as_secs_f64()}))
    }

    /// Jumps ahead of the caller's clock for good.
    pub fn skip(&mut self, ahead: Duration) {
        let base = self.now.saturating_sub(self.skew);
        self.skew += ahead;
        self.advance_to(base);
    }

    /// The host ends a contract, as it may at any time.
    pub fn evict(&mut self, id: u64) {
        if self.instances.get(&id).is_some_and(|instance| instance.deleted_at.is_none()) {
            self.end_contract(id);
        }
    }

    fn alter_account(&mut self, body: &Value) -> Value {
        if let Some(credit) = body["credit"].as_f64() {
            self.account.credit = credit;
        }
        if let Some(revoked) = body["revoked"].as_bool() {
            self.account.revoked = revoked;
        }
        json!({"success": true, "credit": self.account.credit, "revoked": self.account.revoked})
    }

    /// An instance as if it had been rented elsewhere, visible at once, with the given columns.
    fn make_instance(&mut self, body: &Value) -> Result<Value, String> {
        let wanted = body["gpu_name"].as_str().unwrap_or("RTX 3090");
        let gpu = gpu_named(wanted).ok_or_else(|| format!("no GPU is called `{wanted}`"))?;
        let like = self.offers.iter().find(|offer| offer.gpu.vast_name == gpu.vast_name);
        let mut offer = like.ok_or("the market has no such offer left")?.clone();
        // Another machine of the same kind, so that what is on the market stays there.
        offer.machine_id += 500_000 + self.created;
        let empty = Map::new();
        let mut instance = self.contract(offer, body.as_object().unwrap_or(&empty), 16.0, None);
        instance.holds_offer = false;
        instance.read_from = self.now;
        instance.list_from = self.now;
        let id = instance.id;
        self.admit(instance);
        if body["actual_status"].is_null() {
            self.schedule_boot(id);
        } else if let Some(instance) = self.instances.get_mut(&id) {
            instance.ssh_published = true;
        }
        self.alter_instance(&id.to_string(), body)?;
        Ok(json!({"success": true, "id": id}))
    }

    /// Sets columns and knobs of a record. `label`, the states and `status_msg` become what the vendor stores;
    /// `freeze`, `relet`, `hidden`, `direct`, `proxy`, `sshd`, `refuse_keys` and `refuse_proxy` are switches; `wipe_keys` takes every
    /// attached key away; any other name is a column that shows this value from now on.
    fn alter_instance(&mut self, id: &str, body: &Value) -> Result<Value, String> {
        let id: u64 = id.parse().map_err(|_| format!("`{id}` is not an instance id"))?;
        let instance = self.instances.get_mut(&id).ok_or_else(|| format!("there is no instance {id}"))?;
        let was_running = instance.actual.as_deref() == Some("running");
        for (name, value) in body.as_object().into_iter().flatten() {
            alter(instance, name, value);
        }
        let runs = instance.actual.as_deref() == Some("running");
        let ended = matches!(instance.actual.as_deref(), Some("exited" | "stopped"));
        if was_running && ended {
            let actual = instance.actual.clone().unwrap_or_default();
            halt(instance, &actual);
            self.host.stop(id);
        } else if runs && !was_running {
            instance.timeline.clear();
            self.run(id);
        }
        let instance = &self.instances[&id];
        if instance.queued && !instance.relet {
            self.instances.get_mut(&id).into_iter().for_each(|instance| instance.queued = false);
            self.schedule_start(id);
        }
        Ok(json!({"success": true}))
    }

    /// Others bid more, or less: every minimum bid is multiplied by `min_bid_factor`. Interruptible instances below
    /// it are stopped, not destroyed, and those that are on top again resume (Vast API, documented).
    fn move_market(&mut self, body: &Value) -> Result<Value, String> {
        let factor = body["min_bid_factor"].as_f64().filter(|factor| (0.0..=1.0e6).contains(factor));
        let factor = factor.ok_or("`min_bid_factor` is a number")?;
        self.offers.iter_mut().for_each(|offer| offer.min_bid *= factor);
        let (mut outbid, mut resumed) = (Vec::new(), Vec::new());
        for instance in self.instances.values_mut().filter(|one| one.is_bid && one.deleted_at.is_none()) {
            instance.offer.min_bid *= factor;
            let (wins, stopped) =
                (instance.gpu_price >= instance.offer.min_bid, instance.current == "stopped");
            match (wins, stopped) {
                (false, false) => outbid.push(instance.id),
                (true, true) if instance.outbid => resumed.push(instance.id),
                _ => {}
            }
        }
        outbid.into_iter().for_each(|id| self.outbid(id));
        for id in resumed {
            self.instances.get_mut(&id).into_iter().for_each(|instance| instance.outbid = false);
            self.schedule_start(id);
        }
        Ok(json!({"success": true}))
    }

    /// Somebody else rents an offer that stays listed for whoever has already searched.
    fn take_offer(&mut self, id: &str) -> Result<Value, String> {
        let before = self.offers.len();
        self.offers.retain(|offer| offer.id.to_string() != id);
        if self.offers.len() == before {
            Err(format!("there is no offer {id}"))
        } else {
            Ok(json!({"success": true}))
        }
    }
}

fn alter(instance: &mut Instance, name: &str, value: &Value) {
    let text = value.as_str().map(str::to_owned);
    let switch = value.as_bool().unwrap_or(false);
    match name {
        "label" => instance.label = text,
        "status_msg" => instance.message = text,
        "actual_status" => instance.actual = text,
        "intended_status" => instance.intended = text.unwrap_or_default(),
        "cur_state" => instance.current = text.unwrap_or_default(),
        "next_state" => instance.next = text.unwrap_or_default(),
        "freeze" if switch => instance.timeline.clear(),
        "freeze" => {}
        "relet" => instance.relet = switch,
        "hidden" => instance.knobs.hidden = switch,
        "direct" => instance.knobs.direct = switch,
        "proxy" => instance.knobs.proxy = switch,
        "sshd" => instance.knobs.sshd = switch,
        "wipe_keys" if switch => instance.keys.clear(),
        "wipe_keys" => {}
        "refuse_keys" => instance.knobs.refuse_keys = switch,
        "refuse_proxy" => instance.knobs.refuse_proxy = switch,
        // What a create call takes, and not a column of reads.
        "image" | "disk" | "env" | "runtype" | "ssh_key" | "gpu_name" => {}
        column => {
            instance.overrides.insert(column.to_owned(), value.clone());
        }
    }
}

fn unknown() -> Reply {
    Reply::error(404, "unknown_control", "the control plane has no such page")
}

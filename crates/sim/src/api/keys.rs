//! SSH keys: attached to one instance, or on the account for instances yet to come.

use super::World;
use super::instances::no_such_instance;
use super::message::{Reply, Request};
use super::record::AttachedKey;
use serde_json::{Value, json};
use std::time::Duration;

/// A key on the account.
#[derive(Clone, Debug)]
pub(crate) struct AccountKey {
    pub id: u64,
    pub text: String,
}

/// Whether an instance's SSH server can be reached, and by which keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SshAccess {
    /// Connections are accepted and closed at once, as the vendor's proxy does before the server lives.
    Closed,
    /// The server answers and accepts these public keys, in OpenSSH's one-line form.
    Open {
        /// The keys that are effective by now.
        keys: Vec<String>,
        /// Whether every key is refused whatever it is, also one that the container itself added.
        refuse_all: bool,
    },
}

/// Which of the two addresses of an instance a connection came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The port mapped on the machine.
    Direct,
    /// The vendor's proxy.
    Proxy,
}

impl World {
    /// What an SSH connection meets at this time.
    pub fn ssh_access(&mut self, now: Duration, id: u64, door: Door) -> SshAccess {
        self.advance_to(now);
        let Some(instance) = self.instances.get(&id).filter(|instance| instance.deleted_at.is_none()) else {
            return SshAccess::Closed;
        };
        let works = match door {
            Door::Direct => instance.knobs.direct,
            Door::Proxy => instance.knobs.proxy,
        };
        let ready = match instance.ssh_ready_at {
            Some(ready) if works && instance.knobs.sshd && self.now >= ready => ready,
            _ => return SshAccess::Closed,
        };
        let lag = self.settings.key_lag;
        let keys = instance.keys.iter().filter(|key| self.now >= key.attached_at.max(ready) + lag);
        SshAccess::Open {
            keys: keys.map(|key| key.text.clone()).collect(),
            refuse_all: instance.knobs.refuse_keys || (door == Door::Proxy && instance.knobs.refuse_proxy),
        }
    }

    pub(super) fn attached_key(&mut self, text: String) -> AttachedKey {
        self.next_key += 1;
        AttachedKey { id: self.next_key, text: text.trim().to_owned(), attached_at: self.now }
    }

    /// `GET /instances/{id}/ssh/`: the keys are a JSON array inside a JSON string (Vast API, observed).
    pub(super) fn instance_keys(&self, id: u64) -> Reply {
        let Some(instance) = self.visible(id) else { return no_such_instance(id) };
        let keys: Vec<Value> = instance
            .keys
            .iter()
            .map(|key| json!({"id": key.id, "name": null, "public_key": key.text}))
            .collect();
        Reply::json(200, &json!({"success": true, "ssh_keys": json!(keys).to_string()}))
    }

    /// `POST /instances/{id}/ssh/`.
    pub(super) fn attach_key(&mut self, id: u64, request: &Request) -> Reply {
        let Some(text) = key_in(request) else { return invalid_key() };
        let Some(instance) = self.visible(id) else { return no_such_instance(id) };
        if instance.keys.iter().any(|key| same_key(&key.text, &text)) {
            return Reply::json(
                200,
                &json!({"success": false, "msg": "SSH key already associated with instance."}),
            );
        }
        let key = self.attached_key(text);
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.keys.push(key);
        }
        Reply::json(200, &json!({"success": true, "msg": "SSH key added to instance."}))
    }

    /// `DELETE /instances/{id}/ssh/{key}/`.
    pub(super) fn detach_key(&mut self, id: u64, key: u64) -> Reply {
        if self.visible(id).is_none() {
            return no_such_instance(id);
        }
        let Some(instance) = self.instances.get_mut(&id) else { return no_such_instance(id) };
        let before = instance.keys.len();
        instance.keys.retain(|attached| attached.id != key);
        if instance.keys.len() == before {
            return Reply::error(404, "no_such_ssh_key", &format!("SSH key {key} is not on instance {id}."));
        }
        Reply::json(200, &json!({"success": true, "msg": "SSH key removed from instance."}))
    }

    /// `GET /ssh/`: 404 when there are none (Vast API, observed).
    pub(super) fn list_account_keys(&self) -> Reply {
        if self.account_keys.is_empty() {
            return Reply::error(404, "no_ssh_keys", "No SSH keys found.");
        }
        let keys: Vec<Value> = self.account_keys.iter().map(account_key_json).collect();
        Reply::json(200, &json!(keys))
    }

    /// `POST /ssh/`: for instances created from now on.
    pub(super) fn add_account_key(&mut self, request: &Request) -> Reply {
        let Some(text) = key_in(request) else { return invalid_key() };
        self.next_key += 1;
        let key = AccountKey { id: self.next_key, text };
        let body = json!({"success": true, "key": account_key_json(&key)});
        self.account_keys.push(key);
        Reply::json(200, &body)
    }

    /// `DELETE /ssh/{id}/`.
    pub(super) fn remove_account_key(&mut self, id: u64) -> Reply {
        let before = self.account_keys.len();
        self.account_keys.retain(|key| key.id != id);
        if self.account_keys.len() == before {
            return Reply::error(400, "no_ssh_key", &format!("No SSH key with id {id}."));
        }
        Reply::success()
    }
}

fn account_key_json(key: &AccountKey) -> Value {
    json!({"id": key.id, "user_id": 184_467, "public_key": key.text, "created_at": "2026-06-01T00:00:00",
           "deleted_at": null})
}

fn key_in(request: &Request) -> Option<String> {
    let body: Value = serde_json::from_slice(&request.body).ok()?;
    let key = body.get("ssh_key")?.as_str()?.trim().to_owned();
    let known = ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| key.starts_with(kind));
    (known && key.split_whitespace().count() >= 2).then_some(key)
}

fn invalid_key() -> Reply {
    Reply::error(400, "invalid_ssh_key", "Please provide a valid SSH public key.")
}

/// Keys are the same when type and data are; the comment does not count.
fn same_key(left: &str, right: &str) -> bool {
    left.split_whitespace().take(2).eq(right.split_whitespace().take(2))
}

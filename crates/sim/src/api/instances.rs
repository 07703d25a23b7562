//! One instance: read, change, destroy, restart, bid.

use super::World;
use super::message::{Reply, Request};
use super::record::Instance;
use serde_json::{Map, Value, json};

impl World {
    /// An instance that exists as far as the vendor's single read is concerned.
    pub(super) fn visible(&self, id: u64) -> Option<&Instance> {
        self.instances
            .get(&id)
            .filter(|instance| self.now >= instance.read_from && instance.deleted_at.is_none())
    }

    fn visible_mut(&mut self, id: u64) -> Option<&mut Instance> {
        self.visible(id)?;
        self.instances.get_mut(&id)
    }

    /// `GET /instances/{id}/`: an object under a plural key; null, or just after a destroy an empty array.
    pub(super) fn read(&self, id: u64) -> Reply {
        let record = match self.instances.get(&id) {
            Some(instance) => match instance.deleted_at {
                Some(at) if self.now >= at + self.settings.destroy_linger => json!([]),
                _ if self.now < instance.read_from => Value::Null,
                _ => instance.to_json(self.now, &self.settings, false),
            },
            None => Value::Null,
        };
        Reply::json(200, &Map::from_iter([("instances".to_owned(), record)]).into())
    }

    /// `PUT /instances/{id}/`: state or label.
    pub(super) fn change(&mut self, id: u64, request: &Request) -> Reply {
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else { return bad_json() };
        if body.get("id").is_some() {
            return Reply::error(
                400,
                "invalid_args",
                "error 400/3466: params duplicated in URL and body: id",
            );
        }
        if self.visible(id).is_none() {
            return no_such_instance(id);
        }
        if let Some(label) = body.get("label") {
            return self.set_label(id, label);
        }
        match body.get("state").and_then(Value::as_str) {
            Some("stopped") => {
                self.schedule_stop(id);
                Reply::success()
            }
            Some("running") => self.start(id),
            _ => Reply::error(400, "invalid_args", "error 400/3467: Invalid args: state"),
        }
    }

    fn set_label(&mut self, id: u64, label: &Value) -> Reply {
        let label = label.as_str().unwrap_or_default();
        if label.len() > 1024 {
            return Reply::error(
                400,
                "label_too_long",
                "Label is too long; ideally use fewer than 128 characters.",
            );
        }
        if let Some(instance) = self.visible_mut(id) {
            instance.label = Some(label.to_owned()).filter(|label| !label.is_empty());
        }
        Reply::json(200, &json!({"success": true, "msg": format!("Instance {id} label set.")}))
    }

    fn start(&mut self, id: u64) -> Reply {
        if self.account.credit <= 0.0 {
            return Reply::error(400, "missing_billing", "Your account lacks credit; see the billing page.");
        }
        let Some(instance) = self.visible_mut(id) else { return no_such_instance(id) };
        if instance.relet || (instance.is_bid && instance.gpu_price < instance.offer.min_bid) {
            // The wish stays: it may start, and bill, hours later (observed).
            instance.queued = true;
            instance.intended = "running".to_owned();
            instance.next = "running".to_owned();
            return Reply::json(
                200,
                &json!({"success": false,
                        "msg": "Required resources are currently unavailable, state change queued."}),
            );
        }
        let running = instance.actual.as_deref() == Some("running");
        let under_way = instance.intended == "running" && (running || !instance.timeline.is_empty());
        if running && !under_way {
            // A stop that has not taken effect yet is called back.
            instance.timeline.clear();
            instance.intended = "running".to_owned();
            instance.next = "running".to_owned();
        } else if !under_way {
            self.schedule_start(id);
        }
        Reply::success()
    }

    /// `DELETE /instances/{id}/`. It works before the record is visible, too.
    pub(super) fn destroy(&mut self, id: u64) -> Reply {
        match self.instances.get(&id) {
            Some(instance) if instance.deleted_at.is_none() => {
                self.end_contract(id);
                Reply::json(200, &json!({"success": true, "msg": format!("Instance {id} destroyed.")}))
            }
            _ => no_such_instance(id),
        }
    }

    /// `PUT /instances/reboot/{id}/` and `PUT /instances/recycle/{id}/`.
    pub(super) fn restart(&mut self, id: u64, meanwhile: &str) -> Reply {
        match self.visible(id) {
            None => {
                Reply::error(400, "invalid_args", &format!("error 400/3467: Invalid args: instance {id}"))
            }
            Some(instance) if instance.actual.as_deref() != Some("running") => {
                Reply::error(400, "invalid_args", "Instance is not running.")
            }
            Some(_) => {
                self.schedule_restart(id, meanwhile);
                Reply::success()
            }
        }
    }

    /// `PUT /instances/bid_price/{id}/`.
    pub(super) fn change_bid(&mut self, id: u64, request: &Request) -> Reply {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let price = body.get("price").and_then(Value::as_f64).unwrap_or(0.0);
        let Some(instance) = self.visible_mut(id) else { return no_such_instance(id) };
        if price < 0.001 || price > 32.0 * f64::from(instance.offer.num_gpus) {
            return Reply::error(400, "invalid_price", "Please set a bid price >= 0.001.");
        }
        if !instance.is_bid {
            return Reply::error(400, "invalid_args", "Instance is not interruptible.");
        }
        instance.gpu_price = price;
        let resumes = price >= instance.offer.min_bid && instance.current == "stopped";
        if resumes {
            self.schedule_start(id);
        }
        Reply::success()
    }
}

pub(crate) fn no_such_instance(id: u64) -> Reply {
    Reply::error(404, "no_such_instance", &format!("Instance {id} not found."))
}

pub(crate) fn bad_json() -> Reply {
    Reply::error(400, "invalid_args", "error 400/1782: Invalid args: invalid json: {}")
}

//! Renting an offer: what is refused, what is taken, and what comes of a bid that is too low.

use super::World;
use super::message::{Reply, Request};
use super::offers::Offer;
use super::record::{Instance, Knobs};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;

/// Gigabytes of disk when a create names none, and the least there is (Vast API, documented).
const LEAST_DISK: f64 = 8.0;
const LONGEST_IMAGE: usize = 1024;
const LONGEST_ARGS: usize = 16_384;
const LONGEST_LABEL: usize = 256;
const LARGEST_ENV: usize = 32_768;

impl World {
    /// `PUT /asks/{id}/`.
    pub(super) fn create(&mut self, ask: u64, request: &Request) -> Reply {
        let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(&request.body) else {
            return invalid("error 400/1782: Invalid args: invalid json: {}");
        };
        if let Err(reply) = self.check_create(&body) {
            return reply;
        }
        if self.account.credit <= 0.0 {
            return Reply::error(
                400,
                "insufficient_credit",
                "Your account lacks credit; see the billing page.",
            );
        }
        let Some(position) = self.offers.iter().position(|offer| offer.id == ask && offer.rentable) else {
            return no_such_ask(ask);
        };
        let disk = body.get("disk").and_then(Value::as_f64).unwrap_or(LEAST_DISK);
        if disk > self.offers[position].disk_space {
            return invalid("error 400/3467: Invalid args: disk exceeds the available disk_space");
        }
        let price = body.get("price").and_then(Value::as_f64);
        if price.is_some_and(|price| price < self.offers[position].min_bid) {
            return self.create_outbid(position, &body, disk, price);
        }
        let offer = self.offers.remove(position);
        let stopped = body.get("target_state").and_then(Value::as_str) == Some("stopped");
        let instance = self.contract(offer, &body, disk, price);
        let (id, api_key) = (instance.id, instance.api_key.clone());
        self.admit(instance);
        if stopped {
            self.leave_stopped(id, None);
        } else {
            self.schedule_boot(id);
        }
        Reply::json(200, &json!({"success": true, "new_contract": id, "instance_api_key": api_key}))
    }

    /// A bid under the minimum: refused, and yet there is a stopped contract whose disk is billed (observed).
    fn create_outbid(
        &mut self,
        position: usize,
        body: &Map<String, Value>,
        disk: f64,
        price: Option<f64>,
    ) -> Reply {
        let offer = self.offers[position].clone();
        let mut instance = self.contract(offer, body, disk, price);
        instance.holds_offer = false;
        let id = instance.id;
        self.admit(instance);
        self.leave_stopped(id, Some("outbid: the bid is below the current minimum".to_owned()));
        Reply::json(
            200,
            &json!({"success": false, "error": "invalid_price", "new_contract": id,
                    "msg": "Bid is lower than the current minimum bid; instance created in stopped state."}),
        )
    }

    fn leave_stopped(&mut self, id: u64, message: Option<String>) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.actual = Some("created".to_owned());
            for state in [&mut instance.intended, &mut instance.current, &mut instance.next] {
                "stopped".clone_into(state);
            }
            instance.message = message;
        }
    }

    /// Puts a new contract on the books.
    pub(super) fn admit(&mut self, mut instance: Instance) {
        instance.proxy_port = self.host.create(&instance.container());
        self.instances.insert(instance.id, instance);
        self.created += 1;
        let open = self.instances.values().filter(|instance| instance.deleted_at.is_none()).count() as u64;
        self.max_concurrent = self.max_concurrent.max(open);
    }

    /// A contract on an offer as a create call describes it, not yet on the books.
    pub(super) fn contract(
        &mut self,
        offer: Offer,
        body: &Map<String, Value>,
        disk: f64,
        price: Option<f64>,
    ) -> Instance {
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let id = self.next_instance;
        self.next_instance += 1 + self.random.below(40);
        let api_key = self.random.token();
        let mut keys = self.account_keys.iter().map(|key| key.text.clone()).collect::<Vec<_>>();
        keys.extend(text("ssh_key"));
        let keys = keys.into_iter().map(|key| self.attached_key(key)).collect();
        Instance {
            id,
            label: text("label").filter(|label| !label.is_empty()),
            image: text("image").unwrap_or_else(|| "vastai/base-image:cuda-12.4.1-auto".to_owned()),
            runtype: runtype_tokens(&text("runtype").unwrap_or_default()),
            disk,
            env: plain_variables(body.get("env")),
            onstart: text("onstart").filter(|script| !script.is_empty()),
            is_bid: price.is_some(),
            gpu_price: price.unwrap_or(offer.dph_base),
            offer,
            template: body.get("template_hash_id").cloned().unwrap_or(Value::Null),
            api_key,
            created_at: self.now,
            read_from: self.now + self.settings.read_lag,
            list_from: self.now + self.settings.list_lag,
            actual: None,
            intended: "running".to_owned(),
            current: "running".to_owned(),
            next: "running".to_owned(),
            message: None,
            timeline: VecDeque::new(),
            proxy_port: 0,
            direct_port: None,
            ssh_published: false,
            ssh_ready_at: None,
            running_since: None,
            keys,
            deleted_at: None,
            relet: false,
            queued: false,
            outbid: false,
            holds_offer: true,
            knobs: Knobs {
                direct: !self.settings.break_direct,
                proxy: !self.settings.break_proxy,
                refuse_keys: false,
                refuse_proxy: false,
                sshd: true,
                hidden: false,
            },
            overrides: Map::new(),
        }
    }

    fn check_create(&self, body: &Map<String, Value>) -> Result<(), Reply> {
        if body.contains_key("id") {
            return Err(invalid("error 400/3466: params duplicated in URL and body: id"));
        }
        let length = |name: &str| body.get(name).and_then(Value::as_str).map_or(0, str::len);
        let args = match body.get("args") {
            Some(Value::Array(args)) => args.iter().filter_map(Value::as_str).map(|arg| arg.len() + 1).sum(),
            _ => length("args_str"),
        };
        if length("image") > LONGEST_IMAGE
            || args.max(length("onstart")) > LONGEST_ARGS
            || length("label") > LONGEST_LABEL
        {
            return Err(invalid(
                "error 400/3471: Invalid args: len(image) > 1024, or len(args) > 16384, or len(label) > 256",
            ));
        }
        if length("image") == 0 && !body.contains_key("template_hash_id") && !body.contains_key("template_id")
        {
            return Err(invalid("error 400/3467: Invalid args: image"));
        }
        if body.get("disk").is_some_and(|disk| disk.as_f64().is_none_or(|disk| disk < LEAST_DISK)) {
            return Err(invalid("error 400/3467: Invalid args: disk"));
        }
        self.check_env(body.get("env"))?;
        match body.get("price") {
            None | Some(Value::Null) => {}
            Some(price) if price.as_f64().is_some_and(|price| (0.001..=128.0).contains(&price)) => {}
            Some(_) => return Err(Reply::error(400, "invalid_price", "Invalid bid price.")),
        }
        // An image without a tag breaks the vendor's server (Vast API, documented).
        let image = body.get("image").and_then(Value::as_str).unwrap_or_default();
        let last = image.rsplit('/').next().unwrap_or_default();
        if !image.is_empty() && !last.contains([':', '@']) {
            return Err(Reply::error(500, "server_error", "Something went wrong on the server"));
        }
        Ok(())
    }

    fn check_env(&self, env: Option<&Value>) -> Result<(), Reply> {
        match env {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(_)) if !self.settings.refuse_env_string => Ok(()),
            Some(Value::Object(env)) => {
                let size: usize =
                    env.iter().map(|(key, value)| key.len() + value.as_str().map_or(8, str::len) + 2).sum();
                if size > LARGEST_ENV {
                    return Err(invalid("invalid env arguments, total length > 32KB"));
                }
                Ok(())
            }
            Some(_) => Err(invalid("invalid env type: env must be a dict")),
        }
    }
}

/// The offer is not there: a 404 only inside the text, with two spaces (Vast API, observed).
pub(crate) fn no_such_ask(ask: u64) -> Reply {
    Reply::json(
        400,
        &json!({"success": false, "error": "invalid_args", "ask_id": ask,
                "msg": format!("error 404/3603: no_such_ask  Instance type by id {ask} is not available.")}),
    )
}

fn invalid(message: &str) -> Reply {
    Reply::error(400, "invalid_args", message)
}

/// Variables of an env object; docker flags such as `-p 8080:8080` are keys too, but no variables.
fn plain_variables(env: Option<&Value>) -> Vec<(String, String)> {
    let Some(Value::Object(env)) = env else { return Vec::new() };
    env.iter()
        .filter(|(key, _)| !key.starts_with('-') && !key.is_empty() && !key.contains('='))
        .map(|(key, value)| (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect()
}

/// What a read returns for a requested runtype (Vast API, observed).
fn runtype_tokens(runtype: &str) -> String {
    match runtype {
        "ssh_direct" | "ssh_direc ssh_proxy" => "ssh ssh_direc ssh_proxy",
        "" | "ssh" | "ssh_proxy" => "ssh ssh_proxy",
        "jupyter" | "jupyter_proxy" => "jupyter jupyter_proxy ssh_proxy",
        "jupyter_direct" => "jupyter jupyter_direc ssh_direc ssh_proxy",
        other => other,
    }
    .to_owned()
}

//! One rented instance: what the vendor stores about it, and the JSON in which it shows it.

use super::host::Container;
use super::lifecycle::Step;
use super::offers::{Offer, object};
use super::settings::Settings;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::time::Duration;

/// A public key attached to one instance.
#[derive(Clone, Debug)]
pub(crate) struct AttachedKey {
    pub id: u64,
    pub text: String,
    pub attached_at: Duration,
}

/// One contract. Times are simulated time since the start of the world.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub id: u64,
    pub offer: Offer,
    pub label: Option<String>,
    pub image: String,
    pub runtype: String,
    pub disk: f64,
    pub env: Vec<(String, String)>,
    pub onstart: Option<String>,
    pub is_bid: bool,
    /// Dollars per hour for the GPUs: the offer's price, or the bid.
    pub gpu_price: f64,
    pub template: Value,
    pub api_key: String,
    pub created_at: Duration,
    /// When the single read shows it first, and when the list does.
    pub read_from: Duration,
    pub list_from: Duration,
    pub actual: Option<String>,
    pub intended: String,
    pub current: String,
    pub next: String,
    pub message: Option<String>,
    /// What will happen to it, earliest first.
    pub timeline: VecDeque<(Duration, Step)>,
    pub proxy_port: u16,
    /// The direct endpoint's port while the container runs.
    pub direct_port: Option<u16>,
    pub ssh_published: bool,
    pub ssh_ready_at: Option<Duration>,
    pub running_since: Option<Duration>,
    pub keys: Vec<AttachedKey>,
    pub deleted_at: Option<Duration>,
    /// Somebody else has the GPU: a start is queued.
    pub relet: bool,
    pub queued: bool,
    /// Stopped because others bid more, not by its renter.
    pub outbid: bool,
    /// Whether the contract ever took its offer off the market.
    pub holds_offer: bool,
    pub knobs: Knobs,
    /// Columns set by hand, laid over everything else.
    pub overrides: Map<String, Value>,
}

/// What the control plane can spoil about one instance.
#[derive(Clone, Debug)]
pub(crate) struct Knobs {
    pub direct: bool,
    pub proxy: bool,
    pub refuse_keys: bool,
    /// Only the proxy refuses them (observed: for a rental's entire life).
    pub refuse_proxy: bool,
    pub sshd: bool,
    pub hidden: bool,
}

impl Instance {
    /// Whether the GPU is on the bill (Vast API, documented: while running, frozen or rebooting).
    pub(crate) fn gpu_billed(&self) -> bool {
        matches!(self.actual.as_deref(), Some("running" | "frozen" | "rebooting"))
            && self.deleted_at.is_none()
    }

    /// Dollars per hour as the contract stands; storage is billed in every state until destroyed.
    pub(crate) fn rate(&self) -> f64 {
        if self.deleted_at.is_some() {
            return 0.0;
        }
        self.offer.storage_per_hour(self.disk) + if self.gpu_billed() { self.gpu_price } else { 0.0 }
    }

    /// What the host needs to run it.
    pub(crate) fn container(&self) -> Container {
        Container {
            id: self.id,
            image: self.image.clone(),
            env: self.env.clone(),
            onstart: self.onstart.clone(),
            api_key: self.api_key.clone(),
            gpu: self.offer.gpu,
            num_gpus: self.offer.num_gpus,
        }
    }

    /// The price fields.
    fn put_prices(&self, record: &mut Map<String, Value>, scenery: bool) {
        let storage = self.offer.storage_per_hour(self.disk);
        let total = self.gpu_price + storage;
        let gpu_now = if self.gpu_billed() { self.gpu_price } else { 0.0 };
        put!(record, { "dph_base": self.gpu_price, "dph_total": total, "storage_total_cost": storage });
        if scenery {
            record.extend(object(json!({
                "search": {"gpuCostPerHour": self.gpu_price, "diskHour": storage, "totalHour": total,
                           "discountTotalHour": 0.0, "discountedTotalPerHour": total},
                "instance": {"gpuCostPerHour": gpu_now, "diskHour": storage, "totalHour": gpu_now + storage,
                             "discountTotalHour": 0.0, "discountedTotalPerHour": gpu_now + storage},
            })));
        }
    }

    /// The address fields: the proxy pair shows early, the port map only while running.
    fn put_addresses(&self, record: &mut Map<String, Value>) {
        let running = self.actual.as_deref() == Some("running");
        let ports = match (running, self.direct_port) {
            (true, Some(port)) => json!({"22/tcp": [
                {"HostIp": "0.0.0.0", "HostPort": port.to_string()},
                {"HostIp": "::", "HostPort": port.to_string()},
            ]}),
            _ => Value::Null,
        };
        put!(record, {
            "ssh_host": if self.ssh_published { json!("127.0.0.1") } else { Value::Null },
            "ssh_port": if self.ssh_published { json!(self.proxy_port) } else { Value::Null },
            "ssh_idx": "1", "machine_dir_ssh_port": 22_000 + self.offer.machine_id % 1000,
            // Observed: the address may end with a newline.
            "public_ipaddr": if running { json!("127.0.0.1\n") } else { Value::Null },
            "local_ipaddrs": if running { json!("127.0.0.1 \n") } else { Value::Null },
            "ports": ports, "direct_port_count": 1, "direct_port_start": -1, "direct_port_end": -1,
        });
    }

    /// The record as reads show it at this time.
    pub(crate) fn to_json(&self, now: Duration, settings: &Settings, in_list: bool) -> Value {
        let mut record = self.offer.machine_columns(settings.scenery);
        let start_date = settings.epoch + self.created_at.as_secs_f64();
        let uptime = self.running_since.map(|since| (now.saturating_sub(since)).as_secs_f64() / 60.0);
        let extra_env: Vec<Value> = self.env.iter().map(|(key, value)| json!([key, value])).collect();
        put!(record, {
            "id": self.id, "label": self.label,
            "actual_status": self.actual, "intended_status": self.intended, "cur_state": self.current,
            "next_state": self.next, "status_msg": self.message,
            "image_uuid": self.image, "image_runtype": self.runtype,
            "image_args": Value::Array(Vec::new()), "extra_env": extra_env,
            "onstart": self.onstart, "jupyter_token": self.api_key.get(..32),
            "template_hash_id": self.template,
            "start_date": start_date, "end_date": start_date + self.offer.duration,
            "duration": (self.offer.duration - now.saturating_sub(self.created_at).as_secs_f64()).max(0.0),
            "uptime_mins": uptime, "is_bid": self.is_bid, "disk_space": self.disk,
            "disk_util": if self.actual.as_deref() == Some("running") { 1.2 } else { -1.0 }, "rentable": false,
        });
        if settings.scenery {
            record.extend(self.usage());
        }
        self.put_prices(&mut record, settings.scenery);
        self.put_addresses(&mut record);
        if in_list {
            record.insert("volume_info".to_owned(), json!([]));
        }
        record.remove("score");
        record.remove("compute_cap");
        record.extend(self.overrides.clone());
        Value::Object(record)
    }

    /// How busy it is, and what else is only shown.
    fn usage(&self) -> Map<String, Value> {
        let running = self.actual.as_deref() == Some("running");
        object(json!({
            "template_id": null, "template_name": null,
            "gpu_totalram": self.offer.gpu.memory_mib * self.offer.num_gpus,
            "gpu_util": if running { json!(0.0) } else { Value::Null },
            "gpu_temp": if running { json!(31.0) } else { Value::Null },
            "cpu_util": if running { json!(0.4) } else { json!(0.0) },
            "mem_limit": if running { json!(64.2) } else { Value::Null },
            "mem_usage": if running { json!(0.6) } else { Value::Null }, "vmem_usage": null,
            "disk_usage": if running { json!(1.2) } else { Value::Null },
            "credit_balance": null, "credit_discount": null,
            "client_run_time": 1.1, "host_run_time": 2_592_000.0, "time_remaining": "", "time_remaining_isbid": "",
        }))
    }
}

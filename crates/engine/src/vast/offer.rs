//! An offer: what may be rented, and what it really costs with the requested disk.

use super::field;
use crate::lease::{DollarsPerHour, MachineId, OfferId};
use serde_json::Value;

/// Hours of an average month: storage is priced in $/GB/month.
const HOURS_PER_MONTH: f64 = 730.0;

/// One offer. Anything but the id may be missing.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The id that is rented (`ask_contract_id`, or `id`).
    pub id: OfferId,
    /// The machine, stable across offers.
    pub machine: Option<MachineId>,
    /// GPU name with spaces.
    pub gpu_name: String,
    /// GPUs in the offer.
    pub gpu_count: u32,
    /// Memory of one GPU, MB.
    pub gpu_ram_mb: Option<f64>,
    /// CPU cores of the share.
    pub cpu_cores: Option<f64>,
    /// Main memory of the machine, MB.
    pub cpu_ram_mb: Option<f64>,
    /// Free disk, GB.
    pub disk_gb: Option<f64>,
    /// Asked price, $/h, storage as the search computed it.
    pub dph_total: Option<f64>,
    /// Price without storage, $/h.
    pub dph_base: Option<f64>,
    /// Lowest bid, $/h per machine.
    pub min_bid: Option<f64>,
    /// Storage, $/GB/month.
    pub storage_cost: Option<f64>,
    /// The requested storage, $/h, as the search computed it.
    pub storage_total: Option<f64>,
    /// 0 to 1.
    pub reliability: Option<f64>,
    /// Ports that can be mapped directly.
    pub direct_ports: Option<i64>,
    /// Longest rental, seconds.
    pub duration_secs: Option<f64>,
    /// May be rented.
    pub rentable: bool,
    /// Already rented.
    pub rented: bool,
    /// Highest CUDA version of the driver.
    pub cuda: Option<f64>,
    /// "City, CC".
    pub location: Option<String>,
    /// Download and upload, Mb/s, as the host declares them.
    pub inet_mbps: (Option<f64>, Option<f64>),
    /// Deep-learning benchmark per dollar.
    pub dlperf_per_dollar: Option<f64>,
    /// The offer as it came, for sorting by any field.
    raw: Value,
}

impl Offer {
    /// Reads one offer; `None` without an id.
    #[must_use]
    pub fn read(raw: &Value) -> Option<Self> {
        let id = field::id(raw, "ask_contract_id").or_else(|| field::id(raw, "id"))?;
        let reliability = field::number(raw, "reliability").or_else(|| field::number(raw, "reliability2"));
        Some(Self {
            id: OfferId(id),
            machine: field::id(raw, "machine_id").map(MachineId),
            gpu_name: field::text(raw, "gpu_name").unwrap_or_default(),
            gpu_count: field::integer(raw, "num_gpus").and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            gpu_ram_mb: field::number(raw, "gpu_ram"),
            cpu_cores: field::number(raw, "cpu_cores_effective").or_else(|| field::number(raw, "cpu_cores")),
            cpu_ram_mb: field::number(raw, "cpu_ram"),
            disk_gb: field::number(raw, "disk_space"),
            dph_total: money(raw, "dph_total"),
            dph_base: money(raw, "dph_base"),
            min_bid: money(raw, "min_bid"),
            storage_cost: money(raw, "storage_cost"),
            storage_total: money(raw, "storage_total_cost"),
            reliability,
            direct_ports: field::integer(raw, "direct_port_count"),
            duration_secs: field::number(raw, "duration"),
            rentable: field::flag(raw, "rentable").unwrap_or(true),
            rented: field::flag(raw, "rented").unwrap_or(false),
            cuda: field::number(raw, "cuda_max_good"),
            location: field::text(raw, "geolocation"),
            inet_mbps: (field::number(raw, "inet_down"), field::number(raw, "inet_up")),
            dlperf_per_dollar: field::number(raw, "dlperf_per_dphtotal"),
            raw: raw.clone(),
        })
    }

    /// What the rental costs an hour with `disk_gb` of disk: the dearer of the quoted total and of our own sum, so
    /// that a server which ignored the requested storage cannot slip under the cap. `None` when nothing is quoted.
    #[must_use]
    pub fn price(&self, disk_gb: u32) -> Option<DollarsPerHour> {
        let own = match (self.dph_base, self.storage_cost) {
            (Some(base), Some(storage)) => Some(base + self.storage_per_hour(storage, disk_gb)),
            _ => None,
        };
        dearer(self.dph_total, own).map(DollarsPerHour)
    }

    /// What an interruptible rental costs an hour at `bid`, disk included: again the dearer of quote and own sum.
    #[must_use]
    pub fn price_at_bid(&self, bid: DollarsPerHour, disk_gb: u32) -> DollarsPerHour {
        let own = self.storage_cost.map(|cost| self.storage_per_hour(cost, disk_gb));
        DollarsPerHour(bid.0 + dearer(self.storage_total, own).unwrap_or(0.0))
    }

    /// A number of the offer by its field name, for sorting.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        field::number(&self.raw, name).or_else(|| field::flag(&self.raw, name).map(f64::from))
    }

    fn storage_per_hour(&self, cost: f64, disk_gb: u32) -> f64 {
        cost * f64::from(disk_gb) / HOURS_PER_MONTH
    }
}

/// An amount; one below zero is none: it would make the offer the cheapest of all.
fn money(raw: &Value, name: &str) -> Option<f64> {
    field::number(raw, name).filter(|amount| *amount >= 0.0)
}

fn dearer(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (one, other) => one.or(other),
    }
}

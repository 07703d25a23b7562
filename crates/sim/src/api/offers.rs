//! The market: machines with their one offer each, drawn from the seed, and an offer's JSON.

use super::host::Gpu;
use super::random::Random;
use super::settings::Settings;
use serde_json::{Map, Value, json};

/// Hours in the month by which storage is priced.
pub(crate) const HOURS_PER_MONTH: f64 = 720.0;

/// The GPU types on the market: what they are, a typical price in dollars per hour and GPU, TFLOPs.
const GPUS: [(Gpu, f64, f64); 6] = [
    (gpu("RTX 4090", "NVIDIA GeForce RTX 4090", 24_564, 890, 450), 0.36, 81.0),
    (gpu("RTX 3090", "NVIDIA GeForce RTX 3090", 24_576, 860, 350), 0.17, 35.0),
    (gpu("H100 SXM", "NVIDIA H100 80GB HBM3", 81_559, 900, 700), 2.10, 53.0),
    (gpu("A100 SXM4", "NVIDIA A100-SXM4-80GB", 81_920, 800, 400), 0.95, 19.0),
    (gpu("RTX 5090", "NVIDIA GeForce RTX 5090", 32_607, 1200, 575), 0.55, 104.0),
    (gpu("RTX A6000", "NVIDIA RTX A6000", 49_140, 860, 300), 0.44, 38.0),
];

const fn gpu(
    vast_name: &'static str,
    driver_name: &'static str,
    memory_mib: u32,
    compute_cap: u32,
    max_power: u32,
) -> Gpu {
    Gpu { vast_name, driver_name, memory_mib, compute_cap, max_power }
}

const PLACES: [&str; 8] = [
    "Sweden, SE",
    "Oregon, US",
    "Quebec, CA",
    "Netherlands, NL",
    "Texas, US",
    "Japan, JP",
    "Bulgaria, BG",
    "Iceland, IS",
];
const DRIVERS: [&str; 4] = ["535.183.01", "550.127.05", "565.57.01", "570.124.06"];
const CUDA: [f64; 4] = [12.2, 12.4, 12.7, 12.8];
const CPUS: [&str; 4] =
    ["AMD EPYC 7763 64-Core", "AMD Ryzen Threadripper PRO 5975WX", "Intel Xeon Gold 6342", "AMD EPYC 9654"];

/// One machine's offer. The id changes whenever the machine comes back to the market; the machine's does not.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub id: u64,
    pub machine_id: u64,
    pub host_id: u64,
    pub bundle_id: u64,
    pub gpu: Gpu,
    pub tflops: f64,
    pub num_gpus: u32,
    pub gpu_frac: f64,
    pub verification: &'static str,
    pub rentable: bool,
    pub rented: bool,
    pub reliability: f64,
    pub dph_base: f64,
    pub min_bid: f64,
    pub storage_cost: f64,
    pub disk_space: f64,
    pub duration: f64,
    pub direct_port_count: u32,
    pub geolocation: &'static str,
    pub inet_up: f64,
    pub inet_down: f64,
    pub cpu_cores: Option<u32>,
    pub cpu_ram: u32,
    pub cpu_name: Option<&'static str>,
    pub driver: usize,
    pub datacenter: bool,
    pub dlperf: Option<f64>,
    pub score: Option<f64>,
    pub hostname: Option<&'static str>,
    pub public_ip: String,
}

impl Offer {
    /// What storage of this size costs here, in dollars per hour.
    pub(crate) fn storage_per_hour(&self, gigabytes: f64) -> f64 {
        self.storage_cost * gigabytes / HOURS_PER_MONTH
    }

    /// The columns that offers and instances share; `scenery`: those too that only describe the machine.
    pub(crate) fn machine_columns(&self, scenery: bool) -> Map<String, Value> {
        let cores = self.cpu_cores.map(f64::from);
        // Room for a whole record with its scenery: most of what is shown is written here again and again.
        let mut columns = Map::with_capacity(112);
        put!(columns, {
            "machine_id": self.machine_id, "host_id": self.host_id, "bundle_id": self.bundle_id,
            "hosting_type": u8::from(self.datacenter), "verification": self.verification,
            "gpu_name": self.gpu.vast_name, "num_gpus": self.num_gpus, "gpu_frac": self.gpu_frac,
            "gpu_ram": self.gpu.memory_mib, "compute_cap": self.gpu.compute_cap,
            "cuda_max_good": CUDA[self.driver], "driver_version": DRIVERS[self.driver],
            "cpu_cores": self.cpu_cores, "cpu_cores_effective": cores.unwrap_or(32.0) * self.gpu_frac,
            "cpu_ram": self.cpu_ram, "inet_up": self.inet_up, "inet_down": self.inet_down,
            "storage_cost": self.storage_cost, "min_bid": self.min_bid, "reliability2": self.reliability,
            "geolocation": self.geolocation, "static_ip": self.datacenter, "dlperf": self.dlperf,
            "score": self.score,
        });
        if scenery {
            columns.extend(object(json!({
                "vericode": u8::from(self.verification == "verified"),
                "gpu_arch": "nvidia", "gpu_lanes": 16, "gpu_mem_bw": 900.5,
                "gpu_max_power": self.gpu.max_power, "gpu_max_temp": 90.0, "gpu_display_active": false,
                "bw_nvlink": 0.0, "pci_gen": 4.0, "pcie_bw": 24.1,
                "driver_vers": driver_number(DRIVERS[self.driver]),
                "cpu_name": self.cpu_name, "cpu_arch": "amd64", "cpu_ghz": 3.4, "has_avx": 1,
                "disk_bw": 2100.0, "disk_name": "nvme", "inet_up_cost": 0.002, "inet_down_cost": 0.002,
                "internet_up_cost_per_tb": 2.0, "internet_down_cost_per_tb": 2.0, "geolocode": 134_744_072,
                "country_code": &self.geolocation[self.geolocation.len() - 2..], "external": false,
                "total_flops": self.tflops * f64::from(self.num_gpus), "logo": "/static/logos/vastai_small2.png",
                "mobo_name": "ROME2D32GM", "os_version": "22.04", "hostname": self.hostname,
                "webpage": null, "credit_discount_max": 0.4, "is_vm_deverified": false,
            })));
        }
        columns
    }

    /// The offer as a search returns it for this much storage; a bid listing is priced from `min_bid`.
    pub(crate) fn to_json(&self, storage: f64, bid: bool, settings: &Settings) -> Value {
        let (epoch, scenery) = (settings.epoch, settings.scenery);
        let base = if bid { self.min_bid } else { self.dph_base };
        let storage_total = self.storage_per_hour(storage);
        let total = base + storage_total;
        let mut offer = self.machine_columns(scenery);
        put!(offer, {
            "id": self.id, "ask_contract_id": self.id, "gpu_total_ram": self.gpu.memory_mib * self.num_gpus,
            "disk_space": self.disk_space, "dph_base": base, "dph_total": total,
            "storage_total_cost": storage_total,
            "reliability": self.reliability, "expected_reliability": self.reliability,
            "dlperf_per_dphtotal": self.dlperf.map(|dlperf| dlperf / total),
            "direct_port_count": self.direct_port_count, "public_ipaddr": self.public_ip,
            "rentable": self.rentable, "rented": self.rented, "is_bid": bid,
            "duration": self.duration, "start_date": epoch - 86_400.0, "end_date": epoch + self.duration,
        });
        if scenery {
            offer.extend(object(json!({
                "dph_total_adj": total, "discounted_dph_total": total, "discounted_hourly": 0.0,
                "discount_rate": null,
                "search": {"gpuCostPerHour": base, "diskHour": storage_total, "totalHour": total,
                           "discountTotalHour": 0.0, "discountedTotalPerHour": total},
                "instance": {"gpuCostPerHour": 0.0, "diskHour": storage_total, "totalHour": storage_total,
                             "discountTotalHour": 0.0, "discountedTotalPerHour": storage_total},
                "platform_fee": null, "reliability_mult": 0.97,
                "flops_per_dphtotal": self.tflops * f64::from(self.num_gpus) / total,
                "vms_enabled": false, "resource_type": "gpu", "cluster_id": null, "avail_vol_ask_id": null,
                "avail_vol_dph": null, "avail_vol_size": null, "nw_disk_min_bw": null, "nw_disk_max_bw": null,
                "nw_disk_avg_bw": null, "rn": 1, "time_remaining": "", "time_remaining_isbid": "",
            })));
        }
        Value::Object(offer)
    }
}

/// The members of what is written as an object.
pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// `535.86.05` as the integer by which the vendor compares drivers, 535086005.
fn driver_number(version: &str) -> u64 {
    version.split('.').fold(0, |number, part| number * 1000 + part.parse::<u64>().unwrap_or(0))
}

/// Draws the market. Every GPU type has at least one plain, verified, rentable machine with direct ports.
pub(crate) fn catalogue(machines: u64, random: &mut Random) -> Vec<Offer> {
    (0..machines).map(|index| draw(index, random)).collect()
}

fn draw(index: u64, random: &mut Random) -> Offer {
    let (gpu, price, tflops) = GPUS[(index % GPUS.len() as u64) as usize];
    let plain = index < GPUS.len() as u64;
    let num_gpus = if plain { 1 } else { random.pick(&[1, 1, 1, 2, 4, 8]) };
    let machine_gpus = num_gpus.max(random.pick(&[1, 2, 4, 8]));
    let dph_base = round(price * f64::from(num_gpus) * random.between(0.8, 1.6), 4);
    // The odd ones are spread by index, so that every seed has some of each kind.
    let unverified = !plain && index % 7 == 3;
    let taken = !plain && index % 11 == 5;
    let sparse = !plain && index % 5 == 4;
    let cores = random.pick(&[16, 32, 64, 128]);
    let dlperf = round(tflops * f64::from(num_gpus) * random.between(0.9, 1.3), 3);
    Offer {
        id: 20_000_000 + index * 137 + random.below(100),
        machine_id: 30_000 + index * 11,
        host_id: 60_000 + random.below(30),
        bundle_id: 900_000_000 + random.below(1_000_000),
        gpu,
        tflops,
        num_gpus,
        gpu_frac: f64::from(num_gpus) / f64::from(machine_gpus),
        verification: if unverified { "unverified" } else { "verified" },
        rentable: !taken,
        rented: taken,
        reliability: round(if plain { random.between(0.985, 0.999) } else { random.between(0.86, 0.999) }, 4),
        dph_base,
        min_bid: round(dph_base * random.between(0.35, 0.7), 4),
        storage_cost: round(random.between(0.08, 0.35), 3),
        disk_space: round(if plain { random.between(300.0, 900.0) } else { random.between(24.0, 3000.0) }, 1),
        duration: round(
            if plain { random.between(20.0, 60.0) * 86_400.0 } else { random.between(0.02, 60.0) * 86_400.0 },
            0,
        ),
        direct_port_count: if plain { 100 } else { random.pick(&[0, 1, 4, 50, 250, 499]) },
        geolocation: random.pick(&PLACES),
        inet_up: round(random.between(90.0, 4000.0), 1),
        inet_down: round(random.between(150.0, 6000.0), 1),
        cpu_cores: if sparse { None } else { Some(cores) },
        cpu_ram: random.pick(&[64_000, 128_000, 257_000, 515_000]),
        cpu_name: if sparse { None } else { Some(random.pick(&CPUS)) },
        driver: random.below(4) as usize,
        datacenter: random.below(4) == 0,
        dlperf: if sparse { None } else { Some(dlperf) },
        score: if sparse { None } else { Some(round(dlperf / dph_base, 3)) },
        hostname: None,
        public_ip: format!("203.0.113.{}", 1 + random.below(250)),
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}

/// The distinct product names on the market.
pub(crate) fn gpu_names() -> Vec<&'static str> {
    GPUS.iter().map(|(gpu, ..)| gpu.vast_name).collect()
}

/// The GPU of this name, for instances made by hand.
pub(crate) fn gpu_named(name: &str) -> Option<Gpu> {
    GPUS.iter().find(|(gpu, ..)| gpu.vast_name == name).map(|(gpu, ..)| *gpu)
}

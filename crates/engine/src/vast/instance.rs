//! What a rented machine shows of itself.

use super::field;
use crate::lease::{DollarsPerHour, InstanceId, MachineId, OwnershipLabel};
use crate::redact::{head, plain, redact, unquoted, without};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;

/// Which way an SSH endpoint goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointKind {
    /// The machine's own address and mapped port.
    Direct,
    /// The vendor's relay.
    Proxy,
}

/// An address at which sshd may answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Endpoint {
    /// Way.
    pub kind: EndpointKind,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// One instance as a read showed it. Anything but the id may be missing.
#[derive(Debug, Clone)]
pub struct Instance {
    /// The contract id.
    pub id: InstanceId,
    /// What the container does, as last heard; `None` while provisioning.
    pub actual_status: Option<String>,
    /// What was last asked.
    pub intended_status: Option<String>,
    /// Whether the contract holds hardware.
    pub cur_state: Option<String>,
    /// What the contract is scheduled to become.
    pub next_state: Option<String>,
    /// Progress or error text, perhaps stale.
    pub status_msg: Option<String>,
    /// The free-text label.
    pub label: Option<String>,
    /// The machine.
    pub machine: Option<MachineId>,
    /// The vendor's relay, port already corrected.
    pub proxy: Option<Endpoint>,
    /// The direct address, once port 22 is mapped.
    pub direct: Option<Endpoint>,
    /// GPU name.
    pub gpu_name: Option<String>,
    /// GPUs.
    pub gpu_count: Option<u32>,
    /// $/h, disk included.
    pub dph_total: Option<DollarsPerHour>,
    /// Interruptible.
    pub is_bid: Option<bool>,
    /// Disk in use; negative while the host has reported nothing yet.
    pub disk_util: Option<f64>,
    /// $/h of the disk, which is billed in every state; the dearest that the record tells.
    pub storage_price: Option<DollarsPerHour>,
    /// Seconds since 1970 at which the rental began.
    pub start_date: Option<f64>,
    /// Seconds since 1970 at which the host's contract ends: the machine is stopped then, and its data removed later.
    pub end_date: Option<f64>,
    /// The start script that the rental was made with, as far as the API shows it; never to be shown.
    pub start_script: Option<SecretString>,
}

impl Instance {
    /// Reads one instance; `None` without an id.
    #[must_use]
    pub fn read(raw: &Value) -> Option<Self> {
        let id = field::id(raw, "id").or_else(|| field::id(raw, "contract_id"))?;
        Some(Self {
            id: InstanceId(id),
            actual_status: lower(raw, "actual_status"),
            intended_status: lower(raw, "intended_status"),
            cur_state: lower(raw, "cur_state"),
            next_state: lower(raw, "next_state"),
            status_msg: field::text(raw, "status_msg").map(|text| told(raw, &text)),
            label: field::text(raw, "label"),
            machine: field::id(raw, "machine_id").map(MachineId),
            proxy: proxy(raw),
            direct: direct(raw),
            gpu_name: field::text(raw, "gpu_name"),
            gpu_count: field::integer(raw, "num_gpus").and_then(|n| u32::try_from(n).ok()),
            dph_total: field::number(raw, "dph_total").map(DollarsPerHour),
            is_bid: field::flag(raw, "is_bid"),
            disk_util: field::number(raw, "disk_util"),
            storage_price: storage_price(raw),
            start_date: field::number(raw, "start_date"),
            end_date: field::number(raw, "end_date"),
            start_script: field::text(raw, "onstart").map(SecretString::from),
        })
    }

    /// The ownership label, if it carries one.
    #[must_use]
    pub fn ownership(&self) -> Option<OwnershipLabel> {
        OwnershipLabel::decode(self.label.as_deref()?)
    }

    /// Addresses to try, the direct one first.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.direct.iter().chain(&self.proxy).cloned().collect()
    }

    /// The container is up, which does not mean that sshd is.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.actual_status.as_deref() == Some("running")
    }

    /// It was asked to run and is on its way there.
    #[must_use]
    pub fn is_coming_up(&self) -> bool {
        let loads = matches!(self.actual_status.as_deref(), None | Some("created" | "loading" | "rebooting"));
        loads && self.intended_status.as_deref() == Some("running")
    }

    /// When the host's contract ends, Unix seconds on the vendor's clock.
    #[must_use]
    pub fn contract_ends_at(&self) -> Option<i64> {
        self.end_date.filter(|at| *at > 0.0).map(|at| at as i64)
    }

    /// Its GPUs are on the bill (Vast API, documented: while running, frozen or rebooting).
    #[must_use]
    pub fn is_billed(&self) -> bool {
        matches!(self.actual_status.as_deref(), Some("running" | "frozen" | "rebooting"))
    }

    /// The contract holds no hardware and is not about to: outbid, out of credit, at its end, or stopped by hand.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let stopped = |field: &Option<String>| field.as_deref() == Some("stopped");
        // A reader that was not told what comes next goes by what is and what was asked.
        let next = self.next_state.is_none() || stopped(&self.next_state);
        stopped(&self.intended_status) && stopped(&self.cur_state) && next && !self.is_running()
    }

    /// The contract is already taken apart: the record lingers for some seconds after a destroy.
    #[must_use]
    pub fn is_unloaded(&self) -> bool {
        self.cur_state.as_deref() == Some("unloaded")
    }

    /// The status word that `list` and `status` show: what the container does, `ready` for a running one as crabbox
    /// writes it, `provisioning` while nothing is known yet.
    #[must_use]
    pub fn shown_status(&self) -> String {
        match self.actual_status.as_deref() {
            Some("running" | "active" | "ready") => "ready".to_owned(),
            Some(other) => other.to_owned(),
            None => "provisioning".to_owned(),
        }
    }
}

fn lower(raw: &Value, name: &str) -> Option<String> {
    field::text(raw, name).map(|text| text.to_ascii_lowercase())
}

/// The longest status text that is looked at, bytes; the vendor's have some hundred.
const STATUS: usize = 2048;

/// The status text without secrets: it quotes what the container's host said, which may hold those of this record.
fn told(raw: &Value, text: &str) -> String {
    let known = ["instance_api_key", "jupyter_token"].into_iter().filter_map(|name| field::text(raw, name));
    // A short word of the user's own would tear the text apart.
    let known = known.filter(|secret| secret.len() >= 8);
    let text = known.fold(plain(text), |text, secret| without(&secret, &text).into_owned());
    unquoted(&redact(head(&text, STATUS)))
}

/// `public_ipaddr` (which may end in a newline) and the first mapping of port 22.
fn direct(raw: &Value) -> Option<Endpoint> {
    let host = field::text(raw, "public_ipaddr")?;
    let mappings = raw.get("ports")?.get("22/tcp")?.as_array()?;
    let port = mappings.iter().find_map(|mapping| port(mapping.get("HostPort")?))?;
    Some(Endpoint { kind: EndpointKind::Direct, host, port })
}

/// `ssh_host` and `ssh_port`, one port higher where jupyter occupies the first.
fn proxy(raw: &Value) -> Option<Endpoint> {
    let host = field::text(raw, "ssh_host")?;
    let listed = port(raw.get("ssh_port")?)?;
    let jupyter = field::text(raw, "image_runtype").is_some_and(|runtype| runtype.contains("jupyter"));
    let port = if jupyter { listed.checked_add(1)? } else { listed };
    Some(Endpoint { kind: EndpointKind::Proxy, host, port })
}

/// What the listing says of the disk, and what the contract says, which may be dearer while it is stopped.
fn storage_price(raw: &Value) -> Option<DollarsPerHour> {
    let now = raw.get("instance").and_then(|now| field::number(now, "diskHour"));
    let told = field::number(raw, "storage_total_cost").into_iter().chain(now);
    told.filter(|price| *price >= 0.0).reduce(f64::max).map(DollarsPerHour)
}

fn port(value: &Value) -> Option<u16> {
    field::as_integer(value).and_then(|n| u16::try_from(n).ok()).filter(|port| *port > 0)
}

/// Why an instance will not come up, told from the vendor's status text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFault {
    /// The machine's fault: another machine may do.
    Host,
    /// The image's fault: no machine will do.
    Image,
}

/// Looks for the tokens of known start failures. The text never tells the *state*: it can be stale.
#[must_use]
pub fn start_fault(status_msg: &str) -> Option<StartFault> {
    /// What a registry answers, or what cannot be asked of any.
    const IMAGE: &[&str] = &[
        "manifest unknown",
        "manifest for",
        "pull access denied",
        "unauthorized",
        "repository does not exist",
        "toomanyrequests",
        "invalid reference format",
    ];
    /// The registry was not reached: that tells nothing of the image.
    const NETWORK: &[&str] = &["dial tcp: lookup", "i/o timeout"];
    /// Registries that exist: a host that cannot find them has no name service.
    const REGISTRIES: &[&str] = &["docker.io", "ghcr.io", "nvcr.io", "quay.io"];
    const UNRESOLVED: &str = "failed to resolve reference";
    const HOST: &[&str] = &[
        "oci runtime create failed",
        "unresolvable cdi devices",
        "nvidia-container-cli",
        "no space left on device",
        "failed to create task",
        "error response from daemon",
        "failed to pull image",
    ];
    let said = status_msg.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    // A registry whose name nobody knows is a mistake in the image's name.
    let misnamed = says(&["no such host"]) && !says(REGISTRIES);
    if says(IMAGE) || (says(&[UNRESOLVED]) && (misnamed || !says(NETWORK))) {
        Some(StartFault::Image)
    } else if says(NETWORK) || says(HOST) {
        Some(StartFault::Host)
    } else {
        None
    }
}

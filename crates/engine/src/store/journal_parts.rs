//! What the journal of a lease consists of: the request, each create, each step, and who answers for the lease. Their fields
//! are the format on disk; unknown ones are kept.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(super) const DISCARDED: &str = "discarded";

/// The outcome of a create that was never answered and whose instance no complete list showed.
pub(crate) const PROVED_NOTHING: &str = "nothing: proved by the complete list";

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JournalRequest {
    /// Container image.
    pub image: String,
    /// Disk in gigabytes.
    pub disk_gb: u32,
    /// Price cap in dollars per hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<f64>,
    /// Name of the GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_name: Option<String>,
    /// Number of GPUs; 0 for any.
    pub gpu_count: u32,
    /// Whether a bid was made instead of renting on demand.
    pub interruptible: bool,
    /// Hash of the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The bid in dollars per hour that was asked for; none where the lowest winning one was to be found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bid: Option<f64>,
    /// Whether the lease outlives its command.
    pub keep: bool,
    /// The slug that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// The group that the lease was to belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pond: Option<String>,
    /// The ports that were to be recorded on it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<u16>,
    /// Most dollars that the lease may cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<f64>,
    /// Seconds after which the lease ends by itself; none where nothing ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_secs: Option<u64>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One create, journalled before it is sent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempt {
    /// The offer.
    pub offer: u64,
    /// The machine behind the offer, where the search named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<u64>,
    /// Price in dollars per hour, with the requested disk.
    pub price: f64,
    /// Unix seconds.
    pub started_at: i64,
    /// The same on the vendor's clock, as far as its answers had told it: ours may be set while an answer is awaited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_at: Option<i64>,
    /// `created: <instance>`, `adopted: <instance>`, `nothing: <why>`, `ambiguous: <why>` or, once the instance is to
    /// be destroyed because it will not do, `discarded: <why>`, or because the lease has another one,
    /// `surplus: <instance>`; absent while the answer is awaited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The instance, where one was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<u64>,
    /// An instance that a refusal named and whose label could not be read: perhaps ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named: Option<u64>,
    /// The public key that the create carried: what shows it in its start script is this lease's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Attempt {
    /// Whether no answer ever told what this create made. One that was given up as "nothing" after its window counts
    /// too: a latecomer would be its.
    #[must_use]
    pub fn was_unclear(&self) -> bool {
        let refused = |outcome: &str| outcome.starts_with("nothing") && !outcome.starts_with(PROVED_NOTHING);
        self.instance.is_none() && !self.outcome.as_deref().is_some_and(refused)
    }

    /// Whether what it made will not do.
    pub(super) fn was_discarded(&self) -> bool {
        self.outcome.as_deref().is_some_and(|outcome| outcome.starts_with(DISCARDED))
    }
}

/// What a step does to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    /// Destroys it.
    Destroy,
    /// Stops it.
    Stop,
    /// Starts it again: it bills from here.
    Start,
}

impl StepKind {
    /// As it is written in results: `destroy`, `stop` or `start`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            StepKind::Destroy => "destroy",
            StepKind::Stop => "stop",
            StepKind::Start => "start",
        }
    }
}

/// A paid or destructive step on an instance: recorded before the call, and again with its proof. One that has
/// neither proof nor end is open; whoever finds it with its process dead finishes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What.
    pub kind: StepKind,
    /// The instance.
    pub instance: u64,
    /// When it was about to be sent, Unix seconds.
    pub requested_at: i64,
    /// When a read proved it, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proved_at: Option<i64>,
    /// Why nothing came of it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void: Option<String>,
    /// Whether it takes back what came to nothing, a stop a start, a destroy an acquire: nobody asked for it, and it is not to
    /// be done to somebody who got in meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takes_back: bool,
    /// Whether it is no more than asked for: its process has not come to the point of sending it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wished: bool,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Step {
    /// Whether neither a proof nor an end is known.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.proved_at.is_none() && self.void.is_none()
    }
}

/// A process that answers for the lease with its own life: when it is gone, so is the reason for the lease.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Holder {
    /// `pid@host`, for messages only; that it lives is told by its operation lock.
    pub process: String,
    /// Unix seconds.
    pub since: i64,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The dead-man switch that the lease was made with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeadmanRecord {
    /// Time to live in seconds, where it is armed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_secs: Option<u64>,
    /// Idle timeout in seconds, where it is armed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_secs: Option<u64>,
    /// Installed over the first session, not by the create call: a start after a stop does not bring it back.
    pub over_ssh: bool,
    /// The hard end, Unix seconds, as the instance reported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<i64>,
    /// When the instance reported, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<i64>,
    /// Why it does not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

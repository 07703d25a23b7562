//! The claim: the local record of a lease, one JSON file that crabbox and crabbox-vast share.

use super::claim_fields::{Field, finish, is_named};
use super::{InstanceId, LabelPlan, Labels, Slug, labels::key, legal_file_stem, rfc3339};
use serde::Serialize;
use serde_json::{Map, Value};
use std::time::SystemTime;

/// Why a file in the claims folder is not a readable claim. Others are not affected by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClaimProblem {
    /// File name without folder.
    pub file: String,
    /// `invalid_filename`, `invalid_json`, `lease_id_mismatch`, `non_regular_file` or `read_error`; an inventory also
    /// tells `claim_too_large`, `empty_lease_id` and `problems_truncated`.
    pub code: &'static str,
    /// One line.
    pub message: String,
}

macro_rules! claim {
    ($( $(#[$doc:meta])* $field:ident : $type:ty = $name:literal $(, $omit:literal)? ; )*) => {
        /// The record of one lease, with every field of crabbox's record in its order. An empty text, zero, `false`
        /// and an empty list or map mean *absent*.
        ///
        /// crabbox forgets what it does not know when it writes a claim; this type keeps it in [`Claim::extra`].
        #[derive(Debug, Clone, PartialEq, Default, Serialize)]
        pub struct Claim {
            $( $(#[$doc])* #[serde(rename = $name $(, skip_serializing_if = $omit)?)] pub $field: $type, )*
            /// Fields that are unknown here, written back behind the known ones.
            #[serde(flatten)]
            pub extra: Map<String, Value>,
        }

        impl Claim {
            /// Stores one member of the file; the message says what is wrong with it.
            fn set(&mut self, name: String, value: Value) -> Result<(), String> {
                $( if is_named(&name, $name) {
                    if !value.is_null() {
                        self.$field = <$type as Field>::read(value)
                            .ok_or_else(|| format!("{} is not {}", $name, <$type as Field>::KIND))?;
                    }
                    return Ok(());
                } )*
                self.extra.insert(name, value);
                Ok(())
            }
        }
    };
}

claim! {
    /// Lease identifier; equal to the file's stem.
    lease_id: String = "leaseID";
    /// 32 lower-case hex digits, replaced at every write: whoever read an older one must read again.
    revision: Option<String> = "revision", "Option::is_none";
    /// Slug.
    slug: String = "slug", "String::is_empty";
    /// Provider name, `vast` for ours.
    provider: String = "provider", "String::is_empty";
    /// Instance identifier in decimal; absent while a create is unclear.
    cloud_id: String = "cloudID", "String::is_empty";
    /// Never set for Vast.
    cloud_numeric_id: i64 = "cloudNumericID", "is_zero";
    /// Never set for Vast.
    cloud_immutable_id: String = "cloudImmutableID", "String::is_empty";
    /// Must be absent for Vast.
    provider_scope: String = "providerScope", "String::is_empty";
    /// Never set for Vast.
    static_host: String = "staticHost", "String::is_empty";
    /// Never set for Vast.
    static_user: String = "staticUser", "String::is_empty";
    /// Never set for Vast.
    static_port: String = "staticPort", "String::is_empty";
    /// Never set for Vast.
    static_work_root: String = "staticWorkRoot", "String::is_empty";
    /// Never set for Vast.
    target_os: String = "targetOS", "String::is_empty";
    /// Never set for Vast.
    windows_mode: String = "windowsMode", "String::is_empty";
    /// Pond the lease belongs to.
    pond: String = "pond", "String::is_empty";
    /// Absolute path of the repository the lease is bound to; empty where it is bound to none.
    repo_root: String = "repoRoot";
    /// When the lease was bound to its repository, RFC 3339 with second precision.
    claimed_at: String = "claimedAt";
    /// Last use from a repository, RFC 3339 with second precision.
    last_used_at: String = "lastUsedAt";
    /// Idle timeout in seconds.
    idle_timeout_seconds: i64 = "idleTimeoutSeconds", "is_zero";
    /// Not used for Vast.
    tailscale_ipv4: String = "tailscaleIPv4", "String::is_empty";
    /// Not used for Vast.
    tailscale_fqdn: String = "tailscaleFQDN", "String::is_empty";
    /// Not used for Vast.
    tailscale_hostname: String = "tailscaleHostname", "String::is_empty";
    /// Not used for Vast.
    tailscale_tags: Vec<String> = "tailscaleTags", "Vec::is_empty";
    /// Not used for Vast.
    tailscale_login_url: String = "tailscaleLoginURL", "String::is_empty";
    /// Not used for Vast.
    tailscale_exit_node: String = "tailscaleExitNode", "String::is_empty";
    /// Not used for Vast.
    tailscale_exit_lan: bool = "tailscaleExitLAN", "is_false";
    /// Last known SSH host. crabbox never connects with it; it reads the endpoint from the API each time.
    ssh_host: String = "sshHost", "String::is_empty";
    /// Last known SSH port.
    ssh_port: i64 = "sshPort", "is_zero";
    /// Not used for Vast.
    bridge_url: String = "bridgeURL", "String::is_empty";
    /// Not used for Vast.
    coordinator_registration_url: String = "coordinatorRegistrationURL", "String::is_empty";
    /// Not used for Vast.
    runtime_adapter_registration_id: String = "runtimeAdapterRegistrationID", "String::is_empty";
    /// Not used for Vast.
    runtime_adapter_pending_registration_id: String = "runtimeAdapterPendingRegistrationID", "String::is_empty";
    /// Cache volumes as `key:path`; normally absent.
    cache_volumes: Vec<String> = "cacheVolumes", "Vec::is_empty";
    /// Labels.
    labels: Labels = "labels", "Labels::is_empty";
    /// Not used for Vast; kept as it is.
    fixed_create_intent: Option<Value> = "fixedCreateIntent", "Option::is_none";
}

impl Claim {
    /// Reads the content of the claim file `<stem>.json`.
    ///
    /// As strict as crabbox: text must be UTF-8 without a byte order mark, one JSON object and nothing behind it,
    /// whole numbers without fraction, label values strings. As tolerant too: names in any case, a missing revision,
    /// and an empty lease identifier, which becomes the stem.
    ///
    /// # Errors
    /// A [`ClaimProblem`] that names the file and what is wrong with it.
    pub fn decode(stem: &str, bytes: &[u8]) -> Result<Claim, ClaimProblem> {
        let mut claim = Claim::read(stem, bytes)?;
        if claim.lease_id.is_empty() {
            stem.clone_into(&mut claim.lease_id);
        }
        Ok(claim)
    }

    /// [`Claim::decode`] without the one tolerance that other tools may not share: the lease must be named inside.
    ///
    /// # Errors
    /// As [`Claim::decode`], and `empty_lease_id`.
    pub fn decode_named(stem: &str, bytes: &[u8]) -> Result<Claim, ClaimProblem> {
        let claim = Claim::read(stem, bytes)?;
        if claim.lease_id.is_empty() {
            let message = "the claim names no lease".to_owned();
            return Err(ClaimProblem { file: format!("{stem}.json"), code: "empty_lease_id", message });
        }
        Ok(claim)
    }

    fn read(stem: &str, bytes: &[u8]) -> Result<Claim, ClaimProblem> {
        let problem = |code, message: String| ClaimProblem { file: format!("{stem}.json"), code, message };
        if !legal_file_stem(stem) {
            return Err(problem("invalid_filename", "the file name is no lease identifier".to_owned()));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| problem("invalid_json", format!("not UTF-8 text: {error}")))?;
        let members: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| problem("invalid_json", format!("not a JSON object: {error}")))?;
        let mut claim = Claim::default();
        for (name, value) in members {
            claim.set(name, value).map_err(|message| problem("invalid_json", message))?;
        }
        if !claim.lease_id.is_empty() && claim.lease_id != stem {
            let message = format!("the file holds the claim of {:?}", claim.lease_id);
            return Err(problem("lease_id_mismatch", message));
        }
        Ok(claim)
    }

    /// The content of the claim file, byte for byte as crabbox writes the same claim.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Strings, numbers and maps with text keys always serialise.
        finish(&serde_json::to_string_pretty(self).unwrap_or_default())
    }

    /// Whether the lease is one of Vast (the name and its two aliases).
    #[must_use]
    pub fn is_vast(&self) -> bool {
        matches!(self.provider.trim().to_ascii_lowercase().as_str(), "vast" | "vast-ai" | "vastai")
    }

    /// The instance, where one is known.
    #[must_use]
    pub fn instance_id(&self) -> Option<InstanceId> {
        self.cloud_id.parse().ok().filter(|id| *id != InstanceId(0))
    }

    /// Records the instance.
    pub fn set_instance(&mut self, instance: InstanceId) {
        self.cloud_id = instance.to_string();
    }

    /// The slug in normalised form.
    #[must_use]
    pub fn slug(&self) -> Option<Slug> {
        Slug::normalise(&self.slug)
    }

    /// The group it belongs to, in normalised form. crabbox's `run --id` drops the label and leaves the member.
    #[must_use]
    pub fn pond(&self) -> Option<Slug> {
        Slug::normalise(&self.pond).or_else(|| Slug::normalise(self.label(key::POND)?))
    }

    /// The label `state`; empty where there is none.
    #[must_use]
    pub fn state(&self) -> &str {
        self.label(key::STATE).unwrap_or_default()
    }

    /// The label `recovery`.
    #[must_use]
    pub fn recovery(&self) -> Option<&str> {
        self.label(key::RECOVERY)
    }

    /// A label, where it is present and not empty.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Last known SSH endpoint.
    #[must_use]
    pub fn endpoint(&self) -> Option<(&str, u16)> {
        let port = u16::try_from(self.ssh_port).ok().filter(|port| *port != 0)?;
        (!self.ssh_host.is_empty()).then_some((self.ssh_host.as_str(), port))
    }

    /// The claim to write before any paid call: the shape that crabbox gives to an unclear create, so that even
    /// crabbox can find the one instance with the lease's ownership label and finish it. The plan's state, recovery
    /// and offer do not enter.
    #[must_use]
    pub fn intent(plan: &LabelPlan, repo_root: &str, now: SystemTime) -> Claim {
        let (state, recovery, _) = super::claim_state(super::State::Intent);
        let plan = LabelPlan { state, recovery, offer: None, ..plan.clone() };
        let idle = plan.idle_timeout.saturating_add(std::time::Duration::from_millis(500));
        Claim {
            lease_id: plan.lease.to_string(),
            slug: plan.slug.to_string(),
            provider: "vast".to_owned(),
            pond: plan.pond.as_ref().map_or_else(String::new, ToString::to_string),
            repo_root: repo_root.to_owned(),
            claimed_at: rfc3339(now),
            last_used_at: rfc3339(now),
            idle_timeout_seconds: i64::try_from(idle.as_secs()).unwrap_or(i64::MAX),
            labels: plan.labels(),
            ..Claim::default()
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the serialiser passes references")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the serialiser passes references")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;

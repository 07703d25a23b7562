//! Claims: what lies in the claims folder of this machine, for whichever provider, without a lock and without the cloud.

use crate::lease::{Claim, ClaimProblem};
use crate::store::Store;
use crate::{Code, Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write;

/// One claim, in crabbox's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedClaim {
    /// Lease.
    pub lease_id: String,
    /// Slug.
    pub slug: String,
    /// Provider, `vast` for ours.
    pub provider: String,
    /// Repository it is bound to.
    pub repo_root: String,
    /// Pond it belongs to.
    pub pond: String,
    /// Empty for Vast.
    #[serde(rename = "targetOS")]
    pub target_os: String,
    /// Empty for Vast.
    pub windows_mode: String,
    /// When it was bound, RFC 3339.
    pub claimed_at: String,
    /// Last use from a repository, RFC 3339.
    pub last_used_at: String,
    /// Idle timeout in seconds.
    pub idle_timeout_seconds: i64,
}

/// The inventory of the claims folder.
#[derive(Debug, Clone, Serialize)]
pub struct ClaimsList {
    /// Version of this document: 1.
    pub version: u32,
    /// Always `local-claims`.
    pub source: &'static str,
    /// Readable claims, sorted by file name.
    pub claims: Vec<ListedClaim>,
    /// Files that are no readable claims.
    pub problems: Vec<ClaimProblem>,
}

impl ClaimsList {
    /// The document: the result, and as `error` what [`ClaimsList::failure`] says, where it says something.
    #[must_use]
    pub fn to_json(&self) -> Value {
        Error::beside(self, self.failure())
    }

    /// That files are no readable claims, where there are any: the first one speaks for all.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        let (first, others) = self.problems.split_first()?;
        let more = if others.is_empty() { String::new() } else { format!("; and {} more", others.len()) };
        let message = format!("claim file {} is no readable claim: {}{more}", first.file, first.message);
        let files: Vec<&str> = self.problems.iter().map(|problem| problem.file.as_str()).collect();
        Some(
            Error::new(Code::ClaimCorrupt, message)
                .hint("repair the file or move it away; what it may lead to is shown by `list`")
                .with("files", files),
        )
    }

    /// The text crabbox prints, with a final line break.
    #[must_use]
    pub fn text(&self) -> String {
        let quoted = |text: &str| Value::from(text).to_string();
        let mut out =
            String::from("Local claims (unverified local state; provider backends were not queried)\n");
        for claim in &self.claims {
            let lines = [
                ("- leaseId", &claim.lease_id),
                ("  slug", &claim.slug),
                ("  provider", &claim.provider),
                ("  repoRoot", &claim.repo_root),
                ("  pond", &claim.pond),
                ("  targetOS", &claim.target_os),
                ("  windowsMode", &claim.windows_mode),
                ("  claimedAt", &claim.claimed_at),
                ("  lastUsedAt", &claim.last_used_at),
            ];
            for (name, value) in lines {
                let _ = writeln!(out, "{name}: {}", quoted(value));
            }
            let _ = writeln!(out, "  idleTimeoutSeconds: {}", claim.idle_timeout_seconds);
        }
        if !self.problems.is_empty() {
            out.push_str("Problems\n");
        }
        for problem in &self.problems {
            let (file, message) = (quoted(&problem.file), quoted(&problem.message));
            let _ = writeln!(out, "- file: {file}\n  code: \"{}\"\n  message: {message}", problem.code);
        }
        out
    }
}

impl From<Claim> for ListedClaim {
    fn from(claim: Claim) -> Self {
        Self {
            lease_id: claim.lease_id,
            slug: claim.slug,
            provider: claim.provider,
            repo_root: claim.repo_root,
            pond: claim.pond,
            target_os: claim.target_os,
            windows_mode: claim.windows_mode,
            claimed_at: claim.claimed_at,
            last_used_at: claim.last_used_at,
            idle_timeout_seconds: claim.idle_timeout_seconds,
        }
    }
}

/// Reads the claims folder. Neither an API key nor a lock is needed.
///
/// # Errors
/// [`crate::Code::StateUnavailable`] when the folder cannot be listed.
pub async fn list(store: &Store) -> Result<ClaimsList> {
    let scan = store.claim_inventory().await?;
    let claims = scan.claims.into_iter().map(ListedClaim::from).collect();
    Ok(ClaimsList { version: 1, source: "local-claims", claims, problems: scan.problems })
}

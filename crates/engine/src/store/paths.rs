//! Where everything lies. The folders are crabbox's; what is ours alone stands beside its files, never in them.

use crate::lease::LeaseId;
use std::path::PathBuf;

/// The two folders that everything is under. Which ones they are is decided by the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// crabbox's state folder (`…/crabbox` or `…/crabbox/state`).
    pub state: PathBuf,
    /// The user's configuration folder, without `crabbox`.
    pub config: PathBuf,
}

impl Paths {
    /// Claims, one `<lease>.json` each; shared with crabbox.
    #[must_use]
    pub fn claims(&self) -> PathBuf {
        self.state.join("claims")
    }

    /// Lock files; shared with crabbox, never removed.
    #[must_use]
    pub fn claim_locks(&self) -> PathBuf {
        self.state.join("claim-locks")
    }

    /// Key folder of a lease; shared with crabbox.
    #[must_use]
    pub fn keys(&self, lease: &LeaseId) -> PathBuf {
        self.config.join("crabbox").join("testboxes").join(lease.as_str())
    }

    /// Journals, one `<lease>.json` each; ours.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.state.join("vast-journal")
    }

    /// Pacing slots, one file per API origin and key; ours.
    #[must_use]
    pub fn pacing(&self) -> PathBuf {
        self.state.join("vast-pacing")
    }

    /// Machines that failed lately, with their lock beside the file; ours.
    #[must_use]
    pub fn machines(&self) -> PathBuf {
        self.state.join("vast-machines.json")
    }

    /// Lock under which the day's budget is counted and taken; ours.
    #[must_use]
    pub fn budget_lock(&self) -> PathBuf {
        self.state.join("vast-budget.lock")
    }

    /// Claim file of a lease.
    #[must_use]
    pub fn claim(&self, lease: &LeaseId) -> PathBuf {
        self.claims().join(format!("{lease}.json"))
    }

    /// Lock that guards the claim file of a lease.
    #[must_use]
    pub fn claim_lock(&self, lease: &LeaseId) -> PathBuf {
        self.claim_locks().join(format!("{lease}.json.lock"))
    }

    /// Lock that is held for as long as a process works on a lease.
    #[must_use]
    pub fn operation_lock(&self, lease: &LeaseId) -> PathBuf {
        self.claim_locks().join(format!("{lease}.vast-operation.lock"))
    }

    /// Lock under which slugs are given out.
    #[must_use]
    pub fn slug_lock(&self) -> PathBuf {
        self.claim_locks().join("slug-allocation.vast.lock")
    }
}

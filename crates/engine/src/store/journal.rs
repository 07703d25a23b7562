//! The journal of a lease: what crabbox's claim has no field for. Ours alone, and without any secret.
//!
//! A journal is written by the process that holds the lease's operation lock, so it needs no lock of its own.

use super::file::{At, remove_durably, replace_durably};
use super::journal_parts::{Attempt, DeadmanRecord, Holder, JournalRequest, Step};
use super::{Inner, Store};
use crate::lease::LeaseId;
use crate::world::Files;
use crate::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The journal of one lease. Unknown fields, here and inside, are kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Journal {
    /// Version of this format: 1.
    pub version: u32,
    /// Lease identifier.
    pub lease: String,
    /// Whether the identifier was drawn at random by this program, so that no other label can carry it; otherwise a
    /// caller chose it.
    pub drawn: bool,
    /// Slug.
    pub slug: String,
    /// The account with which its creates were sent: what comes to light when no claim is left is looked for with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<u64>,
    /// The API address to which they were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
    /// Who works or worked on it, `pid@host`; for messages only.
    pub process: String,
    /// Start of the acquire, Unix seconds.
    pub created_at: i64,
    /// What was asked for.
    pub request: JournalRequest,
    /// Every create, in order.
    pub attempts: Vec<Attempt>,
    /// The instance of the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<u64>,
    /// Its price in dollars per hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// How long each phase took, milliseconds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub phases: BTreeMap<String, u64>,
    /// The dead-man switch; none where nothing ends the lease by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadman: Option<DeadmanRecord>,
    /// Every destroy, stop and start, in order, with its proof.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// The process that goes with the lease, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// When a complete list first showed no instance of an unanswered create, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen_since: Option<i64>,
    /// When an instance without a claim was taken over, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopted_at: Option<i64>,
    /// When the claim was dropped on request, Unix seconds; the instance may live on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forgotten_at: Option<i64>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Journal {
    /// Version of the format.
    pub const VERSION: u32 = 1;

    /// An empty journal of a lease.
    #[must_use]
    pub fn new(lease: &LeaseId, slug: &str, process: &str, created_at: i64) -> Self {
        Self {
            version: Self::VERSION,
            lease: lease.to_string(),
            slug: slug.to_owned(),
            process: process.to_owned(),
            created_at,
            ..Self::default()
        }
    }

    /// The lease it belongs to.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] when its identifier is not canonical.
    pub(super) fn lease_id(&self) -> Result<LeaseId> {
        LeaseId::parse(&self.lease).ok_or_else(|| {
            Error::new(Code::InvalidArgument, format!("{:?} is no canonical lease identifier", self.lease))
                .hint("an identifier is cbx_ and 12 hex digits")
        })
    }

    /// The bytes of its file.
    ///
    /// # Errors
    /// [`Code::Internal`] for a number that JSON cannot hold.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::new(Code::Internal, format!("journal of {}: {error}", self.lease)))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl Store {
    /// The journal of a lease; `None` where there is none.
    ///
    /// # Errors
    /// [`Code::ClaimCorrupt`] when it is unreadable; [`Code::StateUnavailable`].
    pub async fn journal(&self, lease: &LeaseId) -> Result<Option<Journal>> {
        let path = self.journal_path(lease);
        self.transact(move |files, _| read(files, &path)).await
    }

    /// Replaces the journal of a lease, atomically and durably.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] when its lease is not canonical; [`Code::StateUnavailable`], with the old journal
    /// still in place.
    pub async fn write_journal(&self, journal: &Journal) -> Result<()> {
        let (path, bytes) = (self.journal_path(&journal.lease_id()?), journal.encode()?);
        self.transact(move |files, inner| replace_durably(files, inner.ambient.as_ref(), &path, &bytes)).await
    }

    /// Removes the journal of a lease, durably; a missing one is fine.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`].
    pub async fn remove_journal(&self, lease: &LeaseId) -> Result<()> {
        let path = self.journal_path(lease);
        self.transact(move |files, _| remove_durably(files, &path)).await
    }

    /// All readable journals, sorted by lease. Unreadable ones are left out: the claim is the record that counts.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`] when the folder cannot be listed.
    pub async fn scan_journals(&self) -> Result<Vec<Journal>> {
        self.transact(scan).await
    }

    pub(super) fn journal_path(&self, lease: &LeaseId) -> std::path::PathBuf {
        self.paths().journal().join(format!("{lease}.json"))
    }
}

pub(super) fn scan(files: &dyn Files, inner: &Inner) -> Result<Vec<Journal>> {
    let paths = paths(files, inner)?;
    Ok(paths.iter().filter_map(|path| read(files, path).ok().flatten()).collect())
}

/// As [`scan`], for what must not pass over any.
pub(super) fn scan_all(files: &dyn Files, inner: &Inner) -> Result<Vec<Journal>> {
    let read = paths(files, inner)?.into_iter().map(|path| read(files, &path));
    read.filter_map(Result::transpose).collect()
}

fn paths(files: &dyn Files, inner: &Inner) -> Result<Vec<PathBuf>> {
    let folder = inner.paths.journal();
    let names = files.list(&folder).at("list", &folder)?;
    let stem = |name: &std::ffi::OsString| name.to_str()?.strip_suffix(".json").and_then(LeaseId::parse);
    Ok(names.iter().filter(|name| stem(name).is_some()).map(|name| folder.join(name)).collect())
}

fn read(files: &dyn Files, path: &Path) -> Result<Option<Journal>> {
    let Some(bytes) = files.read(path).at("read", path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Error::new(Code::ClaimCorrupt, format!("journal {} is unreadable: {error}", path.display()))
            .hint("move the file away; the claim of the lease is enough to release it")
            .with("path", path.to_string_lossy().into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::InstanceId;
    use crate::store::StepKind;
    use crate::store::testing::Bench;

    #[tokio::test]
    async fn journals_come_back_whole_with_what_is_unknown() {
        let bench = Bench::new();
        let lease = LeaseId::from_entropy([1; 6]);
        assert_eq!(bench.store.journal(&lease).await.unwrap(), None);
        let mut journal = Journal::new(&lease, "blue-krill", "1@box", 1_787_400_000);
        journal.attempts.push(Attempt {
            offer: 5,
            price: 0.25,
            outcome: Some("nothing:taken".into()),
            ..Attempt::default()
        });
        journal.attempts[0].extra.insert("region".into(), "eu".into());
        journal.extra.insert("later".into(), serde_json::json!({"x": [1, 2.5, null]}));
        journal.begin(StepKind::Destroy, InstanceId(9), 2);
        journal.steps[0].extra.insert("how".into(), "gently".into());
        bench.store.write_journal(&journal).await.unwrap();
        assert_eq!(bench.store.journal(&lease).await.unwrap(), Some(journal.clone()));

        let other = LeaseId::from_entropy([2; 6]);
        bench.store.write_journal(&Journal::new(&other, "", "", 0)).await.unwrap();
        bench.put(&bench.paths().journal().join("cbx_030303030303.json"), b"{");
        let leases: Vec<_> =
            bench.store.scan_journals().await.unwrap().into_iter().map(|j| j.lease).collect();
        assert_eq!(leases, [lease.to_string(), other.to_string()]);
        let broken = LeaseId::from_entropy([3; 6]);
        assert_eq!(bench.store.journal(&broken).await.unwrap_err().code(), Code::ClaimCorrupt);

        bench.store.remove_journal(&lease).await.unwrap();
        bench.store.remove_journal(&lease).await.unwrap();
        assert_eq!(bench.store.journal(&lease).await.unwrap(), None);
        assert_eq!(Journal::new(&lease, "", "", 0).version, 1);
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod questions;

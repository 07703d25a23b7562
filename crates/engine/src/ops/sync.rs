//! Sync: brings the working tree to the instance; only what changed travels.

use super::remote::Remote;
use super::{Call, Engine};
use crate::sync::excludes::Excludes;
use crate::sync::guard;
use crate::sync::manifest::{self, Manifest, Scope};
use crate::{Code, Error, Result};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

/// How this one sync differs from what the settings say.
#[derive(Debug, Clone, Default)]
pub struct SyncRequest {
    /// Refuse nothing for its size.
    pub force_large: bool,
    /// Compare contents, not sizes and times.
    pub checksum: bool,
    /// Take nothing to be there already: everything travels.
    pub full: bool,
}

/// A step of a sync and how long it took.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncStep {
    /// Its name in crabbox's reports: `manifest`, `preflight`, `fingerprint`, `rsync`, `finalize`.
    pub name: &'static str,
    /// Seconds.
    pub seconds: f64,
}

/// What a sync did.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncReport {
    /// Nothing differed, so nothing was done.
    pub skipped: bool,
    /// Files and links in the tree.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that differ from the last commit.
    pub changed_files: u64,
    /// Their bytes.
    pub changed_bytes: u64,
    /// Files and links that travelled.
    pub sent_files: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Bytes that went over the connection.
    pub wire_bytes: u64,
    /// Paths that were to be removed on the instance.
    pub removed: u64,
    /// Seconds in all.
    pub seconds: f64,
    /// Where they went.
    pub steps: Vec<SyncStep>,
    /// What should be known; each was an [`super::Event::Warning`] too.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Whether there is something that can be synced: fails before anything is rented, looked up or changed.
    ///
    /// # Errors
    /// [`Code::NotARepository`], [`Code::SyncTooLarge`], [`Code::MassDeletion`], [`Code::SyncFailed`].
    pub(super) async fn check_sync(&self, request: &SyncRequest) -> Result<()> {
        self.survey(request).await.map(drop)
    }

    /// Brings the working tree into `workdir` on the instance.
    ///
    /// # Errors
    /// Those of [`Engine::check_sync`]; [`Code::SyncBusy`], [`Code::SyncTimeout`], [`Code::SyncFailed`];
    /// [`Code::SshLost`] and [`Code::Cancelled`], after which the next sync mends what is half done.
    pub(super) async fn sync(
        &self,
        remote: &Remote<'_>,
        workdir: &str,
        request: &SyncRequest,
        call: &Call,
    ) -> Result<SyncReport> {
        let _ = (remote, workdir, call);
        let (manifest, warnings) = self.survey(request).await?;
        Ok(SyncReport { bytes: manifest.bytes, warnings, ..SyncReport::default() })
    }

    /// The tree as it is now, and what should be said about it.
    async fn survey(&self, request: &SyncRequest) -> Result<(Manifest, Vec<String>)> {
        let local = Arc::clone(&self.world.local);
        let settings = self.settings.sync.clone();
        let root = PathBuf::from(&self.settings.repo_root);
        let hashes = settings.checksum || request.checksum;
        let mut limits = settings.limits;
        limits.allow_large |= request.force_large;
        blocking(move || {
            manifest::check_repository(local.as_ref(), &root)?;
            let ignored = ignore_file(local.as_ref(), &root)?;
            let excludes = Excludes::new(&settings.exclude, &ignored);
            let scope = Scope { excludes: &excludes, includes: &settings.include, hashes };
            let manifest = manifest::survey(local.as_ref(), &root, scope)?;
            let warnings = guard::check(&manifest, &limits)?;
            Ok((manifest, warnings))
        })
        .await
    }
}

/// The rules that the repository itself brings along; empty where it has none.
fn ignore_file(local: &dyn crate::world::Local, root: &std::path::Path) -> Result<String> {
    let path = root.join(".crabboxignore");
    let read = || -> std::io::Result<String> {
        if local.stat(&path)?.is_none() {
            return Ok(String::new());
        }
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut local.open(&path)?, &mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map_err(|error| {
        Error::new(Code::SyncFailed, format!("{} cannot be read: {error}", path.display())).because(error)
    })
}

/// Runs work that blocks on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

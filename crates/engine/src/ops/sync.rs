//! Sync: brings the working tree to the instance; only what changed travels.

use super::answer::Answer;
use super::remote::Remote;
use super::stream::{DEPTH, ToRemote, ready_input};
use super::{Call, Engine, Event};
use crate::sync::excludes::Excludes;
use crate::sync::guard;
use crate::sync::load::{Load, Packed};
use crate::sync::manifest::{self, Manifest, Scope};
use crate::sync::pack::Progress;
use crate::sync::plan::Plan;
use crate::sync::script;
use crate::sync::there::There;
use crate::world::{ExecExit, Local};
use crate::{Code, Error, Result};
use serde::Serialize;
use std::future::Future;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How often the far side is looked at again because another sync changed it meanwhile.
const TRIES: usize = 3;
/// The longest prune commands that travel in a command line; the system allows 128 KiB for one word.
const INLINE: usize = 24 * 1024;
/// How often progress is told.
const TELL: Duration = Duration::from_millis(500);

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
        let limit = self.settings.sync.timeout;
        let work = self.bring(remote, workdir, request, call);
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let limit = crate::lease::go_duration(limit);
            Err(Error::new(Code::SyncTimeout, format!("the sync did not end within {limit}"))
                .hint("the next sync goes on where it is needed; sync.timeout sets the limit"))
        })
    }

    async fn bring(
        &self,
        remote: &Remote<'_>,
        workdir: &str,
        request: &SyncRequest,
        call: &Call,
    ) -> Result<SyncReport> {
        let mut clock = Steps::new();
        let (manifest, warnings) = self.survey(request).await?;
        clock.step("manifest");
        let mut report = SyncReport {
            files: count(manifest.files.len()),
            bytes: manifest.bytes,
            changed_files: count(manifest.changed.len()),
            changed_bytes: manifest.changed_bytes,
            ..SyncReport::default()
        };
        if let Some(kept) = guard::kept_despite(&manifest) {
            report.warn(kept, call);
        }
        call.event(Event::SyncCandidate {
            files: report.files,
            bytes: report.bytes,
            changed_files: report.changed_files,
            changed_bytes: report.changed_bytes,
        });
        for warning in warnings {
            report.warn(warning, call);
        }
        clock.step("preflight");
        let manifest = Arc::new(manifest);
        let fingerprint = manifest.fingerprint(&self.sync_options(request));
        for _ in 0..TRIES {
            let known = if self.settings.sync.fingerprint && !request.full { &fingerprint } else { "" };
            let Some(mut there) = self.look(remote, workdir, known, call).await? else {
                clock.step("fingerprint");
                report.skipped = true;
                report.seconds = clock.seconds();
                report.steps = clock.steps;
                call.event(Event::SyncSkipped { seconds: report.seconds });
                return Ok(report);
            };
            clock.step("fingerprint");
            if request.full {
                there.state.stamp.clear();
            }
            let plan = Plan::new(&manifest, &there.state, self.settings.sync.delete);
            report.removed = count(plan.remove.len());
            let load =
                Load { manifest: Arc::clone(&manifest), plan, there, fingerprint: fingerprint.clone() };
            let Some(packed) = self.transfer(remote, workdir, load, &mut report, call).await? else {
                // Another sync was faster: what is there has to be looked at again.
                continue;
            };
            clock.step("rsync");
            for path in packed.vanished {
                report.warn(format!("{} vanished while the tree was sent", path.text()), call);
            }
            report.seconds = clock.seconds();
            report.steps = clock.steps;
            call.event(Event::SyncComplete {
                seconds: report.seconds,
                files: report.sent_files,
                bytes: report.sent_bytes,
            });
            return Ok(report);
        }
        Err(Error::new(Code::SyncBusy, "other syncs keep changing the folder on the instance")
            .hint("wait until they are done, and run it again"))
    }

    /// What decides, besides the files, whether two syncs are the same.
    fn sync_options(&self, request: &SyncRequest) -> String {
        let sync = &self.settings.sync;
        format!("v1 delete={} checksum={}", sync.delete, sync.checksum || request.checksum)
    }

    /// Looks at the far side; `None` when it has this very tree already.
    async fn look(
        &self,
        remote: &Remote<'_>,
        workdir: &str,
        fingerprint: &str,
        call: &Call,
    ) -> Result<Option<There>> {
        let look = script::look(workdir, fingerprint);
        let answer = remote.run_up_to(There::LARGEST, &look, None, call).await?;
        if answer.exit != ExecExit::Code(0) {
            return Err(failed("looking at the folder", workdir, &answer));
        }
        blocking(move || There::read(&answer.stdout)).await
    }

    /// Sends what is to be sent; `None` when the far side was changed since it was looked at.
    async fn transfer(
        &self,
        remote: &Remote<'_>,
        workdir: &str,
        load: Load,
        report: &mut SyncReport,
        call: &Call,
    ) -> Result<Option<Packed>> {
        let token = hex::encode(self.entropy::<16>());
        let prune = script::prune(&load.plan);
        let inline = String::from_utf8(prune).ok().filter(|text| text.len() <= INLINE);
        if inline.is_none() {
            let stored = Some(ready_input(script::prune(&load.plan)));
            let answer = remote.run(&script::store(workdir, &token), stored, call).await?;
            if answer.exit != ExecExit::Code(0) {
                return Err(failed("preparing the folder", workdir, &answer));
            }
        }
        let There { meta, gzip, generation, .. } = load.there.clone();
        let command = script::transfer(&script::Transfer {
            workdir,
            meta: &meta,
            token: &token,
            generation: &generation,
            gzip,
            prune: inline.as_deref(),
        });
        let (send, receive) = mpsc::channel(DEPTH);
        let progress = Arc::new(Progress::default());
        let wire = Arc::new(AtomicU64::new(0));
        let total = (count(load.plan.send.len()), load.bytes());
        let packing = {
            let (local, progress) = (Arc::clone(&self.world.local), Arc::clone(&progress));
            let root = PathBuf::from(&self.settings.repo_root);
            let staging = script::staging(&meta, &token);
            let out = ToRemote::new(send, Arc::clone(&wire));
            let now = self.unix_now();
            blocking(move || load.pack(local.as_ref(), &root, &staging, now, &progress, out))
        };
        let work = async { tokio::join!(remote.run(&command, Some(receive), call), packing) };
        let (answer, packed) = watched(work, &progress, total, call).await;
        let answer = answer?;
        match answer.exit {
            ExecExit::Code(0) => {}
            ExecExit::Code(code) if code == script::CHANGED => return Ok(None),
            ExecExit::Code(code) if code == script::BUSY => {
                return Err(Error::new(Code::SyncBusy, format!("another sync is at work in {workdir}"))
                    .hint("wait until it is done, and run it again"));
            }
            // What went wrong here explains why the stream ended over there.
            _ => {
                return Err(packed
                    .err()
                    .filter(|error| error.code() != Code::SshLost)
                    .unwrap_or_else(|| failed("unpacking", workdir, &answer)));
            }
        }
        let packed = packed?;
        (report.sent_files, report.sent_bytes) = progress.so_far();
        report.wire_bytes = wire.load(Ordering::Relaxed);
        Ok(Some(packed))
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

impl SyncReport {
    fn warn(&mut self, warning: String, call: &Call) {
        call.warn(warning.clone());
        self.warnings.push(warning);
    }
}

/// Runs a transfer, and says from time to time how far it is.
pub(super) async fn watched<T>(
    work: impl Future<Output = T>,
    progress: &Progress,
    (total_files, total_bytes): (u64, u64),
    call: &Call,
) -> T {
    let say = || {
        let (files, bytes) = progress.so_far();
        call.event(Event::Transfer { files, total_files, bytes, total_bytes });
    };
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => {
                say();
                return done;
            }
            () = tokio::time::sleep(TELL) => say(),
        }
    }
}

fn failed(step: &str, workdir: &str, answer: &Answer) -> Error {
    let said = answer.stderr.brief();
    let why = match (&answer.exit, said.is_empty()) {
        (_, false) => said,
        (ExecExit::Code(code), true) if *code == script::NOT_UNPACKED => "the stream was cut off".to_owned(),
        (exit, true) => format!("{exit:?}"),
    };
    Error::new(Code::SyncFailed, format!("{step} {workdir} on the instance failed: {why}"))
        .hint("the box needs a POSIX shell and tar, room on its disk, and a folder that its user may write")
        .with("workdir", workdir)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// How long each step takes.
struct Steps {
    began: Instant,
    last: Instant,
    steps: Vec<SyncStep>,
}

impl Steps {
    fn new() -> Self {
        let now = Instant::now();
        Self { began: now, last: now, steps: Vec::new() }
    }

    /// The step that ends now; one that is taken again adds up.
    fn step(&mut self, name: &'static str) {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        self.last = now;
        match self.steps.iter_mut().find(|step| step.name == name) {
            Some(step) => step.seconds += seconds,
            None => self.steps.push(SyncStep { name, seconds }),
        }
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}

/// The rules that the repository itself brings along; empty where it has none.
fn ignore_file(local: &dyn Local, root: &Path) -> Result<String> {
    let path = root.join(".crabboxignore");
    let read = || -> std::io::Result<String> {
        if local.stat(&path)?.is_none() {
            return Ok(String::new());
        }
        let mut bytes = Vec::new();
        local.open(&path)?.read_to_end(&mut bytes)?;
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

//! What accompanies every operation: where its events go, and whether the caller still wants it.

use super::lease::Facts;
use crate::lease::{InstanceId, LeaseId, OfferId, RunId, Slug};
use crate::vast::Endpoint;
use crate::{Code, Error, Result};
use serde::Serialize;
use std::future::Future;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The stages that take time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Account, inventory, offers, key.
    Search,
    /// The create call.
    Create,
    /// A create without a clear answer is being looked for.
    Recover,
    /// The machine pulls the image and starts the container.
    Boot,
    /// SSH does not let us in yet.
    Connect,
    /// Usable.
    Ready,
    /// The command runs.
    Run,
    /// The release was sent.
    Release,
    /// That the instance is gone is being proved.
    Prove,
}

impl Phase {
    /// The word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Search => "search",
            Phase::Create => "create",
            Phase::Recover => "recover",
            Phase::Boot => "boot",
            Phase::Connect => "connect",
            Phase::Ready => "ready",
            Phase::Run => "run",
            Phase::Release => "release",
            Phase::Prove => "prove",
        }
    }
}

/// What happens during an operation. Events inform; results carry everything that matters.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Event {
    /// A stage began, or says how it goes.
    Phase {
        /// Which.
        phase: Phase,
        /// What is waited for, in a few words.
        message: String,
    },
    /// An offer is about to be rented.
    Provisioning {
        /// The lease.
        lease: LeaseId,
        /// Its slug.
        slug: Slug,
        /// The offer.
        offer: OfferId,
        /// GPU name.
        gpu: String,
        /// GPUs.
        count: u32,
        /// $/h with the requested disk.
        price: f64,
        /// The cap, $/h; 0 is none.
        max_dph: f64,
        /// Whether the lease outlives the command.
        keep: bool,
    },
    /// The offer was gone; the next one is tried.
    OfferGone {
        /// The offer.
        offer: OfferId,
        /// What the API said.
        message: String,
    },
    /// The instance exists.
    Created {
        /// The lease.
        lease: LeaseId,
        /// The instance.
        instance: InstanceId,
    },
    /// A host key was seen for the first time and recorded: from now on only this one is accepted.
    HostKey {
        /// Where.
        endpoint: Endpoint,
        /// SHA-256 fingerprint.
        fingerprint: String,
    },
    /// The lease is usable.
    Provisioned {
        /// The lease.
        lease: LeaseId,
        /// The instance.
        instance: InstanceId,
        /// GPU name.
        gpu: String,
        /// Seconds from the call to here.
        seconds: f64,
    },
    /// The workspace of the lease is ours: no other run works there.
    WorkspaceAcquired {
        /// Seconds of waiting.
        seconds: f64,
        /// An owner that had died was cleared away.
        recovered: bool,
    },
    /// Another run works in the workspace.
    WorkspaceBusy {
        /// Seconds of waiting so far.
        seconds: f64,
        /// `busy`, or `child` when only a process that it left behind still runs.
        state: &'static str,
    },
    /// The workspace is free for the next run.
    WorkspaceReleased,
    /// What a run works with.
    RunContext {
        /// This run.
        run: RunId,
        /// The lease's facts.
        lease: Box<Facts>,
        /// Folder on the instance.
        workdir: String,
    },
    /// Local variables go to the command, or were asked for and are not set.
    EnvForwarded {
        /// Names.
        names: Vec<String>,
        /// The line for people: names, never values.
        line: String,
    },
    /// A script was brought over.
    ScriptUploaded {
        /// Path below the folder on the instance.
        path: String,
        /// Bytes.
        bytes: usize,
    },
    /// A file was fetched.
    Downloaded {
        /// On the instance.
        remote: String,
        /// Here.
        local: String,
        /// Bytes.
        bytes: u64,
    },
    /// What a run says about itself once its command has ended, in crabbox's words.
    RunReport {
        /// Lines for people.
        lines: Vec<String>,
    },
    /// A sync begins.
    Syncing {
        /// The local folder.
        from: String,
        /// The instance's address.
        host: String,
        /// Folder on the instance.
        workdir: String,
    },
    /// What a sync would bring over is known.
    SyncCandidate {
        /// Files and links of the tree.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// Those that differ from the last commit.
        changed_files: u64,
        /// Their bytes.
        changed_bytes: u64,
    },
    /// A sync or a copy goes on.
    Transfer {
        /// Files and links so far.
        files: u64,
        /// Of how many; 0 when that is not known.
        total_files: u64,
        /// Bytes of content so far.
        bytes: u64,
        /// Of how many; 0 when that is not known.
        total_bytes: u64,
    },
    /// Nothing differed: the sync was skipped.
    SyncSkipped {
        /// Seconds it took to know that.
        seconds: f64,
    },
    /// The tree is on the instance.
    SyncComplete {
        /// Seconds it took.
        seconds: f64,
        /// Files and links that travelled.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A command is about to run.
    Running {
        /// This run.
        run: RunId,
        /// The lease's facts.
        lease: Box<Facts>,
        /// Folder on the instance.
        workdir: String,
        /// The command for people.
        command: String,
    },
    /// The command ended.
    CommandEnded {
        /// Seconds it took.
        seconds: f64,
        /// Seconds since the call.
        total: f64,
    },
    /// A release began.
    Releasing {
        /// The lease.
        lease: LeaseId,
        /// The instance.
        instance: InstanceId,
    },
    /// Somebody bid more: the instance is stopped, its disk is billed on.
    Outbid {
        /// The lease.
        lease: LeaseId,
        /// The instance.
        instance: InstanceId,
    },
    /// Something that did not stop the operation but should be known.
    Warning {
        /// One line.
        message: String,
    },
}

type Sink = Arc<dyn Fn(Event) + Send + Sync>;

/// The companion of one operation.
#[derive(Clone)]
pub struct Call {
    sink: Option<Sink>,
    cancel: CancellationToken,
}

impl Default for Call {
    fn default() -> Self {
        Self { sink: None, cancel: CancellationToken::new() }
    }
}

impl Call {
    /// A call that reports to `sink` and ends when `cancel` is cancelled.
    #[must_use]
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static, cancel: CancellationToken) -> Self {
        Self { sink: Some(Arc::new(sink)), cancel }
    }

    /// The same listener without the caller's cancellation, for clean-up that must not be cut short.
    #[must_use]
    pub fn uncancelled(&self) -> Self {
        Self { sink: self.sink.clone(), cancel: CancellationToken::new() }
    }

    /// Reports.
    pub fn event(&self, event: Event) {
        if let Some(sink) = &self.sink {
            sink(event);
        }
    }

    /// Reports a stage.
    pub fn phase(&self, phase: Phase, message: impl Into<String>) {
        self.event(Event::Phase { phase, message: message.into() });
    }

    /// Reports a warning.
    pub fn warn(&self, message: impl Into<String>) {
        self.event(Event::Warning { message: message.into() });
    }

    /// Whether the caller gave up.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Runs `work` until it ends or the caller gives up.
    ///
    /// # Errors
    /// [`Code::Cancelled`], or the error of `work`.
    pub async fn until_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(cancelled()),
            outcome = work => outcome,
        }
    }
}

fn cancelled() -> Error {
    Error::new(Code::Cancelled, "cancelled")
}

//! Workspace owner: one run at a time works in a lease's workspace, be it ours or crabbox's.
//!
//! Taking the ownership rides on the first command that needs it; what it costs of its own is one short command at the
//! end. While a command runs the instance renews the ownership itself: neither a slow link nor a sleeping laptop loses it.

use super::answer::brief;
use super::input::feed;
use super::{Call, Event, Lease};
use crate::ssh::workspace::{Ownership, RENEWAL, Reply};
use crate::world::{ExecExit, ExecIo, Output, StdinChunk};
use crate::{Code, Error, Result};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How long another run is waited for, and how often we look and say so; crabbox's figures.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_secs(1);
const PROGRESS: Duration = Duration::from_secs(10);

/// The most that may come on standard error before the answer, bytes: what a login shell says, banners included.
const LARGEST_PREFACE: usize = 1024 * 1024;

/// The ownership of a lease's workspace by one run.
pub(super) struct Owner {
    ownership: Ownership,
    held: AtomicBool,
}

/// The input of one command: ours, and the caller's behind it.
pub(super) struct Input {
    pub first: Vec<u8>,
    pub then: Option<mpsc::Receiver<StdinChunk>>,
}

impl Owner {
    /// Not taken yet.
    pub fn new(lease: &Lease) -> Self {
        let ownership = Ownership::new(&lease.facts().id, lease.engine().entropy());
        Self { ownership, held: AtomicBool::new(false) }
    }

    /// Whether it was taken.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// Runs `text` in `sh` as the workspace's owner: takes the ownership first, waiting for another owner to end.
    /// `begun` is called once, when it is ours and before anything of the command's output is passed on.
    ///
    /// # Errors
    /// [`Code::WorkspaceBusy`] after two minutes of waiting; [`Code::RemoteControl`] when the records on the instance
    /// cannot be understood, or the ownership was lost; those of [`Lease::exec_raw`].
    pub async fn stream(
        &self,
        lease: &Lease,
        text: &str,
        mut input: Input,
        output: mpsc::Sender<Output>,
        begun: impl FnOnce(),
        call: &Call,
    ) -> Result<ExecExit> {
        let command = self.ownership.run(text)?;
        let began = Instant::now();
        let mut begun = Some(begun);
        let mut next_progress = PROGRESS;
        loop {
            let mut admitted = |reply: Reply| {
                if !self.held.swap(true, Ordering::Relaxed) {
                    let seconds = began.elapsed().as_secs_f64();
                    call.event(Event::WorkspaceAcquired { seconds, recovered: reply == Reply::Recovered });
                }
                if let Some(begun) = begun.take() {
                    begun();
                }
            };
            let attempt = Attempt { lease, ownership: &self.ownership, call };
            let (exit, reply) = attempt.run(&command, &mut input, &output, &mut admitted).await?;
            let state = match reply {
                Reply::Acquired | Reply::Recovered | Reply::Owned => return Ok(exit),
                Reply::Busy | Reply::Child if self.is_held() => return Err(lost(lease)),
                Reply::Busy => "busy",
                Reply::Child => "child",
                Reply::Released | Reply::Mismatch | Reply::Ambiguous => return Err(ambiguous(lease)),
            };
            let elapsed = began.elapsed();
            if elapsed >= PATIENCE {
                return Err(busy(lease, state));
            }
            if elapsed >= next_progress {
                next_progress += PROGRESS;
                call.event(Event::WorkspaceBusy { seconds: elapsed.as_secs_f64(), state });
            }
            call.until_cancelled(async {
                tokio::time::sleep(POLL).await;
                Ok(())
            })
            .await?;
        }
    }

    /// Takes the ownership, or renews it.
    ///
    /// # Errors
    /// As [`Owner::stream`].
    pub async fn take(&self, lease: &Lease, call: &Call) -> Result<()> {
        let (output, mut ignored) = mpsc::channel(1);
        let input = Input { first: Vec::new(), then: None };
        let discard = async { while ignored.recv().await.is_some() {} };
        let (exit, ()) = tokio::join!(self.stream(lease, ":", input, output, || (), call), discard);
        exit.map(|_| ())
    }

    /// Keeps the ownership while `work` is busy on this side.
    ///
    /// # Errors
    /// Those of `work`, and of a renewal, which ends the work.
    pub async fn keep<T>(
        &self,
        lease: &Lease,
        call: &Call,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let renewals = async {
            loop {
                tokio::time::sleep(RENEWAL).await;
                if let Err(error) = self.take(lease, call).await {
                    break error;
                }
            }
        };
        tokio::pin!(work, renewals);
        tokio::select! {
            biased;
            outcome = &mut work => outcome,
            error = &mut renewals => Err(error),
        }
    }

    /// Gives it back; nothing to do where it was never taken.
    ///
    /// # Errors
    /// [`Code::RemoteControl`] while its command still runs, or when it is not ours any more; those of
    /// [`Lease::exec_raw`].
    pub async fn release(&self, lease: &Lease, call: &Call) -> Result<()> {
        if !self.is_held() {
            return Ok(());
        }
        let command = self.ownership.release()?;
        let (output, _) = mpsc::channel(1);
        let mut input = Input { first: Vec::new(), then: None };
        let attempt = Attempt { lease, ownership: &self.ownership, call };
        let (_, reply) = attempt.run(&command, &mut input, &output, &mut |_| ()).await?;
        match reply {
            Reply::Released => {
                call.event(Event::WorkspaceReleased);
                Ok(())
            }
            Reply::Child => Err(Error::new(
                Code::RemoteControl,
                "the workspace stays owned: a process of the command still runs on the instance",
            )
            .hint("it is free again when that process ends")),
            Reply::Mismatch => Err(lost(lease)),
            _ => Err(ambiguous(lease)),
        }
    }
}

/// One try at running a command as the owner.
struct Attempt<'a> {
    lease: &'a Lease,
    ownership: &'a Ownership,
    call: &'a Call,
}

impl Attempt<'_> {
    /// The caller's input is taken only once the answer is that the command may run.
    async fn run(
        &self,
        command: &str,
        input: &mut Input,
        output: &mpsc::Sender<Output>,
        admitted: &mut impl FnMut(Reply),
    ) -> Result<(ExecExit, Reply)> {
        let (give, stdin) = mpsc::channel(4);
        let (said, mut received) = mpsc::channel(16);
        let (open, opened) = oneshot::channel();
        let io = ExecIo { stdin: Some(stdin), output: said };
        // What came before a connection broke is passed on all the same.
        let work = async { Ok(self.lease.exec_raw(command, io, self.call).await) };
        let relay = async {
            let (mut answer, mut heard, mut open) = (None, Vec::new(), Some(open));
            while let Some(piece) = received.recv().await {
                let piece = match piece {
                    Output::Stderr(bytes) if answer.is_none() => {
                        heard.extend_from_slice(&bytes);
                        let Some((reply, rest)) = self.ownership.reply(&heard) else {
                            if heard.len() > LARGEST_PREFACE {
                                return Err(too_much(self.lease, &heard));
                            }
                            continue;
                        };
                        answer = Some(reply);
                        if matches!(reply, Reply::Acquired | Reply::Recovered | Reply::Owned) {
                            admitted(reply);
                            // The receiver waits for exactly this.
                            let _ = open.take().map(|open| open.send(()));
                        }
                        if rest.is_empty() {
                            continue;
                        }
                        Output::Stderr(rest.into())
                    }
                    piece => piece,
                };
                // A receiver that went away discards output, as a closed pipe does.
                let _ = output.send(piece).await;
            }
            Ok((answer, heard))
        };
        let feeding = async {
            if opened.await.is_ok() {
                feed(&give, std::mem::take(&mut input.first), input.then.take()).await;
            }
            drop(give);
            Ok(())
        };
        // A relay that has heard too much ends the command.
        let (exit, (answer, heard), ()) = tokio::try_join!(work, relay, feeding)?;
        let exit = exit?;
        let reply = answer.ok_or_else(|| unanswered(self.lease, &exit, &heard))?;
        Ok((exit, reply))
    }
}

fn busy(lease: &Lease, state: &str) -> Error {
    let slug = &lease.facts().slug;
    Error::new(
        Code::WorkspaceBusy,
        format!(
            "timed out after {} s waiting for reusable workspace owner: another run works on lease {slug} ({state})",
            PATIENCE.as_secs()
        ),
    )
    .hint("wait for it, end it, or take another lease")
    .with("state", state)
}

fn lost(lease: &Lease) -> Error {
    Error::new(
        Code::RemoteControl,
        format!("another run took over the workspace of lease {}", lease.facts().slug),
    )
    .hint("the connection or the instance stood still for more than 45 s; run the command again")
}

fn ambiguous(lease: &Lease) -> Error {
    let key = crate::ssh::workspace::key(&lease.facts().id);
    Error::new(
        Code::RemoteControl,
        format!("the workspace-owner record of lease {} cannot be understood", lease.facts().slug),
    )
    .hint(format!("when nothing runs there, remove ~/.crabbox/workspace-owners/{key}.* on the instance"))
}

fn too_much(lease: &Lease, heard: &[u8]) -> Error {
    Error::new(
        Code::RemoteControl,
        format!(
            "lease {} said more than {LARGEST_PREFACE} bytes on standard error before its answer: {}",
            lease.facts().slug,
            brief(heard)
        ),
    )
    .hint("a start-up file of the login shell there prints too much")
    .with("limit", LARGEST_PREFACE)
}

fn unanswered(lease: &Lease, exit: &ExecExit, heard: &[u8]) -> Error {
    let said = brief(heard);
    Error::new(
        Code::RemoteControl,
        format!("lease {} did not start the command ({exit:?}): {said}", lease.facts().slug),
    )
    .hint("the image needs a POSIX shell and its usual small tools, and room in the home folder")
}

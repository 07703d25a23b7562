//! Remote: what the engine itself does on an instance - short scripts for a plain `sh`, with data in and out.
//!
//! The user's command goes through [`super::Lease::exec`]; everything around it (making folders, bringing files over,
//! speaking the workspace-owner protocol) goes through here. Nothing but a POSIX shell is expected on the far side.

use super::answer::{Answer, LARGEST_ANSWER, collect};
use super::workspace::{Input, Owner};
use super::{Call, Lease};
use crate::Result;
use crate::world::{ExecExit, ExecIo, StdinChunk};
use tokio::sync::mpsc;

/// The far side of a lease, for scripts of our own.
pub(super) struct Remote<'a> {
    lease: &'a Lease,
    owner: Option<&'a Owner>,
}

impl<'a> Remote<'a> {
    /// Scripts run as they are.
    pub fn new(lease: &'a Lease) -> Self {
        Self { lease, owner: None }
    }

    /// Scripts run as the owner of the lease's workspace, each as its recorded child. The first one takes the ownership.
    pub fn owned(lease: &'a Lease, owner: &'a Owner) -> Self {
        Self { lease, owner: Some(owner) }
    }

    /// Runs `script` in `sh` and streams.
    ///
    /// # Errors
    /// [`crate::Code::SshLost`], [`crate::Code::RemoteControl`], [`crate::Code::Cancelled`].
    pub async fn stream(&self, script: &str, io: ExecIo, call: &Call) -> Result<ExecExit> {
        if let Some(owner) = self.owner {
            let input = Input { first: Vec::new(), then: io.stdin };
            return owner.stream(self.lease, script, input, io.output, || (), call).await;
        }
        let command = format!("exec sh -c {}", crate::ssh::command::quote(script)?);
        self.lease.exec_raw(&command, io, call).await
    }

    /// Runs `script` in `sh`, with `stdin` as its input, to its end, and collects what it says.
    ///
    /// # Errors
    /// As [`Remote::stream`], and [`crate::Code::RemoteControl`] for an answer of more than [`LARGEST_ANSWER`] bytes; an exit code
    /// other than 0 is none.
    pub async fn run(
        &self,
        script: &str,
        stdin: Option<mpsc::Receiver<StdinChunk>>,
        call: &Call,
    ) -> Result<Answer> {
        self.run_up_to(LARGEST_ANSWER, script, stdin, call).await
    }

    /// The same for an answer of up to `largest` bytes.
    ///
    /// # Errors
    /// As [`Remote::run`].
    pub async fn run_up_to(
        &self,
        largest: usize,
        script: &str,
        stdin: Option<mpsc::Receiver<StdinChunk>>,
        call: &Call,
    ) -> Result<Answer> {
        let (output, received) = mpsc::channel(64);
        let streaming = self.stream(script, ExecIo { stdin, output }, call);
        let (exit, (stdout, stderr)) = tokio::try_join!(streaming, collect(received, largest))?;
        Ok(Answer { exit, stdout, stderr })
    }
}

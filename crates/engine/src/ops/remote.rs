//! Remote: what the engine itself does on an instance - short scripts for a plain `sh`, with data in and out.
//!
//! The user's command goes through [`super::Lease::exec`]; everything around it (making folders, bringing files over,
//! speaking the workspace-owner protocol) goes through here. Nothing but a POSIX shell is expected on the far side.

use super::workspace::{Input, Owner};
use super::{Call, Lease};
use crate::world::{ExecExit, ExecIo, Output, StdinChunk};
use crate::{Code, Error, Result};
use tokio::sync::mpsc;

/// The most that is kept of an answer, bytes: scripts of ours print little.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// The far side of a lease, for scripts of our own.
pub(super) struct Remote<'a> {
    lease: &'a Lease,
    owner: Option<&'a Owner>,
}

/// What a script of ours answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// How it ended.
    pub exit: ExecExit,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
}

impl Answer {
    /// Standard output, if the script ended well.
    ///
    /// # Errors
    /// [`Code::RemoteControl`] with what it said, naming `step`.
    pub fn success(self, step: &str) -> Result<Vec<u8>> {
        if self.exit == ExecExit::Code(0) {
            return Ok(self.stdout);
        }
        let said = String::from_utf8_lossy(&self.stderr);
        let said: String = said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
        Err(Error::new(
            Code::RemoteControl,
            format!("{step} failed on the instance ({:?}): {said}", self.exit),
        ))
    }
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
    /// [`Code::SshLost`], [`Code::RemoteControl`], [`Code::Cancelled`].
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
    /// As [`Remote::stream`]; an exit code other than 0 is none.
    pub async fn run(
        &self,
        script: &str,
        stdin: Option<mpsc::Receiver<StdinChunk>>,
        call: &Call,
    ) -> Result<Answer> {
        let (output, mut received) = mpsc::channel(64);
        let collect = async {
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            while let Some(piece) = received.recv().await {
                let (into, bytes) = match piece {
                    Output::Stdout(bytes) => (&mut stdout, bytes),
                    Output::Stderr(bytes) => (&mut stderr, bytes),
                };
                if into.len() + bytes.len() <= LARGEST_ANSWER {
                    into.extend_from_slice(&bytes);
                }
            }
            (stdout, stderr)
        };
        let (exit, (stdout, stderr)) =
            tokio::join!(self.stream(script, ExecIo { stdin, output }, call), collect);
        Ok(Answer { exit: exit?, stdout, stderr })
    }
}

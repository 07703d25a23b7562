//! Shell: an interactive session on a lease, on a terminal or through plain pipes.

use super::{Call, Engine, Lease, Phase};
use crate::Result;
use crate::ssh::command::{Script, quote};
use crate::world::{ExecExit, ExecIo, TakeTerminal};
use futures_util::future::BoxFuture;
use serde::Serialize;

/// Whose shell, and what runs in place of it.
#[derive(Debug, Clone)]
pub struct ShellRequest {
    /// Lease id, slug or instance id.
    pub identifier: String,
    /// Take over a lease that another repository made.
    pub reclaim: bool,
    /// A command in place of the login shell.
    pub script: Option<Script>,
}

/// How the session is joined to this side.
pub enum ShellIo {
    /// A terminal: the far side echoes, edits lines, and hears of changes of size. It is taken over once
    /// the session is open.
    Terminal(TakeTerminal),
    /// Plain streams.
    Pipes(ExecIo),
}

/// A session that has ended.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShellResult {
    /// The lease.
    pub lease: super::lease::Facts,
    /// The exit code of the shell or command; 128 and the signal's number when a signal ended it.
    pub exit_code: u8,
    /// That signal.
    pub signal: Option<String>,
}

impl Engine {
    /// Opens a session on a lease, in the user's home folder, until it ends. The lease counts as `running` meanwhile and
    /// as `ready` again afterwards, whatever ended it.
    ///
    /// # Errors
    /// Those of [`Engine::open`]; [`crate::Code::SshLost`], [`crate::Code::RemoteControl`], [`crate::Code::Cancelled`].
    pub fn shell<'a>(
        &'a self,
        request: &'a ShellRequest,
        io: ShellIo,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<ShellResult>> {
        Box::pin(async move {
            request.script.as_ref().map(line).transpose()?;
            let lease = self.open(&request.identifier, request.reclaim, call).await?;
            let outcome = lease.shell(request.script.as_ref(), io, call).await;
            lease.close().await;
            let (exit_code, signal) = super::run::exit_code(&outcome?);
            Ok(ShellResult { lease: lease.facts().clone(), exit_code, signal })
        })
    }
}

impl Lease {
    /// A session on a lease that is open, with the login shell or with `script` in its place; as [`Engine::shell`].
    ///
    /// # Errors
    /// Those of [`Engine::shell`] once the lease is open.
    pub fn shell<'a>(
        &'a self,
        script: Option<&'a Script>,
        io: ShellIo,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<ExecExit>> {
        Box::pin(async move {
            let command = script.map(line).transpose()?;
            mark(self, "running", call).await;
            call.phase(Phase::Run, command.as_deref().unwrap_or("login shell"));
            let outcome = match io {
                ShellIo::Terminal(take) => self.terminal(command.as_deref(), take, call).await,
                ShellIo::Pipes(io) => self.exec_raw(command.as_deref().unwrap_or(LOGIN), io, call).await,
            };
            mark(self, "ready", call).await;
            outcome
        })
    }
}

/// A login shell that reads its commands from a pipe.
const LOGIN: &str = "if command -v bash >/dev/null 2>&1; then exec bash -l; else exec sh -l; fi";

fn line(script: &Script) -> Result<String> {
    match script {
        Script::Shell(text) => Ok(text.clone()),
        Script::Argv(words) => {
            Ok(words.iter().map(|word| quote(word)).collect::<Result<Vec<_>>>()?.join(" "))
        }
    }
}

/// A touch that fails is no reason not to work: the lease is there.
async fn mark(lease: &Lease, state: &'static str, call: &Call) {
    if let Err(error) = lease.touch(Some(state)).await {
        call.warn(format!("the lease could not be marked as {state}: {error}"));
    }
}

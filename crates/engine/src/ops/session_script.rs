//! A script of ours on a session that has no lease yet, or of which no lease is made.

use super::answer::{Answer, collect};
use crate::ssh::command::quote;
use crate::world::{ExecIo, SshSession};
use crate::{Code, Error, Result};
use std::time::Duration;
use tokio::sync::mpsc;

/// Such scripts print little.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Runs `script` in a plain `sh` and collects what it says.
///
/// # Errors
/// [`Code::SshLost`], [`Code::SshTimeout`] after `limit`, [`Code::RemoteControl`] for an answer that is too large; an exit code other than 0 is none.
pub(super) async fn run(session: &dyn SshSession, script: &str, limit: Duration) -> Result<Answer> {
    let command = format!("exec sh -c {}", quote(script)?);
    let (output, received) = mpsc::channel(16);
    let work = async {
        let exec = session.exec(&command, ExecIo { stdin: None, output });
        let exec = async { exec.await.map_err(|error| Error::new(Code::SshLost, error.message)) };
        tokio::try_join!(exec, collect(received, LARGEST_ANSWER))
    };
    let answered = tokio::time::timeout(limit, work).await.map_err(|_| {
        Error::new(Code::SshTimeout, format!("the instance did not answer within {} s", limit.as_secs()))
    })?;
    let (exit, (stdout, stderr)) = answered?;
    Ok(Answer { exit, stdout, stderr })
}

//! A script of ours on a session that has no lease yet, or of which no lease is made.

use super::remote::Answer;
use crate::ssh::command::quote;
use crate::world::{ExecIo, Output, SshSession};
use crate::{Code, Error, Result};
use std::time::Duration;
use tokio::sync::mpsc;

/// Such scripts print little.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Runs `script` in a plain `sh` and collects what it says.
///
/// # Errors
/// [`Code::SshLost`], [`Code::SshTimeout`] after `limit`; an exit code other than 0 is none.
pub(super) async fn run(session: &dyn SshSession, script: &str, limit: Duration) -> Result<Answer> {
    let command = format!("exec sh -c {}", quote(script)?);
    let (output, mut received) = mpsc::channel(16);
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
    let both = async { tokio::join!(session.exec(&command, ExecIo { stdin: None, output }), collect) };
    let (exit, (stdout, stderr)) = tokio::time::timeout(limit, both).await.map_err(|_| {
        Error::new(Code::SshTimeout, format!("the instance did not answer within {} s", limit.as_secs()))
    })?;
    let exit = exit.map_err(|error| Error::new(Code::SshLost, error.message))?;
    Ok(Answer { exit, stdout, stderr })
}

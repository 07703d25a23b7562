//! Answer: what a script of ours says on an instance, whole or refused.

use crate::world::{ExecExit, Output};
use crate::{Code, Error, Result};
use tokio::sync::mpsc;

/// The most that an answer may hold, bytes: scripts of ours print little.
pub(super) const LARGEST_ANSWER: usize = 16 * 1024 * 1024;
/// What is kept of standard error, bytes: only its beginning is ever told.
const LARGEST_COMPLAINT: usize = 64 * 1024;
/// What a message tells of it, characters.
const BRIEF: usize = 300;

/// What a script of ours answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// How it ended.
    pub exit: ExecExit,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Complaint,
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
        Err(Error::new(
            Code::RemoteControl,
            format!("{step} failed on the instance ({:?}): {}", self.exit, self.stderr.brief()),
        ))
    }
}

/// The beginning of what a script says on standard error.
#[derive(Debug, Default)]
pub(super) struct Complaint(Vec<u8>);

impl Complaint {
    /// Takes a piece.
    pub fn take(&mut self, bytes: &[u8]) {
        let room = LARGEST_COMPLAINT - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Its first words, on one line.
    pub fn brief(&self) -> String {
        brief(&self.0)
    }

    /// The lines.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

/// The first words of what was said elsewhere, on one line and without what would move a terminal's cursor.
pub(super) fn brief(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(BRIEF).collect()
}

/// Collects what a script of ours says, until it ends or has said more than `largest` bytes: half an answer is none.
///
/// # Errors
/// [`Code::RemoteControl`] for more than that.
pub(super) async fn collect(
    mut received: mpsc::Receiver<Output>,
    largest: usize,
) -> Result<(Vec<u8>, Complaint)> {
    let (mut stdout, mut stderr) = (Vec::new(), Complaint::default());
    while let Some(piece) = received.recv().await {
        match piece {
            Output::Stdout(bytes) if stdout.len() + bytes.len() > largest => {
                return Err(Error::new(
                    Code::RemoteControl,
                    format!("the instance answered with more than {largest} bytes"),
                )
                .hint(
                    "see what is in the lease's folder there, or whether a start-up file of its shell prints",
                )
                .with("limit", largest));
            }
            Output::Stdout(bytes) => stdout.extend_from_slice(&bytes),
            Output::Stderr(bytes) => stderr.take(&bytes),
        }
    }
    Ok((stdout, stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collected(pieces: &[Output], largest: usize) -> Result<(Vec<u8>, Complaint)> {
        let (give, take) = mpsc::channel(pieces.len().max(1));
        for piece in pieces {
            give.try_send(piece.clone()).expect("room");
        }
        drop(give);
        collect(take, largest).await
    }

    #[tokio::test]
    async fn an_answer_is_whole_or_refused() {
        let pieces = ["four", "four", "two"].map(|text| Output::Stdout(text.into()));
        let (stdout, _) = collected(&pieces, 11).await.expect("fits");
        assert_eq!(stdout, b"fourfourtwo");
        // A shorter piece behind the one that did not fit would have made an answer with a hole in it.
        let error = collected(&pieces, 7).await.expect_err("too large");
        assert_eq!((error.code(), &error.details()["limit"]), (Code::RemoteControl, &7.into()));
        assert!(error.to_string().contains("more than 7 bytes"), "{error}");
    }

    #[tokio::test]
    async fn complaints_are_cut_and_no_failure() {
        let long = Output::Stderr(" a\n\x1b[2J ".repeat(100_000).into());
        let (_, complaint) = collected(&[long.clone(), long], 1).await.expect("no answer");
        assert_eq!(complaint.0.len(), LARGEST_COMPLAINT);
        assert!(complaint.brief().starts_with("a [2J a [2J"));
        assert_eq!(complaint.brief().len(), BRIEF);
    }
}

//! The text of the workspace-owner protocol: which commands speak it, and how their answers are read.
//!
//! A lease's workspace has one owner at a time: a record on the instance that expires unless it is renewed, and beside it
//! the process that works there. The records are crabbox's, byte for byte, so that its `run` and ours wait for each
//! other. The scripts need a POSIX shell and its usual small tools; without `flock` a folder serves as the lock, and
//! without a `ps` that tells start times the kernel's own number does.
//!
//! A command takes the ownership itself, before it starts: the protocol costs no round trip of its own. Its answer is the
//! first line on standard error, recognised by a mark.

use super::command::quote;
use crate::Result;
use crate::lease::LeaseId;
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;
use std::time::Duration;

/// How long an ownership lasts after its last renewal; crabbox's figure.
pub const LIFETIME: Duration = Duration::from_secs(45);
/// Between two renewals; crabbox's figure.
pub const RENEWAL: Duration = Duration::from_secs(10);

static RUN: LazyLock<String> =
    LazyLock::new(|| stripped(&[include_str!("workspace/records.sh"), include_str!("workspace/run.sh")]));
static RELEASE: LazyLock<String> =
    LazyLock::new(|| stripped(&[include_str!("workspace/records.sh"), include_str!("workspace/release.sh")]));

/// Comments and indentation do not travel.
fn stripped(parts: &[&str]) -> String {
    let lines = parts.iter().flat_map(|part| part.lines()).map(str::trim_start);
    let kept = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// What an instance answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Nobody owned the workspace; now we do.
    Acquired,
    /// Its owner had expired and nothing of it was left running; now we own it.
    Recovered,
    /// It was ours already.
    Owned,
    /// Somebody else owns it.
    Busy,
    /// Its owner has expired, but the command that it started still runs.
    Child,
    /// The ownership ended in order.
    Released,
    /// It is not ours any more.
    Mismatch,
    /// The records cannot be understood.
    Ambiguous,
}

impl Reply {
    fn parse(word: &str) -> Self {
        match word {
            "ACQUIRED" => Self::Acquired,
            "RECOVERED" => Self::Recovered,
            "OWNED" => Self::Owned,
            "BUSY" => Self::Busy,
            "CHILD" => Self::Child,
            "RELEASED" => Self::Released,
            "MISMATCH" => Self::Mismatch,
            _ => Self::Ambiguous,
        }
    }
}

/// One ownership: of one lease, by one run.
#[derive(Debug, Clone)]
pub struct Ownership {
    key: String,
    token: String,
    mark: String,
}

impl Ownership {
    /// Not taken yet. `random` makes it different from all others.
    #[must_use]
    pub fn new(lease: &LeaseId, random: [u8; 48]) -> Self {
        let (token, mark) = random.split_at(32);
        Self {
            key: key(lease),
            token: hex::encode(token),
            mark: format!("crabbox-owner-{}", hex::encode(mark)),
        }
    }

    /// The command that takes or renews the ownership, answers, and runs `text` in `sh` as the recorded child. Its exit
    /// code is that of `text`.
    ///
    /// # Errors
    /// [`crate::Code::InvalidArgument`] for a NUL byte.
    pub fn run(&self, text: &str) -> Result<String> {
        self.run_for(text, LIFETIME, RENEWAL)
    }

    fn run_for(&self, text: &str, lifetime: Duration, renewal: Duration) -> Result<String> {
        let (lifetime, renewal) = (lifetime.as_secs(), renewal.as_secs());
        Ok(format!("{} {lifetime} {renewal} {}", self.call(&RUN)?, quote(text)?))
    }

    /// The command that ends the ownership and answers.
    ///
    /// # Errors
    /// As [`Ownership::run`].
    pub fn release(&self) -> Result<String> {
        Ok(format!("{} {} release", self.call(&RELEASE)?, LIFETIME.as_secs()))
    }

    fn call(&self, script: &str) -> Result<String> {
        Ok(format!("exec sh -c {} crabbox-vast {} {} {}", quote(script)?, self.key, self.token, self.mark))
    }

    /// Finds the answer in what came on standard error: the answer, and that text without its line. `None` while the line
    /// is not whole.
    #[must_use]
    pub fn reply(&self, said: &[u8]) -> Option<(Reply, Vec<u8>)> {
        let begins = said.windows(self.mark.len()).position(|window| window == self.mark.as_bytes())?;
        let line = said[begins..].iter().position(|byte| *byte == b'\n')? + begins;
        let word = String::from_utf8_lossy(&said[begins + self.mark.len()..line]);
        Some((Reply::parse(word.trim()), [&said[..begins], &said[line + 1..]].concat()))
    }
}

/// The name of a lease's records, which crabbox uses as well.
#[must_use]
pub fn key(lease: &LeaseId) -> String {
    hex::encode(Sha256::digest(format!("crabbox-workspace-owner-v1\0{lease}")))
}

#[cfg(test)]
#[path = "workspace_tests.rs"]
mod tests;

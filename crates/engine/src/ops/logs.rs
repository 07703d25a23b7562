//! What an instance and its host have logged, for the error of a start that failed.

use super::{Call, Engine, Phase};
use crate::lease::InstanceId;
use crate::vast::request::LogSource;
use crate::{Code, Error};
use std::time::Duration;

/// How many lines an error carries.
const LINES: u32 = 20;
/// Longest line shown.
const LINE: usize = 300;
/// How long the log's object is waited for, and the whole of it: the machine is billed meanwhile.
const PATIENCE: Duration = Duration::from_secs(9);
const LIMIT: Duration = Duration::from_secs(15);

impl Engine {
    /// Adds the last lines of the log to an error of a failed start, as the fact `log`; the last one goes into the hint.
    /// An error that no log explains, and a log that cannot be had, leave it as it is.
    pub(super) async fn with_log(&self, error: Error, instance: InstanceId, call: &Call) -> Error {
        let source = match error.code() {
            Code::StartFailedHost | Code::StartFailedImage | Code::StartStalled => LogSource::Daemon,
            Code::InstanceNotRunning | Code::BootTimeout | Code::SshRefused => LogSource::Container,
            _ => return error,
        };
        call.phase(Phase::Boot, format!("instance {instance} failed; fetching its log"));
        let fetch = async { Ok(self.client.logs(instance, source, LINES, PATIENCE).await?) };
        let Ok(Ok(text)) = tokio::time::timeout(LIMIT, call.until_cancelled(fetch)).await else {
            return error;
        };
        let mut lines: Vec<String> = text
            .lines()
            .map(|line| line.trim_end().chars().filter(|c| !c.is_control()).take(LINE).collect::<String>())
            .filter(|line| !line.is_empty())
            .collect();
        lines.drain(..lines.len().saturating_sub(LINES as usize));
        let Some(last) = lines.last().cloned() else { return error };
        let hint = match error.hint_text() {
            Some(hint) => format!("{hint}; its log ends with: {last}"),
            None => format!("its log ends with: {last}"),
        };
        error.hint(hint).with("log", lines)
    }
}

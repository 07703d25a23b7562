//! A start that failed: what the instance and its host have logged goes into the error, and a machine that is to blame is
//! remembered.

use super::verdict::{Blame, blame};
use super::{Call, Engine, Phase};
use crate::lease::{InstanceId, MachineId};
use crate::redact::unquoted;
use crate::store::FailedMachine;
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

/// A boot that was given less than this says nothing of its machine: large images take minutes (Vast API, documented).
const FAIR: Duration = Duration::from_secs(10 * 60);

impl Engine {
    /// Everybody here avoids a machine for a day that failed to start because of itself.
    pub(super) async fn remember(&self, machine: Option<MachineId>, why: &Error, call: &Call) {
        let given_time = why.code() == Code::BootTimeout && self.settings.boot_timeout >= FAIR;
        let to_blame = given_time || blame(why.code(), false) == Blame::Machine;
        let Some(machine) = machine.filter(|_| to_blame) else { return };
        let failed = FailedMachine {
            machine: machine.0,
            api: self.settings.api_url.clone(),
            failed_at: self.unix_now(),
            why: why.to_string(),
        };
        // Only a courtesy to the next acquire.
        if let Err(error) = self.store.remember_machine(failed).await {
            call.warn(format!("machine {machine} could not be remembered as failed: {error}"));
        }
    }

    /// Adds the last lines of the log to an error of a failed start, as the fact `log`; the last one goes into the hint.
    /// An error that no log explains, and a log that cannot be had, leave it as it is.
    pub(super) async fn with_log(&self, error: Error, instance: InstanceId, call: &Call) -> Error {
        let source = match error.code() {
            Code::StartFailedHost | Code::StartFailedImage | Code::StartStalled => LogSource::Daemon,
            Code::InstanceNotRunning | Code::BootTimeout | Code::SshRefused | Code::SshTimeout => {
                LogSource::Container
            }
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
        let Some(last) = lines.last().map(|line| unquoted(line)) else { return error };
        let hint = match error.hint_text() {
            Some(hint) => format!("{hint}; its log ends with: {last}"),
            None => format!("its log ends with: {last}"),
        };
        error.hint(hint).with("log", lines)
    }
}

//! One look at an instance whose connection broke while a command ran: what became of the machine, and what to do.

use super::gone::Sight;
use super::halt::Halt;
use super::{Call, Engine, Event, Facts};
use crate::{Code, Error, Result};
use std::time::Duration;

/// How long the look may take.
const LOOK: Duration = Duration::from_secs(10);

impl Engine {
    /// Makes of a lost connection what the machine's state tells: outbid, stopped, gone, or still running. Everything
    /// else passes as it is, and so does a loss of which nothing can be learned.
    pub(super) async fn explain_loss<T>(&self, outcome: Result<T>, facts: &Facts, call: &Call) -> Result<T> {
        match outcome {
            Err(error) if error.code() == Code::SshLost => Err(self.why_lost(error, facts, call).await),
            other => other,
        }
    }

    async fn why_lost(&self, error: Error, facts: &Facts, call: &Call) -> Error {
        let (instance, slug) = (facts.instance, &facts.slug);
        let seen = match tokio::time::timeout(LOOK, self.glance(instance)).await {
            Ok(Ok(seen)) => seen,
            // Nothing was learned.
            Ok(Err(_)) | Err(_) => return error,
        };
        let live = match seen {
            Sight::Unclear => return error,
            // A destroyed record lingers for some seconds.
            Sight::Present(live) if !live.is_unloaded() => live,
            Sight::Present(_) | Sight::Absent => {
                return Error::new(
                    Code::InstanceGone,
                    format!("instance {instance} does not exist any more: {error}"),
                )
                .hint(format!(
                    "it was destroyed by others or by its dead-man switch; `stop {slug}` clears the claim"
                ))
                .with("instance", instance.0);
            }
        };
        let claim = self.store.claim(&facts.id).await.ok().flatten();
        if let Some(halt) = self.halt(&live, claim.as_ref()).await {
            if halt == Halt::Outbid {
                call.event(Event::Outbid { lease: facts.id.clone(), instance });
            }
            return halt
                .error(instance, Some(slug))
                .and(&error)
                .hint(format!("the command was cut off; {}", halt.advice(slug)));
        }
        if live.is_running() {
            let message = format!("{error}; instance {instance} still runs");
            return Error::new(Code::SshLost, message)
                .hint(format!(
                    "the network broke, or sshd was restarted; the command may still run: see `run --id {slug} -- ps aux`"
                ))
                .with("instance", instance.0);
        }
        let status = live.shown_status();
        Error::new(Code::InstanceNotRunning, format!("instance {instance} is {status}: {error}"))
            .hint(format!(
                "out of credit, at the end of its contract, stopped by hand, or its host failed: see `status {slug}`"
            ))
            .with("instance", instance.0)
    }
}

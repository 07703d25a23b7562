//! Touch: a use of the lease moves its idle deadline, never its time to live - here, and on the instance.

use super::open::Use;
use super::unfinished::is_usable;
use super::{Call, Deadman, Engine};
use crate::lease::labels::{self, key};
use crate::lease::{Claim, InstanceId, LeaseId, State, claim_state, go_duration, moment, rfc3339};
use crate::{Code, Error, Result};
use futures_util::future::BoxFuture;
use serde::Serialize;
use std::time::Duration;

/// The slowest heartbeat of ours; a shorter idle timeout makes it quicker.
const SLOWEST_BEAT: Duration = Duration::from_secs(60);

/// How long between two heartbeats of a use.
pub(super) fn pause_between_beats(idle: Duration) -> Duration {
    (idle / 3).clamp(Duration::from_secs(1), SLOWEST_BEAT)
}

/// What a touch left.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Touched {
    /// Lease id.
    pub id: String,
    /// Slug.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub slug: String,
    /// Always `vast`.
    pub provider: &'static str,
    /// State.
    pub state: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_touched_at: Option<String>,
    /// `30m0s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<String>,
    /// The same in seconds.
    #[serde(skip)]
    pub idle_timeout_secs: Option<u64>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The dead-man switch after it was told of the use; absent where being idle ends nothing, or it was not reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadman: Option<Deadman>,
}

impl Touched {
    /// The line crabbox prints for a heartbeat.
    #[must_use]
    pub fn line(&self) -> String {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        format!(
            "heartbeat lease={} slug={} provider={} state={} idle_timeout={} last_touched={} expires={}",
            self.id,
            self.slug,
            self.provider,
            self.state,
            or_dash(&self.idle_timeout),
            or_dash(&self.last_touched_at),
            or_dash(&self.expires_at)
        )
    }
}

impl Engine {
    /// Touches a lease by id, slug or instance id. The claim is written; then the instance is told over SSH, as far as
    /// it can be reached within a few seconds. That it could not is a warning: the touch stands.
    ///
    /// # Errors
    /// [`Code::LeaseNotFound`]; [`Code::InstanceNotRunning`] for a lease that has ended or was stopped;
    /// [`Code::LeaseBusy`] for one that is being destroyed;
    /// [`Code::Cancelled`] before the claim is written.
    pub fn touch<'a>(
        &'a self,
        identifier: &'a str,
        idle_timeout: Option<Duration>,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Touched>> {
        Box::pin(async move {
            call.until_cancelled(async { Ok(()) }).await?;
            let found = self.find_claim(identifier).await?;
            let found = found.and_then(|claim| Some((LeaseId::parse(&claim.lease_id)?, claim)));
            let (id, claim) = found.ok_or_else(|| {
                Error::new(Code::LeaseNotFound, format!("lease/instance not found: {identifier}"))
                    .hint("only a lease with a local claim can be touched; `list` shows them")
            })?;
            let instance = check_alive(&claim)?;
            let mut resumed = self.resume(&id, &claim, None, Use::Touched, call).await?;
            resumed.call_off(self, instance, Use::Touched, call).await?;
            let claim = self.touch_claim(&id, None, idle_timeout).await?;
            self.keep_in_use(&mut resumed, &id, &claim, Use::Touched, call).await?;
            drop(resumed);
            self.tell_of_the_dead(&id, &claim, call).await;
            let deadman = self.renew_deadman(&claim, call).await.unwrap_or_else(|error| {
            call.warn(format!(
                "the dead-man switch on the instance was not told of this use: {error}; its deadline is where it was"
            ));
            None
        });
            Ok(Touched {
                id: claim.lease_id.clone(),
                slug: claim.slug.clone(),
                provider: "vast",
                state: claim.state().to_owned(),
                last_touched_at: labels::last_touched_at(&claim.labels).map(moment),
                idle_timeout: labels::idle_timeout(&claim.labels).map(go_duration),
                idle_timeout_secs: labels::idle_timeout(&claim.labels).map(|idle| idle.as_secs()),
                expires_at: labels::expires_at(&claim.labels).map(moment),
                deadman,
            })
        })
    }

    /// Touches under the claim lock, so that a touch racing a stop never revives the lease. `state` is written where the
    /// lease is usable: that somebody got in is for [`Engine::bind_claim`] to say, and not for who was in before a start.
    pub(super) async fn touch_claim(
        &self,
        id: &LeaseId,
        state: Option<&'static str>,
        idle_timeout: Option<Duration>,
    ) -> Result<Claim> {
        let (now, unix) = (self.now(), self.unix_now());
        let (ttl, idle) = (self.settings.ttl, self.settings.idle_timeout);
        self.store
            .update_claim(id, move |claim| {
                check_alive(claim)?;
                let state = state.filter(|_| is_usable(claim));
                labels::touch(&mut claim.labels, unix, state, ttl, idle, idle_timeout);
                if is_usable(claim) {
                    claim.last_used_at = rfc3339(now);
                }
                if let Some(idle) = idle_timeout {
                    claim.idle_timeout_seconds = i64::try_from(idle.as_secs()).unwrap_or(i64::MAX);
                }
                Ok(())
            })
            .await
    }

    /// Binds a lease that is about to be used to this repository and refreshes its endpoint. Creation time, keep,
    /// time to live and idle timeout stay what they are. `seen` is its claim as it was read with a machine that runs.
    pub(super) async fn bind_claim(
        &self,
        id: &LeaseId,
        seen: &Claim,
        host: String,
        port: u16,
        reclaim: bool,
        answered: bool,
    ) -> Result<Claim> {
        let here = self.settings.repo_root.clone();
        let (now, unix) = (self.now(), self.unix_now());
        let (ttl, idle) = (self.settings.ttl, self.settings.idle_timeout);
        // What others started again is stopped no more; a stop since then wrote that word anew.
        let started = Some(seen.clone()).filter(|seen| seen.state() == claim_state(State::Stopped).0);
        self.store
            .update_claim(id, move |claim| {
                let over = labels::is_terminal(claim.state()) && started.as_ref() != Some(&*claim);
                check_repository(claim, &here, reclaim)?;
                if claim.repo_root != here || reclaim {
                    claim.repo_root = here;
                    claim.claimed_at = rfc3339(now);
                }
                if answered || is_usable(claim) {
                    // Nobody is in a machine that comes up for having tried: whoever rented it may give it back.
                    claim.last_used_at = rfc3339(now);
                }
                claim.ssh_host = host;
                claim.ssh_port = i64::from(port);
                if answered && !over {
                    // It answers, whatever an interrupted acquire left in the claim.
                    let state = if claim.state() == "running" { "running" } else { "ready" };
                    labels::touch(&mut claim.labels, unix, Some(state), ttl, idle, None);
                    claim.labels.remove(key::RECOVERY);
                }
                Ok(())
            })
            .await
    }
}

/// Refuses a lease that has ended, and one of which nobody knows what the vendor made of it. The `recovery` label alone
/// says nothing: crabbox leaves it on leases that it recovered.
fn check_alive(claim: &Claim) -> Result<InstanceId> {
    let state = claim.state();
    let refused = |what: &str, hint: String| {
        Err(Error::new(Code::InstanceNotRunning, format!("lease {} {what}", claim.slug)).hint(hint))
    };
    if labels::is_terminal(state) {
        let hint = match state.trim().to_ascii_lowercase().as_str() {
            "stopped" | "stopped_with_code" => super::open::ended_hint(&claim.slug),
            _ => format!("release it with `stop {}`", claim.slug),
        };
        return refused(&format!("is in terminal state {state}"), hint);
    }
    match claim.instance_id() {
        Some(instance) if !matches!(state, "ambiguous-create" | "rollback-cleanup") => Ok(instance),
        _ => refused(
            &format!("is left to be recovered (state {state})"),
            format!("`stop {}` finds out and gives it back", claim.slug),
        ),
    }
}

/// A lease belongs to the repository that made or reclaimed it.
pub(super) fn check_repository(claim: &Claim, here: &str, reclaim: bool) -> Result<()> {
    if reclaim || claim.repo_root.is_empty() || claim.repo_root == here {
        return Ok(());
    }
    Err(Error::new(
        Code::RepositoryMismatch,
        format!(
            "lease {} is claimed by repo {}; use --reclaim to claim it for {here}",
            claim.lease_id, claim.repo_root
        ),
    )
    .hint("run from that repository, or add --reclaim"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovered_lease_is_alive_and_a_doubtful_one_is_not() {
        let refused = |state: &str, cloud: &str| {
            let labels = [("state", state), ("recovery", "ambiguous-create")];
            let claim = Claim {
                slug: "one".to_owned(),
                cloud_id: cloud.to_owned(),
                labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
                ..Claim::default()
            };
            check_alive(&claim).err()
        };
        assert!(refused("ready", "7").is_none());
        for (state, cloud) in [("ambiguous-create", "7"), ("rollback-cleanup", "7"), ("ready", "")] {
            let error = refused(state, cloud).expect("refused");
            assert_eq!(error.code(), Code::InstanceNotRunning, "{state}");
        }
        let stopped = refused("stopped", "7").expect("refused").hint_text().unwrap_or_default().to_owned();
        assert!(stopped.contains("`start one`"), "{stopped}");
    }
}

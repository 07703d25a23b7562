//! Getting a session: handshake attempts on every known endpoint until one lets us in.
//!
//! A TCP accept proves nothing (the vendor's relay and the container runtime accept before sshd lives), so a probe is a
//! whole handshake with the lease's key, and the first one that succeeds is the session that is used.

use super::{Call, Engine, Event, Phase};
use crate::lease::LeaseId;
use crate::store::LeaseKey;
use crate::vast::{Endpoint, EndpointKind};
use crate::world::{HostKeyPolicy, SshError, SshErrorKind, SshSession, SshTarget};
use crate::{Code, Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Where sshd may answer, as far as reads have shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Whereabouts {
    pub endpoints: Vec<Endpoint>,
    /// The container is up: refusals count from here.
    pub running: bool,
}

/// A live session and the endpoint that gave it.
pub(super) struct Connected {
    pub session: Arc<dyn SshSession>,
    pub endpoint: Endpoint,
}

/// Limit of the first attempt; slow links get more at each next one.
const FIRST_LIMIT: Duration = Duration::from_secs(2);
const LAST_LIMIT: Duration = Duration::from_secs(10);
/// Pause after a failed attempt.
const PAUSE: Duration = Duration::from_millis(200);
/// Pause while the container is not up, or the key is refused: there is time.
const LONG_PAUSE: Duration = Duration::from_secs(1);

struct Attempt {
    endpoint: Endpoint,
    limit: Duration,
    outcome: std::result::Result<Arc<dyn SshSession>, SshError>,
}

impl Engine {
    /// Tries every endpoint that `whereabouts` names, now and later, until one lets us in.
    ///
    /// # Errors
    /// [`Code::SshRefused`] when the key is refused for longer than `ssh_timeout` by a running instance, on every way to it;
    /// [`Code::HostKeyChanged`]. Anything else is tried again: the caller limits the time.
    pub(super) async fn knock(
        &self,
        lease: &LeaseId,
        key: &LeaseKey,
        mut whereabouts: watch::Receiver<Whereabouts>,
        call: &Call,
    ) -> Result<Connected> {
        let mut attempts: JoinSet<Attempt> = JoinSet::new();
        let mut busy: BTreeSet<Endpoint> = BTreeSet::new();
        // By endpoint: a relay may refuse a good key for a rental's entire life, while the direct way opens late.
        let mut refused_since: BTreeMap<Endpoint, Instant> = BTreeMap::new();
        let mut said = false;
        loop {
            let known = whereabouts.borrow_and_update().clone();
            for endpoint in &known.endpoints {
                if busy.insert(endpoint.clone()) {
                    self.attempt(&mut attempts, lease, key, endpoint.clone(), FIRST_LIMIT, Duration::ZERO)
                        .await?;
                }
            }
            if known.running && !known.endpoints.is_empty() && !said {
                said = true;
                call.phase(Phase::Connect, format!("waiting for SSH at {}", shown(&known.endpoints)));
            }
            let attempt = tokio::select! {
                biased;
                Some(done) = attempts.join_next() => done.map_err(|error| Error::new(Code::Internal, "an SSH attempt failed").because(error))?,
                Ok(()) = whereabouts.changed() => continue,
                else => return Err(Error::new(Code::SshTimeout, "no address to connect to")),
            };
            let error = match attempt.outcome {
                Ok(session) => {
                    self.learn(lease, &attempt.endpoint, session.as_ref(), call).await?;
                    return Ok(Connected { session, endpoint: attempt.endpoint });
                }
                Err(error) => error,
            };
            let known = whereabouts.borrow().clone();
            match error.kind {
                SshErrorKind::HostKeyChanged => return Err(changed(lease, &error)),
                SshErrorKind::KeyRefused if known.running => {
                    refused_since.entry(attempt.endpoint.clone()).or_insert_with(Instant::now);
                    // The one that began to refuse last decides; one that never did may still let us in.
                    let all = known.endpoints.iter().map(|endpoint| refused_since.get(endpoint));
                    let last = all.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max().copied());
                    if let Some(for_long) = last.map(|since| since.elapsed())
                        && for_long >= self.settings.ssh_timeout
                    {
                        return Err(refused(&error, for_long));
                    }
                }
                _ => {}
            }
            if !known.endpoints.contains(&attempt.endpoint) {
                // The address is history (ports change at every start): if it comes back, it is tried anew.
                busy.remove(&attempt.endpoint);
                refused_since.remove(&attempt.endpoint);
                continue;
            }
            let patient = !known.running || error.kind == SshErrorKind::KeyRefused;
            let pause = if patient { LONG_PAUSE } else { PAUSE };
            let limit = (attempt.limit.mul_f64(1.5)).min(LAST_LIMIT);
            self.attempt(&mut attempts, lease, key, attempt.endpoint, limit, pause).await?;
        }
    }

    async fn attempt(
        &self,
        attempts: &mut JoinSet<Attempt>,
        lease: &LeaseId,
        key: &LeaseKey,
        endpoint: Endpoint,
        limit: Duration,
        pause: Duration,
    ) -> Result<()> {
        let recorded = self.store.known_hosts(lease, &endpoint.host, endpoint.port).await?;
        let target = SshTarget {
            host: endpoint.host.clone(),
            port: endpoint.port,
            user: self.settings.user.clone(),
            key: Arc::clone(&key.private),
            host_key: if recorded.is_empty() {
                HostKeyPolicy::FirstUse
            } else {
                HostKeyPolicy::Known(recorded)
            },
        };
        let ssh = Arc::clone(&self.world.ssh);
        attempts.spawn(async move {
            tokio::time::sleep(pause).await;
            let outcome = ssh.connect(&target, limit).await;
            Attempt { endpoint, limit, outcome }
        });
        Ok(())
    }

    /// Records the host key of an endpoint that accepted our key for the first time.
    async fn learn(
        &self,
        lease: &LeaseId,
        endpoint: &Endpoint,
        session: &dyn SshSession,
        call: &Call,
    ) -> Result<()> {
        let (host, port, key) = (&endpoint.host, endpoint.port, session.host_key());
        if !self.store.known_hosts(lease, host, port).await?.is_empty() {
            return Ok(());
        }
        self.store.learn_host(lease, host, port, &key).await?;
        let fingerprint = ssh_key::PublicKey::from_openssh(&key)
            .map(|key| key.fingerprint(ssh_key::HashAlg::Sha256).to_string())
            .unwrap_or_default();
        call.event(Event::HostKey { endpoint: endpoint.clone(), fingerprint });
        Ok(())
    }

    /// One session to a running instance, within `limit`.
    ///
    /// # Errors
    /// As [`Engine::knock`], and [`Code::SshTimeout`].
    pub(super) async fn connect(
        &self,
        lease: &LeaseId,
        key: &LeaseKey,
        endpoints: Vec<Endpoint>,
        limit: Duration,
        call: &Call,
    ) -> Result<Connected> {
        let addresses = shown(&endpoints);
        let (sender, receiver) = watch::channel(Whereabouts { endpoints, running: true });
        let outcome = tokio::time::timeout(limit, self.knock(lease, key, receiver, call)).await;
        drop(sender);
        outcome.unwrap_or_else(|_| {
            Err(Error::new(
                Code::SshTimeout,
                format!("timed out waiting for SSH at {addresses} after {} s", limit.as_secs()),
            )
            .hint("the machine may still be starting; see `status`, or release it and take another"))
        })
    }
}

fn shown(endpoints: &[Endpoint]) -> String {
    let one = |endpoint: &Endpoint| {
        let way = match endpoint.kind {
            EndpointKind::Direct => "direct",
            EndpointKind::Proxy => "proxy",
        };
        format!("{}:{} ({way})", endpoint.host, endpoint.port)
    };
    endpoints.iter().map(one).collect::<Vec<_>>().join(" and ")
}

fn refused(error: &SshError, for_long: Duration) -> Error {
    Error::new(Code::SshRefused, format!("{} for {} s", error.message, for_long.as_secs()))
        .hint("the image may replace sshd or authorized_keys; try another image or machine")
}

fn changed(lease: &LeaseId, error: &SshError) -> Error {
    Error::new(Code::HostKeyChanged, error.message.clone())
        .hint(format!("somebody may sit in between; if the instance was rebuilt, remove known_hosts in the key folder of {lease}"))
        .with("lease", lease.as_str())
}

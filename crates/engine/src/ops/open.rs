//! Opening a lease that is there: resolve it, connect, bind it to this repository.

use super::lease::Machine;
use super::verdict::outbid;
use super::{Call, Engine, Lease};
use crate::lease::labels::key;
use crate::lease::{Claim, LeaseId};
use crate::store::{Journal, OperationGuard, StepKind};
use crate::vast::{Endpoint, Instance};
use crate::{Code, Error, Result};
use std::time::Duration;

/// How long a present lease may take to let us in.
const CONNECT: Duration = Duration::from_secs(120);

/// A lease that is taken into use again.
struct Resumed {
    lock: Option<OperationGuard>,
    /// Where a dead process held it or was about to stop it.
    journal: Option<Journal>,
}

impl Engine {
    /// Opens a session on a present lease and binds it to this repository.
    ///
    /// # Errors
    /// Those of resolving; [`Code::InstanceNotRunning`], [`Code::RepositoryMismatch`], [`Code::SshTimeout`].
    pub async fn open(&self, identifier: &str, reclaim: bool, call: &Call) -> Result<Lease> {
        Ok(self.open_under(None, identifier, reclaim, call).await?.0)
    }

    /// [`Engine::open`] for who may hold the lease's operation lock already; it comes back.
    pub(super) async fn open_under(
        &self,
        lock: Option<OperationGuard>,
        identifier: &str,
        reclaim: bool,
        call: &Call,
    ) -> Result<(Lease, Option<OperationGuard>)> {
        let (claim, instance) = self.resolve_or_adopt(identifier, reclaim, call).await?;
        super::touch::check_repository(&claim, &self.settings.repo_root, reclaim)?;
        let id = LeaseId::parse(&claim.lease_id).ok_or_else(|| {
            Error::new(Code::ClaimCorrupt, format!("`{}` is not a lease id", claim.lease_id))
        })?;
        let endpoints = require_usable(&claim, &instance)?;
        let mut resumed = self.resume(&id, &claim, lock, call).await?;
        let key = self.lease_key(&id).await?;
        let connected = call.until_cancelled(self.connect(&id, &key, endpoints, CONNECT, call)).await?;
        let claim = self
            .bind_claim(&id, connected.endpoint.host.clone(), connected.endpoint.port, reclaim, true)
            .await?;
        if let Some(journal) = &mut resumed.journal {
            journal.holder = None;
            journal.voided(StepKind::Stop, instance.id, "the lease is in use again");
            self.note_or_warn(journal, call).await;
        }
        let machine = Machine {
            instance: instance.id,
            gpu: instance.gpu_name.clone().unwrap_or_default(),
            price: instance.dph_total,
            deadman: self.deadman_for_use(&id, connected.session.as_ref(), call).await,
        };
        Ok((Lease::new(self, &id, &claim, machine, &key, connected), resumed.lock))
    }

    /// The journal of a lease that a dead process held or was about to stop, to be relieved of that once the lease is
    /// in use again; its lock keeps everybody from finishing the dead one's work until then.
    async fn resume(
        &self,
        id: &LeaseId,
        claim: &Claim,
        lock: Option<OperationGuard>,
        call: &Call,
    ) -> Result<Resumed> {
        let left = |journal: &Journal| {
            let stopping = |instance| journal.is_open(StepKind::Stop, instance);
            journal.holder.is_some() || claim.instance_id().is_some_and(stopping)
        };
        // An unreadable journal tells nobody to finish anything.
        if !self.store.journal(id).await.ok().flatten().is_some_and(|journal| left(&journal)) {
            return Ok(Resumed { lock, journal: None });
        }
        let (lock, journal) = self.journal_of(id, claim, lock, call).await?;
        Ok(Resumed { lock, journal: journal.filter(left) })
    }
}

/// Where an instance can be reached that runs; at least one address.
///
/// # Errors
/// [`Code::InstanceNotRunning`], [`Code::Outbid`].
pub(super) fn require_usable(claim: &Claim, instance: &Instance) -> Result<Vec<Endpoint>> {
    if instance.is_outbid() && claim.label(key::STATE) != Some("stopped") {
        return Err(outbid(instance.id, Some(&claim.slug)));
    }
    if !instance.is_running() {
        let status = instance.shown_status();
        return Err(Error::new(
            Code::InstanceNotRunning,
            format!("vast instance {} of lease {} is {status}", instance.id, claim.lease_id),
        )
        .hint(match status.as_str() {
            "provisioning" | "loading" | "created" => "it is still starting: see `status --wait`".to_owned(),
            _ => ended_hint(&claim.slug),
        }));
    }
    let endpoints = instance.endpoints();
    if endpoints.is_empty() {
        return Err(Error::new(
            Code::InstanceNotRunning,
            format!("vast instance {} is missing SSH endpoint", instance.id),
        )
        .hint("it may still be starting: see `status --wait`"));
    }
    Ok(endpoints)
}

/// What can be done with a lease whose machine does not run.
pub(super) fn ended_hint(slug: &str) -> String {
    format!(
        "`start {slug}` starts it again where it was stopped; `stop --vast-release-action destroy {slug}` gives it back"
    )
}

//! Opening a lease that is there: resolve it, connect, bind it to this repository.

use super::lease::Machine;
use super::{Call, Engine, Lease};
use crate::lease::{Claim, InstanceId, LeaseId};
use crate::store::{Journal, OperationGuard, StepKind};
use crate::vast::{Endpoint, Instance};
use crate::{Code, Error, Result};
use futures_util::future::BoxFuture;
use std::time::Duration;

/// How long a present lease may take to let us in.
const CONNECT: Duration = Duration::from_secs(120);

/// Why a step that was begun to end a lease is void.
pub(super) const IN_USE_AGAIN: &str = "the lease is in use again";

/// A lease that is taken into use again.
pub(super) struct Resumed {
    lock: Option<OperationGuard>,
    /// Where a dead process held it or was about to end it.
    journal: Option<Journal>,
}

impl Engine {
    /// Opens a session on a present lease and binds it to this repository.
    ///
    /// # Errors
    /// Those of resolving; [`Code::InstanceNotRunning`], [`Code::RepositoryMismatch`], [`Code::SshTimeout`].
    pub fn open<'a>(
        &'a self,
        identifier: &'a str,
        reclaim: bool,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Lease>> {
        Box::pin(async move { Ok(self.open_under(None, identifier, reclaim, call).await?.0) })
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
        let endpoints = call.until_cancelled(self.require_usable(&claim, &instance)).await?;
        let mut resumed = self.resume(&id, &claim, lock, call).await?;
        let key = self.lease_key(&id).await?;
        let connected = call.until_cancelled(self.connect(&id, &key, endpoints, CONNECT, call)).await?;
        resumed.relieve(self, instance.id, call).await?;
        let claim = self
            .bind_claim(&id, connected.endpoint.host.clone(), connected.endpoint.port, reclaim, true)
            .await?;
        self.keep_in_use(&mut resumed, &id, &claim, &ENDS, call).await?;
        if let Some(warning) = self.price_warning(&instance, &claim.slug) {
            call.warn(warning);
        }
        let machine = Machine {
            instance: instance.id,
            gpu: instance.gpu_name.clone().unwrap_or_default(),
            price: instance.dph_total,
            deadman: self
                .deadman_for_use(&id, &claim, resumed.lock.as_ref(), connected.session.as_ref(), call)
                .await,
        };
        Ok((Lease::new(self, &id, &claim, machine, &key, connected), resumed.lock))
    }

    /// The journal of a lease that a dead process held or was about to end, to be relieved of that once the lease is
    /// in use again; its lock keeps everybody from finishing the dead one's work until then.
    ///
    /// # Errors
    /// [`Code::LeaseBusy`] while somebody who lives destroys it.
    pub(super) async fn resume(
        &self,
        id: &LeaseId,
        claim: &Claim,
        lock: Option<OperationGuard>,
        call: &Call,
    ) -> Result<Resumed> {
        let left = |journal: &Journal| {
            let open = |kind| claim.instance_id().is_some_and(|instance| journal.is_open(kind, instance));
            journal.holder.is_some() || open(StepKind::Stop) || open(StepKind::Destroy)
        };
        // An unreadable journal tells nobody to finish anything.
        let Some(seen) = self.store.journal(id).await.ok().flatten().filter(left) else {
            return Ok(Resumed { lock, journal: None });
        };
        let (lock, journal) = self.journal_of(id, claim, lock, call).await?;
        let doomed = claim.instance_id().is_some_and(|instance| seen.is_open(StepKind::Destroy, instance));
        if lock.is_none() && doomed {
            return Err(Error::new(Code::LeaseBusy, format!("another process is destroying lease {id}"))
                .hint("`list` shows in a minute whether it is gone; otherwise try again"));
        }
        Ok(Resumed { lock, journal: journal.filter(left) })
    }
}

impl Engine {
    /// Looks once more, after the claim has said that the lease is in use, whether somebody began to end it since the
    /// first look: such a one reads the claim after that record, so that one of the two sees the other.
    ///
    /// # Errors
    /// [`Code::LeaseBusy`] while that one lives; those of [`Resumed::call_off`].
    pub(super) async fn keep_in_use(
        &self,
        resumed: &mut Resumed,
        id: &LeaseId,
        claim: &Claim,
        ends: &[StepKind],
        call: &Call,
    ) -> Result<()> {
        let Some(instance) = claim.instance_id().filter(|_| resumed.journal.is_none()) else {
            return Ok(());
        };
        *resumed = self.resume(id, claim, resumed.lock.take(), call).await?;
        resumed.call_off(self, instance, ends, call).await
    }
}

impl Resumed {
    /// Calls off, durably, what a dead process had begun to end a lease that is about to be used: whoever comes next would
    /// finish it under its user. Before the claim says that the lease is in use.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`] with all of it still to be finished: the lease must not be used.
    pub(super) async fn call_off(
        &mut self,
        engine: &Engine,
        instance: InstanceId,
        ends: &[StepKind],
        call: &Call,
    ) -> Result<()> {
        if let Some(journal) = &mut self.journal
            && call_off(journal, instance, ends, call)
        {
            engine.store.write_journal(journal).await?;
        }
        Ok(())
    }

    /// The same for whoever takes the lease over from a process that died with it.
    async fn relieve(&mut self, engine: &Engine, instance: InstanceId, call: &Call) -> Result<()> {
        if let Some(journal) = &mut self.journal
            && relieve(journal, instance, call)
        {
            engine.store.write_journal(journal).await?;
        }
        Ok(())
    }
}

/// What ends a lease, as far as a use of its machine is concerned.
pub(super) const ENDS: [StepKind; 2] = [StepKind::Destroy, StepKind::Stop];

/// Calls off, in this copy of the journal, what was begun to end a lease that is taken into use; whether anything was.
fn call_off(journal: &mut Journal, instance: InstanceId, ends: &[StepKind], call: &Call) -> bool {
    let begun: Vec<StepKind> = ends.iter().copied().filter(|kind| journal.is_open(*kind, instance)).collect();
    for kind in &begun {
        journal.voided(*kind, instance, IN_USE_AGAIN);
        let what = if *kind == StepKind::Stop { "stop" } else { "destroy" };
        call.warn(format!("the {what} of instance {instance} that was begun and never proved is called off: its lease is used again"));
    }
    !begun.is_empty()
}

/// The same, and nobody holds it any more.
pub(super) fn relieve(journal: &mut Journal, instance: InstanceId, call: &Call) -> bool {
    let held = journal.holder.take().is_some();
    call_off(journal, instance, &ENDS, call) || held
}

impl Engine {
    /// Where an instance can be reached that runs; at least one address.
    ///
    /// # Errors
    /// [`Code::InstanceNotRunning`]; [`Code::Outbid`] or [`Code::InsufficientCredit`] where that is why it does not.
    pub(super) async fn require_usable(&self, claim: &Claim, instance: &Instance) -> Result<Vec<Endpoint>> {
        if let Some(halt) = self.halt(instance, Some(claim)).await {
            return Err(halt.error(instance.id, Some(&claim.slug)));
        }
        if !instance.is_running() {
            let status = instance.shown_status();
            return Err(Error::new(
                Code::InstanceNotRunning,
                format!("vast instance {} of lease {} is {status}", instance.id, claim.lease_id),
            )
            .hint(match status.as_str() {
                "provisioning" | "loading" | "created" => {
                    "it is still starting: see `status --wait`".to_owned()
                }
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
}

/// What can be done with a lease whose machine does not run.
pub(super) fn ended_hint(slug: &str) -> String {
    format!(
        "`start {slug}` starts it again where it was stopped; `stop --vast-release-action destroy {slug}` gives it back"
    )
}

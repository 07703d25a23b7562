//! Opening a lease that is there: resolve it, connect, bind it to this repository.

use super::lease::Machine;
use super::unfinished::is_usable;
use super::{Call, Engine, Lease, Phase};
use crate::lease::labels::{is_terminal, key};
use crate::lease::{Claim, InstanceId, LeaseId, State, claim_state};
use crate::store::{Journal, OperationGuard, StepKind};
use crate::vast::{Endpoint, Instance};
use crate::{Code, Error, Result};
use futures_util::future::BoxFuture;
use std::time::Duration;
use tokio::time::Instant;

/// How long a present lease may take to let us in.
const CONNECT: Duration = Duration::from_secs(120);

/// How long whoever ends a lease is waited for, to see whether it is spared, and how often that is looked at.
const ENDS: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(500);

/// Why a step that was begun to end a lease is void.
pub(super) const IN_USE_AGAIN: &str = "the lease is in use again";

/// How a lease is taken into use again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Its claim is touched. The machine is not looked at, so that a stop may have had its effect.
    Touched,
    /// Its machine is started: whatever a dead process had meant to do with it is void.
    Started,
    /// Somebody got in. A start that a dead process had begun came to its end with that.
    Reached,
}

impl Use {
    /// The steps that it calls off.
    fn ends(self) -> &'static [StepKind] {
        match self {
            Use::Touched => &[StepKind::Destroy],
            Use::Started | Use::Reached => &[StepKind::Destroy, StepKind::Stop],
        }
    }
}

/// A lease that is taken into use again.
pub(super) struct Resumed {
    lock: Option<OperationGuard>,
    /// Where a dead process held it, was about to end it, or had given it up.
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
        let mut resumed = self.resume(&id, &claim, lock, Use::Reached, call).await?;
        let key = self.lease_key(&id).await?;
        let connected = call.until_cancelled(self.connect(&id, &key, endpoints, CONNECT, call)).await?;
        resumed.call_off(self, instance.id, Use::Reached, call).await?;
        let claim = self
            .bind_claim(&id, &claim, connected.endpoint.host.clone(), connected.endpoint.port, reclaim, true)
            .await?;
        self.keep_in_use(&mut resumed, &id, &claim, Use::Reached, call).await?;
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
            rented: false,
        };
        Ok((Lease::new(self, &id, &claim, machine, &key, connected), resumed.lock))
    }

    /// The journal of a lease that a dead process held, was about to end or had given up, to be relieved of that once the
    /// lease is in use again; its lock keeps everybody from finishing the dead one's work until then.
    ///
    /// # Errors
    /// [`Code::LeaseBusy`] while somebody who lives destroys it, or stops what is to be reached.
    pub(super) async fn resume(
        &self,
        id: &LeaseId,
        claim: &Claim,
        lock: Option<OperationGuard>,
        how: Use,
        call: &Call,
    ) -> Result<Resumed> {
        let ending = |journal: &Journal, ends: &[StepKind]| {
            let instance = claim.instance_id()?;
            ends.iter().copied().find(|kind| journal.is_open(*kind, instance))
        };
        let left = |journal: &Journal| {
            let all = [StepKind::Destroy, StepKind::Stop, StepKind::Start];
            journal.holder.is_some()
                || ending(journal, &all).is_some()
                || claim.instance_id().is_some_and(|instance| journal.disowns(instance))
        };
        // An unreadable journal tells nobody to finish anything.
        let Some(seen) = self.store.journal(id).await.ok().flatten().filter(left) else {
            return Ok(Resumed { lock, journal: None });
        };
        let (lock, journal) = self.journal_of(id, claim, lock, call).await?;
        if lock.is_none()
            && let Some(kind) = ending(&seen, how.ends())
        {
            let does = if kind == StepKind::Stop { "stopping" } else { "destroying" };
            return Err(Error::new(Code::LeaseBusy, format!("another process is {does} lease {id}"))
                .hint("`list` shows in a minute what became of it; otherwise try again"));
        }
        Ok(Resumed { lock, journal: journal.filter(left) })
    }

    /// Looks once more, after the claim has said that the lease is in use, whether somebody began to end it since the
    /// first look: such a one reads the claim after that record, so that one of the two sees the other. Where both do, that
    /// one may spare it because of the word that was just written: what becomes of it is waited for.
    ///
    /// # Errors
    /// [`Code::LeaseBusy`] where that one ends it, or takes long; those of [`Resumed::call_off`].
    pub(super) async fn keep_in_use(
        &self,
        resumed: &mut Resumed,
        id: &LeaseId,
        claim: &Claim,
        how: Use,
        call: &Call,
    ) -> Result<()> {
        let Some(instance) = claim.instance_id().filter(|_| resumed.journal.is_none()) else {
            return Ok(());
        };
        let (deadline, mut ending) = (Instant::now() + ENDS, None);
        *resumed = loop {
            match self.resume(id, claim, resumed.lock.take(), how, call).await {
                Err(busy) if busy.code() == Code::LeaseBusy && Instant::now() < deadline => {
                    ending = Some(busy)
                }
                looked => break looked?,
            }
            call.phase(
                Phase::Connect,
                format!("another process is ending lease {id}; waiting for what becomes of it"),
            );
            let pause = async {
                tokio::time::sleep(LOOK).await;
                Ok(())
            };
            call.until_cancelled(pause).await?;
        };
        if let Some(ending) = ending {
            // A step is not open any more once it is done, too.
            let left = self.store.claim(id).await?.filter(|claim| claim.instance_id() == Some(instance));
            let spared =
                |claim: &Claim| is_usable(claim) || how == Use::Touched && !is_terminal(claim.state());
            if !left.is_some_and(|claim| spared(&claim)) {
                return Err(ending);
            }
        }
        resumed.call_off(self, instance, how, call).await
    }
}

impl Engine {
    /// Calls off, durably, what dead processes had left to be done with a lease, for whoever holds its operation lock.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`] with all of it still to be finished.
    pub(super) async fn call_off(
        &self,
        journal: &mut Journal,
        instance: InstanceId,
        how: Use,
        call: &Call,
    ) -> Result<()> {
        let called_off = self.take_out(journal, instance, how).await?;
        if called_off.changed {
            self.store.write_journal(journal).await?;
            called_off.tell(instance, call);
        }
        Ok(())
    }

    /// The same in this copy of the journal, for who has more to write there.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`] with nothing taken out.
    pub(super) async fn take_out(
        &self,
        journal: &mut Journal,
        instance: InstanceId,
        how: Use,
    ) -> Result<CalledOff> {
        if how == Use::Reached && journal.is_open(StepKind::Start, instance) {
            self.revive(journal).await?;
        }
        Ok(CalledOff::from(journal, instance, how, self.unix_now()))
    }

    /// Takes the word `stopped` out of the claim of a lease whose start died before it could. To be called by whoever is
    /// about to prove that start, under the operation lock.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`].
    pub(super) async fn revive(&self, journal: &Journal) -> Result<()> {
        let Some(id) = LeaseId::parse(&journal.lease) else { return Ok(()) };
        let (stopped, booting) = (claim_state(State::Stopped).0, claim_state(State::Booting).0);
        self.mark_where(&id, booting, move |claim| claim.state() == stopped).await.map(|_| ())
    }

    /// Writes a state into the claim, and nothing else, where the claim under its lock meets a condition.
    ///
    /// # Errors
    /// [`Code::LeaseNotFound`]; [`Code::StateUnavailable`].
    pub(super) async fn mark_where(
        &self,
        id: &LeaseId,
        state: &'static str,
        condition: impl FnOnce(&Claim) -> bool + Send + 'static,
    ) -> Result<Claim> {
        let change = move |claim: &mut Claim| {
            if condition(claim) {
                claim.labels.insert(key::STATE.into(), state.to_owned());
            }
            Ok(())
        };
        self.store.update_claim(id, change).await
    }
}

impl Resumed {
    /// Calls off, durably, what dead processes had begun or meant to do with a lease that is about to be used: whoever comes
    /// next would finish it under its user. Before the claim says that the lease is in use.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`] with all of it still to be finished: the lease must not be used.
    pub(super) async fn call_off(
        &mut self,
        engine: &Engine,
        instance: InstanceId,
        how: Use,
        call: &Call,
    ) -> Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        engine.call_off(journal, instance, how, call).await
    }

    /// Says that what was begun to end the lease is still to be done: the machine was not reached.
    pub(super) fn leave(&self, instance: InstanceId, call: &Call) {
        let Some(journal) = &self.journal else { return };
        for kind in Use::Reached.ends().iter().filter(|kind| journal.is_open(**kind, instance)) {
            let what = what(*kind);
            call.warn(format!(
                "the {what} of instance {instance} that was begun and never proved is still to be done"
            ));
        }
    }
}

/// What is taken out of a journal, in this copy of it, because the lease is taken into use again. Whoever does that takes the
/// lease over: it does not come back where the use comes to nothing.
#[derive(Debug)]
pub(super) struct CalledOff {
    ends: Vec<StepKind>,
    /// Whether the journal differs from what it was.
    changed: bool,
}

impl CalledOff {
    /// Takes it out.
    pub(super) fn from(journal: &mut Journal, instance: InstanceId, how: Use, now: i64) -> Self {
        let begun = how.ends().iter().copied().filter(|kind| journal.is_open(*kind, instance));
        let mut ends: Vec<StepKind> = begun.collect();
        if how == Use::Touched && journal.is_wish(StepKind::Stop, instance) {
            // It was never sent, so that it cannot have had its effect.
            ends.push(StepKind::Stop);
        }
        for kind in &ends {
            journal.voided(*kind, instance, IN_USE_AGAIN);
        }
        let held = how != Use::Touched && journal.holder.take().is_some();
        let (mut kept, mut started) = (false, false);
        if how == Use::Reached {
            kept = journal.disowns(instance);
            if kept {
                journal.reached(instance);
            }
            started = journal.is_open(StepKind::Start, instance);
            journal.proved(StepKind::Start, instance, now);
        }
        let changed = kept || started || held || !ends.is_empty();
        Self { ends, changed }
    }

    /// Says so, once that is written.
    pub(super) fn tell(&self, instance: InstanceId, call: &Call) {
        for kind in &self.ends {
            let what = what(*kind);
            call.warn(format!(
                "the {what} of instance {instance} that was begun and never proved is called off: its lease is used again"
            ));
        }
    }
}

fn what(kind: StepKind) -> &'static str {
    if kind == StepKind::Stop { "stop" } else { "destroy" }
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
        if instance.intended_status.as_deref() == Some("stopped") {
            // The wish shows at once, the state later.
            return Err(Error::new(
                Code::InstanceNotRunning,
                format!("vast instance {} of lease {} was asked to stop", instance.id, claim.lease_id),
            )
            .hint(ended_hint(&claim.slug)));
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

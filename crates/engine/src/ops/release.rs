//! Release: destroy and prove, stop, or keep - always with the exact claim, read after the cloud was read.

use super::authorised::{Doomed, Ground};
use super::gone::VISIBILITY;
use super::recover::Recovered;
use super::recovery::changed_claim;
use super::resolve::{check_account, lease_id, unclaimed};
use super::wish::{Wish, is_refusal};
use super::{Call, Engine, Event, Phase};
use crate::lease::labels::key;
use crate::lease::{Claim, InstanceId, LeaseId, ReleaseAction, State, claim_state};
use crate::store::{Holder, Journal, OperationGuard, StepKind};
use crate::vast::failure::LOCKED_OUT;
use crate::{Code, Error, Result};
use futures_util::future::BoxFuture;
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;

/// Which lease, and how.
#[derive(Debug, Clone, Default)]
pub struct ReleaseRequest {
    /// Lease id, slug or instance id.
    pub identifier: String,
    /// Beats the action recorded on the lease. `None`: an action set explicitly in the settings, else the recorded one.
    pub action: Option<ReleaseAction>,
}

/// What a release came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseOutcome {
    /// Destroyed and proved gone; claim and key are removed.
    Destroyed,
    /// It was gone already, proved; claim and key are removed.
    AlreadyGone,
    /// The create had never rented anything, proved; claim and key are removed.
    NeverCreated,
    /// Stopped: the disk is still billed, the claim stays.
    Stopped,
    /// Nothing was done: it runs and bills on.
    Kept,
}

/// A finished release.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Released {
    /// The lease.
    #[serde(rename = "id")]
    pub lease: LeaseId,
    /// Its slug.
    pub slug: String,
    /// The instance, if there was one.
    pub instance: Option<InstanceId>,
    /// What was to be done.
    pub action: ReleaseAction,
    /// What was done.
    pub outcome: ReleaseOutcome,
}

impl Released {
    /// The line crabbox prints: `destroyed lease=… vast=… name=…`, `stop …`, `keep …`.
    #[must_use]
    pub fn line(&self) -> String {
        let instance = self.instance.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let word = match self.outcome {
            ReleaseOutcome::Destroyed | ReleaseOutcome::AlreadyGone => "destroyed",
            ReleaseOutcome::NeverCreated => "never created",
            ReleaseOutcome::Stopped => "stop",
            ReleaseOutcome::Kept => "keep",
        };
        format!("{word} lease={} vast={instance} name={}", self.lease, self.slug)
    }
}

/// Who may go on with a lease whose create was never answered.
enum Owner {
    /// We: nobody else works on it.
    Us(OperationGuard),
    /// The process that created it has learned the answer.
    Bound(InstanceId),
}

impl Engine {
    /// Releases a lease. Beside it, what processes that died left behind is finished as far as one look allows.
    ///
    /// # Errors
    /// [`Code::LeaseNotFound`], [`Code::ClaimMissing`], [`Code::NotOurs`], [`Code::IdentityMismatch`] with nothing
    /// changed; [`Code::ReleaseUnproved`] and the API's refusals with the claim kept.
    pub fn release<'a>(
        &'a self,
        request: &'a ReleaseRequest,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Released>> {
        Box::pin(async move {
            let (id, claim) = self.claimed(&request.identifier).await?;
            self.release_claimed(&id, &claim, request.action, None, true, call).await
        })
    }

    /// Releases a lease that this process holds; `alone` with nothing beside it.
    pub(super) async fn release_held(
        &self,
        id: &LeaseId,
        action: Option<ReleaseAction>,
        lock: Option<OperationGuard>,
        alone: bool,
        call: &Call,
    ) -> Result<Released> {
        let (id, claim) = self.claimed(id.as_str()).await?;
        self.release_claimed(&id, &claim, action, lock, !alone, call).await
    }

    /// The claim that a release is about.
    async fn claimed(&self, identifier: &str) -> Result<(LeaseId, Claim)> {
        let identifier = identifier.trim();
        let Some(claim) = self.find_claim_to_release(identifier).await? else {
            // Reads the cloud only to say precisely what was named.
            let resolved = self.resolve(identifier).await?;
            return Err(unclaimed(identifier, resolved.instance.as_ref()));
        };
        Ok((lease_id(&claim)?, claim))
    }

    async fn release_claimed(
        &self,
        id: &LeaseId,
        claim: &Claim,
        action: Option<ReleaseAction>,
        lock: Option<OperationGuard>,
        beside: bool,
        call: &Call,
    ) -> Result<Released> {
        let Some(instance) = claim.instance_id() else {
            let releasing = self.release_unbound(id, claim, action, call);
            return if beside { self.with_the_dead(id, releasing, call).await } else { releasing.await };
        };
        // Before anything is asked of the API, for other leases as well.
        let wish = self.wish(id, instance, claim, self.action_for(claim, action), lock).await?;
        let releasing = self.release_instance(id, instance, claim, action, wish, call);
        if beside { self.with_the_dead(id, releasing, call).await } else { releasing.await }
    }

    /// A claim without an instance: the create was sent, or about to be, and nobody knows its answer.
    async fn release_unbound(
        &self,
        id: &LeaseId,
        claim: &Claim,
        action: Option<ReleaseAction>,
        call: &Call,
    ) -> Result<Released> {
        let account = self.once_let_in("the account", LOCKED_OUT, call, || self.client.account()).await?;
        check_account(claim, account.id, &self.settings.api_url, "recover")?;
        // Waiting changes nothing: who gives up leaves the claim, and with it the way to what may have been rented.
        let lock = match call.until_cancelled(self.wait_for_owner(id, call)).await? {
            Owner::Us(lock) => lock,
            Owner::Bound(instance) => {
                let wish = self.wish(id, instance, claim, self.action_for(claim, action), None).await?;
                return self.release_instance(id, instance, claim, action, wish, call).await;
            }
        };
        let (lock, mut journal) = self.journal_of(id, claim, Some(lock), call).await?;
        let window = self.window(id, claim, journal.as_ref()).await?;
        let found = call.until_cancelled(self.recover_by_label(id, &claim.slug, window, call)).await?;
        match found {
            found @ Recovered::Found { .. } => {
                let instance = self.take_over(id, found, journal.as_mut(), call).await?;
                let wish = self.wish(id, instance, claim, self.action_for(claim, action), lock).await?;
                self.release_instance(id, instance, claim, action, wish, call).await
            }
            Recovered::Nothing => {
                let gone = self.forget_unused(id).await?;
                Ok(Released {
                    lease: id.clone(),
                    slug: claim.slug.clone(),
                    instance: gone,
                    action: ReleaseAction::Destroy,
                    outcome: gone.map_or(ReleaseOutcome::NeverCreated, |_| ReleaseOutcome::AlreadyGone),
                })
            }
        }
    }

    /// How long an unanswered create may still come to light.
    pub(super) async fn window(
        &self,
        id: &LeaseId,
        claim: &Claim,
        journal: Option<&Journal>,
    ) -> Result<Duration> {
        if journal.is_some_and(Journal::left_nothing) {
            return Ok(Duration::ZERO);
        }
        Ok(VISIBILITY.saturating_sub(self.age_of_create(id, claim).await?))
    }

    /// Binds the instance that was found by its label to the claim, then destroys further ones with the same label.
    pub(super) async fn take_over(
        &self,
        id: &LeaseId,
        found: Recovered,
        mut journal: Option<&mut Journal>,
        call: &Call,
    ) -> Result<InstanceId> {
        let Recovered::Found { instance, surplus, made_by } = found else {
            return Err(Error::new(Code::Internal, "there is no instance to take over"));
        };
        let bound = instance.id;
        if let Some(journal) = journal.as_deref_mut() {
            self.begin_surplus(journal, &surplus, &made_by).await?;
        }
        self.store
            .update_claim(id, move |claim| {
                if claim.instance_id().is_some_and(|other| other != bound) {
                    return Err(changed_claim(claim));
                }
                claim.set_instance(bound);
                Ok(())
            })
            .await?;
        if let Some(journal) = journal.as_deref_mut() {
            journal.adopt(made_by.get(&bound).copied(), bound);
            self.note_or_warn(journal, call).await;
        }
        for extra in surplus {
            call.warn(format!("instance {extra} carries the same label and is destroyed too"));
            let doomed = Doomed::new(id, extra, Ground::Surplus);
            self.destroy_journalled(&doomed, journal.as_deref_mut(), VISIBILITY, call).await?;
        }
        Ok(bound)
    }

    /// While another process holds the lease's operation lock it is alive and will learn the answer: wait for it.
    async fn wait_for_owner(&self, id: &LeaseId, call: &Call) -> Result<Owner> {
        let deadline = Instant::now() + VISIBILITY * 2;
        loop {
            let alone = self.store.operation_lock(id).await?;
            match (self.store.claim(id).await?, alone) {
                (None, _) => {
                    return Err(Error::new(
                        Code::LeaseNotFound,
                        format!("lease {id} was released meanwhile"),
                    ));
                }
                (Some(claim), alone) => match (claim.instance_id(), alone) {
                    (Some(instance), _) => return Ok(Owner::Bound(instance)),
                    (None, Some(alone)) => return Ok(Owner::Us(alone)),
                    (None, None) if Instant::now() >= deadline => {
                        return Err(Error::new(
                            Code::LeaseBusy,
                            format!("another process is still creating lease {id}"),
                        )
                        .hint("end that process, or try again later"));
                    }
                    (None, None) => {}
                },
            }
            call.phase(Phase::Release, "another process is renting this machine; waiting for its answer");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn release_instance(
        &self,
        id: &LeaseId,
        instance: InstanceId,
        claim: &Claim,
        action: Option<ReleaseAction>,
        wish: Wish,
        call: &Call,
    ) -> Result<Released> {
        let unheard = wish.is_unheard();
        match self.release_bound(id, instance, claim, action, wish, call).await {
            Err(error) => {
                if unheard && !is_refusal(error.code()) && !call.is_cancelled() {
                    self.wish_again(id, instance, action).await;
                }
                let action = self.action_for(claim, action);
                Err(self.with_ending(id, instance, &claim.slug, action, error, call).await)
            }
            released => released,
        }
    }

    async fn release_bound(
        &self,
        id: &LeaseId,
        instance: InstanceId,
        claim: &Claim,
        action: Option<ReleaseAction>,
        mut wish: Wish,
        call: &Call,
    ) -> Result<Released> {
        call.event(Event::Releasing { lease: id.clone(), instance });
        let lease = match self.authorise(id, instance, "release", LOCKED_OUT, call).await {
            Ok(lease) => lease,
            Err(error) => {
                // Whoever gave up has changed nothing either.
                if is_refusal(error.code()) || call.is_cancelled() {
                    self.withdraw(id, &mut wish, call).await;
                }
                self.tell_of_wish(claim, &wish, call);
                return Err(if call.is_cancelled() { given_up(&error, claim) } else { error });
            }
        };
        let action = self.action_for(&lease.claim, action);
        if action != wish.action {
            self.withdraw(id, &mut wish, call).await;
        }
        let lock = wish.lock.take();
        let slug = lease.claim.slug.clone();
        let outcome = match (action, &lease.live) {
            (ReleaseAction::Keep, live) => {
                if live.is_none() {
                    call.warn(format!("instance {instance} is not to be seen: there may be nothing to keep"));
                }
                self.unhold(id, &lease.claim, lock, call).await?;
                ReleaseOutcome::Kept
            }
            (ReleaseAction::Stop, _) => match self.halt_lease(id, lease, instance, lock, call).await {
                Err(error) if is_refusal(error.code()) || call.is_cancelled() => {
                    self.withdraw(id, &mut wish, call).await;
                    return Err(error);
                }
                halted => halted?,
            },
            (ReleaseAction::Destroy, _) => self.destroy_lease(id, &lease, instance, lock, call).await?,
        };
        Ok(Released { lease: id.clone(), slug, instance: Some(instance), action, outcome })
    }

    /// A kept lease lives on without the process that held it, and what was begun on it is called off: an acquire that died
    /// counts as finished.
    ///
    /// # Errors
    /// [`Code::LeaseBusy`] while another process holds it: that one would release it.
    async fn unhold(
        &self,
        id: &LeaseId,
        claim: &Claim,
        lock: Option<OperationGuard>,
        call: &Call,
    ) -> Result<()> {
        let (lock, journal) = self.journal_of(id, claim, lock, call).await?;
        if lock.is_none() {
            let held = self.store.journal(id).await?.and_then(|journal| journal.holder);
            return held.map_or(Ok(()), |holder| Err(held_by(id, &holder)));
        }
        // Whoever keeps what an acquire was giving back gives it back no more.
        let given_back = [claim_state(State::Releasing).0, claim_state(State::Ambiguous).0];
        if given_back.contains(&claim.state()) {
            let state = move |claim: &Claim| given_back.contains(&claim.state());
            self.mark_where(id, claim_state(State::Booting).0, state).await?;
        }
        let Some(mut journal) = journal else { return Ok(()) };
        let before = journal.clone();
        journal.holder = None;
        if let Some(instance) = claim.instance_id() {
            journal.reached(instance);
            if journal.is_open(StepKind::Start, instance) {
                self.revive(&journal).await?;
            }
            for kind in [StepKind::Destroy, StepKind::Stop] {
                journal.voided(kind, instance, "the lease is kept");
            }
            // Whoever keeps what a dead process started has what it was for: it bills on.
            journal.proved(StepKind::Start, instance, self.unix_now());
        }
        if journal != before {
            self.store.write_journal(&journal).await?;
        }
        Ok(())
    }

    /// What a release of this lease that asks for nothing else is going to do, as far as the store tells.
    pub(super) async fn release_action_of(&self, id: &LeaseId) -> ReleaseAction {
        match self.store.claim(id).await {
            Ok(Some(claim)) => self.action_for(&claim, None),
            // The release says what is wrong.
            Ok(None) | Err(_) => self.settings.release_action,
        }
    }

    pub(super) fn action_for(&self, claim: &Claim, asked: Option<ReleaseAction>) -> ReleaseAction {
        let configured = self.settings.release_action_explicit.then_some(self.settings.release_action);
        let recorded = claim.label(key::RELEASE_ACTION).and_then(|text| text.parse().ok());
        asked.or(configured).or(recorded).unwrap_or(self.settings.release_action)
    }
}

fn held_by(id: &LeaseId, holder: &Holder) -> Error {
    Error::new(
        Code::LeaseBusy,
        format!("process {} holds lease {id} and releases it at its end; it cannot be kept", holder.process),
    )
    .hint("try again once that process has ended")
}

/// What a release that was cancelled while nobody answered leaves.
fn given_up(error: &Error, claim: &Claim) -> Error {
    let slug = &claim.slug;
    Error::new(Code::Cancelled, format!("cancelled before anything was sent: {error}"))
        .hint(format!("{slug} stays, and bills; `crabbox-vast stop {slug}` gives it back"))
        .with("lease", claim.lease_id.as_str())
}

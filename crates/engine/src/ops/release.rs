//! Release: destroy and prove, stop, or keep - always with the exact claim, read after the cloud was read.

use super::gone::{Sight, VISIBILITY};
use super::recover::Recovered;
use super::resolve::{check_account, unclaimed};
use super::{Call, Engine, Event, Phase};
use crate::lease::labels::key;
use crate::lease::{Claim, InstanceId, LeaseId, OwnershipLabel, ReleaseAction, State, claim_state};
use crate::store::Journal;
use crate::{Code, Error, Result};
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

impl Engine {
    /// Releases a lease.
    ///
    /// # Errors
    /// [`Code::LeaseNotFound`], [`Code::ClaimMissing`], [`Code::NotOurs`], [`Code::IdentityMismatch`] with nothing
    /// changed; [`Code::ReleaseUnproved`] and the API's refusals with the claim kept.
    pub async fn release(&self, request: &ReleaseRequest, call: &Call) -> Result<Released> {
        let identifier = request.identifier.trim();
        let Some(claim) = self.find_claim(identifier).await? else {
            // Reads the cloud only to say precisely what was named.
            let resolved = self.resolve(identifier).await?;
            return Err(unclaimed(identifier, resolved.instance.as_ref()));
        };
        let id = LeaseId::parse(&claim.lease_id).ok_or_else(|| {
            Error::new(Code::ClaimCorrupt, format!("`{}` is not a lease id", claim.lease_id))
                .hint("correct or remove the claim file")
        })?;
        match claim.instance_id() {
            Some(instance) => self.release_instance(&id, instance, request, call).await,
            None => self.release_unbound(&id, &claim, request, call).await,
        }
    }

    /// A claim without an instance: the create was sent, or about to be, and nobody knows its answer.
    async fn release_unbound(
        &self,
        id: &LeaseId,
        claim: &Claim,
        request: &ReleaseRequest,
        call: &Call,
    ) -> Result<Released> {
        let account = self.client.account().await.map_err(Error::from)?;
        check_account(claim, account.id, &self.settings.api_url, "recover")?;
        if let Some(instance) = self.wait_for_owner(id, call).await? {
            return self.release_instance(id, instance, request, call).await;
        }
        let slug = claim.slug.clone();
        let window = VISIBILITY.saturating_sub(self.age_of_create(id, claim).await?);
        match self.recover_by_label(id, &slug, window, call).await? {
            Recovered::Found { instance, surplus } => {
                let found = instance.id;
                self.store
                    .update_claim(id, move |claim| {
                        claim.set_instance(found);
                        Ok(())
                    })
                    .await?;
                for extra in surplus {
                    call.warn(format!("instance {extra} carries the same label and is destroyed too"));
                    self.destroy_and_prove(extra, VISIBILITY, call).await?;
                }
                self.release_instance(id, found, request, call).await
            }
            Recovered::Nothing => {
                self.forget_unused(id).await?;
                Ok(Released {
                    lease: id.clone(),
                    slug,
                    instance: None,
                    action: ReleaseAction::Destroy,
                    outcome: ReleaseOutcome::NeverCreated,
                })
            }
        }
    }

    /// While another process holds the lease's operation lock it is alive and will learn the answer: wait for it.
    async fn wait_for_owner(&self, id: &LeaseId, call: &Call) -> Result<Option<InstanceId>> {
        let deadline = Instant::now() + VISIBILITY * 2;
        loop {
            let alone = self.store.operation_lock(id).await?;
            let claim = self.store.claim(id).await?;
            match claim {
                None => {
                    return Err(Error::new(
                        Code::LeaseNotFound,
                        format!("lease {id} was released meanwhile"),
                    ));
                }
                Some(claim) if claim.instance_id().is_some() => return Ok(claim.instance_id()),
                Some(_) if alone.is_some() => return Ok(None),
                Some(_) if Instant::now() >= deadline => {
                    return Err(Error::new(
                        Code::LeaseBusy,
                        format!("another process is still creating lease {id}"),
                    )
                    .hint("end that process, or try again later"));
                }
                Some(_) => {}
            }
            drop(alone);
            call.phase(Phase::Release, "another process is renting this machine; waiting for its answer");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// How long ago the create may have been sent.
    pub(super) async fn age_of_create(&self, id: &LeaseId, claim: &Claim) -> Result<Duration> {
        // A journal that cannot be read leaves the claim's own time.
        let journal = self.store.journal(id).await.ok().flatten();
        let journalled = journal.and_then(|journal| journal.last_create_at());
        let since =
            journalled.or_else(|| Some(crate::lease::unix(crate::lease::parse_rfc3339(&claim.claimed_at)?)));
        // A clock that stepped back makes an age negative: then the whole window is waited for.
        let age = since.map_or(0, |since| self.unix_now() - since);
        Ok(Duration::from_secs(u64::try_from(age).unwrap_or(0)))
    }

    async fn release_instance(
        &self,
        id: &LeaseId,
        instance: InstanceId,
        request: &ReleaseRequest,
        call: &Call,
    ) -> Result<Released> {
        call.event(Event::Releasing { lease: id.clone(), instance });
        let (account, seen) =
            tokio::try_join!(self.client.account(), self.glance(instance)).map_err(Error::from)?;
        let live = match seen {
            Sight::Present(live) => Some(*live),
            // What neither read shows is missing; an incomplete list alone says nothing.
            Sight::Absent | Sight::Unclear => self.client.show(instance).await?,
        };
        // Read last, after the cloud: this is what authorises everything below.
        let claim =
            self.store.claim(id).await?.ok_or_else(|| {
                Error::new(Code::LeaseNotFound, format!("lease {id} was released meanwhile"))
            })?;
        check_account(&claim, account.id, &self.settings.api_url, "release")?;
        if claim.instance_id() != Some(instance) || !claim.is_vast() {
            return Err(Error::new(Code::ClaimChanged, format!("the claim of lease {id} changed meanwhile"))
                .hint("run `stop` again"));
        }
        if let Some(live) = &live {
            self.check_label(&claim, live).await?;
        }
        let action = self.action_for(&claim, request.action);
        let outcome = match (action, &live) {
            (ReleaseAction::Keep, _) => ReleaseOutcome::Kept,
            (ReleaseAction::Stop, Some(_)) => self.stop_instance(id, &claim, instance, call).await?,
            (ReleaseAction::Stop, None) | (ReleaseAction::Destroy, _) => {
                self.destroy_lease(id, &claim, instance, live.is_some(), call).await?
            }
        };
        Ok(Released {
            lease: id.clone(),
            slug: claim.slug.clone(),
            instance: Some(instance),
            action,
            outcome,
        })
    }

    fn action_for(&self, claim: &Claim, asked: Option<ReleaseAction>) -> ReleaseAction {
        let configured = self.settings.release_action_explicit.then_some(self.settings.release_action);
        let recorded = claim.label(key::RELEASE_ACTION).and_then(|text| text.parse().ok());
        asked.or(configured).or(recorded).unwrap_or(self.settings.release_action)
    }

    async fn destroy_lease(
        &self,
        id: &LeaseId,
        claim: &Claim,
        instance: InstanceId,
        seen: bool,
        call: &Call,
    ) -> Result<ReleaseOutcome> {
        // Only the holder of the operation lock writes the journal: a living acquire has its own copy.
        let lock = self.store.operation_lock(id).await?;
        let mut journal = match (&lock, self.store.journal(id).await) {
            (None, _) => None,
            (Some(_), Ok(Some(journal))) => Some(journal),
            (Some(_), Ok(None)) => {
                Some(Journal::new(id, &claim.slug, &self.world.ambient.process(), self.unix_now()))
            }
            (Some(_), Err(error)) => {
                call.warn(error.to_string());
                None
            }
        };
        // An instance that no read shows may be too fresh to be seen.
        let fresh = if seen {
            Duration::ZERO
        } else {
            VISIBILITY.saturating_sub(self.age_of_create(id, claim).await?)
        };
        self.destroy_journalled(journal.as_mut(), instance, fresh, call).await?;
        self.forget(id, Some(instance)).await?;
        Ok(if seen { ReleaseOutcome::Destroyed } else { ReleaseOutcome::AlreadyGone })
    }

    async fn stop_instance(
        &self,
        id: &LeaseId,
        claim: &Claim,
        instance: InstanceId,
        call: &Call,
    ) -> Result<ReleaseOutcome> {
        call.phase(Phase::Release, format!("stopping instance {instance}"));
        self.client.set_state(instance, "stopped").await?;
        let (state, _, remote) = claim_state(State::Stopped);
        self.store
            .update_claim(id, move |claim| {
                claim.labels.insert(key::STATE.into(), state.to_owned());
                claim.labels.insert(key::RELEASE_ACTION.into(), ReleaseAction::Stop.as_str().to_owned());
                Ok(())
            })
            .await?;
        let label = OwnershipLabel {
            lease: claim.lease_id.clone(),
            slug: claim.slug.clone(),
            state: remote.to_owned(),
        };
        if let Err(failure) = self.client.set_label(instance, &label.encode()).await {
            call.warn(format!("the remote label could not be set to stopped: {}", failure.message));
        }
        Ok(ReleaseOutcome::Stopped)
    }
}

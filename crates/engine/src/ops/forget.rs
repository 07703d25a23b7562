//! Forget: drops a claim on request. What leads to a machine that may bill is dropped only by somebody who was told so.

use super::gone::Sight;
use super::recover::Recovered;
use super::resolve::{check_account, lease_id};
use super::{Call, Engine};
use crate::lease::{Claim, DollarsPerHour, InstanceId, LeaseId};
use crate::store::OperationGuard;
use crate::{Code, Error, Result};
use futures_util::future::BoxFuture;
use serde::Serialize;
use std::time::Duration;

/// Which claim to drop.
#[derive(Debug, Clone, Default)]
pub struct ForgetRequest {
    /// Lease id, slug or instance id.
    pub identifier: String,
    /// Drop it even if its instance is not proved gone.
    pub yes: bool,
}

/// A dropped claim.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forgotten {
    /// The lease.
    #[serde(rename = "id")]
    pub lease: LeaseId,
    /// Its slug.
    pub slug: String,
    /// The instance that the claim named.
    pub instance: Option<InstanceId>,
    /// Whether it is proved that nothing is left that could bill.
    pub proved_gone: bool,
    /// What may bill on, in words; `None` where nothing does.
    pub left: Option<String>,
    /// $/h of what is left, as far as it is known.
    pub price: Option<DollarsPerHour>,
}

impl Forgotten {
    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let instance = self.instance.map_or_else(|| "-".to_owned(), |id| id.to_string());
        format!("forgot lease={} vast={instance} name={} gone={}", self.lease, self.slug, self.proved_gone)
    }
}

/// What the cloud shows of a lease that is to be forgotten.
enum Trace {
    /// Proved: there is nothing.
    None,
    /// This instance lives.
    Lives(InstanceId, Option<DollarsPerHour>),
    /// It cannot be told.
    Unknown(Option<InstanceId>, String),
}

impl Engine {
    /// Drops a claim. Its key goes with it where nothing is left that the key opens.
    ///
    /// # Errors
    /// [`Code::LeaseNotFound`]; [`Code::LeaseBusy`] while a process works on it; [`Code::ConfirmationNeeded`], with
    /// nothing changed, when something may bill on and `yes` was not given.
    pub fn forget_claim<'a>(
        &'a self,
        request: &'a ForgetRequest,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Forgotten>> {
        Box::pin(async move {
            let identifier = request.identifier.trim();
            let claim = self.find_claim(identifier).await?.ok_or_else(|| {
                Error::new(Code::LeaseNotFound, format!("no local claim is named {identifier}"))
                    .hint("`claims list` shows the claims there are")
            })?;
            let id = lease_id(&claim)?;
            let lock = self.store.operation_lock(&id).await?.ok_or_else(|| {
                Error::new(Code::LeaseBusy, format!("another process works on lease {id}"))
                    .hint("end that process, or try again later")
            })?;
            let trace = self.trace(&id, &claim, request.yes, call).await?;
            let (left, price) = match &trace {
                Trace::None => (None, None),
                Trace::Lives(instance, price) => {
                    let cost = price.map_or_else(String::new, |price| format!(" at {price}"));
                    (Some(format!("instance {instance} exists and bills{cost}")), *price)
                }
                Trace::Unknown(Some(instance), why) => {
                    (Some(format!("instance {instance} may bill: {why}")), None)
                }
                Trace::Unknown(None, why) => (Some(format!("a machine may have been rented: {why}")), None),
            };
            match &left {
                Some(left) if !request.yes => {
                    return Err(Error::new(
                        Code::ConfirmationNeeded,
                        format!("forgetting lease {id} ({}) would leave no trace of it: {left}", claim.slug),
                    )
                    .hint(format!("`stop {}` destroys it; --yes forgets it all the same", claim.slug))
                    .with("lease", id.as_str()));
                }
                Some(left) => {
                    call.warn(format!(
                        "{left}; only the Vast console, or an adopt of it, leads to it from now on"
                    ));
                }
                None => {}
            }
            self.drop_claim(&id, &claim, left.is_none(), lock, call).await?;
            Ok(Forgotten {
                lease: id,
                slug: claim.slug.clone(),
                instance: claim.instance_id(),
                proved_gone: left.is_none(),
                left,
                price,
            })
        })
    }

    /// What is left of a lease. Who has said yes is not kept waiting for a proof.
    async fn trace(&self, id: &LeaseId, claim: &Claim, yes: bool, call: &Call) -> Result<Trace> {
        let unknown = |why: String| Trace::Unknown(claim.instance_id(), why);
        let account = match self.client.account().await {
            Ok(account) => account,
            Err(failure) => return Ok(unknown(failure.message)),
        };
        if let Err(error) = check_account(claim, account.id, &self.settings.api_url, "look at") {
            return Ok(unknown(error.to_string()));
        }
        let Some(instance) = claim.instance_id() else {
            let journal = self.store.journal(id).await.ok().flatten();
            let window = if yes { Duration::ZERO } else { self.window(id, claim, journal.as_ref()).await? };
            let looked = self.recover_by_label(id, &claim.slug, window, call);
            return Ok(match call.until_cancelled(looked).await {
                Ok(Recovered::Found { instance, .. }) => Trace::Lives(instance.id, instance.dph_total),
                Ok(Recovered::Nothing) if self.window(id, claim, journal.as_ref()).await?.is_zero() => {
                    Trace::None
                }
                Ok(Recovered::Nothing) => unknown("its create is too young to be seen".to_owned()),
                Err(error) if error.code() == Code::Cancelled => return Err(error),
                Err(error) => unknown(error.to_string()),
            });
        };
        match self.glance(instance).await {
            Ok(Sight::Present(live)) => return Ok(Trace::Lives(instance, live.dph_total)),
            Ok(Sight::Absent | Sight::Unclear) => {}
            Err(failure) => return Ok(unknown(failure.message)),
        }
        let fresh = self.window(id, claim, None).await?;
        let journal = self.store.journal(id).await.ok().flatten();
        let surplus = journal.and_then(|journal| journal.open_destroys(Some(instance)).first().copied());
        Ok(match call.until_cancelled(self.prove_vanished(instance, fresh, call)).await {
            Ok(true) => match surplus {
                Some(surplus) => Trace::Unknown(Some(surplus), "its destroy was never proved".to_owned()),
                None => Trace::None,
            },
            Ok(false) => Trace::Lives(instance, None),
            Err(error) if error.code() == Code::Cancelled => return Err(error),
            Err(error) => unknown(error.to_string()),
        })
    }

    /// Removes the claim that was looked at, and no other: keys first where nothing is left, the journal stays.
    async fn drop_claim(
        &self,
        id: &LeaseId,
        claim: &Claim,
        proved: bool,
        lock: OperationGuard,
        call: &Call,
    ) -> Result<()> {
        let (_lock, mut journal) = self.journal_of(id, claim, Some(lock), call).await?;
        if let Some(journal) = &mut journal {
            let now = self.unix_now();
            match claim.instance_id() {
                Some(instance) if proved => journal.vanished(instance, now),
                // What it may have made all the same is watched for as after a `stop`.
                None if proved && journal.give_up() => {}
                _ => journal.forgotten_at = Some(now),
            }
            journal.holder = None;
            self.note_or_warn(journal, call).await;
        }
        if proved {
            return self.forget(id, claim.instance_id()).await;
        }
        let looked_at = claim.revision.clone();
        let same = move |claim: &Claim| {
            (claim.revision == looked_at).then_some(()).ok_or_else(|| {
                Error::new(
                    Code::ClaimChanged,
                    format!("the claim of lease {} changed meanwhile", claim.lease_id),
                )
                .hint("look at it with `status`, then run `forget` again")
            })
        };
        self.store.remove_claim(id, same).await?;
        Ok(())
    }
}

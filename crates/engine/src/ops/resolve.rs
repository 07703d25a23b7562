//! Resolve: from a lease id, a slug or an instance id to a claim and the live instance, with every identity checked.
//!
//! The order is crabbox's: a canonical lease id is only ever matched exactly, then slugs, then instance ids, so that a
//! numeric slug wins over an instance of that number, be the slug a claim's or that of an instance without one. Observing
//! never changes a claim.

use super::gone::list_is_not_whole;
use super::{Call, Engine};
use crate::lease::labels::key;
use crate::lease::{AccountId, Claim, InstanceId, LeaseId, Slug};
use crate::vast::client::Inventory;
use crate::vast::{Filter, Instance};
use crate::{Code, Error, Result};

/// A lease as claim and cloud show it.
pub(super) struct Resolved {
    /// The local claim, if there is one.
    pub claim: Option<Claim>,
    /// The live instance; `None` when the claim names none yet or it was not there.
    pub instance: Option<Instance>,
    /// Further instances of the lease's own, which the next cleanup destroys.
    pub twins: Vec<InstanceId>,
}

impl Resolved {
    /// Warns of what else of the lease is there and bills.
    pub(super) fn tell_of_twins(&self, call: &Call) {
        for twin in &self.twins {
            call.warn(format!("instance {twin} is a further one of this lease: `cleanup` destroys it"));
        }
    }
}

/// How an identifier led to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// By lease id or slug.
    Name,
    /// By the number of its instance.
    Number,
}

impl Engine {
    /// The Vast claim that `identifier` names, if any.
    ///
    /// # Errors
    /// [`Code::LeaseAmbiguous`] when several do; [`Code::ClaimCorrupt`] when exactly this claim cannot be read.
    pub(super) async fn find_claim(&self, identifier: &str) -> Result<Option<Claim>> {
        Ok(self.look_up(identifier).await?.map(|(claim, _)| claim))
    }

    /// [`Engine::find_claim`] for who releases: a claim that only its instance's number leads to gives way to an instance
    /// whose slug is that number.
    ///
    /// # Errors
    /// As [`Engine::find_claim`], and why the cloud could not be read where that decides.
    pub(super) async fn find_claim_to_release(&self, identifier: &str) -> Result<Option<Claim>> {
        let Some((claim, by)) = self.look_up(identifier).await? else { return Ok(None) };
        let outnamed = by == By::Number
            && outnamed(identifier, &claim, &self.client.list(&Filter::All).await.map_err(Error::from)?);
        Ok(Some(claim).filter(|_| !outnamed))
    }

    async fn look_up(&self, identifier: &str) -> Result<Option<(Claim, By)>> {
        let identifier = identifier.trim();
        if let Some(id) = LeaseId::parse(identifier) {
            let claim = self.store.claim(&id).await?.filter(Claim::is_vast);
            return Ok(claim.map(|claim| (claim, By::Name)));
        }
        let claims = self.store.scan_claims().await?.claims;
        let vast = || claims.iter().filter(|claim| claim.is_vast());
        let slug = Slug::normalise(identifier);
        let mut matches: Vec<&Claim> =
            vast().filter(|claim| slug.is_some() && claim.slug() == slug).collect();
        let mut by = By::Name;
        if matches.is_empty()
            && let Ok(id) = identifier.parse::<InstanceId>()
        {
            matches = vast().filter(|claim| claim.instance_id() == Some(id)).collect();
            by = By::Number;
        }
        match matches.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(((*one).clone(), by))),
            several => {
                Err(ambiguous(identifier, several.iter().map(|claim| claim.lease_id.clone()).collect()))
            }
        }
    }

    /// Claim and live instance of `identifier`, checked against each other. Reads only.
    ///
    /// # Errors
    /// [`Code::LeaseNotFound`], [`Code::LeaseAmbiguous`], [`Code::NotOurs`], [`Code::IdentityMismatch`].
    pub(super) async fn resolve(&self, identifier: &str) -> Result<Resolved> {
        let identifier = identifier.trim();
        if identifier.is_empty() {
            return Err(Error::new(Code::InvalidArgument, "no lease was named")
                .hint("give a lease id, a slug or an instance id"));
        }
        let cloud = async { Ok(tokio::try_join!(self.client.account(), self.client.list(&Filter::All))?) };
        let (claim, cloud) = tokio::join!(self.look_up(identifier), cloud);
        let found = claim?;
        let (account, inventory) = cloud.map_err(|error: crate::vast::Failure| Error::from(error))?;
        let claim = match found {
            Some((claim, By::Name)) => claim,
            Some((claim, By::Number)) if !outnamed(identifier, &claim, &inventory) => claim,
            _ => return resolve_unclaimed(identifier, &inventory),
        };
        check_account(&claim, account.id, &self.settings.api_url, "resolve")?;
        // One whose record lingers after its destroy is nobody's any more.
        let beside = inventory.instances.iter().filter(|instance| {
            claim.instance_id().is_some_and(|id| id != instance.id)
                && !instance.is_unloaded()
                && instance.ownership().is_some_and(|label| label.lease == claim.lease_id)
        });
        let beside: Vec<InstanceId> = beside.map(|instance| instance.id).collect();
        let twins = if beside.is_empty() { Vec::new() } else { self.twins(&claim, &inventory).await };
        if let Some(impostor) = beside.iter().find(|one| !twins.contains(one)) {
            return Err(Error::new(
                Code::IdentityMismatch,
                format!("refusing to resolve Vast instance {impostor} from stale local claim"),
            )
            .hint(format!("the claim of {} names instance {}", claim.lease_id, claim.cloud_id)));
        }
        let instance = match claim.instance_id() {
            None => None,
            Some(id) => match inventory.find(id) {
                Some(instance) => Some(instance.clone()),
                // The list may have missed it: the single read has the last word, beside a list that is whole.
                None => match self.client.show(id).await? {
                    None if !inventory.complete => {
                        return Err(list_is_not_whole(&format!(
                            "whether instance {id} is there is not known"
                        )));
                    }
                    shown => shown,
                },
            },
        };
        if let Some(instance) = &instance {
            self.check_label(&claim, instance).await?;
        }
        Ok(Resolved { claim: Some(claim), instance, twins })
    }

    /// Whether the live instance is the one the claim means: by its ownership label, or, if that was changed by hand,
    /// because our own journal has it as the answer to our create.
    pub(super) async fn check_label(&self, claim: &Claim, instance: &Instance) -> Result<()> {
        let labelled = instance.ownership().is_some_and(|label| {
            label.lease == claim.lease_id && Slug::normalise(&label.slug) == claim.slug()
        });
        if labelled {
            return Ok(());
        }
        // A label that names another lease is an answer; only one that names none leaves the question to the journal.
        if instance.ownership().is_none()
            && let Some(id) = LeaseId::parse(&claim.lease_id)
            && let Some(journal) = self.store.journal(&id).await?
            && journal.created(instance.id)
        {
            return Ok(());
        }
        let shown = instance.label.as_deref().unwrap_or("none");
        Err(Error::new(
            Code::IdentityMismatch,
            format!(
                "instance {} does not carry the label of lease {}: it shows {shown:?}",
                instance.id, claim.lease_id
            ),
        )
        .hint("somebody relabelled it; nothing was changed")
        .with("instance", instance.id.0))
    }

    /// The claim and running instance of a lease that is to be used.
    ///
    /// # Errors
    /// Besides those of [`Engine::resolve`]: [`Code::ClaimMissing`], [`Code::InstanceGone`],
    /// [`Code::InvalidState`] for a lease without an instance.
    pub(super) async fn resolve_for_use(&self, identifier: &str, call: &Call) -> Result<(Claim, Instance)> {
        let resolved = self.resolve(identifier).await?;
        resolved.tell_of_twins(call);
        for_use(identifier, resolved)
    }
}

/// What was resolved, as claim and live instance.
pub(super) fn for_use(identifier: &str, resolved: Resolved) -> Result<(Claim, Instance)> {
    match (resolved.claim, resolved.instance) {
        (Some(claim), Some(instance)) => Ok((claim, instance)),
        (Some(claim), None) => Err(gone(&claim)),
        (None, instance) => Err(unclaimed(identifier, instance.as_ref())),
    }
}

/// The refusal to touch an instance without an ownership label.
pub(super) fn not_ours(instance: InstanceId) -> Error {
    Error::new(Code::NotOurs, format!("refusing to operate on non-Crabbox Vast instance {instance}"))
        .hint("it was made by other means; use the Vast console")
        .with("instance", instance.0)
}

/// The lease id of a claim.
///
/// # Errors
/// [`Code::ClaimCorrupt`] when it is not canonical.
pub(super) fn lease_id(claim: &Claim) -> Result<LeaseId> {
    LeaseId::parse(&claim.lease_id).ok_or_else(|| {
        Error::new(Code::ClaimCorrupt, format!("`{}` is not a lease id", claim.lease_id))
            .hint("correct or remove the claim file")
    })
}

/// Whether the slug of another owned instance is the number that led to this claim: a numeric slug wins.
fn outnamed(identifier: &str, claim: &Claim, inventory: &Inventory) -> bool {
    let slug = Slug::normalise(identifier);
    inventory
        .instances
        .iter()
        .filter_map(Instance::ownership)
        .any(|label| slug.is_some() && label.lease != claim.lease_id && Slug::normalise(&label.slug) == slug)
}

/// What an identifier without a claim means: an owned instance may be looked at, a foreign one is refused.
fn resolve_unclaimed(identifier: &str, inventory: &Inventory) -> Result<Resolved> {
    let slug = Slug::normalise(identifier);
    let canonical = LeaseId::parse(identifier).is_some();
    let named = |instance: &&Instance| {
        instance.ownership().is_some_and(|label| {
            if canonical {
                label.lease == identifier
            } else {
                slug.is_some() && Slug::normalise(&label.slug) == slug
            }
        })
    };
    let matches: Vec<&Instance> = inventory.instances.iter().filter(named).collect();
    let instance = match matches.as_slice() {
        [one] => *one,
        [] => {
            let by_id = identifier.parse::<InstanceId>().ok().and_then(|id| inventory.find(id));
            let Some(instance) = by_id else {
                return Err(Error::new(
                    Code::LeaseNotFound,
                    format!("lease/instance not found: {identifier}"),
                )
                .hint("`list` shows the leases there are"));
            };
            if instance.ownership().is_none() {
                return Err(not_ours(instance.id));
            }
            instance
        }
        several => {
            return Err(ambiguous(
                identifier,
                several.iter().filter_map(|i| Some(i.ownership()?.lease)).collect(),
            ));
        }
    };
    Ok(Resolved { claim: None, instance: Some(instance.clone()), twins: Vec::new() })
}

/// Account and address of a claim must be the present ones: the same instance number means another machine elsewhere.
///
/// # Errors
/// [`Code::IdentityMismatch`].
pub(super) fn check_account(claim: &Claim, account: AccountId, api_url: &str, action: &str) -> Result<()> {
    let refuse = |what: &str, there: &str, here: &str| {
        Err(Error::new(
            Code::IdentityMismatch,
            format!(
                "refusing to {action} lease {}: it belongs to Vast {what} {there}, not {here}",
                claim.lease_id
            ),
        )
        .hint("use the API key and vast.apiUrl with which it was made"))
    };
    let url = claim.label(key::VAST_API_URL).unwrap_or("(none recorded)");
    if url != api_url {
        return refuse("API", url, api_url);
    }
    let recorded = claim.label(key::VAST_ACCOUNT_ID).unwrap_or("(none recorded)");
    if recorded != account.to_string() {
        return refuse("account", recorded, &account.to_string());
    }
    Ok(())
}

pub(super) fn ambiguous(identifier: &str, leases: Vec<String>) -> Error {
    Error::new(Code::LeaseAmbiguous, format!("`{identifier}` names several leases: {}", leases.join(", ")))
        .hint("use a lease id")
        .with("leases", leases)
}

pub(super) fn unclaimed(identifier: &str, instance: Option<&Instance>) -> Error {
    let lease =
        instance.and_then(Instance::ownership).map_or_else(|| identifier.to_owned(), |label| label.lease);
    let error = Error::new(
        Code::ClaimMissing,
        format!("lease={lease} has no local Vast claim; refusing to use or release it"),
    )
    .hint(format!(
        "it was made on another machine, or its claim was lost or cannot be read: release it there, or take it over with `adopt {identifier}`"
    ));
    match instance {
        Some(instance) => error.with("instance", instance.id.0),
        None => error,
    }
}

pub(super) fn gone(claim: &Claim) -> Error {
    let slug = &claim.slug;
    match claim.instance_id() {
        Some(id) => Error::new(
            Code::InstanceGone,
            format!("vast instance not found: {id} of lease {}", claim.lease_id),
        )
        .hint(
            "it was destroyed elsewhere, or is too new to be seen: ask again; `cleanup` clears the claim once that is proved, and \
             leaves a machine that lives",
        )
        .with("instance", id.0),
        None => Error::new(
            Code::InvalidState,
            format!("lease {} has no instance: its create was never answered", claim.lease_id),
        )
        .hint(format!("`stop {slug}` finds out what became of it and cleans up")),
    }
    .with("lease", claim.lease_id.clone())
}

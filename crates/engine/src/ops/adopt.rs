//! Adopt: takes over an instance that carries an ownership label and has no claim here.
//!
//! The order: operation lock, key on disk, the instance read again, claim, journal, and only then the key is attached.
//! Whatever dies in between leaves a claim that `stop` can use, or a key that opens nothing; running it again goes on.

use super::authorised::unreadable_journal;
use super::deadman::Deadman;
use super::gone::list_is_not_whole;
use super::open::{CalledOff, Use};
use super::recovery::changed_claim;
use super::resolve::{Resolved, check_account, unclaimed};
use super::{Call, Engine, Phase};
use crate::lease::labels::{self, LabelDefaults, key};
use crate::lease::{
    AccountId, Claim, InstanceId, LeaseId, OwnershipLabel, Slug, State, claim_state, moment, rfc3339,
};
use crate::store::{DeadmanRecord, LeaseKey};
use crate::vast::{Endpoint, Filter, Instance};
use crate::{Code, Error, Result};
use futures_util::future::BoxFuture;
use serde::Serialize;
use std::time::Duration;

/// How long an adopted instance may take to let the new key in: sshd reads it some seconds after it was attached.
const ARMING: Duration = Duration::from_secs(30);

/// Which instance to adopt, and how.
#[derive(Debug, Clone, Default)]
pub struct AdoptRequest {
    /// Lease id, slug or instance id.
    pub identifier: String,
    /// Cleanup leaves it alone from now on.
    pub keep: bool,
}

/// An adopted lease.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Adopted {
    /// The lease.
    #[serde(rename = "id")]
    pub lease: LeaseId,
    /// Its slug.
    pub slug: String,
    /// The instance.
    pub instance: InstanceId,
    /// Whether the claim is new; `false` where it was there and only its key was attached again.
    pub claimed: bool,
    /// Whether the lease's key is attached: without it the lease can be released but not used.
    pub key_attached: bool,
    /// When cleanup may sweep it, RFC 3339.
    pub expires_at: Option<String>,
    /// The dead-man switch on the instance, as it is after the adoption.
    pub deadman: Deadman,
}

impl Adopted {
    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { lease, slug, instance, key_attached, .. } = self;
        format!("adopted lease={lease} vast={instance} name={slug} key_attached={key_attached}")
    }
}

impl Engine {
    /// Makes a claim for an instance with an ownership label, and attaches a key of this machine to it. A lease that has a
    /// claim already keeps it as it is: its key is attached again, and what a dead process had meant to do with it, its
    /// destroy included, is called off. Instances without an ownership label are never adopted.
    ///
    /// Where SSH answers, the dead-man switch is set to what the adoption says: a watchdog that the maker of the instance
    /// armed is replaced, or ended where nothing is to end the lease.
    ///
    /// # Errors
    /// [`Code::LeaseNotFound`], [`Code::NotOurs`], [`Code::IdentityMismatch`], [`Code::LeaseBusy`]; [`Code::ApiMalformed`] where
    /// a list that is not complete could hide a second machine with the same label.
    pub fn adopt<'a>(&'a self, request: &'a AdoptRequest, call: &'a Call) -> BoxFuture<'a, Result<Adopted>> {
        Box::pin(async move {
            let identifier = request.identifier.trim();
            let resolved = call.until_cancelled(self.resolve(identifier)).await?;
            let instance = resolved.instance.ok_or_else(|| match &resolved.claim {
                Some(claim) => super::resolve::gone(claim),
                None => unclaimed(identifier, None),
            })?;
            let present = match &resolved.claim {
                Some(claim) => Some(super::resolve::lease_id(claim)?),
                None => None,
            };
            let endpoints = if instance.is_running() { instance.endpoints() } else { Vec::new() };
            let mut adopted = self.take_in(instance, present, request.keep, call).await?;
            adopted.deadman = self.arm_adopted(&adopted, endpoints, call).await;
            Ok(adopted)
        })
    }

    /// Sets the dead-man switch of an adopted lease where SSH answers; where it does not, the next use does.
    async fn arm_adopted(&self, adopted: &Adopted, endpoints: Vec<Endpoint>, call: &Call) -> Deadman {
        let id = &adopted.lease;
        let unreachable = |why: &str| Err(Error::new(Code::SshTimeout, why));
        let armed = async {
            let key = self.store.key(id).await?.filter(|_| adopted.key_attached);
            let Some(key) = key else { return unreachable("its key is not attached") };
            if endpoints.is_empty() {
                return unreachable("it does not run, or has no address yet");
            }
            let claim = self.store.claim(id).await?.ok_or_else(|| {
                Error::new(Code::LeaseNotFound, format!("lease {id} was released meanwhile"))
            })?;
            let connected = self.connect(id, &key, endpoints, ARMING, &Call::default()).await?;
            let session = connected.session.as_ref();
            let known = self.deadman_for_use(id, &claim, None, session, call).await;
            // Of a lease for which nothing is recorded, too, the instance may tell something.
            let deadman =
                if known.confirmed { known } else { self.deadman_of(id, &claim.labels, Some(session)).await };
            connected.session.close().await;
            Ok(deadman)
        };
        call.until_cancelled(armed).await.unwrap_or_else(|error| {
            if !adopted.claimed && adopted.deadman.armed {
                return adopted.deadman.clone();
            }
            call.warn(format!(
                "the dead-man switch of the adopted instance could not be looked at: {error}; what its maker armed may still \
                 end it, nothing else does; the next `run` or `touch` sets it"
            ));
            Deadman::not_armed(format!("it could not be looked at over SSH: {error}"))
        })
    }

    /// Resolves a lease for use; with `reclaim` an owned instance without a claim here is adopted on the way.
    pub(super) async fn resolve_or_adopt(
        &self,
        identifier: &str,
        reclaim: bool,
        call: &Call,
    ) -> Result<(Claim, Instance)> {
        let resolved = call.until_cancelled(self.resolve(identifier)).await?;
        if let Resolved { claim: None, instance: Some(instance), .. } = &resolved
            && reclaim
        {
            self.take_in(instance.clone(), None, false, call).await?;
            return call.until_cancelled(self.resolve_for_use(identifier, call)).await;
        }
        resolved.tell_of_twins(call);
        super::resolve::for_use(identifier, resolved)
    }

    async fn take_in(
        &self,
        instance: Instance,
        present: Option<LeaseId>,
        keep: bool,
        call: &Call,
    ) -> Result<Adopted> {
        let label = instance.ownership();
        let id = match (present.clone(), &label) {
            (Some(id), _) => id,
            (None, Some(label)) => {
                LeaseId::parse(&label.lease).ok_or_else(|| not_canonical(&instance, label))?
            }
            (None, None) => return Err(super::resolve::not_ours(instance.id)),
        };
        // Held to the end: nobody takes the claim for that of a dead process.
        let lock = self.store.operation_lock(&id).await?.ok_or_else(|| {
            Error::new(Code::LeaseBusy, format!("another process works on lease {id}"))
                .hint("try again later")
        })?;
        call.phase(Phase::Recover, format!("adopting instance {} as lease {id}", instance.id));
        let key = self.store.create_key(&id).await?;
        let claimed = present.is_none();
        if let (None, Some(label)) = (&present, &label) {
            self.claim_unclaimed(&id, label, &instance, keep, call).await?;
        }
        let claim = self.adoptable_claim(&id, instance.id).await?;
        if !claimed {
            self.warn_of_expiry(&id, &claim, call);
            if keep && !labels::keep(&claim.labels) {
                call.warn(format!(
                    "lease {id} has its claim already: it ends as that says, and --keep changes nothing"
                ));
            }
        }
        if let Some(warning) = self.price_warning(&instance, &claim.slug) {
            call.warn(warning);
        }
        let (_lock, journal) = self.journal_of(&id, &claim, Some(lock), call).await?;
        let mut journal = journal.ok_or_else(|| unreadable_journal(&id))?;
        let before = journal.clone();
        if claimed {
            journal.instance = Some(instance.id.0);
            journal.adopted_at = Some(self.unix_now());
            journal.forgotten_at = None;
            if !journal.created(instance.id) {
                // What ends it by itself, as of a lease of our own.
                journal.request.ttl_secs = self.bound(keep).map(|ttl| ttl.as_secs());
            }
            // Also where nothing is to end it: what its maker armed is ended when somebody gets in.
            let record = self.deadman_record(keep).unwrap_or_default();
            journal.deadman = Some(DeadmanRecord { over_ssh: true, ..record });
        } else if !journal.attempts.is_empty() && !journal.was_ready() {
            // Its acquire died, and would be finished by giving the machine back.
            journal.reached(instance.id);
        }
        if claimed && !journal.created(instance.id) || journal.price.is_none() {
            // What the day's budget counts.
            journal.price = instance.dph_total.map(|price| price.0);
        }
        let called_off = self.take_out(&mut journal, instance.id, Use::Reached).await?;
        if journal != before {
            self.store.write_journal(&journal).await?;
            called_off.tell(instance.id, call);
        }
        let key_attached = self.attach_to_adopted(instance.id, &key, call).await;
        let recorded = self.recorded_deadman(&id, self.unix_now()).await;
        Ok(Adopted {
            lease: id,
            slug: claim.slug.clone(),
            instance: instance.id,
            claimed,
            key_attached,
            expires_at: labels::expires_at(&claim.labels).map(moment),
            // Looked at by who has a session.
            deadman: recorded,
        })
    }

    /// The claim of a lease that is being adopted with this instance. What its acquire had doubts about, or was giving back,
    /// comes up from now on; any other claim is not written.
    async fn adoptable_claim(&self, id: &LeaseId, instance: InstanceId) -> Result<Claim> {
        let released = || Error::new(Code::LeaseNotFound, format!("lease {id} was released meanwhile"));
        let claim = self.store.claim(id).await?.ok_or_else(released)?;
        if claim.instance_id().is_some_and(|named| named != instance) {
            return Err(changed_claim(&claim));
        }
        let doubtful = [State::Ambiguous, State::Releasing].map(|state| claim_state(state).0);
        if !doubtful.contains(&claim.state()) {
            return Ok(claim);
        }
        let adopt = move |claim: &mut Claim| {
            if doubtful.contains(&claim.state()) {
                claim.labels.insert(key::STATE.to_owned(), claim_state(State::Booting).0.to_owned());
                claim.labels.remove(key::RECOVERY);
            }
            Ok(())
        };
        self.store.update_claim(id, adopt).await
    }

    /// Writes the claim, on the strength of a read of the instance that follows the account's.
    async fn claim_unclaimed(
        &self,
        id: &LeaseId,
        label: &OwnershipLabel,
        instance: &Instance,
        keep: bool,
        call: &Call,
    ) -> Result<()> {
        let account = call.until_cancelled(async { Ok(self.client.account().await?) }).await?;
        let inventory = self.client.list(&Filter::All).await.map_err(Error::from)?;
        if !inventory.complete {
            // A second one that carries the label may be missing from it.
            return Err(list_is_not_whole("nothing was adopted"));
        }
        let carries = |seen: &&Instance| {
            let shown = seen.ownership();
            !seen.is_unloaded()
                && shown.is_some_and(|shown| (&shown.lease, &shown.slug) == (&label.lease, &label.slug))
        };
        let same: Vec<InstanceId> = inventory.instances.iter().filter(carries).map(|seen| seen.id).collect();
        match same.as_slice() {
            [one] if *one == instance.id => {}
            [_, _, ..] => {
                return Err(Error::new(
                    Code::IdentityMismatch,
                    format!("{} instances carry the label of lease {id}", same.len()),
                )
                .hint("destroy the ones you do not need in the Vast console, then adopt the last"));
            }
            _ => {
                return Err(Error::new(
                    Code::IdentityMismatch,
                    format!("instance {} does not carry the label of lease {id} any more", instance.id),
                )
                .hint("`list --all` shows what it carries now"));
            }
        }
        let claim = self.adopted_claim(id, label, instance, account.id, keep);
        check_account(&claim, account.id, &self.settings.api_url, "adopt")?;
        if let Some(claim) = self.store.claim(id).await? {
            return Err(changed_claim(&claim));
        }
        // Before the claim: from then on what a dead process had meant to do with the lease would be done.
        if let Some(mut journal) = self.store.journal(id).await? {
            journal.adopted_at = Some(self.unix_now());
            journal.reprieve(instance.id);
            CalledOff::from(&mut journal, instance.id, Use::Reached, self.unix_now());
            self.store.write_journal(&journal).await?;
        }
        self.store.create_claim(claim).await?;
        Ok(())
    }

    /// The claim crabbox makes with `--reclaim`: without any word of an attached key, so that nothing is detached later.
    pub(super) fn adopted_claim(
        &self,
        id: &LeaseId,
        label: &OwnershipLabel,
        instance: &Instance,
        account: AccountId,
        keep: bool,
    ) -> Claim {
        let settings = &self.settings;
        let defaults = LabelDefaults {
            profile: settings.profile.clone(),
            class: settings.class.clone(),
            ttl: settings.ttl,
            idle_timeout: settings.idle_timeout,
            release_action: settings.release_action,
        };
        let mut labels = labels::initial_without_claim(label, &defaults, self.unix_now());
        let state = match label.state.as_str() {
            _ if !instance.is_running() && instance.intended_status.as_deref() == Some("stopped") => {
                "stopped"
            }
            "ready" => "ready",
            _ => "provisioning",
        };
        for (key, value) in [
            (key::STATE, state.to_owned()),
            (key::KEEP, keep.to_string()),
            (key::VAST_ACCOUNT_ID, account.to_string()),
            (key::VAST_API_URL, settings.api_url.clone()),
        ] {
            labels.insert(key.to_owned(), value);
        }
        let endpoint = instance.endpoints().into_iter().next();
        Claim {
            lease_id: id.to_string(),
            slug: Slug::normalise(&label.slug).map_or_else(String::new, |slug| slug.to_string()),
            provider: "vast".to_owned(),
            cloud_id: instance.id.to_string(),
            repo_root: settings.repo_root.clone(),
            claimed_at: rfc3339(self.now()),
            last_used_at: rfc3339(self.now()),
            idle_timeout_seconds: i64::try_from(settings.idle_timeout.as_secs()).unwrap_or(i64::MAX),
            ssh_port: endpoint.as_ref().map_or(0, |endpoint| i64::from(endpoint.port)),
            ssh_host: endpoint.map(|endpoint| endpoint.host).unwrap_or_default(),
            labels,
            ..Claim::default()
        }
    }

    /// Attaches the key; a lease without it can be released all the same, so a refusal is only told.
    async fn attach_to_adopted(&self, instance: InstanceId, key: &LeaseKey, call: &Call) -> bool {
        match self.client.attach_key(instance, &key.public).await {
            Ok(()) => true,
            Err(failure) => {
                call.warn(format!(
                    "the key could not be attached, so the lease can be released but not used; `adopt {instance}` tries \
                     again: {}",
                    failure.message
                ));
                false
            }
        }
    }
}

fn not_canonical(instance: &Instance, label: &OwnershipLabel) -> Error {
    Error::new(
        Code::IdentityMismatch,
        format!("instance {} carries the label of {:?}, which is no lease id", instance.id, label.lease),
    )
    .hint("no tool made this label; use the Vast console")
    .with("instance", instance.id.0)
}

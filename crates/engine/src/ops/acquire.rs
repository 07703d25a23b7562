//! Acquire: search, rent, reach over SSH. Nothing is asked of the vendor that costs money before the intent is on disk.
//!
//! The order on disk is the safety: operation lock, claim in the shape of an unclear create, journal, the create,
//! claim with the instance, journal. Whatever dies in between leaves a claim from which `stop` can find the machine.

use super::boot::Booting;
use super::gone::VISIBILITY;
use super::lease::Machine;
use super::recover::Recovered;
use super::recovery::Patience;
use super::{Call, Engine, Event, Lease, Phase};
use crate::config::InstanceType;
use crate::lease::labels::{self, key};
use crate::lease::{
    self, Claim, InstanceId, LabelPlan, LeaseId, MachineId, OwnershipLabel, Slug, State, claim_state,
};
use crate::store::{Attempt, Journal, JournalRequest, LeaseKey, OperationGuard};
use crate::vast::client::Created;
use crate::vast::decode::Account;
use crate::vast::request::CreateBody;
use crate::vast::select::{Candidate, Selection, select};
use crate::vast::{Filter, Kind};
use crate::{Code, Error, Result};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Offers tried before giving up. The vendor publishes 4.5 s between creates, so more would take longer than a person
/// waits.
const MOST_ATTEMPTS: usize = 8;

/// What to acquire, besides the settings.
#[derive(Debug, Clone, Default)]
pub struct AcquireRequest {
    /// The lease outlives the command: cleanup leaves it alone.
    pub keep: bool,
    /// A slug instead of the generated one; taken ones get a suffix.
    pub slug: Option<String>,
}

/// What must be known before the first create.
struct Prepared {
    claim: Claim,
    slug: Slug,
    key: LeaseKey,
    selection: Selection,
}

impl Engine {
    /// Rents the best offer that meets the settings and waits until commands run on it.
    ///
    /// # Errors
    /// [`Code::NoOffers`] and the API's refusals, with nothing left behind; [`Code::CreateAmbiguous`] or
    /// [`Code::ReleaseUnproved`] with a claim left from which `stop` finishes.
    pub async fn acquire(&self, request: &AcquireRequest, call: &Call) -> Result<Lease> {
        let began = Instant::now();
        for one in self.recover_dead(None, Patience::Now, call).await {
            call.warn(one.line());
        }
        let wanted = request.slug.as_deref().map_or(Ok(None), Slug::requested)?;
        let id = LeaseId::from_entropy(self.entropy());
        let lock = self.store.operation_lock(&id).await?.ok_or_else(|| {
            Error::new(Code::LeaseBusy, format!("lease {id} is in use by another process")).hint("try again")
        })?;
        call.phase(Phase::Search, "looking for offers");
        match self.prepare(&id, wanted, request, call).await {
            Ok(prepared) => Acquiring::new(self, id, prepared, request, began, lock).run(call).await,
            // Nothing was rented: what was written for this lease goes again.
            Err(error) => Err(match self.forget_unused(&id).await {
                Ok(()) => error,
                Err(left) => error.and(&left),
            }),
        }
    }

    async fn prepare(
        &self,
        id: &LeaseId,
        wanted: Option<Slug>,
        request: &AcquireRequest,
        call: &Call,
    ) -> Result<Prepared> {
        let query = self.offer_query();
        let search = call.until_cancelled(async { Ok(self.client.search(&query).await?) });
        // None of the three is dropped before it ends: each may be writing.
        let (known, offers, key) =
            tokio::join!(self.identify(id, wanted, request, call), search, self.store.create_key(id));
        let ((claim, slug), key) = (known?, key?);
        let selection = select(&offers?, &query, &BTreeSet::new());
        if selection.candidates.is_empty() {
            return Err(self.no_offers(&selection));
        }
        Ok(Prepared { claim, slug, key, selection })
    }

    /// Account and inventory, then the slug and the intent claim under it.
    async fn identify(
        &self,
        id: &LeaseId,
        wanted: Option<Slug>,
        request: &AcquireRequest,
        call: &Call,
    ) -> Result<(Claim, Slug)> {
        let chosen = wanted.is_some();
        let read = async {
            let (account, page) =
                tokio::try_join!(self.client.account(), self.client.page(&Filter::All, None))?;
            if chosen && page.next.is_some() {
                let inventory = self.client.rest_of_list(&Filter::All, page).await?;
                return Ok((account, inventory.instances, false));
            }
            let more = page.next.is_some();
            Ok((account, page.instances, more))
        };
        let (account, instances, more): (Account, _, bool) = call.until_cancelled(read).await?;
        let base = wanted.unwrap_or_else(|| Slug::generate(id));
        let mut taken: BTreeSet<String> =
            instances.iter().filter_map(|instance| Some(instance.ownership()?.slug)).collect();
        if more {
            // More instances than one page: a suffixed slug is cheaper than reading on.
            taken.insert(base.as_str().to_owned());
        }
        let settings = &self.settings;
        let now = self.now();
        let plan = LabelPlan {
            lease: id.clone(),
            slug: base.clone(),
            keep: request.keep,
            profile: settings.profile.clone(),
            class: settings.class.clone(),
            ttl: settings.ttl,
            idle_timeout: settings.idle_timeout,
            release_action: settings.release_action,
            account: account.id,
            api_url: settings.api_url.clone(),
            created_at: lease::unix(now),
            offer: None,
            state: claim_state(State::Intent).0,
            recovery: claim_state(State::Intent).1,
        };
        let repo_root = settings.repo_root.clone();
        let make = move |slug: &Slug| {
            Claim::intent(&LabelPlan { slug: slug.clone(), ..plan.clone() }, &repo_root, now)
        };
        let claim = self.store.create_claim_with_slug(id, &base, &taken, make).await?;
        let slug = claim.slug().unwrap_or(base);
        Ok((claim, slug))
    }

    fn no_offers(&self, selection: &Selection) -> Error {
        let refused: Vec<String> =
            selection.refused.iter().map(|(why, count)| format!("{count} {why}")).collect();
        let seen = if refused.is_empty() {
            "the search found none".to_owned()
        } else {
            format!("of those found: {}", refused.join(", "))
        };
        let cap = self.settings.max_dph_total.map_or_else(String::new, |cap| format!(" under {cap}"));
        Error::new(Code::NoOffers, format!("no offer{cap} meets the requirements: {seen}"))
            .hint("see `offers` for what there is; raise vast.maxDphTotal or loosen gpuName, gpuCount, diskGB or minReliability")
    }
}

/// One acquire from its first create on.
struct Acquiring<'a> {
    engine: &'a Engine,
    id: LeaseId,
    slug: Slug,
    key: LeaseKey,
    selection: Selection,
    journal: Journal,
    state: State,
    instance: Option<InstanceId>,
    keep: bool,
    began: Instant,
    /// Held to the end: that we are alive.
    _lock: OperationGuard,
}

/// How one attempt ended without an instance we can use.
enum Next {
    /// Another offer may do; this machine will not.
    Another(Option<MachineId>, Error),
    /// None will.
    Stop(Error),
}

impl<'a> Acquiring<'a> {
    fn new(
        engine: &'a Engine,
        id: LeaseId,
        prepared: Prepared,
        request: &AcquireRequest,
        began: Instant,
        lock: OperationGuard,
    ) -> Self {
        let Prepared { claim, slug, key, selection } = prepared;
        let created_at = labels::created_at(&claim.labels).unwrap_or_else(|| engine.unix_now());
        let mut journal = Journal::new(&id, slug.as_str(), &engine.world.ambient.process(), created_at);
        let settings = &engine.settings;
        journal.request = JournalRequest {
            image: settings.image.clone(),
            disk_gb: settings.disk_gb,
            cap: settings.max_dph_total.map(|cap| cap.0),
            gpu_name: settings.gpu_name.clone(),
            gpu_count: settings.gpu_count,
            interruptible: settings.instance_type == InstanceType::Interruptible,
            ..JournalRequest::default()
        };
        Self {
            engine,
            id,
            slug,
            key,
            selection,
            journal,
            state: State::Intent,
            instance: None,
            keep: request.keep,
            began,
            _lock: lock,
        }
    }

    async fn run(mut self, call: &Call) -> Result<Lease> {
        let candidates = std::mem::take(&mut self.selection.candidates);
        let mut avoid = BTreeSet::new();
        let mut last = None;
        let mut lost = 0;
        for candidate in candidates.iter().take(MOST_ATTEMPTS) {
            if candidate.offer.machine.is_some_and(|machine| avoid.contains(&machine)) {
                continue;
            }
            let error = match self.attempt(candidate, call).await {
                Ok(lease) => return Ok(lease),
                Err(Next::Stop(error)) => return Err(self.undo(error, call).await),
                Err(Next::Another(machine, error)) => {
                    avoid.extend(machine);
                    error
                }
            };
            lost += usize::from(error.code() == Code::CreateAmbiguous);
            let enough = lost > 1;
            last = Some(error);
            if enough {
                break;
            }
        }
        let error = last.unwrap_or_else(|| self.engine.no_offers(&self.selection));
        Err(self.undo(error, call).await)
    }

    async fn attempt(&mut self, candidate: &Candidate, call: &Call) -> Result<Lease, Next> {
        if call.is_cancelled() {
            return Err(Next::Stop(Error::new(Code::Cancelled, "cancelled")));
        }
        // The wait for the slot comes first: what is journalled is when the create was sent.
        let slot = async {
            self.engine.client.create_slot().await;
            Ok(())
        };
        call.until_cancelled(slot).await.map_err(Next::Stop)?;
        self.before_create(candidate, call).await.map_err(Next::Stop)?;
        let what = self.create_body(candidate);
        // Not cancelled: an answer that nobody reads would leave a machine to be searched for.
        match self.engine.client.create(candidate.offer.id, &what).await {
            Created::Instance(id) => self.created(id, "created").await.map_err(Next::Stop)?,
            Created::Unwanted(id, failure) if self.is_foreign(id).await => {
                call.warn(format!("the refusal names instance {id}, which is not ours and is left alone"));
                self.note(format!("nothing: {}", failure.message), None).await.map_err(Next::Stop)?;
                return Err(Next::Another(None, Error::from(failure)));
            }
            Created::Unwanted(id, failure) => {
                self.created(id, "created unwanted").await.map_err(Next::Stop)?;
                let stop = failure.kind == Kind::BadPrice && candidate.bid.is_some();
                let error = Error::from(failure);
                self.discard(call).await.map_err(Next::Stop)?;
                return Err(if stop {
                    Next::Stop(error)
                } else {
                    Next::Another(candidate.offer.machine, error)
                });
            }
            Created::Nothing(failure) => {
                self.note(format!("nothing: {}", failure.message), None).await.map_err(Next::Stop)?;
                let another = matches!(failure.kind, Kind::OfferGone | Kind::BadPrice | Kind::NotSent);
                let message = failure.message.clone();
                let error = Error::from(failure);
                if !another {
                    return Err(Next::Stop(error));
                }
                call.event(Event::OfferGone { offer: candidate.offer.id, message });
                return Err(Next::Another(None, error));
            }
            Created::Unknown(failure) => {
                self.step(lease::Event::CreateUnclear)?;
                self.note(format!("ambiguous: {}", failure.message), None).await.map_err(Next::Stop)?;
                self.recover(failure.message, call).await?;
            }
        }
        let Some(instance) = self.instance else {
            return Err(Next::Stop(Error::new(Code::Internal, "an instance was expected")));
        };
        call.event(Event::Created { lease: self.id.clone(), instance });
        match self.bring_up(instance, candidate, call).await {
            Ok(lease) => Ok(lease),
            Err(error) if error.code() == Code::StartFailedHost => {
                call.warn(format!("{error}; trying another machine"));
                self.discard(call).await.map_err(Next::Stop)?;
                Err(Next::Another(candidate.offer.machine, error))
            }
            Err(error) => Err(Next::Stop(error)),
        }
    }

    /// The record before the paid call.
    async fn before_create(&mut self, candidate: &Candidate, call: &Call) -> Result<()> {
        let next =
            if self.state == State::Intent { lease::Event::CreateSent } else { lease::Event::NextAttempt };
        self.state = lease::step(self.state, next)?;
        let offer = &candidate.offer;
        self.journal.attempts.push(Attempt {
            offer: offer.id.0,
            machine: offer.machine.map(|machine| machine.0),
            price: candidate.price.0,
            started_at: self.engine.unix_now(),
            ..Attempt::default()
        });
        self.engine.store.write_journal(&self.journal).await?;
        call.event(Event::Provisioning {
            lease: self.id.clone(),
            slug: self.slug.clone(),
            offer: offer.id,
            gpu: offer.gpu_name.clone(),
            count: offer.gpu_count,
            price: candidate.price.0,
            max_dph: self.engine.settings.max_dph_total.map_or(0.0, |cap| cap.0),
            keep: self.keep,
        });
        Ok(())
    }

    fn create_body(&self, candidate: &Candidate) -> CreateBody {
        let settings = &self.engine.settings;
        let mut env = serde_json::Map::new();
        env.insert("CRABBOX".into(), "1".into());
        CreateBody {
            image: settings.image.clone(),
            template: settings.template_id.clone(),
            disk_gb: settings.disk_gb,
            label: self.label(claim_state(State::Creating).2),
            public_key: self.key.public.clone(),
            env,
            onstart: Some(crate::ssh::onstart::script(&self.key.public)),
            bid: candidate.bid,
        }
    }

    fn label(&self, state: &str) -> String {
        OwnershipLabel { lease: self.id.to_string(), slug: self.slug.to_string(), state: state.to_owned() }
            .encode()
    }

    /// The record after the paid call: the claim first, because it leads to the destruction.
    async fn created(&mut self, instance: InstanceId, outcome: &str) -> Result<()> {
        self.instance = Some(instance);
        self.state = lease::step(self.state, lease::Event::Created)?;
        let offer = self.journal.attempts.last().map(|attempt| attempt.offer);
        self.write_claim(Some(instance), move |claim| {
            if let Some(offer) = offer {
                claim.labels.insert(key::VAST_OFFER_ID.into(), offer.to_string());
            }
        })
        .await?;
        self.note(format!("{outcome}: {instance}"), Some(instance)).await
    }

    async fn note(&mut self, outcome: String, instance: Option<InstanceId>) -> Result<()> {
        self.journal.note(outcome, instance);
        self.engine.store.write_journal(&self.journal).await
    }

    /// Whether an instance that a refusal named visibly belongs to somebody else.
    async fn is_foreign(&self, id: InstanceId) -> bool {
        let Ok(Some(live)) = self.engine.client.show(id).await else { return false };
        live.label.is_some() && live.ownership().is_none_or(|label| label.lease != self.id.as_str())
    }

    /// Puts our state and instance into the claim, if it still exists.
    async fn write_claim(
        &self,
        instance: Option<InstanceId>,
        change: impl FnOnce(&mut Claim) + Send + 'static,
    ) -> Result<()> {
        let (state, recovery, _) = claim_state(self.state);
        self.engine
            .store
            .update_claim(&self.id, move |claim| {
                match instance {
                    Some(instance) => claim.set_instance(instance),
                    None => claim.cloud_id.clear(),
                }
                claim.labels.insert(key::STATE.into(), state.to_owned());
                match recovery {
                    Some(recovery) => claim.labels.insert(key::RECOVERY.into(), recovery.to_owned()),
                    None => claim.labels.remove(key::RECOVERY),
                };
                change(claim);
                Ok(())
            })
            .await
            .map(|_| ())
    }

    fn step(&mut self, event: lease::Event) -> Result<(), Next> {
        self.state = lease::step(self.state, event).map_err(Next::Stop)?;
        Ok(())
    }

    /// After a lost answer: adopt the one instance with our label, or prove that there is none.
    async fn recover(&mut self, why: String, call: &Call) -> Result<(), Next> {
        let found = self
            .engine
            .recover_by_label(&self.id, self.slug.as_str(), VISIBILITY, call)
            .await
            .map_err(Next::Stop)?;
        match found {
            Recovered::Found { instance, surplus } => {
                for id in surplus {
                    let engine = self.engine;
                    let destroyed = engine.destroy_journalled(Some(&mut self.journal), id, VISIBILITY, call);
                    destroyed.await.map_err(Next::Stop)?;
                }
                self.instance = Some(instance.id);
                self.step(lease::Event::Adopted)?;
                self.write_claim(Some(instance.id), |_| ()).await.map_err(Next::Stop)?;
                self.note(format!("adopted: {}", instance.id), Some(instance.id)).await.map_err(Next::Stop)
            }
            Recovered::Nothing => {
                self.step(lease::Event::NextAttempt)?;
                self.note("nothing: proved by the complete list".into(), None).await.map_err(Next::Stop)?;
                Err(Next::Another(None, lost(&why)))
            }
        }
    }

    async fn bring_up(&mut self, instance: InstanceId, candidate: &Candidate, call: &Call) -> Result<Lease> {
        let settings = &self.engine.settings;
        let booting = Booting {
            lease: &self.id,
            instance,
            key: &self.key,
            cap: settings.max_dph_total,
            interruptible: candidate.bid.is_some(),
        };
        let ready = self.label(claim_state(State::Ready).2);
        let booted = call.until_cancelled(self.engine.boot(&booting, &ready, call)).await?;
        self.state = lease::step(self.state, lease::Event::EndpointKnown)?;
        self.state = lease::step(self.state, lease::Event::SshReady)?;
        let endpoint = booted.connected.endpoint.clone();
        let (host, port) = (endpoint.host.clone(), endpoint.port);
        let now = self.engine.unix_now();
        let (ttl, idle) = (settings.ttl, settings.idle_timeout);
        self.write_claim(Some(instance), move |claim| {
            claim.ssh_host = host;
            claim.ssh_port = i64::from(port);
            // The idle time counts from here: a slow boot must not use it up.
            labels::touch(&mut claim.labels, now, None, ttl, idle, None);
        })
        .await?;
        let price = booted.instance.dph_total.unwrap_or(candidate.price);
        if settings.max_dph_total.is_some() && booted.instance.dph_total.is_none() {
            call.warn(format!("instance {instance} shows no price: the cap was checked on the offer only"));
        }
        self.journal.price = Some(price.0);
        let took = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.journal.phases.insert("ready".into(), took);
        self.engine.store.write_journal(&self.journal).await?;
        let gpu = booted.instance.gpu_name.clone().unwrap_or_else(|| candidate.offer.gpu_name.clone());
        call.event(Event::Provisioned {
            lease: self.id.clone(),
            instance,
            gpu: gpu.clone(),
            seconds: self.began.elapsed().as_secs_f64(),
        });
        let claim = self.engine.store.claim(&self.id).await?.ok_or_else(|| self.claim_removed(instance))?;
        let machine = Machine { instance, gpu, price: Some(price) };
        Ok(Lease::new(self.engine, &self.id, &claim, machine, &self.key, booted.connected))
    }

    fn claim_removed(&self, instance: InstanceId) -> Error {
        Error::new(Code::ClaimMissing, format!("the claim of lease {} was removed while it started", self.id))
            .with("instance", instance.0)
    }

    /// Destroys the instance of this attempt, proves it, and makes the claim an intent again.
    async fn discard(&mut self, call: &Call) -> Result<()> {
        if let Some(instance) = self.instance {
            let call = call.uncancelled();
            self.engine.destroy_journalled(Some(&mut self.journal), instance, VISIBILITY, &call).await?;
        }
        self.instance = None;
        self.state = lease::step(self.state, lease::Event::NextAttempt)?;
        self.write_claim(None, |_| ()).await?;
        // The next attempt steps again from here.
        Ok(())
    }

    /// Ends a failed acquire: nothing rented is left, or a claim that leads to it.
    async fn undo(mut self, error: Error, call: &Call) -> Error {
        let call = call.uncancelled();
        if error.code() == Code::ClaimMissing {
            return self.verify_abandoned(error, &call).await;
        }
        let cleaned = match (self.instance, self.state) {
            (Some(instance), _) => self.release_failed(instance, &call).await,
            // Unresolved: the claim is what leads to the machine, should there be one.
            (None, State::Ambiguous) => {
                return error
                    .hint(format!("its claim is kept: run `crabbox-vast stop {}`", self.slug))
                    .with("lease", self.id.as_str());
            }
            (None, _) => self.engine.forget_unused(&self.id).await,
        };
        match cleaned {
            Ok(()) => error,
            Err(left) => error
                .and(&left)
                .hint(format!("its claim is kept: run `crabbox-vast stop {}`", self.slug))
                .with("lease", self.id.as_str()),
        }
    }

    async fn release_failed(&mut self, instance: InstanceId, call: &Call) -> Result<()> {
        self.state = lease::step(self.state, lease::Event::AcquireFailed)?;
        // A full disk is no reason to let the machine bill on; the claim names it already.
        if let Err(error) = self.write_claim(Some(instance), |_| ()).await {
            call.warn(format!("the claim could not be marked: {error}"));
        }
        call.event(Event::Releasing { lease: self.id.clone(), instance });
        self.engine.destroy_journalled(Some(&mut self.journal), instance, VISIBILITY, call).await?;
        self.engine.forget(&self.id, Some(instance)).await
    }

    /// Somebody removed the claim: what they did is looked at, nothing is destroyed or written without a claim.
    async fn verify_abandoned(&self, error: Error, call: &Call) -> Error {
        let Some(instance) = self.instance else { return error };
        let since = self.journal.last_create_at().map_or(0, |at| self.engine.unix_now() - at);
        let fresh = VISIBILITY.saturating_sub(Duration::from_secs(u64::try_from(since).unwrap_or(0)));
        match self.engine.prove_vanished(instance, fresh, call).await {
            Ok(true) => {
                let forgotten = self.engine.forget(&self.id, Some(instance)).await;
                match forgotten {
                    Ok(()) => error.hint("another process released it; nothing is left"),
                    Err(left) => error.and(&left),
                }
            }
            Ok(false) | Err(_) => error.hint(format!(
                "instance {instance} may still run and bill: destroy it in the Vast console, or adopt it with crabbox"
            )),
        }
    }
}

fn lost(why: &str) -> Error {
    Error::new(Code::CreateAmbiguous, format!("the answer to the create was lost: {why}")).hint("try again")
}

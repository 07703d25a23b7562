//! Acquire: search, rent, reach over SSH. Nothing is asked of the vendor that costs money before the intent is on disk.
//!
//! The order on disk is the safety: operation lock, claim in the shape of an unclear create, journal, the create,
//! claim with the instance, journal. Whatever dies in between leaves a claim from which `stop` can find the machine,
//! and from which the same acquire goes on when it is called again under the same lease id.

use super::gone::list_is_not_whole;
use super::recovery::Patience;
use super::rent::{Acquiring, Choice};
use super::replay::{Stand, TakenUp, busy, elsewhere, given_id, released};
use super::unfinished::Unfinished;
use super::{Call, Engine, Lease, Phase};
use crate::Result;
use crate::config::InstanceType;
use crate::lease::labels;
use crate::lease::{self, Claim, LabelPlan, LeaseId, Slug, State, claim_state};
use crate::store::{Journal, JournalRequest, LeaseKey, OperationGuard};
use crate::vast::decode::Account;
use crate::vast::select::select;
use crate::vast::{Filter, Instance};
use futures_util::future::BoxFuture;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// What to acquire, besides the settings.
#[derive(Debug, Clone, Default)]
pub struct AcquireRequest {
    /// The lease outlives the command: cleanup leaves it alone.
    pub keep: bool,
    /// A slug instead of the generated one; taken ones get a suffix.
    pub slug: Option<String>,
    /// `cbx_` and 12 lower-case hex digits of the caller's choice. It makes the acquire repeatable: another call with
    /// the same id and the same request gets the lease of the first one, whatever became of its answer. A limit or a TTL
    /// that the other call leaves out is that of the first one.
    pub lease_id: Option<String>,
}

/// What must be known before the first create.
struct Prepared {
    claim: Claim,
    slug: Slug,
    key: LeaseKey,
    choice: Choice,
}

/// What the account shows, and the intent that was written.
struct Known {
    account: Account,
    claim: Claim,
    slug: Slug,
    /// The first page of its instances; all of them where all had to be read.
    instances: Vec<Instance>,
}

impl Engine {
    /// Rents the best offer that meets the settings and waits until commands run on it. Who gives up before that has rented
    /// nothing; a lease that was there before, as of a repeated acquire, stays.
    ///
    /// # Errors
    /// [`crate::Code::InvalidArgument`], [`crate::Code::NoOffers`], [`crate::Code::BidTooLow`], [`crate::Code::CostLimitExceeded`],
    /// [`crate::Code::InsufficientCredit`] and the API's refusals, with nothing left behind; [`crate::Code::CreateAmbiguous`] where the
    /// answers to creates were lost: with nothing left behind once the list proved each time that nothing was rented, otherwise,
    /// as its hint says, with a claim left from which `stop` finishes; [`crate::Code::ReleaseUnproved`] with such a claim;
    /// [`crate::Code::LeaseIdConflict`], [`crate::Code::LeaseReleased`] and [`crate::Code::LeaseBusy`] for a lease id that cannot be taken
    /// up.
    pub fn acquire<'a>(
        &'a self,
        request: &'a AcquireRequest,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Lease>> {
        Box::pin(async move {
            let (lease, lock) = self.acquire_as(request, false, call).await?;
            if call.is_cancelled() {
                return Err(lease.give_up(Some(lock), call).await);
            }
            Ok(lease)
        })
    }

    /// [`Engine::acquire`] with the operation lock, which shows that somebody is still at work on the lease. With `alone`
    /// the journal says from the beginning that the lease goes with this process.
    pub(super) async fn acquire_as(
        &self,
        request: &AcquireRequest,
        alone: bool,
        call: &Call,
    ) -> Result<(Lease, OperationGuard)> {
        let began = Instant::now();
        self.warn_of_settings(call);
        let wanted = request.slug.as_deref().map_or(Ok(None), Slug::requested)?;
        let asked = self.journal_request(request.keep, wanted.as_ref().map(Slug::to_string));
        let Some(given) = request.lease_id.as_deref() else {
            self.check_limits(request.keep)?;
            let id = LeaseId::from_entropy(self.entropy());
            // Held to the end: that we are alive.
            let lock = self.store.operation_lock(&id).await?.ok_or_else(|| busy(&id))?;
            let lease = self.acquire_new(&id, wanted, asked, None, request, alone, began, call).await?;
            return Ok((lease, lock));
        };
        let id = given_id(given)?;
        match self.store.journal(&id).await? {
            Some(before) => self.as_before(&before.request).check_limits(request.keep)?,
            None => self.check_limits(request.keep)?,
        }
        let lock = self.wait_for_lease(&id, &asked, call).await?;
        let previous = match self.stand(&id, &asked).await? {
            Stand::New(previous) => previous,
            Stand::Ready => {
                call.phase(Phase::Connect, format!("lease {id} exists; connecting to it"));
                // Under our own lock: whoever it was held for is dead, and must not take it down with it.
                let opening = self.open_under(Some(lock), id.as_str(), false, call);
                let (lease, lock) = self.with_the_dead(&id, opening, call).await?;
                return Ok((lease, lock.ok_or_else(|| busy(&id))?));
            }
            Stand::Ending(instance) => {
                let (why, call) = (Unfinished::Destroy, &call.uncancelled());
                let ending = self.finish_destroy(&id, why, instance, lock, Duration::ZERO, call);
                return Err(match self.with_the_dead(&id, ending, call).await {
                    Ok(_) => released(&id),
                    Err(left) => released(&id).and(&left),
                });
            }
            Stand::CutOff(mut cut_off) => {
                cut_off.journal.holder = alone.then(|| self.holder());
                let engine = self.as_before(&cut_off.journal.request);
                let taking_up = engine.take_up(&id, *cut_off, request, began, call);
                match self.with_the_dead(&id, taking_up, call).await? {
                    TakenUp::Lease(lease) => return Ok((lease, lock)),
                    TakenUp::Nothing(journal) => Some(journal),
                }
            }
        };
        let again = previous.as_ref().map(|journal| self.as_before(&journal.request));
        let (engine, asked) = match &again {
            Some(again) => (again, again.journal_request(asked.keep, asked.slug)),
            None => (self, asked),
        };
        let lease = engine.acquire_new(&id, wanted, asked, previous, request, alone, began, call).await?;
        Ok((lease, lock))
    }

    /// Does `work` on the lease `id` and finishes beside it what processes that died left behind.
    pub(super) async fn with_the_dead<T>(
        &self,
        id: &LeaseId,
        work: impl Future<Output = Result<T>>,
        call: &Call,
    ) -> Result<T> {
        let (done, finished) = tokio::join!(work, Box::pin(self.recover_dead(Some(id), Patience::Now, call)));
        finished.iter().for_each(|one| call.warn(one.line()));
        done
    }

    /// An acquire from its beginning. `previous` is the journal of a lease of the same id that left nothing behind.
    #[expect(clippy::too_many_arguments, reason = "the parts of one acquire, named once")]
    async fn acquire_new(
        &self,
        id: &LeaseId,
        wanted: Option<Slug>,
        asked: JournalRequest,
        previous: Option<Box<Journal>>,
        request: &AcquireRequest,
        alone: bool,
        began: Instant,
        call: &Call,
    ) -> Result<Lease> {
        call.phase(Phase::Search, "looking for offers");
        let base = wanted.clone().unwrap_or_else(|| Slug::generate(id));
        let mut journal = Journal::new(id, base.as_str(), &self.world.ambient.process(), self.unix_now());
        journal.request = asked;
        journal.drawn = request.lease_id.is_none();
        journal.holder = alone.then(|| self.holder());
        journal.deadman = self.deadman_record(request.keep);
        let repeated = previous.is_some();
        if let Some(previous) = previous {
            // What an earlier call under this id rented and gave up is still looked at for a day.
            (journal.attempts, journal.steps) = (previous.attempts, previous.steps);
        }
        match self.prepare(id, wanted, &journal, request, call).await {
            Ok(Prepared { claim, slug, key, choice }) => {
                journal.created_at = labels::created_at(&claim.labels).unwrap_or(journal.created_at);
                journal.slug = slug.to_string();
                let (id, keep) = (id.clone(), request.keep);
                let (state, instance, sent) = (State::Intent, None, None);
                let acquiring =
                    Acquiring { engine: self, id, slug, key, journal, state, instance, keep, began, sent };
                acquiring.run(&choice, call).await
            }
            // Nothing was rented: what was written for this lease goes again.
            Err(error) => Err(match self.forget_unrented(id, repeated).await {
                Ok(()) => error,
                Err(left) => error.and(&left),
            }),
        }
    }

    /// A journal that proves an earlier machine gone is kept for its day.
    async fn forget_unrented(&self, id: &LeaseId, keep_journal: bool) -> Result<()> {
        if keep_journal {
            return self.forget(id, None).await;
        }
        self.forget_unused(id).await.map(|_| ())
    }

    /// Wave 1: everything that the choice needs, at once.
    async fn prepare(
        &self,
        id: &LeaseId,
        wanted: Option<Slug>,
        journal: &Journal,
        request: &AcquireRequest,
        call: &Call,
    ) -> Result<Prepared> {
        let query = self.offer_query();
        let search = call.until_cancelled(async { Ok(self.client.search(&query).await?) });
        // None of these is dropped before it ends: each may be writing.
        let (recovered, known, offers, key, spending) = tokio::join!(
            self.recover_dead(Some(id), Patience::Now, call),
            self.identify(id, wanted, journal, request, call),
            search,
            self.store.create_key(id),
            self.spending(id, request.keep)
        );
        recovered.iter().for_each(|one| call.warn(one.line()));
        let (Known { account, claim, slug, instances }, key, spending) = (known?, key?, spending?);
        let selection = select(&offers?, &query, &spending.terms);
        let Some(best) = selection.candidates.first() else {
            return Err(self.no_offers(&selection, &spending));
        };
        self.check_credit(&account, best)?;
        if let Some(warning) = self.credit_warning(&account, best, &instances) {
            call.warn(warning);
        }
        Ok(Prepared { claim, slug, key, choice: Choice { account, selection, spending } })
    }

    /// Account and inventory, then the slug and the intent claim under it. The journal is on disk before the claim: what it
    /// does not show was not sent, and a claim of ours without a journal there is none.
    async fn identify(
        &self,
        id: &LeaseId,
        wanted: Option<Slug>,
        journal: &Journal,
        request: &AcquireRequest,
        call: &Call,
    ) -> Result<Known> {
        let whole = wanted.is_some() || request.lease_id.is_some();
        let read = async {
            let (account, page) =
                tokio::try_join!(self.client.account(), self.client.page(&Filter::All, None))?;
            if whole {
                let first = self.client.rest_of_list(&Filter::All, page).await?;
                let (mut instances, mut complete) = (first.instances, first.complete);
                if !complete {
                    let second = self.client.list(&Filter::All).await?;
                    instances.extend(second.instances);
                    complete = second.complete;
                }
                if !complete && request.lease_id.is_some() {
                    return Err(list_is_not_whole("nothing was rented"));
                }
                return Ok((account, instances, false));
            }
            let more = page.next.is_some();
            Ok((account, page.instances, more))
        };
        let (read, noted) = tokio::join!(call.until_cancelled(read), self.store.write_journal(journal));
        let (account, instances, more): (Account, Vec<Instance>, bool) = read?;
        noted?;
        let base = wanted.unwrap_or_else(|| Slug::generate(id));
        // What is taken apart already, and what this lease itself gave up and proved gone, may linger in the list.
        let given_up = |instance: &Instance| journal.tombstones().any(|(gone, _)| gone == instance.id);
        let lingers = |instance: &Instance| instance.is_unloaded() || given_up(instance);
        let standing = instances.iter().filter(|instance| !lingers(instance));
        let owners: Vec<_> = standing.filter_map(Instance::ownership).collect();
        if owners.iter().any(|owner| owner.lease == id.as_str()) {
            return Err(elsewhere(id));
        }
        let mut taken: BTreeSet<String> = owners.into_iter().map(|owner| owner.slug).collect();
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
            pond: settings.pond.clone(),
            exposed_ports: settings.expose.clone(),
            state: claim_state(State::Intent).0,
            recovery: claim_state(State::Intent).1,
        };
        let repo_root = settings.repo_root.clone();
        let make = move |slug: &Slug| {
            Claim::intent(&LabelPlan { slug: slug.clone(), ..plan.clone() }, &repo_root, now)
        };
        let claim = self.store.create_claim_with_slug(id, &base, &taken, make).await?;
        let slug = claim.slug().unwrap_or(base);
        Ok(Known { account, claim, slug, instances })
    }

    /// What the journal records of the request: what a repeated one is compared with, and what the money is counted by.
    pub(super) fn journal_request(&self, keep: bool, slug: Option<String>) -> JournalRequest {
        let settings = &self.settings;
        JournalRequest {
            image: settings.image.clone(),
            template: settings.template_id.clone(),
            disk_gb: settings.disk_gb,
            cap: settings.max_dph_total.map(|cap| cap.0),
            gpu_name: settings.gpu_name.clone(),
            gpu_count: settings.gpu_count,
            interruptible: settings.instance_type == InstanceType::Interruptible,
            bid: settings.bid.map(|bid| bid.0),
            keep,
            slug,
            pond: settings.pond.as_ref().map(|pond| pond.as_str().to_owned()),
            expose: settings.expose.clone(),
            max_cost: settings.max_cost.map(|limit| limit.0),
            ttl_secs: self.bound(keep).map(|ttl| ttl.as_secs()),
            ..JournalRequest::default()
        }
    }
}

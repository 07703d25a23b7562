//! The watch: what a lease made and nobody knows of any more. A create that was given up after its window may have taken
//! effect all the same, and an instance that was proved gone may come back; both bill. Their journal stays for a day after
//! the lease, and with it what tells that such a latecomer is its own: its number, or its label and how it was made.
//!
//! Beside the claim of its lease a latecomer is a surplus. Without a claim it is given one again, durably, before anything
//! is sent, and then destroyed by the way of every lease - where the lease id was drawn here and nobody elsewhere has put a
//! key on it. One whose id a caller chose may be in use on another machine: there it is only told, and so is one that
//! had vanished by other hands.

use super::authorised::{Doomed, Ground};
use super::cleanup::ItemOutcome;
use super::gone::{LINGER, SECOND_LOOK};
use super::open::IN_USE_AGAIN;
use super::provenance::Provenance;
use super::recovery::changed_claim;
use super::resolve::lease_id;
use super::{Call, Engine};
use crate::lease::labels::key;
use crate::lease::{AccountId, Claim, InstanceId, LeaseId, State, claim_state};
use crate::ssh::onstart;
use crate::store::{Journal, StepKind};
use crate::vast::client::Inventory;
use crate::vast::failure::LOCKED_OUT;
use crate::vast::{Filter, Instance};
use crate::{Code, Error, Result};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long what was given up, or proved gone, is looked at again, seconds.
const WATCH_SECS: i64 = 24 * 60 * 60;
/// So long a cleanup looks for what is left of old journals: nothing bills for want of it.
const BURYING: Duration = Duration::from_secs(60);

/// An instance of ours without a claim, whose lease was over.
pub(super) struct Latecomer {
    pub lease: LeaseId,
    /// Whether the records are enough to give it its claim again and destroy it. Otherwise it is `adopt`'s.
    pub collectable: bool,
}

/// Instances that carry exactly the label of a lease beside `current`, the one that its claim names, and are its own: what
/// a destroy was recorded for and is listed all the same, and what its creates made beside it. The journal's own last
/// instance is never among them: if the claim names another one, or is gone, somebody meant something by it.
///
/// # Errors
/// [`Code::LeaseAmbiguous`] when more of them may be ours than creates were left unanswered.
fn late(
    journal: &Journal,
    lease: &LeaseId,
    current: Option<InstanceId>,
    inventory: &Inventory,
    skew: Option<i64>,
) -> Result<Vec<Instance>> {
    let holds = |one: InstanceId| journal.created(one) || journal.instance == Some(one.0);
    // Without a claim only what we gave up ourselves is looked for, and not what was dropped on request.
    let watched = match current {
        Some(current) => holds(current),
        None => journal.is_watched() && journal.forgotten_at.is_none(),
    };
    let carries = |seen: &&Instance| {
        let label = seen.ownership();
        Some(seen.id) != current
            && !seen.is_unloaded()
            && label.is_some_and(|label| label.lease == lease.as_str() && label.slug == journal.slug)
    };
    let labelled = inventory.instances.iter().filter(|_| watched).filter(carries).cloned();
    let (mut ended, rest): (Vec<_>, Vec<_>) = labelled.partition(|seen| journal.ended(seen.id));
    let rest: Vec<_> = rest
        .into_iter()
        .filter(|seen| {
            journal.instance != Some(seen.id.0) && (current.is_some() || !journal.created(seen.id))
        })
        .collect();
    // Without a create on record nothing tells what one made.
    if !rest.is_empty() && !journal.attempts.is_empty() {
        ended.extend(Provenance::of(None, Some(journal), skew).sort(lease, rest)?.ours);
    }
    Ok(ended)
}

impl Engine {
    /// What the inventory shows of a lease beside the instance that its claim names, and is its own. Where that cannot be
    /// told it is not.
    pub(super) async fn twins(&self, claim: &Claim, inventory: &Inventory) -> Vec<InstanceId> {
        let (Ok(id), Some(current)) = (lease_id(claim), claim.instance_id()) else { return Vec::new() };
        let Some(journal) = self.store.journal(&id).await.ok().flatten() else { return Vec::new() };
        let late = late(&journal, &id, Some(current), inventory, self.client.clock_skew());
        late.unwrap_or_default().into_iter().map(|one| one.id).collect()
    }

    /// Before a lease is forgotten: destroys what else of it is recorded or still listed, so that nothing bills on which no
    /// claim leads to.
    ///
    /// # Errors
    /// Those of a release, with the claim kept.
    pub(super) async fn finish_twins(
        &self,
        id: &LeaseId,
        claim: &Claim,
        instance: InstanceId,
        journal: &mut Journal,
        call: &Call,
    ) -> Result<()> {
        let mut left = Vec::new();
        if journal.may_come_back(instance) {
            let inventory = self.whole_list(id, instance).await?;
            left = late(journal, id, Some(instance), &inventory, self.client.clock_skew())?;
        }
        self.finish_late(id, claim, journal, &left, call).await.map(|_| ())
    }

    /// The whole list, waited for as the proof of a destroy is.
    ///
    /// # Errors
    /// [`Code::ReleaseUnproved`] where it does not come, and the API's refusals.
    async fn whole_list(&self, id: &LeaseId, ended: InstanceId) -> Result<Inventory> {
        let deadline = Instant::now() + LINGER;
        loop {
            match self.client.list(&Filter::All).await {
                Ok(inventory) if inventory.complete => return Ok(inventory),
                Err(failure) if !failure.may_pass() => return Err(Error::from(failure)),
                _ if Instant::now() < deadline => tokio::time::sleep(Duration::from_secs(1)).await,
                _ => {
                    return Err(Error::new(
                        Code::ReleaseUnproved,
                        format!("instance {ended} is gone; whether a further one of lease {id} bills cannot be told"),
                    )
                    .hint(format!(
                        "the API's list is not complete: run `stop {id}` again in a minute, or look at the Vast console and \
                         then `forget {id}`"
                    ))
                    .with("lease", id.as_str()));
                }
            }
        }
    }

    /// Destroys, as surplus, these instances of a lease and those that a destroy was recorded for and never proved. Says
    /// whether any was still there.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`] before anything is sent; those of a release, with the steps open.
    pub(super) async fn finish_late(
        &self,
        id: &LeaseId,
        claim: &Claim,
        journal: &mut Journal,
        late: &[Instance],
        call: &Call,
    ) -> Result<ItemOutcome> {
        let now = self.unix_now();
        for one in late {
            journal.found_late(one.id, one.machine.map(|machine| machine.0));
            journal.begin(StepKind::Destroy, one.id, now);
        }
        if !late.is_empty() {
            self.store.write_journal(journal).await?;
        }
        let (mut outcome, mut failed) = (ItemOutcome::AlreadyGone, None);
        for surplus in journal.open_destroys(claim.instance_id()) {
            call.warn(format!("instance {surplus} is a further one of lease {id} and is destroyed too"));
            match self.finish_surplus(id, claim, journal, surplus, call).await {
                Ok(true) => outcome = ItemOutcome::Destroyed,
                Ok(false) => {}
                // One that cannot be ended holds up no other.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(outcome), Err)
    }

    /// Destroys one of them; whether it was still there.
    async fn finish_surplus(
        &self,
        id: &LeaseId,
        claim: &Claim,
        journal: &mut Journal,
        surplus: InstanceId,
        call: &Call,
    ) -> Result<bool> {
        let live = self.client.show(surplus).await?;
        if let Some(live) = &live {
            self.check_label(claim, live).await?;
        }
        let doomed = Doomed::new(id, surplus, Ground::Surplus);
        self.destroy_journalled(&doomed, Some(journal), Duration::ZERO, call).await?;
        Ok(live.is_some())
    }

    /// Destroys a listed instance of a lease whose claim names another one; `None` where it is not the lease's own, or
    /// somebody works on the lease.
    pub(super) async fn sweep_twin(
        &self,
        claim: &Claim,
        instance: InstanceId,
        inventory: &Inventory,
        call: &Call,
    ) -> Result<Option<ItemOutcome>> {
        let id = lease_id(claim)?;
        let Some(_lock) = self.store.operation_lock(&id).await? else { return Ok(None) };
        // Read again under the lock: both may have moved on.
        let (Some(claim), Some(mut journal)) =
            tokio::try_join!(self.store.claim(&id), self.store.journal(&id))?
        else {
            return Ok(None);
        };
        let mut late = late(&journal, &id, claim.instance_id(), inventory, self.client.clock_skew())?;
        late.retain(|one| one.id == instance);
        if claim.instance_id().is_none() || late.is_empty() {
            return Ok(None);
        }
        self.finish_late(&id, &claim, &mut journal, &late, call).await.map(Some)
    }

    /// Whether an instance whose lease has no claim here is a latecomer of ours. `account` is whose instances these are,
    /// where that was read.
    pub(super) async fn latecomer(
        &self,
        instance: InstanceId,
        inventory: &Inventory,
        account: Option<AccountId>,
    ) -> Result<Option<Latecomer>> {
        let seen = inventory.find(instance).and_then(Instance::ownership);
        let Some(id) = seen.and_then(|label| LeaseId::canonical(&label.lease)) else { return Ok(None) };
        if self.store.claim(&id).await?.is_some() {
            return Ok(None);
        }
        let Some(journal) = self.store.journal(&id).await? else { return Ok(None) };
        let late = late(&journal, &id, None, inventory, self.client.clock_skew())?;
        if late.iter().all(|one| one.id != instance) {
            return Ok(None);
        }
        let here = journal.api_url.as_deref() == Some(self.settings.api_url.as_str());
        let same = account.is_none_or(|account| journal.account == Some(account.0));
        // What a step was begun for under its claim was ours then; that it was wished for says nothing.
        let begun =
            journal.is_open(StepKind::Destroy, instance) && !journal.is_wish(StepKind::Destroy, instance);
        let ours = journal.drawn || begun;
        let collectable = ours
            && here
            && same
            && journal.account.is_some()
            && !self.may_be_adopted(&id, &journal, instance).await;
        Ok(Some(Latecomer { lease: id, collectable }))
    }

    /// Whether somebody on another machine may have taken the instance over: it has a key of this lease that none of its
    /// creates carried. Where the keys cannot be read, somebody may.
    async fn may_be_adopted(&self, id: &LeaseId, journal: &Journal, instance: InstanceId) -> bool {
        let Ok(attached) = self.client.keys(instance).await else { return true };
        let comment = format!("crabbox {id}");
        let body = |line: &str| onstart::key_body(line).map(str::to_owned);
        let carried: Vec<_> = journal.attempts.iter().filter_map(|one| body(one.key.as_deref()?)).collect();
        let of_lease = attached.iter().filter(|key| key.trim_end().ends_with(&comment));
        of_lease.filter_map(|key| body(key)).any(|key| !carried.contains(&key))
    }

    /// Gives a latecomer its claim again, and destroys it by the way of every lease. The step is in the journal before the
    /// claim: whatever dies in between is taken up by the next cleanup.
    ///
    /// # Errors
    /// [`Code::LeaseBusy`], [`Code::ClaimChanged`]; those of a release, with the claim kept.
    pub(super) async fn collect_latecomer(
        &self,
        id: &LeaseId,
        instance: &Instance,
        account: AccountId,
        inventory: &Inventory,
        call: &Call,
    ) -> Result<ItemOutcome> {
        let lock = self.store.operation_lock(id).await?.ok_or_else(|| {
            Error::new(Code::LeaseBusy, format!("another process works on lease {id}"))
                .hint("run `cleanup` again later")
        })?;
        if let Some(claim) = self.store.claim(id).await? {
            return Err(changed_claim(&claim));
        }
        // Judged again under the lock: it may have been adopted and dropped here meanwhile.
        let still = self.latecomer(instance.id, inventory, Some(account)).await?;
        if still.is_none_or(|late| !late.collectable) {
            return Err(Error::new(Code::ClaimChanged, format!("lease {id} was taken into use meanwhile"))
                .hint("it is left alone; `list --all` shows it"));
        }
        let (Some(mut journal), Some(label)) = (self.store.journal(id).await?, instance.ownership()) else {
            return Err(Error::new(Code::ClaimMissing, format!("lease {id} has no record here any more")));
        };
        journal.found_late(instance.id, instance.machine.map(|machine| machine.0));
        journal.begin(StepKind::Destroy, instance.id, self.unix_now());
        self.store.write_journal(&journal).await?;
        let mut claim = self.adopted_claim(id, &label, instance, account, false);
        let (state, recovery, _) = claim_state(State::Releasing);
        claim.labels.insert(key::STATE.into(), state.to_owned());
        claim.labels.extend(recovery.map(|recovery| (key::RECOVERY.to_owned(), recovery.to_owned())));
        if let Err(error) = self.store.create_claim(claim).await {
            if error.code() == Code::ClaimChanged {
                // Somebody else took it over: it is theirs to end.
                journal.voided(StepKind::Destroy, instance.id, IN_USE_AGAIN);
                self.note_or_warn(&journal, call).await;
            }
            return Err(error);
        }
        let lease = self.authorise(id, instance.id, "clean up", LOCKED_OUT, call).await?;
        Ok(ItemOutcome::from(self.destroy_lease(id, &lease, instance.id, Some(lock), call).await?))
    }

    /// What the watch sees in this inventory: each instance that should not be there, and what is to be done about it.
    /// Reads only.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`].
    pub(super) async fn look_for_latecomers(
        &self,
        inventory: &Inventory,
    ) -> Result<Vec<(InstanceId, String)>> {
        let account = self.client.known_account();
        let mut amiss = Vec::new();
        for journal in self.store.scan_journals().await? {
            let Some(id) = LeaseId::parse(&journal.lease) else { continue };
            let listed = |one: &InstanceId| inventory.find(*one).is_some_and(|seen| !seen.is_unloaded());
            let mut told: Vec<InstanceId> = Vec::new();
            let claim = self.store.claim(&id).await;
            let late = match &claim {
                Ok(Some(claim)) if claim.instance_id().is_some() => self.twins(claim, inventory).await,
                Ok(None) => {
                    let late = late(&journal, &id, None, inventory, self.client.clock_skew());
                    late.unwrap_or_default().into_iter().map(|one| one.id).collect()
                }
                // A claim that cannot be read is one that exists.
                Ok(Some(_)) | Err(_) => Vec::new(),
            };
            for one in late {
                let what = if journal.tombstones().any(|(gone, _)| gone == one) {
                    format!("instance {one} of lease {id} was proved gone and is listed again")
                } else {
                    format!("instance {one} was made by a create of lease {id} that had been given up")
                };
                let collectable = match &claim {
                    Ok(None) => {
                        self.latecomer(one, inventory, account).await?.is_some_and(|it| it.collectable)
                    }
                    _ => true,
                };
                let then = if collectable {
                    "`cleanup` destroys it".to_owned()
                } else {
                    format!("if nobody uses it elsewhere, `adopt {one}` takes it over")
                };
                amiss.push((one, format!("{what}: {then}")));
                told.push(one);
            }
            let back: Vec<InstanceId> = journal.tombstones().map(|(back, _)| back).collect();
            for back in back.into_iter().filter(listed) {
                if told.contains(&back) {
                    continue;
                }
                amiss.push((
                    back,
                    format!("instance {back} of lease {id} was proved gone and is listed again: see the Vast console"),
                ));
                told.push(back);
            }
            let rented = journal.attempts.iter().filter_map(|attempt| Some(InstanceId(attempt.instance?)));
            let stray = rented.filter(listed).find(|one| !told.contains(one));
            if let (Ok(None), Some(stray)) = (&claim, stray) {
                amiss.push((
                    stray,
                    format!(
                        "instance {stray} was rented for lease {id}, which has no claim any more: `adopt {stray}` takes \
                         it back"
                    ),
                ));
            }
        }
        Ok(amiss)
    }

    /// A journal that no proof of ours closes: others removed the claim and ended the instance, before our destroy or while
    /// it was being asked for, or a create was answered in the claim alone, which went with its instance. A day after its
    /// last record it goes, once everything of the lease was looked for twice. Nothing is destroyed, and what cannot be told
    /// stays.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`].
    pub(super) async fn bury_vanished(
        &self,
        inventory: &Inventory,
        until: Instant,
        call: &Call,
    ) -> Result<()> {
        let (now, until) = (self.unix_now(), until.min(Instant::now() + BURYING));
        let is_old = |journal: &Journal| {
            let since = journal.ended_at().unwrap_or(journal.created_at);
            let here =
                journal.api_url.is_some() && journal.account.is_some() && self.was_rented_by_us(journal);
            here && now - since > WATCH_SECS && !journal.is_closed()
        };
        let old = self.store.scan_journals().await?.into_iter().filter(is_old);
        let unseen: Vec<Journal> = old.filter(|journal| shows_nothing_of(inventory, journal)).collect();
        if unseen.is_empty() {
            return Ok(());
        }
        let burying = async {
            tokio::time::sleep(SECOND_LOOK).await;
            // Where it cannot be read nothing is proved, and nothing else has failed.
            let Ok(again) = self.client.list(&Filter::All).await else { return Ok(()) };
            for id in unseen.iter().filter_map(|journal| LeaseId::parse(&journal.lease)) {
                let Some(_alone) = self.store.operation_lock(&id).await? else { continue };
                if !matches!(self.store.claim(&id).await, Ok(None)) {
                    continue;
                }
                let Some(journal) = self.store.journal(&id).await?.filter(is_old) else { continue };
                // What no create was answered with has its label only.
                let mut gone = shows_nothing_of(&again, &journal);
                for missing in journal.unended() {
                    gone = gone && matches!(self.client.show(missing).await, Ok(None));
                }
                if gone && self.vouch().await.is_ok() {
                    self.store.remove_journal(&id).await?;
                }
            }
            Ok(())
        };
        // Nothing is lost where there is no time, or whoever asked gives up: all else is done, and the next cleanup does it.
        let in_time = async { Ok(timeout_at(until, burying).await.unwrap_or(Ok(()))) };
        call.until_cancelled(in_time).await.unwrap_or(Ok(()))
    }

    /// Whether what is read here is what the lease was rented by, as far as its journal knows that.
    fn was_rented_by_us(&self, journal: &Journal) -> bool {
        journal.api_url.as_ref().is_none_or(|url| *url == self.settings.api_url)
            && journal.account.is_none_or(|account| self.client.known_account() == Some(AccountId(account)))
    }

    /// Looks at the leases of the last day as [`Engine::look_for_latecomers`] does, and removes the journals that have
    /// nothing more to tell.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`].
    pub(super) async fn look_at_tombstones(
        &self,
        inventory: &Inventory,
    ) -> Result<Vec<(InstanceId, String)>> {
        let amiss = self.look_for_latecomers(inventory).await?;
        let now = self.unix_now();
        for journal in self.store.scan_journals().await? {
            let Some(id) = LeaseId::parse(&journal.lease) else { continue };
            let listed =
                journal.instances().any(|one| inventory.find(one).is_some_and(|seen| !seen.is_unloaded()));
            let labelled =
                |seen: &Instance| seen.ownership().is_some_and(|label| label.lease == journal.lease);
            let since = journal.ended_at().unwrap_or(journal.created_at);
            // What another account or another server shows says nothing of it.
            let over = journal.is_closed() && now - since > WATCH_SECS && self.was_rented_by_us(&journal);
            if over
                && inventory.complete
                && !listed
                && !inventory.instances.iter().any(labelled)
                && matches!(self.store.claim(&id).await, Ok(None))
                && let Some(_alone) = self.store.operation_lock(&id).await?
            {
                self.store.remove_journal(&id).await?;
            }
        }
        Ok(amiss)
    }

    /// Forgets a lease whose claim names no instance and of which nothing is left. Its journal goes too, unless a create of
    /// it was never answered or a machine was destroyed: then it is watched for a day. Returns the machine that was
    /// destroyed last, where there was one. To be called under the operation lock.
    ///
    /// # Errors
    /// Those of [`Engine::forget`].
    pub(super) async fn forget_unused(&self, id: &LeaseId) -> Result<Option<InstanceId>> {
        // One that cannot be read tells nothing of a latecomer.
        let journal = self.store.journal(id).await.ok().flatten();
        let Some(mut journal) = journal.filter(Journal::may_have_more) else {
            self.forget(id, None).await?;
            self.store.remove_journal(id).await?;
            return Ok(None);
        };
        if journal.give_up() {
            self.store.write_journal(&journal).await?;
        }
        self.forget(id, None).await?;
        Ok(journal.tombstones().last().map(|(gone, _)| gone))
    }
}

/// Whether a whole list shows neither what the journal names nor what bears the label of its lease.
fn shows_nothing_of(inventory: &Inventory, journal: &Journal) -> bool {
    let of_lease = |seen: &Instance| {
        seen.ownership().is_some_and(|label| label.lease == journal.lease)
            || journal.instances().any(|one| one == seen.id)
    };
    inventory.complete && !inventory.instances.iter().any(of_lease)
}

//! Cleanup: finishes what dead processes left behind, destroys expired leases, and forgets leases whose instance is
//! proved gone. One lease that cannot be cleaned up holds up no other.
//!
//! Nothing is destroyed or forgotten unless the whole list of instances could be read first; each single destroy reads
//! its instance again, and its claim after that.

use super::authorised::{Authorised, Doomed, Ground, Why};
pub use super::cleaned::{Cleaned, CleanupItem, CleanupRequest, CleanupSummary, ItemKind, ItemOutcome};
use super::gone::list_is_not_whole;
use super::provenance::ambiguous_label;
use super::recovery::{Patience, in_time};
use super::resolve::{check_account, lease_id};
use super::unfinished::in_use;
use super::{Call, Engine};
use crate::lease::{AccountId, Claim, InstanceId, LeaseId, Sweep, labels, sweep};
use crate::store::{ClaimScan, OperationGuard};
use crate::vast::client::Inventory;
use crate::vast::failure::LOCKED_OUT;
use crate::vast::{Filter, Instance};
use crate::{Code, Error, Result};
use futures_util::future::BoxFuture;
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// How long a whole cleanup may take: the longest single wait, a destroy that stalls in its window, and a minute.
const LIMIT: Duration = Duration::from_secs(300);

/// What one cleanup works on.
pub(super) struct Sweeping<'a> {
    pub account: AccountId,
    pub inventory: &'a Inventory,
    pub scan: &'a ClaimScan,
    /// Leases that were seen to already.
    pub settled: BTreeSet<String>,
    /// Further instances of leases that were seen to already.
    pub surplus: BTreeSet<InstanceId>,
    pub dry_run: bool,
    /// When it ends.
    pub until: Instant,
}

impl Engine {
    /// Cleans up. What cannot be done is part of the result, and nothing that follows waits for it.
    ///
    /// Where the call names a pond, expired and vanished leases of other ponds stay. What a dead process left
    /// unfinished is finished in any case, as by every command that may spend or destroy.
    ///
    /// It ends after five minutes: what is not done by then is part of the result, and the next cleanup goes on with it.
    /// Where it is cancelled, or the instances cannot be read a second time, the result holds what was done until then, and
    /// why it ended.
    ///
    /// # Errors
    /// Why the instances or claims could not be read as a whole; then nothing was changed.
    pub fn cleanup<'a>(
        &'a self,
        request: &'a CleanupRequest,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Cleaned>> {
        Box::pin(async move {
            let dry_run = request.dry_run;
            let until = Instant::now() + LIMIT;
            let (account, inventory) = self.read_everything(call).await?;
            let mut items = if dry_run {
                self.planned_recoveries().await?
            } else {
                self.recover_dead(None, Patience::Window(until), call).await
            };
            let mut problems = Vec::new();
            let swept =
                self.sweep_all(account, inventory, until, dry_run, &mut items, &mut problems, call).await;
            match swept {
                Err(error) if items.is_empty() => Err(error),
                swept => Ok(Cleaned::new(dry_run, items, problems, swept.err().as_ref())),
            }
        })
    }

    /// What follows the leases of dead processes: the expired ones, and those whose instance is gone.
    ///
    /// # Errors
    /// Why it ended before everything was seen to; `items` and `problems` hold what there was until then.
    #[expect(clippy::too_many_arguments, reason = "what a cleanup has read, and what it tells")]
    async fn sweep_all(
        &self,
        account: AccountId,
        mut inventory: Inventory,
        until: Instant,
        dry_run: bool,
        items: &mut Vec<CleanupItem>,
        problems: &mut Vec<String>,
        call: &Call,
    ) -> Result<()> {
        if !dry_run && !items.is_empty() {
            inventory = self.read_everything(call).await?.1;
        }
        let told: BTreeSet<String> = items.iter().map(|item| item.lease.clone()).collect();
        let surplus = items.iter().filter_map(CleanupItem::surplus).collect();
        let settles = items.iter().filter(|item| item.settles_its_lease());
        let mut settled: BTreeSet<String> = settles.map(|item| item.lease.clone()).collect();
        let scan = self.store.scan_claims().await?;
        if let Some(pond) = self.kept_to_pond() {
            let others = scan.claims.iter().filter(|claim| claim.pond().as_ref() != Some(pond));
            settled.extend(others.map(|claim| claim.lease_id.clone()));
        }
        for claim in scan.claims.iter().filter(|claim| claim.is_vast()) {
            let Some(id) = LeaseId::parse(&claim.lease_id) else { continue };
            if let Err(error) = self.store.journal(&id).await {
                let (slug, hint) = (&claim.slug, error.hint_text().unwrap_or_default());
                problems
                    .push(format!("what is unfinished about lease {slug} cannot be told: {error}; {hint}"));
            }
        }
        problems.extend(
            scan.problems
                .iter()
                .map(|problem| format!("claim file {} is left alone: {}", problem.file, problem.message)),
        );
        let amiss = if dry_run {
            self.look_for_latecomers(&inventory).await?
        } else {
            self.look_at_tombstones(&inventory).await?
        };
        let (inventory, scan) = (&inventory, &scan);
        let sweeping = Sweeping { account, inventory, scan, settled, surplus, dry_run, until };
        let mut swept = self.sweep_instances(&sweeping, call).await;
        // Of a lease that was told of already it is no news that it stays.
        swept.retain(|item| item.action != ItemKind::Skip || !told.contains(&item.lease));
        // What was seen to, or will be, is told as an item.
        let seen_to = |one: InstanceId| {
            let done = |item: &&CleanupItem| !matches!(item.outcome, ItemOutcome::Refused);
            swept.iter().filter(done).any(|item| item.instance == Some(one))
        };
        problems.extend(amiss.into_iter().filter(|(one, _)| !seen_to(*one)).map(|(_, what)| what));
        items.extend(swept);
        still_wanted(call)?;
        self.forget_vanished(&sweeping, items, call).await?;
        if self.kept_to_pond().is_none() {
            self.forget_keys(inventory, dry_run, items, call).await?;
        }
        if !dry_run {
            self.bury_vanished(inventory, until, call).await?;
        }
        Ok(())
    }

    /// Decides on every instance, in the order of the list. Leases are seen to side by side, the instances of one lease one
    /// after the other, those first which its claim does not name.
    async fn sweep_instances(&self, sweeping: &Sweeping<'_>, call: &Call) -> Vec<CleanupItem> {
        let named: BTreeSet<InstanceId> =
            sweeping.scan.claims.iter().filter_map(Claim::instance_id).collect();
        let mut leases: BTreeMap<String, Vec<(usize, &Instance)>> = BTreeMap::new();
        for (index, instance) in sweeping.inventory.instances.iter().enumerate() {
            if !instance.is_unloaded() {
                let lease = instance.ownership().map_or_else(|| instance.id.to_string(), |label| label.lease);
                leases.entry(lease).or_default().push((index, instance));
            }
        }
        let sweeps = leases.into_values().map(|mut instances| {
            instances.sort_by_key(|(index, instance)| (named.contains(&instance.id), *index));
            Box::pin(async move {
                let mut items = Vec::new();
                for (index, instance) in instances {
                    if call.is_cancelled() {
                        break;
                    }
                    items.extend(
                        self.sweep_instance(instance, sweeping, call).await.map(|item| (index, item)),
                    );
                }
                items
            })
        });
        let mut items: Vec<_> = join_all(sweeps).await.into_iter().flatten().collect();
        items.sort_by_key(|(index, _)| *index);
        items.into_iter().map(|(_, item)| item).collect()
    }

    /// Account and every instance.
    ///
    /// # Errors
    /// The API's refusals; [`Code::ApiMalformed`] for a list that is not complete.
    pub(super) async fn read_everything(&self, call: &Call) -> Result<(AccountId, Inventory)> {
        let all = Filter::All;
        let read = || async { tokio::try_join!(self.client.account(), self.client.list(&all)) };
        let reading = self.once_let_in("the account", LOCKED_OUT, call, read);
        let (account, inventory) = call.until_cancelled(reading).await?;
        if !inventory.complete {
            return Err(list_is_not_whole("nothing was changed"));
        }
        Ok((account.id, inventory))
    }

    /// What a dry run says of suspects whose process is dead at this moment.
    async fn planned_recoveries(&self) -> Result<Vec<CleanupItem>> {
        let mut items = Vec::new();
        for suspect in self.suspects(None).await? {
            if self.store.operation_lock(&suspect.id).await?.is_none() {
                continue;
            }
            let why = suspect.why;
            let journal = self.store.journal(&suspect.id).await.ok().flatten();
            let (reason, outcome) =
                if in_use(&suspect.claim, journal.as_ref(), why, self.cautious_now(journal.as_ref())) {
                    (why.but_in_use(), ItemOutcome::Skipped)
                } else {
                    (why.as_str().to_owned(), ItemOutcome::Planned)
                };
            items.push(CleanupItem::of_suspect(&suspect, reason).ended(Ok(outcome)));
        }
        Ok(items)
    }

    /// What the claim of a lease, and its journal beside it, say to a sweep.
    ///
    /// crabbox's `run --id` makes a claim say `keep=false` whatever it said before: what was asked for counts.
    pub(super) async fn sweep_of(&self, claim: &Claim) -> Sweep {
        // Without a readable journal the claim decides.
        let journal = match lease_id(claim) {
            Ok(id) => self.store.journal(&id).await.ok().flatten(),
            Err(_) => None,
        };
        let swept = sweep(&claim.labels, self.cautious_now(journal.as_ref()));
        if swept != Sweep::Delete {
            return swept;
        }
        let asked = journal.is_some_and(|journal| {
            journal.request.keep && !journal.attempts.is_empty() && journal.adopted_at.is_none()
        });
        if asked && !labels::keep(&claim.labels) { Sweep::Skip("keep=true".to_owned()) } else { swept }
    }

    /// The operation lock for a sweep; an error where somebody who lives is at work on a lease that is not usable yet,
    /// or no more.
    async fn lock_for_sweep(&self, claim: &Claim, dry_run: bool) -> Result<Option<OperationGuard>> {
        let id = lease_id(claim)?;
        let usable = matches!(claim.state(), "leased" | "ready" | "active" | "running")
            && claim.instance_id().is_some();
        if usable && dry_run {
            return Ok(None);
        }
        let lock = self.store.operation_lock(&id).await?;
        if lock.is_none() && !usable {
            return Err(Error::new(Code::LeaseBusy, format!("another process works on lease {id}"))
                .hint("run `cleanup` again later"));
        }
        Ok(lock)
    }

    /// Decides on one instance, and does it; `None` for an instance that is none of ours or has been seen to.
    async fn sweep_instance(
        &self,
        instance: &Instance,
        sweeping: &Sweeping<'_>,
        call: &Call,
    ) -> Option<CleanupItem> {
        let Sweeping { account, inventory, scan, settled, surplus, dry_run, until } = sweeping;
        let (account, dry_run, until) = (*account, *dry_run, *until);
        let vast = || scan.claims.iter().filter(|claim| claim.is_vast());
        let owner = instance.ownership();
        let claim = match &owner {
            Some(owner) => vast().find(|claim| claim.lease_id == owner.lease),
            // A label that names no lease leaves the question to the claims.
            None => vast().find(|claim| claim.instance_id() == Some(instance.id)),
        };
        let lease =
            claim.map(|claim| claim.lease_id.clone()).or_else(|| Some(owner.as_ref()?.lease.clone()))?;
        // Without a claim it is in no pond.
        let seen_to = settled.contains(&lease) || surplus.contains(&instance.id);
        if seen_to || (claim.is_none() && self.kept_to_pond().is_some()) {
            return None;
        }
        let name = match (&owner, claim) {
            (Some(owner), _) if !owner.slug.is_empty() => owner.slug.clone(),
            (_, Some(claim)) if !claim.slug.is_empty() => claim.slug.clone(),
            _ => instance.id.to_string(),
        };
        let item = |action, reason| CleanupItem {
            action,
            lease: lease.clone(),
            instance: Some(instance.id),
            name: name.clone(),
            reason,
            outcome: ItemOutcome::Skipped,
            error: None,
            code: None,
            why: None,
        };
        let Some(claim) = claim else {
            let swept = self.sweep_unclaimed(instance, sweeping, call).await;
            let swept = swept.transpose().unwrap_or_else(|| Err(missing_claim(&lease, instance.id, scan)));
            return Some(item(ItemKind::Delete, None).ended(swept));
        };
        if claim.instance_id().is_some_and(|id| id != instance.id) {
            if !self.twins(claim, inventory).await.contains(&instance.id) {
                return Some(item(ItemKind::Delete, None).ended(Err(stale_claim(claim, instance.id))));
            }
            let reason = Some(format!("a further instance of a lease that has {}", claim.cloud_id));
            if dry_run {
                return Some(item(ItemKind::Delete, reason).ended(Ok(ItemOutcome::Planned)));
            }
            let call = call.uncancelled();
            let swept = in_time(
                until,
                &claim.lease_id,
                &claim.slug,
                self.sweep_twin(claim, instance.id, inventory, &call),
            )
            .await;
            let Some(swept) = swept.transpose() else {
                return Some(item(ItemKind::Skip, Some("busy".to_owned())));
            };
            return Some(item(ItemKind::Delete, reason).ended(swept));
        }
        if let Sweep::Skip(reason) = self.sweep_of(claim).await {
            return Some(item(ItemKind::Skip, Some(reason)));
        }
        let swept = match self.lock_for_sweep(claim, dry_run).await {
            Err(error) if error.code() == Code::LeaseBusy => {
                return Some(item(ItemKind::Skip, Some("busy".to_owned())));
            }
            Err(error) => Err(error),
            Ok(_) if dry_run => self.foresee(claim, instance, account).await.map(|()| ItemOutcome::Planned),
            Ok(lock) => {
                let call = call.uncancelled();
                in_time(
                    until,
                    &claim.lease_id,
                    &claim.slug,
                    self.sweep_lease(claim, instance.id, lock, &call),
                )
                .await
            }
        };
        Some(item(ItemKind::Delete, None).ended(swept))
    }

    /// An instance whose lease has no claim here: destroyed where it is a latecomer of ours; `None` where it is not, or where
    /// that cannot be told.
    async fn sweep_unclaimed(
        &self,
        instance: &Instance,
        sweeping: &Sweeping<'_>,
        call: &Call,
    ) -> Result<Option<ItemOutcome>> {
        let Sweeping { account, inventory, dry_run, until, .. } = sweeping;
        let late = self.latecomer(instance.id, inventory, Some(*account)).await.ok().flatten();
        let Some(late) = late.filter(|late| late.collectable) else { return Ok(None) };
        if *dry_run {
            return Ok(Some(ItemOutcome::Planned));
        }
        call.warn(format!(
            "instance {} came to light after lease {} was over; it is destroyed",
            instance.id, late.lease
        ));
        let call = call.uncancelled();
        let collecting = self.collect_latecomer(&late.lease, instance, *account, inventory, &call);
        in_time(*until, late.lease.as_str(), late.lease.as_str(), collecting).await.map(Some)
    }

    /// What a real run would refuse of a lease whose claim names its instance, as far as can be told without a call.
    async fn foresee(&self, claim: &Claim, instance: &Instance, account: AccountId) -> Result<()> {
        check_account(claim, account, &self.settings.api_url, "clean up")?;
        if claim.instance_id().is_some() { self.check_label(claim, instance).await } else { Ok(()) }
    }

    /// Destroys an expired lease, if its claim, read after the cloud, still says so.
    async fn sweep_lease(
        &self,
        claim: &Claim,
        instance: InstanceId,
        lock: Option<OperationGuard>,
        call: &Call,
    ) -> Result<ItemOutcome> {
        let id = lease_id(claim)?;
        if claim.instance_id().is_none() {
            let account = self.once_let_in("the account", LOCKED_OUT, call, || self.client.account()).await?;
            check_account(claim, account.id, &self.settings.api_url, "clean up")?;
            let made = self.labelled(&id, &claim.slug).await?.0.ours;
            if made.iter().all(|one| one.id != instance) {
                return Err(ambiguous_label(&id, &[instance]));
            }
            // crabbox destroys an expired unanswered create without binding it; here the claim names it first.
            self.store
                .update_claim(&id, move |claim| {
                    if claim.instance_id().is_none() {
                        claim.set_instance(instance);
                    }
                    Ok(())
                })
                .await?;
        }
        let lease = Authorised {
            why: Why::Expired,
            ..self.authorise(&id, instance, "clean up", LOCKED_OUT, call).await?
        };
        self.still_due(&Doomed::new(&id, instance, Ground::Claimed).because(lease.why), &lease.claim, None)
            .await?;
        Ok(ItemOutcome::from(self.destroy_lease(&id, &lease, instance, lock, call).await?))
    }
}

/// The caller's wish to end, between two items.
pub(super) fn still_wanted(call: &Call) -> Result<()> {
    if call.is_cancelled() {
        return Err(
            Error::new(Code::Cancelled, "cancelled").hint("what was done stays done; `cleanup` goes on")
        );
    }
    Ok(())
}

fn missing_claim(lease: &str, instance: InstanceId, scan: &ClaimScan) -> Error {
    let file = format!("{lease}.json");
    if let Some(problem) = scan.problems.iter().find(|problem| problem.file == file) {
        return Error::new(
            Code::ClaimCorrupt,
            format!(
                "the claim of lease {lease} is unreadable; refusing destructive cleanup: {}",
                problem.message
            ),
        )
        .hint("repair the claim file, then run `cleanup` again")
        .with("instance", instance.0);
    }
    Error::new(
        Code::ClaimMissing,
        format!("lease={lease} has no local Vast claim; refusing destructive cleanup"),
    )
    .hint(format!("release it where it was made, or take it over with `adopt {instance}`"))
    .with("instance", instance.0)
}

fn stale_claim(claim: &Claim, instance: InstanceId) -> Error {
    Error::new(
        Code::IdentityMismatch,
        format!("refusing to release Vast instance {instance} from stale local claim"),
    )
    .hint(format!("the claim of {} names instance {}", claim.lease_id, claim.cloud_id))
    .with("instance", instance.0)
}

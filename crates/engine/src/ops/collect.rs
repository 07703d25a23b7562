//! What a cleanup collects on this machine: claims whose instance is proved gone, and keys that belong to no lease.

use super::cleanup::{CleanupItem, ItemKind, ItemOutcome, Sweeping, still_wanted};
use super::gone::{SECOND_LOOK, VISIBILITY};
use super::recovery::in_time;
use super::resolve::{check_account, lease_id};
use super::{Call, Engine, Phase};
use crate::lease::{AccountId, Claim, InstanceId, LeaseId};
use crate::store::ClaimScan;
use crate::vast::Instance;
use crate::vast::client::Inventory;
use crate::{Code, Error, Result};
use std::collections::BTreeSet;

impl Engine {
    /// Forgets the claims whose instance somebody else destroyed. The proof is the one for an instance that vanished:
    /// single read and complete list, twice, ten seconds apart - one pause for all of them.
    ///
    /// # Errors
    /// Why it ended before everything was seen to; `items` holds what was done until then.
    pub(super) async fn forget_vanished(
        &self,
        sweeping: &Sweeping<'_>,
        items: &mut Vec<CleanupItem>,
        call: &Call,
    ) -> Result<()> {
        let mut missing = Vec::new();
        for (claim, instance) in Self::vanished(sweeping.inventory, sweeping.scan, &sweeping.settled) {
            let item = CleanupItem::of_lease(ItemKind::Forget, claim, format!("instance {instance} is gone"));
            if !self.is_of_this_account(claim, sweeping.account) {
                continue;
            }
            match self.is_missing(claim, instance).await {
                Ok(true) if sweeping.dry_run => items.push(item.ended(Ok(ItemOutcome::Planned))),
                Ok(true) => missing.push((claim, instance, item)),
                // It is there after all, or too new to be seen.
                Ok(false) => {}
                Err(error) => items.push(item.ended(Err(error))),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        call.phase(Phase::Prove, format!("{} instances are not there; looking once more", missing.len()));
        let pause = async {
            tokio::time::sleep(SECOND_LOOK).await;
            Ok(())
        };
        call.until_cancelled(pause).await?;
        let again = self.read_everything(call).await;
        for (claim, instance, item) in missing {
            still_wanted(call)?;
            let outcome = match &again {
                Err(error) => Err(Error::new(error.code(), error.to_string())),
                Ok((_, again)) if again.find(instance).is_some() => continue,
                Ok(_) => {
                    let call = call.uncancelled();
                    let forgetting = self.forget_one(claim, instance, &call);
                    in_time(sweeping.until, &claim.lease_id, &claim.slug, forgetting).await
                }
            };
            if !matches!(outcome, Ok(ItemOutcome::Skipped)) {
                items.push(item.ended(outcome));
            }
        }
        Ok(())
    }

    /// Whether the single read misses an instance that is old enough to be seen.
    async fn is_missing(&self, claim: &Claim, instance: InstanceId) -> Result<bool> {
        let fresh = self.age_of_create(&lease_id(claim)?, claim).await? < VISIBILITY;
        Ok(!fresh && self.client.show(instance).await?.is_none())
    }

    /// The second single read, then claim and keys, with the proof in the journal.
    async fn forget_one(&self, claim: &Claim, instance: InstanceId, call: &Call) -> Result<ItemOutcome> {
        let id = lease_id(claim)?;
        let Some(lock) = self.store.operation_lock(&id).await? else {
            return Err(Error::new(Code::LeaseBusy, format!("another process works on lease {id}"))
                .hint("run `cleanup` again later"));
        };
        if self.client.show(instance).await?.is_some() {
            return Ok(ItemOutcome::Skipped);
        }
        self.vouch().await?;
        let (_lock, mut journal) = self.journal_of(&id, claim, Some(lock), call).await?;
        if let Some(journal) = &mut journal {
            journal.vanished(instance, self.unix_now());
            self.note_or_warn(journal, call).await;
            self.finish_twins(&id, claim, instance, journal, call).await?;
        }
        self.forget(&id, Some(instance)).await?;
        Ok(ItemOutcome::Forgotten)
    }

    /// Removes keys of leases that have neither claim nor instance. A key is ours where our operation lock stands, which
    /// is made before the key and never removed; while that lock is free, nobody is about to use the key.
    pub(super) async fn forget_keys(
        &self,
        inventory: &Inventory,
        dry_run: bool,
        items: &mut Vec<CleanupItem>,
        call: &Call,
    ) -> Result<()> {
        for id in self.store.unclaimed_keys().await? {
            still_wanted(call)?;
            let carries = |seen: &Instance| seen.ownership().is_some_and(|label| label.lease == id.as_str());
            if inventory.instances.iter().any(carries) {
                continue;
            }
            let removed = self.forget_key(&id, inventory, dry_run).await;
            let outcome = match removed {
                Ok(false) => continue,
                Ok(true) if dry_run => Ok(ItemOutcome::Planned),
                Ok(true) => Ok(ItemOutcome::Forgotten),
                Err(error) => Err(error),
            };
            items.push(CleanupItem::of_key(&id).ended(outcome));
        }
        Ok(())
    }

    async fn forget_key(&self, id: &LeaseId, inventory: &Inventory, dry_run: bool) -> Result<bool> {
        let Some(_alone) = self.store.operation_lock(id).await? else { return Ok(false) };
        if self.store.claim(id).await?.is_some() {
            return Ok(false);
        }
        if let Some(journal) = self.store.journal(id).await? {
            let rented = journal.attempts.iter().filter_map(|attempt| Some(InstanceId(attempt.instance?)));
            let adopted = journal.instance.map(InstanceId);
            let young = !journal.nothing_is_rented()
                && self.unix_now() - journal.last_create_at().unwrap_or(journal.created_at)
                    < i64::try_from(VISIBILITY.as_secs()).unwrap_or(i64::MAX);
            // Its instance may have lost its label, or be too new to be listed: the key may still be needed.
            if young || rented.chain(adopted).any(|instance| inventory.find(instance).is_some()) {
                return Ok(false);
            }
        }
        if !dry_run {
            self.store.remove_keys(id).await?;
        }
        Ok(true)
    }

    /// The claims among `scan` that name an instance which the complete list lacks, with it.
    fn vanished<'a>(
        inventory: &Inventory,
        scan: &'a ClaimScan,
        settled: &BTreeSet<String>,
    ) -> Vec<(&'a Claim, InstanceId)> {
        let labelled = |claim: &Claim| {
            let carries =
                |seen: &Instance| seen.ownership().is_some_and(|label| label.lease == claim.lease_id);
            inventory.instances.iter().any(carries)
        };
        scan.claims
            .iter()
            .filter(|claim| claim.is_vast() && !settled.contains(&claim.lease_id))
            .filter_map(|claim| Some((claim, claim.instance_id()?)))
            // An instance with the lease's label that the claim does not name is a question, not an answer.
            .filter(|(claim, instance)| inventory.find(*instance).is_none() && !labelled(claim))
            .collect()
    }

    /// Whether this claim belongs to the account and address in use.
    fn is_of_this_account(&self, claim: &Claim, account: AccountId) -> bool {
        check_account(claim, account, &self.settings.api_url, "clean up").is_ok()
    }
}

//! Cleanup: finishes what dead processes left behind, destroys expired leases, and forgets leases whose instance is
//! proved gone. One lease that cannot be cleaned up holds up no other.
//!
//! Nothing is destroyed or forgotten unless the whole list of instances could be read first; each single destroy reads
//! its instance again, and its claim after that.

use super::authorised::{Authorised, Doomed, Ground, Why};
use super::provenance::ambiguous_label;
use super::recovery::{Patience, in_use};
use super::resolve::{check_account, lease_id};
use super::{Call, Engine};
use crate::lease::{AccountId, Claim, InstanceId, LeaseId, Sweep, labels, sweep};
use crate::store::{ClaimScan, OperationGuard};
use crate::vast::client::Inventory;
use crate::vast::{Filter, Instance};
use crate::{Code, Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// How to clean up.
#[derive(Debug, Clone, Default)]
pub struct CleanupRequest {
    /// Only say what would be done: nothing is changed, here or at Vast.
    pub dry_run: bool,
}

/// What an item is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemKind {
    /// An instance that stays.
    Skip,
    /// An instance to be destroyed.
    Delete,
    /// A lease that a dead process left unfinished.
    Recover,
    /// A claim whose instance is gone.
    Forget,
    /// A key that belongs to no lease any more.
    ForgetKeys,
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemOutcome {
    /// It was left as it is.
    Skipped,
    /// It would be done without `dry_run`.
    Planned,
    /// Destroyed and proved gone.
    Destroyed,
    /// Somebody else had destroyed it; proved, and forgotten.
    AlreadyGone,
    /// Proved: nothing was ever rented; forgotten.
    NeverCreated,
    /// Stopped; its disk is billed.
    Stopped,
    /// An instance was found for a claim that named none.
    Bound,
    /// Claim and key are removed.
    Forgotten,
    /// Not done: no claim authorises it. A dry run says so of what a real run would refuse.
    Refused,
    /// Not done: it went wrong.
    Failed,
}

/// One decision of a cleanup and what came of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanupItem {
    /// What it is about.
    pub action: ItemKind,
    /// The lease.
    pub lease: String,
    /// The instance, where there is one.
    pub instance: Option<InstanceId>,
    /// Slug, or what the list shows.
    pub name: String,
    /// Why.
    pub reason: Option<String>,
    /// What became of it.
    pub outcome: ItemOutcome,
    /// Code, message and hint of a refusal or failure.
    pub error: Option<Value>,
    #[serde(skip)]
    code: Option<Code>,
}

/// How many items came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanupSummary {
    /// Instances destroyed, or found destroyed.
    pub destroyed: usize,
    /// Instances stopped.
    pub stopped: usize,
    /// Claims and keys removed without an instance.
    pub forgotten: usize,
    /// Left as they are.
    pub skipped: usize,
    /// What a real run would do.
    pub planned: usize,
    /// Refused for want of a claim; in a dry run what a real run would refuse.
    pub refused: usize,
    /// Went wrong.
    pub failed: usize,
}

/// A finished cleanup.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cleaned {
    /// Whether nothing was to be changed.
    pub dry_run: bool,
    /// Every decision, in order.
    pub items: Vec<CleanupItem>,
    /// What should be looked at by hand.
    pub problems: Vec<String>,
    /// The counts.
    pub summary: CleanupSummary,
}

impl CleanupItem {
    /// An item about a lease with a claim, nothing done yet.
    pub(super) fn of_lease(action: ItemKind, claim: &Claim, reason: impl Into<String>) -> Self {
        Self {
            action,
            lease: claim.lease_id.clone(),
            instance: claim.instance_id(),
            name: claim.slug.clone(),
            reason: Some(reason.into()),
            outcome: ItemOutcome::Skipped,
            error: None,
            code: None,
        }
    }

    /// An item about a key without a lease.
    pub(super) fn of_key(lease: &LeaseId) -> Self {
        Self {
            action: ItemKind::ForgetKeys,
            lease: lease.to_string(),
            instance: None,
            name: String::new(),
            reason: Some("no claim and no instance".to_owned()),
            outcome: ItemOutcome::Skipped,
            error: None,
            code: None,
        }
    }

    /// The item with its outcome.
    pub(super) fn ended(mut self, outcome: Result<ItemOutcome>) -> Self {
        match outcome {
            Ok(outcome) => self.outcome = outcome,
            Err(error) => {
                let refused = error.exit_code() == 2;
                self.outcome = if refused { ItemOutcome::Refused } else { ItemOutcome::Failed };
                self.code = Some(error.code());
                self.error = error.to_json().get_mut("error").map(Value::take);
            }
        }
        self
    }

    /// What went wrong, in one line.
    #[must_use]
    pub fn error_message(&self) -> Option<&str> {
        self.error.as_ref()?.get("message")?.as_str()
    }

    /// The line of the decision; for instances the one crabbox prints.
    #[must_use]
    pub fn line(&self) -> String {
        let reason = self.reason.as_deref().unwrap_or_default();
        let instance = self.instance.map(|id| id.to_string()).unwrap_or_default();
        let (lease, name) = (&self.lease, &self.name);
        match self.action {
            ItemKind::Skip => format!("skip server id={instance} name={name} reason={reason}"),
            ItemKind::Delete => format!("delete server id={instance} name={name}"),
            ItemKind::Recover => {
                let outcome = serde_json::to_value(self.outcome).unwrap_or_default();
                let outcome = outcome.as_str().unwrap_or_default();
                format!("recover lease={lease} name={name} outcome={outcome} reason={reason}")
            }
            ItemKind::Forget => format!("forget lease={lease} name={name} reason={reason}"),
            ItemKind::ForgetKeys => format!("forget keys lease={lease} reason={reason}"),
        }
    }
}

impl Cleaned {
    /// The document: the result, and as `error` what [`Cleaned::failure`] says, where it says something.
    #[must_use]
    pub fn to_json(&self) -> Value {
        Error::beside(self, self.failure())
    }

    fn new(dry_run: bool, items: Vec<CleanupItem>, problems: Vec<String>) -> Self {
        let mut summary = CleanupSummary::default();
        for item in &items {
            let count = match item.outcome {
                ItemOutcome::Skipped | ItemOutcome::Bound => &mut summary.skipped,
                ItemOutcome::Planned => &mut summary.planned,
                ItemOutcome::Destroyed | ItemOutcome::AlreadyGone => &mut summary.destroyed,
                ItemOutcome::Stopped => &mut summary.stopped,
                ItemOutcome::NeverCreated | ItemOutcome::Forgotten => &mut summary.forgotten,
                ItemOutcome::Refused => &mut summary.refused,
                ItemOutcome::Failed => &mut summary.failed,
            };
            *count += 1;
        }
        Self { dry_run, items, problems, summary }
    }

    /// The summary in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let CleanupSummary { destroyed, stopped, forgotten, skipped, planned, refused, failed } =
            self.summary;
        if self.dry_run {
            let counts = [(refused, "refused"), (failed, "failed")];
            let bad = counts.iter().filter(|(count, _)| *count > 0);
            let bad: String = bad.map(|(count, word)| format!(", {count} {word}")).collect();
            return format!("cleanup: dry run, {planned} to do, {skipped} skipped{bad}");
        }
        format!(
            "cleanup: {destroyed} destroyed, {stopped} stopped, {forgotten} forgotten, {skipped} skipped, \
             {refused} refused, {failed} failed"
        )
    }

    /// What kept the cleanup from being complete, if anything did: the first refusal or failure speaks for all. A dry
    /// run that foresees a refusal has done all it was asked for, as crabbox's.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        let counts = |item: &&CleanupItem| !(self.dry_run && item.outcome == ItemOutcome::Refused);
        let bad: Vec<&CleanupItem> =
            self.items.iter().filter(|item| item.code.is_some()).filter(counts).collect();
        let (first, others) = bad.split_first()?;
        let (code, message) = (first.code?, first.error_message()?);
        let more = others.len();
        let others = if more == 0 { String::new() } else { format!("; and {more} more") };
        let error = Error::new(code, format!("{message}{others}"));
        let hint = first.error.as_ref().and_then(|error| error.get("hint")?.as_str());
        Some(match hint {
            Some(hint) => error.hint(hint),
            None => error,
        })
    }
}

impl Engine {
    /// Cleans up. What cannot be done is part of the result, and nothing that follows waits for it.
    ///
    /// Where the call names a pond, expired and vanished leases of other ponds stay. What a dead process left
    /// unfinished is finished in any case, as by every command that may spend or destroy.
    ///
    /// # Errors
    /// Why the instances or claims could not be read as a whole; then nothing was changed.
    pub async fn cleanup(&self, request: &CleanupRequest, call: &Call) -> Result<Cleaned> {
        let dry_run = request.dry_run;
        let (account, mut inventory) = self.read_everything(call).await?;
        let mut items = if dry_run {
            self.planned_recoveries().await?
        } else {
            self.recover_dead(None, Patience::Window, call).await
        };
        if !dry_run && !items.is_empty() {
            inventory = self.read_everything(call).await?.1;
        }
        let mut settled: BTreeSet<String> = items.iter().map(|item| item.lease.clone()).collect();
        let scan = self.store.scan_claims().await?;
        if let Some(pond) = self.kept_to_pond() {
            let others = scan.claims.iter().filter(|claim| claim.pond().as_ref() != Some(pond));
            settled.extend(others.map(|claim| claim.lease_id.clone()));
        }
        let mut problems: Vec<String> = scan
            .problems
            .iter()
            .map(|problem| format!("claim file {} is left alone: {}", problem.file, problem.message))
            .collect();
        problems.extend(self.look_at_tombstones(&inventory).await?);
        for instance in inventory.instances.iter().filter(|instance| !instance.is_unloaded()) {
            still_wanted(call)?;
            if let Some(item) = self.sweep_instance(instance, account, &scan, &settled, dry_run, call).await {
                items.push(item);
            }
        }
        items.extend(self.forget_vanished(account, &inventory, &scan, &settled, dry_run, call).await?);
        if self.kept_to_pond().is_none() {
            items.extend(self.forget_keys(&inventory, dry_run, call).await?);
        }
        Ok(Cleaned::new(dry_run, items, problems))
    }

    /// Account and every instance.
    ///
    /// # Errors
    /// The API's refusals; [`Code::ApiMalformed`] for a list that is not complete.
    pub(super) async fn read_everything(&self, call: &Call) -> Result<(AccountId, Inventory)> {
        let read = async {
            let all = Filter::All;
            let read = tokio::try_join!(self.client.account(), self.client.list(&all));
            let (account, inventory) = read.map_err(Error::from)?;
            if !inventory.complete {
                return Err(Error::new(
                    Code::ApiMalformed,
                    "the list of instances is not complete: its total disagrees with its pages; nothing was changed",
                )
                .hint("try again in a minute"));
            }
            Ok((account.id, inventory))
        };
        call.until_cancelled(read).await
    }

    /// What a dry run says of suspects whose process is dead at this moment.
    async fn planned_recoveries(&self) -> Result<Vec<CleanupItem>> {
        let mut items = Vec::new();
        for (id, claim, why) in self.suspects(None).await? {
            if self.store.operation_lock(&id).await?.is_none() {
                continue;
            }
            let journal = self.store.journal(&id).await.ok().flatten();
            let (reason, outcome) =
                if in_use(&claim, journal.as_ref(), why, self.cautious_now(journal.as_ref())) {
                    (why.but_in_use(), ItemOutcome::Skipped)
                } else {
                    (why.as_str().to_owned(), ItemOutcome::Planned)
                };
            items.push(CleanupItem::of_lease(ItemKind::Recover, &claim, reason).ended(Ok(outcome)));
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
        account: AccountId,
        scan: &ClaimScan,
        settled: &BTreeSet<String>,
        dry_run: bool,
        call: &Call,
    ) -> Option<CleanupItem> {
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
        if settled.contains(&lease) || (claim.is_none() && self.kept_to_pond().is_some()) {
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
        };
        let refused = match claim {
            None => Some(missing_claim(&lease, instance.id, scan)),
            Some(claim) if claim.instance_id().is_some_and(|id| id != instance.id) => {
                Some(stale_claim(claim, instance.id))
            }
            Some(_) => None,
        };
        if let Some(error) = refused {
            return Some(item(ItemKind::Delete, None).ended(Err(error)));
        }
        if let Sweep::Skip(reason) = self.sweep_of(claim?).await {
            return Some(item(ItemKind::Skip, Some(reason)));
        }
        let swept = match self.lock_for_sweep(claim?, dry_run).await {
            Err(error) if error.code() == Code::LeaseBusy => {
                return Some(item(ItemKind::Skip, Some("busy".to_owned())));
            }
            Err(error) => Err(error),
            Ok(_) if dry_run => self.foresee(claim?, instance, account).await.map(|()| ItemOutcome::Planned),
            Ok(lock) => self.sweep_lease(claim?, instance.id, lock, &call.uncancelled()).await,
        };
        Some(item(ItemKind::Delete, None).ended(swept))
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
            let account = self.client.account().await.map_err(Error::from)?;
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
        let lease = Authorised { why: Why::Expired, ..self.authorise(&id, instance, "clean up").await? };
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

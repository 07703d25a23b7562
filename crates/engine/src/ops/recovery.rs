//! Recovery: what a process that died left behind is finished by the next one.
//!
//! Whether a process lives is told by its operation lock and nothing else. What it was about to do stands in the
//! journal, each step before it was sent and again with its proof; a step without proof whose lock is free is taken
//! up here. Nothing is sent to the API unless the local records show such a step.

use super::authorised::{Authorised, Doomed, Why};
use super::cleanup::{CleanupItem, ItemOutcome};
use super::gone::SECOND_LOOK;
use super::open::IN_USE_AGAIN;
use super::provenance::{Sorted, ambiguous_label};
use super::recover::{Recovered, tell_of_others};
use super::release::ReleaseOutcome;
use super::resolve::check_account;
use super::unfinished::{Unfinished, in_use, is_somebodys, is_usable, reached_since, unfinished};
use super::{Call, Engine, Phase};
use crate::lease::labels;
use crate::lease::{Claim, InstanceId, LeaseId, ReleaseAction, Sweep};
use crate::store::{Journal, OperationGuard, StepKind};
use crate::vast::failure::LOCKED_OUT;
use crate::{Code, Error, Result};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long all finished leases together may hold up a command that is about something else.
const HOLD_UP: Duration = Duration::from_secs(30);

/// A lease whose records show something unfinished.
pub(super) struct Suspect {
    pub id: LeaseId,
    pub claim: Claim,
    pub why: Unfinished,
    /// What is to be finished: the lease's own instance, or a surplus.
    pub instance: Option<InstanceId>,
}

/// How much time there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// One look: what is too young to be decided is left to the next command.
    Now,
    /// The visibility window is waited out, up to this moment.
    Window(Instant),
}

impl Patience {
    /// For how long a lock-out is waited out.
    fn locked_out(self) -> Duration {
        match self {
            Patience::Now => Duration::ZERO,
            Patience::Window(_) => LOCKED_OUT,
        }
    }
}

/// Work on one lease, up to this moment. What is cut short stays journalled, and the next command takes it up again.
///
/// # Errors
/// [`Code::ReleaseUnproved`] when it is not done by then.
pub(super) async fn in_time<T>(
    deadline: Instant,
    lease: &str,
    slug: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let late = || {
        Err(Error::new(Code::ReleaseUnproved, format!("finishing lease {lease} takes too long"))
            .hint(format!("`cleanup` or `stop {slug}` goes on with it")))
    };
    if Instant::now() >= deadline {
        return late();
    }
    timeout_at(deadline, work).await.unwrap_or_else(|_| late())
}

impl Engine {
    /// Finishes what dead processes left behind, except for the lease `except`, which the caller works on. Without
    /// such a lease only local files are read. Failures are part of what is returned: they hold up nobody.
    pub(super) async fn recover_dead(
        &self,
        except: Option<&LeaseId>,
        patience: Patience,
        call: &Call,
    ) -> Vec<CleanupItem> {
        let suspects = match self.suspects(except).await {
            Ok(suspects) => suspects,
            Err(error) => {
                call.warn(format!("what processes that died left behind cannot be looked for: {error}"));
                return Vec::new();
            }
        };
        let deadline = match patience {
            Patience::Now => Instant::now() + HOLD_UP,
            Patience::Window(until) => until,
        };
        // Side by side, so that one that is stuck takes no time from the others; the calls keep their pace together.
        let finishing = suspects.chunk_by(|one, next| one.id == next.id).map(|of_lease| {
            Box::pin(async move {
                let mut items = Vec::new();
                for suspect in of_lease {
                    let Suspect { id, claim, why, .. } = suspect;
                    // What went wrong with the first holds up the second no more than another lease; what the first left is
                    // no second.
                    let only = (*why != of_lease[0].why).then_some(*why);
                    let finishing = self.finish(id, only, patience, call);
                    let outcome = in_time(deadline, id.as_str(), &claim.slug, finishing).await;
                    let Some(outcome) = outcome.transpose() else { continue };
                    let reason = match outcome {
                        Ok(ItemOutcome::Skipped) => why.but_in_use(),
                        _ => why.as_str().to_owned(),
                    };
                    items.push(CleanupItem::of_suspect(suspect, reason).ended(outcome));
                }
                items
            })
        });
        join_all(finishing).await.into_iter().flatten().collect()
    }

    /// [`Engine::recover_dead`] at the start of a command that is about the lease `identifier`.
    pub(super) async fn recover_beside(&self, identifier: &str, call: &Call) {
        // A lease that cannot be found is reported by what follows.
        let named = self.find_claim(identifier).await.ok().flatten();
        let named = named.and_then(|claim| LeaseId::parse(&claim.lease_id));
        for one in self.recover_dead(named.as_ref(), Patience::Now, call).await {
            call.warn(one.line());
        }
    }

    /// Leases of ours whose records show something unfinished, without asking whether their process lives; one of which that
    /// is more than one thing comes as often, in a row. Local only.
    pub(super) async fn suspects(&self, except: Option<&LeaseId>) -> Result<Vec<Suspect>> {
        let scan = self.store.scan_claims().await?;
        let claims: Vec<Claim> = scan.claims.into_iter().filter(|claim| self.is_of_here(claim)).collect();
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let journals = self.store.scan_journals().await?;
        let mut suspects = Vec::new();
        for claim in claims {
            let Some(id) = LeaseId::parse(&claim.lease_id).filter(|id| Some(id) != except) else { continue };
            let journal = journals.iter().find(|journal| journal.lease == claim.lease_id);
            let own = claim.instance_id();
            for why in unfinished(&claim, journal) {
                let ended = |journal: &Journal| own.is_some_and(|own| journal.ended(own));
                let surplus = journal.filter(|journal| why == Unfinished::Surplus && !ended(journal));
                let surplus = surplus.and_then(|journal| journal.open_destroys(own).first().copied());
                let (id, claim) = (id.clone(), claim.clone());
                suspects.push(Suspect { id, claim, why, instance: surplus.or(own) });
            }
        }
        Ok(suspects)
    }

    /// Finishes the first thing that is unfinished about a lease, or this one only; `None` where somebody lives who does, or
    /// where there is nothing to do after all or yet.
    async fn finish(
        &self,
        id: &LeaseId,
        only: Option<Unfinished>,
        patience: Patience,
        call: &Call,
    ) -> Result<Option<ItemOutcome>> {
        if call.is_cancelled() {
            return Ok(None);
        }
        let Some(lock) = self.store.operation_lock(id).await? else { return Ok(None) };
        // Read again: the process may have ended its work between the first look and the lock.
        let Some(claim) = self.store.claim(id).await? else { return Ok(None) };
        let journal = self.store.journal(id).await?;
        let mut unfinished = unfinished(&claim, journal.as_ref()).into_iter();
        let Some(why) = unfinished.find(|why| only.is_none_or(|only| only == *why)) else { return Ok(None) };
        let locked_out = patience.locked_out();
        let account = self.once_let_in("the account", locked_out, call, || self.client.account()).await?;
        if check_account(&claim, account.id, &self.settings.api_url, "recover").is_err() {
            // Another key's lease: that key finishes it.
            return Ok(None);
        }
        if in_use(&claim, journal.as_ref(), why, self.cautious_now(journal.as_ref())) {
            if let (Some(mut journal), Some(instance)) = (journal, claim.instance_id())
                && journal.gives_up(instance)
            {
                // Its acquire died before it could say so.
                journal.voided(StepKind::Destroy, instance, IN_USE_AGAIN);
                journal.reached(instance);
                self.note_or_warn(&journal, call).await;
            }
            return Ok(Some(ItemOutcome::Skipped));
        }
        // What is begun here is brought to its end; only waiting for a create to show is not begun yet.
        let (asked, call) = (call, &call.uncancelled());
        let (slug, words, action) = (&claim.slug, why.as_str(), labels::release_action(&claim.labels));
        call.phase(Phase::Recover, format!("lease {id} ({slug}) was left by a process that died: {words}"));
        match (why, claim.instance_id()) {
            (Unfinished::Create, _) => self.finish_create(id, &claim, journal, lock, patience, asked).await,
            (Unfinished::Stop | Unfinished::Start, Some(instance)) => {
                self.finish_halt(id, why, instance, lock, locked_out, call).await.map(Some)
            }
            (Unfinished::Surplus, instance) => {
                let Some(mut journal) = journal else { return Ok(None) };
                if let Some(instance) = instance.filter(|one| journal.ended(*one)) {
                    // The lease's own is gone: with the surplus it is over.
                    return self.finish_destroy(id, why, instance, lock, locked_out, call).await.map(Some);
                }
                self.finish_late(id, &claim, &mut journal, &[], call).await.map(Some)
            }
            (Unfinished::Run, Some(instance)) if action == ReleaseAction::Stop => {
                self.finish_halt(id, why, instance, lock, locked_out, call).await.map(Some)
            }
            (_, Some(instance)) => {
                self.finish_destroy(id, why, instance, lock, locked_out, call).await.map(Some)
            }
            (_, None) => Ok(None),
        }
    }

    /// Destroys the instance of a lease that nobody finishes any more.
    pub(super) async fn finish_destroy(
        &self,
        id: &LeaseId,
        why: Unfinished,
        instance: InstanceId,
        lock: OperationGuard,
        locked_out: Duration,
        call: &Call,
    ) -> Result<ItemOutcome> {
        let lease = Authorised {
            why: Why::Left(why),
            ..self.authorise(id, instance, "recover", locked_out, call).await?
        };
        let mut journal = self.store.journal(id).await?;
        self.still_unfinished(id, &lease.claim, journal.as_ref(), why)?;
        if let (Unfinished::Acquire, Some(journal)) = (why, &mut journal) {
            self.note_cut_off(journal, instance, call).await;
        }
        let outcome = self.destroy_lease(id, &lease, instance, Some(lock), call).await?;
        Ok(ItemOutcome::from(outcome))
    }

    /// The claim was read after the cloud: somebody may have taken the lease into use meanwhile.
    fn still_unfinished(
        &self,
        id: &LeaseId,
        claim: &Claim,
        journal: Option<&Journal>,
        why: Unfinished,
    ) -> Result<()> {
        let same = unfinished(claim, journal).contains(&why);
        if !same || in_use(claim, journal, why, self.cautious_now(journal)) {
            return Err(changed(id));
        }
        Ok(())
    }

    /// Whether what was judged of a lease that is to end holds on this claim, the newest. `journal` may have the step by
    /// which it is to end in it already.
    ///
    /// # Errors
    /// [`Code::ClaimChanged`] where the lease was taken into use meanwhile.
    pub(super) async fn still_due(
        &self,
        doomed: &Doomed<'_>,
        claim: &Claim,
        journal: Option<&Journal>,
    ) -> Result<()> {
        let (id, instance) = (doomed.lease, doomed.instance);
        match doomed.why {
            Why::Asked => Ok(()),
            Why::Expired => match self.sweep_of(claim).await {
                Sweep::Delete => Ok(()),
                Sweep::Skip(reason) => {
                    Err(Error::new(Code::ClaimChanged, format!("lease {id} was used meanwhile: {reason}"))
                        .hint("it is left alone"))
                }
            },
            Why::Left(Unfinished::Start) if reached_since(claim, journal, instance) => Err(changed(id)),
            Why::Left(Unfinished::Start) => Ok(()),
            Why::Left(Unfinished::Create)
                if is_somebodys(claim, journal.map(|journal| journal.created_at), instance) =>
            {
                Err(changed(id))
            }
            Why::Left(Unfinished::Create) => Ok(()),
            // Without a journal it was judged, whatever was begun since.
            Why::Left(why @ Unfinished::Rollback) => self.still_unfinished(id, claim, None, why),
            Why::Left(why) => {
                let mut before = journal.cloned();
                if let Some(before) = &mut before {
                    let judged = match why {
                        Unfinished::Destroy => Some(StepKind::Destroy),
                        Unfinished::Stop => Some(StepKind::Stop),
                        _ => None,
                    };
                    let begun =
                        |kind| matches!(kind, StepKind::Destroy | StepKind::Stop) && Some(kind) != judged;
                    before
                        .steps
                        .retain(|step| !(begun(step.kind) && step.instance == instance.0 && step.is_open()));
                }
                self.still_unfinished(id, claim, before.as_ref(), why)
            }
        }
    }

    /// A stop is repeated; a start that never became ready is taken back, so that nothing bills unseen.
    async fn finish_halt(
        &self,
        id: &LeaseId,
        why: Unfinished,
        instance: InstanceId,
        lock: OperationGuard,
        locked_out: Duration,
        call: &Call,
    ) -> Result<ItemOutcome> {
        let lease = Authorised {
            why: Why::Left(why),
            ..self.authorise(id, instance, "recover", locked_out, call).await?
        };
        let (lock, mut journal) = self.journal_of(id, &lease.claim, Some(lock), call).await?;
        if why != Unfinished::Start {
            self.still_unfinished(id, &lease.claim, journal.as_ref(), why)?;
        }
        if why == Unfinished::Start && reached_since(&lease.claim, journal.as_ref(), instance) {
            // Somebody reached it since: the start came to its end after all.
            if let Some(journal) = &mut journal {
                journal.started(instance, self.unix_now());
                self.note_or_warn(journal, call).await;
            }
            return Ok(ItemOutcome::Skipped);
        }
        let stopped = self.halt_lease(id, lease, instance, lock, call).await?;
        if stopped != ReleaseOutcome::Stopped {
            return Ok(ItemOutcome::from(stopped));
        }
        if let Ok(Some(mut journal)) = self.store.journal(id).await {
            journal.voided(StepKind::Start, instance, "its process died; stopped again");
            self.note_or_warn(&journal, call).await;
        }
        Ok(ItemOutcome::from(stopped))
    }

    /// Finds out what became of a create: adopts and destroys its instance, or proves that there is none.
    async fn finish_create(
        &self,
        id: &LeaseId,
        claim: &Claim,
        journal: Option<Journal>,
        lock: OperationGuard,
        patience: Patience,
        call: &Call,
    ) -> Result<Option<ItemOutcome>> {
        let ours = journal.as_ref().is_some_and(|journal| !journal.attempts.is_empty());
        let (lock, mut journal) = self.journal_of(id, claim, Some(lock), call).await?;
        let window = self.window(id, claim, journal.as_ref()).await?;
        let found = match patience {
            Patience::Window(_) => {
                call.until_cancelled(self.recover_by_label(id, &claim.slug, window, call)).await?
            }
            Patience::Now => match self.look_once(id, claim, window, journal.as_mut(), call).await? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        let call = &call.uncancelled();
        if matches!(found, Recovered::Nothing) {
            let gone = self.forget_unused(id).await?;
            return Ok(Some(gone.map_or(ItemOutcome::NeverCreated, |_| ItemOutcome::AlreadyGone)));
        }
        if !ours {
            // crabbox's own: bound, so that it can be used and released, and left until it expires.
            return self.bind_only(id, found, call).await.map(Some);
        }
        let instance = self.take_over(id, found, journal.as_mut(), call).await?;
        if let Some(journal) = &mut journal {
            self.note_cut_off(journal, instance, call).await;
        }
        // From here on the claim names an instance: whoever uses it makes it theirs. One that says so already means nothing.
        let why = if is_usable(claim) { Why::Asked } else { Why::Left(Unfinished::Create) };
        let locked_out = patience.locked_out();
        let lease = Authorised { why, ..self.authorise(id, instance, "recover", locked_out, call).await? };
        let outcome = self.destroy_lease(id, &lease, instance, lock, call).await?;
        Ok(Some(ItemOutcome::from(outcome)))
    }

    /// The lease was never anybody's to use: the same acquire may be made again under its id.
    async fn note_cut_off(&self, journal: &mut Journal, instance: InstanceId, call: &Call) {
        journal.catch_up(instance);
        journal.discard("its process died");
        self.note_or_warn(journal, call).await;
    }

    /// One list: an instance with the label decides at once, an empty list only together with an earlier one.
    async fn look_once(
        &self,
        id: &LeaseId,
        claim: &Claim,
        window: Duration,
        journal: Option<&mut Journal>,
        call: &Call,
    ) -> Result<Option<Recovered>> {
        if journal.as_ref().is_some_and(|journal| journal.nothing_is_rented()) {
            return Ok(Some(Recovered::Nothing));
        }
        let (Sorted { ours, others, made_by, settled }, complete) = self.labelled(id, &claim.slug).await?;
        if !settled && !window.is_zero() {
            return Ok(None);
        }
        if let Some(found) = Recovered::of(ours, made_by) {
            tell_of_others(id, &others, call);
            return Ok(Some(found));
        }
        if !window.is_zero() || !complete {
            return Ok(None);
        }
        if !others.is_empty() {
            return Err(ambiguous_label(id, &others));
        }
        let Some(journal) = journal else { return Ok(None) };
        let now = self.unix_now();
        let again = i64::try_from(SECOND_LOOK.as_secs()).unwrap_or(i64::MAX);
        match journal.unseen_since {
            Some(since) if now - since >= again => {
                self.vouch().await?;
                Ok(Some(Recovered::Nothing))
            }
            Some(_) => Ok(None),
            None => {
                journal.unseen_since = Some(now);
                self.note_or_warn(journal, call).await;
                Ok(None)
            }
        }
    }

    async fn bind_only(&self, id: &LeaseId, found: Recovered, call: &Call) -> Result<ItemOutcome> {
        let Recovered::Found { instance, surplus, .. } = found else { return Ok(ItemOutcome::Skipped) };
        if !surplus.is_empty() {
            let all: Vec<InstanceId> = [instance.id].into_iter().chain(surplus).collect();
            return Err(ambiguous_label(id, &all));
        }
        let bound = instance.id;
        self.store
            .update_claim(id, move |claim| {
                if claim.instance_id().is_some_and(|other| other != bound) {
                    return Err(changed_claim(claim));
                }
                claim.set_instance(bound);
                Ok(())
            })
            .await?;
        call.warn(format!("lease {id} turned out to have instance {bound}; it bills until it is released"));
        Ok(ItemOutcome::Bound)
    }
}

impl From<ReleaseOutcome> for ItemOutcome {
    fn from(outcome: ReleaseOutcome) -> Self {
        match outcome {
            ReleaseOutcome::Destroyed => ItemOutcome::Destroyed,
            ReleaseOutcome::AlreadyGone => ItemOutcome::AlreadyGone,
            ReleaseOutcome::NeverCreated => ItemOutcome::NeverCreated,
            ReleaseOutcome::Stopped => ItemOutcome::Stopped,
            ReleaseOutcome::Kept => ItemOutcome::Skipped,
        }
    }
}

/// Somebody uses what was to end.
pub(super) fn changed(id: &LeaseId) -> Error {
    Error::new(Code::ClaimChanged, format!("lease {id} was taken into use meanwhile"))
        .hint("it is left alone; `list` shows it")
        .with(IN_USE, true)
}

/// The detail by which it is told from other changes of the claim.
const IN_USE: &str = "inUse";

/// Whether this is that error.
pub(super) fn is_in_use(error: &Error) -> bool {
    error.details().contains_key(IN_USE)
}

pub(super) fn changed_claim(claim: &Claim) -> Error {
    Error::new(Code::ClaimChanged, format!("the claim of lease {} changed meanwhile", claim.lease_id))
        .hint("run the command again")
}

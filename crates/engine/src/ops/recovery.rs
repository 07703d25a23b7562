//! Recovery: what a process that died left behind is finished by the next one.
//!
//! Whether a process lives is told by its operation lock and nothing else. What it was about to do stands in the
//! journal, each step before it was sent and again with its proof; a step without proof whose lock is free is taken
//! up here. Nothing is sent to the API unless the local records show such a step.

use super::authorised::{Authorised, Doomed, Ground, Why};
use super::cleanup::{CleanupItem, ItemKind, ItemOutcome};
use super::gone::SECOND_LOOK;
use super::provenance::{Sorted, ambiguous_label};
use super::recover::{Recovered, tell_of_others};
use super::release::ReleaseOutcome;
use super::resolve::check_account;
use super::{Call, Engine, Phase};
use crate::lease::labels;
use crate::lease::{Claim, InstanceId, LeaseId, ReleaseAction, State, Sweep, claim_state, parse_rfc3339};
use crate::store::{Journal, OperationGuard, StepKind};
use crate::{Code, Error, Result};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long all finished leases together may hold up a command that is about something else.
const HOLD_UP: Duration = Duration::from_secs(30);

/// The slowest heartbeat of a use, by whichever program; a shorter idle timeout makes it quicker.
const SLOWEST_BEAT: Duration = Duration::from_secs(300);

/// How late a heartbeat may be before the use counts as over.
const BEAT_MARGIN: Duration = Duration::from_secs(60);

/// How much time there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// One look: what is too young to be decided is left to the next command.
    Now,
    /// The visibility window is waited out.
    Window,
}

/// What a dead process had not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// A create whose answer nobody knows.
    Create,
    /// An acquire of which an instance is known.
    Acquire,
    /// A failed acquire of crabbox, whose instance could not be destroyed.
    Rollback,
    /// A destroy without proof.
    Destroy,
    /// A surplus instance under the same label, to be destroyed.
    Surplus(InstanceId),
    /// A stop without proof.
    Stop,
    /// A start that never became ready.
    Start,
    /// A run whose lease was for it alone.
    Run,
}

impl Unfinished {
    /// In words, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Unfinished::Create => "its create was never answered",
            Unfinished::Acquire => "its acquire was never finished",
            Unfinished::Rollback => "its failed acquire was never cleaned up",
            Unfinished::Destroy => "its destroy was never proved",
            Unfinished::Surplus(_) => "a surplus instance was never proved gone",
            Unfinished::Stop => "its stop was never proved",
            Unfinished::Start => "its start was never finished",
            Unfinished::Run => "the run it was for has died",
        }
    }

    /// Why it is left alone all the same.
    pub fn but_in_use(self) -> String {
        format!("{}, but it was used a moment ago", self.as_str())
    }
}

/// What is unfinished about a lease, as far as its records tell; that its process is dead is the caller's to know.
///
/// A claim without our journal is crabbox's: of those only the unanswered create and the failed clean-up of a lease
/// that was not to be kept are certainly nobody's work any more.
pub(super) fn unfinished(claim: &Claim, journal: Option<&Journal>) -> Option<Unfinished> {
    let Some(instance) = claim.instance_id() else {
        let known = journal.is_some() || claim.recovery() == claim_state(State::Intent).1;
        return known.then_some(Unfinished::Create);
    };
    let (kept, action) = (labels::keep(&claim.labels), labels::release_action(&claim.labels));
    let Some(journal) = journal else {
        // crabbox keeps the word of recovery when it uses such a lease after all: state and times tell the use.
        let (state, recovery, _) = claim_state(State::Releasing);
        let failed = claim.state() == state && claim.recovery() == recovery && is_unused(claim);
        return (failed && !kept).then_some(Unfinished::Rollback);
    };
    let open = |kind| journal.is_open(kind, instance);
    let surplus = journal.steps.iter().find(|step| step.kind == StepKind::Destroy && step.is_open());
    // Whoever used it since has made it ready: an unfinished acquire is told by the claim, too.
    let starting = matches!(claim.state(), "provisioning" | "ambiguous-create" | "rollback-cleanup");
    if open(StepKind::Destroy) {
        Some(Unfinished::Destroy)
    } else if starting && !journal.was_ready() && !journal.attempts.is_empty() && journal.adopted_at.is_none()
    {
        Some(Unfinished::Acquire)
    } else if let Some(step) = surplus {
        Some(Unfinished::Surplus(InstanceId(step.instance)))
    } else if open(StepKind::Start) {
        Some(Unfinished::Start)
    } else if open(StepKind::Stop) {
        Some(Unfinished::Stop)
    } else if journal.holder.is_some() && !kept && action != ReleaseAction::Keep {
        Some(Unfinished::Run)
    } else {
        None
    }
}

/// Whether nobody used a lease since it was claimed; what cannot be read may have been a use.
fn is_unused(claim: &Claim) -> bool {
    let (claimed, used) = (parse_rfc3339(&claim.claimed_at), parse_rfc3339(&claim.last_used_at));
    claimed.zip(used).is_some_and(|(claimed, used)| used <= claimed)
}

/// Whether somebody uses the lease since its holder, or its stop, was recorded. A use shows by its heartbeats. Those of a
/// run that died are like anybody's, so of its lease only a use by crabbox counts, which dates the lease anew: who joins
/// a run's own lease with this program shares its end, as when the run ends well.
pub(super) fn in_use(claim: &Claim, journal: Option<&Journal>, why: Unfinished, now: i64) -> bool {
    let Some(journal) = journal else { return false };
    let stops = journal.steps.iter().filter(|step| step.kind == StepKind::Stop && step.is_open());
    let since = match why {
        Unfinished::Run => journal.holder.as_ref().map(|holder| holder.since),
        Unfinished::Stop => stops.map(|step| step.requested_at).max(),
        _ => None,
    };
    let dated = labels::created_at(&claim.labels);
    if why == Unfinished::Run && dated.is_none_or(|dated| dated <= journal.created_at) {
        return false;
    }
    let touched = labels::last_touched_at(&claim.labels);
    let beat = labels::idle_timeout(&claim.labels).map_or(SLOWEST_BEAT, |idle| (idle / 3).min(SLOWEST_BEAT));
    let silent = i64::try_from((beat + BEAT_MARGIN).as_secs()).unwrap_or(i64::MAX);
    since.zip(touched).is_some_and(|(since, touched)| touched > since && now.saturating_sub(touched) < silent)
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
        let mut done = Vec::new();
        let deadline = Instant::now() + HOLD_UP;
        for (id, claim, why) in suspects {
            // What there is no time for stays journalled, and the next command takes it up.
            let late = patience == Patience::Now && Instant::now() >= deadline;
            if call.is_cancelled() || late {
                break;
            }
            let finishing = self.finish(&id, patience, call);
            let finished = match patience {
                Patience::Window => finishing.await,
                // What is cut short stays journalled, and the next command takes it up again.
                Patience::Now => timeout_at(deadline, finishing).await.unwrap_or_else(|_| {
                    Err(Error::new(Code::ReleaseUnproved, format!("finishing lease {id} takes too long"))
                        .hint(format!("`cleanup` or `stop {}` goes on with it", claim.slug)))
                }),
            };
            let outcome = match finished {
                Ok(None) => continue,
                Ok(Some(outcome)) => Ok(outcome),
                Err(error) => Err(error),
            };
            let reason = match outcome {
                Ok(ItemOutcome::Skipped) => why.but_in_use(),
                _ => why.as_str().to_owned(),
            };
            done.push(CleanupItem::of_lease(ItemKind::Recover, &claim, reason).ended(outcome));
        }
        done
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

    /// Leases of ours whose records show something unfinished, without asking whether their process lives. Local only.
    pub(super) async fn suspects(
        &self,
        except: Option<&LeaseId>,
    ) -> Result<Vec<(LeaseId, Claim, Unfinished)>> {
        let scan = self.store.scan_claims().await?;
        let ours = |claim: &Claim| {
            claim.is_vast() && claim.label(labels::key::VAST_API_URL) == Some(self.settings.api_url.as_str())
        };
        let claims: Vec<Claim> = scan.claims.into_iter().filter(ours).collect();
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let journals = self.store.scan_journals().await?;
        let mut suspects = Vec::new();
        for claim in claims {
            let Some(id) = LeaseId::parse(&claim.lease_id).filter(|id| Some(id) != except) else { continue };
            let journal = journals.iter().find(|journal| journal.lease == claim.lease_id);
            if let Some(why) = unfinished(&claim, journal) {
                suspects.push((id, claim, why));
            }
        }
        Ok(suspects)
    }

    /// Finishes one lease; `None` where somebody lives who does, or where there is nothing to do after all or yet.
    async fn finish(&self, id: &LeaseId, patience: Patience, call: &Call) -> Result<Option<ItemOutcome>> {
        let Some(lock) = self.store.operation_lock(id).await? else { return Ok(None) };
        // Read again: the process may have ended its work between the first look and the lock.
        let Some(claim) = self.store.claim(id).await? else { return Ok(None) };
        let journal = self.store.journal(id).await?;
        let Some(why) = unfinished(&claim, journal.as_ref()) else { return Ok(None) };
        let account = self.client.account().await.map_err(Error::from)?;
        if check_account(&claim, account.id, &self.settings.api_url, "recover").is_err() {
            // Another key's lease: that key finishes it.
            return Ok(None);
        }
        if in_use(&claim, journal.as_ref(), why, self.cautious_now(journal.as_ref())) {
            return Ok(Some(ItemOutcome::Skipped));
        }
        // What is begun here is brought to its end.
        let call = &call.uncancelled();
        let (slug, words, action) = (&claim.slug, why.as_str(), labels::release_action(&claim.labels));
        call.phase(Phase::Recover, format!("lease {id} ({slug}) was left by a process that died: {words}"));
        match (why, claim.instance_id()) {
            (Unfinished::Create, _) => self.finish_create(id, &claim, journal, lock, patience, call).await,
            (Unfinished::Stop | Unfinished::Start, Some(instance)) => {
                self.finish_halt(id, why, instance, lock, call).await.map(Some)
            }
            (Unfinished::Surplus(surplus), _) => {
                let (_lock, mut journal) = self.journal_of(id, &claim, Some(lock), call).await?;
                self.destroy_surplus(id, &claim, surplus, journal.as_mut(), call).await.map(Some)
            }
            (Unfinished::Run, Some(instance)) if action == ReleaseAction::Stop => {
                self.finish_halt(id, why, instance, lock, call).await.map(Some)
            }
            (_, Some(instance)) => self.finish_destroy(id, why, instance, lock, call).await.map(Some),
            (_, None) => Ok(None),
        }
    }

    /// Destroys the instance of a lease that nobody finishes any more.
    async fn finish_destroy(
        &self,
        id: &LeaseId,
        why: Unfinished,
        instance: InstanceId,
        lock: OperationGuard,
        call: &Call,
    ) -> Result<ItemOutcome> {
        let lease = Authorised { why: Why::Left(why), ..self.authorise(id, instance, "recover").await? };
        let mut journal = self.store.journal(id).await?;
        self.still_unfinished(id, &lease.claim, journal.as_ref(), why)?;
        if let (Unfinished::Acquire, Some(journal)) = (why, &mut journal) {
            self.note_cut_off(journal, call).await;
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
        let same = unfinished(claim, journal) == Some(why);
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
            Why::Left(Unfinished::Start) if matches!(claim.state(), "ready" | "running") => Err(changed(id)),
            Why::Left(Unfinished::Start) => Ok(()),
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
        call: &Call,
    ) -> Result<ItemOutcome> {
        let lease = Authorised { why: Why::Left(why), ..self.authorise(id, instance, "recover").await? };
        let usable = matches!(lease.claim.state(), "ready" | "running");
        let (lock, mut journal) = self.journal_of(id, &lease.claim, Some(lock), call).await?;
        if why != Unfinished::Start {
            self.still_unfinished(id, &lease.claim, journal.as_ref(), why)?;
        }
        if why == Unfinished::Start && usable {
            // Somebody reached it since: the start came to its end after all.
            if let Some(journal) = &mut journal {
                journal.proved(StepKind::Start, instance, self.unix_now());
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

    /// Destroys an instance that carries the lease's label beside the lease's own.
    async fn destroy_surplus(
        &self,
        id: &LeaseId,
        claim: &Claim,
        surplus: InstanceId,
        journal: Option<&mut Journal>,
        call: &Call,
    ) -> Result<ItemOutcome> {
        if let Some(live) = self.client.show(surplus).await? {
            self.check_label(claim, &live).await?;
        }
        let doomed = Doomed::new(id, surplus, Ground::Surplus);
        self.destroy_journalled(&doomed, journal, Duration::ZERO, call).await?;
        Ok(ItemOutcome::Destroyed)
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
            Patience::Window => self.recover_by_label(id, &claim.slug, window, call).await?,
            Patience::Now => match self.look_once(id, claim, window, journal.as_mut(), call).await? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        if matches!(found, Recovered::Nothing) {
            self.forget_unused(id).await?;
            return Ok(Some(ItemOutcome::NeverCreated));
        }
        if !ours {
            // crabbox's own: bound, so that it can be used and released, and left until it expires.
            return self.bind_only(id, found, call).await.map(Some);
        }
        let instance = self.take_over(id, found, journal.as_mut(), call).await?;
        if let Some(journal) = &mut journal {
            self.note_cut_off(journal, call).await;
        }
        let lease = self.authorise(id, instance, "recover").await?;
        let outcome = self.destroy_lease(id, &lease, instance, lock, call).await?;
        Ok(Some(ItemOutcome::from(outcome)))
    }

    /// The lease was never anybody's to use: the same acquire may be made again under its id.
    async fn note_cut_off(&self, journal: &mut Journal, call: &Call) {
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
        let (Sorted { ours, others }, complete) = self.labelled(id, &claim.slug).await?;
        if let Some(found) = Recovered::of(ours) {
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
        let Recovered::Found { instance, surplus } = found else { return Ok(ItemOutcome::Skipped) };
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

fn changed(id: &LeaseId) -> Error {
    Error::new(Code::ClaimChanged, format!("lease {id} was taken into use meanwhile"))
        .hint("it is left alone; `list` shows it")
}

pub(super) fn changed_claim(claim: &Claim) -> Error {
    Error::new(Code::ClaimChanged, format!("the claim of lease {} changed meanwhile", claim.lease_id))
        .hint("run the command again")
}

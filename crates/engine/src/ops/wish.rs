//! The wish to end a lease, or to keep it: on record before the API is asked about it, so that it outlives the process that
//! was asked.

use super::unfinished::end_to_come;
use super::{Call, Engine};
use crate::lease::labels::key;
use crate::lease::{Claim, InstanceId, LeaseId, ReleaseAction};
use crate::store::{Journal, OperationGuard, StepKind};
use crate::vast::Instance;
use crate::{Code, Error, Result};

/// A wish that is on record.
pub(super) struct Wish {
    /// What was asked for, as far as the claim tells.
    pub action: ReleaseAction,
    /// Of whoever has the lease to himself.
    pub lock: Option<OperationGuard>,
    written: Option<Written>,
}

/// The journal as it was, and as it was written. Also where that is said to have failed it may be on the disk.
struct Written {
    before: Option<Journal>,
    now: Journal,
    failed: bool,
}

impl Wish {
    /// Whether another process works on the lease, so that nothing could be written.
    pub(super) fn is_unheard(&self) -> bool {
        self.lock.is_none()
    }
}

/// Whether an error says that a lease is not to be ended, at least not by this call; any other says that it is not known.
pub(super) fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::LeaseNotFound
            | Code::ClaimChanged
            | Code::ClaimCorrupt
            | Code::IdentityMismatch
    )
}

impl Engine {
    /// Puts on record what is to become of an instance: who dies from here on leaves it to the next command. It authorises
    /// nothing; whoever goes on reads everything again. Nothing is written while a living process works on the lease, nor for
    /// one of another API.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`].
    pub(super) async fn wish(
        &self,
        id: &LeaseId,
        instance: InstanceId,
        claim: &Claim,
        action: ReleaseAction,
        lock: Option<OperationGuard>,
    ) -> Result<Wish> {
        let lock = match lock {
            None => self.store.operation_lock(id).await?,
            lock => lock,
        };
        let mut wish = Wish { action, lock, written: None };
        // A journal that cannot be read or written is told by the step itself.
        if wish.lock.is_none() || !self.is_of_here(claim) {
            return Ok(wish);
        }
        let Ok(before) = self.store.journal(id).await else { return Ok(wish) };
        let kind = step_of(action);
        if kind.is_none() && before.is_none() {
            return Ok(wish);
        }
        let mut journal = before.clone().unwrap_or_else(|| self.journal_from(id, claim));
        journal.wish(kind, instance, self.unix_now());
        if before.as_ref() != Some(&journal) {
            let failed = self.store.write_journal(&journal).await.is_err();
            wish.written = Some(Written { before, now: journal, failed });
        }
        Ok(wish)
    }

    /// A release failed beside a process that worked on the lease: what was asked for is put on record, if that one is done
    /// with it by now and left the instance.
    pub(super) async fn wish_again(&self, id: &LeaseId, instance: InstanceId, action: Option<ReleaseAction>) {
        let claim = self.store.claim(id).await.ok().flatten();
        let Some(claim) = claim.filter(|claim| claim.instance_id() == Some(instance)) else { return };
        let action = self.action_for(&claim, action);
        if step_of(action).is_some() {
            // One that cannot be written leaves what the error tells.
            let _ = self.wish(id, instance, &claim, action, None).await;
        }
    }

    /// Takes a wish back, if nothing was made of it yet: the records are as they were.
    pub(super) async fn withdraw(&self, id: &LeaseId, wish: &mut Wish, call: &Call) {
        let Some(Written { before, now, .. }) = wish.written.take() else { return };
        // The lock went with what was tried; who has it now goes on from what is on record.
        let lock = match &wish.lock {
            Some(_) => None,
            None => match self.store.operation_lock(id).await {
                Ok(Some(lock)) => Some(lock),
                _ => return,
            },
        };
        if !matches!(self.store.journal(id).await, Ok(Some(there)) if there == now) {
            return;
        }
        let restored = match before {
            Some(before) => self.store.write_journal(&before).await,
            None => self.store.remove_journal(id).await,
        };
        if let Err(error) = restored {
            call.warn(format!("the journal could not be written: {error}"));
        }
        drop(lock);
    }

    /// Says what becomes of a wish that could not be carried out.
    pub(super) fn tell_of_wish(&self, claim: &Claim, wish: &Wish, call: &Call) {
        let Some(end) = step_of(wish.action) else { return };
        if wish.written.as_ref().is_some_and(|written| !written.failed) {
            call.warn(format!("{} may bill on; {}", claim.slug, to_come(end, &claim.slug)));
        }
    }

    /// What is to become of an instance: what its user asked for, or what a process began that died. What stands still need
    /// not be stopped.
    pub(super) async fn ending(
        &self,
        instance: &Instance,
        claim: Option<&Claim>,
        journal: Option<&Journal>,
    ) -> Option<StepKind> {
        let ends = |end: &StepKind| *end == StepKind::Destroy || instance.is_running();
        if let Some(end) = journal.and_then(|journal| journal.ending(instance.id)) {
            return Some(end).filter(ends);
        }
        let claim = claim.filter(|claim| claim.instance_id() == Some(instance.id))?;
        self.end_by_the_dead(claim, journal).await.filter(ends)
    }

    /// What the next command makes of a lease whose process died.
    async fn end_by_the_dead(&self, claim: &Claim, journal: Option<&Journal>) -> Option<StepKind> {
        end_to_come(claim, journal, self.cautious_now(journal)).filter(|_| self.is_of_here(claim))?;
        // Whoever lives finishes it himself, and may have done so since these were read.
        let id = LeaseId::parse(&claim.lease_id)?;
        let _alone = self.store.operation_lock(&id).await.ok().flatten()?;
        let claim = self.store.claim(&id).await.ok().flatten()?;
        let journal = self.store.journal(&id).await.ok().flatten();
        end_to_come(&claim, journal.as_ref(), self.cautious_now(journal.as_ref()))
    }

    /// A touch keeps nothing that a process which died had for itself: whoever touches it is told.
    pub(super) async fn tell_of_the_dead(&self, id: &LeaseId, claim: &Claim, call: &Call) {
        let journal = self.store.journal(id).await.ok().flatten();
        if let Some(end) = self.end_by_the_dead(claim, journal.as_ref()).await {
            call.warn(format!(
                "{} was left by a process that died; {}",
                claim.slug,
                to_come(end, &claim.slug)
            ));
        }
    }

    /// Whether a claim belongs to the address that these settings name.
    pub(super) fn is_of_here(&self, claim: &Claim) -> bool {
        claim.is_vast() && claim.label(key::VAST_API_URL) == Some(self.settings.api_url.as_str())
    }

    /// A release failed: its error says what is to become of the instance all the same, or that nothing on record ends it.
    pub(super) async fn with_ending(
        &self,
        id: &LeaseId,
        instance: InstanceId,
        slug: &str,
        action: ReleaseAction,
        error: Error,
        call: &Call,
    ) -> Error {
        let end = self.store.journal(id).await.ok().flatten().and_then(|journal| journal.ending(instance));
        match end {
            // Whoever gave up is told so, and that it is done all the same.
            Some(end)
                if call.is_cancelled()
                    && error.retryable()
                    && !is_refusal(error.code())
                    && error.code() != Code::ReleaseUnproved =>
            {
                Error::new(Code::Cancelled, format!("cancelled before the answer came: {error}"))
                    .hint(format!("{slug} may bill on; {}", to_come(end, slug)))
                    .with("lease", id.as_str())
                    .with("ending", end.name())
            }
            Some(end) => error.with("ending", end.name()),
            None if step_of(action).is_some() && !is_refusal(error.code()) => {
                let unended =
                    format!("{slug} may bill on, and nothing on record ends it: run `stop {slug}` again");
                let hint = error.hint_text().map_or(unended.clone(), |hint| format!("{hint}; {unended}"));
                error.hint(hint)
            }
            None => error,
        }
    }
}

/// The step that a release takes; none where it is to keep the machine.
fn step_of(action: ReleaseAction) -> Option<StepKind> {
    match action {
        ReleaseAction::Keep => None,
        ReleaseAction::Stop => Some(StepKind::Stop),
        ReleaseAction::Destroy => Some(StepKind::Destroy),
    }
}

/// What becomes of a lease whose end is on record.
pub(super) fn to_come(end: StepKind, slug: &str) -> String {
    let ended = if end == StepKind::Destroy { "destroyed" } else { "stopped" };
    format!(
        "that it is to be {ended} is on record, and done by the next command that rents, starts or ends anything; \
         `stop --vast-release-action keep {slug}` calls it off"
    )
}

//! The wish to end a lease: on record before the API is asked anything, so that it outlives the process that was asked.

use super::authorised::{Doomed, Ground};
use super::{Call, Engine};
use crate::lease::{Claim, InstanceId, LeaseId, ReleaseAction};
use crate::store::{Journal, OperationGuard, StepKind};
use crate::{Code, Result};

/// The journal as it was before a wish was put on record.
#[derive(Clone)]
pub(super) struct Wish(Option<Box<Journal>>);

/// Whether an error says that a lease is not to be ended, at least not by this call; any other says that it is not known.
pub(super) fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::LeaseNotFound
            | Code::LeaseAmbiguous
            | Code::ClaimChanged
            | Code::ClaimCorrupt
            | Code::IdentityMismatch
            | Code::NotOurs
    )
}

impl Engine {
    /// Puts on record what is to become of an instance before anything is asked of the API: who dies from here on leaves it to
    /// the next command. It authorises nothing; whoever goes on reads everything again. Nothing is written for a lease that is
    /// to be kept, nor while a living process works on it.
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
    ) -> Result<(Option<OperationGuard>, Option<Wish>)> {
        let kind = match action {
            ReleaseAction::Keep => return Ok((lock, None)),
            ReleaseAction::Stop => StepKind::Stop,
            ReleaseAction::Destroy => StepKind::Destroy,
        };
        let lock = match lock {
            Some(lock) => Some(lock),
            None => self.store.operation_lock(id).await?,
        };
        // What cannot be read or written is told by the step itself.
        if lock.is_none() {
            return Ok((None, None));
        }
        let Ok(before) = self.store.journal(id).await else { return Ok((lock, None)) };
        let mut journal = before.clone().unwrap_or_else(|| self.journal_from(id, claim));
        Doomed::new(id, instance, Ground::Claimed).begin(kind, &mut journal, self.unix_now());
        let written = self.store.write_journal(&journal).await;
        Ok((lock, written.is_ok().then_some(Wish(before.map(Box::new)))))
    }

    /// Takes back what [`Engine::wish`] wrote: the records are as they were.
    pub(super) async fn withdraw(&self, id: &LeaseId, wish: Option<Wish>, call: &Call) {
        let restored = match wish {
            Some(Wish(Some(before))) => self.store.write_journal(&before).await,
            Some(Wish(None)) => self.store.remove_journal(id).await,
            None => Ok(()),
        };
        if let Err(error) = restored {
            call.warn(format!("the journal could not be written: {error}"));
        }
    }
}

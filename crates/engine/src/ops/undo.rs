//! The way back from an acquire that failed: nothing rented is left, or a claim that leads to it.

use super::authorised::{Doomed, Ground, Why};
use super::lease::Facts;
use super::recovery::{changed, is_in_use};
use super::rent::Acquiring;
use super::unfinished::{Unfinished, is_somebodys};
use super::verdict::goes_whoever_uses_it;
use super::{Call, Engine, Event};
use crate::lease::{self, Claim, InstanceId, Slug, State, moment};
use crate::store::{LeaseKey, OperationGuard};
use crate::{Code, Error, Result};
use tokio::time::Instant;

impl Engine {
    /// Ends what an acquire rented and nobody gets: as an acquire that fails. Who got in to it meanwhile, or works on it, keeps
    /// it. Returns `error` with what is left.
    pub(super) async fn take_back(
        &self,
        facts: &Facts,
        key: &LeaseKey,
        lock: Option<OperationGuard>,
        error: Error,
        call: &Call,
    ) -> Error {
        let (id, instance) = (&facts.id, Some(facts.instance));
        let lock = match lock {
            Some(lock) => Some(lock),
            None => self.store.operation_lock(id).await.ok().flatten(),
        };
        let (claim, journal) = (self.store.claim(id).await, self.store.journal(id).await);
        let (Some(_lock), Ok(Some(journal)), Some(slug)) = (lock, journal, Slug::normalise(&facts.slug))
        else {
            return left_over(error, facts);
        };
        // One that cannot be read is looked at again before anything is sent; one that is gone is told apart there.
        if claim.is_ok_and(|claim| claim.is_some_and(|claim| claim.instance_id() != instance)) {
            return left_over(error, facts);
        }
        let (id, key, keep) = (id.clone(), key.clone(), facts.keep);
        let (state, began, sent) = (State::Ready, Instant::now(), None);
        Acquiring { engine: self, id, slug, key, journal, state, instance, keep, began, sent }
            .undo(error, call)
            .await
    }
}

/// Somebody else has a hand in it, or its records cannot be read.
fn left_over(error: Error, facts: &Facts) -> Error {
    error
        .hint(format!(
            "`crabbox-vast status {0}` shows whether it bills; `crabbox-vast stop --vast-release-action destroy {0}` gives it back",
            facts.slug
        ))
        .with("lease", facts.id.as_str())
}

impl Acquiring<'_> {
    /// Destroys the instance of this attempt, proves it, and makes the claim an intent again.
    ///
    /// # Errors
    /// That of [`is_in_use`] where somebody got in: it stays theirs.
    pub(super) async fn discard(&mut self, why: &Error, call: &Call) -> Result<()> {
        if let Some(instance) = self.instance {
            let call = call.uncancelled();
            let (judged, begun) = (self.why(why.code()), Some(self.journal.created_at));
            let claim = self.engine.store.claim(&self.id).await.ok().flatten();
            if judged != Why::Asked && claim.is_some_and(|claim| is_somebodys(&claim, begun, instance)) {
                return Err(self.leave_to_user(instance, &call).await);
            }
            // Told apart from a release by whoever takes the lease up again: it may still get another machine.
            self.journal.discard(why.code().as_str());
            self.destroy(instance, judged, &call).await?;
        }
        self.state = lease::step(self.state, lease::Event::NextAttempt)?;
        let begun = self.journal.created_at;
        // Whoever used that machine has not got in to the next one.
        let unused = move |claim: &mut Claim| {
            claim.last_used_at = moment(begun);
            Ok(())
        };
        self.write_claim(None, unused).await?;
        self.instance = None;
        // The next attempt steps again from here.
        Ok(())
    }

    /// Ends a failed acquire: nothing rented is left, or a claim that leads to it.
    pub(super) async fn undo(mut self, error: Error, call: &Call) -> Error {
        let call = call.uncancelled();
        if error.code() == Code::ClaimMissing {
            return self.verify_abandoned(error, &call).await;
        }
        let cleaned = match (self.instance, self.state) {
            // What the create was answered with is somebody else's by its label: it is not ours to destroy, and what
            // the claim says of it is what the next `stop` checks.
            (Some(_), _) if error.code() == Code::IdentityMismatch => {
                return error.with("lease", self.id.as_str());
            }
            (Some(instance), _) => self.release_failed(instance, error.code(), &call).await,
            // Unresolved: the claim is what leads to the machine, should there be one.
            (None, State::Ambiguous) if error.code() == Code::LeaseAmbiguous => {
                return error.with("lease", self.id.as_str());
            }
            (None, State::Ambiguous) => {
                return error
                    .hint(format!("its claim is kept: run `crabbox-vast stop {}`", self.slug))
                    .with("lease", self.id.as_str());
            }
            (None, _) => self.engine.forget_unused(&self.id).await.map(|_| ()),
        };
        match cleaned {
            // Whoever interrupts a rental wants to know what it costs from now on.
            Ok(()) => match self.instance.filter(|_| error.code() == Code::Cancelled) {
                Some(instance) => error
                    .hint(format!("instance {instance} was destroyed, and is proved gone: nothing is left")),
                None => error,
            },
            Err(left) if left.code() == Code::ClaimMissing => self.verify_abandoned(error, &call).await,
            Err(left) if is_in_use(&left) => error
                .and(&left)
                .hint(format!(
                    "it is left to who has it, and bills: `crabbox-vast stop --vast-release-action destroy {}` gives it back",
                    self.slug
                ))
                .with("lease", self.id.as_str()),
            Err(left) => error
                .and(&left)
                .hint(format!("its claim is kept: run `crabbox-vast stop {}`", self.slug))
                .with("lease", self.id.as_str()),
        }
    }

    /// Gives back what was rented and will not be used.
    async fn release_failed(&mut self, instance: InstanceId, failed: Code, call: &Call) -> Result<()> {
        self.state = lease::step(self.state, lease::Event::AcquireFailed)?;
        let why = self.why(failed);
        let (id, begun, spares) = (self.id.clone(), self.journal.created_at, why != Why::Asked);
        let look = move |claim: &mut Claim| match spares && is_somebodys(claim, Some(begun), instance) {
            true => Err(changed(&id)),
            false => Ok(()),
        };
        match self.write_claim(Some(instance), look).await {
            Ok(()) => {}
            Err(used) if is_in_use(&used) => return Err(self.leave_to_user(instance, call).await),
            // A full disk is no reason to let the machine bill on; the claim names it already.
            Err(error) => call.warn(format!("the claim could not be marked: {error}")),
        }
        self.journal.discard(failed.as_str());
        call.event(Event::Releasing { lease: self.id.clone(), instance });
        self.destroy(instance, why, call).await?;
        self.engine.forget(&self.id, Some(instance)).await
    }

    /// Why what was rented is to go. Who got in to it while it was brought up keeps it, if it was not too dear or rented for a
    /// run alone.
    fn why(&self, failed: Code) -> Why {
        let goes = goes_whoever_uses_it(failed) || self.journal.holder.is_some();
        if goes { Why::Asked } else { Why::Left(Unfinished::Create) }
    }

    /// Records that the instance is not this acquire's any more, but that of who got in.
    async fn leave_to_user(&mut self, instance: InstanceId, call: &Call) -> Error {
        self.journal.reached(instance);
        self.engine.note_or_warn(&self.journal, call).await;
        changed(&self.id)
    }

    /// Destroys what a create of this acquire made, and proves it.
    async fn destroy(&mut self, instance: InstanceId, why: Why, call: &Call) -> Result<()> {
        let doomed = Doomed::new(&self.id, instance, Ground::Rented).because(why);
        let fresh = self.fresh();
        self.engine.destroy_journalled(&doomed, Some(&mut self.journal), fresh, call).await
    }

    /// Somebody removed the claim: what they did is looked at, nothing is destroyed or written without a claim.
    async fn verify_abandoned(&mut self, error: Error, call: &Call) -> Error {
        let Some(instance) = self.instance else { return error };
        match self.engine.prove_vanished(instance, self.fresh(), call).await {
            Ok(true) => {
                self.journal.vanished(instance, self.engine.unix_now());
                self.engine.note_or_warn(&self.journal, call).await;
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

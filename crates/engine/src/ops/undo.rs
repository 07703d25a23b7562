//! The way back from an acquire that failed: nothing rented is left, or a claim that leads to it.

use super::authorised::{Doomed, Ground, Why};
use super::rent::Acquiring;
use super::unfinished::{Unfinished, is_usable};
use super::verdict::is_too_dear;
use super::{Call, Event};
use crate::lease::{self, Claim, InstanceId, State};
use crate::{Code, Error, Result};

impl Acquiring<'_> {
    /// Destroys the instance of this attempt, proves it, and makes the claim an intent again.
    pub(super) async fn discard(&mut self, why: &Error, call: &Call) -> Result<()> {
        if let Some(instance) = self.instance {
            let call = call.uncancelled();
            // Told apart from a release by whoever takes the lease up again: it may still get another machine.
            self.journal.discard(why.code().as_str());
            self.destroy(instance, self.why(why.code()), &call).await?;
        }
        self.state = lease::step(self.state, lease::Event::NextAttempt)?;
        self.write_claim(None, |_| ()).await?;
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
            Err(left) if left.code() == Code::ClaimChanged => error
                .and(&left)
                .hint(format!(
                    "it runs on and bills: `list` shows who uses it, `crabbox-vast stop {}` gives it back",
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
        self.journal.discard(failed.as_str());
        self.state = lease::step(self.state, lease::Event::AcquireFailed)?;
        let (mut why, written) = (self.why(failed), self.written.clone());
        // Whoever got in meanwhile wrote a word of their own, which stays.
        let theirs = move |claim: &Claim| is_usable(claim) && written.as_ref() != Some(claim);
        let (spares, stays) = (why != Why::Asked, theirs.clone());
        let mark = self.write_claim_where(move |claim| !(spares && stays(claim)), Some(instance), |_| ());
        if let Err(error) = mark.await {
            call.warn(format!("the claim could not be marked: {error}"));
            // A full disk is no reason to let the machine bill on; the claim names it already.
            let claim = self.engine.store.claim(&self.id).await.ok().flatten();
            if !claim.is_some_and(|claim| theirs(&claim)) {
                why = Why::Asked;
            }
        }
        call.event(Event::Releasing { lease: self.id.clone(), instance });
        self.destroy(instance, why, call).await?;
        self.engine.forget(&self.id, Some(instance)).await
    }

    /// Why what was rented is to go. Who got in to it while it was brought up keeps it, if it was not too dear or rented for a
    /// run alone.
    fn why(&self, failed: Code) -> Why {
        let goes = is_too_dear(failed) || self.journal.holder.is_some();
        if goes { Why::Asked } else { Why::Left(Unfinished::Create) }
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

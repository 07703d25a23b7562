//! The way back from an acquire that failed: nothing rented is left, or a claim that leads to it.

use super::authorised::{Doomed, Ground};
use super::rent::Acquiring;
use super::{Call, Event};
use crate::lease::{self, InstanceId, State};
use crate::{Code, Error, Result};

impl Acquiring<'_> {
    /// Destroys the instance of this attempt, proves it, and makes the claim an intent again.
    pub(super) async fn discard(&mut self, why: &Error, call: &Call) -> Result<()> {
        if let Some(instance) = self.instance {
            let call = call.uncancelled();
            // Told apart from a release by whoever takes the lease up again: it may still get another machine.
            self.journal.discard(why.code().as_str());
            self.destroy(instance, &call).await?;
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
            Ok(()) => error,
            Err(left) if left.code() == Code::ClaimMissing => self.verify_abandoned(error, &call).await,
            Err(left) => error
                .and(&left)
                .hint(format!("its claim is kept: run `crabbox-vast stop {}`", self.slug))
                .with("lease", self.id.as_str()),
        }
    }

    async fn release_failed(&mut self, instance: InstanceId, why: Code, call: &Call) -> Result<()> {
        self.journal.discard(why.as_str());
        self.state = lease::step(self.state, lease::Event::AcquireFailed)?;
        // A full disk is no reason to let the machine bill on; the claim names it already.
        if let Err(error) = self.write_claim(Some(instance), |_| ()).await {
            call.warn(format!("the claim could not be marked: {error}"));
        }
        call.event(Event::Releasing { lease: self.id.clone(), instance });
        self.destroy(instance, call).await?;
        self.engine.forget(&self.id, Some(instance)).await
    }

    /// Destroys what a create of this acquire made, and proves it.
    async fn destroy(&mut self, instance: InstanceId, call: &Call) -> Result<()> {
        let doomed = Doomed::new(&self.id, instance, Ground::Rented);
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

//! Proving that an instance is gone. Absence has three answers: present, gone (proved), unknown.
//!
//! After our own accepted destroy one complete authenticated read without the instance is the proof. Without it (the
//! instance vanished by other hands) the single read and the complete list must both miss it, twice, ten seconds
//! apart, and not while a fresh instance may still be invisible. Either counts only if the same account is read after it.

use super::authorised::Doomed;
use super::{Call, Engine, Phase};
use crate::lease::{Claim, InstanceId, LeaseId};
use crate::store::{Journal, StepKind};
use crate::vast::client::{Accepted, Unsent};
use crate::vast::{Failure, Filter, Instance, Kind};
use crate::{Code, Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long a fresh instance may be missing from reads. Records appear after 5 to 10 s; a minute has been seen.
pub(super) const VISIBILITY: Duration = Duration::from_secs(90);

/// How long a destroyed record may linger before we report what we know.
pub(super) const LINGER: Duration = Duration::from_secs(120);

/// Time between the two looks at an instance that vanished by other hands.
pub(super) const SECOND_LOOK: Duration = Duration::from_secs(10);

/// How long a refused destroy is repeated.
const INSISTENCE: Duration = Duration::from_secs(60);

/// What one look showed.
pub(super) enum Sight {
    /// There.
    Present(Box<Instance>),
    /// Missing from a complete, authenticated read.
    Absent,
    /// The read was not complete.
    Unclear,
}

impl From<Option<Instance>> for Sight {
    /// What a single read showed.
    fn from(shown: Option<Instance>) -> Self {
        shown.map_or(Sight::Absent, |instance| Sight::Present(Box::new(instance)))
    }
}

impl Engine {
    /// Looks for one instance in the list. A server that refuses the filter is asked for everything.
    pub(super) async fn sight(&self, id: InstanceId) -> Result<Sight, Failure> {
        let inventory = match self.client.list(&Filter::Id(id)).await {
            Err(failure) if failure.kind == Kind::Rejected => self.client.list(&Filter::All).await?,
            other => other?,
        };
        Ok(match inventory.find(id) {
            Some(instance) => Sight::Present(Box::new(instance.clone())),
            None if inventory.complete => Sight::Absent,
            None => Sight::Unclear,
        })
    }

    /// Looks for one instance with whichever read may be sent sooner.
    pub(super) async fn glance(&self, id: InstanceId) -> Result<Sight, Failure> {
        if !self.client.show_is_sooner().await {
            return self.sight(id).await;
        }
        self.client.show(id).await.map(Sight::from)
    }

    /// Waits, after an accepted destroy, for the proof.
    pub(super) async fn prove_destroyed(&self, id: InstanceId, call: &Call) -> Result<()> {
        call.phase(Phase::Prove, format!("waiting until instance {id} is gone"));
        let deadline = Instant::now() + LINGER;
        loop {
            let last = match self.glance(id).await {
                Ok(Sight::Absent) => match self.vouch().await {
                    Ok(()) => return Ok(()),
                    Err(error) if error.retryable() || error.code() == Code::PermissionDenied => {
                        error.to_string()
                    }
                    Err(error) => return Err(unproved(id, &error.to_string()).because(error)),
                },
                Ok(Sight::Present(_)) => "it is still listed".to_owned(),
                Ok(Sight::Unclear) => "the list was not complete".to_owned(),
                Err(failure) if failure.may_pass() => failure.message,
                Err(failure) => return Err(unproved(id, &failure.message).because(failure.message)),
            };
            if Instant::now() >= deadline {
                return Err(unproved(id, &last));
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Proves that an instance which nobody here destroyed is gone. `false`: it is there after all.
    pub(super) async fn prove_vanished(
        &self,
        id: InstanceId,
        fresh_for: Duration,
        call: &Call,
    ) -> Result<bool> {
        if !fresh_for.is_zero() {
            call.phase(Phase::Prove, format!("instance {id} is new and may not be visible yet"));
            tokio::time::sleep(fresh_for).await;
        }
        for look in 0..2 {
            if look > 0 {
                call.phase(Phase::Prove, format!("instance {id} is not there; looking once more"));
                tokio::time::sleep(SECOND_LOOK).await;
            }
            let (shown, listed) = tokio::join!(self.client.show(id), self.sight(id));
            match (shown, listed) {
                (Ok(Some(_)), _) | (_, Ok(Sight::Present(_))) => return Ok(false),
                (Ok(None), Ok(Sight::Absent)) => {}
                (Err(failure), _) | (_, Err(failure)) => return Err(Error::from(failure)),
                (Ok(None), Ok(Sight::Unclear)) => return Err(unproved(id, "the list was not complete")),
            }
        }
        self.vouch().await?;
        Ok(true)
    }

    /// What makes a "not there" count: after it, a call that only a good key of the same account gets answered. An API
    /// that has lost sight of who asks shows nothing of anybody.
    ///
    /// # Errors
    /// Why the account could not be read; [`Code::IdentityMismatch`] for another account than before.
    pub(super) async fn vouch(&self) -> Result<()> {
        let before = self.client.known_account();
        let now = self.client.account().await.map_err(Error::from)?.id;
        if before.is_some_and(|before| before != now) {
            return Err(Error::new(
                Code::IdentityMismatch,
                format!("the API answered for account {now} in the middle of work for another one"),
            )
            .hint("nothing is taken for gone; check vast.apiUrl"));
        }
        Ok(())
    }
}

impl Engine {
    /// Destroys an instance that is ours and waits for the proof. `fresh` is how long it may still be invisible:
    /// until then "no such instance" is no answer, and the destroy is sent again.
    ///
    /// # Errors
    /// [`Code::ReleaseUnproved`], or why the API refused; the instance may then still run.
    async fn destroy_and_prove(
        &self,
        doomed: &Doomed<'_>,
        journal: Option<&Journal>,
        fresh: Duration,
        call: &Call,
    ) -> Result<()> {
        let id = doomed.instance;
        let began = Instant::now();
        call.phase(Phase::Release, format!("destroying instance {id}"));
        let sent = AtomicBool::new(false);
        // Whatever authorises a destruction is read last: before each call that may destroy, after each wait.
        let look = || async {
            self.last_look(doomed, journal).await?;
            sent.store(true, Ordering::Relaxed);
            Ok(())
        };
        loop {
            let failure = match self.client.destroy_if(id, look).await {
                Ok(Accepted::Yes) => return self.prove_destroyed(id, call).await,
                // A success that does not say so is not believed, but proved like one whose answer was lost.
                Ok(Accepted::Unsaid) => Failure::malformed(
                    &format!("DELETE /instances/{id}/"),
                    200,
                    "the answer does not say that the destroy was accepted",
                ),
                Err(Unsent::Failed(failure)) => failure,
                Err(Unsent::Withheld(error)) => {
                    // Somebody else may have proved it gone after what was sent here.
                    let left = fresh.saturating_sub(began.elapsed());
                    let sent = sent.load(Ordering::Relaxed);
                    let gone = sent && self.prove_vanished(id, left, call).await.unwrap_or(false);
                    return if gone { Ok(()) } else { Err(*error) };
                }
            };
            let unknown_there = failure.kind == Kind::NoSuchInstance;
            // A hammered API is known to answer 403 to everything for a while.
            let again = failure.may_pass() || matches!(failure.kind, Kind::Rejected | Kind::Scope);
            if !unknown_there && !again {
                // A bad key and the like: nothing a repetition could change, and nothing it would prove.
                return Err(Error::from(failure).with("instance", id.0));
            }
            if began.elapsed() < fresh {
                // Whatever was answered: until then that no read shows it proves nothing.
                call.phase(
                    Phase::Release,
                    format!("instance {id} may not be visible yet; destroying it again: {}", failure.message),
                );
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            // A destroy may have worked although its answer was lost or said otherwise.
            let absent = unknown_there || matches!(self.sight(id).await, Ok(Sight::Absent));
            if absent && self.prove_vanished(id, Duration::ZERO, call).await? {
                return Ok(());
            }
            if began.elapsed() > fresh + INSISTENCE {
                return Err(Error::from(failure)
                    .hint(format!(
                        "the instance may still be billing; its claim is kept: run `stop {id}` again in a minute"
                    ))
                    .with("instance", id.0));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// [`Engine::destroy_and_prove`] with its intent and its proof in the journal, where there is one to write. A
    /// record that cannot be written is no reason to let a machine bill on: the claim leads to it all the same.
    pub(super) async fn destroy_journalled(
        &self,
        doomed: &Doomed<'_>,
        mut journal: Option<&mut Journal>,
        fresh: Duration,
        call: &Call,
    ) -> Result<()> {
        let id = doomed.instance;
        if let Some(journal) = journal.as_deref_mut() {
            doomed.begin(StepKind::Destroy, journal, self.unix_now());
            self.note_or_warn(journal, call).await;
        }
        if let Err(error) = self.destroy_and_prove(doomed, journal.as_deref(), fresh, call).await {
            self.spare(StepKind::Destroy, doomed, journal, call).await;
            return Err(error);
        }
        if let Some(journal) = journal {
            journal.proved(StepKind::Destroy, id, self.unix_now());
            self.note_or_warn(journal, call).await;
        }
        Ok(())
    }

    pub(super) async fn note_or_warn(&self, journal: &Journal, call: &Call) {
        if let Err(error) = self.store.write_journal(journal).await {
            call.warn(format!("the journal could not be written: {error}"));
        }
    }

    /// Forgets a lease whose instance is proved gone: keys, then claim. The journal stays for a day as a tombstone.
    /// `None` is a lease for which nothing was ever rented.
    ///
    /// # Errors
    /// [`Code::ClaimChanged`], with nothing removed, when the claim means another instance by now.
    pub(super) async fn forget(&self, id: &LeaseId, instance: Option<InstanceId>) -> Result<()> {
        let same = move |claim: &Claim| {
            (claim.instance_id() == instance).then_some(()).ok_or_else(|| {
                Error::new(
                    Code::ClaimChanged,
                    format!("the claim of lease {} changed meanwhile", claim.lease_id),
                )
                .hint(format!("another process works on it: run `stop {}` again", claim.lease_id))
            })
        };
        // Looked at before the keys go: those of a lease that moved on to another machine are still needed.
        if let Some(claim) = self.store.claim(id).await? {
            same(&claim)?;
        }
        self.store.remove_keys(id).await?;
        self.store.remove_claim(id, same).await?;
        Ok(())
    }
}

/// What hangs on a whole list is not done on another one.
pub(super) fn list_is_not_whole(what: &str) -> Error {
    Error::new(
        Code::ApiMalformed,
        format!("the list of instances is not complete: its total disagrees with its pages; {what}"),
    )
    .hint("try again in a minute")
}

fn unproved(id: InstanceId, why: &str) -> Error {
    Error::new(Code::ReleaseUnproved, format!("cannot prove that instance {id} is gone: {why}"))
        .hint(format!("it may still be billing; its claim is kept: run `stop {id}` again in a minute"))
        .with("instance", id.0)
}

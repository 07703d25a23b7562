//! What may destroy or stop an instance: the cloud is read first and the claim last, and the step is in the journal
//! before it is sent and again with its proof.

use super::gone::{Sight, VISIBILITY};
use super::open::IN_USE_AGAIN;
use super::provenance::ambiguous_label;
use super::recovery::changed_claim;
use super::release::ReleaseOutcome;
use super::resolve::check_account;
use super::unfinished::{Unfinished, was_usable};
use super::{Call, Engine, Phase};
use crate::lease::labels::{self, key};
use crate::lease::{Claim, InstanceId, LeaseId, OwnershipLabel, ReleaseAction, State, claim_state};
use crate::store::{Journal, OperationGuard, StepKind};
use crate::vast::client::Unsent;
use crate::vast::decode::Account;
use crate::vast::failure::LOCKED_OUT;
use crate::vast::{Failure, Instance};
use crate::{Code, Error, Result};
use std::time::Duration;
use tokio::time::Instant;

/// How long an accepted stop may take to show.
const STOP_SHOWS: Duration = Duration::from_secs(120);

/// A lease as cloud and claim showed it, in this order.
pub(super) struct Authorised {
    /// The account whose key is used.
    pub account: Account,
    /// Read last.
    pub claim: Claim,
    /// The live instance; `None` where no read shows it.
    pub live: Option<Instance>,
    /// What was judged of it; [`Engine::authorise`] leaves it at [`Why::Asked`].
    pub why: Why,
}

/// Why a lease is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Whoever owns it says so: no use of it changes that.
    Asked,
    /// It has expired.
    Expired,
    /// A process that died left it.
    Left(Unfinished),
}

/// Why an instance may be destroyed for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// The claim names it.
    Claimed,
    /// A create of this process made it. The claim names it, or nothing where that could not be written.
    Rented,
    /// It is a further one of the lease's own creates, as the journal says; the claim does not name it.
    Surplus,
}

/// An instance that is to be destroyed, for which lease and on what ground.
pub(super) struct Doomed<'a> {
    pub lease: &'a LeaseId,
    pub instance: InstanceId,
    pub ground: Ground,
    pub why: Why,
}

impl<'a> Doomed<'a> {
    pub(super) fn new(lease: &'a LeaseId, instance: InstanceId, ground: Ground) -> Self {
        Self { lease, instance, ground, why: Why::Asked }
    }

    /// The same, as long as this still holds when the claim is read last.
    pub(super) fn because(self, why: Why) -> Self {
        Self { why, ..self }
    }

    /// Records that the step by which it ends is about to be taken. One that its owner asks for again is dated anew: the
    /// uses until then do not speak against it.
    pub(super) fn begin(&self, kind: StepKind, journal: &mut Journal, now: i64) {
        match (self.why, kind) {
            (Why::Left(Unfinished::Start), StepKind::Stop)
            | (Why::Left(Unfinished::Create), StepKind::Destroy) => {
                journal.begin_taking_back(kind, self.instance, now);
            }
            (why, _) => {
                journal.begin(kind, self.instance, now);
                if why == Why::Asked {
                    journal.asked_again(kind, self.instance, now);
                }
            }
        }
    }
}

impl Engine {
    /// Reads the claim once more, right before the call that destroys or stops, after every wait: nothing that is not
    /// authorised then is sent, and what was judged of the lease is judged again. `journal` is the copy of whoever holds the
    /// operation lock, which nobody else changes.
    ///
    /// # Errors
    /// [`Code::LeaseNotFound`], or [`Code::ClaimMissing`] for what this process rented; [`Code::ClaimChanged`],
    /// [`Code::IdentityMismatch`]; [`Code::LeaseAmbiguous`] for a surplus that no record here knows.
    pub(super) async fn last_look(&self, doomed: &Doomed<'_>, journal: Option<&Journal>) -> Result<()> {
        let Doomed { lease, instance, ground, .. } = *doomed;
        let account = match self.client.known_account() {
            Some(account) => account,
            None => self.client.account().await.map_err(Error::from)?.id,
        };
        let missing = if ground == Ground::Rented { Code::ClaimMissing } else { Code::LeaseNotFound };
        let read = self.store.claim(lease).await;
        // Somebody holds its lock, so it is there and says what it said: what our own create made does not bill on for it. A
        // read needs no lock.
        let held = matches!(&read, Err(error) if error.code() == Code::LeaseBusy);
        if held && ground == Ground::Rented && journal.is_some_and(|journal| journal.created(instance)) {
            let claims = self.store.scan_claims().await.map(|scan| scan.claims).unwrap_or_default();
            return match claims.iter().find(|claim| claim.lease_id == lease.as_str()) {
                Some(claim) => self.still_due(doomed, claim, journal).await,
                None => Ok(()),
            };
        }
        let claim = read?.ok_or_else(|| {
            Error::new(missing, format!("lease {lease} was released meanwhile")).with("instance", instance.0)
        })?;
        check_account(&claim, account, &self.settings.api_url, "release")?;
        let named = claim.instance_id();
        let same = match ground {
            Ground::Claimed => named == Some(instance),
            Ground::Rented => named.is_none_or(|named| named == instance),
            Ground::Surplus => named != Some(instance),
        };
        if !same || !claim.is_vast() {
            return Err(changed_claim(&claim));
        }
        let recorded = journal.is_some_and(|journal| {
            journal.created(instance) || journal.open_destroys(named).contains(&instance)
        });
        if ground == Ground::Surplus && !recorded {
            return Err(ambiguous_label(lease, &[instance]));
        }
        self.still_due(doomed, &claim, journal).await
    }

    /// Calls off the step that was begun on a lease which, as its claim says now, is in use again.
    pub(super) async fn spare(
        &self,
        kind: StepKind,
        doomed: &Doomed<'_>,
        journal: Option<&mut Journal>,
        call: &Call,
    ) {
        // Where the claim cannot be read, or names another instance, the step stands.
        let claim = self.store.claim(doomed.lease).await.ok().flatten();
        let claim = claim.filter(|claim| claim.instance_id() == Some(doomed.instance));
        let (Some(claim), Some(journal)) = (claim, journal) else { return };
        if self.still_due(doomed, &claim, Some(journal)).await.is_err() {
            journal.voided(kind, doomed.instance, IN_USE_AGAIN);
            if was_usable(&claim) && journal.disowns(doomed.instance) {
                journal.reached(doomed.instance);
            }
            self.note_or_warn(journal, call).await;
        }
    }

    /// Reads the cloud, then the claim, and checks one against the other. Whoever destroys or stops does it on the
    /// strength of this.
    ///
    /// # Errors
    /// [`Code::LeaseNotFound`], [`Code::ClaimChanged`], [`Code::IdentityMismatch`], or why the API could not be read.
    pub(super) async fn authorise(
        &self,
        id: &LeaseId,
        instance: InstanceId,
        action: &str,
        patience: Duration,
        call: &Call,
    ) -> Result<Authorised> {
        let what = format!("instance {instance}");
        let (account, live) =
            self.once_let_in(&what, patience, call, || self.account_and_instance(instance)).await?;
        // Read last, after the cloud: this is what authorises everything that follows.
        let claim =
            self.store.claim(id).await?.ok_or_else(|| {
                Error::new(Code::LeaseNotFound, format!("lease {id} was released meanwhile"))
            })?;
        check_account(&claim, account.id, &self.settings.api_url, action)?;
        if claim.instance_id() != Some(instance) || !claim.is_vast() {
            return Err(Error::new(Code::ClaimChanged, format!("the claim of lease {id} changed meanwhile"))
                .hint("run the command again"));
        }
        if let Some(live) = &live {
            self.check_label(&claim, live).await?;
        }
        Ok(Authorised { account, claim, live, why: Why::Asked })
    }

    async fn account_and_instance(&self, id: InstanceId) -> Result<(Account, Option<Instance>), Failure> {
        let (account, seen) = tokio::try_join!(self.client.account(), self.glance(id))?;
        let live = match seen {
            Sight::Present(live) => Some(*live),
            // What neither read shows is missing; an incomplete list alone says nothing.
            Sight::Absent | Sight::Unclear => self.client.show(id).await?,
        };
        Ok((account, live))
    }

    /// Destroys the instance of an authorised lease, proves it, and forgets the lease.
    ///
    /// # Errors
    /// [`Code::ReleaseUnproved`] and the API's refusals, with the claim kept.
    pub(super) async fn destroy_lease(
        &self,
        id: &LeaseId,
        lease: &Authorised,
        instance: InstanceId,
        lock: Option<OperationGuard>,
        call: &Call,
    ) -> Result<ReleaseOutcome> {
        let (_lock, mut journal) = self.journal_of(id, &lease.claim, lock, call).await?;
        // An instance that no read shows may be too fresh to be seen.
        let fresh = match lease.live {
            Some(_) => Duration::ZERO,
            None => VISIBILITY.saturating_sub(self.age_of_create(id, &lease.claim).await?),
        };
        let doomed = Doomed::new(id, instance, Ground::Claimed).because(lease.why);
        if let Some(journal) = journal.as_mut().filter(|journal| journal.disowns(instance))
            && was_usable(&lease.claim)
        {
            // It was its user's before it ends: the lease id is spent.
            journal.reached(instance);
        }
        self.destroy_journalled(&doomed, journal.as_mut(), fresh, call).await?;
        if let Some(journal) = &mut journal {
            self.finish_twins(id, &lease.claim, instance, journal, call).await?;
        }
        self.forget(id, Some(instance)).await?;
        Ok(if lease.live.is_some() { ReleaseOutcome::Destroyed } else { ReleaseOutcome::AlreadyGone })
    }

    /// Stops the instance of an authorised lease and reads it again until it shows.
    ///
    /// # Errors
    /// [`Code::ReleaseUnproved`] when no read shows the stop, and the API's refusals.
    pub(super) async fn stop_lease(
        &self,
        id: &LeaseId,
        lease: &Authorised,
        instance: InstanceId,
        lock: Option<OperationGuard>,
        call: &Call,
    ) -> Result<ReleaseOutcome> {
        let claim = &lease.claim;
        let doomed = Doomed::new(id, instance, Ground::Claimed).because(lease.why);
        let (_lock, mut journal) = self.journal_of(id, claim, lock, call).await?;
        if let Some(journal) = &mut journal {
            if lease.why == Why::Asked {
                // Where the wish could not be written, this is the last word all the same.
                journal.wish(Some(StepKind::Stop), instance, self.unix_now());
            }
            doomed.begin(StepKind::Stop, journal, self.unix_now());
            self.note_or_warn(journal, call).await;
        }
        call.phase(Phase::Release, format!("stopping instance {instance}"));
        let look = || self.last_look(&doomed, journal.as_ref());
        let stopped = self.client.set_state_if(instance, "stopped", look).await;
        match stopped {
            Ok(()) => {}
            Err(Unsent::Failed(failure)) => return Err(Error::from(failure)),
            Err(Unsent::Withheld(error)) => {
                self.spare(StepKind::Stop, &doomed, journal.as_mut(), call).await;
                return Err(*error);
            }
        }
        self.prove_stopped(instance, call).await?;
        let (state, _, remote) = claim_state(State::Stopped);
        self.store
            .update_claim(id, move |claim| {
                claim.labels.insert(key::STATE.into(), state.to_owned());
                claim.labels.insert(key::RELEASE_ACTION.into(), ReleaseAction::Stop.as_str().to_owned());
                Ok(())
            })
            .await?;
        if let Some(journal) = &mut journal {
            journal.proved(StepKind::Stop, instance, self.unix_now());
            // Whoever stopped it on purpose keeps it: no process goes with it any more.
            journal.holder = None;
            self.note_or_warn(journal, call).await;
        }
        let label = OwnershipLabel {
            lease: claim.lease_id.clone(),
            slug: claim.slug.clone(),
            state: remote.to_owned(),
        };
        if let Err(failure) = self.client.set_label(instance, &label.encode()).await {
            call.warn(format!("the remote label could not be set to stopped: {}", failure.message));
        }
        Ok(ReleaseOutcome::Stopped)
    }

    /// Stops the instance of an authorised lease. Who asks for a stop wants the disk to stay: an instance that no read
    /// shows, as a new one may not be, is forgotten only once it is proved that others destroyed it.
    ///
    /// # Errors
    /// Those of the release, with the claim kept.
    pub(super) async fn halt_lease(
        &self,
        id: &LeaseId,
        lease: Authorised,
        instance: InstanceId,
        lock: Option<OperationGuard>,
        call: &Call,
    ) -> Result<ReleaseOutcome> {
        let lease = if lease.live.is_some() {
            lease
        } else {
            let fresh = VISIBILITY.saturating_sub(self.age_of_create(id, &lease.claim).await?);
            // Until then nothing was changed.
            let vanished = call.until_cancelled(self.prove_vanished(instance, fresh, call)).await?;
            // That took its time: what authorises the rest is read again.
            let lease = Authorised {
                why: lease.why,
                ..self.authorise(id, instance, "stop", LOCKED_OUT, call).await?
            };
            if vanished && lease.live.is_none() {
                return self.destroy_lease(id, &lease, instance, lock, call).await;
            }
            lease
        };
        self.stop_lease(id, &lease, instance, lock, call).await
    }

    /// Reads an instance until it shows that it is stopped, or is going to be: the wish shows at once, the state later.
    pub(super) async fn prove_stopped(&self, instance: InstanceId, call: &Call) -> Result<()> {
        call.phase(Phase::Prove, format!("waiting until instance {instance} is stopped"));
        let deadline = Instant::now() + STOP_SHOWS;
        loop {
            let last = match self.glance(instance).await {
                Ok(Sight::Present(seen)) if is_stopped(&seen) => return Ok(()),
                Ok(Sight::Present(seen)) => format!("it shows {}", seen.shown_status()),
                Ok(Sight::Absent | Sight::Unclear) => "it is not to be seen".to_owned(),
                Err(failure) if failure.may_pass() => failure.message,
                Err(failure) => return Err(Error::from(failure).with("instance", instance.0)),
            };
            if Instant::now() >= deadline {
                return Err(Error::new(
                    Code::ReleaseUnproved,
                    format!("cannot prove that instance {instance} is stopped: {last}"),
                )
                .hint(format!(
                    "it may still be billing: run `stop --vast-release-action stop {instance}` again in a minute"
                ))
                .with("instance", instance.0));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// The journal of a lease for whoever holds its operation lock, made where there is none. Without the lock there is
    /// none to write: a living process has its own copy, and two writers would lose each other's steps. Then the claim is
    /// the record: it was there before anything was rented and stays until the proof, so that who dies after a destroy
    /// that stands in no journal leaves a lease that every command still finds.
    pub(super) async fn journal_of(
        &self,
        id: &LeaseId,
        claim: &Claim,
        lock: Option<OperationGuard>,
        call: &Call,
    ) -> Result<(Option<OperationGuard>, Option<Journal>)> {
        let lock = match lock {
            Some(lock) => Some(lock),
            None => self.store.operation_lock(id).await?,
        };
        if lock.is_none() {
            return Ok((None, None));
        }
        let journal = match self.store.journal(id).await {
            Ok(Some(journal)) => Some(journal),
            Ok(None) => Some(self.journal_from(id, claim)),
            Err(error) => {
                call.warn(error.to_string());
                None
            }
        };
        Ok((lock, journal))
    }

    /// A journal for a lease that has none, as one which crabbox made: whose it is, where, and since when, its claim tells.
    pub(super) fn journal_from(&self, id: &LeaseId, claim: &Claim) -> Journal {
        let since = labels::created_at(&claim.labels).unwrap_or_else(|| self.unix_now());
        Journal {
            account: claim.label(key::VAST_ACCOUNT_ID).and_then(|account| account.parse().ok()),
            api_url: claim.label(key::VAST_API_URL).map(str::to_owned),
            ..Journal::new(id, &claim.slug, &self.world.ambient.process(), since)
        }
    }

    /// The time for whoever destroys what is over, Unix seconds: our own clock, by which the lease was dated. One that
    /// stepped forward since ends nothing early: the vendor's did not step with it. That the two differ says nothing where
    /// they did so when the lease was rented; where that is not recorded, the later of them is not believed.
    pub(super) fn cautious_now(&self, journal: Option<&Journal>) -> i64 {
        let before = journal.and_then(Journal::skew).unwrap_or(0);
        let stepped = self.client.clock_skew().map_or(0, |skew| skew - before);
        self.unix_now() - stepped.max(0)
    }

    /// How long ago the create may have been sent; for ever, where its instance was seen since.
    pub(super) async fn age_of_create(&self, id: &LeaseId, claim: &Claim) -> Result<Duration> {
        // A journal that cannot be read leaves the claim's own time.
        let journal = self.store.journal(id).await.ok().flatten();
        if journal.as_ref().is_some_and(Journal::was_ready) {
            // It was seen, and reached over SSH: nothing about it is still to show.
            return Ok(Duration::MAX);
        }
        let attempt = journal.as_ref().and_then(|journal| journal.attempts.last());
        let since = attempt
            .map(|attempt| attempt.started_at)
            .or_else(|| Some(crate::lease::unix(crate::lease::parse_rfc3339(&claim.claimed_at)?)));
        // A clock that stepped back makes an age negative: then the whole window is waited for.
        let age = since.map_or(0, |since| self.unix_now() - since);
        // One that stepped forward makes it too great; the vendor's does not step with it.
        let sent = attempt.and_then(|attempt| attempt.vendor_at);
        let vendors = sent.zip(self.client.clock_skew()).map(|(at, skew)| self.unix_now() - skew - at);
        let age = vendors.map_or(age, |vendors| vendors.min(age));
        Ok(Duration::from_secs(u64::try_from(age).unwrap_or(0)))
    }
}

/// A lease is not taken over without a record of it: what a dead process had meant to do would be done all the same.
pub(super) fn unreadable_journal(id: &LeaseId) -> Error {
    Error::new(Code::ClaimCorrupt, format!("the journal of lease {id} is unreadable"))
        .hint("a lease is not taken over without a record of it: move the journal away, then try again")
}

/// Stopped, or asked to be and bound to get there.
fn is_stopped(instance: &Instance) -> bool {
    let asked = instance.intended_status.as_deref() == Some("stopped");
    let is = matches!(instance.actual_status.as_deref(), Some("exited" | "stopped"));
    asked || (is && instance.intended_status.is_none())
}

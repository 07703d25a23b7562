//! Renting: one create after another until an instance is usable, and the way back from each.

use super::authorised::{Doomed, Ground};
use super::boot::Booting;
use super::gone::VISIBILITY;
use super::lease::Machine;
use super::recover::Recovered;
use super::recovery::{changed_claim, is_in_use};
use super::spending::Spending;
use super::verdict::{Asked, Blame, blame};
use super::{Call, Engine, Event, Lease};
use crate::lease::labels::{self, key};
use crate::lease::{
    self, Claim, DollarsPerHour, InstanceId, LeaseId, MachineId, OwnershipLabel, Slug, State, claim_state,
};
use crate::store::{Attempt, Journal, LeaseKey, PROVED_NOTHING, StepKind};
use crate::vast::Kind;
use crate::vast::client::Created;
use crate::vast::decode::Account;
use crate::vast::request::CreateBody;
use crate::vast::select::{Candidate, Selection};
use crate::{Code, Error, Result};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Offers tried before giving up. The vendor publishes 4.5 s between creates, so more would take longer than a person
/// waits.
const MOST_ATTEMPTS: usize = 8;

/// With less left of its time to live a lease tries no further machine: it would hardly be up before its end.
const LEAST: Duration = Duration::from_secs(60);

/// One acquire from its first create on.
pub(super) struct Acquiring<'a> {
    pub engine: &'a Engine,
    pub id: LeaseId,
    pub slug: Slug,
    pub key: LeaseKey,
    pub journal: Journal,
    pub state: State,
    pub instance: Option<InstanceId>,
    pub keep: bool,
    pub began: Instant,
    /// When this process sent its first create and its last; none before it sent one.
    pub sent: Option<(Instant, Instant)>,
}

/// What the offers are chosen from.
pub(super) struct Choice {
    pub account: Account,
    pub selection: Selection,
    pub spending: Spending,
}

/// What was rented, as far as the choice of the offer or the journal tells.
pub(super) struct Rental {
    pub machine: Option<MachineId>,
    pub gpu: String,
    pub price: DollarsPerHour,
    pub interruptible: bool,
    /// At a bid that we chose, not the user.
    pub own_bid: bool,
}

/// How one attempt ended without an instance we can use.
pub(super) enum Next {
    /// Another offer may do; this machine will not.
    Another(Option<MachineId>, Error),
    /// None will.
    Stop(Error),
}

/// Whose an instance is.
enum Whose {
    Ours,
    Strangers,
    /// No read showed its label.
    Unknown,
}

impl Acquiring<'_> {
    pub(super) async fn run(mut self, choice: &Choice, call: &Call) -> Result<Lease> {
        let mut avoid = BTreeSet::new();
        let mut last = None;
        let mut lost = 0;
        for candidate in choice.selection.candidates.iter().take(MOST_ATTEMPTS) {
            if candidate.offer.machine.is_some_and(|machine| avoid.contains(&machine)) {
                continue;
            }
            let error = match self.attempt(candidate, &choice.account, call).await {
                Ok(lease) => return Ok(lease),
                Err(Next::Stop(error)) => return Err(self.undo(error, call).await),
                Err(Next::Another(machine, error)) => {
                    avoid.extend(machine);
                    error
                }
            };
            lost += usize::from(error.code() == Code::CreateAmbiguous);
            let enough = lost > 1;
            last = Some(error);
            if enough {
                break;
            }
        }
        let error = last.unwrap_or_else(|| self.engine.no_offers(&choice.selection, &choice.spending));
        Err(self.undo(error, call).await)
    }

    async fn attempt(
        &mut self,
        candidate: &Candidate,
        account: &Account,
        call: &Call,
    ) -> Result<Lease, Next> {
        if call.is_cancelled() {
            return Err(Next::Stop(Error::new(Code::Cancelled, "cancelled")));
        }
        self.engine.check_credit(account, candidate).map_err(Next::Stop)?;
        // The wait for the slot comes first: what is journalled is when the create was sent.
        let slot = async {
            self.engine.client.create_slot().await;
            Ok(())
        };
        call.until_cancelled(slot).await.map_err(Next::Stop)?;
        let what = self.create_body(candidate).map_err(Next::Stop)?;
        self.before_create(candidate, call).await.map_err(Next::Stop)?;
        if call.is_cancelled() {
            self.note("nothing: cancelled before it was sent".into(), None).await.map_err(Next::Stop)?;
            return Err(Next::Stop(Error::new(Code::Cancelled, "cancelled")));
        }
        let now = Instant::now();
        self.sent = Some((self.sent.map_or(now, |(first, _)| first), now));
        // Not cancelled: an answer that nobody reads would leave a machine to be searched for.
        match self.engine.client.create(candidate.offer.id, &what).await {
            Created::Instance(id) => self.created(id, "created").await.map_err(Next::Stop)?,
            Created::Unwanted(id, failure) => {
                match self.whose(id).await {
                    Whose::Ours => self.created(id, "created unwanted").await.map_err(Next::Stop)?,
                    Whose::Strangers => {
                        call.warn(format!(
                            "the refusal names instance {id}, which is not ours and is left alone"
                        ));
                        self.note(format!("nothing: {}", failure.message), None).await.map_err(Next::Stop)?;
                        return Err(Next::Another(None, Error::from(failure)));
                    }
                    Whose::Unknown => {
                        self.step(lease::Event::CreateUnclear)?;
                        // The number is kept: should no label ever show, it is all there is to look for.
                        if let Some(attempt) = self.journal.attempts.last_mut() {
                            attempt.named = Some(id.0);
                        }
                        self.note(format!("ambiguous: names instance {id}: {}", failure.message), None)
                            .await
                            .map_err(Next::Stop)?;
                        self.recover(failure.message.clone(), VISIBILITY, call).await?;
                    }
                }
                let stop = failure.kind == Kind::BadPrice && self.users_bid(candidate);
                let error = Error::from(failure);
                if stop {
                    return Err(Next::Stop(error));
                }
                self.discard(&error, call).await.map_err(Next::Stop)?;
                return Err(Next::Another(candidate.offer.machine, error));
            }
            Created::Nothing(failure) => {
                self.note(format!("nothing: {}", failure.message), None).await.map_err(Next::Stop)?;
                let another = match failure.kind {
                    Kind::OfferGone | Kind::NotSent => true,
                    // A price that the user chose is the user's to change.
                    Kind::BadPrice => !self.users_bid(candidate),
                    _ => false,
                };
                let message = failure.message.clone();
                let error = Error::from(failure);
                if !another {
                    return Err(Next::Stop(error));
                }
                call.event(Event::OfferGone { offer: candidate.offer.id, message });
                return Err(Next::Another(None, error));
            }
            Created::Unknown(failure) => {
                self.step(lease::Event::CreateUnclear)?;
                self.note(format!("ambiguous: {}", failure.message), None).await.map_err(Next::Stop)?;
                self.recover(failure.message, VISIBILITY, call).await?;
            }
        }
        let Some(instance) = self.instance else {
            return Err(Next::Stop(Error::new(Code::Internal, "an instance was expected")));
        };
        call.event(Event::Created { lease: self.id.clone(), instance });
        // What a lost create made may be another one's than the last.
        let made = self.journal.attempt_of(instance);
        let rental = Rental {
            machine: made.map_or(candidate.offer.machine, |made| made.machine.map(MachineId)),
            gpu: candidate.offer.gpu_name.clone(),
            price: made.map_or(candidate.price, |made| DollarsPerHour(made.price)),
            interruptible: candidate.bid.is_some(),
            own_bid: candidate.bid.is_some() && !self.users_bid(candidate),
        };
        self.start(instance, &rental, call).await
    }

    /// Whether this is the bid that the user chose: then it is not ours to try elsewhere.
    fn users_bid(&self, candidate: &Candidate) -> bool {
        candidate.bid.is_some() && self.engine.settings.bid.is_some()
    }

    /// Brings a rented instance up; one that will not do because of its machine or offer is destroyed, with the proof.
    pub(super) async fn start(
        &mut self,
        instance: InstanceId,
        rental: &Rental,
        call: &Call,
    ) -> Result<Lease, Next> {
        let error = match self.bring_up(instance, rental, call).await {
            Ok(lease) => return Ok(lease),
            Err(error) => self.engine.with_log(error, instance, call).await,
        };
        let blame = blame(error.code(), rental.own_bid);
        self.engine.remember(rental.machine, &error, call).await;
        // A machine that keeps silent has used up minutes: another one is tried while the time for one boot lasts.
        let late =
            error.code() == Code::SshTimeout && self.began.elapsed() >= self.engine.settings.boot_timeout;
        if blame == Blame::Nobody || late {
            return Err(Next::Stop(error));
        }
        if self.left().is_some_and(|left| left < LEAST) {
            call.warn("no other machine is tried: too little of the lease's time to live is left");
            return Err(Next::Stop(error));
        }
        call.warn(format!("{error}; trying another machine"));
        match self.discard(&error, call).await {
            Ok(()) => Err(Next::Another(rental.machine, error)),
            // Somebody else got in: it stays, and there is no second one for this lease.
            Err(used) if is_in_use(&used) => Err(Next::Stop(error)),
            Err(left) => Err(Next::Stop(left)),
        }
    }

    /// The record before the paid call.
    async fn before_create(&mut self, candidate: &Candidate, call: &Call) -> Result<()> {
        let next =
            if self.state == State::Intent { lease::Event::CreateSent } else { lease::Event::NextAttempt };
        self.state = lease::step(self.state, next)?;
        let offer = &candidate.offer;
        self.journal.account = self.engine.client.known_account().map(|account| account.0);
        self.journal.api_url = Some(self.engine.settings.api_url.clone());
        self.journal.attempts.push(Attempt {
            offer: offer.id.0,
            machine: offer.machine.map(|machine| machine.0),
            price: candidate.price.0,
            started_at: self.engine.unix_now(),
            key: Some(self.key.public.clone()),
            vendor_at: self.engine.client.clock_skew().map(|skew| self.engine.unix_now() - skew),
            ..Attempt::default()
        });
        self.take_money().await?;
        call.event(Event::Provisioning {
            lease: self.id.clone(),
            slug: self.slug.clone(),
            offer: offer.id,
            gpu: offer.gpu_name.clone(),
            count: offer.gpu_count,
            price: candidate.price.0,
            max_dph: self.engine.settings.max_dph_total.map_or(0.0, |cap| cap.0),
            keep: self.keep,
        });
        Ok(())
    }

    /// The journal of the attempt, which is also what counts against the day's budget. Where that does not allow it,
    /// the attempt was never made.
    async fn take_money(&mut self) -> Result<()> {
        let written = self.engine.write_within_day(&self.journal).await;
        if written.is_err() {
            self.journal.attempts.pop();
        }
        written
    }

    fn create_body(&self, candidate: &Candidate) -> Result<CreateBody> {
        let settings = &self.engine.settings;
        let mut env = serde_json::Map::new();
        env.insert("CRABBOX".into(), "1".into());
        let watchdog = self.engine.watchdog(&self.journal, self.used())?;
        Ok(CreateBody {
            image: settings.image.clone(),
            template: settings.template_id.clone(),
            disk_gb: settings.disk_gb,
            label: self.label(claim_state(State::Creating).2),
            public_key: self.key.public.clone(),
            env,
            onstart: Some(crate::ssh::onstart::script(&self.key.public, watchdog.as_deref())),
            bid: candidate.bid,
        })
    }

    /// How much of its time the lease has used up: from the first create on, whatever became of that machine.
    fn used(&self) -> Duration {
        self.sent.map_or(Duration::ZERO, |(first, _)| first.elapsed())
    }

    /// What is left of the lease's time to live; `None` without one.
    fn left(&self) -> Option<Duration> {
        let ttl = self.journal.deadman.as_ref().and_then(|record| record.ttl_secs);
        ttl.map(|ttl| Duration::from_secs(ttl).saturating_sub(self.used()))
    }

    fn label(&self, state: &str) -> String {
        OwnershipLabel { lease: self.id.to_string(), slug: self.slug.to_string(), state: state.to_owned() }
            .encode()
    }

    /// The record after the paid call: the claim first, because it leads to the destruction.
    async fn created(&mut self, instance: InstanceId, outcome: &str) -> Result<()> {
        self.instance = Some(instance);
        self.state = lease::step(self.state, lease::Event::Created)?;
        let offer = self.journal.attempts.last().map(|attempt| attempt.offer);
        // Should the claim not be written, everything that follows knows whose the instance is all the same.
        self.journal.note(format!("{outcome}: {instance}"), Some(instance));
        self.write_claim(Some(instance), move |claim| {
            if let Some(offer) = offer {
                claim.labels.insert(key::VAST_OFFER_ID.into(), offer.to_string());
            }
            Ok(())
        })
        .await?;
        self.engine.store.write_journal(&self.journal).await
    }

    async fn note(&mut self, outcome: String, instance: Option<InstanceId>) -> Result<()> {
        self.journal.note(outcome, instance);
        self.engine.store.write_journal(&self.journal).await
    }

    /// For how long the last create's instance may still be missing from reads. The clock on the wall may have been set
    /// since: the smaller age counts.
    pub(super) fn fresh(&self) -> Duration {
        let age = self.journal.last_create_at().map_or(0, |at| self.engine.unix_now() - at);
        let age = Duration::from_secs(u64::try_from(age).unwrap_or(0));
        let age = self.sent.map_or(age, |(_, last)| age.min(last.elapsed()));
        VISIBILITY.saturating_sub(age)
    }

    /// Whose instance a refusal names. Nothing but our label on it makes it ours: a number alone may be anybody's.
    async fn whose(&self, id: InstanceId) -> Whose {
        match self.engine.client.show(id).await {
            Ok(Some(live)) if live.label.is_none() => Whose::Unknown,
            Ok(Some(live)) if live.ownership().is_some_and(|label| label.lease == self.id.as_str()) => {
                Whose::Ours
            }
            Ok(Some(_)) => Whose::Strangers,
            Ok(None) | Err(_) => Whose::Unknown,
        }
    }

    /// Puts our state and instance into the claim, if it still exists and nobody bound it to another instance. `change` sees
    /// it as it was, and may refuse.
    pub(super) async fn write_claim(
        &self,
        instance: Option<InstanceId>,
        change: impl FnOnce(&mut Claim) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (state, recovery, _) = claim_state(self.state);
        let before = self.instance;
        let write = move |claim: &mut Claim| {
            let named = claim.instance_id();
            if named.is_some_and(|named| ![before, instance].contains(&Some(named))) {
                return Err(changed_claim(claim));
            }
            change(claim)?;
            match instance {
                Some(instance) => claim.set_instance(instance),
                None => claim.cloud_id.clear(),
            }
            claim.labels.insert(key::STATE.into(), state.to_owned());
            match recovery {
                Some(recovery) => claim.labels.insert(key::RECOVERY.into(), recovery.to_owned()),
                None => claim.labels.remove(key::RECOVERY),
            };
            Ok(())
        };
        self.engine.store.update_claim(&self.id, write).await.map(|_| ())
    }

    fn step(&mut self, event: lease::Event) -> Result<(), Next> {
        self.state = lease::step(self.state, event).map_err(Next::Stop)?;
        Ok(())
    }

    /// After a lost answer: adopt the one instance with our label, or prove that there is none.
    pub(super) async fn recover(&mut self, why: String, window: Duration, call: &Call) -> Result<(), Next> {
        let found = self
            .engine
            .recover_by_label(&self.id, self.slug.as_str(), window, call)
            .await
            .map_err(Next::Stop)?;
        match found {
            Recovered::Found { instance, surplus, made_by } => {
                let engine = self.engine;
                engine.begin_surplus(&mut self.journal, &surplus, &made_by).await.map_err(Next::Stop)?;
                for id in surplus {
                    let doomed = Doomed::new(&self.id, id, Ground::Surplus);
                    let destroyed =
                        engine.destroy_journalled(&doomed, Some(&mut self.journal), VISIBILITY, call);
                    destroyed.await.map_err(Next::Stop)?;
                }
                self.instance = Some(instance.id);
                self.step(lease::Event::Adopted)?;
                self.journal.adopt(made_by.get(&instance.id).copied(), instance.id);
                self.write_claim(Some(instance.id), |_| Ok(())).await.map_err(Next::Stop)?;
                engine.store.write_journal(&self.journal).await.map_err(Next::Stop)?;
                if self.journal.is_open(StepKind::Destroy, instance.id) {
                    // An earlier call was giving it up.
                    let why = lost(&why);
                    self.discard(&why, call).await.map_err(Next::Stop)?;
                    return Err(Next::Another(None, why));
                }
                Ok(())
            }
            Recovered::Nothing => {
                self.step(lease::Event::NextAttempt)?;
                if self.journal.is_unanswered() {
                    self.note(PROVED_NOTHING.into(), None).await.map_err(Next::Stop)?;
                }
                Err(Next::Another(None, lost(&why)))
            }
        }
    }

    async fn bring_up(&mut self, instance: InstanceId, rental: &Rental, call: &Call) -> Result<Lease> {
        let settings = &self.engine.settings;
        let booting = Booting {
            lease: &self.id,
            instance,
            key: &self.key,
            asked: Asked {
                cap: settings.max_dph_total,
                affordable: self.engine.lease_limit(),
                by_day: self.engine.day_rate(&self.journal).await,
                interruptible: rental.interruptible,
                again: false,
            },
        };
        let ready = self.label(claim_state(State::Ready).2);
        let booted = call.until_cancelled(self.engine.boot(&booting, &ready, call)).await?;
        self.state = lease::step(self.state, lease::Event::EndpointKnown)?;
        self.state = lease::step(self.state, lease::Event::SshReady)?;
        let endpoint = booted.connected.endpoint.clone();
        let (host, port) = (endpoint.host.clone(), endpoint.port);
        let now = self.engine.unix_now();
        let (ttl, idle) = (settings.ttl, settings.idle_timeout);
        self.write_claim(Some(instance), move |claim| {
            claim.ssh_host = host;
            claim.ssh_port = i64::from(port);
            // The idle time counts from here: a slow boot must not use it up.
            labels::touch(&mut claim.labels, now, None, ttl, idle, None);
            Ok(())
        })
        .await?;
        let price = booted.instance.dph_total.unwrap_or(rental.price);
        if self.engine.has_limit() && booted.instance.dph_total.is_none() {
            call.warn(format!(
                "instance {instance} shows no price: its limits were checked on the offer only"
            ));
        }
        self.note_price(price, rental).await?;
        let arm = self.engine.arm(&mut self.journal, booted.connected.session.as_ref(), call);
        let deadman = call.until_cancelled(async { Ok(arm.await) }).await?;
        let took = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.journal.note_ready(took);
        self.engine.store.write_journal(&self.journal).await?;
        if self.left().is_some_and(|left| left.is_zero()) {
            call.warn(format!(
                "the start took longer than the time to live of lease {}: {}",
                self.id,
                // A sweep leaves a kept lease alone.
                if self.keep {
                    "its dead-man switch destroys it, where it is armed"
                } else {
                    "its dead-man switch or the next cleanup destroys it"
                }
            ));
        }
        let gpu = booted.instance.gpu_name.clone().unwrap_or_else(|| rental.gpu.clone());
        call.event(Event::Provisioned {
            lease: self.id.clone(),
            instance,
            gpu: gpu.clone(),
            seconds: self.began.elapsed().as_secs_f64(),
        });
        let claim = self.engine.store.claim(&self.id).await?.ok_or_else(|| self.claim_removed(instance))?;
        let machine = Machine { instance, gpu, price: Some(price), deadman, rented: true };
        Ok(Lease::new(self.engine, &self.id, &claim, machine, &self.key, booted.connected))
    }

    /// Notes what the lease costs. A machine that is dearer than its offer is counted anew against the day, as others may
    /// have taken the rest of it meanwhile.
    async fn note_price(&mut self, price: DollarsPerHour, rental: &Rental) -> Result<()> {
        self.journal.price = Some(price.0);
        if price.exceeds(rental.price) {
            self.engine.write_within_day(&self.journal).await?;
        }
        Ok(())
    }

    fn claim_removed(&self, instance: InstanceId) -> Error {
        Error::new(Code::ClaimMissing, format!("the claim of lease {} was removed while it started", self.id))
            .with("instance", instance.0)
    }
}

pub(super) fn lost(why: &str) -> Error {
    Error::new(Code::CreateAmbiguous, format!("the answer to the create was lost: {why}")).hint("try again")
}

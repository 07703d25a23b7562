//! Start: a stopped lease runs again. It bills from the moment the vendor accepts, so the intent is journalled before
//! the call, and whatever does not end in a usable lease is taken back by a stop.

use super::authorised::{Doomed, Ground, Why, unreadable_journal};
use super::boot::Booting;
use super::deadman::{Deadman, recorded};
use super::lease::Machine;
use super::open::{CalledOff, Use};
use super::recovery::Patience;
use super::resolve::{gone, lease_id};
use super::start_money::{StartTerms, note_price};
use super::touch::pause_between_beats;
use super::unfinished::{Unfinished, is_usable, reached_since};
use super::verdict::{Asked, goes_whoever_uses_it};
use super::watchdog::look;
use super::{Call, Engine, Event, Lease, Phase};
use crate::lease::labels::{self, key};
use crate::lease::{self, Claim, DollarsPerHour, InstanceId, LeaseId, OwnershipLabel, State, claim_state};
use crate::ssh::deadman::LOOK;
use crate::store::{Journal, StepKind};
use crate::vast::client::Unsent;
use crate::vast::{Failure, Instance, Kind};
use crate::world::SshSession;
use crate::{Code, Error, Result};
use futures_util::future::BoxFuture;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Which lease to start.
#[derive(Debug, Clone, Default)]
pub struct StartRequest {
    /// Lease id, slug or instance id.
    pub identifier: String,
}

impl Engine {
    /// Starts a stopped lease and waits until commands run on it. Keep, time to live and idle timeout stay what they
    /// are; the idle time counts anew. A lease that runs already, or loads again by itself, is only connected to.
    ///
    /// # Errors
    /// Those of resolving; [`Code::InvalidState`] for a lease that was never ready; [`Code::StartQueued`] when its GPUs
    /// are taken, [`Code::InsufficientCredit`], [`Code::PriceCapExceeded`], [`Code::CostLimitExceeded`] and the failures of a boot,
    /// all with the lease stopped, or stopped again.
    pub fn start<'a>(&'a self, request: &'a StartRequest, call: &'a Call) -> BoxFuture<'a, Result<Lease>> {
        Box::pin(async move {
            let began = Instant::now();
            self.settings.may_start()?;
            let identifier = request.identifier.trim();
            let (claim, instance) = call.until_cancelled(self.resolve_for_use(identifier, call)).await?;
            let id = lease_id(&claim)?;
            for one in self.recover_dead(Some(&id), Patience::Now, call).await {
                call.warn(one.line());
            }
            let lock = self.store.operation_lock(&id).await?.ok_or_else(|| {
                Error::new(Code::LeaseBusy, format!("another process works on lease {id}"))
                    .hint("try again later")
            })?;
            let key = self.lease_key(&id).await?;
            let seen = self.authorise(&id, instance.id, "start", Duration::ZERO, call).await?;
            let live = seen.live.ok_or_else(|| gone(&seen.claim))?;
            let (_lock, journal) = self.journal_of(&id, &seen.claim, Some(lock), call).await?;
            let journal = journal.ok_or_else(|| unreadable_journal(&id))?;
            let mut starting = Starting { engine: self, id, claim: seen.claim, journal };
            starting.may_start(&live)?;
            starting.note_what_is_known(live.id).await?;
            self.warn_of_expiry(&starting.id, &starting.claim, call);
            // One that was just asked to stop runs on for a while; one that loads again only has to be waited for.
            let runs = live.is_running() || live.is_coming_up();
            let sent = !runs || live.intended_status.as_deref() == Some("stopped");
            let mut terms = StartTerms::default();
            let sending = Instant::now();
            if sent {
                terms = self.start_terms(&live, &starting.claim, &starting.journal, &seen.account)?;
                starting.warn_of_price(live.id, terms, call);
            }
            starting.take_into_use(live.id, sent).await?;
            if sent {
                starting.send(live.id, terms, call).await?;
            } else {
                self.call_off(&mut starting.journal, live.id, Use::Started, call).await?;
            }
            let booting = Booting {
                lease: &starting.id,
                instance: live.id,
                key: &key,
                asked: Asked {
                    cap: self.settings.max_dph_total,
                    affordable: terms.affordable,
                    by_day: if sent { self.day_rate(&starting.journal).await } else { None },
                    interruptible: live.is_bid == Some(true),
                    again: true,
                },
            };
            let label = starting.label(claim_state(State::Ready).2);
            let boot = starting.in_use_during(self.boot(&booting, &label, call));
            let booted = match call.until_cancelled(boot).await {
                Ok(booted) if sent => starting.hold_to_day(booted.instance.dph_total).await.map(|()| booted),
                other => other,
            };
            let booted = match booted {
                Ok(booted) => booted,
                Err(error) => {
                    let error = self.with_log(error, live.id, call).await;
                    self.remember(live.machine, &error, call).await;
                    return Err(if sent { starting.take_back(error, live.id, call).await } else { error });
                }
            };
            let endpoint = booted.connected.endpoint.clone();
            let claim = match starting.ready(live.id, endpoint.host, endpoint.port, call).await {
                Err(error) if sent => return Err(starting.take_back(error, live.id, call).await),
                ready => ready?,
            };
            let gpu = booted.instance.gpu_name.clone().unwrap_or_default();
            call.event(Event::Provisioned {
                lease: starting.id.clone(),
                instance: live.id,
                gpu: gpu.clone(),
                seconds: began.elapsed().as_secs_f64(),
            });
            let before = sent.then_some(sending);
            let deadman = starting.watched(&claim, before, booted.connected.session.as_ref(), call).await;
            let price = booted.instance.dph_total;
            let machine = Machine { instance: live.id, gpu, price, deadman, rented: false };
            Ok(Lease::new(self, &starting.id, &claim, machine, &key, booted.connected))
        })
    }
}

impl Engine {
    /// Taking a lease into use renews nothing: who does so after its end is told that it may go.
    pub(super) fn warn_of_expiry(&self, id: &LeaseId, claim: &Claim, call: &Call) {
        let ends = labels::lives_until(&claim.labels);
        if !labels::keep(&claim.labels) && ends.is_some_and(|at| at <= self.unix_now()) {
            call.warn(format!("the time to live of lease {id} is over: the next cleanup destroys it"));
        }
    }
}

/// One start, from the first record on.
struct Starting<'a> {
    engine: &'a Engine,
    id: LeaseId,
    claim: Claim,
    journal: Journal,
}

impl Starting<'_> {
    /// Only a lease that was usable once, or is stopped, can be started.
    fn may_start(&self, live: &Instance) -> Result<()> {
        let resumed = self.journal.is_open(StepKind::Start, live.id);
        let state = match self.claim.state() {
            // What others stopped is stopped, whatever the claim says.
            "ready" | "running" | "stopped" => State::Stopped,
            "provisioning" if resumed || self.journal.adopted_at.is_some() || self.journal.was_ready() => {
                State::Stopped
            }
            _ => State::Booting,
        };
        lease::step(state, lease::Event::StartAccepted).map(|_| ()).map_err(|error| {
            error.hint(format!("its acquire was never finished: `stop {}` cleans up", self.claim.slug))
        })
    }

    /// A lease that can be started was usable once, and an unfinished start of one that was used since came to its end:
    /// the dead processes that knew either did not get to write it down. The former is written before the claim says that
    /// the machine comes up: it would look like that of an acquire that was cut off.
    async fn note_what_is_known(&mut self, instance: InstanceId) -> Result<()> {
        if !self.journal.was_ready() || self.journal.disowns(instance) {
            self.journal.reached(instance);
            self.engine.store.write_journal(&self.journal).await?;
        }
        if reached_since(&self.claim, Some(&self.journal), instance) {
            self.journal.proved(StepKind::Start, instance, self.engine.unix_now());
        }
        Ok(())
    }

    fn warn_of_price(&self, instance: InstanceId, terms: StartTerms, call: &Call) {
        match terms.price {
            Some(price) if terms.recorded => call.warn(format!(
                "instance {instance} shows no price: the limits were checked with the {price} on record"
            )),
            Some(_) => {}
            None => call.warn(format!("instance {instance} shows no price, and none is on record")),
        }
    }

    /// Journals the start, sends it, and marks the claim. What the day's budget does not allow was never begun.
    async fn send(&mut self, instance: InstanceId, terms: StartTerms, call: &Call) -> Result<()> {
        // What a dead process had sent may have had its effect, whatever this one is answered.
        let resumed = self.journal.is_open(StepKind::Start, instance);
        note_price(&mut self.journal, &self.claim, terms);
        let stopping = self.journal.is_open(StepKind::Stop, instance);
        let called_off = CalledOff::from(&mut self.journal, instance, Use::Started, self.engine.unix_now());
        self.journal.begin(StepKind::Start, instance, self.engine.unix_now());
        if let Err(error) = self.engine.write_within_day(&self.journal).await {
            self.leave_stopped(call).await;
            return Err(error.with("instance", instance.0));
        }
        called_off.tell(instance, call);
        call.phase(Phase::Boot, format!("starting instance {instance}"));
        let (engine, sends) = (self.engine, AtomicUsize::new(0));
        let doomed = Doomed::new(&self.id, instance, Ground::Claimed);
        // The claim is read last here, too: a lease that was released while this waited for its turn is not started.
        let look = || async {
            if call.is_cancelled() {
                return Err(Error::new(Code::Cancelled, "cancelled"));
            }
            engine.last_look(&doomed, Some(&self.journal)).await?;
            sends.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        let sent = engine.client.set_state_if(instance, "running", look).await;
        let sends = sends.into_inner();
        let (error, without_effect) = match sent {
            // One that is usable by now is whose who got in.
            Ok(()) => match engine
                .mark_where(&self.id, claim_state(State::Booting).0, |claim| !is_usable(claim))
                .await
            {
                Ok(_) => return Ok(()),
                Err(error) => (error, false),
            },
            Err(Unsent::Withheld(error)) => (*error, sends == 0),
            Err(Unsent::Failed(failure)) if is_queued(&failure) => {
                let error = Error::new(
                    Code::StartQueued,
                    format!("the GPUs of instance {instance} are taken: {}", failure.message),
                )
                .hint("the queued start was withdrawn; try again later, or destroy it and take another");
                (error, false)
            }
            Err(Unsent::Failed(failure)) => {
                let without_effect = sends == 1 && self.had_no_effect(failure.kind).await;
                let broke = failure.kind == Kind::NoCredit;
                let error = Error::from(failure);
                let error = if broke {
                    error.hint(
                        "add credit on the Vast billing page; the lease stays stopped, its disk is billed",
                    )
                } else {
                    error
                };
                (error, without_effect)
            }
        };
        let error = error.with("instance", instance.0);
        if resumed || !without_effect {
            return Err(self.take_back(error, instance, call).await);
        }
        self.journal.voided(StepKind::Start, instance, &error.to_string());
        if stopping {
            // The machine that it was to stop does not run, or was asked to stop: nobody got in meanwhile.
            self.journal.begin(StepKind::Stop, instance, engine.unix_now());
        }
        engine.note_or_warn(&self.journal, call).await;
        self.leave_stopped(call).await;
        Err(error)
    }

    /// What others stopped, whatever its claim said, and was not started is stopped.
    async fn leave_stopped(&self, call: &Call) {
        let (starts, instance) = (claim_state(State::Booting).0, self.claim.instance_id());
        let still = move |claim: &Claim| claim.state() == starts && claim.instance_id() == instance;
        let marked = self.engine.mark_where(&self.id, claim_state(State::Stopped).0, still).await;
        if let Err(error) = marked {
            call.warn(format!("the claim could not be marked: {error}"));
        }
    }

    /// Whether a start that was sent once and refused like this did nothing. Any other refusal may come from a start that
    /// was carried out: the vendor answers `success:false` to what it keeps, that it knows no such machine is no proof, and
    /// errors of its own say nothing.
    async fn had_no_effect(&self, kind: Kind) -> bool {
        match kind {
            Kind::NoCredit => true,
            // A good key is called bad in passing.
            Kind::BadKey => {
                let asked = self.engine.client.account().await;
                asked.is_err_and(|failure| failure.kind == Kind::BadKey)
            }
            _ => false,
        }
    }

    /// A price that rose while it started is counted, and held against the day.
    async fn hold_to_day(&mut self, price: Option<DollarsPerHour>) -> Result<()> {
        let counted = self.journal.price.map(DollarsPerHour);
        let Some(price) = price.filter(|price| counted.is_none_or(|counted| price.exceeds(counted))) else {
            return Ok(());
        };
        note_price(
            &mut self.journal,
            &self.claim,
            StartTerms { price: Some(price), ..StartTerms::default() },
        );
        self.engine.write_within_day(&self.journal).await
    }

    /// A cleanup that comes by before the lease is usable finds one that is in use, not one whose idle time is over. Where
    /// a start is to be finished, the word `ready` would say that somebody reached it; where nothing is `sent`, the word
    /// `stopped` that the lease is over.
    async fn take_into_use(&mut self, instance: InstanceId, sent: bool) -> Result<()> {
        let unfinished = self.journal.is_open(StepKind::Start, instance);
        let misleads = if sent { is_usable(&self.claim) } else { labels::is_terminal(self.claim.state()) };
        let (seen, booting) = (self.claim.clone(), claim_state(State::Booting).0);
        let now = self.engine.unix_now();
        let (ttl, idle) = (self.engine.settings.ttl, self.engine.settings.idle_timeout);
        let touch = move |claim: &mut Claim| {
            // Whoever got in since it was read wrote that word.
            let theirs = is_usable(claim) && *claim != seen;
            let state = (!theirs && (unfinished || misleads)).then_some(booting);
            labels::touch(&mut claim.labels, now, state, ttl, idle, None);
            Ok(())
        };
        self.claim = self.engine.store.update_claim(&self.id, touch).await?;
        Ok(())
    }

    /// Waits for `work`, which may take longer than the lease may be idle, and touches the lease meanwhile.
    async fn in_use_during<T>(&self, work: impl Future<Output = T>) -> T {
        let idle = labels::idle_timeout(&self.claim.labels).unwrap_or(self.engine.settings.idle_timeout);
        let beats = async {
            loop {
                tokio::time::sleep(pause_between_beats(idle)).await;
                // The next one tries again; that the lease was released is seen by the work.
                let _ = self.engine.touch_claim(&self.id, None, None).await;
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            never = beats => never,
        }
    }

    /// Stops what was started, or may have been, and says in the error what became of it.
    async fn take_back(&mut self, error: Error, instance: InstanceId, call: &Call) -> Error {
        let call = call.uncancelled();
        let engine = self.engine;
        let stopped = async {
            // Somebody who got in meanwhile keeps it, unless it is too dear.
            let why =
                if goes_whoever_uses_it(error.code()) { Why::Asked } else { Why::Left(Unfinished::Start) };
            let doomed = Doomed::new(&self.id, instance, Ground::Claimed).because(why);
            doomed.begin(StepKind::Stop, &mut self.journal, engine.unix_now());
            engine.note_or_warn(&self.journal, &call).await;
            let look = || engine.last_look(&doomed, Some(&self.journal));
            match engine.client.set_state_if(instance, "stopped", look).await {
                Ok(()) => {}
                Err(Unsent::Failed(failure)) => return Err(Error::from(failure)),
                Err(Unsent::Withheld(used)) => {
                    engine.spare(StepKind::Stop, &doomed, Some(&mut self.journal), &call).await;
                    if !self.journal.is_open(StepKind::Stop, instance) {
                        // Somebody got in: it came to its end after all.
                        self.journal.started(instance, engine.unix_now());
                        engine.note_or_warn(&self.journal, &call).await;
                    }
                    return Err(*used);
                }
            }
            engine.prove_stopped(instance, &call).await?;
            engine.mark_where(&self.id, claim_state(State::Stopped).0, |_| true).await?;
            self.journal.proved(StepKind::Stop, instance, engine.unix_now());
            self.journal.voided(StepKind::Start, instance, &error.to_string());
            engine.note_or_warn(&self.journal, &call).await;
            Ok::<(), Error>(())
        };
        match stopped.await {
            Ok(()) if error.code() == Code::Cancelled => error.hint(format!(
                "instance {instance} is stopped again, its disk is billed; `start {0}` tries again, `stop \
                 --vast-release-action destroy {0}` ends it",
                self.claim.slug
            )),
            Ok(()) => error,
            Err(left) if left.code() == Code::ClaimChanged => error
                .and(&left)
                .hint(format!("instance {instance} runs on and bills: `list` shows who uses it")),
            Err(left) => error.and(&left).hint(format!(
                "instance {instance} may still start and bill: `cleanup` stops it, `stop {}` too",
                self.claim.slug
            )),
        }
    }

    async fn ready(&mut self, instance: InstanceId, host: String, port: u16, call: &Call) -> Result<Claim> {
        let engine = self.engine;
        let (now, state) = (engine.unix_now(), claim_state(State::Ready).0);
        let (ttl, idle) = (engine.settings.ttl, engine.settings.idle_timeout);
        let claim = engine
            .store
            .update_claim(&self.id, move |claim| {
                claim.ssh_host = host;
                claim.ssh_port = i64::from(port);
                claim.labels.remove(key::RECOVERY);
                labels::touch(&mut claim.labels, now, Some(state), ttl, idle, None);
                Ok(())
            })
            .await?;
        self.journal.proved(StepKind::Start, instance, now);
        engine.note_or_warn(&self.journal, call).await;
        Ok(claim)
    }

    /// The dead-man switch of what runs again: what it reported before a start that was sent at `sending` counts for nothing.
    async fn watched(
        &mut self,
        claim: &Claim,
        sending: Option<Instant>,
        session: &dyn SshSession,
        call: &Call,
    ) -> Deadman {
        let since = |sent: Instant| sent.elapsed().as_secs();
        let looked = match look(session, LOOK).await {
            Ok(looked) => looked.filter(|report| {
                sending.is_none_or(|sent| report.age().is_some_and(|age| age <= since(sent)))
            }),
            Err(_) => return recorded(&self.journal, self.engine.unix_now()),
        };
        let before = self.journal.deadman.clone();
        let deadman = Box::pin(self.engine.tend(&mut self.journal, claim, looked, session, call)).await;
        if let Some(record) = &mut self.journal.deadman
            && deadman.confirmed
        {
            record.report(&deadman, self.engine.unix_now());
        }
        if self.journal.deadman != before {
            self.engine.note_or_warn(&self.journal, call).await;
        }
        deadman
    }

    fn label(&self, state: &str) -> String {
        let (lease, slug) = (self.claim.lease_id.clone(), self.claim.slug.clone());
        OwnershipLabel { lease, slug, state: state.to_owned() }.encode()
    }
}

/// The vendor keeps such a wish: the instance may start, and bill, hours later.
fn is_queued(failure: &Failure) -> bool {
    failure.kind == Kind::Rejected && failure.message.to_ascii_lowercase().contains("queued")
}

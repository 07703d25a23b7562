//! Taking up a lease under its own id: an acquire that is called again gets the lease of the first call, whatever
//! became of its answer. There is never more than one instance under a lease id.
//!
//! What stands on disk decides. A lease that was ready is connected to; one that was on its way is brought on from
//! where the first call was cut off; where that proves to have left nothing, the acquire begins anew.

use super::acquire::AcquireRequest;
use super::gone::VISIBILITY;
use super::rent::{Acquiring, Next, Rental, lost};
use super::resolve::check_account;
use super::unfinished::{Unfinished, in_use, was_usable};
use super::{Call, Engine, Lease, Phase};
use crate::config::Settings;
use crate::lease::labels::key;
use crate::lease::{
    Claim, Dollars, DollarsPerHour, InstanceId, LeaseId, MachineId, Slug, State, claim_state, go_duration,
};
use crate::store::{Journal, JournalRequest, OperationGuard, StepKind};
use crate::{Code, Error, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often a lease that another process works on is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How a lease stands on disk.
pub(super) enum Stand {
    /// There is none. The journal is that of an earlier call which left nothing behind.
    New(Option<Box<Journal>>),
    /// It was ready once.
    Ready,
    /// An earlier call was cut off.
    CutOff(Box<CutOff>),
    /// Its end was asked for, and is not proved yet.
    Ending(InstanceId),
}

/// Where an earlier call was cut off.
pub(super) struct CutOff {
    claim: Claim,
    /// What is on record of it.
    pub journal: Journal,
    step: Step,
}

enum Step {
    /// A create may have rented a machine: its answer is not on record.
    Unanswered,
    /// No create was sent, or each was definitely refused, or what it made is proved gone.
    Unrented,
    /// This instance was on its way.
    Rented(InstanceId),
    /// This instance was being given up.
    GivenUp(InstanceId),
}

/// What came of taking a lease up.
pub(super) enum TakenUp {
    /// It is usable.
    Lease(Lease),
    /// It is proved to have left nothing; its journal.
    Nothing(Box<Journal>),
}

/// The lease id of the caller's choice.
///
/// # Errors
/// [`Code::InvalidArgument`].
pub(super) fn given_id(text: &str) -> Result<LeaseId> {
    LeaseId::canonical(text.trim()).ok_or_else(|| {
        Error::new(Code::InvalidArgument, format!("`{text}` is not a lease id"))
            .hint("a lease id is cbx_ and 12 lower-case hex digits, for example cbx_3f9a1c7be204")
    })
}

pub(super) fn busy(id: &LeaseId) -> Error {
    Error::new(Code::LeaseBusy, format!("lease {id} is in use by another process")).hint("try again")
}

/// An instance of this lease exists, and its claim does not: it is not ours to use.
pub(super) fn elsewhere(id: &LeaseId) -> Error {
    Error::new(Code::LeaseIdConflict, format!("an instance of lease {id} exists, but no claim here belongs to it"))
        .hint("it was made on another machine, or its claim was lost: use another lease id, or look at it with `list`")
        .with("lease", id.as_str())
}

impl Engine {
    /// Becomes the process that works on the lease, waiting while another one does: that one's answer is ours too.
    ///
    /// # Errors
    /// [`Code::LeaseIdConflict`] and [`Code::LeaseReleased`] at once, where the journal shows them already;
    /// [`Code::LeaseBusy`] when the other takes longer than a boot may.
    pub(super) async fn wait_for_lease(
        &self,
        id: &LeaseId,
        asked: &JournalRequest,
        call: &Call,
    ) -> Result<OperationGuard> {
        let deadline = Instant::now() + self.settings.boot_timeout + VISIBILITY;
        let wait = async {
            loop {
                if let Some(lock) = self.store.operation_lock(id).await? {
                    return Ok(lock);
                }
                if let Some(journal) = self.store.journal(id).await? {
                    self.same_request(id, &journal.request, asked)?;
                }
                if Instant::now() >= deadline {
                    return Err(busy(id).with("lease", id.as_str()));
                }
                call.phase(Phase::Boot, format!("another process is acquiring lease {id}; waiting for it"));
                tokio::time::sleep(LOOK).await;
            }
        };
        call.until_cancelled(wait).await
    }

    /// How the lease stands on disk. To be called under its operation lock.
    ///
    /// # Errors
    /// [`Code::LeaseIdConflict`] for another request, [`Code::LeaseReleased`] for a lease that was given back.
    pub(super) async fn stand(&self, id: &LeaseId, asked: &JournalRequest) -> Result<Stand> {
        let (claim, journal) = tokio::try_join!(self.store.claim(id), self.store.journal(id))?;
        let Some(claim) = claim else {
            let Some(journal) = journal else { return Ok(Stand::New(None)) };
            self.same_request(id, &journal.request, asked)?;
            let spent = journal.forgotten_at.is_some()
                || last_instance(&journal).is_some_and(|last| !journal.discarded(last));
            if spent {
                return Err(released(id));
            }
            // Somebody removed its claim. What it may have rented is collected once it shows; until then there is no second.
            let sent = journal.last_create_at().filter(|_| journal.is_unanswered());
            let age = sent.map_or(VISIBILITY, |at| {
                Duration::from_secs(u64::try_from(self.unix_now() - at).unwrap_or(0))
            });
            if age < VISIBILITY {
                return Err(busy(id).hint(
                    "its create is not answered, and its claim was removed: try again in two minutes",
                ));
            }
            return Ok(Stand::New(Some(Box::new(journal))));
        };
        if !claim.is_vast() {
            return Err(Error::new(
                Code::LeaseIdConflict,
                format!("lease {id} belongs to provider {}", claim.provider),
            )
            .hint("use another lease id"));
        }
        match &journal {
            Some(journal) => self.same_request(id, &journal.request, asked)?,
            None if claim.instance_id().is_some() => {
                return Err(Error::new(
                    Code::LeaseIdConflict,
                    format!("what lease {id} was made for is not on record here"),
                )
                .hint(format!("use it with `run --id {id}`, or take another lease id")));
            }
            None => {}
        }
        let state = claim.label(key::STATE).unwrap_or_default().to_owned();
        let recorded = journal.is_some();
        let journal = journal.unwrap_or_else(|| self.journal_from(id, &claim));
        let was_ready = journal.was_ready() || was_usable(&claim);
        let step = match claim.instance_id() {
            Some(instance) => {
                let gone = journal.tombstones().any(|(gone, _)| gone == instance);
                // crabbox, which knows no journal, may use what was to be destroyed.
                let now = self.cautious_now(Some(&journal));
                let spared = in_use(&claim, Some(&journal), Unfinished::Destroy, now);
                let ending = !gone && journal.is_open(StepKind::Destroy, instance) && !spared;
                // What was given up and used all the same is its user's. crabbox writes that into the claim only.
                let given_up = journal.discarded(instance) && !was_usable(&claim);
                let given_up = given_up || state == claim_state(State::Releasing).0;
                match (given_up, gone || ending, was_ready) {
                    (true, ..) => Step::GivenUp(instance),
                    (false, true, _) if ending => return Ok(Stand::Ending(instance)),
                    (false, true, _) => return Err(released(id)),
                    (false, false, true) => return Ok(Stand::Ready),
                    (false, false, false) => Step::Rented(instance),
                }
            }
            None => match journal.giving_up() {
                // Its number never got into the claim.
                Some(instance) => Step::GivenUp(instance),
                None if recorded && journal.nothing_is_rented() => Step::Unrented,
                // Not answered, given up and perhaps late; and without a journal, what was sent is not known.
                None => Step::Unanswered,
            },
        };
        Ok(Stand::CutOff(Box::new(CutOff { claim, journal, step })))
    }

    /// Goes on where an earlier call was cut off.
    ///
    /// # Errors
    /// As [`Engine::acquire`].
    pub(super) async fn take_up(
        &self,
        id: &LeaseId,
        cut_off: CutOff,
        request: &AcquireRequest,
        began: Instant,
        call: &Call,
    ) -> Result<TakenUp> {
        let CutOff { claim, journal, step } = cut_off;
        call.phase(Phase::Recover, format!("lease {id} was begun by an earlier call; taking it up"));
        let account = call.until_cancelled(async { Ok(self.client.account().await?) }).await?;
        check_account(&claim, account.id, &self.settings.api_url, "acquire")?;
        let window = self.window(id, &claim, Some(&journal)).await?;
        let (state, instance) = match step {
            Step::Unanswered => (State::Ambiguous, None),
            Step::Unrented => (State::Creating, None),
            Step::Rented(instance) | Step::GivenUp(instance) => (State::Booting, Some(instance)),
        };
        let key = match self.store.key(id).await? {
            Some(key) => key,
            None => self.store.create_key(id).await?,
        };
        let slug = claim.slug().unwrap_or_else(|| Slug::generate(id));
        let keep = request.keep;
        let (id, sent) = (id.clone(), None);
        let mut acquiring =
            Acquiring { engine: self, id, slug, key, journal, state, instance, keep, began, sent };
        let outcome = match step {
            Step::Unanswered => {
                match acquiring.recover("an earlier call was cut off".into(), window, call).await {
                    Ok(()) => acquiring.go_on(call).await,
                    Err(next) => Err(next),
                }
            }
            Step::Rented(_) => acquiring.go_on(call).await,
            Step::GivenUp(instance) => {
                acquiring.journal.catch_up(instance);
                let why = lost("an earlier call gave its machine up");
                match acquiring.discard(&why, call).await {
                    Ok(()) => Err(Next::Another(None, why)),
                    Err(error) => Err(Next::Stop(error)),
                }
            }
            Step::Unrented => Err(Next::Another(None, lost("nothing was rented"))),
        };
        match outcome {
            Ok(lease) => Ok(TakenUp::Lease(lease)),
            Err(Next::Stop(error)) => Err(acquiring.undo(error, call).await),
            Err(Next::Another(..)) => {
                // Proved: nothing is left. A lease whose times begin now is better than one that has aged.
                self.forget(&acquiring.id, None).await?;
                Ok(TakenUp::Nothing(Box::new(acquiring.journal)))
            }
        }
    }
}

impl Acquiring<'_> {
    /// Brings up the instance that an earlier call had rented.
    async fn go_on(&mut self, call: &Call) -> Result<Lease, Next> {
        let Some(instance) = self.instance else {
            return Err(Next::Stop(Error::new(Code::Internal, "an instance was expected")));
        };
        // Whoever relabelled it, or another account, is noticed before anything is done to it.
        let resolved = call.until_cancelled(self.engine.resolve(self.id.as_str())).await.map_err(Next::Stop);
        if let Err(Next::Stop(error)) = resolved {
            return Err(Next::Stop(error));
        }
        // A kill may have fallen between the claim and the journal: without the number there, the id would not be spent.
        if self.journal.catch_up(instance) {
            self.engine.store.write_journal(&self.journal).await.map_err(Next::Stop)?;
        }
        let attempt = self.journal.attempt_of(instance).or(self.journal.attempts.last());
        let request = &self.journal.request;
        let rental = Rental {
            machine: attempt.and_then(|attempt| attempt.machine).map(MachineId),
            gpu: request.gpu_name.clone().unwrap_or_default(),
            price: DollarsPerHour(attempt.map_or(0.0, |attempt| attempt.price)),
            interruptible: request.interruptible,
            own_bid: request.interruptible && request.bid.is_none(),
        };
        self.start(instance, &rental, call).await
    }
}

pub(super) fn released(id: &LeaseId) -> Error {
    Error::new(Code::LeaseReleased, format!("lease {id} was given back; its id is spent"))
        .hint("use another lease id to rent again")
        .with("lease", id.as_str())
}

fn last_instance(journal: &Journal) -> Option<InstanceId> {
    journal.attempts.last()?.instance.map(InstanceId)
}

impl Engine {
    /// This engine with the limits under which a lease was made, where this call leaves them out: what is rented under its id
    /// ends and costs as it was asked for at first.
    pub(super) fn as_before(&self, before: &JournalRequest) -> Self {
        let mut settings = Settings::clone(&self.settings);
        let limit = before.max_cost.map(Dollars).filter(|_| !settings.max_cost_explicit);
        settings.max_cost = settings.max_cost.or(limit);
        if let Some(secs) = before.ttl_secs.filter(|_| !settings.ttl_explicit) {
            settings.ttl = Duration::from_secs(secs);
            // A lease that is not kept ends by its TTL whether somebody asked for one or not.
            settings.ttl_explicit = before.keep;
        }
        Self { settings: Arc::new(settings), ..self.clone() }
    }

    /// Whether this request is the one that the lease was made for. What ends or limits it may be left out of a repeated one;
    /// where it is given, it has to be what holds.
    fn same_request(&self, id: &LeaseId, before: &JournalRequest, asked: &JournalRequest) -> Result<()> {
        let asked = self.as_before(before).journal_request(asked.keep, asked.slug.clone());
        let differing: Vec<String> = fingerprint(before)
            .into_iter()
            .zip(fingerprint(&asked))
            .filter(|(before, asked)| before != asked)
            .map(|((name, before), (_, asked))| format!("{name} was {before}, now {asked}"))
            .collect();
        if differing.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            Code::LeaseIdConflict,
            format!("lease id {id} was used for another request: {}", differing.join(", ")),
        )
        .hint("repeat the first request exactly, or use another lease id")
        .with("lease", id.as_str())
        .with("differing", differing))
    }
}

fn fingerprint(request: &JournalRequest) -> [(&'static str, String); 14] {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    let ports: Vec<String> = request.expose.iter().map(u16::to_string).collect();
    // Six digits: a number that went through a file may differ in its last bit.
    let money = |dollars: Option<f64>| dollars.map_or_else(|| "none".to_owned(), |d| format!("${d:.6}"));
    [
        ("image", request.image.clone()),
        ("template", text(&request.template)),
        ("disk", format!("{} GB", request.disk_gb)),
        ("GPU", text(&request.gpu_name)),
        ("GPU count", request.gpu_count.to_string()),
        ("price cap", money(request.cap)),
        ("rental", if request.interruptible { "interruptible" } else { "on demand" }.to_owned()),
        ("bid", money(request.bid)),
        ("cost limit", money(request.max_cost)),
        (
            "time to live",
            request.ttl_secs.map_or_else(|| "none".to_owned(), |secs| go_duration(Duration::from_secs(secs))),
        ),
        ("keep", request.keep.to_string()),
        ("slug", text(&request.slug)),
        ("pond", text(&request.pond)),
        ("exposed ports", text(&Some(ports.join(",")).filter(|ports| !ports.is_empty()))),
    ]
}

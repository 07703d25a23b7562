//! From a rented instance to a usable one: attach the key, watch it start, knock at its doors, all at once.

use super::connect::{Connected, Whereabouts};
use super::gone::{Sight, VISIBILITY};
use super::verdict::{Ages, Asked, unusable};
use super::{Call, Engine, Phase};
use crate::lease::{InstanceId, LeaseId};
use crate::store::LeaseKey;
use crate::vast::failure::LOCKED_OUT;
use crate::vast::pacing::LimitClass;
use crate::vast::{Failure, Instance, Kind};
use crate::world::{ExecExit, ExecIo};
use crate::{Code, Error, Result};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

/// Pause between reads until an address is known: the pacing slots alone set the pace.
const EAGER: Duration = Duration::from_millis(100);
/// Pause between reads once an address is known.
const RELAXED: Duration = Duration::from_secs(5);

/// How long sshd may stay silent on a container that runs: ports open within a minute of that, and one host in eight
/// never answers at all.
const SILENT: Duration = Duration::from_secs(5 * 60);

/// How often the claim of a starting lease is looked at.
const CLAIM_LOOK: Duration = Duration::from_secs(2);

/// What is being started.
pub(super) struct Booting<'a> {
    pub lease: &'a LeaseId,
    pub instance: InstanceId,
    pub key: &'a LeaseKey,
    /// What the instance must be like.
    pub asked: Asked,
}

/// A usable instance.
pub(super) struct Booted {
    pub connected: Connected,
    pub instance: Instance,
}

impl Engine {
    /// Waits until a command runs on the instance.
    ///
    /// # Errors
    /// What went wrong; the instance still exists then, and the caller answers for it.
    pub(super) async fn boot(&self, booting: &Booting<'_>, ready_label: &str, call: &Call) -> Result<Booted> {
        let limit = self.settings.boot_timeout;
        let (sender, receiver) = watch::channel(Whereabouts::default());
        let answered = AtomicBool::new(false);
        let sightings = Sightings::new(sender);
        let raced = async {
            let silent = self.silent(booting.instance, receiver.clone(), &answered);
            let enter = self.enter(booting, receiver, &answered, ready_label, call);
            let watch = self.watch(booting, &sightings, call);
            let attach = self.attach(booting, call);
            tokio::pin!(enter, watch, silent, attach);
            let mut attached = false;
            loop {
                tokio::select! {
                    biased;
                    connected = &mut enter => return connected,
                    error = &mut watch => return Err(error),
                    error = &mut silent => return Err(error),
                    () = &mut attach, if !attached => attached = true,
                }
            }
        };
        let connected = match tokio::time::timeout(limit, raced).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return Err(self.with_cause(error, sightings.last(), call).await),
            Err(_) => return Err(timed_out(booting.instance, limit, sightings.last().as_ref())),
        };
        let instance = self.priced(sightings.last(), booting).await?;
        Ok(Booted { connected, instance })
    }

    /// The instance as last seen, with its price: where none showed and a limit needs one, it is read once more.
    async fn priced(&self, seen: Option<Instance>, booting: &Booting<'_>) -> Result<Instance> {
        let Asked { cap, affordable, by_day, .. } = booting.asked;
        let limited = cap.or(affordable).or(by_day).is_some();
        if let Some(instance) = seen.clone().filter(|instance| instance.dph_total.is_some() || !limited) {
            return Ok(instance);
        }
        // Failing to learn the price of a machine that works is no reason to give it up: the offer's was checked.
        let read = self.client.show(booting.instance).await.ok().flatten();
        let instance = read.or(seen).ok_or_else(|| vanished(booting.instance))?;
        match unusable(&instance, Ages::default(), booting.asked) {
            Some(error) => Err(error),
            None => Ok(instance),
        }
    }

    /// A session that passed the ready check. A connection that drops during the check is made again.
    async fn enter(
        &self,
        booting: &Booting<'_>,
        whereabouts: watch::Receiver<Whereabouts>,
        answered: &AtomicBool,
        ready_label: &str,
        call: &Call,
    ) -> Result<Connected> {
        loop {
            let connected = self.knock(booting.lease, booting.key, whereabouts.clone(), call).await?;
            answered.store(true, Ordering::Relaxed);
            match self.bootstrap(booting.instance, connected.session.as_ref(), call).await {
                Err(error) if error.code() == Code::SshLost => continue,
                other => other?,
            }
            let label = tokio::time::timeout(
                Duration::from_secs(10),
                self.client.set_label(booting.instance, ready_label),
            );
            let (checked, labelled) = tokio::join!(ready_check(&connected), label);
            match checked {
                Err(error) if matches!(error.code(), Code::SshLost | Code::SshTimeout) => {
                    call.phase(Phase::Connect, format!("{error}; connecting again"));
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    continue;
                }
                other => other?,
            }
            // The label informs other machines; the lease works without it.
            match labelled {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => {
                    call.warn(format!("the remote label could not be set to ready: {}", failure.message));
                }
                Err(_) => call.warn("the remote label could not be set to ready within 10 s"),
            }
            return Ok(connected);
        }
    }

    /// Ends when a container has run, with an address, for too long without ever letting us in.
    async fn silent(
        &self,
        id: InstanceId,
        mut whereabouts: watch::Receiver<Whereabouts>,
        answered: &AtomicBool,
    ) -> Error {
        // A key that is refused has a limit of its own, which comes first.
        let limit = SILENT.max(self.settings.ssh_timeout + Duration::from_secs(60));
        loop {
            let reachable = |known: &Whereabouts| known.running && !known.endpoints.is_empty();
            let gone = |known: &Whereabouts| !reachable(known);
            if whereabouts.wait_for(reachable).await.is_err() {
                std::future::pending::<()>().await;
            }
            if tokio::time::timeout(limit, whereabouts.wait_for(gone)).await.is_ok() {
                continue;
            }
            if answered.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            return Error::new(
                Code::SshTimeout,
                format!("instance {id} runs, but its SSH has not let anybody in for {} s", limit.as_secs()),
            )
            .hint(
                "its host's network or its image's sshd is broken: another machine, or another image, may do",
            )
            .with("instance", id.0);
        }
    }

    /// Attaches the key, again and again while the instance is not visible yet. Never fails: images may carry the key
    /// from the create, and what matters is whether SSH lets us in.
    async fn attach(&self, booting: &Booting<'_>, call: &Call) {
        let mut told = false;
        loop {
            let failure = match self.client.attach_key(booting.instance, &booting.key.public).await {
                Ok(()) => return,
                Err(failure) => failure,
            };
            let invisible = failure.kind == Kind::NoSuchInstance;
            if !invisible && !told {
                told = true;
                call.warn(format!("attaching the key failed and is tried again: {}", failure.message));
            }
            let pause = if invisible { 500 } else { 5_000 };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Reads the instance until it turns out unusable. List and single read go side by side, each at its own pace:
    /// one of them alone has been seen to miss the ports.
    async fn watch(&self, booting: &Booting<'_>, sightings: &Sightings, call: &Call) -> Error {
        let listed = Notify::new();
        let listing = async {
            loop {
                let looked = self.sight(booting.instance).await;
                listed.notify_one();
                if let Some(error) = sightings.take_in(looked, booting, call) {
                    return error;
                }
                tokio::time::sleep(sightings.pause()).await;
            }
        };
        let showing = async {
            // Half an interval behind the list, so that the two together look twice as often.
            listed.notified().await;
            tokio::time::sleep(LimitClass::List.pace().interval / 2).await;
            loop {
                let looked = self.client.show(booting.instance).await.map(Sight::from);
                if let Some(error) = sightings.take_in(looked, booting, call) {
                    return error;
                }
                tokio::time::sleep(sightings.pause()).await;
            }
        };
        tokio::select! {
            biased;
            error = listing => error,
            error = showing => error,
            error = self.claim_removed(booting) => error,
        }
    }

    /// Ends when somebody removes the claim of the lease that is being started: then it is not ours to finish.
    async fn claim_removed(&self, booting: &Booting<'_>) -> Error {
        loop {
            tokio::time::sleep(CLAIM_LOOK).await;
            // An unreadable claim is not a removed one; the next write reports it.
            if let Ok(None) = self.store.claim(booting.lease).await {
                let lease = booting.lease;
                return Error::new(
                    Code::ClaimMissing,
                    format!("the claim of lease {lease} was removed while it started"),
                )
                .with("instance", booting.instance.0);
            }
        }
    }
}

/// What the reads have shown so far.
struct Sightings {
    whereabouts: watch::Sender<Whereabouts>,
    seen: Mutex<Seen>,
}

/// What was seen so far, and since when it reads so.
struct Seen {
    last: Option<Instance>,
    /// When; when the first read was asked for, where none has shown it yet.
    last_at: Instant,
    status_since: Instant,
    /// Every status with its text. Reads of the two kinds, or of two servers, that do not agree take turns: only what
    /// none has shown before is progress.
    told: BTreeSet<(Option<String>, Option<String>)>,
    progress_at: Instant,
    /// Since when no read was answered, but refused.
    refused_since: Option<Instant>,
}

impl Sightings {
    fn new(whereabouts: watch::Sender<Whereabouts>) -> Self {
        let began = Instant::now();
        let seen = Seen {
            last: None,
            last_at: began,
            status_since: began,
            told: BTreeSet::new(),
            progress_at: began,
            refused_since: None,
        };
        Self { whereabouts, seen: Mutex::new(seen) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> Option<Instance> {
        self.seen().last.clone()
    }

    /// The time until the next read of the same kind. The pacing slots keep the published intervals besides.
    fn pause(&self) -> Duration {
        let known = self.whereabouts.borrow();
        if known.running && !known.endpoints.is_empty() { RELAXED } else { EAGER }
    }

    /// For how long every read has been refused.
    fn locked_out(&self) -> Duration {
        self.seen().refused_since.get_or_insert_with(Instant::now).elapsed()
    }

    /// Takes in one read; an error when the instance turns out unusable.
    fn take_in(&self, looked: Result<Sight, Failure>, booting: &Booting<'_>, call: &Call) -> Option<Error> {
        if looked.is_ok() {
            self.seen().refused_since = None;
        }
        match looked {
            Ok(Sight::Present(instance)) => {
                if let Some(label) = instance.ownership()
                    && label.lease != booting.lease.as_str()
                {
                    return Some(anothers(&instance, booting.lease));
                }
                let ages = self.note(&instance, call);
                self.whereabouts.send_if_modified(|known| merge(known, &instance));
                unusable(&instance, ages, booting.asked)
            }
            Ok(Sight::Absent | Sight::Unclear) => {
                // A record may be missing from reads of either kind for a while; only a long absence from both means
                // anything, however long the boot has taken by then.
                let seen = self.seen();
                let never = seen.last.is_none();
                let patience = if never { VISIBILITY * 2 } else { VISIBILITY };
                let over = seen.last_at.elapsed() > patience;
                over.then(|| if never { phantom(booting.instance) } else { vanished(booting.instance) })
            }
            Err(failure) if failure.is_passing() => None,
            // The next read may be answered; but a key that is refused is told at once.
            Err(failure) if !refuses_key(failure.kind) && self.locked_out() < LOCKED_OUT => None,
            Err(failure) => Some(Error::from(failure)),
        }
    }

    /// Notes a sighting, and says what is new; for how long it has read so.
    fn note(&self, instance: &Instance, call: &Call) -> Ages {
        let now = Instant::now();
        let mut seen = self.seen();
        let told = progress(instance);
        let before = seen.last.as_ref();
        let new_text = before.is_none_or(|before| progress(before) != told);
        let same_status = before.is_some_and(|before| before.actual_status == instance.actual_status);
        if !same_status {
            seen.status_since = now;
        }
        if seen.told.insert((instance.actual_status.clone(), instance.status_msg.clone())) {
            seen.progress_at = now;
        }
        (seen.last, seen.last_at) = (Some(instance.clone()), now);
        let ages = Ages { status: now - seen.status_since, progress: now - seen.progress_at };
        drop(seen);
        if new_text {
            call.phase(Phase::Boot, told);
        }
        ages
    }
}

/// Whether the account's key is what was refused.
fn refuses_key(kind: Kind) -> bool {
    matches!(kind, Kind::BadKey | Kind::TwoFactor | Kind::Scope)
}

/// Takes in what a read showed; `true` if anything is new. Endpoints that one read lacks are kept as long as the
/// container runs: the two kinds of reads do not always agree.
fn merge(known: &mut Whereabouts, instance: &Instance) -> bool {
    let mut endpoints = instance.endpoints();
    if instance.is_running() && endpoints.is_empty() {
        endpoints.clone_from(&known.endpoints);
    }
    let changed = known.endpoints != endpoints || known.running != instance.is_running();
    *known = Whereabouts { endpoints, running: instance.is_running() };
    changed
}

fn progress(instance: &Instance) -> String {
    let status = instance.actual_status.as_deref().unwrap_or("provisioning");
    match instance.status_msg.as_deref() {
        Some(message) if !instance.is_running() => {
            let line: String = message.lines().next().unwrap_or_default().chars().take(100).collect();
            format!("instance {} {status}: {line}", instance.id)
        }
        _ => format!("instance {} {status}", instance.id),
    }
}

/// The answer to the create named an instance that carries the label of another lease. One without a label is ours: it
/// may have lost it, or never got it.
fn anothers(instance: &Instance, lease: &LeaseId) -> Error {
    let shown = instance.label.as_deref().unwrap_or_default();
    Error::new(
        Code::IdentityMismatch,
        format!("the create of lease {lease} was answered with instance {}, which shows {shown:?}", instance.id),
    )
    .hint("it is another lease's and was left alone; check in the Vast console whether another machine was rented")
    .with("instance", instance.id.0)
}

fn vanished(id: InstanceId) -> Error {
    Error::new(Code::InstanceGone, format!("instance {id} vanished while it started"))
        .hint("somebody destroyed it, or its host did")
        .with("instance", id.0)
}

fn phantom(id: InstanceId) -> Error {
    Error::new(Code::CreatePhantom, format!("instance {id} was never to be seen after its create"))
        .hint("the API answered for a machine that it did not rent; try again")
        .with("instance", id.0)
}

fn timed_out(id: InstanceId, limit: Duration, last: Option<&Instance>) -> Error {
    let state = last.map_or_else(|| "it never became visible".to_owned(), progress);
    Error::new(
        Code::BootTimeout,
        format!("instance {id} was not usable within {} s: {state}", limit.as_secs()),
    )
    .hint("a large image on a slow line takes long: raise vast.bootTimeout, or try another machine")
    .with("instance", id.0)
}

/// Runs `:` in a shell: sshd lets us in *and* runs commands.
async fn ready_check(connected: &Connected) -> Result<()> {
    let (output, mut discard) = mpsc::channel(16);
    let drain = async { while discard.recv().await.is_some() {} };
    let run = connected.session.exec(":", ExecIo { stdin: None, output });
    let limited = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(run, drain).0 });
    match limited.await {
        Ok(Ok(ExecExit::Code(0))) => Ok(()),
        Ok(Ok(exit)) => Err(Error::new(Code::SshRefused, format!("the ready check ended with {exit:?}"))
            .hint("the image's login shell does not run commands; try another image")),
        Ok(Err(error)) => Err(Error::new(Code::SshLost, format!("the ready check failed: {error}"))),
        Err(_) => Err(Error::new(Code::SshTimeout, "the ready check did not end within 20 s")),
    }
}

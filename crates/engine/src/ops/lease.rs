//! A usable lease: its facts, and the live sessions on which commands run.

use super::connect::Connected;
use super::deadman::Deadman;
use super::input::chained;
use super::release::Released;
use super::sessions::{Lent, Sessions};
use super::touch::pause_between_beats;
use super::{Call, Engine};
use crate::lease::labels;
use crate::lease::{Claim, DollarsPerHour, InstanceId, LeaseId, OfferId, ReleaseAction, moment};
use crate::ssh::command::{Prepared, Script, prepare};
use crate::store::{Holder, LeaseKey, OperationGuard};
use crate::vast::Endpoint;
use crate::world::{Duplex, ExecExit, ExecIo, SshError, SshErrorKind, SshSession, TakeTerminal};
use crate::{Code, Error, Result};
use futures_util::future::BoxFuture;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long another session may take.
const RECONNECT: Duration = Duration::from_secs(60);
/// How long a heartbeat may look for a connection.
const RENEWAL: Duration = Duration::from_secs(10);
/// Forwarded connections have an SSH connection each, up to this many; further ones share.
const MOST_SESSIONS: usize = 6;

/// A lease that is ready. Cheap to clone; all clones share its sessions.
#[derive(Clone)]
pub struct Lease {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    facts: Facts,
    rented: bool,
    key: LeaseKey,
    sessions: Sessions,
    /// Held while the lease exists for this process alone.
    held: Mutex<Option<OperationGuard>>,
}

/// What is known of a ready lease.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Lease id.
    pub id: LeaseId,
    /// Slug.
    pub slug: String,
    /// Instance id.
    pub instance: InstanceId,
    /// The rented offer, where recorded.
    pub offer: Option<OfferId>,
    /// $/h, disk included.
    pub price: Option<DollarsPerHour>,
    /// GPU name.
    pub gpu: String,
    /// Where SSH answers.
    pub endpoint: Endpoint,
    /// SSH user.
    pub user: String,
    /// Folder on the instance below which work happens.
    pub work_root: String,
    /// Cleanup leaves it alone.
    pub keep: bool,
    /// Idle timeout in seconds.
    pub idle_timeout_secs: u64,
    /// When cleanup may sweep it, seconds since 1970.
    pub expires_at: Option<i64>,
    /// The dead-man switch on the instance.
    pub deadman: Deadman,
}

/// An endpoint and the user that logs in there, as results show them.
#[derive(Serialize)]
pub(super) struct Address<'a> {
    #[serde(flatten)]
    pub endpoint: &'a Endpoint,
    pub user: &'a str,
}

impl Serialize for Facts {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self { id, slug, instance, offer, price, gpu, endpoint, user, .. } = self;
        let Self { work_root, keep, idle_timeout_secs, expires_at, deadman, .. } = self;
        let mut out = to.serialize_struct("Facts", 12)?;
        out.serialize_field("id", id)?;
        out.serialize_field("slug", slug)?;
        out.serialize_field("instance", instance)?;
        out.serialize_field("offer", offer)?;
        out.serialize_field("price", price)?;
        out.serialize_field("gpu", gpu)?;
        out.serialize_field("endpoint", &Address { endpoint, user })?;
        out.serialize_field("keep", keep)?;
        out.serialize_field("workRoot", work_root)?;
        out.serialize_field("idleTimeoutSeconds", idle_timeout_secs)?;
        out.serialize_field("expiresAt", &expires_at.map(moment))?;
        out.serialize_field("deadman", deadman)?;
        out.end()
    }
}

/// The rented machine behind a lease.
pub(super) struct Machine {
    pub instance: InstanceId,
    pub gpu: String,
    pub price: Option<DollarsPerHour>,
    pub deadman: Deadman,
    /// The call that hands it over rented it: nobody else has it yet.
    pub rented: bool,
}

/// A command for [`Lease::exec`].
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// What to run.
    pub script: Script,
    /// Variables for it, besides the local ones that the settings let through.
    pub env: BTreeMap<String, String>,
    /// Folder on the instance; `None`: the lease's own below the work root.
    pub folder: Option<String>,
}

/// A forwarded connection, and the SSH connection that carries it.
pub(super) struct Forwarded<'a> {
    pub stream: Box<dyn Duplex>,
    _session: Lent<'a>,
}

impl Lease {
    pub(super) fn new(
        engine: &Engine,
        id: &LeaseId,
        claim: &Claim,
        machine: Machine,
        key: &LeaseKey,
        connected: Connected,
    ) -> Self {
        let Machine { instance, gpu, price, deadman, rented } = machine;
        let labels = &claim.labels;
        let facts = Facts {
            id: id.clone(),
            slug: claim.slug.clone(),
            instance,
            offer: claim.label(labels::key::VAST_OFFER_ID).and_then(|id| id.parse().ok()),
            price,
            gpu,
            endpoint: connected.endpoint,
            user: engine.settings.user.clone(),
            work_root: engine.settings.work_root.clone(),
            keep: labels::keep(labels),
            idle_timeout_secs: labels::idle_timeout(labels).map_or(0, |idle| idle.as_secs()),
            expires_at: labels::expires_at(labels),
            deadman,
        };
        let inner = Inner {
            engine: engine.clone(),
            facts,
            rented,
            key: key.clone(),
            sessions: Sessions::new(connected.session),
            held: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// The facts.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.inner.facts
    }

    /// The lease's own folder on the instance: `<work root>/<lease>/<name>`.
    #[must_use]
    pub fn folder(&self, name: &str) -> String {
        let facts = &self.inner.facts;
        format!("{}/{}/{name}", facts.work_root.trim_end_matches('/'), facts.id)
    }

    /// The folder in which commands run that name none.
    #[must_use]
    pub fn workspace(&self) -> String {
        self.folder("workspace")
    }

    /// Runs a command and streams its output until it ends. Cancelling the call signals the command and closes its
    /// channel.
    ///
    /// # Errors
    /// [`Code::SshLost`] when the connection drops, [`Code::RemoteControl`] when the command cannot be started,
    /// [`Code::Cancelled`].
    pub fn exec<'a>(
        &'a self,
        request: &'a ExecRequest,
        io: ExecIo,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<ExecExit>> {
        Box::pin(async move {
            let Prepared { line, input } = self.prepare(request, &[])?;
            let (stdin, feeding) = chained(input, io.stdin);
            let io = ExecIo { stdin: Some(stdin), output: io.output };
            let (exit, ()) = tokio::join!(self.exec_raw(&line, io, call), feeding);
            exit
        })
    }

    /// The command as it is sent; `facts` are told to it besides those of the lease.
    pub(super) fn prepare(&self, request: &ExecRequest, facts: &[(&str, &str)]) -> Result<Prepared> {
        let folder = request.folder.clone().unwrap_or_else(|| self.workspace());
        let settings = &self.inner.engine.settings;
        let mut env = settings.environment.allowed(&settings.env_allow);
        env.extend(request.env.clone());
        let own = self.facts();
        let mut told = vec![("CRABBOX_LEASE_ID", own.id.as_str()), ("CRABBOX_SLUG", own.slug.as_str())];
        told.extend_from_slice(facts);
        prepare(&folder, &told, &env, &request.script)
    }

    /// The `ssh` command that logs in.
    pub(super) fn ssh_command(&self) -> super::ssh::SshCommand {
        super::ssh::command(&self.inner.key, &self.inner.facts.endpoint, &self.inner.facts.user)
    }

    /// Runs a command line as it stands, for [`super::remote::Remote`].
    pub(super) async fn exec_raw(&self, command: &str, io: ExecIo, call: &Call) -> Result<ExecExit> {
        self.on_session(call, |session| async move { session.exec(command, io).await }).await
    }

    /// Runs a command line, or the login shell, on a terminal.
    pub(super) async fn terminal(
        &self,
        command: Option<&str>,
        take: TakeTerminal,
        call: &Call,
    ) -> Result<ExecExit> {
        self.on_session(call, |session| async move { session.terminal(command, take).await }).await
    }

    /// Works on a connection of its own, with the heartbeat, until the work ends or the caller gives up.
    async fn on_session<T, Work>(
        &self,
        call: &Call,
        work: impl FnOnce(Arc<dyn SshSession>) -> Work,
    ) -> Result<T>
    where
        Work: Future<Output = Result<T, SshError>>,
    {
        let work = async {
            let session = self.session(call).await?;
            work(Arc::clone(&session.session)).await.map_err(|error| self.broken(error))
        };
        let heartbeat = async {
            // A released lease is noticed by the command's connection.
            self.heartbeat().await;
            std::future::pending().await
        };
        tokio::pin!(work, heartbeat);
        let alive = async {
            tokio::select! {
                biased;
                outcome = &mut work => outcome,
                never = &mut heartbeat => match never {},
            }
        };
        let outcome = call.until_cancelled(alive).await;
        self.inner.engine.explain_loss(outcome, self.facts(), call).await
    }

    fn broken(&self, error: SshError) -> Error {
        match error.kind {
            SshErrorKind::SessionRefused => Error::new(Code::RemoteControl, error.message)
                .hint("sshd accepts the key but runs no commands; see the image's sshd settings"),
            _ => Error::new(
                Code::SshLost,
                format!("the connection to the instance was lost: {}", error.message),
            )
            .hint(format!(
                "see `status {}`: the machine may have stopped; the command's fate is unknown",
                self.facts().slug
            )),
        }
    }

    /// A connection to `host` and `port` as the instance sees them.
    ///
    /// # Errors
    /// [`Code::RemoteControl`] when nothing answers there; [`Code::SshLost`].
    pub(super) async fn dial(&self, host: &str, port: u16, call: &Call) -> Result<Forwarded<'_>> {
        let session = match self.inner.sessions.share(MOST_SESSIONS) {
            Some(session) => session,
            None => self.session(call).await?,
        };
        match session.session.dial(host, port).await {
            Ok(stream) => Ok(Forwarded { stream, _session: session }),
            Err(error) if error.kind == SshErrorKind::SessionRefused => {
                Err(Error::new(Code::RemoteControl, error.message)
                    .hint("is the service running on the instance, on that port and address?"))
            }
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Touches the lease and tells the instance, for as long as it is in use, so that neither a cleanup nor its own
    /// watchdog takes it for idle. Ends when it was released or stopped; the error says which.
    pub(super) async fn heartbeat(&self) -> Error {
        let idle = Duration::from_secs(self.facts().idle_timeout_secs);
        loop {
            tokio::time::sleep(pause_between_beats(idle)).await;
            let claim = match self.touch(None).await {
                Ok(claim) => claim,
                Err(error) if error.code() == Code::ClaimMissing => {
                    let name = &self.facts().slug;
                    return Error::new(Code::LeaseNotFound, format!("lease {name} was released"))
                        .hint("`list` shows what is rented")
                        .with("lease", self.facts().id.as_str());
                }
                Err(error) if error.code() == Code::InstanceNotRunning => return error,
                // The next beat tries again.
                Err(_) => continue,
            };
            let idle = labels::idle_timeout(&claim.labels).filter(|_| self.facts().deadman.counts_idle);
            // An address that went with its instance must not hold up the next beat, which sees that.
            let quiet = Call::default();
            let session = tokio::time::timeout(RENEWAL, self.session(&quiet));
            if let (Some(idle), Ok(Ok(lent))) = (idle, session.await) {
                // An open connection is no such word: a watchdog may not recognise the image's sshd, and never one that
                // only forwards.
                let Inner { engine, facts, .. } = &*self.inner;
                engine.beat(&facts.id, &claim, idle, lent.session.as_ref()).await;
            }
        }
    }

    /// The dead-man switch as of now, where it had only just been started when the facts were gathered; otherwise that of
    /// the facts. Waits up to three seconds for its first report, and warns of one that does not work.
    pub fn deadman<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Deadman> {
        Box::pin(async move {
            let Inner { engine, facts, .. } = &*self.inner;
            if !facts.deadman.is_awaited {
                return facts.deadman.clone();
            }
            let looked = async {
                let lent = self.session(call).await?;
                Ok(engine.awaited_deadman(&facts.id, lent.session.as_ref(), call).await)
            };
            call.until_cancelled(looked).await.unwrap_or_else(|_| facts.deadman.clone())
        })
    }

    /// The facts, with the dead-man switch as [`Lease::deadman`] has it.
    pub fn facts_now<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Facts> {
        Box::pin(async move { Facts { deadman: self.deadman(call).await, ..self.facts().clone() } })
    }

    /// Gives back what reaches nobody, for its caller gave up: what this very call rented is destroyed, as by an acquire that
    /// is cancelled earlier; what was there before, and may be somebody's, is only closed. Returns what to tell the caller.
    pub fn undeliver<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Error> {
        Box::pin(self.give_up(None, call))
    }

    /// [`Lease::undeliver`] for who may hold the lease's operation lock.
    pub(super) async fn give_up(&self, lock: Option<OperationGuard>, call: &Call) -> Error {
        self.close().await;
        let (Inner { engine, facts, key, rented, .. }, error) =
            (&*self.inner, Error::new(Code::Cancelled, "cancelled"));
        if !rented {
            return error;
        }
        engine.take_back(facts, key, lock, error, call).await
    }

    /// Closes the sessions, nothing else. The next command opens another one.
    pub async fn close(&self) {
        self.inner.sessions.close().await;
    }

    /// A session that no other command uses.
    async fn session(&self, call: &Call) -> Result<Lent<'_>> {
        let Inner { engine, facts, key, sessions, .. } = &*self.inner;
        if let Some(free) = sessions.take() {
            return Ok(free);
        }
        let connected = engine.connect(&facts.id, key, vec![facts.endpoint.clone()], RECONNECT, call).await?;
        Ok(sessions.add(connected.session))
    }

    /// Marks a use: moves the idle deadline. `state` is `ready` or `running`.
    ///
    /// # Errors
    /// [`Code::ClaimMissing`] after a release; [`Code::InstanceNotRunning`] once it is stopped.
    pub fn touch<'a>(&'a self, state: Option<&'static str>) -> BoxFuture<'a, Result<Claim>> {
        Box::pin(async move { self.inner.engine.touch_claim(&self.inner.facts.id, state, None).await })
    }

    /// The lease as claim and cloud show it now.
    ///
    /// # Errors
    /// As [`Engine::status`].
    pub fn status<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<super::status::LeaseStatus>> {
        self.inner.engine.status(self.inner.facts.id.as_str(), call)
    }

    /// Says that the lease exists for this process alone: should it die, the next command gives the lease back. `lock`
    /// is the lease's operation lock.
    pub(super) async fn hold(&self, lock: OperationGuard) -> Result<()> {
        let Inner { engine, facts, held, .. } = &*self.inner;
        *held.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
        if let Some(mut journal) = engine.store.journal(&facts.id).await? {
            journal.holder = Some(engine.holder());
            engine.store.write_journal(&journal).await?;
        }
        Ok(())
    }

    /// Releases it. The sessions are closed first. Beside it, what processes that died left behind is finished as far as
    /// one look allows.
    ///
    /// # Errors
    /// As [`Engine::release`].
    pub fn release<'a>(
        &'a self,
        action: Option<ReleaseAction>,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Released>> {
        Box::pin(async move { self.release_as(action, false, call).await })
    }

    /// [`Lease::release`], `alone` with nothing beside it.
    pub(super) async fn release_as(
        &self,
        action: Option<ReleaseAction>,
        alone: bool,
        call: &Call,
    ) -> Result<Released> {
        self.close().await;
        let Inner { engine, facts, held, .. } = &*self.inner;
        let lock = held.lock().unwrap_or_else(PoisonError::into_inner).take();
        engine.release_held(&facts.id, action, lock, alone, call).await
    }
}

impl Engine {
    /// This process, as the one that a lease goes with.
    pub(super) fn holder(&self) -> Holder {
        Holder { process: self.world.ambient.process(), since: self.unix_now(), ..Holder::default() }
    }
}

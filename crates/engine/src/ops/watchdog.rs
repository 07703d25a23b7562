//! The watchdog of a lease: which deadlines it gets, starting it, bringing it back, renewing it, ending one of another's.

use super::deadman::{Deadman, nothing_armed, recorded, warn};
use super::session_script::run;
use super::{Call, Engine};
use crate::lease::labels::{self, key};
use crate::lease::{Claim, LeaseId, ReleaseAction};
use crate::ssh::deadman::{
    LOOK, Plan, Report, disarm, first_look, install, is_off, line, renewal, second_look,
};
use crate::store::{DeadmanRecord, Journal, OperationGuard};
use crate::vast::{Endpoint, EndpointKind};
use crate::world::SshSession;
use crate::{Code, Error, Result};
use std::time::Duration;

/// How long a look or a renewal may take; the first report may take three seconds to come.
const LIMIT: Duration = Duration::from_secs(8);

/// How long a touch waits for a connection that renews.
const CONNECT: Duration = Duration::from_secs(5);

impl Engine {
    /// What a new lease is to carry, for its journal.
    pub(super) fn deadman_record(&self, keep: bool) -> Option<DeadmanRecord> {
        let settings = &self.settings;
        // Whose release is to leave it alone does not want it ended for being idle.
        let keep = keep || settings.release_action == ReleaseAction::Keep;
        let plan = Plan::of(keep, settings.ttl, settings.ttl_explicit, settings.idle_timeout)?;
        Some(DeadmanRecord {
            ttl_secs: plan.ttl.map(|ttl| ttl.as_secs()),
            idle_secs: plan.idle.map(|idle| idle.as_secs()),
            // A template brings a start script of its own, which ours would replace.
            over_ssh: settings.template_id.is_some(),
            ..DeadmanRecord::default()
        })
    }

    /// The watchdog's line in the start script of a create call, for a lease of whose time so much is `used` up by machines
    /// that did not come up: however many there are, together they cost what one may.
    pub(super) fn watchdog(&self, journal: &Journal, used: Duration) -> Result<Option<String>> {
        let record = journal.deadman.as_ref().filter(|record| !record.over_ssh);
        let plan = |record: &DeadmanRecord| {
            let idle = record.idle_secs.map(Duration::from_secs);
            Plan {
                ttl: record.ttl_secs.map(Duration::from_secs).map(|ttl| ttl.saturating_sub(used)),
                idle,
                grace: idle.unwrap_or(self.settings.idle_timeout),
            }
        };
        record.map(|record| line(&plan(record), &self.settings.api_url)).transpose()
    }

    /// Makes sure, over the first session, that the deadlines of a new lease are armed, and notes in its journal how
    /// that came out. One command, which does not wait for a start script that has not begun. Never fails: a lease
    /// without its dead-man switch is usable, and its holder is told.
    pub(super) async fn arm(&self, journal: &mut Journal, session: &dyn SshSession, call: &Call) -> Deadman {
        let Some(record) = journal.deadman.clone() else { return nothing_armed(journal.price) };
        let looked = async {
            let plan = self.plan(journal, &record, None);
            let script = if record.over_ssh {
                install(&plan, &self.settings.api_url, false)?
            } else {
                first_look(&plan, &self.settings.api_url)?
            };
            look(session, &script).await
        };
        let mut deadman = match looked.await {
            // Start scripts may run after sshd: no reason to warn, and none to call it armed.
            Ok(None) if !record.over_ssh => Deadman::awaited(),
            looked => self.started(looked),
        };
        deadman.counts_idle = record.idle_secs.is_some();
        if let Some(record) = &mut journal.deadman {
            record.report(&deadman, self.unix_now());
        }
        if !deadman.is_awaited {
            warn(&deadman, call);
        }
        deadman
    }

    /// What became of a watchdog that was started over the first session without waiting for it.
    pub(super) async fn awaited_deadman(
        &self,
        lease: &LeaseId,
        session: &dyn SshSession,
        call: &Call,
    ) -> Deadman {
        let deadman = self.started(look(session, &second_look()).await);
        warn(&deadman, call);
        if let Ok(Some(mut journal)) = self.store.journal(lease).await
            && let Some(record) = &mut journal.deadman
        {
            record.report(&deadman, self.unix_now());
            self.note_deadman(lease, journal.deadman, None, call).await;
        }
        deadman
    }

    fn started(&self, looked: Result<Option<Report>>) -> Deadman {
        match looked {
            Ok(Some(report)) => Deadman::reported(&report, self.unix_now()),
            Ok(None) => Deadman::not_armed(
                "it was started over SSH and does not report: has the image base64 and gzip?",
            ),
            Err(error) => Deadman::not_armed(error.to_string()),
        }
    }

    /// The deadlines that a watchdog started now gets. The time to live is what is left of it, and not less than an idle
    /// timeout: a use, a start or an install never makes it longer.
    fn plan(&self, journal: &Journal, record: &DeadmanRecord, claim: Option<&Claim>) -> Plan {
        // A touch may have changed it since the lease was made.
        let idle = claim.and_then(|claim| labels::idle_timeout(&claim.labels));
        let idle = idle.or(record.idle_secs.map(Duration::from_secs)).unwrap_or(self.settings.idle_timeout);
        let lived = self.lived(journal, claim);
        let ttl = record.ttl_secs.map(|ttl| {
            let ends = record.ends_at.map_or(0, |at| at.saturating_sub(self.unix_now()));
            let left = ttl.saturating_sub(lived).max(u64::try_from(ends).unwrap_or(0));
            Duration::from_secs(left.max(idle.as_secs()).min(ttl))
        });
        Plan { ttl, idle: record.idle_secs.map(|_| idle), grace: idle }
    }

    /// For how many seconds a lease has existed. By the vendor's clock where its create noted that: ours may have been set
    /// since. An adopted one exists from its adoption on.
    fn lived(&self, journal: &Journal, claim: Option<&Claim>) -> u64 {
        let now = self.unix_now();
        let created = claim.and_then(|claim| labels::created_at(&claim.labels)).unwrap_or(journal.created_at);
        let create = journal.attempts.last().filter(|_| journal.adopted_at.is_none());
        let vendors = create.and_then(|create| {
            let before = create.started_at.saturating_sub(created).max(0);
            Some(now - self.client.clock_skew()? - create.vendor_at? + before)
        });
        u64::try_from(vendors.unwrap_or(now - created)).unwrap_or(0)
    }

    /// The dead-man switch of a present lease that is about to be used; a watchdog that does not watch is brought back.
    /// `lock` is the lease's operation lock, where the caller has it.
    pub(super) async fn deadman_for_use(
        &self,
        lease: &LeaseId,
        claim: &Claim,
        lock: Option<&OperationGuard>,
        session: &dyn SshSession,
        call: &Call,
    ) -> Deadman {
        let Ok(Some(journal)) = self.store.journal(lease).await else {
            return self.recorded_deadman(lease, self.unix_now()).await;
        };
        if journal.deadman.is_none() {
            return recorded(&journal, self.unix_now());
        }
        match look(session, LOOK).await {
            Ok(looked) => self.tend_and_note(lease, claim, journal, looked, lock, session, call).await,
            // Who opens it uses it.
            Err(_) => recorded(&journal, self.unix_now()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one step of each use, with what its callers have at hand")]
    async fn tend_and_note(
        &self,
        lease: &LeaseId,
        claim: &Claim,
        mut journal: Journal,
        looked: Option<Report>,
        lock: Option<&OperationGuard>,
        session: &dyn SshSession,
        call: &Call,
    ) -> Deadman {
        let before = journal.deadman.clone();
        // On the heap: it is rare, and would make every use's future larger.
        let deadman = Box::pin(self.tend(&mut journal, claim, looked, session, call)).await;
        if journal.deadman != before {
            self.note_deadman(lease, journal.deadman, lock, call).await;
        }
        deadman
    }

    /// Starts the watchdog where none answers, where the one that does is past its work, and where it is another's; takes
    /// over in the journal what is new of it.
    pub(super) async fn tend(
        &self,
        journal: &mut Journal,
        claim: &Claim,
        looked: Option<Report>,
        session: &dyn SshSession,
        call: &Call,
    ) -> Deadman {
        let Some(record) = journal.deadman.clone() else { return recorded(journal, self.unix_now()) };
        // An adoption says when the lease ends, whatever its maker had said.
        let anothers = journal.adopted_at.is_some() && record.seen_at.is_none();
        let api_url = claim.label(key::VAST_API_URL).unwrap_or(&self.settings.api_url);
        if !record.is_armed() {
            let deadman = self.disarm(journal.price, api_url, looked, session).await;
            if deadman.confirmed && !deadman.armed {
                journal.deadman = None;
            }
            return deadman;
        }
        let watches = |report: &Report| {
            let planned = (report.end.is_some(), report.idle.is_some());
            report.weakness().is_none() && planned == (record.ttl_secs.is_some(), record.idle_secs.is_some())
        };
        let (mut deadman, installed) = match looked.filter(|report| !anothers && watches(report)) {
            Some(report) => (Deadman::reported(&report, self.unix_now()), false),
            None => {
                let record =
                    DeadmanRecord { ends_at: record.ends_at.filter(|_| !anothers), ..record.clone() };
                let plan = self.plan(journal, &record, Some(claim));
                let installed = async { look(session, &install(&plan, api_url, anothers)?).await };
                (self.started(installed.await), true)
            }
        };
        deadman.counts_idle = record.idle_secs.is_some();
        warn(&deadman, call);
        if let Some(noted) = &mut journal.deadman
            && deadman.confirmed
            && (installed || record.is_unconfirmed())
        {
            noted.report(&deadman, self.unix_now());
        }
        deadman
    }

    /// Ends the watchdog that the maker of an adopted lease may have armed. One that cannot be ended is told as it is.
    async fn disarm(
        &self,
        price: Option<f64>,
        api_url: &str,
        looked: Option<Report>,
        session: &dyn SshSession,
    ) -> Deadman {
        let said = async { run(session, &disarm(api_url)?, LIMIT).await };
        let off = said.await.is_ok_and(|answer| is_off(&String::from_utf8_lossy(&answer.stdout)));
        match looked {
            _ if off => Deadman { confirmed: true, ..nothing_armed(price) },
            Some(report) => Deadman::reported(&report, self.unix_now()),
            None => nothing_armed(price),
        }
    }

    /// Notes what an instance reported. Whoever works on the lease notes it another time.
    async fn note_deadman(
        &self,
        lease: &LeaseId,
        record: Option<DeadmanRecord>,
        lock: Option<&OperationGuard>,
        call: &Call,
    ) {
        let _own = match lock {
            Some(_) => None,
            None => match self.store.operation_lock(lease).await {
                Ok(Some(own)) => Some(own),
                _ => return,
            },
        };
        let Ok(Some(mut journal)) = self.store.journal(lease).await else { return };
        if journal.deadman.is_some() {
            journal.deadman = record;
            self.note_or_warn(&journal, call).await;
        }
    }

    /// Tells the instance of a use, over a session of its own, and brings back a watchdog that does not watch. `None` where
    /// there is nothing to be told.
    ///
    /// # Errors
    /// Why it could not be told; its deadline is then where it was.
    pub(super) async fn renew_deadman(&self, claim: &Claim, call: &Call) -> Result<Option<Deadman>> {
        let Some(id) = LeaseId::parse(&claim.lease_id) else { return Ok(None) };
        let Some(journal) = self.store.journal(&id).await? else { return Ok(None) };
        let Some(record) = &journal.deadman else { return Ok(None) };
        let idle = record.idle_secs.and_then(|_| labels::idle_timeout(&claim.labels));
        if idle.is_none() && !record.is_unconfirmed() {
            return Ok(None);
        }
        let port = u16::try_from(claim.ssh_port).unwrap_or(0);
        let (Some(key), true) = (self.store.key(&id).await?, port > 0 && !claim.ssh_host.is_empty()) else {
            return Err(Error::new(Code::SshTimeout, "its address or key is not recorded here"));
        };
        let endpoint = Endpoint { host: claim.ssh_host.clone(), port, kind: EndpointKind::Direct };
        let quiet = Call::default();
        let connect = self.connect(&id, &key, vec![endpoint], CONNECT, &quiet);
        let connected = call.until_cancelled(connect).await?;
        let session = connected.session.as_ref();
        let renewed = async {
            let looked = look(session, &idle.map_or_else(|| LOOK.to_owned(), renewal)).await?;
            Ok(self.tend_and_note(&id, claim, journal, looked, None, session, call).await)
        };
        let renewed = call.until_cancelled(renewed).await;
        connected.session.close().await;
        renewed.map(Some)
    }

    /// Tells the instance at the other end of a use that lasts. Its watchdog is brought back if need be; the next beat tries
    /// again what failed.
    pub(super) async fn beat(
        &self,
        lease: &LeaseId,
        claim: &Claim,
        idle: Duration,
        session: &dyn SshSession,
    ) {
        let Ok(looked) = look(session, &renewal(idle)).await else { return };
        if looked.as_ref().is_some_and(|report| report.weakness().is_none()) {
            return;
        }
        if let Ok(Some(journal)) = self.store.journal(lease).await {
            let quiet = Call::default();
            self.tend_and_note(lease, claim, journal, looked, None, session, &quiet).await;
        }
    }
}

/// What the watchdog at the other end says, if one is there.
pub(super) async fn look(session: &dyn SshSession, script: &str) -> Result<Option<Report>> {
    let answer = run(session, script, LIMIT).await?;
    Ok(Report::parse(&String::from_utf8_lossy(&answer.stdout)))
}

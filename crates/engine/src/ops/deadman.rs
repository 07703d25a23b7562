//! The dead-man switch of a lease, seen from here: which deadlines it carries, arming it, looking at it, renewing it.

use super::session_script::run;
use super::{Call, Engine};
use crate::lease::labels::{self, Labels};
use crate::lease::{Claim, LeaseId, ReleaseAction, go_duration, moment};
use crate::ssh::deadman::{LOOK, Plan, Report, first_look, line, renewal};
use crate::store::{DeadmanRecord, Journal};
use crate::vast::{Endpoint, EndpointKind};
use crate::world::SshSession;
use crate::{Code, Error, Result};
use serde::Serialize;
use std::time::Duration;

/// How long a look or a renewal may take; the first report may take three seconds to come.
const LIMIT: Duration = Duration::from_secs(8);

/// How long a touch waits for a connection that renews.
const CONNECT: Duration = Duration::from_secs(5);

/// What ends an instance by itself, as far as it is known here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deadman {
    /// The instance destroys itself at its deadline.
    pub armed: bool,
    /// The deadline that comes first, RFC 3339.
    pub until: Option<String>,
    /// The end that no use moves, RFC 3339.
    pub ends_at: Option<String>,
    /// The deadline that each use moves, RFC 3339.
    pub idle_until: Option<String>,
    /// The instance said so just now; otherwise it is what was recorded when the lease was made.
    pub confirmed: bool,
    /// With what the instance can call the API.
    pub clients: Vec<String>,
    /// Why it is not armed.
    pub why_not: Option<String>,
    /// Whether uses should be told to the instance, also to a watchdog that has not been seen yet.
    #[serde(skip)]
    pub(super) counts_idle: bool,
}

impl Deadman {
    /// Where the container does not run.
    pub(super) fn asleep() -> Self {
        Self::not_armed("the instance does not run, and neither does its watchdog")
    }

    fn not_armed(why: impl Into<String>) -> Self {
        Self { why_not: Some(why.into()), ..Self::default() }
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        match (&self.until, &self.why_not) {
            (Some(until), _) if self.armed => {
                let recorded =
                    if self.confirmed { "" } else { " (as recorded; not confirmed by the instance)" };
                format!("deadman armed until {until}{recorded}")
            }
            (_, Some(why)) => format!("deadman not armed: {why}"),
            _ => "deadman not armed".to_owned(),
        }
    }

    fn reported(report: &Report, now: i64) -> Self {
        let at = |uptime: u64| {
            let ahead = i64::try_from(uptime).unwrap_or(i64::MAX) - i64::try_from(report.now).unwrap_or(0);
            moment(now.saturating_add(ahead))
        };
        let why_not = report.weakness();
        Self {
            armed: why_not.is_none(),
            until: report.deadline().map(at),
            ends_at: report.end.map(at),
            idle_until: report.idle.map(at),
            confirmed: true,
            clients: report.clients.clone(),
            why_not,
            counts_idle: report.idle.is_some(),
        }
    }
}

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

    fn plan(&self, record: &DeadmanRecord) -> Plan {
        let idle = record.idle_secs.map(Duration::from_secs);
        Plan {
            ttl: record.ttl_secs.map(Duration::from_secs),
            idle,
            grace: idle.unwrap_or(self.settings.idle_timeout),
        }
    }

    /// The watchdog's line in the start script of a create call.
    pub(super) fn watchdog(&self, journal: &Journal) -> Result<Option<String>> {
        let record = journal.deadman.as_ref().filter(|record| !record.over_ssh);
        record.map(|record| line(&self.plan(record), &self.settings.api_url)).transpose()
    }

    /// Makes sure, over the first session, that the deadlines of a new lease are armed, and notes in its journal how
    /// that came out. Never fails: a lease without its dead-man switch is usable, and its holder is told.
    pub(super) async fn arm(&self, journal: &mut Journal, session: &dyn SshSession, call: &Call) -> Deadman {
        let price = journal.price;
        let Some(record) = &mut journal.deadman else { return nothing_armed(price) };
        let mut deadman = if record.over_ssh {
            self.install_deadman(record, session).await
        } else {
            match look(session, &first_look()).await {
                // Start scripts may run after sshd: no reason to warn, and none to call it armed.
                Ok(None) => {
                    return Deadman {
                        counts_idle: record.idle_secs.is_some(),
                        ..Deadman::not_armed(
                            "its start script has not reported yet: `status` tells when it has",
                        )
                    };
                }
                looked => self.first_report(looked),
            }
        };
        deadman.counts_idle = record.idle_secs.is_some();
        record.report(&deadman, self.unix_now());
        warn(&deadman, call);
        deadman
    }

    /// Installs the watchdog over a session. One that is there already gives way.
    async fn install_deadman(&self, record: &DeadmanRecord, session: &dyn SshSession) -> Deadman {
        let installed = async {
            let install = line(&self.plan(record), &self.settings.api_url)?;
            run(session, &install, LIMIT).await?.success("installing the dead-man switch")?;
            look(session, &first_look()).await
        };
        self.first_report(installed.await)
    }

    fn first_report(&self, looked: Result<Option<Report>>) -> Deadman {
        match looked {
            Ok(Some(report)) => Deadman::reported(&report, self.unix_now()),
            Ok(None) => Deadman::not_armed("the start script did not run (yet): see `status`"),
            Err(error) => Deadman::not_armed(error.to_string()),
        }
    }

    /// The dead-man switch of a present lease that is about to be used. What came over a session died with a stop of
    /// the instance, and is brought back.
    pub(super) async fn deadman_for_use(
        &self,
        lease: &LeaseId,
        session: &dyn SshSession,
        call: &Call,
    ) -> Deadman {
        let journal = self.store.journal(lease).await.ok().flatten();
        let record = journal.and_then(|journal| journal.deadman);
        match record.filter(|record| record.over_ssh || is_unconfirmed(record)) {
            Some(record) => self.revive_deadman(lease, record, session, call).await,
            // Who opens it uses it.
            None => self.recorded_deadman(lease, self.unix_now()).await,
        }
    }

    /// Installs the watchdog where none answers, and notes what the instance says of it.
    async fn revive_deadman(
        &self,
        lease: &LeaseId,
        record: DeadmanRecord,
        session: &dyn SshSession,
        call: &Call,
    ) -> Deadman {
        let (deadman, installed) = match look(session, LOOK).await {
            // One that is there and cannot do its work is no better for being installed again.
            Ok(Some(report)) if report.weakness().is_none() || !record.over_ssh => {
                (Deadman::reported(&report, self.unix_now()), false)
            }
            _ => (self.install_deadman(&record, session).await, true),
        };
        warn(&deadman, call);
        if is_unconfirmed(&record) && deadman.confirmed {
            self.note_deadman(lease, &deadman, installed, call).await;
        }
        deadman
    }

    /// What an instance reported later than at its acquire. Whoever works on the lease notes it another time.
    async fn note_deadman(&self, lease: &LeaseId, deadman: &Deadman, installed: bool, call: &Call) {
        let Ok(Some(_lock)) = self.store.operation_lock(lease).await else { return };
        let Ok(Some(mut journal)) = self.store.journal(lease).await else { return };
        let Some(record) = &mut journal.deadman else { return };
        record.over_ssh |= installed;
        record.report(deadman, self.unix_now());
        self.note_or_warn(&journal, call).await;
    }

    /// What is recorded of a lease's dead-man switch; its idle deadline counts from `last_use`, Unix seconds.
    async fn recorded_deadman(&self, lease: &LeaseId, last_use: i64) -> Deadman {
        match self.store.journal(lease).await {
            Ok(Some(journal)) => recorded(&journal, last_use),
            Ok(None) => Deadman::not_armed("the lease was not made by crabbox-vast"),
            Err(error) => Deadman::not_armed(error.to_string()),
        }
    }

    /// The dead-man switch of a claimed lease: as the instance itself tells it, where a session can ask it, else as it is
    /// recorded.
    pub(super) async fn deadman_of(
        &self,
        lease: &LeaseId,
        labels: &Labels,
        session: Option<&dyn SshSession>,
    ) -> Deadman {
        let looked = match session {
            Some(session) => look(session, LOOK).await.ok(),
            None => None,
        };
        let last_use = labels::last_touched_at(labels).unwrap_or_else(|| self.unix_now());
        match looked {
            Some(Some(report)) => Deadman::reported(&report, self.unix_now()),
            Some(None) => match self.recorded_deadman(lease, last_use).await {
                known if known.armed => Deadman::not_armed("no watchdog runs on the instance"),
                known => known,
            },
            None => self.recorded_deadman(lease, last_use).await,
        }
    }

    /// Tells the instance of a use, over a session of its own. `None` where being idle does not end it.
    ///
    /// # Errors
    /// Why it could not be told; its deadline is then where it was.
    pub(super) async fn renew_deadman(&self, claim: &Claim, call: &Call) -> Result<Option<Deadman>> {
        let Some(id) = LeaseId::parse(&claim.lease_id) else { return Ok(None) };
        let Some(idle) = labels::idle_timeout(&claim.labels) else { return Ok(None) };
        if !self.recorded_deadman(&id, 0).await.counts_idle {
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
            match renew(session, idle).await {
                Ok(report) => Ok(Deadman::reported(&report, self.unix_now())),
                // Nobody took it: whatever should have started the watchdog did not, or it was ended.
                Err(error) if error.code() == Code::RemoteControl => {
                    let journal = self.store.journal(&id).await.ok().flatten();
                    let record = journal.and_then(|journal| journal.deadman).ok_or(error)?;
                    Ok(self.revive_deadman(&id, record, session, call).await)
                }
                Err(error) => Err(error),
            }
        };
        let renewed = call.until_cancelled(renewed).await;
        connected.session.close().await;
        renewed.map(Some)
    }
}

impl DeadmanRecord {
    /// Takes over what the instance said.
    fn report(&mut self, deadman: &Deadman, now: i64) {
        self.why_not.clone_from(&deadman.why_not);
        self.seen_at = deadman.confirmed.then_some(now);
        self.ends_at =
            deadman.ends_at.as_deref().and_then(crate::lease::parse_rfc3339).map(crate::lease::unix);
    }
}

/// Whether no instance has ever said that its watchdog works.
fn is_unconfirmed(record: &DeadmanRecord) -> bool {
    record.seen_at.is_none() || record.why_not.is_some()
}

/// Moves the idle deadline of the instance at the other end to `idle` from now.
pub(super) async fn renew(session: &dyn SshSession, idle: Duration) -> Result<Report> {
    look(session, &renewal(idle)).await?.ok_or_else(|| {
        Error::new(Code::RemoteControl, format!("no watchdog took the {} of this use", go_duration(idle)))
    })
}

async fn look(session: &dyn SshSession, script: &str) -> Result<Option<Report>> {
    let answer = run(session, script, LIMIT).await?;
    Ok(Report::parse(&String::from_utf8_lossy(&answer.stdout)))
}

fn recorded(journal: &Journal, last_use: i64) -> Deadman {
    let Some(record) = &journal.deadman else {
        return if journal.attempts.is_empty() {
            Deadman::not_armed("the lease was not made by crabbox-vast")
        } else {
            nothing_armed(journal.price)
        };
    };
    let idle = record.idle_secs.and_then(|idle| last_use.checked_add_unsigned(idle));
    let until = record.ends_at.into_iter().chain(idle).min();
    let why_not = match (&record.why_not, until) {
        (Some(why), _) => Some(why.clone()),
        (None, None) => Some("the instance has not reported a deadline".to_owned()),
        (None, Some(_)) => None,
    };
    let known = |at: Option<i64>| at.filter(|_| why_not.is_none()).map(moment);
    Deadman {
        armed: why_not.is_none(),
        until: known(until),
        ends_at: known(record.ends_at),
        idle_until: known(idle),
        counts_idle: idle.is_some(),
        why_not,
        ..Deadman::default()
    }
}

fn warn(deadman: &Deadman, call: &Call) {
    if let Some(why) = &deadman.why_not {
        call.warn(format!(
            "the instance will not end by itself: {why}; release it yourself, or take an image with curl or python3"
        ));
    }
}

fn nothing_armed(price: Option<f64>) -> Deadman {
    let cost = price.map_or_else(String::new, |price| format!(", at {:.2} $ a day", price * 24.0));
    Deadman::not_armed(format!(
        "the lease is kept and no ttl was given: it runs until it is stopped{cost}; --ttl sets an end"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_787_400_000;

    fn reported(text: &str) -> Deadman {
        Deadman::reported(&Report::parse(text).expect("a report"), NOW)
    }

    #[test]
    fn deadlines_are_told_in_the_time_of_this_machine() {
        let both = reported("deadman: 1000 1 990 6400 2790 key id curl openssl");
        assert!(both.armed && both.confirmed && both.counts_idle);
        assert_eq!(both.until, Some(moment(NOW + 1790)));
        assert_eq!(
            (both.ends_at.clone(), both.idle_until.clone()),
            (Some(moment(NOW + 5400)), both.until.clone())
        );
        assert_eq!(both.line(), format!("deadman armed until {}", moment(NOW + 1790)));
        let end = reported("deadman: 1000 1 990 6400 0 key id curl");
        assert!(end.until == end.ends_at && !end.counts_idle);
        let past = reported("deadman: 1000 1 100 900 0 key id curl");
        assert_eq!(past.until, Some(moment(NOW - 100)));
    }

    #[test]
    fn what_is_recorded_stands_where_nobody_answers() {
        let lease = LeaseId::from_entropy([7; 6]);
        let mut journal = Journal::new(&lease, "swift-krill", "1@box", NOW);
        assert!(!recorded(&journal, NOW).armed);
        journal.attempts.push(crate::store::Attempt::default());
        assert_eq!(recorded(&journal, NOW), nothing_armed(None));
        let mut record =
            DeadmanRecord { ends_at: Some(NOW + 5400), idle_secs: Some(600), ..DeadmanRecord::default() };
        journal.deadman = Some(record.clone());
        let told = recorded(&journal, NOW + 60);
        assert_eq!((told.armed, told.confirmed, told.until.clone()), (true, false, Some(moment(NOW + 660))));
        assert!(told.line().ends_with(" (as recorded; not confirmed by the instance)"), "{}", told.line());
        // A watchdog that was not seen may still come up: uses are told to it.
        record.why_not = Some("the start script did not run (yet): see `status`".into());
        journal.deadman = Some(record);
        let told = recorded(&journal, NOW);
        assert!(!told.armed && told.until.is_none() && told.counts_idle);
        journal.deadman = Some(DeadmanRecord::default());
        assert!(!recorded(&journal, NOW).armed);
    }

    #[test]
    fn what_does_not_work_is_not_armed() {
        let bare = reported("deadman: 1000 1 990 6400 2790 key id");
        assert!(!bare.armed && bare.counts_idle);
        assert_eq!(
            bare.line(),
            "deadman not armed: the image has no client to call the API with: no curl, wget, python3 or openssl"
        );
        let line = nothing_armed(Some(0.31)).line();
        assert!(line.starts_with("deadman not armed: the lease is kept and no ttl was given"), "{line}");
        assert!(line.contains(", at 7.44 $ a day;"), "{line}");
    }
}

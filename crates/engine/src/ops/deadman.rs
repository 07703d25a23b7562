//! The dead-man switch of a lease, as it is told: by the instance itself, or as it is recorded here.

use super::{Call, Engine};
use crate::lease::labels::{self, Labels};
use crate::lease::{LeaseId, moment};
use crate::ssh::deadman::{LOOK, Report};
use crate::store::{DeadmanRecord, Journal};
use crate::world::SshSession;
use serde::Serialize;

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
    /// It was started a moment ago, and its first report is still to come.
    #[serde(skip)]
    pub(super) is_awaited: bool,
}

impl Deadman {
    /// Where the container does not run.
    pub(super) fn asleep() -> Self {
        Self::not_armed("the instance does not run, and neither does its watchdog")
    }

    /// Started over a session that waits for nothing.
    pub(super) fn awaited() -> Self {
        let why = "it was started over SSH a moment ago and has not reported yet: `status` tells when it has";
        Self { is_awaited: true, ..Self::not_armed(why) }
    }

    pub(super) fn not_armed(why: impl Into<String>) -> Self {
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

    pub(super) fn reported(report: &Report, now: i64) -> Self {
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
            is_awaited: false,
        }
    }
}

impl Engine {
    /// What is recorded of a lease's dead-man switch; its idle deadline counts from `last_use`, Unix seconds.
    pub(super) async fn recorded_deadman(&self, lease: &LeaseId, last_use: i64) -> Deadman {
        match self.store.journal(lease).await {
            Ok(Some(journal)) => recorded(&journal, last_use),
            Ok(None) => not_ours(),
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
            Some(session) => super::watchdog::look(session, LOOK).await.ok(),
            None => None,
        };
        let last_use = labels::last_touched_at(labels).unwrap_or_else(|| self.unix_now());
        match looked {
            Some(Some(report)) => Deadman::reported(&report, self.unix_now()),
            Some(None) => match self.store.journal(lease).await {
                Ok(Some(journal)) if journal.deadman.as_ref().is_some_and(DeadmanRecord::is_armed) => {
                    Deadman::not_armed(
                        "no watchdog runs on the instance; the next `run`, `ssh` or `touch` starts it",
                    )
                }
                _ => self.recorded_deadman(lease, last_use).await,
            },
            None => self.recorded_deadman(lease, last_use).await,
        }
    }
}

impl DeadmanRecord {
    /// Takes over what the instance said.
    pub(super) fn report(&mut self, deadman: &Deadman, now: i64) {
        self.why_not.clone_from(&deadman.why_not);
        self.seen_at = deadman.confirmed.then_some(now);
        self.ends_at =
            deadman.ends_at.as_deref().and_then(crate::lease::parse_rfc3339).map(crate::lease::unix);
    }

    /// Whether anything is to end the lease.
    pub(super) fn is_armed(&self) -> bool {
        self.ttl_secs.or(self.idle_secs).is_some()
    }

    /// Whether no instance has ever said that its watchdog works.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.seen_at.is_none() || self.why_not.is_some()
    }
}

pub(super) fn recorded(journal: &Journal, last_use: i64) -> Deadman {
    let Some(record) = &journal.deadman else {
        return if journal.attempts.is_empty() && journal.adopted_at.is_none() {
            not_ours()
        } else {
            nothing_armed(journal.price)
        };
    };
    let idle = record.idle_secs.and_then(|idle| last_use.checked_add_unsigned(idle));
    let until = record.ends_at.into_iter().chain(idle).min();
    let why_not = match (&record.why_not, record.seen_at, until) {
        (Some(why), ..) => Some(why.clone()),
        (None, None, _) if !record.is_armed() => {
            Some("nothing is to end it; what its maker may have armed was not looked at yet".to_owned())
        }
        (None, None, _) => Some("its watchdog has not reported yet".to_owned()),
        (None, Some(_), None) => Some("the instance has not reported a deadline".to_owned()),
        (None, Some(_), Some(_)) => None,
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

fn not_ours() -> Deadman {
    Deadman::not_armed("the lease was not made by crabbox-vast")
}

pub(super) fn warn(deadman: &Deadman, call: &Call) {
    if let Some(why) = &deadman.why_not {
        call.warn(format!(
            "the instance will not end by itself: {why}; release it yourself, or take an image with curl or python3 and ca-certificates"
        ));
    }
}

pub(super) fn nothing_armed(price: Option<f64>) -> Deadman {
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
        // One that was never seen may never have come up: nothing is promised of it.
        journal.deadman = Some(record.clone());
        let told = recorded(&journal, NOW + 60);
        assert!(!told.armed && told.until.is_none() && told.counts_idle, "{told:?}");
        assert_eq!(told.line(), "deadman not armed: its watchdog has not reported yet");
        record.seen_at = Some(NOW);
        journal.deadman = Some(record.clone());
        let told = recorded(&journal, NOW + 60);
        assert_eq!((told.armed, told.confirmed, told.until.clone()), (true, false, Some(moment(NOW + 660))));
        assert!(told.line().ends_with(" (as recorded; not confirmed by the instance)"), "{}", told.line());
        // A watchdog that was not seen may still come up: uses are told to it.
        record.report(&Deadman::awaited(), NOW);
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

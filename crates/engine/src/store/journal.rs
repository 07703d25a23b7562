//! The journal of a lease: what crabbox's claim has no field for. Ours alone, and without any secret.
//!
//! A journal is written by the process that holds the lease's operation lock, so it needs no lock of its own.

use super::file::{At, remove_durably, replace_durably};
use super::journal_parts::{
    Attempt, DISCARDED, DeadmanRecord, Holder, JournalRequest, PROVED_NOTHING, Step, StepKind,
};
use super::{Inner, Store};
use crate::lease::{InstanceId, LeaseId};
use crate::world::Files;
use crate::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The last phase of an acquire.
const READY: &str = "ready";

/// The journal of one lease. Unknown fields, here and inside, are kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Journal {
    /// Version of this format: 1.
    pub version: u32,
    /// Lease identifier.
    pub lease: String,
    /// Whether the identifier was drawn at random by this program, so that no other label can carry it; otherwise a
    /// caller chose it.
    pub drawn: bool,
    /// Slug.
    pub slug: String,
    /// The account with which its creates were sent: what comes to light when no claim is left is looked for with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<u64>,
    /// The API address to which they were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
    /// Who works or worked on it, `pid@host`; for messages only.
    pub process: String,
    /// Start of the acquire, Unix seconds.
    pub created_at: i64,
    /// What was asked for.
    pub request: JournalRequest,
    /// Every create, in order.
    pub attempts: Vec<Attempt>,
    /// The instance of the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<u64>,
    /// Its price in dollars per hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// How long each phase took, milliseconds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub phases: BTreeMap<String, u64>,
    /// The dead-man switch; none where nothing ends the lease by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadman: Option<DeadmanRecord>,
    /// Every destroy, stop and start, in order, with its proof.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// The process that goes with the lease, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// When a complete list first showed no instance of an unanswered create, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen_since: Option<i64>,
    /// When an instance without a claim was taken over, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopted_at: Option<i64>,
    /// When the claim was dropped on request, Unix seconds; the instance may live on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forgotten_at: Option<i64>,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Journal {
    /// Version of the format.
    pub const VERSION: u32 = 1;

    /// An empty journal of a lease.
    #[must_use]
    pub fn new(lease: &LeaseId, slug: &str, process: &str, created_at: i64) -> Self {
        Self {
            version: Self::VERSION,
            lease: lease.to_string(),
            slug: slug.to_owned(),
            process: process.to_owned(),
            created_at,
            ..Self::default()
        }
    }

    /// The lease it belongs to.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] when its identifier is not canonical.
    pub(super) fn lease_id(&self) -> Result<LeaseId> {
        LeaseId::parse(&self.lease).ok_or_else(|| {
            Error::new(Code::InvalidArgument, format!("{:?} is no canonical lease identifier", self.lease))
                .hint("an identifier is cbx_ and 12 hex digits")
        })
    }

    /// The bytes of its file.
    ///
    /// # Errors
    /// [`Code::Internal`] for a number that JSON cannot hold.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::new(Code::Internal, format!("journal of {}: {error}", self.lease)))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Records how the last create came out, and its instance, where there is one.
    pub fn note(&mut self, outcome: String, instance: Option<InstanceId>) {
        let instance = instance.map(|id| id.0);
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.outcome = Some(outcome);
            attempt.instance = instance;
        }
        self.instance = instance;
    }

    /// Records the lease's instance on the create that made it, an index into the attempts. None of them: then one was
    /// carried out once more, which is an attempt of its own. A create whose answer is still awaited is given up.
    pub fn adopt(&mut self, attempt: Option<usize>, instance: InstanceId) {
        let index = attempt.unwrap_or_else(|| {
            let again = self.attempts.last().cloned();
            self.attempts.extend(again);
            self.attempts.len().saturating_sub(1)
        });
        if let Some(attempt) = self.attempts.get_mut(index) {
            attempt.outcome = Some(format!("adopted: {instance}"));
            attempt.instance = Some(instance.0);
        }
        for left in self.attempts.iter_mut().filter(|attempt| attempt.was_unclear()) {
            left.outcome = Some(PROVED_NOTHING.to_owned());
        }
        self.instance = Some(instance.0);
    }

    /// Records that a create made this instance, which the lease does not need.
    pub fn surplus(&mut self, attempt: usize, instance: InstanceId) {
        if let Some(attempt) = self.attempts.get_mut(attempt) {
            attempt.outcome = Some(format!("surplus: {instance}"));
            attempt.instance = Some(instance.0);
        }
    }

    /// Records the instance that the claim names where a kill fell between the claim and this record. Whether it did.
    pub fn catch_up(&mut self, instance: InstanceId) -> bool {
        let unclear = self.behind(instance);
        if unclear.is_some() {
            self.adopt(unclear, instance);
        }
        unclear.is_some()
    }

    /// The create that made an instance of which the claim knows already and this record does not. What was taken over is
    /// none of its creates'.
    fn behind(&self, instance: InstanceId) -> Option<usize> {
        let missing = self.adopted_at.is_none() && !self.created(instance);
        self.attempts.iter().rposition(Attempt::was_unclear).filter(|_| missing)
    }

    /// Whether this record does not say that the instance which the claim names is the lease's: it was given up, or a kill
    /// fell between the claim and this.
    #[must_use]
    pub fn disowns(&self, instance: InstanceId) -> bool {
        self.discarded(instance) || self.behind(instance).is_some()
    }

    /// Records that the lease's instance will not do and is about to be destroyed.
    pub fn discard(&mut self, why: &str) {
        let own =
            self.attempts.iter().rposition(|one| one.instance.is_some() && one.instance == self.instance);
        let index = own.unwrap_or_else(|| self.attempts.len().saturating_sub(1));
        if let Some(attempt) = self.attempts.get_mut(index) {
            attempt.outcome = Some(format!("{DISCARDED}: {why}"));
        }
    }

    /// Records that somebody got in to an instance, or took it over, so that it is what the lease stands for, whoever had
    /// given it up.
    pub fn reached(&mut self, instance: InstanceId) {
        self.catch_up(instance);
        self.reprieve(instance);
        self.note_ready(0);
    }

    /// Records that an instance which was given up is the lease's after all.
    pub fn reprieve(&mut self, instance: InstanceId) {
        let given_up = |one: &&mut Attempt| one.instance == Some(instance.0) && one.was_discarded();
        for attempt in self.attempts.iter_mut().filter(given_up) {
            attempt.outcome = Some(format!("adopted: {instance}"));
        }
    }

    /// The create that made an instance.
    #[must_use]
    pub fn attempt_of(&self, instance: InstanceId) -> Option<&Attempt> {
        self.attempts.iter().rfind(|attempt| attempt.instance == Some(instance.0))
    }

    /// The instance that the acquire gave up and that was never proved gone.
    #[must_use]
    pub fn giving_up(&self) -> Option<InstanceId> {
        let mut made = self.attempts.iter().filter_map(|attempt| attempt.instance.map(InstanceId));
        made.rfind(|made| self.discarded(*made) && !self.tombstones().any(|(gone, _)| gone == *made))
    }

    /// Whether the acquire itself gave `instance` up, so that the lease may still get another one.
    #[must_use]
    pub fn discarded(&self, instance: InstanceId) -> bool {
        self.attempts.iter().any(|attempt| attempt.instance == Some(instance.0) && attempt.was_discarded())
    }

    /// Whether the answer to the last create is not known: it may have rented a machine.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        self.attempts.last().is_some_and(|attempt| {
            attempt.instance.is_none()
                && !attempt.outcome.as_deref().is_some_and(|outcome| outcome.starts_with("nothing"))
        })
    }

    /// Whether a create of this lease was answered with `instance`: then it is ours, whatever its label says by now.
    #[must_use]
    pub fn created(&self, instance: InstanceId) -> bool {
        self.attempts.iter().any(|attempt| attempt.instance == Some(instance.0))
    }

    /// When the last create may have been sent, Unix seconds.
    #[must_use]
    pub fn last_create_at(&self) -> Option<i64> {
        self.attempts.last().map(|attempt| attempt.started_at)
    }

    /// Our clock minus the vendor's when the newest create was sent, seconds; `None` where no answer had told it.
    #[must_use]
    pub fn skew(&self) -> Option<i64> {
        let attempt = self.attempts.last()?;
        Some(attempt.started_at - attempt.vendor_at?)
    }

    /// Whether the acquire got as far as a lease that can be used.
    #[must_use]
    pub fn was_ready(&self) -> bool {
        self.phases.contains_key(READY)
    }

    /// Records that it did, after this many milliseconds; what is on record stays.
    pub fn note_ready(&mut self, after: u64) {
        self.phases.entry(READY.to_owned()).or_insert(after);
    }

    /// Whether there were creates and each left nothing: refused, given up, or destroyed and proved gone.
    #[must_use]
    pub fn left_nothing(&self) -> bool {
        let gone = |instance| self.tombstones().any(|(gone, _)| gone.0 == instance);
        !self.attempts.is_empty()
            && self.attempts.iter().all(|attempt| match (attempt.instance, attempt.outcome.as_deref()) {
                (Some(instance), _) => gone(instance),
                (None, outcome) => outcome.is_some_and(|outcome| outcome.starts_with("nothing")),
            })
    }

    /// Whether every create of this lease that was sent is known to have left nothing. One that was given up may show
    /// late: it is worth another look. A journal that was begun for a lease of crabbox's has no request, and knows of no
    /// create.
    #[must_use]
    pub fn nothing_is_rented(&self) -> bool {
        !self.request.image.is_empty()
            && !self.attempts.iter().any(Attempt::was_unclear)
            && (self.attempts.is_empty() || self.left_nothing())
    }

    /// Records that a step is about to be taken. One that is open already is only repeated.
    pub fn begin(&mut self, kind: StepKind, instance: InstanceId, now: i64) {
        if let Some(step) = self.open_step(kind, instance) {
            step.wished = false;
            return;
        }
        let (instance, extra) = (instance.0, Map::new());
        let (proved_at, void, takes_back, wished) = (None, None, false, false);
        self.steps.push(Step {
            kind,
            instance,
            requested_at: now,
            proved_at,
            void,
            takes_back,
            wished,
            extra,
        });
    }

    /// Records what a user asks to become of an instance: this step, or with `None` that it is kept. What was asked for before
    /// it is not asked for any more.
    pub fn wish(&mut self, kind: Option<StepKind>, instance: InstanceId, now: i64) {
        let other = "its user asked for something else";
        if kind != Some(StepKind::Destroy) {
            self.voided(StepKind::Destroy, instance, other);
        }
        // One that was sent has perhaps had its effect: it stands beside the destroy.
        if kind.is_none() || kind == Some(StepKind::Destroy) && self.is_wish(StepKind::Stop, instance) {
            self.voided(StepKind::Stop, instance, other);
        }
        let Some(kind) = kind else {
            self.holder = None;
            return;
        };
        if self.is_open(kind, instance) {
            return self.asked_again(kind, instance, now);
        }
        self.begin(kind, instance, now);
        self.open_step(kind, instance).into_iter().for_each(|step| step.wished = true);
    }

    /// Whether an open step is no more than a wish.
    #[must_use]
    pub fn is_wish(&self, kind: StepKind, instance: InstanceId) -> bool {
        let of_it = |step: &&Step| step.kind == kind && step.instance == instance.0 && step.is_open();
        self.steps.iter().find(of_it).is_some_and(|step| step.wished)
    }

    /// Records that a stop is about to be sent by which a start is taken back, or a destroy by which an acquire is. One that
    /// was begun for its own sake stays so.
    pub fn begin_taking_back(&mut self, kind: StepKind, instance: InstanceId, now: i64) {
        if self.open_step(kind, instance).is_none() {
            self.begin(kind, instance, now);
            self.open_step(kind, instance).into_iter().for_each(|step| step.takes_back = true);
        }
        self.open_step(kind, instance).into_iter().for_each(|step| step.wished = false);
    }

    /// Whether a destroy is open that nobody asked for: an acquire gives the instance up.
    #[must_use]
    pub fn gives_up(&self, instance: InstanceId) -> bool {
        let destroys = self.steps.iter().filter(|step| step.kind == StepKind::Destroy && step.is_open());
        destroys.filter(|step| step.instance == instance.0).any(|step| step.takes_back)
    }

    /// Records that a start came to its end, for somebody got in. What was to take it back is not to be done any more.
    pub fn started(&mut self, instance: InstanceId, now: i64) {
        self.proved(StepKind::Start, instance, now);
        if let Some(step) = self.open_step(StepKind::Stop, instance).filter(|step| step.takes_back) {
            step.void = Some("somebody got in".to_owned());
        }
    }

    /// Records that an open step is asked for once more, from now on.
    pub fn asked_again(&mut self, kind: StepKind, instance: InstanceId, now: i64) {
        if let Some(step) = self.open_step(kind, instance) {
            step.requested_at = step.requested_at.max(now);
            step.takes_back = false;
        }
    }

    /// Records the proof of a step.
    pub fn proved(&mut self, kind: StepKind, instance: InstanceId, now: i64) {
        if let Some(step) = self.open_step(kind, instance) {
            step.proved_at = Some(now);
        }
    }

    /// Records that nothing came of a step.
    pub fn voided(&mut self, kind: StepKind, instance: InstanceId, why: &str) {
        if let Some(step) = self.open_step(kind, instance) {
            step.void = Some(why.to_owned());
        }
    }

    /// Whether a step on this instance is open.
    #[must_use]
    pub fn is_open(&self, kind: StepKind, instance: InstanceId) -> bool {
        self.steps.iter().any(|step| step.kind == kind && step.instance == instance.0 && step.is_open())
    }

    /// The instances that were proved gone, and when (Unix seconds). They are looked at again for a day.
    pub fn tombstones(&self) -> impl Iterator<Item = (InstanceId, i64)> + '_ {
        let destroyed = self.steps.iter().filter(|step| step.kind == StepKind::Destroy);
        destroyed.filter_map(|step| Some((InstanceId(step.instance), step.proved_at?)))
    }

    fn open_step(&mut self, kind: StepKind, instance: InstanceId) -> Option<&mut Step> {
        let mut steps = self.steps.iter_mut();
        steps.find(|step| step.kind == kind && step.instance == instance.0 && step.is_open())
    }
}

impl Store {
    /// The journal of a lease; `None` where there is none.
    ///
    /// # Errors
    /// [`Code::ClaimCorrupt`] when it is unreadable; [`Code::StateUnavailable`].
    pub async fn journal(&self, lease: &LeaseId) -> Result<Option<Journal>> {
        let path = self.journal_path(lease);
        self.transact(move |files, _| read(files, &path)).await
    }

    /// Replaces the journal of a lease, atomically and durably.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] when its lease is not canonical; [`Code::StateUnavailable`], with the old journal
    /// still in place.
    pub async fn write_journal(&self, journal: &Journal) -> Result<()> {
        let (path, bytes) = (self.journal_path(&journal.lease_id()?), journal.encode()?);
        self.transact(move |files, inner| replace_durably(files, inner.ambient.as_ref(), &path, &bytes)).await
    }

    /// Removes the journal of a lease, durably; a missing one is fine.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`].
    pub async fn remove_journal(&self, lease: &LeaseId) -> Result<()> {
        let path = self.journal_path(lease);
        self.transact(move |files, _| remove_durably(files, &path)).await
    }

    /// All readable journals, sorted by lease. Unreadable ones are left out: the claim is the record that counts.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`] when the folder cannot be listed.
    pub async fn scan_journals(&self) -> Result<Vec<Journal>> {
        self.transact(scan).await
    }

    pub(super) fn journal_path(&self, lease: &LeaseId) -> std::path::PathBuf {
        self.paths().journal().join(format!("{lease}.json"))
    }
}

pub(super) fn scan(files: &dyn Files, inner: &Inner) -> Result<Vec<Journal>> {
    let paths = paths(files, inner)?;
    Ok(paths.iter().filter_map(|path| read(files, path).ok().flatten()).collect())
}

/// As [`scan`], for what must not pass over any.
pub(super) fn scan_all(files: &dyn Files, inner: &Inner) -> Result<Vec<Journal>> {
    let read = paths(files, inner)?.into_iter().map(|path| read(files, &path));
    read.filter_map(Result::transpose).collect()
}

fn paths(files: &dyn Files, inner: &Inner) -> Result<Vec<PathBuf>> {
    let folder = inner.paths.journal();
    let names = files.list(&folder).at("list", &folder)?;
    let stem = |name: &std::ffi::OsString| name.to_str()?.strip_suffix(".json").and_then(LeaseId::parse);
    Ok(names.iter().filter(|name| stem(name).is_some()).map(|name| folder.join(name)).collect())
}

fn read(files: &dyn Files, path: &Path) -> Result<Option<Journal>> {
    let Some(bytes) = files.read(path).at("read", path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Error::new(Code::ClaimCorrupt, format!("journal {} is unreadable: {error}", path.display()))
            .hint("move the file away; the claim of the lease is enough to release it")
            .with("path", path.to_string_lossy().into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Bench;

    #[tokio::test]
    async fn journals_come_back_whole_with_what_is_unknown() {
        let bench = Bench::new();
        let lease = LeaseId::from_entropy([1; 6]);
        assert_eq!(bench.store.journal(&lease).await.unwrap(), None);
        let mut journal = Journal::new(&lease, "blue-krill", "1@box", 1_787_400_000);
        journal.attempts.push(Attempt {
            offer: 5,
            price: 0.25,
            outcome: Some("nothing:taken".into()),
            ..Attempt::default()
        });
        journal.attempts[0].extra.insert("region".into(), "eu".into());
        journal.extra.insert("later".into(), serde_json::json!({"x": [1, 2.5, null]}));
        journal.begin(StepKind::Destroy, InstanceId(9), 2);
        journal.steps[0].extra.insert("how".into(), "gently".into());
        bench.store.write_journal(&journal).await.unwrap();
        assert_eq!(bench.store.journal(&lease).await.unwrap(), Some(journal.clone()));

        let other = LeaseId::from_entropy([2; 6]);
        bench.store.write_journal(&Journal::new(&other, "", "", 0)).await.unwrap();
        bench.put(&bench.paths().journal().join("cbx_030303030303.json"), b"{");
        let leases: Vec<_> =
            bench.store.scan_journals().await.unwrap().into_iter().map(|j| j.lease).collect();
        assert_eq!(leases, [lease.to_string(), other.to_string()]);
        let broken = LeaseId::from_entropy([3; 6]);
        assert_eq!(bench.store.journal(&broken).await.unwrap_err().code(), Code::ClaimCorrupt);

        bench.store.remove_journal(&lease).await.unwrap();
        bench.store.remove_journal(&lease).await.unwrap();
        assert_eq!(bench.store.journal(&lease).await.unwrap(), None);
        assert_eq!(Journal::new(&lease, "", "", 0).version, 1);
    }

    #[test]
    fn a_step_is_open_until_its_proof() {
        let lease = LeaseId::from_entropy([4; 6]);
        let (one, other) = (InstanceId(1), InstanceId(2));
        let mut journal = Journal::new(&lease, "", "", 0);
        journal.begin(StepKind::Destroy, one, 10);
        journal.begin(StepKind::Destroy, one, 20);
        journal.begin(StepKind::Start, other, 30);
        assert_eq!(journal.steps.len(), 2, "a repetition is the same step");
        assert!(journal.is_open(StepKind::Destroy, one) && !journal.is_open(StepKind::Destroy, other));
        journal.proved(StepKind::Destroy, one, 40);
        journal.voided(StepKind::Start, other, "no credit");
        assert!(journal.steps.iter().all(|step| !step.is_open()));
        assert_eq!(journal.tombstones().collect::<Vec<_>>(), [(one, 40)]);
        journal.begin(StepKind::Destroy, one, 50);
        assert!(journal.is_open(StepKind::Destroy, one), "what came back is destroyed again");
    }

    #[test]
    fn a_create_left_nothing_when_it_was_refused_or_its_instance_is_gone() {
        let mut journal = Journal::new(&LeaseId::from_entropy([5; 6]), "", "", 0);
        assert!(!journal.left_nothing());
        journal.attempts.push(Attempt::default());
        assert!(!journal.left_nothing(), "its answer is awaited");
        journal.note("nothing: taken".into(), None);
        assert!(journal.left_nothing());
        journal.attempts.push(Attempt::default());
        journal.note("created: 7".into(), Some(InstanceId(7)));
        journal.begin(StepKind::Destroy, InstanceId(7), 1);
        assert!(!journal.left_nothing());
        journal.proved(StepKind::Destroy, InstanceId(7), 2);
        assert!(journal.left_nothing());
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod questions;

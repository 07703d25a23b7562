//! What the tests of a lease's life share: leases to begin with, claims to write, calls to count.

use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::lease::{Claim, InstanceId, LeaseId};
use crabbox_vast_engine::ops::{AcquireRequest, ReleaseRequest, Released, RunRequest, RunResult};
use crabbox_vast_engine::ssh::command::Script;
use crabbox_vast_engine::store::{Attempt, Journal, StepKind};
use crabbox_vast_engine::world::ExecIo;
use crabbox_vast_engine::{Call, Engine, Event, Result};
use serde_json::json;
use std::time::Duration;
use tokio::sync::mpsc;

/// A lease that is ready, as [`warm`] leaves it.
pub struct Warm {
    pub id: LeaseId,
    pub slug: String,
    pub instance: u64,
}

/// Acquires a lease and leaves it running.
pub async fn warm(stage: &Stage, process: &Process, slug: &str, keep: bool) -> Warm {
    let request = AcquireRequest { keep, slug: Some(slug.to_owned()), ..AcquireRequest::default() };
    let lease = process.engine.acquire(&request, &stage.call()).await.expect("a lease");
    let facts = lease.facts().clone();
    lease.close().await;
    Warm { id: facts.id, slug: facts.slug, instance: facts.instance.0 }
}

/// One command on a lease of its own.
pub async fn run(engine: &Engine, call: &Call) -> Result<RunResult> {
    run_on(engine, None, false, call).await
}

/// One command on the lease `identifier`, or on one of its own.
pub async fn run_on(
    engine: &Engine,
    identifier: Option<&str>,
    reclaim: bool,
    call: &Call,
) -> Result<RunResult> {
    let request = RunRequest {
        identifier: identifier.map(ToOwned::to_owned),
        reclaim,
        ..RunRequest::new(Script::Argv(vec!["nvidia-smi".into()]))
    };
    let (output, mut receive) = mpsc::channel(16);
    let drain = async { while receive.recv().await.is_some() {} };
    tokio::join!(engine.run(&request, ExecIo { stdin: None, output }, call), drain).0
}

/// `stop` of what `identifier` names.
pub async fn stop(engine: &Engine, identifier: &str, call: &Call) -> Result<Released> {
    let request = ReleaseRequest { identifier: identifier.to_owned(), ..ReleaseRequest::default() };
    engine.release(&request, call).await
}

/// A machine of somebody else on the same account, and one of another crabbox user.
pub fn strangers(stage: &Stage) {
    stage.control("POST", "/_sim/instances", &json!({"label": "hand made"}));
    stage.control("POST", "/_sim/instances", &json!({"label": "cbx1|cbx_aaaaaaaaaaaa|other-box|ready"}));
}

/// An instance as if it had been rented elsewhere, running, with this label.
pub fn rented_elsewhere(stage: &Stage, label: &str) -> u64 {
    let made = stage.control("POST", "/_sim/instances", &json!({"label": label, "actual_status": "running"}));
    made["id"].as_u64().expect("an id")
}

/// Ids of the instances that exist.
pub fn open(stage: &Stage) -> Vec<u64> {
    stage.ledger().open.iter().map(|instance| instance.id).collect()
}

/// Changes a claim on disk, as another tool would.
pub async fn edit(
    process: &Process,
    id: &LeaseId,
    change: impl FnOnce(&mut Claim) + Send + 'static,
) -> Claim {
    let store = process.engine.store();
    let changed = store.update_claim(id, |claim| {
        change(claim);
        Ok(())
    });
    changed.await.expect("the claim is there")
}

/// The claim of a lease.
pub async fn claim(process: &Process, id: &LeaseId) -> Claim {
    process.engine.store().claim(id).await.expect("readable").expect("a claim")
}

/// The journal of a lease.
pub async fn journal_of(process: &Process, id: &LeaseId) -> Journal {
    process.engine.store().journal(id).await.expect("readable").expect("a journal")
}

/// Changes the journal of a lease, as a process that dies leaves it.
pub async fn leave(process: &Process, lease: &Warm, change: impl FnOnce(&mut Journal)) {
    let mut journal = journal_of(process, &lease.id).await;
    change(&mut journal);
    process.engine.store().write_journal(&journal).await.expect("written");
}

/// A second machine of the lease, whose create was answered late and which is still to be destroyed.
pub async fn surplus(stage: &Stage, process: &Process, lease: &Warm) -> u64 {
    let label = format!("cbx1|{}|{}|provisioning", lease.id, lease.slug);
    let surplus = rented_elsewhere(stage, &label);
    let now = stage.unix_now();
    leave(process, lease, |journal| {
        let outcome = Some(format!("surplus: {surplus}"));
        journal.attempts.push(Attempt { instance: Some(surplus), outcome, ..Attempt::default() });
        journal.begin(StepKind::Destroy, InstanceId(surplus), now);
    })
    .await;
    surplus
}

/// What the vendor is asked to make of a machine.
pub async fn wish(process: &Process, lease: &Warm) -> Option<String> {
    let shown = process.engine.client().show(InstanceId(lease.instance)).await.expect("an answer");
    shown.expect("it is there").intended_status
}

/// The calls since the last look that change something at Vast.
pub fn mutations(stage: &Stage) -> Vec<String> {
    let calls = std::mem::take(&mut *stage.calls.lock().expect("not poisoned"));
    // The search is sent with POST and reads.
    calls.into_iter().filter(|call| !call.starts_with("GET ") && !call.contains("/bundles/")).collect()
}

/// What was said as a warning.
pub fn warnings(stage: &Stage) -> Vec<String> {
    let events = stage.events.lock().expect("not poisoned");
    let warning = |event: &Event| match event {
        Event::Warning { message } => Some(message.clone()),
        _ => None,
    };
    events.iter().filter_map(warning).collect()
}

/// Lets time pass.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

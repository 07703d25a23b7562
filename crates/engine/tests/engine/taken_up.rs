//! A lease whose acquire or run died, or gave its machine up, and that somebody takes over: it is theirs from then on.

use super::replay::{ID, acquire, request, stop};
use crate::support::{edit, journal_of, run_on};
use crate::virtual_time::Stage;
use crabbox_vast_engine::lease::{InstanceId, LeaseId, ReleaseAction};
use crabbox_vast_engine::ops::{AdoptRequest, ReleaseRequest, RunRequest, StartRequest};
use crabbox_vast_engine::ssh::command::Script;
use crabbox_vast_engine::world::ExecIo;
use crabbox_vast_engine::{Call, Code, Engine, Result};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;

async fn adopt(engine: &Engine, call: &Call) {
    let request = AdoptRequest { identifier: ID.into(), keep: false };
    engine.adopt(&request, call).await.expect("takes it over");
}

/// An acquire that died while its machine booted, when the claim named it and the journal did not yet.
async fn cut_off_between_its_records(stage: &Stage) -> InstanceId {
    let process = stage.process();
    let (call, wanted) = (stage.call(), request(true));
    let limit = Duration::from_secs(3);
    assert!(tokio::time::timeout(limit, process.engine.acquire(&wanted, &call)).await.is_err(), "it boots");
    let mut journal = journal_of(&process, &LeaseId::parse(ID).unwrap()).await;
    (journal.attempts[0].outcome, journal.attempts[0].instance, journal.instance) = (None, None, None);
    process.engine.store().write_journal(&journal).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    InstanceId(stage.ledger().open[0].id)
}

/// The number is caught up by whoever takes the lease over, so that the id is spent once the lease is given back.
#[tokio::test(start_paused = true)]
async fn a_lease_that_was_taken_up_spends_its_id() {
    for by in [By::Again, By::Run, By::Crabbox, By::Adopt] {
        let stage = Stage::new();
        let instance = cut_off_between_its_records(&stage).await;
        take_over(&stage, by).await;
        let journal = journal_of(&stage.process(), &LeaseId::parse(ID).unwrap()).await;
        assert_eq!(journal.created(instance), by != By::Crabbox, "{by:?}: {journal:?}");
        stop(&stage).await;
        let again = stage.process().engine.acquire(&request(true), &stage.call()).await;
        let code = again.err().map(|error| error.code());
        assert_eq!((code, stage.ledger().created), (Some(Code::LeaseReleased), 1), "{by:?}");
    }
}

/// An acquire that died while its machine booted, which a cleanup then gave up; the API refused its destroy.
async fn given_up(stage: &Stage) -> InstanceId {
    let dying = stage.process();
    let (call, wanted) = (stage.call(), request(true));
    let dead = tokio::time::timeout(Duration::from_secs(3), dying.engine.acquire(&wanted, &call)).await;
    assert!(dead.is_err(), "it dies booting");
    tokio::time::sleep(Duration::from_secs(120)).await;
    let refusal = Effect::Html(403);
    stage.vast(|vast, _| {
        vast.add_fault(Fault::once("DELETE", "/api/v0/instances/*/", refusal).times(None));
    });
    let cleaned = stage.process().engine.cleanup(&Default::default(), &stage.call()).await.expect("cleans");
    assert_eq!(cleaned.summary.destroyed, 0, "{cleaned:?}");
    stage.control("DELETE", "/_sim/faults", &json!({}));
    let open = stage.ledger().open;
    let journal = stage.process().engine.store().scan_journals().await.expect("readable").remove(0);
    assert!(journal.discarded(InstanceId(open[0].id)), "{journal:?}");
    InstanceId(open[0].id)
}

/// How a lease is taken over whose acquire died.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Again,
    Run,
    Crabbox,
    Adopt,
}

async fn take_over(stage: &Stage, by: By) {
    let (process, call) = (stage.process(), stage.call());
    match by {
        By::Again => {
            process.engine.acquire(&request(true), &call).await.expect("takes it up");
        }
        By::Crabbox => {
            let now = stage.unix_now().to_string();
            edit(&process, &LeaseId::parse(ID).unwrap(), move |claim| {
                for (label, text) in [("state", "ready"), ("created_at", &now), ("last_touched_at", &now)] {
                    claim.labels.insert(label.into(), text.to_owned());
                }
            })
            .await;
        }
        By::Run => {
            run_on(&process.engine, Some(ID), false, &call).await.expect("it runs");
        }
        By::Adopt => adopt(&process.engine, &call).await,
    }
}

/// Given up by whoever recovered it, and used before it was destroyed: it is what the id stands for, whatever becomes of
/// it later.
#[tokio::test(start_paused = true)]
async fn a_machine_that_was_given_up_and_used_all_the_same_is_the_leases() {
    let ends = ["is ready", "is stopped", "starts", "is destroyed"];
    for (then, by) in ends.into_iter().flat_map(|then| [By::Run, By::Crabbox, By::Adopt].map(|by| (then, by)))
    {
        let what = format!("{then}, by {by:?}");
        let stage = Stage::new();
        let first = given_up(&stage).await;
        let (process, call) = (stage.process(), stage.call());
        take_over(&stage, by).await;
        let action = (then != "is destroyed").then_some(ReleaseAction::Stop);
        let release = ReleaseRequest { identifier: ID.into(), action };
        if then != "is ready" {
            process.engine.release(&release, &call).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        if then == "starts" {
            let start = StartRequest { identifier: ID.into() };
            let dead =
                tokio::time::timeout(Duration::from_secs(3), process.engine.start(&start, &call)).await;
            assert!(dead.is_err(), "{what}: it dies starting");
        }
        let again = stage.process().engine.acquire(&request(true), &stage.call()).await;
        let code = again.as_ref().err().map(|error| error.code());
        let expected = match then {
            "is stopped" | "starts" => Some(Code::InstanceNotRunning),
            "is destroyed" => Some(Code::LeaseReleased),
            _ => None,
        };
        assert_eq!((code, stage.ledger().created), (expected, 1), "{what}");
        let left: Vec<u64> = stage.ledger().open.iter().map(|one| one.id).collect();
        let expected = if then == "is destroyed" { vec![] } else { vec![first.0] };
        assert_eq!(left, expected, "{what}");
    }
}

/// Whoever adopts a lease whose acquire died takes it over: it ends at its time, and not with the dead acquire.
#[tokio::test(start_paused = true)]
async fn an_adopted_lease_does_not_end_with_the_acquire_that_died() {
    for dead in ["booting", "given up"] {
        let stage = Stage::new();
        if dead == "booting" {
            let (process, call, wanted) = (stage.process(), stage.call(), request(false));
            let limit = Duration::from_secs(3);
            let cut_off = tokio::time::timeout(limit, process.engine.acquire(&wanted, &call)).await;
            assert!(cut_off.is_err(), "it dies booting");
            tokio::time::sleep(Duration::from_secs(120)).await;
        } else {
            given_up(&stage).await;
        }
        adopt(&stage.process().engine, &stage.call()).await;
        let cleanup = async || {
            let process = stage.process();
            process
                .engine
                .cleanup(&Default::default(), &stage.call())
                .await
                .expect("cleans")
                .summary
                .destroyed
        };
        assert_eq!((cleanup().await, stage.ledger().open.len()), (0, 1), "{dead}");
        let (process, id) = (stage.process(), LeaseId::parse(ID).unwrap());
        edit(&process, &id, |claim| {
            claim.labels.insert("expires_at".into(), "1700000000".into());
            claim.labels.insert("keep".into(), "false".into());
        })
        .await;
        let mut journal = journal_of(&process, &id).await;
        journal.request.keep = false;
        process.engine.store().write_journal(&journal).await.expect("written");
        assert_eq!((cleanup().await, stage.ledger().open.len()), (1, 0), "{dead}");
    }
}

/// Nobody used it: the same acquire goes on with another machine.
#[tokio::test(start_paused = true)]
async fn a_machine_that_was_given_up_and_not_used_is_replaced() {
    let stage = Stage::new();
    let first = given_up(&stage).await;
    let lease = stage.process().engine.acquire(&request(true), &stage.call()).await.expect("another machine");
    assert_ne!(lease.facts().instance, first);
    assert_eq!((stage.ledger().open.len(), stage.ledger().max_concurrent), (1, 1));
}

/// The lease was a run's alone, and the run died: whoever takes its id up has a lease that is no dead one's.
#[tokio::test(start_paused = true)]
async fn a_lease_that_was_taken_up_does_not_end_with_the_run_that_died() {
    let clean = Stage::new();
    let process = clean.process();
    run(&process.engine, &clean.call()).await.expect("a clean run");
    let steps = process.steps.load(Ordering::SeqCst);
    let mut survived = 0;
    for kill_at in (1..=steps).step_by(3) {
        let stage = Stage::new();
        let process = stage.process_with(Some(kill_at), |_| ());
        drop(process.live(run(&process.engine, &stage.call())).await);
        drop(process);
        let lease = match acquire(&stage.process().engine, &stage.call()).await {
            Ok(lease) => lease,
            // The run had begun to give it back.
            Err(error) => {
                assert!(matches!(error.code(), Code::LeaseReleased), "killed at {kill_at}: {error}");
                continue;
            }
        };
        lease.close().await;
        tokio::time::sleep(Duration::from_secs(400)).await;
        let cleaned =
            stage.process().engine.cleanup(&Default::default(), &stage.call()).await.expect("cleans");
        assert_eq!(cleaned.summary.destroyed, 0, "killed at {kill_at}: {cleaned:?}");
        assert_eq!(stage.ledger().open.len(), 1, "killed at {kill_at}");
        survived += 1;
    }
    assert!(survived > 8, "{survived} of {steps} steps");
}

async fn run(engine: &Engine, call: &Call) -> Result<()> {
    let script = Script::Argv(vec!["nvidia-smi".into()]);
    let wanted = RunRequest { acquire: request(false), ..RunRequest::new(script) };
    let (output, mut receive) = tokio::sync::mpsc::channel(16);
    let drain = async { while receive.recv().await.is_some() {} };
    tokio::join!(engine.run(&wanted, ExecIo { stdin: None, output }, call), drain).0.map(|_| ())
}

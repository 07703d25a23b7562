//! What a process that died left behind is finished by the next command, whichever it is; what lives is left alone.

use crate::support::{
    Warm, claim, edit, leave, open, pass, run, run_on, stop, strangers, warm, warnings, wish,
};
use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::Code;
use crabbox_vast_engine::lease::{Claim, InstanceId, LeaseId, ReleaseAction};
use crabbox_vast_engine::ops::cleanup::{ItemKind, ItemOutcome};
use crabbox_vast_engine::ops::{AcquireRequest, CleanupRequest, ReleaseRequest, StartRequest};
use crabbox_vast_engine::store::{Holder, StepKind};
use crabbox_vast_sim::api::{Effect, Fault};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Seconds since 1970 at which a stage begins.
const EPOCH: i64 = 1_780_000_000;

/// A run that is killed at its `kill_at`-th step; whether it left a machine running.
async fn killed_run(stage: &Stage, kill_at: usize) -> bool {
    let process = stage.process_with(Some(kill_at), |_| ());
    process.live(run(&process.engine, &stage.call())).await;
    stage.ledger().open.len() > 2
}

async fn steps_of_a_run() -> usize {
    let clean = Stage::new();
    let process = clean.process();
    run(&process.engine, &clean.call()).await.expect("a clean run");
    process.steps.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn cleanup_finishes_a_run_that_was_killed_at_any_step() {
    let (mut leaky, mut told) = (0, 0);
    for kill_at in 1..=steps_of_a_run().await {
        let stage = Stage::new();
        strangers(&stage);
        leaky += usize::from(killed_run(&stage, kill_at).await);
        let next = stage.process();
        for line in next.engine.list(false, &stage.call()).await.expect("lists") {
            // One whose create was not answered is nobody's yet.
            let claims = next.engine.store().scan_claims().await.expect("readable").claims;
            let known = claims.iter().any(|claim| claim.instance_id() == Some(line.instance));
            assert_eq!(line.ending, known.then_some(StepKind::Destroy), "killed at step {kill_at}");
            told += usize::from(known);
        }
        let cleaned = next.engine.cleanup(&CleanupRequest::default(), &stage.call()).await;
        let cleaned = cleaned.unwrap_or_else(|error| panic!("killed at step {kill_at}: {error}"));
        assert_eq!(cleaned.summary.failed, 0, "killed at step {kill_at}: {cleaned:?}");
        assert_eq!(open(&stage).len(), 2, "killed at step {kill_at}: {cleaned:?}");
        assert_eq!(stage.claims(), Vec::<String>::new(), "killed at step {kill_at}: {cleaned:?}");
        assert_eq!(stage.keys(), Vec::<String>::new(), "killed at step {kill_at}: {cleaned:?}");
    }
    assert!(leaky > 5, "the kills must leave machines running, or nothing was tested: {leaky}");
    assert!(told > 3, "most of these are known by their claims: {told}");
}

/// The lease of a run that died ends as it was made to end.
#[tokio::test(start_paused = true)]
async fn the_lease_of_a_dead_run_is_stopped_where_it_was_to_be_stopped() {
    for (action, left) in [("stop", 1), ("destroy", 0)] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", false).await;
        let ends = move |claim: &mut Claim| drop(claim.labels.insert("release_action".into(), action.into()));
        edit(&process, &lease.id, ends).await;
        leave(&process, &lease, |journal| {
            journal.holder = Some(Holder { since: journal.created_at, ..Holder::default() });
        })
        .await;
        let listed = process.engine.list(false, &stage.call()).await.expect("lists");
        assert_eq!(listed[0].ending.map(StepKind::name), Some(action));
        stage.process().engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up");
        assert_eq!(open(&stage).len(), left, "{action}");
        if left > 0 {
            assert_eq!(wish(&process, &lease).await.as_deref(), Some("stopped"));
        }
    }
}

/// What the status of such a lease tells to keep it does keep it, wherever its process died; a touch does not, and says so.
#[tokio::test(start_paused = true)]
async fn what_a_dead_process_left_is_kept_by_who_asks_for_it() {
    let (mut kept, steps) = (0, steps_of_a_run().await);
    for (kill_at, state) in (1..=steps).step_by(4).flat_map(|at| [(at, None), (at, Some("rollback-cleanup"))])
    {
        let stage = Stage::new();
        killed_run(&stage, kill_at).await;
        let next = stage.process();
        let claims = next.engine.store().scan_claims().await.expect("readable").claims;
        let Some(left) = claims.into_iter().find(|claim| claim.instance_id().is_some()) else { continue };
        if open(&stage).is_empty() {
            // It was given back before its process died.
            continue;
        }
        let id = LeaseId::parse(&left.lease_id).expect("an id");
        if let Some(state) = state {
            edit(&next, &id, |claim| drop(claim.labels.insert("state".into(), state.into()))).await;
        }
        if next.engine.touch(&left.slug, None, &stage.call()).await.is_ok() {
            let said = warnings(&stage).concat();
            assert!(said.contains("was left by a process that died"), "killed at step {kill_at}: {said}");
        }
        let keep = ReleaseRequest { identifier: left.slug.clone(), action: Some(ReleaseAction::Keep) };
        next.engine.release(&keep, &stage.call()).await.expect("keeps");
        let listed = next.engine.list(false, &stage.call()).await.expect("lists");
        assert!(listed.iter().all(|line| line.ending.is_none()), "killed at step {kill_at}: {listed:?}");
        next.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up");
        let left = left.instance_id().expect("one").0;
        kept += usize::from(open(&stage) == [left]);
        assert_eq!(open(&stage), [left], "killed at step {kill_at} {state:?}");
    }
    assert!(kept > 4, "most of these have a machine: {kept}");
}

#[tokio::test(start_paused = true)]
async fn the_next_run_finishes_a_run_that_was_killed_at_any_step() {
    for kill_at in (1..=steps_of_a_run().await).step_by(3) {
        let stage = Stage::new();
        strangers(&stage);
        let leaky = killed_run(&stage, kill_at).await;
        // A machine is looked for once: it must be visible by then.
        pass(Duration::from_secs(120)).await;
        let next = stage.process();
        run(&next.engine, &stage.call()).await.unwrap_or_else(|error| panic!("step {kill_at}: {error}"));
        assert_eq!(open(&stage).len(), 2, "killed at step {kill_at}, leaky {leaky}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_acquire_waits_for_no_window_and_leaves_what_is_young() {
    let timed = async |stage: &Stage| {
        let began = tokio::time::Instant::now();
        run(&stage.process().engine, &stage.call()).await.expect("runs");
        began.elapsed()
    };
    let usual = timed(&Stage::new()).await;
    let stage = Stage::new();
    let fault = Fault::once("PUT", "/api/v0/asks/*/", Effect::Reset);
    stage.vast(|vast, _| vast.add_fault(fault));
    let dying = stage.process();
    let call = stage.call();
    // The create is lost; the process dies while it looks for its instance.
    let dead = tokio::time::timeout(Duration::from_secs(20), run(&dying.engine, &call)).await;
    assert!(dead.is_err());
    let left = stage.claims();
    assert_eq!(left.len(), 1);
    let took = timed(&stage).await;
    assert!(took < usual + Duration::from_secs(5), "took {took:?}, usually {usual:?}");
    assert_eq!(stage.claims(), left, "too young to be decided");
    // Two looks that see nothing, both after the window, decide.
    pass(Duration::from_secs(120)).await;
    run(&stage.process().engine, &stage.call()).await.expect("runs");
    assert_eq!(stage.claims(), left, "one empty list proves nothing");
    pass(Duration::from_secs(15)).await;
    run(&stage.process().engine, &stage.call()).await.expect("runs");
    assert_eq!(stage.claims(), Vec::<String>::new());
    assert_eq!(stage.keys(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_lives_is_left_alone() {
    let stage = Stage::new();
    let (one, other) = (stage.process(), stage.process());
    let call = stage.call();
    let (ran, swept) = tokio::join!(run(&one.engine, &call), async {
        let mut swept = 0;
        for _ in 0..40 {
            pass(Duration::from_secs(1)).await;
            let cleaned = other.engine.cleanup(&CleanupRequest::default(), &stage.call()).await;
            swept += cleaned.expect("cleans up").summary.destroyed;
        }
        swept
    });
    assert_eq!(ran.expect("runs").exit_code, 0);
    assert_eq!(swept, 0);
}

#[tokio::test(start_paused = true)]
async fn a_recorded_release_without_proof_is_finished() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    stage.vast(|vast, _| {
        vast.add_fault(Fault::once("DELETE", "/api/v0/instances/*/", Effect::Html(502)).times(None));
    });
    let refused = stop(&process.engine, "one", &stage.call()).await.expect_err("the API is down");
    assert!(refused.retryable(), "{refused}");
    let journal = process.engine.store().journal(&lease.id).await.unwrap().unwrap();
    assert!(journal.is_open(StepKind::Destroy, crabbox_vast_engine::lease::InstanceId(lease.instance)));
    stage.control("DELETE", "/_sim/faults", &serde_json::json!({}));
    // Keep or not: it was asked for.
    let next = stage.process();
    let cleaned = next.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up");
    assert_eq!(cleaned.items[0].action, ItemKind::Recover);
    assert_eq!(cleaned.items[0].outcome, ItemOutcome::Destroyed, "{cleaned:?}");
    assert_eq!((open(&stage).len(), stage.claims().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_process_died_is_taken_back() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let request = crabbox_vast_engine::ops::ReleaseRequest {
        identifier: "one".into(),
        action: Some(crabbox_vast_engine::lease::ReleaseAction::Stop),
    };
    process.engine.release(&request, &stage.call()).await.expect("stops");
    pass(Duration::from_secs(10)).await;
    let call = stage.call();
    let start = StartRequest { identifier: "one".into() };
    let dead = tokio::time::timeout(Duration::from_secs(3), process.engine.start(&start, &call)).await;
    assert!(dead.is_err(), "it dies while the machine starts");
    assert_eq!(claim(&process, &lease.id).await.state(), "provisioning");
    let next = stage.process();
    let cleaned = next.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up");
    assert_eq!(cleaned.items[0].outcome, ItemOutcome::Stopped, "{cleaned:?}");
    let after = claim(&next, &lease.id).await;
    assert_eq!((after.state(), open(&stage).len()), ("stopped", 1));
    let journal = next.engine.store().journal(&lease.id).await.unwrap().unwrap();
    assert!(journal.steps.iter().all(|step| !step.is_open()), "{journal:?}");
}

#[tokio::test(start_paused = true)]
async fn crabboxs_own_leases_are_finished_only_where_it_cannot_be_at_work_on_them() {
    let stage = Stage::new();
    let process = stage.process();
    let mut leases = Vec::new();
    for slug in ["failed", "failed-kept", "starting", "unanswered"] {
        leases.push(warm(&stage, &process, slug, true).await);
    }
    for (lease, (slug, state, recovery, keep)) in leases.iter().zip([
        ("failed", "rollback-cleanup", Some("rollback-cleanup"), "false"),
        ("failed-kept", "rollback-cleanup", Some("rollback-cleanup"), "true"),
        ("starting", "provisioning", None, "false"),
        ("unanswered", "ambiguous-create", Some("ambiguous-create"), "false"),
    ]) {
        let bound = slug != "unanswered";
        edit(&process, &lease.id, move |claim| {
            claim.labels.insert("state".into(), state.into());
            claim.labels.insert("keep".into(), keep.into());
            claim.last_used_at = claim.claimed_at.clone();
            if let Some(recovery) = recovery {
                claim.labels.insert("recovery".into(), recovery.into());
            }
            if !bound {
                claim.cloud_id.clear();
            }
        })
        .await;
        // crabbox keeps no journal.
        process.engine.store().remove_journal(&lease.id).await.unwrap();
    }
    let cleaned = process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up");
    let lines: Vec<(String, ItemOutcome)> =
        cleaned.items.iter().map(|item| (item.name.clone(), item.outcome)).collect();
    let expected = [
        ("failed", ItemOutcome::Destroyed),
        ("failed-kept", ItemOutcome::Skipped),
        ("starting", ItemOutcome::Skipped),
        ("unanswered", ItemOutcome::Bound),
    ];
    for one in expected {
        assert!(lines.contains(&(one.0.to_owned(), one.1)), "{one:?} in {lines:?}");
    }
    assert_eq!(open(&stage).len(), 3);
    assert_eq!(claim(&process, &leases[3].id).await.cloud_id, leases[3].instance.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_another_account_or_address_is_not_taken_up() {
    for (key, value) in [("vast_account_id", "1"), ("vast_api_url", "https://elsewhere.example/api/v0")] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", false).await;
        edit(&process, &lease.id, move |claim| {
            claim.labels.insert("state".into(), "rollback-cleanup".into());
            claim.labels.insert("recovery".into(), "rollback-cleanup".into());
            claim.labels.insert(key.into(), value.into());
        })
        .await;
        let cleaned = process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.unwrap();
        assert_eq!(cleaned.summary.destroyed, 0, "{cleaned:?}");
        assert_eq!((open(&stage).len(), stage.claims().len()), (1, 1), "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_taken_into_use_after_its_acquire_died_is_left_alone() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let store = process.engine.store();
    let mut journal = store.journal(&lease.id).await.unwrap().unwrap();
    journal.phases.clear();
    store.write_journal(&journal).await.unwrap();
    let cleaned = process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.unwrap();
    assert_eq!(
        cleaned.items[0].line(),
        format!("skip server id={} name=one reason=keep=true", lease.instance)
    );
    assert_eq!(open(&stage).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_one_lease_finishes_a_dead_one_beside_it() {
    let stage = Stage::new();
    let kept = warm(&stage, &stage.process(), "kept", true).await;
    let dying = stage.process();
    let call = stage.call();
    let dead = tokio::time::timeout(Duration::from_secs(20), run(&dying.engine, &call)).await;
    assert!(dead.is_err());
    assert_eq!(open(&stage).len(), 2);
    let next = stage.process();
    stop(&next.engine, &kept.slug, &stage.call()).await.expect("stops");
    assert_eq!((open(&stage).len(), stage.claims().len()), (0, 0));
    assert!(warnings(&stage).iter().any(|line| line.starts_with("recover lease=")), "{:?}", warnings(&stage));
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_create_is_awaited_by_nobody_is_cleared_by_stop_after_the_window() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    edit(&process, &lease.id, |claim| {
        claim.cloud_id.clear();
        claim.labels.insert("state".into(), "ambiguous-create".into());
        claim.labels.insert("recovery".into(), "ambiguous-create".into());
    })
    .await;
    stage.control(
        "POST",
        &format!("/_sim/instances/{}", lease.instance),
        &serde_json::json!({"label": "gone"}),
    );
    let released = stop(&process.engine, "one", &stage.call()).await.expect("stops");
    assert_eq!(released.outcome, crabbox_vast_engine::ops::ReleaseOutcome::NeverCreated);
    assert_eq!(stage.claims().len(), 0);
    let missing = stop(&process.engine, "one", &stage.call()).await.expect_err("nothing is left to stop");
    assert_eq!(missing.code(), Code::LeaseNotFound);
}

/// The slowest heartbeat and its margin: after it nobody uses a lease that was not touched.
const SILENT: Duration = Duration::from_secs(361);

#[tokio::test(start_paused = true)]
async fn a_failed_acquire_that_crabbox_uses_after_all_is_left_alone() {
    for (state, used_later) in [("ready", false), ("running", false), ("rollback-cleanup", true)] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", false).await;
        edit(&process, &lease.id, move |claim| {
            claim.labels.insert("state".into(), state.into());
            claim.labels.insert("recovery".into(), "rollback-cleanup".into());
            claim.last_used_at = claim.claimed_at.clone();
            if used_later {
                claim.last_used_at = "2030-01-01T00:00:00Z".into();
            }
        })
        .await;
        process.engine.store().remove_journal(&lease.id).await.unwrap();
        let cleaned = process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.unwrap();
        assert_eq!(cleaned.summary.destroyed, 0, "{state}: {cleaned:?}");
        assert_eq!(open(&stage), [lease.instance], "{state}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_crabbox_uses_is_not_finished_with_its_dead_holder() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    leave(&process, &lease, |journal| {
        journal.holder = Some(Holder { since: journal.created_at, ..Holder::default() });
    })
    .await;
    // What crabbox writes whenever it uses a lease.
    let dated = (EPOCH + 600).to_string();
    edit(&process, &lease.id, move |claim| drop(claim.labels.insert("created_at".into(), dated))).await;
    for dry_run in [true, false] {
        process.engine.touch("one", None, &stage.call()).await.expect("a heartbeat");
        pass(Duration::from_secs(300)).await;
        let cleaned = process.engine.cleanup(&CleanupRequest { dry_run }, &stage.call()).await.unwrap();
        assert_eq!(cleaned.items[0].outcome, ItemOutcome::Skipped, "{cleaned:?}");
        assert!(cleaned.items[0].line().ends_with("but it was used a moment ago"), "{cleaned:?}");
        assert_eq!(open(&stage), [lease.instance]);
    }
    pass(SILENT).await;
    let cleaned = process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.unwrap();
    assert_eq!(cleaned.items[0].outcome, ItemOutcome::Destroyed, "{cleaned:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_uses_is_not_stopped_for_a_dead_process() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let (now, instance) = (EPOCH + 60, InstanceId(lease.instance));
    leave(&process, &lease, |journal| journal.begin(StepKind::Stop, instance, now)).await;
    pass(Duration::from_secs(60)).await;
    process.engine.touch("one", None, &stage.call()).await.expect("a heartbeat");
    let cleaned = process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.unwrap();
    assert_eq!(cleaned.summary.stopped, 0, "{cleaned:?}");
    assert_eq!(claim(&process, &lease.id).await.state(), "ready");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_opened_again_is_no_dead_processs_any_more() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    let instance = InstanceId(lease.instance);
    leave(&process, &lease, |journal| {
        journal.holder = Some(Holder { since: journal.created_at, ..Holder::default() });
        journal.begin(StepKind::Stop, instance, journal.created_at);
    })
    .await;
    run_on(&process.engine, Some("one"), false, &stage.call()).await.expect("runs");
    let journal = process.engine.store().journal(&lease.id).await.unwrap().unwrap();
    assert_eq!(journal.holder, None);
    assert!(!journal.is_open(StepKind::Stop, instance), "{journal:?}");
    pass(SILENT).await;
    let cleaned = process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.unwrap();
    assert_eq!((cleaned.summary.destroyed, cleaned.summary.stopped), (0, 0), "{cleaned:?}");
    assert_eq!(claim(&process, &lease.id).await.state(), "ready");
}

/// A lease that was stopped, as `stop` leaves it.
async fn stopped(stage: &Stage, process: &Process) -> Warm {
    let lease = warm(stage, process, "one", true).await;
    let request = crabbox_vast_engine::ops::ReleaseRequest {
        identifier: "one".into(),
        action: Some(crabbox_vast_engine::lease::ReleaseAction::Stop),
    };
    process.engine.release(&request, &stage.call()).await.expect("stops");
    pass(Duration::from_secs(10)).await;
    lease
}

fn answered(status: u16, body: &str) -> Effect {
    Effect::Answer { status, content_type: "application/json".into(), body: body.into(), headers: vec![] }
}

/// Carried out, and answered as if it had not been: a start that may bill is taken back.
#[tokio::test(start_paused = true)]
async fn a_start_that_took_effect_is_taken_back_whatever_it_was_answered() {
    let put = |effect| Fault::once("PUT", "/api/v0/instances/*/", effect);
    let denied = || answered(403, r#"{"success":false,"msg":"no"}"#);
    let broke = || answered(400, r#"{"success":false,"error":"insufficient_credit"}"#);
    let second = |effect| Fault { nth: 2, ..put(effect) };
    let server_error =
        answered(200, r#"{"success":false,"error":"server_error","msg":"Something went wrong"}"#);
    let cases = [
        vec![put(server_error).after_commit()],
        vec![put(denied()).after_commit()],
        vec![put(Effect::Reset).after_commit(), second(denied())],
        vec![put(Effect::Reset).after_commit(), second(broke())],
    ];
    for faults in cases {
        let stage = Stage::new();
        let process = stage.process();
        let lease = stopped(&stage, &process).await;
        let told = format!("{faults:?}");
        stage.vast(|vast, _| faults.into_iter().for_each(|fault| vast.add_fault(fault)));
        let start = StartRequest { identifier: "one".into() };
        let error = process.engine.start(&start, &stage.call()).await.map(|_| ()).expect_err("refused");
        assert!(!error.to_string().contains("may still start"), "{told}: {error}");
        assert_eq!(wish(&process, &lease).await.as_deref(), Some("stopped"), "{told}: {error}");
        assert_eq!(claim(&process, &lease.id).await.state(), "stopped", "{told}");
        let journal = process.engine.store().journal(&lease.id).await.unwrap().unwrap();
        assert!(journal.steps.iter().all(|step| !step.is_open()), "{told}: {journal:?}");
    }
}

/// The vendor keeps a start whose GPUs are taken. That its claim says `ready` is from before others stopped the machine.
#[tokio::test(start_paused = true)]
async fn a_queued_start_of_a_dead_process_is_withdrawn_whatever_the_claim_says() {
    for used in [false, true] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = stopped(&stage, &process).await;
        edit(&process, &lease.id, |claim| drop(claim.labels.insert("state".into(), "ready".into()))).await;
        let (now, instance) = (stage.unix_now(), InstanceId(lease.instance));
        leave(&process, &lease, |journal| journal.begin(StepKind::Start, instance, now)).await;
        let taken = serde_json::json!({"relet": true});
        stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &taken);
        let queued = process.engine.client().set_state_if(instance, "running", || async { Ok(()) }).await;
        queued.expect_err("its GPUs are taken");
        pass(Duration::from_secs(60)).await;
        if used {
            process.engine.touch("one", None, &stage.call()).await.expect("a use");
        }
        let cleaned =
            stage.process().engine.cleanup(&CleanupRequest::default(), &stage.call()).await.unwrap();
        let (outcome, shown) =
            if used { (ItemOutcome::Skipped, "running") } else { (ItemOutcome::Stopped, "stopped") };
        assert_eq!(cleaned.items[0].outcome, outcome, "used {used}: {cleaned:?}");
        assert_eq!(wish(&process, &lease).await.as_deref(), Some(shown), "used {used}");
    }
}

/// What a cleanup says that it destroyed is what it destroyed.
#[tokio::test(start_paused = true)]
async fn a_surplus_that_is_finished_goes_by_its_own_number() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let surplus = InstanceId(999_999);
    leave(&process, &lease, |journal| journal.begin(StepKind::Destroy, surplus, EPOCH)).await;
    for dry_run in [true, false] {
        let cleaned = process.engine.cleanup(&CleanupRequest { dry_run }, &stage.call()).await.unwrap();
        let item = &cleaned.items[0];
        assert_eq!((item.action, item.instance), (ItemKind::Recover, Some(surplus)), "{cleaned:?}");
        let outcome = if dry_run { ItemOutcome::Planned } else { ItemOutcome::AlreadyGone };
        assert_eq!(item.outcome, outcome, "{cleaned:?}");
        assert_eq!(open(&stage), [lease.instance]);
    }
}

/// Whoever uses a lease after its instance was found, and before its destroy is on record, keeps it.
#[tokio::test(start_paused = true)]
async fn a_found_machine_that_is_used_before_its_destroy_is_begun_is_spared() {
    let stage = Stage::new();
    stage.vast(|vast, _| vast.add_fault(Fault::once("PUT", "/api/v0/asks/*/", Effect::Reset).after_commit()));
    let dead = stage.process();
    let request = AcquireRequest { keep: true, slug: Some("one".into()), ..AcquireRequest::default() };
    let call = stage.call();
    assert!(
        tokio::time::timeout(Duration::from_secs(3), dead.engine.acquire(&request, &call)).await.is_err()
    );
    pass(Duration::from_secs(180)).await;
    let instance = open(&stage)[0];
    // What authorises the destroy takes its time.
    let slow = Fault::once("GET", "/api/v0/instances/*/", Effect::TooMany(2)).times(Some(3));
    stage.vast(|vast, _| vast.add_fault(slow));
    let (cleaner, user) = (stage.process(), stage.process());
    let using = async {
        while user.engine.store().scan_claims().await.unwrap().claims[0].instance_id().is_none() {
            pass(Duration::from_millis(1)).await;
        }
        run_on(&user.engine, Some("one"), false, &stage.call()).await
    };
    let (cleaned, used) = tokio::join!(
        async { cleaner.engine.cleanup(&CleanupRequest::default(), &stage.call()).await },
        using
    );
    used.expect("it runs");
    let cleaned = cleaned.expect("cleans up");
    assert_eq!(open(&stage), [instance], "{cleaned:?}");
    let error = cleaned.items[0].error.as_ref().map(|error| error["code"].clone());
    assert_eq!(error, Some("claim_changed".into()), "{cleaned:?}");
    let journal = user.engine.store().scan_journals().await.unwrap().remove(0);
    assert!(!journal.is_open(StepKind::Destroy, InstanceId(instance)), "{journal:?}");
}

//! A lease that is started again over what dead processes left in its records: nothing of that ends it later, and what this
//! start leaves undone is told from a use.

use crate::support::{Warm, claim, edit, journal_of, leave, mutations, open, pass, run_on, warm, wish};
use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::lease::{InstanceId, ReleaseAction};
use crabbox_vast_engine::ops::{AcquireRequest, Cleaned, CleanupRequest, ReleaseRequest, StartRequest};
use crabbox_vast_engine::store::{Holder, StepKind};
use crabbox_vast_engine::{Code, Result};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::json;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// After the slowest heartbeat and its margin nobody uses a lease that was not touched.
const SILENT: Duration = Duration::from_secs(361);

async fn start(stage: &Stage, process: &Process) -> Result<()> {
    let request = StartRequest { identifier: "one".into() };
    process.engine.start(&request, &stage.call()).await.map(|_| ())
}

async fn cleanup(stage: &Stage) -> Cleaned {
    stage.process().engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up")
}

fn set(stage: &Stage, lease: &Warm, columns: &serde_json::Value) {
    stage.control("POST", &format!("/_sim/instances/{}", lease.instance), columns);
}

/// Who gives a start up gets the machine stopped again, and is told so and what can be done.
#[tokio::test(start_paused = true)]
async fn a_start_that_is_given_up_says_that_the_machine_is_stopped_again() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let stops = ReleaseRequest { identifier: "one".into(), action: Some(ReleaseAction::Stop) };
    process.engine.release(&stops, &stage.call()).await.expect("stopped");
    mutations(&stage);
    let cancel = CancellationToken::new();
    let (call, starts) = (stage.call_with(cancel.clone()), StartRequest { identifier: "one".into() });
    let (outcome, ()) = tokio::join!(process.engine.start(&starts, &call), async {
        while mutations(&stage).is_empty() {
            pass(Duration::from_millis(100)).await;
        }
        pass(Duration::from_secs(1)).await;
        cancel.cancel();
    });
    let error = outcome.err().expect("given up");
    assert_eq!(error.code(), Code::Cancelled, "{error}");
    let hint = error.hint_text().unwrap_or_default();
    assert!(hint.contains("is stopped again") && hint.contains("`start one`"), "{hint}");
    assert_eq!(claim(&process, &lease.id).await.state(), "stopped");
    assert_eq!(wish(&process, &lease).await.as_deref(), Some("stopped"));
}

/// Stopped by somebody else: the claim still says `ready`.
fn halted(stage: &Stage, lease: &Warm) {
    let columns = json!({"actual_status": "exited", "intended_status": "stopped", "cur_state": "stopped"});
    set(stage, lease, &columns);
}

async fn stop_only(stage: &Stage, process: &Process) {
    let action = Some(ReleaseAction::Stop);
    let request = ReleaseRequest { identifier: "one".into(), action };
    process.engine.release(&request, &stage.call()).await.expect("stops");
    pass(Duration::from_secs(10)).await;
}

/// The next start or stop is refused for want of credit.
fn refuse_next_state(stage: &Stage) {
    let broke = Effect::Answer {
        status: 400,
        content_type: "application/json".into(),
        body: r#"{"success":false,"error":"insufficient_credit"}"#.into(),
        headers: vec![],
    };
    stage.vast(|vast, _| vast.add_fault(Fault::once("PUT", "/api/v0/instances/*/", broke)));
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_was_never_proved_does_not_stop_what_was_started_since() {
    for running in [false, true] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        if !running {
            halted(&stage, &lease);
        }
        let (now, instance) = (stage.unix_now(), InstanceId(lease.instance));
        leave(&process, &lease, |journal| journal.begin(StepKind::Stop, instance, now)).await;
        start(&stage, &stage.process()).await.expect("starts");
        pass(SILENT).await;
        let cleaned = cleanup(&stage).await;
        assert_eq!(cleaned.summary.stopped, 0, "running {running}: {cleaned:?}");
        assert_eq!(wish(&process, &lease).await.as_deref(), Some("running"), "running {running}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_run_that_died_is_its_own_again_once_it_is_started() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    halted(&stage, &lease);
    leave(&process, &lease, |journal| {
        journal.holder = Some(Holder { since: journal.created_at, ..Holder::default() });
    })
    .await;
    start(&stage, &stage.process()).await.expect("starts");
    let cleaned = cleanup(&stage).await;
    assert_eq!(open(&stage), [lease.instance], "{cleaned:?}");
}

/// Its machine was stopped by others, so that the claim says `ready` all the while; SSH never answers.
#[tokio::test(start_paused = true)]
async fn a_start_that_goes_on_with_a_dead_ones_and_dies_too_is_taken_back() {
    let mut begun = 0;
    for kill_at in 1..60 {
        let stage = Stage::with(|settings| settings.rate_limits = false);
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        halted(&stage, &lease);
        set(&stage, &lease, &json!({"sshd": false}));
        pass(Duration::from_secs(1)).await;
        let (now, instance) = (stage.unix_now(), InstanceId(lease.instance));
        leave(&process, &lease, |journal| journal.begin(StepKind::Start, instance, now)).await;
        let set_running = process.engine.client().set_state_if(instance, "running", || async { Ok(()) });
        set_running.await.expect("accepted");
        pass(Duration::from_secs(60)).await;
        let second = stage.process_with(Some(kill_at), |_| ());
        let ended = second.live(start(&stage, &second)).await;
        begun += usize::from(ended.is_none());
        pass(Duration::from_secs(60)).await;
        if ended.is_none() {
            let ending = async || process.engine.list(false, &stage.call()).await.expect("lists")[0].ending;
            assert_eq!(ending().await, Some(StepKind::Stop), "step {kill_at}");
            let lock = process.engine.store().operation_lock(&lease.id).await.expect("a lock").expect("free");
            assert_eq!(ending().await, None, "step {kill_at}: somebody may be about to finish it");
            drop(lock);
        }
        let cleaned = cleanup(&stage).await;
        assert_eq!(wish(&process, &lease).await.as_deref(), Some("stopped"), "step {kill_at}: {cleaned:?}");
        assert_eq!(claim(&process, &lease.id).await.state(), "stopped", "step {kill_at}: {cleaned:?}");
    }
    assert!(begun > 20, "a start has more steps than {begun}");
}

/// A machine that is loading again was asked to run already: to start it is to wait for it, and who dies waiting leaves it.
#[tokio::test(start_paused = true)]
async fn a_start_of_what_comes_up_by_itself_sends_nothing_and_ends_nothing() {
    let mut died = 0;
    for kill_at in (1..40).step_by(3) {
        let stage = Stage::with(|settings| settings.rate_limits = false);
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        set(&stage, &lease, &json!({"actual_status": "loading"}));
        let starter = stage.process_with(Some(kill_at), |_| ());
        let ended =
            tokio::time::timeout(Duration::from_secs(60), starter.live(start(&stage, &starter))).await;
        died += usize::from(matches!(ended, Ok(None)));
        let steps = journal_of(&process, &lease.id).await.steps;
        assert!(steps.is_empty(), "step {kill_at}: {steps:?}");
        pass(Duration::from_secs(60)).await;
        let cleaned = cleanup(&stage).await;
        assert_eq!(wish(&process, &lease).await.as_deref(), Some("running"), "step {kill_at}: {cleaned:?}");
        assert_eq!(cleaned.summary.stopped, 0, "step {kill_at}: {cleaned:?}");
    }
    assert!(died > 5, "a start has more steps than {died}");
}

/// Its own call did nothing; that of the dead one before it is queued, and would bill hours later.
#[tokio::test(start_paused = true)]
async fn a_refused_start_takes_back_the_one_that_a_dead_process_had_sent() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    stop_only(&stage, &process).await;
    let (now, instance) = (stage.unix_now(), InstanceId(lease.instance));
    leave(&process, &lease, |journal| journal.begin(StepKind::Start, instance, now)).await;
    set(&stage, &lease, &json!({"relet": true}));
    let queued = process.engine.client().set_state_if(instance, "running", || async { Ok(()) }).await;
    queued.expect_err("its GPUs are taken");
    refuse_next_state(&stage);
    let error = start(&stage, &stage.process()).await.expect_err("refused");
    assert_eq!(error.code(), Code::InsufficientCredit, "{error}");
    assert_eq!(wish(&process, &lease).await.as_deref(), Some("stopped"), "{error}");
    let left = journal_of(&process, &lease.id).await;
    assert!(left.steps.iter().all(|step| !step.is_open()), "{left:?}");
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Left {
    Stop,
    Destroy,
    Holder,
}

async fn leave_open(process: &Process, lease: &Warm, left: Left, now: i64) {
    let instance = InstanceId(lease.instance);
    leave(process, lease, |journal| match left {
        Left::Stop => journal.begin(StepKind::Stop, instance, now),
        Left::Destroy => journal.begin(StepKind::Destroy, instance, now),
        Left::Holder => {
            journal.holder = Some(Holder { since: now, process: "7@x".into(), ..Holder::default() });
        }
    })
    .await;
}

/// As crabbox, and as a run of ours, which gets in while the machine is being started.
async fn get_in(stage: &Stage, process: &Process, lease: &Warm) {
    let now = stage.unix_now().to_string();
    edit(process, &lease.id, move |claim| {
        for (label, text) in [("state", "ready"), ("last_touched_at", &now)] {
            claim.labels.insert(label.into(), text.to_owned());
        }
    })
    .await;
}

/// What it was to stop may still run.
#[tokio::test(start_paused = true)]
async fn a_refused_start_leaves_a_stop_that_was_never_proved_to_be_finished() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    set(&stage, &lease, &json!({"actual_status": "exited"}));
    leave_open(&process, &lease, Left::Stop, stage.unix_now()).await;
    refuse_next_state(&stage);
    start(&stage, &stage.process()).await.expect_err("refused");
    pass(SILENT).await;
    let cleaned = cleanup(&stage).await;
    assert_eq!(cleaned.summary.stopped, 1, "{cleaned:?}");
    assert_eq!(wish(&process, &lease).await.as_deref(), Some("stopped"));
}

/// Who starts a lease wants it: its disk does not go with what a dead process had meant to do, whatever comes of the start.
#[tokio::test(start_paused = true)]
async fn a_start_takes_the_lease_over_whatever_comes_of_it() {
    for left in [Left::Destroy, Left::Holder] {
        for refused in [false, true] {
            let stage = Stage::new();
            let process = stage.process();
            let lease = warm(&stage, &process, "one", false).await;
            stop_only(&stage, &process).await;
            leave_open(&process, &lease, left, stage.unix_now()).await;
            if refused {
                refuse_next_state(&stage);
            } else {
                set(&stage, &lease, &json!({"sshd": false}));
            }
            start(&stage, &stage.process()).await.expect_err("it fails");
            let cleaned = cleanup(&stage).await;
            assert_eq!(open(&stage), [lease.instance], "{left:?}, refused {refused}: {cleaned:?}");
            assert_eq!(claim(&process, &lease.id).await.state(), "stopped", "{left:?}, refused {refused}");
        }
    }
}

/// Others started the stopped machine: nothing is sent, and it is in use for as long as it is waited for.
#[tokio::test(start_paused = true)]
async fn a_start_of_what_others_started_is_a_use_from_its_beginning() {
    let stage = Stage::new();
    let process = stage.process_with(None, |settings| settings.idle_timeout = Duration::from_secs(120));
    let lease = warm(&stage, &process, "one", false).await;
    // As an acquire that was killed before its last record leaves it.
    leave(&process, &lease, |journal| journal.phases.clear()).await;
    stop_only(&stage, &process).await;
    set(&stage, &lease, &json!({"actual_status": "running", "intended_status": "running", "sshd": false}));
    mutations(&stage);
    let looking = async {
        pass(Duration::from_secs(200)).await;
        let cleaned = cleanup(&stage).await;
        (claim(&process, &lease.id).await, cleaned)
    };
    let starter = stage.process();
    let began = stage.unix_now();
    let (started, (seen, cleaned)) = tokio::join!(start(&stage, &starter), looking);
    assert!(started.is_err() && stage.unix_now() - began > 200, "it waited: {started:?}");
    assert_eq!(seen.state(), "provisioning");
    let touched: i64 = seen.label("last_touched_at").and_then(|at| at.parse().ok()).expect("a time");
    assert!(touched - began > 100, "its use goes on: {seen:?}");
    assert_eq!(open(&stage), [lease.instance], "{cleaned:?}");
    let (sent, change) = (mutations(&stage), format!("PUT /api/v0/instances/{}/", lease.instance));
    assert!(!sent.contains(&change), "{sent:?}");
    // It is no acquire that was cut off, and can be started again.
    assert_eq!(cleanup(&stage).await.summary.destroyed, 0);
    set(&stage, &lease, &json!({"sshd": true}));
    start(&stage, &starter).await.expect("it answers now");
    assert_eq!(claim(&process, &lease.id).await.state(), "ready");
}

/// Kept as it is, it runs on: whoever said so is not told otherwise by the next cleanup.
#[tokio::test(start_paused = true)]
async fn what_a_dead_process_started_runs_on_where_it_is_kept() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    stop_only(&stage, &process).await;
    let dying = stage.process();
    assert!(tokio::time::timeout(Duration::from_secs(3), start(&stage, &dying)).await.is_err());
    pass(Duration::from_secs(60)).await;
    let request = ReleaseRequest { identifier: "one".into(), action: Some(ReleaseAction::Keep) };
    process.engine.release(&request, &stage.call()).await.expect("keeps");
    pass(SILENT).await;
    let cleaned = cleanup(&stage).await;
    assert_eq!(cleaned.summary.stopped, 0, "{cleaned:?}");
    assert_eq!(wish(&process, &lease).await.as_deref(), Some("running"));
    run_on(&process.engine, Some("one"), false, &stage.call()).await.expect("it runs");
}

/// A kill between the claim and the journal left the journal without the word that the lease was ready once.
#[tokio::test(start_paused = true)]
async fn a_start_that_dies_costs_no_disk_whatever_its_acquire_left_unwritten() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    leave(&process, &lease, |journal| journal.phases.clear()).await;
    stop_only(&stage, &process).await;
    let dying = stage.process();
    let dead = tokio::time::timeout(Duration::from_secs(3), start(&stage, &dying)).await;
    assert!(dead.is_err(), "it dies while the machine starts");
    assert_eq!(claim(&process, &lease.id).await.state(), "provisioning");
    let cleaned = cleanup(&stage).await;
    assert_eq!(open(&stage), [lease.instance], "{cleaned:?}");
    assert_eq!(cleaned.summary.stopped, 1, "{cleaned:?}");
}

/// The wait for SSH may be longer than the lease's idle timeout.
#[tokio::test(start_paused = true)]
async fn a_start_is_a_use_for_as_long_as_it_waits() {
    let stage = Stage::new();
    let process = stage.process_with(None, |settings| settings.idle_timeout = Duration::from_secs(120));
    let lease = warm(&stage, &process, "one", false).await;
    set(&stage, &lease, &json!({"sshd": false}));
    let cleaning = async {
        pass(Duration::from_secs(200)).await;
        cleanup(&stage).await
    };
    let starter = stage.process();
    let began = stage.unix_now();
    let (started, cleaned) = tokio::join!(start(&stage, &starter), cleaning);
    assert!(stage.unix_now() - began > 200, "it waited: {started:?}");
    assert_eq!(open(&stage), [lease.instance], "{started:?} {cleaned:?}");
}

/// A destroy, or a stop, that is asked for after a use is meant for what the lease is by then.
#[tokio::test(start_paused = true)]
async fn what_is_asked_for_again_after_a_use_is_done() {
    for action in [ReleaseAction::Destroy, ReleaseAction::Stop] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        let (now, instance) = (stage.unix_now(), InstanceId(lease.instance));
        let kind = if action == ReleaseAction::Stop { StepKind::Stop } else { StepKind::Destroy };
        leave(&process, &lease, |journal| journal.begin(kind, instance, now)).await;
        pass(Duration::from_secs(60)).await;
        // As crabbox, which dates what it uses anew.
        let now = stage.unix_now();
        edit(&process, &lease.id, move |claim| {
            for label in ["created_at", "last_touched_at"] {
                claim.labels.insert(label.into(), now.to_string());
            }
        })
        .await;
        pass(Duration::from_secs(60)).await;
        stage.vast(|vast, _| {
            for method in ["DELETE", "PUT"] {
                let fault = Fault::once(method, "/api/v0/instances/*/", Effect::Html(502));
                vast.add_fault(fault.times(None));
            }
        });
        let request = ReleaseRequest { identifier: "one".into(), action: Some(action) };
        process.engine.release(&request, &stage.call()).await.expect_err("the API is down");
        stage.control("DELETE", "/_sim/faults", &json!({}));
        let cleaned = cleanup(&stage).await;
        let done = cleaned.summary.destroyed + cleaned.summary.stopped;
        assert_eq!((done, cleaned.summary.skipped), (1, 0), "{action:?}: {cleaned:?}");
    }
}

/// Who got in has it, whatever was to become of it: a start that did not get so far takes nothing from them.
#[tokio::test(start_paused = true)]
async fn a_start_that_fails_takes_nothing_from_who_got_in_meanwhile() {
    for dearer in [false, true] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        stop_only(&stage, &process).await;
        set(&stage, &lease, &json!({"sshd": false}));
        let using = async {
            pass(Duration::from_secs(60)).await;
            get_in(&stage, &process, &lease).await;
            if dearer {
                set(&stage, &lease, &json!({"dph_total": 99.0}));
            }
        };
        let starter = stage.process_with(None, |settings| {
            settings.max_dph_total = Some(crabbox_vast_engine::lease::DollarsPerHour(9.0));
        });
        let (started, ()) = tokio::join!(start(&stage, &starter), using);
        let error = started.expect_err("SSH never answers");
        let (code, wished) =
            if dearer { (Code::PriceCapExceeded, "stopped") } else { (Code::SshTimeout, "running") };
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(wish(&process, &lease).await.as_deref(), Some(wished), "{error}");
        pass(SILENT).await;
        let cleaned = cleanup(&stage).await;
        assert_eq!(cleaned.summary.stopped, 0, "{cleaned:?}");
        let left = journal_of(&process, &lease.id).await;
        assert!(left.steps.iter().all(|step| !step.is_open()), "{left:?}");
    }
}

/// The claim says `ready`, the machine was stopped by others, and the start is refused.
#[tokio::test(start_paused = true)]
async fn what_others_stopped_and_is_not_started_is_stopped() {
    for by_budget in [false, true] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        halted(&stage, &lease);
        let starter = stage.process_with(None, |settings| {
            settings.max_cost_per_day = by_budget.then_some(crabbox_vast_engine::lease::Dollars(0.000_1));
        });
        if !by_budget {
            refuse_next_state(&stage);
        }
        let error = start(&stage, &starter).await.expect_err("refused");
        let code = if by_budget { Code::CostLimitExceeded } else { Code::InsufficientCredit };
        assert_eq!((error.code(), claim(&process, &lease.id).await.state()), (code, "stopped"), "{error}");
        start(&stage, &process).await.expect("starts");
    }
}

/// Whoever starts a lease takes it over: what dead processes had meant to do with it does not come back over who got in while
/// the start waited.
#[tokio::test(start_paused = true)]
async fn a_start_that_fails_brings_nothing_back_over_who_got_in_meanwhile() {
    for left in [Left::Stop, Left::Destroy, Left::Holder] {
        for sent in [false, true] {
            let what = format!("{left:?}, sent {sent}");
            let stage = Stage::new();
            let process = stage.process();
            let lease = warm(&stage, &process, "one", false).await;
            if sent {
                stop_only(&stage, &process).await;
            }
            leave_open(&process, &lease, left, stage.unix_now()).await;
            pass(Duration::from_secs(60)).await;
            set(&stage, &lease, &json!({"sshd": false}));
            let using = async {
                pass(Duration::from_secs(60)).await;
                get_in(&stage, &process, &lease).await;
            };
            let starter = stage.process();
            let (started, ()) = tokio::join!(start(&stage, &starter), using);
            assert_eq!(started.expect_err("SSH never answers").code(), Code::SshTimeout, "{what}");
            get_in(&stage, &process, &lease).await;
            pass(SILENT).await;
            let cleaned = cleanup(&stage).await;
            assert_eq!(open(&stage), [lease.instance], "{what}: {cleaned:?}");
            assert_eq!(wish(&process, &lease).await.as_deref(), Some("running"), "{what}: {cleaned:?}");
        }
    }
}

/// However soon after the start its process died and somebody got in, with whichever program.
#[tokio::test(start_paused = true)]
async fn what_a_dead_process_started_is_whose_who_gets_in_at_once() {
    for by_crabbox in [false, true] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        pass(Duration::from_secs(5)).await;
        let (now, instance) = (stage.unix_now(), InstanceId(lease.instance));
        leave(&process, &lease, |journal| journal.begin(StepKind::Start, instance, now)).await;
        if by_crabbox {
            get_in(&stage, &process, &lease).await;
        } else {
            run_on(&process.engine, Some("one"), false, &stage.call()).await.expect("it runs");
        }
        assert_eq!(stage.unix_now(), now, "within the same second");
        let cleaned = cleanup(&stage).await;
        assert_eq!(cleaned.summary.stopped, 0, "by crabbox {by_crabbox}: {cleaned:?}");
        assert_eq!(wish(&process, &lease).await.as_deref(), Some("running"), "by crabbox {by_crabbox}");
    }
}

/// Its process died before the claim said that it starts, so that the claim still says `stopped`: who gets in, or keeps it, has a
/// lease that runs.
#[tokio::test(start_paused = true)]
async fn what_a_dead_process_started_is_not_said_to_be_stopped_by_who_gets_in() {
    for kept in [false, true] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        stop_only(&stage, &process).await;
        let (now, instance) = (stage.unix_now(), InstanceId(lease.instance));
        leave(&process, &lease, |journal| journal.begin(StepKind::Start, instance, now)).await;
        let sent = process.engine.client().set_state_if(instance, "running", || async { Ok(()) });
        sent.await.expect("accepted");
        pass(Duration::from_secs(60)).await;
        if kept {
            let request = ReleaseRequest { identifier: "one".into(), action: Some(ReleaseAction::Keep) };
            process.engine.release(&request, &stage.call()).await.expect("keeps");
        } else {
            run_on(&process.engine, Some("one"), false, &stage.call()).await.expect("it runs");
        }
        let expected = if kept { "provisioning" } else { "ready" };
        assert_eq!(claim(&process, &lease.id).await.state(), expected);
        process.engine.touch("one", None, &stage.call()).await.expect("it is in use");
    }
}

/// A start whose stop was never proved either, and somebody got in: that stop goes with the start. What a user asked for
/// does not.
#[tokio::test(start_paused = true)]
async fn the_stop_that_was_to_take_a_start_back_goes_with_it() {
    for asked in [false, true] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        stop_only(&stage, &process).await;
        // It comes up too late, and the API refuses to stop it again.
        set(&stage, &lease, &json!({"sshd": false}));
        let fail = async {
            pass(Duration::from_secs(30)).await;
            let forbidden = Effect::Html(403);
            let fault = Fault::once("PUT", "/api/v0/instances/*/", forbidden).times(None);
            stage.vast(|vast, _| vast.add_fault(fault));
        };
        let starter = stage.process();
        let (failed, ()) = tokio::join!(start(&stage, &starter), fail);
        failed.expect_err("nobody answers");
        let instance = InstanceId(lease.instance);
        let left = journal_of(&process, &lease.id).await;
        assert!(
            left.is_open(StepKind::Start, instance) && left.is_open(StepKind::Stop, instance),
            "{left:?}"
        );
        if asked {
            let request = ReleaseRequest { identifier: "one".into(), action: Some(ReleaseAction::Stop) };
            process.engine.release(&request, &stage.call()).await.expect_err("it is refused, too");
        }
        stage.control("DELETE", "/_sim/faults", &json!({}));
        set(&stage, &lease, &json!({"sshd": true}));
        get_in(&stage, &process, &lease).await;
        cleanup(&stage).await;
        pass(SILENT).await;
        let cleaned = cleanup(&stage).await;
        let expected = if asked { "stopped" } else { "running" };
        assert_eq!(wish(&process, &lease).await.as_deref(), Some(expected), "asked {asked}: {cleaned:?}");
    }
}

/// What a run that lost its machine writes last is no sign that somebody got in to what is being started.
#[tokio::test(start_paused = true)]
async fn a_use_that_is_over_does_not_pass_for_the_end_of_a_start() {
    let stage = Stage::new();
    let process = stage.process();
    let request = AcquireRequest { keep: true, slug: Some("one".into()), ..AcquireRequest::default() };
    let used = process.engine.acquire(&request, &stage.call()).await.expect("a lease");
    let lease = Warm { id: used.facts().id.clone(), slug: "one".into(), instance: used.facts().instance.0 };
    halted(&stage, &lease);
    set(&stage, &lease, &json!({"sshd": false}));
    let dying = stage.process();
    let limit = Duration::from_secs(30);
    assert!(tokio::time::timeout(limit, start(&stage, &dying)).await.is_err(), "it dies starting");
    let _ = used.touch(Some("ready")).await;
    assert_eq!(claim(&process, &lease.id).await.state(), "provisioning");
    assert_eq!(cleanup(&stage).await.summary.stopped, 1);
    assert_eq!(wish(&process, &lease).await.as_deref(), Some("stopped"));
}

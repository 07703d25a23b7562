//! A lease that is taken into use is spared: what was begun to end it is called off, or the use is refused. Whatever
//! authorises a destruction is read last, after every wait.

use crate::support::{Warm, claim, edit, journal_of, open, pass, run_on, stop, warm, warnings};
use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::lease::{InstanceId, ReleaseAction};
use crabbox_vast_engine::ops::{Cleaned, CleanupRequest, ReleaseRequest, StartRequest};
use crabbox_vast_engine::store::StepKind;
use crabbox_vast_engine::{Code, Result};
use crabbox_vast_sim::api::{Effect, Fault};
use std::time::Duration;

async fn expire(process: &Process, lease: &Warm) {
    edit(process, &lease.id, |claim| {
        claim.labels.insert("expires_at".into(), "1700000000".into());
    })
    .await;
}

async fn cleanup(stage: &Stage, process: &Process) -> Cleaned {
    process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up")
}

fn refusal() -> Effect {
    let body = r#"{"success":false,"error":"auth_error","msg":"Invalid user key"}"#;
    Effect::Answer {
        status: 401,
        content_type: "application/json".into(),
        body: body.into(),
        headers: vec![],
    }
}

/// An expired lease whose destroy a cleanup had begun when the API refused it.
async fn half_destroyed(stage: &Stage) -> Warm {
    let process = stage.process();
    let lease = warm(stage, &process, "one", false).await;
    expire(&process, &lease).await;
    stage.vast(|vast, _| {
        vast.add_fault(Fault::once("DELETE", "/api/v0/instances/*/", refusal()).times(Some(2)));
    });
    assert_eq!(cleanup(stage, &process).await.summary.failed, 1);
    assert!(journal_of(&process, &lease.id).await.is_open(StepKind::Destroy, InstanceId(lease.instance)));
    assert_eq!(open(stage), [lease.instance]);
    lease
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Use {
    Run,
    Touch,
    Ssh,
    Connect,
    Start,
}

async fn take_into_use(stage: &Stage, process: &Process, how: Use) -> Result<()> {
    let call = stage.call();
    match how {
        Use::Run => run_on(&process.engine, Some("one"), false, &call).await.map(|_| ()),
        Use::Touch => process.engine.touch("one", None, &call).await.map(|_| ()),
        Use::Ssh => process.engine.ssh_command("one", false, &call).await.map(|_| ()),
        Use::Connect => process.engine.open("one", false, &call).await.map(|_| ()),
        Use::Start => {
            let request = StartRequest { identifier: "one".into() };
            process.engine.start(&request, &call).await.map(|_| ())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_destroy_that_was_refused_is_called_off_by_whatever_takes_the_lease_into_use() {
    for how in [Use::Run, Use::Touch, Use::Ssh, Use::Connect, Use::Start] {
        let stage = Stage::new();
        let lease = half_destroyed(&stage).await;
        let user = stage.process();
        take_into_use(&stage, &user, how).await.unwrap_or_else(|error| panic!("{how:?}: {error}"));
        let said = warnings(&stage);
        assert!(said.iter().any(|warning| warning.contains("is called off")), "{how:?}: {said:?}");
        pass(Duration::from_secs(60)).await;
        let cleaned = cleanup(&stage, &stage.process()).await;
        assert_eq!(open(&stage), [lease.instance], "{how:?}: {cleaned:?}");
        let left = journal_of(&user, &lease.id).await;
        assert!(!left.is_open(StepKind::Destroy, InstanceId(lease.instance)), "{how:?}: {left:?}");
        // It ends as every lease does.
        expire(&user, &lease).await;
        assert_eq!(cleanup(&stage, &stage.process()).await.summary.destroyed, 1, "{how:?}");
        assert_eq!(open(&stage), Vec::<u64>::new(), "{how:?}");
    }
}

/// A start that stands between: the lease was stopped when its destroy was refused.
#[tokio::test(start_paused = true)]
async fn a_start_of_a_stopped_lease_calls_its_destroy_off_before_it_is_sent() {
    let stage = Stage::new();
    let lease = half_destroyed(&stage).await;
    let columns =
        serde_json::json!({"actual_status": "exited", "intended_status": "stopped", "cur_state": "stopped"});
    stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &columns);
    take_into_use(&stage, &stage.process(), Use::Start).await.expect("starts");
    cleanup(&stage, &stage.process()).await;
    assert_eq!(open(&stage), [lease.instance]);
    let steps = journal_of(&stage.process(), &lease.id).await.steps;
    let called_off =
        steps.iter().find(|step| step.kind == StepKind::Destroy).and_then(|step| step.void.as_ref());
    assert_eq!(called_off.map(String::as_str), Some("the lease is in use again"), "{steps:?}");
}

/// Who asked for the destroy, and does not use the lease again, gets it.
#[tokio::test(start_paused = true)]
async fn a_refused_destroy_is_finished_where_nobody_uses_the_lease() {
    let stage = Stage::new();
    half_destroyed(&stage).await;
    assert_eq!(cleanup(&stage, &stage.process()).await.summary.destroyed, 1);
    assert_eq!(open(&stage), Vec::<u64>::new());
}

/// An expired lease whose destroy is to be repeated after some 429s while `meanwhile` happens to it.
async fn while_it_waits(stage: &Stage, meanwhile: impl AsyncFn(&Process, &Warm)) -> (Warm, Process, Cleaned) {
    let process = stage.process();
    let lease = warm(stage, &process, "one", false).await;
    expire(&process, &lease).await;
    stage.vast(|vast, _| {
        vast.add_fault(Fault::once("DELETE", "/api/v0/instances/*/", Effect::TooMany(0)).times(Some(6)));
    });
    stage.calls.lock().expect("not poisoned").clear();
    let sent = format!("DELETE /api/v0/instances/{}/", lease.instance);
    let sweeper = stage.process();
    let (cleaned, ()) = tokio::join!(cleanup(stage, &sweeper), async {
        while !stage.calls.lock().expect("not poisoned").contains(&sent) {
            pass(Duration::from_millis(20)).await;
        }
        meanwhile(&process, &lease).await;
    });
    (lease, process, cleaned)
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_that_is_used_while_its_destroy_waits_to_be_sent_is_spared() {
    let stage = Stage::new();
    // As crabbox, which knows no lock of ours, touches it.
    let (lease, process, cleaned) = while_it_waits(&stage, async |process, lease| {
        edit(process, &lease.id, |claim| {
            claim.labels.insert("expires_at".into(), "1990000000".into());
        })
        .await;
    })
    .await;
    assert_eq!(open(&stage), [lease.instance], "{cleaned:?}");
    assert_eq!((cleaned.summary.destroyed, cleaned.summary.refused + cleaned.summary.failed), (0, 1));
    let said = serde_json::to_value(&cleaned).expect("a document");
    assert_eq!(said["items"][0]["error"]["code"], "claim_changed", "{said}");
    let left = journal_of(&process, &lease.id).await;
    assert!(!left.is_open(StepKind::Destroy, InstanceId(lease.instance)), "{left:?}");
    cleanup(&stage, &process).await;
    assert_eq!(open(&stage), [lease.instance]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_is_destroying_is_not_taken_into_use() {
    let stage = Stage::new();
    while_it_waits(&stage, async |process, lease| {
        for how in [Use::Run, Use::Touch, Use::Ssh, Use::Connect] {
            let error = take_into_use(&stage, process, how).await.expect_err("refused");
            assert_eq!(error.code(), Code::LeaseBusy, "{how:?}: {error}");
        }
        assert_eq!(claim(process, &lease.id).await.label("expires_at"), Some("1700000000"));
    })
    .await;
    assert_eq!(open(&stage), Vec::<u64>::new());
}

/// The stop of a run that died is repeated after a 429; who uses the lease before that keeps it running.
#[tokio::test(start_paused = true)]
async fn a_stop_that_waits_to_be_repeated_looks_at_the_claim_again() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    pass(Duration::from_secs(30)).await;
    let mut left = journal_of(&process, &lease.id).await;
    left.begin(StepKind::Stop, InstanceId(lease.instance), stage.unix_now());
    process.engine.store().write_journal(&left).await.expect("written");
    pass(Duration::from_secs(30)).await;
    stage.vast(|vast, _| vast.add_fault(Fault::once("PUT", "/api/v0/instances/*/", Effect::TooMany(0))));
    stage.calls.lock().expect("not poisoned").clear();
    let finisher = stage.process();
    let put = format!("PUT /api/v0/instances/{}/", lease.instance);
    let (cleaned, ()) = tokio::join!(cleanup(&stage, &finisher), async {
        while !stage.calls.lock().expect("not poisoned").contains(&put) {
            pass(Duration::from_millis(20)).await;
        }
        process.engine.touch("one", None, &stage.call()).await.expect("touches");
    });
    let puts = stage.calls.lock().expect("not poisoned").iter().filter(|call| **call == put).count();
    assert_eq!((puts, open(&stage)), (1, vec![lease.instance]), "{cleaned:?}");
    assert_eq!(claim(&process, &lease.id).await.state(), "ready");
    let left = journal_of(&process, &lease.id).await;
    assert!(!left.is_open(StepKind::Stop, InstanceId(lease.instance)), "{left:?}");
    stop(&process.engine, "one", &stage.call()).await.expect("a stop that was asked for");
    assert_eq!(open(&stage), Vec::<u64>::new());
}

/// A start of what runs may wait for minutes until SSH answers: its idle time counts anew from its beginning.
#[tokio::test(start_paused = true)]
async fn a_cleanup_beside_a_start_does_not_find_an_idle_lease() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    expire(&process, &lease).await;
    let silent = serde_json::json!({"sshd": false});
    stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &silent);
    let cleaning = async {
        pass(Duration::from_secs(30)).await;
        cleanup(&stage, &stage.process()).await
    };
    let starter = stage.process();
    let (started, cleaned) = tokio::join!(take_into_use(&stage, &starter, Use::Start), cleaning);
    assert_eq!(open(&stage), [lease.instance], "{started:?} {cleaned:?}");
    assert_eq!(started.expect_err("SSH never answers").code(), Code::SshTimeout);
}

/// crabbox knows nothing of a destroy that is on record: what it takes into use meanwhile ends as every lease does.
#[tokio::test(start_paused = true)]
async fn a_destroy_that_was_refused_waits_for_the_end_of_a_use_by_crabbox() {
    let stage = Stage::new();
    let lease = half_destroyed(&stage).await;
    pass(Duration::from_secs(60)).await;
    let now = stage.unix_now();
    edit(&stage.process(), &lease.id, move |claim| {
        for (label, at) in [("created_at", now), ("last_touched_at", now), ("expires_at", now + 1800)] {
            claim.labels.insert(label.into(), at.to_string());
        }
    })
    .await;
    for (minutes, left) in [(1, vec![lease.instance]), (25, vec![lease.instance]), (10, vec![])] {
        pass(Duration::from_secs(minutes * 60)).await;
        let cleaned = cleanup(&stage, &stage.process()).await;
        assert_eq!(open(&stage), left, "{cleaned:?}");
    }
}

/// A touch looks at no machine: the stop may have had its effect.
#[tokio::test(start_paused = true)]
async fn a_stop_that_was_never_proved_is_called_off_by_whatever_uses_the_machine_and_not_by_a_touch() {
    for how in [Use::Run, Use::Ssh, Use::Connect, Use::Start, Use::Touch] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        let mut left = journal_of(&process, &lease.id).await;
        left.begin(StepKind::Stop, InstanceId(lease.instance), stage.unix_now());
        process.engine.store().write_journal(&left).await.expect("written");
        pass(Duration::from_secs(30)).await;
        take_into_use(&stage, &stage.process(), how).await.unwrap_or_else(|error| panic!("{how:?}: {error}"));
        let said = warnings(&stage).iter().any(|warning| warning.starts_with("the stop of instance"));
        // Longer than the slowest heartbeat and its margin.
        pass(Duration::from_secs(361)).await;
        let cleaned = cleanup(&stage, &stage.process()).await;
        let touched = how == Use::Touch;
        assert_eq!((said, cleaned.summary.stopped), (!touched, usize::from(touched)), "{how:?}: {cleaned:?}");
    }
}

/// Whoever stops it lives: the machine would go under its user.
#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_is_stopping_is_not_taken_into_use() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    stage.vast(|vast, _| {
        vast.add_fault(Fault::once("PUT", "/api/v0/instances/*/", Effect::Stall));
    });
    stage.calls.lock().expect("not poisoned").clear();
    let sent = format!("PUT /api/v0/instances/{}/", lease.instance);
    let request = ReleaseRequest { identifier: "one".into(), action: Some(ReleaseAction::Stop) };
    let (stopper, call) = (stage.process(), stage.call());
    let (stopped, ()) = tokio::join!(stopper.engine.release(&request, &call), async {
        while !stage.calls.lock().expect("not poisoned").contains(&sent) {
            pass(Duration::from_millis(20)).await;
        }
        for how in [Use::Run, Use::Ssh, Use::Connect, Use::Start] {
            let error = take_into_use(&stage, &process, how).await.expect_err("refused");
            assert_eq!(error.code(), Code::LeaseBusy, "{how:?}: {error}");
        }
    });
    stopped.expect("stops");
    assert_eq!(claim(&process, &lease.id).await.state(), "stopped");
}

/// The wish shows at once; the machine runs on for a while, and would stop under its user.
#[tokio::test(start_paused = true)]
async fn a_machine_that_was_asked_to_stop_is_not_taken_into_use() {
    for how in [Use::Run, Use::Ssh, Use::Connect] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        let asked = serde_json::json!({"intended_status": "stopped"});
        stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &asked);
        let error = take_into_use(&stage, &process, how).await.expect_err("refused");
        assert_eq!(error.code(), Code::InstanceNotRunning, "{how:?}: {error}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("`start one`")), "{how:?}: {error}");
        take_into_use(&stage, &process, Use::Start).await.expect("starts");
        take_into_use(&stage, &process, how).await.unwrap_or_else(|error| panic!("{how:?}: {error}"));
    }
}

/// The address of a machine that does not answer is no use of it.
#[tokio::test(start_paused = true)]
async fn an_address_that_does_not_answer_calls_nothing_off() {
    let stage = Stage::new();
    let lease = half_destroyed(&stage).await;
    let silent = serde_json::json!({"sshd": false});
    stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &silent);
    take_into_use(&stage, &stage.process(), Use::Ssh).await.expect("an address");
    let said = warnings(&stage);
    assert!(said.iter().any(|one| one.starts_with("the destroy") && one.ends_with("to be done")), "{said:?}");
    assert_eq!(cleanup(&stage, &stage.process()).await.summary.destroyed, 1);
    assert_eq!(open(&stage), Vec::<u64>::new());
}

/// Its machine was stopped to be kept, and somebody else started it: who gets in uses the lease, whatever its claim says.
#[tokio::test(start_paused = true)]
async fn who_gets_in_to_what_others_started_uses_the_lease() {
    for how in [Use::Run, Use::Ssh, Use::Connect] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", false).await;
        let paused = ReleaseRequest { identifier: "one".into(), action: Some(ReleaseAction::Stop) };
        process.engine.release(&paused, &stage.call()).await.expect("stops");
        let columns = serde_json::json!({"actual_status": "running", "intended_status": "running", "cur_state": "running"});
        stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &columns);
        expire(&process, &lease).await;
        take_into_use(&stage, &process, how).await.unwrap_or_else(|error| panic!("{how:?}: {error}"));
        assert_eq!(claim(&process, &lease.id).await.state(), "ready", "{how:?}");
        let cleaned = cleanup(&stage, &stage.process()).await;
        assert_eq!(open(&stage), [lease.instance], "{how:?}: {cleaned:?}");
    }
}

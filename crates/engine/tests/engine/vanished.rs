//! Leases that went by other hands: what is left of them is looked for for a day, and then forgotten.

use crate::support::{Warm, leave, open, pass, stop, warm};
use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::Code;
use crabbox_vast_engine::lease::{InstanceId, LeaseId};
use crabbox_vast_engine::ops::{AcquireRequest, CleanupRequest};
use crabbox_vast_engine::store::StepKind;
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::json;
use std::time::Duration;

/// The journal of a lease is kept for a day, and no longer.
async fn goes_after_a_day(stage: &Stage, process: &Process, lease: &Warm, what: &str) {
    for (hours, is_there) in [(23, true), (2, false)] {
        pass(Duration::from_secs(hours * 3600)).await;
        process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up");
        let left = process.engine.store().journal(&lease.id).await.expect("readable");
        assert_eq!(left.is_some(), is_there, "{what}, {hours} h later: {left:?}");
    }
}

/// What another account, or another server, shows says nothing of a lease that is watched here.
#[tokio::test(start_paused = true)]
async fn a_lease_is_watched_whatever_other_accounts_and_servers_show() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    stop(&process.engine, "one", &stage.call()).await.expect("stops");
    let changed = process.engine.store().journal(&lease.id).await.expect("readable").expect("a journal");
    for (account, url, stays) in [
        (Some(1), changed.api_url.clone(), true),
        (changed.account, Some("https://elsewhere.example/api/v0".to_owned()), true),
        (changed.account, changed.api_url.clone(), false),
    ] {
        let what = format!("{account:?} at {url:?}");
        leave(&process, &lease, |journal| (journal.account, journal.api_url) = (account, url)).await;
        pass(Duration::from_secs(25 * 3600)).await;
        process.engine.list(false, &stage.call()).await.expect("lists");
        assert!(
            process.engine.store().journal(&lease.id).await.expect("readable").is_some(),
            "a list reads only"
        );
        process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up");
        let left = process.engine.store().journal(&lease.id).await.expect("readable");
        assert_eq!(left.is_some(), stays, "{what}");
    }
}

/// An acquire that died when the claim named its instance, and the journal did not yet: a stop ends it by the claim, and what
/// is left of the lease goes after a day, and not before.
#[tokio::test(start_paused = true)]
async fn a_create_that_was_answered_in_the_claim_alone_leaves_no_journal_for_ever() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let store = process.engine.store();
    let mut journal = store.journal(&lease.id).await.expect("readable").expect("a journal");
    let attempt = journal.attempts.last_mut().expect("one create");
    (attempt.instance, attempt.outcome) = (None, None);
    store.write_journal(&journal).await.expect("writes");
    stop(&process.engine, "one", &stage.call()).await.expect("stops");
    assert_eq!(open(&stage), Vec::<u64>::new());
    goes_after_a_day(&stage, &process, &lease, "killed between claim and journal").await;
}

/// Its claim and its machine went by other hands while its destroy was being asked for, however old it was: from then on it is
/// looked for.
#[tokio::test(start_paused = true)]
async fn a_destroy_that_nobody_can_finish_leaves_no_journal_for_ever() {
    for days in [0, 3] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        pass(Duration::from_secs(days * 24 * 3600)).await;
        let store = process.engine.store();
        let (now, instance) = (stage.unix_now(), InstanceId(lease.instance));
        leave(&process, &lease, |journal| journal.begin(StepKind::Destroy, instance, now)).await;
        let left = store.journal(&lease.id).await.expect("readable").expect("a journal");
        stop(&process.engine, "one", &stage.call()).await.expect("stops");
        store.write_journal(&left).await.expect("writes");
        goes_after_a_day(&stage, &process, &lease, &format!("{days} days old")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_acquire_whose_lease_was_taken_away_leaves_the_proof_that_its_machine_is_gone() {
    let stage = Stage::new();
    let (process, other) = (stage.process(), stage.process());
    let request = AcquireRequest { keep: true, slug: Some("one".into()), ..AcquireRequest::default() };
    let call = stage.call();
    let stopping = async {
        while open(&stage).is_empty() {
            pass(Duration::from_millis(10)).await;
        }
        pass(Duration::from_secs(10)).await;
        let instance = open(&stage)[0];
        stop(&other.engine, "one", &stage.call()).await.expect("stops");
        instance
    };
    let (acquired, instance) = tokio::join!(process.engine.acquire(&request, &call), stopping);
    assert_eq!(acquired.map(|_| ()).expect_err("taken away").code(), Code::ClaimMissing);
    let journal = process.engine.store().scan_journals().await.expect("readable").remove(0);
    let gone: Vec<u64> = journal.tombstones().map(|(gone, _)| gone.0).collect();
    assert_eq!(gone, [instance], "{journal:?}");
    assert!(journal.steps.iter().all(|step| !step.is_open()), "{journal:?}");
}

/// Many leases that crabbox gave back a day ago leave the time to the lease that is due.
#[tokio::test(start_paused = true)]
async fn many_old_journals_hold_no_cleanup_up() {
    let stage = Stage::new();
    let process = stage.process();
    let kept = warm(&stage, &process, "kept", true).await;
    let journal = process.engine.store().journal(&kept.id).await.expect("readable").expect("a journal");
    let gone: Vec<LeaseId> = (0..60).map(|number| LeaseId::from_entropy([9, 9, 9, 9, 9, number])).collect();
    for (number, id) in gone.iter().enumerate() {
        let mut journal = journal.clone();
        journal.lease = id.to_string();
        let attempt = journal.attempts.last_mut().expect("one create");
        attempt.instance = Some(90_000_000 + number as u64);
        journal.instance = attempt.instance;
        process.engine.store().write_journal(&journal).await.expect("written");
    }
    pass(Duration::from_secs(26 * 3600)).await;
    let due = warm(&stage, &process, "due", false).await;
    pass(Duration::from_secs(3 * 3600)).await;
    let began = tokio::time::Instant::now();
    let cleaned =
        stage.process().engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans");
    assert_eq!(open(&stage), [kept.instance], "{} is due: {cleaned:?}", due.instance);
    assert!(began.elapsed() < Duration::from_secs(310), "it took {:?}", began.elapsed());
    assert_eq!(cleaned.summary.failed, 0, "{cleaned:?}");
    // What there was no time for is done by the next ones.
    for _ in 0..6 {
        stage.process().engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up");
    }
    for id in gone {
        let left = process.engine.store().journal(&id).await.expect("readable");
        assert!(left.is_none(), "{left:?}");
    }
}

/// Reads that miss a machine which lives: who asks for its status is told what is known, and nothing that would destroy it.
#[tokio::test(start_paused = true)]
async fn what_reads_miss_is_not_called_destroyed() {
    for (total, code) in [(1, Code::ApiMalformed), (0, Code::InstanceGone)] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        let answer = |status, body: String| Effect::Answer {
            status,
            content_type: "application/json".into(),
            body,
            headers: Vec::new(),
        };
        let unknown = r#"{"success":false,"error":"no_such_instance","msg":"no_such_instance"}"#;
        let listed =
            format!(r#"{{"success":true,"instances":[],"instances_found":0,"total_instances":{total}}}"#);
        let one = format!("/api/v0/instances/{}/", lease.instance);
        stage.vast(|vast, _| {
            vast.add_fault(Fault::once("GET", &one, answer(404, unknown.into())).times(None));
            vast.add_fault(Fault::once("GET", "/api/v1/instances/", answer(200, listed)).times(None));
        });
        let error = process.engine.status("one", &stage.call()).await.expect_err("it is not to be seen");
        assert_eq!(error.code(), code, "{error}");
        let hint = error.hint_text().unwrap_or_default();
        assert!(!hint.contains("stop"), "{hint}");
        // What is told is harmless, as it says.
        stage.control("DELETE", "/_sim/faults", &json!({}));
        process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up");
        assert_eq!(open(&stage), [lease.instance]);
    }
}

//! What a user asks to become of a lease outlives the process that was asked.

use crate::support::{claim, journal_of, leave, open, run_on, stop, strangers, warm};
use crate::virtual_time::Stage;
use crabbox_vast_engine::Code;
use crabbox_vast_engine::lease::{InstanceId, ReleaseAction};
use crabbox_vast_engine::ops::{CleanupRequest, ReleaseRequest};
use crabbox_vast_engine::store::StepKind;
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// SIGKILL at every step of a release: once the API was asked anything, the next cleanup brings it to its end.
#[tokio::test(start_paused = true)]
async fn a_release_that_dies_after_its_first_call_is_finished_by_a_cleanup() {
    for action in [ReleaseAction::Destroy, ReleaseAction::Stop] {
        let request = |slug: &str| ReleaseRequest { identifier: slug.to_owned(), action: Some(action) };
        let clean = Stage::new();
        let process = clean.process();
        warm(&clean, &process, "one", true).await;
        let before = process.steps.load(Ordering::SeqCst);
        process.engine.release(&request("one"), &clean.call()).await.expect("a clean release");
        let steps = process.steps.load(Ordering::SeqCst) - before;
        let mut begun = 0;
        for kill_at in 1..=steps {
            let what = format!("{action:?} killed at step {kill_at} of {steps}");
            let stage = Stage::new();
            strangers(&stage);
            let lease = warm(&stage, &stage.process(), "one", true).await;
            let calls = || stage.calls.lock().expect("not poisoned").len();
            let asked_before = calls();
            let process = stage.process_with(Some(kill_at), |_| ());
            assert!(process.live(process.engine.release(&request("one"), &stage.call())).await.is_none());
            drop(process);
            if calls() == asked_before {
                // Nothing was asked of anybody.
                continue;
            }
            begun += 1;
            let everything = CleanupRequest::default();
            stage.process().engine.cleanup(&everything, &stage.call()).await.expect(&what);
            let left = stage.ledger().open.iter().any(|one| one.id == lease.instance);
            assert_eq!(left, action == ReleaseAction::Stop, "{what}");
            if action == ReleaseAction::Stop {
                let claim = claim(&stage.process(), &lease.id).await;
                assert_eq!(claim.state(), "stopped", "{what}");
            }
            assert_eq!(open(&stage).len(), 2 + usize::from(left), "{what}");
        }
        assert!(begun > 6, "{action:?}: {begun} of {steps} steps");
    }
}

/// A release that is refused, or called off by its user, has asked for nothing: the records are as they were.
#[tokio::test(start_paused = true)]
async fn a_release_that_is_refused_or_cancelled_leaves_no_wish() {
    for (recorded, cancelled) in [(true, false), (false, false), (true, true)] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        let store = process.engine.store();
        if !recorded {
            // As of a lease that crabbox made.
            store.remove_journal(&lease.id).await.expect("removed");
        }
        let before = store.journal(&lease.id).await.expect("readable");
        let error = if cancelled {
            let locked = Effect::Answer {
                status: 403,
                content_type: "text/plain".into(),
                body: String::new(),
                headers: Vec::new(),
            };
            stage.vast(|vast, _| vast.add_fault(Fault::once("GET", "/api/*", locked).times(None)));
            let cancel = CancellationToken::new();
            let call = stage.call_with(cancel.clone());
            let (outcome, ()) = tokio::join!(stop(&process.engine, "one", &call), async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                cancel.cancel();
            });
            outcome.expect_err("cancelled")
        } else {
            let label = json!({"label": "cbx1|cbx_aaaaaaaaaaaa|other|ready"});
            stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &label);
            stop(&process.engine, "one", &stage.call()).await.expect_err("relabelled")
        };
        let expected = if cancelled { Code::Cancelled } else { Code::IdentityMismatch };
        assert_eq!(error.code(), expected, "{error}");
        assert_eq!(store.journal(&lease.id).await.expect("readable"), before);
        assert_eq!(open(&stage), [lease.instance]);
    }
}

/// One that a release before it had begun stays asked for, whatever is refused later.
#[tokio::test(start_paused = true)]
async fn a_refused_release_takes_no_earlier_wish_back() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let (now, instance) = (stage.unix_now(), InstanceId(lease.instance));
    leave(&process, &lease, |journal| journal.begin(StepKind::Destroy, instance, now)).await;
    let label = json!({"label": "cbx1|cbx_aaaaaaaaaaaa|other|ready"});
    stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &label);
    let error = stop(&process.engine, "one", &stage.call()).await.expect_err("relabelled");
    assert_eq!(error.code(), Code::IdentityMismatch, "{error}");
    assert!(journal_of(&process, &lease.id).await.is_open(StepKind::Destroy, instance));
}

/// The API could not be asked: what was wished for is done by the next cleanup, unless the lease is used again before.
#[tokio::test(start_paused = true)]
async fn a_release_that_could_not_ask_is_done_later_unless_the_lease_is_used() {
    for used in [false, true] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        stage.vast(|vast, _| vast.add_fault(Fault::once("GET", "/api/*", Effect::Html(502)).times(None)));
        stop(&process.engine, "one", &stage.call()).await.expect_err("nobody answers");
        stage.control("DELETE", "/_sim/faults", &json!({}));
        if used {
            run_on(&process.engine, Some("one"), false, &stage.call()).await.expect("it runs");
        }
        let everything = CleanupRequest::default();
        stage.process().engine.cleanup(&everything, &stage.call()).await.expect("cleans");
        let left = if used { vec![lease.instance] } else { vec![] };
        assert_eq!(open(&stage), left, "used: {used}");
    }
}

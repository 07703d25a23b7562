//! What a user asks to become of a lease outlives the process that was asked.

use crate::support::{claim, journal_of, leave, open, pass, run, run_on, stop, strangers, warm, warnings};
use crate::virtual_time::Stage;
use crabbox_vast_engine::Code;
use crabbox_vast_engine::lease::{InstanceId, ReleaseAction};
use crabbox_vast_engine::ops::{AcquireRequest, CleanupRequest, ReleaseOutcome, ReleaseRequest};
use crabbox_vast_engine::store::StepKind;
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::{Value, json};
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
    for (what, code) in [
        ("relabelled", Code::IdentityMismatch),
        ("relabelled, of crabbox", Code::IdentityMismatch),
        ("cancelled while it is locked out", Code::Cancelled),
        ("cancelled while nobody answers", Code::Cancelled),
        ("another API, where nobody answers", Code::ApiUnavailable),
        ("cancelled while it may be too new, of crabbox", Code::Cancelled),
    ] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        let store = process.engine.store();
        if what.ends_with("of crabbox") {
            store.remove_journal(&lease.id).await.expect("removed");
        }
        let before = store.journal(&lease.id).await.expect("readable");
        let answer = |status, body: &str| Effect::Answer {
            status,
            content_type: "application/json".into(),
            body: body.into(),
            headers: Vec::new(),
        };
        let cancel = CancellationToken::new();
        let refuses = match what {
            "cancelled while it is locked out" => Some(answer(403, "")),
            "cancelled while nobody answers" | "another API, where nobody answers" => Some(Effect::Html(502)),
            _ => None,
        };
        let too_new = what.contains("too new");
        if too_new {
            stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &json!({"hidden": true}));
            let unknown =
                answer(404, r#"{"success":false,"error":"no_such_instance","msg":"no_such_instance"}"#);
            let path = format!("/api/v0/instances/{}/", lease.instance);
            stage.vast(|vast, _| vast.add_fault(Fault::once("GET", &path, unknown).times(None)));
        }
        if let Some(effect) = refuses {
            stage.vast(|vast, _| vast.add_fault(Fault::once("GET", "/api/*", effect).times(None)));
        } else if what.starts_with("relabelled") {
            let label = json!({"label": "cbx1|cbx_aaaaaaaaaaaa|other|ready"});
            stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &label);
        }
        let process = stage.process_with(None, |settings| {
            if what.starts_with("another API") {
                settings.api_url = "http://127.0.0.1:10/api/v0".into();
            }
        });
        let call = stage.call_with(cancel.clone());
        // A stop is to leave the disk.
        let action = too_new.then_some(ReleaseAction::Stop);
        let request = ReleaseRequest { identifier: "one".to_owned(), action };
        let (outcome, ()) = tokio::join!(process.engine.release(&request, &call), async {
            tokio::time::sleep(Duration::from_secs(if too_new { 5 } else { 1 })).await;
            if what.starts_with("cancelled") {
                cancel.cancel();
            }
        });
        let error = outcome.expect_err(what);
        assert_eq!(error.code(), code, "{what}: {error}");
        if code == Code::Cancelled && !too_new {
            assert!(error.hint_text().is_some_and(|hint| hint.contains("stop one")), "{what}: {error:?}");
        }
        assert_eq!(store.journal(&lease.id).await.expect("readable"), before, "{what}");
        assert_eq!(open(&stage), [lease.instance], "{what}");
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
    for (used, effect) in [(false, Effect::Html(502)), (true, Effect::Html(502)), (false, bad_key())] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        stage.vast(|vast, _| vast.add_fault(Fault::once("GET", "/api/*", effect).times(None)));
        let asked = stage.unix_now();
        let error = stop(&process.engine, "one", &stage.call()).await.expect_err("it is not let through");
        assert_eq!(error.details()["ending"], "destroy", "{error}");
        // A use since then speaks against it, however long it was tried.
        let step = journal_of(&process, &lease.id).await.steps.pop().expect("a wish");
        assert!((asked..=asked + 1).contains(&step.requested_at), "{asked}: {step:?}");
        stage.control("DELETE", "/_sim/faults", &json!({}));
        shows(&stage, Some(StepKind::Destroy)).await;
        if used {
            run_on(&process.engine, Some("one"), false, &stage.call()).await.expect("it runs");
            shows(&stage, None).await;
        }
        let everything = CleanupRequest::default();
        stage.process().engine.cleanup(&everything, &stage.call()).await.expect("cleans");
        let left = if used { vec![lease.instance] } else { vec![] };
        assert_eq!(open(&stage), left, "used: {used}");
    }
}

/// As a revoked key is answered.
fn bad_key() -> Effect {
    Effect::Answer {
        status: 404,
        content_type: "application/json".into(),
        body: r#"{"success":false,"error":"auth_error","msg":"Invalid user key"}"#.into(),
        headers: Vec::new(),
    }
}

/// Who works on a lease keeps its journal to himself: what is asked for meanwhile, and fails, is on record once that process
/// is done with it.
#[tokio::test(start_paused = true)]
async fn a_release_that_fails_beside_a_living_process_is_done_later() {
    for (held, left) in [(Duration::from_secs(2), 0), (Duration::from_secs(600), 1)] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        let lock = process.engine.store().operation_lock(&lease.id).await.expect("a folder").expect("free");
        let path = format!("/api/v0/instances/{}/", lease.instance);
        stage.vast(|vast, _| vast.add_fault(Fault::once("DELETE", &path, bad_key()).times(None)));
        let other = stage.process();
        let works = async {
            pass(held).await;
            drop(lock);
        };
        let call = stage.call();
        let stopped = async { stop(&other.engine, "one", &call).await.expect_err("the key is refused") };
        let (error, ()) = tokio::join!(stopped, works);
        assert_eq!(error.code(), Code::AuthFailed, "{error}");
        let ending = error.details().get("ending").and_then(Value::as_str);
        assert_eq!(ending, (left == 0).then_some("destroy"), "{held:?}");
        let unended =
            error.hint_text().is_some_and(|hint| hint.contains("nothing on record ends it: run `stop one`"));
        assert_eq!(unended, left == 1, "{error:?}");
        stage.control("DELETE", "/_sim/faults", &json!({}));
        let everything = CleanupRequest::default();
        stage.process().engine.cleanup(&everything, &stage.call()).await.expect("cleans");
        assert_eq!(open(&stage).len(), left, "{held:?}");
    }
}

/// Who gives up a stop whose destroy was sent is told so, and that the next command ends the lease all the same.
#[tokio::test(start_paused = true)]
async fn a_stop_that_was_given_up_behind_its_destroy_says_what_becomes_of_it() {
    for (method, action) in [("DELETE", ReleaseAction::Destroy), ("PUT", ReleaseAction::Stop)] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        let path = format!("/api/v0/instances/{}/", lease.instance);
        stage.vast(|vast, _| vast.add_fault(Fault::once(method, &path, Effect::Stall).times(None)));
        let cancel = CancellationToken::new();
        let call = stage.call_with(cancel.clone());
        let request = ReleaseRequest { identifier: "one".to_owned(), action: Some(action) };
        let (outcome, ()) = tokio::join!(process.engine.release(&request, &call), async {
            pass(Duration::from_secs(3)).await;
            cancel.cancel();
        });
        let error = outcome.expect_err("nobody answers");
        assert_eq!(error.code(), Code::Cancelled, "{action:?}: {error}");
        assert!(error.to_string().contains("before the answer came"), "{error}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("is on record")), "{error:?}");
        stage.control("DELETE", "/_sim/faults", &json!({}));
        stage.process().engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans");
        // A stop shows in what is asked for at once, and in what the container does later.
        pass(Duration::from_secs(60)).await;
        let ledger = stage.ledger();
        let running =
            ledger.open.iter().filter(|one| one.actual_status.as_deref() == Some("running")).count();
        assert_eq!(running, 0, "{action:?}");
    }
}

/// What status and list say of the end that is to come.
async fn shows(stage: &Stage, ending: Option<StepKind>) {
    let process = stage.process();
    let status = process.engine.status("one", &stage.call()).await.expect("it is there");
    assert_eq!(status.ending, ending);
    assert_eq!(status.to_json().get("ending").and_then(Value::as_str), ending.map(StepKind::name));
    assert_eq!(status.advice.is_some_and(|advice| advice.contains("is to be destroyed")), ending.is_some());
    let listed = process.engine.list(false, &stage.call()).await.expect("it is listed");
    assert_eq!(listed[0].ending, ending);
    assert_eq!(listed[0].to_json().get("ending").and_then(Value::as_str), ending.map(StepKind::name));
    assert_eq!(listed[0].line().ends_with(" ending=destroy"), ending.is_some(), "{}", listed[0].line());
}

/// What stands still need not be stopped any more, and is still to be destroyed.
#[tokio::test(start_paused = true)]
async fn what_is_to_become_of_a_stopped_machine_is_told() {
    for (end, told) in [(StepKind::Destroy, Some(StepKind::Destroy)), (StepKind::Stop, None)] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        let request = ReleaseRequest { identifier: "one".into(), action: Some(ReleaseAction::Stop) };
        process.engine.release(&request, &stage.call()).await.expect("stopped");
        pass(Duration::from_secs(60)).await;
        let now = stage.unix_now();
        leave(&process, &lease, |journal| journal.wish(Some(end), InstanceId(lease.instance), now)).await;
        let status = stage.process().engine.status("one", &stage.call()).await.expect("it is there");
        assert_eq!(status.ending, told);
    }
}

/// The last word counts: who could not get through with a stop, and then asks for something else, gets that.
#[tokio::test(start_paused = true)]
async fn a_later_wish_replaces_an_earlier_one() {
    for then in ["stopped", "kept", "kept while nobody answers", "touched"] {
        for first in [ReleaseAction::Destroy, ReleaseAction::Stop] {
            let what = format!("{first:?}, then {then}");
            let stage = Stage::new();
            let process = stage.process();
            let lease = warm(&stage, &process, "one", true).await;
            let silent = || Fault::once("GET", "/api/*", Effect::Html(502)).times(None);
            stage.vast(|vast, _| vast.add_fault(silent()));
            let ask = async |action| {
                let request = ReleaseRequest { identifier: "one".into(), action: Some(action) };
                process.engine.release(&request, &stage.call()).await.map(|released| released.outcome)
            };
            ask(first).await.expect_err("nobody answers");
            assert!(warnings(&stage).iter().any(|told| told.contains("is on record")), "{what}");
            if then != "kept while nobody answers" {
                stage.control("DELETE", "/_sim/faults", &json!({}));
            }
            match then {
                "stopped" => {
                    assert_eq!(ask(ReleaseAction::Stop).await.expect(&what), ReleaseOutcome::Stopped)
                }
                "kept" => assert_eq!(ask(ReleaseAction::Keep).await.expect(&what), ReleaseOutcome::Kept),
                "touched" => {
                    process.engine.touch("one", None, &stage.call()).await.expect(&what);
                }
                _ => {
                    ask(ReleaseAction::Keep).await.expect_err("nobody answers");
                    stage.control("DELETE", "/_sim/faults", &json!({}));
                }
            }
            // Longer than a heartbeat, so that no recent use spares it.
            tokio::time::sleep(Duration::from_secs(420)).await;
            let everything = CleanupRequest::default();
            let cleaned = stage.process().engine.cleanup(&everything, &stage.call()).await.expect(&what);
            assert_eq!((cleaned.summary.destroyed, cleaned.summary.stopped), (0, 0), "{what}: {cleaned:?}");
            assert_eq!(open(&stage), [lease.instance], "{what}");
        }
    }
}

/// The lock was another's when the stop was asked for, so that it could not be written down: it is the last word all the same.
#[tokio::test(start_paused = true)]
async fn a_stop_that_could_not_be_written_down_takes_an_earlier_wish_back() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let (now, instance) = (stage.unix_now(), InstanceId(lease.instance));
    leave(&process, &lease, |journal| journal.wish(Some(StepKind::Destroy), instance, now)).await;
    let held = process.engine.store().operation_lock(&lease.id).await.expect("a lock").expect("free");
    stage.vast(|vast, _| {
        let slow = Effect::Delay(Duration::from_secs(5));
        vast.add_fault(Fault::once("GET", "/api/v0/users/current/", slow));
    });
    let request = ReleaseRequest { identifier: "one".into(), action: Some(ReleaseAction::Stop) };
    let call = stage.call();
    let (outcome, ()) = tokio::join!(process.engine.release(&request, &call), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(held);
    });
    assert_eq!(outcome.expect("it stops").outcome, ReleaseOutcome::Stopped);
    let everything = CleanupRequest::default();
    stage.process().engine.cleanup(&everything, &stage.call()).await.expect("cleans");
    assert_eq!(open(&stage), [lease.instance], "its disk stays");
}

/// A run whose release could not get through: what is told to call its end off does so, for good.
#[tokio::test(start_paused = true)]
async fn what_a_run_could_not_give_back_is_kept_by_what_it_tells() {
    for keeps in [false, true] {
        let stage = Stage::new();
        let process = stage.process();
        // Nobody answers about the account any more once the machine is rented.
        let mut silent = Fault::once("GET", "/api/v0/users/current/", Effect::Html(502)).times(None);
        silent.nth = 2;
        stage.vast(|vast, _| vast.add_fault(silent));
        let error =
            run(&process.engine, &stage.call()).await.map(|_| ()).expect_err("it cannot be given back");
        assert_eq!((error.code(), open(&stage).len()), (Code::CleanupFailed, 1), "{error}");
        let lease = stage.claims().remove(0);
        if keeps {
            // Said while nobody answers yet.
            let keep = ReleaseRequest { identifier: lease, action: Some(ReleaseAction::Keep) };
            process.engine.release(&keep, &stage.call()).await.expect_err("nobody answers");
        }
        stage.control("DELETE", "/_sim/faults", &json!({}));
        let everything = CleanupRequest::default();
        stage.process().engine.cleanup(&everything, &stage.call()).await.expect("cleans");
        assert_eq!(open(&stage).len(), usize::from(keeps), "keeps: {keeps}");
    }
}

/// The same acquire again, after its release could not get through: its machine is ended, and the id is spent.
#[tokio::test(start_paused = true)]
async fn a_repeated_acquire_ends_what_was_to_be_given_back() {
    let stage = Stage::new();
    let process = stage.process();
    let request =
        AcquireRequest { keep: true, slug: Some("one".into()), lease_id: Some("cbx_0123456789ab".into()) };
    process.engine.acquire(&request, &stage.call()).await.expect("acquires").close().await;
    stage.vast(|vast, _| vast.add_fault(Fault::once("GET", "/api/*", Effect::Html(502)).times(None)));
    stop(&process.engine, "one", &stage.call()).await.expect_err("nobody answers");
    stage.control("DELETE", "/_sim/faults", &json!({}));
    let again = stage.process().engine.acquire(&request, &stage.call()).await.map(|_| ());
    assert_eq!(again.map_err(|error| error.code()), Err(Code::LeaseReleased));
    assert_eq!((open(&stage), stage.claims()), (vec![], vec![]));
}

/// What was sent is no mere wish any more: a touch does not call it off, for it may have had its effect.
#[tokio::test(start_paused = true)]
async fn a_stop_that_was_sent_is_not_called_off_by_a_touch() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let (now, instance) = (stage.unix_now(), InstanceId(lease.instance));
    for (sent, left) in [(true, true), (false, false)] {
        leave(&process, &lease, |journal| {
            journal.steps.clear();
            journal.wish(Some(StepKind::Stop), instance, now);
            if sent {
                journal.begin(StepKind::Stop, instance, now);
            }
        })
        .await;
        process.engine.touch("one", None, &stage.call()).await.expect("it is in use");
        assert_eq!(
            journal_of(&process, &lease.id).await.is_open(StepKind::Stop, instance),
            left,
            "sent: {sent}"
        );
    }
}

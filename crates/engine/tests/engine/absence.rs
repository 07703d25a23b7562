//! That an instance is gone is a proof: what an API that has lost its way answers is none.

use crate::support::{edit, journal_of, open, pass, rented_elsewhere, run, stop, warm};
use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::Code;
use crabbox_vast_engine::lease::InstanceId;
use crabbox_vast_engine::ops::cleanup::ItemOutcome;
use crabbox_vast_engine::ops::{AcquireRequest, Cleaned, CleanupRequest, ReleaseOutcome};
use crabbox_vast_engine::store::StepKind;
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub fn answer(status: u16, body: &Value) -> Effect {
    Effect::Answer {
        status,
        content_type: "application/json".into(),
        body: body.to_string(),
        headers: Vec::new(),
    }
}

pub const GIVEN: &str = "cbx_0123456789ab";

pub async fn cleanup(stage: &Stage, process: &Process, dry_run: bool) -> Cleaned {
    process.engine.cleanup(&CleanupRequest { dry_run }, &stage.call()).await.expect("cleans up")
}

/// Loses the answers of the next creates, none of which is carried out.
pub fn lose_creates(stage: &Stage, many: u64) {
    let fault = Fault::once("PUT", "/api/v0/asks/*/", Effect::Reset).times(Some(many));
    stage.vast(|vast, _| vast.add_fault(fault));
}

/// The calls of a release from its first destroy on.
fn from_the_destroy(stage: &Stage) -> Vec<String> {
    let calls = stage.calls.lock().expect("not poisoned").clone();
    calls.into_iter().skip_while(|call| !call.starts_with("DELETE")).collect()
}

#[tokio::test(start_paused = true)]
async fn absence_after_an_accepted_destroy_counts_once_the_account_answers_after_it() {
    let stage = Stage::new();
    let process = stage.process();
    warm(&stage, &process, "one", true).await;
    stop(&process.engine, "one", &stage.call()).await.expect("stops");
    let calls = from_the_destroy(&stage);
    assert!(calls.len() >= 3, "{calls:?}");
    assert_eq!(calls.last().map(String::as_str), Some("GET /api/v0/users/current/"), "{calls:?}");
    assert_eq!(calls.iter().filter(|call| call.contains("users/current")).count(), 1, "{calls:?}");
}

/// The destroy is accepted and nothing happens; every read says "no such instance", and the account is refused.
#[tokio::test(start_paused = true)]
async fn a_key_that_works_no_more_proves_nothing_gone() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let done = Fault::once("DELETE", "/api/v0/instances/*/", answer(200, &json!({"success": true})));
    let blind = Fault::once("GET", "/api/v0/instances/*/", answer(200, &json!({"instances": null})));
    let empty = json!({"success": true, "instances": [], "total_instances": 0, "next_token": null});
    let list = Fault::once("GET", "/api/v1/instances/", answer(200, &empty));
    let refused = json!({"success": false, "error": "auth_error", "msg": "Invalid user key"});
    let mut account = Fault::once("GET", "/api/v0/users/current/", answer(404, &refused));
    // The first one opens the release.
    account.nth = 2;
    stage.vast(|vast, _| {
        for mut fault in [done, blind, list] {
            let single = fault.path.contains("v0/instances") && fault.method.as_deref() == Some("GET");
            fault.nth = if single { 2 } else { 1 };
            vast.add_fault(fault.times(None));
        }
        vast.add_fault(account.times(None));
    });
    let error = stop(&process.engine, "one", &stage.call()).await.expect_err("nothing is proved");
    assert!(matches!(error.code(), Code::ReleaseUnproved | Code::AuthFailed), "{error}");
    assert_eq!((open(&stage), stage.claims().len()), (vec![lease.instance], 1));
}

/// A destroy is accepted, and its record shows for a while: a list that is not whole and does not have it proves nothing.
#[tokio::test(start_paused = true)]
async fn a_list_that_is_not_whole_proves_no_end() {
    let lingers = Duration::from_secs(20);
    let stage = Stage::with(|settings| settings.destroy_linger = lingers);
    let process = stage.process();
    warm(&stage, &process, "one", true).await;
    let short = json!({"success": true, "instances": [], "total_instances": 1, "next_token": null});
    let short = Fault::once("GET", "/api/v1/instances/", answer(200, &short));
    stage.vast(|vast, _| vast.add_fault(short.times(None)));
    let began = tokio::time::Instant::now();
    let released = stop(&process.engine, "one", &stage.call()).await.expect("proved by the single read");
    assert_eq!(released.outcome, ReleaseOutcome::Destroyed);
    assert!(began.elapsed() >= lingers, "{:?}", began.elapsed());
    assert_eq!(stage.vast(|vast, _| vast.idle_faults()), 0, "no list was read");
}

/// Reads that fail after a destroy are repeated while that may pass; a key that is refused ends the wait at once.
#[tokio::test(start_paused = true)]
async fn reads_after_a_destroy_are_repeated_where_that_may_help() {
    let refused = answer(404, &json!({"success": false, "error": "auth_error", "msg": "Invalid user key"}));
    let locked_out = answer(403, &json!({}));
    for (effect, passes, all) in [
        (Effect::Html(502), true, true),
        (refused.clone(), false, true),
        // Of the account alone, which is read once the machine is not to be seen any more.
        (Effect::Html(502), true, false),
        (locked_out, true, false),
        (refused, false, false),
    ] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        // Until the destroy is answered all is well.
        let mut account = Fault::once("GET", "/api/v0/users/current/", effect.clone());
        let mut single = Fault::once("GET", "/api/v0/instances/*/", effect.clone());
        (account.nth, single.nth) = (2, 2);
        let list = Fault::once("GET", "/api/v1/instances/", effect);
        let faults = if all { vec![account, single, list] } else { vec![account] };
        stage.vast(|vast, _| faults.into_iter().for_each(|fault| vast.add_fault(fault.times(None))));
        let began = tokio::time::Instant::now();
        let call = stage.call();
        let (released, ()) = tokio::join!(stop(&process.engine, "one", &call), async {
            if passes {
                pass(Duration::from_secs(60)).await;
                stage.control("DELETE", "/_sim/faults", &json!({}));
            }
        });
        if passes {
            assert_eq!(released.expect("proved in the end").outcome, ReleaseOutcome::Destroyed);
            assert!(began.elapsed() >= Duration::from_secs(60), "{:?}", began.elapsed());
        } else {
            let error = released.expect_err("nothing is proved");
            assert!(began.elapsed() < Duration::from_secs(30), "{:?}: {error}", began.elapsed());
            assert_eq!(stage.claims(), [lease.id.to_string()], "{error}");
        }
    }
}

/// `{}` to a destroy that did nothing: the instance is still there, and the claim with it.
#[tokio::test(start_paused = true)]
async fn a_destroy_that_is_not_said_to_be_accepted_is_proved_by_reading() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    // Carried out, and answered with nothing.
    let unsaid = Fault::once("DELETE", "/api/v0/instances/*/", answer(200, &json!({}))).after_commit();
    stage.vast(|vast, _| vast.add_fault(unsaid.times(None)));
    let began = tokio::time::Instant::now();
    let single = format!("GET /api/v0/instances/{}/", lease.instance);
    let call = stage.call();
    let mut looks = Vec::new();
    let mut look = || {
        let seen = from_the_destroy(&stage).into_iter().filter(|call| *call == single).count();
        looks.resize_with(seen, || began.elapsed());
    };
    let released = tokio::select! {
        biased;
        released = stop(&process.engine, "one", &call) => released.expect("proved"),
        () = async {
            loop {
                look();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        } => unreachable!("it never ends"),
    };
    look();
    assert_eq!(released.outcome, ReleaseOutcome::Destroyed);
    assert!(looks.len() == 2 && looks[0] < Duration::from_secs(10), "{looks:?}");
    assert!(looks[1] - looks[0] >= Duration::from_secs(9), "two looks, ten seconds apart: {looks:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!((open(&stage).len(), stage.claims().len()), (0, 0));

    let stage = Stage::new();
    let process = stage.process();
    let other = warm(&stage, &process, "two", true).await;
    let unsaid = Fault::once("DELETE", "/api/v0/instances/*/", answer(200, &json!({}))).times(None);
    stage.vast(|vast, _| vast.add_fault(unsaid));
    // One read in which the record is missing for a moment is no proof after an answer that says nothing.
    let blind = Fault::once(
        "GET",
        "/api/v1/instances/",
        answer(
            200,
            &json!({
        "success": true, "instances": [], "total_instances": 0, "next_token": null}),
        ),
    );
    stage.vast(|vast, _| vast.add_fault(blind));
    let error = stop(&process.engine, "two", &stage.call()).await.expect_err("it is there");
    assert!(error.retryable(), "{error}");
    assert_eq!((open(&stage), stage.claims().len()), (vec![other.instance], 1));
    assert_ne!(lease.instance, 0);
}

/// A server that refuses to look for one machine is asked for all of them.
#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_filtered_is_read_whole() {
    let stage = Stage::new();
    let process = stage.process();
    warm(&stage, &process, "one", true).await;
    let refused = json!({"success": false, "error": "refused", "msg": "no such filter"});
    let refused = Fault::once("GET", "/api/v1/instances/", answer(400, &refused));
    stage.vast(|vast, _| vast.add_fault(refused));
    let released = stop(&process.engine, "one", &stage.call()).await.expect("proved by the whole list");
    assert_eq!((released.outcome, open(&stage).len()), (ReleaseOutcome::Destroyed, 0));
    assert_eq!(stage.vast(|vast, _| vast.idle_faults()), 0, "it was refused");
}

/// Leases of dead processes whose destroys stall: together they hold up nobody for longer than one limit.
#[tokio::test(start_paused = true)]
async fn dead_leases_whose_destroys_stall_hold_up_a_command_for_one_limit_only() {
    let stage = Stage::with(|settings| settings.rate_limits = false);
    let (one, two, three) = (stage.process(), stage.process(), stage.process());
    let call = stage.call();
    // On the heap: three runs side by side are more than a test's stack holds.
    let [one, two, three] = [&one, &two, &three].map(|process| Box::pin(run(&process.engine, &call)));
    let dying = Box::pin(async { tokio::join!(one, two, three) });
    let dead = tokio::time::timeout(Duration::from_secs(27), dying).await;
    assert!(dead.is_err(), "they die while their machines start");
    assert!(open(&stage).len() > 1, "{:?}", open(&stage));
    pass(Duration::from_secs(120)).await;
    let fresh = Stage::with(|settings| settings.rate_limits = false);
    let began = tokio::time::Instant::now();
    Box::pin(warm(&fresh, &fresh.process(), "kept", true)).await;
    let usual = began.elapsed();
    let stall = Fault::once("DELETE", "/api/v0/instances/*/", Effect::Stall).times(None);
    stage.vast(|vast, _| vast.add_fault(stall));
    let process = stage.process();
    let began = tokio::time::Instant::now();
    let kept = Box::pin(warm(&stage, &process, "kept", true)).await;
    let took = began.elapsed();
    assert!(took < usual + Duration::from_secs(33), "{took:?}, usually {usual:?}");
    assert!(open(&stage).contains(&kept.instance));
}

#[tokio::test(start_paused = true)]
async fn a_recorded_surplus_is_finished_before_its_lease_is_forgotten() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let surplus = InstanceId(rented_elsewhere(&stage, &format!("cbx1|{}|one|ready", lease.id)));
    let mut journal = journal_of(&process, &lease.id).await;
    journal.begin(StepKind::Destroy, surplus, stage.unix_now());
    journal.begin(StepKind::Destroy, InstanceId(lease.instance), stage.unix_now());
    process.engine.store().write_journal(&journal).await.unwrap();
    // Its destroy is refused: then the claim stays, and the next one goes on.
    let path = format!("/api/v0/instances/{surplus}/");
    let refusal = answer(401, &json!({"success": false, "error": "auth_error", "msg": "Invalid user key"}));
    stage.vast(|vast, _| vast.add_fault(Fault::once("DELETE", &path, refusal).times(Some(2))));
    assert_eq!(cleanup(&stage, &process, false).await.summary.failed, 1);
    assert_eq!((open(&stage), stage.claims().len()), (vec![surplus.0], 1));
    let cleaned = cleanup(&stage, &process, false).await;
    assert_eq!(open(&stage), Vec::<u64>::new(), "{cleaned:?}");
    // A step that was never proved keeps its journal for a day, and until everything shows that there is nothing to end.
    let mut journal = journal_of(&process, &lease.id).await;
    journal.begin(StepKind::Destroy, InstanceId(999_999), stage.unix_now());
    process.engine.store().write_journal(&journal).await.unwrap();
    pass(Duration::from_secs(23 * 3600)).await;
    cleanup(&stage, &process, false).await;
    assert!(journal_of(&process, &lease.id).await.leads_on());
    pass(Duration::from_secs(2 * 3600)).await;
    let blind = Fault::once("GET", "/api/v0/instances/999999/", answer(403, &json!({"success": false})));
    stage.vast(|vast, _| vast.add_fault(blind.times(None)));
    cleanup(&stage, &process, false).await;
    assert!(journal_of(&process, &lease.id).await.leads_on());
    stage.control("DELETE", "/_sim/faults", &json!({}));
    cleanup(&stage, &process, false).await;
    assert_eq!(process.engine.store().journal(&lease.id).await.unwrap(), None);
}

/// A claim that names nothing any more because its machine was given up and destroyed: that is no "never created".
#[tokio::test(start_paused = true)]
async fn what_was_rented_and_destroyed_is_not_called_never_created() {
    for by in ["stop", "cleanup"] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", false).await;
        let instance = InstanceId(lease.instance);
        let mut journal = journal_of(&process, &lease.id).await;
        journal.discard("boot_timeout");
        journal.begin(StepKind::Destroy, instance, stage.unix_now());
        journal.proved(StepKind::Destroy, instance, stage.unix_now());
        process.engine.store().write_journal(&journal).await.unwrap();
        process.engine.client().destroy_if(instance, || async { Ok(()) }).await.unwrap();
        edit(&process, &lease.id, |claim| {
            claim.cloud_id.clear();
            claim.labels.insert("state".into(), "ambiguous-create".into());
            claim.labels.insert("recovery".into(), "ambiguous-create".into());
        })
        .await;
        if by == "stop" {
            let released = stop(&process.engine, "one", &stage.call()).await.expect("stops");
            assert_eq!((released.outcome, released.instance), (ReleaseOutcome::AlreadyGone, Some(instance)));
        } else {
            let cleaned = cleanup(&stage, &process, false).await;
            assert_eq!(cleaned.items[0].outcome, ItemOutcome::AlreadyGone, "{cleaned:?}");
        }
        assert_eq!(stage.claims().len(), 0);
        assert_eq!(journal_of(&process, &lease.id).await.tombstones().count(), 1, "{by}");
    }
}

/// A record that lingers after its destroy says nothing against the lease's own machine.
#[tokio::test(start_paused = true)]
async fn an_unloaded_record_under_the_same_label_hinders_nobody() {
    let stage = Stage::new();
    let process = stage.process();
    // A label under which others may rent, too.
    let (slug, lease_id) = (Some("one".to_owned()), Some(GIVEN.to_owned()));
    let request = AcquireRequest { keep: true, slug, lease_id };
    process.engine.acquire(&request, &stage.call()).await.expect("a lease").close().await;
    let body = json!({"label": format!("cbx1|{GIVEN}|one|ready"), "cur_state": "unloaded"});
    let lingering = stage.control("POST", "/_sim/instances", &body)["id"].as_u64().expect("an id");
    process.engine.status("one", &stage.call()).await.expect("it is usable");
    stage.control("POST", &format!("/_sim/instances/{lingering}"), &json!({"cur_state": "running"}));
    let error = process.engine.status("one", &stage.call()).await.map(|_| ()).expect_err("an impostor");
    assert_eq!(error.code(), Code::IdentityMismatch);
}

/// Waiting for a create to show changes nothing, so it can be given up at once.
#[tokio::test(start_paused = true)]
async fn the_window_of_an_unanswered_create_can_be_cancelled() {
    for by in ["stop", "cleanup"] {
        let stage = Stage::new();
        lose_creates(&stage, 1);
        let (dying, call) = (stage.process(), stage.call());
        let dead = tokio::time::timeout(Duration::from_secs(3), run(&dying.engine, &call)).await;
        assert!(dead.is_err());
        let left = stage.claims();
        let (process, cancel) = (stage.process(), CancellationToken::new());
        let call = stage.call_with(cancel.clone());
        let began = tokio::time::Instant::now();
        let work = async {
            if by == "stop" {
                return stop(&process.engine, &left[0], &call).await.map(|_| ()).expect_err("given up");
            }
            let cleaned =
                process.engine.cleanup(&CleanupRequest::default(), &call).await.expect("a document");
            cleaned.failure().expect("it was given up")
        };
        let (error, ()) = tokio::join!(work, async {
            pass(Duration::from_secs(5)).await;
            cancel.cancel();
        });
        assert_eq!(error.code(), Code::Cancelled, "{by}: {error}");
        assert!(began.elapsed() < Duration::from_secs(7), "{by}: {:?}", began.elapsed());
        assert_eq!(stage.claims(), left, "{by}");
    }
}

/// Lists that are not whole show nothing of what a lost create made, however many of them there are.
#[tokio::test(start_paused = true)]
async fn lists_that_are_not_whole_prove_no_create_away() {
    let stage = Stage::new();
    let process = stage.process();
    lose_creates(&stage, 1);
    let short = json!({"success": true, "instances": [], "instances_found": 0, "total_instances": 1});
    let call = stage.call();
    let request = AcquireRequest::default();
    let acquiring = process.engine.acquire(&request, &call);
    let (outcome, ()) = tokio::join!(acquiring, async {
        let asked = || stage.calls.lock().expect("not poisoned").iter().any(|call| call.contains("/asks/"));
        while !asked() {
            pass(Duration::from_millis(20)).await;
        }
        let list = Fault::once("GET", "/api/v1/instances/", answer(200, &short)).times(None);
        stage.vast(|vast, _| vast.add_fault(list));
    });
    let error = outcome.map(|_| ()).expect_err("what became of the create is not known");
    assert_eq!(error.code(), Code::CreateAmbiguous, "{error}");
    assert_eq!((stage.claims().len(), stage.ledger().created), (1, 0));
}

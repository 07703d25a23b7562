//! Cleanup: crabbox's decisions, one item's refusal holding up no other, and nothing done on half an answer.

use crate::support::{Warm, claim, edit, mutations, open, pass, rented_elsewhere, strangers, warm, warnings};
use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::Code;
use crabbox_vast_engine::lease::{InstanceId, LeaseId};
use crabbox_vast_engine::ops::cleanup::ItemOutcome;
use crabbox_vast_engine::ops::{Cleaned, CleanupRequest};
use crabbox_vast_engine::store::StepKind;
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::json;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

async fn cleanup(stage: &Stage, process: &Process, dry_run: bool) -> Cleaned {
    let cleaned = process.engine.cleanup(&CleanupRequest { dry_run }, &stage.call()).await;
    cleaned.expect("cleans up")
}

fn lines(cleaned: &Cleaned) -> Vec<String> {
    cleaned.items.iter().map(|item| item.line()).collect()
}

/// Puts labels into a claim.
async fn label(process: &Process, lease: &Warm, pairs: &'static [(&'static str, &'static str)]) {
    edit(process, &lease.id, move |claim| {
        for (key, value) in pairs {
            claim.labels.insert((*key).into(), (*value).into());
        }
    })
    .await;
}

const PAST: (&str, &str) = ("expires_at", "1700000000");

#[tokio::test(start_paused = true)]
async fn decisions_are_crabboxs_and_a_refusal_holds_up_nothing() {
    let stage = Stage::new();
    let process = stage.process();
    // The stranger comes first in the list, where crabbox stops.
    strangers(&stage);
    let kept = warm(&stage, &process, "kept", true).await;
    let fresh = warm(&stage, &process, "fresh", false).await;
    let over = warm(&stage, &process, "over", false).await;
    let stopped = warm(&stage, &process, "stopped", false).await;
    let left = warm(&stage, &process, "left", false).await;
    let stale = warm(&stage, &process, "stale", false).await;
    label(&process, &kept, &[PAST]).await;
    label(&process, &over, &[PAST]).await;
    label(&process, &stopped, &[PAST, ("state", "stopped"), ("release_action", "stop")]).await;
    label(&process, &left, &[PAST, ("release_action", "keep")]).await;
    edit(&process, &stale.id, |claim| claim.cloud_id = "999999".into()).await;
    mutations(&stage);

    let other = open(&stage)[1];
    let expected = [
        format!("delete server id={other} name=other-box"),
        format!("skip server id={} name=kept reason=keep=true", kept.instance),
        format!("skip server id={} name=fresh reason=state=ready", fresh.instance),
        format!("delete server id={} name=over", over.instance),
        format!("delete server id={} name=stopped", stopped.instance),
        format!("skip server id={} name=left reason=release_action=keep", left.instance),
        format!("delete server id={} name=stale", stale.instance),
    ];
    let dry = cleanup(&stage, &process, true).await;
    assert_eq!(lines(&dry), expected);
    assert!(dry.failure().is_none(), "what a dry run foresees is no failure of its own");
    let foreseen: Vec<_> =
        dry.items.iter().map(|item| (item.outcome, item.error_message().is_some())).collect();
    let (skipped, planned) = ((ItemOutcome::Skipped, false), (ItemOutcome::Planned, false));
    let refused = (ItemOutcome::Refused, true);
    assert_eq!(foreseen, [refused, skipped, skipped, planned, planned, skipped, refused]);
    let document = serde_json::to_value(&dry).unwrap();
    assert_eq!((&document["summary"]["refused"], &document["summary"]["planned"]), (&json!(2), &json!(2)));
    assert_eq!(document["items"][0]["error"]["code"], "claim_missing");
    assert_eq!(mutations(&stage), Vec::<String>::new(), "a dry run changes nothing");
    assert_eq!(dry.line(), "cleanup: dry run, 2 to do, 3 skipped, 2 refused");

    let cleaned = cleanup(&stage, &process, false).await;
    assert_eq!(lines(&cleaned), expected);
    assert_eq!(
        cleaned.line(),
        "cleanup: 2 destroyed, 0 stopped, 0 forgotten, 3 skipped, 2 refused, 0 failed"
    );
    let refusals: Vec<&str> = cleaned.items.iter().filter_map(|item| item.error_message()).collect();
    assert_eq!(
        refusals,
        [
            "lease=cbx_aaaaaaaaaaaa has no local Vast claim; refusing destructive cleanup".to_owned(),
            format!("refusing to release Vast instance {} from stale local claim", stale.instance),
        ]
    );
    let failure = cleaned.failure().expect("refusals");
    assert_eq!((failure.code(), failure.exit_code()), (Code::ClaimMissing, 2));
    let alive = open(&stage);
    for (lease, lives) in
        [(&kept, true), (&fresh, true), (&over, false), (&stopped, false), (&left, true), (&stale, true)]
    {
        assert_eq!(alive.contains(&lease.instance), lives, "{}", lease.slug);
    }
    assert!(!stage.claims().contains(&over.id.to_string()) && !stage.keys().contains(&over.id.to_string()));
    let document = serde_json::to_value(&cleaned).unwrap();
    assert_eq!(document["summary"]["destroyed"], 2);
    assert_eq!(document["items"][0]["error"]["code"], "claim_missing");
    assert_eq!(document["items"][3]["outcome"], "destroyed");
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_list_or_an_error_destroys_and_forgets_nothing() {
    let faults = [
        Effect::Answer {
            status: 200,
            content_type: "application/json".into(),
            body: r#"{"success":true,"instances":[],"total_instances":3,"next_token":null}"#.into(),
            headers: vec![],
        },
        Effect::Html(502),
        Effect::Answer {
            status: 404,
            content_type: "application/json".into(),
            body: r#"{"success":false,"error":"auth_error","msg":"Invalid user key"}"#.into(),
            headers: vec![],
        },
    ];
    for effect in faults {
        let stage = Stage::new();
        let process = stage.process();
        let over = warm(&stage, &process, "over", false).await;
        let gone = warm(&stage, &process, "gone", false).await;
        label(&process, &over, &[PAST]).await;
        let rival = stage.process();
        rival
            .engine
            .client()
            .destroy_if(crabbox_vast_engine::lease::InstanceId(gone.instance), || async { Ok(()) })
            .await
            .unwrap();
        pass(Duration::from_secs(200)).await;
        mutations(&stage);
        stage.vast(|vast, _| {
            vast.add_fault(Fault::once("GET", "/api/v1/instances/", effect.clone()).times(None));
        });
        let refused = process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await;
        assert!(refused.is_err(), "{effect:?}: {refused:?}");
        assert_eq!(mutations(&stage), Vec::<String>::new(), "{effect:?}");
        assert_eq!(stage.claims().len(), 2, "{effect:?}");
        assert_eq!(stage.keys().len(), 2, "{effect:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn claims_and_keys_of_vanished_instances_are_collected() {
    let stage = Stage::new();
    let process = stage.process();
    let gone = warm(&stage, &process, "gone", true).await;
    let elsewhere = warm(&stage, &process, "elsewhere", true).await;
    label(&process, &elsewhere, &[("vast_account_id", "1")]).await;
    for lease in [&gone, &elsewhere] {
        let id = crabbox_vast_engine::lease::InstanceId(lease.instance);
        process.engine.client().destroy_if(id, || async { Ok(()) }).await.unwrap();
    }
    pass(Duration::from_secs(200)).await;
    let dry = cleanup(&stage, &process, true).await;
    let line = format!("forget lease={} name=gone reason=instance {} is gone", gone.id, gone.instance);
    assert_eq!(lines(&dry), std::slice::from_ref(&line));
    assert_eq!(stage.claims().len(), 2);
    let cleaned = cleanup(&stage, &process, false).await;
    assert_eq!(lines(&cleaned), [line]);
    assert_eq!(cleaned.items[0].outcome, ItemOutcome::Forgotten);
    assert_eq!(stage.claims(), [elsewhere.id.to_string()]);
    assert_eq!(stage.keys(), [elsewhere.id.to_string()]);
    // The proof is looked at again for a day.
    let journal = process.engine.store().journal(&gone.id).await.unwrap().unwrap();
    assert_eq!(journal.tombstones().count(), 1);
    pass(Duration::from_secs(25 * 3600)).await;
    cleanup(&stage, &process, false).await;
    assert_eq!(process.engine.store().journal(&gone.id).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_instance_one_read_still_shows_is_kept() {
    let stage = Stage::new();
    let process = stage.process();
    let hidden = warm(&stage, &process, "hidden", true).await;
    pass(Duration::from_secs(200)).await;
    // Only the list misses it.
    stage.vast(|vast, _| {
        let answer = Effect::Answer {
            status: 200,
            content_type: "application/json".into(),
            body: r#"{"success":true,"instances":[],"total_instances":0,"next_token":null}"#.into(),
            headers: vec![],
        };
        vast.add_fault(Fault::once("GET", "/api/v1/instances/", answer).times(None));
    });
    let cleaned = cleanup(&stage, &process, false).await;
    assert_eq!(cleaned.summary.forgotten, 0, "{cleaned:?}");
    assert_eq!(stage.claims(), [hidden.id.to_string()]);
    assert_eq!(stage.keys(), [hidden.id.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn only_keys_that_are_provably_ours_and_unused_are_collected() {
    let stage = Stage::new();
    let process = stage.process();
    let store = process.engine.store();
    let id = |n: u8| LeaseId::from_entropy([n; 6]);
    let (ours, crabboxs, alive, listed) = (id(1), id(2), id(3), id(4));
    for lease in [&ours, &crabboxs, &alive, &listed] {
        store.create_key(lease).await.unwrap();
    }
    // Ours were made under the operation lock, which stays as a file.
    drop(store.operation_lock(&ours).await.unwrap());
    drop(store.operation_lock(&listed).await.unwrap());
    let guard = store.operation_lock(&alive).await.unwrap();
    rented_elsewhere(&stage, &format!("cbx1|{listed}|one|ready"));
    let cleaned = cleanup(&stage, &process, false).await;
    let line = format!("forget keys lease={ours} reason=no claim and no instance");
    assert!(lines(&cleaned).contains(&line), "{:?}", lines(&cleaned));
    assert_eq!(stage.keys(), [crabboxs.to_string(), alive.to_string(), listed.to_string()]);
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_touched_while_the_cleanup_decides_lives() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    label(&process, &lease, &[PAST]).await;
    let toucher = stage.process();
    let call = stage.call();
    let request = CleanupRequest::default();
    // The touch comes after the claims were read and before the cloud has answered for this instance.
    let (cleaned, ()) = tokio::join!(process.engine.cleanup(&request, &call), async {
        while !stage.calls.lock().unwrap().iter().any(|call| call.starts_with("GET /api/v1/instances")) {
            pass(Duration::from_millis(1)).await;
        }
        pass(Duration::from_millis(12)).await;
        toucher.engine.touch("one", None, &stage.call()).await.expect("touches");
    });
    let cleaned = cleaned.expect("cleans up");
    assert_eq!(open(&stage), [lease.instance], "{cleaned:?}");
    assert_eq!(claim(&process, &lease.id).await.state(), "ready");
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_claim_refuses_its_own_instance_only() {
    let stage = Stage::new();
    let process = stage.process();
    let broken = warm(&stage, &process, "broken", false).await;
    let over = warm(&stage, &process, "over", false).await;
    label(&process, &over, &[PAST]).await;
    let path = stage.settings().paths.claim(&broken.id);
    std::fs::write(path, b"{").unwrap();
    let cleaned = cleanup(&stage, &process, false).await;
    assert_eq!(cleaned.items[0].outcome, ItemOutcome::Refused);
    assert_eq!(cleaned.failure().map(|error| error.code()), Some(Code::ClaimCorrupt));
    assert_eq!(open(&stage), [broken.instance]);
    assert!(cleaned.problems[0].contains(broken.id.as_str()), "{:?}", cleaned.problems);
}

#[tokio::test(start_paused = true)]
async fn a_destroyed_instance_that_comes_back_is_reported_for_a_day_and_never_touched() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    crate::support::stop(&process.engine, "one", &stage.call()).await.expect("stops");
    let back =
        json!({"id": lease.instance, "label": "cbx1|cbx_bbbbbbbbbbbb|x|ready", "actual_status": "running"});
    let body = json!({"success": true, "instances": [back], "total_instances": 1, "next_token": null});
    stage.vast(|vast, _| {
        let answer = Effect::Answer {
            status: 200,
            content_type: "application/json".into(),
            body: body.to_string(),
            headers: vec![],
        };
        vast.add_fault(Fault::once("GET", "/api/v1/instances/", answer).times(None));
    });
    mutations(&stage);
    let cleaned = cleanup(&stage, &process, false).await;
    assert!(cleaned.problems[0].contains("was proved gone and is listed again"), "{:?}", cleaned.problems);
    assert_eq!(mutations(&stage), Vec::<String>::new());
    process.engine.list(false, &stage.call()).await.expect("lists");
    assert!(warnings(&stage).iter().any(|line| line.contains("is listed again")));
}

/// From here on the vendor's clock stands at this time of the day on which these tests begin, at 20:27.
fn vendor_says(stage: &Stage, time: &str) {
    stage.control("DELETE", "/_sim/faults", &json!({}));
    let account = stage.control("GET", "/api/v0/users/current/", &json!({}));
    stage.vast(|vast, _| {
        let answer = Effect::Answer {
            status: 200,
            content_type: "application/json".into(),
            body: account.to_string(),
            headers: vec![("Date".into(), format!("Thu, 28 May 2026 {time} GMT"))],
        };
        vast.add_fault(Fault::once("GET", "/api/v0/users/current/", answer).times(None));
    });
}

#[tokio::test(start_paused = true)]
async fn a_vendor_whose_clock_was_always_wrong_keeps_no_lease_alive() {
    let stage = Stage::new();
    let process = stage.process();
    vendor_says(&stage, "13:27:40");
    let lease = warm(&stage, &process, "one", false).await;
    pass(Duration::from_secs(60)).await;
    vendor_says(&stage, "13:28:40");
    let early = cleanup(&stage, &stage.process(), false).await;
    assert_eq!(lines(&early), [format!("skip server id={} name=one reason=state=ready", lease.instance)]);
    pass(Duration::from_secs(7200)).await;
    vendor_says(&stage, "15:28:40");
    assert_eq!(cleanup(&stage, &stage.process(), false).await.summary.destroyed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_stepped_forward_ends_no_lease() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    // Ours says two hours later, the vendor's still the first minute.
    vendor_says(&stage, "20:27:40");
    pass(Duration::from_secs(7200)).await;
    let next = stage.process();
    let cleaned = cleanup(&stage, &next, false).await;
    assert_eq!(lines(&cleaned), [format!("skip server id={} name=one reason=state=ready", lease.instance)]);
    stage.control("DELETE", "/_sim/faults", &json!({}));
    assert_eq!(cleanup(&stage, &stage.process(), false).await.summary.destroyed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_asked_to_be_kept_is_kept_whatever_crabbox_made_of_its_claim() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    label(&process, &lease, &[PAST, ("keep", "false")]).await;
    for dry_run in [true, false] {
        let cleaned = cleanup(&stage, &process, dry_run).await;
        let line = format!("skip server id={} name=one reason=keep=true", lease.instance);
        assert_eq!(lines(&cleaned), [line]);
    }
    assert_eq!(open(&stage), [lease.instance]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_is_making_is_not_swept() {
    let stage = Stage::new();
    let process = stage.process();
    let unbound = warm(&stage, &process, "unbound", false).await;
    let booting = warm(&stage, &process, "booting", false).await;
    label(&process, &unbound, &[PAST, ("state", "ambiguous-create")]).await;
    edit(&process, &unbound.id, |claim| claim.cloud_id.clear()).await;
    label(&process, &booting, &[PAST, ("state", "provisioning")]).await;
    let maker = stage.process();
    let store = maker.engine.store();
    let alive =
        (store.operation_lock(&unbound.id).await.unwrap(), store.operation_lock(&booting.id).await.unwrap());
    let cleaned = cleanup(&stage, &process, false).await;
    let busy = |lease: &Warm| format!("skip server id={} name={} reason=busy", lease.instance, lease.slug);
    assert_eq!(lines(&cleaned), [busy(&unbound), busy(&booting)]);
    assert_eq!(claim(&process, &unbound.id).await.cloud_id, "");
    drop(alive);
    assert_eq!(cleanup(&stage, &process, false).await.summary.destroyed, 2);
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_create_of_another_account_is_not_bound_by_a_sweep() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    label(&process, &lease, &[PAST, ("vast_account_id", "1")]).await;
    edit(&process, &lease.id, |claim| claim.cloud_id.clear()).await;
    let cleaned = cleanup(&stage, &process, false).await;
    assert_eq!(cleaned.failure().map(|error| error.code()), Some(Code::IdentityMismatch));
    assert_eq!(claim(&process, &lease.id).await.cloud_id, "");
}

/// Leases whose destroys were recorded by a process that died.
async fn doomed(stage: &Stage, process: &Process, slugs: &[&str]) -> Vec<Warm> {
    let mut leases = Vec::new();
    for slug in slugs {
        leases.push(Box::pin(warm(stage, process, slug, true)).await);
    }
    for lease in &leases {
        let mut journal = process.engine.store().journal(&lease.id).await.unwrap().unwrap();
        journal.begin(StepKind::Destroy, InstanceId(lease.instance), stage.unix_now());
        process.engine.store().write_journal(&journal).await.unwrap();
    }
    leases
}

fn stall(stage: &Stage, instance: &str) {
    let path = format!("/api/v0/instances/{instance}/");
    stage.vast(|vast, _| vast.add_fault(Fault::once("DELETE", &path, Effect::Stall).times(None)));
}

#[tokio::test(start_paused = true)]
async fn leases_that_are_stuck_share_one_limit_and_are_told() {
    let stage = Stage::with(|settings| settings.rate_limits = false);
    let process = stage.process();
    let over = Box::pin(warm(&stage, &process, "over", false)).await;
    label(&process, &over, &[PAST]).await;
    doomed(&stage, &process, &["one", "two", "three"]).await;
    stall(&stage, "*");
    let began = tokio::time::Instant::now();
    let cleaned = cleanup(&stage, &process, false).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(305), "{took:?}");
    assert_eq!((cleaned.items.len(), cleaned.summary.failed), (4, 4), "{cleaned:?}");
    for item in &cleaned.items {
        let hint = item.error.as_ref().and_then(|error| error["hint"].as_str()).unwrap_or_default();
        assert!(hint.contains("`cleanup`") || hint.contains("`stop "), "{item:?}");
    }
    stage.control("DELETE", "/_sim/faults", &json!({}));
    assert_eq!(cleanup(&stage, &process, false).await.summary.destroyed, 4);
    assert_eq!(open(&stage), Vec::<u64>::new());
}

/// Whichever comes first by name: one that is stuck takes no time from the others.
#[tokio::test(start_paused = true)]
async fn one_stuck_lease_starves_no_other_in_the_time_of_another_command() {
    let stage = Stage::with(|settings| settings.rate_limits = false);
    let process = stage.process();
    let mut leases = doomed(&stage, &process, &["one", "two"]).await;
    leases.sort_by(|one, other| one.id.as_str().cmp(other.id.as_str()));
    stall(&stage, &leases[0].instance.to_string());
    let kept = Box::pin(warm(&stage, &stage.process(), "kept", true)).await;
    assert_eq!(open(&stage), [leases[0].instance, kept.instance]);
}

/// What was done until then is told, with why it ended.
#[tokio::test(start_paused = true)]
async fn a_cleanup_that_is_cut_short_tells_what_it_has_done() {
    for (how, code) in [("the API goes away", Code::ApiUnavailable), ("cancelled", Code::Cancelled)] {
        let stage = Stage::new();
        let process = stage.process();
        doomed(&stage, &process, &["one"]).await;
        let cancel = CancellationToken::new();
        let (call, request) = (stage.call_with(cancel.clone()), CleanupRequest::default());
        let (cleaned, ()) = tokio::join!(process.engine.cleanup(&request, &call), async {
            while !stage.claims().is_empty() {
                pass(Duration::from_millis(1)).await;
            }
            if how == "cancelled" {
                return cancel.cancel();
            }
            let down = Fault::once("GET", "/api/v1/instances/", Effect::Html(502)).times(None);
            stage.vast(|vast, _| vast.add_fault(down));
        });
        let cleaned = cleaned.unwrap_or_else(|error| panic!("{how}: {error}"));
        assert_eq!(cleaned.items[0].outcome, ItemOutcome::Destroyed, "{how}: {cleaned:?}");
        assert_eq!(cleaned.failure().map(|error| error.code()), Some(code), "{how}");
        let document = cleaned.to_json();
        assert_eq!(document["error"]["code"], code.as_str(), "{how}: {document}");
        assert_eq!(document["summary"]["destroyed"], 1, "{how}: {document}");
    }
}

/// A dry run announces no more than a real one does, and `list` names a claim whose machine is gone.
#[tokio::test(start_paused = true)]
async fn a_claim_whose_machine_is_gone_is_named_and_forgotten_after_the_window_only() {
    let stage = Stage::new();
    let process = stage.process();
    let gone = async |lease: &Warm| {
        let instance = InstanceId(lease.instance);
        process.engine.client().destroy_if(instance, || async { Ok(()) }).await.unwrap();
        // The record of a destroyed machine lingers for a while.
        pass(Duration::from_secs(20)).await;
    };
    let lease = warm(&stage, &process, "one", true).await;
    gone(&lease).await;
    let mut journal = process.engine.store().journal(&lease.id).await.unwrap().unwrap();
    journal.attempts[0].started_at = stage.unix_now();
    journal.attempts[0].vendor_at = None;
    // One that was in use is not waited for.
    journal.phases.clear();
    process.engine.store().write_journal(&journal).await.unwrap();
    let dry = cleanup(&stage, &process, true).await;
    assert_eq!(dry.items.len(), 0, "too new to be missed: {dry:?}");
    let other = warm(&stage, &process, "two", true).await;
    label(&process, &other, &[("vast_account_id", "1")]).await;
    gone(&other).await;
    process.engine.list(false, &stage.call()).await.expect("lists");
    let said: Vec<String> =
        warnings(&stage).into_iter().filter(|one| one.contains("is not listed")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains(&lease.instance.to_string()) && said[0].contains("`stop one`"), "{said:?}");
    pass(Duration::from_secs(100)).await;
    assert_eq!(cleanup(&stage, &process, true).await.summary.planned, 1);
}

/// A journal that cannot be read tells nobody what is to be finished: whoever cleans up is told so.
#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_read_is_a_problem() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let journal = stage.settings().paths.journal().join(format!("{}.json", lease.id));
    std::fs::write(&journal, b"{").expect("written");
    let cleaned = process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up");
    let told = cleaned.problems.iter().any(|one| one.contains("lease one") && one.contains("unreadable"));
    assert!(told, "{cleaned:?}");
    assert_eq!(open(&stage), [lease.instance]);
}

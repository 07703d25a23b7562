//! What crabbox's own tests of its Vast backend check, on our engine: how a lease is found, given back and forgotten here,
//! how one is taken into use in the folder of this name.

#[path = "backend/taken.rs"]
mod taken;

use crate::support::{
    Warm, claim, edit, mutations, open, pass, rented_elsewhere, run_on, stop, strangers, warm,
};
use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::lease::{InstanceId, ReleaseAction};
use crabbox_vast_engine::ops::{AdoptRequest, ForgetRequest, ReleaseOutcome, ReleaseRequest, Released};
use crabbox_vast_engine::store::StepKind;
use crabbox_vast_engine::{Code, Engine, Result};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::json;
use std::time::Duration;

async fn release(engine: &Engine, lease: &str, action: ReleaseAction, stage: &Stage) -> Result<Released> {
    let request = ReleaseRequest { identifier: lease.into(), action: Some(action) };
    engine.release(&request, &stage.call()).await
}

async fn adopt(engine: &Engine, lease: &str, stage: &Stage) -> Result<crabbox_vast_engine::ops::Adopted> {
    let request = AdoptRequest { identifier: lease.into(), ..AdoptRequest::default() };
    engine.adopt(&request, &stage.call()).await
}

/// A lease that was stopped and whose instance has come to rest.
async fn stopped(stage: &Stage, process: &Process, slug: &str, keep: bool) -> Warm {
    let lease = warm(stage, process, slug, keep).await;
    let released = release(&process.engine, slug, ReleaseAction::Stop, stage).await.expect("stops");
    assert_eq!(released.outcome, ReleaseOutcome::Stopped);
    pass(Duration::from_secs(10)).await;
    lease
}

// --- release -------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn the_recorded_action_is_the_one_reported_and_an_explicit_one_beats_it() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    edit(&process, &lease.id, |claim| {
        claim.labels.insert("release_action".into(), "keep".into());
    })
    .await;
    let before = claim(&process, &lease.id).await;
    mutations(&stage);
    let kept = stop(&process.engine, "one", &stage.call()).await.expect("keeps");
    assert_eq!((kept.action, kept.outcome), (ReleaseAction::Keep, ReleaseOutcome::Kept));
    assert_eq!(kept.line(), format!("keep lease={} vast={} name=one", lease.id, lease.instance));
    assert_eq!(claim(&process, &lease.id).await, before, "keep writes nothing");
    assert_eq!(mutations(&stage), Vec::<String>::new());

    let halted = release(&process.engine, "one", ReleaseAction::Stop, &stage).await.expect("stops");
    assert_eq!(halted.line(), format!("stop lease={} vast={} name=one", lease.id, lease.instance));
    let after = claim(&process, &lease.id).await;
    assert_eq!((after.state(), after.label("release_action")), ("stopped", Some("stop")));
    // Later the action on the lease is stop: it is stopped again, never "destroyed".
    let again = stop(&process.engine, "one", &stage.call()).await.expect("stops again");
    assert_eq!(again.line(), halted.line());
    assert_eq!(open(&stage), [lease.instance]);

    let gone = release(&process.engine, "one", ReleaseAction::Destroy, &stage).await.expect("destroys");
    assert_eq!(gone.line(), format!("destroyed lease={} vast={} name=one", lease.id, lease.instance));
    assert_eq!((open(&stage).len(), stage.claims().len(), stage.keys().len()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_setting_that_is_explicit_beats_the_record_and_a_default_does_not() {
    for (explicit, outcome) in [(true, ReleaseOutcome::Kept), (false, ReleaseOutcome::Destroyed)] {
        let stage = Stage::new();
        warm(&stage, &stage.process(), "one", false).await;
        let process = stage.process_with(None, |settings| {
            settings.release_action = ReleaseAction::Keep;
            settings.release_action_explicit = explicit;
        });
        let released = stop(&process.engine, "one", &stage.call()).await.expect("releases");
        assert_eq!(released.outcome, outcome);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_proved_by_reading_again() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    // Accepted, and nothing happens.
    let lie = Effect::Answer {
        status: 200,
        content_type: "application/json".into(),
        body: r#"{"success":true}"#.into(),
        headers: vec![],
    };
    stage.vast(|vast, _| vast.add_fault(Fault::once("PUT", "/api/v0/instances/*/", lie)));
    let unproved = release(&process.engine, "one", ReleaseAction::Stop, &stage).await.expect_err("no proof");
    assert_eq!(unproved.code(), Code::ReleaseUnproved, "{unproved}");
    assert_eq!(claim(&process, &lease.id).await.state(), "ready");
    let journal = process.engine.store().journal(&lease.id).await.unwrap().unwrap();
    assert!(journal.is_open(StepKind::Stop, InstanceId(lease.instance)));
    let halted = release(&process.engine, "one", ReleaseAction::Stop, &stage).await.expect("stops");
    assert_eq!(halted.outcome, ReleaseOutcome::Stopped);
    let journal = process.engine.store().journal(&lease.id).await.unwrap().unwrap();
    assert!(journal.steps.iter().all(|step| !step.is_open()), "{journal:?}");
}

#[tokio::test(start_paused = true)]
async fn a_destroy_that_says_success_false_is_not_believed_and_the_claim_stays() {
    let stage = Stage::new();
    let process = stage.process();
    warm(&stage, &process, "one", false).await;
    let refusal = Effect::Answer {
        status: 200,
        content_type: "application/json".into(),
        body: r#"{"success":false,"msg":"not owned by account"}"#.into(),
        headers: vec![],
    };
    stage.vast(|vast, _| {
        vast.add_fault(Fault::once("DELETE", "/api/v0/instances/*/", refusal).times(None));
    });
    stop(&process.engine, "one", &stage.call()).await.expect_err("refused");
    assert_eq!((stage.claims().len(), stage.keys().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_vanished_instance_is_released_whatever_the_action_but_keep() {
    for action in [ReleaseAction::Destroy, ReleaseAction::Stop] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", false).await;
        process.engine.client().destroy_if(InstanceId(lease.instance), || async { Ok(()) }).await.unwrap();
        pass(Duration::from_secs(200)).await;
        let released = release(&process.engine, "one", action, &stage).await.expect("succeeds");
        assert_eq!(released.outcome, ReleaseOutcome::AlreadyGone);
        assert_eq!((stage.claims().len(), stage.keys().len()), (0, 0), "{action}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_young_machine_that_was_seen_and_is_gone_is_not_waited_for() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    process.engine.client().destroy_if(InstanceId(lease.instance), || async { Ok(()) }).await.unwrap();
    pass(Duration::from_secs(10)).await;
    let began = tokio::time::Instant::now();
    let released = release(&process.engine, "one", ReleaseAction::Destroy, &stage).await.expect("succeeds");
    assert_eq!(released.outcome, ReleaseOutcome::AlreadyGone);
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn another_account_address_or_label_is_refused_with_nothing_changed() {
    for (key, value) in [
        ("vast_account_id", "1"),
        ("vast_api_url", "http://localhost:9/api/v0"),
        ("vast_api_url", "http://127.0.0.1:9/api/v0/"),
    ] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", false).await;
        edit(&process, &lease.id, move |claim| {
            claim.labels.insert(key.into(), value.into());
        })
        .await;
        let before = claim(&process, &lease.id).await;
        mutations(&stage);
        for action in [ReleaseAction::Destroy, ReleaseAction::Stop, ReleaseAction::Keep] {
            let refused = release(&process.engine, "one", action, &stage).await.expect_err("refused");
            assert_eq!((refused.code(), refused.exit_code()), (Code::IdentityMismatch, 2), "{key} {value}");
        }
        assert_eq!(mutations(&stage), Vec::<String>::new());
        assert_eq!(claim(&process, &lease.id).await, before);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ours_is_refused() {
    let stage = Stage::new();
    let process = stage.process();
    strangers(&stage);
    mutations(&stage);
    let ids = open(&stage);
    for (identifier, code) in [
        (ids[0].to_string(), Code::NotOurs),
        (ids[1].to_string(), Code::ClaimMissing),
        ("other-box".to_owned(), Code::ClaimMissing),
        ("cbx_aaaaaaaaaaaa".to_owned(), Code::ClaimMissing),
        ("nothing-there".to_owned(), Code::LeaseNotFound),
    ] {
        let refused = stop(&process.engine, &identifier, &stage.call()).await.expect_err("refused");
        assert_eq!(refused.code(), code, "{identifier}: {refused}");
    }
    assert_eq!(mutations(&stage), Vec::<String>::new());
    assert_eq!(open(&stage).len(), 2);
}

// --- resolve -------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_numeric_slug_wins_over_an_instance_of_that_number() {
    let stage = Stage::new();
    let process = stage.process();
    let first = warm(&stage, &process, "first", false).await;
    let named = warm(&stage, &process, &first.instance.to_string(), false).await;
    let status = process.engine.status(&first.instance.to_string(), &stage.call()).await.expect("shows");
    assert_eq!(status.id, named.id.to_string());
    stop(&process.engine, &first.instance.to_string(), &stage.call()).await.expect("stops");
    assert_eq!(open(&stage), [first.instance]);
    stop(&process.engine, &first.instance.to_string(), &stage.call()).await.expect("by instance id");
    assert_eq!(open(&stage), Vec::<u64>::new());
}

/// The slug is that of an instance without a claim here: it may be looked at, and the lease that only has the number is
/// left alone.
#[tokio::test(start_paused = true)]
async fn a_numeric_slug_of_an_unclaimed_instance_wins_too() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "first", false).await;
    let number = lease.instance.to_string();
    let unclaimed = rented_elsewhere(&stage, &format!("cbx1|cbx_aaaaaaaaaaaa|{number}|ready"));
    let status = process.engine.status(&number, &stage.call()).await.expect("shows");
    assert_eq!(status.id, "cbx_aaaaaaaaaaaa");
    mutations(&stage);
    let refused = stop(&process.engine, &number, &stage.call()).await.expect_err("whose is it?");
    assert_eq!(refused.code(), Code::ClaimMissing, "{refused}");
    let refused = run_on(&process.engine, Some(&number), false, &stage.call()).await.expect_err("not ours");
    assert_eq!(refused.code(), Code::ClaimMissing, "{refused}");
    assert_eq!((mutations(&stage), open(&stage)), (Vec::new(), vec![lease.instance, unclaimed]));
    // Once it has gone, the number is the instance's again.
    process.engine.client().destroy_if(InstanceId(unclaimed), || async { Ok(()) }).await.unwrap();
    pass(Duration::from_secs(60)).await;
    stop(&process.engine, &number, &stage.call()).await.expect("by instance id");
    assert_eq!(open(&stage), Vec::<u64>::new());
}

#[tokio::test(start_paused = true)]
async fn a_failed_instance_cannot_be_used_but_released() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    for status in ["failed", "exited", "offline"] {
        let path = format!("/_sim/instances/{}", lease.instance);
        stage.control("POST", &path, &json!({"freeze": true, "actual_status": status}));
        let refused =
            run_on(&process.engine, Some("one"), false, &stage.call()).await.expect_err("not usable");
        assert_eq!((refused.code(), refused.exit_code()), (Code::InstanceNotRunning, 5), "{status}");
    }
    let released = stop(&process.engine, "one", &stage.call()).await.expect("released");
    assert_eq!(released.outcome, ReleaseOutcome::Destroyed);
}

#[tokio::test(start_paused = true)]
async fn status_needs_no_endpoint() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = stopped(&stage, &process, "one", false).await;
    let path = format!("/_sim/instances/{}", lease.instance);
    stage.control("POST", &path, &json!({"ssh_host": null, "ssh_port": null, "ports": null}));
    let before = claim(&process, &lease.id).await;
    let status = process.engine.status("one", &stage.call()).await.expect("shows");
    assert!(!status.ready);
    assert_eq!(claim(&process, &lease.id).await, before, "observing changes no claim");
}

#[tokio::test(start_paused = true)]
async fn using_a_lease_keeps_its_metadata_and_its_policy() {
    let stage = Stage::new();
    let process = stage.process_with(None, |settings| {
        settings.release_action = ReleaseAction::Stop;
        settings.ttl = Duration::from_secs(7200);
    });
    let lease = warm(&stage, &process, "one", true).await;
    edit(&process, &lease.id, |claim| {
        claim.labels.insert("provider_key_id".into(), "9001".into());
        claim.labels.insert("provider_key_owned".into(), "true".into());
        claim.extra.insert("later".into(), json!({"x": 1}));
    })
    .await;
    let before = claim(&process, &lease.id).await;
    pass(Duration::from_secs(60)).await;
    // Other settings, as another repository or a newer configuration would have them.
    let user = stage.process_with(None, |settings| {
        settings.release_action = ReleaseAction::Destroy;
        settings.ttl = Duration::from_secs(60);
        settings.idle_timeout = Duration::from_secs(60);
    });
    run_on(&user.engine, Some("one"), false, &stage.call()).await.expect("runs");
    let after = claim(&user, &lease.id).await;
    for key in [
        "keep",
        "created_at",
        "ttl_secs",
        "idle_timeout_secs",
        "release_action",
        "provider_key_id",
        "provider_key_owned",
        "vast_offer_id",
        "vast_account_id",
        "vast_api_url",
        "provider_key",
    ] {
        assert_eq!(after.labels.get(key), before.labels.get(key), "{key}");
    }
    assert_eq!(after.extra, before.extra);
    assert_ne!(after.labels["last_touched_at"], before.labels["last_touched_at"]);
}

#[tokio::test(start_paused = true)]
async fn a_relabelled_instance_is_ours_by_our_journal_and_by_nothing_else() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    let path = format!("/_sim/instances/{}", lease.instance);
    stage.control("POST", &path, &json!({"label": "renamed by hand"}));
    let listed = process.engine.list(false, &stage.call()).await.expect("lists");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].lease(), Some(lease.id.as_str()));
    // Without the journal it only looks like ours: the number in the claim proves nothing.
    let store = process.engine.store();
    let journal = store.journal(&lease.id).await.unwrap().unwrap();
    store.remove_journal(&lease.id).await.unwrap();
    let refused = stop(&process.engine, "one", &stage.call()).await.expect_err("refused");
    assert_eq!(refused.code(), Code::IdentityMismatch, "{refused}");
    assert!(process.engine.list(false, &stage.call()).await.expect("lists").is_empty());
    // A label of another lease is an answer, whatever the journal says.
    store.write_journal(&journal).await.unwrap();
    stage.control("POST", &path, &json!({"label": "cbx1|cbx_aaaaaaaaaaaa|other-box|ready"}));
    let refused = stop(&process.engine, "one", &stage.call()).await.expect_err("refused");
    assert_eq!(refused.code(), Code::IdentityMismatch, "{refused}");
    stage.control("POST", &path, &json!({"label": "renamed by hand"}));
    let released = stop(&process.engine, "one", &stage.call()).await.expect("released");
    assert_eq!(released.outcome, ReleaseOutcome::Destroyed);
}

#[tokio::test(start_paused = true)]
async fn list_shows_foreign_instances_only_when_asked_and_marks_them() {
    let stage = Stage::new();
    let process = stage.process();
    strangers(&stage);
    let lease = warm(&stage, &process, "one", false).await;
    let of = async |all| {
        let listed = process.engine.list(all, &stage.call()).await.expect("lists");
        listed.iter().map(|one| (one.to_json()["ownership"].clone(), one.line())).collect::<Vec<_>>()
    };
    let owned = of(false).await;
    assert_eq!(
        owned.iter().map(|(whose, _)| whose.as_str().unwrap()).collect::<Vec<_>>(),
        ["unclaimed", "claimed"]
    );
    assert!(
        owned.iter().all(|(_, line)| line.contains(" target=linux") && !line.contains("ownership=")),
        "{owned:?}"
    );
    let all = of(true).await;
    assert_eq!(all.len(), 3);
    assert!(
        all[0].1.contains("lease= slug=- keep= target=") && all[0].1.ends_with(" ownership=foreign"),
        "{all:?}"
    );
    assert!(all[2].1.contains(lease.id.as_str()));
}

// --- forget --------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn what_may_bill_is_forgotten_only_on_confirmation() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let forget = async |yes| {
        let request = ForgetRequest { identifier: "one".into(), yes };
        process.engine.forget_claim(&request, &stage.call()).await
    };
    let refused = forget(false).await.expect_err("it bills");
    assert_eq!((refused.code(), refused.exit_code()), (Code::ConfirmationNeeded, 2));
    let said = refused.to_string();
    assert!(said.contains(&lease.instance.to_string()) && said.contains("bills at $"), "{said}");
    assert!(refused.hint_text().unwrap().contains("`stop one`"));
    assert_eq!(stage.claims().len(), 1);
    let forgotten = forget(true).await.expect("forgets");
    assert!(!forgotten.proved_gone && forgotten.price.is_some());
    assert_eq!((stage.claims().len(), stage.keys().len(), open(&stage).len()), (0, 1, 1));
    // The key stays while the instance does, so that it can be adopted again.
    process.engine.cleanup(&Default::default(), &stage.call()).await.expect("cleans up");
    assert_eq!((stage.keys().len(), open(&stage).len()), (1, 1));
    adopt(&process.engine, &lease.instance.to_string(), &stage).await.expect("adopts");
    run_on(&process.engine, Some("one"), false, &stage.call()).await.expect("runs");
}

#[tokio::test(start_paused = true)]
async fn what_is_proved_gone_is_forgotten_without_a_question() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    process.engine.client().destroy_if(InstanceId(lease.instance), || async { Ok(()) }).await.unwrap();
    // The record lingers for some seconds.
    pass(Duration::from_secs(20)).await;
    let request = ForgetRequest { identifier: "one".into(), yes: false };
    let forgotten = process.engine.forget_claim(&request, &stage.call()).await.expect("forgets");
    assert!(forgotten.proved_gone && forgotten.left.is_none());
    assert_eq!((stage.claims().len(), stage.keys().len()), (0, 0));
    let missing = process.engine.forget_claim(&request, &stage.call()).await.expect_err("nothing there");
    assert_eq!(missing.code(), Code::LeaseNotFound);
}

#[tokio::test(start_paused = true)]
async fn unknown_is_not_gone() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    process.engine.client().destroy_if(InstanceId(lease.instance), || async { Ok(()) }).await.unwrap();
    pass(Duration::from_secs(200)).await;
    stage.vast(|vast, _| {
        vast.add_fault(Fault::once("GET", "/api/v1/instances/", Effect::Html(502)).times(None));
    });
    let request = ForgetRequest { identifier: "one".into(), yes: false };
    let refused = process.engine.forget_claim(&request, &stage.call()).await.expect_err("unknown");
    assert_eq!(refused.code(), Code::ConfirmationNeeded, "{refused}");
    assert_eq!(stage.claims().len(), 1);
}

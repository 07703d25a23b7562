//! What crabbox's own tests of its Vast backend check (resolve, release, touch, adopt, start), on our engine.

mod support;
mod virtual_time;

use crabbox_vast_engine::lease::{InstanceId, LeaseId, ReleaseAction};
use crabbox_vast_engine::ops::{
    AdoptRequest, ForgetRequest, ReleaseOutcome, ReleaseRequest, Released, StartRequest,
};
use crabbox_vast_engine::store::{Holder, Journal, StepKind};
use crabbox_vast_engine::{Code, Engine, Result};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::json;
use std::time::Duration;
use support::{
    Warm, claim, edit, mutations, open, pass, rented_elsewhere, run_on, stop, strangers, warm, warnings,
};
use virtual_time::{Process, Stage};

async fn release(engine: &Engine, lease: &str, action: ReleaseAction, stage: &Stage) -> Result<Released> {
    let request = ReleaseRequest { identifier: lease.into(), action: Some(action) };
    engine.release(&request, &stage.call()).await
}

async fn start(engine: &Engine, lease: &str, stage: &Stage) -> Result<()> {
    let request = StartRequest { identifier: lease.into() };
    engine.start(&request, &stage.call()).await.map(|_| ())
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

// --- adopt ---------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn an_unclaimed_instance_is_used_only_with_reclaim() {
    let stage = Stage::new();
    let process = stage.process();
    let id = rented_elsewhere(&stage, "cbx1|cbx_3f9a1c7be204|tidal-barnacle|ready");
    pass(Duration::from_secs(60)).await;
    mutations(&stage);
    for name in [id.to_string(), "tidal-barnacle".into(), "cbx_3f9a1c7be204".into()] {
        let refused = run_on(&process.engine, Some(&name), false, &stage.call()).await.expect_err("refused");
        assert_eq!(refused.code(), Code::ClaimMissing, "{name}");
    }
    assert_eq!((stage.claims().len(), mutations(&stage).len()), (0, 0));
    let ran = run_on(&process.engine, Some(&id.to_string()), true, &stage.call()).await.expect("runs");
    assert_eq!(ran.exit_code, 0);
    let lease = LeaseId::parse("cbx_3f9a1c7be204").unwrap();
    let claim = claim(&process, &lease).await;
    assert_eq!((claim.cloud_id.as_str(), claim.slug.as_str()), (id.to_string().as_str(), "tidal-barnacle"));
    let account = process.engine.client().account().await.unwrap().id.to_string();
    assert_eq!(claim.label("vast_account_id"), Some(account.as_str()));
    assert_eq!(claim.label("vast_api_url"), Some("http://127.0.0.1:9/api/v0"));
    for absent in ["provider_key_id", "provider_key_owned", "vast_offer_id", "recovery"] {
        assert_eq!(claim.label(absent), None, "{absent}");
    }
    stop(&process.engine, "tidal-barnacle", &stage.call()).await.expect("ours by now");
    assert_eq!(open(&stage), Vec::<u64>::new());
}

#[tokio::test(start_paused = true)]
async fn adopting_takes_what_carries_a_label_and_nothing_else() {
    let stage = Stage::new();
    let process = stage.process();
    let foreign = rented_elsewhere(&stage, "hand made");
    let odd = rented_elsewhere(&stage, "cbx1|not-a-lease|odd|ready");
    let ours = rented_elsewhere(&stage, "cbx1|cbx_3f9a1c7be204|tidal-barnacle|ready");
    for (id, code) in [(foreign, Code::NotOurs), (odd, Code::IdentityMismatch)] {
        let refused = adopt(&process.engine, &id.to_string(), &stage).await.expect_err("refused");
        assert_eq!(refused.code(), code, "{refused}");
    }
    assert_eq!((stage.claims().len(), stage.keys().len()), (0, 0));
    let adopted = adopt(&process.engine, &ours.to_string(), &stage).await.expect("adopts");
    assert!(adopted.claimed && adopted.key_attached, "{adopted:?}");
    let before = claim(&process, &adopted.lease).await;
    // Again: only the key.
    let again = adopt(&process.engine, "tidal-barnacle", &stage).await.expect("adopts");
    assert!(!again.claimed && again.key_attached);
    assert_eq!(claim(&process, &adopted.lease).await, before);
    let second = rented_elsewhere(&stage, "cbx1|cbx_bbbbbbbbbbbb|twin|ready");
    rented_elsewhere(&stage, "cbx1|cbx_bbbbbbbbbbbb|twin|ready");
    let refused = adopt(&process.engine, &second.to_string(), &stage).await.expect_err("two of them");
    assert_eq!(refused.code(), Code::IdentityMismatch, "{refused}");
    // A lease that is adopted is nobody's unfinished acquire.
    let cleaned = process.engine.cleanup(&Default::default(), &stage.call()).await.expect("cleans up");
    assert_eq!(cleaned.summary.destroyed, 0, "{cleaned:?}");
}

#[tokio::test(start_paused = true)]
async fn an_adopted_lease_without_its_key_is_released_all_the_same() {
    let stage = Stage::new();
    let process = stage.process();
    let id = rented_elsewhere(&stage, "cbx1|cbx_3f9a1c7be204|tidal-barnacle|ready");
    let refusal = Effect::Answer {
        status: 401,
        content_type: "application/json".into(),
        body: r#"{"success":false,"error":"auth","msg":"lacks the permission group"}"#.into(),
        headers: vec![],
    };
    stage.vast(|vast, _| {
        vast.add_fault(Fault::once("POST", "/api/v0/instances/*/ssh/", refusal).times(None));
    });
    let adopted = adopt(&process.engine, &id.to_string(), &stage).await.expect("adopts");
    assert!(adopted.claimed && !adopted.key_attached);
    assert!(warnings(&stage).iter().any(|line| line.contains("released but not used")));
    // Nobody can look what its maker armed: that is said, and no more.
    let told = adopted.deadman;
    assert!(!told.armed && !told.confirmed, "{told:?}");
    assert!(
        told.why_not
            .is_some_and(|why| why.contains("could not be looked at over SSH: its key is not attached"))
    );
    assert!(warnings(&stage).iter().any(|line| line.contains("what its maker armed may still end it")));
    stop(&process.engine, "tidal-barnacle", &stage.call()).await.expect("released");
    assert_eq!(open(&stage), Vec::<u64>::new());
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

// --- start ---------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_stopped_lease_starts_again_with_its_policy() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = stopped(&stage, &process, "one", true).await;
    let before = claim(&process, &lease.id).await;
    start(&process.engine, "one", &stage).await.expect("starts");
    let after = claim(&process, &lease.id).await;
    assert_eq!(after.state(), "ready");
    for key in ["keep", "created_at", "ttl_secs", "idle_timeout_secs", "release_action", "vast_offer_id"] {
        assert_eq!(after.labels.get(key), before.labels.get(key), "{key}");
    }
    assert_ne!(
        (after.ssh_host.as_str(), after.ssh_port),
        (before.ssh_host.as_str(), before.ssh_port),
        "ports change"
    );
    run_on(&process.engine, Some("one"), false, &stage.call()).await.expect("runs");
    let journal = process.engine.store().journal(&lease.id).await.unwrap().unwrap();
    assert!(journal.steps.iter().any(|step| step.kind == StepKind::Start && step.proved_at.is_some()));
    assert!(journal.steps.iter().all(|step| !step.is_open()), "{journal:?}");
    // One that runs is only connected to.
    mutations(&stage);
    start(&process.engine, "one", &stage).await.expect("is running");
    assert!(!mutations(&stage).iter().any(|call| call.starts_with("DELETE")));
    assert_eq!(stage.ledger().created, 1);
}

#[tokio::test(start_paused = true)]
async fn a_queued_start_is_withdrawn() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = stopped(&stage, &process, "one", true).await;
    let path = format!("/_sim/instances/{}", lease.instance);
    stage.control("POST", &path, &json!({"relet": true}));
    let queued = start(&process.engine, "one", &stage).await.expect_err("taken");
    assert_eq!((queued.code(), queued.exit_code(), queued.retryable()), (Code::StartQueued, 5, true));
    assert_eq!(claim(&process, &lease.id).await.state(), "stopped");
    // The GPUs come back, hours later: nothing starts by itself.
    stage.control("POST", &path, &json!({"relet": false}));
    pass(Duration::from_secs(7200)).await;
    let state = process.engine.client().show(InstanceId(lease.instance)).await.unwrap().unwrap();
    assert!(!state.is_running() && state.intended_status.as_deref() == Some("stopped"), "{state:?}");
    start(&process.engine, "one", &stage).await.expect("starts now");
}

#[tokio::test(start_paused = true)]
async fn without_credit_a_start_is_a_typed_refusal() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = stopped(&stage, &process, "one", true).await;
    stage.control("POST", "/_sim/account", &json!({"credit": 0.0}));
    let broke = start(&process.engine, "one", &stage).await.expect_err("no credit");
    assert_eq!(broke.code(), Code::InsufficientCredit, "{broke}");
    assert!(broke.hint_text().unwrap().contains("stays stopped"));
    assert_eq!(claim(&process, &lease.id).await.state(), "stopped");
    let journal = process.engine.store().journal(&lease.id).await.unwrap().unwrap();
    assert!(journal.steps.iter().all(|step| !step.is_open()), "{journal:?}");
}

#[tokio::test(start_paused = true)]
async fn the_cap_holds_for_a_start() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = stopped(&stage, &process, "one", true).await;
    stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &json!({"dph_total": 9.5}));
    let capped = stage.process_with(None, |settings| {
        settings.max_dph_total = Some(crabbox_vast_engine::lease::DollarsPerHour(1.0));
    });
    mutations(&stage);
    let dear = start(&capped.engine, "one", &stage).await.expect_err("too dear");
    assert_eq!(dear.code(), Code::PriceCapExceeded, "{dear}");
    assert_eq!(mutations(&stage), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_start_that_never_answers_is_taken_back() {
    let stage = Stage::new();
    let process = stage.process_with(None, |settings| settings.boot_timeout = Duration::from_secs(120));
    let lease = stopped(&stage, &process, "one", true).await;
    stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &json!({"sshd": false}));
    let silent = start(&process.engine, "one", &stage).await.expect_err("no ssh");
    assert_eq!(silent.code(), Code::BootTimeout, "{silent}");
    assert_eq!(claim(&process, &lease.id).await.state(), "stopped");
    let state = process.engine.client().show(InstanceId(lease.instance)).await.unwrap().unwrap();
    assert_eq!(state.intended_status.as_deref(), Some("stopped"));
}

// --- touch ---------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_touch_racing_a_stop_never_revives_the_lease() {
    for milliseconds in (0..400).step_by(7) {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        let toucher = stage.process();
        let (halted, ()) =
            tokio::join!(release(&process.engine, "one", ReleaseAction::Stop, &stage), async {
                pass(Duration::from_millis(milliseconds)).await;
                let _refused_or_before = toucher.engine.touch("one", None, &stage.call()).await;
            });
        halted.expect("stops");
        assert_eq!(claim(&process, &lease.id).await.state(), "stopped", "touched after {milliseconds} ms");
        let late = toucher.engine.touch("one", None, &stage.call()).await.expect_err("stopped");
        assert_eq!((late.code(), late.exit_code()), (Code::InstanceNotRunning, 5));
        assert_eq!(late.to_string(), "lease one is in terminal state stopped");
    }
}

#[tokio::test(start_paused = true)]
async fn a_touch_keeps_the_exact_address_and_a_release_works_after_it() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    let touched =
        process.engine.touch("one", Some(Duration::from_secs(3600)), &stage.call()).await.expect("touches");
    assert_eq!(touched.idle_timeout.as_deref(), Some("1h0m0s"));
    assert_eq!(claim(&process, &lease.id).await.label("vast_api_url"), Some("http://127.0.0.1:9/api/v0"));
    stop(&process.engine, "one", &stage.call()).await.expect("stops");
    let missing =
        process.engine.touch("one", None, &stage.call()).await.expect_err("never brings a claim back");
    assert_eq!(missing.code(), Code::LeaseNotFound);
    assert_eq!(stage.claims().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn two_processes_that_acquire_at_once_never_share_a_slug() {
    let stage = Stage::new();
    let (one, other) = (stage.process(), stage.process());
    let (one, other) = tokio::join!(warm(&stage, &one, "same", false), warm(&stage, &other, "same", false));
    assert_ne!(one.slug, other.slug);
    assert!(one.slug == "same" || other.slug == "same", "{} {}", one.slug, other.slug);
}

// --- acquire -------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_definite_refusal_of_the_create_leaves_nothing() {
    for (status, body) in [
        (400, r#"{"success":false,"error":"invalid_args","msg":"error 400/3467: Invalid args: image"}"#),
        (422, r#"{"success":false,"error":"invalid_args","msg":"no"}"#),
    ] {
        let stage = Stage::new();
        let process = stage.process_with(None, |settings| settings.repo_root = String::new());
        let refusal = Effect::Answer {
            status,
            content_type: "application/json".into(),
            body: body.into(),
            headers: vec![],
        };
        stage.vast(|vast, _| {
            vast.add_fault(Fault::once("PUT", "/api/v0/asks/*/", refusal).times(None));
        });
        let refused = support::run(&process.engine, &stage.call()).await.expect_err("refused");
        assert!(!matches!(refused.code(), Code::CreateAmbiguous), "{status}: {refused}");
        assert_eq!((stage.claims().len(), stage.keys().len()), (0, 0), "{status}");
        let sent = mutations(&stage);
        assert_eq!(
            sent.iter().filter(|call| call.starts_with("PUT /api/v0/asks/")).count(),
            1,
            "{status}: {sent:?}"
        );
        assert!(!sent.iter().any(|call| call.starts_with("DELETE")), "{status}: {sent:?}");
    }
}

/// The acquire fails, and so does every destroy: the claim leads to the machine, and every error is told.
#[tokio::test(start_paused = true)]
async fn a_failed_clean_up_leaves_a_claim_that_stop_finishes() {
    let stage = Stage::new();
    let process = stage.process_with(None, |settings| settings.repo_root = String::new());
    stage.vast(|vast, _| {
        vast.add_fault(Fault::once("DELETE", "/api/v0/instances/*/", Effect::Html(502)).times(None));
    });
    let call = stage.call();
    let (outcome, ()) = tokio::join!(support::run(&process.engine, &call), async {
        while open(&stage).is_empty() {
            pass(Duration::from_millis(50)).await;
        }
        let path = format!("/_sim/instances/{}", open(&stage)[0]);
        let message = "docker: manifest for nosuch/image:1 not found: manifest unknown";
        stage.control("POST", &path, &json!({"freeze": true, "status_msg": message}));
    });
    let error = outcome.expect_err("the image is bad");
    assert_eq!(error.code(), Code::StartFailedImage, "{error}");
    assert!(error.to_string().contains("; and "), "both failures are told: {error}");
    let lease = LeaseId::parse(&stage.claims()[0]).unwrap();
    let left = claim(&process, &lease).await;
    assert_eq!((left.state(), left.recovery()), ("rollback-cleanup", Some("rollback-cleanup")));
    assert_eq!(left.cloud_id, open(&stage)[0].to_string());
    assert_eq!(stage.keys(), [lease.to_string()]);
    stage.control("DELETE", "/_sim/faults", &json!({}));
    stop(&process.engine, lease.as_str(), &stage.call()).await.expect("finishes");
    assert_eq!((open(&stage).len(), stage.claims().len(), stage.keys().len()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_create_of_another_account_is_not_looked_into() {
    for (key, value) in [("vast_account_id", "1"), ("vast_api_url", "https://elsewhere.example/api/v0")] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", false).await;
        edit(&process, &lease.id, move |claim| {
            claim.cloud_id.clear();
            claim.labels.insert("state".into(), "ambiguous-create".into());
            claim.labels.insert("recovery".into(), "ambiguous-create".into());
            claim.labels.insert(key.into(), value.into());
        })
        .await;
        let before = claim(&process, &lease.id).await;
        let refused = stop(&process.engine, "one", &stage.call()).await.expect_err("refused");
        assert_eq!(refused.code(), Code::IdentityMismatch, "{key}: {refused}");
        assert_eq!(claim(&process, &lease.id).await, before, "same revision");
        assert_eq!(open(&stage), [lease.instance]);
    }
}

// --- what a dead process left is called off ------------------------------------------------------------------------

/// The journal of a run that was killed.
async fn hold(process: &Process, lease: &Warm) -> Journal {
    let mut journal = process.engine.store().journal(&lease.id).await.unwrap().unwrap();
    journal.holder = Some(Holder { since: journal.created_at, ..Holder::default() });
    process.engine.store().write_journal(&journal).await.unwrap();
    journal
}

#[tokio::test(start_paused = true)]
async fn what_was_adopted_is_not_destroyed_for_the_process_that_had_it() {
    for state in ["ready", "provisioning"] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", false).await;
        let mut journal = hold(&process, &lease).await;
        if state == "provisioning" {
            journal.phases.clear();
        } else {
            journal.begin(StepKind::Destroy, InstanceId(lease.instance), journal.created_at);
        }
        process.engine.store().write_journal(&journal).await.unwrap();
        std::fs::remove_file(stage.settings().paths.claim(&lease.id)).unwrap();
        let label = json!({"label": format!("cbx1|{}|one|{state}", lease.id)});
        stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &label);
        adopt(&process.engine, lease.id.as_str(), &stage).await.expect("adopts");
        pass(Duration::from_secs(400)).await;
        let cleaned = process.engine.cleanup(&Default::default(), &stage.call()).await.expect("cleans up");
        assert_eq!(cleaned.summary.destroyed, 0, "{state}: {cleaned:?}");
        assert_eq!(open(&stage), [lease.instance], "{state}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_lease_outlives_the_run_that_died_on_it() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    hold(&process, &lease).await;
    let holder = stage.process();
    let alive = holder.engine.store().operation_lock(&lease.id).await.unwrap();
    let busy = release(&process.engine, "one", ReleaseAction::Keep, &stage).await.expect_err("it is held");
    assert_eq!(busy.code(), Code::LeaseBusy, "{busy}");
    drop(alive);
    let kept = release(&process.engine, "one", ReleaseAction::Keep, &stage).await.expect("keeps");
    assert_eq!(kept.outcome, ReleaseOutcome::Kept);
    pass(Duration::from_secs(400)).await;
    let cleaned = process.engine.cleanup(&Default::default(), &stage.call()).await.expect("cleans up");
    assert_eq!(cleaned.summary.destroyed, 0, "{cleaned:?}");
    assert_eq!(open(&stage), [lease.instance]);
}

//! How a lease is taken into use: adopted, started, touched, acquired, and what a dead process was to do to it called off.

use super::{adopt, release, stopped};
use crate::support::{
    Warm, claim, edit, mutations, open, pass, rented_elsewhere, run, run_on, stop, warm, warnings,
};
use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::lease::{InstanceId, LeaseId, ReleaseAction};
use crabbox_vast_engine::ops::{ReleaseOutcome, StartRequest};
use crabbox_vast_engine::store::{Holder, Journal, StepKind};
use crabbox_vast_engine::{Code, Engine, Result};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::json;
use std::time::Duration;

async fn start(engine: &Engine, lease: &str, stage: &Stage) -> Result<()> {
    let request = StartRequest { identifier: lease.into() };
    engine.start(&request, &stage.call()).await.map(|_| ())
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
    let why = told.why_not.unwrap_or_default();
    assert!(why.contains("could not be looked at over SSH: its key is not attached"), "{why}");
    assert!(warnings(&stage).iter().any(|line| line.contains("what its maker armed may still end it")));
    stop(&process.engine, "tidal-barnacle", &stage.call()).await.expect("released");
    assert_eq!(open(&stage), Vec::<u64>::new());
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
        let refused = run(&process.engine, &stage.call()).await.expect_err("refused");
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
    let (outcome, ()) = tokio::join!(run(&process.engine, &call), async {
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

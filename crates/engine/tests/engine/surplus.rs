//! A further machine of a lease, which is to be destroyed: it holds up nothing that is about the lease's own.

use crate::support::{
    Warm, edit, journal_of, leave, open, pass, rented_elsewhere, stop, surplus, warm, wish,
};
use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::Code;
use crabbox_vast_engine::lease::InstanceId;
use crabbox_vast_engine::ops::cleanup::{ItemKind, ItemOutcome};
use crabbox_vast_engine::ops::{AcquireRequest, CleanupRequest};
use crabbox_vast_engine::store::StepKind;
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::json;
use std::time::Duration;

/// A lease under an id of its caller's choice.
async fn given(stage: &Stage, process: &Process) -> Warm {
    let (slug, lease_id) = (Some("one".to_owned()), Some("cbx_0123456789ab".to_owned()));
    let request = AcquireRequest { keep: true, slug, lease_id };
    let facts = process.engine.acquire(&request, &stage.call()).await.expect("a lease").facts().clone();
    Warm { id: facts.id, slug: facts.slug, instance: facts.instance.0 }
}

/// Destroys of it are refused from now on.
fn refuse(stage: &Stage, instance: u64) {
    let path = format!("/api/v0/instances/{instance}/");
    stage.vast(|vast, _| vast.add_fault(Fault::once("DELETE", &path, Effect::Html(500)).times(None)));
}

/// A start that died beside a surplus, whether or not that one can be destroyed: one cleanup takes it back.
#[tokio::test(start_paused = true)]
async fn a_dead_start_is_taken_back_beside_a_surplus() {
    for refused in [false, true] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        let extra = surplus(&stage, &process, &lease).await;
        if refused {
            refuse(&stage, extra);
        }
        // The start comes some time after the last use.
        pass(Duration::from_secs(60)).await;
        let now = stage.unix_now();
        let start = InstanceId(lease.instance);
        leave(&process, &lease, |journal| journal.begin(StepKind::Start, start, now)).await;
        let cleaned =
            stage.process().engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans");
        assert_eq!(wish(&process, &lease).await.as_deref(), Some("stopped"), "{refused}: {cleaned:?}");
        let left = if refused { vec![lease.instance, extra] } else { vec![lease.instance] };
        assert_eq!(open(&stage), left, "{cleaned:?}");
        let own = cleaned.items.iter().find(|item| item.instance == Some(start)).expect("told");
        assert_eq!((own.action, own.outcome), (ItemKind::Recover, ItemOutcome::Stopped), "{cleaned:?}");
        let other = cleaned.items.iter().find(|item| item.instance == Some(InstanceId(extra))).expect("told");
        let outcome = if refused { ItemOutcome::Failed } else { ItemOutcome::Destroyed };
        assert_eq!((other.action, other.outcome), (ItemKind::Recover, outcome), "{cleaned:?}");
        assert_eq!(cleaned.items.len(), 2, "{cleaned:?}");
    }
}

/// A lease whose time is over is swept although its surplus cannot be destroyed, or its stop fails each time.
#[tokio::test(start_paused = true)]
async fn an_expired_lease_is_swept_whatever_else_of_it_cannot_be_finished() {
    for what in ["surplus", "stop"] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", false).await;
        if what == "surplus" {
            let extra = surplus(&stage, &process, &lease).await;
            refuse(&stage, extra);
        } else {
            let (now, own) = (stage.unix_now(), InstanceId(lease.instance));
            leave(&process, &lease, |journal| journal.begin(StepKind::Stop, own, now)).await;
            let path = format!("/api/v0/instances/{}/", lease.instance);
            let refused = Fault::once("PUT", &path, Effect::Html(500)).times(None);
            stage.vast(|vast, _| vast.add_fault(refused));
        }
        pass(Duration::from_secs(3 * 3600)).await;
        let cleaned =
            stage.process().engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans");
        assert!(!open(&stage).contains(&lease.instance), "{what}: {cleaned:?}");
        assert_eq!(cleaned.summary.failed, 1 + usize::from(what == "surplus"), "{what}: {cleaned:?}");
    }
}

/// One that cannot be destroyed holds up no other.
#[tokio::test(start_paused = true)]
async fn one_surplus_that_stays_keeps_no_other_from_its_end() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let (stays, goes) = (surplus(&stage, &process, &lease).await, surplus(&stage, &process, &lease).await);
    stage.control(
        "POST",
        &format!("/_sim/instances/{stays}"),
        &json!({"label": "cbx1|cbx_aaaaaaaaaaaa|other|ready"}),
    );
    let cleaned =
        stage.process().engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans");
    assert_eq!(open(&stage), [lease.instance, stays], "{goes}: {cleaned:?}");
}

/// A claim that was edited by hand names a stranger's machine when a stop cannot get through. Once it is right again, that
/// wish makes the stranger's machine no further one of the lease, even one that has its label.
#[tokio::test(start_paused = true)]
async fn what_was_wished_for_by_a_wrong_claim_is_none_of_the_lease() {
    for labelled in [false, true] {
        let stage = Stage::new();
        let process = stage.process();
        // An id of the caller's choice may be in use on another machine, too.
        let lease =
            if labelled { given(&stage, &process).await } else { warm(&stage, &process, "one", true).await };
        let label = if labelled { format!("cbx1|{}|one|ready", lease.id) } else { "hand made".to_owned() };
        let stranger = rented_elsewhere(&stage, &label);
        edit(&process, &lease.id, move |claim| claim.set_instance(InstanceId(stranger))).await;
        stage.vast(|vast, _| vast.add_fault(Fault::once("GET", "/api/*", Effect::Html(502)).times(None)));
        let error = stop(&process.engine, "one", &stage.call()).await.expect_err("it is not let through");
        assert_eq!(error.code(), Code::ApiUnavailable, "{error}");
        assert!(journal_of(&process, &lease.id).await.is_wish(StepKind::Destroy, InstanceId(stranger)));
        stage.control("DELETE", "/_sim/faults", &json!({}));
        let own = InstanceId(lease.instance);
        edit(&process, &lease.id, move |claim| claim.set_instance(own)).await;
        // One read misses it.
        let path = format!("/api/v0/instances/{stranger}/");
        let missing = Effect::Answer {
            status: 404,
            content_type: "application/json".into(),
            body: r#"{"success":false,"error":"no_such_instance","msg":"not found"}"#.into(),
            headers: Vec::new(),
        };
        stage.vast(|vast, _| vast.add_fault(Fault::once("GET", &path, missing)));
        let cleaned =
            stage.process().engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans");
        assert_eq!(cleaned.summary.failed, 0, "{cleaned:?}");
        assert_eq!(open(&stage), [lease.instance, stranger], "{cleaned:?}");
        stop(&process.engine, "one", &stage.call()).await.expect("it is clear whose is whose");
        assert_eq!((open(&stage), stage.claims().len()), (vec![stranger], 0));
    }
}

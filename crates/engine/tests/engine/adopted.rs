//! Taking a lease over that has its claim here: what a dead process had meant to do with its machine is called off, and
//! nothing else.

use crate::support::{claim, edit, journal_of, leave, open, rented_elsewhere, stop, surplus, warm, warnings};
use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::lease::{InstanceId, ReleaseAction};
use crabbox_vast_engine::ops::{AdoptRequest, Adopted, CleanupRequest, ReleaseRequest};
use crabbox_vast_engine::store::StepKind;
use crabbox_vast_engine::{Code, Result};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::json;

async fn adopt(stage: &Stage, process: &Process, identifier: &str) -> Result<Adopted> {
    let request = AdoptRequest { identifier: identifier.to_owned(), keep: false };
    process.engine.adopt(&request, &stage.call()).await
}

#[tokio::test(start_paused = true)]
async fn a_surplus_is_still_to_be_destroyed_after_an_adoption() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let extra = surplus(&stage, &process, &lease).await;
    assert!(open(&stage).contains(&extra));
    adopt(&stage, &process, "one").await.expect("its key is attached");
    stop(&process.engine, "one", &stage.call()).await.expect("stops");
    assert_eq!(open(&stage), Vec::<u64>::new());
}

/// The start of a dead process took effect: whoever takes the lease over has what it was for.
#[tokio::test(start_paused = true)]
async fn a_start_that_took_effect_is_the_adopters() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    let action = Some(ReleaseAction::Stop);
    let paused = ReleaseRequest { identifier: "one".into(), action };
    process.engine.release(&paused, &stage.call()).await.expect("stops");
    let running = json!({"actual_status": "running", "intended_status": "running", "cur_state": "running"});
    stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &running);
    let (now, instance) = (stage.unix_now(), InstanceId(lease.instance));
    leave(&process, &lease, |journal| journal.begin(StepKind::Start, instance, now)).await;
    adopt(&stage, &process, "one").await.expect("its key is attached");
    assert_ne!(claim(&process, &lease.id).await.state(), "stopped");
    assert!(!journal_of(&process, &lease.id).await.is_open(StepKind::Start, instance));
    process.engine.touch("one", None, &stage.call()).await.expect("it is in use");
    process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up");
    assert_eq!(open(&stage), [lease.instance]);
}

/// An adoption that is refused has changed nothing.
#[tokio::test(start_paused = true)]
async fn a_refused_adoption_calls_nothing_off() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let extra = surplus(&stage, &process, &lease).await;
    stage.vast(|vast, _| vast.evict(lease.instance));
    let before = journal_of(&process, &lease.id).await;
    let refused = adopt(&stage, &process, &extra.to_string()).await.expect_err("the claim names another one");
    assert_eq!(journal_of(&process, &lease.id).await, before, "{refused}");
}

/// What a dead process had meant to do with a lease is not known then, and would be done.
#[tokio::test(start_paused = true)]
async fn a_lease_whose_journal_is_unreadable_is_not_taken_over() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let journal = stage.settings().paths.journal().join(format!("{}.json", lease.id));
    std::fs::write(&journal, b"{").expect("written");
    let refused = adopt(&stage, &process, "one").await.expect_err("it would be nobody's");
    assert_eq!(refused.code(), Code::ClaimCorrupt, "{refused}");
    std::fs::remove_file(&journal).expect("removed");
    adopt(&stage, &process, "one").await.expect("takes it over");
}

/// What crabbox failed to give back, and somebody takes over instead, is theirs.
#[tokio::test(start_paused = true)]
async fn what_crabbox_had_given_up_is_not_given_back_once_it_is_adopted() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    process.engine.store().remove_journal(&lease.id).await.expect("as crabbox, which has none");
    edit(&process, &lease.id, |claim| {
        claim.labels.insert("state".into(), "rollback-cleanup".into());
        claim.labels.insert("recovery".into(), "rollback-cleanup".into());
        claim.last_used_at.clone_from(&claim.claimed_at);
    })
    .await;
    adopt(&stage, &process, "one").await.expect("its key is attached");
    let cleaned = process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up");
    assert_eq!(open(&stage), [lease.instance], "{cleaned:?}");
    process.engine.touch("one", None, &stage.call()).await.expect("it is in use");
}

/// A failed acquire of ours whose clean-up died before it was on record is still to be given back.
#[tokio::test(start_paused = true)]
async fn what_was_being_given_up_is_given_back_whatever_it_was_before() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    edit(&process, &lease.id, |claim| {
        claim.labels.insert("state".into(), "rollback-cleanup".into());
        claim.labels.insert("recovery".into(), "rollback-cleanup".into());
    })
    .await;
    let cleaned = process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up");
    assert_eq!(open(&stage), Vec::<u64>::new(), "{cleaned:?}");
}

/// A machine that turned out too dear is taken over knowingly.
#[tokio::test(start_paused = true)]
async fn the_price_of_what_is_adopted_is_told_and_counted() {
    let stage = Stage::new();
    let process = stage.process_with(None, |settings| {
        settings.max_dph_total = Some(crabbox_vast_engine::lease::DollarsPerHour(1.0));
    });
    let lease = warm(&stage, &process, "one", true).await;
    leave(&process, &lease, |journal| {
        journal.phases.clear();
        journal.price = None;
    })
    .await;
    edit(&process, &lease.id, |claim| {
        claim.labels.insert("state".into(), "provisioning".into());
    })
    .await;
    stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &json!({ "dph_total": 1.5 }));
    adopt(&stage, &process, "one").await.expect("its key is attached");
    assert_eq!(journal_of(&process, &lease.id).await.price, Some(1.5));
    let said = warnings(&stage);
    assert!(said.iter().any(|warning| warning.contains("above the cap")), "{said:?}");
}

/// What the claim says about its end stands, and whoever asked for something else is told.
#[tokio::test(start_paused = true)]
async fn an_adoption_that_cannot_keep_a_lease_says_so() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", false).await;
    let request = AdoptRequest { identifier: "one".into(), keep: true };
    process.engine.adopt(&request, &stage.call()).await.expect("its key is attached");
    assert_eq!(claim(&process, &lease.id).await.label("keep"), Some("false"));
    let said = warnings(&stage);
    assert!(said.iter().any(|warning| warning.contains("--keep changes nothing")), "{said:?}");
}

/// A list from which rows are missing does not show whether a second machine carries the label.
#[tokio::test(start_paused = true)]
async fn nothing_is_adopted_on_a_list_that_is_not_whole() {
    for (whole, outcome) in [(true, Ok(())), (false, Err(Code::ApiMalformed))] {
        let stage = Stage::new();
        let process = stage.process();
        let label = "cbx1|cbx_0123456789ab|far|ready";
        let far = rented_elsewhere(&stage, label);
        let shown = json!({"id": far, "label": label, "actual_status": "running", "cur_state": "running"});
        let list =
            json!({"success": true, "instances": [shown], "total_instances": if whole { 1 } else { 2 }});
        let answer = Effect::Answer {
            status: 200,
            content_type: "application/json".into(),
            body: list.to_string(),
            headers: Vec::new(),
        };
        stage.vast(|vast, _| vast.add_fault(Fault::once("GET", "/api/v1/instances/", answer).times(None)));
        let adopted = adopt(&stage, &process, &far.to_string()).await;
        assert_eq!(adopted.map(|_| ()).map_err(|error| error.code()), outcome, "whole: {whole}");
        assert_eq!(stage.claims().len(), usize::from(whole));
    }
}

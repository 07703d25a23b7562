//! A caller who gives up once the work is done, and before it is told so: what it would have got is given back.

use crate::support::{leave, open, pass, run_on, warm};
use crate::virtual_time::Stage;
use crabbox_vast_engine::lease::{InstanceId, ReleaseAction};
use crabbox_vast_engine::ops::AcquireRequest;
use crabbox_vast_engine::store::StepKind;
use crabbox_vast_engine::{Call, Code, Event};
use crabbox_vast_sim::api::{Effect, Fault};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const ID: &str = "cbx_0123456789ab";

fn request(keep: bool) -> AcquireRequest {
    AcquireRequest { keep, slug: Some("one".into()), lease_id: Some(ID.into()) }
}

/// What was rented for nobody is destroyed, whether or not it was to be kept, and whatever a release would do; the same call
/// rents anew.
#[tokio::test(start_paused = true)]
async fn a_new_lease_whose_caller_gave_up_is_destroyed() {
    for (keep, action) in
        [(false, ReleaseAction::Destroy), (true, ReleaseAction::Keep), (true, ReleaseAction::Stop)]
    {
        let stage = Stage::new();
        let cancel = CancellationToken::new();
        let cancels = cancel.clone();
        let gives_up = move |event| {
            if matches!(event, Event::Provisioned { .. }) {
                cancels.cancel();
            }
        };
        let call = Call::new(gives_up, cancel.clone());
        let process = stage.process_with(None, |settings| settings.release_action = action);
        let error = process.engine.acquire(&request(keep), &call).await.err().expect("given up");
        assert_eq!(error.code(), Code::Cancelled, "{error}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("proved gone")), "{error:?}");
        assert!(
            cancel.is_cancelled() && open(&stage).is_empty() && stage.claims().is_empty(),
            "keep: {keep}"
        );
        process.engine.acquire(&request(keep), &stage.call()).await.expect("the same call rents anew");
        assert_eq!(open(&stage).len(), 1);
    }
}

/// Who gives up right before the create is sent gets no machine.
#[tokio::test(start_paused = true)]
async fn a_create_is_not_sent_for_a_caller_who_gave_up() {
    let stage = Stage::new();
    let cancel = CancellationToken::new();
    let cancels = cancel.clone();
    let gives_up = move |event| {
        if matches!(event, Event::Provisioning { .. }) {
            cancels.cancel();
        }
    };
    let call = Call::new(gives_up, cancel);
    let error = stage.process().engine.acquire(&request(true), &call).await.err().expect("given up");
    assert_eq!((error.code(), stage.ledger().created), (Code::Cancelled, 0), "{error}");
    assert!(stage.claims().is_empty());
    stage.process().engine.acquire(&request(true), &stage.call()).await.expect("the same call rents");
}

/// Who got in to it before its caller gave up keeps it.
#[tokio::test(start_paused = true)]
async fn a_new_lease_that_somebody_uses_is_theirs() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = process.engine.acquire(&request(true), &stage.call()).await.expect("a lease");
    pass(Duration::from_secs(5)).await;
    run_on(&stage.process().engine, Some("one"), false, &stage.call()).await.expect("it runs");
    let left = lease.undeliver(&stage.call()).await;
    assert_eq!((left.code(), left.details()["lease"].as_str()), (Code::Cancelled, Some(ID)), "{left:?}");
    assert_eq!((open(&stage).len(), stage.claims().len()), (1, 1));
}

/// A lease that a repeated acquire only opened was there before: it stays, whoever has it.
#[tokio::test(start_paused = true)]
async fn a_lease_that_was_there_before_stays_when_a_repeated_call_is_given_up() {
    for keep in [false, true] {
        let stage = Stage::new();
        let process = stage.process();
        let first = process.engine.acquire(&request(keep), &stage.call()).await.expect("a lease");
        let instance = first.facts().instance;
        drop(first);
        // What is finished beside it takes its time.
        let other = warm(&stage, &process, "other", true).await;
        let now = stage.unix_now();
        leave(&process, &other, |journal| journal.begin(StepKind::Destroy, InstanceId(other.instance), now))
            .await;
        let path = format!("/api/v0/instances/{}/", other.instance);
        stage.vast(|vast, _| vast.add_fault(Fault::once("DELETE", &path, Effect::Html(500)).times(None)));
        let cancel = CancellationToken::new();
        let call = stage.call_with(cancel.clone());
        let again = stage.process();
        let wanted = request(keep);
        let (given_up, ()) = tokio::join!(again.engine.acquire(&wanted, &call), async {
            pass(Duration::from_secs(15)).await;
            cancel.cancel();
        });
        assert_eq!(given_up.err().expect("given up").code(), Code::Cancelled, "keep: {keep}");
        assert_eq!(open(&stage), [instance.0, other.instance], "keep: {keep}");
        assert!(stage.claims().contains(&ID.to_owned()), "keep: {keep}");
    }
}

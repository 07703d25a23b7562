//! A repeated acquire that leaves its limits out: what was asked for at first holds all the same.

use super::replay::{ID, acquire, request};
use crate::support::{claim, journal_of};
use crate::virtual_time::Stage;
use crabbox_vast_engine::Code;
use crabbox_vast_engine::config::Settings;
use crabbox_vast_engine::lease::{Dollars, LeaseId, ReleaseAction};
use crabbox_vast_engine::store::DeadmanRecord;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The first call died at any step; the second one leaves the limits out, and they hold all the same.
#[tokio::test(start_paused = true)]
async fn a_repeated_acquire_that_leaves_its_limits_out_has_those_of_the_first() {
    let limits = |settings: &mut Settings| {
        (settings.ttl, settings.ttl_explicit) = (Duration::from_secs(3600), true);
        settings.max_cost = Some(Dollars(0.3));
    };
    let clean = Stage::new();
    let process = clean.process_with(None, limits);
    process.engine.acquire(&request(true), &clean.call()).await.expect("a clean acquire");
    let steps = process.steps.load(Ordering::SeqCst);
    let mut bound = 0;
    for kill_at in 1..=steps {
        let what = format!("killed at step {kill_at}");
        let stage = Stage::new();
        let process = stage.process_with(Some(kill_at), limits);
        drop(process.live(process.engine.acquire(&request(true), &stage.call())).await);
        let begun = process.engine.store().journal(&LeaseId::parse(ID).unwrap()).await.unwrap().is_some();
        drop(process);
        let process = stage.process();
        let lease = process.engine.acquire(&request(true), &stage.call()).await.expect(&what);
        if !begun {
            // Nothing was on record yet: it is the first one.
            continue;
        }
        bound += 1;
        let journal = journal_of(&process, &lease.facts().id).await;
        let (cost, ttl) = (journal.request.max_cost, journal.request.ttl_secs);
        assert_eq!((cost, ttl), (Some(0.3), Some(3600)), "{what}");
        assert!(lease.facts().price.is_some_and(|price| price.0 <= 0.3), "{what}: {:?}", lease.facts().price);
        let armed = journal.deadman.unwrap_or_default();
        assert_eq!(armed.ttl_secs, Some(3600), "{what}: {armed:?}");
        let claim = claim(&process, &lease.facts().id).await;
        assert_eq!(claim.label("ttl_secs"), Some("3600"), "{what}");
    }
    assert!(bound > 10, "{bound} of {steps}");
}

/// One of the two limits is given again, the other one left out.
#[tokio::test(start_paused = true)]
async fn a_repeated_acquire_may_leave_out_the_ttl_that_its_limit_needs() {
    let stage = Stage::new();
    let ttl = |settings: &mut Settings| {
        (settings.ttl, settings.ttl_explicit) = (Duration::from_secs(3600), true);
    };
    let limit = |settings: &mut Settings| settings.max_cost = Some(Dollars(0.3));
    let both = |settings: &mut Settings| {
        ttl(settings);
        limit(settings);
    };
    let alone = stage.process_with(None, limit);
    let error = alone.engine.acquire(&request(true), &stage.call()).await.err().expect("no TTL");
    assert_eq!((error.code(), stage.calls.lock().unwrap().len()), (Code::InvalidArgument, 0), "{error}");
    stage.process_with(None, both).engine.acquire(&request(true), &stage.call()).await.expect("acquires");
    for again in [stage.process_with(None, limit), stage.process_with(None, ttl)] {
        again.engine.acquire(&request(true), &stage.call()).await.expect("the same lease");
    }
    assert_eq!(stage.ledger().created, 1);
}

/// What is left alone at its end gets no end that nobody asked for.
#[tokio::test(start_paused = true)]
async fn a_repeated_acquire_arms_what_the_first_one_would_have_armed() {
    let left_alone = |settings: &mut Settings| settings.release_action = ReleaseAction::Keep;
    let clean = Stage::new();
    let process = clean.process_with(None, left_alone);
    acquire(&process.engine, &clean.call()).await.expect("a clean acquire");
    let steps = process.steps.load(Ordering::SeqCst);
    let armed = journal_of(&process, &LeaseId::parse(ID).unwrap()).await.deadman;
    for kill_at in 1..=steps {
        let stage = Stage::new();
        let process = stage.process_with(Some(kill_at), left_alone);
        drop(process.live(acquire(&process.engine, &stage.call())).await);
        drop(process);
        let process = stage.process_with(None, left_alone);
        acquire(&process.engine, &stage.call()).await.expect("takes it up");
        let again = journal_of(&process, &LeaseId::parse(ID).unwrap()).await.deadman;
        let ttl = |record: &Option<DeadmanRecord>| record.as_ref().and_then(|record| record.ttl_secs);
        assert_eq!(ttl(&again), ttl(&armed), "killed at step {kill_at}");
    }
}

//! Never overspend: bids, the cap on what was really rented, a lease's own limit, the day's budget, the credit.

mod virtual_time;

use crabbox_vast_engine::config::{InstanceType, Settings};
use crabbox_vast_engine::lease::{Dollars, DollarsPerHour};
use crabbox_vast_engine::ops::{AcquireRequest, Lease};
use crabbox_vast_engine::{Call, Code, Engine, Error, Event, Result};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::{Value, json};
use std::time::Duration;
use virtual_time::Stage;

async fn acquire(engine: &Engine, call: &Call) -> Result<Lease> {
    engine.acquire(&AcquireRequest::default(), call).await
}

/// Acquires with these settings while `meddle` works on the first instance that appears; the error.
async fn refused(stage: &Stage, change: impl FnOnce(&mut Settings), meddle: Option<Value>) -> Error {
    let process = stage.process_with(None, change);
    let call = stage.call();
    let meddling = async {
        let Some(columns) = &meddle else { return };
        while stage.ledger().open.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let id = stage.ledger().open[0].id;
        stage.control("POST", &format!("/_sim/instances/{id}"), columns);
    };
    let (outcome, ()) = tokio::join!(acquire(&process.engine, &call), async {
        tokio::select! { () = meddling => {}, () = tokio::time::sleep(Duration::from_secs(30)) => {} }
    });
    let error = outcome.map(|lease| lease.facts().instance).expect_err("refused");
    let ledger = stage.ledger();
    assert_eq!(ledger.open.len(), 0, "nothing is left, not even stopped: {error}");
    assert_eq!(stage.claims(), Vec::<String>::new(), "{error}");
    error
}

fn bidding(bid: Option<f64>) -> impl FnOnce(&mut Settings) {
    move |settings| {
        settings.instance_type = InstanceType::Interruptible;
        settings.bid = bid.map(DollarsPerHour);
    }
}

/// The bodies of the creates that were sent.
fn creates(stage: &Stage) -> Vec<Value> {
    let requests = stage.control("GET", "/_sim/requests", &Value::Null);
    let all = requests["requests"].as_array().cloned().unwrap_or_default();
    let create = |one: &Value| one["path"].as_str().is_some_and(|path| path.starts_with("/api/v0/asks/"));
    all.into_iter().filter(create).map(|one| one["body"].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_interruptible_rental_carries_its_bid() {
    for (bid, cap) in [(None, None), (None, Some(0.3)), (Some(0.29), Some(0.4))] {
        let stage = Stage::new();
        let process = stage.process_with(None, |settings| {
            bidding(bid)(settings);
            settings.max_dph_total = cap.map(DollarsPerHour);
        });
        let lease = acquire(&process.engine, &stage.call()).await.expect("acquires");
        let bodies = creates(&stage);
        let sent = bodies[0]["price"].as_f64().expect("the price makes it interruptible");
        assert!(bid.is_none_or(|bid| (sent - bid).abs() < 1e-9), "{sent}");
        let price = lease.facts().price.expect("a price");
        assert!(price.0 > sent && cap.is_none_or(|cap| price.0 <= cap), "{price} with its disk");
        let shown = stage.control("GET", "/_sim/state", &Value::Null);
        assert_eq!(shown["instances"][0]["is_bid"], true);
    }
    let stage = Stage::new();
    acquire(&stage.process().engine, &stage.call()).await.expect("acquires");
    assert_eq!(creates(&stage)[0].get("price"), None, "on demand sends none");
}

#[tokio::test(start_paused = true)]
async fn a_bid_that_cannot_be_right_is_refused_before_any_call() {
    type Change = fn(&mut Settings);
    let cases: [(Change, bool, &str); 3] = [
        (
            |settings| {
                bidding(Some(0.6))(settings);
                settings.max_dph_total = Some(DollarsPerHour(0.5));
            },
            false,
            "over the price cap",
        ),
        (|settings| settings.bid = Some(DollarsPerHour(0.3)), false, "rented on demand"),
        (|settings| settings.max_cost = Some(Dollars(1.0)), true, "nothing would end it"),
    ];
    for (change, keep, message) in cases {
        let stage = Stage::new();
        let process = stage.process_with(None, change);
        let request = AcquireRequest { keep, ..AcquireRequest::default() };
        let outcome = process.engine.acquire(&request, &stage.call()).await.map(|_| ());
        let error = outcome.expect_err(message);
        assert_eq!((error.code(), error.exit_code()), (Code::InvalidArgument, 2), "{error}");
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(stage.calls.lock().expect("not poisoned").len(), 0, "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bid_too_low_is_told_with_what_would_win() {
    let stage = Stage::new();
    let error = refused(&stage, bidding(Some(0.01)), None).await;
    assert_eq!(error.code(), Code::BidTooLow, "{error}");
    assert!(error.details()["lowestBid"].as_f64().is_some_and(|bid| bid > 0.01), "{error:?}");
    assert_eq!(stage.ledger().created, 0);
    // The market moved between search and create: the vendor refuses, and leaves a stopped instance.
    let stage = Stage::new();
    stage.control("POST", "/_sim/market", &json!({"min_bid_factor": 1.0}));
    let fault = Fault::once("POST", "/api/v0/bundles/", Effect::Delay(Duration::from_secs(1)));
    stage.vast(|vast, _| vast.add_fault(fault));
    let process = stage.process_with(None, bidding(Some(0.25)));
    let call = stage.call();
    let (outcome, ()) = tokio::join!(acquire(&process.engine, &call), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stage.control("POST", "/_sim/market", &json!({"min_bid_factor": 9.0}));
    });
    let error = outcome.map(|_| ()).expect_err("the bid lost");
    assert_eq!(error.code(), Code::BidTooLow, "{error}");
    let ledger = stage.ledger();
    assert_eq!((ledger.created, ledger.open.len()), (1, 0), "the stopped instance is destroyed");
    assert_eq!(stage.claims(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_rental_of_the_other_kind_is_destroyed() {
    let error = refused(&Stage::new(), |_| (), Some(json!({"is_bid": true}))).await;
    assert_eq!(error.code(), Code::RentalMismatch, "{error}");
    let error = refused(&Stage::new(), bidding(None), Some(json!({"is_bid": false}))).await;
    assert_eq!(error.code(), Code::RentalMismatch, "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_cap_holds_on_a_price_that_shows_late() {
    let cap = |settings: &mut Settings| settings.max_dph_total = Some(DollarsPerHour(0.9));
    let stage = Stage::new();
    let process = stage.process_with(None, cap);
    let call = stage.call();
    let (outcome, ()) = tokio::join!(acquire(&process.engine, &call), async {
        while stage.ledger().open.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let id = stage.ledger().open[0].id;
        let show = |price: Value| {
            stage.control("POST", &format!("/_sim/instances/{id}"), &json!({"dph_total": price}))
        };
        show(Value::Null);
        tokio::time::sleep(Duration::from_secs(60)).await;
        show(json!(1.5));
    });
    assert_eq!(outcome.map(|_| ()).map_err(|error| error.code()), Err(Code::PriceCapExceeded));
    assert_eq!(stage.ledger().open.len(), 0);
    // It never shows while reads are watched, and the read after ready shows it: too dear, too.
    let error = refused(&Stage::new(), cap, Some(json!({"dph_total": 0.91}))).await;
    assert_eq!(error.code(), Code::PriceCapExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_lease_has_a_limit_of_its_own() {
    // 90 minutes at about 0.2 $/h cost about 0.3 $: only the cheapest fit.
    let stage = Stage::new();
    let process = stage.process_with(None, |settings| settings.max_cost = Some(Dollars(0.35)));
    let lease = acquire(&process.engine, &stage.call()).await.expect("a cheaper offer further down");
    assert!(lease.facts().price.is_some_and(|price| price.0 * 1.5 <= 0.35), "{:?}", lease.facts().price);
    let stage = Stage::new();
    let error = refused(&stage, |settings| settings.max_cost = Some(Dollars(0.1)), None).await;
    assert_eq!((error.code(), stage.ledger().created), (Code::CostLimitExceeded, 0), "{error}");
    let hint = error.hint_text().expect("a hint");
    assert!(hint.contains("--ttl ") && hint.contains("would fit"), "{hint}");
    // And on what was rented.
    let limit = |settings: &mut Settings| settings.max_cost = Some(Dollars(0.9));
    let error = refused(&Stage::new(), limit, Some(json!({"dph_total": 0.61}))).await;
    assert_eq!(error.code(), Code::PriceCapExceeded, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_day_has_a_budget_and_its_last_dollar_is_spent_once() {
    let stage = Stage::new();
    let budget = |settings: &mut Settings| {
        settings.max_cost_per_day = Some(Dollars(0.4));
        settings.max_dph_total = Some(DollarsPerHour(0.5));
    };
    let (one, other) = (stage.process_with(None, budget), stage.process_with(None, budget));
    let call = stage.call();
    let (first, second) = tokio::join!(acquire(&one.engine, &call), acquire(&other.engine, &call));
    let (lease, error) = match (first, second) {
        (Ok(lease), Err(error)) | (Err(error), Ok(lease)) => (lease, error),
        (first, second) => panic!("{:?} {:?}", first.map(|_| ()), second.map(|_| ())),
    };
    assert_eq!(error.code(), Code::CostLimitExceeded, "{error}");
    assert_eq!(stage.ledger().created, 1);
    assert_eq!(stage.claims(), [lease.facts().id.to_string()], "the refused one leaves nothing");
    // Given back after some minutes, most of it is free again; a day later all of it.
    lease.release(None, &call).await.expect("releases");
    let process = stage.process_with(None, budget);
    let again = acquire(&process.engine, &call).await.expect("there is budget again");
    again.release(None, &call).await.expect("releases");
    assert_eq!(stage.ledger().created, 2);
}

#[tokio::test(start_paused = true)]
async fn too_little_credit_is_told_before_anything_is_rented() {
    let stage = Stage::with(|settings| settings.credit = 0.05);
    let error = refused(&stage, |_| (), None).await;
    assert_eq!((error.code(), stage.ledger().created), (Code::InsufficientCredit, 0), "{error}");
    assert_eq!(creates(&stage).len(), 0, "it was not even asked");
    let stage = Stage::with(|settings| settings.credit = 0.05);
    let process = stage.process_with(None, |settings| settings.ttl = Duration::from_secs(300));
    acquire(&process.engine, &stage.call()).await.expect("five minutes are covered");
}

#[tokio::test(start_paused = true)]
async fn an_outbid_lease_says_so_everywhere() {
    let stage = Stage::new();
    let process = stage.process_with(None, bidding(None));
    let call = stage.call();
    let lease = acquire(&process.engine, &call).await.expect("acquires");
    let id = lease.facts().instance;
    let outbid = json!({"actual_status": "exited", "intended_status": "stopped", "cur_state": "stopped",
                        "next_state": "stopped"});
    stage.control("POST", &format!("/_sim/instances/{id}"), &outbid);
    let status = process.engine.status(lease.facts().id.as_str(), &call).await.expect("shows");
    assert_eq!((status.state.as_str(), status.ready), ("outbid", false));
    assert!(status.advice.as_deref().is_some_and(|advice| advice.contains("billed on")), "{status:?}");
    assert!(status.to_json()["advice"].is_string());
    let told = |event: &Event| matches!(event, Event::Outbid { instance, .. } if *instance == id);
    assert!(stage.events.lock().expect("not poisoned").iter().any(told));
    let error =
        process.engine.open(lease.facts().id.as_str(), false, &call).await.map(|_| ()).expect_err("stopped");
    assert_eq!(error.code(), Code::Outbid, "{error}");
    let waited = process.engine.status_wait(lease.facts().id.as_str(), Duration::from_secs(60), &call).await;
    assert_eq!(waited.map(|_| ()).map_err(|error| error.code()), Err(Code::Outbid));
    // Stopped by ourselves is not outbid.
    let listed = process.engine.list(false, &call).await.expect("lists");
    assert!(listed[0].accrued_dollars.is_some_and(|cost| cost > 0.0));
    assert!(listed[0].line().contains(" target=linux cost=$"), "{}", listed[0].line());
}

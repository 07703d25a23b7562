//! Never overspend: bids, the cap on what was really rented, a lease's own limit, the day's budget, the credit.

use crate::support::warnings;
use crate::virtual_time::Stage;
use crabbox_vast_engine::config::{InstanceType, Settings};
use crabbox_vast_engine::lease::{Dollars, DollarsPerHour};
use crabbox_vast_engine::ops::{AcquireRequest, Lease};
use crabbox_vast_engine::{Call, Code, Engine, Error, Event, Result};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::{Value, json};
use std::time::Duration;

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

/// The day holds for what was rented, not only for what was offered.
#[tokio::test(start_paused = true)]
async fn a_day_holds_on_the_price_that_the_instance_shows() {
    let budget = |settings: &mut Settings| settings.max_cost_per_day = Some(Dollars(2.0));
    let began = tokio::time::Instant::now();
    let error = refused(&Stage::new(), budget, Some(json!({"dph_total": 5.0}))).await;
    assert_eq!((error.code(), error.exit_code()), (Code::PriceCapExceeded, 5), "{error}");
    assert!(error.to_string().contains("day's budget"), "{error}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("vast.maxCostPerDay")), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(40), "before it is ready: {:?}", began.elapsed());
    // A price that is shown only once it is ready.
    let stage = Stage::new();
    let process = stage.process_with(None, budget);
    let call = stage.call();
    let (outcome, ()) = tokio::join!(acquire(&process.engine, &call), async {
        while stage.ledger().open.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let path = format!("/_sim/instances/{}", stage.ledger().open[0].id);
        stage.control("POST", &path, &json!({"dph_total": null}));
        let ready = |call: &String| call.starts_with("PUT /api/v0/instances/");
        while !stage.calls.lock().expect("not poisoned").iter().any(ready) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stage.control("POST", &path, &json!({"dph_total": 5.0}));
    });
    assert_eq!(outcome.map(|_| ()).map_err(|error| error.code()), Err(Code::PriceCapExceeded));
    assert_eq!((stage.ledger().open.len(), stage.claims().len()), (0, 0));
}

/// Two leases that turn out dearer, each of which fits alone: the second is given back.
#[tokio::test(start_paused = true)]
async fn the_last_dollar_is_spent_once_on_dearer_instances_too() {
    let stage = Stage::new();
    let budget = |settings: &mut Settings| settings.max_cost_per_day = Some(Dollars(3.0));
    let (one, other) = (stage.process_with(None, budget), stage.process_with(None, budget));
    let call = stage.call();
    let meddle = async {
        let mut done = std::collections::BTreeSet::new();
        while done.len() < 2 {
            for instance in stage.ledger().open {
                if done.insert(instance.id) {
                    let path = format!("/_sim/instances/{}", instance.id);
                    stage.control("POST", &path, &json!({"dph_total": 1.5}));
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (first, second, ()) =
        tokio::join!(acquire(&one.engine, &call), acquire(&other.engine, &call), meddle);
    let (lease, error) = match (first, second) {
        (Ok(lease), Err(error)) | (Err(error), Ok(lease)) => (lease, error),
        (first, second) => panic!("{:?} {:?}", first.map(|_| ()), second.map(|_| ())),
    };
    assert!(matches!(error.code(), Code::CostLimitExceeded | Code::PriceCapExceeded), "{error}");
    let ledger = stage.ledger();
    assert_eq!((ledger.created, ledger.open.len()), (2, 1), "{error}");
    assert_eq!(stage.claims(), [lease.facts().id.to_string()], "{error}");
    // One that does not fit at all, and was taken for as dear as its offer.
    assert_eq!(lease.facts().price, Some(DollarsPerHour(1.5)));
}

/// Where a price never shows, whatever limit there is was checked on the offer alone, and that is said.
#[tokio::test(start_paused = true)]
async fn a_limit_that_no_price_can_be_held_against_is_told() {
    type Change = fn(&mut Settings);
    let limits: [(Change, bool); 4] = [
        (|settings| settings.max_dph_total = Some(DollarsPerHour(0.9)), true),
        (|settings| settings.max_cost = Some(Dollars(0.9)), true),
        (|settings| settings.max_cost_per_day = Some(Dollars(3.0)), true),
        (|_| (), false),
    ];
    for (change, told) in limits {
        let stage = Stage::new();
        let process = stage.process_with(None, |settings| {
            settings.max_dph_total = None;
            change(settings);
        });
        let call = stage.call();
        let meddle = async {
            while stage.ledger().open.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let path = format!("/_sim/instances/{}", stage.ledger().open[0].id);
            stage.control("POST", &path, &json!({"dph_total": null}));
        };
        let (outcome, ()) = tokio::join!(acquire(&process.engine, &call), meddle);
        outcome.expect("acquires");
        let said = warnings(&stage).iter().any(|text| text.contains("shows no price"));
        assert_eq!(said, told, "{:?}", warnings(&stage));
    }
}

/// A start that outlasts the lease's time says so; a machine that would hardly be up before its end is not rented.
#[tokio::test(start_paused = true)]
async fn a_start_that_uses_the_time_up_is_told() {
    for (ttl, fails, told) in [
        (20, false, Some("took longer than the time to live")),
        (80, true, Some("no other machine is tried")),
        (600, false, None),
    ] {
        let stage = Stage::new();
        let process = stage.process_with(None, |settings| {
            settings.ttl = Duration::from_secs(ttl);
            settings.ttl_explicit = true;
        });
        let call = stage.call();
        let meddle = async {
            while stage.ledger().open.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if fails {
                tokio::time::sleep(Duration::from_secs(30)).await;
                let path = format!("/_sim/instances/{}", stage.ledger().open[0].id);
                let broken = json!({"freeze": true, "status_msg": "OCI runtime create failed: x"});
                stage.control("POST", &path, &broken);
            }
        };
        let (outcome, ()) = tokio::join!(acquire(&process.engine, &call), meddle);
        assert_eq!((outcome.is_err(), stage.ledger().created), (fails, 1), "{ttl}");
        let said = warnings(&stage).into_iter().find(|text| text.contains("time to live"));
        assert_eq!(said.is_some(), told.is_some(), "{ttl}: {said:?}");
        assert!(told.is_none_or(|told| said.is_some_and(|said| said.contains(told))), "{ttl}");
    }
}

/// What runs already spends the same credit.
#[tokio::test(start_paused = true)]
async fn a_credit_that_others_use_up_too_is_told() {
    for (running, told) in [("running", true), ("exited", false)] {
        let stage = Stage::with(|settings| settings.credit = 1.5);
        let other = json!({"label": "hand made", "actual_status": running, "dph_total": 2.0, "storage_total_cost": 0.01});
        stage.control("POST", "/_sim/instances", &other);
        acquire(&stage.process().engine, &stage.call()).await.expect("a warning is no refusal");
        let said: Vec<String> = warnings(&stage).into_iter().filter(|text| text.contains("credit")).collect();
        assert_eq!(said.len(), usize::from(told), "{running}: {said:?}");
        assert!(said.iter().all(|text| text.contains("$2.0000/h") && text.contains("lasts")), "{said:?}");
    }
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

/// A machine that stands still shows the same whatever stopped it: the account and the contract tell the cause, and what
/// to do about it is said wherever somebody meets it.
#[tokio::test(start_paused = true)]
async fn a_halt_is_told_by_its_cause() {
    let cases = [
        (true, 5.0, 9000, "outbid", Code::Outbid, "billed on"),
        (true, -0.01, 9000, "exited", Code::InsufficientCredit, "add credit"),
        (false, 0.0, 9000, "exited", Code::InsufficientCredit, "add credit"),
        (false, 5.0, -60, "exited", Code::InstanceNotRunning, "contract ended"),
        (true, 5.0, -60, "exited", Code::InstanceNotRunning, "contract ended"),
        (false, 5.0, 9000, "exited", Code::InstanceNotRunning, "by others"),
    ];
    for (bid, credit, ends_in, state, code, word) in cases {
        let stage = Stage::new();
        let process = stage.process_with(None, |settings| {
            if bid {
                bidding(None)(settings)
            }
        });
        let call = stage.call();
        let lease = acquire(&process.engine, &call).await.expect("acquires");
        let id = lease.facts().id.to_string();
        let halted = json!({"actual_status": "exited", "intended_status": "stopped", "cur_state": "stopped",
                            "next_state": "stopped", "end_date": stage.unix_now() + ends_in});
        stage.control("POST", &format!("/_sim/instances/{}", lease.facts().instance), &halted);
        stage.control("POST", "/_sim/account", &json!({"credit": credit}));
        let status = process.engine.status(&id, &call).await.expect("shows");
        assert_eq!(status.state, state, "{word}");
        let advice = status.advice.as_deref().expect("advice");
        assert!(advice.contains(word) && advice.contains(&status.slug), "{advice}");
        let waited = process.engine.status_wait(&id, Duration::from_secs(60), &call).await;
        let opened = process.engine.open(&id, false, &call).await;
        for error in [waited.map(|_| ()).expect_err("halted"), opened.map(|_| ()).expect_err("halted")] {
            assert_eq!(error.code(), code, "{error}");
            let said = format!("{error} {}", error.hint_text().unwrap_or_default());
            assert!(said.contains(word), "{said}");
        }
        // Stopped by ourselves it needs no explanation, and the account is not asked for one.
        let path = stage.settings().paths.claims().join(format!("{id}.json"));
        let text = std::fs::read_to_string(&path).expect("a claim");
        std::fs::write(&path, text.replace(r#""state": "ready""#, r#""state": "stopped""#)).expect("written");
        stage.calls.lock().expect("not poisoned").clear();
        let status = process.engine.status(&id, &call).await.expect("shows");
        assert_eq!((status.state.as_str(), status.advice), ("stopped", None), "{word}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_credit_that_ends_during_the_boot_is_no_lost_bid() {
    for bid in [true, false] {
        let stage = Stage::new();
        let process = stage.process_with(None, |settings| {
            if bid {
                bidding(None)(settings)
            }
        });
        let call = stage.call();
        let meddle = async {
            while stage.ledger().open.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let halted = json!({"freeze": true, "actual_status": "exited", "intended_status": "stopped",
                                "cur_state": "stopped", "next_state": "stopped"});
            stage.control("POST", &format!("/_sim/instances/{}", stage.ledger().open[0].id), &halted);
            stage.control("POST", "/_sim/account", &json!({"credit": -0.02}));
        };
        let (outcome, ()) = tokio::join!(acquire(&process.engine, &call), meddle);
        let error = outcome.map(|_| ()).expect_err("no credit");
        assert_eq!(error.code(), Code::InsufficientCredit, "{error}");
        assert_eq!((stage.ledger().created, stage.ledger().open.len()), (1, 0), "{error}");
    }
}

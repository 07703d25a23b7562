//! A start bills like an acquire, and is held to the same limits: each refusal comes before anything is sent.

use crate::support::{Warm, claim, edit, journal_of, mutations, pass, warm, warnings};
use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::config::Settings;
use crabbox_vast_engine::lease::{Dollars, DollarsPerHour, LeaseId, ReleaseAction};
use crabbox_vast_engine::ops::{ReleaseRequest, StartRequest};
use crabbox_vast_engine::store::{DayCost, StepKind};
use crabbox_vast_engine::{Code, Engine, Error, Result};
use serde_json::{Value, json};
use std::time::Duration;

/// A stopped lease at this price, made with these settings.
async fn stopped(stage: &Stage, change: impl FnOnce(&mut Settings), keep: bool, price: &Value) -> Warm {
    let process = stage.process_with(None, change);
    let lease = warm(stage, &process, "one", keep).await;
    let request = ReleaseRequest { identifier: "one".into(), action: Some(ReleaseAction::Stop) };
    process.engine.release(&request, &stage.call()).await.expect("stops");
    pass(Duration::from_secs(10)).await;
    stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &json!({"dph_total": price}));
    mutations(stage);
    lease
}

async fn start(engine: &Engine, stage: &Stage) -> Result<()> {
    let request = StartRequest { identifier: "one".into() };
    engine.start(&request, &stage.call()).await.map(|_| ())
}

/// A start with these settings, which is refused with nothing sent and nothing left to finish.
async fn refused(stage: &Stage, lease: &Warm, change: impl FnOnce(&mut Settings)) -> Error {
    let process = stage.process_with(None, change);
    let error = start(&process.engine, stage).await.expect_err("refused");
    assert_eq!(mutations(stage), Vec::<String>::new(), "{error}");
    assert!(error.to_string().contains("not started") || error.code() == Code::CostLimitExceeded, "{error}");
    assert!(error.hint_text().is_some(), "{error}");
    assert_eq!(claim(&process, &lease.id).await.state(), "stopped", "{error}");
    let journal = journal_of(&process, &lease.id).await;
    assert!(!journal.steps.iter().any(|step| step.kind == StepKind::Start), "{error}: {journal:?}");
    error
}

#[tokio::test(start_paused = true)]
async fn a_start_keeps_within_the_limit_of_its_lease() {
    let stage = Stage::new();
    let limit = |settings: &mut Settings| settings.max_cost = Some(Dollars(0.9));
    let lease = stopped(&stage, limit, false, &json!(0.7)).await;
    // 90 minutes at 0.7 $/h are more than 0.9 $, by the limit that the lease was made with.
    let error = refused(&stage, &lease, |_| ()).await;
    assert_eq!((error.code(), error.exit_code()), (Code::CostLimitExceeded, 5), "{error}");
    assert_eq!(error.details()["limit"], 0.9);
    // A limit that is given now beats it, either way.
    refused(&stage, &lease, |settings| settings.max_cost = Some(Dollars(0.5))).await;
    let wider = stage.process_with(None, |settings| settings.max_cost = Some(Dollars(2.0)));
    start(&wider.engine, &stage).await.expect("within the wider limit");
    let journal = journal_of(&wider, &lease.id).await;
    let step = journal.steps.iter().find(|step| step.kind == StepKind::Start).expect("a start");
    assert!(step.proved_at.is_some(), "{step:?}");
    assert_eq!(journal.price, Some(0.7));
}

/// That there is no limit beats the one the lease was made with, where somebody says so.
#[tokio::test(start_paused = true)]
async fn a_start_without_a_limit_can_be_asked_for() {
    let stage = Stage::new();
    let limit = |settings: &mut Settings| settings.max_cost = Some(Dollars(0.9));
    let lease = stopped(&stage, limit, false, &json!(0.7)).await;
    refused(&stage, &lease, |_| ()).await;
    let unlimited = stage.process_with(None, |settings| settings.max_cost_explicit = true);
    start(&unlimited.engine, &stage).await.expect("without a limit");
}

/// What the lease cost before it was stopped counts.
#[tokio::test(start_paused = true)]
async fn the_past_of_a_lease_counts_against_its_limit() {
    let stage = Stage::new();
    let ttl = |settings: &mut Settings| settings.ttl = Duration::from_secs(4 * 3600);
    let lease = stopped(&stage, ttl, false, &json!(0.5)).await;
    pass(Duration::from_secs(3 * 3600)).await;
    // Three hours at what it cost so far, and one more at 0.5 $/h.
    let before = journal_of(&stage.process(), &lease.id).await.price.expect("a price");
    let whole = 3.0 * before + 0.5;
    let error = refused(&stage, &lease, |settings| settings.max_cost = Some(Dollars(whole - 0.05))).await;
    let spent = error.details()["spent"].as_f64().expect("an amount");
    assert!((spent - 3.0 * before).abs() < 0.03, "{error:?}");
    let process = stage.process_with(None, |settings| settings.max_cost = Some(Dollars(whole + 0.05)));
    start(&process.engine, &stage).await.expect("it fits");
}

#[tokio::test(start_paused = true)]
async fn a_kept_lease_that_nothing_ends_cannot_be_limited() {
    let stage = Stage::new();
    let lease = stopped(&stage, |_| (), true, &json!(0.2)).await;
    let error = refused(&stage, &lease, |settings| settings.max_cost = Some(Dollars(100.0))).await;
    assert_eq!((error.code(), error.exit_code()), (Code::InvalidArgument, 2), "{error}");
    start(&stage.process().engine, &stage).await.expect("without a limit");
}

#[tokio::test(start_paused = true)]
async fn a_start_needs_credit_for_an_hour_or_for_what_is_left_of_its_time() {
    let stage = Stage::new();
    let lease = stopped(&stage, |_| (), false, &json!(0.6)).await;
    stage.control("POST", "/_sim/account", &json!({"credit": 0.4}));
    let error = refused(&stage, &lease, |_| ()).await;
    assert_eq!((error.code(), error.exit_code()), (Code::InsufficientCredit, 1), "{error}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("stays stopped")), "{error:?}");
    // Half an hour before its end 0.4 $ are enough.
    pass(Duration::from_secs(3600)).await;
    start(&stage.process().engine, &stage).await.expect("enough for the rest");
}

#[tokio::test(start_paused = true)]
async fn the_days_budget_holds_for_a_start() {
    let stage = Stage::new();
    let lease = stopped(&stage, |_| (), false, &json!(0.6)).await;
    let budget = |limit: f64| move |settings: &mut Settings| settings.max_cost_per_day = Some(Dollars(limit));
    // Its own 90 minutes at 0.6 $/h are 0.9 $.
    let error = refused(&stage, &lease, budget(0.8)).await;
    assert_eq!(error.code(), Code::CostLimitExceeded, "{error}");
    assert!(error.details().contains_key("committed"), "{error:?}");
    // And those of others count.
    let other = warm(&stage, &stage.process(), "two", false).await;
    mutations(&stage);
    refused(&stage, &lease, budget(1.0)).await;
    assert_ne!(other.instance, lease.instance);
    let process = stage.process_with(None, budget(4.0));
    start(&process.engine, &stage).await.expect("within the day");
}

/// Of a lease that crabbox made no price is on record: it counts from the first start of ours on.
#[tokio::test(start_paused = true)]
async fn a_started_lease_of_others_counts_against_the_day() {
    let stage = Stage::new();
    let lease = stopped(&stage, |_| (), false, &json!(0.6)).await;
    std::fs::remove_file(stage.settings().paths.journal().join(format!("{}.json", lease.id))).unwrap();
    let budget = |limit: f64| move |settings: &mut Settings| settings.max_cost_per_day = Some(Dollars(limit));
    refused_without_journal(&stage, budget(0.5)).await;
    let process = stage.process_with(None, budget(2.0));
    start(&process.engine, &stage).await.expect("within the day");
    let now = stage.unix_now();
    let cost = DayCost::of(&journal_of(&process, &lease.id).await, true, now).total();
    assert!((0.8..=0.91).contains(&cost.0), "what is left of 90 minutes at 0.6 $/h: {cost}");
    let others = process
        .engine
        .store()
        .day_cost(&LeaseId::from_entropy([9; 6]), DollarsPerHour(0.0), now)
        .await
        .unwrap();
    assert_eq!(others.total(), cost);
}

async fn refused_without_journal(stage: &Stage, change: impl FnOnce(&mut Settings)) {
    let process = stage.process_with(None, change);
    let error = start(&process.engine, stage).await.expect_err("refused");
    assert_eq!((error.code(), mutations(stage)), (Code::CostLimitExceeded, Vec::new()), "{error}");
}

#[tokio::test(start_paused = true)]
async fn without_a_price_the_one_on_record_counts_and_none_at_all_is_refused_under_a_limit() {
    let stage = Stage::new();
    let lease = stopped(&stage, |_| (), false, &Value::Null).await;
    let cap = |settings: &mut Settings| settings.max_dph_total = Some(DollarsPerHour(0.01));
    let error = refused(&stage, &lease, cap).await;
    assert_eq!(error.code(), Code::PriceCapExceeded, "{error}");
    let path = stage.settings().paths.journal().join(format!("{}.json", lease.id));
    std::fs::rename(&path, path.with_extension("away")).unwrap();
    let process = stage.process_with(None, cap);
    let error = start(&process.engine, &stage).await.expect_err("unknown");
    assert_eq!((error.code(), mutations(&stage)), (Code::CostLimitExceeded, Vec::new()), "{error}");
    assert!(error.to_string().contains("no price"), "{error}");
    std::fs::rename(path.with_extension("away"), &path).unwrap();
    start(&stage.process().engine, &stage).await.expect("no limit, no refusal");
    assert!(warnings(&stage).iter().any(|text| text.contains("on record")), "{:?}", warnings(&stage));
}

/// A start whose price rises to 3 $/h while it is under way.
async fn risen_meanwhile(stage: &Stage, process: &Process, lease: &Warm) -> Result<()> {
    let path = format!("/_sim/instances/{}", lease.instance);
    let (outcome, ()) = tokio::join!(start(&process.engine, stage), async {
        let sent = |call: &String| call.starts_with("PUT /api/v0/instances/");
        while !stage.calls.lock().unwrap().iter().any(sent) {
            pass(Duration::from_millis(20)).await;
        }
        stage.control("POST", &path, &json!({"dph_total": 3.0}));
    });
    outcome
}

/// One that rises beyond a limit: it is stopped again.
async fn risen_beyond(limit: impl FnOnce(&mut Settings)) -> Error {
    let stage = Stage::new();
    let lease = stopped(&stage, |_| (), false, &json!(0.5)).await;
    let process = stage.process_with(None, limit);
    let error = risen_meanwhile(&stage, &process, &lease).await.expect_err("too dear");
    assert_eq!(error.code(), Code::PriceCapExceeded, "{error}");
    assert_eq!(claim(&process, &lease.id).await.state(), "stopped");
    let state = process.engine.client().show(crabbox_vast_engine::lease::InstanceId(lease.instance)).await;
    assert_eq!(state.unwrap().unwrap().intended_status.as_deref(), Some("stopped"));
    error
}

#[tokio::test(start_paused = true)]
async fn a_price_that_rises_during_the_start_ends_it() {
    risen_beyond(|settings| settings.max_cost = Some(Dollars(0.8))).await;
}

#[tokio::test(start_paused = true)]
async fn a_price_that_rises_beyond_the_day_ends_the_start() {
    let error = risen_beyond(|settings| settings.max_cost_per_day = Some(Dollars(2.0))).await;
    assert!(error.to_string().contains("day's budget"), "{error}");
}

/// A price that rose and fits is what counts from then on.
#[tokio::test(start_paused = true)]
async fn a_price_that_rises_within_the_day_is_noted() {
    let stage = Stage::new();
    let lease = stopped(&stage, |_| (), false, &json!(0.5)).await;
    let process = stage.process_with(None, |settings| settings.max_cost_per_day = Some(Dollars(9.0)));
    risen_meanwhile(&stage, &process, &lease).await.expect("within the day");
    assert_eq!(journal_of(&process, &lease.id).await.price, Some(3.0));
}

/// The time of the lease is over: it may still be used for one idle timeout, and that is what is counted.
#[tokio::test(start_paused = true)]
async fn a_start_over_its_time_counts_one_idle_timeout() {
    let stage = Stage::new();
    let lease = stopped(&stage, |_| (), false, &json!(0.6)).await;
    edit(&stage.process(), &lease.id, |claim| {
        claim.labels.insert("idle_timeout_secs".into(), "1800".into());
    })
    .await;
    pass(Duration::from_secs(3 * 3600)).await;
    stage.control("POST", "/_sim/account", &json!({"credit": 0.2}));
    let error = refused(&stage, &lease, |_| ()).await;
    assert_eq!(error.details()["needed"], 0.3, "{error:?}");
    stage.control("POST", "/_sim/account", &json!({"credit": 0.4}));
    start(&stage.process().engine, &stage).await.expect("half an hour is covered");
    assert!(warnings(&stage).iter().any(|text| text.contains("time to live")), "{:?}", warnings(&stage));
}

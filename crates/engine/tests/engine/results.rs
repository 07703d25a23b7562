//! What results look like as documents: one shape each, whoever prints it. Ids are text, times RFC 3339, spans seconds.

use crate::support::{pass, rented_elsewhere, run, stop, warm, warnings};
use crate::virtual_time::Stage;
use crabbox_vast_engine::lease::ReleaseAction;
use crabbox_vast_engine::ops::{
    AcquireRequest, AdoptRequest, CleanupRequest, ForgetRequest, ReleaseRequest, StartRequest,
};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::{Value, json};
use std::time::Duration;

fn names(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// Every member that names an id is text, and every time is RFC 3339.
fn plain(value: &Value) {
    match value {
        Value::Array(items) => items.iter().for_each(plain),
        Value::Object(members) => {
            for (name, value) in members {
                let is_text = |value: &Value| value.is_null() || value.is_string();
                match name.as_str() {
                    "instance" | "offer" | "id" => assert!(is_text(value), "{name}: {value}"),
                    "expiresAt" | "createdAt" | "lastTouchedAt" | "until" | "endsAt" | "idleUntil"
                    | "contractEndsAt" => {
                        let dated = |text: &str| text.len() == 20 && text.ends_with('Z');
                        assert!(value.is_null() || value.as_str().is_some_and(dated), "{name}: {value}");
                    }
                    name => assert!(!name.ends_with("Secs"), "{name}"),
                }
                // The facts of an error are the error's own.
                if !["labels", "details"].contains(&name.as_str()) {
                    plain(value);
                }
            }
        }
        _ => {}
    }
}

#[tokio::test(start_paused = true)]
async fn ids_are_text_and_times_are_dates_in_every_result() {
    let stage = Stage::new();
    let process = stage.process();
    let (engine, call) = (&process.engine, stage.call());
    let request = AcquireRequest { keep: true, slug: Some("shape".into()), ..AcquireRequest::default() };
    let lease = engine.acquire(&request, &call).await.expect("a lease");
    let facts = json!(lease.facts());
    let members =
        "id slug instance offer price gpu endpoint keep workRoot idleTimeoutSeconds expiresAt deadman";
    assert_eq!(names(&facts).join(" "), members);
    assert_eq!(facts["instance"], lease.facts().instance.to_string());
    assert_eq!((&facts["endpoint"]["user"], &facts["idleTimeoutSeconds"]), (&json!("root"), &json!(1800)));
    assert!(facts["expiresAt"].is_string() && facts["offer"].is_string(), "{facts}");
    lease.close().await;

    let status = json!(engine.status("shape", &call).await.expect("a status"));
    let listed = json!(engine.list(false, &call).await.expect("a list"));
    for name in ["id", "slug", "instance", "price", "gpu", "keep"] {
        assert_eq!((&status[name], &listed[0][name]), (&facts[name], &facts[name]), "{name}");
    }
    assert_eq!((&status["claimed"], &listed[0]["ownership"]), (&json!(true), &json!("claimed")));
    assert_eq!(status["deadman"].as_object().map(|members| members.len()), Some(7), "{status}");
    let ran = json!(run(engine, &call).await.expect("a run"));
    for name in ["leaseSeconds", "commandSeconds", "totalSeconds", "sync", "artifacts", "failureBundle"] {
        assert!(ran.get(name).is_some(), "{name}: {ran}");
    }
    let forget = ForgetRequest { identifier: "shape".into(), yes: true };
    let forgotten = json!(engine.forget_claim(&forget, &call).await.expect("forgets"));
    let dry = engine.cleanup(&CleanupRequest { dry_run: true }, &call).await.expect("cleans up").to_json();
    let swept = engine.cleanup(&CleanupRequest::default(), &call).await.expect("cleans up").to_json();
    assert_eq!((dry.get("error"), &swept["error"]["code"]), (None, &json!("claim_missing")));
    let adopt = AdoptRequest { identifier: facts["instance"].as_str().unwrap().into(), keep: false };
    let adopted = json!(engine.adopt(&adopt, &call).await.expect("adopts"));
    let released = json!(stop(engine, "shape", &call).await.expect("releases"));
    for ended in [&forgotten, &adopted, &released] {
        for name in ["id", "slug", "instance"] {
            assert_eq!(ended[name], facts[name], "{name}: {ended}");
        }
    }
    for result in [facts, status, listed, ran, forgotten, dry, swept, adopted, released] {
        plain(&result);
    }
}

/// The bill began when the machine was rented, not when this machine took it over.
#[tokio::test(start_paused = true)]
async fn status_and_list_tell_one_cost_of_an_adopted_lease() {
    let stage = Stage::new();
    let process = stage.process();
    let (engine, call) = (&process.engine, stage.call());
    let instance = rented_elsewhere(&stage, "cbx1|cbx_aaaaaaaaaaaa|other-box|ready");
    pass(Duration::from_secs(3600)).await;
    let adopt = AdoptRequest { identifier: instance.to_string(), keep: false };
    engine.adopt(&adopt, &call).await.expect("adopts");
    pass(Duration::from_secs(60)).await;
    let own = warm(&stage, &process, "own", true).await;
    for (name, least) in [("other-box", 3660.0), (own.slug.as_str(), 0.0)] {
        let listed = engine.list(false, &call).await.expect("a list");
        let line = listed.iter().find(|line| line.name == name).expect("is listed");
        let status = engine.status(name, &call).await.expect("a status");
        let (listed, told) = (line.accrued_dollars.expect("a cost"), status.accrued_dollars.expect("a cost"));
        let rate = status.price.expect("a price").0 / 3600.0;
        // The look at SSH takes a moment of the virtual clock.
        assert!((told - listed).abs() < rate * 10.0, "{name}: status {told}, list {listed}");
        assert!(told >= rate * least, "{name}: {told}");
    }
}

/// What has stopped it, and since when, is on record: its GPUs cost nothing then, its disk does.
#[tokio::test(start_paused = true)]
async fn a_stopped_lease_costs_its_disk() {
    let stage = Stage::new();
    let process = stage.process();
    let (engine, call) = (&process.engine, stage.call());
    let lease = warm(&stage, &process, "one", true).await;
    let price = engine.status("one", &call).await.expect("a status").price.expect("a price").0;
    let disk = 0.02;
    let columns = json!({"storage_total_cost": disk, "instance": {"gpuCostPerHour": 0.0, "diskHour": disk}});
    stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &columns);
    let told = async |expected: f64| {
        let listed = engine.list(false, &call).await.expect("a list")[0].accrued_dollars.expect("a cost");
        let status = engine.status("one", &call).await.expect("a status").accrued_dollars.expect("a cost");
        // Boot and stop take some minutes in all; they count in full.
        let most = expected + price / 6.0;
        assert!(listed >= expected && listed <= most, "{listed} for {expected}");
        assert!((status - listed).abs() < 0.01, "status {status}, list {listed}");
        assert!(stage.ledger().accrued <= listed + 0.01, "{} for {listed}", stage.ledger().accrued);
    };
    pass(Duration::from_secs(3600)).await;
    told(price).await;
    let request = ReleaseRequest { identifier: "one".into(), action: Some(ReleaseAction::Stop) };
    engine.release(&request, &call).await.expect("stops");
    pass(Duration::from_secs(36_000)).await;
    told(price + 10.0 * disk).await;
    let started = engine.start(&StartRequest { identifier: "one".into() }, &call).await.expect("starts");
    started.close().await;
    pass(Duration::from_secs(3600)).await;
    told(2.0 * price + 10.0 * disk).await;
    // The dearest price on record counts, whatever it costs now.
    stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &json!({"dph_total": 0.001}));
    told(2.0 * price + 10.0 * disk).await;
}

/// The vendor's date is read on the vendor's clock.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_costs_nothing() {
    let stage = Stage::new();
    let process = stage.process();
    let (engine, call) = (&process.engine, stage.call());
    let lease = warm(&stage, &process, "one", true).await;
    let before = engine.status("one", &call).await.expect("a status");
    // The vendor's clock is an hour ahead of ours: so are its dates.
    let began = stage.unix_now() + 3600;
    stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &json!({"start_date": began}));
    let date = jiff::Timestamp::from_second(began).expect("a time");
    let answer = Effect::Answer {
        status: 200,
        content_type: "application/json".into(),
        body: r#"{"id": 7, "credit": 20.0}"#.into(),
        headers: vec![(
            "Date".into(),
            jiff::fmt::rfc2822::to_string(&date.to_zoned(jiff::tz::TimeZone::UTC)).expect("a date"),
        )],
    };
    stage.vast(|vast, _| vast.add_fault(Fault::once("GET", "/api/v0/users/current/", answer)));
    engine.client().account().await.expect("an account");
    pass(Duration::from_secs(3600)).await;
    let (status, price) =
        (engine.status("one", &call).await.expect("a status"), before.price.expect("a price").0);
    let cost = status.accrued_dollars.expect("a cost");
    assert!((cost - price).abs() < price / 60.0, "an hour at {price} is {cost}");
}

/// Hosts let their machines for a time: one that ends before the lease is said before it does.
#[tokio::test(start_paused = true)]
async fn the_end_of_the_hosts_contract_is_told() {
    let stage = Stage::new();
    let process = stage.process();
    let (engine, call) = (&process.engine, stage.call());
    let lease = warm(&stage, &process, "one", false).await;
    let path = format!("/_sim/instances/{}", lease.instance);
    let status = engine.status("one", &call).await.expect("a status");
    let told = status.contract_ends_at.clone().expect("a date");
    assert_eq!((json!(status)["contractEndsAt"].as_str(), status.contract_warning), (Some(&*told), None));
    assert_eq!(warnings(&stage), Vec::<String>::new());

    stage.control(
        "POST",
        &path,
        &json!({"end_date": f64::from(u32::try_from(stage.unix_now()).unwrap()) + 600.25}),
    );
    let status = engine.status_wait("one", Duration::from_secs(30), &call).await.expect("a status");
    let (end, expires) = (status.contract_ends_at.clone().unwrap(), status.expires_at.clone().unwrap());
    assert!(end < expires, "{end} {expires}");
    let warning = status.contract_warning.clone().expect("a warning");
    assert!(
        warning.contains(&end) && warning.contains(&expires) && warning.contains("stop one"),
        "{warning}"
    );
    assert_eq!(warnings(&stage), [warning.as_str()]);
    for document in [json!(status), status.to_json()] {
        assert_eq!(
            (&document["contractEndsAt"], &document["contractWarning"]),
            (&json!(end), &json!(warning))
        );
        plain(&document);
    }
    assert!(status.lines().contains(&format!("contractEndsAt={end}")), "{:?}", status.lines());

    stage.control("POST", &path, &json!({"end_date": null}));
    let status = engine.status("one", &call).await.expect("a status");
    assert_eq!((status.contract_ends_at.as_ref(), status.contract_warning.as_ref()), (None, None));
    assert_eq!(json!(status)["contractEndsAt"], Value::Null);
    assert!(status.to_json().get("contractEndsAt").is_none());
}

//! What results look like as documents: one shape each, whoever prints it. Ids are text, times RFC 3339, spans seconds.

mod support;
mod virtual_time;

use crabbox_vast_engine::ops::{AcquireRequest, AdoptRequest, CleanupRequest, ForgetRequest};
use serde_json::{Value, json};
use std::time::Duration;
use support::{pass, rented_elsewhere, run, stop, warm};
use virtual_time::Stage;

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
                    "expiresAt" | "createdAt" | "lastTouchedAt" | "until" | "endsAt" | "idleUntil" => {
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

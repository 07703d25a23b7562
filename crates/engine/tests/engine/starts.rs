//! Starts that fail: whose fault it was, what the error says, and that the next acquire has learned from it.

use crate::support::{claim, pass, warm};
use crate::virtual_time::{self, Stage};
use crabbox_vast_engine::config::Settings;
use crabbox_vast_engine::lease::ReleaseAction;
use crabbox_vast_engine::ops::{AcquireRequest, Lease, ReleaseRequest, StartRequest};
use crabbox_vast_engine::vast::EndpointKind;
use crabbox_vast_engine::{Call, Code, Engine, Error, Result};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

async fn acquire(engine: &Engine, call: &Call) -> Result<Lease> {
    engine.acquire(&AcquireRequest::default(), call).await
}

/// Acquires while the first `many` machines are made like this, the moment they appear.
async fn spoilt(stage: &Stage, many: usize, columns: &Value) -> Result<Lease> {
    spoilt_with(stage, |_| (), many, columns).await
}

async fn spoilt_with(
    stage: &Stage,
    change: impl FnOnce(&mut Settings),
    many: usize,
    columns: &Value,
) -> Result<Lease> {
    let process = stage.process_with(None, change);
    let call = stage.call();
    let spoil = async {
        let mut done = BTreeSet::new();
        while done.len() < many {
            for instance in stage.ledger().open {
                if done.insert(instance.id) {
                    stage.control("POST", &format!("/_sim/instances/{}", instance.id), columns);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        outcome = acquire(&process.engine, &call) => outcome,
        () = spoil => unreachable!("it never ends"),
    }
}

fn error_of(outcome: Result<Lease>) -> Error {
    outcome.map(|lease| lease.facts().instance).expect_err("it fails")
}

fn machines(stage: &Stage) -> Vec<String> {
    let text = std::fs::read_to_string(stage.settings().paths.machines()).unwrap_or_default();
    let memory: Value = serde_json::from_str(&text).unwrap_or_default();
    let all = memory["machines"].as_array().cloned().unwrap_or_default();
    all.iter().map(|one| one["why"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_cannot_start_gives_way_and_is_remembered() {
    let cases = [
        (
            json!({"freeze": true, "actual_status": "loading", "status_msg": "a: Pulling fs layer"}),
            "stood still for 30",
        ),
        (json!({"freeze": true, "actual_status": "loading"}), "no sign of life"),
        (json!({"freeze": true, "status_msg": "OCI runtime create failed: x"}), "cannot start it"),
        (json!({"freeze": true, "actual_status": "created", "cur_state": "stopped"}), "did not start it"),
        (json!({"freeze": true, "actual_status": "offline"}), "has been away for"),
    ];
    for (columns, why) in cases {
        let stage = Stage::new();
        let lease = spoilt(&stage, 1, &columns).await.unwrap_or_else(|error| panic!("{columns}: {error}"));
        let ledger = stage.ledger();
        assert_eq!((ledger.created, ledger.open.len()), (2, 1), "{columns}");
        assert_eq!(ledger.open[0].id, lease.facts().instance.0, "{columns}");
        let remembered = machines(&stage);
        assert!(remembered.len() == 1 && remembered[0].contains(why), "{columns}: {remembered:?}");
    }
}

/// Another process avoids the machine for a day, `offers` says why, and after a day it is tried again.
#[tokio::test(start_paused = true)]
async fn a_failed_machine_is_avoided_for_a_day() {
    let stage = Stage::new();
    let broken = json!({"freeze": true, "status_msg": "no space left on device"});
    let lease = spoilt(&stage, 1, &broken).await.expect("another machine");
    lease.release(None, &stage.call()).await.expect("releases");
    let refused = async || {
        let offers = stage.process().engine.offers(&stage.call()).await.expect("offers");
        offers.refused.get("its machine failed lately").copied().unwrap_or(0)
    };
    assert_eq!(refused().await, 1);
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!(refused().await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_image_fault_stops_at_once_and_shows_the_hosts_log() {
    let stage = Stage::new();
    let columns = json!({"freeze": true, "status_msg": "Error response from daemon: manifest for no/such:1 not found: manifest unknown"});
    let error = error_of(spoilt(&stage, 1, &columns).await);
    assert_eq!(error.code(), Code::StartFailedImage, "{error}");
    let log = error.details()["log"].as_array().expect("lines");
    assert!(log[0].as_str().is_some_and(|line| line.starts_with("host: pulling nvidia/cuda")), "{log:?}");
    assert!(
        error.hint_text().is_some_and(|hint| hint.contains("its log ends with: host: Error response")),
        "{error:?}"
    );
    let shown = error.to_json().to_string();
    assert!(!shown.contains("/s3/") && !shown.contains(".log"), "the signed address is never shown: {shown}");
    assert_eq!((stage.ledger().created, stage.ledger().open.len()), (1, 0));
    assert_eq!(machines(&stage), Vec::<String>::new(), "the machine is not to blame");
}

/// Neither the account's key nor the instance's own comes through, where the machine says it.
#[tokio::test(start_paused = true)]
async fn a_key_that_the_machine_says_is_not_shown() {
    let stage = Stage::new();
    let hidden = [virtual_time::KEY, "hunter2hunter2", "f00dfeedf00dfeed"];
    let [account, api, jupyter] = hidden;
    let columns = json!({
        "freeze": true,
        "instance_api_key": api,
        "jupyter_token": jupyter,
        "status_msg": format!("manifest unknown: say {account}, {api} or {jupyter}; CONTAINER_API_KEY = {api}"),
    });
    let error = error_of(spoilt(&stage, 1, &columns).await);
    let shown = format!("{error:?} {}", error.to_json());
    let log = error.details()["log"].to_string();
    assert!(log.contains("manifest unknown: say <redacted>"), "{log}");
    assert!(error.to_string().contains("say <redacted>, <redacted> or <redacted>;"), "{error}");
    assert!(!shown.contains(account), "{shown}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

/// A log that never appears, or cannot be asked for, holds nothing up and hides nothing.
#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_had_is_done_without() {
    for (method, path) in [("PUT", "/api/v0/instances/request_logs/*/"), ("GET", "/s3/*")] {
        let stage = Stage::new();
        stage.vast(|vast, _| vast.add_fault(Fault::once(method, path, Effect::Html(502)).times(None)));
        let began = tokio::time::Instant::now();
        let error =
            error_of(spoilt(&stage, 1, &json!({"freeze": true, "status_msg": "pull access denied"})).await);
        assert_eq!(error.code(), Code::StartFailedImage, "{error}");
        assert!(!error.details().contains_key("log"), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        assert_eq!(stage.ledger().open.len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_ended_container_is_told_after_a_grace() {
    let stage = Stage::new();
    let error = error_of(spoilt(&stage, 1, &json!({"freeze": true, "actual_status": "exited"})).await);
    assert_eq!(error.code(), Code::InstanceNotRunning, "{error}");
    assert!(error.to_string().contains("ended 12"), "{error}");
    assert_eq!((stage.ledger().created, stage.ledger().open.len()), (1, 0));
}

/// The create is answered, and the instance never appears: it is destroyed all the same, and the next offer taken.
#[tokio::test(start_paused = true)]
async fn a_phantom_gives_way_to_the_next_offer() {
    let stage = Stage::new();
    let answer = Effect::Answer {
        status: 200,
        content_type: "application/json".into(),
        body: r#"{"success":true,"new_contract":99999}"#.into(),
        headers: vec![],
    };
    stage.vast(|vast, _| vast.add_fault(Fault::once("PUT", "/api/v0/asks/*/", answer)));
    let lease = acquire(&stage.process().engine, &stage.call()).await.expect("the next offer");
    assert_ne!(lease.facts().instance.0, 99_999);
    let calls = stage.calls.lock().expect("not poisoned").clone();
    assert!(calls.iter().any(|call| call == "DELETE /api/v0/instances/99999/"), "{calls:?}");
    assert_eq!(stage.ledger().open.len(), 1);
}

/// All machines fail alike: there is an end, and it says so.
#[tokio::test(start_paused = true)]
async fn eight_bad_machines_are_enough() {
    let stage = Stage::new();
    let broken = json!({"freeze": true, "status_msg": "nvidia-container-cli: initialization error"});
    let error = error_of(spoilt(&stage, 100, &broken).await);
    assert_eq!(error.code(), Code::StartFailedHost, "{error}");
    let ledger = stage.ledger();
    assert_eq!((ledger.open.len(), ledger.max_concurrent), (0, 1));
    assert_eq!(ledger.created, 8);
    assert_eq!(machines(&stage).len(), 8);
    assert_eq!(stage.claims(), Vec::<String>::new());
}

/// How many round trips of the API lie one behind the other before the create, and between ready and the answer. Every
/// call takes a second here, and nothing else takes any time worth counting.
#[tokio::test(start_paused = true)]
async fn the_create_follows_the_first_wave_at_once() {
    type Change = fn(&mut Settings);
    let settings: [Change; 2] = [
        |_| (),
        |settings| {
            settings.max_cost_per_day = Some(crabbox_vast_engine::lease::Dollars(50.0));
            settings.max_cost = Some(crabbox_vast_engine::lease::Dollars(20.0));
        },
    ];
    for change in settings {
        let stage = Stage::new();
        let slow = |method: &str, path: &str| Fault {
            method: (!method.is_empty()).then(|| method.into()),
            ..Fault::once("GET", path, Effect::Delay(Duration::from_secs(1))).times(None)
        };
        stage.vast(|vast, _| vast.add_fault(slow("", "/api/*")));
        let process = stage.process_with(None, change);
        let began = tokio::time::Instant::now();
        let call = stage.call();
        let created = async {
            loop {
                let create = |call: &String| call.starts_with("PUT /api/v0/asks/");
                if stage.calls.lock().expect("not poisoned").iter().any(create) {
                    return began.elapsed();
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let (lease, sent) = tokio::join!(acquire(&process.engine, &call), created);
        lease.expect("acquires");
        // One wave of calls that take a second each and five milliseconds to arrive and to return, then the create.
        assert!(sent < Duration::from_millis(1_030), "the create was sent after {sent:?}");
        let calls = stage.calls.lock().expect("not poisoned").clone();
        let create = calls.iter().position(|call| call.starts_with("PUT /api/v0/asks/")).expect("a create");
        assert_eq!(create, 3, "account, inventory and search come before it: {calls:?}");
        // After ready the label is set, beside the ready check: nothing follows it.
        let label =
            calls.iter().rposition(|call| call.starts_with("PUT /api/v0/instances/")).expect("a label");
        let after: Vec<&String> = calls[label..].iter().filter(|call| !call.starts_with("GET")).collect();
        assert_eq!(after.len(), 1, "{calls:?}");
    }
}

/// A container that runs and whose sshd never answers is its host's fault: it is given up, another one is taken, and the
/// machine is avoided for a day.
#[tokio::test(start_paused = true)]
async fn a_machine_whose_ssh_stays_silent_makes_room_for_another() {
    let stage = Stage::new();
    let began = tokio::time::Instant::now();
    let lease = spoilt(&stage, 1, &json!({"sshd": false})).await.expect("another machine");
    let took = began.elapsed();
    assert!((Duration::from_secs(300)..Duration::from_secs(480)).contains(&took), "{took:?}");
    let ledger = stage.ledger();
    assert_eq!((ledger.created, ledger.open.len(), ledger.max_concurrent), (2, 1, 1));
    assert_eq!(ledger.open[0].id, lease.facts().instance.0);
    let remembered = machines(&stage);
    assert!(remembered.len() == 1 && remembered[0].contains("has not let anybody in"), "{remembered:?}");
}

/// The last one says what its container had logged.
#[tokio::test(start_paused = true)]
async fn a_silent_ssh_shows_the_containers_log() {
    let stage = Stage::new();
    let boot = |settings: &mut Settings| settings.boot_timeout = Duration::from_secs(600);
    let error = error_of(spoilt_with(&stage, boot, 2, &json!({"sshd": false})).await);
    assert_eq!(error.code(), Code::SshTimeout, "{error}");
    let log = error.details()["log"].as_array().expect("lines");
    assert!(log[0].as_str().is_some_and(|line| line.starts_with("success, running")), "{log:?}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("its log ends with")), "{error:?}");
    assert_eq!((stage.ledger().created, stage.ledger().open.len()), (2, 0));
}

/// The text of a boot that moves on all the time, and never comes to its end.
async fn never_done(stage: &Stage, texts: &[String], every: Duration) -> std::convert::Infallible {
    while stage.ledger().open.is_empty() {
        pass(Duration::from_millis(20)).await;
    }
    let path = format!("/_sim/instances/{}", stage.ledger().open[0].id);
    for text in texts.iter().cycle() {
        stage.control(
            "POST",
            &path,
            &json!({"freeze": true, "actual_status": "loading", "status_msg": text}),
        );
        pass(every).await;
    }
    unreachable!("it goes round")
}

/// A boot that was given no time says nothing of the machine.
#[tokio::test(start_paused = true)]
async fn only_a_boot_that_was_given_time_is_held_against_its_machine() {
    for (limit, remembered) in [(120, 0), (900, 1)] {
        let stage = Stage::new();
        let process = stage.process_with(None, |settings| settings.boot_timeout = Duration::from_secs(limit));
        let texts: Vec<String> = (0..1000).map(|layer| format!("{layer}: Pull complete")).collect();
        let call = stage.call();
        let error = tokio::select! {
            biased;
            outcome = acquire(&process.engine, &call) => error_of(outcome),
            never = never_done(&stage, &texts, Duration::from_secs(30)) => match never {},
        };
        assert_eq!(error.code(), Code::BootTimeout, "{error}");
        assert_eq!(machines(&stage).len(), remembered, "after {limit} s");
    }
}

/// Two reads that do not agree are no progress.
#[tokio::test(start_paused = true)]
async fn a_boot_that_goes_to_and_fro_stands_still() {
    let stage = Stage::new();
    let process = stage.process();
    let call = stage.call();
    let texts = ["a: Pulling fs layer", "a: Waiting"].map(str::to_owned);
    let began = tokio::time::Instant::now();
    let given_up = async {
        while machines(&stage).is_empty() {
            pass(Duration::from_millis(100)).await;
        }
        began.elapsed()
    };
    let took = tokio::select! {
        biased;
        took = given_up => took,
        outcome = acquire(&process.engine, &call) => panic!("{:?}", outcome.map(|_| ())),
        never = never_done(&stage, &texts, Duration::from_millis(1500)) => match never {},
    };
    assert!((Duration::from_secs(300)..Duration::from_secs(340)).contains(&took), "{took:?}");
    assert!(machines(&stage)[0].contains("stood still"), "{:?}", machines(&stage));
}

/// The relay of some rentals refuses every key; the direct way may open minutes later.
#[tokio::test(start_paused = true)]
async fn a_relay_that_refuses_for_life_does_not_end_what_direct_still_opens() {
    let stage = Stage::new();
    let process = stage.process();
    let call = stage.call();
    let meddle = async {
        while stage.ledger().open.is_empty() {
            pass(Duration::from_millis(20)).await;
        }
        let path = format!("/_sim/instances/{}", stage.ledger().open[0].id);
        stage.control("POST", &path, &json!({"refuse_proxy": true, "direct": false}));
        pass(Duration::from_secs(240)).await;
        stage.control("POST", &path, &json!({"direct": true}));
    };
    let (outcome, ()) = tokio::join!(acquire(&process.engine, &call), meddle);
    let lease = outcome.expect("the direct way opened");
    assert_eq!(lease.facts().endpoint.kind, EndpointKind::Direct);
    assert_eq!(stage.ledger().created, 1);
    // Refused on both ways it is the end, as it ever was.
    let stage = Stage::new();
    let began = tokio::time::Instant::now();
    let error = error_of(spoilt(&stage, 1, &json!({"refuse_keys": true})).await);
    assert_eq!(error.code(), Code::SshRefused, "{error}");
    assert!(began.elapsed() < Duration::from_secs(260), "{:?}", began.elapsed());
}

/// A start that fails is explained, and its machine remembered, as at an acquire.
#[tokio::test(start_paused = true)]
async fn a_failed_start_is_explained_and_its_machine_remembered() {
    let broken =
        json!({"freeze": true, "actual_status": "created", "status_msg": "OCI runtime create failed: x"});
    let no_image = json!({"freeze": true, "actual_status": "loading", "status_msg": "manifest unknown"});
    for (columns, code, remembered) in
        [(broken, Code::StartFailedHost, 1), (no_image, Code::StartFailedImage, 0)]
    {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        let request = ReleaseRequest { identifier: "one".into(), action: Some(ReleaseAction::Stop) };
        process.engine.release(&request, &stage.call()).await.expect("stops");
        pass(Duration::from_secs(10)).await;
        stage.calls.lock().expect("not poisoned").clear();
        let request = StartRequest { identifier: "one".into() };
        let call = stage.call();
        let meddle = async {
            let sent = |call: &String| call.starts_with("PUT /api/v0/instances/");
            while !stage.calls.lock().expect("not poisoned").iter().any(sent) {
                pass(Duration::from_millis(20)).await;
            }
            stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &columns);
        };
        let (outcome, ()) = tokio::join!(process.engine.start(&request, &call), meddle);
        let error = error_of(outcome);
        assert_eq!(error.code(), code, "{error}");
        assert!(
            error.details()["log"][0].as_str().is_some_and(|line| line.starts_with("host: ")),
            "{error:?}"
        );
        assert_eq!(machines(&stage).len(), remembered, "{error}");
        assert_eq!(claim(&process, &lease.id).await.state(), "stopped", "{error}");
    }
}

/// A read that misses the machine once says nothing, however long the boot has taken by then; nor does a list that is not
/// whole, nor a refusal that passes.
#[tokio::test(start_paused = true)]
async fn a_machine_that_single_reads_miss_is_waited_for() {
    let single = "/api/v0/instances/*/";
    let list = "/api/v1/instances/";
    let short =
        r#"{"success":true,"instances":[],"instances_found":0,"total_instances":3,"next_token":null}"#;
    let none = r#"{"success":true,"instances":[],"instances_found":0,"total_instances":0,"next_token":null}"#;
    for (path, status, body, times) in [
        (single, 200, r#"{"success":true,"instances":null}"#, 1),
        (
            single,
            404,
            r#"{"success":false,"error":"no_such_instance","msg":"error 404: no_such_instance"}"#,
            2,
        ),
        (single, 200, r#"{"success":false,"error":"server_busy","msg":"try again"}"#, 1),
        (single, 410, r#"{"success":false,"error":"deprecated_endpoint","msg":"gone"}"#, 1),
        (list, 200, short, 4),
        (list, 200, none, 1),
    ] {
        for start in [false, true] {
            let what = format!("start: {start}, {path} {status} {body}");
            // A start takes a third of a boot: the image is there.
            let boot = Duration::from_secs(if start { 450 } else { 150 });
            let stage = Stage::with(|settings| settings.boot = boot);
            let process = stage.process();
            if start {
                warm(&stage, &process, "one", true).await;
                let stops = ReleaseRequest { identifier: "one".into(), action: Some(ReleaseAction::Stop) };
                process.engine.release(&stops, &stage.call()).await.expect("stopped");
                // One that still runs would only run on.
                pass(Duration::from_secs(60)).await;
            }
            let effect = Effect::Answer {
                status,
                content_type: "application/json".into(),
                body: body.into(),
                headers: Vec::new(),
            };
            let fault = Fault::once("GET", path, effect).times(Some(times));
            let spoils = async {
                pass(Duration::from_secs(100)).await;
                stage.vast(|vast, _| vast.add_fault(fault));
            };
            let call = stage.call();
            let (ready, ()) = tokio::join!(
                async {
                    if start {
                        process.engine.start(&StartRequest { identifier: "one".into() }, &call).await
                    } else {
                        acquire(&process.engine, &call).await
                    }
                },
                spoils
            );
            ready.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(stage.vast(|vast, _| vast.struck()), times, "{what}");
            assert_eq!(stage.ledger().created, 1, "{what}");
        }
    }
}

/// One that no read has shown for long is given up, and said to be gone.
#[tokio::test(start_paused = true)]
async fn a_machine_that_no_read_shows_any_more_is_given_up() {
    let stage = Stage::with(|settings| settings.boot = Duration::from_secs(600));
    let (process, call) = (stage.process(), stage.call());
    let hides = async {
        pass(Duration::from_secs(100)).await;
        let open = stage.ledger().open;
        stage.control("POST", &format!("/_sim/instances/{}", open[0].id), &json!({"hidden": true}));
        let unknown = Effect::Answer {
            status: 404,
            content_type: "application/json".into(),
            body: r#"{"success":false,"error":"no_such_instance","msg":"error 404: no_such_instance"}"#
                .into(),
            headers: Vec::new(),
        };
        stage.vast(|vast, _| {
            vast.add_fault(Fault::once("GET", "/api/v0/instances/*/", unknown).times(None));
        });
    };
    let began = tokio::time::Instant::now();
    let (outcome, ()) = tokio::join!(acquire(&process.engine, &call), hides);
    assert_eq!(error_of(outcome).code(), Code::InstanceGone);
    assert!((185..400).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

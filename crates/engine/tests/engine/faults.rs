//! One thing goes wrong, at every call, in virtual time: the operation survives it, or leaves nothing behind.

use crate::virtual_time::Stage;
use crabbox_vast_engine::ops::{CleanupRequest, ReleaseRequest, RunRequest, RunResult};
use crabbox_vast_engine::ssh::command::Script;
use crabbox_vast_engine::world::ExecIo;
use crabbox_vast_engine::{Call, Code, Engine, Result};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::json;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

async fn run(engine: &Engine, call: &Call) -> Result<RunResult> {
    let request = RunRequest::new(Script::Argv(vec!["nvidia-smi".into()]));
    let (output, mut receive) = mpsc::channel(16);
    let drain = async { while receive.recv().await.is_some() {} };
    tokio::join!(engine.run(&request, ExecIo { stdin: None, output }, call), drain).0
}

/// A machine of somebody else on the same account, and one of another crabbox user.
fn strangers(stage: &Stage) {
    stage.control("POST", "/_sim/instances", &json!({"label": "hand made"}));
    stage.control("POST", "/_sim/instances", &json!({"label": "cbx1|cbx_aaaaaaaaaaaa|other-box|ready"}));
}

fn assert_only_strangers(stage: &Stage, what: &str) {
    let open = stage.ledger().open;
    assert_eq!(open.len(), 2, "{what}: {open:?}");
    assert_eq!(stage.claims(), Vec::<String>::new(), "{what}");
    assert_eq!(stage.keys(), Vec::<String>::new(), "{what}");
}

fn effects() -> Vec<Effect> {
    let answer = |status, body: &str, headers: &[(&str, &str)]| Effect::Answer {
        status,
        content_type: "application/json".into(),
        body: body.into(),
        headers: headers.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
    };
    let mut effects = vec![
        answer(
            500,
            r#"{"success":false,"error":"server_error","msg":"Something went wrong on the server"}"#,
            &[],
        ),
        answer(429, "API requests too frequent", &[("retry-after", "2")]),
        answer(404, r#"{"success":false,"error":"auth_error","msg":"Invalid user key"}"#, &[]),
        Effect::Html(502),
        Effect::Html(200),
        Effect::Reset,
        Effect::Truncate,
        Effect::Empty,
        Effect::Stall,
    ];
    effects.extend((0..4).map(Effect::TooMany));
    effects
}

#[tokio::test(start_paused = true)]
async fn one_passing_fault_on_any_call_but_the_create_is_survived() {
    let calls = [
        ("GET", "/api/v0/users/current/"),
        ("GET", "/api/v1/instances/"),
        ("POST", "/api/v0/bundles/"),
        ("POST", "/api/v0/instances/*/ssh/"),
        ("GET", "/api/v0/instances/*/"),
        ("PUT", "/api/v0/instances/*/"),
        ("DELETE", "/api/v0/instances/*/"),
    ];
    for (method, path) in calls {
        for effect in effects() {
            for nth in 1..=3 {
                for after in [false, true] {
                    let what = format!("{method} {path} #{nth} {effect:?} after={after}");
                    let stage = Stage::new();
                    strangers(&stage);
                    let mut fault = Fault::once(method, path, effect.clone());
                    fault.nth = nth;
                    let fault = if after { fault.after_commit() } else { fault };
                    stage.vast(|vast, _| vast.add_fault(fault));
                    let process = stage.process();
                    let result = run(&process.engine, &stage.call()).await.unwrap_or_else(|error| {
                        panic!("{what}: {error}; {:#?}", stage.calls.lock().expect("not poisoned"))
                    });
                    assert_eq!(result.exit_code, 0, "{what}");
                    assert_only_strangers(&stage, &what);
                    assert_eq!(stage.ledger().created, 3, "{what}: exactly one create");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_create_is_adopted_or_proved_and_tried_once_more() {
    for effect in effects() {
        for after in [false, true] {
            let what = format!("{effect:?} after={after}");
            let stage = Stage::new();
            strangers(&stage);
            let fault = Fault::once("PUT", "/api/v0/asks/*/", effect.clone());
            stage.vast(|vast, _| vast.add_fault(if after { fault.after_commit() } else { fault }));
            let process = stage.process();
            let outcome = run(&process.engine, &stage.call()).await;
            let result = outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(result.exit_code, 0, "{what}");
            assert_only_strangers(&stage, &what);
            assert_eq!(stage.ledger().max_concurrent, 3, "{what}: never two of ours at once");
        }
    }
}

/// SIGKILL at every step of a run, then `stop` of what is claimed: nothing of ours is left, nobody else's is touched.
#[tokio::test(start_paused = true)]
async fn a_kill_at_any_step_leaves_a_claim_from_which_stop_finishes() {
    let clean = Stage::new();
    let process = clean.process();
    run(&process.engine, &clean.call()).await.expect("a clean run");
    let steps = process.steps.load(std::sync::atomic::Ordering::SeqCst);
    assert!(steps > 20, "{steps} steps");
    let mut leaky_deaths = 0;
    for kill_at in 1..=steps {
        let stage = Stage::new();
        strangers(&stage);
        let process = stage.process_with(Some(kill_at), |_| ());
        let outcome = process.live(run(&process.engine, &stage.call())).await;
        drop(process);
        let rented = stage.ledger().open.len() - 2;
        leaky_deaths += rented;
        assert!(outcome.is_none() || rented == 0, "step {kill_at}");
        let next = stage.process();
        for lease in stage.claims() {
            let request = ReleaseRequest { identifier: lease, action: None };
            next.engine
                .release(&request, &stage.call())
                .await
                .unwrap_or_else(|error| panic!("killed at step {kill_at}: {error}"));
        }
        let open = stage.ledger().open;
        assert_eq!(open.len(), 2, "killed at step {kill_at}: {open:?}");
        assert_eq!(stage.claims(), Vec::<String>::new(), "killed at step {kill_at}");
    }
    assert!(leaky_deaths > 5, "the kills must leave machines running, or nothing was tested: {leaky_deaths}");
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_died_before_its_create_is_forgotten_at_once() {
    let stage = Stage::new();
    let slow = Fault::once("POST", "/api/v0/bundles/", Effect::Delay(Duration::from_secs(10)));
    stage.vast(|vast, _| vast.add_fault(slow));
    let process = stage.process();
    let call = stage.call();
    let died = tokio::time::timeout(Duration::from_secs(5), run(&process.engine, &call)).await;
    assert!(died.is_err(), "it waits for the offers");
    drop(process);
    let claims = stage.claims();
    let [lease] = claims.as_slice() else { panic!("one intent is on disk: {claims:?}") };
    let id = crabbox_vast_engine::lease::LeaseId::parse(lease).unwrap();
    let journal = stage.process().engine.store().journal(&id).await.unwrap().expect("before the claim");
    assert!(journal.attempts.is_empty());
    // The same lease id, used on another machine: no answer to a create of ours.
    let label = format!("cbx1|{lease}|{}|ready", journal.slug);
    stage.control("POST", "/_sim/instances", &json!({"label": label, "actual_status": "running"}));
    let began = tokio::time::Instant::now();
    let request = ReleaseRequest { identifier: lease.clone(), action: None };
    stage.process().engine.release(&request, &stage.call()).await.expect("forgets it");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(stage.claims(), Vec::<String>::new());
    assert_eq!(stage.ledger().open.len(), 1, "somebody else's was destroyed");
}

/// A refused destroy of a machine that no read shows yet: that it is missing is no proof that it is gone.
#[tokio::test(start_paused = true)]
async fn a_destroy_refused_while_the_machine_is_too_new_to_be_seen_proves_nothing() {
    let refusals = [
        (403, r#"{"success":false,"error":"forbidden","msg":"Forbidden"}"#),
        (500, r#"{"success":false,"error":"server_error","msg":"Something went wrong on the server"}"#),
        (200, r#"{"success":false,"msg":"not now"}"#),
    ];
    for (status, body) in refusals {
        let stage = Stage::with(|settings| {
            settings.read_lag = Duration::from_secs(60);
            settings.list_lag = Duration::from_secs(60);
        });
        let process = stage.process();
        let call = stage.call();
        let died = tokio::time::timeout(Duration::from_secs(10), run(&process.engine, &call)).await;
        assert!(died.is_err(), "it waits for its machine");
        drop(process);
        assert_eq!(stage.ledger().open.len(), 1, "{status}");
        let refusal = Effect::Answer {
            status,
            content_type: "application/json".into(),
            body: body.into(),
            headers: Vec::new(),
        };
        stage.vast(|vast, _| vast.add_fault(Fault::once("DELETE", "/api/v0/instances/*/", refusal)));
        let claims = stage.claims();
        let [lease] = claims.as_slice() else { panic!("one claim leads to it: {claims:?}") };
        let request = ReleaseRequest { identifier: lease.clone(), action: None };
        let released = stage.process().engine.release(&request, &stage.call()).await;
        let open = stage.ledger().open;
        assert!(open.is_empty(), "{status}: it bills on without a claim: {released:?} {open:?}");
        released.unwrap_or_else(|error| panic!("{status}: {error}"));
        assert_eq!(stage.claims(), Vec::<String>::new(), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_at_any_time_leaves_nothing() {
    for milliseconds in (0..120_000).step_by(977) {
        let stage = Stage::new();
        strangers(&stage);
        let process = stage.process();
        let cancel = CancellationToken::new();
        let call = stage.call_with(cancel.clone());
        let (outcome, ()) = tokio::join!(run(&process.engine, &call), async {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            cancel.cancel();
        });
        if let Err(error) = outcome {
            assert_eq!(error.code(), Code::Cancelled, "after {milliseconds} ms: {error}");
            let told =
                error.hint_text().is_some_and(|hint| hint.contains("was destroyed, and is proved gone"));
            assert!(told || stage.ledger().created == 2, "after {milliseconds} ms: {:?}", error.hint_text());
        }
        assert_only_strangers(&stage, &format!("cancelled after {milliseconds} ms"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_taken_offer_gives_way_to_the_next() {
    for effect in [
        Effect::NoSuchAsk,
        Effect::Answer {
            status: 410,
            content_type: "application/json".into(),
            body: r#"{"success":false,"error":"no_such_ask","msg":"error 410/3907: no_such_ask Instance type {id} is no longer available.","ask_id":{id}}"#.into(),
            headers: vec![],
        },
        Effect::Answer {
            status: 200,
            content_type: "application/json".into(),
            body: r#"{"success":false,"error":"invalid_args","msg":"error 404/3603: no_such_ask  Instance type by id {id} is not available."}"#.into(),
            headers: vec![],
        },
    ] {
        let stage = Stage::new();
        let fault = Fault::once("PUT", "/api/v0/asks/*/", effect).times(Some(2));
        stage.vast(|vast, _| vast.add_fault(fault));
        let process = stage.process();
        run(&process.engine, &stage.call()).await.expect("the third offer is rented");
        let calls = stage.calls.lock().expect("not poisoned").clone();
        let creates: Vec<&String> = calls.iter().filter(|call| call.starts_with("PUT /api/v0/asks/")).collect();
        assert_eq!(creates.len(), 3, "{creates:?}");
        assert!(creates[0] != creates[1] && creates[1] != creates[2], "{creates:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_carries_an_instance_is_destroyed() {
    // The number of the instance to come is learned from a rehearsal: the same seed counts alike.
    let rehearsal = Stage::new();
    strangers(&rehearsal);
    let process = rehearsal.process();
    let call = rehearsal.call();
    let (_, id) = tokio::join!(run(&process.engine, &call), ours(&rehearsal));
    let stage = Stage::new();
    strangers(&stage);
    let refusal = json!({"success": false, "error": "bid_too_low", "new_contract": id});
    let fault = Fault::once(
        "PUT",
        "/api/v0/asks/*/",
        Effect::Answer {
            status: 200,
            content_type: "application/json".into(),
            body: refusal.to_string(),
            headers: vec![],
        },
    );
    stage.vast(|vast, _| vast.add_fault(fault.after_commit()));
    let process = stage.process();
    run(&process.engine, &stage.call()).await.expect("another offer is rented");
    assert_only_strangers(&stage, "unwanted");
    assert_eq!(stage.ledger().created, 4);
}

/// Waits until a third instance, ours, exists.
async fn ours(stage: &Stage) -> u64 {
    let known: Vec<u64> = stage.ledger().open.iter().map(|instance| instance.id).collect();
    loop {
        if let Some(ours) = stage.ledger().open.iter().find(|instance| !known.contains(&instance.id)) {
            return ours.id;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_dearer_than_the_cap_is_destroyed() {
    let stage = Stage::new();
    strangers(&stage);
    let process = stage.process_with(None, |settings| {
        settings.max_dph_total = Some(crabbox_vast_engine::lease::DollarsPerHour(0.9));
    });
    let call = stage.call();
    let (outcome, ()) = tokio::join!(run(&process.engine, &call), async {
        let id = ours(&stage).await;
        stage.control("POST", &format!("/_sim/instances/{id}"), &json!({"dph_total": 1.7}));
    });
    assert_eq!(outcome.err().map(|error| error.code()), Some(Code::PriceCapExceeded));
    assert_only_strangers(&stage, "price");
}

#[tokio::test(start_paused = true)]
async fn start_faults_are_told_apart() {
    let cases = [
        ("docker: manifest for nosuch/image:1 not found: manifest unknown", Some(Code::StartFailedImage), 3),
        ("Error: OCI runtime create failed: nvidia-container-cli: initialization error", None, 4),
    ];
    for (message, code, created) in cases {
        let stage = Stage::new();
        strangers(&stage);
        let process = stage.process();
        let call = stage.call();
        let (outcome, ()) = tokio::join!(run(&process.engine, &call), async {
            let id = ours(&stage).await;
            stage.control(
                "POST",
                &format!("/_sim/instances/{id}"),
                &json!({"freeze": true, "status_msg": message}),
            );
        });
        assert_eq!(outcome.err().map(|error| error.code()), code, "{message}");
        assert_eq!(stage.ledger().created, created, "{message}");
        assert_only_strangers(&stage, message);
    }
}

/// The clock of our machine steps forward right after the create: a machine that no read shows yet is not gone.
#[tokio::test(start_paused = true)]
async fn a_clock_that_steps_does_not_make_a_new_machine_old() {
    let stage = Stage::with(|settings| {
        settings.read_lag = Duration::from_secs(60);
        settings.list_lag = Duration::from_secs(60);
    });
    let refusal = Effect::Answer {
        status: 200,
        content_type: "application/json".into(),
        body: r#"{"success":false,"msg":"not now"}"#.into(),
        headers: Vec::new(),
    };
    stage.vast(|vast, _| vast.add_fault(Fault::once("DELETE", "/api/v0/instances/*/", refusal)));
    let process = stage.process();
    let cancel = CancellationToken::new();
    let call = stage.call_with(cancel.clone());
    let (outcome, ()) = tokio::join!(run(&process.engine, &call), async {
        ours(&stage).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        stage.step_clock(3600);
        cancel.cancel();
    });
    assert_eq!(outcome.err().map(|error| error.code()), Some(Code::Cancelled));
    assert!(stage.ledger().open.is_empty(), "it bills on without a claim");
    assert_eq!(stage.claims(), Vec::<String>::new());
}

/// Somebody removes the claim of a lease that is starting: the acquire stops and writes no claim. What the other left
/// running is reported, not destroyed: no claim belongs to it.
#[tokio::test(start_paused = true)]
async fn an_acquire_whose_claim_is_removed_stops_and_never_rewrites_it() {
    let stage = Stage::new();
    let process = stage.process();
    let call = stage.call();
    let (outcome, ()) = tokio::join!(run(&process.engine, &call), async {
        ours(&stage).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        for lease in stage.claims() {
            let claims = stage.settings().paths.claims();
            std::fs::remove_file(claims.join(format!("{lease}.json"))).expect("a claim to remove");
        }
    });
    let error = outcome.expect_err("it stops");
    assert_eq!(error.code(), Code::ClaimMissing, "{error}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("may still run")), "{error:?}");
    assert_eq!(stage.claims(), Vec::<String>::new());
}

/// Two processes: one starts a lease, the other stops it meanwhile.
#[tokio::test(start_paused = true)]
async fn a_stop_beside_a_starting_acquire_ends_both() {
    let stage = Stage::new();
    strangers(&stage);
    let (one, other) = (stage.process(), stage.process());
    let call = stage.call();
    let (outcome, released) = tokio::join!(run(&one.engine, &call), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let request = ReleaseRequest { identifier: stage.claims().remove(0), action: None };
        other.engine.release(&request, &stage.call()).await
    });
    released.expect("the stop succeeds");
    assert_eq!(outcome.err().map(|error| error.code()), Some(Code::ClaimMissing));
    assert_only_strangers(&stage, "stopped beside");
    // The journal of what the other one ended goes after a day, as every journal does.
    let journals = || std::fs::read_dir(stage.settings().paths.journal()).expect("a folder").count();
    for (hours, left) in [(20, 1), (5, 0)] {
        assert_eq!(journals(), 1);
        tokio::time::sleep(Duration::from_secs(hours * 3_600)).await;
        other.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up");
        assert_eq!(journals(), left, "after {hours} hours more");
    }
}

/// The claim cannot be written once the machine answers: it is destroyed all the same, and the claim still leads to it.
#[tokio::test(start_paused = true)]
async fn a_machine_is_destroyed_even_if_its_claim_cannot_be_written() {
    let stage = Stage::new();
    strangers(&stage);
    let process = stage.process();
    let call = stage.call();
    let held = std::cell::RefCell::new(None);
    let (outcome, ()) = tokio::join!(run(&process.engine, &call), async {
        ours(&stage).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let lease = stage.claims().remove(0);
        let lock = stage.settings().paths.claim_locks().join(format!("{lease}.json.lock"));
        let file = std::fs::File::open(lock).expect("the claim's lock");
        file.lock().expect("the lock");
        *held.borrow_mut() = Some(file);
    });
    let error = outcome.expect_err("the claim cannot become ready");
    assert_eq!(error.code(), Code::LeaseBusy, "{error}");
    assert_eq!(stage.ledger().open.len(), 2, "{error}");
    drop(held);
    let lease = stage.claims().remove(0);
    let next = stage.process();
    let request = ReleaseRequest { identifier: lease, action: None };
    next.engine.release(&request, &stage.call()).await.expect("stop finishes");
    assert_only_strangers(&stage, "claim locked");
}

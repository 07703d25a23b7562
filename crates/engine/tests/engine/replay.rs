//! One lease id, many calls: whatever became of the first one, there is one instance, and it is the second one's.

use crate::support::{pass, strangers};
use crate::virtual_time::Stage;
use crabbox_vast_engine::lease::{LeaseId, Slug};
use crabbox_vast_engine::ops::Lease;
use crabbox_vast_engine::ops::{AcquireRequest, ReleaseRequest, RunRequest};
use crabbox_vast_engine::ssh::command::Script;
use crabbox_vast_engine::world::ExecIo;
use crabbox_vast_engine::{Call, Code, Engine, Result};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub const ID: &str = "cbx_0123456789ab";

pub fn request(keep: bool) -> AcquireRequest {
    AcquireRequest { keep, slug: Some("same".into()), lease_id: Some(ID.into()) }
}

pub async fn acquire(engine: &Engine, call: &Call) -> Result<Lease> {
    engine.acquire(&request(false), call).await
}

pub async fn stop(stage: &Stage) {
    let request = ReleaseRequest { identifier: ID.into(), action: None };
    stage.process().engine.release(&request, &stage.call()).await.expect("releases");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_acquire_gets_the_same_lease() {
    let stage = Stage::new();
    let first = acquire(&stage.process().engine, &stage.call()).await.expect("acquires");
    let second = acquire(&stage.process().engine, &stage.call()).await.expect("adopts");
    assert_eq!((first.facts().id.as_str(), first.facts().slug.as_str()), (ID, "same"));
    assert_eq!(first.facts().instance, second.facts().instance);
    assert_eq!(stage.ledger().created, 1);
}

/// The claim goes by other hands while the create is not answered: the same call does not rent a second machine beside what
/// may come to light.
#[tokio::test(start_paused = true)]
async fn a_claim_that_is_removed_over_an_unanswered_create_waits_for_what_it_may_have_made() {
    let stage = Stage::with(|settings| {
        settings.read_lag = Duration::from_secs(45);
        settings.list_lag = Duration::from_secs(45);
    });
    let lost = Fault::once("PUT", "/api/v0/asks/*/", Effect::Reset).after_commit();
    stage.vast(|vast, _| vast.add_fault(lost));
    let (process, call) = (stage.process(), stage.call());
    let dead = tokio::time::timeout(Duration::from_secs(10), acquire(&process.engine, &call)).await;
    assert!(dead.is_err());
    drop(process);
    let claim = stage.settings().paths.claims().join(format!("{ID}.json"));
    std::fs::remove_file(claim).expect("removed");
    let error = acquire(&stage.process().engine, &stage.call()).await.err().expect("it waits");
    assert_eq!((error.code(), stage.ledger().created), (Code::LeaseBusy, 1), "{error}");
    pass(Duration::from_secs(120)).await;
    let error = acquire(&stage.process().engine, &stage.call()).await.err().expect("it came to light");
    assert_eq!((error.code(), stage.ledger().created), (Code::LeaseIdConflict, 1), "{error}");
}

/// A kill at every step of an acquire, then the same acquire again: one machine, no more, and it works.
#[tokio::test(start_paused = true)]
async fn a_kill_at_any_step_and_a_replay_give_one_instance() {
    let clean = Stage::new();
    let process = clean.process();
    acquire(&process.engine, &clean.call()).await.expect("a clean acquire");
    let steps = process.steps.load(Ordering::SeqCst);
    assert!(steps > 15, "{steps} steps");
    let (mut adopted, mut anew) = (0, 0);
    for kill_at in 1..=steps {
        let what = format!("killed at step {kill_at}");
        let stage = Stage::new();
        let process = stage.process_with(Some(kill_at), |_| ());
        let outcome = process.live(acquire(&process.engine, &stage.call())).await;
        assert!(outcome.is_none(), "{what}: the process must die");
        drop((outcome, process));
        let rented = stage.ledger().created;
        let lease = acquire(&stage.process().engine, &stage.call())
            .await
            .unwrap_or_else(|error| panic!("{what}: {error} {error:?}"));
        assert_eq!(lease.facts().id.as_str(), ID, "{what}");
        let ledger = stage.ledger();
        assert_eq!((ledger.open.len(), ledger.created, ledger.max_concurrent), (1, 1, 1), "{what}");
        assert_eq!(ledger.open[0].id, lease.facts().instance.0, "{what}");
        (adopted, anew) = (adopted + rented, anew + 1 - rented);
        stop(&stage).await;
        assert_eq!(stage.ledger().open.len(), 0, "{what}");
    }
    assert!(adopted > 5 && anew > 5, "both ways must be taken: {adopted} adopted, {anew} anew");
}

/// The same while the first acquire is giving a bad machine up.
#[tokio::test(start_paused = true)]
async fn a_kill_while_a_machine_is_given_up_and_a_replay_give_one_instance() {
    let spoil = async |stage: &Stage| {
        loop {
            if let Some(instance) = stage.ledger().open.first() {
                let broken = json!({"freeze": true, "status_msg": "OCI runtime create failed: x"});
                stage.control("POST", &format!("/_sim/instances/{}", instance.id), &broken);
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let clean = Stage::new();
    let process = clean.process();
    let call = clean.call();
    let (outcome, ()) = tokio::join!(acquire(&process.engine, &call), spoil(&clean));
    outcome.expect("another machine");
    assert_eq!(clean.ledger().created, 2);
    let steps = process.steps.load(Ordering::SeqCst);
    for kill_at in (8..=steps).step_by(2) {
        let what = format!("killed at step {kill_at}");
        let stage = Stage::new();
        let process = stage.process_with(Some(kill_at), |_| ());
        let call = stage.call();
        tokio::join!(process.live(acquire(&process.engine, &call)), async {
            tokio::select! { () = spoil(&stage) => {}, () = process.killed.cancelled() => {} }
        });
        drop(process);
        let lease = acquire(&stage.process().engine, &stage.call())
            .await
            .unwrap_or_else(|error| panic!("{what}: {error} {error:?}"));
        let ledger = stage.ledger();
        assert_eq!((ledger.open.len(), ledger.max_concurrent), (1, 1), "{what}");
        assert_eq!(ledger.open[0].id, lease.facts().instance.0, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_and_a_kill_are_recovered_by_the_label() {
    let stage = Stage::new();
    let fault = Fault::once("PUT", "/api/v0/asks/*/", Effect::Reset).after_commit();
    stage.vast(|vast, _| vast.add_fault(fault));
    let process = stage.process();
    let call = stage.call();
    tokio::select! {
        _ = acquire(&process.engine, &call) => panic!("it must not end yet"),
        () = async {
            while stage.ledger().created == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        } => {}
    }
    drop(process);
    let lease = acquire(&stage.process().engine, &stage.call()).await.expect("recovers");
    let ledger = stage.ledger();
    assert_eq!((ledger.created, ledger.open[0].id), (1, lease.facts().instance.0));
}

/// Whether an id is in use elsewhere is not told by a list from which rows are missing.
#[tokio::test(start_paused = true)]
async fn a_given_id_rents_nothing_on_a_list_that_is_not_whole() {
    for (times, rents) in [(1, true), (9, false)] {
        let stage = Stage::new();
        strangers(&stage);
        let short = Effect::Answer {
            status: 200,
            content_type: "application/json".into(),
            body: json!({"success": true, "instances": [], "total_instances": 2, "next_token": null})
                .to_string(),
            headers: Vec::new(),
        };
        stage.vast(|vast, _| {
            vast.add_fault(Fault::once("GET", "/api/v1/instances/", short).times(Some(times)))
        });
        let outcome = acquire(&stage.process().engine, &stage.call()).await.map(|_| ());
        let outcome = outcome.map_err(|error| error.code());
        assert_eq!(outcome, if rents { Ok(()) } else { Err(Code::ApiMalformed) });
        // Beside the two strangers.
        assert_eq!((stage.ledger().open.len(), stage.claims().len()), (2 + usize::from(rents), rents.into()));
    }
}

#[tokio::test(start_paused = true)]
async fn another_request_under_the_same_id_is_refused() {
    let stage = Stage::new();
    acquire(&stage.process().engine, &stage.call()).await.expect("acquires");
    type Change = fn(&mut crabbox_vast_engine::config::Settings);
    let conflicts: [(&str, Change); 9] = [
        ("image", |settings| settings.image = "other/image:1".into()),
        ("disk", |settings| settings.disk_gb = 33),
        ("GPU", |settings| settings.gpu_name = Some("RTX 3090".into())),
        ("price cap", |settings| {
            settings.max_dph_total = Some(crabbox_vast_engine::lease::DollarsPerHour(9.0))
        }),
        ("template", |settings| settings.template_id = Some("abc".into())),
        ("pond", |settings| settings.pond = Some(Slug::requested("lab").unwrap().unwrap())),
        ("exposed ports", |settings| settings.expose = vec![80, 8080]),
        ("cost limit", |settings| settings.max_cost = Some(crabbox_vast_engine::lease::Dollars(5.0))),
        ("time to live", |settings| {
            (settings.ttl, settings.ttl_explicit) = (Duration::from_secs(600), true);
        }),
    ];
    for (what, change) in conflicts {
        let process = stage.process_with(None, change);
        let error = acquire(&process.engine, &stage.call()).await.map(|_| ()).expect_err(what);
        assert_eq!((error.code(), error.exit_code()), (Code::LeaseIdConflict, 2), "{error}");
        assert!(error.to_string().contains(&format!("{what} was")), "{error}");
    }
    for other in [request(true), AcquireRequest { slug: None, ..request(false) }] {
        let outcome = stage.process().engine.acquire(&other, &stage.call()).await.map(|_| ());
        assert_eq!(outcome.map_err(|error| error.code()), Err(Code::LeaseIdConflict), "{other:?}");
    }
    for bad in ["cbx_0123", "CBX_0123456789AB", "swift-krill", ""] {
        let other = AcquireRequest { lease_id: Some(bad.into()), ..request(false) };
        let outcome = stage.process().engine.acquire(&other, &stage.call()).await.map(|_| ());
        assert_eq!(outcome.map_err(|error| error.code()), Err(Code::InvalidArgument), "{bad}");
    }
    assert_eq!(stage.ledger().created, 1);
}

#[tokio::test(start_paused = true)]
async fn a_spent_id_is_refused_and_a_failed_acquire_spends_none() {
    let stage = Stage::new();
    acquire(&stage.process().engine, &stage.call()).await.expect("acquires");
    stop(&stage).await;
    let error = acquire(&stage.process().engine, &stage.call()).await.map(|_| ()).expect_err("spent");
    assert_eq!((error.code(), error.exit_code()), (Code::LeaseReleased, 2), "{error}");
    assert_eq!(stage.ledger().created, 1);

    let stage = Stage::new();
    let process = stage.process();
    let call = stage.call();
    let (outcome, ()) = tokio::join!(acquire(&process.engine, &call), async {
        while stage.ledger().open.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let id = stage.ledger().open[0].id;
        let broken = json!({"freeze": true, "status_msg": "manifest unknown"});
        stage.control("POST", &format!("/_sim/instances/{id}"), &broken);
    });
    assert_eq!(outcome.map(|_| ()).map_err(|error| error.code()), Err(Code::StartFailedImage));
    assert_eq!(stage.ledger().open.len(), 0);
    acquire(&stage.process().engine, &stage.call()).await.expect("the image is there now");
    assert_eq!(stage.ledger().open.len(), 1);
}

/// The create is answered and the claim cannot be written, nor the machine destroyed: the journal knows whose it is.
#[tokio::test(start_paused = true)]
async fn a_machine_whose_number_never_got_into_the_claim_is_the_leases() {
    for replay in [false, true] {
        let stage = Stage::new();
        let refusal = Effect::Html(502);
        stage.vast(|vast, _| {
            vast.add_fault(Fault::once("PUT", "/api/v0/asks/*/", Effect::Delay(Duration::from_secs(2))));
            vast.add_fault(Fault::once("DELETE", "/api/v0/instances/*/", refusal).times(None));
        });
        let process = stage.process();
        let call = stage.call();
        let (outcome, held) = tokio::join!(acquire(&process.engine, &call), async {
            while stage.claims().is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let lock = stage.settings().paths.claim_locks().join(format!("{ID}.json.lock"));
            let file = std::fs::File::open(lock).expect("the claim's lock");
            file.lock().expect("the lock");
            file
        });
        assert_eq!(outcome.map(|_| ()).map_err(|error| error.code()), Err(Code::LeaseBusy));
        let lost = stage.ledger().open[0].id;
        drop((held, process));
        stage.control("DELETE", "/_sim/faults", &json!({}));
        if replay {
            let lease = acquire(&stage.process().engine, &stage.call()).await.expect("another machine");
            assert_ne!(lease.facts().instance.0, lost);
            assert_eq!((stage.ledger().open.len(), stage.ledger().max_concurrent), (1, 1));
        } else {
            stop(&stage).await;
            assert!(stage.ledger().open.is_empty() && stage.claims().is_empty());
        }
    }
}

/// What a repeated acquire does not rent, it does not prepare: what others left is finished all the same, and by the
/// release of its lease.
#[tokio::test(start_paused = true)]
async fn a_repeated_acquire_and_a_release_finish_what_the_dead_left() {
    let stage = Stage::new();
    let process = stage.process();
    let leave_one = async || {
        let (dying, call) = (stage.process(), stage.call());
        let wanted = RunRequest::new(Script::Argv(vec!["nvidia-smi".into()]));
        let (output, _receive) = tokio::sync::mpsc::channel(16);
        let dead = dying.engine.run(&wanted, ExecIo { stdin: None, output }, &call);
        assert!(tokio::time::timeout(Duration::from_secs(20), dead).await.is_err());
        assert_eq!(stage.ledger().open.len(), 2);
    };
    acquire(&process.engine, &stage.call()).await.expect("acquires");
    leave_one().await;
    let lease = acquire(&stage.process().engine, &stage.call()).await.expect("the same");
    assert_eq!(stage.ledger().open.len(), 1);
    leave_one().await;
    lease.release(None, &stage.call()).await.expect("releases");
    assert_eq!((stage.ledger().open.len(), stage.claims().len()), (0, 0));
}

/// What this lease itself gave up and what is taken apart already may linger in the list: neither blocks its id.
#[tokio::test(start_paused = true)]
async fn what_lingers_in_the_list_blocks_no_id() {
    let stage = Stage::new();
    let process = stage.process();
    let label = json!({"label": format!("cbx1|{ID}|same|ready")});
    let lingering = ["gone", "unloaded"]
        .map(|_| stage.control("POST", "/_sim/instances", &label)["id"].as_u64().expect("an id"));
    let unloaded = json!({"cur_state": "unloaded", "freeze": true});
    stage.control("POST", &format!("/_sim/instances/{}", lingering[1]), &unloaded);
    let error = acquire(&process.engine, &stage.call()).await.map(|_| ()).expect_err("not ours");
    assert_eq!(error.code(), Code::LeaseIdConflict, "{error}");
    // As if the first were what an earlier call of ours gave up.
    stage.control("POST", &format!("/_sim/instances/{}", lingering[0]), &json!({"hidden": true}));
    let lease = acquire(&process.engine, &stage.call()).await.expect("what is unloaded blocks nothing");
    let own = lease.facts().instance;
    drop(lease);
    let (store, id) = (process.engine.store(), LeaseId::parse(ID).unwrap());
    stop(&stage).await;
    let mut journal = store.journal(&id).await.unwrap().unwrap();
    assert_eq!(journal.attempts[0].instance, Some(own.0));
    journal.discard("its process died");
    journal.steps[0].instance = lingering[0];
    store.write_journal(&journal).await.unwrap();
    stage.control("POST", &format!("/_sim/instances/{}", lingering[0]), &json!({"hidden": false}));
    acquire(&process.engine, &stage.call()).await.expect("nor does its own tombstone");
}

/// Two processes with one id at the same time: one rents, the other waits for it and gets the same lease.
#[tokio::test(start_paused = true)]
async fn two_calls_at_once_share_one_instance() {
    let stage = Stage::new();
    let (one, other) = (stage.process(), stage.process());
    let call = stage.call();
    let (first, second) = tokio::join!(acquire(&one.engine, &call), acquire(&other.engine, &call));
    let (first, second) = (first.expect("the first"), second.expect("the second"));
    assert_eq!(first.facts().instance, second.facts().instance);
    assert_eq!((stage.ledger().created, stage.ledger().max_concurrent), (1, 1));
}

/// The claim of a lease is gone, or on another machine, and its instance runs: nobody rents a second one under its id.
#[tokio::test(start_paused = true)]
async fn an_instance_without_a_claim_blocks_its_id() {
    let stage = Stage::new();
    stage.control("POST", "/_sim/instances", &json!({"label": format!("cbx1|{ID}|same|ready")}));
    let error = acquire(&stage.process().engine, &stage.call()).await.map(|_| ()).expect_err("not ours");
    assert_eq!(error.code(), Code::LeaseIdConflict, "{error}");
    assert_eq!(stage.ledger().created, 1);
    assert_eq!((stage.claims(), stage.keys()), (vec![], vec![]));
}

/// Six processes at once over one state directory: no slug twice, neither a generated nor a requested one.
#[tokio::test(start_paused = true)]
async fn processes_at_once_never_share_a_slug() {
    let stage = Stage::with(|settings| settings.rate_limits = false);
    let call = stage.call();
    let mut acquires = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (engine, call) = (stage.process().engine, call.clone());
        acquires.spawn(async move {
            let request = AcquireRequest { slug: Some("Same Name".into()), ..AcquireRequest::default() };
            engine.acquire(&request, &call).await.expect("acquires").facts().slug.clone()
        });
    }
    let mut slugs = acquires.join_all().await;
    slugs.sort();
    slugs.dedup();
    assert_eq!(slugs.len(), 6, "{slugs:?}");
    assert!(slugs.iter().any(|slug| slug == "same-name"), "one gets it: {slugs:?}");
    assert_eq!(stage.ledger().open.len(), 6);
}

//! One lease id, many calls: whatever became of the first one, there is one instance, and it is the second one's.

use crate::support::{claim, edit, journal_of, run_on, strangers};
use crate::virtual_time::Stage;
use crabbox_vast_engine::config::Settings;
use crabbox_vast_engine::lease::{Dollars, InstanceId, LeaseId, ReleaseAction, Slug};
use crabbox_vast_engine::ops::Lease;
use crabbox_vast_engine::ops::{AcquireRequest, AdoptRequest, ReleaseRequest, RunRequest, StartRequest};
use crabbox_vast_engine::ssh::command::Script;
use crabbox_vast_engine::store::DeadmanRecord;
use crabbox_vast_engine::world::ExecIo;
use crabbox_vast_engine::{Call, Code, Engine, Result};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;

const ID: &str = "cbx_0123456789ab";

fn request(keep: bool) -> AcquireRequest {
    AcquireRequest { keep, slug: Some("same".into()), lease_id: Some(ID.into()) }
}

async fn acquire(engine: &Engine, call: &Call) -> Result<Lease> {
    engine.acquire(&request(false), call).await
}

async fn stop(stage: &Stage) {
    let request = ReleaseRequest { identifier: ID.into(), action: None };
    stage.process().engine.release(&request, &stage.call()).await.expect("releases");
}

async fn adopt(engine: &Engine, call: &Call) {
    let request = AdoptRequest { identifier: ID.into(), keep: false };
    engine.adopt(&request, call).await.expect("takes it over");
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
        ("limit", |settings| settings.max_cost = Some(crabbox_vast_engine::lease::Dollars(5.0))),
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

/// An acquire that died while its machine booted, when the claim named it and the journal did not yet.
async fn cut_off_between_its_records(stage: &Stage) -> InstanceId {
    let process = stage.process();
    let (call, wanted) = (stage.call(), request(true));
    let limit = Duration::from_secs(3);
    assert!(tokio::time::timeout(limit, process.engine.acquire(&wanted, &call)).await.is_err(), "it boots");
    let mut journal = journal_of(&process, &LeaseId::parse(ID).unwrap()).await;
    (journal.attempts[0].outcome, journal.attempts[0].instance, journal.instance) = (None, None, None);
    process.engine.store().write_journal(&journal).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    InstanceId(stage.ledger().open[0].id)
}

/// The number is caught up by whoever takes the lease over, so that the id is spent once the lease is given back.
#[tokio::test(start_paused = true)]
async fn a_lease_that_was_taken_up_spends_its_id() {
    for by in [By::Again, By::Run, By::Crabbox, By::Adopt] {
        let stage = Stage::new();
        let instance = cut_off_between_its_records(&stage).await;
        take_over(&stage, by).await;
        let journal = journal_of(&stage.process(), &LeaseId::parse(ID).unwrap()).await;
        assert_eq!(journal.created(instance), by != By::Crabbox, "{by:?}: {journal:?}");
        stop(&stage).await;
        let again = stage.process().engine.acquire(&request(true), &stage.call()).await;
        let code = again.err().map(|error| error.code());
        assert_eq!((code, stage.ledger().created), (Some(Code::LeaseReleased), 1), "{by:?}");
    }
}

/// An acquire that died while its machine booted, which a cleanup then gave up; the API refused its destroy.
async fn given_up(stage: &Stage) -> InstanceId {
    let dying = stage.process();
    let (call, wanted) = (stage.call(), request(true));
    let dead = tokio::time::timeout(Duration::from_secs(3), dying.engine.acquire(&wanted, &call)).await;
    assert!(dead.is_err(), "it dies booting");
    tokio::time::sleep(Duration::from_secs(120)).await;
    let refusal = Effect::Html(403);
    stage.vast(|vast, _| {
        vast.add_fault(Fault::once("DELETE", "/api/v0/instances/*/", refusal).times(None));
    });
    let cleaned = stage.process().engine.cleanup(&Default::default(), &stage.call()).await.expect("cleans");
    assert_eq!(cleaned.summary.destroyed, 0, "{cleaned:?}");
    stage.control("DELETE", "/_sim/faults", &json!({}));
    let open = stage.ledger().open;
    let journal = stage.process().engine.store().scan_journals().await.expect("readable").remove(0);
    assert!(journal.discarded(InstanceId(open[0].id)), "{journal:?}");
    InstanceId(open[0].id)
}

/// How a lease is taken over whose acquire died.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Again,
    Run,
    Crabbox,
    Adopt,
}

async fn take_over(stage: &Stage, by: By) {
    let (process, call) = (stage.process(), stage.call());
    match by {
        By::Again => {
            process.engine.acquire(&request(true), &call).await.expect("takes it up");
        }
        By::Crabbox => {
            let now = stage.unix_now().to_string();
            edit(&process, &LeaseId::parse(ID).unwrap(), move |claim| {
                for (label, text) in [("state", "ready"), ("created_at", &now), ("last_touched_at", &now)] {
                    claim.labels.insert(label.into(), text.to_owned());
                }
            })
            .await;
        }
        By::Run => {
            run_on(&process.engine, Some(ID), false, &call).await.expect("it runs");
        }
        By::Adopt => adopt(&process.engine, &call).await,
    }
}

/// Given up by whoever recovered it, and used before it was destroyed: it is what the id stands for, whatever becomes of
/// it later.
#[tokio::test(start_paused = true)]
async fn a_machine_that_was_given_up_and_used_all_the_same_is_the_leases() {
    let ends = ["is ready", "is stopped", "starts", "is destroyed"];
    for (then, by) in ends.into_iter().flat_map(|then| [By::Run, By::Crabbox, By::Adopt].map(|by| (then, by)))
    {
        let what = format!("{then}, by {by:?}");
        let stage = Stage::new();
        let first = given_up(&stage).await;
        let (process, call) = (stage.process(), stage.call());
        take_over(&stage, by).await;
        let action = (then != "is destroyed").then_some(ReleaseAction::Stop);
        let release = ReleaseRequest { identifier: ID.into(), action };
        if then != "is ready" {
            process.engine.release(&release, &call).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        if then == "starts" {
            let start = StartRequest { identifier: ID.into() };
            let dead =
                tokio::time::timeout(Duration::from_secs(3), process.engine.start(&start, &call)).await;
            assert!(dead.is_err(), "{what}: it dies starting");
        }
        let again = stage.process().engine.acquire(&request(true), &stage.call()).await;
        let code = again.as_ref().err().map(|error| error.code());
        let expected = match then {
            "is stopped" | "starts" => Some(Code::InstanceNotRunning),
            "is destroyed" => Some(Code::LeaseReleased),
            _ => None,
        };
        assert_eq!((code, stage.ledger().created), (expected, 1), "{what}");
        let left: Vec<u64> = stage.ledger().open.iter().map(|one| one.id).collect();
        let expected = if then == "is destroyed" { vec![] } else { vec![first.0] };
        assert_eq!(left, expected, "{what}");
    }
}

/// Whoever adopts a lease whose acquire died takes it over: it ends at its time, and not with the dead acquire.
#[tokio::test(start_paused = true)]
async fn an_adopted_lease_does_not_end_with_the_acquire_that_died() {
    for dead in ["booting", "given up"] {
        let stage = Stage::new();
        if dead == "booting" {
            let (process, call, wanted) = (stage.process(), stage.call(), request(false));
            let limit = Duration::from_secs(3);
            let cut_off = tokio::time::timeout(limit, process.engine.acquire(&wanted, &call)).await;
            assert!(cut_off.is_err(), "it dies booting");
            tokio::time::sleep(Duration::from_secs(120)).await;
        } else {
            given_up(&stage).await;
        }
        adopt(&stage.process().engine, &stage.call()).await;
        let cleanup = async || {
            let process = stage.process();
            process
                .engine
                .cleanup(&Default::default(), &stage.call())
                .await
                .expect("cleans")
                .summary
                .destroyed
        };
        assert_eq!((cleanup().await, stage.ledger().open.len()), (0, 1), "{dead}");
        let (process, id) = (stage.process(), LeaseId::parse(ID).unwrap());
        edit(&process, &id, |claim| {
            claim.labels.insert("expires_at".into(), "1700000000".into());
            claim.labels.insert("keep".into(), "false".into());
        })
        .await;
        let mut journal = journal_of(&process, &id).await;
        journal.request.keep = false;
        process.engine.store().write_journal(&journal).await.expect("written");
        assert_eq!((cleanup().await, stage.ledger().open.len()), (1, 0), "{dead}");
    }
}

/// Nobody used it: the same acquire goes on with another machine.
#[tokio::test(start_paused = true)]
async fn a_machine_that_was_given_up_and_not_used_is_replaced() {
    let stage = Stage::new();
    let first = given_up(&stage).await;
    let lease = stage.process().engine.acquire(&request(true), &stage.call()).await.expect("another machine");
    assert_ne!(lease.facts().instance, first);
    assert_eq!((stage.ledger().open.len(), stage.ledger().max_concurrent), (1, 1));
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

/// The lease was a run's alone, and the run died: whoever takes its id up has a lease that is no dead one's.
#[tokio::test(start_paused = true)]
async fn a_lease_that_was_taken_up_does_not_end_with_the_run_that_died() {
    let clean = Stage::new();
    let process = clean.process();
    run(&process.engine, &clean.call()).await.expect("a clean run");
    let steps = process.steps.load(Ordering::SeqCst);
    let mut survived = 0;
    for kill_at in (1..=steps).step_by(3) {
        let stage = Stage::new();
        let process = stage.process_with(Some(kill_at), |_| ());
        drop(process.live(run(&process.engine, &stage.call())).await);
        drop(process);
        let lease = match acquire(&stage.process().engine, &stage.call()).await {
            Ok(lease) => lease,
            // The run had begun to give it back.
            Err(error) => {
                assert!(matches!(error.code(), Code::LeaseReleased), "killed at {kill_at}: {error}");
                continue;
            }
        };
        lease.close().await;
        tokio::time::sleep(Duration::from_secs(400)).await;
        let cleaned =
            stage.process().engine.cleanup(&Default::default(), &stage.call()).await.expect("cleans");
        assert_eq!(cleaned.summary.destroyed, 0, "killed at {kill_at}: {cleaned:?}");
        assert_eq!(stage.ledger().open.len(), 1, "killed at {kill_at}");
        survived += 1;
    }
    assert!(survived > 8, "{survived} of {steps} steps");
}

async fn run(engine: &Engine, call: &Call) -> Result<()> {
    let script = Script::Argv(vec!["nvidia-smi".into()]);
    let wanted = RunRequest { acquire: request(false), ..RunRequest::new(script) };
    let (output, mut receive) = tokio::sync::mpsc::channel(16);
    let drain = async { while receive.recv().await.is_some() {} };
    tokio::join!(engine.run(&wanted, ExecIo { stdin: None, output }, call), drain).0.map(|_| ())
}

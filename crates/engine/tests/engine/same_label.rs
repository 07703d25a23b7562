//! One label on several instances: what the creates of a lease made is its own, and nothing else is touched for it.

use crate::support::{claim, edit, mutations, open, pass, rented_elsewhere, stop, warnings};
use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::Code;
use crabbox_vast_engine::config::Settings;
use crabbox_vast_engine::lease::{InstanceId, LeaseId};
use crabbox_vast_engine::ops::{AcquireRequest, CleanupRequest, ReleaseOutcome};
use crabbox_vast_engine::store::{Attempt, StepKind};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::{Value, json};
use std::time::Duration;

const ID: &str = "cbx_0123456789ab";
const LABEL: &str = "cbx1|cbx_0123456789ab|same|provisioning";

fn request() -> AcquireRequest {
    AcquireRequest { keep: true, slug: Some("same".into()), lease_id: Some(ID.into()) }
}

/// Another machine with the same account: its own state directory, its own keys.
fn elsewhere(stage: &Stage) -> Process {
    let other = stage.home.path().join("elsewhere");
    stage.process_with(None, move |settings: &mut Settings| {
        settings.paths.state = other.join("state");
        settings.paths.config = other.join("config");
    })
}

fn lose_a_create(stage: &Stage, committed: bool) {
    let fault = Fault::once("PUT", "/api/v0/asks/*/", Effect::Reset);
    stage.vast(|vast, _| vast.add_fault(if committed { fault.after_commit() } else { fault }));
}

fn answer(body: &Value) -> Effect {
    Effect::Answer {
        status: 200,
        content_type: "application/json".into(),
        body: body.to_string(),
        headers: Vec::new(),
    }
}

/// Leaves a claim whose create was never answered, and a process that died while it looked.
async fn cut_off(stage: &Stage, committed: bool) {
    cut_off_as(stage, &request(), committed).await;
    assert_eq!(stage.claims(), [ID]);
}

/// The same for any request; the process that died.
async fn cut_off_as(stage: &Stage, wanted: &AcquireRequest, committed: bool) -> Process {
    lose_a_create(stage, committed);
    let process = stage.process();
    let call = stage.call();
    let limit = Duration::from_secs(3);
    assert!(tokio::time::timeout(limit, process.engine.acquire(wanted, &call)).await.is_err());
    process
}

#[tokio::test(start_paused = true)]
async fn a_living_lease_of_another_machine_under_the_same_id_is_no_surplus() {
    let stage = Stage::with(|settings| settings.rate_limits = false);
    lose_a_create(&stage, true);
    let (here, there) = (stage.process(), elsewhere(&stage));
    let (call, wanted) = (stage.call(), request());
    let (ours, theirs) = tokio::join!(here.engine.acquire(&wanted, &call), async {
        // Both have read an empty list; the other create is the one that is answered.
        pass(Duration::from_millis(20)).await;
        there.engine.acquire(&wanted, &call).await
    });
    let (ours, theirs) = (ours.expect("ours").facts().instance, theirs.expect("theirs").facts().instance);
    assert_ne!(ours, theirs);
    assert_eq!(open(&stage).len(), 2);
    stop(&here.engine, ID, &stage.call()).await.expect("stops ours");
    assert_eq!(open(&stage), [theirs.0]);
}

#[tokio::test(start_paused = true)]
async fn what_another_machine_rented_later_is_refused_and_not_destroyed() {
    for recover in ["stop", "cleanup", "acquire"] {
        let stage = Stage::new();
        cut_off(&stage, false).await;
        pass(Duration::from_secs(900)).await;
        let there = elsewhere(&stage);
        let lease = there.engine.acquire(&request(), &stage.call()).await.expect("rents");
        let theirs = lease.facts().instance.0;
        mutations(&stage);
        let here = stage.process();
        if recover == "cleanup" {
            let cleaned = here.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.unwrap();
            assert!(cleaned.summary.failed > 0, "{cleaned:?}");
        } else {
            let error = match recover {
                "stop" => stop(&here.engine, ID, &stage.call()).await.map(|_| ()).expect_err("not ours"),
                _ => here.engine.acquire(&request(), &stage.call()).await.map(|_| ()).expect_err("not ours"),
            };
            assert_eq!(error.code(), Code::LeaseAmbiguous, "{recover}: {error}");
            assert!(error.to_string().contains(&theirs.to_string()), "{error}");
            assert!(error.hint_text().is_some_and(|hint| hint.contains("forget")), "{error:?}");
        }
        assert_eq!(open(&stage), [theirs], "{recover}");
        assert_eq!(mutations(&stage), Vec::<String>::new(), "{recover}");
        assert_eq!(stage.claims(), [ID], "{recover}: nothing is forgotten");
        // Once that lease is over, ours is proved never created.
        stop(&there.engine, ID, &stage.call()).await.expect("stops theirs");
        let released = stop(&here.engine, ID, &stage.call()).await.expect("clears the claim");
        assert_eq!(released.outcome, ReleaseOutcome::NeverCreated);
    }
}

#[tokio::test(start_paused = true)]
async fn beside_a_definite_answer_another_instance_under_the_label_is_not_ours() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = process.engine.acquire(&request(), &stage.call()).await.expect("acquires");
    let (id, own) = (lease.facts().id.clone(), lease.facts().instance.0);
    let other = rented_elsewhere(&stage, LABEL);
    // As if the claim had lost its instance; the journal has it.
    edit(&process, &id, |claim| {
        claim.cloud_id.clear();
        claim.labels.insert("state".into(), "ambiguous-create".into());
        claim.labels.insert("recovery".into(), "ambiguous-create".into());
    })
    .await;
    stop(&stage.process().engine, ID, &stage.call()).await.expect("stops ours");
    assert_eq!(open(&stage), [other], "ours was {own}");
    assert!(warnings(&stage).iter().any(|line| line.contains("left alone")), "{:?}", warnings(&stage));
}

/// A clock that stepped, a server that tells odd times: neither makes our own machine somebody else's.
#[tokio::test(start_paused = true)]
async fn an_id_that_was_drawn_and_a_key_outrank_times_and_machines() {
    for lease_id in [None, Some(ID.to_owned())] {
        let stage = Stage::new();
        let wanted = AcquireRequest { lease_id: lease_id.clone(), ..request() };
        let process = cut_off_as(&stage, &wanted, true).await;
        let id = LeaseId::parse(&stage.claims()[0]).unwrap();
        let journal = process.engine.store().journal(&id).await.unwrap().unwrap();
        assert_eq!(journal.drawn, lease_id.is_none());
        let mut odd = json!({"start_date": 1_000_000_000, "machine_id": 99_999});
        if journal.drawn {
            // A stopped one shows no start script: the label alone decides.
            odd["onstart"] = Value::Null;
        }
        let made = open(&stage)[0];
        stage.control("POST", &format!("/_sim/instances/{made}"), &odd);
        assert_eq!(open(&stage).len(), 1);
        pass(Duration::from_secs(30)).await;
        stop(&stage.process().engine, id.as_str(), &stage.call()).await.expect("stops ours");
        assert_eq!((open(&stage), stage.claims()), (vec![], vec![]), "{lease_id:?}");
    }
}

/// A create that was given up after its window: whoever takes the lease up looks once more before it is forgotten.
#[tokio::test(start_paused = true)]
async fn what_a_given_up_create_made_after_all_is_found() {
    for recover in ["stop", "cleanup", "acquire"] {
        let stage = Stage::new();
        cut_off(&stage, true).await;
        let process = stage.process();
        let id = LeaseId::parse(ID).unwrap();
        let mut journal = process.engine.store().journal(&id).await.unwrap().unwrap();
        journal.attempts[0].outcome = Some("nothing: proved by the complete list".into());
        process.engine.store().write_journal(&journal).await.unwrap();
        pass(Duration::from_secs(30)).await;
        let made = open(&stage);
        match recover {
            "stop" => drop(stop(&process.engine, ID, &stage.call()).await.expect("stops")),
            "cleanup" => {
                drop(
                    process.engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans"),
                );
            }
            _ => {
                let lease = process.engine.acquire(&request(), &stage.call()).await.expect("adopts");
                assert_eq!(vec![lease.facts().instance.0], made);
                assert_eq!(open(&stage), made);
                continue;
            }
        }
        assert_eq!((open(&stage), stage.claims()), (vec![], vec![]), "{recover}");
    }
}

/// Two creates without an answer: the one that shows first is the earlier one's, and the last one's comes to light later.
#[tokio::test(start_paused = true)]
async fn an_earlier_creates_machine_does_not_end_the_look_for_the_last_ones() {
    for (both, replay) in [(true, false), (true, true), (false, true)] {
        let what = format!("both: {both}, replay: {replay}");
        let stage = Stage::new();
        cut_off(&stage, both).await;
        let process = stage.process();
        let (store, id) = (process.engine.store(), LeaseId::parse(ID).unwrap());
        let mut journal = store.journal(&id).await.unwrap().unwrap();
        let last = journal.attempts[0].clone();
        let first = Attempt {
            machine: Some(4),
            price: 0.0625,
            started_at: last.started_at - 200,
            vendor_at: last.vendor_at.map(|at| at - 200),
            outcome: Some("nothing: proved by the complete list".into()),
            ..last
        };
        journal.attempts.insert(0, first);
        store.write_journal(&journal).await.unwrap();
        let late = open(&stage).first().copied();
        let hide = |hidden: bool| {
            if let Some(late) = late {
                stage.control("POST", &format!("/_sim/instances/{late}"), &json!({"hidden": hidden}));
            }
        };
        hide(true);
        let body = json!({"label": LABEL, "machine_id": 4, "actual_status": "running"});
        let early = stage.control("POST", "/_sim/instances", &body)["id"].as_u64().unwrap();
        let (call, wanted) = (stage.call(), request());
        let work = async {
            if replay {
                drop(process.engine.acquire(&wanted, &call).await.expect("adopts"));
            } else {
                stop(&process.engine, ID, &call).await.expect("stops");
            }
        };
        tokio::join!(work, async {
            pass(Duration::from_secs(40)).await;
            hide(false);
        });
        if !replay {
            assert_eq!((open(&stage), stage.claims()), (vec![], vec![]), "{what}");
            continue;
        }
        let own = late.unwrap_or(early);
        assert_eq!(open(&stage), [own], "{what}");
        let journal = store.journal(&id).await.unwrap().unwrap();
        let made: Vec<_> = journal.attempts.iter().map(|attempt| attempt.instance).collect();
        assert_eq!(made, [Some(early), late], "{what}");
        assert_eq!(journal.instance, Some(own), "{what}");
    }
}

/// On the same machine, in the same seconds, under the same label: the key in its start script tells that it is not ours.
#[tokio::test(start_paused = true)]
async fn what_started_with_another_key_is_not_ours() {
    let stage = Stage::new();
    cut_off(&stage, false).await;
    let there = elsewhere(&stage);
    let lease = there.engine.acquire(&request(), &stage.call()).await.expect("rents");
    let theirs = lease.facts().instance.0;
    mutations(&stage);
    let error = stop(&stage.process().engine, ID, &stage.call()).await.map(|_| ()).expect_err("not ours");
    assert_eq!(error.code(), Code::LeaseAmbiguous, "{error}");
    assert_eq!((open(&stage), mutations(&stage)), (vec![theirs], vec![]));
}

/// Two creates of one lease, both without an answer and both carried out: none of the two stays.
#[tokio::test(start_paused = true)]
async fn what_two_unanswered_creates_of_ours_made_is_ours() {
    let stage = Stage::new();
    cut_off(&stage, true).await;
    let process = stage.process();
    let mut journal = process.engine.store().journal(&LeaseId::parse(ID).unwrap()).await.unwrap().unwrap();
    let proved = Some("nothing: proved by the complete list".to_owned());
    let first = Attempt { machine: Some(4), outcome: proved, ..journal.attempts[0].clone() };
    journal.attempts.insert(0, first);
    process.engine.store().write_journal(&journal).await.unwrap();
    let body = json!({"label": LABEL, "machine_id": 4, "actual_status": "running"});
    stage.control("POST", "/_sim/instances", &body);
    let strangers = rented_elsewhere(&stage, LABEL);
    assert_eq!(open(&stage).len(), 3);
    pass(Duration::from_secs(30)).await;
    stop(&process.engine, ID, &stage.call()).await.expect("stops both");
    assert_eq!(open(&stage), [strangers]);
    assert_eq!(stage.claims(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn the_claim_is_read_last_before_a_failed_acquire_destroys() {
    let stage = Stage::new();
    let process = stage.process();
    let call = stage.call();
    let wanted = request();
    let id = LeaseId::parse(ID).unwrap();
    let (outcome, instance) = tokio::join!(process.engine.acquire(&wanted, &call), async {
        while stage.claims().is_empty() || claim(&process, &id).await.instance_id().is_none() {
            pass(Duration::from_millis(50)).await;
        }
        let instance = stage.ledger().open[0].id;
        // Somebody binds the lease to another machine, and the one that starts breaks.
        edit(&process, &id, |claim| claim.set_instance(InstanceId(777))).await;
        let broken = json!({"freeze": true, "status_msg": "manifest unknown"});
        stage.control("POST", &format!("/_sim/instances/{instance}"), &broken);
        instance
    });
    let error = outcome.map(|_| ()).expect_err("the image is broken");
    assert_eq!(error.code(), Code::StartFailedImage, "{error}");
    assert_eq!(open(&stage), [instance], "the claim authorises no destruction of it");
    assert_eq!(claim(&process, &id).await.instance_id(), Some(InstanceId(777)));
}

#[tokio::test(start_paused = true)]
async fn the_claim_is_read_last_before_a_surplus_is_destroyed() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = process.engine.acquire(&request(), &stage.call()).await.expect("acquires");
    let own = lease.facts().instance;
    let other = InstanceId(rented_elsewhere(&stage, LABEL));
    let mut journal = process.engine.store().journal(&lease.facts().id).await.unwrap().unwrap();
    journal.begin(StepKind::Destroy, other, journal.created_at);
    process.engine.store().write_journal(&journal).await.unwrap();
    // While it is looked at, somebody makes it the lease's own.
    let slow = Fault::once("GET", "/api/v0/instances/*/", Effect::Delay(Duration::from_secs(5)));
    stage.vast(|vast, _| vast.add_fault(slow));
    let (next, call) = (stage.process(), stage.call());
    let (cleaned, _) = tokio::join!(next.engine.cleanup(&CleanupRequest { dry_run: false }, &call), async {
        pass(Duration::from_secs(3)).await;
        edit(&process, &lease.facts().id, move |claim| claim.set_instance(other)).await
    });
    cleaned.expect("cleans up");
    assert_eq!(open(&stage), [own.0, other.0]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_with_the_label_of_another_lease_is_not_ours_whatever_the_create_answered() {
    let stage = Stage::new();
    let theirs = rented_elsewhere(&stage, "cbx1|cbx_aaaaaaaaaaaa|other-box|ready");
    let fault = answer(&json!({"success": true, "new_contract": theirs}));
    stage.vast(|vast, _| vast.add_fault(Fault::once("PUT", "/api/v0/asks/*/", fault)));
    let process = stage.process();
    let error = process.engine.acquire(&request(), &stage.call()).await.map(|_| ()).expect_err("not ours");
    assert_eq!(error.code(), Code::IdentityMismatch, "{error}");
    let touched = mutations(&stage);
    assert!(touched.iter().all(|call| !call.starts_with("DELETE")), "{touched:?}");
    assert_eq!(open(&stage), [theirs]);
    assert_eq!(stop(&process.engine, ID, &stage.call()).await.unwrap_err().code(), Code::IdentityMismatch);
}

/// A refusal names what it rented all the same, and the API drops the label: the number is what leads to it.
#[tokio::test(start_paused = true)]
async fn an_unlabelled_instance_that_a_refusal_names_is_collected() {
    // The numbers of a stage repeat: the first time tells which one it is to be.
    let made = refused_and_made(1).await.0;
    let (again, open, own) = refused_and_made(made).await;
    assert_eq!(again, made);
    assert!(!open.contains(&made) && open.contains(&own), "{open:?}, the lease has {own}");
}

/// An acquire whose create is refused with the number `named`, while an instance without a label comes up on the offer's
/// machine: that instance, what is open at the end, and the lease's own.
async fn refused_and_made(named: u64) -> (u64, Vec<u64>, u64) {
    let stage = Stage::new();
    let fault = answer(&json!({"success": false, "error": "server_error", "new_contract": named}));
    stage.vast(|vast, _| vast.add_fault(Fault::once("PUT", "/api/v0/asks/*/", fault)));
    let process = stage.process();
    let call = stage.call();
    let wanted = request();
    let (outcome, made) = tokio::join!(process.engine.acquire(&wanted, &call), async {
        pass(Duration::from_secs(3)).await;
        let journal = process.engine.store().journal(&LeaseId::parse(ID).unwrap()).await.unwrap().unwrap();
        let body = json!({"machine_id": journal.attempts[0].machine, "actual_status": "running"});
        stage.control("POST", "/_sim/instances", &body)["id"].as_u64().unwrap()
    });
    let own = outcome.expect("another machine").facts().instance.0;
    (made, open(&stage), own)
}

//! An acquire that fails gives its machine back, and not from under somebody who got in while it waited - however far it came
//! before it died.

use crate::support::{Warm, claim, edit, journal_of, leave, open, pass, run, run_on, stop, warm};
use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::lease::{Claim, DollarsPerHour, InstanceId, LeaseId, moment};
use crabbox_vast_engine::ops::{AcquireRequest, Cleaned, CleanupRequest};
use crabbox_vast_engine::store::StepKind;
use crabbox_vast_engine::{Code, Error, Result};
use crabbox_vast_sim::api::{Effect, Fault};
use serde_json::json;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

async fn cleanup(stage: &Stage) -> Cleaned {
    stage.process().engine.cleanup(&CleanupRequest::default(), &stage.call()).await.expect("cleans up")
}

/// A machine that is coming up, and what its acquire came to.
struct Failed {
    rented: u64,
    lease: LeaseId,
    process: Process,
    error: Option<Error>,
}

/// An acquire, for a run alone or not, that does not get in to its machine; `meanwhile` is done while it waits.
async fn failed(stage: &Stage, alone: bool, meanwhile: impl AsyncFnOnce(&Process, &Warm)) -> Failed {
    let process = stage.process_with(None, |settings| settings.max_dph_total = Some(DollarsPerHour(9.0)));
    let others = stage.process();
    let doing = async {
        while open(stage).is_empty() {
            pass(Duration::from_millis(10)).await;
        }
        let instance = open(stage)[0];
        alter(stage, instance, &json!({"sshd": false}));
        pass(Duration::from_secs(60)).await;
        let id = LeaseId::parse(&stage.claims()[0]).expect("a lease");
        let lease = Warm { id, slug: "one".into(), instance };
        meanwhile(&others, &lease).await;
        lease
    };
    let call = stage.call();
    let acquiring = async {
        if alone {
            return run(&process.engine, &call).await.map(|_| ());
        }
        let slug = Some("one".into());
        let request = AcquireRequest { keep: true, slug, ..AcquireRequest::default() };
        process.engine.acquire(&request, &call).await.map(|_| ())
    };
    let (acquired, Warm { id: lease, instance: rented, .. }): (Result<()>, Warm) =
        tokio::join!(acquiring, doing);
    Failed { rented, lease, process, error: acquired.err() }
}

fn alter(stage: &Stage, instance: u64, columns: &serde_json::Value) {
    stage.control("POST", &format!("/_sim/instances/{instance}"), columns);
}

/// As `run --id` and crabbox do where they get in.
async fn get_in(stage: &Stage, process: &Process, lease: &Warm) -> Claim {
    let now = stage.unix_now();
    edit(process, &lease.id, move |claim| {
        for (label, text) in [("state", "ready".to_owned()), ("last_touched_at", now.to_string())] {
            claim.labels.insert(label.into(), text);
        }
        claim.last_used_at = moment(now);
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn what_nobody_got_in_to_is_replaced() {
    let stage = Stage::new();
    let failed = failed(&stage, false, async |_, _| {}).await;
    assert!(failed.error.is_none(), "{:?}", failed.error);
    assert!(!open(&stage).contains(&failed.rented));
    assert_eq!(stage.ledger().created, 2);
}

/// What costs too much goes whoever is in it, and the machine of a run goes with its run.
#[tokio::test(start_paused = true)]
async fn what_is_too_dear_and_what_is_a_runs_own_goes_whoever_got_in() {
    for alone in [false, true] {
        let stage = Stage::new();
        let failed = failed(&stage, alone, async |others, lease| {
            get_in(&stage, others, lease).await;
            if !alone {
                alter(&stage, lease.instance, &json!({"dph_total": 99.0}));
            }
        })
        .await;
        let expected = (!alone).then_some(Code::PriceCapExceeded);
        assert_eq!(failed.error.map(|error| error.code()), expected, "a run's own {alone}");
        assert!(!open(&stage).contains(&failed.rented), "a run's own {alone}");
    }
}

/// It stays theirs, with the claim as they wrote it, and there is no second machine for the lease.
#[tokio::test(start_paused = true)]
async fn who_got_in_keeps_what_an_acquire_gives_up() {
    let stage = Stage::new();
    let mut theirs = Claim::default();
    let failed = failed(&stage, false, async |others, lease| {
        theirs = get_in(&stage, others, lease).await;
    })
    .await;
    let error = failed.error.expect("it fails");
    assert_eq!(error.code(), Code::SshTimeout, "{error}");
    let hint = error.hint_text().unwrap_or_default();
    assert!(hint.contains("destroy one`"), "{hint}");
    assert_eq!(claim(&failed.process, &failed.lease).await, theirs, "not even its revision is another one");
    let journal = journal_of(&failed.process, &failed.lease).await;
    assert!(!journal.discarded(InstanceId(failed.rented)) && journal.steps.is_empty(), "{journal:?}");
    pass(Duration::from_secs(3600)).await;
    let cleaned = cleanup(&stage).await;
    assert_eq!((open(&stage), stage.ledger().created), (vec![failed.rented], 1), "{cleaned:?}");
    stop(&failed.process.engine, "one", &stage.call()).await.expect("gives it back");
    assert_eq!(open(&stage), Vec::<u64>::new());
}

/// Its disk is to be kept: whoever stopped it said so.
#[tokio::test(start_paused = true)]
async fn what_was_stopped_to_be_kept_meanwhile_is_not_destroyed() {
    let stage = Stage::new();
    let failed = failed(&stage, false, async |others, lease| {
        edit(others, &lease.id, |claim| {
            claim.labels.insert("state".into(), "stopped".into());
        })
        .await;
        let halted = json!({"actual_status": "exited", "intended_status": "stopped", "cur_state": "stopped"});
        alter(&stage, lease.instance, &halted);
    })
    .await;
    let error = failed.error.expect("it fails");
    assert_eq!(open(&stage), [failed.rented], "{error}");
    assert_eq!(claim(&failed.process, &failed.lease).await.state(), "stopped");
}

/// Whoever holds the claim's lock has not changed what it says: that somebody got in, or that nobody did.
#[tokio::test(start_paused = true)]
async fn a_claim_that_is_locked_is_looked_at_all_the_same() {
    for got_in in [false, true] {
        let stage = Stage::new();
        let held = std::cell::RefCell::new(None);
        let failed = failed(&stage, false, async |others, lease| {
            if got_in {
                get_in(&stage, others, lease).await;
            }
            alter(&stage, lease.instance, &json!({"sshd": true}));
            let lock = stage.settings().paths.claim_locks().join(format!("{}.json.lock", lease.id));
            let file = std::fs::File::open(lock).expect("the claim's lock");
            file.lock().expect("the lock");
            *held.borrow_mut() = Some(file);
        })
        .await;
        let error = failed.error.expect("the claim cannot become ready");
        assert_eq!(error.code(), Code::LeaseBusy, "{error}");
        let expected = if got_in { vec![failed.rented] } else { vec![] };
        assert_eq!(open(&stage), expected, "got in {got_in}: {error}");
    }
}

/// Whoever tried, and whoever only touched the lease, is not in it: what its acquire gives up goes.
#[tokio::test(start_paused = true)]
async fn who_only_tried_to_get_in_keeps_nothing() {
    let stage = Stage::new();
    let failed = failed(&stage, false, async |others, lease| {
        others.engine.touch("one", None, &stage.call()).await.expect("touched");
        edit(others, &lease.id, |claim| {
            claim.labels.insert("state".into(), "ready".into());
        })
        .await;
    })
    .await;
    assert!(failed.error.is_none(), "another machine is taken: {:?}", failed.error);
    assert!(!open(&stage).contains(&failed.rented));
}

/// Who got in while somebody began to end the lease waits for what becomes of it, and believes the claim alone.
#[tokio::test(start_paused = true)]
async fn who_got_in_beside_an_end_learns_whether_it_was_spared() {
    for (end, spared) in [("void", true), ("proved", false), ("elsewhere", false), ("never", false)] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        let (instance, store) = (InstanceId(lease.instance), process.engine.store());
        alter(&stage, lease.instance, &json!({"sshd": false}));
        let user = stage.process();
        let call = stage.call();
        let using = run_on(&user.engine, Some("one"), false, &call);
        let ending = async {
            pass(Duration::from_secs(10)).await;
            let lock = store.operation_lock(&lease.id).await.expect("asked").expect("nobody has it");
            let now = stage.unix_now();
            leave(&process, &lease, |journal| journal.begin(StepKind::Stop, instance, now)).await;
            alter(&stage, lease.instance, &json!({"sshd": true}));
            pass(Duration::from_secs(60)).await;
            match end {
                "void" => {
                    leave(&process, &lease, |journal| journal.voided(StepKind::Stop, instance, "used")).await
                }
                "proved" => {
                    edit(&process, &lease.id, |claim| {
                        claim.labels.insert("state".into(), "stopped".into());
                    })
                    .await;
                    leave(&process, &lease, |journal| journal.proved(StepKind::Stop, instance, now)).await;
                }
                "elsewhere" => {
                    edit(&process, &lease.id, |claim| claim.set_instance(InstanceId(7))).await;
                    leave(&process, &lease, |journal| journal.proved(StepKind::Stop, instance, now)).await;
                }
                _ => pass(Duration::from_secs(600)).await,
            }
            drop(lock);
        };
        let (used, ()) = tokio::join!(using, ending);
        let code = used.err().map(|error| error.code());
        assert_eq!(code, (!spared).then_some(Code::LeaseBusy), "{end}");
    }
}

/// The acquire died after it had begun to give the machine up, whether or not it knew that somebody was in it.
#[tokio::test(start_paused = true)]
async fn what_an_acquire_died_giving_up_is_whose_who_got_in() {
    for got_in in [false, true] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        let instance = InstanceId(lease.instance);
        pass(Duration::from_secs(5)).await;
        if got_in {
            run_on(&process.engine, Some("one"), false, &stage.call()).await.expect("it runs");
        }
        let now = stage.unix_now();
        leave(&process, &lease, |journal| {
            journal.discard("ssh_timeout");
            journal.begin_taking_back(StepKind::Destroy, instance, now);
        })
        .await;
        for _ in 0..2 {
            pass(Duration::from_secs(3600)).await;
            let cleaned = cleanup(&stage).await;
            let expected = if got_in { vec![lease.instance] } else { vec![] };
            assert_eq!(open(&stage), expected, "got in {got_in}: {cleaned:?}");
        }
        let left = journal_of(&process, &lease.id).await;
        assert!(left.steps.iter().all(|step| !step.is_open()), "{left:?}");
        assert!(!got_in || !left.discarded(instance), "{left:?}");
    }
}

/// Whatever hinders an acquire that gives up, its error says what is left, and how to end it.
#[tokio::test(start_paused = true)]
async fn what_a_failed_acquire_could_not_give_back_is_told() {
    for (what, told, claims) in [
        ("the destroy is refused", "its claim is kept: run `crabbox-vast stop one`", 1),
        ("the claim is removed meanwhile", "may still run and bill", 0),
        ("the create is not answered, nor any list", "its claim is kept: run `crabbox-vast stop one`", 1),
    ] {
        let stage = Stage::new();
        let process = stage.process();
        let cancel = CancellationToken::new();
        let call = stage.call_with(cancel.clone());
        let refuses = |method: &str, path: &str| {
            stage.vast(|vast, _| vast.add_fault(Fault::once(method, path, Effect::Html(500)).times(None)));
        };
        if what.starts_with("the create") {
            let lost = Fault::once("PUT", "/api/v0/asks/*/", Effect::Reset);
            stage.vast(|vast, _| vast.add_fault(lost));
        }
        let request = AcquireRequest { keep: true, slug: Some("one".into()), ..AcquireRequest::default() };
        let (acquired, ()) = tokio::join!(process.engine.acquire(&request, &call), async {
            while stage.claims().is_empty() {
                pass(Duration::from_millis(1)).await;
            }
            if what.starts_with("the create") {
                return refuses("GET", "/api/*");
            }
            while open(&stage).is_empty() {
                pass(Duration::from_millis(10)).await;
            }
            pass(Duration::from_secs(3)).await;
            refuses("DELETE", "/api/v0/instances/*/");
            cancel.cancel();
            pass(Duration::from_secs(5)).await;
            if what.starts_with("the claim") {
                let claims = stage.settings().paths.claims();
                std::fs::remove_file(claims.join(format!("{}.json", stage.claims()[0]))).expect("removed");
            }
        });
        let error = acquired.err().expect("it failed");
        assert!(error.hint_text().is_some_and(|hint| hint.contains(told)), "{what}: {error:?}");
        assert_eq!(stage.claims().len(), claims, "{what}");
    }
}

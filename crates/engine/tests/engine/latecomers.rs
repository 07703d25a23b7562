//! What comes to light late: a machine of a create that was given up, or one that was proved gone and is back.

use crate::absence::{GIVEN, answer, cleanup, lose_creates};
use crate::support::{Warm, journal_of, mutations, open, pass, rented_elsewhere, stop, warm, warnings};
use crate::virtual_time::{Process, Stage};
use crabbox_vast_engine::Code;
use crabbox_vast_engine::lease::{Claim, InstanceId, LeaseId};
use crabbox_vast_engine::ops::cleanup::ItemOutcome;
use crabbox_vast_engine::ops::{AcquireRequest, Cleaned, ForgetRequest};
use crabbox_vast_engine::store::{Journal, StepKind};
use crabbox_vast_sim::api::Fault;
use serde_json::json;
use std::time::Duration;

/// What a create of this lease makes after all: its label, on the machine of that attempt.
fn comes_up(stage: &Stage, journal: &Journal, attempt: usize) -> u64 {
    let label = format!("cbx1|{}|{}|provisioning", journal.lease, journal.slug);
    let machine = journal.attempts[attempt].machine;
    let body = json!({"label": label, "machine_id": machine, "actual_status": "running"});
    stage.control("POST", "/_sim/instances", &body)["id"].as_u64().expect("an id")
}

/// An acquire whose creates were all given up; its journal.
async fn given_up(stage: &Stage, lease_id: Option<&str>) -> Journal {
    lose_creates(stage, 2);
    let process = stage.process();
    let request = AcquireRequest { lease_id: lease_id.map(str::to_owned), ..AcquireRequest::default() };
    let error = process.engine.acquire(&request, &stage.call()).await.map(|_| ()).expect_err("both are lost");
    assert_eq!(error.code(), Code::CreateAmbiguous, "{error}");
    assert_eq!((stage.claims().len(), stage.keys().len(), open(stage).len()), (0, 0, 0));
    process.engine.store().scan_journals().await.expect("readable").pop().expect("it is watched")
}

#[tokio::test(start_paused = true)]
async fn what_a_create_that_was_given_up_made_after_all_is_destroyed_by_cleanup() {
    let stage = Stage::new();
    let journal = given_up(&stage, None).await;
    let process = stage.process();
    let late = comes_up(&stage, &journal, 0);
    process.engine.list(false, &stage.call()).await.expect("lists");
    let told = format!("instance {late} was made by a create of lease {}", journal.lease);
    assert!(warnings(&stage).iter().any(|one| one.starts_with(&told)), "{:?}", warnings(&stage));
    mutations(&stage);
    let planned = cleanup(&stage, &process, true).await;
    assert_eq!(planned.items[0].outcome, ItemOutcome::Planned, "{planned:?}");
    assert_eq!((mutations(&stage), stage.claims().len()), (Vec::new(), 0));
    let cleaned = cleanup(&stage, &process, false).await;
    assert_eq!(cleaned.items[0].outcome, ItemOutcome::Destroyed, "{cleaned:?}");
    assert_eq!(
        (cleaned.items[0].instance, cleaned.problems.len()),
        (Some(InstanceId(late)), 0),
        "{cleaned:?}"
    );
    assert_eq!((open(&stage).len(), stage.claims().len(), stage.keys().len()), (0, 0, 0));
    // What it cost is on record, and a day later nothing is.
    let id = LeaseId::parse(&journal.lease).unwrap();
    let after = journal_of(&process, &id).await;
    assert!(after.created(InstanceId(late)) && after.tombstones().count() == 1, "{after:?}");
    pass(Duration::from_secs(25 * 3600)).await;
    cleanup(&stage, &process, false).await;
    assert_eq!(process.engine.store().journal(&id).await.unwrap(), None);
}

/// Whose label may be in use elsewhere, or whose account is another, is told and left alone.
#[tokio::test(start_paused = true)]
async fn a_latecomer_that_may_be_somebody_elses_is_only_told() {
    for case in [
        "given id",
        "another account",
        "another address",
        "another slug",
        "dropped on request",
        "adopted elsewhere",
        "keys unread",
    ] {
        let stage = Stage::new();
        let mut journal = given_up(&stage, Some(GIVEN).filter(|_| case == "given id")).await;
        let process = stage.process();
        match case {
            "another account" => journal.account = Some(1),
            "another address" => journal.api_url = Some("https://elsewhere.example/api/v0".into()),
            "dropped on request" => journal.forgotten_at = Some(stage.unix_now()),
            _ => {}
        }
        process.engine.store().write_journal(&journal).await.unwrap();
        if case == "another slug" {
            journal.slug = "other-box".into();
        }
        let late = comes_up(&stage, &journal, 0);
        let keys = format!("/api/v0/instances/{late}/ssh/");
        match case {
            "adopted elsewhere" => {
                let key = format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIElsewhere crabbox {}", journal.lease);
                stage.control("POST", &keys, &json!({"ssh_key": key}));
            }
            "keys unread" => stage.vast(|vast, _| {
                vast.add_fault(Fault::once("GET", &keys, answer(404, &json!({}))).times(None));
            }),
            _ => {}
        }
        mutations(&stage);
        let cleaned = cleanup(&stage, &process, false).await;
        assert_eq!(cleaned.items[0].outcome, ItemOutcome::Refused, "{case}: {cleaned:?}");
        assert_eq!((open(&stage), mutations(&stage)), (vec![late], Vec::new()), "{case}");
        assert_eq!(stage.claims(), Vec::<String>::new(), "{case}");
        if case == "given id" {
            assert!(cleaned.problems[0].contains(&format!("`adopt {late}` takes it over")), "{cleaned:?}");
        }
    }
}

/// Whoever takes it over while its destroy is being prepared keeps it, and nothing on record ends it later.
#[tokio::test(start_paused = true)]
async fn a_latecomer_that_is_taken_over_meanwhile_is_left_alone() {
    let mut begun = 0;
    // Its keys are read each time that it is judged: the last time when its lock is held.
    for nth in 1..=3 {
        let stage = Stage::new();
        let journal = given_up(&stage, None).await;
        let process = stage.process();
        let late = comes_up(&stage, &journal, 0);
        let id = LeaseId::parse(&journal.lease).unwrap();
        let keys = format!("GET /api/v0/instances/{late}/ssh/");
        stage.calls.lock().expect("not poisoned").clear();
        let asked = || stage.calls.lock().expect("not poisoned").iter().filter(|call| **call == keys).count();
        let claim = Claim {
            lease_id: id.to_string(),
            slug: journal.slug.clone(),
            provider: "vast".into(),
            cloud_id: late.to_string(),
            ..Claim::default()
        };
        let sweeper = stage.process();
        let taking_over = async {
            while asked() < nth {
                pass(Duration::from_millis(1)).await;
            }
            process.engine.store().create_claim(claim).await.expect("a claim");
        };
        let cleaned = tokio::select! {
            cleaned = async { tokio::join!(cleanup(&stage, &sweeper, false), taking_over).0 } => cleaned,
            () = pass(Duration::from_secs(3600)) => break,
        };
        assert_eq!(open(&stage), [late], "{nth}: {cleaned:?}");
        let after = journal_of(&process, &id).await;
        assert!(!after.is_open(StepKind::Destroy, InstanceId(late)), "{nth}: {after:?}");
        begun += after.steps.len();
    }
    assert_eq!(begun, 1, "once its destroy was on record already");
}

/// A lease whose first create was given up and whose second one it lives on.
async fn second_try(stage: &Stage) -> (Process, Warm, Journal) {
    lose_creates(stage, 1);
    let process = stage.process();
    let lease = warm(stage, &process, "one", true).await;
    let journal = journal_of(&process, &lease.id).await;
    assert_eq!(journal.attempts.len(), 2);
    (process, lease, journal)
}

#[tokio::test(start_paused = true)]
async fn a_twin_that_an_earlier_create_made_is_destroyed_and_hinders_nobody() {
    for how in ["cleanup", "stop"] {
        let stage = Stage::new();
        let (process, lease, journal) = second_try(&stage).await;
        let twin = comes_up(&stage, &journal, 0);
        process.engine.status("one", &stage.call()).await.expect("it stays usable");
        let told = format!("instance {twin} is a further one of this lease");
        assert!(warnings(&stage).iter().any(|one| one.starts_with(&told)), "{:?}", warnings(&stage));
        if how == "stop" {
            stop(&process.engine, "one", &stage.call()).await.expect("stops");
            assert_eq!((open(&stage).len(), stage.claims().len()), (0, 0));
            continue;
        }
        assert_eq!(cleanup(&stage, &process, true).await.summary.planned, 1);
        let cleaned = cleanup(&stage, &process, false).await;
        assert_eq!((cleaned.summary.destroyed, cleaned.summary.refused), (1, 0), "{cleaned:?}");
        assert_eq!((open(&stage), stage.claims().len()), (vec![lease.instance], 1));
        assert_eq!(cleanup(&stage, &process, false).await.summary.destroyed, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_was_proved_gone_and_comes_back_is_destroyed() {
    for claimed in [true, false] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        let back = rented_elsewhere(&stage, &format!("cbx1|{}|one|provisioning", lease.id));
        let mut journal = journal_of(&process, &lease.id).await;
        journal.begin(StepKind::Destroy, InstanceId(back), stage.unix_now());
        journal.proved(StepKind::Destroy, InstanceId(back), stage.unix_now());
        process.engine.store().write_journal(&journal).await.unwrap();
        let mut left = vec![lease.instance];
        if !claimed {
            // Hidden while its lease is given back.
            stage.control("POST", &format!("/_sim/instances/{back}"), &json!({"hidden": true}));
            stop(&process.engine, "one", &stage.call()).await.expect("stops");
            stage.control("POST", &format!("/_sim/instances/{back}"), &json!({"hidden": false}));
            left.clear();
        }
        let cleaned = cleanup(&stage, &process, false).await;
        assert_eq!(cleaned.summary.destroyed, 1, "claimed {claimed}: {cleaned:?}");
        assert_eq!(open(&stage), left, "claimed {claimed}: {cleaned:?}");
    }
}

fn outcomes(cleaned: &Cleaned) -> Vec<ItemOutcome> {
    cleaned.items.iter().map(|item| item.outcome).collect()
}

#[tokio::test(start_paused = true)]
async fn a_kept_machine_that_the_lists_missed_for_a_while_is_not_destroyed() {
    for how in ["cleanup", "forget"] {
        let stage = Stage::new();
        let process = stage.process();
        let lease = warm(&stage, &process, "one", true).await;
        let hide = |hidden| {
            let path = format!("/_sim/instances/{}", lease.instance);
            stage.control("POST", &path, &json!({ "hidden": hidden }));
        };
        hide(true);
        let single = format!("/api/v0/instances/{}/", lease.instance);
        let nothing = answer(200, &json!({"instances": null}));
        stage.vast(|vast, _| vast.add_fault(Fault::once("GET", &single, nothing).times(None)));
        if how == "cleanup" {
            let first = cleanup(&stage, &process, false).await;
            assert!(outcomes(&first).contains(&ItemOutcome::Forgotten), "{first:?}");
        } else {
            let request = ForgetRequest { identifier: "one".into(), ..ForgetRequest::default() };
            process
                .engine
                .forget_claim(&request, &stage.call())
                .await
                .expect("it is gone, as far as anybody can see");
        }
        hide(false);
        stage.control("DELETE", "/_sim/faults", &json!({}));
        let cleaned = cleanup(&stage, &process, false).await;
        assert_eq!(
            (cleaned.summary.destroyed, open(&stage)),
            (0, vec![lease.instance]),
            "{how}: {cleaned:?}"
        );
        let told =
            format!("instance {} of lease {} was proved gone and is listed again", lease.instance, lease.id);
        assert!(cleaned.problems.iter().any(|one| one.starts_with(&told)), "{how}: {cleaned:?}");
    }
}

/// A machine that is too new to be seen is waited for before its claim is forgotten.
#[tokio::test(start_paused = true)]
async fn a_fresh_machine_that_no_read_shows_is_not_forgotten() {
    let stage = Stage::new();
    let process = stage.process();
    let lease = warm(&stage, &process, "one", true).await;
    let hidden = |hidden: bool| {
        stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &json!({"hidden": hidden}))
    };
    hidden(true);
    let request = ForgetRequest { identifier: "one".into(), yes: false };
    let call = stage.call();
    let (outcome, ()) = tokio::join!(process.engine.forget_claim(&request, &call), async {
        pass(Duration::from_secs(25)).await;
        hidden(false);
    });
    let error = outcome.map(|_| ()).expect_err("it lives");
    assert!(error.to_string().contains("exists and bills"), "{error}");
    assert_eq!(stage.claims(), [lease.id.to_string()]);
}

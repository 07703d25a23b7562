//! Worlds made by hand: each was, or could have been, a loss.

use crate::holds;
use crabbox_vast_proof::acts::Incident;
use crabbox_vast_proof::history::Happening;
use crabbox_vast_proof::plan::{Actor, Left};
use crabbox_vast_proof::stage::CAP;
use crabbox_vast_proof::vendor::{Act, Quirk, Vendor};
use crabbox_vast_proof::{Operation, Plan, Ran, run};
use crabbox_vast_sim::api::{Effect, Fault};
use std::time::Duration;

/// A stop means that the disk stays, also where the machine is too new for any read to show it.
#[test]
fn a_machine_that_is_to_be_stopped_and_cannot_be_seen_yet_is_not_destroyed() {
    let slow = Vendor {
        boot: Duration::from_secs(7),
        read_lag: Duration::from_secs(52),
        list_lag: Duration::from_secs(24),
        ..Vendor::default()
    };
    for operation in [Operation::Cleanup, Operation::Acquire, Operation::Pause] {
        let leases = vec![Left::Paused];
        holds(&Plan { vendor: slow.clone(), leases, ..Plan::single(1, operation) });
    }
}

/// The vendor raises the price just before the lease is handed over, and no read shows it in between.
#[test]
fn a_price_that_rises_between_the_last_read_and_ready_is_excused_and_an_earlier_one_is_not_overlooked() {
    let ready = |ran: &Ran| {
        let events = ran.history.events().iter();
        events.clone().find(|(_, event)| matches!(event, Happening::Ready { .. })).map(|(at, _)| *at)
    };
    let single = Plan::single(1, Operation::Acquire);
    let handed_over = ready(&run(&single)).expect("it becomes ready");
    let mut counts = [0, 0];
    for before in (1..60).map(|tenth| Duration::from_millis(100 * tenth)) {
        let acts = vec![Incident::after(handed_over.saturating_sub(before), "raised", Act::Raise(CAP * 1.5))];
        let ran = holds(&Plan { acts, ..single.clone() });
        counts[usize::from(ran.outcomes[0].as_deref() == Some("price_cap_exceeded"))] += 1;
    }
    assert!(counts.iter().all(|count| *count > 0), "unseen and refused: {counts:?}");
}

/// Where there was nothing to stop or to start beforehand, nobody dies of it later.
#[test]
fn what_could_not_be_prepared_kills_nobody() {
    let endless = Vendor { boot: Duration::from_secs(2000), ..Vendor::default() };
    for left in [Left::HalfPaused, Left::HalfStarted, Left::Unanswered] {
        let plan =
            Plan { leases: vec![left], vendor: endless.clone(), ..Plan::single(1, Operation::Cleanup) };
        let ran = holds(&plan);
        assert_eq!(ran.outcomes, [Some("ok".to_owned())], "{left:?}");
    }
}

/// What has to be there before the sweeps of a cleanup mean anything: it destroys what is to go, and nothing else.
#[test]
fn a_cleanup_takes_what_expired_and_what_is_dead_and_leaves_what_is_kept() {
    let ran = holds(&Plan::single(1, Operation::Cleanup));
    assert_eq!(ran.kept, 1, "{}", ran.history);
    let first = ran.history.events().iter().position(|(_, event)| *event == Happening::Recovery);
    let done = &ran.history.events()[..first.expect("a recovery")];
    let destroyed = done.iter().filter(|(_, event)| matches!(event, Happening::Destroyed { .. })).count();
    assert_eq!(destroyed, 2, "{}", ran.history);
}

/// The answer to a create is lost, and no read shows its machine for a minute: it is waited for.
#[test]
fn a_lost_create_whose_machine_shows_late_is_not_made_again() {
    let slow =
        Vendor { list_lag: Duration::from_secs(60), read_lag: Duration::from_secs(60), ..Vendor::default() };
    let lost = || Fault::once("PUT", "/api/v0/asks/*/", Effect::Reset).after_commit();
    for operation in [Operation::Acquire, Operation::Run, Operation::Again] {
        let ran = holds(&Plan { vendor: slow.clone(), faults: vec![lost()], ..Plan::single(1, operation) });
        assert_eq!(ran.outcomes, [Some("ok".to_owned())], "{}", ran.history);
    }
    for operation in [Operation::Stop, Operation::Cleanup] {
        holds(&Plan { vendor: slow.clone(), leases: vec![Left::Unanswered], ..Plan::single(1, operation) });
    }
}

/// A machine that no list shows yet is not forgotten because the clock says that it is old.
#[test]
fn a_clock_set_forward_while_a_create_is_unanswered_forgets_nothing() {
    let slow =
        Vendor { list_lag: Duration::from_secs(60), read_lag: Duration::from_secs(60), ..Vendor::default() };
    for operation in [Operation::Cleanup, Operation::Stop] {
        let mut plan =
            Plan { vendor: slow.clone(), leases: vec![Left::Unanswered], ..Plan::single(1, operation) };
        plan.acts = vec![Incident::after(Duration::ZERO, "set forward", Act::Clock(7_200_000))];
        plan.actors[0].after = Duration::from_millis(100);
        holds(&plan);
    }
}

/// A number in a refusal is nobody's machine as long as no read shows whose it is.
#[test]
fn a_refusal_that_names_a_machine_which_cannot_be_read_destroys_nothing() {
    for effect in [Effect::Html(502), Effect::Empty, Effect::Truncate] {
        let mut fault = Fault::once("GET", "/api/v0/instances/*/", effect).times(Some(30));
        fault.nth = 1;
        let quirk = Some((1, Quirk::NamesAForeigner));
        holds(&Plan { faults: vec![fault], quirk, ..Plan::single(1, Operation::Run) });
    }
}

/// A machine that was given up and lingers in the list is not taken for what a later create made, whose answer is lost.
#[test]
fn a_lingering_record_is_not_the_machine_of_the_next_create() {
    let slow = Vendor {
        read_lag: Duration::from_secs(30),
        list_lag: Duration::from_secs(3),
        linger: Duration::from_secs(40),
        ..Vendor::default()
    };
    let mut fault = Fault::once("PUT", "/api/v0/asks/*/", Effect::Reset).after_commit();
    fault.nth = 2;
    let refused = Some((1, Quirk::RefusedYetThere));
    let single = Plan::single(1, Operation::Run);
    holds(&Plan { vendor: slow, quirk: refused, faults: vec![fault], ..single });
}

/// A key that is called bad at a create and cannot be asked about then proves nothing about the create.
#[test]
fn a_bad_key_that_nobody_confirms_does_not_undo_a_create() {
    let answer = |status, body: &str| Effect::Answer {
        status,
        content_type: "application/json".into(),
        body: body.into(),
        headers: Vec::new(),
    };
    let bad = answer(404, r#"{"success":false,"error":"auth_error","msg":"Invalid user key"}"#);
    let lost = Fault::once("PUT", "/api/v0/asks/*/", bad).after_commit();
    let mut silent = Fault::once("GET", "/api/v0/users/current/", Effect::TooMany(0)).times(Some(3));
    silent.nth = 2;
    holds(&Plan { faults: vec![lost, silent], ..Plan::single(1, Operation::Run) });
}

/// A claim that names a stranger's machine authorises nothing.
#[test]
fn a_claim_that_names_a_strangers_machine_destroys_nothing() {
    for operation in
        [Operation::Stop, Operation::Cleanup, Operation::Pause, Operation::RunOn, Operation::Start]
    {
        holds(&Plan { leases: vec![Left::Stale], ..Plan::single(1, operation) });
    }
}

/// An acquire that is given up takes its machine from nobody who got in before it did.
#[test]
fn an_acquire_that_is_given_up_leaves_its_machine_to_who_got_in() {
    let mut left = 0;
    for (begins, waits) in (30..70).flat_map(|begins| [2, 5, 10].map(|waits| (begins, waits))) {
        let tenths = |tenths: u64| Duration::from_millis(100 * tenths);
        let mut plan = Plan::single(1, Operation::Acquire);
        plan.vendor.boot = Duration::from_secs(4);
        plan.actors[0].gives_up = Some(tenths(begins + waits));
        plan.actors.push(Actor { after: tenths(begins), ..Actor::new(Operation::RunOn) });
        let ran = holds(&plan);
        let ends: Vec<&str> = ran.outcomes.iter().flatten().map(String::as_str).collect();
        if ends == ["cancelled", "ok"] {
            assert_eq!(ran.kept, 1, "{}", ran.history);
            left += 1;
        }
    }
    assert!(left > 0, "nobody ever got in before the acquire was given up");
}

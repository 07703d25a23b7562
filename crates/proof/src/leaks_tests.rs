//! Which machines may not run any more once the first clean-up is over, as the checker counts it.

use super::tests::{called_by, claim, created, gone, of};
use super::users_tests::begun;
use super::*;
use crate::history::{Death, Stay};

/// What a start that came to nothing left running bills unseen, however long its lease is to be kept.
#[test]
fn a_start_that_nobody_takes_back_is_a_leak() {
    let leaks = |events: Vec<Happening>, after: Vec<Happening>| {
        let died = Happening::Died { process: 4, step: 1, death: Death::Kill };
        let mut events: Vec<Happening> = events.into_iter().chain([died]).chain(after).collect();
        events.extend([Happening::Runs { instance: 1 }, gone(1)]);
        of(events).leaked
    };
    let unsent = begun("Start").split_last().map(|(_, rest)| rest.to_vec()).unwrap_or_default();
    let promised = |stays| Happening::Promised { lease: "a".into(), stays };
    for stays in [None, Some(Stay::Disk)] {
        let started = |what| [begun(what), vec![promised(stays)]].concat();
        assert_eq!(leaks(started("Start"), vec![]), 1, "{stays:?}");
        let stopped = Happening::Stopped { instance: 1, by: 7 };
        assert_eq!(leaks(started("Start"), vec![stopped]), 0, "{stays:?}: its record is slow");
        let got_in = Happening::InUse { process: 5, instance: 1 };
        assert_eq!(leaks(started("Start"), vec![got_in]), 0, "{stays:?}: somebody got in");
        assert_eq!(
            leaks([unsent.clone(), vec![promised(stays)]].concat(), vec![]),
            0,
            "{stays:?}: never sent"
        );
        assert_eq!(leaks(started("Touch"), vec![]), 0, "{stays:?}");
    }
    for stays in [Stay::Kept, Stay::Until(Duration::from_secs(600))] {
        assert_eq!(
            leaks([begun("Start"), vec![promised(Some(stays))]].concat(), vec![]),
            0,
            "{stays:?}: its claim tells"
        );
    }
}

/// Nor does an acquire that says that it failed leave one, unless somebody else has it.
#[test]
fn a_machine_of_an_acquire_that_failed_is_a_leak() {
    let leaks = |before: Vec<Happening>, outcome: &str| {
        let sent = Happening::CreateSent { process: 4, lease: Some("a".into()), ask: 3 };
        let mut events = vec![sent, claim("a", None), created(1, "a", 0.9, true), claim("a", Some(1))];
        events.push(Happening::Promised { lease: "a".into(), stays: Some(Stay::Kept) });
        events.extend(before);
        events.push(Happening::Ended { process: 4, outcome: outcome.into() });
        events.extend([Happening::Runs { instance: 1 }, gone(1)]);
        of(events).leaked
    };
    let ready = |process| Happening::Ready { process, instance: 1 };
    let crabbox = |lease: &str| Happening::UsedByCrabbox { lease: lease.into() };
    assert_eq!((leaks(vec![], "cancelled"), leaks(vec![], "ok")), (1, 0));
    assert_eq!(leaks(vec![ready(4)], "cancelled"), 0, "handed over");
    let stopped = Happening::Promised { lease: "a".into(), stays: Some(Stay::Disk) };
    assert_eq!(leaks(vec![stopped], "outbid"), 0, "somebody stopped it, to keep it");
    assert_eq!(leaks(vec![Happening::InUse { process: 5, instance: 1 }], "cancelled"), 0, "somebody got in");
    assert_eq!(leaks(vec![Happening::InUse { process: 4, instance: 1 }], "cancelled"), 1, "itself");
    assert_eq!(leaks(vec![crabbox("a")], "cancelled"), 0);
    assert_eq!(leaks(vec![crabbox("b")], "cancelled"), 1, "another lease");
    assert_eq!(leaks(vec![Happening::Adopted { lease: "a".into() }], "cancelled"), 0);
}

/// Nor may one that died, once everything was cleaned up, unless its claim had come to say that it may be used.
#[test]
fn a_machine_of_an_acquire_that_died_is_a_leak() {
    let leaks = |death: Death, before: Vec<Happening>| {
        let began = Happening::Began { process: 4, what: "Acquire".into() };
        let sent = Happening::CreateSent { process: 4, lease: Some("a".into()), ask: 3 };
        let mut events = vec![began, sent, claim("a", None), created(1, "a", 0.9, true), claim("a", Some(1))];
        events.extend(before);
        events.extend([
            Happening::Died { process: 4, step: 1, death },
            Happening::Runs { instance: 1 },
            gone(1),
        ]);
        of(events).leaked
    };
    let promised = |stays| Happening::Promised { lease: "a".into(), stays };
    for death in [Death::Kill, Death::PowerCut] {
        assert_eq!(leaks(death, vec![]), 1, "{death:?}");
        assert_eq!(leaks(death, vec![promised(Some(Stay::Kept))]), 0, "{death:?}: its claim tells");
        assert_eq!(leaks(death, vec![promised(Some(Stay::Kept)), promised(None)]), 1, "{death:?}: no more");
        assert_eq!(leaks(death, vec![Happening::InUse { process: 5, instance: 1 }]), 0, "{death:?}");
        let adopts = Happening::Began { process: 6, what: "Adopt".into() };
        let uses = |process| Happening::Uses { process, lease: "a".into() };
        assert_eq!(leaks(death, vec![adopts.clone(), uses(6)]), 0, "{death:?}: somebody takes it over");
        assert_eq!(leaks(death, vec![adopts, uses(7)]), 1, "{death:?}");
        let holds = Happening::Holds { process: 6, lease: "a".into() };
        for (what, left) in [("RunOn", 0), ("Touch", 1), ("Cleanup", 1)] {
            let began = Happening::Began { process: 6, what: what.into() };
            assert_eq!(leaks(death, vec![began, holds.clone()]), left, "{death:?}, {what}");
        }
    }
}

/// A destroy that was sent and died, or was refused, is finished, unless somebody has used the machine since.
#[test]
fn a_machine_whose_destroy_nobody_finishes_is_a_leak() {
    let leaks_at = |path: &str, method: &'static str, after: Vec<Happening>| {
        let mut events = begun("Stop");
        events.push(called_by(4, method, path, Some(1)));
        events.extend(after);
        events.extend([Happening::Runs { instance: 1 }, gone(1)]);
        of(events).leaked
    };
    let leaks = |method, after| leaks_at("/instances/1/", method, after);
    let died = Happening::Died { process: 4, step: 1, death: Death::Kill };
    assert_eq!(leaks_at("/instances/1/ssh/2/", "DELETE", vec![died.clone()]), 0, "a key");
    let failed = Happening::Ended { process: 4, outcome: "release_unproved".into() };
    assert_eq!(leaks("DELETE", vec![]), 0, "it is still at work");
    for end in [died, failed] {
        assert_eq!(leaks("DELETE", vec![end.clone()]), 1, "{end:?}");
        assert_eq!(leaks("PUT", vec![end.clone()]), 0, "{end:?}");
        let got_in = Happening::InUse { process: 5, instance: 1 };
        assert_eq!(leaks("DELETE", vec![end.clone(), got_in]), 0, "{end:?}");
        let crabbox = Happening::UsedByCrabbox { lease: "a".into() };
        assert_eq!(leaks("DELETE", vec![end.clone(), crabbox]), 0, "{end:?}");
        let ready = Happening::Ready { process: 6, instance: 1 };
        assert_eq!(leaks("DELETE", vec![end.clone(), ready]), 0, "{end:?}");
        for (what, left) in [("Touch", 0), ("RunOn", 0), ("Start", 0), ("Cleanup", 1)] {
            let began = Happening::Began { process: 6, what: what.into() };
            let holds = Happening::Holds { process: 6, lease: "a".into() };
            assert_eq!(leaks("DELETE", vec![end.clone(), began, holds]), left, "{end:?}, {what}");
        }
    }
}

/// Who does not have the lease's lock can put nothing on record before it is free again.
#[test]
fn a_destroy_that_fails_beside_a_living_process_is_finished_once_that_is_done() {
    let failed = Happening::Ended { process: 4, outcome: "auth_failed".into() };
    let died = Happening::Died { process: 4, step: 1, death: Death::Kill };
    let done = Happening::Ended { process: 5, outcome: "ok".into() };
    let leaks = |before: Vec<Happening>, end: &Happening| {
        let began = |process| Happening::Began { process, what: "Acquire".into() };
        let mut events = vec![claim("a", None), created(1, "a", 0.9, true), claim("a", Some(1))];
        events.extend([began(5), Happening::Holds { process: 5, lease: "a".into() }]);
        events.push(Happening::Began { process: 4, what: "Stop".into() });
        events.push(called_by(4, "DELETE", "/instances/1/", Some(1)));
        events.extend(before);
        events.extend([end.clone(), Happening::Runs { instance: 1 }, gone(1)]);
        of(events).leaked
    };
    assert_eq!(leaks(vec![], &failed), 0);
    assert_eq!(leaks(vec![done.clone()], &failed), 1);
    assert_eq!(leaks(vec![done.clone()], &died), 0);
    let ready = Happening::Ready { process: 6, instance: 1 };
    assert_eq!(leaks(vec![done, ready], &failed), 0, "it was handed over since");
}

/// Who asks for the end of a lease has it, also where the process that was asked dies before it sends anything.
#[test]
fn what_a_user_asked_for_outlives_the_process_that_was_asked() {
    let asked = |destroy| Happening::Asked { process: 4, lease: "a".into(), destroy };
    let holds = Happening::Holds { process: 4, lease: "a".into() };
    let called = called_by(4, "GET", "", None);
    let leaks = |before: Vec<Happening>, after: Vec<Happening>| {
        let mut events = vec![claim("a", None), created(1, "a", 0.9, true), claim("a", Some(1))];
        events.push(Happening::Began { process: 4, what: "Stop".into() });
        events.extend(before);
        events.push(Happening::Died { process: 4, step: 1, death: Death::Kill });
        events.extend(after);
        events.extend([Happening::Runs { instance: 1 }, gone(1)]);
        of(events).leaked
    };
    let all = vec![asked(true), holds.clone(), called.clone()];
    assert_eq!(leaks(all.clone(), vec![]), 1);
    assert_eq!(leaks(vec![asked(false), holds.clone(), called.clone()], vec![]), 0, "its disk stays");
    assert_eq!(leaks(vec![asked(true), called.clone()], vec![]), 0, "another process works on it");
    assert_eq!(leaks(vec![asked(true), holds.clone()], vec![]), 0, "it may have died before its record");
    let refused = Happening::DiskFault { process: 4, what: "write".into() };
    assert_eq!(leaks(vec![asked(true), holds, refused, called], vec![]), 0, "the disk has no record");
    assert_eq!(leaks(all.clone(), vec![Happening::InUse { process: 5, instance: 1 }]), 0, "somebody uses it");
    let pause = Happening::Asked { process: 5, lease: "a".into(), destroy: false };
    assert_eq!(leaks(all.clone(), vec![pause.clone()]), 1, "a word that nobody wrote down");
    let holds = Happening::Holds { process: 5, lease: "a".into() };
    let called = called_by(5, "GET", "", None);
    assert_eq!(leaks(all, vec![pause, holds, called]), 0, "the last word keeps its disk");
}

/// What had ended when the power went did not die of that.
#[test]
fn a_power_cut_kills_only_what_is_at_work() {
    let leaks = |ended: bool| {
        let asked = Happening::Asked { process: 4, lease: "a".into(), destroy: true };
        let called = called_by(4, "GET", "", None);
        let mut events = vec![claim("a", None), created(1, "a", 0.9, true), claim("a", Some(1))];
        events.push(Happening::Began { process: 4, what: "Stop".into() });
        events.extend([asked, Happening::Holds { process: 4, lease: "a".into() }, called]);
        if ended {
            events.push(Happening::Ended { process: 4, outcome: "auth_failed".into() });
        }
        events.push(Happening::Died { process: 6, step: 1, death: Death::PowerCut });
        events.extend([Happening::Runs { instance: 1 }, gone(1)]);
        of(events).leaked
    };
    assert_eq!((leaks(false), leaks(true)), (1, 0));
}

/// A failed acquire gives up a machine that its user has stopped to keep it: that is not to be finished.
#[test]
fn a_destroy_of_what_was_stopped_to_be_kept_is_not_finished() {
    let leaks = |stays: Option<Stay>| {
        let mut events = begun("Acquire");
        events.push(called_by(4, "DELETE", "/instances/1/", Some(1)));
        events.push(Happening::Promised { lease: "a".into(), stays });
        events.push(Happening::Ended { process: 4, outcome: "start_failed_image".into() });
        events.extend([Happening::Runs { instance: 1 }, gone(1)]);
        of(events).leaked
    };
    assert_eq!((leaks(Some(Stay::Disk)), leaks(None)), (0, 1));
}

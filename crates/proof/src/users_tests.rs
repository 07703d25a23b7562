//! What a process of ours may not take away from somebody else, as the checker counts it.

use super::tests::{called_by, claim, created, gone, history, of};
use super::*;
use crate::history::{Death, Stay};

/// A kept lease on which process 4 has begun this.
pub(super) fn begun(what: &str) -> Vec<Happening> {
    vec![
        claim("a", None),
        created(1, "a", 0.9, true),
        claim("a", Some(1)),
        Happening::Promised { lease: "a".into(), stays: Some(Stay::Kept) },
        Happening::Began { process: 4, what: what.into() },
        Happening::Uses { process: 4, lease: "a".into() },
        Happening::Holds { process: 4, lease: "a".into() },
        called_by(4, "PUT", "/api/v0/instances/1/", Some(1)),
    ]
}

#[test]
fn what_somebody_needs_is_not_to_be_taken() {
    let ends = |before: Vec<Happening>, end: Happening| {
        let mut events = vec![
            Happening::CreateSent { process: 0, lease: Some("a".into()), ask: 3 },
            claim("a", None),
            created(1, "a", 0.9, true),
            claim("a", Some(1)),
            Happening::Ready { process: 0, instance: 1 },
        ];
        events.extend(before);
        events.extend([end, gone(1)]);
        of(events).taken
    };
    let destroyed = |by| Happening::Destroyed { instance: 1, by: Some(by) };
    let stopped = |by| Happening::Stopped { instance: 1, by };
    let promised = |stay| Happening::Promised { lease: "a".into(), stays: Some(stay) };
    let working = || Happening::InUse { process: 4, instance: 1 };
    let asked = |destroy| Happening::Asked { process: 2, lease: "a".into(), destroy };
    let minute = Stay::Until(Duration::from_secs(60));
    // A process that works on it, and a claim that says that it stays.
    assert_eq!(ends(vec![working()], destroyed(2)), 1);
    assert_eq!(ends(vec![working()], stopped(2)), 1);
    assert_eq!(ends(vec![promised(Stay::Kept)], destroyed(2)), 1);
    assert_eq!(ends(vec![promised(minute)], destroyed(2)), 1);
    // Asked to be stopped is not asked to be destroyed.
    assert_eq!(ends(vec![promised(Stay::Kept), asked(false)], destroyed(2)), 1);
    assert_eq!(ends(vec![promised(Stay::Kept), asked(false)], stopped(2)), 0);
    assert_eq!(ends(vec![working(), asked(true)], destroyed(2)), 0);
    // Who works on another machine, and who ends what it works on itself.
    assert_eq!(ends(vec![Happening::InUse { process: 4, instance: 9 }], destroyed(2)), 0);
    assert_eq!(ends(vec![working()], destroyed(4)), 0);
    // Expired, dead, done, its own.
    assert_eq!(ends(vec![promised(Stay::Until(Duration::from_secs(5)))], destroyed(2)), 0);
    let died = Happening::Died { process: 4, step: 1, death: Death::Kill };
    assert_eq!(ends(vec![working(), died], destroyed(2)), 0);
    let ended = Happening::Ended { process: 4, outcome: "ok".into() };
    assert_eq!(ends(vec![working(), ended], destroyed(2)), 0);
    assert_eq!(ends(vec![promised(Stay::Kept)], destroyed(0)), 0);
    // Not even who rented it ends it under somebody who got in meanwhile, if it is not too dear.
    assert_eq!(ends(vec![working()], destroyed(0)), 1);
    let left = || Happening::Ended { process: 4, outcome: "ok".into() };
    assert_eq!(ends(vec![working(), promised(Stay::Kept), left()], destroyed(0)), 1);
    assert_eq!(ends(vec![working(), left()], destroyed(0)), 0, "its claim promises nothing");
    let raised = Happening::Repriced { instance: 1, price: 1.5 };
    let shown = Happening::PriceShown { process: 0, instance: 1, price: 1.5 };
    assert_eq!(ends(vec![working(), raised, shown], destroyed(0)), 0);
    assert_eq!(ends(vec![Happening::Unfit { instance: 1 }, working()], destroyed(0)), 0);
    // A machine that is stopped may be stopped again, and its disk stays.
    assert_eq!(ends(vec![promised(Stay::Disk)], destroyed(2)), 1);
    assert_eq!(ends(vec![promised(Stay::Disk)], stopped(2)), 0);
}

/// A date that was written while the clock was behind by so much comes so much too early, and by no more. Everything else
/// is what it says.
#[test]
fn a_clock_that_was_behind_excuses_what_was_dated_by_it() {
    let ends = |events: Vec<Happening>, at: u64| {
        let mut history = history(vec![claim("a", None), created(1, "a", 0.9, true), claim("a", Some(1))]);
        for event in events {
            history.push(Duration::from_secs(3), event);
        }
        history.push(Duration::from_secs(at), Happening::Destroyed { instance: 1, by: Some(2) });
        judge(&history, &BTreeSet::new(), 1.0).taken
    };
    let promised = |stay| Happening::Promised { lease: "a".into(), stays: Some(stay) };
    let until = || promised(Stay::Until(Duration::from_secs(600)));
    let jump = |seconds: i64| Happening::ClockJumped(seconds * 1000);
    assert_eq!(ends(vec![until()], 599), 1);
    assert_eq!(ends(vec![until()], 600), 0);
    // Dated by a clock that is a minute behind, and right again.
    assert_eq!(ends(vec![jump(-60), until(), jump(60)], 539), 1);
    assert_eq!(ends(vec![jump(-60), until(), jump(60)], 540), 0);
    // Still behind; dated before; dated after.
    assert_eq!(ends(vec![jump(-60), until()], 599), 1);
    assert_eq!(ends(vec![until(), jump(-60)], 599), 1);
    assert_eq!(ends(vec![jump(-60), jump(60), until()], 599), 1);
    // A clock that went ahead ends nothing early: the vendor's does not go with it.
    assert_eq!(ends(vec![until(), jump(60)], 599), 1);
    assert_eq!(ends(vec![jump(-60), promised(Stay::Kept), jump(60)], 599), 1);
}

/// Who is at work on a lease is not to be disturbed, before it says so itself too.
#[test]
fn a_start_an_adoption_and_a_run_are_at_work_from_their_beginning() {
    let ends = |what: &str, more: Vec<Happening>| {
        let mut events = vec![claim("a", None), created(1, "a", 0.9, true), claim("a", Some(1))];
        events.push(Happening::Began { process: 4, what: what.into() });
        events.push(Happening::Uses { process: 4, lease: "a".into() });
        events.push(Happening::Holds { process: 4, lease: "a".into() });
        events.extend(more);
        events.push(Happening::Destroyed { instance: 1, by: Some(2) });
        of(events).taken
    };
    let ended = || Happening::Ended { process: 4, outcome: "ok".into() };
    let died = |process, death| Happening::Died { process, step: 1, death };
    let promised = |stay| Happening::Promised { lease: "a".into(), stays: Some(stay) };
    for what in ["Start", "Adopt"] {
        assert_eq!(ends(what, vec![]), 1, "{what}");
        assert_eq!(ends(what, vec![ended()]), 0, "{what}");
        assert_eq!(ends(what, vec![died(4, Death::Kill)]), 0, "{what}");
        assert_eq!(ends(what, vec![died(9, Death::PowerCut)]), 0, "{what}");
        assert_eq!(ends(what, vec![died(9, Death::Kill)]), 1, "{what}");
        let asked = Happening::Asked { process: 2, lease: "a".into(), destroy: true };
        assert_eq!(ends(what, vec![asked]), 0, "{what}");
    }
    // A touch saves what is not over yet.
    assert_eq!(ends("Touch", vec![]), 0);
    let (soon, later) =
        (|| promised(Stay::Until(Duration::from_secs(4))), || promised(Stay::Until(Duration::from_secs(90))));
    for what in ["Touch", "Adopt", "Start"] {
        assert_eq!(ends(what, vec![later()]), 1, "{what}");
        // An adoption of what has its claim already renews nothing either, a start what it has.
        assert_eq!(ends(what, vec![soon()]), 0, "{what}");
        assert_eq!(ends(what, vec![soon(), later()]), 1, "{what}");
    }
    // Nor has anybody had what he has not locked.
    let mut unlocked = vec![claim("a", None), created(1, "a", 0.9, true), claim("a", Some(1))];
    unlocked.push(Happening::Began { process: 4, what: "Start".into() });
    unlocked.push(Happening::Uses { process: 4, lease: "a".into() });
    unlocked.push(Happening::Holds { process: 5, lease: "a".into() });
    unlocked.push(Happening::Destroyed { instance: 1, by: Some(5) });
    assert_eq!(of(unlocked).taken, 0);
    // What a run rents is its own while it lives, before it works on it.
    let of_a_run = |more: Vec<Happening>| {
        let mut events = vec![
            Happening::Began { process: 4, what: "Run".into() },
            Happening::CreateSent { process: 4, lease: Some("a".into()), ask: 3 },
            claim("a", None),
            created(1, "a", 0.9, true),
            promised(Stay::Until(Duration::from_secs(90))),
        ];
        events.extend(more);
        events.push(Happening::Destroyed { instance: 1, by: Some(2) });
        of(events).taken
    };
    assert_eq!(of_a_run(vec![]), 1);
    assert_eq!(of_a_run(vec![died(4, Death::Kill)]), 0);
    // Once somebody else has handed it over it is not the run's any more.
    let ready = |process| Happening::Ready { process, instance: 1 };
    assert_eq!(of_a_run(vec![ready(4), died(4, Death::Kill)]), 0);
    assert_eq!(of_a_run(vec![ready(5), died(4, Death::Kill)]), 1);
    assert_eq!(of_a_run(vec![ready(5), ready(4), died(4, Death::Kill)]), 1);
    assert_eq!(of_a_run(vec![ended()]), 0);
}

/// A lease that was handed over is its user's again: what others had asked for before is done, or died with them.
#[test]
fn what_was_asked_for_before_a_hand_over_excuses_nothing_after_it() {
    let ends = |destroy: bool, asker_ends: bool, ready: bool| {
        let mut events = vec![
            claim("a", None),
            created(1, "a", 0.9, true),
            claim("a", Some(1)),
            Happening::Began { process: 2, what: "Pause".into() },
            Happening::Asked { process: 2, lease: "a".into(), destroy },
        ];
        if asker_ends {
            events.push(Happening::Died { process: 2, step: 1, death: Death::Kill });
        }
        if ready {
            events.push(Happening::Ready { process: 4, instance: 1 });
        }
        events.push(Happening::Promised { lease: "a".into(), stays: Some(Stay::Kept) });
        events.push(Happening::Stopped { instance: 1, by: 7 });
        of(events).taken
    };
    for destroy in [false, true] {
        assert_eq!(ends(destroy, true, true), 1, "{destroy}");
        assert_eq!(ends(destroy, true, false), 0, "{destroy}: nobody used it since");
        assert_eq!(ends(destroy, false, true), 0, "{destroy}: it is being asked for still");
    }
}

/// A start whose process dies is taken back, unless it had handed its lease over.
#[test]
fn a_start_that_died_may_be_stopped_and_one_that_was_handed_over_may_not() {
    let ends = |what: &str, ready: bool, end: Happening| {
        let mut events = begun(what);
        if ready {
            events.push(Happening::Ready { process: 4, instance: 1 });
        }
        events.push(end);
        events.push(Happening::Stopped { instance: 1, by: 7 });
        of(events).taken
    };
    let died = |death| Happening::Died { process: 4, step: 1, death };
    let failed = Happening::Ended { process: 4, outcome: "ssh_timeout".into() };
    for end in [died(Death::Kill), died(Death::PowerCut), failed] {
        assert_eq!(ends("Start", false, end.clone()), 0, "{end:?}");
        assert_eq!(ends("Start", true, end.clone()), 1, "{end:?}");
        assert_eq!(ends("Touch", false, end.clone()), 1, "{end:?}");
    }
}

/// A start that was refused before it was sent has begun nothing that is to be taken back.
#[test]
fn a_start_that_sent_nothing_excuses_no_stop() {
    let ends = |sent: bool| {
        let mut events = begun("Start");
        if !sent {
            events.pop();
        }
        events.push(Happening::Ended { process: 4, outcome: "price_cap_exceeded".into() });
        events.push(Happening::Stopped { instance: 1, by: 7 });
        of(events).taken
    };
    assert_eq!((ends(true), ends(false)), (0, 1));
}

/// A start that finds its machine too dear stops it again, whoever got in meanwhile, and nobody else may.
#[test]
fn what_became_too_dear_while_it_started_may_be_stopped_by_who_starts_it() {
    let ends = |price: f64, shown: bool, end: Happening| {
        let mut events = begun("Start");
        events.push(Happening::InUse { process: 5, instance: 1 });
        events.push(Happening::Repriced { instance: 1, price });
        if shown {
            events.push(Happening::PriceShown { process: 4, instance: 1, price });
        }
        events.extend([end, gone(1)]);
        of(events).taken
    };
    let stopped = |by| Happening::Stopped { instance: 1, by };
    assert_eq!(ends(2.0, true, stopped(4)), 0);
    assert_eq!(ends(2.0, true, stopped(7)), 1, "another's start");
    assert_eq!(ends(2.0, false, stopped(4)), 1, "it was not shown");
    assert_eq!(ends(0.8, true, stopped(4)), 1, "it is not too dear");
    assert_eq!(ends(2.0, true, Happening::Destroyed { instance: 1, by: Some(4) }), 1, "its disk stays");
}

/// What a start left undone is no reason any more once somebody uses the lease, and none against who is at work on it.
#[test]
fn a_start_that_died_excuses_nothing_from_the_next_use_on() {
    let ends = |before: Vec<Happening>, after: Vec<Happening>, end: Happening| {
        let mut events = begun("Start");
        events.extend(before);
        events.push(Happening::Died { process: 4, step: 1, death: Death::Kill });
        events.extend(after);
        events.extend([end, gone(1)]);
        of(events).taken
    };
    let stopped = || Happening::Stopped { instance: 1, by: 7 };
    let working = |process| Happening::InUse { process, instance: 1 };
    let over = |process| Happening::Ended { process, outcome: "ok".into() };
    let crabbox = |lease: &str| Happening::UsedByCrabbox { lease: lease.into() };
    assert_eq!(ends(vec![], vec![], stopped()), 0);
    assert_eq!(ends(vec![], vec![working(5), over(5)], stopped()), 1);
    assert_eq!(ends(vec![], vec![crabbox("a")], stopped()), 1);
    assert_eq!(ends(vec![], vec![crabbox("b")], stopped()), 0, "another lease");
    assert_eq!(ends(vec![working(5)], vec![], stopped()), 1, "it is at work");
    assert_eq!(ends(vec![working(5)], vec![over(5)], stopped()), 1, "somebody got in while it started");
    assert_eq!(
        ends(vec![], vec![], Happening::Destroyed { instance: 1, by: Some(7) }),
        1,
        "only to be stopped"
    );
    // A stop that a user asked for and that died with its process is called off by a use as well.
    let asked = |process| Happening::Asked { process, lease: "a".into(), destroy: false };
    let began = |process| Happening::Began { process, what: "Pause".into() };
    assert_eq!(ends(vec![], vec![began(6), asked(6), over(6), working(5), over(5)], stopped()), 1);
    assert_eq!(
        ends(vec![], vec![began(6), asked(6), working(5), over(5)], stopped()),
        0,
        "it is still at it"
    );
}

/// A run is at work on what it handed over to itself, whether or not a claim promises anything.
#[test]
fn a_run_works_on_what_it_was_given() {
    let ends = |what: &str| {
        let mut events = vec![claim("a", None), created(1, "a", 0.9, true), claim("a", Some(1))];
        events.push(Happening::Began { process: 4, what: what.into() });
        events.push(Happening::Ready { process: 4, instance: 1 });
        events.push(Happening::Destroyed { instance: 1, by: Some(2) });
        of(events).taken
    };
    assert_eq!((ends("Run"), ends("Acquire")), (1, 0));
}

/// Whoever goes on with an acquire that was cut off may give its machine up, unless somebody else got it.
#[test]
fn who_goes_on_with_an_acquire_may_give_its_machine_up() {
    let ends = |acquires: Option<usize>, ready: Option<usize>| {
        let mut events = begun("Again");
        events.extend(ready.map(|process| Happening::Ready { process, instance: 1 }));
        events.extend(acquires.map(|process| Happening::Acquires { process, lease: "a".into() }));
        events.push(Happening::Destroyed { instance: 1, by: Some(4) });
        of(events).taken
    };
    assert_eq!(ends(None, None), 1);
    assert_eq!(ends(Some(4), None), 0);
    assert_eq!(ends(Some(5), None), 1, "somebody else goes on");
    assert_eq!(ends(Some(4), Some(4)), 0);
    assert_eq!(ends(Some(4), Some(5)), 1, "it was handed over");
}

/// Of two words of a user the later one counts, once the process that was asked had it on record.
#[test]
fn the_last_word_replaces_one_that_nobody_carries_out() {
    let ends = |recorded: bool, by: usize| {
        let asked = |process, destroy| Happening::Asked { process, lease: "a".into(), destroy };
        let mut events = vec![claim("a", None), created(1, "a", 0.9, true), claim("a", Some(1))];
        events.push(Happening::Promised { lease: "a".into(), stays: Some(Stay::Kept) });
        events.push(Happening::Began { process: 4, what: "Stop".into() });
        events.push(asked(4, true));
        events.push(Happening::Died { process: 4, step: 1, death: Death::Kill });
        events.push(Happening::Began { process: 5, what: "Pause".into() });
        events.extend([asked(5, false), Happening::Holds { process: 5, lease: "a".into() }]);
        if recorded {
            events.push(called_by(5, "GET", "", None));
        }
        events.push(Happening::Died { process: 5, step: 1, death: Death::Kill });
        events.push(Happening::Destroyed { instance: 1, by: Some(by) });
        of(events).taken
    };
    assert_eq!((ends(true, 7), ends(false, 7)), (1, 0));
}

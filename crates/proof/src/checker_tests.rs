//! Each promise, broken alone.

use super::*;
use crate::history::{Death, Stay};

fn history(events: Vec<Happening>) -> History {
    let mut history = History::default();
    for (second, event) in (0_u64..).zip(events) {
        history.push(Duration::from_secs(second), event);
    }
    history
}

fn created(instance: u64, lease: &str, price: f64, claimed: bool) -> Happening {
    Happening::Created { instance, lease: Some(lease.into()), ask: instance, price, claimed }
}

fn claim(lease: &str, instance: Option<u64>) -> Happening {
    Happening::Claim { lease: lease.into(), instance }
}

fn gone(instance: u64) -> Happening {
    Happening::Destroyed { instance, by: None }
}

fn of(events: Vec<Happening>) -> Verdict {
    judge(&history(events), &BTreeSet::from([7]), 1.0)
}

#[test]
fn an_orderly_life_is_clean() {
    let verdict = of(vec![
        claim("a", None),
        created(1, "a", 0.9, true),
        claim("a", Some(1)),
        Happening::Ready { process: 0, instance: 1 },
        gone(1),
        Happening::Unclaimed { lease: "a".into() },
        Happening::Settled { left: 0 },
    ]);
    assert!(verdict.is_clean(), "{verdict:?}");
}

#[test]
fn each_broken_promise_is_counted() {
    let leak = of(vec![claim("a", None), created(1, "a", 0.9, true)]);
    assert_eq!(leak, Verdict { leaked: 1, ..Verdict::default() });
    let unclaimed = of(vec![created(1, "a", 0.9, false), gone(1)]);
    assert_eq!(unclaimed, Verdict { lost_claims: 1, ..Verdict::default() });
    let forgotten = of(vec![
        claim("a", None),
        created(1, "a", 0.9, true),
        Happening::Unclaimed { lease: "a".into() },
        gone(1),
    ]);
    assert_eq!(forgotten, Verdict { lost_claims: 1, ..Verdict::default() });
    let dear = of(vec![
        claim("a", None),
        created(1, "a", 0.9, true),
        Happening::Repriced { instance: 1, price: 2.0 },
        Happening::PriceShown { process: 0, instance: 1, price: 2.0 },
        Happening::Ready { process: 0, instance: 1 },
        gone(1),
    ]);
    assert_eq!(dear, Verdict { over_cap_seconds: 1, ..Verdict::default() });
    let twice =
        of(vec![claim("a", None), created(1, "a", 0.9, true), created(2, "a", 0.9, true), gone(1), gone(2)]);
    assert_eq!(twice, Verdict { double_creates: 1, ..Verdict::default() });
    let sent = Happening::CreateSent { process: 0, lease: Some("a".into()), ask: 3 };
    assert_eq!(of(vec![sent.clone(), sent]).double_creates, 1);
    let touched = Happening::Called {
        process: 0,
        method: "DELETE",
        path: String::new(),
        status: 200,
        struck: false,
        instance: Some(7),
    };
    assert_eq!(of(vec![touched]).foreign, 1);
    assert_eq!(of(vec![Happening::Secret { place: String::new() }]).secrets, 1);
    assert_eq!(of(vec![Happening::Settled { left: 2 }]).unsettled, 2);
    let unrecorded = Happening::Unrecorded { process: 0, step: "destroy", instance: Some(1) };
    assert_eq!(of(vec![unrecorded]), Verdict { lost_claims: 1, ..Verdict::default() });
    let misarmed = |ends| Happening::Misarmed { process: 0, ends, why: String::new() };
    assert_eq!(of(vec![misarmed(false)]), Verdict { leaked: 1, ..Verdict::default() });
    assert_eq!(of(vec![misarmed(true)]), Verdict { taken: 1, ..Verdict::default() });
}

/// A rise counts once the process that hands the lease over was shown it, or had the time to be.
#[test]
fn a_price_that_nobody_could_have_seen_is_excused_for_a_while() {
    let raised = |shown: Option<Happening>, later: u64| {
        let mut history = history(vec![
            claim("a", None),
            created(1, "a", 0.9, true),
            Happening::Repriced { instance: 1, price: 2.0 },
        ]);
        let ready = Duration::from_secs(2 + later);
        shown.into_iter().for_each(|shown| history.push(ready, shown));
        history.push(ready, Happening::Ready { process: 0, instance: 1 });
        history.push(ready + Duration::from_secs(5), gone(1));
        judge(&history, &BTreeSet::new(), 1.0).over_cap_seconds
    };
    let shown = |process, price| Some(Happening::PriceShown { process, instance: 1, price });
    assert_eq!(raised(None, 1), 0);
    assert_eq!(raised(None, 14), 0);
    assert_eq!(raised(None, 15), 5);
    assert_eq!(raised(shown(0, 2.0), 1), 5);
    // What another process saw, this one did not; an old price is none that is above the cap.
    assert_eq!(raised(shown(1, 2.0), 1), 0);
    assert_eq!(raised(shown(0, 0.9), 1), 0);
    // Who looked and was shown no price had no turn; another's look is not its own.
    let hidden = |process| Some(Happening::PriceHidden { process, instance: 1 });
    assert_eq!(raised(hidden(0), 15), 0);
    assert_eq!(raised(hidden(1), 15), 5);
}

/// A create that is sent again after its lease was settled is a new one, and after its claim was lost a replay.
#[test]
fn a_lease_that_left_nothing_may_be_begun_anew() {
    let sent = || Happening::CreateSent { process: 0, lease: Some("a".into()), ask: 3 };
    let unclaimed = || Happening::Unclaimed { lease: "a".into() };
    assert_eq!(of(vec![sent(), unclaimed(), sent()]).double_creates, 0);
    let lost = of(vec![sent(), created(1, "a", 0.9, true), unclaimed(), sent(), gone(1)]);
    assert_eq!((lost.double_creates, lost.lost_claims), (1, 1));
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
    // Expired, dead, done, its own.
    assert_eq!(ends(vec![promised(Stay::Until(Duration::from_secs(5)))], destroyed(2)), 0);
    let died = Happening::Died { process: 4, step: 1, death: Death::Kill };
    assert_eq!(ends(vec![working(), died], destroyed(2)), 0);
    let ended = Happening::Ended { process: 4, outcome: "ok".into() };
    assert_eq!(ends(vec![working(), ended], destroyed(2)), 0);
    assert_eq!(ends(vec![promised(Stay::Kept)], destroyed(0)), 0);
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
    assert_eq!(of_a_run(vec![ended()]), 0);
}

/// What a process says is held against the vendor's books.
#[test]
fn a_machine_that_is_said_to_be_gone_does_not_bill() {
    let says = |instance, events: Vec<Happening>| {
        let mut all = vec![claim("a", None), created(1, "a", 0.9, true), claim("a", Some(1))];
        all.push(Happening::Asked { process: 2, lease: "a".into(), destroy: true });
        all.extend(events);
        all.push(Happening::SaidGone { process: 2, lease: "a".into(), instance });
        of(all).false_proofs
    };
    assert_eq!(says(Some(1), vec![]), 1);
    assert_eq!(says(None, vec![]), 1);
    assert_eq!(says(Some(1), vec![gone(1)]), 0);
    assert_eq!(says(None, vec![gone(1)]), 0);
    // Another machine of the lease, rented since.
    assert_eq!(says(Some(1), vec![gone(1), created(2, "a", 0.9, true)]), 0);
    assert_eq!(says(None, vec![gone(1), created(2, "a", 0.9, true)]), 0);
    assert!(!Verdict { false_proofs: 1, ..Verdict::default() }.is_clean());
}

/// A start hands over too.
#[test]
fn every_hand_over_is_judged_by_its_price() {
    let starts = |before: Vec<Happening>, raised_for: u64| {
        let mut history = history(vec![
            claim("a", None),
            created(1, "a", 0.9, true),
            Happening::Ready { process: 0, instance: 1 },
            Happening::Stopped { instance: 1, by: 0 },
            Happening::Repriced { instance: 1, price: 2.0 },
        ]);
        let ready = Duration::from_secs(4 + raised_for);
        before.into_iter().for_each(|event| history.push(ready, event));
        history.push(ready, Happening::Ready { process: 5, instance: 1 });
        history.push(ready + Duration::from_secs(7), gone(1));
        judge(&history, &BTreeSet::new(), 1.0).over_cap_seconds
    };
    assert_eq!(starts(vec![], 600), 7);
    let unfit = Happening::Unfit { instance: 1 };
    assert_eq!(starts(vec![Happening::Repriced { instance: 1, price: 0.5 }, unfit], 600), 7);
    assert_eq!(starts(vec![], 5), 0, "nobody was shown it");
    assert_eq!(starts(vec![Happening::PriceShown { process: 5, instance: 1, price: 2.0 }], 5), 7);
    assert_eq!(starts(vec![Happening::Repriced { instance: 1, price: 0.5 }], 600), 0);
}

/// Whoever brings up a machine that is too dear asks for its end within a minute.
#[test]
fn a_price_that_was_shown_is_acted_upon() {
    let waits = |what: &str, after: Vec<(u64, Happening)>| {
        let mut history = history(vec![
            Happening::Began { process: 4, what: what.into() },
            Happening::CreateSent { process: 4, lease: Some("a".into()), ask: 3 },
            claim("a", None),
            created(1, "a", 0.9, true),
            Happening::Repriced { instance: 1, price: 2.0 },
            Happening::PriceShown { process: 4, instance: 1, price: 2.0 },
        ]);
        for (second, event) in after {
            history.push(Duration::from_secs(5 + second), event);
        }
        history.push(Duration::from_secs(105), gone(1));
        judge(&history, &BTreeSet::new(), 1.0).over_cap_seconds
    };
    let destroy = || Happening::Called {
        process: 4,
        method: "DELETE",
        path: "/api/v0/instances/1/".into(),
        status: 502,
        struck: true,
        instance: Some(1),
    };
    let ended = || Happening::Ended { process: 4, outcome: "timed_out".into() };
    assert_eq!(waits("Acquire", vec![]), 40);
    assert_eq!(waits("Cleanup", vec![]), 0, "it brings up nothing");
    assert_eq!(waits("Acquire", vec![(30, destroy())]), 0);
    assert_eq!(waits("Acquire", vec![(70, destroy())]), 10);
    assert_eq!(waits("Acquire", vec![(20, ended())]), 0, "its claim leads there");
    assert_eq!(waits("Acquire", vec![(65, ended())]), 5);
    assert_eq!(waits("Acquire", vec![(20, Happening::Repriced { instance: 1, price: 0.5 })]), 0);
}

/// What lives counts for its whole time, up to a day.
#[test]
fn what_a_day_may_cost_is_not_exceeded_by_a_create() {
    let rents = |limit: Option<f64>, first_lives: bool| {
        let spends = |process, hours| Happening::Spends { process, hours, limit };
        let sent =
            |process, lease: &str| Happening::CreateSent { process, lease: Some(lease.into()), ask: 3 };
        let mut events = vec![
            spends(0, 24.0),
            sent(0, "a"),
            claim("a", None),
            created(1, "a", 0.5, true),
            spends(1, 1.5),
            sent(1, "b"),
            claim("b", None),
        ];
        if !first_lives {
            events.push(gone(1));
        }
        events.extend([created(2, "b", 0.5, true), gone(2), gone(1)]);
        of(events).over_cap_seconds
    };
    assert_eq!(rents(None, true), 0);
    assert_eq!(rents(Some(12.75), true), 0);
    assert_eq!(rents(Some(12.74), true), 1);
    assert_eq!(rents(Some(12.74), false), 0);
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
        let mut events = vec![
            claim("a", None),
            created(1, "a", 0.9, true),
            claim("a", Some(1)),
            Happening::Promised { lease: "a".into(), stays: Some(Stay::Kept) },
            Happening::Began { process: 4, what: what.into() },
            Happening::Uses { process: 4, lease: "a".into() },
            Happening::Holds { process: 4, lease: "a".into() },
        ];
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

/// A start that finds its machine too dear stops it again, whoever got in meanwhile, and nobody else may.
#[test]
fn what_became_too_dear_while_it_started_may_be_stopped_by_who_starts_it() {
    let ends = |price: f64, shown: bool, end: Happening| {
        let mut events = vec![
            claim("a", None),
            created(1, "a", 0.9, true),
            claim("a", Some(1)),
            Happening::Promised { lease: "a".into(), stays: Some(Stay::Kept) },
            Happening::Began { process: 4, what: "Start".into() },
            Happening::Uses { process: 4, lease: "a".into() },
            Happening::InUse { process: 5, instance: 1 },
            Happening::Repriced { instance: 1, price },
        ];
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
        let mut events = vec![
            claim("a", None),
            created(1, "a", 0.9, true),
            claim("a", Some(1)),
            Happening::Promised { lease: "a".into(), stays: Some(Stay::Kept) },
            Happening::Began { process: 4, what: "Start".into() },
            Happening::Uses { process: 4, lease: "a".into() },
            Happening::Holds { process: 4, lease: "a".into() },
        ];
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
    assert_eq!(ends(vec![working(5)], vec![over(5)], stopped()), 0, "nobody used it since");
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

/// What a tally of thousands of runs shows is the sum of theirs.
#[test]
fn verdicts_add_up_count_by_count() {
    let counts = |by: u64| Verdict {
        leaked: by,
        foreign: 2 * by,
        double_creates: 3 * by,
        lost_claims: 4 * by,
        over_cap_seconds: 5 * by,
        secrets: 6 * by,
        unsettled: 7 * by,
        taken: 8 * by,
        false_proofs: 9 * by,
    };
    let mut sum = counts(10);
    sum += counts(5);
    assert_eq!(sum, counts(15));
}

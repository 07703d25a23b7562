//! Each promise, broken alone.

use super::*;

pub(super) fn history(events: Vec<Happening>) -> History {
    let mut history = History::default();
    for (second, event) in (0_u64..).zip(events) {
        history.push(Duration::from_secs(second), event);
    }
    history
}

pub(super) fn created(instance: u64, lease: &str, price: f64, claimed: bool) -> Happening {
    Happening::Created { instance, lease: Some(lease.into()), ask: instance, price, claimed }
}

pub(super) fn claim(lease: &str, instance: Option<u64>) -> Happening {
    Happening::Claim { lease: lease.into(), instance }
}

pub(super) fn gone(instance: u64) -> Happening {
    Happening::Destroyed { instance, by: None }
}

pub(super) fn of(events: Vec<Happening>) -> Verdict {
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
    assert_eq!(of(vec![called(7)]).foreign, 1);
    assert_eq!(of(vec![Happening::Secret { place: String::new() }]).secrets, 1);
    assert_eq!(of(vec![Happening::Settled { left: 2 }]).unsettled, 2);
    let unrecorded = Happening::Unrecorded { process: 0, step: "destroy", instance: Some(1) };
    assert_eq!(of(vec![unrecorded]), Verdict { lost_claims: 1, ..Verdict::default() });
    let misarmed = |ends| Happening::Misarmed { process: 0, ends, why: String::new() };
    assert_eq!(of(vec![misarmed(false)]), Verdict { leaked: 1, ..Verdict::default() });
    assert_eq!(of(vec![misarmed(true)]), Verdict { taken: 1, ..Verdict::default() });
}

pub(super) fn called(instance: u64) -> Happening {
    called_by(0, "DELETE", "", Some(instance))
}

/// A call that reached the vendor; the checker does not ask how it was answered.
pub(super) fn called_by(
    process: usize,
    method: &'static str,
    path: &str,
    instance: Option<u64>,
) -> Happening {
    Happening::Called { process, method, path: path.to_owned(), status: 200, struck: false, instance }
}

/// The line by which a soak is judged shows every count.
#[test]
fn a_verdict_is_shown_by_its_counts() {
    let shown = Verdict {
        leaked: 1,
        foreign: 2,
        double_creates: 3,
        lost_claims: 4,
        over_cap_seconds: 5,
        secrets: 6,
        ..Verdict::default()
    };
    let line = "leaked 1 foreign 2 double_creates 3 lost_claims 4 over_cap_seconds 5 secrets 6";
    assert_eq!(shown.to_string(), line);
}

/// What leaks at too high a price does so to the end.
#[test]
fn what_is_left_is_counted_to_the_end() {
    let mut left = vec![claim("a", None), created(1, "a", 1.5, true), created(2, "b", 1.5, true)];
    left.insert(1, claim("b", None));
    left.push(Happening::Settled { left: 0 });
    let expected = Verdict { leaked: 2, over_cap_seconds: 2 + 1, ..Verdict::default() };
    assert_eq!(of(left), expected);
}

/// Who else has machines on the account: others, and our user's other machine.
#[test]
fn what_is_not_ours_is_not_touched() {
    assert_eq!(of(vec![called(5)]), Verdict::default());
    assert_eq!(of(vec![Happening::Foreign { instance: 5 }, called(5)]).foreign, 1);
    assert_eq!(of(vec![Happening::ForeignChanged { instance: 7 }]).foreign, 1);
    assert_eq!(of(vec![Happening::Trespassed { process: 0, instance: 5 }]).foreign, 1);
    // A lease that loses its claim stays ours.
    let lost = vec![claim("a", None), created(1, "a", 0.9, true), Happening::Unclaimed { lease: "a".into() }];
    let ended = lost.into_iter().chain([called(1), gone(1)]).collect();
    assert_eq!(of(ended), Verdict { lost_claims: 1, ..Verdict::default() });
}

/// A machine whose claim was removed by hand is nobody's until an adoption came to its end.
#[test]
fn a_machine_without_a_claim_is_ours_once_it_is_adopted() {
    let after = |events: Vec<Happening>| {
        let mut all = vec![claim("a", None), created(1, "a", 0.9, true), claim("a", Some(1))];
        all.extend([Happening::Disowned { instance: 1 }, Happening::Unclaimed { lease: "a".into() }]);
        all.extend(events);
        all.push(gone(1));
        of(all)
    };
    let began = |process| Happening::Began { process, what: "Adopt".into() };
    let ended = |process, outcome: &str| Happening::Ended { process, outcome: outcome.into() };
    let unclaimed = || Happening::Unclaimed { lease: "a".into() };
    assert_eq!(after(vec![]), Verdict::default());
    assert_eq!(after(vec![called(1)]), Verdict { foreign: 1, ..Verdict::default() });
    let taken_over = vec![began(3), claim("a", Some(1)), called(1)];
    assert_eq!(after(taken_over.clone()), Verdict::default());
    // Before its end an adoption has changed nothing, and afterwards a claim has to lead there.
    let lost = Verdict { lost_claims: 1, ..Verdict::default() };
    for (outcome, expected) in [("ok", lost), ("died", Verdict::default())] {
        let mut dropped = taken_over.clone();
        dropped.extend([ended(3, outcome), unclaimed()]);
        assert_eq!(after(dropped), expected, "{outcome}");
    }
    // Another operation that ends well is no adoption.
    let other = Happening::Began { process: 4, what: "Look".into() };
    let looked = vec![began(3), other, claim("a", Some(1)), ended(4, "ok"), unclaimed()];
    assert_eq!(after(looked), Verdict::default());
    let failed = vec![began(3), claim("a", Some(1)), ended(3, "died"), unclaimed(), called(1)];
    assert_eq!(after(failed).foreign, 1, "it is nobody's again");
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
    // Who was not asked for this lease speaks of what was there when it began.
    let began = || Happening::Began { process: 2, what: "Cleanup".into() };
    assert_eq!(says(None, vec![began(), gone(1), created(2, "a", 0.9, true)]), 0);
    let mut found = vec![claim("a", None), created(1, "a", 0.9, true), began()];
    found.push(Happening::SaidGone { process: 2, lease: "a".into(), instance: None });
    assert_eq!(of(found).false_proofs, 1);
    let mut at_once = history(vec![claim("a", None), created(1, "a", 0.9, true)]);
    at_once.push(Duration::from_secs(1), began());
    at_once
        .push(Duration::from_secs(2), Happening::SaidGone { process: 2, lease: "a".into(), instance: None });
    at_once.push(Duration::from_secs(3), gone(1));
    assert!(judge(&at_once, &BTreeSet::new(), 1.0).is_clean(), "it was not there before");
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
    let delete = |path: &str| called_by(4, "DELETE", path, Some(1));
    let destroy = || delete("/api/v0/instances/1/");
    let ended = || Happening::Ended { process: 4, outcome: "timed_out".into() };
    assert_eq!(waits("Acquire", vec![]), 40);
    assert_eq!(waits("Cleanup", vec![]), 0, "it brings up nothing");
    assert_eq!(waits("Acquire", vec![(30, destroy())]), 0);
    assert_eq!(waits("Acquire", vec![(70, destroy())]), 10);
    assert_eq!(waits("Acquire", vec![(30, delete("/api/v0/instances/1/ssh/5/"))]), 40, "its key alone");
    assert_eq!(waits("Acquire", vec![(20, ended())]), 0, "its claim leads there");
    assert_eq!(waits("Acquire", vec![(65, ended())]), 5);
    assert_eq!(waits("Acquire", vec![(20, Happening::Repriced { instance: 1, price: 0.5 })]), 0);
}

/// What lives counts for its whole time, up to a day.
#[test]
fn what_a_day_may_cost_is_not_exceeded_by_a_create() {
    let rents = |limit: Option<f64>, first_lives: bool| {
        let limits = Limits { day: limit, lease: None };
        let spends = |process, hours| Happening::Spends { process, hours, limits };
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
    assert_eq!(rents(Some(12.75 - ROUNDING), true), 0);
    assert_eq!(rents(Some(12.74), true), 1);
    assert_eq!(rents(Some(12.74), false), 0);
}

/// A lease that may cost $1 in two hours, at once and after its price has changed.
#[test]
fn what_a_lease_may_cost_is_not_exceeded() {
    let limited = |limit: f64, price: f64, later: &[(u64, f64)]| {
        let limits = Limits { day: None, lease: Some(limit) };
        let mut history = history(vec![
            Happening::Began { process: 4, what: "Acquire".into() },
            Happening::Spends { process: 4, hours: 2.0, limits },
            Happening::CreateSent { process: 4, lease: Some("a".into()), ask: 3 },
            claim("a", None),
        ]);
        let created_at = Duration::from_secs(10);
        history.push(created_at, created(1, "a", price, true));
        for (minute, price) in later {
            let at = created_at + Duration::from_secs(60 * minute);
            history.push(at, Happening::Repriced { instance: 1, price: *price });
            history.push(at, Happening::PriceShown { process: 4, instance: 1, price: *price });
        }
        let ready = created_at + Duration::from_secs(119 * 60);
        history.push(ready, Happening::Ready { process: 4, instance: 1 });
        history.push(ready + Duration::from_secs(5), gone(1));
        judge(&history, &BTreeSet::new(), 2.0).over_cap_seconds
    };
    let judged = |price, later: &[(u64, f64)]| limited(1.0, price, later);
    assert_eq!(judged(0.5, &[]), 0);
    assert_eq!(limited(1.0 - ROUNDING, 0.5, &[]), 0, "rounding is no price");
    assert_eq!(judged(0.51, &[]), 119 * 60 + 5);
    // Half an hour of the two has passed at 0.1: 0.63 is left for each further one.
    assert_eq!(judged(0.1, &[(30, 0.63)]), 0);
    assert_eq!(judged(0.1, &[(30, 0.64)]), 5);
    // After an hour of them at 0.5 that is no more.
    assert_eq!(judged(0.1, &[(30, 0.5), (60, 0.7)]), 0);
    assert_eq!(judged(0.1, &[(30, 0.5), (60, 0.71)]), 5);
    assert_eq!(judged(0.1, &[(30, 0.5), (60, 0.71), (61, 0.1)]), 0, "it is dear no more");
    // The cap holds besides.
    assert_eq!(judged(0.1, &[(118, 1.9)]), 0);
    assert_eq!(judged(0.1, &[(118, 2.1)]), 5);
}

/// What bills above the cap from its create on does so until its price falls, or for ever; rounding is no price.
#[test]
fn seconds_above_the_cap_are_counted_from_the_create_to_the_fall() {
    let rented = |price: f64| {
        let fall = Happening::Repriced { instance: 1, price: 0.9 };
        let later = Happening::Settled { left: 0 };
        of(vec![claim("a", None), created(1, "a", price, true), fall, later, gone(1)]).over_cap_seconds
    };
    assert_eq!(rented(1.0), 0);
    assert_eq!(rented(1.0 + ROUNDING), 0);
    assert_eq!(rented(1.5), 1);
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

//! The decisions about what a dead process left, as tables: records in, verdict out.

use super::*;
use crate::lease::LeaseId;
use crate::lease::labels::key;
use crate::store::{Attempt, Holder};

const ONE: InstanceId = InstanceId(7);
const OTHER: InstanceId = InstanceId(8);

/// The time of the acquire, Unix seconds.
const BEGUN: i64 = 1_000_000;

fn claim(state: &str, labels: &[(&str, &str)]) -> Claim {
    let mut claim = Claim::default();
    claim.set_instance(ONE);
    claim.labels.insert(key::STATE.to_owned(), state.to_owned());
    for (name, value) in labels {
        claim.labels.insert((*name).to_owned(), (*value).to_owned());
    }
    claim
}

/// Of an acquire that became usable.
fn journal(change: impl FnOnce(&mut Journal)) -> Journal {
    let mut journal = Journal::new(&LeaseId::from_entropy([4; 6]), "one", "", BEGUN);
    journal.attempts.push(Attempt { instance: Some(ONE.0), ..Attempt::default() });
    journal.note_ready(1);
    change(&mut journal);
    journal
}

fn fresh(journal: &mut Journal) {
    journal.phases.clear();
}

fn held(journal: &mut Journal) {
    journal.holder = Some(Holder { since: BEGUN + 100, ..Holder::default() });
}

fn begun(kind: StepKind, instance: InstanceId) -> impl FnOnce(&mut Journal) {
    move |journal| journal.begin(kind, instance, BEGUN + 100)
}

#[test]
fn what_is_unfinished_is_told_by_claim_and_journal() {
    let keep = (key::KEEP, "true");
    let cases: Vec<(&str, Claim, Journal, &[Unfinished])> = vec![
        ("nothing", claim("ready", &[]), journal(|_| ()), &[]),
        ("an acquire", claim("provisioning", &[]), journal(fresh), &[Unfinished::Acquire]),
        (
            "an acquire that was bound late",
            claim("ambiguous-create", &[]),
            journal(fresh),
            &[Unfinished::Acquire],
        ),
        ("one that is given back", claim("rollback-cleanup", &[]), journal(|_| ()), &[Unfinished::Acquire]),
        ("one that somebody got in to", claim("provisioning", &[]), journal(|_| ()), &[]),
        ("one that somebody uses", claim("running", &[]), journal(fresh), &[]),
        (
            "one that was adopted",
            claim("provisioning", &[]),
            journal(|journal| {
                fresh(journal);
                journal.adopted_at = Some(BEGUN);
            }),
            &[],
        ),
        (
            "one that nothing was created for",
            claim("provisioning", &[]),
            journal(|journal| {
                fresh(journal);
                journal.attempts.clear();
            }),
            &[],
        ),
        ("a destroy", claim("ready", &[]), journal(begun(StepKind::Destroy, ONE)), &[Unfinished::Destroy]),
        ("a stop", claim("ready", &[]), journal(begun(StepKind::Stop, ONE)), &[Unfinished::Stop]),
        ("a start", claim("provisioning", &[]), journal(begun(StepKind::Start, ONE)), &[Unfinished::Start]),
        (
            "a start that is stopped again",
            claim("ready", &[]),
            journal(|journal| {
                journal.begin(StepKind::Start, ONE, BEGUN);
                journal.begin(StepKind::Stop, ONE, BEGUN);
            }),
            &[Unfinished::Start],
        ),
        ("a stop of another one", claim("ready", &[]), journal(begun(StepKind::Stop, OTHER)), &[]),
        ("a run", claim("running", &[]), journal(held), &[Unfinished::Run]),
        ("a run that keeps", claim("running", &[keep]), journal(held), &[]),
        ("a run that leaves all", claim("running", &[(key::RELEASE_ACTION, "keep")]), journal(held), &[]),
        (
            "a run that stops",
            claim("running", &[(key::RELEASE_ACTION, "stop")]),
            journal(held),
            &[Unfinished::Run],
        ),
        ("surplus", claim("ready", &[]), journal(begun(StepKind::Destroy, OTHER)), &[Unfinished::Surplus]),
        (
            "a run and surplus",
            claim("running", &[]),
            journal(|journal| {
                held(journal);
                journal.begin(StepKind::Destroy, OTHER, BEGUN);
            }),
            &[Unfinished::Run, Unfinished::Surplus],
        ),
        (
            "an acquire, which ends its surplus too",
            claim("provisioning", &[]),
            journal(|journal| {
                fresh(journal);
                journal.begin(StepKind::Destroy, OTHER, BEGUN);
            }),
            &[Unfinished::Acquire],
        ),
    ];
    for (what, claim, journal, expected) in cases {
        assert_eq!(unfinished(&claim, Some(&journal)), expected, "{what}");
    }
}

#[test]
fn of_crabboxs_leases_only_what_is_certainly_nobodys() {
    let unbound = |labels: &[(&str, &str)]| Claim { cloud_id: String::new(), ..claim("x", labels) };
    let intent = (key::RECOVERY, "ambiguous-create");
    assert_eq!(unfinished(&unbound(&[intent]), None), [Unfinished::Create]);
    assert_eq!(unfinished(&unbound(&[]), None), []);
    assert_eq!(unfinished(&unbound(&[(key::RECOVERY, "other")]), None), []);
    assert_eq!(unfinished(&unbound(&[]), Some(&journal(|_| ()))), [Unfinished::Create]);
    let failed = |state: &str, labels: &[(&str, &str)], used: &str| Claim {
        claimed_at: "2026-01-01T00:00:10Z".into(),
        last_used_at: used.into(),
        ..claim(state, labels)
    };
    let (at_once, later) = ("2026-01-01T00:00:10Z", "2026-01-01T00:00:11Z");
    let rollback = (key::RECOVERY, "rollback-cleanup");
    let state = "rollback-cleanup";
    assert_eq!(unfinished(&failed(state, &[rollback], at_once), None), [Unfinished::Rollback]);
    for (what, claim) in [
        ("kept", failed(state, &[rollback, (key::KEEP, "true")], at_once)),
        ("used since", failed(state, &[rollback], later)),
        ("of unreadable use", failed(state, &[rollback], "")),
        ("in another state", failed("ready", &[rollback], at_once)),
        ("without the word", failed(state, &[], at_once)),
    ] {
        assert_eq!(unfinished(&claim, None), [], "{what}");
    }
}

/// A use shows by its heartbeats, a third of the idle timeout apart, five minutes at most.
#[test]
fn a_use_spares_what_is_unfinished_until_it_falls_silent() {
    let touched = |seconds: i64, labels: &[(&str, &str)]| {
        let at = (BEGUN + seconds).to_string();
        let mut claim = claim("ready", labels);
        claim.labels.insert(key::LAST_TOUCHED_AT.into(), at);
        claim
    };
    let by_crabbox = (BEGUN + 50).to_string();
    let by_crabbox = (key::CREATED_AT, by_crabbox.as_str());
    let by_us = BEGUN.to_string();
    let by_us = (key::CREATED_AT, by_us.as_str());
    let spared = |claim: &Claim, journal: &Journal, why, seconds: i64| {
        in_use(claim, Some(journal), why, BEGUN + seconds)
    };
    let stop = journal(begun(StepKind::Stop, ONE));
    for (what, claim, now, expected) in [
        ("used behind it", touched(101, &[]), 101, true),
        ("used at the same moment", touched(100, &[]), 101, false),
        ("within the slowest beat and its margin", touched(200, &[]), 559, true),
        ("silent for longer", touched(200, &[]), 560, false),
        ("with a short idle timeout", touched(200, &[(key::IDLE_TIMEOUT_SECS, "90")]), 289, true),
        (
            "silent for a third of it and the margin",
            touched(200, &[(key::IDLE_TIMEOUT_SECS, "90")]),
            290,
            false,
        ),
        ("with a long one", touched(200, &[(key::IDLE_TIMEOUT_SECS, "9000")]), 560, false),
        ("never touched", claim("ready", &[]), 101, false),
    ] {
        assert_eq!(spared(&claim, &stop, Unfinished::Stop, now), expected, "{what}");
    }
    // Only what is open, and of this kind, dates it.
    let other = journal(|journal| {
        journal.begin(StepKind::Stop, ONE, BEGUN + 400);
        journal.proved(StepKind::Stop, ONE, BEGUN + 401);
        journal.begin(StepKind::Start, ONE, BEGUN + 300);
        journal.begin(StepKind::Stop, ONE, BEGUN + 100);
    });
    assert!(spared(&touched(200, &[]), &other, Unfinished::Stop, 201));
    // A run that died is spared for a use by crabbox alone.
    let run = journal(held);
    assert!(!spared(&touched(150, &[by_us]), &run, Unfinished::Run, 151));
    assert!(spared(&touched(150, &[by_crabbox]), &run, Unfinished::Run, 151));
    assert!(!spared(&touched(90, &[by_crabbox]), &run, Unfinished::Run, 151));
    // What is to be destroyed and is used by crabbox ends as every lease does.
    let destroy = journal(begun(StepKind::Destroy, ONE));
    let expires = (BEGUN + 5000).to_string();
    let expires = (key::EXPIRES_AT, expires.as_str());
    assert!(!spared(&touched(150, &[by_us, expires]), &destroy, Unfinished::Destroy, 151));
    assert!(spared(&touched(150, &[by_crabbox, expires]), &destroy, Unfinished::Destroy, 4000));
    assert!(!spared(&touched(150, &[by_crabbox, expires]), &destroy, Unfinished::Destroy, 5001));
    // Nothing else is spared.
    for why in [Unfinished::Create, Unfinished::Acquire, Unfinished::Start, Unfinished::Surplus] {
        assert!(!spared(&touched(101, &[by_crabbox]), &stop, why, 101), "{why:?}");
    }
    assert!(!in_use(&touched(101, &[by_crabbox]), None, Unfinished::Stop, BEGUN + 101));
}

/// What an acquire gives up belongs to whoever got in to it, or stopped it to be kept.
#[test]
fn what_an_acquire_gives_up_may_be_somebodys() {
    let begun = "1970-01-12T13:46:40Z";
    let used = |state: &str, last: &str| Claim { last_used_at: last.into(), ..claim(state, &[]) };
    for (what, claim, expected) in [
        ("usable and used", used("ready", "1970-01-12T13:46:41Z"), true),
        ("usable, and dated by the acquire", used("ready", begun), false),
        ("running and used", used("running", "1970-01-12T13:46:41Z"), true),
        ("of unreadable use", used("ready", ""), true),
        ("not usable yet", used("provisioning", "1970-01-12T13:46:41Z"), false),
        ("stopped to be kept", used("stopped", begun), true),
    ] {
        assert_eq!(is_somebodys(&claim, Some(BEGUN), ONE), expected, "{what}");
        assert!(!is_somebodys(&claim, Some(BEGUN), OTHER), "{what}");
        let given_up = journal(|journal| journal.begin_taking_back(StepKind::Destroy, ONE, BEGUN + 100));
        assert_eq!(in_use(&claim, Some(&given_up), Unfinished::Destroy, BEGUN + 101), expected, "{what}");
    }
    assert!(is_somebodys(&used("ready", begun), None, ONE), "of an acquire that is not dated");
}

#[test]
fn a_lease_that_was_reached_since_its_start_is_in_use() {
    let touched = |state: &str, seconds: i64| {
        let mut claim = claim(state, &[]);
        claim.labels.insert(key::LAST_TOUCHED_AT.into(), (BEGUN + seconds).to_string());
        claim
    };
    let started = journal(begun(StepKind::Start, ONE));
    for (what, claim, expected) in [
        ("behind it", touched("ready", 101), true),
        ("in the same second", touched("ready", 100), true),
        ("before it", touched("ready", 99), false),
        ("not usable", touched("provisioning", 101), false),
    ] {
        assert_eq!(reached_since(&claim, Some(&started), ONE), expected, "{what}");
        assert!(!reached_since(&claim, Some(&started), OTHER), "{what}");
        assert!(!reached_since(&claim, Some(&journal(|_| ())), ONE), "{what}: no start");
        let other = journal(begun(StepKind::Stop, ONE));
        assert!(!reached_since(&claim, Some(&other), ONE), "{what}: a stop");
    }
    let mut proved = started.clone();
    proved.proved(StepKind::Start, ONE, BEGUN + 100);
    assert!(!reached_since(&touched("ready", 101), Some(&proved), ONE));
    assert!(!reached_since(&touched("ready", 101), None, ONE));
}

#[test]
fn what_the_next_command_makes_of_it_is_told() {
    let stops = [(key::RELEASE_ACTION, "stop")];
    let at = (BEGUN + 101).to_string();
    let touched = [(key::LAST_TOUCHED_AT, at.as_str())];
    for (what, claim, journal, expected) in [
        ("nothing", claim("ready", &[]), journal(|_| ()), None),
        ("an acquire", claim("provisioning", &[]), journal(fresh), Some(StepKind::Destroy)),
        ("a run", claim("running", &[]), journal(held), Some(StepKind::Destroy)),
        ("a run that stops", claim("running", &stops), journal(held), Some(StepKind::Stop)),
        (
            "a destroy",
            claim("ready", &stops),
            journal(begun(StepKind::Destroy, ONE)),
            Some(StepKind::Destroy),
        ),
        ("a stop", claim("ready", &[]), journal(begun(StepKind::Stop, ONE)), Some(StepKind::Stop)),
        ("a stop of what is used", claim("ready", &touched), journal(begun(StepKind::Stop, ONE)), None),
        ("a start", claim("provisioning", &[]), journal(begun(StepKind::Start, ONE)), Some(StepKind::Stop)),
        ("a start that was reached", claim("ready", &touched), journal(begun(StepKind::Start, ONE)), None),
        ("surplus", claim("ready", &[]), journal(begun(StepKind::Destroy, OTHER)), None),
    ] {
        assert_eq!(end_to_come(&claim, Some(&journal), BEGUN + 102), expected, "{what}");
    }
}

#[test]
fn a_claim_tells_whether_commands_run_on_it() {
    for (state, usable, was) in [
        ("ready", true, true),
        ("running", true, true),
        ("stopped", false, true),
        ("provisioning", false, false),
    ] {
        let claim = claim(state, &[]);
        assert_eq!((is_usable(&claim), was_usable(&claim)), (usable, was), "{state}");
    }
}

#[test]
fn each_reason_has_words_of_its_own() {
    let all = [
        Unfinished::Create,
        Unfinished::Acquire,
        Unfinished::Rollback,
        Unfinished::Destroy,
        Unfinished::Surplus,
        Unfinished::Stop,
        Unfinished::Start,
        Unfinished::Run,
    ];
    let words: std::collections::BTreeSet<&str> = all.into_iter().map(Unfinished::as_str).collect();
    assert!(words.len() == all.len() && words.iter().all(|words| words.len() > 15), "{words:?}");
    assert_eq!(Unfinished::Run.but_in_use(), "the run it was for has died, but it was used a moment ago");
}

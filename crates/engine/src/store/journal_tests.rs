//! Tests of what a journal answers: each question with the neighbours that it must not be confused with.

use super::*;
use crate::lease::InstanceId;
use crate::store::testing::Bench;
use crate::store::{PROVED_NOTHING, StepKind};

const ONE: InstanceId = InstanceId(1);
const OTHER: InstanceId = InstanceId(2);

fn lease(id: u8) -> LeaseId {
    LeaseId::from_entropy([id; 6])
}

fn empty() -> Journal {
    Journal::new(&lease(1), "a", "1@x", 0)
}

#[test]
fn what_was_given_up_is_told_by_instance() {
    let mut journal = empty();
    journal.discard("no create was ever sent");
    assert_eq!(journal, empty());
    journal.attempts.push(Attempt::default());
    journal.note("created: 1".into(), Some(ONE));
    assert!(!journal.discarded(ONE), "it is the lease's");
    journal.discard("no answer over SSH");
    assert_eq!(journal.attempts[0].outcome.as_deref(), Some("discarded: no answer over SSH"));
    assert!(journal.discarded(ONE) && !journal.discarded(OTHER));
    journal.attempts.push(Attempt::default());
    assert!(!journal.discarded(OTHER), "an answer that is awaited gives nothing up");
    journal.note("created: 2".into(), Some(OTHER));
    assert!(journal.discarded(ONE) && !journal.discarded(OTHER), "only the one before it");
}

/// One that is given up is the lease's own, which need not be the last that was made.
#[test]
fn the_leases_own_instance_is_given_up_and_found() {
    let mut journal = empty();
    for (instance, price) in [(ONE, 1.0), (OTHER, 2.0)] {
        journal.attempts.push(Attempt { price, ..Attempt::default() });
        journal.note(format!("created: {instance}"), Some(instance));
    }
    let price = |instance| journal.attempt_of(instance).map(|attempt| attempt.price);
    assert_eq!((price(ONE), price(OTHER), price(InstanceId(3))), (Some(1.0), Some(2.0), None));
    journal.instance = Some(1);
    journal.discard("too slow");
    assert!(journal.discarded(ONE) && !journal.discarded(OTHER));
}

#[test]
fn the_newest_create_tells_how_far_the_clocks_were_apart() {
    let mut journal = empty();
    assert_eq!(journal.skew(), None);
    let sent = |started_at, vendor_at| Attempt { started_at, vendor_at, ..Attempt::default() };
    journal.attempts.push(sent(100, Some(40)));
    assert_eq!(journal.skew(), Some(60));
    journal.attempts.push(sent(200, Some(270)));
    assert_eq!(journal.skew(), Some(-70));
    journal.attempts.push(sent(300, None));
    assert_eq!(journal.skew(), None, "no answer had told it");
}

/// A kill between the claim and the journal: the number stands in the claim alone.
#[test]
fn an_instance_of_which_only_the_claim_knows_is_an_unclear_creates() {
    let mut journal = empty();
    assert!(!journal.disowns(ONE) && !journal.catch_up(ONE), "no create was sent");
    journal.attempts.push(Attempt { outcome: Some("nothing: taken".into()), ..Attempt::default() });
    assert!(!journal.disowns(ONE), "it was refused");
    journal.attempts.push(Attempt::default());
    assert!(journal.disowns(ONE));
    let taken_over = Journal { adopted_at: Some(1), ..journal.clone() };
    assert!(!taken_over.disowns(ONE), "none of its creates made it");
    let mut used = journal.clone();
    used.reached(ONE);
    assert_eq!(used.attempts[1].instance, Some(1));
    assert!(used.created(ONE) && used.was_ready() && !used.disowns(ONE));
    assert!(journal.catch_up(ONE) && !journal.catch_up(ONE), "once");
    journal.attempts.push(Attempt::default());
    assert!(!journal.disowns(ONE) && journal.disowns(OTHER), "it is known, and another one is not");
    journal.discard("too slow");
    assert!(journal.disowns(ONE), "it was given up");
}

/// The last word counts; what was sent meanwhile is not only a wish any more.
#[test]
fn a_wish_replaces_what_was_asked_for_before() {
    use StepKind::{Destroy, Start, Stop};
    let open = |journal: &Journal| [Destroy, Stop].map(|kind| journal.is_open(kind, ONE));
    let wishes = |journal: &Journal| [Destroy, Stop].map(|kind| journal.is_wish(kind, ONE));
    let mut journal = empty();
    journal.wish(Some(Stop), ONE, 10);
    assert_eq!((open(&journal), wishes(&journal)), ([false, true], [false, true]));
    assert!(!journal.is_wish(Stop, OTHER) && !journal.is_wish(Start, ONE));
    journal.wish(Some(Destroy), ONE, 20);
    assert_eq!((open(&journal), wishes(&journal)), ([true, false], [true, false]));
    journal.wish(Some(Stop), ONE, 30);
    assert_eq!(open(&journal), [false, true], "the destroy is not asked for any more");
    journal.begin(Stop, ONE, 40);
    assert_eq!(wishes(&journal), [false, false], "it is about to be sent");
    journal.wish(Some(Destroy), ONE, 50);
    assert_eq!(open(&journal), [true, true], "a stop that was sent may have had its effect");
    journal.wish(Some(Destroy), ONE, 60);
    assert_eq!(open(&journal), [true, true]);
    let asked = journal.steps.iter().find(|step| step.kind == Destroy && step.is_open());
    assert_eq!(asked.map(|step| step.requested_at), Some(60), "asked for again");
    journal.holder = Some(crate::store::Holder::default());
    journal.wish(None, OTHER, 70);
    assert_eq!((open(&journal), journal.holder.take()), ([true, true], None), "of another instance");
    journal.wish(None, ONE, 80);
    assert_eq!(open(&journal), [false, false], "it is kept");
}

/// Who got in calls off the stop by which a start is taken back, and none that was asked for.
#[test]
fn a_start_that_came_to_its_end_is_not_taken_back() {
    use StepKind::{Start, Stop};
    for asked in [false, true] {
        let mut journal = empty();
        journal.begin(Start, ONE, 10);
        match asked {
            true => journal.begin(Stop, ONE, 20),
            false => journal.begin_taking_back(Stop, ONE, 20),
        }
        journal.started(OTHER, 30);
        assert!(journal.is_open(Start, ONE) && journal.is_open(Stop, ONE), "another machine");
        journal.started(ONE, 40);
        assert_eq!((journal.is_open(Start, ONE), journal.is_open(Stop, ONE)), (false, asked));
        assert_eq!(journal.steps[0].proved_at, Some(40));
    }
}

#[test]
fn steps_have_the_names_that_are_written() {
    use StepKind::{Destroy, Start, Stop};
    assert_eq!([Destroy, Stop, Start].map(StepKind::name), ["destroy", "stop", "start"]);
    for kind in [Destroy, Stop, Start] {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
}

/// A destroy by which an acquire gives its machine up is told from one that somebody asked for.
#[test]
fn what_gives_an_instance_up_is_a_destroy_that_nobody_asked_for() {
    let mut journal = empty();
    journal.begin_taking_back(StepKind::Stop, ONE, 1);
    assert!(!journal.gives_up(ONE), "that is a stop");
    journal.begin_taking_back(StepKind::Destroy, ONE, 1);
    assert!(journal.gives_up(ONE) && !journal.gives_up(OTHER));
    let mut proved = journal.clone();
    proved.proved(StepKind::Destroy, ONE, 2);
    assert!(!proved.gives_up(ONE), "it is done");
    journal.asked_again(StepKind::Destroy, ONE, 2);
    assert!(!journal.gives_up(ONE), "its owner asks for it");
    let mut asked = empty();
    asked.begin(StepKind::Destroy, ONE, 1);
    asked.begin_taking_back(StepKind::Destroy, ONE, 2);
    assert!(!asked.gives_up(ONE), "it was begun for its own sake");
}

#[test]
fn the_last_create_is_unanswered_until_its_outcome_is_known() {
    let mut journal = empty();
    assert!(!journal.is_unanswered() && journal.last_create_at().is_none());
    journal.attempts.push(Attempt { started_at: 40, ..Attempt::default() });
    assert!(journal.is_unanswered());
    assert_eq!(journal.last_create_at(), Some(40));
    journal.note("ambiguous: time-out".into(), None);
    assert!(journal.is_unanswered());
    journal.note("ambiguous: time-out".into(), Some(ONE));
    assert!(!journal.is_unanswered(), "the instance is known");
    journal.note("nothing: taken".into(), None);
    assert!(!journal.is_unanswered());
    journal.attempts.push(Attempt { started_at: 50, ..Attempt::default() });
    assert!(journal.is_unanswered());
    assert_eq!(journal.last_create_at(), Some(50));
    journal.attempts[1].outcome = Some("discarded: its number was never noted".into());
    assert!(journal.is_unanswered(), "whatever became of it");
    journal.attempts[1].instance = Some(2);
    assert!(!journal.is_unanswered());
}

#[test]
fn a_create_is_unclear_for_ever_when_no_answer_told_what_it_made() {
    let unclear = |outcome: Option<&str>, instance| {
        Attempt { outcome: outcome.map(str::to_owned), instance, ..Attempt::default() }.was_unclear()
    };
    assert!(unclear(None, None));
    assert!(unclear(Some("ambiguous: time-out"), None));
    assert!(unclear(Some(PROVED_NOTHING), None), "a latecomer would be its");
    assert!(unclear(Some("discarded: its number was never noted"), None));
    assert!(!unclear(Some("nothing: taken"), None));
    assert!(!unclear(Some("ambiguous: time-out"), Some(1)));
    assert!(!unclear(None, Some(1)));
}

#[test]
fn an_instance_is_ours_when_any_create_was_answered_with_it() {
    let mut journal = empty();
    assert!(!journal.created(ONE));
    for (outcome, instance) in [("created: 1", Some(ONE)), ("nothing: taken", None)] {
        journal.attempts.push(Attempt::default());
        journal.note(outcome.into(), instance);
    }
    assert!(journal.created(ONE) && !journal.created(OTHER));
}

#[test]
fn a_lease_was_ready_when_that_phase_was_timed() {
    let mut journal = empty();
    journal.phases.insert("boot".into(), 7);
    assert!(!journal.was_ready());
    journal.phases.insert("ready".into(), 9);
    assert!(journal.was_ready());
}

#[test]
fn nothing_is_rented_only_where_a_request_and_all_its_creates_are_known() {
    let mut journal = empty();
    assert!(!journal.nothing_is_rented(), "begun for a lease of crabbox's");
    journal.request.image = "image".into();
    assert!(journal.nothing_is_rented(), "no create was sent");
    journal.attempts.push(Attempt::default());
    assert!(!journal.nothing_is_rented(), "its answer is awaited");
    journal.note("nothing: taken".into(), None);
    assert!(journal.nothing_is_rented());
    journal.attempts.insert(0, Attempt { outcome: Some(PROVED_NOTHING.into()), ..Attempt::default() });
    assert!(journal.left_nothing() && !journal.nothing_is_rented(), "what was given up may show late");
    journal.attempts.remove(0);
    journal.request.image.clear();
    assert!(!journal.nothing_is_rented());
}

#[test]
fn an_instance_is_noted_on_the_create_that_made_it() {
    let mut journal = empty();
    journal.attempts = vec![Attempt::default(), Attempt::default()];
    journal.attempts[0].outcome = Some(PROVED_NOTHING.into());
    let mut both = journal.clone();
    journal.adopt(Some(0), ONE);
    assert_eq!((journal.attempts[0].instance, journal.instance), (Some(1), Some(1)));
    assert!(!journal.is_unanswered() && journal.attempts[1].was_unclear(), "given up, and still looked for");
    assert!(!journal.left_nothing(), "the last one alone decides nothing");
    journal.discard("no answer over SSH");
    assert!(journal.discarded(ONE) && journal.giving_up() == Some(ONE));
    journal.begin(StepKind::Destroy, ONE, 1);
    journal.proved(StepKind::Destroy, ONE, 2);
    assert!(journal.left_nothing() && journal.giving_up().is_none());

    both.surplus(1, OTHER);
    both.adopt(Some(0), ONE);
    assert!(both.created(OTHER) && !both.discarded(OTHER) && !both.attempts[1].was_unclear());
    both.adopt(None, InstanceId(3));
    assert_eq!(both.attempts.len(), 3, "carried out once more");
    assert!(both.created(ONE) && both.attempt_of(InstanceId(3)).is_some());
}

#[test]
fn what_was_given_up_and_reached_is_the_leases_again() {
    let mut journal = empty();
    for made in [ONE, OTHER] {
        journal.attempts.push(Attempt::default());
        journal.note(format!("created: {made}"), Some(made));
        journal.discard("its process died");
    }
    journal.reprieve(ONE);
    assert!(!journal.discarded(ONE) && journal.discarded(OTHER) && !journal.was_ready());
    assert_eq!(journal.attempts[0].outcome.as_deref(), Some("adopted: 1"));
    journal.reached(OTHER);
    assert!(!journal.discarded(OTHER) && journal.was_ready() && journal.created(OTHER));
    journal.attempts[0].outcome = Some("created: 1".into());
    journal.reprieve(ONE);
    assert_eq!(journal.attempts[0].outcome.as_deref(), Some("created: 1"), "it was never given up");
}

#[test]
fn what_only_the_claim_knew_is_caught_up() {
    let mut journal = empty();
    assert!(!journal.catch_up(ONE), "no create was sent");
    journal.attempts.push(Attempt::default());
    assert!(journal.catch_up(ONE) && !journal.catch_up(ONE));
    assert!(journal.created(ONE));
    assert!(!journal.catch_up(OTHER), "each create made another one");
}

#[test]
fn a_create_left_nothing_only_by_its_own_proof() {
    let mut journal = empty();
    journal.attempts.push(Attempt::default());
    journal.note("created: 1".into(), Some(ONE));
    journal.begin(StepKind::Destroy, OTHER, 1);
    journal.proved(StepKind::Destroy, OTHER, 2);
    journal.begin(StepKind::Stop, ONE, 3);
    journal.proved(StepKind::Stop, ONE, 4);
    assert!(!journal.left_nothing(), "another is gone, and this one only stopped");
    assert_eq!(journal.tombstones().collect::<Vec<_>>(), [(OTHER, 2)]);
}

#[test]
fn steps_are_told_apart_by_kind_and_by_instance() {
    let mut journal = empty();
    journal.begin(StepKind::Destroy, ONE, 1);
    journal.begin(StepKind::Destroy, OTHER, 2);
    journal.begin(StepKind::Stop, ONE, 3);
    assert_eq!(journal.steps.iter().map(|step| step.requested_at).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(!journal.is_open(StepKind::Stop, OTHER) && !journal.is_open(StepKind::Start, ONE));
    journal.proved(StepKind::Destroy, OTHER, 4);
    journal.proved(StepKind::Stop, OTHER, 4);
    journal.voided(StepKind::Start, ONE, "no credit");
    let proved = |journal: &Journal| journal.steps.iter().map(|step| step.proved_at).collect::<Vec<_>>();
    assert_eq!(proved(&journal), [None, Some(4), None]);
    assert!(journal.is_open(StepKind::Destroy, ONE) && !journal.is_open(StepKind::Destroy, OTHER));
    journal.voided(StepKind::Stop, ONE, "refused");
    journal.proved(StepKind::Stop, ONE, 5);
    assert_eq!(proved(&journal), [None, Some(4), None], "what came to nothing cannot be proved");
    assert!(!journal.is_open(StepKind::Stop, ONE));
    assert_eq!(journal.steps[2].void.as_deref(), Some("refused"));
}

#[tokio::test]
async fn files_that_are_no_journals_are_passed_over_and_no_lease_is_no_file() {
    let bench = Bench::new();
    assert!(bench.store.scan_journals().await.unwrap().is_empty());
    bench.store.remove_journal(&lease(1)).await.unwrap();
    bench.store.write_journal(&empty()).await.unwrap();
    let folder = bench.paths().journal();
    for name in ["cbx_020202020202.txt", "notes.json"] {
        bench.put(&folder.join(name), b"{}");
    }
    assert_eq!(bench.store.scan_journals().await.unwrap(), [empty()]);
    let text = std::fs::read_to_string(folder.join("cbx_010101010101.json")).unwrap();
    assert!(text.starts_with('{') && text.ends_with("}\n"), "{text}");
    let nameless = Journal { lease: "../x".into(), ..empty() };
    let refused = bench.store.write_journal(&nameless).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

//! Tests of what counts against a day, case by case.

use super::*;
use crate::store::testing::Bench;
use crate::store::{DeadmanRecord, JournalRequest};

const NOW: i64 = 1_787_400_000;
const HOUR: i64 = 3600;
const FIVE: InstanceId = InstanceId(5);
const SIX: InstanceId = InstanceId(6);

fn lease(id: u8) -> LeaseId {
    LeaseId::from_entropy([id; 6])
}

/// A journal without any create, of a lease that ends after `hours`.
fn bare(id: u8, began: i64, hours: Option<i64>) -> Journal {
    let mut journal = Journal::new(&lease(id), "a", "1@x", began);
    journal.request =
        JournalRequest { ttl_secs: hours.map(|hours| (hours * HOUR) as u64), ..JournalRequest::default() };
    journal
}

/// One more create, answered with an instance where one is given.
fn create(journal: &mut Journal, price: f64, at: i64, instance: Option<InstanceId>) {
    journal.attempts.push(Attempt { price, started_at: at, ..Attempt::default() });
    if let Some(instance) = instance {
        journal.note(format!("created: {instance}"), Some(instance));
    }
}

fn gone(journal: &mut Journal, instance: InstanceId, at: i64) {
    journal.begin(StepKind::Destroy, instance, at);
    journal.proved(StepKind::Destroy, instance, at);
}

fn claim(id: u8, claimed_at: i64, ends_at: Option<i64>, keep: bool) -> Claim {
    let mut claim = Claim {
        lease_id: lease(id).to_string(),
        provider: "vast".to_owned(),
        claimed_at: crate::lease::moment(claimed_at),
        ..Claim::default()
    };
    claim.labels.insert("keep".to_owned(), keep.to_string());
    claim.labels.extend(ends_at.map(|end| ("expires_at".to_owned(), end.to_string())));
    claim
}

fn put(bench: &Bench, id: u8, claim: &Claim) {
    let path = bench.paths().claims().join(format!("{}.json", lease(id)));
    bench.put(&path, &serde_json::to_vec(claim).unwrap());
}

fn cost(spent: f64, committed: f64) -> DayCost {
    DayCost { spent, committed }
}

#[test]
fn a_day_has_twenty_four_hours_and_an_idle_time_of_no_record_half_an_hour() {
    assert_eq!((DAY, IDLE), (86_400, 1_800));
    let mut endless = bare(1, NOW - 23 * HOUR, None);
    create(&mut endless, 1.0, NOW - 23 * HOUR, Some(FIVE));
    assert_eq!(DayCost::of(&endless, true, NOW), cost(23.0, 1.0));
    assert_eq!(DayCost::of(&endless, true, NOW).total(), Dollars(24.0));
}

/// Nobody ended it at its end, and no dead-man switch does: it is counted like one that nothing ends.
#[test]
fn what_outlives_its_time_counts_all_day_unless_a_switch_is_known_to_end_it() {
    let mut over = bare(1, NOW - 3 * HOUR, Some(2));
    create(&mut over, 1.0, NOW - 3 * HOUR, Some(FIVE));
    assert_eq!(DayCost::of(&over, true, NOW), cost(3.0, 21.0));
    assert_eq!(DayCost::of(&over, false, NOW), cost(2.0, 0.0), "released by others");
    over.deadman = Some(DeadmanRecord { ends_at: Some(NOW - HOUR), ..DeadmanRecord::default() });
    assert_eq!(DayCost::of(&over, true, NOW), cost(3.0, 0.0), "it ends it");
    over.deadman = Some(DeadmanRecord {
        ends_at: Some(NOW - HOUR),
        why_not: Some("no HTTPS client".to_owned()),
        ..DeadmanRecord::default()
    });
    assert_eq!(DayCost::of(&over, true, NOW), cost(3.0, 21.0), "it does not work any more");
    let mut due = bare(1, NOW - 2 * HOUR - OVERDUE, Some(2));
    create(&mut due, 1.0, NOW - 2 * HOUR, Some(FIVE));
    assert_eq!(DayCost::of(&due, true, NOW), cost(2.0, 0.0), "it may be ended by now");
}

#[test]
fn a_start_counts_from_the_first_and_lasts_from_the_last() {
    let mut other = bare(1, NOW - 9 * HOUR, Some(3));
    other.price = Some(1.0);
    other.begin(StepKind::Start, FIVE, NOW - 5 * HOUR);
    other.voided(StepKind::Start, FIVE, "queued");
    other.begin(StepKind::Stop, FIVE, NOW - 4 * HOUR);
    assert_eq!(DayCost::of(&other, true, NOW), cost(0.0, 0.0), "neither a refused start nor a stop costs");
    other.begin(StepKind::Start, FIVE, NOW - 2 * HOUR);
    other.proved(StepKind::Start, FIVE, NOW - 2 * HOUR);
    other.begin(StepKind::Stop, FIVE, NOW - HOUR);
    assert_eq!(DayCost::of(&other, true, NOW), cost(2.0, 1.0));
    other.begin(StepKind::Start, FIVE, NOW);
    other.deadman = Some(DeadmanRecord { idle_secs: Some(2 * HOUR as u64), ..DeadmanRecord::default() });
    assert_eq!(DayCost::of(&other, true, NOW), cost(2.0, 2.0), "one idle timeout from the last start on");
}

#[test]
fn what_was_taken_over_counts_beside_what_was_made() {
    // Ours is gone, and another instance was taken over for the lease.
    let mut taken = bare(1, NOW - 6 * HOUR, Some(3));
    create(&mut taken, 2.0, NOW - 6 * HOUR, Some(FIVE));
    gone(&mut taken, FIVE, NOW - 5 * HOUR);
    (taken.instance, taken.adopted_at, taken.price) = (Some(6), Some(NOW - HOUR), Some(1.0));
    assert_eq!(DayCost::of(&taken, true, NOW), cost(2.0 + 1.0, 2.0), "each at its own price");
    gone(&mut taken, SIX, NOW);
    assert_eq!(DayCost::of(&taken, true, NOW), cost(3.0, 0.0));
    // Both live.
    let mut both = bare(1, NOW - HOUR, Some(3));
    create(&mut both, 2.0, NOW - HOUR, Some(FIVE));
    (both.instance, both.adopted_at, both.price) = (Some(6), Some(NOW - HOUR), Some(1.0));
    assert_eq!(DayCost::of(&both, true, NOW), cost(2.0 + 1.0, 4.0 + 2.0));
    // What our own create had made is counted once, whether it was taken over or started again.
    let mut own = bare(1, NOW - HOUR, Some(3));
    create(&mut own, 2.0, NOW - HOUR, Some(FIVE));
    (own.adopted_at, own.price) = (Some(NOW - HOUR), Some(1.5));
    assert_eq!(DayCost::of(&own, true, NOW), cost(1.5, 3.0), "at the price that it showed");
    own.adopted_at = None;
    own.begin(StepKind::Start, FIVE, NOW);
    assert_eq!(DayCost::of(&own, true, NOW), cost(1.5, 3.0));
    // A step on an instance that no record calls ours is no adoption.
    own.instance = None;
    assert_eq!(DayCost::of(&own, true, NOW), cost(1.5, 3.0));
}

#[test]
fn only_the_proof_for_its_own_instance_ends_a_lease() {
    let mut second = bare(1, NOW - 2 * HOUR, Some(3));
    create(&mut second, 1.0, NOW - 2 * HOUR, Some(FIVE));
    gone(&mut second, FIVE, NOW - 2 * HOUR);
    create(&mut second, 1.0, NOW - 2 * HOUR, Some(SIX));
    assert_eq!(DayCost::of(&second, true, NOW), cost(2.0, 1.0));
    gone(&mut second, SIX, NOW - HOUR);
    assert_eq!(DayCost::of(&second, true, NOW), cost(1.0, 0.0));
}

/// A create may have rented although the machine before it is gone, and counts for everybody.
#[tokio::test]
async fn an_unanswered_create_after_a_discarded_machine_counts() {
    let mut second = bare(1, NOW - HOUR, Some(3));
    create(&mut second, 1.0, NOW - HOUR, Some(FIVE));
    gone(&mut second, FIVE, NOW - HOUR / 2);
    create(&mut second, 2.0, NOW - HOUR / 2, None);
    assert_eq!(DayCost::of(&second, true, NOW), cost(0.5 + 1.0, 4.0));
    let bench = Bench::new();
    let store = &bench.store;
    let refused = store.write_journal_within(&second, Dollars(5.0), NOW).await.unwrap_err();
    assert_eq!(refused.code(), Code::CostLimitExceeded);
    store.write_journal_within(&second, Dollars(6.0), NOW).await.unwrap();
    let seen = store.day_cost(&lease(2), DollarsPerHour(0.0), NOW).await.unwrap();
    assert_eq!(seen, cost(1.5, 4.0), "and for others");
}

#[test]
fn the_price_of_the_lease_is_that_of_its_last_machine() {
    let mut second = bare(1, NOW - 2 * HOUR, Some(3));
    create(&mut second, 1.0, NOW - 2 * HOUR, Some(FIVE));
    create(&mut second, 2.0, NOW - HOUR, Some(SIX));
    assert_eq!(DayCost::of(&second, true, NOW), cost(1.0 + 2.0, 2.0));
    second.price = Some(4.0);
    assert_eq!(DayCost::of(&second, true, NOW), cost(1.0 + 4.0, 4.0));
}

#[tokio::test]
async fn a_claim_alone_counts_from_its_date_to_its_end() {
    let bench = Bench::new();
    let seen = async || bench.store.day_cost(&lease(1), DollarsPerHour(1.0), NOW).await.unwrap();
    put(&bench, 2, &claim(2, NOW - HOUR, Some(NOW + 2 * HOUR), false));
    assert_eq!(seen().await, cost(1.0, 2.0));
    put(&bench, 2, &claim(2, NOW - HOUR, Some(NOW + 2 * HOUR), true));
    assert_eq!(seen().await, cost(1.0, 23.0), "what is kept outlives its end");
    put(&bench, 2, &Claim { claimed_at: "yesterday".to_owned(), ..claim(2, NOW, Some(NOW + HOUR), false) });
    assert_eq!(seen().await, cost(24.0, 0.0), "without a date it may have lived all day");
    put(&bench, 2, &Claim { provider: "other".to_owned(), ..claim(2, NOW - HOUR, None, false) });
    assert_eq!(seen().await, cost(0.0, 0.0), "another vendor's money");
}

#[tokio::test]
async fn each_lease_counts_once_and_the_own_one_never() {
    let bench = Bench::new();
    let store = &bench.store;
    let seen = async || store.day_cost(&lease(1), DollarsPerHour(1.0), NOW).await.unwrap();
    // Its own, by journal and by claim.
    let mut own = bare(1, NOW - HOUR, Some(3));
    create(&mut own, 16.0, NOW - HOUR, Some(FIVE));
    store.write_journal(&own).await.unwrap();
    put(&bench, 1, &claim(1, NOW - HOUR, Some(NOW + 2 * HOUR), false));
    assert_eq!(seen().await, cost(0.0, 0.0));
    store.remove_journal(&lease(1)).await.unwrap();
    assert_eq!(seen().await, cost(0.0, 0.0));
    // Two others with a journal, one of them without a claim any more; then one of crabbox's.
    let mut second = bare(2, NOW - HOUR, Some(3));
    create(&mut second, 2.0, NOW - HOUR, Some(FIVE));
    store.write_journal(&second).await.unwrap();
    put(&bench, 2, &claim(2, NOW - HOUR, Some(NOW + 9 * HOUR), false));
    assert_eq!(seen().await, cost(2.0, 4.0));
    let mut third = bare(3, NOW - 5 * HOUR, Some(3));
    create(&mut third, 1.0, NOW - 5 * HOUR, Some(FIVE));
    store.write_journal(&third).await.unwrap();
    assert_eq!(seen().await, cost(2.0 + 3.0, 4.0));
    put(&bench, 4, &claim(4, NOW - HOUR, Some(NOW + 2 * HOUR), false));
    assert_eq!(seen().await, cost(2.0 + 3.0 + 1.0, 4.0 + 2.0));
    bench.put(&bench.paths().claims().join("cbx_050505050505.json"), b"{");
    assert_eq!(seen().await, cost(6.0, 6.0), "an unreadable claim harms only itself");
}

#[tokio::test]
async fn a_journal_that_knows_of_no_rental_leaves_the_word_to_the_claim() {
    let bench = Bench::new();
    let seen = async |journal: &Journal| {
        bench.store.write_journal(journal).await.unwrap();
        bench.store.day_cost(&lease(1), DollarsPerHour(1.0), NOW).await.unwrap()
    };
    put(&bench, 2, &claim(2, NOW - HOUR, Some(NOW + 2 * HOUR), false));
    // Begun for a lease of crabbox's, to stop it say.
    let nothing = bare(2, NOW - HOUR, Some(3));
    assert_eq!(seen(&nothing).await, cost(1.0, 2.0));
    // An acquire of ours that has sent nothing yet.
    let mut asked = nothing.clone();
    asked.request.image = "image".to_owned();
    assert_eq!(seen(&asked).await, cost(0.0, 0.0));
    // One whose create was refused.
    let mut refused = nothing.clone();
    create(&mut refused, 1.0, NOW, None);
    refused.note("nothing: taken".to_owned(), None);
    assert_eq!(seen(&refused).await, cost(0.0, 0.0));
    // A price is on record.
    let mut priced = nothing.clone();
    (priced.price, priced.adopted_at) = (Some(0.5), Some(NOW - HOUR));
    assert_eq!(seen(&priced).await, cost(0.5, 1.0));
}

#[tokio::test]
async fn the_limit_itself_may_be_spent() {
    let bench = Bench::new();
    let write =
        async |journal: &Journal, limit| bench.store.write_journal_within(journal, Dollars(limit), NOW).await;
    let mut other = bare(1, NOW, Some(1));
    create(&mut other, 3.0, NOW, None);
    write(&other, 3.0).await.unwrap();
    assert_eq!(bench.store.journal(&lease(1)).await.unwrap(), Some(other), "written");
    let mut own = bare(2, NOW, Some(1));
    create(&mut own, 1.0, NOW, None);
    assert_eq!(write(&own, 3.5).await.unwrap_err().code(), Code::CostLimitExceeded, "3 and 1 are more");
    write(&own, 4.0).await.unwrap();
    // Sums of prices are not exact: a billionth of a dollar is no reason to refuse.
    let bench = Bench::new();
    let write =
        async |journal: &Journal, limit| bench.store.write_journal_within(journal, Dollars(limit), NOW).await;
    let mut rounded = bare(3, NOW, Some(1));
    create(&mut rounded, 2.0 + 1e-9, NOW, None);
    assert_eq!(DayCost::of(&rounded, true, NOW).total(), Dollars(2.0 + 1e-9));
    write(&rounded, 2.0).await.unwrap();
    rounded.attempts[0].price = 2.0 + 1e-8;
    assert_eq!(write(&rounded, 2.0).await.unwrap_err().code(), Code::CostLimitExceeded);
}

#[tokio::test]
async fn a_refusal_tells_what_is_left_and_what_would_fit() {
    let bench = Bench::new();
    let mut other = bare(1, NOW - HOUR, Some(3));
    create(&mut other, 2.0, NOW - HOUR, Some(FIVE));
    bench.store.write_journal(&other).await.unwrap();
    // The machine before the one that is asked for has cost 1 dollar.
    let mut own = bare(2, NOW - HOUR, Some(3));
    create(&mut own, 1.0, NOW - HOUR, Some(SIX));
    create(&mut own, 3.0, NOW, None);
    let refused = bench.store.write_journal_within(&own, Dollars(10.0), NOW).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the lease may cost $7.0000 in a day, but of the day's $10.0000 only $3.0000 are left: $2.0000 spent, \
         $4.0000 committed to living leases"
    );
    assert!(refused.hint_text().unwrap().starts_with("--ttl 1h0m0s would fit"), "{refused:?}");
}

#[test]
fn a_lifetime_of_five_minutes_is_the_shortest_that_is_offered() {
    let hint = |minutes: f64| left_hint(Dollars(minutes), DollarsPerHour(60.0));
    assert!(hint(5.0).starts_with("--ttl 5m0s would fit"), "{}", hint(5.0));
    assert!(hint(4.0).starts_with("release a lease"), "{}", hint(4.0));
    assert!(hint(6.0).starts_with("--ttl 6m0s would fit"), "{}", hint(6.0));
}

/// Its idle time is put off by every use: what ends it for certain is its time to live.
#[tokio::test]
async fn a_lease_of_crabboxs_counts_to_the_end_of_its_time_and_not_of_its_idle_time() {
    let bench = Bench::new();
    let mut one = claim(2, NOW - HOUR, Some(NOW + HOUR / 2), false);
    one.labels.insert("created_at".to_owned(), (NOW - HOUR).to_string());
    one.labels.insert("ttl_secs".to_owned(), (5 * HOUR).to_string());
    put(&bench, 2, &one);
    let counted = bench.store.day_cost(&lease(1), DollarsPerHour(2.0), NOW).await.unwrap();
    assert_eq!(counted, cost(2.0, 8.0));
}

#[tokio::test]
async fn a_lease_may_cost_what_the_day_has_left_for_it_and_what_it_costs_anyhow() {
    let bench = Bench::new();
    // crabbox's, for two hours more: as dear as it may be.
    put(&bench, 2, &claim(2, NOW, Some(NOW + 2 * HOUR), false));
    let mut own = bare(1, NOW - HOUR, Some(10));
    create(&mut own, 0.5, NOW - HOUR, Some(FIVE));
    let rate = async |journal: &Journal, limit: f64| {
        let rate = bench.store.day_rate(journal, Dollars(limit), NOW).await.unwrap().0;
        (rate * 1e6).round() / 1e6
    };
    // It has cost $0.50 and may cost $4.50 more; the other one $1.
    assert_eq!(rate(&own, 12.0).await, ((12.0_f64 - 1.0 - 0.5) / 9.0 * 1e6).round() / 1e6);
    own.request.cap = Some(0.9);
    assert_eq!(rate(&own, 12.0).await, ((12.0_f64 - 1.8 - 0.5) / 9.0 * 1e6).round() / 1e6);
    own.request.cap = Some(0.2);
    assert_eq!(rate(&own, 12.0).await, ((12.0_f64 - 1.0 - 0.5) / 9.0 * 1e6).round() / 1e6);
    assert_eq!(rate(&own, 1.0).await, 0.5, "it is counted at that already");
    // Its time is over: whatever it costs, the day is not asked.
    own.request.ttl_secs = Some(60);
    assert_eq!(rate(&own, 12.0).await, 0.5);
}

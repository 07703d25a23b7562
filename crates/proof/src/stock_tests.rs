//! What a look into the vendor's books notes.

use super::*;
use crate::stage::Stage;
use crate::vendor::Vendor;
use std::time::Duration;

const LEASE: &str = "cbx_0123456789ab";

/// A world with two machines of others, and the number of one that was made since.
fn world() -> (Stage, u64) {
    let stage = Stage::new(1, &Vendor::default());
    let new = make(&stage);
    (stage, new)
}

fn make(stage: &Stage) -> u64 {
    let label = format!("cbx1|{LEASE}|blue|ready");
    let made = stage.shared().control("POST", "/_sim/instances", &json!({ "label": label }));
    made["id"].as_u64().expect("a number")
}

fn relabel(stage: &Stage, instance: u64) {
    stage.shared().control("POST", &format!("/_sim/instances/{instance}"), &json!({ "label": "other" }));
}

fn others(stage: &Stage) -> Vec<u64> {
    lock(&stage.shared().books).foreign.keys().copied().collect()
}

/// What was noted since the last look.
fn noted(stage: &Stage) -> Vec<Happening> {
    let mut history = lock(&stage.shared().history);
    std::mem::take(&mut *history).events().iter().map(|(_, event)| event.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_new_is_ours_and_what_is_gone_has_an_end() {
    let (stage, new) = world();
    let shared = stage.shared();
    assert_eq!(shared.take_stock(Some(3), Some(LEASE), Some(9)), [new]);
    let price = shared.vast(|vast| vast.contract_price(new)).unwrap_or(0.0);
    let lease = Some(LEASE.to_owned());
    let made = Happening::Created { instance: new, lease, ask: 9, price, claimed: false };
    assert_eq!(noted(&stage), [made]);
    assert_eq!(lock(&shared.books).lease_of.get(&new).map(String::as_str), Some(LEASE));
    assert_eq!(shared.take_stock(Some(3), None, None), Vec::<u64>::new());
    assert_eq!(noted(&stage), []);
    shared.vast(|vast| vast.evict(new));
    shared.take_stock(Some(2), None, None);
    assert_eq!(noted(&stage), [Happening::Destroyed { instance: new, by: Some(2) }]);
    shared.take_stock(Some(2), None, None);
    assert_eq!(noted(&stage), []);
}

#[tokio::test(start_paused = true)]
async fn a_machine_of_others_that_changes_is_noted_once() {
    let (stage, _) = world();
    let shared = stage.shared();
    shared.take_stock(None, None, None);
    noted(&stage);
    let [one, other] = others(&stage)[..] else { panic!("two of them") };
    relabel(&stage, one);
    shared.take_stock(None, None, None);
    assert_eq!(noted(&stage), [Happening::ForeignChanged { instance: one }]);
    shared.vast(|vast| vast.evict(other));
    shared.take_stock(None, None, None);
    assert!(noted(&stage).contains(&Happening::ForeignChanged { instance: other }));
}

#[tokio::test(start_paused = true)]
async fn a_price_that_changed_is_noted_as_reads_show_it() {
    let (stage, new) = world();
    let shared = stage.shared();
    shared.take_stock(None, None, None);
    noted(&stage);
    let alone = |price: Value| json!({ "instances": { "id": new, "dph_total": price } }).to_string();
    shared.note_prices(4, alone(json!(0.5)).as_bytes());
    assert_eq!(noted(&stage), [], "none has changed");
    shared.reprice_ours(2.5);
    assert_eq!(noted(&stage), [Happening::Repriced { instance: new, price: 2.5 }]);
    let shown = Happening::PriceShown { process: 4, instance: new, price: 2.5 };
    // Lists show all by then.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let list = shared.control("GET", "/api/v1/instances/", &json!({}));
    assert!(list["instances"].as_array().is_some_and(|all| all.len() == 3), "{list}");
    shared.note_prices(4, list.to_string().as_bytes());
    assert_eq!(noted(&stage), std::slice::from_ref(&shown), "and nothing of what others have");
    shared.note_prices(4, alone(json!(2.5)).as_bytes());
    assert_eq!(noted(&stage), [shown]);
    shared.note_prices(4, alone(Value::Null).as_bytes());
    assert_eq!(noted(&stage), [Happening::PriceHidden { process: 4, instance: new }]);
}

/// The other machine of our user does with its own what it likes, and nothing with ours and those of others.
#[tokio::test(start_paused = true)]
async fn what_the_other_machine_changes_is_its_own_or_a_trespass() {
    let (stage, ours) = world();
    let shared = stage.shared();
    shared.take_stock(None, None, None);
    let [stranger, gone] = others(&stage)[..] else { panic!("two of them") };
    let its_own = make(&stage);
    noted(&stage);
    let look = |instance| {
        shared.take_stock_elsewhere(5, instance);
        noted(&stage)
    };
    assert_eq!(look(None), [Happening::Foreign { instance: its_own }]);
    assert_eq!(look(Some(its_own)), []);
    assert_eq!(look(Some(1)), [], "there is no such machine");
    for instance in [ours, stranger] {
        assert_eq!(look(Some(instance)), [Happening::Trespassed { process: 5, instance }]);
    }
    // What becomes of its own is nobody's change of what others have here; what becomes of others' still is.
    relabel(&stage, its_own);
    assert_eq!(look(Some(its_own)), []);
    shared.take_stock(None, None, None);
    assert_eq!(noted(&stage), []);
    shared.vast(|vast| [its_own, gone].map(|one| vast.evict(one)));
    assert_eq!(look(Some(its_own)), []);
    shared.take_stock(None, None, None);
    assert_eq!(noted(&stage), [Happening::ForeignChanged { instance: gone }]);
}

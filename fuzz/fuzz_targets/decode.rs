//! Every reply decoder on any JSON, and what the engine does with what they read.
#![no_main]

use crabbox_vast_engine::lease::DollarsPerHour;
use crabbox_vast_engine::vast::decode;
use crabbox_vast_engine::vast::instance::start_fault;
use crabbox_vast_engine::vast::request::OfferQuery;
use crabbox_vast_engine::vast::select::{Terms, select};
use crabbox_vast_engine::vast::{Instance, Offer};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const CAP: f64 = 0.5;

fn offers(offers: &[Offer]) {
    for interruptible in [false, true] {
        let query = OfferQuery {
            interruptible,
            gpu_name: None,
            gpu_count: 0,
            disk_gb: 20,
            cap: Some(DollarsPerHour(CAP)),
            min_reliability: 0.9,
            duration_secs: 3_600,
            order: vec![("dph_total".to_owned(), "asc".to_owned())],
        };
        for candidate in select(offers, &query, &Terms::default()).candidates {
            assert!(candidate.price.0 <= CAP, "over the cap: {}", candidate.price);
            assert!(candidate.price.0 >= 0.0, "less than nothing: {}", candidate.price);
            assert!(candidate.bid.is_some() == interruptible);
            assert!(candidate.bid.is_none_or(|bid| bid.0 > 0.0));
        }
    }
}

fn instance(instance: &Instance) {
    assert!(instance.id.0 > 0);
    for endpoint in instance.endpoints() {
        assert!(endpoint.port > 0);
        assert!(!endpoint.host.is_empty() && endpoint.host == endpoint.host.trim());
    }
    let _ = (instance.shown_status(), instance.is_running(), instance.is_unloaded(), instance.ownership());
    let _ = start_fault(instance.status_msg.as_deref().unwrap_or_default());
}

fuzz_target!(|data: &[u8]| {
    let Ok(body) = serde_json::from_slice::<Value>(data) else { return };
    if let Ok(account) = decode::account(&body) {
        assert!(account.id.0 > 0);
        assert!(account.credit.is_none_or(f64::is_finite));
    }
    if let Ok(found) = decode::offers(&body) {
        offers(&found);
    }
    if let Ok(Some(id)) = decode::created(&body) {
        assert!(id.0 > 0);
    }
    if let Ok(page) = decode::page(&body) {
        page.instances.iter().for_each(instance);
    }
    if let Ok(Some(one)) = decode::instance(&body) {
        instance(&one);
    }
    if let Ok(keys) = decode::keys(&body) {
        assert!(keys.iter().all(|key| !key.is_empty()));
    }
    let _ = decode::log_address(&body);
    let _ = decode::accepted(&body);
});

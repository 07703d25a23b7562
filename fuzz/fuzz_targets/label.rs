//! The ownership label, and the labels of a claim.
#![no_main]

use crabbox_vast_engine::lease::{OwnershipLabel, labels};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let clean = labels::sanitise(text);
    assert_eq!(labels::sanitise(&clean), clean);
    if let Some(label) = OwnershipLabel::decode(text) {
        assert!(!label.lease.is_empty());
        assert_eq!(format!("cbx1|{}|{}|{}", label.lease, label.slug, label.state), text);
    }
    let mut parts = text.splitn(3, '\n');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let label = OwnershipLabel { lease: part(), slug: part(), state: part() };
    let encoded = label.encode();
    // Every part may overshoot its limit by three bytes.
    assert!(encoded.len() <= "cbx1|||".len() + 48 + 48 + 16 + 3 * 3, "{encoded}");
    assert!(!encoded.contains('\n'));
    match OwnershipLabel::decode(&encoded) {
        Some(again) => assert_eq!(again.encode(), encoded),
        None => assert!(encoded.starts_with("cbx1||"), "{encoded}"),
    }
});

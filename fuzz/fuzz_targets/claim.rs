//! Claim files: what can be read is written back without loss, and refreshing its labels never fails.
#![no_main]

use crabbox_vast_engine::lease::{Claim, LeaseId, labels};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

const STEM: &str = "cbx_3f9a1c7be204";

fuzz_target!(|data: &[u8]| {
    let Ok(claim) = Claim::decode(STEM, data) else { return };
    assert_eq!(claim.lease_id, STEM);
    let bytes = claim.encode();
    let again = Claim::decode(STEM, &bytes).expect("what we write can be read");
    assert_eq!(again, claim);
    let _ = (claim.is_vast(), claim.instance_id(), claim.endpoint(), claim.slug(), claim.recovery());
    let mut refreshed = claim.labels.clone();
    let (created, keep) = (labels::created_at(&refreshed), labels::keep(&refreshed));
    let hour = Duration::from_secs(3_600);
    labels::touch(&mut refreshed, 1_787_400_000, Some("ready"), hour, hour, None);
    // A refresh cleans values that no tool writes, and a cleaned one may say something.
    if claim.labels.iter().all(|(_, value)| labels::sanitise(value) == *value) {
        assert_eq!(labels::keep(&refreshed), keep);
    }
    if created.is_some() {
        assert_eq!(labels::created_at(&refreshed), created);
    }
    let _ = (labels::expires_at(&refreshed), labels::sweep_at(&refreshed), labels::ttl(&refreshed));
    let _ = (labels::idle_timeout_text(&refreshed), labels::release_action(&refreshed));
    assert!(LeaseId::parse(STEM).is_some());
});

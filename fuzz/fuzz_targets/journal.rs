//! Journals: what can be read is written back without loss, and so are fields of a newer version.
#![no_main]

use crabbox_vast_engine::store::Journal;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(journal) = serde_json::from_slice::<Journal>(data) else { return };
    let text = serde_json::to_string(&journal).expect("a journal can be written");
    let again: Journal = serde_json::from_str(&text).expect("what we write can be read");
    assert_eq!(again.lease, journal.lease);
    assert_eq!(again.attempts.len(), journal.attempts.len());
    assert_eq!(again.instance, journal.instance);
    assert_eq!(again.last_create_at(), journal.last_create_at());
    let names = |journal: &Journal| journal.extra.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&again), names(&journal));
});

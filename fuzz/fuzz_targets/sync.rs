//! What a sync reads: ignore rules, patterns, paths, its own record and the listing of the far side.
#![no_main]

use crabbox_vast_engine::sync::excludes::{Excludes, Verdict, included};
use crabbox_vast_engine::sync::path::TreePath;
use crabbox_vast_engine::sync::pattern::matches;
use crabbox_vast_engine::sync::record::{Record, quote, read_listing};
use crabbox_vast_fuzz::split;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(path) = TreePath::new(data) {
        assert!(path.folders().all(|folder| TreePath::new(folder.bytes()).is_some()));
        assert!(!path.top().is_empty() && !path.top().contains(&b'/'));
    }
    let mut quoted = Vec::new();
    quote(data, &mut quoted);
    assert!(quoted.starts_with(b"'") && quoted.ends_with(b"'"));
    assert!(read_listing(data).keys().all(|path| TreePath::new(path.bytes()).is_some()));
    if let Some(record) = Record::read(data) {
        assert_eq!(Record::read(&record.write()).as_ref(), Some(&record));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, rules) = split(text);
    let (pattern, _) = split(rules);
    let _ = matches(pattern, path);
    assert!(!path.contains('/') || !matches("*", path));
    let _ = included(path, &[pattern.to_owned()]);
    let excludes = Excludes::new(&[], rules);
    for tracked in [false, true] {
        // What nothing brings back.
        let protected = path.starts_with(".crabbox/env/") || path.starts_with(".crabbox/scripts/");
        assert!(!protected || excludes.verdict(path, tracked) == Verdict::Dropped);
    }
});

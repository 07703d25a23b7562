//! Identifiers, slugs, times, durations and the words of flags.
#![no_main]

use crabbox_vast_engine::config::parse_order;
use crabbox_vast_engine::lease::{
    AccountId, InstanceId, LeaseId, ReleaseAction, Slug, go_duration, legal_file_stem, moment,
    parse_go_duration, parse_rfc3339, rfc3339, unix,
};
use crabbox_vast_engine::ops::run::StopAfter;
use crabbox_vast_engine::ssh::command::{Script, prepare, quote};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::time::Duration;

fuzz_target!(|text: &str| {
    let lease = LeaseId::parse(text);
    if let Some(lease) = &lease {
        assert_eq!(lease.as_str(), text);
        assert!(legal_file_stem(text));
        assert!(Slug::normalise(Slug::generate(lease).as_str()).is_some());
    }
    if let Some(slug) = Slug::normalise(text) {
        assert_eq!(Slug::normalise(slug.as_str()).as_ref(), Some(&slug));
        let id = LeaseId::from_entropy([1, 2, 3, 4, 5, 6]);
        for candidate in Slug::candidates(&slug, &id) {
            assert_eq!(Slug::normalise(candidate.as_str()).as_ref(), Some(&candidate));
        }
        if let Ok(Some(requested)) = Slug::requested(text) {
            assert!(Slug::candidates(&requested, &id).iter().all(|slug| slug.as_str().len() <= 48));
        }
    }
    if legal_file_stem(text) {
        assert!(!text.contains(['/', '\\', '\0']) && text != ".." && text != "." && !text.is_empty());
    }
    if let Ok(id) = text.parse::<InstanceId>() {
        assert_eq!(id.to_string().parse::<InstanceId>().ok(), Some(id));
    }
    let _ = (text.parse::<AccountId>(), text.parse::<ReleaseAction>(), text.parse::<StopAfter>());
    let _ = parse_order(text);
    if let Some(duration) = parse_go_duration(text) {
        let again = parse_go_duration(&go_duration(duration)).expect("what we print can be read");
        let apart = again.abs_diff(duration);
        assert!(apart <= Duration::from_micros(500), "{text}: {duration:?} and {again:?}");
    }
    if let Some(time) = parse_rfc3339(text) {
        let printed = rfc3339(time);
        let again = parse_rfc3339(&printed).expect("what we print can be read");
        assert!(unix(again) == unix(time) || !(-62_135_596_800..253_402_207_200).contains(&unix(time)));
    }
    if let Ok(seconds) = text.trim().parse::<i64>() {
        assert!(parse_rfc3339(&moment(seconds)).is_some());
    }
    let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let _ = Script::from_words(words.clone()).shown();
    match quote(text) {
        Ok(quoted) => {
            assert!(!text.contains('\0'));
            let argv = Script::Argv(vec![text.to_owned()]);
            let prepared = prepare("/work/x", &[], &BTreeMap::new(), &argv);
            assert!(prepared.is_ok_and(|prepared| prepared.line.contains(&quoted)));
        }
        Err(_) => assert!(text.contains('\0')),
    }
});

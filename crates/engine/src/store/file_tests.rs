//! Tests of durable files: what a failure tells, and what is synced.

use super::*;
use crate::store::testing::Bench;

#[test]
fn a_failure_says_what_to_do_about_it() {
    let hint = |kind: ErrorKind| {
        let failed: io::Result<()> = Err(kind.into());
        let error = failed.at("write", Path::new("/state/x")).unwrap_err();
        assert_eq!(error.code(), Code::StateUnavailable);
        assert!(error.to_string().starts_with("cannot write /state/x: "), "{error}");
        error.hint_text().unwrap().to_owned()
    };
    for (kinds, says) in [
        (&[ErrorKind::StorageFull, ErrorKind::QuotaExceeded][..], "free some space"),
        (&[ErrorKind::ReadOnlyFilesystem], "XDG_STATE_HOME"),
        (&[ErrorKind::PermissionDenied], "who owns the folder"),
        (&[ErrorKind::InvalidInput, ErrorKind::NotADirectory], "a real folder in its place"),
        (&[ErrorKind::TimedOut, ErrorKind::Other], "check the folder and its file system"),
    ] {
        for kind in kinds {
            assert!(hint(*kind).contains(says), "{kind:?}: {}", hint(*kind));
        }
    }
    assert_eq!(Ok::<_, io::Error>(3).at("read", Path::new("x")).unwrap(), 3);
}

#[tokio::test]
async fn a_folder_above_that_may_not_be_read_stops_nobody_and_other_failures_do() {
    let bench = Bench::new();
    let folder = bench.root().join("one/two/three");
    std::fs::create_dir_all(&folder).unwrap();
    let sync = async || {
        let folder = folder.clone();
        bench.store.transact(move |files, _| sync_upwards(files, &folder)).await
    };
    for nth in 0..3 {
        let before = bench.history().len();
        bench.fail(nth, ErrorKind::PermissionDenied);
        sync().await.unwrap();
        assert!(bench.failed());
        let synced = bench.history().split_off(before);
        assert_eq!(synced, ["sync one/two/three", "sync one/two", "sync one"], "all the same");
        bench.fail(nth, ErrorKind::StorageFull);
        assert_eq!(sync().await.unwrap_err().code(), Code::StateUnavailable);
    }
    let relative = bench.store.transact(|files, _| sync_upwards(files, Path::new(""))).await;
    relative.unwrap();
}

#[tokio::test]
async fn a_removal_is_synced_where_there_was_anything_to_remove() {
    let bench = Bench::new();
    let path = bench.root().join("folder/file");
    let remove = async || {
        let path = path.clone();
        bench.store.transact(move |files, _| remove_durably(files, &path)).await
    };
    remove().await.unwrap();
    assert_eq!(bench.history(), ["look folder"], "no folder, nothing to sync");
    bench.put(&path, b"1");
    remove().await.unwrap();
    assert!(!path.exists());
    assert_eq!(bench.history().last().unwrap(), "sync folder");
}

#[tokio::test]
async fn random_names_are_random() {
    let bench = Bench::new();
    let ambient = &bench.store.inner.ambient;
    let (one, two) = (random_hex(ambient.as_ref(), 8), random_hex(ambient.as_ref(), 8));
    assert_eq!((one.len(), two.len()), (16, 16));
    assert_ne!(one, two);
}

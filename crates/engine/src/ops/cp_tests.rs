//! Copies through a real shell and real tars.

use super::Call;
use super::bench_tests::{Bench, names, tree, whole_seconds, write};
use crate::Code;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

async fn copies(bench: &Bench) {
    let call = Call::default();
    let here = bench.home.path().join("local files");
    write(&here.join("tree/a/run"), "run");
    std::fs::set_permissions(here.join("tree/a/run"), PermissionsExt::from_mode(0o751)).expect("mode");
    write(&here.join("tree/new\nline"), "n");
    std::fs::create_dir(here.join("tree/empty folder")).expect("folder");
    std::fs::set_permissions(here.join("tree/a"), PermissionsExt::from_mode(0o750)).expect("mode");
    symlink("a/run", here.join("tree/link")).expect("link");
    symlink("tree", here.join("link to tree")).expect("link");
    let up =
        async |from: &str, to: &str| bench.lease.copy_to(&here.join(from), to, &bench.workdir, &call).await;
    let down =
        async |from: &str, to: &str| bench.lease.copy_from(from, &here.join(to), &bench.workdir, &call).await;
    // A folder under a new name, into one that is there, its content alone, and through a link.
    let copied = up("tree", "one/two").await.expect("copies");
    assert_eq!((copied.to.as_str(), copied.files, copied.bytes), ("one/two", 3, 4 + 5), "{copied:?}");
    assert_eq!(up("tree", "one").await.expect("copies").to, "one/tree");
    assert_eq!(up("tree/.", "one").await.expect("copies").to, "one");
    assert_eq!(up("link to tree", "three").await.expect("copies").to, "three");
    let want = whole_seconds(tree(&here.join("tree")));
    for copy in ["one/two", "one/tree", "three"] {
        assert_eq!(whole_seconds(tree(&bench.there(copy))), want, "{copy}");
    }
    // And back.
    let copied = down("one/two", "back").await.expect("copies");
    assert_eq!((Path::new(&copied.to), copied.files), (here.join("back").as_path(), 3));
    down("three", "back").await.expect("copies");
    down("three/.", "fresh/deep").await.expect("copies");
    for copy in ["back/three", "fresh/deep"] {
        assert_eq!(whole_seconds(tree(&here.join(copy))), want, "{copy}");
    }
    // Single files: a new name, into a folder, over a file, and never half.
    assert_eq!(up("tree/a/run", "bin/-x").await.expect("copies").to, "bin/-x");
    assert_eq!(bench.there("bin/-x").metadata().expect("there").permissions().mode() & 0o777, 0o751);
    assert_eq!(up("tree/a/run", "bin/").await.expect("copies").to, "bin/run");
    up("tree/new\nline", "bin/run").await.expect("copies");
    assert_eq!(std::fs::read(bench.there("bin/run")).expect("there"), b"n");
    assert_eq!(names(&bench.there("bin")), ["-x", "run"]);
    let absolute = bench.there("bin/-x").display().to_string();
    let copied = down(&absolute, "downloads/").await.expect("copies");
    assert_eq!(Path::new(&copied.to), here.join("downloads/-x"));
    down("one/link", "followed").await.expect("copies");
    assert_eq!(std::fs::read(here.join("followed")).expect("there"), b"run");
    // What cannot be.
    let error = down("nothing here", "x").await.expect_err("missing");
    assert!(error.code() == Code::CopyFailed && error.to_string().contains("does not exist"), "{error}");
    assert!(!here.join("x").exists());
    let error = up("nothing here", "x").await.expect_err("missing");
    assert!(error.code() == Code::InvalidArgument && error.to_string().contains("does not exist"), "{error}");
    let _socket = std::os::unix::net::UnixListener::bind(here.join("socket")).expect("binds");
    let error = up("socket", "x").await.expect_err("a socket");
    assert!(
        error.code() == Code::InvalidArgument && error.to_string().contains("no file or folder"),
        "{error}"
    );
    let error = up("tree", "bin/run").await.expect_err("a file is there");
    assert_eq!(error.code(), Code::CopyFailed);
    write(&here.join("file"), "a file");
    let error = down("three", "file/below").await.expect_err("a file is there");
    assert_eq!(error.code(), Code::CopyFailed, "{error}");
    let error = down("three", "file").await.expect_err("a file is there");
    assert_eq!(error.code(), Code::CopyFailed, "{error}");
    assert_eq!(std::fs::read(here.join("file")).expect("there"), b"a file");
}

#[tokio::test]
async fn copies_go_up_and_down() {
    copies(&Bench::new().await).await;
}

#[tokio::test]
async fn busybox_is_enough_for_copies() {
    copies(&Bench::busybox().await).await;
}

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

fn make_pipe(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
}

async fn replaces_only_files(bench: &Bench) {
    let call = Call::default();
    let here = bench.home.path().join("local files");
    write(&here.join("file"), "new");
    write(&here.join("tree/pipe"), "new");
    let up =
        async |from: &str, to: &str| bench.lease.copy_to(&here.join(from), to, &bench.workdir, &call).await;
    let down =
        async |from: &str, to: &str| bench.lease.copy_from(from, &here.join(to), &bench.workdir, &call).await;
    up("file", "file").await.expect("copies");
    up("tree", "tree").await.expect("copies");
    // Here: a link is followed, a pipe is written into, and what takes no bytes is left alone.
    write(&here.join("real"), "old");
    symlink("real", here.join("link")).expect("link");
    down("file", "link").await.expect("copies");
    assert!(here.join("link").symlink_metadata().expect("there").is_symlink());
    assert_eq!(std::fs::read(here.join("real")).expect("there"), b"new");
    make_pipe(&here.join("pipe"));
    let pipe = here.join("pipe");
    let reader = std::thread::spawn(move || std::fs::read(pipe).expect("reads"));
    // Opening waits for both ends.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    down("file", "pipe").await.expect("copies");
    assert_eq!(reader.join().expect("ends"), b"new");
    let error = down("file", "pipe").await.expect_err("nobody reads");
    assert!(error.code() == Code::CopyFailed && error.to_string().contains("nobody reads"), "{error}");
    let _socket = std::os::unix::net::UnixListener::bind(here.join("socket")).expect("binds");
    symlink("nothing", here.join("loose")).expect("link");
    for place in ["socket", "loose"] {
        let before = here.join(place).symlink_metadata().expect("there").file_type();
        let error = down("file", place).await.expect_err("no file");
        assert_eq!(error.code(), Code::CopyFailed, "{error}");
        assert_eq!(here.join(place).symlink_metadata().expect("there").file_type(), before, "{place}");
    }
    make_pipe(&here.join("into-pipe"));
    std::fs::create_dir(here.join("into")).expect("folder");
    std::fs::rename(here.join("into-pipe"), here.join("into/pipe")).expect("moves");
    let error = down("tree/.", "into").await.expect_err("a pipe is there");
    assert!(error.to_string().contains("neither"), "{error}");
    assert!(!here.join("into/pipe").symlink_metadata().expect("there").is_file());
    // There: the same, but a pipe would hold up a machine that costs money.
    write(&bench.there("real"), "old");
    symlink("real", bench.there("link")).expect("link");
    symlink("link", bench.there("link 2")).expect("link");
    up("file", "link 2").await.expect("copies");
    assert!(bench.there("link").symlink_metadata().expect("there").is_symlink());
    assert!(bench.there("link 2").symlink_metadata().expect("there").is_symlink());
    assert_eq!(std::fs::read(bench.there("real")).expect("there"), b"new");
    make_pipe(&bench.there("pipe"));
    symlink("nothing", bench.there("loose")).expect("link");
    for place in ["pipe", "loose"] {
        let before = bench.there(place).symlink_metadata().expect("there").file_type();
        let error = up("file", place).await.expect_err("no file");
        assert_eq!(error.code(), Code::CopyFailed, "{error}");
        assert_eq!(bench.there(place).symlink_metadata().expect("there").file_type(), before, "{place}");
    }
    assert!(names(Path::new(&bench.workdir)).iter().all(|name| !name.contains("crabbox-cp")));
    assert!(names(&here).iter().all(|name| !name.contains("crabbox-cp")));
}

#[tokio::test]
async fn a_copy_replaces_nothing_but_files() {
    replaces_only_files(&Bench::new().await).await;
}

#[tokio::test]
async fn a_copy_replaces_nothing_but_files_on_busybox() {
    replaces_only_files(&Bench::busybox().await).await;
}

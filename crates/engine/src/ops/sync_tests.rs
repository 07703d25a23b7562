//! Syncs through a real shell and real tars, against what rsync makes of the same files.

use super::bench_tests::{Bench, SYSTEM, as_path, git, lease, names, tree, whole_seconds, write};
use super::{Event, SyncRequest};
use crate::Code;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Names and kinds that are easy to get wrong.
fn difficult(bench: &Bench) {
    bench.write("README.md", "hello\n");
    bench.write("src/deep/er/main.rs", "fn main() {}\n");
    bench.write("with space/and 'quote\" $x `y`", "q");
    bench.write("new\nline/na\nme", "n");
    bench.write("über/naïve ☃", "u");
    bench.write("-dash", "d");
    bench.write("empty", "");
    bench.write("back\\slash", "b");
    bench.write(&format!("long/{}/{}", "n".repeat(120), "m".repeat(200)), "long");
    std::fs::write(bench.repo.join(as_path(b"not utf-8 \xff\xfe")), "bytes").expect("writes");
    bench.write("bin/run", "#!/bin/sh\n");
    std::fs::set_permissions(bench.repo.join("bin/run"), PermissionsExt::from_mode(0o755)).expect("mode");
    bench.write("secret", "s");
    std::fs::set_permissions(bench.repo.join("secret"), PermissionsExt::from_mode(0o640)).expect("mode");
    std::fs::set_permissions(bench.repo.join("src/deep"), PermissionsExt::from_mode(0o750)).expect("mode");
    for (target, name) in [
        ("README.md", "link"),
        ("nowhere", "dangling"),
        ("src", "to-folder"),
        ("/absolute/target", "absolute"),
        ("./a//b/../c", "odd"),
        (&"t".repeat(150)[..], "long-target"),
    ] {
        symlink(target, bench.repo.join(name)).expect("link");
    }
    bench.write(".gitignore", "ignored/\n*.tmp\n");
    bench.write("ignored/x", "no");
    bench.write("a.tmp", "no");
}

#[tokio::test]
async fn the_tree_is_the_one_that_rsync_makes() {
    let bench = Bench::new().await;
    difficult(&bench);
    git(&bench.repo, &["add", "src"]);
    let report = bench.sync().await;
    assert_eq!(tree(Path::new(&bench.workdir)), bench.as_rsync());
    assert_eq!((report.sent_files, report.skipped), (report.files, false));
    assert_eq!(bench.there("").metadata().expect("folder").permissions().mode() & 0o777, 0o700);
    // Nothing is left of the work.
    let meta: Vec<_> = names(&bench.there(".crabbox"));
    assert_eq!(meta, ["crabbox-vast-record", "crabbox-vast-state", "sync-manifest"]);
    let again = bench.sync().await;
    assert!(again.skipped, "{again:?}");
    assert!(matches!(bench.events.lock().expect("sound").last(), Some(Event::SyncSkipped { .. })));
}

#[tokio::test]
async fn busybox_alone_is_enough() {
    let bench = Bench::busybox().await;
    difficult(&bench);
    bench.sync().await;
    assert_eq!(whole_seconds(tree(Path::new(&bench.workdir))), whole_seconds(bench.as_rsync()));
    assert!(bench.sync().await.skipped);
    bench.write("README.md", "changed\n");
    std::fs::remove_file(bench.repo.join("new\nline/na\nme")).expect("removes");
    let report = bench.sync().await;
    assert_eq!((report.sent_files, report.removed), (1, 1));
    assert_eq!(whole_seconds(tree(Path::new(&bench.workdir))), whole_seconds(bench.as_rsync()));
}

#[tokio::test]
async fn only_what_changed_travels() {
    let bench = Bench::new().await;
    difficult(&bench);
    bench.sync().await;
    let (before, folders) = (bench.there("secret").metadata().expect("there").ino(), bench.as_rsync());
    bench.write("README.md", "changed\n");
    std::fs::set_permissions(bench.repo.join("bin/run"), PermissionsExt::from_mode(0o644)).expect("mode");
    std::fs::remove_file(bench.repo.join("link")).expect("removes");
    symlink("elsewhere", bench.repo.join("link")).expect("link");
    let commands = bench.here.commands.load(Ordering::Relaxed);
    let report = bench.sync().await;
    assert_eq!(bench.here.commands.load(Ordering::Relaxed) - commands, 2);
    assert_eq!(report.sent_files, 3, "{report:?}");
    assert_ne!(bench.as_rsync(), folders);
    assert_eq!(tree(Path::new(&bench.workdir)), bench.as_rsync());
    assert_eq!(bench.there("secret").metadata().expect("there").ino(), before);
}

#[tokio::test]
async fn what_a_command_changed_on_the_box_is_put_right() {
    let bench = Bench::new().await;
    difficult(&bench);
    bench.sync().await;
    let kept = bench.there("README.md").metadata().expect("there");
    // The same size and the same times: only the inode change time tells.
    write(&bench.there("README.md"), "HELLO\n");
    let file = std::fs::File::options().write(true).open(bench.there("README.md")).expect("opens");
    file.set_modified(kept.modified().expect("a time")).expect("sets");
    std::fs::remove_file(bench.there("empty")).expect("removes");
    std::fs::set_permissions(bench.there("secret"), PermissionsExt::from_mode(0o600)).expect("mode");
    write(&bench.there("results/out"), "made there");
    let report = bench.sync().await;
    assert_eq!(report.sent_files, 3, "{report:?}");
    let mut tree = tree(Path::new(&bench.workdir));
    assert!(tree.remove("\"results/out\"").is_some() && tree.remove("\"results\"").is_some());
    assert_eq!(tree, bench.as_rsync());
    assert!(bench.sync().await.skipped);
}

#[tokio::test]
async fn deletions_are_pruned_and_nothing_else() {
    let bench = Bench::new().await;
    difficult(&bench);
    bench.write("mixed/ours", "1");
    bench.write("swap-a", "file");
    bench.write("swap-b/inner/x", "folder");
    bench.sync().await;
    write(&bench.there("mixed/made there"), "2");
    let outside = bench.home.path().join("outside");
    write(&outside.join("er/main.rs"), "not ours");
    for gone in [
        "src/deep/er/main.rs",
        "new\nline/na\nme",
        "with space/and 'quote\" $x `y`",
        "mixed/ours",
        "dangling",
        "swap-a",
        "swap-b/inner/x",
    ] {
        std::fs::remove_file(bench.repo.join(gone)).expect("removes");
    }
    std::fs::remove_dir_all(bench.repo.join("swap-b")).expect("removes");
    bench.write("swap-a/now/a folder", "1");
    bench.write("swap-b", "now a file");
    // Somebody put a link where a synced folder was: what it leads to is not ours.
    std::fs::remove_dir_all(bench.there("src/deep")).expect("removes");
    symlink(&outside, bench.there("src/deep")).expect("link");
    bench.sync().await;
    assert!(!bench.there("new\nline").exists() && !bench.there("with space").exists());
    assert_eq!(names(&bench.there("mixed")), ["made there"]);
    assert_eq!(std::fs::read_to_string(outside.join("er/main.rs")).expect("left"), "not ours");
    assert_eq!(std::fs::read_to_string(bench.there("swap-b")).expect("a file"), "now a file");
    assert!(
        bench.there("swap-a/now/a folder").exists() && bench.there("dangling").symlink_metadata().is_err()
    );
}

#[tokio::test]
async fn an_empty_repository_and_one_emptied() {
    let bench = Bench::new().await;
    assert_eq!(bench.sync().await.files, 0);
    assert!(bench.sync().await.skipped);
    bench.write("a/b", "1");
    bench.sync().await;
    std::fs::remove_dir_all(bench.repo.join("a")).expect("removes");
    bench.sync().await;
    assert!(tree(Path::new(&bench.workdir)).is_empty());
}

#[tokio::test]
async fn leftovers_of_crabbox_are_pruned_and_its_fingerprint_goes() {
    let bench = Bench::new().await;
    bench.write("keep", "1");
    write(&bench.there("keep"), "0");
    write(&bench.there("old/from crabbox"), "0");
    write(&bench.there("not in any manifest"), "0");
    write(&bench.there(".crabbox/sync-manifest"), "keep\0old/from crabbox\0");
    write(&bench.there(".crabbox/sync-fingerprint"), "f");
    write(&bench.there(".crabbox/sync-finalize-token"), "0123456789abcdef0123456789abcdef");
    write(&bench.there(".crabbox/sync-finalize-complete-token"), "0123456789abcdef0123456789abcdef");
    bench.sync().await;
    assert_eq!(names(Path::new(&bench.workdir)), [".crabbox", "keep", "not in any manifest"]);
    assert_eq!(std::fs::read_to_string(bench.there("keep")).expect("there"), "1");
    assert_eq!(
        names(&bench.there(".crabbox")),
        ["crabbox-vast-record", "crabbox-vast-state", "sync-manifest"]
    );
    assert_eq!(std::fs::read(bench.there(".crabbox/sync-manifest")).expect("there"), b"keep\0");
    // crabbox syncs in between: its manifest counts, and its fingerprint goes even where nothing else is to be done.
    write(&bench.there("second"), "crabbox");
    write(&bench.there(".crabbox/sync-manifest"), "keep\0second\0");
    write(&bench.there(".crabbox/sync-fingerprint"), "f");
    let report = bench.sync().await;
    assert_eq!((report.skipped, report.removed, report.sent_files), (false, 1, 0));
    write(&bench.there(".crabbox/sync-fingerprint"), "f");
    assert!(bench.sync().await.skipped);
    assert!(!bench.there("second").exists() && !bench.there(".crabbox/sync-fingerprint").exists());
}

#[tokio::test]
async fn in_a_checkout_the_records_are_where_crabbox_has_them() {
    let bench = Bench::new().await;
    bench.write("keep", "1");
    std::fs::create_dir_all(&bench.workdir).expect("folder");
    git(Path::new(&bench.workdir), &["init", "-q"]);
    bench.sync().await;
    assert!(bench.there(".git/crabbox/sync-manifest").exists() && !bench.there(".crabbox").exists());
    assert!(bench.sync().await.skipped);
}

#[tokio::test]
async fn a_broken_connection_leaves_the_old_manifest_and_the_next_sync_mends_it() {
    let bench = Bench::new().await;
    difficult(&bench);
    bench.sync().await;
    let manifest = std::fs::read(bench.there(".crabbox/sync-manifest")).expect("there");
    let noise: String = (0..400_000_u64)
        .map(|n| char::from(b'a' + u8::try_from((n * n * 7919 / 13) % 26).unwrap_or(0)))
        .collect();
    for n in 0..20 {
        bench.write(&format!("more/{n}"), &format!("{n}{noise}"));
    }
    std::fs::remove_file(bench.repo.join("empty")).expect("removes");
    for bytes in [1, 10_000, 60_000] {
        *bench.here.breaks_after.lock().expect("sound") = Some(bytes);
        let error = bench.try_sync(&SyncRequest::default()).await.expect_err("breaks");
        assert_eq!(error.code(), Code::SshLost, "{error}");
        assert_eq!(std::fs::read(bench.there(".crabbox/sync-manifest")).expect("there"), manifest);
        assert!(bench.there(".crabbox/sync-finalize-lock").symlink_metadata().is_err());
    }
    bench.sync().await;
    assert_eq!(tree(Path::new(&bench.workdir)), bench.as_rsync());
    assert!(bench.sync().await.skipped);
}

#[tokio::test]
async fn two_syncs_exclude_each_other() {
    let bench = Bench::new().await;
    for n in 0..300 {
        bench.write(&format!("d{}/{n}", n % 7), &format!("{n}"));
    }
    let request = SyncRequest::default();
    let other = lease(&bench.engine, &bench.here).await;
    let (a, b) = tokio::join!(bench.try_sync(&request), bench.sync_on(&other, &request));
    let (a, b) = (a.expect("syncs"), b.expect("syncs"));
    assert!(
        a.skipped || b.skipped || a.sent_files + b.sent_files == 600 || a.sent_files + b.sent_files == 300,
        "{a:?} {b:?}"
    );
    assert_eq!(tree(Path::new(&bench.workdir)), bench.as_rsync());
    assert!(bench.sync().await.skipped);
    // A lock whose process is gone is taken over.
    bench.write("one more", "1");
    symlink("999999999", bench.there(".crabbox/sync-finalize-lock")).expect("link");
    bench.sync().await;
    assert!(bench.there("one more").exists());
}

#[tokio::test]
async fn twenty_thousand_files() {
    let bench = Bench::new().await;
    for n in 0..20_000 {
        let folder = bench.repo.join(format!("d{}/e{}", n % 40, n % 13));
        if n < 600 {
            std::fs::create_dir_all(&folder).expect("folder");
        }
        std::fs::write(folder.join(format!("file number {n}")), format!("{n}")).expect("writes");
    }
    let report = bench.sync().await;
    assert_eq!((report.files, report.sent_files), (20_000, 20_000));
    assert_eq!(tree(Path::new(&bench.workdir)), tree(&bench.repo));
    let commands = bench.here.commands.load(Ordering::Relaxed);
    let again = bench.sync().await;
    assert!(again.skipped && again.wire_bytes == 0, "{again:?}");
    assert_eq!(bench.here.commands.load(Ordering::Relaxed) - commands, 1);
    bench.write("d1/e1/file number 1", "changed");
    let one = bench.sync().await;
    assert_eq!(one.sent_files, 1);
    eprintln!("first {:?}\nagain {:?}\none {:?}", report.steps, again.steps, one.steps);
    for n in 0..150 {
        std::fs::remove_dir_all(bench.repo.join(format!("d{}", n % 40))).unwrap_or_default();
    }
    let pruned = bench.sync().await;
    assert_eq!((pruned.files, pruned.removed), (0, 20_000));
    assert!(tree(Path::new(&bench.workdir)).is_empty());
}

#[tokio::test]
async fn outside_a_repository_there_is_nothing_to_sync() {
    let bench = Bench::new().await;
    std::fs::remove_dir_all(bench.repo.join(".git")).expect("removes");
    let error = bench.engine.check_sync(&SyncRequest::default()).await.expect_err("no repository");
    assert_eq!((error.code(), error.exit_code()), (Code::NotARepository, 6));
    std::fs::create_dir(bench.repo.join(".jj")).expect("folder");
    assert_eq!(
        bench.try_sync(&SyncRequest::default()).await.expect_err("no repository").code(),
        Code::NotARepository
    );
    assert_eq!(bench.here.commands.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_rules_decide_what_travels() {
    let bench = Bench::with("sh", SYSTEM, |settings| {
        settings.sync.exclude = vec!["*.log".into(), "!keep.log".into()];
    })
    .await;
    for name in [
        "a.log",
        "keep.log",
        "src/x",
        "dist/tracked.txt",
        "dist/built.txt",
        "node_modules/m/i.js",
        "data/x",
        ".crabbox/env/e",
    ] {
        bench.write(name, name);
    }
    bench.write(".crabboxignore", "# ours\ndata\n!.crabbox/env\n");
    git(&bench.repo, &["add", "dist/tracked.txt", ".crabbox"]);
    let report = bench.sync().await;
    assert_eq!(
        tree(Path::new(&bench.workdir)).into_keys().collect::<Vec<_>>(),
        [".crabboxignore", "dist", "dist/tracked.txt", "keep.log", "src", "src/x"]
            .map(|name| format!("{name:?}"))
    );
    assert_eq!(
        report.warnings,
        ["protected 1 tracked files from built-in artifact excludes: dist/tracked.txt (dist)"]
    );
    assert_eq!(names(&bench.there(".crabbox")).len(), 3);
}

#[tokio::test]
async fn submodules_hidden_files_and_mass_deletions() {
    let bench = Bench::new().await;
    let inner = bench.repo.join("sub");
    std::fs::create_dir(&inner).expect("folder");
    git(&inner, &["init", "-q"]);
    write(&inner.join("x"), "1");
    git(&inner, &["add", "x"]);
    git(&inner, &["commit", "-qm", "x"]);
    for n in 0..200 {
        bench.write(&format!("many/{n}"), "1");
    }
    bench.write("one", "1");
    git(&bench.repo, &["-c", "advice.addEmbeddedRepo=false", "add", "."]);
    git(&bench.repo, &["commit", "-qm", "all"]);
    let report = bench.sync().await;
    assert_eq!((report.files, report.changed_files), (201, 0));
    assert!(!bench.there("sub").exists());
    git(&bench.repo, &["update-index", "--skip-worktree", "one"]);
    std::fs::remove_file(bench.repo.join("one")).expect("removes");
    let error = bench.try_sync(&SyncRequest::default()).await.expect_err("hidden");
    assert!(error.code() == Code::SyncFailed && error.to_string().contains("\"one\""), "{error}");
    bench.write("one", "1");
    std::fs::remove_dir_all(bench.repo.join("many")).expect("removes");
    let error = bench.try_sync(&SyncRequest::default()).await.expect_err("many");
    assert_eq!((error.code(), error.exit_code()), (Code::MassDeletion, 6));
    assert!(bench.there("many/7").exists());
    bench.write("many/0", "1");
    let report = bench.sync().await;
    assert_eq!((report.removed, report.changed_files), (199, 199));
    assert!(bench.there("many/0").exists() && !bench.there("many/7").exists());
}

#[tokio::test]
async fn contents_are_compared_where_that_is_asked_for() {
    let bench = Bench::new().await;
    bench.write("a", "one");
    bench.sync().await;
    let request = SyncRequest { checksum: true, ..SyncRequest::default() };
    assert_eq!(bench.try_sync(&request).await.expect("syncs").sent_files, 1);
    assert!(bench.try_sync(&request).await.expect("syncs").skipped);
    let time = bench.repo.join("a").metadata().expect("there").modified().expect("a time");
    bench.write("a", "two");
    std::fs::File::options()
        .write(true)
        .open(bench.repo.join("a"))
        .expect("opens")
        .set_modified(time)
        .expect("sets");
    assert_eq!(bench.try_sync(&request).await.expect("syncs").sent_files, 1);
    assert_eq!(std::fs::read_to_string(bench.there("a")).expect("there"), "two");
    let full = SyncRequest { full: true, ..SyncRequest::default() };
    assert_eq!(bench.try_sync(&full).await.expect("syncs").sent_files, 1);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let bench = Bench::new().await;
    bench.write("a", "1");
    write(Path::new(&bench.workdir), "a file in its place");
    let error = bench.try_sync(&SyncRequest::default()).await.expect_err("no folder");
    assert_eq!((error.code(), error.exit_code()), (Code::SyncFailed, 6));
    assert!(error.to_string().contains("box of 'o brien/work"), "{error}");
}

#[tokio::test]
async fn a_sync_ends_in_time() {
    let bench =
        Bench::with("sh", SYSTEM, |settings| settings.sync.timeout = Duration::from_millis(300)).await;
    bench.write("a", "1");
    std::fs::create_dir_all(bench.there(".crabbox")).expect("folder");
    symlink(std::process::id().to_string(), bench.there(".crabbox/sync-finalize-lock")).expect("link");
    let error = bench.try_sync(&SyncRequest::default()).await.expect_err("too long");
    assert_eq!((error.code(), error.exit_code()), (Code::SyncTimeout, 6));
}

#[tokio::test]
async fn a_very_large_tree_there_can_be_looked_at() {
    let bench = Bench::with("sh", SYSTEM, |settings| settings.sync.delete = false).await;
    bench.write("file", "x");
    bench.sync().await;
    // More than the answer of any other script may hold, also when it is compressed.
    let (mut names, mut word) = (String::new(), 0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..320_000 {
        for _ in 0..8 {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            names.push_str(&format!("{word:016x}"));
        }
        names.push('\0');
    }
    write(&bench.there(".crabbox/sync-manifest"), &names);
    bench.write("file", "changed");
    assert_eq!(bench.try_sync(&SyncRequest::default()).await.expect("syncs").sent_files, 1);
}

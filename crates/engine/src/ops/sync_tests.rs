//! Syncs into folders of this machine through a real shell and real tars: the SSH session is the only thing replaced.

use super::connect::Connected;
use super::lease::{Lease, Machine};
use super::remote::Remote;
use super::{Call, Engine, Event, SyncReport, SyncRequest};
use crate::config::{Overrides, Settings, Snapshot, resolve};
use crate::lease::{Claim, InstanceId, LeaseId};
use crate::ssh::RusshSsh;
use crate::vast::{Endpoint, EndpointKind};
use crate::world::real::{RealAmbient, RealFiles, RealLocal, ReqwestHttp};
use crate::world::{Disk, ExecExit, ExecIo, Output, SshError, SshErrorKind, SshSession, World};
use crate::{Code, Result};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A session that runs commands here.
struct Here {
    shell: PathBuf,
    path: String,
    home: PathBuf,
    commands: AtomicUsize,
    /// The connection breaks after so many bytes of input.
    breaks_after: Mutex<Option<usize>>,
}

#[async_trait]
impl SshSession for Here {
    async fn exec(&self, command: &str, io: ExecIo) -> std::result::Result<ExecExit, SshError> {
        self.commands.fetch_add(1, Ordering::Relaxed);
        let mut child = tokio::process::Command::new(&self.shell)
            .args(["-c", command])
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", &self.home)
            .current_dir(&self.home)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a shell");
        let (mut input, mut out, mut err) = (
            child.stdin.take().expect("piped"),
            child.stdout.take().expect("piped"),
            child.stderr.take().expect("piped"),
        );
        let ExecIo { stdin, output } = io;
        let breaks_after =
            if stdin.is_some() { self.breaks_after.lock().expect("sound").take() } else { None };
        let feed = async move {
            let mut left = breaks_after.unwrap_or(usize::MAX);
            let mut stdin = stdin;
            while let Some(stdin) = &mut stdin
                && let Some(chunk) = stdin.recv().await
            {
                let part = chunk.len().min(left);
                left -= part;
                if input.write_all(&chunk[..part]).await.is_err() || left == 0 {
                    break;
                }
            }
            drop(input);
            left == 0
        };
        let read = async {
            let (mut o, mut e) = (vec![0; 65536], vec![0; 65536]);
            let (mut out_open, mut err_open) = (true, true);
            while out_open || err_open {
                tokio::select! {
                    biased;
                    count = out.read(&mut o), if out_open => match count.expect("readable") {
                        0 => out_open = false,
                        n => drop(output.send(Output::Stdout(bytes::Bytes::copy_from_slice(&o[..n]))).await),
                    },
                    count = err.read(&mut e), if err_open => match count.expect("readable") {
                        0 => err_open = false,
                        n => drop(output.send(Output::Stderr(bytes::Bytes::copy_from_slice(&e[..n]))).await),
                    },
                }
            }
        };
        let work = async { tokio::join!(feed, read).0 };
        let (status, broke) = if breaks_after.is_some() {
            let broke = work.await;
            (child.wait().await.expect("ends"), broke)
        } else {
            // A feeder that nobody reads from any more must not hold up the end.
            tokio::pin!(work);
            let status = tokio::select! {
                biased;
                _ = &mut work => child.wait().await.expect("ends"),
                status = child.wait() => {
                    let _ = tokio::time::timeout(Duration::from_millis(200), &mut work).await;
                    status.expect("ends")
                }
            };
            (status, false)
        };
        if broke {
            return Err(SshError { kind: SshErrorKind::Lost, message: "gone".into() });
        }
        Ok(ExecExit::Code(u32::try_from(status.code().unwrap_or(255)).unwrap_or(255)))
    }

    fn host_key(&self) -> String {
        String::new()
    }

    fn is_closed(&self) -> bool {
        false
    }

    async fn close(&self) {}
}

/// A repository, a box, and what was said.
struct Bench {
    home: tempfile::TempDir,
    tools: Option<PathBuf>,
    repo: PathBuf,
    workdir: String,
    here: Arc<Here>,
    lease: Lease,
    engine: Engine,
    events: Arc<Mutex<Vec<Event>>>,
}

const SYSTEM: &str = "/usr/local/bin:/usr/bin:/bin";

impl Bench {
    async fn new() -> Self {
        Self::with("sh", SYSTEM, |_| ()).await
    }

    /// A box that has busybox and nothing else.
    async fn busybox() -> Self {
        let tools = tempfile::tempdir().expect("temp dir").keep();
        let status = Command::new("busybox").args(["--install", "-s"]).arg(&tools).status().expect("busybox");
        assert!(status.success());
        let path = tools.display().to_string();
        let mut bench = Self::with(&format!("{path}/sh"), &path, |_| ()).await;
        bench.tools = Some(tools);
        bench
    }

    async fn with(shell: &str, path: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let home = tempfile::tempdir().expect("temp dir");
        let repo = home.path().join("my repo ü");
        std::fs::create_dir(&repo).expect("folder");
        git(&repo, &["init", "-q", "-b", "main"]);
        let mut snapshot = Snapshot { cwd: repo.clone(), ..Snapshot::default() };
        for (name, value) in [
            ("HOME", home.path().display().to_string()),
            ("CRABBOX_VAST_API_KEY", "key".into()),
            ("CRABBOX_VAST_API_URL", "http://127.0.0.1:9".into()),
        ] {
            snapshot.vars.insert(name.into(), value);
        }
        let mut settings = resolve(&snapshot, &Overrides::new()).expect("settings");
        change(&mut settings);
        let world = World {
            http: Arc::new(ReqwestHttp::new(None)),
            disk: Disk::inline(Arc::new(RealFiles)),
            local: Arc::new(RealLocal),
            ssh: Arc::new(RusshSsh),
            ambient: Arc::new(RealAmbient::new("bench")),
        };
        let engine = Engine::new(world, settings).expect("engine");
        let here = Arc::new(Here {
            shell: shell.into(),
            path: path.into(),
            home: home.path().to_owned(),
            commands: AtomicUsize::new(0),
            breaks_after: Mutex::default(),
        });
        let lease = lease(&engine, &here).await;
        let workdir = home.path().join("box of 'o brien/work").display().to_string();
        Self { repo, workdir, here, lease, engine, events: Arc::default(), home, tools: None }
    }

    async fn try_sync(&self, request: &SyncRequest) -> Result<SyncReport> {
        self.sync_on(&self.lease, request).await
    }

    async fn sync_on(&self, lease: &Lease, request: &SyncRequest) -> Result<SyncReport> {
        let events = Arc::clone(&self.events);
        let call = Call::new(move |event| events.lock().expect("sound").push(event), Default::default());
        self.engine.sync(&Remote::new(lease), &self.workdir, request, &call).await
    }

    async fn sync(&self) -> SyncReport {
        self.try_sync(&SyncRequest::default()).await.expect("syncs")
    }

    fn write(&self, name: &str, content: &str) {
        write(&self.repo.join(name), content);
    }

    fn there(&self, name: &str) -> PathBuf {
        Path::new(&self.workdir).join(name)
    }

    /// What a sync should leave on the box: the names that git lists, as rsync brings them.
    fn as_rsync(&self) -> BTreeMap<String, String> {
        let list = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&self.repo)
            .output()
            .expect("git")
            .stdout;
        let present: Vec<u8> = list
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty() && self.repo.join(as_path(name)).symlink_metadata().is_ok())
            .flat_map(|name| [name, b"\0"].concat())
            .collect();
        let names = self.home.path().join("names");
        std::fs::write(&names, present).expect("writes");
        let target = tempfile::tempdir_in(self.home.path()).expect("temp dir");
        let status = Command::new("rsync")
            .args(["-a", "--from0"])
            .arg(format!("--files-from={}", names.display()))
            .args([&self.repo, target.path()])
            .status()
            .expect("rsync");
        assert!(status.success());
        tree(target.path())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(tools) = &self.tools {
            let _ = std::fs::remove_dir_all(tools);
        }
    }
}

/// A lease with a session of its own.
async fn lease(engine: &Engine, here: &Arc<Here>) -> Lease {
    let id = LeaseId::parse("cbx_0123456789ab").expect("an id");
    let claim = Claim { lease_id: id.to_string(), slug: "swift-krill".into(), ..Claim::default() };
    let key = engine.store.create_key(&id).await.expect("a key");
    let machine =
        Machine { instance: InstanceId(1), gpu: String::new(), price: None, deadman: Deadman::default() };
    let endpoint = Endpoint { kind: EndpointKind::Direct, host: "127.0.0.1".into(), port: 1 };
    let session: Arc<dyn SshSession> = Arc::clone(here) as _;
    Lease::new(engine, &id, &claim, machine, &key, Connected { session, endpoint })
}

fn as_path(name: &[u8]) -> PathBuf {
    crate::sync::path::system_path(name).expect("a path")
}

fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
    std::fs::write(path, content).expect("writes");
}

fn git(repo: &Path, arguments: &[&str]) {
    let status = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
        .args(arguments)
        .current_dir(repo)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .status()
        .expect("git");
    assert!(status.success(), "{arguments:?}");
}

/// Every path with type, mode, content and the time of files (rsync leaves those of folders); what the two programs keep for themselves is left out.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for item in std::fs::read_dir(&folder).expect("a folder") {
            let path = item.expect("an entry").path();
            let stat = path.symlink_metadata().expect("is there");
            let name = path.strip_prefix(root).expect("below");
            if name == Path::new(".crabbox") || name == Path::new(".git") {
                continue;
            }
            let mode = stat.permissions().mode() & 0o7777;
            let time = (stat.mtime(), stat.mtime_nsec());
            let facts = if stat.is_symlink() {
                format!("link {:?}", std::fs::read_link(&path).expect("a link"))
            } else if stat.is_dir() {
                folders.push(path.clone());
                format!("folder {mode:o}")
            } else {
                format!("file {mode:o} {time:?} {:?}", std::fs::read(&path).expect("readable"))
            };
            found.insert(format!("{name:?}"), facts);
        }
    }
    found
}

/// The same without fractions of seconds, which busybox's tar does not know.
fn whole_seconds(tree: BTreeMap<String, String>) -> BTreeMap<String, String> {
    tree.into_iter()
        .map(|(name, facts)| {
            let words: Vec<&str> = facts.splitn(5, ' ').collect();
            let short = match words[..] {
                ["file", mode, seconds, ref rest @ ..] => {
                    format!("file {mode} {seconds} {}", rest.get(1).unwrap_or(&""))
                }
                _ => facts.clone(),
            };
            (name, short)
        })
        .collect()
}

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

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|item| item.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
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
    for bytes in [1, 10_000, 200_000] {
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
    assert_eq!(tree(Path::new(&bench.workdir)), bench.as_rsync());
    let began = Instant::now();
    let again = bench.sync().await;
    let took = began.elapsed();
    assert!(again.skipped && took < Duration::from_secs(4), "{took:?} {again:?}");
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
    assert_eq!((report.removed, report.changed_files), (199, 200));
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

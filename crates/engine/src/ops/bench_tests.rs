//! A bench for what reaches an instance through its shell: a real shell and real tars in folders of this machine. The
//! SSH session is the only thing replaced.

use super::connect::Connected;
use super::deadman::Deadman;
use super::lease::{Lease, Machine};
use super::remote::Remote;
use super::{Call, Engine, Event, SyncReport, SyncRequest};
use crate::Result;
use crate::config::{Overrides, Settings, Snapshot, resolve};
use crate::lease::{Claim, InstanceId, LeaseId};
use crate::ssh::RusshSsh;
use crate::vast::{Endpoint, EndpointKind};
use crate::world::real::{RealAmbient, RealFiles, RealLocal, ReqwestHttp};
use crate::world::{Disk, ExecExit, ExecIo, Output, SshError, SshErrorKind, SshSession, World};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A session that runs commands here.
pub(super) struct Here {
    shell: PathBuf,
    path: String,
    pub home: PathBuf,
    pub commands: AtomicUsize,
    /// The connection breaks after so many bytes of input.
    pub breaks_after: Mutex<Option<usize>>,
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
pub(super) struct Bench {
    pub home: tempfile::TempDir,
    tools: Option<PathBuf>,
    pub repo: PathBuf,
    pub workdir: String,
    pub here: Arc<Here>,
    pub lease: Lease,
    pub engine: Engine,
    pub events: Arc<Mutex<Vec<Event>>>,
}

pub(super) const SYSTEM: &str = "/usr/local/bin:/usr/bin:/bin";

impl Bench {
    pub async fn new() -> Self {
        Self::with("sh", SYSTEM, |_| ()).await
    }

    /// A box that has busybox and nothing else.
    pub async fn busybox() -> Self {
        let tools = tempfile::tempdir().expect("temp dir").keep();
        let status = Command::new("busybox").args(["--install", "-s"]).arg(&tools).status().expect("busybox");
        assert!(status.success());
        let path = tools.display().to_string();
        let mut bench = Self::with(&format!("{path}/sh"), &path, |_| ()).await;
        bench.tools = Some(tools);
        bench
    }

    pub async fn with(shell: &str, path: &str, change: impl FnOnce(&mut Settings)) -> Self {
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

    pub async fn try_sync(&self, request: &SyncRequest) -> Result<SyncReport> {
        self.sync_on(&self.lease, request).await
    }

    pub async fn sync_on(&self, lease: &Lease, request: &SyncRequest) -> Result<SyncReport> {
        let events = Arc::clone(&self.events);
        let call = Call::new(move |event| events.lock().expect("sound").push(event), Default::default());
        self.engine.sync(&Remote::new(lease), &self.workdir, request, &call).await
    }

    pub async fn sync(&self) -> SyncReport {
        self.try_sync(&SyncRequest::default()).await.expect("syncs")
    }

    pub fn write(&self, name: &str, content: &str) {
        write(&self.repo.join(name), content);
    }

    pub fn there(&self, name: &str) -> PathBuf {
        Path::new(&self.workdir).join(name)
    }

    /// What a sync should leave on the box: the names that git lists, as rsync brings them.
    pub fn as_rsync(&self) -> BTreeMap<String, String> {
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
pub(super) async fn lease(engine: &Engine, here: &Arc<Here>) -> Lease {
    let id = LeaseId::parse("cbx_0123456789ab").expect("an id");
    let claim = Claim { lease_id: id.to_string(), slug: "swift-krill".into(), ..Claim::default() };
    let key = engine.store.create_key(&id).await.expect("a key");
    let machine = Machine {
        instance: InstanceId(1),
        gpu: String::new(),
        price: None,
        deadman: Deadman::default(),
        rented: false,
    };
    let endpoint = Endpoint { kind: EndpointKind::Direct, host: "127.0.0.1".into(), port: 1 };
    let session: Arc<dyn SshSession> = Arc::clone(here) as _;
    Lease::new(engine, &id, &claim, machine, &key, Connected { session, endpoint })
}

pub(super) fn as_path(name: &[u8]) -> PathBuf {
    crate::sync::path::system_path(name).expect("a path")
}

pub(super) fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
    std::fs::write(path, content).expect("writes");
}

pub(super) fn git(repo: &Path, arguments: &[&str]) {
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
pub(super) fn tree(root: &Path) -> BTreeMap<String, String> {
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
pub(super) fn whole_seconds(tree: BTreeMap<String, String>) -> BTreeMap<String, String> {
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

pub(super) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|item| item.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

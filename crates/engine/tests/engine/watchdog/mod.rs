//! What the watchdog meets in a test: a vendor that writes down what it is asked, and a container that is a few folders.

use crabbox_vast_engine::ssh::deadman::{Plan, Report, line};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

pub const SHELLS: &[&[&str]] = &[&["dash"], &["bash"], &["busybox", "sh"]];

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Asked {
    pub at: Instant,
    pub head: String,
    pub body: String,
}

/// A vendor on loopback.
pub struct Vendor {
    pub url: String,
    /// The certificate that makes it trusted, where it speaks TLS.
    pub authority: Option<String>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Vendor {
    /// Answers each request with the next of `replies` (status and body), the last one for ever.
    pub async fn http(replies: &'static [(u16, &'static str)]) -> Self {
        Self::start(replies, None).await
    }

    /// The same over TLS, under a certificate for `localhost` that a private authority signed.
    pub async fn https(replies: &'static [(u16, &'static str)]) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A certificate that bore its issuer's name would pass for self-signed.
        authority.distinguished_name.push(DnType::CommonName, "authority of the test");
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])
            .unwrap()
            .signed_by(&key, &authority)
            .unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        Self::start(replies, Some((TlsAcceptor::from(Arc::new(config)), authority.pem()))).await
    }

    async fn start(replies: &'static [(u16, &'static str)], tls: Option<(TlsAcceptor, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (scheme, host) = if tls.is_some() { ("https", "localhost") } else { ("http", "127.0.0.1") };
        let (acceptor, authority) = tls.unzip();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let book = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, book) = (acceptor.clone(), Arc::clone(&book));
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, replies, &book).await,
                        Some(acceptor) => {
                            let Ok(stream) = acceptor.accept(stream).await else { return };
                            serve(stream, replies, &book).await;
                        }
                    }
                });
            }
        });
        Self { url: format!("{scheme}://{host}:{port}/api/v0"), authority, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits for so many requests.
    #[track_caller]
    pub fn after(&self, requests: usize, limit: Duration) -> impl Future<Output = Vec<Asked>> {
        let place = std::panic::Location::caller();
        let began = Instant::now();
        async move {
            loop {
                let asked = self.asked();
                if asked.len() >= requests {
                    return asked;
                }
                assert!(began.elapsed() < limit, "{place}: only {} requests: {asked:?}", asked.len());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    replies: &[(u16, &str)],
    book: &Mutex<Vec<Asked>>,
) {
    let mut text = Vec::new();
    let (head, body) = loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(length) if length > 0 => text.extend_from_slice(&piece[..length]),
            _ => return,
        }
        let so_far = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = so_far.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_lowercase().strip_prefix("content-length:").and_then(|n| n.trim().parse().ok())
            });
            if body.len() >= length.unwrap_or(0) {
                break (head.to_owned(), body.trim().to_owned());
            }
        }
    };
    let (status, reply) = {
        let mut book = book.lock().unwrap();
        book.push(Asked { at: Instant::now(), head, body });
        replies[(book.len() - 1).min(replies.len() - 1)]
    };
    let length = reply.len();
    let reply =
        format!("HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{reply}");
    let _ = stream.write_all(reply.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A container: a home, programs, a process table of its own, and what runs in it.
pub struct Container {
    folder: tempfile::TempDir,
    groups: Vec<u32>,
    env: Vec<(String, String)>,
    pub key: String,
}

/// What every image has.
const BASICS: &[&str] = &["base64", "cat", "gzip", "mkdir", "mv", "rm", "sed", "sleep", "tr"];

impl Container {
    /// With these clients and no other.
    pub fn with(clients: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["home", "bin", "proc/sys/kernel/random", "proc/net", "proc/1"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        symlink("/proc/uptime", at("proc/uptime")).unwrap();
        fs::write(at("proc/sys/kernel/random/boot_id"), "one\n").unwrap();
        for name in BASICS.iter().chain(clients) {
            symlink(program(name), at("bin").join(name)).unwrap();
        }
        let mut random = [0_u8; 16];
        random.copy_from_slice(&fs::read("/proc/sys/kernel/random/uuid").unwrap()[..16]);
        let key = format!("canary.{}", String::from_utf8_lossy(&random));
        let env = vec![
            ("CONTAINER_API_KEY".to_owned(), key.clone()),
            ("CONTAINER_ID".to_owned(), "4711".to_owned()),
        ];
        Self { folder, groups: Vec::new(), env, key }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sets a variable, or removes it.
    pub fn env(mut self, name: &str, value: Option<&str>) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        self
    }

    pub fn trusting(self, vendor: &Vendor) -> Self {
        let file = self.path("authority.pem");
        fs::write(&file, vendor.authority.as_deref().unwrap_or_default()).unwrap();
        let file = file.display().to_string();
        self.env("SSL_CERT_FILE", Some(&file))
    }

    /// Another process of the container, as its table shows it.
    pub fn process(&self, id: u32, title: &str) {
        let folder = self.path("proc").join(id.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cmdline"), format!("{title}\0\0\0")).unwrap();
    }

    pub fn gone(&self, id: u32) {
        fs::remove_dir_all(self.path("proc").join(id.to_string())).unwrap();
    }

    fn command(&self, shell: &[&str]) -> Command {
        let mut command = Command::new(program(shell[0]));
        command.args(&shell[1..]).current_dir(self.folder.path()).env_clear();
        command.env("PATH", self.path("bin")).env("HOME", self.path("home"));
        command.env("CRABBOX_PROC", self.path("proc")).stdin(Stdio::null()).process_group(0);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it with the watchdog in front of the user's own start script.
    pub fn start(&mut self, shell: &[&str], plan: &Plan, vendor: &Vendor, own: &str) {
        let script = self.path("onstart.sh");
        fs::write(&script, format!("{}\n{own}", line(plan, &vendor.url).unwrap())).unwrap();
        let mut child = self.command(shell).arg(&script).spawn().unwrap();
        self.groups.push(child.id());
        child.wait().unwrap();
    }

    /// Runs a script of ours as an SSH session does.
    pub fn says(&self, script: &str) -> Option<Report> {
        let output = self.command(&["dash"]).args(["-c", script]).output().unwrap();
        Report::parse(&String::from_utf8_lossy(&output.stdout))
    }

    /// The same with a script that leaves something running, under `shell`; what it says.
    pub async fn leaves(&mut self, shell: &[&str], script: &str) -> String {
        let child = self.command(shell).args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        self.groups.push(child.id());
        // Other scenarios wait in this very task.
        let output = tokio::task::spawn_blocking(|| child.wait_with_output());
        String::from_utf8(output.await.unwrap().unwrap().stdout).unwrap()
    }

    /// What the watchdog reports once it does.
    pub async fn report(&self) -> Report {
        for _ in 0..500 {
            if let Some(report) = self.says(crabbox_vast_engine::ssh::deadman::LOOK) {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no report");
    }

    pub fn state(&self, name: &str) -> PathBuf {
        self.path("home/.crabbox/deadman").join(name)
    }

    /// Ends all that runs in it.
    pub fn stop(&mut self) {
        for group in self.groups.drain(..) {
            let _ =
                Command::new("kill").args(["-9", "--", &format!("-{group}")]).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where a program really is: a symbolic link to a version manager's shim would not run.
fn program(name: &str) -> PathBuf {
    if name.starts_with("python") {
        let asked =
            Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
        return PathBuf::from(String::from_utf8(asked.stdout).unwrap().trim());
    }
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed"))
}

/// Every file below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Whether any process of this machine shows `text` in its arguments.
pub fn in_arguments(text: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let bytes = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

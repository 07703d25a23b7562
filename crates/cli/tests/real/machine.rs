//! An instance: the system's `sshd`, started for each connection, as inetd would.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub const SSHD: &str = "/usr/sbin/sshd";

/// Whether there is an sshd here; says so where there is none. Where every test has to be made there has to be one: a proof
/// that was not made must not look like one that was.
pub fn is_here() -> bool {
    let here = Path::new(SSHD).exists();
    let whole = std::env::var("CRABBOX_VAST_TESTS_WHOLE").is_ok_and(|text| text == "1");
    assert!(
        here || !whole,
        "no {SSHD} here: install openssh-server, or unset CRABBOX_VAST_TESTS_WHOLE to pass over what needs it"
    );
    if here {
        // Where sshd runs as root, it wants this folder for its privilege separation.
        let _ = std::fs::create_dir_all("/run/sshd");
    } else {
        eprintln!("no {SSHD} here: nothing is tested");
    }
    here
}

/// Ends with all its connections when dropped.
pub struct Machine {
    pub port: u16,
    keys: PathBuf,
    inside: Arc<Inside>,
}

#[derive(Default)]
struct Inside {
    ended: AtomicBool,
    sessions: Mutex<Vec<Child>>,
}

impl Machine {
    pub fn start(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let host_key = folder.join("host key");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&host_key).status();
        assert!(made.unwrap().success());
        let keys = folder.join("keys");
        std::fs::write(&keys, "").unwrap();
        let config = folder.join("config");
        let text = format!(
            "HostKey \"{}\"\nAuthorizedKeysFile \"{}\"\nPidFile none\nStrictModes no\nUsePAM no\n\
             PermitRootLogin yes\nPasswordAuthentication no\nMaxStartups 100\n",
            host_key.display(),
            keys.display()
        );
        std::fs::write(&config, text).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let inside = Arc::<Inside>::default();
        let serving = Arc::clone(&inside);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut sessions = serving.sessions.lock().unwrap();
                if serving.ended.load(Ordering::SeqCst) {
                    return;
                }
                sessions.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
                sessions.push(session(&config, stream));
            }
        });
        Machine { port, keys, inside }
    }

    pub fn let_in(&self, public_key: &str) {
        std::fs::write(&self.keys, format!("{public_key}\n")).unwrap();
    }
}

impl Machine {
    /// Breaks off every connection, as a network would; those that come are served.
    pub fn hang_up(&self) {
        for child in &mut *self.inside.sessions.lock().unwrap() {
            // Who holds the socket is a child of the process that was started.
            for pid in descendants(child.id()) {
                let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The processes below one, the deepest first.
fn descendants(parent: u32) -> Vec<u32> {
    let parent_of = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids: Vec<u32> = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let children = pids.into_iter().filter(|pid| parent_of(*pid) == Some(parent));
    children.flat_map(|pid| descendants(pid).into_iter().chain([pid])).collect()
}

fn session(config: &Path, stream: TcpStream) -> Child {
    let _ = stream.set_nodelay(true);
    let out = stream.try_clone().unwrap();
    let mut sshd = Command::new(SSHD);
    sshd.args(["-i", "-e", "-f"]).arg(config);
    sshd.stdin(OwnedFd::from(stream)).stdout(OwnedFd::from(out)).stderr(Stdio::null()).spawn().unwrap()
}

impl Drop for Machine {
    fn drop(&mut self) {
        let mut sessions = self.inside.sessions.lock().unwrap();
        self.inside.ended.store(true, Ordering::SeqCst);
        for child in sessions.iter_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        drop(sessions);
        // Wakes the listener, which then ends.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

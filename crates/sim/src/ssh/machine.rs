//! One container: its folders, its environment, its host key, and its start script.

use super::nvidia_smi;
use super::processes::{MARK, Processes};
use crate::api::Container;
use russh::keys::PrivateKey;
use ssh_key::private::Ed25519Keypair;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// Where programs are looked for when the simulator itself has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A container on this machine.
pub(crate) struct Machine {
    pub container: Container,
    pub host_key: PrivateKey,
    pub processes: Processes,
    /// Ends with the instance; the proxy port lives as long.
    pub life: CancellationToken,
    root: PathBuf,
    /// Ends with each stop; the direct port and all sessions live as long.
    run: Mutex<(CancellationToken, u16)>,
    /// Numbers the connections.
    connections: AtomicU64,
}

/// An SSH connection, as the container's process table shows it while it lasts.
pub(crate) struct Connection(PathBuf);

impl Drop for Connection {
    fn drop(&mut self) {
        // The folder may be gone with its container.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Machine {
    pub fn new(container: Container, root: PathBuf, life: CancellationToken) -> Self {
        let mut seed = [0_u8; 32];
        // A host key of zeros would still be a host key, on loopback, of nothing.
        let _ = getrandom::fill(&mut seed);
        let run = life.child_token();
        run.cancel();
        Self {
            host_key: PrivateKey::from(Ed25519Keypair::from_seed(&seed)),
            processes: Processes::new(root.display().to_string()),
            life,
            root,
            run: Mutex::new((run, 0)),
            connections: AtomicU64::new(1000),
            container,
        }
    }

    /// The scratch directory: `HOME` and the working directory of every command.
    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn log(&self) -> PathBuf {
        self.root.join("onstart.log")
    }

    /// Everything the start script has printed.
    pub fn output(&self) -> String {
        fs::read(self.log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Makes what is missing of the folders and the pretended driver.
    pub fn furnish(&self) -> io::Result<()> {
        for folder in ["home/.ssh", "bin", "tmp"] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(self.root.join(folder))?;
        }
        // A login shell sets its own path first, which would hide the pretended driver.
        let path = format!("PATH='{}':\"$PATH\"\n", self.root.join("bin").display());
        for profile in ["home/.profile", "home/.bash_profile"] {
            fs::write(self.root.join(profile), &path)?;
        }
        let tool = self.root.join("bin/nvidia-smi");
        fs::write(&tool, nvidia_smi::script(&self.container))?;
        fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        self.furnish_processes()
    }

    /// The container's own process table, as far as start scripts read it: this machine's would show them strangers.
    fn furnish_processes(&self) -> io::Result<()> {
        let table = self.processes_folder();
        let _ = fs::remove_dir_all(&table);
        for folder in ["1", "net", "sys/kernel/random"] {
            fs::create_dir_all(table.join(folder))?;
        }
        for file in ["uptime", "sys/kernel/random/boot_id"] {
            std::os::unix::fs::symlink(Path::new("/proc").join(file), table.join(file))?;
        }
        let mut environment = Vec::new();
        for (name, value) in self.environment() {
            environment.extend([name.as_encoded_bytes(), b"=", value.as_encoded_bytes(), b"\0"].concat());
        }
        fs::write(table.join("1/environ"), environment)?;
        fs::write(table.join("1/cmdline"), "sshd: /usr/sbin/sshd -D [listener]\0")
    }

    fn processes_folder(&self) -> PathBuf {
        self.root.join("proc")
    }

    /// Shows a connection that let somebody in. A full disk hides it, which only a start script sees.
    pub fn connected(&self) -> Option<Connection> {
        let id = self.connections.fetch_add(1, Ordering::Relaxed);
        let folder = self.processes_folder().join(id.to_string());
        fs::create_dir(&folder).ok()?;
        let connection = Connection(folder);
        fs::write(connection.0.join("cmdline"), "sshd: root@notty\0").ok()?;
        Some(connection)
    }

    /// Begins a run and returns the token that ends with it.
    pub fn begin(&self, direct_port: u16) -> CancellationToken {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        *run = (self.life.child_token(), direct_port);
        self.processes.open();
        run.0.clone()
    }

    /// The token of the present run; already cancelled while there is none.
    pub fn run(&self) -> CancellationToken {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Ends the present run with all its processes.
    pub fn halt(&self) {
        self.run().cancel();
        self.processes.kill_all();
    }

    /// The environment of every process in the container; nothing of the simulator's own gets in but `PATH`.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let direct_port = self.run.lock().unwrap_or_else(PoisonError::into_inner).1;
        let mut path = self.root.join("bin").into_os_string();
        path.push(":");
        path.push(
            std::env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.into()),
        );
        let id = self.container.id.to_string();
        let mut environment: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), path),
            ("HOME".into(), self.home().into()),
            ("TMPDIR".into(), self.root.join("tmp").into()),
            ("USER".into(), "root".into()),
            ("LOGNAME".into(), "root".into()),
            ("SHELL".into(), "/bin/sh".into()),
            ("LANG".into(), "C.UTF-8".into()),
            (MARK.into(), self.processes.mark().into()),
            ("CRABBOX_SIM".into(), "1".into()),
            ("CRABBOX_PROC".into(), self.processes_folder().into()),
            ("CONTAINER_ID".into(), id.clone().into()),
            ("CONTAINER_API_KEY".into(), self.container.api_key.clone().into()),
            ("VAST_CONTAINERLABEL".into(), format!("C.{id}").into()),
            ("VAST_TCP_PORT_22".into(), direct_port.to_string().into()),
            ("PUBLIC_IPADDR".into(), "127.0.0.1".into()),
            ("GPU_COUNT".into(), self.container.num_gpus.to_string().into()),
        ];
        environment.extend(
            self.container.env.iter().map(|(key, value)| (OsString::from(key), OsString::from(value))),
        );
        environment
    }

    /// Runs the create call's start script, if there is one, in the background of the container.
    pub fn run_onstart(self: &Arc<Self>) -> io::Result<()> {
        let Some(onstart) = &self.container.onstart else { return Ok(()) };
        let script = self.root.join("onstart.sh");
        fs::write(&script, onstart)?;
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(self.log())?;
        let mut command = tokio::process::Command::new("/bin/sh");
        command
            .arg(&script)
            .current_dir(self.home())
            .env_clear()
            .envs(self.environment())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let mut child = self.processes.start(|| command.spawn(), tokio::process::Child::id)?;
        let machine = Arc::clone(self);
        tokio::spawn(async move {
            let leader = child.id();
            let _ = child.wait().await;
            machine.processes.reaped(leader);
        });
        Ok(())
    }
}

//! SSH in memory: whether it lets a key in is the simulated vendor's answer; commands end at once.

use crate::acts::TOLD;
use crate::history::Happening;
use crate::life::Life;
use crate::secrets::Secret;
use crate::shared::Shared;
use crate::start_script::{Lifetime, lifetime};
use async_trait::async_trait;
use crabbox_vast_engine::world::{
    ExecExit, ExecIo, Output, Ssh, SshError, SshErrorKind, SshSession, SshTarget,
};
use crabbox_vast_sim::api::{Container, Door, Host, SshAccess};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Which instance and door a port leads to.
pub(crate) type Doors = Arc<Mutex<BTreeMap<u16, (u64, Door)>>>;

/// Containers that only have ports.
pub(crate) struct Ports {
    pub doors: Doors,
    /// Takes in the keys that the containers get.
    pub secrets: Arc<Mutex<Vec<Secret>>>,
    /// Takes in when the containers end by themselves, by what they are to run at each start.
    pub lifetimes: Arc<Mutex<BTreeMap<u64, Lifetime>>>,
}

/// The port of the first door; none is ever taken down.
const FIRST: u16 = 40_001;

impl Ports {
    fn map(&mut self, id: u64, door: Door) -> u16 {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let port = doors.last_key_value().map_or(FIRST, |(last, _)| last + 1);
        doors.insert(port, (id, door));
        port
    }
}

impl Host for Ports {
    fn create(&mut self, container: &Container) -> u16 {
        // Its first half is what reads show as the Jupyter token.
        let key = container.api_key.get(..32).unwrap_or(&container.api_key);
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).push(Secret::new(key));
        let lifetime = container.onstart.as_deref().map_or_else(Lifetime::default, lifetime);
        self.lifetimes.lock().unwrap_or_else(PoisonError::into_inner).insert(container.id, lifetime);
        self.map(container.id, Door::Proxy)
    }
    fn start(&mut self, container: &Container) -> u16 {
        self.map(container.id, Door::Direct)
    }
    fn stop(&mut self, _id: u64) {}
    fn wipe(&mut self, _id: u64) {}
    fn destroy(&mut self, _id: u64) {}
    fn output(&self, _id: u64) -> String {
        let told = [
            format!("+ export CONTAINER_API_KEY='{TOLD}'"),
            format!("declare -x JUPYTER_TOKEN=\"{TOLD}\""),
            format!("X-Api-Key: {TOLD}"),
            format!("Authorization: Basic {TOLD}"),
            format!("docker login --password {TOLD} registry.example"),
            format!("pulling https://user:{TOLD}@registry.example/v2/"),
            format!("api_key={TOLD}"),
        ];
        told.join("\n")
    }
}

/// What goes wrong with SSH, at the nth SSH step of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SshFault {
    /// The connection drops, or none comes about.
    Drops(usize),
    /// Nothing answers for ten minutes: connections hang until their limit, commands until somebody gives up.
    Hangs(usize),
}

pub(crate) struct ProcessSsh {
    pub shared: Arc<Shared>,
    pub life: Arc<Life>,
    pub fault: Option<SshFault>,
    pub steps: Arc<AtomicUsize>,
}

fn fail(kind: SshErrorKind, message: &str) -> SshError {
    SshError { kind, message: message.to_owned() }
}

/// Counts an SSH step; an error if it is to fail.
async fn strike(
    shared: &Shared,
    life: &Life,
    fault: Option<SshFault>,
    steps: &AtomicUsize,
    kind: SshErrorKind,
    limit: Duration,
) -> Result<(), SshError> {
    let step = steps.fetch_add(1, Ordering::SeqCst) + 1;
    let (at, what) = match fault {
        Some(SshFault::Drops(at)) => (at, "drops"),
        Some(SshFault::Hangs(at)) => (at, "hangs"),
        None => return Ok(()),
    };
    if at != step {
        return Ok(());
    }
    shared.note(Happening::SshFault { process: life.process, what });
    if what == "hangs" {
        tokio::time::sleep(limit).await;
    }
    Err(fail(kind, "the connection broke"))
}

#[async_trait]
impl Ssh for ProcessSsh {
    async fn connect(&self, target: &SshTarget, limit: Duration) -> Result<Arc<dyn SshSession>, SshError> {
        self.life.step().await;
        strike(&self.shared, &self.life, self.fault, &self.steps, SshErrorKind::Unreachable, limit).await?;
        let key = target.key.public_key().to_openssh().unwrap_or_default();
        match self.shared.ssh_access(target.port) {
            Some((instance, SshAccess::Open { keys, refuse_all: false }))
                if keys.iter().any(|known| same_key(known, &key)) =>
            {
                self.life.step().await;
                Ok(Arc::new(Session {
                    shared: Arc::clone(&self.shared),
                    life: Arc::clone(&self.life),
                    fault: self.fault,
                    steps: Arc::clone(&self.steps),
                    instance,
                    closed: AtomicBool::new(false),
                }))
            }
            Some((_, SshAccess::Open { .. })) => Err(fail(SshErrorKind::KeyRefused, "the key was refused")),
            _ => {
                tokio::time::sleep(limit.min(Duration::from_millis(50))).await;
                Err(fail(SshErrorKind::Unreachable, "connection refused"))
            }
        }
    }
}

fn same_key(one: &str, other: &str) -> bool {
    one.split_whitespace().take(2).eq(other.split_whitespace().take(2))
}

/// What the workspace-owner script says where nobody else wants the workspace.
fn owner_answer(command: &str) -> Option<String> {
    let mark = command.split_whitespace().find(|word| word.starts_with("crabbox-owner-"))?;
    let word = if command.ends_with(" release") { "RELEASED" } else { "ACQUIRED" };
    Some(format!("{mark} {word}\n"))
}

struct Session {
    shared: Arc<Shared>,
    life: Arc<Life>,
    fault: Option<SshFault>,
    steps: Arc<AtomicUsize>,
    instance: u64,
    closed: AtomicBool,
}

#[async_trait]
impl SshSession for Session {
    async fn exec(&self, command: &str, io: ExecIo) -> Result<ExecExit, SshError> {
        self.life.step().await;
        self.shared.look_at_text(command, || "a command on the machine".to_owned());
        let limit = Duration::from_secs(600);
        let struck =
            strike(&self.shared, &self.life, self.fault, &self.steps, SshErrorKind::Lost, limit).await;
        if struck.is_err() || !self.shared.is_live(self.instance) {
            self.closed.store(true, Ordering::SeqCst);
            struck?;
            return Err(fail(SshErrorKind::Lost, "the machine went away"));
        }
        if let Some(answer) = owner_answer(command) {
            let _ = io.output.send(Output::Stderr(answer.into())).await;
        }
        if command.contains("nvidia-smi") {
            let _ = io.output.send(Output::Stdout("GPU 0\n".into())).await;
        }
        self.life.step().await;
        Ok(ExecExit::Code(0))
    }

    fn host_key(&self) -> String {
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    async fn close(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::judge;
    use crate::shared::KEY;
    use crate::stage::{Stage, Treatment};
    use crate::vendor::Vendor;
    use std::collections::BTreeSet;

    #[tokio::test(start_paused = true)]
    async fn a_secret_in_a_command_is_found() {
        for (command, secrets) in [("nvidia-smi".to_owned(), 0), (format!("K={KEY} nvidia-smi"), 1)] {
            let stage = Stage::new(1, &Vendor::default());
            let (shared, life) = (Arc::clone(stage.shared()), stage.process(&Treatment::default()).life);
            let session = Session {
                shared,
                life,
                fault: None,
                steps: Arc::default(),
                instance: 1,
                closed: AtomicBool::new(false),
            };
            let (output, _) = tokio::sync::mpsc::channel(1);
            let _ = session.exec(&command, ExecIo { stdin: None, output }).await;
            assert_eq!(judge(&stage.history(), &BTreeSet::new(), 1.0).secrets, secrets, "{command}");
        }
    }
}

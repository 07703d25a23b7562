//! The state machine's containers, made real.

use super::listener;
use super::machine::Machine;
use crate::api::{Container, Door, Host};
use crate::shared::Shared;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;

/// The folders that a simulator works in.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    /// One folder per instance.
    pub instances: PathBuf,
    /// Where commands find an absolute work root.
    pub work: PathBuf,
    /// What is on its way out.
    pub trash: PathBuf,
}

impl Folders {
    pub fn below(state: &Path) -> Self {
        Self { instances: state.join("instances"), work: state.join("work"), trash: state.join("trash") }
    }

    /// Moves a folder out of the way at once and deletes it in its own time.
    fn discard(&self, folder: &Path, name: &str) {
        let mut random = [0_u8; 8];
        let _ = getrandom::fill(&mut random);
        let aside = self.trash.join(format!("{name}-{}", hex::encode(random)));
        let _ = fs::create_dir_all(&self.trash);
        if fs::rename(folder, &aside).is_ok() {
            std::thread::spawn(move || remove(&aside));
        }
    }
}

/// Deletes a folder; a dying process may still write into it for a moment.
pub(crate) fn remove(folder: &Path) {
    for _ in 0..20 {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                std::thread::sleep(Duration::from_millis(10));
            }
            _ => return,
        }
    }
}

/// Runs every container as processes behind two loopback ports.
pub(crate) struct RealHost {
    folders: Folders,
    shared: Weak<Shared>,
    runtime: Handle,
    machines: BTreeMap<u64, Arc<Machine>>,
}

impl RealHost {
    pub fn new(folders: Folders, shared: Weak<Shared>) -> Self {
        Self { folders, shared, runtime: Handle::current(), machines: BTreeMap::new() }
    }

    /// Takes a port and serves it; 0 where no port can be had, which reads as an endpoint that never answers.
    fn open(&self, machine: &Arc<Machine>, door: Door) -> u16 {
        let _inside = self.runtime.enter();
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let port = listener.local_addr()?.port();
            Ok((tokio::net::TcpListener::from_std(listener)?, port))
        });
        let Ok((listener, port)) = bound else { return 0 };
        let end = match door {
            Door::Direct => machine.begin(port),
            Door::Proxy => machine.life.clone(),
        };
        self.runtime.spawn(listener::serve(listener, Arc::clone(machine), door, self.shared.clone(), end));
        port
    }
}

impl Host for RealHost {
    fn create(&mut self, container: &Container) -> u16 {
        let life = self.shared.upgrade().map(|shared| shared.end.child_token()).unwrap_or_default();
        let root = self.folders.instances.join(container.id.to_string());
        let machine = Arc::new(Machine::new(container.clone(), root, life));
        self.machines.insert(container.id, Arc::clone(&machine));
        self.open(&machine, Door::Proxy)
    }

    fn start(&mut self, container: &Container) -> u16 {
        let Some(machine) = self.machines.get(&container.id) else { return 0 };
        let port = self.open(machine, Door::Direct);
        let _inside = self.runtime.enter();
        // A full disk shows to whoever logs in: the commands fail, as they would on a machine.
        let _ = fs::create_dir_all(&self.folders.work);
        let _ = machine.furnish().and_then(|()| machine.run_onstart());
        port
    }

    fn stop(&mut self, id: u64) {
        if let Some(machine) = self.machines.get(&id) {
            machine.halt();
        }
    }

    fn wipe(&mut self, id: u64) {
        if let Some(machine) = self.machines.get(&id) {
            self.folders.discard(machine.root(), &id.to_string());
        }
    }

    fn destroy(&mut self, id: u64) {
        let Some(machine) = self.machines.remove(&id) else { return };
        machine.life.cancel();
        machine.halt();
        self.folders.discard(machine.root(), &id.to_string());
        if self.machines.is_empty() {
            // The work root is shared by all instances; with the last one gone nobody needs what is in it.
            self.folders.discard(&self.folders.work, "work");
            let _ = fs::create_dir_all(&self.folders.work);
        }
    }

    fn output(&self, id: u64) -> String {
        self.machines.get(&id).map(|machine| machine.output()).unwrap_or_default()
    }
}

impl Drop for RealHost {
    fn drop(&mut self) {
        for machine in self.machines.values() {
            machine.life.cancel();
            machine.halt();
        }
    }
}

//! The processes of one container, so that none outlives it.

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The environment variable that marks every process of a container.
pub(crate) const MARK: &str = "CRABBOX_SIM_CONTAINER";

/// How often the process table is read again for children that were born while their parents died.
const SWEEPS: u32 = 5;

/// The process groups that were started for one container.
#[derive(Debug)]
pub(crate) struct Processes {
    mark: String,
    groups: Mutex<Groups>,
}

#[derive(Debug, Default)]
struct Groups {
    /// Groups whose leader we have not reaped: their number cannot belong to anybody else.
    led: BTreeSet<i32>,
    /// Groups that live on without their leader, as daemons do.
    orphaned: BTreeSet<i32>,
    /// No further process may start.
    closed: bool,
}

impl Processes {
    pub fn new(mark: String) -> Self {
        Self { mark, groups: Mutex::default() }
    }

    /// The value of [`MARK`] for this container's processes.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process as the leader of a new group, unless the container is down. The lock is held across
    /// the start, so that no process slips in while all are being killed.
    pub fn start<C>(
        &self,
        spawn: impl FnOnce() -> std::io::Result<C>,
        id: impl Fn(&C) -> Option<u32>,
    ) -> std::io::Result<C> {
        let mut groups = self.groups();
        if groups.closed {
            return Err(std::io::Error::other("the container is stopped"));
        }
        let child = spawn()?;
        if let Some(pid) = id(&child).and_then(|pid| i32::try_from(pid).ok()) {
            groups.led.insert(pid);
        }
        Ok(child)
    }

    /// Notes that a leader has been reaped.
    pub fn reaped(&self, leader: Option<u32>) {
        let Some(pid) = leader.and_then(|pid| i32::try_from(pid).ok()) else { return };
        let mut groups = self.groups();
        groups.led.remove(&pid);
        if lives(pid) {
            groups.orphaned.insert(pid);
        }
        groups.orphaned.retain(|group| lives(*group));
    }

    /// Signals the whole group of a leader that has not been reaped.
    pub fn signal(&self, leader: Option<u32>, signal: Signal) {
        let Some(pid) = leader.and_then(|pid| i32::try_from(pid).ok()) else { return };
        if self.groups().led.contains(&pid) {
            signal_group(pid, signal);
        }
    }

    /// Lets processes start again, as a container's start does.
    pub fn open(&self) {
        self.groups().closed = false;
    }

    /// Kills everything and lets nothing start until [`Self::open`].
    pub fn kill_all(&self) {
        let mut groups = self.groups();
        groups.closed = true;
        for group in &groups.led {
            signal_group(*group, Signal::KILL);
        }
        if cfg!(target_os = "linux") {
            // Found by their mark, also those that left their group.
            let marked = format!("{MARK}={}", self.mark).into_bytes();
            for _ in 0..SWEEPS {
                if sweep(|variable| variable == marked) == 0 {
                    break;
                }
            }
        } else {
            for group in &groups.orphaned {
                signal_group(*group, Signal::KILL);
            }
        }
        groups.orphaned.clear();
    }
}

/// Kills what a simulator left behind that was killed itself: the containers of a state directory in which
/// nobody works any more.
pub(crate) fn kill_left_behind(instances: &std::path::Path) {
    if cfg!(target_os = "linux") {
        let below = format!("{MARK}={}/", instances.display()).into_bytes();
        sweep(|variable| variable.starts_with(&below));
    }
}

/// Kills every process that has such a variable in its environment, and returns how many there were.
fn sweep(is_marked: impl Fn(&[u8]) -> bool) -> usize {
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // A process that is gone, a zombie or somebody else's has no environment to read.
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(&is_marked)
            && let Some(pid) = Pid::from_raw(pid)
            && kill_process(pid, Signal::KILL).is_ok()
        {
            killed += 1;
        }
    }
    killed
}

fn lives(group: i32) -> bool {
    Pid::from_raw(group).is_some_and(|group| test_kill_process_group(group).is_ok())
}

fn signal_group(group: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(group) {
        // The group may have just ended by itself.
        let _ = kill_process_group(group, signal);
    }
}

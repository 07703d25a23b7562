//! A look at every process that the tests start, again and again while they run: arguments, and the environment of what
//! the binary itself started.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How the command line of the binary begins.
const BINARY: &str = concat!(env!("CARGO_BIN_EXE_crabbox-vast"), "\n");

/// What was seen.
#[derive(Default)]
struct Seen {
    /// Command lines of the binary and of everything below it.
    ours: BTreeSet<String>,
    /// Command lines of everything else below this process: what ran on the instance.
    remote: BTreeSet<String>,
    /// Environments of what the binary started.
    environments: BTreeSet<String>,
    looks: u64,
}

/// Looks until it is ended.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What a watch has seen.
pub struct Sights {
    pub ours: Vec<String>,
    pub remote: Vec<String>,
    pub environments: Vec<String>,
    pub looks: u64,
}

impl Watch {
    pub fn start() -> Self {
        let (seen, ended) = (Arc::<Mutex<Seen>>::default(), Arc::new(AtomicBool::new(false)));
        let (noting, ending) = (Arc::clone(&seen), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            while !ending.load(Ordering::SeqCst) {
                look(&mut noting.lock().unwrap());
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Watch { seen, ended, thread: Some(thread) }
    }

    pub fn end(mut self) -> Sights {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        Sights {
            ours: seen.ours.into_iter().collect(),
            remote: seen.remote.into_iter().collect(),
            environments: seen.environments.into_iter().collect(),
            looks: seen.looks,
        }
    }
}

fn look(seen: &mut Seen) {
    seen.looks += 1;
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name in parentheses may hold anything; the parent is the second word behind it.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        parents.extend(parent.map(|parent: u32| (process, parent)));
    }
    let read = |process: u32, what: &str| {
        let bytes = std::fs::read(format!("/proc/{process}/{what}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', "\n")
    };
    let is_binary = |process: u32| read(process, "cmdline").starts_with(BINARY);
    let me = std::process::id();
    for &process in parents.keys() {
        let line: Vec<u32> =
            std::iter::successors(Some(process), |process| parents.get(process).copied()).collect();
        if process == me || !line.contains(&me) {
            continue;
        }
        let cmdline = read(process, "cmdline");
        let below = line[1..].iter().take_while(|parent| **parent != me).any(|parent| is_binary(*parent));
        // Until it has started its own program, a child is an image of its parent, and has its environment.
        let started = !cmdline.starts_with(BINARY);
        if below && started {
            seen.environments.insert(read(process, "environ"));
        }
        if below || !started {
            seen.ours.insert(cmdline);
        } else {
            seen.remote.insert(cmdline);
        }
    }
}

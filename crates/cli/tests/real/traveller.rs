//! Who uses the binary against the vendor: a home, a vendor, and what became of each command.

use super::vendor::{API_KEY, Options, Vendor};
use crate::desk::Desk;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A home and a vendor of its own.
pub struct Traveller {
    pub desk: Desk,
    pub vendor: Vendor,
    user: String,
}

/// A command that ended.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Ended {
    pub fn succeeded(&self) -> bool {
        self.status.success()
    }
}

impl Traveller {
    pub fn new(options: Options) -> Self {
        let desk = Desk::new();
        let vendor = Vendor::start(&desk.folder.path().join("vendor"), options);
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        Traveller { desk, vendor, user: String::from_utf8(user).unwrap().trim().to_owned() }
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.desk.command(words);
        command.env("CRABBOX_VAST_API_URL", self.vendor.url()).env("CRABBOX_VAST_API_KEY", API_KEY);
        command.env("CRABBOX_VAST_USER", &self.user);
        command.env("CRABBOX_VAST_WORK_ROOT", self.desk.folder.path().join("work"));
        command
    }

    /// Runs a command to its end, or to its death where the vendor's trap says so.
    pub fn run(&self, words: &[&str]) -> Ended {
        self.finish(self.command(words))
    }

    pub fn finish(&self, mut command: Command) -> Ended {
        let began = Instant::now();
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        self.vendor.hunt(child.id());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ended {
            status: output.status,
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            took: began.elapsed(),
        }
    }

    /// Every file of ours: records and keys, not what the vendor keeps nor what a command left on a machine.
    pub fn records(&self) -> Vec<PathBuf> {
        let root = self.desk.folder.path();
        let others = [root.join("vendor"), root.join("work"), root.join("repo")];
        let mut found = Vec::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() && !others.contains(&path) {
                    folders.push(path);
                } else if path.is_file() {
                    found.push(path);
                }
            }
        }
        found
    }

    /// Lease ids of the claims.
    pub fn claims(&self) -> Vec<String> {
        let inside = |path: &PathBuf| path.parent().is_some_and(|folder| folder.ends_with("claims"));
        let names = self.records().into_iter().filter(inside);
        names.filter_map(|path| Some(path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned())).collect()
    }

    /// Private keys that are left, those included that were being written when their process died.
    pub fn keys(&self) -> Vec<PathBuf> {
        self.records().into_iter().filter(|path| is_key(path)).collect()
    }
}

/// Whether a file is a private key, or its beginnings; both are in the key folder only.
pub fn is_key(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name == "id_ed25519" || name.starts_with(".id_ed25519.tmp-")
}

//! A desk to sit at: a home of its own, the binary, and a simulator in another terminal.

#![allow(dead_code, reason = "each test binary uses its own part")]

use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

/// A home of its own, in a path with a space.
pub struct Desk {
    pub folder: tempfile::TempDir,
}

impl Desk {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("crabbox vast ").tempdir().unwrap();
        let repo = folder.path().join("repo");
        std::fs::create_dir(&repo).unwrap();
        let git =
            Command::new("git").args(["init", "-q"]).current_dir(&repo).env("HOME", folder.path()).status();
        assert!(git.unwrap().success());
        Desk { folder }
    }

    /// A home in a path without blanks, for scripts that cannot take them.
    pub fn plain() -> Self {
        let folder = tempfile::Builder::new().prefix("crabbox-vast-").tempdir().unwrap();
        std::fs::create_dir(folder.path().join("repo")).unwrap();
        Desk { folder }
    }

    pub fn repo(&self) -> std::path::PathBuf {
        self.folder.path().join("repo")
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crabbox-vast"));
        command.args(words).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.folder.path()).current_dir(self.repo()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, words: &[&str]) -> Done {
        Done::of(self.command(words).output().unwrap())
    }
}

pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "one document: {}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// A simulator in another terminal.
pub struct Sim {
    child: Child,
    /// Its address.
    pub url: String,
    /// The key it takes.
    pub key: String,
}

impl Sim {
    pub fn start(desk: &Desk) -> Self {
        Self::start_with(desk, &[])
    }

    pub fn start_with(desk: &Desk, flags: &[&str]) -> Self {
        Self::with_path(desk, flags, &std::env::var_os("PATH").unwrap_or_default())
    }

    /// One whose instances find their programs on this path.
    pub fn with_path(desk: &Desk, flags: &[&str], path: &std::ffi::OsStr) -> Self {
        let mut child = desk
            .command(&[&["sim", "-json", "-api-latency", "1ms", "-boot", "300ms"], flags].concat())
            .env("PATH", path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        assert!(said["url"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{said}");
        let text = |name: &str| said[name].as_str().unwrap().to_owned();
        Sim { child, url: text("url"), key: text("apiKey") }
    }

    /// Every request that came in, as the control plane tells.
    pub fn requests(&self) -> Vec<Value> {
        self.control("GET", "/_sim/requests", "")["requests"].as_array().unwrap().clone()
    }

    /// A call of the control plane.
    pub fn control(&self, method: &str, path: &str, body: &str) -> Value {
        use std::io::{Read as _, Write as _};
        let address = self.url.trim_start_matches("http://").trim_end_matches("/api/v0");
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let (key, length) = (&self.key, body.len());
        let ask = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        );
        stream.write_all(ask.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// Ends it; its last words.
    pub fn end(mut self) -> String {
        signal(&self.child, "INT");
        let mut words = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut words).unwrap();
        assert!(self.child.wait().unwrap().success());
        words
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // Asked first: what runs in its machines ends with it only then.
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        for _ in 0..500 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(child: &Child, name: &str) {
    assert!(
        Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap().success()
    );
}

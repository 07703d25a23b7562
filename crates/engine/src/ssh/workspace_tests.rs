//! The real scripts, under every shell that images have, against records as crabbox writes them.

use super::*;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const LEASE: &str = "cbx_4b6cb0eeb123";

/// A rented machine: a home, and the tools that its image has.
struct Machine {
    folder: tempfile::TempDir,
    name: String,
}

impl Machine {
    /// Every kind of image: three shells, without `flock`, and with nothing but BusyBox.
    fn all() -> Vec<Self> {
        let plain = ["dash", "bash", "busybox"];
        let mut machines: Vec<_> = plain.iter().map(|shell| Self::new(shell, shell, &["flock"])).collect();
        machines.extend(plain.iter().map(|shell| Self::new(&format!("{shell} without flock"), shell, &[])));
        machines.push(Self::busybox());
        machines
    }

    fn one() -> Self {
        Self::new("dash", "dash", &["flock"])
    }

    fn new(name: &str, shell: &str, more: &[&str]) -> Self {
        let machine = Self::empty(name);
        machine.install("sh", &found(shell));
        let tools = ["ps", "date", "sed", "cut", "tr", "cat", "mv", "rm", "mkdir", "rmdir", "chmod", "sleep"];
        for tool in tools.iter().chain(more) {
            machine.install(tool, &found(tool));
        }
        machine
    }

    fn busybox() -> Self {
        let machine = Self::empty("nothing but busybox");
        let busybox = found("busybox");
        let applets = Command::new(&busybox).arg("--list").output().expect("busybox lists").stdout;
        for applet in String::from_utf8(applets).expect("text").lines() {
            machine.install(applet, &busybox);
        }
        machine
    }

    fn empty(name: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("a machine ").tempdir().expect("temp dir");
        std::fs::create_dir(folder.path().join("bin")).expect("bin");
        Self { folder, name: name.to_owned() }
    }

    fn install(&self, tool: &str, program: &Path) {
        symlink(program, self.folder.path().join("bin").join(tool)).expect("installs");
    }

    fn spawn(&self, command: &str) -> Session {
        let mut child = Command::new(self.folder.path().join("bin/sh"))
            .args(["-c", command])
            .env_clear()
            .env("PATH", self.folder.path().join("bin"))
            .env("HOME", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("starts");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        Session { child, stderr }
    }

    /// Runs `text` as an owner, up to its answer.
    fn run(&self, owner: &Ownership, text: &str) -> (Reply, Session) {
        let mut session = self.spawn(&owner.run(text).expect("quotable"));
        (session.reply(owner), session)
    }

    /// What an owner is told that wants nothing but the workspace.
    fn ask(&self, owner: &Ownership) -> Reply {
        let (reply, session) = self.run(owner, "exit 0");
        session.ends();
        reply
    }

    fn release(&self, owner: &Ownership) -> Reply {
        let mut session = self.spawn(&owner.release().expect("quotable"));
        let reply = session.reply(owner);
        session.ends();
        reply
    }

    fn record(&self, kind: &str) -> PathBuf {
        let folder = self.folder.path().join(".crabbox/workspace-owners");
        std::fs::create_dir_all(&folder).expect("folder");
        folder.join(format!("{}.{kind}", key(&lease())))
    }

    fn write(&self, kind: &str, text: &str) {
        std::fs::write(self.record(kind), text).expect("writes");
    }

    fn read(&self, kind: &str) -> Option<String> {
        std::fs::read_to_string(self.record(kind)).ok()
    }

    /// A record of crabbox, `seconds` from expiring.
    fn crabbox_owns(&self, seconds: i64) {
        self.write("owner", &format!("v1\n{}\n{}\n", "ab".repeat(32), now() + seconds));
    }

    /// A process as crabbox records it; `identity` in place of the time of its start.
    fn crabbox_child(&self, identity: Option<&str>) -> Kill {
        let child = Kill(Command::new("sleep").arg("60").spawn().expect("sleeps"));
        let pid = child.0.id();
        let identity = identity.map_or_else(|| lstart(pid), ToOwned::to_owned);
        self.write("child", &format!("{pid}\n{identity}\n"));
        child
    }
}

/// A command that runs on the machine.
struct Session {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Session {
    fn reply(&mut self, owner: &Ownership) -> Reply {
        let mut said = Vec::new();
        while owner.reply(&said).is_none() {
            let more = self.stderr.read_until(b'\n', &mut said).expect("reads");
            assert!(more > 0, "no answer: {}", String::from_utf8_lossy(&said));
        }
        let (reply, rest) = owner.reply(&said).expect("found");
        assert_eq!(String::from_utf8_lossy(&rest), "");
        reply
    }

    /// Closes its input; how it ended, and what it wrote.
    fn ends(mut self) -> (ExitStatus, String, String) {
        drop(self.child.stdin.take());
        let (mut out, mut err) = (String::new(), String::new());
        self.child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
        self.stderr.read_to_string(&mut err).expect("text");
        (self.child.wait().expect("ends"), out, err)
    }

    fn signal(&self, name: &str) {
        let group = format!("-{}", self.child.id());
        assert!(Command::new("kill").args(["-s", name, "--", &group]).status().expect("kills").success());
    }
}

struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn found(tool: &str) -> PathBuf {
    ["/usr/bin", "/bin", "/usr/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(tool))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{tool} is needed for this test"))
}

fn lease() -> LeaseId {
    LeaseId::parse(LEASE).expect("an id")
}

fn owner(seed: u8) -> Ownership {
    Ownership::new(&lease(), [seed; 48])
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().cast_signed()
}

/// The time of a process's start the way crabbox writes it.
fn lstart(pid: u32) -> String {
    let said =
        Command::new("ps").args(["-o", "lstart=", "-p", &pid.to_string()]).output().expect("ps").stdout;
    String::from_utf8(said).expect("text").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn until(what: &str, mut met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < Duration::from_secs(20), "still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_name_of_the_records_is_crabboxs() {
    assert_eq!(key(&lease()), "85ab98b5ee0845db3287b1dd9393c037854f3e116d9336f6b53075658aff1fa6");
}

#[test]
fn two_owners_exclude_each_other_in_every_image() {
    for machine in Machine::all() {
        let (first, second) = (owner(1), owner(2));
        let (reply, mut session) = machine.run(&first, "cat; echo err >&2; exit 7");
        assert_eq!(reply, Reply::Acquired, "{}", machine.name);

        let record = machine.read("owner").expect("a record");
        let lines: Vec<&str> = record.lines().collect();
        assert_eq!((lines[0], lines[1]), ("v1", "01".repeat(32).as_str()), "{}", machine.name);
        let expires: i64 = lines[2].parse().expect("a time");
        assert!((40..=45).contains(&(expires - now())) && lines.len() == 3, "{record}");
        let mode = std::fs::metadata(machine.record("owner")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let child = machine.read("child").expect("a child");
        let (pid, since) = child.trim_end().split_once('\n').expect("two lines");
        let pid: u32 = pid.parse().expect("a number");
        if machine.name.contains("nothing") {
            assert!(since.starts_with("proc:"), "{child}");
        } else {
            assert_eq!(since, lstart(pid), "{}: crabbox compares it word for word", machine.name);
        }

        assert_eq!(machine.ask(&second), Reply::Busy, "{}", machine.name);
        session.child.stdin.as_mut().expect("piped").write_all(b"through").expect("writes");
        let (status, out, err) = session.ends();
        assert_eq!(
            (status.code(), out.as_str(), err.as_str()),
            (Some(7), "through", "err\n"),
            "{}",
            machine.name
        );
        assert_eq!(machine.read("child"), None, "{}", machine.name);
        assert_eq!(machine.ask(&second), Reply::Busy, "owned until it is released: {}", machine.name);
        assert_eq!(machine.ask(&first), Reply::Owned, "{}", machine.name);
        assert_eq!(machine.release(&second), Reply::Mismatch, "{}", machine.name);
        assert_eq!(machine.release(&first), Reply::Released, "{}", machine.name);
        assert_eq!(machine.ask(&second), Reply::Acquired, "{}", machine.name);
        assert_eq!(machine.release(&second), Reply::Released, "{}", machine.name);
        let folder = machine.record("gate").parent().expect("a folder").to_owned();
        let left: Vec<_> =
            folder.read_dir().expect("lists").map(|entry| entry.expect("entry").file_name()).collect();
        assert!(
            left.iter().all(|name| name.to_string_lossy().ends_with(".gate")),
            "{}: {left:?}",
            machine.name
        );
    }
}

#[test]
fn of_many_that_ask_at_once_one_gets_it() {
    for machine in Machine::all() {
        let owners: Vec<_> = (1..=8).map(owner).collect();
        let mut sessions: Vec<_> =
            owners.iter().map(|owner| machine.spawn(&owner.run("cat").expect("quotable"))).collect();
        let replies: Vec<_> =
            sessions.iter_mut().zip(&owners).map(|(session, owner)| session.reply(owner)).collect();
        let won = replies.iter().filter(|reply| **reply == Reply::Acquired).count();
        let busy = replies.iter().filter(|reply| **reply == Reply::Busy).count();
        assert_eq!((won, busy), (1, 7), "{}: {replies:?}", machine.name);
        sessions.into_iter().for_each(|session| drop(session.ends()));
    }
}

#[test]
fn a_live_record_of_crabbox_is_honoured_and_an_expired_one_recovered() {
    for machine in Machine::all() {
        machine.crabbox_owns(30);
        assert_eq!(machine.ask(&owner(1)), Reply::Busy, "{}", machine.name);
        machine.crabbox_owns(-1);
        assert_eq!(machine.ask(&owner(1)), Reply::Recovered, "{}", machine.name);
        assert_eq!(machine.release(&owner(1)), Reply::Released, "{}", machine.name);
    }
}

#[test]
fn a_live_child_of_crabbox_is_waited_for_after_its_owner_expired() {
    for machine in Machine::all().into_iter().filter(|machine| !machine.name.contains("nothing")) {
        machine.crabbox_owns(-1);
        let child = machine.crabbox_child(None);
        assert_eq!(machine.ask(&owner(1)), Reply::Child, "{}", machine.name);
        drop(child);
        assert_eq!(machine.ask(&owner(1)), Reply::Recovered, "{}", machine.name);
    }
}

#[test]
fn a_process_number_that_was_used_again_is_not_the_child() {
    let machine = Machine::one();
    for identity in ["Tue Nov 24 00:00:00 2020", "proc:1"] {
        machine.crabbox_owns(-1);
        let _child = machine.crabbox_child(Some(identity));
        assert_eq!(machine.ask(&owner(1)), Reply::Recovered, "{identity}");
        assert_eq!(machine.release(&owner(1)), Reply::Released);
    }
}

#[test]
fn a_record_that_cannot_be_understood_is_an_answer_of_its_own() {
    let machine = Machine::one();
    let token = "ab".repeat(32);
    for text in [
        String::new(),
        "v1\n".into(),
        format!("v2\n{token}\n1\n"),
        format!("v1\n{}\n1\n", &token[1..]),
        format!("v1\n{}\n1\n", token.to_uppercase()),
        format!("v1\n{token}\n-1\n"),
        format!("v1\n{token}\n1x\n"),
        format!("v1\n{token}\n1\nmore\n"),
        format!("v1\n{token}\n{}\n", "9".repeat(30)),
    ] {
        machine.write("owner", &text);
        assert_eq!(machine.ask(&owner(1)), Reply::Ambiguous, "{text:?}");
        assert_eq!(machine.read("owner").as_deref(), Some(text.as_str()), "left as it was");
    }
    machine.write("owner", &format!("v1\n{token}\n1"));
    assert_eq!(machine.ask(&owner(1)), Reply::Recovered, "without a final line break it is whole");
    for text in ["", "x\ny\n", "1\n", &format!("1\n{}\n", "y".repeat(97))] {
        machine.crabbox_owns(-1);
        machine.write("child", text);
        assert_eq!(machine.ask(&owner(1)), Reply::Ambiguous, "{text:?}");
        machine.crabbox_owns(30);
        assert_eq!(machine.ask(&owner(1)), Reply::Busy, "it counts only once its owner has expired");
    }
}

#[test]
fn the_lock_is_the_one_that_crabbox_takes() {
    let machine = Machine::one();
    let gate = machine.record("gate");
    let mut holder = Command::new("flock")
        .args(["-x", gate.to_str().expect("text"), "sh", "-c", "echo; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("locks");
    BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut String::new()).expect("holds it");
    assert_eq!(machine.ask(&owner(1)), Reply::Busy);
    drop(holder.stdin.take());
    holder.wait().expect("ends");
    assert_eq!(machine.ask(&owner(1)), Reply::Acquired);
}

#[test]
fn a_lock_of_a_dead_process_is_broken_where_there_is_no_flock() {
    let machine = Machine::new("dash without flock", "dash", &[]);
    let mut dead = Command::new("true").spawn().expect("starts");
    dead.wait().expect("ends");
    let folder = machine.record("gate.held");
    std::fs::create_dir(&folder).expect("folder");
    std::fs::write(folder.join("pid"), format!("{}\n", dead.id())).expect("writes");
    assert_eq!(machine.ask(&owner(1)), Reply::Acquired);
}

#[test]
fn an_owner_renews_while_its_command_runs_and_ends_it_when_the_ownership_is_lost() {
    for machine in Machine::all() {
        let first = owner(1);
        let short = (Duration::from_secs(3), Duration::from_secs(1));
        let command = first.run_for("exec sleep 60", short.0, short.1).expect("quotable");
        let mut session = machine.spawn(&command);
        assert_eq!(session.reply(&first), Reply::Acquired, "{}", machine.name);
        let before = machine.read("owner");
        until("renewed", || machine.read("owner").is_some_and(|now| Some(&now) != before.as_ref()));
        machine.crabbox_owns(30);
        let (status, ..) = session.ends();
        assert_eq!(status.code(), Some(143), "{}", machine.name);
        assert!(machine.read("owner").is_some_and(|record| record.contains(&"ab".repeat(32))), "not touched");
    }
}

#[test]
fn a_signal_ends_the_command_and_clears_its_record() {
    for machine in Machine::all() {
        let first = owner(1);
        let (reply, session) = machine.run(&first, "exec sleep 60");
        assert_eq!(reply, Reply::Acquired, "{}", machine.name);
        session.signal("TERM");
        let (status, ..) = session.ends();
        assert_eq!(status.code(), Some(143), "{}", machine.name);
        assert_eq!(
            (machine.read("child"), machine.release(&first)),
            (None, Reply::Released),
            "{}",
            machine.name
        );
    }
}

#[test]
fn what_a_shell_says_before_the_answer_is_passed_on() {
    let owner = owner(3);
    let mark = format!("crabbox-owner-{}", "03".repeat(16));
    assert_eq!(owner.reply(format!("warning\n{mark} ACQ").as_bytes()), None);
    let said = format!("warning\n{mark} ACQUIRED\nmore");
    assert_eq!(owner.reply(said.as_bytes()), Some((Reply::Acquired, b"warning\nmore".to_vec())));
    assert_eq!(owner.reply(format!("{mark} \n").as_bytes()), Some((Reply::Ambiguous, Vec::new())));
}

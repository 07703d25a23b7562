//! `connect` on a real terminal and through pipes, and `tunnel`.

use crate::desk::{self, Desk, Done, Sim};
use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};
use rustix::termios::{LocalModes, tcgetattr};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A simulator with one lease called `box`.
fn warm(desk: &Desk) -> Sim {
    let sim = Sim::start(desk);
    desk.run(&["warmup", "--sim", "--slug", "box"]).exits(0);
    sim
}

/// Somebody in front of a terminal.
struct Person {
    pty: std::sync::Arc<Pty>,
    child: Child,
    shown: Receiver<Vec<u8>>,
    seen: String,
}

impl Person {
    fn connects(desk: &Desk, more: &[&str]) -> Self {
        let (pty, pts) = open().unwrap();
        pty.resize(Size::new(40, 100)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_crabbox-vast"))
            .args(["connect", "--sim", "box"])
            .args(more)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", desk.folder.path())
            .env("TERM", "xterm")
            .current_dir(desk.repo())
            .spawn(pts)
            .unwrap();
        let pty = std::sync::Arc::new(pty);
        let (show, shown) = channel();
        let screen = std::sync::Arc::clone(&pty);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = (&*screen).read(&mut buffer) {
                if show.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Person { pty, child, shown, seen: String::new() }
    }

    fn types(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text and forgets everything up to it.
    #[track_caller]
    fn sees(&mut self, text: &str) {
        let began = Instant::now();
        while !self.seen.contains(text) {
            match self.shown.recv_timeout(Duration::from_millis(100)) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => {
                    assert!(began.elapsed() < Duration::from_secs(30), "no {text:?} in {:?}", self.seen)
                }
            }
        }
        let at = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..at);
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&*self.pty).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    #[track_caller]
    fn leaves_with(mut self, code: i32) {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "still there: {:?}", self.seen);
            std::thread::sleep(Duration::from_millis(20));
        };
        self.seen.extend(self.shown.try_iter().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
        assert_eq!(status.code(), Some(code), "{:?}", self.seen);
        assert!(!self.is_raw(), "the terminal stayed raw");
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn state(desk: &Desk) -> Value {
    desk.run(&["list", "--sim", "--json"]).exits(0).json()[0]["labels"]["state"].clone()
}

#[test]
fn a_shell_has_a_terminal_with_its_size_and_keys() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let mut person = Person::connects(&desk, &[]);
    person.types("echo $((6*7))-$TERM; stty size\r");
    person.sees("42-xterm\r\n");
    person.sees("40 100\r\n");
    assert!(person.is_raw());
    assert_eq!(state(&desk), "running");
    person.pty.resize(Size::new(50, 132)).unwrap();
    // The far side hears of it in its own time.
    person.types("until [ \"$(stty size)\" = '50 132' ]; do sleep 0.1; done; echo re''sized\r");
    person.sees("resized\r\n");
    person.types("sleep 600; echo not''reached\r");
    std::thread::sleep(Duration::from_millis(500));
    person.types("\x03");
    person.types("echo ba''ck\r");
    person.sees("back\r\n");
    assert!(!person.seen.contains("notreached"));
    person.types("exit 5\r");
    person.leaves_with(5);
    assert_eq!(state(&desk), "ready");
}

#[test]
fn a_command_has_the_terminal_too() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let mut person =
        Person::connects(&desk, &["--", "sh", "-c", "test -t 0 && read line && echo \"<$line>\"; exit 6"]);
    std::thread::sleep(Duration::from_millis(500));
    person.types("a b\r");
    person.sees("<a b>\r\n");
    person.leaves_with(6);
}

#[test]
fn the_terminal_is_restored_however_it_ends() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let begins = |desk: &Desk| {
        let mut person = Person::connects(desk, &[]);
        person.types("echo rea''dy\r");
        person.sees("ready\r\n");
        assert!(person.is_raw());
        person
    };
    let person = begins(&desk);
    desk::signal(&person.child, "TERM");
    person.leaves_with(143);
    let person = begins(&desk);
    person.types("\r~.");
    person.leaves_with(130);
    let person = begins(&desk);
    desk.run(&["stop", "--sim", "box"]).exits(0);
    // The loss is explained: the instance is gone.
    person.leaves_with(1);
}

#[test]
fn through_pipes_the_streams_are_plain() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let mut child = desk
        .command(&["connect", "--sim", "box"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"echo out; echo err >&2\nexit 3\n").unwrap();
    let done = Done::of(child.wait_with_output().unwrap()).exits(3);
    assert_eq!((done.stdout.as_str(), done.stderr.lines().last()), ("out\n", Some("err")));
    let done =
        desk.run(&["connect", "--sim", "--json", "--id", "box", "--", "sh", "-c", "echo x; exit 4"]).exits(4);
    assert_eq!((&done.json()["exitCode"], done.stderr.as_str()), (&Value::from(4), "x\n"));
    desk.run(&["connect", "--sim", "nobody"]).exits(4);
}

/// A service on the instance, which in the simulator is this machine: answers each connection with what it hears.
fn service() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut heard = Vec::new();
                (&stream).read_to_end(&mut heard).unwrap();
                (&stream).write_all(&heard).unwrap();
            });
        }
    });
    port
}

fn talk(port: u16, text: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(text).unwrap();
    // One that nobody answers may be closed already.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    heard
}

#[test]
fn a_tunnel_carries_many_connections_until_it_is_interrupted() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let there = service().to_string();
    let mut tunnel = desk
        .command(&[
            "tunnel",
            "--sim",
            "--json",
            "box",
            &format!("0:{there}"),
            &format!("0:127.0.0.1:{there}"),
            "0:1",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut document = String::new();
    let mut stdout = BufReader::new(tunnel.stdout.take().unwrap());
    stdout.read_line(&mut document).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    let port = |at: usize| u16::try_from(document["forwards"][at]["local"].as_u64().unwrap()).unwrap();
    assert_eq!(
        (&document["slug"], &document["forwards"][1]["host"]),
        (&Value::from("box"), &Value::from("127.0.0.1"))
    );
    // Somebody who does not read holds nobody up.
    let mut idle = TcpStream::connect(("127.0.0.1", port(0))).unwrap();
    idle.write_all(b"hello").unwrap();
    let talks: Vec<_> = (0..20_u8)
        .map(|at| {
            let port = port(usize::from(at % 2));
            std::thread::spawn(move || assert_eq!(talk(port, &vec![at; 100_000]), vec![at; 100_000]))
        })
        .collect();
    talks.into_iter().for_each(|talk| talk.join().unwrap());
    assert_eq!(talk(port(2), b"nobody listens"), b"");
    desk::signal(&tunnel, "INT");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let done = Done::of(tunnel.wait_with_output().unwrap()).exits(0);
    assert_eq!(rest, "", "one document");
    assert!(done.stderr.contains("no connection to localhost:1"), "{}", done.stderr);
    assert_eq!(state(&desk), "ready");
}

#[test]
fn a_taken_port_and_nonsense_are_refused() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    for ports in [taken.as_str(), "x", "1:2:3:4"] {
        let document = desk.run(&["tunnel", "--sim", "--json", "box", ports]).exits(2).json();
        assert_eq!(document["error"]["code"], "invalid_argument", "{ports}");
    }
    desk.run(&["tunnel", "--sim", "--json", "nobody", "0"]).exits(2);
    desk.run(&["tunnel", "--sim", "nobody", "0:80"]).exits(4);
    for words in [
        &["box"][..],
        &["--id", "box", "80", "90"],
        &["--id", "box", "8080:80"],
        &["--local-port", "1", "box", "2"],
    ] {
        desk.run(&[&["tunnel", "--sim"], words].concat()).exits(2);
    }
}

#[test]
fn a_tunnel_in_crabboxs_words_prints_its_url() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let there = service().to_string();
    let mut tunnel = desk
        .command(&["tunnel", "--sim", "-id", "box", "-local-port", "0", "-network", "public", &there])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(tunnel.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
    let port = url.strip_prefix("http://127.0.0.1:").expect("a URL").trim_end().parse().unwrap();
    assert_eq!(talk(port, b"hello"), b"hello");
    desk::signal(&tunnel, "INT");
    Done::of(tunnel.wait_with_output().unwrap()).exits(0);
}

#[test]
fn a_copy_in_crabboxs_words() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    std::fs::write(desk.repo().join("a"), "carried").unwrap();
    desk.run(&["cp", "--sim", "--id", "box", "a", "SANDBOX:there"]).exits(0);
    desk.run(&["cp", "--sim", "-id", "box", "SANDBOX:there", "b"]).exits(0);
    assert_eq!(std::fs::read_to_string(desk.repo().join("b")).unwrap(), "carried");
    // A lease that no path asks for is no lease to pass over.
    for paths in [["a", "box:c"], ["a", "c"], ["SANDBOX:a", "SANDBOX:c"]] {
        let refused = desk.run(&["cp", "--sim", "--json", "--id", "box", paths[0], paths[1]]).exits(2).json();
        assert!(refused["error"]["message"].as_str().unwrap().contains("--id"), "{refused}");
    }
}

#[test]
fn before_the_shell_ctrl_c_is_ours() {
    let desk = Desk::new();
    let sim = warm(&desk);
    let interrupted = |before: &dyn Fn(&mut Person)| {
        let mut person = Person::connects(&desk, &[]);
        before(&mut person);
        assert!(!person.is_raw(), "there is nobody yet to whom the keys could go");
        person.types("\x03");
        person.sees("interrupted");
        person.leaves_with(130);
    };
    // An sshd that takes the connection and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let leases = desk.run(&["list", "--sim", "--json"]).exits(0).json();
    let instance = format!("/_sim/instances/{}", leases[0]["CloudID"].as_str().unwrap());
    let ports = serde_json::json!({
        "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": port.to_string()}]}, "ssh_port": port,
    });
    sim.control("POST", &instance, &ports.to_string());
    interrupted(&|_| drop(silent.accept().unwrap().0.set_nonblocking(true)));
    // An API that never answers.
    let fault = serde_json::json!({"path": "/instances", "effect": "stall", "count": null});
    sim.control("POST", "/_sim/faults", &fault.to_string());
    interrupted(&|person| person.sees("waiting for Vast"));
}

#[test]
fn what_to_type_next_can_be_typed_in_a_simulation() {
    let desk = Desk::new();
    let _sim = warm(&desk);
    let refused = desk.run(&["forget", "--sim", "box"]).exits(2);
    assert!(
        refused.stderr.contains("\nhint: `crabbox-vast stop box --sim` destroys it; "),
        "{}",
        refused.stderr
    );
    let hint = desk.run(&["forget", "--sim", "--json", "box"]).exits(2).json()["error"]["hint"].clone();
    assert!(hint.as_str().unwrap().starts_with("`crabbox-vast stop box --sim` destroys it"), "{hint}");
}

#[test]
fn a_log_is_told_what_takes_long() {
    let desk = Desk::new();
    let _sim = Sim::start_with(&desk, &["-boot", "20s"]);
    std::thread::scope(|threads| {
        let warm = |more: &'static [&str]| {
            let desk = &desk;
            threads.spawn(move || desk.run(&[&["warmup", "--sim"], more].concat()).exits(0).stderr)
        };
        let (told, quiet, json) = (warm(&[]), warm(&["--quiet"]), warm(&["--json"]));
        let told = told.join().unwrap();
        let reminder =
            |text: &str| text.lines().any(|line| line.ends_with("s") && line.contains("... elapsed="));
        assert!(reminder(&told), "{told}");
        for silent in [quiet.join().unwrap(), json.join().unwrap()] {
            assert!(!reminder(&silent), "{silent}");
        }
    });
}

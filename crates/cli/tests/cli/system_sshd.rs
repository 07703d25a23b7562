//! Another server that speaks the Vast API, as plainly as one may - no filters, no totals, no mapped ports, numbers as
//! text - and a system `sshd` as the instance.

use crate::desk::{self, Done};
use crate::real::{self, Options, Traveller};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn another_vendor_and_a_system_sshd() {
    if !real::is_here() {
        return;
    }
    let traveller = Traveller::new(Options::default());
    let run = |words: &[&str]| Done::of(traveller.command(words).output().unwrap());
    let done = run(&["run", "--no-sync", "--", "sh", "-c", "echo out; echo err >&2; pwd; exit 7"]).exits(7);
    assert!(done.stdout.starts_with("out\n") && done.stdout.contains("/work/cbx_"), "{}", done.stdout);
    assert!(done.stderr.lines().any(|line| line == "err"), "{}", done.stderr);
    assert_eq!(traveller.vendor.open(), [0; 0]);

    run(&["warmup", "--slug", "plain"]).exits(0);
    assert_eq!(run(&["status", "plain", "--json"]).exits(0).json()["ready"], true);
    assert_eq!(run(&["run", "--id", "plain", "--no-sync", "--", "echo", "again"]).exits(0).stdout, "again\n");
    // the line that `ssh` prints lets the system's own client in
    let line = run(&["ssh", "plain"]).exits(0).stdout;
    let login =
        Command::new("sh").args(["-c", &format!("{} echo in", line.trim())]).stdin(Stdio::null()).output();
    assert_eq!(String::from_utf8_lossy(&login.unwrap().stdout), "in\n");
    run(&["stop", "plain"]).exits(0);
    assert_eq!(traveller.vendor.open(), [0; 0]);
    assert_eq!(traveller.vendor.trespasses(), [""; 0]);
}

/// What the vendor publishes and nobody announces: with the limits enforced, not one call is refused.
#[test]
fn enforced_limits_are_never_met() {
    if !real::is_here() {
        return;
    }
    let traveller = Traveller::new(Options { limits: true, ..Options::default() });
    let done = traveller.run(&["run", "--no-sync", "--", "echo", "paced"]);
    assert_eq!(done.stdout, "paced\n", "{}", done.stderr);
    assert_eq!(traveller.vendor.refused(), []);
    assert_eq!(traveller.vendor.open(), [0; 0]);
}

/// What hears a text to its end answers with it.
fn service() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut heard = Vec::new();
                let _ = (&stream).read_to_end(&mut heard);
                let _ = (&stream).write_all(&heard);
            });
        }
    });
    port
}

/// Says something, closes its own side only, and hears the answer out.
fn talk(port: u16, text: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(text).unwrap();
    let _ = stream.shutdown(Shutdown::Write);
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    heard
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The SSH connection below a tunnel drops, three times: what was on it ends, what comes after it is carried, each way of
/// closing included, and many at once.
#[test]
fn a_tunnel_survives_its_ssh_connection() {
    if !real::is_here() {
        return;
    }
    let traveller = Traveller::new(Options::default());
    traveller.run(&["warmup", "--slug", "wire"]);
    let there = service();
    let mut command = traveller.command(&["tunnel", "--json", "wire", &format!("0:127.0.0.1:{there}")]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut tunnel = Running(child);
    let mut line = String::new();
    BufReader::new(tunnel.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let facts: Value = serde_json::from_str(&line).unwrap();
    let port = u16::try_from(facts["forwards"][0]["local"].as_u64().unwrap()).unwrap();
    assert_eq!(talk(port, b"before"), b"before");
    for round in 0..3_u8 {
        // In the middle of something: its end comes to light on this side.
        let mut open = TcpStream::connect(("127.0.0.1", port)).unwrap();
        open.write_all(b"never answered").unwrap();
        open.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        traveller.vendor.hang_up();
        let began = Instant::now();
        // The very next one is carried over a connection of its own.
        assert_eq!(talk(port, b"after"), b"after", "round {round}");
        let mut rest = Vec::new();
        let _ = open.read_to_end(&mut rest);
        assert_eq!(rest, b"", "round {round}");
        assert!(began.elapsed() < Duration::from_secs(25), "round {round}: {:?}", began.elapsed());
        let talks: Vec<_> = (0..30_u8)
            .map(|at| std::thread::spawn(move || assert_eq!(talk(port, &vec![at; 50_000]), vec![at; 50_000])))
            .collect();
        talks.into_iter().for_each(|talk| talk.join().unwrap());
    }
    assert!(tunnel.0.try_wait().unwrap().is_none(), "it goes on");
    desk::signal(&tunnel.0, "INT");
    assert_eq!(tunnel.0.wait().unwrap().code(), Some(0));
    traveller.run(&["stop", "wire"]);
    assert_eq!(traveller.vendor.open(), [0; 0]);
}

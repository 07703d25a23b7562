//! A simulator that is left in the background: it outlives its terminal, is found, and ends when it is asked to.

use crate::desk::{Desk, Done};
use serde_json::{Value, json};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

/// Ends the simulator whatever the test came to.
struct Left<'a>(&'a Desk);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let _ = self.0.command(&["sim", "stop"]).output();
    }
}

fn stat(pid: u64) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold blanks: state, parent, process group, session.
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

#[test]
fn detach_status_stop() {
    let desk = Desk::new();
    let _left = Left(&desk);
    let idle = desk.run(&["sim", "status", "--json"]).exits(0).json();
    assert_eq!(idle, json!({"running": false}));
    assert_eq!(desk.run(&["sim", "stop", "-json"]).exits(0).json()["stopped"], false);
    assert_eq!(desk.run(&["sim", "status"]).exits(0).stdout, "no simulator runs\n");

    let said =
        desk.run(&["sim", "-detach", "-json", "-api-latency", "1ms", "-boot", "300ms"]).exits(0).json();
    let pid = said["pid"].as_u64().unwrap();
    assert!(said["url"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{said}");
    let log = PathBuf::from(said["log"].as_str().unwrap());
    assert!(std::fs::read_to_string(&log).unwrap().contains(said["url"].as_str().unwrap()));
    if cfg!(target_os = "linux") {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(stat(pid).unwrap()[3], pid.to_string(), "it leads a session of its own");
    }

    let again = desk.run(&["sim", "--detach", "--json"]).exits(2).json();
    assert_eq!(again["error"]["code"], "invalid_state");
    assert!(again["error"]["message"].as_str().unwrap().contains("runs already"), "{again}");
    desk.run(&["sim"]).exits(2);

    desk.run(&["warmup", "--sim"]).exits(0);
    let status = desk.run(&["sim", "status", "--json"]).exits(0).json();
    assert_eq!((&status["pid"], &status["ledger"]["created"]), (&json!(pid), &json!(1)), "{status}");
    assert_eq!(status["ledger"]["open"].as_array().unwrap().len(), 1);
    assert!(!status.to_string().contains(said["apiKey"].as_str().unwrap()));

    let ended = desk.run(&["sim", "stop", "--json"]).exits(0).json();
    assert_eq!((&ended["stopped"], &ended["ledger"]["created"]), (&json!(true), &json!(1)), "{ended}");
    assert_eq!(desk.run(&["sim", "status", "--json"]).exits(0).json()["running"], false);
    if cfg!(target_os = "linux") {
        let gone = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            stat(pid).is_none_or(|stat| stat[0] == "Z")
        });
        assert!(gone, "the process is still there");
    }
}

#[test]
fn it_outlives_the_terminal_it_was_started_in() {
    let desk = Desk::new();
    let _left = Left(&desk);
    // A shell with a process group of its own, which is then hung up and killed as a whole.
    let binary = env!("CARGO_BIN_EXE_crabbox-vast");
    let script = format!("'{binary}' sim --detach --json && kill -HUP 0; kill -KILL 0");
    let mut command = Command::new("sh");
    let surroundings = desk.command(&[]);
    command.args(["-c", &script]).env_clear();
    command.envs(surroundings.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let shell = command.current_dir(desk.repo()).process_group(0).output().unwrap();
    assert_eq!(shell.status.code(), None, "the shell was killed");
    let said: Value = serde_json::from_slice(&shell.stdout).unwrap();
    assert_eq!(desk.run(&["sim", "status", "--json"]).exits(0).json()["pid"], said["pid"]);
    let text = desk.run(&["sim", "stop"]).exits(0).stdout;
    assert_eq!(text, "the simulator ended: 0 machines rented, 0 given back, 0 open, 0.0000 $ spent\n");
}

#[test]
fn a_stale_announcement_is_nobodys_pid() {
    let desk = Desk::new();
    let _left = Left(&desk);
    let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
    let folder = desk.folder.path().join(".config/crabbox/state/vast-sim");
    std::fs::create_dir_all(&folder).unwrap();
    let stale = json!({"url": "http://127.0.0.1:9/api/v0", "api_key": "k", "work_root": "/x", "state_dir": "/x",
        "pid": bystander.id(), "version": "0"});
    std::fs::write(folder.join("sim.json"), stale.to_string()).unwrap();
    std::fs::write(folder.join("sim.lock"), "").unwrap();
    assert_eq!(desk.run(&["sim", "stop", "--json"]).exits(0).json()["stopped"], false);
    desk.run(&["sim", "--detach"]).exits(0);
    desk.run(&["sim", "stop"]).exits(0);
    assert!(bystander.try_wait().unwrap().is_none(), "somebody else's process was ended");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn a_simulator_that_cannot_start_says_why() {
    let desk = Desk::new();
    let _left = Left(&desk);
    let done = desk.run(&["sim", "--detach", "--json", "--listen", "192.0.2.1:0"]).exits(2);
    let error = &done.json()["error"];
    assert!(error["message"].as_str().unwrap().starts_with("the simulator did not start: "), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("sim.log"), "{error}");
    let done: Done = desk.run(&["sim", "status"]).exits(0);
    assert_eq!(done.stdout, "no simulator runs\n");
}

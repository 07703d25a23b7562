//! The dead-man switch end to end: the binary rents, the laptop is lost, the instance ends itself.

use crate::desk::{Desk, Done, Sim};
use crabbox_vast_engine::lease::{parse_rfc3339, unix};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Other work on the machine may hold things up; nothing here depends on how fast it is.
const LIMIT: Duration = Duration::from_secs(60);

/// A call of the simulator's control plane.
fn control(sim: &Sim, method: &str, path: &str, body: &Value) -> Value {
    let address = sim.url.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{method} /_sim/{path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        sim.key,
        body.len()
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn get(sim: &Sim, path: &str) -> Value {
    control(sim, "GET", path, &Value::Null)
}

/// What is billed.
fn open(sim: &Sim) -> Vec<u64> {
    let ledger = get(sim, "ledger");
    ledger["open"].as_array().unwrap().iter().map(|instance| instance["id"].as_u64().unwrap()).collect()
}

/// Waits until only these are billed.
#[track_caller]
fn only(sim: &Sim, left: &[u64]) {
    let began = Instant::now();
    while open(sim) != left {
        assert!(began.elapsed() < LIMIT, "still billed: {}", get(sim, "ledger"));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The requests that wanted to destroy something: who, and what.
fn destroys(sim: &Sim) -> Vec<(String, String)> {
    let requests = get(sim, "requests");
    let all = requests["requests"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.filter(|request| request["method"] == "DELETE")
        .map(|request| (text(&request["caller"]), text(&request["path"])))
        .collect()
}

fn by_itself(id: u64) -> (String, String) {
    (format!("container {id}"), format!("/api/v0/instances/{id}/"))
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&path)),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
    found
}

fn number(text: &Value) -> u64 {
    text.as_u64().or_else(|| text.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{text} is no number"))
}

/// The binary against the simulator as against any vendor, with its records where they belong.
fn run(desk: &Desk, sim: &Sim, words: &[&str]) -> Done {
    let mut command = desk.command(words);
    command.env("CRABBOX_VAST_API_KEY", &sim.key).env("CRABBOX_VAST_API_URL", &sim.url);
    command.env("CRABBOX_VAST_WORK_ROOT", desk.folder.path().join("work"));
    Done::of(command.output().unwrap())
}

/// What the simulator keeps, and not the laptop.
fn of_the_vendor(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "vast-sim")
}

#[test]
fn a_lost_laptop_leaves_nothing_billing() {
    let desk = Desk::new();
    let sim = Sim::start(&desk);
    let label = "cbx1|cbx_00000000beef|not-yours|ready";
    let stranger = control(&sim, "POST", "instances", &json!({"label": label, "actual_status": "running"}));
    let stranger = number(&stranger["id"]);
    let warm = |words: &[&str]| {
        let mut all = vec!["warmup", "--json"];
        all.extend(words);
        run(&desk, &sim, &all).exits(0).json()
    };
    let kept = warm(&["--slug", "kept"]);
    assert_eq!(kept["deadman"]["armed"], false, "{kept}");
    assert!(kept["deadman"]["whyNot"].as_str().unwrap().contains(" $ a day"), "{kept}");
    // One ends by its time to live although it is kept, the other because nobody uses it.
    // A template has a start script of its own: there the switch comes over the first session.
    let timed = warm(&["--slug", "timed", "-ttl", "12s", "-vast-template-id", "0123abcd"]);
    assert_eq!((&timed["deadman"]["armed"], &timed["deadman"]["confirmed"]), (&json!(true), &json!(true)));
    assert!(
        timed["deadman"]["until"] == timed["deadman"]["endsAt"] && timed["deadman"]["idleUntil"].is_null()
    );
    let idle = warm(&["--slug", "idle", "--keep=false", "--idle-timeout", "5s"]);
    assert_eq!(idle["deadman"]["until"], idle["deadman"]["idleUntil"], "{idle}");
    assert!(idle["deadman"]["endsAt"].is_string(), "{idle}");

    // The account's key has not travelled: not in a call, not in a file of an instance.
    let requests = get(&sim, "requests");
    let creates: Vec<&Value> = requests["requests"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|request| request["path"].as_str().unwrap().contains("/asks/"))
        .collect();
    assert_eq!(creates.len(), 3);
    for create in creates {
        let script = create["body"]["onstart"].as_str();
        assert_eq!(script.is_none(), create["body"]["template_hash_id"].is_string(), "{create}");
        assert!(!script.unwrap_or_default().contains("[redacted]"), "a key in the start script: {create}");
    }
    let inside = |path: &Path| path.components().any(|part| part.as_os_str() == "instances");
    let remote: Vec<PathBuf> = files(desk.folder.path()).into_iter().filter(|path| inside(path)).collect();
    assert!(remote.iter().any(|path| path.ends_with(".crabbox/deadman/report")), "{remote:?}");
    for file in remote {
        let text = std::fs::read(&file).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&text).contains(&sim.key), "the key is in {}", file.display());
    }

    // The laptop is gone, with every claim, key and journal on it.
    let records: Vec<PathBuf> =
        files(desk.folder.path()).into_iter().filter(|path| !of_the_vendor(path)).collect();
    let claims = |path: &&PathBuf| path.parent().is_some_and(|folder| folder.ends_with("claims"));
    assert!(records.iter().filter(claims).count() >= 3, "{records:?}");
    for file in records {
        std::fs::remove_file(file).unwrap();
    }
    let [kept, timed, idle] = [&kept, &timed, &idle].map(|lease| number(&lease["instance"]));
    only(&sim, &[stranger, kept]);
    let asked = destroys(&sim);
    assert!(asked.contains(&by_itself(timed)) && asked.contains(&by_itself(idle)), "{asked:?}");
    assert!(asked.iter().all(|(caller, _)| caller != "owner"), "{asked:?}");
}

#[test]
fn uses_move_the_idle_deadline_on_the_instance() {
    let desk = Desk::new();
    let sim = Sim::start(&desk);
    let words = ["warmup", "--json", "--slug", "used", "--keep=false", "--idle-timeout", "4s"];
    let instance = number(&run(&desk, &sim, &words).exits(0).json()["instance"]);
    // An open session is a use, for longer than the timeout.
    run(&desk, &sim, &["run", "--id", "used", "--", "sleep", "6"]).exits(0);
    let touched = run(&desk, &sim, &["touch", "used", "--idle-timeout", "1h", "--json"]).exits(0);
    let document = touched.json();
    assert_eq!(document["deadman"]["armed"], true, "{document} {}", touched.stderr);
    assert!(document["deadman"]["until"] == document["deadman"]["idleUntil"], "{document}");
    let status = run(&desk, &sim, &["status", "used"]).exits(0);
    assert!(status.stderr.contains("deadman armed until 20"), "{}", status.stderr);
    assert!(!status.stderr.contains("not confirmed"), "{}", status.stderr);
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(open(&sim), [instance], "the touch counts, not the timeout it was made with");
    // A touch that cannot be told is a touch all the same.
    let (url, key) = (sim.url.clone(), sim.key.clone());
    sim.end();
    let mut late = desk.command(&["touch", "used", "--json"]);
    let late = Done::of(late.env("VAST_API_KEY", key).env("VAST_API_URL", url).output().unwrap()).exits(0);
    assert!(late.json()["deadman"].is_null(), "{}", late.stdout);
    assert!(late.stderr.contains("was not told of this use"), "{}", late.stderr);
}

/// A folder with these programs of this machine.
fn programs(folder: &Path, names: &[&str]) {
    std::fs::create_dir_all(folder).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    for name in names {
        let real = std::env::split_paths(&path).map(|place| place.join(name)).find(|file| file.is_file());
        std::os::unix::fs::symlink(real.unwrap(), folder.join(name)).unwrap();
    }
}

const BASICS: &[&str] =
    &["sh", "base64", "gzip", "cat", "mkdir", "mv", "rm", "sed", "sleep", "tr", "grep", "chmod", "touch"];

#[test]
fn an_image_without_a_client_is_told_at_once() {
    let desk = Desk::new();
    let path = desk.folder.path().join("programs");
    programs(&path, BASICS);
    let sim = Sim::with_path(&desk, &[], path.as_os_str());
    let warm = run(&desk, &sim, &["warmup", "--json", "--slug", "bare", "--keep=false"]).exits(0);
    let document = warm.json();
    assert_eq!(document["deadman"]["armed"], false, "{document}");
    let why = "no curl, wget, python3 or openssl";
    assert!(document["deadman"]["whyNot"].as_str().unwrap().contains(why), "{document}");
    assert!(warm.stderr.contains(why) && warm.stderr.contains("release it yourself"), "{}", warm.stderr);
    let status = run(&desk, &sim, &["status", "bare"]).exits(0);
    assert!(status.stderr.contains("deadman not armed: the image has no client"), "{}", status.stderr);
}

#[test]
fn tools_that_cannot_be_installed_cost_no_machine() {
    let desk = Desk::new();
    let path = desk.folder.path().join("programs");
    programs(&path, BASICS);
    programs(&path, &["id", "mktemp", "tail"]);
    let sim = Sim::with_path(&desk, &[], path.as_os_str());
    let words = ["warmup", "--json", "--vast-bootstrap", "wait"];
    let error = run(&desk, &sim, &words).exits(5).json()["error"].clone();
    assert_eq!(error["code"], "start_failed_image", "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("git rsync tar python3 could not be installed"), "{message}");
    assert!(message.ends_with("none of apt-get, dnf, yum and apk is there"), "{message}");
    only(&sim, &[]);
    run(&desk, &sim, &["warmup", "--json"]).exits(0);
}

#[test]
fn what_came_over_a_session_is_brought_back() {
    let desk = Desk::new();
    let sim = Sim::start(&desk);
    let words = ["warmup", "--json", "--slug", "vendor", "--ttl", "1h", "--vast-template-id", "0123abcd"];
    let lease = run(&desk, &sim, &words).exits(0).json();
    assert_eq!(lease["deadman"]["confirmed"], true, "{lease}");
    // As after a stop and a start, which do not run it again.
    let id = number(&lease["instance"]).to_string();
    let state = files(desk.folder.path())
        .into_iter()
        .find(|path| path.ends_with("home/.crabbox/deadman/report") && path.iter().any(|part| *part == *id))
        .unwrap();
    std::fs::remove_file(&state).unwrap();
    let status = run(&desk, &sim, &["status", "vendor"]).exits(0);
    assert!(status.stderr.contains("deadman not armed: no watchdog runs"), "{}", status.stderr);
    run(&desk, &sim, &["run", "--id", "vendor", "--", "true"]).exits(0);
    let status = run(&desk, &sim, &["status", "vendor", "--json"]).exits(0).json();
    assert_eq!(status["deadman"]["armed"], true, "{status}");
    let end = |document: &Value| {
        let text = document["deadman"]["endsAt"].as_str().unwrap().to_owned();
        unix(parse_rfc3339(&text).unwrap())
    };
    assert!((end(&status) - end(&lease)).abs() <= 2, "the end is kept: {lease} {status}");
}

/// Sends a word through a tunnel and keeps the connection.
fn held(port: u64) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap())).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"word").unwrap();
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).unwrap();
    stream
}

#[test]
fn an_open_tunnel_is_a_use_until_the_lease_is_released() {
    let desk = Desk::new();
    let sim = Sim::start(&desk);
    let words = ["warmup", "--json", "--slug", "piped", "--keep=false", "--idle-timeout", "4s"];
    let instance = number(&run(&desk, &sim, &words).exits(0).json()["instance"]);
    let echo = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let there = echo.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in echo.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut word = [0; 4];
                let _ = stream.read_exact(&mut word).and_then(|()| stream.write_all(&word));
                // Held from this side as well.
                let _ = stream.read(&mut word);
            });
        }
    });
    let mut tunnel = desk.command(&["tunnel", "--json", "piped", &format!("0:127.0.0.1:{there}")]);
    tunnel.env("CRABBOX_VAST_API_KEY", &sim.key).env("CRABBOX_VAST_API_URL", &sim.url);
    tunnel.env("CRABBOX_VAST_WORK_ROOT", desk.folder.path().join("work"));
    tunnel.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut tunnel = tunnel.spawn().unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(tunnel.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let facts: Value = serde_json::from_str(&line).unwrap();
    // Further ones are dialled over connections on which no command has ever run: no `sshd: user@` shows those.
    let streams: Vec<TcpStream> =
        (0..3).map(|_| held(facts["forwards"][0]["local"].as_u64().unwrap())).collect();
    std::thread::sleep(Duration::from_secs(9));
    assert_eq!(open(&sim), [instance], "it was destroyed under an open tunnel");
    assert!(tunnel.try_wait().unwrap().is_none());
    run(&desk, &sim, &["stop", "piped"]).exits(0);
    let began = Instant::now();
    let ended = Done::of(tunnel.wait_with_output().unwrap()).exits(4);
    assert!(began.elapsed() < LIMIT);
    drop(streams);
    // The one document of standard output was written long ago.
    let failure = ended.stderr.lines().last().unwrap_or_default();
    let failure: Value = serde_json::from_str(failure).unwrap_or_else(|_| panic!("{}", ended.stderr));
    assert_eq!(failure["error"]["code"], "lease_not_found", "{failure}");
    assert!(failure["error"]["hint"].is_string(), "{failure}");
}

#[test]
fn a_warmup_says_what_ends_the_lease_that_it_got() {
    let desk = Desk::new();
    let sim = Sim::start(&desk);
    let words = ["warmup", "--lease-id", "cbx_0123456789ab", "--ttl", "1h"];
    run(&desk, &sim, &words).exits(0);
    // The same lease, whose end was set by the first call.
    let again = run(&desk, &sim, &words[..3]).exits(0);
    assert!(again.stderr.contains("deadman armed until 20"), "{}", again.stderr);
    assert!(!again.stderr.contains("nothing else ends it"), "{}", again.stderr);
    assert!(!again.stderr.contains("no ttl was given"), "{}", again.stderr);
}

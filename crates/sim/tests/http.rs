//! The server on a real socket, and how it is found.

mod common;

use common::client::{Http, until};
use crabbox_vast_sim::api::{Effect, Fault};
use crabbox_vast_sim::{Options, Running, SimError, find, start};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const ME: &str = "/api/v0/users/current/";

async fn simulator() -> (Running, TempDir) {
    let state = tempfile::tempdir().expect("a temporary folder");
    let options = Options { api_latency: Duration::ZERO, rate_limits: false, ..Options::demo(state.path()) };
    (start(options).await.expect("a simulator starts"), state)
}

#[tokio::test]
async fn one_connection_serves_many_calls() {
    let (sim, _state) = simulator().await;
    let mut http = Http::open(&sim.url(), Some(sim.api_key())).await;
    for _ in 0..20 {
        assert_eq!(http.call("GET", ME, Value::Null).await.0, 200);
    }
    let (_, body) = http.call("PUT", "/api/v0/search/asks/", json!({"q": {"limit": 3}})).await;
    assert_eq!(body["offers"].as_array().map(Vec::len), Some(3));
    let (_, requests) = http.call("GET", "/_sim/requests", Value::Null).await;
    assert_eq!(requests["requests"].as_array().map(Vec::len), Some(21));
    sim.shutdown().await;
}

#[tokio::test]
async fn a_reset_is_a_reset_and_a_truncation_breaks_off() {
    let (sim, _state) = simulator().await;
    sim.add_fault(Fault::once("GET", ME, Effect::Reset));
    sim.add_fault(Fault { nth: 2, ..Fault::once("GET", ME, Effect::Truncate).after_commit() });
    let mut http = Http::open(&sim.url(), Some(sim.api_key())).await;
    let error = http.raw("GET", ME, &Value::Null).await.expect_err("a broken connection");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let mut http = Http::open(&sim.url(), Some(sim.api_key())).await;
    let error = http.raw("GET", ME, &Value::Null).await.expect_err("a broken body");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    let mut http = Http::open(&sim.url(), Some(sim.api_key())).await;
    assert_eq!(http.call("GET", ME, Value::Null).await.0, 200);
    sim.shutdown().await;
}

#[tokio::test]
async fn a_stall_lasts_and_a_delay_ends() {
    let (sim, _state) = simulator().await;
    sim.add_fault(Fault::once("GET", ME, Effect::Stall));
    let mut http = Http::open(&sim.url(), Some(sim.api_key())).await;
    let stalled = tokio::time::timeout(Duration::from_millis(100), http.raw("GET", ME, &Value::Null)).await;
    assert!(stalled.is_err());
    sim.add_fault(Fault::once("GET", ME, Effect::Delay(Duration::from_millis(60))));
    let mut http = Http::open(&sim.url(), Some(sim.api_key())).await;
    let started = Instant::now();
    assert_eq!(http.call("GET", ME, Value::Null).await.0, 200);
    assert!(started.elapsed() >= Duration::from_millis(60));
    sim.shutdown().await;
}

#[tokio::test]
async fn the_control_plane_can_end_it() {
    let (sim, _state) = simulator().await;
    let mut http = Http::open(&sim.url(), Some(sim.api_key())).await;
    let (_, state) = http.call("GET", "/_sim/state", Value::Null).await;
    assert_eq!(state["work_root"], sim.work_root().to_string_lossy().as_ref());
    assert_eq!(http.call("POST", "/_sim/shutdown", json!({})).await.0, 200);
    sim.shutdown_asked().await;
    let url = sim.url();
    sim.shutdown().await;
    let address = url.trim_start_matches("http://").trim_end_matches("/api/v0").to_owned();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_demo_boots_in_a_few_seconds_while_nobody_asks() {
    let (sim, _state) = simulator().await;
    let mut http = Http::open(&sim.url(), Some(sim.api_key())).await;
    let (_, made) = http.call("POST", "/_sim/instances", json!({"label": "by hand"})).await;
    assert!(made["id"].is_u64());
    let running = until("a running instance", async || {
        sim.ledger()
            .open
            .first()
            .is_some_and(|open| open.actual_status.as_deref() == Some("running"))
            .then_some(())
    });
    tokio::time::timeout(Duration::from_secs(5), running).await.expect("it boots in time");
    sim.shutdown().await;
}

#[tokio::test]
async fn it_listens_on_loopback_only_and_guards_its_folder() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let wide = Options { listen: ([0, 0, 0, 0], 0).into(), ..Options::demo(state.path()) };
    assert!(matches!(start(wide).await, Err(SimError::NotLoopback { .. })));
    let sim = start(Options::demo(state.path())).await.expect("a simulator starts");
    assert!(matches!(start(Options::demo(state.path())).await, Err(SimError::InUse { .. })));
    sim.shutdown().await;
    let foreign = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(foreign.path().join("work")).expect("somebody's work");
    assert!(matches!(start(Options::demo(foreign.path())).await, Err(SimError::Foreign { .. })));
    assert!(foreign.path().join("work").exists());
}

#[tokio::test]
async fn an_announcement_holds_while_the_simulator_lives() {
    let (sim, _state) = simulator().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().join("announced");
    assert!(find(&dir).is_none());
    let announcement = sim.announce(&dir).expect("an announcement");
    let found = find(&dir).expect("it is found");
    assert_eq!((found.url.as_str(), found.api_key.as_str()), (sim.url().as_str(), sim.api_key()));
    assert_eq!((found.work_root.as_path(), found.pid), (sim.work_root(), std::process::id()));
    assert!(!format!("{found:?}").contains(sim.api_key()));
    let mode = std::fs::metadata(dir.join("sim.json")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(sim.announce(&dir), Err(SimError::AlreadyAnnounced { .. })));
    let text = std::fs::read(dir.join("sim.json")).expect("a file");
    drop(announcement);
    assert!(find(&dir).is_none());
    std::fs::write(dir.join("sim.json"), text).expect("a leftover");
    assert!(find(&dir).is_none(), "a leftover file without its lock is nothing");
    sim.announce(&dir).expect("the place is free again");
    sim.shutdown().await;
}

//! What a run costs in calls and connections, and what it leaves alone.

use crate::bench::{Bench, collect};
use async_trait::async_trait;
use crabbox_vast_engine::lease::ReleaseAction;
use crabbox_vast_engine::ops::{AcquireRequest, ReleaseRequest, RunRequest};
use crabbox_vast_engine::ssh::command::Script;
use crabbox_vast_engine::world::{
    ExecExit, ExecIo, Http, HttpReply, HttpRequest, Ssh, SshError, SshSession, SshTarget, TransportError,
};
use crabbox_vast_engine::{Code, Engine, Error};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Everything that went over a network, in order.
type Log = Arc<Mutex<Vec<String>>>;

struct CountedHttp(Arc<dyn Http>, Log);

#[async_trait]
impl Http for CountedHttp {
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError> {
        let path = request.url.split("/api/").last().unwrap_or_default().to_owned();
        self.1.lock().expect("not poisoned").push(format!("{} {path}", request.method.as_str()));
        self.0.send(request).await
    }
}

struct CountedSsh(Arc<dyn Ssh>, Log);

#[async_trait]
impl Ssh for CountedSsh {
    async fn connect(&self, target: &SshTarget, limit: Duration) -> Result<Arc<dyn SshSession>, SshError> {
        self.1.lock().expect("not poisoned").push("connect".to_owned());
        let session = self.0.connect(target, limit).await?;
        Ok(Arc::new(CountedSession(session, Arc::clone(&self.1))))
    }
}

struct CountedSession(Arc<dyn SshSession>, Log);

#[async_trait]
impl SshSession for CountedSession {
    async fn exec(&self, command: &str, io: ExecIo) -> Result<ExecExit, SshError> {
        let end: String = command.chars().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect();
        self.1.lock().expect("not poisoned").push(format!("exec …{end}"));
        self.0.exec(command, io).await
    }

    fn host_key(&self) -> String {
        self.0.host_key()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

fn counted(bench: &Bench) -> (Engine, Log) {
    let log = Log::default();
    let mut world = bench.world();
    world.http = Arc::new(CountedHttp(world.http, Arc::clone(&log)));
    world.ssh = Arc::new(CountedSsh(world.ssh, Arc::clone(&log)));
    (Engine::new(world, bench.settings()).expect("engine"), log)
}

fn request(words: &[&str]) -> RunRequest {
    RunRequest::new(Script::Argv(words.iter().map(|word| (*word).to_owned()).collect()))
}

#[tokio::test]
async fn a_warm_run_is_one_connection_and_two_commands() {
    let bench = Bench::new().await;
    let acquire = AcquireRequest { keep: true, slug: Some("box".into()), ..AcquireRequest::default() };
    let lease = bench.engine().acquire(&acquire, &bench.call()).await.expect("acquires");
    let before = bench.engine().status("box", &bench.call()).await.expect("shows").labels;
    let (engine, log) = counted(&bench);
    let mut run = request(&["true"]);
    run.identifier = Some("box".into());
    let began = Instant::now();
    let (io, collected) = collect(None);
    let result = engine.run(&run, io, &bench.call()).await.expect("runs");
    collected.await.expect("collected");
    let took = began.elapsed();
    assert_eq!((result.exit_code, result.released), (0, None));
    let log = log.lock().expect("not poisoned").clone();
    let count = |start: &str| log.iter().filter(|entry| entry.starts_with(start)).count();
    // Besides them: what it takes to be sure that the instance is still ours.
    let calls = count("GET") + count("POST") + count("PUT");
    println!(
        "a warm run: {calls} calls, {} connections, {} commands, {took:?}",
        count("connect"),
        count("exec")
    );
    assert_eq!(count("exec"), 2, "{log:#?}");
    // Direct and relay are tried at once; the first to answer is used.
    assert!((1..=2).contains(&count("connect")) && calls <= 2, "{log:#?}");

    let after = bench.engine().status("box", &bench.call()).await.expect("shows").labels;
    for label in
        ["created_at", "keep", "ttl_secs", "idle_timeout_secs", "release_action", "slug", "vast_offer_id"]
    {
        assert!(
            before.contains_key(label) && before.get(label) == after.get(label),
            "{label}: {before:?} {after:?}"
        );
    }
    lease.release(None, &bench.call()).await.expect("releases");
}

#[tokio::test]
async fn a_one_shot_run_uses_the_session_of_the_acquire() {
    let bench = Bench::new().await;
    let (engine, log) = counted(&bench);
    let (io, collected) = collect(None);
    let result = engine.run(&request(&["true"]), io, &bench.call()).await.expect("runs");
    collected.await.expect("collected");
    assert_eq!(result.released, Some(true));
    let log = log.lock().expect("not poisoned").clone();
    let ready = log.iter().position(|entry| entry.starts_with("exec")).expect("a ready check");
    let later: Vec<&String> = log[ready + 1..].iter().filter(|entry| !entry.contains("instances")).collect();
    let commands = later.iter().filter(|entry| entry.starts_with("exec")).count();
    // One asks for the dead-man switch; the command takes the workspace itself, and the release frees it.
    assert_eq!(commands, 2, "{log:#?}");
    assert!(!later.iter().any(|entry| *entry == "connect"), "{log:#?}");
}

/// A run on a lease that is given back by `action` as soon as its command is at work: how the run fails.
async fn released_under(action: ReleaseAction) -> (Bench, Error) {
    let bench = Bench::new().await;
    let acquire = AcquireRequest { keep: true, slug: Some("box".into()), ..AcquireRequest::default() };
    bench.engine().acquire(&acquire, &bench.call()).await.expect("acquires");
    let engine = bench.engine();
    let mut run = request(&["sh", "-c", "echo in; sleep 60"]);
    run.identifier = Some("box".into());
    let (output, mut received) = tokio::sync::mpsc::channel(4);
    let io = ExecIo { stdin: None, output };
    let call = bench.call();
    let running = engine.run(&run, io, &call);
    let stopping = async {
        received.recv().await.expect("it runs");
        let stop = ReleaseRequest { identifier: "box".into(), action: Some(action) };
        bench.engine().release(&stop, &bench.call()).await.expect("stops");
        while received.recv().await.is_some() {}
    };
    let (outcome, ()) = tokio::join!(running, stopping);
    let error = outcome.expect_err("its machine was taken away");
    drop(engine);
    (bench, error)
}

#[tokio::test]
async fn a_run_whose_machine_is_destroyed_meanwhile_does_not_say_that_it_bills() {
    let (_bench, error) = released_under(ReleaseAction::Destroy).await;
    assert_eq!(error.code(), Code::InstanceGone, "{error}");
    let hint = error.hint_text().unwrap_or_default();
    assert!(hint.contains("clears the claim") && !hint.contains("stays and bills"), "{hint}");
}

#[tokio::test]
async fn a_run_whose_lease_is_stopped_meanwhile_does_not_revive_it() {
    let (bench, error) = released_under(ReleaseAction::Stop).await;
    assert!(error.hint_text().unwrap_or_default().contains("stays and bills"), "{error:?}");
    let claim = bench.engine().list(false, &bench.call()).await.expect("lists");
    assert_eq!(claim[0].labels["state"], "stopped");
}

//! The dead-man switch of leases: a real engine, the simulator, its instances with real shells.

use crate::bench::{Bench, collect};
use crate::watchdog::files;
use async_trait::async_trait;
use crabbox_vast_engine::Engine;
use crabbox_vast_engine::config::Settings;
use crabbox_vast_engine::lease::{ReleaseAction, parse_rfc3339, unix};
use crabbox_vast_engine::ops::{
    AcquireRequest, AdoptRequest, Deadman, ForgetRequest, Lease, ReleaseRequest, RunRequest, StartRequest,
};
use crabbox_vast_engine::ssh::command::Script;
use crabbox_vast_engine::store::DeadmanRecord;
use crabbox_vast_engine::world::{
    ExecExit, ExecIo, Http, HttpReply, HttpRequest, Output, Ssh, SshError, SshSession, SshTarget,
    TransportError, World,
};
use crabbox_vast_engine::{Code, Event};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// An image that does not run start scripts.
struct NoStartScript(Arc<dyn Http>);

#[async_trait]
impl Http for NoStartScript {
    async fn send(&self, mut request: HttpRequest) -> Result<HttpReply, TransportError> {
        if request.url.contains("/asks/") {
            let body = request.body.take().expect("a create");
            let mut body: serde_json::Value = serde_json::from_slice(&body).expect("a document");
            body.as_object_mut().expect("an object").remove("onstart").expect("a start script");
            request.body = Some(body.to_string().into());
        }
        self.0.send(request).await
    }
}

/// Counts commands; with `chatty` standard error never ends.
struct Watched {
    ssh: Arc<dyn Ssh>,
    commands: Arc<AtomicUsize>,
    chatty: bool,
}

struct WatchedSession(Arc<dyn SshSession>, Arc<AtomicUsize>, bool);

#[async_trait]
impl Ssh for Watched {
    async fn connect(&self, target: &SshTarget, limit: Duration) -> Result<Arc<dyn SshSession>, SshError> {
        let session = self.ssh.connect(target, limit).await?;
        Ok(Arc::new(WatchedSession(session, Arc::clone(&self.commands), self.chatty)))
    }
}

#[async_trait]
impl SshSession for WatchedSession {
    async fn exec(&self, command: &str, io: ExecIo) -> Result<ExecExit, SshError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        if !(self.2 && command.contains("crabbox-owner-")) {
            return self.0.exec(command, io).await;
        }
        // An end, lest a failing test take all memory.
        for _ in 0..512 {
            if io.output.send(Output::Stderr(vec![b'.'; 64 * 1024].into())).await.is_err() {
                break;
            }
        }
        Ok(ExecExit::Code(0))
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

fn engine(bench: &Bench, world: impl FnOnce(&mut World), change: impl FnOnce(&mut Settings)) -> Engine {
    let mut settings = bench.settings();
    change(&mut settings);
    fs::create_dir_all(&settings.paths.config).unwrap();
    let mut there = bench.world();
    world(&mut there);
    Engine::new(there, settings).unwrap()
}

fn no_start_script(world: &mut World) {
    world.http = Arc::new(NoStartScript(Arc::clone(&world.http)));
}

async fn acquire(engine: &Engine, bench: &Bench, keep: bool) -> Lease {
    let request = AcquireRequest { keep, slug: Some("box".into()), ..AcquireRequest::default() };
    engine.acquire(&request, &bench.call()).await.expect("acquires")
}

/// A file of the watchdog's on the one instance.
fn state(bench: &Bench, name: &str) -> PathBuf {
    let end = format!(".crabbox/deadman/{name}");
    let found = files(bench.home.path()).into_iter().find(|file| file.ends_with(&end));
    found.unwrap_or_else(|| panic!("no {name}"))
}

/// The processes of the instances here, but those of other tests.
fn processes(bench: &Bench) -> Vec<String> {
    let mark = format!("CRABBOX_SIM_CONTAINER={}/", bench.home.path().display());
    let ours = |entry: &fs::DirEntry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(mark.as_bytes()))
    };
    let all = fs::read_dir("/proc").unwrap().flatten().filter(ours);
    all.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

fn kill_watchdog(bench: &Bench) {
    for _ in 0..200 {
        let left = processes(bench);
        if left.is_empty() {
            return;
        }
        let _ = std::process::Command::new("kill").arg("-9").args(&left).status();
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("they live on");
}

/// As if the last report had been written so much earlier, with its end so far from then.
fn last_heard(bench: &Bench, ago: u64, end: i64) {
    let file = state(bench, "report");
    let text = fs::read_to_string(&file).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    let written = words[1].parse::<i64>().unwrap() - i64::try_from(ago).unwrap();
    let idle = if words[3] == "0" { 0 } else { written + end };
    fs::write(&file, format!("1 {written} {} {idle} {}\n", written + end, words[4..].join(" "))).unwrap();
    fs::write(state(bench, "end"), format!("{} one\n", written + end)).unwrap();
}

#[track_caller]
fn ends_in(told: Option<&String>, time: Duration) {
    let at = unix(parse_rfc3339(told.expect("a deadline")).unwrap());
    let want = unix(SystemTime::now()) + i64::try_from(time.as_secs()).unwrap();
    assert!((at - want).abs() <= 20, "it ends {} s off", at - want);
}

fn warnings(bench: &Bench) -> Vec<String> {
    let events = bench.events.lock().unwrap();
    let warning = |event: &Event| match event {
        Event::Warning { message } => Some(message.clone()),
        _ => None,
    };
    events.iter().filter_map(warning).collect()
}

async fn status(engine: &Engine, bench: &Bench) -> Deadman {
    engine.status("box", &bench.call()).await.expect("shows").deadman.expect("a dead-man switch")
}

#[tokio::test]
async fn an_image_without_start_scripts_gets_its_watchdog_with_the_acquire() {
    let (with, without) = (Bench::new().await, Bench::new().await);
    let counts = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let watched = |world: &mut World, count: &Arc<AtomicUsize>| {
        let (ssh, commands) = (Arc::clone(&world.ssh), Arc::clone(count));
        world.ssh = Arc::new(Watched { ssh, commands, chatty: false });
    };
    let usual = engine(&with, |world| watched(world, &counts[0]), |_| ());
    acquire(&usual, &with, false).await;
    let bare = engine(
        &without,
        |world| {
            watched(world, &counts[1]);
            no_start_script(world);
        },
        |_| (),
    );
    let lease = acquire(&bare, &without, false).await;
    // It costs no further command, and is not waited for.
    let counts = counts.map(|count| count.load(Ordering::SeqCst));
    assert_eq!(counts[0], counts[1], "commands of an acquire");
    let told = lease.deadman(&without.call()).await;
    assert!(told.armed && told.confirmed, "{told:?}");
    ends_in(told.ends_at.as_ref(), minutes(90));
    ends_in(told.idle_until.as_ref(), minutes(30));
    assert_eq!(warnings(&without), Vec::<String>::new());
    // Nobody had to use it for that, and it is on record.
    let journal = bare.store().journal(&lease.facts().id).await.unwrap().unwrap();
    assert!(journal.deadman.is_some_and(|record| record.seen_at.is_some() && record.why_not.is_none()));
    assert!(status(&bare, &without).await.armed);
}

#[tokio::test]
async fn a_watchdog_that_fell_silent_is_brought_back() {
    let bench = Bench::new().await;
    let engine = bench.engine();
    let lease = acquire(&engine, &bench, false).await;
    assert!(lease.deadman(&bench.call()).await.armed);
    lease.close().await;
    // Dead before its deadline, which then passed: nobody asks for anything.
    kill_watchdog(&bench);
    last_heard(&bench, 400, 100);
    let told = status(&engine, &bench).await;
    assert!(
        !told.armed && told.why_not.as_ref().is_some_and(|why| why.contains("not been heard")),
        "{told:?}"
    );
    let touched = engine.touch("box", None, &bench.call()).await.expect("touches").deadman.expect("told");
    assert!(touched.armed && touched.confirmed, "{touched:?}");
    ends_in(touched.until.as_ref(), minutes(30));
    assert!(!processes(&bench).is_empty());
    kill_watchdog(&bench);
    last_heard(&bench, 400, 4000);
    let opened = engine.open("box", false, &bench.call()).await.expect("opens");
    let told = opened.facts().deadman.clone();
    assert!(told.armed && told.confirmed, "{told:?}");
    assert!(!processes(&bench).is_empty());
}

#[tokio::test]
async fn a_start_looks_whether_the_watchdog_came_back() {
    let bench = Bench::new().await;
    let change = |settings: &mut Settings| (settings.ttl, settings.ttl_explicit) = (minutes(120), true);
    let engine = engine(&bench, no_start_script, change);
    let lease = acquire(&engine, &bench, true).await;
    let before = lease.deadman(&bench.call()).await;
    assert!(before.armed, "{before:?}");
    let action = Some(ReleaseAction::Stop);
    lease.release(action, &bench.call()).await.expect("stops");
    assert_eq!(processes(&bench), Vec::<String>::new());
    // What it said shortly before the stop is no word of now.
    let written = || fs::read_to_string(state(&bench, "report")).unwrap();
    let left = written();
    let request = StartRequest { identifier: "box".into() };
    let started = engine.start(&request, &bench.call()).await.expect("starts");
    let told = started.facts().deadman.clone();
    assert!(told.armed && told.confirmed, "{told:?}");
    assert!(!processes(&bench).is_empty() && written() != left);
    ends_in(told.ends_at.as_ref(), minutes(120));
    let journal = engine.store().journal(&started.facts().id).await.unwrap().unwrap();
    let ends = told.ends_at.as_ref().map(|at| unix(parse_rfc3339(at).unwrap()));
    assert_eq!(journal.deadman.expect("a record").ends_at, ends);
}

/// As if the lease had been made so long ago and its watchdog had never come up.
async fn long_ago(bench: &Bench, engine: &Engine, lease: &Lease, time: Duration) {
    kill_watchdog(bench);
    fs::remove_dir_all(state(bench, "watch").parent().unwrap()).unwrap();
    let (id, before) = (lease.facts().id.clone(), i64::try_from(time.as_secs()).unwrap());
    let mut journal = engine.store().journal(&id).await.unwrap().unwrap();
    for attempt in &mut journal.attempts {
        attempt.started_at -= before;
        attempt.vendor_at = attempt.vendor_at.map(|at| at - before);
    }
    journal.created_at -= before;
    let record = journal.deadman.take().unwrap();
    let (ttl_secs, idle_secs) = (record.ttl_secs, record.idle_secs);
    journal.deadman = Some(DeadmanRecord { ttl_secs, idle_secs, ..DeadmanRecord::default() });
    engine.store().write_journal(&journal).await.unwrap();
    let created = unix(SystemTime::now()) - before;
    let changed = engine.store().update_claim(&id, move |claim| {
        claim.labels.insert("created_at".into(), created.to_string());
        Ok(())
    });
    changed.await.unwrap();
}

#[tokio::test]
async fn an_install_later_on_leaves_the_end_where_it_was() {
    let bench = Bench::new().await;
    // Kept: nothing but its time to live ends it, and a touch has no idle deadline to move.
    let engine = bench.engine_with(|settings| {
        (settings.ttl, settings.ttl_explicit) = (minutes(90), true);
        settings.idle_timeout = minutes(5);
    });
    let lease = acquire(&engine, &bench, true).await;
    assert!(lease.deadman(&bench.call()).await.armed);
    lease.close().await;
    for (age, left) in [(80, 10), (200, 5)] {
        long_ago(&bench, &engine, &lease, minutes(age)).await;
        let told = status(&engine, &bench).await;
        assert!(!told.armed, "{told:?}");
        let touched = engine.touch("box", None, &bench.call()).await.expect("touches");
        let told = touched.deadman.expect("what was never seen is looked for");
        assert!(told.armed && told.idle_until.is_none(), "{told:?}");
        ends_in(told.ends_at.as_ref(), minutes(left));
    }
}

#[tokio::test]
async fn a_watchdog_asks_the_vendor_of_its_lease() {
    let bench = Bench::new().await;
    let lease = acquire(&bench.engine(), &bench, false).await;
    lease.deadman(&bench.call()).await;
    lease.close().await;
    long_ago(&bench, &bench.engine(), &lease, minutes(1)).await;
    // The settings of whoever touches it may name another address by now.
    let other = bench.engine_with(|settings| settings.api_url = "http://127.0.0.1:9/api/v0".into());
    let idle = Some(Duration::from_secs(2));
    let touched = other.touch("box", idle, &bench.call()).await.expect("touches");
    assert!(touched.deadman.is_some_and(|told| told.armed), "{:?}", warnings(&bench));
    for _ in 0..1500 {
        if bench.open_instances() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it asked somebody else");
}

#[tokio::test]
async fn an_adoption_says_what_ends_the_lease() {
    let bench = Bench::new().await;
    let maker = bench.engine();
    let lease = acquire(&maker, &bench, false).await;
    assert!(lease.deadman(&bench.call()).await.armed);
    let instance = lease.facts().instance.to_string();
    lease.close().await;
    // Another machine, on which nothing is known of it.
    let another = |_: ()| {
        let settings = bench.settings();
        fs::remove_dir_all(settings.paths.claims().parent().unwrap()).unwrap();
        assert_eq!(bench.claims(), 0);
    };
    another(());
    let keeper = bench.engine();
    let adopt = |keep| AdoptRequest { identifier: instance.clone(), keep };
    let kept = keeper.adopt(&adopt(true), &bench.call()).await.expect("adopts");
    assert!(kept.claimed && kept.key_attached);
    assert!(!kept.deadman.armed && kept.deadman.confirmed, "{:?}", kept.deadman);
    assert!(kept.deadman.why_not.as_ref().is_some_and(|why| why.contains("no ttl was given")));
    let told = status(&keeper, &bench).await;
    assert!(told.why_not.is_some_and(|why| why.contains("no ttl was given")));
    for _ in 0..1000 {
        if processes(&bench).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(processes(&bench), Vec::<String>::new(), "that of its maker still watches");

    another(());
    let change = |settings: &mut Settings| {
        (settings.ttl, settings.idle_timeout) = (minutes(240), minutes(50));
    };
    let user = bench.engine_with(change);
    let used = user.adopt(&adopt(false), &bench.call()).await.expect("adopts");
    assert!(used.deadman.armed && used.deadman.confirmed, "{:?}", used.deadman);
    ends_in(used.deadman.ends_at.as_ref(), minutes(240));
    ends_in(used.deadman.idle_until.as_ref(), minutes(50));

    // Longer than the maker's, shorter than the maker's: the adoption's counts, also where nobody forgot the journal.
    let forget = ForgetRequest { identifier: "box".into(), yes: true };
    user.forget_claim(&forget, &bench.call()).await.expect("forgets");
    let brief = bench.engine_with(|settings| settings.ttl = minutes(60));
    let again = brief.adopt(&adopt(false), &bench.call()).await.expect("adopts");
    ends_in(again.deadman.ends_at.as_ref(), minutes(60));
    // The claim stays, and so does what it says.
    let present = brief.adopt(&adopt(true), &bench.call()).await.expect("attaches the key");
    assert!(!present.claimed && present.deadman.armed && present.deadman.confirmed, "{:?}", present.deadman);
    let stop = ReleaseRequest { identifier: "box".into(), ..ReleaseRequest::default() };
    brief.release(&stop, &bench.call()).await.expect("releases");
}

#[tokio::test]
async fn a_session_that_never_stops_talking_is_given_up() {
    let bench = Bench::new().await;
    acquire(&bench.engine(), &bench, true).await.close().await;
    let chatty = |world: &mut World| {
        let ssh = Arc::clone(&world.ssh);
        world.ssh = Arc::new(Watched { ssh, commands: Arc::default(), chatty: true });
    };
    let engine = engine(&bench, chatty, |_| ());
    let request =
        RunRequest { identifier: Some("box".into()), ..RunRequest::new(Script::Argv(vec!["true".into()])) };
    let (io, collected) = collect(None);
    let error = engine.run(&request, io, &bench.call()).await.expect_err("no answer");
    collected.await.unwrap();
    assert_eq!((error.code(), error.details()["limit"].clone()), (Code::RemoteControl, (1024 * 1024).into()));
    assert!(error.to_string().contains("before its answer: ..."), "{error}");
}

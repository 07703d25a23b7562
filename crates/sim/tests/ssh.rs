//! Instances as real SSH servers.

mod common;

use common::client::{Http, Output, collect, connect, connected, exec, key, public_line, until};
use common::create_body;
use crabbox_vast_sim::{Options, Running, start};
use russh::keys::PrivateKey;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A simulator that boots at once, with one rented instance.
struct Leased {
    sim: Running,
    http: Http,
    id: u64,
    key: PrivateKey,
    _state: TempDir,
}

impl Leased {
    async fn new(extra: Value) -> Self {
        Self::with(extra, |_| {}).await
    }

    async fn with(extra: Value, change: impl FnOnce(&mut Options)) -> Self {
        let state = tempfile::tempdir().expect("a temporary folder");
        let key = key(1);
        let instant = Duration::from_millis(1);
        let mut options = Options {
            api_latency: Duration::ZERO,
            boot: instant,
            ssh_lag: instant,
            key_lag: instant,
            read_lag: Duration::ZERO,
            list_lag: Duration::ZERO,
            stop_lag: instant,
            destroy_linger: instant,
            rate_limits: false,
            ..Options::demo(state.path())
        };
        change(&mut options);
        let sim = start(options).await.expect("a simulator starts");
        let mut http = Http::open(&sim.url(), Some(sim.api_key())).await;
        let query = json!({"gpu_name": {"eq": "RTX 4090"}, "disk_space": {"gte": 64}, "limit": 1});
        let (_, found) = http.call("POST", "/api/v0/bundles/", query).await;
        let ask = found["offers"][0]["id"].as_u64().expect("an offer");
        let mut body = create_body(json!({"ssh_key": public_line(&key)}));
        body.as_object_mut().expect("an object").extend(extra.as_object().cloned().unwrap_or_default());
        let (_, created) = http.call("PUT", &format!("/api/v0/asks/{ask}/"), body).await;
        let id = created["new_contract"].as_u64().expect("a contract");
        Self { sim, http, id, key, _state: state }
    }

    async fn record(&mut self) -> Value {
        let (_, body) =
            self.http.call("GET", &format!("/api/v0/instances/{}/?owner=me", self.id), Value::Null).await;
        body["instances"].clone()
    }

    /// The proxy's and the direct port, once it runs.
    async fn ports(&mut self) -> (u16, u16) {
        loop {
            let record = self.record().await;
            if let Some(direct) = record["ports"]["22/tcp"][0]["HostPort"].as_str() {
                let proxy = record["ssh_port"].as_u64().expect("a proxy port");
                return (proxy as u16, direct.parse().expect("a port"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn session(&mut self) -> russh::client::Handle<common::client::TrustAll> {
        let (_, direct) = self.ports().await;
        connected(direct, &self.key).await
    }

    async fn destroy(&mut self) {
        let (status, body) =
            self.http.call("DELETE", &format!("/api/v0/instances/{}/", self.id), json!({})).await;
        assert_eq!((status, &body["success"]), (200, &json!(true)), "{body}");
    }
}

#[tokio::test]
async fn streams_apart_and_the_exit_code() {
    let mut leased = Leased::new(json!({})).await;
    let session = leased.session().await;
    let output = exec(&session, "echo out; echo err >&2; exit 7").await;
    assert_eq!(
        output,
        Output { stdout: "out\n".into(), stderr: "err\n".into(), code: Some(7), signal: None }
    );
    let output = exec(&session, "kill -TERM $$").await;
    assert_eq!((output.code, output.signal.as_deref()), (None, Some("TERM")));
    leased.sim.shutdown().await;
}

#[tokio::test]
async fn both_doors_lead_in_and_either_can_be_broken() {
    let mut leased = Leased::new(json!({})).await;
    let (proxy, direct) = leased.ports().await;
    assert_ne!(proxy, direct);
    for port in [proxy, direct] {
        let session = connected(port, &leased.key).await;
        assert_eq!(exec(&session, "echo here").await.stdout, "here\n");
    }
    let path = format!("/_sim/instances/{}", leased.id);
    leased.http.call("POST", &path, json!({"direct": false})).await;
    assert!(connect(direct, &leased.key).await.is_err());
    assert!(connect(proxy, &leased.key).await.expect("the proxy answers").is_some());
    leased.sim.shutdown().await;
}

#[tokio::test]
async fn standard_input_arrives_and_ends() {
    let mut leased = Leased::new(json!({})).await;
    let session = leased.session().await;
    let mut channel = session.channel_open_session().await.expect("a channel");
    channel.exec(true, "tr a-z A-Z; echo done").await.expect("a command");
    channel.data(&b"loud and clear\n"[..]).await.expect("input");
    channel.eof().await.expect("an end");
    assert_eq!(collect(&mut channel).await.stdout, "LOUD AND CLEAR\ndone\n");
    leased.sim.shutdown().await;
}

#[tokio::test]
async fn much_data_goes_both_ways_at_once() {
    let mut leased = Leased::new(json!({})).await;
    let session = leased.session().await;
    let channel = session.channel_open_session().await.expect("a channel");
    channel.exec(true, "cat").await.expect("a command");
    let (mut reading, writing) = tokio::io::split(channel.into_stream());
    let size = 12 * 1024 * 1024;
    let send = async move {
        writing_all(writing, size).await;
    };
    let receive = async {
        let mut buffer = vec![0; 64 * 1024];
        let mut received = 0;
        loop {
            match reading.read(&mut buffer).await.expect("output") {
                0 => return received,
                count => received += count,
            }
        }
    };
    let ((), received) = tokio::join!(send, receive);
    assert_eq!(received, size);
    leased.sim.shutdown().await;
}

async fn writing_all(mut to: impl tokio::io::AsyncWrite + Unpin, size: usize) {
    to.write_all(&vec![b'x'; size]).await.expect("input");
    to.shutdown().await.expect("an end");
}

#[tokio::test]
async fn the_environment_is_the_containers() {
    let mut leased = Leased::new(json!({})).await;
    let session = leased.session().await;
    let mut channel = session.channel_open_session().await.expect("a channel");
    channel.set_env(false, "FROM_CHANNEL", "yes").await.expect("a variable");
    let show = r#"echo $GREETING,$CRABBOX_SIM,$CONTAINER_ID,${#CONTAINER_API_KEY},$FROM_CHANNEL; [ "$PWD" = "$HOME" ] && echo home"#;
    channel.exec(true, show).await.expect("a command");
    let output = collect(&mut channel).await;
    assert_eq!(output.stdout, format!("hello,1,{},64,yes\nhome\n", leased.id));
    assert_eq!(
        exec(&session, "env | grep -c CARGO").await.stdout,
        "0\n",
        "nothing of the host's own leaks in"
    );
    leased.sim.shutdown().await;
}

#[tokio::test]
async fn the_work_root_is_an_absolute_folder_of_the_simulators() {
    let mut leased = Leased::new(json!({})).await;
    let session = leased.session().await;
    let work = leased.sim.work_root().to_owned();
    let output = exec(&session, &format!("mkdir -p {0}/cbx_1 && cd {0}/cbx_1 && pwd", work.display())).await;
    assert_eq!(output.stdout.trim(), work.join("cbx_1").to_string_lossy());
    leased.destroy().await;
    assert!(!work.join("cbx_1").exists(), "the last instance takes the work with it");
    leased.sim.shutdown().await;
    assert!(!work.exists());
}

#[tokio::test]
async fn nvidia_smi_answers_for_the_rented_gpus() {
    let mut leased = Leased::new(json!({})).await;
    let session = leased.session().await;
    let list = exec(&session, "nvidia-smi -L").await.stdout;
    assert!(list.starts_with("GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-"), "{list}");
    let csv = exec(&session, "nvidia-smi --query-gpu=name,memory.total --format=csv").await.stdout;
    assert_eq!(
        csv.lines().take(2).collect::<Vec<_>>(),
        ["name, memory.total [MiB]", "NVIDIA GeForce RTX 4090, 24564 MiB"]
    );
    let bare =
        exec(&session, "nvidia-smi --query-gpu=memory.total,index --format=csv,noheader,nounits -i 0").await;
    assert_eq!(bare.stdout, "24564, 0\n");
    let table = exec(&session, "nvidia-smi").await.stdout;
    assert!(table.contains("NVIDIA GeForce RTX 4090") && table.contains("24564MiB"), "{table}");
    let wrong = exec(&session, "nvidia-smi --query-gpu=colour --format=csv").await;
    assert_eq!(wrong.code, Some(2));
    leased.sim.shutdown().await;
}

#[tokio::test]
async fn a_key_is_refused_until_it_is_attached() {
    let mut leased = Leased::new(json!({})).await;
    let (_, direct) = leased.ports().await;
    connected(direct, &leased.key).await;
    let stranger = key(2);
    assert!(connect(direct, &stranger).await.expect("the server answers").is_none());
    let path = format!("/api/v0/instances/{}/ssh/", leased.id);
    leased.http.call("POST", &path, json!({"ssh_key": public_line(&stranger)})).await;
    connected(direct, &stranger).await;
    leased.sim.shutdown().await;
}

#[tokio::test]
async fn the_start_script_runs_and_may_add_a_key() {
    let late = key(3);
    let script = format!(
        "mkdir -p ~/.ssh && echo '{}' >> ~/.ssh/authorized_keys; echo started; touch marker",
        public_line(&late)
    );
    let mut leased = Leased::new(json!({"onstart": script})).await;
    let (_, direct) = leased.ports().await;
    let session = connected(direct, &late).await;
    until("the marker", async || (exec(&session, "ls").await.stdout == "marker\n").then_some(())).await;
    let (_, body) = leased
        .http
        .call("PUT", &format!("/api/v0/instances/request_logs/{}/", leased.id), json!({"tail": "100"}))
        .await;
    let url = body["result_url"].as_str().expect("a log address").to_owned();
    let path = url[url.find("/s3/").expect("the object store")..].to_owned();
    let log = until("the log", async || {
        let (status, body) = leased.http.raw("GET", &path, &Value::Null).await.expect("an answer");
        (status == 200).then(|| String::from_utf8_lossy(&body).into_owned())
    })
    .await;
    assert!(log.contains("started"), "{log}");
    leased.sim.shutdown().await;
}

fn alive(pid: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

#[tokio::test]
async fn closing_the_channel_kills_the_whole_group() {
    let mut leased = Leased::new(json!({})).await;
    let session = leased.session().await;
    let mut channel = session.channel_open_session().await.expect("a channel");
    channel.exec(true, "sleep 1000 & echo $!; wait").await.expect("a command");
    let Some(child) = first_data(&mut channel).await else { panic!("no child") };
    assert!(alive(&child));
    channel.close().await.expect("a close");
    until("the child's end", async || (!alive(&child)).then_some(())).await;
    leased.sim.shutdown().await;
}

async fn first_data(channel: &mut russh::Channel<russh::client::Msg>) -> Option<String> {
    loop {
        if let russh::ChannelMsg::Data { data } = channel.wait().await? {
            return Some(String::from_utf8_lossy(&data).into_owned());
        }
    }
}

#[tokio::test]
async fn a_signal_reaches_the_group() {
    let mut leased = Leased::new(json!({})).await;
    let session = leased.session().await;
    let mut channel = session.channel_open_session().await.expect("a channel");
    // Short sleeps: a signal that arrives just before the shell forks is only looked at when the child has ended.
    channel
        .exec(true, "trap 'echo caught; exit 3' USR1; echo ready; while :; do sleep 0.05; done")
        .await
        .expect("a command");
    assert_eq!(first_data(&mut channel).await.as_deref(), Some("ready\n"));
    channel.signal(russh::Sig::USR1).await.expect("a signal");
    let output = collect(&mut channel).await;
    assert_eq!((output.stdout.as_str(), output.code), ("caught\n", Some(3)));
    leased.sim.shutdown().await;
}

#[tokio::test]
async fn a_destroyed_instance_leaves_no_process_and_no_file() {
    let mut leased = Leased::new(json!({"onstart": "setsid sleep 1000 & echo $! > daemon"})).await;
    let session = leased.session().await;
    let daemon = until("the daemon", async || {
        let output = exec(&session, "cat daemon").await;
        (output.code == Some(0) && !output.stdout.is_empty()).then_some(output.stdout)
    })
    .await;
    let home = exec(&session, "pwd").await.stdout;
    let left = exec(&session, "nohup setsid sleep 1000 >/dev/null 2>&1 & echo $!").await.stdout;
    assert!(alive(&daemon) && alive(&left));
    leased.destroy().await;
    until("the end of all", async || (!alive(&daemon) && !alive(&left)).then_some(())).await;
    assert!(!Path::new(home.trim()).exists());
    let ledger = leased.sim.ledger();
    assert!(ledger.open.is_empty());
    assert_eq!((ledger.created, ledger.destroyed, ledger.max_concurrent), (1, 1, 1));
    leased.sim.shutdown().await;
}

#[tokio::test]
async fn a_stop_ends_sessions_and_a_start_gives_a_new_port_and_the_same_files() {
    let mut leased = Leased::new(json!({})).await;
    let (proxy, direct) = leased.ports().await;
    let session = connected(direct, &leased.key).await;
    exec(&session, "echo kept > file").await;
    let path = format!("/api/v0/instances/{}/", leased.id);
    leased.http.call("PUT", &path, json!({"state": "stopped"})).await;
    until("the end of the session", async || session.is_closed().then_some(())).await;
    assert!(connect(direct, &leased.key).await.is_err());
    leased.http.call("PUT", &path, json!({"state": "running"})).await;
    let (same_proxy, new_direct) = leased.ports().await;
    assert_eq!(proxy, same_proxy);
    assert_ne!(direct, new_direct);
    let session = connected(new_direct, &leased.key).await;
    assert_eq!(exec(&session, "cat file").await.stdout, "kept\n");
    leased.sim.shutdown().await;
}

#[tokio::test]
async fn a_terminal_has_a_size_and_can_be_resized() {
    let mut leased = Leased::new(json!({})).await;
    let session = leased.session().await;
    let mut channel = session.channel_open_session().await.expect("a channel");
    channel.request_pty(false, "xterm", 101, 37, 0, 0, &[]).await.expect("a terminal");
    channel.exec(true, "stty size; read line; stty size; exit 4").await.expect("a command");
    assert_eq!(first_data(&mut channel).await.as_deref(), Some("37 101\r\n"));
    channel.window_change(90, 20, 0, 0).await.expect("a resize");
    channel.data(&b"go\n"[..]).await.expect("a key");
    let output = collect(&mut channel).await;
    assert!(output.stdout.ends_with("20 90\r\n"), "{output:?}");
    assert_eq!(output.code, Some(4));
    leased.sim.shutdown().await;
}

#[tokio::test]
async fn connections_are_forwarded_and_refusals_too() {
    let mut leased = Leased::new(json!({})).await;
    let session = leased.session().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let echo = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut word = [0; 4];
        socket.read_exact(&mut word).await.expect("a word");
        socket.write_all(&word).await.expect("an echo");
    });
    let channel = session
        .channel_open_direct_tcpip("127.0.0.1", u32::from(port), "127.0.0.1", 1)
        .await
        .expect("a forwarded connection");
    let mut stream = channel.into_stream();
    stream.write_all(b"ping").await.expect("a word");
    let mut word = [0; 4];
    stream.read_exact(&mut word).await.expect("an echo");
    assert_eq!(&word, b"ping");
    echo.await.expect("the echo ends");
    let refused = session.channel_open_direct_tcpip("127.0.0.1", u32::from(port), "127.0.0.1", 1).await;
    assert!(refused.is_err());
    leased.sim.shutdown().await;
}

#[tokio::test]
async fn an_unknown_subsystem_is_refused_at_once() {
    let mut leased = Leased::new(json!({})).await;
    let session = leased.session().await;
    let mut channel = session.channel_open_session().await.expect("a channel");
    channel.request_subsystem(true, "sftp").await.expect("a request");
    loop {
        match channel.wait().await {
            Some(russh::ChannelMsg::Failure) => break,
            Some(russh::ChannelMsg::Success) | None => panic!("no refusal"),
            Some(_) => {}
        }
    }
    leased.sim.shutdown().await;
}

#[tokio::test]
async fn before_the_server_lives_a_connection_is_closed_at_once() {
    let mut leased = Leased::with(json!({}), |options| options.ssh_lag = Duration::from_secs(3600)).await;
    let (proxy, direct) = leased.ports().await;
    for port in [proxy, direct] {
        let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("accepted");
        let mut nothing = Vec::new();
        let _ = socket.read_to_end(&mut nothing).await;
        assert!(nothing.is_empty());
    }
    leased.http.call("POST", "/_sim/advance", json!({"seconds": 3601.0})).await;
    connected(direct, &leased.key).await;
    leased.sim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_systems_own_ssh_gets_in() {
    if std::process::Command::new("ssh").arg("-V").output().is_err() {
        return;
    }
    let mut leased = Leased::new(json!({})).await;
    let (proxy, _) = leased.ports().await;
    connected(proxy, &leased.key).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    leased.key.write_openssh_file(&file, ssh_key::LineEnding::LF).expect("a key file");
    let output = tokio::process::Command::new("ssh")
        .args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
        .args([
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "BatchMode=yes",
            "-o",
            "LogLevel=ERROR",
            "-p",
            &proxy.to_string(),
        ])
        .arg("-i")
        .arg(&file)
        .args(["root@127.0.0.1", "echo out; echo err >&2; exit 7"])
        .output()
        .await
        .expect("ssh runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
    assert_eq!(output.status.code(), Some(7));
    leased.sim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scp_copies_the_old_way_and_fails_at_once_the_new_way() {
    if std::process::Command::new("scp").output().is_err() {
        return;
    }
    let mut leased = Leased::new(json!({})).await;
    let (proxy, _) = leased.ports().await;
    let session = connected(proxy, &leased.key).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    leased.key.write_openssh_file(&file, ssh_key::LineEnding::LF).expect("a key file");
    let copy = async |protocol: &str| {
        let mut command = tokio::process::Command::new("scp");
        command
            .args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-q", protocol])
            .args(["-P", &proxy.to_string(), "-i"])
            .args([&file, &file])
            .arg("root@127.0.0.1:copied");
        let ended = tokio::time::timeout(Duration::from_secs(10), command.output()).await;
        ended.expect("scp ends").expect("scp runs").status.success()
    };
    assert!(copy("-O").await);
    let size = std::fs::metadata(&file).expect("a file").len();
    assert_eq!(exec(&session, "wc -c < copied").await.stdout.trim(), size.to_string());
    assert!(!copy("-s").await);
    leased.sim.shutdown().await;
}

#[tokio::test]
async fn a_demo_is_ready_within_four_seconds() {
    let state = tempfile::tempdir().expect("a folder");
    let sim = start(Options::demo(state.path())).await.expect("a simulator starts");
    let mut http = Http::open(&sim.url(), Some(sim.api_key())).await;
    let (_, found) =
        http.call("POST", "/api/v0/bundles/", json!({"disk_space": {"gte": 64}, "limit": 1})).await;
    let key = key(1);
    let ask = found["offers"][0]["id"].as_u64().expect("an offer");
    let started = std::time::Instant::now();
    let body = create_body(json!({"ssh_key": public_line(&key)}));
    assert_eq!(http.call("PUT", &format!("/api/v0/asks/{ask}/"), body).await.0, 200);
    // The published intervals are enforced, so the list is asked once a second.
    let record = loop {
        tokio::time::sleep(Duration::from_millis(1010)).await;
        let (status, page) = http.call("GET", "/api/v1/instances/", Value::Null).await;
        assert_eq!(status, 200);
        if page["instances"][0]["ports"].is_object() {
            break page["instances"][0].clone();
        }
    };
    let port = record["ports"]["22/tcp"][0]["HostPort"].as_str().and_then(|port| port.parse().ok());
    connected(port.expect("a port"), &key).await;
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    sim.shutdown().await;
}

#[tokio::test]
async fn a_new_simulator_ends_what_a_killed_one_left_behind() {
    let state = tempfile::tempdir().expect("a folder");
    let instances = state.path().canonicalize().expect("a folder").join("instances");
    let mut left = tokio::process::Command::new("sleep")
        .arg("1000")
        .env("CRABBOX_SIM_CONTAINER", instances.join("17"))
        .kill_on_drop(true)
        .spawn()
        .expect("a process");
    let sim = start(Options::demo(state.path())).await.expect("a simulator starts");
    if cfg!(target_os = "linux") {
        let ended = tokio::time::timeout(Duration::from_secs(10), left.wait()).await;
        assert!(!ended.expect("it ends").expect("it is reaped").success());
    }
    sim.shutdown().await;
}

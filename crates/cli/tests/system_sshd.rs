//! Another server that speaks the Vast API, as plainly as one may - no filters, no totals, no mapped ports, numbers as
//! text - and a system `sshd` as the instance.

mod desk;

use desk::{Desk, Done};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

const SSHD: &str = "/usr/sbin/sshd";

struct Instance {
    label: String,
    port: u16,
    sshd: Child,
    keys: PathBuf,
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

#[derive(Default)]
struct Vendor {
    instances: BTreeMap<u64, Instance>,
    created: u64,
}

fn start_sshd(folder: &Path) -> Instance {
    std::fs::create_dir_all(folder).unwrap();
    let host_key = folder.join("host key");
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&host_key).status();
    assert!(made.unwrap().success());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let keys = folder.join("keys");
    std::fs::write(&keys, "").unwrap();
    let config = folder.join("config");
    let text = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey \"{}\"\nAuthorizedKeysFile \"{}\"\nPidFile none\n\
         StrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n",
        host_key.display(),
        keys.display()
    );
    std::fs::write(&config, text).unwrap();
    let sshd =
        Command::new(SSHD).args(["-D", "-e", "-f"]).arg(&config).stderr(Stdio::null()).spawn().unwrap();
    Instance { label: String::new(), port, sshd, keys }
}

fn view(id: u64, instance: &Instance) -> Value {
    json!({"id": id, "label": instance.label, "actual_status": "running", "intended_status": "running",
           "gpu_name": "RTX 3090", "num_gpus": "2", "dph_total": 0.31, "ssh_host": "127.0.0.1",
           "ssh_port": instance.port.to_string()})
}

fn answer(vendor: &Mutex<Vendor>, folder: &Path, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut vendor = vendor.lock().unwrap();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let gone = (404, json!({"success": false, "error": "no_such_instance"}));
    match (method, parts.as_slice()) {
        ("GET", ["api", "v0", "users", "current"]) => (200, json!({"id": 4242, "credit": 10})),
        ("POST", ["api", "v0", "bundles"]) => (
            200,
            json!({"offers": [{"id": 500_001, "gpu_name": "RTX 3090", "num_gpus": 2, "dph_total": 0.31}]}),
        ),
        ("GET", ["api", "v1", "instances"]) => {
            let all: Vec<Value> = vendor.instances.iter().map(|(id, instance)| view(*id, instance)).collect();
            (200, json!({"instances": all, "next_token": null}))
        }
        ("PUT", ["api", "v0", "asks", _]) => {
            vendor.created += 1;
            let id = 700_000 + vendor.created;
            let mut instance = start_sshd(&folder.join(id.to_string()));
            instance.label = body["label"].as_str().unwrap().to_owned();
            vendor.instances.insert(id, instance);
            (200, json!({"success": true, "new_contract": id.to_string()}))
        }
        (_, ["api", "v0", "instances", id, rest @ ..]) => {
            let id: u64 = id.parse().unwrap();
            let Some(instance) = vendor.instances.get_mut(&id) else {
                return if method == "GET" { (200, json!({"instances": null})) } else { gone };
            };
            match (method, rest) {
                ("GET", []) => (200, json!({"instances": view(id, instance)})),
                ("POST", ["ssh"]) => {
                    std::fs::write(&instance.keys, format!("{}\n", body["ssh_key"].as_str().unwrap()))
                        .unwrap();
                    (200, json!({"success": true}))
                }
                ("PUT", []) => {
                    if let Some(label) = body["label"].as_str() {
                        instance.label = label.to_owned();
                    }
                    (200, json!({"success": true}))
                }
                ("DELETE", []) => {
                    vendor.instances.remove(&id);
                    (200, json!({"success": true}))
                }
                _ => (404, json!({"success": false, "error": "unknown"})),
            }
        }
        _ => (404, json!({"success": false, "error": "unknown"})),
    }
}

fn serve(vendor: &Mutex<Vendor>, folder: &Path, stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let (mut length, mut authorised) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        authorised |= line == "authorization: bearer k1";
        if let Some(text) = line.strip_prefix("content-length:") {
            length = text.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = first.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (status, reply) = if authorised {
        answer(vendor, folder, method, path, &body)
    } else {
        (401, json!({"success": false, "error": "auth_error", "msg": "Invalid user key"}))
    };
    let reply = reply.to_string();
    let mut stream = reader.into_inner();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{reply}",
        reply.len()
    )
}

#[test]
fn another_vendor_and_a_system_sshd() {
    if !Path::new(SSHD).exists() {
        eprintln!("no {SSHD} here: nothing is tested");
        return;
    }
    // Where sshd runs as root, it wants this folder for its privilege separation.
    let _ = std::fs::create_dir_all("/run/sshd");
    let desk = Desk::new();
    let vendor: Arc<Mutex<Vendor>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/v0", listener.local_addr().unwrap());
    let (serving, folder) = (Arc::clone(&vendor), desk.folder.path().join("vendor"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (vendor, folder) = (Arc::clone(&serving), folder.clone());
            std::thread::spawn(move || serve(&vendor, &folder, stream));
        }
    });
    let user = Command::new("id").arg("-un").output().unwrap().stdout;
    let user = String::from_utf8(user).unwrap();
    let run = |words: &[&str]| {
        let mut command = desk.command(words);
        command.env("CRABBOX_VAST_API_URL", &url).env("CRABBOX_VAST_API_KEY", "k1");
        command
            .env("CRABBOX_VAST_USER", user.trim())
            .env("CRABBOX_VAST_WORK_ROOT", desk.folder.path().join("work"));
        Done::of(command.output().unwrap())
    };
    let done = run(&["run", "--no-sync", "--", "sh", "-c", "echo out; echo err >&2; pwd; exit 7"]).exits(7);
    assert!(done.stdout.starts_with("out\n") && done.stdout.contains("/work/cbx_"), "{}", done.stdout);
    assert!(done.stderr.lines().any(|line| line == "err"), "{}", done.stderr);
    assert!(vendor.lock().unwrap().instances.is_empty());

    run(&["warmup", "--slug", "plain"]).exits(0);
    assert_eq!(run(&["status", "plain", "--json"]).exits(0).json()["ready"], true);
    assert_eq!(run(&["run", "--id", "plain", "--no-sync", "--", "echo", "again"]).exits(0).stdout, "again\n");
    // the line that `ssh` prints lets the system's own client in
    let line = run(&["ssh", "plain"]).exits(0).stdout;
    let login =
        Command::new("sh").args(["-c", &format!("{} echo in", line.trim())]).stdin(Stdio::null()).output();
    assert_eq!(String::from_utf8_lossy(&login.unwrap().stdout), "in\n");
    run(&["stop", "plain"]).exits(0);
    assert!(vendor.lock().unwrap().instances.is_empty());
}

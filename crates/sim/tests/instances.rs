//! An instance over time: visibility, states, addresses, stop and start, destroy, keys, logs.

mod common;

use common::{Bench, PUBLIC_KEY};
use crabbox_vast_sim::api::{Door, Request, SshAccess};
use serde_json::{Value, json};

fn change(bench: &mut Bench, id: u64, body: Value) -> (u16, Value) {
    bench.call("PUT", &format!("/v0/instances/{id}/"), body)
}

fn listed(bench: &mut Bench) -> u64 {
    bench.get("/v1/instances/").1["total_instances"].as_u64().expect("a total")
}

#[test]
fn a_record_appears_late_and_in_the_list_later() {
    let mut bench = Bench::new();
    let id = bench.rent(json!({}));
    assert!(bench.read(id).is_null());
    assert_eq!(change(&mut bench, id, json!({"label": "early"})).1["error"], "no_such_instance");
    let attach = format!("/v0/instances/{id}/ssh/");
    assert_eq!(bench.call("POST", &attach, json!({"ssh_key": PUBLIC_KEY})).0, 404);
    bench.wait(5.0);
    assert_eq!(bench.read(id)["id"], id);
    assert_eq!(listed(&mut bench), 0);
    bench.wait(3.0);
    assert_eq!(listed(&mut bench), 1);
}

#[test]
fn the_states_come_in_order() {
    let mut bench = Bench::new();
    let id = bench.rent(json!({}));
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..100 {
        let record = bench.wait(0.5).read(id);
        if record.is_null() {
            continue;
        }
        let state = record["actual_status"].as_str().unwrap_or("null").to_owned();
        assert_eq!(record["ports"].is_object(), state == "running", "{record}");
        assert_eq!(record["intended_status"], "running");
        let shown = format!("{state}: {}", record["status_msg"].as_str().unwrap_or("-"));
        if seen.last() != Some(&shown) {
            seen.push(shown);
        }
    }
    assert!(seen.iter().any(|line| line.ends_with(": Pulling fs layer")), "{seen:#?}");
    assert!(seen.iter().any(|line| line.ends_with(": Pull complete")));
    let last = seen.last().map(String::as_str);
    assert_eq!(last, Some("running: success, running nvidia/cuda:12.4.1-runtime-ubuntu22.04/ssh"));
    let record = bench.read(id);
    assert_eq!(record["public_ipaddr"], "127.0.0.1\n");
    assert!(record["ports"]["22/tcp"][0]["HostPort"].is_string());
    assert_eq!(record["ports"]["22/tcp"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_proxy_address_is_there_before_it_is_of_use() {
    let mut bench = Bench::with(|settings| {
        settings.rate_limits = false;
        settings.read_lag = std::time::Duration::ZERO;
    });
    let id = bench.rent(json!({}));
    assert!(bench.wait(1.0).read(id)["ssh_host"].is_null());
    let record = bench.wait(3.0).read(id);
    assert_eq!((&record["actual_status"], &record["ssh_host"]), (&json!("created"), &json!("127.0.0.1")));
    assert!(record["ssh_port"].is_u64());
    assert_eq!(bench.world.ssh_access(bench.now, id, Door::Proxy), SshAccess::Closed);
}

#[test]
fn ssh_is_ready_after_running_and_keys_after_that() {
    let mut bench = Bench::new();
    let id = bench.rent(json!({"ssh_key": PUBLIC_KEY}));
    let access = |bench: &mut Bench| bench.world.ssh_access(bench.now, id, Door::Direct);
    bench.wait(46.0);
    assert_eq!(access(&mut bench), SshAccess::Closed, "running, and nobody listens");
    bench.wait(30.0);
    assert_eq!(access(&mut bench), SshAccess::Open { keys: vec![], refuse_all: false });
    bench.wait(15.0);
    assert_eq!(access(&mut bench), SshAccess::Open { keys: vec![PUBLIC_KEY.to_owned()], refuse_all: false });
}

#[test]
fn stop_is_a_wish_first_and_start_gives_a_new_port() {
    let mut bench = Bench::new();
    let id = bench.rent(json!({}));
    let port = |record: &Value| record["ports"]["22/tcp"][0]["HostPort"].clone();
    let first = port(&bench.wait(50.0).read(id));
    assert_eq!(change(&mut bench, id, json!({"state": "stopped"})), (200, json!({"success": true})));
    let record = bench.wait(1.0).read(id);
    assert_eq!(
        (&record["intended_status"], &record["actual_status"]),
        (&json!("stopped"), &json!("running"))
    );
    let record = bench.wait(5.0).read(id);
    assert_eq!((&record["actual_status"], &record["cur_state"]), (&json!("exited"), &json!("stopped")));
    assert!(record["ports"].is_null());
    assert_eq!(record["instance"]["gpuCostPerHour"], 0.0);
    assert_eq!(change(&mut bench, id, json!({"state": "running"})).1, json!({"success": true}));
    assert_eq!(bench.wait(1.0).read(id)["actual_status"], "exited", "it keeps reading so for a while");
    assert_eq!(bench.wait(6.0).read(id)["actual_status"], "loading");
    let record = bench.wait(20.0).read(id);
    assert_eq!(record["actual_status"], "running");
    assert_ne!(port(&record), first);
}

#[test]
fn a_start_is_queued_while_somebody_has_the_gpu() {
    let mut bench = Bench::new();
    let id = bench.rent(json!({}));
    bench.wait(50.0);
    change(&mut bench, id, json!({"state": "stopped"}));
    bench.wait(10.0);
    bench.control("POST", &format!("/instances/{id}"), json!({"relet": true}));
    let (status, body) = change(&mut bench, id, json!({"state": "running"}));
    assert_eq!((status, &body["success"]), (200, &json!(false)));
    assert_eq!(body["msg"], "Required resources are currently unavailable, state change queued.");
    bench.wait(100.0);
    assert_eq!(bench.read(id)["actual_status"], "exited");
    bench.control("POST", &format!("/instances/{id}"), json!({"relet": false}));
    assert_eq!(bench.wait(30.0).read(id)["actual_status"], "running", "it woke up by itself");
}

#[test]
fn reboot_and_recycle_go_through_their_states() {
    let mut bench = Bench::new();
    let id = bench.rent(json!({}));
    assert_eq!(bench.wait(6.0).call("PUT", &format!("/v0/instances/reboot/{id}/"), json!({})).0, 400);
    bench.wait(50.0);
    for (verb, state) in [("reboot", "rebooting"), ("recycle", "recycling")] {
        assert_eq!(bench.call("PUT", &format!("/v0/instances/{verb}/{id}/"), json!({})).0, 200);
        assert_eq!(bench.read(id)["actual_status"], state);
        assert_eq!(bench.wait(40.0).read(id)["actual_status"], "running");
    }
    let (status, body) = bench.call("PUT", "/v0/instances/reboot/1/", json!({}));
    assert_eq!((status, &body["error"]), (400, &json!("invalid_args")));
}

#[test]
fn destroy_lingers_then_reads_as_an_empty_array_then_as_null() {
    let mut bench = Bench::new();
    let id = bench.rent(json!({}));
    let machine = bench.wait(50.0).read(id)["machine_id"].clone();
    let path = format!("/v0/instances/{id}/");
    assert_eq!(bench.call("DELETE", &path, json!({})).1["success"], true);
    assert_eq!(bench.read(id)["cur_state"], "unloaded");
    assert_eq!(listed(&mut bench), 1);
    let (status, body) = bench.call("DELETE", &path, json!({}));
    assert_eq!((status, &body["error"]), (404, &json!("no_such_instance")));
    assert_eq!(bench.wait(3.5).read(id), json!([]));
    assert_eq!(listed(&mut bench), 0);
    assert!(bench.wait(3.0).read(id).is_null());
    assert_eq!(bench.call("PUT", &path, json!({"state": "stopped"})).1["error"], "no_such_instance");
    let back = bench.offers(json!({"machine_id": {"eq": machine}}));
    assert_eq!(back.len(), 1);
    assert!(back[0]["id"].as_u64() > Some(21_000_000), "the machine is back under a new offer");
}

#[test]
fn a_destroy_works_before_the_record_shows() {
    let mut bench = Bench::new();
    let id = bench.rent(json!({}));
    assert_eq!(bench.call("DELETE", &format!("/v0/instances/{id}/"), json!({})).0, 200);
    assert!(bench.world.ledger().open.is_empty());
    assert!(bench.wait(60.0).read(id).is_null());
}

#[test]
fn labels_can_be_set_and_are_bounded() {
    let mut bench = Bench::new();
    let id = bench.rent(json!({}));
    bench.wait(6.0);
    let (status, body) = change(&mut bench, id, json!({"label": "cbx1|lease|slug|ready"}));
    assert_eq!((status, &body["success"]), (200, &json!(true)));
    assert!(body["msg"].is_string());
    assert_eq!(bench.read(id)["label"], "cbx1|lease|slug|ready");
    assert_eq!(change(&mut bench, id, json!({"label": "x".repeat(1025)})).1["error"], "label_too_long");
}

#[test]
fn keys_come_as_a_string_and_are_attached_once() {
    let mut bench = Bench::new();
    let id = bench.rent(json!({}));
    bench.wait(6.0);
    let path = format!("/v0/instances/{id}/ssh/");
    assert_eq!(bench.call("POST", &path, json!({"ssh_key": "/root/.ssh/id"})).0, 400);
    assert_eq!(bench.call("POST", &path, json!({"ssh_key": PUBLIC_KEY})).1["success"], true);
    let (status, body) =
        bench.call("POST", &path, json!({"ssh_key": PUBLIC_KEY.replace("lease", "other comment")}));
    assert_eq!(status, 200);
    assert_eq!(body, json!({"success": false, "msg": "SSH key already associated with instance."}));
    let keys = bench.get(&path).1["ssh_keys"].as_str().map(str::to_owned).expect("a string");
    let keys: Value = serde_json::from_str(&keys).expect("JSON in the string");
    assert_eq!(keys[0]["public_key"], PUBLIC_KEY);
    let key = keys[0]["id"].as_u64().expect("a key id");
    assert_eq!(bench.call("DELETE", &format!("{path}{key}/"), Value::Null).0, 200);
    assert_eq!(bench.call("DELETE", &format!("{path}{key}/"), Value::Null).1["error"], "no_such_ssh_key");
}

#[test]
fn account_keys_go_to_instances_created_later() {
    let mut bench = Bench::new();
    assert_eq!(bench.get("/v0/ssh/").0, 404);
    let (_, body) = bench.call("POST", "/v0/ssh/", json!({"ssh_key": PUBLIC_KEY}));
    let key = body["key"]["id"].as_u64().expect("a key id");
    assert_eq!(bench.get("/v0/ssh/").1[0]["public_key"], PUBLIC_KEY);
    let id = bench.rent(json!({}));
    bench.wait(100.0);
    let open = SshAccess::Open { keys: vec![PUBLIC_KEY.to_owned()], refuse_all: false };
    assert_eq!(bench.world.ssh_access(bench.now, id, Door::Proxy), open);
    assert_eq!(bench.call("DELETE", &format!("/v0/ssh/{key}/"), Value::Null).0, 200);
    assert_eq!(bench.call("DELETE", &format!("/v0/ssh/{key}/"), Value::Null).1["error"], "no_ssh_key");
}

#[test]
fn logs_are_xml_errors_until_they_are_there() {
    let mut bench = Bench::new();
    let (status, body) = bench.call("PUT", "/v0/instances/request_logs/1/", json!({"tail": "10"}));
    assert_eq!((status, body), (404, json!({"error": "invalid_id", "msg": "Invalid instance id."})));
    let id = bench.rent(json!({}));
    bench.wait(50.0);
    let (_, body) = bench.call("PUT", &format!("/v0/instances/request_logs/{id}/"), json!({"tail": "10"}));
    let url = body["result_url"].as_str().expect("an address");
    let path = url.strip_prefix("http://127.0.0.1:0").expect("the same server");
    let fetch = Request::new("GET", path);
    let early = [bench.send(&fetch), bench.send(&fetch)];
    assert_eq!(early.each_ref().map(|reply| reply.status), [403, 404]);
    assert!(early[0].body.starts_with(b"<?xml"));
    let log = bench.wait(4.0).send(&fetch);
    assert_eq!(log.status, 200);
    assert!(String::from_utf8_lossy(&log.body).contains("success, running"));
}

#[test]
fn commands_are_three_and_only_for_stopped_instances() {
    let mut bench = Bench::new();
    let id = bench.rent(json!({}));
    bench.wait(50.0);
    let path = format!("/v0/instances/command/{id}/");
    assert_eq!(bench.call("PUT", &path, json!({"command": "reboot"})).1["msg"], "Invalid command given.");
    assert_eq!(bench.call("PUT", &path, json!({"command": "ls"})).0, 400);
    change(&mut bench, id, json!({"state": "stopped"}));
    let (status, body) = bench.wait(10.0).call("PUT", &path, json!({"command": "du -d2 -h"}));
    assert_eq!(status, 200);
    assert!(body["result_url"].is_string());
    assert_eq!(bench.call("PUT", &path, Value::Null).0, 483);
}

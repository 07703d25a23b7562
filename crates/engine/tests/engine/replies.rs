//! Every shape in which the API is known to answer, and every body in which it is known to refuse.

use crabbox_vast_engine::lease::{AccountId, InstanceId};
use crabbox_vast_engine::vast::failure::judge;
use crabbox_vast_engine::vast::instance::{StartFault, start_fault};
use crabbox_vast_engine::vast::{EndpointKind, Instance, Kind, decode};
use crabbox_vast_engine::world::HttpReply;
use serde_json::{Value, json};

fn reply(status: u16, body: &str) -> HttpReply {
    HttpReply { status, body: body.to_owned().into(), ..HttpReply::default() }
}

fn kind(status: u16, body: &str) -> Kind {
    judge("GET /x/", &reply(status, body), "").expect_err(body).kind
}

#[test]
fn refusals_are_told_by_their_body() {
    let cases: &[(u16, &str, Kind)] = &[
        (404, r#"{"success":false,"error":"auth_error","msg":"Invalid user key"}"#, Kind::BadKey),
        (401, r#"{"success":false,"msg":"Invalid user key"}"#, Kind::BadKey),
        (401, r#"{"success":false,"error":"auth","msg":"please log in"}"#, Kind::BadKey),
        (401, r#"{"msg":"This action requires Two Factor Authentication"}"#, Kind::TwoFactor),
        (404, r#"{"msg":"Session expired. Please log in again."}"#, Kind::TwoFactor),
        (403, r#"{"msg":"Your key lacks the instance_write permission group"}"#, Kind::Scope),
        (401, r#"{"msg":"Your key lacks the instance_read permission group"}"#, Kind::Scope),
        (403, r#"{"success":false,"error":"forbidden","msg":"Forbidden"}"#, Kind::Forbidden),
        (403, "{}", Kind::Forbidden),
        (
            400,
            r#"{"success":false,"error":"insufficient_credit","msg":"Your account lacks credit; see the billing page."}"#,
            Kind::NoCredit,
        ),
        (400, r#"{"success":false,"error":"missing_billing"}"#, Kind::NoCredit),
        (411, r#"{"success":false,"msg":"Insufficient credit"}"#, Kind::NoCredit),
        (400, r#"{"success":false,"error":"spend_rate_limit"}"#, Kind::SpendLimit),
        (
            400,
            r#"{"success":false,"error":"invalid_args","msg":"error 404/3603: no_such_ask  Instance type by id 7 is not available.","ask_id":7}"#,
            Kind::OfferGone,
        ),
        (
            410,
            r#"{"success":false,"error":"no_such_ask","msg":"error 410/3907: no_such_ask Instance type 7 is no longer available."}"#,
            Kind::OfferGone,
        ),
        (
            200,
            r#"{"success":false,"msg":"error 404/3603: no_such_ask  Instance type by id 7 is not available."}"#,
            Kind::OfferGone,
        ),
        (403, r#"{"error":"invalid_args","msg":"error 403/3586: Offer 7 is not your own"}"#, Kind::OfferGone),
        (
            400,
            r#"{"error":"invalid_args","msg":"error 400/3471: Invalid args: len(image) > 1024, or len(args) > 16384, or len(label) > 256"}"#,
            Kind::Rejected,
        ),
        (
            400,
            r#"{"error":"invalid_args","msg":"invalid env arguments, total length > 32KB"}"#,
            Kind::Rejected,
        ),
        (400, r#"{"error":"invalid_price"}"#, Kind::BadPrice),
        (400, r#"{"msg":"Please set a bid price >= 0.001."}"#, Kind::BadPrice),
        (500, r#"{"error":"server_error","msg":"Something went wrong on the server"}"#, Kind::Unavailable),
        (
            404,
            r#"{"success":false,"error":"no_such_instance","msg":"No such instance"}"#,
            Kind::NoSuchInstance,
        ),
        (404, r#"{"error":"not_found"}"#, Kind::NoSuchInstance),
        (404, r#"{"error":"invalid_id","msg":"Invalid instance id."}"#, Kind::NoSuchInstance),
        (400, r#"{"error":"invalid_request","msg":"dph_total is not a valid search key"}"#, Kind::Rejected),
        (
            410,
            r#"{"success":false,"error":"deprecated_endpoint","msg":"/api/v0/instances/ is deprecated."}"#,
            Kind::Deprecated,
        ),
        (400, r#"{"error":"team_ssh_keys_not_supported"}"#, Kind::Rejected),
        (
            200,
            r#"{"success":false,"msg":"Required resources are currently unavailable, state change queued."}"#,
            Kind::Rejected,
        ),
        (429, "API requests too frequent", Kind::RateLimited),
        (429, "API requests too frequent: endpoint threshold=4.5", Kind::RateLimited),
        (429, r#"{"detail":"API requests too frequent endpoint threshold=4.5"}"#, Kind::RateLimited),
        (
            429,
            r#"{"success":false,"error":"rate_limit_exceeded","msg":"API requests too frequent endpoint threshold=3.0"}"#,
            Kind::RateLimited,
        ),
        (502, "<html><body>Bad Gateway</body></html>", Kind::Unavailable),
        (200, "<!DOCTYPE html><html></html>", Kind::Unavailable),
        (404, "<html>not here</html>", Kind::Unavailable),
        (504, "", Kind::Unavailable),
        (408, "{}", Kind::Unavailable),
        (200, "", Kind::Malformed),
        (200, r#"{"instances": ["#, Kind::Malformed),
        (404, "404 page not found", Kind::Rejected),
    ];
    for (status, body, expected) in cases {
        assert_eq!(kind(*status, body), *expected, "{status} {body}");
    }
}

#[test]
fn only_definite_refusals_prove_that_nothing_was_created() {
    for (status, body, nothing) in [
        (400, r#"{"error":"insufficient_credit"}"#, true),
        (410, r#"{"error":"no_such_ask"}"#, true),
        (422, "{}", true),
        (400, r#"{"error":"insufficient_credit","new_con"#, false),
        (400, r#"{"error":"invalid_args","new_contract":5}"#, false),
        (429, "API requests too frequent", false),
        (409, "{}", false),
        (500, "{}", false),
        (200, "<html>", false),
        (200, "", false),
    ] {
        let failure = judge("PUT /asks/1/", &reply(status, body), "").expect_err(body);
        assert_eq!(failure.proves_nothing_created(), nothing, "{status} {body}");
    }
    let refused = judge("PUT /asks/1/", &reply(200, r#"{"success":false,"new_contract":"41"}"#), "");
    assert_eq!(refused.expect_err("refused").new_contract, Some(InstanceId(41)));
}

#[test]
fn accounts_offers_and_creates() {
    assert_eq!(decode::account(&json!({"id": "7", "credit": null})).map(|a| a.id), Ok(AccountId(7)));
    assert!(decode::account(&json!({"id": 0})).is_err() && decode::account(&json!({})).is_err());
    let offer = json!({"id": 3, "dph_total": "0.5", "gpu_name": "RTX 4090", "num_gpus": 2.0});
    for body in [json!({ "offers": [offer] }), json!({ "bundles": [offer] }), json!([offer])] {
        let offers = decode::offers(&body).expect("a list");
        assert_eq!((offers[0].id.0, offers[0].dph_total, offers[0].gpu_count), (3, Some(0.5), 2));
    }
    assert!(decode::offers(&json!({"success": true})).is_err(), "a search without a list is no empty one");
    for (body, id) in [
        (json!({"success": true, "new_contract": 9}), Some(9)),
        (json!({"new_contract": "9"}), Some(9)),
        (json!({"instance": {"id": 9}}), Some(9)),
        (json!({"success": true}), None),
    ] {
        assert_eq!(decode::created(&body), Ok(id.map(InstanceId)), "{body}");
    }
}

#[test]
fn one_instance_is_there_absent_or_not_understood() {
    let there = |body: Value| decode::instance(&body).map(|found| found.map(|instance| instance.id.0));
    for body in [
        json!({"instances": {"id": 5}}),
        json!({"instances": [{"id": "5"}]}),
        json!({"instance": {"contract_id": 5}}),
        json!({"id": 5}),
    ] {
        assert_eq!(there(body.clone()), Ok(Some(5)), "{body}");
    }
    assert_eq!(there(json!({"instances": null})), Ok(None));
    assert_eq!(there(json!({"instances": []})), Ok(None));
    for body in
        [json!({}), json!(null), json!({"instances": {}}), json!({"instances": [{"id": 1}, {"id": 2}]})]
    {
        assert!(there(body.clone()).is_err(), "{body}");
    }
}

#[test]
fn pages_and_keys() {
    let page = decode::page(&json!({"instances": [{"id": 1}], "next_token": "t", "total_instances": 26}));
    let page = page.expect("a page");
    assert_eq!((page.instances.len(), page.next.as_deref(), page.total), (1, Some("t"), Some(26)));
    assert!(decode::page(&json!({"instances": null})).is_ok_and(|page| page.instances.is_empty()));
    assert!(
        decode::page(&json!({"success": true})).is_err()
            && decode::page(&json!({"instances": [{}]})).is_err()
    );
    let keys = [
        json!([{"id": 1, "public_key": "k"}]),
        json!({"ssh_keys": "[{\"id\": 1, \"public_key\": \"k\"}]"}),
        json!({"ssh_keys": [{"id": 1, "key": "k"}]}),
    ];
    for body in keys {
        let found = decode::keys(&body).expect("keys");
        assert_eq!(found, ["k"], "{body}");
    }
    assert!(decode::keys(&json!({"ssh_keys": "no"})).is_err());
}

#[test]
fn endpoints_come_from_ports_and_relay() {
    let instance = |raw: Value| Instance::read(&raw).expect("an id").endpoints();
    let both = instance(json!({
        "id": 1, "public_ipaddr": "10.0.0.1\n", "ports": {"22/tcp": [{"HostIp": "::", "HostPort": "4022"}]},
        "ssh_host": "ssh5.vast.ai", "ssh_port": 31836, "image_runtype": "jupyter_direc ssh_proxy"
    }));
    assert_eq!((both[0].kind, both[0].host.as_str(), both[0].port), (EndpointKind::Direct, "10.0.0.1", 4022));
    assert_eq!((both[1].kind, both[1].port), (EndpointKind::Proxy, 31837));
    for raw in [
        json!({"id": 1, "ports": null, "public_ipaddr": "10.0.0.1", "ssh_host": null}),
        json!({"id": 1, "ports": {}, "public_ipaddr": null}),
        json!({"id": 1, "ports": [22], "ssh_host": "h"}),
        json!({"id": 1, "ssh_host": "h", "ssh_port": 70000}),
    ] {
        assert!(instance(raw.clone()).is_empty(), "{raw}");
    }
}

#[test]
fn start_faults_by_their_words() {
    assert_eq!(start_fault("manifest for x/y:z not found"), Some(StartFault::Image));
    assert_eq!(start_fault("toomanyrequests: pull rate"), Some(StartFault::Image));
    assert_eq!(start_fault("x: OCI runtime create failed: y"), Some(StartFault::Host));
    assert_eq!(start_fault("no space left on device"), Some(StartFault::Host));
    assert_eq!(start_fault("success, running image/ssh"), None);
}

/// The registry could not be reached: nothing is known of the image. What the registry answered is about the image.
#[test]
fn a_registry_out_of_reach_is_the_hosts_fault() {
    let unresolved = "failed to resolve reference \"docker.io/library/ubuntu:24.04\": ";
    let host = [
        "failed to do request: Head \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: i/o timeout",
        "failed to do request: Head \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io on 127.0.0.53:53: server misbehaving",
        "failed to do request: Head \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host",
        "failed to do request: Head \"https://ghcr.io/v2/\": dial tcp 140.82.121.34:443: i/o timeout",
    ];
    let image = [
        "docker.io/library/ubuntu:24.04: not found",
        "pulling from host registry-1.docker.io failed: 429 toomanyrequests",
    ];
    for (words, fault) in [(&host[..], StartFault::Host), (&image[..], StartFault::Image)] {
        for text in words {
            assert_eq!(start_fault(&format!("{unresolved}{text}")), Some(fault), "{text}");
            assert_eq!(
                start_fault(&format!("{text}; {unresolved}")),
                Some(fault),
                "the other way round: {text}"
            );
        }
    }
    // A name that no resolver knows is a mistake in the image's name, unless it is a registry that is known to exist.
    let misnamed = "failed to resolve reference \"regisrty.example/a:1\": dial tcp: lookup regisrty.example: no such host";
    assert_eq!(start_fault(misnamed), Some(StartFault::Image));
    assert_eq!(start_fault("manifest unknown; retried: dial tcp: i/o timeout"), Some(StartFault::Image));
    assert_eq!(start_fault("dial tcp: i/o timeout, then: pull access denied"), Some(StartFault::Image));
}

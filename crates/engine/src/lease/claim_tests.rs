//! Tests of the claim record.

use super::*;
use crate::lease::{AccountId, LeaseId, ReleaseAction, labels};
use std::time::{Duration, UNIX_EPOCH};

const STEM: &str = "cbx_0a1b2c3d4e5f";

/// A claim file in crabbox's spelling: head fields, then labels.
fn file(head: &str, changed: &[(&str, &str)], without: &[&str]) -> String {
    let mut all: labels::Labels = [
        ("class", "beast"),
        ("crabbox", "true"),
        ("created_at", "1787400000"),
        ("created_by", "crabbox"),
        ("expires_at", "1787401800"),
        ("idle_timeout", "1800"),
        ("idle_timeout_secs", "1800"),
        ("keep", "false"),
        ("last_touched_at", "1787400000"),
        ("lease", STEM),
        ("profile", "default"),
        ("provider", "vast"),
        ("provider_key", "crabbox-cbx-0a1b2c3d4e5f"),
        ("release_action", "destroy"),
        ("server_type", "unknown"),
        ("slug", "blue-krill"),
        ("state", "ready"),
        ("target", "linux"),
        ("ttl_secs", "5400"),
        ("vast_account_id", "7"),
        ("vast_api_url", "https://api.example/v0"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    all.extend(changed.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    all.retain(|key, _| !without.contains(&key.as_str()));
    let labels: Vec<_> = all.iter().map(|(key, value)| format!("    \"{key}\": \"{value}\"")).collect();
    format!("{{\n  \"leaseID\": \"{STEM}\",\n{head}  \"labels\": {{\n{}\n  }}\n}}\n", labels.join(",\n"))
}

const HEAD: &str = r#"  "revision": "00112233445566778899aabbccddeeff",
  "slug": "blue-krill",
  "provider": "vast",
  "cloudID": "31415926",
  "repoRoot": "/src/model",
  "claimedAt": "2026-08-22T12:00:05Z",
  "lastUsedAt": "2026-08-22T12:00:05Z",
  "idleTimeoutSeconds": 1800,
  "sshHost": "ssh9.example",
  "sshPort": 40022,
"#;
const KEYED: &[(&str, &str)] =
    &[("provider_key_id", "99"), ("provider_key_owned", "true"), ("vast_offer_id", "271828")];

fn ambiguous() -> String {
    let head = r#"  "revision": "00112233445566778899aabbccddeeff",
  "slug": "blue-krill",
  "provider": "vast",
  "repoRoot": "/src/model",
  "claimedAt": "2026-08-22T12:00:00Z",
  "lastUsedAt": "2026-08-22T12:00:00Z",
  "idleTimeoutSeconds": 1800,
"#;
    file(head, &[("state", "ambiguous-create"), ("recovery", "ambiguous-create"), ("keep", "true")], &[])
}

#[test]
fn every_kind_of_claim_round_trips_byte_for_byte() {
    let stopped: Vec<_> =
        KEYED.iter().copied().chain([("state", "stopped"), ("release_action", "stop")]).collect();
    let rollback: Vec<_> = KEYED[..2]
        .iter()
        .copied()
        .chain([("state", "rollback-cleanup"), ("recovery", "rollback-cleanup")])
        .collect();
    let escaped = HEAD.replace("/src/model", r#"/a \u003cb\u003e \u0026 \u2028\u2029 \u0001\t\\ \" é 日"#);
    for text in [
        file(HEAD, KEYED, &[]),
        file(HEAD, &stopped, &[]),
        file(HEAD, &rollback, &[]),
        ambiguous(),
        file(&escaped, KEYED, &[]),
    ] {
        let claim = Claim::decode(STEM, text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(claim.encode()).unwrap(), text);
        assert!(claim.is_vast() && claim.extra.is_empty());
    }
}

#[test]
fn the_intent_is_the_unclear_create_of_crabbox() {
    let plan = LabelPlan {
        lease: LeaseId::parse(STEM).unwrap(),
        slug: Slug::normalise("blue-krill").unwrap(),
        keep: true,
        profile: "default".into(),
        class: "beast".into(),
        ttl: labels::DEFAULT_TTL,
        idle_timeout: labels::DEFAULT_IDLE_TIMEOUT,
        release_action: ReleaseAction::Destroy,
        account: AccountId(7),
        api_url: "https://api.example/v0".into(),
        created_at: 1_787_400_000,
        offer: Some(crate::lease::OfferId(1)),
        pond: None,
        exposed_ports: Vec::new(),
        state: "ready",
        recovery: None,
    };
    let mut claim = Claim::intent(&plan, "/src/model", UNIX_EPOCH + Duration::from_secs(1_787_400_000));
    claim.revision = Some("00112233445566778899aabbccddeeff".into());
    assert_eq!(String::from_utf8(claim.encode()).unwrap(), ambiguous());
    assert_eq!((claim.instance_id(), claim.recovery()), (None, Some("ambiguous-create")));
    let grouped = LabelPlan { pond: Slug::normalise("Big Pond"), exposed_ports: vec![80, 8080], ..plan };
    let claim = Claim::intent(&grouped, "/src/model", UNIX_EPOCH);
    assert_eq!((claim.pond.as_str(), claim.label(key::POND)), ("big-pond", Some("big-pond")));
    assert_eq!(claim.label(key::EXPOSED_PORTS), Some("80-8080"));
}

#[test]
fn a_group_is_told_by_its_member_and_without_one_by_its_label() {
    let mut claim = Claim::default();
    assert_eq!(claim.pond(), None);
    claim.labels.insert(key::POND.into(), "Of Label".into());
    assert_eq!(claim.pond(), Slug::normalise("of-label"));
    claim.pond = "Of Member".into();
    assert_eq!(claim.pond(), Slug::normalise("of-member"));
}

/// Whole numbers beyond 64 bits are floats, and a float is read to the last bit.
#[test]
fn numbers_of_others_stay_what_they_are() {
    let odd = [
        "-9999999999999999999999999999999999999999999999999999999999999990",
        "0.29813333333333336",
        "5e-324",
    ];
    for number in
        odd.into_iter().chain(["1.7976931348623157e308", "18446744073709551616", "122.416294033786585"])
    {
        let claim = Claim::decode(STEM, format!("{{\"later\": {{\"x\": {number}}}}}").as_bytes()).unwrap();
        let read = claim.extra["later"]["x"].as_f64();
        assert_eq!(read, number.parse().ok(), "{number}");
        assert_eq!(Claim::decode(STEM, &claim.encode()).unwrap(), claim, "{number}");
    }
}

#[test]
fn all_fields_keep_their_order_and_unknown_ones_come_last() {
    let text = format!(
        "{{\n  \"leaseID\": \"{STEM}\",\n{}  \"labels\": {{\n    \"a\": \"\",\n    \"b\": \"2\"\n  }},\n  \"fixedCreateIntent\": {{\n    \"version\": 1,\n    \"fingerprint\": \"f\",\n    \"attempt\": {{}}\n  }},\n  \"zeta\": [\n    1\n  ],\n  \"alpha\": null\n}}\n",
        r#"  "revision": "r",
  "slug": "s",
  "provider": "other",
  "cloudID": "c",
  "cloudNumericID": -5,
  "cloudImmutableID": "i",
  "providerScope": "p",
  "staticHost": "h",
  "staticUser": "u",
  "staticPort": "22",
  "staticWorkRoot": "/w",
  "targetOS": "windows",
  "windowsMode": "wsl",
  "pond": "big",
  "repoRoot": "",
  "claimedAt": "",
  "lastUsedAt": "",
  "idleTimeoutSeconds": 9223372036854775807,
  "tailscaleIPv4": "100.64.0.1",
  "tailscaleFQDN": "f",
  "tailscaleHostname": "n",
  "tailscaleTags": [
    "tag:x",
    ""
  ],
  "tailscaleLoginURL": "l",
  "tailscaleExitNode": "e",
  "tailscaleExitLAN": true,
  "sshHost": "h",
  "sshPort": 1,
  "bridgeURL": "b",
  "coordinatorRegistrationURL": "c",
  "runtimeAdapterRegistrationID": "r",
  "runtimeAdapterPendingRegistrationID": "q",
  "cacheVolumes": [
    "k:/p"
  ],
"#
    );
    let claim = Claim::decode(STEM, text.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(claim.encode()).unwrap(), text);
    assert_eq!(claim.extra.len(), 2);
    assert!(!claim.is_vast());
}

#[test]
fn what_crabbox_tolerates() {
    let claim = Claim::decode(
        STEM,
        br#" {"LEASEID":"cbx_0a1b2c3d4e5f","Slug":"A b","\u017f\u017fhHo\u017ft":"h","sshport":null,"CLOUDID":"12","labels":{"x":null},"revision":""} "#,
    )
    .unwrap();
    assert_eq!((claim.ssh_host.as_str(), claim.ssh_port, claim.revision), ("h", 0, None));
    assert_eq!(claim.slug, "A b");
    assert_eq!(claim.labels["x"], "");
    assert_eq!(Claim::decode(STEM, b"{}").unwrap().lease_id, STEM);
}

#[test]
fn what_makes_a_claim_unreadable() {
    for (bytes, code) in [
        (&b""[..], "invalid_json"),
        (b"null", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b"{} x", "invalid_json"),
        (b"{}{}", "invalid_json"),
        (b"{\"slug\":\"\xff\"}", "invalid_json"),
        (br#"{"sshPort":123.0}"#, "invalid_json"),
        (br#"{"sshPort":"22"}"#, "invalid_json"),
        (br#"{"sshPort":1e3}"#, "invalid_json"),
        (br#"{"idleTimeoutSeconds":9223372036854775808}"#, "invalid_json"),
        (br#"{"labels":{"a":1}}"#, "invalid_json"),
        (br#"{"labels":{"a":true}}"#, "invalid_json"),
        (br#"{"labels":[]}"#, "invalid_json"),
        (br#"{"slug":1}"#, "invalid_json"),
        (br#"{"leaseID":"cbx_ffffffffffff"}"#, "lease_id_mismatch"),
    ] {
        let problem = Claim::decode(STEM, bytes).unwrap_err();
        assert_eq!(problem.code, code, "{}", String::from_utf8_lossy(bytes));
        assert_eq!(problem.file, "cbx_0a1b2c3d4e5f.json");
    }
    assert_eq!(Claim::decode("a:b", b"{}").unwrap_err().code, "invalid_filename");
}

#[test]
fn reading_single_facts() {
    let mut claim = Claim::decode(STEM, file(HEAD, KEYED, &["state"]).as_bytes()).unwrap();
    assert_eq!(claim.instance_id(), Some(InstanceId(31_415_926)));
    assert_eq!(claim.endpoint(), Some(("ssh9.example", 40022)));
    assert_eq!((claim.state(), claim.recovery()), ("", None));
    claim.ssh_port = 70_000;
    assert_eq!(claim.endpoint(), None);
    claim.set_instance(InstanceId(5));
    assert_eq!(claim.cloud_id, "5");
    for (name, ours) in [("vast", true), ("Vast-AI", true), ("vastai", true), ("aws", false), ("", false)] {
        claim.provider = name.into();
        assert_eq!(claim.is_vast(), ours, "{name}");
    }
}

#[test]
fn slug_and_state_are_those_of_the_file() {
    let claim = Claim::decode(STEM, file(HEAD, KEYED, &[]).as_bytes()).unwrap();
    assert_eq!(claim.slug(), Slug::normalise("blue-krill"));
    assert_eq!(claim.state(), "ready");
    assert_eq!(Claim::decode_named(STEM, file(HEAD, KEYED, &[]).as_bytes()).unwrap(), claim);
    let nameless = Claim::decode_named(STEM, b"{\"leaseID\": \"\"}").unwrap_err();
    assert_eq!(nameless.code, "empty_lease_id");
    assert_eq!(Claim::default().state(), "");
}

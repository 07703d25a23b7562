//! What `config show` prints.

use super::*;

#[test]
fn config_show_prints_crabboxs_lines() {
    let desk = Desk::new();
    desk.user("provider: vast\nvast: {maxDphTotal: 0.98765, gpuName: RTX 4090}\n");
    let resolved = desk.load().unwrap();
    let home = desk.folder.path().display().to_string();
    let shown = show_text(&resolved).unwrap().replace(&home, "~");
    let mut lines: Vec<&str> = shown.lines().collect();
    // What stands there grows with the table of settings.
    let own = lines.remove(lines.iter().position(|line| line.starts_with("lease ")).unwrap());
    for word in ["ttl=1h30m0s idle_timeout=30m0s", "boot_timeout=20m0s", "ssh_timeout=2m0s"] {
        assert!(own.contains(word), "{own}");
    }
    assert_eq!(
        lines.join("\n"),
        "\
config=~/.config/crabbox/config.yaml
provider=vast provider_selected=true provider_source=user target=linux arch=amd64 os=- windows_mode=normal class=beast \
type= profile=default
ssh=root@<host>:22 fallback_ports=- key=~/.ssh/id_ed25519
sync delete=true checksum=false git_seed=true fingerprint=true base_ref=- excludes=35 includes=0 timeout=15m0s
env allow=CI,NODE_OPTIONS
run preflight_tools=-
vast api_url=https://console.vast.ai/api/v0 instance_type=ondemand gpu_name=RTX 4090 gpu_count=0 \
image=nvidia/cuda:12.8.1-cudnn-devel-ubuntu22.04 template_id=- runtype=ssh_direct disk_gb=20 \
max_dph_total=0.9877 min_reliability=0 order=dlperf_per_dphtotal desc user=root work_root=/work/crabbox \
release_action=destroy auth=missing"
    );
    let document = show_json(&resolved).unwrap();
    assert_eq!(document["vast"]["maxDphTotal"], 0.98765);
    assert_eq!(document["vast"]["minReliability"].to_string(), "0");
    assert_eq!(document["providerSource"], "user");
    let sorted = |value: &serde_json::Value| {
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        keys.is_sorted()
    };
    assert!(sorted(&document) && sorted(&document["vast"]) && sorted(&document["env"]), "{document}");
    for (member, value) in [
        ("providerSelected", json!(true)),
        ("providerScope", json!("")),
        ("idempotentLeaseId", json!(false)),
        ("sshUser", json!("root")),
        ("sshPort", json!("22")),
        ("sshFallbackPorts", json!(null)),
        ("workRoot", json!("/work/crabbox")),
        ("env", json!({"allow": ["CI", "NODE_OPTIONS"]})),
    ] {
        assert_eq!(document[member], value, "{member}");
    }
    for member in [
        "apiUrl",
        "auth",
        "instanceType",
        "gpuName",
        "gpuCount",
        "image",
        "templateId",
        "runtype",
        "diskGB",
        "maxDphTotal",
        "minReliability",
        "order",
        "user",
        "workRoot",
        "releaseAction",
    ] {
        assert!(document["vast"].get(member).is_some(), "{member}: {document}");
    }
    assert!(document["sync"].is_object() && document["run"].is_object());
}

#[test]
fn an_explicit_generic_ssh_user_wins_and_is_shown() {
    let mut desk = Desk::new();
    desk.user("ssh: {user: ubuntu}\nvast: {user: other}\n");
    let text = show_text(&desk.load().unwrap()).unwrap();
    assert!(text.contains("\nssh=ubuntu@<host>:22 ") && text.contains(" user=ubuntu "), "{text}");
    let document = show_json(&desk.load().unwrap()).unwrap();
    assert_eq!((&document["sshUser"], &document["vast"]["user"]), (&json!("ubuntu"), &json!("ubuntu")));
    desk.var("CRABBOX_SSH_USER", "fromenv").flag("user", "flagged");
    assert_eq!(desk.settings().user, "fromenv", "a flag for vast.user does not change that");
}

#[test]
fn the_document_shows_every_setting() {
    let plain = show_json(&Desk::new().load().unwrap()).unwrap();
    for setting in SETTINGS.iter().filter(|setting| setting.kind != Kind::Secret) {
        let other = match setting.kind {
            Kind::Word([_]) => continue,
            Kind::Word(words) => match words.iter().find(|(_, meaning)| *meaning != setting.default) {
                Some((word, _)) => (*word).to_owned(),
                None => continue,
            },
            Kind::Url => "https://other.test/api/v0".to_owned(),
            Kind::Count => "7".to_owned(),
            Kind::Number(_) => "0.5".to_owned(),
            Kind::Duration => "7m".to_owned(),
            Kind::Order => "dph_total asc".to_owned(),
            Kind::Switch => (setting.default != "true").to_string(),
            Kind::Ports => "8080,80".to_owned(),
            Kind::List | Kind::Patterns => "one,two".to_owned(),
            _ => "other".to_owned(),
        };
        let mut desk = Desk::new();
        desk.overrides.set(setting.key, other, OverrideOrigin::Option).unwrap();
        // Only the folder differs otherwise.
        let home = desk.folder.path().display().to_string();
        let shown = show_json(&desk.load().unwrap()).unwrap();
        let same = |document: &serde_json::Value| {
            let mut document = document.clone();
            for member in ["config", "sshKey"] {
                if document[member]
                    .as_str()
                    .is_some_and(|path| path.starts_with(&home) || path.contains("/."))
                {
                    document[member] = json!(null);
                }
            }
            document
        };
        assert_ne!(same(&shown), same(&plain), "{} is not shown: {shown}", setting.key);
    }
}

#[test]
fn lists_are_lists_and_origins_tell_since_when() {
    let mut desk = Desk::new();
    desk.overrides.set("syncExclude", "a,b", OverrideOrigin::Option).unwrap();
    desk.overrides.set("expose", "8080,80", OverrideOrigin::Option).unwrap();
    let resolved = desk.load().unwrap();
    let document = show_json(&resolved).unwrap();
    assert_eq!(document["sync"]["exclude"], json!(["a", "b"]));
    assert_eq!((&document["sync"]["include"], &document["expose"]), (&json!([]), &json!([80, 8080])));
    assert_eq!((&document["pond"], &document["sync"]["allowMassDeletions"]), (&json!(""), &json!(false)));
    let origins = origins_json(&resolved);
    assert_eq!(origins["syncExclude"]["value"], json!(["a", "b"]));
    for setting in SETTINGS {
        assert_eq!(origins[setting.key]["since"], setting.since, "{}", setting.key);
    }
}

#[test]
fn a_key_is_there_whoever_gives_it() {
    let mut desk = Desk::new();
    assert!(!has_api_key(&desk.snapshot(), &desk.overrides));
    desk.overrides.set("apiKey", CANARY, OverrideOrigin::Option).unwrap();
    assert!(has_api_key(&desk.snapshot(), &desk.overrides));
    for name in ["CRABBOX_VAST_API_KEY", "VAST_API_KEY"] {
        let mut desk = Desk::new();
        desk.var(name, " ");
        assert!(!has_api_key(&desk.snapshot(), &desk.overrides), "{name}");
        desk.var(name, CANARY);
        assert!(has_api_key(&desk.snapshot(), &desk.overrides), "{name}");
    }
}

#[test]
fn a_duration_of_a_call_is_read_without_files() {
    let mut overrides = Overrides::new();
    assert_eq!(overrides.duration("idleTimeout").unwrap(), None);
    overrides.set("idleTimeout", "90s", OverrideOrigin::Option).unwrap();
    assert_eq!(overrides.duration("idleTimeout").unwrap(), Some(std::time::Duration::from_secs(90)));
    overrides.set("idleTimeout", "0s", OverrideOrigin::Option).unwrap();
    assert_eq!(overrides.duration("idleTimeout").unwrap_err().code(), Code::InvalidConfig);
}

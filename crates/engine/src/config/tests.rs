//! Layers, trust and output of a whole configuration.

use super::*;
use crate::lease::{DollarsPerHour, ReleaseAction};
use crate::{Code, Error};
use secrecy::ExposeSecret;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

const CANARY: &str = "canary-3f9a1c7be204";

/// A home with a repository in it, and what a skin would hand over.
struct Desk {
    folder: tempfile::TempDir,
    vars: BTreeMap<String, String>,
    overrides: Overrides,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("repo/.git")).unwrap();
        fs::write(folder.path().join("repo/.git/HEAD"), "ref: refs/heads/main\n").unwrap();
        let home = folder.path().display().to_string();
        let vars = [("HOME".to_owned(), home.clone()), ("AppData".to_owned(), format!("{home}/.config"))];
        Desk { folder, vars: vars.into(), overrides: Overrides::new() }
    }

    fn repo(&self) -> PathBuf {
        fs::canonicalize(self.folder.path().join("repo")).unwrap()
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn user(&self, text: &str) -> &Self {
        self.write(".config/crabbox/config.yaml", text)
    }

    fn var(&mut self, name: &str, value: &str) -> &mut Self {
        self.vars.insert(name.into(), value.into());
        self
    }

    fn flag(&mut self, key: &str, value: &str) -> &mut Self {
        self.overrides.set(key, value, OverrideOrigin::Flag).unwrap();
        self
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { vars: self.vars.clone(), cwd: self.repo() }
    }

    fn load(&self) -> crate::Result<Resolved> {
        Resolved::load_on(&self.snapshot(), &self.overrides, directories::Platform::Unix)
    }

    fn settings(&self) -> Settings {
        self.load().unwrap().settings().unwrap()
    }

    fn error(&self) -> Error {
        self.load().unwrap_err()
    }

    fn value(&self, key: &str) -> (String, &'static str) {
        let resolved = self.load().unwrap();
        let value = resolved.value(key).unwrap();
        (value.text.clone(), value.origin.word())
    }
}

#[test]
fn each_layer_wins_over_the_ones_below() {
    let mut desk = Desk::new();
    let image = |desk: &Desk| desk.value("image");
    assert_eq!(image(&desk), ("nvidia/cuda:12.8.1-cudnn-devel-ubuntu22.04".to_owned(), "default"));
    desk.user("vast: {image: user}");
    assert_eq!(image(&desk), ("user".to_owned(), "user"));
    desk.write("repo/crabbox.yaml", "vast:\n  image: visible\n");
    assert_eq!(image(&desk), ("visible".to_owned(), "repository"));
    desk.write("repo/.crabbox.yaml", "vast: {image: hidden}");
    assert_eq!(image(&desk), ("hidden".to_owned(), "repository"));
    desk.var("CRABBOX_VAST_IMAGE", " environment ");
    assert_eq!(image(&desk), ("environment".to_owned(), "environment"));
    desk.flag("image", "flag");
    assert_eq!(image(&desk), ("flag".to_owned(), "flag"));
    desk.overrides.set("image", "option", OverrideOrigin::Option).unwrap();
    assert_eq!(image(&desk), ("option".to_owned(), "option"));
    desk.flag("image", "");
    assert_eq!(image(&desk), ("nvidia/cuda:12.8.1-cudnn-devel-ubuntu22.04".to_owned(), "flag"));
}

#[test]
fn an_origin_names_file_and_line() {
    let desk = Desk::new();
    desk.write("repo/crabbox.yaml", "# remark\nvast:\n  diskGB: 50\n");
    let resolved = desk.load().unwrap();
    let origin = resolved.value("diskGB").unwrap().origin.to_string();
    assert_eq!(origin, format!("{}:3", desk.repo().join("crabbox.yaml").display()));
    assert!(
        origins_text(&resolved).contains(&format!("\ndiskGB=50  # repository {origin}\n")),
        "{}",
        origins_text(&resolved)
    );
    assert_eq!(origins_json(&resolved)["diskGB"]["value"], 50);
    assert_eq!(origins_json(&resolved)["image"]["source"], "default");
}

#[test]
fn nothing_in_a_file_or_variable_is_nothing() {
    let mut desk = Desk::new();
    desk.user(
        "vast: {image: mine, diskGB: 40, maxDphTotal: 0.5, minReliability: 0.9, gpuName: H100}\nttl: 2h\n",
    );
    desk.write(
        "repo/crabbox.yaml",
        "vast: {image: '', diskGB: 0, minReliability: 0, gpuName: ''}\nttl: 0s\n",
    );
    desk.var("CRABBOX_VAST_IMAGE", "  ").var("CRABBOX_VAST_GPU_NAME", "");
    let settings = desk.settings();
    assert_eq!((settings.image.as_str(), settings.disk_gb), ("mine", 40));
    assert_eq!(settings.min_reliability, 0.0, "an explicit zero counts where zero is a value");
    assert_eq!(settings.max_dph_total, Some(DollarsPerHour(0.5)));
    assert_eq!(settings.gpu_name.as_deref(), Some("H100"));
    assert_eq!(settings.ttl.as_secs(), 7200);
    desk.flag("gpuName", "").flag("diskGB", "0").flag("maxDphTotal", "0");
    let settings = desk.settings();
    assert_eq!((settings.gpu_name, settings.disk_gb, settings.max_dph_total), (None, 20, None));
}

#[test]
fn lease_section_wins_over_the_top_level() {
    let desk = Desk::new();
    desk.user("lease: {ttl: 3h}\nttl: 2h\nidleTimeout: 10m\n");
    let settings = desk.settings();
    assert_eq!((settings.ttl.as_secs(), settings.idle_timeout.as_secs()), (10_800, 600));
    assert!(settings.ttl_explicit);
}

#[test]
fn an_explicit_file_is_the_only_one() {
    let mut desk = Desk::new();
    desk.user("vast: {image: user}").write("repo/crabbox.yaml", "vast: {image: repo}");
    desk.write("elsewhere/mine.yaml", "vast: {diskGB: 33, allowRepositoryPolicy: true}");
    let path = desk.folder.path().join("elsewhere/mine.yaml").display().to_string();
    desk.var("CRABBOX_CONFIG", &path);
    assert_eq!(desk.value("diskGB"), ("33".to_owned(), "user"));
    assert_eq!(desk.value("image").1, "default");
    desk.var("CRABBOX_CONFIG", "../elsewhere/missing.yaml");
    assert_eq!(desk.value("diskGB").1, "default");
    desk.var("CRABBOX_CONFIG", "crabbox.yaml");
    assert_eq!(desk.value("image"), ("repo".to_owned(), "repository"));
}

#[cfg(unix)]
#[test]
fn an_explicit_file_that_leads_into_the_repository_is_the_repositorys() {
    let mut desk = Desk::new();
    desk.write("repo/evil.yaml", "vast: {apiUrl: 'https://evil.test'}");
    let link = desk.folder.path().join("link.yaml");
    std::os::unix::fs::symlink(desk.repo().join("evil.yaml"), &link).unwrap();
    desk.var("CRABBOX_CONFIG", &link.display().to_string()).var("VAST_API_KEY", CANARY);
    assert_eq!(desk.error().code(), Code::CredentialDestination);
}

#[test]
fn the_key_comes_from_the_environment_or_a_node_option() {
    let mut desk = Desk::new();
    desk.user("vast: {apiKey: from-a-file}\n");
    assert!(desk.settings().api_key.is_none());
    desk.var("VAST_API_KEY", "second");
    let key = |desk: &Desk| desk.settings().api_key.unwrap().expose_secret().to_owned();
    assert_eq!(key(&desk), "second");
    desk.var("CRABBOX_VAST_API_KEY", " first ");
    assert_eq!(key(&desk), "first");
    desk.var("CRABBOX_VAST_API_KEY", "");
    assert_eq!(key(&desk), "second");
    desk.overrides.set("apiKey", "third", OverrideOrigin::Option).unwrap();
    assert_eq!(key(&desk), "third");
    let error = desk.overrides.set("apiKey", CANARY, OverrideOrigin::Flag).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(!format!("{error:?}").contains(CANARY));
    assert!(desk.overrides.set("nonsense", "", OverrideOrigin::Option).is_err());
}

#[test]
fn the_key_is_never_shown() {
    let mut desk = Desk::new();
    desk.var("VAST_API_KEY", CANARY);
    let resolved = desk.load().unwrap();
    let settings = resolved.settings().unwrap();
    let mut optional = Overrides::new();
    optional.set("apiKey", CANARY, OverrideOrigin::Option).unwrap();
    let shown = [
        show_text(&resolved).unwrap(),
        show_json(&resolved).unwrap().to_string(),
        origins_text(&resolved),
        origins_json(&resolved).to_string(),
        format!("{resolved:?} {settings:?} {optional:?} {:?}", desk.snapshot()),
    ];
    for text in shown {
        assert!(!text.contains(CANARY), "{text}");
    }
    assert!(show_text(&resolved).unwrap().trim_end().ends_with("auth=configured"));
    assert!(origins_text(&resolved).contains("apiKey=configured  # environment VAST_API_KEY\n"));
}

#[test]
fn a_repository_does_not_choose_who_receives_the_key() {
    let mut desk = Desk::new();
    desk.write("repo/.crabbox.yaml", "vast: {apiUrl: 'https://console.vast.ai/api/v0'}");
    assert_eq!(desk.value("apiUrl").1, "repository", "no key, no refusal");
    desk.var("VAST_API_KEY", "key");
    let error = desk.error();
    assert_eq!((error.code(), error.exit_code()), (Code::CredentialDestination, 2));
    assert_eq!(
        error.to_string(),
        "provider=vast refuses repository-configured vast.apiUrl with inherited credentials; set CRABBOX_VAST_API_URL \
         or --vast-api-url to explicitly approve the credential destination"
    );
    assert!(error.hint_text().unwrap().contains(".crabbox.yaml:1 would receive"), "{error:?}");
    desk.var("CRABBOX_VAST_API_URL", "https://approved.test/");
    assert_eq!(desk.settings().api_url, "https://approved.test");
    desk.vars.remove("CRABBOX_VAST_API_URL");
    desk.flag("apiUrl", "https://flag.test");
    assert_eq!(desk.settings().api_url, "https://flag.test");

    let mut own = Desk::new();
    own.user("vast: {apiUrl: 'https://mine.test//'}");
    own.var("VAST_API_KEY", "key");
    assert_eq!(own.settings().api_url, "https://mine.test");
}

#[test]
fn a_repository_does_not_raise_the_bid() {
    let desk = Desk::new();
    desk.write("repo/crabbox.yaml", "vast: {instanceType: interruptible, bid: 90}");
    let refused = desk.error();
    assert!(refused.to_string().contains("the lowest that wins"), "{refused}");
    desk.user("vast: {bid: 0.4}");
    desk.write("repo/crabbox.yaml", "vast: {instanceType: interruptible, bid: 0.3}");
    assert!(desk.load().is_ok());
}

#[test]
fn a_repository_does_not_loosen_the_cap() {
    let mut desk = Desk::new();
    for (own, repository, fine) in [
        ("0.5", "0.4", true),
        ("0.5", "0.5", true),
        ("0.5", "0.6", false),
        ("0.5", "0", false),
        ("0", "0.6", true),
        ("0", "0", true),
    ] {
        desk.user(&format!("vast: {{maxDphTotal: {own}}}"));
        desk.write("repo/crabbox.yaml", &format!("vast: {{maxDphTotal: {repository}}}"));
        match desk.load() {
            Ok(_) => assert!(fine, "{own} {repository}"),
            Err(error) => {
                assert!(!fine, "{own} {repository}: {error}");
                assert_eq!(error.code(), Code::InvalidConfig);
                assert!(error.to_string().contains("vast.maxDphTotal"), "{error}");
                assert!(error.hint_text().unwrap().contains("allowRepositoryPolicy"));
            }
        }
    }
    desk.user("vast: {maxDphTotal: 0.5}");
    desk.write("repo/crabbox.yaml", "vast: {maxDphTotal: 0}");
    desk.var("CRABBOX_VAST_MAX_DPH_TOTAL", "0.7");
    assert_eq!(desk.settings().max_dph_total, Some(DollarsPerHour(0.7)));
    desk.vars.remove("CRABBOX_VAST_MAX_DPH_TOTAL");
    desk.user("vast: {maxDphTotal: 0.5, allowRepositoryPolicy: true}");
    assert_eq!(desk.settings().max_dph_total, None);
}

#[test]
fn a_repository_does_not_weaken_the_release() {
    let mut desk = Desk::new();
    for (own, repository, fine) in [
        ("destroy", "delete", true),
        ("destroy", "stop", false),
        ("destroy", "keep", false),
        ("stop", "keep", false),
        ("keep", "stop", true),
        ("keep", "destroy", true),
    ] {
        desk.user(&format!("vast: {{releaseAction: {own}}}"));
        desk.write("repo/crabbox.yaml", &format!("vast: {{releaseAction: {repository}}}"));
        assert_eq!(desk.load().is_ok(), fine, "{own} {repository}");
    }
    desk.user("").write("repo/crabbox.yaml", "vast: {releaseAction: keep}");
    assert!(desk.error().to_string().contains("vast.releaseAction"));
    desk.flag("releaseAction", "stop");
    let settings = desk.settings();
    assert_eq!((settings.release_action, settings.release_action_explicit), (ReleaseAction::Stop, true));
    let mut desk = Desk::new();
    desk.var("CRABBOX_VAST_ALLOW_REPOSITORY_POLICY", "true");
    desk.write("repo/crabbox.yaml", "vast: {releaseAction: keep}");
    assert_eq!(desk.settings().release_action, ReleaseAction::Keep);
    assert!(!Desk::new().settings().release_action_explicit);
}

#[test]
fn a_repository_does_not_grant_itself_the_permission() {
    let desk = Desk::new();
    desk.write("repo/crabbox.yaml", "vast: {allowRepositoryPolicy: true, maxDphTotal: 0}");
    let error = desk.error();
    assert_eq!(error.code(), Code::InvalidConfig);
    assert!(error.to_string().contains("your own configuration"), "{error}");
}

#[test]
fn a_wrong_value_is_named_with_its_place() {
    let mut desk = Desk::new();
    desk.var("CRABBOX_VAST_GPU_COUNT", "two");
    let error = desk.error();
    assert_eq!((error.code(), error.exit_code()), (Code::InvalidConfig, 2));
    assert_eq!(
        error.to_string(),
        "vast.gpuCount must be a whole number, not \"two\" (from CRABBOX_VAST_GPU_COUNT)"
    );
    desk.flag("gpuCount", "2");
    assert_eq!(desk.settings().gpu_count, 2, "what is overridden is not checked");
    desk.flag("diskGB", "-5");
    assert_eq!(desk.error().to_string(), "vast.diskGB must not be negative, but is -5 (from --vast-disk-gb)");
    let desk = Desk::new();
    desk.write("repo/crabbox.yaml", "vast:\n  order: dph_total upwards\n");
    assert!(desk.error().to_string().ends_with("crabbox.yaml:2)"), "{}", desk.error());
}

#[test]
fn another_provider_is_refused() {
    let mut desk = Desk::new();
    assert_eq!(desk.value("provider"), ("vast".to_owned(), "default"));
    desk.user("provider: aws");
    let error = desk.error();
    assert_eq!(error.code(), Code::InvalidConfig);
    assert!(error.hint_text().unwrap().contains("only does vast"), "{error:?}");
    desk.var("CRABBOX_PROVIDER", "VastAI");
    assert_eq!(desk.value("provider"), ("vast".to_owned(), "environment"));
    desk.flag("provider", "vast-ai");
    assert_eq!(desk.value("provider"), ("vast".to_owned(), "flag"));
}

#[test]
fn user_and_work_root_follow_from_two_settings() {
    let desk = Desk::new();
    desk.user("ssh: {user: ubuntu}\nworkRoot: /generic\n");
    let settings = desk.settings();
    assert_eq!((settings.user.as_str(), settings.work_root.as_str()), ("ubuntu", "/generic"));
    desk.write("repo/crabbox.yaml", "vast: {user: other, workRoot: /own}\n");
    let settings = desk.settings();
    assert_eq!((settings.user.as_str(), settings.work_root.as_str()), ("ubuntu", "/own"));
}

#[test]
fn the_wire_spelling_of_a_gpu() {
    let mut desk = Desk::new();
    desk.flag("gpuName", "RTX_4090");
    assert_eq!(desk.settings().gpu_name.as_deref(), Some("RTX 4090"));
    assert_eq!(desk.value("gpuName").0, "RTX_4090");
}

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
fn every_rule_of_validation_names_its_setting() {
    for (key, bad, complaint) in [
        ("apiUrl", "console.vast.ai", "vast.apiUrl must be an absolute URL"),
        ("apiUrl", "https://user@vast.test", "vast.apiUrl must not contain user info"),
        ("apiUrl", "https://vast.test/?a=b", "vast.apiUrl must not contain a query or a fragment"),
        ("apiUrl", "https://vast.test/#a", "vast.apiUrl must not contain a query or a fragment"),
        ("apiUrl", "ftp://vast.test", "vast.apiUrl must use http or https"),
        ("apiUrl", "http://vast.test", "vast.apiUrl must use https unless it targets localhost"),
        ("instanceType", "reserved", "vast.instanceType must be ondemand, interruptible"),
        ("runtype", "jupyter", "vast.runtype must be ssh_direct"),
        ("gpuCount", "-1", "vast.gpuCount must not be negative"),
        ("diskGB", "-1", "vast.diskGB must not be negative"),
        ("maxDphTotal", "-0.5", "vast.maxDphTotal must not be negative"),
        ("maxDphTotal", "NaN", "vast.maxDphTotal must be a number"),
        ("minReliability", "1.5", "vast.minReliability must be a number from 0 to 1"),
        ("minReliability", "-0.5", "vast.minReliability must not be negative"),
        ("releaseAction", "pause", "vast.releaseAction must be destroy, stop, keep"),
        ("order", "a b c", "vast.order must be of the form"),
    ] {
        let mut by_flag = Desk::new();
        by_flag.flag(key, bad);
        let mut by_variable = Desk::new();
        by_variable.var(setting(key).unwrap().env[0], bad);
        let by_file = Desk::new();
        by_file.user(&format!("vast: {{{key}: \"{bad}\"}}"));
        for desk in [by_flag, by_variable, by_file] {
            let error = desk.error();
            assert_eq!((error.code(), error.exit_code()), (Code::InvalidConfig, 2), "{key}={bad}: {error}");
            assert!(error.to_string().starts_with(complaint), "{key}={bad}: {error}");
            assert!(error.hint_text().is_some(), "{error}");
        }
    }
    for fine in ["", "destroy", "delete", "stop", "keep"] {
        let mut desk = Desk::new();
        desk.flag("releaseAction", fine);
        assert!(desk.load().is_ok(), "{fine}");
    }
}

#[test]
fn files_that_are_no_yaml_are_named_and_unknown_keys_are_not() {
    let desk = Desk::new();
    desk.user("vast: [");
    let error = desk.error();
    assert_eq!((error.code(), error.exit_code()), (Code::InvalidConfig, 2));
    assert!(error.to_string().contains("config.yaml line 1"), "{error}");
    desk.user("aws: {region: x}\nvast: {nonsense: 1, diskGB: 30}\n");
    assert_eq!(desk.settings().disk_gb, 30);
}

#[test]
fn the_table_is_sound() {
    let mut seen = std::collections::BTreeSet::new();
    for setting in SETTINGS {
        for name in std::iter::once(&setting.key).chain(setting.env).chain(&setting.flag) {
            assert!(seen.insert((name.starts_with("--"), *name)) || *name == setting.key, "{name} twice");
        }
        assert!(!setting.help.is_empty() && !setting.help.ends_with('.'), "{}", setting.key);
    }
    let table = settings_markdown();
    assert_eq!(table.lines().count(), SETTINGS.len() + 2);
    assert!(table.contains(
        "| `maxDphTotal` | `vast.maxDphTotal` | `CRABBOX_VAST_MAX_DPH_TOTAL` | `--vast-max-dph-total` | `0` $/h | \
         Price cap of the instance with its disk; 0 means no cap |\n"
    ));
    assert!(
        table.contains("| `apiKey` | - | `CRABBOX_VAST_API_KEY`, `VAST_API_KEY` | - | - | Vast.ai API key")
    );
    for line in table.lines() {
        assert_eq!(line.replace("\\|", "").matches('|').count(), 7, "{line}");
    }
}

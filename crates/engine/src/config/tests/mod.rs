//! Layers, trust and output of a whole configuration.

mod shown;
mod trust;

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
        self.load().and_then(|resolved| resolved.settings()?.may_spend()).unwrap_err()
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
    assert!(!settings.max_cost_explicit, "nobody spoke of it");
    desk.flag("gpuName", "").flag("diskGB", "0").flag("maxDphTotal", "0").flag("maxCost", "0");
    let settings = desk.settings();
    assert_eq!((settings.gpu_name, settings.disk_gb, settings.max_dph_total), (None, 20, None));
    assert_eq!((settings.max_cost, settings.max_cost_explicit), (None, true));
}

#[test]
fn lease_section_wins_over_the_top_level() {
    let desk = Desk::new();
    desk.user("lease: {ttl: 3h}\nttl: 2h\nidleTimeout: 10m\n");
    let settings = desk.settings();
    assert_eq!((settings.ttl.as_secs(), settings.idle_timeout.as_secs()), (10_800, 600));
    assert!(settings.ttl_explicit);
}

/// A cap that is misspelt would be none.
#[test]
fn what_is_no_setting_is_told_with_what_was_meant() {
    let desk = Desk::new();
    desk.user("vast: {maxDphTotl: 0.1, diskgb: 20, gpu: red, canary-3f9a1c7be204: }").write(
        "repo/crabbox.yaml",
        "vast: {apiKey: canary-3f9a1c7be204, image: x}\nlease: {tll: 1h, of-crabbox: 1}",
    );
    let notes = desk.settings().notes;
    let told = |number: usize, text: &str| notes.get(number).is_some_and(|note| note.ends_with(text));
    assert!(told(0, "`vast.maxDphTotl` is no setting; did you mean `vast.maxDphTotal`?"), "{notes:?}");
    assert!(told(1, "did you mean `vast.diskGB`?"), "{notes:?}");
    assert!(
        told(2, "config.yaml: 2 of the names below `vast` are no settings and have no effect"),
        "{notes:?}"
    );
    assert!(
        told(3, "crabbox.yaml: `vast.apiKey` is no setting; a key is taken from the environment only"),
        "{notes:?}"
    );
    assert!(told(4, "crabbox.yaml: `lease.tll` is no setting; did you mean `lease.ttl`?"), "{notes:?}");
    assert_eq!(notes.len(), 5, "{notes:?}");
    assert!(!notes.concat().contains(CANARY));
    // At the top of a file it would be none either; other names there are crabbox's.
    desk.user("Vast: {maxDphTotal: 0.1}\nmax_dph_total: 0.1\nprofile: x\nimage: y")
        .write("repo/crabbox.yaml", "ttl: 20m");
    let notes = desk.settings().notes;
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].ends_with("`Vast` is no setting; did you mean `vast`?"), "{notes:?}");
    assert!(notes[1].ends_with("did you mean `vast.maxDphTotal`?"), "{notes:?}");
    desk.user("vast: {maxDphTotal: 0.1}").write("repo/crabbox.yaml", "");
    assert_eq!(desk.settings().notes, Vec::<String>::new());
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
    let notes = desk.settings().notes;
    assert!(matches!(&notes[..], [one] if one.contains("missing.yaml, which is not there")), "{notes:?}");
    desk.var("CRABBOX_CONFIG", "crabbox.yaml");
    assert_eq!(desk.value("image"), ("repo".to_owned(), "repository"));
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

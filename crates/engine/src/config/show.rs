//! What `config show` prints: crabbox's lines and keys, and where each value came from.

use super::{Kind, Resolved, SETTINGS, Setting, Value};
use crate::Result;
use crate::sync::excludes::BUILT_IN_COUNT;
use serde_json::{Map, Value as Json, json};

/// The places that crabbox's `vast` line shows; what else stands below `vast` in a file is ours.
const CRABBOX_VAST: [&str; 15] = [
    "apiUrl",
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
    "auth",
];

/// The lines of `config show`: crabbox's, with a line of ours before the last.
///
/// # Errors
/// None that a loaded configuration can cause.
pub fn show_text(resolved: &Resolved) -> Result<String> {
    let text = |key: &str| resolved.text(key);
    let blank = |key: &str| Ok::<_, crate::Error>(dash(resolved.text(key)?));
    let provider = resolved.value("provider")?;
    let items = |key: &str| Ok::<_, crate::Error>(super::check::items(&resolved.text(key)?).count());
    let own: Vec<String> = own_settings()
        .filter_map(|setting| {
            Some((snake_case(setting.key), dash(resolved.values.get(setting.key)?.text.clone())))
        })
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    Ok(format!(
        "config={}\n\
         provider={} provider_selected=true provider_source={} target=linux arch=amd64 os=- windows_mode=normal class={} \
         type= profile={}\n\
         ssh={}@<host>:22 fallback_ports=- key={}\n\
         sync delete={} checksum={} git_seed={} fingerprint={} base_ref={} excludes={} includes={} timeout={}\n\
         env allow={}\n\
         run preflight_tools=-\n\
         lease ttl={} idle_timeout={} {}\n\
         vast api_url={} instance_type={} gpu_name={} gpu_count={} image={} template_id={} runtype={} disk_gb={} \
         max_dph_total={} min_reliability={} order={} user={} work_root={} release_action={} auth={}\n",
        resolved.user_file.display(),
        provider.text,
        provider.origin.word(),
        text("class")?,
        text("profile")?,
        resolved.user()?,
        resolved.ssh_key()?.display(),
        text("syncDelete")?,
        text("syncChecksum")?,
        text("syncGitSeed")?,
        text("syncFingerprint")?,
        blank("syncBaseRef")?,
        BUILT_IN_COUNT + items("syncExclude")?,
        items("syncInclude")?,
        text("syncTimeout")?,
        blank("envAllow")?,
        text("ttl")?,
        text("idleTimeout")?,
        own.join(" "),
        text("apiUrl")?,
        text("instanceType")?,
        blank("gpuName")?,
        text("gpuCount")?,
        text("image")?,
        blank("templateId")?,
        text("runtype")?,
        text("diskGB")?,
        four_digits(resolved.parsed("maxDphTotal")?),
        four_digits(resolved.parsed("minReliability")?),
        text("order")?,
        resolved.user()?,
        resolved.work_root()?,
        text("releaseAction")?,
        text("apiKey")?,
    ))
}

/// The document of `config show --json`; keys are in alphabetical order at every level.
///
/// # Errors
/// None that a loaded configuration can cause.
pub fn show_json(resolved: &Resolved) -> Result<Json> {
    let text = |key: &str| resolved.text(key);
    let provider = resolved.value("provider")?;
    let allow: Vec<String> = super::check::items(&text("envAllow")?).map(str::to_owned).collect();
    let shown = |key: &'static str| {
        let kind = super::setting(key).map_or(Kind::Text, |setting| setting.kind);
        Ok::<_, crate::Error>(typed(kind, resolved.value(key)?))
    };
    let mut sync = section("sync", resolved);
    sync.insert("allowMassDeletions".to_owned(), shown("syncAllowMassDeletions")?);
    let mut vast = section("vast", resolved);
    vast.insert("auth".to_owned(), text("apiKey")?.into());
    vast.insert("user".to_owned(), resolved.user()?.into());
    vast.insert("workRoot".to_owned(), resolved.work_root()?.into());
    let document = json!({
        "class": text("class")?,
        "config": resolved.user_file.display().to_string(),
        "env": { "allow": allow },
        "expose": shown("expose")?,
        "extraCaFile": shown("extraCaFile")?,
        "idempotentLeaseId": false,
        "idleTimeout": text("idleTimeout")?,
        "pond": shown("pond")?,
        "profile": text("profile")?,
        "provider": provider.text,
        "providerScope": "",
        "providerSelected": true,
        "providerSource": provider.origin.word(),
        "run": { "preflightTools": [] },
        "sshFallbackPorts": null,
        "sshKey": resolved.ssh_key()?.display().to_string(),
        "sshPort": "22",
        "sshUser": resolved.user()?,
        "sync": sync,
        "target": "linux",
        "ttl": text("ttl")?,
        "vast": vast,
        "workRoot": resolved.work_root()?,
    });
    Ok(alphabetical(document))
}

/// The settings below one section of a file, by their place in it.
fn section(name: &str, resolved: &Resolved) -> Map<String, Json> {
    let places = SETTINGS.iter().filter_map(|setting| Some((setting, place_below(name, setting)?)));
    places
        .filter_map(|(setting, place)| {
            Some((place.to_owned(), typed(setting.kind, resolved.values.get(setting.key)?)))
        })
        .collect()
}

fn place_below(section: &str, setting: &Setting) -> Option<&'static str> {
    setting.yaml.iter().find_map(|place| place.strip_prefix(section)?.strip_prefix('.'))
}

/// Settings of the section `vast` that crabbox does not know.
fn own_settings() -> impl Iterator<Item = &'static Setting> {
    SETTINGS
        .iter()
        .filter(|setting| place_below("vast", setting).is_some_and(|place| !CRABBOX_VAST.contains(&place)))
}

fn dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn snake_case(key: &str) -> String {
    let mut out = String::new();
    for letter in key.chars() {
        if letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// A value as a document has it: numbers, switches and lists by their kind, everything else as text.
fn typed(kind: Kind, value: &Value) -> Json {
    match kind {
        Kind::Count | Kind::Number(_) => value.text.parse().map_or(Json::Null, number),
        Kind::Switch => Json::Bool(value.text == "true"),
        Kind::List | Kind::Patterns => super::check::items(&value.text).collect(),
        Kind::Ports => json!(super::check::ports(&value.text).unwrap_or_default()),
        _ => Json::String(value.text.clone()),
    }
}

/// Every setting with its value and where it came from, one line each.
#[must_use]
pub fn origins_text(resolved: &Resolved) -> String {
    let mut out = String::new();
    for setting in SETTINGS {
        if let Some(value) = resolved.values.get(setting.key) {
            let text = if value.text.is_empty() { "-" } else { &value.text };
            let origin = match &value.origin {
                super::Origin::Default => "default".to_owned(),
                origin => format!("{} {origin}", origin.word()),
            };
            out.push_str(&format!("{}={text}  # {origin}\n", setting.key));
        }
    }
    out
}

/// The same as a document: `{key: {value, source, from?, since}}`, keys in alphabetical order.
#[must_use]
pub fn origins_json(resolved: &Resolved) -> Json {
    let entries = resolved.values.iter().map(|(key, value)| {
        let mut entry = Map::new();
        if value.origin != super::Origin::Default {
            entry.insert("from".into(), value.origin.to_string().into());
        }
        let setting = super::setting(key);
        if let Some(setting) = setting {
            entry.insert("since".into(), setting.since.into());
        }
        entry.insert("source".into(), value.origin.word().into());
        entry.insert("value".into(), typed(setting.map_or(Kind::Text, |setting| setting.kind), value));
        ((*key).to_owned(), Json::Object(entry))
    });
    Json::Object(entries.collect())
}

/// Whole numbers without a fraction, as Go writes them.
fn number(value: f64) -> Json {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

fn alphabetical(value: Json) -> Json {
    match value {
        Json::Object(map) => {
            let mut entries: Vec<(String, Json)> =
                map.into_iter().map(|(key, value)| (key, alphabetical(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Json::Object(entries.into_iter().collect())
        }
        other => other,
    }
}

/// A number with four significant digits, as C's `%.4g` writes it.
fn four_digits(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.3e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trim = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if (-4..4).contains(&exponent) {
        let places = usize::try_from(3 - exponent).unwrap_or_default();
        return trim(&format!("{value:.places$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(digits), exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::four_digits;

    #[test]
    fn four_significant_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.6, "0.6"),
            (0.98765, "0.9877"),
            (1.0, "1"),
            (12.3456, "12.35"),
            (1234.0, "1234"),
            (9999.5, "1e+04"),
            (12345.0, "1.234e+04"),
            (0.000_012, "1.2e-05"),
            (0.000_12, "0.00012"),
        ] {
            assert_eq!(four_digits(value), text);
        }
    }
}

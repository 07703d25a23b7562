//! What `config show` prints: crabbox's lines and keys, and where each value came from.

use super::{Kind, Resolved, SETTINGS};
use crate::Result;
use crate::sync::excludes::BUILT_IN_COUNT;
use serde_json::{Map, Value as Json, json};

/// The lines of `config show`.
///
/// # Errors
/// None that a loaded configuration can cause.
pub fn show_text(resolved: &Resolved) -> Result<String> {
    let text = |key: &str| resolved.text(key);
    let blank = |key: &str| Ok::<_, crate::Error>(resolved.optional(key)?.unwrap_or_else(|| "-".to_owned()));
    let provider = resolved.value("provider")?;
    Ok(format!(
        "config={}\n\
         provider={} provider_selected=true provider_source={} target=linux class={} profile={}\n\
         ssh={}@<host>:22 fallback_ports=- key={}\n\
         sync delete={} checksum={} git_seed={} fingerprint={} base_ref={} excludes={} includes={} timeout={}\n\
         env allow={}\n\
         lease ttl={} idle_timeout={} boot_timeout={} ssh_timeout={}\n\
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
        BUILT_IN_COUNT + patterns(resolved, "syncExclude")?.len(),
        patterns(resolved, "syncInclude")?.len(),
        text("syncTimeout")?,
        blank("envAllow")?,
        text("ttl")?,
        text("idleTimeout")?,
        text("bootTimeout")?,
        text("sshTimeout")?,
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
    let document = json!({
        "class": text("class")?,
        "config": resolved.user_file.display().to_string(),
        "env": { "allow": allow },
        "idempotentLeaseId": false,
        "idleTimeout": text("idleTimeout")?,
        "profile": text("profile")?,
        "provider": provider.text,
        "providerScope": "",
        "providerSelected": true,
        "providerSource": provider.origin.word(),
        "sshFallbackPorts": null,
        "sshKey": resolved.ssh_key()?.display().to_string(),
        "sshPort": "22",
        "sshUser": resolved.user()?,
        "sync": {
            "allowLarge": resolved.parsed::<bool>("syncAllowLarge")?,
            "baseRef": text("syncBaseRef")?,
            "checksum": resolved.parsed::<bool>("syncChecksum")?,
            "delete": resolved.parsed::<bool>("syncDelete")?,
            "exclude": patterns(resolved, "syncExclude")?,
            "failBytes": number(resolved.parsed("syncFailBytes")?),
            "failFiles": number(resolved.parsed("syncFailFiles")?),
            "fingerprint": resolved.parsed::<bool>("syncFingerprint")?,
            "gitSeed": resolved.parsed::<bool>("syncGitSeed")?,
            "include": patterns(resolved, "syncInclude")?,
            "timeout": text("syncTimeout")?,
            "warnBytes": number(resolved.parsed("syncWarnBytes")?),
            "warnFiles": number(resolved.parsed("syncWarnFiles")?),
        },
        "target": "linux",
        "ttl": text("ttl")?,
        "vast": {
            "apiUrl": text("apiUrl")?,
            "auth": text("apiKey")?,
            "bootTimeout": text("bootTimeout")?,
            "diskGB": resolved.parsed::<u32>("diskGB")?,
            "gpuCount": resolved.parsed::<u32>("gpuCount")?,
            "gpuName": text("gpuName")?,
            "image": text("image")?,
            "instanceType": text("instanceType")?,
            "maxDphTotal": number(resolved.parsed("maxDphTotal")?),
            "minReliability": number(resolved.parsed("minReliability")?),
            "order": text("order")?,
            "releaseAction": text("releaseAction")?,
            "runtype": text("runtype")?,
            "sshTimeout": text("sshTimeout")?,
            "templateId": text("templateId")?,
            "user": resolved.user()?,
            "workRoot": resolved.work_root()?,
        },
        "workRoot": resolved.work_root()?,
    });
    Ok(alphabetical(document))
}

fn patterns(resolved: &Resolved, key: &str) -> Result<Vec<String>> {
    Ok(super::check::items(&resolved.text(key)?).map(str::to_owned).collect())
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

/// The same as a document: `{key: {value, source, from?}}`, keys in alphabetical order.
#[must_use]
pub fn origins_json(resolved: &Resolved) -> Json {
    let entries = resolved.values.iter().map(|(key, value)| {
        let mut entry = Map::new();
        if value.origin != super::Origin::Default {
            entry.insert("from".into(), value.origin.to_string().into());
        }
        entry.insert("source".into(), value.origin.word().into());
        let typed = match super::setting(key).map(|setting| setting.kind) {
            Some(Kind::Count | Kind::Number(_)) => value.text.parse().map_or(Json::Null, number),
            Some(Kind::Switch) => Json::Bool(value.text == "true"),
            _ => Json::String(value.text.clone()),
        };
        entry.insert("value".into(), typed);
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

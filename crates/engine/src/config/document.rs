//! The table of settings as a page for people.

use super::{Kind, SETTINGS};

/// The Markdown table of all settings.
#[must_use]
pub fn settings_markdown() -> String {
    let mut out = String::from(
        "| Setting | File | Environment | Flag | Default | What it does |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for setting in SETTINGS {
        let code = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| format!("`{text}`")).collect();
            if texts.is_empty() { "-".to_owned() } else { texts.join(", ") }
        };
        let flag = setting.flag.map(|flag| format!("--{flag}"));
        let default = (!setting.default.is_empty()).then_some(setting.default);
        let unit = if setting.unit.is_empty() { String::new() } else { format!(" {}", setting.unit) };
        // A bar would end the cell, also inside a code span.
        let help = setting.help.replace('|', "\\|");
        let secret = if setting.kind == Kind::Secret { " (environment only; never shown)" } else { "" };
        out.push_str(&format!(
            "| `{}` | {} | {} | {} | {}{unit} | {help}{secret} |\n",
            setting.key,
            code(setting.yaml),
            code(setting.env),
            code(flag.as_deref().as_slice()),
            code(default.as_slice()),
        ));
    }
    out
}

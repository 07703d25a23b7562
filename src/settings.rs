//! The engine's table of settings; the options' checks and typings are generated from it.

use crabbox_vast_engine::config::{Kind, SETTINGS, Setting};
use napi_derive::napi;

/// One setting.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct SettingInfo {
    /// Its name among the options.
    pub key: &'static str,
    /// How its text is read, in one word.
    pub kind: &'static str,
    /// The words it takes, where it takes words.
    pub words: Vec<&'static str>,
    /// The largest number, where there is a limit.
    pub max: Option<f64>,
    /// The text that stands when nobody says anything.
    pub default: &'static str,
    /// The unit of a number.
    pub unit: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Environment variables that set it.
    pub env: Vec<&'static str>,
}

/// Every setting, in the order of the documentation.
#[napi(catch_unwind)]
#[must_use]
pub fn settings() -> Vec<SettingInfo> {
    SETTINGS.iter().map(SettingInfo::from).collect()
}

impl From<&Setting> for SettingInfo {
    fn from(setting: &Setting) -> Self {
        let (kind, words, max) = match setting.kind {
            Kind::Url => ("url", Vec::new(), None),
            Kind::Word(pairs) => ("word", pairs.iter().map(|(word, _)| *word).collect(), None),
            Kind::Count => ("count", Vec::new(), None),
            Kind::Number(max) => ("number", Vec::new(), Some(max).filter(|max| *max < f64::MAX)),
            Kind::Duration => ("duration", Vec::new(), None),
            Kind::List | Kind::Patterns => ("list", Vec::new(), None),
            Kind::Ports => ("ports", Vec::new(), None),
            Kind::Order => ("order", Vec::new(), None),
            Kind::Switch => ("switch", Vec::new(), None),
            Kind::Secret => ("secret", Vec::new(), None),
            _ => ("text", Vec::new(), None),
        };
        let Setting { key, default, unit, help, env, .. } = *setting;
        Self { key, kind, words, max, default, unit, help, env: env.to_vec() }
    }
}

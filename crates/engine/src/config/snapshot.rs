//! What a skin hands over: the environment, the working directory, the flags or options.

use crate::{Code, Error, Result};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The environment of a call, taken by the skin: the engine reads none itself.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Environment variables.
    pub vars: BTreeMap<String, String>,
    /// The working directory, absolute.
    pub cwd: PathBuf,
}

impl Snapshot {
    /// The variable's value with surrounding blanks removed, unless nothing is left.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for Snapshot {
    // Values of variables are not shown: some of them are credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("vars", &self.vars.len()).field("cwd", &self.cwd).finish()
    }
}

/// Whether an override was typed as a flag or passed as an option of a Node call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverrideOrigin {
    /// A command-line flag.
    Flag,
    /// An option of a Node call.
    Option,
}

/// The topmost layer: values by the key of their [`super::Setting`].
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub(super) values: BTreeMap<&'static str, (String, OverrideOrigin)>,
    pub(super) api_key: Option<SecretString>,
}

/// Whether a call has an API key, whatever else is wrong with its settings.
#[must_use]
pub fn has_api_key(snapshot: &Snapshot, overrides: &Overrides) -> bool {
    let mut names = super::SETTINGS.iter().filter(|setting| setting.kind == super::Kind::Secret);
    overrides.api_key.is_some()
        || names.any(|setting| setting.env.iter().any(|name| snapshot.var(name).is_some()))
}

impl Overrides {
    /// Nothing is overridden.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one value as text. An empty text means the default where there is one.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for an unknown key, and for `apiKey` as a flag: a command line is visible to other
    /// users of the machine.
    pub fn set(&mut self, key: &str, value: impl Into<String>, origin: OverrideOrigin) -> Result<()> {
        let Some(setting) = super::setting(key) else {
            return Err(Error::new(Code::InvalidArgument, format!("unknown option {key}")));
        };
        if setting.kind != super::Kind::Secret {
            self.values.insert(setting.key, (value.into(), origin));
            return Ok(());
        }
        if origin == OverrideOrigin::Flag {
            return Err(Error::new(Code::InvalidArgument, "an API key cannot be given as a flag")
                .hint("set CRABBOX_VAST_API_KEY or VAST_API_KEY in the environment"));
        }
        let value = value.into().trim().to_owned();
        self.api_key = (!value.is_empty()).then(|| SecretString::from(value));
        Ok(())
    }
}

//! Which variables of the local environment a remote command receives.

use super::{Kind, SETTINGS};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The local environment of a call. Its values are never shown.
#[derive(Clone, Default)]
pub struct Environment(Arc<BTreeMap<String, String>>);

impl Environment {
    /// Of these variables.
    #[must_use]
    pub fn new(vars: BTreeMap<String, String>) -> Self {
        Self(Arc::new(vars))
    }

    /// Whether a variable is set and not empty.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.trim().is_empty())
    }

    /// Whether a shell takes this name for a variable.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    }

    /// The variables that are allowed and set. `NAME*` matches by beginning; `*` alone matches nothing, because it would
    /// hand over everything, credentials included. A name that no shell takes is left out, and so is the account's API
    /// key, whoever allows it: a file of a repository may be the one that does.
    #[must_use]
    pub fn allowed<'a>(&self, patterns: impl IntoIterator<Item = &'a String>) -> BTreeMap<String, String> {
        let patterns: Vec<&str> =
            patterns.into_iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
        let matches = |name: &str| {
            patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some("") => false,
                Some(beginning) => name.starts_with(beginning),
                None => name == *pattern,
            })
        };
        let chosen =
            self.0.iter().filter(|(name, _)| matches(name) && Self::is_name(name) && !is_secret(name));
        chosen.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// Whether a variable holds a credential of ours.
fn is_secret(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.kind == Kind::Secret && setting.env.contains(&name))
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allowed_variables_travel() {
        let names = [
            "CI",
            "CARGO_HOME",
            "CARGO_TERM",
            "SECRET",
            "CARGO-X",
            "1CI",
            "CRABBOX_VAST_API_KEY",
            "VAST_API_KEY",
        ];
        let environment =
            Environment::new(names.iter().map(|name| ((*name).to_owned(), "canary".to_owned())).collect());
        let allowed = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
            environment.allowed(&patterns).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(allowed(&["CI", " CARGO* ", "1CI"]), ["CARGO_HOME", "CARGO_TERM", "CI"]);
        assert_eq!(allowed(&["*", "", "NOPE", "ci"]), [""; 0]);
        assert_eq!(allowed(&["CRABBOX_VAST*", "VAST_API_KEY"]), [""; 0], "the account's key never travels");
        assert!(!format!("{environment:?}").contains("canary"));
    }
}

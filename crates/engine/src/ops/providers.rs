//! Providers: what this program can lease from, in crabbox's words.

use serde::Serialize;

/// One provider and what it can do.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// Its name.
    pub provider: &'static str,
    /// The family it belongs to.
    pub family: &'static str,
    /// Other names it answers to.
    pub aliases: &'static [&'static str],
    /// What a lease of it is.
    pub kind: &'static str,
    /// What sort of place it is.
    pub category: &'static str,
    /// Operating systems of its machines.
    pub targets: &'static [&'static str],
    /// What works on its leases.
    pub features: &'static [&'static str],
    /// Where commands run.
    pub runtime: &'static [&'static str],
    /// How ports of a machine are reached.
    pub reachability: &'static [&'static str],
    /// What happens to leases besides acquire and release.
    pub lifecycle: &'static [&'static str],
    /// Whether crabbox's coordinator is involved.
    pub coordinator: &'static str,
    /// What machine classes mean here.
    pub class_catalog: ClassCatalog,
}

/// What machine classes mean for a provider.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassCatalog {
    /// `unmapped`: a class selects nothing.
    pub disposition: &'static str,
    /// Classes with a meaning.
    pub profiles: &'static [&'static str],
}

/// Every provider: one.
#[must_use]
pub fn providers() -> Vec<Provider> {
    vec![Provider {
        provider: "vast",
        family: "vast",
        aliases: &["vast-ai", "vastai"],
        kind: "ssh-lease",
        category: "gpu-cloud",
        targets: &["linux"],
        features: &["ssh", "crabbox-sync", "cleanup"],
        runtime: &["ssh-host"],
        reachability: &["ssh-tunnel"],
        lifecycle: &["cleanup"],
        coordinator: "never",
        class_catalog: ClassCatalog { disposition: "unmapped", profiles: &[] },
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_document_is_crabboxs_element() {
        assert_eq!(
            json!(providers()),
            json!([{
                "provider": "vast", "family": "vast", "aliases": ["vast-ai", "vastai"], "kind": "ssh-lease",
                "category": "gpu-cloud", "targets": ["linux"], "features": ["ssh", "crabbox-sync", "cleanup"],
                "runtime": ["ssh-host"], "reachability": ["ssh-tunnel"], "lifecycle": ["cleanup"],
                "coordinator": "never", "classCatalog": {"disposition": "unmapped", "profiles": []},
            }])
        );
    }

    #[test]
    fn every_name_of_it_is_accepted_as_the_provider() {
        for provider in providers() {
            for name in provider.aliases.iter().chain([&provider.provider]) {
                let snapshot = crate::config::Snapshot {
                    vars: [("HOME", "/nowhere"), ("AppData", "/nowhere"), ("CRABBOX_PROVIDER", name)]
                        .map(|(name, value)| (name.to_owned(), value.to_owned()))
                        .into(),
                    cwd: "/".into(),
                };
                assert!(
                    crate::config::resolve(&snapshot, &crate::config::Overrides::new()).is_ok(),
                    "{name}"
                );
            }
        }
    }
}

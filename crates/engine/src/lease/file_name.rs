//! Which names a claim file may have.

/// Whether `stem` may stand before `.json` in the claims folder: crabbox's rules, which hold on every system.
#[must_use]
pub fn legal_file_stem(stem: &str) -> bool {
    let device = stem.split('.').next().unwrap_or_default().to_ascii_uppercase();
    let numbered = |name: &str| {
        device.strip_prefix(name).is_some_and(|n| n.len() == 1 && matches!(n.as_bytes()[0], b'1'..=b'9'))
    };
    stem == stem.trim()
        && !stem.is_empty()
        && !stem.ends_with('.')
        && !stem.chars().any(|c| c < ' ' || r#"<>:"/\|?*"#.contains(c))
        && !matches!(device.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        && !numbered("COM")
        && !numbered("LPT")
}

#[cfg(test)]
mod tests {
    use super::legal_file_stem;

    #[test]
    fn rules() {
        for good in ["cbx_3f9a1c7be204", "a.b", "my slug", "com10", "com0", "console", "日本"] {
            assert!(legal_file_stem(good), "{good}");
        }
        for bad in [
            "", ".", "..", " a", "a ", "a.", "a/b", "a\\b", "a:b", "a|b", "a\u{1}", "CON", "nul.x", "lpt9",
            "Com1.a",
        ] {
            assert!(!legal_file_stem(bad), "{bad}");
        }
    }
}

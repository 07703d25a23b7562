//! The ownership label: the text on an instance at Vast that says which lease it belongs to.

/// The parts of `cbx1|<lease>|<slug>|<state>`. An instance is owned by crabbox or crabbox-vast, on this machine
/// or another, exactly when its label decodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OwnershipLabel {
    /// Lease identifier; never empty after decoding, and not necessarily canonical.
    pub lease: String,
    /// Slug; may be empty.
    pub slug: String,
    /// State: `provisioning`, `ready` or `stopped`; may be empty or foreign.
    pub state: String,
}

const PREFIX: &str = "cbx1|";

impl OwnershipLabel {
    /// The label as it is sent to Vast: every part cleaned and bounded (48, 48 and 16 bytes).
    #[must_use]
    pub fn encode(&self) -> String {
        format!("{PREFIX}{}|{}|{}", part(&self.lease, 48), part(&self.slug, 48), part(&self.state, 16))
    }

    /// Reads a label; `None` when it is not an ownership label. Nothing is trimmed.
    #[must_use]
    pub fn decode(label: &str) -> Option<Self> {
        let mut parts = label.strip_prefix(PREFIX)?.split('|');
        let (lease, slug, state) = (parts.next()?, parts.next()?, parts.next()?);
        (parts.next().is_none() && !lease.is_empty()).then(|| Self {
            lease: lease.to_owned(),
            slug: slug.to_owned(),
            state: state.to_owned(),
        })
    }
}

/// Letters, digits, `-`, `_` and `.` stay, the rest becomes `-`. The limit is looked at before each character, so
/// that a last one of several bytes may overshoot it by up to three: crabbox counts this way and compares the result.
fn part(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for c in text.trim().chars() {
        if out.len() >= limit {
            break;
        }
        out.push(if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' });
    }
    out.trim_matches(['-', '_', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(lease: &str, slug: &str, state: &str) -> OwnershipLabel {
        OwnershipLabel { lease: lease.into(), slug: slug.into(), state: state.into() }
    }

    #[test]
    fn encodes_and_decodes() {
        let mine = label("cbx_3f9a1c7be204", "tidal-barnacle", "ready");
        assert_eq!(mine.encode(), "cbx1|cbx_3f9a1c7be204|tidal-barnacle|ready");
        assert_eq!(OwnershipLabel::decode(&mine.encode()), Some(mine));
        assert_eq!(OwnershipLabel::decode("cbx1|a||"), Some(label("a", "", "")));
        for bad in [
            "",
            "cbx1",
            "cbx1|",
            "cbx1||b|c",
            "cbx1|a|b",
            "cbx1|a|b|c|d",
            "cbx2|a|b|c",
            " cbx1|a|b|c",
            "hand made",
        ] {
            assert_eq!(OwnershipLabel::decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn parts_are_cleaned_and_bounded() {
        assert_eq!(label("  a|b ", "x y", "_ready_").encode(), "cbx1|a-b|x-y|ready");
        assert_eq!(part("ambiguous-create", 16), "ambiguous-create");
        assert_eq!(part("rollback-cleanup", 16), "rollback-cleanup");
        assert_eq!(
            part(&format!("{}-x", "a".repeat(47)), 48),
            "a".repeat(47),
            "a cut at a separator shortens"
        );
        assert_eq!(part("---", 48), "");
        assert_eq!(part(&format!("{}日日", "a".repeat(47)), 48), format!("{}日", "a".repeat(47)));
        assert_eq!(part(&"日".repeat(20), 48).len(), 48);
        assert_eq!(part(&format!("a{}", "日".repeat(20)), 48).len(), 49, "overshoots inside one character");
    }
}

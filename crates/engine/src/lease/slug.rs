//! Slugs: the names people use for leases.

use super::LeaseId;
use crate::{Code, Error};
use serde::Serialize;
use std::fmt;

const ADJECTIVES: [&str; 14] = [
    "amber", "blue", "brisk", "coral", "crimson", "golden", "harbor", "jade", "pearl", "quick", "silver",
    "swift", "tidal", "violet",
];
const NOUNS: [&str; 8] = ["barnacle", "crab", "crayfish", "hermit", "krill", "lobster", "prawn", "shrimp"];

/// A normalised, non-empty slug: `[a-z0-9]` in runs joined by single dashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Slug(String);

impl Slug {
    /// Longest slug that may be asked for, in characters after normalisation.
    pub const LONGEST: usize = 41;

    /// The slug that crabbox derives from a lease identifier: one of 112 adjective-noun pairs.
    #[must_use]
    pub fn generate(lease: &LeaseId) -> Slug {
        let hash = fnv1a(lease.as_str()) as usize;
        let adjective = ADJECTIVES[hash % ADJECTIVES.len()];
        let noun = NOUNS[hash / ADJECTIVES.len() % NOUNS.len()];
        Slug(format!("{adjective}-{noun}"))
    }

    /// The slug a user asked for; `None` for blank text.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] when no letter or digit is left, or when more than 41 characters are.
    pub fn requested(text: &str) -> Result<Option<Slug>, Error> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let slug = Slug::normalise(text).ok_or_else(|| {
            Error::new(Code::InvalidArgument, format!("slug {text:?} holds no letter or digit"))
                .hint("use letters a-z, digits and dashes")
        })?;
        if slug.0.len() > Self::LONGEST {
            let length = slug.0.len();
            return Err(Error::new(
                Code::InvalidArgument,
                format!("slug {slug} has {length} characters, at most {} are allowed", Self::LONGEST),
            )
            .hint("choose a shorter slug"));
        }
        Ok(Some(slug))
    }

    /// Lower-case, every run of other characters one dash, none at the ends; `None` when nothing is left.
    #[must_use]
    pub fn normalise(text: &str) -> Option<Slug> {
        let mut slug = String::new();
        // Simple (one to one) lower-casing: U+0130 becomes `i` and U+212A `k`, as crabbox's language does it.
        for c in text.trim().chars().filter_map(|c| c.to_lowercase().next()) {
            if c.is_ascii_alphanumeric() {
                slug.push(c);
            } else if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        slug.truncate(slug.trim_end_matches('-').len());
        (!slug.is_empty()).then_some(Slug(slug))
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The slugs to try for a lease, in crabbox's order: the wanted one, 19 with a suffix of their own, and last
    /// one whose suffix comes from the lease identifier itself.
    #[must_use]
    pub fn candidates(base: &Slug, lease: &LeaseId) -> Vec<Slug> {
        let stem = base.0[..base.0.len().min(Self::LONGEST)].trim_end_matches('-');
        let suffixed = |seed: &str| Slug(format!("{stem}-{:04x}", fnv1a(seed) & 0xffff));
        std::iter::once(base.clone())
            .chain((0..19).map(|attempt| suffixed(&format!("{lease}-{attempt}"))))
            .chain([suffixed(lease.as_str())])
            .collect()
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// FNV-1a with 32 bits: fixed by the slugs that crabbox gives, so it cannot be any other hash.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(text: &str) -> LeaseId {
        LeaseId::parse(text).unwrap()
    }

    #[test]
    fn generated_slugs_are_crabboxs() {
        for (id, slug) in [
            ("cbx_000000000001", "tidal-lobster"),
            ("cbx_abcdef123456", "blue-prawn"),
            ("cbx_deadbeefcafe", "silver-crab"),
            ("cbx_3f9a1c7be204", "tidal-barnacle"),
            ("cbx_4b6cb0eeb123", "crimson-shrimp"),
        ] {
            assert_eq!(Slug::generate(&lease(id)).as_str(), slug);
        }
    }

    #[test]
    fn normalising_and_its_limits() {
        let normal = |text| Slug::normalise(text).map(|s| s.0);
        assert_eq!(normal("  My  Box_2! ").as_deref(), Some("my-box-2"));
        assert_eq!(normal("--a--").as_deref(), Some("a"));
        assert_eq!(normal("Ünder \u{212a}").as_deref(), Some("nder-k"));
        assert_eq!(normal("!?"), None);
        assert_eq!(Slug::requested(" \t").unwrap(), None);
        assert_eq!(Slug::requested("?!").unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(Slug::requested(&"a".repeat(42)).unwrap_err().code(), Code::InvalidArgument);
        assert!(Slug::requested(&format!(" {} ", "a".repeat(41))).unwrap().is_some());
    }

    #[test]
    fn collisions_take_suffixes() {
        let id = lease("cbx_000000000001");
        let base = Slug::normalise("train").unwrap();
        let all = Slug::candidates(&base, &id);
        assert_eq!(all.len(), 21);
        assert_eq!(all[0], base);
        assert_eq!(all[1].as_str(), format!("train-{:04x}", fnv1a("cbx_000000000001-0") & 0xffff));
        assert_eq!(all[19].as_str(), format!("train-{:04x}", fnv1a("cbx_000000000001-18") & 0xffff));
        assert_eq!(all[20].as_str(), format!("train-{:04x}", fnv1a("cbx_000000000001") & 0xffff));
        let long = Slug(format!("{}-bcd", "a".repeat(40)));
        let cut = Slug::candidates(&long, &id);
        assert!(cut[1].as_str().starts_with(&format!("{}-", "a".repeat(40))));
        assert_eq!(cut[1].as_str().len(), 45);
        // published test vectors of the hash
        assert_eq!(fnv1a(""), 0x811c_9dc5);
        assert_eq!(fnv1a("a"), 0xe40c_292c);
        assert_eq!(fnv1a("foobar"), 0xbf9c_f968);
    }
}

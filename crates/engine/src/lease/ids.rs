//! Identifiers. Each is a type of its own, so that an offer cannot be destroyed and an instance cannot be rented.

use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A lease identifier: `cbx_` and 12 lower-case hex digits, or the form that crabbox falls back to where the system
/// has no randomness, `cbx_` and the digits of the time. All of ours are of the first form, the canonical one.
///
/// Identifiers are only matched exactly, never as a slug or a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct LeaseId(String);

impl LeaseId {
    /// The identifier, if `text` is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<LeaseId> {
        let digits = text.strip_prefix("cbx_")?;
        let of_time = (13..=24).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        (of_time || is_canonical(digits)).then(|| LeaseId(text.to_owned()))
    }

    /// The identifier, if `text` is canonical, as one must be that is made from now on.
    #[must_use]
    pub fn canonical(text: &str) -> Option<LeaseId> {
        is_canonical(text.strip_prefix("cbx_")?).then(|| LeaseId(text.to_owned()))
    }

    /// A new identifier from six random bytes.
    #[must_use]
    pub fn from_entropy(bytes: [u8; 6]) -> LeaseId {
        LeaseId(format!("cbx_{}", hex::encode(bytes)))
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of the label `provider_key`: `crabbox-cbx-` and the digits. No account-level key has this name;
    /// for Vast it is only a label.
    #[must_use]
    pub fn provider_key(&self) -> String {
        provider_key(&self.0)
    }
}

fn is_canonical(digits: &str) -> bool {
    digits.len() == 12 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The label `provider_key` of any lease identifier, canonical or not.
pub(crate) fn provider_key(lease: &str) -> String {
    format!("crabbox-{lease}").replace('_', "-")
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for LeaseId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        LeaseId::parse(&text).ok_or_else(|| serde::de::Error::custom("not a lease identifier"))
    }
}

/// The identifier of one run of a command: `run_` and 12 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// A new identifier from six random bytes.
    #[must_use]
    pub fn from_entropy(bytes: [u8; 6]) -> RunId {
        RunId(format!("run_{}", hex::encode(bytes)))
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! numbers {
    ($( $(#[$doc:meta])* $name:ident; )*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            /// As text, for readers whose own numbers end at 2^53.
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            /// Decimal digits only: no sign, no blanks.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                // `u64` itself would take a leading plus, which is never the spelling of an identifier.
                text.strip_prefix('+').map_or(text, |_| "+").parse().map($name)
            }
        }
    )* };
}

numbers! {
    /// A rented machine at Vast (the vendor says *contract*).
    InstanceId;
    /// An offer to rent at Vast (the vendor says *ask*).
    OfferId;
    /// A Vast account (the vendor says *user*).
    AccountId;
    /// A physical machine at Vast; several offers and instances may share one.
    MachineId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lease_ids_parse() {
        let id = LeaseId::from_entropy([0x3f, 0x9a, 0x1c, 0x7b, 0xe2, 0x04]);
        assert_eq!(id.as_str(), "cbx_3f9a1c7be204");
        assert_eq!(id.provider_key(), "crabbox-cbx-3f9a1c7be204");
        assert_eq!(LeaseId::parse("cbx_3f9a1c7be204"), Some(id.clone()));
        assert_eq!(LeaseId::canonical("cbx_3f9a1c7be204"), Some(id));
        for bad in [
            "",
            "cbx_",
            "cbx_3f9a1c7be20",
            "cbx_3f9a1c7be2045",
            "cbx_3F9A1C7BE204",
            "run_3f9a1c7be204",
            " cbx_3f9a1c7be204",
        ] {
            assert_eq!(LeaseId::parse(bad), None, "{bad}");
            assert_eq!(LeaseId::canonical(bad), None, "{bad}");
        }
        let of_time = "cbx_20260821091407";
        assert_eq!(LeaseId::parse(of_time).map(|id| id.to_string()).as_deref(), Some(of_time));
        assert_eq!(LeaseId::canonical(of_time), None, "found where crabbox made one, never made");
        assert_eq!(LeaseId::parse("cbx_1234567890123456789012345"), None);
        let run = RunId::from_entropy([0; 6]);
        assert_eq!((run.as_str(), run.to_string().as_str()), ("run_000000000000", "run_000000000000"));
    }

    #[test]
    fn numbers_are_plain_decimals_and_travel_as_text() {
        assert_eq!("27491836".parse(), Ok(InstanceId(27_491_836)));
        assert_eq!(OfferId(7).to_string(), "7");
        for bad in ["", "+1", "-1", " 1", "1.0", "x"] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad}");
        }
        assert_eq!(serde_json::to_string(&AccountId(4242)).unwrap(), "\"4242\"");
    }
}

//! What a release does with the instance.

use crate::{Code, Error};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// What a release does with the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseAction {
    /// Destroys it: nothing is billed afterwards.
    #[default]
    Destroy,
    /// Stops it: storage is billed until it is destroyed.
    Stop,
    /// Leaves it running: everything is billed.
    Keep,
}

impl ReleaseAction {
    /// The word in labels and settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ReleaseAction::Destroy => "destroy",
            ReleaseAction::Stop => "stop",
            ReleaseAction::Keep => "keep",
        }
    }
}

impl fmt::Display for ReleaseAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ReleaseAction {
    type Err = Error;

    /// Empty, `destroy` and `delete` destroy; `stop` and `keep` are themselves. Case and blanks do not matter.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.trim().to_lowercase().as_str() {
            "" | "destroy" | "delete" => Ok(ReleaseAction::Destroy),
            "stop" => Ok(ReleaseAction::Stop),
            "keep" => Ok(ReleaseAction::Keep),
            _ => Err(Error::new(Code::InvalidArgument, format!("release action {text:?} is unknown"))
                .hint("use destroy, stop or keep")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (text, action) in [
            ("", ReleaseAction::Destroy),
            (" Delete ", ReleaseAction::Destroy),
            ("destroy", ReleaseAction::Destroy),
            ("STOP", ReleaseAction::Stop),
            ("keep", ReleaseAction::Keep),
        ] {
            assert_eq!(text.parse::<ReleaseAction>().unwrap(), action);
        }
        assert_eq!("pause".parse::<ReleaseAction>().unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(ReleaseAction::Keep.to_string(), "keep");
    }
}

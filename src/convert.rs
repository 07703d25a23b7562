//! The requests that JavaScript sends, and their way into the engine's types.
//!
//! Every number is an `f64` here: napi-rs would wrap `-1` to 4294967295 and cut `1.7` to 1 in an integer.

use crabbox_vast_engine::{Code, Error, Result};
use napi_derive::napi;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

/// What every call is resolved from.
#[napi(object, object_to_js = false)]
pub struct CallContext {
    /// The environment variables.
    pub env: HashMap<String, String>,
    /// The absolute working directory.
    pub cwd: String,
    /// Settings by their key in the configuration file, as text; they stand where flags stand.
    pub settings: HashMap<String, String>,
    /// The API key, where the caller gave one.
    pub api_key: Option<String>,
}

/// The same, checked, for the engine.
pub(crate) struct Context {
    pub env: BTreeMap<String, String>,
    pub cwd: PathBuf,
    pub settings: BTreeMap<String, String>,
    pub api_key: Option<String>,
}

impl TryFrom<CallContext> for Context {
    type Error = Error;

    fn try_from(raw: CallContext) -> Result<Self> {
        let cwd = PathBuf::from(raw.cwd);
        if !cwd.is_absolute() {
            let text = format!("option `cwd` must be an absolute path, not {:?}", cwd.display().to_string());
            return Err(Error::new(Code::InvalidArgument, text));
        }
        Ok(Self {
            env: raw.env.into_iter().collect(),
            cwd,
            settings: raw.settings.into_iter().collect(),
            api_key: raw.api_key,
        })
    }
}

/// A whole number of seconds from JavaScript.
pub(crate) fn seconds(option: &str, value: f64) -> Result<Duration> {
    whole(option, value).map(Duration::from_secs)
}

/// A whole, non-negative number that JavaScript can hold exactly.
pub(crate) fn whole(option: &str, value: f64) -> Result<u64> {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    if value.fract() == 0.0 && (0.0..=LARGEST).contains(&value) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole and within 2^53, as just checked"
        )]
        return Ok(value as u64);
    }
    let text = format!("option `{option}` must be a whole number of zero or more, not {value}");
    Err(Error::new(Code::InvalidArgument, text))
}

#[cfg(test)]
mod tests {
    use super::{CallContext, Context, seconds, whole};
    use crabbox_vast_engine::Code;
    use std::collections::HashMap;
    use std::time::Duration;

    #[test]
    fn numbers_that_would_wrap_are_refused() {
        for bad in [-1.0, 1.7, f64::NAN, f64::INFINITY, 9_007_199_254_740_993.0 * 2.0] {
            let error = whole("gpuCount", bad).expect_err("not a whole number");
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.to_string().contains("gpuCount"), "{error}");
        }
        assert_eq!(whole("gpuCount", 8.0).ok(), Some(8));
        assert_eq!(seconds("ttl", 90.0).ok(), Some(Duration::from_secs(90)));
    }

    #[test]
    fn the_working_directory_is_absolute() {
        let with = |cwd: &str| CallContext {
            env: HashMap::new(),
            cwd: cwd.to_owned(),
            settings: HashMap::new(),
            api_key: None,
        };
        assert!(Context::try_from(with("here")).is_err());
        assert!(Context::try_from(with("/here")).is_ok());
    }
}

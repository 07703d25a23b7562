//! The Node binding: converts, calls, converts back.
//!
//! Nothing is decided, printed or read from the environment here. JavaScript hands over an environment snapshot,
//! the working directory and the options; the engine resolves them. What each export takes and gives stands in
//! `lib/native.d.ts`; `index.js` is its only caller.

#![cfg_attr(test, allow(dead_code, reason = "linters build this as a test, where napi registers no export"))]

mod cancel;
mod convert;
mod engine;
mod errors;
mod exec;
mod lease;
mod operations;
mod results;
mod run;
mod runtime;
mod settings;
mod tunnel;
mod upkeep;

use crabbox_vast_engine::Code;
use napi_derive::napi;

/// The version of the engine inside this addon.
#[napi(catch_unwind)]
#[must_use]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// One row of the engine's error table.
#[napi(object, object_from_js = false)]
pub struct ErrorCode {
    /// The stable code.
    pub code: &'static str,
    /// The exit code that the command line gives it.
    pub exit_code: u8,
    /// Whether the same call may succeed later.
    pub retryable: bool,
}

/// The engine's error table; the typings are checked against it.
#[napi(catch_unwind)]
#[must_use]
pub fn error_codes() -> Vec<ErrorCode> {
    let row = |&code: &Code| ErrorCode {
        code: code.as_str(),
        exit_code: code.exit_code(),
        retryable: code.retryable(),
    };
    Code::ALL.iter().map(row).collect()
}

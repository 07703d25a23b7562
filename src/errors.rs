//! The engine's error as a JavaScript error.

use crabbox_vast_engine::{Code, Error};
use napi::bindgen_prelude::{JsObjectValue, Object, ToNapiValue};
use napi::{Env, JsError, JsValue, Result};
use serde_json::Value;
use std::sync::{Mutex, PoisonError};

/// A JavaScript `Error` with `code`, `hint`, `retryable`, `details` and `causes`; `index.js` makes the
/// `VastLeaseError` of it, because an error made here has no JavaScript stack.
///
/// Must run on the JavaScript thread. The value is kept by reference: exactly this object is thrown.
pub(crate) fn js_error(env: &Env, error: &Error) -> napi::Error {
    build(env, error).unwrap_or_else(|_| napi::Error::from_reason(error.to_string()))
}

fn build(env: &Env, error: &Error) -> Result<napi::Error> {
    let plain = JsError::from(napi::Error::from_reason(error.to_string())).into_unknown(*env);
    let mut object: Object<'_> = plain.coerce_to_object()?;
    object.set_named_property("engine", true)?;
    object.set_named_property("code", error.code().as_str())?;
    object.set_named_property("hint", error.hint_text())?;
    object.set_named_property("retryable", error.retryable())?;
    object.set_named_property("details", Value::Object(error.details().clone()))?;
    object.set_named_property("causes", causes(error))?;
    Ok(napi::Error::from(object.to_unknown()))
}

/// The messages of the chain of causes, nearest first.
fn causes(error: &Error) -> Vec<String> {
    let nearest = error.cause().map(|cause| cause as &dyn std::error::Error);
    std::iter::successors(nearest, |cause| cause.source()).map(ToString::to_string).collect()
}

/// Where the last panic happened.
static PANICKED_AT: Mutex<Option<String>> = Mutex::new(None);

/// Keeps panics off standard error: their text may hold anything, a secret too. Where they happened is kept.
pub(crate) fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        *PANICKED_AT.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }));
}

/// A panic in an operation as the engine's error.
pub(crate) fn panicked() -> Error {
    let place = PANICKED_AT.lock().unwrap_or_else(PoisonError::into_inner).take();
    Error::new(Code::Internal, "crabbox-vast failed inside")
        .hint("this is a defect: please report it with the version, what was called, and `details.place`")
        .with("place", place)
}

/// Converts a value, or the engine's error, for the JavaScript thread.
pub(crate) fn settle<T, U: ToNapiValue>(
    env: &Env,
    outcome: crabbox_vast_engine::Result<T>,
    map: impl FnOnce(&Env, T) -> Result<U>,
) -> Result<U> {
    match outcome {
        Ok(value) => map(env, value),
        Err(error) => Err(js_error(env, &error)),
    }
}

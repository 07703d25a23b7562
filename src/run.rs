//! `run`: a whole run, with its streams.

use crate::cancel::Cancel;
use crate::convert::{Context, RunCall};
use crate::engine::engine_for;
use crate::errors::js_error;
use crate::exec::Exec;
use crate::runtime::{Events, call};
use crabbox_vast_engine::ops::RunRequest;
use napi::{Env, Result};
use napi_derive::napi;
use serde_json::json;

/// Runs a command on a lease, its own or a present one.
#[napi(catch_unwind)]
pub fn run(env: &Env, request: RunCall, cancel: &Cancel, events: Option<Events>) -> Result<Exec> {
    let RunCall { context, request, stdin } = request;
    let wanted = RunRequest::try_from(request).map_err(|error| js_error(env, &error))?;
    let call = call(cancel, events);
    Ok(Exec::start(stdin, cancel, move |streams| async move {
        let context = Context::try_from(context)?;
        // As in the program: what contradicts itself is told before what is not set up.
        wanted.check(&context.snapshot().cwd)?;
        let engine = engine_for(context.settings()?)?;
        Ok(json!(engine.run(&wanted, streams.plain(), &call).await?))
    }))
}

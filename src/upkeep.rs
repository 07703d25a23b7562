//! The operations on claims and on what is left of leases, and those that only look.

use crate::cancel::Cancel;
use crate::convert::{
    AdoptCall, CleanupCall, ConfigCall, Context, ContextCall, CopyCall, ForgetCall, SshCall,
};
use crate::engine::{engine, world};
use crate::runtime::{Events, call, start};
use crabbox_vast_engine::config::{origins_json, show_json};
use crabbox_vast_engine::ops::providers::providers as known;
use crabbox_vast_engine::ops::smoke::smoke;
use crabbox_vast_engine::ops::{AdoptRequest, CleanupRequest, CopyRequest, ForgetRequest, claims};
use crabbox_vast_engine::store::Store;
use napi::bindgen_prelude::AsyncBlock;
use napi::{Env, Result};
use napi_derive::napi;
use serde_json::{Value, json};

/// Gives back what dead processes and expired leases left.
#[napi(catch_unwind)]
pub fn cleanup(
    env: &Env,
    request: CleanupCall,
    cancel: &Cancel,
    events: Option<Events>,
) -> Result<AsyncBlock<Value>> {
    let call = call(cancel, events);
    let work = move || async move {
        let wanted = CleanupRequest { dry_run: request.dry_run };
        let engine = engine(request.context)?;
        Ok(engine.cleanup(&wanted, &call).await?.to_json())
    };
    start(env, cancel, work, |_, value| Ok(value))
}

/// The claims on this machine. Needs no API key.
#[napi(catch_unwind)]
pub fn list_claims(env: &Env, request: ContextCall, cancel: &Cancel) -> Result<AsyncBlock<Value>> {
    let call = call(cancel, None);
    let work = move || async move {
        let paths = Context::try_from(request.context)?.resolved()?.paths;
        let world = world(None);
        let store = Store::new(world.disk, world.ambient, paths);
        Ok(call.until_cancelled(claims::list(&store)).await?.to_json())
    };
    start(env, cancel, work, |_, value| Ok(value))
}

/// Removes a claim without ending its instance.
#[napi(catch_unwind)]
pub fn forget(
    env: &Env,
    request: ForgetCall,
    cancel: &Cancel,
    events: Option<Events>,
) -> Result<AsyncBlock<Value>> {
    let call = call(cancel, events);
    let work = move || async move {
        let wanted = ForgetRequest { identifier: request.id, yes: request.yes };
        Ok(json!(engine(request.context)?.forget_claim(&wanted, &call).await?))
    };
    start(env, cancel, work, |_, value| Ok(value))
}

/// Takes over an instance with an ownership label.
#[napi(catch_unwind)]
pub fn adopt(
    env: &Env,
    request: AdoptCall,
    cancel: &Cancel,
    events: Option<Events>,
) -> Result<AsyncBlock<Value>> {
    let call = call(cancel, events);
    let work = move || async move {
        let wanted = AdoptRequest { identifier: request.id, keep: request.keep };
        Ok(json!(engine(request.context)?.adopt(&wanted, &call).await?))
    };
    start(env, cancel, work, |_, value| Ok(value))
}

/// Copies files to a lease or from it.
#[napi(catch_unwind)]
pub fn copy(
    env: &Env,
    request: CopyCall,
    cancel: &Cancel,
    events: Option<Events>,
) -> Result<AsyncBlock<Value>> {
    let call = call(cancel, events);
    let work = move || async move {
        let CopyCall { context, from, to, reclaim } = request;
        let (engine, wanted) = (engine(context)?, CopyRequest { from, to, reclaim });
        Ok(json!(engine.copy(&wanted, &call).await?))
    };
    start(env, cancel, work, |_, value| Ok(value))
}

/// The `ssh` command that logs in to a lease.
#[napi(catch_unwind)]
pub fn ssh_command(
    env: &Env,
    request: SshCall,
    cancel: &Cancel,
    events: Option<Events>,
) -> Result<AsyncBlock<Value>> {
    let call = call(cancel, events);
    let work = move || async move {
        let SshCall { context, id, reclaim } = request;
        let command = engine(context)?.ssh_command(&id, reclaim, &call).await?;
        let mut value = json!(command);
        value["line"] = command.line().into();
        Ok(value)
    };
    start(env, cancel, work, |_, value| Ok(value))
}

/// One whole lease life against the vendor, if everything that has to be asked for was asked for.
#[napi(catch_unwind)]
pub fn live_smoke(
    env: &Env,
    request: ContextCall,
    cancel: &Cancel,
    events: Option<Events>,
) -> Result<AsyncBlock<Value>> {
    let call = call(cancel, events);
    let work = move || async move {
        let context = Context::try_from(request.context)?;
        let snapshot = context.snapshot();
        let smoked = match context.settings() {
            Ok(settings) => {
                let world = world(settings.extra_ca_file.clone());
                smoke(&world, snapshot, Ok(&settings), context.has_api_key(), &call).await
            }
            Err(complaint) => {
                smoke(&world(None), snapshot, Err(complaint), context.has_api_key(), &call).await
            }
        };
        Ok(json!(smoked))
    };
    start(env, cancel, work, |_, value| Ok(value))
}

/// The settings in force, or where each came from.
#[napi(catch_unwind)]
pub fn show_config(env: &Env, request: ConfigCall, cancel: &Cancel) -> Result<AsyncBlock<Value>> {
    let work = move || async move {
        let resolved = Context::try_from(request.context)?.resolved()?;
        if request.origin { Ok(origins_json(&resolved)) } else { show_json(&resolved) }
    };
    start(env, cancel, work, |_, value| Ok(value))
}

/// What the engine says of each provider.
#[napi(catch_unwind)]
#[must_use]
pub fn providers() -> Value {
    json!(known())
}

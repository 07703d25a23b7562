//! The operations that take a context.

use crate::cancel::Cancel;
use crate::convert::{
    AcquireCall, Context, DoctorCall, ListCall, OpenCall, ReleaseCall, SearchCall, StartCall, StatusCall,
    TouchCall, action, seconds, whole,
};
use crate::engine::{engine, engine_for, world};
use crate::lease::{LeaseHandle, Undelivered};
use crate::results;
use crate::runtime::{Events, call, start};
use crabbox_vast_engine::ops::status::DEFAULT_WAIT;
use crabbox_vast_engine::ops::{AcquireRequest, ReleaseRequest, StartRequest, doctor as checks};
use napi::bindgen_prelude::AsyncBlock;
use napi::{Env, Result};
use napi_derive::napi;
use serde_json::{Value, json};

/// Rents a machine and waits until commands run on it.
#[napi(catch_unwind)]
pub fn acquire(
    env: &Env,
    request: AcquireCall,
    cancel: &Cancel,
    events: Option<Events>,
) -> Result<AsyncBlock<LeaseHandle>> {
    let (call, token, covering) = (call(cancel, events), cancel.token(), cancel.begin());
    let work = move || async move {
        let engine = engine(request.context)?;
        let wanted = AcquireRequest { keep: request.keep, slug: request.slug, lease_id: request.lease_id };
        let lease = engine.acquire(&wanted, &call).await?;
        Ok(Undelivered::new(LeaseHandle::new(engine, lease), call, token, covering))
    };
    start(env, cancel, work, |env, undelivered| undelivered.deliver(env))
}

/// Opens a session on a present lease.
#[napi(catch_unwind)]
pub fn open(
    env: &Env,
    request: OpenCall,
    cancel: &Cancel,
    events: Option<Events>,
) -> Result<AsyncBlock<LeaseHandle>> {
    let call = call(cancel, events);
    let work = move || async move {
        let engine = engine(request.context)?;
        let lease = engine.open(&request.id, request.reclaim, &call).await?;
        Ok(LeaseHandle::new(engine, lease))
    };
    start(env, cancel, work, |_, handle| Ok(handle))
}

/// Starts a stopped lease and waits until commands run on it. A cancellation stops it again.
#[napi(catch_unwind, js_name = "start")]
pub fn start_lease(
    env: &Env,
    request: StartCall,
    cancel: &Cancel,
    events: Option<Events>,
) -> Result<AsyncBlock<LeaseHandle>> {
    let call = call(cancel, events);
    let work = move || async move {
        let engine = engine(request.context)?;
        let lease = engine.start(&StartRequest { identifier: request.id }, &call).await?;
        Ok(LeaseHandle::new(engine, lease))
    };
    start(env, cancel, work, |_, handle| Ok(handle))
}

/// Releases a lease by its name.
#[napi(catch_unwind)]
pub fn release(
    env: &Env,
    request: ReleaseCall,
    cancel: &Cancel,
    events: Option<Events>,
) -> Result<AsyncBlock<Value>> {
    let call = call(cancel, events);
    let work = move || async move {
        let wanted = ReleaseRequest { identifier: request.id, action: action(request.action.as_deref())? };
        let released = engine(request.context)?.release(&wanted, &call).await?;
        Ok(json!(released))
    };
    start(env, cancel, work, |_, value| Ok(value))
}

/// The leases of the account.
#[napi(catch_unwind)]
pub fn list(
    env: &Env,
    request: ListCall,
    cancel: &Cancel,
    events: Option<Events>,
) -> Result<AsyncBlock<Value>> {
    let call = call(cancel, events);
    let work = move || async move {
        let listed = engine(request.context)?.list(request.all, &call).await?;
        Ok(json!(listed))
    };
    start(env, cancel, work, |_, value| Ok(value))
}

/// The state of one lease.
#[napi(catch_unwind)]
pub fn status(
    env: &Env,
    request: StatusCall,
    cancel: &Cancel,
    events: Option<Events>,
) -> Result<AsyncBlock<Value>> {
    let call = call(cancel, events);
    let work = move || async move {
        let limit = match request.wait_timeout_seconds {
            Some(value) => seconds("waitTimeout", value)?,
            None => DEFAULT_WAIT,
        };
        let engine = engine(request.context)?;
        let status = if request.wait {
            engine.status_wait(&request.id, limit, &call).await?
        } else {
            engine.status(&request.id, &call).await?
        };
        Ok(json!(status))
    };
    start(env, cancel, work, |_, value| Ok(value))
}

/// Moves the idle deadline of a lease.
#[napi(catch_unwind)]
pub fn touch(
    env: &Env,
    request: TouchCall,
    cancel: &Cancel,
    events: Option<Events>,
) -> Result<AsyncBlock<Value>> {
    let call = call(cancel, events);
    let work = move || async move {
        let context = Context::try_from(request.context)?;
        let settings = context.settings()?;
        let idle_timeout = context.given_idle_timeout(&settings);
        let engine = engine_for(settings)?;
        let touched = engine.touch(&request.id, idle_timeout, &call).await?;
        Ok(results::touched(&touched))
    };
    start(env, cancel, work, |_, value| Ok(value))
}

/// What works and what does not.
#[napi(catch_unwind)]
pub fn doctor(
    env: &Env,
    request: DoctorCall,
    cancel: &Cancel,
    events: Option<Events>,
) -> Result<AsyncBlock<Value>> {
    let call = call(cancel, events);
    let work = move || async move {
        // Settings that do not fit are a finding, not a failure of the call.
        let context = Context::try_from(request.context)?;
        let (snapshot, id) = (context.snapshot(), request.id.as_deref());
        let report = match context.settings() {
            Ok(settings) => {
                let world = world(settings.extra_ca_file.clone());
                let report = async { Ok(checks::doctor(&world, snapshot, Ok(&settings), id, &call).await) };
                call.until_cancelled(report).await?
            }
            Err(complaint) => checks::doctor(&world(None), snapshot, Err(complaint), id, &call).await,
        };
        Ok(report.to_json())
    };
    start(env, cancel, work, |_, value| Ok(value))
}

/// What could be rented, best first.
#[napi(catch_unwind)]
pub fn search_offers(
    env: &Env,
    request: SearchCall,
    cancel: &Cancel,
    events: Option<Events>,
) -> Result<AsyncBlock<Value>> {
    let call = call(cancel, events);
    let work = move || async move {
        let most = match request.limit {
            Some(value) => usize::try_from(whole("limit", value)?).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        let mut found = engine(request.context)?.offers(&call).await?;
        found.offers.truncate(most);
        Ok(json!(found))
    };
    start(env, cancel, work, |_, value| Ok(value))
}

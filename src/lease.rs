//! A lease in JavaScript's hands.

use crate::cancel::{Cancel, RunningCall};
use crate::convert::{ExecCall, HeldCopyCall, HeldReleaseCall, HeldTouchCall, ShellCall, Terminal, action};
use crate::errors::js_error;
use crate::exec::{Exec, Streams};
use crate::results;
use crate::runtime::{Events, call, start};
use crate::tunnel::TunnelHandle;
use crabbox_vast_engine::ops::{ExecRequest, Lease, ShellIo, TunnelRequest};
use crabbox_vast_engine::world::TerminalIo;
use crabbox_vast_engine::{Call, Code, Engine, Error};
use napi::bindgen_prelude::{AsyncBlock, spawn};
use napi::{Env, Result};
use napi_derive::napi;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A lease with its live SSH session and the engine that made it.
#[napi]
#[derive(Clone)]
pub struct LeaseHandle {
    engine: Engine,
    lease: Lease,
}

impl LeaseHandle {
    pub(crate) fn new(engine: Engine, lease: Lease) -> Self {
        Self { engine, lease }
    }

    fn id(&self) -> String {
        self.lease.facts().id.to_string()
    }
}

#[napi]
impl LeaseHandle {
    /// The plain facts.
    #[napi(catch_unwind)]
    #[must_use]
    pub fn info(&self) -> Value {
        json!(self.lease.facts())
    }

    /// Starts a command.
    #[napi(catch_unwind)]
    pub fn exec(&self, env: &Env, request: ExecCall, cancel: &Cancel) -> Result<Exec> {
        let stdin = request.stdin;
        let request = ExecRequest::try_from(request).map_err(|error| js_error(env, &error))?;
        let (lease, call) = (self.lease.clone(), call(cancel, None));
        Ok(Exec::start(stdin, cancel, move |streams| async move {
            Ok(results::ended(&lease.exec(&request, streams.plain(), &call).await?))
        }))
    }

    /// Opens a terminal on the instance.
    #[napi(catch_unwind)]
    pub fn shell(
        &self,
        env: &Env,
        request: ShellCall,
        cancel: &Cancel,
        events: Option<Events>,
    ) -> Result<Exec> {
        let wanted = Terminal::try_from(request).map_err(|error| js_error(env, &error))?;
        let (lease, call) = (self.lease.clone(), call(cancel, events));
        Ok(Exec::start(true, cancel, move |streams| async move {
            let Streams { stdin, output, resizes } = streams;
            let Terminal { script, name, size } = wanted;
            // A terminal always has keys; `Exec` was told so.
            let keys = stdin.unwrap_or_else(|| mpsc::channel(1).1);
            let io = ShellIo::Terminal(Box::new(move || TerminalIo { name, size, resizes, keys, output }));
            Ok(results::ended(&lease.shell(script.as_ref(), io, &call).await?))
        }))
    }

    /// Copies files between this machine and the instance, on its session.
    #[napi(catch_unwind)]
    pub fn copy(
        &self,
        env: &Env,
        request: HeldCopyCall,
        cancel: &Cancel,
        events: Option<Events>,
    ) -> Result<AsyncBlock<Value>> {
        let (handle, call) = (self.clone(), call(cancel, events));
        let work = move || async move {
            let HeldCopyCall { local, remote, to_remote } = request;
            let (lease, local) = (&handle.lease, handle.engine.settings().cwd.join(local));
            let copied = if to_remote {
                lease.copy_to(&local, &remote, &lease.workspace(), &call).await?
            } else {
                lease.copy_from(&remote, &local, &lease.workspace(), &call).await?
            };
            Ok(json!(copied))
        };
        start(env, cancel, work, |_, value| Ok(value))
    }

    /// Opens local ports that lead to the instance, over connections of their own.
    #[napi(catch_unwind)]
    pub fn tunnel(
        &self,
        env: &Env,
        forwards: Vec<String>,
        cancel: &Cancel,
        events: Option<Events>,
    ) -> Result<AsyncBlock<TunnelHandle>> {
        let (handle, call) = (self.clone(), call(cancel, events));
        let work = move || async move {
            let forwards =
                forwards.iter().map(|text| text.parse()).collect::<crabbox_vast_engine::Result<_>>()?;
            let wanted = TunnelRequest { identifier: handle.id(), reclaim: false, forwards };
            Ok(TunnelHandle::new(handle.engine.tunnel(&wanted, &call).await?))
        };
        start(env, cancel, work, |_, tunnel| Ok(tunnel))
    }

    /// Its state, freshly read.
    #[napi(catch_unwind)]
    pub fn status(&self, env: &Env, cancel: &Cancel, events: Option<Events>) -> Result<AsyncBlock<Value>> {
        let (lease, call) = (self.lease.clone(), call(cancel, events));
        let work = move || async move { Ok(json!(lease.status(&call).await?)) };
        start(env, cancel, work, |_, value| Ok(value))
    }

    /// Moves its idle deadline.
    #[napi(catch_unwind)]
    pub fn touch(
        &self,
        env: &Env,
        request: HeldTouchCall,
        cancel: &Cancel,
        events: Option<Events>,
    ) -> Result<AsyncBlock<Value>> {
        let (handle, call) = (self.clone(), call(cancel, events));
        let work = move || async move {
            let touched = handle.engine.touch(&handle.id(), request.idle_timeout()?, &call).await?;
            Ok(results::touched(&touched))
        };
        start(env, cancel, work, |_, value| Ok(value))
    }

    /// Closes the session and releases the lease.
    #[napi(catch_unwind)]
    pub fn release(
        &self,
        env: &Env,
        request: HeldReleaseCall,
        cancel: &Cancel,
        events: Option<Events>,
    ) -> Result<AsyncBlock<Value>> {
        let (lease, call) = (self.lease.clone(), call(cancel, events));
        let work = move || async move {
            let released = lease.release(action(request.action.as_deref())?, &call).await?;
            Ok(json!(released))
        };
        start(env, cancel, work, |_, value| Ok(value))
    }

    /// Closes the session, nothing else.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        let lease = self.lease.clone();
        spawn(async move { lease.close().await });
    }
}

/// A lease that JavaScript does not hold yet. Until then the token of its call still gives it back, so that a process that
/// stops between the two leaves nothing; `Cancel::settled` waits for that.
pub(crate) struct Undelivered {
    handle: Arc<Mutex<Option<LeaseHandle>>>,
    delivered: CancellationToken,
}

impl Undelivered {
    pub(crate) fn new(
        handle: LeaseHandle,
        call: Call,
        cancelled: CancellationToken,
        covering: RunningCall,
    ) -> Self {
        let this = Self { handle: Arc::new(Mutex::new(Some(handle))), delivered: CancellationToken::new() };
        let (slot, delivered) = (Arc::clone(&this.handle), this.delivered.clone());
        tokio::spawn(async move {
            let _covering = covering;
            tokio::select! {
                () = delivered.cancelled() => {}
                () = cancelled.cancelled() => {
                    let left = take(&slot);
                    if let Some(LeaseHandle { lease, .. }) = left {
                        let left = lease.undeliver(&call).await;
                        if left.details().contains_key("lease") {
                            call.warn(format!("{left}; {}", left.hint_text().unwrap_or_default()));
                        }
                    }
                }
            }
        });
        this
    }

    pub(crate) fn deliver(self, env: &Env) -> Result<LeaseHandle> {
        let handle = take(&self.handle);
        self.delivered.cancel();
        handle.ok_or_else(|| js_error(env, &Error::new(Code::Cancelled, "cancelled")))
    }
}

fn take(slot: &Mutex<Option<LeaseHandle>>) -> Option<LeaseHandle> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

//! An open tunnel in JavaScript's hands.

use crate::cancel::Cancel;
use crate::convert::TunnelCall;
use crate::engine::engine;
use crate::runtime::{Events, call, start};
use crabbox_vast_engine::ops::{Tunnel, TunnelRequest};
use crabbox_vast_engine::{Code, Error};
use napi::bindgen_prelude::AsyncBlock;
use napi::{Env, Result};
use napi_derive::napi;
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};

/// Open ports, which serve once they are told to.
#[napi]
pub struct TunnelHandle {
    facts: Value,
    tunnel: Mutex<Option<Tunnel>>,
}

impl TunnelHandle {
    pub(crate) fn new(tunnel: Tunnel) -> Self {
        Self { facts: json!(tunnel.facts()), tunnel: Mutex::new(Some(tunnel)) }
    }
}

#[napi]
impl TunnelHandle {
    /// The lease and the ports, each with its number here.
    #[napi(catch_unwind)]
    #[must_use]
    pub fn facts(&self) -> Value {
        self.facts.clone()
    }

    /// Serves until it is cancelled, which is how it ends well.
    #[napi(catch_unwind)]
    pub fn serve(&self, env: &Env, cancel: &Cancel, events: Option<Events>) -> Result<AsyncBlock<()>> {
        let tunnel = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
        let call = call(cancel, events);
        let work = move || async move {
            let tunnel = tunnel.ok_or_else(|| Error::new(Code::InvalidState, "the tunnel serves already"))?;
            match tunnel.serve(&call).await {
                Err(error) if error.code() == Code::Cancelled => Ok(()),
                outcome => outcome,
            }
        };
        start(env, cancel, work, |_, ()| Ok(()))
    }
}

/// Opens local ports that lead to a lease.
#[napi(catch_unwind)]
pub fn tunnel(
    env: &Env,
    request: TunnelCall,
    cancel: &Cancel,
    events: Option<Events>,
) -> Result<AsyncBlock<TunnelHandle>> {
    let call = call(cancel, events);
    let work = move || async move {
        let TunnelCall { context, id, reclaim, forwards } = request;
        let forwards =
            forwards.iter().map(|text| text.parse()).collect::<crabbox_vast_engine::Result<_>>()?;
        let wanted = TunnelRequest { identifier: id, reclaim, forwards };
        Ok(TunnelHandle::new(engine(context)?.tunnel(&wanted, &call).await?))
    };
    start(env, cancel, work, |_, tunnel| Ok(tunnel))
}

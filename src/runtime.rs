//! Where operations run: a small tokio runtime of our own, never the JavaScript thread and never libuv's pool.

use crate::cancel::Cancel;
use crate::errors::{keep_panics_quiet, panicked, settle};
use napi::bindgen_prelude::{AsyncBlock, AsyncBlockBuilder, ToNapiValue};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Result, Status};
use serde_json::Value;
use std::future::Future;

/// Receives events; weak, so that it never holds the process, and without an error argument.
pub(crate) type Events = ThreadsafeFunction<Value, (), Value, Status, false, true>;

/// Two threads: an operation waits for the network, it does not compute. The default is one for each core.
#[napi_derive::module_init]
fn init() {
    keep_panics_quiet();
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("crabbox-vast")
        .enable_all()
        .build();
    if let Ok(runtime) = built {
        napi::bindgen_prelude::create_custom_tokio_runtime(runtime);
    }
}

/// Starts an operation at once and gives the promise of its result; `map` runs on the JavaScript thread.
///
/// A panic becomes a rejection. `cancel.wait` covers the operation until it has ended, also when nobody waits for
/// the promise any more.
pub(crate) fn start<T, U>(
    env: &Env,
    cancel: &Cancel,
    work: impl Future<Output = crabbox_vast_engine::Result<T>> + Send + 'static,
    map: impl FnOnce(&Env, T) -> Result<U> + 'static,
) -> Result<AsyncBlock<U>>
where
    T: Send + 'static,
    U: ToNapiValue + 'static,
{
    let running = cancel.begin();
    let guarded = async move {
        let task = tokio::spawn(async move {
            let _running = running;
            work.await
        });
        Ok(task.await.unwrap_or_else(|_| Err(panicked())))
    };
    AsyncBlockBuilder::build_with_map(env, guarded, |env, outcome| settle(&env, outcome, map))
}

/// Sends an event to JavaScript without waiting for it.
pub(crate) fn emit(events: Option<&Events>, event: Value) {
    if let Some(events) = events {
        events.call(event, ThreadsafeFunctionCallMode::NonBlocking);
    }
}

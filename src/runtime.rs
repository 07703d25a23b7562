//! Where operations run: a small tokio runtime of our own, never the JavaScript thread and never libuv's pool.

use crate::cancel::Cancel;
use crate::errors::{keep_panics_quiet, panicked, settle};
use crabbox_vast_engine::{Call, Event, Result as EngineResult};
use napi::bindgen_prelude::{AsyncBlock, AsyncBlockBuilder, ToNapiValue};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Result, Status};
use serde_json::Value;
use std::future::Future;

/// Receives events; weak, so that it never holds the process, and without an error argument.
#[napi_derive::napi]
pub type Events = ThreadsafeFunction<Value, (), Value, Status, false, true>;

/// Two threads: an operation waits for the network, it does not compute. The default is one for each core.
#[napi_derive::module_init]
fn init() {
    keep_panics_quiet();
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("crabbox-vast")
        // The futures of an acquire or a cleanup are large; only what is used is taken from the system.
        .thread_stack_size(8 << 20)
        .enable_all()
        .build();
    if let Ok(runtime) = built {
        napi::bindgen_prelude::create_custom_tokio_runtime(runtime);
    }
}

/// The most bytes that an operation may be given.
const MOST: usize = 4096;

/// Starts an operation at once and gives the promise of its result; `map` runs on the JavaScript thread.
///
/// `work` is called on the runtime: the future of an operation is large, and made here it would pass through the
/// JavaScript thread's stack. Where that grows beyond what V8 allows, the calls into JavaScript fail without a reason.
///
/// `cancel.wait` covers the operation until it has ended, also when nobody waits for the promise any more.
pub(crate) fn start<T, U, Work>(
    env: &Env,
    cancel: &Cancel,
    work: impl FnOnce() -> Work + Send + 'static,
    map: impl FnOnce(&Env, T) -> Result<U> + 'static,
) -> Result<AsyncBlock<U>>
where
    T: Send + 'static,
    U: ToNapiValue + 'static,
    Work: Future<Output = EngineResult<T>> + Send + 'static,
{
    debug_assert!(size_of_val(&work) <= MOST, "what an operation is given passes through the stack: box it");
    let running = cancel.begin();
    let covered = async move {
        let _running = running;
        Box::pin(work()).await
    };
    promise(env, covered, map)
}

/// Starts something and gives its promise. A panic becomes a rejection.
pub(crate) fn promise<T, U>(
    env: &Env,
    work: impl Future<Output = EngineResult<T>> + Send + 'static,
    map: impl FnOnce(&Env, T) -> Result<U> + 'static,
) -> Result<AsyncBlock<U>>
where
    T: Send + 'static,
    U: ToNapiValue + 'static,
{
    let guarded = async move { Ok(unless_panicked(work).await) };
    AsyncBlockBuilder::build_with_map(env, guarded, |env, outcome| settle(&env, outcome, map))
}

/// Runs something as a task of its own, whose panic is an error like others.
pub(crate) async fn unless_panicked<T: Send + 'static>(
    work: impl Future<Output = EngineResult<T>> + Send + 'static,
) -> EngineResult<T> {
    tokio::spawn(work).await.unwrap_or_else(|_| Err(panicked()))
}

/// The companion of an operation: its events go to JavaScript, and the token ends it.
pub(crate) fn call(cancel: &Cancel, events: Option<Events>) -> Call {
    match events {
        Some(events) => Call::new(move |event| emit(&events, &event), cancel.token()),
        None => Call::new(|_| (), cancel.token()),
    }
}

/// Sends an event without waiting for it. An event that cannot be written is not worth a failed operation.
fn emit(events: &Events, event: &Event) {
    if let Ok(value) = serde_json::to_value(event) {
        events.call(value, ThreadsafeFunctionCallMode::NonBlocking);
    }
}

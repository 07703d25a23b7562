//! How JavaScript stops a call: a token of our own.
//!
//! An `AbortSignal` is never taken: napi-rs would replace the caller's `onabort` and overlook an already aborted
//! signal. `lib/call.js` listens to the signal and cancels the token.

use crate::runtime::promise;
use napi::bindgen_prelude::AsyncBlock;
use napi::{Env, Result};
use napi_derive::napi;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Counts the calls that still run under a token.
#[derive(Default)]
struct Running {
    calls: Mutex<usize>,
    ended: Condvar,
}

/// How often a promise looks whether calls have ended; it seldom has to.
const LOOKS: Duration = Duration::from_millis(20);

impl Running {
    /// Waits until none runs, at most `limit`; whether none does.
    fn wait(&self, limit: Duration) -> bool {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ended.wait_timeout_while(calls, limit, |calls| *calls > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }
}

/// Held by a call while it runs.
pub(crate) struct RunningCall(Arc<Running>);

impl Drop for RunningCall {
    fn drop(&mut self) {
        *self.0.calls.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.ended.notify_all();
    }
}

/// Cancels the calls that it was handed to.
#[napi]
#[derive(Default)]
pub struct Cancel {
    token: CancellationToken,
    running: Arc<Running>,
}

#[napi]
impl Cancel {
    /// A token that is not cancelled.
    #[napi(constructor, catch_unwind)]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the calls to stop. They still undo what they began, and then reject with the code `cancelled`.
    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Blocks until every call of this token has ended, at most `millis`; says whether they have.
    /// Only for the end of the process, where no promise is delivered any more.
    #[napi(catch_unwind)]
    #[must_use]
    pub fn wait(&self, millis: f64) -> bool {
        self.running.wait(Duration::try_from_secs_f64(millis / 1000.0).unwrap_or_default())
    }

    /// Resolves once every call of this token has ended, with what it still gives back after its promise.
    #[napi(catch_unwind, ts_return_type = "Promise<void>")]
    pub fn settled(&self, env: &Env) -> Result<AsyncBlock<()>> {
        let running = Arc::clone(&self.running);
        let waiting = async move {
            while !running.wait(Duration::ZERO) {
                tokio::time::sleep(LOOKS).await;
            }
            Ok(())
        };
        promise(env, waiting, |_, ()| Ok(()))
    }
}

impl Cancel {
    pub(crate) fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    pub(crate) fn begin(&self) -> RunningCall {
        *self.running.calls.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        RunningCall(Arc::clone(&self.running))
    }
}

//! A running remote command: its streams, pulled and pushed by JavaScript at its own pace.

use crate::cancel::Cancel;
use crate::errors::panicked;
use crate::runtime::{promise, unless_panicked};
use bytes::Bytes;
use crabbox_vast_engine::ops::{ExecRequest, Lease};
use crabbox_vast_engine::world::{ExecExit, ExecIo, Output};
use crabbox_vast_engine::{Call, Result as EngineResult};
use napi::bindgen_prelude::{AsyncBlock, Buffer, spawn};
use napi::{Env, Result};
use napi_derive::napi;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

/// Pieces of output that wait for JavaScript; a piece is at most 32 KiB.
const OUTPUT: usize = 16;
/// Pieces of standard input that wait for the connection.
const INPUT: usize = 4;

/// A piece of output.
#[napi(object, object_from_js = false)]
pub struct ExecPiece {
    /// `stdout` or `stderr`.
    #[napi(ts_type = "'stdout' | 'stderr'")]
    pub stream: &'static str,
    /// The bytes.
    #[napi(ts_type = "Uint8Array")]
    pub data: Buffer,
}

/// How a command ended.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct ExecEnd {
    /// The exit code, unless a signal ended it.
    pub exit_code: Option<u32>,
    /// That signal, without `SIG`.
    pub signal: Option<String>,
}

/// A command that runs.
#[napi]
pub struct Exec {
    output: Arc<AsyncMutex<mpsc::Receiver<Output>>>,
    stdin: Mutex<Option<mpsc::Sender<Bytes>>>,
    ended: Arc<AsyncMutex<Option<oneshot::Receiver<EngineResult<ExecExit>>>>>,
}

impl Exec {
    pub(crate) fn start(lease: Lease, request: ExecRequest, stdin: bool, cancel: &Cancel) -> Self {
        let (give, output) = mpsc::channel(OUTPUT);
        let (end, ended) = oneshot::channel();
        let (write, read) = if stdin { Some(mpsc::channel(INPUT)).unzip() } else { (None, None) };
        let (call, running) = (Call::new(|_| (), cancel.token()), cancel.begin());
        spawn(async move {
            let _running = running;
            let io = ExecIo { stdin: read, output: give };
            // Nobody may ask how it ended.
            let _ = end.send(unless_panicked(async move { lease.exec(&request, io, &call).await }).await);
        });
        Self {
            output: Arc::new(AsyncMutex::new(output)),
            stdin: Mutex::new(write),
            ended: Arc::new(AsyncMutex::new(Some(ended))),
        }
    }
}

#[napi]
impl Exec {
    /// The next piece of output, nothing after the last. Not asked for, the remote side waits.
    #[napi(catch_unwind, ts_return_type = "Promise<ExecPiece | null>")]
    pub fn next(&self, env: &Env) -> Result<AsyncBlock<Option<ExecPiece>>> {
        let output = Arc::clone(&self.output);
        let work = async move { Ok(output.lock().await.recv().await) };
        promise(env, work, |_, piece| Ok(piece.map(ExecPiece::from)))
    }

    /// Resolves when the piece is on its way; `false` when the command takes no more.
    #[napi(catch_unwind)]
    pub fn write(&self, env: &Env, data: &[u8]) -> Result<AsyncBlock<bool>> {
        let sender = self.stdin.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let data = Bytes::copy_from_slice(data);
        let work = async move {
            Ok(match sender {
                Some(sender) => sender.send(data).await.is_ok(),
                None => false,
            })
        };
        promise(env, work, |_, taken| Ok(taken))
    }

    /// Ends standard input.
    #[napi(catch_unwind)]
    pub fn end(&self) {
        self.stdin.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// How the command ended.
    #[napi(catch_unwind)]
    pub fn done(&self, env: &Env) -> Result<AsyncBlock<ExecEnd>> {
        let ended = Arc::clone(&self.ended);
        let work = async move {
            match ended.lock().await.take() {
                Some(ended) => ended.await.unwrap_or_else(|_| Err(panicked())),
                None => Err(panicked()),
            }
        };
        promise(env, work, |_, exit| Ok(ExecEnd::from(exit)))
    }
}

impl From<Output> for ExecPiece {
    fn from(output: Output) -> Self {
        let (stream, data) = match output {
            Output::Stdout(data) => ("stdout", data),
            Output::Stderr(data) => ("stderr", data),
        };
        Self { stream, data: Vec::from(data).into() }
    }
}

impl From<ExecExit> for ExecEnd {
    fn from(exit: ExecExit) -> Self {
        match exit {
            ExecExit::Code(code) => Self { exit_code: Some(code), signal: None },
            ExecExit::Signal(name) => Self { exit_code: None, signal: Some(name) },
        }
    }
}

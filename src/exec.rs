//! What runs on an instance: its streams, pulled and pushed by JavaScript at its own pace.

use crate::cancel::Cancel;
use crate::convert::terminal_size;
use crate::errors::{js_error, panicked};
use crate::runtime::{promise, unless_panicked};
use bytes::Bytes;
use crabbox_vast_engine::Result as EngineResult;
use crabbox_vast_engine::world::{ExecIo, Output, TerminalSize};
use napi::bindgen_prelude::{AsyncBlock, Buffer, spawn};
use napi::{Env, Result};
use napi_derive::napi;
use serde_json::Value;
use std::future::Future;
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

/// Something that runs on an instance: a command, a whole run, a shell.
#[napi]
pub struct Exec {
    output: Arc<AsyncMutex<mpsc::Receiver<Output>>>,
    stdin: Mutex<Option<mpsc::Sender<Bytes>>>,
    resizes: mpsc::Sender<TerminalSize>,
    ended: Arc<AsyncMutex<Option<oneshot::Receiver<EngineResult<Value>>>>>,
}

/// The engine's ends of the streams.
pub(crate) struct Streams {
    /// Whether standard input will come, and from where.
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    /// Takes both output streams.
    pub output: mpsc::Sender<Output>,
    /// The later sizes of a terminal.
    pub resizes: mpsc::Receiver<TerminalSize>,
}

impl Streams {
    /// As a command takes them.
    pub(crate) fn plain(self) -> ExecIo {
        ExecIo { stdin: self.stdin, output: self.output }
    }
}

impl Exec {
    /// Starts `work` at once; its value is how it ended.
    pub(crate) fn start<Work>(
        stdin: bool,
        cancel: &Cancel,
        work: impl FnOnce(Streams) -> Work + Send + 'static,
    ) -> Self
    where
        Work: Future<Output = EngineResult<Value>> + Send + 'static,
    {
        let (give, output) = mpsc::channel(OUTPUT);
        let (end, ended) = oneshot::channel();
        let (write, read) = if stdin { Some(mpsc::channel(INPUT)).unzip() } else { (None, None) };
        let (resize, resizes) = mpsc::channel(INPUT);
        let running = cancel.begin();
        let streams = Streams { stdin: read, output: give, resizes };
        spawn(async move {
            let _running = running;
            // The large future is made on the runtime. Nobody may ask how it ended.
            let _ = end.send(unless_panicked(Box::pin(async move { work(streams).await })).await);
        });
        Self {
            output: Arc::new(AsyncMutex::new(output)),
            stdin: Mutex::new(write),
            resizes: resize,
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

    /// Tells a terminal its new size. One that is not taken in time is overtaken by the next.
    #[napi(catch_unwind)]
    pub fn resize(&self, env: &Env, columns: f64, rows: f64) -> Result<()> {
        let size = terminal_size(columns, rows).map_err(|error| js_error(env, &error))?;
        let _ = self.resizes.try_send(size);
        Ok(())
    }

    /// How it ended.
    #[napi(catch_unwind)]
    pub fn done(&self, env: &Env) -> Result<AsyncBlock<Value>> {
        let ended = Arc::clone(&self.ended);
        let work = async move {
            match ended.lock().await.take() {
                Some(ended) => ended.await.unwrap_or_else(|_| Err(panicked())),
                None => Err(panicked()),
            }
        };
        promise(env, work, |_, value| Ok(value))
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

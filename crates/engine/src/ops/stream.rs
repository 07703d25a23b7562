//! Bridges between threads that block on files and the streams of a remote command, with back-pressure both ways.

use crate::world::StdinChunk;
use bytes::Bytes;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

const CHUNK: usize = 64 * 1024;
/// Chunks under way.
pub(super) const DEPTH: usize = 16;

/// Writes into the standard input of a remote command. It fails once nobody reads there any more.
pub(super) struct ToRemote {
    send: mpsc::Sender<StdinChunk>,
    buffer: Vec<u8>,
    sent: Arc<AtomicU64>,
}

impl ToRemote {
    /// `sent` counts the bytes that went out.
    pub fn new(send: mpsc::Sender<StdinChunk>, sent: Arc<AtomicU64>) -> Self {
        Self { send, buffer: Vec::with_capacity(CHUNK), sent }
    }
}

impl Write for ToRemote {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK)));
        let count = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        self.send.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.sent.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }
}

/// Reads the standard output of a remote command.
pub(super) struct FromRemote {
    receive: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl FromRemote {
    pub fn new(receive: mpsc::Receiver<Bytes>) -> Self {
        Self { receive, rest: Bytes::new() }
    }
}

impl Read for FromRemote {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.receive.blocking_recv() {
                Some(chunk) => self.rest = chunk,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

/// Small data for a remote command.
pub(super) fn ready_input(bytes: Vec<u8>) -> mpsc::Receiver<StdinChunk> {
    let (send, receive) = mpsc::channel(1);
    // There is room for one.
    let _ = send.try_send(Bytes::from(bytes));
    receive
}

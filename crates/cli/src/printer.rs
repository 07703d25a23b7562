//! The one place that writes to standard output and standard error.

use crabbox_vast_engine::Error;
use serde_json::Value;
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Writes results to standard output and everything else to standard error. Clones share their state.
///
/// A reader that went away (`… | head`) is no failure: what is written afterwards is dropped. Any other failure of standard
/// output is one of the command, see [`Printer::end`], and nothing follows a part that is missing.
#[derive(Debug, Clone, Default)]
pub struct Printer {
    gone: Arc<AtomicBool>,
    lost: Arc<OnceLock<io::Error>>,
}

impl Printer {
    /// A printer to the process's own streams.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the reader of standard output went away.
    pub fn reader_is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// A result line.
    pub fn line(&self, text: &str) {
        self.out(format!("{text}\n").as_bytes());
    }

    /// A result that ends with a line break already.
    pub fn text(&self, text: &str) {
        self.out(text.as_bytes());
    }

    /// A result document on one line.
    pub fn json(&self, document: &Value) {
        self.line(&document.to_string());
    }

    /// A remark on standard error.
    pub fn note(&self, text: &str) {
        self.err(format!("{text}\n").as_bytes());
    }

    /// Bytes for standard output as they are.
    pub fn out(&self, bytes: &[u8]) {
        if self.lost.get().is_some() {
            return;
        }
        match put(&mut io::stdout().lock(), bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.gone.store(true, Ordering::Relaxed),
            // Another thread's failure may be there already; one is enough.
            Err(error) => drop(self.lost.set(error)),
        }
    }

    /// Bytes for standard error as they are.
    pub fn err(&self, bytes: &[u8]) {
        let mut stream = io::stderr().lock();
        // There is nowhere to complain to.
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    }

    /// The exit code of a command that ends with `code`: 1 for a success whose output was lost, which is told.
    pub fn end(&self, code: u8) -> u8 {
        let Some(error) = self.lost.get() else { return code };
        self.note(&format!("standard output cannot be written: {error}"));
        self.note("hint: the output is not whole; see the room on its disk");
        if code == 0 { 1 } else { code }
    }

    /// Whether a person looks at standard error.
    pub fn is_watched(&self) -> bool {
        io::stderr().is_terminal()
    }

    /// A failure: one document under `--json`, else its message and below it what to do. Its exit code.
    pub fn failure(&self, error: &Error, json: bool) -> u8 {
        if json {
            self.json(&error.to_json());
        } else {
            self.note(&error.to_string());
            if let Some(hint) = error.hint_text() {
                self.note(&format!("hint: {hint}"));
            }
        }
        error.exit_code()
    }
}

/// Writes all of it. A stream that whoever shares it has made non-blocking is waited for.
fn put(stream: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    loop {
        let done =
            if bytes.is_empty() { stream.flush().map(|()| None) } else { stream.write(bytes).map(Some) };
        match done {
            Ok(None) => return Ok(()),
            Ok(Some(0)) => return Err(ErrorKind::WriteZero.into()),
            Ok(Some(count)) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(5))
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes three bytes at a time, and only every other time.
    #[derive(Default)]
    struct Slow {
        taken: Vec<u8>,
        calls: usize,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls % 2 == 1 {
                return Err(ErrorKind::WouldBlock.into());
            }
            let count = bytes.len().min(3);
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_reader_loses_nothing() {
        let mut slow = Slow::default();
        put(&mut slow, b"all of this").unwrap();
        assert_eq!(slow.taken, b"all of this");
    }
}

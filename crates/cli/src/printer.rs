//! The one place that writes to standard output and standard error.

use crabbox_vast_engine::Error;
use serde_json::Value;
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Writes results to standard output and everything else to standard error. Clones share their state.
///
/// A reader that went away (`… | head`) is no failure: what is written afterwards is dropped.
#[derive(Debug, Clone, Default)]
pub struct Printer {
    gone: Arc<AtomicBool>,
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
        let mut stream = io::stdout().lock();
        let written = stream.write_all(bytes).and_then(|()| stream.flush());
        if written.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
            self.gone.store(true, Ordering::Relaxed);
        }
    }

    /// Bytes for standard error as they are.
    pub fn err(&self, bytes: &[u8]) {
        let mut stream = io::stderr().lock();
        // There is nowhere to complain to.
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
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

//! The terminal of an interactive session: raw while it lasts, and as it was whatever ends it.

use crabbox_vast_engine::world::{StdinChunk, TerminalSize};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode, size};
use std::io::{IsTerminal as _, Read as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Whether a person sits at both ends.
pub fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// The terminal's size; the classic one where it does not tell.
pub fn present_size() -> TerminalSize {
    let (columns, rows) = size().ok().filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or((80, 24));
    TerminalSize { columns: columns.into(), rows: rows.into() }
}

/// Raw mode until dropped, also by a panic.
pub struct Raw(());

impl Raw {
    /// Hands every key to the program.
    pub fn enter() -> std::io::Result<Self> {
        enable_raw_mode()?;
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Makes the terminal what it was; for whoever leaves without unwinding.
pub fn restore() {
    // A terminal that is gone needs no mending.
    let _ = disable_raw_mode();
}

/// Tells of every change of size, for as long as somebody listens.
#[cfg(unix)]
pub fn resizes() -> mpsc::Receiver<TerminalSize> {
    let (tell, told) = mpsc::channel(1);
    tokio::spawn(async move {
        let kind = tokio::signal::unix::SignalKind::window_change();
        let Ok(mut changes) = tokio::signal::unix::signal(kind) else { return };
        while changes.recv().await.is_some() && tell.send(present_size()).await.is_ok() {}
    });
    told
}

/// Such a system tells no program of it.
#[cfg(not(unix))]
pub fn resizes() -> mpsc::Receiver<TerminalSize> {
    mpsc::channel(1).1
}

/// What is typed, read by a thread of its own: a read that nobody ends must not hold the process. Enter, `~` and `.` end
/// the session at once, as in `ssh`: every other key is the far side's.
pub fn keys(leave: CancellationToken) -> mpsc::Receiver<StdinChunk> {
    let (send, receive) = mpsc::channel(4);
    std::thread::spawn(move || {
        let (mut buffer, mut escape) = ([0; 4096], Escape::default());
        let mut input = std::io::stdin().lock();
        while let Ok(count @ 1..) = input.read(&mut buffer) {
            let Some(typed) = escape.filter(&buffer[..count]) else {
                leave.cancel();
                break;
            };
            if !typed.is_empty() && send.blocking_send(typed.into()).is_err() {
                break;
            }
        }
    });
    receive
}

/// Watches for the keys that leave.
#[derive(Default)]
struct Escape {
    inside_line: bool,
    tilde: bool,
}

impl Escape {
    /// What goes to the far side; nothing once the session is to be left.
    fn filter(&mut self, typed: &[u8]) -> Option<Vec<u8>> {
        let mut passed = Vec::with_capacity(typed.len() + 1);
        for &key in typed {
            if std::mem::take(&mut self.tilde) {
                match key {
                    b'.' => return None,
                    // Twice means one.
                    b'~' => {}
                    _ => passed.push(b'~'),
                }
            } else if key == b'~' && !self.inside_line {
                self.tilde = true;
                continue;
            }
            self.inside_line = !matches!(key, b'\r' | b'\n');
            passed.push(key);
        }
        Some(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[&str]) -> Option<String> {
        let mut escape = Escape::default();
        let passed: Option<Vec<Vec<u8>>> = keys.iter().map(|keys| escape.filter(keys.as_bytes())).collect();
        Some(String::from_utf8(passed?.concat()).unwrap())
    }

    #[test]
    fn only_the_three_keys_leave() {
        assert_eq!(typed(&["ls ~/x\r", "a~.b"]).as_deref(), Some("ls ~/x\ra~.b"));
        assert_eq!(typed(&["x\r", "~", "."]), None);
        assert_eq!(typed(&["~."]), None);
        assert_eq!(typed(&["~~.\r"]).as_deref(), Some("~.\r"));
        assert_eq!(typed(&["\r~a\r"]).as_deref(), Some("\r~a\r"));
    }
}

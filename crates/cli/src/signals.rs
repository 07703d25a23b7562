//! Ctrl-C, SIGTERM and SIGHUP: the first asks the command to end, which releases what it rented; the second leaves.
//! The exit code is that of a program that the signal ended: 130, 143, 129.

use crate::advice;
use crate::printer::Printer;
use crate::progress::Progress;
use crabbox_vast_engine::{Code, Error};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Which signal came first.
#[derive(Debug, Clone, Default)]
pub struct Interrupted(Arc<AtomicU8>);

impl Interrupted {
    /// The exit code that tells of it; `None` while none came.
    pub fn exit_code(&self) -> Option<u8> {
        Some(self.0.load(Ordering::Relaxed)).filter(|number| *number > 0).map(|number| 128 + number)
    }
}

/// Cancels `token` at the first signal; at the second says what is left, and what to type in a simulation or outside one,
/// and ends the process. Who waits for a document gets one.
pub fn watch(
    token: CancellationToken,
    progress: Progress,
    printer: Printer,
    simulation: bool,
    json: bool,
) -> Interrupted {
    let interrupted = Interrupted::default();
    let seen = interrupted.clone();
    tokio::spawn(async move {
        let Ok(mut signals) = Signals::new() else { return };
        seen.0.store(signals.next().await, Ordering::Relaxed);
        token.cancel();
        progress.pause();
        printer.note("interrupted: ending in order; once more to leave at once");
        // One key press may arrive twice: from the terminal, and passed on by a parent.
        while tokio::time::timeout(Duration::from_millis(500), signals.next()).await.is_ok() {}
        signals.next().await;
        progress.pause();
        let left = match progress.in_work() {
            Some(lease) => format!(
                "left at once: lease {0} may still be rented and billed; run `crabbox-vast stop {0}`",
                lease.name
            ),
            None => "left at once; `crabbox-vast list` shows what is rented".to_owned(),
        };
        let left = advice::typed(&left, simulation);
        printer.note(&left);
        if json {
            printer.failure(&Error::new(Code::Cancelled, left), json);
        }
        crate::terminal::restore();
        std::process::exit(seen.exit_code().unwrap_or(130).into());
    });
    interrupted
}

#[cfg(unix)]
struct Signals(Vec<(u8, tokio::signal::unix::Signal)>);

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let heard = kinds.into_iter().filter(|kind| !is_ignored(kind.as_raw_value()));
        let number = |kind: SignalKind| u8::try_from(kind.as_raw_value()).unwrap_or(2);
        heard.map(|kind| Ok((number(kind), signal(kind)?))).collect::<Result<_, _>>().map(Self)
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        let waits = self.0.iter_mut().map(|(number, signal)| (*number, Box::pin(signal.recv())));
        let mut waits: Vec<_> = waits.collect();
        std::future::poll_fn(|context| {
            let ready = waits
                .iter_mut()
                .find_map(|(number, wait)| wait.as_mut().poll(context).is_ready().then_some(*number));
            ready.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        })
        .await
    }
}

/// Whether the parent had this signal ignored, as `nohup` does with HUP: then it stays ignored.
#[cfg(unix)]
fn is_ignored(number: i32) -> bool {
    // Only Linux tells without a system call of our own; elsewhere every signal is heard.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    u32::try_from(number - 1).is_ok_and(|bit| mask.checked_shr(bit).unwrap_or(0) & 1 == 1)
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> u8 {
        let _ = tokio::signal::ctrl_c().await;
        2
    }
}

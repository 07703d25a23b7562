//! Ctrl-C, SIGTERM and SIGHUP: the first asks the command to end, which releases what it rented; the second leaves.

use crate::printer::Printer;
use crate::progress::Progress;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Cancels `token` at the first signal; at the second says what is left and ends the process.
pub fn watch(token: CancellationToken, progress: Progress, printer: Printer) {
    tokio::spawn(async move {
        let Ok(mut signals) = Signals::new() else { return };
        signals.next().await;
        token.cancel();
        progress.pause();
        printer.note("interrupted: ending in order; once more to leave at once");
        // One key press may arrive twice: from the terminal, and passed on by a parent.
        while tokio::time::timeout(Duration::from_millis(500), signals.next()).await.is_ok() {}
        signals.next().await;
        progress.pause();
        match progress.in_work() {
            Some(lease) => printer.note(&format!(
                "left at once: lease {0} may still be rented and billed; run `crabbox-vast stop {0}`",
                lease.name
            )),
            None => printer.note("left at once; `crabbox-vast list` shows what is rented"),
        }
        std::process::exit(130);
    });
}

#[cfg(unix)]
struct Signals(Vec<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let heard = kinds.into_iter().filter(|kind| !is_ignored(kind.as_raw_value()));
        heard.map(signal).collect::<Result<_, _>>().map(Self)
    }

    async fn next(&mut self) {
        let waits = self.0.iter_mut().map(|signal| Box::pin(signal.recv()));
        let mut waits: Vec<_> = waits.collect();
        std::future::poll_fn(|context| {
            let ready = waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready());
            if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
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

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

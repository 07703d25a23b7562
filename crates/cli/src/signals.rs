//! Ctrl-C, SIGTERM and SIGHUP: the first asks the command to end, which releases what it rented; the second leaves.

use crate::printer::Printer;
use crate::progress::Progress;
use tokio_util::sync::CancellationToken;

/// Cancels `token` at the first signal; at the second says what is left and ends the process.
pub fn watch(token: CancellationToken, progress: Progress, printer: Printer) {
    tokio::spawn(async move {
        let Ok(mut signals) = Signals::new() else { return };
        signals.next().await;
        token.cancel();
        progress.pause();
        printer.note("interrupted: ending in order; once more to leave at once");
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
        kinds.into_iter().map(signal).collect::<Result<_, _>>().map(Self)
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0[..] else { return std::future::pending().await };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
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

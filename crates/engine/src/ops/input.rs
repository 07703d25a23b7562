//! Standard input in two parts: bytes of our own, and behind them what the caller sends.

use crate::world::StdinChunk;
use std::future::Future;
use tokio::sync::mpsc;

/// The most pieces that wait between the two.
const WAITING: usize = 4;

/// An input that begins with `first` and goes on with `then`. It is fed only while the future is polled, which ends with
/// either side.
pub(super) fn chained(
    first: Vec<u8>,
    then: Option<mpsc::Receiver<StdinChunk>>,
) -> (mpsc::Receiver<StdinChunk>, impl Future<Output = ()>) {
    let (give, take) = mpsc::channel(WAITING);
    (take, async move { feed(&give, first, then).await })
}

/// Sends `first` and then everything of `then`, until nobody takes it any more.
pub(super) async fn feed(
    give: &mpsc::Sender<StdinChunk>,
    first: Vec<u8>,
    then: Option<mpsc::Receiver<StdinChunk>>,
) {
    if !first.is_empty() && give.send(first.into()).await.is_err() {
        return;
    }
    let Some(mut then) = then else { return };
    loop {
        // A caller that keeps its end open must not hold back a command that has ended.
        let chunk = tokio::select! {
            biased;
            () = give.closed() => return,
            chunk = then.recv() => chunk,
        };
        let Some(chunk) = chunk else { return };
        if give.send(chunk).await.is_err() {
            return;
        }
    }
}

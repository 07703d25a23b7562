//! The lock-out: whoever calls too often is refused everything for a minute, with 403 and without a reason.

use super::{Call, Engine, Phase};
use crate::Result;
use crate::vast::{Failure, Kind};
use std::time::Duration;
use tokio::time::Instant;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(2);

impl Engine {
    /// What `read` reads of `what`, read again for so long while the API locks this caller out. What is to end would bill on
    /// otherwise; its destroy, were it sent, is repeated for as long.
    ///
    /// # Errors
    /// Why it could not be read, at once where that is no lock-out; [`crate::Code::Cancelled`].
    pub(super) async fn once_let_in<T, R>(
        &self,
        what: &str,
        patience: Duration,
        call: &Call,
        read: impl Fn() -> R,
    ) -> Result<T>
    where
        R: Future<Output = std::result::Result<T, Failure>>,
    {
        let began = Instant::now();
        loop {
            match read().await {
                Err(failure) if failure.kind == Kind::Forbidden && began.elapsed() < patience => {
                    let why = failure.message;
                    call.phase(Phase::Release, format!("{what} cannot be looked at, trying again: {why}"));
                    let pause = async {
                        tokio::time::sleep(PAUSE).await;
                        Ok(())
                    };
                    call.until_cancelled(pause).await?;
                }
                other => return Ok(other?),
            }
        }
    }
}

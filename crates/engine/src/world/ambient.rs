//! Wall time, randomness and who we are.

use std::time::SystemTime;

/// What surrounds the process. Monotonic waiting is not here: the engine waits with tokio's timer.
pub trait Ambient: Send + Sync {
    /// The wall clock. It may jump; nothing but records for people and other processes is derived from it.
    fn now(&self) -> SystemTime;
    /// Fills `bytes` with randomness good enough for keys.
    fn random(&self, bytes: &mut [u8]);
    /// `pid@host`, for messages only: a pid proves nothing across containers.
    fn process(&self) -> String;
}

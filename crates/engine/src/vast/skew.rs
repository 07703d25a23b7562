//! How far this machine's clock is from the API's.

use crate::world::HttpReply;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// The difference that the newest answer with a `Date` told.
#[derive(Debug, Default)]
pub(super) struct Skew(Mutex<Option<i64>>);

impl Skew {
    /// Compares the clocks at the moment an answer came in.
    pub(super) fn note(&self, reply: &HttpReply, now: SystemTime) {
        let date = reply.date.as_deref().and_then(|text| jiff::fmt::rfc2822::parse(text).ok());
        if let Some(date) = date {
            let skew = crate::lease::unix(now) - date.timestamp().as_second();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(skew);
        }
    }

    /// Local time minus the API's, seconds.
    pub(super) fn seconds(&self) -> Option<i64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_newest_date_that_can_be_read_counts() {
        let skew = Skew::default();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 + 90);
        let answer = |date: Option<&str>| HttpReply { date: date.map(str::to_owned), ..HttpReply::default() };
        skew.note(&answer(None), now);
        assert_eq!(skew.seconds(), None);
        skew.note(&answer(Some("Sun, 06 Nov 1994 08:49:37 GMT")), now);
        assert_eq!(skew.seconds(), Some(90));
        skew.note(&answer(Some("yesterday")), now);
        assert_eq!(skew.seconds(), Some(90));
        skew.note(&answer(Some("Sun, 06 Nov 1994 08:51:37 GMT")), now);
        assert_eq!(skew.seconds(), Some(-30));
    }
}

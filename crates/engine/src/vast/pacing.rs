//! The vendor's published minimum intervals between calls, per key and endpoint.
//!
//! The limit is an interval per (endpoint, identity), published in seconds in the vendor's OpenAPI files; no header
//! announces it. Slots are kept in the store, so that processes of one user share them.

use std::time::Duration;

/// A group of calls that share one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitClass {
    /// `GET users/current`: nothing published.
    Account,
    /// Offer search: described as 10 a minute.
    Search,
    /// Create: 4.5 s.
    Create,
    /// v1 list: 1 s.
    List,
    /// Single read: 2 s.
    Show,
    /// State and label: 1 s.
    Manage,
    /// Destroy: 3 s.
    Destroy,
    /// Attaching and listing keys of an instance: nothing published.
    KeyAttach,
    /// Log request: nothing published.
    Logs,
    /// The object store behind a log address: not the API.
    ObjectStore,
}

/// When calls of a class may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Least time between two sends, margin included.
    pub interval: Duration,
    /// At most so many sends in a window, where that is how the limit is described.
    pub burst: Option<(u32, Duration)>,
}

impl LimitClass {
    /// The name under which slots are shared.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LimitClass::Account => "account",
            LimitClass::Search => "search",
            LimitClass::Create => "create",
            LimitClass::List => "list",
            LimitClass::Show => "show",
            LimitClass::Manage => "manage",
            LimitClass::Destroy => "destroy",
            LimitClass::KeyAttach => "key-attach",
            LimitClass::Logs => "logs",
            LimitClass::ObjectStore => "object-store",
        }
    }

    /// The published interval in seconds, 0 where none is.
    #[must_use]
    pub fn published(self) -> f64 {
        match self {
            LimitClass::Create => 4.5,
            LimitClass::List | LimitClass::Manage => 1.0,
            LimitClass::Show => 2.0,
            LimitClass::Destroy => 3.0,
            LimitClass::Account
            | LimitClass::Search
            | LimitClass::KeyAttach
            | LimitClass::Logs
            | LimitClass::ObjectStore => 0.0,
        }
    }

    /// The pace we keep: the published interval with 10 % and 50 ms on top, because the server measures arrivals
    /// and we measure departures.
    #[must_use]
    pub fn pace(self) -> Pace {
        let published = self.published();
        let interval = if published > 0.0 {
            Duration::from_secs_f64(published * 1.1) + Duration::from_millis(50)
        } else {
            Duration::ZERO
        };
        let burst = (self == LimitClass::Search).then_some((10, Duration::from_secs(62)));
        Pace { interval, burst }
    }

    /// How much later than it departed a call may arrive without the next one coming too early.
    #[must_use]
    pub fn margin(self) -> Duration {
        self.pace().interval.saturating_sub(Duration::from_secs_f64(self.published()))
    }

    /// How long to stay away after the API asked to slow down and named no time.
    #[must_use]
    pub fn penalty(self) -> Duration {
        match self {
            // The create endpoint is published with a penalty of 12 s.
            LimitClass::Create => Duration::from_secs(12),
            LimitClass::Search => Duration::from_secs(6),
            _ => self.pace().interval.max(Duration::from_secs(1)),
        }
    }
}

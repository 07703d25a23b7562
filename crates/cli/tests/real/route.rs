//! The calls that the vendor knows.

use std::time::Duration;

/// A call by what it is for; ids do not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    Account,
    Search,
    List,
    Create,
    Show,
    Attach,
    Keys,
    Detach,
    Manage,
    Destroy,
    Logs,
    /// The log itself, at its signed address.
    LogText,
}

impl Route {
    /// Those that some command calls. Nobody lists or detaches keys.
    pub const CALLED: [Route; 10] = [
        Route::Account,
        Route::Search,
        Route::List,
        Route::Create,
        Route::Show,
        Route::Attach,
        Route::Manage,
        Route::Destroy,
        Route::Logs,
        Route::LogText,
    ];

    /// The route of a request and the instance or offer in its path.
    pub fn of(method: &str, path: &str) -> Option<(Route, u64)> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let number = |text: &str| text.parse().unwrap_or(0);
        Some(match (method, parts.as_slice()) {
            ("GET", ["logs", id]) => (Route::LogText, number(id)),
            ("GET", ["api", "v0", "users", "current"]) => (Route::Account, 0),
            ("POST", ["api", "v0", "bundles"]) => (Route::Search, 0),
            ("GET", ["api", "v1", "instances"]) => (Route::List, 0),
            ("PUT", ["api", "v0", "asks", offer]) => (Route::Create, number(offer)),
            ("PUT", ["api", "v0", "instances", "request_logs", id]) => (Route::Logs, number(id)),
            ("GET", ["api", "v0", "instances", id]) => (Route::Show, number(id)),
            ("PUT", ["api", "v0", "instances", id]) => (Route::Manage, number(id)),
            ("DELETE", ["api", "v0", "instances", id]) => (Route::Destroy, number(id)),
            ("POST", ["api", "v0", "instances", id, "ssh"]) => (Route::Attach, number(id)),
            ("GET", ["api", "v0", "instances", id, "ssh"]) => (Route::Keys, number(id)),
            ("DELETE", ["api", "v0", "instances", id, "ssh", _]) => (Route::Detach, number(id)),
            _ => return None,
        })
    }

    /// Whether it changes anything: only then does it matter whether a fault strikes before or after the effect.
    pub fn changes(self) -> bool {
        matches!(self, Route::Create | Route::Attach | Route::Detach | Route::Manage | Route::Destroy)
    }

    /// The published least time between two calls.
    pub fn interval(self) -> Duration {
        Duration::from_millis(match self {
            Route::Create => 4_500,
            Route::Destroy => 3_000,
            Route::Show | Route::Detach => 2_000,
            Route::List | Route::Manage => 1_000,
            Route::Account | Route::Search | Route::Attach | Route::Keys => 0,
            Route::Logs | Route::LogText => 0,
        })
    }
}

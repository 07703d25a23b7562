//! What can go wrong with one call.

use super::http::Reply;
use super::route::Route;
use serde_json::json;

/// How an answer is spoiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    ServerError,
    BadGateway,
    Page,
    TooManyText,
    TooManyThreshold,
    TooManyDetail,
    TooManyToken,
    Reset,
    Truncated,
    Empty,
    Stall,
    Mute,
    AuthError,
}

impl Fault {
    pub const ALL: [Fault; 13] = [
        Fault::ServerError,
        Fault::BadGateway,
        Fault::Page,
        Fault::TooManyText,
        Fault::TooManyThreshold,
        Fault::TooManyDetail,
        Fault::TooManyToken,
        Fault::Reset,
        Fault::Truncated,
        Fault::Empty,
        Fault::Stall,
        Fault::Mute,
        Fault::AuthError,
    ];

    /// Whether a single one of its kind, on any call but the create, must not make a command fail.
    pub fn is_passing(self) -> bool {
        !matches!(self, Fault::Page | Fault::Stall | Fault::Mute | Fault::AuthError)
    }

    /// The answer as the fault leaves it.
    pub fn spoil(self, whole: Reply) -> Reply {
        let too_many = |body: &str| Reply { status: 429, ..Reply::text(body) };
        let json = |status, body: serde_json::Value| Reply { status, ..Reply::json(&body) };
        let page = |status, title: &str| Reply {
            status,
            kind: "text/html",
            ..Reply::text(&format!("<html><head><title>{title}</title></head><body>{title}</body></html>"))
        };
        match self {
            Fault::ServerError => {
                json(500, json!({"success": false, "error": "server_error", "msg": "Something went wrong"}))
            }
            Fault::BadGateway => page(502, "502 Bad Gateway"),
            Fault::Page => page(200, "Just a moment..."),
            Fault::TooManyText => too_many("API requests too frequent"),
            Fault::TooManyThreshold => too_many("API requests too frequent: endpoint threshold=2.0"),
            Fault::TooManyDetail => {
                json(429, json!({"detail": "API requests too frequent endpoint threshold=2.0"}))
            }
            Fault::TooManyToken => json(
                429,
                json!({"success": false, "error": "rate_limit_exceeded",
                       "msg": "API requests too frequent endpoint threshold=3.0"}),
            ),
            Fault::AuthError => {
                json(404, json!({"success": false, "error": "auth_error", "msg": "Invalid user key"}))
            }
            Fault::Empty => Reply { body: String::new(), ..whole },
            Fault::Reset | Fault::Truncated | Fault::Stall | Fault::Mute => {
                Reply { broken: Some(self), ..whole }
            }
        }
    }
}

/// What a trap does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    Spoil(Fault),
    /// The caller is killed with SIGKILL, and nobody gets an answer.
    Kill,
}

/// Strikes once: at the `nth` call of a route, counted from 1 since it was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Trap {
    pub route: Route,
    pub nth: usize,
    pub what: What,
    /// The call has taken effect; only its answer suffers.
    pub after: bool,
}

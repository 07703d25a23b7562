//! The published minimum intervals between calls, per caller and endpoint.
//!
//! They are real seconds: a scaled clock is divided by its scale, so that a client meets the published
//! intervals however fast instances boot.

use super::message::Reply;
use super::route::Route;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A create that comes too early shuts creates out for this long (Vast API, published).
const CREATE_PENALTY: Duration = Duration::from_secs(12);
/// Searches within [`SEARCH_WINDOW`] (Vast API, described as 10 per minute).
const SEARCHES: usize = 10;
const SEARCH_WINDOW: Duration = Duration::from_secs(60);

/// An endpoint class and its published minimum interval in seconds.
fn interval(route: Route) -> Option<(&'static str, f64)> {
    Some(match route {
        Route::Create(_) => ("create", 4.5),
        Route::Destroy(_) => ("destroy", 3.0),
        Route::ListV0 | Route::ListV1 => ("list", 1.0),
        Route::Read(_) => ("read", 2.0),
        Route::Change(_) => ("change", 1.0),
        Route::Reboot(_) => ("reboot", 1.0),
        Route::Recycle(_) => ("recycle", 1.0),
        Route::ChangeBid(_) => ("bid", 5.5),
        Route::Command(_) => ("command", 1.5),
        Route::DetachKey(..) => ("detach", 2.0),
        Route::AddAccountKey => ("account key", 1.0),
        _ => return None,
    })
}

/// What the limiter remembers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    last: BTreeMap<(String, &'static str), Duration>,
    shut_until: BTreeMap<String, Duration>,
    searches: BTreeMap<String, VecDeque<Duration>>,
    refusals: usize,
}

impl Limits {
    /// Lets a call through or answers it with 429. Only calls that got through count, except that an
    /// early create starts the penalty.
    pub(crate) fn admit(
        &mut self,
        now: Duration,
        caller: &str,
        address: &str,
        route: Route,
    ) -> Result<(), Reply> {
        if route.is_public() && route != Route::GpuNames {
            return self.admit_search(now, address);
        }
        let Some((class, seconds)) = interval(route) else { return Ok(()) };
        let needed = Duration::from_secs_f64(seconds);
        let key = (caller.to_owned(), class);
        let early = self.last.get(&key).is_some_and(|last| now < *last + needed);
        if class == "create" {
            let shut = self.shut_until.get(caller).is_some_and(|until| now < *until);
            if shut || early {
                if !shut {
                    self.shut_until.insert(caller.to_owned(), now + CREATE_PENALTY);
                }
                return Err(self.refuse(seconds));
            }
        } else if early {
            return Err(self.refuse(seconds));
        }
        self.last.insert(key, now);
        Ok(())
    }

    fn admit_search(&mut self, now: Duration, address: &str) -> Result<(), Reply> {
        let recent = self.searches.entry(address.to_owned()).or_default();
        while recent.front().is_some_and(|first| now >= *first + SEARCH_WINDOW) {
            recent.pop_front();
        }
        if recent.len() >= SEARCHES {
            return Err(self.refuse(6.0));
        }
        recent.push_back(now);
        Ok(())
    }

    fn refuse(&mut self, threshold: f64) -> Reply {
        let body = too_many(self.refusals, threshold);
        self.refusals += 1;
        body
    }
}

/// The four bodies in which a 429 has been observed, by turns. None carries `Retry-After`.
pub(crate) fn too_many(variant: usize, threshold: f64) -> Reply {
    match variant % 4 {
        0 => Reply::typed(429, "text/plain", "API requests too frequent"),
        1 => Reply::typed(
            429,
            "text/plain",
            format!("API requests too frequent: endpoint threshold={threshold:.1}"),
        ),
        2 => Reply::json(
            429,
            &json!({"detail": format!("API requests too frequent endpoint threshold={threshold:.1}")}),
        ),
        _ => Reply::error(
            429,
            "rate_limit_exceeded",
            &format!("API requests too frequent endpoint threshold={threshold:.1}"),
        ),
    }
}

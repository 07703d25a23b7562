//! Which leases a cleanup destroys: crabbox's table, with one row of our own.

use super::labels::{self, Labels, key};
use super::{ReleaseAction, State, claim_state};

/// How long a lease that works or starts is spared beyond its expiry, seconds.
const GRACE: i64 = 12 * 60 * 60;

/// What a cleanup does with a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sweep {
    /// It stays, for this reason.
    Skip(String),
    /// It is destroyed.
    Delete,
}

/// Decides on a lease by its labels at `now` (Unix seconds).
///
/// A lease whose release action is `keep` stays like one that is kept: crabbox announces its deletion and does nothing.
/// A stopped one that has expired goes, whatever its release action: its disk would be billed for ever.
#[must_use]
pub fn sweep(labels: &Labels, now: i64) -> Sweep {
    let skip = |reason: &str| Sweep::Skip(reason.to_owned());
    if labels.is_empty() {
        return skip("missing labels");
    }
    if labels::keep(labels) {
        return skip("keep=true");
    }
    if labels::release_action(labels) == ReleaseAction::Keep {
        return skip("release_action=keep");
    }
    let state = labels.get(key::STATE).map(|state| state.trim().to_ascii_lowercase()).unwrap_or_default();
    let expires = labels::sweep_at(labels);
    let over = |grace| expires.is_some_and(|at| now > at.saturating_add(grace));
    let starting = claim_state(State::Booting).0;
    let delete = match state.as_str() {
        "leased" | "ready" | "active" => over(0),
        "failed" | "released" | "expired" => true,
        state if state == "running" || state == starting => over(GRACE),
        _ => {
            return match expires {
                None => skip("missing expires_at"),
                Some(_) if over(0) => Sweep::Delete,
                Some(_) => skip("not expired"),
            };
        }
    };
    if delete { Sweep::Delete } else { Sweep::Skip(format!("state={state}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRES: i64 = 1_787_305_447;

    fn decide(pairs: &[(&str, &str)], now: i64) -> Sweep {
        let labels = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        sweep(&labels, now)
    }

    fn lease<'a>(state: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut pairs = vec![(key::STATE, state), (key::EXPIRES_AT, "1787305447"), (key::KEEP, "false")];
        pairs.extend_from_slice(more);
        pairs
    }

    #[test]
    fn the_table_is_crabboxs() {
        let skip = |reason: &str| Sweep::Skip(reason.to_owned());
        // Twelve hours, as crabbox has them.
        let late = EXPIRES + 43_200;
        for (state, before, after, much_later) in [
            ("ready", skip("state=ready"), Sweep::Delete, Sweep::Delete),
            ("leased", skip("state=leased"), Sweep::Delete, Sweep::Delete),
            ("active", skip("state=active"), Sweep::Delete, Sweep::Delete),
            ("running", skip("state=running"), skip("state=running"), Sweep::Delete),
            ("provisioning", skip("state=provisioning"), skip("state=provisioning"), Sweep::Delete),
            ("failed", Sweep::Delete, Sweep::Delete, Sweep::Delete),
            ("released", Sweep::Delete, Sweep::Delete, Sweep::Delete),
            ("expired", Sweep::Delete, Sweep::Delete, Sweep::Delete),
            ("stopped", skip("not expired"), Sweep::Delete, Sweep::Delete),
            ("ambiguous-create", skip("not expired"), Sweep::Delete, Sweep::Delete),
            ("rollback-cleanup", skip("not expired"), Sweep::Delete, Sweep::Delete),
        ] {
            let labels = lease(state, &[]);
            assert_eq!(decide(&labels, EXPIRES), before, "{state} at its expiry");
            assert_eq!(decide(&labels, EXPIRES + 1), after, "{state} after its expiry");
            assert_eq!(decide(&labels, late), after, "{state} at the end of its grace");
            assert_eq!(decide(&labels, late + 1), much_later, "{state} 12 h after its expiry");
        }
        assert_eq!(decide(&[], late), skip("missing labels"));
        assert_eq!(decide(&[(key::STATE, "stopped")], late), skip("missing expires_at"));
        assert_eq!(decide(&[(key::STATE, "ready")], late), skip("state=ready"));
        assert_eq!(decide(&[(key::STATE, "stopped"), (key::TTL, "1787305447")], late), Sweep::Delete);
    }

    #[test]
    fn what_is_to_be_kept_stays() {
        let late = EXPIRES + GRACE + 1;
        for state in ["ready", "stopped", "failed", "running"] {
            let kept = decide(&lease(state, &[(key::KEEP, "True")]), late);
            assert_eq!(kept, Sweep::Skip("keep=true".into()), "{state}");
            let kept = decide(&lease(state, &[(key::RELEASE_ACTION, "keep")]), late);
            assert_eq!(kept, Sweep::Skip("release_action=keep".into()), "{state}");
            let stops = decide(&lease(state, &[(key::RELEASE_ACTION, "stop")]), late);
            assert_eq!(stops, Sweep::Delete, "{state}: an expired lease does not live for ever");
        }
    }
}

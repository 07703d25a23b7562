//! Claim labels: what a lease says about itself, read by crabbox and by us.

use super::ids::provider_key;
use super::{
    AccountId, LeaseId, OfferId, OwnershipLabel, ReleaseAction, Slug, go_duration, parse_go_duration,
    parse_rfc3339, unix,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// The labels of a claim, sorted by key as they are written.
pub type Labels = BTreeMap<String, String>;

pub mod key;

/// Time to live where none is configured.
pub const DEFAULT_TTL: Duration = Duration::from_secs(90 * 60);
/// Idle timeout where none is configured.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Everything the labels of a new lease are made from.
#[derive(Debug, Clone)]
pub struct LabelPlan {
    /// Lease.
    pub lease: LeaseId,
    /// Slug.
    pub slug: Slug,
    /// Whether a cleanup leaves the lease alone.
    pub keep: bool,
    /// Configuration profile.
    pub profile: String,
    /// Machine class of the configuration.
    pub class: String,
    /// Time to live, from the start.
    pub ttl: Duration,
    /// Idle timeout, from the last touch.
    pub idle_timeout: Duration,
    /// What a release does.
    pub release_action: ReleaseAction,
    /// Account that pays.
    pub account: AccountId,
    /// Configured API URL, trimmed and without a final slash.
    pub api_url: String,
    /// Start of the acquire, Unix seconds.
    pub created_at: i64,
    /// The rented offer, where it is known.
    pub offer: Option<OfferId>,
    /// Group that it belongs to.
    pub pond: Option<Slug>,
    /// Ports that crabbox's `pond connect` forwards, sorted.
    pub exposed_ports: Vec<u16>,
    /// State of the lease.
    pub state: &'static str,
    /// What is left to be recovered.
    pub recovery: Option<&'static str>,
}

impl LabelPlan {
    /// The labels. The key labels (`provider_key_id`, `provider_key_owned`) come later, with the attached key.
    #[must_use]
    pub fn labels(&self) -> Labels {
        let mut labels = basic(&Basic {
            lease: self.lease.as_str(),
            slug: self.slug.as_str(),
            state: self.state,
            keep: self.keep,
            profile: &self.profile,
            class: &self.class,
            ttl: self.ttl,
            idle_timeout: self.idle_timeout,
            created_at: self.created_at,
        });
        if let Some(pond) = &self.pond {
            labels.insert(key::POND.into(), sanitise(pond.as_str()));
        }
        if !self.exposed_ports.is_empty() {
            let ports: Vec<String> = self.exposed_ports.iter().map(u16::to_string).collect();
            labels.insert(key::EXPOSED_PORTS.into(), sanitise(&ports.join("-")));
        }
        // Exact values enter after sanitising, so that the URL keeps its colon and slashes.
        labels.insert(key::RELEASE_ACTION.into(), self.release_action.as_str().into());
        labels.insert(key::VAST_ACCOUNT_ID.into(), self.account.to_string());
        labels.insert(key::VAST_API_URL.into(), self.api_url.clone());
        if let Some(offer) = self.offer {
            labels.insert(key::VAST_OFFER_ID.into(), offer.to_string());
        }
        if let Some(recovery) = self.recovery {
            labels.insert(key::RECOVERY.into(), recovery.into());
        }
        labels
    }
}

/// The part of the configuration that labels are made from where no claim exists.
#[derive(Debug, Clone)]
pub struct LabelDefaults {
    /// Configuration profile.
    pub profile: String,
    /// Machine class of the configuration.
    pub class: String,
    /// Time to live.
    pub ttl: Duration,
    /// Idle timeout.
    pub idle_timeout: Duration,
    /// What a release does.
    pub release_action: ReleaseAction,
}

/// The labels that a list shows for an owned instance without a claim here: made from its ownership label and the
/// configuration, as if it had been created at `now` (Unix seconds) and not kept; without any `vast_…` label.
#[must_use]
pub fn initial_without_claim(owner: &OwnershipLabel, defaults: &LabelDefaults, now: i64) -> Labels {
    let slug = Slug::normalise(&owner.slug);
    let mut labels = basic(&Basic {
        lease: &owner.lease,
        slug: slug.as_ref().map_or("", Slug::as_str),
        state: &owner.state,
        keep: false,
        profile: &defaults.profile,
        class: &defaults.class,
        ttl: defaults.ttl,
        idle_timeout: defaults.idle_timeout,
        created_at: now,
    });
    labels.insert(key::RELEASE_ACTION.into(), defaults.release_action.as_str().into());
    labels
}

struct Basic<'a> {
    lease: &'a str,
    slug: &'a str,
    state: &'a str,
    keep: bool,
    profile: &'a str,
    class: &'a str,
    ttl: Duration,
    idle_timeout: Duration,
    created_at: i64,
}

fn basic(plan: &Basic<'_>) -> Labels {
    let expires = expiry(plan.created_at, plan.created_at, plan.ttl, plan.idle_timeout);
    [
        (key::CLASS, plan.class.to_owned()),
        (key::CRABBOX, "true".to_owned()),
        (key::CREATED_AT, plan.created_at.to_string()),
        (key::CREATED_BY, "crabbox".to_owned()),
        (key::EXPIRES_AT, expires.to_string()),
        (key::IDLE_TIMEOUT, seconds(plan.idle_timeout)),
        (key::IDLE_TIMEOUT_SECS, seconds(plan.idle_timeout)),
        (key::KEEP, plan.keep.to_string()),
        (key::LAST_TOUCHED_AT, plan.created_at.to_string()),
        (key::LEASE, plan.lease.to_owned()),
        (key::PROFILE, plan.profile.to_owned()),
        (key::PROVIDER, "vast".to_owned()),
        (key::PROVIDER_KEY, provider_key(plan.lease)),
        (key::SERVER_TYPE, String::new()),
        (key::SLUG, plan.slug.to_owned()),
        (key::STATE, plan.state.to_owned()),
        (key::TARGET, "linux".to_owned()),
        (key::TTL_SECS, seconds(plan.ttl)),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), sanitise(&value)))
    .collect()
}

/// Marks a use of the lease: sets `last_touched_at` to `now` (Unix seconds) and moves `expires_at` to the nearer of
/// idle timeout from now and time to live from the start.
///
/// `created_at`, `keep`, the time to live and the idle timeout stay what the labels say; the defaults count only
/// where a label is missing or unreadable. `state` replaces the state, `idle_override` the idle timeout. All values
/// but the exact ones and the work root are sanitised again.
pub fn touch(
    labels: &mut Labels,
    now: i64,
    state: Option<&str>,
    default_ttl: Duration,
    default_idle: Duration,
    idle_override: Option<Duration>,
) {
    let or_else = |given: Duration, fallback| if given.is_zero() { fallback } else { given };
    let created = created_at(labels).unwrap_or(now);
    let ttl = ttl(labels).unwrap_or_else(|| or_else(default_ttl, DEFAULT_TTL));
    let idle = idle_override
        .filter(|idle| !idle.is_zero())
        .or_else(|| idle_timeout(labels))
        .unwrap_or_else(|| or_else(default_idle, DEFAULT_IDLE_TIMEOUT));
    if let Some(state) = state {
        labels.insert(key::STATE.into(), state.to_owned());
    }
    for (key, value) in [
        (key::CREATED_AT, created.to_string()),
        (key::LAST_TOUCHED_AT, now.to_string()),
        (key::IDLE_TIMEOUT, seconds(idle)),
        (key::IDLE_TIMEOUT_SECS, seconds(idle)),
        (key::TTL_SECS, seconds(ttl)),
        (key::EXPIRES_AT, expiry(now, created, ttl, idle).to_string()),
    ] {
        labels.insert(key.into(), value);
    }
    for (key, value) in labels.iter_mut() {
        if key != key::WORK_ROOT && !key::EXACT.contains(&key.as_str()) {
            *value = sanitise(value);
        }
    }
}

/// When an unkept lease may be swept, Unix seconds.
#[must_use]
pub fn expires_at(labels: &Labels) -> Option<i64> {
    time(labels, key::EXPIRES_AT)
}

/// The time a cleanup goes by: `expires_at`, else the label `ttl`, which crabbox reads as an absolute time.
#[must_use]
pub fn sweep_at(labels: &Labels) -> Option<i64> {
    expires_at(labels).or_else(|| time(labels, key::TTL))
}

/// Start of the acquire, Unix seconds.
#[must_use]
pub fn created_at(labels: &Labels) -> Option<i64> {
    time(labels, key::CREATED_AT)
}

/// Last touch, Unix seconds.
#[must_use]
pub fn last_touched_at(labels: &Labels) -> Option<i64> {
    time(labels, key::LAST_TOUCHED_AT)
}

/// Time to live, counted from the start.
#[must_use]
pub fn ttl(labels: &Labels) -> Option<Duration> {
    duration(labels, key::TTL_SECS)
}

/// End of the time to live, Unix seconds; no use puts it off.
#[must_use]
pub fn lives_until(labels: &Labels) -> Option<i64> {
    let ttl = i64::try_from(ttl(labels)?.as_secs()).unwrap_or(i64::MAX);
    Some(created_at(labels)?.saturating_add(ttl))
}

/// Idle timeout, counted from the last touch.
#[must_use]
pub fn idle_timeout(labels: &Labels) -> Option<Duration> {
    duration(labels, key::IDLE_TIMEOUT_SECS).or_else(|| duration(labels, key::IDLE_TIMEOUT))
}

/// The idle timeout as crabbox prints it (`30m0s`).
#[must_use]
pub fn idle_timeout_text(labels: &Labels) -> Option<String> {
    idle_timeout(labels).map(go_duration)
}

/// Whether a cleanup must leave the lease alone.
#[must_use]
pub fn keep(labels: &Labels) -> bool {
    labels.get(key::KEEP).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
}

/// What a release does; destroy where the label is missing or unknown.
#[must_use]
pub fn release_action(labels: &Labels) -> ReleaseAction {
    labels.get(key::RELEASE_ACTION).and_then(|value| value.parse().ok()).unwrap_or_default()
}

/// Whether crabbox takes a lease in this state for ended. Such a word never goes on a live lease: crabbox's
/// heartbeat and its waiting status give up on it.
#[must_use]
pub fn is_terminal(state: &str) -> bool {
    matches!(
        state.trim().to_ascii_lowercase().as_str(),
        "deleting"
            | "expired"
            | "failed"
            | "missing"
            | "released"
            | "stopped"
            | "stopped_with_code"
            | "terminated"
    )
}

/// A label value as crabbox stores it: `[A-Za-z0-9_.-]`, at most 63 bytes, `unknown` instead of nothing.
#[must_use]
pub fn sanitise(value: &str) -> String {
    let cleaned: String = value
        .trim()
        .chars()
        .take(63)
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '_' })
        .collect();
    match cleaned.trim_matches(['_', '.', '-']) {
        "" => "unknown".to_owned(),
        value => value.to_owned(),
    }
}

fn expiry(touched: i64, created: i64, ttl: Duration, idle: Duration) -> i64 {
    let after = |start: i64, time: Duration| start.saturating_add(rounded(time));
    after(touched, idle).min(after(created, ttl))
}

fn rounded(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs())
        .unwrap_or(i64::MAX)
        .saturating_add(i64::from(duration.subsec_millis() >= 500))
}

fn seconds(duration: Duration) -> String {
    if duration.is_zero() { String::new() } else { rounded(duration).to_string() }
}

fn time(labels: &Labels, key: &str) -> Option<i64> {
    let text = labels.get(key)?.trim();
    text.parse().ok().or_else(|| parse_rfc3339(text).map(unix)).filter(|seconds| *seconds > 0)
}

fn duration(labels: &Labels, key: &str) -> Option<Duration> {
    let text = labels.get(key)?.trim();
    text.parse()
        .map(Duration::from_secs)
        .ok()
        .or_else(|| parse_go_duration(text))
        .filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_live_ends_where_no_use_moves_it() {
        let of = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            lives_until(&labels)
        };
        assert_eq!(of(&[(key::CREATED_AT, "1787400000"), (key::TTL_SECS, "5400")]), Some(1_787_405_400));
        assert_eq!(of(&[(key::CREATED_AT, "1787400000")]), None);
        assert_eq!(of(&[(key::TTL_SECS, "5400")]), None);
    }

    fn plan() -> LabelPlan {
        LabelPlan {
            lease: LeaseId::parse("cbx_3f9a1c7be204").unwrap(),
            slug: Slug::normalise("tidal-barnacle").unwrap(),
            keep: true,
            profile: "default".into(),
            class: "beast".into(),
            ttl: DEFAULT_TTL,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            release_action: ReleaseAction::Destroy,
            account: AccountId(418_207),
            api_url: "https://console.vast.ai/api/v0".into(),
            created_at: 1_787_303_647,
            offer: Some(OfferId(21_837_465)),
            pond: None,
            exposed_ports: Vec::new(),
            state: "ready",
            recovery: None,
        }
    }

    #[test]
    fn the_initial_set_is_crabboxs() {
        let labels = plan().labels();
        let text = labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ");
        assert_eq!(
            text,
            "class=beast crabbox=true created_at=1787303647 created_by=crabbox expires_at=1787305447 \
             idle_timeout=1800 idle_timeout_secs=1800 keep=true last_touched_at=1787303647 lease=cbx_3f9a1c7be204 \
             profile=default provider=vast provider_key=crabbox-cbx-3f9a1c7be204 \
             release_action=destroy server_type=unknown slug=tidal-barnacle state=ready \
             target=linux ttl_secs=5400 vast_account_id=418207 vast_api_url=https://console.vast.ai/api/v0 \
             vast_offer_id=21837465"
        );
    }

    #[test]
    fn an_unclaimed_instance_shows_no_vast_labels() {
        let owner = OwnershipLabel {
            lease: "cbx_aaaaaaaaaaaa".into(),
            slug: "other-box".into(),
            state: "ready".into(),
        };
        let defaults = LabelDefaults {
            profile: "default".into(),
            class: "beast".into(),
            ttl: DEFAULT_TTL,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            release_action: ReleaseAction::Destroy,
        };
        let labels = initial_without_claim(&owner, &defaults, 1_795_470_212);
        assert_eq!(labels.len(), 19);
        assert!(labels.keys().all(|key| !key.starts_with("vast_")));
        assert_eq!(labels[key::EXPIRES_AT], "1795472012");
        assert_eq!(labels[key::PROVIDER_KEY], "crabbox-cbx-aaaaaaaaaaaa");
        assert!(!keep(&labels));
    }

    #[test]
    fn a_touch_moves_idle_and_nothing_else() {
        let mut labels = plan().labels();
        let before = labels.clone();
        touch(&mut labels, 1_787_303_747, Some("running"), Duration::ZERO, Duration::from_secs(1), None);
        assert_eq!(expires_at(&labels), Some(1_787_305_547));
        assert_eq!(last_touched_at(&labels), Some(1_787_303_747));
        assert_eq!(labels[key::STATE], "running");
        for same in
            key::EXACT.iter().chain(&[key::CREATED_AT, key::KEEP, key::TTL_SECS, key::IDLE_TIMEOUT_SECS])
        {
            assert_eq!(labels.get(*same), before.get(*same), "{same}");
        }
        touch(&mut labels, 1_787_308_000, None, Duration::ZERO, Duration::ZERO, None);
        assert_eq!(expires_at(&labels), Some(1_787_303_647 + 5400), "never beyond the time to live");
        assert_eq!(labels[key::STATE], "running");
    }

    #[test]
    fn a_touch_takes_an_idle_timeout_and_fills_gaps() {
        let mut labels = plan().labels();
        touch(
            &mut labels,
            1_787_303_650,
            None,
            DEFAULT_TTL,
            DEFAULT_IDLE_TIMEOUT,
            Some(Duration::from_secs(60)),
        );
        assert_eq!(
            (labels[key::IDLE_TIMEOUT].as_str(), labels[key::IDLE_TIMEOUT_SECS].as_str()),
            ("60", "60")
        );
        assert_eq!(expires_at(&labels), Some(1_787_303_710));
        assert_eq!(idle_timeout_text(&labels).as_deref(), Some("1m0s"));

        let mut sparse = Labels::new();
        sparse.insert(key::TTL_SECS.into(), "2h".into());
        sparse.insert("note".into(), " two words ".into());
        sparse.insert(key::WORK_ROOT.into(), "/somewhere/else".into());
        touch(&mut sparse, 1000, None, Duration::ZERO, Duration::ZERO, None);
        assert_eq!(sparse[key::CREATED_AT], "1000");
        assert_eq!(sparse[key::TTL_SECS], "7200");
        assert_eq!(sparse[key::IDLE_TIMEOUT], "1800");
        assert_eq!(sparse["note"], "two_words");
        assert_eq!(sparse[key::WORK_ROOT], "/somewhere/else");
    }

    #[test]
    fn values_read_and_sanitise() {
        let mut labels = Labels::new();
        assert_eq!((created_at(&labels), ttl(&labels), keep(&labels)), (None, None, false));
        for (text, seconds) in [
            ("1787303647", Some(1_787_303_647)),
            ("2026-08-21T09:14:07.25Z", Some(1_787_303_647)),
            ("0", None),
            ("-5", None),
            ("soon", None),
        ] {
            labels.insert(key::CREATED_AT.into(), text.into());
            assert_eq!(created_at(&labels), seconds, "{text}");
        }
        labels.insert(key::TTL.into(), "1787303700".into());
        assert_eq!((expires_at(&labels), sweep_at(&labels)), (None, Some(1_787_303_700)));
        labels.insert(key::KEEP.into(), "True".into());
        assert!(keep(&labels));
        assert_eq!(sanitise(" a b/c "), "a_b_c");
        assert_eq!(sanitise("__"), "unknown");
        assert_eq!(sanitise(""), "unknown");
        assert_eq!(sanitise(&format!("{}é.x", "a".repeat(61))), "a".repeat(61));
        assert!(
            is_terminal("stopped")
                && is_terminal("Failed")
                && !is_terminal("ready")
                && !is_terminal("running")
        );
    }
}

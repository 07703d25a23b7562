//! Label keys.

/// Machine class of the configuration.
pub const CLASS: &str = "class";
/// Always `true`.
pub const CRABBOX: &str = "crabbox";
/// Start of the acquire, Unix seconds.
pub const CREATED_AT: &str = "created_at";
/// Always `crabbox`.
pub const CREATED_BY: &str = "created_by";
/// When an unkept lease may be swept, Unix seconds.
pub const EXPIRES_AT: &str = "expires_at";
/// Ports that crabbox's `pond connect` forwards, joined with dashes.
pub const EXPOSED_PORTS: &str = "crabbox_exposed_ports";
/// Idle timeout, seconds (the older spelling; always equal to [`IDLE_TIMEOUT_SECS`]).
pub const IDLE_TIMEOUT: &str = "idle_timeout";
/// Idle timeout, seconds.
pub const IDLE_TIMEOUT_SECS: &str = "idle_timeout_secs";
/// `true` where a cleanup must leave the lease alone.
pub const KEEP: &str = "keep";
/// Last touch, Unix seconds.
pub const LAST_TOUCHED_AT: &str = "last_touched_at";
/// Lease identifier.
pub const LEASE: &str = "lease";
/// Group that the lease belongs to.
pub const POND: &str = "pond";
/// Configuration profile.
pub const PROFILE: &str = "profile";
/// Provider name: the literal `vast`.
pub const PROVIDER: &str = "provider";
/// `crabbox-cbx-…`; for Vast only a label.
pub const PROVIDER_KEY: &str = "provider_key";
/// Identifier of the SSH key that was attached to the instance, decimal.
pub const PROVIDER_KEY_ID: &str = "provider_key_id";
/// `true` exactly where the attached key is ours and must be detached before a destroy.
pub const PROVIDER_KEY_OWNED: &str = "provider_key_owned";
/// What is left to be recovered: `ambiguous-create` or `rollback-cleanup`.
pub const RECOVERY: &str = "recovery";
/// What a release does: `destroy`, `stop` or `keep`.
pub const RELEASE_ACTION: &str = "release_action";
/// Always `unknown` for Vast.
pub const SERVER_TYPE: &str = "server_type";
/// Slug.
pub const SLUG: &str = "slug";
/// State of the lease.
pub const STATE: &str = "state";
/// Always `linux`.
pub const TARGET: &str = "target";
/// Another absolute time of expiry, read only where [`EXPIRES_AT`] is missing.
pub const TTL: &str = "ttl";
/// Time to live, seconds.
pub const TTL_SECS: &str = "ttl_secs";
/// Vast account, decimal. A lease is operated only under this account.
pub const VAST_ACCOUNT_ID: &str = "vast_account_id";
/// Configured API URL, trimmed and without a final slash. A lease is operated only at this endpoint.
pub const VAST_API_URL: &str = "vast_api_url";
/// The offer that was rented, decimal.
pub const VAST_OFFER_ID: &str = "vast_offer_id";
/// A path; the one label whose value is never sanitised.
pub const WORK_ROOT: &str = "work_root";

/// The labels whose values are exact: they are written as they are and survive every refresh unchanged.
pub const EXACT: [&str; 8] = [
    RELEASE_ACTION,
    PROVIDER_KEY_ID,
    PROVIDER_KEY_OWNED,
    VAST_OFFER_ID,
    VAST_ACCOUNT_ID,
    VAST_API_URL,
    PROVIDER_KEY,
    RECOVERY,
];

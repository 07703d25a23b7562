//! What a simulated account and its vendor are like.

use std::time::Duration;

/// The settings of one [`World`](super::World). All durations but those of the rate limiter are simulated time.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Scheme, host and port under which the skin serves; log addresses are built from it.
    pub origin: String,
    /// The one account's API key.
    pub api_key: String,
    /// Decides the catalogue, ids and every other arbitrary choice.
    pub seed: u64,
    /// Simulated seconds per real second. The rate limiter divides by it, because published
    /// intervals are real ones.
    pub time_scale: f64,
    /// Unix seconds at simulated time zero.
    pub epoch: f64,
    /// From the create to `running`; split 3 : 2 : 40 over no state, `created` and `loading`.
    pub boot: Duration,
    /// From `running` to a listening SSH server.
    pub ssh_lag: Duration,
    /// From a listening SSH server (or the attach, if later) to the key being accepted.
    pub key_lag: Duration,
    /// From the create to the record appearing in the single read.
    pub read_lag: Duration,
    /// From the create to the record appearing in the list.
    pub list_lag: Duration,
    /// From a stop to `exited`.
    pub stop_lag: Duration,
    /// How long a destroyed record still shows as `unloaded`, and then for the single read as `[]`.
    pub destroy_linger: Duration,
    /// From a log request to the object being there.
    pub log_lag: Duration,
    /// Whether the published minimum intervals are enforced.
    pub rate_limits: bool,
    /// How many machines are on the market at the start.
    pub market: u64,
    /// Whether offers and instances carry the columns, more than half, that only describe a machine: without them a
    /// simulation of many runs takes less time.
    pub scenery: bool,
    /// How many requests are kept to be looked at; the oldest go first, and none costs no time.
    pub history: usize,
    /// The most offers one search returns; none means as many as asked for.
    pub search_cap: Option<usize>,
    /// The prepaid credit at the start, in dollars.
    pub credit: f64,
    /// Whether a create whose `env` is a string is refused instead of ignoring it. Both have been observed.
    pub refuse_env_string: bool,
    /// New instances' direct port accepts and closes forever.
    pub break_direct: bool,
    /// New instances' proxy port accepts and closes forever.
    pub break_proxy: bool,
    /// The folder that commands may use as their absolute work root; shown by the control plane.
    pub work_root: String,
}

impl Settings {
    /// The vendor's durations as observed: about 90 s from the create to the first accepted key.
    pub fn faithful(api_key: &str, seed: u64) -> Self {
        Self {
            origin: "http://127.0.0.1:0".to_owned(),
            api_key: api_key.to_owned(),
            seed,
            time_scale: 1.0,
            epoch: 1_780_000_000.0,
            boot: Duration::from_secs(45),
            ssh_lag: Duration::from_secs(30),
            key_lag: Duration::from_secs(15),
            read_lag: Duration::from_secs(5),
            list_lag: Duration::from_secs(8),
            stop_lag: Duration::from_secs(5),
            destroy_linger: Duration::from_secs(3),
            log_lag: Duration::from_secs(3),
            rate_limits: true,
            market: 42,
            scenery: true,
            history: 20_000,
            search_cap: Some(64),
            credit: 25.0,
            refuse_env_string: false,
            break_direct: false,
            break_proxy: false,
            work_root: String::new(),
        }
    }
}

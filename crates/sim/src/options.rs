//! How a running simulator is set up.

use crate::api::Settings;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The options of [`start`](crate::start).
///
/// There are two clocks. Everything that happens *to* instances (boot, lags, billing) is simulated time, which
/// runs `time_scale` times as fast as real time. What happens to *calls* (`api_latency`, fault delays, the
/// published minimum intervals) is real time, so that a client meets the intervals as they are published.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; always a loopback address. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The folder for everything the simulator writes: scratch directories, the work root.
    pub state_dir: PathBuf,
    /// The account's API key. The default is a fresh random one.
    pub api_key: String,
    /// Decides the catalogue and ids.
    pub seed: u64,
    /// Simulated seconds per real second.
    pub time_scale: f64,
    /// What each API call takes, real time.
    pub api_latency: Duration,
    /// From the create to `running`, split over the states before it.
    pub boot: Duration,
    /// From `running` to a listening SSH server.
    pub ssh_lag: Duration,
    /// From a listening SSH server (or the attach, if later) to the key being accepted.
    pub key_lag: Duration,
    /// From the create to the record showing in the single read.
    pub read_lag: Duration,
    /// From the create to the record showing in the list.
    pub list_lag: Duration,
    /// From a stop to `exited`.
    pub stop_lag: Duration,
    /// How long a destroyed record still shows.
    pub destroy_linger: Duration,
    /// From a log request to the log being there.
    pub log_lag: Duration,
    /// Whether the published minimum intervals are enforced.
    pub rate_limits: bool,
    /// The most offers one search returns; none means no limit.
    pub search_cap: Option<usize>,
    /// The prepaid credit at the start, in dollars.
    pub credit: f64,
    /// The direct SSH port accepts and closes, forever.
    pub break_direct: bool,
    /// The proxy SSH port accepts and closes, forever.
    pub break_proxy: bool,
}

impl Options {
    /// The vendor's real durations: about 90 s from the create to the first accepted key.
    pub fn faithful(state_dir: impl Into<PathBuf>) -> Self {
        let vendor = Settings::faithful("", 0);
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            state_dir: state_dir.into(),
            api_key: random_key(),
            seed: 1,
            time_scale: 1.0,
            api_latency: Duration::from_millis(250),
            boot: vendor.boot,
            ssh_lag: vendor.ssh_lag,
            key_lag: vendor.key_lag,
            read_lag: vendor.read_lag,
            list_lag: vendor.list_lag,
            stop_lag: vendor.stop_lag,
            destroy_linger: vendor.destroy_linger,
            log_lag: vendor.log_lag,
            rate_limits: true,
            search_cap: vendor.search_cap,
            credit: vendor.credit,
            break_direct: false,
            break_proxy: false,
        }
    }

    /// The same vendor in a hurry: SSH answers about 2.5 s after the create. The published intervals stay.
    pub fn demo(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            api_latency: Duration::from_millis(20),
            boot: Duration::from_millis(1800),
            ssh_lag: Duration::from_millis(400),
            key_lag: Duration::from_millis(300),
            read_lag: Duration::from_millis(250),
            list_lag: Duration::from_millis(400),
            stop_lag: Duration::from_millis(500),
            destroy_linger: Duration::from_millis(300),
            log_lag: Duration::from_millis(300),
            ..Self::faithful(state_dir)
        }
    }

    pub(crate) fn settings(&self, origin: String) -> Settings {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        Settings {
            origin,
            time_scale: self.time_scale,
            epoch,
            boot: self.boot,
            ssh_lag: self.ssh_lag,
            key_lag: self.key_lag,
            read_lag: self.read_lag,
            list_lag: self.list_lag,
            stop_lag: self.stop_lag,
            destroy_linger: self.destroy_linger,
            log_lag: self.log_lag,
            rate_limits: self.rate_limits,
            search_cap: self.search_cap,
            credit: self.credit,
            break_direct: self.break_direct,
            break_proxy: self.break_proxy,
            work_root: self.work_root().display().to_string(),
            ..Settings::faithful(&self.api_key, self.seed)
        }
    }

    /// The folder that stands for an absolute work root on the instances.
    pub fn work_root(&self) -> PathBuf {
        self.state_dir.join("work")
    }
}

/// 64 hexadecimal digits, the form of the vendor's keys.
fn random_key() -> String {
    let mut bytes = [0_u8; 32];
    // Without randomness the key is all zeros: still a key, on a loopback port, for simulated money.
    let _ = getrandom::fill(&mut bytes);
    hex::encode(bytes)
}

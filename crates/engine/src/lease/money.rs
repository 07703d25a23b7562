//! Money: a rate and an amount are different types.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// United States dollars per hour.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DollarsPerHour(pub f64);

/// United States dollars.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Dollars(pub f64);

impl DollarsPerHour {
    /// Whether this is above a limit by more than rounding.
    #[must_use]
    pub fn exceeds(self, limit: DollarsPerHour) -> bool {
        self.0 > limit.0 + 1e-9
    }
}

impl fmt::Display for DollarsPerHour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${:.4}/h", self.0)
    }
}

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${:.4}", self.0)
    }
}

/// What a rate costs over a time.
#[must_use]
pub fn accrued(rate: DollarsPerHour, time: Duration) -> Dollars {
    Dollars(rate.0 * time.as_secs_f64() / 3600.0)
}

/// The highest rate at which `time` costs no more than `amount`.
#[must_use]
pub fn affordable(amount: Dollars, time: Duration) -> DollarsPerHour {
    DollarsPerHour(amount.0 * 3600.0 / time.as_secs_f64().max(1.0))
}

/// How long `amount` lasts at `rate`, in whole minutes.
#[must_use]
pub fn lasts(amount: Dollars, rate: DollarsPerHour) -> Duration {
    let minutes = amount.0.max(0.0) / rate.0.max(1e-9) * 60.0;
    // Bounded, so that a rate of nothing is no infinite time.
    Duration::from_secs(minutes.min(1e6).floor() as u64 * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_and_accrues() {
        assert_eq!(DollarsPerHour(0.43).to_string(), "$0.4300/h");
        assert_eq!(accrued(DollarsPerHour(0.43), Duration::from_secs(1800)).to_string(), "$0.2150");
        assert_eq!(affordable(Dollars(0.6), Duration::from_secs(5400)).to_string(), "$0.4000/h");
        assert_eq!(lasts(Dollars(0.61), DollarsPerHour(0.4)), Duration::from_secs(91 * 60));
        assert_eq!(lasts(Dollars(-1.0), DollarsPerHour(0.4)), Duration::ZERO);
        assert!(DollarsPerHour(0.5).exceeds(DollarsPerHour(0.43)));
        assert!(!DollarsPerHour(0.43 + 1e-9).exceeds(DollarsPerHour(0.43)), "by rounding");
        assert!(
            !DollarsPerHour(0.43).exceeds(DollarsPerHour(0.43))
                && !DollarsPerHour(0.1 + 0.2).exceeds(DollarsPerHour(0.3))
        );
    }
}

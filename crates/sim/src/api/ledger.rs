//! The bill: what has been spent, and what is still running it up.

use super::World;
use serde_json::{Value, json};
use std::time::Duration;

/// The state of the account's spending.
#[derive(Clone, Debug, PartialEq)]
pub struct Ledger {
    /// Instances that are not destroyed.
    pub open: Vec<OpenInstance>,
    /// How many were ever created, by create calls and by hand.
    pub created: u64,
    /// How many were destroyed.
    pub destroyed: u64,
    /// The most that were open at the same time.
    pub max_concurrent: u64,
    /// Dollars spent so far.
    pub accrued: f64,
    /// Dollars of credit left.
    pub credit: f64,
}

/// An instance that still costs money.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenInstance {
    /// The instance id.
    pub id: u64,
    /// Its label.
    pub label: Option<String>,
    /// What the container does, as reads show it.
    pub actual_status: Option<String>,
    /// Dollars per hour at this moment.
    pub dollars_per_hour: f64,
}

impl Ledger {
    /// The ledger as the control plane shows it.
    pub fn to_json(&self) -> Value {
        let open: Vec<Value> = self
            .open
            .iter()
            .map(|instance| {
                json!({
                    "id": instance.id, "label": instance.label, "actual_status": instance.actual_status,
                    "dollars_per_hour": instance.dollars_per_hour,
                })
            })
            .collect();
        json!({
            "open": open, "created": self.created, "destroyed": self.destroyed,
            "max_concurrent": self.max_concurrent, "accrued_dollars": self.accrued, "credit": self.credit,
        })
    }
}

impl World {
    /// What has been spent by the last moment the world was asked about.
    pub fn ledger(&self) -> Ledger {
        let open = self.instances.values().filter(|instance| instance.deleted_at.is_none());
        Ledger {
            open: open
                .map(|instance| OpenInstance {
                    id: instance.id,
                    label: instance.label.clone(),
                    actual_status: instance.actual.clone(),
                    dollars_per_hour: instance.rate(),
                })
                .collect(),
            created: self.created,
            destroyed: self.destroyed,
            max_concurrent: self.max_concurrent,
            accrued: self.accrued,
            credit: self.account.credit,
        }
    }

    /// Dollars per hour of a live contract while its container runs, disk included, whatever its reads show.
    pub fn contract_price(&self, id: u64) -> Option<f64> {
        let instance = self.instances.get(&id).filter(|instance| instance.deleted_at.is_none())?;
        Some(instance.gpu_price + instance.offer.storage_per_hour(instance.disk))
    }

    fn rate(&self) -> f64 {
        self.instances.values().map(super::record::Instance::rate).sum()
    }

    /// Bills the time up to `at` and moves the clock there.
    pub(super) fn accrue(&mut self, at: Duration) {
        let hours = at.saturating_sub(self.now).as_secs_f64() / 3600.0;
        let cost = self.rate() * hours;
        self.accrued += cost;
        self.account.credit -= cost;
        self.now = self.now.max(at);
    }

    /// When the credit will have run out at the present rate, while there is any.
    pub(super) fn credit_lasts_until(&self) -> Option<Duration> {
        let (credit, rate) = (self.account.credit, self.rate());
        let seconds = if credit > 0.0 && rate > 0.0 { credit / rate * 3600.0 } else { return None };
        // Beyond a century nobody waits, and a Duration would overflow.
        (seconds < 3.0e9).then(|| self.now + Duration::from_secs_f64(seconds))
    }
}

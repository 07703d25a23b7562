//! Offers: what could be rented with these settings, best first - the very list that acquire walks.

use super::{Call, Engine};
use crate::Result;
use crate::config::{InstanceType, parse_order};
use crate::vast::request::OfferQuery;
use crate::vast::select::{Candidate, Terms, select};
use futures_util::future::BoxFuture;
use serde::Serialize;
use std::collections::BTreeMap;

/// Offers that meet the settings, and why others do not.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferList {
    /// Best first.
    pub offers: Vec<OfferLine>,
    /// How many offers each requirement refused.
    pub refused: BTreeMap<&'static str, usize>,
}

/// One offer.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferLine {
    /// Offer id.
    pub id: String,
    /// Machine id.
    pub machine: Option<String>,
    /// GPU name.
    pub gpu: String,
    /// GPUs.
    pub gpu_count: u32,
    /// Memory of one GPU, GB.
    pub gpu_ram_gb: Option<f64>,
    /// $/h with the requested disk.
    pub price: f64,
    /// The bid that would be sent, $/h, for interruptible rentals.
    pub bid: Option<f64>,
    /// 0 to 1.
    pub reliability: Option<f64>,
    /// CPU cores.
    pub cpu_cores: Option<f64>,
    /// Free disk, GB.
    pub disk_gb: Option<f64>,
    /// Download, Mb/s, as the host declares it.
    pub down_mbps: Option<f64>,
    /// Highest CUDA version.
    pub cuda: Option<f64>,
    /// Deep-learning benchmark per dollar.
    pub dlperf_per_dollar: Option<f64>,
    /// Place.
    pub location: Option<String>,
}

impl From<&Candidate> for OfferLine {
    fn from(candidate: &Candidate) -> Self {
        let offer = &candidate.offer;
        Self {
            id: offer.id.to_string(),
            machine: offer.machine.map(|id| id.to_string()),
            gpu: offer.gpu_name.clone(),
            gpu_count: offer.gpu_count,
            gpu_ram_gb: offer.gpu_ram_mb.map(|mb| mb / 1024.0),
            price: candidate.price.0,
            bid: candidate.bid.map(|bid| bid.0),
            reliability: offer.reliability,
            cpu_cores: offer.cpu_cores,
            disk_gb: offer.disk_gb,
            down_mbps: offer.inet_mbps.0,
            cuda: offer.cuda,
            dlperf_per_dollar: offer.dlperf_per_dollar,
            location: offer.location.clone(),
        }
    }
}

impl Engine {
    /// Searches and selects; rents nothing.
    ///
    /// # Errors
    /// The API's refusals. An empty list is no error.
    pub fn offers<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<OfferList>> {
        Box::pin(async move {
            self.warn_of_settings(call);
            let query = self.offer_query();
            let search = call.until_cancelled(async { Ok(self.client.search(&query).await?) });
            let (offers, machines) =
                tokio::join!(search, self.store.failed_machines(&self.settings.api_url, self.unix_now()));
            let avoid = machines?.into_keys().collect();
            let terms = Terms { avoid, bid: self.settings.bid, affordable: self.lease_limit() };
            let selection = select(&offers?, &query, &terms);
            Ok(OfferList {
                offers: selection.candidates.iter().map(OfferLine::from).collect(),
                refused: selection.refused,
            })
        })
    }

    /// Whoever looks at prices, or pays one, hears of a limit that is misspelt and limits nothing.
    pub(super) fn warn_of_settings(&self, call: &Call) {
        self.settings.notes.iter().for_each(|note| call.warn(note.clone()));
    }

    /// The search that the settings ask for.
    pub(super) fn offer_query(&self) -> OfferQuery {
        let settings = &self.settings;
        OfferQuery {
            interruptible: settings.instance_type == InstanceType::Interruptible,
            gpu_name: settings.gpu_name.clone(),
            gpu_count: settings.gpu_count,
            disk_gb: settings.disk_gb,
            cap: settings.max_dph_total,
            min_reliability: settings.min_reliability,
            duration_secs: settings.ttl.as_secs(),
            // The text was checked when it was resolved.
            order: parse_order(&settings.order)
                .unwrap_or_default()
                .into_iter()
                .map(|term| {
                    let direction = term.direction().to_owned();
                    (term.field, direction)
                })
                .collect(),
        }
    }
}

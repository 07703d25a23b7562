//! List: every instance of ours, with what its claim says.

use super::resolve::check_account;
use super::{Call, Engine};
use crate::Result;
use crate::lease::labels::{self, LabelDefaults, Labels, key};
use crate::lease::{Claim, Dollars, DollarsPerHour, InstanceId, OwnershipLabel, Slug};
use crate::store::StepKind;
use crate::vast::client::Inventory;
use crate::vast::{Filter, Instance};
use futures_util::future::BoxFuture;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Whose an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ownership {
    /// A claim here belongs to it.
    Claimed,
    /// It carries an ownership label, but its claim is elsewhere or lost.
    Unclaimed,
    /// Made by other means.
    Foreign,
}

/// One line of the list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Instance id.
    pub instance: InstanceId,
    /// Slug; for foreign instances their label, or the id.
    pub name: String,
    /// What the container does; `ready` for a running one.
    pub status: String,
    /// GPU name.
    pub gpu: String,
    /// SSH host, the direct one where known.
    pub host: String,
    /// $/h, disk included.
    pub price: Option<DollarsPerHour>,
    /// What it cost so far, $: an upper bound.
    pub accrued_dollars: Option<f64>,
    /// What is to become of it and is not done yet, `destroy` or `stop`.
    pub ending: Option<StepKind>,
    /// Whose it is.
    pub ownership: Ownership,
    /// The claim's labels; without a claim what its label and the settings tell.
    pub labels: Labels,
}

impl Serialize for Listed {
    /// In the words of the other results; the command line prints [`Listed::to_json`] instead.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut out = to.serialize_struct("Listed", 13)?;
        out.serialize_field("id", &self.lease())?;
        out.serialize_field("slug", &self.name)?;
        out.serialize_field("instance", &self.instance)?;
        out.serialize_field("state", &self.status)?;
        out.serialize_field("gpu", &self.gpu)?;
        out.serialize_field("price", &self.price)?;
        out.serialize_field("accruedDollars", &self.accrued_dollars)?;
        out.serialize_field("ending", &self.ending)?;
        out.serialize_field("host", &Some(&self.host).filter(|host| !host.is_empty()))?;
        out.serialize_field("keep", &self.keep())?;
        out.serialize_field("claimed", &(self.ownership == Ownership::Claimed))?;
        out.serialize_field("ownership", &self.ownership)?;
        out.serialize_field("labels", &self.labels)?;
        out.end()
    }
}

impl Listed {
    /// The lease it belongs to.
    #[must_use]
    pub fn lease(&self) -> Option<&str> {
        self.labels.get(key::LEASE).map(String::as_str)
    }

    /// Whether cleanup leaves it alone.
    #[must_use]
    pub fn keep(&self) -> bool {
        labels::keep(&self.labels)
    }

    /// The line crabbox prints; foreign instances are marked as such.
    #[must_use]
    pub fn line(&self) -> String {
        let label = |key: &str| self.labels.get(key).map(String::as_str).unwrap_or_default();
        let slug = Some(label(key::SLUG)).filter(|slug| !slug.is_empty()).unwrap_or("-");
        let cost = self.accrued_dollars.map_or_else(String::new, |cost| format!(" cost={}", Dollars(cost)));
        let ending = self.ending.map_or_else(String::new, |end| format!(" ending={}", end.name()));
        // crabbox's line for what is ours; what is not must not be taken for it.
        let mark = if self.ownership == Ownership::Foreign { " ownership=foreign" } else { "" };
        format!(
            "{:<20} {:<28} {:<12} {:<14} {:<15} lease={} slug={slug} keep={} target={}{cost}{ending}{mark}",
            self.instance.to_string(),
            self.name,
            self.status,
            self.gpu,
            self.host,
            label(key::LEASE),
            label(key::KEEP),
            label(key::TARGET),
        )
    }

    /// The element crabbox prints under `--json`, and whose the instance is.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut element = json!({
            "CloudID": self.instance.to_string(),
            "Provider": "vast",
            "HostID": "",
            "id": 0,
            "name": self.name,
            "status": self.status,
            "labels": self.labels,
            "public_net": {"ipv4": {"ip": self.host}},
            "private_net": {"ipv4": {"ip": ""}},
            "server_type": {"name": self.gpu},
            "ownership": self.ownership,
        });
        if let Some(price) = self.price {
            element["pricePerHour"] = json!(price);
        }
        if let Some(cost) = self.accrued_dollars {
            element["accruedDollars"] = json!(cost);
        }
        if let Some(ending) = self.ending {
            element["ending"] = json!(ending);
        }
        element
    }
}

impl Engine {
    /// The instances of this account that are ours, or all of them; where the call names a pond, only those in it.
    /// Reads only.
    ///
    /// Leases whose create was never answered have no instance to list; a warning names them.
    ///
    /// # Errors
    /// The API's refusals.
    pub fn list<'a>(&'a self, all: bool, call: &'a Call) -> BoxFuture<'a, Result<Vec<Listed>>> {
        Box::pin(async move {
            let read = async { Ok(self.client.list(&Filter::All).await?) };
            let (inventory, scan, journals) = tokio::join!(
                call.until_cancelled(read),
                self.store.scan_claims(),
                self.store.scan_journals()
            );
            // Journals tell what a lease cost: a list is not withheld for that.
            let (inventory, scan, journals) = (inventory?, scan?, journals.unwrap_or_default());
            for problem in &scan.problems {
                call.warn(format!("claim file {} is left alone: {}", problem.file, problem.message));
            }
            let claims: Vec<&Claim> = scan.claims.iter().filter(|claim| claim.is_vast()).collect();
            for claim in claims.iter().filter(|claim| claim.instance_id().is_none()) {
                call.warn(format!(
                    "lease {} ({}) may have rented a machine that is not known yet; `stop {}` finds out",
                    claim.lease_id, claim.slug, claim.slug
                ));
            }
            if !inventory.complete {
                call.warn("the list is not complete: the API's total disagrees with its pages");
            }
            // A list that can be shown is not withheld because a tombstone cannot be read.
            match self.look_for_latecomers(&inventory).await {
                Ok(amiss) => amiss.into_iter().for_each(|(_, one)| call.warn(one)),
                Err(error) => call.warn(error.to_string()),
            }
            self.tell_of_missing(&inventory, &claims, call).await;
            let relabelled = self.relabelled(&inventory, &claims).await;
            let mut listed = Vec::new();
            for instance in &inventory.instances {
                let mut line = self.listed(instance, &claims, &relabelled);
                let journal = journals.iter().find(|journal| Some(journal.lease.as_str()) == line.lease());
                line.accrued_dollars = self.cost_so_far(instance, &line.labels, journal).map(|cost| cost.0);
                let claim = claims.iter().find(|claim| Some(claim.lease_id.as_str()) == line.lease());
                line.ending = self.ending(instance, claim.copied(), journal).await;
                listed.push(line);
            }
            let shown = listed.into_iter().filter(|line| all || line.ownership != Ownership::Foreign);
            Ok(match self.kept_to_pond() {
                None => shown.collect(),
                Some(pond) => shown
                    .filter(|line| line.labels.get(key::POND).is_some_and(|of| of == pond.as_str()))
                    .collect(),
            })
        })
    }

    /// Warns of every claim of this account whose instance a complete list does not show.
    async fn tell_of_missing(&self, inventory: &Inventory, claims: &[&Claim], call: &Call) {
        let pond = self.kept_to_pond();
        let missing = claims.iter().filter_map(|claim| Some((claim, claim.instance_id()?)));
        let missing = missing.filter(|(_, instance)| inventory.find(*instance).is_none());
        let missing: Vec<_> =
            missing.filter(|(claim, _)| pond.is_none() || claim.pond().as_ref() == pond).collect();
        if missing.is_empty() || !inventory.complete {
            return;
        }
        // Another account's instances are in another list.
        let Ok(account) = call.until_cancelled(async { Ok(self.client.account().await?) }).await else {
            return;
        };
        for (claim, instance) in missing {
            if check_account(claim, account.id, &self.settings.api_url, "list").is_ok() {
                let (lease, slug) = (&claim.lease_id, &claim.slug);
                call.warn(format!(
                    "instance {instance} of lease {lease} ({slug}) is not listed: it is gone, or too new to be seen; `stop \
                     {slug}` finds out and clears the claim"
                ));
            }
        }
    }

    /// The pond that a list or a cleanup keeps to: the one that this very call names, not the one of new leases.
    pub(super) fn kept_to_pond(&self) -> Option<&Slug> {
        self.settings.pond.as_ref().filter(|_| self.settings.pond_given)
    }

    /// Instances that carry no ownership label any more but are the answers to our creates, with their leases' labels.
    async fn relabelled(
        &self,
        inventory: &Inventory,
        claims: &[&Claim],
    ) -> BTreeMap<InstanceId, OwnershipLabel> {
        let mut ours = BTreeMap::new();
        for claim in claims {
            let Some(instance) = claim.instance_id().and_then(|id| inventory.find(id)) else { continue };
            if instance.ownership().is_none() && self.check_label(claim, instance).await.is_ok() {
                let (lease, slug, state) =
                    (claim.lease_id.clone(), claim.slug.clone(), claim.state().to_owned());
                ours.insert(instance.id, OwnershipLabel { lease, slug, state });
            }
        }
        ours
    }

    fn listed(
        &self,
        instance: &Instance,
        claims: &[&Claim],
        relabelled: &BTreeMap<InstanceId, OwnershipLabel>,
    ) -> Listed {
        let owner = instance.ownership().or_else(|| relabelled.get(&instance.id).cloned());
        let claim = owner.as_ref().and_then(|owner| {
            claims.iter().find(|claim| {
                claim.lease_id == owner.lease && claim.instance_id().is_none_or(|id| id == instance.id)
            })
        });
        let (ownership, labels, name) = match (&owner, claim) {
            (Some(owner), Some(claim)) => {
                let mut labels = claim.labels.clone();
                labels.extend(claim.pond().map(|pond| (key::POND.to_owned(), pond.to_string())));
                (Ownership::Claimed, labels, owner.slug.clone())
            }
            (Some(owner), None) => {
                let settings = &self.settings;
                let defaults = LabelDefaults {
                    profile: settings.profile.clone(),
                    class: settings.class.clone(),
                    ttl: settings.ttl,
                    idle_timeout: settings.idle_timeout,
                    release_action: settings.release_action,
                };
                let labels = labels::initial_without_claim(owner, &defaults, self.unix_now());
                (Ownership::Unclaimed, labels, owner.slug.clone())
            }
            (None, _) => {
                let text = instance.label.clone().unwrap_or_default();
                (Ownership::Foreign, Labels::from([("label".to_owned(), text.clone())]), text)
            }
        };
        let name = if name.is_empty() { instance.id.to_string() } else { name };
        let host = claim
            .and_then(|claim| Some(claim.endpoint()?.0.to_owned()))
            .or_else(|| instance.endpoints().first().map(|endpoint| endpoint.host.clone()))
            .unwrap_or_default();
        Listed {
            instance: instance.id,
            name,
            status: instance.shown_status(),
            gpu: instance.gpu_name.clone().unwrap_or_default(),
            host,
            price: instance.dph_total,
            accrued_dollars: None,
            ending: None,
            ownership,
            labels,
        }
    }
}

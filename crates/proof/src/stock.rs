//! Taking stock: what the vendor's books say against what was known, whose it is, and what it costs.

use crate::history::Happening;
use crate::shared::{Books, Shared, lock};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

impl Shared {
    /// The vendor changes the price of an instance.
    pub(crate) fn reprice(&self, instance: u64, price: f64) {
        self.control("POST", &format!("/_sim/instances/{instance}"), &json!({ "dph_total": price }));
        lock(&self.books).repriced.insert(instance);
        self.note(Happening::Repriced { instance, price });
    }

    /// The vendor changes the price of everything that is ours.
    pub(crate) fn reprice_ours(&self, price: f64) {
        let ours: Vec<u64> = lock(&self.books).ours.iter().copied().collect();
        ours.into_iter().for_each(|instance| self.reprice(instance, price));
    }

    /// An answer has arrived: what it shows of prices that have changed.
    pub(crate) fn note_prices(&self, process: usize, body: &[u8]) {
        let repriced = lock(&self.books).repriced.clone();
        if repriced.is_empty() {
            return;
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let one = std::slice::from_ref(&body["instances"]);
        for record in body["instances"].as_array().map_or(one, Vec::as_slice) {
            let Some(instance) = record["id"].as_u64().filter(|instance| repriced.contains(instance)) else {
                continue;
            };
            match &record["dph_total"] {
                Value::Null => self.note(Happening::PriceHidden { process, instance }),
                price => {
                    let price = price.as_f64();
                    price
                        .into_iter()
                        .for_each(|price| self.note(Happening::PriceShown { process, instance, price }));
                }
            }
        }
    }

    /// Compares the vendor's books with ours after a call from the other machine of our user. What it rents is foreign
    /// here; what it changes is its own, or a trespass.
    pub(crate) fn take_stock_elsewhere(&self, process: usize, instance: Option<u64>) {
        let open = lock(&self.vast).ledger().open;
        let mut new = Vec::new();
        let trespass = {
            let mut books = lock(&self.books);
            for one in &open {
                if !books.ours.contains(&one.id) && !books.foreign.contains_key(&one.id) {
                    books.elsewhere.insert(one.id);
                    new.push(one.id);
                }
                if books.elsewhere.contains(&one.id) {
                    books.foreign.insert(one.id, one.label.clone());
                }
            }
            let open: BTreeSet<u64> = open.iter().map(|one| one.id).collect();
            let Books { foreign, elsewhere, .. } = &mut *books;
            foreign.retain(|id, _| open.contains(id) || !elsewhere.contains(id));
            instance.filter(|instance| {
                books.ours.contains(instance)
                    || (books.foreign.contains_key(instance) && !books.elsewhere.contains(instance))
            })
        };
        new.into_iter().for_each(|instance| self.note(Happening::Foreign { instance }));
        if let Some(instance) = trespass {
            self.note(Happening::Trespassed { process, instance });
        }
    }

    /// Compares the vendor's books with ours; returns what is new.
    pub(crate) fn take_stock(&self, by: Option<usize>, lease: Option<&str>, ask: Option<u64>) -> Vec<u64> {
        let ledger = lock(&self.vast).ledger();
        let open: BTreeMap<u64, Option<String>> =
            ledger.open.into_iter().map(|instance| (instance.id, instance.label)).collect();
        let (known, foreign) = {
            let books = lock(&self.books);
            (books.ours.clone(), books.foreign.clone())
        };
        for instance in known.iter().filter(|id| !open.contains_key(id)) {
            lock(&self.books).ours.remove(instance);
            self.note(Happening::Destroyed { instance: *instance, by });
        }
        for (instance, label) in &foreign {
            if open.get(instance) != Some(label) {
                lock(&self.books).foreign.remove(instance);
                self.note(Happening::ForeignChanged { instance: *instance });
            }
        }
        let new = open.keys().filter(|id| !known.contains(id) && !foreign.contains_key(id));
        let new: Vec<u64> = new.copied().collect();
        for instance in new.clone() {
            lock(&self.books).ours.insert(instance);
            let price = lock(&self.vast).contract_price(instance).unwrap_or(0.0);
            let claimed = lease.is_some_and(|lease| self.is_claimed(lease));
            let lease = lease.map(ToOwned::to_owned);
            if let Some(lease) = lease.clone() {
                lock(&self.books).lease_of.insert(instance, lease);
            }
            self.note(Happening::Created { instance, lease, ask: ask.unwrap_or(0), price, claimed });
        }
        new
    }
}

#[cfg(test)]
#[path = "stock_tests.rs"]
mod tests;

//! How the vendor behaves in one run: its durations, its quirks around a create, and what happens on its side of the
//! world meanwhile.

use crate::acts::BROKEN_START;
use crate::shared::{ORIGIN, Shared};
use crate::stage::CAP;
use crabbox_vast_sim::api::{self, Effect, Fault, Reply};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Durations and surroundings.
#[derive(Clone, Debug, PartialEq)]
pub struct Vendor {
    /// From the create to `running`.
    pub boot: Duration,
    /// From the create to the single read showing it.
    pub read_lag: Duration,
    /// From the create to the list showing it.
    pub list_lag: Duration,
    /// How long a destroyed record still shows.
    pub linger: Duration,
    /// How many foreign machines there are.
    pub foreign: usize,
    /// The direct port is dead.
    pub break_direct: bool,
    /// The proxy port is dead.
    pub break_proxy: bool,
}

impl Default for Vendor {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            boot: Duration::from_millis(2_500),
            read_lag: seconds(1),
            list_lag: seconds(2),
            linger: seconds(1),
            foreign: 2,
            break_direct: false,
            break_proxy: false,
        }
    }
}

impl Vendor {
    pub(crate) fn apply(&self, settings: &mut api::Settings) {
        // Logs are fetched from there.
        settings.origin = ORIGIN.to_owned();
        settings.boot = self.boot;
        // More offers than an acquire tries, and not many more: writing them out is what takes the time.
        settings.market = 18;
        settings.scenery = false;
        settings.history = 0;
        settings.ssh_lag = self.boot / 3;
        settings.key_lag = self.boot / 9;
        settings.read_lag = self.read_lag;
        settings.list_lag = self.list_lag;
        settings.destroy_linger = self.linger;
        settings.break_direct = self.break_direct;
        settings.break_proxy = self.break_proxy;
    }
}

/// What is strange about one create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// Refused, and yet there is a machine, which the refusal names.
    RefusedYetThere,
    /// Accepted without naming the machine.
    Nameless,
    /// Refused with the number of a machine that is not ours.
    NamesAForeigner,
    /// The machine costs more than the offer said, and more than the cap.
    Dearer,
    /// Accepted, and the named machine never exists.
    Phantom,
    /// Rented as interruptible, whatever was asked for.
    OtherTerms,
    /// The host cannot start the container, and says why.
    NeverStarts,
}

impl Quirk {
    /// Every quirk.
    pub const ALL: [Quirk; 7] = [
        Quirk::RefusedYetThere,
        Quirk::Nameless,
        Quirk::NamesAForeigner,
        Quirk::Dearer,
        Quirk::Phantom,
        Quirk::OtherTerms,
        Quirk::NeverStarts,
    ];

    /// The answer where nothing is created.
    pub(crate) fn instead(self, foreigner: u64) -> Option<Reply> {
        let refusal = |id: u64| json!({"success": false, "error": "invalid_price", "new_contract": id});
        match self {
            Quirk::NamesAForeigner => Some(Reply::json(200, &refusal(foreigner))),
            Quirk::Phantom => Some(Reply::json(200, &json!({"success": true, "new_contract": 99_999_999}))),
            _ => None,
        }
    }

    /// What becomes of the answer after a create.
    pub(crate) fn spoil(self, reply: &mut Reply) {
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        if body["new_contract"].is_null() {
            return;
        }
        match self {
            Quirk::RefusedYetThere => {
                let refusal = json!({"success": false, "error": "invalid_price", "msg": "Bid is lower than the current minimum bid; instance created in stopped state.", "new_contract": body["new_contract"]});
                *reply = Reply::json(200, &refusal);
            }
            Quirk::Nameless => *reply = Reply::json(200, &json!({"success": true})),
            _ => {}
        }
    }

    /// What the new machine shows.
    pub(crate) fn alters(self) -> Option<Value> {
        match self {
            Quirk::NeverStarts => Some(json!({ "freeze": true, "status_msg": BROKEN_START })),
            Quirk::OtherTerms => Some(json!({ "is_bid": true })),
            _ => None,
        }
    }

    pub(crate) fn reprices(self) -> Option<f64> {
        (self == Quirk::Dearer).then_some(CAP * 1.7)
    }
}

/// Something that happens on its own at a moment of the run.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// The wall clock jumps by milliseconds.
    Clock(i64),
    /// Every call is answered like this for so long.
    Outage(Effect, Duration),
    /// The key is revoked.
    Revoke,
    /// The credit is used up.
    Bankrupt,
    /// Every machine of ours shows these columns, or is spoiled in this way.
    Alter(Value),
    /// The list leaves our machines out for so long, as it has been seen to, and says that it is complete.
    Hide(Duration),
    /// The vendor's host ends every contract of ours.
    Evict,
    /// The price of every machine of ours becomes this, $/h.
    Raise(f64),
    /// Others bid so many times as much, and after so long as before.
    Outbid(f64, Duration),
    /// A start is queued for so long, because the GPU is let to others.
    Relet(Duration),
    /// Every machine of ours shows this state for so long, and then runs again.
    Ail(&'static str, Duration),
    /// The keys that were attached to our machines are gone.
    WipeKeys,
    /// Lists alone are answered like this for so long.
    Lie(Effect, Duration),
}

impl Act {
    pub(crate) async fn play(&self, shared: &Arc<Shared>) {
        shared.note(crate::history::Happening::Act(format!("{self:?}")));
        match self {
            Act::Clock(milliseconds) => shared.jump(*milliseconds),
            Act::Outage(effect, lasts) => {
                let mut fault = Fault::once("GET", "*", effect.clone()).times(None);
                fault.method = None;
                shared.spoil(&fault, *lasts).await;
            }
            Act::Revoke => {
                shared.control("POST", "/_sim/account", &json!({ "revoked": true }));
            }
            Act::Bankrupt => {
                shared.control("POST", "/_sim/account", &json!({ "credit": 0.0001 }));
            }
            Act::Lie(effect, lasts) => {
                let lie = Fault::once("GET", "/api/v1/instances/", effect.clone()).times(None);
                shared.spoil(&lie, *lasts).await;
            }
            Act::Raise(price) => shared.reprice_ours(*price),
            Act::Outbid(factor, lasts) => {
                shared.control("POST", "/_sim/market", &json!({ "min_bid_factor": factor }));
                tokio::time::sleep(*lasts).await;
                shared.control("POST", "/_sim/market", &json!({ "min_bid_factor": factor.recip() }));
            }
            Act::Relet(lasts) => {
                shared.alter_ours(&json!({ "relet": true }));
                tokio::time::sleep(*lasts).await;
                shared.alter_ours(&json!({ "relet": false }));
            }
            Act::Ail(state, lasts) => {
                shared.alter_ours(&json!({ "actual_status": state }));
                tokio::time::sleep(*lasts).await;
                shared.alter_ours(&json!({ "actual_status": "running" }));
            }
            Act::WipeKeys => shared.alter_ours(&json!({ "wipe_keys": true })),
            Act::Alter(body) => shared.alter_ours(body),
            Act::Hide(lasts) => {
                shared.alter_ours(&json!({ "hidden": true }));
                tokio::time::sleep(*lasts).await;
                shared.alter_ours(&json!({ "hidden": false }));
            }
            Act::Evict => shared.evict(),
        }
    }
}

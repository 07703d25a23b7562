//! Everything that happens on its own at some moment of a run, by name: the vendor's side of the world, the account, the clock.

use crate::catalogue::repeated_token;
use crate::dice::Dice;
use crate::stage::CAP;
use crate::vendor::Act;
use crabbox_vast_sim::api::Effect;
use serde_json::{Value, json};
use std::time::Duration;

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// So long after the work began.
    After(Duration),
    /// As the nth call of the work, counted from 1, has taken effect, and mostly before its answer arrives.
    Call(usize),
}

/// Something that happens on its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// When.
    pub when: When,
    /// A name, which is a branch to be reached.
    pub name: &'static str,
    /// What.
    pub act: Act,
}

impl Incident {
    /// This act, so long after the work began.
    #[must_use]
    pub fn after(after: Duration, name: &'static str, act: Act) -> Self {
        Self { when: When::After(after), name, act }
    }
}

/// One kind of act.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// A name for people.
    pub name: &'static str,
    /// Draws its durations.
    pub draw: fn(&mut Dice) -> Act,
}

fn seconds(dice: &mut Dice, most: usize) -> Duration {
    Duration::from_millis(dice.below(most * 1000) as u64)
}

fn alter(body: Value) -> Act {
    Act::Alter(body)
}

fn forbidden() -> Effect {
    Effect::Answer {
        status: 403,
        content_type: "text/plain".into(),
        body: "Forbidden".into(),
        headers: Vec::new(),
    }
}

/// What a host says that cannot start the container, with the environment that it was to have.
pub(crate) const BROKEN_START: &str = concat!(
    "Error: OCI runtime create failed: nvidia-container-cli: initialization error; ",
    "environment: [[\"JUPYTER_TOKEN\", \"canary-told-by-the-host\"]]"
);

/// What stands in texts of the host and in what the container prints.
pub(crate) const TOLD: &str = "canary-told-by-the-host";

/// Kinds in which nothing is lost, so that an operation should come to its end all the same.
pub(crate) const PASSING: [&str; 4] = [
    "act: the clock was set back",
    "act: the clock stepped forward a little",
    "act: the list left machines out",
    "act: the list led to the same page",
];

/// Every kind.
pub const KINDS: [Kind; 30] = [
    Kind { name: "act: the clock was set back", draw: |dice| Act::Clock(-(dice.below(7_200_000) as i64)) },
    Kind { name: "act: the clock was set forward", draw: |dice| Act::Clock(dice.below(7_200_000) as i64) },
    Kind {
        name: "act: the clock stepped forward a little",
        draw: |dice| Act::Clock(dice.below(60_000) as i64),
    },
    Kind { name: "act: an outage of 403", draw: |dice| Act::Outage(forbidden(), seconds(dice, 90)) },
    Kind { name: "act: an outage of 502", draw: |dice| Act::Outage(Effect::Html(502), seconds(dice, 90)) },
    Kind { name: "act: an outage of resets", draw: |dice| Act::Outage(Effect::Reset, seconds(dice, 60)) },
    Kind {
        name: "act: an outage of 429",
        draw: |dice| Act::Outage(Effect::TooMany(dice.below(4)), seconds(dice, 60)),
    },
    Kind { name: "act: the key was revoked", draw: |_| Act::Revoke },
    Kind { name: "act: the credit was used up", draw: |_| Act::Bankrupt },
    Kind { name: "act: the host ended the contracts", draw: |_| Act::Evict },
    Kind {
        name: "act: a start failed at the host",
        draw: |_| alter(json!({"freeze": true, "status_msg": BROKEN_START})),
    },
    Kind {
        name: "act: the image was not found",
        draw: |_| {
            alter(
                json!({"freeze": true, "status_msg": "docker: Get https://user:canary-told-by-the-host@registry.example/v2/: manifest for nosuch/image:1 not found: manifest unknown"}),
            )
        },
    },
    Kind { name: "act: the list left machines out", draw: |dice| Act::Hide(seconds(dice, 9)) },
    Kind {
        name: "act: the machine exited",
        draw: |_| {
            alter(json!({"actual_status": "exited", "intended_status": "stopped", "cur_state": "stopped"}))
        },
    },
    Kind { name: "act: the price was raised", draw: |_| Act::Raise(CAP * 1.5) },
    Kind { name: "act: outbid", draw: |dice| Act::Outbid(1_000.0, seconds(dice, 90)) },
    Kind { name: "act: the GPU was let to others", draw: |dice| Act::Relet(seconds(dice, 120)) },
    Kind { name: "act: the machine was offline", draw: |dice| Act::Ail("offline", seconds(dice, 60)) },
    Kind {
        name: "act: the machine's state was unknown",
        draw: |dice| Act::Ail("unknown", seconds(dice, 60)),
    },
    Kind {
        name: "act: the machine exited and came back",
        draw: |dice| Act::Ail("exited", seconds(dice, 60)),
    },
    Kind { name: "act: the machine loaded again", draw: |dice| Act::Ail("loading", seconds(dice, 60)) },
    Kind { name: "act: the keys were wiped", draw: |_| Act::WipeKeys },
    Kind {
        name: "act: the list led to the same page",
        draw: |dice| Act::Lie(repeated_token(), seconds(dice, 150)),
    },
    Kind {
        name: "act: loading stalled",
        draw: |_| {
            alter(json!({"freeze": true, "actual_status": "loading", "status_msg": "Pulling fs layer"}))
        },
    },
    Kind { name: "act: no sshd", draw: |_| alter(json!({"sshd": false})) },
    Kind { name: "act: no proxy address", draw: |_| alter(json!({"ssh_host": null, "ssh_port": null})) },
    Kind { name: "act: no ports", draw: |_| alter(json!({"ports": null})) },
    Kind {
        name: "act: created and stopped",
        draw: |_| {
            alter(json!({"actual_status": "created", "intended_status": "stopped", "cur_state": "stopped"}))
        },
    },
    Kind {
        name: "act: columns were null",
        draw: |_| alter(json!({"dph_total": null, "is_bid": null, "gpu_name": null, "status_msg": null})),
    },
    Kind { name: "act: the keys were refused", draw: |_| alter(json!({"refuse_keys": true})) },
];

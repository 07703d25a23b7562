//! What a read of a starting instance means: go on waiting, or why this one will not do.

use super::answer::brief;
use super::halt::Halt;
use crate::lease::DollarsPerHour;
use crate::vast::Instance;
use crate::vast::instance::{StartFault, start_fault};
use crate::{Code, Error};
use std::time::Duration;

/// A start that shows nothing new for so long is stuck: throttled pulls look exactly so.
const STALLED: Duration = Duration::from_secs(5 * 60);
/// A host that reports no disk and no text for so long is not working on it.
const LIFELESS: Duration = Duration::from_secs(3 * 60);
/// A container may read as ended for a while before it runs; one that is started again for longer.
const ENDED: Duration = Duration::from_secs(2 * 60);
const ENDED_AGAIN: Duration = Duration::from_secs(10 * 60);
/// A host that lost its connection may come back.
const AWAY: Duration = Duration::from_secs(5 * 60);

/// What an instance must be like.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    /// Highest price.
    pub cap: Option<DollarsPerHour>,
    /// Highest price at which the lease stays within what it may cost.
    pub affordable: Option<DollarsPerHour>,
    /// Highest price at which the lease stays within what is left of the day.
    pub by_day: Option<DollarsPerHour>,
    /// Rented at a bid.
    pub interruptible: bool,
    /// It ran before and is started again: it reads as ended for minutes, with the text of its last run.
    pub again: bool,
}

/// For how long reads have shown the same.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ages {
    /// The same status.
    pub status: Duration,
    /// Nothing that was not shown before.
    pub progress: Duration,
}

/// Whose fault a failed start is, which decides what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The machine's: it is avoided for a day, another one may do.
    Machine,
    /// The offer's: another one may do.
    Offer,
    /// Nobody's that another offer would help against.
    Nobody,
}

/// Whose fault a failure of a starting instance is. A bid that we chose ourselves may be made elsewhere; one that the
/// user chose is the user's to change.
pub(super) fn blame(code: Code, own_bid: bool) -> Blame {
    match code {
        Code::StartFailedHost | Code::StartStalled | Code::SshTimeout => Blame::Machine,
        Code::CreatePhantom => Blame::Offer,
        Code::Outbid | Code::BidTooLow if own_bid => Blame::Offer,
        _ => Blame::Nobody,
    }
}

/// Whether it will not do because of what it costs, or how it was rented: then it goes whoever uses it.
pub(super) fn goes_whoever_uses_it(code: Code) -> bool {
    matches!(code, Code::PriceCapExceeded | Code::CostLimitExceeded | Code::RentalMismatch)
}

/// Why this instance will not do, if it will not.
pub(super) fn unusable(instance: &Instance, ages: Ages, asked: Asked) -> Option<Error> {
    let id = instance.id;
    wrong_terms(instance, asked)
        .or_else(|| if instance.is_running() { None } else { wrong_start(instance, ages, asked) })
        .map(|error| error.with("instance", id.0))
}

/// Not what was asked for: dearer, or rented the other way.
fn wrong_terms(instance: &Instance, asked: Asked) -> Option<Error> {
    let id = instance.id;
    for (limit, what, setting) in [
        (asked.cap, "cap", "vast.maxDphTotal"),
        (asked.affordable, "price that --max-cost leaves", "--max-cost"),
        (asked.by_day, "price that the day's budget leaves", "vast.maxCostPerDay"),
    ] {
        if let (Some(limit), Some(price)) = (limit, instance.dph_total)
            && price.exceeds(limit)
        {
            return Some(
                Error::new(
                    Code::PriceCapExceeded,
                    format!("instance {id} costs {price}, more than the {what} of {limit}"),
                )
                .hint(format!("prices can change between search and create; try again, or raise {setting}"))
                .with("price", price.0),
            );
        }
    }
    let (wanted, got) = match (asked.interruptible, instance.is_bid) {
        (false, Some(true)) => ("on demand", "as interruptible"),
        (true, Some(false)) => ("as interruptible", "on demand"),
        _ => return None,
    };
    Some(
        Error::new(Code::RentalMismatch, format!("instance {id} was asked for {wanted}, but rented {got}"))
            .hint("the API did not do what was asked; try again, or check vast.apiUrl"),
    )
}

fn wrong_start(instance: &Instance, ages: Ages, asked: Asked) -> Option<Error> {
    let id = instance.id;
    let message = instance.status_msg.as_deref().unwrap_or_default();
    let brief = brief(message.as_bytes());
    let host = |message: String| {
        Some(Error::new(Code::StartFailedHost, message).hint("another machine may do: try again"))
    };
    let status = instance.actual_status.as_deref();
    let stale = asked.again && matches!(status, Some("exited" | "stopped"));
    match start_fault(message).filter(|_| !stale) {
        Some(StartFault::Image) => {
            return Some(
                Error::new(Code::StartFailedImage, format!("instance {id} cannot start its image: {brief}"))
                    .hint("check vast.image: its name, its tag and whether it needs a login"),
            );
        }
        Some(StartFault::Host) => {
            return host(format!("the host of instance {id} cannot start it: {brief}"));
        }
        None => {}
    }
    if instance.is_stopped() && instance.is_bid == Some(true) {
        return Some(Halt::Outbid.error(id, None));
    }
    if status == Some("created") && instance.cur_state.as_deref() == Some("stopped") {
        return host(format!("the host of instance {id} made the container and did not start it"));
    }
    if instance.is_stopped() {
        return Some(
            Error::new(Code::InstanceNotRunning, format!("instance {id} was stopped while it started")).hint(
                "out of credit, at the end of its contract, or stopped by someone else: see the Vast console",
            ),
        );
    }
    let seconds = |age: Duration| age.as_secs();
    match status {
        Some("exited" | "stopped") if ages.status >= (if asked.again { ENDED_AGAIN } else { ENDED }) => Some(
            Error::new(
                Code::InstanceNotRunning,
                format!(
                    "the container of instance {id} ended {} s ago and does not come back",
                    seconds(ages.status)
                ),
            )
            .hint("its start script or its image ends it; try another image"),
        ),
        Some("unknown" | "offline") if ages.status >= AWAY => {
            host(format!("the host of instance {id} has been away for {} s", seconds(ages.status)))
        }
        Some("loading") if lifeless(instance) && ages.progress >= LIFELESS => Some(stalled(format!(
            "the host of instance {id} has shown no sign of life for {} s",
            seconds(ages.progress)
        ))),
        None | Some("created" | "loading") if ages.progress >= STALLED => {
            let at = if brief.is_empty() { "without a word".to_owned() } else { format!("at: {brief}") };
            Some(stalled(format!("instance {id} has stood still for {} s {at}", seconds(ages.progress))))
        }
        _ => None,
    }
}

fn lifeless(instance: &Instance) -> bool {
    instance.status_msg.is_none() && instance.disk_util.is_some_and(|used| used < 0.0)
}

fn stalled(message: String) -> Error {
    Error::new(Code::StartStalled, message)
        .hint("another machine may do; where many stall, the image's registry throttles: use another one or a login")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn judged(fields: &Value, secs: u64, interruptible: bool) -> Option<Code> {
        let asked = Asked {
            cap: Some(DollarsPerHour(0.5)),
            affordable: Some(DollarsPerHour(0.4)),
            by_day: Some(DollarsPerHour(0.45)),
            interruptible,
            again: false,
        };
        let mut raw =
            json!({"id": 1, "intended_status": "running", "cur_state": "running", "next_state": "running"});
        for (name, value) in fields.as_object().expect("fields") {
            raw[name] = value.clone();
        }
        let age = Duration::from_secs(secs);
        let instance = Instance::read(&raw).expect("an id");
        unusable(&instance, Ages { status: age, progress: age }, asked).map(|error| error.code())
    }

    #[test]
    fn each_row_of_the_decision_table() {
        let stopped = json!({"actual_status": "exited", "intended_status": "stopped", "cur_state": "stopped",
                             "next_state": "stopped", "is_bid": true});
        let on_demand = json!({"actual_status": "exited", "intended_status": "stopped", "cur_state": "stopped",
                               "next_state": "stopped", "is_bid": false});
        let cases = [
            (json!({"actual_status": "loading", "status_msg": "a: Pulling fs layer"}), 299, false, None),
            (
                json!({"actual_status": "loading", "status_msg": "a: Pulling fs layer"}),
                300,
                false,
                Some(Code::StartStalled),
            ),
            (json!({}), 301, false, Some(Code::StartStalled)),
            (json!({"actual_status": "running", "status_msg": "x"}), 9000, false, None),
            (json!({"actual_status": "loading", "disk_util": -1.0}), 179, false, None),
            (json!({"actual_status": "loading", "disk_util": -1.0}), 180, false, Some(Code::StartStalled)),
            (json!({"actual_status": "loading", "disk_util": 3.0}), 180, false, None),
            (
                json!({"actual_status": "created", "status_msg": "x: OCI runtime create failed: y"}),
                0,
                false,
                Some(Code::StartFailedHost),
            ),
            (
                json!({"actual_status": "loading", "status_msg": "pull access denied for x"}),
                0,
                false,
                Some(Code::StartFailedImage),
            ),
            (
                json!({"actual_status": "created", "cur_state": "stopped"}),
                0,
                false,
                Some(Code::StartFailedHost),
            ),
            (json!({"actual_status": "exited"}), 119, false, None),
            (json!({"actual_status": "exited"}), 120, false, Some(Code::InstanceNotRunning)),
            (json!({"actual_status": "offline"}), 299, false, None),
            (json!({"actual_status": "unknown"}), 300, false, Some(Code::StartFailedHost)),
            (stopped, 0, true, Some(Code::Outbid)),
            (on_demand, 0, false, Some(Code::InstanceNotRunning)),
            (json!({"actual_status": "running", "is_bid": true}), 0, false, Some(Code::RentalMismatch)),
            (json!({"actual_status": "running", "is_bid": false}), 0, true, Some(Code::RentalMismatch)),
            (json!({"actual_status": "running", "is_bid": true}), 0, true, None),
            (json!({"actual_status": "running", "dph_total": 0.51}), 0, false, Some(Code::PriceCapExceeded)),
            (json!({"actual_status": "running", "dph_total": 0.41}), 0, false, Some(Code::PriceCapExceeded)),
            (json!({"actual_status": "running", "dph_total": "0.4"}), 0, false, None),
        ];
        for (fields, secs, interruptible, code) in cases {
            assert_eq!(judged(&fields, secs, interruptible), code, "{fields} after {secs} s");
        }
    }

    #[test]
    fn who_is_to_blame() {
        assert_eq!(blame(Code::StartStalled, false), Blame::Machine);
        assert_eq!(blame(Code::StartFailedImage, false), Blame::Nobody);
        assert_eq!((blame(Code::Outbid, true), blame(Code::Outbid, false)), (Blame::Offer, Blame::Nobody));
    }
}

//! What a lease has cost so far, for everything that shows it. An upper bound: what is not on record is taken for the
//! dearest that it can have been.

use super::{Engine, Facts};
use crate::lease::labels::{self, Labels};
use crate::lease::{Dollars, DollarsPerHour, InstanceId, accrued};
use crate::store::{Journal, Step, StepKind};
use crate::vast::Instance;
use std::time::Duration;

impl Engine {
    /// What an instance has cost since it was rented: the dearest price on record while its GPUs may have run, the
    /// storage alone while our own records have it stopped. `None` where no price or no date is known.
    pub(super) fn cost_so_far(
        &self,
        instance: &Instance,
        labels: &Labels,
        journal: Option<&Journal>,
    ) -> Option<Dollars> {
        let now = self.unix_now();
        let from = instance.start_date.map(|at| self.on_our_clock(at as i64));
        let from = from.or_else(|| labels::created_at(labels))?.min(now);
        let dearest = dearest(instance, journal)?;
        let stopped = journal.map_or(0, |journal| stopped_secs(&journal.steps, instance, from, now));
        let time = |secs: i64| Duration::from_secs(u64::try_from(secs).unwrap_or(0));
        let ran = accrued(dearest, time(now - from - stopped));
        let stood = accrued(instance.storage_price.unwrap_or(dearest), time(stopped));
        Some(Dollars(ran.0 + stood.0))
    }

    /// A time that the vendor tells, on this machine's clock.
    pub(super) fn on_our_clock(&self, vendor: i64) -> i64 {
        vendor.saturating_add(self.client.clock_skew().unwrap_or(0))
    }
}

/// What a run has cost that uses its lease since `began`: its lease at its price, boot included.
pub(super) fn run_cost(facts: &Facts, time: Duration) -> Option<Dollars> {
    facts.price.map(|price| accrued(price, time))
}

/// The dearest price that the instance shows or that is on record for it.
fn dearest(instance: &Instance, journal: Option<&Journal>) -> Option<DollarsPerHour> {
    let id = Some(instance.id.0);
    let recorded = journal.into_iter().flat_map(|journal| {
        let offered = journal.attempts.iter().filter(move |attempt| attempt.instance == id);
        let noted = journal.price.filter(|_| journal.instance.is_none() || journal.instance == id);
        offered.map(|attempt| attempt.price).chain(noted)
    });
    let shown = instance.dph_total.map(|price| price.0);
    shown.into_iter().chain(recorded).reduce(f64::max).map(DollarsPerHour)
}

/// Seconds between `from` and `now` in which an instance was stopped by us: from the proof of each stop to the start that
/// followed, or to now. A stop by others nobody recorded, and a start by others ends the last stop nobody knows when:
/// neither counts.
fn stopped_secs(steps: &[Step], instance: &Instance, from: i64, now: i64) -> i64 {
    let id: InstanceId = instance.id;
    let own: Vec<&Step> = steps
        .iter()
        .filter(|step| step.instance == id.0 && matches!(step.kind, StepKind::Stop | StepKind::Start))
        .collect();
    let (mut stopped, mut since) = (0, None);
    for (index, step) in own.iter().enumerate() {
        match step.kind {
            StepKind::Stop => since = since.or(step.proved_at),
            // One that was refused never ran; one that was taken back did, until the stop that took it back.
            _ => {
                let taken_back = own.get(index + 1).is_some_and(|next| next.kind == StepKind::Stop);
                if step.void.is_none() || taken_back {
                    let at = step.requested_at;
                    stopped +=
                        since.take().map_or(0, |since: i64| at.clamp(from, now) - since.clamp(from, now));
                }
            }
        }
    }
    if !instance.is_billed() {
        stopped += since.map_or(0, |since| now - since.clamp(from, now));
    }
    stopped.clamp(0, now - from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::LeaseId;
    use serde_json::json;

    fn instance(actual: &str) -> Instance {
        Instance::read(&json!({"id": 5, "actual_status": actual, "dph_total": 0.5})).expect("an id")
    }

    #[test]
    fn only_what_our_records_have_stopped_is_storage_alone() {
        let five = InstanceId(5);
        let mut journal = Journal::new(&LeaseId::from_entropy([1; 6]), "a", "1@x", 0);
        let stopped =
            |journal: &Journal, actual: &str| stopped_secs(&journal.steps, &instance(actual), 1000, 9000);
        assert_eq!(stopped(&journal, "exited"), 0, "stopped by others, nobody knows when");
        journal.begin(StepKind::Stop, five, 2000);
        assert_eq!(stopped(&journal, "exited"), 0, "not proved");
        journal.proved(StepKind::Stop, five, 2100);
        assert_eq!(stopped(&journal, "exited"), 6900);
        assert_eq!(stopped(&journal, "running"), 0, "started by others, nobody knows when");
        // Refused: it never ran.
        journal.begin(StepKind::Start, five, 3000);
        journal.voided(StepKind::Start, five, "no credit");
        assert_eq!(stopped(&journal, "exited"), 6900);
        journal.begin(StepKind::Start, five, 4000);
        journal.proved(StepKind::Start, five, 4100);
        assert_eq!(stopped(&journal, "running"), 1900);
        assert_eq!(stopped(&journal, "exited"), 1900);
        journal.begin(StepKind::Stop, five, 5000);
        journal.proved(StepKind::Stop, five, 5100);
        assert_eq!(stopped(&journal, "exited"), 1900 + 3900);
        // Taken back: it may have run from its request to the proof of the stop.
        journal.begin(StepKind::Start, five, 6000);
        journal.begin(StepKind::Stop, five, 6500);
        journal.proved(StepKind::Stop, five, 6600);
        journal.voided(StepKind::Start, five, "boot_timeout");
        assert_eq!(stopped(&journal, "exited"), 1900 + 900 + 2400);
        // Another instance's steps are another's.
        journal.begin(StepKind::Start, InstanceId(6), 7000);
        assert_eq!(stopped(&journal, "exited"), 5200);
    }

    #[test]
    fn the_dearest_price_on_record_counts() {
        let mut journal = Journal::new(&LeaseId::from_entropy([1; 6]), "a", "1@x", 0);
        let shown = |journal: &Journal| dearest(&instance("running"), Some(journal)).map(|price| price.0);
        assert_eq!(shown(&journal), Some(0.5));
        journal.attempts.push(crate::store::Attempt { price: 9.0, instance: Some(4), ..Default::default() });
        assert_eq!(shown(&journal), Some(0.5), "another machine's");
        journal.attempts.push(crate::store::Attempt { price: 0.6, instance: Some(5), ..Default::default() });
        assert_eq!(shown(&journal), Some(0.6));
        (journal.instance, journal.price) = (Some(5), Some(0.7));
        assert_eq!(shown(&journal), Some(0.7));
    }
}

//! A machine for which nobody comes back: whatever a process was cut off at, what it rented ends by itself.
//!
//! That the switch keeps its word is shown elsewhere, in real shells. Here it is taken at its word, and the question is
//! whether every machine has one.

use crate::checker::{Verdict, judge};
use crate::history::{Death, History};
use crate::life::Kill;
use crate::operate::operate;
use crate::plan::Operation;
use crate::shared::lock;
use crate::stage::{CAP, Stage, Treatment};
use crate::vendor::Vendor;
use std::time::Duration;

/// Longer than any switch of a lease for which no time was asked for: its 90 minutes, and a boot.
const LONGEST: Duration = Duration::from_secs(100 * 60);

/// A run that dies at this step, after which no process of ours ever comes: whether it died, what happened, and the
/// judgement once every deadline is over.
#[must_use]
pub fn abandoned(step: usize) -> (bool, History, Verdict) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime with a timer only").block_on(async {
        let stage = Stage::new(step as u64, &Vendor::default());
        let foreign = stage.foreign();
        let kill = Some(Kill { step, death: Death::PowerCut });
        let process = stage.process(&Treatment { kill, ..Treatment::default() });
        process.life.live(operate(&stage, &process, Operation::Run, None)).await;
        tokio::time::sleep(LONGEST).await;
        end_what_is_over(&stage);
        let history = stage.history();
        let verdict = judge(&history, &foreign, CAP);
        (process.life.is_dead(), history, verdict)
    })
}

/// Every machine whose switch had a deadline that is over by now has destroyed itself.
fn end_what_is_over(stage: &Stage) {
    let shared = stage.shared();
    let lifetimes = lock(&shared.lifetimes).clone();
    let ours = lock(&shared.books).ours.clone();
    for instance in ours {
        if lifetimes.get(&instance).and_then(|lifetime| lifetime.ttl).is_some_and(|ttl| ttl < LONGEST) {
            shared.vast(|vast| vast.evict(instance));
        }
    }
    shared.take_stock(None, None, None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Happening;

    /// At whichever step the last process of ours dies, nothing bills for longer than a lease lives.
    #[test]
    fn what_nobody_comes_back_for_ends_by_itself() {
        let (mut step, mut billed) = (1, 0);
        loop {
            let (died, history, verdict) = abandoned(step);
            assert!(verdict.is_clean(), "step {step}: {verdict:?}\n{history}");
            if !died {
                break;
            }
            let rented = |(_, event): &(Duration, Happening)| matches!(event, Happening::Created { .. });
            billed += usize::from(history.events().iter().any(rented));
            step += 1;
        }
        assert!(billed > 20, "{billed} of {step} deaths left a machine");
    }
}

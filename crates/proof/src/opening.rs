//! What there is before anything goes wrong. To make it takes longer than most runs do: runs that begin alike begin with
//! copies of one.

use crate::history::Death;
use crate::life::Kill;
use crate::operate::{CHOSEN, operate};
use crate::plan::{Left, Operation, Plan};
use crate::play::in_virtual_time;
use crate::shared::Deadly;
use crate::stage::{Stage, Treatment};
use crate::still::Still;
use crate::vendor::Vendor;
use crabbox_vast_engine::lease::{Claim, InstanceId, LeaseId};
use crabbox_vast_engine::ops::AcquireRequest;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Longer than the idle timeout of every lease here.
const IDLE: Duration = Duration::from_secs(31 * 60);

/// All that it depends on.
#[derive(PartialEq)]
struct Opening {
    seed: u64,
    vendor: Vendor,
    leases: Vec<Left>,
    interruptible: bool,
}

thread_local! {
    /// The latest on this thread: all cases of a sweep begin alike, and so does a fault with every death after it.
    static LATEST: RefCell<Option<(Opening, Rc<Still>)>> = const { RefCell::new(None) };
}

/// How a plan begins. Must be called outside of any runtime.
pub(crate) fn of(plan: &Plan) -> Rc<Still> {
    // Whoever only looks finds the kind of machine that it would ask for.
    let looks = plan.actors.iter().all(|actor| actor.operation == Operation::Look);
    let opening = Opening {
        seed: plan.seed,
        vendor: plan.vendor.clone(),
        leases: plan.leases.clone(),
        interruptible: looks && plan.actors[0].treatment.interruptible,
    };
    let known = LATEST.with_borrow(|latest| {
        latest.as_ref().filter(|(known, _)| *known == opening).map(|(_, still)| Rc::clone(still))
    });
    known.unwrap_or_else(|| {
        let still = Rc::new(in_virtual_time(Box::pin(make(&opening))));
        LATEST.set(Some((opening, Rc::clone(&still))));
        still
    })
}

async fn make(opening: &Opening) -> Still {
    let stage = Stage::new(opening.seed, &opening.vendor);
    for left in &opening.leases {
        Box::pin(prepare(&stage, *left, opening.interruptible)).await;
        // Where there was no such call, nobody else dies of it.
        stage.shared().kill_at_next(None);
    }
    // What is gone is proved to be only once it is too old to be merely unseen.
    if opening.leases.iter().any(|left| matches!(left, Left::Expired | Left::Gone)) {
        tokio::time::sleep(IDLE).await;
    }
    Still::of(&stage)
}

/// Makes a lease as it is to be there at the beginning.
async fn prepare(stage: &Stage, left: Left, interruptible: bool) {
    let kill = match left {
        Left::Dead(step) => Some(Kill { step, death: Death::Kill }),
        _ => None,
    };
    let process = stage.process(&Treatment { kill, interruptible, ..Treatment::default() });
    if matches!(left, Left::Unanswered | Left::CutOff) {
        stage.shared().kill_at_next(Some(Deadly::Create));
    }
    let before = stage.claims();
    let acquire = AcquireRequest {
        keep: !matches!(left, Left::Orphan | Left::Expired),
        lease_id: (left == Left::CutOff).then(|| CHOSEN.to_owned()),
        ..AcquireRequest::default()
    };
    stage.shared().wishes(process.life.process, acquire.keep, process.limits);
    let call = process.call(CancellationToken::new());
    let _ = process.life.live(process.engine.acquire(&acquire, &call)).await;
    let new = stage.claims().into_iter().find(|lease| !before.contains(lease));
    match (left, &new) {
        (Left::Disowned, Some(lease)) => stage.disown(lease),
        (Left::Gone, Some(_)) => stage.shared().evict(),
        (Left::Paused | Left::HalfPaused | Left::HalfStarted, Some(_)) => {
            if left == Left::HalfPaused {
                stage.shared().kill_at_next(Some(Deadly::State));
            }
            process.life.live(operate(stage, &process, Operation::Pause, None)).await;
        }
        _ => {}
    }
    if left == Left::HalfStarted {
        stage.shared().kill_at_next(Some(Deadly::State));
        let process = stage.process(&Treatment { interruptible, ..Treatment::default() });
        process.life.live(operate(stage, &process, Operation::Start, None)).await;
    }
    if left != Left::Stale {
        return;
    }
    // With a vendor whose machines have no door there is none.
    let (Some(lease), Some(foreigner)) =
        (new.and_then(|lease| LeaseId::parse(&lease)), stage.foreign().first().copied())
    else {
        return;
    };
    stage.shared().evict();
    let change = move |claim: &mut Claim| {
        claim.set_instance(InstanceId(foreigner));
        Ok(())
    };
    let _ = process.engine.store().update_claim(&lease, change).await;
}

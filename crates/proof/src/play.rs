//! A run from beginning to end: the work with everything that goes wrong, the clean-up, the
//! judgement.

use crate::acts::When;
use crate::aims::aims;
use crate::branches::branches;
use crate::checker::judge;
use crate::history::Happening;
use crate::life::Side;
use crate::opening;
use crate::operate::{ended, note_items, operate, release};
use crate::plan::{Operation, Plan, Ran};
use crate::stage::{CAP, Stage, Treatment};
use crate::still::Still;
use crate::vendor::Act;
use crabbox_vast_engine::lease::ReleaseAction;
use crabbox_vast_engine::ops::{CleanupRequest, ReleaseRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The longest that any operation may take, whatever goes wrong.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);
/// The longest that a stop takes to show.
const SHOWS: Duration = Duration::from_secs(120);
/// How often the clean-up is repeated before it counts as stuck.
const ROUNDS: usize = 8;
/// Longer than a journal without a lease is kept.
const DAY: Duration = Duration::from_secs(25 * 3600);
/// Time that passes before what is left counts: longer than a lease may live.
const AFTERWARDS: Duration = Duration::from_secs(2 * 3600);

/// Runs a plan from beginning to end, on this thread and in virtual time. What it awaits is boxed here and below: a thread of
/// a test has two megabytes of stack.
#[must_use]
pub fn run(plan: &Plan) -> Ran {
    let still = opening::of(plan);
    in_virtual_time(Box::pin(play(plan, &still)))
}

/// Does this on a clock of its own, which stands still while anything is done and jumps to what is waited for.
pub(crate) fn in_virtual_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime with a timer only").block_on(work)
}

async fn play(plan: &Plan, still: &Still) -> Ran {
    let stage = still.again();
    let foreign = stage.foreign();
    let before = calls(&stage);
    let first = stage.processes();
    plan.faults.iter().for_each(|fault| stage.shared().vast(|vast| vast.add_fault(fault.clone())));
    if let Some((nth, quirk)) = plan.quirk {
        stage.quirk(nth, quirk);
    }
    let mut acts = tokio::task::JoinSet::new();
    for incident in plan.acts.clone() {
        let shared = Arc::clone(stage.shared());
        let called = before.len();
        acts.spawn(async move {
            match incident.when {
                When::After(time) => tokio::time::sleep(time).await,
                When::Call(nth) => shared.calls_come_to(called + nth).await,
            }
            shared.reach(incident.name);
            incident.act.play(&shared).await;
        });
    }
    let mut working = Vec::new();
    for actor in plan.actors.clone() {
        let stage = stage.clone();
        working.push(tokio::spawn(async move {
            let mut treatment = actor.treatment;
            if actor.operation.is_crabbox() {
                treatment.side = Side::Crabbox;
            }
            let process = stage.process(&treatment);
            let life = Arc::clone(&process.life);
            let work = async {
                tokio::time::sleep(actor.after).await;
                Box::pin(operate(&stage, &process, actor.operation, actor.gives_up)).await
            };
            let ended = life.live(tokio::time::timeout(PATIENCE, work)).await;
            let outcome = ended.map(|done| done.unwrap_or_else(|_| "hung".to_owned()));
            let outcome = outcome.filter(|_| !life.is_dead());
            (process.counts(), outcome)
        }));
    }
    let (mut counts, mut outcomes) = (Vec::new(), Vec::new());
    for task in working {
        let (count, outcome) = task.await.expect("an operation panicked");
        counts.push(count);
        outcomes.push(outcome);
    }
    acts.shutdown().await;
    let (idle, work) = (stage.shared().vast(|vast| vast.idle_faults()), first..stage.processes());
    let calls = calls(&stage).split_off(before.len());
    let kept = Box::pin(recover(&stage, afterwards(plan))).await;
    stage.look_everywhere();
    let history = stage.history();
    let aims = aims(plan, &history, work, idle);
    let mut reached = branches(plan, &history, &aims);
    reached.extend(stage.reached().into_iter().map(ToOwned::to_owned));
    let mut verdict = judge(&history, &foreign, CAP);
    verdict.unsettled += outcomes.iter().flatten().filter(|outcome| *outcome == "hung").count() as u64;
    Ran { history, verdict, counts, outcomes, calls, reached, aims, kept, lasted: stage.shared().now() }
}

fn calls(stage: &Stage) -> Vec<(&'static str, String)> {
    stage.shared().calls()
}

/// A lease whose times were written while the clock was wrong lives longer by as much. One that crabbox used may say that
/// it is provisioning, and one on which a run died, or could not write its last word, that it is running: these are swept
/// half a day late.
fn afterwards(plan: &Plan) -> Duration {
    let wrong = plan.acts.iter().map(|incident| match &incident.act {
        Act::Clock(by) => Duration::from_millis(by.unsigned_abs()),
        _ => Duration::ZERO,
    });
    let crabbox = plan.actors.iter().any(|actor| actor.operation.is_crabbox());
    let runs = plan.actors.iter().any(|actor| actor.operation == Operation::RunOn);
    let unsaid =
        plan.actors.iter().any(|actor| actor.treatment.kill.is_some() || actor.treatment.disk.is_some());
    let late = if crabbox || (runs && unsaid) { Duration::from_secs(12 * 3600) } else { Duration::ZERO };
    AFTERWARDS + late + wrong.sum::<Duration>()
}

/// Fresh processes in a world that is well again, until nothing is left to do. Returns how many leases the clean-up
/// left because they are to be kept.
async fn recover(stage: &Stage, afterwards: Duration) -> usize {
    stage.mend();
    let mut stuck = 0;
    // What died is finished at once, what expires is swept later; neither needs to be told which lease it is about.
    for wait in [Duration::ZERO, afterwards] {
        // Where nothing is left that could expire, the clean-up after a day is the next one.
        if !wait.is_zero() && stage.is_clear() {
            break;
        }
        tokio::time::sleep(wait).await;
        let mut round = 0;
        while !clean_up(stage).await {
            round += 1;
            if round == ROUNDS {
                stuck += 1;
                break;
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        if wait.is_zero() {
            // By then every record shows what was asked for.
            tokio::time::sleep(SHOWS).await;
            stage.shared().note_what_runs();
        }
    }
    let (left, kept) = (stage.claims(), stage.kept());
    stuck += left.iter().filter(|lease| !kept.contains(lease)).count();
    // A machine of which nothing is left here goes only if somebody takes it over.
    for _ in 0..ROUNDS {
        if stage.disowned().is_none() {
            break;
        }
        operate(stage, &stage.process(&Treatment::default()), Operation::Adopt, None).await;
        if !stage.claims().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    // No command may destroy or forget by a claim that names a stranger's machine: those stay.
    let stale = stage.stale();
    for _ in 0..ROUNDS {
        let claims = stage.claims();
        if claims.is_empty() {
            break;
        }
        let process = stage.process(&Treatment::default());
        for lease in claims {
            let request = ReleaseRequest { identifier: lease, action: Some(ReleaseAction::Destroy) };
            release(stage, &process, &request, None).await;
        }
        if stage.claims().len() <= stale {
            break;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    // What proves that a machine is gone is kept for a day.
    tokio::time::sleep(afterwards + DAY).await;
    clean_up(stage).await;
    let claims = stage.claims();
    let shared = stage.shared();
    shared.note_all_claims();
    let remains = shared.remains(&claims);
    let left = stuck + claims.len().abs_diff(stale) + remains.len();
    remains.into_iter().for_each(|one| shared.note(Happening::Remains(one)));
    shared.note(Happening::Settled { left });
    kept.len() - stale
}

/// One clean-up by a fresh process; whether it did all that it is there for. What belongs to others is refused, and
/// that is right.
async fn clean_up(stage: &Stage) -> bool {
    let process = stage.process(&Treatment::default());
    let (number, what) = (process.life.process, format!("{:?}", Operation::Cleanup));
    stage.shared().note(Happening::Began { process: number, what });
    let call = process.call(CancellationToken::new());
    let cleaned = process.engine.cleanup(&CleanupRequest::default(), &call).await;
    let done = match &cleaned {
        Ok(cleaned) => cleaned.summary.failed == 0,
        Err(_) => false,
    };
    ended(stage, &process, cleaned.map(|cleaned| note_items(stage, &process, &cleaned)));
    done
}

//! One run as data: who does what, what goes wrong, and the run itself.

use crate::checker::{Verdict, judge};
use crate::history::{Death, Happening, History};
use crate::life::Kill;
use crate::stage::{CAP, Counts, Process, Stage, Treatment};
use crate::vendor::{Act, Quirk, Vendor};
use crabbox_vast_engine::lease::{Claim, InstanceId, LeaseId, ReleaseAction};
use crabbox_vast_engine::ops::adopt::AdoptRequest;
use crabbox_vast_engine::ops::cleanup::{ItemKind, ItemOutcome};
use crabbox_vast_engine::ops::start::StartRequest;
use crabbox_vast_engine::ops::{
    AcquireRequest, Cleaned, CleanupRequest, ReleaseOutcome, ReleaseRequest, RunRequest,
};
use crabbox_vast_engine::ssh::command::Script;
use crabbox_vast_engine::world::ExecIo;
use crabbox_vast_engine::{Code, Error};
use crabbox_vast_sim::api::Fault;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Acquires a lease that outlives it.
    Acquire,
    /// Acquires, runs a command, releases.
    Run,
    /// Runs a command on the first lease there is.
    RunOn,
    /// Releases the first lease there is.
    Stop,
    /// Stops the machine of the first lease there is without destroying it.
    Pause,
    /// Touches the first lease there is.
    Touch,
    /// Lists, and looks at the first lease there is.
    Look,
    /// Cleans up.
    Cleanup,
    /// Starts the first lease there is.
    Start,
    /// Acquires a lease under an id of the user's choice, which makes the call repeatable.
    Again,
    /// Takes over the first lease there is, whose claim may have been lost.
    Adopt,
}

/// What is there before anything goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// A lease that is to be kept.
    Kept,
    /// A lease that was not to be kept, whose process is gone.
    Orphan,
    /// A lease that nobody has used for longer than its idle timeout.
    Expired,
    /// What an acquire left that was killed at this step.
    Dead(usize),
    /// A claim that names a machine that is not ours: its own is gone, and somebody edited the file.
    Stale,
    /// What an acquire left that was killed after its create took effect and before the answer came.
    Unanswered,
}

/// One process of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Actor {
    /// What it does.
    pub operation: Operation,
    /// When it begins.
    pub after: Duration,
    /// When its user gives up.
    pub gives_up: Option<Duration>,
    /// How the world treats it.
    pub treatment: Treatment,
}

impl Actor {
    /// Does this at once in a friendly world.
    #[must_use]
    pub fn new(operation: Operation) -> Self {
        Self { operation, after: Duration::ZERO, gives_up: None, treatment: Treatment::default() }
    }
}

/// A whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Decides every delay and draw.
    pub seed: u64,
    /// How the vendor behaves.
    pub vendor: Vendor,
    /// Which leases there are before anything goes wrong.
    pub leases: Vec<Left>,
    /// Who works.
    pub actors: Vec<Actor>,
    /// What goes wrong with calls, counted from the beginning of the actors' work.
    pub faults: Vec<Fault>,
    /// What is strange about the nth create.
    pub quirk: Option<(usize, Quirk)>,
    /// What happens on its own, and when.
    pub acts: Vec<(Duration, Act)>,
}

impl Plan {
    /// A single process in a friendly world.
    #[must_use]
    pub fn single(seed: u64, operation: Operation) -> Self {
        let leases = match operation {
            Operation::Acquire | Operation::Run | Operation::Again => Vec::new(),
            Operation::Cleanup => vec![Left::Kept, Left::Expired, Left::Unanswered],
            _ => vec![Left::Kept],
        };
        Self {
            seed,
            vendor: Vendor::default(),
            leases,
            actors: vec![Actor::new(operation)],
            faults: Vec::new(),
            quirk: None,
            acts: Vec::new(),
        }
    }

    /// The same with the first process treated like this.
    #[must_use]
    pub fn treated(mut self, treatment: Treatment) -> Self {
        self.actors[0].treatment = treatment;
        self
    }
}

/// The lease id of the user's choice.
const CHOSEN: &str = "cbx_0123456789ab";
/// Longer than the idle timeout of every lease here.
const IDLE: Duration = Duration::from_secs(31 * 60);

/// What came of a run.
#[derive(Debug)]
pub struct Ran {
    /// Everything that happened.
    pub history: History,
    /// The judgement.
    pub verdict: Verdict,
    /// What each actor did.
    pub counts: Vec<Counts>,
    /// How each actor's operation ended: an error code, or `ok`; `None` where it died.
    pub outcomes: Vec<Option<String>>,
    /// Calls of the actors, in order.
    pub calls: Vec<(&'static str, String)>,
    /// Branches that were reached.
    pub reached: BTreeSet<&'static str>,
    /// How many leases the clean-up left because they are to be kept.
    pub kept: usize,
    /// Virtual time that passed.
    pub lasted: Duration,
}

/// The longest that any operation may take, whatever goes wrong.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);
/// How often the clean-up is repeated before it counts as stuck.
const ROUNDS: usize = 8;
/// Time that passes after everything, so that what was put off would still happen: more than a lease's time to live.
const AFTERWARDS: Duration = Duration::from_secs(2 * 3600);

/// Runs a plan from beginning to end, on this thread and in virtual time.
#[must_use]
pub fn run(plan: &Plan) -> Ran {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime with a timer only").block_on(play(plan))
}

async fn play(plan: &Plan) -> Ran {
    let began = tokio::time::Instant::now();
    let stage = Stage::new(plan.seed, &plan.vendor);
    let foreign = stage.foreign();
    for left in &plan.leases {
        prepare(&stage, *left).await;
    }
    if plan.leases.contains(&Left::Expired) {
        tokio::time::sleep(IDLE).await;
    }
    let before = calls(&stage);
    plan.faults.iter().for_each(|fault| stage.shared().vast(|vast| vast.add_fault(fault.clone())));
    if let Some((nth, quirk)) = plan.quirk {
        stage.quirk(nth, quirk);
    }
    let mut acts = tokio::task::JoinSet::new();
    for (at, act) in plan.acts.clone() {
        let shared = Arc::clone(stage.shared());
        acts.spawn(async move {
            tokio::time::sleep(at).await;
            act.play(&shared).await;
        });
    }
    let mut working = Vec::new();
    for actor in plan.actors.clone() {
        let stage = stage.clone();
        working.push(tokio::spawn(async move {
            let process = stage.process(&actor.treatment);
            let life = Arc::clone(&process.life);
            let work = async {
                tokio::time::sleep(actor.after).await;
                operate(&stage, &process, actor.operation, actor.gives_up).await
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
    let calls = calls(&stage).split_off(before.len());
    let kept = recover(&stage).await;
    stage.look_everywhere();
    let reached = stage.reached();
    let history = stage.history();
    let mut verdict = judge(&history, &foreign, CAP);
    verdict.unsettled += outcomes.iter().flatten().filter(|outcome| *outcome == "hung").count() as u64;
    Ran { history, verdict, counts, outcomes, calls, reached, kept, lasted: began.elapsed() }
}

fn calls(stage: &Stage) -> Vec<(&'static str, String)> {
    stage.shared().calls()
}

/// Makes a lease as it is to be there at the beginning.
async fn prepare(stage: &Stage, left: Left) {
    let kill = match left {
        Left::Dead(step) => Some(Kill { step, death: Death::Kill }),
        _ => None,
    };
    let process = stage.process(&Treatment { kill, ..Treatment::default() });
    if left == Left::Unanswered {
        stage.shared().kill_at_next_create();
    }
    let before = stage.claims();
    let acquire = AcquireRequest { keep: left != Left::Orphan, ..AcquireRequest::default() };
    let call = process.call(CancellationToken::new());
    let _ = process.life.live(process.engine.acquire(&acquire, &call)).await;
    if !matches!(left, Left::Expired | Left::Stale) {
        return;
    }
    let new = stage.claims().into_iter().find(|lease| !before.contains(lease));
    // With a vendor whose machines have no door there is none.
    let Some(lease) = new.and_then(|lease| LeaseId::parse(&lease)) else { return };
    let foreigner = stage.foreign().first().copied();
    if left == Left::Stale {
        stage.shared().evict();
    }
    let change = move |claim: &mut Claim| {
        match (left, foreigner) {
            (Left::Stale, Some(foreigner)) => claim.set_instance(InstanceId(foreigner)),
            _ => drop(claim.labels.insert("keep".into(), "false".into())),
        }
        Ok(())
    };
    let _ = process.engine.store().update_claim(&lease, change).await;
}

/// Fresh processes in a world that is well again, until nothing is left to do. Returns how many leases the clean-up
/// left because they are to be kept.
async fn recover(stage: &Stage) -> usize {
    stage.mend();
    let mut stuck = 0;
    // What died is finished at once, what expires is swept later; neither needs to be told which lease it is about.
    for wait in [Duration::ZERO, AFTERWARDS] {
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
    }
    let (left, kept) = (stage.claims(), stage.kept());
    stuck += left.iter().filter(|lease| !kept.contains(lease)).count();
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
    tokio::time::sleep(AFTERWARDS).await;
    stage.shared().note(Happening::Settled { left: stuck + stage.claims().len().abs_diff(stale) });
    kept.len() - stale
}

/// One clean-up by a fresh process; whether it did all that it is there for. What belongs to others is refused, and
/// that is right.
async fn clean_up(stage: &Stage) -> bool {
    let process = stage.process(&Treatment::default());
    let call = process.call(CancellationToken::new());
    let cleaned = process.engine.cleanup(&CleanupRequest::default(), &call).await;
    let done = match &cleaned {
        Ok(cleaned) => cleaned.summary.failed == 0,
        Err(_) => false,
    };
    ended(stage, &process, cleaned.map(|cleaned| note_items(stage, &cleaned)));
    done
}

/// Notes what a cleanup did.
fn note_items(stage: &Stage, cleaned: &Cleaned) -> String {
    for item in &cleaned.items {
        let branch = match (item.action, item.outcome) {
            (ItemKind::Recover, ItemOutcome::Destroyed) => "a cleanup destroyed what a dead process had left",
            (ItemKind::Recover, ItemOutcome::NeverCreated) => {
                "a cleanup proved that a dead process had rented nothing"
            }
            (ItemKind::Recover, ItemOutcome::AlreadyGone) => {
                "a cleanup proved that what a dead process destroyed is gone"
            }
            (ItemKind::Delete, ItemOutcome::Destroyed) => "a cleanup destroyed an expired lease",
            (ItemKind::Delete, ItemOutcome::Refused) => "a cleanup refused what is not ours",
            (ItemKind::Forget, ItemOutcome::Forgotten | ItemOutcome::AlreadyGone) => {
                "a cleanup forgot a lease whose machine is gone"
            }
            (ItemKind::ForgetKeys, ItemOutcome::Forgotten) => "a cleanup removed a key without a lease",
            (_, ItemOutcome::Failed) => "a cleanup failed at a lease and went on",
            _ => continue,
        };
        stage.shared().reach(branch);
    }
    cleaned.line()
}

/// One operation of one process; returns how it ended.
async fn operate(
    stage: &Stage,
    process: &Process,
    operation: Operation,
    gives_up: Option<Duration>,
) -> String {
    let cancel = CancellationToken::new();
    let work = perform(stage, process, operation, cancel.clone());
    let Some(patience) = gives_up else { return work.await };
    let nag = async {
        tokio::time::sleep(patience).await;
        cancel.cancel();
    };
    tokio::join!(work, nag).0
}

async fn perform(
    stage: &Stage,
    process: &Process,
    operation: Operation,
    cancel: CancellationToken,
) -> String {
    let number = process.life.process;
    let call = process.call(cancel.clone());
    stage.shared().note(Happening::Began { process: number, what: format!("{operation:?}") });
    let engine = &process.engine;
    let result: Result<(), Error> = match operation {
        Operation::Acquire => {
            let request = AcquireRequest { keep: true, ..AcquireRequest::default() };
            engine.acquire(&request, &call).await.map(|_| ())
        }
        Operation::Again => {
            let lease_id = Some(CHOSEN.to_owned());
            let request = AcquireRequest { keep: true, lease_id, ..AcquireRequest::default() };
            engine.acquire(&request, &call).await.map(|_| ())
        }
        Operation::Cleanup => {
            let cleaned = engine.cleanup(&CleanupRequest::default(), &call).await;
            cleaned.map(|cleaned| {
                note_items(stage, &cleaned);
            })
        }
        Operation::Start => match first_claim(stage).await {
            Some(identifier) => engine.start(&StartRequest { identifier }, &call).await.map(|_| ()),
            None => Ok(()),
        },
        Operation::Adopt => match first_claim(stage).await {
            Some(identifier) => {
                engine.adopt(&AdoptRequest { identifier, keep: true }, &call).await.map(|_| ())
            }
            None => Ok(()),
        },
        Operation::Run => command(process, None, &call).await,
        Operation::RunOn => match first_claim(stage).await {
            Some(lease) => command(process, Some(lease), &call).await,
            None => Ok(()),
        },
        Operation::Stop | Operation::Pause => match first_claim(stage).await {
            Some(identifier) => {
                let action = (operation == Operation::Pause).then_some(ReleaseAction::Stop);
                let request = ReleaseRequest { identifier, action };
                return release(stage, process, &request, Some(cancel)).await;
            }
            None => Ok(()),
        },
        Operation::Touch => match first_claim(stage).await {
            Some(lease) => engine.touch(&lease, None).await.map(|_| ()),
            None => Ok(()),
        },
        Operation::Look => match first_claim(stage).await {
            Some(lease) => {
                let listed = engine.list(false, &call).await.map(|_| ());
                let shown = engine.status(&lease, &call).await.map(|_| ());
                listed.and(shown)
            }
            None => Ok(()),
        },
    };
    ended(stage, process, result.map(|()| "ok".to_owned()))
}

/// The first lease with a claim, once there is one.
async fn first_claim(stage: &Stage) -> Option<String> {
    for _ in 0..100 {
        if let Some(lease) = stage.claims().into_iter().next() {
            return Some(lease);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

async fn command(
    process: &Process,
    identifier: Option<String>,
    call: &crabbox_vast_engine::Call,
) -> Result<(), Error> {
    let request = RunRequest {
        identifier,
        acquire: AcquireRequest::default(),
        reclaim: false,
        keep_on_failure: false,
        stop_after: None,
        script: Script::Argv(vec!["nvidia-smi".into()]),
        env: BTreeMap::new(),
    };
    let (output, mut receive) = mpsc::channel(16);
    let drain = async { while receive.recv().await.is_some() {} };
    tokio::join!(process.engine.run(&request, ExecIo { stdin: None, output }, call), drain).0.map(|_| ())
}

async fn release(
    stage: &Stage,
    process: &Process,
    request: &ReleaseRequest,
    cancel: Option<CancellationToken>,
) -> String {
    let call = process.call(cancel.unwrap_or_default());
    let result = process.engine.release(request, &call).await;
    if let Ok(released) = &result {
        match released.outcome {
            ReleaseOutcome::AlreadyGone => {
                stage.shared().reach("a machine that others destroyed was proved gone")
            }
            ReleaseOutcome::NeverCreated => {
                stage.shared().reach("a claim without a machine was proved empty")
            }
            ReleaseOutcome::Stopped => stage.shared().reach("a machine was stopped and kept"),
            _ => {}
        }
    }
    ended(stage, process, result.map(|released| format!("{:?}", released.outcome)))
}

fn ended(stage: &Stage, process: &Process, result: Result<String, Error>) -> String {
    if process.life.is_dead() {
        // It died over a disk operation; that its code ran on to the next await is of this simulation only.
        return String::new();
    }
    let number = process.life.process;
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => {
            process.look_at_error(&error);
            if let Some(branch) = branch(error.code()) {
                stage.shared().reach(branch);
            }
            error.code().as_str().to_owned()
        }
    };
    stage.shared().note(Happening::Ended { process: number, outcome: outcome.clone() });
    outcome
}

/// Ways to fail that have to be met.
fn branch(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::PriceCapExceeded => "a machine above the price cap was refused",
        Code::CreateAmbiguous => "a create stayed unclear and its claim was kept",
        Code::ReleaseUnproved => "a destroy could not be proved and its claim was kept",
        Code::ClaimMissing => "a lease was taken away while it started",
        Code::StateUnavailable => "the disk refused and the operation said so",
        Code::AuthFailed => "a bad key was reported",
        Code::Cancelled => "a user gave up",
        Code::StartFailedImage => "an image that cannot start was reported",
        Code::BootTimeout => "a machine that never started was given up",
        Code::InstanceGone => "a machine that vanished was reported",
        _ => return None,
    })
}

//! One run as data: who does what, what goes wrong, and the run itself.

use crate::checker::{Verdict, judge};
use crate::history::{Happening, History};
use crate::stage::{CAP, Counts, Process, Stage, Treatment};
use crate::vendor::{Act, Quirk, Vendor};
use crabbox_vast_engine::lease::ReleaseAction;
use crabbox_vast_engine::ops::{AcquireRequest, ReleaseOutcome, ReleaseRequest, RunRequest};
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
    /// How many kept leases there are before anything goes wrong.
    pub leases: usize,
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
        let leases = usize::from(!matches!(operation, Operation::Acquire | Operation::Run));
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
    for _ in 0..plan.leases {
        let process = stage.process(&Treatment::default());
        operate(&stage, &process, Operation::Acquire, None).await;
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
    recover(&stage).await;
    stage.look_everywhere();
    let reached = stage.reached();
    let history = stage.history();
    let mut verdict = judge(&history, &foreign, CAP);
    verdict.unsettled += outcomes.iter().flatten().filter(|outcome| *outcome == "hung").count() as u64;
    Ran { history, verdict, counts, outcomes, calls, reached, lasted: began.elapsed() }
}

fn calls(stage: &Stage) -> Vec<(&'static str, String)> {
    stage.shared().calls()
}

/// Fresh processes in a world that is well again, until nothing is left to do.
async fn recover(stage: &Stage) {
    stage.mend();
    for _ in 0..2 {
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
            if !stage.claims().is_empty() {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        }
        tokio::time::sleep(AFTERWARDS).await;
    }
    stage.shared().note(Happening::Settled { left: stage.claims().len() });
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
            engine.acquire(&AcquireRequest { keep: true, slug: None }, &call).await.map(|_| ())
        }
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
    if !process.life.is_dead() {
        stage.shared().note(Happening::Ended { process: number, outcome: outcome.clone() });
    }
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

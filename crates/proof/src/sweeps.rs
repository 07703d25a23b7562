//! Sweeps: one thing wrong at every place where it can go wrong. Each case has a name by which it can be run again.

use crate::acts::{self, Incident, KINDS, When};
use crate::aims::Target;
use crate::catalogue::{faults_at, is_passing};
use crate::dice::Dice;
use crate::files::DiskFault;
use crate::history::Death;
use crate::life::Kill;
use crate::plan::{Left, Operation, Plan, Ran};
use crate::play::run;
use crate::scenes::{SEED, Scene, bounds, scene};
use crate::ssh::SshFault;
use crate::stage::Treatment;
use crate::vendor::Quirk;
use crabbox_vast_sim::api::Fault;
use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What is swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// Each kind of fault at each call.
    Fault,
    /// SIGKILL at each step.
    Kill,
    /// A power cut at each step.
    Cut,
    /// Each disk operation failing once.
    Disk,
    /// The disk full from each operation on.
    Full,
    /// The SSH connection dropping at each step.
    Drop,
    /// SSH hanging at each step.
    Hang,
    /// Each quirk of a create.
    Quirk,
    /// Each act of the vendor and each step of the clock at each call.
    Act,
    /// What an acquire left that died at each step, found by this operation.
    Dead,
    /// A fault of a call, and after it a kill or a power cut, both drawn. Where nothing is called the disk fails.
    Pair,
}

impl Sweep {
    /// What has to happen in each of its cases.
    #[must_use]
    pub fn targets(self) -> &'static [Target] {
        match self {
            Sweep::Fault => &[Target::Call],
            Sweep::Kill | Sweep::Cut => &[Target::Death],
            Sweep::Disk | Sweep::Full => &[Target::Disk],
            Sweep::Drop | Sweep::Hang => &[Target::Ssh],
            Sweep::Quirk => &[Target::Quirk],
            Sweep::Act => &[Target::Act],
            Sweep::Dead => &[],
            Sweep::Pair => &[Target::Call, Target::Disk, Target::Death],
        }
    }
}

/// Names of sweeps, for cases on the command line.
const SWEEPS: [(&str, Sweep); 11] = [
    ("fault", Sweep::Fault),
    ("kill", Sweep::Kill),
    ("cut", Sweep::Cut),
    ("disk", Sweep::Disk),
    ("full", Sweep::Full),
    ("drop", Sweep::Drop),
    ("hang", Sweep::Hang),
    ("quirk", Sweep::Quirk),
    ("act", Sweep::Act),
    ("dead", Sweep::Dead),
    ("pair", Sweep::Pair),
];

/// One case of a sweep: `run/kill/17`.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The scene.
    pub scene: &'static Scene,
    /// The sweep.
    pub sweep: Sweep,
    /// Its number in the sweep, from 0.
    pub number: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sweep = SWEEPS.iter().find(|(_, sweep)| *sweep == self.sweep).map_or("", |(name, _)| name);
        write!(out, "{}/{sweep}/{}", self.scene.name, self.number)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let [name, sweep, number] = parts[..] else {
            return Err(format!("`{text}` is not a case such as run/kill/17"));
        };
        let sweep = SWEEPS.iter().find(|(name, _)| *name == sweep).map(|(_, it)| *it);
        Ok(Self {
            scene: scene(name)?,
            sweep: sweep.ok_or_else(|| format!("`{text}` names no sweep"))?,
            number: number.parse().map_err(|_| format!("`{text}` ends with no number"))?,
        })
    }
}

/// A scene that was played once, so that its places are known.
#[derive(Debug)]
pub struct Rehearsal {
    scene: &'static Scene,
    clean: Ran,
    /// How many calls stand before the first one that is struck.
    first: usize,
    /// Every fault at every call from there on, with the name of its kind.
    faults: Vec<(&'static str, Fault)>,
    /// The order in which pairs are made of them.
    order: Vec<usize>,
    /// The latest fault that pairs were made of, by its number.
    latest: RefCell<Option<(usize, Struck)>>,
}

/// A run in which a fault struck, as pairs add a death to it.
#[derive(Clone, Debug)]
struct Struck {
    plan: Plan,
    /// The steps taken when it struck.
    at: usize,
    /// All steps.
    steps: usize,
}

impl Struck {
    /// The steps in which it can die.
    fn left(&self) -> usize {
        self.steps.saturating_sub(self.at).max(1)
    }
}

/// Deaths that are tried after one fault, each in a pair of its own.
const DEATHS: usize = 10;
/// Half of these come so soon after the fault, in steps.
const SOON: usize = 12;
/// A machine that takes longer to boot is looked at so often that only the last calls are struck.
const LONG: Duration = Duration::from_secs(60);
/// So many.
const LAST: usize = 30;
/// So many faults may miss before one strikes.
const MISSES: usize = 10_000;
/// From here on the numbers of further faults, where one leaves too few steps to die in.
const OTHERS: usize = 1 << 30;

impl Rehearsal {
    /// Plays the scene once with nothing else wrong.
    #[must_use]
    pub fn of(scene: &'static Scene) -> Self {
        let plan = (scene.plan)();
        let clean = run(&plan);
        let first = if plan.vendor.boot > LONG { clean.calls.len().saturating_sub(LAST) } else { 0 };
        let mut faults: Vec<(&str, Fault)> = Vec::new();
        for (at, (method, path)) in clean.calls.iter().enumerate().skip(first) {
            let mut these = faults_at(1, method, path);
            let like = |(method, path): &&(&str, String)| these[0].1.concerns(method, path);
            let nth = clean.calls[..=at].iter().filter(like).count() as u64;
            these.iter_mut().for_each(|(_, fault)| fault.nth = nth);
            faults.extend(these);
        }
        let mut dice = Dice::new(SEED, 6);
        let mut order: Vec<usize> = (0..faults.len()).collect();
        order.sort_by_cached_key(|_| dice.below(usize::MAX));
        Self { scene, clean, first, faults, order, latest: RefCell::default() }
    }

    /// What was played.
    #[must_use]
    pub fn scene(&self) -> &'static Scene {
        self.scene
    }

    /// What came of it.
    #[must_use]
    pub fn clean(&self) -> &Ran {
        &self.clean
    }

    /// How many cases a sweep has. Pairs have as many as one wants.
    #[must_use]
    pub fn cases(&self, sweep: Sweep) -> usize {
        let counts = self.clean.counts[0];
        match sweep {
            Sweep::Fault => self.faults.len(),
            Sweep::Kill | Sweep::Cut => counts.steps,
            Sweep::Disk => counts.disk,
            // Towards the end nothing needs space.
            Sweep::Full => {
                (0..counts.disk).rev().find(|number| self.needs_space(*number)).map_or(0, |last| last + 1)
            }
            Sweep::Drop | Sweep::Hang => counts.ssh,
            Sweep::Quirk if self.clean.calls.iter().any(|(_, path)| path.starts_with("/api/v0/asks/")) => {
                Quirk::ALL.len()
            }
            Sweep::Quirk => 0,
            Sweep::Act => (self.clean.calls.len() - self.first) * KINDS.len(),
            Sweep::Dead => bounds(Operation::Acquire).steps,
            Sweep::Pair => usize::MAX,
        }
    }

    /// Whether a disk that is full from this operation on is noticed.
    fn needs_space(&self, number: usize) -> bool {
        let full = Treatment { disk: Some(DiskFault::Full(number + 1)), ..Treatment::default() };
        run(&(self.scene.plan)().treated(full)).aims.of(Target::Disk).met > 0
    }

    /// Whether the operation should come to its end all the same in this case: what goes wrong passes.
    #[must_use]
    pub fn is_passing(&self, sweep: Sweep, number: usize) -> bool {
        match sweep {
            Sweep::Fault => self.faults.get(number).is_some_and(|(kind, fault)| is_passing(kind, fault)),
            Sweep::Act => acts::PASSING.contains(&KINDS[number % KINDS.len()].name),
            _ => false,
        }
    }

    /// The plan of a case.
    ///
    /// # Errors
    /// That the sweep has no case of this number.
    pub fn plan(&self, sweep: Sweep, number: usize) -> Result<Plan, String> {
        let plan = (self.scene.plan)();
        let at = number + 1;
        let with = |treatment| plan.clone().treated(treatment);
        let kill = |step, death| Treatment { kill: Some(Kill { step, death }), ..Treatment::default() };
        let disk = |fault| Treatment { disk: Some(fault), ..Treatment::default() };
        let ssh = |fault| Treatment { ssh: Some(fault), ..Treatment::default() };
        // How many cases of a full disk there are is costly to know; one too many misses and says so.
        let cases = if sweep == Sweep::Full { self.cases(Sweep::Disk) } else { self.cases(sweep) };
        if number >= cases {
            return Err(format!(
                "there is no case {number} here, the last one is {}",
                cases.saturating_sub(1)
            ));
        }
        Ok(match sweep {
            Sweep::Kill => with(kill(at, Death::Kill)),
            Sweep::Cut => with(kill(at, Death::PowerCut)),
            Sweep::Disk => with(disk(DiskFault::Fails(at))),
            Sweep::Full => with(disk(DiskFault::Full(at))),
            Sweep::Drop => with(ssh(SshFault::Drops(at))),
            Sweep::Hang => with(ssh(SshFault::Hangs(at))),
            Sweep::Quirk => Plan { quirk: Some((1, Quirk::ALL[number])), ..plan },
            Sweep::Fault => {
                let mut plan = plan;
                plan.faults.push(self.faults[number].1.clone());
                plan
            }
            Sweep::Act => {
                let kind = KINDS[number % KINDS.len()];
                let act = (kind.draw)(&mut Dice::new(number as u64, 4));
                let when = When::Call(1 + self.first + number / KINDS.len());
                let mut plan = plan;
                plan.acts.push(Incident { when, name: kind.name, act });
                plan
            }
            Sweep::Dead => Plan { leases: vec![Left::Dead(at)], ..plan },
            Sweep::Pair => self.pair(number),
        })
    }

    /// A death after a fault has struck. The run with the fault alone is played first, so that the death is in it.
    fn pair(&self, number: usize) -> Plan {
        let group = number / DEATHS;
        let latest = self.latest.borrow().clone().filter(|(of, _)| *of == group).map(|(_, struck)| struck);
        let struck = latest.unwrap_or_else(|| {
            let struck = self.strike(group);
            *self.latest.borrow_mut() = Some((group, struck.clone()));
            struck
        });
        let own = deaths(group, struck.left()).get(number % DEATHS).copied();
        let (struck, (after, death)) = match own {
            Some(own) => (struck, own),
            None => {
                // So few steps are left that every death of this fault was tried: another fault.
                let other = OTHERS + number;
                let struck = self.strike(other);
                let death = deaths(other, struck.left())[0];
                (struck, death)
            }
        };
        let disk = struck.plan.actors[0].treatment.disk;
        let kill = Some(Kill { step: struck.at + after, death });
        struck.plan.treated(Treatment { kill, disk, ..Treatment::default() })
    }

    /// A fault that strikes, in a world of its own.
    fn strike(&self, group: usize) -> Struck {
        let mut dice = Dice::new(group as u64, 5);
        let seed = SEED + 1 + group as u64;
        let struck = (0..MISSES).find_map(|missed| {
            let mut plan = Plan { seed, ..(self.scene.plan)() };
            if self.faults.is_empty() {
                let at = 1 + dice.below(self.clean.counts[0].disk);
                plan.actors[0].treatment.disk = Some(DiskFault::Fails(at));
            } else {
                // One after the other in their order, from where the number says.
                plan.faults.push(self.faults[self.order[(group + missed) % self.order.len()]].1.clone());
            }
            let counts = run(&plan).counts[0];
            // Something has to be left in which it can die.
            let at = counts.struck.filter(|at| *at < counts.steps)?;
            Some(Struck { plan, at, steps: counts.steps })
        });
        struck.expect("some fault strikes")
    }
}

/// Different deaths within so many steps, each a step and how: every other one soon.
fn deaths(seed: usize, left: usize) -> Vec<(usize, Death)> {
    let mut dice = Dice::new(seed as u64, 2);
    let mut drawn = Vec::new();
    while drawn.len() < DEATHS.min(2 * left) {
        let within = if drawn.len() % 2 == 0 { left.min(SOON) } else { left };
        let death = if dice.chance(50) { Death::Kill } else { Death::PowerCut };
        let one = (1 + dice.below(within), death);
        if !drawn.contains(&one) {
            drawn.push(one);
        }
    }
    drawn
}

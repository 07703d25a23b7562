//! The life of one simulated process: it counts its steps, and at one of them it may die.

use crate::dice::Dice;
use crate::history::Death;
use crate::shared::Shared;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// At which step a process dies, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// Counted from 1.
    pub step: usize,
    /// How.
    pub death: Death,
}

/// Whose a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// The engine on our machine.
    #[default]
    Ours,
    /// The engine on another machine of the same user: same account, other state directory.
    Elsewhere,
    /// crabbox on our machine.
    Crabbox,
}

/// A process as the world sees it. Once it is dead nothing it does has any effect.
#[derive(Debug)]
pub struct Life {
    /// Number of the process on its stage.
    pub process: usize,
    /// Whose it is.
    pub side: Side,
    kill: Option<Kill>,
    steps: AtomicUsize,
    /// The steps it had taken when something first went wrong.
    struck: OnceLock<usize>,
    dead: AtomicBool,
    ended: CancellationToken,
    dice: Mutex<Dice>,
    shared: Weak<Shared>,
}

impl Life {
    pub(crate) fn new(
        process: usize,
        side: Side,
        kill: Option<Kill>,
        seed: u64,
        shared: &Arc<Shared>,
    ) -> Self {
        Self {
            process,
            side,
            kill,
            steps: AtomicUsize::new(0),
            struck: OnceLock::new(),
            dead: AtomicBool::new(false),
            ended: CancellationToken::new(),
            dice: Mutex::new(Dice::new(seed, 1000 + process as u64)),
            shared: Arc::downgrade(shared),
        }
    }

    /// Steps taken so far.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps.load(Ordering::SeqCst)
    }

    /// Something goes wrong with what it has just done.
    pub(crate) fn strike(&self) {
        let _ = self.struck.set(self.steps());
    }

    /// How many steps it had taken when something first went wrong with a call of it or with the disk.
    #[must_use]
    pub fn struck(&self) -> Option<usize> {
        self.struck.get().copied()
    }

    /// Whether it has died.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Draws from this process's stream.
    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Dice) -> T) -> T {
        draw(&mut self.dice.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One step of synchronous work: `false` when the process is dead by now and the effect must not happen.
    pub(crate) fn strikes(&self) -> bool {
        if self.is_dead() {
            return false;
        }
        let step = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(kill) = self.kill.filter(|kill| kill.step == step) {
            if let Some(shared) = self.shared.upgrade() {
                shared.die(self, step, kill.death);
            }
            return false;
        }
        true
    }

    /// One step of asynchronous work: counts, may die, and lets some time pass. What comes after it does not happen
    /// to a dead process.
    pub(crate) async fn step(&self) {
        if !self.strikes() {
            pending::<()>().await;
        }
        self.pause().await;
    }

    /// Up to 3 ms: this is where the order of concurrent work comes from.
    pub(crate) async fn pause(&self) {
        let wait = self.draw(|dice| dice.below(4));
        tokio::time::sleep(Duration::from_millis(wait as u64)).await;
        if self.is_dead() {
            pending::<()>().await;
        }
    }

    pub(crate) fn end(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.ended.cancel();
    }

    /// Runs `work` to its end, or until the process dies: then its future is dropped, which the world does not notice.
    pub async fn live<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.ended.cancelled() => None,
            done = work => Some(done),
        }
    }
}

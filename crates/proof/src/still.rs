//! A stage that stands still, so that many runs can go on from where it stands.

use crate::life::Life;
use crate::shared::{Shared, lock};
use crate::ssh::Ports;
use crate::stage::Stage;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A stage at one moment. None of its processes works any more.
pub(crate) struct Still {
    shared: Arc<Shared>,
    at: Duration,
}

impl Still {
    /// The stage as it stands now, on the clock that it was made by.
    pub(crate) fn of(stage: &Stage) -> Self {
        Self { shared: Arc::clone(stage.shared()), at: stage.shared().now() }
    }

    /// A stage of its own that goes on from there. Must be called inside a paused tokio runtime.
    pub(crate) fn again(&self) -> Stage {
        let still = &*self.shared;
        fn copy<T: Clone>(of: &Mutex<T>) -> Mutex<T> {
            Mutex::new(lock(of).clone())
        }
        let ports = Ports {
            doors: Arc::new(copy(&still.doors)),
            secrets: Arc::new(copy(&still.secrets)),
            lifetimes: Arc::new(copy(&still.lifetimes)),
        };
        let shared = Arc::new(Shared {
            seed: still.seed,
            began: Instant::now() - self.at,
            doors: Arc::clone(&ports.doors),
            secrets: Arc::clone(&ports.secrets),
            lifetimes: Arc::clone(&ports.lifetimes),
            vast: Mutex::new(lock(&still.vast).twin(Box::new(ports))),
            disk: copy(&still.disk),
            history: copy(&still.history),
            books: copy(&still.books),
            lives: Mutex::default(),
            claims: still.claims.clone(),
            journals: still.journals.clone(),
            keys: still.keys.clone(),
            quirk: copy(&still.quirk),
            called: watch::Sender::new(*still.called.borrow()),
        });
        // What the opening reached, it reached on purpose.
        lock(&shared.books).reached.clear();
        // What they are asked for from here on is whose they were.
        let again =
            |life: &Arc<Life>| Arc::new(Life::new(life.process, life.side, None, still.seed, &shared));
        let lives: Vec<Arc<Life>> = lock(&still.lives).iter().map(again).collect();
        *lock(&shared.lives) = lives;
        Stage::on(shared)
    }
}

//! The world on the wall clock, as HTTP connections and SSH servers share it.

use crate::api::{Door, Reply, Request, SshAccess, World};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// One world, its clock, and the end of it all.
pub(crate) struct Shared {
    world: Mutex<World>,
    started: Instant,
    time_scale: f64,
    /// Rings whenever the next thing to happen may have changed.
    changed: Notify,
    /// Ends every task of this simulator.
    pub end: CancellationToken,
    /// Somebody asked for the end through the control plane.
    pub end_asked: CancellationToken,
}

impl Shared {
    pub fn new(world: World, time_scale: f64) -> Self {
        Self {
            world: Mutex::new(world),
            started: Instant::now(),
            time_scale,
            changed: Notify::new(),
            end: CancellationToken::new(),
            end_asked: CancellationToken::new(),
        }
    }

    /// Simulated time since the start, without the world's own jumps.
    pub fn now(&self) -> Duration {
        self.started.elapsed().mul_f64(self.time_scale)
    }

    /// The world, also after a panic under the lock: a simulator that lives on is of more use than none.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn handle(&self, request: &Request) -> Reply {
        let mut world = self.world();
        let reply = world.handle(self.now(), request);
        if world.shutdown_asked() {
            self.end_asked.cancel();
        }
        drop(world);
        self.changed.notify_one();
        reply
    }

    /// Says that what happens next may have changed.
    pub fn changed(&self) {
        self.changed.notify_one();
    }

    pub fn ssh_access(&self, id: u64, door: Door) -> SshAccess {
        self.world().ssh_access(self.now(), id, door)
    }

    fn play(&self) -> Option<Duration> {
        let mut world = self.world();
        let now = self.now();
        world.advance_to(now);
        world.next_event_at().map(|at| at.saturating_sub(now).div_f64(self.time_scale))
    }

    /// Lets time pass while nobody calls: containers start and stop when they are due.
    pub async fn keep_time(&self) {
        loop {
            let wait = self.play();
            let sleep = async {
                match wait {
                    // Never a busy loop, however the rounding falls.
                    Some(wait) => tokio::time::sleep(wait.max(Duration::from_millis(1))).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.end.cancelled() => return,
                () = self.changed.notified() => {}
                () = sleep => {}
            }
        }
    }
}

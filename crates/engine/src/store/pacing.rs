//! Pacing slots, shared by all processes that use one API key: when the next request of a class may be sent.
//!
//! One small file per scope. It is locked only to reserve a slot; the wait happens outside. Nothing of value is in
//! it: an unreadable file counts as empty.

use super::Store;
use super::file::{At, make_folder, replace};
use crate::lease::legal_file_stem;
use crate::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Once the clock was set back: a slot further ahead than this beyond its interval was stored under the old one.
const FARTHEST_MS: u64 = 60_000;
/// The longest wait that is honoured in any case: no server's wish and no broken file must stop us for a day.
const LONGEST_MS: u64 = 3_600_000;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Schedule {
    classes: BTreeMap<String, Class>,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
struct Class {
    /// Reserved slots, ascending, Unix milliseconds.
    slots: Vec<u64>,
    /// When the newest slot was reserved, Unix milliseconds: tells a long queue from a clock that was set back.
    reserved_at: u64,
    /// When the hold was asked for, Unix milliseconds: shows whether the clock was set back since.
    held_at: u64,
    /// How long it holds from then, milliseconds.
    held_for: u64,
}

impl Class {
    /// Reserves the next slot and returns its time.
    fn reserve(&mut self, now: u64, interval: u64, burst: Option<(usize, u64)>) -> u64 {
        let ahead = if self.reserved_at > now { FARTHEST_MS } else { LONGEST_MS };
        self.slots.retain(|slot| *slot <= now + ahead + interval);
        self.reserved_at = now;
        let mut slot = now;
        if let Some(last) = self.slots.last() {
            slot = slot.max(last + interval);
        }
        if let Some((count, window)) = burst
            && let Some(first) = self.slots.len().checked_sub(count).and_then(|at| self.slots.get(at))
        {
            slot = slot.max(first + window);
        }
        if self.held_at <= now + FARTHEST_MS {
            slot = slot.max(self.held_at + self.held_for.min(LONGEST_MS));
        }
        self.slots.push(slot);
        let kept = burst.map_or(1, |(count, _)| count.max(1));
        self.slots.drain(..self.slots.len().saturating_sub(kept));
        slot
    }
}

impl Store {
    /// Reserves the next slot of a class and returns how long to wait before sending.
    ///
    /// Slots are at least `interval` apart; with `burst` of (count, window) no window holds more than `count`.
    /// `scope` names the file (hex digits of API origin and key fingerprint).
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] when the scope is no file name; [`Code::LeaseBusy`] or [`Code::StateUnavailable`].
    pub async fn reserve_slot(
        &self,
        scope: &str,
        class: &str,
        interval: Duration,
        burst: Option<(u32, Duration)>,
    ) -> Result<Duration> {
        let interval = millis(interval);
        let burst = burst.map(|(count, window)| (count.max(1) as usize, millis(window)));
        self.schedule(scope, class, move |class, now| {
            Duration::from_millis(class.reserve(now, interval, burst).saturating_sub(now))
        })
        .await
    }

    /// Counts the newest slot of a class from `ago` before now, should it stand earlier: a call that was long on its way
    /// arrived later than its slot says. Slots that others have reserved since stay where they are.
    ///
    /// # Errors
    /// As [`Store::reserve_slot`].
    pub async fn move_slot(&self, scope: &str, class: &str, ago: Duration) -> Result<()> {
        let ago = millis(ago);
        self.schedule(scope, class, move |class, now| {
            if let Some(last) = class.slots.last_mut() {
                *last = (*last).max(now.saturating_sub(ago));
            }
        })
        .await
    }

    /// How long [`Store::reserve_slot`] would tell to wait, without reserving. Others may reserve in between.
    ///
    /// # Errors
    /// As [`Store::reserve_slot`].
    pub async fn slot_wait(&self, scope: &str, class: &str, interval: Duration) -> Result<Duration> {
        let path = self.pacing_path(scope)?;
        let (class, interval) = (class.to_owned(), millis(interval));
        self.transact(move |files, inner| {
            let bytes = files.read(&path).at("read", &path)?.unwrap_or_default();
            let mut schedule: Schedule = serde_json::from_slice(&bytes).unwrap_or_default();
            let now = unix_millis(inner.ambient.now());
            let slot = schedule.classes.entry(class).or_default().reserve(now, interval, None);
            Ok(Duration::from_millis(slot.saturating_sub(now)))
        })
        .await
    }

    /// Holds a class back: nobody sends it for `not_before` from now (at most an hour). An earlier, longer hold stays.
    ///
    /// # Errors
    /// As [`Store::reserve_slot`].
    pub async fn widen_slot(&self, scope: &str, class: &str, not_before: Duration) -> Result<()> {
        let hold = millis(not_before).min(LONGEST_MS);
        self.schedule(scope, class, move |class, now| {
            let set_back = class.held_at > now + FARTHEST_MS;
            if set_back || class.held_at + class.held_for.min(LONGEST_MS) < now + hold {
                (class.held_at, class.held_for) = (now, hold);
            }
        })
        .await
    }

    async fn schedule<T, F>(&self, scope: &str, class: &str, change: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Class, u64) -> T + Send + 'static,
    {
        let path = self.pacing_path(scope)?;
        let class = class.to_owned();
        self.locked([path.with_extension("json.lock")], move |files, inner| {
            let bytes = files.read(&path).at("read", &path)?.unwrap_or_default();
            let mut schedule: Schedule = serde_json::from_slice(&bytes).unwrap_or_default();
            let now = unix_millis(inner.ambient.now());
            let changed = change(schedule.classes.entry(class).or_default(), now);
            let bytes = serde_json::to_vec(&schedule)
                .map_err(|error| Error::new(Code::Internal, format!("pacing slots: {error}")))?;
            make_folder(files, &inner.paths.pacing())?;
            // Not durable on purpose: after a power cut no request is under way.
            replace(files, inner.ambient.as_ref(), &path, &bytes)?;
            Ok(changed)
        })
        .await
    }

    fn pacing_path(&self, scope: &str) -> Result<PathBuf> {
        if !legal_file_stem(scope) {
            return Err(Error::new(Code::InvalidArgument, format!("{scope:?} cannot name a pacing file"))
                .hint("use the hex digits of a fingerprint"));
        }
        Ok(self.paths().pacing().join(format!("{scope}.json")))
    }
}

fn millis(duration: Duration) -> u64 {
    // Rounded up, so that no slot comes early; bounded, so that sums cannot overflow.
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).min(u64::from(u32::MAX))
}

fn unix_millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Bench;

    const STEP: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_look_at_the_next_slot_reserves_nothing() {
        let bench = Bench::new();
        let look = || bench.store.slot_wait("ab", "list", STEP);
        assert_eq!(look().await.unwrap(), Duration::ZERO);
        assert_eq!(bench.store.reserve_slot("ab", "list", STEP, None).await.unwrap(), Duration::ZERO);
        assert!(look().await.unwrap() > Duration::ZERO);
        assert!(look().await.unwrap() <= STEP);
        assert_eq!(bench.store.slot_wait("ab", "show", STEP).await.unwrap(), Duration::ZERO);
    }

    #[tokio::test]
    async fn two_processes_get_consecutive_slots() {
        let bench = Bench::new();
        let other = bench.process();
        let mut waits = Vec::new();
        for store in [&bench.store, &other, &bench.store, &other] {
            waits.push(store.reserve_slot("aa", "read", STEP, None).await.unwrap().as_millis());
        }
        assert_eq!(waits, [0, 100, 200, 300]);
        assert_eq!(
            other.reserve_slot("aa", "create", STEP, None).await.unwrap(),
            Duration::ZERO,
            "another class"
        );
        assert_eq!(
            other.reserve_slot("bb", "read", STEP, None).await.unwrap(),
            Duration::ZERO,
            "another key"
        );
        bench.advance(Duration::from_millis(350));
        assert_eq!(other.reserve_slot("aa", "read", STEP, None).await.unwrap(), Duration::from_millis(50));
        bench.advance(Duration::from_secs(5));
        assert_eq!(other.reserve_slot("aa", "read", STEP, None).await.unwrap(), Duration::ZERO);
        assert_eq!(
            other.reserve_slot("a/b", "read", STEP, None).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }

    #[tokio::test]
    async fn a_call_that_was_long_on_its_way_moves_the_next_one() {
        let bench = Bench::new();
        let reserve = || bench.store.reserve_slot("aa", "list", STEP, None);
        let moved = |ago| bench.store.move_slot("aa", "list", Duration::from_millis(ago));
        assert_eq!(reserve().await.unwrap(), Duration::ZERO);
        bench.advance(Duration::from_millis(70));
        moved(10).await.unwrap();
        assert_eq!(reserve().await.unwrap(), Duration::from_millis(90));
        // Somebody has the slot after it already: it is not brought forward.
        moved(0).await.unwrap();
        assert_eq!(reserve().await.unwrap(), Duration::from_millis(190));
    }

    #[tokio::test]
    async fn a_burst_fills_its_window_and_then_waits_for_it() {
        let bench = Bench::new();
        let burst = Some((3, Duration::from_secs(60)));
        let mut waits = Vec::new();
        for _ in 0..5 {
            waits.push(
                bench.store.reserve_slot("aa", "write", Duration::ZERO, burst).await.unwrap().as_secs(),
            );
            bench.advance(Duration::from_secs(1));
        }
        assert_eq!(waits, [0, 0, 0, 57, 57]);
    }

    #[tokio::test]
    async fn a_clock_that_was_set_back_and_a_broken_file_stop_nobody() {
        let bench = Bench::new();
        bench.advance(Duration::from_secs(86_400));
        bench.store.reserve_slot("aa", "read", STEP, None).await.unwrap();
        bench.store.widen_slot("aa", "read", Duration::from_secs(30)).await.unwrap();
        bench.rewind(Duration::from_secs(7_200));
        assert_eq!(bench.store.reserve_slot("aa", "read", STEP, None).await.unwrap(), Duration::ZERO);
        assert_eq!(bench.store.reserve_slot("aa", "read", STEP, None).await.unwrap(), STEP);
        bench.put(&bench.paths().pacing().join("aa.json"), b"\0\0");
        assert_eq!(bench.store.reserve_slot("aa", "read", STEP, None).await.unwrap(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_long_queue_is_no_clock_set_back() {
        let bench = Bench::new();
        let interval = Duration::from_secs(5);
        for n in 0..30 {
            let wait = bench.store.reserve_slot("aa", "create", interval, None).await.unwrap();
            assert_eq!(wait.as_secs(), n * 5);
        }
        let huge =
            br#"{"classes":{"create":{"slots":[18446744073709551615],"held_for":18446744073709551615}}}"#;
        bench.put(&bench.paths().pacing().join("aa.json"), huge);
        assert_eq!(bench.store.reserve_slot("aa", "create", interval, None).await.unwrap(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_hold_counts_for_everybody() {
        let bench = Bench::new();
        let other = bench.process();
        bench.store.widen_slot("aa", "read", Duration::from_secs(120)).await.unwrap();
        bench.store.widen_slot("aa", "read", Duration::from_secs(5)).await.unwrap();
        assert_eq!(other.reserve_slot("aa", "read", STEP, None).await.unwrap(), Duration::from_secs(120));
        assert_eq!(other.reserve_slot("aa", "list", STEP, None).await.unwrap(), Duration::ZERO);
        bench.advance(Duration::from_secs(121));
        assert_eq!(other.reserve_slot("aa", "read", STEP, None).await.unwrap(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_slot_far_ahead_stays_only_while_the_clock_runs_on() {
        let bench = Bench::new();
        let interval = Duration::from_secs(5);
        let reserve = async || bench.store.reserve_slot("aa", "create", interval, None).await.unwrap();
        for _ in 0..30 {
            reserve().await;
        }
        bench.advance(Duration::from_secs(1));
        assert_eq!(reserve().await.as_secs(), 149, "the queue is as long as it was");
        bench.rewind(Duration::from_secs(1));
        assert_eq!(
            reserve().await,
            Duration::ZERO,
            "further ahead than a minute, on a clock that was set back"
        );
        // A minute and one interval are the most.
        bench.rewind(Duration::from_secs(65));
        assert_eq!(reserve().await.as_secs(), 70);
        bench.rewind(Duration::from_secs(1));
        assert_eq!(reserve().await, Duration::ZERO);
        // Ten minutes ahead under short intervals.
        bench.advance(Duration::from_secs(600));
        bench.store.reserve_slot("bb", "read", STEP, None).await.unwrap();
        bench.rewind(Duration::from_secs(600));
        assert_eq!(bench.store.reserve_slot("bb", "read", STEP, None).await.unwrap(), Duration::ZERO);
    }

    #[tokio::test]
    async fn the_longest_hold_stays_unless_the_clock_was_set_back() {
        let bench = Bench::new();
        let seconds = Duration::from_secs;
        let widen =
            async |class: &str, hold| bench.store.widen_slot("aa", class, seconds(hold)).await.unwrap();
        let wait = async |class: &str| bench.store.slot_wait("aa", class, STEP).await.unwrap().as_secs();
        widen("read", 5).await;
        widen("read", 120).await;
        assert_eq!(wait("read").await, 120);
        // One that ends at the same time changes nothing: the older one outlives a small step back.
        bench.advance(seconds(60));
        widen("read", 60).await;
        bench.rewind(seconds(90));
        assert_eq!(wait("read").await, 150);
        // A minute back is no reason to forget a hold, more than that is.
        bench.rewind(seconds(30));
        widen("read", 5).await;
        assert_eq!(wait("read").await, 180);
        bench.rewind(seconds(1));
        assert_eq!(wait("read").await, 0);
        widen("read", 5).await;
        assert_eq!(wait("read").await, 5);
        widen("list", 7200).await;
        assert_eq!(wait("list").await, 3600, "an hour at most");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_at_once_never_share_a_slot() {
        let bench = Bench::new();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..24 {
            let store = bench.process();
            tasks.spawn(
                async move { store.reserve_slot("aa", "read", STEP, None).await.unwrap().as_millis() },
            );
        }
        let mut waits = tasks.join_all().await;
        waits.sort_unstable();
        assert_eq!(waits, (0..24).map(|n| n * 100).collect::<Vec<_>>());
    }
}

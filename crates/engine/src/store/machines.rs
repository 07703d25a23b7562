//! Machines that failed lately: for a day every process here takes another one.
//!
//! One small file beside the journal. Nothing hangs on it: an unreadable one counts as empty.

use super::Store;
use super::file::{At, make_folder, replace};
use crate::Result;
use crate::lease::MachineId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long a failure is remembered, seconds.
const MEMORY_SECS: i64 = 24 * 60 * 60;

/// What a machine did wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FailedMachine {
    /// The machine.
    pub machine: u64,
    /// The API it was rented through: numbers mean nothing elsewhere.
    pub api: String,
    /// Unix seconds.
    pub failed_at: i64,
    /// One line.
    pub why: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Memory {
    machines: Vec<FailedMachine>,
}

impl Memory {
    fn read(bytes: Option<Vec<u8>>) -> Self {
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn prune(&mut self, now: i64) {
        // A time ahead of the clock was written before the clock was set back: it would stay for ever.
        self.machines.retain(|one| (0..MEMORY_SECS).contains(&(now - one.failed_at)));
    }
}

impl Store {
    /// The machines of this API that failed within a day before `now` (Unix seconds).
    ///
    /// # Errors
    /// [`crate::Code::StateUnavailable`] when the file cannot be read.
    pub async fn failed_machines(&self, api: &str, now: i64) -> Result<BTreeMap<MachineId, FailedMachine>> {
        let (path, api) = (self.paths().machines(), api.to_owned());
        self.transact(move |files, _| {
            let mut memory = Memory::read(files.read(&path).at("read", &path)?);
            memory.prune(now);
            let ours = memory.machines.into_iter().filter(|one| one.api == api);
            Ok(ours.map(|one| (MachineId(one.machine), one)).collect())
        })
        .await
    }

    /// Remembers that a machine failed; older failures than a day are dropped on the way.
    ///
    /// # Errors
    /// [`crate::Code::LeaseBusy`] or [`crate::Code::StateUnavailable`].
    pub async fn remember_machine(&self, failed: FailedMachine) -> Result<()> {
        let path = self.paths().machines();
        self.locked([path.with_extension("json.lock")], move |files, inner| {
            let mut memory = Memory::read(files.read(&path).at("read", &path)?);
            memory.prune(failed.failed_at);
            memory.machines.retain(|one| (one.machine, &one.api) != (failed.machine, &failed.api));
            memory.machines.push(failed);
            let bytes = serde_json::to_vec_pretty(&memory).unwrap_or_default();
            make_folder(files, &inner.paths.state)?;
            // Not durable on purpose: what a power cut takes is learned again.
            replace(files, inner.ambient.as_ref(), &path, &bytes)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Bench;

    const DAY: i64 = 86_400;

    fn failed(machine: u64, api: &str, failed_at: i64) -> FailedMachine {
        FailedMachine { machine, api: api.into(), failed_at, why: "no space left on device".into() }
    }

    #[tokio::test]
    async fn a_failure_is_remembered_for_a_day_by_all_processes() {
        let bench = Bench::new();
        let other = bench.process();
        let seen = async |api: &str, now| {
            let machines = other.failed_machines(api, now).await.unwrap();
            machines.into_keys().map(|id| id.0).collect::<Vec<_>>()
        };
        assert_eq!(seen("a", 0).await, [0; 0]);
        bench.store.remember_machine(failed(7, "a", 1000)).await.unwrap();
        bench.store.remember_machine(failed(8, "b", 1000)).await.unwrap();
        assert_eq!(seen("a", 1001).await, [7], "another API's numbers are other machines");
        assert_eq!(seen("a", 1000 + DAY - 1).await, [7]);
        assert_eq!(seen("a", 1000 + DAY).await, [0; 0]);
        assert_eq!(seen("a", 999).await, [0; 0], "a clock that was set back");
        bench.store.remember_machine(failed(7, "a", 5000)).await.unwrap();
        bench.store.remember_machine(failed(9, "a", 1500 + DAY)).await.unwrap();
        assert_eq!(seen("a", 1500 + DAY).await, [7, 9]);
        let text = std::fs::read_to_string(bench.paths().machines()).unwrap();
        assert!(!text.contains("\"b\""), "pruned: {text}");
    }

    #[tokio::test]
    async fn a_broken_file_stops_nobody() {
        let bench = Bench::new();
        bench.put(&bench.paths().machines(), b"{\"machines\": [");
        assert!(bench.store.failed_machines("a", 5).await.unwrap().is_empty());
        bench.store.remember_machine(failed(7, "a", 5)).await.unwrap();
        assert_eq!(bench.store.failed_machines("a", 6).await.unwrap().len(), 1);
    }
}

//! What the targets share: a store in a folder in memory, and text out of bytes.

use crabbox_vast_engine::store::{Paths, Store};
use crabbox_vast_engine::world::Disk;
use crabbox_vast_engine::world::real::{RealAmbient, RealFiles};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

/// A folder that lives in memory where the system has such a thing.
pub fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("crabbox-vast-fuzz-").tempdir_in(parent).expect("a folder")
}

/// A store below a folder.
pub fn store(root: &Path) -> Store {
    let paths = Paths { state: root.join("state"), config: root.join("config") };
    Store::new(Disk::inline(Arc::new(RealFiles)), Arc::new(RealAmbient::new("fuzz")), paths)
}

/// Runs a future that waits for nothing but locks.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}

/// The first line of an input, and what follows it.
pub fn split(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}

//! The stream of a sync: what has to travel, and behind it the records that say so.

use super::manifest::{Entry, Manifest, unreadable};
use super::pack::{Packer, Progress};
use super::path::TreePath;
use super::plan::Plan;
use super::record::Record;
use super::there::There;
use crate::world::Local;
use crate::{Code, Error, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// What is to be sent.
pub struct Load {
    /// The tree here.
    pub manifest: Arc<Manifest>,
    /// What differs.
    pub plan: Plan,
    /// The far side.
    pub there: There,
    /// Names the tree.
    pub fingerprint: String,
}

/// What was sent.
#[derive(Debug)]
pub struct Packed {
    /// What was gone when its turn came.
    pub vanished: Vec<TreePath>,
}

impl Load {
    /// Bytes of content to send.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.plan.send.iter().filter_map(|path| self.manifest.files.get(path)).map(|entry| entry.size).sum()
    }

    /// Writes the stream: files, folders, then record and manifest, and last the mark that says it is whole.
    ///
    /// # Errors
    /// [`Code::SyncFailed`] for a file that cannot be read, [`Code::SshLost`] when the stream breaks.
    pub fn pack<W: Write>(
        self,
        local: &dyn Local,
        root: &Path,
        staging: &str,
        now: i64,
        progress: &Progress,
        out: W,
    ) -> Result<Packed> {
        let out = if self.there.gzip {
            Wire::Packed(GzEncoder::new(out, Compression::fast()))
        } else {
            Wire::Plain(out)
        };
        let mut packer = Packer::new(local, root, progress, out);
        let mut record = Record { fingerprint: self.fingerprint, ..Record::default() };
        let mut vanished = Vec::new();
        for path in &self.plan.send {
            let Some(mut sent) = packer.append(path).map_err(|error| unsent(path, error))? else {
                vanished.push(path.clone());
                continue;
            };
            if let Some(planned) = self.manifest.files.get(path) {
                sent.hash.clone_from(&planned.hash);
                if sent != *planned {
                    // Not the tree that the fingerprint names any more, nor the content of the hash.
                    record.fingerprint = "changed".to_owned();
                    sent.hash = None;
                }
            }
            record.files.insert(path.clone(), sent);
        }
        if !vanished.is_empty() {
            record.fingerprint = "changed".to_owned();
        }
        for (path, entry) in &self.manifest.files {
            if !record.files.contains_key(path) && self.plan.send.binary_search(path).is_err() {
                let before = self.there.state.record.files.get(path).and_then(|sent| sent.hash.clone());
                let hash = entry.hash.clone().or(before);
                record.files.insert(path.clone(), Entry { hash, ..entry.clone() });
            }
        }
        record.folders.clone_from(&self.manifest.folders);
        let mut finish = || -> std::io::Result<()> {
            for path in &self.plan.folders {
                if let Some(entry) = self.manifest.folders.get(path) {
                    packer.folder(path.bytes(), entry.mode, entry.modified)?;
                }
            }
            packer.own(&format!("{staging}/record"), &record.write(), now)?;
            packer.own(&format!("{staging}/manifest"), &self.manifest.names(), now)?;
            packer.own(&format!("{staging}/done"), b"", now)
        };
        finish().map_err(broken)?;
        packer.finish().and_then(Wire::finish).map_err(broken)?;
        Ok(Packed { vanished })
    }
}

/// The stream as it goes over the connection.
enum Wire<W: Write> {
    Plain(W),
    Packed(GzEncoder<W>),
}

impl<W: Write> Wire<W> {
    fn finish(self) -> std::io::Result<()> {
        match self {
            Self::Plain(mut out) => out.flush(),
            Self::Packed(out) => out.finish()?.flush(),
        }
    }
}

impl<W: Write> Write for Wire<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Packed(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Packed(out) => out.flush(),
        }
    }
}

fn unsent(path: &TreePath, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::BrokenPipe { broken(error) } else { unreadable(path, error) }
}

/// The far side stopped reading; it says itself why.
fn broken(error: std::io::Error) -> Error {
    Error::new(Code::SshLost, "the stream to the instance broke").because(error)
}

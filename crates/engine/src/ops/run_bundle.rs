//! The bundle about a command that failed: what it said, how long it took, and the reports it left.

use super::run_artifacts::Glob;
use super::run_files::{Files, Form, make_folders};
use super::run_report::TimingReport;
use super::sync::blocking;
use super::{Call, Engine};
use crate::lease::{RunId, rfc3339};
use crate::world::{Local, Output};
use crate::{Code, Error, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The last bytes that are kept of each stream.
const KEPT: usize = 1024 * 1024;

/// Where test runners and programs leave their reports.
const REPORTS: [&str; 5] =
    ["*.log", "test-results/**", "playwright-report/**", "coverage/**", "**/junit*.xml"];

/// The end of both streams.
#[derive(Default)]
pub(super) struct Streams {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Streams {
    /// Takes a piece of output.
    pub fn take(&mut self, piece: &Output) {
        let (kept, bytes) = match piece {
            Output::Stdout(bytes) => (&mut self.stdout, bytes),
            Output::Stderr(bytes) => (&mut self.stderr, bytes),
        };
        kept.extend_from_slice(bytes);
        // Now and then, so that a byte is not moved at every piece.
        if kept.len() > 2 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
    }

    fn end(stream: &[u8]) -> &[u8] {
        &stream[stream.len().saturating_sub(KEPT)..]
    }
}

/// What a bundle is made of.
pub(super) struct Bundle<'a> {
    pub run: &'a RunId,
    pub streams: &'a Streams,
    pub timing: &'a TimingReport,
    /// What the run says about itself.
    pub summary: &'a [String],
    /// Files that the caller asked for besides the usual reports.
    pub globs: Vec<&'a Glob>,
}

impl Bundle<'_> {
    /// Writes it; the path below the working directory and the bytes.
    ///
    /// # Errors
    /// [`Code::RemoteControl`], [`Code::SshLost`].
    pub async fn write(self, files: &Files<'_>, engine: &Engine, call: &Call) -> Result<(String, u64)> {
        let usual: Vec<Glob> = REPORTS.iter().map(|text| text.parse()).collect::<Result<_>>()?;
        let globs: Vec<&Glob> = self.globs.iter().copied().chain(&usual).collect();
        let stamp: String = rfc3339(engine.now()).chars().filter(|c| !"-:".contains(*c)).collect();
        let name = format!(".crabbox/captures/{}-{stamp}.tar.gz", self.run.as_str());
        let target = engine.settings.cwd.join(&name);
        let names = files.find(&globs, call).await?;
        let left = if names.is_empty() {
            None
        } else {
            let place = target.with_extension("files");
            files.collect(&names, place.clone(), Form::Plain, call).await?;
            Some(place)
        };
        let timing = serde_json::to_vec_pretty(self.timing)
            .map_err(|error| Error::new(Code::Internal, format!("the times cannot be written: {error}")))?;
        let own = vec![
            ("summary.txt", self.summary.join("\n").into_bytes()),
            ("timing.json", timing),
            ("stdout.log", Streams::end(&self.streams.stdout).to_vec()),
            ("stderr.log", Streams::end(&self.streams.stderr).to_vec()),
        ];
        let (local, now) = (Arc::clone(&engine.world.local), u64::try_from(engine.unix_now()).unwrap_or(0));
        let (written, place) = (target.clone(), left.clone());
        let bytes = blocking(move || {
            let written = pack(local.as_ref(), &written, &own, place.as_deref(), now);
            if let Some(place) = place {
                local.remove(&place)?;
            }
            written
        });
        let bytes = bytes.await.map_err(|error| {
            Error::new(Code::RemoteControl, format!("{} cannot be written: {error}", target.display()))
        })?;
        Ok((name, bytes))
    }
}

fn pack(
    local: &dyn Local,
    target: &Path,
    own: &[(&str, Vec<u8>)],
    left: Option<&Path>,
    now: u64,
) -> io::Result<u64> {
    make_folders(local, target)?;
    let mut archive = tar::Builder::new(GzEncoder::new(local.create(target)?, Compression::default()));
    for (name, content) in own {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
        header.set_mode(0o600);
        header.set_mtime(now);
        archive.append_data(&mut header, name, content.as_slice())?;
    }
    if let Some(left) = left {
        let mut found = tar::Archive::new(local.open(left)?);
        for entry in found.entries()? {
            let mut entry = entry?;
            // Links inside were followed when it was made; a second name of a file is the only one there can be.
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = PathBuf::from("files").join(entry.path()?);
            let mut header = entry.header().clone();
            archive.append_data(&mut header, path, &mut entry)?;
        }
    }
    archive.into_inner()?.finish()?.flush()?;
    Ok(local.stat(target)?.map_or(0, |stat| stat.size))
}

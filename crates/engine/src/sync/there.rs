//! The far side, read from the answer of the first script.

use super::path::TreePath;
use super::plan::Remote;
use super::record::{self, Record};
use crate::{Code, Error, Result};
use flate2::read::MultiGzDecoder;
use std::io::Read;

/// The far side as the first script describes it.
#[derive(Debug, Clone)]
pub struct There {
    /// Where the two programs keep their records.
    pub meta: String,
    /// Whether it can decompress.
    pub gzip: bool,
    /// Changes with every sync.
    pub generation: String,
    /// What it has.
    pub state: Remote,
}

impl There {
    /// The most that the far side may say, bytes, packed or not: some 300 for each file, so that three million fit.
    pub const LARGEST: usize = 1024 * 1024 * 1024;

    /// Reads the answer; `None` for the same tree.
    ///
    /// # Errors
    /// [`Code::SyncFailed`] for an answer that is cut off or not of this form.
    pub fn read(answer: &[u8]) -> Result<Option<Self>> {
        let unclear = || {
            Error::new(
                Code::SyncFailed,
                "what the instance says about its folder is cut off or not understood",
            )
            .hint(
                "a start-up file of its shell may print something; a shell without a terminal must be silent",
            )
        };
        let end = answer.windows(2).position(|pair| pair == b"\n\n").ok_or_else(unclear)?;
        let head = std::str::from_utf8(&answer[..end]).map_err(|_| unclear())?;
        let line = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let (Some(meta), Some(gzip), Some(generation)) = (line("meta"), line("gzip"), line("generation"))
        else {
            return Err(unclear());
        };
        if head.lines().next_back() == Some("same") {
            return Ok(None);
        }
        let gzip = gzip == "yes";
        let body = &answer[end + 2..];
        let mut unpacked = Vec::new();
        if gzip {
            // Little can be unpacked to more than there is room for.
            let most = u64::try_from(Self::LARGEST).unwrap_or(u64::MAX);
            MultiGzDecoder::new(body).take(most).read_to_end(&mut unpacked).map_err(|_| unclear())?;
        } else {
            unpacked.extend_from_slice(body);
        }
        let whole = unpacked.strip_suffix(b"end").ok_or_else(unclear)?;
        let mut parts = whole.splitn(3, |byte| *byte == 0);
        let (Some(record), Some(listing), Some(names)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(unclear());
        };
        let manifest = names.split(|byte| *byte == 0).filter_map(TreePath::new).collect();
        let mut state = Remote { manifest, ..Remote::default() };
        if let Some(record) = Record::read(record) {
            state.record = record;
            state.listing = record::read_listing(listing);
            state.stamp = line("stamp").unwrap_or_default().to_owned();
        }
        let (meta, generation) = (meta.to_owned(), generation.to_owned());
        Ok(Some(Self { meta, gzip, generation, state }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_refused() {
        assert_eq!(
            There::read(b"meta .crabbox\ngzip no\ngeneration g\nsame\n\n").unwrap().map(|there| there.meta),
            None
        );
        let record = Record { fingerprint: "f".into(), ..Record::default() }.write();
        let head = b"meta .git/crabbox\ngzip no\ngeneration g  -\nstamp 2026-01-01 1.5 +0000\n\n";
        let whole = [&head[..], &record, b"\0", b"\0a\0b/c\0../evil\0end"].concat();
        let there = There::read(&whole).unwrap().unwrap();
        assert_eq!(
            (there.meta.as_str(), there.gzip, there.generation.as_str()),
            (".git/crabbox", false, "g  -")
        );
        assert_eq!((there.state.stamp.as_str(), there.state.manifest.len()), ("2026-01-01 1.5 +0000", 2));
        for cut in 0..whole.len() {
            assert!(There::read(&whole[..cut]).is_err(), "cut at {cut}");
        }
        // A record that is not ours makes nothing trusted, and still the manifest counts.
        let there = There::read(&[&head[..], b"garbage\0\0a\0end"].concat()).unwrap().unwrap();
        assert_eq!((there.state.stamp.as_str(), there.state.manifest.len()), ("", 1));
    }
}

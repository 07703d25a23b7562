//! What of this machine a copy sends, and how it is packed.

use super::cp::{last_part, mark, missing};
use super::stream::ToRemote;
use crate::sync::manifest::moment;
use crate::sync::pack::{Packer, Progress};
use crate::sync::path::path_bytes;
use crate::world::{FileKind, Local, Stat};
use crate::{Code, Error, Result};
use std::path::{Path, PathBuf};

/// What is copied up.
pub(super) struct Tree {
    source: PathBuf,
    pub is_folder: bool,
    /// The name that it gets in a folder; empty for `folder/.`, whose content is meant.
    pub name: String,
    /// Files, links and folders below the source, each folder behind what is in it.
    items: Vec<(PathBuf, Stat)>,
    pub files: usize,
    pub bytes: u64,
    pub left_out: Vec<String>,
}

impl Tree {
    pub fn read(local: &dyn Local, source: &Path) -> Result<Self> {
        let fail = |error: std::io::Error| {
            Error::new(Code::CopyFailed, format!("{} cannot be read: {error}", source.display()))
                .because(error)
        };
        // Who names a link to a folder, with or without a slash, means the folder.
        let inner = local.stat(&source.join(".")).map_err(fail)?;
        let stat = match inner {
            Some(stat) => stat,
            None => local.stat(source).map_err(fail)?.ok_or_else(|| missing(source))?,
        };
        if stat.kind == FileKind::Other {
            return Err(Error::new(
                Code::InvalidArgument,
                format!("{} is no file or folder", source.display()),
            )
            .hint("name a file or folder of this machine"));
        }
        let is_folder = stat.kind == FileKind::Folder;
        let text = source.to_string_lossy();
        let name = if text.ends_with("/.") { String::new() } else { last_part(&text).to_owned() };
        let mut tree = Self {
            source: source.to_owned(),
            is_folder,
            name,
            items: Vec::new(),
            files: 0,
            bytes: 0,
            left_out: Vec::new(),
        };
        if is_folder {
            tree.walk(local, &PathBuf::new()).map_err(fail)?;
        } else {
            tree.files = 1;
            tree.bytes = stat.size;
        }
        Ok(tree)
    }

    fn walk(&mut self, local: &dyn Local, below: &Path) -> std::io::Result<()> {
        for name in local.list(&self.source.join(below))? {
            let path = below.join(name);
            let Some(stat) = local.stat(&self.source.join(&path))? else { continue };
            match stat.kind {
                FileKind::Folder => {
                    self.walk(local, &path)?;
                    self.items.push((path, stat));
                }
                FileKind::File | FileKind::Link => {
                    self.files += 1;
                    self.bytes += stat.size;
                    self.items.push((path, stat));
                }
                FileKind::Other => self
                    .left_out
                    .push(format!("{} is neither file, folder nor link: left out", path.display())),
            }
        }
        Ok(())
    }

    pub fn pack(
        &self,
        local: &dyn Local,
        token: &str,
        now: i64,
        progress: &Progress,
        out: ToRemote,
    ) -> Result<()> {
        let fail = |place: &Path, error: std::io::Error| match error.kind() {
            std::io::ErrorKind::BrokenPipe => {
                Error::new(Code::SshLost, "the stream to the instance broke").because(error)
            }
            _ => Error::new(Code::CopyFailed, format!("{} cannot be read: {error}", place.display()))
                .because(error),
        };
        let mut packer = Packer::new(local, &self.source, progress, out);
        if !self.is_folder {
            let sent =
                packer.append_from(&self.source, b"file").map_err(|error| fail(&self.source, error))?;
            sent.ok_or_else(|| Error::new(Code::CopyFailed, format!("{} is gone", self.source.display())))?;
        }
        for (path, stat) in &self.items {
            let (place, name) = (self.source.join(path), path_bytes(path));
            let done = if stat.kind == FileKind::Folder {
                packer.folder(&name, stat.mode, moment(stat.modified))
            } else {
                packer.append_from(&place, &name).map(drop)
            };
            done.map_err(|error| fail(&place, error))?;
        }
        let finish = || {
            if self.is_folder {
                packer.own(&mark(token), b"", now)?;
            }
            std::io::Write::flush(&mut packer.finish()?)
        };
        finish().map_err(|error| fail(&self.source, error))
    }
}

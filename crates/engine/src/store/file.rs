//! Durable files: how a document is replaced so that a crash leaves the old one or the new one, and how folders
//! come to be.

use crate::world::{Ambient, Files};
use crate::{Code, Error, Result};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Mode of the folders that are made here.
pub(super) const FOLDER: u32 = 0o700;
/// Mode of the files that are made here.
pub(super) const FILE: u32 = 0o600;

/// Says which path an I/O error belongs to.
pub(super) trait At<T> {
    /// `action` is a verb: *cannot `action` `path`: reason*.
    fn at(self, action: &str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &str, path: &Path) -> Result<T> {
        self.map_err(|error| {
            let hint = match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space there, then try again",
                ErrorKind::ReadOnlyFilesystem => {
                    "make the file system writable, or set XDG_STATE_HOME to another folder"
                }
                ErrorKind::PermissionDenied => "check who owns the folder and its permissions",
                ErrorKind::InvalidInput | ErrorKind::NotADirectory => "put a real folder in its place",
                _ => "check the folder and its file system",
            };
            Error::new(Code::StateUnavailable, format!("cannot {action} {}: {error}", path.display()))
                .hint(hint)
                .with("path", path.to_string_lossy().into_owned())
                .because(error)
        })
    }
}

/// Makes a folder and its missing ancestors; existing ones stay as they are. Returns the folders whose entries
/// changed, outermost first: they have to be synced before anything inside counts as durable.
pub(super) fn make_folder(files: &dyn Files, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut missing = Vec::new();
    let mut at = Some(folder);
    while let Some(path) = at.filter(|path| !path.as_os_str().is_empty()) {
        if files.exists(path).at("look at", path)? {
            break;
        }
        missing.push(path);
        at = path.parent();
    }
    let mut changed = Vec::new();
    for path in missing.into_iter().rev() {
        files.create_dir(path, FOLDER).at("create folder", path)?;
        changed.extend(path.parent().map(Path::to_path_buf));
    }
    Ok(changed)
}

/// Syncs folders, innermost first.
pub(super) fn sync_folders(files: &dyn Files, folders: &[PathBuf]) -> Result<()> {
    folders.iter().rev().try_for_each(|folder| files.sync_dir(folder).at("sync folder", folder))
}

/// Replaces `path` atomically: a temporary file beside it, synced, then renamed over it. The rename is durable
/// after [`Files::sync_dir`]. On failure the old file is untouched and the temporary one removed.
pub(super) fn replace(files: &dyn Files, ambient: &dyn Ambient, path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Scanners of the claims folder take every `.json` for a claim; this ending is none.
    let temporary = path.with_file_name(format!(".{name}.tmp-{}", random_hex(ambient, 8)));
    let written = files
        .write_new(&temporary, bytes, FILE)
        .at("write", &temporary)
        .and_then(|()| files.rename(&temporary, path).at("replace", path));
    if written.is_err() {
        // The first failure is the one to report; what stays behind is only an unread temporary file.
        let _ = files.remove(&temporary);
    }
    written
}

/// [`replace`] with missing folders made, and everything synced up to the first folder that was there before.
pub(super) fn replace_durably(
    files: &dyn Files,
    ambient: &dyn Ambient,
    path: &Path,
    bytes: &[u8],
) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    let mut changed = make_folder(files, folder)?;
    replace(files, ambient, path, bytes)?;
    changed.push(folder.to_path_buf());
    sync_folders(files, &changed)
}

/// Syncs a folder and two above it, whoever made them: another process may have made them a moment ago and not have
/// synced them yet, and a record that others rely on must not hang on that.
pub(super) fn sync_upwards(files: &dyn Files, folder: &Path) -> Result<()> {
    for above in folder.ancestors().take(3).filter(|above| !above.as_os_str().is_empty()) {
        match files.sync_dir(above) {
            // A folder that we may not read is not one that anybody of ours has just made.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            synced => synced.at("sync folder", above)?,
        }
    }
    Ok(())
}

/// Removes a file durably; a missing one is fine.
pub(super) fn remove_durably(files: &dyn Files, path: &Path) -> Result<()> {
    files.remove(path).at("remove", path)?;
    match path.parent() {
        Some(folder) if files.exists(folder).at("look at", folder)? => {
            files.sync_dir(folder).at("sync folder", folder)
        }
        _ => Ok(()),
    }
}

/// Random bytes as lower-case hex digits.
pub(super) fn random_hex(ambient: &dyn Ambient, bytes: usize) -> String {
    let mut random = vec![0; bytes];
    ambient.random(&mut random);
    hex::encode(random)
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;

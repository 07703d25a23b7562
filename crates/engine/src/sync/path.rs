//! A path inside a tree: bytes, relative, and never out of the tree.

use std::path::{Path, PathBuf};

/// A relative path with `/` between its parts, none of them empty, `.` or `..`. Any byte but NUL may occur in a part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// The path, if it is one.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let sound = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
        let here = !bytes.contains(&0) && bytes.split(|byte| *byte == b'/').all(sound);
        here.then(|| Self(bytes.to_vec()))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// For people, and for patterns.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// Where it is below `root`; `None` where the system cannot name it.
    #[must_use]
    pub fn below(&self, root: &Path) -> Option<PathBuf> {
        Some(root.join(system_path(&self.0)?))
    }

    /// The folders it lies in, innermost first.
    pub fn folders(&self) -> impl Iterator<Item = TreePath> + '_ {
        let ends = (0..self.0.len()).rev().filter(|at| self.0[*at] == b'/');
        ends.map(|end| TreePath(self.0[..end].to_vec()))
    }

    /// The part before the first `/`, or all of it.
    #[must_use]
    pub fn top(&self) -> &[u8] {
        self.0.split(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

/// The bytes as a path of this system.
#[cfg(unix)]
#[must_use]
pub fn system_path(bytes: &[u8]) -> Option<PathBuf> {
    Some(PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes)))
}

/// The bytes as a path of this system.
#[cfg(not(unix))]
#[must_use]
pub fn system_path(bytes: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(bytes).ok().map(PathBuf::from)
}

/// A path of this system as bytes with `/` between the parts.
#[cfg(unix)]
#[must_use]
pub fn path_bytes(path: &Path) -> Vec<u8> {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec()
}

/// A path of this system as bytes with `/` between the parts.
#[cfg(not(unix))]
#[must_use]
pub fn path_bytes(path: &Path) -> Vec<u8> {
    path.to_string_lossy().replace('\\', "/").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_stay_inside() {
        for good in ["a", "a/b", " ", "a\nb/c", "...", "-x", ".git", "ü"] {
            assert!(TreePath::new(good.as_bytes()).is_some(), "{good:?}");
        }
        for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0b"] {
            assert!(TreePath::new(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn folders_from_the_inside() {
        let path = TreePath::new(b"a/b/c").unwrap();
        let folders: Vec<_> = path.folders().map(|folder| folder.text().into_owned()).collect();
        assert_eq!(folders, ["a/b", "a"]);
        assert_eq!(path.top(), b"a");
    }
}

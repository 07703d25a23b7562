//! Which repository the working directory belongs to.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository around `cwd` with symbolic links resolved, as `git rev-parse --show-toplevel` prints it;
/// outside a repository the working directory itself.
pub(super) fn repository_root(cwd: &Path) -> PathBuf {
    let cwd = fs::canonicalize(cwd).unwrap_or_else(|_| cwd.to_owned());
    cwd.ancestors().find(|folder| is_root(folder)).unwrap_or(&cwd).to_owned()
}

fn is_root(folder: &Path) -> bool {
    // An empty .git folder is none to git either; a work tree or submodule has a file there.
    let git = folder.join(".git");
    git.join("HEAD").symlink_metadata().is_ok() || git.is_file() || folder.join(".jj").is_dir()
}

/// Whether `file` lies in `root`, as it is written or after its symbolic links are resolved.
pub(super) fn lies_in(root: &Path, file: &Path) -> bool {
    file.starts_with(root) || resolved(file).starts_with(root)
}

/// The file's real path; of one that does not exist, that of its nearest existing folder and the rest.
fn resolved(file: &Path) -> PathBuf {
    for folder in file.ancestors() {
        if let Ok(real) = fs::canonicalize(folder) {
            let rest = file.strip_prefix(folder).unwrap_or(Path::new(""));
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    file.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_root_above() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let deep = root.join("a b/c");
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(repository_root(&deep), deep);
        fs::create_dir(root.join(".git")).unwrap();
        assert_eq!(repository_root(&deep), deep, "an empty .git folder");
        fs::write(root.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        assert_eq!(repository_root(&deep), root);
        fs::write(root.join("a b/.git"), "gitdir: elsewhere\n").unwrap();
        assert_eq!(repository_root(&deep), root.join("a b"));
        assert!(lies_in(&root, &root.join("x.yaml")));
        assert!(!lies_in(&root, Path::new("/somewhere/x.yaml")));
    }

    #[cfg(unix)]
    #[test]
    fn links_do_not_hide_it() {
        let folder = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(folder.path()).unwrap();
        let root = base.join("repo");
        fs::create_dir_all(root.join(".git")).unwrap();
        fs::write(root.join(".git/HEAD"), "x").unwrap();
        fs::write(root.join("x.yaml"), "").unwrap();
        std::os::unix::fs::symlink(&root, base.join("link")).unwrap();
        assert_eq!(repository_root(&base.join("link")), root);
        assert!(lies_in(&root, &base.join("link/x.yaml")));
        assert!(lies_in(&root, &base.join("link/missing.yaml")));
    }
}

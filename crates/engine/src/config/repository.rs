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

/// The name of the repository as crabbox takes it: the last part of the origin's address without `.git`, else the name of
/// the folder.
pub(super) fn repository_name(root: &Path) -> String {
    let named = origin(root).and_then(|url| {
        let last = url.trim_end_matches('/').rsplit(['/', ':', '\\']).next()?.to_owned();
        let name = last.strip_suffix(".git").unwrap_or(&last).to_owned();
        (!name.is_empty() && name != "." && name != "..").then_some(name)
    });
    let folder = || Some(root.file_name()?.to_string_lossy().into_owned());
    named.or_else(folder).unwrap_or_else(|| "workspace".to_owned())
}

/// The address of the remote `origin`, read from git's own file.
fn origin(root: &Path) -> Option<String> {
    let mut git = root.join(".git");
    if git.is_file() {
        // A work tree or submodule names its folder; a work tree shares the configuration of the main one.
        let pointer = fs::read_to_string(&git).ok()?;
        git = root.join(pointer.trim().strip_prefix("gitdir:")?.trim());
        if let Ok(common) = fs::read_to_string(git.join("commondir")) {
            git = git.join(common.trim());
        }
    }
    let text = fs::read_to_string(git.join("config")).ok()?;
    let mut inside = false;
    text.lines().map(str::trim).find_map(|line| {
        if line.starts_with('[') {
            inside = line.replace(' ', "") == "[remote\"origin\"]";
        }
        let (name, value) = line.split_once('=')?;
        (inside && name.trim() == "url").then(|| value.trim().trim_matches('"').to_owned())
    })
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

    #[test]
    fn the_name_is_the_origins_or_the_folders() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("checkout 2");
        fs::create_dir_all(root.join(".git")).unwrap();
        assert_eq!(repository_name(&root), "checkout 2");
        for (url, name) in [
            ("git@github.com:someone/trainer.git", "trainer"),
            ("https://github.com/someone/trainer", "trainer"),
            ("host:trainer.git", "trainer"),
            ("/srv/git/trainer.git/", "trainer"),
            ("..", "checkout 2"),
        ] {
            let config = format!(
                "[core]\n\turl = no\n[remote \"up\"]\n url = no\n[remote \"origin\"]\n\turl = {url}\n"
            );
            fs::write(root.join(".git/config"), config).unwrap();
            assert_eq!(repository_name(&root), name, "{url}");
        }
        let tree = folder.path().join("tree");
        fs::create_dir_all(root.join(".git/worktrees/tree")).unwrap();
        fs::create_dir(&tree).unwrap();
        fs::write(root.join(".git/worktrees/tree/commondir"), "../..\n").unwrap();
        fs::write(tree.join(".git"), format!("gitdir: {}\n", root.join(".git/worktrees/tree").display()))
            .unwrap();
        fs::write(root.join(".git/config"), "[remote \"origin\"]\n\turl = a/b.git\n").unwrap();
        assert_eq!(repository_name(&tree), "b");
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

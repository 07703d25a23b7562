//! The directories that crabbox uses too: state, and the user's configuration.

use super::Snapshot;
use crate::store::Paths;
use crate::{Code, Error, Result};
use std::path::{Path, PathBuf};

/// The rules differ by system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Platform {
    Unix,
    MacOs,
    Windows,
}

impl Platform {
    pub(crate) fn here() -> Self {
        if cfg!(windows) {
            Platform::Windows
        } else if cfg!(target_os = "macos") {
            Platform::MacOs
        } else {
            Platform::Unix
        }
    }
}

/// Where state and the user's configuration are. Nothing is created.
///
/// # Errors
/// [`Code::StateUnavailable`] when the environment does not tell.
pub fn directories(snapshot: &Snapshot) -> Result<Paths> {
    directories_on(snapshot, Platform::here())
}

/// The user's own configuration file, whether it exists or not.
///
/// # Errors
/// As [`directories`].
pub fn user_file(snapshot: &Snapshot) -> Result<PathBuf> {
    Ok(user_file_below(&directories(snapshot)?))
}

pub(super) fn directories_on(snapshot: &Snapshot, platform: Platform) -> Result<Paths> {
    let config = user_config(snapshot, platform)?;
    // Not ~/.local/state: crabbox puts its state below the configuration unless it is told otherwise.
    let state = match set(snapshot, "XDG_STATE_HOME") {
        Some(root) => snapshot.cwd.join(root).join("crabbox"),
        None => config.join("crabbox").join("state"),
    };
    Ok(Paths { state, config })
}

pub(super) fn user_file_below(paths: &Paths) -> PathBuf {
    paths.config.join("crabbox").join("config.yaml")
}

fn user_config(snapshot: &Snapshot, platform: Platform) -> Result<PathBuf> {
    // Below one that is not absolute every folder would have state of its own, and its machines would be found from there only.
    let home = || match set(snapshot, "HOME") {
        Some(home) if Path::new(home).is_absolute() => Ok(home),
        Some(_) => Err(unavailable("HOME is not an absolute path")),
        None => Err(unavailable("HOME is not set")),
    };
    match platform {
        Platform::Windows => {
            let folder = ["AppData", "APPDATA"].iter().find_map(|name| set(snapshot, name));
            folder.map(PathBuf::from).ok_or_else(|| unavailable("%AppData% is not set"))
        }
        Platform::MacOs => Ok(Path::new(home()?).join("Library").join("Application Support")),
        Platform::Unix => match set(snapshot, "XDG_CONFIG_HOME") {
            Some(folder) if Path::new(folder).is_absolute() => Ok(PathBuf::from(folder)),
            Some(_) => Err(unavailable("XDG_CONFIG_HOME is not an absolute path")),
            None => Ok(Path::new(home()?).join(".config")),
        },
    }
}

// Paths may begin or end with a blank, so they are taken as they are.
fn set<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a str> {
    snapshot.vars.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

fn unavailable(why: &str) -> Error {
    Error::new(Code::StateUnavailable, format!("the user configuration directory is unknown: {why}"))
        .hint("set HOME or XDG_CONFIG_HOME to an absolute path")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(platform: Platform, vars: &[(&str, &str)]) -> Result<(String, String)> {
        let vars = vars.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let paths = directories_on(&Snapshot { vars, cwd: "/cwd".into() }, platform)?;
        Ok((paths.state.display().to_string(), paths.config.display().to_string()))
    }

    #[test]
    fn each_system_has_its_place() {
        let own = |state: &str, config: &str| (state.to_owned(), config.to_owned());
        assert_eq!(
            at(Platform::Unix, &[("HOME", "/h")]).unwrap(),
            own("/h/.config/crabbox/state", "/h/.config")
        );
        assert_eq!(
            at(Platform::Unix, &[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x"), ("XDG_STATE_HOME", "/s")])
                .unwrap(),
            own("/s/crabbox", "/x")
        );
        assert_eq!(
            at(Platform::Unix, &[("HOME", "/h"), ("XDG_STATE_HOME", "s")]).unwrap(),
            own("/cwd/s/crabbox", "/h/.config")
        );
        assert_eq!(
            at(Platform::MacOs, &[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]).unwrap(),
            own("/h/Library/Application Support/crabbox/state", "/h/Library/Application Support")
        );
        assert_eq!(at(Platform::Windows, &[("APPDATA", "/a")]).unwrap(), own("/a/crabbox/state", "/a"));
    }

    #[test]
    fn an_unknown_home_is_a_typed_error() {
        for vars in
            [&[][..], &[("HOME", "")], &[("HOME", "h")], &[("HOME", "/h"), ("XDG_CONFIG_HOME", "relative")]]
        {
            let error = at(Platform::Unix, vars).unwrap_err();
            assert_eq!((error.code(), error.exit_code()), (Code::StateUnavailable, 2));
        }
        assert!(at(Platform::Windows, &[("HOME", "/h")]).is_err());
    }
}

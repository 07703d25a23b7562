//! Where a value came from.

use std::fmt;
use std::path::PathBuf;

/// Whose file a configuration file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The user's own.
    User,
    /// A repository's: whoever may commit to it decides what stands there.
    Repository,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A configuration file.
    File {
        /// Whose it is.
        level: Level,
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 when it is not known.
        line: u64,
    },
    /// An environment variable.
    Environment(&'static str),
    /// A command-line flag, without dashes.
    Flag(&'static str),
    /// An option of a Node call.
    Option(&'static str),
}

impl Origin {
    /// One word for the layer: `default`, `user`, `repository`, `environment`, `flag` or `option`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::File { level: Level::User, .. } => "user",
            Origin::File { level: Level::Repository, .. } => "repository",
            Origin::Environment(_) => "environment",
            Origin::Flag(_) => "flag",
            Origin::Option(_) => "option",
        }
    }

    /// Whether a repository's file decided.
    #[must_use]
    pub fn is_repository(&self) -> bool {
        matches!(self, Origin::File { level: Level::Repository, .. })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("the default"),
            Origin::File { path, line: 0, .. } => write!(f, "{}", path.display()),
            Origin::File { path, line, .. } => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => f.write_str(name),
            Origin::Flag(name) => write!(f, "--{name}"),
            Origin::Option(name) => write!(f, "option {name}"),
        }
    }
}

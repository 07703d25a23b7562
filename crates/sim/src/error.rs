//! What can go wrong with a simulator itself.

use std::io;
use std::path::PathBuf;

/// Why a simulator could not start or announce itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// The address cannot be listened on.
    #[error("the simulator cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: std::net::SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The address is not on this machine's loopback.
    #[error("the simulator listens on loopback only, not on {address}")]
    NotLoopback {
        /// The address asked for.
        address: std::net::SocketAddr,
    },
    /// An option makes no sense.
    #[error("the simulator's {option} is out of range")]
    Option {
        /// Which one.
        option: &'static str,
    },
    /// A file or folder cannot be used.
    #[error("the simulator cannot use {}: {source}", path.display())]
    Path {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another simulator works in the state directory.
    #[error("another simulator is using {}", path.display())]
    InUse {
        /// The state directory.
        path: PathBuf,
    },
    /// A folder that the simulator would empty holds what it did not put there.
    #[error("{} was not made by the simulator; choose another state directory", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// Another simulator has announced itself there.
    #[error("another simulator is already announced in {}", dir.display())]
    AlreadyAnnounced {
        /// The folder of the announcement.
        dir: PathBuf,
    },
}

impl SimError {
    pub(crate) fn path(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Path { path, source }
    }
}

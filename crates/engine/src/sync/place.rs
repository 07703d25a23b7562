//! Where fetched bytes go: what stands at the name that was given decides. Only a regular file is ever replaced.

use crate::world::{FileKind, Local};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The most links that are followed, as systems have it.
const LINKS: usize = 40;

/// Where bytes for a name go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A regular file, or one that is not there yet: written beside it, and put in its place when it is whole.
    File(PathBuf),
    /// Neither file nor folder: written into as it stands, with [`Local::write_into`], or not at all.
    Stream(PathBuf),
}

impl Place {
    /// Looks at `path` and follows its links, as `cp` does.
    ///
    /// # Errors
    /// Those of the system; a folder, and a link that leads to nothing, are refused.
    pub fn of(local: &dyn Local, path: &Path) -> io::Result<Self> {
        let refuse = |why: String| Err(io::Error::new(ErrorKind::InvalidInput, why));
        let mut place = path.to_owned();
        for followed in 0..LINKS {
            place = match local.stat(&place)?.map(|stat| stat.kind) {
                Some(FileKind::Link) => {
                    let target = local.read_link(&place)?;
                    place.parent().unwrap_or(Path::new("")).join(target)
                }
                Some(FileKind::Folder) => return refuse("it is a folder".to_owned()),
                Some(FileKind::Other) => return Ok(Self::Stream(place)),
                None if followed > 0 => {
                    return refuse(format!("it is a link that leads to nothing, {}", place.display()));
                }
                Some(FileKind::File) | None => return Ok(Self::File(place)),
            };
        }
        refuse("its links lead in a circle".to_owned())
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::world::real::RealLocal;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_to_what_takes_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("folder")).unwrap();
        std::fs::write(at("folder/file"), "x").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (target, name) in [
            ("folder/file", "near"),
            ("../near", "folder/far"),
            ("socket", "plug"),
            ("circle", "circle"),
            ("nothing", "loose"),
            ("folder", "inside"),
        ] {
            symlink(target, at(name)).unwrap();
        }
        symlink(at("near"), at("absolute")).unwrap();
        let of = |name: &str| Place::of(&RealLocal, &at(name)).map_err(|error| error.to_string());
        assert_eq!(of("new"), Ok(Place::File(at("new"))));
        assert_eq!(of("folder/file"), Ok(Place::File(at("folder/file"))));
        for name in ["near", "absolute"] {
            assert_eq!(of(name), Ok(Place::File(at("folder/file"))), "{name}");
        }
        assert_eq!(of("folder/far"), Ok(Place::File(at("folder/../folder/file"))));
        assert_eq!(of("plug"), Ok(Place::Stream(at("socket"))));
        for (name, why) in [
            ("circle", "in a circle"),
            ("loose", "to nothing"),
            ("folder", "a folder"),
            ("inside", "a folder"),
        ] {
            assert!(of(name).unwrap_err().contains(why), "{name}");
        }
    }
}

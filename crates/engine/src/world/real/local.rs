//! The real files, and the `git` on the search path.

use crate::world::{FileKind, GitAnswer, Local, OpenFile, Stat};
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;
#[cfg(unix)]
use std::time::{Duration, Instant};

/// What git needs of the environment. Everything else stays out: keys of the cloud are none of its business, and
/// variables such as `GIT_DIR` would point it elsewhere.
const FOR_GIT: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "TMPDIR",
    "TMP",
    "TEMP",
    "XDG_CONFIG_HOME",
    "SYSTEMROOT",
    "WINDIR",
    "USERPROFILE",
    "HOMEDRIVE",
    "HOMEPATH",
    "APPDATA",
    "GIT_CEILING_DIRECTORIES",
];

/// The files of this machine.
#[derive(Debug, Default)]
pub struct RealLocal;

impl Local for RealLocal {
    fn git(&self, folder: &Path, arguments: &[&str]) -> io::Result<GitAnswer> {
        let environment = FOR_GIT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let output = Command::new("git")
            .args(["--no-pager", "-c", "core.quotepath=off", "-c", "core.fsmonitor=false"])
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .envs(environment)
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()?;
        Ok(GitAnswer {
            success: output.status.success(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => facts(&metadata).map(Some),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        fs::read_link(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        // Opening a pipe would wait for a writer.
        if !fs::symlink_metadata(path)?.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Box::new(RealFile(File::open(path)?)))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let mut names: Vec<OsString> = fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<_>>()?;
        names.sort();
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Write + Send>> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Box::new(options.open(path)?))
    }

    fn write_into(&self, path: &Path) -> io::Result<Box<dyn Write + Send>> {
        open_stream(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let there = fs::symlink_metadata(path)?;
                if there.is_dir() { Ok(()) } else { Err(error) }
            }
            created => created,
        }
    }

    fn set(&self, path: &Path, mode: u32, modified: SystemTime) -> io::Result<()> {
        // The time first: a file that is read-only cannot be opened for it any more.
        let mut options = OpenOptions::new();
        if path.is_dir() {
            options.read(true)
        } else {
            options.write(true)
        };
        options.open(path)?.set_modified(modified)?;
        set_mode(path, mode)
    }

    fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        make_link(target, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

struct RealFile(File);

impl Read for RealFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl OpenFile for RealFile {
    fn stat(&self) -> io::Result<Stat> {
        facts(&self.0.metadata()?)
    }
}

fn facts(metadata: &Metadata) -> io::Result<Stat> {
    let kind = metadata.file_type();
    let kind = if kind.is_file() {
        FileKind::File
    } else if kind.is_dir() {
        FileKind::Folder
    } else if kind.is_symlink() {
        FileKind::Link
    } else {
        FileKind::Other
    };
    Ok(Stat { kind, mode: mode(metadata), size: metadata.len(), modified: metadata.modified()? })
}

/// How long a pipe may take nothing: a machine may be rented for what is written there.
#[cfg(unix)]
const STUCK: Duration = Duration::from_secs(60);

#[cfg(unix)]
fn open_stream(path: &Path) -> io::Result<Box<dyn Write + Send>> {
    use rustix::fs::{Mode, OFlags};
    use std::os::unix::fs::FileTypeExt;
    let check = |metadata: Metadata| {
        let kind = metadata.file_type();
        if kind.is_fifo() || kind.is_char_device() {
            return Ok(());
        }
        Err(io::Error::new(ErrorKind::InvalidInput, "it is neither a file nor a pipe nor a character device"))
    };
    check(fs::symlink_metadata(path)?)?;
    // Waiting for a reader would have no end.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NXIO) => {
            return Err(io::Error::new(ErrorKind::BrokenPipe, "nobody reads from it"));
        }
        Err(error) => return Err(error.into()),
    };
    check(file.metadata()?)?;
    Ok(Box::new(Stream(file)))
}

#[cfg(not(unix))]
fn open_stream(_: &Path) -> io::Result<Box<dyn Write + Send>> {
    Err(io::Error::new(ErrorKind::Unsupported, "it is no file"))
}

/// A pipe that does not hold up its writer for ever.
#[cfg(unix)]
struct Stream(File);

#[cfg(unix)]
impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let began = Instant::now();
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock && began.elapsed() < STUCK => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(io::Error::new(ErrorKind::TimedOut, "nobody reads on from it"));
                }
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777
}

#[cfg(not(unix))]
fn mode(metadata: &Metadata) -> u32 {
    match (metadata.is_dir(), metadata.permissions().readonly()) {
        (true, _) => 0o755,
        (false, true) => 0o444,
        (false, false) => 0o644,
    }
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777))
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn make_link(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn make_link(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::Error::new(ErrorKind::Unsupported, "symbolic links are not made here"))
}

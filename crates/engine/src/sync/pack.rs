//! Writes files as one tar stream that GNU tar, busybox and bsdtar unpack alike.

use super::manifest::{Entry, Moment, entry};
use super::path::{TreePath, path_bytes};
use crate::world::{FileKind, Local, OpenFile, Stat};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use tar::{Builder, EntryType, Header};

/// Up to this size a file is read before its header is written, so that the two agree.
const SMALL: u64 = 4 * 1024 * 1024;
/// How often a file that changes while it is read is read again.
const TRIES: usize = 3;
/// The longest name that a header has room for.
const NAME: usize = 100;

/// How far a transfer is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Files and links that are through.
    pub files: AtomicU64,
    /// Bytes of content that are through.
    pub bytes: AtomicU64,
}

impl Progress {
    /// Counts bytes of content.
    pub fn add_bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts a file or link.
    pub fn add_file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    /// Files and bytes so far.
    #[must_use]
    pub fn so_far(&self) -> (u64, u64) {
        (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// A stream in the making.
pub struct Packer<'a, W: Write> {
    local: &'a dyn Local,
    root: &'a Path,
    progress: &'a Progress,
    stream: Builder<W>,
}

impl<'a, W: Write> Packer<'a, W> {
    /// A stream of files below `root`.
    pub fn new(local: &'a dyn Local, root: &'a Path, progress: &'a Progress, out: W) -> Self {
        Self { local, root, progress, stream: Builder::new(out) }
    }

    /// Appends the file or link at `path`, and says what it was like when it was read; `None` when there is none of that
    /// kind (any more).
    ///
    /// # Errors
    /// Those of the stream and of the file system; a file that changes each time it is read.
    pub fn append(&mut self, path: &TreePath) -> io::Result<Option<Entry>> {
        let Some(place) = path.below(self.root) else { return Ok(None) };
        self.append_from(&place, path.bytes())
    }

    /// The same for the file at `place`, under another name.
    ///
    /// # Errors
    /// As [`Packer::append`].
    pub fn append_from(&mut self, place: &Path, name: &[u8]) -> io::Result<Option<Entry>> {
        for _ in 0..TRIES {
            let Some(stat) = self.local.stat(place)? else { return Ok(None) };
            match stat.kind {
                FileKind::Link => {
                    let target = path_bytes(&self.local.read_link(place)?);
                    self.link(name, &stat, &target)?;
                    self.progress.add_bytes(stat.size);
                    self.progress.add_file();
                    return Ok(Some(entry(&stat)));
                }
                FileKind::File => {
                    let mut file = match self.local.open(place) {
                        Ok(file) => file,
                        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                        Err(error) => return Err(error),
                    };
                    if let Some(stat) = self.file(name, file.as_mut())? {
                        self.progress.add_file();
                        return Ok(Some(entry(&stat)));
                    }
                }
                FileKind::Folder | FileKind::Other => return Ok(None),
            }
        }
        Err(io::Error::other("it changes while it is read"))
    }

    /// A file, with its facts if they were the same before and after it was read. A later copy in the stream replaces an
    /// earlier one.
    fn file(&mut self, name: &[u8], file: &mut dyn OpenFile) -> io::Result<Option<Stat>> {
        let stat = file.stat()?;
        let mut header = header(EntryType::Regular, stat.mode, moment(&stat));
        if stat.size <= SMALL {
            let mut content = Vec::with_capacity(usize::try_from(stat.size).unwrap_or_default());
            Read::take(&mut *file, SMALL + 1).read_to_end(&mut content)?;
            if file.stat()? != stat || u64::try_from(content.len()) != Ok(stat.size) {
                return Ok(None);
            }
            self.put(&mut header, name, None, moment(&stat), content.as_slice(), stat.size)?;
            self.progress.add_bytes(stat.size);
            return Ok(Some(stat));
        }
        let mut short = false;
        let counted =
            Padded { file: &mut *file, left: stat.size, short: &mut short, progress: self.progress };
        self.stream_file(&mut header, name, &stat, counted)?;
        Ok((!short && file.stat()? == stat).then_some(stat))
    }

    fn stream_file(
        &mut self,
        header: &mut Header,
        name: &[u8],
        stat: &Stat,
        content: impl Read,
    ) -> io::Result<()> {
        self.put(header, name, None, moment(stat), content, stat.size)
    }

    fn link(&mut self, name: &[u8], stat: &Stat, target: &[u8]) -> io::Result<()> {
        let mut header = header(EntryType::Symlink, 0o777, moment(stat));
        self.put(&mut header, name, Some(target), moment(stat), io::empty(), 0)
    }

    /// A folder: its mode and time. Behind what is in it, so that unpacking that does not change them again.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn folder(&mut self, name: &[u8], mode: u32, modified: Moment) -> io::Result<()> {
        let mut header = header(EntryType::Directory, mode, modified);
        let name = [name, b"/"].concat();
        self.put(&mut header, &name, None, modified, io::empty(), 0)
    }

    /// A file of our own.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn own(&mut self, name: &str, content: &[u8], now: i64) -> io::Result<()> {
        let mut header = header(EntryType::Regular, 0o600, (now, 0));
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        self.put(&mut header, name.as_bytes(), None, (now, 0), content, size)
    }

    /// Ends the stream and gives back where it went.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn finish(self) -> io::Result<W> {
        self.stream.into_inner()
    }

    fn put(
        &mut self,
        header: &mut Header,
        name: &[u8],
        target: Option<&[u8]>,
        modified: Moment,
        content: impl Read,
        size: u64,
    ) -> io::Result<()> {
        if modified.1 > 0 && modified.0 >= 0 {
            // The header has room for whole seconds only; who does not know the extension takes those.
            self.extra(EntryType::XHeader, b"././@PaxHeader", &pax_time(modified))?;
        }
        if let Some(target) = target {
            if target.len() > NAME {
                self.long(EntryType::GNULongLink, target)?;
            }
            fill(&mut header.as_old_mut().linkname, target);
        }
        if name.len() > NAME {
            self.long(EntryType::GNULongName, name)?;
        }
        fill(&mut header.as_old_mut().name, name);
        header.set_size(size);
        header.set_cksum();
        self.stream.append(header, content)
    }

    /// A name that is too long for its field, for the header that follows.
    fn long(&mut self, kind: EntryType, name: &[u8]) -> io::Result<()> {
        self.extra(kind, b"././@LongLink", &[name, b"\0"].concat())
    }

    /// Something about the entry that follows. It needs a name: busybox takes a header without one for the end.
    fn extra(&mut self, kind: EntryType, name: &[u8], content: &[u8]) -> io::Result<()> {
        let mut extra = header(kind, 0o644, (0, 0));
        fill(&mut extra.as_old_mut().name, name);
        extra.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
        extra.set_cksum();
        self.stream.append(&extra, content)
    }
}

/// `<length> mtime=<seconds>.<nanoseconds>` and a line break; the length counts itself.
fn pax_time((seconds, nanos): Moment) -> Vec<u8> {
    let rest = format!(" mtime={seconds}.{nanos:09}\n");
    // Two digits, for any time that there is.
    format!("{}{rest}", rest.len() + 2).into_bytes()
}

fn header(kind: EntryType, mode: u32, modified: Moment) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o777);
    header.set_uid(0);
    header.set_gid(0);
    // Before 1970 there is no tar.
    header.set_mtime(u64::try_from(modified.0).unwrap_or_default());
    header
}

fn moment(stat: &Stat) -> Moment {
    super::manifest::moment(stat.modified)
}

fn fill(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

/// Exactly as many bytes as the header says, whatever becomes of the file meanwhile.
struct Padded<'a> {
    file: &'a mut dyn OpenFile,
    left: u64,
    short: &'a mut bool,
    progress: &'a Progress,
}

impl Read for Padded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let mut count = if *self.short { 0 } else { self.file.read(&mut buffer[..room])? };
        if count == 0 {
            *self.short = true;
            buffer[..room].fill(0);
            count = room;
        }
        let counted = u64::try_from(count).unwrap_or(u64::MAX);
        self.left -= counted;
        self.progress.add_bytes(counted);
        Ok(count)
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::world::real::RealLocal;
    use std::process::{Command, Stdio};

    #[test]
    fn times_say_their_length() {
        assert_eq!(pax_time((1_700_000_000, 5)), b"30 mtime=1700000000.000000005\n");
        assert_eq!(pax_time((1, 999_999_999)), b"21 mtime=1.999999999\n");
    }

    #[test]
    fn every_tar_unpacks_the_stream() {
        let home = tempfile::tempdir().unwrap();
        let long = format!("{}/{}", "n".repeat(120), "m".repeat(120));
        for (name, content) in [("a", "one"), (long.as_str(), "two"), ("new\nline", "")] {
            let path = home.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        std::fs::write(home.path().join("large"), vec![7; 5 * 1024 * 1024]).unwrap();
        std::os::unix::fs::symlink("t".repeat(200), home.path().join("link")).unwrap();
        let names = ["a", &long, "new\nline", "large", "link"];
        let progress = Progress::default();
        let mut packer = Packer::new(&RealLocal, home.path(), &progress, Vec::new());
        for name in names {
            assert!(packer.append(&TreePath::new(name.as_bytes()).unwrap()).unwrap().is_some());
        }
        assert!(packer.append(&TreePath::new(b"gone").unwrap()).unwrap().is_none());
        packer.folder(b"folder", 0o750, (1_700_000_000, 1)).unwrap();
        let stream = packer.finish().unwrap();
        assert_eq!(progress.so_far(), (5, 3 + 3 + 5 * 1024 * 1024 + 200));
        for tar in [&["tar"][..], &["busybox", "tar"], &["bsdtar"]] {
            let target = tempfile::tempdir().unwrap();
            let run = Command::new(tar[0])
                .args(&tar[1..])
                .args(["-xpof", "-"])
                .current_dir(target.path())
                .stdin(Stdio::piped())
                .spawn();
            let Ok(mut run) = run else {
                assert!(tar[0] == "bsdtar", "{tar:?} is missing");
                eprintln!("skipped: no bsdtar here");
                continue;
            };
            run.stdin.take().unwrap().write_all(&stream).unwrap();
            assert!(run.wait().unwrap().success(), "{tar:?}");
            for name in names {
                let (from, to) = (home.path().join(name), target.path().join(name));
                if name == "link" {
                    assert_eq!(std::fs::read_link(from).unwrap(), std::fs::read_link(to).unwrap(), "{tar:?}");
                } else {
                    assert!(std::fs::read(from).unwrap() == std::fs::read(to).unwrap(), "{tar:?} {name}");
                }
            }
            assert!(target.path().join("folder").is_dir());
        }
    }
}

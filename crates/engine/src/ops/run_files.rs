//! The files that travel with one run: a script there, results back.

use super::answer::Complaint;
use super::remote::Remote;
use super::run::{Download, ScriptFile};
use super::stream::ready_input;
use super::{Call, Engine, Event};
use crate::ssh::command::{Script, quote};
use crate::sync::place::Place;
use crate::world::{ExecExit, ExecIo, Local, Output, StdinChunk};
use crate::{Code, Error, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The folder of a run on both sides.
pub(super) struct Files<'a> {
    pub remote: Remote<'a>,
    pub local: &'a Engine,
    pub workdir: &'a str,
}

impl Files<'_> {
    /// Brings a script over; the words that run it with `arguments`.
    ///
    /// # Errors
    /// [`Code::RemoteControl`], [`Code::SshLost`].
    pub async fn upload(&self, file: &ScriptFile, arguments: &Script, call: &Call) -> Result<Script> {
        let path = file.remote_path();
        let content = ready_input(file.content.clone());
        let text = format!(
            "umask 077; mkdir -p {0}/.crabbox/scripts && cd {0} && cat >{1}.new && chmod 700 {1}.new && mv -f {1}.new {1}",
            quote(self.workdir)?,
            quote(&path)?
        );
        self.remote.run(&text, Some(content), call).await?.success("bringing the script over")?;
        call.event(Event::ScriptUploaded { path: path.clone(), bytes: file.content.len() });
        let mut words = if file.content.starts_with(b"#!") {
            vec![format!("./{path}")]
        } else {
            // Without a line that names its program it is for bash, or for what there is.
            let text = "if command -v bash >/dev/null 2>&1; then exec bash \"$@\"; else exec sh \"$@\"; fi";
            ["sh", "-c", text, "sh", &format!("./{path}")].map(String::from).to_vec()
        };
        match arguments {
            Script::Argv(arguments) => words.extend(arguments.iter().cloned()),
            Script::Shell(text) => words.push(text.clone()),
        }
        Ok(Script::Argv(words))
    }

    /// Fetches a file. It appears whole or not at all, in the place to which a link leads; a pipe or a character device is
    /// written into, and nothing else is replaced.
    ///
    /// # Errors
    /// [`Code::RemoteControl`] for one that is not there, or cannot be written here; [`Code::SshLost`].
    pub async fn download(&self, wanted: &Download, call: &Call) -> Result<()> {
        let script = format!("cd {} && exec cat <{}", quote(self.workdir)?, quote(&wanted.remote)?);
        let path = self.local.settings.cwd.join(&wanted.local);
        let bytes = self.fetch(&wanted.remote, &script, None, path.clone(), Form::Plain, call).await?;
        call.event(Event::Downloaded {
            remote: wanted.remote.clone(),
            local: path.display().to_string(),
            bytes,
        });
        Ok(())
    }

    /// Writes what a script prints to a file, which appears whole or not at all; its size.
    ///
    /// # Errors
    /// As [`Files::download`], naming `what`.
    pub async fn fetch(
        &self,
        what: &str,
        script: &str,
        stdin: Option<mpsc::Receiver<StdinChunk>>,
        target: PathBuf,
        form: Form,
        call: &Call,
    ) -> Result<u64> {
        let (give, take) = mpsc::channel(16);
        let (local, place) = (Arc::clone(&self.local.world.local), target.clone());
        let token = hex::encode(self.local.entropy::<8>());
        let writing = tokio::task::spawn_blocking(move || write(local.as_ref(), &place, &token, form, take));
        let (output, mut received) = mpsc::channel(16);
        let streaming = self.remote.stream(script, ExecIo { stdin, output }, call);
        let passing = async move {
            let mut said = Complaint::default();
            while let Some(piece) = received.recv().await {
                match piece {
                    // The writer that stopped says why.
                    Output::Stdout(bytes) => drop(give.send(Piece::Bytes(bytes)).await),
                    Output::Stderr(bytes) => said.take(&bytes),
                }
            }
            (give, said)
        };
        let (exit, (give, said)) = tokio::join!(streaming, passing);
        let fetched = matches!(exit, Ok(ExecExit::Code(0)));
        if fetched {
            drop(give.send(Piece::Whole).await);
        }
        drop(give);
        let written = writing.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        exit?;
        if !fetched {
            let said = said.brief();
            return Err(Error::new(Code::RemoteControl, format!("download of {what} failed: {said}"))
                .hint("paths are below the folder of the command, unless absolute"));
        }
        written.map_err(|error| {
            Error::new(Code::RemoteControl, format!("{} cannot be written: {error}", target.display()))
                .hint("name another place with --download remote=local")
        })
    }
}

/// How fetched bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As they come.
    Plain,
    /// Compressed.
    Gzip,
}

enum Piece {
    Bytes(bytes::Bytes),
    /// All of it was there.
    Whole,
}

/// A file under way.
enum Sink {
    Plain(Counted),
    Gzip(GzEncoder<Counted>),
}

impl Sink {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<u64> {
        let mut file = match self {
            Self::Plain(file) => file,
            Self::Gzip(encoder) => encoder.finish()?,
        };
        file.flush()?;
        Ok(file.bytes)
    }
}

/// Knows how much was written.
struct Counted {
    file: Box<dyn Write + Send>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.bytes += u64::try_from(count).unwrap_or(u64::MAX);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Makes the folders in which a file is to be.
pub(super) fn make_folders(local: &dyn Local, file: &Path) -> io::Result<()> {
    let Some(folder) = file.parent() else { return Ok(()) };
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|folder| matches!(local.stat(folder), Ok(None))).collect();
    missing.iter().rev().try_for_each(|folder| local.create_folder(folder))
}

/// Puts what arrives in its place. A file is written beside it and appears whole or not at all.
fn write(
    local: &dyn Local,
    target: &Path,
    token: &str,
    form: Form,
    pieces: mpsc::Receiver<Piece>,
) -> io::Result<u64> {
    make_folders(local, target)?;
    let place = match Place::of(local, target)? {
        Place::Stream(place) => return fill(local.write_into(&place)?, form, pieces),
        Place::File(place) => place,
    };
    let part = place.with_file_name(format!(".crabbox-run.{token}"));
    let work = || {
        let bytes = fill(local.create(&part)?, form, pieces)?;
        local.rename(&part, &place)?;
        Ok(bytes)
    };
    work().inspect_err(|_| {
        // The failure is what matters; an unfinished file is only in the way.
        let _ = local.remove(&part);
    })
}

/// Writes all pieces; the bytes that this made.
fn fill(file: Box<dyn Write + Send>, form: Form, mut pieces: mpsc::Receiver<Piece>) -> io::Result<u64> {
    let file = Counted { file, bytes: 0 };
    let mut sink = match form {
        Form::Plain => Sink::Plain(file),
        Form::Gzip => Sink::Gzip(GzEncoder::new(file, Compression::default())),
    };
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Bytes(piece) => sink.take(&piece)?,
            Piece::Whole => return sink.finish(),
        }
    }
    Err(io::Error::other("it did not arrive whole"))
}

impl ScriptFile {
    /// Named by its content, below the folder on the instance.
    pub(super) fn remote_path(&self) -> String {
        use sha2::Digest as _;
        let digest = hex::encode(sha2::Sha256::digest(&self.content));
        let name: String = self
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
            .collect();
        format!(".crabbox/scripts/{}-{name}", &digest[..12])
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::world::real::RealLocal;

    fn names(folder: &Path) -> Vec<std::ffi::OsString> {
        std::fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect()
    }

    #[test]
    fn a_file_that_cannot_be_put_in_its_place_leaves_nothing() {
        let folder = tempfile::tempdir().expect("temp dir");
        let target = folder.path().join("result");
        for form in [Form::Plain, Form::Gzip] {
            let (give, take) = mpsc::channel(4);
            let place = target.clone();
            let writing = std::thread::spawn(move || write(&RealLocal, &place, "t", form, take));
            give.blocking_send(Piece::Bytes("half".into())).expect("takes it");
            while names(folder.path()).is_empty() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            // Since it was looked at, something came into its place that cannot be replaced.
            std::fs::create_dir(&target).expect("folder");
            give.blocking_send(Piece::Whole).expect("takes it");
            writing.join().expect("ends").expect_err("a folder is there");
            assert_eq!(names(folder.path()), ["result"]);
            std::fs::remove_dir(&target).expect("empty");
        }
    }

    #[test]
    fn what_does_not_arrive_whole_changes_nothing() {
        let folder = tempfile::tempdir().expect("temp dir");
        let target = folder.path().join("result");
        std::fs::write(&target, "old").expect("writes");
        let (give, take) = mpsc::channel(4);
        give.blocking_send(Piece::Bytes("half".into())).expect("room");
        drop(give);
        write(&RealLocal, &target, "t", Form::Plain, take).expect_err("half");
        assert_eq!(std::fs::read(&target).expect("there"), b"old");
        assert_eq!(names(folder.path()), ["result"]);
    }
}

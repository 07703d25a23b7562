//! The files that travel with one run: a script there, results back.

use super::remote::Remote;
use super::run::{Download, ScriptFile};
use super::{Call, Engine, Event};
use crate::ssh::command::{Script, quote};
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
        let (give, stdin) = mpsc::channel(1);
        // The only message, and there is room for one.
        let _ = give.try_send(file.content.clone().into());
        drop(give);
        let text = format!(
            "umask 077; mkdir -p {0}/.crabbox/scripts && cd {0} && cat >{1}.new && chmod 700 {1}.new && mv -f {1}.new {1}",
            quote(self.workdir)?,
            quote(&path)?
        );
        self.remote.run(&text, Some(stdin), call).await?.success("bringing the script over")?;
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

    /// Fetches a file. It appears whole or not at all.
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
        let writing = tokio::task::spawn_blocking(move || write(local.as_ref(), &place, form, take));
        let (output, mut received) = mpsc::channel(16);
        let streaming = self.remote.stream(script, ExecIo { stdin, output }, call);
        let passing = async move {
            let mut said = Vec::new();
            while let Some(piece) = received.recv().await {
                match piece {
                    // The writer that stopped says why.
                    Output::Stdout(bytes) => drop(give.send(Piece::Bytes(bytes)).await),
                    Output::Stderr(bytes) => said.extend_from_slice(&bytes),
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
            let said = String::from_utf8_lossy(&said);
            let said: String =
                said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
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
    Plain(Box<dyn Write + Send>),
    Gzip(GzEncoder<Box<dyn Write + Send>>),
}

impl Sink {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(mut file) => file.flush(),
            Self::Gzip(encoder) => encoder.finish()?.flush(),
        }
    }
}

/// Makes the folders in which a file is to be.
pub(super) fn make_folders(local: &dyn Local, file: &Path) -> io::Result<()> {
    let Some(folder) = file.parent() else { return Ok(()) };
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|folder| matches!(local.stat(folder), Ok(None))).collect();
    missing.iter().rev().try_for_each(|folder| local.create_folder(folder))
}

fn write(local: &dyn Local, target: &Path, form: Form, mut pieces: mpsc::Receiver<Piece>) -> io::Result<u64> {
    make_folders(local, target)?;
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part: PathBuf = target.with_file_name(name);
    local.remove(&part)?;
    let file = local.create(&part)?;
    let mut sink = match form {
        Form::Plain => Sink::Plain(file),
        Form::Gzip => Sink::Gzip(GzEncoder::new(file, Compression::default())),
    };
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Bytes(piece) => sink.take(&piece)?,
            Piece::Whole => {
                sink.finish()?;
                local.rename(&part, target)?;
                return Ok(local.stat(target)?.map_or(0, |stat| stat.size));
            }
        }
    }
    local.remove(&part)?;
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

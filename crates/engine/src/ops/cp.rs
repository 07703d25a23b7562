//! Cp: copies files and folders to an instance and back, as one tar stream over a session.

use super::answer::{Answer, Complaint};
use super::cp_tree::Tree;
use super::remote::Remote;
use super::stream::{DEPTH, FromRemote, ToRemote};
use super::sync::{blocking, watched};
use super::{Call, Engine, Lease};
use crate::ssh::command::quote;
use crate::sync::pack::Progress;
use crate::sync::unpack::Unpacker;
use crate::world::{ExecExit, ExecIo, Output};
use crate::{Code, Error, Result};
use futures_util::future::BoxFuture;
use serde::Serialize;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What to copy, and where to: one of the two is `lease:path`.
#[derive(Debug, Clone)]
pub struct CopyRequest {
    /// What.
    pub from: String,
    /// Where to. An existing folder, or a name with a slash behind it, takes the copy under its own name.
    pub to: String,
    /// Take over a lease that another repository made.
    pub reclaim: bool,
}

/// A finished copy.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Copied {
    /// What was copied.
    pub from: String,
    /// Where it is now.
    pub to: String,
    /// Files and links.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Seconds.
    pub seconds: f64,
    /// What was left out; each was an [`super::Event::Warning`] too.
    pub warnings: Vec<String>,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Here(&'a str),
    There { lease: &'a str, path: &'a str },
}

impl<'a> Side<'a> {
    /// `lease:path`; a slash before the colon, or a single letter as of a drive, means a file of this machine.
    fn read(text: &'a str) -> Self {
        match text.split_once(':') {
            Some((lease, path)) if lease.len() > 1 && !lease.contains(['/', '\\']) => {
                Self::There { lease, path }
            }
            _ => Self::Here(text),
        }
    }
}

impl Engine {
    /// Copies between this machine and an instance. Relative paths there are below the lease's folder of this repository.
    ///
    /// # Errors
    /// Those of [`Engine::open`]; [`Code::InvalidArgument`] unless exactly one side names a lease and what is to be
    /// sent is there; [`Code::CopyFailed`];
    /// [`Code::SshLost`], [`Code::Cancelled`].
    pub fn copy<'a>(&'a self, request: &'a CopyRequest, call: &'a Call) -> BoxFuture<'a, Result<Copied>> {
        Box::pin(async move {
            let (lease, path, here, up) = match (Side::read(&request.from), Side::read(&request.to)) {
                (Side::Here(here), Side::There { lease, path }) => (lease, path, here, true),
                (Side::There { lease, path }, Side::Here(here)) => (lease, path, here, false),
                _ => {
                    return Err(Error::new(Code::InvalidArgument, "one side of a copy is here, the other on a lease")
                    .hint("write the lease before a colon: `cp ./model swift-krill:model` or `cp swift-krill:out ./out`"));
                }
            };
            let here = self.settings.cwd.join(here);
            if up
                && self.world.local.stat(&here.join("")).ok().flatten().is_none()
                && !is_there(self, &here).await
            {
                return Err(missing(&here));
            }
            let opened = self.open(lease, request.reclaim, call).await?;
            let folder = opened.folder(&self.settings.repo_name);
            let copied = if up {
                opened.copy_to(&here, path, &folder, call).await
            } else {
                opened.copy_from(path, &here, &folder, call).await
            };
            opened.close().await;
            copied
        })
    }
}

async fn is_there(engine: &Engine, path: &Path) -> bool {
    let (local, path) = (Arc::clone(&engine.world.local), path.to_owned());
    blocking(move || matches!(local.stat(&path), Ok(Some(_)))).await
}

pub(super) fn missing(path: &Path) -> Error {
    Error::new(Code::InvalidArgument, format!("{} does not exist", path.display()))
        .hint("name a file or folder of this machine")
}

impl Lease {
    /// Copies a file or folder of this machine to `remote`, which is below `folder` unless it is absolute.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for what is no file or folder here; [`Code::CopyFailed`], [`Code::SshLost`],
    /// [`Code::Cancelled`]. A single file is replaced in one step or not at all.
    pub fn copy_to<'a>(
        &'a self,
        local: &'a Path,
        remote: &'a str,
        folder: &'a str,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Copied>> {
        Box::pin(async move {
            let began = Instant::now();
            let engine = self.engine();
            let files = Arc::clone(&engine.world.local);
            let source = local.to_owned();
            let load = Arc::new(blocking(move || Tree::read(files.as_ref(), &source)).await?);
            let warnings = load.left_out.clone();
            warnings.iter().for_each(|warning| call.warn(warning.clone()));
            let token = hex::encode(engine.entropy::<8>());
            let script = upload(remote, folder, &load.name, load.is_folder, &token)?;
            let (send, receive) = mpsc::channel(DEPTH);
            let progress = Arc::new(Progress::default());
            let total = (u64::try_from(load.files).unwrap_or(u64::MAX), load.bytes);
            let packing = {
                let (files, progress, load) =
                    (Arc::clone(&engine.world.local), Arc::clone(&progress), Arc::clone(&load));
                let now = engine.unix_now();
                blocking(move || {
                    load.pack(files.as_ref(), &token, now, &progress, ToRemote::new(send, Arc::default()))
                })
            };
            let remote_side = Remote::new(self);
            let work = async { tokio::join!(remote_side.run(&script, Some(receive), call), packing) };
            let (answer, packed) = watched(work, &progress, total, call).await;
            let answer = answer?;
            if answer.exit != ExecExit::Code(0) {
                // What went wrong here explains why the stream ended over there.
                let own = packed.err().filter(|error| error.code() != Code::SshLost);
                return Err(own.unwrap_or_else(|| failed(remote, &answer)));
            }
            packed?;
            let (files, bytes) = progress.so_far();
            let to = String::from_utf8_lossy(&answer.stdout).trim_end_matches('\n').to_owned();
            let (from, seconds) = (local.display().to_string(), began.elapsed().as_secs_f64());
            Ok(Copied { from, to, files, bytes, seconds, warnings })
        })
    }

    /// Copies a file or folder of the instance to `local`; `remote` is below `folder` unless it is absolute.
    ///
    /// # Errors
    /// As [`Lease::copy_to`]. Nothing is written outside of `local`, nor through links in it.
    pub fn copy_from<'a>(
        &'a self,
        remote: &'a str,
        local: &'a Path,
        folder: &'a str,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<Copied>> {
        Box::pin(async move {
            let began = Instant::now();
            let engine = self.engine();
            let token = hex::encode(engine.entropy::<8>());
            let script = download(remote, folder)?;
            let progress = Arc::new(Progress::default());
            let (output, mut received) = mpsc::channel(DEPTH);
            let (forward, bytes) = mpsc::channel(DEPTH);
            let unpack = {
                let (files, progress) = (Arc::clone(&engine.world.local), Arc::clone(&progress));
                let (target, name) = (local.to_owned(), last_part(remote).to_owned());
                blocking(move || {
                    let unpacker = Unpacker { local: files.as_ref(), token: &token, progress: &progress };
                    receive(&unpacker, FromRemote::new(bytes), &target, &name)
                })
            };
            let split = async move {
                let mut stderr = Complaint::default();
                while let Some(piece) = received.recv().await {
                    match piece {
                        // The end of a stream is filled up with bytes that nobody waits for.
                        Output::Stdout(bytes) => drop(forward.send(bytes).await),
                        Output::Stderr(bytes) => stderr.take(&bytes),
                    }
                }
                stderr
            };
            let remote_side = Remote::new(self);
            let moving = async {
                let io = ExecIo { stdin: None, output };
                let (exit, stderr) = tokio::join!(remote_side.stream(&script, io, call), split);
                Ok::<_, Error>(Answer { exit: exit?, stdout: Vec::new(), stderr })
            };
            let work = async {
                tokio::pin!(moving, unpack);
                tokio::select! {
                    biased;
                    unpacked = &mut unpack => match unpacked {
                        // Nobody needs the rest of the stream.
                        Err(error) if error.code() == Code::CopyFailed => (None, Err(error)),
                        unpacked => (Some(moving.await), unpacked),
                    },
                    moved = &mut moving => (Some(moved), unpack.await),
                }
            };
            let (moved, unpacked) = watched(work, &progress, (0, 0), call).await;
            if let Some(answer) = moved.transpose()?
                && answer.exit != ExecExit::Code(0)
            {
                return Err(failed(remote, &answer));
            }
            let (to, warnings) = unpacked?;
            warnings.iter().for_each(|warning| call.warn(warning.clone()));
            let (files, bytes) = progress.so_far();
            let seconds = began.elapsed().as_secs_f64();
            Ok(Copied {
                from: remote.to_owned(),
                to: to.display().to_string(),
                files,
                bytes,
                seconds,
                warnings,
            })
        })
    }
}

/// The last entry of a folder's stream: it is whole.
pub(super) fn mark(token: &str) -> String {
    format!(".crabbox-cp.{token}")
}

pub(super) fn last_part(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    match path.rsplit('/').next() {
        Some("." | "..") | None => "",
        Some(name) => name,
    }
}

/// Finds where the copy goes: into an existing folder, or one named with a slash, else under the name that was given.
/// A file is unpacked beside its place, or the place to which a link there leads, and renamed; of what else may stand
/// there only a character device takes it, since writing into a pipe could wait for ever.
fn upload(target: &str, folder: &str, name: &str, is_folder: bool, token: &str) -> Result<String> {
    let unpack = if is_folder {
        format!(
            r#"mkdir -p -- "$t" && cd -- "$t" || exit 97
tar -xpof - || exit 74
[ -f ./{mark} ] || exit 74
rm -f ./{mark}"#,
            mark = mark(token)
        )
    } else {
        format!(
            r#"links=0
while [ -L "$t" ]; do
  links=$((links + 1))
  [ "$links" -le 40 ] && way=$(readlink "$t") && [ -n "$way" ] || {{ echo "$t leads nowhere" >&2; exit 74; }}
  case $way in /*) t=$way ;; *) t=${{t%/*}}/$way ;; esac
  [ -L "$t" ] || [ -e "$t" ] || {{ echo "a link leads to nothing, $t" >&2; exit 74; }}
done
d=${{t%/*}}/
stage=$d{mark}
mkdir -p -- "$d" && mkdir -- "$stage" || exit 97
trap 'rm -rf -- "$stage"' EXIT
trap 'exit 1' HUP INT TERM
(cd -- "$stage" && tar -xpof -) || exit 74
[ -f "$stage/file" ] || [ -L "$stage/file" ] || exit 74
[ ! -d "$t" ] || {{ echo "$t is a folder" >&2; exit 74; }}
if [ -c "$t" ]; then cat <"$stage/file" >"$t" || exit 74; rm -f -- "$stage/file"; else
[ ! -e "$t" ] || [ -f "$t" ] || {{ echo "$t is neither a file nor a character device" >&2; exit 74; }}
mv -f -- "$stage/file" "$t" || exit 74; fi"#,
            mark = mark(token)
        )
    };
    Ok(format!(
        r#"LC_ALL=C; export LC_ALL; unset CDPATH
base={} t={} name={}
mkdir -p -- "$base" && cd -- "$base" || exit 97
[ -n "$t" ] || t=./
case $t in /*|./*) ;; *) t=./$t ;; esac
case $t in */) mkdir -p -- "$t" || exit 97 ;; esac
if [ -d "$t" ] && [ -n "$name" ]; then t=${{t%/}}/$name; fi
to=$t
{unpack}
printf '%s\n' "${{to#./}}"
exit 0
"#,
        quote(folder)?,
        quote(target)?,
        quote(name)?,
    ))
}

/// Nothing of that name.
const NOTHING: u32 = 44;

fn download(source: &str, folder: &str) -> Result<String> {
    Ok(format!(
        r#"LC_ALL=C; export LC_ALL; unset CDPATH
base={} t={}
[ -n "$t" ] || t=.
case $t in /*) ;; *) t=./$t; cd -- "$base" 2>/dev/null || exit {NOTHING} ;; esac
if [ -d "$t" ]; then
  cd -- "$t" || exit 1
  printf 'folder\n'; exec tar -cf - .
elif [ -e "$t" ]; then
  n=${{t##*/}}
  cd -- "${{t%/*}}/" || exit 1
  printf 'file\n'; exec tar -chf - "./$n"
fi
exit {NOTHING}
"#,
        quote(folder)?,
        quote(source)?,
    ))
}

/// Reads what the instance says it sends, and puts it where it belongs. Where that is, and what was left out.
fn receive(
    unpacker: &Unpacker<'_>,
    mut stream: FromRemote,
    target: &Path,
    name: &str,
) -> Result<(PathBuf, Vec<String>)> {
    let mut word = Vec::new();
    let mut byte = [0];
    while word.len() < 8 && stream.read(&mut byte).is_ok_and(|count| count == 1) && byte != *b"\n" {
        word.push(byte[0]);
    }
    let is_folder = match &word[..] {
        b"folder" => true,
        b"file" => false,
        _ => {
            return Err(Error::new(Code::SshLost, "the instance sent no file"));
        }
    };
    let fail = |error: std::io::Error| {
        Error::new(Code::CopyFailed, format!("{} cannot be written: {error}", target.display()))
            .because(error)
    };
    let into_folder = unpacker.local.stat(&target.join(".")).map_err(fail)?.is_some();
    let named_so = target.as_os_str().to_string_lossy().ends_with(['/', std::path::MAIN_SEPARATOR]);
    let place = if (into_folder || (named_so && !is_folder)) && !name.is_empty() {
        target.join(name)
    } else {
        target.to_owned()
    };
    let folder = if is_folder { Some(place.as_path()) } else { place.parent() };
    for ancestor in folder.into_iter().flat_map(Path::ancestors).collect::<Vec<_>>().into_iter().rev() {
        let there = ancestor.as_os_str().is_empty()
            || unpacker.local.stat(&ancestor.join(".")).map_err(fail)?.is_some();
        if !there {
            unpacker.local.create_folder(ancestor).map_err(fail)?;
        }
    }
    let warnings = if is_folder {
        unpacker.tree(stream, &place)?
    } else {
        unpacker.file(stream, &place)?;
        Vec::new()
    };
    Ok((place, warnings))
}

fn failed(path: &str, answer: &Answer) -> Error {
    let said = answer.stderr.brief();
    if answer.exit == ExecExit::Code(NOTHING) {
        return Error::new(Code::CopyFailed, format!("{path:?} does not exist on the instance"))
            .hint("a relative path is below the lease's folder of this repository; an absolute one begins with a slash");
    }
    let why = if said.is_empty() { format!("{:?}", answer.exit) } else { said };
    Error::new(Code::CopyFailed, format!("copying {path:?} failed on the instance: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides() {
        for (text, lease, path) in [
            ("swift-krill:out", "swift-krill", "out"),
            ("123:/work/x", "123", "/work/x"),
            ("ab:", "ab", ""),
            ("ab:c:d", "ab", "c:d"),
        ] {
            assert_eq!(Side::read(text), Side::There { lease, path });
        }
        for text in ["a", "./a:b", "/a:b", "C:\\x", "c:x", "d/e:f", ":x"] {
            assert_eq!(Side::read(text), Side::Here(text));
        }
        for (path, name) in
            [("a/b", "b"), ("a/b/", "b"), ("a/.", ""), (".", ""), ("..", ""), ("/", ""), ("", "")]
        {
            assert_eq!(last_part(path), name, "{path}");
        }
    }
}

//! A command, or a shell, on an SSH channel.

use super::machine::Machine;
use super::terminal::{self, Terminal};
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use rustix::process::Signal;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// Between the hang-up and the kill of a command whose channel was closed.
const GRACE: Duration = Duration::from_millis(300);

/// What was asked for before the command.
#[derive(Default)]
pub(crate) struct Setup {
    pub environment: Vec<(String, String)>,
    pub terminal: Option<Terminal>,
    /// None for a shell.
    pub command: Option<Vec<u8>>,
}

/// Serves a channel from its opening to its close.
pub(crate) async fn serve(channel: Channel<Msg>, session: Handle, machine: Arc<Machine>) {
    let (mut reading, writing) = channel.split();
    let Some(setup) = prepare(&mut reading).await else { return };
    let ended = match setup.terminal {
        Some(_) => terminal::run(setup, &mut reading, &writing, &machine).await,
        None => run(setup, &mut reading, &writing, &machine).await,
    };
    let status = match ended {
        Ok(status) => status,
        Err(error) => {
            let text = format!("sh: {error}\n");
            let _ = writing.extended_data_bytes(1, text.into_bytes()).await;
            Some(ExitStatus::from_raw(126 << 8))
        }
    };
    // A client that has gone away does not hear any of this.
    if let Some(status) = status {
        match (status.code(), status.signal()) {
            (Some(code), _) => {
                let _ = writing.exit_status(code.unsigned_abs()).await;
            }
            (None, number) => {
                let name = signal_name(number.unwrap_or(9));
                let core = status.core_dumped();
                let _ =
                    session.exit_signal_request(writing.id(), name, core, String::new(), String::new()).await;
            }
        }
    }
    let _ = writing.eof().await;
    let _ = writing.close().await;
}

async fn prepare(reading: &mut ChannelReadHalf) -> Option<Setup> {
    let mut setup = Setup::default();
    loop {
        match reading.wait().await? {
            ChannelMsg::SetEnv { variable_name, variable_value, .. } => {
                setup.environment.push((variable_name, variable_value));
            }
            ChannelMsg::RequestPty { term, col_width, row_height, .. } => {
                setup.terminal = Some(Terminal { name: term, columns: col_width, rows: row_height });
            }
            ChannelMsg::Exec { command, .. } => {
                setup.command = Some(command);
                return Some(setup);
            }
            ChannelMsg::RequestShell { .. } => return Some(setup),
            ChannelMsg::Close => return None,
            _ => {}
        }
    }
}

/// Runs a command on three pipes. No status means that the client left first.
async fn run(
    setup: Setup,
    reading: &mut ChannelReadHalf,
    writing: &ChannelWriteHalf<Msg>,
    machine: &Machine,
) -> std::io::Result<Option<ExitStatus>> {
    let mut command = tokio::process::Command::new("/bin/sh");
    if let Some(text) = setup.command {
        command.arg("-c").arg(OsString::from_vec(text));
    }
    command
        .current_dir(machine.home())
        .env_clear()
        .envs(machine.environment())
        .envs(setup.environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = machine.processes.start(|| command.spawn(), tokio::process::Child::id)?;
    let leader = child.id();
    let mut input = child.stdin.take().map(feed);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut finished = std::pin::pin!(async {
        let (_, _, status) = tokio::join!(
            pour(stdout, writing.make_writer()),
            pour(stderr, writing.make_writer_ext(Some(1))),
            async {
                let status = child.wait().await;
                machine.processes.reaped(leader);
                status
            }
        );
        status
    });
    let stopped = machine.run();
    loop {
        let message = tokio::select! {
            biased;
            status = &mut finished => return status.map(Some),
            () = stopped.cancelled() => None,
            message = reading.wait() => message,
        };
        match message {
            Some(ChannelMsg::Data { data }) => {
                if let Some(input) = &input {
                    let _ = input.send(data);
                }
            }
            Some(ChannelMsg::Eof) => input = None,
            Some(ChannelMsg::Signal { signal }) => {
                if let Some(signal) = signal_number(&signal) {
                    machine.processes.signal(leader, signal);
                }
            }
            None | Some(ChannelMsg::Close) => break,
            Some(_) => {}
        }
    }
    drop(input);
    // The output has nowhere to go any more: end the whole group, and wait for the leader alone.
    machine.processes.signal(leader, Signal::HUP);
    if tokio::time::timeout(GRACE, &mut finished).await.is_err() {
        machine.processes.signal(leader, Signal::KILL);
        let _ = tokio::time::timeout(GRACE * 4, &mut finished).await;
    }
    Ok(None)
}

async fn pour(from: Option<impl tokio::io::AsyncRead + Unpin>, mut to: impl AsyncWrite + Unpin) {
    if let Some(mut from) = from {
        let _ = tokio::io::copy(&mut from, &mut to).await;
    }
}

/// A queue in front of a command's input. It has no bound: if it had, a command that does not read would
/// stop the whole connection, and with it the acknowledgements of its own output.
fn feed(mut input: impl AsyncWrite + Unpin + Send + 'static) -> mpsc::UnboundedSender<bytes::Bytes> {
    let (sender, mut receiver) = mpsc::unbounded_channel::<bytes::Bytes>();
    tokio::spawn(async move {
        while let Some(data) = receiver.recv().await {
            if input.write_all(&data).await.is_err() {
                return;
            }
        }
        let _ = input.shutdown().await;
    });
    sender
}

/// The signals that the protocol names.
pub(crate) fn signal_number(signal: &Sig) -> Option<Signal> {
    Some(match signal {
        Sig::ABRT => Signal::ABORT,
        Sig::ALRM => Signal::ALARM,
        Sig::FPE => Signal::FPE,
        Sig::HUP => Signal::HUP,
        Sig::ILL => Signal::ILL,
        Sig::INT => Signal::INT,
        Sig::KILL => Signal::KILL,
        Sig::PIPE => Signal::PIPE,
        Sig::QUIT => Signal::QUIT,
        Sig::SEGV => Signal::SEGV,
        Sig::TERM => Signal::TERM,
        Sig::USR1 => Signal::USR1,
        Sig::Custom(name) if name == "USR2" => Signal::USR2,
        Sig::Custom(_) => return None,
    })
}

fn signal_name(number: i32) -> Sig {
    let named = [
        Sig::ABRT,
        Sig::ALRM,
        Sig::FPE,
        Sig::HUP,
        Sig::ILL,
        Sig::INT,
        Sig::KILL,
        Sig::PIPE,
        Sig::QUIT,
        Sig::SEGV,
        Sig::TERM,
        Sig::USR1,
    ];
    named
        .into_iter()
        .find(|name| signal_number(name).is_some_and(|signal| signal.as_raw() == number))
        .unwrap_or_else(|| Sig::Custom(format!("{number}@crabbox-vast")))
}

/// The shell for an interactive session: the comfortable one where it is installed.
pub(crate) fn interactive_shell() -> &'static str {
    if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" }
}

//! A command, or a shell, on a pseudo-terminal.

use super::channel::{Setup, interactive_shell, signal_number};
use super::machine::Machine;
use russh::server::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use rustix::process::Signal;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// How long the output of an ended command is still waited for while others hold its terminal.
const DRAIN: Duration = Duration::from_millis(100);
/// Between the hang-up and the kill of a command whose channel was closed.
const GRACE: Duration = Duration::from_millis(300);

/// The terminal that the client asked for.
pub(crate) struct Terminal {
    pub name: String,
    pub columns: u32,
    pub rows: u32,
}

/// Runs a command on a terminal. No status means that the client left first.
pub(crate) async fn run(
    setup: Setup,
    reading: &mut ChannelReadHalf,
    writing: &ChannelWriteHalf<Msg>,
    machine: &Machine,
) -> io::Result<Option<ExitStatus>> {
    let (pty, pts) = pty_process::open().map_err(io::Error::other)?;
    let terminal = setup.terminal.unwrap_or(Terminal { name: "xterm".to_owned(), columns: 80, rows: 24 });
    let _ = pty.resize(size(terminal.columns, terminal.rows));
    let command = match setup.command {
        Some(text) => pty_process::Command::new("/bin/sh").arg("-c").arg(OsString::from_vec(text)),
        None => pty_process::Command::new(interactive_shell()).arg("-i"),
    };
    let command = command
        .current_dir(machine.home())
        .env_clear()
        .envs(machine.environment())
        .env("TERM", &terminal.name)
        .envs(setup.environment);
    let mut child = machine
        .processes
        .start(|| command.spawn(pts).map_err(io::Error::other), tokio::process::Child::id)?;
    let leader = child.id();
    let (mut output, input) = pty.into_split();
    let keyboard = keyboard(input);
    let mut screen = writing.make_writer();
    let mut drained = std::pin::pin!(async {
        let mut buffer = vec![0; 16 * 1024];
        // The master's read fails when the last process has let go of the terminal: that is its end of file.
        while let Ok(count) = output.read(&mut buffer).await {
            if count == 0 || screen.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    });
    let stopped = machine.run();
    let mut quiet = false;
    loop {
        let message = tokio::select! {
            biased;
            status = child.wait() => {
                if !quiet {
                    let _ = tokio::time::timeout(DRAIN, &mut drained).await;
                }
                machine.processes.reaped(leader);
                return status.map(Some);
            }
            () = &mut drained, if !quiet => { quiet = true; continue }
            () = stopped.cancelled() => None,
            message = reading.wait() => message,
        };
        match message {
            Some(ChannelMsg::Data { data }) => {
                let _ = keyboard.send(Key::Typed(data));
            }
            Some(ChannelMsg::WindowChange { col_width, row_height, .. }) => {
                let _ = keyboard.send(Key::Resized(size(col_width, row_height)));
            }
            Some(ChannelMsg::Signal { signal }) => {
                if let Some(signal) = signal_number(&signal) {
                    machine.processes.signal(leader, signal);
                }
            }
            None | Some(ChannelMsg::Close) => break,
            Some(_) => {}
        }
    }
    machine.processes.signal(leader, Signal::HUP);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        machine.processes.signal(leader, Signal::KILL);
        let _ = child.wait().await;
    }
    machine.processes.reaped(leader);
    Ok(None)
}

/// What comes from the client's side of the terminal.
enum Key {
    Typed(bytes::Bytes),
    Resized(pty_process::Size),
}

/// A queue in front of the terminal, unbounded for the same reason as a pipe's.
fn keyboard(mut input: pty_process::OwnedWritePty) -> mpsc::UnboundedSender<Key> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(key) = receiver.recv().await {
            let alive = match key {
                Key::Typed(data) => input.write_all(&data).await.is_ok(),
                Key::Resized(size) => input.resize(size).is_ok(),
            };
            if !alive {
                return;
            }
        }
    });
    sender
}

fn size(columns: u32, rows: u32) -> pty_process::Size {
    let side = |cells: u32, usual: u16| u16::try_from(cells).ok().filter(|cells| *cells > 0).unwrap_or(usual);
    pty_process::Size::new(side(rows, 24), side(columns, 80))
}

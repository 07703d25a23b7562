//! The seam to SSH: connect with one key, run commands on the session, and the local ends of what is forwarded over it.
//!
//! What only some worlds have (terminals, forwarding) is refused by default.

use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// Which host keys a connection accepts.
#[derive(Debug, Clone)]
pub enum HostKeyPolicy {
    /// Nothing is recorded for this endpoint yet: take what the server shows and report it (trust on first use).
    FirstUse,
    /// One of these public keys in OpenSSH form (`ssh-ed25519 AAAA…`), nothing else.
    Known(Vec<String>),
}

/// Where and as whom to connect.
#[derive(Clone)]
pub struct SshTarget {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User name.
    pub user: String,
    /// The lease's private key.
    pub key: Arc<ssh_key::PrivateKey>,
    /// Accepted host keys.
    pub host_key: HostKeyPolicy,
}

/// What broke an SSH step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshErrorKind {
    /// No connection, or none that speaks SSH (refused, reset, time-out, banner missing).
    Unreachable,
    /// The server speaks SSH and refuses the key.
    KeyRefused,
    /// The host key is not the recorded one.
    HostKeyChanged,
    /// The server refused to open a session or to run the command.
    SessionRefused,
    /// A live connection dropped or stopped answering.
    Lost,
}

/// A failed SSH step.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct SshError {
    /// Which kind.
    pub kind: SshErrorKind,
    /// One line.
    pub message: String,
}

/// A piece of the remote command's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
}

/// A piece of standard input; end of input is the closed channel.
pub type StdinChunk = Bytes;

/// The streams of one remote command. Output is sent with back-pressure; a dropped receiver discards it.
pub struct ExecIo {
    /// Standard input; `None` closes it at once.
    pub stdin: Option<mpsc::Receiver<StdinChunk>>,
    /// Receives both output streams in arrival order.
    pub output: mpsc::Sender<Output>,
}

/// How a remote command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecExit {
    /// Exit status.
    Code(u32),
    /// Killed by this signal (name without `SIG`).
    Signal(String),
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub columns: u32,
    /// Rows.
    pub rows: u32,
}

/// Takes over the terminal on this side. Called once the session is open: until then the keys belong to this side, and
/// Ctrl-C interrupts.
pub type TakeTerminal = Box<dyn FnOnce() -> TerminalIo + Send>;

/// A terminal on this side. The far side echoes and edits; both its streams arrive as standard output.
pub struct TerminalIo {
    /// What it is called (`xterm-256color`).
    pub name: String,
    /// Its size at the start.
    pub size: TerminalSize,
    /// Its later sizes; a closed channel means that it keeps the last.
    pub resizes: mpsc::Receiver<TerminalSize>,
    /// What is typed.
    pub keys: mpsc::Receiver<StdinChunk>,
    /// What is shown.
    pub output: mpsc::Sender<Output>,
}

/// A connection in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A local port that waits for connections.
#[async_trait]
pub trait Listener: Send + Sync {
    /// Its number.
    fn port(&self) -> u16;
    /// The next connection.
    async fn accept(&self) -> std::io::Result<Box<dyn Duplex>>;
}

/// One live, authenticated SSH connection. Several commands may run on it at once.
#[async_trait]
pub trait SshSession: Send + Sync {
    /// Runs `command` through the remote user's shell and streams until it ends. Dropping the future closes
    /// the channel (after asking the server to signal the command with `TERM`).
    async fn exec(&self, command: &str, io: ExecIo) -> Result<ExecExit, SshError>;
    /// Runs `command`, or the user's login shell, on a pseudo-terminal until it ends. Dropping the future hangs up.
    async fn terminal(&self, command: Option<&str>, take: TakeTerminal) -> Result<ExecExit, SshError> {
        let _ = (command, take);
        Err(SshError { kind: SshErrorKind::SessionRefused, message: "no terminals here".to_owned() })
    }
    /// Connects to `host` and `port` as the instance sees them.
    async fn dial(&self, host: &str, port: u16) -> Result<Box<dyn Duplex>, SshError> {
        Err(SshError {
            kind: SshErrorKind::SessionRefused,
            message: format!("no connections to {host}:{port} from here"),
        })
    }
    /// The server's host key in OpenSSH form, as it was verified or first seen.
    fn host_key(&self) -> String;
    /// Whether the connection is known to be dead.
    fn is_closed(&self) -> bool;
    /// Says goodbye.
    async fn close(&self);
}

/// Makes SSH connections.
#[async_trait]
pub trait Ssh: Send + Sync {
    /// One attempt: TCP, handshake, host key, public-key authentication, within `limit`.
    async fn connect(&self, target: &SshTarget, limit: Duration) -> Result<Arc<dyn SshSession>, SshError>;
    /// Opens a port on the loopback interface, for what is forwarded; 0 takes any.
    async fn listen(&self, port: u16) -> std::io::Result<Box<dyn Listener>> {
        let _ = port;
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

//! The production SSH client, over russh.

use crate::world::{
    Duplex, ExecExit, ExecIo, HostKeyPolicy, Listener, Output, Ssh, SshError, SshErrorKind, SshSession,
    SshTarget, StdinChunk, TakeTerminal, TerminalSize,
};
use async_trait::async_trait;
use russh::client::{self, AuthResult, Handle, Msg};
use russh::keys::{Algorithm, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg, Disconnect, Preferred, Sig};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A connection is called dead after three unanswered keep-alives of 15 s, the figures crabbox gives to `ssh`.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVES: usize = 3;

/// Connects with russh.
#[derive(Debug, Default)]
pub struct RusshSsh;

#[async_trait]
impl Ssh for RusshSsh {
    async fn connect(&self, target: &SshTarget, limit: Duration) -> Result<Arc<dyn SshSession>, SshError> {
        let address = format!("{}:{}", target.host, target.port);
        timeout(limit, connect(target, &address)).await.unwrap_or_else(|_| {
            let message =
                format!("{address} did not complete an SSH handshake within {} s", limit.as_secs_f32());
            Err(SshError { kind: SshErrorKind::Unreachable, message })
        })
    }

    async fn listen(&self, port: u16) -> std::io::Result<Box<dyn Listener>> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        Ok(Box::new(Loopback { listener, port }))
    }
}

/// A port that only this machine reaches.
struct Loopback {
    listener: TcpListener,
    port: u16,
}

#[async_trait]
impl Listener for Loopback {
    fn port(&self) -> u16 {
        self.port
    }

    async fn accept(&self) -> std::io::Result<Box<dyn Duplex>> {
        let (stream, _) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

async fn connect(target: &SshTarget, address: &str) -> Result<Arc<dyn SshSession>, SshError> {
    let fail = |kind, message| SshError { kind, message };
    let unreachable = |why: String| fail(SshErrorKind::Unreachable, format!("{address}: {why}"));
    let stream = TcpStream::connect((target.host.as_str(), target.port))
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
    let config = client::Config {
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVES,
        nodelay: true,
        preferred: preferred(&target.host_key),
        ..client::Config::default()
    };
    let seen = Arc::new(Mutex::new(Seen::default()));
    let check = HostKeyCheck { policy: target.host_key.clone(), seen: Arc::clone(&seen) };
    let mut handle = match client::connect_stream(Arc::new(config), stream, check).await {
        Ok(handle) => handle,
        Err(error) => {
            return Err(match lock(&seen).refused.take() {
                Some(key) => fail(
                    SshErrorKind::HostKeyChanged,
                    format!("{address} shows another host key than the recorded one ({key})"),
                ),
                None => unreachable(error.to_string()),
            });
        }
    };
    let key = PrivateKeyWithHashAlg::new(Arc::clone(&target.key), None);
    match handle.authenticate_publickey(&target.user, key).await {
        Ok(AuthResult::Success) => {}
        Ok(AuthResult::Failure { .. }) => {
            return Err(fail(
                SshErrorKind::KeyRefused,
                format!("{address} refused the lease's key for user {}", target.user),
            ));
        }
        Err(error) => return Err(unreachable(error.to_string())),
    }
    let host_key = lock(&seen).accepted.clone().unwrap_or_default();
    Ok(Arc::new(Session { handle, host_key, address: address.to_owned() }))
}

/// Asks for the kinds of host key that are recorded first: a server has several, and another one would look changed.
fn preferred(policy: &HostKeyPolicy) -> Preferred {
    let mut preferred = Preferred::default();
    if let HostKeyPolicy::Known(keys) = policy {
        let recorded: Vec<Algorithm> =
            keys.iter().filter_map(|key| Some(PublicKey::from_openssh(key).ok()?.algorithm())).collect();
        let mut order = preferred.key.into_owned();
        order.sort_by_key(|algorithm| !recorded.contains(algorithm));
        preferred.key = order.into();
    }
    preferred
}

#[derive(Default)]
struct Seen {
    accepted: Option<String>,
    refused: Option<String>,
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

struct HostKeyCheck {
    policy: HostKeyPolicy,
    seen: Arc<Mutex<Seen>>,
}

impl client::Handler for HostKeyCheck {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        // We ask for no host certificates; a server that sends one all the same is not trusted.
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let mut plain = key.clone();
        plain.set_comment("");
        let shown = plain.to_openssh().map_err(russh::keys::Error::from)?.trim().to_owned();
        let accept = match &self.policy {
            HostKeyPolicy::FirstUse => true,
            HostKeyPolicy::Known(keys) => keys.iter().any(|known| known.trim() == shown),
        };
        let mut seen = lock(&self.seen);
        if accept {
            seen.accepted = Some(shown);
        } else {
            seen.refused = Some(key.fingerprint(ssh_key::HashAlg::Sha256).to_string());
        }
        Ok(accept)
    }
}

struct Session {
    handle: Handle<HostKeyCheck>,
    host_key: String,
    address: String,
}

impl Session {
    fn fail(&self, kind: SshErrorKind, why: impl std::fmt::Display) -> SshError {
        SshError { kind, message: format!("{}: {why}", self.address) }
    }

    async fn open(&self) -> Result<Channel<Msg>, SshError> {
        let channel = self.handle.channel_open_session().await;
        channel.map_err(|error| self.refused(format!("no session channel: {error}")))
    }

    fn refused(&self, why: String) -> SshError {
        let kind = if self.handle.is_closed() { SshErrorKind::Lost } else { SshErrorKind::SessionRefused };
        self.fail(kind, why)
    }

    fn lost(&self, error: &russh::Error) -> SshError {
        self.fail(SshErrorKind::Lost, format!("connection lost: {error}"))
    }
}

#[async_trait]
impl SshSession for Session {
    async fn exec(&self, command: &str, io: ExecIo) -> Result<ExecExit, SshError> {
        let channel = self.open().await?;
        channel.exec(true, command).await.map_err(|error| self.lost(&error))?;
        // A terminal that never changes.
        let (_, resizes) = mpsc::channel(1);
        Running { channel: Some(channel) }
            .run(self, Streams { input: io.stdin, resizes, output: io.output })
            .await
    }

    async fn terminal(&self, command: Option<&str>, take: TakeTerminal) -> Result<ExecExit, SshError> {
        let channel = self.open().await?;
        let io = take();
        let TerminalSize { columns, rows } = io.size;
        let asked = async {
            channel.request_pty(true, &io.name, columns, rows, 0, 0, &[]).await?;
            match command {
                Some(command) => channel.exec(true, command).await,
                None => channel.request_shell(true).await,
            }
        };
        asked.await.map_err(|error| self.lost(&error))?;
        let streams = Streams { input: Some(io.keys), resizes: io.resizes, output: io.output };
        Running { channel: Some(channel) }.run(self, streams).await
    }

    async fn dial(&self, host: &str, port: u16) -> Result<Box<dyn Duplex>, SshError> {
        let channel = self.handle.channel_open_direct_tcpip(host, port.into(), "127.0.0.1", 0).await;
        match channel {
            Ok(channel) => Ok(Box::new(channel.into_stream())),
            Err(error) => Err(self.refused(format!("no connection to {host}:{port}: {error}"))),
        }
    }

    fn host_key(&self) -> String {
        self.host_key.clone()
    }

    fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    async fn close(&self) {
        // A connection that is already gone is as closed as it gets.
        let _ = self.handle.disconnect(Disconnect::ByApplication, "", "en").await;
    }
}

/// What goes in and out while a command runs.
struct Streams {
    input: Option<mpsc::Receiver<StdinChunk>>,
    resizes: mpsc::Receiver<TerminalSize>,
    output: mpsc::Sender<Output>,
}

/// A command that is signalled when nobody waits for it any more.
struct Running {
    channel: Option<Channel<Msg>>,
}

impl Running {
    async fn run(mut self, session: &Session, streams: Streams) -> Result<ExecExit, SshError> {
        let outcome = self.pump(session, streams).await;
        if outcome.is_ok() {
            // The command has ended by itself: nothing to signal.
            self.channel = None;
        }
        outcome
    }

    async fn pump(&mut self, session: &Session, streams: Streams) -> Result<ExecExit, SshError> {
        let Some(channel) = self.channel.as_mut() else {
            return Err(session.fail(SshErrorKind::Lost, "channel already closed"));
        };
        let Streams { input, mut resizes, output } = streams;
        let mut writer = channel.make_writer();
        let feed = async move {
            use tokio::io::AsyncWriteExt;
            if let Some(mut input) = input {
                while let Some(chunk) = input.recv().await {
                    if writer.write_all(&chunk).await.is_err() {
                        // The command stopped reading; its exit status still comes.
                        return;
                    }
                }
            }
            // A failed end of input means the channel has ended, which the reader sees.
            let _ = writer.shutdown().await;
        };
        tokio::pin!(feed);
        let (mut fed, mut resizable) = (false, true);
        let mut exit = None;
        loop {
            let message = tokio::select! {
                biased;
                message = channel.wait() => message,
                () = &mut feed, if !fed => { fed = true; continue; }
                size = resizes.recv(), if resizable => {
                    resizable = size.is_some();
                    if let Some(TerminalSize { columns, rows }) = size {
                        // A connection that is gone shows in the next message.
                        let _ = channel.window_change(columns, rows, 0, 0).await;
                    }
                    continue;
                }
            };
            match message {
                Some(ChannelMsg::Data { data }) => {
                    // A receiver that went away discards output, as a closed pipe does.
                    let _ = output.send(Output::Stdout(data)).await;
                }
                Some(ChannelMsg::ExtendedData { data, ext: 1 }) => {
                    let _ = output.send(Output::Stderr(data)).await;
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => exit = Some(ExecExit::Code(exit_status)),
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    exit = Some(ExecExit::Signal(signal_word(&signal_name)));
                }
                Some(ChannelMsg::Failure) => {
                    return Err(
                        session.fail(SshErrorKind::SessionRefused, "the server refused to run a command")
                    );
                }
                Some(ChannelMsg::Close) | None => break,
                Some(_) => {}
            }
        }
        exit.ok_or_else(|| {
            session.fail(SshErrorKind::Lost, "connection lost before the command reported how it ended")
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(channel) = self.channel.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            // Best effort: the far side may be gone, and servers may ignore signals; closing ends the channel anyway.
            let _ = channel.signal(Sig::TERM).await;
            let _ = channel.close().await;
        });
    }
}

fn signal_word(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => name.clone(),
        known => format!("{known:?}"),
    }
}

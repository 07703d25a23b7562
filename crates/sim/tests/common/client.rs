//! A small SSH client and a small HTTP client over real sockets.

use russh::client::{self, AuthResult, Handle};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg, Sig};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub struct TrustAll;

impl client::Handler for TrustAll {
    type Error = russh::Error;
    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// A key of its own for each seed.
pub fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(ssh_key::private::Ed25519Keypair::from_seed(&[seed; 32]))
}

pub fn public_line(key: &PrivateKey) -> String {
    key.public_key().to_openssh().expect("a public key has a line")
}

/// Connects and tells whether the key was accepted. An error means that no SSH server answered.
pub async fn connect(port: u16, key: &PrivateKey) -> Result<Option<Handle<TrustAll>>, russh::Error> {
    let mut handle = client::connect(Arc::default(), ("127.0.0.1", port), TrustAll).await?;
    let key = PrivateKeyWithHashAlg::new(Arc::new(key.clone()), None);
    match handle.authenticate_publickey("root", key).await? {
        AuthResult::Success => Ok(Some(handle)),
        AuthResult::Failure { .. } => Ok(None),
    }
}

/// Connects as soon as the key is accepted.
pub async fn connected(port: u16, key: &PrivateKey) -> Handle<TrustAll> {
    until("an accepted key", async || connect(port, key).await.ok().flatten()).await
}

/// Asks again and again, up to a deadline, for what comes by itself.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[derive(Debug, Default, PartialEq)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<u32>,
    pub signal: Option<String>,
}

/// Reads a channel to its end.
pub async fn collect(channel: &mut Channel<client::Msg>) -> Output {
    let mut output = Output::default();
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => output.stdout.push_str(&String::from_utf8_lossy(&data)),
            ChannelMsg::ExtendedData { data, .. } => output.stderr.push_str(&String::from_utf8_lossy(&data)),
            ChannelMsg::ExitStatus { exit_status } => output.code = Some(exit_status),
            ChannelMsg::ExitSignal { signal_name, .. } => {
                output.signal = Some(match signal_name {
                    Sig::Custom(name) => name,
                    named => format!("{named:?}"),
                });
            }
            _ => {}
        }
    }
    output
}

pub async fn exec(session: &Handle<TrustAll>, command: &str) -> Output {
    let mut channel = session.channel_open_session().await.expect("a channel opens");
    channel.exec(true, command).await.expect("a command is sent");
    channel.eof().await.expect("an end of input is sent");
    collect(&mut channel).await
}

/// One HTTP connection that stays open.
pub struct Http {
    stream: TcpStream,
    key: Option<String>,
}

impl Http {
    pub async fn open(url: &str, key: Option<&str>) -> Self {
        let address = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).expect("a URL");
        let stream = TcpStream::connect(address).await.expect("the simulator listens");
        Self { stream, key: key.map(str::to_owned) }
    }

    /// Sends a request and returns status and raw body; the error is the connection's.
    pub async fn raw(&mut self, method: &str, path: &str, body: &Value) -> std::io::Result<(u16, Vec<u8>)> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let key = self.key.as_ref().map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: sim\r\n{key}content-length: {}\r\n\r\n", body.len());
        self.stream.write_all(format!("{head}{body}").as_bytes()).await?;
        let mut reply = Vec::new();
        let mut byte = [0];
        while !reply.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte).await?;
            reply.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&reply).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.trim().parse().expect("a length"));
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok((status, body))
    }

    pub async fn call(&mut self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, body) = self.raw(method, path, &body).await.expect("the connection stays open");
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

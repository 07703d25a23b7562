//! One SSH connection: who gets in, and which requests are answered how.

use super::channel;
use super::forward;
use super::machine::{Connection, Machine};
use crate::api::{Door, SshAccess};
use crate::shared::Shared;
use russh::keys::PublicKey;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, Session as Link, VerifiedPublicKey};
use russh::{Channel, ChannelId, Pty};
use std::fs;
use std::sync::{Arc, Weak};

/// The server's side of a connection. The channels do the work in tasks of their own.
pub(crate) struct Session {
    machine: Arc<Machine>,
    door: Door,
    shared: Weak<Shared>,
    /// Shown as long as the session is.
    shown: Option<Connection>,
}

impl Session {
    pub fn new(machine: Arc<Machine>, door: Door, shared: Weak<Shared>) -> Self {
        Self { machine, door, shared, shown: None }
    }

    /// Whether a key is attached and effective, or was put into the container's own file.
    fn accepts(&self, key: &PublicKey) -> bool {
        let Some(shared) = self.shared.upgrade() else { return false };
        let SshAccess::Open { keys, refuse_all: false } =
            shared.ssh_access(self.machine.container.id, self.door)
        else {
            return false;
        };
        let own = fs::read_to_string(self.machine.home().join(".ssh/authorized_keys")).unwrap_or_default();
        keys.iter()
            .map(String::as_str)
            .chain(own.lines())
            .filter_map(|line| PublicKey::from_openssh(line.trim()).ok())
            .any(|known| known.key_data() == key.key_data())
    }
}

impl Handler for Session {
    type Error = russh::Error;

    async fn auth_succeeded(&mut self, _session: &mut Link) -> Result<(), Self::Error> {
        self.shown = self.machine.connected();
        Ok(())
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(if user == "root" && self.accepts(key.public_key) { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: russh::server::PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(if user == "root" && self.accepts(offer.public_key) { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Link,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        tokio::spawn(channel::serve(channel, session.handle(), Arc::clone(&self.machine)));
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host_to_connect: &str,
        port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Link,
    ) -> Result<(), Self::Error> {
        let target = (host_to_connect.to_owned(), u16::try_from(port_to_connect).unwrap_or(0));
        tokio::spawn(forward::serve(channel, target, reply, self.machine.run()));
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Link,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Link,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Link) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut Link,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    /// Without an answer a modern `scp` waits for its subsystem forever.
    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        session: &mut Link,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }
}

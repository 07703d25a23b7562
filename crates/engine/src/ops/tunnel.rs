//! Tunnel: ports of this machine that lead to ports of an instance.

use super::{Call, Engine, Lease};
use crate::lease::LeaseId;
use crate::world::{Duplex, Listener};
use crate::{Code, Error, Result};
use futures_util::future::BoxFuture;
use serde::Serialize;
use std::time::Duration;
use tokio::task::JoinSet;

/// What to forward.
#[derive(Debug, Clone)]
pub struct TunnelRequest {
    /// Lease id, slug or instance id.
    pub identifier: String,
    /// Take over a lease that another repository made.
    pub reclaim: bool,
    /// The ports.
    pub forwards: Vec<Forward>,
}

/// One forwarded port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forward {
    /// The port on the loopback interface here; 0 takes any.
    pub local: u16,
    /// Where it leads, as the instance sees it.
    pub host: String,
    /// The port there.
    pub port: u16,
}

impl std::str::FromStr for Forward {
    type Err = Error;

    /// `8080`, `8080:80` or `8080:host:80`; an IPv6 address stands in brackets.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(Code::InvalidArgument, format!("`{text}` names no port to forward"))
                .hint("write LOCAL, LOCAL:PORT or LOCAL:HOST:PORT, such as 8080:80")
        };
        let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
        let (local, rest) = text.split_once(':').map_or((text, None), |(local, rest)| (local, Some(rest)));
        let local = number(local)?;
        let (host, port) = match rest.map(|rest| rest.rsplit_once(':').unwrap_or(("", rest))) {
            None => ("", local),
            Some((host, port)) => (host, number(port)?),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if port == 0 || (host.contains(':') && !text.contains('[')) {
            return Err(wrong());
        }
        let host = if host.is_empty() { "localhost" } else { host };
        Ok(Self { local, host: host.to_owned(), port })
    }
}

/// Ports that are open. They serve nobody until [`Tunnel::serve`] runs.
pub struct Tunnel {
    lease: Lease,
    doors: Vec<(Forward, Box<dyn Listener>)>,
}

/// What a tunnel consists of.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TunnelFacts {
    /// Lease id.
    pub lease: LeaseId,
    /// Slug.
    pub slug: String,
    /// The ports, each with the number it really has here.
    pub forwards: Vec<Forward>,
}

impl Engine {
    /// Opens the local ports and a connection to the lease.
    ///
    /// # Errors
    /// Those of [`Engine::open`]; [`Code::InvalidArgument`] for no port at all, or one that is taken.
    pub fn tunnel<'a>(&'a self, request: &'a TunnelRequest, call: &'a Call) -> BoxFuture<'a, Result<Tunnel>> {
        Box::pin(async move {
            if request.forwards.is_empty() {
                return Err(Error::new(Code::InvalidArgument, "no port to forward")
                    .hint("name one or more, such as 8080 or 8080:80"));
            }
            let mut doors = Vec::new();
            for wanted in &request.forwards {
                let listener = self.world.ssh.listen(wanted.local).await.map_err(|error| {
                    Error::new(
                        Code::InvalidArgument,
                        format!("port {} cannot be opened on 127.0.0.1: {error}", wanted.local),
                    )
                    .hint("take another local port; 0 takes any that is free")
                })?;
                doors.push((Forward { local: listener.port(), ..wanted.clone() }, listener));
            }
            let lease = self.open(&request.identifier, request.reclaim, call).await?;
            Ok(Tunnel { lease, doors })
        })
    }
}

impl Tunnel {
    /// Where the ports are and lead.
    #[must_use]
    pub fn facts(&self) -> TunnelFacts {
        let facts = self.lease.facts();
        let forwards = self.doors.iter().map(|(forward, _)| forward.clone()).collect();
        TunnelFacts { lease: facts.id.clone(), slug: facts.slug.clone(), forwards }
    }

    /// Serves every connection until the call is cancelled. A dropped SSH connection is opened again for the next one.
    /// The lease counts as used meanwhile.
    ///
    /// # Errors
    /// [`Code::Cancelled`]; [`Code::LeaseNotFound`] or [`Code::InstanceNotRunning`] once the lease was released or stopped.
    pub fn serve<'a>(self, call: &'a Call) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Self { lease, doors } = self;
            let mut waits = JoinSet::new();
            for (forward, listener) in doors {
                waits.spawn(serve_port(lease.clone(), forward, listener, call.clone()));
            }
            let ended = async { Err(lease.heartbeat().await) };
            let outcome = call.until_cancelled(ended).await;
            waits.shutdown().await;
            lease.close().await;
            outcome
        })
    }
}

/// One port, with all its connections.
async fn serve_port(lease: Lease, forward: Forward, listener: Box<dyn Listener>, call: Call) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) => {
                let (lease, forward, call) = (lease.clone(), forward.clone(), call.clone());
                connections.spawn(async move {
                    if let Err(error) = carry(&lease, &forward, stream, &call).await {
                        call.warn(format!("127.0.0.1:{}: {error}", forward.local));
                    }
                });
            }
            // Out of file descriptors, as a rule: some connections must end first.
            Err(error) => {
                call.warn(format!("127.0.0.1:{}: {error}", forward.local));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn carry(lease: &Lease, forward: &Forward, mut near: Box<dyn Duplex>, call: &Call) -> Result<()> {
    let mut far = match lease.dial(&forward.host, forward.port, call).await {
        // The SSH connection was gone, and this was what showed it: nothing was sent, so another one may carry it.
        Err(error) if error.code() == Code::SshLost => lease.dial(&forward.host, forward.port, call).await?,
        dialled => dialled?,
    };
    // Either side may break off; the other is closed with it.
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far.stream).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_in_three_ways() {
        let read = |text: &str| text.parse::<Forward>().map(|f| (f.local, f.host, f.port));
        assert_eq!(read("8080").unwrap(), (8080, "localhost".into(), 8080));
        assert_eq!(read("0:80").unwrap(), (0, "localhost".into(), 80));
        assert_eq!(read("8080:db.local:5432").unwrap(), (8080, "db.local".into(), 5432));
        assert_eq!(read("8080:[::1]:80").unwrap(), (8080, "::1".into(), 80));
        assert_eq!(read("8080::80").unwrap(), (8080, "localhost".into(), 80));
        for wrong in ["", "x", "70000", "0", "80:", "80:0", "80:x", "1:2:3:4", "80:host:", "-1"] {
            assert_eq!(read(wrong).unwrap_err().code(), Code::InvalidArgument, "{wrong}");
        }
    }
}

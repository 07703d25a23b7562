//! Ssh: the command line with which people and other tools reach a lease - the one crabbox prints, word for word.

use super::open::Use;
use super::{Call, Engine};
use crate::lease::LeaseId;
use crate::store::LeaseKey;
use crate::vast::Endpoint;
use crate::{Code, Error, Result};
use futures_util::future::BoxFuture;
use serde::Serialize;
use sha1::{Digest, Sha1};
use std::path::Path;
use std::time::Duration;

/// How long the look for the endpoint that answers may take.
const PROBE: Duration = Duration::from_secs(4);

/// How to reach a lease with the `ssh` program.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SshCommand {
    /// The words of the command.
    pub argv: Vec<String>,
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User.
    pub user: String,
    /// Path of the private key.
    pub key: String,
    /// Path of the lease's `known_hosts`.
    pub known_hosts: String,
}

impl SshCommand {
    /// Every word in single quotes, as crabbox prints it.
    #[must_use]
    pub fn line(&self) -> String {
        let quote = |word: &String| format!("'{}'", word.replace('\'', "'\\''"));
        self.argv.iter().map(quote).collect::<Vec<_>>().join(" ")
    }
}

impl Engine {
    /// The `ssh` command for a lease. Takes the endpoint that answers, binds the lease to this repository.
    ///
    /// # Errors
    /// Those of resolving; [`Code::RepositoryMismatch`] without `reclaim`; [`Code::InstanceNotRunning`] while it does not
    /// run or has no address.
    pub fn ssh_command<'a>(
        &'a self,
        identifier: &'a str,
        reclaim: bool,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<SshCommand>> {
        Box::pin(async move {
            let (claim, instance) = self.resolve_or_adopt(identifier, reclaim, call).await?;
            let id = LeaseId::parse(&claim.lease_id).ok_or_else(|| {
                Error::new(Code::ClaimCorrupt, format!("`{}` is not a lease id", claim.lease_id))
            })?;
            super::touch::check_repository(&claim, &self.settings.repo_root, reclaim)?;
            let endpoints = call.until_cancelled(self.require_usable(&claim, &instance)).await?;
            let mut resumed = self.resume(&id, &claim, None, Use::Reached, call).await?;
            let key = self.lease_key(&id).await?;
            let first = endpoints[0].clone();
            let (endpoint, answered) = match self.connect(&id, &key, endpoints, PROBE, call).await {
                Ok(connected) => {
                    connected.session.close().await;
                    (connected.endpoint, true)
                }
                Err(error) if error.code() == Code::HostKeyChanged => return Err(error),
                Err(error) => {
                    call.warn(format!("{error}; the address below did not answer just now"));
                    (first, false)
                }
            };
            if answered {
                resumed.call_off(self, instance.id, Use::Reached, call).await?;
            }
            let claim =
                self.bind_claim(&id, &claim, endpoint.host.clone(), endpoint.port, reclaim, answered).await?;
            if answered {
                self.keep_in_use(&mut resumed, &id, &claim, Use::Reached, call).await?;
            } else {
                resumed.leave(instance.id, call);
            }
            Ok(command(&key, &endpoint, &self.settings.user))
        })
    }

    /// The key of a lease on this machine.
    pub(super) async fn lease_key(&self, id: &LeaseId) -> Result<LeaseKey> {
        self.store.key(id).await?.ok_or_else(|| {
            Error::new(Code::SshRefused, format!("the SSH key of lease {id} is not on this machine"))
                .hint("use the lease from the machine that made it, or release it here with `stop`")
        })
    }
}

pub(super) fn command(key: &LeaseKey, endpoint: &Endpoint, user: &str) -> SshCommand {
    let private = key.private_path.display().to_string();
    let known_hosts = key.known_hosts_path.display().to_string();
    let mut argv = vec!["ssh".to_owned(), "-i".to_owned(), private.clone()];
    let mut option = |text: String| argv.extend(["-o".to_owned(), text]);
    for text in [
        "IdentitiesOnly=yes",
        "ForwardAgent=no",
        "ForwardX11=no",
        "ForwardX11Trusted=no",
        "BatchMode=yes",
        "ConnectTimeout=10",
        "ConnectionAttempts=3",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=2",
    ] {
        option(text.to_owned());
    }
    argv.extend(["-p".to_owned(), endpoint.port.to_string()]);
    let mut option = |text: String| argv.extend(["-o".to_owned(), text]);
    option("StrictHostKeyChecking=accept-new".to_owned());
    option(format!("UserKnownHostsFile={}", for_option(&known_hosts)));
    if cfg!(not(windows)) {
        option("ControlMaster=auto".to_owned());
        option("ControlPersist=10m".to_owned());
        option(format!("ControlPath={}", control_path(user, &key.private_path)));
    }
    argv.push(format!("{user}@{}", endpoint.host));
    SshCommand {
        argv,
        host: endpoint.host.clone(),
        port: endpoint.port,
        user: user.to_owned(),
        key: private,
        known_hosts,
    }
}

/// ssh splits option values at spaces unless they are quoted.
fn for_option(path: &str) -> String {
    if path.contains([' ', '\t', '"', '\\']) { format!("{path:?}") } else { path.to_owned() }
}

/// The path crabbox uses, so that both tools share a master connection: a digest over user, key, certificate, explicit
/// known-hosts path, host-key alias, host key and proxy command, of which a Vast lease has the first two.
fn control_path(user: &str, key: &Path) -> String {
    let key = key.display().to_string();
    let digest = Sha1::digest([user, &key, "", "", "", "", ""].join("\0"));
    format!("/tmp/crabbox-ssh-{}-%C", hex::encode(&digest[..4]))
}

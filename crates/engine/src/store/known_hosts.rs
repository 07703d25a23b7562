//! Host keys of a lease, in the `known_hosts` file beside its key; ssh writes the same file.

use super::Store;
use super::file::{At, replace, sync_folders};
use super::keys::{key_folder, known_hosts_path};
use crate::lease::LeaseId;
use crate::{Code, Error, Result};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use ssh_key::PublicKey;
use ssh_key::known_hosts::{Entry, HostPatterns, KnownHosts};

impl Store {
    /// The host keys recorded for an endpoint, in OpenSSH form without comment (`ssh-ed25519 AAAA…`). Lines that
    /// cannot be read, revoked keys and authorities are left out.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`] when the file cannot be read.
    pub async fn known_hosts(&self, lease: &LeaseId, host: &str, port: u16) -> Result<Vec<String>> {
        let path = known_hosts_path(&self.paths().keys(lease));
        let name = endpoint_name(host, port);
        self.transact(move |files, _| {
            let bytes = files.read(&path).at("read", &path)?.unwrap_or_default();
            Ok(recorded(&String::from_utf8_lossy(&bytes), &name))
        })
        .await
    }

    /// Records a host key for an endpoint, durably. One that is recorded already is not written again.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] when the key is no OpenSSH public key or the host cannot stand in the file;
    /// [`Code::LeaseBusy`] or [`Code::StateUnavailable`].
    pub async fn learn_host(&self, lease: &LeaseId, host: &str, port: u16, key: &str) -> Result<()> {
        // The host comes from the vendor: it must not be able to add a line or a pattern of its own.
        if host.is_empty() || host.contains(|c: char| !c.is_ascii_graphic() || "*?!,#|@[]".contains(c)) {
            return Err(Error::new(Code::InvalidArgument, format!("{host:?} is no host name or address"))
                .hint("look at the instance's SSH endpoint"));
        }
        let key = PublicKey::from_openssh(key).ok().and_then(|key| plain(&key)).ok_or_else(|| {
            Error::new(
                Code::InvalidArgument,
                format!("the host key of {host} port {port} is no OpenSSH public key"),
            )
            .hint("connect again; if it happens again, release the lease")
        })?;
        let name = endpoint_name(host, port);
        let id = lease.clone();
        self.locked([self.paths().claim_lock(lease)], move |files, inner| {
            let mut changed = key_folder(files, inner, &id)?;
            let folder = inner.paths.keys(&id);
            let path = known_hosts_path(&folder);
            let mut text = files.read(&path).at("read", &path)?.unwrap_or_default();
            if recorded(&String::from_utf8_lossy(&text), &name).contains(&key) {
                return Ok(());
            }
            if text.last().is_some_and(|last| *last != b'\n') {
                text.push(b'\n');
            }
            text.extend_from_slice(format!("{name} {key}\n").as_bytes());
            replace(files, inner.ambient.as_ref(), &path, &text)?;
            changed.push(folder);
            sync_folders(files, &changed)
        })
        .await
    }
}

/// The name of an endpoint in the file: the bare host for port 22, `[host]:port` for others.
fn endpoint_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

fn recorded(text: &str, name: &str) -> Vec<String> {
    KnownHosts::new(text)
        .filter_map(std::result::Result::ok)
        .filter(|entry| entry.marker().is_none() && is_of(entry, name))
        .filter_map(|entry| plain(entry.public_key()))
        .collect()
}

/// Whether an entry names exactly this endpoint, in the open or hashed. Patterns with wildcards do not count: ssh
/// never writes one, and a trust that somebody spread by hand is not ours to use.
fn is_of(entry: &Entry, name: &str) -> bool {
    match entry.host_patterns() {
        HostPatterns::Patterns(patterns) => patterns.iter().any(|pattern| pattern.eq_ignore_ascii_case(name)),
        HostPatterns::HashedName { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
            .is_ok_and(|mac| mac.chain_update(name.as_bytes()).verify_slice(hash).is_ok()),
    }
}

fn plain(key: &PublicKey) -> Option<String> {
    let mut key = key.clone();
    key.set_comment("");
    key.to_openssh().ok().map(|text| text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Bench;
    use std::process::Command;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio";

    async fn host_key(bench: &Bench, seed: u8) -> String {
        let key = bench.store.create_key(&LeaseId::from_entropy([seed; 6])).await.unwrap();
        plain(key.private.public_key()).unwrap()
    }

    #[tokio::test]
    async fn learned_keys_come_back_per_endpoint() {
        let bench = Bench::new();
        let lease = LeaseId::from_entropy([1; 6]);
        assert!(bench.store.known_hosts(&lease, "h", 22).await.unwrap().is_empty());
        let two = host_key(&bench, 2).await;
        bench.store.learn_host(&lease, "SSH9.example", 40022, &format!("{ONE} a comment")).await.unwrap();
        bench.store.learn_host(&lease, "ssh9.example", 40022, ONE).await.unwrap();
        bench.store.learn_host(&lease, "10.0.0.1", 22, &two).await.unwrap();
        let known = |host: &'static str, port| bench.store.known_hosts(&lease, host, port);
        assert_eq!(known("ssh9.example", 40022).await.unwrap(), [ONE]);
        assert_eq!(known("10.0.0.1", 22).await.unwrap(), [two]);
        assert!(known("ssh9.example", 22).await.unwrap().is_empty());
        let text = std::fs::read_to_string(known_hosts_path(&bench.paths().keys(&lease))).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with(&format!("[ssh9.example]:40022 {ONE}\n")));
    }

    #[tokio::test]
    async fn files_written_by_ssh_are_read_plain_and_hashed() {
        let bench = Bench::new();
        let lease = LeaseId::from_entropy([1; 6]);
        let path = known_hosts_path(&bench.paths().keys(&lease));
        let revoked = host_key(&bench, 3).await;
        let text = format!(
            "# note\nbroken line\n@revoked [h]:2200 {revoked}\nother,[h]:2200 {ONE} root@h\n*.example {ONE}\n[h]:2200 {ONE}"
        );
        bench.put(&path, text.as_bytes());
        assert_eq!(bench.store.known_hosts(&lease, "h", 2200).await.unwrap(), [ONE, ONE]);
        assert!(bench.store.known_hosts(&lease, "a.example", 22).await.unwrap().is_empty());
        let more = host_key(&bench, 4).await;
        bench.store.learn_host(&lease, "g", 22, &more).await.unwrap();
        assert_eq!(
            bench.store.known_hosts(&lease, "g", 22).await.unwrap(),
            [more],
            "a missing last newline does no harm"
        );
        if Command::new("ssh-keygen")
            .arg("-H")
            .arg("-f")
            .arg(&path)
            .output()
            .is_ok_and(|out| out.status.success())
        {
            let hashed = std::fs::read_to_string(&path).unwrap();
            assert!(hashed.contains("|1|"), "{hashed}");
            assert!(bench.store.known_hosts(&lease, "h", 2200).await.unwrap().contains(&ONE.to_owned()));
            assert!(bench.store.known_hosts(&lease, "h", 2201).await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn host_keys_of_every_kind_are_kept() {
        let bench = Bench::new();
        let lease = LeaseId::from_entropy([1; 6]);
        for kind in ["rsa", "ecdsa", "ed25519"] {
            let path = bench.root().join(kind);
            let made =
                Command::new("ssh-keygen").args(["-q", "-N", "", "-t", kind, "-f"]).arg(&path).output();
            // Not every system has the program.
            if !made.is_ok_and(|out| out.status.success()) {
                return;
            }
            let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
            bench.store.learn_host(&lease, kind, 22, &public).await.unwrap();
            let known = bench.store.known_hosts(&lease, kind, 22).await.unwrap();
            assert_eq!(known.len(), 1);
            assert!(public.starts_with(&known[0]), "{kind}");
        }
    }

    #[tokio::test]
    async fn hosts_and_keys_that_would_write_more_than_a_name_are_refused() {
        let bench = Bench::new();
        let lease = LeaseId::from_entropy([1; 6]);
        for host in ["", "a b", "a\nb", "a,b", "*", "!a", "|1|x", "[a]", "é"] {
            let refused = bench.store.learn_host(&lease, host, 1, ONE).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{host:?}");
        }
        let refused = bench.store.learn_host(&lease, "h", 1, "ssh-ed25519 nonsense").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        bench.store.learn_host(&lease, "2001:db8::1", 22, ONE).await.unwrap();
        assert_eq!(bench.store.known_hosts(&lease, "2001:DB8::1", 22).await.unwrap(), [ONE]);
    }
}

//! The SSH key of a lease, in crabbox's folder and form.

use super::file::{At, FOLDER, make_folder, replace, sync_folders};
use super::{Inner, Store};
use crate::lease::LeaseId;
use crate::world::Files;
use crate::{Code, Error, Result};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The key of a lease.
#[derive(Clone)]
pub struct LeaseKey {
    /// Private key.
    pub private: Arc<PrivateKey>,
    /// The trimmed line of the `.pub` file, comment included: exactly this text is sent to Vast, and compared with
    /// what Vast returns.
    pub public: String,
    /// File of the private key, for programs that take `-i`.
    pub private_path: PathBuf,
    /// File with the host keys of the lease, written by ssh and by us.
    pub known_hosts_path: PathBuf,
}

impl std::fmt::Debug for LeaseKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseKey").field("public", &self.public).finish_non_exhaustive()
    }
}

const PRIVATE: &str = "id_ed25519";
const PUBLIC: &str = "id_ed25519.pub";
const KNOWN_HOSTS: &str = "known_hosts";

impl Store {
    /// The key of a lease, made where there is none: Ed25519, no passphrase, durable before this returns.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`] when the folder cannot be used or is reached through a symbolic link, or when a
    /// key stands there that is unreadable.
    pub async fn create_key(&self, lease: &LeaseId) -> Result<LeaseKey> {
        let id = lease.clone();
        self.transact(move |files, inner| {
            // A key is ours where our operation lock stands: a power cut must not keep the key, or its folder, and lose that.
            let (folder, lock) = (inner.paths.keys(&id), inner.paths.operation_lock(&id));
            if !files.exists(&folder).at("look at", &folder)?
                && files.exists(&lock).at("look at", &lock)?
                && let Some(locks) = lock.parent()
            {
                files.sync_dir(locks).at("sync folder", locks)?;
            }
            let changed = key_folder(files, inner, &id)?;
            if let Some(key) = load(files, inner, &folder)? {
                return Ok(key);
            }
            let mut seed = [0; 32];
            inner.ambient.random(&mut seed);
            let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
            let key = PrivateKey::new(pair, format!("crabbox {id}")).map_err(defect)?;
            let pem = key.to_openssh(LineEnding::LF).map_err(defect)?;
            let public = key.public_key().to_openssh().map_err(defect)?;
            let ambient = inner.ambient.as_ref();
            // The public half first: a folder with a private key is complete.
            replace(files, ambient, &folder.join(PUBLIC), format!("{public}\n").as_bytes())?;
            replace(files, ambient, &folder.join(PRIVATE), pem.as_bytes())?;
            files.sync_dir(&folder).at("sync folder", &folder)?;
            sync_folders(files, &changed)?;
            Ok(lease_key(key, public, &folder))
        })
        .await
    }

    /// The key of a lease; `None` where there is none here.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`] when it cannot be read.
    pub async fn key(&self, lease: &LeaseId) -> Result<Option<LeaseKey>> {
        let folder = self.paths().keys(lease);
        self.transact(move |files, inner| load(files, inner, &folder)).await
    }

    /// Leases that have a key folder and our operation lock but no claim, sorted.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`] when a folder cannot be listed.
    pub async fn unclaimed_keys(&self) -> Result<Vec<LeaseId>> {
        self.transact(move |files, inner| {
            let folder = inner.paths.config.join("crabbox").join("testboxes");
            let names = files.list(&folder).at("list", &folder)?;
            let mut unclaimed = Vec::new();
            for lease in names.iter().filter_map(|name| LeaseId::parse(name.to_str()?)) {
                let (lock, claim) = (inner.paths.operation_lock(&lease), inner.paths.claim(&lease));
                if files.exists(&lock).at("look at", &lock)? && !files.exists(&claim).at("look at", &claim)? {
                    unclaimed.push(lease);
                }
            }
            Ok(unclaimed)
        })
        .await
    }

    /// Removes the key folder of a lease with everything in it; a missing one is fine. Symbolic links are removed,
    /// never followed; a folder that is itself one is refused.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`].
    pub async fn remove_keys(&self, lease: &LeaseId) -> Result<()> {
        let id = lease.clone();
        self.transact(move |files, inner| {
            let folder = inner.paths.keys(&id);
            for real in upper_folders(inner, &id) {
                if !files.exists(&real).at("look at", &real)? {
                    return Ok(());
                }
                files.create_dir(&real, FOLDER).at("remove keys below", &real)?;
            }
            remove_tree(files, &folder)?;
            let parent = folder.parent().unwrap_or(&folder);
            files.sync_dir(parent).at("sync folder", parent)
        })
        .await
    }
}

/// The folders that have to be real ones: `crabbox`, `testboxes` and the lease's.
fn upper_folders(inner: &Inner, lease: &LeaseId) -> [PathBuf; 3] {
    let crabbox = inner.paths.config.join("crabbox");
    [crabbox.clone(), crabbox.join("testboxes"), inner.paths.keys(lease)]
}

/// Makes the key folder; its mode is set each time. Returns the folders whose entries changed.
pub(super) fn key_folder(files: &dyn Files, inner: &Inner, lease: &LeaseId) -> Result<Vec<PathBuf>> {
    let mut changed = make_folder(files, &inner.paths.config)?;
    for real in upper_folders(inner, lease) {
        if !files.exists(&real).at("look at", &real)? {
            changed.extend(real.parent().map(Path::to_path_buf));
        }
        files.create_dir(&real, FOLDER).at("create folder", &real)?;
    }
    Ok(changed)
}

pub(super) fn known_hosts_path(folder: &Path) -> PathBuf {
    folder.join(KNOWN_HOSTS)
}

fn load(files: &dyn Files, inner: &Inner, folder: &Path) -> Result<Option<LeaseKey>> {
    let path = folder.join(PRIVATE);
    let Some(pem) = files.read(&path).at("read", &path)? else { return Ok(None) };
    let unusable = |reason: String| {
        Error::new(Code::StateUnavailable, format!("key {} is unusable: {reason}", path.display()))
            .hint("put the right key back; without it the machine can be released but not entered")
            .with("path", path.to_string_lossy().into_owned())
    };
    let key = PrivateKey::from_openssh(&pem).map_err(|error| unusable(error.to_string()))?;
    if key.is_encrypted() {
        return Err(unusable("it has a passphrase".to_owned()));
    }
    let public_path = folder.join(PUBLIC);
    let written = files.read(&public_path).at("read", &public_path)?;
    let public = match written.as_deref().map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned()) {
        Some(public) if !public.is_empty() => public,
        _ => {
            // crabbox refuses a key without this file, and it follows from the private one.
            let public = key.public_key().to_openssh().map_err(defect)?;
            replace(files, inner.ambient.as_ref(), &public_path, format!("{public}\n").as_bytes())?;
            public
        }
    };
    Ok(Some(lease_key(key, public, folder)))
}

fn lease_key(key: PrivateKey, public: String, folder: &Path) -> LeaseKey {
    LeaseKey {
        private: Arc::new(key),
        public,
        private_path: folder.join(PRIVATE),
        known_hosts_path: known_hosts_path(folder),
    }
}

fn remove_tree(files: &dyn Files, folder: &Path) -> Result<()> {
    for name in files.list(folder).at("list", folder)? {
        let path = folder.join(name);
        // Unlinking fails on a real folder only, so what is entered is never a symbolic link.
        if let Err(error) = files.remove(&path) {
            remove_tree(files, &path).or_else(|_| Err(error).at("remove", &path))?;
        }
    }
    files.remove_dir(folder).at("remove folder", folder)
}

fn defect(error: ssh_key::Error) -> Error {
    Error::new(Code::Internal, format!("cannot encode the lease key: {error}")).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Bench;
    use std::process::Command;

    #[tokio::test]
    async fn a_key_is_made_once_and_openssh_reads_it() {
        let bench = Bench::new();
        let lease = LeaseId::from_entropy([7; 6]);
        assert!(bench.store.key(&lease).await.unwrap().is_none());
        let key = bench.store.create_key(&lease).await.unwrap();
        assert!(
            key.public.starts_with("ssh-ed25519 AAAA") && key.public.ends_with(" crabbox cbx_070707070707")
        );
        assert_eq!(bench.store.create_key(&lease).await.unwrap().public, key.public);
        let again = bench.store.key(&lease).await.unwrap().unwrap();
        assert_eq!(again.private.public_key(), key.private.public_key());
        let written = std::fs::read_to_string(key.private_path.with_extension("pub")).unwrap();
        assert_eq!(written, format!("{}\n", key.public));
        let shown = format!("{key:?}");
        assert!(shown.contains(&key.public) && !shown.contains("PRIVATE"), "{shown}");
        #[cfg(unix)]
        for (path, mode) in [
            (bench.paths().keys(&lease), 0o700),
            (key.private_path.clone(), 0o600),
            (key.private_path.with_extension("pub"), 0o600),
        ] {
            assert_eq!(bench.files().mode(&path).unwrap(), Some(mode), "{}", path.display());
        }
        if let Ok(out) = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&key.private_path).output() {
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), key.public);
        }
        std::fs::remove_file(key.private_path.with_extension("pub")).unwrap();
        assert_eq!(
            bench.store.create_key(&lease).await.unwrap().public,
            key.public,
            "the public half is healed"
        );
    }

    #[tokio::test]
    async fn removal_takes_the_folder_and_nothing_beyond() {
        let bench = Bench::new();
        let lease = LeaseId::from_entropy([8; 6]);
        bench.store.remove_keys(&lease).await.unwrap();
        bench.store.create_key(&lease).await.unwrap();
        let folder = bench.paths().keys(&lease);
        let outside = bench.root().join("outside");
        bench.put(&outside.join("precious"), b"1");
        bench.put(&folder.join("sub").join("socket"), b"");
        #[cfg(unix)]
        std::os::unix::fs::symlink(&outside, folder.join("link")).unwrap();
        bench.store.remove_keys(&lease).await.unwrap();
        assert!(!folder.exists() && folder.parent().unwrap().exists() && outside.join("precious").exists());
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&outside, &folder).unwrap();
            assert_eq!(bench.store.remove_keys(&lease).await.unwrap_err().code(), Code::StateUnavailable);
            let refused = bench.store.create_key(&lease).await.unwrap_err();
            assert_eq!(refused.code(), Code::StateUnavailable);
            assert!(refused.to_string().contains("symbolic link"), "{refused}");
            assert!(outside.join("precious").exists());
        }
    }

    #[tokio::test]
    async fn the_public_half_stays_as_it_was_written_and_an_empty_one_is_healed() {
        let bench = Bench::new();
        let lease = LeaseId::from_entropy([7; 6]);
        let made = bench.store.create_key(&lease).await.unwrap();
        let path = made.private_path.with_extension("pub");
        let key = async || bench.store.key(&lease).await.unwrap().unwrap().public;
        // What was sent to the vendor is what is looked for there.
        std::fs::write(&path, "ssh-ed25519 AAAA somebody\n").unwrap();
        assert_eq!(key().await, "ssh-ed25519 AAAA somebody");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "ssh-ed25519 AAAA somebody\n");
        std::fs::write(&path, " \n").unwrap();
        assert_eq!(key().await, made.public);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", made.public));
    }

    #[tokio::test]
    async fn a_key_is_durable_up_to_the_first_old_folder() {
        let bench = Bench::new();
        let synced = async |id: u8| {
            let before = bench.history().len();
            bench.store.create_key(&LeaseId::from_entropy([id; 6])).await.unwrap();
            let steps = bench.history().split_off(before);
            steps.into_iter().filter(|step| step.starts_with("sync")).collect::<Vec<_>>()
        };
        let testboxes = "sync config/crabbox/testboxes";
        let first = synced(1).await;
        let own = "sync config/crabbox/testboxes/cbx_010101010101";
        assert_eq!(first, [own, testboxes, "sync config/crabbox", "sync config", "sync "]);
        assert_eq!(synced(2).await, ["sync config/crabbox/testboxes/cbx_020202020202", testboxes]);
        assert!(synced(2).await.is_empty(), "it is there");
    }

    #[tokio::test]
    async fn the_lock_that_makes_a_key_ours_is_durable_before_its_folder_is_there() {
        let bench = Bench::new();
        let lease = LeaseId::from_entropy([1; 6]);
        let _lock = bench.store.operation_lock(&lease).await.unwrap().expect("nobody has it");
        let before = bench.history().len();
        bench.store.create_key(&lease).await.unwrap();
        let steps = bench.history().split_off(before);
        let at =
            |what: &str| steps.iter().position(|step| step == what).unwrap_or_else(|| panic!("{steps:?}"));
        let locks = at("sync state/crabbox/claim-locks");
        assert!(locks < at("create config/crabbox/testboxes/cbx_010101010101"), "{steps:?}");
    }

    #[tokio::test]
    async fn a_key_is_unclaimed_where_we_worked_on_a_lease_that_has_no_claim() {
        let bench = Bench::new();
        let unclaimed = async || bench.store.unclaimed_keys().await.unwrap();
        assert!(unclaimed().await.is_empty(), "no folder");
        let [ours, theirs, claimed] = [1, 2, 3].map(|id| LeaseId::from_entropy([id; 6]));
        for lease in [&ours, &theirs, &claimed] {
            bench.store.create_key(lease).await.unwrap();
        }
        assert!(unclaimed().await.is_empty(), "nothing says that we worked on any");
        bench.put(&bench.paths().operation_lock(&ours), b"");
        bench.put(&bench.paths().operation_lock(&claimed), b"");
        bench.put(&bench.paths().claim(&claimed), b"{}");
        bench.put(&bench.paths().keys(&ours).with_file_name("notes").join("file"), b"");
        assert_eq!(unclaimed().await, [ours]);
    }

    #[tokio::test]
    async fn an_unreadable_key_is_an_error() {
        let bench = Bench::new();
        let lease = LeaseId::from_entropy([9; 6]);
        bench.put(&bench.paths().keys(&lease).join(PRIVATE), b"nonsense");
        let error = bench.store.create_key(&lease).await.unwrap_err();
        assert_eq!(error.code(), Code::StateUnavailable);
        assert!(error.to_string().contains(PRIVATE) && error.hint_text().is_some());
    }
}

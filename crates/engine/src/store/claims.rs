//! Claims: read, scan, create, change, remove.

use super::file::{At, random_hex, remove_durably, replace_durably, sync_upwards};
use super::{Inner, Store};
use crate::lease::{Claim, ClaimProblem, LeaseId, Slug};
use crate::world::Files;
use crate::{Code, Error, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::ErrorKind;

/// Size from which on an inventory leaves a file alone, bytes.
const LARGEST: usize = 1 << 20;
/// Problems that an inventory tells one by one.
const MOST_PROBLEMS: usize = 100;

/// Everything that was found in the claims folder.
#[derive(Debug, Clone, Default)]
pub struct ClaimScan {
    /// Readable claims of all providers, sorted by file name.
    pub claims: Vec<Claim>,
    /// Files that are no readable claims. They hide no other claim.
    pub problems: Vec<ClaimProblem>,
}

impl Store {
    /// The claim of a lease, read under its lock; `None` where there is none.
    ///
    /// # Errors
    /// [`Code::ClaimCorrupt`], [`Code::LeaseBusy`] or [`Code::StateUnavailable`].
    pub async fn claim(&self, lease: &LeaseId) -> Result<Option<Claim>> {
        let id = lease.clone();
        self.locked([self.paths().claim_lock(lease)], move |files, inner| read(files, inner, &id)).await
    }

    /// All claims, read without locks: a rename is atomic, so each file is one whole version, old or new.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`] when the folder cannot be listed.
    pub async fn scan_claims(&self) -> Result<ClaimScan> {
        self.transact(|files, inner| scan(files, inner, Claim::decode)).await
    }

    /// All claims as an inventory tells them: as [`Store::scan_claims`], but with every file that some tool would stumble
    /// over among the problems (larger than 1 MiB, no lease named inside), and names that are no lease identifier only
    /// by their digest. More than a hundred problems are cut.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`] when the folder cannot be listed.
    pub async fn claim_inventory(&self) -> Result<ClaimScan> {
        self.transact(|files, inner| {
            let mut found = scan(files, inner, |stem, bytes| {
                if bytes.len() > LARGEST {
                    let message = format!("the file has {} bytes, more than {LARGEST}", bytes.len());
                    return Err(ClaimProblem {
                        file: format!("{stem}.json"),
                        code: "claim_too_large",
                        message,
                    });
                }
                Claim::decode_named(stem, bytes)
            })?;
            for problem in found.problems.iter_mut().filter(|problem| problem.code == "invalid_filename") {
                // The name may hold anything, line breaks and escape sequences among it.
                problem.file = format!("sha256:{}", hex::encode(Sha256::digest(problem.file.as_bytes())));
            }
            if found.problems.len() > MOST_PROBLEMS {
                let more = found.problems.len() - MOST_PROBLEMS;
                found.problems.truncate(MOST_PROBLEMS);
                let message = format!("{more} more files are no readable claims");
                found.problems.push(ClaimProblem {
                    file: String::new(),
                    code: "problems_truncated",
                    message,
                });
            }
            Ok(found)
        })
        .await
    }

    /// Writes the first claim of a lease, durably, with a new revision, and returns it as written.
    ///
    /// # Errors
    /// [`Code::ClaimChanged`] when the lease has one already; [`Code::InvalidArgument`] when its identifier is not
    /// canonical; [`Code::LeaseBusy`] or [`Code::StateUnavailable`].
    pub async fn create_claim(&self, claim: Claim) -> Result<Claim> {
        let lease = LeaseId::parse(&claim.lease_id).ok_or_else(|| {
            Error::new(
                Code::InvalidArgument,
                format!("{:?} is no canonical lease identifier", claim.lease_id),
            )
            .hint("an identifier is cbx_ and 12 hex digits")
        })?;
        self.locked([self.paths().claim_lock(&lease)], move |files, inner| {
            create(files, inner, &lease, claim)
        })
        .await
    }

    /// Writes the first claim of a lease under the first free slug, so that no two processes of ours share one.
    ///
    /// A slug is taken when `taken_remotely` holds it or any readable claim of another lease, whatever its provider.
    /// `make` builds the claim for the slug that was found.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] when all 21 candidates are taken; otherwise as [`Store::create_claim`].
    pub async fn create_claim_with_slug(
        &self,
        lease: &LeaseId,
        wanted: &Slug,
        taken_remotely: &BTreeSet<String>,
        make: impl FnOnce(&Slug) -> Claim + Send + 'static,
    ) -> Result<Claim> {
        let (id, wanted) = (lease.clone(), wanted.clone());
        let mut taken: BTreeSet<Slug> =
            taken_remotely.iter().filter_map(|slug| Slug::normalise(slug)).collect();
        let locks = [self.paths().slug_lock(), self.paths().claim_lock(lease)];
        self.locked(locks, move |files, inner| {
            let others = scan(files, inner, Claim::decode)?.claims;
            taken.extend(others.iter().filter(|claim| claim.lease_id != id.as_str()).filter_map(Claim::slug));
            let slug = Slug::candidates(&wanted, &id).into_iter().find(|slug| !taken.contains(slug));
            let slug = slug.ok_or_else(|| {
                Error::new(Code::InvalidArgument, format!("no free slug near {wanted} for lease {id}"))
                    .hint("ask for another slug, or release leases that are not needed any more")
            })?;
            let mut claim = make(&slug);
            claim.lease_id = id.to_string();
            create(files, inner, &id, claim)
        })
        .await
    }

    /// Changes a claim: read under the lock, changed, given a new revision, written durably. Returns it as written.
    /// A removed claim is never brought back. Nothing is written when `change` fails.
    ///
    /// # Errors
    /// [`Code::ClaimMissing`] when there is none; what `change` returns; [`Code::ClaimCorrupt`], [`Code::LeaseBusy`]
    /// or [`Code::StateUnavailable`], with the old claim still in place.
    pub async fn update_claim(
        &self,
        lease: &LeaseId,
        change: impl FnOnce(&mut Claim) -> Result<()> + Send + 'static,
    ) -> Result<Claim> {
        let id = lease.clone();
        self.locked([self.paths().claim_lock(lease)], move |files, inner| {
            let mut claim = read(files, inner, &id)?.ok_or_else(|| {
                Error::new(Code::ClaimMissing, format!("the claim of lease {id} was removed"))
                    .hint("the lease was released meanwhile; list shows what is left")
                    .with("lease", id.as_str())
            })?;
            change(&mut claim)?;
            claim.lease_id = id.to_string();
            write(files, inner, &id, claim)
        })
        .await
    }

    /// Removes a claim, durably, if `still` agrees with what is read under the lock. `false` where there was none.
    ///
    /// # Errors
    /// What `still` returns; [`Code::ClaimCorrupt`], [`Code::LeaseBusy`] or [`Code::StateUnavailable`].
    pub async fn remove_claim(
        &self,
        lease: &LeaseId,
        still: impl FnOnce(&Claim) -> Result<()> + Send + 'static,
    ) -> Result<bool> {
        let id = lease.clone();
        self.locked([self.paths().claim_lock(lease)], move |files, inner| {
            let Some(claim) = read(files, inner, &id)? else { return Ok(false) };
            still(&claim)?;
            remove_durably(files, &inner.paths.claim(&id))?;
            Ok(true)
        })
        .await
    }
}

fn read(files: &dyn Files, inner: &Inner, lease: &LeaseId) -> Result<Option<Claim>> {
    let path = inner.paths.claim(lease);
    let Some(bytes) = files.read(&path).at("read", &path)? else { return Ok(None) };
    Claim::decode(lease.as_str(), &bytes).map(Some).map_err(|problem| {
        Error::new(Code::ClaimCorrupt, format!("claim {} is unreadable: {}", path.display(), problem.message))
            .hint("repair the file or move it away; an instance it stands for has to be looked after by hand")
            .with("path", path.to_string_lossy().into_owned())
            .with("problem", problem.code)
    })
}

fn scan(
    files: &dyn Files,
    inner: &Inner,
    decode: impl Fn(&str, &[u8]) -> Result<Claim, ClaimProblem>,
) -> Result<ClaimScan> {
    let folder = inner.paths.claims();
    let mut found = ClaimScan::default();
    for name in files.list(&folder).at("list", &folder)? {
        let shown = name.to_string_lossy();
        let Some(stem) = shown.strip_suffix(".json") else { continue };
        if name.to_str().is_none() {
            found.problems.push(ClaimProblem {
                file: shown.clone().into_owned(),
                code: "invalid_filename",
                message: "the file name is not UTF-8 text".to_owned(),
            });
            continue;
        }
        match files.read(&folder.join(&name)) {
            // It was removed after the folder was listed.
            Ok(None) => {}
            Ok(Some(bytes)) => match decode(stem, &bytes) {
                Ok(claim) => found.claims.push(claim),
                Err(problem) => found.problems.push(problem),
            },
            Err(error) => found.problems.push(ClaimProblem {
                file: shown.clone().into_owned(),
                code: match error.kind() {
                    ErrorKind::IsADirectory | ErrorKind::InvalidInput => "non_regular_file",
                    _ => "read_error",
                },
                message: error.to_string(),
            }),
        }
    }
    Ok(found)
}

fn create(files: &dyn Files, inner: &Inner, lease: &LeaseId, claim: Claim) -> Result<Claim> {
    let path = inner.paths.claim(lease);
    if files.exists(&path).at("look at", &path)? {
        return Err(Error::new(Code::ClaimChanged, format!("lease {lease} has a claim already"))
            .hint("look at the lease with status, then try again")
            .with("lease", lease.as_str()));
    }
    let written = write(files, inner, lease, claim)
        .and_then(|claim| sync_upwards(files, &inner.paths.state).map(|()| claim));
    written.inspect_err(|_| {
        // Renamed but not synced: whoever hears of a failure must not find half a success later.
        let _ = files.remove(&path);
    })
}

fn write(files: &dyn Files, inner: &Inner, lease: &LeaseId, mut claim: Claim) -> Result<Claim> {
    let ambient = inner.ambient.as_ref();
    claim.revision = Some(random_hex(ambient, 16));
    replace_durably(files, ambient, &inner.paths.claim(lease), &claim.encode())?;
    Ok(claim)
}

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;

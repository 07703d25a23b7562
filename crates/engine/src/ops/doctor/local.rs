//! What this machine says: configuration file, tools, state directory, key store, records. Nothing is made or changed.

use super::report::{Check, failed, found};
use crate::config::{Snapshot, own_files};
use crate::lease::LeaseId;
use crate::store::{Paths, Store};
use crate::world::{Files, World};
use crate::{Code, Error};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What crabbox needs. Nothing of ours does: SSH, keys and file transfer are built in.
const TOOLS: [&str; 4] = ["git", "ssh", "ssh-keygen", "rsync"];

/// The bits that let others in.
const OTHERS: u32 = 0o077;

/// The user's own configuration file, where it exists: as in crabbox, nobody else may read or write it. And `notes`: what
/// was hardly meant so, in whichever file.
pub(super) async fn config(world: &World, snapshot: &Snapshot, notes: &[String]) -> Option<Check> {
    let notes = (!notes.is_empty()).then(|| notes.join("; "));
    let path = match own_files(snapshot).map(|files| files.into_iter().next()) {
        Ok(Some(path)) => path,
        Ok(None) => {
            return notes.map(|notes| plain("config", "no file of the user's is read").warning(notes));
        }
        Err(error) => return Some(failed("config", &error)),
    };
    let looked = path.clone();
    let mode = world
        .disk
        .transact(move |files| if files.exists(&looked)? { files.mode(&looked).map(Some) } else { Ok(None) });
    let shown = path.display();
    match mode.await {
        Ok(None) => notes.map(|notes| plain("config", format!("{shown} is not there")).warning(notes)),
        Ok(Some(Some(mode))) if mode & OTHERS != 0 => {
            let more = notes.map(|notes| format!("; {notes}")).unwrap_or_default();
            Some(
                plain("config", format!("{shown} is open to others: mode {mode:04o}"))
                    .failing(format!("chmod 600 {}{more}", quoted(&path))),
            )
        }
        Ok(Some(_)) => {
            let check = plain("config", shown.to_string());
            Some(notes.into_iter().fold(check, Check::warning))
        }
        Err(error) => Some(failed("config", &unreadable(&path, &error))),
    }
}

/// Where crabbox's tools are.
pub(super) async fn tools(world: &World, snapshot: &Snapshot) -> Vec<Check> {
    let path = snapshot.vars.get("PATH").cloned().unwrap_or_default();
    let cwd = snapshot.cwd.clone();
    world
        .disk
        .transact(move |files| {
            let separator = if cfg!(windows) { ';' } else { ':' };
            let folders: Vec<PathBuf> = path.split(separator).map(|folder| cwd.join(folder)).collect();
            TOOLS.iter().map(|tool| tool_check(files, &folders, tool)).collect()
        })
        .await
}

fn tool_check(files: &dyn Files, folders: &[PathBuf], tool: &'static str) -> Check {
    let file = if cfg!(windows) { format!("{tool}.exe") } else { tool.to_owned() };
    match folders.iter().map(|folder| folder.join(&file)).find(|path| is_program(files, path)) {
        Some(path) => {
            let shown = path.display().to_string();
            plain(tool, shown.clone()).detail("path", shown).detail("tool", tool)
        }
        None => plain(tool, "not found on PATH").detail("tool", tool).warning(format!(
            "crabbox needs {tool} on this machine, and crabbox-vast does not; install it if you use both"
        )),
    }
}

fn is_program(files: &dyn Files, path: &Path) -> bool {
    let executable = files.mode(path).is_ok_and(|mode| mode.is_none_or(|mode| mode & 0o111 != 0));
    // Of what exists, only a folder can be listed; a missing file, or a link to one, lists as empty.
    executable && files.exists(path).unwrap_or(false) && files.list(path).is_err()
}

/// Keys are made for each lease, whatever the user's own key is.
pub(super) fn ssh_key() -> Check {
    plain("ssh-key", "per-lease").detail("mode", "per-lease")
}

/// State directory, key store, claims and journals.
pub(super) async fn records(world: &World, paths: Paths) -> Vec<Check> {
    let store = Store::new(world.disk.clone(), Arc::clone(&world.ambient), paths.clone());
    let looked = paths.clone();
    let (state, keys) =
        world.disk.transact(move |files| (state(files, &looked), key_folders(files, &looked))).await;
    let mut checks = vec![state.unwrap_or_else(|error| failed("state", &unreadable(&paths.state, &error)))];
    let (scan, journals) = tokio::join!(store.scan_claims(), store.scan_journals());
    let (scan, journals) = match scan.and_then(|scan| Ok((scan, journals?))) {
        Ok(read) => read,
        Err(error) => {
            checks.push(failed("claims", &error));
            return checks;
        }
    };
    let ours: Vec<_> = scan.claims.iter().filter(|claim| claim.is_vast()).collect();
    let unanswered: Vec<&str> = ours
        .iter()
        .filter(|claim| claim.instance_id().is_none())
        .map(|claim| claim.lease_id.as_str())
        .collect();
    let mut claims = found(
        "claims",
        format!("claims={} corrupt={} unanswered={}", ours.len(), scan.problems.len(), unanswered.len()),
    );
    if let Some(problem) = scan.problems.first() {
        let names: Vec<&str> = scan.problems.iter().map(|problem| problem.file.as_str()).collect();
        claims = claims.detail("files", names.join(", ")).warning(format!(
            "repair {} in {} or move it away ({}); an instance it stands for is looked after by nobody",
            names.join(", "),
            paths.claims().display(),
            problem.message
        ));
    } else if let Some(lease) = unanswered.first() {
        claims = claims.warning(format!(
            "a machine may have been rented for {}; `crabbox-vast stop {lease}` finds out",
            unanswered.join(", ")
        ));
    }
    checks.push(claims);
    let known: BTreeSet<&str> = scan
        .claims
        .iter()
        .map(|claim| claim.lease_id.as_str())
        .chain(journals.iter().map(|journal| journal.lease.as_str()))
        .chain(scan.problems.iter().map(|problem| problem.file.trim_end_matches(".json")))
        .collect();
    checks.push(match keys {
        Ok(folders) => key_store(&paths, folders, &known),
        Err(error) => failed("keys", &unreadable(&testboxes(&paths), &error)),
    });
    let watched = journals.iter().map(|journal| journal.tombstones().count()).sum::<usize>();
    let claimless: Vec<&str> = journals
        .iter()
        .filter(|journal| journal.tombstones().next().is_none() && journal.forgotten_at.is_none())
        // Nothing was rented, or it was given up and is watched for a day.
        .filter(|journal| !journal.nothing_is_rented() && !journal.left_nothing())
        .map(|journal| journal.lease.as_str())
        .filter(|lease| !scan.claims.iter().any(|claim| claim.lease_id == *lease))
        .collect();
    let journal = found(
        "journal",
        format!("journals={} tombstones={watched} claimless={}", journals.len(), claimless.len()),
    );
    checks.push(if claimless.is_empty() {
        journal
    } else {
        journal.warning(format!(
            "the claim of {} is lost; look for its machine with `crabbox-vast list --all`",
            claimless.join(", ")
        ))
    });
    checks
}

fn state(files: &dyn Files, paths: &Paths) -> io::Result<Check> {
    let state = &paths.state;
    // Only what exists is looked at: where a folder is missing, it will be made in the nearest one above.
    let nearest = state.ancestors().find(|folder| files.exists(folder).unwrap_or(false));
    let exists = nearest == Some(state.as_path());
    let writable = match nearest {
        Some(folder) => files.is_writable(folder)?,
        None => false,
    };
    let open = if exists {
        open_to_others(files, [state.clone(), paths.claims(), paths.claim_locks(), paths.journal()])?
    } else {
        Vec::new()
    };
    let shown = state.display().to_string();
    let check = found("state", format!("path={shown} exists={exists} writable={writable}"))
        .detail("path", shown.clone());
    Ok(if !writable {
        check.failing(format!("make {} writable: no lease can be recorded, so none is rented", quoted(state)))
    } else if !open.is_empty() {
        check.warning(format!("others can read claims: chmod 700 {}", open.join(" ")))
    } else {
        check
    })
}

/// The folders below the key store with what others can read in it.
struct KeyFolders {
    leases: Vec<LeaseId>,
    open: Vec<String>,
}

fn key_folders(files: &dyn Files, paths: &Paths) -> io::Result<KeyFolders> {
    let folder = testboxes(paths);
    let names = files.list(&folder)?;
    let leases: Vec<LeaseId> = names.iter().filter_map(|name| LeaseId::parse(name.to_str()?)).collect();
    let mut open = open_to_others(files, [folder])?;
    for lease in &leases {
        let keys = paths.keys(lease);
        open.extend(open_to_others(files, [keys.clone(), keys.join("id_ed25519")])?);
    }
    Ok(KeyFolders { leases, open })
}

fn key_store(paths: &Paths, folders: KeyFolders, known: &BTreeSet<&str>) -> Check {
    let KeyFolders { leases, open } = folders;
    let orphans: Vec<&str> =
        leases.iter().map(LeaseId::as_str).filter(|lease| !known.contains(lease)).collect();
    let check = found("keys", format!("keys={} orphaned={}", leases.len(), orphans.len()));
    if !open.is_empty() {
        check.failing(format!("others can read private keys: chmod go= {}", open.join(" ")))
    } else if !orphans.is_empty() {
        check.detail("orphans", orphans.join(", ")).warning(format!(
            "no claim belongs to {}; if no machine of theirs shows in `crabbox-vast list --all`, remove their folders from {}",
            orphans.join(", "),
            testboxes(paths).display()
        ))
    } else {
        check
    }
}

fn testboxes(paths: &Paths) -> PathBuf {
    paths.config.join("crabbox").join("testboxes")
}

/// Those of `places` that exist and let others in, ready for a shell.
fn open_to_others(files: &dyn Files, places: impl IntoIterator<Item = PathBuf>) -> io::Result<Vec<String>> {
    let mut open = Vec::new();
    for place in places {
        if files.mode(&place)?.is_some_and(|mode| mode & OTHERS != 0) {
            open.push(quoted(&place));
        }
    }
    Ok(open)
}

fn quoted(path: &Path) -> String {
    let shown = path.display().to_string();
    shlex::try_quote(&shown).map_or_else(|_| shown.clone(), std::borrow::Cow::into_owned)
}

/// A check whose message is text without `k=v` words.
fn plain(name: &'static str, message: impl Into<String>) -> Check {
    let mut check = found(name, message);
    check.details.clear();
    check
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::new(Code::StateUnavailable, format!("cannot look at {}: {error}", path.display()))
        .hint("repair its permissions")
}

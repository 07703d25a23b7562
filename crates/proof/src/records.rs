//! What the records on disk say: claims and journals, read as anybody would who finds them.

use crate::history::{Happening, Stay};
use crate::http::{changes, field, rents};
use crate::shared::{EPOCH, Shared, lock};
use crabbox_vast_sim::api::Request;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

impl Shared {
    /// The claim at this path was changed or removed, if it is one.
    pub(crate) fn note_claim(&self, path: &Path) {
        if path.parent() != Some(&self.claims) {
            return;
        }
        let Some(lease) = lease_of_file(path) else { return };
        let bytes = self.disk(|disk| disk.read(path)).ok().flatten();
        if !bytes.as_deref().is_some_and(comes_up) {
            // Gone, or what it promises is said by its own word.
            lock(&self.books).adopted.remove(&lease);
        }
        self.note_promise(&lease, bytes.as_deref());
        let claim = bytes.and_then(|bytes| leads_to(&lease, &bytes));
        let before = {
            let mut books = lock(&self.books);
            match claim {
                Some(instance) => books.claims.insert(lease.clone(), instance),
                None => books.claims.remove(&lease),
            }
        };
        match claim {
            Some(instance) if before != Some(instance) => {
                if lock(&self.books).recovering && before == Some(None) && instance.is_some() {
                    self.reach("a later process found an unclear create by its label");
                }
                self.note(Happening::Claim { lease, instance });
            }
            None if before.is_some() => self.note(Happening::Unclaimed { lease }),
            _ => {}
        }
    }

    /// Notes what the claim of a lease promises its user by now.
    fn note_promise(&self, lease: &str, claim: Option<&[u8]>) {
        let stays = {
            let mut books = lock(&self.books);
            let (rewritten, adopted) = (books.rewritten.contains(lease), books.adopted.contains(lease));
            let jump = books.jump;
            let stays = claim.and_then(|claim| stay_of(claim, jump, rewritten, adopted));
            let stays = stays.map(|stay| (stay, if matches!(stay, Stay::Until(_)) { jump } else { 0 }));
            let before = match stays {
                Some(stays) => books.promised.insert(lease.to_owned(), stays),
                None => books.promised.remove(lease),
            };
            if before == stays {
                return;
            }
            stays
        };
        self.note(Happening::Promised { lease: lease.to_owned(), stays: stays.map(|(stay, _)| stay) });
    }

    /// Somebody took a lease over: from now on its claim promises what one of a usable lease does.
    pub(crate) fn note_adoption(&self, lease: &str) {
        lock(&self.books).adopted.insert(lease.to_owned());
        self.note(Happening::Adopted { lease: lease.to_owned() });
        self.note_claim(&self.path_of(lease));
    }

    /// Reads every claim again: those that were known, and those that stand there.
    pub(crate) fn note_all_claims(&self) {
        let known: BTreeSet<String> = lock(&self.books).claims.keys().cloned().collect();
        for lease in known.into_iter().chain(self.leases_in(&self.claims)).collect::<BTreeSet<_>>() {
            self.note_claim(&self.claims.join(format!("{lease}.json")));
        }
    }

    /// Leases with a record in this folder.
    fn leases_in(&self, folder: &Path) -> Vec<String> {
        let names = self.disk(|disk| disk.list(folder));
        names.iter().filter_map(|name| lease_of_file(Path::new(name))).collect()
    }

    /// What is left of leases for good: claims but those of `kept`, and of other leases their keys and their journals. A
    /// journal that may be all that leads to a machine, of another account perhaps, stays.
    pub(crate) fn remains(&self, kept: &[String]) -> Vec<String> {
        let mut remains = Vec::new();
        let keys = self.disk(|disk| disk.list(&self.keys));
        let keys = keys.iter().filter_map(|name| Some(name.to_str()?.to_owned())).collect();
        let mut journals = self.leases_in(&self.journals);
        journals
            .retain(|lease| self.journal(&self.journal_of(lease)).is_none_or(|journal| is_over(&journal)));
        for (what, leases) in [("claim", self.leases_in(&self.claims)), ("key", keys), ("journal", journals)]
        {
            let left = leases.into_iter().filter(|lease| !kept.contains(lease));
            remains.extend(left.map(|lease| format!("the {what} of {lease}")));
        }
        remains
    }

    /// Whether a durable claim of this lease is there.
    pub(crate) fn is_claimed(&self, lease: &str) -> bool {
        let path = self.claims.join(format!("{lease}.json"));
        self.disk(|disk| disk.is_durable(&path))
            && self.durable(&path).is_some_and(|bytes| leads_to(lease, &bytes).is_some())
    }

    fn durable(&self, path: &Path) -> Option<Vec<u8>> {
        self.disk(|disk| disk.durable(path).map(<[u8]>::to_vec))
    }

    /// The disk refused a process something, or said so.
    pub(crate) fn disk_refused(&self, process: usize, what: String) {
        lock(&self.books).hindered.insert(process);
        if let Some(life) = lock(&self.lives).get(process) {
            life.strike();
        }
        self.note(Happening::DiskFault { process, what });
    }

    /// A process tried to take a lock.
    pub(crate) fn note_lock(&self, process: usize, path: &Path, taken: bool) {
        if !taken {
            self.reach("a lock was waited for");
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(lease) = name.strip_suffix(".vast-operation.lock") {
            if taken {
                self.note(Happening::Holds { process, lease: lease.to_owned() });
            }
            let kept_out = &mut lock(&self.books).kept_out;
            let pair = (process, lease.to_owned());
            if taken {
                kept_out.remove(&pair)
            } else {
                kept_out.insert(pair)
            };
        }
    }

    /// A request is about to take effect. A create, destroy, stop or start has to stand in a journal by then, where no
    /// power cut takes it away.
    pub(crate) fn look_for_record(&self, process: usize, lease: Option<&str>, request: &Request) {
        let (step, instance) = if let Some(ask) = rents(request) {
            if lease.is_some_and(|lease| self.is_attempted(lease, ask)) {
                return;
            }
            ("create", None)
        } else {
            let Some((step, instance)) = step(request) else { return };
            if !lock(&self.books).ours.contains(&instance) || self.is_open(step, instance) {
                return;
            }
            if step != "start" && self.is_excused(process, instance) {
                self.reach("a step was taken with the claim as its only record");
                return;
            }
            (step, Some(instance))
        };
        self.note(Happening::Unrecorded { process, step, instance });
    }

    /// Whether the journal of the lease awaits the answer to a create for this offer.
    fn is_attempted(&self, lease: &str, ask: u64) -> bool {
        let journal = self.journal(&self.journal_of(lease));
        let attempts = journal.as_ref().and_then(|journal| journal["attempts"].as_array());
        attempts.and_then(|attempts| attempts.last()).is_some_and(|last| {
            last["offer"].as_u64() == Some(ask) && last["outcome"].is_null() && last["instance"].is_null()
        })
    }

    /// Whether a journal has this step on this instance as begun and not ended.
    fn is_open(&self, step: &str, instance: u64) -> bool {
        let journals = self.leases_in(&self.journals).into_iter();
        journals.filter_map(|lease| self.journal(&self.journal_of(&lease))).any(|journal| {
            journal["steps"].as_array().is_some_and(|steps| {
                steps.iter().any(|one| {
                    one["kind"] == step
                        && one["instance"] == instance
                        && one["proved_at"].is_null()
                        && one["void"].is_null()
                })
            })
        })
    }

    fn journal(&self, path: &Path) -> Option<Value> {
        serde_json::from_slice(&self.durable(path)?).ok()
    }

    /// A machine is not left to bill on because its journal cannot be written: while another process holds the lease,
    /// and once the disk has refused, a durable claim is the record.
    fn is_excused(&self, process: usize, instance: u64) -> bool {
        let own = lock(&self.books).lease_of.get(&instance).cloned();
        let leads = |lease: &String| match self
            .durable(&self.path_of(lease))
            .and_then(|bytes| leads_to(lease, &bytes))
        {
            Some(Some(named)) => named == instance,
            Some(None) => own.as_ref() == Some(lease),
            None => false,
        };
        let Some(lease) = self.leases_in(&self.claims).into_iter().find(leads) else { return false };
        let books = lock(&self.books);
        books.hindered.contains(&process) || books.kept_out.contains(&(process, lease))
    }

    fn journal_of(&self, lease: &str) -> PathBuf {
        self.journals.join(format!("{lease}.json"))
    }

    fn path_of(&self, lease: &str) -> PathBuf {
        self.claims.join(format!("{lease}.json"))
    }
}

/// The step of a request on an instance that is there, as journals call it.
fn step(request: &Request) -> Option<(&'static str, u64)> {
    let instance = changes(request)?;
    let step = match (request.method.as_str(), field(&request.body, "state").as_deref()) {
        ("DELETE", _) if !request.path.contains("/ssh/") => "destroy",
        ("PUT", Some("stopped")) => "stop",
        ("PUT", Some("running")) => "start",
        _ => return None,
    };
    Some((step, instance))
}

/// The lease of a record, by the name of its file; temporary files are none.
fn lease_of_file(path: &Path) -> Option<String> {
    let lease = path.file_name()?.to_str()?.strip_suffix(".json")?;
    (!lease.starts_with('.')).then(|| lease.to_owned())
}

/// Whether a journal tells that nothing is left of what its lease rented.
fn is_over(journal: &Value) -> bool {
    let list = |name: &str| journal[name].as_array().map_or(&[][..], Vec::as_slice);
    let Some(last) = list("attempts").last() else { return true };
    let proved = |step: &Value| {
        step["kind"] == "destroy" && step["instance"] == last["instance"] && !step["proved_at"].is_null()
    };
    let refused = last["outcome"].as_str().is_some_and(|outcome| outcome.starts_with("nothing"));
    refused || list("steps").iter().any(proved)
}

/// Where a claim leads: to an instance, or to what has its lease's label. `None` where nobody could go by it: it is
/// broken, or does not say whose it is.
fn leads_to(lease: &str, claim: &[u8]) -> Option<Option<u64>> {
    let claim: Value = serde_json::from_slice(claim).ok()?;
    let account = claim["labels"]["vast_account_id"].as_str().filter(|account| !account.is_empty());
    if claim["leaseID"] != lease || claim["provider"] != "vast" || claim["labels"]["lease"] != lease {
        return None;
    }
    account?;
    match claim["cloudID"].as_str().filter(|instance| !instance.is_empty()) {
        Some(instance) => Some(Some(instance.parse().ok()?)),
        None => Some(None),
    }
}

/// Whether a claim says that its machine comes up.
fn comes_up(claim: &[u8]) -> bool {
    let claim: Option<Value> = serde_json::from_slice(claim).ok();
    claim.is_some_and(|claim| claim["labels"]["state"] == "provisioning")
}

/// What a claim promises its user. Its times are those of a clock that is `jump` milliseconds off; a lease that crabbox
/// made to expire is kept all the same, and one that was adopted is no dead acquire's any more.
fn stay_of(claim: &[u8], jump: i64, rewritten: bool, adopted: bool) -> Option<Stay> {
    let claim: Value = serde_json::from_slice(claim).ok()?;
    let label = |name: &str| claim["labels"][name].as_str();
    if claim["cloudID"].is_null() {
        return None;
    }
    let kept = label("keep") == Some("true") || rewritten;
    match label("state")? {
        "stopped" => return kept.then_some(Stay::Disk),
        "ready" | "running" | "leased" | "active" if kept => return Some(Stay::Kept),
        "ready" | "running" | "leased" | "active" => {}
        "provisioning" if adopted && kept => return Some(Stay::Kept),
        "provisioning" if adopted => {}
        _ => return None,
    }
    let expires: i64 = label("expires_at")?.parse().ok()?;
    let from_beginning = expires - i64::try_from(EPOCH).unwrap_or(0) - jump / 1000;
    Some(Stay::Until(Duration::from_secs(u64::try_from(from_beginning).unwrap_or(0))))
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;

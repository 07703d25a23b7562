//! Tests of the claims on disk: what others see, what concurrency and failing disks do.

use super::*;
use crate::lease::legal_file_stem;
use crate::store::testing::Bench;
use std::process::{Command, Stdio};
use std::time::Duration;

fn lease(n: u8) -> LeaseId {
    LeaseId::from_entropy([n; 6])
}

fn claim(lease: &LeaseId, slug: &str) -> Claim {
    Claim { lease_id: lease.to_string(), slug: slug.into(), provider: "vast".into(), ..Claim::default() }
}

fn slug(text: &str) -> Slug {
    Slug::normalise(text).unwrap()
}

#[tokio::test]
async fn a_claim_lives_through_its_life() {
    let bench = Bench::new();
    let (store, id) = (&bench.store, lease(1));
    assert_eq!(store.claim(&id).await.unwrap(), None);
    let first = store.create_claim(claim(&id, "blue-krill")).await.unwrap();
    assert_eq!(first.revision.as_ref().unwrap().len(), 32);
    assert_eq!(store.create_claim(claim(&id, "x")).await.unwrap_err().code(), Code::ClaimChanged);
    let second = store
        .update_claim(&id, |claim| {
            claim.cloud_id = "5".into();
            claim.lease_id = "cbx_ffffffffffff".into();
            Ok(())
        })
        .await
        .unwrap();
    assert_ne!(second.revision, first.revision);
    assert_eq!(store.claim(&id).await.unwrap().unwrap(), second);
    assert_eq!((second.lease_id.as_str(), second.cloud_id.as_str()), (id.as_str(), "5"));

    let refuse = || Error::new(Code::ClaimChanged, "no");
    let kept = store.update_claim(&id, move |_| Err(refuse())).await.unwrap_err();
    assert_eq!(kept.code(), Code::ClaimChanged);
    assert_eq!(store.remove_claim(&id, move |_| Err(refuse())).await.unwrap_err().code(), Code::ClaimChanged);
    assert_eq!(store.claim(&id).await.unwrap().unwrap(), second);

    assert!(
        store
            .remove_claim(&id, move |claim| (claim.cloud_id == "5").then_some(()).ok_or_else(refuse))
            .await
            .unwrap()
    );
    assert!(!store.remove_claim(&id, |_| Ok(())).await.unwrap());
    assert_eq!(store.update_claim(&id, |_| Ok(())).await.unwrap_err().code(), Code::ClaimMissing);
    assert_eq!(store.claim(&id).await.unwrap(), None, "an update never brings a claim back");
    assert_eq!(store.create_claim(claim(&id, "x")).await.unwrap().slug, "x");
    let named = store.create_claim(Claim { lease_id: "../x".into(), ..Claim::default() }).await.unwrap_err();
    assert_eq!(named.code(), Code::InvalidArgument);
    assert!(!legal_file_stem("../x"));
}

#[cfg(unix)]
#[tokio::test]
async fn files_and_folders_are_private_and_no_temporary_stays() {
    let bench = Bench::new();
    let id = lease(1);
    bench.store.create_claim(claim(&id, "a")).await.unwrap();
    let paths = bench.paths();
    for (path, mode) in [
        (paths.state.clone(), 0o700),
        (paths.claims(), 0o700),
        (paths.claim_locks(), 0o700),
        (paths.claim(&id), 0o600),
        (paths.claim_lock(&id), 0o600),
    ] {
        assert_eq!(bench.files().mode(&path).unwrap(), Some(mode), "{}", path.display());
    }
    assert_eq!(bench.files().list(&paths.claims()).unwrap(), ["cbx_010101010101.json"]);
    assert_eq!(bench.files().list(&paths.claim_locks()).unwrap(), ["cbx_010101010101.json.lock"]);
}

#[tokio::test]
async fn a_first_claim_is_durable_up_to_the_first_old_folder() {
    let bench = Bench::new();
    bench.store.create_claim(claim(&lease(1), "a")).await.unwrap();
    let order: Vec<_> = bench
        .history()
        .into_iter()
        .filter(|step| !step.starts_with("look") && !step.starts_with("lock"))
        .collect();
    let temporary = order.iter().find(|step| step.starts_with("write")).unwrap();
    assert!(temporary.starts_with("write state/crabbox/claims/.cbx_010101010101.json.tmp-"), "{temporary}");
    let named: Vec<_> = order.iter().filter(|step| *step != temporary).map(String::as_str).collect();
    assert_eq!(
        named,
        [
            // for the lock
            "create state",
            "create state/crabbox",
            "create state/crabbox/claim-locks",
            "sync state/crabbox",
            "sync state",
            "sync ",
            // for the claim
            "create state/crabbox/claims",
            "rename state/crabbox/claims/cbx_010101010101.json",
            "sync state/crabbox/claims",
            "sync state/crabbox",
            // another process might have made these a moment ago
            "sync state/crabbox",
            "sync state",
            "sync ",
        ]
    );
}

#[tokio::test]
async fn a_corrupt_file_harms_only_itself() {
    let bench = Bench::new();
    let folder = bench.paths().claims();
    bench.store.create_claim(claim(&lease(2), "two")).await.unwrap();
    bench.store.create_claim(claim(&lease(1), "one")).await.unwrap();
    bench.put(&folder.join("cbx_aaaaaaaaaaaa.json"), b"{\"sshPort\":\"22\"}");
    bench.put(&folder.join("cbx_bbbbbbbbbbbb.json"), b"{\"leaseID\":\"cbx_cccccccccccc\"}");
    bench.put(&folder.join(" odd.json"), b"{}");
    bench.put(&folder.join(".cbx_dddddddddddd.json.tmp-1"), b"half");
    std::fs::create_dir(folder.join("cbx_eeeeeeeeeeee.json")).unwrap();
    let scan = bench.store.scan_claims().await.unwrap();
    assert_eq!(scan.claims.iter().map(|c| c.slug.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    let problems: Vec<_> = scan.problems.iter().map(|p| (p.file.as_str(), p.code)).collect();
    assert_eq!(
        problems,
        [
            (" odd.json", "invalid_filename"),
            ("cbx_aaaaaaaaaaaa.json", "invalid_json"),
            ("cbx_bbbbbbbbbbbb.json", "lease_id_mismatch"),
            ("cbx_eeeeeeeeeeee.json", "non_regular_file"),
        ]
    );
    let corrupt = LeaseId::parse("cbx_aaaaaaaaaaaa").unwrap();
    assert_eq!(bench.store.claim(&corrupt).await.unwrap_err().code(), Code::ClaimCorrupt);
    assert_eq!(bench.store.update_claim(&corrupt, |_| Ok(())).await.unwrap_err().code(), Code::ClaimCorrupt);
    assert_eq!(bench.store.remove_claim(&corrupt, |_| Ok(())).await.unwrap_err().code(), Code::ClaimCorrupt);
    assert!(bench.store.claim(&lease(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn slugs_are_given_out_once() {
    let bench = Bench::new();
    let foreign = Claim { provider: "other".into(), ..claim(&lease(9), "Blue Krill") };
    bench.store.create_claim(foreign).await.unwrap();
    let id = lease(1);
    let candidates = Slug::candidates(&slug("blue-krill"), &id);
    let taken = BTreeSet::from([candidates[1].to_string()]);
    let maker = claim(&lease(7), "");
    let made = bench
        .store
        .create_claim_with_slug(&id, &slug("blue-krill"), &taken, move |slug| Claim {
            slug: slug.to_string(),
            ..maker
        })
        .await
        .unwrap();
    assert_eq!((made.slug.as_str(), made.lease_id.as_str()), (candidates[2].as_str(), id.as_str()));

    let other = lease(2);
    let all = Slug::candidates(&slug("free"), &other).iter().map(Slug::to_string).collect();
    let none = bench
        .store
        .create_claim_with_slug(&other, &slug("free"), &all, |_| Claim::default())
        .await
        .unwrap_err();
    assert_eq!((none.code(), none.exit_code()), (Code::InvalidArgument, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_allocators_never_share_a_slug() {
    let bench = Bench::new();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let store = bench.process();
        tasks.spawn(async move {
            let id = lease(n);
            let made = claim(&id, "");
            store
                .create_claim_with_slug(&id, &slug("same"), &BTreeSet::new(), move |slug| Claim {
                    slug: slug.to_string(),
                    ..made
                })
                .await
                .unwrap()
                .slug
        });
    }
    let slugs: BTreeSet<_> = tasks.join_all().await.into_iter().collect();
    assert_eq!(slugs.len(), 16);
    assert!(slugs.contains("same"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thirty_two_writers_lose_nothing() {
    let bench = Bench::new();
    let id = lease(1);
    bench.store.create_claim(claim(&id, "a")).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32 {
        let (store, id) = (bench.process(), id.clone());
        tasks.spawn(async move {
            let add = move |claim: &mut Claim| {
                claim.labels.insert(format!("writer_{n}"), "here".into());
                Ok(())
            };
            store.update_claim(&id, add).await.unwrap().revision
        });
    }
    let revisions: BTreeSet<_> = tasks.join_all().await.into_iter().collect();
    assert_eq!(revisions.len(), 32);
    assert_eq!(bench.store.claim(&id).await.unwrap().unwrap().labels.len(), 32);
}

#[tokio::test]
async fn a_failing_disk_gives_a_typed_error_and_keeps_the_old_claim() {
    for kind in [ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied] {
        for nth in 0.. {
            let bench = Bench::new();
            let id = lease(1);
            let old = bench.store.create_claim(claim(&id, "a")).await.unwrap();
            bench.fail(nth, kind);
            let changed = bench.store.update_claim(&id, |claim| {
                claim.cloud_id = "5".into();
                Ok(())
            });
            let changed = changed.await;
            if !bench.failed() {
                assert!(changed.is_ok() && nth > 4, "only {nth} steps");
                break;
            }
            let error = changed.unwrap_err();
            assert_eq!(error.code(), Code::StateUnavailable);
            assert!(error.to_string().contains("state/crabbox") && error.hint_text().is_some(), "{error}");
            let now = bench.store.claim(&id).await.unwrap().unwrap();
            // Only the sync after the rename can fail with the new claim in place.
            assert!(now == old || (now.cloud_id == "5" && error.to_string().contains("sync")), "{error}");
            assert_eq!(
                bench.files().list(&bench.paths().claims()).unwrap().len(),
                1,
                "no temporary file stays"
            );
        }
    }
}

#[tokio::test]
async fn a_create_that_fails_leaves_no_claim() {
    for nth in 0.. {
        let bench = Bench::new();
        bench.fail(nth, ErrorKind::StorageFull);
        let made = bench.store.create_claim(claim(&lease(1), "a")).await;
        if !bench.failed() {
            assert!(made.is_ok() && nth > 8, "only {nth} steps");
            break;
        }
        assert_eq!(made.unwrap_err().code(), Code::StateUnavailable);
        assert_eq!(bench.files().list(&bench.paths().claims()).unwrap().len(), 0);
    }
}

#[tokio::test]
async fn one_process_works_on_a_lease_at_a_time() {
    let bench = Bench::new();
    let other = bench.process();
    let guard = bench.store.operation_lock(&lease(1)).await.unwrap();
    assert!(guard.is_some());
    assert!(other.operation_lock(&lease(1)).await.unwrap().is_none());
    assert!(other.operation_lock(&lease(2)).await.unwrap().is_some());
    drop(guard);
    assert!(other.operation_lock(&lease(1)).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_never_given_back_is_named() {
    let bench = Bench::new();
    let path = bench.paths().claim_lock(&lease(1));
    let held = bench.store.lock_path(path.clone(), Duration::ZERO).await.unwrap().unwrap();
    let error = bench.process().claim(&lease(1)).await.unwrap_err();
    assert_eq!(error.code(), Code::LeaseBusy);
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    drop(held);
    assert_eq!(bench.process().claim(&lease(1)).await.unwrap(), None);
}

#[cfg(unix)]
#[tokio::test]
async fn the_lock_is_the_one_of_flock() {
    use std::io::{BufRead, BufReader, Write};
    let bench = Bench::new();
    let id = lease(1);
    bench.store.create_claim(claim(&id, "a")).await.unwrap();
    let path = bench.paths().claim_lock(&id);
    let held = Command::new("flock")
        .arg("-x")
        .arg(&path)
        .args(["sh", "-c", "echo held; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    // Not every system has the program.
    let Ok(mut child) = held else { return };
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    assert!(bench.store.lock_path(path.clone(), Duration::from_millis(20)).await.unwrap().is_none());
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    child.wait().unwrap();
    let ours = bench.store.lock_path(path.clone(), Duration::from_secs(5)).await.unwrap().unwrap();
    let tried = Command::new("flock").arg("-n").arg(&path).arg("true").status().unwrap();
    assert!(!tried.success(), "flock sees ours");
    drop(ours);
    assert!(Command::new("flock").arg("-n").arg(&path).arg("true").status().unwrap().success());
}

#[tokio::test]
async fn a_disk_that_runs_inline_serves_too() {
    use crate::world::{Disk, real::RealAmbient, real::RealFiles};
    use std::sync::Arc;
    let bench = Bench::new();
    let ambient = Arc::new(RealAmbient::new("bench"));
    let store = Store::new(Disk::inline(Arc::new(RealFiles)), ambient, bench.paths().clone());
    let made = store.create_claim(claim(&lease(1), "a")).await.unwrap();
    assert_eq!(bench.store.claim(&lease(1)).await.unwrap(), Some(made));
}

#[tokio::test]
async fn an_inventory_tells_what_some_tool_would_stumble_over() {
    let bench = Bench::new();
    let folder = bench.paths().claims();
    let padded = |id: &LeaseId, size: usize| {
        let mut bytes = claim(id, "large").encode();
        bytes.resize(size, b' ');
        bytes
    };
    bench.put(&folder.join("cbx_010101010101.json"), &padded(&lease(1), 1024 * 1024));
    bench.put(&folder.join("cbx_020202020202.json"), &padded(&lease(2), 1024 * 1024 + 1));
    bench.put(&folder.join("cbx_030303030303.json"), b"{}");
    bench.put(&folder.join(" odd.json"), b"{}");
    let found = bench.store.claim_inventory().await.unwrap();
    let named: Vec<_> = found.claims.iter().map(|claim| claim.lease_id.as_str()).collect();
    assert_eq!(named, [lease(1).as_str()], "a megabyte is not too large");
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(b" odd.json")));
    let problems: Vec<_> = found.problems.iter().map(|p| (p.file.as_str(), p.code)).collect();
    let [odd, large, nameless] = problems[..] else { panic!("{problems:?}") };
    assert_eq!(odd, (digest.as_str(), "invalid_filename"));
    assert_eq!(large, ("cbx_020202020202.json", "claim_too_large"));
    assert_eq!(found.problems[1].message, "the file has 1048577 bytes, more than 1048576");
    assert_eq!(nameless.0, "cbx_030303030303.json");
    assert_eq!(bench.store.scan_claims().await.unwrap().claims.len(), 3, "each of them can be worked with");
}

#[tokio::test]
async fn an_inventory_tells_a_hundred_problems_one_by_one() {
    let bench = Bench::new();
    let broken = |n: usize| bench.put(&bench.paths().claims().join(format!("cbx_{n:012x}.json")), b"{");
    (0..100).for_each(broken);
    let found = bench.store.claim_inventory().await.unwrap();
    assert_eq!(found.problems.len(), 100);
    assert!(found.problems.iter().all(|problem| problem.code == "invalid_json"));
    (100..103).for_each(broken);
    let found = bench.store.claim_inventory().await.unwrap();
    assert_eq!(found.problems.len(), 101);
    let last = found.problems.last().unwrap();
    assert_eq!((last.file.as_str(), last.code), ("", "problems_truncated"));
    assert_eq!(last.message, "3 more files are no readable claims");
}

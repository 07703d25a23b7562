//! A lease from the search to the proof that it is gone, over real HTTP, SSH and files.

use crate::bench::{Bench, collect};
use crabbox_vast_engine::ops::{AcquireRequest, ReleaseOutcome, ReleaseRequest, RunRequest};
use crabbox_vast_engine::ssh::command::Script;

fn run(words: &[&str]) -> RunRequest {
    RunRequest::new(Script::Argv(words.iter().map(|word| (*word).to_owned()).collect()))
}

#[tokio::test]
async fn a_run_rents_uses_and_destroys() {
    let bench = Bench::new().await;
    let engine = bench.engine();
    let (io, collected) = collect(Some(b"in"));
    let request = run(&["sh", "-c", "cat; echo out; echo err >&2; nvidia-smi -L; exit 7"]);
    let result = engine.run(&request, io, &bench.call()).await.expect("runs");
    let (out, err) = collected.await.expect("collected");
    let out = String::from_utf8_lossy(&out).into_owned();
    assert!(out.starts_with("inout\n") && out.contains("GPU 0:"), "{out}");
    assert_eq!(String::from_utf8_lossy(&err), "err\n");
    assert_eq!(result.exit_code, 7);
    assert_eq!(result.released, Some(true));
    assert_eq!(bench.open_instances(), 0);
    assert_eq!(bench.claims(), 0);
}

#[tokio::test]
async fn a_kept_lease_is_listed_shown_used_and_released() {
    let bench = Bench::new().await;
    let engine = bench.engine();
    let call = bench.call();
    let lease = engine
        .acquire(
            &AcquireRequest { keep: true, slug: Some("My Box".into()), ..AcquireRequest::default() },
            &call,
        )
        .await
        .expect("acquires");
    assert_eq!(lease.facts().slug, "my-box");
    let listed = engine.list(false, &call).await.expect("lists");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].labels["state"], "ready");
    let status = engine.status("my-box", &call).await.expect("shows");
    assert!(status.ready && status.keep, "{status:?}");
    let (io, collected) = collect(None);
    let mut request = run(&["pwd"]);
    request.identifier = Some("my-box".into());
    let result = engine.run(&request, io, &call).await.expect("runs");
    let (out, _) = collected.await.expect("collected");
    assert_eq!(String::from_utf8_lossy(&out).trim(), result.workdir);
    assert_eq!(result.released, None);
    let released = engine
        .release(&ReleaseRequest { identifier: "my-box".into(), action: None }, &call)
        .await
        .expect("releases");
    assert_eq!(released.outcome, ReleaseOutcome::Destroyed);
    assert_eq!((bench.open_instances(), bench.claims()), (0, 0));
}

//! The order of a smoke under scripted outcomes.

use super::*;
use std::collections::VecDeque;

/// Outcomes by step; a step without one succeeds. What is listed is scripted look by look.
#[derive(Default)]
struct Script {
    calls: Vec<&'static str>,
    doctor: Option<Error>,
    warmup: Option<Error>,
    wait: Option<Error>,
    gpus: Option<Result<usize>>,
    stops: VecDeque<Error>,
    lists: VecDeque<Vec<&'static str>>,
    planned: Vec<String>,
}

impl Script {
    fn listing(lists: &[&[&'static str]]) -> Self {
        Self { lists: lists.iter().map(|list| list.to_vec()).collect(), ..Self::default() }
    }
}

fn outcome<T>(error: &mut Option<Error>, fine: T) -> Result<T> {
    error.take().map_or(Ok(fine), Err)
}

impl Steps for Script {
    fn slug(&self) -> &str {
        "smoke-1"
    }
    async fn doctor(&mut self) -> Result<()> {
        self.calls.push("doctor");
        outcome(&mut self.doctor, ())
    }
    async fn owned(&mut self) -> Result<Vec<String>> {
        self.calls.push("list");
        Ok(self.lists.pop_front().unwrap_or_default().into_iter().map(str::to_owned).collect())
    }
    async fn warmup(&mut self) -> Result<String> {
        self.calls.push("warmup");
        outcome(&mut self.warmup, "cbx_0123456789ab".to_owned())
    }
    async fn wait(&mut self) -> Result<()> {
        self.calls.push("status");
        outcome(&mut self.wait, ())
    }
    async fn gpus(&mut self) -> Result<usize> {
        self.calls.push("run");
        self.gpus.take().unwrap_or(Ok(1))
    }
    async fn stop(&mut self) -> Result<()> {
        self.calls.push("stop");
        self.stops.pop_front().map_or(Ok(()), Err)
    }
    async fn preview(&mut self) -> Result<Vec<String>> {
        self.calls.push("cleanup");
        Ok(std::mem::take(&mut self.planned))
    }
    async fn pause(&mut self) {}
}

fn failure(code: Code) -> Option<Error> {
    Some(Error::new(code, "scripted"))
}

fn not_found() -> Error {
    Error::new(Code::LeaseNotFound, "no lease smoke-1")
}

#[tokio::test]
async fn the_lifecycle_has_one_order() {
    let mut script = Script::listing(&[&[], &["1"], &[]]);
    let smoked = drive(&mut script, 1).await;
    assert_eq!((smoked.classification, smoked.exit_code), (Classification::Passed, 0), "{smoked:?}");
    assert_eq!(
        script.calls,
        ["doctor", "list", "warmup", "status", "run", "list", "stop", "cleanup", "list"]
    );
    let steps: Vec<&str> = smoked.steps.iter().map(|step| step.step).collect();
    assert_eq!(steps, script.calls);
    assert_eq!(
        smoked.line(),
        "live smoke provider=vast classification=passed lease=cbx_0123456789ab gpus=1 nothing of ours is left"
    );
}

#[tokio::test]
async fn an_inventory_that_is_not_empty_blocks_everything() {
    let mut script = Script::listing(&[&["7 (other)"]]);
    let smoked = drive(&mut script, 1).await;
    assert_eq!((smoked.classification, smoked.exit_code), (Classification::ValidationFailed, 1));
    assert_eq!(script.calls, ["doctor", "list"], "neither warmup nor stop");
    assert!(smoked.message.contains("7 (other)"), "{smoked:?}");
}

#[tokio::test]
async fn clean_up_stays_armed_until_nothing_is_listed() {
    let mut script = Script::listing(&[&[], &["1"], &["1"], &["1"], &[]]);
    let smoked = drive(&mut script, 1).await;
    assert_eq!((smoked.classification, smoked.exit_code), (Classification::CleanupFailed, 1), "{smoked:?}");
    let stops = script.calls.iter().filter(|call| **call == "stop").count();
    assert_eq!(stops, 3, "{:?}", script.calls);
    assert_eq!(script.calls.last(), Some(&"list"));

    let mut script = Script::listing(&[&[], &["1"], &["1"], &["1"], &["1"], &["1"], &["1"]]);
    let smoked = drive(&mut script, 1).await;
    assert_eq!(smoked.classification, Classification::CleanupFailed);
    assert!(smoked.error.unwrap()["hint"].as_str().unwrap().contains("stop smoke-1"));
}

#[tokio::test]
async fn what_a_cleanup_would_still_do_is_residue() {
    let mut script = Script::listing(&[&[], &["1"], &[]]);
    script.planned = vec!["cbx_0123456789ab (smoke-1)".to_owned()];
    let smoked = drive(&mut script, 1).await;
    assert_eq!((smoked.classification, smoked.exit_code), (Classification::CleanupFailed, 1), "{smoked:?}");
    assert_eq!(script.calls.iter().filter(|call| **call == "stop").count(), 2, "{:?}", script.calls);
}

#[tokio::test]
async fn a_warmup_without_capacity_is_stopped_and_stays_a_capacity_blocker() {
    let cases = [None, Some(not_found()), Some(Error::new(Code::ApiUnavailable, "HTTP 503"))];
    for stop in cases {
        let mut script = Script { warmup: failure(Code::NoOffers), ..Script::default() };
        // Whatever the clean-up comes to, each time.
        if let Some(error) = stop {
            for _ in 0..CLEANUPS {
                script.stops.push_back(Error::new(error.code(), error.to_string()));
            }
        }
        let smoked = drive(&mut script, 1).await;
        assert_eq!(
            (smoked.classification, smoked.exit_code),
            (Classification::CapacityBlocked, 0),
            "{smoked:?}"
        );
        assert!(
            script.calls.starts_with(&["doctor", "list", "warmup", "stop", "list"]),
            "{:?}",
            script.calls
        );
    }
}

#[tokio::test]
async fn too_few_gpus_fail_and_are_given_back() {
    for (found, wanted) in [(0, 1), (1, 2)] {
        let mut script = Script { gpus: Some(Ok(found)), ..Script::default() };
        let smoked = drive(&mut script, wanted).await;
        assert_eq!((smoked.classification, smoked.exit_code), (Classification::ValidationFailed, 1));
        assert_eq!(script.calls, ["doctor", "list", "warmup", "status", "run", "stop", "list"]);
        assert_eq!(smoked.gpus, Some(found));
    }
    let mut script = Script::listing(&[&[], &["1"], &[]]);
    script.gpus = Some(Ok(8));
    assert_eq!(drive(&mut script, 2).await.classification, Classification::Passed, "more is fine");
}

#[tokio::test]
async fn a_failing_stop_is_a_failed_clean_up() {
    let mut script = Script::listing(&[&[], &["1"], &["1"], &["1"], &["1"]]);
    for _ in 0..=CLEANUPS {
        script.stops.push_back(Error::new(Code::ApiUnavailable, "HTTP 500"));
    }
    let smoked = drive(&mut script, 1).await;
    assert_eq!((smoked.classification, smoked.exit_code), (Classification::CleanupFailed, 1), "{smoked:?}");
}

#[tokio::test]
async fn each_blocker_has_its_class() {
    for (code, class, exit) in [
        (Code::InsufficientCredit, "billing_blocked", 0),
        (Code::SpendLimited, "billing_blocked", 0),
        (Code::RateLimited, "quota_blocked", 0),
        (Code::NoOffers, "capacity_blocked", 0),
        (Code::OfferGone, "capacity_blocked", 0),
        (Code::AuthFailed, "environment_blocked", 0),
        (Code::ApiUnreachable, "environment_blocked", 0),
        (Code::StartFailedImage, "validation_failed", 1),
        (Code::Internal, "validation_failed", 1),
        (Code::Cancelled, "validation_failed", 130),
    ] {
        let mut script = Script { warmup: failure(code), ..Script::default() };
        let smoked = drive(&mut script, 1).await;
        assert_eq!((smoked.classification.as_str(), smoked.exit_code), (class, exit), "{code}");
        assert!(script.calls.contains(&"stop"), "{code}: clean-up is armed");
        assert_eq!(smoked.error.unwrap()["code"], code.as_str());
    }
    let mut script = Script { doctor: failure(Code::AuthFailed), ..Script::default() };
    let smoked = drive(&mut script, 1).await;
    assert_eq!((smoked.classification, smoked.exit_code), (Classification::EnvironmentBlocked, 0));
    assert_eq!(script.calls, ["doctor"]);
    let mut script = Script { wait: failure(Code::SshTimeout), ..Script::default() };
    let smoked = drive(&mut script, 1).await;
    assert_eq!(smoked.classification, Classification::ValidationFailed);
    assert_eq!(script.calls, ["doctor", "list", "warmup", "status", "stop", "list"]);
}

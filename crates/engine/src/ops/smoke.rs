//! Live smoke: one whole lease life against the real vendor, guarded, and given back whatever happens.
//!
//! It costs money, so it asks twice: opt-in variables, and settings that bound the bill. The order of the steps is in
//! `drive`; here is what may start them and what they do.

mod drive;

pub use drive::{Classification, Smoked, Step};

use super::answer::{LARGEST_ANSWER, collect};
use super::cleanup::{CleanupItem, CleanupRequest, ItemOutcome};
use super::doctor::doctor;
use super::{AcquireRequest, Call, Engine, ExecRequest, ReleaseRequest};
use crate::config::{Settings, Snapshot};
use crate::lease::{ReleaseAction, Slug};
use crate::ssh::command::Script;
use crate::vast::client::require_key;
use crate::world::{ExecExit, ExecIo, World};
use crate::{Code, Error, Result};
use drive::{Steps, drive};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// The life of the lease, should everything else fail.
const TTL: Duration = Duration::from_secs(20 * 60);
const IDLE: Duration = Duration::from_secs(5 * 60);
/// How long the lease may take to answer after it was ready once.
const WAIT: Duration = Duration::from_secs(5 * 60);
/// Between two looks at what is left.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs the smoke, or says why not. Nothing is called before every guard was passed.
///
/// `has_key` is asked where there are no settings that say whether there is an API key: [`crate::config::has_api_key`].
pub fn smoke<'a>(
    world: &'a World,
    snapshot: &'a Snapshot,
    settings: Result<&'a Settings, Error>,
    has_key: bool,
    call: &'a Call,
) -> BoxFuture<'a, Smoked> {
    Box::pin(async move {
        let settings = match guarded(snapshot, settings, has_key) {
            Ok(settings) => settings,
            Err(refused) => return *refused,
        };
        let gpus = settings.gpu_count;
        match Real::new(world, snapshot, settings, call) {
            Ok(mut steps) => drive(&mut steps, gpus).await,
            Err(error) => Smoked::of(&error),
        }
    })
}

/// The settings of the smoke's lease, if everything that has to be asked for was asked for.
fn guarded(
    snapshot: &Snapshot,
    settings: Result<&Settings, Error>,
    has_key: bool,
) -> Result<Settings, Box<Smoked>> {
    let blocked = |why: &str| Box::new(Smoked::refused(Classification::EnvironmentBlocked, 0, why));
    if snapshot.var("CRABBOX_LIVE") != Some("1") {
        return Err(blocked("CRABBOX_LIVE=1 is not set: nothing was rented"));
    }
    let chosen = snapshot.var("CRABBOX_LIVE_PROVIDERS").unwrap_or_default();
    let mut names = chosen.split(|c: char| c == ',' || c.is_whitespace()).map(str::to_lowercase);
    if !names.any(|name| matches!(name.as_str(), "vast" | "vast-ai" | "vastai")) {
        return Err(blocked("CRABBOX_LIVE_PROVIDERS does not name vast: nothing was rented"));
    }
    let unsafe_setting = |error: &Error| Box::new(Smoked { exit_code: 2, ..Smoked::of(error) });
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) if error.code() == Code::MissingApiKey => return Err(Box::new(Smoked::of(&error))),
        Err(error) => {
            // Without a key there is nothing to run, whatever else is wrong.
            return Err(if has_key {
                unsafe_setting(&error)
            } else {
                blocked("there is no API key: nothing was rented")
            });
        }
    };
    if let Err(error) = require_key(settings.api_key.as_ref()) {
        return Err(Box::new(Smoked::of(&error)));
    }
    let wrong =
        |message: String, hint: &str| unsafe_setting(&Error::new(Code::InvalidConfig, message).hint(hint));
    if !settings.max_dph_total.is_some_and(|cap| cap.0.is_finite() && cap.0 > 0.0) {
        return Err(wrong(
            "the smoke needs a price cap above 0".to_owned(),
            "set CRABBOX_VAST_MAX_DPH_TOTAL, or pass --vast-max-dph-total",
        ));
    }
    if settings.gpu_count == 0 {
        return Err(wrong(
            "the smoke needs a GPU count of at least 1".to_owned(),
            "set CRABBOX_VAST_GPU_COUNT, or pass --vast-gpu-count",
        ));
    }
    for (key, what) in [("maxDphTotal", "price cap"), ("gpuCount", "GPU count")] {
        if settings.from_repository.contains(key) {
            return Err(wrong(
                format!("the smoke takes no {what} from a file of the repository"),
                "set CRABBOX_VAST_MAX_DPH_TOTAL and CRABBOX_VAST_GPU_COUNT, or pass --vast-max-dph-total and \
                 --vast-gpu-count",
            ));
        }
    }
    if settings.release_action != ReleaseAction::Destroy {
        return Err(wrong(
            format!(
                "the smoke destroys what it rents, and the release action is {}",
                settings.release_action.as_str()
            ),
            "set CRABBOX_VAST_RELEASE_ACTION=destroy, or leave it out",
        ));
    }
    let mut settings = settings.clone();
    settings.ttl = TTL;
    settings.ttl_explicit = true;
    settings.idle_timeout = IDLE;
    settings.release_action_explicit = true;
    Ok(settings)
}

/// The steps on the real engine.
struct Real<'a> {
    world: &'a World,
    snapshot: &'a Snapshot,
    engine: Engine,
    slug: String,
    lease: Option<String>,
    call: &'a Call,
}

impl<'a> Real<'a> {
    fn new(world: &'a World, snapshot: &'a Snapshot, settings: Settings, call: &'a Call) -> Result<Self> {
        let engine = Engine::new(world.clone(), settings)?;
        // A name of its own, so that a stop can be sent although the acquire never told one.
        let slug = format!("smoke-{}", hex::encode(engine.entropy::<4>()));
        let slug = Slug::requested(&slug)?.map_or(slug, |slug| slug.as_str().to_owned());
        Ok(Self { world, snapshot, engine, slug, lease: None, call })
    }
}

impl Steps for Real<'_> {
    fn slug(&self) -> &str {
        &self.slug
    }

    async fn doctor(&mut self) -> Result<()> {
        let report = doctor(self.world, self.snapshot, Ok(self.engine.settings()), None, self.call).await;
        let failed = report.checks.iter().find(|check| check.verdict == super::doctor::Verdict::Failed);
        let Some(failed) = failed else { return Ok(()) };
        let word = report.error.as_ref().and_then(|error| error["code"].as_str());
        let code = Code::ALL.iter().copied().find(|code| Some(code.as_str()) == word);
        let error =
            Error::new(code.unwrap_or(Code::DoctorFailed), format!("{}: {}", failed.name, failed.message));
        Err(match &failed.hint {
            Some(hint) => error.hint(hint),
            None => error,
        })
    }

    async fn owned(&mut self) -> Result<Vec<String>> {
        let listed = self.engine.list(false, &self.call.uncancelled()).await?;
        Ok(listed.iter().map(|one| format!("{} ({})", one.instance, one.name)).collect())
    }

    async fn warmup(&mut self) -> Result<String> {
        let kept = AcquireRequest { keep: true, ..AcquireRequest::default() };
        let request = AcquireRequest { slug: Some(self.slug.clone()), ..kept };
        let lease = self.engine.acquire(&request, self.call).await?;
        // A taken name got a suffix.
        self.slug = lease.facts().slug.clone();
        let id = lease.facts().id.as_str().to_owned();
        self.lease = Some(id.clone());
        lease.close().await;
        Ok(id)
    }

    async fn wait(&mut self) -> Result<()> {
        self.engine.status_wait(&self.slug, WAIT, self.call).await.map(drop)
    }

    async fn gpus(&mut self) -> Result<usize> {
        let lease = self.engine.open(&self.slug, false, self.call).await?;
        let words = ["nvidia-smi", "-L"].map(str::to_owned);
        let request =
            ExecRequest { script: Script::from_words(words.into()), env: BTreeMap::new(), folder: None };
        let (output, received) = mpsc::channel(16);
        let command = lease.exec(&request, ExecIo { stdin: None, output }, self.call);
        let answered = tokio::try_join!(command, collect(received, LARGEST_ANSWER));
        lease.close().await;
        let (exit, (text, _)) = answered?;
        match exit {
            ExecExit::Code(0) => {
                let text = String::from_utf8_lossy(&text);
                Ok(text.lines().filter(|line| line.trim_start().starts_with("GPU ")).count())
            }
            other => Err(Error::new(Code::RemoteControl, format!("nvidia-smi -L failed: {other:?}"))
                .hint("the image or the machine has no working driver; choose another image, or try again")),
        }
    }

    async fn stop(&mut self) -> Result<()> {
        let request = ReleaseRequest { identifier: self.slug.clone(), action: Some(ReleaseAction::Destroy) };
        self.engine.release(&request, &self.call.uncancelled()).await.map(drop)
    }

    async fn preview(&mut self) -> Result<Vec<String>> {
        let cleaned = self.engine.cleanup(&CleanupRequest { dry_run: true }, self.call).await?;
        // What other leases left behind is not the smoke's.
        let own = |item: &&CleanupItem| item.name == self.slug || Some(&item.lease) == self.lease.as_ref();
        let left = cleaned.items.iter().filter(own).filter(|item| item.outcome != ItemOutcome::Skipped);
        Ok(left.map(|item| format!("{} ({})", item.lease, item.name)).collect())
    }

    async fn pause(&mut self) {
        tokio::time::sleep(PAUSE).await;
    }
}

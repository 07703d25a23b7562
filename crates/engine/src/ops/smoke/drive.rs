//! The order of a smoke, and what it comes to. From the moment before the create, clean-up is armed: it ends only when
//! nothing of ours is listed any more.

use crate::{Code, Error, Result};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

/// How often what is left is given back before somebody else has to.
const CLEANUPS: usize = 3;

/// What a smoke came to, in crabbox's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Classification {
    /// Every step did what it should, and nothing is left.
    Passed,
    /// Not asked for, no key, or the API cannot be used from here.
    EnvironmentBlocked,
    /// The account cannot pay.
    BillingBlocked,
    /// The vendor limits this account.
    QuotaBlocked,
    /// Nothing that fits is for rent.
    CapacityBlocked,
    /// Unsafe settings, or a step did not do what it should.
    ValidationFailed,
    /// Something of ours is left, or may be.
    CleanupFailed,
}

impl Classification {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::EnvironmentBlocked => "environment_blocked",
            Self::BillingBlocked => "billing_blocked",
            Self::QuotaBlocked => "quota_blocked",
            Self::CapacityBlocked => "capacity_blocked",
            Self::ValidationFailed => "validation_failed",
            Self::CleanupFailed => "cleanup_failed",
        }
    }

    fn of(code: Code) -> Self {
        match code {
            Code::InsufficientCredit | Code::SpendLimited => Self::BillingBlocked,
            Code::RateLimited => Self::QuotaBlocked,
            Code::NoOffers | Code::OfferGone | Code::BidTooLow | Code::PriceCapExceeded => {
                Self::CapacityBlocked
            }
            Code::MissingApiKey
            | Code::AuthFailed
            | Code::TwoFactorRequired
            | Code::PermissionDenied
            | Code::StateUnavailable
            | Code::ApiUnreachable
            | Code::ApiTimeout
            | Code::ApiUnavailable => Self::EnvironmentBlocked,
            Code::ReleaseUnproved | Code::CleanupFailed => Self::CleanupFailed,
            _ => Self::ValidationFailed,
        }
    }
}

/// One step that was taken.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The command it stands for.
    pub step: &'static str,
    /// Whether it did what it should.
    pub ok: bool,
    /// Seconds it took.
    pub seconds: f64,
    /// What it found, or why it failed.
    pub message: String,
}

/// A finished smoke.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Smoked {
    /// What it came to.
    pub classification: Classification,
    /// The exit code of the command line: 0 for passed and blocked, 2 for unsafe settings, else 1.
    pub exit_code: u8,
    /// The lease, if one was made.
    pub lease: Option<String>,
    /// GPUs that were proved to work.
    pub gpus: Option<usize>,
    /// Why, in one line.
    pub message: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Code, message and hint, where it did not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

impl Smoked {
    /// A smoke that was not started.
    pub(super) fn refused(classification: Classification, exit_code: u8, message: &str) -> Self {
        let message = message.to_owned();
        Self { classification, exit_code, lease: None, gpus: None, message, steps: Vec::new(), error: None }
    }

    /// A smoke that came to this error and left nothing.
    pub(super) fn of(error: &Error) -> Self {
        let classification = Classification::of(error.code());
        let exit_code = match (error.code(), classification) {
            (Code::Cancelled, _) => error.exit_code(),
            (_, Classification::ValidationFailed | Classification::CleanupFailed) => 1,
            _ => 0,
        };
        let mut smoked = Self::refused(classification, exit_code, &error.to_string());
        smoked.error = error.to_json().get("error").cloned();
        smoked
    }

    /// The last line for people and logs.
    #[must_use]
    pub fn line(&self) -> String {
        let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        format!(
            "live smoke provider=vast classification={} lease={} gpus={} {}",
            self.classification.as_str(),
            dash(self.lease.clone()),
            dash(self.gpus.map(|count| count.to_string())),
            self.message
        )
    }
}

/// What the smoke does; the real engine, or a script of outcomes.
pub(super) trait Steps {
    /// The name of the lease.
    fn slug(&self) -> &str;
    /// Everything is in place.
    async fn doctor(&mut self) -> Result<()>;
    /// What of ours is rented.
    async fn owned(&mut self) -> Result<Vec<String>>;
    /// Rents; the lease.
    async fn warmup(&mut self) -> Result<String>;
    /// Waits until the lease answers.
    async fn wait(&mut self) -> Result<()>;
    /// Counts the GPUs that the driver shows.
    async fn gpus(&mut self) -> Result<usize>;
    /// Destroys.
    async fn stop(&mut self) -> Result<()>;
    /// What a cleanup would do.
    async fn preview(&mut self) -> Result<Vec<String>>;
    /// Lets some time pass.
    async fn pause(&mut self);
}

/// The steps so far.
struct Log(Vec<Step>);

impl Log {
    async fn take<T>(
        &mut self,
        step: &'static str,
        work: impl Future<Output = Result<T>>,
        tell: impl FnOnce(&T) -> String,
    ) -> Result<T> {
        let began = Instant::now();
        let outcome = work.await;
        let (ok, message) = match &outcome {
            Ok(found) => (true, tell(found)),
            Err(error) => (false, error.to_string()),
        };
        self.0.push(Step { step, ok, seconds: began.elapsed().as_secs_f64(), message });
        outcome
    }
}

/// Takes the steps in their order and gives back what was rented.
pub(super) async fn drive(steps: &mut impl Steps, wanted: u32) -> Smoked {
    let mut log = Log(Vec::new());
    let mut smoked = match before(steps, &mut log).await {
        Err(error) => Smoked::of(&error),
        Ok(()) => {
            let (mut lease, mut gpus) = (None, None);
            let outcome = life(steps, wanted, &mut log, &mut lease, &mut gpus).await;
            let mut smoked = match outcome {
                Ok(()) => Smoked::refused(Classification::Passed, 0, "nothing of ours is left"),
                Err(error) => disarm(steps, &mut log, &error).await,
            };
            (smoked.lease, smoked.gpus) = (lease, gpus);
            smoked
        }
    };
    smoked.steps = log.0;
    smoked
}

/// What must hold before money is spent.
async fn before(steps: &mut impl Steps, log: &mut Log) -> Result<()> {
    log.take("doctor", steps.doctor(), |()| "ok".to_owned()).await?;
    let owned = log.take("list", steps.owned(), |owned| count(owned)).await?;
    if owned.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidState,
        format!("the smoke needs an empty inventory, and this is rented already: {}", owned.join(", ")),
    )
    .hint("stop these leases first, or use an account of its own for the smoke"))
}

/// The life of one lease, from the create to the proof that nothing is left.
async fn life(
    steps: &mut impl Steps,
    wanted: u32,
    log: &mut Log,
    lease: &mut Option<String>,
    gpus: &mut Option<usize>,
) -> Result<()> {
    *lease = Some(log.take("warmup", steps.warmup(), |lease| format!("lease={lease}")).await?);
    log.take("status", steps.wait(), |()| "ready".to_owned()).await?;
    let found = log.take("run", steps.gpus(), |found| format!("gpus={found}")).await?;
    *gpus = Some(found);
    if u32::try_from(found).is_ok_and(|found| found < wanted) {
        return Err(Error::new(
            Code::RemoteControl,
            format!("nvidia-smi lists {found} GPUs where at least {wanted} were asked for"),
        )
        .hint("the machine is not what was offered; try again, which takes another"));
    }
    let owned = log.take("list", steps.owned(), |owned| count(owned)).await?;
    if owned.len() != 1 {
        return Err(Error::new(
            Code::InvalidState,
            format!("one lease should be listed, and it is {}: {}", owned.len(), owned.join(", ")),
        )
        .hint("something else rents on this account meanwhile, or the list is wrong"));
    }
    log.take("stop", steps.stop(), |()| "destroyed".to_owned()).await?;
    let planned =
        log.take("cleanup", steps.preview(), |planned| format!("planned={}", planned.len())).await?;
    let left = log.take("list", steps.owned(), |owned| count(owned)).await?;
    match (left.is_empty(), planned.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(residue(&planned)),
        (false, _) => Err(residue(&left)),
    }
}

fn count(owned: &[String]) -> String {
    format!("leases={}", owned.len())
}

fn residue(left: &[String]) -> Error {
    Error::new(Code::CleanupFailed, format!("left after the stop: {}", left.join(", ")))
        .hint("`crabbox-vast list` shows it; stop it, or destroy it in the Vast console")
}

/// Gives back what a failed life may have left, until nothing is listed. The failure keeps its class, unless something
/// is left; that nothing fits was for rent is no failure of the clean-up in any case: then nothing was rented.
async fn disarm(steps: &mut impl Steps, log: &mut Log, error: &Error) -> Smoked {
    let mut smoked = Smoked::of(error);
    let mut why = None;
    for attempt in 0..CLEANUPS {
        if attempt > 0 {
            steps.pause().await;
        }
        let stopped = match log.take("stop", steps.stop(), |()| "destroyed".to_owned()).await {
            Err(error) if error.code() == Code::LeaseNotFound => Ok(()),
            stopped => stopped,
        };
        let owned = log.take("list", steps.owned(), |owned| count(owned)).await;
        why = match (stopped, owned) {
            (_, Ok(left)) if !left.is_empty() => Some(residue(&left)),
            (Ok(()), Ok(_)) => None,
            (Err(error), _) | (Ok(()), Err(error)) => Some(error),
        };
        if why.is_none() {
            break;
        }
    }
    match why {
        Some(left) if smoked.classification != Classification::CapacityBlocked => {
            let slug = steps.slug().to_owned();
            let error = Error::new(Code::CleanupFailed, format!("{error}; and the clean-up failed: {left}"))
                .hint(format!("run `crabbox-vast stop {slug}`, then look at `crabbox-vast list`"));
            Smoked::of(&error)
        }
        // Nothing was rented, so that what is left cannot be the smoke's.
        Some(left) => {
            smoked.message = format!("{}; and: {left}", smoked.message);
            smoked
        }
        None => smoked,
    }
}

#[cfg(test)]
#[path = "drive_tests.rs"]
mod tests;

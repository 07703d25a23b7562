//! A machine that stands still although nobody stopped it with us: outbid, out of credit, at the end of its contract, or
//! stopped by others. The vendor shows all four alike; the account's credit and the contract's date tell them apart.

use super::open::ended_hint;
use super::{Call, Engine};
use crate::lease::labels::{self, key};
use crate::lease::{Claim, Dollars, InstanceId, LeaseId, moment};
use crate::store::{Journal, StepKind};
use crate::vast::Instance;
use crate::{Code, Error, Result};
use std::time::Duration;

/// How long the look at the account may take: the cause is told with the loss, and must not hold it up.
const LOOK: Duration = Duration::from_secs(10);

/// Why it stands still.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Halt {
    /// Somebody bid more.
    Outbid,
    /// The account's credit is used up; what is left of it, $.
    NoCredit(Dollars),
    /// The host's contract is over, since this time, Unix seconds on the vendor's clock.
    ContractOver(i64),
    /// By hand in the console, with another tool, or by its host; or the account could not be read.
    Others,
}

impl Halt {
    /// What happened, behind "instance 7 ".
    pub(super) fn why(self) -> String {
        match self {
            Self::Outbid => "was stopped because somebody bid more for its machine".to_owned(),
            Self::NoCredit(left) => {
                format!("was stopped because the account's credit is used up ({left} left)")
            }
            Self::ContractOver(at) => {
                format!("was stopped because its host's contract ended at {}", moment(at))
            }
            Self::Others => "was stopped by others".to_owned(),
        }
    }

    /// What to do about a lease that was ready once.
    pub(super) fn advice(self, slug: &str) -> String {
        let give_back = format!("`stop {slug} --vast-release-action destroy`");
        match self {
            Self::Outbid => format!(
                "its disk is billed on; it resumes by itself once your bid is the highest again, or give it back with \
                 {give_back} and take another with a higher --bid or on demand"
            ),
            Self::NoCredit(_) => format!(
                "its disk is billed on, and Vast destroys it in the end: add credit on the Vast billing page, then \
                 `start {slug}` while its GPUs are free, or give it back with {give_back}"
            ),
            Self::ContractOver(_) => format!(
                "its data is removed about two days after the end: give it back with {give_back} and take another"
            ),
            Self::Others => format!("its disk is billed on; {}", ended_hint(slug)),
        }
    }

    /// As the failure of whoever wanted to use it. `slug` names the lease where it is one that was ready.
    pub(super) fn error(self, id: InstanceId, slug: Option<&str>) -> Error {
        let code = match self {
            Self::Outbid => Code::Outbid,
            Self::NoCredit(_) => Code::InsufficientCredit,
            Self::ContractOver(_) | Self::Others => Code::InstanceNotRunning,
        };
        let hint = match (slug, self) {
            (Some(slug), _) => self.advice(slug),
            (None, Self::Outbid) => "bid more (--bid), or rent on demand".to_owned(),
            (None, Self::NoCredit(_)) => "add credit on the Vast billing page".to_owned(),
            (None, Self::ContractOver(_)) => "take another machine".to_owned(),
            (None, Self::Others) => "see the Vast console for who stopped it".to_owned(),
        };
        Error::new(code, format!("instance {id} {}", self.why())).hint(hint).with("instance", id.0)
    }
}

impl Engine {
    /// Why the instance of a lease stands still; `None` where it does not, or where we stopped it, or are about to.
    pub(super) async fn halt(&self, instance: &Instance, claim: Option<&Claim>) -> Option<Halt> {
        let by_us = claim.and_then(|claim| claim.label(key::STATE)).is_some_and(labels::is_terminal);
        if by_us || !instance.is_stopped() {
            return None;
        }
        // Apart, so that the many who ask need no room for the calls that hardly ever are made.
        Box::pin(async {
            if self.is_stopping(instance.id, claim).await {
                return None;
            }
            Some(self.why_halted(instance).await)
        })
        .await
    }

    /// Whether a stop of ours is on its way: it shows before the claim says so.
    async fn is_stopping(&self, instance: InstanceId, claim: Option<&Claim>) -> bool {
        let Some(id) = claim.and_then(|claim| LeaseId::parse(&claim.lease_id)) else { return false };
        let journal = self.store.journal(&id).await.ok().flatten();
        let sent = |journal: Journal| {
            journal.is_open(StepKind::Stop, instance) && !journal.is_wish(StepKind::Stop, instance)
        };
        journal.is_some_and(sent)
    }

    /// Why an instance that shows all of its states as stopped is so, which none of us did. Reads the account.
    pub(super) async fn why_halted(&self, instance: &Instance) -> Halt {
        let account = tokio::time::timeout(LOOK, self.client.account()).await;
        let credit = account.ok().and_then(Result::ok).and_then(|account| account.credit);
        let now = self.unix_now() - self.client.clock_skew().unwrap_or(0);
        if let Some(credit) = credit.filter(|credit| *credit <= 0.0) {
            return Halt::NoCredit(Dollars(credit));
        }
        match instance.contract_ends_at() {
            Some(end) if end <= now => Halt::ContractOver(end),
            _ if instance.is_bid == Some(true) => Halt::Outbid,
            _ => Halt::Others,
        }
    }

    /// Puts the cause of a halt into the error of a start that it ended.
    pub(super) async fn with_cause(&self, error: Error, last: Option<Instance>, call: &Call) -> Error {
        let ended = matches!(error.code(), Code::Outbid | Code::InstanceNotRunning);
        let Some(last) = last.filter(|last| ended && last.is_stopped()) else { return error };
        let looked = Box::pin(call.until_cancelled(async { Ok(self.why_halted(&last).await) }));
        match looked.await {
            Ok(Halt::Others) | Err(_) => error,
            Ok(halt) => halt.error(last.id, None),
        }
    }
}

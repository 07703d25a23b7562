//! What a cleanup was asked for, and what it tells: every decision, the counts, and what kept it from being complete.

use super::recovery::Suspect;
use super::unfinished::Unfinished;
use crate::lease::{Claim, InstanceId, LeaseId};
use crate::{Code, Error, Result};
use serde::Serialize;
use serde_json::Value;

/// How to clean up.
#[derive(Debug, Clone, Default)]
pub struct CleanupRequest {
    /// Only say what would be done: nothing is changed, here or at Vast.
    pub dry_run: bool,
}

/// What an item is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemKind {
    /// An instance that stays.
    Skip,
    /// An instance to be destroyed.
    Delete,
    /// A lease that a dead process left unfinished.
    Recover,
    /// A claim whose instance is gone.
    Forget,
    /// A key that belongs to no lease any more.
    ForgetKeys,
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemOutcome {
    /// It was left as it is.
    Skipped,
    /// It would be done without `dry_run`.
    Planned,
    /// Destroyed and proved gone.
    Destroyed,
    /// Somebody else had destroyed it; proved, and forgotten.
    AlreadyGone,
    /// Proved: nothing was ever rented; forgotten.
    NeverCreated,
    /// Stopped; its disk is billed.
    Stopped,
    /// An instance was found for a claim that named none.
    Bound,
    /// Claim and key are removed.
    Forgotten,
    /// Not done: no claim authorises it. A dry run says so of what a real run would refuse.
    Refused,
    /// Not done: it went wrong.
    Failed,
}

/// One decision of a cleanup and what came of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanupItem {
    /// What it is about.
    pub action: ItemKind,
    /// The lease.
    pub lease: String,
    /// The instance, where there is one.
    pub instance: Option<InstanceId>,
    /// Slug, or what the list shows.
    pub name: String,
    /// Why.
    pub reason: Option<String>,
    /// What became of it.
    pub outcome: ItemOutcome,
    /// Code, message and hint of a refusal or failure.
    pub error: Option<Value>,
    #[serde(skip)]
    pub(super) code: Option<Code>,
    /// What a dead process left, where it is about that.
    #[serde(skip)]
    pub(super) why: Option<Unfinished>,
}

/// How many items came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanupSummary {
    /// Instances destroyed, or found destroyed.
    pub destroyed: usize,
    /// Instances stopped.
    pub stopped: usize,
    /// Claims and keys removed without an instance.
    pub forgotten: usize,
    /// Left as they are.
    pub skipped: usize,
    /// What a real run would do.
    pub planned: usize,
    /// Refused for want of a claim; in a dry run what a real run would refuse.
    pub refused: usize,
    /// Went wrong.
    pub failed: usize,
}

/// A finished cleanup.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cleaned {
    /// Whether nothing was to be changed.
    pub dry_run: bool,
    /// Every decision, in order.
    pub items: Vec<CleanupItem>,
    /// What should be looked at by hand.
    pub problems: Vec<String>,
    /// The counts.
    pub summary: CleanupSummary,
    #[serde(skip)]
    cut: Option<Cut>,
}

/// Why a cleanup ended before it had seen to everything.
#[derive(Debug, Clone)]
struct Cut {
    code: Code,
    message: String,
    hint: Option<String>,
}

impl CleanupItem {
    /// What a dead process left of a lease, nothing done yet.
    pub(super) fn of_suspect(suspect: &Suspect, reason: impl Into<String>) -> Self {
        let (instance, why) = (suspect.instance, Some(suspect.why));
        Self { instance, why, ..Self::of_lease(ItemKind::Recover, &suspect.claim, reason) }
    }

    /// An item about a lease with a claim, nothing done yet.
    pub(super) fn of_lease(action: ItemKind, claim: &Claim, reason: impl Into<String>) -> Self {
        Self {
            action,
            lease: claim.lease_id.clone(),
            instance: claim.instance_id(),
            name: claim.slug.clone(),
            reason: Some(reason.into()),
            outcome: ItemOutcome::Skipped,
            error: None,
            code: None,
            why: None,
        }
    }

    /// Whether nothing else is to be decided about its lease: of one whose machine could not be stopped, or which has a surplus
    /// one, it is to be asked all the same whether its time is over.
    pub(super) fn settles_its_lease(&self) -> bool {
        match self.why {
            Some(Unfinished::Surplus) => false,
            Some(Unfinished::Stop | Unfinished::Start | Unfinished::Run) => {
                self.outcome != ItemOutcome::Failed
            }
            _ => true,
        }
    }

    /// A further instance of its lease, where it is about one.
    pub(super) fn surplus(&self) -> Option<InstanceId> {
        self.instance.filter(|_| self.why == Some(Unfinished::Surplus))
    }

    /// An item about a key without a lease.
    pub(super) fn of_key(lease: &LeaseId) -> Self {
        Self {
            action: ItemKind::ForgetKeys,
            lease: lease.to_string(),
            instance: None,
            name: String::new(),
            reason: Some("no claim and no instance".to_owned()),
            outcome: ItemOutcome::Skipped,
            error: None,
            code: None,
            why: None,
        }
    }

    /// The item with its outcome.
    pub(super) fn ended(mut self, outcome: Result<ItemOutcome>) -> Self {
        match outcome {
            Ok(outcome) => self.outcome = outcome,
            Err(error) => {
                let refused = error.exit_code() == 2;
                self.outcome = if refused { ItemOutcome::Refused } else { ItemOutcome::Failed };
                self.code = Some(error.code());
                self.error = error.to_json().get_mut("error").map(Value::take);
            }
        }
        self
    }

    /// What went wrong, in one line.
    #[must_use]
    pub fn error_message(&self) -> Option<&str> {
        self.error.as_ref()?.get("message")?.as_str()
    }

    /// The line of the decision; for instances the one crabbox prints.
    #[must_use]
    pub fn line(&self) -> String {
        let reason = self.reason.as_deref().unwrap_or_default();
        let instance = self.instance.map(|id| id.to_string()).unwrap_or_default();
        let (lease, name) = (&self.lease, &self.name);
        match self.action {
            ItemKind::Skip => format!("skip server id={instance} name={name} reason={reason}"),
            ItemKind::Delete => format!("delete server id={instance} name={name}"),
            ItemKind::Recover => {
                let outcome = serde_json::to_value(self.outcome).unwrap_or_default();
                let outcome = outcome.as_str().unwrap_or_default();
                format!("recover lease={lease} name={name} outcome={outcome} reason={reason}")
            }
            ItemKind::Forget => format!("forget lease={lease} name={name} reason={reason}"),
            ItemKind::ForgetKeys => format!("forget keys lease={lease} reason={reason}"),
        }
    }
}

impl Cleaned {
    /// The document: the result, and as `error` what [`Cleaned::failure`] says, where it says something.
    #[must_use]
    pub fn to_json(&self) -> Value {
        Error::beside(self, self.failure())
    }

    /// With `cut` it is what was done until then.
    pub(super) fn new(
        dry_run: bool,
        items: Vec<CleanupItem>,
        problems: Vec<String>,
        cut: Option<&Error>,
    ) -> Self {
        let mut summary = CleanupSummary::default();
        for item in &items {
            let count = match item.outcome {
                ItemOutcome::Skipped | ItemOutcome::Bound => &mut summary.skipped,
                ItemOutcome::Planned => &mut summary.planned,
                ItemOutcome::Destroyed | ItemOutcome::AlreadyGone => &mut summary.destroyed,
                ItemOutcome::Stopped => &mut summary.stopped,
                ItemOutcome::NeverCreated | ItemOutcome::Forgotten => &mut summary.forgotten,
                ItemOutcome::Refused => &mut summary.refused,
                ItemOutcome::Failed => &mut summary.failed,
            };
            *count += 1;
        }
        let cut = cut.map(|error| Cut {
            code: error.code(),
            message: error.to_string(),
            hint: error.hint_text().map(str::to_owned),
        });
        Self { dry_run, items, problems, summary, cut }
    }

    /// The summary in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let CleanupSummary { destroyed, stopped, forgotten, skipped, planned, refused, failed } =
            self.summary;
        if self.dry_run {
            let counts = [(refused, "refused"), (failed, "failed")];
            let bad = counts.iter().filter(|(count, _)| *count > 0);
            let bad: String = bad.map(|(count, word)| format!(", {count} {word}")).collect();
            return format!("cleanup: dry run, {planned} to do, {skipped} skipped{bad}");
        }
        format!(
            "cleanup: {destroyed} destroyed, {stopped} stopped, {forgotten} forgotten, {skipped} skipped, \
             {refused} refused, {failed} failed"
        )
    }

    /// What kept the cleanup from being complete, if anything did: what cut it short, else the first refusal or failure,
    /// which speaks for all. A dry run that foresees a refusal has done all it was asked for, as crabbox's.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        if let Some(Cut { code, message, hint }) = &self.cut {
            let error = Error::new(*code, message.clone());
            return Some(match hint {
                Some(hint) => error.hint(hint),
                None => error,
            });
        }
        let counts = |item: &&CleanupItem| !(self.dry_run && item.outcome == ItemOutcome::Refused);
        let bad: Vec<&CleanupItem> =
            self.items.iter().filter(|item| item.code.is_some()).filter(counts).collect();
        let (first, others) = bad.split_first()?;
        let (code, message) = (first.code?, first.error_message()?);
        let more = others.len();
        let others = if more == 0 { String::new() } else { format!("; and {more} more") };
        let error = Error::new(code, format!("{message}{others}"));
        let hint = first.error.as_ref().and_then(|error| error.get("hint")?.as_str());
        Some(match hint {
            Some(hint) => error.hint(hint),
            None => error,
        })
    }
}

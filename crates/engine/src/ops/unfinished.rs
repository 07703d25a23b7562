//! What a process that died had not finished about a lease, and whether somebody uses the lease since: judged from claim
//! and journal alone.

use crate::lease::labels;
use crate::lease::{Claim, InstanceId, ReleaseAction, State, Sweep, claim_state, parse_rfc3339, sweep, unix};
use crate::store::{Journal, Step, StepKind};
use std::time::Duration;

/// The slowest heartbeat of a use, by whichever program; a shorter idle timeout makes it quicker.
const SLOWEST_BEAT: Duration = Duration::from_secs(300);

/// How late a heartbeat may be before the use counts as over.
const BEAT_MARGIN: Duration = Duration::from_secs(60);

/// What a dead process had not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// A create whose answer nobody knows.
    Create,
    /// An acquire of which an instance is known.
    Acquire,
    /// A failed acquire of crabbox, whose instance could not be destroyed.
    Rollback,
    /// A destroy without proof.
    Destroy,
    /// Surplus instances under the same label, to be destroyed.
    Surplus,
    /// A stop without proof.
    Stop,
    /// A start that never became ready.
    Start,
    /// A run whose lease was for it alone.
    Run,
}

impl Unfinished {
    /// In words, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Unfinished::Create => "its create was never answered",
            Unfinished::Acquire => "its acquire was never finished",
            Unfinished::Rollback => "its failed acquire was never cleaned up",
            Unfinished::Destroy => "its destroy was never proved",
            Unfinished::Surplus => "a surplus instance was never proved gone",
            Unfinished::Stop => "its stop was never proved",
            Unfinished::Start => "its start was never finished",
            Unfinished::Run => "the run it was for has died",
        }
    }

    /// Why it is left alone all the same.
    pub fn but_in_use(self) -> String {
        format!("{}, but it was used a moment ago", self.as_str())
    }
}

/// What is unfinished about a lease, as far as its records tell; that its process is dead is the caller's to know.
///
/// A claim without our journal is crabbox's: of those only the unanswered create and the failed clean-up of a lease
/// that was not to be kept are certainly nobody's work any more.
///
/// Where it is more than one thing, what is about the lease's own instance comes first.
pub(super) fn unfinished(claim: &Claim, journal: Option<&Journal>) -> Vec<Unfinished> {
    let own = unfinished_own(claim, journal);
    // Whoever ends the lease ends these with it.
    let alone = matches!(own, None | Some(Unfinished::Start | Unfinished::Stop | Unfinished::Run));
    let surplus = claim
        .instance_id()
        .zip(journal)
        .is_some_and(|(instance, journal)| alone && !journal.open_destroys(Some(instance)).is_empty());
    own.into_iter().chain(surplus.then_some(Unfinished::Surplus)).collect()
}

/// What is unfinished about the lease's own instance, or its create.
fn unfinished_own(claim: &Claim, journal: Option<&Journal>) -> Option<Unfinished> {
    let Some(instance) = claim.instance_id() else {
        let known = journal.is_some() || claim.recovery() == claim_state(State::Intent).1;
        return known.then_some(Unfinished::Create);
    };
    let (kept, action) = (labels::keep(&claim.labels), labels::release_action(&claim.labels));
    let Some(journal) = journal else {
        // crabbox keeps the word of recovery when it uses such a lease after all: state and times tell the use.
        let (state, recovery, _) = claim_state(State::Releasing);
        let failed = claim.state() == state && claim.recovery() == recovery && is_unused(claim);
        return (failed && !kept).then_some(Unfinished::Rollback);
    };
    let open = |kind| journal.is_open(kind, instance);
    // Whoever used it since has made it ready: an unfinished acquire is told by the claim, too. One that was being given
    // back was not to be used any more, however far it had got.
    let starting = match claim.state() {
        "provisioning" | "ambiguous-create" => !journal.was_ready() && journal.adopted_at.is_none(),
        other => other == claim_state(State::Releasing).0,
    };
    if open(StepKind::Destroy) {
        Some(Unfinished::Destroy)
    } else if starting && !journal.attempts.is_empty() {
        Some(Unfinished::Acquire)
    } else if open(StepKind::Start) {
        Some(Unfinished::Start)
    } else if open(StepKind::Stop) {
        Some(Unfinished::Stop)
    } else if journal.holder.is_some() && !kept && action != ReleaseAction::Keep {
        Some(Unfinished::Run)
    } else {
        None
    }
}

/// Whether nobody used a lease since it was claimed; what cannot be read may have been a use.
fn is_unused(claim: &Claim) -> bool {
    let (claimed, used) = (parse_rfc3339(&claim.claimed_at), parse_rfc3339(&claim.last_used_at));
    claimed.zip(used).is_some_and(|(claimed, used)| used <= claimed)
}

/// Whether somebody uses the lease since its holder, its stop or its destroy was recorded. A use shows by its heartbeats.
/// Those of a run that died are like anybody's, so of its lease only a use by crabbox counts, which dates the lease anew:
/// who joins a run's own lease with this program shares its end, as when the run ends well. Of one that is to be destroyed
/// nothing else is left to count either, for a use by this program calls the destroy off.
pub(super) fn in_use(claim: &Claim, journal: Option<&Journal>, why: Unfinished, now: i64) -> bool {
    let Some(journal) = journal else { return false };
    if why == Unfinished::Destroy
        && let Some(instance) = claim.instance_id().filter(|instance| journal.gives_up(*instance))
    {
        return is_somebodys(claim, Some(journal.created_at), instance);
    }
    let open = |kind| {
        let steps = journal.steps.iter().filter(move |step| step.kind == kind && step.is_open());
        steps.map(|step| step.requested_at).max()
    };
    let since = match why {
        Unfinished::Run => journal.holder.as_ref().map(|holder| holder.since),
        Unfinished::Stop => open(StepKind::Stop),
        Unfinished::Destroy => open(StepKind::Destroy),
        _ => None,
    };
    let by_crabbox = labels::created_at(&claim.labels).is_some_and(|dated| dated > journal.created_at);
    if matches!(why, Unfinished::Run | Unfinished::Destroy) && !by_crabbox {
        return false;
    }
    let touched = labels::last_touched_at(&claim.labels);
    let Some((_, touched)) = since.zip(touched).filter(|(since, touched)| touched > since) else {
        return false;
    };
    if why == Unfinished::Destroy {
        // It ends as every lease does.
        return sweep(&claim.labels, now) != Sweep::Delete;
    }
    let beat = labels::idle_timeout(&claim.labels).map_or(SLOWEST_BEAT, |idle| (idle / 3).min(SLOWEST_BEAT));
    let silent = i64::try_from((beat + BEAT_MARGIN).as_secs()).unwrap_or(i64::MAX);
    now.saturating_sub(touched) < silent
}

/// What the next command makes of an instance that a process left which died; none where it leaves it alone.
pub(super) fn end_to_come(claim: &Claim, journal: Option<&Journal>, now: i64) -> Option<StepKind> {
    let instance = claim.instance_id()?;
    let why = unfinished_own(claim, journal).filter(|why| !in_use(claim, journal, *why, now))?;
    match why {
        Unfinished::Start if reached_since(claim, journal, instance) => None,
        Unfinished::Start | Unfinished::Stop => Some(StepKind::Stop),
        Unfinished::Run if labels::release_action(&claim.labels) == ReleaseAction::Stop => {
            Some(StepKind::Stop)
        }
        _ => Some(StepKind::Destroy),
    }
}

/// Whether the claim says that commands run on the lease.
pub(super) fn is_usable(claim: &Claim) -> bool {
    matches!(claim.state(), "ready" | "running")
}

/// Whether the claim says that commands run on the lease, or that it was stopped to be kept: it is its user's.
pub(super) fn was_usable(claim: &Claim) -> bool {
    is_usable(claim) || claim.state() == claim_state(State::Stopped).0
}

/// Whether somebody else has what an acquire, begun at `begun`, gives up: got in to it, which dates the claim's last use anew
/// as an acquire never does, or stopped it to be kept. crabbox dates it also where it fails to get in.
pub(super) fn is_somebodys(claim: &Claim, begun: Option<i64>, instance: InstanceId) -> bool {
    let used = || {
        let last = parse_rfc3339(&claim.last_used_at).map(unix);
        last.zip(begun).is_none_or(|(last, begun)| last != begun)
    };
    let theirs = claim.state() == claim_state(State::Stopped).0 || is_usable(claim) && used();
    theirs && claim.instance_id() == Some(instance)
}

/// Whether somebody used a lease since its unfinished start was recorded. A start takes the word `ready` out of the claim
/// before; one that is older says nothing, as of a lease that others stopped.
pub(super) fn reached_since(claim: &Claim, journal: Option<&Journal>, instance: InstanceId) -> bool {
    let open = |step: &&Step| step.kind == StepKind::Start && step.instance == instance.0 && step.is_open();
    let started = journal.and_then(|journal| journal.steps.iter().find(open)).map(|step| step.requested_at);
    let touched = labels::last_touched_at(&claim.labels);
    is_usable(claim) && started.zip(touched).is_some_and(|(started, touched)| touched >= started)
}

#[cfg(test)]
#[path = "unfinished_tests.rs"]
mod tests;

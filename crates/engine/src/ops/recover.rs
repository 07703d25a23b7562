//! Finding out what became of a create whose answer was lost: look for the label, adopt exactly one, or prove none.

use super::gone::{SECOND_LOOK, VISIBILITY};
use super::provenance::{Provenance, Sorted, ambiguous_label};
use super::{Call, Engine, Phase};
use crate::lease::{InstanceId, LeaseId};
use crate::store::{Journal, StepKind};
use crate::vast::{Filter, Instance};
use crate::{Code, Error, Result};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// What the label showed.
pub(super) enum Recovered {
    /// This instance is the lease's; further ones with the same label exist and are surplus.
    Found {
        /// The oldest.
        instance: Box<Instance>,
        /// The others, to be destroyed.
        surplus: Vec<InstanceId>,
        /// Which create made which, as far as it can be told: an index into the attempts.
        made_by: BTreeMap<InstanceId, usize>,
    },
    /// The whole visibility window passed and a complete list shows none: nothing was rented.
    Nothing,
}

impl Recovered {
    /// The first of the lease's own instances with the others as surplus; `None` of none.
    pub(super) fn of(found: Vec<Instance>, made_by: BTreeMap<InstanceId, usize>) -> Option<Self> {
        let mut found = found.into_iter();
        let instance = Box::new(found.next()?);
        let surplus = found.map(|instance| instance.id).collect();
        Some(Recovered::Found { instance, surplus, made_by })
    }
}

impl Engine {
    /// Looks for instances of `lease` by label until one of its own shows or `window` is over. Two complete lists, ten
    /// seconds apart and the second after the window, and an answered call after them, are the proof that there is none.
    ///
    /// # Errors
    /// [`Code::CreateAmbiguous`] when the API did not let us see, [`Code::LeaseAmbiguous`] when what carries the label
    /// may be somebody else's; the claim stays.
    pub(super) async fn recover_by_label(
        &self,
        lease: &LeaseId,
        slug: &str,
        window: Duration,
        call: &Call,
    ) -> Result<Recovered> {
        if let Ok(Some(journal)) = self.store.journal(lease).await
            && journal.nothing_is_rented()
        {
            // What carries the label was rented elsewhere, under the same lease id.
            return Ok(Recovered::Nothing);
        }
        let opened = Instant::now();
        let mut first_empty: Option<Instant> = None;
        let mut last;
        loop {
            let window_over = opened.elapsed() >= window;
            let left = window.saturating_sub(opened.elapsed()).as_secs();
            call.phase(
                Phase::Recover,
                format!("the answer to the create was lost: looking for {lease} by its label, {left} s left"),
            );
            match self.labelled(lease, slug).await {
                Ok((found, complete)) => {
                    let Sorted { ours, others, made_by, settled } = found;
                    let none = ours.is_empty();
                    // One that an earlier create made says nothing of the last one, whose own may show yet.
                    if (settled || window_over)
                        && let Some(found) = Recovered::of(ours, made_by)
                    {
                        tell_of_others(lease, &others, call);
                        return Ok(found);
                    }
                    if none && complete && opened.elapsed() + SECOND_LOOK >= window {
                        // One empty list proves little, and an early one nothing: two do, ten seconds apart, the
                        // second after the window.
                        let since = *first_empty.get_or_insert_with(Instant::now);
                        if window_over && since.elapsed() >= SECOND_LOOK {
                            if !others.is_empty() {
                                return Err(ambiguous_label(lease, &others));
                            }
                            self.vouch().await?;
                            return Ok(Recovered::Nothing);
                        }
                    }
                    last = "nothing of its last create is visible yet".to_owned();
                }
                Err(error) if error.code() == Code::LeaseAmbiguous => return Err(error),
                Err(error) => last = error.to_string(),
            }
            if opened.elapsed() >= window + VISIBILITY {
                return Err(Error::new(
                    Code::CreateAmbiguous,
                    format!("whether the create of lease {lease} rented a machine cannot be told: {last}"),
                )
                .hint(format!("its claim is kept: run `stop {slug}` when the API answers again"))
                .with("lease", lease.as_str()));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Records that the further instances of a lost create are to be destroyed: before the claim names the one that is
    /// kept, as from then on nobody looks for them by their label.
    pub(super) async fn begin_surplus(
        &self,
        journal: &mut Journal,
        surplus: &[InstanceId],
        made_by: &BTreeMap<InstanceId, usize>,
    ) -> Result<()> {
        if surplus.is_empty() {
            return Ok(());
        }
        let now = self.unix_now();
        for extra in surplus {
            journal.begin(StepKind::Destroy, *extra, now);
            if let Some(attempt) = made_by.get(extra) {
                journal.surplus(*attempt, *extra);
            }
        }
        self.store.write_journal(journal).await
    }

    /// Instances whose ownership label names this lease and slug, or that a refusal of its create named, oldest first and
    /// told apart by what its records say of its creates; and whether the list was complete.
    ///
    /// # Errors
    /// [`Code::LeaseAmbiguous`] when more of them may be ours than creates were left unanswered.
    pub(super) async fn labelled(&self, lease: &LeaseId, slug: &str) -> Result<(Sorted, bool)> {
        // Everything is listed, not one exact label: the state in the label may have moved on.
        let inventory = self.client.list(&Filter::All).await?;
        // A machine of this lease that was given up and proved gone may linger in the list: it is not what a later
        // create made.
        let read = self.store.journal(lease).await;
        let unreadable = read.is_err();
        let journal = read.ok().flatten();
        let claim = self.store.claim(lease).await?;
        let mut provenance = Provenance::of(claim.as_ref(), journal.as_ref(), self.client.clock_skew());
        if unreadable {
            provenance = provenance.without_journal();
        }
        let given_up = |id| journal.iter().flat_map(Journal::tombstones).any(|(gone, _)| gone == id);
        let mut found: Vec<Instance> = inventory
            .instances
            .into_iter()
            .filter(|instance| !instance.is_unloaded() && !given_up(instance.id))
            .filter(|instance| {
                let label = instance.ownership();
                label.is_some_and(|label| label.lease == lease.as_str() && label.slug == slug)
                    || instance.label.is_none() && provenance.names(instance.id)
            })
            .collect();
        found.sort_by_key(|instance| instance.id);
        // While nothing shows, which may take many looks, there is nothing to compare it with.
        if !found.is_empty()
            && let Ok(Some(key)) = self.store.key(lease).await
        {
            provenance = provenance.with_key(&key.public);
        }
        Ok((provenance.sort(lease, found)?, inventory.complete))
    }
}

/// What is not ours although it carries our label is left alone, and told.
pub(super) fn tell_of_others(lease: &LeaseId, others: &[InstanceId], call: &Call) {
    for other in others {
        call.warn(format!(
            "instance {other} carries the label of lease {lease} and was not made by it: it is left alone"
        ));
    }
}

//! The lease as a state machine: one table, from which the picture in the documentation is drawn.
//!
//! The table binds our own steps only. What others do to the lease (crabbox on the same claim, the vendor's console,
//! an outbid) is an observation: the state is derived anew from claim, journal and cloud, and is never an error.

use crate::{Code, Error};
use std::fmt;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $( $(#[$variant_doc:meta])* $variant:ident = $text:literal, )* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $( $(#[$variant_doc])* $variant, )* }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [$name] = &[ $( $name::$variant, )* ];

            /// The word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $( $name::$variant => $text, )* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Where a lease stands.
    State {
        /// On disk, nothing asked of the vendor yet.
        Intent = "intent",
        /// A create was sent, its answer is awaited.
        Creating = "creating",
        /// A create may or may not have rented a machine.
        Ambiguous = "ambiguous",
        /// A machine is rented, no endpoint is known.
        Booting = "booting",
        /// An endpoint is known, SSH did not accept us yet.
        Connecting = "connecting",
        /// SSH accepted our key and the ready check passed.
        Ready = "ready",
        /// A command of ours runs.
        Running = "running",
        /// Stopped on request; storage is billed.
        Stopped = "stopped",
        /// To be destroyed, not proved gone yet.
        Releasing = "releasing",
        /// Proved not to exist.
        Gone = "gone",
    }
}

words! {
    /// What we did, or proved.
    Event {
        /// A create is about to be sent, and the journal says so.
        CreateSent = "create sent",
        /// The create was answered with an instance.
        Created = "created",
        /// The create's answer was lost or unclear.
        CreateUnclear = "answer unclear",
        /// The attempt definitely left nothing behind; another offer follows.
        NextAttempt = "next attempt on another offer",
        /// Exactly one instance carries the label of an unclear create.
        Adopted = "one match adopted",
        /// Proved: no create ever rented a machine.
        NeverCreated = "proved never created",
        /// The vendor names an endpoint.
        EndpointKnown = "endpoint known",
        /// The handshake and the ready check passed.
        SshReady = "handshake and ready check",
        /// A command starts.
        CommandStarted = "command started",
        /// The last running command ended.
        CommandEnded = "command ended",
        /// The vendor accepted a stop.
        StopAccepted = "stop accepted",
        /// The vendor accepted a start.
        StartAccepted = "start accepted",
        /// A release was asked for.
        ReleaseRequested = "release",
        /// The acquire failed with a machine rented.
        AcquireFailed = "acquire failed",
        /// The instance is proved gone.
        ProvedGone = "proved gone",
    }
}

/// Every step we may take.
pub const TRANSITIONS: &[(State, Event, State)] = {
    use Event as E;
    use State as S;
    &[
        (S::Intent, E::CreateSent, S::Creating),
        (S::Intent, E::NeverCreated, S::Gone),
        (S::Creating, E::Created, S::Booting),
        (S::Creating, E::CreateUnclear, S::Ambiguous),
        (S::Creating, E::NextAttempt, S::Creating),
        (S::Creating, E::NeverCreated, S::Gone),
        (S::Ambiguous, E::Adopted, S::Booting),
        (S::Ambiguous, E::NextAttempt, S::Creating),
        (S::Ambiguous, E::NeverCreated, S::Gone),
        (S::Ambiguous, E::ReleaseRequested, S::Releasing),
        (S::Booting, E::EndpointKnown, S::Connecting),
        (S::Booting, E::NextAttempt, S::Creating),
        (S::Booting, E::StopAccepted, S::Stopped),
        (S::Booting, E::ReleaseRequested, S::Releasing),
        (S::Booting, E::AcquireFailed, S::Releasing),
        (S::Booting, E::ProvedGone, S::Gone),
        (S::Connecting, E::SshReady, S::Ready),
        (S::Connecting, E::NextAttempt, S::Creating),
        (S::Connecting, E::StopAccepted, S::Stopped),
        (S::Connecting, E::ReleaseRequested, S::Releasing),
        (S::Connecting, E::AcquireFailed, S::Releasing),
        (S::Connecting, E::ProvedGone, S::Gone),
        (S::Ready, E::CommandStarted, S::Running),
        (S::Ready, E::AcquireFailed, S::Releasing),
        (S::Ready, E::StopAccepted, S::Stopped),
        (S::Ready, E::ReleaseRequested, S::Releasing),
        (S::Ready, E::ProvedGone, S::Gone),
        (S::Running, E::CommandStarted, S::Running),
        (S::Running, E::CommandEnded, S::Ready),
        (S::Running, E::StopAccepted, S::Stopped),
        (S::Running, E::ReleaseRequested, S::Releasing),
        (S::Running, E::ProvedGone, S::Gone),
        (S::Stopped, E::StartAccepted, S::Booting),
        (S::Stopped, E::StopAccepted, S::Stopped),
        (S::Stopped, E::ReleaseRequested, S::Releasing),
        (S::Stopped, E::ProvedGone, S::Gone),
        (S::Releasing, E::ReleaseRequested, S::Releasing),
        (S::Releasing, E::ProvedGone, S::Gone),
    ]
};

/// The state after an event.
///
/// # Errors
/// [`Code::InvalidState`] when the table has no such step.
pub fn step(state: State, event: Event) -> Result<State, Error> {
    TRANSITIONS.iter().find(|(from, by, _)| (*from, *by) == (state, event)).map(|(_, _, to)| *to).ok_or_else(
        || {
            Error::new(Code::InvalidState, format!("a lease in state {state} does not allow: {event}"))
                .with("state", state.as_str())
                .with("event", event.as_str())
                .hint("look at the lease with status, then try again")
        },
    )
}

/// How a state stands in the claim and at Vast: the claim label `state`, the claim label `recovery`, and the state in
/// the ownership label.
///
/// [`State::Releasing`] is what a failed acquire leaves; an ordinary release does not rewrite the labels before the
/// instance is gone. [`State::Gone`] has no claim, its words are for messages.
#[must_use]
pub fn claim_state(state: State) -> (&'static str, Option<&'static str>, &'static str) {
    match state {
        State::Intent | State::Creating | State::Ambiguous => {
            ("ambiguous-create", Some("ambiguous-create"), "provisioning")
        }
        State::Booting | State::Connecting => ("provisioning", None, "provisioning"),
        State::Ready => ("ready", None, "ready"),
        State::Running => ("running", None, "running"),
        State::Stopped => ("stopped", None, "stopped"),
        State::Releasing => ("rollback-cleanup", Some("rollback-cleanup"), "provisioning"),
        State::Gone => ("released", None, "released"),
    }
}

/// The table as a Mermaid state diagram.
#[must_use]
pub fn mermaid() -> String {
    let mut out = String::from("stateDiagram-v2\n    [*] --> intent\n");
    for (from, event, to) in TRANSITIONS {
        out.push_str(&format!("    {from} --> {to}: {event}\n"));
    }
    out.push_str("    gone --> [*]\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_pair_has_at_most_one_outcome() {
        let pairs: BTreeSet<_> = TRANSITIONS.iter().map(|(state, event, _)| (*state, *event)).collect();
        assert_eq!(pairs.len(), TRANSITIONS.len());
        for state in State::ALL {
            for event in Event::ALL {
                match step(*state, *event) {
                    Ok(to) => assert!(TRANSITIONS.contains(&(*state, *event, to))),
                    Err(error) => {
                        assert_eq!(error.code(), Code::InvalidState);
                        assert!(!pairs.contains(&(*state, *event)));
                    }
                }
            }
        }
        assert!(
            Event::ALL.iter().all(|event| pairs.iter().any(|(_, used)| used == event)),
            "every event is used"
        );
    }

    fn reachable(from: State) -> BTreeSet<State> {
        let mut seen = BTreeSet::from([from]);
        loop {
            let next: BTreeSet<_> =
                TRANSITIONS.iter().filter(|(a, _, _)| seen.contains(a)).map(|(_, _, b)| *b).collect();
            if next.is_subset(&seen) {
                return seen;
            }
            seen.extend(next);
        }
    }

    #[test]
    fn every_state_is_reached_and_leads_to_gone() {
        assert_eq!(reachable(State::Intent).len(), State::ALL.len());
        for state in State::ALL {
            assert!(reachable(*state).contains(&State::Gone), "{state}");
        }
        assert_eq!(reachable(State::Gone), BTreeSet::from([State::Gone]), "gone is the end");
    }

    #[test]
    fn whatever_may_bill_can_be_released() {
        use State as S;
        for state in [S::Ambiguous, S::Booting, S::Connecting, S::Ready, S::Running, S::Stopped, S::Releasing]
        {
            assert_eq!(step(state, Event::ReleaseRequested).unwrap(), S::Releasing);
        }
        assert!(step(S::Creating, Event::ReleaseRequested).is_err(), "the answer of the create comes first");
        assert!(step(S::Ambiguous, Event::ProvedGone).is_err(), "what was never seen cannot be gone");
        for state in State::ALL {
            let (claim, recovery, _) = claim_state(*state);
            assert!(recovery.is_none_or(|recovery| recovery == claim));
            if !matches!(state, S::Stopped | S::Gone) {
                assert!(!super::super::labels::is_terminal(claim), "{state}");
            }
        }
    }

    #[test]
    fn the_picture_is_the_table() {
        let picture = mermaid();
        assert_eq!(picture.lines().count(), TRANSITIONS.len() + 3);
        assert!(picture.contains("    connecting --> ready: handshake and ready check\n"));
    }
}

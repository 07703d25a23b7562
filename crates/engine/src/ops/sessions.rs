//! The connections of one lease: each command has one to itself while it runs, the next command takes it over.
//!
//! A command whose output nobody takes yet is held back by not reading from its connection. Another command on the same
//! connection would wait with it, for ever where the reader waits for that other command; so running commands never
//! share one.

use crate::world::SshSession;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Session = Arc<dyn SshSession>;

/// The connections that are open, and how many use each.
pub(super) struct Sessions {
    open: Mutex<Vec<Open>>,
}

struct Open {
    session: Session,
    users: usize,
}

/// A connection in use; free again when dropped.
pub(super) struct Lent<'a> {
    sessions: &'a Sessions,
    pub session: Session,
}

impl Sessions {
    /// With one connection, free.
    pub(super) fn new(session: Session) -> Self {
        Self { open: Mutex::new(vec![Open { session, users: 0 }]) }
    }

    /// A free connection that is not known to be dead.
    pub(super) fn take(&self) -> Option<Lent<'_>> {
        let mut open = self.open();
        open.retain(|open| !open.session.is_closed());
        let free = open.iter_mut().rev().find(|open| open.users == 0)?;
        Some(self.lend(free))
    }

    /// A free connection; once `most` are open one of them, which then is shared.
    pub(super) fn share(&self, most: usize) -> Option<Lent<'_>> {
        if let Some(free) = self.take() {
            return Some(free);
        }
        let mut open = self.open();
        if open.len() < most {
            return None;
        }
        let least = open.iter_mut().min_by_key(|open| open.users)?;
        Some(self.lend(least))
    }

    /// Another connection, in use from the start.
    pub(super) fn add(&self, session: Session) -> Lent<'_> {
        let mut added = Open { session, users: 0 };
        let lent = self.lend(&mut added);
        self.open().push(added);
        lent
    }

    fn lend(&self, open: &mut Open) -> Lent<'_> {
        open.users += 1;
        Lent { sessions: self, session: Arc::clone(&open.session) }
    }

    /// Closes all of them, also those in use.
    pub(super) async fn close(&self) {
        let all = std::mem::take(&mut *self.open());
        for open in all {
            open.session.close().await;
        }
    }

    fn open(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        // One that was closed meanwhile is not there any more.
        if let Some(open) =
            self.sessions.open().iter_mut().find(|open| Arc::ptr_eq(&open.session, &self.session))
        {
            open.users -= 1;
        }
    }
}

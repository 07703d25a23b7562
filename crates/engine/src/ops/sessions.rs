//! The connections of one lease: each command has one to itself while it runs, the next command takes it over.
//!
//! A command whose output nobody takes yet is held back by not reading from its connection. Another command on the same
//! connection would wait with it, for ever where the reader waits for that other command; so running commands never
//! share one.

use crate::world::SshSession;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Session = Arc<dyn SshSession>;

/// The connections that are open, and which of them are free.
pub(super) struct Sessions {
    lists: Mutex<Lists>,
}

#[derive(Default)]
struct Lists {
    open: Vec<Session>,
    free: Vec<Session>,
}

/// A connection in use; free again when dropped.
pub(super) struct Lent<'a> {
    sessions: &'a Sessions,
    pub session: Session,
}

impl Sessions {
    /// With one connection, free.
    pub(super) fn new(session: Session) -> Self {
        let lists = Lists { open: vec![Arc::clone(&session)], free: vec![session] };
        Self { lists: Mutex::new(lists) }
    }

    /// A free connection that is not known to be dead.
    pub(super) fn take(&self) -> Option<Lent<'_>> {
        let mut lists = self.lists();
        lists.open.retain(|session| !session.is_closed());
        lists.free.retain(|session| !session.is_closed());
        let session = lists.free.pop()?;
        Some(Lent { sessions: self, session })
    }

    /// Another connection, in use from the start.
    pub(super) fn add(&self, session: Session) -> Lent<'_> {
        self.lists().open.push(Arc::clone(&session));
        Lent { sessions: self, session }
    }

    /// Closes all of them, also those in use.
    pub(super) async fn close(&self) {
        let lists = std::mem::take(&mut *self.lists());
        for session in lists.open {
            session.close().await;
        }
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut lists = self.sessions.lists();
        // One that was closed meanwhile is not taken back.
        if lists.open.iter().any(|session| Arc::ptr_eq(session, &self.session)) {
            lists.free.push(Arc::clone(&self.session));
        }
    }
}

//! The one account and who is calling.

use super::World;
use super::message::{Reply, Request};
use serde_json::json;

/// Who a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The account's key.
    Owner,
    /// The key of one container, good for that one instance.
    Container(u64),
    /// No key at all.
    Anonymous,
    /// A key that nobody has, or a revoked one.
    Unknown,
}

/// The one account.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// Spendable dollars; may be slightly negative.
    pub credit: f64,
    /// Whether the key has been revoked.
    pub revoked: bool,
}

impl World {
    pub(super) fn caller(&self, request: &Request) -> Caller {
        match request.credential() {
            None => Caller::Anonymous,
            Some(key) if key == self.settings.api_key && !self.account.revoked => Caller::Owner,
            Some(key) => self
                .instances
                .values()
                .find(|instance| instance.api_key == key && instance.deleted_at.is_none())
                .map_or(Caller::Unknown, |instance| Caller::Container(instance.id)),
        }
    }

    /// `GET /users/current/`.
    pub(super) fn current_user(&self) -> Reply {
        Reply::json(
            200,
            &json!({
                "id": 184_467, "key_id": 91_823, "username": "sim", "fullname": "Simulated Account",
                "email": "sim@example.invalid", "email_verified": true, "balance": 0.0,
                "credit": self.account.credit, "ssh_key": null, "sid": self.session_id, "can_pay": true,
                "has_billing": true, "billing_creditonly": 1, "balance_threshold": 5.0,
                "balance_threshold_enabled": false, "billed_expected": 0.0, "billed_verified": 0.0,
                "paid_verified": 0.0,
            }),
        )
    }
}

/// A key that is not known answers 404, not 401 (Vast API, observed).
pub(crate) fn unknown_key() -> Reply {
    Reply::error(404, "auth_error", "Invalid user key")
}

pub(crate) fn no_key() -> Reply {
    Reply::error(401, "auth_error", "This action requires login. Please log in or supply an API key.")
}

pub(crate) fn no_permission() -> Reply {
    Reply::error(
        403,
        "permission_denied",
        "Your key lacks the instance_write permission group for this resource.",
    )
}

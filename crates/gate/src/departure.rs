//! What happens when a user or an organization leaves for good: personal data goes, what was paid and spent stays under the
//! bare id.

use billing::customers;
use credits::{Owner, Settings, close_owner};
use hooks::Kind;
use identity::organizations::{self, members};
use identity::users;
use kernel::{Millis, OrganizationId, SessionId, UserId};
use serde_json::json;
use store::{Error, Tx};

/// False when there is no such user. Organizations that nobody else belongs to go with the user; others stay.
pub fn delete_user(tx: &mut Tx<'_>, terms: &Settings, id: &UserId, now: Millis) -> Result<bool, Error> {
    for organization in members::left_alone(tx, id)? {
        organizations::delete(tx, &organization)?;
        close_organization(tx, terms, &organization)?;
    }
    let deleted = users::delete(tx, id)?;
    let owner = Owner::User(id.as_str().to_owned());
    if deleted {
        let subject = owner.to_string();
        hooks::forget(tx, &subject)?;
        hooks::tell(tx, Kind::UserDeleted, &subject, now, || json!({"user_id": id.as_str()}))?;
    }
    customers::forget_address(tx, &owner)?;
    close_owner(tx, terms, &owner)?;
    Ok(deleted)
}

/// The accounts of an organization that was deleted in the same transaction take nothing new.
pub fn close_organization(tx: &mut Tx<'_>, terms: &Settings, id: &OrganizationId) -> Result<(), Error> {
    let owner = Owner::Organization(id.as_str().to_owned());
    hooks::forget(tx, &owner.to_string())?;
    customers::forget_address(tx, &owner)?;
    close_owner(tx, terms, &owner)
}

/// Why sessions were ended before their time, as apps are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// The user ended them in the list of sessions.
    Revoked,
    PasswordChanged,
    PasswordReset,
    Banned,
    /// The owner of the address proved it, and the account was made before that.
    AddressClaimed,
}

impl Revocation {
    fn name(self) -> &'static str {
        match self {
            Revocation::Revoked => "revoked",
            Revocation::PasswordChanged => "password_changed",
            Revocation::PasswordReset => "password_reset",
            Revocation::Banned => "banned",
            Revocation::AddressClaimed => "address_claimed",
        }
    }
}

/// Tells apps of sessions that were just ended, in the same transaction.
pub fn tell_revoked(
    tx: &mut Tx<'_>,
    user: &UserId,
    ended: &[SessionId],
    why: Revocation,
    now: Millis,
) -> Result<(), Error> {
    if ended.is_empty() {
        return Ok(());
    }
    let subject = Owner::User(user.as_str().to_owned()).to_string();
    hooks::tell(tx, Kind::SessionRevoked, &subject, now, || {
        let ids: Vec<&str> = ended.iter().map(SessionId::as_str).collect();
        json!({"user_id": user.as_str(), "session_ids": ids, "reason": why.name()})
    })
}

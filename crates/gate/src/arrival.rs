//! What happens when somebody arrives, in the transaction of the sign-up or sign-in.

use crate::guests;
use credits::{Owner, Settings, hand_over, signup};
use hooks::Kind;
use identity::User;
use kernel::{GuestId, Millis, UserId, Vault};
use serde_json::json;
use store::{Error, Tx};

/// Tells apps of a user who was just made, in the same transaction.
pub fn tell_created(tx: &mut Tx<'_>, user: &User, now: Millis) -> Result<(), Error> {
    let subject = Owner::User(user.id.as_str().to_owned()).to_string();
    hooks::tell(tx, Kind::UserCreated, &subject, now, || {
        json!({
            "user_id": user.id.as_str(), "email": user.email, "email_verified": user.email_verified, "name": user.name,
            "role": user.role,
        })
    })
}

/// A user is new, or the address has just been proved where that is asked for. True when credits were granted. Comes
/// last in its transaction: it holds what others wait for.
pub fn welcome(
    tx: &mut Tx<'_>,
    terms: &Settings,
    vault: &Vault,
    id: &UserId,
    email: &str,
    now: Millis,
) -> Result<bool, Error> {
    signup::grant(tx, terms, vault, id.as_str(), email, now)
}

/// A session begins in a browser that was a guest's: the guest ends, once however many sign-ins try at the same time,
/// and what it has goes to the user. For a `new` user with this address [`welcome`] is part of it. Comes last in its
/// transaction as well.
pub fn arrive(
    tx: &mut Tx<'_>,
    terms: &Settings,
    vault: &Vault,
    (id, new): (&UserId, Option<&str>),
    guest: Option<&GuestId>,
    now: Millis,
) -> Result<(), Error> {
    let due = match new {
        Some(email) => signup::due(tx, terms, vault, id.as_str(), email, now)?,
        None => None,
    };
    let guest = match guest {
        Some(guest) if guests::end(tx, guest)? => Some(guest),
        _ => None,
    };
    match (guest, due) {
        (Some(guest), due) => {
            let parties = (&Owner::Guest(guest.as_str().to_owned()), &Owner::User(id.as_str().to_owned()));
            let results = hand_over(tx, terms, vault, parties, due.into_iter().collect(), now)?;
            signup::was_granted(results).map(|_| ())
        }
        (None, Some(due)) => signup::apply(tx, terms, vault, due, now).map(|_| ()),
        (None, None) => Ok(()),
    }
}

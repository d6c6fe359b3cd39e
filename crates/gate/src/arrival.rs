//! What happens when somebody arrives, in the transaction of the sign-up or sign-in.

use crate::departure::delete_user;
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

/// Whom a browser was before somebody signed in with it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Former<'a> {
    pub guest: Option<&'a GuestId>,
    /// A user who is known to be anonymous and to be there, after [`identity::users::take_turn`].
    pub anonymous: Option<&'a UserId>,
}

/// A session begins in a browser that was a guest's or an anonymous user's: these end, once however many sign-ins try at
/// the same time, and what they have goes to the user. For a `new` user with this address [`welcome`] is part of it.
/// Comes last in its transaction as well.
pub fn arrive(
    tx: &mut Tx<'_>,
    terms: &Settings,
    vault: &Vault,
    (id, new): (&UserId, Option<&str>),
    former: Former<'_>,
    now: Millis,
) -> Result<(), Error> {
    let due = match new {
        Some(email) => signup::due(tx, terms, vault, id.as_str(), email, now)?,
        None => None,
    };
    let mut owners = Vec::new();
    if let Some(guest) = former.guest
        && guests::end(tx, guest)?
    {
        owners.push(Owner::Guest(guest.as_str().to_owned()));
    }
    owners.extend(former.anonymous.map(|user| Owner::User(user.as_str().to_owned())));
    match (owners.is_empty(), due) {
        (false, due) => {
            let parties = (owners.as_slice(), &Owner::User(id.as_str().to_owned()));
            let results = hand_over(tx, terms, vault, parties, due.into_iter().collect(), now)?;
            signup::was_granted(results)?;
        }
        (true, Some(due)) => signup::apply(tx, terms, vault, due, now).map(|_| ())?,
        (true, None) => {}
    }
    match former.anonymous {
        Some(user) => delete_user(tx, terms, user, now).map(|_| ()),
        None => Ok(()),
    }
}

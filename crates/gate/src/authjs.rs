//! What happens when an app with Auth.js makes a user or proves an address, in the transaction in which it does.

use crate::arrival::{tell_created, welcome};
use crate::departure::{Revocation, tell_revoked};
use credits::{Owner, Settings, was_closed};
use identity::authjs::users::{self, Changed, Given, Made};
use identity::{User, anonymous, mailbox};
use kernel::{Millis, UserId, Vault};
use rand::CryptoRng;
use store::{Error, Tx};

/// What is granted to new people, and whether they have to prove an address first.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    pub credits: &'a Settings,
    pub after_proof: bool,
}

impl Terms<'_> {
    /// Somebody without an address is nobody whom a grant could be given to once only.
    fn welcomes(&self, user: &User) -> bool {
        !anonymous::is_placeholder(&user.email) && (user.email_verified || !self.after_proof)
    }
}

/// Comes last in its transaction. An id that was somebody's whose credits are kept is nobody else's.
pub fn create_user(
    tx: &mut Tx<'_>,
    terms: Terms<'_>,
    vault: &Vault,
    id: Option<UserId>,
    given: &Given,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Made, Error> {
    if let Some(id) = &id
        && was_closed(tx, &Owner::User(id.as_str().to_owned()))?
    {
        return Ok(Made::IdTaken);
    }
    let made = users::create(tx, id, given, now, rng)?;
    if let Made::Done(user) = &made {
        tell_created(tx, user, now)?;
        if terms.welcomes(user) {
            welcome(tx, terms.credits, vault, &user.id, &user.email, now)?;
        }
    }
    Ok(made)
}

/// Comes last in its transaction.
pub fn update_user(
    tx: &mut Tx<'_>,
    terms: Terms<'_>,
    vault: &Vault,
    id: &UserId,
    given: &Given,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Changed, Error> {
    let changed = users::update(tx, id, given, now, rng)?;
    if let Changed::Done { before, now: user } = &changed {
        if user.email_verified && !before.email_verified {
            let ended = mailbox::claim_for_app(tx, id, now)?;
            tell_revoked(tx, id, &ended, Revocation::AddressClaimed, now)?;
        }
        if terms.welcomes(user) && !terms.welcomes(before) {
            welcome(tx, terms.credits, vault, id, &user.email, now)?;
        }
    }
    Ok(changed)
}

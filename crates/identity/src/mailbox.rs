//! Whoever reads a mailbox owns the account of its address.

use crate::users::{self, User};
use crate::{one_time, second_factor, sessions};
use kernel::{Millis, SessionId};
use store::{Error, Tx, params};

const ACCOUNTS: &str = "DELETE FROM accounts WHERE user_id = $1";
const PASSKEYS: &str = "DELETE FROM passkeys WHERE user_id = $1";
const API_KEYS: &str = "DELETE FROM api_keys WHERE user_id = $1";

/// A link or a code has just proved that the user's mailbox can be read. Until then the account may have been made by a
/// stranger who waits for its owner to use it: whatever could open it from before goes, and the address counts as
/// proven. Gives the sessions that were ended, or `None` where the address was proven before. After
/// [`users::take_turn`].
pub fn claim(tx: &mut Tx<'_>, user: &mut User, now: Millis) -> Result<Option<Vec<SessionId>>, Error> {
    if user.email_verified {
        return Ok(None);
    }
    for statement in [ACCOUNTS, PASSKEYS, API_KEYS] {
        tx.execute(statement, params![user.id.as_str()])?;
    }
    second_factor::switch_off(tx, &user.id, now)?;
    one_time::forget_subject(tx, user.id.as_str())?;
    let ended = sessions::revoke_all(tx, &user.id)?;
    users::verify_email(tx, &user.id, &user.email, now)?;
    (user.email_verified, user.two_factor_enabled, user.updated_at) = (true, false, now);
    Ok(Some(ended))
}

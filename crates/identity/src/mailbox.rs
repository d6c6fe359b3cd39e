//! Whoever reads a mailbox owns the account of its address.

use crate::users::{self, User};
use crate::{device_codes, one_time, second_factor, sessions};
use kernel::{Millis, SessionId, UserId};
use store::{Error, Tx, params};

const ACCOUNTS: &str = "DELETE FROM accounts WHERE user_id = $1";
const PASSKEYS: &str = "DELETE FROM passkeys WHERE user_id = $1";
// Those of the app stay: it linked them by its own judgement.
const OUR_ACCOUNTS: &str = "DELETE FROM accounts WHERE user_id = $1 AND authjs_sealed IS NULL";
const OUR_SESSIONS: &str = "DELETE FROM sessions WHERE user_id = $1 AND NOT from_adapter RETURNING id";
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

/// The same where an app with Auth.js says that the address was proven, by a user whose address was not: what a stranger
/// may have left at our own doors goes, and what the app itself keeps stays. Gives the sessions that were ended.
pub fn claim_for_app(tx: &mut Tx<'_>, id: &UserId, now: Millis) -> Result<Vec<SessionId>, Error> {
    for statement in [OUR_ACCOUNTS, PASSKEYS, API_KEYS] {
        tx.execute(statement, params![id.as_str()])?;
    }
    second_factor::switch_off(tx, id, now)?;
    one_time::forget_subject(tx, id.as_str())?;
    device_codes::withdraw(tx, id)?;
    tx.query(OUR_SESSIONS, params![id.as_str()], |row| Ok(SessionId::from_text(row.text(0)?)))
}

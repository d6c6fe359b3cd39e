//! What is asked for after the right password: a code of an authenticator app, a mailed code or a backup code; and the
//! devices that are not asked.
//!
//! A user who has a second factor carries `two_factor_enabled`. A right password then opens no session but a challenge
//! ([`challenges`]), and whoever answers it comes in. Wrong answers are counted over all challenges of the user, by the
//! rule for passwords: ten in a quarter of an hour, a hundred a day.

pub mod authenticators;
pub mod backup_codes;
pub mod challenges;
pub mod devices;
pub mod totp;

use crate::attempts::{self, Begun};
use crate::one_time::{self, Purpose};
use kernel::{Millis, UserId, Vault};
use store::{Error, Tx, params};

const SET_ENABLED: &str = "UPDATE users SET two_factor_enabled = $2, updated_at = $3 WHERE id = $1";

/// From now on a second factor is asked for.
pub fn switch_on(tx: &mut Tx<'_>, user: &UserId, now: Millis) -> Result<(), Error> {
    tx.execute(SET_ENABLED, params![user.as_str(), true, now]).map(|_| ())
}

/// Nothing is asked for any more, and nothing of what was set up is left: a second factor that is set up later must not
/// be passed with a device that was trusted under this one.
pub fn switch_off(tx: &mut Tx<'_>, user: &UserId, now: Millis) -> Result<(), Error> {
    tx.execute(SET_ENABLED, params![user.as_str(), false, now])?;
    authenticators::remove(tx, user)?;
    for purpose in [Purpose::BackupCode, Purpose::TrustedDevice, Purpose::SecondFactor] {
        one_time::withdraw(tx, user.as_str(), purpose)?;
    }
    Ok(())
}

/// As [`switch_off`] for somebody who has lost it; wrong answers of before count no more.
pub fn reset(tx: &mut Tx<'_>, vault: &Vault, user: &UserId, now: Millis) -> Result<(), Error> {
    switch_off(tx, user, now)?;
    attempts::forget(tx, vault, &counted(user))
}

/// Counts an answer before it is judged, whatever kind it is of and whatever challenge it is for.
pub fn begin_attempt(tx: &mut Tx<'_>, vault: &Vault, user: &UserId, now: Millis) -> Result<Begun, Error> {
    attempts::begin(tx, vault, &counted(user), now)
}

/// It was right: as with passwords, the short count starts anew.
pub fn attempt_succeeded(tx: &mut Tx<'_>, vault: &Vault, user: &UserId) -> Result<(), Error> {
    attempts::succeed(tx, vault, &counted(user))
}

/// There was nothing that it could have been the answer to.
pub fn attempt_was_none(tx: &mut Tx<'_>, vault: &Vault, user: &UserId) -> Result<(), Error> {
    attempts::give_back(tx, vault, &counted(user))
}

fn counted(user: &UserId) -> String {
    format!("second factor of {user}")
}

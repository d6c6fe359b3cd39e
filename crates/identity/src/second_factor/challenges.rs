//! A sign-in that waits for its second factor: the password was right, and nothing is open yet.

use crate::one_time::{self, Consumed, Purpose};
use kernel::{Millis, UserId, Vault};
use rand::CryptoRng;
use store::{Error, Hit, Rule, Tx, hit_from_first_in};

/// Answers to one challenge; with the next one it is over.
const TRIES: i64 = 5;
const HASH: &str = "second factor tries";

/// What the browser is given to come back with.
pub fn open(
    tx: &mut Tx<'_>,
    vault: &Vault,
    user: &UserId,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<String, Error> {
    one_time::issue(tx, vault, Purpose::SecondFactor, user.as_str(), &(), now, rng)
}

/// Whose sign-in it is, while it waits.
pub fn find(tx: &mut Tx<'_>, vault: &Vault, challenge: &str, now: Millis) -> Result<Option<UserId>, Error> {
    let found = one_time::look::<()>(tx, vault, Purpose::SecondFactor, challenge, now)?;
    Ok(found.map(|found| UserId::from_text(found.subject)))
}

/// Counts an answer before it is judged; false when there were enough, and the challenge is over.
pub fn take_try(tx: &mut Tx<'_>, vault: &Vault, challenge: &str, now: Millis) -> Result<bool, Error> {
    let rule = Rule { window: Purpose::SecondFactor.lifetime(), max: TRIES };
    let key = format!("second-factor:{}", vault.hash(HASH, challenge));
    match hit_from_first_in(tx, &key, rule, now)? {
        Hit::Counted { .. } => Ok(true),
        Hit::Refused { .. } => close(tx, vault, challenge, now).map(|_| false),
    }
}

/// Ends it; true for the one of any number of callers who does.
pub fn close(tx: &mut Tx<'_>, vault: &Vault, challenge: &str, now: Millis) -> Result<bool, Error> {
    let consumed = one_time::consume::<()>(tx, vault, Purpose::SecondFactor, challenge, now)?;
    Ok(matches!(consumed, Consumed::Now(_)))
}

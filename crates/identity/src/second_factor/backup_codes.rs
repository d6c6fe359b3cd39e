//! Ten codes on paper for the day on which the authenticator is lost; each works once.

use crate::one_time::{self, Consumed, Purpose};
use kernel::{Millis, UserId, Vault, random};
use rand::CryptoRng;
use store::{Error, Tx};

const COUNT: usize = 10;

/// Makes new ones; the old ones are worth nothing from now on.
pub fn replace(
    tx: &mut Tx<'_>,
    vault: &Vault,
    user: &UserId,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Vec<String>, Error> {
    let codes: Vec<String> = (0..COUNT).map(|_| fresh(rng)).collect();
    let values: Vec<String> = codes.iter().map(|code| value(user, code)).collect();
    one_time::issue_set(tx, vault, Purpose::BackupCode, user.as_str(), &values, now)?;
    Ok(codes)
}

/// Uses one up; false when it is none of this user's, or was used before.
pub fn consume(
    tx: &mut Tx<'_>,
    vault: &Vault,
    user: &UserId,
    code: &str,
    now: Millis,
) -> Result<bool, Error> {
    let consumed = one_time::consume::<()>(tx, vault, Purpose::BackupCode, &value(user, code), now)?;
    Ok(matches!(consumed, Consumed::Now(_)))
}

fn fresh(rng: &mut impl CryptoRng) -> String {
    let letters = random::alphanumeric(rng, 10);
    format!("{}-{}", &letters[..5], &letters[5..])
}

/// Bound to the user: a code of somebody else is not used up by trying it.
fn value(user: &UserId, code: &str) -> String {
    format!("{user}\0{code}")
}

//! Browsers in which a user has passed the second factor and is not asked again for thirty days of use.

use crate::one_time::{self, Consumed, Purpose};
use kernel::{Millis, UserId, Vault};
use rand::CryptoRng;
use store::{Error, Tx};

/// What the browser keeps.
pub fn trust(
    tx: &mut Tx<'_>,
    vault: &Vault,
    user: &UserId,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<String, Error> {
    one_time::issue(tx, vault, Purpose::TrustedDevice, user.as_str(), &(), now, rng)
}

/// Takes what the browser kept and gives what it keeps from now on; `None` when it is not trusted by this user, or when
/// what it kept was used before. What another user of the same browser left there stays good for that one.
pub fn renew(
    tx: &mut Tx<'_>,
    vault: &Vault,
    user: &UserId,
    kept: &str,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Option<String>, Error> {
    let found = one_time::look::<()>(tx, vault, Purpose::TrustedDevice, kept, now)?;
    if found.is_none_or(|found| found.subject != user.as_str()) {
        return Ok(None);
    }
    match one_time::consume::<()>(tx, vault, Purpose::TrustedDevice, kept, now)? {
        Consumed::Now(_) => trust(tx, vault, user, now, rng).map(Some),
        _ => Ok(None),
    }
}

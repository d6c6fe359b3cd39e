//! What happens when somebody arrives, in the transaction of the sign-up or sign-in.

use credits::{Settings, signup};
use kernel::{Millis, UserId, Vault};
use store::{Error, Tx};

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

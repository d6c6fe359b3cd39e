//! Wrong passwords are counted for each address, whether an account has it or not, and exactly under races: an attempt
//! is counted before it is judged, and a right one gives the count back.

use kernel::time::{DAY, MINUTE};
use kernel::{Millis, Vault};
use store::{Error, Hit, Rule, Tx, hit_in, params};

const SHORT: Rule = Rule { window: 15 * MINUTE, max: 10 };
const LONG: Rule = Rule { window: DAY, max: 100 };
const HASH: &str = "sign-in attempts";

const CLEAR: &str = "DELETE FROM counters WHERE key = $1";
const GIVE_BACK: &str = "UPDATE counters SET count = count - 1 WHERE key = $1 AND count > 0";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    Allowed,
    Refused { retry_at: Millis },
}

/// Counts an attempt against an address (or a user's id) before its password is looked at.
pub fn begin(tx: &mut Tx<'_>, vault: &Vault, subject: &str, now: Millis) -> Result<Begun, Error> {
    let (short, long) = keys(vault, subject);
    if let Hit::Refused { retry_at } = hit_in(tx, &long, LONG, now)? {
        return Ok(Begun::Refused { retry_at });
    }
    if let Hit::Refused { retry_at } = hit_in(tx, &short, SHORT, now)? {
        // What was refused was no guess.
        tx.execute(GIVE_BACK, params![&long])?;
        return Ok(Begun::Refused { retry_at });
    }
    Ok(Begun::Allowed)
}

/// The password was right: the short count starts anew. The day's count only gets this one attempt back, so that a
/// guesser cannot hide between an owner's sign-ins.
pub fn succeed(tx: &mut Tx<'_>, vault: &Vault, subject: &str) -> Result<(), Error> {
    let (short, long) = keys(vault, subject);
    tx.execute(CLEAR, params![&short])?;
    tx.execute(GIVE_BACK, params![&long]).map(|_| ())
}

/// The password was replaced by mail: what was guessed before is worth nothing any more, and the owner comes in at once,
/// however often somebody else has guessed.
pub fn forget(tx: &mut Tx<'_>, vault: &Vault, subject: &str) -> Result<(), Error> {
    let (short, long) = keys(vault, subject);
    tx.execute(CLEAR, params![&short])?;
    tx.execute(CLEAR, params![&long]).map(|_| ())
}

fn keys(vault: &Vault, subject: &str) -> (String, String) {
    let hash = vault.hash(HASH, subject);
    (format!("sign-in:15m:{hash}"), format!("sign-in:24h:{hash}"))
}

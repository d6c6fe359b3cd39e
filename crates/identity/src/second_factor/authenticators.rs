//! A user's authenticator app: set up, proven by its first code, asked at sign-ins.

use super::totp;
use kernel::{Millis, Secret, UserId, Vault};
use rand::CryptoRng;
use store::{Error, Tx, params};

const SEAL: &str = "authenticator secret";

const SELECT: &str = "SELECT secret_sealed, verified FROM authenticators WHERE user_id = $1";
// One that was proven is not replaced: whoever holds a session and the password must switch it off first.
const SET_UP: &str = "
    INSERT INTO authenticators (user_id, secret_sealed, verified, last_step, created_at) VALUES ($1, $2, FALSE, 0, $3)
    ON CONFLICT (user_id) DO UPDATE SET secret_sealed = EXCLUDED.secret_sealed, created_at = EXCLUDED.created_at
    WHERE NOT authenticators.verified
    RETURNING user_id";
const PROVE: &str = "UPDATE authenticators SET verified = TRUE WHERE user_id = $1 AND NOT verified";
// Guarded by the step, so that of any number of callers with one code one comes in.
const USE: &str =
    "UPDATE authenticators SET last_step = $2 WHERE user_id = $1 AND verified AND last_step < $2";
const REMOVE: &str = "DELETE FROM authenticators WHERE user_id = $1";

pub struct Authenticator {
    pub secret: Secret<String>,
    /// A first code has shown that the app has the secret.
    pub verified: bool,
}

pub fn find(tx: &mut Tx<'_>, vault: &Vault, user: &UserId) -> Result<Option<Authenticator>, Error> {
    let row = tx.query_opt(SELECT, params![user.as_str()], |row| Ok((row.get::<String>(0)?, row.get(1)?)))?;
    let Some((sealed, verified)) = row else { return Ok(None) };
    let secret = vault.open(SEAL, &sealed);
    let secret = secret.ok_or_else(|| Error::Fault("an authenticator's secret does not open".into()))?;
    Ok(Some(Authenticator { secret: Secret::new(secret), verified }))
}

/// Begins with a new secret, which replaces one that was never proven; `None` when there is a proven one.
pub fn set_up(
    tx: &mut Tx<'_>,
    vault: &Vault,
    user: &UserId,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Option<Secret<String>>, Error> {
    let secret = totp::generate(rng);
    let sealed = vault.seal(SEAL, secret.expose(), rng);
    let done = tx.query_opt(SET_UP, params![user.as_str(), &sealed, now], |_| Ok(()))?;
    Ok(done.map(|()| secret))
}

/// The first code was right; false when another request was first.
pub fn prove(tx: &mut Tx<'_>, user: &UserId) -> Result<bool, Error> {
    Ok(tx.execute(PROVE, params![user.as_str()])? == 1)
}

/// Uses the code of a step up, with those of all steps before; false when that was done before.
pub fn use_step(tx: &mut Tx<'_>, user: &UserId, step: i64) -> Result<bool, Error> {
    Ok(tx.execute(USE, params![user.as_str(), step])? == 1)
}

pub(super) fn remove(tx: &mut Tx<'_>, user: &UserId) -> Result<(), Error> {
    tx.execute(REMOVE, params![user.as_str()]).map(|_| ())
}

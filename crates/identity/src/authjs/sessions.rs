//! Sessions that an app begins and ends by its adapter. They lie among the others, so that a ban or a deletion ends them all, and
//! are found by a hash of another purpose: neither door takes the other's tokens.

use crate::UserView;
use crate::sessions::{self, SessionView};
use crate::users::{self, Standing};
use kernel::{Millis, SessionId, UserId, Vault};
use rand::CryptoRng;
use store::{Error, Row, Tx, params};

const TOKEN_HASH: &str = "authjs session token";

// The app keeps the token: nothing here ever shows it, so there is no sealed copy.
const INSERT: &str = "
    INSERT INTO sessions (id, user_id, token_hash, token_sealed, expires_at, created_at, updated_at, ip_address, user_agent, from_adapter)
    VALUES ($1, $2, $3, '', $4, $5, $5, '', '', TRUE)
    ON CONFLICT (token_hash) DO NOTHING";
const UPDATE: &str = "
    UPDATE sessions SET expires_at = COALESCE($2, expires_at), user_id = COALESCE($3, user_id), updated_at = $4
    WHERE token_hash = $1
    RETURNING user_id, expires_at";
const DELETE: &str = "DELETE FROM sessions WHERE token_hash = $1 RETURNING user_id, expires_at";

/// What an app is told of its session besides the token that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub user_id: UserId,
    pub expires_at: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    Done,
    Taken,
    NoUser,
    Banned,
}

/// Whether a session may be this user's, in the user's turn.
fn admit(tx: &mut Tx<'_>, user: &UserId, now: Millis) -> Result<Begun, Error> {
    users::take_turn(tx, user)?;
    let standing = users::look(tx, user.as_str(), |user| user.standing(now))?;
    match standing {
        None => Ok(Begun::NoUser),
        Some(Standing::Banned) => Ok(Begun::Banned),
        Some(Standing::BanEnded) => users::unban(tx, user, now).map(|_| Begun::Done),
        Some(Standing::Good) => Ok(Begun::Done),
    }
}

pub fn begin(
    tx: &mut Tx<'_>,
    vault: &Vault,
    token: &str,
    kept: &Kept,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Begun, Error> {
    let admitted = admit(tx, &kept.user_id, now)?;
    if admitted != Begun::Done {
        return Ok(admitted);
    }
    let (id, hash) = (SessionId::new(rng), vault.hash(TOKEN_HASH, token));
    let values = params![id.as_str(), kept.user_id.as_str(), &hash, kept.expires_at, now];
    Ok(if tx.execute(INSERT, values)? == 1 { Begun::Done } else { Begun::Taken })
}

/// The session that a token opens with its user, expired or not: the app judges that for itself.
pub fn look<T>(
    tx: &mut Tx<'_>,
    vault: &Vault,
    token: &str,
    see: impl FnOnce(SessionView<'_>, UserView<'_>) -> T,
) -> Result<Option<T>, Error> {
    sessions::look_at(tx, &vault.hash(TOKEN_HASH, token), see)
}

/// Moves a session's end, or gives it to another user. `Ok(None)`: there is no such session.
pub fn update(
    tx: &mut Tx<'_>,
    vault: &Vault,
    token: &str,
    (expires_at, user): (Option<Millis>, Option<&UserId>),
    now: Millis,
) -> Result<Result<Option<Kept>, Begun>, Error> {
    if let Some(user) = user {
        let admitted = admit(tx, user, now)?;
        if admitted != Begun::Done {
            return Ok(Err(admitted));
        }
    }
    let hash = vault.hash(TOKEN_HASH, token);
    let values = params![&hash, expires_at, user.map(UserId::as_str), now];
    tx.query_opt(UPDATE, values, Kept::read).map(Ok)
}

/// Ends a session; gives what it was.
pub fn end(tx: &mut Tx<'_>, vault: &Vault, token: &str) -> Result<Option<Kept>, Error> {
    tx.query_opt(DELETE, params![&vault.hash(TOKEN_HASH, token)], Kept::read)
}

impl Kept {
    fn read(row: &Row<'_>) -> Result<Kept, Error> {
        Ok(Kept { user_id: UserId::from_text(row.text(0)?), expires_at: row.get(1)? })
    }
}

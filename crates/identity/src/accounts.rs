//! Accounts: the ways a user signs in. A password is the account of the provider `credential`.

use crate::one_time::{self, Purpose};
use kernel::{AccountId, Millis, UserId};
use rand::CryptoRng;
use store::{Error, Row, Tx, params};

pub const CREDENTIAL: &str = "credential";

#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    pub id: AccountId,
    pub user_id: UserId,
    pub provider_id: String,
    pub account_id: String,
    pub scope: Option<String>,
    pub created_at: Millis,
    pub updated_at: Millis,
}

const LIST: &str = "
    SELECT id, user_id, provider_id, account_id, scope, created_at, updated_at
    FROM accounts WHERE user_id = $1 ORDER BY created_at, id";
const PASSWORD: &str = "SELECT password_hash FROM accounts WHERE user_id = $1 AND provider_id = 'credential' AND password_hash IS NOT NULL";
const SET_PASSWORD: &str = "
    INSERT INTO accounts (id, user_id, provider_id, account_id, password_hash, created_at, updated_at)
    VALUES ($1, $2, 'credential', $2, $3, $4, $4)
    ON CONFLICT (provider_id, account_id) DO UPDATE SET password_hash = EXCLUDED.password_hash, updated_at = EXCLUDED.updated_at";
// Guarded by the old hash: a password that was changed meanwhile is not put back.
const REHASH: &str = "UPDATE accounts SET password_hash = $3 WHERE user_id = $1 AND provider_id = 'credential' AND password_hash = $2";
const REPLACE_PASSWORD: &str = "
    UPDATE accounts SET password_hash = $3, updated_at = $4
    WHERE user_id = $1 AND provider_id = 'credential' AND password_hash = $2";
// Guarded by the count, so that two requests at once cannot remove the last two.
const UNLINK: &str = "
    DELETE FROM accounts WHERE id = $1 AND user_id = $2
    AND (SELECT COUNT(*) FROM accounts other WHERE other.user_id = $2) > 1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlinked {
    Done,
    LastAccount,
    NotFound,
}

impl Account {
    fn read(row: &Row<'_>) -> Result<Account, Error> {
        Ok(Account {
            id: AccountId::from_text(row.text(0)?),
            user_id: UserId::from_text(row.text(1)?),
            provider_id: row.get(2)?,
            account_id: row.get(3)?,
            scope: row.get(4)?,
            created_at: row.get(5)?,
            updated_at: row.get(6)?,
        })
    }
}

pub fn list(tx: &mut Tx<'_>, user: &UserId) -> Result<Vec<Account>, Error> {
    tx.query(LIST, params![user.as_str()], Account::read)
}

/// The stored hash of a user's password, if there is one.
pub fn password_hash(tx: &mut Tx<'_>, user: &UserId) -> Result<Option<String>, Error> {
    tx.query_opt(PASSWORD, params![user.as_str()], |row| row.get(0))
}

/// Sets a password, making the credential account when there was none.
pub fn set_password(
    tx: &mut Tx<'_>,
    user: &UserId,
    hash: &str,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<(), Error> {
    end_challenges(tx, user)?;
    tx.execute(SET_PASSWORD, params![AccountId::new(rng).as_str(), user.as_str(), hash, now]).map(|_| ())
}

/// Replaces the password that was just proven; false when it is no longer that one.
pub fn replace_password(
    tx: &mut Tx<'_>,
    user: &UserId,
    old: &str,
    new: &str,
    now: Millis,
) -> Result<bool, Error> {
    end_challenges(tx, user)?;
    Ok(tx.execute(REPLACE_PASSWORD, params![user.as_str(), old, new, now])? == 1)
}

/// What waits for a second factor was begun with the password of before.
fn end_challenges(tx: &mut Tx<'_>, user: &UserId) -> Result<(), Error> {
    one_time::supersede(tx, user.as_str(), Purpose::SecondFactor)
}

/// Stores a better hash of the same password.
pub fn rehash_password(tx: &mut Tx<'_>, user: &UserId, old: &str, new: &str) -> Result<(), Error> {
    tx.execute(REHASH, params![user.as_str(), old, new]).map(|_| ())
}

/// Scopes as they are kept, with those that came in addition.
pub fn merge_scopes(kept: Option<&str>, more: &[String]) -> String {
    let mut scopes: Vec<&str> = kept.unwrap_or("").split(',').filter(|scope| !scope.is_empty()).collect();
    for scope in more {
        if !scopes.contains(&scope.as_str()) {
            scopes.push(scope);
        }
    }
    scopes.join(",")
}

/// Removes an account by its id, but never the last one.
pub fn unlink(tx: &mut Tx<'_>, user: &UserId, id: &AccountId) -> Result<Unlinked, Error> {
    tx.lock("accounts of user", &[user.as_str()])?;
    let accounts = list(tx, user)?;
    if accounts.len() <= 1 {
        return Ok(Unlinked::LastAccount);
    }
    if !accounts.iter().any(|account| account.id == *id) {
        return Ok(Unlinked::NotFound);
    }
    Ok(if tx.execute(UNLINK, params![id.as_str(), user.as_str()])? == 1 {
        Unlinked::Done
    } else {
        Unlinked::LastAccount
    })
}

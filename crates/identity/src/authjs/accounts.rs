//! Accounts at providers that an app links by its adapter. The document holds the provider's tokens, so it is sealed.

use super::Document;
use crate::accounts::CREDENTIAL;
use crate::users;
use kernel::{AccountId, Millis, UserId, Vault};
use rand::CryptoRng;
use serde_json::{Value, json};
use store::{Error, Row, Tx, params};

const SEAL: &str = "authjs account";

const INSERT: &str = "
    INSERT INTO accounts (id, user_id, provider_id, account_id, scope, created_at, updated_at, authjs_sealed)
    VALUES ($1, $2, $3, $4, $5, $6, $6, $7)
    ON CONFLICT (provider_id, account_id) DO NOTHING";
const FIND: &str = "
    SELECT user_id, provider_id, account_id, scope, authjs_sealed FROM accounts
    WHERE provider_id = $1 AND account_id = $2 AND provider_id <> 'credential'";
const DELETE: &str = "
    DELETE FROM accounts WHERE provider_id = $1 AND account_id = $2 AND provider_id <> 'credential'
    RETURNING user_id, provider_id, account_id, scope, authjs_sealed";

/// Who somebody is at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtProvider {
    pub provider: String,
    pub account: String,
}

impl AtProvider {
    /// Passwords are accounts of a provider that no app may name.
    pub fn new(provider: &str, account: &str) -> Option<AtProvider> {
        (provider != CREDENTIAL)
            .then(|| AtProvider { provider: provider.to_owned(), account: account.to_owned() })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linked {
    Done,
    Taken,
    NoUser,
}

pub fn link(
    tx: &mut Tx<'_>,
    vault: &Vault,
    user: &UserId,
    at: &AtProvider,
    document: &Document,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Linked, Error> {
    users::take_turn(tx, user)?;
    if !users::exists(tx, user)? {
        return Ok(Linked::NoUser);
    }
    let text = serde_json::to_string(document).map_err(|error| Error::Fault(error.to_string()))?;
    let (id, sealed) = (AccountId::new(rng), vault.seal(SEAL, &text, rng));
    let scope = document.get("scope").and_then(Value::as_str);
    let values = params![id.as_str(), user.as_str(), &at.provider, &at.account, scope, now, &sealed];
    Ok(if tx.execute(INSERT, values)? == 1 { Linked::Done } else { Linked::Taken })
}

pub fn find(tx: &mut Tx<'_>, vault: &Vault, at: &AtProvider) -> Result<Option<(UserId, Document)>, Error> {
    tx.query_opt(FIND, params![&at.provider, &at.account], |row| read(row, vault))
}

/// Gives what it was.
pub fn unlink(tx: &mut Tx<'_>, vault: &Vault, at: &AtProvider) -> Result<Option<(UserId, Document)>, Error> {
    tx.query_opt(DELETE, params![&at.provider, &at.account], |row| read(row, vault))
}

/// One that was linked at another door has no document; what an app needs to know of it is in the columns.
fn read(row: &Row<'_>, vault: &Vault) -> Result<(UserId, Document), Error> {
    let user = UserId::from_text(row.text(0)?);
    let sealed = row.text_or_null(4)?.and_then(|sealed| vault.open(SEAL, sealed));
    let mut document: Document = match sealed {
        Some(text) => serde_json::from_str(&text).map_err(|error| Error::Fault(error.to_string()))?,
        None => {
            let scope = row.text_or_null(3)?.filter(|scope| !scope.is_empty());
            let scope = scope.map(|scope| ("scope".to_owned(), Value::from(scope.replace(',', " "))));
            [("type".to_owned(), json!("oauth"))].into_iter().chain(scope).collect()
        }
    };
    document.insert("userId".into(), user.as_str().into());
    document.insert("provider".into(), row.text(1)?.into());
    document.insert("providerAccountId".into(), row.text(2)?.into());
    Ok((user, document))
}

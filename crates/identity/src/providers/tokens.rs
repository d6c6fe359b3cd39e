//! What a provider handed out for an account. It is sealed always: it opens somebody's account elsewhere.

use crate::accounts::Account;
use kernel::{AccountId, Millis, Secret, UserId, Vault};
use rand::CryptoRng;
use store::{Error, Row, Tx, params};

const ACCESS: &str = "provider access token";
const REFRESH: &str = "provider refresh token";
const ID: &str = "provider id token";

macro_rules! columns {
    () => {
        "id, user_id, provider_id, account_id, scope, created_at, updated_at, access_token_sealed, \
         refresh_token_sealed, id_token_sealed, access_token_ends, refresh_token_ends"
    };
}

const FIND: &str = concat!("SELECT ", columns!(), " FROM accounts WHERE id = $1 AND user_id = $2");
const OF_USER: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM accounts WHERE user_id = $1 AND provider_id <> 'credential' ORDER BY updated_at DESC, id LIMIT 100"
);
// What the provider did not hand out anew stays.
const KEEP: &str = "
    UPDATE accounts SET
        access_token_sealed = COALESCE($2, access_token_sealed),
        refresh_token_sealed = COALESCE($3, refresh_token_sealed),
        id_token_sealed = COALESCE($4, id_token_sealed),
        access_token_ends = COALESCE($5, access_token_ends),
        refresh_token_ends = COALESCE($6, refresh_token_ends),
        scope = COALESCE($7, scope),
        updated_at = $8
    WHERE id = $1";
// Guarded by the token that was traded: of two that trade at once the second must not put an older one back.
const REFRESHED: &str = "
    UPDATE accounts SET
        access_token_sealed = COALESCE($3, access_token_sealed),
        refresh_token_sealed = COALESCE($4, refresh_token_sealed),
        id_token_sealed = COALESCE($5, id_token_sealed),
        access_token_ends = $6,
        refresh_token_ends = COALESCE($7, refresh_token_ends),
        updated_at = $8
    WHERE id = $1 AND refresh_token_sealed = $2";

/// As it was handed out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kept {
    pub access: Option<Secret<String>>,
    pub refresh: Option<Secret<String>>,
    pub id: Option<Secret<String>>,
    pub access_ends: Option<Millis>,
    pub refresh_ends: Option<Millis>,
}

/// An account with what its provider handed out.
#[derive(Debug, Clone)]
pub struct TokenAccount {
    pub account: Account,
    pub tokens: Kept,
    /// As it stands in the row: what a trade is guarded by.
    refresh_sealed: Option<String>,
}

/// The columns' values, sealed.
pub(super) struct Sealed {
    pub access: Option<String>,
    pub refresh: Option<String>,
    pub id: Option<String>,
}

impl Kept {
    pub(super) fn seal(&self, vault: &Vault, rng: &mut impl CryptoRng) -> Sealed {
        let mut seal = |purpose, token: &Option<Secret<String>>| {
            token.as_ref().map(|token| vault.seal(purpose, token.expose(), rng))
        };
        Sealed {
            access: seal(ACCESS, &self.access),
            refresh: seal(REFRESH, &self.refresh),
            id: seal(ID, &self.id),
        }
    }
}

impl TokenAccount {
    fn read(row: &Row<'_>, vault: &Vault) -> Result<TokenAccount, Error> {
        // What was sealed with a key that is gone is gone, too.
        let open = |column: usize, purpose| -> Result<Option<Secret<String>>, Error> {
            let sealed = row.text_or_null(column)?;
            Ok(sealed.and_then(|sealed| vault.open(purpose, sealed)).map(Secret::new))
        };
        Ok(TokenAccount {
            account: Account {
                id: AccountId::from_text(row.text(0)?),
                user_id: UserId::from_text(row.text(1)?),
                provider_id: row.get(2)?,
                account_id: row.get(3)?,
                scope: row.get(4)?,
                created_at: row.get(5)?,
                updated_at: row.get(6)?,
            },
            tokens: Kept {
                access: open(7, ACCESS)?,
                refresh: open(8, REFRESH)?,
                id: open(9, ID)?,
                access_ends: row.get(10)?,
                refresh_ends: row.get(11)?,
            },
            refresh_sealed: row.get(8)?,
        })
    }

    /// Tells whether another trade came first.
    pub fn was_traded_since(&self, before: &TokenAccount) -> bool {
        self.refresh_sealed != before.refresh_sealed
    }
}

/// An account of this user; nobody finds another's.
pub fn find(
    tx: &mut Tx<'_>,
    vault: &Vault,
    user: &UserId,
    id: &AccountId,
) -> Result<Option<TokenAccount>, Error> {
    tx.query_opt(FIND, params![id.as_str(), user.as_str()], |row| TokenAccount::read(row, vault))
}

/// A user's accounts at providers, the last used first.
pub fn of_user(tx: &mut Tx<'_>, vault: &Vault, user: &UserId) -> Result<Vec<TokenAccount>, Error> {
    tx.query(OF_USER, params![user.as_str()], |row| TokenAccount::read(row, vault))
}

/// Keeps what was handed out anew; `scope` only where it changes.
pub(super) fn keep(
    tx: &mut Tx<'_>,
    vault: &Vault,
    id: &AccountId,
    (tokens, scope): (&Kept, Option<&str>),
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<(), Error> {
    let sealed = tokens.seal(vault, rng);
    let values = params![
        id.as_str(),
        &sealed.access,
        &sealed.refresh,
        &sealed.id,
        tokens.access_ends,
        tokens.refresh_ends,
        scope,
        now
    ];
    tx.execute(KEEP, values).map(|_| ())
}

/// Keeps what a refresh token was traded for; false when the account's is another one by now.
pub fn keep_refreshed(
    tx: &mut Tx<'_>,
    vault: &Vault,
    before: &TokenAccount,
    tokens: &Kept,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<bool, Error> {
    let sealed = tokens.seal(vault, rng);
    let values = params![
        before.account.id.as_str(),
        &before.refresh_sealed,
        &sealed.access,
        &sealed.refresh,
        &sealed.id,
        tokens.access_ends,
        tokens.refresh_ends,
        now
    ];
    Ok(tx.execute(REFRESHED, values)? == 1)
}

//! Values that another program makes and mails, and that are used up here: Auth.js' verification tokens.
//!
//! They are hashes of what was mailed, or of short codes that it mailed. So they are kept as keyed hashes like our own: whoever reads
//! the database learns nothing that could be shown at this program's door, nor guesses a code by trying them all.

use kernel::{Millis, Vault};
use store::{Error, Row, Tx, params};

const PURPOSE: &str = "authjs";
const PAIR: &str = "authjs identifier and token";
const ALONE: &str = "authjs token";

const KEEP: &str = "
    INSERT INTO one_time_values (value_hash, purpose, subject, payload, created_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (value_hash) DO NOTHING";
const TAKE: &str = "
    DELETE FROM one_time_values WHERE value_hash = $1 AND purpose = $2
    RETURNING payload, expires_at";
// Of two people with the same short code nobody can say who it is.
const TAKE_ALONE: &str = "
    DELETE FROM one_time_values WHERE purpose = $2 AND subject = $1
      AND (SELECT COUNT(*) FROM one_time_values other WHERE other.purpose = $2 AND other.subject = $1) = 1
    RETURNING payload, expires_at";

/// What a token was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub identifier: String,
    /// It may be over: the app judges that.
    pub expires_at: Millis,
}

/// Keeps a token; false when this identifier has it already.
pub fn keep(
    tx: &mut Tx<'_>,
    vault: &Vault,
    identifier: &str,
    token: &str,
    expires_at: Millis,
    now: Millis,
) -> Result<bool, Error> {
    let (pair, alone) = (pair(vault, identifier, token), vault.hash(ALONE, token));
    Ok(tx.execute(KEEP, params![&pair, PURPOSE, &alone, identifier, now, expires_at])? == 1)
}

/// Uses a token up, in one statement, so that of any number of callers at once one gets it. Apps may leave the identifier
/// out of their links; one that is given has to be the token's.
pub fn take(
    tx: &mut Tx<'_>,
    vault: &Vault,
    identifier: Option<&str>,
    token: &str,
) -> Result<Option<Taken>, Error> {
    let read = |row: &Row<'_>| Ok(Taken { identifier: row.get(0)?, expires_at: row.get(1)? });
    match identifier {
        Some(identifier) => tx.query_opt(TAKE, params![&pair(vault, identifier, token), PURPOSE], read),
        None => tx.query_opt(TAKE_ALONE, params![&vault.hash(ALONE, token), PURPOSE], read),
    }
}

fn pair(vault: &Vault, identifier: &str, token: &str) -> String {
    // Texts with a zero are refused before they come here.
    vault.hash(PAIR, &format!("{identifier}\0{token}"))
}

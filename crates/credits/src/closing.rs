//! What becomes of the accounts of an owner who is deleted: they take nothing new, and stay readable.

use crate::owner::{AccountId, Owner};
use crate::settings::Settings;
use store::{Error, Tx, params};

const OF_OWNER: &str = "SELECT id FROM credit_accounts WHERE owner = $1";
const CLOSE: &str =
    "UPDATE credit_accounts SET closed = TRUE, version = version + 1 WHERE owner = $1 AND NOT closed";
const CLOSED: &str = "SELECT 1 FROM credit_accounts WHERE owner = $1 AND closed LIMIT 1";

/// Closes an owner's accounts in the transaction that deletes the owner. A first grant that is under way on another
/// node is waited for: it either finds no owner any more, or its account is closed with the others.
pub fn close_owner(tx: &mut Tx<'_>, settings: &Settings, owner: &Owner) -> Result<(), Error> {
    let text = owner.to_string();
    let mut ids = tx.query(OF_OWNER, params![&text], |row| row.get::<String>(0))?;
    ids.extend(settings.units.iter().map(|unit| AccountId::of(owner, unit).as_str().to_owned()));
    crate::rows::lock_accounts(tx, &ids.iter().map(String::as_str).collect::<Vec<_>>())?;
    tx.execute(CLOSE, params![&text]).map(|_| ())
}

/// Whether this was an owner whose accounts are kept under its bare id.
pub fn was_closed(tx: &mut Tx<'_>, owner: &Owner) -> Result<bool, Error> {
    Ok(tx.query_opt(CLOSED, params![&owner.to_string()], |_| Ok(()))?.is_some())
}

//! What is asked of the ledger without changing it. Nothing here writes: what time has ended and nobody has settled yet is
//! worked out for the answer.
//!
//! What may touch many rows is done in steps, each a short read of its own, so that an export of a million entries holds
//! neither a database thread nor memory for long.

mod balance;
mod cursor;
mod entries;
mod export;
mod lists;
mod past;
mod usage;

#[cfg(test)]
mod tests;

pub use balance::{Balance, Standing, accounts, balance, quick_balance, standings};
pub use cursor::BadCursor;
pub use entries::{Filter, Listed, MANY_PARTS, Walk};
pub use export::{CSV_HEADER, csv_line};
pub use lists::{HoldsPage, events, hold, limits, list_json};
pub use past::Past;
pub use usage::{Group, Report, Usage, UsageItem};

use crate::owner::{AccountId, Owner};
use kernel::Millis;
use store::{Error, Tx, params};

const ACCOUNTS: &str = "SELECT id, unit, seq FROM credit_accounts WHERE owner = $1 ORDER BY unit";
const ANY_ACCOUNT: &str = "SELECT seq FROM credit_accounts WHERE owner = $1 LIMIT 1";
const NEWEST: &str = "SELECT seq FROM credit_accounts WHERE id = $1";
const CREATED_AT: &str = "SELECT created_at FROM credit_entries WHERE account_id = $1 AND seq = $2";

/// Whether the ledger knows this owner: somebody who was deleted keeps what was written.
pub fn has_account(tx: &mut Tx<'_>, owner: &Owner) -> Result<bool, Error> {
    Ok(tx.query_opt(ANY_ACCOUNT, params![&owner.to_string()], |_| Ok(()))?.is_some())
}

/// Id, unit and newest entry of each of an owner's accounts.
fn accounts_of(tx: &mut Tx<'_>, owner: &Owner) -> Result<Vec<(AccountId, String, i64)>, Error> {
    tx.query(ACCOUNTS, params![&owner.to_string()], |row| {
        Ok((AccountId::stored(row.text(0)?), row.get(1)?, row.get(2)?))
    })
}

/// The newest entry's number; `None` where there is no account.
fn newest(tx: &mut Tx<'_>, account: &AccountId) -> Result<Option<i64>, Error> {
    tx.query_opt(NEWEST, params![account.as_str()], |row| row.get(0))
}

/// The first entry that was written at `at` or later; behind the newest when there is none. Times rise with the numbers
/// of entries, so halving finds it without an index.
pub(crate) fn first_since(
    tx: &mut Tx<'_>,
    account: &AccountId,
    newest: i64,
    at: Millis,
) -> Result<i64, Error> {
    let (mut low, mut high) = (1, newest + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let created_at: Millis =
            tx.query_one(CREATED_AT, params![account.as_str(), middle], |row| row.get(0))?;
        if created_at < at {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

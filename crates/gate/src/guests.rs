//! Which guests there are: one row each, from the first visit until the guest becomes a user or the cookie's time is over.
//!
//! A signature alone makes no guest. So an id can end before its cookie does, and nobody gives credits to an id that was
//! made up.

use credits::{Owner, close_forgotten};
use kernel::{GuestId, Millis};
use rand::CryptoRng;
use store::{Error, Tx, params};

const ADD: &str = "INSERT INTO guests (id, created_at) VALUES ($1, $2)";
const FIND: &str = "SELECT 1 FROM guests WHERE id = $1";
const END: &str = "DELETE FROM guests WHERE id = $1";
const SWEEP: &str = "
    DELETE FROM guests WHERE id IN (SELECT id FROM guests WHERE created_at <= $1 LIMIT 200) RETURNING id";

pub fn create(tx: &mut Tx<'_>, now: Millis, rng: &mut impl CryptoRng) -> Result<GuestId, Error> {
    let id = GuestId::new(rng);
    tx.execute(ADD, params![id.as_str(), now])?;
    Ok(id)
}

pub fn exists(tx: &mut Tx<'_>, id: &GuestId) -> Result<bool, Error> {
    Ok(tx.query_opt(FIND, params![id.as_str()], |_| Ok(()))?.is_some())
}

/// Ends a guest; true for one caller only, however many try at once.
pub(crate) fn end(tx: &mut Tx<'_>, id: &GuestId) -> Result<bool, Error> {
    Ok(tx.execute(END, params![id.as_str()])? == 1)
}

/// Forgets guests that were made before, some at a time, and closes what they left of credits; true when more may be
/// left.
pub fn sweep(tx: &mut Tx<'_>, before: Millis) -> Result<bool, Error> {
    let over = tx.query(SWEEP, params![before], |row| Ok(Owner::Guest(row.get(0)?)))?;
    close_forgotten(tx, &over)?;
    Ok(!over.is_empty())
}

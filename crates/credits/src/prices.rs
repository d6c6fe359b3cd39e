//! Versions of the price book: a server that starts with other prices than the one before gets the next number.

use crate::settings::Settings;
use kernel::Millis;
use store::{Error, Tx, params};

const NEWEST: &str = "SELECT version, content_hash FROM credit_prices ORDER BY version DESC LIMIT 1";
const ADD: &str =
    "INSERT INTO credit_prices (version, content_hash, book, created_at) VALUES ($1, $2, $3, $4)";

/// The version of this configuration's prices; called once at start, on each node.
pub fn version(tx: &mut Tx<'_>, settings: &Settings, now: Millis) -> Result<i64, Error> {
    tx.lock("price book", &["version"])?;
    let newest = tx.query_opt(NEWEST, params![], |row| Ok((row.get::<i64>(0)?, row.get::<String>(1)?)))?;
    let hash = settings.book_hash();
    match newest {
        Some((version, known)) if known == hash => Ok(version),
        newest => {
            let version = newest.map_or(0, |(version, _)| version) + 1;
            tx.execute(ADD, params![version, &hash, &settings.book(), now])?;
            Ok(version)
        }
    }
}

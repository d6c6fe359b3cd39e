//! Keys of WebAuthn that an app makes and judges by itself.

use super::Document;
use crate::users;
use kernel::{Millis, UserId};
use store::{Error, Row, Tx, params};

const INSERT: &str = "
    INSERT INTO authjs_authenticators (credential_id, user_id, counter, document, created_at)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (credential_id) DO NOTHING";
const FIND: &str = "SELECT document, counter FROM authjs_authenticators WHERE credential_id = $1";
const LIST: &str = "
    SELECT document, counter FROM authjs_authenticators
    WHERE user_id = $1 ORDER BY created_at, credential_id LIMIT 1000";
const COUNT: &str = "
    UPDATE authjs_authenticators SET counter = $2 WHERE credential_id = $1 RETURNING document, counter";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    Done,
    Taken,
    NoUser,
}

pub fn add(
    tx: &mut Tx<'_>,
    user: &UserId,
    (credential, counter): (&str, i64),
    document: &Document,
    now: Millis,
) -> Result<Added, Error> {
    users::take_turn(tx, user)?;
    if !users::exists(tx, user)? {
        return Ok(Added::NoUser);
    }
    let text = serde_json::to_string(document).map_err(|error| Error::Fault(error.to_string()))?;
    let added = tx.execute(INSERT, params![credential, user.as_str(), counter, &text, now])? == 1;
    Ok(if added { Added::Done } else { Added::Taken })
}

pub fn find(tx: &mut Tx<'_>, credential: &str) -> Result<Option<Document>, Error> {
    tx.query_opt(FIND, params![credential], read)
}

pub fn list(tx: &mut Tx<'_>, user: &UserId) -> Result<Vec<Document>, Error> {
    tx.query(LIST, params![user.as_str()], read)
}

pub fn set_counter(tx: &mut Tx<'_>, credential: &str, counter: i64) -> Result<Option<Document>, Error> {
    tx.query_opt(COUNT, params![credential, counter], read)
}

fn read(row: &Row<'_>) -> Result<Document, Error> {
    let mut document: Document =
        serde_json::from_str(row.text(0)?).map_err(|error| Error::Fault(error.to_string()))?;
    document.insert("counter".into(), row.get::<i64>(1)?.into());
    Ok(document)
}

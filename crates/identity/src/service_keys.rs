//! Service keys: what an app's backend shows at the server doors.

use kernel::{Millis, Secret, Vault, random};
use rand::CryptoRng;
use store::{Error, Row, Tx, params};

pub const SCOPES: [&str; 4] = ["gate", "credits:read", "credits:write", "billing"];
const PREFIX: &str = "tg_sk_";
const HASH: &str = "service key";

#[derive(Debug, Clone, PartialEq)]
pub struct ServiceKey {
    pub id: String,
    pub name: String,
    /// The first characters, to recognise a key by.
    pub start: String,
    pub scopes: Vec<String>,
    pub created_at: Millis,
    pub last_used_at: Option<Millis>,
    pub revoked_at: Option<Millis>,
}

const INSERT: &str = "
    INSERT INTO service_keys (id, name, key_hash, key_start, scopes, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
const LIST: &str = "
    SELECT id, name, key_start, scopes, created_at, last_used_at, revoked_at FROM service_keys ORDER BY created_at, id";
const BY_HASH: &str = "
    SELECT id, name, key_start, scopes, created_at, last_used_at, revoked_at
    FROM service_keys WHERE key_hash = $1 AND revoked_at IS NULL";
const REVOKE: &str = "UPDATE service_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";

impl ServiceKey {
    fn read(row: &Row<'_>) -> Result<ServiceKey, Error> {
        Ok(ServiceKey {
            id: row.get(0)?,
            name: row.get(1)?,
            start: row.get(2)?,
            scopes: row.text(3)?.split(',').filter(|scope| !scope.is_empty()).map(String::from).collect(),
            created_at: row.get(4)?,
            last_used_at: row.get(5)?,
            revoked_at: row.get(6)?,
        })
    }
}

/// Makes a key; its clear text is returned once and stored nowhere.
pub fn create(
    tx: &mut Tx<'_>,
    vault: &Vault,
    name: &str,
    scopes: &[String],
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<(ServiceKey, Secret<String>), Error> {
    let text = format!("{PREFIX}{}", random::alphanumeric(rng, 40));
    let key = ServiceKey {
        id: random::alphanumeric(rng, 16),
        name: name.to_string(),
        start: text[..PREFIX.len() + 4].to_string(),
        scopes: scopes.to_vec(),
        created_at: now,
        last_used_at: None,
        revoked_at: None,
    };
    let hash = vault.hash(HASH, &text);
    tx.execute(INSERT, params![&key.id, name, &hash, &key.start, &scopes.join(","), now])?;
    Ok((key, Secret::new(text)))
}

pub fn list(tx: &mut Tx<'_>) -> Result<Vec<ServiceKey>, Error> {
    tx.query(LIST, params![], ServiceKey::read)
}

/// The key that a caller shows, unless it was revoked.
pub fn find(tx: &mut Tx<'_>, vault: &Vault, text: &str) -> Result<Option<ServiceKey>, Error> {
    tx.query_opt(BY_HASH, params![&vault.hash(HASH, text)], ServiceKey::read)
}

/// True when the key was good until now.
pub fn revoke(tx: &mut Tx<'_>, id: &str, now: Millis) -> Result<bool, Error> {
    Ok(tx.execute(REVOKE, params![id, now])? == 1)
}

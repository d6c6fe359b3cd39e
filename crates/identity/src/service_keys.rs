//! Service keys: what an app's backend shows at the server doors.

use kernel::{Millis, Secret, Vault, random, time};
use rand::CryptoRng;
use store::{Error, Row, Tx, params};

/// In the order of [`Scope`].
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

/// A key as a door needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub id: String,
    pub scopes: Scopes,
    pub last_used_at: Option<Millis>,
}

impl Shown {
    /// Whether [`note_use`] has something to write.
    pub fn is_news(&self, now: Millis) -> bool {
        self.last_used_at.is_none_or(|at| at <= now.minus(NOTED_EVERY))
    }
}

/// What a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Gate,
    CreditsRead,
    /// Includes reading.
    CreditsWrite,
    Billing,
}

impl Scope {
    pub fn name(self) -> &'static str {
        SCOPES[self as usize]
    }
}

/// The scopes of a key, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// A key that was made without scopes has all.
    fn read(text: &str) -> Scopes {
        if text.is_empty() {
            return Scopes(u8::MAX);
        }
        let bit = |name: &str| SCOPES.iter().position(|scope| *scope == name).map_or(0, |at| 1 << at);
        Scopes(text.split(',').map(bit).fold(0, |all, bit| all | bit))
    }

    pub fn allow(self, scope: Scope) -> bool {
        let has = |scope: Scope| self.0 & (1 << scope as u8) != 0;
        has(scope) || (scope == Scope::CreditsRead && has(Scope::CreditsWrite))
    }
}

const NOTED_EVERY: i64 = time::MINUTE;

const INSERT: &str = "
    INSERT INTO service_keys (id, name, key_hash, key_start, scopes, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
const LIST: &str = "
    SELECT id, name, key_start, scopes, created_at, last_used_at, revoked_at FROM service_keys ORDER BY created_at, id";
const BY_HASH: &str =
    "SELECT id, scopes, last_used_at FROM service_keys WHERE key_hash = $1 AND revoked_at IS NULL";
const NOTE_USE: &str = "UPDATE service_keys SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)";
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
pub fn find(tx: &mut Tx<'_>, vault: &Vault, text: &str) -> Result<Option<Shown>, Error> {
    tx.query_opt(BY_HASH, params![&vault.hash(HASH, text)], |row| {
        Ok(Shown { id: row.get(0)?, scopes: Scopes::read(row.text(1)?), last_used_at: row.get(2)? })
    })
}

/// Whether a text can be a key at all: what cannot costs no look into the database.
pub fn looks_like_one(text: &str) -> bool {
    let rest = text.strip_prefix(PREFIX).unwrap_or("");
    (1..=100).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Remembers that the key was used, once a minute at most.
pub fn note_use(tx: &mut Tx<'_>, id: &str, now: Millis) -> Result<(), Error> {
    tx.execute(NOTE_USE, params![id, now, now.minus(NOTED_EVERY)]).map(|_| ())
}

/// True when the key was good until now.
pub fn revoke(tx: &mut Tx<'_>, id: &str, now: Millis) -> Result<bool, Error> {
    Ok(tx.execute(REVOKE, params![id, now])? == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_allow_what_they_name_and_writing_includes_reading() {
        let all = [Scope::Gate, Scope::CreditsRead, Scope::CreditsWrite, Scope::Billing];
        for scope in all {
            let named = Scopes::read(scope.name());
            for other in all {
                let included = scope == Scope::CreditsWrite && other == Scope::CreditsRead;
                assert_eq!(named.allow(other), scope == other || included, "{scope:?} {other:?}");
            }
            assert!(Scopes::read("").allow(scope));
            assert!(Scopes::read(&SCOPES.join(",")).allow(scope));
            assert!(!Scopes::read("of a later release").allow(scope));
        }
    }

    #[test]
    fn texts_that_cannot_be_keys_are_known() {
        assert!(looks_like_one("tg_sk_aZ09"));
        for text in
            ["", "tg_sk_", "aZ09", "tg_sk_a b", "tg_sk_a\0", "TG_SK_a", &format!("tg_sk_{}", "a".repeat(101))]
        {
            assert!(!looks_like_one(text), "{text}");
        }
    }
}

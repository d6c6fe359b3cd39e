//! Keys that users and organizations make for programs: shown once, found by keyed hash, counted exactly.

mod usage;

pub use usage::{Unusable, Used, take};

use crate::organizations::{self, members};
use kernel::{Millis, OrganizationId, Secret, UserId, Vault, random};
use rand::CryptoRng;
use serde_json::{Map, Value};
use store::{Error, Row, Tx, params};

const HASH: &str = "api key";
/// Of letters behind the prefix: 365 bits.
const LETTERS: usize = 64;
const START: usize = 6;
/// Nothing longer is a key.
const LONGEST: usize = 160;
/// More keys of one holder than these are not listed.
const LISTED: i64 = 1_000;

/// Whose key it is: on whose behalf it acts, and whose credits it spends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    User(UserId),
    Organization(OrganizationId),
}

impl Holder {
    pub fn id(&self) -> &str {
        match self {
            Holder::User(id) => id.as_str(),
            Holder::Organization(id) => id.as_str(),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    pub id: String,
    pub holder: Holder,
    pub name: Option<String>,
    pub prefix: Option<String>,
    pub start: String,
    pub enabled: bool,
    pub limit: RateLimit,
    pub request_count: i64,
    pub last_request_at: Option<Millis>,
    pub quota: Quota,
    pub last_refill_at: Option<Millis>,
    pub expires_at: Option<Millis>,
    /// A JSON object: for each kind of thing what may be done with it.
    pub permissions: Option<String>,
    /// JSON.
    pub metadata: Option<String>,
    pub created_at: Millis,
    pub updated_at: Millis,
}

/// How often a key may be used. The count begins anew when the last use is older than the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    pub enabled: bool,
    /// In milliseconds.
    pub window: Option<i64>,
    pub max: Option<i64>,
}

/// How many uses are left in all, if that is bounded, and how they come back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    pub remaining: Option<i64>,
    /// In milliseconds.
    pub refill_interval: Option<i64>,
    pub refill_amount: Option<i64>,
}

/// Whether a user may see and change the keys of an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Management {
    Allowed,
    NotAMember,
    /// Owners alone: no other role of the original has a say in keys.
    NotAnOwner,
}

/// What a new key is made of.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub holder: Holder,
    pub name: Option<String>,
    pub prefix: Option<String>,
    pub limit: RateLimit,
    pub quota: Quota,
    pub expires_at: Option<Millis>,
    pub permissions: Option<String>,
    pub metadata: Option<String>,
}

/// What is to be changed; what is `None` stays. The inner `None` takes a thing away.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    pub name: Option<String>,
    pub enabled: Option<bool>,
    pub expires_at: Option<Option<Millis>>,
    pub metadata: Option<Option<String>>,
    pub permissions: Option<Option<String>>,
    pub limit: Option<RateLimit>,
    pub quota: Option<Quota>,
}

macro_rules! columns {
    () => {
        "id, user_id, organization_id, name, prefix, start, enabled, rate_limit_enabled, rate_limit_window, rate_limit_max, \
         request_count, last_request_at, remaining, refill_interval, refill_amount, last_refill_at, expires_at, permissions, \
         metadata, created_at, updated_at"
    };
}
use columns;

const INSERT: &str = "
    INSERT INTO api_keys (id, user_id, organization_id, key_hash, name, prefix, start, enabled, rate_limit_enabled,
      rate_limit_window, rate_limit_max, request_count, remaining, refill_interval, refill_amount, expires_at, permissions,
      metadata, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, TRUE, $8, $9, $10, 0, $11, $12, $13, $14, $15, $16, $17, $17)";
const BY_ID: &str = concat!("SELECT ", columns!(), " FROM api_keys WHERE id = $1");
const OF_USER: &str =
    concat!("SELECT ", columns!(), " FROM api_keys WHERE user_id = $1 ORDER BY created_at, id LIMIT $2");
const OF_ORGANIZATION: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM api_keys WHERE organization_id = $1 ORDER BY created_at, id LIMIT $2"
);
const SET: &str = "
    UPDATE api_keys SET name = $2, enabled = $3, expires_at = $4, metadata = $5, permissions = $6, rate_limit_enabled = $7,
      rate_limit_window = $8, rate_limit_max = $9, updated_at = $10
    WHERE id = $1";
const SET_QUOTA: &str =
    "UPDATE api_keys SET remaining = $2, refill_interval = $3, refill_amount = $4 WHERE id = $1";
const DELETE: &str = "DELETE FROM api_keys WHERE id = $1";
const SWEEP: &str =
    "DELETE FROM api_keys WHERE id IN (SELECT id FROM api_keys WHERE expires_at <= $1 LIMIT 500)";

impl ApiKey {
    fn read(row: &Row<'_>) -> Result<ApiKey, Error> {
        let holder = match (row.text_or_null(1)?, row.text_or_null(2)?) {
            (Some(user), _) => Holder::User(UserId::from_text(user)),
            (None, Some(organization)) => Holder::Organization(OrganizationId::from_text(organization)),
            (None, None) => return Err(Error::Fault("an API key of nobody".into())),
        };
        Ok(ApiKey {
            id: row.get(0)?,
            holder,
            name: row.get(3)?,
            prefix: row.get(4)?,
            start: row.get(5)?,
            enabled: row.get(6)?,
            limit: RateLimit { enabled: row.get(7)?, window: row.get(8)?, max: row.get(9)? },
            request_count: row.get(10)?,
            last_request_at: row.get(11)?,
            quota: Quota {
                remaining: row.get(12)?,
                refill_interval: row.get(13)?,
                refill_amount: row.get(14)?,
            },
            last_refill_at: row.get(15)?,
            expires_at: row.get(16)?,
            permissions: row.get(17)?,
            metadata: row.get(18)?,
            created_at: row.get(19)?,
            updated_at: row.get(20)?,
        })
    }

    /// Whether the key may do all of this: for each kind of thing every action that is named.
    pub fn permits(&self, asked: &Map<String, Value>) -> bool {
        let own: Map<String, Value> =
            self.permissions.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        asked.iter().all(|(thing, actions)| {
            let own = own.get(thing).and_then(Value::as_array);
            let asked = actions.as_array();
            asked.zip(own).is_some_and(|(asked, own)| asked.iter().all(|action| own.contains(action)))
        })
    }
}

/// Makes a key; its clear text is returned once and stored nowhere.
pub fn create(
    tx: &mut Tx<'_>,
    vault: &Vault,
    new: &NewKey,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<(ApiKey, Secret<String>), Error> {
    let text = format!("{}{}", new.prefix.as_deref().unwrap_or_default(), letters(rng));
    let key = ApiKey {
        id: random::alphanumeric(rng, 32),
        holder: new.holder.clone(),
        name: new.name.clone(),
        prefix: new.prefix.clone(),
        start: text[..START].to_owned(),
        enabled: true,
        limit: new.limit,
        request_count: 0,
        last_request_at: None,
        quota: new.quota,
        last_refill_at: None,
        expires_at: new.expires_at,
        permissions: new.permissions.clone(),
        metadata: new.metadata.clone(),
        created_at: now,
        updated_at: now,
    };
    let (user, organization) = match &key.holder {
        Holder::User(id) => (Some(id.as_str()), None),
        Holder::Organization(id) => (None, Some(id.as_str())),
    };
    tx.execute(
        INSERT,
        params![
            &key.id,
            user,
            organization,
            &vault.hash(HASH, &text),
            &key.name,
            &key.prefix,
            &key.start,
            key.limit.enabled,
            key.limit.window,
            key.limit.max,
            key.quota.remaining,
            key.quota.refill_interval,
            key.quota.refill_amount,
            key.expires_at,
            &key.permissions,
            &key.metadata,
            now,
        ],
    )?;
    Ok((key, Secret::new(text)))
}

fn letters(rng: &mut impl CryptoRng) -> String {
    let mut text = String::with_capacity(LETTERS);
    while text.len() < LETTERS {
        let more = random::alphanumeric(rng, LETTERS);
        text.extend(more.chars().filter(char::is_ascii_alphabetic).take(LETTERS - text.len()));
    }
    text
}

/// What is too short to be a key is told apart before anybody looks for it.
pub fn is_too_short(text: &str) -> bool {
    text.encode_utf16().count() < LETTERS
}

/// Whether a text can be a key at all; tokens of sessions are shorter, and signed ones have a dot.
pub fn looks_like_one(text: &str) -> bool {
    (LETTERS..=LONGEST).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

pub fn by_id(tx: &mut Tx<'_>, id: &str) -> Result<Option<ApiKey>, Error> {
    tx.query_opt(BY_ID, params![id], ApiKey::read)
}

/// A holder's keys, oldest first.
pub fn list(tx: &mut Tx<'_>, holder: &Holder) -> Result<Vec<ApiKey>, Error> {
    let sql = match holder {
        Holder::User(_) => OF_USER,
        Holder::Organization(_) => OF_ORGANIZATION,
    };
    tx.query(sql, params![holder.id(), LISTED], ApiKey::read)
}

pub fn management(
    tx: &mut Tx<'_>,
    organization: &OrganizationId,
    user: &UserId,
) -> Result<Management, Error> {
    let role = organizations::member_role(tx, organization, user)?;
    Ok(match role {
        None => Management::NotAMember,
        Some(role) if members::names_owner(&role) => Management::Allowed,
        Some(_) => Management::NotAnOwner,
    })
}

/// Changes a key that was found in the same transaction, after [`hold`].
pub fn change(tx: &mut Tx<'_>, key: ApiKey, changes: Changes, now: Millis) -> Result<ApiKey, Error> {
    let quota = changes.quota;
    let key = ApiKey {
        name: changes.name.or(key.name),
        enabled: changes.enabled.unwrap_or(key.enabled),
        expires_at: changes.expires_at.unwrap_or(key.expires_at),
        metadata: changes.metadata.unwrap_or(key.metadata),
        permissions: changes.permissions.unwrap_or(key.permissions),
        limit: changes.limit.unwrap_or(key.limit),
        quota: quota.unwrap_or(key.quota),
        updated_at: now,
        ..key
    };
    tx.execute(
        SET,
        params![
            &key.id,
            &key.name,
            key.enabled,
            key.expires_at,
            &key.metadata,
            &key.permissions,
            key.limit.enabled,
            key.limit.window,
            key.limit.max,
            now,
        ],
    )?;
    // Uses go on meanwhile, and what they count is not written over unasked.
    if let Some(quota) = quota {
        let values = params![&key.id, quota.remaining, quota.refill_interval, quota.refill_amount];
        tx.execute(SET_QUOTA, values)?;
    }
    Ok(key)
}

/// Of two who change one key at once the second sees what the first did. Before the key is read.
pub fn hold(tx: &mut Tx<'_>, id: &str) -> Result<(), Error> {
    tx.lock("api key", &[id])
}

/// True when there was such a key.
pub fn delete(tx: &mut Tx<'_>, id: &str) -> Result<bool, Error> {
    Ok(tx.execute(DELETE, params![id])? == 1)
}

/// Deletes keys that ended before, some at a time; true when more may be left.
pub fn sweep(tx: &mut Tx<'_>, ended_before: Millis) -> Result<bool, Error> {
    Ok(tx.execute(SWEEP, params![ended_before])? >= 500)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_told_from_tokens_and_from_what_is_no_key() {
        let key = letters(&mut random::secure());
        assert_eq!(key.len(), LETTERS);
        assert!(key.bytes().all(|byte| byte.is_ascii_alphabetic()));
        assert!(looks_like_one(&key) && looks_like_one(&format!("tg_live-{key}")));
        let token = random::alphanumeric(&mut random::secure(), 32);
        for text in [&token, &format!("{token}.{}=", "a".repeat(43)), &key[1..], &format!("{key} "), ""] {
            assert!(!looks_like_one(text), "{text}");
        }
        assert!(!looks_like_one(&"a".repeat(LONGEST + 1)));
    }

    #[test]
    fn permissions_are_had_whole_or_not_at_all() {
        let key = |permissions: Option<&str>| ApiKey {
            id: "k".into(),
            holder: Holder::Organization(OrganizationId::from_text("o")),
            name: None,
            prefix: None,
            start: String::new(),
            enabled: true,
            limit: RateLimit { enabled: false, window: None, max: None },
            request_count: 0,
            last_request_at: None,
            quota: Quota::default(),
            last_refill_at: None,
            expires_at: None,
            permissions: permissions.map(str::to_owned),
            metadata: None,
            created_at: Millis(0),
            updated_at: Millis(0),
        };
        let asked = |value: Value| value.as_object().cloned().unwrap();
        let own = key(Some(r#"{"files":["read","write"],"users":["read"]}"#));
        assert!(own.permits(&asked(json!({}))));
        assert!(own.permits(&asked(json!({"files": ["read"]}))));
        assert!(own.permits(&asked(json!({"files": ["read", "write"], "users": ["read"]}))));
        assert!(!own.permits(&asked(json!({"files": ["delete"]}))));
        assert!(!own.permits(&asked(json!({"files": ["read"], "mails": []}))));
        assert!(!own.permits(&asked(json!({"files": "read"}))));
        assert!(!key(None).permits(&asked(json!({"files": ["read"]}))));
        assert!(!key(Some("no JSON")).permits(&asked(json!({"files": ["read"]}))));
    }
}

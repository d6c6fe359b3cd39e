//! Passkeys: the public halves of keys that a user's authenticators hold, and what they signed.
//!
//! A ceremony begins with a challenge that works once ([`begin`]) and ends with what the authenticator made of it, which
//! [`webauthn`] judges. Rows keep what Better Auth's do.

mod cose;
pub mod webauthn;

use crate::one_time::{self, Consumed, Purpose};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kernel::{Millis, PasskeyId, UserId, Vault, random};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use store::{Error, Row, Tx, params};
use webauthn::{Registered, Used};

const CHALLENGE_BYTES: usize = 32;

#[derive(Debug, Clone, PartialEq)]
pub struct Passkey {
    pub id: PasskeyId,
    pub user_id: UserId,
    pub name: Option<String>,
    /// base64url, as browsers write it.
    pub credential_id: String,
    /// The COSE key in base64.
    pub public_key: String,
    pub counter: i64,
    pub device_type: String,
    pub backed_up: bool,
    /// Separated by commas.
    pub transports: String,
    pub aaguid: String,
    pub created_at: Millis,
}

const LIST: &str = "
    SELECT id, user_id, name, credential_id, public_key, counter, device_type, backed_up, transports, aaguid, created_at
    FROM passkeys WHERE user_id = $1 ORDER BY created_at, id";
const BY_CREDENTIAL: &str = "
    SELECT id, user_id, name, credential_id, public_key, counter, device_type, backed_up, transports, aaguid, created_at
    FROM passkeys WHERE credential_id = $1";
const OWNER: &str = "SELECT user_id FROM passkeys WHERE id = $1";
// One key is one user's: the authenticator would sign in whoever registered it first.
const INSERT: &str = "
    INSERT INTO passkeys (id, user_id, name, credential_id, public_key, counter, device_type, backed_up, transports, aaguid, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT (credential_id) DO NOTHING";
// A counter that does not go up tells of a copied key; authenticators without one always say 0. In one statement, so that
// an answer cannot be used twice at once.
const USE: &str = "
    UPDATE passkeys SET counter = $3, backed_up = $4
    WHERE id = $1 AND public_key = $2 AND (counter < $3 OR (counter = 0 AND $3 = 0))";
const RENAME: &str = "
    UPDATE passkeys SET name = $3 WHERE id = $1 AND user_id = $2
    RETURNING id, user_id, name, credential_id, public_key, counter, device_type, backed_up, transports, aaguid, created_at";
const REMOVE: &str = "DELETE FROM passkeys WHERE id = $1 AND user_id = $2";

/// What a challenge was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ceremony {
    Registration,
    Authentication,
}

/// A challenge that was just used up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    pub ceremony: Ceremony,
    /// base64url, as the authenticator signs it.
    pub text: String,
    /// Who asked for it, where somebody was signed in.
    pub user: Option<String>,
}

/// A challenge, and what the browser keeps in its cookie to come back with.
pub struct Begun {
    pub challenge: String,
    pub ticket: String,
}

/// Whether a passkey is there, and whose.
#[derive(Debug, Clone, PartialEq)]
pub enum Found<T> {
    Own(T),
    SomebodyElses,
    Unknown,
}

impl Passkey {
    fn read(row: &Row<'_>) -> Result<Passkey, Error> {
        Ok(Passkey {
            id: PasskeyId::from_text(row.text(0)?),
            user_id: UserId::from_text(row.text(1)?),
            name: row.get(2)?,
            credential_id: row.get(3)?,
            public_key: row.get(4)?,
            counter: row.get(5)?,
            device_type: row.get(6)?,
            backed_up: row.get(7)?,
            transports: row.get(8)?,
            aaguid: row.get(9)?,
            created_at: row.get(10)?,
        })
    }

    pub fn transports(&self) -> impl Iterator<Item = &str> {
        self.transports.split(',').filter(|transport| !transport.is_empty())
    }

    /// The key's bytes; `None` when what is stored is no base64.
    pub fn key(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.public_key).ok()
    }
}

/// Makes a challenge.
pub fn begin(
    tx: &mut Tx<'_>,
    vault: &Vault,
    ceremony: Ceremony,
    user: Option<&UserId>,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Begun, Error> {
    let challenge = URL_SAFE_NO_PAD.encode(random::bytes::<CHALLENGE_BYTES>(rng));
    let payload =
        Challenge { ceremony, text: challenge.clone(), user: user.map(|user| user.as_str().to_owned()) };
    // Nobody's challenges do not wait for each other.
    let subject = payload.user.as_deref().unwrap_or(&challenge);
    let ticket = one_time::issue(tx, vault, Purpose::Passkey, subject, &payload, now, rng)?;
    Ok(Begun { challenge, ticket })
}

/// Uses a challenge up, whatever comes of it; `None` when it was used, is too old, or was made for something else.
pub fn end(
    tx: &mut Tx<'_>,
    vault: &Vault,
    ceremony: Ceremony,
    ticket: &str,
    now: Millis,
) -> Result<Option<Challenge>, Error> {
    Ok(match one_time::consume::<Challenge>(tx, vault, Purpose::Passkey, ticket, now)? {
        Consumed::Now(found) if found.payload.ceremony == ceremony => Some(found.payload),
        _ => None,
    })
}

/// Oldest first.
pub fn list(tx: &mut Tx<'_>, user: &UserId) -> Result<Vec<Passkey>, Error> {
    tx.query(LIST, params![user.as_str()], Passkey::read)
}

pub fn by_credential(tx: &mut Tx<'_>, credential_id: &str) -> Result<Option<Passkey>, Error> {
    tx.query_opt(BY_CREDENTIAL, params![credential_id], Passkey::read)
}

/// `None` when the key is registered already, whoever's it is.
pub fn add(
    tx: &mut Tx<'_>,
    user: &UserId,
    name: Option<&str>,
    registered: &Registered,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Option<Passkey>, Error> {
    let passkey = Passkey {
        id: PasskeyId::new(rng),
        user_id: user.clone(),
        name: name.map(str::to_owned),
        credential_id: URL_SAFE_NO_PAD.encode(&registered.credential_id),
        public_key: STANDARD.encode(&registered.public_key),
        counter: i64::from(registered.counter),
        device_type: registered.device_type().to_owned(),
        backed_up: registered.backed_up,
        transports: registered.transports.join(","),
        aaguid: registered.aaguid.clone(),
        created_at: now,
    };
    let values = params![
        passkey.id.as_str(),
        passkey.user_id.as_str(),
        &passkey.name,
        &passkey.credential_id,
        &passkey.public_key,
        passkey.counter,
        &passkey.device_type,
        passkey.backed_up,
        &passkey.transports,
        &passkey.aaguid,
        now,
    ];
    Ok((tx.execute(INSERT, values)? == 1).then_some(passkey))
}

/// Notes that a key has signed; false when its counter did not go up, or when the key was removed meanwhile.
pub fn note_use(tx: &mut Tx<'_>, passkey: &Passkey, used: Used) -> Result<bool, Error> {
    let values = params![passkey.id.as_str(), &passkey.public_key, i64::from(used.counter), used.backed_up];
    Ok(tx.execute(USE, values)? == 1)
}

pub fn rename(tx: &mut Tx<'_>, user: &UserId, id: &PasskeyId, name: &str) -> Result<Found<Passkey>, Error> {
    let renamed = tx.query_opt(RENAME, params![id.as_str(), user.as_str(), name], Passkey::read)?;
    renamed.map_or_else(|| absent(tx, id), |passkey| Ok(Found::Own(passkey)))
}

pub fn remove(tx: &mut Tx<'_>, user: &UserId, id: &PasskeyId) -> Result<Found<()>, Error> {
    match tx.execute(REMOVE, params![id.as_str(), user.as_str()])? {
        0 => absent(tx, id),
        _ => Ok(Found::Own(())),
    }
}

fn absent<T>(tx: &mut Tx<'_>, id: &PasskeyId) -> Result<Found<T>, Error> {
    let owner = tx.query_opt(OWNER, params![id.as_str()], |_| Ok(()))?;
    Ok(owner.map_or(Found::Unknown, |()| Found::SomebodyElses))
}

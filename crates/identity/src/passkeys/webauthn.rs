//! Judging what an authenticator answered (Web Authentication Level 3, sections 7.1 and 7.2). Pure: what was asked for and
//! what came back, nothing else.
//!
//! No attestation is asked for, so none is believed: an answer carries the empty one, or one that the key itself has
//! signed. That the user was verified is preferred and not insisted on, as the options say.

use super::cose::{PublicKey, integer};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ciborium::Value as Cbor;
use kernel::secret::same_secret;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub use super::cose::ALGORITHMS;

/// Longer ids are no authenticator's (section 4, credential id).
const LONGEST_ID: usize = 1_023;
/// Maps in maps; what authenticators write is flat.
const DEEPEST: usize = 8;
const TRANSPORTS: [&str; 7] = ["ble", "cable", "hybrid", "internal", "nfc", "smart-card", "usb"];

const PRESENT: u8 = 1;
const BACKUP_ELIGIBLE: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const HAS_KEY: u8 = 1 << 6;
const HAS_EXTENSIONS: u8 = 1 << 7;

/// What an answer must be an answer to.
pub struct Expected<'a> {
    /// base64url.
    pub challenge: &'a str,
    pub rp_id: &'a str,
    /// Whether the page that asked is one of ours.
    pub is_ours: &'a dyn Fn(&str) -> bool,
}

/// Why an answer was refused; no more than a log needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the answer is not whole")]
    Malformed,
    #[error("it is an answer to something else")]
    OtherCeremony,
    #[error("it was made on another site")]
    OtherSite,
    #[error("nobody was present")]
    NobodyPresent,
    #[error("the key is of a kind that was not asked for")]
    OtherKey,
    #[error("the attestation is of a kind that was not asked for, or does not hold")]
    Attestation,
    #[error("the signature is wrong")]
    Signature,
    #[error("the counter went back")]
    Counter,
}

/// A new key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    pub credential_id: Vec<u8>,
    /// COSE.
    pub public_key: Vec<u8>,
    pub counter: u32,
    pub backup_eligible: bool,
    pub backed_up: bool,
    pub aaguid: String,
    pub transports: Vec<String>,
}

impl Registered {
    /// As Better Auth calls it.
    pub fn device_type(&self) -> &'static str {
        if self.backup_eligible { "multiDevice" } else { "singleDevice" }
    }
}

/// A key has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    pub counter: u32,
    pub backed_up: bool,
}

/// The members of an answer in the JSON that browsers' `toJSON()` writes.
#[derive(Deserialize)]
struct Credential<T> {
    id: String,
    #[serde(rename = "rawId")]
    raw_id: String,
    #[serde(rename = "type")]
    kind: String,
    response: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attestation {
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    attestation_object: String,
    transports: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Assertion {
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    authenticator_data: String,
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default)]
    cross_origin: bool,
}

/// What the authenticator says and signs.
struct AuthenticatorData<'a> {
    site: &'a [u8],
    flags: u8,
    counter: u32,
    key: Option<AttestedKey<'a>>,
}

struct AttestedKey<'a> {
    aaguid: &'a [u8],
    credential_id: &'a [u8],
    cose: &'a [u8],
    parsed: Option<PublicKey>,
}

/// The id of the credential that an answer to a sign-in comes from; what is no base64url is nobody's.
pub fn credential_id(response: &Value) -> Option<&str> {
    let id = response.get("id")?.as_str()?;
    id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)).then_some(id)
}

/// Whether this looks like a registration's answer at all.
pub fn is_whole_registration(response: &Value) -> bool {
    Credential::<Attestation>::deserialize(response).is_ok()
}

pub fn register(expected: &Expected<'_>, response: &Value) -> Result<Registered, Refused> {
    let (credential_id, answer) = read::<Attestation>(response)?;
    let client_data = decode(&answer.client_data)?;
    check_client_data(expected, &client_data, "webauthn.create")?;
    let object = decode(&answer.attestation_object)?;
    let mut rest = object.as_slice();
    let object = cbor(&mut rest)?;
    if !rest.is_empty() {
        return Err(Refused::Malformed);
    }
    let (Some(Cbor::Text(format)), Some(Cbor::Map(statement)), Some(Cbor::Bytes(signed))) =
        (member(&object, "fmt"), member(&object, "attStmt"), member(&object, "authData"))
    else {
        return Err(Refused::Malformed);
    };
    let data = AuthenticatorData::parse(signed)?;
    data.check(expected)?;
    let Some(key) = &data.key else { return Err(Refused::Malformed) };
    if key.credential_id != credential_id {
        return Err(Refused::Malformed);
    }
    let public_key = key.parsed.as_ref().ok_or(Refused::OtherKey)?;
    check_attestation(format, statement, public_key, &message(signed, &client_data))?;
    let named = answer.transports.unwrap_or_default();
    let transports = TRANSPORTS.iter().filter(|known| named.iter().any(|name| name == *known));
    Ok(Registered {
        credential_id,
        public_key: key.cose.to_vec(),
        counter: data.counter,
        backup_eligible: data.flags & BACKUP_ELIGIBLE != 0,
        backed_up: data.flags & BACKED_UP != 0,
        aaguid: uuid(key.aaguid),
        transports: transports.map(|known| (*known).to_owned()).collect(),
    })
}

/// `cose` and `counter` are those of the credential that the answer names.
pub fn authenticate(
    expected: &Expected<'_>,
    response: &Value,
    cose: &[u8],
    counter: i64,
) -> Result<Used, Refused> {
    let (_, answer) = read::<Assertion>(response)?;
    let client_data = decode(&answer.client_data)?;
    check_client_data(expected, &client_data, "webauthn.get")?;
    let signed = decode(&answer.authenticator_data)?;
    let data = AuthenticatorData::parse(&signed)?;
    data.check(expected)?;
    let mut rest = cose;
    let key = PublicKey::parse(&cbor(&mut rest)?).ok_or(Refused::OtherKey)?;
    if !key.has_signed(&message(&signed, &client_data), &decode(&answer.signature)?) {
        return Err(Refused::Signature);
    }
    // Judged again, and for good, by the statement that writes it.
    let found = i64::from(data.counter);
    if found <= counter && (found != 0 || counter != 0) {
        return Err(Refused::Counter);
    }
    Ok(Used { counter: data.counter, backed_up: data.flags & BACKED_UP != 0 })
}

fn read<'v, T: Deserialize<'v>>(response: &'v Value) -> Result<(Vec<u8>, T), Refused> {
    let credential = Credential::<T>::deserialize(response).map_err(|_| Refused::Malformed)?;
    if credential.id != credential.raw_id || credential.kind != "public-key" {
        return Err(Refused::Malformed);
    }
    let id = decode(&credential.id)?;
    if id.is_empty() || id.len() > LONGEST_ID {
        return Err(Refused::Malformed);
    }
    Ok((id, credential.response))
}

fn check_client_data(expected: &Expected<'_>, json: &[u8], kind: &str) -> Result<(), Refused> {
    let data: ClientData = serde_json::from_slice(json).map_err(|_| Refused::Malformed)?;
    if data.kind != kind || !same_secret(data.challenge.as_bytes(), expected.challenge.as_bytes()) {
        return Err(Refused::OtherCeremony);
    }
    // A ceremony in a frame of somebody else's page is somebody else's idea.
    if data.cross_origin || !(expected.is_ours)(&data.origin) {
        return Err(Refused::OtherSite);
    }
    Ok(())
}

fn check_attestation(
    format: &str,
    statement: &[(Cbor, Cbor)],
    key: &PublicKey,
    message: &[u8],
) -> Result<(), Refused> {
    let get = |wanted: &str| {
        statement.iter().find(|(name, _)| name.as_text() == Some(wanted)).map(|(_, value)| value)
    };
    let holds = match format {
        "none" => statement.is_empty(),
        // Signed by the key itself: that much can be checked without knowing anybody's certificates.
        "packed" if get("x5c").is_none() => {
            let algorithm = get("alg").and_then(integer);
            let signature = get("sig").and_then(Cbor::as_bytes);
            algorithm == Some(key.algorithm()) && signature.is_some_and(|sig| key.has_signed(message, sig))
        }
        _ => false,
    };
    if holds { Ok(()) } else { Err(Refused::Attestation) }
}

impl<'a> AuthenticatorData<'a> {
    fn parse(bytes: &'a [u8]) -> Result<AuthenticatorData<'a>, Refused> {
        let mut rest = bytes;
        let site = take(&mut rest, 32)?;
        let flags = take(&mut rest, 1)?[0];
        let counter = take(&mut rest, 4)?.iter().fold(0, |number, &byte| number << 8 | u32::from(byte));
        let key = if flags & HAS_KEY == 0 { None } else { Some(AttestedKey::parse(&mut rest)?) };
        if flags & HAS_EXTENSIONS != 0 {
            // Nothing was asked for that we would read; but it must be there and be the last.
            cbor(&mut rest)?;
        }
        if !rest.is_empty() {
            return Err(Refused::Malformed);
        }
        Ok(AuthenticatorData { site, flags, counter, key })
    }

    fn check(&self, expected: &Expected<'_>) -> Result<(), Refused> {
        if self.site != Sha256::digest(expected.rp_id.as_bytes()).as_slice() {
            return Err(Refused::OtherSite);
        }
        if self.flags & PRESENT == 0 {
            return Err(Refused::NobodyPresent);
        }
        // What cannot be backed up is not.
        if self.flags & BACKED_UP != 0 && self.flags & BACKUP_ELIGIBLE == 0 {
            return Err(Refused::Malformed);
        }
        Ok(())
    }
}

impl<'a> AttestedKey<'a> {
    fn parse(rest: &mut &'a [u8]) -> Result<AttestedKey<'a>, Refused> {
        let aaguid = take(rest, 16)?;
        let length = take(rest, 2)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let credential_id = take(rest, length)?;
        let from = *rest;
        let parsed = PublicKey::parse(&cbor(rest)?);
        Ok(AttestedKey { aaguid, credential_id, cose: &from[..from.len() - rest.len()], parsed })
    }
}

/// What is signed: what the authenticator says, and the hash of what the browser says.
fn message(authenticator_data: &[u8], client_data: &[u8]) -> Vec<u8> {
    let mut message = authenticator_data.to_vec();
    message.extend_from_slice(&Sha256::digest(client_data));
    message
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Refused> {
    let (taken, left) = rest.split_at_checked(length).ok_or(Refused::Malformed)?;
    *rest = left;
    Ok(taken)
}

/// The next item; what stands behind it is left.
fn cbor(rest: &mut &[u8]) -> Result<Cbor, Refused> {
    ciborium::de::from_reader_with_recursion_limit(rest, DEEPEST).map_err(|_| Refused::Malformed)
}

fn member<'v>(object: &'v Cbor, name: &str) -> Option<&'v Cbor> {
    object.as_map()?.iter().find(|(found, _)| found.as_text() == Some(name)).map(|(_, value)| value)
}

/// Without padding, as the standard has it.
fn decode(text: &str) -> Result<Vec<u8>, Refused> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Refused::Malformed)
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests;

//! Session tokens of Auth.js: encrypted ones as its versions 4 and 5 write them, or signed ones where an app was configured so.
//!
//! Whatever is accepted here the original accepts as well, and not the other way round: it takes tokens without an end,
//! compressed ones, other algorithms and several spellings of one token, all of which a backend has no use for.

use aes::Aes256;
use aes_gcm::aead::{Aead, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use kernel::secret::same_secret;
use kernel::{Millis, Secret, Secrets};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256, Sha512};
use std::fmt;

/// All the headers of a request have no more.
const MAX_BYTES: usize = 16 * 1024;
/// By how many seconds the clocks of app and backend may differ.
const TOLERANCE: f64 = 15.0;
/// Of a user's id.
const MAX_SUBJECT: usize = 256;
/// Of a token that ends later than anybody writes years in four digits.
const LAST: f64 = 253_402_300_799.0;

/// How an app's tokens are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Encrypted, as Auth.js does by itself.
    Encrypted,
    /// Signed with HS256 by functions of the app's own.
    Signed,
}

/// Which version of Auth.js encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    V4,
    V5,
    /// As each token's header says.
    Either,
}

impl Dialect {
    /// A cookie with the name that a version gives it is that version's; one that the app named itself may be either's.
    pub fn of_cookie(name: &str) -> Dialect {
        let bare =
            ["__Secure-", "__Host-"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        match bare {
            "next-auth.session-token" => Dialect::V4,
            "authjs.session-token" => Dialect::V5,
            _ => Dialect::Either,
        }
    }
}

/// What a token says that anybody here acts on.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// The user's id.
    pub subject: String,
    pub expires_at: Millis,
    pub issued_at: Option<Millis>,
    exp: f64,
    nbf: Option<f64>,
}

/// Why a credential opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("where the token belongs stands {0}")]
    NotAToken(Mistake),
    #[error(
        "the session token is not valid: it is malformed, was changed, or was made with another secret or cookie name"
    )]
    Invalid,
    #[error(
        "the session token is encrypted and a signed one (HS256) is expected; configure jwt.encode and jwt.decode in the app, or authjs.format = \"jwe\" here"
    )]
    EncryptedNotSigned,
    #[error(
        "the session token is signed and an encrypted one is expected; send Auth.js' own token, or write authjs.format = \"hs256\" if the app signs its tokens"
    )]
    SignedNotEncrypted,
    #[error("the session token is over; load /api/auth/session in the app, which renews it, or sign in anew")]
    Expired,
    #[error("the session token names nobody: its claim `sub` has to be the user's id")]
    NoSubject,
}

/// What apps send in a token's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// `[object Object]`, or the claims as JSON.
    Object,
    Promise,
    Undefined,
    Null,
    NotANumber,
    Spaces,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raw = "take the raw token with getToken({ req, raw: true }) in a route handler";
        match self {
            Mistake::Object => {
                write!(f, "an object: the app put the decoded claims into the header; {raw}")
            }
            Mistake::Promise => {
                f.write_str("a promise: an `await` is missing in the app where the token is read")
            }
            Mistake::Undefined => {
                write!(f, "`undefined`: the app had no token, perhaps because nobody is signed in; {raw}")
            }
            Mistake::Null => write!(
                f,
                "`null`: the app found no token; behind https Auth.js 5 needs secureCookie: true in getToken; {raw}"
            ),
            Mistake::NotANumber => write!(f, "`NaN`: the app computed with the token; {raw}"),
            Mistake::Spaces => write!(f, "a text with spaces, which no token has; {raw}"),
        }
    }
}

impl Refusal {
    /// As clients read it.
    pub fn code(self) -> &'static str {
        match self {
            Refusal::NotAToken(_) => "bearer_not_a_token",
            Refusal::Invalid => "invalid_token",
            Refusal::EncryptedNotSigned | Refusal::SignedNotEncrypted => "token_format_mismatch",
            Refusal::Expired => "token_expired",
            Refusal::NoSubject => "no_subject",
        }
    }
}

/// Recognises what mistakes in an app's code put where a token belongs.
pub fn mistake(text: &str) -> Option<Mistake> {
    match text {
        "undefined" => Some(Mistake::Undefined),
        "null" => Some(Mistake::Null),
        "NaN" => Some(Mistake::NotANumber),
        "[object Promise]" => Some(Mistake::Promise),
        text if text.starts_with("[object") || text.starts_with('{') => Some(Mistake::Object),
        text if text.contains(char::is_whitespace) => Some(Mistake::Spaces),
        _ => None,
    }
}

/// Opens tokens with any of the app's secrets.
#[derive(Clone)]
pub struct Verifier {
    format: Format,
    dialect: Dialect,
    keys: Vec<Keys>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verifier { format, dialect, .. } = self;
        f.debug_struct("Verifier").field("format", format).field("dialect", dialect).finish_non_exhaustive()
    }
}

/// What hangs on one secret.
#[derive(Clone)]
struct Keys {
    /// Version 4: one key whatever the cookie is called.
    v4: Secret<[u8; 32]>,
    v5_cbc: Named<64>,
    v5_gcm: Named<32>,
    signing: Secret<Vec<u8>>,
}

/// A key with the name that headers call it by.
#[derive(Clone)]
struct Named<const N: usize> {
    key: Secret<[u8; N]>,
    kid: String,
}

impl Keys {
    fn of(secret: &Secret<String>, cookie: &str) -> Keys {
        let secret = secret.expose().as_bytes();
        let info = format!("Auth.js Generated Encryption Key ({cookie})");
        let cbc = derived(secret, cookie.as_bytes(), info.as_bytes());
        let gcm = derived(secret, cookie.as_bytes(), info.as_bytes());
        Keys {
            v4: derived(secret, b"", b"NextAuth.js Generated Encryption Key"),
            v5_cbc: Named { kid: URL_SAFE_NO_PAD.encode(Sha512::digest(thumbprint(&cbc))), key: cbc },
            v5_gcm: Named { kid: URL_SAFE_NO_PAD.encode(Sha256::digest(thumbprint(&gcm))), key: gcm },
            signing: Secret::new(secret.to_vec()),
        }
    }
}

fn derived<const N: usize>(secret: &[u8], salt: &[u8], info: &[u8]) -> Secret<[u8; N]> {
    let mut out = [0; N];
    Hkdf::<Sha256>::new(Some(salt), secret)
        .expand(info, &mut out)
        .expect("64 bytes are less than HKDF's limit");
    Secret::new(out)
}

/// Of RFC 7638.
fn thumbprint<const N: usize>(key: &Secret<[u8; N]>) -> String {
    format!(r#"{{"k":"{}","kty":"oct"}}"#, URL_SAFE_NO_PAD.encode(key.expose()))
}

impl Verifier {
    /// `cookie` is the session cookie's name, which is part of version 5's keys.
    pub fn new(format: Format, secrets: &Secrets, cookie: &str) -> Verifier {
        let keys = secrets.iter().map(|secret| Keys::of(secret, cookie)).collect();
        Verifier { format, dialect: Dialect::of_cookie(cookie), keys }
    }

    /// The claims of a token that was made with one of the secrets and names somebody. Whether its time has come, or is
    /// over, [`Claims::judge`] says.
    pub fn open(&self, token: &str) -> Result<Claims, Refusal> {
        if let Some(mistake) = mistake(token) {
            return Err(Refusal::NotAToken(mistake));
        }
        if token.len() > MAX_BYTES {
            return Err(Refusal::Invalid);
        }
        let texts: Vec<&str> = token.splitn(6, '.').collect();
        let parts: Option<Vec<Vec<u8>>> =
            texts.iter().map(|part| URL_SAFE_NO_PAD.decode(part).ok()).collect();
        let parts = parts.ok_or(Refusal::Invalid)?;
        let (is_encrypted, header) = match parts.as_slice() {
            [header, _, _] => (false, header),
            [header, _, _, _, _] => (true, header),
            _ => return Err(Refusal::Invalid),
        };
        let header = Header::read(header).ok_or(Refusal::Invalid)?;
        let payload = match (self.format, is_encrypted) {
            // What the app would make by itself, or was once told to make, is named; anything else is no token of an app's.
            (Format::Signed, true) if header.alg == "dir" => return Err(Refusal::EncryptedNotSigned),
            (Format::Encrypted, false) if header.alg == "HS256" => return Err(Refusal::SignedNotEncrypted),
            (Format::Signed, true) | (Format::Encrypted, false) => None,
            (Format::Encrypted, true) => self.decrypt(&header, texts[0], &parts),
            (Format::Signed, false) => {
                let signed = &token[..texts[0].len() + 1 + texts[1].len()];
                self.verify(&header, signed, &parts[2]).then(|| parts[1].clone())
            }
        };
        Claims::read(&payload.ok_or(Refusal::Invalid)?)
    }

    fn verify(&self, header: &Header, signed: &str, signature: &[u8]) -> bool {
        header.alg == "HS256"
            && self.keys.iter().any(|keys| {
                let mut mac = hmac::<Sha256Mac>(keys.signing.expose());
                mac.update(signed.as_bytes());
                same_secret(&mac.finalize().into_bytes(), signature)
            })
    }

    fn decrypt(&self, header: &Header, first: &str, parts: &[Vec<u8>]) -> Option<Vec<u8>> {
        let [_, key, iv, text, tag] = parts else { return None };
        if header.alg != "dir" || !key.is_empty() {
            return None;
        }
        let sealed = Sealed { aad: first.as_bytes(), iv, text, tag };
        match (header.enc.as_deref()?, header.kid.as_deref()) {
            ("A256CBC-HS512", kid) if self.dialect != Dialect::V4 => {
                sealed.open_cbc(pick(&self.keys, |keys| &keys.v5_cbc, kid)?.expose())
            }
            ("A256GCM", Some(kid)) if self.dialect != Dialect::V4 => {
                sealed.open_gcm(pick(&self.keys, |keys| &keys.v5_gcm, Some(kid))?.expose())
            }
            ("A256GCM", None) => {
                let v4 = self.keys.iter().filter(|_| self.dialect != Dialect::V5).map(|keys| &keys.v4);
                // Without a name only the first secret is meant, as in the original.
                let v5 = self.keys.iter().filter(|_| self.dialect != Dialect::V4).take(1);
                v4.chain(v5.map(|keys| &keys.v5_gcm.key)).find_map(|key| sealed.open_gcm(key.expose()))
            }
            _ => None,
        }
    }
}

/// The key that a header names; without a name the newest one.
fn pick<'k, const N: usize>(
    keys: &'k [Keys],
    kind: impl Fn(&'k Keys) -> &'k Named<N>,
    kid: Option<&str>,
) -> Option<&'k Secret<[u8; N]>> {
    let mut named = keys.iter().map(kind);
    let found = match kid {
        Some(kid) => named.find(|named| named.kid == kid),
        None => named.next(),
    };
    found.map(|named| &named.key)
}

type Sha256Mac = Hmac<Sha256>;
type Sha512Mac = Hmac<Sha512>;

fn hmac<M: hmac::KeyInit>(key: &[u8]) -> M {
    M::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// An encrypted token's parts.
struct Sealed<'t> {
    aad: &'t [u8],
    iv: &'t [u8],
    text: &'t [u8],
    tag: &'t [u8],
}

impl Sealed<'_> {
    /// RFC 7518, 5.2: the tag is judged before anything is decrypted.
    fn open_cbc(&self, key: &[u8; 64]) -> Option<Vec<u8>> {
        let (mac_key, cipher_key) = key.split_at(32);
        let mut mac = hmac::<Sha512Mac>(mac_key);
        for part in [self.aad, self.iv, self.text, &(self.aad.len() as u64 * 8).to_be_bytes()] {
            mac.update(part);
        }
        if !same_secret(&mac.finalize().into_bytes()[..32], self.tag) {
            return None;
        }
        let cipher = cbc::Decryptor::<Aes256>::new_from_slices(cipher_key, self.iv).ok()?;
        cipher.decrypt_padded_vec::<Pkcs7>(self.text).ok()
    }

    fn open_gcm(&self, key: &[u8; 32]) -> Option<Vec<u8>> {
        let nonce: [u8; 12] = self.iv.try_into().ok()?;
        if self.tag.len() != 16 {
            return None;
        }
        let text = [self.text, self.tag].concat();
        let cipher = Aes256Gcm::new(key.into());
        cipher.decrypt(&Nonce::from(nonce), Payload { msg: &text, aad: self.aad }).ok()
    }
}

/// What stands before a token's first dot.
struct Header {
    alg: String,
    enc: Option<String>,
    kid: Option<String>,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Header> {
        let Object(mut members) = serde_json::from_slice(bytes).ok()?;
        // Compression makes a small token a large text, and what is critical is not known here.
        if members.contains_key("zip") || members.contains_key("crit") {
            return None;
        }
        let mut text = |name: &str| match members.remove(name) {
            None => Some(None),
            Some(Value::String(text)) => Some(Some(text)),
            Some(_) => None,
        };
        Some(Header { alg: text("alg")??, enc: text("enc")?, kid: text("kid")? })
    }
}

impl Claims {
    fn read(payload: &[u8]) -> Result<Claims, Refusal> {
        let Object(members) = serde_json::from_slice(payload).map_err(|_| Refusal::Invalid)?;
        let number = |name: &str| match members.get(name) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(number.as_f64()),
            Some(_) => Err(Refusal::Invalid),
        };
        let (exp, nbf, iat) = (number("exp")?, number("nbf")?, number("iat")?);
        let exp = exp.ok_or(Refusal::Invalid)?;
        let subject = match members.get("sub") {
            Some(Value::String(text)) => text.clone(),
            _ => String::new(),
        };
        let issued_at = iat.map(millis);
        Ok(Claims { subject, expires_at: millis(exp), issued_at, exp, nbf })
    }

    /// Whether the token counts now, and for somebody.
    pub fn judge(&self, now: Millis) -> Result<(), Refusal> {
        let now = now.0.div_euclid(1_000) as f64;
        if self.exp <= now - TOLERANCE {
            return Err(Refusal::Expired);
        }
        if self.nbf.is_some_and(|nbf| nbf > now + TOLERANCE) {
            return Err(Refusal::Invalid);
        }
        let named = !self.subject.is_empty()
            && self.subject.len() <= MAX_SUBJECT
            && !self.subject.contains(char::is_control);
        if named { Ok(()) } else { Err(Refusal::NoSubject) }
    }
}

fn millis(seconds: f64) -> Millis {
    Millis((seconds.clamp(-LAST, LAST) * 1_000.0) as i64)
}

/// A JSON object in which no member stands twice: readers differ in which of two they take.
struct Object(Map<String, Value>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectReader)
    }
}

struct ObjectReader;

impl<'de> Visitor<'de> for ObjectReader {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut given: A) -> Result<Object, A::Error> {
        let mut members = Map::new();
        while let Some((name, value)) = given.next_entry::<String, Value>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Made with the libraries themselves; the file says how.
    const MADE: &str = include_str!("../testdata/authjs_tokens.json");

    fn secrets(texts: &[&str]) -> Secrets {
        Secrets::new(texts.iter().map(|text| (*text).to_owned()).collect()).unwrap()
    }

    fn made() -> (Millis, Vec<Value>) {
        let made: Value = serde_json::from_str(MADE).unwrap();
        (Millis(made["now"].as_i64().unwrap() * 1_000), made["cases"].as_array().unwrap().clone())
    }

    fn verifier(case: &Value) -> Verifier {
        let format = if case["format"] == "hs256" { Format::Signed } else { Format::Encrypted };
        let texts: Vec<&str> = case["secrets"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        Verifier::new(format, &secrets(&texts), case["cookie"].as_str().unwrap())
    }

    fn judged(verifier: &Verifier, token: &str, now: Millis) -> Result<String, Refusal> {
        let claims = verifier.open(token)?;
        claims.judge(now)?;
        Ok(claims.subject)
    }

    #[test]
    fn tokens_of_the_libraries_are_taken_or_refused_for_what_they_are() {
        let (now, cases) = made();
        assert!(cases.len() > 30);
        for case in &cases {
            let found = judged(&verifier(case), case["token"].as_str().unwrap(), now);
            let found = found.unwrap_or_else(|refusal| refusal.code().to_owned());
            assert_eq!(case["expected"], found.as_str(), "{}", case["id"]);
        }
    }

    #[test]
    fn a_token_has_one_spelling() {
        let (now, cases) = made();
        for case in cases.iter().filter(|case| case["id"] == "v5" || case["id"] == "signed") {
            let (verifier, token) = (verifier(case), case["token"].as_str().unwrap());
            assert!(judged(&verifier, token, now).is_ok());
            for other in [
                format!("{token}="),
                format!("{token}\n"),
                format!(" {token}"),
                format!("{token}."),
                format!("{token}.a"),
                token.replacen('.', "=.", 1),
                token.to_uppercase(),
                token[..token.len() - 1].to_owned(),
            ] {
                assert!(verifier.open(&other).is_err(), "{other}");
            }
        }
    }

    #[test]
    fn what_an_apps_mistakes_send_is_named() {
        let verifier = Verifier::new(Format::Encrypted, &secrets(&["s"]), "authjs.session-token");
        for (text, word) in [
            ("[object Object]", "object"),
            ("[object Promise]", "await"),
            ("undefined", "undefined"),
            ("null", "secureCookie"),
            ("NaN", "NaN"),
            ("{\"sub\":\"1\"}", "object"),
            ("a b", "spaces"),
        ] {
            let refusal = verifier.open(text).unwrap_err();
            assert_eq!(refusal.code(), "bearer_not_a_token", "{text}");
            assert!(refusal.to_string().contains(word), "{refusal}");
        }
        assert_eq!(verifier.open("").unwrap_err(), Refusal::Invalid);
        assert_eq!(verifier.open(&"a".repeat(MAX_BYTES + 1)).unwrap_err(), Refusal::Invalid);
    }

    #[test]
    fn a_header_says_what_it_must_and_nothing_twice() {
        let signed = |header: &str, payload: &str| {
            let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
            let mut mac = hmac::<Sha256Mac>(b"s");
            mac.update(text.as_bytes());
            format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
        };
        let verifier = Verifier::new(Format::Signed, &secrets(&["s"]), "authjs.session-token");
        let judge = |header: &str, payload: &str| judged(&verifier, &signed(header, payload), Millis(0));
        let (header, good) = (r#"{"alg":"HS256"}"#, r#"{"sub":"a","exp":60}"#);
        assert_eq!(judge(header, good).as_deref(), Ok("a"));
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":["HS256"]}"#,
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
            r#"{"alg":"HS256","zip":"DEF"}"#,
            r#"{"alg":"HS256","alg":"HS256"}"#,
            r#"{"alg":"HS256","kid":1}"#,
            "[]",
            "",
        ] {
            assert_eq!(judge(header, good), Err(Refusal::Invalid), "{header}");
        }
        for (payload, expected) in [
            (r#"{"sub":"a"}"#, Refusal::Invalid),
            (r#"{"sub":"a","exp":"60"}"#, Refusal::Invalid),
            (r#"{"sub":"a","exp":1e400}"#, Refusal::Invalid),
            (r#"{"sub":"a","exp":null}"#, Refusal::Invalid),
            (r#"{"sub":"a","exp":60,"iat":"0"}"#, Refusal::Invalid),
            (r#"{"sub":"a","exp":60,"nbf":16}"#, Refusal::Invalid),
            (r#"{"sub":"a","exp":60,"sub":"b"}"#, Refusal::Invalid),
            (r#"{"sub":"a","exp":-15}"#, Refusal::Expired),
            (r#"{"sub":"","exp":60}"#, Refusal::NoSubject),
            (r#"{"sub":7,"exp":60}"#, Refusal::NoSubject),
            (r#"{"sub":"a\u0000","exp":60}"#, Refusal::NoSubject),
            ("7", Refusal::Invalid),
        ] {
            assert_eq!(judge(header, payload), Err(expected), "{payload}");
        }
        assert_eq!(judge(header, r#"{"sub":"a","exp":1e300,"nbf":15,"iat":1e9}"#).as_deref(), Ok("a"));
    }

    #[test]
    fn debug_shows_no_key() {
        let verifier = Verifier::new(Format::Signed, &secrets(&["hunter2"]), "name");
        let text = format!("{verifier:?}");
        assert!(!text.contains("hunter2") && !text.contains("104, 117"), "{text}");
    }

    proptest! {
        #[test]
        fn a_changed_token_opens_nothing(at in 0usize..2_000, with in any::<u8>()) {
            let (now, cases) = made();
            for case in cases.iter().filter(|case| ["v5", "v4", "signed"].contains(&case["id"].as_str().unwrap())) {
                let (verifier, token) = (verifier(case), case["token"].as_str().unwrap());
                let mut bytes = token.as_bytes().to_vec();
                let at = at % bytes.len();
                prop_assume!(bytes[at] != with && with.is_ascii());
                bytes[at] = with;
                let changed = String::from_utf8(bytes).unwrap();
                prop_assert!(judged(&verifier, &changed, now).is_err(), "{}", changed);
            }
        }
    }
}

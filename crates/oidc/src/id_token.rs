//! What a provider has signed about a person: judged by its keys, its issuer, for whom it was made, when, and for which
//! sign-in.

use crate::keys::{Algorithm, Checked, KeySet};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::Millis;
use kernel::secret::same_secret;
use kernel::time::SECOND;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

pub type Claims = Map<String, Value>;

/// The largest have some 4 KiB.
const LONGEST: usize = 16 * 1024;
/// How far clocks may be apart, in seconds.
const TOLERANCE: f64 = 30.0;
/// A subject has at most 255 characters (OpenID Connect Core, section 2).
const LONGEST_SUBJECT: usize = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it is not a signed token")]
    Malformed,
    #[error("its algorithm is not one that is taken here")]
    Algorithm,
    #[error("the provider has no such key")]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("its issuer is another one")]
    Issuer,
    #[error("it was made for another client")]
    Audience,
    #[error("it has no subject")]
    Subject,
    #[error("its time is over, has not come, or is not told")]
    Time,
    #[error("it belongs to another sign-in")]
    Nonce,
    #[error("the person is of another domain")]
    Domain,
}

/// Who signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Issuer {
    Exactly(String),
    /// Google's tokens name it with or without the scheme.
    Google(String),
    /// Microsoft signs for many tenants with the same keys: the issuer is the one of the tenant that the token names, and
    /// the tenant is of the kind that is let in.
    Microsoft {
        authority: String,
        tenant: String,
    },
}

/// The tenant of Microsoft's private accounts.
const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

impl Issuer {
    fn signs(&self, claims: &Claims) -> bool {
        let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        match self {
            Issuer::Exactly(expected) => issuer == expected,
            Issuer::Google(expected) => {
                issuer == expected || expected.strip_prefix("https://") == Some(issuer)
            }
            Issuer::Microsoft { authority, tenant } => {
                let Some(named) = claims.get("tid").and_then(Value::as_str) else { return false };
                let plain =
                    !named.is_empty() && named.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                let let_in = match tenant.as_str() {
                    "common" => true,
                    "organizations" => named != CONSUMERS,
                    "consumers" => named == CONSUMERS,
                    id => named == id,
                };
                plain && let_in && issuer == format!("{authority}/{named}/v2.0")
            }
        }
    }
}

/// What a token has to be.
pub struct Expected<'a> {
    pub issuer: &'a Issuer,
    pub algorithms: &'a [Algorithm],
    /// Clients of this app; the token must be for one of them.
    pub audiences: &'a [&'a str],
    /// `None`: nobody asked for one.
    pub nonce: Option<&'a str>,
    /// Some apps on phones give the provider the hash of the nonce.
    pub hashed_nonce: bool,
    /// Milliseconds since it was signed.
    pub max_age: Option<i64>,
}

/// Which key a token claims to be signed with; says nothing about whether it was.
pub fn key_id(token: &str) -> Option<String> {
    let head = token.split('.').next().filter(|head| head.len() <= LONGEST)?;
    let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).ok()?).ok()?;
    head.get("kid")?.as_str().map(str::to_owned)
}

/// The claims of a token that holds. Keys, addresses of keys and algorithms that the token itself brings are never used.
pub fn verify(token: &str, keys: &KeySet, expected: &Expected<'_>, now: Millis) -> Result<Claims, Refused> {
    let (head, claims, signed, signature) = take_apart(token).ok_or(Refused::Malformed)?;
    // Extensions that must be understood are not, and a token for another use is no id token.
    let kind = head.get("typ").and_then(Value::as_str).unwrap_or("JWT");
    if head.contains_key("crit") || head.contains_key("b64") || !kind.eq_ignore_ascii_case("jwt") {
        return Err(Refused::Malformed);
    }
    let algorithm = head.get("alg").and_then(Value::as_str).and_then(Algorithm::parse);
    let algorithm =
        algorithm.filter(|known| expected.algorithms.contains(known)).ok_or(Refused::Algorithm)?;
    let key = match head.get("kid") {
        None => None,
        Some(name) => Some(name.as_str().ok_or(Refused::Malformed)?),
    };
    match keys.check(algorithm, key, signed.as_bytes(), &signature) {
        Checked::Good => {}
        Checked::Bad => return Err(Refused::Signature),
        Checked::NoSuchKey => return Err(Refused::UnknownKey),
    }
    if !expected.issuer.signs(&claims) {
        return Err(Refused::Issuer);
    }
    if !is_for(&claims, expected.audiences) {
        return Err(Refused::Audience);
    }
    if !has_subject(&claims) {
        return Err(Refused::Subject);
    }
    if !is_timely(&claims, expected.max_age, now) {
        return Err(Refused::Time);
    }
    if expected.nonce.is_some_and(|nonce| !has_nonce(&claims, nonce, expected.hashed_nonce)) {
        return Err(Refused::Nonce);
    }
    Ok(claims)
}

fn take_apart(token: &str) -> Option<(Claims, Claims, &str, Vec<u8>)> {
    if token.len() > LONGEST {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (head, claims) = signed.split_once('.').filter(|(_, claims)| !claims.contains('.'))?;
    let object =
        |part: &str| -> Option<Claims> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok() };
    Some((object(head)?, object(claims)?, signed, URL_SAFE_NO_PAD.decode(signature).ok()?))
}

fn is_for(claims: &Claims, audiences: &[&str]) -> bool {
    let ours = |value: &Value| value.as_str().is_some_and(|name| audiences.contains(&name));
    let presenter = claims.get("azp");
    match claims.get("aud") {
        Some(Value::String(_)) => {
            claims.get("aud").is_some_and(ours) && presenter.is_none_or(Value::is_string)
        }
        // For several at once: whoever asked for it must be one of ours (Core, section 3.1.3.7).
        Some(Value::Array(names)) if names.len() > 1 => names.iter().any(ours) && presenter.is_some_and(ours),
        Some(Value::Array(names)) => names.iter().any(ours),
        _ => false,
    }
}

fn has_subject(claims: &Claims) -> bool {
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    (1..=LONGEST_SUBJECT).contains(&subject.len()) && !subject.chars().any(char::is_control)
}

/// Seconds, perhaps with a fraction; what is no number is no time.
fn is_timely(claims: &Claims, max_age: Option<i64>, now: Millis) -> bool {
    let seconds = |name: &str| claims.get(name).map(|value| value.as_f64().unwrap_or(f64::NAN));
    let now = now.0 as f64 / SECOND as f64;
    let (Some(end), Some(made)) = (seconds("exp"), seconds("iat")) else { return false };
    let young = max_age.is_none_or(|age| now - made <= age as f64 / SECOND as f64 + TOLERANCE);
    let begun = seconds("nbf").is_none_or(|begin| begin <= now + TOLERANCE);
    // A comparison with what is no number is false.
    end > now - TOLERANCE && made >= 0.0 && made <= now + TOLERANCE && young && begun
}

fn has_nonce(claims: &Claims, nonce: &str, hashed: bool) -> bool {
    let Some(given) = claims.get("nonce").and_then(Value::as_str) else { return false };
    let hash =
        || Sha256::digest(nonce.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    same_secret(given.as_bytes(), nonce.as_bytes())
        || (hashed && same_secret(given.as_bytes(), hash().as_bytes()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use kernel::time::HOUR;
    use proptest::prelude::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use serde_json::json;

    pub(crate) const NOW: Millis = Millis(1_800_000_000_000);
    const ISSUER: &str = "https://id.example.com";

    fn pair() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
    }

    fn keys() -> KeySet {
        let x = URL_SAFE_NO_PAD.encode(pair().public_key());
        KeySet::read(&json!({"keys": [
            {"kty": "oct", "k": "AAAA", "kid": "shared"},
            {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "one", "use": "sig"},
        ]}))
        .unwrap()
    }

    fn part(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    fn sign(head: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", part(head), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(pair().sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn head() -> Value {
        json!({"alg": "EdDSA", "kid": "one"})
    }

    fn claims() -> Value {
        let now = NOW.0 / SECOND;
        json!({"iss": ISSUER, "aud": "app", "sub": "ada", "iat": now, "exp": now + 3600, "nonce": "n"})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    fn judge(token: &str) -> Result<Claims, Refused> {
        let issuer = Issuer::Exactly(ISSUER.into());
        let expected = Expected {
            issuer: &issuer,
            algorithms: &[Algorithm::EdDsa, Algorithm::Rs256],
            audiences: &["app", "phone"],
            nonce: Some("n"),
            hashed_nonce: false,
            max_age: Some(HOUR),
        };
        verify(token, &keys(), &expected, NOW)
    }

    fn judged(claims: &Value) -> Option<Refused> {
        judge(&sign(&head(), claims)).err()
    }

    #[test]
    fn what_the_provider_signed_for_us_now_and_for_this_sign_in_holds() {
        assert_eq!(judge(&sign(&head(), &claims())).unwrap()["sub"], "ada");
        assert!(judge(&sign(&json!({"alg": "EdDSA", "typ": "JWT"}), &claims())).is_ok(), "any key");
        assert_eq!(judged(&with("aud", json!(["phone"]))), None);
        let mut several = with("aud", json!(["app", "other"]));
        assert_eq!(judged(&several), Some(Refused::Audience), "who asked for it?");
        several["azp"] = json!("app");
        assert_eq!(judged(&several), None);
    }

    #[test]
    fn everything_else_is_refused_for_its_reason() {
        for (name, value, reason) in [
            ("iss", json!("https://id.example.com/"), Refused::Issuer),
            ("iss", json!(null), Refused::Issuer),
            ("aud", json!("other"), Refused::Audience),
            ("aud", json!([]), Refused::Audience),
            ("aud", json!(null), Refused::Audience),
            ("sub", json!(""), Refused::Subject),
            ("sub", json!(7), Refused::Subject),
            ("sub", json!("x".repeat(256)), Refused::Subject),
            ("exp", json!(null), Refused::Time),
            ("exp", json!("9999999999"), Refused::Time),
            ("exp", json!(NOW.0 / SECOND - 31), Refused::Time),
            ("exp", json!(-1), Refused::Time),
            ("nbf", json!(NOW.0 / SECOND + 600), Refused::Time),
            ("nbf", json!("soon"), Refused::Time),
            ("iat", json!(NOW.0 / SECOND + 31), Refused::Time),
            ("iat", json!(NOW.0 / SECOND - 3_700), Refused::Time),
            ("iat", json!(null), Refused::Time),
            ("nonce", json!("m"), Refused::Nonce),
            ("nonce", json!(null), Refused::Nonce),
        ] {
            assert_eq!(judged(&with(name, value.clone())), Some(reason), "{name}: {value}");
        }
        let huge = sign(&head(), &with("pad", json!("x".repeat(LONGEST))));
        assert_eq!(judge(&huge).err(), Some(Refused::Malformed));
    }

    #[test]
    fn nothing_that_the_token_brings_along_makes_it_hold() {
        let x = URL_SAFE_NO_PAD.encode(pair().public_key());
        let own = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
        for (head, reason) in [
            (json!({"alg": "none"}), Refused::Algorithm),
            (json!({"alg": "None"}), Refused::Algorithm),
            (json!({"alg": "HS256", "kid": "shared"}), Refused::Algorithm),
            (json!({"alg": "ES384", "kid": "one"}), Refused::Algorithm),
            (json!({"alg": "RS256", "kid": "one"}), Refused::UnknownKey),
            (json!({"alg": "EdDSA", "kid": "two", "jwk": own}), Refused::UnknownKey),
            (json!({"alg": "EdDSA", "kid": "../../dev/null"}), Refused::UnknownKey),
            (json!({"alg": "EdDSA", "kid": 1}), Refused::Malformed),
            (json!({"alg": "EdDSA", "kid": "two", "jku": "https://evil.example/"}), Refused::UnknownKey),
            (json!({"alg": "EdDSA", "kid": "one", "crit": ["exp"]}), Refused::Malformed),
            (json!({"alg": "EdDSA", "kid": "one", "typ": "at+jwt"}), Refused::Malformed),
            (json!({"kid": "one"}), Refused::Algorithm),
        ] {
            assert_eq!(judge(&sign(&head, &claims())).err(), Some(reason), "{head}");
        }
        let good = sign(&head(), &claims());
        let unsigned = &good[..good.rfind('.').unwrap() + 1];
        for token in [unsigned, "", ".", "..", "a.b.c.d", "a.b.c", &format!("{good}.x")] {
            assert!(judge(token).is_err(), "{token}");
        }
    }

    #[test]
    fn a_phone_may_have_hashed_the_nonce_where_that_is_known() {
        let hash = "1b16b1df538ba12dc3f97edbb85caa7050d46c148134290feba80f8236c83db9";
        let claims = with("nonce", json!(hash)).as_object().unwrap().clone();
        assert!(has_nonce(&claims, "n", true) && !has_nonce(&claims, "n", false));
    }

    #[test]
    fn at_microsoft_the_tenant_signs_and_must_be_let_in() {
        let authority = "https://login.example.com";
        let signs = |tenant: &str, named: &str, by: &str| {
            let issuer = Issuer::Microsoft { authority: authority.into(), tenant: tenant.into() };
            let claims = json!({"tid": named, "iss": format!("{authority}/{by}/v2.0")});
            issuer.signs(claims.as_object().unwrap())
        };
        assert!(
            signs("common", "t1", "t1") && signs("common", CONSUMERS, CONSUMERS) && signs("t1", "t1", "t1")
        );
        assert!(signs("organizations", "t1", "t1") && signs("consumers", CONSUMERS, CONSUMERS));
        assert!(!signs("common", "t1", "t2") && !signs("t1", "t2", "t2") && !signs("common", "", ""));
        assert!(!signs("organizations", CONSUMERS, CONSUMERS) && !signs("consumers", "t1", "t1"));
        assert!(!signs("common", "../x", "../x"));
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_refused_and_no_more(token in "[A-Za-z0-9_.=-]{0,200}|\\PC{0,60}") {
            prop_assert!(judge(&token).is_err());
            key_id(&token);
        }

        #[test]
        fn a_changed_character_never_holds(at in 0usize..400, other in "[A-Za-z0-9_.-]") {
            let good = sign(&head(), &claims());
            let mut bad = good.clone().into_bytes();
            let at = at % bad.len();
            bad[at] = other.as_bytes()[0];
            let bad = String::from_utf8(bad).unwrap();
            prop_assume!(bad != good);
            prop_assert!(judge(&bad).is_err());
        }
    }
}

//! Signed cookie values as Better Auth writes them: `value.base64(HMAC-SHA256(secret, value))`, percent-encoded.

use crate::secret::{Secrets, same_secret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::borrow::Cow;

/// Standard base64 of 32 bytes, with its padding.
const SIGNATURE_LENGTH: usize = 44;

/// Keys ready for use: preparing an HMAC key costs two compressions, a check afterwards two more.
#[derive(Clone)]
pub struct Signer {
    keys: Vec<Hmac<Sha256>>,
}

impl Signer {
    pub fn new(secrets: &Secrets) -> Signer {
        let key = |secret: &[u8]| Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        Signer { keys: secrets.iter().map(|secret| key(secret.expose().as_bytes())).collect() }
    }

    fn mac(key: &Hmac<Sha256>, value: &str) -> [u8; 32] {
        let mut mac = key.clone();
        mac.update(value.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// `value.signature`, as it stands in the `set-auth-token` header.
    pub fn sign(&self, value: &str) -> String {
        let mut out = String::with_capacity(value.len() + 1 + SIGNATURE_LENGTH);
        out.push_str(value);
        out.push('.');
        STANDARD.encode_string(Self::mac(&self.keys[0], value), &mut out);
        out
    }

    /// The same, percent-encoded as `encodeURIComponent` does, as it stands in a cookie.
    pub fn sign_for_cookie(&self, value: &str) -> String {
        encode_uri_component(&self.sign(value))
    }

    /// The value inside, when one of the secrets signed it; `text` may be percent-encoded or not.
    /// Padding is required and the alphabet is strict, so a value has one signature only.
    pub fn open<'a>(&self, text: &'a str) -> Option<Cow<'a, str>> {
        let text = decode_uri_component(text)?;
        let dot = text.rfind('.')?;
        let (value, signature) = (&text[..dot], &text[dot + 1..]);
        if value.is_empty() || signature.len() != SIGNATURE_LENGTH {
            return None;
        }
        let mut given = [0u8; 33];
        if STANDARD.decode_slice(signature, &mut given).ok()? != 32 {
            return None;
        }
        let good = self.keys.iter().any(|key| same_secret(&Self::mac(key, value), &given[..32]));
        good.then(|| match text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[..dot]),
            Cow::Owned(mut text) => {
                text.truncate(dot);
                Cow::Owned(text)
            }
        })
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What JavaScript's function of that name gives.
pub fn encode_uri_component(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            out.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

/// The reverse; `None` for broken escapes and for bytes that are no UTF-8, where JavaScript throws.
pub fn decode_uri_component(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut parts = text.as_bytes().split(|&byte| byte == b'%');
    out.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        let digit = |at: usize| part.get(at).and_then(|&d| char::from(d).to_digit(16));
        out.push((digit(0)? * 16 + digit(1)?) as u8);
        out.extend_from_slice(&part[2..]);
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn signer(secrets: &[&str]) -> Signer {
        Signer::new(&Secrets::new(secrets.iter().map(|s| s.to_string()).collect()).unwrap())
    }

    #[test]
    fn a_cookie_of_the_original_opens() {
        // Made with Node: createHmac("sha256", secret).update(value).digest("base64").
        let signer = signer(&["better-auth-secret-123456789012345"]);
        let value = "AbCdEfGhIjKlMnOpQrStUvWxYz012345";
        let signed = signer.sign(value);
        assert_eq!(signed.len(), 32 + 1 + 44);
        assert_eq!(signer.open(&signed).as_deref(), Some(value));
        assert_eq!(signer.open(&encode_uri_component(&signed)).as_deref(), Some(value));
    }

    #[test]
    fn every_secret_verifies_and_the_first_signs() {
        let (old, new) = (signer(&["old secret"]), signer(&["new secret", "old secret"]));
        assert_eq!(new.open(&old.sign("v")).as_deref(), Some("v"));
        assert_eq!(old.open(&new.sign("v")), None);
    }

    #[test]
    fn unpadded_url_safe_and_foreign_signatures_are_refused() {
        let signer = signer(&["a secret"]);
        let good = signer.sign("value");
        assert_eq!(signer.open(good.trim_end_matches('=')), None);
        assert_eq!(signer.open(&format!("{good}.x")), None);
        assert_eq!(signer.open("value"), None);
        assert_eq!(signer.open("value."), None);
        assert_eq!(signer.open("."), None);
        assert_eq!(signer.open("%E0%A4%A"), None);
        assert_eq!(signer.open(&self::signer(&["other"]).sign("value")), None);
    }

    proptest! {
        #[test]
        fn only_what_the_signer_made_opens(value in "\\PC{1,40}", noise in "\\PC{0,60}") {
            let signer = signer(&["a secret"]);
            let opened = signer.sign_for_cookie(&value);
            let opened = signer.open(&opened);
            prop_assert_eq!(opened.as_deref(), Some(value.as_str()));
            prop_assert_eq!(signer.open(&noise), None);
        }

        #[test]
        fn a_flipped_character_never_opens(at in 0usize..77, other in "[A-Za-z0-9+/=.]") {
            let signer = signer(&["a secret"]);
            let good = signer.sign("AbCdEfGhIjKlMnOpQrStUvWxYz012345");
            let mut bad = good.clone().into_bytes();
            bad[at] = other.as_bytes()[0];
            let bad = String::from_utf8(bad).unwrap();
            prop_assume!(bad != good);
            prop_assert_eq!(signer.open(&bad), None);
        }

        #[test]
        fn percent_encoding_reads_back(text in "\\PC{0,80}") {
            let encoded = encode_uri_component(&text);
            let decoded = decode_uri_component(&encoded);
            prop_assert_eq!(decoded.as_deref(), Some(text.as_str()));
        }
    }
}

//! Keys for what lies in the database: values that are looked up are kept as keyed hashes, values that must be shown
//! again are sealed. Both hang on one random data key that is itself stored sealed by the deployment's secrets, so that
//! a copy of the database opens nothing, and replacing a secret does not touch a single row.

use crate::random;
use crate::secret::{Secret, Secrets, derived_key};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use rand::CryptoRng;
use sha2::Sha256;

const NONCE: usize = 24;

/// What a hash or a sealed value is for; part of the key or of the sealed context, so that one cannot stand for another.
pub type Purpose = &'static str;

#[derive(Clone)]
pub struct Vault {
    lookup: Hmac<Sha256>,
    seal: XChaCha20Poly1305,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The random key behind a [`Vault`].
#[derive(Clone, Debug)]
pub struct DataKey(Secret<[u8; 32]>);

impl DataKey {
    pub fn generate(rng: &mut impl CryptoRng) -> DataKey {
        DataKey(Secret::new(random::bytes(rng)))
    }

    /// The key as it is stored: sealed under the first secret.
    pub fn wrap(&self, secrets: &Secrets, rng: &mut impl CryptoRng) -> String {
        seal(&wrapping_cipher(secrets.first()), "data-key", self.0.expose(), rng)
    }

    /// Opens a stored key with whichever secret sealed it; the flag tells that it was not the first one, so that the
    /// caller wraps it anew.
    pub fn unwrap(stored: &str, secrets: &Secrets) -> Option<(DataKey, bool)> {
        secrets.iter().enumerate().find_map(|(index, secret)| {
            let clear = open(&wrapping_cipher(secret), "data-key", stored)?;
            let key: [u8; 32] = clear.try_into().ok()?;
            Some((DataKey(Secret::new(key)), index > 0))
        })
    }
}

impl Vault {
    pub fn new(key: &DataKey) -> Vault {
        let derive = |label: &str| derived_key(key.0.expose(), label);
        Vault {
            lookup: Hmac::new_from_slice(derive("lookup").expose()).expect("HMAC takes keys of any length"),
            seal: XChaCha20Poly1305::new(derive("seal").expose().into()),
        }
    }

    /// The keyed hash under which a token, code or address is stored and found: 43 characters of base64url.
    pub fn hash(&self, purpose: Purpose, text: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(purpose, text))
    }

    /// The same before it is text.
    pub fn mac(&self, purpose: Purpose, text: &str) -> [u8; 32] {
        let mut mac = self.lookup.clone();
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Encrypts a value that has to be shown again.
    pub fn seal(&self, purpose: Purpose, text: &str, rng: &mut impl CryptoRng) -> String {
        seal(&self.seal, purpose, text.as_bytes(), rng)
    }

    pub fn open(&self, purpose: Purpose, sealed: &str) -> Option<String> {
        String::from_utf8(open(&self.seal, purpose, sealed)?).ok()
    }
}

fn wrapping_cipher(secret: &Secret<String>) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(derived_key(secret.expose().as_bytes(), "wrap data key").expose().into())
}

fn seal(cipher: &XChaCha20Poly1305, purpose: Purpose, clear: &[u8], rng: &mut impl CryptoRng) -> String {
    let nonce: [u8; NONCE] = random::bytes(rng);
    let payload = Payload { msg: clear, aad: purpose.as_bytes() };
    let mut out = nonce.to_vec();
    out.extend(
        cipher.encrypt(&XNonce::from(nonce), payload).expect("a value in memory is under the cipher's limit"),
    );
    URL_SAFE_NO_PAD.encode(out)
}

fn open(cipher: &XChaCha20Poly1305, purpose: Purpose, sealed: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
    let (nonce, rest) = bytes.split_at_checked(NONCE)?;
    let nonce: [u8; NONCE] = nonce.try_into().ok()?;
    cipher.decrypt(&XNonce::from(nonce), Payload { msg: rest, aad: purpose.as_bytes() }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(list: &[&str]) -> Secrets {
        Secrets::new(list.iter().map(|s| s.to_string()).collect()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose_only() {
        let rng = &mut random::secure();
        let vault = Vault::new(&DataKey::generate(rng));
        let sealed = vault.seal("session token", "abc", rng);
        assert_eq!(vault.open("session token", &sealed).as_deref(), Some("abc"));
        assert_eq!(vault.open("mail", &sealed), None);
        assert_eq!(vault.open("session token", "AAAA"), None);
        assert_ne!(sealed, vault.seal("session token", "abc", rng));
        assert_eq!(Vault::new(&DataKey::generate(rng)).open("session token", &sealed), None);
    }

    #[test]
    fn hashes_differ_by_purpose_and_by_key() {
        let rng = &mut random::secure();
        let vault = Vault::new(&DataKey::generate(rng));
        assert_eq!(vault.hash("a", "b"), vault.hash("a", "b"));
        assert_ne!(vault.hash("a", "b"), vault.hash("b", "b"));
        assert_ne!(vault.hash("a", "b"), Vault::new(&DataKey::generate(rng)).hash("a", "b"));
        assert_eq!(vault.hash("a", "b").len(), 43);
    }

    #[test]
    fn the_data_key_survives_a_rotation_of_secrets_and_no_more() {
        let rng = &mut random::secure();
        let key = DataKey::generate(rng);
        let stored = key.wrap(&secrets(&["old"]), rng);
        let (opened, stale) = DataKey::unwrap(&stored, &secrets(&["new", "old"])).unwrap();
        assert!(stale);
        assert_eq!(opened.0.expose(), key.0.expose());
        let stored = opened.wrap(&secrets(&["new", "old"]), rng);
        assert!(!DataKey::unwrap(&stored, &secrets(&["new"])).unwrap().1);
        assert!(DataKey::unwrap(&stored, &secrets(&["old"])).is_none());
    }
}

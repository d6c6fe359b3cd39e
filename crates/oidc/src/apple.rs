//! Apple wants no fixed client secret but a statement that the app signs with its key, anew whenever it is asked for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::time::{MINUTE, SECOND};
use kernel::{Millis, Secret};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use std::sync::Arc;

/// Apple takes up to half a year; it is made for one request.
const LIFETIME: i64 = 5 * MINUTE;
const AUDIENCE: &str = "https://appleid.apple.com";

/// The key that Apple gives out once, with the ids that belong to it.
#[derive(Clone)]
pub struct SigningKey {
    team_id: String,
    key_id: String,
    pair: Arc<EcdsaKeyPair>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl SigningKey {
    /// `pem` is the `.p8` file; `None` when it holds no key for P-256.
    pub fn read(team_id: &str, key_id: &str, pem: &Secret<String>) -> Option<SigningKey> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.expose().as_bytes()).ok()?;
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.secret_pkcs8_der(), &SystemRandom::new()).ok()?;
        Some(SigningKey { team_id: team_id.to_owned(), key_id: key_id.to_owned(), pair: Arc::new(pair) })
    }

    /// The statement that stands in for a client secret. The library takes its chance from the operating system itself.
    pub fn client_secret(&self, client_id: &str, now: Millis) -> Option<Secret<String>> {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(json!({"alg": "ES256", "kid": self.key_id}));
        let claims = part(json!({
            "iss": self.team_id, "iat": now.0 / SECOND, "exp": now.plus(LIFETIME).0 / SECOND, "aud": AUDIENCE,
            "sub": client_id,
        }));
        let signed = format!("{head}.{claims}");
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        Some(Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, KeyPair as _, UnparsedPublicKey};

    #[test]
    fn the_statement_is_signed_by_the_key_and_lives_for_minutes() {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let text = STANDARD.encode(pkcs8.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        let key = SigningKey::read("TEAM", "KEY", &Secret::new(pem.clone())).unwrap();
        let statement = key.client_secret("com.example.app", Millis(1_800_000_000_000)).unwrap();
        let (signed, signature) = statement.expose().rsplit_once('.').unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key().as_ref());
        public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let part = |at: usize| -> serde_json::Value {
            let text = statement.expose().split('.').nth(at).unwrap();
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
        };
        assert_eq!(part(0), json!({"alg": "ES256", "kid": "KEY"}));
        assert_eq!(
            part(1),
            json!({"iss": "TEAM", "iat": 1_800_000_000, "exp": 1_800_000_300, "aud": AUDIENCE, "sub": "com.example.app"})
        );
        assert_eq!(format!("{key:?}"), "[redacted]");
        assert!(SigningKey::read("TEAM", "KEY", &Secret::new(pem.replace("PRIVATE", "PUBLIC"))).is_none());
    }
}

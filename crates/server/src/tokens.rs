//! Tokens that services check by themselves: signed statements about a user, good for a few minutes.
//!
//! The keys are kept in memory and looked up again after some minutes: a key is published long before it signs, so no
//! node signs with one that another has not heard of.

mod signatures;

use crate::app::App;
use crate::settings::JwtSettings;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::signing_keys::{self, Keys, SigningKey};
use kernel::time::{MINUTE, SECOND};
use kernel::{Millis, random};
use serde::Serialize;
use signatures::Signatures;
use std::sync::{Arc, PoisonError, RwLock};
use store::Error;

/// How long keys are kept before they are looked up again.
const KEPT: i64 = 5 * MINUTE;
/// A statement is made again for a third of its life, and no longer than this, in seconds.
const LONGEST_WINDOW: i64 = 300;

pub struct Tokens {
    settings: JwtSettings,
    /// The claims that are the same in every token: who made it, and whom it is for.
    parties: String,
    kept: RwLock<Option<Signer>>,
    signatures: Signatures,
}

/// The keys as they stood a short while ago.
#[derive(Clone)]
pub struct Signer {
    keys: Arc<Keys>,
    loaded_at: Millis,
}

#[derive(Serialize)]
struct PublicKey<'a> {
    alg: &'static str,
    crv: &'static str,
    x: &'a str,
    kty: &'static str,
    kid: &'a str,
}

#[derive(Serialize)]
pub struct KeySet<'a> {
    keys: Vec<PublicKey<'a>>,
}

impl Tokens {
    /// `base_url` is an origin: it makes the tokens, and they are for its services.
    pub fn new(settings: JwtSettings, base_url: &str) -> Tokens {
        let origin = serde_json::Value::from(base_url);
        let window = (settings.expires_in / SECOND / 3).min(LONGEST_WINDOW);
        let parties = format!("\"iss\":{origin},\"aud\":{origin}}}");
        Tokens { settings, parties, kept: RwLock::new(None), signatures: Signatures::new(window) }
    }

    /// The keys, from memory if they were looked up a short while ago.
    pub async fn signer(&self, app: &App, now: Millis) -> Result<Signer, Error> {
        if let Some(kept) = self.kept(now) {
            return Ok(kept);
        }
        let (vault, every) = (app.vault.clone(), self.settings.rotate_every);
        let look = vault.clone();
        let mut keys = app.store.read(move |tx| signing_keys::load(tx, &look)).await?;
        if keys.is_due(every, now) {
            let tend = move |tx: &mut store::Tx<'_>| {
                signing_keys::tend(tx, &vault, every, now, &mut random::secure())
            };
            keys = match app.store.write(tend).await {
                // On a full disk reads go on: the keys that are there sign on.
                Err(error) if error.is_unavailable() && keys.current(now).is_some() => keys,
                tended => tended?,
            };
        }
        let signer = Signer { keys: Arc::new(keys), loaded_at: now };
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Some(signer.clone());
        Ok(signer)
    }

    fn kept(&self, now: Millis) -> Option<Signer> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back does not keep them longer.
        kept.as_ref().filter(|kept| kept.loaded_at <= now && kept.loaded_at.plus(KEPT) > now).cloned()
    }

    /// A token about a user, made now or some minutes ago. `members` are the user's, as they stand inside the braces of a
    /// JSON object.
    pub fn state(&self, signer: &Signer, members: &[u8], user: &str, now: Millis) -> Result<String, Error> {
        let key = signer.keys.current(now).ok_or_else(|| Error::Fault("no key signs now".into()))?;
        let now = now.0.div_euclid(SECOND);
        let sign = || Ok::<_, Error>((now, key.sign(self.unsigned(key, members, user, now).as_bytes())));
        let (made_at, signature) = self.signatures.of(&key.id, members, now, sign)?;
        let mut token = self.unsigned(key, members, user, made_at);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Header and claims.
    fn unsigned(&self, key: &SigningKey, members: &[u8], user: &str, made_at: i64) -> String {
        let ends_at = made_at + self.settings.expires_in / SECOND;
        let mut claims = Vec::with_capacity(members.len() + 256);
        claims.extend_from_slice(format!("{{\"iat\":{made_at},").as_bytes());
        claims.extend_from_slice(members);
        let subject = serde_json::Value::from(user);
        let rest = format!(",\"sub\":{subject},\"exp\":{ends_at},{}", self.parties);
        claims.extend_from_slice(rest.as_bytes());
        let mut token = String::with_capacity(claims.len() * 4 / 3 + 192);
        URL_SAFE_NO_PAD.encode_string(format!("{{\"alg\":\"EdDSA\",\"kid\":\"{}\"}}", key.id), &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&claims, &mut token);
        token
    }
}

impl Signer {
    /// What services check tokens with.
    pub fn key_set(&self) -> KeySet<'_> {
        KeySet {
            keys: self
                .keys
                .published()
                .map(|key| PublicKey {
                    alg: "EdDSA",
                    crv: "Ed25519",
                    x: &key.public,
                    kty: "OKP",
                    kid: &key.id,
                })
                .collect(),
        }
    }
}

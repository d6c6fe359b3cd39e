//! The signature of a delivery by the Standard Webhooks specification, version 1: HMAC-SHA256 over id, time and body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use kernel::secret::same_secret;
use kernel::{Millis, Secret, random};
use rand::CryptoRng;
use sha2::Sha256;

const PREFIX: &str = "whsec_";
/// The specification asks for 24 to 64 bytes.
const KEY_BYTES: usize = 32;
/// How far a receiver lets the sender's clock be off.
const TOLERANCE: i64 = 5 * kernel::time::MINUTE;

/// `whsec_` and the key in base64.
pub(crate) fn new_secret(rng: &mut impl CryptoRng) -> Secret<String> {
    let key: Secret<[u8; KEY_BYTES]> = Secret::new(random::bytes(rng));
    Secret::new(format!("{PREFIX}{}", STANDARD.encode(key.expose())))
}

/// The value of `webhook-signature`; none when the secret is not of that form.
pub(crate) fn sign(secret: &Secret<String>, id: &str, seconds: i64, body: &[u8]) -> Option<String> {
    Some(format!("v1,{}", STANDARD.encode(digest(secret, id, &seconds.to_string(), body)?)))
}

fn digest(secret: &Secret<String>, id: &str, seconds: &str, body: &[u8]) -> Option<[u8; 32]> {
    let text = secret.expose();
    let key = Secret::new(STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or(text)).ok()?);
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).ok()?;
    for part in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
        mac.update(part);
    }
    Some(mac.finalize().into_bytes().into())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("no signature fits the secret")]
    NoMatch,
    #[error("it was signed too long ago, or the clock is ahead")]
    OutOfTime,
}

/// What a receiver does with the three headers and the body as it came.
pub fn verify(
    secret: &Secret<String>,
    (id, timestamp, signatures): (&str, &str, &str),
    body: &[u8],
    now: Millis,
) -> Result<(), Wrong> {
    let expected = digest(secret, id, timestamp, body).ok_or(Wrong::NoMatch)?;
    let expected = format!("v1,{}", STANDARD.encode(expected));
    let mut found = false;
    for given in signatures.split(' ') {
        found |= same_secret(given.as_bytes(), expected.as_bytes());
    }
    if !found {
        return Err(Wrong::NoMatch);
    }
    let at: i64 = timestamp.parse().map_err(|_| Wrong::OutOfTime)?;
    let off = now.0.saturating_sub(at.saturating_mul(kernel::time::SECOND)).unsigned_abs();
    if off > TOLERANCE.unsigned_abs() { Err(Wrong::OutOfTime) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    /// The example of the specification's own libraries.
    #[test]
    fn the_published_example_signs_alike() {
        let secret = secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn what_was_changed_or_is_old_is_refused() {
        let secret = new_secret(&mut random::secure());
        assert!(secret.expose().starts_with("whsec_") && secret.expose().len() == 6 + 44);
        let at = Millis(1_800_000_000_000);
        let signature = sign(&secret, "evt_1", 1_800_000_000, b"{}").unwrap();
        let check = |id: &str, time: &str, signature: &str, body: &[u8], now| {
            verify(&secret, (id, time, signature), body, now)
        };
        let time = "1800000000";
        assert_eq!(check("evt_1", time, &signature, b"{}", at), Ok(()));
        // While a secret is replaced there are two.
        assert_eq!(check("evt_1", time, &format!("v1,AAAA v2,x {signature}"), b"{}", at), Ok(()));
        assert_eq!(check("evt_2", time, &signature, b"{}", at), Err(Wrong::NoMatch));
        assert_eq!(check("evt_1", "1800000001", &signature, b"{}", at), Err(Wrong::NoMatch));
        assert_eq!(check("evt_1", time, &signature, b"{} ", at), Err(Wrong::NoMatch));
        assert_eq!(check("evt_1", time, "", b"{}", at), Err(Wrong::NoMatch));
        let late = at.plus(TOLERANCE + 1);
        assert_eq!(check("evt_1", time, &signature, b"{}", late), Err(Wrong::OutOfTime));
        let other = new_secret(&mut random::secure());
        assert_eq!(verify(&other, ("evt_1", time, &signature), b"{}", at), Err(Wrong::NoMatch));
    }
}

//! `Stripe-Signature`: how deliveries are signed, and a verifier of our own to hold the signer against.

use hmac::{Hmac, KeyInit, Mac};
use kernel::Secret;
use kernel::secret::same_secret;
use sha2::Sha256;

/// The header of a delivery: one `v1` for each secret, as while a secret is being replaced.
#[must_use]
pub fn sign(secrets: &[Secret<String>], seconds: i64, body: &[u8]) -> String {
    let mut header = format!("t={seconds}");
    for secret in secrets {
        header.push_str(",v1=");
        header.push_str(&digest(secret.expose(), &seconds.to_string(), body));
    }
    header
}

/// Whether one of the header's `v1` is the secret's and `t` lies within `tolerance` seconds of `now`, to either side.
#[must_use]
pub fn verify(secret: &str, header: &str, body: &[u8], now: i64, tolerance: i64) -> bool {
    let named = |wanted: &'static str| {
        header.split(',').filter_map(move |part| part.split_once('=').filter(|(name, _)| *name == wanted))
    };
    let Some(time) = named("t").next_back().map(|(_, digits)| digits) else { return false };
    let Ok(seconds) = time.parse::<i64>() else { return false };
    let expected = digest(secret, time, body);
    let signed = named("v1").any(|(_, given)| same_secret(given.as_bytes(), expected.as_bytes()));
    signed && !secret.is_empty() && now.abs_diff(seconds) <= tolerance.unsigned_abs()
}

fn digest(secret: &str, time: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn any_of_several_secrets_opens_what_all_signed() {
        let header = sign(&[secret("whsec_old"), secret("whsec_new")], 1_000, b"{}");
        assert_eq!(header.matches("v1=").count(), 2);
        assert!(verify("whsec_old", &header, b"{}", 1_000, 300));
        assert!(verify("whsec_new", &header, b"{}", 1_300, 300));
        assert!(!verify("whsec_new", &header, b"{}", 1_301, 300));
        assert!(!verify("whsec_new", &header, b"{}", 699, 300));
        assert!(!verify("whsec_other", &header, b"{}", 1_000, 300));
        assert!(!verify("whsec_new", &header, b"{}\n", 1_000, 300));
        assert!(!verify("", &sign(&[secret("")], 1_000, b"{}"), b"{}", 1_000, 300));
        assert!(!verify("whsec_new", "v1=00", b"{}", 1_000, 300));
    }

    #[test]
    fn the_digest_is_that_of_the_official_sdk() {
        // stripe 23.1.0: webhooks.generateTestHeaderString({ payload: '{"id":"evt_1"}', secret: "whsec_test", timestamp: 1700000000 })
        let header = sign(&[secret("whsec_test")], 1_700_000_000, br#"{"id":"evt_1"}"#);
        assert_eq!(
            header,
            "t=1700000000,v1=c89214b5b5da833daed6f0b8c5bb6bd58cea9022bd80ccc78230f3942d632925"
        );
    }
}

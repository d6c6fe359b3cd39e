//! Stripe's signature of a delivery: `t=<seconds>,v1=<hex>`, HMAC-SHA256 over `t`, a full stop and the body as it came.

use hmac::{Hmac, KeyInit as _, Mac as _};
use kernel::secret::same_secret;
use kernel::{Millis, Secret};
use sha2::Sha256;

/// Headers are short: a few signatures while a secret is being replaced.
const MOST_SIGNATURES: usize = 16;

/// The secrets of our endpoint, and how far the sender's clock may be off. Without a secret nothing verifies: a signature
/// with an empty key can be made by anybody.
#[derive(Debug, Clone)]
pub struct Verifier {
    secrets: Vec<Secret<String>>,
    /// Milliseconds, into the past and into the future.
    tolerance: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("there is no Stripe-Signature header")]
    Missing,
    #[error("the Stripe-Signature header cannot be read")]
    Malformed,
    #[error("no signature fits a webhook secret of the configuration")]
    NoMatch,
    #[error("the delivery was signed too long ago, or its clock is ahead")]
    OutOfTime,
}

impl Verifier {
    /// White space around a secret is a copying fault; an empty one is none.
    pub fn new(secrets: &[Secret<String>], tolerance: i64) -> Verifier {
        let trimmed = secrets.iter().map(|secret| secret.expose().trim().to_owned());
        let secrets = trimmed.filter(|text| !text.is_empty()).map(Secret::new).collect();
        Verifier { secrets, tolerance }
    }

    /// Whether there is a door at all.
    pub fn is_open(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// The signature is judged first and the time afterwards, so that only a sender who knows a secret learns about clocks.
    pub fn verify(&self, header: Option<&str>, body: &[u8], now: Millis) -> Result<(), Wrong> {
        let given = Given::parse(header.ok_or(Wrong::Missing)?)?;
        let mut found = false;
        for secret in &self.secrets {
            let digest = digest(secret, given.signed_at, body);
            for signature in &given.signatures {
                found |= same_secret(digest.as_bytes(), signature.as_bytes());
            }
        }
        if !found {
            return Err(Wrong::NoMatch);
        }
        let seconds: i64 = given.signed_at.parse().map_err(|_| Wrong::Malformed)?;
        let off = seconds.checked_mul(1_000).and_then(|at| now.0.checked_sub(at)).ok_or(Wrong::OutOfTime)?;
        if off.unsigned_abs() > self.tolerance.unsigned_abs() { Err(Wrong::OutOfTime) } else { Ok(()) }
    }
}

/// A header for a body, as Stripe writes it.
pub fn sign(secret: &Secret<String>, at: Millis, body: &[u8]) -> String {
    let seconds = (at.0 / 1_000).to_string();
    format!("t={seconds},v1={}", digest(secret, &seconds, body))
}

struct Given<'a> {
    /// The digits as they came: they are part of what was signed.
    signed_at: &'a str,
    signatures: Vec<&'a str>,
}

impl<'a> Given<'a> {
    /// Of other schemes than `v1` nothing is believed.
    fn parse(header: &'a str) -> Result<Given<'a>, Wrong> {
        let (mut signed_at, mut signatures) = (None, Vec::new());
        for part in header.split(',') {
            match part.split_once('=') {
                Some(("t", digits)) => signed_at = Some(digits),
                Some(("v1", hex)) if signatures.len() < MOST_SIGNATURES => signatures.push(hex),
                _ => {}
            }
        }
        let plain =
            |digits: &&str| (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let signed_at = signed_at.filter(plain).ok_or(Wrong::Malformed)?;
        if signatures.is_empty() { Err(Wrong::Malformed) } else { Ok(Given { signed_at, signatures }) }
    }
}

fn digest(secret: &Secret<String>, signed_at: &str, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes keys of any length");
    mac.update(signed_at.as_bytes());
    mac.update(b".");
    mac.update(body);
    let bytes: [u8; 32] = mac.finalize().into_bytes().into();
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: u8| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]].map(char::from);
    bytes.into_iter().flat_map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Millis = Millis(1_800_000_000_000);

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn verifier(secrets: &[&str]) -> Verifier {
        Verifier::new(&secrets.iter().map(|text| secret(text)).collect::<Vec<_>>(), 300_000)
    }

    fn verdict(header: &str, body: &[u8]) -> Result<(), Wrong> {
        verifier(&["whsec_new", "whsec_old"]).verify(Some(header), body, NOW)
    }

    #[test]
    fn each_of_our_secrets_verifies_and_no_other() {
        let body = b"{\"id\":\"evt_1\"}\r\n";
        for known in ["whsec_new", "whsec_old"] {
            assert_eq!(verdict(&sign(&secret(known), NOW, body), body), Ok(()));
        }
        assert_eq!(verdict(&sign(&secret("whsec_other"), NOW, body), body), Err(Wrong::NoMatch));
        assert_eq!(
            verifier(&[" whsec_new\n"]).verify(Some(&sign(&secret("whsec_new"), NOW, body)), body, NOW),
            Ok(())
        );
    }

    #[test]
    fn an_empty_secret_shuts_the_door() {
        let body = b"{}";
        assert!(!verifier(&["", " \n"]).is_open());
        let forged = sign(&secret(""), NOW, body);
        assert_eq!(verifier(&[""]).verify(Some(&forged), body, NOW), Err(Wrong::NoMatch));
    }

    #[test]
    fn what_the_official_library_refuses_is_refused_and_more_of_the_future() {
        let body = b"{}";
        let good = sign(&secret("whsec_new"), NOW, body);
        let (time, hex) = good.split_once(",v1=").unwrap();
        let at = |off: i64| verdict(&sign(&secret("whsec_new"), Millis(NOW.0 + off * 1_000), body), body);
        assert_eq!((at(-300), at(300)), (Ok(()), Ok(())));
        assert_eq!((at(-301), at(301)), (Err(Wrong::OutOfTime), Err(Wrong::OutOfTime)));
        assert_eq!(verdict(&format!("{time},v1={}", hex.to_uppercase()), body), Err(Wrong::NoMatch));
        assert_eq!(verdict(&format!("{time}, v1={hex}"), body), Err(Wrong::Malformed));
        assert_eq!(verdict(&format!("{time},v0={hex}"), body), Err(Wrong::Malformed));
        assert_eq!(verdict(&format!("v1={hex}"), body), Err(Wrong::Malformed));
        assert_eq!(verdict(&format!("{time},v1={},v1={hex}", "0".repeat(64)), body), Ok(()));
        assert_eq!(verdict(&format!("v1={hex},v0=x,{time}"), body), Ok(()));
        assert_eq!(verdict(&good, b"{}\n"), Err(Wrong::NoMatch));
        assert_eq!(verifier(&["whsec_new"]).verify(None, body, NOW), Err(Wrong::Missing));
    }

    proptest! {
        #[test]
        fn no_header_panics_and_none_that_we_did_not_make_verifies(header in "\\PC{0,120}", body in any::<Vec<u8>>()) {
            prop_assert!(verdict(&header, &body).is_err());
        }

        #[test]
        fn what_was_signed_verifies(body in any::<Vec<u8>>(), off in -300_i64..=300) {
            let header = sign(&secret("whsec_old"), Millis(NOW.0 + off * 1_000), &body);
            prop_assert_eq!(verdict(&header, &body), Ok(()));
        }
    }
}

//! Codes of an authenticator app (RFC 6238): six digits made of the time by SHA-1, new every thirty seconds.
//!
//! The key is the secret's text itself, as Better Auth has it, so that apps that were set up there go on working.

use kernel::secret::same_secret;
use kernel::signed::encode_uri_component;
use kernel::{Millis, Secret, random};
use rand::CryptoRng;
use ring::hmac;

/// Milliseconds.
const PERIOD: i64 = 30_000;
const DIGITS: usize = 6;
const SECRET_LENGTH: usize = 32;
/// Clocks differ and people type slowly: the code before and the one after are good, too.
const TOLERANCE: i64 = 1;

pub fn generate(rng: &mut impl CryptoRng) -> Secret<String> {
    Secret::new(random::alphanumeric(rng, SECRET_LENGTH))
}

/// What an app reads from the picture that it is shown. Spaces are written `%20`, since apps show a `+` as it stands.
pub fn uri(secret: &Secret<String>, issuer: &str, account: &str) -> String {
    let (issuer, account) = (encode_uri_component(issuer), encode_uri_component(account));
    let key = base32(secret.expose().as_bytes());
    format!("otpauth://totp/{issuer}:{account}?secret={key}&issuer={issuer}&digits=6&period=30")
}

/// The newest step around now whose code this is.
pub fn matching_step(secret: &Secret<String>, code: &str, now: Millis) -> Option<i64> {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.expose().as_bytes());
    let current = now.0.div_euclid(PERIOD);
    let steps = current.saturating_sub(TOLERANCE)..=current.saturating_add(TOLERANCE);
    // Each of them is compared, whichever it is.
    steps.fold(None, |found, step| {
        if same_secret(code_of(&key, step).as_bytes(), code.as_bytes()) { Some(step) } else { found }
    })
}

/// The code of a step (RFC 4226, section 5.3).
fn code_of(key: &hmac::Key, step: i64) -> String {
    let tag = hmac::sign(key, &step.to_be_bytes());
    let mac = tag.as_ref();
    let from = usize::from(mac[mac.len() - 1] & 15);
    let number = u32::from_be_bytes([mac[from], mac[from + 1], mac[from + 2], mac[from + 3]]) & 0x7fff_ffff;
    format!("{:0DIGITS$}", number % 1_000_000)
}

/// RFC 4648, without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let letter = |chunk: &[u8], index: usize| {
        let bit = index * 5;
        let pair = u16::from_be_bytes([chunk[bit / 8], chunk.get(bit / 8 + 1).copied().unwrap_or(0)]);
        char::from(ALPHABET[usize::from(pair >> (11 - bit % 8) & 31)])
    };
    let letters = |chunk: &'_ [u8]| {
        (0..(chunk.len() * 8).div_ceil(5)).map(|index| letter(chunk, index)).collect::<String>()
    };
    bytes.chunks(5).map(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of the vectors of RFC 4226 and RFC 6238.
    fn rfc() -> Secret<String> {
        Secret::new("12345678901234567890".into())
    }

    fn at(seconds: i64) -> Millis {
        Millis(seconds * 1_000)
    }

    #[test]
    fn the_codes_of_the_standard_are_right_in_their_step() {
        // RFC 6238, appendix B, the last six of eight digits.
        for (seconds, code) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000, "353130")]
        {
            assert_eq!(matching_step(&rfc(), code, at(seconds)), Some(seconds / 30), "{code}");
        }
    }

    #[test]
    fn one_step_before_and_after_is_tolerated_and_no_more() {
        let code = "287082"; // of step 1
        for (seconds, good) in [(0, true), (29, true), (30, true), (60, true), (89, true), (90, false)] {
            assert_eq!(matching_step(&rfc(), code, at(seconds)).is_some(), good, "{seconds}");
        }
    }

    #[test]
    fn what_is_no_code_matches_nothing() {
        for code in ["", "28708", "2870822", " 287082", "٢٨٧٠٨٢", "28708२"] {
            assert_eq!(matching_step(&rfc(), code, at(59)), None, "{code:?}");
        }
        for now in [Millis(i64::MAX), Millis(i64::MIN), Millis(-1)] {
            assert_eq!(matching_step(&rfc(), "", now), None);
        }
    }

    #[test]
    fn letters_of_five_bits_are_those_of_the_standard() {
        // RFC 4648, section 10, without padding.
        for (text, letters) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(text.as_bytes()), letters);
        }
    }

    #[test]
    fn the_uri_names_issuer_and_account_and_holds_the_key() {
        assert_eq!(
            uri(&rfc(), "My App", "ada+1@example.com"),
            "otpauth://totp/My%20App:ada%2B1%40example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=My%20App&digits=6&period=30"
        );
    }
}

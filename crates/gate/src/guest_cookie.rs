//! The visitor's cookie: `{"gid": …}` as Python's itsdangerous signs it, so that a backend in Python reads it by itself.
//!
//! `URLSafeTimedSerializer(secrets, salt="tollgate.guest")` with the key derivation `hmac` and SHA-256. Its keys are the
//! guests' own: whoever reads guests can sign no session.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use kernel::secret::same_secret;
use kernel::{GuestId, Millis, Secrets, time};
use sha2::Sha256;

/// The name, to which `__Secure-` is added on https.
pub const NAME: &str = "tollgate.guest";
pub const SALT: &str = "tollgate.guest";
/// What the guests' secrets are derived for, where the configuration names none.
pub const PURPOSE: &str = "guest cookie";

/// Letters and digits of an id.
const ID_LENGTH: usize = 32;

/// Keys ready for use: the first signs, all verify.
#[derive(Clone)]
pub struct GuestKeys {
    keys: Vec<Hmac<Sha256>>,
}

impl std::fmt::Debug for GuestKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl GuestKeys {
    pub fn new(secrets: &Secrets) -> GuestKeys {
        GuestKeys::with_salt(secrets, SALT)
    }

    fn with_salt(secrets: &Secrets, salt: &str) -> GuestKeys {
        let keyed = |key: &[u8]| Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
        let key = |secret: &[u8]| {
            let mut derivation: Hmac<Sha256> = keyed(secret);
            derivation.update(salt.as_bytes());
            keyed(&derivation.finalize().into_bytes())
        };
        GuestKeys { keys: secrets.iter().map(|secret| key(secret.expose().as_bytes())).collect() }
    }

    /// The cookie's value. Only letters, digits, `-`, `_` and `.`: it stands in a cookie as it is.
    pub fn sign(&self, id: &GuestId, now: Millis) -> String {
        signed(&self.keys[0], id.as_str(), seconds(now))
    }

    /// The guest of a value that one of the keys signed at most `ttl` milliseconds ago. Refused is whatever is not letter
    /// for letter what signing the same guest at the same time would give.
    pub fn open(&self, text: &str, ttl: i64, now: Millis) -> Option<GuestId> {
        let (id, signed_at) = self.read(text)?;
        // In whole seconds and without patience for clocks that are ahead, as itsdangerous judges `max_age`.
        let age = seconds(now).checked_sub(signed_at)?;
        let lives = (0..=ttl / time::SECOND).contains(&age);
        let is_id = id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (lives && is_id).then(|| GuestId::from_text(id))
    }

    /// What was signed, and when, in seconds.
    fn read(&self, text: &str) -> Option<(String, i64)> {
        let (payload, rest) = text.split_once('.')?;
        let (time, _) = rest.split_once('.')?;
        let payload = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        let id = payload.strip_prefix(BEFORE_ID)?.strip_suffix(AFTER_ID)?;
        let bytes = URL_SAFE_NO_PAD.decode(time).ok().filter(|bytes| bytes.len() < 8)?;
        let signed_at = bytes.iter().fold(0, |sum, byte| sum << 8 | i64::from(*byte));
        let same = |key| same_secret(signed(key, id, signed_at).as_bytes(), text.as_bytes());
        self.keys.iter().any(same).then(|| (id.to_owned(), signed_at))
    }
}

const BEFORE_ID: &str = "{\"gid\":\"";
const AFTER_ID: &str = "\"}";

fn seconds(at: Millis) -> i64 {
    at.0.div_euclid(time::SECOND)
}

/// `payload.time.signature`. The time is a number without leading zero bytes.
fn signed(key: &Hmac<Sha256>, id: &str, at: i64) -> String {
    let time = at.to_be_bytes();
    let zeros = time.iter().take_while(|byte| **byte == 0).count();
    let mut text = URL_SAFE_NO_PAD.encode(format!("{BEFORE_ID}{id}{AFTER_ID}"));
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(&time[zeros..], &mut text);
    let mut mac = key.clone();
    mac.update(text.as_bytes());
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(mac.finalize().into_bytes(), &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::time::DAY;
    use proptest::prelude::*;

    const ID: &str = "AbCdEfGhIjKlMnOpQrStUvWxYz012345";
    const ONE: &str = "guest-secret-one-0123456789abcdefghij";
    const TWO: &str = "guest-secret-two-0123456789abcdefghij";
    const NOW: Millis = Millis(1_800_000_000_000);
    /// By itsdangerous 2.2.0 at [`NOW`], with [`ONE`].
    const GOOD: &str = "eyJnaWQiOiJBYkNkRWZHaElqS2xNbk9wUXJTdFV2V3hZejAxMjM0NSJ9.a0nSAA.\
                        4ckNbJn0RZAuI38zYOF0ygEL8RIubyS-nptfY8OnWtM";

    fn secrets(list: &[&str]) -> Secrets {
        Secrets::new(list.iter().map(|text| text.to_string()).collect()).unwrap()
    }

    fn keys(list: &[&str]) -> GuestKeys {
        GuestKeys::new(&secrets(list))
    }

    fn open(list: &[&str], text: &str) -> Option<String> {
        keys(list).open(text, DAY, NOW).map(GuestId::into_string)
    }

    #[test]
    fn what_itsdangerous_signs_is_what_we_sign() {
        assert_eq!(keys(&[ONE]).sign(&GuestId::from_text(ID), NOW), GOOD);
        assert_eq!(open(&[ONE], GOOD).as_deref(), Some(ID));
        // Signed by it with the secrets [ONE, TWO]: the last one there is the first one here.
        let rotated = "eyJnaWQiOiJBYkNkRWZHaElqS2xNbk9wUXJTdFV2V3hZejAxMjM0NSJ9.a0nSAA.\
                       1cOv76eFp53vLqi_xtPPXyTpFtH_dRv56cNDv5aDZSA";
        assert_eq!(keys(&[TWO, ONE]).sign(&GuestId::from_text(ID), NOW), rotated);
        for list in [&[TWO, ONE][..], &[ONE, TWO], &[TWO]] {
            assert_eq!(open(list, rotated).as_deref(), Some(ID));
        }
        assert_eq!(open(&[TWO, ONE], GOOD).as_deref(), Some(ID));
        assert_eq!(open(&[ONE], rotated), None);
    }

    #[test]
    fn a_value_of_another_secret_and_salt_is_signed_alike() {
        let token = "eyJnaWQiOiI4ZjE0ZTQ1Zi1jZWVhLTQ2N2YtOWIxYy0zZDJmN2ExYjJjM2QifQ.a0nRxA.\
                     9hQqx4og8UT9-GR3z-wlAp1wtLzxdwq11n4GoeOo2XM";
        let keys = GuestKeys::with_salt(&secrets(&["guest-cookie-secret"]), "guest-session");
        let (id, signed_at) = keys.read(token).unwrap();
        assert_eq!((id.as_str(), signed_at), ("8f14e45f-ceea-467f-9b1c-3d2f7a1b2c3d", 1_799_999_940));
        assert_eq!(signed(&keys.keys[0], &id, signed_at), token);
        // An id of that form is none of ours, whoever signed it.
        assert_eq!(keys.open(token, DAY, NOW), None);
    }

    /// All by itsdangerous with the right secret; what it says to them does not matter.
    #[test]
    fn other_forms_salts_and_derivations_are_refused() {
        for (what, rest) in [
            ("the salt guest-session", "a0nSAA.hKM07lCUyeaSzE0tZwJZIp5JQzpPeOFtvH5PPD1ya7w"),
            ("derivation django-concat", "a0nSAA.TAfbf6NzhigJb02Qr7WgNWZOrJ7tj3RBpORs5oLLOVY"),
            ("derivation concat", "a0nSAA.9HS-xkOBzoXvDCKpoYfQbU1gOqeKSNEosQi-3EDIPSI"),
            ("derivation none", "a0nSAA.b7L0Gp8LGZelF6X3X2C9y0fg2_CIWKNdEE6PlHmMw50"),
            ("SHA-1", "a0nSAA.X6PaZgADdc0to7rwAa_PBmSGT_g"),
            (
                "SHA-512",
                "a0nSAA.dAHsb5lypkA00m06jP6kIjnlqRVJd4Hzihj5PDzEMgjn34CA4p4LjSXYqZ4aNsle1taY8LtczeyfdZyvdMUrvg",
            ),
            ("a zero byte before the time", "AGtJ0gA.TfUWYUitCS-gQvReS0-bQ071uF3GPazR77P4MhiV1Vk"),
            ("an empty time", ".L00l33nMA4ohPz0_zTn9fu8voLfko6yLpTvUpYa9VW0"),
            ("a time of nine bytes", "____________.KkneSfiraLTS9JG1i7zpNPiiZO_7SCAeHfG8z5Bj3YQ"),
            ("no time", "aMqxlzk-z8AGnqXAKhXvs45s3n3TZ5eanxxdNMbdDi4"),
        ] {
            let payload = "eyJnaWQiOiJBYkNkRWZHaElqS2xNbk9wUXJTdFV2V3hZejAxMjM0NSJ9";
            assert_eq!(open(&[ONE], &format!("{payload}.{rest}")), None, "{what}");
        }
        for (what, token) in [
            (
                "a second member",
                "eyJnaWQiOiJBYkNkRWZHaElqS2xNbk9wUXJTdFV2V3hZejAxMjM0NSIsIngiOjF9.a0nSAA.\
                 wAa5HILFZZPKhvUSU14rfs8st3Oe_UkqMMCZPOuB8TI",
            ),
            ("a short id", "eyJnaWQiOiJzaG9ydCJ9.a0nSAA.kEwUcQ8g8_VAIMuAHURAim18KowH5Y9P8hwqcidXioQ"),
            (
                "a compressed payload",
                ".eJyrVkrPTFGyUkokAJRqATuRDw8.a0nSAA.rm6iijSiX52G0mgBbwbuupewaB14hzWyrOCp8pFd794",
            ),
            (
                "a space in the JSON",
                "eyJnaWQiOiAiQWJDZEVmR2hJaktsTW5PcFFyU3RVdld4WXowMTIzNDUifQ.a0nSAA.\
                 Lj_47PlqwWYLY7d-9I1NMfesNcPqDoMHUrtEGag6188",
            ),
            (
                "padding",
                "eyJnaWQiOiJBYkNkRWZHaElqS2xNbk9wUXJTdFV2V3hZejAxMjM0NSJ9==.a0nSAA.\
                 KT8KXXtgwEtM5vJJn0sWoSy-6-gmiSDr28gqekZIsjU",
            ),
        ] {
            assert_eq!(open(&[ONE], token), None, "{what}");
        }
    }

    #[test]
    fn what_was_changed_after_signing_is_refused() {
        let changed = [
            String::new(),
            "..".into(),
            GOOD.replace("ckNb", "ckNc"),
            GOOD.replace(".a0nSAA.", ".a0nSAB."),
            GOOD.replace("SJ9.", "SJ9.x."),
            GOOD.replace("ckNb", "ck!!!!Nb"),
            format!("x.{GOOD}"),
            format!("{GOOD}="),
            format!("{GOOD} "),
            format!("{GOOD}\n"),
            format!("\"{GOOD}\""),
            GOOD[..GOOD.len() - 1].into(),
            GOOD[..GOOD.rfind('.').unwrap() + 1].into(),
            GOOD[..GOOD.rfind('.').unwrap()].into(),
            GOOD[..48].into(),
        ];
        for text in changed {
            assert_eq!(open(&[ONE], &text), None, "{text}");
        }
        assert_eq!(open(&["wrong"], GOOD), None);
        assert_eq!(format!("{:?}", keys(&[ONE])), "[redacted]");
    }

    #[test]
    fn a_value_lives_from_its_signing_for_its_time_and_not_before() {
        let at = |moved: i64| keys(&[ONE]).open(GOOD, DAY, NOW.plus(moved)).is_some();
        assert!(at(0) && at(DAY) && at(DAY + 999));
        assert!(!at(DAY + 1_000) && !at(-1) && !at(-1_000) && !at(i64::MAX - NOW.0));
        assert_eq!(keys(&[ONE]).open(GOOD, DAY, Millis(i64::MIN)), None);
    }

    proptest! {
        #[test]
        fn only_what_was_signed_opens(at in 0usize..GOOD.len(), other in "[A-Za-z0-9._=-]", noise in "\\PC{0,80}") {
            let mut bad = GOOD.to_owned();
            bad.replace_range(at..at + 1, &other);
            prop_assume!(bad != GOOD);
            prop_assert_eq!(open(&[ONE], &bad), None);
            prop_assert_eq!(open(&[ONE], &noise), None);
        }

        #[test]
        fn what_is_signed_opens(id in "[A-Za-z0-9]{32}", at in 0i64..4_000_000_000_000) {
            let (keys, id) = (keys(&[ONE]), GuestId::from_text(id));
            let text = keys.sign(&id, Millis(at));
            prop_assert_eq!(keys.open(&text, DAY, Millis(at)), Some(id));
        }
    }
}

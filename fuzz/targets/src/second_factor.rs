//! What people and authenticators answer: codes, and the two answers of Web Authentication.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::passkeys::webauthn::{self, Expected};
use identity::second_factor::totp;
use kernel::{Millis, Secret};
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

const NOW: Millis = Millis(1_800_000_000_000);
const KEY: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const CHALLENGE: &str = "Y2hhbGxlbmdlIG9mIHRoaXJ0eS10d28gYnl0ZXMgISE";
const SITE: &str = "example.com";
const PAGE: &str = "https://app.example.com";

/// A text is a code when it is one of the three that an app shows around now, and no other text is.
pub fn totp_code(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let step = NOW.0 / 30_000;
    let shown = |step: i64| {
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, KEY.as_bytes()),
            &step.to_be_bytes(),
        );
        let from = usize::from(tag.as_ref()[19] & 15);
        let number = tag.as_ref()[from..from + 4].iter().fold(0_u32, |sum, &byte| sum << 8 | u32::from(byte));
        format!("{:06}", (number & 0x7fff_ffff) % 1_000_000)
    };
    let found = totp::matching_step(&Secret::new(KEY.into()), &text, NOW);
    match found {
        Some(found) => assert!((step - 1..=step + 1).contains(&found) && shown(found) == text, "{text:?}"),
        None => assert!((-1..=1).all(|near| shown(step + near) != text), "{text:?}"),
    }
    // The code itself is always found, whatever stood before it in the same place.
    assert_eq!(totp::matching_step(&Secret::new(KEY.into()), &shown(step), NOW), Some(step));
}

fn judge<T>(work: impl FnOnce(&Expected<'_>) -> T) -> T {
    work(&Expected { challenge: CHALLENGE, rp_id: SITE, is_ours: &|origin| origin == PAGE })
}

fn page(kind: &str) -> Vec<u8> {
    json!({"type": kind, "challenge": CHALLENGE, "origin": PAGE}).to_string().into_bytes()
}

fn credential(id: &[u8], response: Value) -> Value {
    let id = URL_SAFE_NO_PAD.encode(id);
    json!({"id": id, "rawId": id, "type": "public-key", "response": response})
}

/// Registered is what was made for our site, in somebody's presence, under the id that the answer names.
pub fn webauthn_registration(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let response = match kind % 3 {
        0 => serde_json::from_slice(data).unwrap_or_default(),
        1 => credential(
            &[9; 4],
            json!({"clientDataJSON": encoded(&page("webauthn.create")), "attestationObject": encoded(data)}),
        ),
        _ => {
            let object = attestation(data);
            let client_data = encoded(&page("webauthn.create"));
            credential(&[9; 4], json!({"clientDataJSON": client_data, "attestationObject": encoded(&object)}))
        }
    };
    let Ok(made) = judge(|wanted| webauthn::register(wanted, &response)) else { return };
    assert!(!made.credential_id.is_empty() && !made.public_key.is_empty());
    assert!(made.backup_eligible || !made.backed_up);
    if kind % 3 == 2 {
        assert_eq!(&data[..32], digest(&SHA256, SITE.as_bytes()).as_ref());
        assert_eq!(data[32] & 0b0100_0001, 0b0100_0001, "present, and with a key");
        assert_eq!(made.credential_id, [9; 4]);
        assert!(data.windows(made.public_key.len()).any(|window| window == made.public_key));
    }
}

/// `{"fmt": "none", "attStmt": {}, "authData": data}` in CBOR.
fn attestation(data: &[u8]) -> Vec<u8> {
    let mut object = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59".to_vec();
    object.extend(u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
    object.extend(data);
    object
}

/// What was not signed opens nothing; what was signed opens when it was signed for our site, in somebody's presence, and
/// the counter went up.
pub fn webauthn_authentication(data: &[u8]) {
    const COUNTED: i64 = 7;
    let key = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).expect("a seed of that length is a key");
    let mut cose = b"\xa4\x01\x01\x03\x27\x20\x06\x21\x58\x20".to_vec();
    cose.extend(key.public_key().as_ref());
    let Some((&kind, data)) = data.split_first() else { return };
    let (mut client_data, mut said) =
        (page("webauthn.get"), digest(&SHA256, SITE.as_bytes()).as_ref().to_vec());
    said.extend([1, 0, 0, 0, 8]);
    match kind % 4 {
        0 => {
            let response = serde_json::from_slice(data).unwrap_or_default();
            assert!(judge(|wanted| webauthn::authenticate(wanted, &response, &cose, COUNTED)).is_err());
            // A row that somebody else has written brings nothing down either.
            let _ = judge(|wanted| webauthn::authenticate(wanted, &response, data, COUNTED));
            return;
        }
        1 => client_data = data.to_vec(),
        _ => said = data.to_vec(),
    }
    let mut message = said.clone();
    message.extend(digest(&SHA256, &client_data).as_ref());
    let answer = |signature: &[u8]| {
        let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let response = credential(
            &[9; 4],
            json!({
                "clientDataJSON": encoded(&client_data), "authenticatorData": encoded(&said), "signature": encoded(signature),
            }),
        );
        judge(|wanted| webauthn::authenticate(wanted, &response, &cose, COUNTED))
    };
    assert!(answer(data).is_err(), "nobody has signed this");
    let Ok(used) = answer(key.sign(&message).as_ref()) else { return };
    assert!(i64::from(used.counter) > COUNTED);
    assert_eq!(&said[..32], digest(&SHA256, SITE.as_bytes()).as_ref());
    assert_eq!(said[32] & 1, 1, "present");
    let told: Value = serde_json::from_slice(&client_data).expect("it was read");
    assert_eq!((&told["challenge"], &told["origin"]), (&json!(CHALLENGE), &json!(PAGE)));
}

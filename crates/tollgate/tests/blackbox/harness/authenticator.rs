//! What people hold in their hands: an app that shows codes, and an authenticator that keeps passkeys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ciborium::Value as Cbor;
use kernel::{Clock as _, SystemClock};
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::browser::Browser;
use super::http::Response;

// ---- The app ----

/// An app that was shown the picture.
#[derive(Clone)]
pub struct App {
    secret: String,
}

impl App {
    /// From the text in the picture.
    #[track_caller]
    pub fn of(uri: &str) -> App {
        let letters =
            uri.split_once("secret=").and_then(|(_, rest)| rest.split('&').next()).expect("a secret");
        App { secret: String::from_utf8(base32(letters)).expect("the key is text") }
    }

    /// As a text that must never be seen again.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// What it shows now.
    pub fn code(&self) -> String {
        self.code_in(0)
    }

    /// What it shows so many steps of thirty seconds from now.
    pub fn code_in(&self, steps: i64) -> String {
        let step = SystemClock.now().0.div_euclid(30_000) + steps;
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.secret.as_bytes());
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let from = usize::from(tag.as_ref()[19] & 15);
        let bytes: [u8; 4] = tag.as_ref()[from..from + 4].try_into().expect("four bytes");
        format!("{:06}", (u32::from_be_bytes(bytes) & 0x7fff_ffff) % 1_000_000)
    }
}

fn base32(letters: &str) -> Vec<u8> {
    let (mut bytes, mut buffer, mut bits) = (Vec::new(), 0_u32, 0);
    for letter in letters.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'2'..=b'7' => letter - b'2' + 26,
            other => panic!("{other} is no letter of base32"),
        };
        buffer = buffer << 5 | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(buffer >> bits & 255).expect("eight bits"));
        }
    }
    bytes
}

// ---- The authenticator ----

/// Holds one passkey. What it answers can be bent before it is signed, and after.
pub struct Authenticator {
    key: Key,
    pub id: Vec<u8>,
    /// The page that the person believes to be on.
    pub origin: String,
    pub rp_id: String,
    /// Present, and verified.
    pub flags: u8,
    pub counter: u32,
}

enum Key {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

const HAS_KEY: u8 = 1 << 6;

impl Authenticator {
    /// With an elliptic key, as most have.
    pub fn new(origin: &str) -> Authenticator {
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &rng).expect("a key");
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &rng).expect("a key");
        Authenticator::with(Key::P256(key), origin)
    }

    pub fn with_ed25519(origin: &str) -> Authenticator {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Authenticator::with(Key::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key")), origin)
    }

    fn with(key: Key, origin: &str) -> Authenticator {
        let mut id = vec![0; 32];
        ring::rand::SecureRandom::fill(&SystemRandom::new(), &mut id).expect("chance");
        let host = origin.split("://").nth(1).unwrap_or_default();
        let rp_id = host.split(':').next().unwrap_or_default().to_owned();
        Authenticator { key, id, origin: origin.to_owned(), rp_id, flags: 5, counter: 0 }
    }

    pub fn credential_id(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.id)
    }

    /// The answer to options for a new passkey.
    pub fn create(&self, options: &Value) -> Value {
        let client_data = self.client_data("webauthn.create", options);
        let mut attested = vec![0; 16];
        attested.extend(u16::try_from(self.id.len()).expect("a short id").to_be_bytes());
        attested.extend(&self.id);
        attested.extend(written(&self.cose()));
        let data = self.data(self.flags | HAS_KEY, &attested);
        let object = written(&Cbor::Map(vec![
            ("fmt".into(), "none".into()),
            ("attStmt".into(), Cbor::Map(Vec::new())),
            ("authData".into(), Cbor::Bytes(data)),
        ]));
        self.credential(json!({
            "clientDataJSON": URL_SAFE_NO_PAD.encode(client_data),
            "attestationObject": URL_SAFE_NO_PAD.encode(object),
            "transports": ["internal"],
        }))
    }

    /// The answer to options for a sign-in; the counter goes up.
    pub fn get(&mut self, options: &Value) -> Value {
        self.counter += 1;
        self.get_again(options)
    }

    /// The same without counting, as a copy of the key would.
    pub fn get_again(&self, options: &Value) -> Value {
        let client_data = self.client_data("webauthn.get", options);
        let data = self.data(self.flags, &[]);
        let mut message = data.clone();
        message.extend(digest(&SHA256, &client_data).as_ref());
        let signature = match &self.key {
            Key::P256(key) => {
                key.sign(&SystemRandom::new(), &message).expect("a signature").as_ref().to_vec()
            }
            Key::Ed25519(key) => key.sign(&message).as_ref().to_vec(),
        };
        self.credential(json!({
            "clientDataJSON": URL_SAFE_NO_PAD.encode(client_data),
            "authenticatorData": URL_SAFE_NO_PAD.encode(data),
            "signature": URL_SAFE_NO_PAD.encode(signature),
        }))
    }

    fn client_data(&self, kind: &str, options: &Value) -> Vec<u8> {
        let data = json!({"type": kind, "challenge": options["challenge"], "origin": self.origin, "crossOrigin": false});
        data.to_string().into_bytes()
    }

    fn data(&self, flags: u8, attested: &[u8]) -> Vec<u8> {
        let mut data = digest(&SHA256, self.rp_id.as_bytes()).as_ref().to_vec();
        data.push(flags);
        data.extend(self.counter.to_be_bytes());
        data.extend(attested);
        data
    }

    fn cose(&self) -> Cbor {
        let bytes = |bytes: &[u8]| Cbor::Bytes(bytes.to_vec());
        let members: Vec<(i64, Cbor)> = match &self.key {
            Key::P256(key) => {
                let point = key.public_key().as_ref();
                let (x, y) = (bytes(&point[1..33]), bytes(&point[33..]));
                vec![(1, 2.into()), (3, (-7).into()), (-1, 1.into()), (-2, x), (-3, y)]
            }
            Key::Ed25519(key) => {
                vec![(1, 1.into()), (3, (-8).into()), (-1, 6.into()), (-2, bytes(key.public_key().as_ref()))]
            }
        };
        Cbor::Map(members.into_iter().map(|(label, value)| (label.into(), value)).collect())
    }

    fn credential(&self, response: Value) -> Value {
        let id = self.credential_id();
        json!({"id": id, "rawId": id, "type": "public-key", "response": response})
    }
}

fn written(value: &Cbor) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("memory can be written to");
    bytes
}

/// Registers the passkey for whoever is signed in in this browser.
pub fn add_passkey(browser: &mut Browser, device: &Authenticator) -> Response {
    let options = browser.get("/api/auth/passkey/generate-register-options").expect(200).json();
    browser.post("/api/auth/passkey/verify-registration", json!({"response": device.create(&options)}))
}

/// Signs in with it.
pub fn sign_in_with(browser: &mut Browser, device: &mut Authenticator) -> Response {
    let options = browser.get("/api/auth/passkey/generate-authenticate-options").expect(200).json();
    browser.post("/api/auth/passkey/verify-authentication", json!({"response": device.get(&options)}))
}

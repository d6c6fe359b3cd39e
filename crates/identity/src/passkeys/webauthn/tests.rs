use super::*;
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::json;

const CHALLENGE: &str = "Y2hhbGxlbmdlIG9mIHRoaXJ0eS10d28gYnl0ZXMgISE";
const SITE: &str = "example.com";
const PAGE: &str = "https://app.example.com";

/// An authenticator that can be told to answer wrongly.
struct Device {
    key: Key,
    id: Vec<u8>,
    origin: &'static str,
    challenge: &'static str,
    site: &'static str,
    flags: u8,
    counter: u32,
    cross_origin: bool,
    trailing: &'static [u8],
}

enum Key {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    fn p256() -> Key {
        let rng = SystemRandom::new();
        let bytes = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &rng).unwrap();
        Key::P256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, bytes.as_ref(), &rng).unwrap())
    }

    fn ed25519() -> Key {
        let bytes = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Key::Ed25519(Ed25519KeyPair::from_pkcs8(bytes.as_ref()).unwrap())
    }

    fn cose(&self) -> Vec<u8> {
        let members: Vec<(i64, Cbor)> = match self {
            Key::P256(key) => {
                let point = key.public_key().as_ref();
                let (x, y) = (point[1..33].to_vec(), point[33..].to_vec());
                vec![
                    (1, 2.into()),
                    (3, (-7).into()),
                    (-1, 1.into()),
                    (-2, Cbor::Bytes(x)),
                    (-3, Cbor::Bytes(y)),
                ]
            }
            Key::Ed25519(key) => {
                let x = key.public_key().as_ref().to_vec();
                vec![(1, 1.into()), (3, (-8).into()), (-1, 6.into()), (-2, Cbor::Bytes(x))]
            }
        };
        write(&Cbor::Map(members.into_iter().map(|(label, value)| (label.into(), value)).collect()))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Key::P256(key) => key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Key::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}

impl Device {
    fn with(key: Key) -> Device {
        Device {
            key,
            id: vec![9; 32],
            origin: PAGE,
            challenge: CHALLENGE,
            site: SITE,
            flags: PRESENT,
            counter: 0,
            cross_origin: false,
            trailing: &[],
        }
    }

    fn client_data(&self, kind: &str) -> Vec<u8> {
        let data = json!({
            "type": kind, "challenge": self.challenge, "origin": self.origin, "crossOrigin": self.cross_origin,
            "something": "new",
        });
        data.to_string().into_bytes()
    }

    fn data(&self, flags: u8, attested: &[u8]) -> Vec<u8> {
        let mut data = Sha256::digest(self.site.as_bytes()).to_vec();
        data.push(flags);
        data.extend(self.counter.to_be_bytes());
        data.extend(attested);
        data.extend(self.trailing);
        data
    }

    fn attested(&self) -> Vec<u8> {
        let mut attested = vec![0xab; 16];
        attested.extend(u16::try_from(self.id.len()).unwrap().to_be_bytes());
        attested.extend(&self.id);
        attested.extend(self.key.cose());
        attested
    }

    fn credential(&self, response: Value) -> Value {
        let id = URL_SAFE_NO_PAD.encode(&self.id);
        json!({"id": id, "rawId": id, "type": "public-key", "response": response})
    }

    /// `statement` makes the attestation of what is signed.
    fn create(&self, format: &str, statement: impl FnOnce(&[u8]) -> Vec<(Cbor, Cbor)>) -> Value {
        let client_data = self.client_data("webauthn.create");
        let data = self.data(self.flags | HAS_KEY, &self.attested());
        let statement = statement(&message(&data, &client_data));
        let object = write(&Cbor::Map(vec![
            ("fmt".into(), format.into()),
            ("attStmt".into(), Cbor::Map(statement)),
            ("authData".into(), Cbor::Bytes(data)),
        ]));
        self.credential(json!({
            "clientDataJSON": URL_SAFE_NO_PAD.encode(client_data),
            "attestationObject": URL_SAFE_NO_PAD.encode(object),
            "transports": ["hybrid", "internal", "made up"],
        }))
    }

    fn get(&self) -> Value {
        let client_data = self.client_data("webauthn.get");
        let data = self.data(self.flags, &[]);
        let signature = self.key.sign(&message(&data, &client_data));
        self.credential(json!({
            "clientDataJSON": URL_SAFE_NO_PAD.encode(client_data),
            "authenticatorData": URL_SAFE_NO_PAD.encode(data),
            "signature": URL_SAFE_NO_PAD.encode(signature),
            "userHandle": null,
        }))
    }
}

fn write(value: &Cbor) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

fn nothing(_: &[u8]) -> Vec<(Cbor, Cbor)> {
    Vec::new()
}

fn expected<T>(judge: impl FnOnce(&Expected<'_>) -> T) -> T {
    judge(&Expected { challenge: CHALLENGE, rp_id: SITE, is_ours: &|origin| origin == PAGE })
}

fn registered(device: &Device) -> Result<Registered, Refused> {
    expected(|wanted| register(wanted, &device.create("none", nothing)))
}

fn signed_in(device: &Device, counter: i64) -> Result<Used, Refused> {
    expected(|wanted| authenticate(wanted, &device.get(), &device.key.cose(), counter))
}

#[test]
fn a_key_of_each_kind_is_registered_and_signs_in() {
    for key in [Key::p256(), Key::ed25519()] {
        let mut device = Device::with(key);
        let made = registered(&device).unwrap();
        assert_eq!(made.credential_id, device.id);
        assert_eq!(made.public_key, device.key.cose());
        assert_eq!((made.device_type(), made.backed_up, made.counter), ("singleDevice", false, 0));
        assert_eq!(made.aaguid, "abababab-abab-abab-abab-abababababab");
        assert_eq!(made.transports, ["hybrid", "internal"]);
        device.counter = 7;
        assert_eq!(signed_in(&device, 6), Ok(Used { counter: 7, backed_up: false }));
    }
}

#[test]
fn a_key_that_is_backed_up_says_so() {
    let mut device = Device::with(Key::ed25519());
    device.flags |= BACKUP_ELIGIBLE | BACKED_UP;
    let made = registered(&device).unwrap();
    assert_eq!((made.device_type(), made.backed_up), ("multiDevice", true));
    device.flags = PRESENT | BACKED_UP;
    assert_eq!(registered(&device), Err(Refused::Malformed), "it cannot be, so it is not");
}

#[test]
fn an_answer_to_something_else_is_refused() {
    let device = |change: fn(&mut Device)| {
        let mut device = Device::with(Key::ed25519());
        change(&mut device);
        device
    };
    let cases: [(Refused, Device); 7] = [
        (Refused::OtherCeremony, device(|d| d.challenge = "another")),
        (Refused::OtherSite, device(|d| d.origin = "https://evil.test")),
        (Refused::OtherSite, device(|d| d.cross_origin = true)),
        (Refused::OtherSite, device(|d| d.site = "app.example.com")),
        (Refused::NobodyPresent, device(|d| d.flags = 0)),
        (Refused::Malformed, device(|d| d.trailing = b"\0")),
        (Refused::Malformed, device(|d| d.flags |= HAS_EXTENSIONS)),
    ];
    for (refused, device) in &cases {
        assert_eq!(registered(device), Err(*refused));
        assert_eq!(signed_in(device, 0), Err(*refused));
    }
    let device = Device::with(Key::ed25519());
    // An answer to one ceremony is none to the other.
    assert_eq!(expected(|wanted| register(wanted, &device.get())), Err(Refused::Malformed));
    let answer = device.create("none", nothing);
    assert_eq!(
        expected(|wanted| authenticate(wanted, &answer, &device.key.cose(), 0)),
        Err(Refused::Malformed)
    );
}

#[test]
fn extensions_that_nobody_asked_for_are_passed_over() {
    let mut device = Device::with(Key::ed25519());
    device.flags |= HAS_EXTENSIONS;
    device.trailing = b"\xa1\x61x\x01";
    assert!(registered(&device).is_ok());
    assert!(signed_in(&device, 0).is_ok());
}

#[test]
fn a_signature_of_another_key_is_refused() {
    let (device, other) = (Device::with(Key::p256()), Device::with(Key::p256()));
    let judged = expected(|wanted| authenticate(wanted, &device.get(), &other.key.cose(), 0));
    assert_eq!(judged, Err(Refused::Signature));
    let mut answer = device.get();
    answer["response"]["signature"] = "AAAA".into();
    let judged = expected(|wanted| authenticate(wanted, &answer, &device.key.cose(), 0));
    assert_eq!(judged, Err(Refused::Signature));
}

#[test]
fn a_counter_only_goes_up_unless_there_is_none() {
    let mut device = Device::with(Key::ed25519());
    assert!(signed_in(&device, 0).is_ok(), "authenticators without one always say 0");
    assert_eq!(signed_in(&device, 1), Err(Refused::Counter));
    device.counter = 5;
    assert_eq!(signed_in(&device, 5), Err(Refused::Counter));
    assert_eq!(signed_in(&device, 6), Err(Refused::Counter));
    assert!(signed_in(&device, 4).is_ok());
}

#[test]
fn only_an_empty_attestation_or_one_of_the_key_itself_is_taken() {
    let device = Device::with(Key::p256());
    let own = |signed: &[u8]| {
        vec![("alg".into(), (-7).into()), ("sig".into(), Cbor::Bytes(device.key.sign(signed)))]
    };
    let judge = |answer: Value| expected(|wanted| register(wanted, &answer)).map(|_| ());
    assert_eq!(judge(device.create("packed", own)), Ok(()));
    let lies = [
        device.create("none", own),
        device.create("fido-u2f", nothing),
        device.create("packed", nothing),
        device.create("packed", |_| own(b"something else")),
        device.create("packed", |signed| {
            let mut statement = own(signed);
            statement.push(("x5c".into(), Cbor::Array(Vec::new())));
            statement
        }),
        device.create("packed", |signed| {
            vec![("alg".into(), (-8).into()), ("sig".into(), Cbor::Bytes(device.key.sign(signed)))]
        }),
    ];
    for lie in lies {
        assert_eq!(judge(lie), Err(Refused::Attestation));
    }
}

#[test]
fn an_id_that_is_not_the_attested_one_is_refused() {
    let device = Device::with(Key::ed25519());
    for (member, value) in [("id", "AAAA"), ("rawId", "AAAA"), ("type", "password")] {
        let mut answer = device.create("none", nothing);
        answer[member] = value.into();
        assert_eq!(expected(|wanted| register(wanted, &answer)), Err(Refused::Malformed), "{member}");
    }
    let mut answer = device.create("none", nothing);
    (answer["id"], answer["rawId"]) = ("AAAA".into(), "AAAA".into());
    assert_eq!(expected(|wanted| register(wanted, &answer)), Err(Refused::Malformed));
    let mut device = Device::with(Key::ed25519());
    device.id = vec![1; LONGEST_ID + 1];
    assert_eq!(registered(&device), Err(Refused::Malformed));
}

proptest! {
    /// A bit that tips over anywhere in what is signed is seen, or nothing is said that was not signed.
    #[test]
    fn nothing_that_was_changed_signs_in(at in 0usize..200, bit in 0u8..8) {
        let mut device = Device::with(Key::ed25519());
        device.counter = 3;
        let answer = device.get();
        for member in ["clientDataJSON", "authenticatorData", "signature"] {
            let mut changed = answer.clone();
            let mut bytes = URL_SAFE_NO_PAD.decode(answer["response"][member].as_str().unwrap()).unwrap();
            let index = at % bytes.len();
            bytes[index] ^= 1 << bit;
            changed["response"][member] = URL_SAFE_NO_PAD.encode(&bytes).into();
            prop_assert!(expected(|wanted| authenticate(wanted, &changed, &device.key.cose(), 0)).is_err());
        }
    }

    #[test]
    fn no_attestation_object_brings_it_down(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let device = Device::with(Key::ed25519());
        let mut answer = device.create("none", nothing);
        answer["response"]["attestationObject"] = URL_SAFE_NO_PAD.encode(&bytes).into();
        prop_assert!(expected(|wanted| register(wanted, &answer)).is_err());
    }
}

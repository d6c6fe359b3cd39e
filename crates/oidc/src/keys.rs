//! A provider's public keys, and the check of a signature against them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use serde_json::Value;

/// Key sets have a handful; more are not looked at.
const MOST: usize = 64;
/// A token that names no key is tried against so many.
const TRIES: usize = 8;

/// Only those with a public and a private half: whoever can check must not be able to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    pub const ALL: [(Algorithm, &'static str); 9] = [
        (Algorithm::Rs256, "RS256"),
        (Algorithm::Rs384, "RS384"),
        (Algorithm::Rs512, "RS512"),
        (Algorithm::Ps256, "PS256"),
        (Algorithm::Ps384, "PS384"),
        (Algorithm::Ps512, "PS512"),
        (Algorithm::Es256, "ES256"),
        (Algorithm::Es384, "ES384"),
        (Algorithm::EdDsa, "EdDSA"),
    ];

    pub fn parse(name: &str) -> Option<Algorithm> {
        // The name that RFC 9864 gives to the one curve that is meant.
        let name = if name == "Ed25519" { "EdDSA" } else { name };
        Algorithm::ALL.into_iter().find(|(_, known)| *known == name).map(|(algorithm, _)| algorithm)
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => None,
        }
    }
}

#[derive(Debug, Clone)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Debug, Clone)]
struct PublicKey {
    id: Option<String>,
    /// The only algorithm it may be used with, where the provider says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Debug, Clone, Default)]
pub struct KeySet(Vec<PublicKey>);

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The outcome of a search for the key that signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    Good,
    Bad,
    /// None of the keys is the one that is named: perhaps the provider has a new one.
    NoSuchKey,
}

impl KeySet {
    /// Keys that this build cannot use are left out; `None` when it is no key set at all.
    pub fn read(document: &Value) -> Option<KeySet> {
        let keys = document.get("keys")?.as_array()?;
        Some(KeySet(keys.iter().take(MOST).filter_map(PublicKey::read).collect()))
    }

    pub fn check(
        &self,
        algorithm: Algorithm,
        key_id: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Checked {
        let fits = |key: &&PublicKey| {
            key.fits(algorithm) && key_id.is_none_or(|wanted| key.id.as_deref() == Some(wanted))
        };
        let mut found = Checked::NoSuchKey;
        for key in self.0.iter().filter(fits).take(TRIES) {
            if key.verifies(algorithm, signed, signature) {
                return Checked::Good;
            }
            found = Checked::Bad;
        }
        found
    }
}

impl PublicKey {
    fn read(value: &Value) -> Option<PublicKey> {
        let jwk = Jwk::deserialize(value).ok()?;
        if jwk.r#use.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes =
            |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?.trim_end_matches('=')).ok();
        let point = |length: usize| {
            let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
            let right = x.len() == length && y.len() == length;
            right.then(|| [&[4][..], &x, &y].concat())
        };
        let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => Material::Rsa { n: unpadded(bytes(&jwk.n)?), e: unpadded(bytes(&jwk.e)?) },
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(&jwk.x)?),
            _ => return None,
        };
        let algorithm = match jwk.alg.as_deref() {
            None => None,
            Some(name) => Some(Algorithm::parse(name)?),
        };
        Some(PublicKey { id: jwk.kid, algorithm, material })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        let by_kind = match self.material {
            Material::Rsa { .. } => algorithm.rsa().is_some(),
            Material::P256(_) => algorithm == Algorithm::Es256,
            Material::P384(_) => algorithm == Algorithm::Es384,
            Material::Ed25519(_) => algorithm == Algorithm::EdDsa,
        };
        by_kind && self.algorithm.is_none_or(|own| own == algorithm)
    }

    fn verifies(&self, algorithm: Algorithm, signed: &[u8], given: &[u8]) -> bool {
        let by = |method: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(method, key).verify(signed, given).is_ok()
        };
        match &self.material {
            Material::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                algorithm.rsa().is_some_and(|method| key.verify(method, signed, given).is_ok())
            }
            Material::P256(point) => by(&signature::ECDSA_P256_SHA256_FIXED, point),
            Material::P384(point) => by(&signature::ECDSA_P384_SHA384_FIXED, point),
            Material::Ed25519(key) => by(&signature::ED25519, key),
        }
    }
}

/// Some providers put a zero in front of the number, which the library does not take.
fn unpadded(bytes: Vec<u8>) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes[zeros..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Made with Node's `crypto`, which the private halves never left.
    fn keys() -> Value {
        json!({"keys": [
            {"kty": "RSA", "n": concat!(
            "10SgPmN7PYm1BF4ndnCIXpTCI1RAthV5PJO2RhSwMLBdNq-b244cDUsuFR2hgD8JSRDaZSIJpR4ih4G8_FW8dSpoSjxkuq14mUEM",
            "h7wPjhmOIbAP605EQTz-9NYZzIkHW-HEbI1qGfkPIfPuK448wTgjd3-Vvq8YSpWqs9XRcb8hmr0QWIIy5e-c_E6GWwY60va_VIhE",
            "OmFvmrt9qst3EQuj2v1EJwzbaWf0RrORLliTJUsmqYLSs1kuVLUiAgP2boSRPHCZGVlQJiqL8MPH3XPn6iF0wpeKYF22DvMQYDlQ",
            "jxDjO6CPi0Y7K5kduH9PTkOT80SQSB_DE3vLG4LC_Q",
        ), "e": "AQAB", "kid": "rsa"},
            {"kty": "EC", "x": "fMTY8pYOVtdSx6d80bLff1AUiSem7b_E1VJezgnCW_I", "y": "ESczmxvaEKCCrMTz8khOkmk4Hn_dlEFLRAPGesHQcKc", "crv": "P-256", "kid": "p256", "alg": "ES256"},
            {"kty": "EC", "x": "KX0OOUuNjQZ0xLcx0JjPj8I62CRQeNlnOohLBQlrnLisw_RQnHDIOR1Kj8oSDol4", "y": "6P9iHM_pQpFM5qAndSWdGK0O-IcRAitijJpI0C4kCwWP0HigVaKwIoznCjOZ1BWo", "crv": "P-384", "kid": "p384"},
        ]})
    }

    const SIGNED: &[u8] = b"aGVhZA.Y2xhaW1z";
    const SIGNATURES: [(Algorithm, &str, &str); 5] = [
        (
            Algorithm::Rs256,
            "rsa",
            concat!(
                "Br9n-eak5fFANVCw8T3B7-vPdRK2b6i5LaPEpu-MSSvBMh_otLOmUKX4biyECw3oCAvNqYNZJBFAyxbfH7fNXRVdQlQ-aRFt2oKG",
                "sryNglHlUJGnqS_AWSatfM1_L1XBpFmgk4D4ujRYUGqkqBX0FxGedAKSLYqXCTJJtQ04Y11UY67hT-fvU77zfHT5elL6ytCYM0Ou",
                "q95pWxK8yoiTl3XISdon2tx2p-LqE2Pu6JIg3cdwQyVcIXVRFfWLV8-kMa-HFARE0Q7em9c5YhJrxjxG8C_Ha8GxPoWkp1f0dGa9",
                "eJJxVKXLL2R19PRK2kftHUmk13fVd4iJY9mktbG1ig",
            ),
        ),
        (
            Algorithm::Rs512,
            "rsa",
            concat!(
                "uXKi6HXUn6OtO9jeCuLexVukDUW02x8PptqAfLPSL7OsqYCBqZhCHsxAg64lXaVEVmJ4w9aPlZxmNsCDourwDWthdH-LYp5tBLYU",
                "3T4UcoU1qAYuYXUs-V7Fl3dDUFCCE_h1Offym7Pw11AcXjqWPG7XWjdSLaESHlAt_8RqXH1mCjXTAWMFCtTDxg-pERf-kG9khgQ0",
                "Ea407gV4Hm7whtx3mKAPM9wu_FRzvB40v4QWjf2_Nb27Nv2NCkSJjTUHy95Dbq3E4pn5hgE9dnRkCAO4jfPGjaRERE8iLCHCxIzJ",
                "MPhNSH7JKIjO-mY9_0rqRLv0WbLnBt0rWgVYniRB8A",
            ),
        ),
        (
            Algorithm::Ps256,
            "rsa",
            concat!(
                "RarCeyZUyevVtiBcRNtx2DooyKr79YdmNdJnMAnsY0tyyeZixlJgy_VF5w-MUUTaDhQvEZMaW6PPFkGj9ra7A2tUSH4LvjRk2ppa",
                "iZSNJIEMzlyLntUZJNoCT4Ypod9ARrqVxj3gnk71E_DNKcqxhx7iK3GmUD5jlNJn0M_FYAjQRTm2XhUWlybO8ctJim2TsNwpwEW1",
                "QR8pNVx9lRAY9jRXf6YPICb9OTJDIpWcKlauxvQVBylShjFWyVHAwlcjKP4WoYt1NjFwjjG_vehAupiEP7Rwe9aYQ5sF3647vHXY",
                "QPeAkcBMsdCLQ2Pl-eYrKgHIfbls1Uh88JAorpjzeg",
            ),
        ),
        (
            Algorithm::Es256,
            "p256",
            "BWqBqwJ1APrNvI8Jt44DAeqb93GCInzt0hYyvRJAxnyonCNSIte9QvWE8qP7CDg0zbG3U1YPK5KZLPW1hXclhg",
        ),
        (
            Algorithm::Es384,
            "p384",
            concat!(
                "A-P8TdyptCfaYJbfXvw2npvkdT_qlhXnbzcdcSW8RIwhmZcerpVX3oGx72FyUCsR1zN-bYysg4fh9XI5zFDpTSM6qPhHwBlFcpdi",
                "CrtJAWVO_Vp3SxBfywgufeMPKO2T",
            ),
        ),
    ];

    #[test]
    fn what_another_library_signed_is_good_by_its_algorithm_and_key_only() {
        let keys = KeySet::read(&keys()).unwrap();
        for (algorithm, key, signature) in SIGNATURES {
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            let check = |algorithm, key, signed: &[u8]| keys.check(algorithm, key, signed, &signature);
            assert_eq!(check(algorithm, Some(key), SIGNED), Checked::Good, "{algorithm:?}");
            assert_eq!(check(algorithm, None, SIGNED), Checked::Good, "{algorithm:?} without a name");
            assert_eq!(check(algorithm, Some(key), b"aGVhZA.Y2xhaW1x"), Checked::Bad, "{algorithm:?}");
            assert_eq!(check(algorithm, Some("another"), SIGNED), Checked::NoSuchKey);
            for (other, _) in Algorithm::ALL {
                let good = check(other, Some(key), SIGNED) == Checked::Good;
                assert_eq!(good, other == algorithm, "{algorithm:?} taken for {other:?}");
            }
        }
    }

    #[test]
    fn keys_that_cannot_sign_id_tokens_are_left_out() {
        let of = |change: Value| {
            let mut document = keys();
            for (name, value) in change.as_object().unwrap() {
                document["keys"][0][name] = value.clone();
            }
            KeySet::read(&document).unwrap().0.len()
        };
        assert_eq!(of(json!({})), 3);
        for change in [
            json!({"use": "enc"}),
            json!({"kty": "oct", "k": "AAAA"}),
            json!({"alg": "HS256"}),
            json!({"alg": "none"}),
            json!({"n": "not base64!"}),
            json!({"kty": 7}),
        ] {
            assert_eq!(of(change.clone()), 2, "{change}");
        }
        for none in [json!({}), json!([]), json!({"keys": {}}), json!(null)] {
            assert!(KeySet::read(&none).is_none());
        }
        assert_eq!(KeySet::read(&json!({"keys": [null, 1, "x"]})).unwrap().0.len(), 0);
    }
}

//! Public keys as authenticators write them (RFC 9052), of the three kinds that we ask for.

use ciborium::Value;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};

/// EdDSA with Ed25519, ECDSA with P-256 and SHA-256, RSA (PKCS #1 v1.5) with SHA-256: what the options name, in this order.
pub const ALGORITHMS: [i64; 3] = [-8, -7, -257];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    Ed25519([u8; 32]),
    /// The point in its uncompressed form.
    P256([u8; 65]),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
}

impl PublicKey {
    /// Takes what is whole: the members that its kind needs, with the one algorithm that fits them.
    pub fn parse(value: &Value) -> Option<PublicKey> {
        let members = value.as_map()?;
        // A name that stands there twice could be read in two ways.
        let get = |label: i64| {
            let mut found =
                members.iter().filter(|(name, _)| integer(name) == Some(label)).map(|(_, value)| value);
            found.next().filter(|_| found.next().is_none())
        };
        let number = |label: i64| integer(get(label)?);
        let bytes = |label: i64| get(label)?.as_bytes();
        match (number(1)?, number(3)?) {
            // OKP
            (1, -8) if number(-1)? == 6 => Some(PublicKey::Ed25519(bytes(-2)?.as_slice().try_into().ok()?)),
            // EC2
            (2, -7) if number(-1)? == 1 => {
                let (x, y): ([u8; 32], [u8; 32]) =
                    (bytes(-2)?.as_slice().try_into().ok()?, bytes(-3)?.as_slice().try_into().ok()?);
                let mut point = [4; 65];
                point[1..33].copy_from_slice(&x);
                point[33..].copy_from_slice(&y);
                Some(PublicKey::P256(point))
            }
            (3, -257) => Some(PublicKey::Rsa { modulus: bytes(-1)?.clone(), exponent: bytes(-2)?.clone() }),
            _ => None,
        }
    }

    pub fn algorithm(&self) -> i64 {
        match self {
            PublicKey::Ed25519(_) => -8,
            PublicKey::P256(_) => -7,
            PublicKey::Rsa { .. } => -257,
        }
    }

    /// A key that is no key, such as a point beside the curve, signs nothing.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verdict = match self {
            PublicKey::Ed25519(key) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature)
            }
            PublicKey::P256(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, point).verify(message, signature)
            }
            PublicKey::Rsa { modulus, exponent } => RsaPublicKeyComponents { n: modulus, e: exponent }
                .verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature),
        };
        verdict.is_ok()
    }
}

pub fn integer(value: &Value) -> Option<i64> {
    value.as_integer()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(members: &[(i64, Value)]) -> Value {
        Value::Map(members.iter().map(|(label, value)| (Value::from(*label), value.clone())).collect())
    }

    fn bytes(length: usize) -> Value {
        Value::Bytes(vec![7; length])
    }

    #[test]
    fn a_key_is_taken_with_its_own_algorithm_and_lengths_only() {
        let okp = |alg: i64, curve: i64, x: Value| {
            key(&[(1, 1.into()), (3, alg.into()), (-1, curve.into()), (-2, x)])
        };
        assert!(matches!(PublicKey::parse(&okp(-8, 6, bytes(32))), Some(PublicKey::Ed25519(_))));
        for bad in
            [okp(-7, 6, bytes(32)), okp(-8, 1, bytes(32)), okp(-8, 6, bytes(33)), okp(-8, 6, "x".into())]
        {
            assert_eq!(PublicKey::parse(&bad), None, "{bad:?}");
        }
        let ec = |alg: i64, x: usize, y: usize| {
            key(&[(1, 2.into()), (3, alg.into()), (-1, 1.into()), (-2, bytes(x)), (-3, bytes(y))])
        };
        assert!(matches!(PublicKey::parse(&ec(-7, 32, 32)), Some(PublicKey::P256(_))));
        for bad in [ec(-8, 32, 32), ec(-7, 31, 32), ec(-7, 32, 0), ec(-35, 32, 32)] {
            assert_eq!(PublicKey::parse(&bad), None, "{bad:?}");
        }
        let rsa = key(&[(1, 3.into()), (3, (-257).into()), (-1, bytes(256)), (-2, bytes(3))]);
        assert!(matches!(PublicKey::parse(&rsa), Some(PublicKey::Rsa { .. })));
        let twice = key(&[(1, 1.into()), (1, 1.into()), (3, (-8).into()), (-1, 6.into()), (-2, bytes(32))]);
        assert_eq!(PublicKey::parse(&twice), None);
        assert_eq!(PublicKey::parse(&Value::Null), None);
    }

    #[test]
    fn what_is_no_point_has_signed_nothing() {
        for key in [PublicKey::P256([4; 65]), PublicKey::Ed25519([0xff; 32])] {
            assert!(!key.has_signed(b"message", &[0; 64]));
        }
        let rsa = PublicKey::Rsa { modulus: vec![1; 16], exponent: vec![3] };
        assert!(!rsa.has_signed(b"message", &[0; 16]), "too short to be safe");
    }
}

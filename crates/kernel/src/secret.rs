//! Values that must never be printed, and the one comparison of secrets.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// A value whose `Debug` says `[redacted]` and whose memory is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    pub fn new(value: T) -> Self {
        Secret(value)
    }

    /// The clear value. Calls are few and easy to find, which is the point.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Secret(value)
    }
}

/// Compares two secrets in time that depends on their lengths only.
pub fn same_secret(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// The deployment's secrets: the first signs, all verify, so that one can be replaced without signing anybody out.
#[derive(Clone, Debug)]
pub struct Secrets(Vec<Secret<String>>);

impl Secrets {
    pub fn new(secrets: Vec<String>) -> Option<Secrets> {
        (!secrets.is_empty()).then(|| Secrets(secrets.into_iter().map(Secret::new).collect()))
    }

    pub fn first(&self) -> &Secret<String> {
        &self.0[0]
    }

    pub fn iter(&self) -> impl Iterator<Item = &Secret<String>> {
        self.0.iter()
    }

    /// Secrets for another purpose, one for each of these, as texts that may be given to somebody: from them nobody finds
    /// the way back.
    pub fn derived(&self, purpose: &str) -> Secrets {
        let derive = |secret: &Secret<String>| {
            let key = derived_key(secret.expose().as_bytes(), purpose);
            Secret::new(URL_SAFE_NO_PAD.encode(key.expose()))
        };
        Secrets(self.iter().map(derive).collect())
    }
}

/// A key for one purpose out of a secret that has others, too.
pub(crate) fn derived_key(secret: &[u8], purpose: &str) -> Secret<[u8; 32]> {
    let mut out = [0; 32];
    Hkdf::<Sha256>::new(Some(b"tollgate"), secret)
        .expand(purpose.as_bytes(), &mut out)
        .expect("32 bytes are less than HKDF's limit");
    Secret::new(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_secret_says_nothing() {
        let secrets = Secrets::new(vec!["hunter2-hunter2".into()]).unwrap();
        assert_eq!(format!("{secrets:?}"), "Secrets([[redacted]])");
    }

    #[test]
    fn secrets_of_other_lengths_are_different() {
        assert!(same_secret(b"abc", b"abc"));
        assert!(!same_secret(b"abc", b"abd"));
        assert!(!same_secret(b"abc", b"ab"));
    }

    #[test]
    fn derived_secrets_follow_their_order_and_differ_by_purpose() {
        let secrets = Secrets::new(vec!["one".into(), "two".into()]).unwrap();
        let texts = |secrets: Secrets| secrets.iter().map(|text| text.expose().clone()).collect::<Vec<_>>();
        let derived = texts(secrets.derived("guests"));
        // HKDF-SHA256 with the salt `tollgate`, computed with Python's hmac.
        assert_eq!(derived[0], "722bwKikcgOdpTbbhilYZUwg1q9Va4P1tdQy7onzwEc");
        assert_eq!(texts(Secrets::new(vec!["two".into()]).unwrap().derived("guests")), derived[1..]);
        assert_ne!(texts(secrets.derived("others")), derived);
    }
}

//! Chance: the only source of random ids, tokens and keys.

use rand::{CryptoRng, Rng, RngExt};

/// The operating system's randomness behind a fast generator, for ids, tokens and keys.
#[expect(clippy::disallowed_methods, reason = "the one place that opens the source of randomness")]
pub fn secure() -> impl CryptoRng {
    rand::rng()
}

const LETTERS_AND_DIGITS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// `length` letters and digits, each equally likely (5.95 bits a character: 32 of them hold 190 bits).
pub fn alphanumeric(rng: &mut impl CryptoRng, length: usize) -> String {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut block = [0u8; 64];
        rng.fill_bytes(&mut block);
        // Values of 62 and 63 are thrown away rather than folded, which would favour the first letters.
        let letters = block.iter().map(|byte| usize::from(byte & 63)).filter(|&index| index < 62);
        text.extend(letters.take(length - text.len()).map(|index| char::from(LETTERS_AND_DIGITS[index])));
    }
    text
}

pub fn bytes<const N: usize>(rng: &mut impl CryptoRng) -> [u8; N] {
    let mut out = [0; N];
    rng.fill_bytes(&mut out);
    out
}

/// A factor between 0.5 and 1.5 that spreads retries of many nodes over time.
pub fn jitter(rng: &mut impl Rng) -> f64 {
    rng.random_range(0.5..1.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphanumeric_has_the_length_and_uses_every_letter() {
        let text = alphanumeric(&mut secure(), 20_000);
        assert_eq!(text.len(), 20_000);
        let seen: std::collections::BTreeSet<u8> = text.bytes().collect();
        assert_eq!(seen.len(), 62);
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric()));
    }
}

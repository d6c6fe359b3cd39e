//! What a password may be, and how it is hashed: Argon2id for new ones, Better Auth's scrypt understood and replaced.

use crate::common_passwords::is_common;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use kernel::random;
use kernel::secret::same_secret;
use rand::CryptoRng;
use unicode_normalization::UnicodeNormalization as _;

/// OWASP's first choice for Argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Stored hashes with greater costs are not believed: a planted row must not stop the server.
const MEMORY_LIMIT_KIB: u32 = 256 * 1024;
const PASS_LIMIT: u32 = 16;

/// Lengths in UTF-16 code units, as browsers count.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    pub min_length: usize,
    pub max_length: usize,
    pub refuse_common: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    TooShort,
    TooLong,
    Common,
}

impl Policy {
    pub fn judge(&self, password: &str) -> Result<(), Weakness> {
        let length = password.encode_utf16().count();
        if length < self.min_length {
            Err(Weakness::TooShort)
        } else if length > self.max_length {
            Err(Weakness::TooLong)
        } else if self.refuse_common && is_common(password) {
            Err(Weakness::Common)
        } else {
            Ok(())
        }
    }
}

/// Memory that a hashing thread keeps between passwords.
pub struct Workspace(Vec<Block>);

impl Workspace {
    pub fn new() -> Workspace {
        Workspace(vec![Block::new(); MEMORY_KIB as usize])
    }
}

impl Default for Workspace {
    fn default() -> Self {
        Workspace::new()
    }
}

/// A hash as it is stored: `$argon2id$v=19$m=19456,t=2,p=1$salt$key`.
pub fn hash(password: &str, workspace: &mut Workspace, rng: &mut impl CryptoRng) -> String {
    let salt: [u8; 16] = random::bytes(rng);
    let key = argon2id(&normalised(password), &salt, MEMORY_KIB, PASSES, LANES, workspace)
        .expect("the parameters are constants within the limits");
    format!(
        "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(key)
    )
}

/// Whether the password belongs to the stored hash. A hash that cannot be read belongs to none.
pub fn verify(password: &str, stored: &str, workspace: &mut Workspace) -> bool {
    let password = normalised(password);
    match Stored::parse(stored) {
        Some(Stored::Argon2id { memory, passes, lanes, salt, key }) => {
            argon2id(&password, &salt, memory, passes, lanes, workspace)
                .is_some_and(|found| same_secret(&found, &key))
        }
        Some(Stored::Scrypt { salt, key }) => {
            let mut found = [0; 64];
            let params =
                scrypt::Params::new(14, 16, 1).expect("the parameters are constants within the limits");
            // The salt is the hexadecimal text itself, not the bytes that it encodes.
            scrypt::scrypt(password.as_bytes(), salt.as_bytes(), &params, &mut found).is_ok()
                && same_secret(&found, &key)
        }
        None => false,
    }
}

/// Whether a stored hash should be replaced at the next sign-in: another method, or weaker parameters than today's.
pub fn is_outdated(stored: &str) -> bool {
    !matches!(
        Stored::parse(stored),
        Some(Stored::Argon2id { memory, passes, lanes, .. }) if memory >= MEMORY_KIB && passes >= PASSES && lanes >= LANES
    )
}

enum Stored<'a> {
    Argon2id {
        memory: u32,
        passes: u32,
        lanes: u32,
        salt: Vec<u8>,
        key: Vec<u8>,
    },
    /// `salt:key` in lower-case hexadecimal: N = 16384, r = 16, p = 1, 64 bytes.
    Scrypt {
        salt: &'a str,
        key: Vec<u8>,
    },
}

impl Stored<'_> {
    fn parse(text: &str) -> Option<Stored<'_>> {
        if let Some(rest) = text.strip_prefix("$argon2id$v=19$") {
            let mut parts = rest.split('$');
            let (costs, salt, key) = (parts.next()?, parts.next()?, parts.next()?);
            let mut costs = costs.split(',');
            let mut cost =
                |name: &str| costs.next()?.strip_prefix(name)?.strip_prefix('=')?.parse::<u32>().ok();
            let (memory, passes, lanes) = (cost("m")?, cost("t")?, cost("p")?);
            let (salt, key) = (STANDARD_NO_PAD.decode(salt).ok()?, STANDARD_NO_PAD.decode(key).ok()?);
            let bounded = memory <= MEMORY_LIMIT_KIB && passes <= PASS_LIMIT && lanes <= 16;
            return (parts.next().is_none() && bounded && key.len() >= 16).then_some(Stored::Argon2id {
                memory,
                passes,
                lanes,
                salt,
                key,
            });
        }
        let (salt, key) = text.split_once(':')?;
        let key = hexadecimal(key).filter(|key| key.len() == 64)?;
        (!salt.is_empty()).then_some(Stored::Scrypt { salt, key })
    }
}

fn argon2id(
    password: &str,
    salt: &[u8],
    memory: u32,
    passes: u32,
    lanes: u32,
    workspace: &mut Workspace,
) -> Option<[u8; 32]> {
    let params = Params::new(memory, passes, lanes, Some(32)).ok()?;
    let needed = params.block_count();
    if workspace.0.len() < needed {
        workspace.0.resize(needed, Block::new());
    }
    let mut key = [0; 32];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2
        .hash_password_into_with_memory(password.as_bytes(), salt, &mut key, &mut workspace.0[..needed])
        .ok()?;
    Some(key)
}

/// People type the same letters as different code points on different keyboards.
fn normalised(password: &str) -> String {
    password.nfkc().collect()
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<Vec<u8>>>()?;
    (digits.len() % 2 == 0).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_opens_its_own_hash_only() {
        let (workspace, rng) = (&mut Workspace::new(), &mut random::secure());
        let stored = hash("correct-horse-9", workspace, rng);
        assert!(verify("correct-horse-9", &stored, workspace));
        assert!(!verify("correct-horse-8", &stored, workspace));
        assert!(!is_outdated(&stored));
        assert_ne!(stored, hash("correct-horse-9", workspace, rng));
    }

    #[test]
    fn every_byte_counts_and_spellings_of_one_letter_are_equal() {
        let (workspace, rng) = (&mut Workspace::new(), &mut random::secure());
        let long = "x".repeat(72);
        let stored = hash(&format!("{long}a"), workspace, rng);
        assert!(!verify(&format!("{long}b"), &stored, workspace));
        assert!(!verify(&long, &stored, workspace));
        let stored = hash("Pa\u{0301}ssw\u{fb01}\u{2460}\0rd", workspace, rng);
        assert!(verify("P\u{00e1}sswfi1\0rd", &stored, workspace));
        assert!(!verify("P\u{00e1}sswfi1", &stored, workspace));
    }

    #[test]
    fn better_auths_scrypt_is_understood_and_outdated() {
        // Node: scryptSync("correct-horse-9".normalize("NFKC"), "000102030405060708090a0b0c0d0e0f", 64, {N: 16384, r: 16, p: 1, maxmem: 2 ** 26})
        let stored = include_str!("testdata/scrypt.txt").trim();
        let workspace = &mut Workspace::new();
        assert!(verify("correct-horse-9", stored, workspace));
        assert!(!verify("correct-horse-8", stored, workspace));
        assert!(is_outdated(stored));
    }

    #[test]
    fn hashes_that_would_stop_the_server_or_mean_nothing_open_nothing() {
        let workspace = &mut Workspace::new();
        for stored in [
            "",
            ":",
            "a:b",
            "$argon2id$v=19$m=4194304,t=2,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=1,t=1,p=1$$",
            "$2b$10$x",
        ] {
            assert!(!verify("correct-horse-9", stored, workspace), "{stored}");
        }
    }

    #[test]
    fn length_is_counted_as_browsers_do() {
        let policy = Policy { min_length: 8, max_length: 128, refuse_common: true };
        assert_eq!(policy.judge("🦀🦀🦀🦀"), Ok(()), "eight code units");
        assert_eq!(policy.judge("🦀🐙🦑🦞"), Ok(()));
        assert_eq!(policy.judge("short77"), Err(Weakness::TooShort));
        assert_eq!(policy.judge(&"x".repeat(128)), Ok(()));
        assert_eq!(policy.judge("xy1zxy1z"), Err(Weakness::Common));
        assert_eq!(policy.judge(&format!("{}!abcdefgh", "xy1z".repeat(30))), Err(Weakness::TooLong));
        assert_eq!(policy.judge("password"), Err(Weakness::Common));
    }
}

//! The keys that sign tokens for services which check them by themselves: Ed25519, sealed in the store, replaced in time.
//!
//! A key is published before it signs and after it has stopped: services keep lists of keys for a while, and tokens live
//! on. So a replacement is made [`LEAD`] before its turn, and the one before it stays [`TRAIL`] after that.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::time::{DAY, HOUR};
use kernel::{Millis, Secret, Vault, random};
use rand::CryptoRng;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use store::{Error, Tx, params};

/// Longer than any service keeps a list of keys, and than a node does.
pub const LEAD: i64 = HOUR;
/// Longer than any token lives.
pub const TRAIL: i64 = DAY;

const SEAL: &str = "signing key";

const LIST: &str = "SELECT id, public_key, private_sealed, signs_from FROM signing_keys ORDER BY signs_from";
const INSERT: &str = "
    INSERT INTO signing_keys (id, public_key, private_sealed, created_at, signs_from) VALUES ($1, $2, $3, $4, $5)";
const DELETE: &str = "DELETE FROM signing_keys WHERE id = $1";

pub struct SigningKey {
    pub id: String,
    /// As it stands in a JSON Web Key.
    pub public: String,
    signs_from: Millis,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(bytes).as_ref());
        signature
    }
}

/// The keys as they stood in the store, in the order of their turns.
#[derive(Default)]
pub struct Keys(Vec<SigningKey>);

impl Keys {
    /// The key whose turn it is. The first one's turn has begun for whoever looks at it: a clock may be behind the one
    /// that it was made by.
    pub fn current(&self, now: Millis) -> Option<&SigningKey> {
        self.0.iter().rev().find(|key| key.signs_from <= now).or(self.0.first())
    }

    /// All that are to be published, the newest first.
    pub fn published(&self) -> impl Iterator<Item = &SigningKey> {
        self.0.iter().rev()
    }

    /// Whether [`tend`] has something to do; `every` is how long a key signs, 0: for good.
    pub fn is_due(&self, every: i64, now: Millis) -> bool {
        let Some(newest) = self.0.last() else { return true };
        (every > 0 && newest.signs_from.plus(every - LEAD) <= now) || self.over(now).next().is_some()
    }

    /// Keys whose successors have signed for long.
    fn over(&self, now: Millis) -> impl Iterator<Item = &SigningKey> {
        let pairs = self.0.windows(2);
        pairs.filter(move |pair| pair[1].signs_from.plus(TRAIL) <= now).map(|pair| &pair[0])
    }
}

pub fn load(tx: &mut Tx<'_>, vault: &Vault) -> Result<Keys, Error> {
    let rows = tx.query(LIST, params![], |row| {
        Ok((row.get::<String>(0)?, row.get::<String>(1)?, row.get::<String>(2)?, row.get::<Millis>(3)?))
    })?;
    let open = |(id, public, sealed, signs_from): (String, String, String, Millis)| {
        let seed = vault.open(SEAL, &sealed).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let pair = seed.and_then(|seed| Ed25519KeyPair::from_seed_unchecked(&seed).ok());
        let pair = pair.ok_or_else(|| Error::Fault(format!("the signing key {id} cannot be opened")))?;
        Ok(SigningKey { id, public, signs_from, pair })
    };
    rows.into_iter().map(open).collect::<Result<_, _>>().map(Keys)
}

/// Makes the first key and each one's successor in time, and lets old ones go.
pub fn tend(
    tx: &mut Tx<'_>,
    vault: &Vault,
    every: i64,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Keys, Error> {
    // Of several nodes that look at once the first one makes the key.
    tx.lock("signing keys", &["all"])?;
    let keys = load(tx, vault)?;
    if !keys.is_due(every, now) {
        return Ok(keys);
    }
    let over: Vec<String> = keys.over(now).map(|key| key.id.clone()).collect();
    for id in &over {
        tx.execute(DELETE, params![id])?;
    }
    let turn = match keys.0.last() {
        None => Some(now),
        Some(newest) if every > 0 && newest.signs_from.plus(every - LEAD) <= now => {
            Some(newest.signs_from.plus(every).max(now.plus(LEAD)))
        }
        _ => None,
    };
    if let Some(turn) = turn {
        make(tx, vault, turn, now, rng)?;
    }
    load(tx, vault)
}

fn make(
    tx: &mut Tx<'_>,
    vault: &Vault,
    turn: Millis,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<(), Error> {
    let seed: Secret<[u8; 32]> = Secret::new(random::bytes(rng));
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose())
        .map_err(|_| Error::Fault("a seed of 32 bytes makes no key".into()))?;
    let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let sealed = vault.seal(SEAL, &URL_SAFE_NO_PAD.encode(seed.expose()), rng);
    let id = random::alphanumeric(rng, 32);
    tx.execute(INSERT, params![&id, &public, &sealed, now, turn]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::vault::DataKey;
    use ring::signature::{ED25519, UnparsedPublicKey};
    use store::{Options, Store};

    const NOW: Millis = Millis(1_800_000_000_000);
    const EVERY: i64 = 90 * DAY;

    /// Runs the work in one transaction on a new database.
    async fn with_store<F>(run: F)
    where
        F: Fn(&mut Tx<'_>, &Vault) -> Result<(), Error> + Send + 'static,
    {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let store = Store::open(&Options { url, pool_size: 1 }).expect("a new database");
        store.migrate().expect("a new schema");
        let vault = Vault::new(&DataKey::generate(&mut random::secure()));
        store.write(move |tx| run(tx, &vault)).await.expect("the store answers");
    }

    fn tended(tx: &mut Tx<'_>, vault: &Vault, now: Millis) -> Result<Keys, Error> {
        tend(tx, vault, EVERY, now, &mut random::secure())
    }

    fn id(keys: &Keys, now: Millis) -> String {
        keys.current(now).map(|key| key.id.clone()).expect("a key that signs")
    }

    #[tokio::test]
    async fn a_key_is_made_once_and_signs_what_its_public_half_verifies() {
        with_store(|tx, vault| {
            let keys = tended(tx, vault, NOW)?;
            assert_eq!(id(&keys, NOW), id(&tended(tx, vault, NOW)?, NOW));
            assert_eq!(keys.published().count(), 1);
            let key = keys.current(NOW).expect("it signs at once");
            let public = URL_SAFE_NO_PAD.decode(&key.public).expect("base64url");
            UnparsedPublicKey::new(&ED25519, &public)
                .verify(b"text", &key.sign(b"text"))
                .expect("a good signature");
            // A copy of the database opens nothing.
            let stored: String =
                tx.query_one("SELECT private_sealed FROM signing_keys", params![], |row| row.get(0))?;
            assert!(Vault::new(&DataKey::generate(&mut random::secure())).open(SEAL, &stored).is_none());
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_successor_is_published_before_it_signs_and_the_old_key_after() {
        with_store(|tx, vault| {
            let first = id(&tended(tx, vault, NOW)?, NOW);
            let soon = NOW.plus(EVERY - LEAD);
            assert_eq!(tended(tx, vault, soon.minus(1))?.published().count(), 1);
            let keys = tended(tx, vault, soon)?;
            assert_eq!((keys.published().count(), id(&keys, soon)), (2, first.clone()));
            assert_eq!(id(&keys, NOW.plus(EVERY - 1)), first);
            let turn = NOW.plus(EVERY);
            let second = id(&keys, turn);
            assert_ne!(second, first);
            assert_eq!(tended(tx, vault, turn.plus(TRAIL - 1))?.published().count(), 2);
            let keys = tended(tx, vault, turn.plus(TRAIL))?;
            assert_eq!((keys.published().count(), id(&keys, turn.plus(TRAIL))), (1, second));
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_clock_that_is_behind_makes_no_second_first_key() {
        with_store(|tx, vault| {
            let first = id(&tended(tx, vault, NOW)?, NOW);
            let earlier = NOW.minus(HOUR);
            let keys = tended(tx, vault, earlier)?;
            assert_eq!((keys.published().count(), id(&keys, earlier)), (1, first));
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn after_a_long_pause_the_old_key_signs_until_its_successor_was_published_long_enough() {
        with_store(|tx, vault| {
            let first = id(&tended(tx, vault, NOW)?, NOW);
            let later = NOW.plus(10 * EVERY);
            let keys = tended(tx, vault, later)?;
            assert_eq!((keys.published().count(), id(&keys, later)), (2, first));
            assert!(!keys.is_due(EVERY, later));
            assert_ne!(id(&keys, later.plus(LEAD)), id(&keys, later));
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn without_a_rotation_a_key_signs_for_good() {
        with_store(|tx, vault| {
            let first = id(&tend(tx, vault, 0, NOW, &mut random::secure())?, NOW);
            let later = NOW.plus(100 * EVERY);
            let keys = tend(tx, vault, 0, later, &mut random::secure())?;
            assert_eq!((keys.published().count(), id(&keys, later)), (1, first));
            Ok(())
        })
        .await;
    }
}

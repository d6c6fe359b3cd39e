//! Signatures made a short while ago. A signature takes more than all the rest of a session check (18 µs of 36), and nearly
//! every check of a person states what the last one stated: then it is the same statement, a little older.
//!
//! Only signatures are kept, never what they are about: that is read anew each time, and finds its signature by all of its
//! bytes. So nothing that has changed is ever stated, and whoever is signed out is found out before anybody looks here.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

const SHARDS: usize = 16;
/// In a generation of a shard: what a table of 65,536 places holds before it grows. In all 917,504 in a generation and 85 MB,
/// when so many people come back within minutes; 8 MB for a hundred thousand.
const MOST: usize = 57_344;

/// When a statement was made, in seconds, and its signature.
pub type Made = (i64, [u8; 64]);

pub struct Signatures {
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
    /// How long a statement is made again, in seconds.
    window: i64,
}

/// Two generations: when the younger one is full or too old, it becomes the older one, and the one before it is gone.
#[derive(Default)]
struct Shard {
    young: HashMap<u64, Made>,
    old: HashMap<u64, Made>,
    since: i64,
}

impl Signatures {
    pub fn new(window: i64) -> Signatures {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Signatures { hasher: RandomState::new(), shards, window }
    }

    /// The signature of this statement by this key, or a new one of `sign`.
    ///
    /// Two statements whose hashes are the same by chance get one signature, which is good for one of them: the other is
    /// refused wherever it is checked, for some minutes of one person in billions.
    pub fn of<E>(
        &self,
        key: &str,
        statement: &[u8],
        now: i64,
        sign: impl FnOnce() -> Result<Made, E>,
    ) -> Result<Made, E> {
        let hash = self.hasher.hash_one((key, statement));
        let shard = &self.shards[hash as usize % SHARDS];
        let lock = || shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = lock().find(hash, now, self.window) {
            return Ok(made);
        }
        // Others go on meanwhile.
        let made = sign()?;
        lock().keep(hash, made, now, self.window);
        Ok(made)
    }
}

impl Shard {
    fn find(&self, hash: u64, now: i64, window: i64) -> Option<Made> {
        let made = self.young.get(&hash).or_else(|| self.old.get(&hash))?;
        (made.0 <= now && now - made.0 < window).then_some(*made)
    }

    fn keep(&mut self, hash: u64, made: Made, now: i64, window: i64) {
        if self.young.len() >= MOST || now - self.since >= window || now < self.since {
            self.old = std::mem::take(&mut self.young);
            self.since = now;
        }
        self.young.insert(hash, made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::convert::Infallible;

    #[test]
    fn a_statement_is_signed_once_in_its_time_and_every_other_anew() {
        let (kept, count) = (Signatures::new(300), Cell::new(0));
        let of = |key: &str, statement: &str, now: i64| {
            let sign = || {
                count.set(count.get() + 1);
                Ok::<_, Infallible>((now, [count.get(); 64]))
            };
            let Ok(made) = kept.of(key, statement.as_bytes(), now, sign);
            made
        };
        let first = of("key", "ada", 1_000);
        assert_eq!(of("key", "ada", 1_299), first);
        assert_ne!(of("key", "bob", 1_299), first);
        assert_ne!(of("other key", "ada", 1_299), first);
        let second = of("key", "ada", 1_300);
        assert_eq!(second.0, 1_300, "its time is over");
        // A clock that was set back states nothing from the future.
        assert_eq!(of("key", "ada", 1_200).0, 1_200);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut shard = Shard::default();
        for hash in 0..10 * MOST as u64 {
            shard.keep(hash, (0, [0; 64]), 0, 300);
            assert!(shard.young.len() <= MOST && shard.old.len() <= MOST);
        }
        let newest = 10 * MOST as u64 - 1;
        assert!(shard.find(newest, 0, 300).is_some() && shard.find(0, 0, 300).is_none());
    }
}

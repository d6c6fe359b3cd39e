//! Wrong passwords are counted for each address, whether an account has it or not, and exactly under races: an attempt
//! is counted before it is judged, and a right one gives the count back.
//!
//! The day's row is always touched before the short one's: transactions that took them the other way round would wait
//! for each other on PostgreSQL.

use kernel::time::{DAY, MINUTE};
use kernel::{Millis, Vault};
use store::{Error, Hit, Rule, Tx, hit_from_first_in, hit_in, params};

const SHORT: Rule = Rule { window: 15 * MINUTE, max: 10 };
/// From the first attempt on: whoever signs in daily with a slip now and then must not add them up for ever.
const LONG: Rule = Rule { window: DAY, max: 100 };
const HASH: &str = "sign-in attempts";

const SPENT: &str = "SELECT 1 FROM counters WHERE key = $1 AND count >= $2 AND expires_at > $3";
const CLEAR: &str = "DELETE FROM counters WHERE key = $1";
const GIVE_BACK: &str = "UPDATE counters SET count = count - 1 WHERE key = $1 AND count > 0";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    Allowed,
    Refused { retry_at: Millis },
}

/// Counts an attempt against an address (or a user's id) before its password is looked at.
pub fn begin(tx: &mut Tx<'_>, vault: &Vault, subject: &str, now: Millis) -> Result<Begun, Error> {
    let (short, long) = keys(vault, subject);
    if let Hit::Refused { retry_at } = hit_from_first_in(tx, &long, LONG, now)? {
        return Ok(Begun::Refused { retry_at });
    }
    if let Hit::Refused { retry_at } = hit_in(tx, &short, SHORT, now)? {
        // What was refused was no guess.
        tx.execute(GIVE_BACK, params![&long])?;
        return Ok(Begun::Refused { retry_at });
    }
    Ok(Begun::Allowed)
}

/// The password was right: the short count starts anew. The day's count only gets this one attempt back, so that a
/// guesser cannot hide between an owner's sign-ins.
pub fn succeed(tx: &mut Tx<'_>, vault: &Vault, subject: &str) -> Result<(), Error> {
    let (short, long) = keys(vault, subject);
    tx.execute(GIVE_BACK, params![&long])?;
    tx.execute(CLEAR, params![&short]).map(|_| ())
}

/// What was begun turned out to be no guess.
pub fn give_back(tx: &mut Tx<'_>, vault: &Vault, subject: &str) -> Result<(), Error> {
    let (short, long) = keys(vault, subject);
    tx.execute(GIVE_BACK, params![&long])?;
    tx.execute(GIVE_BACK, params![&short]).map(|_| ())
}

/// The password was replaced by mail: what was guessed before is worth nothing any more, and the owner comes in at once,
/// however often somebody else has guessed.
pub fn forget(tx: &mut Tx<'_>, vault: &Vault, subject: &str) -> Result<(), Error> {
    let (short, long) = keys(vault, subject);
    tx.execute(CLEAR, params![&long])?;
    tx.execute(CLEAR, params![&short]).map(|_| ())
}

/// A wrong code was typed for an address. Each code ends after a few; this counts over all of them, so that asking for
/// ever new ones gives no guesser more tries in a day than passwords do.
pub fn count_wrong_code(tx: &mut Tx<'_>, vault: &Vault, subject: &str, now: Millis) -> Result<(), Error> {
    hit_from_first_in(tx, &code_key(vault, subject), LONG, now).map(|_| ())
}

/// Whether an address gets no more codes for the rest of the day. One that is on its way still works.
pub fn codes_are_spent(tx: &mut Tx<'_>, vault: &Vault, subject: &str, now: Millis) -> Result<bool, Error> {
    let key = code_key(vault, subject);
    Ok(tx.query_opt(SPENT, params![&key, LONG.max, now], |_| Ok(()))?.is_some())
}

fn code_key(vault: &Vault, subject: &str) -> String {
    format!("codes:24h:{}", vault.hash("code attempts", subject))
}

fn keys(vault: &Vault, subject: &str) -> (String, String) {
    let hash = vault.hash(HASH, subject);
    (format!("sign-in:15m:{hash}"), format!("sign-in:24h:{hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::random;
    use kernel::vault::DataKey;
    use store::{Options, Store};

    const NOW: Millis = Millis(1_800_000_000_000);

    struct World {
        store: Store,
        vault: Vault,
        _folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> World {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let url = format!("sqlite://{}", folder.path().join("test.db").display());
            let store = Store::open(&Options { url, pool_size: 1 }).expect("a new database");
            store.migrate().expect("a new schema");
            World { store, vault: Vault::new(&DataKey::generate(&mut random::secure())), _folder: folder }
        }

        async fn begin(&self, subject: &'static str, now: Millis) -> Begun {
            let vault = self.vault.clone();
            let begun = self.store.write(move |tx| begin(tx, &vault, subject, now)).await;
            begun.expect("the store answers")
        }

        async fn succeed(&self, subject: &'static str) {
            let vault = self.vault.clone();
            let done = self.store.write(move |tx| succeed(tx, &vault, subject)).await;
            done.expect("the store answers");
        }
    }

    #[tokio::test]
    async fn ten_are_allowed_in_a_quarter_of_an_hour_and_others_are_not_touched() {
        let world = World::new();
        for second in 0..10 {
            assert_eq!(world.begin("a", NOW.plus(second * 1_000)).await, Begun::Allowed);
        }
        let last = NOW.plus(9_000);
        assert_eq!(world.begin("a", last).await, Begun::Refused { retry_at: last.plus(15 * MINUTE) });
        assert_eq!(world.begin("b", last).await, Begun::Allowed);
        assert_eq!(world.begin("a", last.plus(15 * MINUTE + 1)).await, Begun::Allowed);
    }

    #[tokio::test]
    async fn a_hundred_are_allowed_in_a_day_however_often_the_short_count_begins_anew() {
        let world = World::new();
        let mut now = NOW;
        for attempt in 0..100 {
            if attempt % 10 == 0 {
                now = now.plus(15 * MINUTE + 1);
            }
            assert_eq!(world.begin("a", now).await, Begun::Allowed, "attempt {attempt}");
        }
        let later = now.plus(15 * MINUTE + 1);
        // A day counts from its first attempt: whoever slips now and then does not add up slips for ever.
        let day_over = NOW.plus(15 * MINUTE + 1 + DAY);
        assert_eq!(world.begin("a", later).await, Begun::Refused { retry_at: day_over });
        // A right password gives one attempt back, and a reset all of them.
        world.succeed("a").await;
        assert_eq!(world.begin("a", later).await, Begun::Allowed);
        assert!(matches!(world.begin("a", later).await, Begun::Refused { .. }));
        let vault = world.vault.clone();
        world.store.write(move |tx| forget(tx, &vault, "a")).await.expect("the store answers");
        assert_eq!(world.begin("a", later).await, Begun::Allowed);
        for _ in 0..9 {
            world.begin("a", day_over).await;
        }
        assert_eq!(world.begin("a", day_over.plus(DAY)).await, Begun::Allowed);
    }

    #[tokio::test]
    async fn what_the_short_count_refuses_does_not_use_up_the_day() {
        let world = World::new();
        for _ in 0..300 {
            world.begin("a", NOW).await;
        }
        let mut allowed = 0;
        for quarter in 1..20 {
            let now = NOW.plus(quarter * (15 * MINUTE + 1));
            while world.begin("a", now).await == Begun::Allowed {
                allowed += 1;
            }
        }
        assert_eq!(allowed, 90);
    }

    #[tokio::test]
    async fn a_hundred_wrong_codes_a_day_are_all_for_one_address() {
        let world = World::new();
        let vault = world.vault.clone();
        let work = move |tx: &mut Tx<'_>| {
            for _ in 0..99 {
                count_wrong_code(tx, &vault, "a", NOW)?;
            }
            assert!(!codes_are_spent(tx, &vault, "a", NOW)?);
            count_wrong_code(tx, &vault, "a", NOW)?;
            assert!(codes_are_spent(tx, &vault, "a", NOW.plus(DAY - 1))?);
            assert!(!codes_are_spent(tx, &vault, "b", NOW)?);
            assert!(!codes_are_spent(tx, &vault, "a", NOW.plus(DAY))?);
            Ok::<_, Error>(())
        };
        world.store.write(work).await.expect("the store answers");
    }

    #[tokio::test]
    async fn the_address_itself_is_not_stored() {
        let world = World::new();
        world.begin("ada@example.com", NOW).await;
        let keys: Vec<String> = world
            .store
            .read::<_, Error, _>(|tx| tx.query("SELECT key FROM counters", params![], |row| row.get(0)))
            .await
            .expect("the store answers");
        assert_eq!(keys.len(), 2);
        assert!(keys.iter().all(|key| !key.contains("ada")), "{keys:?}");
    }
}

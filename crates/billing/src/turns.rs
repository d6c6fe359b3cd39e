//! Who may apply what was read at Stripe. Two nodes may read one subject at different moments; what was read earlier must not be
//! applied later. Each notes the turn before it reads, and applies only if nobody took that turn meanwhile.

use crate::subject::Subject;
use kernel::Millis;
use kernel::time::DAY;
use store::{Error, Tx, params};

const NOW: &str = "SELECT turn FROM billing_turns WHERE subject = $1";
const BEGIN: &str =
    "INSERT INTO billing_turns (subject, turn, taken_at) VALUES ($1, 1, $2) ON CONFLICT (subject) DO NOTHING";
const NEXT: &str = "UPDATE billing_turns SET turn = turn + 1, taken_at = $3 WHERE subject = $1 AND turn = $2";
const FORGET: &str = "
    DELETE FROM billing_turns WHERE subject IN (
      SELECT subject FROM billing_turns WHERE taken_at < $1 ORDER BY taken_at LIMIT $2)";

/// No reading takes so long: whoever noted a turn of before has given up.
const FORGOTTEN_AFTER: i64 = DAY;
/// Rows that one statement removes: a few milliseconds.
const CHUNK: i64 = 500;

/// Before the reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn(i64);

pub fn current(tx: &mut Tx<'_>, subject: &Subject) -> Result<Turn, Error> {
    let turn = tx.query_opt(NOW, params![&subject.object()], |row| row.get(0))?;
    Ok(Turn(turn.unwrap_or(0)))
}

/// With the applying. False when somebody was faster: read again.
pub fn take(tx: &mut Tx<'_>, subject: &Subject, turn: Turn, now: Millis) -> Result<bool, Error> {
    let subject = subject.object();
    let taken = match turn.0 {
        0 => tx.execute(BEGIN, params![&subject, now])?,
        turn => tx.execute(NEXT, params![&subject, turn, now])?,
    };
    Ok(taken == 1)
}

/// Removes turns that were taken long ago: whoever looks at such a subject begins anew. True when more may be left.
pub fn sweep(tx: &mut Tx<'_>, now: Millis) -> Result<bool, Error> {
    Ok(tx.execute(FORGET, params![now.minus(FORGOTTEN_AFTER), CHUNK])? == CHUNK as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Options, Store};

    const NOW: Millis = Millis(1_800_000_000_000);

    #[tokio::test]
    async fn a_turn_is_taken_once_and_forgotten_when_nobody_can_still_be_reading() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("t.db").display());
        let store = Store::open(&Options { url, pool_size: 1 }).unwrap();
        store.migrate().unwrap();
        let done = store.write(|tx| -> Result<(), Error> {
            let (old, young) = (Subject::Invoice("in_old".into()), Subject::Invoice("in_young".into()));
            let first = current(tx, &old)?;
            assert!(take(tx, &old, first, NOW)?);
            assert!(!take(tx, &old, first, NOW)?, "it was taken already");
            let second = current(tx, &old)?;
            assert!(take(tx, &old, second, NOW)? && !take(tx, &old, second, NOW)?);
            let late = NOW.plus(FORGOTTEN_AFTER);
            let turn = current(tx, &young)?;
            assert!(take(tx, &young, turn, late)?);
            assert!(!sweep(tx, late.plus(1))?);
            assert_eq!((current(tx, &old)?, current(tx, &young)?), (Turn(0), Turn(1)));
            // Whoever noted the turn before it was forgotten reads again.
            let stale = Turn(second.0 + 1);
            assert!(!take(tx, &old, stale, late)?);
            Ok(())
        });
        done.await.unwrap();
    }

    #[tokio::test]
    async fn a_long_list_of_turns_goes_in_chunks() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("t.db").display());
        let store = Store::open(&Options { url, pool_size: 1 }).unwrap();
        store.migrate().unwrap();
        let done = store.write(|tx| -> Result<(), Error> {
            for number in 0..=CHUNK {
                let subject = Subject::Invoice(format!("in_{number}"));
                assert!(take(tx, &subject, Turn(0), NOW)?);
            }
            let late = NOW.plus(FORGOTTEN_AFTER + 1);
            assert_eq!((sweep(tx, late)?, sweep(tx, late)?), (true, false));
            let left: i64 =
                tx.query_one("SELECT COUNT(*) FROM billing_turns", params![], |row| row.get(0))?;
            assert_eq!(left, 0);
            Ok(())
        });
        done.await.unwrap();
    }
}

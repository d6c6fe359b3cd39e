//! What a transaction keeps, undoes and repeats.

use crate::fresh::Fresh;
use crate::on_both;
use std::sync::atomic::{AtomicUsize, Ordering};
use store::{Error, Tx, params};

on_both![
    parameters_go_by_their_number,
    a_failed_closure_leaves_nothing_behind,
    a_panicking_closure_leaves_nothing_behind_and_the_store_lives_on,
    a_unique_key_is_a_conflict,
    what_is_acknowledged_after_a_hidden_conflict_is_there,
    a_hundred_guarded_updates_take_exactly_what_is_there,
    serialisable_transactions_look_as_if_they_ran_one_after_the_other,
    acknowledged_writes_are_seen_by_the_next_read,
    nulls_booleans_and_long_texts_come_back,
];

const PUT: &str =
    "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value";
const GET: &str = "SELECT value FROM meta WHERE name = $1";

fn put(tx: &mut Tx<'_>, name: &str, value: &str) -> Result<(), Error> {
    tx.execute(PUT, params![name, value]).map(|_| ())
}

fn get(tx: &mut Tx<'_>, name: &str) -> Result<Option<String>, Error> {
    tx.query_opt(GET, params![name], |row| row.get(0))
}

async fn parameters_go_by_their_number(fresh: Fresh) {
    let found: String = fresh
        .store
        .read(|tx| {
            tx.query_one(
                "SELECT CAST($2 AS TEXT) || CAST($1 AS TEXT) || CAST($2 AS TEXT)",
                params!["a", "b"],
                |row| row.get(0),
            )
        })
        .await
        .map_err(|error: Error| error)
        .unwrap();
    assert_eq!(found, "bab");
}

async fn a_failed_closure_leaves_nothing_behind(fresh: Fresh) {
    let result: Result<(), Error> = fresh
        .store
        .write(|tx| {
            put(tx, "half", "done")?;
            Err(Error::Fault("no".into()))
        })
        .await;
    assert!(matches!(result, Err(Error::Fault(_))));
    assert_eq!(fresh.store.read(|tx| get(tx, "half")).await.unwrap(), None);
}

async fn a_panicking_closure_leaves_nothing_behind_and_the_store_lives_on(fresh: Fresh) {
    let result: Result<(), Error> = fresh
        .store
        .write(|tx| {
            put(tx, "half", "done")?;
            panic!("on purpose");
        })
        .await;
    assert!(matches!(result, Err(Error::Fault(_))));
    fresh.store.write(|tx| put(tx, "whole", "done")).await.unwrap();
    assert_eq!(fresh.store.read(|tx| get(tx, "half")).await.unwrap(), None);
    assert_eq!(fresh.store.read(|tx| get(tx, "whole")).await.unwrap().as_deref(), Some("done"));
}

async fn a_unique_key_is_a_conflict(fresh: Fresh) {
    let add = |tx: &mut Tx<'_>| tx.execute("INSERT INTO meta (name, value) VALUES ($1, $1)", params!["one"]);
    fresh.store.write(add).await.unwrap();
    assert!(matches!(fresh.store.write(add).await, Err(Error::Conflict(_))));
}

async fn a_hundred_guarded_updates_take_exactly_what_is_there(fresh: Fresh) {
    let nodes = [fresh.store.clone(), fresh.open_again()];
    fresh
        .store
        .write(|tx| {
            tx.execute(
                "INSERT INTO counters (key, count, last_at, expires_at) VALUES ('stock', 7, 0, 0)",
                &[],
            )
        })
        .await
        .unwrap();
    let take = |tx: &mut Tx<'_>| {
        tx.execute("UPDATE counters SET count = count - 1 WHERE key = 'stock' AND count > 0", &[])
    };
    let takers: Vec<_> = (0..100)
        .map(|n| {
            tokio::spawn({
                let node = nodes[n % 2].clone();
                async move { node.write(take).await.unwrap() }
            })
        })
        .collect();
    let mut taken = 0;
    for taker in takers {
        taken += taker.await.unwrap();
    }
    assert_eq!(taken, 7);
}

async fn serialisable_transactions_look_as_if_they_ran_one_after_the_other(fresh: Fresh) {
    // Each reads the sum and writes it plus one to a row of its own: only one order of all of them can be right.
    let nodes = [fresh.store.clone(), fresh.open_again()];
    let work = (0..12).map(|n| {
        let node = nodes[n % 2].clone();
        tokio::spawn(async move {
            node.write_serializable(move |tx| {
                let sum: i64 = tx.query_one(
                    "SELECT CAST(COALESCE(MAX(count), 0) AS BIGINT) FROM counters",
                    &[],
                    |row| row.get(0),
                )?;
                let key = format!("row-{n}");
                tx.execute(
                    "INSERT INTO counters (key, count, last_at, expires_at) VALUES ($1, $2, 0, 0)",
                    params![&key, sum + 1],
                )
            })
            .await
            .map_err(|error: Error| error)
        })
    });
    let mut done = 0;
    for handle in work.collect::<Vec<_>>() {
        // Under this much contention giving up is allowed, a wrong sum is not.
        done += i64::from(handle.await.unwrap().is_ok());
    }
    let (rows, most, distinct): (i64, i64, i64) = fresh
        .store
        .read(|tx| {
            tx.query_one(
                "SELECT COUNT(*), CAST(MAX(count) AS BIGINT), COUNT(DISTINCT count) FROM counters",
                &[],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
        })
        .await
        .map_err(|error: Error| error)
        .unwrap();
    assert!(done > 0);
    assert_eq!((rows, most, distinct), (done, done, done));
}

async fn acknowledged_writes_are_seen_by_the_next_read(fresh: Fresh) {
    let other = fresh.open_again();
    for number in 0..50 {
        let value = number.to_string();
        let written = value.clone();
        fresh.store.write(move |tx| put(tx, "now", &written)).await.unwrap();
        assert_eq!(other.read(|tx| get(tx, "now")).await.unwrap(), Some(value.clone()));
        assert_eq!(fresh.store.scan(|tx| get(tx, "now")).await.unwrap(), Some(value));
    }
}

async fn nulls_booleans_and_long_texts_come_back(fresh: Fresh) {
    let long = "é".repeat(100_000);
    let name = long.clone();
    fresh
        .store
        .write(move |tx| {
            tx.execute(
                "INSERT INTO users (id, name, email, email_verified, image, two_factor_enabled, is_anonymous, banned, created_at, updated_at)
                 VALUES ('u', $1, 'e', $2, $3, FALSE, FALSE, FALSE, $4, $4)",
                params![&name, true, None::<&str>, i64::MAX],
            )
        })
        .await
        .unwrap();
    let row: (String, bool, Option<String>, i64) = fresh
        .store
        .read(|tx| {
            tx.query_one(
                "SELECT name, email_verified, image, created_at FROM users WHERE id = $1",
                params!["u"],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )
        })
        .await
        .map_err(|error: Error| error)
        .unwrap();
    assert_eq!(row, (long, true, None, i64::MAX));
}

// SQLite only: PostgreSQL's queue is the same type, and cannot be held up from inside one closure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_of_writes_refuses_at_once_and_recovers() {
    let fresh = crate::fresh::fresh(crate::fresh::On::Sqlite).await;
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let begun = std::sync::Arc::new(AtomicUsize::new(0));
    let (store, begins) = (fresh.store.clone(), begun.clone());
    let blocker = tokio::spawn(async move {
        store
            .write(move |_| {
                begins.fetch_add(1, Ordering::SeqCst);
                let _ = gate.lock().unwrap().recv();
                Ok::<_, Error>(())
            })
            .await
    });
    while begun.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let refused = std::sync::Arc::new(AtomicUsize::new(0));
    let writes: Vec<_> = (0..5_000)
        .map(|_| {
            let (store, refused) = (fresh.store.clone(), refused.clone());
            tokio::spawn(async move {
                let result = store.write(|tx| put(tx, "a", "b")).await;
                refused.fetch_add(usize::from(matches!(result, Err(Error::Busy))), Ordering::SeqCst);
                result
            })
        })
        .collect();
    // All have come: what the queue could not hold was refused while the writer was still held up.
    while refused.load(Ordering::SeqCst) + fresh.store.waiting() < 5_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(refused.load(Ordering::SeqCst), 5_000 - 4_096);
    open.send(()).unwrap();
    blocker.await.unwrap().unwrap();
    for write in writes {
        // On a busy machine a turn may come too late; then the caller is told, too.
        let result = write.await.unwrap();
        assert!(matches!(result, Ok(()) | Err(Error::Busy | Error::Unavailable(_))), "{result:?}");
    }
    fresh.store.write(|tx| put(tx, "a", "c")).await.unwrap();
}

/// PostgreSQL ends such a transaction with a rollback and no error; SQLite keeps the rest.
async fn what_is_acknowledged_after_a_hidden_conflict_is_there(fresh: Fresh) {
    const ADD: &str = "INSERT INTO meta (name, value) VALUES ($1, 'x')";
    let result: Result<(), Error> = fresh
        .store
        .write(|tx| {
            tx.execute(ADD, params!["one"])?;
            let _ = tx.execute(ADD, params!["one"]);
            Ok(())
        })
        .await;
    let found = fresh.store.read(|tx| get(tx, "one")).await.unwrap();
    assert_eq!(result.is_ok(), found.is_some(), "{result:?}");
    fresh.store.write(|tx| put(tx, "later", "done")).await.expect("the store goes on");
}

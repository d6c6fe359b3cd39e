//! Many rows and keys in one call.

use crate::fresh::Fresh;
use crate::on_both;
use std::sync::Arc;
use store::{Error, InsertMany, Param, Tx, params};
use tokio::sync::Barrier;

on_both![
    rows_with_nulls_come_back_as_they_were_given,
    an_upsert_changes_what_is_there_and_adds_the_rest,
    rows_that_are_not_whole_leave_nothing,
    a_row_that_conflicts_leaves_nothing,
    keys_that_are_there_are_found,
    overlapping_locks_in_opposite_order_both_end,
];

const ADD_USERS: InsertMany = InsertMany {
    into: "INSERT INTO users (id, name, email, email_verified, image, two_factor_enabled, is_anonymous, banned, ban_expires, created_at, updated_at)",
    width: 11,
    tail: "",
};
const PUT: InsertMany = InsertMany {
    into: "INSERT INTO meta (name, value)",
    width: 2,
    tail: "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
};
const ADD: InsertMany = InsertMany { tail: "", ..PUT };

type User = (String, bool, Option<String>, Option<i64>, i64);

fn user(number: i64) -> User {
    let image = (number % 3 == 0).then(|| format!("image \"{number}\", {{é}}"));
    (
        format!("user-{number:05}"),
        number % 2 == 0,
        image,
        (number % 5 == 0).then_some(-number),
        i64::MAX - number,
    )
}

async fn rows_with_nulls_come_back_as_they_were_given(fresh: Fresh) {
    // More than one statement takes, one that is left over, and a single row.
    for range in [0..300, 300..301, 301..4_398] {
        let users: Vec<User> = range.clone().map(user).collect();
        let written = users.clone();
        fresh
            .store
            .write(move |tx| {
                let mut values: Vec<Param<'_>> = Vec::new();
                for (id, verified, image, expires, created) in &written {
                    values.extend_from_slice(params![
                        id, "name", id, *verified, image, false, false, false, *expires, *created, 0
                    ]);
                }
                tx.insert_many(&ADD_USERS, &values)
            })
            .await
            .unwrap();
        let found: Vec<User> = fresh
            .store
            .scan(move |tx| {
                tx.query(
                    "SELECT id, email_verified, image, ban_expires, created_at FROM users WHERE created_at > $1 AND created_at <= $2 ORDER BY id",
                    params![i64::MAX - range.end, i64::MAX - range.start],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
                )
            })
            .await
            .map_err(|error: Error| error)
            .unwrap();
        assert_eq!(found, users);
    }
}

fn all(tx: &mut Tx<'_>) -> Result<Vec<(String, String)>, Error> {
    tx.query("SELECT name, value FROM meta WHERE name LIKE 'test %' ORDER BY name", &[], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

async fn an_upsert_changes_what_is_there_and_adds_the_rest(fresh: Fresh) {
    let put = |values: &'static [&'static str]| {
        move |tx: &mut Tx<'_>| {
            tx.insert_many(&PUT, &values.iter().map(|value| Param::from(*value)).collect::<Vec<_>>())
        }
    };
    fresh.store.write(put(&[])).await.unwrap();
    fresh.store.write(put(&["test b", "old", "test c", "old"])).await.unwrap();
    fresh.store.write(put(&["test a", "new", "test b", "new", "test d", "new"])).await.unwrap();
    fresh.store.write(put(&["test d", "newer"])).await.unwrap();
    let expected = [("test a", "new"), ("test b", "new"), ("test c", "old"), ("test d", "newer")];
    assert_eq!(fresh.store.read(all).await.unwrap(), owned(&expected));
}

async fn rows_that_are_not_whole_leave_nothing(fresh: Fresh) {
    const NO_WIDTH: InsertMany = InsertMany { width: 0, ..PUT };
    const TOO_WIDE: InsertMany = InsertMany { width: 3, ..PUT };
    for insert in [&PUT, &NO_WIDTH, &TOO_WIDE] {
        let result = fresh
            .store
            .write(move |tx| {
                tx.insert_many(&PUT, params!["test a", "1"])?;
                let values = if *insert == TOO_WIDE { 6 } else { 5 };
                tx.insert_many(insert, &params!["test b", "2", "test c", "3", "test d", "4"][..values])
            })
            .await;
        assert!(matches!(result, Err(Error::Fault(_))), "{result:?}");
        assert_eq!(fresh.store.read(all).await.unwrap(), []);
    }
}

async fn a_row_that_conflicts_leaves_nothing(fresh: Fresh) {
    fresh.store.write(|tx| tx.insert_many(&ADD, params!["test b", "first"])).await.unwrap();
    let add = |tx: &mut Tx<'_>| tx.insert_many(&ADD, params!["test a", "second", "test b", "second"]);
    assert!(matches!(fresh.store.write(add).await, Err(Error::Conflict(_))));
    assert_eq!(fresh.store.read(all).await.unwrap(), owned(&[("test b", "first")]));
}

async fn keys_that_are_there_are_found(fresh: Fresh) {
    let keys: Vec<String> = (0..300).map(|number| format!("test {number:03}")).collect();
    let present: Vec<String> = keys.iter().step_by(7).cloned().collect();
    let written = present.clone();
    fresh
        .store
        .write(move |tx| {
            let values: Vec<Param<'_>> =
                written.iter().flat_map(|name| [name.into(), "here".into()]).collect();
            tx.insert_many(&PUT, &values)
        })
        .await
        .unwrap();
    let find = |keys: Vec<String>| {
        move |tx: &mut Tx<'_>| {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            tx.query_keys("SELECT name FROM meta WHERE name IN ($1) AND value = 'here'", &keys, |row| {
                row.get::<String>(0)
            })
        }
    };
    let twice = [keys.clone(), keys].concat();
    let mut found = fresh.store.read(find(twice)).await.unwrap();
    found.sort();
    assert_eq!(found, present);
    assert!(fresh.store.read(find(Vec::new())).await.unwrap().is_empty());
}

async fn overlapping_locks_in_opposite_order_both_end(fresh: Fresh) {
    // On another node each, so that PostgreSQL and nothing else stands between them.
    let nodes = [fresh.store.clone(), fresh.open_again()];
    let together = Arc::new(Barrier::new(2));
    let mut ends = Vec::new();
    for (turned, node) in nodes.iter().cloned().enumerate() {
        let together = together.clone();
        ends.push(tokio::spawn(async move {
            for round in 0..50 {
                let mut keys: Vec<String> =
                    (0..20).map(|number| format!("{round} {}", number + turned * 5)).collect();
                if turned == 1 {
                    keys.reverse();
                }
                together.wait().await;
                node.write(move |tx| {
                    tx.lock("none", &[])?;
                    tx.lock("test", &keys.iter().map(String::as_str).collect::<Vec<_>>())
                })
                .await
                .map_err(|error: Error| error)
                .unwrap();
            }
        }));
    }
    for end in ends {
        end.await.unwrap();
    }
    assert_eq!(nodes.map(|node| node.retried()), [0, 0], "a deadlock was broken up by PostgreSQL");
}

//! Changes of many rows in one call, and what a transaction holds meanwhile.

use crate::fresh::Fresh;
use crate::on_both;
use store::{Error, InsertMany, Many, Param, Store, Tx, UpdateMany, params};

on_both![
    rows_that_are_there_are_changed_and_no_others,
    a_row_that_is_not_as_it_was_undoes_everything,
    the_last_changes_of_a_closure_are_kept_whatever_went_before,
    more_rows_than_a_statement_takes_are_all_changed,
    a_conflict_in_the_last_changes_leaves_nothing,
    nodes_that_trust_what_they_read_lose_no_change,
    rows_that_are_held_are_changed_by_one_node_at_a_time,
    rows_come_with_the_place_of_their_question,
];

const ADD: InsertMany = InsertMany { into: "INSERT INTO meta (name, value)", width: 2, tail: "" };
const REWRITE: UpdateMany =
    UpdateMany { table: "meta", keys: &["name"], set: &["value"], also: "", every: false };
const ADD_COUNTERS: InsertMany = InsertMany {
    into: "INSERT INTO credit_prices (version, content_hash, book, created_at)",
    width: 4,
    tail: "",
};
/// A row with a version of its own.
const COUNT: UpdateMany = UpdateMany {
    table: "credit_prices",
    keys: &["version", "created_at"],
    set: &["book"],
    also: "created_at = credit_prices.created_at + 1",
    every: true,
};
const COUNTER: &str = "SELECT created_at, book FROM credit_prices WHERE version = $1";

async fn add_counters(store: &Store, count: i64) {
    let numbers: Vec<i64> = (0..count).collect();
    let add = move |tx: &mut Tx<'_>| {
        let rows: Vec<Param<'_>> =
            numbers.iter().flat_map(|number| params![*number, "hash", "0", 0].to_vec()).collect();
        tx.insert_many(&ADD_COUNTERS, &rows)
    };
    store.write(add).await.unwrap();
}

fn counter(tx: &mut Tx<'_>, number: i64) -> Result<(i64, String), Error> {
    tx.query_one(COUNTER, params![number], |row| Ok((row.get(0)?, row.get(1)?)))
}

fn notes(tx: &mut Tx<'_>) -> Result<Vec<String>, Error> {
    tx.query("SELECT value FROM meta WHERE name LIKE 'test %' ORDER BY name", &[], |row| row.get(0))
}

async fn rows_that_are_there_are_changed_and_no_others(fresh: Fresh) {
    let rewrite = |rows: &'static [&'static str]| {
        move |tx: &mut Tx<'_>| {
            let rows: Vec<Param<'_>> = rows.iter().map(|text| Param::from(*text)).collect();
            tx.write_all(&[(Many::Update(&REWRITE), &rows)])
        }
    };
    let add = |tx: &mut Tx<'_>| tx.insert_many(&ADD, params!["test a", "1", "test b", "2", "test c", "3"]);
    fresh.store.write(add).await.unwrap();
    fresh.store.write(rewrite(&[])).await.unwrap();
    fresh.store.write(rewrite(&["test b", "new"])).await.unwrap();
    fresh.store.write(rewrite(&["test c", "newer", "test x", "nobody", "test a", "newest"])).await.unwrap();
    assert_eq!(fresh.store.read(notes).await.unwrap(), ["newest", "new", "newer"]);
}

async fn a_row_that_is_not_as_it_was_undoes_everything(fresh: Fresh) {
    add_counters(&fresh.store, 3).await;
    for end in [false, true] {
        for stale in [vec![(0i64, 0i64), (1, 7), (2, 0)], vec![(1, 7)], vec![(9, 0)]] {
            let change = move |tx: &mut Tx<'_>| {
                let rows: Vec<Param<'_>> = stale
                    .iter()
                    .flat_map(|(number, version)| params![*number, *version, "x"].to_vec())
                    .collect();
                let note = params!["test a", "1"];
                let writes = [(Many::Insert(&ADD), note.as_slice()), (Many::Update(&COUNT), &rows)];
                if end { tx.write_all_and_end(&writes) } else { tx.write_all(&writes) }
            };
            let refused = fresh.store.write(change).await;
            assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
        }
    }
    assert!(fresh.store.read(notes).await.unwrap().is_empty());
    for number in 0..3 {
        let found = fresh.store.read(move |tx| counter(tx, number)).await.unwrap();
        assert_eq!(found, (0, "0".into()));
    }
}

async fn the_last_changes_of_a_closure_are_kept_whatever_went_before(fresh: Fresh) {
    add_counters(&fresh.store, 2).await;
    for before in 0..4i64 {
        let change = move |tx: &mut Tx<'_>| {
            let at = match before {
                1 => counter(tx, 1)?.0,
                _ => before,
            };
            match before {
                2 => tx.lock("test", &["a"])?,
                3 => {
                    tx.execute("DELETE FROM meta WHERE name = 'test 0'", &[])?;
                }
                _ => {}
            }
            let (name, value) = (format!("test {before}"), before.to_string());
            tx.write_all_and_end(&[
                (Many::Insert(&ADD), params![&name, &value]),
                (Many::Update(&COUNT), params![0, before, &value, 1, at, &value]),
            ])
        };
        fresh.store.write(change).await.unwrap();
        let found = fresh.store.read(|tx| Ok::<_, Error>([counter(tx, 0)?, counter(tx, 1)?])).await.unwrap();
        assert_eq!(found, [(before + 1, before.to_string()), (before + 1, before.to_string())]);
    }
    assert_eq!(fresh.store.read(notes).await.unwrap(), ["1", "2", "3"]);
}

async fn more_rows_than_a_statement_takes_are_all_changed(fresh: Fresh) {
    const MANY: i64 = 5_000;
    add_counters(&fresh.store, MANY).await;
    let change = |last: &'static str| {
        move |tx: &mut Tx<'_>| {
            let version = if last == "whole" { 0 } else { 1 };
            let mut rows: Vec<Param<'_>> =
                (0..MANY).flat_map(|number| params![number, version, last].to_vec()).collect();
            if last == "stale" {
                rows[1] = 9.into();
            }
            tx.write_all_and_end(&[
                (Many::Insert(&ADD), params!["test a", "1"]),
                (Many::Update(&COUNT), &rows),
            ])
        }
    };
    fresh.store.write(change("whole")).await.unwrap();
    let refused = fresh.store.write(change("stale")).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    let count = "SELECT COUNT(*) FROM credit_prices WHERE book = 'whole' AND created_at = 1";
    let changed = fresh.store.scan(move |tx| tx.query_one(count, &[], |row| row.get::<i64>(0))).await;
    assert_eq!(changed.unwrap(), MANY);
}

async fn a_conflict_in_the_last_changes_leaves_nothing(fresh: Fresh) {
    add_counters(&fresh.store, 1).await;
    fresh.store.write(|tx| tx.insert_many(&ADD, params!["test b", "first"])).await.unwrap();
    let change = |tx: &mut Tx<'_>| {
        tx.write_all_and_end(&[
            (Many::Update(&COUNT), params![0, 0, "changed"].as_slice()),
            (Many::Insert(&ADD), params!["test a", "second", "test b", "second"]),
        ])
    };
    assert!(matches!(fresh.store.write(change).await, Err(Error::Conflict(_))));
    assert_eq!(fresh.store.read(notes).await.unwrap(), ["first"]);
    assert_eq!(fresh.store.read(|tx| counter(tx, 0)).await.unwrap(), (0, "0".into()));
    // The connection is as good as before.
    fresh.store.write(|tx| tx.insert_many(&ADD, params!["test c", "third"])).await.unwrap();
    assert_eq!(fresh.store.read(notes).await.unwrap(), ["first", "third"]);
}

/// Each row is counted up to the same number by both, whoever comes in between.
async fn nodes_that_trust_what_they_read_lose_no_change(fresh: Fresh) {
    const ROUNDS: i64 = 40;
    add_counters(&fresh.store, 3).await;
    let nodes = [fresh.store.clone(), fresh.open_again()];
    let tasks = nodes.map(|node| {
        tokio::spawn(async move {
            let mut done = 0;
            while done < ROUNDS {
                let seen: Vec<(i64, i64)> = node
                    .read(|tx| {
                        let read = |number| {
                            let (version, book) = counter(tx, number)?;
                            Ok::<_, Error>((version, book.parse().unwrap()))
                        };
                        (0..3).map(read).collect()
                    })
                    .await
                    .unwrap();
                let change = move |tx: &mut Tx<'_>| {
                    let next: Vec<String> = seen.iter().map(|(_, book)| (book + 1).to_string()).collect();
                    let mut rows: Vec<Param<'_>> = Vec::new();
                    for (number, ((version, _), next)) in (0i64..).zip(seen.iter().zip(&next)) {
                        rows.extend(params![number, *version, next]);
                    }
                    tx.write_all_and_end(&[(Many::Update(&COUNT), &rows)])
                };
                match node.write(change).await {
                    Ok(()) => done += 1,
                    Err(Error::Conflict(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    for task in tasks {
        task.await.unwrap();
    }
    for number in 0..3 {
        let found = fresh.store.read(move |tx| counter(tx, number)).await.unwrap();
        assert_eq!(found, (2 * ROUNDS, (2 * ROUNDS).to_string()));
    }
}

async fn rows_that_are_held_are_changed_by_one_node_at_a_time(fresh: Fresh) {
    const ROUNDS: usize = 40;
    let add = |tx: &mut Tx<'_>| tx.insert_many(&ADD, params!["test a", "0", "test b", "0"]);
    fresh.store.write(add).await.unwrap();
    let nodes = [fresh.store.clone(), fresh.open_again()];
    let tasks = nodes.clone().map(|node| {
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                let change = move |tx: &mut Tx<'_>| {
                    let names = if round % 2 == 0 { ["test b", "test a"] } else { ["test a", "test b"] };
                    tx.lock_rows("meta", "name", &[])?;
                    tx.lock_rows("meta", "name", &names)?;
                    let next: Vec<String> = notes(tx)?
                        .iter()
                        .map(|value| (value.parse::<i64>().unwrap() + 1).to_string())
                        .collect();
                    tx.write_all(&[(Many::Update(&REWRITE), params!["test a", &next[0], "test b", &next[1]])])
                };
                node.write(change).await.unwrap();
            }
        })
    });
    for task in tasks {
        task.await.unwrap();
    }
    let all = (2 * ROUNDS).to_string();
    assert_eq!(fresh.store.read(notes).await.unwrap(), [all.clone(), all]);
    assert_eq!(nodes.map(|node| node.retried()), [0, 0], "a deadlock was broken up by PostgreSQL");
}

async fn rows_come_with_the_place_of_their_question(fresh: Fresh) {
    const FIRST: &str = "SELECT name FROM meta WHERE name IN ($1)";
    const SECOND: &str = "SELECT value FROM meta WHERE value IN ($1)";
    let add = |tx: &mut Tx<'_>| tx.insert_many(&ADD, params!["test a", "1", "test b", "2"]);
    fresh.store.write(add).await.unwrap();
    let ask = |tx: &mut Tx<'_>| {
        let mut found = Vec::new();
        let questions: [(&'static str, &[&str]); 4] =
            [(SECOND, &["2", "7", "2"]), (FIRST, &[]), (FIRST, &["test b", "test a"]), (SECOND, &["8"])];
        tx.query_all_keys(&questions, |at, row| {
            found.push((at, row.get::<String>(0)?));
            Ok(())
        })?;
        tx.query_all_keys(&[(FIRST, &[])], |_, _| panic!("a row of nothing"))?;
        found.sort();
        Ok::<_, Error>(found)
    };
    let expected = [(0, "2"), (2, "test a"), (2, "test b")].map(|(at, text)| (at, text.to_string()));
    assert_eq!(fresh.store.read(ask).await.unwrap(), expected);
    assert_eq!(fresh.store.write(ask).await.unwrap(), expected);
}

//! What somebody with a database shell changes is found, and nothing else is.

use crate::world::{World, account, command, debit, grant, hold, must, on_every_store};
use credits::verify::Problem;
use credits::{AccountId, Entry, Kind, Part};
use kernel::Millis;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use store::params;

/// Accounts of 40 entries each, one of many, and holds.
async fn lived_in(world: &World) {
    let ledger = world.ledger();
    for name in ["ada", "bob", "cyd", "dan"] {
        must(&ledger, command(name, grant(1_000))).await;
        let debits = (0..39).map(|_| command(name, debit(3))).collect();
        assert!(ledger.submit_all(debits, false).await.unwrap().iter().all(Result::is_ok));
        must(&ledger, command(name, hold(20))).await;
    }
    must(&ledger, command("eve", grant(1_000_000))).await;
    for _ in 0..6 {
        let debits = (0..400).map(|_| command("eve", debit(1))).collect();
        assert!(ledger.submit_all(debits, true).await.unwrap().iter().all(Result::is_ok));
    }
}

fn found(problems: &[Problem]) -> Vec<(Option<&str>, Option<i64>)> {
    problems.iter().map(|problem| (problem.owner.as_deref(), problem.seq)).collect()
}

#[test]
fn a_ledger_that_nobody_touched_is_whole_and_its_books_balance() {
    on_every_store(|world| async move {
        world.assert_whole().await;
        lived_in(&world).await;
        let report = world.assert_whole().await;
        assert_eq!((report.accounts, report.entries), (5, 4 * 40 + 2_401));
        let spent = report.books.iter().find(|book| book.counter == "spent").unwrap();
        assert_eq!(spent.sum, 4 * 39 * 3 + 2_400);
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!((&json["ok"], &json["entries"]), (&true.into(), &2_561.into()));
    });
}

#[test]
fn every_change_by_sql_names_the_first_broken_entry() {
    let changes: [(&str, &str, i64, Option<i64>); 15] = [
        (
            "UPDATE credit_entries SET amount = amount - 1 WHERE account_id = $1 AND seq = $2",
            "bob",
            17,
            Some(17),
        ),
        (
            "UPDATE credit_entries SET amount = amount + 1 WHERE account_id = $1 AND seq = $2",
            "eve",
            1_500,
            Some(1_500),
        ),
        (
            "UPDATE credit_entries SET balance_after = balance_after + 5 WHERE account_id = $1 AND seq >= $2",
            "bob",
            30,
            Some(30),
        ),
        (
            "UPDATE credit_entries SET actor = 'nobody' WHERE account_id = $1 AND seq = $2",
            "bob",
            40,
            Some(40),
        ),
        ("UPDATE credit_entries SET parts = 'x' WHERE account_id = $1 AND seq = $2", "bob", 9, Some(9)),
        (
            "UPDATE credit_entries SET parts = '1:-2,-:-1' WHERE account_id = $1 AND seq = $2",
            "bob",
            9,
            Some(9),
        ),
        ("UPDATE credit_entries SET kind = 'gift' WHERE account_id = $1 AND seq = $2", "bob", 1, Some(1)),
        (
            "UPDATE credit_entries SET created_at = created_at + 1 WHERE account_id = $1 AND seq = $2",
            "bob",
            2,
            Some(2),
        ),
        ("UPDATE credit_accounts SET balance = balance + $2 WHERE id = $1", "bob", 7, None),
        (
            "UPDATE credit_accounts SET owner = 'user:eva', has_limits = ($2 = 1) WHERE id = $1",
            "bob",
            0,
            None,
        ),
        ("UPDATE credit_accounts SET held = held - $2 WHERE id = $1", "bob", 20, None),
        ("UPDATE credit_accounts SET carried = carried + $2 WHERE id = $1", "bob", 7, None),
        ("UPDATE credit_lots SET remaining = remaining + $2 WHERE account_id = $1", "bob", 7, None),
        ("UPDATE credit_holds SET status = 'released' WHERE account_id = $1 AND no = $2", "bob", 1, None),
        ("UPDATE credit_lots SET open = FALSE WHERE account_id = $1 AND no = $2", "bob", 1, None),
    ];
    for (sql, name, number, seq) in changes {
        on_every_store(|world| async move {
            lived_in(&world).await;
            assert!(world.tamper(sql, &account(name), number).await > 0, "{sql}");
            let report = world.verify().await;
            let owner = report.problems[0].owner.clone().unwrap_or_default();
            assert_eq!(report.problems.len(), 1, "{sql}: {:?}", report.problems);
            assert_eq!(report.problems[0].seq, seq, "{sql}: {:?}", report.problems);
            assert!(owner.ends_with(name) || owner == "user:eva", "{sql}: {owner}");
        });
    }
}

#[test]
fn what_was_taken_away_is_missed() {
    const LAST: &str = "DELETE FROM credit_entries WHERE account_id = $1 AND seq = $2";
    const MIDDLE: &str = "DELETE FROM credit_entries WHERE account_id = $1 AND seq = $2";
    const ENTRIES: &str = "DELETE FROM credit_entries WHERE account_id = $1 AND seq > $2";
    const ACCOUNT: &str = "DELETE FROM credit_accounts WHERE id = $1 AND $2 = 0";
    const LOTS: &str = "DELETE FROM credit_lots WHERE account_id = $1 AND no > $2";
    const HOLDS: &str = "DELETE FROM credit_holds WHERE account_id = $1 AND no > $2";
    on_every_store(|world| async move {
        lived_in(&world).await;
        world.tamper(LAST, &account("ada"), 40).await;
        world.tamper(MIDDLE, &account("bob"), 20).await;
        world.tamper(ACCOUNT, &account("cyd"), 0).await;
        let problems = world.verify().await.problems;
        let found = found(&problems);
        assert!(found.contains(&(Some("user:ada"), Some(40))), "{found:?}");
        assert!(found.contains(&(Some("user:bob"), Some(20))), "{found:?}");
        let nameless = format!("account:{}", account("cyd").as_str());
        assert!(found.contains(&(Some(&nameless), None)), "{found:?}");
    });
    on_every_store(|world| async move {
        lived_in(&world).await;
        for sql in [ENTRIES, ACCOUNT, LOTS, HOLDS] {
            world.tamper(sql, &account("dan"), 0).await;
        }
        let problems = world.verify().await.problems;
        assert_eq!(found(&problems), [(None, None)], "a whole account: {problems:?}");
    });
}

#[test]
fn the_newest_entry_is_missed_although_everything_beside_it_was_made_to_fit() {
    on_every_store(|world| async move {
        lived_in(&world).await;
        let account = account("ada");
        world.tamper("DELETE FROM credit_entries WHERE account_id = $1 AND seq = $2", &account, 40).await;
        world
            .tamper("UPDATE credit_lots SET remaining = remaining + $2 WHERE account_id = $1", &account, 3)
            .await;
        const FIT: &str = "
            UPDATE credit_accounts SET seq = seq - 1, balance = balance + $2,
                hash = (SELECT hash FROM credit_entries WHERE account_id = $1 AND seq = 39)
            WHERE id = $1";
        world.tamper(FIT, &account, 3).await;
        let problems = world.verify().await.problems;
        assert_eq!(found(&problems), [(None, None)], "{problems:?}");
    });
}

#[test]
fn an_entry_that_was_written_anew_with_its_hash_is_seen_by_the_seals() {
    on_every_store(|world| async move {
        lived_in(&world).await;
        // Somebody who knows how the hash is made gives the newest entry another reason.
        let id = account("ada");
        world
            .store
            .write::<_, store::Error, _>(move |tx| {
                let read = "SELECT balance_after, created_at, (SELECT hash FROM credit_entries WHERE account_id = $1 AND seq = 39)
                    FROM credit_entries WHERE account_id = $1 AND seq = 40";
                let (balance_after, created_at, prev_hash) =
                    tx.query_one(read, params![id.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
                let forged = forged(&id, balance_after, created_at, prev_hash);
                let write = "UPDATE credit_entries SET reason = 'forged', hash = $2 WHERE account_id = $1 AND seq = 40";
                tx.execute(write, params![id.as_str(), &forged.hash])?;
                let fit = "UPDATE credit_accounts SET hash = $2 WHERE id = $1";
                tx.execute(fit, params![id.as_str(), &forged.hash])
            })
            .await
            .unwrap();
        let problems = world.verify().await.problems;
        assert_eq!(found(&problems), [(None, None)], "{problems:?}");
    });
}

fn forged(id: &AccountId, balance_after: i64, created_at: Millis, prev_hash: String) -> Entry {
    let mut entry = Entry {
        account: id.clone(),
        seq: 40,
        kind: Kind::Debit,
        amount: -3,
        balance_after,
        counter: "spent".into(),
        feature: None,
        quantity: None,
        price_version: None,
        reason: Some("forged".into()),
        actor: "key:test".into(),
        request_id: None,
        idempotency_key: None,
        source_ref: None,
        hold_no: None,
        refund_of: None,
        parts: vec![Part { lot: Some(1), amount: -3 }],
        metadata: None,
        created_at,
        prev_hash,
        hash: String::new(),
    };
    entry.hash = entry.compute_hash();
    entry
}

#[test]
fn a_seal_that_was_changed_is_seen() {
    on_every_store(|world| async move {
        lived_in(&world).await;
        const LESS: &str = "UPDATE credit_seals SET entries = entries - $2
            WHERE writer = (SELECT MIN(writer) FROM credit_seals) AND writer <> $1";
        assert_eq!(world.tamper(LESS, &account("ada"), 1).await, 1);
        assert_eq!(world.verify().await.problems.len(), 2, "the signature and the count");
    });
}

#[test]
fn nothing_is_wrong_while_the_server_writes() {
    on_every_store(|world| async move {
        lived_in(&world).await;
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..4)
            .map(|number| {
                let (ledger, stop) = (world.ledger(), stop.clone());
                tokio::spawn(async move {
                    let mut round = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let name = ["ada", "bob", "eve"][round % 3];
                        let fresh = format!("new-{number}-{round}");
                        must(&ledger, command(&fresh, grant(5))).await;
                        must(&ledger, command(name, grant(5))).await;
                        must(&ledger, command(name, debit(5))).await;
                        round += 1;
                    }
                    round
                })
            })
            .collect();
        for _ in 0..10 {
            world.assert_whole().await;
        }
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            assert!(writer.await.unwrap() > 0);
        }
        world.assert_whole().await;
    });
}

#[test]
fn clocks_that_go_back_are_no_finding() {
    on_every_store(|world| async move {
        lived_in(&world).await;
        let ledger = world.ledger();
        world.clock.forward(-3_600_000);
        must(&ledger, command("ada", debit(1))).await;
        must(&ledger, command("fay", grant(1))).await;
        world.clock.forward(7_200_000);
        world.assert_whole().await;
    });
}

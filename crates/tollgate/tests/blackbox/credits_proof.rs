//! What can be proved: entries that cannot be changed unseen, and balances that are what the entries add up to.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::credits::{
    Backend, in_milliseconds, ledger_verifies, make_user, make_users, number, refused, text,
};
use crate::harness::database::quoted;
use crate::harness::{Engine, Server};
use crate::on_both_engines;

/// A ledger of a thousand entries, half of them one user's.
fn thousand_entries(server: &Server, backend: &mut Backend) -> Vec<String> {
    let users = make_users(server, 6);
    for user in &users {
        backend.grant(user, 10_000);
    }
    let debits: Vec<Value> = (0..994)
        .map(|at| {
            let user = if at % 2 == 0 { 0 } else { 1 + at % 5 };
            json!({"user_id": users[user], "amount": 1 + at % 7, "idempotency_key": format!("d{at}")})
        })
        .collect();
    let answer = backend.try_post("debits/batch", None, &json!({"debits": debits})).expect("an answer");
    answer.expect(200);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM credit_entries"), 1_000);
    users
}

fn verify_names_the_entry_whose_amount_was_changed_behind_the_ledger(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let users = thousand_entries(&server, &mut backend);
    let whole = server.command(&["credits", "verify", "--json"]).expect_done().json();
    assert_eq!(
        (&whole["ok"], &whole["accounts"], &whole["entries"], &whole["problems"]),
        (&json!(true), &json!(6), &json!(1_000), &json!([])),
    );
    let account =
        format!("(SELECT id FROM credit_accounts WHERE owner = {})", quoted(&format!("user:{}", users[0])));
    let entry = format!("account_id = {account} AND seq = 300");
    let deeds = [
        format!("UPDATE credit_entries SET amount = amount - 1 WHERE {entry}"),
        format!("UPDATE credit_entries SET reason = 'forged' WHERE {entry}"),
        format!("DELETE FROM credit_entries WHERE {entry}"),
    ];
    for deed in deeds {
        let kept = server.database.rows(&format!("SELECT amount FROM credit_entries WHERE {entry}"));
        assert_eq!(kept.len(), 1);
        assert_eq!(server.database.execute(&deed), 1);
        let broken = server.command(&["credits", "verify", "--json"]);
        assert_eq!(broken.code, Some(1), "{deed}: {broken:?}");
        let report = broken.json();
        assert_eq!(report["ok"], false, "{report}");
        let problem = &report["problems"][0];
        let named = (problem["owner"].clone(), problem["seq"].clone());
        let seqs = [json!(300), json!(301)];
        assert!(
            named.0.to_string().contains(&users[0])
                && seqs[..if deed.starts_with("DELETE") { 2 } else { 1 }].contains(&named.1),
            "{deed}: {report}"
        );
        let amount = kept[0][0].clone().expect("an amount");
        if !deed.starts_with("DELETE") {
            let back = format!("UPDATE credit_entries SET amount = {amount}, reason = NULL WHERE {entry}");
            server.database.execute(&back);
            ledger_verifies(&server);
        }
    }
}
on_both_engines!(verify_names_the_entry_whose_amount_was_changed_behind_the_ledger);

/// The newest entry is no part of any chain yet.
fn verify_misses_the_newest_entry_when_it_is_taken_away(engine: Engine) {
    let mut server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 100);
    let before = server.database.rows("SELECT version, seq, hash, balance FROM credit_accounts");
    backend.debit(&user, 40).expect(201);
    server.stop();
    // As if the debit had never been: entry, lot and account are as they were.
    server.database.execute("DELETE FROM credit_entries WHERE seq = 2");
    server.database.execute("UPDATE credit_lots SET remaining = 100");
    let cell = |at: usize| before[0][at].clone().expect("a value");
    server.database.execute(&format!(
        "UPDATE credit_accounts SET seq = {}, hash = {}, balance = {}",
        cell(1),
        quoted(&cell(2)),
        cell(3)
    ));
    let broken = server.command(&["credits", "verify", "--json"]);
    assert_eq!((broken.code, &broken.json()["ok"]), (Some(1), &json!(false)), "{broken:?}");
}
on_both_engines!(verify_misses_the_newest_entry_when_it_is_taken_away);

/// What stands beside the entries, and entries that are gone with all that would miss them.
fn verify_sees_what_was_changed_beside_the_entries(engine: Engine) {
    let deeds: [&[&str]; 6] = [
        &["UPDATE credit_accounts SET balance = balance + 100"],
        &["UPDATE credit_accounts SET held = 0"],
        &["UPDATE credit_lots SET remaining = remaining + 1"],
        &["UPDATE credit_holds SET status = 'released'"],
        &["DELETE FROM credit_seals"],
        &[
            "DELETE FROM credit_entries",
            "DELETE FROM credit_holds",
            "DELETE FROM credit_lots",
            "DELETE FROM credit_accounts",
        ],
    ];
    for deed in deeds {
        let server = Server::start(engine);
        let mut backend = Backend::of(&server);
        let user = make_user(&server);
        backend.grant(&user, 100);
        backend.debit(&user, 30).expect(201);
        backend.hold(&user, 20);
        ledger_verifies(&server);
        for statement in deed {
            server.database.execute(statement);
        }
        let broken = server.command(&["credits", "verify", "--json"]);
        assert_eq!((broken.code, &broken.json()["ok"]), (Some(1), &json!(false)), "{deed:?} {broken:?}");
    }
}
on_both_engines!(verify_sees_what_was_changed_beside_the_entries);

fn the_balance_at_any_moment_is_what_the_entries_until_then_add_up_to(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 1_000);
    let (done, seen) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut writer = backend.another();
                for round in 0..60 {
                    writer.debit(&user, 1 + round % 3).expect(201);
                    if round % 10 == 0 {
                        writer.grant(&user, 5);
                    }
                }
                done.store(true, Ordering::SeqCst);
            });
        }
        scope.spawn(|| {
            let mut reader = backend.another();
            let mut asked = 0;
            while asked < 100 || !done.load(Ordering::SeqCst) {
                let entries = reader.get(&format!("entries?user_id={user}&limit=50")).expect(200).json();
                let items = entries["items"].as_array().expect("a list").clone();
                let at = text(&items[(asked * 7) % items.len()]["created_at"]);
                let read = reader.get(&format!("balance?user_id={user}&at={at}")).expect(200).json();
                seen.lock().expect("nobody panics").push((at, number(&read["balance"])));
                asked += 1;
            }
        });
    });
    let entries = backend.entries(&user);
    for (seq, entry) in entries.iter().enumerate() {
        assert_eq!(number(&entry["seq"]), seq as i64 + 1);
    }
    let newest = text(&entries[entries.len() - 1]["created_at"]);
    for (at, balance) in seen.into_inner().expect("nobody panics") {
        // Entries of the newest moment may still have been coming.
        if at == newest {
            continue;
        }
        let until_then = entries.iter().filter(|entry| text(&entry["created_at"]) <= at);
        let sums: Vec<i64> = until_then.map(|entry| number(&entry["amount"])).collect();
        let of_that_moment = entries.iter().filter(|entry| entry["created_at"] == at.as_str()).count();
        let settled: i64 = sums.iter().sum();
        let possible: Vec<i64> =
            (0..of_that_moment).map(|later| sums[..sums.len() - later].iter().sum()).collect();
        assert!(balance == settled || possible.contains(&balance), "{balance} at {at}, not {settled}");
        // Nothing comes any more: now it is exact.
        let read = backend.get(&format!("balance?user_id={user}&at={at}")).expect(200).json();
        assert_eq!(number(&read["balance"]), settled, "at {at}");
    }
    let future = backend.get(&format!("balance?user_id={user}&at={}", in_milliseconds(60_000)));
    assert_eq!(refused(&future, 422, "invalid_request")["field"], "at");
}
on_both_engines!(the_balance_at_any_moment_is_what_the_entries_until_then_add_up_to);

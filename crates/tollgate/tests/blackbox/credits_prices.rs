//! The price book: entries carry the version of the prices they used.

use serde_json::json;

use crate::harness::credits::{Backend, books_balance, fresh_key, ledger_verifies, make_user, number, text};
use crate::harness::{Engine, Server, in_parallel};
use crate::on_both_engines;

const PRICES: &str = "[credits]\nunits = [\"credits\", \"tokens\"]\nfeatures = { \"image\" = 5, \"text\" = { amount = 2, unit = \"tokens\" } }\n";

fn entries_carry_the_version_of_the_prices_they_used(engine: Engine) {
    let mut server = Server::with(engine, PRICES);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 100);
    backend.grant_with(&user, 50, json!({"unit": "tokens"}));
    let debit = |backend: &mut Backend, feature: &str, quantity: i64| {
        let body = json!({"user_id": user, "feature": feature, "quantity": quantity});
        backend.post("debits", &fresh_key(), &body).expect(201).json()["entry"].clone()
    };
    let old = debit(&mut backend, "image", 2);
    assert_eq!(
        (&old["amount"], &old["unit"], &old["feature"]),
        (&json!(-10), &json!("credits"), &json!("image"))
    );
    let tokens = debit(&mut backend, "text", 3);
    assert_eq!((&tokens["amount"], &tokens["unit"]), (&json!(-6), &json!("tokens")));
    let hold = json!({"user_id": user, "feature": "image", "expires_in": 600});
    let held = backend.post("holds", &fresh_key(), &hold).expect(201).json()["hold"].clone();
    let book = backend.get("features").expect(200).json();
    let first = number(&book["version"]);
    assert!(
        book["items"].as_array().is_some_and(|items| {
            items.contains(&json!({"feature": "image", "amount": 5, "unit": "credits"}))
        }),
        "{book}"
    );
    assert_eq!(old["price_version"], first);

    server.stop();
    server.restart();
    let mut backend = backend.another();
    assert_eq!(debit(&mut backend, "image", 1)["price_version"], first, "the prices are the same");
    server.stop();
    server.reconfigure("[credits]\nfeatures = { \"image\" = 7 }\n");
    server.restart();
    let mut backend = backend.another();
    let new = debit(&mut backend, "image", 2);
    assert_eq!((&new["amount"], &new["price_version"]), (&json!(-14), &json!(first + 1)));
    assert_eq!(number(&backend.get("features").expect(200).json()["version"]), first + 1);
    // What was held costs what it was held for.
    let capture = format!("holds/{}/capture", text(&held["id"]));
    let captured = backend.post(&capture, &fresh_key(), &json!({})).expect(200).json()["entry"].clone();
    assert_eq!((&captured["amount"], &captured["price_version"]), (&json!(-5), &json!(first)));
    ledger_verifies(&server);
}
on_both_engines!(entries_carry_the_version_of_the_prices_they_used);

/// Two nodes with two price books, as during an upgrade: each entry has the price of the version it names.
#[test]
fn no_entry_mixes_two_price_books() {
    let first = Server::with(Engine::Postgres, "[credits]\nfeatures = { \"image\" = 5 }\n");
    let mut second = Server::second_node(&first);
    second.stop();
    second.reconfigure("[credits]\nfeatures = { \"image\" = 7 }\n");
    second.restart();
    let mut backend = Backend::of(&first);
    let user = make_user(&first);
    backend.grant(&user, 10_000);
    in_parallel(4, |number| {
        let mut caller = backend.at(if number % 2 == 0 { &first } else { &second });
        for _ in 0..50 {
            caller.post("debits", &fresh_key(), &json!({"user_id": user, "feature": "image"})).expect(201);
        }
    });
    let rows = first.database.rows(
        "SELECT amount, price_version, COUNT(*) FROM credit_entries WHERE kind = 'debit' \
         GROUP BY amount, price_version ORDER BY price_version",
    );
    let found: Vec<Vec<String>> = rows.into_iter().map(|row| row.into_iter().flatten().collect()).collect();
    assert_eq!(found, [["-5", "1", "100"], ["-7", "2", "100"]]);
    books_balance(&first.database);
    ledger_verifies(&first);
}

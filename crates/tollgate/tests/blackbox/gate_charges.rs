//! `POST /api/gate/authorize` with a charge: paid once, by whom the session names, under the keys that the credits door
//! knows as well.

use serde_json::{Value, json};

use crate::harness::credits::{
    books_balance, count_entries, is_replay, ledger_verifies, merged, number, refused, text,
};
use crate::harness::gate::Guard;
use crate::harness::{Browser, Engine, Server, in_parallel};
use crate::on_both_engines;

const PRICES: &str = "
    [credits]
    units = [\"credits\", \"tokens\"]
    buy_url = \"https://app.example/pricing\"
    [credits.features]
    \"image.generate\" = 5
    search = { amount = 2, unit = \"tokens\" }
    [credits.models.gpt-x]
    per = 1000
    input = 2
    output = 8
";

fn signed_up(server: &Server, email: &str) -> (Browser, String) {
    let mut browser = Browser::new(server);
    let made = browser.sign_up(email);
    (browser, text(&made["user"]["id"]))
}

fn amount(amount: i64) -> Value {
    json!({"charge": {"amount": amount}})
}

fn a_charge_is_paid_by_the_user_and_says_so(engine: Engine) {
    let server = Server::with(engine, PRICES);
    let mut guard = Guard::of(&server);
    let (ada, id) = signed_up(&server, "ada@example.com");
    guard.backend.grant(&id, 100);
    guard.backend.grant_with(&id, 50, json!({"unit": "tokens"}));
    let body = json!({
        "user_id": id, "charge": {"feature": "image.generate", "quantity": 2}, "reason": "two pictures",
        "metadata": {"job": 7}, "payer": {"user_id": id},
    });
    let answer = guard.ask_under(&ada, "pictures", &body).expect(200);
    let charge = answer.json()["charge"].clone();
    let entry = guard.backend.entries(&id).into_iter().find(|entry| entry["kind"] == "debit").expect("paid");
    let expected = json!({"entry_id": entry["id"], "amount": 10, "unit": "credits", "balance": 90, "available": 90,
        "replayed": false});
    assert_eq!(charge, expected);
    assert_eq!(answer.json()["subject"], json!({"kind": "user", "id": id}));
    assert!(!is_replay(&answer));
    assert_eq!(
        json!([entry["amount"], entry["feature"], entry["reason"], entry["metadata"], entry["actor"]]),
        json!([-10, "image.generate", "two pictures", {"job": 7}, format!("user:{id}")])
    );
    assert_eq!(entry["idempotency_key"], "pictures");
    // In another unit, by a price, by tokens, by an amount.
    for (charge, paid, unit, left) in [
        (json!({"feature": "search"}), 2, "tokens", 48),
        (json!({"feature": "search", "unit": "tokens"}), 2, "tokens", 46),
        (json!({"amount": 6, "unit": "tokens"}), 6, "tokens", 40),
        (json!({"model": "gpt-x", "tokens": {"input": 600, "output": 100}}), 2, "credits", 88),
    ] {
        let body = json!({"charge": charge});
        let charge = guard.ask_under(&ada, &body.to_string(), &body).expect(200).json()["charge"].clone();
        let found = json!([charge["amount"], charge["unit"], charge["balance"], charge["available"]]);
        assert_eq!(found, json!([paid, unit, left, left]), "{body}");
    }
    let poor = guard.ask_under(&ada, "poor", &amount(89));
    let body = refused(&poor, 402, "insufficient_credits");
    let members = ["balance", "available", "required", "unit", "buy_url"].map(|name| body[name].clone());
    assert_eq!(json!(members), json!([88, 88, 89, "credits", "https://app.example/pricing"]));
    // Who never had any has nothing, which is no reason to look further.
    let (bob, _) = signed_up(&server, "bob@example.com");
    let body = refused(&guard.ask_under(&bob, "k", &amount(1)), 402, "insufficient_credits");
    assert_eq!(json!([body["balance"], body["available"], body["required"]]), json!([0, 0, 1]));
    // What may go below zero elsewhere does not at the gate.
    guard.backend.put("accounts", &json!({"user_id": id, "negative_floor": -50})).expect(200);
    refused(&guard.ask_under(&ada, "below", &amount(89)), 402, "insufficient_credits");
    // A key without a charge is nobody's business.
    assert_eq!(guard.ask_under(&ada, "pictures", &json!({})).expect(200).json()["charge"], Value::Null);
    books_balance(&server.database);
}
on_both_engines!(a_charge_is_paid_by_the_user_and_says_so);

fn a_hold_reserves_and_is_captured_at_the_credits_door(engine: Engine) {
    let server = Server::with(engine, PRICES);
    let mut guard = Guard::of(&server);
    let (ada, id) = signed_up(&server, "ada@example.com");
    guard.backend.grant(&id, 20);
    let body = json!({"charge": {"feature": "image.generate"}, "hold": true});
    let held = guard.ask_under(&ada, "held", &body).expect(200).json()["charge"].clone();
    let hold = text(&held["hold_id"]);
    let expected = json!({"hold_id": hold, "amount": 5, "unit": "credits", "balance": 20, "available": 15,
        "replayed": false});
    assert_eq!(held, expected);
    let life = |hold: &str| {
        let number = hold.rsplit('h').next().expect("an id ends with its number").to_owned();
        server
            .database
            .integer(&format!("SELECT expires_at - created_at FROM credit_holds WHERE no = {number}"))
    };
    assert_eq!(life(&hold), 300_000);
    let kept = guard.backend.get(&format!("holds/{hold}")).expect(200).json();
    assert_eq!(
        json!([kept["status"], kept["amount"], kept["feature"]]),
        json!(["held", 5, "image.generate"])
    );
    guard.backend.post(&format!("holds/{hold}/capture"), "captured", &json!({"amount": 3})).expect(200);
    assert_eq!(guard.backend.balance(&id)["available"], 17);
    let longer = merged(body.clone(), json!({"hold_expires_in": 60}));
    let second = guard.ask_under(&ada, "second", &longer).expect(200).json()["charge"].clone();
    assert_eq!((number(&second["available"]), life(&text(&second["hold_id"]))), (12, 60_000));
    let body = json!({"charge": {"amount": 13}, "hold": true});
    refused(&guard.ask_under(&ada, "third", &body), 402, "insufficient_credits");
    // A hold that is not wanted has no time; saying so in full changes nothing.
    let spelled = json!({"charge": {"amount": 1}, "hold": false, "hold_expires_in": 300});
    guard.ask_under(&ada, "fourth", &spelled).expect(200);
    assert!(is_replay(&guard.ask_under(&ada, "fourth", &amount(1)).expect(200)));
    // The same key for a hold and a debit are two.
    let held = json!({"charge": {"amount": 1}, "hold": true});
    assert!(!is_replay(&guard.ask_under(&ada, "fourth", &held).expect(200)));
    books_balance(&server.database);
}
on_both_engines!(a_hold_reserves_and_is_captured_at_the_credits_door);

fn two_hundred_at_once_on_one_credit_are_served_once(engine: Engine) {
    let server = Server::start(engine);
    let mut guard = Guard::of(&server);
    let (ada, id) = signed_up(&server, "ada@example.com");
    guard.backend.grant(&id, 1);
    let callers = |count: usize, key: &(dyn Fn(usize) -> String + Sync)| {
        in_parallel(count, |caller| guard.another().ask_under(&ada, &key(caller), &amount(1)))
    };
    let answers = callers(200, &|caller| format!("key-{caller}"));
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(200), count(402)), (1, 199));
    assert_eq!(count_entries(&server.database, &id, "debit"), 1);
    // Under one key all are served, and one pays.
    guard.another().backend.grant(&id, 1);
    let answers = callers(100, &|_| "one".into());
    let ids: Vec<Value> = answers.iter().map(|answer| answer.json()["charge"]["entry_id"].clone()).collect();
    assert!(
        answers.iter().all(|answer| answer.status == 200) && ids.iter().all(|id| *id == ids[0]),
        "{ids:?}"
    );
    assert_eq!(answers.iter().filter(|answer| !is_replay(answer)).count(), 1);
    assert_eq!(guard.another().backend.balance(&id)["balance"], 0);
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(two_hundred_at_once_on_one_credit_are_served_once);

fn a_replay_pays_nothing_and_judges_the_session_afresh(engine: Engine) {
    let mut server = Server::with(engine, PRICES);
    let mut guard = Guard::of(&server);
    let (mut ada, id) = signed_up(&server, "ada@example.com");
    guard.backend.grant(&id, 10);
    let body = json!({"charge": {"feature": "image.generate"}});
    let first = guard.ask_under(&ada, "once", &body).expect(200).json();
    // Renamed meanwhile, and with more credits: only the charge is that of the first answer.
    ada.post("/api/auth/update-user", json!({"name": "Renamed"})).expect(200);
    guard.backend.grant(&id, 7);
    let spelled = json!({
        "reason": null, "charge": {"quantity": 1, "unit": "credits", "feature": "image.generate"}, "hold": false,
        "user_id": id,
    });
    for body in [&body, &spelled] {
        let again = guard.ask_under(&ada, "once", body).expect(200);
        assert!(is_replay(&again));
        let again = again.json();
        assert_eq!(again["user"]["name"], "Renamed");
        assert_eq!(again["charge"], merged(first["charge"].clone(), json!({"replayed": true})));
    }
    assert_eq!(guard.backend.balance(&id)["balance"], 12);
    for (other, field) in [
        (json!({"charge": {"feature": "image.generate", "quantity": 2}}), "quantity"),
        (amount(5), "amount"),
        (merged(body.clone(), json!({"reason": "why"})), "reason"),
        (merged(body.clone(), json!({"metadata": {"a": 1}})), "metadata"),
    ] {
        let answer = refused(&guard.ask_under(&ada, "once", &other), 409, "idempotency_mismatch");
        assert_eq!(answer["field"], field, "{other}");
    }
    // After a restart, and with other prices.
    let backend = guard.backend.another();
    server.kill();
    server.reconfigure("[credits.features]\n\"image.generate\" = 9\n");
    server.restart();
    let mut guard = Guard { backend };
    let again = guard.ask_under(&ada, "once", &body).expect(200);
    assert!(is_replay(&again));
    assert_eq!(again.json()["charge"]["amount"], 5);
    // Other demands are judged as ever, whatever was paid for.
    let demanding = merged(body.clone(), json!({"role": "admin"}));
    refused(&guard.ask_under(&ada, "once", &demanding), 403, "forbidden");
    let stolen = ada.clone();
    ada.sign_out();
    refused(&guard.ask_under(&stolen, "once", &body), 401, "unauthenticated");
    // In a new session it is the same key of the same user, and another user's is another key.
    ada.sign_in("ada@example.com");
    assert!(is_replay(&guard.ask_under(&ada, "once", &body).expect(200)));
    let (bob, _) = signed_up(&server, "bob@example.com");
    refused(&guard.ask_under(&bob, "once", &body), 402, "insufficient_credits");
    // A refusal is not kept.
    let (carl, carls) = signed_up(&server, "carl@example.com");
    refused(&guard.ask_under(&carl, "later", &amount(3)), 402, "insufficient_credits");
    guard.backend.grant(&carls, 3);
    assert!(!is_replay(&guard.ask_under(&carl, "later", &amount(3)).expect(200)));
    books_balance(&server.database);
}
on_both_engines!(a_replay_pays_nothing_and_judges_the_session_afresh);

/// The same key means the same thing through both doors.
fn keys_are_shared_with_the_credits_door(engine: Engine) {
    let server = Server::with(engine, PRICES);
    let mut guard = Guard::of(&server);
    let (ada, id) = signed_up(&server, "ada@example.com");
    guard.backend.grant(&id, 100);
    let order = json!({"feature": "image.generate", "quantity": 2});
    let at_the_gate = json!({"charge": order, "reason": "r", "metadata": {"b": 1, "a": [2]}});
    let at_the_door = merged(order, json!({"user_id": id, "reason": "r", "metadata": {"a": [2], "b": 1}}));
    let charged = guard.ask_under(&ada, "gate first", &at_the_gate);
    refused(&charged, 422, "invalid_request");
    let charged = guard.ask_under(&ada, "gate-first", &at_the_gate).expect(200).json();
    let again = guard.backend.post("debits", "gate-first", &at_the_door).expect(201);
    assert!(is_replay(&again));
    assert_eq!(again.json()["entry"]["id"], charged["charge"]["entry_id"]);

    let debited = guard.backend.post("debits", "door-first", &at_the_door).expect(201).json();
    let again = guard.ask_under(&ada, "door-first", &at_the_gate).expect(200);
    assert!(is_replay(&again));
    let expected = json!({"entry_id": debited["entry"]["id"], "amount": 10, "unit": "credits", "balance": 80,
        "available": 80, "replayed": true});
    assert_eq!(again.json()["charge"], expected);

    let hold = json!({"user_id": id, "amount": 4, "expires_in": 300});
    let held = guard.backend.post("holds", "hold-first", &hold).expect(201).json();
    let again =
        guard.ask_under(&ada, "hold-first", &json!({"charge": {"amount": 4}, "hold": true})).expect(200);
    assert!(is_replay(&again));
    assert_eq!(again.json()["charge"]["hold_id"], held["hold"]["id"]);
    let other = json!({"charge": {"amount": 4}, "hold": true, "hold_expires_in": 60});
    let answer = refused(&guard.ask_under(&ada, "hold-first", &other), 409, "idempotency_mismatch");
    assert_eq!(answer["field"], "expires_in");
    assert_eq!(guard.backend.balance(&id)["available"], 76);
    books_balance(&server.database);
}
on_both_engines!(keys_are_shared_with_the_credits_door);

/// Two nodes, several sessions of one user, one balance.
fn nodes_and_sessions_share_one_balance(engine: Engine) {
    let first = Server::with(engine, PRICES);
    let second = Server::second_node(&first);
    let guard = Guard::of(&first);
    let (ada, id) = signed_up(&first, "ada@example.com");
    let mut elsewhere = Browser::new(&second);
    elsewhere.sign_in("ada@example.com");
    guard.another().backend.grant(&id, 50);
    let answers = in_parallel(40, |caller| {
        let (mut guard, browser) = match caller % 2 {
            0 => (guard.another(), &ada),
            _ => (guard.at(&second), &elsewhere),
        };
        let body = json!({"charge": {"feature": "image.generate"}, "hold": caller % 4 == 3});
        guard.ask_under(browser, &format!("key-{caller}"), &body).status
    });
    let count = |status: u16| answers.iter().filter(|found| **found == status).count();
    assert_eq!((count(200), count(402)), (10, 30), "{answers:?}");
    assert_eq!(guard.another().backend.balance(&id)["available"], 0);
    books_balance(&first.database);
    ledger_verifies(&first);
}
on_both_engines!(nodes_and_sessions_share_one_balance);

/// The account of a user who is deleted takes nothing more, and the cookie opens nothing.
fn a_deleted_user_neither_passes_nor_pays(engine: Engine) {
    let server = Server::with(engine, "[accounts]\ndelete_user = true\n");
    let mut guard = Guard::of(&server);
    let (mut ada, id) = signed_up(&server, "ada@example.com");
    guard.backend.grant(&id, 5);
    let body = amount(1);
    guard.ask_under(&ada, "paid", &body).expect(200);
    let stolen = ada.clone();
    ada.post("/api/auth/delete-user", json!({})).expect(200);
    for key in ["paid", "new"] {
        refused(&guard.ask_under(&stolen, key, &body), 401, "unauthenticated");
    }
    assert_eq!(count_entries(&server.database, &id, "debit"), 1);
}
on_both_engines!(a_deleted_user_neither_passes_nor_pays);

//! The credits door as HTTP: the shapes of what it answers.

use serde_json::{Value, json};

use crate::harness::credits::{Backend, figures, items, make_user, make_users, post, refused, text};
use crate::harness::{Engine, Server};
use crate::on_both_engines;

const PRICES: &str = "[credits]\nunits = [\"credits\", \"tokens\"]\n\
    features = { \"image.generate\" = 5, \"search\" = { amount = 2, unit = \"tokens\" } }\n\
    models = { \"gpt-x\" = { per = 1000, input = 3, output = 5 } }\nbuy_url = \"https://app.example/buy\"\n";

fn grants_debits_and_refunds_are_answered_in_their_shapes(engine: Engine) {
    let server = Server::with(engine, PRICES);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    let body = json!({
        "user_id": user, "amount": 100, "source": "promo", "reason": "welcome", "priority": 10,
        "expires_at": "2099-01-01T00:00:00+00:00", "metadata": {"b": 1, "a": {"x": [1.5, null]}},
    });
    let granted = post(&mut backend, "grants", body).expect(201).json();
    let grant = &granted["grant"];
    for (name, value) in [
        ("user_id", json!(user)),
        ("unit", json!("credits")),
        ("source", json!("promo")),
        ("amount", json!(100)),
        ("remaining", json!(100)),
        ("held", json!(0)),
        ("expires_at", json!("2099-01-01T00:00:00.000Z")),
        ("priority", json!(10)),
        ("reason", json!("welcome")),
        ("metadata", json!({"a": {"x": [1.5, null]}, "b": 1})),
    ] {
        assert_eq!(grant[name], value, "{name} of {grant}");
    }
    assert_eq!(
        granted["balance"],
        json!({"unit": "credits", "balance": 100, "held": 0, "available": 100, "owed": 0})
    );

    let body = json!({"user_id": user, "feature": "image.generate", "quantity": 3, "reason": "three images"});
    let spent = post(&mut backend, "debits", body).expect(201).json();
    let entry = &spent["entry"];
    for (name, value) in [
        ("kind", json!("debit")),
        ("amount", json!(-15)),
        ("balance_after", json!(85)),
        ("seq", json!(2)),
        ("feature", json!("image.generate")),
        ("price_version", json!(1)),
        ("user_id", json!(user)),
        ("hold_id", Value::Null),
        ("refund_of", Value::Null),
        ("parts", json!([{"grant_id": grant["id"], "amount": -15}])),
    ] {
        assert_eq!(entry[name], value, "{name} of {entry}");
    }
    assert!(text(&entry["actor"]).starts_with("key:"), "{entry}");

    let body = json!({"entry_id": entry["id"], "amount": 10, "reason": "two were black"});
    let back = post(&mut backend, "refunds", body).expect(201).json();
    assert_eq!((&back["entry"]["refund_of"], &back["entry"]["amount"]), (&entry["id"], &json!(10)));
    let again =
        post(&mut backend, "refunds", json!({"entry_id": entry["id"], "amount": 6, "reason": "more"}));
    assert_eq!(refused(&again, 409, "conflict")["refundable"], 5);
    assert_eq!(figures(&back["balance"]), [95, 0, 95, 0]);
}
on_both_engines!(grants_debits_and_refunds_are_answered_in_their_shapes);

fn transfers_floors_and_units_work(engine: Engine) {
    let server = Server::with(engine, PRICES);
    let mut backend = Backend::of(&server);
    let users = make_users(&server, 2);
    backend.grant(&users[0], 50);
    let body =
        json!({"from": {"user_id": users[0]}, "to": {"user_id": users[1]}, "amount": 20, "reason": "a gift"});
    let moved = post(&mut backend, "transfers", body).expect(201).json();
    assert_eq!((&moved["entry"]["kind"], figures(&moved["balance"])), (&json!("transfer"), [30, 0, 30, 0]));
    let spent = backend.debit(&users[1], 20).expect(201).json();
    assert_eq!(figures(&spent["balance"]), [0, 0, 0, 0]);

    let below = json!({"user_id": users[1], "amount": 7, "allow_negative": true});
    let broke = refused(&post(&mut backend, "debits", below.clone()), 402, "insufficient_credits");
    let documented = json!({"balance": 0, "available": 0, "required": 7, "unit": "credits", "buy_url": "https://app.example/buy"});
    for (name, value) in documented.as_object().expect("an object") {
        assert_eq!(&broke[name], value, "{broke}");
    }
    let floor =
        backend.put("accounts", &json!({"user_id": users[1], "negative_floor": -10})).expect(200).json();
    assert_eq!(floor["negative_floor"], -10);
    refused(
        &post(&mut backend, "debits", json!({"user_id": users[1], "amount": 7})),
        402,
        "insufficient_credits",
    );
    let owing = post(&mut backend, "debits", below).expect(201).json();
    assert_eq!(figures(&owing["balance"]), [-7, 0, -7, 7]);
    assert_eq!(owing["entry"]["parts"], json!([{"grant_id": null, "amount": -7}]));
    let accounts = items(&backend.get(&format!("accounts?user_id={}", users[1])).expect(200).json());
    let owed = json!({"unit": "credits", "balance": -7, "held": 0, "available": -7, "owed": 7, "negative_floor": -10});
    assert_eq!(accounts, [owed]);

    // Another unit is another account.
    backend.grant_with(&users[0], 10, json!({"unit": "tokens"}));
    let search =
        post(&mut backend, "debits", json!({"user_id": users[0], "feature": "search"})).expect(201).json();
    assert_eq!((&search["balance"]["unit"], &search["balance"]["balance"]), (&json!("tokens"), &json!(8)));
    let body = json!({"user_id": users[0], "model": "gpt-x", "tokens": {"input": 1500, "output": 100}});
    let tokens = post(&mut backend, "debits", body).expect(201).json();
    assert_eq!(
        (&tokens["entry"]["amount"], &tokens["entry"]["feature"]),
        (&json!(-5), &json!("model:gpt-x"))
    );
}
on_both_engines!(transfers_floors_and_units_work);

//! What the person who is signed in reads of their own credits, and what stays of those who are gone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::credits::{
    Backend, books_balance, figures, fresh_key, items, ledger_verifies, make_users, merged, refused, text,
    wait_until_past,
};
use crate::harness::{Browser, Engine, Server};
use crate::on_both_engines;

const SETTINGS: &str = "[credits]\nunits = [\"credits\", \"tokens\"]\n\
    features = { \"image.generate\" = 5, \"search\" = { amount = 2, unit = \"tokens\" } }\n\
    models = { \"gpt-x\" = { per = 1000, input = 3, output = 5 } }\nlow_balance = { credits = 10 }\n";

/// Member names of all objects in it, but not of what the app itself has stored.
fn names(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|item| names(item, found)),
        Value::Object(members) => {
            for (name, member) in members {
                found.insert(name.clone());
                if name != "metadata" {
                    names(member, found);
                }
            }
        }
        _ => {}
    }
}

fn people_read_their_own_and_nobody_elses(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let mut backend = Backend::of(&server);
    let (mut ada, mut bob) = (Browser::new(&server), Browser::new(&server));
    let adas = text(&ada.sign_up("ada@example.com")["user"]["id"]);
    let bobs = text(&bob.sign_up("bob@example.com")["user"]["id"]);
    for _ in 0..3 {
        backend.grant_with(
            &adas,
            30,
            json!({"expires_at": "2099-01-01T00:00:00Z", "metadata": {"snake_case": 1}}),
        );
    }
    let charge = json!({"user_id": adas, "feature": "image.generate"});
    backend.post("debits", &fresh_key(), &charge).expect(201);
    backend.grant(&bobs, 7);

    let balance = ada.get("/api/auth/credits/balance").expect(200).json();
    assert_eq!(figures(&balance), [85, 0, 85, 0]);
    assert_eq!(balance["grants"][0]["expiresAt"], "2099-01-01T00:00:00.000Z");
    let entries = ada.get("/api/auth/credits/entries?kind=grant&kind=debit&limit=3").expect(200).json();
    assert_eq!(items(&entries).len(), 3);
    let listed = backend.get(&format!("entries?user_id={adas}")).expect(200).json();
    for (own, listed) in items(&entries).iter().zip(items(&listed)) {
        for (camel, snake) in [
            ("id", "id"),
            ("balanceAfter", "balance_after"),
            ("createdAt", "created_at"),
            ("metadata", "metadata"),
        ] {
            assert_eq!(own[camel], listed[snake], "{camel} of {own}");
        }
        assert_eq!(own["parts"][0]["grantId"], listed["parts"][0]["grant_id"]);
    }
    let next = text(&entries["nextCursor"]);
    let rest = ada
        .get(&format!("/api/auth/credits/entries?kind=grant&kind=debit&limit=3&cursor={next}"))
        .expect(200)
        .json();
    assert_eq!((items(&rest).len(), &rest["nextCursor"]), (1, &Value::Null));
    let usage = ada.get("/api/auth/credits/usage?group=feature").expect(200).json();
    assert_eq!(usage["items"], json!([{"feature": "image.generate", "spent": 5, "count": 1}]));
    assert!(usage["burnPerDay"].is_number() && usage["daysLeft"].is_number(), "{usage}");
    let mut found = BTreeSet::new();
    [&balance, &entries, &usage].into_iter().for_each(|body| names(body, &mut found));
    assert!(found.iter().all(|name| !name.contains('_')), "{found:?}");

    // Whomever Bob names, with whatever he has of hers, the answer is about Bob.
    for name in ["userId", "user_id", "owner", "organization_id"] {
        let answer = bob.get(&format!("/api/auth/credits/balance?{name}={adas}")).expect(200).json();
        assert_eq!(figures(&answer), [7, 0, 7, 0]);
        let answer = bob.get(&format!("/api/auth/credits/entries?{name}={adas}")).expect(200).text();
        assert!(!answer.contains(&adas) && !answer.contains("image.generate"), "{answer}");
    }
    bob.get(&format!("/api/auth/credits/entries?kind=grant&kind=debit&cursor={next}"))
        .refused(400, "VALIDATION_ERROR");
    for path in ["balance", "entries", "usage"] {
        Browser::new(&server).get(&format!("/api/auth/credits/{path}")).refused(401, "UNAUTHORIZED");
        ada.post(&format!("/api/auth/credits/{path}"), json!({"amount": 5})).expect(404);
    }
    for query in [
        "balance?unit=gold",
        "balance?at=never",
        "balance?at=2099-01-01T00:00:00Z",
        "entries?limit=0",
        "entries?limit=201",
        "entries?kind=gift",
        "entries?cursor=x",
        "entries?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        "usage?group=week",
        "usage?group=day&group=key",
    ] {
        ada.get(&format!("/api/auth/credits/{query}")).refused(400, "VALIDATION_ERROR");
    }
}
on_both_engines!(people_read_their_own_and_nobody_elses);

fn what_somebody_had_stays_readable_when_they_are_gone(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let mut ada = Browser::new(&server);
    let user = text(&ada.sign_up("ada@example.com")["user"]["id"]);
    backend.grant(&user, 30);
    server.command(&["user", "delete", "ada@example.com", "--yes"]).expect_done();
    assert_eq!(figures(&backend.balance(&user)), [30, 0, 30, 0]);
    assert_eq!(backend.entries(&user).len(), 1);
    ada.get("/api/auth/credits/balance").refused(401, "UNAUTHORIZED");
}
on_both_engines!(what_somebody_had_stays_readable_when_they_are_gone);

/// An account of somebody who is gone can be read, and nothing moves in it but what ends by itself.
fn nothing_moves_for_an_owner_who_is_gone(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let mut backend = Backend::of(&server);
    let users = make_users(&server, 2);
    let (user, other) = (&users[0], &users[1]);
    backend.grant(user, 30);
    backend.grant(other, 5);
    let entry = backend.debit(user, 4).expect(201).json()["entry"]["id"].clone();
    let hold = backend.hold(user, 6);
    let brief = json!({"user_id": user, "amount": 2, "expires_in": 1});
    let brief = backend.post("holds", &fresh_key(), &brief).expect(201).json()["hold"].clone();
    server.command(&["user", "delete", user, "--yes"]).expect_done();
    let before = backend.entries(user);
    let to_them = json!({"from": {"user_id": other}, "to": {"user_id": user}, "amount": 1, "reason": "r"});
    let from_them = json!({"from": {"user_id": user}, "to": {"user_id": other}, "amount": 1, "reason": "r"});
    let grant = json!({"user_id": user, "amount": 1, "source": "paid", "reason": "r"});
    for (path, body) in [
        ("grants", grant.clone()),
        ("grants", merged(grant, json!({"unit": "tokens"}))),
        ("debits", json!({"user_id": user, "amount": 1})),
        ("holds", json!({"user_id": user, "amount": 1, "expires_in": 60})),
        (&format!("holds/{hold}/capture"), json!({})),
        (&format!("holds/{hold}/release"), json!({})),
        (&format!("holds/{hold}/extend"), json!({"expires_in": 60})),
        ("refunds", json!({"entry_id": entry, "reason": "r"})),
        ("transfers", to_them),
        ("transfers", from_them),
    ] {
        refused(&backend.post(path, &fresh_key(), &body), 404, "not_found");
    }
    refused(&backend.put("limits", &json!({"user_id": user, "window": "day", "max": 1})), 404, "not_found");
    refused(&backend.put("accounts", &json!({"user_id": user, "negative_floor": -1})), 404, "not_found");
    wait_until_past(&text(&brief["expires_at"]));
    assert_eq!(figures(&backend.balance(user)), [26, 6, 20, 0]);
    assert_eq!(backend.get(&format!("holds/{hold}")).expect(200).json()["status"], "held");
    assert_eq!(backend.entries(user), before);
    assert_eq!(figures(&backend.balance(other)), [5, 0, 5, 0]);
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(nothing_moves_for_an_owner_who_is_gone);

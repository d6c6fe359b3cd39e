//! The ledger's rules through its door: what may be spent, in which order, what a key protects, what comes back.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::credits::{
    Backend, books_balance, count_entries, figures, fresh_key, in_milliseconds, is_replay, ledger_rows,
    ledger_verifies, make_user, make_users, merged, number, refused, text, wait_until_past,
};
use crate::harness::database::quoted;
use crate::harness::{Engine, Request, Server, in_parallel};
use crate::on_both_engines;

const DAY: i64 = 24 * 3_600 * 1_000;

/// Grant and amount of each part of an entry.
fn parts(entry: &Value) -> Vec<(String, i64)> {
    let parts = entry["parts"].as_array().unwrap_or_else(|| panic!("no parts in {entry}"));
    parts.iter().map(|part| (text(&part["grant_id"]), number(&part["amount"]))).collect()
}

fn counted(statuses: impl IntoIterator<Item = u16>) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for status in statuses {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

// ---- Spending ----

fn a_thousand_concurrent_debits_spend_a_hundred_credits_exactly(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 100);
    let next = AtomicUsize::new(0);
    let statuses = in_parallel(32, |_| {
        let mut caller = backend.another();
        let mut statuses = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < 1_000 {
            let answer = caller.debit(&user, 1);
            if answer.status == 402 {
                let body = refused(&answer, 402, "insufficient_credits");
                assert_eq!((&body["required"], &body["unit"]), (&json!(1), &json!("credits")), "{body}");
                assert!(body["balance"].is_i64() && body["available"].is_i64(), "{body}");
            }
            statuses.push(answer.status);
        }
        statuses
    });
    assert_eq!(counted(statuses.into_iter().flatten()), BTreeMap::from([(201, 100), (402, 900)]));
    assert_eq!(figures(&backend.balance(&user)), [0, 0, 0, 0]);
    assert_eq!(count_entries(&server.database, &user, "debit"), 100);
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(a_thousand_concurrent_debits_spend_a_hundred_credits_exactly);

fn lots_are_spent_by_end_then_gifts_before_plans_before_bought_ones(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    let mut grant = |more: Value| text(&backend.grant_with(&user, 10, more)["grant"]["id"]);
    let paid = grant(json!({"source": "paid"}));
    let plan = grant(json!({"source": "plan", "expires_at": in_milliseconds(30 * DAY)}));
    let promo = grant(json!({"source": "promo", "expires_at": in_milliseconds(DAY)}));
    let gift = grant(json!({"source": "promo"}));
    let late = grant(json!({"source": "promo", "expires_at": in_milliseconds(DAY), "priority": 51}));
    let first = grant(json!({"source": "paid", "priority": 0}));
    let order = [first, promo, plan, gift, paid, late];
    let debited = backend.debit(&user, 55).expect(201).json();
    let expected: Vec<(String, i64)> =
        order.iter().zip([10, 10, 10, 10, 10, 5]).map(|(id, amount)| (id.clone(), -amount)).collect();
    assert_eq!(parts(&debited["entry"]), expected);
    assert_eq!(debited["entry"]["amount"], -55);
    assert_eq!(figures(&debited["balance"]), [5, 0, 5, 0]);
    books_balance(&server.database);
}
on_both_engines!(lots_are_spent_by_end_then_gifts_before_plans_before_bought_ones);

fn three_lots_pay_a_debit_in_burn_down_order(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    let mut grant = |more: Value| text(&backend.grant_with(&user, 10, more)["grant"]["id"]);
    let promo = grant(json!({"source": "promo", "expires_at": in_milliseconds(DAY)}));
    let paid = grant(json!({"source": "paid"}));
    let plan = grant(json!({"source": "plan", "expires_at": in_milliseconds(30 * DAY)}));
    let debited = backend.debit(&user, 25).expect(201).json();
    assert_eq!(parts(&debited["entry"]), [(promo, -10), (plan, -10), (paid, -5)]);
}
on_both_engines!(three_lots_pay_a_debit_in_burn_down_order);

/// More lots than are read at once.
fn two_hundred_small_lots_pay_one_debit_in_their_order(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    let lots: Vec<String> = (0..200).map(|_| text(&backend.grant(&user, 2)["grant"]["id"])).collect();
    let debited = backend.debit(&user, 399).expect(201).json();
    let paid = parts(&debited["entry"]);
    assert_eq!(paid.iter().map(|(id, _)| id).collect::<Vec<_>>(), lots.iter().collect::<Vec<_>>());
    assert_eq!(paid.iter().map(|(_, amount)| amount).sum::<i64>(), -399);
    refused(&backend.debit(&user, 2), 402, "insufficient_credits");
    backend.debit(&user, 1).expect(201);
    books_balance(&server.database);
}
on_both_engines!(two_hundred_small_lots_pay_one_debit_in_their_order);

fn an_expired_lot_is_never_counted(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let [read_first, spent_first] = &make_users(&server, 2)[..] else { panic!("two were made") };
    let end = in_milliseconds(2_000);
    for user in [read_first, spent_first] {
        backend.grant_with(user, 10, json!({"expires_at": end}));
        backend.grant(user, 3);
    }
    wait_until_past(&end);
    assert_eq!(figures(&backend.balance(read_first)), [3, 0, 3, 0]);
    for user in [read_first, spent_first] {
        let body = refused(&backend.debit(user, 4), 402, "insufficient_credits");
        assert_eq!((number(&body["balance"]), number(&body["available"])), (3, 3));
        let debited = backend.debit(user, 3).expect(201).json();
        assert_eq!(figures(&debited["balance"]), [0, 0, 0, 0]);
        let entries = backend.entries(user);
        let expiries: Vec<&Value> = entries.iter().filter(|entry| entry["kind"] == "expiry").collect();
        let [expiry] = expiries[..] else { panic!("one lot has ended: {entries:?}") };
        assert_eq!((&expiry["amount"], &expiry["created_at"]), (&json!(-10), &json!(end)), "{expiry}");
        assert_eq!(expiry["actor"], "system");
    }
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(an_expired_lot_is_never_counted);

fn what_is_owed_is_paid_by_the_next_grant(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 10);
    backend.put("accounts", &json!({"user_id": user, "unit": "credits", "negative_floor": -20})).expect(200);
    let mut debit = |amount: i64, negative: bool| {
        let body = json!({"user_id": user, "amount": amount, "allow_negative": negative});
        backend.post("debits", &fresh_key(), &body)
    };
    refused(&debit(11, false), 402, "insufficient_credits");
    refused(&debit(31, true), 402, "insufficient_credits");
    let debited = debit(25, true).expect(201).json();
    assert_eq!(figures(&debited["balance"]), [-15, 0, -15, 15]);
    assert_eq!(debited["entry"]["parts"][1], json!({"grant_id": null, "amount": -15}));
    let granted = backend.grant(&user, 40);
    assert_eq!(figures(&granted["balance"]), [25, 0, 25, 0]);
    assert_eq!(granted["grant"]["remaining"], 25);
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(what_is_owed_is_paid_by_the_next_grant);

// ---- Keys ----

fn one_key_is_one_debit_however_often_it_is_sent_at_once(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 10);
    let body = json!({"user_id": user, "amount": 3, "reason": "a picture", "metadata": {"size": 1}});
    let answers = in_parallel(50, |_| backend.another().post("debits", "the-key", &body).expect(201));
    assert_eq!(answers.iter().filter(|answer| is_replay(answer)).count(), 49);
    assert!(answers.iter().all(|answer| answer.body == answers[0].body), "{answers:?}");
    assert_eq!(figures(&backend.balance(&user)), [7, 0, 7, 0]);
    assert_eq!(count_entries(&server.database, &user, "debit"), 1);

    // Written otherwise, meant the same.
    let same = format!(
        r#" {{ "metadata": {{"size": 1}}, "amount": 3, "unit": "credits", "allow_negative": false,
              "reason": "a picture", "user_id": "{user}" }} "#
    );
    let request = Request::new("POST", "/api/credits/debits")
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", "the-key")
        .body(same);
    let again = backend.send(request).expect(201);
    assert!(is_replay(&again) && again.body == answers[0].body, "{}", again.text());

    for (field, changed) in [
        ("amount", json!({"amount": 4})),
        ("reason", json!({"reason": "another"})),
        ("metadata", json!({"metadata": {"size": 2}})),
        ("allow_negative", json!({"allow_negative": true})),
    ] {
        let other = backend.post("debits", "the-key", &merged(body.clone(), changed));
        assert_eq!(refused(&other, 409, "idempotency_mismatch")["field"], field);
    }
    assert_eq!(figures(&backend.balance(&user)), [7, 0, 7, 0]);
    books_balance(&server.database);
}
on_both_engines!(one_key_is_one_debit_however_often_it_is_sent_at_once);

fn a_key_belongs_to_one_owner_and_one_operation(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let users = make_users(&server, 2);
    for user in &users {
        let grant = json!({"user_id": user, "amount": 10, "source": "paid", "reason": "a test"});
        let spend = json!({"user_id": user, "amount": 4});
        let hold = json!({"user_id": user, "amount": 5, "expires_in": 60});
        for (path, body) in [("grants", grant), ("debits", spend), ("holds", hold)] {
            assert!(!is_replay(&backend.post(path, "one", &body).expect(201)), "{path}");
            assert!(is_replay(&backend.post(path, "one", &body).expect(201)), "{path}");
        }
        assert_eq!(figures(&backend.balance(user)), [6, 5, 1, 0]);
    }
    books_balance(&server.database);
}
on_both_engines!(a_key_belongs_to_one_owner_and_one_operation);

fn a_refusal_is_not_kept_under_its_key(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 5);
    let body = json!({"user_id": user, "amount": 7});
    refused(&backend.post("debits", "seven", &body), 402, "insufficient_credits");
    backend.grant(&user, 10);
    let done = backend.post("debits", "seven", &body).expect(201);
    assert!(!is_replay(&done));
    let third = backend.post("debits", "seven", &body).expect(201);
    assert!(is_replay(&third) && third.body == done.body, "{}", third.text());
    assert_eq!(figures(&backend.balance(&user)), [8, 0, 8, 0]);
}
on_both_engines!(a_refusal_is_not_kept_under_its_key);

/// A capture's key is a key for that hold.
fn the_key_of_a_capture_names_its_hold(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 100);
    let (one, two) = (backend.hold(&user, 10), backend.hold(&user, 20));
    let first = backend.post(&format!("holds/{one}/capture"), "capture", &json!({})).expect(200);
    let again = backend.post(&format!("holds/{one}/capture"), "capture", &json!({})).expect(200);
    assert!(is_replay(&again) && again.body == first.body, "{}", again.text());
    let other = backend.post(&format!("holds/{two}/capture"), "capture", &json!({}));
    assert_eq!(refused(&other, 409, "idempotency_mismatch")["field"], "hold_id");
    assert_eq!(figures(&backend.balance(&user)), [90, 20, 70, 0]);
}
on_both_engines!(the_key_of_a_capture_names_its_hold);

// ---- What is no request ----

const PRICES: &str = "[credits]\nunits = [\"credits\", \"tokens\"]\nfeatures = { \"image\" = 5, \"text\" = { amount = 2, unit = \"tokens\" } }\n";

fn bad_input_is_refused_by_its_field_and_leaves_no_row(engine: Engine) {
    let server = Server::with(engine, PRICES);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    let debit = |members: &str| format!(r#"{{"user_id": "{user}"{members}}}"#);
    let amounts = [
        "0",
        "-1",
        "0.5",
        "5.0",
        "9223372036854775808",
        "9007199254740992",
        "1e3",
        "\"1e3\"",
        "\"5\"",
        "null",
    ];
    let mut bad: Vec<(&str, String, &str)> = amounts
        .iter()
        .map(|amount| ("debits", debit(&format!(r#", "amount": {amount}"#)), "amount"))
        .collect();
    let of_nobody = r#"{"amount": 1}"#.to_owned();
    let both = format!(r#"{{"user_id": "{user}", "organization_id": "o", "amount": 1}}"#);
    for (members, field) in [
        ("", "amount"),
        (r#", "amount": 1, "feature": "image""#, "feature"),
        (r#", "amount": 1, "unit": "gold""#, "unit"),
        (r#", "feature": "video""#, "feature"),
        (r#", "feature": "image", "quantity": 0"#, "quantity"),
        (r#", "feature": "image", "quantity": 1.5"#, "quantity"),
        (r#", "amount": 1, "surprise": true"#, "surprise"),
        (r#", "amount": 1, "metadata": 7"#, "metadata"),
        (r#", "amount": 1, "allow_negative": "yes""#, "allow_negative"),
        (r#", "amount": 1, "reason": 7"#, "reason"),
    ] {
        bad.push(("debits", debit(members), field));
    }
    bad.push(("debits", of_nobody, "user_id"));
    bad.push(("debits", both, "organization_id"));
    for (members, field) in [
        (r#", "amount": 1, "reason": "r""#, "source"),
        (r#", "amount": 1, "source": "luck", "reason": "r""#, "source"),
        (r#", "amount": 1, "source": "paid""#, "reason"),
        (r#", "amount": 1, "source": "paid", "reason": "r", "priority": 101"#, "priority"),
        (r#", "amount": 1, "source": "paid", "reason": "r", "expires_at": "soon""#, "expires_at"),
        (
            r#", "amount": 1, "source": "paid", "reason": "r", "expires_at": "2020-01-01T00:00:00.000Z""#,
            "expires_at",
        ),
        (r#", "amount": 0, "source": "paid", "reason": "r""#, "amount"),
    ] {
        bad.push(("grants", debit(members), field));
    }
    for (members, field) in [
        (r#", "amount": 1"#, "expires_in"),
        (r#", "amount": 1, "expires_in": 0"#, "expires_in"),
        (r#", "amount": 1, "expires_in": 86401"#, "expires_in"),
    ] {
        bad.push(("holds", debit(members), field));
    }
    for (path, body, field) in bad {
        let request = Request::new("POST", &format!("/api/credits/{path}"))
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", "bad")
            .body(body.clone());
        let answer = backend.send(request);
        assert_eq!(answer.status, 422, "{path} {body}: {}", answer.text());
        let named = refused(&answer, 422, "invalid_request")["field"].clone();
        if field == "user_id" || field == "feature" || field == "organization_id" {
            // Of two that exclude each other either may be named.
            assert!(named.is_string(), "{path} {body}: {}", answer.text());
        } else {
            assert_eq!(named, field, "{path} {body}");
        }
    }
    let nobody = backend.post("debits", "bad", &json!({"user_id": "nobody", "amount": 1}));
    refused(&nobody, 404, "not_found");
    for table in ["credit_entries", "credit_accounts", "credit_keys", "credit_lots", "credit_holds"] {
        assert_eq!(server.database.integer(&format!("SELECT COUNT(*) FROM {table}")), 0, "{table}");
    }
}
on_both_engines!(bad_input_is_refused_by_its_field_and_leaves_no_row);

fn what_moves_credits_wants_a_key(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    let entry = text(&backend.grant(&user, 50)["entry"]["id"]);
    let hold = backend.hold(&user, 10);
    let before = ledger_rows(&server.database);
    let (capture, release) = (format!("holds/{hold}/capture"), format!("holds/{hold}/release"));
    let grant = json!({"user_id": user, "amount": 1, "source": "paid", "reason": "r"});
    let long = "k".repeat(256);
    for (path, body) in [
        ("grants", grant),
        ("debits", json!({"user_id": user, "amount": 1})),
        ("debits/batch", json!({"debits": [{"user_id": user, "amount": 1}]})),
        ("holds", json!({"user_id": user, "amount": 1, "expires_in": 60})),
        (&capture, json!({})),
        (&release, json!({})),
        ("refunds", json!({"entry_id": entry, "reason": "r"})),
    ] {
        let keys = [None, Some(""), Some(long.as_str()), Some("a b"), Some("k\u{e9}y")];
        for key in if path == "debits/batch" { &keys[..1] } else { &keys[..] } {
            let answer = backend.try_post(path, *key, &body).expect("an answer");
            if path == "debits/batch" && answer.status == 200 {
                assert_eq!(answer.json()["results"][0]["status"], 422, "{}", answer.text());
            } else {
                refused(&answer, 422, "invalid_request");
            }
        }
    }
    assert_eq!(ledger_rows(&server.database), before);
}
on_both_engines!(what_moves_credits_wants_a_key);

fn a_key_that_may_only_read_spends_nothing(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 10);
    let made = server
        .command(&["key", "create", "reader", "--scopes", "credits:read", "--json"])
        .expect_done()
        .json();
    let mut reader = Backend::with_key(&server, &text(&made["key"]));
    assert_eq!(figures(&reader.balance(&user)), [10, 0, 10, 0]);
    refused(&reader.debit(&user, 1), 403, "forbidden");
    let mut nobody = Backend::with_key(&server, "tg_sk_0000000000000000000000000000000000000000000");
    refused(&nobody.debit(&user, 1), 401, "invalid_service_key");
    assert_eq!(figures(&backend.balance(&user)), [10, 0, 10, 0]);
}
on_both_engines!(a_key_that_may_only_read_spends_nothing);

// ---- Holds ----

fn a_second_hold_finds_only_what_is_available(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 100);
    backend.hold(&user, 60);
    let body = json!({"user_id": user, "amount": 60, "expires_in": 60});
    let refusal = refused(&backend.post("holds", &fresh_key(), &body), 402, "insufficient_credits");
    assert_eq!((number(&refusal["balance"]), number(&refusal["available"])), (100, 40));
    refused(&backend.debit(&user, 41), 402, "insufficient_credits");
    assert_eq!(figures(&backend.balance(&user)), [100, 60, 40, 0]);
    books_balance(&server.database);
}
on_both_engines!(a_second_hold_finds_only_what_is_available);

fn a_partial_capture_frees_the_rest_into_its_lots_at_once(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    let promo = text(
        &backend.grant_with(&user, 30, json!({"source": "promo", "expires_at": in_milliseconds(DAY)}))["grant"]
            ["id"],
    );
    let paid = text(&backend.grant(&user, 70)["grant"]["id"]);
    let hold = backend.hold(&user, 60);
    let captured = backend.post(&format!("holds/{hold}/capture"), &fresh_key(), &json!({"amount": 45}));
    let captured = captured.expect(200).json();
    assert_eq!(
        (&captured["hold"]["status"], &captured["hold"]["captured"]),
        (&json!("captured"), &json!(45))
    );
    assert_eq!(
        (&captured["entry"]["kind"], &captured["entry"]["hold_id"]),
        (&json!("capture"), &json!(hold))
    );
    assert_eq!(parts(&captured["entry"]), [(promo, -30), (paid.clone(), -15)]);
    assert_eq!(figures(&captured["balance"]), [55, 0, 55, 0]);
    let balance = backend.balance(&user);
    let left: Vec<(String, i64)> = balance["grants"]
        .as_array()
        .expect("grants")
        .iter()
        .map(|grant| (text(&grant["id"]), number(&grant["remaining"])))
        .collect();
    assert_eq!(left, [(paid, 55)]);
    let again = backend.post(&format!("holds/{hold}/capture"), &fresh_key(), &json!({}));
    refused(&again, 409, "conflict");
    books_balance(&server.database);
}
on_both_engines!(a_partial_capture_frees_the_rest_into_its_lots_at_once);

fn one_of_a_hundred_captures_and_releases_ends_a_hold(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 100);
    let hold = backend.hold(&user, 60);
    let answers = in_parallel(100, |number| {
        let operation = if number.is_multiple_of(2) { "capture" } else { "release" };
        let path = format!("holds/{hold}/{operation}");
        (operation, backend.another().post(&path, &fresh_key(), &json!({})))
    });
    let winners: Vec<&str> =
        answers.iter().filter(|(_, answer)| answer.status == 200).map(|(operation, _)| *operation).collect();
    let [winner] = winners[..] else { panic!("{} have ended it", winners.len()) };
    for (_, answer) in answers.iter().filter(|(_, answer)| answer.status != 200) {
        refused(answer, 409, "conflict");
    }
    let expected = if winner == "capture" { [40, 0, 40, 0] } else { [100, 0, 100, 0] };
    assert_eq!(figures(&backend.balance(&user)), expected);
    assert_eq!(count_entries(&server.database, &user, "capture"), i64::from(winner == "capture"));
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(one_of_a_hundred_captures_and_releases_ends_a_hold);

enum Capture {
    Spends(i64),
    Refused(u16, &'static str),
}

fn a_capture_above_the_hold_follows_its_policy(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    // Policy and amount; what is spent, or the refusal.
    let cases = [
        (json!({}), 60, Capture::Spends(60)),
        (json!({}), 90, Capture::Refused(409, "conflict")),
        (json!({"above": "refuse"}), 61, Capture::Refused(409, "conflict")),
        (json!({"above": "cap"}), 90, Capture::Spends(60)),
        (json!({"above": "balance"}), 90, Capture::Spends(90)),
        (json!({"above": "balance"}), 101, Capture::Refused(402, "insufficient_credits")),
        (json!({"above": "floor"}), 90, Capture::Spends(90)),
        (json!({"above": "floor"}), 120, Capture::Spends(120)),
        (json!({"above": "floor"}), 130, Capture::Refused(402, "insufficient_credits")),
    ];
    for ((policy, amount, expected), user) in cases.into_iter().zip(make_users(&server, 9)) {
        backend.grant(&user, 100);
        let floor = json!({"user_id": user, "unit": "credits", "negative_floor": -20});
        backend.put("accounts", &floor).expect(200);
        let hold = backend.hold(&user, 60);
        let body = merged(json!({"amount": amount}), policy.clone());
        let path = format!("holds/{hold}/capture");
        let answer = backend.post(&path, &fresh_key(), &body);
        match expected {
            Capture::Spends(spent) => {
                let captured = answer.expect(200).json();
                let (entry, hold) = (&captured["entry"], &captured["hold"]);
                assert_eq!(
                    (number(&entry["amount"]), number(&hold["captured"])),
                    (-spent, spent),
                    "{policy}"
                );
                let left = 100 - spent;
                assert_eq!(
                    figures(&captured["balance"]),
                    [left, 0, left, (-left).max(0)],
                    "{policy} {amount}"
                );
            }
            Capture::Refused(status, code) => {
                refused(&answer, status, code);
                assert_eq!(figures(&backend.balance(&user)), [100, 60, 40, 0], "{policy} {amount}");
                backend.post(&path, &fresh_key(), &json!({})).expect(200);
            }
        }
    }
    let rich = make_user(&server);
    backend.grant(&rich, 10);
    let hold = backend.hold(&rich, 1);
    let odd = backend.post(&format!("holds/{hold}/capture"), &fresh_key(), &json!({"above": "all"}));
    assert_eq!(refused(&odd, 422, "invalid_request")["field"], "above");
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(a_capture_above_the_hold_follows_its_policy);

/// What is held of a lot that has ended can still be spent; what is not spent of it is written off.
fn a_held_part_outlives_its_lot_until_the_hold_ends(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let users = make_users(&server, 2);
    let end = in_milliseconds(2_000);
    let holds: Vec<String> = users
        .iter()
        .map(|user| {
            backend.grant_with(user, 10, json!({"expires_at": end}));
            backend.hold(user, 6)
        })
        .collect();
    wait_until_past(&end);
    for user in &users {
        assert_eq!(figures(&backend.balance(user)), [6, 6, 0, 0]);
    }
    let captured = backend.post(&format!("holds/{}/capture", holds[0]), &fresh_key(), &json!({"amount": 4}));
    let captured = captured.expect(200).json();
    assert_eq!(captured["entry"]["amount"], -4);
    assert_eq!(figures(&captured["balance"]), [0, 0, 0, 0]);
    let released = backend.post(&format!("holds/{}/release", holds[1]), &fresh_key(), &json!({}));
    assert_eq!(figures(&released.expect(200).json()["balance"]), [0, 0, 0, 0]);
    for user in &users {
        assert_eq!(count_entries(&server.database, user, "expiry"), 2);
    }
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(a_held_part_outlives_its_lot_until_the_hold_ends);

fn a_hold_ends_by_itself_and_can_be_extended(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 100);
    let mut hold = |amount: i64| {
        let body = json!({"user_id": user, "amount": amount, "expires_in": 2});
        let made = backend.post("holds", &fresh_key(), &body).expect(201).json();
        (text(&made["hold"]["id"]), text(&made["hold"]["expires_at"]))
    };
    let ((kept, first_end), (left, end)) = (hold(20), hold(30));
    let extended = backend.try_post(&format!("holds/{kept}/extend"), None, &json!({"expires_in": 3_600}));
    let extended = extended.expect("an answer").expect(200).json();
    assert_eq!((&extended["hold"]["id"], &extended["hold"]["status"]), (&json!(kept), &json!("held")));
    wait_until_past(&first_end);
    wait_until_past(&end);
    assert_eq!(figures(&backend.balance(&user)), [100, 20, 80, 0]);
    assert_eq!(backend.get(&format!("holds/{left}")).expect(200).json()["status"], "expired");
    for operation in ["capture", "release"] {
        let late = backend.post(&format!("holds/{left}/{operation}"), &fresh_key(), &json!({}));
        refused(&late, 409, "conflict");
    }
    refused(
        &backend
            .try_post(&format!("holds/{left}/extend"), None, &json!({"expires_in": 60}))
            .expect("an answer"),
        409,
        "conflict",
    );
    backend.post(&format!("holds/{kept}/capture"), &fresh_key(), &json!({})).expect(200);
    assert_eq!(figures(&backend.balance(&user)), [80, 0, 80, 0]);
    books_balance(&server.database);
}
on_both_engines!(a_hold_ends_by_itself_and_can_be_extended);

// ---- Limits ----

fn a_day_limit_names_the_cap_that_it_meets(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 1_000);
    let limit = json!({"user_id": user, "unit": "credits", "window": "day", "max": 50});
    backend.put("limits", &limit).expect(200);
    let first = text(&backend.debit(&user, 20).expect(201).json()["entry"]["id"]);
    let hold = backend.hold(&user, 20);
    let third = backend.debit(&user, 20);
    let body = refused(&third, 429, "limit_reached");
    let expected = json!({"scope": "user", "id": user, "window": "day", "max": 50, "used": 40});
    assert_eq!(body["limit"], expected, "{body}");
    assert!(body["resets_at"].as_str().is_some_and(|at| at.ends_with("T00:00:00.000Z")), "{body}");
    let seconds = third.header("Retry-After").and_then(|text| text.parse::<i64>().ok());
    assert!(seconds.is_some_and(|seconds| (1..=24 * 3_600).contains(&seconds)), "{third:?}");
    backend.debit(&user, 10).expect(201);
    refused(&backend.debit(&user, 1), 429, "limit_reached");
    // What comes back may be spent again.
    backend.post("refunds", &fresh_key(), &json!({"entry_id": first, "reason": "broken"})).expect(201);
    backend.post(&format!("holds/{hold}/release"), &fresh_key(), &json!({})).expect(200);
    backend.debit(&user, 40).expect(201);
    refused(&backend.debit(&user, 1), 429, "limit_reached");
    let lifted = merged(limit, json!({"max": null}));
    backend.put("limits", &lifted).expect(200);
    backend.debit(&user, 100).expect(201);
    books_balance(&server.database);
}
on_both_engines!(a_day_limit_names_the_cap_that_it_meets);

// ---- Refunds ----

fn refunds_never_give_back_more_than_was_taken(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    let promo = backend.grant_with(&user, 12, json!({"expires_at": in_milliseconds(DAY)}));
    let promo = text(&promo["grant"]["id"]);
    let granted = backend.grant(&user, 100);
    let (paid, grant_entry) = (text(&granted["grant"]["id"]), text(&granted["entry"]["id"]));
    let entry = text(&backend.debit(&user, 30).expect(201).json()["entry"]["id"]);
    let mut refund = |key: &str, entry: &str, amount: Value| {
        backend.post("refunds", key, &merged(json!({"entry_id": entry, "reason": "broken"}), amount))
    };
    let first = refund("first", &entry, json!({"amount": 20})).expect(201);
    let body = first.json();
    assert_eq!(parts(&body["entry"]), [(paid, 18), (promo.clone(), 2)]);
    assert_eq!((&body["entry"]["kind"], &body["entry"]["refund_of"]), (&json!("refund"), &json!(entry)));
    assert_eq!(figures(&body["balance"]), [102, 0, 102, 0]);
    let again = refund("first", &entry, json!({"amount": 20})).expect(201);
    assert!(is_replay(&again) && again.body == first.body, "{}", again.text());
    let second = refund("second", &entry, json!({"amount": 20}));
    assert_eq!(refused(&second, 409, "conflict")["refundable"], 10);
    let rest = refund("second", &entry, json!({})).expect(201).json();
    assert_eq!(parts(&rest["entry"]), [(promo, 10)]);
    assert_eq!(figures(&rest["balance"]), [112, 0, 112, 0]);
    let nothing = refund("third", &entry, json!({}));
    assert_eq!(refused(&nothing, 409, "conflict")["refundable"], 0);
    let of_a_grant = refund("fourth", &grant_entry, json!({}));
    assert_eq!(refused(&of_a_grant, 422, "invalid_request")["field"], "entry_id");
    refused(&refund("fifth", &format!("{entry}0"), json!({})), 404, "not_found");
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(refunds_never_give_back_more_than_was_taken);

fn a_refund_into_an_ended_lot_is_written_off_at_once(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    let end = in_milliseconds(2_000);
    backend.grant_with(&user, 10, json!({"expires_at": end}));
    backend.grant(&user, 10);
    let entry = text(&backend.debit(&user, 15).expect(201).json()["entry"]["id"]);
    wait_until_past(&end);
    let body = json!({"entry_id": entry, "reason": "broken"});
    let refunded = backend.post("refunds", &fresh_key(), &body).expect(201).json();
    assert_eq!(refunded["entry"]["amount"], 15);
    assert_eq!(figures(&refunded["balance"]), [10, 0, 10, 0]);
    let kinds: Vec<String> = backend.entries(&user).iter().map(|entry| text(&entry["kind"])).collect();
    assert_eq!(kinds, ["grant", "grant", "debit", "refund", "expiry"]);
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(a_refund_into_an_ended_lot_is_written_off_at_once);

// ---- Batches ----

fn a_batch_does_all_or_each_of_its_debits(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let users = make_users(&server, 100);
    for user in &users {
        backend.grant(user, if user == &users[41] { 1 } else { 5 });
    }
    let debits: Vec<Value> = users
        .iter()
        .map(|user| json!({"user_id": user, "amount": 2, "idempotency_key": format!("batch-{user}")}))
        .collect();
    let before = ledger_rows(&server.database);
    let mut batch = |atomic: bool, debits: &[Value]| {
        let body = json!({"debits": debits, "atomic": atomic});
        let answer = backend.try_post("debits/batch", None, &body).expect("an answer").expect(200).json();
        answer["results"].as_array().expect("results").clone()
    };
    let none = batch(true, &debits);
    assert_eq!(none.len(), 100);
    for (at, result) in none.iter().enumerate() {
        let (status, code) = if at == 41 { (402, "insufficient_credits") } else { (409, "conflict") };
        assert_eq!((&result["status"], &result["error"]["error_code"]), (&json!(status), &json!(code)));
        assert!(result["entry"].is_null(), "{result}");
    }
    assert_eq!(ledger_rows(&server.database), before, "an atomic batch that was refused left a row");
    let each = batch(false, &debits);
    let statuses = each.iter().map(|result| result["status"].as_u64().unwrap_or_default() as u16);
    assert_eq!(counted(statuses), BTreeMap::from([(201, 99), (402, 1)]));
    assert_eq!(each[41]["status"], 402);
    assert_eq!(each[0]["entry"]["user_id"], users[0].as_str());
    let again = batch(false, &debits);
    for (first, second) in each.iter().zip(&again).filter(|(first, _)| first["status"] == 201) {
        assert_eq!((&second["status"], &second["replayed"]), (&json!(201), &json!(true)), "{second}");
        assert_eq!(first["entry"], second["entry"]);
    }
    let sum = "SELECT CAST(SUM(amount) AS BIGINT) FROM credit_entries WHERE kind = 'debit'";
    assert_eq!(server.database.integer(sum), -198);
    let all = batch(true, &[debits[0].clone(), merged(debits[1].clone(), json!({"idempotency_key": "new"}))]);
    assert_eq!((&all[0]["replayed"], &all[1]["status"]), (&json!(true), &json!(201)), "{all:?}");
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(a_batch_does_all_or_each_of_its_debits);

fn items_of_a_batch_are_judged_as_single_calls_are(engine: Engine) {
    let server = Server::with(engine, PRICES);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 10);
    let item = |key: &str, more: Value| merged(json!({"user_id": user, "idempotency_key": key}), more);
    let debits = [
        item("one", json!({"amount": 2})),
        item("one", json!({"amount": 2})),
        item("one", json!({"amount": 3})),
        item("bad", json!({"amount": 0})),
        item("poor", json!({"amount": 100})),
        item("image", json!({"feature": "image"})),
        json!({"user_id": "nobody", "amount": 1, "idempotency_key": "nobody"}),
    ];
    let answer = backend.try_post("debits/batch", None, &json!({"debits": debits})).expect("an answer");
    let results = answer.expect(200).json()["results"].clone();
    let statuses: Vec<u64> =
        results.as_array().expect("results").iter().filter_map(|result| result["status"].as_u64()).collect();
    assert_eq!(statuses, [201, 201, 409, 422, 402, 201, 404], "{results}");
    assert_eq!((&results[1]["replayed"], &results[1]["entry"]), (&json!(true), &results[0]["entry"]));
    assert_eq!(results[2]["error"]["error_code"], "idempotency_mismatch");
    assert_eq!(results[2]["error"]["field"], "debits[2].amount");
    assert_eq!(results[3]["error"]["field"], "debits[3].amount");
    assert_eq!(
        (&results[5]["entry"]["feature"], &results[5]["entry"]["amount"]),
        (&json!("image"), &json!(-5))
    );
    assert_eq!(figures(&backend.balance(&user)), [3, 0, 3, 0]);
    let single = backend.post("debits", "one", &json!({"user_id": user, "amount": 2})).expect(201);
    assert!(is_replay(&single) && single.json()["entry"] == results[0]["entry"], "{}", single.text());
    for count in [0, 1_001] {
        let debits = vec![item("many", json!({"amount": 1})); count];
        let refusal = backend.try_post("debits/batch", None, &json!({"debits": debits})).expect("an answer");
        assert_eq!(refused(&refusal, 422, "invalid_request")["field"], "debits");
    }
    books_balance(&server.database);
}
on_both_engines!(items_of_a_batch_are_judged_as_single_calls_are);

// ---- What can be proved ----

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

// ---- Prices ----

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

// ---- By hand ----

fn an_adjustment_wants_a_reason_and_says_who_made_it(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    let without = server.command(&["credits", "adjust", &user, "5"]);
    assert_eq!(without.code, Some(2), "{without:?}");
    let empty = server.command(&["credits", "adjust", &user, "5", "--reason", ""]);
    assert!(matches!(empty.code, Some(1 | 2)), "{empty:?}");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM credit_entries"), 0);
    for (amount, reason) in [("5", "a gift"), ("-2", "a mistake")] {
        server.command(&["credits", "adjust", &user, amount, "--reason", reason, "--json"]).expect_done();
    }
    let entries = backend.entries(&user);
    let told: Vec<(i64, String)> =
        entries.iter().map(|entry| (number(&entry["amount"]), text(&entry["reason"]))).collect();
    assert_eq!(told, [(5, "a gift".to_owned()), (-2, "a mistake".to_owned())]);
    for entry in &entries {
        assert_eq!(entry["kind"], "adjustment");
        assert!(text(&entry["actor"]).starts_with("operator:"), "{entry}");
    }
    assert_eq!(figures(&backend.balance(&user)), [3, 0, 3, 0]);
    // The app's backend has no door to it.
    let body = json!({"user_id": user, "amount": 5, "reason": "a gift"});
    refused(&backend.post("adjustments", &fresh_key(), &body), 404, "not_found");
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(an_adjustment_wants_a_reason_and_says_who_made_it);

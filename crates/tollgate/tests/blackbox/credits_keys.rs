//! Idempotency keys: one key is one effect and one answer, and belongs to one request.

use serde_json::{Value, json};

use crate::harness::credits::{
    Backend, books_balance, count_entries, field, figures, fresh_key, is_replay, ledger_rows, make_user,
    make_users, merged, post, refused, text,
};
use crate::harness::{Engine, Request, Server, in_parallel};
use crate::on_both_engines;

const PRICES: &str = "[credits]\nunits = [\"credits\", \"tokens\"]\n\
    features = { \"image.generate\" = 5, \"search\" = { amount = 2, unit = \"tokens\" } }\n\
    models = { \"gpt-x\" = { per = 1000, input = 3, output = 5 } }\nbuy_url = \"https://app.example/buy\"\n";

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

fn replays_are_judged_by_what_was_understood(engine: Engine) {
    let server = Server::with(engine, PRICES);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    backend.grant(&user, 1_000);
    let key = fresh_key();
    let first =
        backend.post("debits", &key, &json!({"user_id": user, "amount": 5, "metadata": {"a": 1, "b": 2}}));
    assert!(!is_replay(&first.clone().expect(201)));
    let before = ledger_rows(&server.database);
    let spelled = format!(
        r#" {{"metadata":{{"b":2,"a":1}},"allow_negative":false,"unit":"credits","reason":null,"amount":5,"user_id":"{user}"}}"#
    );
    let request = Request::new("POST", "/api/credits/debits").header("Content-Type", "application/json");
    let second = backend.send(request.header("Idempotency-Key", &key).body(spelled));
    assert!(is_replay(&second), "{}", second.text());
    assert_eq!((second.status, second.text()), (first.status, first.text()));
    for (name, more) in [
        ("amount", json!({"amount": 6})),
        ("metadata", json!({"metadata": {"a": 1}})),
        ("reason", json!({"reason": "another"})),
        ("allow_negative", json!({"allow_negative": true})),
        ("unit", json!({"unit": "tokens"})),
    ] {
        let body = merged(json!({"user_id": user, "amount": 5, "metadata": {"a": 1, "b": 2}}), more);
        assert_eq!(field(&backend.post("debits", &key, &body), 409, "idempotency_mismatch"), name);
    }
    assert_eq!(ledger_rows(&server.database), before);

    let holds = [backend.hold(&user, 5), backend.hold(&user, 5)];
    let key = fresh_key();
    let path = |hold: &str| format!("holds/{hold}/capture");
    let first = backend.post(&path(&holds[0]), &key, &json!({})).expect(200);
    let again = backend.post(&path(&holds[0]), &key, &json!({"above": "refuse"}));
    assert!(is_replay(&again) && again.text() == first.text(), "{}", again.text());
    let other = backend.post(&path(&holds[1]), &key, &json!({}));
    assert_eq!(field(&other, 409, "idempotency_mismatch"), "hold_id");
    // A refusal keeps nothing: the same key may succeed later.
    let (key, body) = (fresh_key(), json!({"user_id": user, "amount": 2_000}));
    refused(&backend.post("debits", &key, &body), 402, "insufficient_credits");
    backend.grant(&user, 2_000);
    assert!(!is_replay(&backend.post("debits", &key, &body).expect(201)));
}
on_both_engines!(replays_are_judged_by_what_was_understood);

/// All that can happen under a key happens under one, and is told again byte for byte when the world has moved on.
fn every_answer_is_given_again_as_it_was_at_first(engine: Engine) {
    let server = Server::with(engine, PRICES);
    let mut backend = Backend::of(&server);
    let users = make_users(&server, 2);
    let user = &users[0];
    let mut told = Vec::new();
    let mut tell = |backend: &mut Backend, path: String, body: Value| {
        let first = backend.post(&path, "one", &body);
        assert!(matches!(first.status, 200 | 201) && !is_replay(&first), "{path}: {}", first.text());
        told.push((path, body, first.clone()));
        first.json()
    };
    let grant = json!({
        "user_id": user, "amount": 100, "source": "plan", "reason": "\u{1F4B0} \"=1+1\"\n", "priority": 7,
        "expires_at": "2099-01-01T00:00:00Z", "metadata": {"b": [1, 2.5, null], "a": "\u{0}"},
    });
    tell(&mut backend, "grants".into(), grant);
    let spend =
        json!({"user_id": user, "feature": "image.generate", "quantity": 2, "reason": "r", "metadata": {}});
    let entry = tell(&mut backend, "debits".into(), spend)["entry"]["id"].clone();
    let keep = json!({"user_id": user, "amount": 20, "expires_in": 600, "reason": "r"});
    let hold = text(&tell(&mut backend, "holds".into(), keep)["hold"]["id"]);
    tell(&mut backend, format!("holds/{hold}/extend"), json!({"expires_in": 900}));
    tell(&mut backend, format!("holds/{hold}/capture"), json!({"amount": 25, "above": "balance"}));
    let other = backend.hold(user, 5);
    tell(&mut backend, format!("holds/{other}/release"), json!({}));
    tell(&mut backend, "refunds".into(), json!({"entry_id": entry, "amount": 3, "reason": "blurred"}));
    let gift =
        json!({"from": {"user_id": user}, "to": {"user_id": users[1]}, "amount": 4, "reason": "a gift"});
    tell(&mut backend, "transfers".into(), gift);

    backend.put("accounts", &json!({"user_id": user, "negative_floor": -1_000})).expect(200);
    backend.put("limits", &json!({"user_id": user, "window": "day", "max": 0})).expect(200);
    backend.grant(user, 1_000);
    post(&mut backend, "refunds", json!({"entry_id": entry, "reason": "all of it"})).expect(201);
    server.command(&["user", "delete", user, "--yes"]).expect_done();
    let before = ledger_rows(&server.database);
    for (path, body, first) in &told {
        let again = backend.post(path, "one", body);
        assert!(is_replay(&again), "{path}: {}", again.text());
        assert_eq!((again.status, again.text()), (first.status, first.text()), "{path}");
    }
    assert_eq!(ledger_rows(&server.database), before);
    books_balance(&server.database);
}
on_both_engines!(every_answer_is_given_again_as_it_was_at_first);

/// What leaving the amount out means is known to the ledger only; written out it is the same request.
fn a_default_amount_may_be_written_out_or_not(engine: Engine) {
    let server = Server::start(engine);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    backend.grant(&user, 1_000);
    let amount = |amount: i64| json!({"amount": amount});
    let mut replays = |path: &str, base: &Value, first: &Value, others: [(&Value, bool); 3]| {
        let key = fresh_key();
        let done = backend.post(path, &key, &merged(base.clone(), first.clone()));
        assert!(matches!(done.status, 200 | 201), "{}", done.text());
        for (other, same) in others {
            let again = backend.post(path, &key, &merged(base.clone(), other.clone()));
            if same {
                assert!(is_replay(&again), "{path} {first} then {other}: {}", again.text());
                assert_eq!((again.status, again.text()), (done.status, done.text()));
            } else {
                assert_eq!(
                    field(&again, 409, "idempotency_mismatch"),
                    "amount",
                    "{path} {first} then {other}"
                );
            }
        }
    };
    let nothing = json!({});
    let mut other = Backend::of(&server);
    for (first, others) in [
        (&nothing, [(&amount(60), true), (&nothing, true), (&amount(59), false)]),
        (&amount(60), [(&nothing, true), (&amount(60), true), (&amount(61), false)]),
        (&amount(45), [(&amount(45), true), (&nothing, false), (&amount(60), false)]),
    ] {
        let hold = other.hold(&user, 60);
        replays(&format!("holds/{hold}/capture"), &nothing, first, others);
    }
    // With a cap more than all of it spends the same, and is another request.
    let (hold, cap) = (other.hold(&user, 60), json!({"above": "cap"}));
    let others = [(&amount(90), true), (&nothing, false), (&amount(60), false)];
    replays(&format!("holds/{hold}/capture"), &cap, &amount(90), others);
    for (before, first, others) in [
        (0, &nothing, [(&amount(20), true), (&nothing, true), (&amount(19), false)]),
        (0, &amount(20), [(&nothing, true), (&amount(20), true), (&amount(21), false)]),
        // What was left, and no more.
        (15, &nothing, [(&amount(5), true), (&nothing, true), (&amount(20), false)]),
        (15, &amount(5), [(&nothing, true), (&amount(5), true), (&amount(20), false)]),
        (0, &amount(5), [(&amount(5), true), (&nothing, false), (&amount(20), false)]),
    ] {
        let entry = other.debit(&user, 20).expect(201).json()["entry"]["id"].clone();
        let base = json!({"entry_id": entry, "reason": "r"});
        if before > 0 {
            post(&mut other, "refunds", merged(base.clone(), amount(before))).expect(201);
        }
        replays("refunds", &base, first, others);
    }
    books_balance(&server.database);
}
on_both_engines!(a_default_amount_may_be_written_out_or_not);

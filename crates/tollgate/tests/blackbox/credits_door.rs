//! The credits door as HTTP: who may come in, what a body may say, what is answered, and what leaves no trace.

use serde_json::{Value, json};

use crate::harness::credits::{
    Backend, figures, fresh_key, is_replay, ledger_rows, make_user, make_users, merged, number, refused, text,
};
use crate::harness::{Engine, Request, Response, Server, until};
use crate::on_both_engines;

const PRICES: &str = "[credits]\nunits = [\"credits\", \"tokens\"]\n\
    features = { \"image.generate\" = 5, \"search\" = { amount = 2, unit = \"tokens\" } }\n\
    models = { \"gpt-x\" = { per = 1000, input = 3, output = 5 } }\nbuy_url = \"https://app.example/buy\"\n";

#[track_caller]
fn field(response: &Response, status: u16, code: &str) -> String {
    text(&refused(response, status, code)["field"])
}

/// A POST with a fresh key.
fn post(backend: &mut Backend, path: &str, body: Value) -> Response {
    backend.post(path, &fresh_key(), &body)
}

// ---- What each endpoint does ----

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

fn holds_are_captured_released_and_extended(engine: Engine) {
    let server = Server::start(engine);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    backend.grant(&user, 100);
    let body = json!({"user_id": user, "amount": 30, "expires_in": 60, "reason": "a video"});
    let made = post(&mut backend, "holds", body).expect(201).json();
    assert_eq!((&made["hold"]["status"], figures(&made["balance"])), (&json!("held"), [100, 30, 70, 0]));
    let id = text(&made["hold"]["id"]);
    let extended =
        backend.send(Request::post(&format!("/api/credits/holds/{id}/extend"), &json!({"expires_in": 3600})));
    let extended = extended.expect(200).json();
    assert!(text(&extended["hold"]["expires_at"]) > text(&made["hold"]["expires_at"]), "{extended}");
    let over = post(&mut backend, &format!("holds/{id}/capture"), json!({"amount": 31}));
    refused(&over, 409, "conflict");
    let captured = post(&mut backend, &format!("holds/{id}/capture"), json!({"amount": 20, "above": "cap"}));
    let captured = captured.expect(200).json();
    assert_eq!(
        (&captured["hold"]["status"], &captured["hold"]["captured"]),
        (&json!("captured"), &json!(20))
    );
    assert_eq!((&captured["entry"]["hold_id"], figures(&captured["balance"])), (&json!(id), [80, 0, 80, 0]));
    for end in ["capture", "release"] {
        refused(&post(&mut backend, &format!("holds/{id}/{end}"), json!({})), 409, "conflict");
    }
    // Neither needs a body.
    let bare = |backend: &mut Backend, id: &str, end: &str| {
        let request = Request::new("POST", &format!("/api/credits/holds/{id}/{end}"));
        backend.send(request.header("Idempotency-Key", &fresh_key())).expect(200).json()
    };
    let second = backend.hold(&user, 10);
    assert_eq!(bare(&mut backend, &second, "release")["hold"]["status"], "released");
    let third = backend.hold(&user, 10);
    assert_eq!(figures(&bare(&mut backend, &third, "capture")["balance"]), [70, 0, 70, 0]);
    for id in ["x", "", &format!("{}h9", &id[..20]), "aaaaaaaaaaaaaaaaaaaah1", "%00", "..%2f"] {
        refused(&post(&mut backend, &format!("holds/{id}/capture"), json!({})), 404, "not_found");
    }
}
on_both_engines!(holds_are_captured_released_and_extended);

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

fn limits_count_what_was_spent_before_and_refuse_what_is_over(engine: Engine) {
    let server = Server::start(engine);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    backend.grant(&user, 1_000);
    let first = backend.debit(&user, 30).expect(201).json();
    backend.debit(&user, 10).expect(201);
    let hold = backend.hold(&user, 20);
    post(&mut backend, "refunds", json!({"entry_id": first["entry"]["id"], "amount": 5, "reason": "r"}))
        .expect(201);
    let set = |backend: &mut Backend, window: &str, max: Value| {
        let body = json!({"user_id": user, "window": window, "max": max});
        backend.put("limits", &body).expect(200).json()["limit"].clone()
    };
    let limit = set(&mut backend, "day", json!(60));
    for (name, value) in [
        ("scope", json!("user")),
        ("id", json!(user)),
        ("window", json!("day")),
        ("max", json!(60)),
        ("used", json!(55)),
    ] {
        assert_eq!(limit[name], value, "{limit}");
    }
    let over = backend.debit(&user, 6);
    let refusal = refused(&over, 429, "limit_reached");
    assert_eq!(
        refusal["limit"],
        json!({"scope": "user", "id": user, "window": "day", "max": 60, "used": 55}),
        "{refusal}"
    );
    assert_eq!(refusal["resets_at"], limit["resets_at"]);
    let seconds: i64 = over.header("Retry-After").and_then(|value| value.parse().ok()).expect("Retry-After");
    assert!((1..=86_400).contains(&seconds), "{seconds}");
    backend.debit(&user, 5).expect(201);
    // A hold that is released gives back.
    post(&mut backend, &format!("holds/{hold}/release"), json!({})).expect(200);
    backend.debit(&user, 20).expect(201);
    refused(&backend.debit(&user, 1), 429, "limit_reached");
    // Taken away and set again, it counts the same.
    assert_eq!(set(&mut backend, "day", Value::Null), Value::Null);
    backend.debit(&user, 1).expect(201);
    assert_eq!(set(&mut backend, "day", json!(500))["used"], 61);
    assert_eq!(set(&mut backend, "month", json!(62))["used"], 61);
    assert_eq!(refused(&backend.debit(&user, 2), 429, "limit_reached")["limit"]["window"], "month");
    assert_eq!(set(&mut backend, "month", json!(0))["max"], 0);
    refused(&backend.debit(&user, 1), 429, "limit_reached");
    for (name, body) in [
        ("key_id", json!({"user_id": user, "window": "day", "max": 1, "key_id": "x"})),
        ("member_user_id", json!({"user_id": user, "window": "day", "max": 1, "member_user_id": "x"})),
    ] {
        assert_eq!(field(&backend.put("limits", &body), 404, "not_found"), name);
    }
    for (name, body) in [
        ("max", json!({"user_id": user, "window": "day"})),
        ("max", json!({"user_id": user, "window": "day", "max": -1})),
        ("window", json!({"user_id": user, "window": "week", "max": 1})),
    ] {
        assert_eq!(field(&backend.put("limits", &body), 422, "invalid_request"), name);
    }
}
on_both_engines!(limits_count_what_was_spent_before_and_refuse_what_is_over);

// ---- Batches ----

fn a_batch_answers_each_item_as_the_single_call_would(engine: Engine) {
    let server = Server::start(engine);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    backend.grant(&user, 10);
    let keys = [fresh_key(), fresh_key(), fresh_key()];
    let item = |key: &str, amount: i64| json!({"user_id": user, "amount": amount, "idempotency_key": key});
    let debits = json!([
        item(&keys[0], 4),
        item(&keys[0], 4),
        item(&keys[0], 5),
        item(&keys[1], 7),
        json!({"user_id": user, "amount": 1.5, "idempotency_key": keys[2]}),
        json!({"user_id": user, "amount": 1}),
        json!({"user_id": "nobody", "amount": 1, "idempotency_key": keys[2]}),
        7,
        json!({"user_id": user, "amount": 1, "idempotency_key": keys[2], "more": 1}),
        item(&keys[2], 6),
    ]);
    let batch = |backend: &mut Backend, body: Value| {
        backend.send(Request::post("/api/credits/debits/batch", &body)).expect(200).json()["results"].clone()
    };
    let results = batch(&mut backend, json!({"debits": debits}));
    let found: Vec<(i64, &str, &str)> = results
        .as_array()
        .expect("a list")
        .iter()
        .map(|result| {
            let error = &result["error"];
            let member = |name: &str| error[name].as_str().unwrap_or_default();
            (number(&result["status"]), member("error_code"), member("field"))
        })
        .collect();
    let invalid = "invalid_request";
    let expected = [
        (201, "", ""),
        (201, "", ""),
        (409, "idempotency_mismatch", "debits[2].amount"),
        (402, "insufficient_credits", ""),
        (422, invalid, "debits[4].amount"),
        (422, invalid, "debits[5].idempotency_key"),
        (404, "not_found", "debits[6].user_id"),
        (422, invalid, "debits[7]"),
        (422, invalid, "debits[8].more"),
        (201, "", ""),
    ];
    assert_eq!(found, expected);
    assert_eq!((&results[0]["replayed"], &results[1]["replayed"]), (&Value::Null, &json!(true)));
    assert_eq!(results[0]["entry"], results[1]["entry"]);
    assert_eq!(figures(&results[9]["balance"]), [0, 0, 0, 0]);
    // A key means the same through the single call.
    let single = backend.post("debits", &keys[0], &json!({"user_id": user, "amount": 4}));
    assert!(is_replay(&single) && single.json()["entry"] == results[0]["entry"], "{}", single.text());

    let before = ledger_rows(&server.database);
    for last in [item(&keys[1], 7), json!({"user_id": user, "amount": 0, "idempotency_key": fresh_key()})] {
        let first = item(&fresh_key(), 1);
        backend.grant(&user, 1);
        let before = ledger_rows(&server.database);
        let results = batch(&mut backend, json!({"debits": [first, last], "atomic": true}));
        assert_eq!(
            (&results[0]["status"], &results[0]["error"]["error_code"]),
            (&json!(409), &json!("conflict"))
        );
        assert_ne!(results[1]["error"]["error_code"], "conflict", "{results}");
        assert_eq!(ledger_rows(&server.database), before);
    }
    assert_ne!(ledger_rows(&server.database), before);
    let many: Vec<Value> = (0..1_001).map(|_| item(&fresh_key(), 1)).collect();
    for body in [json!({"debits": []}), json!({"debits": many}), json!({}), json!({"debits": {}})] {
        let refusal = backend.send(Request::post("/api/credits/debits/batch", &body));
        assert_eq!(field(&refusal, 422, "invalid_request"), "debits");
    }
}
on_both_engines!(a_batch_answers_each_item_as_the_single_call_would);

// ---- What is refused leaves no trace ----

fn bad_bodies_are_named_and_leave_no_row(engine: Engine) {
    let server = Server::with(engine, PRICES);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    let grant = backend.grant(&user, 1_000);
    let entry = backend.debit(&user, 1).expect(201).json()["entry"]["id"].clone();
    let before = ledger_rows(&server.database);
    let good = json!({"user_id": user, "amount": 5});
    let long = "x".repeat(501);
    let mut cases: Vec<(&str, &str, Value)> = vec![
        ("debits", "user_id", json!({"amount": 5})),
        ("debits", "organization_id", merged(good.clone(), json!({"organization_id": "o"}))),
        ("debits", "user_id", json!({"user_id": 7, "amount": 5})),
        ("debits", "user_id", json!({"user_id": "x".repeat(257), "amount": 5})),
        ("debits", "user_id", json!({"user_id": "a\u{0}", "amount": 5})),
        ("debits", "amount", json!({"user_id": user})),
        ("debits", "feature", merged(good.clone(), json!({"feature": "search"}))),
        ("debits", "feature", json!({"user_id": user, "feature": "unknown"})),
        ("debits", "quantity", json!({"user_id": user, "feature": "search", "quantity": 0})),
        (
            "debits",
            "quantity",
            json!({"user_id": user, "feature": "search", "quantity": 9_007_199_254_740_991_i64}),
        ),
        ("debits", "quantity", merged(good.clone(), json!({"quantity": 2}))),
        ("debits", "unit", merged(good.clone(), json!({"unit": "gold"}))),
        ("debits", "unit", json!({"user_id": user, "feature": "search", "unit": "credits"})),
        ("debits", "model", json!({"user_id": user, "model": "unknown", "tokens": {}})),
        ("debits", "tokens", json!({"user_id": user, "model": "gpt-x"})),
        ("debits", "tokens", json!({"user_id": user, "model": "gpt-x", "tokens": {}})),
        ("debits", "tokens.input", json!({"user_id": user, "model": "gpt-x", "tokens": {"input": -1}})),
        ("debits", "tokens.images", json!({"user_id": user, "model": "gpt-x", "tokens": {"images": 1}})),
        ("debits", "reason", merged(good.clone(), json!({"reason": long}))),
        ("debits", "metadata", merged(good.clone(), json!({"metadata": []}))),
        ("debits", "metadata", merged(good.clone(), json!({"metadata": {"a": "x".repeat(4_096)}}))),
        ("debits", "allow_negative", merged(good.clone(), json!({"allow_negative": 1}))),
        ("debits", "idempotency_key", merged(good.clone(), json!({"idempotency_key": "k"}))),
        ("holds", "expires_in", good.clone()),
        ("holds", "expires_in", merged(good.clone(), json!({"expires_in": 0}))),
        ("holds", "expires_in", merged(good.clone(), json!({"expires_in": 86_401}))),
        ("refunds", "entry_id", json!({"reason": "r"})),
        ("refunds", "reason", json!({"entry_id": entry})),
        ("refunds", "entry_id", json!({"entry_id": grant["entry"]["id"], "reason": "r"})),
        ("grants", "source", merged(good.clone(), json!({"reason": "r"}))),
        ("grants", "source", merged(good.clone(), json!({"reason": "r", "source": "stolen"}))),
        ("grants", "reason", merged(good.clone(), json!({"source": "paid"}))),
    ];
    let given = merged(good.clone(), json!({"source": "paid", "reason": "r"}));
    for (name, value) in [
        ("priority", json!(101)),
        ("priority", json!(-1)),
        ("expires_at", json!("2020-01-01T00:00:00Z")),
        ("expires_at", json!("tomorrow")),
        ("amount", json!(9_007_199_254_740_991_i64)),
    ] {
        cases.push(("grants", name, merged(given.clone(), json!({name: value}))));
    }
    let moved = json!({"from": {"user_id": user}, "to": {"user_id": user}, "amount": 1, "reason": "r"});
    for (name, more) in [
        ("from", json!({"from": user})),
        ("from.user_id", json!({"from": {}})),
        ("to.more", json!({"to": {"user_id": user, "more": 1}})),
        ("to", json!({})),
    ] {
        cases.push(("transfers", name, merged(moved.clone(), more)));
    }
    for (path, name, body) in cases {
        let refusal = post(&mut backend, path, body.clone());
        assert_eq!(field(&refusal, 422, "invalid_request"), name, "{path} {body}");
    }
    // What no JSON library would write.
    let amounts =
        ["0", "-1", "5.0", "1e3", "\"5\"", "9007199254740992", "9223372036854775808", "-0", "true", "[5]"];
    let mut raw: Vec<(&str, String)> = amounts
        .iter()
        .map(|amount| ("amount", format!(r#"{{"user_id":"{user}","amount":{amount}}}"#)))
        .collect();
    raw.push(("amount", format!(r#"{{"user_id":"{user}","amount":5,"amount":5}}"#)));
    raw.push(("metadata.a", format!(r#"{{"user_id":"{user}","amount":5,"metadata":{{"a":1,"a":1}}}}"#)));
    for text in ["{", "[]", "null", "{}x", "\"a\"", "{\"a\":\"\\ud800\"}"] {
        raw.push(("body", text.into()));
    }
    for (name, body) in raw {
        let request = Request::new("POST", "/api/credits/debits").header("Content-Type", "application/json");
        let refusal = backend.send(request.header("Idempotency-Key", &fresh_key()).body(body.clone()));
        assert_eq!(field(&refusal, 422, "invalid_request"), name, "{body}");
    }
    // Owners and things that do not exist.
    for (path, body) in [
        ("debits", json!({"user_id": "nobody", "amount": 5})),
        ("debits", json!({"organization_id": "nobody", "amount": 5})),
        ("debits", json!({"guest_id": "nobody", "amount": 5})),
        ("grants", merged(given, json!({"user_id": "nobody"}))),
        ("refunds", json!({"entry_id": "nonsense", "reason": "r"})),
        ("transfers", merged(moved.clone(), json!({"to": {"user_id": "nobody"}}))),
    ] {
        field(&post(&mut backend, path, body), 404, "not_found");
    }
    let floor = json!({"user_id": user, "negative_floor": 1});
    assert_eq!(field(&backend.put("accounts", &floor), 422, "invalid_request"), "negative_floor");
    assert_eq!(ledger_rows(&server.database), before);
}
on_both_engines!(bad_bodies_are_named_and_leave_no_row);

fn checks_come_in_their_order(engine: Engine) {
    let server = Server::start(engine);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    let debits = || Request::new("POST", "/api/credits/debits");
    let unknown = format!("Bearer tg_sk_{}", "a".repeat(40));
    let stranger = |request: Request| request.header("Authorization", &unknown);
    let huge = " ".repeat(64 * 1024 + 1);
    // A connection whose body was not read is not used again.
    let alone = |request: Request| backend.another().send(request);
    let challenge = alone(stranger(debits()).header("Content-Type", "text/plain").body(huge.clone()));
    refused(&challenge, 401, "invalid_service_key");
    assert_eq!(challenge.header("WWW-Authenticate"), Some("Bearer"));
    let plain = alone(debits().header("Content-Type", "text/plain").body(huge.clone()));
    refused(&plain, 415, "unsupported_media_type");
    refused(&alone(debits().body("{}")), 415, "unsupported_media_type");
    let large = alone(debits().header("Content-Type", "application/json").body(huge));
    refused(&large, 413, "payload_too_large");
    let keyless = backend.send(Request::post("/api/credits/debits", &json!({"amount": 0})));
    assert_eq!(field(&keyless, 422, "invalid_request"), "Idempotency-Key");
    for key in ["", "a b", "é", &"k".repeat(256)] {
        let refusal = backend.post("debits", key, &json!({"user_id": user, "amount": 5}));
        assert_eq!(field(&refusal, 422, "invalid_request"), "Idempotency-Key", "{key}");
    }
    let ownerless = backend.post("debits", &"k".repeat(255), &json!({"amount": 0}));
    assert_eq!(field(&ownerless, 422, "invalid_request"), "user_id");
    refused(&backend.send(Request::get("/api/credits/nothing")), 404, "not_found");
    refused(&backend.send(Request::new("DELETE", "/api/credits/debits")), 405, "method_not_allowed");
    // A batch may be larger than other bodies, and no larger.
    let batch = |size: usize| {
        let request =
            Request::new("POST", "/api/credits/debits/batch").header("Content-Type", "application/json");
        request.body(" ".repeat(size))
    };
    assert_eq!(field(&backend.send(batch(1 << 20)), 422, "invalid_request"), "body");
    refused(&backend.another().send(batch((1 << 20) + 1)), 413, "payload_too_large");
}
on_both_engines!(checks_come_in_their_order);

// ---- Idempotency ----

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

// ---- Keys ----

fn a_key_is_good_for_its_scopes_until_it_is_revoked(engine: Engine) {
    let server = Server::start(engine);
    let user = make_user(&server);
    let keyed = |scopes: &str| {
        let made =
            server.command(&["key", "create", "scoped", "--scopes", scopes, "--json"]).expect_done().json();
        (text(&made["id"]), Backend::with_key(&server, &text(&made["key"])))
    };
    let grant = json!({"user_id": user, "amount": 5, "source": "paid", "reason": "r"});
    for scopes in ["gate", "billing", "credits:read", "gate,credits:read,billing"] {
        let (_, mut backend) = keyed(scopes);
        refused(&post(&mut backend, "grants", grant.clone()), 403, "forbidden");
        refused(&backend.put("accounts", &json!({"user_id": user, "negative_floor": 0})), 403, "forbidden");
    }
    let (id, mut writer) = keyed("credits:write");
    let made = post(&mut writer, "grants", grant.clone()).expect(201).json();
    assert_eq!(made["entry"]["actor"], format!("key:{id}"));
    let used = || {
        let keys = server.command(&["key", "list", "--json"]).expect_done().json();
        let keys = keys["items"].as_array().expect("a list").clone();
        keys.iter().find(|key| key["id"] == id.as_str()).expect("the key is listed")["last_used_at"].clone()
    };
    until(std::time::Duration::from_secs(10), "the key's last use", || used().is_string().then_some(()));
    server.command(&["key", "revoke", &id]).expect_done();
    refused(&post(&mut writer, "grants", grant), 401, "invalid_service_key");
}
on_both_engines!(a_key_is_good_for_its_scopes_until_it_is_revoked);

//! What the credits door refuses: bad bodies, strangers, keys without the scope; by name, and without leaving a trace.

use serde_json::{Value, json};

use crate::harness::credits::{
    Backend, field, figures, fresh_key, ledger_rows, make_user, merged, post, refused, text,
};
use crate::harness::{Engine, Request, Server, until};
use crate::on_both_engines;

const PRICES: &str = "[credits]\nunits = [\"credits\", \"tokens\"]\n\
    features = { \"image.generate\" = 5, \"search\" = { amount = 2, unit = \"tokens\" } }\n\
    models = { \"gpt-x\" = { per = 1000, input = 3, output = 5 } }\nbuy_url = \"https://app.example/buy\"\n";

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
        ("expires_at", json!("9999-12-31T23:59:59-00:01")),
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
    for text in ["{", "[]", "null", "{}x", "\"a\"", "{\"a\":\"\\ud800\"}", "\u{feff}{}", "{\"a\":1e400}"] {
        raw.push(("body", text.into()));
    }
    // With the body itself and its metadata there may be 32 levels.
    for (levels, name) in [(31, "body"), (10_000, "body"), (30, "amount")] {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        raw.push((name, format!(r#"{{"user_id":"{user}","amount":0,"metadata":{{"a":{open}{close}}}}}"#)));
    }
    for (name, body) in raw {
        let request = Request::new("POST", "/api/credits/debits").header("Content-Type", "application/json");
        let refusal = backend.send(request.header("Idempotency-Key", &fresh_key()).body(body.clone()));
        assert_eq!(field(&refusal, 422, "invalid_request"), name, "{body}");
    }
    // Owners and things that do not exist.
    let entry = text(&entry);
    for (path, name, body) in [
        ("debits", "user_id", json!({"user_id": "nobody", "amount": 5})),
        ("debits", "organization_id", json!({"organization_id": "nobody", "amount": 5})),
        ("debits", "guest_id", json!({"guest_id": "nobody", "amount": 5})),
        ("grants", "user_id", merged(given, json!({"user_id": "nobody"}))),
        ("refunds", "entry_id", json!({"entry_id": "nonsense", "reason": "r"})),
        ("refunds", "entry_id", json!({"entry_id": format!("{entry}0"), "reason": "r"})),
        ("refunds", "entry_id", json!({"entry_id": "aaaaaaaaaaaaaaaaaaaae1", "reason": "r"})),
        ("transfers", "from", merged(moved.clone(), json!({"from": {"user_id": "nobody"}}))),
        ("transfers", "from", merged(moved.clone(), json!({"from": {"organization_id": "nobody"}}))),
        ("transfers", "to", merged(moved.clone(), json!({"to": {"user_id": "nobody"}}))),
        ("transfers", "to", merged(moved.clone(), json!({"to": {"organization_id": "nobody"}}))),
    ] {
        assert_eq!(field(&post(&mut backend, path, body.clone()), 404, "not_found"), name, "{path} {body}");
    }
    let floor = json!({"user_id": user, "negative_floor": 1});
    assert_eq!(field(&backend.put("accounts", &floor), 422, "invalid_request"), "negative_floor");
    assert_eq!(ledger_rows(&server.database), before);
}
on_both_engines!(bad_bodies_are_named_and_leave_no_row);

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
    for path in ["", "/", "/nothing", "/debits/", "//debits", "/Debits"] {
        refused(&backend.send(Request::get(&format!("/api/credits{path}"))), 404, "not_found");
    }
    for (method, path, allowed) in
        [("DELETE", "debits", "POST"), ("OPTIONS", "debits", "POST"), ("POST", "balance", "GET,HEAD")]
    {
        let refusal = backend.send(Request::new(method, &format!("/api/credits/{path}")));
        refused(&refusal, 405, "method_not_allowed");
        assert_eq!(refusal.header("Allow"), Some(allowed), "{method} {path}");
    }
    // Of two keys or two types nobody knows which one counts.
    let known = format!("Bearer {}", server.service_key());
    for second in [&known, &unknown] {
        let twice = debits().header("Authorization", &known).header("Authorization", second);
        refused(&backend.send(twice), 401, "invalid_service_key");
    }
    let typed = debits().header("Content-Type", "application/json").header("Content-Type", "text/plain");
    refused(&backend.another().send(typed.body("{}")), 415, "unsupported_media_type");
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

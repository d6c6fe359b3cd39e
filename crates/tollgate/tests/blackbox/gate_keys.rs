//! API keys at the gate: a program passes in its owner's name, spends what is the owner's, and no more than its own cap.

use serde_json::{Value, json};

use crate::harness::credits::{books_balance, counted, fresh_key, number, refused, text};
use crate::harness::database::quoted;
use crate::harness::gate::Guard;
use crate::harness::{Browser, Engine, Request, Response, Server, in_parallel};
use crate::on_both_engines;

const FREE: &str = "[api_keys]\nrate_limit_max = 0\n[credits.features]\nsearch = 4\n\
    [[gate.rules]]\npath = \"/search\"\nfeature = \"search\"\n[[gate.rules]]\npath = \"/open\"\npublic = true\n";

struct Owner {
    browser: Browser,
    id: String,
}

fn signed_up(server: &Server, email: &str) -> Owner {
    let mut browser = Browser::new(server);
    let id = text(&browser.sign_up(email)["user"]["id"]);
    Owner { browser, id }
}

struct Key {
    id: String,
    text: String,
}

fn make_key(owner: &mut Owner, body: Value) -> Key {
    let made = owner.browser.post("/api/auth/api-key/create", body).expect(200).json();
    Key { id: text(&made["id"]), text: text(&made["key"]) }
}

fn set(server: &Server, key: &Key, what: &str) {
    let sql = format!("UPDATE api_keys SET {what} WHERE id = {}", quoted(&key.id));
    assert_eq!(server.database.execute(&sql), 1);
}

fn ask(guard: &mut Guard, token: &str, body: Value) -> Response {
    ask_under(guard, token, &fresh_key(), body)
}

fn ask_under(guard: &mut Guard, token: &str, key: &str, body: Value) -> Response {
    let request = Request::post("/api/gate/authorize", &body);
    guard.backend.send(request.header("X-Tollgate-Token", token).header("Idempotency-Key", key))
}

fn a_key_passes_as_itself_and_its_owner_pays(engine: Engine) {
    let server = Server::with(engine, FREE);
    let (mut guard, mut ada) = (Guard::of(&server), signed_up(&server, "ada@example.com"));
    let key = make_key(&mut ada, json!({"prefix": "app_"}));
    guard.backend.grant(&ada.id, 100);
    let body = json!({"user_id": ada.id, "role": "user", "charge": {"feature": "search"}});
    let answer =
        ask_under(&mut guard, &format!("Bearer {}", key.text), "one", body.clone()).expect(200).json();
    assert_eq!(answer["subject"], json!({"kind": "api_key", "id": key.id}));
    assert_eq!((&answer["user"]["user_id"], &answer["session"]), (&json!(ada.id), &Value::Null));
    assert_eq!((number(&answer["charge"]["amount"]), number(&answer["charge"]["balance"])), (4, 96));
    let entries = guard.backend.entries(&ada.id);
    let entry = entries.iter().find(|entry| entry["kind"] == "debit").expect("it was paid");
    assert_eq!(entry["actor"], format!("key:{}", key.id));
    assert_eq!(entry["source_ref"], format!("key:{}", key.id));
    let again = ask_under(&mut guard, &key.text, "one", body).expect(200).json();
    assert_eq!(again["charge"]["replayed"], true);
    // Keys of another subject are others: the user's own, and another program's.
    let cookie =
        guard.ask_under(&ada.browser, "one", &json!({"charge": {"feature": "search"}})).expect(200).json();
    assert_eq!((&cookie["charge"]["replayed"], number(&cookie["charge"]["balance"])), (&json!(false), 92));
    let second = make_key(&mut ada, json!({}));
    let other =
        ask_under(&mut guard, &second.text, "one", json!({"charge": {"feature": "search"}})).expect(200);
    assert_eq!(number(&other.json()["charge"]["balance"]), 88);
    let usage = guard.backend.get(&format!("usage?user_id={}&group=key", ada.id)).expect(200).json();
    assert!(usage["items"].as_array().is_some_and(|items| items.len() == 3), "{usage}");
    let hold = json!({"charge": {"amount": 8}, "hold": true});
    assert!(ask(&mut guard, &key.text, hold).expect(200).json()["charge"]["hold_id"].is_string());
    refused(&ask(&mut guard, &key.text, json!({"charge": {"amount": 81}})), 402, "insufficient_credits");
    books_balance(&server.database);
}
on_both_engines!(a_key_passes_as_itself_and_its_owner_pays);

fn a_key_spends_no_more_than_its_cap_and_gets_back_what_is_given_back(engine: Engine) {
    let server = Server::with(engine, FREE);
    let (mut guard, mut ada) = (Guard::of(&server), signed_up(&server, "ada@example.com"));
    let key = make_key(&mut ada, json!({}));
    let mut eve = signed_up(&server, "eve@example.com");
    let eves = make_key(&mut eve, json!({}));
    guard.backend.grant(&ada.id, 1_000);
    let cap = |id: &str, max: Value| json!({"user_id": ada.id, "key_id": id, "window": "day", "max": max});
    let set = guard.backend.put("limits", &cap(&key.id, json!(10))).expect(200).json();
    assert_eq!((&set["limit"]["scope"], &set["limit"]["id"]), (&json!("key"), &json!(key.id)));
    for id in [eves.id.as_str(), "absent"] {
        let refusal = refused(&guard.backend.put("limits", &cap(id, json!(10))), 404, "not_found");
        assert_eq!(refusal["field"], "key_id");
    }
    let both =
        json!({"user_id": ada.id, "key_id": key.id, "member_user_id": ada.id, "window": "day", "max": 1});
    refused(&guard.backend.put("limits", &both), 422, "invalid_request");
    let charge = |amount: i64| json!({"charge": {"amount": amount}});
    let first = ask(&mut guard, &key.text, charge(6)).expect(200).json();
    let over = refused(&ask(&mut guard, &key.text, charge(5)), 429, "limit_reached");
    let limit = json!({"scope": "key", "id": key.id, "window": "day", "max": 10, "used": 6});
    assert_eq!(over["limit"], limit);
    // The owner has no such cap.
    guard.ask_under(&ada.browser, &fresh_key(), &charge(500)).expect(200);
    guard.backend.debit(&ada.id, 100).expect(201);
    let refund = json!({"entry_id": first["charge"]["entry_id"], "reason": "broken"});
    guard.backend.post("refunds", &fresh_key(), &refund).expect(201);
    let answers = in_parallel(50, |_| ask(&mut guard.another(), &key.text, charge(1)));
    assert_eq!(counted(answers.iter().map(|answer| answer.status)), [(200, 10), (429, 40)].into());
    let limits = guard.backend.get(&format!("limits?user_id={}", ada.id)).expect(200).json();
    assert_eq!((&limits["items"][0]["scope"], number(&limits["items"][0]["used"])), (&json!("key"), 10));
    guard.backend.put("limits", &cap(&key.id, Value::Null)).expect(200);
    ask(&mut guard, &key.text, charge(1)).expect(200);
    books_balance(&server.database);
}
on_both_engines!(a_key_spends_no_more_than_its_cap_and_gets_back_what_is_given_back);

fn a_key_that_may_not_pass_is_told_why(engine: Engine) {
    let server = Server::with(engine, FREE);
    let (mut guard, mut ada) = (Guard::of(&server), signed_up(&server, "ada@example.com"));
    let key = make_key(&mut ada, json!({}));
    let look = |body: Value| ask(&mut guard.another(), &key.text, body);
    look(json!({})).expect(200);
    refused(&look(json!({"user_id": "other"})), 403, "user_mismatch");
    refused(&look(json!({"role": "admin"})), 403, "forbidden");
    refused(&look(json!({"payer": {"user_id": "other"}})), 403, "forbidden");
    refused(&look(json!({"permissions": {"files": ["read"]}})), 403, "forbidden");
    set(&server, &key, r#"permissions = '{"files":["read","write"]}'"#);
    look(json!({"permissions": {"files": ["read"]}})).expect(200);
    refused(&look(json!({"permissions": {"files": ["delete"]}})), 403, "forbidden");
    refused(&look(json!({"permissions": {"files": "read"}})), 422, "invalid_request");
    // A session is asked for roles instead.
    guard.ask(&ada.browser, &json!({"permissions": {"files": ["delete"]}})).expect(200);
    let look = |body: Value| ask(&mut guard.another(), &key.text, body);
    for (what, back) in [
        ("enabled = FALSE", "enabled = TRUE"),
        ("expires_at = 1", "expires_at = NULL"),
        ("key_hash = 'x' || key_hash", "key_hash = substr(key_hash, 2)"),
    ] {
        set(&server, &key, what);
        refused(&look(json!({})), 401, "unauthenticated");
        set(&server, &key, back);
    }
    for (what, back) in [
        ("rate_limit_enabled = TRUE, rate_limit_max = 0", "rate_limit_enabled = FALSE"),
        ("remaining = 0", "remaining = NULL"),
    ] {
        set(&server, &key, what);
        let answer = look(json!({}));
        refused(&answer, 429, "rate_limited");
        assert!(
            answer
                .header("Retry-After")
                .and_then(|text| text.parse::<i64>().ok())
                .is_some_and(|wait| wait > 0)
        );
        set(&server, &key, back);
    }
    look(json!({})).expect(200);
    // The token wins over a cookie, also when it opens nothing.
    let request = Request::post("/api/gate/authorize", &json!({}))
        .header("Cookie", &ada.browser.cookie_header("/"))
        .header("X-Tollgate-Token", &"x".repeat(64));
    refused(&guard.backend.send(request), 401, "unauthenticated");
    let request = Request::post("/api/gate/authorize", &json!({}))
        .header("Cookie", &ada.browser.cookie_header("/"))
        .header("x-api-key", "not one");
    refused(&guard.backend.send(request), 401, "unauthenticated");
    let request = Request::post("/api/gate/authorize", &json!({})).header("x-api-key", &key.text);
    assert_eq!(guard.backend.send(request).expect(200).json()["subject"]["kind"], "api_key");
    server.command(&["user", "ban", "ada@example.com"]).expect_done();
    refused(&ask(&mut guard, &key.text, json!({})), 403, "user_banned");
}
on_both_engines!(a_key_that_may_not_pass_is_told_why);

/// Whoever has no service key uses nobody's key up.
fn a_use_is_counted_once_for_a_call_of_a_backend(engine: Engine) {
    let server = Server::start(engine);
    let (mut guard, mut ada) = (Guard::of(&server), signed_up(&server, "ada@example.com"));
    let key = make_key(&mut ada, json!({}));
    let count = || server.database.integer("SELECT request_count FROM api_keys");
    let stranger = Request::post("/api/gate/authorize", &json!({}))
        .header("X-Tollgate-Token", &key.text)
        .header("Authorization", "Bearer tg_sk_unknown");
    refused(&stranger.send(server.address).expect("an answer"), 401, "invalid_service_key");
    refused(&ask(&mut guard, &key.text, json!({"nonsense": 1})), 422, "invalid_request");
    assert_eq!(count(), 0);
    let answers = in_parallel(50, |_| ask(&mut guard.another(), &key.text, json!({})));
    assert_eq!(counted(answers.iter().map(|answer| answer.status)), [(200, 10), (429, 40)].into());
    assert_eq!(count(), 10);
}
on_both_engines!(a_use_is_counted_once_for_a_call_of_a_backend);

fn proxies_let_programs_through(engine: Engine) {
    let server = Server::with(engine, FREE);
    let (mut guard, mut ada) = (Guard::of(&server), signed_up(&server, "ada@example.com"));
    let key = make_key(&mut ada, json!({}));
    guard.backend.grant(&ada.id, 10);
    let mut forward = |path: &str, name: &str, value: &str| {
        let request = Request::get("/api/gate/forward")
            .header("X-Forwarded-Method", "GET")
            .header("X-Forwarded-Uri", path)
            .header("X-Forwarded-Host", "app.example")
            .header("X-Forwarded-Proto", "https")
            .header(name, value);
        guard.backend.send(request)
    };
    for name in ["x-api-key", "X-Tollgate-Token"] {
        let pass = forward("/search", name, &key.text).expect(200);
        assert_eq!(pass.header("X-Tollgate-User"), Some(ada.id.as_str()));
        assert_eq!(pass.header("X-Tollgate-Email"), Some("ada@example.com"));
    }
    assert_eq!(forward("/search", "x-api-key", &key.text).status, 402);
    let other = forward("/other", "x-api-key", &key.text).expect(200);
    assert_eq!(other.header("X-Tollgate-Balance"), Some("2"));
    forward("/other", "x-api-key", &"x".repeat(64)).expect(401);
    set(&server, &key, "rate_limit_enabled = TRUE, rate_limit_max = 0");
    refused(&forward("/other", "x-api-key", &key.text), 429, "rate_limited");
    // Where everybody passes it keeps nobody out.
    let stranger = forward("/open", "x-api-key", &key.text).expect(200);
    assert_eq!(stranger.header("X-Tollgate-User"), Some(""));
}
on_both_engines!(proxies_let_programs_through);

fn switched_off_a_key_is_nothing(engine: Engine) {
    let mut server = Server::with(engine, FREE);
    let mut ada = signed_up(&server, "ada@example.com");
    let key = make_key(&mut ada, json!({}));
    let mut guard = Guard::of(&server);
    ask(&mut guard, &key.text, json!({})).expect(200);
    server.reconfigure("[methods]\napi_keys = false\n");
    server.stop();
    server.restart();
    let mut guard = Guard::of(&server);
    refused(&ask(&mut guard, &key.text, json!({})), 401, "unauthenticated");
    // Then `x-api-key` is some other program's, and the cookie counts.
    let request = Request::post("/api/gate/authorize", &json!({}))
        .header("Cookie", &ada.browser.cookie_header("/"))
        .header("x-api-key", &key.text);
    guard.backend.send(request).expect(200);
}
on_both_engines!(switched_off_a_key_is_nothing);

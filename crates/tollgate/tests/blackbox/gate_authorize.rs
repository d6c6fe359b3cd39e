//! `POST /api/gate/authorize` without a charge: who passes, who does not, and what is said of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::browser::cookie_meaning;
use crate::harness::credits::{Backend, refused, text};
use crate::harness::database::quoted;
use crate::harness::gate::{Guard, asking};
use crate::harness::{Browser, Connection, Engine, PASSWORD, Request, Server, at_full_length, in_parallel};
use crate::on_both_engines;

const COOKIE: &str = "better-auth.session_token";
const DAY: i64 = 24 * 3600 * 1000;

fn signed_up(server: &Server, email: &str) -> (Browser, String) {
    let mut browser = Browser::new(server);
    let made = browser.sign_up(email);
    (browser, text(&made["user"]["id"]))
}

fn signed_in(server: &Server, email: &str) -> Browser {
    let mut browser = Browser::new(server);
    browser.sign_in(email);
    browser
}

fn a_session_passes_and_the_answer_tells_who_it_is(engine: Engine) {
    let server = Server::start(engine);
    let mut guard = Guard::of(&server);
    let (mut ada, id) = signed_up(&server, "ada@example.com");
    let session = ada.session()["session"].clone();
    let answer = guard.ask(&ada, &json!({})).expect(200);
    let expected = json!({
        "subject": {"kind": "user", "id": id},
        "user": {
            "user_id": id, "email": "ada@example.com", "name": "Test Person", "email_verified": false, "role": "user",
        },
        "session": {"expires_at": session["expiresAt"]},
        "charge": null,
        "guest": null,
    });
    assert_eq!(answer.json(), expected);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert!(answer.header("X-Request-Id").is_some());
    assert_eq!(answer.all("Set-Cookie").count(), 0, "a young session is left alone");
    // Names hold whatever people write, roles come and go.
    ada.post("/api/auth/update-user", json!({"name": "A\"d\\a\u{1}\u{2028}é"})).expect(200);
    server.command(&["user", "promote", "ada@example.com"]).expect_done();
    let user = guard.ask(&ada, &json!({"user_id": id, "role": "admin"})).expect(200).json()["user"].clone();
    assert_eq!(user["name"], "A\"d\\a\u{1}\u{2028}é");
    assert!(text(&user["role"]).split(',').any(|role| role == "admin"), "{user}");
    // Nothing at all is an object without members; what is null is left out.
    let nothing =
        Request::post("/api/gate/authorize", &json!({})).body("").header("Cookie", &ada.cookie_header("/"));
    guard.backend.send(nothing).expect(200);
    let nulls = json!({"user_id": null, "role": null, "charge": null, "hold": null, "hold_expires_in": null,
        "payer": null, "guest": null, "reason": null, "metadata": null});
    guard.ask(&ada, &nulls).expect(200);
}
on_both_engines!(a_session_passes_and_the_answer_tells_who_it_is);

fn whoever_is_not_signed_in_is_told_so(engine: Engine) {
    let server = Server::start(engine);
    let mut guard = Guard::of(&server);
    let (ada, _) = signed_up(&server, "ada@example.com");
    let body = refused(&guard.ask(&Browser::new(&server), &json!({})), 401, "unauthenticated");
    assert_eq!(body["detail"], Value::Null);
    assert!(text(&body["message"]).contains("signed in"), "{body}");
    // To the millisecond: it had a minute left, and then none.
    server.database.shift("sessions", "expires_at", -7 * DAY + 60_000, "user_id IS NOT NULL");
    guard.ask(&ada.clone(), &json!({})).expect(200);
    server
        .database
        .execute(&format!("UPDATE sessions SET expires_at = {}", crate::harness::credits::now().0 - 1));
    refused(&guard.ask(&ada, &json!({})), 401, "unauthenticated");
    let mut out = signed_in(&server, "ada@example.com");
    let stolen = out.clone();
    guard.ask(&stolen, &json!({})).expect(200);
    out.sign_out();
    refused(&guard.ask(&stolen, &json!({})), 401, "unauthenticated");
}
on_both_engines!(whoever_is_not_signed_in_is_told_so);

fn another_user_another_role_and_another_payer_are_forbidden(engine: Engine) {
    let server = Server::start(engine);
    let mut guard = Guard::of(&server);
    let (ada, adas_id) = signed_up(&server, "ada@example.com");
    let (bob, bobs_id) = signed_up(&server, "bob@example.com");
    refused(&guard.ask(&ada, &json!({"user_id": bobs_id})), 403, "user_mismatch");
    for id in ["absent", &adas_id.to_ascii_lowercase(), &format!("{adas_id} ")] {
        refused(&guard.ask(&ada, &json!({"user_id": id})), 403, "user_mismatch");
    }
    guard.ask(&ada, &json!({"user_id": adas_id})).expect(200);
    for role in ["admin", "use", "User", "users"] {
        refused(&guard.ask(&ada, &json!({"role": role})), 403, "forbidden");
    }
    let set = |role: &str| {
        let sql = format!("UPDATE users SET role = {role} WHERE id = {}", quoted(&adas_id));
        assert_eq!(server.database.execute(&sql), 1);
    };
    set("'user, editor,admin'");
    for role in ["user", "editor", "admin"] {
        guard.ask(&ada, &json!({"role": role})).expect(200);
    }
    refused(&guard.ask(&ada, &json!({"role": "owner"})), 403, "forbidden");
    set("NULL");
    refused(&guard.ask(&ada, &json!({"role": "user"})), 403, "forbidden");
    assert_eq!(guard.ask(&ada, &json!({})).expect(200).json()["user"]["role"], Value::Null);
    for payer in [json!({"organization_id": "acme"}), json!({"user_id": bobs_id}), json!({"guest_id": "g"})] {
        refused(&guard.ask(&ada, &json!({"payer": payer})), 403, "forbidden");
    }
    guard.ask(&ada, &json!({"payer": {"user_id": adas_id}})).expect(200);
    guard.ask(&bob, &json!({"user_id": bobs_id})).expect(200);
}
on_both_engines!(another_user_another_role_and_another_payer_are_forbidden);

/// A ban ends sessions; one that a ban did not see, because it was made at the same moment, is refused all the same.
fn a_banned_user_does_not_pass(engine: Engine) {
    let server = Server::start(engine);
    let mut guard = Guard::of(&server);
    let (ada, id) = signed_up(&server, "ada@example.com");
    server.command(&["user", "ban", "ada@example.com"]).expect_done();
    refused(&guard.ask(&ada, &json!({})), 401, "unauthenticated");
    let (bob, bobs_id) = signed_up(&server, "bob@example.com");
    let until = |end: &str| {
        let sql =
            format!("UPDATE users SET banned = TRUE, ban_expires = {end} WHERE id = {}", quoted(&bobs_id));
        assert_eq!(server.database.execute(&sql), 1);
    };
    let soon = (crate::harness::credits::now().0 + 60_000).to_string();
    for end in ["NULL", soon.as_str()] {
        until(end);
        refused(&guard.ask(&bob, &json!({"user_id": id, "role": "admin"})), 403, "user_banned");
    }
    until("1000");
    guard.ask(&bob, &json!({})).expect(200);
}
on_both_engines!(a_banned_user_does_not_pass);

fn refusals_come_in_their_order(engine: Engine) {
    let server = Server::start(engine);
    let mut guard = Guard::of(&server);
    let (ada, id) = signed_up(&server, "ada@example.com");
    let nobody = Browser::new(&server);
    let wrong_key = format!("Bearer tg_sk_{}", "a".repeat(40));
    let plain = |request: Request| Request {
        headers: request.headers.into_iter().filter(|(name, _)| name != "Content-Type").collect(),
        ..request
    };
    let unlike = json!({"charge": {"amount": 5}, "user_id": "absent", "role": "admin", "what": 1});
    let bad = json!({"charge": {"amount": 5}, "user_id": "absent", "role": "admin"});
    // The key before everything: even a body of another type, or one that is too large.
    for authority in [wrong_key.as_str(), "Bearer x", "Basic eDp5", "tg_sk_x"] {
        let request = plain(asking(&nobody, &unlike)).header("Content-Type", "text/plain");
        refused(&guard.backend.send(request.header("Authorization", authority)), 401, "invalid_service_key");
        let large = asking(&nobody, &json!({})).body(vec![b' '; 70_000]).header("Authorization", authority);
        refused(&guard.another().backend.send(large), 401, "invalid_service_key");
    }
    let none = asking(&nobody, &unlike).send(server.address).expect("an answer");
    assert_eq!(none.header("WWW-Authenticate"), Some("Bearer"));
    refused(&none, 401, "invalid_service_key");
    // Then the type, then the body, then the key of the charge.
    let typed = plain(asking(&nobody, &unlike)).header("Content-Type", "text/plain");
    refused(&guard.backend.send(typed), 415, "unsupported_media_type");
    let body = refused(&guard.ask(&nobody, &unlike), 422, "invalid_request");
    assert_eq!(body["field"], "what");
    let body = refused(&guard.ask(&nobody, &bad), 422, "invalid_request");
    assert_eq!(body["field"], "Idempotency-Key");
    // Then who it is.
    refused(&guard.ask_under(&nobody, "k", &bad), 401, "unauthenticated");
    refused(&guard.ask_under(&ada, "k", &bad), 403, "user_mismatch");
    let mine =
        json!({"charge": {"amount": 5}, "user_id": id, "role": "admin", "payer": {"organization_id": "o"}});
    let body = refused(&guard.ask_under(&ada, "k", &mine), 403, "forbidden");
    assert!(text(&body["message"]).contains("role"), "{body}");
    let mine =
        json!({"charge": {"amount": 5}, "user_id": id, "role": "user", "payer": {"organization_id": "o"}});
    let body = refused(&guard.ask_under(&ada, "k", &mine), 403, "forbidden");
    assert!(text(&body["message"]).contains("payer"), "{body}");
    // Then what it costs: a limit before the credits.
    let mine = json!({"charge": {"amount": 5}, "user_id": id, "role": "user"});
    guard.backend.put("limits", &json!({"user_id": id, "window": "day", "max": 4})).expect(200);
    let body = refused(&guard.ask_under(&ada, "k", &mine), 429, "limit_reached");
    assert_eq!((&body["limit"]["max"], &body["limit"]["scope"]), (&json!(4), &json!("user")));
    guard.backend.put("limits", &json!({"user_id": id, "window": "day", "max": null})).expect(200);
    refused(&guard.ask_under(&ada, "k", &mine), 402, "insufficient_credits");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM credit_keys"), 0, "a refusal is not kept");
}
on_both_engines!(refusals_come_in_their_order);

fn every_wrong_field_is_named(engine: Engine) {
    let server = Server::with(engine, "[credits.features]\n\"image.generate\" = 5\n");
    let mut guard = Guard::of(&server);
    let (ada, _) = signed_up(&server, "ada@example.com");
    let long = "x".repeat(257);
    let charge = |charge: Value| json!({"charge": charge});
    let cases = [
        (json!([]), "body"),
        (json!({"user_id": ""}), "user_id"),
        (json!({"user_id": 5}), "user_id"),
        (json!({"user_id": long}), "user_id"),
        (json!({"user_id": "a\u{0}"}), "user_id"),
        (json!({"role": ""}), "role"),
        (json!({"role": ["admin"]}), "role"),
        (json!({"role": "user,admin"}), "role"),
        (json!({"role": " admin"}), "role"),
        (charge(json!("image.generate")), "charge"),
        (charge(json!({})), "charge.amount"),
        (charge(json!({"amount": 0})), "charge.amount"),
        (charge(json!({"amount": -1})), "charge.amount"),
        (charge(json!({"amount": 1.0})), "charge.amount"),
        (charge(json!({"amount": "1"})), "charge.amount"),
        (charge(json!({"amount": 9_007_199_254_740_992_u64})), "charge.amount"),
        (charge(json!({"amount": 1, "unit": "euros"})), "charge.unit"),
        (charge(json!({"amount": 1, "feature": "image.generate"})), "charge.feature"),
        (charge(json!({"amount": 1, "quantity": 2})), "charge.quantity"),
        (charge(json!({"feature": "unknown"})), "charge.feature"),
        (charge(json!({"feature": "image.generate", "quantity": 0})), "charge.quantity"),
        (
            charge(json!({"feature": "image.generate", "quantity": 9_007_199_254_740_991_u64})),
            "charge.quantity",
        ),
        (charge(json!({"model": "unknown", "tokens": {"input": 1}})), "charge.model"),
        (charge(json!({"model": "unknown"})), "charge.tokens"),
        (charge(json!({"amount": 1, "user_id": "x"})), "charge.user_id"),
        (charge(json!({"amount": 1, "allow_negative": true})), "charge.allow_negative"),
        (json!({"hold": true}), "hold"),
        (json!({"hold": "yes"}), "hold"),
        (json!({"hold_expires_in": 0}), "hold_expires_in"),
        (json!({"hold_expires_in": 86_401}), "hold_expires_in"),
        (json!({"hold_expires_in": "300"}), "hold_expires_in"),
        (json!({"payer": "acme"}), "payer"),
        (json!({"payer": {}}), "payer.user_id"),
        (json!({"payer": {"user_id": "a", "organization_id": "b"}}), "payer.organization_id"),
        (json!({"payer": {"organization_id": "b", "more": 1}}), "payer.more"),
        (json!({"guest": "generate"}), "guest"),
        (json!({"guest": {}}), "guest.action"),
        (json!({"guest": {"action": "no such action"}}), "guest.action"),
        (json!({"reason": 5}), "reason"),
        (json!({"reason": "x".repeat(501)}), "reason"),
        (json!({"metadata": []}), "metadata"),
        (json!({"metadata": {"a": "x".repeat(4_100)}}), "metadata"),
        (json!({"amount": 5}), "amount"),
        (json!({"feature": "image.generate"}), "feature"),
        (json!({"userId": "x"}), "userId"),
    ];
    for (body, field) in cases {
        let answer = refused(&guard.ask_under(&ada, "key", &body), 422, "invalid_request");
        assert_eq!(answer["field"], field, "{body} {answer}");
    }
    for (body, field) in [
        ("{\"user_id\":\"a\",\"user_id\":\"b\"}", "user_id"),
        ("{\"charge\":{\"amount\":1,\"amount\":2}}", "charge.amount"),
        ("{", "body"),
        ("{\"user_id\":\"\\ud800\"}", "body"),
        ("\u{feff}{}", "body"),
    ] {
        let request = asking(&ada, &json!({})).body(body);
        assert_eq!(refused(&guard.backend.send(request), 422, "invalid_request")["field"], field, "{body}");
    }
    let paid = json!({"charge": {"amount": 1}});
    for key in ["", "with space", "é", &"k".repeat(256)] {
        let answer = refused(&guard.ask_under(&ada, key, &paid), 422, "invalid_request");
        assert_eq!(answer["field"], "Idempotency-Key", "{key:?}");
    }
    let twice = asking(&ada, &paid).header("Idempotency-Key", "a").header("Idempotency-Key", "a");
    assert_eq!(refused(&guard.backend.send(twice), 422, "invalid_request")["field"], "Idempotency-Key");
    let large = asking(&ada, &json!({})).body(format!("{{\"reason\":\"{}\"}}", "x".repeat(65_536)));
    refused(&guard.another().backend.send(large), 413, "payload_too_large");
    let get = Request::get("/api/gate/authorize");
    refused(&guard.backend.send(get), 405, "method_not_allowed");
    refused(&guard.backend.send(Request::post("/api/gate/authorise", &json!({}))), 404, "not_found");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM credit_entries"), 0);
}
on_both_engines!(every_wrong_field_is_named);

fn only_keys_with_the_scope_of_the_gate_come_in(engine: Engine) {
    let server = Server::start(engine);
    let (ada, _) = signed_up(&server, "ada@example.com");
    let made = |scopes: &str| {
        let made =
            server.command(&["key", "create", "scoped", "--scopes", scopes, "--json"]).expect_done().json();
        (text(&made["id"]), text(&made["key"]))
    };
    let ask = |key: &str, body: &Value| {
        Guard { backend: Backend::with_key(&server, key) }.ask_under(&ada, "scoped", body)
    };
    for scopes in ["credits:read", "credits:write", "billing", "credits:read,credits:write,billing"] {
        let (_, key) = made(scopes);
        refused(&ask(&key, &json!({})), 403, "forbidden");
        // Also when the body says nothing that could be understood, and when nobody is signed in.
        refused(&ask(&key, &json!({"what": 1})), 403, "forbidden");
        let nobody = asking(&Browser::new(&server), &json!({}));
        refused(&Backend::with_key(&server, &key).send(nobody), 403, "forbidden");
    }
    // The gate's own scope is enough to charge.
    let (id, key) = made("gate");
    Backend::of(&server).grant(&text(&ada.clone().session()["user"]["id"]), 5);
    ask(&key, &json!({"charge": {"amount": 5}})).expect(200);
    server.command(&["key", "revoke", &id]).expect_done();
    refused(&ask(&key, &json!({})), 401, "invalid_service_key");
    let used = "SELECT COUNT(*) FROM service_keys WHERE last_used_at IS NOT NULL";
    assert!(server.database.integer(used) >= 5, "keys that are shown are noted");
}
on_both_engines!(only_keys_with_the_scope_of_the_gate_come_in);

fn tokens_are_taken_in_a_header_of_their_own_and_win(engine: Engine) {
    let server = Server::start(engine);
    let mut guard = Guard::of(&server);
    let mut ada = Browser::new(&server);
    let body = json!({"name": "Ada", "email": "ada@example.com", "password": PASSWORD});
    let made = ada.post("/api/auth/sign-up/email", body).expect(200);
    let signed = made.header("set-auth-token").expect("programs read it").to_owned();
    let token = text(&made.json()["token"]);
    let encoded = signed.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let (bob, _) = signed_up(&server, "bob@example.com");
    let with = |browser: &Browser, token: &str| asking(browser, &json!({})).header("X-Tollgate-Token", token);
    let nobody = Browser::new(&server);
    for token in
        [token.clone(), signed.clone(), encoded, format!("Bearer {token}"), format!("bearer   {signed}")]
    {
        for browser in [&nobody, &bob] {
            let answer = guard.backend.send(with(browser, &token)).expect(200).json();
            assert_eq!(answer["user"]["email"], "ada@example.com", "{token}");
        }
    }
    // What opens nothing does not let the cookie have its turn.
    let key = server.service_key();
    for token in ["x", "a.b", "", "Bearer", "Bearer ", &format!("Basic {token}"), &key, &format!("{token}x")]
    {
        refused(&guard.backend.send(with(&bob, token)), 401, "unauthenticated");
    }
    let both = with(&bob, &token).header("X-Tollgate-Token", &token);
    refused(&guard.backend.send(both), 401, "unauthenticated");
    let off = Server::with(engine, "[methods]\nbearer = false\n");
    let mut guard = Guard::of(&off);
    let (mut ada, _) = signed_up(&off, "ada@example.com");
    let token = text(&ada.session()["session"]["token"]);
    refused(&guard.backend.send(with(&ada, &token)), 401, "unauthenticated");
    guard.ask(&ada, &json!({})).expect(200);
}
on_both_engines!(tokens_are_taken_in_a_header_of_their_own_and_win);

fn a_session_in_use_is_extended_and_its_cookie_comes_back(engine: Engine) {
    let server = Server::start(engine);
    let guard = Guard::of(&server);
    let (mut ada, id) = signed_up(&server, "ada@example.com");
    let due = || server.database.shift("sessions", "expires_at", -DAY - 1000, "user_id IS NOT NULL");
    due();
    let before = server.database.integer("SELECT expires_at FROM sessions");
    // A refusal extends nothing.
    refused(&guard.another().ask(&ada, &json!({"user_id": "other"})), 403, "user_mismatch");
    assert_eq!(server.database.integer("SELECT expires_at FROM sessions"), before);
    let answers = in_parallel(20, |_| guard.another().ask(&ada, &json!({"user_id": id})).expect(200));
    assert_eq!(server.database.integer("SELECT expires_at - updated_at FROM sessions"), 7 * DAY);
    let ends: Vec<Value> =
        answers.iter().map(|answer| answer.json()["session"]["expires_at"].clone()).collect();
    assert!(ends.iter().all(|end| *end == ends[0]), "one extension, seen by all: {ends:?}");
    let lines: Vec<&str> = answers.iter().flat_map(|answer| answer.all("Set-Cookie")).collect();
    assert!(!lines.is_empty());
    for line in lines {
        assert!(line.starts_with(COOKIE) && line.contains("Max-Age=604800"), "{line}");
        let value = line[COOKIE.len() + 1..].split(';').next().unwrap_or_default();
        assert_eq!(Some(value), ada.cookie(COOKIE));
    }
    assert_eq!(ada.session()["session"]["expiresAt"], ends[0]);
    // The line comes with a refusal that follows the extension, too.
    due();
    let poor = guard.another().ask_under(&ada, "k", &json!({"charge": {"amount": 1}}));
    refused(&poor, 402, "insufficient_credits");
    assert_eq!(poor.all("Set-Cookie").count(), 1);
    // A browser that shall not remember is left alone, and so is everybody where only a POST extends.
    let mut brief = Browser::new(&server);
    let body = json!({"email": "ada@example.com", "password": PASSWORD, "rememberMe": false});
    // Its session lasts a day, so it would be due at once.
    brief.post("/api/auth/sign-in/email", body).expect(200);
    assert_eq!(guard.another().ask(&brief, &json!({})).expect(200).all("Set-Cookie").count(), 0);
    let deferred = Server::with(engine, "[session]\ndefer_refresh = true\n");
    let (ada, _) = signed_up(&deferred, "ada@example.com");
    deferred.database.shift("sessions", "expires_at", -DAY - 1000, "user_id IS NOT NULL");
    let answer = Guard::of(&deferred).ask(&ada, &json!({})).expect(200);
    assert_eq!(answer.all("Set-Cookie").count(), 0);
}
on_both_engines!(a_session_in_use_is_extended_and_its_cookie_comes_back);

/// S-4: thousands of values that were good once, are somebody else's, or nearly are good.
fn mutated_expired_revoked_and_foreign_cookies_are_refused(engine: Engine) {
    let server = Server::start(engine);
    let foreign = Server::with(engine, "secrets = [\"another-secret-0123456789-0123456789\"]\n");
    let key = server.service_key();
    let (ada, _) = signed_up(&server, "ada@example.com");
    let value = ada.cookie(COOKIE).expect("signed in").to_owned();
    let mut connection = Connection::open(server.address).expect("the server accepts");
    connection.set_timeout(Duration::from_secs(10));
    let mut ask = |value: &str| {
        let request = Request::post("/api/gate/authorize", &json!({}))
            .header("Authorization", &format!("Bearer {key}"))
            .header("Cookie", &format!("{COOKIE}={value}"));
        connection.exchange(&request).expect("an answer")
    };
    let mut dead = Vec::new();
    for _ in 0..3 {
        let mut revoked = signed_in(&server, "ada@example.com");
        dead.push(revoked.cookie(COOKIE).expect("signed in").to_owned());
        revoked.sign_out();
    }
    let (expired, id) = signed_up(&server, "expired@example.com");
    let of = format!("user_id = {}", quoted(&id));
    server.database.shift("sessions", "expires_at", -8 * DAY, &of);
    dead.push(expired.cookie(COOKIE).expect("signed in").to_owned());
    // The right token with a signature of another deployment; another deployment's cookie as it is.
    let (stranger, _) = signed_up(&foreign, "ada@example.com");
    let strange = stranger.cookie(COOKIE).expect("signed in").to_owned();
    let (token, _) = value.split_once('.').expect("signed");
    let (_, signature) = strange.split_once('.').expect("signed");
    dead.extend([format!("{token}.{signature}"), strange.clone()]);
    for value in &dead {
        refused(&ask(value), 401, "unauthenticated");
    }
    let rounds = if at_full_length() { 10_000 } else { 1_500 };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("it is below")
    };
    for round in 0..rounds {
        let mut bytes = if round % 8 == 0 { strange.clone() } else { value.clone() }.into_bytes();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = b"ABCabc019+/=.%-_"[random(16)],
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"ABCabc019.%="[random(12)]),
                _ => bytes.truncate(at.max(8)),
            }
        }
        let text = String::from_utf8(bytes).expect("ASCII");
        if cookie_meaning(&text) == cookie_meaning(&value) {
            continue;
        }
        refused(&ask(&text), 401, "unauthenticated");
    }
    assert_eq!(ask(&value).expect(200).json()["user"]["email"], "ada@example.com");
}
on_both_engines!(mutated_expired_revoked_and_foreign_cookies_are_refused);

/// N-7 at the gate: whoever asks after the answer to a revoke is refused, on that connection, another one and another node.
fn every_end_is_seen_at_once(first: &Server, second: &Server) {
    let guards = [Guard::of(first), Guard::of(first).at(second)];
    let (mut ada, id) = signed_up(first, "ada@example.com");
    guards[0].another().backend.grant(&id, 1);
    let rounds = if at_full_length() { 500 } else { 20 };
    let mut asking: Vec<Guard> = guards.iter().map(Guard::another).collect();
    for round in 0..rounds {
        let mut victim = signed_in(first, "ada@example.com");
        for guard in &mut asking {
            guard.ask(&victim, &json!({})).expect(200);
        }
        let stolen = victim.clone();
        match round % 3 {
            0 => victim.sign_out(),
            1 => {
                let token = text(&victim.session()["session"]["token"]);
                ada.post("/api/auth/revoke-session", json!({"token": token})).expect(200);
            }
            _ => drop(ada.post("/api/auth/revoke-other-sessions", json!({})).expect(200)),
        }
        for guard in asking.iter_mut().rev() {
            refused(&guard.ask(&stolen, &json!({})), 401, "unauthenticated");
            let paid = guard.ask_under(&stolen, "paid", &json!({"charge": {"amount": 1}}));
            refused(&paid, 401, "unauthenticated");
        }
        let other = in_parallel(2, |number| guards[number].another().ask(&stolen, &json!({})).status);
        assert_eq!(other, [401, 401]);
    }
    assert_eq!(guards[0].another().backend.balance(&id)["balance"], 1, "nobody paid");
}

fn a_revoked_session_never_passes_on_any_node(engine: Engine) {
    let first = Server::start(engine);
    let second = Server::second_node(&first);
    every_end_is_seen_at_once(&first, &second);
}
on_both_engines!(a_revoked_session_never_passes_on_any_node);

/// The same while others ask all the time: no question that began after the answer is accepted.
fn a_revoke_beside_a_storm_of_questions_is_final(engine: Engine) {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Instant;
    let server = Server::start(engine);
    let guard = Guard::of(&server);
    signed_up(&server, "ada@example.com");
    for _ in 0..if at_full_length() { 50 } else { 3 } {
        let mut ada = signed_in(&server, "ada@example.com");
        let stolen = ada.clone();
        let (stop, accepted) = (AtomicBool::new(false), AtomicUsize::new(0));
        let ended = std::sync::OnceLock::<Instant>::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let mut guard = guard.another();
                        let mut answers = Vec::new();
                        while !stop.load(Ordering::Acquire) {
                            let began = Instant::now();
                            let passed = guard.ask(&stolen, &json!({})).status == 200;
                            accepted.fetch_add(usize::from(passed), Ordering::AcqRel);
                            answers.push((began, passed));
                            // Enough were asked after the end.
                            let late =
                                |end: &Instant| answers.iter().filter(|(began, _)| began > end).count();
                            if ended.get().is_some_and(|end| late(end) >= 20) {
                                break;
                            }
                        }
                        answers
                    })
                })
                .collect();
            while accepted.load(Ordering::Acquire) < 10 {
                std::thread::yield_now();
            }
            ada.sign_out();
            let end = *ended.get_or_init(Instant::now);
            let answers: Vec<_> =
                threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
            stop.store(true, Ordering::Release);
            let late: Vec<_> = answers.iter().filter(|(began, _)| *began > end).collect();
            assert!(late.len() >= 60, "{}", late.len());
            assert!(late.iter().all(|(_, passed)| !passed), "accepted after the end was answered");
        });
    }
}
on_both_engines!(a_revoke_beside_a_storm_of_questions_is_final);

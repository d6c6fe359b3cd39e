//! `POST /api/gate/authorize` without a charge: who passes, who does not, and what is said of it.

use serde_json::{Value, json};

use crate::harness::credits::{Backend, refused, text};
use crate::harness::database::quoted;
use crate::harness::gate::{Guard, asking};
use crate::harness::guide::blocks_of_guide;
use crate::harness::{Browser, Engine, Request, Server};
use crate::on_both_engines;

const DAY: i64 = 24 * 3600 * 1000;

fn signed_up(server: &Server, email: &str) -> (Browser, String) {
    let mut browser = Browser::new(server);
    let made = browser.sign_up(email);
    (browser, text(&made["user"]["id"]))
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
    let mut out = Browser::new(&server);
    out.sign_in("ada@example.com");
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

/// The commands of the guide, run as they stand there.
#[test]
fn the_commands_of_the_guide_do_what_it_says() {
    let server = Server::with(Engine::Sqlite, "[credits.features]\n\"image.generate\" = 5\n");
    let (ada, id) = signed_up(&server, "ada@example.com");
    Backend::of(&server).grant(&id, 25);
    let made =
        server.command(&["key", "create", "backend", "--scopes", "gate", "--json"]).expect_done().json();
    let run = |command: &str, cookie: &str| -> Value {
        let output = std::process::Command::new("sh")
            .args(["-ec", command])
            .env("TOLLGATE_URL", &server.base_url)
            .env("TOLLGATE_KEY", text(&made["key"]))
            .env("COOKIE", cookie)
            .env("USER_ID", &id)
            .output()
            .expect("there is a shell");
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    };
    let cookie = ada.cookie_header("/");
    let commands = blocks_of_guide("guard-your-backend.md", "sh");
    let answers: Vec<Value> = commands.iter().map(|command| run(command, &cookie)).collect();
    let [who, may, paid] = &answers[..] else { panic!("the guide has other commands: {commands:?}") };
    assert_eq!((&who["user"]["email"], &may["user"]["role"]), (&json!("ada@example.com"), &json!("user")));
    assert_eq!(json!([paid["charge"]["amount"], paid["charge"]["balance"]]), json!([10, 15]));
    for command in &commands {
        assert_eq!(run(command, "nobody=1")["error_code"], "unauthenticated", "{command}");
    }
}

//! Keys for programs: shown once, found by hash, counted exactly, and sessions where that is switched on.

use serde_json::{Value, json};

use crate::harness::credits::{counted, in_milliseconds, number, text};
use crate::harness::database::quoted;
use crate::harness::{Browser, Engine, Request, Response, Server, in_parallel};
use crate::on_both_engines;

const AS_SESSIONS: &str =
    "[accounts]\ndelete_user = true\n[methods]\napi_key_sessions = true\n[api_keys]\nrate_limit_max = 1000\n";

fn signed_up(server: &Server, email: &str) -> (Browser, String) {
    let mut browser = Browser::new(server);
    let made = browser.sign_up(email);
    (browser, text(&made["user"]["id"]))
}

#[track_caller]
fn create(browser: &mut Browser, body: Value) -> Value {
    browser.post("/api/auth/api-key/create", body).expect(200).json()
}

/// A program with nothing but its key.
fn program(server: &Server, key: &str) -> Browser {
    let mut program = Browser::new(server);
    program.origin = None;
    program.headers.push(("x-api-key".into(), key.into()));
    program
}

fn set(server: &Server, id: &Value, what: &str) {
    let id = quoted(id.as_str().expect("an id"));
    assert_eq!(server.database.execute(&format!("UPDATE api_keys SET {what} WHERE id = {id}")), 1);
}

fn a_key_is_shown_once_and_stored_as_a_hash(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, id) = signed_up(&server, "ada@example.com");
    let body = json!({"name": "ci", "prefix": "tg_live-", "expiresIn": 86_400, "metadata": {"a": [1]}});
    let made = create(&mut ada, body);
    let key = text(&made["key"]);
    assert!(key.strip_prefix("tg_live-").is_some_and(|rest| rest.len() == 64), "{made}");
    assert_eq!(made["start"], key[..6]);
    assert_eq!(made["referenceId"], id);
    assert_eq!((&made["rateLimitMax"], &made["rateLimitTimeWindow"]), (&json!(10), &json!(86_400_000)));
    let got = ada.get(&format!("/api/auth/api-key/get?id={}", text(&made["id"]))).expect(200).json();
    assert_eq!((&got["name"], &got["metadata"]), (&json!("ci"), &json!({"a": [1]})));
    let list = ada.get("/api/auth/api-key/list").expect(200).json();
    assert_eq!((number(&list["total"]), &list["apiKeys"][0]), (1, &got));
    assert!(got.get("key").is_none() && list.get("limit").is_none(), "{list}");
    let dump = server.database.dump();
    assert!(!dump.contains(&key) && !dump.contains(&key[8..]), "the key lies in the database");
    assert!(!server.log().contains(&key[8..]));
}
on_both_engines!(a_key_is_shown_once_and_stored_as_a_hash);

fn what_only_an_operator_sets_is_refused_and_so_is_what_is_out_of_bounds(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, id) = signed_up(&server, "ada@example.com");
    let made = create(&mut ada, json!({}));
    for (name, value) in [
        ("remaining", json!(5)),
        ("refillAmount", json!(5)),
        ("refillInterval", json!(5)),
        ("rateLimitMax", json!(5)),
        ("rateLimitTimeWindow", json!(5)),
        ("rateLimitEnabled", json!(false)),
        ("permissions", json!({"files": ["read"]})),
    ] {
        let path = "/api/auth/api-key/create";
        ada.post(path, json!({name: value})).refused(400, "SERVER_ONLY_PROPERTY");
        let path = "/api/auth/api-key/update";
        ada.post(path, json!({"keyId": made["id"], name: value})).refused(400, "SERVER_ONLY_PROPERTY");
    }
    for (body, status, code) in [
        (json!({"userId": id}), 401, "UNAUTHORIZED_SESSION"),
        (json!({"expiresIn": 86_399}), 400, "EXPIRES_IN_IS_TOO_SMALL"),
        (json!({"expiresIn": 365 * 86_400 + 1}), 400, "EXPIRES_IN_IS_TOO_LARGE"),
        (json!({"expiresIn": "1"}), 400, "VALIDATION_ERROR"),
        (json!({"name": "n".repeat(33)}), 400, "INVALID_NAME_LENGTH"),
        (json!({"name": "a\u{0}b"}), 400, "VALIDATION_ERROR"),
        (json!({"prefix": "p".repeat(33)}), 400, "INVALID_PREFIX_LENGTH"),
        (json!({"prefix": "a b"}), 400, "VALIDATION_ERROR"),
        (json!({"metadata": "text"}), 400, "INVALID_METADATA_TYPE"),
        (json!({"configId": "organization"}), 400, "ORGANIZATION_ID_REQUIRED"),
        (json!({"configId": "organization", "organizationId": "x"}), 403, "USER_NOT_MEMBER_OF_ORGANIZATION"),
    ] {
        ada.post("/api/auth/api-key/create", body).refused(status, code);
    }
    let update = |browser: &mut Browser, body: Value| browser.post("/api/auth/api-key/update", body);
    update(&mut ada, json!({"keyId": made["id"]})).refused(400, "NO_VALUES_TO_UPDATE");
    update(&mut ada, json!({"keyId": made["id"], "name": ""})).refused(400, "INVALID_NAME_LENGTH");
    let renamed =
        update(&mut ada, json!({"keyId": made["id"], "name": "new", "enabled": false})).expect(200).json();
    assert_eq!((&renamed["name"], &renamed["enabled"]), (&json!("new"), &json!(false)));
    let list = ada.get("/api/auth/api-key/list?sortBy=name&sortDirection=down");
    list.refused(400, "VALIDATION_ERROR");
}
on_both_engines!(what_only_an_operator_sets_is_refused_and_so_is_what_is_out_of_bounds);

fn nobody_sees_or_changes_somebody_elses_key(engine: Engine) {
    let server = Server::with(engine, AS_SESSIONS);
    let (mut ada, _) = signed_up(&server, "ada@example.com");
    let (mut eve, eves) = signed_up(&server, "eve@example.com");
    let made = create(&mut ada, json!({"name": "ci"}));
    let id = text(&made["id"]);
    for id in [id.as_str(), "unknown", "", "a%00b"] {
        eve.get(&format!("/api/auth/api-key/get?id={id}")).refused(404, "KEY_NOT_FOUND");
    }
    eve.post("/api/auth/api-key/update", json!({"keyId": id, "name": "hers"})).refused(404, "KEY_NOT_FOUND");
    eve.post("/api/auth/api-key/update", json!({"keyId": id, "userId": eves, "name": "hers"}))
        .refused(404, "KEY_NOT_FOUND");
    eve.post("/api/auth/api-key/delete", json!({"keyId": id})).refused(404, "KEY_NOT_FOUND");
    assert_eq!(eve.get("/api/auth/api-key/list").expect(200).json()["total"], 0);
    let mut nobody = Browser::new(&server);
    nobody.get("/api/auth/api-key/list").refused(401, "UNAUTHORIZED");
    nobody.post("/api/auth/api-key/create", json!({"userId": eves})).refused(401, "UNAUTHORIZED_SESSION");
    nobody
        .post("/api/auth/api-key/update", json!({"keyId": id, "userId": eves, "name": "x"}))
        .refused(401, "UNAUTHORIZED_SESSION");
    // Its owner deletes it, and it opens nothing any more.
    let mut key = program(&server, &text(&made["key"]));
    assert_eq!(key.session()["user"]["email"], "ada@example.com");
    ada.post("/api/auth/api-key/delete", json!({"keyId": id})).expect(200);
    key.get("/api/auth/get-session").refused(401, "INVALID_API_KEY");
}
on_both_engines!(nobody_sees_or_changes_somebody_elses_key);

fn a_key_is_a_session_of_its_own_kind(engine: Engine) {
    let server = Server::with(engine, AS_SESSIONS);
    let (mut ada, id) = signed_up(&server, "ada@example.com");
    let made = create(&mut ada, json!({}));
    let text_of_key = text(&made["key"]);
    let mut key = program(&server, &text_of_key);
    let session = key.session();
    assert_eq!((&session["session"]["id"], &session["user"]["id"]), (&made["id"], &json!(id)));
    assert_eq!(session["session"]["token"], json!(text_of_key));
    let quiet = |answer: Response| {
        assert!(answer.header("Set-Cookie").is_none(), "{answer:?}");
        assert!(answer.header("set-auth-token").is_none() && answer.header("set-auth-jwt").is_none());
        answer
    };
    quiet(key.get("/api/auth/list-accounts")).expect(200);
    quiet(key.post("/api/auth/update-user", json!({"name": "By a program"}))).expect(200);
    assert_eq!(ada.session()["user"]["name"], "By a program");
    quiet(key.post("/api/auth/revoke-other-sessions", json!({}))).expect(200);
    assert_eq!(ada.session(), Value::Null);
    // Nothing that asks for a recent sign-in, or for a person.
    quiet(key.get("/api/auth/list-sessions")).refused(403, "SESSION_NOT_FRESH");
    quiet(key.post("/api/auth/delete-user", json!({}))).refused(400, "SESSION_EXPIRED");
    // No key without its limits, and no more time for itself.
    quiet(key.post("/api/auth/api-key/create", json!({"name": "heir"}))).refused(401, "UNAUTHORIZED_SESSION");
    let longer = json!({"keyId": made["id"], "expiresIn": null});
    quiet(key.post("/api/auth/api-key/update", longer)).refused(401, "UNAUTHORIZED_SESSION");
    // Beside a cookie the key counts.
    let (mut bob, _) = signed_up(&server, "bob@example.com");
    bob.headers.push(("x-api-key".into(), text_of_key.clone()));
    assert_eq!(bob.session()["user"]["id"], json!(id));
    quiet(bob.post("/api/auth/sign-out", json!({}))).expect(200);
    // On a route that needs nobody a bad key ends the request as well.
    for (text, status) in [("short", 403), ("x".repeat(64).as_str(), 401), (&format!("{text_of_key} x"), 401)]
    {
        let mut wrong = program(&server, text);
        quiet(wrong.get("/api/auth/ok")).refused(status, "INVALID_API_KEY");
    }
    let twice = Request::get("/api/auth/get-session").header("x-api-key", &text_of_key);
    let twice = twice.header("x-api-key", &text_of_key).send(server.address).expect("an answer");
    twice.refused(401, "INVALID_API_KEY");
    set(&server, &made["id"], "enabled = FALSE");
    key.get("/api/auth/get-session").refused(401, "KEY_DISABLED");
    set(&server, &made["id"], "enabled = TRUE, expires_at = 1");
    key.get("/api/auth/get-session").refused(401, "KEY_EXPIRED");
    set(&server, &made["id"], "expires_at = NULL");
    server.command(&["user", "ban", "ada@example.com"]).expect_done();
    key.get("/api/auth/get-session").refused(403, "BANNED_USER");
}
on_both_engines!(a_key_is_a_session_of_its_own_kind);

fn where_keys_are_no_sessions_the_header_says_nothing(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, _) = signed_up(&server, "ada@example.com");
    let made = create(&mut ada, json!({}));
    assert_eq!(program(&server, &text(&made["key"])).session(), Value::Null);
    assert_eq!(program(&server, "short").session(), Value::Null);
    let row = ada.get(&format!("/api/auth/api-key/get?id={}", text(&made["id"]))).expect(200).json();
    assert_eq!((&row["requestCount"], &row["lastRequest"]), (&json!(0), &Value::Null));
}
on_both_engines!(where_keys_are_no_sessions_the_header_says_nothing);

fn switched_off_there_is_no_such_route(engine: Engine) {
    let server = Server::with(engine, "[methods]\napi_keys = false\napi_key_sessions = true\n");
    let (mut ada, _) = signed_up(&server, "ada@example.com");
    for path in ["list", "get?id=x"] {
        assert!(ada.get(&format!("/api/auth/api-key/{path}")).expect(404).body.is_empty());
    }
    for path in ["create", "update", "delete", "verify"] {
        assert!(ada.post(&format!("/api/auth/api-key/{path}"), json!({})).expect(404).body.is_empty());
    }
    assert_eq!(program(&server, "short").session(), Value::Null);
}
on_both_engines!(switched_off_there_is_no_such_route);

fn fifty_uses_at_once_never_pass_a_limit(engine: Engine) {
    let server = Server::with(engine, AS_SESSIONS);
    let (mut ada, _) = signed_up(&server, "ada@example.com");
    let made = create(&mut ada, json!({}));
    let key = text(&made["key"]);
    let storm = || {
        let answers = in_parallel(50, |_| program(&server, &key).get("/api/auth/get-session"));
        counted(answers.iter().map(|answer| answer.status))
    };
    let column = |name: &str| {
        let id = quoted(made["id"].as_str().expect("an id"));
        server.database.integer(&format!("SELECT COALESCE({name}, -1) FROM api_keys WHERE id = {id}"))
    };
    set(&server, &made["id"], "rate_limit_max = 7");
    assert_eq!(storm(), [(200, 7), (429, 43)].into());
    assert_eq!(column("request_count"), 7);
    let refused = program(&server, &key).get("/api/auth/get-session").refused(429, "RATE_LIMITED");
    let wait = number(&refused.json()["details"]["tryAgainIn"]);
    assert!((86_000_000..=86_400_000).contains(&wait), "{wait}");
    // A window whose last use is over begins anew.
    set(&server, &made["id"], "last_request_at = last_request_at - 86400001");
    assert_eq!(storm(), [(200, 7), (429, 43)].into());
    // Uses in all, and how they come back: once.
    set(&server, &made["id"], "rate_limit_enabled = FALSE, remaining = 9");
    assert_eq!(storm(), [(200, 9), (429, 41)].into());
    assert_eq!(column("remaining"), 0);
    program(&server, &key).get("/api/auth/get-session").refused(429, "USAGE_EXCEEDED");
    set(&server, &made["id"], "refill_amount = 5, refill_interval = 60000, created_at = created_at - 60001");
    assert_eq!(storm(), [(200, 5), (429, 45)].into());
    assert_eq!((column("remaining"), column("refill_amount")), (0, 5));
    assert!(column("last_refill_at") > 0);
}
on_both_engines!(fifty_uses_at_once_never_pass_a_limit);

fn an_organizations_keys_are_its_owners_to_manage(engine: Engine) {
    let server = Server::with(engine, AS_SESSIONS);
    let (mut ada, _) = signed_up(&server, "ada@example.com");
    let (mut bob, bobs) = signed_up(&server, "bob@example.com");
    let (mut eve, _) = signed_up(&server, "eve@example.com");
    let acme =
        ada.post("/api/auth/organization/create", json!({"name": "Acme", "slug": "acme"})).expect(200).json();
    let acme = text(&acme["id"]);
    server.database.execute(&format!(
        "INSERT INTO members (id, organization_id, user_id, role, created_at) VALUES ('m', {}, {}, 'admin', 1)",
        quoted(&acme),
        quoted(&bobs)
    ));
    let body = json!({"configId": "organization", "organizationId": acme, "name": "robot"});
    bob.post("/api/auth/api-key/create", body.clone()).refused(403, "INSUFFICIENT_API_KEY_PERMISSIONS");
    eve.post("/api/auth/api-key/create", body.clone()).refused(403, "USER_NOT_MEMBER_OF_ORGANIZATION");
    let made = create(&mut ada, body);
    assert_eq!((&made["configId"], &made["referenceId"]), (&json!("organization"), &json!(acme)));
    let id = text(&made["id"]);
    let get = format!("/api/auth/api-key/get?id={id}&configId=organization");
    ada.get(&format!("/api/auth/api-key/get?id={id}")).refused(404, "KEY_NOT_FOUND");
    ada.get(&get).expect(200);
    bob.get(&get).refused(403, "INSUFFICIENT_API_KEY_PERMISSIONS");
    eve.get(&get).refused(403, "USER_NOT_MEMBER_OF_ORGANIZATION");
    let list = format!("/api/auth/api-key/list?organizationId={acme}");
    assert_eq!(ada.get(&list).expect(200).json()["apiKeys"][0]["id"], json!(id));
    assert_eq!(ada.get("/api/auth/api-key/list").expect(200).json()["total"], 0);
    bob.get(&list).refused(403, "INSUFFICIENT_API_KEY_PERMISSIONS");
    eve.get(&list).refused(403, "USER_NOT_MEMBER_OF_ORGANIZATION");
    let change = json!({"configId": "organization", "keyId": id, "name": "other"});
    eve.post("/api/auth/api-key/update", change.clone()).refused(403, "USER_NOT_MEMBER_OF_ORGANIZATION");
    bob.post("/api/auth/api-key/delete", change.clone()).refused(403, "INSUFFICIENT_API_KEY_PERMISSIONS");
    // It stands for nobody.
    let key = text(&made["key"]);
    program(&server, &key).get("/api/auth/get-session").refused(401, "INVALID_REFERENCE_ID_FROM_API_KEY");
    // It ends with the organization.
    ada.post("/api/auth/organization/delete", json!({"organizationId": acme})).expect(200);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM api_keys"), 0);
}
on_both_engines!(an_organizations_keys_are_its_owners_to_manage);

fn keys_end_with_their_user_and_with_their_time(engine: Engine) {
    let server = Server::with(engine, AS_SESSIONS);
    let (mut ada, _) = signed_up(&server, "ada@example.com");
    let made = create(&mut ada, json!({"expiresIn": 86_400}));
    let end = text(&made["expiresAt"]);
    assert!(in_milliseconds(86_390_000) < end && end < in_milliseconds(86_410_000), "{end}");
    let endless = ada.post("/api/auth/api-key/update", json!({"keyId": made["id"], "expiresIn": null}));
    assert_eq!(endless.expect(200).json()["expiresAt"], Value::Null);
    server.command(&["user", "delete", "ada@example.com", "--yes"]).expect_done();
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM api_keys"), 0);
    program(&server, &text(&made["key"])).get("/api/auth/get-session").refused(401, "INVALID_API_KEY");
}
on_both_engines!(keys_end_with_their_user_and_with_their_time);

fn an_operator_sets_what_nobody_else_may(engine: Engine) {
    let server = Server::with(engine, AS_SESSIONS);
    let (mut ada, id) = signed_up(&server, "ada@example.com");
    let run = |arguments: &[&str]| {
        let arguments: Vec<&str> = [&["api-key"], arguments, &["--json"]].concat();
        server.command(&arguments).expect_done().json()
    };
    let terms = ["--remaining", "2", "--permissions", r#"{"files":["read"]}"#, "--expires-in", "30d"];
    let made = run(&[&["create", "--user", "ada@example.com", "--prefix", "op_"][..], &terms[..]].concat());
    let (key, key_id) = (text(&made["key"]), text(&made["id"]));
    assert!(key.starts_with("op_") && made["user_id"] == json!(id), "{made}");
    let row = ada.get(&format!("/api/auth/api-key/get?id={key_id}")).expect(200).json();
    assert_eq!((&row["remaining"], &row["permissions"]), (&json!(2), &json!({"files": ["read"]})));
    let mut program = program(&server, &key);
    program.get("/api/auth/get-session").expect(200);
    program.get("/api/auth/get-session").expect(200);
    program.get("/api/auth/get-session").refused(429, "USAGE_EXCEEDED");
    let set = run(&["set", &key_id, "--remaining", "any", "--rate-limit-max", "0", "--expires-in", "never"]);
    let expected = (&Value::Null, &Value::Null, &Value::Null);
    assert_eq!((&set["remaining"], &set["rate_limit_max"], &set["expires_at"]), expected);
    for _ in 0..12 {
        program.get("/api/auth/get-session").expect(200);
    }
    let listed = run(&["list", "--user", &id]);
    assert_eq!(listed["items"][0]["id"], json!(key_id));
    assert!(!listed.to_string().contains(&key[9..]), "a list shows the key");
    run(&["revoke", &key_id]);
    program.get("/api/auth/get-session").refused(401, "INVALID_API_KEY");
    for arguments in [
        &["create", "--user", "absent@example.com"][..],
        &["create", "--organization", "absent"],
        &["set", "absent", "--remaining", "1"],
        &["revoke", "absent"],
    ] {
        let refused = server.command(&[&["api-key"], arguments].concat());
        assert_eq!(refused.code, Some(1), "{arguments:?}");
    }
}
on_both_engines!(an_operator_sets_what_nobody_else_may);

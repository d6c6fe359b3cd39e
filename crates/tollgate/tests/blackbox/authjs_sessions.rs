//! Sessions of an app with Auth.js: what opens the gate and the doors of browsers where the strategy says that they count.

use serde_json::{Value, json};

use crate::harness::adapter::{Adapter, SECRET, TOKENS, token};
use crate::harness::credits::{Backend, refused, text};
use crate::harness::{Browser, Engine, PASSWORD, Request, Response, Server};
use crate::on_both_engines;

const COOKIE: &str = "authjs.session-token";
const PAGE: &str = "http://localhost:3000/login";

fn settings(strategy: &str, more: &str) -> String {
    let (secret, old) = (token("secret"), token("old"));
    format!(
        "[session]\nstrategy = \"{strategy}\"\n[authjs]\nsign_in_url = \"{PAGE}\"\nadapter_secrets = [\"{SECRET}\"]\n\
         jwt_secrets = [\"{secret}\", \"{old}\"]\n{more}\n"
    )
}

/// With the user whom the tokens name.
fn with_user(server: &Server) -> Adapter {
    let adapter = Adapter::of(server);
    adapter
        .post("/users", json!({"id": TOKENS["user"], "email": "ada@example.com", "name": "Ada"}))
        .expect(201);
    adapter
}

fn authorize() -> Request {
    Request::post("/api/gate/authorize", &json!({}))
}

fn cookie(request: Request, name: &str, value: &str) -> Request {
    request.header("Cookie", &format!("theme=dark; {name}={value}"))
}

#[track_caller]
fn told(answer: &Response, code: &str) {
    refused(answer, 401, code);
    assert_eq!(
        answer.header("WWW-Authenticate"),
        Some("Bearer error=\"invalid_token\""),
        "{}",
        answer.text()
    );
}

fn tokens_open_the_gate_and_the_doors_of_browsers(engine: Engine) {
    let server = Server::with(engine, &settings("authjs-jwt", ""));
    with_user(&server);
    let mut backend = Backend::of(&server);
    let user = text(&TOKENS["user"]);
    for name in ["v5", "v5_old_secret"] {
        let answer = backend.send(cookie(authorize(), COOKIE, token(name))).expect(200).json();
        assert_eq!(
            (&answer["user"]["user_id"], &answer["user"]["email"]),
            (&json!(user), &json!("ada@example.com"))
        );
        assert!(text(&answer["session"]["expires_at"]).starts_with("2100-01-01"));
    }
    // In parts, in any order, beside what is left of another one.
    let large = token("v5_large");
    let (one, two) = large.split_at(3_936);
    let parts = format!("{COOKIE}.1={two}; {COOKIE}-old=stale; {COOKIE}=left-over; {COOKIE}.0={one}");
    backend.send(authorize().header("Cookie", &parts)).expect(200);
    // A backend passes a header on; it wins over the cookie.
    for given in
        [token("v5").to_owned(), format!("Bearer {}", token("v5")), format!("bearer  {}", token("v5"))]
    {
        backend.send(authorize().header("X-Tollgate-Token", &given)).expect(200);
    }
    let both = cookie(authorize(), COOKIE, token("v5")).header("X-Tollgate-Token", "a.b.c");
    told(&backend.send(both), "invalid_token");

    // A charge, and what the person is shown of it.
    backend.grant(&user, 10);
    let charge = Request::post("/api/gate/authorize", &json!({"charge": {"amount": 3}}))
        .header("Idempotency-Key", "k");
    let charged = backend.send(cookie(charge, COOKIE, token("v5"))).expect(200).json();
    assert_eq!(charged["charge"]["balance"], 7);
    let own = |request: Request| request.send(server.address).expect("an answer");
    let balance =
        own(cookie(Request::get("/api/auth/credits/balance"), COOKIE, token("v5"))).expect(200).json();
    assert_eq!(balance["balance"], 7);
    let bearer = format!("Bearer {}", token("v5"));
    own(Request::get("/api/auth/credits/balance").header("Authorization", &bearer)).expect(200);
    for path in ["/api/auth/get-session", "/api/auth/session"] {
        let session = own(cookie(Request::get(path), COOKIE, token("v5")));
        assert_eq!(session.all("Set-Cookie").count(), 0);
        let session = session.expect(200).json();
        assert_eq!((&session["user"]["id"], &session["session"]["userId"]), (&json!(user), &json!(user)));
        assert_eq!(session["session"]["token"], "", "the app's token is not handed to scripts");
        assert_eq!(own(cookie(Request::get(path), COOKIE, token("v5_over"))).expect(200).json(), Value::Null);
        assert_eq!(own(Request::get(path)).expect(200).json(), Value::Null);
    }
    // A proxy.
    let forward = |request: Request| {
        backend.another().send(request.header("X-Forwarded-Method", "GET").header("X-Forwarded-Uri", "/a"))
    };
    let passed = forward(cookie(Request::get("/api/gate/forward"), COOKIE, token("v5"))).expect(200);
    assert_eq!(passed.header("X-Tollgate-User"), Some(user.as_str()));
    told(&forward(cookie(Request::get("/api/gate/forward"), COOKIE, token("v5_over"))), "token_expired");
    assert!(!server.log().contains(&token("v5")[..40]), "tokens are not logged");
}
on_both_engines!(tokens_open_the_gate_and_the_doors_of_browsers);

fn what_does_not_open_is_told_by_its_cause(engine: Engine) {
    let server = Server::with(engine, &settings("authjs-jwt", ""));
    with_user(&server);
    let mut backend = Backend::of(&server);
    let mut gate = |given: &str| backend.send(authorize().header("X-Tollgate-Token", given));
    for (given, code) in [
        ("Bearer [object Object]", "bearer_not_a_token"),
        ("[object Promise]", "bearer_not_a_token"),
        ("undefined", "bearer_not_a_token"),
        ("null", "bearer_not_a_token"),
        ("NaN", "bearer_not_a_token"),
        ("{\"sub\":\"1\"}", "bearer_not_a_token"),
        ("", "invalid_token"),
        ("%", "invalid_token"),
        ("%E0%A4%A", "invalid_token"),
        ("a.b", "invalid_token"),
        ("a.b.c.d.e", "invalid_token"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", "invalid_token"),
        (token("hs256"), "token_format_mismatch"),
        (token("v5_other_secret"), "invalid_token"),
        (token("v5_other_cookie"), "invalid_token"),
        (token("v4"), "invalid_token"),
        (token("v5_over"), "token_expired"),
        (token("v5_nobody"), "no_subject"),
    ] {
        let answer = gate(given);
        told(&answer, code);
    }
    let named = text(&gate("Bearer [object Object]").json()["message"]);
    assert!(named.contains("object") && named.contains("getToken"), "{named}");
    told(&backend.send(authorize()), "unauthenticated");
    told(&backend.send(cookie(authorize(), "__Secure-authjs.session-token", token("v5"))), "unauthenticated");
    let quoted = format!("\"{}\"", token("v5"));
    told(&backend.send(cookie(authorize(), COOKIE, &quoted)), "invalid_token");
    // The doors of browsers say it in their own words.
    let balance = |header: &str| {
        let request = Request::get("/api/auth/credits/balance").header("Authorization", header);
        request.send(server.address).expect("an answer")
    };
    for (header, code) in [
        ("Bearer [object Object]", "BEARER_NOT_A_TOKEN"),
        ("Bearer x", "INVALID_TOKEN"),
        ("Basic x", "UNAUTHORIZED"),
    ] {
        let answer = balance(header);
        assert_eq!((answer.status, answer.code().as_str()), (401, code), "{}", answer.text());
        assert_eq!(answer.header("WWW-Authenticate"), Some("Bearer error=\"invalid_token\""));
    }
    // Of two tokens nobody knows which one was judged on the way.
    let bearer = format!("Bearer {}", token("v5"));
    let twice = Request::get("/api/auth/credits/balance").header("Authorization", &bearer);
    let twice = twice.header("Authorization", &bearer).send(server.address).expect("an answer");
    assert_eq!((twice.status, twice.code().as_str()), (401, "INVALID_TOKEN"));
    let expired = format!("Bearer {}", token("v5_over"));
    assert_eq!(balance(&expired).code(), "TOKEN_EXPIRED");
}
on_both_engines!(what_does_not_open_is_told_by_its_cause);

fn a_token_outlives_neither_a_ban_nor_its_user(engine: Engine) {
    let server = Server::with(engine, &settings("authjs-jwt", ""));
    let adapter = with_user(&server);
    let mut backend = Backend::of(&server);
    let asked = || cookie(authorize(), COOKIE, token("v5"));
    let session = || {
        let request = cookie(Request::get("/api/auth/get-session"), COOKIE, token("v5"));
        request.send(server.address).expect("an answer").expect(200).json()
    };
    backend.send(asked()).expect(200);
    server.command(&["user", "ban", "ada@example.com"]).expect_done();
    refused(&backend.send(asked()), 403, "user_banned");
    let forward = cookie(Request::get("/api/gate/forward"), COOKIE, token("v5"));
    let forward = forward.header("X-Forwarded-Method", "GET").header("X-Forwarded-Uri", "/");
    refused(&backend.send(forward), 403, "user_banned");
    assert_eq!(session(), Value::Null);
    let balance = cookie(Request::get("/api/auth/credits/balance"), COOKIE, token("v5"));
    balance.send(server.address).expect("an answer").expect(401);
    server.command(&["user", "unban", "ada@example.com"]).expect_done();
    backend.send(asked()).expect(200);
    adapter.delete(&format!("/users/{}", text(&TOKENS["user"]))).expect(200);
    told(&backend.send(asked()), "unauthenticated");
    assert_eq!(session(), Value::Null);
}
on_both_engines!(a_token_outlives_neither_a_ban_nor_its_user);

fn tokens_of_version_4_and_signed_ones_are_taken_where_that_is_said(engine: Engine) {
    let v4 = Server::with(engine, &settings("authjs-jwt", "cookie_name = \"next-auth.session-token\""));
    with_user(&v4);
    let mut backend = Backend::of(&v4);
    backend.send(cookie(authorize(), "next-auth.session-token", token("v4"))).expect(200);
    told(&backend.send(cookie(authorize(), "next-auth.session-token", token("v5"))), "invalid_token");
    told(&backend.send(cookie(authorize(), COOKIE, token("v4"))), "unauthenticated");
    let signed = Server::with(engine, &settings("authjs-jwt", "format = \"hs256\""));
    with_user(&signed);
    let mut backend = Backend::of(&signed);
    for name in ["hs256", "hs256_other_secret"] {
        backend.send(cookie(authorize(), COOKIE, token(name))).expect(200);
    }
    told(&backend.send(cookie(authorize(), COOKIE, token("v5"))), "token_format_mismatch");
}
on_both_engines!(tokens_of_version_4_and_signed_ones_are_taken_where_that_is_said);

fn sessions_of_the_database_are_the_exact_cookie(engine: Engine) {
    let server = Server::with(engine, &settings("authjs-database", ""));
    let adapter = with_user(&server);
    let begin = |name: &str, expires: &str| {
        let body = json!({"sessionToken": name, "userId": TOKENS["user"], "expires": expires});
        adapter.post("/sessions", body).expect(201);
    };
    begin("live-session", "2099-01-01T00:00:00Z");
    begin("over-session", "2020-01-01T00:00:00Z");
    let mut backend = Backend::of(&server);
    let answer = backend.send(cookie(authorize(), COOKIE, "live-session")).expect(200).json();
    assert_eq!(answer["user"]["email"], "ada@example.com");
    assert_eq!(answer["session"]["expires_at"], "2099-01-01T00:00:00.000Z");
    backend.send(authorize().header("X-Tollgate-Token", "live-session")).expect(200);
    let session = cookie(Request::get("/api/auth/get-session"), COOKIE, "live-session");
    let session = session.send(server.address).expect("an answer").expect(200).json();
    assert_eq!(session["user"]["email"], "ada@example.com");
    for (name, value) in [
        (COOKIE, "over-session"),
        (COOKIE, "unknown"),
        (COOKIE, token("v5")),
        ("authjs.session-token.0", "live-session"),
        ("authjs.session-token-old", "live-session"),
        ("better-auth.session_token", "live-session"),
    ] {
        told(&backend.send(cookie(authorize(), name, value)), "unauthenticated");
    }
    adapter.post("/sessions/delete", json!({"sessionToken": "live-session"})).expect(200);
    told(&backend.send(cookie(authorize(), COOKIE, "live-session")), "unauthenticated");
    begin("another", "2099-01-01T00:00:00Z");
    server.command(&["user", "ban", "ada@example.com"]).expect_done();
    told(&backend.send(cookie(authorize(), COOKIE, "another")), "unauthenticated");
}
on_both_engines!(sessions_of_the_database_are_the_exact_cookie);

fn a_deployment_has_one_judge(engine: Engine) {
    // Sessions of before, with our own cookie.
    let mut server = Server::with(engine, "");
    let mut ada = Browser::new(&server);
    let own = text(&ada.sign_up("ada@example.com")["token"]);
    for strategy in ["authjs-jwt", "authjs-database"] {
        server.reconfigure(&settings(strategy, ""));
        server.stop();
        server.restart();
        assert_eq!(ada.session(), Value::Null, "{strategy}");
        let mut backend = Backend::of(&server);
        for request in [
            authorize().header("Cookie", &ada.cookie_header("/")),
            authorize().header("X-Tollgate-Token", &own),
            cookie(authorize(), COOKIE, &own),
        ] {
            assert_eq!(backend.send(request).status, 401, "{strategy}");
        }
        // Nobody signs in here, and nothing of an account is kept here.
        let password = json!({"email": "ada@example.com", "password": PASSWORD, "name": "Ada"});
        for path in
            ["sign-in/email", "sign-up/email", "sign-out", "revoke-sessions", "request-password-reset"]
        {
            assert_eq!(
                ada.post(&format!("/api/auth/{path}"), password.clone()).status,
                404,
                "{strategy} {path}"
            );
        }
        // Everything leads to the app's page.
        for path in ["/sign-in", "/sign-up", "/sign-in?callbackURL=https%3A%2F%2Fevil.example"] {
            let led = ada.get(path);
            assert_eq!(led.status, 303, "{path}");
            let home: String =
                url::form_urlencoded::byte_serialize(format!("{}/billing", server.base_url).as_bytes())
                    .collect();
            assert_eq!(led.header("Location"), Some(format!("{PAGE}?callbackUrl={home}").as_str()), "{path}");
        }
        assert_eq!(ada.post("/sign-in", json!({})).status, 405);
        let page = Request::get("/api/gate/forward")
            .header("X-Forwarded-Method", "GET")
            .header("X-Forwarded-Uri", "/reports?x=1")
            .header("X-Forwarded-Proto", "https")
            .header("X-Forwarded-Host", "app.example")
            .header("Accept", "text/html");
        let led = backend.send(page);
        assert_eq!(led.status, 302);
        let target = "https%3A%2F%2Fapp.example%2Freports%3Fx%3D1";
        assert_eq!(led.header("Location"), Some(format!("{PAGE}?callbackUrl={target}").as_str()));
    }
    // And back: the app's tokens open nothing of ours.
    server.reconfigure("[session]\nstrategy = \"session\"\n");
    server.stop();
    server.restart();
    assert_eq!(ada.session()["user"]["email"], "ada@example.com");
    let mut backend = Backend::of(&server);
    for request in
        [cookie(authorize(), COOKIE, token("v5")), authorize().header("X-Tollgate-Token", token("v5"))]
    {
        refused(&backend.send(request), 401, "unauthenticated");
    }
}
on_both_engines!(a_deployment_has_one_judge);

//! The app of docs/guide/rust-axum.md, which is `crates/client/examples/guarded_app.rs`, before the real binary.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tollgate_client::Tollgate;

use crate::client_calls::Caller;
use crate::harness::credits::{Backend, books_balance, figures, text};
use crate::harness::guest::guest;
use crate::harness::{Browser, Engine, Request, Response, Server, in_parallel, until};
use crate::on_both_engines;

#[allow(dead_code)] // Its `main` is not run.
#[path = "../../../client/examples/guarded_app.rs"]
mod guarded_app;

const DAY: i64 = 24 * 3600 * 1000;

/// The app on a port of its own, until it is dropped.
struct App {
    address: SocketAddr,
    _caller: Caller,
}

impl App {
    fn before(server: &Server) -> App {
        let caller = Caller::of(server);
        App::serving(caller.tollgate.clone(), caller)
    }

    fn serving(tollgate: Tollgate, caller: Caller) -> App {
        let bind = tokio::net::TcpListener::bind("127.0.0.1:0");
        let listener = caller.wait(bind).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let service = guarded_app::app(tollgate).into_make_service_with_connect_info::<SocketAddr>();
        caller.runtime.spawn(async move { axum::serve(listener, service).await });
        App { address, _caller: caller }
    }

    /// With the browser's cookies.
    #[track_caller]
    fn ask(&self, browser: &Browser, request: Request) -> Response {
        let request = request.header("Cookie", &browser.cookie_header("/"));
        request.send(self.address).expect("the app answers")
    }

    #[track_caller]
    fn get(&self, browser: &Browser, path: &str) -> Response {
        self.ask(browser, Request::get(path))
    }

    #[track_caller]
    fn post(&self, browser: &Browser, path: &str) -> Response {
        self.ask(browser, Request::new("POST", path))
    }
}

fn signed_up(server: &Server, email: &str) -> (Browser, String) {
    let mut browser = Browser::new(server);
    let made = browser.sign_up(email);
    (browser, text(&made["user"]["id"]))
}

#[track_caller]
fn refused(response: &Response, status: u16, code: &str) -> Value {
    let body = response.clone().expect(status).json();
    assert_eq!(body["error_code"], code, "{body}");
    assert!(body["message"].is_string() && body.get("detail").is_some(), "{body}");
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    body
}

fn handlers_know_who_calls_and_what_is_theirs(engine: Engine) {
    let server = Server::start(engine);
    let app = App::before(&server);
    let nobody = Browser::new(&server);
    refused(&app.get(&nobody, "/me"), 401, "unauthenticated");
    assert_eq!(app.get(&nobody, "/").expect(200).text(), "Hello stranger");
    let ((mut ada, id), (_, other)) =
        (signed_up(&server, "ada@example.com"), signed_up(&server, "bob@example.com"));
    let expected = json!({
        "user_id": id, "email": "ada@example.com", "name": "Test Person", "email_verified": false, "role": "user",
    });
    assert_eq!(app.get(&ada, "/me").expect(200).json(), expected);
    assert_eq!(app.get(&ada, "/").expect(200).text(), "Hello Test Person");
    app.get(&ada, &format!("/users/{id}/files")).expect(200);
    refused(&app.get(&ada, &format!("/users/{other}/files")), 403, "user_mismatch");
    refused(&app.get(&ada, "/admin"), 403, "forbidden");
    server.command(&["user", "promote", "ada@example.com"]).expect_done();
    app.get(&ada, "/admin").expect(200);
    let stolen = ada.clone();
    ada.sign_out();
    refused(&app.get(&stolen, "/me"), 401, "unauthenticated");
    assert_eq!(app.get(&stolen, "/").expect(200).text(), "Hello stranger");
}
on_both_engines!(handlers_know_who_calls_and_what_is_theirs);

fn an_extended_session_s_cookie_reaches_the_browser(engine: Engine) {
    let server = Server::start(engine);
    let app = App::before(&server);
    let (ada, id) = signed_up(&server, "ada@example.com");
    for path in
        ["/me".to_owned(), "/".to_owned(), "/users/somebody/files".to_owned(), format!("/users/{id}/files")]
    {
        assert_eq!(app.get(&ada, &path).all("Set-Cookie").count(), 0, "a young session is left alone");
        server.database.shift("sessions", "expires_at", -DAY - 1000, "user_id IS NOT NULL");
        let response = app.get(&ada, &path);
        let lines: Vec<&str> = response.all("Set-Cookie").collect();
        assert_eq!(lines.len(), 1, "{path}: {lines:?}");
        assert!(
            lines[0].starts_with("better-auth.session_token=") && lines[0].contains("HttpOnly"),
            "{lines:?}"
        );
    }
}
on_both_engines!(an_extended_session_s_cookie_reaches_the_browser);

fn handlers_charge_once_and_hold(engine: Engine) {
    let server = Server::start(engine);
    let app = App::before(&server);
    let (ada, id) = signed_up(&server, "ada@example.com");
    let mut backend = Backend::of(&server);
    let body = refused(&app.post(&ada, "/reports"), 402, "insufficient_credits");
    assert_eq!(
        (&body["required"], &body["available"], &body["unit"]),
        (&json!(5), &json!(0), &json!("credits"))
    );
    backend.grant(&id, 100);
    assert_eq!(app.post(&ada, "/reports").expect(200).json()["credits_left"], 95);
    // A double click, all at once: charged once, served once.
    let click = || app.ask(&ada, Request::new("POST", "/reports").header("Idempotency-Key", "click-1"));
    let answers = in_parallel(8, |_| click().status);
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|status| matches!(status, 200 | 409)), "{answers:?}");
    assert_eq!(figures(&backend.balance(&id)), [90, 0, 90, 0]);
    refused(&click(), 409, "conflict");
    // Without a key two clicks are two charges.
    app.post(&ada, "/reports").expect(200);
    app.post(&ada, "/reports").expect(200);
    assert_eq!(figures(&backend.balance(&id)), [80, 0, 80, 0]);
    assert_eq!(app.post(&ada, "/pictures").expect(200).json()["credits_left"], 35);
    refused(&app.post(&ada, "/pictures"), 402, "insufficient_credits");
    refused(
        &app.ask(&ada, Request::new("POST", "/reports").header("Idempotency-Key", "two words")),
        422,
        "invalid_request",
    );
    assert_eq!(figures(&backend.balance(&id)), [35, 0, 35, 0]);
    books_balance(&server.database);
}
on_both_engines!(handlers_charge_once_and_hold);

fn guests_try_out_and_members_pay(engine: Engine) {
    let config = "trusted_proxies = [\"127.0.0.1/32\"]\n[guest]\nallowances = { generate = 3 }\n\
                  address_allowances = { generate = 4 }\n";
    let server = Server::with(engine, config);
    let app = App::before(&server);
    refused(&app.post(&Browser::new(&server), "/try"), 401, "unauthenticated");
    let from = |browser: &Browser, path: &str, address: &str| {
        app.ask(browser, Request::new("POST", path).header("X-Forwarded-For", address))
    };
    let (visitor, _) = guest(&server);
    for remaining in [2, 1] {
        let answer = from(&visitor, "/try", "203.0.113.9").expect(200).json();
        assert_eq!(answer["allowance"]["remaining"], remaining, "{answer}");
    }
    from(&visitor, "/drafts", "203.0.113.9").expect(200);
    for path in ["/try", "/drafts"] {
        let answer = from(&visitor, path, "203.0.113.9");
        let body = refused(&answer, 429, "guest_limit_reached");
        assert_eq!(body["action"], "generate");
        assert!(answer.header("Retry-After").is_some());
    }
    // A new cookie is a new guest; the address is not.
    let (again, _) = guest(&server);
    from(&again, "/try", "203.0.113.9").expect(200);
    refused(&from(&again, "/try", "203.0.113.9"), 429, "guest_limit_reached");
    from(&again, "/try", "198.51.100.7").expect(200);
    // Members pay.
    let (ada, id) = signed_up(&server, "ada@example.com");
    refused(&app.post(&ada, "/drafts"), 402, "insufficient_credits");
    let mut backend = Backend::of(&server);
    backend.grant(&id, 10);
    let draft = || app.ask(&ada, Request::new("POST", "/drafts").header("Idempotency-Key", "draft-1"));
    assert_eq!(draft().expect(200).json()["draft"], "…");
    assert_eq!(draft().expect(200).json()["draft"], "the one that was kept under this key");
    assert_eq!(figures(&backend.balance(&id)), [8, 0, 8, 0]);
}
on_both_engines!(guests_try_out_and_members_pay);

fn while_tollgate_is_away_the_app_says_503_to_everybody(engine: Engine) {
    let mut server = Server::start(engine);
    let app = App::before(&server);
    let (ada, _) = signed_up(&server, "ada@example.com");
    app.get(&ada, "/me").expect(200);
    server.kill();
    for (method, path) in
        [("GET", "/me"), ("GET", "/"), ("GET", "/admin"), ("POST", "/reports"), ("POST", "/drafts")]
    {
        let answer = app.ask(&ada, Request::new(method, path));
        refused(&answer, 503, "unavailable");
        assert_eq!(answer.header("Retry-After"), Some("1"));
        assert_eq!(answer.all("Set-Cookie").count(), 0, "nobody is signed out");
    }
    server.restart();
    until(std::time::Duration::from_secs(10), "the app to serve again", || {
        (app.get(&ada, "/me").status == 200).then_some(())
    });
}
on_both_engines!(while_tollgate_is_away_the_app_says_503_to_everybody);

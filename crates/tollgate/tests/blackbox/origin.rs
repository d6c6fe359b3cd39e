//! Requests that another site causes: what changes something comes from a trusted page, or does nothing.

use serde_json::json;

use crate::harness::{Browser, Engine, PASSWORD, Request, Server};
use crate::matrix::SETTINGS;
use crate::on_both_engines;

const EVIL: &str = "https://evil.example";
const APP: &str = "https://app.example";

fn signed_in(server: &Server, email: &str) -> Browser {
    let mut browser = Browser::new(server);
    browser.sign_up(email);
    browser
}

/// O-01, O-03, O-05.
fn foreign_pages_end_no_session(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = signed_in(&server, "ada@example.com");
    let foreign = [
        EVIL,
        "https://app.example.evil.example",
        "https://app.example:444",
        "http://app.example",
        "https://app.example@evil.example",
        "https://xapp.example",
        "https://app.example%2eevil.example",
        "https://evil.example/https://app.example",
        "app.example",
        "https://",
        "*",
        "\u{ff}",
    ];
    for origin in foreign {
        let request = Request::post("/api/auth/sign-out", &json!({})).header("Origin", origin);
        ada.send(request).refused(403, "INVALID_ORIGIN");
    }
    for origin in ["null", ""] {
        let request = Request::post("/api/auth/sign-out", &json!({})).header("Origin", origin);
        ada.send(request).refused(403, "MISSING_OR_NULL_ORIGIN");
    }
    // A page that is trusted does not vouch for one that hides.
    let hidden = Request::post("/api/auth/sign-out", &json!({})).header("Origin", "null");
    ada.send(hidden.header("Referer", "https://app.example/")).refused(403, "MISSING_OR_NULL_ORIGIN");
    assert_eq!(ada.session()["user"]["email"], "ada@example.com");

    let same = Request::post("/api/auth/update-user", &json!({"name": "A"})).header("Origin", "null");
    ada.send(same.header("Sec-Fetch-Site", "same-origin")).expect(200);
    for origin in [APP, "HTTPS://APP.EXAMPLE:443", "https://app.example/page"] {
        let request = Request::post("/api/auth/update-user", &json!({"name": "A"}));
        ada.send(request.header("Origin", origin)).expect(200);
    }
}
on_both_engines!(foreign_pages_end_no_session);

/// O-02.
fn a_change_without_origin_is_refused_when_a_cookie_came_along(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = signed_in(&server, "ada@example.com");
    let page = ada.origin.take();
    let change = json!({"currentPassword": PASSWORD, "newPassword": "another long password"});
    let refused = ada.post("/api/auth/change-password", change.clone());
    refused.refused(403, "MISSING_OR_NULL_ORIGIN");
    let from = |referer: &str| Request::post("/api/auth/change-password", &change).header("Referer", referer);
    ada.send(from("https://evil.example/?https://app.example")).refused(403, "INVALID_ORIGIN");
    Browser::new(&server).sign_in("ada@example.com");

    // What names a trusted page in its place does pass.
    ada.send(from("https://app.example/settings")).expect(200);
    ada.origin = page;
    let sign_in = ada.try_sign_in("ada@example.com", "another long password");
    sign_in.expect(200);
}
on_both_engines!(a_change_without_origin_is_refused_when_a_cookie_came_along);

/// Every change that the server offers, asked of the server itself: a route that forgets the check fails here.
fn every_post_route_refuses_foreign_pages(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let mut ada = signed_in(&server, "ada@example.com");
    let document = ada.get("/openapi.json").expect(200).json();
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().expect("the document lists paths") {
        if !path.starts_with("/api/auth/") || methods.get("post").is_none() {
            continue;
        }
        asked += 1;
        for origin in [EVIL, "null"] {
            let response = ada.send(Request::post(path, &json!({})).header("Origin", origin));
            // A provider's page posts there, and all that follows is a way to our own.
            let expected = if path.ends_with("/callback/{provider}") { 302 } else { 403 };
            assert_eq!(response.status, expected, "{path}: {}", response.text());
            let away = response.header("Location").filter(|target| !target.starts_with(&server.base_url));
            assert_eq!(away, None, "{path}");
            assert_eq!(response.all("Set-Cookie").count(), 0, "{path}");
        }
    }
    assert!(asked >= 18, "only {asked} routes");
    assert_eq!(ada.session()["user"]["email"], "ada@example.com");
}
on_both_engines!(every_post_route_refuses_foreign_pages);

/// O-04: a sign-in that another site starts, in a browser that holds nothing yet.
fn a_sign_in_that_another_site_starts_is_blocked(engine: Engine) {
    let server = Server::start(engine);
    signed_in(&server, "ada@example.com");
    let login = json!({"email": "ada@example.com", "password": PASSWORD});
    let sign_up = json!({"email": "new@example.com", "password": PASSWORD, "name": "N"});
    let mut stranger = Browser::new(&server);
    stranger.origin = None;
    for (path, body) in [("/api/auth/sign-in/email", &login), ("/api/auth/sign-up/email", &sign_up)] {
        let request = |headers: &[(&str, &str)]| {
            headers
                .iter()
                .fold(Request::post(path, body), |request, (name, value)| request.header(name, value))
        };
        let navigation = [
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Dest", "document"),
        ];
        let blocked = stranger.send(request(&navigation));
        let blocked = blocked.refused(403, "CROSS_SITE_NAVIGATION_LOGIN_BLOCKED");
        assert_eq!(blocked.all("Set-Cookie").count(), 0);
        stranger.send(request(&[("Origin", EVIL)])).refused(403, "INVALID_ORIGIN");
        stranger.send(request(&[("Referer", "https://evil.example/x")])).refused(403, "INVALID_ORIGIN");
        stranger.send(request(&[("Sec-Fetch-Mode", "cors")])).refused(403, "MISSING_OR_NULL_ORIGIN");
    }
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM users"), 1);
    // A program says nothing about pages; a page of ours says so.
    stranger.clone().post("/api/auth/sign-in/email", login.clone()).expect(200);
    let own = Request::post("/api/auth/sign-in/email", &login).header("Origin", APP);
    stranger.send(own.header("Sec-Fetch-Site", "cross-site").header("Sec-Fetch-Mode", "cors")).expect(200);
}
on_both_engines!(a_sign_in_that_another_site_starts_is_blocked);

/// O-06: what a form on another site can send without asking first.
fn simple_requests_from_foreign_pages_make_no_account(engine: Engine) {
    let server = Server::start(engine);
    let json_text = json!({"name": "N", "email": "new@example.com", "password": PASSWORD}).to_string();
    let form_text = "name=N&email=new%40example.com&password=correct+horse+battery+staple";
    let multipart =
        "--b\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\nnew@example.com\r\n--b--\r\n";
    let bodies = [
        (Some("text/plain"), json_text.as_str()),
        (Some("text/plain; application/json"), &json_text),
        (Some("application/x-www-form-urlencoded"), form_text),
        (Some("multipart/form-data; boundary=b"), multipart),
        (Some("application/json"), &json_text),
        (None, &json_text),
    ];
    for cookie in [false, true] {
        for (kind, body) in bodies {
            let mut request =
                Request::new("POST", "/api/auth/sign-up/email").header("Origin", EVIL).body(body);
            if let Some(kind) = kind {
                request = request.header("Content-Type", kind);
            }
            if cookie {
                request = request.header("Cookie", "theme=dark");
            }
            let status = Browser::new(&server).send(request).status;
            // Without a type nothing is read, so there is nothing to judge but an empty body.
            let expected: &[u16] = if kind.is_none() { &[400, 403, 415] } else { &[403, 415] };
            assert!(expected.contains(&status), "{kind:?}: {status}");
        }
    }
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM users"), 0);
}
on_both_engines!(simple_requests_from_foreign_pages_make_no_account);

/// Scripts at another origin read answers only where their origin was configured.
fn only_trusted_origins_may_read_answers(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = signed_in(&server, "ada@example.com");
    let mut ask = |origin: &str| ada.send(Request::get("/api/auth/get-session").header("Origin", origin));
    let trusted = ask(APP).expect(200);
    assert_eq!(trusted.header("Access-Control-Allow-Origin"), Some(APP));
    assert_eq!(trusted.header("Access-Control-Allow-Credentials"), Some("true"));
    for origin in [EVIL, "null", "https://app.example.evil.example", "http://app.example"] {
        let answer = ask(origin).expect(200);
        assert_eq!(answer.header("Access-Control-Allow-Origin"), None, "{origin}");
        assert_eq!(answer.header("Access-Control-Allow-Credentials"), None, "{origin}");
    }
    let preflight = |origin: &str| {
        let request = Request::new("OPTIONS", "/api/auth/sign-out").header("Origin", origin);
        request.header("Access-Control-Request-Method", "POST").send(server.address).expect("an answer")
    };
    assert_eq!(preflight(APP).expect(204).header("Access-Control-Allow-Origin"), Some(APP));
    assert_eq!(preflight(EVIL).expect(404).header("Access-Control-Allow-Origin"), None);
}
on_both_engines!(only_trusted_origins_may_read_answers);

//! Sessions without cookies: the token in `Authorization`, well-formed and not.

use serde_json::{Value, json};

use crate::harness::{Browser, Connection, Engine, PASSWORD, Request, Server};
use crate::on_both_engines;

/// The letter beside this one, so that the text stays of its alphabet.
fn changed(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).expect("it was ASCII")
}

fn tokens_are_also_taken_as_bearers(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = Browser::new(&server);
    let body = json!({"name": "Ada", "email": "ada@example.com", "password": PASSWORD});
    let made = ada.post("/api/auth/sign-up/email", body).expect(200);
    let signed = made.header("set-auth-token").expect("programs read it").to_owned();
    assert!(made.all("Access-Control-Expose-Headers").any(|names| names.contains("set-auth-token")));
    let token = made.json()["token"].as_str().expect("a token").to_owned();
    let encoded = signed.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let ask = |value: &str| {
        let request = Request::get("/api/auth/get-session").header("Authorization", value);
        request.send(server.address).expect("an answer").expect(200).json()
    };
    for value in [
        format!("Bearer {token}"),
        format!("Bearer {signed}"),
        format!("Bearer {encoded}"),
        format!("bearer   {token}"),
        format!("BEARER {token} "),
    ] {
        assert_eq!(ask(&value)["user"]["email"], "ada@example.com", "{value}");
    }
    for value in [
        format!("Bearer{token}"),
        format!("Basic {token}"),
        format!("Bearer {}", changed(&signed, signed.len() - 3)),
        format!("Token {token}"),
        token.clone(),
    ] {
        assert_eq!(ask(&value), Value::Null, "{value}");
    }
    // A program has no page: with a token and without cookies no origin is asked for.
    let change = Request::post("/api/auth/update-user", &json!({"name": "New"}));
    let change = change.header("Authorization", &format!("Bearer {token}"));
    change.send(server.address).expect("an answer").expect(200);
    // A well-formed one that opens nothing wins over the cookie; what is malformed leaves it alone.
    let with_bearer = |value: &str| Request::get("/api/auth/get-session").header("Authorization", value);
    assert_eq!(ada.clone().send(with_bearer(&format!("Bearer {}", "x".repeat(32)))).json(), Value::Null);
    let ignored = ada.send(with_bearer("Bearer a.b")).json();
    assert_eq!(ignored["user"]["email"], "ada@example.com");

    let off = Server::with(engine, "[methods]\nbearer = false\n");
    let body = json!({"name": "Bob", "email": "bob@example.com", "password": PASSWORD});
    let made = Browser::new(&off).post("/api/auth/sign-up/email", body).expect(200);
    assert_eq!(made.header("set-auth-token"), None);
    let token = format!("Bearer {}", made.json()["token"].as_str().expect("a token"));
    assert_eq!(with_bearer(&token).send(off.address).expect("an answer").json(), Value::Null);
}
on_both_engines!(tokens_are_also_taken_as_bearers);

/// O-26.
fn malformed_authorization_is_refused_and_harms_nothing(engine: Engine) {
    let server = Server::start(engine);
    let long = format!("Bearer {}", "a".repeat(64 * 1024));
    let big = format!("Bearer {}", "a.".repeat(4 * 1024));
    let values = [
        "Bearer %",
        "Bearer %E0%A4%A",
        "Bearer %ff%fe",
        "Bearer",
        "Bearer ",
        "Bearer a.b",
        "Bearer ..",
        "Bearer .",
        "Bearer \u{e9}",
        "[object Object]",
        "Bearer [object Object]",
        "Bearer null",
        "Bearer %00",
        "",
        &big,
        &long,
    ];
    for value in values {
        for path in ["/api/auth/list-accounts", "/api/auth/list-sessions"] {
            let request = Request::get(path).header("Authorization", value);
            let status = request.send(server.address).expect("an answer").status;
            assert!(matches!(status, 400 | 401 | 431), "{path} {}: {status}", &value[..value.len().min(40)]);
        }
        let get = Request::get("/api/auth/get-session").header("Authorization", value);
        let answer = get.send(server.address).expect("an answer");
        assert!(matches!(answer.status, 200 | 400 | 431), "{}", answer.status);
        if answer.status == 200 {
            assert_eq!(answer.text(), "null");
        }
    }
    let twice = Request::get("/api/auth/list-accounts").header("Authorization", "Bearer a");
    twice.header("Authorization", "Bearer b").send(server.address).expect("an answer").expect(401);
    let mut raw = Connection::open(server.address).expect("the server accepts");
    raw.send(
        b"GET /api/auth/list-accounts HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer \xff\xfe\x80\r\n\r\n",
    )
    .expect("it is taken");
    raw.receive("GET").expect("an answer").expect(401);
    Request::get("/healthz").send(server.address).expect("an answer").expect(200);
}
on_both_engines!(malformed_authorization_is_refused_and_harms_nothing);

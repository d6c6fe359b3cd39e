//! Whatever is sent, the answer is no error of ours, and the server goes on: thousands of bodies, queries, headers and
//! raw bytes at every route that the server names.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::harness::{
    Browser, Connection, Engine, Failure, PASSWORD, Request, Response, Server, at_full_length,
};
use crate::on_both_engines;

struct Route {
    method: String,
    path: String,
    /// Members and parameters that it looks for.
    names: Vec<String>,
}

fn routes(server: &Server) -> Vec<Route> {
    let document = Request::get("/openapi.json").send(server.address).expect("an answer").expect(200).json();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("the document lists paths") {
        for (method, described) in methods.as_object().expect("methods") {
            let parameters = described["parameters"].as_array().into_iter().flatten();
            let mut names: Vec<String> =
                parameters.filter_map(|parameter| parameter["name"].as_str()).map(str::to_owned).collect();
            let schema = &described["requestBody"]["content"]["application/json"]["schema"]["properties"];
            names.extend(schema.as_object().into_iter().flatten().map(|(name, _)| name.clone()));
            routes.push(Route { method: method.to_ascii_uppercase(), path: path.clone(), names });
        }
    }
    assert!(routes.len() >= 30, "{}", routes.len());
    routes
}

/// Texts that have broken programs before.
fn nasty_text() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "",
        "\0",
        "a\0b",
        "\u{feff}",
        "\u{fffd}",
        "\u{202e}",
        "null",
        "undefined",
        "NaN",
        "true",
        "-1",
        "1e400",
        "9223372036854775808",
        "' OR 1=1 --",
        "\"; DROP TABLE users; --",
        "${jndi:ldap://x}",
        "{{7*7}}",
        "%s%n%x",
        "%00",
        "%",
        "%zz",
        "../../../../etc/passwd",
        "//evil.example",
        "javascript:alert(1)",
        "<script>",
        "a@b.c",
        "ada@example.com",
        "ADA@EXAMPLE.COM",
        "a@example.com\r\nBcc: b@example.com",
        "\r\n\r\n",
        "=cmd()",
        "\u{1f980}",
        "/ok",
        "https://app.example/x",
        "\u{d7ff}\u{e000}",
        "İ",
        "ß",
        "ﬁ",
        "a\u{301}",
    ])
    .prop_map(str::to_owned);
    prop_oneof![
        4 => known,
        2 => "\\PC{0,40}",
        2 => any::<String>(),
        1 => (0_usize..20_000).prop_map(|length| "x".repeat(length)),
        1 => (0_usize..2_000).prop_map(|length| "ü\u{0}".repeat(length)),
    ]
}

fn nasty_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => nasty_text().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((nasty_text(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// One request to a route: its members and parameters hold anything, so do the headers that are looked at.
#[derive(Debug, Clone)]
struct Attack {
    /// Sound values for whatever the route looks for, before some of them are replaced.
    sound: bool,
    members: Vec<(usize, Value)>,
    own: Vec<(String, Value)>,
    query: Vec<(usize, String)>,
    segment: String,
    content_type: usize,
    raw: Option<Vec<u8>>,
    headers: Vec<(usize, Vec<u8>)>,
    signed_in: bool,
}

const CONTENT_TYPES: [&str; 8] = [
    "application/json",
    "application/json",
    "application/json",
    "application/json; charset=utf-8",
    "application/x-www-form-urlencoded",
    "text/plain",
    "",
    "multipart/form-data; boundary=x",
];
const HEADERS: [&str; 12] = [
    "Origin",
    "Referer",
    "Authorization",
    "X-Forwarded-For",
    "X-Request-Id",
    "User-Agent",
    "Accept",
    "If-None-Match",
    "Sec-Fetch-Site",
    "Access-Control-Request-Method",
    "Forwarded",
    "Cookie",
];

fn attack() -> impl Strategy<Value = Attack> {
    let header = (0..HEADERS.len(), prop::collection::vec(any::<u8>(), 0..60));
    (
        prop::collection::vec((any::<usize>(), nasty_json()), 0..5),
        prop::collection::vec((nasty_text(), nasty_json()), 0..2),
        prop::collection::vec((any::<usize>(), nasty_text()), 0..3),
        nasty_text(),
        0..CONTENT_TYPES.len(),
        prop::option::weighted(0.15, prop::collection::vec(any::<u8>(), 0..300)),
        prop::collection::vec(header, 0..3),
        (any::<bool>(), prop::bool::weighted(0.7)),
    )
        .prop_map(|(members, own, query, segment, content_type, raw, headers, (sound, signed_in))| {
            Attack { sound, members, own, query, segment, content_type, raw, headers, signed_in }
        })
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let limited = &text.as_bytes()[..text.len().min(1_500)];
    limited.iter().map(|&b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// What an honest client would send.
fn sound_value(name: &str) -> Value {
    match name {
        "email" | "newEmail" => "somebody@example.com".into(),
        "password" | "newPassword" | "currentPassword" => PASSWORD.into(),
        "callbackURL" | "redirectTo" => "/x".into(),
        "rememberMe" | "revokeOtherSessions" => true.into(),
        _ => "a text".into(),
    }
}

impl Attack {
    fn bytes(&self, route: &Route, server: &Server, cookie: &str) -> Vec<u8> {
        let name = |index: &usize| match route.names.len() {
            0 => "x".to_owned(),
            count => route.names[index % count].clone(),
        };
        let path = match route.path.split_once('{') {
            Some((before, _)) => format!("{before}{}", encoded(&self.segment)),
            None => route.path.clone(),
        };
        let query: Vec<String> =
            self.query.iter().map(|(i, v)| format!("{}={}", encoded(&name(i)), encoded(v))).collect();
        let target = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
        let body = match &self.raw {
            Some(raw) => raw.clone(),
            None => {
                let sound =
                    route.names.iter().filter(|_| self.sound).map(|name| (name.clone(), sound_value(name)));
                let members = self.members.iter().map(|(index, value)| (name(index), value.clone()));
                let all = sound.chain(members).chain(self.own.iter().cloned());
                if CONTENT_TYPES[self.content_type].contains("form-url") {
                    let pairs = all
                        .map(|(name, value)| format!("{}={}", encoded(&name), encoded(&value.to_string())));
                    pairs.collect::<Vec<_>>().join("&").into_bytes()
                } else {
                    Value::Object(all.collect()).to_string().into_bytes()
                }
            }
        };
        let mut bytes =
            format!("{} {target} HTTP/1.1\r\nHost: {}\r\n", route.method, server.address).into_bytes();
        let mut header = |name: &str, value: &[u8]| {
            bytes.extend(name.as_bytes());
            bytes.extend(b": ");
            // What no client library would send is for another test: here every request is well-framed.
            bytes.extend(value.iter().filter(|byte| !matches!(byte, 0..=31 | 127)));
            bytes.extend(b"\r\n");
        };
        if self.signed_in {
            header("Cookie", cookie.as_bytes());
            header("Origin", server.base_url.as_bytes());
        }
        for (index, value) in &self.headers {
            if !(self.signed_in && matches!(HEADERS[*index], "Origin" | "Cookie")) {
                header(HEADERS[*index], value);
            }
        }
        if !CONTENT_TYPES[self.content_type].is_empty() {
            header("Content-Type", CONTENT_TYPES[self.content_type].as_bytes());
        }
        header("Content-Length", body.len().to_string().as_bytes());
        bytes.extend(b"\r\n");
        bytes.extend(body);
        bytes
    }
}

/// Keeps a connection as long as the server does.
struct Caller<'a> {
    server: &'a Server,
    connection: Option<Connection>,
}

impl Caller<'_> {
    fn ask(&mut self, bytes: &[u8], method: &str) -> Result<Response, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.server.address)?,
        };
        connection.set_timeout(Duration::from_secs(20));
        connection.send(bytes)?;
        let response = connection.receive(method)?;
        if !response.closes() {
            self.connection = Some(connection);
        }
        Ok(response)
    }
}

/// An account that may be misused; sign-outs and the like end its session, so it signs in again.
fn fresh_cookie(server: &Server) -> String {
    let mut browser = Browser::new(server);
    if browser.try_sign_in("ada@example.com", PASSWORD).status != 200 {
        server.database.execute("DELETE FROM counters");
        server.database.execute("DELETE FROM users WHERE email = 'ada@example.com'");
        browser.sign_up("ada@example.com");
    }
    browser.cookie_header("/")
}

fn nothing_that_is_sent_is_our_error(engine: Engine) {
    let mut server = Server::with(engine, "[accounts]\nchange_email = true\ndelete_user = true\n");
    let routes = routes(&server);
    let count = if at_full_length() { 1_000 } else { 80 };
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        // A failure names its request; the same ones come again.
        TestRng::from_seed(RngAlgorithm::ChaCha, &[17; 32]),
    );
    let strategy = attack();
    for route in &routes {
        let mut cookie = fresh_cookie(&server);
        let mut caller = Caller { server: &server, connection: None };
        for number in 0..count {
            if number % 20 == 19 {
                cookie = fresh_cookie(&server);
            }
            let attack = strategy.new_tree(&mut runner).expect("a value").current();
            let bytes = attack.bytes(route, &server, &cookie);
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(1_500)]).into_owned();
            let answer = match caller.ask(&bytes, &route.method) {
                // The connection may have ended just before.
                Err(Failure::Closed) => {
                    caller.connection = None;
                    caller.ask(&bytes, &route.method)
                }
                other => other,
            };
            let answer = answer.unwrap_or_else(|failure| panic!("no answer ({failure:?}) to\n{shown}"));
            assert!(answer.status < 500, "{} {} to\n{shown}\n{attack:?}", answer.status, answer.text());
        }
    }
    assert!(server.is_running());
    assert_eq!(server.metric("tollgate_http_panics_total") as i64, 0);
    Browser::new(&server).sign_up("after@example.com");
}
on_both_engines!(nothing_that_is_sent_is_our_error);

/// The one byte that PostgreSQL's texts cannot hold, in every place where a text is stored or looked up.
fn a_null_byte_is_text_or_refused_everywhere(engine: Engine) {
    let server = Server::with(engine, "[accounts]\nchange_email = true\ndelete_user = true\n");
    let mut ada = Browser::new(&server);
    ada.sign_up("ada@example.com");
    for route in routes(&server) {
        let path = route.path.replace("{token}", "a%00b");
        let names: Vec<&str> = route.names.iter().map(String::as_str).chain(["x"]).collect();
        for name in names {
            let mut body =
                json!({"name": "N", "email": "new@example.com", "password": PASSWORD, "image": "i"});
            body[name] = "a\0b".into();
            let query = format!("{path}?{name}=a%00b&callbackURL=%2Fx");
            for request in [
                Request::new(&route.method, &path).json(&body),
                Request::new(&route.method, &query).json(&body),
            ] {
                let answer = ada.clone().send(request);
                assert!(answer.status < 500, "{} {query} {name}: {}", route.method, answer.text());
            }
        }
    }
    let made = Browser::new(&server).post(
        "/api/auth/sign-up/email",
        json!({"name": "a\0b", "email": "null@example.com", "password": PASSWORD}),
    );
    made.refused(400, "VALIDATION_ERROR");
}
on_both_engines!(a_null_byte_is_text_or_refused_everywhere);

/// Bytes that are not HTTP, or are it twice over: an answer or an end, and no request hidden in another.
fn broken_framing_is_refused(engine: Engine) {
    let mut server = Server::start(engine);
    let smuggled = "GET /api/auth/ok HTTP/1.1\r\nHost: h\r\n\r\n";
    let post = "POST /api/auth/sign-out HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n";
    let broken: Vec<Vec<u8>> = vec![
        b"\r\n\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET /api/auth/ok\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET /api/auth/ok HTTP/1.1\r\nHost : h\r\n\r\n".to_vec(),
        b"GET /api/auth/ok HTTP/1.1\r\n folded: x\r\n\r\n".to_vec(),
        b"GET /api/auth/\xff\xfe HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        b"GET /api/auth/ok HTTP/1.1\r\nX: a\0b\r\n\r\n".to_vec(),
        format!("{post}Content-Length: 5\r\nContent-Length: 0\r\n\r\n{smuggled}").into_bytes(),
        format!("{post}Content-Length: +2\r\n\r\n{{}}{smuggled}").into_bytes(),
        format!("{post}Content-Length: -1\r\n\r\n{smuggled}").into_bytes(),
        format!("{post}Content-Length: 99999999999999999999\r\n\r\n{smuggled}").into_bytes(),
        format!("{post}Transfer-Encoding: chunked\r\n\r\nzz\r\n{smuggled}").into_bytes(),
        format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}").into_bytes(),
        format!("{post}Transfer-Encoding: gzip, chunked, gzip\r\n\r\n0\r\n\r\n{smuggled}").into_bytes(),
    ];
    for bytes in broken {
        let mut connection = Connection::open(server.address).expect("the server accepts");
        connection.set_timeout(Duration::from_secs(20));
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        if connection.send(&bytes).is_err() {
            continue;
        }
        match connection.receive("POST") {
            Ok(answer) => {
                assert!((400..500).contains(&answer.status), "{} to {shown:?}", answer.status);
                assert!(
                    answer.closes() || connection.receive("GET").is_err(),
                    "{shown:?} was taken for two requests"
                );
            }
            Err(failure) => assert_ne!(failure, Failure::TimedOut, "{shown:?}"),
        }
    }
    assert!(server.is_running());
    Request::get("/healthz").send(server.address).expect("an answer").expect(200);
}
on_both_engines!(broken_framing_is_refused);

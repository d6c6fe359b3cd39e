//! Cookies, tokens and keys are in nothing that is printed: no `Debug`, no error, no log line.

use crate::stub::{JSON, Received, Reply, Stub, answer, signed_in};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::IntoResponse;
use axum::routing::get;
use http::{HeaderMap, HeaderValue, header};
use proptest::prelude::*;
use serde_json::json;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tollgate_client::{
    Authorize, Cookies, Credits, Error, ForwardedFor, Guest, IdempotencyKey, MaybeUser, SetCookies, Token,
    Tollgate, TollgateLayer, User, UserId, Visit,
};
use tower::ServiceExt as _;
use tracing_subscriber::fmt::MakeWriter;

/// Everything that was printed.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn note(&self, text: impl AsRef<str>) {
        self.0.lock().unwrap().extend_from_slice(text.as_ref().as_bytes());
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Paper {
    type Writer = Paper;

    fn make_writer(&'a self) -> Paper {
        self.clone()
    }
}

fn print(paper: &Paper, thing: &(impl std::fmt::Debug + ?Sized)) {
    paper.note(format!("{thing:?}\n{thing:#?}\n"));
}

fn print_error(paper: &Paper, error: Error) {
    paper.note(format!("{error}\n"));
    print(paper, &error);
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        paper.note(format!("{cause}\n"));
        print(paper, cause);
        source = cause.source();
    }
    // The answer of the app, and what is logged on the way.
    let response = error.into_response();
    print(paper, response.headers());
}

/// Good answers full of secrets, which the marker in the path of the cookie selects, or broken ones.
fn secretive(received: &Received, marker: &str, broken: usize) -> Reply {
    let lines = [JSON, &format!("Set-Cookie: session={marker}; HttpOnly")];
    let balance = json!({"unit": "credits", "balance": 95, "held": 0, "available": 95, "owed": 0});
    let body = match received.line.as_str() {
        "GET /api/auth/get-session" => signed_in(),
        "GET /api/guest" => json!({"guest_id": "g", "allowances": [], "cookie": marker}),
        "POST /api/gate/authorize" => json!({
            "subject": {"kind": "user", "id": "ada"}, "session": null, "charge": null, "guest": null, "token": marker,
            "user": {"user_id": "ada", "email": marker, "name": marker, "email_verified": true, "role": null}}),
        "POST /api/credits/holds" => {
            json!({"hold": {"id": "h1", "amount": 6, "unit": "credits"}, "balance": balance})
        }
        _ => json!({"entry": {"id": "e", "amount": -5, "unit": "credits"}, "balance": balance, "hold": {}}),
    };
    let body = body.to_string().replace("token-marker", marker).replace("ada@example.com", marker);
    match broken {
        0 => Reply::Bytes(answer("200 OK", &lines, &body)),
        1 => Reply::Bytes(answer("200 OK", &lines, &body[..body.len() - 1])),
        2 => Reply::Bytes(answer("200 OK", &lines, &format!("\"{marker}\""))),
        3 => Reply::Bytes(answer("200 OK", &lines, &body.replace("true", &format!("\"{marker}\"")))),
        4 => Reply::Bytes(answer("200 OK", &["Content-Type: text/html"], marker)),
        5 => Reply::Bytes(answer("302 Found", &[&format!("Location: http://127.0.0.1:1/{marker}")], "")),
        6 => Reply::Bytes(answer("401 Unauthorized", &lines, &format!("{{\"message\":\"{marker}\"}}"))),
        7 => Reply::AndClose(answer("200 OK", &lines, &body)[..60].to_vec()),
        8 => Reply::AndClose(format!("HTTP/9 {marker}\r\n\r\n").into_bytes()),
        _ => Reply::AndClose(format!("HTTP/1.1 200 OK\r\n{marker}: \u{0}{marker}\r\n\r\n").into_bytes()),
    }
}

async fn everything(paper: &Paper, marker: &str, broken: usize) {
    let of_stub = marker.to_owned();
    let stub = Stub::start(move |received| secretive(received, &of_stub, broken)).await;
    let mut headers = HeaderMap::new();
    let value = |text: String| HeaderValue::from_str(&text).expect("a header");
    headers.insert(header::COOKIE, value(format!("better-auth.session_token={marker}")));
    headers.insert(header::AUTHORIZATION, value(format!("Bearer {marker}")));

    let builder =
        Tollgate::builder(format!("http://{}", stub.address)).service_key(format!("tg_sk_{marker}"));
    print(paper, &builder);
    let tollgate = builder.build().expect("a handle");
    print(paper, &tollgate);
    for address in [format!("http://u:{marker}@h"), format!("{marker}://h"), format!("http://h/{marker}")] {
        let error = Tollgate::new(address).expect_err("no address");
        paper.note(format!("{error} {error:?}"));
    }
    let error = Tollgate::builder("http://h").service_key(marker).build().expect_err("no key");
    paper.note(format!("{error} {error:?}"));

    let cookies = Cookies::from(&headers);
    print(paper, &cookies);
    print(paper, &Cookies::from_text(marker));
    let token = Token::from_headers(&headers).expect("there is one");
    print(paper, &token);
    print(paper, &SetCookies::default());
    let address = ForwardedFor::new(&HeaderMap::new(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    let question: Authorize = tollgate.authorize(&headers).token(token).forwarded_for(address);
    print(paper, &question);

    match question.send().await {
        Ok(passed) => print(paper, &passed),
        Err(error) => print_error(paper, error),
    }
    match tollgate.session(&headers).await {
        Ok(session) => print(paper, &session),
        Err(error) => print_error(paper, error),
    }
    match tollgate.guest(&headers).await {
        Ok(pass) => print(paper, &pass),
        Err(error) => print_error(paper, error),
    }
    let account = tollgate.account(UserId::new("ada"));
    print(paper, &account);
    match account.hold(6, Duration::from_secs(60), &IdempotencyKey::random()).await {
        Ok(hold) => {
            print(paper, &hold);
            match hold.settle(5).await {
                Ok(spent) => print(paper, &spent),
                Err(error) => print_error(paper, error),
            }
        }
        Err(error) => print_error(paper, error),
    }
    let noted = paper.clone();
    let handler = async move |user: Result<User, Error>,
                              maybe: Result<MaybeUser, Error>,
                              credits: Result<Credits, Error>,
                              guest: Result<Guest, Error>,
                              visit: Visit| {
        print(&noted, &(&user, &maybe, &credits, &guest, &visit, visit.authorize()));
        user.map(|_| "hello")
    };
    let layer = TollgateLayer::new(tollgate);
    print(paper, &layer);
    let app = Router::new().route("/", get(handler)).layer(layer);
    let mut request = http::Request::new(Body::empty());
    *request.headers_mut() = headers;
    let response = app.oneshot(request).await.expect("routers do not fail");
    // The line that prolongs the session is the one thing that is for the browser; it does not print either.
    print(paper, response.headers());
    let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    paper.note(String::from_utf8_lossy(&body));
}

fn printed(marker: &str, broken: usize) -> String {
    let paper = Paper::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(paper.clone())
        .finish();
    // One thread, so that all that happens is logged here.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tracing::subscriber::with_default(subscriber, || runtime.block_on(everything(&paper, marker, broken)));
    paper.text()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_secret_is_ever_printed(marker in "zq[a-zA-Z0-9]{14}", broken in 0_usize..10) {
        let printed = printed(&marker, broken);
        prop_assert!(!printed.contains(&marker), "{}", printed);
    }
}

/// The test above can fail: what is printed does hold what is no secret, and the log is read.
#[test]
fn what_is_no_secret_is_printed() {
    let good = printed("zqgood", 0);
    for word in ["ada", "127.0.0.1", "h1", "redacted", "Sensitive"] {
        assert!(good.contains(word), "{word} is not in\n{good}");
    }
    let broken = printed("zqbroken", 8);
    assert!(broken.contains("WARN") && broken.contains("Tollgate cannot be asked"), "{broken}");
}

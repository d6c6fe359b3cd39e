//! axum apps under the layer: what the extractors ask, refuse and pass on.

use crate::stub::{COOKIE, JSON, Received, Reply, Stub, answer, json_reply, signed_in};
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::{ConnectInfo, MockConnectInfo};
use axum::extract::{Path, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tollgate_client::{
    Charge, Credits, Error, Guest, IdempotencyKey, MaybeUser, TollgateLayer, User, UserId, Visit,
};
use tower::ServiceExt as _;

const CHECK: &str = "GET /api/auth/get-session";
const GATE: &str = "POST /api/gate/authorize";
const DEBIT: &str = "POST /api/credits/debits";
const HOLD: &str = "POST /api/credits/holds";
const RELEASE: &str = "POST /api/credits/holds/h1/release";
const MINUTES: Duration = Duration::from_secs(300);

struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn code(&self) -> Value {
        self.json()["error_code"].clone()
    }
}

fn request(line: &str, headers: &[(&str, &str)]) -> Request {
    let (method, path) = line.split_once(' ').expect("method and path");
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).expect("a request")
}

async fn send(app: &Router, request: Request) -> Answered {
    let response = app.clone().oneshot(request).await.expect("routers do not fail");
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, 1 << 20).await.expect("a body");
    Answered {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

async fn ask(app: &Router, line: &str) -> Answered {
    send(app, request(line, &[("cookie", COOKIE)])).await
}

/// Who calls, what they have and what they spend, without rules.
fn tollgate(received: &Received) -> Reply {
    let balance = json!({"unit": "credits", "balance": 95, "held": 0, "available": 95, "owed": 0});
    match received.line.as_str() {
        CHECK => json_reply("200 OK", &signed_in()),
        DEBIT => json_reply(
            "201 Created",
            &json!({"entry": {"id": "e1", "amount": -5, "unit": "credits"}, "balance": balance}),
        ),
        HOLD => json_reply(
            "201 Created",
            &json!({"hold": {"id": "h1", "amount": 60, "unit": "credits"}, "balance": balance}),
        ),
        "GET /api/guest" => json_reply(
            "200 OK",
            &json!({"guest_id": "g1", "allowances": [
            {"action": "generate", "limit": 3, "used": 1, "remaining": 2, "resets_at": null}]}),
        ),
        GATE => json_reply(
            "200 OK",
            &json!({
            "subject": {"kind": "guest", "id": "g1"}, "user": null, "session": null, "charge": null,
            "guest": {"action": "generate", "limit": 3, "used": 2, "remaining": 1, "resets_at": "2999-01-01T00:00:00.000Z"}}),
        ),
        _ => json_reply("200 OK", &json!({"hold": {}, "balance": balance})),
    }
}

/// What handlers usually are.
fn routes() -> Router {
    Router::new()
        .route("/me", get(async |user: User| Json(user)))
        .route(
            "/maybe",
            get(async |MaybeUser(user): MaybeUser| user.map_or("nobody".to_owned(), |user| user.name)),
        )
        .route("/option", get(async |user: Option<User>| user.map_or("nobody".to_owned(), |user| user.name)))
        .route(
            "/result",
            get(async |user: Result<User, Error>| {
                user.map_or_else(|error| error.code().to_owned(), |user| user.name)
            }),
        )
        .route(
            "/users/{user_id}",
            get(async |Path(id): Path<UserId>, user: User| user.must_be(&id).map(|()| "yours")),
        )
        .route("/admin", get(async |user: User| user.must_have_role("admin").map(|()| "console")))
        .route("/root", get(async |user: User| user.must_have_role("root").map(|()| "console")))
        .route(
            "/spend",
            post(async |credits: Credits| {
                credits.spend(Charge::amount(5)).await.map(|spent| spent.available.to_string())
            }),
        )
        .route(
            "/recall",
            post(async |credits: Credits| {
                credits.spend_or_recall(5).await.map(|spent| spent.replayed.to_string())
            }),
        )
        .route("/twice", post(twice))
        .route(
            "/hold",
            post(async |credits: Credits| credits.hold(60, MINUTES).await.map(|hold| hold.id().to_string())),
        )
        .route("/guest", get(async |guest: Guest| guest.allowances()[0].remaining.to_string()))
        .route(
            "/no-guest",
            get(async |guest: Option<Guest>| guest.map_or("none".to_owned(), |guest| guest.id().to_string())),
        )
        .route(
            "/act",
            post(async |guest: Guest| guest.act("generate").await.map(|allowance| Json(json!(allowance)))),
        )
        .route("/all", get(all))
}

async fn twice(credits: Credits) -> Result<(), Error> {
    credits.spend(5).await?;
    credits.spend(5).await?;
    credits.account().spend(5, &IdempotencyKey::new("own").expect("a key")).await?;
    Ok(())
}

async fn all(
    user: User,
    MaybeUser(maybe): MaybeUser,
    option: Option<User>,
    credits: Credits,
    visit: Visit,
) -> Result<String, Error> {
    let again = visit.user().await?;
    assert!(user == again && Some(&user) == maybe.as_ref() && Some(&user) == option.as_ref());
    assert_eq!(credits.user(), &user);
    Ok(user.id.to_string())
}

async fn app(stub: &Stub) -> Router {
    routes().layer(TollgateLayer::new(stub.tollgate()))
}

#[tokio::test]
async fn who_is_signed_in_is_a_handler_s_argument() {
    let stub = Stub::start(tollgate).await;
    let app = app(&stub).await;
    let answered = ask(&app, "GET /me").await;
    assert_eq!(answered.status, StatusCode::OK);
    let expected = json!({"user_id": "ada", "email": "ada@example.com", "name": "Ada", "email_verified": true, "role": "user,admin"});
    assert_eq!(answered.json(), expected);
    for path in ["GET /maybe", "GET /option", "GET /result"] {
        assert_eq!(ask(&app, path).await.body, "Ada", "{path}");
    }
}

#[tokio::test]
async fn a_request_is_checked_once_and_the_next_one_anew() {
    let alive = std::sync::Arc::new(AtomicBool::new(true));
    let lives = alive.clone();
    let stub = Stub::start(move |received| match lives.load(Ordering::SeqCst) {
        true => tollgate(received),
        false => json_reply("200 OK", &Value::Null),
    })
    .await;
    // Middleware below the layer asks as well.
    let guard = middleware::from_fn(async |user: User, request: Request, next: Next| {
        assert_eq!(user.id.as_str(), "ada");
        next.run(request).await
    });
    let app = routes().layer(guard).layer(TollgateLayer::new(stub.tollgate()));
    let answered = ask(&app, "GET /all").await;
    assert_eq!((answered.status, answered.body.as_str()), (StatusCode::OK, "ada"));
    assert_eq!(stub.asked(CHECK).len(), 1, "six extractors asked once");
    // Revoked: the very next request learns of it.
    alive.store(false, Ordering::SeqCst);
    assert_eq!(ask(&app, "GET /all").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(stub.asked(CHECK).len(), 2);
}

#[tokio::test]
async fn an_answer_that_failed_is_asked_for_once_as_well() {
    let stub = Stub::always(Reply::AndClose(Vec::new())).await;
    let app = Router::new()
        .route(
            "/",
            get(async |first: Result<User, Error>, second: Result<User, Error>, _: User| {
                format!("{} {}", first.is_ok(), second.is_ok())
            }),
        )
        .layer(TollgateLayer::new(stub.tollgate()));
    assert_eq!(ask(&app, "GET /").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(stub.received().len(), 1);
}

#[tokio::test]
async fn nobody_is_401_where_somebody_is_needed() {
    let stub = Stub::always(json_reply("200 OK", &Value::Null)).await;
    let app = app(&stub).await;
    for line in ["GET /me", "GET /users/ada", "POST /spend", "POST /hold", "GET /all"] {
        let answered = ask(&app, line).await;
        assert_eq!(answered.status, StatusCode::UNAUTHORIZED, "{line}");
        let expected =
            json!({"error_code": "unauthenticated", "message": "nobody is signed in", "detail": null});
        assert_eq!(answered.json(), expected, "{line}");
        assert_eq!(answered.headers[header::CONTENT_TYPE], "application/json");
        assert_eq!(answered.headers[header::CACHE_CONTROL], "no-store");
    }
    for path in ["GET /maybe", "GET /option"] {
        assert_eq!(ask(&app, path).await.body, "nobody", "{path}");
    }
    assert!(stub.asked(DEBIT).is_empty() && stub.asked(HOLD).is_empty());
}

#[tokio::test]
async fn what_cannot_be_told_is_503_for_every_extractor() {
    for reply in [
        Reply::AndClose(Vec::new()),
        Reply::Bytes(answer("401 Unauthorized", &[JSON], r#"{"message":"a proxy wants a password"}"#)),
        Reply::Bytes(answer("200 OK", &[JSON], "{}")),
    ] {
        let stub = Stub::start(move |received| match received.line.as_str() {
            // A guest's 401 is an answer.
            "GET /api/guest" => Reply::AndClose(Vec::new()),
            _ => reply.clone(),
        })
        .await;
        let app = app(&stub).await;
        for line in
            ["GET /me", "GET /maybe", "GET /option", "POST /spend", "GET /guest", "GET /no-guest", "GET /all"]
        {
            let answered = ask(&app, line).await;
            assert_eq!(answered.status, StatusCode::SERVICE_UNAVAILABLE, "{line}");
            assert_eq!(answered.code(), "unavailable", "{line}");
            assert_eq!(answered.json()["detail"], Value::Null, "{line}");
            assert_eq!(answered.headers[header::RETRY_AFTER], "1", "{line}");
        }
    }
}

#[tokio::test]
async fn somebody_else_s_is_403_and_roles_are_compared() {
    let stub = Stub::start(tollgate).await;
    let app = app(&stub).await;
    assert_eq!(ask(&app, "GET /users/ada").await.body, "yours");
    for other in ["GET /users/eve", "GET /users/Ada", "GET /users/ada%20", "GET /users/ad%61%00"] {
        let answered = ask(&app, other).await;
        assert_eq!(
            (answered.status, answered.code()),
            (StatusCode::FORBIDDEN, json!("user_mismatch")),
            "{other}"
        );
    }
    assert_eq!(ask(&app, "GET /admin").await.body, "console");
    let answered = ask(&app, "GET /root").await;
    assert_eq!((answered.status, answered.code()), (StatusCode::FORBIDDEN, json!("forbidden")));
}

#[tokio::test]
async fn lines_that_set_cookies_reach_the_browser_whatever_the_handler_answers() {
    let lines = [JSON, "Set-Cookie: session=new; HttpOnly", "Set-Cookie: second=2"];
    for (session, path, status) in [
        (signed_in(), "GET /me", 200),
        (signed_in(), "GET /users/eve", 403),
        (signed_in(), "GET /teapot", 418),
        (Value::Null, "GET /me", 401),
        (Value::Null, "GET /maybe", 200),
    ] {
        let stub = Stub::always(Reply::Bytes(answer("200 OK", &lines, &session.to_string()))).await;
        let teapot = async |_: User, _: MaybeUser| {
            (StatusCode::IM_A_TEAPOT, [(header::SET_COOKIE, "own=1")]).into_response()
        };
        let app = routes().route("/teapot", get(teapot)).layer(TollgateLayer::new(stub.tollgate()));
        let answered = ask(&app, path).await;
        assert_eq!(answered.status.as_u16(), status);
        let set: Vec<_> = answered.headers.get_all(header::SET_COOKIE).iter().collect();
        let own: &[&str] = if status == 418 { &["own=1"] } else { &[] };
        let expected: Vec<_> = own.iter().chain(&["session=new; HttpOnly", "second=2"]).collect();
        assert_eq!(set, expected, "{path}");
        // Whoever does not ask gets none.
        let answered = send(&app, request("GET /nowhere", &[("cookie", COOKIE)])).await;
        assert!(answered.headers.get(header::SET_COOKIE).is_none());
    }
}

#[tokio::test]
async fn without_the_layer_the_app_is_misconfigured() {
    for line in ["GET /me", "GET /maybe", "POST /spend", "GET /guest", "GET /all"] {
        let answered = ask(&routes(), line).await;
        assert_eq!(answered.status, StatusCode::INTERNAL_SERVER_ERROR, "{line}");
        let expected =
            json!({"error_code": "internal", "message": "something went wrong on our side", "detail": null});
        assert_eq!(answered.json(), expected, "{line}");
    }
}

fn keys(stub: &Stub, line: &str) -> Vec<String> {
    stub.asked(line).iter().map(|asked| asked.header("idempotency-key").expect("a key").to_owned()).collect()
}

#[tokio::test]
async fn charges_are_the_user_s_under_the_request_s_key_or_a_random_one() {
    let stub = Stub::start(tollgate).await;
    let app = app(&stub).await;
    let keyed = request("POST /spend", &[("cookie", COOKIE), ("idempotency-key", "click-1")]);
    assert_eq!(send(&app, keyed).await.body, "95");
    assert_eq!(stub.asked(DEBIT)[0].json(), json!({"user_id": "ada", "amount": 5}));
    assert_eq!(keys(&stub, DEBIT), ["click-1"]);
    ask(&app, "POST /spend").await;
    assert_eq!(ask(&app, "POST /twice").await.status, StatusCode::OK);
    let random = keys(&stub, DEBIT);
    assert_eq!(random.len(), 5);
    assert_eq!(random[4], "own");
    let distinct: std::collections::BTreeSet<_> = random.iter().collect();
    assert_eq!(distinct.len(), 5, "{random:?}");
}

#[tokio::test]
async fn a_key_that_is_none_charges_nothing() {
    let stub = Stub::start(tollgate).await;
    let app = app(&stub).await;
    let long = "k".repeat(256);
    for headers in [
        vec![("idempotency-key", "")],
        vec![("idempotency-key", "two words")],
        vec![("idempotency-key", long.as_str())],
        vec![("idempotency-key", "a"), ("idempotency-key", "a")],
    ] {
        let headers: Vec<_> = [("cookie", COOKIE)].into_iter().chain(headers).collect();
        let answered = send(&app, request("POST /spend", &headers)).await;
        assert_eq!(answered.status, StatusCode::UNPROCESSABLE_ENTITY, "{headers:?}");
        assert_eq!(
            (answered.code(), &answered.json()["field"]),
            (json!("invalid_request"), &json!("Idempotency-Key"))
        );
    }
    assert!(stub.asked(DEBIT).is_empty());
}

/// Else whoever sends one key again and again would have the work done for one payment.
#[tokio::test]
async fn a_request_that_has_paid_is_not_served_again() {
    let stub = Stub::start(|received| match tollgate(received) {
        Reply::Bytes(bytes) if received.header("idempotency-key").is_some() => {
            let text = String::from_utf8(bytes).expect("text");
            Reply::Bytes(text.replacen("\r\n", "\r\nIdempotent-Replayed: true\r\n", 1).into_bytes())
        }
        reply => reply,
    })
    .await;
    let app = app(&stub).await;
    for (line, member, id) in [("POST /spend", "entry_id", "e1"), ("POST /hold", "hold_id", "h1")] {
        let answered = send(&app, request(line, &[("cookie", COOKIE), ("idempotency-key", "k")])).await;
        assert_eq!((answered.status, answered.code()), (StatusCode::CONFLICT, json!("conflict")), "{line}");
        assert_eq!(answered.json()[member], id, "{line}");
    }
    // A handler that keeps its results may ask for it.
    let answered = send(&app, request("POST /recall", &[("cookie", COOKIE), ("idempotency-key", "k")])).await;
    assert_eq!(answered.body, "true");
    // The hold is the first request's; nothing that follows takes it away.
    for _ in 0..10 {
        ask(&app, "GET /me").await;
    }
    assert!(stub.asked(RELEASE).is_empty());
}

#[tokio::test]
async fn what_the_ledger_refuses_reaches_the_caller_with_its_figures() {
    let body = json!({"error_code": "insufficient_credits", "message": "not enough credits", "detail": null,
        "balance": 3, "available": 3, "required": 5, "unit": "credits", "buy_url": null});
    let refused = body.clone();
    let stub = Stub::start(move |received| match received.line.as_str() {
        DEBIT => json_reply("402 Payment Required", &refused),
        _ => tollgate(received),
    })
    .await;
    let answered = ask(&app(&stub).await, "POST /spend").await;
    assert_eq!((answered.status, answered.json()), (StatusCode::PAYMENT_REQUIRED, body));
}

#[tokio::test]
async fn a_handler_s_hold_is_released_when_it_returns() {
    let stub = Stub::start(tollgate).await;
    assert_eq!(ask(&app(&stub).await, "POST /hold").await.body, "h1");
    stub.until_asked(RELEASE, 1).await;
}

fn with_peer(mut request: Request) -> Request {
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([203, 0, 113, 9], 40_000))));
    request
}

#[tokio::test]
async fn a_guest_acts_under_the_address_that_the_app_saw() {
    let stub = Stub::start(tollgate).await;
    let app = app(&stub).await;
    assert_eq!(ask(&app, "GET /guest").await.body, "2");
    let headers = [("cookie", COOKIE), ("x-forwarded-for", "198.51.100.1, 198.51.100.2")];
    let answered = send(&app, with_peer(request("POST /act", &headers))).await;
    assert_eq!((answered.status, &answered.json()["remaining"]), (StatusCode::OK, &json!(1)));
    assert_eq!(answered.json()["resets_at"], "2999-01-01T00:00:00.000Z");
    let asked = &stub.asked(GATE)[0];
    assert_eq!(asked.json(), json!({"guest": {"action": "generate"}}));
    assert_eq!(asked.all("x-forwarded-for"), ["198.51.100.1, 198.51.100.2", "203.0.113.9"]);
    assert_eq!(asked.all("cookie"), [COOKIE]);
    assert_eq!(stub.asked("GET /api/guest").len(), 2, "once for each request");
}

#[tokio::test]
async fn an_app_s_test_may_say_where_a_guest_calls_from() {
    let stub = Stub::start(tollgate).await;
    let peer = SocketAddr::from(([0, 0, 0, 0, 0, 0xffff, 0xcb00, 0x7109], 1));
    let app = app(&stub).await.layer(MockConnectInfo(peer));
    assert_eq!(ask(&app, "POST /act").await.status, StatusCode::OK);
    assert_eq!(stub.asked(GATE)[0].all("x-forwarded-for"), ["203.0.113.9"]);
}

#[tokio::test]
async fn a_guest_from_nowhere_is_not_counted_as_the_app_itself() {
    let stub = Stub::start(tollgate).await;
    let app = app(&stub).await;
    let answered =
        send(&app, request("POST /act", &[("cookie", COOKIE), ("x-forwarded-for", "1.2.3.4")])).await;
    assert_eq!(answered.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(stub.asked(GATE).is_empty());
}

#[tokio::test]
async fn who_is_no_guest_is_401_or_none_and_guests_may_be_switched_off() {
    for (status, body, expected) in [
        ("401 Unauthorized", r#"{"error_code":"unauthenticated","message":"no","detail":null}"#, 401),
        ("404 Not Found", r#"{"error_code":"not_found","message":"no","detail":null}"#, 500),
        ("404 Not Found", "<h1>nginx</h1>", 503),
        ("500 Internal Server Error", "{}", 503),
    ] {
        let stub = Stub::always(Reply::Bytes(answer(status, &[JSON], body))).await;
        let app = app(&stub).await;
        assert_eq!(ask(&app, "GET /guest").await.status.as_u16(), expected, "{status} {body}");
        let optional = ask(&app, "GET /no-guest").await;
        let expected = if expected == 401 { 200 } else { expected };
        assert_eq!(optional.status.as_u16(), expected, "{status} {body}");
    }
    // Without cookies there is nothing to ask.
    let stub = Stub::start(tollgate).await;
    let answered = send(&app(&stub).await, request("GET /guest", &[])).await;
    assert_eq!((answered.status, stub.connections()), (StatusCode::UNAUTHORIZED, 0));
}

#[tokio::test]
async fn other_tower_stacks_ask_the_visit_itself() {
    let stub = Stub::start(tollgate).await;
    let service = tower::service_fn(async |request: http::Request<()>| {
        let visit = Visit::of(request.extensions()).expect("the layer is there");
        let user = visit.user().await.expect("somebody is signed in");
        Ok::<_, std::convert::Infallible>(http::Response::new(user.name))
    });
    let service = tower::Layer::layer(&TollgateLayer::new(stub.tollgate()), service);
    let request = http::Request::builder().header("cookie", COOKIE).body(()).expect("a request");
    let answered = service.oneshot(request).await.expect("it answers");
    assert_eq!(answered.into_body(), "Ada");
}

#[tokio::test]
async fn an_error_is_an_answer_by_itself() {
    let response: Response = Error::from(tollgate_client::Misconfigured::NoServiceKey).into_response();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
}

//! The gate in one call: how the question is written, and which answers open it.

use crate::stub::{COOKIE, JSON, KEY, Reply, Stub, answer, json_reply, visitor};
use http::StatusCode;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tollgate_client::{
    Authorize, Authorized, Charge, Error, ForwardedFor, IdempotencyKey, Misconfigured, OrganizationId,
    Subject, Token, Tollgate,
};

const GATE: &str = "POST /api/gate/authorize";

fn key() -> IdempotencyKey {
    IdempotencyKey::new("job-1").expect("a key")
}

fn passed() -> Value {
    json!({
        "subject": {"kind": "user", "id": "ada"},
        "user": {"user_id": "ada", "email": "ada@example.com", "name": "Ada", "email_verified": true, "role": "user"},
        "session": {"expires_at": "2999-01-01T00:00:00.000Z"},
        "charge": null,
        "guest": null,
    })
}

fn passed_with(member: &str, value: Value) -> Value {
    let mut body = passed();
    body[member] = value;
    body
}

fn entry() -> Value {
    json!({"entry_id": "e1", "amount": 5, "unit": "credits", "balance": 95, "available": 90, "replayed": false})
}

fn guest_passed() -> Value {
    json!({
        "subject": {"kind": "guest", "id": "g1"}, "user": null, "session": null, "charge": null,
        "guest": {"action": "generate", "limit": 3, "used": 1, "remaining": 2, "resets_at": "2999-01-01T00:00:00.000Z"},
    })
}

fn from_somewhere() -> ForwardedFor {
    ForwardedFor::new(&visitor(), IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)))
}

async fn ask(
    reply: Value,
    question: impl FnOnce(Authorize) -> Authorize,
) -> (Result<Authorized, Error>, Stub) {
    let stub = Stub::always(json_reply("200 OK", &reply)).await;
    let tollgate = stub.tollgate();
    (question(tollgate.authorize(&visitor())).send().await, stub)
}

#[tokio::test]
async fn the_plain_question_is_an_empty_object_with_cookies_and_service_key() {
    let (answer, stub) = ask(passed(), |question| question).await;
    let passed = answer.expect("it passes");
    assert_eq!(passed.subject, Subject::User("ada".into()));
    assert_eq!(passed.user.expect("a user").email, "ada@example.com");
    assert!(passed.session_expires_at.is_some() && passed.spent.is_none() && passed.hold.is_none());
    let received = stub.asked(GATE);
    assert_eq!(received[0].body, "{}");
    assert_eq!(received[0].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(received[0].all("cookie"), [COOKIE]);
    for absent in ["x-forwarded-for", "x-tollgate-token", "idempotency-key", "user-agent"] {
        assert_eq!(received[0].header(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn everything_that_can_be_asked_is_written_as_the_door_reads_it() {
    let (answer, stub) = ask(passed_with("charge", entry()), |question| {
        question
            .user_id("ada")
            .role("user")
            .charge(
                Charge::feature("image.generate").quantity(2).reason("why").metadata(json!({"a": 1})),
                &key(),
            )
            .payer(OrganizationId::new("acme"))
            .guest("generate")
            .forwarded_for(from_somewhere())
    })
    .await;
    let spent = answer.expect("it passes").spent.expect("it is charged");
    assert_eq!((spent.entry_id.as_str(), spent.amount, spent.balance, spent.available), ("e1", 5, 95, 90));
    assert!(!spent.replayed);
    let received = &stub.asked(GATE)[0];
    let expected = json!({
        "user_id": "ada", "role": "user", "charge": {"feature": "image.generate", "quantity": 2},
        "reason": "why", "metadata": {"a": 1}, "payer": {"organization_id": "acme"}, "guest": {"action": "generate"},
    });
    assert_eq!(received.json(), expected);
    assert_eq!(received.header("idempotency-key"), Some("job-1"));
    assert_eq!(received.all("x-forwarded-for"), ["198.51.100.1", "203.0.113.9"]);
}

#[tokio::test]
async fn a_token_goes_in_place_of_the_cookies() {
    let (answer, stub) = ask(passed(), |question| {
        question.token(Token::from_headers(&visitor()).expect("the visitor has one"))
    })
    .await;
    answer.expect("it passes");
    let received = &stub.asked(GATE)[0];
    assert_eq!(received.header("x-tollgate-token"), Some("token-marker"));
    assert_eq!(received.header("cookie"), None);
    assert_eq!(received.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
}

#[tokio::test]
async fn a_hold_is_released_when_dropped() {
    let charge = json!({"hold_id": "h1", "amount": 60, "unit": "credits", "balance": 95, "available": 30, "replayed": false});
    let (answer, stub) =
        ask(passed_with("charge", charge), |question| question.hold(60, Duration::from_secs(120), &key()))
            .await;
    let passed = answer.expect("it passes");
    assert!(passed.spent.is_none());
    let hold = passed.hold.expect("it is held");
    assert_eq!((hold.id().as_str(), hold.amount(), hold.unit()), ("h1", 60, "credits"));
    let expected = json!({"charge": {"amount": 60}, "hold": true, "hold_expires_in": 120});
    assert_eq!(stub.asked(GATE)[0].json(), expected);
    drop(hold);
    stub.until_asked("POST /api/credits/holds/h1/release", 1).await;
}

#[tokio::test]
async fn a_guest_passes_by_allowance_and_pays_nothing() {
    let question =
        |question: Authorize| question.guest("generate").charge(5, &key()).forwarded_for(from_somewhere());
    let (answer, _) = ask(guest_passed(), question).await;
    let passed = answer.expect("it passes");
    assert_eq!(passed.subject, Subject::Guest("g1".into()));
    assert!(passed.user.is_none() && passed.spent.is_none());
    assert_eq!(passed.allowance.expect("it is counted").remaining, 2);
}

#[tokio::test]
async fn a_guest_without_an_address_is_not_asked_about() {
    let (answer, stub) = ask(guest_passed(), |question| question.guest("generate")).await;
    let error = answer.expect_err("all guests would be one");
    assert!(matches!(error, Error::Misconfigured(Misconfigured::NoClientAddress)), "{error:?}");
    assert_eq!(stub.connections(), 0);
}

#[tokio::test]
async fn without_a_service_key_the_gate_is_not_asked() {
    let stub = Stub::always(json_reply("200 OK", &passed())).await;
    let tollgate = Tollgate::new(format!("http://{}", stub.address)).expect("a handle");
    let error = tollgate.authorize(&visitor()).send().await.expect_err("there is no key");
    assert!(matches!(error, Error::Misconfigured(Misconfigured::NoServiceKey)), "{error:?}");
    assert_eq!((error.status(), error.code()), (StatusCode::INTERNAL_SERVER_ERROR, "internal"));
    assert_eq!(stub.connections(), 0);
}

#[tokio::test]
async fn refusals_are_passed_on_as_they_were_said() {
    for (status, body) in [
        (
            "401 Unauthorized",
            json!({"error_code": "unauthenticated", "message": "no session", "detail": null}),
        ),
        (
            "402 Payment Required",
            json!({"error_code": "insufficient_credits", "message": "not enough", "detail": null, "balance": 3,
                   "available": 2, "required": 5, "unit": "credits", "buy_url": "https://app.example/buy"}),
        ),
        ("403 Forbidden", json!({"error_code": "user_mismatch", "message": "another", "detail": null})),
        (
            "403 Forbidden",
            json!({"error_code": "user_banned", "message": "banned", "detail": "until Monday"}),
        ),
        ("403 Forbidden", json!({"error_code": "forbidden", "message": "no role", "detail": null})),
        (
            "404 Not Found",
            json!({"error_code": "not_found", "message": "no owner", "detail": null, "field": "payer"}),
        ),
        (
            "409 Conflict",
            json!({"error_code": "idempotency_mismatch", "message": "other", "detail": null, "field": "amount"}),
        ),
        (
            "422 Unprocessable",
            json!({"error_code": "invalid_request", "message": "bad", "detail": null, "field": "role"}),
        ),
        (
            "429 Too Many Requests",
            json!({"error_code": "limit_reached", "message": "cap", "detail": null,
                   "limit": {"scope": "user", "id": "ada", "window": "day", "max": 5, "used": 5},
                   "resets_at": "2999-01-01T00:00:00.000Z"}),
        ),
        (
            "429 Too Many Requests",
            json!({"error_code": "guest_limit_reached", "message": "enough", "detail": null, "action": "generate", "limit": 3,
                   "resets_at": null}),
        ),
    ] {
        let lines = [JSON, "Retry-After: 33", "X-Request-Id: r-1", "Set-Cookie: a=1"];
        let stub = Stub::always(Reply::Bytes(answer(status, &lines, &body.to_string()))).await;
        let error = stub.tollgate().authorize(&visitor()).send().await.expect_err(status);
        assert_eq!(error.status().as_str(), &status[..3]);
        assert_eq!(error.body(), body, "{status}");
        assert_eq!(error.retry_after().expect("it is passed on"), "33");
        let Error::Refused(refusal) = &error else { panic!("{error:?}") };
        assert_eq!(refusal.request_id.as_deref(), Some("r-1"));
        assert_eq!(refusal.set_cookies.iter().collect::<Vec<_>>(), ["a=1"]);
        assert_eq!(error.is_unauthenticated(), status.starts_with("401"));
        assert_eq!(error.insufficient_credits().is_some(), status.starts_with("402"));
    }
}

#[tokio::test]
async fn a_refused_service_key_does_not_look_like_a_signed_out_visitor() {
    let stub = Stub::always(crate::stub::refusal("401 Unauthorized", "invalid_service_key")).await;
    let error = stub.tollgate().authorize(&visitor()).send().await.expect_err("the key is refused");
    assert!(matches!(error, Error::Misconfigured(Misconfigured::ServiceKeyRefused)), "{error:?}");
    assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn an_open_gate_that_does_not_fit_the_question_is_shut() {
    let other = json!({"user_id": "eve", "email": "e", "name": "E", "email_verified": true, "role": null});
    type Question = fn(Authorize) -> Authorize;
    let cases: Vec<(&str, Value, Question)> = vec![
        ("another user", passed_with("user", other), |question| question),
        ("no user", passed_with("user", Value::Null), |question| question),
        ("not the one asked for", passed(), |question| question.user_id("eve")),
        ("a guest nobody asked for", guest_passed(), |question| question),
        ("an unknown kind", passed_with("subject", json!({"kind": "ghost", "id": "ada"})), |question| {
            question
        }),
        ("nothing charged", passed(), |question| question.charge(5, &key())),
        ("spent in place of held", passed_with("charge", entry()), |question| {
            question.hold(5, Duration::from_secs(9), &key())
        }),
        (
            "a charge without an id",
            passed_with("charge", json!({"amount": 5, "unit": "c", "balance": 1, "available": 1})),
            |question| question.charge(5, &key()),
        ),
        ("half an answer", json!({"subject": {"kind": "user", "id": "ada"}}), |question| question),
        ("an end that is no time", passed_with("session", json!({"expires_at": "soon"})), |question| {
            question
        }),
    ];
    for (what, reply, question) in cases {
        let (answer, _) = ask(reply, question).await;
        let error = answer.expect_err(what);
        assert!(error.is_unavailable(), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn a_program_with_an_api_key_passes_without_a_session() {
    let body = json!({"subject": {"kind": "api_key", "id": "k1"}, "user": null, "session": null, "charge": null, "guest": null});
    let (answer, _) = ask(body, |question| question).await;
    assert_eq!(answer.expect("it passes").subject, Subject::ApiKey("k1".into()));
}

#[tokio::test]
async fn the_lines_of_an_extended_session_are_given_back() {
    let lines = [JSON, "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2"];
    let stub = Stub::always(Reply::Bytes(answer("200 OK", &lines, &passed().to_string()))).await;
    let passed = stub.tollgate().authorize(&visitor()).send().await.expect("it passes");
    let lines: Vec<_> = passed.set_cookies.iter().collect();
    assert_eq!(lines, ["a=1; Path=/", "b=2"]);
}

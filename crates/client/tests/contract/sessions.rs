//! The plain check: what goes out, and what the answers mean.

use crate::stub::{COOKIE, JSON, Reply, Stub, answer, json_reply, session_body, signed_in, visitor};
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tollgate_client::{Cookies, OrganizationId};

#[tokio::test]
async fn a_session_is_read_and_its_token_is_not_kept() {
    let stub = Stub::always(json_reply("200 OK", &signed_in())).await;
    let session = stub.tollgate().session(&visitor()).await.expect("an answer").expect("a session");
    assert_eq!(session.id.as_str(), "session-1");
    assert_eq!(session.user.id.as_str(), "ada");
    assert_eq!((session.user.name.as_str(), session.user.email.as_str()), ("Ada", "ada@example.com"));
    assert!(session.user.email_verified && session.user.has_role("admin"));
    assert_eq!(session.active_organization_id, Some(OrganizationId::new("acme")));
    assert_eq!(session.impersonated_by, None);
    assert!(session.expires_at > UNIX_EPOCH + Duration::from_secs(32_000_000_000));
    assert!(session.set_cookies.is_empty());
    assert!(!format!("{session:?}").contains("marker"));
}

#[tokio::test]
async fn the_cookies_go_out_and_nothing_else_of_the_visitor() {
    let stub = Stub::always(json_reply("200 OK", &Value::Null)).await;
    let mut headers = visitor();
    headers.append(header::COOKIE, HeaderValue::from_static("second=line"));
    assert!(stub.tollgate().session(&headers).await.expect("an answer").is_none());
    let received = stub.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].line, "GET /api/auth/get-session");
    assert_eq!(received[0].all("cookie"), [COOKIE, "second=line"]);
    let names: Vec<_> = received[0].headers.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(names, ["cookie", "cookie", "host"], "not even the service key");
}

#[tokio::test]
async fn null_is_nobody_with_white_space_or_without() {
    for body in ["null", " null\n"] {
        let stub = Stub::always(Reply::Bytes(answer("200 OK", &[JSON], body))).await;
        assert!(stub.tollgate().session(&visitor()).await.expect("an answer").is_none(), "{body:?}");
    }
}

#[tokio::test]
async fn without_cookies_nobody_is_asked() {
    let stub = Stub::always(json_reply("200 OK", &signed_in())).await;
    assert!(stub.tollgate().session(Cookies::default()).await.expect("no question").is_none());
    let mut headers = visitor();
    headers.remove(header::COOKIE);
    assert!(stub.tollgate().session(&headers).await.expect("no question").is_none());
    headers.insert(header::COOKIE, HeaderValue::from_static(""));
    assert!(stub.tollgate().session(&headers).await.expect("no question").is_none());
    assert_eq!(stub.connections(), 0);
}

fn from_now(milliseconds: i64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let at = i64::try_from(now).expect("this century") + milliseconds;
    let at = jiff::Timestamp::from_millisecond(at).expect("this century");
    session_body(&format!("{at:.3}"))
}

#[tokio::test]
async fn a_session_that_expired_a_millisecond_ago_is_none() {
    let stub = Stub::start(|_| json_reply("200 OK", &from_now(-1))).await;
    assert!(stub.tollgate().session(&visitor()).await.expect("an answer").is_none());
    let stub = Stub::start(|_| json_reply("200 OK", &from_now(60_000))).await;
    assert!(stub.tollgate().session(&visitor()).await.expect("an answer").is_some());
}

#[tokio::test]
async fn every_check_is_a_question_of_its_own() {
    let stub = Stub::always(json_reply("200 OK", &Value::Null)).await;
    let tollgate = stub.tollgate();
    for _ in 0..5 {
        assert!(tollgate.session(&visitor()).await.expect("an answer").is_none());
    }
    assert_eq!(stub.received().len(), 5);
}

#[tokio::test]
async fn the_lines_of_an_extended_session_are_given_back() {
    let lines = ["Set-Cookie: a=1; Path=/; HttpOnly", "Set-Cookie: b=2; Path=/", JSON];
    let stub = Stub::always(Reply::Bytes(answer("200 OK", &lines, &signed_in().to_string()))).await;
    let session = stub.tollgate().session(&visitor()).await.expect("an answer").expect("a session");
    let mut headers = HeaderMap::new();
    headers.insert(header::SET_COOKIE, HeaderValue::from_static("own=1"));
    session.set_cookies.write(&mut headers);
    let written: Vec<_> = headers.get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(written, ["own=1", "a=1; Path=/; HttpOnly", "b=2; Path=/"]);
    assert_eq!(session.set_cookies.iter().count(), 2);
}

#[tokio::test]
async fn readiness_is_what_tollgate_says_of_itself() {
    let ready = Stub::always(Reply::Bytes(answer("200 OK", &[JSON], r#"{"status":"ready"}"#))).await;
    ready.tollgate().healthy().await.expect("it is ready");
    assert_eq!(ready.received()[0].line, "GET /readyz");
    assert_eq!(ready.received()[0].header("authorization"), None);
    for (status, body) in [
        ("503 Service Unavailable", r#"{"status":"not_ready"}"#),
        ("200 OK", r#"{"status":"stopping"}"#),
        ("200 OK", "{}"),
        ("200 OK", "<h1>It works!</h1>"),
    ] {
        let stub = Stub::always(Reply::Bytes(answer(status, &[JSON], body))).await;
        let error = stub.tollgate().healthy().await.expect_err(body);
        assert!(error.is_unavailable(), "{body}: {error}");
    }
}

//! Servers that are down, silent, slow, or answer with something else: whatever is asked, nothing can be told, and nobody
//! is signed out for it.

use crate::stub::{JSON, Reply, Stub, answer, json_reply, refusal, signed_in, visitor};
use http::StatusCode;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tollgate_client::{Error, IdempotencyKey, Reason, Tollgate, UserId};

const TIMEOUT: Duration = Duration::from_millis(300);
const HTML: &str = "Content-Type: text/html; charset=utf-8";

/// Everything that can be asked.
async fn ask_all(tollgate: &Tollgate) -> Vec<(&'static str, Error)> {
    let key = IdempotencyKey::new("job-1").expect("a key");
    let account = tollgate.account(UserId::new("ada"));
    let minute = Duration::from_secs(60);
    vec![
        ("session", tollgate.session(&visitor()).await.map(|found| panic!("{found:?}"))),
        ("authorize", tollgate.authorize(&visitor()).send().await.map(|found| panic!("{found:?}"))),
        ("balance", account.balance(None).await.map(|found| panic!("{found:?}"))),
        ("spend", account.spend(5, &key).await.map(|found| panic!("{found:?}"))),
        ("hold", account.hold(5, minute, &key).await.map(|found| panic!("{found:?}"))),
        ("guest", tollgate.guest(&visitor()).await.map(|found| panic!("{found:?}"))),
        ("healthy", tollgate.healthy().await.map(|found| panic!("{found:?}"))),
    ]
    .into_iter()
    .map(|(question, answer): (_, Result<(), Error>)| (question, answer.expect_err("it is an error")))
    .collect()
}

#[track_caller]
fn assert_unavailable(what: &str, question: &str, error: &Error, reason: Option<Reason>) {
    let Error::Unavailable(unavailable) = error else { panic!("{what}, {question}: {error:?}") };
    if let Some(reason) = reason {
        assert_eq!(unavailable.reason(), reason, "{what}, {question}");
    }
    assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE, "{what}, {question}");
    assert!(error.retry_after().is_some(), "{what}, {question}");
    let body = error.body();
    assert_eq!((&body["error_code"], &body["detail"]), (&json!("unavailable"), &Value::Null), "{what}");
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(3), "{what}");
}

async fn expect_unavailable(what: &str, reply: Reply, reason: Option<Reason>) {
    let stub = Stub::always(reply).await;
    let errors = ask_all(&stub.tollgate()).await;
    for (question, error) in &errors {
        assert_unavailable(what, question, error, reason);
    }
    assert_eq!(stub.received().len(), errors.len(), "{what}: each question went out once");
}

fn bytes(status: &str, headers: &[&str], body: &str) -> Reply {
    Reply::Bytes(answer(status, headers, body))
}

#[tokio::test]
async fn a_body_that_is_something_else() {
    let whole = signed_in().to_string();
    let cut_off = &whole[..whole.len() - 1];
    for (what, body) in [
        ("an empty body", ""),
        ("an empty object", "{}"),
        ("a list", "[]"),
        ("a number", "0"),
        ("true", "true"),
        ("a text", "\"null\""),
        ("truncated JSON", cut_off),
        ("two values", "null null"),
        ("JSON and more", "{}<br>"),
        ("no UTF-8", "\u{feff}null"),
        (
            "nulls inside",
            r#"{"session":null,"user":null,"subject":null,"balance":null,"entry":null,"hold":null}"#,
        ),
        ("an error with the status 200", r#"{"error_code":"unauthenticated","message":"no","detail":null}"#),
    ] {
        expect_unavailable(what, bytes("200 OK", &[JSON], body), None).await;
    }
}

#[tokio::test]
async fn null_answers_the_plain_check_alone() {
    let stub = Stub::always(json_reply("200 OK", &Value::Null)).await;
    let tollgate = stub.tollgate();
    assert!(tollgate.session(&visitor()).await.expect("an answer").is_none());
    let error = tollgate.authorize(&visitor()).send().await.expect_err("null is no decision");
    assert_unavailable("null", "authorize", &error, None);
}

#[tokio::test]
async fn html_and_other_content_types() {
    let page = "<!doctype html><title>Sign in</title>";
    expect_unavailable("a page", bytes("200 OK", &[HTML], page), None).await;
    expect_unavailable("a page marked as JSON", bytes("200 OK", &[JSON], page), None).await;
    let body = signed_in().to_string();
    for kind in [HTML, "Content-Type: text/plain", "Content-Type: application/jsonp", "X-No: content-type"] {
        expect_unavailable(kind, bytes("200 OK", &[kind], &body), None).await;
        expect_unavailable(kind, bytes("200 OK", &[kind], "null"), None).await;
    }
}

#[tokio::test]
async fn a_status_that_is_no_decision() {
    let spoken = r#"{"error_code":"unauthenticated","message":"no","detail":null}"#;
    for status in [
        "201 Created",
        "204 No Content",
        "206 Partial Content",
        "300 Multiple Choices",
        "304 Not Modified",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "504 Gateway Timeout",
    ] {
        let body = if status.starts_with("204") || status.starts_with("304") { "" } else { spoken };
        expect_unavailable(status, bytes(status, &[JSON], body), None).await;
    }
    for status in
        ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "429 Too Many Requests"]
    {
        expect_unavailable(status, bytes(status, &[HTML], "<h1>No</h1>"), None).await;
        expect_unavailable(status, bytes(status, &[HTML], spoken), None).await;
        expect_unavailable(status, bytes(status, &[], ""), None).await;
    }
}

#[tokio::test]
async fn whatever_the_status_a_plain_check_signs_nobody_out() {
    for status in ["401 Unauthorized", "403 Forbidden", "404 Not Found", "402 Payment Required"] {
        let stub = Stub::always(refusal(status, "unauthenticated")).await;
        let error = stub.tollgate().session(&visitor()).await.expect_err(status);
        assert_unavailable(status, "session", &error, None);
    }
}

#[tokio::test]
async fn retry_after_is_passed_on_and_never_missing() {
    let spoken = r#"{"error_code":"rate_limited","message":"slower","detail":null}"#;
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let stub = Stub::always(bytes(status, &[JSON, "Retry-After: 17"], spoken)).await;
        let error = stub.tollgate().session(&visitor()).await.expect_err(status);
        assert_unavailable(status, "session", &error, None);
        assert_eq!(error.retry_after().expect("it is passed on"), "17");
    }
    // At the gate a 429 is a decision.
    let stub = Stub::always(bytes("429 Too Many Requests", &[JSON, "Retry-After: 17"], spoken)).await;
    let error = stub.tollgate().authorize(&visitor()).send().await.expect_err("a refusal");
    assert_eq!((error.status(), error.code()), (StatusCode::TOO_MANY_REQUESTS, "rate_limited"));
    assert_eq!(error.retry_after().expect("it is passed on"), "17");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Stub::always(json_reply("200 OK", &signed_in())).await;
    for status in
        ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        let location = format!("Location: http://{}/api/auth/get-session", elsewhere.address);
        let body = signed_in().to_string();
        let reason = StatusCode::from_bytes(&status.as_bytes()[..3]).map(Reason::Status).ok();
        expect_unavailable(status, bytes(status, &[JSON, &location], &body), reason).await;
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn an_answer_beyond_a_mebibyte_is_not_read() {
    let huge = " ".repeat(1024 * 1024) + "null";
    let plain = Reply::Bytes(answer("200 OK", &[JSON], &huge));
    expect_unavailable("with a length", plain, Some(Reason::TooLarge)).await;
    let mut chunked = format!("HTTP/1.1 200 OK\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..40 {
        chunked.extend_from_slice(format!("10000\r\n{}\r\n", " ".repeat(0x10000)).as_bytes());
    }
    expect_unavailable("without an end", Reply::Bytes(chunked), Some(Reason::TooLarge)).await;
    // One that fits exactly is read.
    let stub = Stub::always(Reply::Bytes(answer("200 OK", &[JSON], &huge[4..]))).await;
    assert!(stub.tollgate().session(&visitor()).await.expect("it fits").is_none());
}

#[tokio::test]
async fn connections_that_break_off() {
    let whole = answer("200 OK", &[JSON], &signed_in().to_string());
    let half = whole[..whole.len() / 2].to_vec();
    let head = whole[..20].to_vec();
    let broken = Some(Reason::BrokenOff);
    expect_unavailable("closed without an answer", Reply::AndClose(Vec::new()), broken).await;
    expect_unavailable("reset without an answer", Reply::AndReset(Vec::new()), broken).await;
    expect_unavailable("closed within the head", Reply::AndClose(head), broken).await;
    expect_unavailable("closed within the body", Reply::AndClose(half.clone()), broken).await;
    expect_unavailable("reset within the body", Reply::AndReset(half), broken).await;
    expect_unavailable("not HTTP", Reply::AndClose(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), broken).await;
}

#[tokio::test]
async fn nothing_listens() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let tollgate =
        Tollgate::builder(format!("http://{address}")).service_key("tg_sk_a").build().expect("a handle");
    for (question, error) in ask_all(&tollgate).await {
        assert_unavailable("down", question, &error, Some(Reason::NoConnection));
    }
}

/// The time is for everything: a server that sends a little now and then gains nothing by it.
#[tokio::test]
async fn silence_and_slowness_end_in_time() {
    let body = signed_in().to_string();
    let drop_by_drop = Reply::Slowly(answer("200 OK", &[JSON], &body), Duration::from_millis(50));
    for (what, reply) in [("silent", Reply::Silence), ("slow", drop_by_drop)] {
        let stub = Stub::always(reply).await;
        let tollgate = stub.hurried(TIMEOUT);
        let began = Instant::now();
        let errors = ask_all(&tollgate).await;
        let took = began.elapsed();
        for (question, error) in &errors {
            assert_unavailable(what, question, error, Some(Reason::TimedOut(TIMEOUT)));
        }
        let count = u32::try_from(errors.len()).expect("a few");
        assert!(
            took >= TIMEOUT * count && took < TIMEOUT * count * 3,
            "{what}: {count} questions took {took:?}"
        );
        assert_eq!(stub.received().len(), errors.len(), "{what}: nothing was sent again");
    }
}

#[tokio::test]
async fn by_default_the_time_is_two_seconds() {
    let stub = Stub::always(Reply::Silence).await;
    let tollgate = Tollgate::new(format!("http://{}", stub.address)).expect("a handle");
    let began = Instant::now();
    let error = tollgate.session(&visitor()).await.expect_err("nothing is answered");
    let took = began.elapsed();
    assert_unavailable("silent", "session", &error, Some(Reason::TimedOut(Duration::from_secs(2))));
    assert!((Duration::from_secs(2)..Duration::from_secs(4)).contains(&took), "it took {took:?}");
}

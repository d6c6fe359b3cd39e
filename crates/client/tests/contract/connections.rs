//! Connections are few, are kept, and never mix up answers.

use crate::stub::{COOKIE, JSON, Received, Reply, Stub, answer, json_reply, signed_in, visitor};
use serde_json::Value;
use std::time::Duration;
use tollgate_client::{Cookies, Reason};

/// Signs in whoever the cookie names.
fn named_by_cookie(received: &Received) -> Reply {
    let name = received.header("cookie").and_then(|cookie| cookie.strip_prefix("name=")).expect("a name");
    let body = signed_in().to_string().replace("\"ada\"", &format!("\"{name}\""));
    Reply::Bytes(answer("200 OK", &[JSON], &body))
}

#[tokio::test]
async fn one_connection_serves_one_question_after_the_other() {
    let stub = Stub::always(json_reply("200 OK", &Value::Null)).await;
    let tollgate = stub.tollgate();
    for _ in 0..20 {
        // Clones share the pool.
        let answer = tollgate.clone().session(&visitor()).await;
        assert!(answer.expect("an answer").is_none());
    }
    assert_eq!((stub.received().len(), stub.connections()), (20, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn hundred_visitors_at_once_each_get_their_own_answer() {
    let stub = Stub::start(named_by_cookie).await;
    let tollgate = stub.tollgate();
    for round in 0..3 {
        let visitors: Vec<_> = (0..100)
            .map(|number| {
                let tollgate = tollgate.clone();
                tokio::spawn(async move {
                    let name = format!("visitor-{round}-{number}");
                    let cookies = Cookies::from_text(&format!("name={name}")).expect("cookies");
                    let session = tollgate.session(cookies).await.expect("an answer").expect("a session");
                    assert_eq!(session.user.id.as_str(), name);
                })
            })
            .collect();
        for visitor in visitors {
            visitor.await.expect("the visitor's session is the visitor's");
        }
    }
    assert_eq!(stub.received().len(), 300);
    // A question that waits for its connection takes one that gets free meanwhile, so there may be fewer.
    assert!(stub.connections() < 200, "{} connections for 300 questions", stub.connections());
    let before = stub.connections();
    for _ in 0..50 {
        let cookies = Cookies::from_text("name=late").expect("cookies");
        tollgate.session(cookies).await.expect("an answer");
    }
    assert_eq!(stub.connections(), before, "what is kept is used");
}

#[tokio::test]
async fn what_went_out_on_a_kept_connection_is_not_sent_again() {
    let stub = Stub::start(|received| match received.header("cookie") {
        Some("break=1") => Reply::AndClose(Vec::new()),
        _ => json_reply("200 OK", &Value::Null),
    })
    .await;
    let tollgate = stub.tollgate();
    assert!(tollgate.session(&visitor()).await.expect("an answer").is_none());
    let cookies = Cookies::from_text("break=1").expect("cookies");
    let error = tollgate.session(&cookies).await.expect_err("the connection breaks");
    assert!(
        matches!(&error, tollgate_client::Error::Unavailable(why) if why.reason() == Reason::BrokenOff),
        "{error:?}"
    );
    let seen: Vec<_> = stub.received().iter().map(|received| received.connection).collect();
    assert_eq!(seen, [1, 1], "the second question used the kept connection, once");
    // The next one gets a connection that works.
    assert!(tollgate.session(&visitor()).await.expect("an answer").is_none());
}

#[tokio::test]
async fn a_late_answer_never_meets_the_next_question() {
    let stub = Stub::start(|received| match received.header("cookie") {
        Some(COOKIE) => {
            let late = answer("200 OK", &[JSON], &signed_in().to_string());
            Reply::Slowly(late, Duration::from_millis(20))
        }
        _ => json_reply("200 OK", &Value::Null),
    })
    .await;
    let tollgate = stub.hurried(Duration::from_millis(250));
    for _ in 0..3 {
        let error = tollgate.session(&visitor()).await.expect_err("it comes too late");
        assert!(error.is_unavailable());
        let other = Cookies::from_text("other=1").expect("cookies");
        assert!(tollgate.session(other).await.expect("an answer").is_none());
    }
    let late: Vec<_> = stub.received().iter().map(|received| received.connection).step_by(2).collect();
    let others: Vec<_> =
        stub.received().iter().skip(1).map(|received| received.connection).step_by(2).collect();
    assert!(others.iter().zip(&late).all(|(other, late)| other != late), "{late:?} {others:?}");
}

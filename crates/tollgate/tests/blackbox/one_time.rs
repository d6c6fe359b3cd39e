//! Values that work once: raced, superseded, of the wrong kind, expired.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Browser, Engine, PASSWORD, Request, Response, Server, at_full_length, in_parallel};
use crate::on_both_engines;

const WITHIN: Duration = Duration::from_secs(20);
const NEW: &str = "a new and longer password";

fn signed_up(server: &Server, email: &str) -> Browser {
    let mut browser = Browser::new(server);
    browser.sign_up(email);
    browser
}

/// The token of a fresh reset link.
fn reset_token(server: &Server, email: &str) -> String {
    Browser::new(server).post("/api/auth/request-password-reset", json!({"email": email})).expect(200);
    token_in(&server.mail.take(email, WITHIN).link())
}

fn token_in(link: &str) -> String {
    let rest = link.split_once("/reset-password/").or_else(|| link.split_once("token=")).expect("a token").1;
    rest.split(['?', '&']).next().expect("a token").to_owned()
}

fn reset(server: &Server, token: &str, password: &str) -> Response {
    let body = json!({"newPassword": password, "token": token});
    Browser::new(server).post("/api/auth/reset-password", body)
}

/// O-33.
fn a_raced_reset_has_one_winner_and_its_password(engine: Engine) {
    let server = Server::start(engine);
    signed_up(&server, "ada@example.com");
    for round in 0..if at_full_length() { 100 } else { 3 } {
        let token = reset_token(&server, "ada@example.com");
        let password = |number: usize| format!("{NEW} {round} {number}");
        let answers = in_parallel(50, |number| reset(&server, &token, &password(number)));
        let winners: Vec<usize> = (0..50).filter(|number| answers[*number].status == 200).collect();
        assert_eq!(winners.len(), 1, "round {round}");
        for answer in &answers {
            // The pool of one core takes fewer than fifty passwords at once.
            let fine = answer.status == 200 || answer.status == 503 || answer.code() == "INVALID_TOKEN";
            assert!(fine, "{} {}", answer.status, answer.text());
        }
        let loser = (winners[0] + 1) % 50;
        Browser::new(&server).try_sign_in("ada@example.com", &password(loser)).expect(401);
        Browser::new(&server).try_sign_in("ada@example.com", &password(winners[0])).expect(200);
    }
}
on_both_engines!(a_raced_reset_has_one_winner_and_its_password);

/// The same over two nodes.
#[test]
fn a_reset_raced_over_two_nodes_has_one_winner() {
    let first = Server::start(Engine::Postgres);
    let second = Server::second_node(&first);
    signed_up(&first, "ada@example.com");
    for round in 0..if at_full_length() { 50 } else { 3 } {
        let token = reset_token(&first, "ada@example.com");
        let answers = in_parallel(20, |number| {
            let node = if number % 2 == 0 { &first } else { &second };
            reset(node, &token, &format!("{NEW} {round} {number}"))
        });
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    }
}

/// O-19, N-10.
fn of_resets_asked_for_at_once_one_link_works(engine: Engine) {
    let server = Server::start(engine);
    signed_up(&server, "ada@example.com");
    let ask = json!({"email": "ada@example.com", "redirectTo": "/new-password"});
    in_parallel(6, |_| {
        Browser::new(&server).post("/api/auth/request-password-reset", ask.clone()).expect(200)
    });
    let links: Vec<String> = (0..6).map(|_| server.mail.take("ada@example.com", WITHIN).link()).collect();
    let good = links.iter().filter(|link| {
        let answer = Browser::new(&server).follow(link);
        answer.header("Location").expect("a redirect").contains("token=")
    });
    assert_eq!(good.count(), 1);
}
on_both_engines!(of_resets_asked_for_at_once_one_link_works);

fn a_reset_ends_all_sessions_and_opens_none(engine: Engine) {
    let server = Server::start(engine);
    let mut first = signed_up(&server, "ada@example.com");
    let mut second = Browser::new(&server);
    second.sign_in("ada@example.com");
    let mut bearer = Browser::new(&server);
    let token = second.session()["session"]["token"].as_str().expect("signed in").to_owned();
    bearer.headers.push(("Authorization".into(), format!("Bearer {token}")));
    let token = reset_token(&server, "ada@example.com");
    let done = reset(&server, &token, NEW).expect(200);
    assert_eq!(done.all("Set-Cookie").count(), 0);
    for browser in [&mut first, &mut second, &mut bearer] {
        assert_eq!(browser.session(), Value::Null);
    }
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM sessions"), 0);
    Browser::new(&server).try_sign_in("ada@example.com", PASSWORD).expect(401);
    Browser::new(&server).try_sign_in("ada@example.com", NEW).expect(200);
    reset(&server, &token, "yet another password").refused(400, "INVALID_TOKEN");
    Browser::new(&server).try_sign_in("ada@example.com", NEW).expect(200);
}
on_both_engines!(a_reset_ends_all_sessions_and_opens_none);

/// Sign-ins with the old password that are under way while it is reset end in nothing.
fn no_sign_in_outruns_a_reset(engine: Engine) {
    let server = Server::start(engine);
    signed_up(&server, "ada@example.com");
    let mut current = PASSWORD.to_owned();
    for round in 0..if at_full_length() { 30 } else { 4 } {
        let token = reset_token(&server, "ada@example.com");
        let next = format!("{NEW} {round}");
        let held = in_parallel(5, |number| {
            if number == 0 {
                reset(&server, &token, &next).expect(200);
                return Vec::new();
            }
            let mut held = Vec::new();
            for _ in 0..6 {
                let mut browser = Browser::new(&server);
                match browser.try_sign_in("ada@example.com", &current).status {
                    200 => held.push(browser),
                    401 | 429 => break,
                    other => panic!("status {other}"),
                }
            }
            held
        });
        for mut browser in held.into_iter().flatten() {
            assert_eq!(
                browser.session(),
                Value::Null,
                "the old password opened a session that outlived the reset"
            );
        }
        server.database.execute("DELETE FROM counters");
        current = next;
    }
}
on_both_engines!(no_sign_in_outruns_a_reset);

/// O-35.
fn an_older_reset_link_is_worthless(engine: Engine) {
    let server = Server::with(engine, "[accounts]\nchange_email = true\n");
    let mut ada = signed_up(&server, "ada@example.com");
    let (first, second) = (reset_token(&server, "ada@example.com"), reset_token(&server, "ada@example.com"));
    assert_ne!(first, second);
    reset(&server, &first, NEW).refused(400, "INVALID_TOKEN");
    let look =
        Browser::new(&server).get(&format!("/api/auth/reset-password/{first}?callbackURL=%2Fx")).expect(302);
    assert!(look.header("Location").is_some_and(|to| to.ends_with("/x?error=INVALID_TOKEN")), "{look:?}");

    // A link in the mailbox that was left behind.
    ada.post("/api/auth/change-email", json!({"newEmail": "new@example.com"})).expect(200);
    let link = server.mail.take("new@example.com", WITHIN).link();
    ada.follow(&link).expect(302);
    assert_eq!(ada.session()["user"]["email"], "new@example.com");
    reset(&server, &second, NEW).refused(400, "INVALID_TOKEN");

    // A link from before the password was changed otherwise.
    let third = reset_token(&server, "new@example.com");
    ada.post("/api/auth/change-password", json!({"currentPassword": PASSWORD, "newPassword": NEW}))
        .expect(200);
    reset(&server, &third, PASSWORD).refused(400, "INVALID_TOKEN");
    Browser::new(&server).try_sign_in("new@example.com", NEW).expect(200);
}
on_both_engines!(an_older_reset_link_is_worthless);

fn a_value_of_one_purpose_is_nothing_for_another(engine: Engine) {
    let server = Server::with(
        engine,
        "[accounts]\ndelete_user = true\ndelete_needs_mail = true\nchange_email = true\n",
    );
    let mut ada = signed_up(&server, "ada@example.com");
    let reset_value = reset_token(&server, "ada@example.com");
    ada.post("/api/auth/send-verification-email", json!({"email": "ada@example.com"})).expect(200);
    let verify_value = token_in(&server.mail.take("ada@example.com", WITHIN).link());
    ada.post("/api/auth/delete-user", json!({})).expect(200);
    let delete_value = token_in(&server.mail.take("ada@example.com", WITHIN).link());
    let session_value = ada.session()["session"]["token"].as_str().expect("signed in").to_owned();

    for wrong in [&verify_value, &delete_value, &session_value] {
        reset(&server, wrong, NEW).refused(400, "INVALID_TOKEN");
    }
    for wrong in [&reset_value, &delete_value, &session_value] {
        ada.get(&format!("/api/auth/verify-email?token={wrong}")).refused(401, "INVALID_TOKEN");
    }
    for wrong in [&reset_value, &verify_value, &session_value] {
        ada.get(&format!("/api/auth/delete-user/callback?token={wrong}")).refused(404, "INVALID_TOKEN");
        ada.post("/api/auth/delete-user", json!({"token": wrong})).refused(404, "INVALID_TOKEN");
    }
    for wrong in [&reset_value, &verify_value, &delete_value] {
        let bearer =
            Request::get("/api/auth/get-session").header("Authorization", &format!("Bearer {wrong}"));
        assert_eq!(bearer.send(server.address).expect("an answer").json(), Value::Null);
    }
    // None of this used anything up.
    ada.get(&format!("/api/auth/verify-email?token={verify_value}")).expect(200);
    ada.get(&format!("/api/auth/delete-user/callback?token={delete_value}")).expect(200);
    reset(&server, &reset_value, NEW).refused(400, "INVALID_TOKEN");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM users"), 0);
}
on_both_engines!(a_value_of_one_purpose_is_nothing_for_another);

fn an_expired_reset_link_is_refused(engine: Engine) {
    let server = Server::start(engine);
    signed_up(&server, "ada@example.com");
    let token = reset_token(&server, "ada@example.com");
    server.database.shift("one_time_values", "expires_at", -3600 * 1000, "used_at IS NULL");
    reset(&server, &token, NEW).refused(400, "INVALID_TOKEN");
    Browser::new(&server).try_sign_in("ada@example.com", PASSWORD).expect(200);
}
on_both_engines!(an_expired_reset_link_is_refused);

/// A guessed token costs no hashing, and one that is tried with a bad password stays good.
fn a_refused_reset_uses_nothing_up(engine: Engine) {
    let server = Server::start(engine);
    signed_up(&server, "ada@example.com");
    let token = reset_token(&server, "ada@example.com");
    let hashed = server.passwords_hashed();
    for wrong in [
        "",
        "x",
        "null",
        "../../etc",
        &"a".repeat(32),
        &"a".repeat(20_000),
        "\u{0}",
        &token.to_ascii_lowercase(),
    ] {
        reset(&server, wrong, NEW).refused(400, "INVALID_TOKEN");
    }
    reset(&server, &token, "short").refused(400, "PASSWORD_TOO_SHORT");
    reset(&server, &token, &"x1y2".repeat(40)).refused(400, "PASSWORD_TOO_LONG");
    reset(&server, &token, "password1234").refused(400, "PASSWORD_COMPROMISED");
    assert_eq!(server.passwords_hashed(), hashed);
    let in_query = format!("/api/auth/reset-password?token={token}");
    Browser::new(&server).post(&in_query, json!({"newPassword": NEW})).expect(200);
}
on_both_engines!(a_refused_reset_uses_nothing_up);

fn a_raced_deletion_link_deletes_once(engine: Engine) {
    let server = Server::with(engine, "[accounts]\ndelete_user = true\ndelete_needs_mail = true\n");
    let mut ada = signed_up(&server, "ada@example.com");
    ada.post("/api/auth/delete-user", json!({})).expect(200);
    let link = server.mail.take("ada@example.com", WITHIN).link();
    let answers = in_parallel(20, |_| ada.clone().follow(&link));
    let done = answers.iter().filter(|answer| answer.status == 302).count();
    assert_eq!(done, 1, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
    assert!(answers.iter().all(|answer| answer.status == 302 || answer.status == 404));
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM users"), 0);
}
on_both_engines!(a_raced_deletion_link_deletes_once);

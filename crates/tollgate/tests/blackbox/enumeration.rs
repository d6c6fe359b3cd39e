//! Who has an account is nobody's business: the same answer, byte for byte, and the same work.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Browser, Engine, PASSWORD, Request, Response, Server};
use crate::on_both_engines;

const WITHIN: Duration = Duration::from_secs(20);

/// Everything of an answer that may tell two cases apart: status, body, the names of the headers in their order, and
/// their values but for the request's id and the time.
fn visible(response: &Response) -> (u16, Vec<u8>, Vec<(String, String)>) {
    let own = |name: &str| name.eq_ignore_ascii_case("x-request-id") || name.eq_ignore_ascii_case("date");
    let headers = response.headers.iter();
    let headers = headers
        .map(|(name, value)| (name.clone(), if own(name) { String::new() } else { value.clone() }))
        .collect();
    (response.status, response.body.clone(), headers)
}

/// How many passwords were hashed while the work was done.
fn hashes<T>(server: &Server, work: impl FnOnce() -> T) -> (T, i64) {
    let before = server.passwords_hashed();
    let result = work();
    (result, server.passwords_hashed() - before)
}

/// O-27, O-28: also for accounts without a password and for banned users.
fn a_sign_in_does_not_tell_who_has_an_account(engine: Engine) {
    let server = Server::start(engine);
    for email in ["known@example.com", "nopassword@example.com", "banned@example.com"] {
        Browser::new(&server).sign_up(email);
    }
    server.database.execute(
        "UPDATE accounts SET password_hash = NULL WHERE user_id IN (SELECT id FROM users WHERE email LIKE 'nopass%')",
    );
    server.command(&["user", "ban", "banned@example.com"]).expect_done();
    let ask = |email: &str| hashes(&server, || Browser::new(&server).try_sign_in(email, "wrong password 1"));
    let (unknown, unknown_hashes) = ask("unknown@example.com");
    assert_eq!((unknown.status, unknown.code().as_str()), (401, "INVALID_EMAIL_OR_PASSWORD"));
    assert_eq!(unknown_hashes, 1);
    for email in ["known@example.com", "nopassword@example.com", "banned@example.com", "KNOWN@example.com"] {
        let (answer, count) = ask(email);
        assert_eq!(visible(&answer), visible(&unknown), "{email}");
        assert_eq!(count, 1, "{email} costs as much as an unknown address");
    }
}
on_both_engines!(a_sign_in_does_not_tell_who_has_an_account);

fn an_unverified_account_shows_itself_to_its_owner_only(engine: Engine) {
    let server = Server::with(engine, "[email_password]\nrequire_verification = true\n");
    let body = json!({"name": "N", "email": "new@example.com", "password": PASSWORD});
    Browser::new(&server).post("/api/auth/sign-up/email", body).expect(200);
    let unknown = Browser::new(&server).try_sign_in("unknown@example.com", "wrong password 1");
    let known = Browser::new(&server).try_sign_in("new@example.com", "wrong password 1");
    assert_eq!(visible(&known), visible(&unknown));
    Browser::new(&server).try_sign_in("new@example.com", PASSWORD).refused(403, "EMAIL_NOT_VERIFIED");
}
on_both_engines!(an_unverified_account_shows_itself_to_its_owner_only);

/// O-29.
fn asking_for_a_reset_tells_nothing(engine: Engine) {
    let server = Server::start(engine);
    Browser::new(&server).sign_up("known@example.com");
    let ask = |email: &str| {
        let body = json!({"email": email, "redirectTo": "/reset"});
        hashes(&server, || Browser::new(&server).post("/api/auth/request-password-reset", body))
    };
    let (unknown, unknown_hashes) = ask("unknown@example.com");
    for email in ["known@example.com", "Known@Example.com", "unknown@example.com"] {
        let (answer, count) = ask(email);
        assert_eq!(visible(&answer), visible(&unknown), "{email}");
        assert_eq!((count, unknown_hashes), (0, 0));
    }
    // The mail leaves from a queue: a mail server that refuses changes nothing about the answer.
    server.mail.refuse(true);
    assert_eq!(visible(&ask("known@example.com").0), visible(&unknown));
    assert_eq!(server.mail.count("unknown@example.com"), 0);
}
on_both_engines!(asking_for_a_reset_tells_nothing);

fn asking_for_a_verification_mail_tells_nothing(engine: Engine) {
    let server = Server::start(engine);
    Browser::new(&server).sign_up("unproven@example.com");
    Browser::new(&server).sign_up("proven@example.com");
    server.database.execute("UPDATE users SET email_verified = TRUE WHERE email = 'proven@example.com'");
    let ask = |email: &str| {
        visible(&Browser::new(&server).post("/api/auth/send-verification-email", json!({"email": email})))
    };
    let unknown = ask("unknown@example.com");
    assert_eq!(ask("unproven@example.com"), unknown);
    assert_eq!(ask("proven@example.com"), unknown);
    server.mail.take("unproven@example.com", WITHIN);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM mails WHERE recipient <> ''"), 1);
}
on_both_engines!(asking_for_a_verification_mail_tells_nothing);

/// What differs between two users anyway, taken out; the order of the members stays.
fn anonymous(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).expect("JSON");
    let mut text = String::from_utf8(body.to_vec()).expect("UTF-8");
    for name in ["id", "email", "createdAt", "updatedAt"] {
        let own = value["user"][name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"));
        text = text.replace(own, &format!("<{name} of {}>", own.len().min(24)));
    }
    text
}

fn sign_up_tells_nothing(server: &Server) {
    let sign_up = |email: &str, password: &str| {
        let body = json!({"name": "Some Name", "email": email, "password": password, "image": "https://app.example/i.png"});
        hashes(server, || Browser::new(server).post("/api/auth/sign-up/email", body))
    };
    let (first, first_hashes) = sign_up("owner@example.com", PASSWORD);
    let (second, second_hashes) = sign_up("Owner@example.com", "the password of a stranger");
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(anonymous(&first.body), anonymous(&second.body));
    let names =
        |response: &Response| response.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&first), names(&second));
    assert_eq!((first_hashes, second_hashes), (1, 1));
    assert_ne!(first.json()["user"]["id"], second.json()["user"]["id"]);
    assert_eq!(first.all("Set-Cookie").chain(second.all("Set-Cookie")).count(), 0);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM users"), 1);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM sessions"), 0);
    // The rules for passwords are told before anybody looks for the account.
    sign_up("owner@example.com", "short").0.refused(400, "PASSWORD_TOO_SHORT");
    let stranger = Browser::new(server).try_sign_in("owner@example.com", "the password of a stranger");
    stranger.refused(401, "INVALID_EMAIL_OR_PASSWORD");
}

/// O-30.
fn a_sign_up_with_a_taken_address_tells_its_owner_only(engine: Engine) {
    let server = Server::with(engine, "[email_password]\nrequire_verification = true\n");
    sign_up_tells_nothing(&server);
    let proof = server.mail.take("owner@example.com", WITHIN);
    let notice = server.mail.take("owner@example.com", WITHIN);
    let (proof, notice) =
        if proof.link().contains("verify-email") { (proof, notice) } else { (notice, proof) };
    assert_ne!(proof.subject(), notice.subject());
    assert!(!notice.text().contains("token="), "the notice lets nobody in: {}", notice.text());
    Browser::new(&server).follow(&proof.link()).expect(302);
    Browser::new(&server).try_sign_in("owner@example.com", PASSWORD).expect(200);
}
on_both_engines!(a_sign_up_with_a_taken_address_tells_its_owner_only);

fn without_automatic_sign_in_a_sign_up_tells_nothing_either(engine: Engine) {
    let server = Server::with(engine, "[email_password]\nauto_sign_in = false\n");
    sign_up_tells_nothing(&server);
    server.mail.take("owner@example.com", WITHIN);
    Browser::new(&server).try_sign_in("owner@example.com", PASSWORD).expect(200);

    let quiet = Server::with(engine, "[email_password]\nauto_sign_in = false\nnotify_taken = false\n");
    sign_up_tells_nothing(&quiet);
    assert_eq!(quiet.database.integer("SELECT COUNT(*) FROM mails WHERE recipient <> ''"), 0);
}
on_both_engines!(without_automatic_sign_in_a_sign_up_tells_nothing_either);

/// Which of a thousand paths exist is told by the document; which users exist is told by none of them.
fn no_answer_repeats_an_address_that_was_not_sent(engine: Engine) {
    let server = Server::start(engine);
    Browser::new(&server).sign_up("secret.person@example.com");
    let mut stranger = Browser::new(&server);
    stranger.sign_up("stranger@example.com");
    let document = stranger.get("/openapi.json").expect(200).json();
    for (path, methods) in document["paths"].as_object().expect("the document lists paths") {
        let path = path.replace("{token}", "x");
        for method in methods.as_object().expect("methods").keys() {
            let method = method.to_ascii_uppercase();
            let mut request = Request::new(&method, &path);
            if method == "POST" {
                request = request.json(&json!({"userId": "x", "email": "stranger@example.com"}));
            }
            let answer = stranger.clone().send(request);
            assert!(!answer.text().contains("secret.person"), "{method} {path}");
        }
    }
}
on_both_engines!(no_answer_repeats_an_address_that_was_not_sent);

//! Users without an address: what they have goes to whoever signs in with their session, once, and then they are gone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::credits::{Backend, books_balance, ledger_verifies, number, text};
use crate::harness::guest::guest;
use crate::harness::{Browser, Engine, PASSWORD, Server, in_parallel};
use crate::on_both_engines;

const WITHIN: Duration = Duration::from_secs(20);
const ON: &str = "[methods]\nanonymous = true\nmagic_link = true\nmagic_link_confirm = false\nemail_code = true\nusername = true\n";

/// A browser with an anonymous session, and the user's id.
fn anonymous(server: &Server) -> (Browser, String) {
    let mut browser = Browser::new(server);
    let answer = browser.post("/api/auth/sign-in/anonymous", json!({})).expect(200).json();
    assert_eq!(answer["user"]["isAnonymous"], true);
    (browser, text(&answer["user"]["id"]))
}

fn exists(server: &Server, id: &str) -> bool {
    server.database.integer(&format!("SELECT COUNT(*) FROM users WHERE id = '{id}'")) == 1
}

fn balance(backend: &mut Backend, id: &str) -> i64 {
    number(&backend.balance(id)["balance"])
}

fn what_an_anonymous_user_has_goes_to_whoever_signs_in_however_they_do(engine: Engine) {
    let server = Server::with(engine, ON);
    let mut backend = Backend::of(&server);
    Browser::new(&server).sign_up("known@example.com");
    for (number, how) in ["sign-up", "password", "code", "link"].into_iter().enumerate() {
        let (mut browser, id) = anonymous(&server);
        backend.grant(&id, 7);
        let email = format!("ada{number}@example.com");
        match how {
            "sign-up" => {
                browser.sign_up(&email);
            }
            "password" => {
                browser.try_sign_in("known@example.com", "a wrong password").expect(401);
                assert_eq!(browser.session()["user"]["id"], json!(id), "a failed sign-in leaves it");
                browser.sign_in("known@example.com");
            }
            "code" => {
                let body = json!({"email": email, "type": "sign-in"});
                browser.post("/api/auth/email-otp/send-verification-otp", body).expect(200);
                let otp = server.mail.take(&email, WITHIN).codes()[0].clone();
                browser.post("/api/auth/sign-in/email-otp", json!({"email": email, "otp": otp})).expect(200);
            }
            _ => {
                browser.post("/api/auth/sign-in/magic-link", json!({"email": email})).expect(200);
                browser.follow(&server.mail.take(&email, WITHIN).link()).expect(302);
            }
        }
        let user = browser.session()["user"].clone();
        assert_eq!(user["isAnonymous"], false, "{how}");
        assert_eq!(balance(&mut backend, &text(&user["id"])), 7, "{how}");
        assert!(!exists(&server, &id), "{how}");
    }
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(what_an_anonymous_user_has_goes_to_whoever_signs_in_however_they_do);

fn of_many_who_sign_in_with_one_anonymous_session_one_gets_what_it_had(engine: Engine) {
    let server = Server::with(engine, ON);
    let mut backend = Backend::of(&server);
    let ids: Vec<String> = (0..8)
        .map(|number| text(&Browser::new(&server).sign_up(&format!("ada{number}@example.com"))["user"]["id"]))
        .collect();
    for _ in 0..3 {
        let (browser, id) = anonymous(&server);
        backend.grant(&id, 11);
        let before: i64 = ids.iter().map(|id| balance(&mut backend, id)).sum();
        in_parallel(8, |number| browser.clone().sign_in(&format!("ada{number}@example.com")));
        let after: i64 = ids.iter().map(|id| balance(&mut backend, id)).sum();
        assert_eq!(after - before, 11);
        assert!(!exists(&server, &id));
    }
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(of_many_who_sign_in_with_one_anonymous_session_one_gets_what_it_had);

/// Whoever makes users by the thousand gets nothing for them.
fn nobody_is_welcomed_before_there_is_an_address(engine: Engine) {
    let server = Server::with(engine, &format!("{ON}[credits]\nsignup_grant = 100\n"));
    let mut backend = Backend::of(&server);
    let (mut browser, id) = anonymous(&server);
    assert_eq!(balance(&mut backend, &id), 0);
    browser.sign_up("ada@example.com");
    let user = text(&browser.session()["user"]["id"]);
    assert_eq!(balance(&mut backend, &user), 100);
    // An address that stands for none gets no mail.
    let (mut other, _) = anonymous(&server);
    let email = text(&other.session()["user"]["email"]);
    other.post("/api/auth/send-verification-email", json!({"email": email})).expect(200);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM mails WHERE recipient LIKE '%placeholder%'"), 0);
}
on_both_engines!(nobody_is_welcomed_before_there_is_an_address);

fn a_guest_becomes_an_anonymous_user_and_both_become_a_person(engine: Engine) {
    let server = Server::with(engine, &format!("{ON}[guest]\nallowances = {{ generate = 3 }}\n"));
    let mut backend = Backend::of(&server);
    let (mut browser, guest_id) = guest(&server);
    let body = json!({"guest_id": guest_id, "source": "promo", "reason": "try", "amount": 3});
    backend.post("grants", &crate::harness::credits::fresh_key(), &body).expect(201);
    let answer = browser.post("/api/auth/sign-in/anonymous", json!({})).expect(200).json();
    let id = text(&answer["user"]["id"]);
    assert_eq!(balance(&mut backend, &id), 3);
    backend.grant(&id, 4);
    // A guest again, beside the anonymous session.
    browser.post("/api/guest", json!({})).expect(201);
    browser.sign_up("ada@example.com");
    let user = text(&browser.session()["user"]["id"]);
    assert_eq!(balance(&mut backend, &user), 7);
    ledger_verifies(&server);
}
on_both_engines!(a_guest_becomes_an_anonymous_user_and_both_become_a_person);

fn an_anonymous_user_is_one_and_can_be_deleted_by_itself_alone(engine: Engine) {
    let server = Server::with(engine, ON);
    let (mut browser, id) = anonymous(&server);
    browser
        .post("/api/auth/sign-in/anonymous", json!({}))
        .refused(400, "ANONYMOUS_USERS_CANNOT_SIGN_IN_AGAIN_ANONYMOUSLY");
    Browser::new(&server).post("/api/auth/delete-anonymous-user", json!({})).refused(401, "UNAUTHORIZED");
    let mut person = Browser::new(&server);
    person.sign_up("ada@example.com");
    person.post("/api/auth/delete-anonymous-user", json!({})).refused(403, "USER_IS_NOT_ANONYMOUS");
    assert!(exists(&server, &id));
    browser.post("/api/auth/delete-anonymous-user", json!({})).expect(200);
    assert_eq!((browser.session(), exists(&server, &id)), (Value::Null, false));
    // It has no password to guess.
    let body = json!({"email": "x@anonymous.placeholder.invalid", "password": PASSWORD});
    Browser::new(&server).post("/api/auth/sign-in/email", body).expect(401);
}
on_both_engines!(an_anonymous_user_is_one_and_can_be_deleted_by_itself_alone);

fn whoever_has_moved_to_an_address_stays_when_another_signs_in(engine: Engine) {
    let server = Server::with(engine, &format!("{ON}change_email_by_code = true\n"));
    let (mut browser, id) = anonymous(&server);
    let email = "ada@example.com";
    browser.post("/api/auth/email-otp/request-email-change", json!({"newEmail": email})).expect(200);
    let otp = server.mail.take(email, WITHIN).codes()[0].clone();
    let body = json!({"newEmail": email, "otp": otp});
    browser.post("/api/auth/email-otp/change-email", body).expect(200);
    Browser::new(&server).sign_up("known@example.com");
    browser.sign_in("known@example.com");
    assert!(exists(&server, &id), "an account with a proven address was given away");
}
on_both_engines!(whoever_has_moved_to_an_address_stays_when_another_signs_in);

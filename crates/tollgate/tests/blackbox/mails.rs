//! Links that are mailed: where they lead, how often they work, and how an account moves to another address.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Browser, Engine, PASSWORD, Request, Server, in_parallel};
use crate::on_both_engines;

const WITHIN: Duration = Duration::from_secs(20);
const HOUR: i64 = 3600 * 1000;

fn signed_up(server: &Server, email: &str) -> Browser {
    let mut browser = Browser::new(server);
    browser.sign_up(email);
    browser
}

#[track_caller]
fn link_to(server: &Server, email: &str) -> String {
    server.mail.take(email, WITHIN).link()
}

fn is_verified(server: &Server, email: &str) -> bool {
    let sql = format!("SELECT CASE WHEN email_verified THEN 1 ELSE 0 END FROM users WHERE email = '{email}'");
    server.database.integer(&sql) == 1
}

fn set_verified(server: &Server) {
    server.database.execute("UPDATE users SET email_verified = TRUE");
}

fn send_verification(browser: &mut Browser, email: &str) {
    browser.post("/api/auth/send-verification-email", json!({"email": email})).expect(200);
}

/// O-41: whatever the request says about its host.
fn mailed_links_begin_with_the_configured_address(engine: Engine) {
    let server = Server::with(engine, "trusted_proxies = [\"127.0.0.0/8\"]\n");
    signed_up(&server, "ada@example.com");
    let headers = [
        ("Host", "evil.example"),
        ("Host", "127.0.0.1:1@evil.example"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "host=evil.example;proto=https"),
        ("X-Original-URL", "https://evil.example/"),
        ("X-Forwarded-Prefix", "/evil"),
    ];
    for (name, value) in headers {
        for path in ["/api/auth/request-password-reset", "/api/auth/send-verification-email"] {
            let request = Request::post(path, &json!({"email": "ada@example.com"})).header(name, value);
            let answer = request.send(server.address).expect("an answer");
            if answer.status == 400 && name == "Host" {
                continue;
            }
            answer.expect(200);
            let mail = server.mail.take("ada@example.com", WITHIN);
            assert!(
                mail.link().starts_with(&format!("{}/api/auth/", server.base_url)),
                "{name}: {}",
                mail.link()
            );
            assert!(!format!("{mail:?}").contains("evil"), "{mail:?}");
        }
    }
}
on_both_engines!(mailed_links_begin_with_the_configured_address);

/// People write what they like into a name; the mail has one recipient and their text is text.
fn a_hostile_name_stays_text_in_the_mail(engine: Engine) {
    let server = Server::start(engine);
    let name = "A\r\nBcc: victim@example.com\r\n\r\n<a href=\"https://evil.example\">click</a> {{ url }} https://evil.example/x";
    let body = json!({"name": name, "email": "ada@example.com", "password": PASSWORD});
    Browser::new(&server).post("/api/auth/sign-up/email", body).expect(200);
    send_verification(&mut Browser::new(&server), "ada@example.com");
    let mail = server.mail.take("ada@example.com", WITHIN);
    assert_eq!(mail.to, ["ada@example.com"]);
    assert_eq!(mail.header("Bcc"), None);
    assert!(!mail.html().contains("<a href=\"https://evil"), "{}", mail.html());
    assert_eq!(server.mail.count("victim@example.com"), 0);
}
on_both_engines!(a_hostile_name_stays_text_in_the_mail);

fn a_verification_link_proves_the_address_and_may_be_opened_again(engine: Engine) {
    let server = Server::with(engine, "[email_password]\nrequire_verification = true\n");
    let mut ada = Browser::new(&server);
    let body =
        json!({"name": "Ada", "email": "ada@example.com", "password": PASSWORD, "callbackURL": "/welcome"});
    let made = ada.post("/api/auth/sign-up/email", body).expect(200);
    assert_eq!((made.json()["token"].clone(), made.all("Set-Cookie").count()), (Value::Null, 0));
    let link = link_to(&server, "ada@example.com");
    ada.try_sign_in("ada@example.com", "not the password").refused(401, "INVALID_EMAIL_OR_PASSWORD");
    ada.try_sign_in("ada@example.com", PASSWORD).refused(403, "EMAIL_NOT_VERIFIED");
    // The refused sign-in mailed a link of its own; within a minute it is good beside the first.
    let second = link_to(&server, "ada@example.com");

    let opened = ada.follow(&link).expect(302);
    assert_eq!((opened.header("Location"), opened.all("Set-Cookie").count()), (Some("/welcome"), 0));
    assert!(is_verified(&server, "ada@example.com"));
    for link in [&link, &second, &link] {
        let again = ada.follow(link).expect(302);
        assert!(!again.header("Location").is_some_and(|target| target.contains("error")), "{again:?}");
        assert_eq!(again.all("Set-Cookie").count(), 0);
    }
    ada.try_sign_in("ada@example.com", PASSWORD).expect(200);
    let refused = ada.post("/api/auth/send-verification-email", json!({"email": "ada@example.com"}));
    refused.refused(400, "EMAIL_ALREADY_VERIFIED");
    let other = ada.post("/api/auth/send-verification-email", json!({"email": "bob@example.com"}));
    other.refused(400, "EMAIL_MISMATCH");
}
on_both_engines!(a_verification_link_proves_the_address_and_may_be_opened_again);

fn a_link_asked_for_again_within_a_minute_is_the_same(engine: Engine) {
    let server = Server::start(engine);
    signed_up(&server, "ada@example.com");
    let mut anybody = Browser::new(&server);
    let mut next = || {
        send_verification(&mut anybody, "ada@example.com");
        link_to(&server, "ada@example.com")
    };
    let (first, second) = (next(), next());
    assert_eq!(first, second);
    server.database.shift("one_time_values", "created_at", -61_000, "used_at IS NULL");
    let third = next();
    assert_ne!(first, third);
    // The older of two mails works as well.
    Browser::new(&server).follow(&first).expect(302);
    assert!(is_verified(&server, "ada@example.com"));
}
on_both_engines!(a_link_asked_for_again_within_a_minute_is_the_same);

fn an_expired_link_says_so(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = signed_up(&server, "ada@example.com");
    send_verification(&mut ada, "ada@example.com");
    let link = link_to(&server, "ada@example.com");
    server.database.shift("one_time_values", "expires_at", -HOUR, "used_at IS NULL");
    let late = ada.follow(&link).expect(302);
    assert_eq!(late.header("Location"), Some("/?error=TOKEN_EXPIRED"));
    let bare = link.split("&callbackURL").next().expect("a link").to_owned();
    ada.follow(&bare).refused(401, "TOKEN_EXPIRED");
    assert!(!is_verified(&server, "ada@example.com"));
}
on_both_engines!(an_expired_link_says_so);

fn following_the_link_signs_in_where_configured_but_no_banned_user(engine: Engine) {
    let server = Server::with(
        engine,
        "[email_password]\nrequire_verification = true\nauto_sign_in_after_verification = true\n",
    );
    let sign_up = |email: &str| {
        let body = json!({"name": "N", "email": email, "password": PASSWORD});
        Browser::new(&server).post("/api/auth/sign-up/email", body).expect(200);
        link_to(&server, email)
    };
    let (adas, bobs) = (sign_up("ada@example.com"), sign_up("bob@example.com"));
    let mut browser = Browser::new(&server);
    browser.follow(&adas).expect(302);
    assert_eq!(browser.session()["user"]["email"], "ada@example.com");
    // Opened again it proves nothing new and opens no session.
    let mut other = Browser::new(&server);
    other.follow(&adas).expect(302);
    assert_eq!(other.session(), Value::Null);

    server.command(&["user", "ban", "bob@example.com"]).expect_done();
    let mut bob = Browser::new(&server);
    bob.follow(&bobs).expect(302);
    assert_eq!(bob.session(), Value::Null, "a banned user came in through the mailbox");
    assert!(is_verified(&server, "bob@example.com"));
}
on_both_engines!(following_the_link_signs_in_where_configured_but_no_banned_user);

fn a_link_followed_by_many_at_once_proves_once(engine: Engine) {
    let server = Server::with(engine, "[email_password]\nauto_sign_in_after_verification = true\n");
    signed_up(&server, "ada@example.com").sign_out();
    send_verification(&mut Browser::new(&server), "ada@example.com");
    let link = link_to(&server, "ada@example.com");
    let answers = in_parallel(20, |_| Browser::new(&server).follow(&link).expect(302));
    let sessions = answers
        .iter()
        .filter(|answer| answer.all("Set-Cookie").any(|line| line.contains("session_token=")))
        .count();
    assert_eq!(sessions, 1);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM sessions"), 1);
}
on_both_engines!(a_link_followed_by_many_at_once_proves_once);

const CHANGING: &str = "[accounts]\nchange_email = true\n";

fn change(browser: &mut Browser, to: &str) {
    browser.post("/api/auth/change-email", json!({"newEmail": to, "callbackURL": "/done"})).expect(200);
}

fn a_proven_address_moves_with_the_consent_of_both_mailboxes(engine: Engine) {
    let server = Server::with(engine, CHANGING);
    let mut ada = signed_up(&server, "old@example.com");
    set_verified(&server);
    change(&mut ada, "New@Example.com");
    let consent = server.mail.take("old@example.com", WITHIN);
    assert!(consent.text().contains("new@example.com"), "{}", consent.text());
    assert_eq!(server.mail.count("new@example.com"), 0);

    let first = ada.follow(&consent.link()).expect(302);
    assert_eq!(first.header("Location"), Some("/done"));
    assert_eq!(ada.session()["user"]["email"], "old@example.com", "the new mailbox has not spoken yet");
    let proof = link_to(&server, "new@example.com");
    assert_eq!(ada.follow(&proof).expect(302).header("Location"), Some("/done"));
    assert_eq!(ada.session()["user"]["email"], "new@example.com");

    for link in [consent.link(), proof] {
        let again = ada.follow(&link).expect(302);
        assert_eq!(again.header("Location"), Some("/done?error=INVALID_TOKEN"));
    }
    Browser::new(&server).try_sign_in("old@example.com", PASSWORD).expect(401);
    Browser::new(&server).try_sign_in("new@example.com", PASSWORD).expect(200);
}
on_both_engines!(a_proven_address_moves_with_the_consent_of_both_mailboxes);

fn an_unproven_address_moves_when_the_new_one_is_proven(engine: Engine) {
    let server = Server::with(engine, CHANGING);
    let mut ada = signed_up(&server, "old@example.com");
    change(&mut ada, "new@example.com");
    let link = link_to(&server, "new@example.com");
    assert_eq!(server.mail.count("old@example.com"), 0);
    // Signed out it works, too, and opens no session.
    let mut phone = Browser::new(&server);
    phone.follow(&link).expect(302);
    assert_eq!(phone.session(), Value::Null);
    assert_eq!(ada.session()["user"]["email"], "new@example.com");
}
on_both_engines!(an_unproven_address_moves_when_the_new_one_is_proven);

fn a_change_refuses_what_is_no_change(engine: Engine) {
    let server = Server::with(engine, CHANGING);
    let mut ada = signed_up(&server, "ada@example.com");
    signed_up(&server, "bob@example.com");
    let mut ask = |to: Value| ada.post("/api/auth/change-email", json!({"newEmail": to}));
    assert_eq!(ask("ADA@example.com".into()).expect(400).json()["message"], "Email is the same");
    for wrong in [
        json!("ada"),
        json!("a@b"),
        json!(null),
        json!(1),
        json!("a@example.com\u{0}"),
        json!("a@example.com,b@example.com"),
    ] {
        ask(wrong).refused(400, "VALIDATION_ERROR");
    }
    // A taken address is answered like a free one, and nobody gets a mail.
    let free = ask("free@example.com".into()).expect(200);
    link_to(&server, "free@example.com");
    let taken = ask("Bob@Example.com".into()).expect(200);
    assert_eq!(taken.body, free.body);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM mails WHERE recipient LIKE '%bob%'"), 0);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM mails WHERE recipient <> ''"), 1);

    let off = Server::start(engine);
    let mut bob = signed_up(&off, "bob@example.com");
    bob.post("/api/auth/change-email", json!({"newEmail": "x@example.com"}))
        .refused(400, "CHANGE_EMAIL_DISABLED");
}
on_both_engines!(a_change_refuses_what_is_no_change);

fn a_change_link_in_another_users_browser_does_nothing(engine: Engine) {
    let server = Server::with(engine, CHANGING);
    let mut ada = signed_up(&server, "ada@example.com");
    let mut bob = signed_up(&server, "bob@example.com");
    change(&mut ada, "new@example.com");
    let link = link_to(&server, "new@example.com");
    let wrong = bob.follow(&link).expect(302);
    assert_eq!(wrong.header("Location"), Some("/done?error=INVALID_USER"));
    assert_eq!(bob.session()["user"]["email"], "bob@example.com");
    assert_eq!(ada.session()["user"]["email"], "ada@example.com");
    ada.follow(&link).expect(302);
    assert_eq!(ada.session()["user"]["email"], "new@example.com");
}
on_both_engines!(a_change_link_in_another_users_browser_does_nothing);

/// The address was free when the link was asked for, and is not when the link is followed.
fn a_change_to_an_address_taken_meanwhile_is_refused(engine: Engine) {
    let server = Server::with(engine, CHANGING);
    let mut ada = signed_up(&server, "ada@example.com");
    change(&mut ada, "wanted@example.com");
    let link = link_to(&server, "wanted@example.com");
    signed_up(&server, "wanted@example.com");
    let late = ada.follow(&link).expect(302);
    assert_eq!(late.header("Location"), Some("/done?error=INVALID_TOKEN"));
    assert_eq!(ada.session()["user"]["email"], "ada@example.com");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM users WHERE email = 'wanted@example.com'"), 1);
}
on_both_engines!(a_change_to_an_address_taken_meanwhile_is_refused);

/// Several accounts that want one address, all at once and beside a sign-up for it: one gets it, nobody an error of ours.
fn one_address_is_won_by_one_account(engine: Engine) {
    let server = Server::with(engine, CHANGING);
    for round in 0..4 {
        let wanted = format!("wanted{round}@example.com");
        let mut people: Vec<(Browser, String)> = Vec::new();
        for number in 0..6 {
            let mut person = signed_up(&server, &format!("u{round}{number}@example.com"));
            change(&mut person, &wanted);
            people.push((person, link_to(&server, &wanted)));
        }
        let answers = in_parallel(7, |number| match people.get(number) {
            Some((person, link)) => person.clone().follow(link),
            None => {
                let body = json!({"name": "N", "email": wanted, "password": PASSWORD});
                Browser::new(&server).post("/api/auth/sign-up/email", body)
            }
        });
        for answer in &answers {
            assert!(answer.status < 500, "{} {}", answer.status, answer.text());
        }
        let owners = format!("SELECT COUNT(*) FROM users WHERE email = '{wanted}'");
        assert_eq!(server.database.integer(&owners), 1);
        let won = answers
            .iter()
            .filter(|answer| answer.status == 200 || answer.header("Location") == Some("/done"));
        assert_eq!(won.count(), 1);
    }
}
on_both_engines!(one_address_is_won_by_one_account);

/// Whoever held a stolen session may have asked to move the account to a mailbox of their own.
fn a_replaced_password_ends_changes_of_address_under_way(engine: Engine) {
    let server = Server::with(engine, CHANGING);
    let mut thief = signed_up(&server, "ada@example.com");
    change(&mut thief, "thief@example.com");
    let link = link_to(&server, "thief@example.com");
    let mut anybody = Browser::new(&server);
    anybody.post("/api/auth/request-password-reset", json!({"email": "ada@example.com"})).expect(200);
    let reset = link_to(&server, "ada@example.com");
    let token =
        reset.split("/reset-password/").nth(1).and_then(|rest| rest.split('?').next()).expect("a token");
    let new = "a password that nobody stole";
    anybody.post("/api/auth/reset-password", json!({"newPassword": new, "token": token})).expect(200);
    assert_eq!(anybody.follow(&link).expect(302).header("Location"), Some("/done?error=INVALID_TOKEN"));

    let mut ada = Browser::new(&server);
    ada.try_sign_in("ada@example.com", new).expect(200);
    change(&mut ada, "thief@example.com");
    let link = link_to(&server, "thief@example.com");
    ada.post("/api/auth/change-password", json!({"currentPassword": new, "newPassword": PASSWORD}))
        .expect(200);
    assert_eq!(anybody.follow(&link).expect(302).header("Location"), Some("/done?error=INVALID_TOKEN"));
    assert_eq!(ada.session()["user"]["email"], "ada@example.com");
}
on_both_engines!(a_replaced_password_ends_changes_of_address_under_way);

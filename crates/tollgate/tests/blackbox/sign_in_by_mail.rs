//! Signing in by a mailed link or code: each works once, few guesses end a code, and whoever reads a mailbox owns its
//! account.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::credits::{Backend, number, text};
use crate::harness::database::quoted;
use crate::harness::{
    Browser, Engine, PASSWORD, Request, Response, Server, at_full_length, in_parallel, path_of,
};
use crate::on_both_engines;

const WITHIN: Duration = Duration::from_secs(20);
const NEW: &str = "a new and longer password";
const MINUTE: i64 = 60_000;

const ON: &str = "[methods]\nmagic_link = true\nmagic_link_confirm = false\nemail_code = true\n";
const CONFIRMED: &str = "[methods]\nmagic_link = true\n";

#[track_caller]
fn link(server: &Server, email: &str, more: Value) -> String {
    let body = crate::harness::credits::merged(json!({ "email": email }), more);
    let asked = Browser::new(server).post("/api/auth/sign-in/magic-link", body).expect(200);
    assert_eq!(asked.json(), json!({"status": true}));
    server.mail.take(email, WITHIN).link()
}

#[track_caller]
fn ask(server: &Server, email: &str, kind: &str) {
    let body = json!({"email": email, "type": kind});
    let asked = Browser::new(server).post("/api/auth/email-otp/send-verification-otp", body).expect(200);
    assert_eq!(asked.json(), json!({"success": true}));
}

#[track_caller]
fn mailed_code(server: &Server, email: &str) -> String {
    let codes = server.mail.take(email, WITHIN).codes();
    assert_eq!(codes.len(), 1, "{codes:?}");
    codes[0].clone()
}

#[track_caller]
fn code(server: &Server, email: &str, kind: &str) -> String {
    ask(server, email, kind);
    mailed_code(server, email)
}

fn with_code(browser: &mut Browser, email: &str, code: &str) -> Response {
    browser.post("/api/auth/sign-in/email-otp", json!({"email": email, "otp": code}))
}

fn wrong(code: &str) -> &'static str {
    if code == "000000" { "111111" } else { "000000" }
}

fn count(server: &Server, table: &str) -> i64 {
    server.database.integer(&format!("SELECT COUNT(*) FROM {table}"))
}

/// O-34.
fn of_fifty_who_open_a_link_one_comes_in(engine: Engine) {
    let server = Server::with(engine, ON);
    for round in 0..if at_full_length() { 30 } else { 2 } {
        let email = format!("ada{round}@example.com");
        let link = link(&server, &email, json!({"callbackURL": "/in"}));
        let answers = in_parallel(50, |_| {
            let mut browser = Browser::new(&server);
            (browser.follow(&link).expect(302), browser.session())
        });
        let winners: Vec<_> = answers.iter().filter(|(_, session)| !session.is_null()).collect();
        assert_eq!(winners.len(), 1, "round {round}");
        for (answer, session) in &answers {
            let target = answer.header("Location").expect("a redirect");
            let expected = if session.is_null() { "/in?error=INVALID_TOKEN" } else { "/in" };
            assert!(target.ends_with(expected), "{target}");
        }
        let ended = format!(
            "DELETE FROM sessions WHERE user_id IN (SELECT id FROM users WHERE email = {})",
            quoted(&email)
        );
        assert_eq!(server.database.execute(&ended), 1);
    }
}
on_both_engines!(of_fifty_who_open_a_link_one_comes_in);

fn two_links_to_a_new_address_make_one_user(engine: Engine) {
    let server = Server::with(engine, ON);
    let links = [link(&server, "ada@example.com", json!({})), link(&server, "ada@example.com", json!({}))];
    in_parallel(20, |number| Browser::new(&server).follow(&links[number % 2]).expect(302));
    assert_eq!(count(&server, "users"), 1);
    let sessions = count(&server, "sessions");
    assert!((1..=2).contains(&sessions), "{sessions}");
}
on_both_engines!(two_links_to_a_new_address_make_one_user);

fn a_link_that_is_late_opens_nothing(engine: Engine) {
    let server = Server::with(engine, ON);
    let link = link(&server, "ada@example.com", json!({"errorCallbackURL": "/oops"}));
    server.database.shift("one_time_values", "expires_at", -5 * MINUTE, "purpose = 'magic-link'");
    let mut browser = Browser::new(&server);
    let answer = browser.follow(&link).expect(302);
    assert!(answer.header("Location").expect("a redirect").ends_with("/oops?error=INVALID_TOKEN"));
    assert_eq!((browser.session(), count(&server, "users")), (Value::Null, 0));
}
on_both_engines!(a_link_that_is_late_opens_nothing);

/// Programs that look into mails open every link of them.
fn a_mailed_link_is_used_up_by_a_button_and_by_nobody_elses_page(engine: Engine) {
    let server = Server::with(engine, CONFIRMED);
    let link = link(
        &server,
        "ada@example.com",
        json!({"callbackURL": "/app?x=<b>", "newUserCallbackURL": "/new?error=old"}),
    );
    assert!(path_of(&link).starts_with("/magic-link?token="), "{link}");
    let mut browser = Browser::new(&server);
    for _ in 0..3 {
        let page = browser.follow(&link).expect(200);
        let policy = page.header("Content-Security-Policy").expect("a policy");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(page.text().contains("<button") && !page.text().contains("<b>"), "{}", page.text());
    }
    assert_eq!((browser.session(), count(&server, "users")), (Value::Null, 0));
    let query = url_pairs(&link);
    let form = || {
        let fields: Vec<(&str, &str)> =
            query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Request::form("/magic-link", &fields)
    };
    let mut elsewhere = Browser::new(&server).on_page("https://evil.example");
    elsewhere.send(form()).expect(403);
    elsewhere.set_cookie("any", "cookie");
    elsewhere.send(form()).expect(403);
    let answer = browser.send(form()).expect(303);
    assert!(answer.header("Location").expect("a redirect").ends_with("/new?error=old"), "{answer:?}");
    assert_eq!(browser.session()["user"]["email"], "ada@example.com");
    // Used up: this page says so, since no other is there to say it.
    let again = Browser::new(&server).send(form()).expect(400);
    assert!(again.text().contains("does not work any more"), "{}", again.text());
}
on_both_engines!(a_mailed_link_is_used_up_by_a_button_and_by_nobody_elses_page);

fn url_pairs(link: &str) -> Vec<(String, String)> {
    let query = link.split_once('?').expect("a query").1;
    let decode = |text: &str| String::from_utf8(crate::harness::browser::cookie_meaning(text)).expect("text");
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// O-37.
fn a_code_is_dead_after_three_wrong_guesses_also_when_they_race(engine: Engine) {
    let server = Server::with(engine, ON);
    for round in 0..if at_full_length() { 50 } else { 4 } {
        let email = format!("ada{round}@example.com");
        let code = code(&server, &email, "sign-in");
        let answers = in_parallel(20, |_| with_code(&mut Browser::new(&server), &email, wrong(&code)));
        let told = |code: &str| answers.iter().filter(|answer| answer.code() == code).count();
        // Three guesses and the one that is too many; the rest find no code.
        assert_eq!((told("TOO_MANY_ATTEMPTS"), told("INVALID_OTP")), (1, 19), "round {round}");
        with_code(&mut Browser::new(&server), &email, &code).refused(400, "INVALID_OTP");
        assert_eq!(count(&server, "users"), 0);
    }
}
on_both_engines!(a_code_is_dead_after_three_wrong_guesses_also_when_they_race);

/// The same over two nodes.
#[test]
fn guesses_over_two_nodes_are_counted_together() {
    let first = Server::with(Engine::Postgres, ON);
    let second = Server::second_node(&first);
    for round in 0..if at_full_length() { 30 } else { 3 } {
        let email = format!("ada{round}@example.com");
        let code = code(&first, &email, "sign-in");
        let answers = in_parallel(20, |number| {
            let node = if number % 2 == 0 { &first } else { &second };
            with_code(&mut Browser::new(node), &email, wrong(&code))
        });
        assert_eq!(answers.iter().filter(|answer| answer.code() == "TOO_MANY_ATTEMPTS").count(), 1);
        with_code(&mut Browser::new(&second), &email, &code).refused(400, "INVALID_OTP");
    }
}

fn of_fifty_who_have_the_code_one_comes_in(engine: Engine) {
    let server = Server::with(engine, ON);
    for round in 0..if at_full_length() { 30 } else { 2 } {
        let email = format!("ada{round}@example.com");
        let code = code(&server, &email, "sign-in");
        let answers = in_parallel(50, |_| with_code(&mut Browser::new(&server), &email, &code));
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1, "round {round}");
        assert!(answers.iter().all(|answer| answer.status == 200 || answer.code() == "INVALID_OTP"));
    }
}
on_both_engines!(of_fifty_who_have_the_code_one_comes_in);

fn looking_at_a_code_uses_nothing_but_wrong_looks_count(engine: Engine) {
    let server = Server::with(engine, ON);
    Browser::new(&server).sign_up("ada@example.com");
    let code = code(&server, "ada@example.com", "email-verification");
    let look = |code: &str| {
        let body = json!({"email": "ada@example.com", "type": "email-verification", "otp": code});
        Browser::new(&server).post("/api/auth/email-otp/check-verification-otp", body)
    };
    for answer in in_parallel(50, |_| look(&code)) {
        assert_eq!(answer.expect(200).json(), json!({"success": true}));
    }
    for _ in 0..3 {
        look(wrong(&code)).refused(400, "INVALID_OTP");
    }
    look(&code).refused(403, "TOO_MANY_ATTEMPTS");
    look(&code).refused(400, "INVALID_OTP");
}
on_both_engines!(looking_at_a_code_uses_nothing_but_wrong_looks_count);

/// S-7: asking for ever new codes gives no more guesses than passwords have.
fn after_a_hundred_wrong_codes_there_are_no_more_that_day(engine: Engine) {
    let server = Server::with(engine, ON);
    let mut browser = Browser::new(&server);
    let mut guesses = 0;
    while guesses < 100 {
        let code = code(&server, "ada@example.com", "sign-in");
        for _ in 0..4 {
            with_code(&mut browser, "ada@example.com", wrong(&code));
            guesses += 1;
        }
    }
    let before = server.mail.count("ada@example.com");
    ask(&server, "ada@example.com", "sign-in");
    // Mails leave in the order in which they were promised.
    code(&server, "bob@example.com", "sign-in");
    assert_eq!(server.mail.count("ada@example.com"), before);
    server.database.shift("counters", "expires_at", -24 * 60 * MINUTE, "key LIKE 'codes:%'");
    with_code(&mut browser, "ada@example.com", &code(&server, "ada@example.com", "sign-in")).expect(200);
}
on_both_engines!(after_a_hundred_wrong_codes_there_are_no_more_that_day);

fn a_code_is_for_one_address_one_purpose_and_a_short_time(engine: Engine) {
    let server = Server::with(engine, ON);
    for email in ["ada@example.com", "bob@example.com"] {
        Browser::new(&server).sign_up(email);
    }
    let verifies = code(&server, "ada@example.com", "email-verification");
    with_code(&mut Browser::new(&server), "ada@example.com", &verifies).refused(400, "INVALID_OTP");
    let signs_in = code(&server, "ada@example.com", "sign-in");
    with_code(&mut Browser::new(&server), "bob@example.com", &signs_in).refused(400, "INVALID_OTP");
    // A newer one takes its place.
    let mut newer = code(&server, "ada@example.com", "sign-in");
    while newer == signs_in {
        newer = code(&server, "ada@example.com", "sign-in");
    }
    with_code(&mut Browser::new(&server), "ada@example.com", &signs_in).refused(400, "INVALID_OTP");
    server.database.shift("one_time_codes", "expires_at", -5 * MINUTE, "purpose = 'sign-in'");
    with_code(&mut Browser::new(&server), "ada@example.com", &newer).refused(400, "OTP_EXPIRED");
    with_code(&mut Browser::new(&server), "ada@example.com", &newer).refused(400, "INVALID_OTP");
}
on_both_engines!(a_code_is_for_one_address_one_purpose_and_a_short_time);

/// O-36.
fn the_database_holds_no_code_and_no_link(engine: Engine) {
    let server = Server::with(engine, ON);
    let link = link(&server, "ada@example.com", json!({}));
    let token = url_pairs(&link).into_iter().find(|(name, _)| name == "token").expect("a token").1;
    let code = code(&server, "bob@example.com", "sign-in");
    assert!(!server.database.dump().contains(&token));
    let rows = server.database.rows("SELECT code_hash, subject, purpose FROM one_time_codes");
    assert_eq!(rows.len(), 1);
    assert!(!format!("{rows:?}").contains(&code), "{rows:?}");
    assert!(!server.log().contains(&code) && !server.log().contains(&token));
}
on_both_engines!(the_database_holds_no_code_and_no_link);

/// O-45. A stranger has made the account and waits for its owner.
fn whoever_reads_the_mailbox_takes_the_account_from_whoever_made_it(engine: Engine) {
    let server = Server::with(engine, ON);
    for (number, how) in ["link", "code", "reset"].into_iter().enumerate() {
        let email = format!("victim{number}@example.com");
        let mut stranger = Browser::new(&server);
        stranger.sign_up(&email);
        let key = stranger.post("/api/auth/api-key/create", json!({"name": "waits"})).expect(200).json();
        assert!(key["key"].is_string(), "{key}");
        let mut owner = Browser::new(&server);
        match how {
            "link" => {
                owner.follow(&link(&server, &email, json!({}))).expect(302);
            }
            "code" => {
                with_code(&mut owner, &email, &code(&server, &email, "sign-in")).expect(200);
            }
            _ => {
                ask(&server, &email, "forget-password");
                let otp = mailed_code(&server, &email);
                let body = json!({"email": email, "otp": otp, "password": NEW});
                owner.post("/api/auth/email-otp/reset-password", body).expect(200);
                owner.try_sign_in(&email, NEW).expect(200);
            }
        }
        assert_eq!(owner.session()["user"]["emailVerified"], true, "{how}");
        assert_eq!(stranger.session(), Value::Null, "{how}");
        Browser::new(&server).try_sign_in(&email, PASSWORD).refused(401, "INVALID_EMAIL_OR_PASSWORD");
        assert_eq!(count(&server, "api_keys"), 0, "{how}");
    }
    // What the owner of a proven address has set up stays.
    let mut owner = Browser::new(&server);
    owner.try_sign_in("victim2@example.com", NEW).expect(200);
    Browser::new(&server).follow(&link(&server, "victim2@example.com", json!({}))).expect(302);
    assert!(!owner.session().is_null());
    owner.try_sign_in("victim2@example.com", NEW).expect(200);
}
on_both_engines!(whoever_reads_the_mailbox_takes_the_account_from_whoever_made_it);

fn a_ban_holds_for_links_and_codes_and_ends_with_its_time(engine: Engine) {
    let server = Server::with(engine, ON);
    Browser::new(&server).sign_up("ada@example.com");
    let (link_then, code_then) =
        (link(&server, "ada@example.com", json!({})), code(&server, "ada@example.com", "sign-in"));
    server.command(&["user", "ban", "ada@example.com", "--reason", "spam"]).expect_done();
    Browser::new(&server).follow(&link_then).refused(403, "BANNED_USER");
    with_code(&mut Browser::new(&server), "ada@example.com", &code_then).refused(403, "BANNED_USER");
    assert_eq!(count(&server, "sessions"), 0);
    server.database.execute("UPDATE users SET ban_expires = 1");
    let mut browser = Browser::new(&server);
    with_code(&mut browser, "ada@example.com", &code(&server, "ada@example.com", "sign-in")).expect(200);
    assert_eq!(browser.session()["user"]["banned"], false);
}
on_both_engines!(a_ban_holds_for_links_and_codes_and_ends_with_its_time);

fn where_nobody_may_sign_up_no_mail_makes_an_account(engine: Engine) {
    let closed = format!("{ON}[email_password]\nsign_up = false\n");
    let server = Server::with(engine, &closed);
    let mut browser = Browser::new(&server);
    let asked = browser.post("/api/auth/sign-in/magic-link", json!({"email": "new@example.com"})).expect(200);
    assert_eq!(asked.json(), json!({"status": true}));
    ask(&server, "new@example.com", "sign-in");
    // As if there had been a code.
    let tries: Vec<u16> =
        (0..5).map(|_| with_code(&mut browser, "new@example.com", "000000").status).collect();
    assert_eq!(tries, [400, 400, 400, 403, 400]);
    assert_eq!((server.mail.count("new@example.com"), count(&server, "users")), (0, 0));
}
on_both_engines!(where_nobody_may_sign_up_no_mail_makes_an_account);

fn tries_do_not_tell_who_has_an_account(engine: Engine) {
    let server = Server::with(engine, ON);
    Browser::new(&server).sign_up("ada@example.com");
    let tries = |email: &str, kind: &str, path: &str| {
        ask(&server, email, kind);
        (0..5)
            .map(|_| {
                let body = json!({"email": email, "otp": "x", "type": kind, "password": NEW});
                let answer = Browser::new(&server).post(&format!("/api/auth/email-otp/{path}"), body);
                (answer.status, answer.text())
            })
            .collect::<Vec<_>>()
    };
    for (kind, path) in [
        ("forget-password", "reset-password"),
        ("email-verification", "verify-email"),
        ("email-verification", "check-verification-otp"),
    ] {
        assert_eq!(tries("ada@example.com", kind, path), tries("nobody@example.com", kind, path), "{path}");
    }
    assert_eq!(server.mail.count("nobody@example.com"), 0);
}
on_both_engines!(tries_do_not_tell_who_has_an_account);

fn of_raced_resets_by_code_one_wins(engine: Engine) {
    let server = Server::with(engine, ON);
    Browser::new(&server).sign_up("ada@example.com");
    for round in 0..if at_full_length() { 30 } else { 2 } {
        ask(&server, "ada@example.com", "forget-password");
        let otp = mailed_code(&server, "ada@example.com");
        let password = |number: usize| format!("{NEW} {round} {number}");
        let answers = in_parallel(20, |number| {
            let body = json!({"email": "ada@example.com", "otp": otp, "password": password(number)});
            Browser::new(&server).post("/api/auth/email-otp/reset-password", body)
        });
        let winners: Vec<usize> = (0..20).filter(|number| answers[*number].status == 200).collect();
        assert_eq!(winners.len(), 1, "round {round}");
        Browser::new(&server).try_sign_in("ada@example.com", &password(winners[0])).expect(200);
    }
}
on_both_engines!(of_raced_resets_by_code_one_wins);

fn a_reset_by_code_ends_sessions_and_lets_the_owner_in_at_once(engine: Engine) {
    let server = Server::with(engine, ON);
    let mut before = Browser::new(&server);
    before.sign_up("ada@example.com");
    let verifies = code(&server, "ada@example.com", "email-verification");
    before
        .post("/api/auth/email-otp/verify-email", json!({"email": "ada@example.com", "otp": verifies}))
        .expect(200);
    for _ in 0..10 {
        Browser::new(&server).try_sign_in("ada@example.com", "a wrong password");
    }
    Browser::new(&server).try_sign_in("ada@example.com", PASSWORD).expect(429);
    Browser::new(&server)
        .post("/api/auth/email-otp/request-password-reset", json!({"email": "ada@example.com"}))
        .expect(200);
    let otp = mailed_code(&server, "ada@example.com");
    let reset = |password: &str| {
        let body = json!({"email": "ada@example.com", "otp": otp, "password": password});
        Browser::new(&server).post("/api/auth/email-otp/reset-password", body)
    };
    reset("short").refused(400, "PASSWORD_TOO_SHORT");
    reset(NEW).expect(200);
    assert_eq!(before.session(), Value::Null);
    Browser::new(&server).try_sign_in("ada@example.com", NEW).expect(200);
}
on_both_engines!(a_reset_by_code_ends_sessions_and_lets_the_owner_in_at_once);

fn an_account_moves_by_two_codes_and_not_by_one(engine: Engine) {
    let server = Server::with(engine, &format!("{ON}change_email_by_code = true\n"));
    Browser::new(&server).sign_up("taken@example.com");
    let mut browser = Browser::new(&server);
    with_code(&mut browser, "ada@example.com", &code(&server, "ada@example.com", "sign-in")).expect(200);
    let request =
        |browser: &mut Browser, body: Value| browser.post("/api/auth/email-otp/request-email-change", body);
    let refused = request(&mut browser, json!({"newEmail": "new@example.com"})).expect(400);
    assert_eq!(refused.json()["message"], "OTP is required to verify current email");
    let refused = request(&mut browser, json!({"newEmail": "new@example.com", "otp": "x"}));
    refused.refused(400, "INVALID_OTP");
    let old = code(&server, "ada@example.com", "email-verification");
    request(&mut browser, json!({"newEmail": "taken@example.com", "otp": old})).expect(200);
    assert_eq!(server.mail.count("taken@example.com"), 0, "its owner is not bothered");
    let old = code(&server, "ada@example.com", "email-verification");
    request(&mut browser, json!({"newEmail": "new@example.com", "otp": old})).expect(200);
    let new = mailed_code(&server, "new@example.com");
    let change = |browser: &mut Browser, email: &str, otp: &str| {
        browser.post("/api/auth/email-otp/change-email", json!({"newEmail": email, "otp": otp}))
    };
    // Another user's code, and another address.
    let mut other = Browser::new(&server);
    other.sign_up("other@example.com");
    change(&mut other, "new@example.com", &new).refused(400, "INVALID_OTP");
    change(&mut browser, "else@example.com", &new).refused(400, "INVALID_OTP");
    let answers = in_parallel(20, |_| change(&mut browser.clone(), "new@example.com", &new).status);
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1);
    let user = browser.session()["user"].clone();
    assert_eq!((text(&user["email"]), &user["emailVerified"]), ("new@example.com".to_owned(), &json!(true)));
}
on_both_engines!(an_account_moves_by_two_codes_and_not_by_one);

fn a_key_moves_no_account(engine: Engine) {
    let more = "change_email_by_code = true\napi_keys = true\napi_key_sessions = true\n";
    let server = Server::with(engine, &format!("{ON}{more}[accounts]\nchange_email = true\n"));
    let mut ada = Browser::new(&server);
    ada.sign_up("ada@example.com");
    let key = text(&ada.post("/api/auth/api-key/create", json!({"name": "k"})).expect(200).json()["key"]);
    let mut thief = Browser::new(&server);
    thief.headers.push(("x-api-key".into(), key));
    assert_eq!(thief.session()["user"]["email"], "ada@example.com");
    let body = json!({"newEmail": "thief@example.com", "otp": "123456"});
    for path in ["change-email", "email-otp/request-email-change", "email-otp/change-email"] {
        thief.post(&format!("/api/auth/{path}"), body.clone()).refused(401, "UNAUTHORIZED");
    }
    assert_eq!(server.mail.count("thief@example.com"), 0);
}
on_both_engines!(a_key_moves_no_account);

fn the_welcome_waits_for_the_proof_and_comes_once(engine: Engine) {
    let settings =
        format!("{ON}[email_password]\nrequire_verification = true\n[credits]\nsignup_grant = 100\n");
    let server = Server::with(engine, &settings);
    let mut backend = Backend::of(&server);
    for (number, how) in ["verify", "code", "link", "new"].into_iter().enumerate() {
        let email = format!("ada{number}@example.com");
        let mut browser = Browser::new(&server);
        if how != "new" {
            browser.sign_up(&email);
            server.mail.take(&email, WITHIN);
        }
        match how {
            "verify" => {
                let otp = code(&server, &email, "email-verification");
                browser
                    .post("/api/auth/email-otp/verify-email", json!({"email": email, "otp": otp}))
                    .expect(200);
            }
            "link" => {
                browser.follow(&link(&server, &email, json!({}))).expect(302);
            }
            _ => {
                with_code(&mut browser, &email, &code(&server, &email, "sign-in")).expect(200);
            }
        }
        with_code(&mut browser, &email, &code(&server, &email, "sign-in")).expect(200);
        let id = text(&browser.session()["user"]["id"]);
        assert_eq!(number_of(&mut backend, &id), 100, "{how}");
    }
}
on_both_engines!(the_welcome_waits_for_the_proof_and_comes_once);

fn number_of(backend: &mut Backend, user: &str) -> i64 {
    number(&backend.balance(user)["balance"])
}

fn links_and_codes_have_rates_of_their_own(engine: Engine) {
    let server = Server::with(engine, &format!("{ON}[rate_limit]\nenabled = true\n"));
    let mut browser = Browser::new(&server);
    let mut statuses = |path: &str, body: Value| -> Vec<u16> {
        (0..6).map(|_| browser.post(&format!("/api/auth{path}"), body.clone()).status).collect()
    };
    let link = statuses("/sign-in/magic-link", json!({"email": "ada@example.com"}));
    assert_eq!(link, [200, 200, 200, 200, 200, 429]);
    let code = statuses("/sign-in/email-otp", json!({"email": "ada@example.com", "otp": "000000"}));
    assert_eq!(code, [400, 400, 400, 429, 429, 429]);
    let check = json!({"email": "ada@example.com", "otp": "000000", "type": "sign-in"});
    assert_eq!(statuses("/email-otp/check-verification-otp", check), [400, 400, 400, 429, 429, 429]);
}
on_both_engines!(links_and_codes_have_rates_of_their_own);

fn what_is_switched_off_is_not_there(engine: Engine) {
    let server = Server::start(engine);
    let mut browser = Browser::new(&server);
    browser.sign_up("ada@example.com");
    for path in [
        "/api/auth/sign-in/username",
        "/api/auth/is-username-available",
        "/api/auth/sign-in/magic-link",
        "/api/auth/email-otp/send-verification-otp",
        "/api/auth/email-otp/check-verification-otp",
        "/api/auth/email-otp/verify-email",
        "/api/auth/sign-in/email-otp",
        "/api/auth/email-otp/request-password-reset",
        "/api/auth/forget-password/email-otp",
        "/api/auth/email-otp/reset-password",
        "/api/auth/email-otp/request-email-change",
        "/api/auth/email-otp/change-email",
        "/api/auth/sign-in/anonymous",
        "/api/auth/delete-anonymous-user",
        "/api/auth/one-time-token/verify",
    ] {
        let answer = browser.post(path, json!({"email": "ada@example.com"})).expect(404);
        assert_eq!(answer.text(), "", "{path}");
    }
    for path in [
        "/api/auth/magic-link/verify?token=x",
        "/api/auth/one-time-token/generate",
        "/api/auth/token",
        "/api/auth/jwks",
        "/magic-link?token=x",
    ] {
        browser.get(path).expect(404);
    }
    let checked = browser.get("/api/auth/get-session").expect(200);
    assert_eq!(checked.header("set-auth-jwt"), None);
}
on_both_engines!(what_is_switched_off_is_not_there);

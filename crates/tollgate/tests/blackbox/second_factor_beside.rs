//! What stands beside the app: mailed codes, devices that are trusted, what ends a sign-in that waits, the operator, the page.

use std::time::Duration;

use serde_json::json;

use crate::harness::second_factor::{Person, answer, ask, is_signed_in, set_up, statuses, waiting, wrong};
use crate::harness::{Browser, Engine, PASSWORD, Request, Response, Server, in_parallel};
use crate::on_both_engines;

const WITHIN: Duration = Duration::from_secs(20);
const ADA: &str = "ada@example.com";
const MINUTE: i64 = 60_000;

// ---- Mailed codes ----

fn mailed(server: &Server, email: &str) -> String {
    let mail = server.mail.take(email, WITHIN);
    mail.codes().first().unwrap_or_else(|| panic!("no code in {:?}", mail.text())).clone()
}

fn other_than(code: &str) -> &'static str {
    if code == "000000" { "111111" } else { "000000" }
}

fn a_mailed_code_belongs_to_its_sign_in_and_works_once(engine: Engine) {
    let server = Server::start(engine);
    let mut owner = Browser::new(&server);
    owner.sign_up(ADA);
    let old = owner.session()["session"]["token"].clone();
    ask(&mut owner, "enable", json!({"password": PASSWORD, "method": "otp"})).expect(200);
    let session = owner.session();
    assert_eq!(session["user"]["twoFactorEnabled"], true);
    assert_ne!(session["session"]["token"], old);
    let mut browser = Browser::new(&server);
    let found = browser.try_sign_in(ADA, PASSWORD).expect(200).json();
    assert_eq!(found["twoFactorMethods"], json!(["otp"]));
    answer(&mut browser, "123456").refused(400, "TOTP_NOT_ENABLED");
    ask(&mut browser, "send-otp", json!({})).expect(200);
    let first = mailed(&server, ADA);
    ask(&mut browser, "send-otp", json!({"trustDevice": true})).expect(200);
    let code = mailed(&server, ADA);
    let with = |browser: &mut Browser, code: &str| ask(browser, "verify-otp", json!({"code": code}));
    if first != code {
        with(&mut browser, &first).refused(401, "INVALID_CODE");
    }
    let mut elsewhere = waiting(&server, ADA);
    with(&mut elsewhere, &code).refused(400, "OTP_HAS_EXPIRED");
    let answers = in_parallel(50, |_| with(&mut browser.clone(), &code));
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1, "{:?}", statuses(&answers));
}
on_both_engines!(a_mailed_code_belongs_to_its_sign_in_and_works_once);

fn a_mailed_code_has_five_tries_and_three_minutes(engine: Engine) {
    let server = Server::start(engine);
    set_up(&server, ADA);
    let mut browser = waiting(&server, ADA);
    let with = |browser: &mut Browser, code: &str| ask(browser, "verify-otp", json!({"code": code}));
    ask(&mut browser, "send-otp", json!({})).expect(200);
    let code = mailed(&server, ADA);
    for _ in 0..5 {
        with(&mut browser, other_than(&code)).refused(401, "INVALID_CODE");
    }
    with(&mut browser, &code).refused(400, "TOO_MANY_ATTEMPTS_REQUEST_NEW_CODE");
    with(&mut browser, &code).refused(400, "OTP_HAS_EXPIRED");
    ask(&mut browser, "send-otp", json!({})).expect(200);
    let code = mailed(&server, ADA);
    server.database.shift("one_time_codes", "expires_at", -3 * MINUTE, "purpose = 'second-factor'");
    with(&mut browser, &code).refused(400, "OTP_HAS_EXPIRED");
    ask(&mut browser, "send-otp", json!({})).expect(200);
    with(&mut browser, &mailed(&server, ADA)).expect(200);
    is_signed_in(&mut browser, ADA);
}
on_both_engines!(a_mailed_code_has_five_tries_and_three_minutes);

fn where_no_mail_is_sent_no_code_can_be_asked_for(engine: Engine) {
    let server = Server::with(engine, "[mail]\nsmtp_url = \"none\"\n");
    let mut person = set_up(&server, ADA);
    let body = json!({"password": PASSWORD, "method": "otp"});
    ask(&mut person.browser, "enable", body).refused(400, "OTP_NOT_CONFIGURED");
    let mut browser = Browser::new(&server);
    let found = browser.try_sign_in(ADA, PASSWORD).expect(200).json();
    assert_eq!(found["twoFactorMethods"], json!(["totp"]));
    ask(&mut browser, "send-otp", json!({})).refused(400, "OTP_NOT_CONFIGURED");
}
on_both_engines!(where_no_mail_is_sent_no_code_can_be_asked_for);

// ---- Trusted devices ----

fn trusted(server: &Server, person: &Person) -> Browser {
    let mut browser = waiting(server, ADA);
    let body = json!({"code": person.backup[9], "trustDevice": true});
    ask(&mut browser, "verify-backup-code", body).expect(200);
    browser.sign_out();
    browser
}

fn a_trusted_device_is_not_asked_and_what_it_keeps_changes(engine: Engine) {
    let server = Server::start(engine);
    let person = set_up(&server, ADA);
    let mut browser = trusted(&server, &person);
    let kept = |browser: &Browser| browser.cookie("better-auth.trust_device").expect("something").to_owned();
    let mut older = browser.clone();
    let first = kept(&browser);
    browser.sign_in(ADA);
    is_signed_in(&mut browser, ADA);
    assert_ne!(kept(&browser), first);
    // What was used before opens nothing, and is forgotten.
    assert_eq!(older.try_sign_in(ADA, PASSWORD).expect(200).json()["twoFactorRedirect"], true);
    assert!(older.cookie("better-auth.trust_device").is_none());
    browser.sign_out();
    browser.sign_in(ADA);
    // Thirty days after the last use it is over.
    browser.sign_out();
    server.database.shift(
        "one_time_values",
        "expires_at",
        -30 * 24 * 60 * MINUTE,
        "purpose = 'trusted-device'",
    );
    assert_eq!(browser.try_sign_in(ADA, PASSWORD).expect(200).json()["twoFactorRedirect"], true);
}
on_both_engines!(a_trusted_device_is_not_asked_and_what_it_keeps_changes);

fn a_device_is_trusted_by_one_user_and_with_the_right_password(engine: Engine) {
    let server = Server::start(engine);
    let person = set_up(&server, ADA);
    set_up(&server, "bob@example.com");
    let browser = trusted(&server, &person);
    let mut bobs = browser.clone();
    assert_eq!(bobs.try_sign_in("bob@example.com", PASSWORD).expect(200).json()["twoFactorRedirect"], true);
    browser.clone().try_sign_in(ADA, "not this one").expect(401);
    browser.clone().sign_in(ADA);
}
on_both_engines!(a_device_is_trusted_by_one_user_and_with_the_right_password);

fn of_many_sign_ins_with_one_trusted_device_one_passes(engine: Engine) {
    let server = Server::start(engine);
    let person = set_up(&server, ADA);
    let browser = trusted(&server, &person);
    let answers = in_parallel(8, |_| browser.clone().try_sign_in(ADA, PASSWORD));
    let passed = answers.iter().filter(|answer| answer.status == 200 && answer.json()["token"].is_string());
    assert_eq!(passed.count(), 1, "{:?}", answers.iter().map(Response::text).collect::<Vec<_>>());
}
on_both_engines!(of_many_sign_ins_with_one_trusted_device_one_passes);

// ---- What ends a sign-in that waits ----

fn a_challenge_dies_with_the_ban_the_password_and_its_time(engine: Engine) {
    let server = Server::start(engine);
    let mut person = set_up(&server, ADA);
    let mut late = waiting(&server, ADA);
    server.database.shift("one_time_values", "expires_at", -10 * MINUTE, "purpose = 'second-factor'");
    answer(&mut late, &person.app.code()).refused(401, "INVALID_TWO_FACTOR_COOKIE");
    let mut old = waiting(&server, ADA);
    let body = json!({"currentPassword": PASSWORD, "newPassword": "another horse battery"});
    person.browser.post("/api/auth/change-password", body).expect(200);
    answer(&mut old, &person.app.code()).refused(401, "INVALID_TWO_FACTOR_COOKIE");
    let mut browser = Browser::new(&server);
    browser.try_sign_in(ADA, "another horse battery").expect(200);
    server.command(&["user", "ban", ADA]).expect_done();
    answer(&mut browser, &person.app.code()).refused(403, "BANNED_USER");
    ask(&mut browser, "verify-backup-code", json!({"code": person.backup[0]})).refused(403, "BANNED_USER");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM sessions"), 0);
}
on_both_engines!(a_challenge_dies_with_the_ban_the_password_and_its_time);

fn a_reset_password_does_not_switch_it_off(engine: Engine) {
    let server = Server::start(engine);
    set_up(&server, ADA);
    Browser::new(&server).post("/api/auth/request-password-reset", json!({"email": ADA})).expect(200);
    let link = server.mail.take(ADA, WITHIN).link();
    let token =
        link.split("/reset-password/").nth(1).and_then(|rest| rest.split('?').next()).expect("a token");
    let body = json!({"newPassword": "another horse battery", "token": token});
    Browser::new(&server).post("/api/auth/reset-password", body).expect(200);
    let mut browser = Browser::new(&server);
    let found = browser.try_sign_in(ADA, "another horse battery").expect(200).json();
    assert_eq!(found["twoFactorRedirect"], true, "who reads the mail has one factor");
}
on_both_engines!(a_reset_password_does_not_switch_it_off);

// ---- The operator, and what lies around ----

fn an_operator_takes_a_lost_one_away(engine: Engine) {
    let server = Server::start(engine);
    let person = set_up(&server, ADA);
    let mut locked = waiting(&server, ADA);
    for _ in 0..5 {
        answer(&mut locked, &wrong(&person.app)).refused(401, "INVALID_CODE");
    }
    let shown = server.command(&["user", "show", ADA, "--json"]).expect_done().json();
    assert_eq!(shown["second_factor"], true, "{shown}");
    let done = server.command(&["user", "reset-second-factor", ADA, "--json"]).expect_done().json();
    assert_eq!((&done["email"], &done["second_factor"]), (&json!(ADA), &json!(false)));
    let mut browser = Browser::new(&server);
    browser.sign_in(ADA);
    assert_eq!(browser.session()["user"]["twoFactorEnabled"], false);
    answer(&mut locked, &person.app.code()).refused(401, "INVALID_TWO_FACTOR_COOKIE");
    let again = server.command(&["user", "reset-second-factor", ADA]);
    assert!(again.expect_done().stdout.contains("nothing has changed for sign-ins"));
    assert_eq!(server.command(&["user", "reset-second-factor", "nobody@example.com"]).code, Some(1));
}
on_both_engines!(an_operator_takes_a_lost_one_away);

fn what_answers_lies_nowhere_in_clear(engine: Engine) {
    let server = Server::start(engine);
    let mut person = set_up(&server, ADA);
    let mut browser = waiting(&server, ADA);
    ask(&mut browser, "send-otp", json!({})).expect(200);
    let code = mailed(&server, ADA);
    let challenge = browser.cookie("better-auth.two_factor").expect("a way back").to_owned();
    ask(&mut browser, "verify-otp", json!({"code": code, "trustDevice": true})).expect(200);
    let device = browser.cookie("better-auth.trust_device").expect("something").to_owned();
    ask(&mut person.browser, "get-totp-uri", json!({"password": PASSWORD})).expect(200);
    let value = |cookie: &str| cookie.split('.').next().expect("a value").to_owned();
    let (dump, log) = (server.database.dump(), server.log());
    let mut secrets = person.backup.clone();
    secrets.extend([person.app.secret().to_owned(), value(&challenge), value(&device)]);
    for secret in secrets {
        assert!(!dump.contains(&secret) && !log.contains(&secret), "{secret}");
    }
    assert!(!dump.split(|c: char| !c.is_ascii_digit()).any(|number| number == code), "the mailed code");
}
on_both_engines!(what_answers_lies_nowhere_in_clear);

// ---- The page ----

fn the_sign_in_page_asks_for_the_second_factor(engine: Engine) {
    let server = Server::start(engine);
    let person = set_up(&server, ADA);
    let form = |browser: &mut Browser, path: &str, fields: &[(&str, &str)]| {
        browser.send(Request::form(path, fields))
    };
    let mut browser = Browser::new(&server);
    let page = form(&mut browser, "/sign-in", &[("email", ADA), ("password", PASSWORD)]).expect(200).text();
    assert!(page.contains("authenticator app") && page.contains("Mail me a code"), "{page}");
    let fields = |code: &'static str| [("methods", "totp otp"), ("by", "totp"), ("code", code)];
    let page = form(&mut browser, "/second-factor", &fields("nonsense")).expect(401).text();
    assert!(page.contains("not the one"), "{page}");
    let send = [("methods", "totp otp"), ("by", "totp"), ("send", "yes")];
    let page = form(&mut browser, "/second-factor", &send).expect(200).text();
    assert!(page.contains("Code from the mail"), "{page}");
    let code = mailed(&server, ADA);
    let right = [("methods", "totp otp"), ("by", "otp"), ("code", code.as_str()), ("trust", "yes")];
    let done = form(&mut browser, "/second-factor", &right).expect(303);
    assert_eq!(done.header("Location"), Some("/billing"));
    is_signed_in(&mut browser, ADA);
    browser.sign_out();
    form(&mut browser, "/sign-in", &[("email", ADA), ("password", PASSWORD)]).expect(303);
    // A backup code is told by its dash; and where nothing waits, one begins again.
    let mut browser = Browser::new(&server);
    let fields = [("methods", "totp"), ("by", "totp"), ("code", person.backup[0].as_str())];
    let page = form(&mut browser, "/second-factor", &fields).expect(401).text();
    assert!(page.contains("Sign in again") && page.contains("Password"), "{page}");
    form(&mut browser, "/sign-in", &[("email", ADA), ("password", PASSWORD)]).expect(200);
    form(&mut browser, "/second-factor", &fields).expect(303);
    is_signed_in(&mut browser, ADA);
}
on_both_engines!(the_sign_in_page_asks_for_the_second_factor);

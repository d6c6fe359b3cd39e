//! A second factor after the right password: none comes in without it, and no code of an app or of the paper works twice.

use serde_json::{Value, json};

use crate::harness::authenticator::App;
use crate::harness::guest::{self, enter};
use crate::harness::second_factor::{Person, answer, ask, is_signed_in, set_up, statuses, waiting, wrong};
use crate::harness::{Browser, Engine, PASSWORD, Response, Server, in_parallel};
use crate::on_both_engines;

const ADA: &str = "ada@example.com";
const MINUTE: i64 = 60_000;

// ---- Nobody comes in with the password alone ----

fn the_right_password_opens_nothing_by_itself(engine: Engine) {
    let server = Server::start(engine);
    let person = set_up(&server, ADA);
    let sessions = || server.database.integer("SELECT COUNT(*) FROM sessions");
    let before = sessions();
    let mut browser = Browser::new(&server);
    let answer = browser.try_sign_in(ADA, PASSWORD).expect(200);
    assert_eq!(answer.json(), json!({"twoFactorRedirect": true, "twoFactorMethods": ["totp", "otp"]}));
    // A client that keeps tokens forgets the one it had: there is no session whose token this could be.
    let mut bearer = Browser::new(&server);
    let token = answer.header("set-auth-token").expect("something in its place");
    bearer.headers.push(("Authorization".into(), format!("Bearer {token}")));
    assert_eq!(bearer.session(), Value::Null);
    assert!(browser.cookie("better-auth.session_token").is_none());
    assert_eq!(sessions(), before);
    assert_eq!(browser.session(), Value::Null);
    browser.get("/api/auth/list-sessions").expect(401);
    // What the browser holds is no session's token.
    let held = browser.cookie("better-auth.two_factor").expect("a way back").to_owned();
    let mut thief = Browser::new(&server);
    thief.set_cookie("better-auth.session_token", &held);
    assert_eq!(thief.session(), Value::Null);
    // Whoever was signed in here before is not the one who proved the password.
    let mut other = Browser::new(&server);
    other.sign_up("bob@example.com");
    other.try_sign_in(ADA, PASSWORD).expect(200);
    assert_eq!(other.session(), Value::Null);
    answer_and_come_in(&mut browser, &person);
    assert!(browser.cookie("better-auth.two_factor").is_none());
}
on_both_engines!(the_right_password_opens_nothing_by_itself);

#[track_caller]
fn answer_and_come_in(browser: &mut Browser, person: &Person) {
    let found = answer(browser, &person.app.code()).expect(200);
    let body = found.json();
    assert_eq!(body["user"]["email"], ADA);
    is_signed_in(browser, ADA);
    assert_eq!(browser.session()["session"]["token"], body["token"]);
}

fn a_username_is_no_way_around(engine: Engine) {
    let server = Server::with(engine, "[methods]\nusername = true\n");
    let mut person = set_up(&server, ADA);
    person.browser.post("/api/auth/update-user", json!({"username": "ada"})).expect(200);
    let mut browser = Browser::new(&server);
    let body = json!({"username": "ada", "password": PASSWORD});
    let found = browser.post("/api/auth/sign-in/username", body).expect(200).json();
    assert_eq!(found["twoFactorRedirect"], true);
    assert_eq!(browser.session(), Value::Null);
    answer_and_come_in(&mut browser, &person);
}
on_both_engines!(a_username_is_no_way_around);

fn a_guest_becomes_a_user_when_the_second_factor_passed(engine: Engine) {
    let server = Server::with(engine, "[guest]\nallowances = { generate = 3 }\n");
    let person = set_up(&server, ADA);
    let mut browser = Browser::new(&server);
    enter(&mut browser);
    browser.try_sign_in(ADA, PASSWORD).expect(200);
    assert_eq!(browser.get("/api/guest").status, 200, "still a guest");
    answer(&mut browser, "nonsense").refused(401, "INVALID_CODE");
    assert_eq!(browser.get("/api/guest").status, 200);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM guests"), 1);
    answer_and_come_in(&mut browser, &person);
    assert!(browser.cookie(guest::COOKIE).is_none());
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM guests"), 0);
}
on_both_engines!(a_guest_becomes_a_user_when_the_second_factor_passed);

fn a_browser_that_is_not_to_be_remembered_is_not(engine: Engine) {
    let server = Server::start(engine);
    let person = set_up(&server, ADA);
    let mut browser = Browser::new(&server);
    let body = json!({"email": ADA, "password": PASSWORD, "rememberMe": false});
    browser.post("/api/auth/sign-in/email", body).expect(200);
    let found = answer(&mut browser, &person.app.code()).expect(200);
    let line = found.all("Set-Cookie").find(|line| line.starts_with("better-auth.session_token="));
    assert!(!line.expect("a session").contains("Max-Age"), "{line:?}");
    let life = "SELECT MIN(expires_at - created_at) FROM sessions";
    assert_eq!(server.database.integer(life), 24 * 60 * MINUTE);
}
on_both_engines!(a_browser_that_is_not_to_be_remembered_is_not);

// ---- Setting it up ----

fn the_first_code_switches_it_on_and_the_session_gets_another_token(engine: Engine) {
    let server = Server::start(engine);
    let mut browser = Browser::new(&server);
    let old = browser.sign_up(ADA)["token"].as_str().expect("signed in").to_owned();
    ask(&mut browser, "enable", json!({"password": "not this one"})).refused(400, "INVALID_PASSWORD");
    ask(&mut browser, "enable", json!({"password": PASSWORD, "method": "sms"}))
        .refused(400, "VALIDATION_ERROR");
    let abandoned = ask(&mut browser, "enable", json!({"password": PASSWORD})).expect(200).json();
    let made =
        ask(&mut browser, "enable", json!({"password": PASSWORD, "issuer": "My App"})).expect(200).json();
    assert_eq!(made["method"], "totp");
    assert!(
        made["totpURI"].as_str().expect("a text").starts_with("otpauth://totp/My%20App:ada%40example.com?")
    );
    let app = App::of(made["totpURI"].as_str().expect("a picture"));
    let older = App::of(abandoned["totpURI"].as_str().expect("a picture"));
    assert_ne!(app.secret(), older.secret());
    answer(&mut browser, &wrong(&app)).refused(401, "INVALID_CODE");
    assert_eq!(browser.session()["user"]["twoFactorEnabled"], false);
    // Until then nobody is asked.
    Browser::new(&server).sign_in(ADA);
    let first = answer(&mut browser, &app.code()).expect(200).json();
    assert_eq!(
        (first["token"].as_str(), &first["user"]["twoFactorEnabled"]),
        (Some(old.as_str()), &json!(false))
    );
    let session = browser.session();
    assert_eq!(session["user"]["twoFactorEnabled"], true);
    assert_ne!(session["session"]["token"], json!(old));
    let mut thief = Browser::new(&server);
    thief.headers.push(("Authorization".into(), format!("Bearer {old}")));
    assert_eq!(thief.session(), Value::Null, "the old token opens nothing");
    ask(&mut browser, "enable", json!({"password": PASSWORD})).refused(400, "TOTP_ALREADY_ENABLED");
    let shown = ask(&mut browser, "get-totp-uri", json!({"password": PASSWORD})).expect(200).json();
    assert_eq!(App::of(shown["totpURI"].as_str().expect("a picture")).secret(), app.secret());
    ask(&mut browser, "get-totp-uri", json!({"password": "not this one"})).refused(400, "INVALID_PASSWORD");
}
on_both_engines!(the_first_code_switches_it_on_and_the_session_gets_another_token);

fn whoever_switches_it_off_leaves_nothing_behind(engine: Engine) {
    let server = Server::start(engine);
    let mut person = set_up(&server, ADA);
    let mut trusted = waiting(&server, ADA);
    ask(&mut trusted, "verify-totp", json!({"code": person.app.code(), "trustDevice": true})).expect(200);
    let mut open = waiting(&server, ADA);
    ask(&mut person.browser, "disable", json!({"password": "not this one"})).refused(400, "INVALID_PASSWORD");
    ask(&mut person.browser, "disable", json!({"password": PASSWORD})).expect(200);
    assert_eq!(person.browser.session()["user"]["twoFactorEnabled"], false);
    answer(&mut open, &person.app.code()).refused(401, "INVALID_TWO_FACTOR_COOKIE");
    Browser::new(&server).sign_in(ADA);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM authenticators"), 0);
    let left = "SELECT COUNT(*) FROM one_time_values WHERE purpose IN ('backup-code', 'trusted-device', 'second-factor')";
    assert_eq!(server.database.integer(left), 0);
    // Set up anew, it is asked for in the browser that was trusted under the old one, too.
    let made = ask(&mut person.browser, "enable", json!({"password": PASSWORD})).expect(200).json();
    let app = App::of(made["totpURI"].as_str().expect("a picture"));
    answer(&mut person.browser, &app.code()).expect(200);
    trusted.sign_out();
    assert_eq!(trusted.try_sign_in(ADA, PASSWORD).expect(200).json()["twoFactorRedirect"], true);
    answer(&mut trusted, &person.app.code()).refused(401, "INVALID_CODE");
}
on_both_engines!(whoever_switches_it_off_leaves_nothing_behind);

fn without_one_there_is_nothing_to_answer(engine: Engine) {
    let server = Server::start(engine);
    let mut browser = Browser::new(&server);
    browser.sign_up(ADA);
    answer(&mut browser, "123456").refused(400, "TOTP_NOT_ENABLED");
    ask(&mut browser, "verify-backup-code", json!({"code": "aaaaa-bbbbb"}))
        .refused(400, "BACKUP_CODES_NOT_ENABLED");
    ask(&mut browser, "verify-otp", json!({"code": "123456"})).refused(400, "OTP_HAS_EXPIRED");
    ask(&mut browser, "generate-backup-codes", json!({"password": PASSWORD}))
        .refused(400, "TWO_FACTOR_NOT_ENABLED");
    ask(&mut browser, "get-totp-uri", json!({"password": PASSWORD})).refused(400, "TOTP_NOT_ENABLED");
    let mut nobody = Browser::new(&server);
    for (path, body) in [
        ("verify-totp", json!({"code": "123456"})),
        ("verify-otp", json!({"code": "123456"})),
        ("verify-backup-code", json!({"code": "aaaaa-bbbbb"})),
        ("send-otp", json!({})),
    ] {
        ask(&mut nobody, path, body).refused(401, "INVALID_TWO_FACTOR_COOKIE");
    }
    for path in ["enable", "disable", "generate-backup-codes", "get-totp-uri"] {
        ask(&mut nobody, path, json!({"password": PASSWORD})).refused(401, "UNAUTHORIZED");
    }
}
on_both_engines!(without_one_there_is_nothing_to_answer);

fn switched_off_there_is_no_such_route_and_nobody_is_asked(engine: Engine) {
    let mut server = Server::start(engine);
    set_up(&server, ADA);
    server.stop();
    server.reconfigure("[methods]\ntwo_factor = false\n");
    server.restart();
    let mut browser = Browser::new(&server);
    browser.sign_in(ADA);
    for path in [
        "enable",
        "disable",
        "get-totp-uri",
        "verify-totp",
        "send-otp",
        "verify-otp",
        "generate-backup-codes",
        "verify-backup-code",
    ] {
        let found = ask(&mut browser, path, json!({"password": PASSWORD, "code": "123456"})).expect(404);
        assert!(found.body.is_empty());
    }
}
on_both_engines!(switched_off_there_is_no_such_route_and_nobody_is_asked);

// ---- Codes of the app ----

fn a_code_works_once_however_many_sign_ins_wait(engine: Engine) {
    let server = Server::start(engine);
    let person = set_up(&server, ADA);
    let browsers: Vec<Browser> = (0..50).map(|_| waiting(&server, ADA)).collect();
    let code = person.app.code();
    let answers = in_parallel(50, |number| answer(&mut browsers[number].clone(), &code));
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1, "{:?}", statuses(&answers));
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert!(
            ["INVALID_CODE", "ACCOUNT_TEMPORARILY_LOCKED"].contains(&refused.code().as_str()),
            "{}",
            refused.text()
        );
    }
}
on_both_engines!(a_code_works_once_however_many_sign_ins_wait);

fn one_challenge_lets_one_in(engine: Engine) {
    let server = Server::start(engine);
    let person = set_up(&server, ADA);
    let browser = waiting(&server, ADA);
    let before = server.database.integer("SELECT COUNT(*) FROM sessions");
    let codes: Vec<String> = (-1..=1).map(|step| person.app.code_in(step)).collect();
    let answers = in_parallel(50, |number| answer(&mut browser.clone(), &codes[number % 3]));
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1, "{:?}", statuses(&answers));
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM sessions"), before + 1);
}
on_both_engines!(one_challenge_lets_one_in);

fn five_answers_end_a_challenge_also_in_a_race(engine: Engine) {
    let server = Server::start(engine);
    let person = set_up(&server, ADA);
    let mut browser = waiting(&server, ADA);
    for _ in 0..5 {
        answer(&mut browser, &wrong(&person.app)).refused(401, "INVALID_CODE");
    }
    let held = browser.clone();
    answer(&mut browser, &person.app.code()).refused(400, "TOO_MANY_ATTEMPTS_REQUEST_NEW_CODE");
    assert!(browser.cookie("better-auth.two_factor").is_none(), "it is of no use any more");
    answer(&mut held.clone(), &person.app.code()).refused(401, "INVALID_TWO_FACTOR_COOKIE");
    server.database.execute("DELETE FROM counters");
    let browser = waiting(&server, ADA);
    let code = wrong(&person.app);
    let answers = in_parallel(50, |_| answer(&mut browser.clone(), &code));
    let judged = answers.iter().filter(|answer| answer.code() == "INVALID_CODE").count();
    assert_eq!(judged, 5, "{:?}", answers.iter().map(Response::code).collect::<Vec<_>>());
}
on_both_engines!(five_answers_end_a_challenge_also_in_a_race);

fn ten_wrong_answers_lock_it_over_all_challenges(engine: Engine) {
    let server = Server::start(engine);
    let (person, bob) = (set_up(&server, ADA), set_up(&server, "bob@example.com"));
    let code = wrong(&person.app);
    // Three ways to answer, one count: five, four and one.
    let mut browser = waiting(&server, ADA);
    for _ in 0..5 {
        answer(&mut browser, &code).refused(401, "INVALID_CODE");
    }
    let mut browser = waiting(&server, ADA);
    for _ in 0..4 {
        ask(&mut browser, "verify-backup-code", json!({"code": "aaaaa-bbbbb"}))
            .refused(401, "INVALID_BACKUP_CODE");
    }
    // No code was mailed: that was no guess.
    ask(&mut browser, "verify-otp", json!({"code": "123456"})).refused(400, "OTP_HAS_EXPIRED");
    ask(&mut browser, "send-otp", json!({})).expect(200);
    ask(&mut browser, "verify-otp", json!({"code": "nope"})).refused(401, "INVALID_CODE");
    let mut browser = waiting(&server, ADA);
    let locked = answer(&mut browser, &person.app.code()).refused(429, "ACCOUNT_TEMPORARILY_LOCKED");
    let seconds: i64 = locked.header("Retry-After").expect("when again").parse().expect("seconds");
    assert!((840..=900).contains(&seconds), "{seconds}");
    for (path, code) in [("verify-backup-code", person.backup[0].as_str()), ("verify-otp", "123456")] {
        ask(&mut browser, path, json!({"code": code})).refused(429, "ACCOUNT_TEMPORARILY_LOCKED");
    }
    // A session is no way around it.
    answer(&mut person.browser.clone(), &person.app.code()).refused(429, "ACCOUNT_TEMPORARILY_LOCKED");
    answer(&mut waiting(&server, "bob@example.com"), &bob.app.code()).expect(200);
    server.database.shift("counters", "last_at", -15 * MINUTE, "key LIKE 'sign-in:15m:%'");
    answer(&mut waiting(&server, ADA), &person.app.code()).expect(200);
}
on_both_engines!(ten_wrong_answers_lock_it_over_all_challenges);

fn guesses_of_fifty_at_once_are_counted_exactly(engine: Engine) {
    let server = Server::start(engine);
    let person = set_up(&server, ADA);
    let browsers: Vec<Browser> = (0..50).map(|_| waiting(&server, ADA)).collect();
    let code = wrong(&person.app);
    let answers = in_parallel(50, |number| answer(&mut browsers[number].clone(), &code));
    let count = |wanted: &str| answers.iter().filter(|answer| answer.code() == wanted).count();
    assert_eq!(
        (count("INVALID_CODE"), count("ACCOUNT_TEMPORARILY_LOCKED")),
        (10, 40),
        "{:?}",
        statuses(&answers)
    );
}
on_both_engines!(guesses_of_fifty_at_once_are_counted_exactly);

// ---- Backup codes ----

fn a_backup_code_works_once_in_a_race_and_is_nobody_elses(engine: Engine) {
    let server = Server::start(engine);
    let person = set_up(&server, ADA);
    set_up(&server, "bob@example.com");
    let code = json!({"code": person.backup[3]});
    ask(&mut waiting(&server, "bob@example.com"), "verify-backup-code", code.clone())
        .refused(401, "INVALID_BACKUP_CODE");
    let browsers: Vec<Browser> = (0..50).map(|_| waiting(&server, ADA)).collect();
    let answers =
        in_parallel(50, |number| ask(&mut browsers[number].clone(), "verify-backup-code", code.clone()));
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1, "{:?}", statuses(&answers));
    server.database.execute("DELETE FROM counters");
    ask(&mut waiting(&server, ADA), "verify-backup-code", code).refused(401, "INVALID_BACKUP_CODE");
    ask(&mut waiting(&server, ADA), "verify-backup-code", json!({"code": person.backup[4]})).expect(200);
}
on_both_engines!(a_backup_code_works_once_in_a_race_and_is_nobody_elses);

fn new_backup_codes_end_the_old_ones(engine: Engine) {
    let server = Server::start(engine);
    let mut person = set_up(&server, ADA);
    let body = json!({"password": "not this one"});
    ask(&mut person.browser, "generate-backup-codes", body).refused(400, "INVALID_PASSWORD");
    let fresh =
        ask(&mut person.browser, "generate-backup-codes", json!({"password": PASSWORD})).expect(200).json();
    let fresh: Vec<&str> =
        fresh["backupCodes"].as_array().expect("codes").iter().filter_map(Value::as_str).collect();
    assert_eq!(fresh.len(), 10);
    assert!(fresh.iter().all(|code| code.len() == 11 && code.as_bytes()[5] == b'-'), "{fresh:?}");
    let mut browser = waiting(&server, ADA);
    let mut with = |code: &str| ask(&mut browser, "verify-backup-code", json!({"code": code}));
    with(&person.backup[0]).refused(401, "INVALID_BACKUP_CODE");
    with(fresh[0]).expect(200);
    assert_eq!(
        with(fresh[1]).expect(200).json()["user"]["email"],
        ADA,
        "signed in, one is used up all the same"
    );
}
on_both_engines!(new_backup_codes_end_the_old_ones);

fn a_backup_code_may_be_shown_without_coming_in(engine: Engine) {
    let server = Server::start(engine);
    let person = set_up(&server, ADA);
    let mut browser = waiting(&server, ADA);
    let body = json!({"code": person.backup[0], "disableSession": true});
    let found = ask(&mut browser, "verify-backup-code", body.clone()).expect(200);
    assert_eq!(found.json()["token"], Value::Null);
    assert_eq!(browser.session(), Value::Null);
    ask(&mut browser, "verify-backup-code", body).refused(401, "INVALID_BACKUP_CODE");
}
on_both_engines!(a_backup_code_may_be_shown_without_coming_in);

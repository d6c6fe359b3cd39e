//! People who have a second factor, and sign-ins that wait for it.

use serde_json::{Value, json};

use super::authenticator::App;
use super::browser::{Browser, PASSWORD};
use super::http::Response;
use super::server::Server;

pub fn ask(browser: &mut Browser, path: &str, body: Value) -> Response {
    browser.post(&format!("/api/auth/two-factor/{path}"), body)
}

pub fn answer(browser: &mut Browser, code: &str) -> Response {
    ask(browser, "verify-totp", json!({"code": code}))
}

/// Somebody who has an authenticator app, ten backup codes, and a session.
pub struct Person {
    pub browser: Browser,
    pub app: App,
    pub backup: Vec<String>,
}

#[track_caller]
pub fn set_up(server: &Server, email: &str) -> Person {
    let mut browser = Browser::new(server);
    browser.sign_up(email);
    let made = ask(&mut browser, "enable", json!({"password": PASSWORD})).expect(200).json();
    let app = App::of(made["totpURI"].as_str().expect("a picture"));
    answer(&mut browser, &app.code()).expect(200);
    let backup = made["backupCodes"].as_array().expect("codes").iter();
    Person { browser, app, backup: backup.map(|code| code.as_str().expect("a code").to_owned()).collect() }
}

/// A browser whose sign-in waits.
#[track_caller]
pub fn waiting(server: &Server, email: &str) -> Browser {
    let mut browser = Browser::new(server);
    let answer = browser.try_sign_in(email, PASSWORD).expect(200).json();
    assert_eq!(answer["twoFactorRedirect"], true, "{answer}");
    browser
}

#[track_caller]
pub fn is_signed_in(browser: &mut Browser, email: &str) {
    assert_eq!(browser.session()["user"]["email"], email);
}

/// What the app does not show.
pub fn wrong(app: &App) -> String {
    let shown: Vec<String> = (-2..=2).map(|step| app.code_in(step)).collect();
    let mut all = (0..1_000_000).map(|number| format!("{number:06}"));
    all.find(|code| !shown.contains(code)).expect("most codes are wrong")
}

pub fn statuses(answers: &[Response]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

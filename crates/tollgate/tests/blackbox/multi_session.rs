//! Several accounts in one browser.

use serde_json::{Value, json};

use crate::harness::{Browser, Engine, PASSWORD, Server};
use crate::on_both_engines;

const COOKIE: &str = "better-auth.session_token";
const LIST: &str = "/api/auth/multi-session/list-device-sessions";

fn emails(browser: &mut Browser) -> Vec<String> {
    let list = browser.get(LIST).expect(200).json();
    let users = list.as_array().expect("a list").iter().map(|entry| entry["user"]["email"].as_str());
    let mut emails: Vec<String> = users.map(|email| email.expect("an address").to_owned()).collect();
    emails.sort();
    emails
}

fn token_of(browser: &mut Browser, email: &str) -> String {
    let list = browser.get(LIST).expect(200).json();
    let found = list.as_array().expect("a list").iter().find(|entry| entry["user"]["email"] == email);
    found.expect("it is held")["session"]["token"].as_str().expect("a token").to_owned()
}

fn multi_cookies(browser: &Browser) -> usize {
    browser.cookie_header("/").matches("_multi-").count()
}

fn one_browser_holds_five_sessions_and_a_sixth_is_active_only(engine: Engine) {
    let server = Server::start(engine);
    let mut browser = Browser::new(&server);
    assert_eq!(browser.get(LIST).expect(200).json(), json!([]));
    for number in 0..6 {
        browser.sign_up(&format!("u{number}@example.com"));
    }
    assert_eq!(multi_cookies(&browser), 5);
    assert_eq!(emails(&mut browser), (0..5).map(|n| format!("u{n}@example.com")).collect::<Vec<_>>());
    assert_eq!(browser.session()["user"]["email"], "u5@example.com");

    // Another one takes over, and the first goes on living.
    let second = token_of(&mut browser, "u1@example.com");
    let active =
        browser.post("/api/auth/multi-session/set-active", json!({"sessionToken": second})).expect(200);
    assert_eq!(active.json()["user"]["email"], "u1@example.com");
    assert_eq!(browser.session()["session"]["token"], second.as_str());
    let unknown = json!({"sessionToken": "x".repeat(32)});
    browser.post("/api/auth/multi-session/set-active", unknown).refused(401, "INVALID_SESSION_TOKEN");

    // The active one ends: one of the others follows; a resting one ends: nothing else changes.
    browser.post("/api/auth/multi-session/revoke", json!({"sessionToken": second})).expect(200);
    let next = browser.session()["user"]["email"].as_str().expect("another one took over").to_owned();
    assert_ne!(next, "u1@example.com");
    let resting = emails(&mut browser).into_iter().find(|email| *email != next).expect("there are others");
    let resting_token = token_of(&mut browser, &resting);
    browser.post("/api/auth/multi-session/revoke", json!({"sessionToken": resting_token})).expect(200);
    assert_eq!(browser.session()["user"]["email"], next.as_str());
    assert_eq!(emails(&mut browser).len(), 3);

    // Signing out ends all of them, at the server too.
    let stolen = browser.clone();
    browser.sign_out();
    assert_eq!(browser.cookie_header("/").replace("better-auth.last_used_login_method=email", ""), "");
    assert_eq!(emails(&mut stolen.clone()), Vec::<String>::new());
    // The sixth, held by no cookie any more, is the only one left.
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM sessions"), 1);
}
on_both_engines!(one_browser_holds_five_sessions_and_a_sixth_is_active_only);

fn signing_in_again_replaces_the_users_older_session_in_this_browser(engine: Engine) {
    let server = Server::start(engine);
    let mut browser = Browser::new(&server);
    browser.sign_up("ada@example.com");
    let mut elsewhere = Browser::new(&server);
    elsewhere.sign_in("ada@example.com");
    let mut older = browser.clone();
    browser.sign_in("ada@example.com");
    assert_eq!(older.session(), Value::Null);
    assert_eq!(multi_cookies(&browser), 1);
    assert_eq!(emails(&mut browser), ["ada@example.com"]);
    assert_ne!(elsewhere.session(), Value::Null, "another browser is none of its business");
}
on_both_engines!(signing_in_again_replaces_the_users_older_session_in_this_browser);

/// A cookie that was planted with a token of somebody else, unsigned or signed for another name, ends nothing.
fn planted_cookies_end_no_session(engine: Engine) {
    let server = Server::start(engine);
    let mut victim = Browser::new(&server);
    victim.sign_up("victim@example.com");
    let token = victim.session()["session"]["token"].as_str().expect("signed in").to_owned();
    let name = format!("{COOKIE}_multi-{}", token.to_ascii_lowercase());
    let mut attacker = Browser::new(&server);
    attacker.sign_up("attacker@example.com");
    let own = attacker.cookie(COOKIE).expect("signed in").to_owned();
    let own_signature = own.split_once('.').expect("signed").1;
    for value in
        [token.clone(), format!("{token}."), format!("{token}.x"), format!("{token}.{own_signature}")]
    {
        let mut planted = attacker.clone();
        planted.set_cookie(&name, &value);
        assert_eq!(emails(&mut planted), ["attacker@example.com"], "{value}");
        let body = json!({"sessionToken": token});
        planted
            .post("/api/auth/multi-session/set-active", body.clone())
            .refused(401, "INVALID_SESSION_TOKEN");
        planted.post("/api/auth/multi-session/revoke", body).refused(401, "INVALID_SESSION_TOKEN");
        let mut bare = Browser::new(&server);
        bare.set_cookie(&name, &value);
        bare.set_cookie("x_multi-y", &value);
        bare.sign_out();
        bare.sign_in("attacker@example.com");
        bare.sign_out();
        assert_eq!(victim.session()["user"]["email"], "victim@example.com", "{value}");
    }
}
on_both_engines!(planted_cookies_end_no_session);

fn without_the_method_there_is_no_trace_of_it(engine: Engine) {
    let server = Server::with(engine, "[methods]\nmulti_session = false\nlast_login_method = false\n");
    let mut browser = Browser::new(&server);
    browser.sign_up("ada@example.com");
    assert_eq!(multi_cookies(&browser), 0);
    assert_eq!(browser.cookie("better-auth.last_used_login_method"), None);
    let token = browser.session()["session"]["token"].clone();
    assert_eq!(browser.get(LIST).expect(404).body, b"");
    for path in ["/api/auth/multi-session/set-active", "/api/auth/multi-session/revoke"] {
        assert_eq!(browser.post(path, json!({"sessionToken": token})).expect(404).body, b"");
    }
    browser.try_sign_in("ada@example.com", PASSWORD).expect(200);
}
on_both_engines!(without_the_method_there_is_no_trace_of_it);

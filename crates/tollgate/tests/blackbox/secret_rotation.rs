//! Replacing a secret: the new one signs, the old ones verify for as long as they are named, and nothing stored is lost.

use serde_json::{Value, json};

use crate::harness::{Browser, Engine, Request, Server};
use crate::on_both_engines;

const COOKIE: &str = "better-auth.session_token";
const OLD: &str = "blackbox-5fQ2vW8rT1yU4iO7pA0sD3gH6jK9lZ";
const NEW: &str = "blackbox-Zl9Kj6Hg3Ds0Ap7Oi4Uy1Tr8Wv2Qf5";

fn restart_with(server: &mut Server, secrets: &[&str]) {
    let (status, _) = server.stop();
    assert!(status.success());
    server.reconfigure(&format!("secrets = {}\n", json!(secrets)));
    server.restart();
}

fn data_key(server: &Server) -> String {
    server
        .database
        .value("SELECT value FROM meta WHERE name = 'data_key'")
        .expect("the deployment has a data key")
}

fn who(server: &Server, cookie: &str) -> Value {
    let request = Request::get("/api/auth/get-session").header("Cookie", &format!("{COOKIE}={cookie}"));
    request.send(server.address).expect("an answer").expect(200).json()["user"]["email"].clone()
}

fn a_secret_is_replaced_without_signing_anybody_out(engine: Engine) {
    let mut server = Server::start(engine);
    let mut ada = Browser::new(&server);
    ada.sign_up("ada@example.com");
    let old_cookie = ada.cookie(COOKIE).expect("signed in").to_owned();
    let wrapped_by_old = data_key(&server);

    restart_with(&mut server, &[NEW, OLD]);
    let wrapped_by_new = data_key(&server);
    assert_ne!(wrapped_by_old, wrapped_by_new, "the first secret wraps the data key");
    assert_eq!(who(&server, &old_cookie), "ada@example.com");
    assert_eq!(
        ada.get("/api/auth/list-sessions").expect(200).json()[0]["token"],
        ada.session()["session"]["token"]
    );
    // A renewed cookie of the same session is signed by the new secret.
    ada.post("/api/auth/update-user", json!({"name": "Ada"})).expect(200);
    let new_cookie = ada.cookie(COOKIE).expect("still signed in").to_owned();
    assert_ne!(new_cookie, old_cookie);
    assert_eq!(new_cookie.split('.').next(), old_cookie.split('.').next(), "the session is the same");

    // Another start with the same order changes nothing.
    restart_with(&mut server, &[NEW, OLD]);
    assert_eq!(data_key(&server), wrapped_by_new);

    restart_with(&mut server, &[NEW]);
    assert_eq!(who(&server, &old_cookie), Value::Null, "a secret that is gone verifies nothing");
    assert_eq!(who(&server, &new_cookie), "ada@example.com");
    let sessions = ada.get("/api/auth/list-sessions").expect(200).json();
    assert_eq!(sessions.as_array().map(Vec::len), Some(1), "sealed tokens open as before");
    let mut again = Browser::new(&server);
    again.sign_in("ada@example.com");
    assert_eq!(again.session()["user"]["name"], "Ada");
}
on_both_engines!(a_secret_is_replaced_without_signing_anybody_out);

/// A link that was mailed before the rotation works after it, and so does one that still waits to be sent.
fn links_outlive_a_rotation(engine: Engine) {
    let within = std::time::Duration::from_secs(60);
    let mut server = Server::start(engine);
    let mut ada = Browser::new(&server);
    ada.sign_up("ada@example.com");
    Browser::new(&server).sign_up("bob@example.com");
    let mut anybody = Browser::new(&server);
    anybody.post("/api/auth/request-password-reset", json!({"email": "ada@example.com"})).expect(200);
    let link = server.mail.take("ada@example.com", within).link();
    server.mail.refuse(true);
    anybody.post("/api/auth/request-password-reset", json!({"email": "bob@example.com"})).expect(200);
    restart_with(&mut server, &[NEW, OLD]);
    restart_with(&mut server, &[NEW]);
    server.mail.refuse(false);
    server.database.execute("UPDATE mails SET due_at = 0, leased_until = 0 WHERE state = 'waiting'");
    let token =
        link.split("/reset-password/").nth(1).and_then(|rest| rest.split('?').next()).expect("a token");
    let body = json!({"newPassword": "a new and longer password", "token": token});
    anybody.post("/api/auth/reset-password", body).expect(200);
    anybody.post("/api/auth/request-password-reset", json!({"email": "ada@example.com"})).expect(200);
    let waiting = server.mail.take("bob@example.com", within).link();
    assert!(waiting.contains("/reset-password/"), "{waiting}");
}
on_both_engines!(links_outlive_a_rotation);

fn a_server_with_a_foreign_secret_does_not_start(engine: Engine) {
    let mut server = Server::start(engine);
    Browser::new(&server).sign_up("ada@example.com");
    let before = data_key(&server);
    server.stop();
    server.reconfigure(&format!("secrets = [\"{NEW}\"]\n"));
    let refused = server.command(&["serve"]);
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("former secret"), "{refused:?}");
    assert!(!refused.stderr.contains(NEW) && !refused.stdout.contains(NEW), "{refused:?}");
    assert_eq!(data_key(&server), before);
    server.reconfigure(&format!("secrets = [\"{OLD}\"]\n"));
    server.restart();
    Browser::new(&server).sign_in("ada@example.com");
}
on_both_engines!(a_server_with_a_foreign_secret_does_not_start);

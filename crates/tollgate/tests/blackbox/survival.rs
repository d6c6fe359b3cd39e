//! What must outlive the process, and what must never be written down.

use serde_json::Value;

use crate::harness::database::quoted;
use crate::harness::{Browser, Engine, PASSWORD, Server};
use crate::on_both_engines;

fn a_session_survives_a_power_cut(engine: Engine) {
    let mut server = Server::start(engine);
    let mut browser = Browser::new(&server);
    browser.sign_up("ada@example.com");
    server.kill();
    server.restart();
    assert_eq!(browser.session()["user"]["email"], "ada@example.com");
}
on_both_engines!(a_session_survives_a_power_cut);

#[test]
fn nodes_on_one_database_share_sessions_and_their_end() {
    let first = Server::start(Engine::Postgres);
    let second = Server::second_node(&first);
    let mut here = Browser::new(&first);
    here.sign_up("ada@example.com");
    let mut there = here.clone();
    there.address = second.address;
    assert_eq!(there.session()["user"]["email"], "ada@example.com");
    here.sign_out();
    assert_eq!(there.session(), Value::Null);
}

fn an_expired_session_is_none(engine: Engine) {
    let server = Server::start(engine);
    let mut browser = Browser::new(&server);
    let user =
        browser.sign_up("ada@example.com")["user"]["id"].as_str().expect("a user has an id").to_owned();
    let eight_days = 8 * 24 * 3600 * 1000;
    let moved =
        server.database.shift("sessions", "expires_at", -eight_days, &format!("user_id = {}", quoted(&user)));
    assert_eq!(moved, 1);
    assert_eq!(browser.session(), Value::Null);
}
on_both_engines!(an_expired_session_is_none);

fn passwords_and_tokens_are_not_written_down(engine: Engine) {
    let server = Server::with(engine, "[telemetry]\nlog = \"debug\"\n");
    let mut browser = Browser::new(&server);
    let token =
        browser.sign_up("ada@example.com")["token"].as_str().expect("a sign-up answers a token").to_owned();
    browser.get("/healthz").expect(200);
    let dump = server.database.dump();
    assert!(dump.contains("ada@example.com"), "the dump shows the account:\n{dump}");
    for secret in [PASSWORD, &token] {
        assert!(!dump.contains(secret), "{secret} stands in the database:\n{dump}");
        assert!(!server.log().contains(secret), "{secret} stands in the log:\n{}", server.log());
    }
}
on_both_engines!(passwords_and_tokens_are_not_written_down);

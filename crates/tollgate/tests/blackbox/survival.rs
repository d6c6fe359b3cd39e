//! What must outlive the process, and what must never be written down.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::browser::cookie_meaning;
use crate::harness::database::quoted;
use crate::harness::{Browser, Connection, Engine, PASSWORD, Request, Server};
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

/// A cookie opens a session only as it was made: whatever is changed about it, and whoever made it, opens nothing.
fn ten_thousand_invalid_sessions_are_refused(engine: Engine) {
    const AT_ONCE: usize = 50;
    let server = Server::start(engine);
    let stranger = Server::with(Engine::Sqlite, "secrets = [\"another-5fQ2vW8rT1yU4iO7pA0sD3gH6jK9lZ\"]\n");
    let mut browser = Browser::new(&server);
    browser.sign_up("ada@example.com");
    let good = session_value(&browser);
    let mut invalid = mutations(&good, 9_000);
    // Of a deployment with other secrets, and of our own making with tokens that were never given out.
    let mut elsewhere = Browser::new(&stranger);
    elsewhere.sign_up("ada@example.com");
    let foreign = session_value(&elsewhere);
    invalid.extend(mutations(&foreign, 500));
    let (token, signature) = good.split_once('.').expect("a token and its signature");
    let (foreign_token, foreign_signature) = foreign.split_once('.').expect("a token and its signature");
    invalid.extend([
        foreign.clone(),
        format!("{token}.{foreign_signature}"),
        format!("{foreign_token}.{signature}"),
        token.to_owned(),
        format!("{token}."),
        format!(".{signature}"),
        signature.to_owned(),
    ]);
    // Signed by us, and over.
    for number in 0..12 {
        let mut over = Browser::new(&server);
        over.sign_up(&format!("over-{number}@example.com"));
        let value = session_value(&over);
        if number % 2 == 0 {
            over.sign_out();
        } else {
            let condition =
                format!("user_id IN (SELECT id FROM users WHERE email = 'over-{number}@example.com')");
            assert_eq!(server.database.shift("sessions", "expires_at", -8 * 24 * 3600 * 1000, &condition), 1);
        }
        invalid.extend(vec![value; 50]);
    }
    assert!(invalid.len() >= 10_000, "{}", invalid.len());
    assert!(!invalid.contains(&good));

    let mut connection = Connection::open(server.address).expect("the server accepts");
    connection.set_timeout(Duration::from_secs(20));
    for (group, values) in invalid.chunks(AT_ONCE).enumerate() {
        // Every tenth group tries to change something, the others to be recognised.
        let changes = group % 10 == 0;
        let mut bytes = Vec::new();
        for value in values {
            let request = match changes {
                true => Request::post("/api/auth/update-user", &json!({"name": "Mallory"})),
                false => Request::get("/api/auth/get-session"),
            };
            let request = request
                .header("Cookie", &format!("better-auth.session_token={value}"))
                .header("Origin", &server.base_url);
            bytes.extend(request.bytes("localhost"));
        }
        connection.send(&bytes).expect("the server takes it");
        for value in values {
            let response = connection.receive("GET").expect("an answer");
            match changes {
                true => assert_eq!(response.status, 401, "{value}: {}", response.text()),
                false => assert_eq!((response.status, response.text().as_str()), (200, "null"), "{value}"),
            }
        }
    }
    assert_eq!(browser.session()["user"]["name"], "Test Person");
}
on_both_engines!(ten_thousand_invalid_sessions_are_refused);

fn session_value(browser: &Browser) -> String {
    browser.cookie("better-auth.session_token").expect("a session cookie").to_owned()
}

/// The value with characters changed, removed, added and swapped at every place, `count` of them and all different in
/// meaning: what only spells the same bytes in another way is left out.
fn mutations(value: &str, count: usize) -> Vec<String> {
    let characters: Vec<char> = value.chars().collect();
    let replacements: Vec<char> = "AZaz09-_.%+/= \u{e9}\"".chars().collect();
    let mut found = BTreeSet::new();
    let mut seed = 88_172_645_463_325_252_u64;
    let mut next = |end: usize| {
        // xorshift: the same mutations in every run.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % end as u64).expect("below a length")
    };
    while found.len() < count {
        let mut changed = characters.clone();
        for _ in 0..1 + next(3) {
            let at = next(changed.len());
            match next(4) {
                0 => changed[at] = replacements[next(replacements.len())],
                1 => drop(changed.remove(at)),
                2 => changed.insert(at, replacements[next(replacements.len())]),
                _ => {
                    let other = next(changed.len());
                    changed.swap(at, other);
                }
            }
        }
        let changed: String = changed.into_iter().collect();
        let same = |text: &str| cookie_meaning(text) == cookie_meaning(value);
        if !same(&changed) {
            found.insert(changed);
        }
    }
    found.into_iter().collect()
}

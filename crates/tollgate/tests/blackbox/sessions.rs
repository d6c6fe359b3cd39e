//! Sessions: what opens one, how long it lives, and that its end is final.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::browser::cookie_meaning;
use crate::harness::database::quoted;
use crate::harness::{Browser, Connection, Engine, PASSWORD, Request, Server, at_full_length, in_parallel};
use crate::on_both_engines;

const COOKIE: &str = "better-auth.session_token";
const HOUR: i64 = 3600 * 1000;
const DAY: i64 = 24 * HOUR;

fn signed_up(server: &Server, email: &str) -> Browser {
    let mut browser = Browser::new(server);
    browser.sign_up(email);
    browser
}

fn signed_in(server: &Server, email: &str) -> Browser {
    let mut browser = Browser::new(server);
    browser.sign_in(email);
    browser
}

fn token(browser: &mut Browser) -> String {
    browser.session()["session"]["token"].as_str().expect("signed in").to_owned()
}

fn with_cookie(path: &str, value: &str) -> Request {
    Request::get(path).header("Cookie", &format!("{COOKIE}={value}"))
}

/// The letter beside this one, so that the text stays of its alphabet.
fn changed(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).expect("it was ASCII")
}

/// O-14.
fn tampered_cookies_open_nothing(engine: Engine) {
    let server = Server::start(engine);
    let ada = signed_up(&server, "ada@example.com");
    let bob = signed_up(&server, "bob@example.com");
    let value = ada.cookie(COOKIE).expect("signed in").to_owned();
    let others = bob.cookie(COOKIE).expect("signed in");
    let (token, signature) = value.split_once('.').expect("signed");
    let (_, other_signature) = others.split_once('.').expect("signed");
    let raw = signature.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    let tampered = [
        format!("{token}.{}", changed(signature, 0)),
        format!("{}.{signature}", changed(token, 0)),
        token.to_owned(),
        format!("{token}."),
        format!(".{signature}"),
        signature.to_owned(),
        format!("{token}.{other_signature}"),
        format!("{value}.x"),
        format!("{value}x"),
        format!("{token}.{}", raw.trim_end_matches('=')),
        format!("{token}.{}", raw.replace('+', "-").replace('/', "_") + "="),
        format!("{}.{signature}", token.to_ascii_lowercase()),
        format!("{token}%00.{signature}"),
        format!("{token}.{signature}%"),
        String::new(),
    ];
    let mut probe = Browser::new(&server);
    for value in &tampered {
        probe.set_cookie(COOKIE, value);
        assert_eq!(probe.session(), Value::Null, "{value}");
        probe.post("/api/auth/update-user", json!({"name": "x"})).refused(401, "UNAUTHORIZED");
    }
    // A good cookie behind a bad one of the same name is not tried.
    let both = format!("{COOKIE}={}; {COOKIE}={value}", tampered[0]);
    let hidden = Request::get("/api/auth/get-session").header("Cookie", &both).send(server.address);
    assert_eq!(hidden.expect("an answer").json(), Value::Null);
    // The same value as programs write it: not encoded, in quotes, among others.
    for header in [
        format!("{COOKIE}={token}.{raw}"),
        format!("{COOKIE}=\"{value}\""),
        format!("a=1;{COOKIE}={value};b"),
    ] {
        let found = Request::get("/api/auth/get-session").header("Cookie", &header).send(server.address);
        assert_eq!(found.expect("an answer").json()["user"]["email"], "ada@example.com", "{header}");
    }
}
on_both_engines!(tampered_cookies_open_nothing);

/// S-4: thousands of values that were good once, or nearly are.
fn mutated_cookies_open_nothing(engine: Engine) {
    let server = Server::start(engine);
    let ada = signed_up(&server, "ada@example.com");
    let value = ada.cookie(COOKIE).expect("signed in").to_owned();
    let rounds = if at_full_length() { 10_000 } else { 1_500 };
    let mut connection = Connection::open(server.address).expect("the server accepts");
    connection.set_timeout(Duration::from_secs(10));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("it is below")
    };
    for _ in 0..rounds {
        let mut bytes = value.clone().into_bytes();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = b"ABCabc019+/=.%-_"[random(16)],
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"ABCabc019.%="[random(12)]),
                _ => bytes.truncate(at.max(8)),
            }
        }
        let text = String::from_utf8(bytes).expect("ASCII");
        if cookie_meaning(&text) == cookie_meaning(&value) {
            continue;
        }
        let answer = connection.exchange(&with_cookie("/api/auth/get-session", &text)).expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "null"), "{text}\n{value}");
    }
    let good = connection.exchange(&with_cookie("/api/auth/get-session", &value)).expect("an answer");
    assert_eq!(good.json()["user"]["email"], "ada@example.com");
}
on_both_engines!(mutated_cookies_open_nothing);

/// O-16.
fn a_signed_out_session_is_refused_for_ever(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = signed_up(&server, "ada@example.com");
    let stolen = ada.clone();
    ada.sign_out();
    assert_eq!(ada.cookie(COOKIE), None);
    let value = stolen.cookie(COOKIE).expect("it was signed in").to_owned();
    let mut connection = Connection::open(server.address).expect("the server accepts");
    for _ in 0..100 {
        let answer = connection.exchange(&with_cookie("/api/auth/get-session", &value)).expect("an answer");
        assert_eq!(answer.text(), "null");
        let cleared: Vec<&str> = answer.all("Set-Cookie").collect();
        assert_eq!(cleared.len(), 3, "a token that opens nothing is forgotten: {cleared:?}");
        let list = connection.exchange(&with_cookie("/api/auth/list-accounts", &value)).expect("an answer");
        list.refused(401, "UNAUTHORIZED");
    }
    // Signing out once more, or without a session, is no error.
    stolen.clone().sign_out();
    Browser::new(&server).sign_out();
}
on_both_engines!(a_signed_out_session_is_refused_for_ever);

/// Asks one node in loops while `end` ends the session; no question that began after its answer may be accepted.
#[track_caller]
fn refused_at_once(asked: &Browser, end: impl FnOnce()) {
    let value = asked.cookie(COOKIE).expect("signed in");
    let (stop, warm) = (AtomicBool::new(false), AtomicUsize::new(0));
    let answers: Mutex<Vec<(Instant, bool)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut connection = Connection::open(asked.address).expect("the node accepts");
                connection.set_timeout(Duration::from_secs(10));
                while !stop.load(Ordering::Acquire) {
                    let began = Instant::now();
                    let answer = connection.exchange(&with_cookie("/api/auth/get-session", value));
                    let accepted = answer.expect("an answer").text() != "null";
                    warm.fetch_add(usize::from(accepted), Ordering::AcqRel);
                    answers.lock().expect("no panic").push((began, accepted));
                }
            });
        }
        while warm.load(Ordering::Acquire) < 10 {
            std::thread::yield_now();
        }
        end();
        let ended = Instant::now();
        while answers.lock().expect("no panic").iter().filter(|(began, _)| *began > ended).count() < 30 {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Release);
        let answers = answers.lock().expect("no panic");
        let late = answers.iter().filter(|(began, accepted)| *began > ended && *accepted).count();
        assert_eq!(late, 0, "accepted after the end was answered");
    });
}

fn every_end_is_seen_at_once(first: &Server, second: &Server) {
    signed_up(first, "ada@example.com");
    let there = |browser: &Browser| browser.at(second);
    for _ in 0..if at_full_length() { 20 } else { 2 } {
        let mut ada = signed_in(first, "ada@example.com");
        refused_at_once(&there(&ada), || ada.sign_out());

        let (mut ada, mut victim) =
            (signed_in(first, "ada@example.com"), signed_in(first, "ada@example.com"));
        let revoked = token(&mut victim);
        refused_at_once(&there(&victim), || {
            ada.post("/api/auth/revoke-session", json!({"token": revoked})).expect(200);
        });

        let victim = signed_in(first, "ada@example.com");
        refused_at_once(&there(&victim), || {
            ada.post("/api/auth/revoke-other-sessions", json!({})).expect(200);
        });

        let victim = signed_in(first, "ada@example.com");
        refused_at_once(&there(&victim), || {
            let change =
                json!({"currentPassword": PASSWORD, "newPassword": PASSWORD, "revokeOtherSessions": true});
            ada.post("/api/auth/change-password", change).expect(200);
        });

        let victim = signed_in(first, "ada@example.com");
        refused_at_once(&there(&victim), || {
            ada.post("/api/auth/revoke-sessions", json!({})).expect(200);
        });
    }
}

/// O-17.
#[test]
fn an_end_on_one_node_is_final_on_the_other() {
    let first = Server::start(Engine::Postgres);
    let second = Server::second_node(&first);
    every_end_is_seen_at_once(&first, &second);
}

fn an_end_is_final_for_requests_on_other_connections(engine: Engine) {
    let server = Server::start(engine);
    every_end_is_seen_at_once(&server, &server);
}
on_both_engines!(an_end_is_final_for_requests_on_other_connections);

/// O-46.
fn other_peoples_sessions_cannot_be_seen_or_ended(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = signed_up(&server, "ada@example.com");
    let mut bob = signed_up(&server, "bob@example.com");
    let bobs = bob.session();
    let (bobs_token, bobs_id) = (bobs["session"]["token"].clone(), bobs["user"]["id"].clone());
    let unknown = ada.post("/api/auth/revoke-session", json!({"token": "x".repeat(32)})).expect(200);
    for body in [
        json!({"token": bobs_token}),
        json!({"token": bobs_token, "userId": bobs_id}),
        json!({"token": bobs["session"]["id"]}),
    ] {
        let answer = ada.post("/api/auth/revoke-session", body).expect(200);
        assert_eq!(answer.body, unknown.body, "the answer tells whether the token exists");
        assert_eq!(answer.headers.len(), unknown.headers.len());
    }
    ada.post("/api/auth/multi-session/revoke", json!({"sessionToken": bobs_token})).expect(401);
    ada.post("/api/auth/multi-session/set-active", json!({"sessionToken": bobs_token})).expect(401);
    for path in ["/api/auth/revoke-other-sessions", "/api/auth/revoke-sessions"] {
        ada.post(path, json!({"userId": bobs_id})).expect(200);
    }
    assert_eq!(bob.session()["user"]["email"], "bob@example.com");
    let mut ada = signed_in(&server, "ada@example.com");
    let list = ada.get(&format!("/api/auth/list-sessions?userId={}", bobs_id.as_str().expect("an id")));
    let owners: Vec<Value> =
        list.expect(200).json().as_array().expect("a list").iter().map(|s| s["userId"].clone()).collect();
    assert_eq!(owners, [ada.session()["user"]["id"].clone()]);
    assert!(
        !ada.get("/api/auth/list-accounts").expect(200).text().contains(bobs_id.as_str().expect("an id"))
    );
}
on_both_engines!(other_peoples_sessions_cannot_be_seen_or_ended);

fn sessions_are_listed_and_ended_by_their_owner(engine: Engine) {
    let server = Server::start(engine);
    let mut first = signed_up(&server, "ada@example.com");
    let (mut second, mut third) =
        (signed_in(&server, "ada@example.com"), signed_in(&server, "ada@example.com"));
    let listed = |browser: &mut Browser| -> Vec<String> {
        let list = browser.get("/api/auth/list-sessions").expect(200).json();
        let tokens = list.as_array().expect("a list").iter().map(|session| session["token"].as_str());
        tokens.map(|token| token.expect("a token").to_owned()).collect()
    };
    let all = [token(&mut first), token(&mut second), token(&mut third)];
    assert_eq!(listed(&mut first), all, "oldest first");
    server.database.shift(
        "sessions",
        "expires_at",
        -8 * DAY,
        "created_at = (SELECT MAX(created_at) FROM sessions)",
    );
    assert_eq!(listed(&mut first), all[..2], "an expired one is not shown");
    first.post("/api/auth/revoke-session", json!({"token": all[1]})).expect(200);
    assert_eq!(second.session(), Value::Null);
    let own = first.post("/api/auth/revoke-session", json!({"token": all[0]})).expect(200);
    assert_eq!(own.all("Set-Cookie").count(), 3);
    assert_eq!(first.cookie(COOKIE), None);
}
on_both_engines!(sessions_are_listed_and_ended_by_their_owner);

/// O-18.
fn a_changed_password_ends_other_sessions_when_asked(engine: Engine) {
    let server = Server::start(engine);
    let mut first = signed_up(&server, "ada@example.com");
    let mut second = signed_in(&server, "ada@example.com");
    let mut old = first.clone();
    let new = "another long password";
    let keep = json!({"currentPassword": PASSWORD, "newPassword": new});
    let kept = first.post("/api/auth/change-password", keep).expect(200).json();
    assert_eq!(kept["token"], Value::Null);
    assert_ne!(second.session(), Value::Null);

    let end = json!({"currentPassword": new, "newPassword": PASSWORD, "revokeOtherSessions": true});
    let changed = first.post("/api/auth/change-password", end).expect(200).json();
    assert_eq!(second.session(), Value::Null);
    assert_eq!(old.session(), Value::Null, "one's own old token");
    assert_eq!(changed["token"], first.session()["session"]["token"]);
    Browser::new(&server).try_sign_in("ada@example.com", new).expect(401);
    Browser::new(&server).try_sign_in("ada@example.com", PASSWORD).expect(200);
}
on_both_engines!(a_changed_password_ends_other_sessions_when_asked);

fn a_session_in_use_is_extended_once_by_many_requests(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = signed_up(&server, "ada@example.com");
    let before = ada.session()["session"].clone();
    assert_eq!(
        ada.get("/api/auth/get-session").all("Set-Cookie").count(),
        0,
        "young sessions are left alone"
    );
    server.database.shift("sessions", "expires_at", -DAY - 1000, "user_id IS NOT NULL");
    let quiet = ada.get("/api/auth/get-session?disableRefresh=true").expect(200);
    assert_eq!(quiet.all("Set-Cookie").count(), 0);
    assert_ne!(quiet.json()["session"]["expiresAt"], before["expiresAt"]);

    let answers = in_parallel(20, |number| {
        let path = if number % 2 == 0 { "/api/auth/get-session" } else { "/api/auth/list-accounts" };
        ada.clone().get(path).expect(200)
    });
    let ends: Vec<Value> =
        answers.iter().filter_map(|answer| answer.json().get("session").cloned()).collect();
    assert_eq!(ends.len(), 10);
    assert!(ends.iter().all(|session| *session == ends[0]), "one extension, seen by all: {ends:?}");
    assert!(
        answers.iter().any(|answer| answer.all("Set-Cookie").any(|line| line.contains("Max-Age=604800")))
    );
    assert_eq!(server.database.integer("SELECT expires_at - updated_at FROM sessions"), 7 * DAY);
    assert_eq!(ends[0]["createdAt"], before["createdAt"]);
    assert_eq!(ada.session()["session"], ends[0]);
}
on_both_engines!(a_session_in_use_is_extended_once_by_many_requests);

fn deferred_extensions_write_by_post_only(engine: Engine) {
    let server = Server::with(engine, "[session]\ndefer_refresh = true\n");
    let mut ada = signed_up(&server, "ada@example.com");
    assert_eq!(ada.session()["needsRefresh"], false);
    server.database.shift("sessions", "expires_at", -DAY - 1000, "user_id IS NOT NULL");
    let end = |server: &Server| server.database.integer("SELECT expires_at FROM sessions");
    let before = end(&server);
    let due = ada.get("/api/auth/get-session").expect(200);
    assert_eq!((due.json()["needsRefresh"].clone(), due.all("Set-Cookie").count()), (Value::Bool(true), 0));
    ada.get("/api/auth/list-accounts").expect(200);
    assert_eq!(end(&server), before);
    let extended = ada.post("/api/auth/get-session", json!({})).expect(200);
    assert!(extended.json().get("needsRefresh").is_none());
    assert!(end(&server) > before);

    let plain = Server::start(engine);
    let mut bob = signed_up(&plain, "bob@example.com");
    bob.post("/api/auth/get-session", json!({})).refused(405, "METHOD_NOT_ALLOWED_DEFER_SESSION_REQUIRED");
}
on_both_engines!(deferred_extensions_write_by_post_only);

fn delicate_acts_need_a_fresh_session(engine: Engine) {
    let server = Server::with(engine, "[accounts]\ndelete_user = true\n");
    let mut ada = signed_up(&server, "ada@example.com");
    let account = ada.get("/api/auth/list-accounts").expect(200).json()[0]["id"].clone();
    ada.get("/api/auth/list-sessions").expect(200);
    server.database.shift("sessions", "created_at", -DAY - 1000, "user_id IS NOT NULL");
    // An extension does not make it fresh again.
    server.database.shift("sessions", "expires_at", -DAY - 1000, "user_id IS NOT NULL");
    assert_ne!(ada.session(), Value::Null);
    ada.get("/api/auth/list-sessions").refused(403, "SESSION_NOT_FRESH");
    ada.post("/api/auth/unlink-account", json!({"accountId": account})).refused(403, "SESSION_NOT_FRESH");
    ada.post("/api/auth/delete-user", json!({})).refused(400, "SESSION_EXPIRED");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM users"), 1);
    let mut again = signed_in(&server, "ada@example.com");
    again
        .post("/api/auth/unlink-account", json!({"accountId": account}))
        .refused(400, "FAILED_TO_UNLINK_LAST_ACCOUNT");
    ada.post("/api/auth/delete-user", json!({"password": PASSWORD})).expect(200);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM users"), 0);
}
on_both_engines!(delicate_acts_need_a_fresh_session);

fn a_session_ends_to_the_millisecond_and_its_row_is_removed(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = signed_up(&server, "ada@example.com");
    // A minute before its end it is good, and one that is used is extended.
    server.database.shift("sessions", "expires_at", -7 * DAY + 60_000, "user_id IS NOT NULL");
    assert_ne!(ada.clone().get("/api/auth/get-session?disableRefresh=1").json(), Value::Null);
    server.database.shift("sessions", "expires_at", -60_000, "user_id IS NOT NULL");
    ada.clone().post("/api/auth/update-user", json!({"name": "x"})).refused(401, "UNAUTHORIZED");
    let answer = ada.get("/api/auth/get-session").expect(200);
    assert_eq!((answer.text().as_str(), answer.all("Set-Cookie").count()), ("null", 3));
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM sessions"), 0);
}
on_both_engines!(a_session_ends_to_the_millisecond_and_its_row_is_removed);

/// A session that goes on living in other tables' rows must not come back: the row is gone, not marked.
fn ended_sessions_leave_no_row(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = signed_up(&server, "ada@example.com");
    let id = ada.session()["session"]["id"].as_str().expect("signed in").to_owned();
    let count = format!("SELECT COUNT(*) FROM sessions WHERE id = {}", quoted(&id));
    assert_eq!(server.database.integer(&count), 1);
    ada.sign_out();
    assert_eq!(server.database.integer(&count), 0);
}
on_both_engines!(ended_sessions_leave_no_row);

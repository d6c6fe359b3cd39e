//! Sessions at the gate: what opens one, that it is kept alive, and that its end is final on every node.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::browser::cookie_meaning;
use crate::harness::credits::{refused, text};
use crate::harness::database::quoted;
use crate::harness::gate::{Guard, asking};
use crate::harness::{Browser, Connection, Engine, PASSWORD, Request, Server, at_full_length, in_parallel};
use crate::on_both_engines;

const COOKIE: &str = "better-auth.session_token";
const DAY: i64 = 24 * 3600 * 1000;

fn signed_up(server: &Server, email: &str) -> (Browser, String) {
    let mut browser = Browser::new(server);
    let made = browser.sign_up(email);
    (browser, text(&made["user"]["id"]))
}

fn signed_in(server: &Server, email: &str) -> Browser {
    let mut browser = Browser::new(server);
    browser.sign_in(email);
    browser
}

fn tokens_are_taken_in_a_header_of_their_own_and_win(engine: Engine) {
    let server = Server::start(engine);
    let mut guard = Guard::of(&server);
    let mut ada = Browser::new(&server);
    let body = json!({"name": "Ada", "email": "ada@example.com", "password": PASSWORD});
    let made = ada.post("/api/auth/sign-up/email", body).expect(200);
    let signed = made.header("set-auth-token").expect("programs read it").to_owned();
    let token = text(&made.json()["token"]);
    let encoded = signed.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let (bob, _) = signed_up(&server, "bob@example.com");
    let with = |browser: &Browser, token: &str| asking(browser, &json!({})).header("X-Tollgate-Token", token);
    let nobody = Browser::new(&server);
    for token in
        [token.clone(), signed.clone(), encoded, format!("Bearer {token}"), format!("bearer   {signed}")]
    {
        for browser in [&nobody, &bob] {
            let answer = guard.backend.send(with(browser, &token)).expect(200).json();
            assert_eq!(answer["user"]["email"], "ada@example.com", "{token}");
        }
    }
    // What opens nothing does not let the cookie have its turn.
    let key = server.service_key();
    for token in ["x", "a.b", "", "Bearer", "Bearer ", &format!("Basic {token}"), &key, &format!("{token}x")]
    {
        refused(&guard.backend.send(with(&bob, token)), 401, "unauthenticated");
    }
    let both = with(&bob, &token).header("X-Tollgate-Token", &token);
    refused(&guard.backend.send(both), 401, "unauthenticated");
    let off = Server::with(engine, "[methods]\nbearer = false\n");
    let mut guard = Guard::of(&off);
    let (mut ada, _) = signed_up(&off, "ada@example.com");
    let token = text(&ada.session()["session"]["token"]);
    refused(&guard.backend.send(with(&ada, &token)), 401, "unauthenticated");
    guard.ask(&ada, &json!({})).expect(200);
}
on_both_engines!(tokens_are_taken_in_a_header_of_their_own_and_win);

fn what_other_programs_keep_in_a_browser_signs_nobody_out(engine: Engine) {
    let server = Server::start(engine);
    let mut guard = Guard::of(&server);
    let (ada, _) = signed_up(&server, "ada@example.com");
    let own = format!("{COOKIE}={}", ada.cookie(COOKIE).expect("signed in"));
    for (before, after) in [("", "; theme=größer"), ("größe=ü; ", ""), ("a; b;; =; \u{fffd}; ", "; =é")]
    {
        let cookies = format!("{before}{own}{after}");
        let asked = Request::post("/api/gate/authorize", &json!({})).header("Cookie", &cookies);
        guard.backend.send(asked).expect(200);
        let session = Request::get("/api/auth/get-session").header("Cookie", &cookies);
        let session = session.send(server.address).expect("an answer").expect(200).json();
        assert_eq!(session["user"]["email"], "ada@example.com", "{cookies}");
    }
    let spoiled =
        Request::post("/api/gate/authorize", &json!({})).header("Cookie", &format!("{own}é; {own}"));
    refused(&guard.backend.send(spoiled), 401, "unauthenticated");
}
on_both_engines!(what_other_programs_keep_in_a_browser_signs_nobody_out);

fn a_session_in_use_is_extended_and_its_cookie_comes_back(engine: Engine) {
    let server = Server::start(engine);
    let guard = Guard::of(&server);
    let (mut ada, id) = signed_up(&server, "ada@example.com");
    let due = || server.database.shift("sessions", "expires_at", -DAY - 1000, "user_id IS NOT NULL");
    due();
    let before = server.database.integer("SELECT expires_at FROM sessions");
    // A refusal extends nothing.
    refused(&guard.another().ask(&ada, &json!({"user_id": "other"})), 403, "user_mismatch");
    assert_eq!(server.database.integer("SELECT expires_at FROM sessions"), before);
    let answers = in_parallel(20, |_| guard.another().ask(&ada, &json!({"user_id": id})).expect(200));
    assert_eq!(server.database.integer("SELECT expires_at - updated_at FROM sessions"), 7 * DAY);
    let ends: Vec<Value> =
        answers.iter().map(|answer| answer.json()["session"]["expires_at"].clone()).collect();
    assert!(ends.iter().all(|end| *end == ends[0]), "one extension, seen by all: {ends:?}");
    let lines: Vec<&str> = answers.iter().flat_map(|answer| answer.all("Set-Cookie")).collect();
    assert!(!lines.is_empty());
    for line in lines {
        assert!(line.starts_with(COOKIE) && line.contains("Max-Age=604800"), "{line}");
        let value = line[COOKIE.len() + 1..].split(';').next().unwrap_or_default();
        assert_eq!(Some(value), ada.cookie(COOKIE));
    }
    assert_eq!(ada.session()["session"]["expiresAt"], ends[0]);
    // The line comes with a refusal that follows the extension, too.
    due();
    let poor = guard.another().ask_under(&ada, "k", &json!({"charge": {"amount": 1}}));
    refused(&poor, 402, "insufficient_credits");
    assert_eq!(poor.all("Set-Cookie").count(), 1);
    // A browser that shall not remember is left alone, and so is everybody where only a POST extends.
    let mut brief = Browser::new(&server);
    let body = json!({"email": "ada@example.com", "password": PASSWORD, "rememberMe": false});
    // Its session lasts a day, so it would be due at once.
    brief.post("/api/auth/sign-in/email", body).expect(200);
    assert_eq!(guard.another().ask(&brief, &json!({})).expect(200).all("Set-Cookie").count(), 0);
    let deferred = Server::with(engine, "[session]\ndefer_refresh = true\n");
    let (ada, _) = signed_up(&deferred, "ada@example.com");
    deferred.database.shift("sessions", "expires_at", -DAY - 1000, "user_id IS NOT NULL");
    let answer = Guard::of(&deferred).ask(&ada, &json!({})).expect(200);
    assert_eq!(answer.all("Set-Cookie").count(), 0);
}
on_both_engines!(a_session_in_use_is_extended_and_its_cookie_comes_back);

/// S-4: thousands of values that were good once, are somebody else's, or nearly are good.
fn mutated_expired_revoked_and_foreign_cookies_are_refused(engine: Engine) {
    let server = Server::start(engine);
    let foreign = Server::with(engine, "secrets = [\"another-secret-0123456789-0123456789\"]\n");
    let key = server.service_key();
    let (ada, _) = signed_up(&server, "ada@example.com");
    let value = ada.cookie(COOKIE).expect("signed in").to_owned();
    let mut connection = Connection::open(server.address).expect("the server accepts");
    connection.set_timeout(Duration::from_secs(10));
    let mut ask = |value: &str| {
        let request = Request::post("/api/gate/authorize", &json!({}))
            .header("Authorization", &format!("Bearer {key}"))
            .header("Cookie", &format!("{COOKIE}={value}"));
        connection.exchange(&request).expect("an answer")
    };
    let mut dead = Vec::new();
    for _ in 0..3 {
        let mut revoked = signed_in(&server, "ada@example.com");
        dead.push(revoked.cookie(COOKIE).expect("signed in").to_owned());
        revoked.sign_out();
    }
    let (expired, id) = signed_up(&server, "expired@example.com");
    let of = format!("user_id = {}", quoted(&id));
    server.database.shift("sessions", "expires_at", -8 * DAY, &of);
    dead.push(expired.cookie(COOKIE).expect("signed in").to_owned());
    // The right token with a signature of another deployment; another deployment's cookie as it is.
    let (stranger, _) = signed_up(&foreign, "ada@example.com");
    let strange = stranger.cookie(COOKIE).expect("signed in").to_owned();
    let (token, _) = value.split_once('.').expect("signed");
    let (_, signature) = strange.split_once('.').expect("signed");
    dead.extend([format!("{token}.{signature}"), strange.clone()]);
    for value in &dead {
        refused(&ask(value), 401, "unauthenticated");
    }
    let rounds = if at_full_length() { 10_000 } else { 1_500 };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("it is below")
    };
    for round in 0..rounds {
        let mut bytes = if round % 8 == 0 { strange.clone() } else { value.clone() }.into_bytes();
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
        refused(&ask(&text), 401, "unauthenticated");
    }
    assert_eq!(ask(&value).expect(200).json()["user"]["email"], "ada@example.com");
}
on_both_engines!(mutated_expired_revoked_and_foreign_cookies_are_refused);

/// N-7 at the gate: whoever asks after the answer to a revoke is refused, on that connection, another one and another node.
fn every_end_is_seen_at_once(first: &Server, second: &Server) {
    let guards = [Guard::of(first), Guard::of(first).at(second)];
    let (mut ada, id) = signed_up(first, "ada@example.com");
    guards[0].another().backend.grant(&id, 1);
    let rounds = if at_full_length() { 500 } else { 20 };
    let mut asking: Vec<Guard> = guards.iter().map(Guard::another).collect();
    for round in 0..rounds {
        let mut victim = signed_in(first, "ada@example.com");
        for guard in &mut asking {
            guard.ask(&victim, &json!({})).expect(200);
        }
        let stolen = victim.clone();
        match round % 3 {
            0 => victim.sign_out(),
            1 => {
                let token = text(&victim.session()["session"]["token"]);
                ada.post("/api/auth/revoke-session", json!({"token": token})).expect(200);
            }
            _ => drop(ada.post("/api/auth/revoke-other-sessions", json!({})).expect(200)),
        }
        for guard in asking.iter_mut().rev() {
            refused(&guard.ask(&stolen, &json!({})), 401, "unauthenticated");
            let paid = guard.ask_under(&stolen, "paid", &json!({"charge": {"amount": 1}}));
            refused(&paid, 401, "unauthenticated");
        }
        let other = in_parallel(2, |number| guards[number].another().ask(&stolen, &json!({})).status);
        assert_eq!(other, [401, 401]);
    }
    assert_eq!(guards[0].another().backend.balance(&id)["balance"], 1, "nobody paid");
}

fn a_revoked_session_never_passes_on_any_node(engine: Engine) {
    let first = Server::start(engine);
    let second = Server::second_node(&first);
    every_end_is_seen_at_once(&first, &second);
}
on_both_engines!(a_revoked_session_never_passes_on_any_node);

/// The same while others ask all the time: no question that began after the answer is accepted.
fn a_revoke_beside_a_storm_of_questions_is_final(engine: Engine) {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Instant;
    let server = Server::start(engine);
    let guard = Guard::of(&server);
    signed_up(&server, "ada@example.com");
    for _ in 0..if at_full_length() { 50 } else { 3 } {
        let mut ada = signed_in(&server, "ada@example.com");
        let stolen = ada.clone();
        let (stop, accepted) = (AtomicBool::new(false), AtomicUsize::new(0));
        let ended = std::sync::OnceLock::<Instant>::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let mut guard = guard.another();
                        let mut answers = Vec::new();
                        while !stop.load(Ordering::Acquire) {
                            let began = Instant::now();
                            let passed = guard.ask(&stolen, &json!({})).status == 200;
                            accepted.fetch_add(usize::from(passed), Ordering::AcqRel);
                            answers.push((began, passed));
                            // Enough were asked after the end.
                            let late =
                                |end: &Instant| answers.iter().filter(|(began, _)| began > end).count();
                            if ended.get().is_some_and(|end| late(end) >= 20) {
                                break;
                            }
                        }
                        answers
                    })
                })
                .collect();
            while accepted.load(Ordering::Acquire) < 10 {
                std::thread::yield_now();
            }
            ada.sign_out();
            let end = *ended.get_or_init(Instant::now);
            let answers: Vec<_> =
                threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
            stop.store(true, Ordering::Release);
            let late: Vec<_> = answers.iter().filter(|(began, _)| *began > end).collect();
            assert!(late.len() >= 60, "{}", late.len());
            assert!(late.iter().all(|(_, passed)| !passed), "accepted after the end was answered");
        });
    }
}
on_both_engines!(a_revoke_beside_a_storm_of_questions_is_final);

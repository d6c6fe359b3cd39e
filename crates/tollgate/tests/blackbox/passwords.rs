//! What a password may be, that every letter of it counts, and that guessing at it is counted.

use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{Browser, Connection, Engine, PASSWORD, Request, Response, Server, in_parallel};
use crate::on_both_engines;

const COMMON: &str = include_str!("../../../identity/src/common_passwords.txt");

fn sign_up(server: &Server, email: &str, password: &str) -> Response {
    let body = json!({"name": "N", "email": email, "password": password});
    Browser::new(server).post("/api/auth/sign-up/email", body)
}

fn sign_in(server: &Server, email: &str, password: &str) -> Response {
    Browser::new(server).try_sign_in(email, password)
}

/// Text without a pattern, so that only its length is judged.
fn of_length(length: usize) -> String {
    "kW7 pa§x Lq-9zu?Ro2 ".chars().cycle().take(length).collect()
}

/// O-31.
fn passwords_have_eight_to_128_characters(engine: Engine) {
    let server = Server::start(engine);
    sign_up(&server, "a@example.com", &of_length(7)).refused(400, "PASSWORD_TOO_SHORT");
    sign_up(&server, "a@example.com", &of_length(129)).refused(400, "PASSWORD_TOO_LONG");
    sign_up(&server, "a@example.com", "").expect(400);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM users"), 0);
    assert_eq!(server.passwords_hashed(), 0);
    for (number, length) in [8, 128].into_iter().enumerate() {
        let (email, password) = (format!("u{number}@example.com"), of_length(length));
        sign_up(&server, &email, &password).expect(200);
        sign_in(&server, &email, &password).expect(200);
    }
    // Counted as browsers count: four emoji are eight units.
    sign_up(&server, "emoji@example.com", "🦀🐙🦑🦞").expect(200);
    sign_up(&server, "few@example.com", "🦀🐙🦑").refused(400, "PASSWORD_TOO_SHORT");
    sign_in(&server, "u0@example.com", &of_length(129)).refused(400, "PASSWORD_TOO_LONG");
}
on_both_engines!(passwords_have_eight_to_128_characters);

fn every_letter_of_a_password_counts(engine: Engine) {
    let server = Server::start(engine);
    let head = of_length(72);
    let (one, other) = (format!("{head}-tail-a"), format!("{head}-tail-b"));
    sign_up(&server, "long@example.com", &one).expect(200);
    sign_in(&server, "long@example.com", &other).refused(401, "INVALID_EMAIL_OR_PASSWORD");
    sign_in(&server, "long@example.com", &head).refused(401, "INVALID_EMAIL_OR_PASSWORD");
    sign_in(&server, "long@example.com", &one).expect(200);

    sign_up(&server, "null@example.com", "passage\0wording").expect(200);
    for wrong in ["passage", "passage\0", "passage\0wordinh", "passagewording"] {
        sign_in(&server, "null@example.com", wrong).refused(401, "INVALID_EMAIL_OR_PASSWORD");
    }
    sign_in(&server, "null@example.com", "passage\0wording").expect(200);

    sign_up(&server, "space@example.com", " leading and trailing ").expect(200);
    sign_in(&server, "space@example.com", "leading and trailing").expect(401);
    sign_in(&server, "space@example.com", " Leading and trailing ").expect(401);
    sign_in(&server, "space@example.com", " leading and trailing ").expect(200);
}
on_both_engines!(every_letter_of_a_password_counts);

/// One keyboard writes an accent as a letter of its own, another as a part of the letter.
fn one_password_in_two_spellings_is_one_password(engine: Engine) {
    let server = Server::start(engine);
    sign_up(&server, "nfc@example.com", "Zo\u{eb} \u{e0} l'\u{e9}cole").expect(200);
    sign_in(&server, "nfc@example.com", "Zoe\u{308} a\u{300} l'e\u{301}cole").expect(200);
    sign_up(&server, "nfd@example.com", "Zoe\u{308} a\u{300} l'e\u{301}cole").expect(200);
    sign_in(&server, "nfd@example.com", "Zo\u{eb} \u{e0} l'\u{e9}cole").expect(200);
    sign_in(&server, "nfd@example.com", "Zoe a l'ecole").expect(401);
}
on_both_engines!(one_password_in_two_spellings_is_one_password);

/// The most frequent ones of the list and a sample of the rest, wherever a password is chosen, without hashing any.
fn common_passwords_are_refused(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = Browser::new(&server);
    ada.sign_up("ada@example.com");
    let hashed = server.passwords_hashed();
    let list: Vec<&str> = COMMON.lines().filter(|line| !line.is_empty()).collect();
    assert!(list.len() > 3_000);
    let sample = list.iter().take(200).chain(list.iter().skip(200).step_by(20));
    let mut connection = Connection::open(server.address).expect("the server accepts");
    for password in sample {
        let body = json!({"name": "N", "email": "new@example.com", "password": password});
        let answer =
            connection.exchange(&Request::post("/api/auth/sign-up/email", &body)).expect("an answer");
        answer.refused(400, "PASSWORD_COMPROMISED");
    }
    for password in ["Password123!", "P@ssw0rd", "12345678", "aaaaaaaa", "QWERTYUIOP", "iloveyou1"] {
        sign_up(&server, "new@example.com", password).refused(400, "PASSWORD_COMPROMISED");
        let change = json!({"currentPassword": PASSWORD, "newPassword": password});
        ada.post("/api/auth/change-password", change).refused(400, "PASSWORD_COMPROMISED");
    }
    assert_eq!(server.passwords_hashed(), hashed);

    let lenient = Server::with(engine, "[email_password]\nrefuse_common = false\nmin_length = 6\n");
    sign_up(&lenient, "a@example.com", "123456").expect(200);
}
on_both_engines!(common_passwords_are_refused);

/// O-31: nothing of that size is hashed, nor even read.
fn a_huge_password_is_refused_at_once_and_never_hashed(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = Browser::new(&server);
    ada.sign_up("ada@example.com");
    let hashed = server.passwords_hashed();
    let huge = "p".repeat(1024 * 1024);
    let large = of_length(50_000);
    let bodies = |password: &str| {
        [
            (
                "/api/auth/sign-up/email",
                json!({"name": "N", "email": "new@example.com", "password": password}),
            ),
            ("/api/auth/sign-in/email", json!({"email": "ada@example.com", "password": password})),
            ("/api/auth/sign-in/email", json!({"email": "nobody@example.com", "password": password})),
            ("/api/auth/change-password", json!({"currentPassword": PASSWORD, "newPassword": password})),
            (
                "/api/auth/change-password",
                json!({"currentPassword": password, "newPassword": "some new password"}),
            ),
            ("/api/auth/verify-password", json!({"password": password})),
            ("/api/auth/reset-password", json!({"newPassword": password, "token": "x"})),
        ]
    };
    for (path, body) in bodies(&huge) {
        // The best of three: a busy machine is no reason to fail.
        let best = (0..3).map(|_| {
            let request = ada.clone();
            let length = body.to_string().len().to_string();
            let cookie = request.cookie_header("/");
            let head = Request::new("POST", path)
                .header("Content-Type", "application/json")
                .header("Content-Length", &length)
                .header("Cookie", &cookie)
                .header("Origin", &server.base_url);
            let began = Instant::now();
            let answer = head.send(server.address).expect("an answer to the announced length");
            assert_eq!((answer.status, answer.closes()), (413, true), "{path}");
            began.elapsed()
        });
        let best = best.min().expect("three tries");
        assert!(best.as_millis() < 50, "{path}: {best:?}");
    }
    for (path, body) in bodies(&large) {
        ada.post(path, body).refused(400, "PASSWORD_TOO_LONG");
    }
    assert_eq!(server.passwords_hashed(), hashed);
}
on_both_engines!(a_huge_password_is_refused_at_once_and_never_hashed);

/// From two devices, with the same old password: one is first.
fn of_changes_at_once_one_wins(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = Browser::new(&server);
    ada.sign_up("ada@example.com");
    let mut phone = Browser::new(&server);
    phone.sign_in("ada@example.com");
    let new = |number: usize| format!("the new password {number}");
    let answers = in_parallel(8, |number| {
        let mut device = if number % 2 == 0 { ada.clone() } else { phone.clone() };
        device.post(
            "/api/auth/change-password",
            json!({"currentPassword": PASSWORD, "newPassword": new(number)}),
        )
    });
    let winners: Vec<usize> = (0..8).filter(|number| answers[*number].status == 200).collect();
    assert_eq!(winners.len(), 1, "{:?}", answers.iter().map(Response::text).collect::<Vec<_>>());
    assert!(answers.iter().all(|answer| answer.status == 200 || answer.code() == "INVALID_PASSWORD"));
    sign_in(&server, "ada@example.com", &new(winners[0])).expect(200);
    sign_in(&server, "ada@example.com", PASSWORD).expect(401);
}
on_both_engines!(of_changes_at_once_one_wins);

/// S-7: counted before they are judged, so that fifty at once are no more than ten.
fn ten_wrong_passwords_are_judged_however_many_come_at_once(engine: Engine) {
    let server = Server::start(engine);
    Browser::new(&server).sign_up("ada@example.com");
    for email in ["ada@example.com", "nobody@example.com"] {
        let hashed = server.passwords_hashed();
        let spelled = [email.to_owned(), email.to_ascii_uppercase()];
        let answers = in_parallel(50, |number| {
            sign_in(&server, &spelled[number % 2], &format!("wrong password {number}"))
        });
        let judged = answers.iter().filter(|answer| answer.code() == "INVALID_EMAIL_OR_PASSWORD").count();
        let refused: Vec<&Response> =
            answers.iter().filter(|answer| answer.code() == "TOO_MANY_ATTEMPTS").collect();
        assert_eq!((judged, refused.len()), (10, 40), "{email}");
        for answer in refused {
            assert_eq!(answer.status, 429);
            let seconds: i64 =
                answer.header("Retry-After").expect("when to come again").parse().expect("seconds");
            // A request that waited for its turn counts from when it came.
            assert!((1..=910).contains(&seconds), "{seconds}");
            assert_eq!(answer.header("X-Retry-After"), answer.header("Retry-After"));
        }
        assert_eq!(server.passwords_hashed() - hashed, 10, "what is refused is not hashed");
    }
    // The right one is refused as well, or a guesser would learn it.
    sign_in(&server, "ada@example.com", PASSWORD).refused(429, "TOO_MANY_ATTEMPTS");
}
on_both_engines!(ten_wrong_passwords_are_judged_however_many_come_at_once);

/// The same count over two nodes.
#[test]
fn two_nodes_count_wrong_passwords_together() {
    let first = Server::start(Engine::Postgres);
    let second = Server::second_node(&first);
    Browser::new(&first).sign_up("ada@example.com");
    let answers = in_parallel(40, |number| {
        let node = if number % 2 == 0 { &first } else { &second };
        sign_in(node, "ada@example.com", &format!("wrong password {number}")).code()
    });
    assert_eq!(answers.iter().filter(|code| *code == "INVALID_EMAIL_OR_PASSWORD").count(), 10);
}

fn the_count_of_wrong_passwords_survives_a_restart_and_ends_in_time(engine: Engine) {
    let mut server = Server::start(engine);
    Browser::new(&server).sign_up("ada@example.com");
    for number in 0..10 {
        sign_in(&server, "ada@example.com", &format!("wrong password {number}")).expect(401);
    }
    server.kill();
    server.restart();
    sign_in(&server, "ada@example.com", PASSWORD).refused(429, "TOO_MANY_ATTEMPTS");
    let quarter = 15 * 60 * 1000 + 1000;
    for column in ["last_at", "expires_at"] {
        server.database.shift("counters", column, -quarter, "key LIKE 'sign-in:15m:%'");
    }
    sign_in(&server, "ada@example.com", PASSWORD).expect(200);
    // The day's count goes on: a right password gives back its own attempt and no more.
    let day = "SELECT count FROM counters WHERE key LIKE 'sign-in:24h:%'";
    assert_eq!(server.database.integer(day), 10);
    server.database.execute("UPDATE counters SET count = 100 WHERE key LIKE 'sign-in:24h:%'");
    let locked = sign_in(&server, "ada@example.com", PASSWORD).refused(429, "TOO_MANY_ATTEMPTS");
    assert!(locked.header("Retry-After").and_then(|text| text.parse::<i64>().ok()).is_some_and(|s| s > 3600));
}
on_both_engines!(the_count_of_wrong_passwords_survives_a_restart_and_ends_in_time);

/// A right password between the wrong ones is no way to guess for ever, and many devices at once are no guessers.
fn right_passwords_are_not_counted(engine: Engine) {
    let server = Server::start(engine);
    Browser::new(&server).sign_up("ada@example.com");
    let answers = in_parallel(20, |_| sign_in(&server, "ada@example.com", PASSWORD).status);
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    for _ in 0..2 {
        for number in 0..9 {
            sign_in(&server, "ada@example.com", &format!("wrong password {number}")).expect(401);
        }
        sign_in(&server, "ada@example.com", PASSWORD).expect(200);
    }
    assert_eq!(server.database.integer("SELECT count FROM counters WHERE key LIKE 'sign-in:24h:%'"), 18);
}
on_both_engines!(right_passwords_are_not_counted);

/// S-7: the owner gets back in by mail, whatever strangers did to the counts.
fn a_reset_by_mail_lets_the_owner_back_in(engine: Engine) {
    let server = Server::start(engine);
    Browser::new(&server).sign_up("ada@example.com");
    for number in 0..10 {
        sign_in(&server, "ada@example.com", &format!("wrong password {number}")).expect(401);
    }
    server.database.execute("UPDATE counters SET count = 100 WHERE key LIKE 'sign-in:24h:%'");
    sign_in(&server, "ada@example.com", PASSWORD).refused(429, "TOO_MANY_ATTEMPTS");
    let mut ada = Browser::new(&server);
    ada.post("/api/auth/request-password-reset", json!({"email": "ada@example.com"})).expect(200);
    let link = server.mail.take("ada@example.com", std::time::Duration::from_secs(20)).link();
    let token =
        link.split("/reset-password/").nth(1).and_then(|rest| rest.split('?').next()).expect("a token");
    let new = "a new and longer password";
    ada.post("/api/auth/reset-password", json!({"newPassword": new, "token": token})).expect(200);
    sign_in(&server, "ada@example.com", new).expect(200);
}
on_both_engines!(a_reset_by_mail_lets_the_owner_back_in);

/// A stolen session is no way around the count: every door where a password is proven counts together.
fn guessing_with_a_session_is_counted_with_the_sign_ins(engine: Engine) {
    let server = Server::with(engine, "[accounts]\ndelete_user = true\n");
    let mut ada = Browser::new(&server);
    ada.sign_up("ada@example.com");
    for number in 0..9 {
        let wrong = format!("wrong password {number}");
        match number % 3 {
            0 => ada.post("/api/auth/verify-password", json!({"password": wrong})),
            1 => ada.post(
                "/api/auth/change-password",
                json!({"currentPassword": wrong, "newPassword": "a new password"}),
            ),
            _ => ada.post("/api/auth/delete-user", json!({"password": wrong})),
        }
        .refused(400, "INVALID_PASSWORD");
    }
    sign_in(&server, "ada@example.com", "wrong once more").expect(401);
    for (path, body) in [
        ("/api/auth/verify-password", json!({"password": PASSWORD})),
        ("/api/auth/change-password", json!({"currentPassword": PASSWORD, "newPassword": "a new password"})),
        ("/api/auth/delete-user", json!({"password": PASSWORD})),
    ] {
        ada.post(path, body).refused(429, "TOO_MANY_ATTEMPTS");
    }
    assert_ne!(ada.session(), Value::Null, "the session itself lives on");
    // Another account has a count of its own.
    Browser::new(&server).sign_up("bob@example.com");
    sign_in(&server, "bob@example.com", PASSWORD).expect(200);
}
on_both_engines!(guessing_with_a_session_is_counted_with_the_sign_ins);

//! Usernames: one holder each, and no second purse of guesses.

use serde_json::{Value, json};

use crate::harness::{Browser, Engine, PASSWORD, Response, Server, in_parallel};
use crate::on_both_engines;

const ON: &str = "[methods]\nusername = true\n";

fn sign_up(server: &Server, email: &str, username: &str) -> (Browser, Response) {
    let mut browser = Browser::new(server);
    let body = json!({"name": "Test Person", "email": email, "password": PASSWORD, "username": username});
    let answer = browser.post("/api/auth/sign-up/email", body);
    (browser, answer)
}

fn sign_in(server: &Server, username: &str, password: &str) -> Response {
    let body = json!({"username": username, "password": password});
    Browser::new(server).post("/api/auth/sign-in/username", body)
}

fn of_fifty_who_want_a_name_one_gets_it(engine: Engine) {
    let server = Server::with(engine, ON);
    // Fewer than the hashing pool takes at once.
    let answers = in_parallel(20, |number| {
        let name = if number % 2 == 0 { "The_Name" } else { "the_name" };
        sign_up(&server, &format!("ada{number}@example.com"), name).1
    });
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((answer.status, answer.code().as_str()), (400, "USERNAME_IS_ALREADY_TAKEN"));
    }
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM users"), 1);
    let people: Vec<Browser> = (0..50)
        .map(|number| {
            let mut browser = Browser::new(&server);
            browser.sign_up(&format!("bob{number}@example.com"));
            browser
        })
        .collect();
    let wants = json!({"username": "another"});
    let answers =
        in_parallel(50, |number| people[number].clone().post("/api/auth/update-user", wants.clone()).status);
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1);
    assert!(answers.iter().all(|status| [200, 400].contains(status)), "{answers:?}");
}
on_both_engines!(of_fifty_who_want_a_name_one_gets_it);

/// S-7: a second name for an account gives a guesser no second count.
fn guesses_by_name_and_by_address_are_counted_together(engine: Engine) {
    let server = Server::with(engine, ON);
    sign_up(&server, "ada@example.com", "ada").1.expect(200);
    for _ in 0..5 {
        sign_in(&server, "ADA", "a wrong password").refused(401, "INVALID_USERNAME_OR_PASSWORD");
        Browser::new(&server).try_sign_in("ada@example.com", "a wrong password").expect(401);
    }
    sign_in(&server, "ada", PASSWORD).refused(429, "TOO_MANY_ATTEMPTS");
    Browser::new(&server).try_sign_in("ada@example.com", PASSWORD).refused(429, "TOO_MANY_ATTEMPTS");
}
on_both_engines!(guesses_by_name_and_by_address_are_counted_together);

fn an_unknown_name_is_answered_as_a_wrong_password_and_costs_as_much(engine: Engine) {
    let server = Server::with(engine, ON);
    sign_up(&server, "ada@example.com", "ada").1.expect(200);
    let before = server.passwords_hashed();
    let known = sign_in(&server, "ada", "a wrong password");
    let between = server.passwords_hashed();
    let unknown = sign_in(&server, "nobody", "a wrong password");
    let after = server.passwords_hashed();
    assert_eq!((known.status, known.text()), (unknown.status, unknown.text()));
    assert_eq!((between - before, after - between), (1, 1));
    for _ in 0..9 {
        sign_in(&server, "nobody", "a wrong password").expect(401);
    }
    sign_in(&server, "nobody", "a wrong password").expect(429);
}
on_both_engines!(an_unknown_name_is_answered_as_a_wrong_password_and_costs_as_much);

fn a_banned_user_is_not_let_in_by_name(engine: Engine) {
    let server = Server::with(engine, ON);
    sign_up(&server, "ada@example.com", "ada").1.expect(200);
    server.command(&["user", "ban", "ada@example.com"]).expect_done();
    sign_in(&server, "ada", PASSWORD).refused(403, "BANNED_USER");
    sign_in(&server, "ada", "a wrong password").expect(401);
}
on_both_engines!(a_banned_user_is_not_let_in_by_name);

fn where_passwords_are_off_names_open_nothing(engine: Engine) {
    let server = Server::with(engine, "[methods]\nusername = true\n[email_password]\nenabled = false\n");
    sign_in(&server, "ada", PASSWORD).refused(400, "EMAIL_PASSWORD_DISABLED");
}
on_both_engines!(where_passwords_are_off_names_open_nothing);

fn where_names_are_off_they_are_ignored(engine: Engine) {
    let server = Server::start(engine);
    let (mut browser, answer) = sign_up(&server, "ada@example.com", "a b c");
    assert_eq!(answer.expect(200).json()["user"]["username"], Value::Null);
    let answer = browser.post("/api/auth/update-user", json!({"username": "ada", "name": "Ada"})).expect(200);
    assert_eq!(answer.json(), json!({"status": true}));
    assert_eq!(browser.session()["user"]["username"], Value::Null);
}
on_both_engines!(where_names_are_off_they_are_ignored);

/// A sign-up that tells nothing of a taken address answers with the name that was sent, and takes none.
fn a_taken_address_looks_like_a_free_one_with_a_name_too(engine: Engine) {
    let server = Server::with(engine, "[methods]\nusername = true\n[email_password]\nauto_sign_in = false\n");
    sign_up(&server, "ada@example.com", "ada").1.expect(200);
    let shape = |answer: Response| {
        let user = answer.expect(200).json()["user"].clone();
        (user["username"].clone(), user["displayUsername"].clone(), user["role"].clone())
    };
    let taken = shape(sign_up(&server, "ada@example.com", "Other").1);
    assert_eq!(taken, shape(sign_up(&server, "bob@example.com", "Other").1));
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM users WHERE username = 'other'"), 1);
}
on_both_engines!(a_taken_address_looks_like_a_free_one_with_a_name_too);

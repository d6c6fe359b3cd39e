//! Signing in and up: what the cookies are, whose session it is, who may not come in.

use serde_json::{Value, json};

use crate::harness::database::quoted;
use crate::harness::{Browser, Engine, PASSWORD, Request, Response, Server, in_parallel};
use crate::on_both_engines;

const COOKIE: &str = "better-auth.session_token";

/// The line that sets a cookie, in its parts.
#[track_caller]
fn cookie_line(response: &Response, name: &str) -> Vec<String> {
    let line = response.all("Set-Cookie").find(|line| line.starts_with(&format!("{name}=")));
    let line = line.unwrap_or_else(|| panic!("no {name} in {:?}", response.headers));
    line.split("; ").map(str::to_owned).collect()
}

fn sign_in_body(email: &str) -> Value {
    json!({"email": email, "password": PASSWORD})
}

/// O-13.
fn cookies_on_https_are_secure_and_bound_to_the_host(engine: Engine) {
    let server = Server::with(engine, "base_url = \"https://auth.example\"\n");
    let mut browser = Browser::new(&server);
    browser.sign_up("ada@example.com");
    let answer =
        Browser::new(&server).post("/api/auth/sign-in/email", sign_in_body("ada@example.com")).expect(200);
    let lines: Vec<&str> = answer.all("Set-Cookie").collect();
    let named = lines.iter().filter(|line| line.contains("session_token=")).count();
    assert_eq!(named, 1, "{lines:?}");
    let parts = cookie_line(&answer, "__Secure-better-auth.session_token");
    assert_eq!(parts[1..], ["Max-Age=604800", "Path=/", "HttpOnly", "Secure", "SameSite=Lax"]);
    let value = parts[0].split_once('=').map(|(_, value)| value.to_owned()).expect("a value");
    let token = value.split('.').next().expect("a token");
    // 32 letters and digits are 190 bits.
    assert!(token.len() >= 32 && token.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{token}");
    assert!(value.ends_with("%3D"), "a signature with its padding: {value}");
    for line in lines {
        assert!(line.contains("; Secure"), "{line}");
        let for_scripts = line.starts_with("better-auth.last_used_login_method=email;");
        assert_eq!(line.contains("; HttpOnly"), !for_scripts, "{line}");
    }
    assert!(answer.header("Strict-Transport-Security").is_some());
    // Where cookies are secure the plain name means nothing.
    let plain = Request::get("/api/auth/get-session").header("Cookie", &format!("{COOKIE}={value}"));
    assert_eq!(plain.send(server.address).expect("an answer").expect(200).json(), Value::Null);
}
on_both_engines!(cookies_on_https_are_secure_and_bound_to_the_host);

fn cookies_follow_their_settings(engine: Engine) {
    let server = Server::with(
        engine,
        "base_url = \"https://auth.example.com\"\n\
         [cookies]\nprefix = \"shop\"\ndomain = \"example.com\"\nsame_site = \"strict\"\n\
         [session]\nexpires_in = \"2h\"\nupdate_age = \"1h\"\n",
    );
    let mut browser = Browser::new(&server);
    let body = json!({"name": "Ada", "email": "ada@example.com", "password": PASSWORD});
    let answer = browser.post("/api/auth/sign-up/email", body).expect(200);
    let parts = cookie_line(&answer, "__Secure-shop.session_token");
    let expected = ["Max-Age=7200", "Domain=example.com", "Path=/", "HttpOnly", "Secure", "SameSite=Strict"];
    assert_eq!(parts[1..], expected);
    assert!(answer.all("Set-Cookie").all(|line| line.contains("shop.")), "{:?}", answer.headers);
    assert_eq!(browser.session()["user"]["email"], "ada@example.com");
    let out = browser.post("/api/auth/sign-out", json!({})).expect(200);
    let cleared = cookie_line(&out, "__Secure-shop.session_token");
    assert_eq!(cleared[..3], ["__Secure-shop.session_token=", "Max-Age=0", "Domain=example.com"]);
}
on_both_engines!(cookies_follow_their_settings);

fn secure_cookies_can_be_forced_behind_a_plain_address(engine: Engine) {
    let server = Server::with(engine, "[cookies]\nsecure = \"true\"\n");
    let mut browser = Browser::new(&server);
    browser.sign_up("ada@example.com");
    assert!(browser.cookie("__Secure-better-auth.session_token").is_some());
    assert_eq!(browser.cookie(COOKIE), None);
}
on_both_engines!(secure_cookies_can_be_forced_behind_a_plain_address);

/// O-15: a cookie that was there before does not become the session of who signs in.
fn a_session_chosen_beforehand_is_not_adopted(engine: Engine) {
    let server = Server::start(engine);
    Browser::new(&server).sign_up("victim@example.com");
    let mut attacker = Browser::new(&server);
    attacker.sign_up("attacker@example.com");
    let planted = attacker.cookie(COOKIE).expect("signed in").to_owned();
    let unsigned = "chosenchosenchosenchosenchosen12";

    for value in [unsigned, &planted] {
        let mut victim = Browser::new(&server);
        victim.set_cookie(COOKIE, value);
        let token = victim.sign_in("victim@example.com")["token"].clone();
        let held = victim.cookie(COOKIE).expect("signed in").to_owned();
        assert_ne!(held, value);
        assert!(!value.starts_with(token.as_str().expect("a token")));
        assert_eq!(victim.session()["user"]["email"], "victim@example.com");
    }
    assert_eq!(attacker.session()["user"]["email"], "attacker@example.com");
    let mut probe = Browser::new(&server);
    probe.set_cookie(COOKIE, unsigned);
    assert_eq!(probe.session(), Value::Null);
    probe.set_cookie(COOKIE, &planted);
    assert_eq!(probe.session()["user"]["email"], "attacker@example.com");
}
on_both_engines!(a_session_chosen_beforehand_is_not_adopted);

fn two_sign_ins_have_two_tokens(engine: Engine) {
    let server = Server::start(engine);
    let mut browser = Browser::new(&server);
    let first = browser.sign_up("ada@example.com")["token"].clone();
    let second = Browser::new(&server).sign_in("ada@example.com")["token"].clone();
    let third = Browser::new(&server).sign_in("ADA@Example.COM")["token"].clone();
    assert!(first != second && second != third && first != third);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM sessions"), 3);
}
on_both_engines!(two_sign_ins_have_two_tokens);

fn a_session_not_to_be_remembered_ends_with_the_browser(engine: Engine) {
    let server = Server::start(engine);
    Browser::new(&server).sign_up("ada@example.com");
    let mut browser = Browser::new(&server);
    let body = json!({"email": "ada@example.com", "password": PASSWORD, "rememberMe": false});
    let answer = browser.post("/api/auth/sign-in/email", body).expect(200);
    let line = cookie_line(&answer, COOKIE).join("; ");
    assert!(!line.contains("Max-Age"), "{line}");
    assert!(!cookie_line(&answer, "better-auth.dont_remember").join("; ").contains("Max-Age"));
    let id = browser.session()["session"]["id"].as_str().expect("signed in").to_owned();
    let life = |server: &Server| {
        server
            .database
            .integer(&format!("SELECT expires_at - created_at FROM sessions WHERE id = {}", quoted(&id)))
    };
    assert_eq!(life(&server), 24 * 3600 * 1000);
    // A remembered session would be extended by now; this one is not, and its cookie is not sent again.
    server.database.shift("sessions", "expires_at", -3600 * 1000, &format!("id = {}", quoted(&id)));
    let before = life(&server);
    assert_eq!(browser.get("/api/auth/get-session").expect(200).all("Set-Cookie").count(), 0);
    assert_eq!(life(&server), before);
    // A later sign-in that is to be remembered clears the mark.
    let remembered = browser.post("/api/auth/sign-in/email", sign_in_body("ada@example.com")).expect(200);
    assert!(cookie_line(&remembered, COOKIE).contains(&"Max-Age=604800".to_owned()));
    assert_eq!(browser.cookie("better-auth.dont_remember"), None);
}
on_both_engines!(a_session_not_to_be_remembered_ends_with_the_browser);

fn forms_sign_in_and_flags_in_forms_are_no_flags(engine: Engine) {
    let server = Server::start(engine);
    Browser::new(&server).sign_up("ada@example.com");
    let form = |text: &str| {
        let request = Request::new("POST", "/api/auth/sign-in/email");
        Browser::new(&server)
            .send(request.header("Content-Type", "application/x-www-form-urlencoded").body(text))
    };
    let fields = "email=ada%40example.com&password=correct+horse+battery+staple";
    assert_eq!(form(fields).expect(200).json()["user"]["email"], "ada@example.com");
    form(&format!("password=wrong&{fields}")).expect(200);
    form(&format!("{fields}&rememberMe=false")).refused(400, "VALIDATION_ERROR");
    form("email=ada%40example.com").refused(400, "VALIDATION_ERROR");
    let elsewhere = Request::new("POST", "/api/auth/change-password");
    let elsewhere = elsewhere.header("Content-Type", "application/x-www-form-urlencoded").body(fields);
    Browser::new(&server).send(elsewhere).refused(415, "UNSUPPORTED_MEDIA_TYPE");
}
on_both_engines!(forms_sign_in_and_flags_in_forms_are_no_flags);

fn names_of_all_scripts_come_back_as_they_were(engine: Engine) {
    let server = Server::start(engine);
    let names =
        ["Zoë", "李小龍", "👩‍👩‍👧‍👦", "a\u{301}", "\u{202e}abc", "'; DROP TABLE users; --", "<b>x</b>", " ", ""];
    for (number, name) in names.into_iter().enumerate() {
        let mut browser = Browser::new(&server);
        let body = json!({"name": name, "email": format!("n{number}@example.com"), "password": PASSWORD});
        let made = browser.post("/api/auth/sign-up/email", body).expect(200).json();
        assert_eq!(made["user"]["name"], name);
        assert_eq!(browser.session()["user"]["name"], name);
    }
}
on_both_engines!(names_of_all_scripts_come_back_as_they_were);

fn one_address_signed_up_by_many_at_once_is_one_account(engine: Engine) {
    let server = Server::start(engine);
    let answers = in_parallel(12, |number| {
        let body =
            json!({"name": "N", "email": "Ada@example.com", "password": format!("{PASSWORD} {number}")});
        Browser::new(&server).post("/api/auth/sign-up/email", body)
    });
    let winners: Vec<usize> = (0..answers.len()).filter(|number| answers[*number].status == 200).collect();
    assert_eq!(winners.len(), 1, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
    for answer in &answers {
        assert!(
            answer.status == 200 || answer.code() == "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL",
            "{answer:?}"
        );
    }
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM users"), 1);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM accounts"), 1);
    let password = format!("{PASSWORD} {}", winners[0]);
    Browser::new(&server).try_sign_in("ada@example.com", &password).expect(200);
}
on_both_engines!(one_address_signed_up_by_many_at_once_is_one_account);

fn a_banned_user_stays_out_until_the_ban_ends(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = Browser::new(&server);
    ada.sign_up("ada@example.com");
    server.command(&["user", "ban", "ada@example.com", "--until", "1d"]).expect_done();
    assert_eq!(ada.session(), Value::Null);
    Browser::new(&server).try_sign_in("ada@example.com", PASSWORD).refused(403, "BANNED_USER");
    // Who does not know the password does not learn of the ban.
    let guess = Browser::new(&server).try_sign_in("ada@example.com", "some other password");
    guess.refused(401, "INVALID_EMAIL_OR_PASSWORD");
    server.database.shift("users", "ban_expires", -2 * 24 * 3600 * 1000, "banned");
    let back = Browser::new(&server).try_sign_in("ada@example.com", PASSWORD).expect(200).json();
    assert_eq!(back["user"]["banned"], false);
}
on_both_engines!(a_banned_user_stays_out_until_the_ban_ends);

/// Sign-ins that are under way when an operator bans the user end with a dead session, or with none.
fn no_sign_in_outruns_a_ban(engine: Engine) {
    let server = Server::start(engine);
    Browser::new(&server).sign_up("ada@example.com");
    for _ in 0..3 {
        let held = in_parallel(5, |number| {
            if number == 0 {
                server.command(&["user", "ban", "ada@example.com"]).expect_done();
                return Vec::new();
            }
            let mut held = Vec::new();
            loop {
                let mut browser = Browser::new(&server);
                match browser.try_sign_in("ada@example.com", PASSWORD).status {
                    200 => held.push(browser),
                    403 => return held,
                    other => panic!("status {other}"),
                }
            }
        });
        for mut browser in held.into_iter().flatten() {
            assert_eq!(browser.session(), Value::Null, "a session outlived the ban");
        }
        assert_eq!(server.database.integer("SELECT COUNT(*) FROM sessions"), 0);
        server.database.execute("UPDATE users SET banned = FALSE");
    }
}
on_both_engines!(no_sign_in_outruns_a_ban);

/// An operator's account takes part in everything, and one that an old hash guards is taken over at its next sign-in.
fn an_outdated_hash_opens_once_and_is_replaced(engine: Engine) {
    let server = Server::start(engine);
    Browser::new(&server).sign_up("ada@example.com");
    let old = include_str!("../../../identity/src/testdata/scrypt.txt").trim();
    server.database.execute(&format!("UPDATE accounts SET password_hash = {}", quoted(old)));
    Browser::new(&server).try_sign_in("ada@example.com", "correct-horse-8").expect(401);
    assert_eq!(server.database.value("SELECT password_hash FROM accounts").as_deref(), Some(old));
    Browser::new(&server).try_sign_in("ada@example.com", "correct-horse-9").expect(200);
    let new = server.database.value("SELECT password_hash FROM accounts").expect("a hash");
    assert!(new.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{new}");
    Browser::new(&server).try_sign_in("ada@example.com", "correct-horse-9").expect(200);
}
on_both_engines!(an_outdated_hash_opens_once_and_is_replaced);

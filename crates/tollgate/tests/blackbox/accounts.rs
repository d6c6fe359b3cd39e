//! One's own account: what may be changed and what only the server sets, how it is deleted, and what an operator does
//! to it while sessions live.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::database::quoted;
use crate::harness::{Browser, Engine, PASSWORD, Server};
use crate::on_both_engines;

const WITHIN: Duration = Duration::from_secs(20);
const COOKIE: &str = "better-auth.session_token";

fn signed_up(server: &Server, email: &str) -> Browser {
    let mut browser = Browser::new(server);
    browser.sign_up(email);
    browser
}

fn count(server: &Server, table: &str) -> i64 {
    server.database.integer(&format!("SELECT COUNT(*) FROM {table}"))
}

/// Everything stored about a user but name and time of change.
fn stored(server: &Server, email: &str) -> Vec<Vec<Option<String>>> {
    server.database.rows(&format!(
        "SELECT id, email, email_verified, username, display_username, two_factor_enabled, is_anonymous, role, banned, \
         ban_reason, ban_expires, created_at FROM users WHERE email = {}",
        quoted(email)
    ))
}

/// What a client may want to be true about itself.
fn wishes() -> Vec<(&'static str, Value)> {
    vec![
        ("role", json!("admin")),
        ("emailVerified", json!(true)),
        ("email_verified", json!(true)),
        ("id", json!("x")),
        ("userId", json!("x")),
        ("credits", json!(999_999)),
        ("banned", json!(false)),
        ("banReason", json!("none")),
        ("banExpires", json!("2020-01-01T00:00:00.000Z")),
        ("createdAt", json!("2020-01-01T00:00:00.000Z")),
        ("updatedAt", json!("2020-01-01T00:00:00.000Z")),
        ("twoFactorEnabled", json!(true)),
        ("isAnonymous", json!(true)),
        ("stripeCustomerId", json!("cus_1")),
        ("__proto__", json!({"role": "admin"})),
        ("constructor", json!({"prototype": {"role": "admin"}})),
        ("data", json!({"role": "admin"})),
        ("user", json!({"role": "admin"})),
    ]
}

/// O-47.
fn fields_of_the_server_cannot_be_set(engine: Engine) {
    let server = Server::start(engine);
    signed_up(&server, "plain@example.com");
    let pattern = |email: &str| -> Vec<Option<String>> {
        // All but id, address and time.
        let row = stored(&server, email).remove(0);
        row[2..row.len() - 1].to_vec()
    };
    let plain = pattern("plain@example.com");
    let mut ada = signed_up(&server, "ada@example.com");
    let before = stored(&server, "ada@example.com");
    for (number, (field, value)) in wishes().into_iter().enumerate() {
        let email = format!("u{number}@example.com");
        let mut body = json!({"name": "N", "email": email, "password": PASSWORD});
        body[field] = value.clone();
        let made = Browser::new(&server).post("/api/auth/sign-up/email", body);
        match made.status {
            200 => {
                assert_eq!(pattern(&email), plain, "{field}");
                assert_ne!(made.json()["user"]["id"], "x");
                assert!(!made.json()["user"]["createdAt"].as_str().expect("a time").starts_with("2020"));
            }
            _ => drop(made.refused(400, "FIELD_NOT_ALLOWED")),
        }
        for body in [json!({field: value}), json!({"name": "New name", field: value})] {
            let answer = ada.post("/api/auth/update-user", body);
            assert!(matches!(answer.status, 200 | 400), "{field}: {}", answer.text());
            assert_eq!(stored(&server, "ada@example.com"), before, "{field}");
        }
        let answer = ada.post("/api/auth/update-session", json!({field: value}));
        assert!(answer.status == 400, "{field}: {}", answer.text());
    }
    let mail = ada.post("/api/auth/update-user", json!({"email": "new@example.com", "name": "x"}));
    mail.refused(400, "EMAIL_CAN_NOT_BE_UPDATED");
    assert_eq!(stored(&server, "ada@example.com"), before);
}
on_both_engines!(fields_of_the_server_cannot_be_set);

fn name_and_picture_are_ones_own(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = signed_up(&server, "ada@example.com");
    let mut bob = signed_up(&server, "bob@example.com");
    let bobs_id = bob.session()["user"]["id"].clone();
    let body =
        json!({"name": "Countess", "image": "https://app.example/a.png", "id": bobs_id, "userId": bobs_id});
    ada.post("/api/auth/update-user", body).expect(200);
    let user = ada.session()["user"].clone();
    assert_eq!(
        (user["name"].clone(), user["image"].clone()),
        (json!("Countess"), json!("https://app.example/a.png"))
    );
    assert_eq!(bob.session()["user"]["name"], "Test Person");
    ada.post("/api/auth/update-user", json!({"image": null})).expect(200);
    assert_eq!(ada.session()["user"]["image"], Value::Null);
    assert_eq!(ada.session()["user"]["name"], "Countess");
    for wrong in [
        json!({}),
        json!({"name": 1}),
        json!({"name": null}),
        json!({"image": 1}),
        json!([]),
        json!("x"),
        json!(null),
    ] {
        ada.post("/api/auth/update-user", wrong.clone()).expect(400);
    }
    Browser::new(&server).post("/api/auth/update-user", json!({"name": "x"})).refused(401, "UNAUTHORIZED");
}
on_both_engines!(name_and_picture_are_ones_own);

fn the_last_way_in_cannot_be_removed_and_others_are_out_of_reach(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = signed_up(&server, "ada@example.com");
    let mut bob = signed_up(&server, "bob@example.com");
    let account =
        |browser: &mut Browser| browser.get("/api/auth/list-accounts").expect(200).json()[0].clone();
    let (adas, bobs) = (account(&mut ada), account(&mut bob));
    assert_eq!(
        (adas["providerId"].as_str(), adas["accountId"].clone()),
        (Some("credential"), adas["userId"].clone())
    );
    assert!(!adas.to_string().contains("argon2"), "{adas}");
    let last = ada.post("/api/auth/unlink-account", json!({"accountId": adas["id"]}));
    last.refused(400, "FAILED_TO_UNLINK_LAST_ACCOUNT");
    let user = adas["userId"].as_str().expect("an id");
    server.database.execute(&format!(
        "INSERT INTO accounts (id, user_id, provider_id, account_id, created_at, updated_at) \
         VALUES ('second', {}, 'elsewhere', 'subject-1', 9999999999999, 1)",
        quoted(user)
    ));
    ada.post("/api/auth/unlink-account", json!({"accountId": bobs["id"]})).refused(400, "ACCOUNT_NOT_FOUND");
    ada.post("/api/auth/unlink-account", json!({"accountId": "second"})).expect(200);
    assert_eq!(count(&server, "accounts"), 2);
}
on_both_engines!(the_last_way_in_cannot_be_removed_and_others_are_out_of_reach);

/// O-20: with live sessions, over a restart, by ban and by deletion.
fn banned_and_deleted_users_are_out_at_once_and_for_good(engine: Engine) {
    let mut server = Server::start(engine);
    for (command, more) in [("ban", None), ("delete", Some("--yes"))] {
        let email = format!("{command}@example.com");
        let mut devices = vec![signed_up(&server, &email)];
        for _ in 0..2 {
            let mut device = Browser::new(&server);
            device.sign_in(&email);
            devices.push(device);
        }
        let bystander = signed_up(&server, &format!("by.{command}@example.com"));
        let token = devices[0].session()["session"]["token"].as_str().expect("signed in").to_owned();
        let mut program = Browser::new(&server);
        program.headers.push(("Authorization".into(), format!("Bearer {token}")));
        devices.push(program);
        for device in &mut devices {
            assert_ne!(device.session(), Value::Null);
        }
        let arguments: Vec<&str> = ["user", command, &email].into_iter().chain(more).collect();
        server.command(&arguments).expect_done();
        for restart in [false, true] {
            if restart {
                let (status, _) = server.stop();
                assert!(status.success());
                server.restart();
            }
            for device in &mut devices {
                // Each on a copy: the first answer clears the cookies.
                assert_eq!(device.clone().session(), Value::Null, "{command}, restart: {restart}");
                device.clone().get("/api/auth/list-accounts").refused(401, "UNAUTHORIZED");
                let mut multi = device.clone();
                multi.forget_cookie(COOKIE);
                multi.headers.clear();
                let held = multi.get("/api/auth/multi-session/list-device-sessions").expect(200).json();
                assert_eq!(held, json!([]), "{command}, restart: {restart}");
            }
            assert_eq!(bystander.clone().session()["user"]["email"], format!("by.{command}@example.com"));
        }
        let again = Browser::new(&server).try_sign_in(&email, PASSWORD);
        if command == "ban" {
            again.refused(403, "BANNED_USER");
        } else {
            again.refused(401, "INVALID_EMAIL_OR_PASSWORD");
        }
    }
    // Somebody else may take the address; nothing of the former owner is left to them.
    let mut next = signed_up(&server, "delete@example.com");
    assert_eq!(next.get("/api/auth/list-sessions").expect(200).json().as_array().map(Vec::len), Some(1));
}
on_both_engines!(banned_and_deleted_users_are_out_at_once_and_for_good);

/// A ban is seen by the other node, too.
#[test]
fn a_ban_reaches_every_node() {
    let first = Server::start(Engine::Postgres);
    let second = Server::second_node(&first);
    let mut here = signed_up(&first, "ada@example.com");
    let mut there = here.at(&second);
    assert_ne!((here.session(), there.session()), (Value::Null, Value::Null));
    second.command(&["user", "ban", "ada@example.com"]).expect_done();
    assert_eq!((here.session(), there.session()), (Value::Null, Value::Null));
}

/// Links that were mailed before a ban or a deletion open nothing after it.
fn open_links_of_a_deleted_user_are_worthless(engine: Engine) {
    let server = Server::start(engine);
    signed_up(&server, "ada@example.com");
    let mut anybody = Browser::new(&server);
    anybody.post("/api/auth/request-password-reset", json!({"email": "ada@example.com"})).expect(200);
    let reset = server.mail.take("ada@example.com", WITHIN).link();
    anybody.post("/api/auth/send-verification-email", json!({"email": "ada@example.com"})).expect(200);
    let verify = server.mail.take("ada@example.com", WITHIN).link();
    server.command(&["user", "delete", "ada@example.com", "--yes"]).expect_done();
    signed_up(&server, "ada@example.com");
    let token =
        reset.split("/reset-password/").nth(1).and_then(|rest| rest.split('?').next()).expect("a token");
    let body = json!({"newPassword": "a password of the former owner", "token": token});
    anybody.post("/api/auth/reset-password", body).refused(400, "INVALID_TOKEN");
    assert_eq!(anybody.follow(&verify).expect(302).header("Location"), Some("/?error=INVALID_TOKEN"));
    Browser::new(&server).try_sign_in("ada@example.com", PASSWORD).expect(200);
}
on_both_engines!(open_links_of_a_deleted_user_are_worthless);

fn an_account_is_deleted_with_a_password_or_a_fresh_session(engine: Engine) {
    let server = Server::with(engine, "[accounts]\ndelete_user = true\n");
    let mut ada = signed_up(&server, "ada@example.com");
    let mut elsewhere = Browser::new(&server);
    elsewhere.sign_in("ada@example.com");
    ada.post("/api/auth/delete-user", json!({"password": "not the password"}))
        .refused(400, "INVALID_PASSWORD");
    ada.post("/api/auth/delete-user", json!({"token": "x".repeat(32)})).refused(404, "INVALID_TOKEN");
    assert_eq!(count(&server, "users"), 1);
    let gone = ada.post("/api/auth/delete-user", json!({"password": PASSWORD})).expect(200);
    assert_eq!(gone.json(), json!({"success": true, "message": "User deleted"}));
    assert_eq!(ada.cookie(COOKIE), None);
    assert_eq!(elsewhere.session(), Value::Null);
    for table in ["users", "accounts", "sessions", "one_time_values"] {
        assert_eq!(count(&server, table), 0, "{table}");
    }
    let mut bob = signed_up(&server, "bob@example.com");
    bob.post("/api/auth/delete-user", json!({})).expect(200);
    assert_eq!(count(&server, "users"), 0);

    let off = Server::start(engine);
    let mut eve = signed_up(&off, "eve@example.com");
    assert_eq!(eve.post("/api/auth/delete-user", json!({"password": PASSWORD})).expect(404).body, b"");
    eve.get("/api/auth/delete-user/callback?token=x").refused(404, "NOT_FOUND");
    assert_eq!(count(&off, "users"), 1);
}
on_both_engines!(an_account_is_deleted_with_a_password_or_a_fresh_session);

fn a_deletion_by_mail_needs_the_owners_browser_and_works_once(engine: Engine) {
    let server = Server::with(engine, "[accounts]\ndelete_user = true\ndelete_needs_mail = true\n");
    let mut ada = signed_up(&server, "ada@example.com");
    let mut bob = signed_up(&server, "bob@example.com");
    let ask = |browser: &mut Browser| {
        let body = json!({"password": PASSWORD, "callbackURL": "/bye"});
        let asked = browser.post("/api/auth/delete-user", body).expect(200).json();
        assert_eq!(asked, json!({"success": true, "message": "Verification email sent"}));
        server.mail.take("ada@example.com", WITHIN).link()
    };
    let link = ask(&mut ada);
    assert_ne!(ada.session(), Value::Null);
    Browser::new(&server).follow(&link).refused(404, "FAILED_TO_GET_USER_INFO");
    bob.follow(&link).refused(404, "INVALID_TOKEN");
    assert_eq!(count(&server, "users"), 2);
    let link = ask(&mut ada);
    server.database.shift("one_time_values", "expires_at", -24 * 3600 * 1000, "purpose = 'delete-user'");
    ada.follow(&link).refused(404, "INVALID_TOKEN");
    let link = ask(&mut ada);
    assert_eq!(ada.follow(&link).expect(302).header("Location"), Some("/bye"));
    assert_eq!((ada.session(), count(&server, "users")), (Value::Null, 1));
    bob.follow(&link).refused(404, "INVALID_TOKEN");
    assert_eq!(bob.session()["user"]["email"], "bob@example.com");
}
on_both_engines!(a_deletion_by_mail_needs_the_owners_browser_and_works_once);

fn closed_doors_stay_closed(engine: Engine) {
    let no_sign_up = Server::with(engine, "[email_password]\nsign_up = false\n");
    let body = json!({"name": "N", "email": "n@example.com", "password": PASSWORD});
    let refused = Browser::new(&no_sign_up).post("/api/auth/sign-up/email", body.clone());
    refused.refused(400, "EMAIL_PASSWORD_SIGN_UP_DISABLED");
    assert_eq!(count(&no_sign_up, "users"), 0);
    let nothing = Server::with(engine, "[email_password]\nenabled = false\n");
    Browser::new(&nothing).post("/api/auth/sign-up/email", body).expect(400);
    let refused = Browser::new(&nothing).try_sign_in("n@example.com", PASSWORD);
    refused.refused(400, "EMAIL_PASSWORD_DISABLED");
    Browser::new(&nothing)
        .post("/api/auth/request-password-reset", json!({"email": "n@example.com"}))
        .expect(400);
    assert_eq!(nothing.passwords_hashed(), 0);
}
on_both_engines!(closed_doors_stay_closed);

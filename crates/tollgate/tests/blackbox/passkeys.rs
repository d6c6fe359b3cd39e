//! Passkeys: what an authenticator signs opens a session, once, for its owner, on our site.

use serde_json::{Value, json};

use crate::harness::authenticator::{App, Authenticator, add_passkey, sign_in_with};
use crate::harness::database::quoted;
use crate::harness::{Browser, Engine, PASSWORD, Request, Response, Server, in_parallel};
use crate::on_both_engines;

const ADA: &str = "ada@example.com";
/// Browsers make no passkeys for addresses of digits.
const SITE: &str = "base_url = \"https://auth.example.com\"\ntrusted_origins = [\"https://app.example.com\", \"https://app.other.test\"]\n";
const ORIGIN: &str = "https://auth.example.com";
const SESSION: &str = "__Secure-better-auth.session_token";

fn start(engine: Engine) -> Server {
    Server::with(engine, SITE)
}

fn call(browser: &mut Browser, path: &str, body: Value) -> Response {
    browser.post(&format!("/api/auth/passkey/{path}"), body)
}

fn options(browser: &mut Browser, path: &str) -> Value {
    browser.get(&format!("/api/auth/passkey/{path}")).expect(200).json()
}

fn signed_up(server: &Server, email: &str) -> Browser {
    let mut browser = Browser::new(server);
    browser.sign_up(email);
    browser
}

/// Somebody with a passkey, in whose browser the session is.
#[track_caller]
fn owner(server: &Server, email: &str) -> (Browser, Authenticator, Value) {
    let mut browser = signed_up(server, email);
    let device = Authenticator::new(ORIGIN);
    let made = add_passkey(&mut browser, &device).expect(200).json();
    (browser, device, made)
}

fn list(browser: &mut Browser) -> Vec<Value> {
    let found = browser.get("/api/auth/passkey/list-user-passkeys").expect(200).json();
    found.as_array().expect("a list").clone()
}

fn a_passkey_of_each_kind_signs_in(engine: Engine) {
    let server = start(engine);
    for (email, mut device) in [
        (ADA, Authenticator::new(ORIGIN)),
        ("bob@example.com", Authenticator::with_ed25519("https://app.example.com")),
    ] {
        device.rp_id = "auth.example.com".into();
        let mut browser = signed_up(&server, email);
        if device.origin != ORIGIN {
            // That page's host is not below the one that keys are made for.
            add_passkey(&mut browser, &device).refused(500, "FAILED_TO_VERIFY_REGISTRATION");
            device.origin = ORIGIN.into();
        }
        let made = add_passkey(&mut browser, &device).expect(200).json();
        assert_eq!((&made["credentialID"], &made["name"]), (&json!(device.credential_id()), &Value::Null));
        assert_eq!((&made["deviceType"], &made["backedUp"]), (&json!("singleDevice"), &json!(false)));
        let mut elsewhere = Browser::new(&server);
        let found = sign_in_with(&mut elsewhere, &mut device).expect(200);
        assert_eq!(found.json()["user"]["email"], email);
        assert_eq!(elsewhere.session()["user"]["email"], email);
        assert_eq!(elsewhere.cookie("better-auth.last_used_login_method"), Some("passkey"));
        assert_eq!(list(&mut browser)[0]["counter"], 1);
    }
}
on_both_engines!(a_passkey_of_each_kind_signs_in);

fn options_name_what_there_is_and_tell_strangers_nothing(engine: Engine) {
    let server = start(engine);
    let (mut browser, device, _) = owner(&server, ADA);
    let made =
        options(&mut browser, "generate-register-options?name=laptop&authenticatorAttachment=platform");
    assert_eq!(made["rp"], json!({"name": "Tollgate", "id": "auth.example.com"}));
    assert_eq!((&made["user"]["name"], &made["user"]["displayName"]), (&json!("laptop"), &json!(ADA)));
    assert_eq!(made["excludeCredentials"][0]["id"], json!(device.credential_id()));
    assert_eq!(made["authenticatorSelection"]["authenticatorAttachment"], "platform");
    let again = options(&mut browser, "generate-register-options");
    assert_ne!(made["challenge"], again["challenge"]);
    assert_ne!(made["user"]["id"], again["user"]["id"], "the handle names nobody");
    browser
        .get("/api/auth/passkey/generate-register-options?authenticatorAttachment=implant")
        .refused(400, "VALIDATION_ERROR");
    let own = options(&mut browser, "generate-authenticate-options");
    assert_eq!(own["allowCredentials"][0]["id"], json!(device.credential_id()));
    let strangers = options(&mut Browser::new(&server), "generate-authenticate-options");
    assert_eq!(strangers["allowCredentials"], Value::Null);
}
on_both_engines!(options_name_what_there_is_and_tell_strangers_nothing);

fn a_challenge_works_once_also_in_a_race(engine: Engine) {
    let server = start(engine);
    let (_, mut device, _) = owner(&server, ADA);
    let mut browser = Browser::new(&server);
    let asked = options(&mut browser, "generate-authenticate-options");
    let response = json!({"response": device.get(&asked)});
    let before = server.database.integer("SELECT COUNT(*) FROM sessions");
    let answers = in_parallel(50, |_| call(&mut browser.clone(), "verify-authentication", response.clone()));
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(passed, 1, "{:?}", answers.iter().map(Response::code).collect::<Vec<_>>());
    assert!(answers.iter().all(|answer| answer.status == 200 || answer.code() == "CHALLENGE_NOT_FOUND"));
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM sessions"), before + 1);
    // A wrong answer uses it up as well.
    let mut browser = Browser::new(&server);
    let asked = options(&mut browser, "generate-authenticate-options");
    let good = device.get(&asked);
    let mut bad = good.clone();
    bad["response"]["signature"] = "AAAA".into();
    call(&mut browser, "verify-authentication", json!({"response": bad}))
        .refused(401, "AUTHENTICATION_FAILED");
    call(&mut browser, "verify-authentication", json!({"response": good}))
        .refused(400, "CHALLENGE_NOT_FOUND");
}
on_both_engines!(a_challenge_works_once_also_in_a_race);

fn of_fifty_registrations_with_one_challenge_one_is_kept(engine: Engine) {
    let server = start(engine);
    let mut browser = signed_up(&server, ADA);
    let asked = options(&mut browser, "generate-register-options");
    let devices: Vec<Authenticator> = (0..50).map(|_| Authenticator::with_ed25519(ORIGIN)).collect();
    let answers = in_parallel(50, |number| {
        let body = json!({"response": devices[number].create(&asked)});
        call(&mut browser.clone(), "verify-registration", body)
    });
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert_eq!(list(&mut browser).len(), 1);
}
on_both_engines!(of_fifty_registrations_with_one_challenge_one_is_kept);

fn a_challenge_is_for_its_ceremony_its_browser_and_its_time(engine: Engine) {
    let server = start(engine);
    let (mut ada, mut device, _) = owner(&server, ADA);
    let mut bob = signed_up(&server, "bob@example.com");
    // For a sign-in, not for a registration, and the other way round.
    let asked = options(&mut ada, "generate-authenticate-options");
    let body = json!({"response": Authenticator::new(ORIGIN).create(&asked)});
    call(&mut ada, "verify-registration", body).refused(400, "CHALLENGE_NOT_FOUND");
    let asked = options(&mut ada, "generate-register-options");
    let body = json!({"response": device.get(&asked)});
    call(&mut ada, "verify-authentication", body).refused(400, "CHALLENGE_NOT_FOUND");
    // Another browser's challenge.
    let asked = options(&mut Browser::new(&server), "generate-authenticate-options");
    let mut browser = Browser::new(&server);
    options(&mut browser, "generate-authenticate-options");
    let body = json!({"response": device.get(&asked)});
    call(&mut browser, "verify-authentication", body.clone()).refused(400, "AUTHENTICATION_FAILED");
    call(&mut Browser::new(&server), "verify-authentication", body).refused(400, "CHALLENGE_NOT_FOUND");
    // Somebody else has signed in here meanwhile: the key would be made for the wrong one.
    let asked = options(&mut ada, "generate-register-options");
    let ticket = ada.cookie("__Secure-better-auth.better-auth-passkey").expect("a way back").to_owned();
    bob.set_cookie("__Secure-better-auth.better-auth-passkey", &ticket);
    let body = json!({"response": Authenticator::new(ORIGIN).create(&asked)});
    call(&mut bob, "verify-registration", body).refused(401, "YOU_ARE_NOT_ALLOWED_TO_REGISTER_THIS_PASSKEY");
    assert!(list(&mut bob).is_empty());
    // Five minutes are over.
    let mut browser = Browser::new(&server);
    let asked = options(&mut browser, "generate-authenticate-options");
    server.database.shift("one_time_values", "expires_at", -5 * 60_000, "purpose = 'passkey'");
    let body = json!({"response": device.get(&asked)});
    call(&mut browser, "verify-authentication", body).refused(400, "CHALLENGE_NOT_FOUND");
}
on_both_engines!(a_challenge_is_for_its_ceremony_its_browser_and_its_time);

fn what_was_made_for_another_site_is_refused(engine: Engine) {
    let server = start(engine);
    let (_, mut device, _) = owner(&server, ADA);
    let bent: [fn(&mut Authenticator); 6] = [
        |device| device.origin = "https://evil.test".into(),
        |device| device.origin = "https://auth.example.com.evil.test".into(),
        |device| device.origin = "http://auth.example.com".into(),
        // Trusted, but passkeys of ours do not reach there.
        |device| device.origin = "https://app.other.test".into(),
        |device| device.rp_id = "evil.test".into(),
        // Nobody touched it.
        |device| device.flags = 0,
    ];
    for bend in bent {
        let (origin, rp_id, flags) = (device.origin.clone(), device.rp_id.clone(), device.flags);
        bend(&mut device);
        let mut browser = Browser::new(&server);
        sign_in_with(&mut browser, &mut device).refused(400, "AUTHENTICATION_FAILED");
        assert_eq!(browser.session(), Value::Null);
        let mut other = Authenticator::new(ORIGIN);
        bend(&mut other);
        let mut browser =
            signed_up(&server, &format!("{}@example.com", other.credential_id().to_lowercase()));
        add_passkey(&mut browser, &other).refused(500, "FAILED_TO_VERIFY_REGISTRATION");
        assert!(list(&mut browser).is_empty());
        (device.origin, device.rp_id, device.flags) = (origin, rp_id, flags);
    }
    sign_in_with(&mut Browser::new(&server), &mut device).expect(200);
}
on_both_engines!(what_was_made_for_another_site_is_refused);

fn a_copy_of_a_key_is_told_by_its_counter(engine: Engine) {
    let server = start(engine);
    let (_, mut device, _) = owner(&server, ADA);
    sign_in_with(&mut Browser::new(&server), &mut device).expect(200);
    let mut copy = Browser::new(&server);
    let asked = options(&mut copy, "generate-authenticate-options");
    let body = json!({"response": device.get_again(&asked)});
    call(&mut copy, "verify-authentication", body).refused(400, "AUTHENTICATION_FAILED");
    assert_eq!(copy.session(), Value::Null);
    // Of answers with one counter that are judged at once, one passes.
    device.counter += 1;
    let mut browsers: Vec<(Browser, Value)> = (0..20)
        .map(|_| {
            let mut browser = Browser::new(&server);
            let asked = options(&mut browser, "generate-authenticate-options");
            (browser, json!({"response": device.get_again(&asked)}))
        })
        .collect();
    let answers = in_parallel(20, |number| {
        let (browser, body) = &browsers[number];
        call(&mut browser.clone(), "verify-authentication", body.clone())
    });
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    browsers.clear();
    sign_in_with(&mut Browser::new(&server), &mut device).expect(200);
}
on_both_engines!(a_copy_of_a_key_is_told_by_its_counter);

fn an_authenticator_that_does_not_count_signs_in_again_and_again(engine: Engine) {
    let server = start(engine);
    let (_, device, _) = owner(&server, ADA);
    for _ in 0..3 {
        let mut browser = Browser::new(&server);
        let asked = options(&mut browser, "generate-authenticate-options");
        call(&mut browser, "verify-authentication", json!({"response": device.get_again(&asked)}))
            .expect(200);
    }
}
on_both_engines!(an_authenticator_that_does_not_count_signs_in_again_and_again);

/// GHSA-4vcf-q4xf-f48m.
fn only_the_owner_renames_and_removes_a_passkey(engine: Engine) {
    let server = start(engine);
    let (mut ada, mut device, made) = owner(&server, ADA);
    let mut bob = signed_up(&server, "bob@example.com");
    let id = &made["id"];
    let refused = call(&mut bob, "delete-passkey", json!({"id": id})).expect(401);
    assert!(refused.body.is_empty(), "{}", refused.text());
    call(&mut bob, "update-passkey", json!({"id": id, "name": "mine"}))
        .refused(401, "YOU_ARE_NOT_ALLOWED_TO_REGISTER_THIS_PASSKEY");
    for path in ["delete-passkey", "update-passkey"] {
        call(&mut bob, path, json!({"id": "absent", "name": "x"})).refused(404, "PASSKEY_NOT_FOUND");
        call(&mut Browser::new(&server), path, json!({"id": id, "name": "x"})).refused(401, "UNAUTHORIZED");
        call(&mut ada, path, json!({"id": 1, "name": "x"})).refused(400, "VALIDATION_ERROR");
        call(&mut ada, path, json!({"id": "a\u{0}b", "name": "x"})).refused(400, "VALIDATION_ERROR");
    }
    assert!(list(&mut bob).is_empty());
    assert_eq!(list(&mut ada).len(), 1);
    sign_in_with(&mut Browser::new(&server), &mut device).expect(200);
    call(&mut ada, "update-passkey", json!({"id": id, "name": "  "})).refused(400, "VALIDATION_ERROR");
    call(&mut ada, "update-passkey", json!({"id": id, "name": "nul\u{0}"})).refused(400, "VALIDATION_ERROR");
    let endless = json!({"id": id, "name": "x".repeat(256)});
    call(&mut ada, "update-passkey", endless).refused(400, "VALIDATION_ERROR");
    let renamed =
        call(&mut ada, "update-passkey", json!({"id": id, "name": " old laptop "})).expect(200).json();
    assert_eq!(renamed["passkey"]["name"], "old laptop");
    call(&mut ada, "delete-passkey", json!({"id": id})).expect(200);
    assert!(list(&mut ada).is_empty());
    sign_in_with(&mut Browser::new(&server), &mut device).refused(401, "PASSKEY_NOT_FOUND");
}
on_both_engines!(only_the_owner_renames_and_removes_a_passkey);

fn one_key_is_one_users(engine: Engine) {
    let server = start(engine);
    let (mut ada, mut device, _) = owner(&server, ADA);
    let mut bob = signed_up(&server, "bob@example.com");
    for browser in [&mut ada, &mut bob] {
        add_passkey(browser, &device).refused(400, "PREVIOUSLY_REGISTERED");
    }
    let mut browser = Browser::new(&server);
    sign_in_with(&mut browser, &mut device).expect(200);
    assert_eq!(browser.session()["user"]["email"], ADA);
    // Another key under the same id does not sign for her.
    let mut thief = Authenticator::new(ORIGIN);
    thief.id = device.id.clone();
    thief.counter = 100;
    sign_in_with(&mut Browser::new(&server), &mut thief).refused(401, "AUTHENTICATION_FAILED");
}
on_both_engines!(one_key_is_one_users);

fn who_may_not_come_in_does_not_with_a_passkey(engine: Engine) {
    let server = start(engine);
    let (mut browser, mut device, _) = owner(&server, ADA);
    let asked = options(&mut browser, "generate-register-options");
    server.command(&["user", "ban", ADA]).expect_done();
    sign_in_with(&mut Browser::new(&server), &mut device).refused(403, "BANNED_USER");
    let body = json!({"response": Authenticator::new(ORIGIN).create(&asked)});
    call(&mut browser, "verify-registration", body).refused(401, "UNAUTHORIZED");
    server.command(&["user", "unban", ADA]).expect_done();
    sign_in_with(&mut Browser::new(&server), &mut device).expect(200);
    server.command(&["user", "delete", ADA, "--yes"]).expect_done();
    sign_in_with(&mut Browser::new(&server), &mut device).refused(401, "PASSKEY_NOT_FOUND");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM passkeys"), 0);
}
on_both_engines!(who_may_not_come_in_does_not_with_a_passkey);

fn a_passkey_asks_for_no_second_factor(engine: Engine) {
    let server = start(engine);
    let (mut browser, mut device, _) = owner(&server, ADA);
    let made = browser.post("/api/auth/two-factor/enable", json!({"password": PASSWORD})).expect(200).json();
    let app = App::of(made["totpURI"].as_str().expect("a picture"));
    browser.post("/api/auth/two-factor/verify-totp", json!({"code": app.code()})).expect(200);
    let mut elsewhere = Browser::new(&server);
    sign_in_with(&mut elsewhere, &mut device).expect(200);
    assert_eq!(elsewhere.session()["user"]["twoFactorEnabled"], true);
}
on_both_engines!(a_passkey_asks_for_no_second_factor);

fn a_new_key_needs_a_fresh_session(engine: Engine) {
    let server = start(engine);
    let mut browser = signed_up(&server, ADA);
    let asked = options(&mut browser, "generate-register-options");
    server.database.shift("sessions", "created_at", -2 * 24 * 3_600_000, "1 = 1");
    browser.get("/api/auth/passkey/generate-register-options").refused(403, "SESSION_NOT_FRESH");
    let body = json!({"response": Authenticator::new(ORIGIN).create(&asked)});
    call(&mut browser, "verify-registration", body).refused(403, "SESSION_NOT_FRESH");
    Browser::new(&server).get("/api/auth/passkey/generate-register-options").refused(401, "UNAUTHORIZED");
}
on_both_engines!(a_new_key_needs_a_fresh_session);

fn an_administrator_in_somebodys_place_leaves_no_key_behind(engine: Engine) {
    let server = start(engine);
    let mut ada = signed_up(&server, ADA);
    let id = ada.session()["user"]["id"].as_str().expect("an id").to_owned();
    let mut root = signed_up(&server, "root@example.com");
    server.command(&["user", "promote", "root@example.com"]).expect_done();
    root.post("/api/auth/admin/impersonate-user", json!({"userId": id})).expect(200);
    assert_eq!(root.session()["user"]["email"], ADA);
    root.get("/api/auth/passkey/generate-register-options")
        .refused(401, "YOU_ARE_NOT_ALLOWED_TO_REGISTER_THIS_PASSKEY");
    call(&mut root, "verify-registration", json!({"response": {}}))
        .refused(401, "YOU_ARE_NOT_ALLOWED_TO_REGISTER_THIS_PASSKEY");
    assert!(list(&mut ada).is_empty());
}
on_both_engines!(an_administrator_in_somebodys_place_leaves_no_key_behind);

fn a_registration_may_begin_a_session_of_its_own(engine: Engine) {
    let server = start(engine);
    let mut browser = signed_up(&server, ADA);
    let before = browser.session()["session"]["token"].clone();
    let asked = options(&mut browser, "generate-register-options");
    let device = Authenticator::new(ORIGIN);
    let body = json!({"response": device.create(&asked), "name": " laptop ", "createSession": true});
    let made = call(&mut browser, "verify-registration", body).expect(200).json();
    assert_eq!((&made["name"], &made["user"]["email"]), (&json!("laptop"), &json!(ADA)));
    assert_ne!(made["session"]["token"], before);
    assert_eq!(browser.session()["session"]["token"], made["session"]["token"]);
}
on_both_engines!(a_registration_may_begin_a_session_of_its_own);

fn answers_that_are_none_are_refused(engine: Engine) {
    let server = start(engine);
    let (mut browser, mut device, _) = owner(&server, ADA);
    for response in
        [Value::Null, json!({}), json!("text"), json!([]), json!({"id": "AAAA"}), json!({"response": 1})]
    {
        options(&mut browser, "generate-register-options");
        let body = json!({"response": response});
        call(&mut browser, "verify-registration", body).refused(400, "FAILED_TO_VERIFY_REGISTRATION");
    }
    options(&mut browser, "generate-register-options");
    call(&mut browser, "verify-registration", json!({})).refused(400, "FAILED_TO_VERIFY_REGISTRATION");
    for response in [Value::Null, json!("text"), json!([])] {
        options(&mut browser, "generate-authenticate-options");
        call(&mut browser, "verify-authentication", json!({"response": response}))
            .refused(400, "VALIDATION_ERROR");
    }
    for response in
        [json!({}), json!({"id": 1}), json!({"id": "'; DROP TABLE passkeys; --"}), json!({"id": "a\u{0}b"})]
    {
        options(&mut browser, "generate-authenticate-options");
        call(&mut browser, "verify-authentication", json!({"response": response}))
            .refused(401, "PASSKEY_NOT_FOUND");
    }
    let named = json!({"response": {"id": device.credential_id()}});
    options(&mut browser, "generate-authenticate-options");
    call(&mut browser, "verify-authentication", named).refused(400, "AUTHENTICATION_FAILED");
    sign_in_with(&mut Browser::new(&server), &mut device).expect(200);
}
on_both_engines!(answers_that_are_none_are_refused);

/// A sign-in from another site's page, which the browser would send with its cookies.
fn a_foreign_page_cannot_sign_in(engine: Engine) {
    let server = start(engine);
    let (_, mut device, _) = owner(&server, ADA);
    let mut browser = Browser::new(&server);
    let asked = options(&mut browser, "generate-authenticate-options");
    let body = json!({"response": device.get(&asked)});
    let request = Request::post("/api/auth/passkey/verify-authentication", &body);
    browser.send(request.header("Origin", "https://evil.test")).refused(403, "INVALID_ORIGIN");
    assert!(browser.cookie(SESSION).is_none());
}
on_both_engines!(a_foreign_page_cannot_sign_in);

fn a_domain_above_lets_apps_below_use_one_key(engine: Engine) {
    let server =
        Server::with(engine, &format!("{SITE}[passkey]\nrp_id = \"example.com\"\nrp_name = \"Example\"\n"));
    let mut browser = signed_up(&server, ADA);
    let mut device = Authenticator::new(ORIGIN);
    device.rp_id = "example.com".into();
    let asked = options(&mut browser, "generate-register-options");
    assert_eq!(asked["rp"], json!({"name": "Example", "id": "example.com"}));
    add_passkey(&mut browser, &device).expect(200);
    device.origin = "https://app.example.com".into();
    let mut app = Browser::new(&server).on_page("https://app.example.com");
    sign_in_with(&mut app, &mut device).expect(200);
    device.origin = "https://app.other.test".into();
    let mut other = Browser::new(&server).on_page("https://app.other.test");
    sign_in_with(&mut other, &mut device).refused(400, "AUTHENTICATION_FAILED");
}
on_both_engines!(a_domain_above_lets_apps_below_use_one_key);

fn switched_off_there_is_no_such_route(engine: Engine) {
    let server = Server::with(engine, "[methods]\npasskey = false\n");
    let mut browser = signed_up(&server, ADA);
    for path in ["generate-register-options", "generate-authenticate-options", "list-user-passkeys"] {
        assert!(browser.get(&format!("/api/auth/passkey/{path}")).expect(404).body.is_empty());
    }
    for path in ["verify-registration", "verify-authentication", "update-passkey", "delete-passkey"] {
        assert!(
            call(&mut browser, path, json!({"id": "x", "name": "x", "response": {}}))
                .expect(404)
                .body
                .is_empty()
        );
    }
}
on_both_engines!(switched_off_there_is_no_such_route);

/// What a row says that another program has written is not believed.
fn a_key_that_cannot_be_read_signs_nothing(engine: Engine) {
    let server = start(engine);
    let (mut browser, mut device, made) = owner(&server, ADA);
    for planted in ["", "not base64!", "AAAA"] {
        let id = quoted(made["id"].as_str().expect("an id"));
        let sql = format!("UPDATE passkeys SET public_key = {} WHERE id = {id}", quoted(planted));
        assert_eq!(server.database.execute(&sql), 1);
        sign_in_with(&mut Browser::new(&server), &mut device).refused(400, "AUTHENTICATION_FAILED");
    }
    assert_eq!(list(&mut browser).len(), 1);
}
on_both_engines!(a_key_that_cannot_be_read_signs_nothing);

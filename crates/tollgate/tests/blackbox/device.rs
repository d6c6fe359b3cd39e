//! Devices without a keyboard (RFC 8628): a code, a person who decides, one session.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::credits::{counted, text};
use crate::harness::database::quoted;
use crate::harness::{Browser, Engine, Request, Response, Server, in_parallel};
use crate::on_both_engines;

const ON: &str = "[methods]\ndevice_authorization = true\n[device]\ninterval = \"1s\"\n";
const NEW: &str = "another long password 1";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

fn signed_up(server: &Server, email: &str) -> Browser {
    let mut browser = Browser::new(server);
    browser.sign_up(email);
    browser
}

fn device(server: &Server) -> Browser {
    let mut device = Browser::new(server);
    device.origin = None;
    device
}

/// The codes that a new device gets.
struct Codes {
    device: String,
    user: String,
}

#[track_caller]
fn codes(server: &Server) -> Codes {
    let answer = device(server).post("/api/auth/device/code", json!({"client_id": "tv", "scope": "read"}));
    let body = answer.expect(200).json();
    Codes { device: text(&body["device_code"]), user: text(&body["user_code"]) }
}

fn ask(server: &Server, code: &str, client: &str) -> Response {
    let body = json!({"grant_type": GRANT, "device_code": code, "client_id": client});
    device(server).post("/api/auth/device/token", body)
}

/// The device has waited long enough to ask again.
fn wait(server: &Server) {
    server.database.execute("UPDATE device_codes SET last_polled_at = last_polled_at - 1000");
}

#[track_caller]
fn told(answer: &Response, status: u16, error: &str) {
    assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some(error)), "{}", answer.text());
}

#[track_caller]
fn look(browser: &mut Browser, code: &str) -> Value {
    browser.get(&format!("/api/auth/device?user_code={code}")).expect(200).json()
}

fn a_device_gets_one_session_after_its_person_said_yes(engine: Engine) {
    let server = Server::with(engine, ON);
    let form = Request::form("/api/auth/device/code", &[("client_id", "tv")]);
    let body = device(&server).send(form).expect(200);
    assert_eq!(body.header("Cache-Control"), Some("no-store"));
    let body = body.json();
    assert_eq!((&body["expires_in"], &body["interval"]), (&json!(1800), &json!(1)));
    assert_eq!(text(&body["device_code"]).len(), 40);
    let user_code = text(&body["user_code"]);
    assert!(
        user_code.len() == 8 && user_code.bytes().all(|c| b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789".contains(&c))
    );
    assert_eq!(body["verification_uri"], format!("{}/device", server.base_url));
    assert_eq!(
        body["verification_uri_complete"],
        format!("{}/device?user_code={user_code}", server.base_url)
    );

    let codes = codes(&server);
    let dump = server.database.dump();
    assert!(!dump.contains(&codes.device) && !dump.contains(&codes.user), "a code lies in the database");
    told(&ask(&server, &codes.device, "tv"), 400, "authorization_pending");
    told(&ask(&server, &codes.device, "tv"), 400, "slow_down");
    told(&ask(&server, &codes.device, "radio"), 400, "invalid_grant");
    told(&ask(&server, "unknown", "tv"), 400, "invalid_grant");
    told(&ask(&server, &codes.user, "tv"), 400, "invalid_grant");
    let mut ada = signed_up(&server, "ada@example.com");
    let early = ada.post("/api/auth/device/approve", json!({"userCode": codes.user}));
    told(&early, 400, "invalid_request");
    let typed = format!("{}-{}", &codes.user[..4], codes.user[4..].to_lowercase());
    let seen = look(&mut ada, &typed);
    assert_eq!(seen, json!({"user_code": typed, "status": "pending", "client_id": "tv", "scope": "read"}));
    ada.post("/api/auth/device/approve", json!({"userCode": codes.user})).expect(200);
    told(&ada.post("/api/auth/device/deny", json!({"userCode": codes.user})), 400, "invalid_request");
    wait(&server);
    let granted = ask(&server, &codes.device, "tv").expect(200);
    assert!(granted.header("Set-Cookie").is_none(), "{granted:?}");
    let granted = granted.json();
    assert_eq!((&granted["token_type"], &granted["scope"]), (&json!("Bearer"), &json!("read")));
    let mut tv = device(&server);
    tv.headers.push(("Authorization".into(), format!("Bearer {}", text(&granted["access_token"]))));
    assert_eq!(tv.session()["user"]["email"], "ada@example.com");
    told(&ask(&server, &codes.device, "tv"), 400, "invalid_grant");
}
on_both_engines!(a_device_gets_one_session_after_its_person_said_yes);

/// A device whose code this browser has approved, before it asked for its session.
fn approved(server: &Server, browser: &mut Browser) -> Codes {
    let codes = codes(server);
    look(browser, &codes.user);
    browser.post("/api/auth/device/approve", json!({"userCode": codes.user})).expect(200);
    codes
}

fn whoever_ends_the_sessions_ends_what_they_approved(engine: Engine) {
    let on = format!("{}magic_link = true\nmagic_link_confirm = false\n{}", &ON[..10], &ON[10..]);
    let server = Server::with(engine, &on);
    let email = "ada@example.com";
    let mut thief = signed_up(&server, email);
    let refused = |codes: &Codes, how: &str| {
        let answer = ask(&server, &codes.device, "tv");
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("access_denied")), "{how}");
    };
    let mail = || server.mail.take(email, Duration::from_secs(20)).link();

    let mut owner = Browser::new(&server);
    owner.sign_in(email);
    let codes = approved(&server, &mut thief);
    owner.post("/api/auth/revoke-other-sessions", json!({})).expect(200);
    assert_eq!(thief.session(), Value::Null);
    refused(&codes, "other sessions");

    thief.sign_in(email);
    let codes = approved(&server, &mut thief);
    owner.post("/api/auth/request-password-reset", json!({"email": email})).expect(200);
    let link = mail();
    let token = link.split("/reset-password/").nth(1).and_then(|rest| rest.split('?').next());
    let body = json!({"newPassword": NEW, "token": token.expect("a token")});
    owner.post("/api/auth/reset-password", body).expect(200);
    refused(&codes, "a reset");

    // A stranger who made the account waits for the owner of the address.
    thief.try_sign_in(email, NEW).expect(200);
    server.database.execute("UPDATE users SET email_verified = FALSE");
    let codes = approved(&server, &mut thief);
    owner.post("/api/auth/sign-in/magic-link", json!({"email": email})).expect(200);
    owner.follow(&mail()).expect(302);
    assert_eq!(owner.session()["user"]["emailVerified"], true);
    refused(&codes, "a claim");

    // What is approved with a session that lives is good.
    let codes = approved(&server, &mut owner);
    ask(&server, &codes.device, "tv").expect(200);
}
on_both_engines!(whoever_ends_the_sessions_ends_what_they_approved);

fn fifty_devices_with_one_code_get_one_session(engine: Engine) {
    let server = Server::with(engine, ON);
    let mut ada = signed_up(&server, "ada@example.com");
    let codes = codes(&server);
    look(&mut ada, &codes.user);
    ada.post("/api/auth/device/approve", json!({"userCode": codes.user})).expect(200);
    // Without a time between, so that only the code itself keeps them apart.
    server.database.execute("UPDATE device_codes SET polling_interval = -1000");
    let sessions = || server.database.integer("SELECT COUNT(*) FROM sessions");
    let before = sessions();
    let answers = in_parallel(50, |_| ask(&server, &codes.device, "tv"));
    assert_eq!(counted(answers.iter().map(|answer| answer.status)), [(200, 1), (400, 49)].into());
    assert_eq!(sessions(), before + 1);
}
on_both_engines!(fifty_devices_with_one_code_get_one_session);

fn fifty_people_who_look_at_once_make_one_who_decides(engine: Engine) {
    let server = Server::with(engine, ON);
    let people: Vec<Browser> =
        (0..8).map(|number| signed_up(&server, &format!("p{number}@example.com"))).collect();
    let codes = codes(&server);
    let looks = in_parallel(50, |at| look(&mut people[at % 8].clone(), &codes.user)["client_id"].is_string());
    let claimants: Vec<usize> =
        (0..8).filter(|at| (0..50).any(|look| look % 8 == *at && looks[look])).collect();
    assert_eq!(claimants.len(), 1, "{looks:?}");
    let decided = in_parallel(50, |at| {
        let path = if at % 2 == 0 { "approve" } else { "deny" };
        let mut person = people[at % 8].clone();
        (at % 8, person.post(&format!("/api/auth/device/{path}"), json!({"userCode": codes.user})).status)
    });
    let done: Vec<usize> = decided.iter().filter(|(_, status)| *status == 200).map(|(who, _)| *who).collect();
    assert_eq!(done, claimants, "{decided:?}");
    assert!(
        decided.iter().all(|(who, status)| *who == claimants[0] || [400, 403].contains(status)),
        "{decided:?}"
    );
}
on_both_engines!(fifty_people_who_look_at_once_make_one_who_decides);

fn who_may_not_decide_is_told_so(engine: Engine) {
    let server = Server::with(
        engine,
        &format!("{ON}\n[api_keys]\nrate_limit_max = 0\n")
            .replace("[methods]\n", "[methods]\napi_key_sessions = true\n"),
    );
    let (mut ada, mut eve) = (signed_up(&server, "ada@example.com"), signed_up(&server, "eve@example.com"));
    let waiting = codes(&server);
    let approve = |browser: &mut Browser, code: &str| {
        browser.post("/api/auth/device/approve", json!({"userCode": code}))
    };
    let mut nobody = Browser::new(&server);
    told(&approve(&mut nobody, &waiting.user), 401, "unauthorized");
    assert_eq!(look(&mut nobody, &waiting.user), json!({"user_code": waiting.user, "status": "pending"}));
    look(&mut ada, &waiting.user);
    assert_eq!(look(&mut eve, &waiting.user), json!({"user_code": waiting.user, "status": "pending"}));
    told(&approve(&mut eve, &waiting.user), 403, "access_denied");
    told(&eve.post("/api/auth/device/deny", json!({"userCode": waiting.user})), 403, "access_denied");
    told(&approve(&mut ada, "AAAAAAAA"), 400, "invalid_request");
    told(&eve.get("/api/auth/device?user_code=nonsense"), 400, "invalid_request");
    eve.get("/api/auth/device").refused(400, "VALIDATION_ERROR");
    // A stolen key must not make itself a session.
    let key = text(&ada.post("/api/auth/api-key/create", json!({})).expect(200).json()["key"]);
    let mut program = device(&server);
    program.headers.push(("x-api-key".into(), key));
    told(&approve(&mut program, &waiting.user), 401, "unauthorized");
    // Turned away, once.
    ada.post("/api/auth/device/deny", json!({"userCode": waiting.user})).expect(200);
    told(&ask(&server, &waiting.device, "tv"), 400, "access_denied");
    told(&ask(&server, &waiting.device, "tv"), 400, "invalid_grant");
    // Too late, for everybody.
    let late = codes(&server);
    look(&mut ada, &late.user);
    server.database.execute("UPDATE device_codes SET expires_at = 1");
    server.database.execute("UPDATE one_time_values SET expires_at = 1 WHERE purpose = 'device-code'");
    told(&approve(&mut ada, &late.user), 400, "expired_token");
    told(&ada.get(&format!("/api/auth/device?user_code={}", late.user)), 400, "expired_token");
    told(&ask(&server, &late.device, "tv"), 400, "expired_token");
    told(&ask(&server, &late.device, "tv"), 400, "invalid_grant");
    // Who is banned meanwhile lets nobody in.
    let banned = codes(&server);
    look(&mut ada, &banned.user);
    approve(&mut ada, &banned.user).expect(200);
    server.command(&["user", "ban", "ada@example.com"]).expect_done();
    told(&ask(&server, &banned.device, "tv"), 400, "access_denied");
    let sessions = format!(
        "SELECT COUNT(*) FROM sessions s JOIN users u ON u.id = s.user_id WHERE u.email = {}",
        quoted("ada@example.com")
    );
    assert_eq!(server.database.integer(&sessions), 0);
}
on_both_engines!(who_may_not_decide_is_told_so);

fn bodies_that_cannot_be_read_are_refused_in_the_contracts_forms(engine: Engine) {
    let server = Server::with(engine, ON);
    let mut tv = device(&server);
    for body in
        [json!({}), json!({"client_id": ""}), json!({"client_id": 7}), json!({"client_id": "x".repeat(513)})]
    {
        told(&tv.post("/api/auth/device/code", body), 400, "invalid_request");
    }
    for body in [json!({}), json!({"grant_type": "password", "device_code": "x", "client_id": "tv"})] {
        tv.post("/api/auth/device/token", body).refused(400, "VALIDATION_ERROR");
    }
    let form = [("grant_type", GRANT), ("device_code", "x"), ("client_id", "tv")];
    tv.send(Request::form("/api/auth/device/token", &form)).refused(415, "UNSUPPORTED_MEDIA_TYPE");
    tv.post("/api/auth/device/approve", json!({})).refused(400, "VALIDATION_ERROR");
}
on_both_engines!(bodies_that_cannot_be_read_are_refused_in_the_contracts_forms);

fn switched_off_there_is_no_such_route(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = signed_up(&server, "ada@example.com");
    for path in ["code", "token", "approve", "deny"] {
        assert!(ada.post(&format!("/api/auth/device/{path}"), json!({})).expect(404).body.is_empty());
    }
    assert!(ada.get("/api/auth/device?user_code=ABCDEFGH").expect(404).body.is_empty());
    ada.get("/device").expect(404);
}
on_both_engines!(switched_off_there_is_no_such_route);

fn a_person_lets_a_device_in_by_the_page(engine: Engine) {
    let server = Server::with(engine, ON);
    let waiting = codes(&server);
    let target = format!("/device?user_code={}", waiting.user);
    let mut ada = Browser::new(&server);
    let away = ada.get(&target);
    let location = away.expect(303).header("Location").map(str::to_owned).expect("a target");
    let back = kernel::signed::decode_uri_component(&location).map(|text| text.into_owned()).expect("a text");
    assert!(back.starts_with("/sign-in?callbackURL=/device?user_code"), "{back}");
    ada.sign_up("ada@example.com");
    let page = ada.get(&target).expect(200);
    assert!(page.text().contains(&format!("value=\"{}\"", waiting.user)), "{}", page.text());
    assert!(
        page.header("Content-Security-Policy")
            .is_some_and(|policy| policy.contains("frame-ancestors 'none'"))
    );
    // A link claims nothing.
    let claimed = "SELECT COUNT(*) FROM device_codes WHERE user_id IS NOT NULL";
    assert_eq!(server.database.integer(claimed), 0);
    let form = |fields: &[(&str, &str)]| Request::form("/device", fields);
    let foreign = form(&[("user_code", &waiting.user)]).header("Origin", "https://evil.example");
    ada.send(foreign).expect(403);
    assert_eq!(server.database.integer(claimed), 0);
    let unknown = ada.send(form(&[("user_code", "22222222")])).expect(400);
    assert!(unknown.text().contains("No device shows this code"), "{}", unknown.text());
    let confirm = ada.send(form(&[("user_code", &waiting.user)])).expect(200).text();
    assert!(confirm.contains("<strong>tv</strong>") && confirm.contains("value=\"approve\""), "{confirm}");
    let approve = form(&[("user_code", &waiting.user), ("decision", "approve")]);
    let done = ada.send(approve.header("Origin", &server.base_url)).expect(200).text();
    assert!(done.contains("The device is signed in as ada@example.com"), "{done}");
    ask(&server, &waiting.device, "tv").expect(200);
    // And turns another one away.
    let other = codes(&server);
    let mut eve = signed_up(&server, "eve@example.com");
    eve.send(form(&[("user_code", &other.user)])).expect(200);
    let taken = ada.send(form(&[("user_code", &other.user)]));
    assert!(taken.text().contains("Somebody else has opened this code first"), "{}", taken.text());
    let turned = eve.send(form(&[("user_code", &other.user), ("decision", "deny")])).expect(200).text();
    assert!(turned.contains("turned away"), "{turned}");
    told(&ask(&server, &other.device, "tv"), 400, "access_denied");
}
on_both_engines!(a_person_lets_a_device_in_by_the_page);

fn guessing_codes_is_slowed(engine: Engine) {
    let server = Server::with(engine, &format!("{ON}[rate_limit]\nenabled = true\n"));
    let mut guesser = device(&server);
    for _ in 0..5 {
        told(&guesser.get("/api/auth/device?user_code=22222222"), 400, "invalid_request");
    }
    let slowed = guesser.get("/api/auth/device?user_code=22222222").expect(429);
    let wait: i64 = slowed.header("X-Retry-After").and_then(|text| text.parse().ok()).expect("seconds");
    assert!((1_700..=1_800).contains(&wait), "{wait}");
}
on_both_engines!(guessing_codes_is_slowed);

//! `/api/guest`: a visitor's cookie, who may ask for one, and which cookies open nothing.

use gate::guest_cookie::GuestKeys;
use kernel::time::{DAY, MINUTE, SECOND};
use kernel::{Secrets, random};
use serde_json::{Value, json};

use crate::harness::credits::{now, refused, text};
use crate::harness::guest::{COOKIE, enter, guest, id, keys, look_with, shown};
use crate::harness::{Browser, Engine, Request, Server, at_full_length};
use crate::on_both_engines;

const ALLOWANCES: &str = "[guest]\nallowances = { generate = 3, \"image.preview\" = 10 }\n";
const APP: &str = "https://app.example";

fn a_visitor_is_made_a_guest_once(engine: Engine) {
    let server = Server::with(engine, ALLOWANCES);
    let mut browser = Browser::new(&server);
    refused(&browser.get("/api/guest"), 401, "unauthenticated");
    let made = browser.post("/api/guest", json!({})).expect(201);
    let guest = made.json();
    let guest_id = text(&guest["guest_id"]);
    assert!(guest_id.len() == 32 && guest_id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{guest}");
    let untouched = |action: &str, limit: i64| json!({"action": action, "limit": limit, "used": 0, "remaining": limit, "resets_at": null});
    let allowances = json!([untouched("generate", 3), untouched("image.preview", 10)]);
    assert_eq!(guest, json!({"guest_id": guest_id, "allowances": allowances}));
    let lines: Vec<&str> = made.all("Set-Cookie").collect();
    let value = browser.cookie(COOKIE).expect("a cookie").to_owned();
    let line = format!("{COOKIE}={value}; Max-Age=86400; Path=/; HttpOnly; SameSite=Lax");
    assert_eq!(lines, [line]);
    assert_eq!(made.header("Cache-Control"), Some("no-store"));

    for request in [
        Request::get("/api/guest"),
        Request::post("/api/guest", &json!({})),
        Request::new("POST", "/api/guest"),
    ] {
        let answer = browser.send(request).expect(200);
        assert_eq!((answer.json(), answer.header("Set-Cookie")), (guest.clone(), None));
    }
    // Somebody else is another one.
    assert_ne!(enter(&mut Browser::new(&server)), guest_id);
    // The cookie opens no session, and its id is nobody's token.
    assert_eq!(browser.session(), Value::Null);
    assert!(!server.log().contains(&value) && !server.log().contains(&guest_id));
}
on_both_engines!(a_visitor_is_made_a_guest_once);

fn what_is_no_request_of_this_door_is_refused(engine: Engine) {
    let server = Server::start(engine);
    let mut browser = Browser::new(&server);
    let body = refused(&browser.post("/api/guest", json!({"guest_id": "x"})), 422, "invalid_request");
    assert_eq!(body["field"], "guest_id");
    refused(&browser.post("/api/guest", json!([])), 422, "invalid_request");
    let form = |kind: &str| Request::new("POST", "/api/guest").header("Content-Type", kind).body("{}");
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        refused(&browser.send(form(kind)), 415, "unsupported_media_type");
    }
    let long = json!({"x": "x".repeat(70_000)});
    refused(&browser.post("/api/guest", long), 413, "payload_too_large");
    for method in ["PUT", "DELETE", "PATCH"] {
        refused(&browser.send(Request::new(method, "/api/guest")), 405, "method_not_allowed");
    }
    refused(&browser.get("/api/guest/x"), 404, "not_found");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM guests"), 0);
}
on_both_engines!(what_is_no_request_of_this_door_is_refused);

fn pages_of_strangers_make_no_guests_and_read_none(engine: Engine) {
    let server = Server::start(engine);
    let (browser, _) = guest(&server);
    for mut stranger in [Browser::new(&server), browser.clone()] {
        stranger.origin = Some("https://evil.example".into());
        let answer = stranger.post("/api/guest", json!({}));
        refused(&answer, 403, "forbidden");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), None);
        assert_eq!(answer.header("Set-Cookie"), None);
    }
    let mut sandboxed = browser.clone();
    sandboxed.origin = Some("null".into());
    refused(&sandboxed.post("/api/guest", json!({})), 403, "forbidden");

    let mut page = browser.on_page(APP);
    let answer = page.post("/api/guest", json!({})).expect(200);
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(APP));
    assert_eq!(answer.header("Access-Control-Allow-Credentials"), Some("true"));
    let asked = Request::new("OPTIONS", "/api/guest")
        .header("Origin", APP)
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "content-type");
    let answer = Browser::new(&server).send(asked).expect(204);
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(APP));
    // A program names no origin at all.
    let mut program = Browser::new(&server);
    program.origin = None;
    enter(&mut program);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM guests"), 2);
}
on_both_engines!(pages_of_strangers_make_no_guests_and_read_none);

#[test]
fn on_https_the_cookie_is_secure_by_its_name() {
    let text = "base_url = \"https://auth.example.com\"\n[cookies]\ndomain = \"example.com\"\n[guest]\nttl = \"1h\"\n";
    let server = Server::with(Engine::Sqlite, text);
    let (mut browser, guest_id) = guest(&server);
    let value = browser.cookie("__Secure-tollgate.guest").expect("the cookie").to_owned();
    assert_eq!(shown(&server)["cookie"], "__Secure-tollgate.guest");
    assert_eq!(shown(&server)["max_age"], 3_600);
    assert_eq!(browser.get("/api/guest").expect(200).json()["guest_id"], guest_id);
    let mut fresh = Browser::new(&server);
    let line = text_of_cookie(&fresh.post("/api/guest", json!({})).expect(201).headers);
    let attributes = "; Max-Age=3600; Domain=example.com; Path=/; HttpOnly; Secure; SameSite=Lax";
    assert!(line.starts_with("__Secure-tollgate.guest=") && line.ends_with(attributes), "{line}");
    // Whoever can set cookies for the site over http can choose the plain name.
    let mut planted = Browser::new(&server);
    planted.set_cookie(COOKIE, &value);
    refused(&planted.get("/api/guest"), 401, "unauthenticated");
}

fn text_of_cookie(headers: &[(String, String)]) -> String {
    let line = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("Set-Cookie"));
    line.expect("a cookie is set").1.clone()
}

fn cookies_that_were_not_signed_so_open_nothing(engine: Engine) {
    let server = Server::with(engine, ALLOWANCES);
    let (browser, guest_id) = guest(&server);
    let good = browser.cookie(COOKIE).expect("a cookie").to_owned();
    let keys = keys(&server);
    let sign = |moved: i64| keys.sign(&id(&guest_id), now().plus(moved));
    // The clock is the machine's, and signing again gives what the server would.
    look_with(&server, &sign(0)).expect(200);
    look_with(&server, &sign(-DAY + MINUTE)).expect(200);
    for (what, cookie) in [
        ("is over", sign(-DAY - 2 * SECOND)),
        ("is older than any", sign(-now().0)),
        ("comes from the future", sign(MINUTE)),
        ("names nobody", keys.sign(&id(&random::alphanumeric(&mut random::secure(), 32)), now())),
        ("names nobody in another form", keys.sign(&id("short"), now())),
        ("is of other secrets", {
            let foreign = Secrets::new(vec!["a secret that is none of the server's".into()]);
            GuestKeys::new(&foreign.expect("one secret")).sign(&id(&guest_id), now())
        }),
        ("is signed with what signs sessions", {
            let config = std::fs::read_to_string(server.config_file()).expect("the configuration");
            let config: toml::Table = config.parse().expect("TOML");
            let secret = config["secrets"][0].as_str().expect("a secret").to_owned();
            GuestKeys::new(&Secrets::new(vec![secret]).expect("one secret")).sign(&id(&guest_id), now())
        }),
        ("is a session's", {
            let mut user = Browser::new(&server);
            user.sign_up("ada@example.com");
            user.cookie("better-auth.session_token").expect("a session").to_owned()
        }),
        ("is empty", String::new()),
        ("stands in front of the good one", format!("x; {COOKIE}={good}")),
    ] {
        let answer = look_with(&server, &cookie);
        assert_eq!(answer.status, 401, "a cookie that {what}: {}", answer.text());
        // It is replaced, not repaired.
        let mut browser = Browser::new(&server);
        browser.set_cookie(COOKIE, &cookie);
        assert_ne!(enter(&mut browser), guest_id, "{what}");
    }

    let mut dice = Dice(7);
    let mut mutated = 0;
    let wanted = if at_full_length() { 10_000 } else { 300 };
    let mut browser = Browser::new(&server);
    while mutated < wanted {
        let cookie = mutate(&good, &mut dice);
        if cookie == good {
            continue;
        }
        browser.set_cookie(COOKIE, &cookie);
        refused(&browser.get("/api/guest"), 401, "unauthenticated");
        mutated += 1;
    }
    look_with(&server, &good).expect(200);
}
on_both_engines!(cookies_that_were_not_signed_so_open_nothing);

/// Another letter, a letter more, a letter less, a piece doubled or two parts swapped.
fn mutate(good: &str, dice: &mut Dice) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=%";
    let mut bytes = good.as_bytes().to_vec();
    let letter = LETTERS[dice.throw(LETTERS.len())];
    let at = dice.throw(bytes.len());
    match dice.throw(5) {
        0 => bytes[at] = letter,
        1 => bytes.insert(at, letter),
        2 => drop(bytes.remove(at)),
        3 => bytes.extend_from_slice(&good.as_bytes()[at..]),
        _ => {
            let mut parts: Vec<&str> = good.split('.').collect();
            parts.rotate_left(1 + at % 2);
            return parts.join(".");
        }
    }
    String::from_utf8(bytes).expect("letters")
}

/// The same throws in every run.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

fn secrets_are_replaced_without_losing_a_guest(engine: Engine) {
    let mut server = Server::start(engine);
    let (browser, guest_id) = guest(&server);
    let value = browser.cookie(COOKIE).expect("a cookie").to_owned();
    let lives = |server: &Server, cookie: &str| look_with(server, cookie).status == 200;
    let first = shown(&server);
    assert_eq!(first["secrets"].as_array().map(Vec::len), Some(1));
    let known =
        json!({"salt": "tollgate.guest", "key_derivation": "hmac", "digest": "sha256", "max_age": 86_400});
    for (name, value) in known.as_object().expect("an object") {
        assert_eq!(first[name], *value, "{name}");
    }
    let plain = server.command(&["secrets", "show", "guest"]).expect_done().stdout;
    assert_eq!(plain.trim_end(), text(&first["secrets"][0]));

    // Where they are derived they follow the deployment's: a new one in front, the old one still verifies.
    let config: toml::Table =
        std::fs::read_to_string(server.config_file()).expect("the configuration").parse().expect("TOML");
    let old = config["secrets"][0].as_str().expect("a secret").to_owned();
    let new = "fresh-kq7Zr1VYp0mXJ3sTe9bWcUaL5nHdGf2oRi8";
    let reconfigure = |server: &mut Server, text: &str| {
        server.stop();
        server.reconfigure(text);
        server.restart();
    };
    reconfigure(&mut server, &format!("secrets = [\"{new}\", \"{old}\"]\n"));
    assert_eq!(shown(&server)["secrets"][1], first["secrets"][0]);
    assert!(lives(&server, &value));
    let (newer, _) = guest(&server);
    let newer = newer.cookie(COOKIE).expect("a cookie").to_owned();
    let derived = text(&shown(&server)["secrets"][0]);
    let one = |secret: &str| GuestKeys::new(&Secrets::new(vec![secret.into()]).expect("one secret"));
    assert!(one(&derived).open(&newer, DAY, now()).is_some(), "the first signs");

    // Own ones, the derived ones behind them for as long as cookies live.
    let own = "guests-8f3b6c1de07a924f5b8c3d6e1f0a7b92";
    let former = text(&first["secrets"][0]);
    reconfigure(&mut server, &format!("[guest]\nsecrets = [\"{own}\", \"{former}\"]\n"));
    assert_eq!(shown(&server)["secrets"], json!([own, former]));
    assert!(lives(&server, &value) && !lives(&server, &newer));
    reconfigure(&mut server, &format!("[guest]\nsecrets = [\"{own}\"]\n"));
    assert!(!lives(&server, &value));
    let again = one(own).sign(&id(&guest_id), now());
    assert!(lives(&server, &again), "the guest is there, only the key was gone");
}
on_both_engines!(secrets_are_replaced_without_losing_a_guest);

#[test]
fn a_secret_that_signs_sessions_is_none_for_guests() {
    let mut server = Server::start(Engine::Sqlite);
    server.stop();
    let config: toml::Table =
        std::fs::read_to_string(server.config_file()).expect("the configuration").parse().expect("TOML");
    let secret = config["secrets"][0].as_str().expect("a secret").to_owned();
    server.reconfigure(&format!("[guest]\nsecrets = [\"{secret}\"]\n"));
    let refused = server.command(&["serve"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("guest.secrets"), "{refused:?}");
    assert!(!refused.stderr.contains(&secret), "{refused:?}");
}

fn a_door_that_is_switched_off_is_not_there(engine: Engine) {
    let mut server = Server::start(engine);
    let (mut browser, _) = guest(&server);
    server.stop();
    server.reconfigure("[guest]\nenabled = false\n");
    server.restart();
    refused(&browser.get("/api/guest"), 404, "not_found");
    refused(&browser.post("/api/guest", json!({})), 404, "not_found");
    // The cookie means nothing to anybody then.
    let answer = browser.post(
        "/api/auth/sign-up/email",
        json!({"name": "Ada", "email": "ada@example.com", "password": crate::harness::PASSWORD}),
    );
    assert!(answer.expect(200).all("Set-Cookie").all(|line| !line.contains(COOKIE)));
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM guests"), 1);
}
on_both_engines!(a_door_that_is_switched_off_is_not_there);

fn new_guests_are_limited_by_address_and_old_ones_are_not(engine: Engine) {
    let settings = "trusted_proxies = [\"127.0.0.1\"]\n[rate_limit]\nenabled = true\n";
    let mut server = Server::with(engine, settings);
    let from = |address: &str| {
        let mut browser = Browser::new(&server);
        browser.headers.push(("X-Forwarded-For".into(), address.into()));
        browser
    };
    let mut first = from("192.0.2.1");
    enter(&mut first);
    let made = (0..30).filter(|_| from("192.0.2.1").post("/api/guest", json!({})).status == 201).count();
    assert_eq!(made, 19);
    let answer = from("192.0.2.1").post("/api/guest", json!({}));
    refused(&answer, 429, "rate_limited");
    let seconds: i64 = answer.header("Retry-After").and_then(|text| text.parse().ok()).expect("a time");
    assert!((1..=10).contains(&seconds));
    // Who is a guest already asks as often as they like; so does whoever has no cookie, since nothing is made.
    for _ in 0..40 {
        first.post("/api/guest", json!({})).expect(200);
        from("192.0.2.1").get("/api/guest").expect(401);
    }
    enter(&mut from("192.0.2.2"));
    // A backend that speaks for many visitors and does not say for whom.
    for _ in 0..25 {
        enter(&mut Browser::new(&server));
    }
    server.stop();
    server.reconfigure("[rate_limit]\nrules = { \"/guest\" = { window = \"10s\", max = 2 } }\n");
    server.restart();
    let statuses = [(); 3].map(|()| {
        let mut browser = Browser::new(&server);
        browser.headers.push(("X-Forwarded-For".into(), "192.0.2.9".into()));
        browser.post("/api/guest", json!({})).status
    });
    assert_eq!(statuses, [201, 201, 429]);
}
on_both_engines!(new_guests_are_limited_by_address_and_old_ones_are_not);

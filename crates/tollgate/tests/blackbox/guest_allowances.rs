//! What guests may do at the gate: so often a guest, so often a client address, and not once more.

use kernel::time::{DAY, HOUR};
use serde_json::{Value, json};

use crate::harness::credits::{Backend, number, refused, text};
use crate::harness::guest::{COOKIE, enter, guest};
use crate::harness::{Browser, Engine, Request, Response, Server, in_parallel};
use crate::on_both_engines;

const SETTINGS: &str = "trusted_proxies = [\"127.0.0.1\"]\n\
    [guest]\nallowances = { generate = 3, preview = 10 }\n\
    [credits]\nfeatures = { image = 5 }\n";

/// A backend's question on behalf of this browser at that address.
fn asked(browser: &Browser, address: &str, body: &Value) -> Request {
    let request = Request::post("/api/gate/authorize", body).header("X-Forwarded-For", address);
    let cookies = browser.cookie_header("/");
    if cookies.is_empty() { request } else { request.header("Cookie", &cookies) }
}

fn generate() -> Value {
    json!({"guest": {"action": "generate"}})
}

#[track_caller]
fn ask(backend: &mut Backend, browser: &Browser, address: &str) -> Response {
    backend.send(asked(browser, address, &generate()))
}

fn a_guest_may_so_many_times_and_no_more(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let mut backend = Backend::of(&server);
    let (mut browser, guest_id) = guest(&server);
    let mut resets_at = None;
    for used in 1..=3 {
        let answer = ask(&mut backend, &browser, "192.0.2.1").expect(200).json();
        let at = text(&answer["guest"]["resets_at"]);
        let standing =
            json!({"action": "generate", "limit": 3, "used": used, "remaining": 3 - used, "resets_at": at});
        let whole = json!({
            "subject": {"kind": "guest", "id": guest_id},
            "user": null, "session": null, "charge": null, "guest": standing,
        });
        assert_eq!(answer, whole);
        // From the first time on, however often.
        assert_eq!(*resets_at.get_or_insert(at.clone()), at);
    }
    let resets_at = resets_at.expect("it was used");
    let moment = kernel::Millis::parse_iso(&resets_at).expect("a time").0;
    let day = crate::harness::credits::now().0 + DAY;
    assert!((day - HOUR / 60..=day).contains(&moment), "{resets_at}");

    let answer = ask(&mut backend, &browser, "192.0.2.1");
    let body = refused(&answer, 429, "guest_limit_reached");
    assert_eq!(body["action"], "generate");
    assert_eq!((&body["limit"], &body["resets_at"]), (&json!(3), &json!(resets_at)));
    let seconds: i64 = answer.header("Retry-After").and_then(|text| text.parse().ok()).expect("a time");
    assert!((86_000..=86_400).contains(&seconds));
    // The other action has its own count, and the door tells both.
    let preview = json!({"guest": {"action": "preview"}});
    backend.send(asked(&browser, "192.0.2.1", &preview)).expect(200);
    let told = browser.get("/api/guest").expect(200).json();
    let used = |at: usize| ["action", "used", "remaining"].map(|name| told["allowances"][at][name].clone());
    assert_eq!(used(0), [json!("generate"), json!(3), json!(0)]);
    assert_eq!(used(1), [json!("preview"), json!(1), json!(9)]);
    assert_eq!(told["allowances"][0]["resets_at"], json!(resets_at));
    assert_eq!(browser.post("/api/guest", json!({})).expect(200).json(), told);
}
on_both_engines!(a_guest_may_so_many_times_and_no_more);

fn a_cleared_cookie_is_a_new_guest_at_the_same_address(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let mut backend = Backend::of(&server);
    let mut allowed = 0;
    // Three each for five guests, as the address's default says.
    for _ in 0..5 {
        let (browser, _) = guest(&server);
        allowed += (0..4).filter(|_| ask(&mut backend, &browser, "192.0.2.1").status == 200).count();
    }
    assert_eq!(allowed, 15);
    let (mut browser, _) = guest(&server);
    let body = refused(&ask(&mut backend, &browser, "192.0.2.1"), 429, "guest_limit_reached");
    assert_eq!(body["limit"], 15);
    assert!(text(&body["message"]).contains("address"), "{body}");
    // Nothing was counted for the guest, who may elsewhere.
    assert_eq!(browser.get("/api/guest").expect(200).json()["allowances"][0]["used"], 0);
    ask(&mut backend, &browser, "192.0.2.2").expect(200);
    refused(&ask(&mut backend, &browser, "6.6.6.6, 192.0.2.1"), 429, "guest_limit_reached");
    // One IPv6 client owns its /64.
    let mut allowed = 0;
    for host in 1..=6 {
        let (browser, _) = guest(&server);
        for number in 0..3 {
            let address = format!("2001:db8::{host}:{number}");
            allowed += i32::from(ask(&mut backend, &browser, &address).status == 200);
        }
    }
    assert_eq!(allowed, 15);
    let (browser, _) = guest(&server);
    ask(&mut backend, &browser, "2001:db8:0:1::1").expect(200);
    // Whoever speaks for a client and does not say for whom has one count for all.
    let silent = |browser: &Browser| {
        let request = Request::post("/api/gate/authorize", &generate());
        request.header("Cookie", &browser.cookie_header("/"))
    };
    let mut allowed = 0;
    for _ in 0..6 {
        let (browser, _) = guest(&server);
        allowed += (0..3).filter(|_| backend.send(silent(&browser)).status == 200).count();
    }
    assert_eq!(allowed, 15);
}
on_both_engines!(a_cleared_cookie_is_a_new_guest_at_the_same_address);

fn many_at_once_are_counted_exactly(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    // SQLite means one node.
    let second = (engine == Engine::Postgres).then(|| Server::second_node(&server));
    let backend = Backend::of(&server);
    let at = |number: usize| match &second {
        Some(second) if number % 2 == 1 => backend.at(second),
        _ => backend.another(),
    };
    let (browser, _) = guest(&server);
    let statuses =
        in_parallel(200, |number| ask(&mut at(number), &browser, &format!("192.0.2.{number}")).status);
    let count = |status: u16| statuses.iter().filter(|found| **found == status).count();
    assert_eq!((count(200), count(429)), (3, 197), "{statuses:?}");
    // What was refused to the guest was not counted for its address.
    let addresses = "SELECT COUNT(*) FROM counters WHERE key LIKE 'guest-address:%'";
    assert_eq!(server.database.integer(addresses), 3);

    // 40 guests of one address at once: all that the address may, and each counted as often as it was let through.
    let browsers: Vec<Browser> = (0..40).map(|_| guest(&server).0).collect();
    let allowed = in_parallel(120, |number| {
        let browser = &browsers[number % 40];
        ask(&mut at(number), browser, "198.51.100.1").status == 200
    });
    assert_eq!(allowed.iter().filter(|allowed| **allowed).count(), 15);
    for (at, browser) in browsers.iter().enumerate() {
        let passed = allowed.iter().skip(at).step_by(40).filter(|allowed| **allowed).count() as i64;
        let told = browser.clone().get("/api/guest").expect(200).json();
        assert_eq!(number(&told["allowances"][0]["used"]), passed, "{told}");
    }
}
on_both_engines!(many_at_once_are_counted_exactly);

fn counts_outlive_a_restart_and_end_a_day_after_the_first_use(engine: Engine) {
    let mut server = Server::with(engine, SETTINGS);
    let mut backend = Backend::of(&server);
    let (browser, _) = guest(&server);
    for _ in 0..3 {
        ask(&mut backend, &browser, "192.0.2.1").expect(200);
    }
    server.kill();
    server.restart();
    let mut backend = backend.another();
    refused(&ask(&mut backend, &browser, "192.0.2.1"), 429, "guest_limit_reached");
    // Almost a day, and a day later.
    assert_eq!(server.database.shift("counters", "expires_at", HOUR - DAY, "TRUE"), 2);
    refused(&ask(&mut backend, &browser, "192.0.2.1"), 429, "guest_limit_reached");
    assert_eq!(server.database.shift("counters", "expires_at", -HOUR, "TRUE"), 2);
    let answer = ask(&mut backend, &browser, "192.0.2.1").expect(200).json();
    assert_eq!(answer["guest"]["used"], 1);
}
on_both_engines!(counts_outlive_a_restart_and_end_a_day_after_the_first_use);

fn who_is_signed_in_is_a_user_and_nothing_is_counted(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let mut backend = Backend::of(&server);
    let mut browser = Browser::new(&server);
    browser.sign_up("ada@example.com");
    enter(&mut browser);
    let body = json!({"guest": {"action": "generate"}});
    let answer = backend.send(asked(&browser, "192.0.2.1", &body)).expect(200).json();
    assert_eq!((&answer["subject"]["kind"], &answer["guest"]), (&json!("user"), &Value::Null));
    let charge = json!({"guest": {"action": "generate"}, "charge": {"feature": "image"}});
    let keyed =
        |browser: &Browser, key: &str| asked(browser, "192.0.2.1", &charge).header("Idempotency-Key", key);
    refused(&backend.send(keyed(&browser, "one")), 402, "insufficient_credits");
    // The session is over: the guest pays with the allowance, and nothing is charged.
    browser.forget_cookie("better-auth.session_token");
    let answer = backend.send(keyed(&browser, "two")).expect(200).json();
    assert_eq!((&answer["guest"]["used"], &answer["charge"]), (&json!(1), &Value::Null));
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM credit_entries"), 0);
}
on_both_engines!(who_is_signed_in_is_a_user_and_nothing_is_counted);

fn who_is_no_guest_or_is_asked_for_more_does_not_pass(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let mut backend = Backend::of(&server);
    let (browser, guest_id) = guest(&server);
    let nobody = Browser::new(&server);
    let told = refused(&ask(&mut backend, &nobody, "192.0.2.1"), 401, "unauthenticated");
    assert!(text(&told["message"]).ends_with("POST /api/guest makes one"), "{told}");
    refused(&backend.send(asked(&browser, "192.0.2.1", &json!({}))), 401, "unauthenticated");
    let mut forged = Browser::new(&server);
    forged.set_cookie(COOKIE, &browser.cookie(COOKIE).expect("a cookie").replace('.', ".x"));
    refused(&ask(&mut backend, &forged, "192.0.2.1"), 401, "unauthenticated");
    for more in [
        json!({"user_id": guest_id}),
        json!({"role": "user"}),
        json!({"payer": {"guest_id": guest_id}}),
        json!({"payer": {"user_id": "somebody"}}),
    ] {
        let body = crate::harness::credits::merged(generate(), more);
        refused(&backend.send(asked(&browser, "192.0.2.1", &body)), 401, "unauthenticated");
    }
    for (body, field) in [
        (json!({"guest": {"action": "unknown"}}), "guest.action"),
        (json!({"guest": {"action": "Generate"}}), "guest.action"),
        (json!({"guest": {"action": ""}}), "guest.action"),
        (json!({"guest": {"action": ["generate"]}}), "guest.action"),
        (json!({"guest": {"action": "generate", "times": 2}}), "guest.times"),
        (json!({"guest": []}), "guest"),
    ] {
        let answer = refused(&backend.send(asked(&browser, "192.0.2.1", &body)), 422, "invalid_request");
        assert_eq!(answer["field"], field, "{answer}");
    }
    // Its row is gone: an id that has ended passes nowhere.
    assert_eq!(server.database.execute("DELETE FROM guests"), 1);
    refused(&ask(&mut backend, &browser, "192.0.2.1"), 401, "unauthenticated");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM counters"), 0);
}
on_both_engines!(who_is_no_guest_or_is_asked_for_more_does_not_pass);

fn a_proxy_lets_guests_pass_by_rule_and_by_its_own_word(engine: Engine) {
    let rules = "[[gate.rules]]\npath = \"/try/*\"\nguest = \"generate\"\n";
    let server = Server::with(engine, &format!("{SETTINGS}{rules}"));
    let (browser, _) = guest(&server);
    let forward = |browser: &Browser, path: &str, query: &str| {
        let request = Request::get(&format!("/api/gate/forward{query}"))
            .header("X-Forwarded-Method", "GET")
            .header("X-Forwarded-Uri", path)
            .header("X-Forwarded-Host", "app.example")
            .header("X-Forwarded-Proto", "https")
            .header("X-Forwarded-For", "192.0.2.1")
            .header("Cookie", &browser.cookie_header("/"));
        request.send(server.address).expect("an answer")
    };
    let answer = forward(&browser, "/try/it", "").expect(200);
    for name in ["User", "Email", "Roles", "Balance"] {
        assert_eq!(answer.header(&format!("X-Tollgate-{name}")), Some(""), "{name}");
    }
    forward(&browser, "/other", "?guest=generate").expect(200);
    forward(&browser, "/other", "").expect(401);
    forward(&browser, "/try/it", "").expect(200);
    refused(&forward(&browser, "/try/it", ""), 429, "guest_limit_reached");
    forward(&browser, "/other", "?guest=preview").expect(200);
    // A person who is no guest either is sent to sign in, as from every page.
    let page = Request::get("/api/gate/forward")
        .header("X-Forwarded-Method", "GET")
        .header("X-Forwarded-Uri", "/try/it")
        .header("Accept", "text/html");
    page.send(server.address).expect("an answer").expect(302);
    refused(&forward(&browser, "/other", "?guest=unknown"), 422, "invalid_request");
}
on_both_engines!(a_proxy_lets_guests_pass_by_rule_and_by_its_own_word);

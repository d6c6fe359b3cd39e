//! A guest becomes a user: credits move once and in one piece with the session that begins, whatever happens beside it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kernel::time::DAY;
use serde_json::{Value, json};

use crate::harness::credits::{
    Backend, books_balance, figures, fresh_key, in_milliseconds, ledger_verifies, merged, number, refused,
    text, wait_for_quiet,
};
use crate::harness::guest::{COOKIE, enter, guest, look_with};
use crate::harness::{Browser, Engine, PASSWORD, Request, Response, Server, in_parallel};
use crate::on_both_engines;

const PATIENCE: Duration = Duration::from_secs(15);
const UNITS: &str = "[credits]\nunits = [\"credits\", \"tokens\"]\n[guest]\nallowances = { generate = 3 }\n";

#[track_caller]
fn grant_to(backend: &mut Backend, guest_id: &str, more: Value) -> Value {
    try_grant(backend, guest_id, more).expect(201).json()["grant"].clone()
}

fn try_grant(backend: &mut Backend, guest_id: &str, more: Value) -> Response {
    let body = json!({"guest_id": guest_id, "source": "promo", "reason": "welcome"});
    backend.post("grants", &fresh_key(), &merged(body, more))
}

#[track_caller]
fn balance_of(backend: &mut Backend, owner: &str, unit: &str) -> Value {
    backend.get(&format!("balance?{owner}&unit={unit}")).expect(200).json()
}

/// `balance` of the first unit.
#[track_caller]
fn credits_of(backend: &mut Backend, owner: &str) -> i64 {
    number(&balance_of(backend, owner, "credits")["balance"])
}

#[track_caller]
fn user_id(answer: &Value) -> String {
    text(&answer["user"]["id"])
}

fn an_email() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("person{}@example.com", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The line that takes the cookie from the browser.
fn clears_cookie(response: &Response) -> bool {
    response
        .all("Set-Cookie")
        .any(|line| line == format!("{COOKIE}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"))
}

fn credits_of_a_guest_go_to_the_user_that_it_becomes(engine: Engine) {
    let server = Server::with(engine, UNITS);
    let mut backend = Backend::of(&server);
    let (mut browser, guest_id) = guest(&server);
    let old_cookie = browser.cookie(COOKIE).expect("a cookie").to_owned();
    let expires_at = in_milliseconds(DAY);
    grant_to(&mut backend, &guest_id, json!({"amount": 7, "expires_at": expires_at, "priority": 10}));
    grant_to(&mut backend, &guest_id, json!({"amount": 5, "source": "paid"}));
    grant_to(&mut backend, &guest_id, json!({"amount": 900, "unit": "tokens"}));
    backend.post("debits", &fresh_key(), &json!({"guest_id": guest_id, "amount": 2})).expect(201);
    let as_guest = format!("guest_id={guest_id}");
    assert_eq!(figures(&balance_of(&mut backend, &as_guest, "credits")), [10, 0, 10, 0]);

    let body = json!({"name": "Ada", "email": "ada@example.com", "password": PASSWORD});
    let answer = browser.post("/api/auth/sign-up/email", body).expect(200);
    assert!(clears_cookie(&answer), "{:?}", answer.headers);
    assert_eq!(browser.cookie(COOKIE), None);
    let as_user = format!("user_id={}", user_id(&answer.json()));
    let balance = balance_of(&mut backend, &as_user, "credits");
    assert_eq!(figures(&balance), [10, 0, 10, 0]);
    let grants: Vec<_> = balance["grants"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|lot| json!([lot["source"], lot["remaining"], lot["expires_at"], lot["priority"]]))
        .collect();
    assert_eq!(grants, [json!(["promo", 5, expires_at, 10]), json!(["paid", 5, null, 50])]);
    assert_eq!(credits_of(&mut backend, &as_guest), 0);
    assert_eq!(number(&balance_of(&mut backend, &as_user, "tokens")["balance"]), 900);
    let entries = backend.get(&format!("entries?{as_user}&unit=credits")).expect(200).json();
    let kinds: Vec<&Value> =
        entries["items"].as_array().expect("a list").iter().map(|e| &e["kind"]).collect();
    assert_eq!(kinds, ["transfer"]);
    assert_eq!(entries["items"][0]["source_ref"], format!("guest:{guest_id}"));

    // The id has ended: at the door, at the gate, for grants and for another sign-in.
    refused(&look_with(&server, &old_cookie), 401, "unauthenticated");
    let asked = Request::post("/api/gate/authorize", &json!({"guest": {"action": "generate"}}));
    let asked = asked.header("Cookie", &format!("{COOKIE}={old_cookie}"));
    refused(&backend.send(asked), 401, "unauthenticated");
    refused(&try_grant(&mut backend, &guest_id, json!({"amount": 1})), 404, "not_found");
    let mut replay = Browser::new(&server);
    replay.set_cookie(COOKIE, &old_cookie);
    let mallory = user_id(&replay.sign_up("mallory@example.com"));
    assert_eq!(credits_of(&mut backend, &format!("user_id={mallory}")), 0);
    assert_eq!(replay.cookie(COOKIE), None);
    replay.set_cookie(COOKIE, &old_cookie);
    assert_ne!(enter(&mut replay), guest_id);
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(credits_of_a_guest_go_to_the_user_that_it_becomes);

fn every_way_to_sign_in_takes_the_guest_along(engine: Engine) {
    let settings = "[email_password]\nrequire_verification = true\nauto_sign_in_after_verification = true\n";
    let server = Server::with(engine, &format!("{UNITS}{settings}"));
    let mut backend = Backend::of(&server);
    let (mut browser, guest_id) = guest(&server);
    grant_to(&mut backend, &guest_id, json!({"amount": 3}));
    // A sign-up that waits for its proof begins no session and tells nobody whether the address was free.
    let body = json!({"name": "Ada", "email": "ada@example.com", "password": PASSWORD});
    let waiting = browser.post("/api/auth/sign-up/email", body).expect(200);
    let as_user = format!("user_id={}", user_id(&waiting.json()));
    assert!(waiting.header("Set-Cookie").is_none());
    assert_eq!(credits_of(&mut backend, &as_user), 0);
    let refusal = browser.try_sign_in("ada@example.com", PASSWORD);
    assert_eq!((refusal.status, refusal.header("Set-Cookie")), (403, None));
    // One of the sign-up, one of the refused sign-in.
    let [_, link] = [(); 2].map(|()| server.mail.take("ada@example.com", PATIENCE).link());
    let followed = browser.follow(&link);
    assert!(clears_cookie(&followed), "{followed:?}");
    assert!(browser.session().is_object());
    assert_eq!(credits_of(&mut backend, &as_user), 3);

    // A wrong password leaves the guest as it is, the right one does not.
    let (mut browser, guest_id) = guest(&server);
    grant_to(&mut backend, &guest_id, json!({"amount": 4}));
    let wrong = browser.try_sign_in("ada@example.com", "wrong horse battery staple");
    assert_eq!((wrong.status, wrong.header("Set-Cookie")), (401, None));
    assert_eq!(credits_of(&mut backend, &format!("guest_id={guest_id}")), 4);
    let answer = browser.try_sign_in("ada@example.com", PASSWORD).expect(200);
    assert!(clears_cookie(&answer));
    assert_eq!(credits_of(&mut backend, &as_user), 7);

    // A page that makes everybody a guest does so to users as well; their next session takes that along.
    let guest_id = enter(&mut browser);
    grant_to(&mut backend, &guest_id, json!({"amount": 5}));
    let change = json!({"currentPassword": PASSWORD, "newPassword": "another horse battery staple",
        "revokeOtherSessions": true});
    let answer = browser.post("/api/auth/change-password", change).expect(200);
    assert!(clears_cookie(&answer));
    assert_eq!(credits_of(&mut backend, &as_user), 12);
    ledger_verifies(&server);
}
on_both_engines!(every_way_to_sign_in_takes_the_guest_along);

fn the_sign_up_grant_and_the_guests_credits_come_together(engine: Engine) {
    let settings = "[credits]\nsignup_grant = 100\n[guest]\nallowances = { generate = 3 }\n";
    let server = Server::with(engine, settings);
    let mut backend = Backend::of(&server);
    let (mut browser, guest_id) = guest(&server);
    grant_to(&mut backend, &guest_id, json!({"amount": 3}));
    let id = user_id(&browser.sign_up("ada@example.com"));
    assert_eq!(credits_of(&mut backend, &format!("user_id={id}")), 103);
    // A guest that has nothing costs nobody the grant.
    let (mut browser, _) = guest(&server);
    let id = user_id(&browser.sign_up("bob@example.com"));
    assert_eq!(credits_of(&mut backend, &format!("user_id={id}")), 100);
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(the_sign_up_grant_and_the_guests_credits_come_together);

fn a_guests_counts_stay_until_their_end(engine: Engine) {
    let settings = "[guest]\nallowances = { generate = 3 }\naddress_allowances = { generate = 4 }\n";
    let server = Server::with(engine, settings);
    let mut backend = Backend::of(&server);
    let (mut browser, _) = guest(&server);
    let ask = |backend: &mut Backend, browser: &Browser| {
        let asked = Request::post("/api/gate/authorize", &json!({"guest": {"action": "generate"}}));
        backend.send(asked.header("Cookie", &browser.cookie_header("/")))
    };
    for _ in 0..3 {
        ask(&mut backend, &browser).expect(200);
    }
    browser.sign_up("ada@example.com");
    assert_eq!(server.database.integer("SELECT SUM(count) FROM counters WHERE key LIKE 'guest%'"), 6);
    // Signing out and being a new guest brings one more, and no other allowance.
    browser.sign_out();
    enter(&mut browser);
    ask(&mut backend, &browser).expect(200);
    refused(&ask(&mut backend, &browser), 429, "guest_limit_reached");
}
on_both_engines!(a_guests_counts_stay_until_their_end);

fn sign_ins_that_race_move_credits_once(engine: Engine) {
    let server = Server::with(engine, UNITS);
    let second = (engine == Engine::Postgres).then(|| Server::second_node(&server));
    let node = |number: usize| second.as_ref().filter(|_| number % 2 == 1).unwrap_or(&server);
    let mut backend = Backend::of(&server);
    const PEOPLE: usize = 8;
    let ids: Vec<String> = (0..PEOPLE)
        .map(|number| user_id(&Browser::new(&server).sign_up(&format!("racer{number}@example.com"))))
        .collect();
    for round in 1..=3 {
        let (browser, guest_id) = guest(&server);
        grant_to(&mut backend, &guest_id, json!({"amount": 100}));
        grant_to(&mut backend, &guest_id, json!({"amount": 10, "unit": "tokens"}));
        let before: i64 = ids.iter().map(|id| credits_of(&mut backend, &format!("user_id={id}"))).sum();
        assert_eq!(before, 100 * (round - 1));
        // Each person twice, as when a button is pressed twice.
        in_parallel(2 * PEOPLE, |number| {
            let mut browser = browser.at(node(number));
            browser.sign_in(&format!("racer{}@example.com", number / 2));
        });
        let of = |backend: &mut Backend, id: &String| {
            let owner = format!("user_id={id}");
            let tokens = number(&balance_of(backend, &owner, "tokens")["balance"]);
            (credits_of(backend, &owner), tokens)
        };
        let shares: Vec<(i64, i64)> = ids.iter().map(|id| of(&mut backend, id)).collect();
        assert_eq!(shares.iter().map(|share| share.0).sum::<i64>(), 100 * round);
        // Both units go to the same person.
        assert!(shares.iter().all(|(credits, tokens)| *credits == 10 * tokens), "{shares:?}");
        assert_eq!(credits_of(&mut backend, &format!("guest_id={guest_id}")), 0);
    }
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(sign_ins_that_race_move_credits_once);

fn what_is_granted_or_spent_meanwhile_is_neither_lost_nor_doubled(engine: Engine) {
    let server = Server::with(engine, UNITS);
    let mut backend = Backend::of(&server);
    let email = an_email();
    let owner = format!("user_id={}", user_id(&Browser::new(&server).sign_up(&email)));
    for _ in 0..4 {
        let (browser, guest_id) = guest(&server);
        let before = credits_of(&mut backend, &owner);
        let moved = in_parallel(13, |number| match number {
            0 => {
                browser.clone().sign_in(&email);
                0
            }
            // The first grant makes the account.
            1..=8 => {
                i64::from(try_grant(&mut backend.another(), &guest_id, json!({"amount": 10})).status == 201)
                    * 10
            }
            _ => {
                let body = json!({"guest_id": guest_id, "amount": 1});
                -i64::from(backend.another().post("debits", &fresh_key(), &body).status == 201)
            }
        });
        let answered: i64 = moved.iter().sum();
        assert_eq!(credits_of(&mut backend, &owner), before + answered);
        let left = backend.get(&format!("balance?guest_id={guest_id}"));
        assert!(left.status == 404 || left.json()["balance"] == 0, "{}", left.text());
    }
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(what_is_granted_or_spent_meanwhile_is_neither_lost_nor_doubled);

fn what_is_held_stays_where_its_hold_can_be_captured(engine: Engine) {
    let server = Server::with(engine, UNITS);
    let mut backend = Backend::of(&server);
    let (mut browser, guest_id) = guest(&server);
    grant_to(&mut backend, &guest_id, json!({"amount": 10}));
    let hold = json!({"guest_id": guest_id, "amount": 4, "expires_in": 3_600});
    let hold = backend.post("holds", &fresh_key(), &hold).expect(201).json();
    let id = user_id(&browser.sign_up("ada@example.com"));
    assert_eq!(credits_of(&mut backend, &format!("user_id={id}")), 6);
    let as_guest = format!("guest_id={guest_id}");
    assert_eq!(figures(&balance_of(&mut backend, &as_guest, "credits")), [4, 4, 0, 0]);
    let capture = format!("holds/{}/capture", text(&hold["hold"]["id"]));
    backend.post(&capture, &fresh_key(), &json!({"amount": 3})).expect(200);
    // What the capture left free is the operator's to move.
    let transfer =
        json!({"from": {"guest_id": guest_id}, "to": {"user_id": id}, "amount": 1, "reason": "rest"});
    backend.post("transfers", &fresh_key(), &transfer).expect(201);
    assert_eq!(credits_of(&mut backend, &format!("user_id={id}")), 7);
    assert_eq!(credits_of(&mut backend, &as_guest), 0);
    ledger_verifies(&server);
}
on_both_engines!(what_is_held_stays_where_its_hold_can_be_captured);

fn only_guests_that_are_there_have_credits(engine: Engine) {
    let server = Server::with(engine, UNITS);
    let mut backend = Backend::of(&server);
    let (_, guest_id) = guest(&server);
    for stranger in ["nobody", "AbCdEfGhIjKlMnOpQrStUvWxYz012345"] {
        refused(&try_grant(&mut backend, stranger, json!({"amount": 1})), 404, "not_found");
        refused(&backend.get(&format!("balance?guest_id={stranger}")), 404, "not_found");
    }
    assert_eq!(credits_of(&mut backend, &format!("guest_id={guest_id}")), 0);
    let grant = grant_to(&mut backend, &guest_id, json!({"amount": 1}));
    assert_eq!(grant["guest_id"], json!(guest_id));
    // Somebody else's id in the other member is somebody else.
    refused(&backend.get(&format!("balance?user_id={guest_id}")), 404, "not_found");
}
on_both_engines!(only_guests_that_are_there_have_credits);

fn a_crash_leaves_a_guest_or_a_user_and_never_half_of_each(engine: Engine) {
    let mut server = Server::with(engine, UNITS);
    let mut backend = Backend::of(&server);
    const GUESTS: usize = 24;
    let guests: Vec<(Browser, String)> = (0..GUESTS).map(|_| guest(&server)).collect();
    for (_, id) in &guests {
        grant_to(&mut backend, id, json!({"amount": 10}));
        grant_to(&mut backend, id, json!({"amount": 30, "unit": "tokens"}));
    }
    let done = AtomicUsize::new(0);
    let address = server.address;
    std::thread::scope(|scope| {
        for (number, (browser, _)) in guests.iter().enumerate() {
            let done = &done;
            let cookies = browser.cookie_header("/");
            scope.spawn(move || {
                let body =
                    json!({"name": "A", "email": format!("crash{number}@example.com"), "password": PASSWORD});
                let request = Request::post("/api/auth/sign-up/email", &body)
                    .header("Cookie", &cookies)
                    .header("Origin", "https://app.example");
                // Some are cut off by the crash, and that is the point.
                if request.send(address).is_ok_and(|answer| answer.status == 200) {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while done.load(Ordering::Relaxed) < GUESTS / 3 {
            std::thread::yield_now();
        }
        server.kill();
    });
    wait_for_quiet(&server.database);
    server.restart();
    let mut backend = backend.another();
    let mut became = 0;
    for (browser, id) in &guests {
        let mut of = |owner: &str| {
            ["credits", "tokens"].map(|unit| number(&balance_of(&mut backend, owner, unit)["balance"]))
        };
        let left = of(&format!("guest_id={id}"));
        let lives = browser.clone().get("/api/guest").status == 200;
        assert_eq!(left, if lives { [10, 30] } else { [0, 0] });
        became += usize::from(!lives);
    }
    assert!(became >= done.load(Ordering::Relaxed));
    let users = "SELECT COUNT(*) FROM credit_accounts WHERE owner LIKE 'user:%'";
    assert_eq!(server.database.integer(users), 2 * became as i64);
    let moved =
        "SELECT CAST(COALESCE(SUM(balance), 0) AS BIGINT) FROM credit_accounts WHERE owner LIKE 'user:%'";
    assert_eq!(server.database.integer(moved), 40 * became as i64);
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(a_crash_leaves_a_guest_or_a_user_and_never_half_of_each);

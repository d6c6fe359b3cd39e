//! Stripe gone, slow or talking nonsense; the database gone; the server told to stop: people are answered in time, and events are
//! worked off as soon as all is well.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use till::Fault;

use crate::harness::shop::{Buyer, SECRET, Shop, signed};
use crate::harness::{Connection, Engine, Request, Response, in_parallel, until};
use crate::instances::Instance;
use crate::on_both_engines;

const PATIENCE: Duration = Duration::from_secs(20);
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

fn asks(buyer: &Buyer<'_>, item: &str) -> (Response, Duration) {
    let began = Instant::now();
    let answer = buyer.browser.clone().post("/api/auth/billing/checkout", json!({"price": item}));
    (answer, began.elapsed())
}

/// For what may take as long as promised, and longer.
fn patiently(shop: &Shop, request: &Request) -> (Response, Duration) {
    let began = Instant::now();
    let mut connection = Connection::open(shop.server.address).expect("it accepts");
    connection.set_timeout(PATIENCE);
    (connection.exchange(request).expect("an answer"), began.elapsed())
}

#[track_caller]
fn expect_silence(answer: &Response, took: Duration) {
    assert!(took <= ANSWERED_WITHIN, "{took:?}");
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (503, &json!("STRIPE_UNAVAILABLE")),
        "{}",
        answer.text()
    );
    assert!(answer.json()["message"].as_str().is_some_and(|message| message.contains("try again")));
}

/// Whatever a checkout meets at Stripe, the buyer hears of it in time, and the next one succeeds.
fn a_checkout_that_fails_at_stripe_is_told_and_harms_nothing(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let key = shop.server.service_key();
    for fault in [Fault::Status(503), Fault::TooMany, Fault::Broken, Fault::WrongJson] {
        shop.till.fault(fault, u32::MAX);
        let answers = in_parallel(2, |door| match door {
            0 => asks(&ada, "small"),
            _ => {
                let wish = json!({"user_id": ada.id, "price": "small"});
                let request = Request::post("/api/billing/checkout", &wish)
                    .header("Authorization", &format!("Bearer {key}"));
                patiently(&shop, &request)
            }
        });
        let [(person, took), (backend, _)] = answers.try_into().expect("two answers");
        expect_silence(&person, took);
        assert_eq!(
            (backend.status, &backend.json()["error_code"]),
            (503, &json!("unavailable")),
            "{fault:?}"
        );
        assert!(backend.header("Retry-After").is_some());
        shop.till.clear_faults();
    }
    shop.till.fault(Fault::Status(400), 1);
    let (refused, _) = asks(&ada, "small");
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (502, &json!("STRIPE_REFUSED")),
        "{}",
        refused.text()
    );
    ada.buy("small");
    shop.settled();
    assert_eq!(ada.balance(), 500);
    shop.expect_sound();
}
on_both_engines!(a_checkout_that_fails_at_stripe_is_told_and_harms_nothing);

/// Done and not answered: the same key finds it, so nothing is made twice.
fn what_was_done_and_not_answered_is_not_done_twice(engine: Engine) {
    let shop = Shop::open(engine);
    for fault in [Fault::BrokenAfterWork, Fault::WrongJson, Fault::Status(500), Fault::TooMany, Fault::Broken]
    {
        let mut buyer = shop.buyer();
        let count = |list: &str| {
            let found = shop.till.call("GET", &format!("/v1/{list}"), &[("limit", "100")]).expect("a list");
            found["data"].as_array().expect("a list").len()
        };
        let before = (count("customers"), count("checkout/sessions"));
        shop.till.fault_on("/v1/customers", fault, 1);
        shop.till.fault_on("/v1/checkout/sessions", fault, 2);
        let session = buyer.checkout(&json!({"price": "small"}));
        assert_eq!(
            (count("customers"), count("checkout/sessions")),
            (before.0 + 1, before.1 + 1),
            "{fault:?}"
        );
        shop.till.pay(&session).expect("it is paid");
        shop.settled();
        assert_eq!(buyer.balance(), 500);
    }
    // A failure that Stripe keeps under the key ends with that checkout; the next one has another key.
    let ada = shop.buyer();
    shop.till.fault_on("/v1/checkout/sessions", Fault::KeptFailure, 1);
    let (answer, took) = asks(&ada, "small");
    expect_silence(&answer, took);
    assert_eq!(asks(&ada, "small").0.status, 200);
    shop.expect_sound();
}
on_both_engines!(what_was_done_and_not_answered_is_not_done_twice);

/// A session whose making was never answered can still be paid, and is known by what we wrote into it.
fn a_silent_stripe_is_not_waited_for_longer_than_ten_seconds(engine: Engine) {
    let shop = Shop::open(engine);
    let buyers: Vec<Buyer<'_>> = (0..4).map(|_| shop.buyer()).collect();
    shop.till.fault_on("/v1/customers", Fault::Silent, 2);
    shop.till.fault_on("/v1/checkout/sessions", Fault::SilentAfterWork, 2);
    let answers = in_parallel(buyers.len(), |number| asks(&buyers[number], "small"));
    for (answer, took) in &answers {
        expect_silence(answer, *took);
    }
    let open = shop.till.call("GET", "/v1/checkout/sessions", &[("status", "open")]).expect("a list");
    let sessions = open["data"].as_array().expect("a list").clone();
    assert_eq!(sessions.len(), 2);
    for session in &sessions {
        shop.till.pay(session["id"].as_str().expect("an id")).expect("it is paid");
    }
    shop.settled();
    let balances: i64 = buyers.iter().map(Buyer::balance).sum();
    assert_eq!(balances, 1_000);
    shop.expect_sound();
}
on_both_engines!(a_silent_stripe_is_not_waited_for_longer_than_ten_seconds);

/// Each call is just quick enough; all of them together are not.
#[test]
fn slow_answers_one_after_the_other_do_not_add_up() {
    let shop = Shop::open(Engine::Sqlite);
    let (ada, bob) = (shop.buyer(), shop.buyer());
    let slow = Fault::Slow(Duration::from_millis(6_000));
    shop.till.fault(slow, u32::MAX);
    for (answer, took) in
        in_parallel(2, |number| if number == 0 { asks(&ada, "small") } else { asks(&bob, "basic") })
    {
        expect_silence(&answer, took);
    }
}

/// Thirty seconds are longer than anybody waits; the door for deliveries and everything else goes on meanwhile.
fn while_stripe_is_slow_deliveries_are_taken_and_nothing_else_waits(engine: Engine) {
    let mut shop = Shop::open(engine);
    {
        let mut ada = shop.buyer();
        let sessions: Vec<String> = (0..12).map(|_| ada.checkout(&json!({"price": "small"}))).collect();
        shop.till.fault_on("/v1/checkout/sessions/", Fault::Slow(Duration::from_secs(30)), u32::MAX);
        for session in &sessions {
            shop.till.pay(session).expect("it is paid");
        }
        assert!(shop.till.wait_for_deliveries(PATIENCE));
        let slowest = shop.till.events_of("checkout.session.completed").remove(0);
        assert!(shop.till.attempts(&slowest).iter().all(till::Attempt::succeeded));
        let body = br#"{"id":"evt_now","object":"event","type":"price.updated","livemode":false}"#;
        for _ in 0..20 {
            let began = Instant::now();
            shop.deliver(Some(&signed(&[SECRET], body)), body).expect(200);
            ada.browser.get("/api/auth/get-session").expect(200);
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        }
        assert_eq!(ada.balance(), 0);
    }
    // A stop does not wait for it either, and loses nothing.
    let (status, took) = shop.server.stop();
    assert!(status.success() && took <= Duration::from_secs(10), "{status} after {took:?}");
    let leased = "SELECT COUNT(*) FROM billing_inbox WHERE leased_until > 0 AND state = 'pending'";
    assert_eq!(shop.server.database.integer(leased), 0, "leases were not given back");
    shop.till.clear_faults();
    shop.server.restart();
    // Nothing but their own second attempt is waited for.
    shop.settled();
    assert_eq!(
        shop.server.database.integer("SELECT CAST(SUM(balance) AS BIGINT) FROM credit_accounts"),
        6_000
    );
    shop.expect_sound();
}
on_both_engines!(while_stripe_is_slow_deliveries_are_taken_and_nothing_else_waits);

/// Events that meet a fault wait longer and longer, and are finished when Stripe is back.
fn events_are_tried_again_until_stripe_is_back(engine: Engine) {
    const FAULTS: [Fault; 5] =
        [Fault::Status(500), Fault::TooMany, Fault::Broken, Fault::WrongJson, Fault::Status(401)];
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let sessions = FAULTS.map(|fault| {
        let session = ada.checkout(&json!({"price": "small"}));
        shop.till.fault_on(&format!("/v1/checkout/sessions/{session}"), fault, u32::MAX);
        session
    });
    for session in &sessions {
        shop.till.pay(session).expect("it is paid");
    }
    // The pause after the first time is a second, after the second time it is five.
    let waits = "SELECT COUNT(*) FROM billing_inbox WHERE state = 'pending' AND due_at - received_at >= 5000";
    until(PATIENCE, "all wait for their third time", || {
        (shop.server.database.integer(waits) == 5).then_some(())
    });
    for completed in shop.till.events_of("checkout.session.completed") {
        let event = shop.effect(&completed);
        assert_eq!(event["status"], "pending", "{event}");
        assert!(event["attempts"].as_i64() >= Some(2), "{event}");
        // What came of it is told without what is secret.
        let error = event["error"].as_str().expect("a text");
        assert!(error.contains("Stripe") && !error.contains("sk_test"), "{error}");
    }
    assert_eq!(ada.balance(), 0);
    shop.till.clear_faults();
    shop.time_passes(60_000);
    shop.settled();
    assert_eq!(ada.balance(), 2_500);
    shop.expect_sound();
}
on_both_engines!(events_are_tried_again_until_stripe_is_back);

/// What Stripe refuses, or what does not fit, is put aside where operators see it; a replay opens it.
fn what_cannot_succeed_is_shown_and_can_be_replayed(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let sessions = [ada.checkout(&json!({"price": "small"})), ada.checkout(&json!({"price": "small"}))];
    shop.till.fault_on("/v1/checkout/sessions/", Fault::Status(400), 1);
    shop.till.pay(&sessions[0]).expect("it is paid");
    until(PATIENCE, "it is given up", || {
        (shop.backend_get("events?status=failed")["items"] != json!([])).then_some(())
    });
    // The other one was tampered with: its lines are not what our row says.
    let spoil = |item: &str| {
        let sql =
            format!("UPDATE billing_checkouts SET price = '{item}' WHERE session_id = '{}'", sessions[1]);
        assert_eq!(shop.server.database.execute(&sql), 1);
    };
    spoil("price_large");
    shop.till.pay(&sessions[1]).expect("it is paid");
    shop.settled();
    let failed = || shop.backend_get("events?status=failed")["items"].as_array().expect("a list").clone();
    assert_eq!((failed().len(), ada.balance()), (2, 0), "{:?}", failed());
    assert!(
        failed()
            .iter()
            .any(|event| event["error"].as_str().is_some_and(|error| error.contains("price_large")))
    );
    let replay = |code| {
        let done = shop.server.command(&["billing", "replay", "--failed", "--json"]);
        assert_eq!(done.code, Some(code), "{done:?}");
    };
    replay(1);
    assert_eq!((failed().len(), ada.balance()), (1, 500));
    spoil("price_small");
    replay(0);
    assert_eq!((failed().len(), ada.balance()), (0, 1_000));
    // Once more changes nothing, also of what was done.
    let [done, _] = shop.till.events_of("checkout.session.completed").try_into().expect("two events");
    shop.server.command(&["billing", "replay", &done, "--json"]).expect_done();
    assert_eq!(ada.balance(), 1_000);
    shop.expect_sound();
}
on_both_engines!(what_cannot_succeed_is_shown_and_can_be_replayed);

/// Three days of trying are enough.
fn after_three_days_an_event_is_given_up_and_shown(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let session = ada.checkout(&json!({"price": "small"}));
    shop.till.fault_on("/v1/checkout/sessions/", Fault::Status(503), u32::MAX);
    shop.till.pay(&session).expect("it is paid");
    assert!(shop.till.wait_for_deliveries(PATIENCE));
    shop.server.database.shift("billing_inbox", "received_at", -3 * 86_400_000, "state = 'pending'");
    let [completed] = shop.till.events_of("checkout.session.completed").try_into().expect("one event");
    let given_up = until(PATIENCE, "it is given up", || {
        shop.time_passes(1_000);
        let event = shop.effect(&completed);
        (event["status"] == "failed").then_some(event)
    });
    assert!(given_up["error"].as_str().is_some_and(|error| error.contains("503")), "{given_up}");
    shop.till.clear_faults();
    shop.server.command(&["billing", "replay", &completed]).expect_done();
    assert_eq!(ada.balance(), 500);
    shop.expect_sound();
}
on_both_engines!(after_three_days_an_event_is_given_up_and_shown);

/// What was not written down is not acknowledged: Stripe sends it again.
#[test]
fn while_the_database_is_gone_deliveries_are_refused_and_come_again() {
    let mut postgres = Instance::postgres();
    let shop = Shop::on(&postgres.url());
    let mut ada = shop.buyer();
    let sessions: Vec<String> = (0..4).map(|_| ada.checkout(&json!({"price": "small"}))).collect();
    for (round, session) in sessions.iter().enumerate() {
        let frozen = round == 3;
        if frozen {
            postgres.freeze();
        } else {
            postgres.crash();
        }
        let before: Vec<Value> = shop.till.events();
        shop.till.pay(session).expect("it is paid");
        assert!(shop.till.wait_for_deliveries(PATIENCE), "the till still delivers");
        for event in shop.till.events().iter().skip(before.len()) {
            let attempts = shop.till.attempts(event["id"].as_str().expect("an id"));
            assert!(
                !attempts.is_empty() && attempts.iter().all(|attempt| attempt.status == Some(503)),
                "{attempts:?}"
            );
        }
        let body = br#"{"id":"evt_now","object":"event","type":"price.updated","livemode":false}"#;
        let request = Request::new("POST", "/api/billing/webhook")
            .header("Stripe-Signature", &signed(&[SECRET], body))
            .body(body.to_vec());
        let (answer, took) = patiently(&shop, &request);
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.header("Retry-After").is_some());
        let limit = Duration::from_secs(if frozen { 5 } else { 2 });
        assert!(took <= limit, "{took:?}");
        if frozen {
            postgres.thaw();
        } else {
            postgres.start_again();
        }
        until(PATIENCE, "the delivery is taken again", || {
            shop.till.advance(Duration::from_secs(61));
            let paid = 500 * (i64::try_from(round).expect("few") + 1);
            let mut browser = ada.browser.clone();
            let answer = browser.get("/api/auth/credits/balance");
            (answer.status == 200 && answer.json()["balance"] == paid).then_some(())
        });
    }
}

/// A stop in the middle of work, with deliveries that go on arriving.
fn a_stop_in_the_middle_of_work_loses_nothing(engine: Engine) {
    let mut shop = Shop::open(engine);
    let id = {
        let mut ada = shop.buyer();
        let sessions: Vec<String> = (0..30).map(|_| ada.checkout(&json!({"price": "small"}))).collect();
        for session in &sessions {
            shop.till.pay(session).expect("it is paid");
        }
        ada.id
    };
    for _ in 0..3 {
        let (status, took) = shop.server.stop();
        assert!(status.success() && took <= Duration::from_secs(10), "{status} after {took:?}");
        shop.server.restart();
        shop.till.advance(Duration::from_secs(61));
    }
    shop.till.advance(Duration::from_secs(600));
    shop.settled();
    let balance = format!("SELECT balance FROM credit_accounts WHERE owner = 'user:{id}'");
    assert_eq!(shop.server.database.integer(&balance), 30 * 500);
    shop.expect_sound();
}
on_both_engines!(a_stop_in_the_middle_of_work_loses_nothing);

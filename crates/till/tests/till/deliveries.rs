use crate::listener::Listener;
use crate::wire::ask;
use crate::world::*;
use std::time::Duration;
use till::{Till, signature};

const PATIENCE: Duration = Duration::from_secs(20);

fn connected() -> (Till, Listener) {
    let listener = Listener::start();
    let till = Till::start(options().webhook(&listener.url(), SECRET)).expect("a till");
    (till, listener)
}

#[test]
fn events_arrive_in_order_signed_and_count_as_delivered() {
    let (till, listener) = connected();
    paid_pack(&till);
    assert!(till.wait_for_deliveries(PATIENCE));
    assert_eq!(listener.kinds(), kinds(&till, 0));
    let seconds = START.0 / 1_000;
    for arrival in listener.arrivals() {
        assert!(signature::verify(SECRET, &arrival.signature, arrival.body.as_bytes(), seconds, 300));
        assert_eq!(arrival.event()["pending_webhooks"], 1);
    }
    assert!(till.events().iter().all(|event| event["pending_webhooks"] == 0));
}

#[test]
fn a_failed_delivery_is_tried_again_by_the_clock_with_a_new_signature_for_three_days() {
    let (till, listener) = connected();
    listener.answer_next(&[500, 302]);
    post(&till, "/v1/customers", &[]);
    assert!(till.wait_for_deliveries(PATIENCE));
    let event = till.events_of("customer.created").remove(0);
    assert_eq!(till.attempts(&event).iter().map(|attempt| attempt.status).collect::<Vec<_>>(), [Some(500)]);
    let undelivered = get(&till, "/v1/events", &[("delivery_success", "false")]);
    assert_eq!(undelivered["data"][0]["id"], event.as_str());
    till.advance(Duration::from_secs(60));
    assert!(till.wait_for_deliveries(PATIENCE));
    till.advance(Duration::from_secs(300));
    assert!(till.wait_for_deliveries(PATIENCE));
    assert_eq!(
        till.attempts(&event).iter().map(|attempt| attempt.status).collect::<Vec<_>>(),
        [Some(500), Some(302), Some(200)]
    );
    till.advance(Duration::from_secs(10 * DAY));
    assert!(till.wait_for_deliveries(PATIENCE));
    assert_eq!(listener.arrivals().len(), 3);

    listener.answer_next(&[500; 20]);
    post(&till, "/v1/customers", &[]);
    for _ in 0..200 {
        till.advance(Duration::from_secs(DAY / 24));
        assert!(till.wait_for_deliveries(PATIENCE));
    }
    let attempts = till.attempts(&till.events_of("customer.created")[1]);
    let spent = attempts[attempts.len() - 1].at.0 - attempts[0].at.0;
    assert_eq!(attempts.len(), 11);
    assert!((60..=100).contains(&(spent / 3_600_000)), "three days, not {spent} ms");
}

#[test]
fn copies_order_loss_and_holding_are_in_the_tests_hands() {
    let (till, listener) = connected();
    till.hold_deliveries();
    paid_pack(&till);
    let held = till.held_events();
    assert_eq!((held.len(), listener.arrivals().len()), (4, 0));
    let backwards: Vec<String> = held.iter().rev().cloned().collect();
    let attempts = till.deliver_in_order(&backwards).expect("an endpoint");
    assert!(attempts.iter().all(till::Attempt::succeeded));
    let mut expected = kinds(&till, 0);
    expected.reverse();
    assert_eq!(listener.kinds(), expected);

    let copies = till.deliver(&held[3], 20).expect("an endpoint");
    assert_eq!((copies.len(), listener.arrivals().len()), (20, 24));
    till.release_deliveries();
    assert!(till.wait_for_deliveries(PATIENCE));
    assert_eq!(listener.arrivals().len(), 24, "what was delivered by hand is not held any more");

    till.lose_next(1);
    post(&till, "/v1/customers", &[]);
    post(&till, "/v1/customers", &[]);
    assert!(till.wait_for_deliveries(PATIENCE));
    assert_eq!(listener.arrivals().len(), 25);
    let lost = till.events_of("customer.created").remove(0);
    assert!(till.attempts(&lost).is_empty());
    assert_eq!(get(&till, "/v1/events", &[("delivery_success", "false")])["data"][0]["id"], lost.as_str());
    till.deliver(&lost, 1).expect("by hand");
    assert_eq!(
        get(&till, "/v1/events", &[("delivery_success", "false")])["data"].as_array().map(Vec::len),
        Some(0)
    );
}

#[test]
fn a_shuffled_release_delivers_everything_once() {
    let (till, listener) = connected();
    till.hold_deliveries();
    subscribed(&till, "price_basic");
    let attempts = till.release_shuffled().expect("an endpoint");
    assert!(till.wait_for_deliveries(PATIENCE));
    assert_eq!(attempts.len(), listener.arrivals().len());
    let (mut arrived, mut happened) = (listener.kinds(), kinds(&till, 0));
    assert_ne!(arrived, happened);
    arrived.sort();
    happened.sort();
    assert_eq!(arrived, happened);
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_noted_as_such() {
    let listener = Listener::start();
    let mut options = options().webhook(&listener.url(), SECRET);
    // Nobody listens on a port that was just given back.
    let gone =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    options.webhook_url = Some(format!("http://{gone}/"));
    let till = Till::start(options).expect("a till");
    post(&till, "/v1/customers", &[]);
    assert!(till.wait_for_deliveries(PATIENCE));
    let attempts = till.attempts(&till.events_of("customer.created")[0]);
    assert_eq!(attempts[0].status, None);
    assert!(attempts[0].problem.is_some());
    till.point_webhooks_at(&listener.url(), &["whsec_old", "whsec_new"]).expect("a local endpoint");
    till.advance(Duration::from_secs(60));
    assert!(till.wait_for_deliveries(PATIENCE));
    let arrival = listener.arrivals().remove(0);
    for secret in ["whsec_old", "whsec_new"] {
        assert!(signature::verify(secret, &arrival.signature, arrival.body.as_bytes(), START.0 / 1_000, 300));
    }
}

#[test]
fn events_leave_neither_this_machine_nor_unsigned() {
    for url in [
        "https://localhost/",
        "http://example.test/",
        "http://192.0.2.1/",
        "http://localhost.example.test/",
        "x",
    ] {
        assert!(Till::start(options().webhook(url, SECRET)).is_err(), "{url}");
    }
    assert!(Till::start(options().webhook("http://localhost:1/", "")).is_err());
    let mut everywhere = options();
    everywhere.listen = "0.0.0.0:0".parse().expect("an address");
    assert!(Till::start(everywhere).is_err());
}

#[test]
fn buttons_are_calls_for_tests_in_other_languages() {
    let (till, listener) = connected();
    let act = |name: &str, body: &str| {
        let line = format!("POST /_till/actions/{name}");
        ask(till.address(), &line, &[("Content-Type", "application/json")], body)
    };
    assert_eq!(act("hold", "").status, 200);
    let session = pack_session(&till, &[]);
    let paid = act("pay", &format!("{{\"session\": \"{session}\"}}"));
    assert_eq!((paid.status, &paid.json()["payment_status"]), (200, &"paid".into()));
    let event = till.events_of("checkout.session.completed").remove(0);
    let delivered = act("deliver", &format!("{{\"event\": \"{event}\", \"copies\": 2}}"));
    assert_eq!(delivered.json()["attempts"].as_array().map(Vec::len), Some(2));
    assert_eq!(listener.arrivals().len(), 2);
    let refund = act("refund", &format!("{{\"payment\": \"{session}\", \"amount\": 250}}"));
    assert_eq!(refund.json()["amount"], 250);
    assert_eq!(act("refund", "{}").status, 400);
    assert_eq!(act("explode", "{}").status, 404);
    let state = ask(till.address(), "GET /_till/state", &[], "").json();
    assert_eq!((&state["holding"], &state["webhook_url"]), (&true.into(), &listener.url().into()));
}

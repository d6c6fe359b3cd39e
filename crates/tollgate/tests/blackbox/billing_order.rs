//! Events in any order and any number, on any node, beside people and commands that look at the same things: one end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use till::DisputeStep;

use crate::harness::credits::{Backend, books_balance, make_users};
use crate::harness::shop::{Counter, SECRET, Shop, signed};
use crate::harness::{Engine, Request, Server, at_full_length, in_parallel};
use crate::on_both_engines;

/// All orders of five things; every third one unless at full length.
fn permutations() -> Vec<[usize; 5]> {
    let mut all = Vec::new();
    for number in (0..120).step_by(if at_full_length() { 1 } else { 3 }) {
        let (mut left, mut rest, mut order) = (vec![0, 1, 2, 3, 4], number, [0; 5]);
        for (place, size) in [24, 6, 2, 1, 1].into_iter().enumerate() {
            order[place] = left.remove(rest / size);
            rest %= size;
        }
        all.push(order);
    }
    all
}

/// One purchase: who bought, and the ids of the events in question.
struct Purchase {
    user: String,
    events: [String; 5],
}

/// The events whose object is that thing or names it, by their kind.
fn by_thing(events: &[Value]) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for event in events {
        let object = &event["data"]["object"];
        let parent = &object["parent"]["subscription_details"]["subscription"];
        for thing in [&object["id"], &object["payment_intent"], &object["subscription"], parent] {
            if let (Some(thing), Some(kind), Some(id)) =
                (thing.as_str(), event["type"].as_str(), event["id"].as_str())
            {
                found.insert((thing.to_owned(), kind.to_owned()), id.to_owned());
            }
        }
    }
    found
}

/// Each order, each event one to three times; then everything else that happened.
fn deliver_every_order(shop: &Shop, purchases: &[Purchase]) {
    for (number, (order, purchase)) in permutations().into_iter().zip(purchases).enumerate() {
        let mut sent = Vec::new();
        for (place, at) in order.into_iter().enumerate() {
            let copies = 1 + (number / [1, 3, 9, 27, 81][place] + place) % 3;
            sent.extend(std::iter::repeat_n(purchase.events[at].clone(), copies));
        }
        for attempt in shop.till.deliver_in_order(&sent).expect("they are delivered") {
            assert!(attempt.succeeded(), "{attempt:?}");
        }
    }
    shop.settled();
}

/// Everyone's kinds of entries with their sums, and the state of what was bought.
fn expect_all(shop: &Shop, purchases: &[Purchase], entries: &[(&str, i64)]) {
    let expected: Vec<String> = entries.iter().map(|(kind, amount)| format!("{kind} {amount}")).collect();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let sql = "SELECT a.owner, e.kind, e.amount FROM credit_entries e JOIN credit_accounts a ON a.id = e.account_id \
               ORDER BY a.owner, e.seq";
    for row in shop.server.database.rows(sql) {
        let cell = |at: usize| row[at].clone().expect("a value");
        found.entry(cell(0)).or_default().push(format!("{} {}", cell(1), cell(2)));
    }
    for purchase in purchases {
        assert_eq!(found.get(&format!("user:{}", purchase.user)), Some(&expected), "{}", purchase.user);
    }
    let paid = "SELECT COUNT(*) FROM billing_checkouts WHERE status = 'paid'";
    assert_eq!(shop.server.database.integer(paid), purchases.len() as i64);
    shop.expect_sound();
}

/// Sessions of that item, one for each order.
fn sessions(shop: &Shop, item: &str) -> Vec<(String, String)> {
    const CALLERS: usize = 4;
    let (users, counter) = (make_users(&shop.server, permutations().len()), Counter::of(shop));
    let next = AtomicUsize::new(0);
    let found = in_parallel(CALLERS, |_| {
        let (mut counter, mut found) = (counter.another(), Vec::new());
        while let Some(user) = users.get(next.fetch_add(1, Ordering::Relaxed)) {
            found.push((user.clone(), counter.checkout(user, item)));
        }
        found
    });
    found.into_iter().flatten().collect()
}

fn every_order_of_a_packs_events_ends_in_the_same_state(engine: Engine) {
    let shop = Shop::open(engine);
    let sessions = sessions(&shop, "small");
    shop.till.hold_deliveries();
    let mut bought = Vec::new();
    for (user, session) in sessions {
        let paid = shop.till.pay(&session).expect("it is paid");
        let intent = paid["payment_intent"].as_str().expect("a payment").to_owned();
        shop.till.refund(&session, Some(400)).expect("a part goes back");
        let dispute = shop.till.dispute(&session, None).expect("the rest is disputed");
        shop.till.step_dispute(dispute["id"].as_str().expect("an id"), DisputeStep::Win).expect("it is won");
        bought.push((user, session, intent));
    }
    let events = by_thing(&shop.till.events());
    let of = |thing: &str, kind: &str| events[&(thing.to_owned(), kind.to_owned())].clone();
    let purchases = bought.into_iter().map(|(user, session, intent)| {
        let events = [
            of(&session, "checkout.session.completed"),
            of(&intent, "charge.refunded"),
            of(&intent, "refund.created"),
            of(&intent, "charge.dispute.created"),
            of(&intent, "charge.dispute.closed"),
        ];
        Purchase { user, events }
    });
    let purchases: Vec<Purchase> = purchases.collect();
    deliver_every_order(&shop, &purchases);
    expect_all(&shop, &purchases, &[("grant", 500), ("clawback", -200)]);
    // The rest, which each had events of the same before.
    shop.till.release_deliveries();
    shop.settled();
    expect_all(&shop, &purchases, &[("grant", 500), ("clawback", -200)]);
}
on_both_engines!(every_order_of_a_packs_events_ends_in_the_same_state);

fn every_order_of_a_plans_events_ends_in_the_same_state(engine: Engine) {
    let shop = Shop::open(engine);
    let sessions = sessions(&shop, "basic");
    shop.till.hold_deliveries();
    let mut bought = Vec::new();
    for (user, session) in sessions {
        let paid = shop.till.pay(&session).expect("it is paid");
        let text = |member: &str| paid[member].as_str().expect("an id").to_owned();
        let refund = shop.till.refund(&text("invoice"), Some(400)).expect("a part goes back");
        let intent = refund["payment_intent"].as_str().expect("a payment").to_owned();
        bought.push((user, session, text("subscription"), intent));
    }
    let events = by_thing(&shop.till.events());
    let of = |thing: &str, kind: &str| events[&(thing.to_owned(), kind.to_owned())].clone();
    let purchases = bought.into_iter().map(|(user, session, subscription, intent)| {
        let events = [
            of(&subscription, "customer.subscription.created"),
            of(&subscription, "customer.subscription.updated"),
            of(&subscription, "invoice.paid"),
            of(&session, "checkout.session.completed"),
            of(&intent, "charge.refunded"),
        ];
        Purchase { user, events }
    });
    let purchases: Vec<Purchase> = purchases.collect();
    deliver_every_order(&shop, &purchases);
    expect_all(&shop, &purchases, &[("grant", 1_000), ("clawback", -400)]);
    let active = "SELECT COUNT(*) FROM billing_subscriptions WHERE status = 'active' AND plan = 'basic'";
    assert_eq!(shop.server.database.integer(active), purchases.len() as i64);
    shop.till.release_deliveries();
    shop.settled();
    expect_all(&shop, &purchases, &[("grant", 1_000), ("clawback", -400)]);
}
on_both_engines!(every_order_of_a_plans_events_ends_in_the_same_state);

/// What is read at Stripe earlier is not applied later, whoever reads it: refunds while they are being looked at.
fn refunds_that_happen_while_others_are_looked_at_are_not_lost(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let session = ada.buy("small");
    shop.settled();
    for refund in 1..=20 {
        shop.till.refund(&session, Some(50)).expect("a part goes back");
        if refund % 5 == 0 {
            shop.settled();
            assert_eq!(ada.balance(), 500 - refund * 25);
        }
    }
    shop.expect_sound();
}
on_both_engines!(refunds_that_happen_while_others_are_looked_at_are_not_lost);

/// The webhook, the success page and a reconciliation, all at once.
fn webhook_success_page_and_sync_at_once_grant_once(engine: Engine) {
    let shop = Shop::open(engine);
    for item in ["small", "basic"] {
        let mut ada = shop.buyer();
        let session = ada.checkout(&json!({"price": item}));
        shop.till.hold_deliveries();
        shop.till.pay(&session).expect("it is paid");
        let held = shop.till.held_events();
        let done = in_parallel(6, |who| match who {
            0 => shop
                .till
                .deliver_in_order(&held)
                .expect("they are delivered")
                .iter()
                .all(till::Attempt::succeeded),
            1 | 2 => {
                shop.server.command(&["billing", "sync", "--json"]).expect_done();
                true
            }
            3 => held.iter().all(|event| shop.till.deliver(event, 5).is_ok()),
            _ => (0..5).all(|_| ada.status(&session)["status"] == "paid"),
        });
        assert_eq!(done, [true; 6], "{item}");
        shop.till.release_deliveries();
        shop.settled();
        assert_eq!(ada.balance(), if item == "small" { 500 } else { 1_000 });
        assert_eq!(
            ada.browser.get("/api/auth/credits/entries").expect(200).json()["items"].as_array().map(Vec::len),
            Some(1)
        );
    }
    shop.expect_sound();
}
on_both_engines!(webhook_success_page_and_sync_at_once_grant_once);

/// Twenty copies of everything, half of them at each node, while people ask both.
#[test]
fn two_nodes_that_hear_the_same_grant_once() {
    let shop = Shop::open(Engine::Postgres);
    let second = Server::second_node(&shop.server);
    let till = shop.till.clone();
    for round in 0..if at_full_length() { 20 } else { 3 } {
        let mut ada = shop.buyer();
        let session = ada.checkout(&json!({"price": "small"}));
        till.hold_deliveries();
        till.pay(&session).expect("it is paid");
        till.refund(&session, Some(300)).expect("a part goes back");
        let events: Vec<Value> = till.events();
        let held = till.held_events();
        let bodies: Vec<Vec<u8>> = events
            .iter()
            .filter(|event| held.iter().any(|id| event["id"] == id.as_str()))
            .map(|event| event.to_string().into_bytes())
            .collect();
        let nodes = [shop.server.address, second.address];
        in_parallel(20, |number| {
            for body in &bodies {
                let header = signed(&[SECRET], body);
                let request = Request::new("POST", "/api/billing/webhook")
                    .header("Stripe-Signature", &header)
                    .body(body.clone());
                let answer = request.send(nodes[number % 2]).expect("an answer");
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
            if number < 4 {
                let mut browser = ada.browser.clone();
                browser.address = nodes[number % 2];
                let path = format!("/api/auth/billing/checkout-status?session={session}");
                assert_eq!(browser.get(&path).expect(200).json()["status"], "paid");
            }
        });
        till.release_deliveries();
        shop.settled();
        assert_eq!(ada.balance(), 350, "round {round}");
    }
    shop.expect_sound();
    books_balance(&shop.server.database);
}

/// Two nodes share one inbox: everything is done, nothing twice; and when one dies the other one does its work.
#[test]
fn two_nodes_work_off_one_inbox() {
    const BUYERS: usize = 40;
    let mut shop = Shop::open(Engine::Postgres);
    let second = Server::second_node(&shop.server);
    let users = make_users(&shop.server, BUYERS);
    let mut counter = Counter::of(&shop);
    let sessions: Vec<String> = users.iter().map(|user| counter.checkout(user, "small")).collect();
    for session in &sessions {
        shop.till.pay(session).expect("it is paid");
    }
    shop.till.fault_on("/v1/checkout/sessions/", till::Fault::Silent, 4);
    for session in &sessions[..BUYERS / 2] {
        shop.till.refund(session, Some(100)).expect("a part goes back");
    }
    shop.server.kill();
    shop.till.clear_faults();
    shop.point_webhooks_at(&second);
    shop.settled_after_a_crash();
    let mut backend = Backend::with_key(&second, &second.service_key());
    for (number, user) in users.iter().enumerate() {
        let expected = if number < BUYERS / 2 { 450 } else { 500 };
        assert_eq!(backend.balance(user)["balance"], expected, "{user}");
    }
    shop.expect_sound();
    books_balance(&shop.server.database);
}

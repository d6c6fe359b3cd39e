//! Automatic top-ups when everything happens at once, on two nodes, with a Stripe that does not answer and a process that dies: no card
//! is charged twice, and what was paid is granted.

use std::time::{Duration, Instant};

use serde_json::json;
use till::Fault;

use crate::harness::credits::{Backend, books_balance, make_users};
use crate::harness::database::quoted;
use crate::harness::regular::{HOUR, PATIENCE, Regular, a_look_passes};
use crate::harness::shop::Shop;
use crate::harness::{Engine, Request, Server, at_full_length, in_parallel, until};
use crate::on_both_engines;

fn fifty_debits_that_cross_at_once_buy_one_pack(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = Regular::of(&shop, &mut shop.buyer());
    ada.wants(9);
    let (backend, id) = (Backend::of(&shop.server), ada.id.clone());
    let second = (engine == Engine::Postgres).then(|| Server::second_node(&shop.server));
    let spent = in_parallel(50, |at| {
        let mut backend = match &second {
            Some(node) if at % 2 == 1 => backend.at(node),
            _ => backend.another(),
        };
        backend.debit(&id, 9).status
    });
    assert_eq!(spent, [201; 50]);
    ada.until_balance(550);
    a_look_passes(&shop);
    assert_eq!((ada.balance(), ada.payments()), (550, vec!["succeeded".to_owned()]));
    assert_eq!(ada.shown()["count"], 1);
    shop.expect_sound();
}
on_both_engines!(fifty_debits_that_cross_at_once_buy_one_pack);

fn many_owners_on_two_nodes_are_charged_once_each(engine: Engine) {
    let shop = Shop::open(engine);
    let second = (engine == Engine::Postgres).then(|| Server::second_node(&shop.server));
    let users = make_users(&shop.server, 30);
    let mut owners: Vec<Regular<'_>> = users.iter().map(|user| Regular::new(&shop, user)).collect();
    for owner in &mut owners {
        owner.backend.grant(&owner.id.clone(), 500);
        let opened = owner.backend.send(Request::post(
            "/api/billing/checkout",
            &json!({"user_id": owner.id, "price": "small", "save_payment_method": true}),
        ));
        let session = opened.expect(200).json()["session_id"].as_str().expect("a session").to_owned();
        shop.till.pay(&session).expect("it is paid");
    }
    shop.settled();
    for owner in &mut owners {
        owner.wants(1);
        owner.spend(950);
    }
    for owner in &mut owners {
        owner.until_balance(550);
        assert_eq!(owner.payments(), ["succeeded"]);
    }
    drop(second);
    books_balance(&shop.server.database);
    shop.expect_sound();
}
on_both_engines!(many_owners_on_two_nodes_are_charged_once_each);

fn somebody_who_is_gone_is_not_charged(engine: Engine) {
    let shop = Shop::open(engine);
    let mut buyer = shop.buyer();
    let mut ada = Regular::of(&shop, &mut buyer);
    ada.wants(9);
    // The call comes to nothing, and its owner leaves meanwhile.
    shop.till.fault_on("/v1/payment_intents", Fault::Status(503), 4);
    ada.spend(450);
    ada.until_state("in_flight");
    until(PATIENCE, "the call to fail", || (shop.till.faults_left() == 0).then_some(()));
    let email = buyer.browser.session()["user"]["email"].as_str().expect("an address").to_owned();
    shop.server.command(&["user", "delete", &email, "--yes"]).expect_done();
    let row =
        format!("SELECT enabled FROM billing_topups WHERE owner = {}", quoted(&format!("user:{}", ada.id)));
    until(PATIENCE, "it to be switched off", || {
        ada.time_passes(HOUR / 4);
        let enabled = shop.server.database.value(&row);
        enabled.is_some_and(|enabled| enabled.starts_with('f') || enabled == "0").then_some(())
    });
    assert_eq!(ada.payments(), [""; 0]);
    shop.expect_sound();
}
on_both_engines!(somebody_who_is_gone_is_not_charged);

/// Stripe did it and did not say so; it did not do it and said nothing; it is down for a while.
fn a_call_that_is_not_answered_is_made_once(engine: Engine) {
    let shop = Shop::open(engine);
    for (fault, count) in [
        (Fault::BrokenAfterWork, 2),
        (Fault::Broken, 2),
        (Fault::WrongJson, 2),
        (Fault::TooMany, 2),
        // All tries of the first look: the next one finds out.
        (Fault::BrokenAfterWork, 4),
        (Fault::Status(500), 4),
    ] {
        let mut ada = Regular::of(&shop, &mut shop.buyer());
        ada.wants(9);
        shop.till.fault_on("/v1/payment_intents", fault, count);
        ada.spend(450);
        until(PATIENCE, "the faults", || (shop.till.faults_left() == 0).then_some(()));
        ada.until_balance(550);
        assert_eq!(ada.payments(), ["succeeded"], "{fault:?}");
    }
    shop.expect_sound();
}
on_both_engines!(a_call_that_is_not_answered_is_made_once);

/// A fault of Stripe's own that it keeps under the key: nothing was charged, and the next payment has another key.
fn a_failure_that_stripe_remembers_ends_after_an_hour(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = Regular::of(&shop, &mut shop.buyer());
    ada.wants(9);
    shop.till.fault_on("/v1/payment_intents", Fault::KeptFailure, 1);
    ada.spend(450);
    ada.until_state("in_flight");
    until(PATIENCE, "the fault", || (shop.till.faults_left() == 0).then_some(()));
    // Its owner reads a word, and nothing of what Stripe or the network said.
    until(PATIENCE, "the word", || (ada.shown()["error"] == "stripe_unavailable").then_some(()));
    let of_ada = format!("owner = {} AND kind = 'topup'", quoted(&format!("user:{}", ada.id)));
    shop.server.database.shift("billing_checkouts", "created_at", -2 * HOUR, &of_ada);
    let shown = until(PATIENCE, "the end of the try", || {
        ada.time_passes(HOUR / 4);
        let shown = ada.shown();
        (shown["state"] == "backing_off").then_some(shown)
    });
    assert_eq!(shown["error"], "stripe_did_not_answer");
    ada.time_passes(HOUR);
    ada.until_balance(550);
    assert_eq!(ada.payments(), ["succeeded"]);
    shop.expect_sound();
}
on_both_engines!(a_failure_that_stripe_remembers_ends_after_an_hour);

/// Killed at any moment between the debit and the credits.
fn kill_nine_between_any_two_steps_charges_once_and_grants_what_was_paid(engine: Engine) {
    let (kills, step) = if at_full_length() { (60, 15) } else { (8, 110) };
    let mut shop = Shop::open(engine);
    let id = {
        let mut buyer = shop.buyer();
        Regular::of(&shop, &mut buyer).id
    };
    {
        let mut ada = Regular::new(&shop, &id);
        ada.put(json!({"below": 100, "pack": "small", "monthly_max": 1_000}));
    }
    for number in 0..kills {
        let mut ada = Regular::new(&shop, &id);
        ada.spend(450);
        // Slow enough that the process dies in the middle of a call, too.
        let slow = Duration::from_millis(60);
        shop.till.fault_on("/v1/", Fault::Slow(slow), 10);
        let limit = Duration::from_millis(700 + number * step);
        let began = Instant::now();
        until(PATIENCE, "the moment", || (began.elapsed() >= limit).then_some(()));
        drop(ada);
        shop.server.kill();
        shop.till.clear_faults();
        shop.server.restart();
        let mut ada = Regular::new(&shop, &id);
        until(PATIENCE, "a balance of 550", || {
            ada.time_passes(HOUR / 4);
            (ada.balance() == 550).then_some(())
        });
        ada.until_state("idle");
        assert_eq!(ada.payments().len() as u64, number + 1);
        // Back to where it began.
        ada.spend(50);
    }
    shop.settled_after_a_crash();
    let mut ada = Regular::new(&shop, &id);
    assert_eq!(ada.balance(), 500);
    assert_eq!(ada.payments(), vec!["succeeded"; kills as usize]);
    books_balance(&shop.server.database);
    shop.expect_sound();
}
on_both_engines!(kill_nine_between_any_two_steps_charges_once_and_grants_what_was_paid);

/// One that was read before a refund, by another process, and is ready to be applied after it.
fn what_was_read_before_a_refund_is_not_applied_after_it(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = Regular::of(&shop, &mut shop.buyer());
    ada.wants(1);
    ada.spend(450);
    ada.until_balance(550);
    shop.settled();
    let payment = ada.newest_payment();
    let arrived = shop.till.events_of("payment_intent.succeeded").pop().expect("an event");
    // The last of its calls: the refunds were read before.
    shop.till.fault_on("/v1/disputes", Fault::Slow(Duration::from_millis(2_500)), 1);
    std::thread::scope(|scope| {
        let replay =
            scope.spawn(|| shop.server.command(&["billing", "replay", &arrived, "--json"]).expect_done());
        until(PATIENCE, "the look", || (shop.till.faults_left() == 0).then_some(()));
        shop.till.refund(&payment, None).expect("all goes back");
        shop.settled();
        assert_eq!(ada.balance(), 50);
        replay.join().expect("it ends");
    });
    assert_eq!(ada.balance(), 50);
    shop.expect_sound();
}
on_both_engines!(what_was_read_before_a_refund_is_not_applied_after_it);

fn what_is_switched_off_before_stripe_was_asked_is_not_charged(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = Regular::of(&shop, &mut shop.buyer());
    ada.wants(9);
    // Nobody can find out how they pay.
    shop.till.fault_on("/v1/customers", Fault::Status(503), 4);
    ada.spend(450);
    until(PATIENCE, "the look", || (shop.till.faults_left() == 0).then_some(()));
    assert_eq!(ada.put(json!({"enabled": false}))["state"], "in_flight");
    until(PATIENCE, "the end of it", || {
        ada.time_passes(HOUR / 4);
        (ada.shown()["state"] == "disabled").then_some(())
    });
    assert_eq!((ada.balance(), ada.payments()), (50, Vec::new()));
    shop.expect_sound();
}
on_both_engines!(what_is_switched_off_before_stripe_was_asked_is_not_charged);

/// Stripe says it knows no such payment, as with a key of another account; then it turns out that it was paid.
fn a_payment_that_was_given_up_and_was_paid_after_all_is_granted(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = Regular::of(&shop, &mut shop.buyer());
    ada.wants(9);
    shop.till.hold_deliveries();
    shop.till.fault_on("/v1/payment_intents/", Fault::Status(404), 1);
    ada.spend(450);
    let shown = ada.until_state("backing_off");
    assert_eq!((&shown["error"], &shown["count"], ada.balance()), (&json!("payment_gone"), &json!(0), 50));
    shop.till.release_deliveries();
    until(PATIENCE, "what was paid", || (ada.balance() == 550).then_some(()));
    shop.settled();
    assert_eq!((ada.payments(), &ada.shown()["count"]), (vec!["succeeded".to_owned()], &json!(1)));
    // There is no reason to buy any more when the pause is over.
    ada.time_passes(HOUR);
    a_look_passes(&shop);
    assert_eq!((ada.balance(), ada.payments().len()), (550, 1));
    shop.expect_sound();
}
on_both_engines!(a_payment_that_was_given_up_and_was_paid_after_all_is_granted);

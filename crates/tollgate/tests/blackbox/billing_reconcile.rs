//! Webhooks that never came: what Stripe knows and we do not is found and put right, once.

use serde_json::{Value, json};
use till::Fault;

use crate::harness::Engine;
use crate::harness::shop::Shop;
use crate::on_both_engines;

const EVERYTHING: u32 = 1_000;

fn sync(shop: &Shop) -> Value {
    let report = shop.server.command(&["billing", "sync", "--json"]).expect_done().json();
    assert_eq!(report["problems"], json!([]), "{report}");
    report
}

/// B13: also refunds, months and ends.
fn everything_that_was_missed_is_put_right_and_late_originals_change_nothing(engine: Engine) {
    let shop = Shop::open(engine);
    let (mut ada, mut bob, mut eve) = (shop.buyer(), shop.buyer(), shop.buyer());
    let subscription = bob.subscribe("basic");
    shop.settled();
    shop.till.lose_next(EVERYTHING);
    // First, since it takes a month, and Stripe lists the events of a month.
    shop.till.renew(&subscription).expect("the second month");
    shop.till.call("DELETE", &format!("/v1/subscriptions/{subscription}"), &[]).expect("it ends now");
    ada.buy("small");
    let session = ada.buy("small");
    shop.till.refund(&session, Some(500)).expect("half goes back");
    let expired = eve.checkout(&json!({"price": "small"}));
    shop.till.call("POST", &format!("/v1/checkout/sessions/{expired}/expire"), &[]).expect("nobody paid");
    shop.settled();
    assert_eq!((ada.balance(), bob.balance()), (0, 1_000));
    let report = sync(&shop);
    assert_eq!(report["granted"], 500 + 500 + 1_000, "{report}");
    let after = |ada: i64, bob: i64, eve: &Value| (ada, bob, eve.clone());
    let expected = after(750, 2_000, &json!("expired"));
    assert_eq!(after(ada.balance(), bob.balance(), &eve.status(&expired)["status"]), expected);
    assert_eq!(bob.subscription()["status"], "canceled");
    assert_eq!(sync(&shop)["granted"], 0);
    // The originals come late, and come twice.
    let lost: Vec<String> =
        shop.till.events().iter().filter_map(|event| event["id"].as_str().map(str::to_owned)).collect();
    for event in lost {
        for attempt in shop.till.deliver(&event, 2).expect("it is delivered") {
            assert!(attempt.succeeded(), "{attempt:?}");
        }
    }
    shop.settled();
    assert_eq!(after(ada.balance(), bob.balance(), &eve.status(&expired)["status"]), expected);
    shop.expect_sound();
}
on_both_engines!(everything_that_was_missed_is_put_right_and_late_originals_change_nothing);

/// An event that is older than what Stripe lists: the open checkout itself leads to it.
fn an_open_checkout_is_looked_at_even_if_no_event_tells_of_it(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let session = ada.checkout(&json!({"price": "small"}));
    shop.till.lose_next(EVERYTHING);
    shop.till.pay(&session).expect("it is paid");
    shop.settled();
    // As if all events were known, and none had led anywhere.
    for event in shop.till.events() {
        let sql = format!(
            "INSERT INTO billing_inbox (id, kind, state, attempts, due_at, leased_until, created_at, received_at) \
             VALUES ('test:{}', 'old', 'ignored', 0, 0, 0, 0, 0) ON CONFLICT (id) DO NOTHING",
            event["id"].as_str().expect("an id")
        );
        shop.server.database.execute(&sql);
    }
    // What is being opened at this moment is left alone.
    assert_eq!((sync(&shop)["granted"].clone(), ada.balance()), (json!(0), 0));
    shop.server.database.shift("billing_checkouts", "created_at", -120_000, "status = 'open'");
    assert_eq!((sync(&shop)["granted"].clone(), ada.balance()), (json!(500), 500));
    assert_eq!(sync(&shop)["granted"], 0);
    shop.expect_sound();
}
on_both_engines!(an_open_checkout_is_looked_at_even_if_no_event_tells_of_it);

/// The success page alone is enough, and what comes afterwards changes nothing.
fn the_success_page_grants_what_no_event_told_of(engine: Engine) {
    let shop = Shop::open(engine);
    for (item, credits) in [("small", 500), ("basic", 1_000)] {
        let mut ada = shop.buyer();
        let session = ada.checkout(&json!({"price": item}));
        shop.till.lose_next(EVERYTHING);
        shop.till.pay(&session).expect("it is paid");
        assert_eq!(ada.balance(), 0);
        // Of somebody else's checkout nobody learns anything, and nothing happens.
        let mut bob = shop.buyer();
        let path = format!("/api/auth/billing/checkout-status?session={session}");
        bob.browser.get(&path).refused(404, "NOT_FOUND");
        assert_eq!(ada.balance(), 0);
        assert_eq!((&ada.status(&session)["status"], ada.balance()), (&json!("paid"), credits));
        assert_eq!(sync(&shop)["granted"], 0);
        assert_eq!(ada.balance(), credits);
        shop.till.lose_next(0);
    }
    shop.expect_sound();
}
on_both_engines!(the_success_page_grants_what_no_event_told_of);

/// Who was deleted gets nothing, and the payment is noted for a refund.
fn a_payment_of_somebody_who_is_gone_is_noted(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let session = ada.checkout(&json!({"price": "small"}));
    shop.till.hold_deliveries();
    shop.till.pay(&session).expect("it is paid");
    let delete = format!("DELETE FROM users WHERE id = '{}'", ada.id);
    shop.server.database.execute(&format!("DELETE FROM sessions WHERE user_id = '{}'", ada.id));
    shop.server.database.execute(&format!("DELETE FROM accounts WHERE user_id = '{}'", ada.id));
    assert_eq!(shop.server.database.execute(&delete), 1);
    shop.till.release_deliveries();
    shop.settled();
    let [completed] = shop.till.events_of("checkout.session.completed").try_into().expect("one event");
    let event = shop.effect(&completed);
    assert_eq!(event["status"], "done", "{event}");
    assert!(event["effect"].as_str().is_some_and(|effect| effect.contains("consider a refund")), "{event}");
    assert_eq!(shop.server.database.integer("SELECT COUNT(*) FROM credit_entries"), 0);
    // Its refund takes nothing from anybody.
    shop.till.refund(&session, None).expect("it goes back");
    shop.settled();
    assert_eq!(shop.server.database.integer("SELECT COUNT(*) FROM credit_entries"), 0);
    shop.expect_sound();
}
on_both_engines!(a_payment_of_somebody_who_is_gone_is_noted);

/// Details 44.
fn nobody_goes_on_paying_for_an_account_that_was_deleted(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let subscription = ada.subscribe("basic");
    shop.settled();
    shop.server.command(&["user", "delete", &ada.id, "--yes"]).expect_done();
    let report = sync(&shop);
    assert!(report.to_string().contains(&format!("the subscription {subscription} was ended")), "{report}");
    let object = shop.till.object(&subscription).expect("the subscription");
    assert_eq!(object["status"], "canceled");
    shop.settled();
    assert!(!sync(&shop).to_string().contains("was ended"));
    shop.expect_sound();
}
on_both_engines!(nobody_goes_on_paying_for_an_account_that_was_deleted);

/// One that Stripe refuses to show keeps nobody else waiting.
fn a_subscription_that_cannot_be_read_keeps_no_other_waiting(engine: Engine) {
    let shop = Shop::open(engine);
    let (mut ada, mut bob) = (shop.buyer(), shop.buyer());
    let mut both = [(ada.subscribe("basic"), 0), (bob.subscribe("basic"), 1)];
    both.sort();
    shop.settled();
    let [(first, _), (second, whose)] = both;
    shop.till.lose_next(EVERYTHING);
    shop.till.call("DELETE", &format!("/v1/subscriptions/{second}"), &[]).expect("it ends now");
    shop.settled();
    // As if its events were older than what Stripe lists.
    for event in shop.till.events() {
        let sql = format!(
            "INSERT INTO billing_inbox (id, kind, state, attempts, due_at, leased_until, created_at, received_at) \
             VALUES ('test:{}', 'old', 'ignored', 0, 0, 0, 0, 0) ON CONFLICT (id) DO NOTHING",
            event["id"].as_str().expect("an id")
        );
        shop.server.database.execute(&sql);
    }
    shop.till.fault_on(&format!("/v1/subscriptions/{first}"), Fault::Status(400), 1);
    let done = shop.server.command(&["billing", "sync", "--json"]);
    let report: Value = serde_json::from_str(&done.stdout).expect("a report");
    let problems = report["problems"].to_string();
    assert!(problems.contains(&first) && !problems.contains(&second), "{report}");
    let ended = if whose == 0 { &ada } else { &bob };
    assert_eq!(ended.subscription()["status"], "canceled");
}
on_both_engines!(a_subscription_that_cannot_be_read_keeps_no_other_waiting);

//! Packs: money that arrives becomes credits once, and what goes back takes them along, whatever Stripe sends and when.

use serde_json::json;
use till::DisputeStep;

use crate::harness::shop::Shop;
use crate::harness::{Engine, Request, in_parallel};
use crate::on_both_engines;

fn a_paid_pack_is_credited_once(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let session = ada.checkout(&json!({"price": "small"}));
    assert_eq!(ada.status(&session), json!({"status": "open", "credits": 500, "unit": "credits"}));
    shop.till.pay(&session).expect("it is paid");
    shop.settled();
    assert_eq!(ada.balance(), 500);
    assert_eq!(ada.status(&session)["status"], "paid");
    let entry = ada.browser.get("/api/auth/credits/entries").expect(200).json()["items"][0].clone();
    assert_eq!(entry["actor"], "stripe");
    assert_eq!(entry["sourceRef"], format!("cs:{session}"));
    shop.expect_sound();
}
on_both_engines!(a_paid_pack_is_credited_once);

/// B04.
fn twenty_copies_at_once_another_event_and_the_success_page_grant_once(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let session = ada.checkout(&json!({"price": "small"}));
    shop.till.hold_deliveries();
    shop.till.pay(&session).expect("it is paid");
    let [completed] = shop.till.events_of("checkout.session.completed").try_into().expect("one event");
    let attempts = in_parallel(2, |at| match at {
        0 => shop.till.deliver(&completed, 20).expect("it is delivered").len(),
        _ => usize::from(ada.status(&session)["status"] == "paid"),
    });
    assert_eq!(attempts, [20, 1]);
    shop.till.release_shuffled().expect("all are delivered");
    shop.settled();
    assert_eq!(ada.balance(), 500);
    shop.expect_sound();
}
on_both_engines!(twenty_copies_at_once_another_event_and_the_success_page_grant_once);

/// B05.
fn a_bank_debit_gives_when_it_arrives_and_nothing_when_it_fails(engine: Engine) {
    let shop = Shop::open(engine);
    for paid in [true, false] {
        let mut buyer = shop.buyer();
        let session = buyer.checkout(&json!({"price": "small"}));
        shop.till.pay_later(&session).expect("it is begun");
        shop.settled();
        assert_eq!((buyer.balance(), &buyer.status(&session)["status"]), (0, &json!("processing")));
        shop.till.settle(&session, paid).expect("it ends");
        for event in shop.till.events_of("checkout.session.async_payment_succeeded") {
            shop.till.deliver(&event, 2).expect("twice more");
        }
        shop.settled();
        let (balance, status) = if paid { (500, "paid") } else { (0, "failed") };
        assert_eq!((buyer.balance(), &buyer.status(&session)["status"]), (balance, &json!(status)));
    }
    shop.expect_sound();
}
on_both_engines!(a_bank_debit_gives_when_it_arrives_and_nothing_when_it_fails);

fn pieces_and_named_amounts_are_worth_what_the_catalogue_says(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let session = ada.checkout(&json!({"price": "small", "quantity": 3}));
    shop.till.pay(&session).expect("it is paid");
    shop.settled();
    assert_eq!(ada.balance(), 1_500);
    let session = ada.checkout(&json!({"price": "any", "amount": 1_999}));
    shop.till.pay(&session).expect("it is paid");
    shop.settled();
    assert_eq!(ada.balance(), 1_500 + 599);
    for wish in [
        json!({"price": "any"}),
        json!({"price": "any", "amount": 499}),
        json!({"price": "any", "amount": 50_001}),
        json!({"price": "small", "amount": 1_000}),
        json!({"price": "small", "quantity": 0}),
        json!({"price": "small", "quantity": 1.5}),
        json!({"price": "small", "quantity": 9_007_199_254_740_991_i64}),
        json!({"price": "price_small"}),
        json!({"price": ""}),
        json!({}),
    ] {
        ada.browser.post("/api/auth/billing/checkout", wish.clone()).refused(400, "VALIDATION_ERROR");
    }
    shop.expect_sound();
}
on_both_engines!(pieces_and_named_amounts_are_worth_what_the_catalogue_says);

/// B10: in both orders, replayed, with what is owed.
fn refunds_take_back_their_share_and_all_of_it_in_the_end(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let session = ada.buy("small");
    shop.settled();
    ada.spend(200);
    shop.till.hold_deliveries();
    shop.till.refund(&session, Some(400)).expect("a part goes back");
    let early = shop.till.held_events();
    shop.till.refund(&session, Some(600)).expect("the rest goes back");
    let late: Vec<String> =
        shop.till.held_events().into_iter().filter(|event| !early.contains(event)).collect();
    shop.till.deliver_in_order(&late).expect("the later ones first");
    shop.till.deliver_in_order(&early).expect("then the earlier ones");
    shop.till.deliver_in_order(&late).expect("and again");
    shop.settled();
    let credits = ada.credits();
    assert_eq!((credits["balance"].as_i64(), credits["owed"].as_i64()), (Some(-200), Some(200)), "{credits}");
    shop.expect_sound();
}
on_both_engines!(refunds_take_back_their_share_and_all_of_it_in_the_end);

fn with_clamp_what_was_spent_is_noted_and_forgotten(engine: Engine) {
    let shop = Shop::with(engine, "shortfall = \"clamp\"");
    let mut ada = shop.buyer();
    let session = ada.buy("small");
    shop.settled();
    ada.spend(200);
    shop.till.refund(&session, None).expect("all goes back");
    shop.settled();
    assert_eq!(ada.balance(), 0);
    let entry =
        ada.browser.get("/api/auth/credits/entries?kind=clawback").expect(200).json()["items"][0].clone();
    assert_eq!((&entry["amount"], &entry["metadata"]), (&json!(-300), &json!({"shortfall": 200})));
    shop.expect_sound();
}
on_both_engines!(with_clamp_what_was_spent_is_noted_and_forgotten);

fn a_refund_that_fails_later_gives_back_exactly_what_it_took(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let session = ada.buy("small");
    shop.settled();
    let refund = shop.till.refund_slowly(&session, Some(400)).expect("it is begun");
    shop.settled();
    assert_eq!(ada.balance(), 300);
    shop.till.fail_refund(refund["id"].as_str().expect("an id")).expect("it fails");
    shop.settled();
    assert_eq!(ada.balance(), 500);
    shop.expect_sound();
}
on_both_engines!(a_refund_that_fails_later_gives_back_exactly_what_it_took);

fn a_dispute_takes_back_at_once_and_gives_back_when_it_is_won(engine: Engine) {
    let shop = Shop::open(engine);
    for (step, left) in [(DisputeStep::Win, 500), (DisputeStep::Lose, 0)] {
        let mut buyer = shop.buyer();
        let session = buyer.buy("small");
        shop.settled();
        let dispute = shop.till.dispute(&session, None).expect("it is disputed");
        shop.settled();
        assert_eq!(buyer.balance(), 0);
        shop.till.step_dispute(dispute["id"].as_str().expect("an id"), step).expect("it ends");
        shop.settled();
        assert_eq!(buyer.balance(), left, "{step:?}");
    }
    let mut asked = shop.buyer();
    let session = asked.buy("small");
    shop.till.inquire(&session).expect("the bank asks");
    shop.settled();
    assert_eq!(asked.balance(), 500);
    shop.expect_sound();
}
on_both_engines!(a_dispute_takes_back_at_once_and_gives_back_when_it_is_won);

fn a_frozen_dispute_keeps_credits_from_being_spent_until_it_is_decided(engine: Engine) {
    let shop = Shop::with(engine, "on_dispute = \"freeze\"");
    for (step, left) in [(DisputeStep::Win, 500), (DisputeStep::Lose, 0)] {
        let mut buyer = shop.buyer();
        let session = buyer.buy("small");
        shop.settled();
        let dispute = shop.till.dispute(&session, None).expect("it is disputed");
        shop.settled();
        let credits = buyer.credits();
        assert_eq!(
            (credits["balance"].as_i64(), credits["available"].as_i64()),
            (Some(500), Some(0)),
            "{credits}"
        );
        shop.till.step_dispute(dispute["id"].as_str().expect("an id"), step).expect("it ends");
        shop.settled();
        let credits = buyer.credits();
        assert_eq!(
            (credits["balance"].as_i64(), credits["available"].as_i64()),
            (Some(left), Some(left)),
            "{credits}"
        );
    }
    shop.expect_sound();
}
on_both_engines!(a_frozen_dispute_keeps_credits_from_being_spent_until_it_is_decided);

/// A refund and a dispute of the same money count once.
fn a_refund_within_a_dispute_takes_no_more_than_was_given(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let session = ada.buy("small");
    shop.till.refund(&session, Some(500)).expect("half goes back");
    shop.till.dispute(&session, None).expect("the rest is disputed");
    shop.settled();
    assert_eq!(ada.credits()["balance"], 0);
    shop.expect_sound();
}
on_both_engines!(a_refund_within_a_dispute_takes_no_more_than_was_given);

/// What nobody signed, or signed for somebody else, changes nothing; what is not ours is taken and ignored.
fn only_what_stripe_signed_is_taken(engine: Engine) {
    let shop = Shop::open(engine);
    let body = json!({"id": "evt_forged", "object": "event", "type": "checkout.session.completed",
        "livemode": false, "data": {"object": {"id": "cs_test_forged"}}});
    let text = body.to_string();
    let send = |signature: Option<String>, body: &str| {
        let request = Request::new("POST", "/api/billing/webhook")
            .header("Content-Type", "application/json")
            .body(body);
        let request = match signature {
            Some(signature) => request.header("Stripe-Signature", &signature),
            None => request,
        };
        request.send(shop.server.address).expect("an answer").status
    };
    assert_eq!(send(None, &text), 400);
    assert_eq!(send(Some("t=1,v1=00".into()), &text), 400);
    let count = || shop.server.database.value("SELECT COUNT(*) FROM billing_inbox");
    assert_eq!(count().as_deref(), Some("0"));
    assert_eq!(send(None, &"x".repeat(600_000)), 413);
}
on_both_engines!(only_what_stripe_signed_is_taken);

/// More than one page of refunds: with a part of them credits would come back that are gone.
fn a_payment_may_be_refunded_in_a_hundred_and_twenty_parts(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let session = ada.buy("small");
    shop.settled();
    shop.till.hold_deliveries();
    for _ in 0..120 {
        shop.till.refund(&session, Some(5)).expect("a part goes back");
    }
    let last = shop.till.events_of("charge.refunded").pop().expect("an event");
    shop.till.deliver(&last, 1).expect("it is delivered");
    crate::harness::until(std::time::Duration::from_secs(60), "the claw-back", || {
        (ada.balance() == 200).then_some(())
    });
    shop.expect_sound();
}
on_both_engines!(a_payment_may_be_refunded_in_a_hundred_and_twenty_parts);

/// Stripe's events name people, and a customer is made with a proven address.
fn nothing_of_billing_names_somebody_who_was_deleted(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    shop.server.database.execute("UPDATE users SET email_verified = TRUE");
    let session = ada.buy("small");
    shop.settled();
    let email = ada.browser.session()["user"]["email"].as_str().expect("an address").to_owned();
    let of_billing = || {
        let tables = shop.server.database.tables();
        let tables = tables.iter().filter(|name| name.starts_with("billing_"));
        tables
            .map(|name| format!("{:?}", shop.server.database.rows(&format!("SELECT * FROM {name}"))))
            .collect::<String>()
    };
    let customer = shop.till.call("GET", "/v1/customers", &[("email", &email)]).expect("a list");
    assert_eq!(customer["data"].as_array().map(Vec::len), Some(1));
    assert!(of_billing().contains(&email));
    shop.server.command(&["user", "delete", &email, "--yes"]).expect_done();
    assert!(!of_billing().contains(&email), "{}", of_billing());
    // What comes back is still known to be theirs.
    shop.till.refund(&session, None).expect("all goes back");
    shop.settled();
    assert_eq!(shop.server.database.integer("SELECT taken_back FROM billing_payments"), 500);
    shop.expect_sound();
}
on_both_engines!(nothing_of_billing_names_somebody_who_was_deleted);

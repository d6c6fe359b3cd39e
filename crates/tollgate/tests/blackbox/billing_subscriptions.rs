//! Plans: each period that was paid brings its credits once; changes, trials, failures and ends do what was agreed.

use std::time::Duration;

use kernel::Millis;
use kernel::time::DAY;
use serde_json::{Value, json};
use till::{Decline, Means, Purchase, Till};

use crate::harness::credits::count_entries;
use crate::harness::shop::{Buyer, Shop};
use crate::harness::{Engine, in_parallel};
use crate::on_both_engines;

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

/// To the first of a month that has thirty days.
fn go_to_a_month_of_thirty_days(till: &Till) {
    let first = |millis: Millis| {
        ["-04-01T", "-06-01T", "-09-01T", "-11-01T"].iter().any(|day| millis.iso().contains(day))
    };
    let now = till.now();
    let day = (1..400).map(|day| now.plus(day * DAY)).find(|day| first(*day)).expect("there is one a year");
    till.advance(Duration::from_millis(u64::try_from(day.0 - now.0).expect("it lies ahead")));
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("{member} is a text in {value:#}"))
}

fn grants(shop: &Shop, buyer: &Buyer<'_>) -> i64 {
    count_entries(&shop.server.database, &buyer.id, "grant")
}

/// B07.
fn in_the_worst_order_and_twice_a_period_is_credited_once(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let session = ada.checkout(&json!({"price": "basic"}));
    shop.till.hold_deliveries();
    shop.till.pay(&session).expect("it is paid");
    let kinds = [
        "customer.subscription.updated",
        "invoice.paid",
        "customer.subscription.created",
        "checkout.session.completed",
    ];
    for kind in kinds {
        let [event] =
            shop.till.events_of(kind).try_into().unwrap_or_else(|found| panic!("{kind}: {found:?}"));
        for attempt in shop.till.deliver_in_order(&[event.clone(), event]).expect("twice") {
            assert!(attempt.succeeded(), "{attempt:?}");
        }
        shop.settled();
    }
    shop.till.release_deliveries();
    shop.settled();
    assert_eq!((ada.balance(), grants(&shop, &ada)), (1_000, 1));
    let subscription = ada.subscription();
    assert_eq!((text(&subscription, "plan"), text(&subscription, "status")), ("basic", "active"));
    assert_eq!(ada.status(&session)["status"], "paid");
    let ends = "SELECT CAST(MAX(expires_at) AS TEXT) FROM credit_lots";
    let period_end = Millis::parse_iso(text(&subscription, "currentPeriodEnd")).expect("a time");
    assert_eq!(shop.server.database.value(ends), Some(period_end.0.to_string()));
    shop.expect_sound();
}
on_both_engines!(in_the_worst_order_and_twice_a_period_is_credited_once);

/// B09, and what was said it would cost.
fn an_upgrade_late_in_the_period_gives_what_was_collected_for_it(engine: Engine) {
    let shop = Shop::open(engine);
    go_to_a_month_of_thirty_days(&shop.till);
    let mut ada = shop.buyer();
    let subscription = ada.subscribe("basic");
    shop.settled();
    shop.till.advance(days(27));
    let change = json!({"plan": "large", "preview": true});
    let preview = ada.browser.post("/api/auth/billing/subscription/change", change).expect(200).json();
    assert_eq!(preview, json!({"amount": 400, "currency": "usd", "credits": 400, "unit": "credits"}));
    assert_eq!(text(&ada.subscription(), "plan"), "basic");
    let changed =
        ada.browser.post("/api/auth/billing/subscription/change", json!({"plan": "large"})).expect(200);
    assert_eq!(text(&changed.json(), "plan"), "large");
    shop.settled();
    assert_eq!(ada.balance(), 1_400);
    for event in shop.till.events_of("invoice.paid") {
        shop.till.deliver(&event, 3).expect("again");
    }
    shop.settled();
    assert_eq!(ada.balance(), 1_400);
    shop.till.renew(&subscription).expect("the next month");
    shop.settled();
    assert_eq!(ada.balance(), 1_400 + 5_000);
    // What was collected for the upgrade can go back like any other payment.
    let invoices = ada.browser.get("/api/auth/billing/invoices").expect(200).json();
    let upgrade =
        invoices["items"].as_array().expect("a list").iter().find(|invoice| invoice["total"] == 400);
    shop.till.refund(text(upgrade.expect("it is listed"), "id"), Some(100)).expect("a quarter");
    shop.settled();
    assert_eq!(ada.balance(), 6_400 - 100);
    shop.expect_sound();
}
on_both_engines!(an_upgrade_late_in_the_period_gives_what_was_collected_for_it);

/// Not paid, not changed.
fn an_upgrade_that_the_card_refuses_changes_nothing(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let subscription = ada.subscribe("basic");
    shop.settled();
    shop.till.break_card(&subscription, Decline::InsufficientFunds).expect("it says no from now on");
    let refused = ada.browser.post("/api/auth/billing/subscription/change", json!({"plan": "large"}));
    refused.refused(402, "PAYMENT_DECLINED");
    shop.settled();
    assert_eq!((ada.balance(), text(&ada.subscription(), "plan")), (1_000, "basic"));
    shop.expect_sound();
}
on_both_engines!(an_upgrade_that_the_card_refuses_changes_nothing);

fn a_downgrade_takes_nothing_back_and_gives_less_from_the_next_period_on(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let subscription = ada.subscribe("large");
    shop.settled();
    shop.till.advance(days(10));
    let change = json!({"plan": "basic", "preview": true});
    let preview = ada.browser.post("/api/auth/billing/subscription/change", change).expect(200).json();
    assert_eq!((&preview["amount"], &preview["credits"]), (&json!(0), &json!(0)));
    ada.browser.post("/api/auth/billing/subscription/change", json!({"plan": "basic"})).expect(200);
    shop.settled();
    assert_eq!(ada.balance(), 5_000);
    shop.till.renew(&subscription).expect("the next month");
    shop.settled();
    assert_eq!(ada.balance(), 6_000);
    shop.expect_sound();
}
on_both_engines!(a_downgrade_takes_nothing_back_and_gives_less_from_the_next_period_on);

fn a_renewal_that_fails_gives_nothing_until_it_is_paid(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let subscription = ada.subscribe("basic");
    shop.till.renew(&subscription).expect("the second month");
    shop.settled();
    assert_eq!((ada.balance(), grants(&shop, &ada)), (2_000, 2));
    let invoice = shop.till.fail_renewal(&subscription, Decline::Generic).expect("the card says no");
    shop.settled();
    assert_eq!((ada.balance(), text(&ada.subscription(), "status")), (2_000, "past_due"));
    // It is not bought twice because of that.
    ada.browser
        .post("/api/auth/billing/checkout", json!({"price": "large"}))
        .refused(409, "ALREADY_SUBSCRIBED");
    shop.till.mend_card(&subscription).expect("another card");
    shop.till.pay_invoice(text(&invoice, "id")).expect("it is paid now");
    shop.settled();
    assert_eq!((ada.balance(), text(&ada.subscription(), "status")), (3_000, "active"));
    shop.till.fail_renewal(&subscription, Decline::Generic).expect("the card says no");
    shop.till.advance(days(30));
    shop.settled();
    assert_eq!((ada.balance(), text(&ada.subscription(), "status")), (3_000, "canceled"));
    ada.browser
        .post("/api/auth/billing/subscription/cancel", json!({}))
        .refused(400, "SUBSCRIPTION_NOT_FOUND");
    shop.expect_sound();
}
on_both_engines!(a_renewal_that_fails_gives_nothing_until_it_is_paid);

/// A trial's credits, then the month's; and a person tries once.
fn a_trial_gives_its_own_credits_and_is_given_once(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let subscription = ada.subscribe("tried");
    shop.settled();
    assert_eq!((ada.balance(), text(&ada.subscription(), "status")), (50, "trialing"));
    for event in shop.till.events_of("invoice.paid") {
        shop.till.deliver(&event, 2).expect("again");
    }
    shop.till.renew(&subscription).expect("the trial is over");
    shop.settled();
    assert_eq!((ada.balance(), text(&ada.subscription(), "status")), (1_050, "active"));
    shop.till.renew(&subscription).expect("the second month");
    shop.settled();
    assert_eq!(ada.balance(), 2_050);
    shop.till.call("DELETE", &format!("/v1/subscriptions/{subscription}"), &[]).expect("it ends now");
    shop.settled();
    let again = ada.subscribe("tried");
    shop.settled();
    assert_eq!((ada.balance(), text(&ada.subscription(), "status")), (3_050, "active"));
    assert!(shop.till.object(&again).expect("the subscription")["trial_end"].is_null());
    shop.expect_sound();
}
on_both_engines!(a_trial_gives_its_own_credits_and_is_given_once);

/// A trial that nobody pays for ends without a month's credits.
fn a_trial_that_is_canceled_gives_no_month(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    ada.subscribe("tried");
    shop.settled();
    ada.browser.post("/api/auth/billing/subscription/cancel", json!({})).expect(200);
    shop.till.advance(days(40));
    shop.settled();
    assert_eq!((ada.balance(), text(&ada.subscription(), "status")), (50, "canceled"));
    shop.expect_sound();
}
on_both_engines!(a_trial_that_is_canceled_gives_no_month);

fn what_is_canceled_can_be_resumed_until_the_period_ends(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let subscription = ada.subscribe("basic");
    ada.buy("small");
    shop.settled();
    let post = |ada: &mut Buyer<'_>, what: &str| {
        let path = format!("/api/auth/billing/subscription/{what}");
        ada.browser.post(&path, json!({})).expect(200).json()["cancelAtPeriodEnd"].clone()
    };
    assert_eq!([post(&mut ada, "cancel"), post(&mut ada, "cancel")], [true, true]);
    assert_eq!(ada.subscription()["cancelAtPeriodEnd"], true);
    assert_eq!(
        [post(&mut ada, "resume"), post(&mut ada, "cancel"), post(&mut ada, "resume")],
        [false, true, false]
    );
    shop.till.renew(&subscription).expect("the second month");
    shop.settled();
    assert_eq!(ada.balance(), 500 + 2_000);
    // Also in Stripe's portal.
    let path = format!("/v1/subscriptions/{subscription}");
    shop.till.call("POST", &path, &[("cancel_at_period_end", "true")]).expect("it ends with the period");
    shop.settled();
    assert_eq!(ada.subscription()["cancelAtPeriodEnd"], true);
    shop.till.advance(days(32));
    shop.settled();
    assert_eq!(text(&ada.subscription(), "status"), "canceled");
    // What was bought stays; what was paid for the period ends by its own date.
    assert_eq!(ada.balance(), 500 + 2_000);
    ada.browser
        .post("/api/auth/billing/subscription/resume", json!({}))
        .refused(400, "SUBSCRIPTION_NOT_FOUND");
    ada.subscribe("large");
    shop.settled();
    let subscription = ada.subscription();
    assert_eq!((text(&subscription, "plan"), text(&subscription, "status")), ("large", "active"));
    shop.expect_sound();
}
on_both_engines!(what_is_canceled_can_be_resumed_until_the_period_ends);

/// One plan at a time: the same checkout again, another plan in place of the first, and none beside a running one.
fn a_plan_is_bought_once(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let first = ada.checkout(&json!({"price": "basic"}));
    assert_eq!(ada.checkout(&json!({"price": "basic"})), first);
    let second = ada.checkout(&json!({"price": "large"}));
    assert_ne!(second, first);
    assert!(shop.till.pay(&first).is_err(), "the first one could still be paid");
    // The event of the end may come late.
    shop.settled();
    assert_eq!(
        (&ada.status(&first)["status"], &ada.status(&second)["status"]),
        (&json!("expired"), &json!("open"))
    );
    shop.till.pay(&second).expect("it is paid");
    // Before any event arrived, and afterwards.
    ada.browser
        .post("/api/auth/billing/checkout", json!({"price": "basic"}))
        .refused(409, "ALREADY_SUBSCRIBED");
    shop.settled();
    for plan in ["basic", "large", "tried"] {
        ada.browser
            .post("/api/auth/billing/checkout", json!({"price": plan}))
            .refused(409, "ALREADY_SUBSCRIBED");
    }
    // A pack may be bought beside it, more than once at a time.
    let (one, other) = (ada.checkout(&json!({"price": "small"})), ada.checkout(&json!({"price": "small"})));
    assert_ne!(one, other);
    shop.till.pay(&one).expect("it is paid");
    shop.till.pay(&other).expect("it is paid");
    shop.settled();
    assert_eq!(ada.balance(), 6_000);
    shop.expect_sound();
}
on_both_engines!(a_plan_is_bought_once);

/// Ten tabs at once leave one checkout that can be paid.
fn tabs_that_subscribe_at_once_can_pay_for_one_plan(engine: Engine) {
    let shop = Shop::open(engine);
    let ada = shop.buyer();
    let statuses = in_parallel(10, |number| {
        let plan = if number % 2 == 0 { "basic" } else { "large" };
        let answer = ada.browser.clone().post("/api/auth/billing/checkout", json!({"price": plan}));
        assert!(matches!(answer.status, 200 | 409), "{}", answer.text());
        answer.status
    });
    assert!(statuses.contains(&200), "{statuses:?}");
    let list = shop
        .till
        .call("GET", "/v1/checkout/sessions", &[("status", "open"), ("limit", "100")])
        .expect("a list");
    let sessions = list["data"].as_array().expect("a list");
    assert_eq!(sessions.len(), 1, "{list:#}");
    let customers = shop.till.call("GET", "/v1/customers", &[("limit", "100")]).expect("a list");
    assert_eq!(customers["data"].as_array().map(Vec::len), Some(1));
    shop.till.pay(text(&sessions[0], "id")).expect("it is paid");
    shop.settled();
    assert_eq!(grants(&shop, &ada), 1);
    shop.expect_sound();
}
on_both_engines!(tabs_that_subscribe_at_once_can_pay_for_one_plan);

/// A second subscription that came about all the same is counted and shown, and gives what was paid for.
fn a_second_subscription_is_marked_as_one_too_many(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let first = ada.subscribe("basic");
    shop.settled();
    let known = shop.till.object(&first).expect("the subscription");
    let parameters = [
        ("customer", text(&known, "customer")),
        ("items[0][price]", "price_large"),
        ("default_payment_method", text(&known, "default_payment_method")),
    ];
    let second = shop.till.call("POST", "/v1/subscriptions", &parameters).expect("an operator made it");
    shop.settled();
    let extra = "SELECT id FROM billing_subscriptions WHERE live AND extra";
    assert_eq!(shop.server.database.value(extra).as_deref(), second["id"].as_str());
    assert_eq!((ada.balance(), text(&ada.subscription(), "plan")), (6_000, "basic"));
    // The one that is left counts.
    shop.till.call("DELETE", &format!("/v1/subscriptions/{first}"), &[]).expect("it ends now");
    shop.settled();
    assert_eq!((text(&ada.subscription(), "plan"), text(&ada.subscription(), "status")), ("large", "active"));
    shop.expect_sound();
}
on_both_engines!(a_second_subscription_is_marked_as_one_too_many);

/// Free orders have no payment: the session is the key.
fn promotion_codes_and_free_orders_grant_in_full(engine: Engine) {
    let shop = Shop::with(engine, "promotion_codes = true");
    for (code, percent) in [("FREE", "100"), ("HALF", "50")] {
        shop.till.call("POST", "/v1/coupons", &[("id", code), ("percent_off", percent)]).expect("a coupon");
        let promotion = [("promotion[type]", "coupon"), ("promotion[coupon]", code), ("code", code)];
        shop.till.call("POST", "/v1/promotion_codes", &promotion).expect("its code");
    }
    let with = |code: &str| Purchase { promotion_code: Some(code.to_owned()), ..Purchase::default() };
    let mut ada = shop.buyer();
    let mut balance = 0;
    for code in ["FREE", "FREE", "HALF"] {
        let session = ada.checkout(&json!({"price": "small"}));
        let paid = shop.till.pay_with(&session, &with(code)).expect("it is ordered");
        assert_eq!(paid["payment_intent"].is_null(), code == "FREE", "{paid:#}");
        shop.settled();
        for event in shop.till.events_of("checkout.session.completed") {
            shop.till.deliver(&event, 2).expect("again");
        }
        shop.settled();
        balance += 500;
        assert_eq!((ada.balance(), &ada.status(&session)["status"]), (balance, &json!("paid")));
        if code == "HALF" {
            // All that was paid for it goes back, and so do all credits.
            shop.till.refund(&session, Some(250)).expect("half of what was paid");
            shop.settled();
            assert_eq!(ada.balance(), balance - 250);
            shop.till.refund(&session, None).expect("the rest");
            shop.settled();
            assert_eq!(ada.balance(), balance - 500);
        }
    }
    // A plan's month that a coupon paid is a month.
    let mut bob = shop.buyer();
    let session = bob.checkout(&json!({"price": "basic"}));
    shop.till.pay_with(&session, &with("FREE")).expect("it is ordered");
    shop.settled();
    assert_eq!(bob.balance(), 1_000);
    shop.expect_sound();
}
on_both_engines!(promotion_codes_and_free_orders_grant_in_full);

/// Money for a period goes back as for a pack.
fn refunds_and_disputes_of_a_period_take_its_credits(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let subscription = ada.subscribe("basic");
    let second = shop.till.renew(&subscription).expect("the second month");
    shop.settled();
    assert_eq!(ada.balance(), 2_000);
    shop.till.refund(text(&second, "id"), Some(333)).expect("a third");
    shop.settled();
    assert_eq!(ada.balance(), 2_000 - 333);
    let dispute = shop.till.dispute(text(&second, "id"), None).expect("the rest is disputed");
    shop.settled();
    assert_eq!(ada.balance(), 1_000);
    shop.till.step_dispute(text(&dispute, "id"), till::DisputeStep::Win).expect("it is won");
    shop.settled();
    assert_eq!((ada.balance(), text(&ada.subscription(), "status")), (1_667, "active"));
    shop.expect_sound();
}
on_both_engines!(refunds_and_disputes_of_a_period_take_its_credits);

/// A bank debit for a plan: nothing before the money, and nobody is barred for ever by one that failed.
fn a_plan_by_bank_debit_begins_when_the_money_arrives(engine: Engine) {
    let shop = Shop::open(engine);
    for paid in [true, false] {
        let mut buyer = shop.buyer();
        let session = buyer.checkout(&json!({"price": "basic"}));
        shop.till.pay_with(&session, &Purchase::by(Means::Delayed)).expect("it is begun");
        shop.settled();
        assert_eq!((buyer.balance(), &buyer.status(&session)["status"]), (0, &json!("processing")));
        buyer
            .browser
            .post("/api/auth/billing/checkout", json!({"price": "large"}))
            .refused(409, "ALREADY_SUBSCRIBED");
        shop.till.settle(&session, paid).expect("it ends");
        shop.settled();
        if paid {
            assert_eq!((buyer.balance(), &buyer.status(&session)["status"]), (1_000, &json!("paid")));
            assert_eq!(text(&buyer.subscription(), "status"), "active");
        } else {
            assert_eq!(buyer.balance(), 0);
            let session_of = shop.till.object(&session).expect("the session");
            let path = format!("/v1/subscriptions/{}", text(&session_of, "subscription"));
            shop.till.call("DELETE", &path, &[]).expect("nobody waits for the money any more");
            shop.settled();
            assert_eq!((buyer.balance(), &buyer.status(&session)["status"]), (0, &json!("failed")));
            buyer.subscribe("large");
            shop.settled();
            assert_eq!(buyer.balance(), 5_000);
        }
    }
    shop.expect_sound();
}
on_both_engines!(a_plan_by_bank_debit_begins_when_the_money_arrives);

/// Stripe's customer is deleted: the credits stay, the plan ends, and the next purchase makes another customer.
fn a_customer_that_is_deleted_at_stripe_is_made_anew(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let subscription = ada.subscribe("basic");
    shop.settled();
    let customer =
        shop.till.object(&subscription).expect("it")["customer"].as_str().expect("an id").to_owned();
    shop.till.call("DELETE", &format!("/v1/customers/{customer}"), &[]).expect("it is deleted");
    shop.settled();
    assert_eq!((ada.balance(), text(&ada.subscription(), "status")), (1_000, "canceled"));
    assert_eq!(ada.browser.get("/api/auth/billing/invoices").expect(200).json()["items"], json!([]));
    ada.buy("small");
    shop.settled();
    assert_eq!(ada.balance(), 1_500);
    // And when nobody told us.
    let newest = "SELECT customer_id FROM billing_customers";
    let customer = shop.server.database.value(newest).expect("another one");
    shop.till.hold_deliveries();
    shop.till.call("DELETE", &format!("/v1/customers/{customer}"), &[]).expect("it is deleted");
    ada.buy("small");
    shop.till.release_deliveries();
    shop.settled();
    assert_eq!(ada.balance(), 2_000);
    shop.expect_sound();
}
on_both_engines!(a_customer_that_is_deleted_at_stripe_is_made_anew);

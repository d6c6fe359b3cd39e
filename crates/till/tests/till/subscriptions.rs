use crate::world::*;
use serde_json::Value;
use std::time::Duration;
use till::{Decline, Till};

fn lines(invoice: &Value) -> Vec<(i64, bool)> {
    let line = |line: &Value| {
        let proration = line["parent"]["subscription_item_details"]["proration"].as_bool();
        (line["amount"].as_i64().expect("an amount"), proration.expect("a flag"))
    };
    invoice["lines"]["data"].as_array().expect("lines").iter().map(line).collect()
}

fn item(till: &Till, subscription: &str) -> String {
    text(&till.object(subscription).expect("a subscription")["items"]["data"][0], "id")
}

fn change(till: &Till, subscription: &str, price: &str, behavior: &str) -> Value {
    let item = item(till, subscription);
    post(
        till,
        &format!("/v1/subscriptions/{subscription}"),
        &[("items[0][id]", &item), ("items[0][price]", price), ("proration_behavior", behavior)],
    )
}

#[test]
fn a_subscription_begins_incomplete_is_paid_and_then_active() {
    let till = till();
    let subscription = subscribed(&till, "price_basic");
    let found = kinds(&till, 0);
    let at = |kind: &str| {
        found.iter().position(|known| known == kind).unwrap_or_else(|| panic!("{kind} in {found:?}"))
    };
    assert!(at("customer.subscription.created") < at("invoice.created"));
    assert!(at("invoice.finalized") < at("charge.succeeded"));
    assert!(at("charge.succeeded") < at("invoice.paid"));
    assert!(at("invoice.paid") < at("customer.subscription.updated"));
    assert_eq!(found.last().map(String::as_str), Some("checkout.session.completed"));
    let created =
        get(&till, &format!("/v1/events/{}", till.events_of("customer.subscription.created")[0]), &[]);
    assert_eq!(created["data"]["object"]["status"], "incomplete");
    let now = till.object(&subscription).expect("a subscription");
    assert_eq!((&now["status"], &now["metadata"]["plan"]), (&"active".into(), &"basic".into()));
    assert!(now.get("current_period_end").is_none(), "the period is the items'");
    let invoice = till.object(&text(&now, "latest_invoice")).expect("an invoice");
    assert_eq!(
        (&invoice["billing_reason"], &invoice["status"], &invoice["amount_paid"]),
        (&"subscription_create".into(), &"paid".into(), &3_000.into())
    );
    assert_eq!(invoice["parent"]["subscription_details"]["metadata"]["plan"], "basic");
    let line = &invoice["lines"]["data"][0];
    assert_eq!(line["period"]["end"], now["items"]["data"][0]["current_period_end"]);
    assert_eq!(line["pricing"]["price_details"]["price"], "price_basic");
}

#[test]
fn a_renewal_moves_the_period_an_hour_before_the_money() {
    let till = till();
    let subscription = subscribed(&till, "price_basic");
    let before = kinds(&till, 0).len();
    // 2026-11-21 to 2026-12-21 are 30 days.
    till.advance(Duration::from_secs(30 * DAY));
    assert_eq!(kinds(&till, before), ["invoice.created", "customer.subscription.updated"]);
    let draft =
        till.object(&text(&till.object(&subscription).expect("one"), "latest_invoice")).expect("an invoice");
    assert_eq!((&draft["status"], &draft["billing_reason"]), (&"draft".into(), &"subscription_cycle".into()));
    till.advance(Duration::from_secs(3_600));
    assert_eq!(till.events_of("invoice.paid").len(), 2);
    let invoice = till.renew(&subscription).expect("another month");
    assert_eq!(
        (&invoice["status"], &invoice["billing_reason"]),
        (&"paid".into(), &"subscription_cycle".into())
    );
    assert_eq!(till.events_of("invoice.paid").len(), 3);
    // Its own period looks back; the line's is what was paid for.
    assert_eq!(invoice["period_end"], invoice["lines"]["data"][0]["period"]["start"]);
}

#[test]
fn a_failed_renewal_is_tried_again_and_ends_the_subscription_in_the_end() {
    let till = till();
    let subscription = subscribed(&till, "price_basic");
    let invoice = till.fail_renewal(&subscription, Decline::InsufficientFunds).expect("a renewal");
    assert_eq!((&invoice["status"], &invoice["attempt_count"]), (&"open".into(), &1.into()));
    let status = |till: &Till| text(&till.object(&subscription).expect("one"), "status");
    assert_eq!(status(&till), "past_due");
    till.advance(Duration::from_secs(3 * DAY));
    assert_eq!(till.events_of("invoice.payment_failed").len(), 2);
    till.advance(Duration::from_secs(12 * DAY));
    assert_eq!((status(&till), till.events_of("invoice.payment_failed").len()), ("canceled".to_owned(), 4));
    let ended = till.object(&subscription).expect("one");
    assert_eq!(ended["cancellation_details"]["reason"], "payment_failed");
    assert!(till.renew(&subscription).is_err());
}

#[test]
fn a_failed_renewal_that_is_paid_after_all_makes_the_subscription_active() {
    let till = till();
    let subscription = subscribed(&till, "price_basic");
    let invoice = text(&till.fail_renewal(&subscription, Decline::Generic).expect("a renewal"), "id");
    assert_eq!(till.pay_invoice(&invoice).expect_err("the card says no").status, 402);
    till.mend_card(&subscription).expect("a card");
    assert_eq!(till.pay_invoice(&invoice).expect("a good card")["status"], "paid");
    assert_eq!(till.object(&subscription).expect("one")["status"], "active");
    assert!(till.pay_invoice(&invoice).is_err(), "it is paid once");
}

#[test]
fn an_upgrade_costs_the_difference_for_the_rest_of_the_period() {
    let till = till();
    let subscription = subscribed(&till, "price_basic");
    till.advance(Duration::from_secs(27 * DAY));
    let preview = post(
        &till,
        "/v1/invoices/create_preview",
        &[
            ("subscription", &subscription),
            ("subscription_details[items][0][id]", &item(&till, &subscription)),
            ("subscription_details[items][0][price]", "price_plus"),
            ("subscription_details[proration_behavior]", "always_invoice"),
        ],
    );
    let before = kinds(&till, 0).len();
    change(&till, &subscription, "price_plus", "always_invoice");
    let invoice =
        till.object(&text(&till.object(&subscription).expect("one"), "latest_invoice")).expect("an invoice");
    // 3 of 30 days: a tenth of 3000 comes back, a tenth of 9000 is owed.
    assert_eq!(lines(&invoice), [(-300, true), (900, true)]);
    assert_eq!(
        (&invoice["billing_reason"], &invoice["total"], &invoice["status"]),
        (&"subscription_update".into(), &600.into(), &"paid".into())
    );
    assert_eq!((&preview["total"], lines(&preview)), (&600.into(), lines(&invoice)));
    assert_eq!(kinds(&till, before).first().map(String::as_str), Some("invoice.created"));
    let renewal = till.renew(&subscription).expect("a renewal");
    assert_eq!((lines(&renewal), &renewal["total"]), (vec![(9_000, false)], &9_000.into()));
}

#[test]
fn prorations_wait_for_the_next_invoice_unless_they_are_invoiced_at_once_or_unwanted() {
    let till = till();
    let subscription = subscribed(&till, "price_basic");
    till.advance(Duration::from_secs(15 * DAY));
    change(&till, &subscription, "price_plus", "create_prorations");
    assert_eq!(till.events_of("invoice.created").len(), 1);
    let renewal = till.renew(&subscription).expect("a renewal");
    assert_eq!(lines(&renewal), [(-1_500, true), (4_500, true), (9_000, false)]);
    change(&till, &subscription, "price_basic", "none");
    let renewal = till.renew(&subscription).expect("a renewal");
    assert_eq!(lines(&renewal), [(3_000, false)]);
}

#[test]
fn a_downgrade_leaves_a_credit_that_the_next_invoices_use_up() {
    let till = till();
    let subscription = subscribed(&till, "price_plus");
    till.advance(Duration::from_secs(15 * DAY));
    change(&till, &subscription, "price_basic", "always_invoice");
    let now = till.object(&subscription).expect("one");
    let invoice = till.object(&text(&now, "latest_invoice")).expect("an invoice");
    assert_eq!(
        (&invoice["total"], &invoice["amount_due"], &invoice["status"]),
        (&(-3_000).into(), &0.into(), &"paid".into())
    );
    let customer = text(&now, "customer");
    assert_eq!(till.object(&customer).expect("a customer")["balance"], -3_000);
    let renewal = till.renew(&subscription).expect("a renewal");
    assert_eq!(
        (&renewal["total"], &renewal["amount_due"], &renewal["starting_balance"]),
        (&3_000.into(), &0.into(), &(-3_000).into())
    );
    assert_eq!(till.object(&customer).expect("a customer")["balance"], 0);
}

#[test]
fn another_interval_begins_a_new_period_at_once() {
    let till = till();
    let subscription = subscribed(&till, "price_basic");
    till.advance(Duration::from_secs(15 * DAY));
    change(&till, &subscription, "price_yearly", "create_prorations");
    let now = till.object(&subscription).expect("one");
    let invoice = till.object(&text(&now, "latest_invoice")).expect("an invoice");
    assert_eq!(lines(&invoice), [(-1_500, true), (30_000, false)]);
    let period = |member: &str| now["items"]["data"][0][member].as_i64().expect("a time");
    assert_eq!(period("current_period_end") - period("current_period_start"), 365 * 86_400);
    // The end of the old month changes nothing.
    till.advance(Duration::from_secs(16 * DAY));
    assert_eq!(till.events_of("invoice.paid").len(), 2);
}

#[test]
fn an_upgrade_that_must_be_paid_changes_nothing_when_the_card_says_no() {
    let till = till();
    let subscription = subscribed(&till, "price_basic");
    till.break_card(&subscription, Decline::Generic).expect("a card");
    let before = (till.object(&subscription), till.events().len());
    let refusal = till
        .call(
            "POST",
            &format!("/v1/subscriptions/{subscription}"),
            &[
                ("items[0][id]", &item(&till, &subscription)),
                ("items[0][price]", "price_plus"),
                ("proration_behavior", "always_invoice"),
                ("payment_behavior", "error_if_incomplete"),
            ],
        )
        .expect_err("a declined card");
    assert_eq!(refusal.status, 402);
    assert_eq!((till.object(&subscription), till.events().len()), before);
}

#[test]
fn a_subscription_that_is_to_end_ends_with_its_period_unless_it_goes_on() {
    let till = till();
    let (ends, goes_on) = (subscribed(&till, "price_basic"), subscribed(&till, "price_basic"));
    for subscription in [&ends, &goes_on] {
        let path = format!("/v1/subscriptions/{subscription}");
        assert_eq!(post(&till, &path, &[("cancel_at_period_end", "true")])["cancel_at_period_end"], true);
    }
    let back = post(&till, &format!("/v1/subscriptions/{goes_on}"), &[("cancel_at_period_end", "false")]);
    assert!(back["canceled_at"].is_null() && back["cancel_at"].is_null());
    till.advance(Duration::from_secs(31 * DAY));
    let status = |id: &str| text(&till.object(id).expect("one"), "status");
    assert_eq!((status(&ends).as_str(), status(&goes_on).as_str()), ("canceled", "active"));
    assert_eq!(till.events_of("customer.subscription.deleted").len(), 1);
    let path = format!("/v1/subscriptions/{goes_on}");
    assert_eq!(till.call("DELETE", &path, &[]).expect("an end")["status"], "canceled");
    assert_eq!(till.call("DELETE", &path, &[]).expect_err("it has ended").status, 404);
}

#[test]
fn a_trial_costs_nothing_is_announced_to_end_and_then_renews() {
    let till = till();
    let trial =
        session(&till, "subscription", "price_basic", &[("subscription_data[trial_period_days]", "14")]);
    let complete = till.pay(&trial).expect("a card");
    assert_eq!(complete["payment_status"], "no_payment_required");
    let subscription = text(&complete, "subscription");
    assert_eq!(till.object(&subscription).expect("one")["status"], "trialing");
    let first = get(&till, &format!("/v1/events/{}", till.events_of("invoice.paid")[0]), &[]);
    assert_eq!(
        (&first["data"]["object"]["amount_paid"], &first["data"]["object"]["total"]),
        (&0.into(), &0.into())
    );
    till.advance(Duration::from_secs(11 * DAY));
    assert_eq!(till.events_of("customer.subscription.trial_will_end").len(), 1);
    let invoice = till.renew(&subscription).expect("the first month");
    assert_eq!(
        (&invoice["amount_paid"], &invoice["billing_reason"]),
        (&3_000.into(), &"subscription_cycle".into())
    );
    assert_eq!(till.object(&subscription).expect("one")["status"], "active");
}

#[test]
fn coupons_for_once_and_for_ever_reach_as_far_as_they_say() {
    let till = till();
    post(&till, "/v1/coupons", &[("id", "once"), ("percent_off", "50")]);
    post(&till, "/v1/coupons", &[("id", "ever"), ("percent_off", "10"), ("duration", "forever")]);
    let totals = |coupon: &str| {
        let session = session(&till, "subscription", "price_basic", &[("discounts[0][coupon]", coupon)]);
        let paid = till.pay(&session).expect("a good card");
        let renewal = till.renew(&text(&paid, "subscription")).expect("a renewal");
        (paid["amount_total"].as_i64(), renewal["total"].as_i64())
    };
    assert_eq!(totals("once"), (Some(1_500), Some(3_000)));
    assert_eq!(totals("ever"), (Some(2_700), Some(2_700)));
}

#[test]
fn a_debit_for_a_subscription_completes_unpaid_and_is_paid_later() {
    let till = till();
    let session = session(&till, "subscription", "price_basic", &[]);
    let complete = till.pay_later(&session).expect("an open session");
    assert_eq!(complete["payment_status"], "unpaid");
    assert_eq!(till.events_of("invoice.paid").len(), 0);
    till.settle(&session, true).expect("a debit under way");
    assert_eq!(till.events_of("invoice.paid").len(), 1);
    assert_eq!(till.events_of("checkout.session.async_payment_succeeded").len(), 1);
}

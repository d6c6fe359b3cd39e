use crate::world::*;
use till::{Decline, DisputeStep, Means, Purchase};

#[test]
fn a_paid_pack_has_its_metadata_on_session_payment_and_charge() {
    let till = till();
    let session =
        pack_session(&till, &[("metadata[pack]", "small"), ("payment_intent_data[metadata][pack]", "small")]);
    let open = till.object(&session).expect("a session");
    assert_eq!((&open["status"], &open["payment_status"]), (&"open".into(), &"unpaid".into()));
    assert!(open["payment_intent"].is_null(), "a payment exists only once somebody pays");
    assert!(text(&open, "url").starts_with(till.base_url()));
    let paid = till.pay(&session).expect("a good card");
    assert_eq!((&paid["status"], &paid["payment_status"]), (&"complete".into(), &"paid".into()));
    assert_eq!(paid["amount_total"], 1_000);
    assert!(paid["url"].is_null());
    let intent = till.object(&text(&paid, "payment_intent")).expect("a payment");
    let charge = till.object(&text(&intent, "latest_charge")).expect("a charge");
    assert_eq!((&intent["status"], &intent["amount_received"]), (&"succeeded".into(), &1_000.into()));
    assert_eq!(
        (&paid["metadata"]["pack"], &intent["metadata"]["pack"], &charge["metadata"]["pack"]),
        (&"small".into(), &"small".into(), &"small".into())
    );
    assert_eq!(
        kinds(&till, 0),
        [
            "payment_intent.created",
            "charge.succeeded",
            "payment_intent.succeeded",
            "checkout.session.completed"
        ]
    );
    assert_eq!(till.pay(&session).expect_err("paid before").status, 400);
}

#[test]
fn a_declined_card_leaves_the_session_open_and_the_same_payment_for_the_next_try() {
    let till = till();
    let session = pack_session(&till, &[]);
    let declined = till.decline(&session, Decline::InsufficientFunds).expect("an open session");
    assert_eq!(declined["status"], "open");
    let refusal = till
        .pay_with(&session, &Purchase::by(Means::Declined(Decline::Generic)))
        .expect_err("a declined card");
    assert_eq!(
        (refusal.status, refusal.code, refusal.decline_code),
        (402, Some("card_declined"), Some("generic_decline"))
    );
    let paid = till.pay(&session).expect("a good card");
    assert_eq!(paid["payment_intent"], declined["payment_intent"]);
    assert_eq!(till.events_of("payment_intent.payment_failed").len(), 2);
    assert_eq!(till.events_of("payment_intent.created").len(), 1);
    assert_eq!(till.events_of("checkout.session.completed").len(), 1);
}

#[test]
fn a_bank_debit_completes_unpaid_and_its_end_is_told_later() {
    let till = till();
    for (paid, kind, status) in [
        (true, "checkout.session.async_payment_succeeded", "paid"),
        (false, "checkout.session.async_payment_failed", "unpaid"),
    ] {
        let session = pack_session(&till, &[]);
        let complete = till.pay_later(&session).expect("an open session");
        assert_eq!(
            (&complete["status"], &complete["payment_status"]),
            (&"complete".into(), &"unpaid".into())
        );
        assert_eq!(till.events_of(kind).len(), 0);
        till.settle(&session, paid).expect("a debit under way");
        assert_eq!(till.events_of(if paid { "charge.succeeded" } else { "charge.failed" }).len(), 1);
        assert_eq!(till.events_of(kind).len(), 1);
        assert_eq!(till.object(&session).expect("a session")["payment_status"], status);
        assert!(till.settle(&session, paid).is_err(), "it ends once");
    }
}

#[test]
fn a_free_order_needs_no_payment() {
    let till = till();
    post(&till, "/v1/coupons", &[("id", "free"), ("percent_off", "100")]);
    let session = pack_session(&till, &[("discounts[0][coupon]", "free")]);
    let complete = till.pay(&session).expect("nothing to pay");
    assert_eq!(complete["payment_status"], "no_payment_required");
    assert!(complete["payment_intent"].is_null());
    assert_eq!(complete["total_details"]["amount_discount"], 1_000);
    assert_eq!(kinds(&till, 1), ["checkout.session.completed"]);
}

#[test]
fn codes_taxes_quantities_and_named_amounts_add_up() {
    let till = till();
    post(&till, "/v1/coupons", &[("id", "off"), ("amount_off", "501"), ("currency", "usd")]);
    post(
        &till,
        "/v1/promotion_codes",
        &[("promotion[type]", "coupon"), ("promotion[coupon]", "off"), ("code", "SPRING")],
    );
    let session = pack_session(
        &till,
        &[
            ("allow_promotion_codes", "true"),
            ("automatic_tax[enabled]", "true"),
            ("line_items[0][adjustable_quantity][enabled]", "true"),
            ("line_items[0][adjustable_quantity][maximum]", "5"),
        ],
    );
    let choice = |quantity, code: &str| Purchase {
        quantity: Some(quantity),
        promotion_code: Some(code.to_owned()),
        ..Purchase::default()
    };
    assert!(till.pay_with(&session, &choice(6, "spring")).is_err(), "more than may be chosen");
    assert!(till.pay_with(&session, &choice(3, "WINTER")).is_err(), "no such code");
    let paid = till.pay_with(&session, &choice(3, "spring")).expect("a good card");
    // 3 × 1000 − 501 = 2499, and 20 % of that is 499.8.
    assert_eq!((&paid["amount_subtotal"], &paid["amount_total"]), (&3_000.into(), &2_999.into()));
    assert_eq!(
        (&paid["total_details"]["amount_discount"], &paid["total_details"]["amount_tax"]),
        (&501.into(), &500.into())
    );
    let items = get(&till, &format!("/v1/checkout/sessions/{session}/line_items"), &[]);
    let item = &items["data"][0];
    assert_eq!(
        (&item["quantity"], &item["amount_subtotal"], &item["amount_total"]),
        (&3.into(), &3_000.into(), &2_999.into())
    );

    let named = session_with_custom(&till);
    let too_little = Purchase { amount: Some(499), ..Purchase::default() };
    assert!(till.pay_with(&named, &too_little).is_err());
    let paid =
        till.pay_with(&named, &Purchase { amount: Some(777), ..Purchase::default() }).expect("a good card");
    assert_eq!(paid["amount_total"], 777);
}

fn session_with_custom(till: &till::Till) -> String {
    session(till, "payment", "price_custom", &[])
}

#[test]
fn refunds_are_cumulative_and_end_at_the_amount() {
    let till = till();
    let payment = paid_pack(&till);
    let refunded = |till: &till::Till| {
        let charge = text(&till.object(&payment).expect("a payment"), "latest_charge");
        let charge = till.object(&charge).expect("a charge");
        (charge["amount_refunded"].as_i64(), charge["refunded"].as_bool())
    };
    till.refund(&payment, Some(400)).expect("money to give back");
    assert_eq!(refunded(&till), (Some(400), Some(false)));
    let too_much = till.refund(&payment, Some(601)).expect_err("600 are left");
    assert_eq!(too_much.status, 400);
    let last = till.refund(&payment, None).expect("the rest");
    assert_eq!((&last["amount"], refunded(&till)), (&600.into(), (Some(1_000), Some(true))));
    assert_eq!(
        till.refund(&payment, None).expect_err("nothing is left").code,
        Some("charge_already_refunded")
    );
    let events = till.events_of("charge.refunded");
    let cumulative: Vec<_> = events
        .iter()
        .map(|id| get(&till, &format!("/v1/events/{id}"), &[])["data"]["object"]["amount_refunded"].clone())
        .collect();
    assert_eq!(cumulative, [400, 1_000]);
}

#[test]
fn a_refund_that_fails_later_gives_the_charge_its_amount_again() {
    let till = till();
    let payment = paid_pack(&till);
    let slow = text(&till.refund_slowly(&payment, Some(300)).expect("a refund"), "id");
    assert_eq!(till.object(&slow).expect("a refund")["status"], "pending");
    till.finish_refund(&slow).expect("a pending refund");
    assert!(till.finish_refund(&slow).is_err());
    let failed = till.fail_refund(&slow).expect("a refund that had succeeded");
    assert_eq!(failed["status"], "failed");
    assert_eq!(till.events_of("refund.failed").len(), 1);
    let whole = till.refund(&payment, None).expect("all is there again");
    assert_eq!(whole["amount"], 1_000);
}

#[test]
fn disputes_take_money_and_give_it_back() {
    let till = till();
    let payment = paid_pack(&till);
    let before = kinds(&till, 0).len();
    let dispute = text(&till.dispute(&payment, None).expect("a paid charge"), "id");
    assert_eq!(till.refund(&payment, None).expect_err("disputed").code, Some("charge_disputed"));
    assert!(till.dispute(&payment, None).is_err(), "one at a time");
    till.step_dispute(&dispute, DisputeStep::Review).expect("evidence");
    till.step_dispute(&dispute, DisputeStep::Win).expect("a win");
    assert!(till.step_dispute(&dispute, DisputeStep::Lose).is_err());
    assert_eq!(
        kinds(&till, before),
        [
            "charge.dispute.created",
            "charge.dispute.funds_withdrawn",
            "charge.dispute.updated",
            "charge.dispute.closed",
            "charge.dispute.funds_reinstated",
        ]
    );
    till.refund(&payment, None).expect("it may be refunded again");
}

#[test]
fn a_lost_dispute_may_be_appealed_and_an_inquiry_moves_nothing() {
    let till = till();
    let payment = paid_pack(&till);
    let before = kinds(&till, 0).len();
    let inquiry = text(&till.inquire(&payment).expect("a paid charge"), "id");
    assert_eq!(till.object(&inquiry).expect("a dispute")["status"], "warning_needs_response");
    till.step_dispute(&inquiry, DisputeStep::CloseInquiry).expect("an end");
    assert_eq!(kinds(&till, before), ["charge.dispute.created", "charge.dispute.closed"]);

    let escalated = text(&till.inquire(&payment).expect("another one"), "id");
    till.step_dispute(&escalated, DisputeStep::Escalate).expect("a dispute now");
    till.step_dispute(&escalated, DisputeStep::Lose).expect("lost");
    till.step_dispute(&escalated, DisputeStep::Appeal).expect("an appeal");
    till.step_dispute(&escalated, DisputeStep::ReviewAppeal).expect("a review");
    let won = till.step_dispute(&escalated, DisputeStep::Win).expect("won in the end");
    assert_eq!(won["status"], "won");
    assert_eq!(won["balance_transactions"].as_array().map(Vec::len), Some(2));
    assert_eq!(till.events_of("charge.dispute.funds_withdrawn").len(), 1);
    assert_eq!(till.events_of("charge.dispute.funds_reinstated").len(), 1);
}

#[test]
fn a_session_expires_by_the_clock_or_by_a_call_and_only_once() {
    let till = till();
    let (left_alone, withdrawn) = (pack_session(&till, &[]), pack_session(&till, &[]));
    post(&till, &format!("/v1/checkout/sessions/{withdrawn}/expire"), &[]);
    assert!(till.call("POST", &format!("/v1/checkout/sessions/{withdrawn}/expire"), &[]).is_err());
    assert!(till.pay(&withdrawn).is_err());
    till.advance(std::time::Duration::from_secs(DAY));
    assert_eq!(till.object(&left_alone).expect("a session")["status"], "expired");
    assert_eq!(till.events_of("checkout.session.expired").len(), 2);
}

#[test]
fn a_card_that_was_kept_pays_off_session_until_it_is_declined() {
    let till = till();
    let customer = text(&post(&till, "/v1/customers", &[("email", "a@example.test")]), "id");
    let session = pack_session(
        &till,
        &[("customer", &customer), ("payment_intent_data[setup_future_usage]", "off_session")],
    );
    till.pay(&session).expect("a good card");
    let methods = get(&till, "/v1/payment_methods", &[("customer", &customer)]);
    let method = text(&methods["data"][0], "id");
    let charge = |method: &str| {
        till.call(
            "POST",
            "/v1/payment_intents",
            &[
                ("amount", "500"),
                ("currency", "usd"),
                ("customer", &customer),
                ("payment_method", method),
                ("confirm", "true"),
                ("off_session", "true"),
                ("metadata[reason]", "auto-topup"),
            ],
        )
    };
    assert_eq!(charge(&method).expect("a good card")["status"], "succeeded");
    let declined = charge("pm_card_authenticationRequired").expect_err("nobody is there to confirm");
    assert_eq!((declined.status, declined.code), (402, Some("authentication_required")));
    assert_eq!(declined.body()["error"]["payment_intent"]["status"], "requires_payment_method");
}

#[test]
fn a_setup_session_keeps_a_card_and_takes_nothing() {
    let till = till();
    let customer = text(&post(&till, "/v1/customers", &[]), "id");
    let session = post(
        &till,
        "/v1/checkout/sessions",
        &[
            ("mode", "setup"),
            ("currency", "usd"),
            ("customer", &customer),
            ("success_url", "http://localhost/"),
        ],
    );
    let complete = till.pay(&text(&session, "id")).expect("a card");
    assert_eq!(complete["payment_status"], "no_payment_required");
    let intent = till.object(&text(&complete, "setup_intent")).expect("a setup intent");
    assert_eq!(intent["customer"], customer.as_str());
}

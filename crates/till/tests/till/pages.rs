use crate::wire::{Reply, ask};
use crate::world::*;
use till::Till;

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

fn see(till: &Till, path: &str) -> Reply {
    ask(till.address(), &format!("GET {path}"), &[], "")
}

fn send(till: &Till, path: &str, body: &str) -> Reply {
    ask(till.address(), &format!("POST {path}"), &[FORM], body)
}

#[test]
fn a_buyer_pays_on_the_page_and_is_led_back_with_the_sessions_id() {
    let till = till();
    let session = pack_session(&till, &[]);
    let page = see(&till, &format!("/pay/{session}"));
    assert_eq!(page.status, 200);
    for part in
        ["Product of price_pack", "10.00 USD", "Card is declined", "Bank debit", "http://localhost:3000/shop"]
    {
        // The templates escape slashes.
        assert!(page.body.contains(&part.replace('/', "&#x2f;")), "{part}");
    }
    assert!(!page.body.contains("<script"));
    let declined = send(&till, &format!("/pay/{session}"), "means=declined");
    assert_eq!(declined.status, 402);
    assert!(declined.body.contains("The card was declined."));
    let paid = send(&till, &format!("/pay/{session}"), "means=card&email=b%40example.test");
    assert_eq!(paid.status, 303);
    assert_eq!(
        paid.header("location"),
        Some(format!("http://localhost:3000/done?session={session}").as_str())
    );
    assert_eq!(till.object(&session).expect("a session")["customer_details"]["email"], "b@example.test");
    assert!(see(&till, &format!("/pay/{session}")).body.contains("nothing to pay here any more"));
    assert_eq!(see(&till, "/pay/cs_test_none").status, 404);
}

#[test]
fn hostile_names_are_shown_as_text() {
    let till = till();
    let session = post(
        &till,
        "/v1/checkout/sessions",
        &[
            ("mode", "payment"),
            ("success_url", "http://localhost/"),
            ("line_items[0][price_data][currency]", "usd"),
            ("line_items[0][price_data][unit_amount]", "100"),
            ("line_items[0][price_data][product_data][name]", "<script>alert(1)</script>"),
            ("line_items[0][quantity]", "1"),
        ],
    );
    let id = text(&session, "id");
    for path in [format!("/pay/{id}"), "/".to_owned()] {
        let page = see(&till, &path);
        assert!(page.body.contains("&lt;script&gt;") && !page.body.contains("<script>"), "{path}");
        assert!(
            page.header("content-security-policy")
                .is_some_and(|policy| policy.contains("default-src 'none'"))
        );
    }
    let refused = till.call(
        "POST",
        "/v1/checkout/sessions",
        &[("mode", "payment"), ("success_url", "javascript:alert(1)")],
    );
    assert_eq!(refused.expect_err("not a web address").code, Some("url_invalid"));
}

#[test]
fn every_button_of_the_control_page_works() {
    let till = till();
    paid_pack(&till);
    till.pay_later(&pack_session(&till, &[])).expect("a debit");
    till.refund_slowly(&paid_pack(&till), Some(100)).expect("a refund");
    till.inquire(&paid_pack(&till)).expect("a dispute");
    subscribed(&till, "price_basic");
    pack_session(&till, &[]);
    till.point_webhooks_at("http://127.0.0.1:1/", &[SECRET]).expect("an endpoint");
    let buttons = buttons_of(&see(&till, "/").body);
    assert!(buttons.len() > 30, "{buttons:?}");
    let mut pressed = std::collections::BTreeSet::new();
    // Once each: pressing one may take another away.
    for (action, body) in buttons {
        if !pressed.insert(action.clone()) {
            continue;
        }
        let reply = send(&till, &action, &body);
        let gone = reply.status == 400 && reply.body.contains("That was not done");
        assert!(reply.status == 303 || gone, "{action} {body}: {} {}", reply.status, reply.body);
        assert_eq!(see(&till, "/").status, 200, "after {action}");
    }
    for action in [
        "pay",
        "settle",
        "refund",
        "dispute",
        "step_dispute",
        "renew",
        "fail_renewal",
        "advance",
        "hold",
        "lose_next",
        "deliver",
    ] {
        assert!(pressed.contains(&format!("/_till/actions/{action}")), "{action}");
    }
}

/// The forms of a page: where they lead and what they send.
fn buttons_of(page: &str) -> Vec<(String, String)> {
    let value = |text: &str, name: &str| {
        let from = text.find(&format!("{name}=\""))? + name.len() + 2;
        Some(text[from..].split('"').next()?.to_owned())
    };
    page.split("<form ")
        .skip(1)
        .filter_map(|form| form.split("</form>").next())
        .filter_map(|form| {
            let action = value(form, "action")?;
            let members: Vec<String> = form
                .split("<input ")
                .skip(1)
                .filter_map(|input| Some(format!("{}={}", value(input, "name")?, value(input, "value")?)))
                .collect();
            // The templates escape slashes.
            Some((action.replace("&#x2f;", "/"), members.join("&")))
        })
        .collect()
}

#[test]
fn a_payer_ends_a_subscription_in_the_portal_and_takes_it_back() {
    let till = till();
    let subscription = subscribed(&till, "price_basic");
    let customer = text(&till.object(&subscription).expect("one"), "customer");
    let portal = post(
        &till,
        "/v1/billing_portal/sessions",
        &[("customer", &customer), ("return_url", "http://localhost:3000/")],
    );
    let path = text(&portal, "url").replace(till.base_url(), "");
    let page = see(&till, &path).body;
    assert!(page.contains("Cancel at the end of the period") && page.contains("/invoices/in_"), "{page}");
    let members = format!("subscription={subscription}&back={path}");
    let ended = send(&till, "/_till/actions/end_with_period", &members);
    assert_eq!((ended.status, ended.header("location")), (303, Some(path.as_str())));
    assert!(see(&till, &path).body.contains("Go on with it"));
    send(&till, "/_till/actions/go_on", &members);
    assert_eq!(till.object(&subscription).expect("one")["cancel_at_period_end"], false);
    let elsewhere =
        send(&till, "/_till/actions/go_on", &format!("subscription={subscription}&back=//evil.example"));
    assert_eq!(elsewhere.header("location"), Some("/"));
}

#[test]
fn invoices_and_receipts_have_pages() {
    let till = till();
    let subscription = subscribed(&till, "price_basic");
    let invoice =
        till.object(&text(&till.object(&subscription).expect("one"), "latest_invoice")).expect("an invoice");
    let path = text(&invoice, "hosted_invoice_url").replace(till.base_url(), "");
    assert!(see(&till, &path).body.contains("30.00 USD"));
    let payment = paid_pack(&till);
    till.refund(&payment, Some(400)).expect("a refund");
    let charge = till.object(&text(&till.object(&payment).expect("one"), "latest_charge")).expect("a charge");
    let receipt = see(&till, &text(&charge, "receipt_url").replace(till.base_url(), "")).body;
    assert!(receipt.contains("-4.00 USD") && receipt.contains("6.00 USD"), "{receipt}");
}

#[test]
fn strangers_and_forms_of_other_origins_are_refused() {
    let till = till();
    let refused = |line: &str, headers: &[(&str, &str)]| ask(till.address(), line, headers, "").status;
    assert_eq!(refused("GET /", &[("Host", "evil.example")]), 403);
    assert_eq!(refused("GET /", &[("X-Forwarded-For", "127.0.0.1")]), 403);
    assert_eq!(refused("GET /v1/balance", &[("Host", "evil.example")]), 403);
    assert_eq!(refused("POST /_till/actions/hold", &[FORM, ("Origin", "http://localhost:3000")]), 403);
    assert_eq!(refused("POST /_till/actions/hold", &[FORM, ("Sec-Fetch-Site", "same-site")]), 403);
    assert_eq!(refused("POST /_till/actions/hold", &[FORM, ("Origin", till.base_url())]), 303);
}

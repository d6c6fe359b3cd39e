use crate::wire::{Reply, ask};
use crate::world::*;
use serde_json::Value;
use till::Till;

fn call(till: &Till, line: &str, more: &[(&str, &str)], body: &str) -> Reply {
    let key = format!("Bearer {}", till.secret_key().expose());
    let mut headers = vec![("Authorization", key.as_str()), ("Stripe-Version", till::CURRENT_VERSION)];
    headers.extend(more);
    ask(till.address(), line, &headers, body)
}

fn error(reply: &Reply, member: &str) -> String {
    reply.json()["error"][member].as_str().unwrap_or_default().to_owned()
}

#[test]
fn callers_need_the_key_as_bearer_or_basic() {
    let till = till();
    let status = |headers: &[(&str, &str)]| ask(till.address(), "GET /v1/balance", headers, "").status;
    assert_eq!(status(&[]), 401);
    assert_eq!(status(&[("Authorization", "Bearer sk_test_other")]), 401);
    assert_eq!(call(&till, "GET /v1/balance", &[], "").status, 200);
    let mut options = options();
    options.secret_key = Some(String::from("sk_test_basic").into());
    let till = Till::start(options).expect("a till");
    // Base64 of "sk_test_basic:".
    let basic =
        ask(till.address(), "GET /v1/balance", &[("Authorization", "Basic c2tfdGVzdF9iYXNpYzo=")], "");
    assert_eq!(basic.status, 200);
}

#[test]
fn unknown_parameters_paths_and_objects_are_refused_as_stripe_does() {
    let till = till();
    let unknown = call(&till, "POST /v1/customers", &[], "email=a%40b.test&favourite=blue");
    assert_eq!(
        (unknown.status, error(&unknown, "code").as_str(), error(&unknown, "param").as_str()),
        (400, "parameter_unknown", "favourite")
    );
    assert!(unknown.header("request-id").is_some_and(|id| id.starts_with("req_")));
    assert_eq!(till.events().len(), 0, "nothing was done");
    let nested = call(&till, "POST /v1/checkout/sessions", &[], "mode=payment&line_items[0][prize]=x");
    assert_eq!(error(&nested, "param"), "line_items[0][prize]");
    assert_eq!(call(&till, "GET /v1/unheard_of", &[], "").status, 404);
    let missing = call(&till, "GET /v1/charges/ch_none", &[], "");
    assert_eq!((missing.status, error(&missing, "code").as_str()), (404, "resource_missing"));
    let named = call(&till, "POST /v1/billing_portal/sessions", &[], "customer=cus_none");
    assert_eq!((named.status, error(&named, "param").as_str()), (400, "customer"));
    let version = ask(
        till.address(),
        "GET /v1/balance",
        &[
            ("Authorization", &format!("Bearer {}", till.secret_key().expose())),
            ("Stripe-Version", "yesterday"),
        ],
        "",
    );
    assert_eq!(version.status, 400);
}

#[test]
fn a_key_gives_the_first_answer_again_and_refuses_another_request() {
    let till = till();
    let key = [("Idempotency-Key", "tg:cus:1")];
    let first = call(&till, "POST /v1/customers", &key, "email=a%40b.test&name=A");
    let again = call(&till, "POST /v1/customers", &key, "name=A&email=a%40b.test");
    assert_eq!((first.status, again.status, &first.body), (200, 200, &again.body));
    assert_eq!(
        (first.header("idempotent-replayed"), again.header("idempotent-replayed")),
        (None, Some("true"))
    );
    assert_eq!(again.header("original-request"), first.header("request-id"));
    let other = call(&till, "POST /v1/customers", &key, "email=b%40b.test");
    assert_eq!((other.status, error(&other, "type").as_str()), (400, "idempotency_error"));
    let elsewhere = call(&till, "POST /v1/products", &key, "name=A");
    assert_eq!(error(&elsewhere, "type"), "idempotency_error");
    assert_eq!(get(&till, "/v1/customers", &[])["data"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_decline_is_kept_under_its_key_and_a_refused_form_is_not() {
    let till = till();
    let key = [("Idempotency-Key", "tg:topup:1")];
    let pay = "amount=500&currency=usd&confirm=true&payment_method=pm_card_visa_chargeDeclined";
    let first = call(&till, "POST /v1/payment_intents", &key, pay);
    let again = call(&till, "POST /v1/payment_intents", &key, pay);
    assert_eq!((first.status, again.status, &first.body), (402, 402, &again.body));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(till.events_of("charge.failed").len(), 1);

    let key = [("Idempotency-Key", "tg:topup:2")];
    assert_eq!(call(&till, "POST /v1/payment_intents", &key, "amount=none&currency=usd").status, 400);
    assert_eq!(call(&till, "POST /v1/payment_intents", &key, "amount=500&currency=usd").status, 200);
}

#[test]
fn an_event_names_the_request_and_the_key_that_made_it() {
    let till = till();
    let made = call(&till, "POST /v1/customers", &[("Idempotency-Key", "tg:cus:9")], "email=a%40b.test");
    let event = till.events().remove(0);
    assert_eq!(event["request"]["id"].as_str(), made.header("request-id"));
    assert_eq!(event["request"]["idempotency_key"], "tg:cus:9");
    assert_eq!(
        (&event["livemode"], &event["api_version"]),
        (&Value::Bool(false), &till::CURRENT_VERSION.into())
    );
}

#[test]
fn expansion_shows_objects_and_lists_that_are_otherwise_left_out() {
    let till = till();
    let subscription = subscribed(&till, "price_basic");
    let shown = get(
        &till,
        &format!("/v1/subscriptions/{subscription}"),
        &[("expand[]", "latest_invoice.payments"), ("expand[]", "customer")],
    );
    let payments = &shown["latest_invoice"]["payments"]["data"];
    assert!(text(&payments[0]["payment"], "payment_intent").starts_with("pi_"));
    assert_eq!(shown["customer"]["object"], "customer");
    let listed = get(&till, "/v1/checkout/sessions", &[("expand[]", "data.line_items")]);
    assert_eq!(listed["data"][0]["line_items"]["data"][0]["quantity"], 1);
    let refused = till.call("GET", "/v1/balance", &[("expand[]", "nothing")]).expect_err("no such member");
    assert_eq!(refused.status, 400);
}

#[test]
fn events_are_filtered_by_type_time_and_delivery() {
    let till = till();
    paid_pack(&till);
    till.advance(std::time::Duration::from_secs(60));
    let now = (till.now().0 / 1_000).to_string();
    till.refund(&paid_pack(&till), None).expect("a refund");
    let count =
        |parameters: &[(&str, &str)]| get(&till, "/v1/events", parameters)["data"].as_array().map(Vec::len);
    assert_eq!(count(&[("type", "charge.refunded")]), Some(1));
    assert_eq!(count(&[("type", "charge.*")]), Some(3));
    assert_eq!(count(&[("types[]", "charge.refunded"), ("types[]", "refund.created")]), Some(2));
    assert_eq!(count(&[("created[lt]", &now)]), Some(4));
    assert_eq!(count(&[("delivery_success", "false")]), Some(0), "there is no endpoint to fail");
    till.advance(std::time::Duration::from_secs(31 * DAY));
    assert_eq!(count(&[]), Some(0), "the list reaches back 30 days");
}

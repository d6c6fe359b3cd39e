use crate::world::*;
use serde_json::Value;
use till::Till;

fn old_till() -> Till {
    let mut options = options();
    options.old_event_shapes = true;
    Till::start(options).expect("a till")
}

fn object_of(till: &Till, kind: &str) -> Value {
    let id = till.events_of(kind).pop().unwrap_or_else(|| panic!("an event {kind}"));
    get(till, &format!("/v1/events/{id}"), &[])["data"]["object"].clone()
}

#[test]
fn old_events_name_subscription_payment_and_period_at_the_top() {
    let till = old_till();
    let subscription = subscribed(&till, "price_basic");
    let event = till.events().pop().expect("an event");
    assert_eq!(event["api_version"], till::OLD_VERSION);
    let invoice = object_of(&till, "invoice.paid");
    assert_eq!(invoice["subscription"], subscription.as_str());
    assert!(
        text(&invoice, "payment_intent").starts_with("pi_") && text(&invoice, "charge").starts_with("ch_")
    );
    assert_eq!((&invoice["paid"], invoice.get("parent")), (&true.into(), None));
    let line = &invoice["lines"]["data"][0];
    assert_eq!(
        (&line["price"]["id"], &line["proration"], &line["type"]),
        (&"price_basic".into(), &false.into(), &"subscription".into())
    );
    assert_eq!((line.get("pricing"), line.get("parent")), (None, None));
    let updated = object_of(&till, "customer.subscription.updated");
    assert!(updated["current_period_end"].is_i64());
    assert!(updated["items"]["data"][0].get("current_period_end").is_none());
    assert_eq!(object_of(&till, "payment_intent.succeeded")["invoice"], invoice["id"]);
}

#[test]
fn new_events_and_answers_have_the_new_shapes() {
    let till = till();
    subscribed(&till, "price_basic");
    let invoice = object_of(&till, "invoice.paid");
    for gone in ["subscription", "payment_intent", "charge", "paid", "tax", "payments"] {
        assert!(invoice.get(gone).is_none(), "{gone}");
    }
    assert!(text(&invoice["parent"]["subscription_details"], "subscription").starts_with("sub_"));
    assert!(object_of(&till, "payment_intent.succeeded").get("invoice").is_none());
}
